"""The movement of a skeleton of any build -> a body's ``Motion``, with sentences about everything that was guessed. No bpy.

A source's bone and SMPL's joint at the same place differ by a constant rotation, ``R_smpl = R_source @ C``. It turns SMPL's
limb in its rest pose onto the source's limb in the bone's own axes, so that limbs point where the source's do; its twist comes
from the zero pose where that is a person, else from the poses themselves, as knees, elbows and soles show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...shared.motion import MAX_FRAMES, Motion, MotionError
from ...shared.skeleton import HUMANML_JOINT_COUNT, JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from ...shared.vectors import normalise
from .retarget import AIMS_AT, HINGES, MULTI_CHILD, compute_leg_length, solve_rotations
from .rotations import make_continuous, matrix_to_quaternion, rotation_about_axis, rotation_between
from .skeleton_motion import SkeletonMotion
from .source_bones import SourceMap, find_source_map

#: frames that are looked at to find axes, unit and constants, and frames that are converted at a time
SAMPLE, BLOCK = 600, 1024
#: units that people's skeletons are measured in, in metres
UNITS = ((0.01, "centimetres"), (1.0, "metres"), (0.0254, "inches"), (0.001, "millimetres"), (0.1, "decimetres"))
REST = np.array(SMPL_REST_JOINTS)
LEG = compute_leg_length(REST)
#: how long a person's legs may be compared with the average for a unit to be believed
PLAUSIBLE = (0.62, 1.4)
#: how far up from the pelvis (0) to the neck (1) joints of the spine are where a source has fewer bones
SPINE = (("spine1", 0.23), ("spine2", 0.49), ("spine3", 0.6))
SIDES = ("left", "right")
#: how high in metres the joints of a body are that lies on them; 0.1 for others
LYING = {"ankle": 0.021, "foot": 0.021, "wrist": 0.03, "knee": 0.05, "elbow": 0.04, "hip": 0.08, "shoulder": 0.06}
#: how many degrees the toes of a flat foot lie below its ankle, at least and at most
SLOPES = (5.0, 45.0)
#: how far up (1) a shin points that stands on its foot, and a trunk above which the head looks straight ahead
UPRIGHT = 0.5
#: up axis of a source -> what turns its axes into Y up; Z up becomes what Blender shows it as, Y down what a camera sees
TO_BODY = {
    "Y": np.eye(3),
    "Z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "X": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "-Y": np.diag([1.0, -1, -1]),
    "-Z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-X": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
}
#: by how much less another axis must speak for being up
DOUBTFUL = 0.25
#: what speaks for an axis before anything is seen
USUAL_UP = {"Y": 0.25, "Z": 0.1, "X": -0.4, "-Y": -0.4, "-Z": -0.5, "-X": -0.5}


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

    ``source``: its bones; ``constants``: joint -> (3, 3) C; ``to_body`` (3, 3) and ``scale`` turn the source's axes and unit
    into metres, Y up; ``spine``: for each joint of ``SPINE`` (lower bone, upper bone, how far between them, bone that
    rotates it).
    """

    source: SourceMap
    constants: dict[str, np.ndarray]
    to_body: np.ndarray
    scale: float
    spine: tuple[tuple[int, int, float, int], ...]
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
            placed = _place_joints(skeleton, self.source, self.spine)
            joints[frames] = placed @ self.to_body.T * self.scale
            turned = self.to_body @ _turn_joints(skeleton, self.source, self.spine, self.constants, placed)
            local = np.swapaxes(turned[:, np.maximum(SMPL_PARENTS, 0)], -1, -2) @ turned
            local[:, 0] = turned[:, 0]
            quaternions[frames] = matrix_to_quaternion(local)
        ground, how = _find_ground(joints, fps)
        if np.isfinite(joints).all():
            joints[..., 1] -= ground
            joints[..., [0, 2]] -= joints[:1, :1, [0, 2]]
        motion = Motion.from_joints(joints, fps, source, text, make_continuous(quaternions, in_place=True))
        mapping = {joint: names[bone] for joint, bone in self.source.bones.items()}
        return BodyMotion(replace(motion, follows_joints=True), (*self.notes, how), mapping, self.is_doubtful)


