"""Keys measured against what was wanted, on rigs whose constraints, drivers and helper bones have a say in the pose.

What was keyed is evaluated by Blender. Bones that are off are turned by their error, again and again until all are right; IK
targets and poles are keyed where the limb's end has to be; and what still overrules the keys is found by switching constraints
off one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX
from ...shared.vectors import normalise
from ..character.rig import Rig
from ..compat import get_fcurves
from ..motion.retarget import AIMS_AT
from ..motion.rotations import make_continuous, matrix_to_quaternion, quaternion_to_matrix, rotation_about_axis
from .curves import KeyedPose
from .ik_controls import CONSTRAINT
from .poses import Carrier, Poses, compute_location_change, find_carrier, read_poses
from .stand_in import StandIn

MAX_ITERATIONS = 6
#: frames on which every keyed motion is measured
SAMPLES = 7
#: degrees of a limb's direction, degrees about the limb, and fractions of the leg's length that a pose may be off
LARGEST_ANGLE, LARGEST_TWIST, LARGEST_SHIFT = 1.0, 8.0, 0.01
#: what an iteration goes on for: radians, and fractions of the leg's length
FINE_ANGLE, FINE_SHIFT = 1e-3, 2e-4
#: constraints that put a bone somewhere; the others are left alone
POSING = {
    "IK",
    "SPLINE_IK",
    "ARMATURE",
    "CHILD_OF",
    "CLAMP_TO",
    "COPY_LOCATION",
    "COPY_ROTATION",
    "COPY_TRANSFORMS",
    "DAMPED_TRACK",
    "FLOOR",
    "FOLLOW_PATH",
    "FOLLOW_TRACK",
    "LIMIT_DISTANCE",
    "LIMIT_LOCATION",
    "LIMIT_ROTATION",
    "LOCKED_TRACK",
    "OBJECT_SOLVER",
    "PIVOT",
    "SHRINKWRAP",
    "STRETCH_TO",
    "TRACK_TO",
    "TRANSFORM",
    "TRANSFORM_CACHE",
    "GEOMETRY_ATTRIBUTE",
}


@dataclass(frozen=True)
class Target:
    """What the evaluated pose has to be in F frames, in the object's space at the reference frame (4, 4).

    ``rotations``: bone index -> (F, 3, 3); ``heads``: bone index -> (F, 3), for bones that must be in a place of their own.
    """

    frames: np.ndarray
    reference: np.ndarray
    rotations: dict[int, np.ndarray]
    heads: dict[int, np.ndarray]

    def select(self, rows: np.ndarray) -> Target:
        """The same for some of the frames."""
        return Target(
            self.frames[rows],
            self.reference,
            {bone: values[rows] for bone, values in self.rotations.items()},
            {bone: values[rows] for bone, values in self.heads.items()},
        )


@dataclass(frozen=True)
class PoseErrors:
    """How far an evaluated pose is off: ``angles`` bone index -> degrees of its direction, ``twists`` degrees altogether,
    ``shift`` in fractions of the leg's length; each the largest of all frames."""

    angles: dict[int, float]
    twists: dict[int, float]
    shift: float

    @property
    def wrong(self) -> dict[int, float]:
        """Bone index -> degrees, for those that are off by more than is allowed."""
        out = {bone: angle for bone, angle in self.angles.items() if angle > LARGEST_ANGLE}
        return out | {bone: angle for bone, angle in self.twists.items() if angle > LARGEST_TWIST and bone not in out}

    @property
    def fits(self) -> bool:
        """Whether the pose is as wanted."""
        return not self.wrong and self.shift <= LARGEST_SHIFT

    @property
    def coarse(self) -> bool:
        """Whether something that the closed form does not know turns or moves bones, if only a little."""
        return max(self.twists.values(), default=0.0) > np.degrees(5 * FINE_ANGLE) or self.shift > 5 * FINE_SHIFT

    @property
    def worst(self) -> float:
        """The largest error in degrees."""
        return max(self.wrong.values(), default=0.0)


@dataclass(frozen=True)
class Fitted:
    """A pose that was keyed, what was keyed besides for it (a sentence, or nothing), the constraints (bone, name) that have to
    be muted for it, and what is still wrong (a sentence, or nothing)."""

    pose: KeyedPose
    note: str
    muted: tuple[tuple[str, str], ...]
    warning: str


