"""Which way a source's axes point, how large its unit is, and where its ground lies, found in its joints. No bpy."""

from __future__ import annotations

import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import HUMANML_JOINT_COUNT, JOINT_INDEX, SMPL_JOINTS, SMPL_REST_JOINTS
from ...shared.vectors import normalise
from ..character.joints import SIDES
from .retarget import compute_leg_length

#: units that people's skeletons are measured in, in metres
UNITS = ((0.01, "centimetres"), (1.0, "metres"), (0.0254, "inches"), (0.001, "millimetres"), (0.1, "decimetres"))
#: metres of an average body's thigh and shin
LEG = compute_leg_length(np.array(SMPL_REST_JOINTS))
#: how long a person's legs may be compared with the average for a unit to be believed
PLAUSIBLE = (0.62, 1.4)
#: how high in metres the joints of a body are that lies on them; 0.1 for others
LYING = {"ankle": 0.021, "foot": 0.021, "wrist": 0.03, "knee": 0.05, "elbow": 0.04, "hip": 0.08, "shoulder": 0.06}
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


def find_person_axes(joints: np.ndarray) -> np.ndarray | None:
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


def find_rest_up(joints: np.ndarray, axes: np.ndarray | None) -> tuple[np.ndarray, float]:
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


def find_up(joints: np.ndarray, rest_up: np.ndarray, weight: float, leg: float) -> tuple[str, str | None]:
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


def find_scale(leg: float) -> tuple[float, str]:
    """(metres of the source's unit, what was guessed), from the length of its legs."""
    if not leg > 0 or not np.isfinite(leg):
        raise MotionError("The legs of the source have no length; choose other bones for them.")
    unit, name = min(UNITS, key=lambda unit: abs(np.log(leg * unit[0] / LEG)))
    if PLAUSIBLE[0] < leg * unit / LEG < PLAUSIBLE[1]:
        return unit, f"Unit: {name}, legs of {leg * unit:.2f} m."
    return LEG / leg, f"Unit: none that is known; legs of {leg:.3g} units were taken for {LEG:.2f} m."


def find_ground(joints: np.ndarray, fps: float) -> tuple[float, str]:
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
