"""The skeletons of the SMPL family: joint names, parents and sides.

Metres, Y up, facing +Z, left = +X. HumanML3D (and so MDM) uses the first 22 joints.
"""

from __future__ import annotations

SMPL_JOINTS: tuple[str, ...] = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)
#: joint name -> its number
JOINT_INDEX: dict[str, int] = {name: n for n, name in enumerate(SMPL_JOINTS)}
SMPL_PARENTS: tuple[int, ...] = (
    -1,
    0,
    0,
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    9,
    9,
    12,
    13,
    14,
    16,
    17,
    18,
    19,
    20,
    21,
)

#: joints in metres of an average body in SMPL's T-pose, the pelvis at the origin, ``REST_PELVIS_HEIGHT`` above the soles;
#: it stands in where a file gives rotations but no body
SMPL_REST_JOINTS: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.0, 0.0),
    (0.078, -0.08, 0.0),
    (-0.078, -0.08, 0.0),
    (0.0, 0.12, -0.012),
    (0.088, -0.48, 0.004),
    (-0.088, -0.48, 0.004),
    (0.0, 0.257, -0.008),
    (0.092, -0.89, -0.022),
    (-0.092, -0.89, -0.022),
    (0.0, 0.315, -0.004),
    (0.1, -0.943, 0.112),
    (-0.1, -0.943, 0.112),
    (0.0, 0.525, -0.018),
    (0.075, 0.44, -0.012),
    (-0.075, 0.44, -0.012),
    (0.0, 0.617, 0.01),
    (0.185, 0.46, -0.012),
    (-0.185, 0.46, -0.012),
    (0.45, 0.46, -0.018),
    (-0.45, 0.46, -0.018),
    (0.712, 0.46, -0.006),
    (-0.712, 0.46, -0.006),
    (0.8, 0.46, 0.0),
    (-0.8, 0.46, 0.0),
)
REST_PELVIS_HEIGHT = 0.964

HUMANML_JOINT_COUNT = 22
HUMANML_FPS = 20.0
HUMANML_MAX_FRAMES = 196

#: length in metres from its parent of every HumanML3D joint; the root has none
HUMANML_BONE_LENGTHS: tuple[float, ...] = (
    0.0,
    0.1031,
    0.1099,
    0.1316,
    0.3936,
    0.3902,
    0.1432,
    0.4324,
    0.4256,
    0.0574,
    0.1434,
    0.1494,
    0.2194,
    0.1375,
    0.1434,
    0.1030,
    0.1316,
    0.1230,
    0.2568,
    0.2631,
    0.2660,
    0.2699,
)


def get_children(parents: tuple[int, ...]) -> list[list[int]]:
    """The children of each joint, in index order."""
    out: list[list[int]] = [[] for _ in parents]
    for joint, parent in enumerate(parents):
        if parent >= 0:
            out[parent].append(joint)
    return out
