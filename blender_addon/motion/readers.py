"""Motion files -> typed motions: the clips of a file are listed first, then decoded one at a time. No bpy.

``.npy``: MDM's ``results.npy`` and ``*_smpl_params.npy``, joints (MoMask, T2M-GPT, MLD, MotionGPT), HumanML3D vectors
(263 numbers a frame), 272-number vectors. ``.npz``: AMASS SMPL+H and SMPL-X, HY-Motion. BVH is read by
``bvh.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...shared.files import read_file
from ...shared.motion import MAX_FRAMES, Motion, MotionError
from ...shared.npy import read_npy, read_plain_npz
from ...shared.pickled import PickleError
from ...shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT
from ..character.unpickling import Discarded, load_npy_object, to_array
from . import layouts
from .layouts import DecodedMotion

BUNDLED = Path(__file__).resolve().parent / "data" / "results.npy"
MAX_BYTES = 1 << 30
#: an archive may unpack to this many times its size, and ``FREE`` bytes more
RATIO, FREE = 8, 128 << 20
#: motions of a file; bytes of a mean or a standard deviation; characters of a clip's text, and its sentences
MAX_CLIPS, MAX_STATISTICS, MAX_TEXT, MAX_PARTS = 10_000, 1 << 20, 1000, 20
#: what may hold texts in a file of Python's values
TEXTS = ("text", "caption")
#: endings of the files that the import dialog offers and that can be dropped into the viewport
SUFFIXES = (".npy", ".npz", ".bvh")


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
        if chosen.frames > MAX_FRAMES:
            raise MotionError(f"{self.path.name} has {chosen.frames} frames, more than the limit of {MAX_FRAMES}; shorten it.")
        try:
            with np.errstate(all="ignore"):
                decoded = chosen.decode()
        except MotionError as error:
            raise MotionError(f"{self.path.name}: {error}") from error
        except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
            raise MotionError(f"{self.path.name} cannot be read as {self.layout}: {error}.") from error
        return Motion.from_joints(decoded.joints, fps or decoded.fps, self.path.name, chosen.text, decoded.rotations)


def read(path: Path | str, statistics: Path | None = None) -> MotionFile:
    """Open a ``.npy`` or ``.npz`` motion file.

    ``statistics`` is the folder of HumanML3D's ``Mean.npy`` and ``Std.npy``, for vectors that are still normalised; the
    file's own folder by default. Raises ``MotionError``, one sentence, for any file that cannot be read.
    """
    path = Path(path)
    try:
        content = read_file(path, MAX_BYTES)
        value = read_plain_npz(content, RATIO, FREE) if content.startswith(b"PK") else load_npy_object(content)
    except FileNotFoundError:
        raise MotionError(f"There is no motion file at {path}; check the path.") from None
    except PickleError as error:
        raise MotionError(f"{path.name} was refused: {error}.") from error
    except OSError as error:
        raise MotionError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except (ValueError, MemoryError) as error:
        reason = str(error).rstrip(".") or "there is not enough memory"
        raise MotionError(f"{path.name} cannot be read: {reason}.") from error
    del content
    file = _open_dict(path, _keep_data(value)) if isinstance(value, dict) else _open_array(path, value, statistics)
    if len(file.clips) > MAX_CLIPS:
        raise MotionError(f"{path.name} claims to have {len(file.clips)} motions; choose a file with fewer.")
    return file


def _keep_data(data: dict[Any, Any]) -> dict[str, Any]:
    """The arrays and the texts of a file; what is neither can be named, but has no numbers."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        name = _clean(key)
        if name in TEXTS:
            out[name] = _list_texts(value)
            continue
        try:
            out[name] = to_array(value)
        except (ValueError, MemoryError):
            out[name] = Discarded()
    return out


def _list_texts(value: Any) -> list[str]:
    if isinstance(value, np.ndarray):
        # each is as long as the longest, and most of them are not looked at
        value = [value.flat[n] for n in range(min(value.size, MAX_CLIPS))]
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [_clean(part) for part in parts[:MAX_CLIPS]]


def _clean(text: Any) -> str:
    """A text of the file's, fit for a list."""
    if isinstance(text, bytes):
        text = text[:MAX_TEXT].decode("utf-8", "replace")
    elif isinstance(text, (list, tuple)):
        # several sentences of one motion (DiP)
        text = " | ".join(_clean(part) for part in text[:MAX_PARTS] if isinstance(part, (str, bytes)))
    elif not isinstance(text, (str, int, float, np.generic)):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:MAX_TEXT])


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
    if "vectors" in data or {"joints", "fps", "seed"} <= set(data):
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
        frames = len(np.atleast_1d(data["poses" if "poses" in data else "root_orient"]))
        return MotionFile(path, name, (Clip(_read_text(data, path), frames, rate, lambda: decode(data)),))
    known = "MDM's results.npy has 'motion' and 'lengths', AMASS has 'poses' and 'trans'"
    raise MotionError(f"{path.name} is not a known motion file ({known}); it contains {', '.join(sorted(map(str, data)))[:80]}.")


def _read_text(data: dict[str, Any], path: Path) -> str:
    texts = data.get("text") or data.get("caption") or [""]
    return texts[0] or path.stem