def body_from_skeleton(
    motion: SkeletonMotion, mapping: dict[str, str] | None = None, text: str = "", up_axis: str | None = None
) -> BodyMotion:
    """The body's motion of a skeleton's, with what was guessed.

    ``mapping``: joint -> bone name, found by names or shape when None; ``text`` is what the motion is called. Raises
    ``MotionError``, in one sentence, when no person is found, the map is doubtful, or values are not usable.
    """

    def pose(frames: slice | np.ndarray) -> SkeletonMotion:
        return replace(motion, positions=motion.positions[frames], rotations=motion.rotations[frames])

    fit = fit_body(pose(sample_frames(motion.frame_count)), mapping, up_axis)
    return fit.convert(pose, motion.frame_count, motion.fps, text)


def sample_frames(count: int) -> np.ndarray:
    """Numbers of the frames, evenly spread, that are enough to find how a skeleton becomes a body."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, SAMPLE)).astype(int))


def fit_body(sample: SkeletonMotion, mapping: dict[str, str] | None, up_axis: str | None = None) -> BodyFit:
    """How a skeleton becomes a body, from some of its frames; ``MotionError`` when it does not.

    ``up_axis``: a key of ``TO_BODY``, guessed when None.
    """
    if not np.isfinite(sample.positions).all() or not np.isfinite(sample.rotations).all():
        raise MotionError(f"{sample.source} contains numbers that are none; export it again.")
    source = find_source_map(sample, mapping)
    rest = replace(sample, positions=sample.rest_positions[None], rotations=sample.rest_rotations[None])
    spine = _divide_spine(sample, source)
    joints, rest_joints = _place_joints(sample, source, spine), _place_joints(rest, source, spine)[0]
    leg = float(np.median([compute_leg_length(pose) for pose in joints[:: max(1, len(joints) // 50)]]))
    rest_axes = _find_person_axes(rest_joints)
    up, rival = _find_up(joints, *_find_rest_up(rest_joints, rest_axes), leg) if up_axis is None else (up_axis, None)
    scale, unit = _find_scale(leg)
    if rest_axes is not None:
        constants = _constants_from_zero_pose(rest, source, spine, rest_joints, rest_axes)
        origin = "Twist of the limbs: from the zero pose, which is a person."
    else:
        constants = _constants_from_poses(sample, source, spine, joints, TO_BODY[up][1])
        origin = "Twist of the limbs: from the poses, since the zero pose is no person."
    flat = _constants_of_feet(sample, source, joints, rest, rest_joints, rest_axes, TO_BODY[up])
    notes = [f"Bones: {source.how}.", f"Up: {up}, facing as in the file.", unit, origin]
    if rival:
        notes.append(f"The up axis is doubtful, it may be {rival}; choose Up Axis if the body does not stand as it should.")
    missing = [joint.replace("_", " ") for joint in ("neck", "head") if joint not in source.bones]
    missing += [part for part in ("collar", "foot") if f"left_{part}" not in source.bones]
    if missing:
        notes.append(f"Without a bone of their own: {', '.join(missing).replace('foot', 'toes')}.")
    return BodyFit(source, constants | flat, TO_BODY[up], scale, spine, tuple(notes), rival is not None)


# joints


def _divide_spine(sample: SkeletonMotion, source: SourceMap) -> tuple[tuple[int, int, float, int], ...]:
    """Where the joints of the spine lie between its bones; see ``BodyFit.spine``. A bone of -1 stands for the neck."""
    at, pelvis = sample.positions, source.bones["pelvis"]
    chosen = [source.bones[name] for name, _ in SPINE if name in source.bones]
    chest = chosen[-1] if "spine3" in source.bones else (source.spine[-1] if source.spine else pelvis)
    neck = _place_neck(sample, source)
    whole = float(np.median(np.linalg.norm(neck - at[:, pelvis], axis=-1)))
    # (the place, the last bone there), without bones that lie on the one before or on the neck
    nodes = [(pelvis, pelvis)]
    for bone in source.spine:
        before = np.median(np.linalg.norm(at[:, bone] - at[:, nodes[-1][0]], axis=-1))
        after = np.median(np.linalg.norm(at[:, bone] - neck, axis=-1))
        if after < 0.02 * whole:
            continue
        if before < 0.02 * whole:
            nodes[-1] = (nodes[-1][0], bone)
        else:
            nodes.append((bone, bone))
    apart = nodes[1:]
    if len(chosen) == len(SPINE) and source.how == "as chosen":
        return tuple((bone, bone, 0.0, bone) for bone in chosen)
    if len(apart) >= len(SPINE):
        picked = [apart[0], apart[(len(apart) - 1) // 2], (apart[-1][0], chest)]
        return tuple((place, place, 0.0, bone) for place, bone in picked)
    ends = [at[:, place] for place, _ in nodes[1:]] + [neck]
    starts = [at[:, place] for place, _ in nodes]
    lengths = [float(np.median(np.linalg.norm(end - start, axis=-1))) for start, end in zip(starts, ends, strict=True)]
    total, out = sum(lengths), []
    for name, fraction in SPINE:
        left, k = fraction * total, 0
        while k < len(lengths) - 1 and left > lengths[k]:
            left -= lengths[k]
            k += 1
        upper = nodes[k + 1][0] if k + 1 < len(nodes) else -1
        out.append((nodes[k][0], upper, min(left / max(lengths[k], 1e-9), 1.0), chest if name == "spine3" else nodes[k][1]))
    return tuple(out)


def _place_neck(skeleton: SkeletonMotion, source: SourceMap) -> np.ndarray:
    """(F, 3)"""
    if "neck" in source.bones:
        return skeleton.positions[:, source.bones["neck"]]
    shoulders, hips = (
        (skeleton.positions[:, source.bones[f"left_{name}"]] + skeleton.positions[:, source.bones[f"right_{name}"]]) / 2
        for name in ("shoulder", "hip")
    )
    return np.asarray(shoulders + 0.12 * (shoulders - hips))


def _place_joints(skeleton: SkeletonMotion, source: SourceMap, spine: tuple[tuple[int, int, float, int], ...]) -> np.ndarray:
    """(F, 22, 3) joints in the source's axes and unit; those without a bone are put where a person has them."""
    at = {joint: skeleton.positions[:, bone] for joint, bone in source.bones.items()}
    hips, shoulders = ((at[f"left_{name}"] + at[f"right_{name}"]) / 2 for name in ("hip", "shoulder"))
    trunk = shoulders - hips
    far = np.linalg.norm(at["pelvis"] - hips, axis=-1) > 0.5 * np.linalg.norm(trunk, axis=-1)
    if far.mean() > 0.5:
        # a root on the floor that carries legs and trunk
        at["pelvis"] = hips + 0.15 * trunk
    at["neck"] = _place_neck(skeleton, source)
    for (name, _), (lower, upper, t, _) in zip(SPINE, spine, strict=True):
        low = at["pelvis"] if lower == source.bones["pelvis"] else skeleton.positions[:, lower]
        high = at["neck"] if upper < 0 else skeleton.positions[:, upper]
        at[name] = low + t * (high - low)
    if "head" not in at:
        tip = _place_tip(skeleton, source.bones.get("neck", -1))
        at["head"] = at["neck"] + 0.2 * trunk if tip is None else tip
    left = at["left_shoulder"] - at["right_shoulder"] + at["left_hip"] - at["right_hip"]
    for side in SIDES:
        if f"{side}_collar" not in at:
            at[f"{side}_collar"] = (at["neck"] + at["spine3"]) / 4 + at[f"{side}_shoulder"] / 2
        ankle = at[f"{side}_ankle"]
        shin = ankle - at[f"{side}_knee"]
        size = np.linalg.norm(shin, axis=-1, keepdims=True)
        foot = at.get(f"{side}_foot")
        if foot is None or (np.linalg.norm(foot - ankle, axis=-1, keepdims=True) < 0.05 * size).any():
            foot = _place_tip(skeleton, source.bones[f"{side}_ankle" if foot is None else f"{side}_foot"])
        if foot is None or (np.linalg.norm(foot - ankle, axis=-1, keepdims=True) < 0.05 * size).any():
            forward = normalise(np.cross(left, -normalise(shin)))
            foot = ankle + size * (0.32 * forward + 0.13 * normalise(shin))
        at[f"{side}_foot"] = foot
    return np.stack([at[joint] for joint in SMPL_JOINTS[:HUMANML_JOINT_COUNT]], 1)


