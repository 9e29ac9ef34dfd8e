"""The shots that evaluations run on: the mannequin in bundled performances, before still and moving cameras."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from latentman.backend.metrics.laboratory import Shot
from latentman.blender_addon.motion.retarget import retarget
from latentman.shared.motion import Motion
from tools.motions.clips import CLIPS
from tools.motions.gait import perform

from .figures import Picture, mannequin, passes_of

SIZE = 256


def clip_points(name: str, frames: int, start: int = 0, step: int = 1) -> list[np.ndarray]:
    """(V, 3) vertices of a bundled performance, body space, the pelvis's way over the ground left out."""
    body = mannequin()
    local = retarget(Motion(perform(CLIPS[name]()), 20.0, name), body.regress_joints(body.v_template)).quaternions
    chosen = local[start : start + frames * step : step]
    turns = Rotation.from_quat(chosen.reshape(-1, 4), scalar_first=True).as_matrix().reshape(*chosen.shape[:2], 3, 3)
    return [body.pose_vertices(pose, np.zeros(1), np.zeros(3)) for pose in turns]


def clip_pictures(clip: str, frames: int, *, orbit: float = 0.0, turn: float = 0.0, step: int = 1) -> list[Picture]:
    """A performance seen from ``turn`` degrees to its side; the camera goes round by ``orbit`` degrees over the shot."""
    out = []
    for n, points in enumerate(clip_points(clip, frames, step=step)):
        angle = turn + orbit * n / max(frames - 1, 1)
        out.append(Picture(Rotation.from_euler("y", angle, degrees=True).apply(points) + [0, 0.05, -4.0], 1.9))
    return out


def shot(name: str, clip: str, frames: int, *, orbit: float = 0.0, turn: float = 0.0, step: int = 1) -> Shot:
    """``clip_pictures`` as a shot."""
    return Shot(name, passes_of(clip_pictures(clip, frames, orbit=orbit, turn=turn, step=step), SIZE))


def demo_shots(frames: int) -> list[Shot]:
    """A walk seen half from the side, a turn of the camera round a wave, and a dance."""
    return [
        shot("walk", "a person walks forward", frames, turn=-30.0),
        shot("orbit", "a person waves with the right hand", frames, orbit=50.0, turn=-25.0),
        shot("dance", "a person dances", frames, turn=15.0, step=2),
    ]
