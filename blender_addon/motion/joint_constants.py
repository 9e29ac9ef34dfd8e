"""The constant rotations between a source's bones and SMPL's joints. No bpy.

A bone and the joint at the same place differ by a constant ``C``, ``R_smpl = R_source @ C``. It turns SMPL's limb in its rest pose
onto the source's limb in the bone's own axes, so that limbs point where the source's do; its twist comes from the zero pose where
that is a person, else from the poses themselves, as knees, elbows and soles show it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from ...shared.vectors import normalise
from ..character.joints import SIDES
from .retarget import AIMS_AT, HINGES, MULTI_CHILD, solve_rotations
from .rotations import nearest_rotations, rotation_about_axis, rotation_between
from .skeleton_motion import SkeletonMotion
from .source_joints import SourceJoints

REST = np.array(SMPL_REST_JOINTS)
#: how many degrees the toes of a flat foot lie below its ankle, at least and at most
SLOPES = (5.0, 45.0)
#: how far up (1) a shin points that stands on its foot, and a trunk above which the head looks straight ahead
UPRIGHT = 0.5


def find_constants_in_zero_pose(
    rest: SkeletonMotion,
    source: SourceJoints,
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
        bone = source.get_bone(joint)
        if bone is not None:
            out[joint] = rest.rotations[0, bone].T @ turned[joint]
    return out


def _is_apart(joints: np.ndarray, axes: np.ndarray, ankle: str) -> bool:
    """Whether a shin of a zero pose (22, 3) stands so far from upright that its foot cannot be flat."""
    shin = joints[JOINT_INDEX[ankle.replace("ankle", "knee")]] - joints[JOINT_INDEX[ankle]]
    return bool(normalise(shin) @ axes[:, 1] < np.cos(np.radians(15)))


def find_constants_in_poses(
    sample: SkeletonMotion,
    source: SourceJoints,
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
        bone = source.get_bone(joint)
        if bone is None:
            turned[joint] = seen
            continue
        own = np.swapaxes(sample.rotations[:, bone], -1, -2) @ seen
        mean = nearest_rotations((own * weight[:, None, None]).sum(0) / weight.sum())
        if joint in AIMS_AT:
            own_axis = (np.swapaxes(sample.rotations[:, bone], -1, -2) @ _observe(joints, joint)[..., None])[..., 0].mean(0)
            if np.linalg.norm(own_axis) > 0.5:
                mean = rotation_between(mean @ _get_rest_direction(joint), normalise(own_axis)) @ mean
        out[joint] = mean
        turned[joint] = sample.rotations[:, bone] @ mean
    return out


def find_constants_of_feet(
    sample: SkeletonMotion,
    source: SourceJoints,
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
            bone = source.get_bone(joint)
            if bone is not None:
                out[joint] = nearest_rotations((np.swapaxes(skeleton.rotations[:, bone], -1, -2) @ seen).mean(0))
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


def turn_joints(
    skeleton: SkeletonMotion,
    source: SourceJoints,
    constants: dict[str, np.ndarray],
    joints: np.ndarray,
) -> np.ndarray:
    """(F, 24, 3, 3) rotations of SMPL's joints in the source's axes."""
    out = np.empty((len(joints), len(SMPL_JOINTS), 3, 3))
    for number, joint in enumerate(SMPL_JOINTS):
        bone = source.get_bone(joint)
        if bone is None or joint not in constants:
            turned = out[:, max(SMPL_PARENTS[number], 0)]
        else:
            turned = skeleton.rotations[:, bone] @ constants[joint]
        if joint in AIMS_AT and "ankle" not in joint:
            turned = rotation_between(turned @ _get_rest_direction(joint), _observe(joints, joint)) @ turned
        out[:, number] = turned
    return out


def _get_rest_direction(joint: str) -> np.ndarray:
    """(3,) where the limb of a joint points in SMPL's rest pose."""
    return normalise(REST[JOINT_INDEX[AIMS_AT[joint]]] - REST[JOINT_INDEX[joint]])


def _observe(joints: np.ndarray, joint: str) -> np.ndarray:
    """(F, 3) where the limb of a joint points."""
    return normalise(joints[:, JOINT_INDEX[AIMS_AT[joint]]] - joints[:, JOINT_INDEX[joint]])
