"""The reference shots: the mannequin in a bundled or a given motion, seen by a camera that stands still or orbits it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ...shared.motion import Motion
from ...shared.passes import FramePasses
from ...shared.skeleton import HUMANML_FPS
from ..motion.readers import BUNDLED, read
from ..motion.retarget import retarget
from .views import View, load_mannequin, render_passes

#: pixels along each side
SIZE = 256
#: focal length as a fraction of the picture's side, and where the body stands in camera space, in metres
FOCAL, BODY_POSITION = 1.9, (0.0, 0.05, -4.0)
#: the world's Z is the body's Y
WORLD_TO_BODY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
#: the angle from which a given motion is seen, in degrees to its side
GIVEN_MOTION_ANGLE = 30.0
#: a given motion is shown from this frame on, where it is long enough: it often begins standing
GIVEN_MOTION_START = 10


@cache
def read_bundled_motions() -> dict[str, Motion]:
    """The bundled motions by their texts, such as ``a person walks forward``."""
    file = read(BUNDLED)
    return {text: file.get_motion(n) for n, text in enumerate(file.texts)}


def rotate_y(degrees: float) -> np.ndarray:
    """(3, 3) rotation about the vertical axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def _pose_mannequin(rotations: np.ndarray) -> list[np.ndarray]:
    """(V, 3) vertices in body space for each frame of local rotations (F, 24, 3, 3); the pelvis stays in place."""
    return [load_mannequin().pose_vertices(pose, np.zeros(1), np.zeros(3)) for pose in rotations]


def _retarget_rotations(motion: Motion) -> np.ndarray:
    body = load_mannequin()
    return retarget(motion, body.regress_joints(body.v_template)).local_rotations


def _bounce(frames: np.ndarray, count: int) -> np.ndarray:
    """Frame numbers (F,) from 0 as those of a motion of ``count`` frames that is played to its end, back to its start, and on."""
    there_and_back = max(2 * (count - 1), 1)
    return (count - 1) - np.abs(frames % there_and_back - (count - 1))


def make_clip_views(text: str, frames: int, *, orbit: float = 0.0, turn: float = 0.0, step: int = 1) -> list[View]:
    """Views of a bundled motion, every ``step``-th of its frames, to and fro where the shot is longer than it: seen from ``turn``
    degrees to its side, with a camera that orbits it by ``orbit`` degrees over the shot. The body's path over the ground is left
    out."""
    motion = _retarget_rotations(read_bundled_motions()[text])
    rotations = motion[_bounce(np.arange(frames) * step, len(motion))]
    return [_see(points, rotate_y(turn + orbit * n / max(frames - 1, 1))) for n, points in enumerate(_pose_mannequin(rotations))]


def _see(points: np.ndarray, turn: np.ndarray) -> View:
    """Vertices in body space, whose Y is up, before a camera from which they are turned."""
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = turn @ WORLD_TO_BODY, BODY_POSITION
    return View(points @ turn.T + BODY_POSITION, FOCAL, camera)


def render_clip(text: str, frames: int, *, orbit: float = 0.0, turn: float = 0.0, step: int = 1) -> FramePasses:
    """The passes of ``make_clip_views`` at (SIZE, SIZE)."""
    return render_passes(make_clip_views(text, frames, orbit=orbit, turn=turn, step=step), SIZE)


def make_motion_views(motion: Motion, frames: int) -> list[View]:
    """Views of any motion, seen from ``GIVEN_MOTION_ANGLE`` degrees to its side whichever way it heads at first."""
    rotations = _retarget_rotations(motion.resample(HUMANML_FPS))
    start = min(GIVEN_MOTION_START, max(len(rotations) - frames, 0))
    shown = rotations[start : start + frames]
    heading = shown[0, 0] @ [0.0, 0.0, 1.0]
    turn = rotate_y(-np.degrees(np.arctan2(heading[0], heading[2])) - GIVEN_MOTION_ANGLE)
    return [_see(points, turn) for points in _pose_mannequin(shown)]


#: name -> its views, for a number of frames: a walk seen half from the side, a camera that orbits a wave, and a dance
SHOTS: dict[str, Callable[[int], list[View]]] = {
    "walk": lambda frames: make_clip_views("a person walks forward", frames, turn=-30.0),
    "orbit": lambda frames: make_clip_views("a person waves with the right hand", frames, orbit=50.0, turn=-25.0),
    "dance": lambda frames: make_clip_views("a person dances", frames, turn=15.0, step=2),
}
