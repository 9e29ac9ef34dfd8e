"""Arrays without names, as ``.npy`` files hold them -> clips: joints, rotations or a model's vectors, by their shape. No bpy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ...shared.files import read_file
from ...shared.motion import MotionError
from ...shared.npy import read_npy
from ...shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT
from . import file_kinds, layouts, representations
from .clips import MAX_CLIPS, Clip, MotionFile
from .joint_clips import make_joint_clip
from .joint_layouts import LAYOUTS, looks_like_joints
from .layouts import DecodedMotion
from .smpl_sources import make_135_track, make_motion_x_track
from .smpl_tracks import WITH_ROOT, WITHOUT_ROOT, SmplTrack, split_joints
from .track_decoding import ReadOptions
from .tracks_to_clips import make_track_file

#: bytes of a mean or a standard deviation
MAX_STATISTICS = 1 << 20
POSITIONS, ROTATIONS = "POSITIONS", "ROTATIONS"
#: numbers a frame of the vectors that are read here
VECTOR_135, VECTOR_201, VECTOR_251, VECTOR_262, VECTOR_322 = 135, 201, 251, 262, 322
#: lengths of features and embeddings
_FEATURES = (384, 512, 768, 1024, 1280, 2048, 4096)
_COUNTS = tuple(sorted({layout.count for layout in LAYOUTS}))
#: radians: joints' rotations are smaller on average, and positions in metres or millimetres mostly are not
_MOST_ROTATION, _LEAST_BEND = 1.2, 0.02


def open_array(path: Path, array: np.ndarray, statistics: Path | None, options: ReadOptions) -> MotionFile:
    """The clips of an array of numbers. Raises ``MotionError``, what comes after the file's name, for other arrays."""
    if array.dtype.kind not in "fiu":
        raise MotionError("does not contain numbers; choose a results.npy of MDM or an array of joints.")
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.dtype == np.uint8 and array.ndim in (3, 4) and array.shape[-1] in (3, 4) and min(array.shape[-3:-1]) >= 16:
        raise MotionError("holds pictures, not a motion; run a pose estimator such as GVHMR on them and import its result.")
    if array.ndim == 0:
        raise MotionError("holds a single number, which is no motion.")
    if array.ndim == 1:
        kind = file_kinds.STATISTICS if len(array) in (VECTOR_251, layouts.VECTOR_263, layouts.VECTOR_272) else file_kinds.FEATURES
        raise MotionError(f"{kind}." if len(array) > 9 else f"holds {len(array)} numbers, which are no motion.")
    vectors = _open_vectors(path, array, statistics, options)
    return vectors or _open_joints_or_rotations(path, array, options)


def _open_vectors(path: Path, array: np.ndarray, statistics: Path | None, options: ReadOptions) -> MotionFile | None:
    """A file of vectors (F, V) or (P, F, V) of a known length V; None for others."""
    if array.ndim not in (2, 3):
        return None
    size = array.shape[-1]
    if size == VECTOR_262 and array.ndim == 3 and array.shape[1] == 2 and array.shape[0] != 2:
        array = array.swapaxes(0, 1)  # InterGen keeps both people of a frame together
    rows = [array] if array.ndim == 2 else list(array[: MAX_CLIPS + 1])
    names = [path.stem] if len(rows) == 1 else [f"{path.stem} {n}" for n in range(len(rows))]
    if size == layouts.VECTOR_263:
        folder = statistics or path.parent
        clips = [_make_humanml_clip(name, row, folder) for name, row in zip(names, rows, strict=True)]
        return MotionFile(path, "HumanML3D vectors", tuple(clips))
    if size in layouts.VECTOR_LAYOUTS:
        layout = layouts.VECTOR_LAYOUTS[size]
        clips = [Clip(name, len(row), layout.fps, partial(layout.decode, row)) for name, row in zip(names, rows, strict=True)]
        return MotionFile(path, layout.name, tuple(clips))
    if size in (VECTOR_135, VECTOR_201):
        # HY-Motion's 201 numbers are the 135 before its joints
        usual = representations.INTERLEAVED if size == VECTOR_201 else representations.ROWS
        title = "HY-Motion's 201-number vectors" if size == VECTOR_201 else "135-number vectors"
        tracks = [replace(make_135_track(row), source=title, usual_form=usual) for row in rows]
        return make_track_file(path, _name(tracks, names), options)
    if size == VECTOR_322:
        return make_track_file(path, _name([make_motion_x_track(row) for row in rows], names), options)
    if size == VECTOR_262:
        joints = [row[:, : HUMANML_JOINT_COUNT * 3].reshape(len(row), HUMANML_JOINT_COUNT, 3) for row in rows]
        people = [path.stem] if len(rows) == 1 else [f"person {n}" for n in range(1, len(rows) + 1)]
        clips = [make_joint_clip(name, row, options, usual_fps=30.0) for name, row in zip(people, joints, strict=True)]
        choices = {"up_axis"} | ({"person"} if len(clips) > 1 else set())
        return MotionFile(path, "InterHuman vectors", tuple(clips), frozenset(choices))
    if size == VECTOR_251:
        raise MotionError(
            "holds KIT's 251-number vectors, whose mean and deviation differ from model to model; save its joints (frames, 21, 3)."
        )
    return None


def _name(tracks: list[SmplTrack], names: list[str]) -> list[SmplTrack]:
    return [replace(track, name=name) for track, name in zip(tracks, names, strict=True)]


