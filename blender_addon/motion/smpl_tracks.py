"""The SMPL parameters of one person: which numbers of a mapping are rotations, which are the path, and at what rate. No bpy.

``smpl_sources.py`` finds the mappings in a file; ``track_decoding.py`` makes motions of the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ...shared.motion import MotionError
from ..character.unpickling import Discarded, to_array
from . import representations as forms
from . import up_axis

#: joints that files hold rotations of, with the pelvis, and without it
WITH_ROOT, WITHOUT_ROOT = (22, 24, 52, 55), (21, 23, 51, 54)
#: people of a file, and frames without data between two with them that are filled in
MAX_PEOPLE, MAX_GAP = 200, 30
VIDEO_FPS = 30.0
#: where SMPL's translation counts from: the body's origin, its pelvis, or the origin about which the root turned the body as well
FROM_ORIGIN, FROM_PELVIS, FROM_TURNED_ORIGIN = "origin", "pelvis", "turned origin"

FULL_POSES = ("poses", "smpl_poses", "fullpose", "full_pose", "smplx_poses", "smpl_pose", "pose_aa", "pose", "thetas", "theta")
BODIES = ("body_pose", "pose_body", "smpl_body_pose", "poses_body", "body_poses")
ROOTS = ("global_orient", "root_orient", "root_pose", "smpl_global_orient", "orient", "Rh", "poses_root")
PATHS = ("transl", "trans", "translation", "smpl_trans", "root_translation", "Th", "root_trans", "root_transl", "transl_world")
RATES = ("mocap_framerate", "mocap_frame_rate", "fps", "frame_rate", "framerate", "frameRate")


@dataclass(frozen=True)
class SmplTrack:
    """One person: ``rotations`` (F, J, K) local rotations of SMPL's joints, the pelvis first, as the file has them; ``path`` (F, 3)
    the translation, None for none; ``frames`` (F,) their numbers where the file has some.

    ``form`` of ``representations`` and ``up`` of ``up_axis`` are empty where they must be guessed, with ``usual_form`` and
    ``usual_up`` where the numbers do not tell. ``unit``: metres of one unit of the path. ``fps`` is 0 where the file names none.
    """

    source: str
    rotations: np.ndarray
    path: np.ndarray | None = None
    name: str = ""
    form: str = ""
    usual_form: str = ""
    up: str = ""
    usual_up: str = up_axis.Y
    path_from: str = FROM_ORIGIN
    unit: float = 1.0
    fps: float = 0.0
    usual_fps: float = VIDEO_FPS
    frames: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def frame_count(self) -> int:
        """The number of frames with data."""
        return len(self.rotations)


def name_people(tracks: list[SmplTrack]) -> list[SmplTrack]:
    """The tracks cut at long gaps, several of them with names; ``MotionError`` for more than a file shows."""
    if len(tracks) > MAX_PEOPLE:
        raise MotionError(f"it claims to show {len(tracks)} people; choose a file with fewer.")
    parts = [part for track in tracks for part in _split_at_gaps(track)]
    if len(parts) == 1:
        return [replace(parts[0], name="")]
    return [replace(part, name=part.name or f"person {n}") for n, part in enumerate(parts, 1)]


def _split_at_gaps(track: SmplTrack) -> list[SmplTrack]:
    """The pieces of a track between long gaps; frames in order, each once."""
    if track.frames is None or len(track.frames) != track.frame_count:
        return [replace(track, frames=None)]
    frames, first = np.unique(track.frames, return_index=True)
    starts = [0, *(np.flatnonzero(np.diff(frames) > MAX_GAP) + 1), len(frames)]
    pieces = []
    for n, (start, end) in enumerate(pairwise(starts), 1):
        at = first[start:end]
        if not len(at):
            continue
        name = f"{track.name or 'person'}, part {n}" if len(starts) > 2 else track.name
        whole = len(at) == track.frame_count and (np.diff(at) == 1).all()
        pieces.append(
            replace(
                track,
                name=name,
                rotations=track.rotations if whole else track.rotations[at],
                path=track.path if whole or track.path is None else track.path[at],
                frames=frames[start:end],
            )
        )
    return pieces


def get_array(data: Mapping[Any, Any], *names: str) -> np.ndarray | None:
    """The first array of numbers under one of the names; None when there is none."""
    for name in names:
        if name in data and not isinstance(data[name], (Discarded, Mapping, str, bytes)):
            try:
                array = to_array(data[name])
            except (ValueError, MemoryError):
                continue
            if array.dtype.kind in "biuf":
                return array
    return None


def find_rate(data: Mapping[Any, Any]) -> float:
    """The frame rate that a file names, rounded where it is nearly whole; 0 where it names none.

    Raises ``MotionError`` for a rate that is none.
    """
    for key in RATES:
        if key in data:
            try:
                rate = float(np.asarray(to_array(data[key])).ravel()[0])
            except (TypeError, ValueError, IndexError):
                raise MotionError(f"names a frame rate ('{key}') that is none; enter the right one.") from None
            return float(round(rate)) if np.isfinite(rate) and abs(rate - round(rate)) < 0.01 else rate
    return 0.0


def split_joints(array: np.ndarray, joints: tuple[int, ...]) -> np.ndarray | None:
    """(P, F, J, K) of rotations of one of so many joints in any shape that files use: (F, J*K), (F, J, K), (F, J, 3, 3), each with
    or without people or a batch before. None for other shapes."""
    shape = array.shape
    if len(shape) >= 4 and shape[-2:] == (3, 3) and shape[-3] in joints:
        array = array.reshape(*shape[:-2], 9)
        shape = array.shape
    if len(shape) >= 3 and shape[-1] in forms.FORMS and shape[-2] in joints:
        return array.reshape(-1, *shape[-3:]) if len(shape) in (3, 4) else None
    if len(shape) < 2 or len(shape) > 3:
        return None
    for size in (3, 6, 9, 4):
        for count in joints:
            if shape[-1] == size * count:
                return array.reshape(-1, shape[-2], count, size) if len(shape) == 3 else array.reshape(1, shape[-2], count, size)
    return None


def _split_root(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(P, F, 1, K) of the root's rotations for limbs of the shape (P, F, J, K)."""
    people, frames, _, size = shape
    if array.size != people * frames * size:
        raise MotionError(f"the root's rotations have the shape {array.shape}, which does not fit {frames} frames.")
    return array.reshape(people, frames, 1, size)


