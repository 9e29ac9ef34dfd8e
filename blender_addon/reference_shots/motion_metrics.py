"""What is measured of a motion itself: sliding feet, jitter, feet below the floor, and bones that change their length."""

from __future__ import annotations

import numpy as np

from ...shared.motion import Motion
from ...shared.skeleton import HUMANML_FPS, SMPL_PARENTS
from ..motion.foot_contacts import compute_skating_ratio

#: height of the toe joints of a standing person above the floor, in metres
TOE_HEIGHT = 0.018
#: the percentile of the lowest joint's height over time that is taken for the floor of a motion
FLOOR_PERCENTILE = 2


def compute_jitter(joints: np.ndarray, fps: float = HUMANML_FPS) -> float:
    """Mean jerk of joints (F, J, 3): the length of their third derivative, in metres per second cubed."""
    return float(np.linalg.norm(np.diff(joints, 3, axis=0), axis=-1).mean() * fps**3)


def compute_penetration(joints: np.ndarray, floor: float = TOE_HEIGHT) -> float:
    """Mean over frames, in millimetres, of how far the lowest of joints (F, J, 3) is below ``floor``, the height of standing
    toes in metres."""
    return float(np.clip(floor - joints[..., 1].min(1), 0, None).mean() * 1000)


def compute_bone_deviation(joints: np.ndarray) -> float:
    """Largest standard deviation over time, in millimetres, of the length of a bone of joints (F, J, 3) in SMPL's order."""
    parents = np.array(SMPL_PARENTS[1 : joints.shape[1]])
    return float(np.linalg.norm(joints[:, 1:] - joints[:, parents], axis=-1).std(0).max() * 1000)


def compute_motion_metrics(motion: Motion) -> dict[str, float]:
    """Fraction of sliding foot contacts, jitter, penetration and bone deviation of a motion."""
    joints = np.asarray(motion.joints, float)
    floor = float(np.percentile(joints[..., 1].min(1), FLOOR_PERCENTILE))
    return {
        "skating_ratio": compute_skating_ratio(joints - [0, floor - TOE_HEIGHT, 0], motion.fps),
        "jitter_m_s3": compute_jitter(joints, motion.fps),
        "penetration_mm": compute_penetration(joints, floor),
        "bone_deviation_mm": compute_bone_deviation(joints),
    }
