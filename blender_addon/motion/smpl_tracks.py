"""The SMPL parameters of the people in a file, as motion capture, pose estimators and text-to-motion models write them. No bpy.

Here it is found which numbers of a file are rotations, which are the path, whose they are and which frames; ``track_decoding.py``
makes motions of them. A source is recognised by the names in its file, each in a function of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
MAX_NESTING = 3
VIDEO_FPS = 30.0
#: where SMPL's translation counts from: the body's origin, its pelvis, or the origin about which the root turned the body as well
FROM_ORIGIN, FROM_PELVIS, FROM_TURNED_ORIGIN = "origin", "pelvis", "turned origin"

FULL_POSES = ("poses", "smpl_poses", "fullpose", "full_pose", "smplx_poses", "smpl_pose", "pose_aa", "pose", "thetas", "theta")
BODIES = ("body_pose", "pose_body", "smpl_body_pose", "poses_body", "body_poses")
ROOTS = ("global_orient", "root_orient", "root_pose", "smpl_global_orient", "orient", "Rh", "poses_root")
PATHS = ("transl", "trans", "translation", "smpl_trans", "root_translation", "Th", "root_trans", "root_transl", "transl_world")
RATES = ("mocap_framerate", "mocap_frame_rate", "fps", "frame_rate", "framerate", "frameRate")
#: under which keys other programs nest the parameters
NESTS = ("smpl_params", "smplx_params", "smpl", "smplx", "params", "body", "parameters", "smpl_param", "result", "results", "data")


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


def find_tracks(data: Any) -> list[SmplTrack]:
    """The people in a file's value; empty when it holds no SMPL parameters.

    Raises ``MotionError`` for parameters that do not fit each other.
    """
    if isinstance(data, Mapping):
        for find in _SOURCES:
            found = find(data)
            if found:
                return name_people(found)
    return name_people(_find_nested(data, 0))


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


# arrays of a file


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


# the sources


def _find_gvhmr(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """GVHMR's ``hmr4d_results.pt``: the same motion in the world, Y up, and in the camera's space; the world's is taken."""
    if isinstance(data.get("smpl_params_global"), Mapping):
        return read_parameters(data["smpl_params_global"], "GVHMR", up=up_axis.Y)
    if isinstance(data.get("smpl_params_incam"), Mapping):
        return read_parameters(data["smpl_params_incam"], "GVHMR", up=up_axis.Y_DOWN)
    return []