def _place_tip(skeleton: SkeletonMotion, bone: int) -> np.ndarray | None:
    """(F, 3) where a bone ends, None when the source does not say."""
    if bone < 0 or np.isnan(skeleton.tips[bone]).any() or not np.linalg.norm(skeleton.tips[bone]):
        return None
    return np.asarray(skeleton.positions[:, bone] + skeleton.rotations[:, bone] @ skeleton.tips[bone])


# axes, unit and ground


def _find_person_axes(joints: np.ndarray) -> np.ndarray | None:
    """(3, 3) left, up and forward, as columns, of a pose (22, 3) of a standing person, however the arms are; None for other poses.

    Legs may be apart, but everything is symmetric.
    """
    at = {name: joints[JOINT_INDEX[name]] for name in SMPL_JOINTS[:HUMANML_JOINT_COUNT]}
    up = normalise(at["neck"] - (at["left_hip"] + at["right_hip"]) / 2)
    across = at["left_shoulder"] - at["right_shoulder"]
    left = across + at["left_hip"] - at["right_hip"]
    leg = compute_leg_length(joints)
    if not leg > 0 or np.linalg.norm(across) < 0.15 * leg or np.linalg.norm(at["neck"] - at["pelvis"]) < 0.2 * leg:
        return None
    left = normalise(left - up * (left @ up))
    axes = _snap(np.stack([left, up, np.cross(left, up)], 1))
    local = {name: (place - at["pelvis"]) @ axes for name, place in at.items()}

    def direct(start: str, end: str) -> np.ndarray:
        return normalise(local[end] - local[start])

    mirror = np.array([-1.0, 1, 1])
    pairs = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
    for start, end in pairs:
        first, second = direct(f"left_{start}", f"left_{end}"), direct(f"right_{start}", f"right_{end}")
        if first @ (second * mirror) < np.cos(np.radians(15)):
            return None
        if "hip" in start or "knee" in start:
            if -first[1] < np.cos(np.radians(40)):
                return None
        elif first[0] < -0.3 or first[1] > np.sin(np.radians(60)):
            return None
    if direct("left_shoulder", "left_elbow") @ direct("left_elbow", "left_wrist") < np.cos(np.radians(50)):
        return None
    if direct("pelvis", "neck")[1] < np.cos(np.radians(30)) or direct("neck", "head")[1] < np.cos(np.radians(60)):
        return None
    return axes


