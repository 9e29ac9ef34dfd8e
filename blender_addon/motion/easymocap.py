"""EasyMocap's results: a JSON file for each frame with the people in it, or one file with all frames. No bpy.

The root turns the whole body about the origin (``Rh``), after which ``Th`` moves it, unlike in SMPL's own parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...shared.files import read_file
from ...shared.motion import MAX_FRAMES, MotionError
from . import up_axis
from .file_kinds import name_json, parse_json
from .representations import AXIS_ANGLE, to_vectors
from .rotations import axis_angle_to_matrix
from .smpl_tracks import FROM_TURNED_ORIGIN, SmplTrack, get_array

#: bytes of one file, and of all files of a sequence
MAX_FILE, MAX_SEQUENCE = 16 << 20, 512 << 20


def list_frames(path: Path) -> list[Path]:
    """The files of a sequence: all with a number for a name in a folder, or in that of a file with such a name."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not path.stem.isdigit():
        return [path]
    files = [file for file in folder.iterdir() if file.suffix.lower() == ".json" and file.stem.isdigit() and len(file.stem) < 10]
    if len(files) > MAX_FRAMES:
        raise MotionError(f"{folder.name} has {len(files)} frames, more than the limit of {MAX_FRAMES}; shorten it.")
    return sorted(files, key=lambda file: int(file.stem)) or [path]


def read_people(path: Path) -> tuple[list[SmplTrack], dict[str, np.ndarray]]:
    """The people of a sequence: those with SMPL parameters, and by name the joints (F, J, 4) with confidences of others.

    Raises ``MotionError`` for JSON that is none of EasyMocap's, ``OSError`` for files that cannot be read.
    """
    files = list_frames(path)
    if path.is_dir() and files == [path]:
        raise MotionError("is a folder without numbered JSON files; choose a motion file, or EasyMocap's folder 'smpl'.")
    bodies: dict[str, list[tuple[int, Mapping[Any, Any]]]] = {}
    joints: dict[str, list[tuple[int, np.ndarray]]] = {}
    total = 0
    for number, file in enumerate(files):
        content = read_file(file, MAX_FILE)
        total += len(content)
        if total > MAX_SEQUENCE:
            raise MotionError(f"has more than {MAX_SEQUENCE >> 20} MB in its frames; choose fewer.")
        try:
            data = parse_json(content)
        except ValueError as error:
            raise MotionError(f"cannot be read: {error} ({file.name}).") from error
        frame = int(file.stem) if len(files) > 1 else number
        for n, people in enumerate(_list_shots(data)):
            for person in people:
                _add_person(person, frame + n, bodies, joints)
    if not bodies and not joints:
        raise MotionError(f"{name_json(data)}.")
    tracks = [track for name, rows in sorted(bodies.items()) for track in _make_track(name, rows)]
    points = {name: _stack(rows) for name, rows in sorted(joints.items())} if not tracks else {}
    return tracks, points


def _list_shots(data: Any) -> list[list[Any]]:
    """The people of each frame: a file has a list of people, such a list for each frame, or one of them under 'annots'."""
    if isinstance(data, Mapping):
        inner = data.get("annots", data.get("smpl"))
        return _list_shots(inner) if isinstance(inner, list) else [[data]]
    if not isinstance(data, list):
        return []
    if data and all(isinstance(part, list) for part in data):
        return data[: MAX_FRAMES + 1]
    people = [part for part in data if isinstance(part, Mapping)]
    if any(isinstance(part.get("annots", part.get("smpl")), list) for part in people):
        return [shot for part in people for shot in _list_shots(part)]
    ids = [str(part.get("id", 0)) for part in people]
    if len(set(ids)) == len(ids):
        return [people]
    # the same people again and again: one entry for each frame
    shots: list[list[Any]] = []
    counts: dict[str, int] = {}
    for name, part in zip(ids, people, strict=True):
        at = counts.get(name, 0)
        counts[name] = at + 1
        if at == len(shots):
            shots.append([])
        shots[at].append(part)
    return shots


def _add_person(
    person: Any,
    frame: int,
    bodies: dict[str, list[tuple[int, Mapping[Any, Any]]]],
    joints: dict[str, list[tuple[int, np.ndarray]]],
) -> None:
    if not isinstance(person, Mapping):
        return
    label = person.get("id", person.get("personID", 0))
    name = f"person {str(label)[:20]}"
    if "Rh" in person and "Th" in person and "poses" in person:
        bodies.setdefault(name, []).append((frame, person))
    elif "keypoints3d" in person:
        points = get_array(person, "keypoints3d")
        if points is not None and points.ndim == 2 and points.shape[1] in (3, 4):
            joints.setdefault(name, []).append((frame, points))


def _make_track(name: str, rows: list[tuple[int, Mapping[Any, Any]]]) -> list[SmplTrack]:
    poses, roots, paths, frames = [], [], [], []
    for frame, person in rows:
        pose, root, path = (get_array(person, key) for key in ("poses", "Rh", "Th"))
        if pose is None or root is None or path is None or root.size % 3 or path.size != root.size or not pose.size:
            raise MotionError(f"has numbers that are none of SMPL's for {name} in frame {frame}; export it again.")
        count = root.size // 3
        body = _take_body(pose.reshape(count, -1) if pose.size % count == 0 else pose.reshape(1, -1), name)
        poses.append(body)
        roots.append(root.reshape(-1, 3))
        paths.append(path.reshape(-1, 3))
        frames += [frame + n for n in range(count)]
    body, root = np.concatenate(poses).astype(np.float64), np.concatenate(roots).astype(np.float64)
    if len(body) != len(root):
        raise MotionError(f"has different numbers of poses and roots for {name}; export it again.")
    if np.abs(body[:, 0]).max(initial=0.0) > 1e-8:
        root = to_vectors(axis_angle_to_matrix(root) @ axis_angle_to_matrix(body[:, 0]))
    return [
        SmplTrack(
            "EasyMocap",
            np.concatenate([root[:, None], body[:, 1:]], 1),
            np.concatenate(paths).astype(np.float64),
            name=name,
            form=AXIS_ANGLE,
            usual_up=up_axis.Z,
            path_from=FROM_TURNED_ORIGIN,
            frames=np.array(frames),
        )
    ]


def _take_body(pose: np.ndarray, name: str) -> np.ndarray:
    """(F, 22 or 24, 3) of poses with the pelvis's three numbers or without them; fingers and faces follow the body."""
    size = pose.shape[1]
    if size in (63, 69):
        pose = np.concatenate([np.zeros((len(pose), 3)), pose], 1)
    elif size < 66:
        raise MotionError(f"has {size} numbers of rotations for {name}, which are none of SMPL's; export it again.")
    joints = 24 if pose.shape[1] == 72 else 22
    return pose[:, : joints * 3].reshape(len(pose), joints, 3)


def _stack(rows: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """(F, J, 4) of the frames in order; frames without the person have no confidence."""
    shapes = {points.shape for _, points in rows}
    if len(shapes) != 1:
        raise MotionError("has frames with different numbers of joints; export it again.")
    count, width = shapes.pop()
    first = min(frame for frame, _ in rows)
    frames = max(frame for frame, _ in rows) - first + 1
    if frames > MAX_FRAMES:
        raise MotionError(f"has {frames} frames, more than the limit of {MAX_FRAMES}; shorten it.")
    out = np.zeros((frames, count, 4))
    for frame, points in rows:
        out[frame - first, :, :width] = points
        if width == 3:
            out[frame - first, :, 3] = 1.0
    return out