def _open_joints_or_rotations(path: Path, array: np.ndarray, options: ReadOptions) -> MotionFile:
    rotations = split_joints(array, WITH_ROOT)
    limbs = split_joints(array, WITHOUT_ROOT) if rotations is None else None
    joints = _split_positions(array)
    kind = _decide(joints, rotations, limbs, options)
    if kind == POSITIONS and joints is not None:
        names = [path.stem] if len(joints) == 1 and array.ndim < 4 else [f"{path.stem} {n}" for n in range(len(joints))]
        clips = tuple(make_joint_clip(name, row, options) for name, row in zip(names, joints[: MAX_CLIPS + 1], strict=False))
        choices = {"up_axis"} | ({"layout"} if rotations is not None or limbs is not None else set())
        return MotionFile(path, "joints", clips, frozenset(choices))
    values = rotations
    notes: tuple[str, ...] = ()
    if values is None and limbs is not None:
        values, notes = _add_root(limbs), ("the pelvis does not turn: the file has only the body's rotations",)
    if values is None:
        raise MotionError(_refuse(array))
    tracks = [SmplTrack("rotations of SMPL's joints", rows, notes=notes) for rows in values[: MAX_CLIPS + 1]]
    file = make_track_file(
        path, _name(tracks, [f"person {n}" if len(tracks) > 1 else "" for n in range(1, len(tracks) + 1)]), options
    )
    return replace(file, choices=file.choices | ({"layout"} if joints is not None else set()))


def _split_positions(array: np.ndarray) -> np.ndarray | None:
    """(N, F, J, 3 or 4) of positions in the shapes that models write; None for other shapes."""
    if array.ndim in (3, 4) and array.shape[-1] == 3 and (array.shape[-2] > 3 or array.ndim == 3):
        return array.reshape(-1, *array.shape[-3:])
    if array.ndim in (3, 4) and array.shape[-1] == 4 and array.shape[-2] in _COUNTS:
        return array.reshape(-1, *array.shape[-3:])
    if array.ndim == 2 and array.shape[1] % 3 == 0 and array.shape[1] // 3 in _COUNTS:
        return array.reshape(1, len(array), -1, 3)
    return None


def _decide(joints: np.ndarray | None, rotations: np.ndarray | None, limbs: np.ndarray | None, options: ReadOptions) -> str:
    values = rotations if rotations is not None else limbs
    if options.layout in (POSITIONS, ROTATIONS):
        return options.layout
    if joints is None or values is None:
        return POSITIONS if values is None else ROTATIONS
    if values.shape[-1] != 3:
        # quaternions have length 1, and positions with a confidence hardly ever
        lengths = np.linalg.norm(np.asarray(values[0, :200], np.float64), axis=-1)
        return ROTATIONS if lengths.size and np.abs(lengths - 1).mean() < 0.05 else POSITIONS
    if joints.shape[2] in _COUNTS and looks_like_joints(joints[0]):
        return POSITIONS
    return ROTATIONS if _look_like_rotations(values[0], rotations is None) else POSITIONS


def _look_like_rotations(values: np.ndarray, without_root: bool) -> bool:
    """Whether values (F, J, 3) can be axis-angle vectors of a body: small, and knees and elbows bend as they can."""
    sample = np.asarray(values[:2000], np.float64)
    if not len(sample) or not np.isfinite(sample).all():
        return False
    body = sample if without_root else sample[:, 1:]
    if np.linalg.norm(body, axis=-1).mean() > _MOST_ROTATION or np.linalg.norm(body, axis=-1).max() > 2 * np.pi:
        return False
    whole = _add_root(sample[None])[0] if without_root else sample
    return representations.measure_bends(representations.to_matrices(whole[:, :22], representations.AXIS_ANGLE)) > _LEAST_BEND


def _add_root(limbs: np.ndarray) -> np.ndarray:
    """(P, F, J + 1, K) with a pelvis that does not turn before the rotations (P, F, J, K)."""
    still = {3: [0, 0, 0], 4: [1, 0, 0, 0], 6: [1, 0, 0, 0, 1, 0], 9: [1, 0, 0, 0, 1, 0, 0, 0, 1]}[limbs.shape[-1]]
    root = np.broadcast_to(np.array(still, limbs.dtype), (*limbs.shape[:2], 1, limbs.shape[-1]))
    return np.concatenate([root, limbs], 2)


def _refuse(array: np.ndarray) -> str:
    shape = array.shape
    if shape[-1] in _FEATURES:
        return f"{file_kinds.FEATURES} (its shape is {shape})."
    if (array.ndim == 2 and shape[-1] == 2) or (array.ndim == 3 and shape[-1] == 2):
        return f"holds points in a picture (its shape is {shape}), not a motion in space; import a pose estimator's result."
    return (
        f"has the shape {shape}, which is no known motion: joints are (frames, 22, 3), SMPL's rotations (frames, 72) or "
        "(frames, 165), HumanML3D's vectors (frames, 263); save it in one of them."
    )


def _make_humanml_clip(name: str, vectors: np.ndarray, statistics: Path) -> Clip:
    return Clip(name, len(vectors), HUMANML_FPS, lambda: DecodedMotion(_decode_humanml(vectors, statistics), HUMANML_FPS))


def _decode_humanml(vectors: np.ndarray, statistics: Path) -> np.ndarray:
    if not layouts.is_normalised(vectors):
        return layouts.humanml_to_joints(vectors)
    found = []
    for name in ("Mean.npy", "Std.npy"):
        try:
            found.append(read_npy(read_file(statistics / name, MAX_STATISTICS)).astype(np.float64))
        except FileNotFoundError:
            raise MotionError(f"the vectors are normalised; put HumanML3D's Mean.npy and Std.npy into {statistics}.") from None
        except OSError as error:
            raise MotionError(f"{name} cannot be read: {error.strerror or error}.") from error
        except (ValueError, TypeError) as error:
            raise MotionError(f"{name} cannot be read: {error}.") from error
    return layouts.humanml_to_joints(layouts.denormalise(vectors, *found))
