"""Keys of a rig's own controls: the IK targets, the poles, and the bones whose rotation the body's bones copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from ...shared.vectors import normalise
from ..character.rig import Rig
from ..character.skeleton import get_ancestors
from ..compat import get_fcurves
from ..motion.pose_errors import FINE_SHIFT, Target, get_leg_length, measure_angle
from ..motion.rotations import make_continuous, matrix_to_quaternion, quaternion_to_matrix, rotation_about_axis
from .constraints import POSING, list_chain, list_posing
from .curves import KeyedPose
from .ik_controls import CONSTRAINT
from .poses import Carrier, Poses, compute_location_change, find_carrier, read_poses
from .stand_in import StandIn

MAX_ITERATIONS = 6


@dataclass(frozen=True)
class _Chain:
    """An IK constraint on the bone ``bone`` (index, of ``length``), the bones that it turns, the last one first, and what it
    follows."""

    constraint: Any
    bone: int
    length: float
    bones: tuple[str, ...]
    control: Carrier
    pole: Carrier | None


class ControlKeyer:
    """Keys what the constraints on mapped bones follow, so that the limbs are where a target has them; ``write`` keys a pose."""

    def __init__(self, stand: StandIn, rig: Rig, target: Target, write: Callable[[KeyedPose], None]) -> None:
        self._stand, self._rig, self._target, self._write = stand, rig, target, write
        self._leg = get_leg_length(rig)
        self._index = {name: n for n, name in enumerate(rig.bones)}
        posing: list[tuple[str, Any]] = [
            (name, constraint)
            for name, constraint in list_posing(stand, {rig.bones[bone] for bone in target.rotations})
            if not constraint.name.startswith(CONSTRAINT)
        ]
        self._chains, self._followers = self._find_ik(posing), self._find_followers(posing)

    @property
    def controls(self) -> list[str]:
        """The bones that are keyed."""
        named = [carrier.bone for chain in self._chains for carrier in (chain.control, chain.pole) if carrier is not None]
        return list(dict.fromkeys([*named, *(constraint.subtarget for _, constraint in self._followers)]))

    def mute(self, mute: bool) -> None:
        """Switch the constraints off or on."""
        for constraint in [chain.constraint for chain in self._chains] + [one for _, one in self._followers]:
            constraint.mute = mute

    def _find_ik(self, posing: list[tuple[str, Any]]) -> list[_Chain]:
        """The IK constraints on mapped bones whose targets are bones that can be keyed."""
        out = []
        for name, constraint in posing:
            if constraint.type != "IK":
                continue
            if constraint.influence <= 0 and not self._is_animated(name, constraint):
                continue
            control = self._find_control(constraint.target, constraint.subtarget)
            if control is None:
                continue
            pole = None
            if constraint.pole_target is not None:
                pole = self._find_control(constraint.pole_target, constraint.pole_subtarget)
                if pole is None:
                    continue
            bone = self._stand.bones[name]
            out.append(_Chain(constraint, self._index[name], bone.length, list_chain(bone, constraint), control, pole))
        # targets whose parents are targets, too, come after them
        return sorted(out, key=lambda chain: len(get_ancestors(self._rig, self._index[chain.control.bone])))

    def _find_followers(self, posing: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """(bone, constraint) of mapped bones that copy the rotation of a control."""
        out = []
        for name, constraint in posing:
            if constraint.type not in ("COPY_ROTATION", "COPY_TRANSFORMS") or self._index[name] not in self._target.rotations:
                continue
            if constraint.influence == 1.0 and self._find_control(constraint.target, constraint.subtarget, turn=True) is not None:
                out.append((name, constraint))
        return out

    def _is_animated(self, bone: str, constraint: Any) -> bool:
        path = f'pose.bones["{bone}"].constraints["{constraint.name}"]'
        data: Any = self._stand.armature.animation_data
        curves = [*data.drivers, *(get_fcurves(data.action) if data.action else ())]
        return any(curve.data_path.startswith(path) for curve in curves)

    def _find_control(self, target: bpy.types.Object | None, name: str, *, turn: bool = False) -> Carrier | None:
        """The bone of the armature that a constraint follows, where keys can move it."""
        bone = self._index.get(name)
        if target != self._stand.armature or bone is None or bone in self._target.rotations:
            return None
        if any(not one.mute and one.type in POSING for one in self._stand.bones[name].constraints):
            return None
        carrier = find_carrier(self._stand.armature, self._rig, bone)
        return carrier if turn or carrier.bone == name else None

    def key(self, pose: KeyedPose, truth: Poses) -> KeyedPose:
        """A pose with keys for the controls, by which the limbs are where they are in ``truth``, without the constraints."""
        ends = self._find_ends(truth)
        pose = self._add_controls(pose)
        self._write(pose)
        for iteration in range(MAX_ITERATIONS):
            found = read_poses(self._stand, self._rig, self._target.frames, self._target.reference)
            locations, shift = self._move_controls(pose, truth, found, ends, iteration)
            turns, angle = self._turn_controls(pose, truth, found)
            pose = replace(pose, locations=locations, rotations=turns)
            self._write(pose)
            if max(shift, angle) < FINE_SHIFT:
                break
        return pose

    def _find_ends(self, truth: Poses) -> list[np.ndarray]:
        """For each chain (F, 3) where it ends."""
        rotations, heads = truth.rotations, truth.heads
        lengths = np.linalg.norm((truth.objects[:, None] @ truth.matrices)[..., :3, 1], axis=-1, keepdims=True)
        return [
            heads[:, chain.bone]
            + (chain.length * rotations[:, chain.bone, :, 1] * lengths[:, chain.bone] if chain.constraint.use_tail else 0.0)
            for chain in self._chains
        ]

    def _add_controls(self, pose: KeyedPose) -> KeyedPose:
        """A pose with the controls at rest, where it does not key them already."""
        count = len(self._target.frames)
        locations, turns = dict(pose.locations), dict(pose.rotations)
        for chain in self._chains:
            for carrier in (chain.control, chain.pole):
                if carrier is not None:
                    locations.setdefault(carrier.bone, np.zeros((count, 3)))
        for _, constraint in self._followers:
            turns.setdefault(constraint.subtarget, np.tile([1.0, 0, 0, 0], (count, 1)))
        return replace(pose, locations=locations, rotations=turns)

    def _move_controls(
        self, pose: KeyedPose, truth: Poses, found: Poses, ends: list[np.ndarray], iteration: int
    ) -> tuple[dict[str, np.ndarray], float]:
        """(the locations of a pose with targets and poles moved by their errors, the largest error in legs' lengths)."""
        heads, found_heads, locations = truth.heads, found.heads, dict(pose.locations)
        places = [(chain.control, end) for chain, end in zip(self._chains, ends, strict=True)]
        places += [
            (chain.pole, self._place_pole(chain, end, heads, found_heads, iteration))
            for chain, end in zip(self._chains, ends, strict=True)
            if chain.pole is not None
        ]
        moved: dict[int, np.ndarray] = {}
        worst = 0.0
        for carrier, place in places:
            bone = self._index[carrier.bone]
            carried = next((moved[above] for above in get_ancestors(self._rig, bone)[1:] if above in moved), np.zeros_like(place))
            change = place - found_heads[:, bone] - carried
            moved[bone] = change + carried
            locations[carrier.bone] = locations[carrier.bone] + compute_location_change(self._rig, found, carrier, change)
            worst = max(worst, float(np.linalg.norm(change, axis=1).max()) / self._leg)
        return locations, worst

    def _turn_controls(self, pose: KeyedPose, truth: Poses, found: Poses) -> tuple[dict[str, np.ndarray], float]:
        """(the rotations of a pose with copied controls turned by the errors of what copies them, the largest error in radians)."""
        rotations, found_rotations, turns = truth.rotations, found.rotations, dict(pose.rotations)
        worst = 0.0
        for name, constraint in self._followers:
            follower, control = self._index[name], self._index[constraint.subtarget]
            error = rotations[:, follower] @ np.swapaxes(found_rotations[:, follower], -1, -2)
            own = quaternion_to_matrix(turns[constraint.subtarget])
            inherited = found_rotations[:, control] @ np.swapaxes(own, -1, -2)
            wanted = np.swapaxes(inherited, -1, -2) @ error @ found_rotations[:, control]
            turns[constraint.subtarget] = make_continuous(matrix_to_quaternion(wanted))
            worst = max(worst, float(measure_angle(error).max()))
        return turns, worst

    def _place_pole(
        self, chain: _Chain, ends: np.ndarray, heads: np.ndarray, found_heads: np.ndarray, iteration: int
    ) -> np.ndarray:
        """(F, 3) where a pole has to be for the chain to bend as wanted."""
        root, middle = self._index[chain.bones[-1]], chain.bone
        start, bend_at = heads[:, root], heads[:, middle]
        axis = normalise(ends - start)
        wanted = bend_at - start - axis * ((bend_at - start) * axis).sum(-1, keepdims=True)
        pole = self._index[chain.pole.bone] if chain.pole is not None else root
        if iteration == 0:
            reach = np.linalg.norm(ends - start, axis=1, keepdims=True)
            return np.asarray(bend_at + reach * normalise(wanted + 1e-9))
        found = found_heads[:, middle] - start - axis * ((found_heads[:, middle] - start) * axis).sum(-1, keepdims=True)
        angle = np.arctan2((np.cross(found, wanted) * axis).sum(-1), (found * wanted).sum(-1))
        # a straight limb does not show how it is turned
        angle = np.where(np.linalg.norm(wanted, axis=1) > 1e-3 * self._leg, angle, 0.0)
        return np.asarray(start + np.einsum("fij,fj->fi", rotation_about_axis(axis, angle), found_heads[:, pole] - start))