def _split_path(array: np.ndarray | None, people: int, frames: int) -> np.ndarray | None:
    """(P, F, 3) of the path."""
    if array is None:
        return None
    if array.ndim == 2 and people == 1 and len(array) == frames and array.shape[1] > 3:
        array = array[:, :3]
    if array.size != people * frames * 3:
        raise MotionError(f"the path has the shape {array.shape}, expected ({frames}, 3).")
    return array.reshape(people, frames, 3)


def read_parameters(data: Mapping[Any, Any], source: str, **known: Any) -> list[SmplTrack]:
    """The people of a mapping with poses, or root and body, and a path; empty when it has no poses.

    ``known`` are fields of ``SmplTrack``. Raises ``MotionError`` for parameters that do not fit each other.
    """
    full, body = get_array(data, *FULL_POSES), get_array(data, *BODIES)
    root = get_array(data, *ROOTS)
    values = None if full is None else split_joints(full, WITH_ROOT)
    if values is None and full is not None and full.ndim == 2 and full.shape[1] in (78, 87):
        # EasyMocap's and others' SMPL-H and SMPL-X with hands of few numbers
        values = full[None, :, :66].reshape(1, len(full), 22, 3)
    if values is not None and root is not None and "Rh" in data and np.abs(values[..., 0, :]).max(initial=0.0) < 1e-8:
        values = np.concatenate([_split_root(root, values.shape), values[:, :, 1:]], 2)
    if values is None:
        limbs = body if body is not None else full
        parts = None if limbs is None else split_joints(limbs, WITHOUT_ROOT)
        if parts is None:
            if limbs is not None and root is not None:
                raise MotionError(f"the body's rotations have the shape {limbs.shape}, which is none of SMPL's.")
            return []
        if root is None:
            raise MotionError(
                "it holds the body's rotations, but not the pelvis's ('global_orient' or 'root_orient'); export both."
            )
        values = np.concatenate([_split_root(root, parts.shape), parts], 2)
    people, frames = values.shape[:2]
    path = _split_path(get_array(data, *PATHS), people, frames)
    known.setdefault("fps", find_rate(data))
    return [SmplTrack(source, rows, None if path is None else path[n], **known) for n, rows in enumerate(values)]