def _snap(axes: np.ndarray) -> np.ndarray:
    """Axes (3, 3) in columns, with those of the coordinates where they are near: a zero pose stands straight."""
    out = axes.copy()
    for column in (1, 0):
        k = int(np.abs(out[:, column]).argmax())
        if abs(out[k, column]) > np.cos(np.radians(25)):
            out[:, column] = np.sign(out[k, column]) * np.eye(3)[k]
        if column == 1:
            out[:, 0] = normalise(out[:, 0] - out[:, 1] * (out[:, 0] @ out[:, 1]))
    out[:, 0] = normalise(out[:, 0] - out[:, 1] * (out[:, 0] @ out[:, 1]))
    out[:, 2] = np.cross(out[:, 0], out[:, 1])
    return out


def _find_rest_up(joints: np.ndarray, axes: np.ndarray | None) -> tuple[np.ndarray, float]:
    """((3,) where the trunk of a zero pose (22, 3) points, how much that says), 0 where its legs do not hang down from it.

    ``axes``: those of the person whom the zero pose shows; others may raise an arm, or sit.
    """
    if axes is not None:
        return axes[:, 1], 0.7
    at = {name: joints[number] for name, number in JOINT_INDEX.items() if number < len(joints)}
    hips, knees, ankles, shoulders = (
        (at[f"left_{name}"] + at[f"right_{name}"]) / 2 for name in ("hip", "knee", "ankle", "shoulder")
    )
    up, leg = normalise(shoulders - hips), np.linalg.norm(ankles - knees) + np.linalg.norm(knees - hips)
    if min(np.linalg.norm(at["left_shoulder"] - at["right_shoulder"]), np.linalg.norm(shoulders - hips)) < 0.15 * leg:
        return up, 0.0
    straight = normalise(knees - hips) @ up < -0.8
    return up, (0.7 if straight else 0.4) if normalise(ankles - knees) @ up < -0.8 else 0.0