def _find_wham(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """WHAM's ``wham_output.pkl``: person -> world's poses (F, 72) and path, Y up, and numbers of frames."""
    found: list[SmplTrack] = []
    for key, person in data.items():
        if isinstance(person, Mapping) and "pose_world" in person:
            world = {"poses": person["pose_world"], "trans": person.get("trans_world")}
            found += read_parameters(
                world, "WHAM", up=up_axis.Y, name=f"person {_label(key)}", frames=_read_frames(person, "frame_ids", "frame_id")
            )
    return found


def _find_prompthmr(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """PromptHMR's ``results.pkl``: people with SMPL-X in the world, Y up, or only in the camera's space."""
    people, found = data.get("people"), []
    if not isinstance(people, Mapping):
        return []
    for key, person in people.items():
        if not isinstance(person, Mapping):
            continue
        for space, up in (("smplx_world", up_axis.Y), ("smplx_cam", up_axis.Y_DOWN)):
            values = person.get(space)
            if isinstance(values, Mapping):
                poses = values.get("pose", values.get("rotmat"))
                frames = _read_frames(person, "frames")
                track = read_parameters(
                    {"poses": poses, "trans": values.get("trans")}, "PromptHMR", up=up, name=f"person {_label(key)}", frames=frames
                )
                if track:
                    found += track
                    break
    return found


def _find_phalp(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """4D-Humans' and PHALP's ``demo_*.pkl``: frame -> lists of people, in the camera's space; TokenHMR writes the same."""
    shots = [value for value in data.values() if isinstance(value, Mapping) and isinstance(value.get("smpl"), (list, tuple))]
    if not shots or len(shots) < 0.5 * len(data):
        return []
    people: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for number, shot in enumerate(shots):
        ids = _list_numbers(shot.get("tid", shot.get("tracked_ids")))
        seen = _list_numbers(shot.get("tracked_time"))
        cameras = shot.get("camera")
        time = _list_numbers(shot.get("time"))
        for n, (who, body) in enumerate(zip(ids, shot["smpl"], strict=False)):
            # those that are not seen in a frame are kept from an earlier one
            if not isinstance(body, Mapping) or (n < len(seen) and seen[n] > 0):
                continue
            root, limbs = get_array(body, "global_orient"), get_array(body, "body_pose")
            if root is None or limbs is None or root.size != 9 or limbs.size % 9:
                continue
            camera = (
                get_array({"camera": cameras[n]}, "camera") if isinstance(cameras, (list, tuple)) and n < len(cameras) else None
            )
            path = np.zeros(3) if camera is None or camera.size != 3 else camera.reshape(3)
            rotations = np.concatenate([root.reshape(1, 9), limbs.reshape(-1, 9)])
            people.setdefault(who, []).append((time[0] if time else number, rotations, path))
    return [
        SmplTrack(
            "4D-Humans",
            _stack([rotations for _, rotations, _ in rows]),
            np.stack([path for *_, path in rows]),
            name=f"person {who}",
            form=forms.MATRICES,
            up=up_axis.Y_DOWN,
            frames=np.array([frame for frame, *_ in rows]),
        )
        for who, rows in sorted(people.items())
    ]


def _find_tram(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """TRAM's ``hps_track_*.npy``: one person's matrices in the camera's space, and the numbers of frames."""
    if "pred_rotmat" not in data:
        return []
    values = {"poses": data["pred_rotmat"], "trans": data.get("pred_trans")}
    return read_parameters(values, "TRAM", up=up_axis.Y_DOWN, frames=_read_frames(data, "frame", "frames"))


def _find_aist(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """AIST++'s motions: Y up, 60 frames a second, the path in units of the body's scale."""
    if "smpl_poses" not in data or "smpl_trans" not in data:
        return []
    scaling = get_array(data, "smpl_scaling")
    scale = float(scaling.ravel()[0]) if scaling is not None and scaling.size else 1.0
    if not np.isfinite(scale) or scale <= 0:
        raise MotionError(f"'smpl_scaling' is {scale:g}, which is no body's size; export it again.")
    return read_parameters(data, "AIST++", up=up_axis.Y, usual_fps=60.0, unit=1 / scale)


def _find_3dpw(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """3DPW's sequences: lists of each person's poses (F, 72) and path at 30 frames a second."""
    if "cam_poses" not in data and "poses_60Hz" not in data:
        return []
    poses, paths = data.get("poses"), data.get("trans")
    if not isinstance(poses, (list, tuple)) or not isinstance(paths, (list, tuple)):
        return []
    found: list[SmplTrack] = []
    for n, (pose, path) in enumerate(zip(poses, paths, strict=False), 1):
        found += read_parameters({"poses": pose, "trans": path}, "3DPW", usual_up=up_axis.Y, name=f"person {n}")
    return found


def _find_slahmr(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """SLAHMR's results: (people, frames, ...) in the axes of the first camera."""
    if not {"root_orient", "pose_body", "trans"} <= set(data) or not {"cam_R", "floor_plane", "world_scale"} & set(data):
        return []
    return read_parameters(data, "SLAHMR", usual_up=up_axis.Y_DOWN)


def _find_grab(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """GRAB's sequences: the person's parameters lie under ``body``, beside hands and an object; Z up, 120 frames a second."""
    body = data.get("body")
    if not isinstance(body, Mapping) or not isinstance(body.get("params"), Mapping):
        return []
    rate = find_rate(data)
    return read_parameters(body["params"], "GRAB", usual_up=up_axis.Z, fps=rate, usual_fps=120.0)


def _find_motion_135(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """The 135 numbers a frame of several text-to-motion models, under their name."""
    values = get_array(data, "motion_135", "motion_198")
    if values is None or values.ndim not in (2, 3) or values.shape[-1] not in (135, 198):
        return []
    rate = find_rate(data)
    return [replace(make_135_track(rows), fps=rate) for rows in values.reshape(-1, *values.shape[-2:])]


def make_135_track(values: np.ndarray) -> SmplTrack:
    """The person of values (F, 135) and more: the path (3), then 22 rotations of 6 numbers; 30 frames a second, Y up."""
    rotations = values[:, 3:135].reshape(len(values), 22, 6)
    return SmplTrack("135-number vectors", rotations, values[:, :3], usual_form=forms.ROWS)


def make_motion_x_track(values: np.ndarray) -> SmplTrack:
    """The person of Motion-X's values (F, 322), 30 frames a second: root (3), body (63), hands, face, then the path at 309:312."""
    return SmplTrack("Motion-X", values[:, :66].reshape(len(values), 22, 3), values[:, 309:312], form=forms.AXIS_ANGLE)


def _find_mocap(data: Mapping[Any, Any]) -> list[SmplTrack]:
    """AMASS, BEAT2, SMPL-X and HY-Motion archives, and whatever else has poses and a path."""
    rate = find_rate(data)
    is_hy = "Rh" in data and not rate
    title = "HY-Motion" if is_hy else "AMASS" if {"mocap_framerate", "mocap_frame_rate"} & set(data) else "SMPL parameters"
    usual = up_axis.Z if title == "AMASS" and "expressions" not in data else up_axis.Y
    return read_parameters(data, title, usual_up=usual, fps=rate)


_SOURCES: tuple[Callable[[Mapping[Any, Any]], list[SmplTrack]], ...] = (
    _find_gvhmr,
    _find_wham,
    _find_prompthmr,
    _find_phalp,
    _find_tram,
    _find_aist,
    _find_3dpw,
    _find_slahmr,
    _find_grab,
    _find_motion_135,
    _find_mocap,
)


def _find_nested(data: Any, depth: int) -> list[SmplTrack]:
    """Parameters in the mappings or the list inside a value: one person each, or one frame each."""
    if depth >= MAX_NESTING:
        return []
    if isinstance(data, Mapping):
        for key in NESTS:
            if isinstance(data.get(key), (Mapping, list, tuple)):
                found = _find_in(data[key], depth)
                if found:
                    rate = find_rate(data)
                    return [replace(track, fps=track.fps or rate) for track in found]
        people = [(key, value) for key, value in data.items() if isinstance(value, Mapping)][: MAX_PEOPLE + 1]
        named = [replace(track, name=f"person {_label(key)}") for key, value in people for track in _find_in(value, depth)]
        return _join_frames(named) if named else []
    if isinstance(data, (list, tuple)) and data and all(isinstance(part, Mapping) for part in data):
        found = [track for part in data for track in _find_in(part, depth)]
        return _join_frames(found)
    return []


def _find_in(data: Any, depth: int) -> list[SmplTrack]:
    if isinstance(data, Mapping):
        for find in _SOURCES:
            found = find(data)
            if found:
                return found
    return _find_nested(data, depth + 1)


def _join_frames(tracks: list[SmplTrack]) -> list[SmplTrack]:
    """One track of many of a single frame each; several people stay several."""
    if len(tracks) < 2 or any(track.frame_count != 1 for track in tracks):
        return tracks
    if len({track.rotations.shape for track in tracks}) > 1 or len({track.path is None for track in tracks}) > 1:
        return tracks
    path = None if tracks[0].path is None else np.concatenate([track.path for track in tracks if track.path is not None])
    return [replace(tracks[0], name="", rotations=np.concatenate([track.rotations for track in tracks]), path=path)]


def _read_frames(data: Mapping[Any, Any], *names: str) -> np.ndarray | None:
    frames = get_array(data, *names)
    if frames is None or frames.dtype.kind not in "iuf" or not np.isfinite(frames.astype(np.float64)).all():
        return None
    return frames.ravel().astype(np.int64)


def _list_numbers(value: Any) -> list[int]:
    if isinstance(value, (int, np.integer)):
        return [int(value)]
    parts: Iterable[Any] = value if isinstance(value, (list, tuple)) else value.ravel() if isinstance(value, np.ndarray) else ()
    out = []
    for part in parts:
        try:
            out.append(int(np.asarray(part).ravel()[0]))
        except (TypeError, ValueError, IndexError, OverflowError):
            out.append(0)
    return out


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    counts = {len(row) for row in rows}
    if len(counts) != 1:
        raise MotionError("its frames have different numbers of joints; export it again.")
    return np.stack(rows)


def _label(key: Any) -> str:
    text = str(key)[:40]
    return "".join(letter if letter.isprintable() else " " for letter in text)
