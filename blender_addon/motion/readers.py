"""Motion files -> typed motions: the clips of a file are listed first, then decoded one at a time. No bpy.

``.npy``: MDM's ``results.npy`` and ``*_smpl_params.npy``, joints (MoMask, T2M-GPT, MLD, MotionGPT), HumanML3D vectors
(263 numbers a frame), 272-number vectors. ``.npz``: AMASS SMPL+H and SMPL-X, HY-Motion. BVH comes through Blender's
own importer, see ``rigging/bvh.py``.
"""

from __future__ import annotations

import tokenize
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...shared.motion import Motion, MotionError
from ...shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT
from ..character.unpickling import UnsafePickleError, load_npy_object, read_plain_arrays
from . import layouts
from .layouts import DecodedMotion

BUNDLED = Path(__file__).resolve().parent / "data" / "results.npy"
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Clip:
    """One motion in a file: its text, its length in frames, its rate, and the function that decodes it."""

    text: str
    frames: int
    fps: float
    decode: Callable[[], DecodedMotion]


@dataclass(frozen=True)
class MotionFile:
    """The contents of a motion file: the name of its layout, and its clips."""

    path: Path
    layout: str
    clips: tuple[Clip, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each clip."""
        return tuple(clip.text for clip in self.clips)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The number of frames of each clip."""
        return tuple(clip.frames for clip in self.clips)

    def describe(self) -> list[str]:
        """The layout, then a line for each clip."""
        return [self.layout, *(f"{n}: {clip.text} · {clip.frames} frames at {clip.fps:g} fps" for n, clip in enumerate(self.clips))]

    def get_motion(self, clip: int, fps: float = 0.0) -> Motion:
        """Clip number ``clip`` as a validated motion; ``fps`` overrides the file's rate when it is not 0.

        Raises ``MotionError`` for a clip that does not exist or cannot be used.
        """
        if not 0 <= clip < len(self.clips):
            raise MotionError(f"{self.path.name} has {len(self.clips)} clips, numbered from 0; there is no clip {clip}.")
        chosen = self.clips[clip]
        try:
            with np.errstate(all="ignore"):
                decoded = chosen.decode()
        except MotionError as error:
            raise MotionError(f"{self.path.name}: {error}") from error
        except (ValueError, IndexError, TypeError, MemoryError, tokenize.TokenError) as error:
            raise MotionError(f"{self.path.name} cannot be read as {self.layout}: {error}.") from error
        return Motion.from_joints(decoded.joints, fps or decoded.fps, self.path.name, chosen.text, decoded.rotations)


def read(path: Path | str, statistics: Path | None = None) -> MotionFile:
    """Open a ``.npy`` or ``.npz`` motion file.

    ``statistics`` is the folder of HumanML3D's ``Mean.npy`` and ``Std.npy``, for vectors that are still normalised; the
    file's own folder by default. Raises ``MotionError``, one sentence, for any file that cannot be read.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MotionError(f"{path.name} is larger than a motion can be; choose another file.")
        value = _read_archive(path) if zipfile.is_zipfile(path) else load_npy_object(path.read_bytes())
    except MotionError:
        raise
    except FileNotFoundError:
        raise MotionError(f"There is no motion file at {path}; check the path.") from None
    except UnsafePickleError as error:
        raise MotionError(f"{path.name} was refused: {error}.") from error
    except (OSError, ValueError, MemoryError, EOFError, zipfile.BadZipFile, NotImplementedError, tokenize.TokenError) as error:
        # numpy reads the headers of .npy files as Python, and lets its tokenizer's errors through
        raise MotionError(f"{path.name} cannot be read: {str(error).rstrip('.') or type(error).__name__}.") from error
    if isinstance(value, dict):
        return _open_dict(path, value)
    return _open_array(path, np.asarray(value), statistics or path.parent)


def _read_archive(path: Path) -> dict[str, Any]:
    """Every plain array of an ``.npz``; arrays of Python objects are left out, an absurdly large archive is refused."""
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise MotionError(f"{path.name} unpacks to more than a motion can be; choose another file.")
    with np.load(path, allow_pickle=False) as arrays:
        return read_plain_arrays(arrays)


def _open_dict(path: Path, data: dict[str, Any]) -> MotionFile:
    if "thetas" in data and "root_translation" in data:
        shape = np.shape(data["thetas"])
        return MotionFile(
            path,
            "MDM's SMPL parameters",
            (Clip(_read_text(data, path), int(shape[-1]) if shape else 0, HUMANML_FPS, lambda: layouts.decode_smpl_params(data)),),
        )
    if "motion" in data and "lengths" in data:
        return _open_results(path, data)
    if "vectors" in data:
        return _open_generated(path, data)
    if "poses" in data or {"root_orient", "pose_body"} <= set(data):
        hy = "Rh" in data or not ({"mocap_framerate", "mocap_frame_rate"} & set(data) or "root_orient" in data)
        decode, name, rate = (layouts.decode_hy_motion, "HY-Motion", 30.0) if hy else (layouts.decode_amass, "AMASS", 120.0)
        if "trans" not in data:
            raise MotionError(f"{path.name} lacks 'trans', the positions of the root; export it again.")
        try:
            rate = layouts.read_frame_rate(data, rate)
        except MotionError as error:
            raise MotionError(f"{path.name}: {error}") from error
        frames = len(np.atleast_1d(np.asarray(data["poses" if "poses" in data else "root_orient"])))
        return MotionFile(path, name, (Clip(_read_text(data, path), frames, rate, lambda: decode(data)),))
    known = "MDM's results.npy has 'motion' and 'lengths', AMASS has 'poses' and 'trans'"
    raise MotionError(f"{path.name} is not a known motion file ({known}); it contains {', '.join(sorted(map(str, data)))[:80]}.")


def _read_text(data: dict[str, Any], path: Path) -> str:
    text = data.get("text", data.get("caption", ""))
    if isinstance(text, (list, tuple, np.ndarray)):
        text = np.ravel(np.asarray(text, dtype=object))[0] if np.size(text) else ""
    return str(text) or path.stem


def _open_results(path: Path, data: dict[str, Any]) -> MotionFile:
    try:
        motion, lengths = np.asarray(data["motion"]), np.asarray(data["lengths"]).ravel().astype(int)
    except (TypeError, ValueError):
        raise MotionError(f"{path.name} does not contain numbers where MDM puts its motion; export it again.") from None
    if motion.ndim != 4 or motion.shape[2] != 3 or len(lengths) != len(motion) or motion.dtype.kind not in "fiu":
        raise MotionError(f"{path.name} contains motion of the shape {motion.shape}, expected (clips, 22, 3, frames).")
    texts = [str(text) for text in data.get("text", [])]
    samples = int(np.ravel(data.get("num_samples", len(motion)))[0]) or len(motion)
    clips = []
    for n, (row, length) in enumerate(zip(motion, lengths, strict=True)):
        name = texts[n] if n < len(texts) else f"clip {n}"
        if len(motion) > samples > 0:
            name += f" (take {n // samples + 1})"
        joints = row[..., : max(int(length), 0)].transpose(2, 0, 1)
        clips.append(Clip(name, len(joints), HUMANML_FPS, partial(DecodedMotion, joints, HUMANML_FPS)))
    return MotionFile(path, "MDM's results", tuple(clips))


def _decode_vectors(row: np.ndarray, rate: float) -> DecodedMotion:
    return DecodedMotion(layouts.humanml_to_joints(row), rate)


def _open_generated(path: Path, data: dict[str, Any]) -> MotionFile:
    """A file of ``latentman motion``: HumanML3D vectors (N, F, 263) in their own units, one clip for each variant."""
    try:
        vectors, rate = np.asarray(data["vectors"], np.float64), float(np.ravel(data.get("fps", HUMANML_FPS))[0])
    except (TypeError, ValueError, IndexError):
        raise MotionError(f"{path.name} does not contain numbers where the motion should be; make it again.") from None
    if vectors.ndim != 3 or vectors.shape[2] != layouts.VECTOR_263:
        raise MotionError(f"{path.name} contains vectors of the shape {vectors.shape}, expected (variants, frames, 263).")
    text = _read_text(data, path)
    return MotionFile(
        path,
        "motion from text",
        tuple(
            Clip(
                f"{text} ({n})" if len(vectors) > 1 else text,
                len(row),
                rate,
                partial(_decode_vectors, row, rate),
            )
            for n, row in enumerate(vectors, 1)
        ),
    )


def _open_array(path: Path, array: np.ndarray, statistics: Path) -> MotionFile:
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.dtype.kind not in "fiu":
        raise MotionError(f"{path.name} does not contain numbers; choose a results.npy of MDM or an array of joints.")
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] in (layouts.VECTOR_263, layouts.VECTOR_272):
        array = array[0]
    if array.ndim == 2 and array.shape[1] == layouts.VECTOR_263:
        return MotionFile(
            path,
            "HumanML3D vectors",
            (Clip(path.stem, len(array), HUMANML_FPS, lambda: DecodedMotion(_decode_humanml(array, statistics), HUMANML_FPS)),),
        )
    if array.ndim == 2 and array.shape[1] == layouts.VECTOR_272:
        return MotionFile(
            path,
            "272-number vectors",
            (Clip(path.stem, len(array), layouts.VECTOR_272_FPS, lambda: layouts.decode_vectors_272(array)),),
        )
    if array.ndim == 2 and array.shape[1] == HUMANML_JOINT_COUNT * 3:
        array = array.reshape(len(array), HUMANML_JOINT_COUNT, 3)
    if array.ndim == 4 and array.shape[3] == 3:
        return MotionFile(path, "joints", tuple(_make_joints_clip(f"{path.stem} {n}", row) for n, row in enumerate(array)))
    return MotionFile(path, "joints", (_make_joints_clip(path.stem, array),))


def _make_joints_clip(name: str, joints: np.ndarray) -> Clip:
    return Clip(name, len(np.atleast_1d(joints)), HUMANML_FPS, lambda: DecodedMotion(joints, HUMANML_FPS))


def _decode_humanml(vectors: np.ndarray, statistics: Path) -> np.ndarray:
    if not layouts.is_normalised(vectors):
        return layouts.humanml_to_joints(vectors)
    found = []
    for name in ("Mean.npy", "Std.npy"):
        try:
            found.append(np.asarray(load_npy_object((statistics / name).read_bytes()), np.float64))
        except FileNotFoundError:
            raise MotionError(f"the vectors are normalised; put HumanML3D's Mean.npy and Std.npy into {statistics}.") from None
        except (OSError, ValueError, TypeError) as error:
            raise MotionError(f"{name} cannot be read: {error}.") from error
    return layouts.humanml_to_joints(layouts.denormalise(vectors, *found))