def _find_up(joints: np.ndarray, rest_up: np.ndarray, weight: float, leg: float) -> tuple[str, str | None]:
    """(the axis of the source that is up, a key of ``TO_BODY``, and another that is nearly as likely, if any).

    People stand along it, in the zero pose too, on a floor at 0.

    Somebody who lies or stands on the hands throughout is on the floor, too, with the hands or with most of the body.
    """
    at = {name: joints[:, number] for name, number in JOINT_INDEX.items() if number < joints.shape[1]}
    feet = (at["left_ankle"] + at["right_ankle"]) / 2
    standing = normalise(at["neck"] - feet).mean(0)
    scores: dict[str, float] = {}
    for name, to_body in TO_BODY.items():
        axis = to_body[1]
        score = USUAL_UP[name] + standing @ axis
        score += weight * float(rest_up @ axis)
        heights = joints @ axis
        lowest = float(np.percentile(heights.min(1), 5))
        score += 0.8 * (-0.05 * leg < lowest < 0.15 * leg)
        if -0.025 * leg < lowest < 0.15 * leg:
            low = {
                part: min(float(np.median(at[f"{side}_{part}"] @ axis)) for side in SIDES) for part in ("wrist", "hip", "shoulder")
            }
            lies = max(low["hip"], low["shoulder"]) < 0.65 * leg
            on_hands = low["wrist"] < 0.2 * leg and standing @ axis < -0.5
            score += 0.8 * (lies or on_hands)
        scores[name] = float(score)
    best, second = sorted(scores, key=lambda name: -scores[name])[:2]
    return best, second if scores[best] - scores[second] < DOUBTFUL else None


def _find_scale(leg: float) -> tuple[float, str]:
    """(metres of the source's unit, what was guessed), from the length of its legs."""
    if not leg > 0 or not np.isfinite(leg):
        raise MotionError("The legs of the source have no length; choose other bones for them.")
    unit, name = min(UNITS, key=lambda unit: abs(np.log(leg * unit[0] / LEG)))
    if PLAUSIBLE[0] < leg * unit / LEG < PLAUSIBLE[1]:
        return unit, f"Unit: {name}, legs of {leg * unit:.2f} m."
    return LEG / leg, f"Unit: none that is known; legs of {leg:.3g} units were taken for {LEG:.2f} m."


def _find_ground(joints: np.ndarray, fps: float) -> tuple[float, str]:
    """(height of the ground in metres in the axes of joints (F, 22, 3), how it was found): the lowest feet stand on it.

    A clip that begins or ends in the air without coming down keeps the ground of its own coordinates.
    """
    usual = np.array([LYING.get(name.split("_")[-1], 0.1) for name in SMPL_JOINTS[:HUMANML_JOINT_COUNT]])
    lowest = (joints[..., 1] - usual).min(1)
    ground = float(np.percentile(lowest, 2))
    if len(joints) > 3 and 0.06 < ground < 1.5:
        speeds = np.abs(np.diff(lowest)) * fps
        at = int(lowest.argmin())
        if at in (0, len(joints) - 1) and speeds[min(at, len(speeds) - 1)] > 0.5:
            return 0.0, "Ground: the source's own, since the clip begins or ends in the air."
    return ground, "Ground: under the lowest joints."


# rotations


def _get_bone(source: SourceMap, spine: tuple[tuple[int, int, float, int], ...], joint: str) -> int | None:
    for (name, _), (_, _, _, bone) in zip(SPINE, spine, strict=True):
        if name == joint:
            return bone
    return source.bones.get(joint)


def _get_rest_direction(joint: str) -> np.ndarray:
    """(3,) where the limb of a joint points in SMPL's rest pose."""
    return normalise(REST[JOINT_INDEX[AIMS_AT[joint]]] - REST[JOINT_INDEX[joint]])


def _observe(joints: np.ndarray, joint: str) -> np.ndarray:
    """(F, 3) where the limb of a joint points."""
    return normalise(joints[:, JOINT_INDEX[AIMS_AT[joint]]] - joints[:, JOINT_INDEX[joint]])


