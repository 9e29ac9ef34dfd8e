"""The people in a file of SMPL parameters, as motion capture, pose estimators and text-to-motion models write them. No bpy.

A source is recognised by the names in its file, each in a function of its own, which says whose numbers they are, which frames
they belong to, and in which axes they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...shared.motion import MotionError
from . import representations as forms
from . import up_axis
from .smpl_tracks import MAX_PEOPLE, SmplTrack, find_rate, get_array, name_people, read_parameters

MAX_NESTING = 3
#: under which keys other programs nest the parameters
NESTS = ("smpl_params", "smplx_params", "smpl", "smplx", "params", "body", "parameters", "smpl_param", "result", "results", "data")


def find_tracks(data: Any) -> list[SmplTrack]:
    """The people in a file's value; empty when it holds no SMPL parameters.

    Raises ``MotionError`` for parameters that do not fit each other.
    """
    return name_people(_find_in(data))


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
    people: dict[int, list[tuple[int, np.ndarray, np.ndarray | None]]] = {}
    nameless = 0
    for number, shot in enumerate(shots):
        ids = _list_numbers(shot.get("tid", shot.get("tracked_ids")))
        seen = _list_numbers(shot.get("tracked_time"))
        cameras = shot.get("camera")
        time = _list_numbers(shot.get("time"))
        nameless += max(len(shot["smpl"]) - len(ids), 0)
        for n, (who, body) in enumerate(zip(ids, shot["smpl"], strict=False)):
            # those that are not seen in a frame are kept from an earlier one
            if not isinstance(body, Mapping) or (n < len(seen) and seen[n] > 0):
                continue
            root, limbs = get_array(body, "global_orient"), get_array(body, "body_pose")
            if root is None or limbs is None or root.size != 9 or limbs.size % 9:
                continue
            camera = cameras[n] if isinstance(cameras, (list, tuple)) and n < len(cameras) else None
            rotations = np.concatenate([root.reshape(1, 9), limbs.reshape(-1, 9)])
            people.setdefault(who, []).append((time[0] if time else number, rotations, _read_place(camera)))
    notes = (f"{nameless} poses of nobody in particular are left out: the file has no track for them",) if nameless else ()
    return [replace(_make_phalp_track(f"person {who}", rows), notes=notes) for who, rows in sorted(people.items())]


def _read_place(camera: Any) -> np.ndarray | None:
    """(3,) where a person is seen; None where the file does not say."""
    place = get_array({"camera": camera}, "camera")
    return None if place is None or place.size != 3 else place.reshape(3)


def _make_phalp_track(name: str, rows: list[tuple[int, np.ndarray, np.ndarray | None]]) -> SmplTrack:
    """The person of rows (frame, (J, 9) rotations, (3,) place or None).

    Frames without a place are left out to be filled in like other missing ones; without any place the person stays in place.
    """
    rows = [row for row in rows if row[2] is not None] or rows
    places = [place for *_, place in rows if place is not None]
    return SmplTrack(
        "4D-Humans",
        _stack([rotations for _, rotations, _ in rows]),
        np.stack(places) if places else None,
        name=name,
        form=forms.MATRICES,
        up=up_axis.Y_DOWN,
        frames=np.array([frame for frame, *_ in rows]),
    )


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
    poses, paths = data.get("poses"), data.get("trans", ())
    if not isinstance(poses, (list, tuple)) or not isinstance(paths, (list, tuple)):
        return []
    notes: tuple[str, ...] = ()
    if len(poses) != len(paths):
        rest = "who has none stays in place" if len(paths) < len(poses) else "a path without poses is left out"
        notes = (f"the file has poses of {len(poses)} people and {len(paths)} paths: {rest}",)
    found: list[SmplTrack] = []
    for n, pose in enumerate(poses):
        person = {"poses": pose} | ({"trans": paths[n]} if n < len(paths) else {})
        found += read_parameters(person, "3DPW", usual_up=up_axis.Y, name=f"person {n + 1}", notes=notes)
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


def _find_in(data: Any, depth: int = 0) -> list[SmplTrack]:
    """The people of a value of a known source, or of one inside it."""
    if isinstance(data, Mapping):
        for find in _SOURCES:
            found = find(data)
            if found:
                return found
    return _find_nested(data, depth)


def _find_nested(data: Any, depth: int) -> list[SmplTrack]:
    """Parameters in the mappings or the list inside a value: one person each, or one frame each."""
    if depth >= MAX_NESTING:
        return []
    if isinstance(data, Mapping):
        for key in NESTS:
            if isinstance(data.get(key), (Mapping, list, tuple)):
                found = _find_in(data[key], depth + 1)
                if found:
                    rate = find_rate(data)
                    return [replace(track, fps=track.fps or rate) for track in found]
        people = [(key, value) for key, value in data.items() if isinstance(value, Mapping)][: MAX_PEOPLE + 1]
        named = [replace(track, name=f"person {_label(key)}") for key, value in people for track in _find_in(value, depth + 1)]
        return _join_frames(named) if named else []
    if isinstance(data, (list, tuple)) and data and all(isinstance(part, Mapping) for part in data):
        found = [track for part in data for track in _find_in(part, depth + 1)]
        return _join_frames(found)
    return []


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