def _get_directions(rig: Rig) -> dict[int, np.ndarray]:
    """Bone index -> (3,) where the limb of each mapped bone points in the rest pose, in armature space."""
    out = {}
    for joint, bone in rig.joint_bones.items():
        child = AIMS_AT.get(joint)
        along = rig.joints[JOINT_INDEX[child]] - rig.joints[JOINT_INDEX[joint]] if child else np.zeros(3)
        out[bone] = normalise(along @ rig.to_body) if np.linalg.norm(along) > 1e-6 else rig.rest[bone][:, 1]
    return out


def _get_leg_length(rig: Rig) -> float:
    """Thigh and shin in armature units."""
    a, b, c = (rig.joints[JOINT_INDEX[f"left_{name}"]] for name in ("hip", "knee", "ankle"))
    return float(np.linalg.norm(a - b) + np.linalg.norm(b - c)) / rig.scale


def _measure_angle(rotations: np.ndarray) -> np.ndarray:
    """(...) radians of rotations (..., 3, 3), exact for small ones."""
    skew = np.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        -1,
    )
    return np.asarray(np.arctan2(np.linalg.norm(skew, axis=-1) / 2, (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2))


class PoseFitter:
    """Brings the evaluated pose of a stand-in to a target by keying; ``write`` keys a pose in the Action that it uses."""

    def __init__(self, stand: StandIn, rig: Rig, target: Target, write: Callable[[KeyedPose], None]) -> None:
        self._stand, self._rig, self._target, self._write = stand, rig, target, write
        self._directions, self._leg = _get_directions(rig), _get_leg_length(rig)
        self._index = {name: n for n, name in enumerate(rig.bones)}
        self._on_ik = {
            self._index[bone.name] for bone in stand.bones if any(one.name.startswith(CONSTRAINT) for one in bone.constraints)
        }
        self._moved_children = self._find_moved_children()
        self._carriers = {bone: find_carrier(stand.armature, rig, bone) for bone in target.heads}

    def measure(self, count: int = SAMPLES) -> PoseErrors:
        """The errors on some frames, spread over all."""
        rows = np.unique(np.linspace(0, len(self._target.frames) - 1, count).round().astype(int))
        target = self._target.select(rows)
        return self._compare(self._read(target), target)

    def _read(self, target: Target) -> Poses:
        return read_poses(self._stand, self._rig, target.frames, target.reference)

    def _compare(self, poses: Poses, target: Target) -> PoseErrors:
        angles, twists = {}, {}
        rotations, heads = poses.rotations, poses.heads
        for bone, wanted in target.rotations.items():
            along = self._rig.rest[bone].T @ self._directions[bone]
            found, should = rotations[:, bone] @ along, wanted @ along
            angles[bone] = float(
                np.degrees(np.arctan2(np.linalg.norm(np.cross(found, should), axis=-1), (found * should).sum(-1)).max())
            )
            # a limb on our own IK bends as its pole says, which leaves its twist to the solver
            twists[bone] = (
                0.0
                if bone in self._on_ik
                else float(np.degrees(_measure_angle(np.swapaxes(rotations[:, bone], -1, -2) @ wanted).max()))
            )
            child = self._moved_children.get(bone)
            if child is not None:
                # a constraint may move the next joint although it leaves the bones turned as they should be
                ahead = self._rig.rest[bone].T @ (self._rig.heads[child] - self._rig.heads[bone])
                found, should = heads[:, child] - heads[:, bone], wanted @ ahead
                apart_by = np.arctan2(np.linalg.norm(np.cross(found, should), axis=-1), (found * should).sum(-1)).max()
                angles[bone] = max(angles[bone], float(np.degrees(apart_by)))
        apart = [np.linalg.norm(heads[:, bone] - wanted, axis=-1).max() for bone, wanted in target.heads.items()]
        return PoseErrors(angles, twists, float(max(apart, default=0.0)) / self._leg)

    def fit(self, pose: KeyedPose, mute: bool) -> Fitted:
        """Key a pose so that the evaluated one is the target. ``mute`` allows to mute constraints that overrule it.

        Raises ``MotionError`` that names the constraints where they would have to be.
        """
        self._write(pose)
        errors = self.measure()
        if errors.fits and not errors.coarse:
            return Fitted(pose, "", (), "")
        fitted, note = self._fit_with_constraints(pose)
        errors = self.measure(2 * SAMPLES)
        if errors.fits:
            return Fitted(fitted, note, (), "")
        culprits = self._find_overruling(fitted)
        verb = "overrules" if len(culprits) == 1 else "overrule"
        if culprits and not mute:
            raise MotionError(
                f"{self._name(culprits)} {verb} the motion{_write_error(errors)}; "
                "switch on Mute Overruling Constraints in Keyframes and try again, or mute them yourself."
            )
        for bone, name in culprits:
            self._stand.bones[bone].constraints[name].mute = True
        if culprits:
            fitted, note = self._fit_with_constraints(pose)
            errors = self.measure(2 * SAMPLES)
        else:
            self._write(fitted)
        warning = "" if errors.fits else f"The pose differs from the motion{_write_error(errors)}: {self._list_wrong(errors)}."
        return Fitted(fitted, note, tuple(culprits), warning)

    def _fit_with_constraints(self, pose: KeyedPose) -> tuple[KeyedPose, str]:
        """The pose with bones corrected, and IK targets keyed where limbs are on IK; a note about the latter."""
        chains = self._find_ik()
        followers = self._find_followers()
        for constraint in [chain.constraint for chain in chains] + [one for _, one in followers]:
            constraint.mute = True
        pose = self._correct(pose)
        if not chains and not followers:
            return pose, ""
        truth = self._read(self._target)
        for constraint in [chain.constraint for chain in chains] + [one for _, one in followers]:
            constraint.mute = False
        pose, controls = self._key_controls(pose, truth, chains, followers)
        return pose, f"The controls {', '.join(controls)} were keyed as well, since they pose the limbs." if controls else ""

    def _correct(self, pose: KeyedPose) -> KeyedPose:
        """Turn and move mapped bones by their errors until the evaluated pose is the target."""
        rig, target = self._rig, self._target
        start, out_of_reach = pose, set[int]()
        before: dict[int, float] = {}
        fixed_place = set[int]()
        shift_before: dict[int, float] = {}
        for iteration in range(MAX_ITERATIONS):
            poses = self._read(target)
            rotations, heads = poses.rotations, poses.heads
            off = {
                bone: np.asarray(_measure_angle(np.swapaxes(rotations[:, bone], -1, -2) @ wanted)).max()
                for bone, wanted in target.rotations.items()
            }
            apart = {
                bone: np.linalg.norm(heads[:, bone] - wanted, axis=-1).max() / self._leg for bone, wanted in target.heads.items()
            }
            if max(off.values()) < FINE_ANGLE and max(apart.values(), default=0.0) < FINE_SHIFT:
                break
            if iteration > 1:
                # a bone that does not follow its keys is overruled by something
                out_of_reach |= {bone for bone, angle in off.items() if angle > 10 * FINE_ANGLE and angle > 0.7 * before[bone]}
                fixed_place |= {bone for bone, one in apart.items() if one > 10 * FINE_SHIFT and one > 0.7 * shift_before[bone]}
            before, shift_before = off, apart
            new_rotations, new_locations = dict(pose.rotations), dict(pose.locations)
            changes: dict[int, np.ndarray] = {}
            for bone, name in enumerate(rig.bones):
                above = rig.parents[bone]
                change = changes.get(above) if above >= 0 and rig.inherits[bone] else None
                wanted = target.rotations.get(bone)
                if wanted is None or name not in pose.rotations:
                    if change is not None:
                        changes[bone] = change
                    continue
                if bone in out_of_reach:
                    new_rotations[name] = start.rotations[name]
                    continue
                own = quaternion_to_matrix(pose.rotations[name])
                # keys act in the object's space of each frame, the target is given in that of the reference
                found = rotations[:, bone]
                inherited = found @ np.swapaxes(own, -1, -2)
                if change is not None:
                    inherited = change @ inherited
                new_rotations[name] = make_continuous(matrix_to_quaternion(np.swapaxes(inherited, -1, -2) @ wanted))
                changes[bone] = wanted @ np.swapaxes(found, -1, -2)
            for bone, wanted in target.heads.items():
                carrier = self._carriers[bone]
                if bone in fixed_place:
                    continue
                change = wanted - heads[:, bone]
                base = new_locations.get(carrier.bone, np.zeros_like(change))
                new_locations[carrier.bone] = base + compute_location_change(rig, poses, carrier, change)
            pose = replace(pose, rotations=new_rotations, locations=new_locations)
            self._write(pose)
        return pose

    def _list_posing(self) -> list[tuple[str, Any]]:
        """(bone, constraint) of everything that is switched on and may pose a mapped bone: on itself or above it, or an IK chain
        with such a bone."""
        mapped = {self._rig.bones[bone] for bone in self._target.rotations}
        above = set(mapped)
        for name in mapped:
            bone = self._stand.bones[name].parent
            while bone is not None:
                above.add(bone.name)
                bone = bone.parent
        out = []
        for bone in self._stand.bones:
            for constraint in bone.constraints:
                if constraint.mute or constraint.type not in POSING:
                    continue
                if bone.name in above or (constraint.type in ("IK", "SPLINE_IK") and above & set(_list_chain(bone, constraint))):
                    out.append((bone.name, constraint))
        return out

    def _find_moved_children(self) -> dict[int, int]:
        """Bone -> the bone at the end of its limb, where constraints on the latter, or between them, may move it."""
        out = {}
        for joint, child in AIMS_AT.items():
            bone, end = self._rig.joint_bones.get(joint), self._rig.joint_bones.get(child)
            if bone is None or end is None:
                continue
            above = [end, *self._list_ancestors(end)]
            between = above[: above.index(bone)] if bone in above else []
            constraints = [one for n in between for one in self._stand.bones[self._rig.bones[n]].constraints]
            if any(one.type in POSING and not one.name.startswith(CONSTRAINT) for one in constraints):
                out[bone] = end
        return out

    def _find_ik(self) -> list[_Chain]:
        """The IK constraints on mapped bones whose targets are bones that can be keyed."""
        out = []
        for name, constraint in self._list_posing():
            if constraint.type != "IK" or constraint.name.startswith(CONSTRAINT):
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
            out.append(_Chain(constraint, self._index[name], bone.length, _list_chain(bone, constraint), control, pole))
        # targets whose parents are targets, too, come after them
        return sorted(out, key=lambda chain: len(self._list_ancestors(self._index[chain.control.bone])))

    def _find_followers(self) -> list[tuple[str, Any]]:
        """(bone, constraint) of mapped bones that copy the rotation of a control."""
        out = []
        for name, constraint in self._list_posing():
            if constraint.name.startswith(CONSTRAINT):
                continue
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

    def _list_ancestors(self, bone: int) -> list[int]:
        out = []
        while self._rig.parents[bone] >= 0:
            bone = self._rig.parents[bone]
            out.append(bone)
        return out

    def _key_controls(
        self, pose: KeyedPose, truth: Poses, chains: list[_Chain], followers: list[tuple[str, Any]]
    ) -> tuple[KeyedPose, list[str]]:
        """Key what the constraints follow until the limbs are where they are without the constraints."""
        rig, target, count = self._rig, self._target, len(self._target.frames)
        rotations, heads = truth.rotations, truth.heads
        ends = {}
        for chain in chains:
            along = rotations[:, chain.bone, :, 1] * np.linalg.norm(
                (truth.objects[:, None] @ truth.matrices)[:, chain.bone, :3, 1], axis=-1, keepdims=True
            )
            ends[id(chain)] = heads[:, chain.bone] + (chain.length * along if chain.constraint.use_tail else 0.0)
        locations, turns = dict(pose.locations), dict(pose.rotations)
        for chain in chains:
            for carrier in (chain.control, chain.pole):
                if carrier is not None and carrier.bone not in locations:
                    locations[carrier.bone] = np.zeros((count, 3))
        for _, constraint in followers:
            turns.setdefault(constraint.subtarget, np.tile([1.0, 0, 0, 0], (count, 1)))
        pose = replace(pose, locations=locations, rotations=turns)
        self._write(pose)
        for iteration in range(MAX_ITERATIONS):
            poses = self._read(target)
            found_rotations, found_heads = poses.rotations, poses.heads
            locations, turns = dict(pose.locations), dict(pose.rotations)
            moved: dict[int, np.ndarray] = {}
            worst = 0.0

            def move(
                carrier: Carrier,
                place: np.ndarray,
                poses: Poses = poses,
                heads: np.ndarray = found_heads,
                moved: dict[int, np.ndarray] = moved,
                locations: dict[str, np.ndarray] = locations,
            ) -> float:
                bone = self._index[carrier.bone]
                carried = next((moved[above] for above in self._list_ancestors(bone) if above in moved), np.zeros((count, 3)))
                change = place - heads[:, bone] - carried
                moved[bone] = change + carried
                locations[carrier.bone] = locations[carrier.bone] + compute_location_change(rig, poses, carrier, change)
                return float(np.linalg.norm(change, axis=1).max()) / self._leg

            for chain in chains:
                worst = max(worst, move(chain.control, ends[id(chain)]))
            for chain in chains:
                if chain.pole is not None:
                    worst = max(worst, move(chain.pole, self._place_pole(chain, ends[id(chain)], heads, found_heads, iteration)))
            for name, constraint in followers:
                follower, control = self._index[name], self._index[constraint.subtarget]
                error = rotations[:, follower] @ np.swapaxes(found_rotations[:, follower], -1, -2)
                own = quaternion_to_matrix(turns[constraint.subtarget])
                inherited = found_rotations[:, control] @ np.swapaxes(own, -1, -2)
                wanted = np.swapaxes(inherited, -1, -2) @ error @ found_rotations[:, control]
                turns[constraint.subtarget] = make_continuous(matrix_to_quaternion(wanted))
                worst = max(worst, float(_measure_angle(error).max()))
            pose = replace(pose, locations=locations, rotations=turns)
            self._write(pose)
            if worst < FINE_SHIFT:
                break
        named = [carrier.bone for chain in chains for carrier in (chain.control, chain.pole) if carrier is not None]
        return pose, list(dict.fromkeys([*named, *(constraint.subtarget for _, constraint in followers)]))

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

    def _find_overruling(self, pose: KeyedPose) -> list[tuple[str, str]]:
        """(bone, constraint) of those that keep the pose from being the target; none where it is not their doing."""
        found = self._list_posing()
        if not found:
            return []
        for _, constraint in found:
            constraint.mute = True
        self._write(pose)
        self._correct(pose)
        culprits = []
        if self.measure(2 * SAMPLES).fits:
            for name, constraint in found:
                constraint.mute = False
                if not self.measure().fits:
                    constraint.mute = True
                    culprits.append((name, constraint.name))
        for _, constraint in found:
            constraint.mute = False
        return culprits

    def _name(self, constraints: list[tuple[str, str]]) -> str:
        named = [f"'{name}' on {bone}" for bone, name in constraints]
        more = f" and {len(named) - 4} more" if len(named) > 5 else ""
        listed = named[:4] if more else named
        text = ", ".join(listed[:-1]) + (" and " if len(listed) > 1 and not more else ", " if len(listed) > 1 else "") + listed[-1]
        return f"The constraint{'s' if len(named) > 1 else ''} {text}{more}"

    def _list_wrong(self, errors: PoseErrors) -> str:
        worst = sorted(errors.wrong.items(), key=lambda one: -one[1])
        return ", ".join(f"{self._rig.bones[bone]} {angle:.0f}°" for bone, angle in worst[:6]) or "the place of the body"


def _write_error(errors: PoseErrors) -> str:
    if errors.wrong:
        return f" by up to {errors.worst:.0f} degrees"
    return f" by {100 * errors.shift:.0f} % of a leg's length"


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


def _list_chain(bone: bpy.types.PoseBone, constraint: Any) -> tuple[str, ...]:
    """The bones that an IK constraint turns, its own first."""
    above: bpy.types.PoseBone | None = bone if getattr(constraint, "use_tail", True) else bone.parent
    out: list[str] = []
    while above is not None and (not constraint.chain_count or len(out) < constraint.chain_count):
        out.append(above.name)
        above = above.parent
    return tuple(out)