def _constants_from_zero_pose(
    rest: SkeletonMotion,
    source: SourceMap,
    spine: tuple[tuple[int, int, float, int], ...],
    joints: np.ndarray,
    axes: np.ndarray,
) -> dict[str, np.ndarray]:
    """Joint -> (3, 3) C from a zero pose (22, 3) that is a person with these axes: SMPL's rest pose with its limbs swung there."""
    turned: dict[str, np.ndarray] = {}
    out: dict[str, np.ndarray] = {}
    for joint in SMPL_JOINTS:
        if joint in AIMS_AT and "ankle" not in joint:
            direction = _observe(joints[None], joint)[0]
            turned[joint] = rotation_between(axes @ _get_rest_direction(joint), direction) @ axes
        elif "wrist" in joint:
            turned[joint] = turned[joint.replace("wrist", "elbow")]
        elif "ankle" in joint and _is_apart(joints, axes, joint):
            turned[joint] = turned[joint.replace("ankle", "knee")]
        elif "foot" in joint:
            turned[joint] = turned[joint.replace("foot", "ankle")]
        else:
            turned[joint] = axes
        bone = _get_bone(source, spine, joint)
        if bone is not None:
            out[joint] = rest.rotations[0, bone].T @ turned[joint]
    return out


def _is_apart(joints: np.ndarray, axes: np.ndarray, ankle: str) -> bool:
    """Whether a shin of a zero pose (22, 3) stands so far from upright that its foot cannot be flat."""
    shin = joints[JOINT_INDEX[ankle.replace("ankle", "knee")]] - joints[JOINT_INDEX[ankle]]
    return bool(normalise(shin) @ axes[:, 1] < np.cos(np.radians(15)))


def _constants_from_poses(
    sample: SkeletonMotion,
    source: SourceMap,
    spine: tuple[tuple[int, int, float, int], ...],
    joints: np.ndarray,
    up: np.ndarray,
) -> dict[str, np.ndarray]:
    """Joint -> (3, 3) C from poses (F, 22, 3): the mean of what positions say, where limbs are bent enough to show it.

    ``up`` (3,) in the source's axes: on the whole people look straight ahead.
    """
    solved = solve_rotations(joints, REST)
    turned: dict[str, np.ndarray] = {}
    out: dict[str, np.ndarray] = {}
    for number, joint in enumerate(SMPL_JOINTS):
        parent = SMPL_JOINTS[max(SMPL_PARENTS[number], 0)]
        weight = np.full(len(joints), 1e-6)
        if joint in MULTI_CHILD or joint in HINGES:
            seen = solved[:, number]
            if joint in HINGES:
                weight = weight + np.linalg.norm(np.cross(_observe(joints, joint), _observe(joints, AIMS_AT[joint])), axis=-1)
        elif joint in AIMS_AT:
            above = turned[parent]
            seen = rotation_between(above @ _get_rest_direction(joint), _observe(joints, joint)) @ above
        elif joint == "head":
            chest = turned["spine3"]
            upright = chest[..., 1] @ up > UPRIGHT
            ahead = normalise(chest[..., 2] - up * (chest[..., 2] @ up)[:, None])
            level = np.stack([np.cross(up, ahead), np.broadcast_to(up, ahead.shape), ahead], -1)
            # of somebody who lies throughout, the head is in line with the chest
            seen = np.where(upright[:, None, None], level, chest)
            weight = weight + upright
        else:
            seen = turned[parent]
        bone = _get_bone(source, spine, joint)
        if bone is None:
            turned[joint] = seen
            continue
        own = np.swapaxes(sample.rotations[:, bone], -1, -2) @ seen
        mean = _project((own * weight[:, None, None]).sum(0) / weight.sum())
        if joint in AIMS_AT:
            own_axis = (np.swapaxes(sample.rotations[:, bone], -1, -2) @ _observe(joints, joint)[..., None])[..., 0].mean(0)
            if np.linalg.norm(own_axis) > 0.5:
                mean = rotation_between(mean @ _get_rest_direction(joint), normalise(own_axis)) @ mean
        out[joint] = mean
        turned[joint] = sample.rotations[:, bone] @ mean
    return out