def _open_results(path: Path, data: dict[str, Any]) -> MotionFile:
    try:
        motion, lengths = to_array(data["motion"]), to_array(data["lengths"]).ravel().astype(int)
        samples = int(np.ravel(data.get("num_samples", len(motion)))[0]) or len(motion)
    except (TypeError, ValueError, IndexError, OverflowError):
        raise MotionError(f"{path.name} does not contain numbers where MDM puts its motion; export it again.") from None
    if motion.ndim != 4 or motion.shape[2] != 3 or len(lengths) != len(motion) or motion.dtype.kind not in "fiu":
        raise MotionError(f"{path.name} contains motion of the shape {motion.shape}, expected (clips, 22, 3, frames).")
    texts = data.get("text", [])
    clips = []
    for n, (row, length) in enumerate(zip(motion[: MAX_CLIPS + 1], lengths, strict=False)):
        name = texts[n] if n < len(texts) else f"clip {n}"
        if len(motion) > samples > 0:
            name += f" (take {n // samples + 1})"
        joints = row[..., : max(int(length), 0)].transpose(2, 0, 1)
        clips.append(Clip(name, len(joints), HUMANML_FPS, partial(DecodedMotion, joints, HUMANML_FPS)))
    return MotionFile(path, "MDM's results", tuple(clips))


def _decode_vectors(row: np.ndarray, rate: float) -> DecodedMotion:
    return DecodedMotion(layouts.humanml_to_joints(row), rate)


def _open_generated(path: Path, data: dict[str, Any]) -> MotionFile:
    """A file of ``latentman motion``, one clip for each variant: HumanML3D vectors (N, F, 263) in their own units, or joints
    (N, F, 22, 3) and perhaps local rotations (N, F, 24, 4)."""
    try:
        name = "vectors" if "vectors" in data else "joints"
        rows, rate = to_array(data[name]), float(np.ravel(data.get("fps", HUMANML_FPS))[0])
        rotations = to_array(data["rotations"]) if "rotations" in data else None
    except (TypeError, ValueError, IndexError):
        raise MotionError(f"{path.name} does not contain numbers where the motion should be; make it again.") from None
    each = (layouts.VECTOR_263,) if name == "vectors" else (HUMANML_JOINT_COUNT, 3)
    if rows.ndim != 2 + len(each) or rows.shape[2:] != each or rows.dtype.kind not in "fiu":
        expected = ", ".join(map(str, each))
        raise MotionError(f"{path.name} contains {name} of the shape {rows.shape}, expected (variants, frames, {expected}).")
    if rotations is not None and (rotations.shape[:2] != rows.shape[:2] or rotations.dtype.kind not in "fiu"):
        raise MotionError(
            f"{path.name} contains rotations of the shape {rotations.shape}, which do not fit its {name}; make it again."
        )

    def decode(n: int) -> DecodedMotion:
        if name == "vectors":
            return _decode_vectors(rows[n], rate)
        return DecodedMotion(rows[n], rate, None if rotations is None else rotations[n].astype(np.float64))

    text = _read_text(data, path)
    return MotionFile(
        path,
        "motion from text",
        tuple(
            Clip(f"{text} ({n + 1})" if len(rows) > 1 else text, len(row), rate, partial(decode, n))
            for n, row in enumerate(rows[: MAX_CLIPS + 1])
        ),
    )


def _open_array(path: Path, value: Any, statistics: Path | None) -> MotionFile:
    try:
        array = to_array(value)
    except (ValueError, MemoryError):
        raise MotionError(f"{path.name} does not contain numbers; choose a results.npy of MDM or an array of joints.") from None
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.dtype.kind not in "fiu":
        raise MotionError(f"{path.name} does not contain numbers; choose a results.npy of MDM or an array of joints.")
    if (
        array.ndim == 3
        and array.shape[0] == 1
        and (array.shape[2] == layouts.VECTOR_263 or array.shape[2] in layouts.VECTOR_LAYOUTS)
    ):
        array = array[0]
    if array.ndim == 2 and array.shape[1] == layouts.VECTOR_263:
        return MotionFile(
            path,
            "HumanML3D vectors",
            (
                Clip(
                    path.stem,
                    len(array),
                    HUMANML_FPS,
                    lambda: DecodedMotion(_decode_humanml(array, statistics or path.parent), HUMANML_FPS),
                ),
            ),
        )
    if array.ndim == 2 and array.shape[1] in layouts.VECTOR_LAYOUTS:
        layout = layouts.VECTOR_LAYOUTS[array.shape[1]]
        return MotionFile(path, layout.name, (Clip(path.stem, len(array), layout.fps, lambda: layout.decode(array)),))
    if array.ndim == 2 and array.shape[1] == HUMANML_JOINT_COUNT * 3:
        array = array.reshape(len(array), HUMANML_JOINT_COUNT, 3)
    if array.ndim == 4 and array.shape[3] == 3:
        return MotionFile(
            path, "joints", tuple(_make_joints_clip(f"{path.stem} {n}", row) for n, row in enumerate(array[: MAX_CLIPS + 1]))
        )
    return MotionFile(path, "joints", (_make_joints_clip(path.stem, array),))


def _make_joints_clip(name: str, joints: np.ndarray) -> Clip:
    return Clip(name, len(np.atleast_1d(joints)), HUMANML_FPS, lambda: DecodedMotion(joints, HUMANML_FPS))


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
