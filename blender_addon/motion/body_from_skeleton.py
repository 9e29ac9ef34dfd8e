"""The movement of a skeleton of any build -> a body's ``Motion``, with sentences about everything that was guessed. No bpy.

``source_bones.py`` finds the bones of a person, ``source_joints.py`` where SMPL's joints lie on them, ``source_axes.py`` what is up
and how large it is, and ``joint_constants.py`` how the bones' rotations become those of the joints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...shared.motion import MAX_FRAMES, Motion, MotionError
from ...shared.skeleton import HUMANML_JOINT_COUNT, SMPL_JOINTS, SMPL_PARENTS
from ..character.joints import SIDES
from .joint_constants import find_constants_in_poses, find_constants_in_zero_pose, find_constants_of_feet, turn_joints
from .retarget import compute_leg_length
from .rotations import make_continuous, matrix_to_quaternion
from .sampling import spread_frames
from .skeleton_motion import SkeletonMotion
from .source_axes import TO_BODY, find_ground, find_person_axes, find_rest_up, find_scale, find_up
from .source_bones import find_source_map
from .source_joints import SourceJoints, find_source_joints

#: frames that are looked at to find axes, unit and constants, and frames that are converted at a time
SAMPLE, BLOCK = 600, 1024


@dataclass(frozen=True)
class BodyMotion:
    """A motion made from a skeleton's; ``notes``: sentences about what was guessed; ``mapping``: joint -> the source's bone;
    ``is_doubtful``: whether the guess should be looked at."""

    motion: Motion
    notes: tuple[str, ...]
    mapping: dict[str, str]
    is_doubtful: bool = False


@dataclass(frozen=True)
class BodyFit:
    """How a skeleton becomes a body: found once, then used for any of its frames.

    ``source``: its bones and joints; ``constants``: joint -> (3, 3) C of ``joint_constants``; ``to_body`` (3, 3) and ``scale``
    turn the source's axes and unit into metres, Y up; ``notes`` and ``is_doubtful`` as in ``BodyMotion``.
    """

    source: SourceJoints
    constants: dict[str, np.ndarray]
    to_body: np.ndarray
    scale: float
    notes: tuple[str, ...]
    is_doubtful: bool = False

    def convert(self, pose: Callable[[slice], SkeletonMotion], frame_count: int, fps: float, text: str = "") -> BodyMotion:
        """The motion of all frames; ``pose`` gives the skeleton's for some. Raises ``MotionError`` for values that make none."""
        if not 0 < frame_count <= MAX_FRAMES:
            raise MotionError(f"The source has {frame_count} frames, expected 1 to {MAX_FRAMES}; choose another range.")
        joints = np.empty((frame_count, HUMANML_JOINT_COUNT, 3))
        quaternions = np.empty((frame_count, len(SMPL_JOINTS), 4))
        source = ""
        names: tuple[str, ...] = ()
        for start in range(0, frame_count, BLOCK):
            frames = slice(start, min(start + BLOCK, frame_count))
            skeleton = pose(frames)
            source, names = skeleton.source, skeleton.names
            placed = self.source.place(skeleton)
            joints[frames] = placed @ self.to_body.T * self.scale
            turned = self.to_body @ turn_joints(skeleton, self.source, self.constants, placed)
            local = np.swapaxes(turned[:, np.maximum(SMPL_PARENTS, 0)], -1, -2) @ turned
            local[:, 0] = turned[:, 0]
            quaternions[frames] = matrix_to_quaternion(local)
        ground, how = find_ground(joints, fps)
        if np.isfinite(joints).all():
            joints[..., 1] -= ground
            joints[..., [0, 2]] -= joints[:1, :1, [0, 2]]
        motion = Motion.from_joints(joints, fps, source, text, make_continuous(quaternions, in_place=True))
        mapping = {joint: names[bone] for joint, bone in self.source.bone_map.bones.items()}
        return BodyMotion(replace(motion, follows_joints=True), (*self.notes, how), mapping, self.is_doubtful)


def body_from_skeleton(
    motion: SkeletonMotion, mapping: dict[str, str] | None = None, text: str = "", up_axis: str | None = None
) -> BodyMotion:
    """The body's motion of a skeleton's, with what was guessed.

    ``mapping``: joint -> bone name, found by names or shape when None; ``text`` is what the motion is called; ``up_axis``: a key of
    ``TO_BODY``, guessed when None. Raises ``MotionError``, in one sentence, when no person is found, the map is doubtful, or
    values are not usable.
    """

    def pose(frames: slice | np.ndarray) -> SkeletonMotion:
        return replace(motion, positions=motion.positions[frames], rotations=motion.rotations[frames])

    fit = fit_body(pose(sample_frames(motion.frame_count)), mapping, up_axis)
    return fit.convert(pose, motion.frame_count, motion.fps, text)


def sample_frames(count: int) -> np.ndarray:
    """Numbers of the frames, evenly spread, that are enough to find how a skeleton becomes a body."""
    return spread_frames(count, SAMPLE)


def fit_body(sample: SkeletonMotion, mapping: dict[str, str] | None, up_axis: str | None = None) -> BodyFit:
    """How a skeleton becomes a body, from some of its frames; ``MotionError`` when it does not.

    ``up_axis``: a key of ``TO_BODY``, guessed when None.
    """
    if not np.isfinite(sample.positions).all() or not np.isfinite(sample.rotations).all():
        raise MotionError(f"{sample.source} contains numbers that are none; export it again.")
    bones = find_source_map(sample, mapping)
    source = find_source_joints(sample, bones)
    rest = replace(sample, positions=sample.rest_positions[None], rotations=sample.rest_rotations[None])
    joints, rest_joints = source.place(sample), source.place(rest)[0]
    leg = float(np.median([compute_leg_length(pose) for pose in joints[:: max(1, len(joints) // 50)]]))
    rest_axes = find_person_axes(rest_joints)
    up, rival = find_up(joints, *find_rest_up(rest_joints, rest_axes), leg) if up_axis is None else (up_axis, None)
    scale, unit = find_scale(leg)
    if rest_axes is not None:
        constants = find_constants_in_zero_pose(rest, source, rest_joints, rest_axes)
        origin = "Twist of the limbs: from the zero pose, which is a person."
    else:
        constants = find_constants_in_poses(sample, source, joints, TO_BODY[up][1])
        origin = "Twist of the limbs: from the poses, since the zero pose is no person."
    flat = find_constants_of_feet(sample, source, joints, rest, rest_joints, rest_axes, TO_BODY[up])
    notes = [f"Bones: {bones.how}.", f"Up: {up}, facing as in the file.", unit, origin]
    if rival:
        notes.append(f"The up axis is doubtful, it may be {rival}; choose Up Axis if the body does not stand as it should.")
    missing = [joint.replace("_", " ") for joint in ("neck", "head") if joint not in bones.bones]
    missing += [part for part in ("collar", "foot") if any(f"{side}_{part}" not in bones.bones for side in SIDES)]
    if missing:
        notes.append(f"Without a bone of their own: {', '.join(missing).replace('foot', 'toes')}.")
    if source.is_root_apart:
        notes.append("Pelvis: put above the hips, since the bone that carries the body lies far from them.")
    return BodyFit(source, constants | flat, TO_BODY[up], scale, tuple(notes), rival is not None)
