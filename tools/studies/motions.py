"""Motion sources side by side: how the motion itself moves, and a shot of each to see what it does to the frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from latentman.backend.metrics.laboratory import Shot
from latentman.backend.motion.registry import load
from latentman.blender_addon.motion.foot_contacts import compute_skating_ratio
from latentman.blender_addon.motion.layouts import humanml_to_joints
from latentman.blender_addon.motion.readers import read
from latentman.blender_addon.motion.retarget import retarget
from latentman.shared.motion import Motion
from latentman.shared.motion_request import MotionRequest
from latentman.shared.skeleton import HUMANML_FPS, SMPL_PARENTS
from tools.motions.clips import CLIPS
from tools.motions.gait import TOE_HEIGHT, perform

from .figures import Picture, mannequin, passes_of
from .shots import SIZE

#: what the built-in sources are asked for
ASKED = "a person walks forward"


def jitter(joints: np.ndarray, fps: float = HUMANML_FPS) -> float:
    """Mean length in metres a second cubed of the third difference of joints (F, 22, 3)."""
    return float(np.linalg.norm(np.diff(joints, 3, axis=0), axis=-1).mean() * fps**3)


def compute_penetration(joints: np.ndarray, floor: float = TOE_HEIGHT) -> float:
    """Mean over frames in millimetres of how far the lowest joint is below where toes stand."""
    return float(np.clip(floor - joints[..., 1].min(1), 0, None).mean() * 1000)


def bone_deviation(joints: np.ndarray) -> float:
    """Largest standard deviation over time, in millimetres, of a bone's length."""
    parents = np.array(SMPL_PARENTS[1 : joints.shape[1]])
    return float(np.linalg.norm(joints[:, 1:] - joints[:, parents], axis=-1).std(0).max() * 1000)


def figures_of(motion: Motion) -> dict[str, float]:
    """Skating share, jitter, penetration and bone constancy of a motion."""
    joints = np.asarray(motion.joints, float)
    floor = float(np.percentile(joints[..., 1].min(1), 2))
    return {
        "skating_ratio": compute_skating_ratio(joints - [0, floor - TOE_HEIGHT, 0], motion.fps),
        "jitter_m_s3": jitter(joints, motion.fps),
        "penetration_mm": compute_penetration(joints, floor),
        "bone_deviation_mm": bone_deviation(joints),
    }


def sources(files: list[Path]) -> dict[str, Motion]:
    """A performance, the starter model's answer to the same words, and whatever files are named."""
    out = {"performance": Motion(perform(CLIPS[ASKED]()), HUMANML_FPS, "performance", ASKED)}
    made = load("starter", torch.device("cpu")).make(MotionRequest(ASKED, 4.0, 1), None, lambda step, of: None)
    out["starter"] = Motion(humanml_to_joints(made.vectors[0]), HUMANML_FPS, "starter", ASKED)
    for path in files:
        out[path.stem] = read(path).get_motion(0)
    return out


def motion_shots(frames: int, files: list[Path]) -> tuple[list[Shot], dict[str, dict[str, float]]]:
    """A shot of each source on the mannequin, half from the side, the way over the ground left out; and its motion's figures."""
    body, shots, figures = mannequin(), [], {}
    for name, motion in sources(files).items():
        figures[name] = figures_of(motion)
        timed = motion.resample(HUMANML_FPS)
        local = retarget(timed, body.regress_joints(body.v_template)).quaternions
        start = min(10, max(len(local) - frames, 0))
        turns = (
            Rotation.from_quat(local[start : start + frames].reshape(-1, 4), scalar_first=True).as_matrix().reshape(-1, 24, 3, 3)
        )
        # a motion may head anywhere; the camera sees each from the same side
        facing = turns[0, 0] @ [0.0, 0.0, 1.0]
        turn = Rotation.from_euler("y", -np.arctan2(facing[0], facing[2]) - np.radians(30))
        pictures = [
            Picture(turn.apply(body.pose_vertices(pose, np.zeros(1), np.zeros(3))) + [0, 0.05, -4.0], 1.9) for pose in turns
        ]
        shots.append(Shot(name, passes_of(pictures, SIZE)))
    return shots, figures
