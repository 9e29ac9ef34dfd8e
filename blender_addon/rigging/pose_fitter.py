"""Keys measured against what was wanted, on rigs whose constraints, drivers and helper bones have a say in the pose.

What was keyed is evaluated by Blender. Bones that are off are turned by their error, again and again until all are right; IK
targets and poles are keyed where the limb's end has to be; and what still overrules the keys is found by switching constraints
off one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import bpy
import numpy as np

from ...shared.motion import MotionError
from ..character.rig import Rig
from ..motion.pose_errors import FINE_ANGLE, FINE_SHIFT, PoseErrors, Target, compare_poses, get_leg_length, measure_angle
from ..motion.rotations import make_continuous, matrix_to_quaternion, quaternion_to_matrix
from .constraints import find_moved_children, list_posing, name_constraints
from .control_keys import MAX_ITERATIONS, ControlKeyer
from .curves import KeyedPose
from .ik_controls import CONSTRAINT
from .poses import Poses, compute_location_change, find_carrier, read_poses
from .stand_in import StandIn

#: frames on which every keyed motion is measured
SAMPLES = 7


@dataclass(frozen=True)
class Fitted:
    """A pose that was keyed, what was keyed besides for it (a sentence, or nothing), the constraints (bone, name) that have to
    be muted for it, and what is still wrong (a sentence, or nothing)."""

    pose: KeyedPose
    note: str
    muted: tuple[tuple[str, str], ...]
    warning: str


class PoseFitter:
    """Brings the evaluated pose of a stand-in to a target by keying; ``write`` keys a pose in the Action that it uses."""

    def __init__(self, stand: StandIn, rig: Rig, target: Target, write: Callable[[KeyedPose], None]) -> None:
        self._stand, self._rig, self._target, self._write = stand, rig, target, write
        self._mapped = {rig.bones[bone] for bone in target.rotations}
        # a limb on our own IK bends as its pole says, which leaves its twist to the solver
        self._free_twists = {
            rig.bones.index(bone.name) for bone in stand.bones if any(one.name.startswith(CONSTRAINT) for one in bone.constraints)
        }
        self._moved_children = find_moved_children(stand, rig)
        self._carriers = {bone: find_carrier(stand.armature, rig, bone) for bone in target.heads}

    def measure(self, count: int = SAMPLES) -> PoseErrors:
        """The errors on some frames, spread over all."""
        rows = np.unique(np.linspace(0, len(self._target.frames) - 1, count).round().astype(int))
        target = self._target.select(rows)
        poses = self._read(target)
        return compare_poses(self._rig, poses.rotations, poses.heads, target, self._free_twists, self._moved_children)

    def _read(self, target: Target) -> Poses:
        return read_poses(self._stand, self._rig, target.frames, target.reference)

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
                f"{name_constraints(culprits)} {verb} the motion{_write_error(errors)}; "
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
        keyer = ControlKeyer(self._stand, self._rig, self._target, self._write)
        keyer.mute(True)
        pose = self._correct(pose)
        if not keyer.controls:
            return pose, ""
        truth = self._read(self._target)
        keyer.mute(False)
        pose = keyer.key(pose, truth)
        return pose, f"The controls {', '.join(keyer.controls)} were keyed as well, since they pose the limbs."

    def _correct(self, pose: KeyedPose) -> KeyedPose:
        """Turn and move mapped bones by their errors until the evaluated pose is the target."""
        target, start, leg = self._target, pose, get_leg_length(self._rig)
        overruled, fixed_place = set[int](), set[int]()
        angles_before, shifts_before = dict[int, float](), dict[int, float]()
        for iteration in range(MAX_ITERATIONS):
            poses = self._read(target)
            rotations, heads = poses.rotations, poses.heads
            angles = {
                bone: float(measure_angle(np.swapaxes(rotations[:, bone], -1, -2) @ wanted).max())
                for bone, wanted in target.rotations.items()
            }
            shifts = {
                bone: float(np.linalg.norm(heads[:, bone] - wanted, axis=-1).max() / leg) for bone, wanted in target.heads.items()
            }
            if max(angles.values()) < FINE_ANGLE and max(shifts.values(), default=0.0) < FINE_SHIFT:
                break
            if iteration > 1:
                overruled |= _find_stuck(angles, angles_before, 10 * FINE_ANGLE)
                fixed_place |= _find_stuck(shifts, shifts_before, 10 * FINE_SHIFT)
            angles_before, shifts_before = angles, shifts
            pose = replace(
                pose,
                rotations=self._turn_bones(pose, poses, start, overruled),
                locations=self._move_bones(pose, poses, fixed_place),
            )
            self._write(pose)
        return pose

    def _turn_bones(self, pose: KeyedPose, poses: Poses, start: KeyedPose, overruled: set[int]) -> dict[str, np.ndarray]:
        """The rotations of a pose turned by their errors; bones that are overruled get back what they had at the start."""
        rig, rotations, out = self._rig, poses.rotations, dict(pose.rotations)
        changes: dict[int, np.ndarray] = {}
        for bone, name in enumerate(rig.bones):
            above = rig.parents[bone]
            change = changes.get(above) if above >= 0 and rig.inherits[bone] else None
            wanted = self._target.rotations.get(bone)
            if wanted is None or name not in pose.rotations:
                if change is not None:
                    changes[bone] = change
                continue
            if bone in overruled:
                out[name] = start.rotations[name]
                continue
            own = quaternion_to_matrix(pose.rotations[name])
            # keys act in the object's space of each frame, the target is given in that of the reference
            found = rotations[:, bone]
            inherited = found @ np.swapaxes(own, -1, -2)
            if change is not None:
                inherited = change @ inherited
            out[name] = make_continuous(matrix_to_quaternion(np.swapaxes(inherited, -1, -2) @ wanted))
            changes[bone] = wanted @ np.swapaxes(found, -1, -2)
        return out

    def _move_bones(self, pose: KeyedPose, poses: Poses, fixed_place: set[int]) -> dict[str, np.ndarray]:
        """The locations of a pose moved by their errors, but for bones that do not follow."""
        heads, out = poses.heads, dict(pose.locations)
        for bone, wanted in self._target.heads.items():
            if bone in fixed_place:
                continue
            carrier = self._carriers[bone]
            change = wanted - heads[:, bone]
            base = out.get(carrier.bone, np.zeros_like(change))
            out[carrier.bone] = base + compute_location_change(self._rig, poses, carrier, change)
        return out

    def _find_overruling(self, pose: KeyedPose) -> list[tuple[str, str]]:
        """(bone, constraint) of those that keep the pose from being the target; none where it is not their doing."""
        found = list_posing(self._stand, self._mapped)
        if not found:
            return []
        for _, constraint in found:
            constraint.mute = True
        self._write(pose)
        self._correct(pose)
        culprits = self._find_culprits(found) if self.measure(2 * SAMPLES).fits else []
        for _, constraint in found:
            constraint.mute = False
        return culprits

    def _find_culprits(self, muted: list[tuple[str, bpy.types.Constraint]]) -> list[tuple[str, str]]:
        """(bone, constraint) of those among muted ones that must stay muted for the pose to be the target."""
        culprits = []
        for name, constraint in muted:
            constraint.mute = False
            if not self.measure().fits:
                constraint.mute = True
                culprits.append((name, constraint.name))
        return culprits

    def _list_wrong(self, errors: PoseErrors) -> str:
        worst = sorted(errors.wrong.items(), key=lambda one: -one[1])
        return ", ".join(f"{self._rig.bones[bone]} {angle:.0f}°" for bone, angle in worst[:6]) or "the place of the body"


def _find_stuck(errors: dict[int, float], before: dict[int, float], least: float) -> set[int]:
    """The bones that do not follow their keys, because something overrules them."""
    return {bone for bone, error in errors.items() if error > least and error > 0.7 * before[bone]}


def _write_error(errors: PoseErrors) -> str:
    if errors.wrong:
        return f" by up to {errors.worst:.0f} degrees"
    return f" by {100 * errors.shift:.0f} % of a leg's length"