def _project(matrix: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) nearest to a matrix (3, 3)."""
    u, _, vt = np.linalg.svd(matrix)
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))
    return np.asarray(u @ vt)


def _constants_of_feet(
    sample: SkeletonMotion,
    source: SourceMap,
    joints: np.ndarray,
    rest: SkeletonMotion,
    rest_joints: np.ndarray,
    rest_axes: np.ndarray | None,
    to_body: np.ndarray,
) -> dict[str, np.ndarray]:
    """Joint -> (3, 3) C of ankles and toes, for which a foot that stands flat has SMPL's rest rotation, but for its heading.

    Soles differ in how steeply the toes lie below the ankle, so that the line between them says little; flat is how the feet
    stand in a zero pose, else when they are lowest.
    """
    out: dict[str, np.ndarray] = {}
    for side in SIDES:
        ankle, foot = JOINT_INDEX[f"{side}_ankle"], JOINT_INDEX[f"{side}_foot"]
        skeleton, places, axes = rest, rest_joints[None], rest_axes
        if axes is not None:
            local = normalise(rest_joints[foot] - rest_joints[ankle]) @ axes
            if not (-np.sin(np.radians(65)) < local[1] < np.sin(np.radians(15)) and local[2] > 0.3) or _is_apart(
                rest_joints, axes, f"{side}_ankle"
            ):
                axes = None
        if axes is None:
            axes = to_body.T
            shin = normalise(joints[:, JOINT_INDEX[f"{side}_knee"]] - joints[:, ankle])
            upright = shin @ axes[:, 1] > UPRIGHT
            chosen, stands = _find_standing(joints[:, ankle], joints[:, foot], axes[:, 1], upright)
            if not stands:
                # somebody who lies or jumps throughout: feet are to the shins as in SMPL's rest pose
                continue
            skeleton = replace(sample, positions=sample.positions[chosen], rotations=sample.rotations[chosen])
            places = joints[chosen]
        up = axes[:, 1]
        flat = places[:, foot] - places[:, ankle]
        slope = float(np.median(np.arcsin(np.clip(-normalise(flat) @ up, -1, 1))))
        flat = normalise(flat - up * (flat @ up)[:, None])
        usual = axes @ _get_rest_direction(f"{side}_ankle")
        level = np.broadcast_to(normalise(usual - up * (usual @ up)), flat.shape)
        seen = rotation_between(level, flat) @ axes
        # no sole is steeper: these feet do not stand flat
        tilt = slope - np.clip(slope, *np.radians(SLOPES))
        seen = rotation_about_axis(np.cross(up, flat), np.full(len(flat), tilt)) @ seen
        for joint in (f"{side}_ankle", f"{side}_foot"):
            if joint in source.bones:
                out[joint] = _project((np.swapaxes(skeleton.rotations[:, source.bones[joint]], -1, -2) @ seen).mean(0))
    return out


def _find_standing(ankle: np.ndarray, foot: np.ndarray, up: np.ndarray, upright: np.ndarray) -> tuple[np.ndarray, bool]:
    """((F,) the frames in which a foot may stand flat, whether it surely does), from its ends (F, 3).

    ``upright`` (F,): whether the shin stands on it at all.

    A foot that stands has its toes on the ground, and is as steep in a good part of the frames.
    """
    along = foot - ankle
    heights, size = foot @ up, float(np.median(np.linalg.norm(along, axis=-1)))
    if not upright.any():
        return upright, False
    low = upright & (heights <= np.percentile(heights[upright], 2) + 0.3 * size)
    slopes = np.degrees(np.arcsin(np.clip(-normalise(along) @ up, -1, 1)))
    found = np.sort(slopes[low])
    # the window of four degrees with the most frames
    counts = np.searchsorted(found, found + 4.0, side="right") - np.arange(len(found))
    best = int(counts.argmax())
    if counts[best] < max(0.3 * len(slopes), 1):
        return low, False
    return low & (slopes >= found[best]) & (slopes <= found[best] + 4.0), True


def _turn_joints(
    skeleton: SkeletonMotion,
    source: SourceMap,
    spine: tuple[tuple[int, int, float, int], ...],
    constants: dict[str, np.ndarray],
    joints: np.ndarray,
) -> np.ndarray:
    """(F, 24, 3, 3) rotations of SMPL's joints in the source's axes."""
    out = np.empty((len(joints), len(SMPL_JOINTS), 3, 3))
    for number, joint in enumerate(SMPL_JOINTS):
        bone = _get_bone(source, spine, joint)
        if bone is None or joint not in constants:
            turned = out[:, max(SMPL_PARENTS[number], 0)]
        else:
            turned = skeleton.rotations[:, bone] @ constants[joint]
        if joint in AIMS_AT and "ankle" not in joint:
            turned = rotation_between(turned @ _get_rest_direction(joint), _observe(joints, joint)) @ turned
        out[:, number] = turned
    return out
