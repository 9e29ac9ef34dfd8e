"""Motion files -> typed motions: the clips of a file are listed first, then decoded one at a time. No bpy.

What a file is, its bytes say, not its name: ``.npy`` and ``.npz`` of numpy, pickles and joblib's, torch's ``.pt``, EasyMocap's
JSON. Which motion is in it, ``model_results.py``, ``smpl_sources.py`` and ``arrays.py`` find. BVH is read by ``bvh.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...shared.compressed import decompress, is_compressed
from ...shared.files import read_file, read_start
from ...shared.motion import MotionError
from ...shared.npy import MAGIC, read_header, read_npy, unpack_npz
from ...shared.pickled import PickleError
from ...shared.torch_files import LEGACY_MAGIC, is_torch_zip
from ..character.unpickling import load_npy_object, load_pickle, load_torch, to_array
from . import easymocap, file_kinds
from .arrays import open_array
from .clips import MAX_CLIPS, Clip, MotionFile, clean_text
from .joint_clips import make_joint_clip
from .model_results import list_texts, open_model_results
from .smpl_sources import find_tracks
from .smpl_tracks import name_people
from .track_decoding import ReadOptions
from .tracks_to_clips import make_track_file

__all__ = ["BUNDLED", "SUFFIXES", "Clip", "MotionFile", "ReadOptions", "read"]

BUNDLED = Path(__file__).resolve().parent / "data" / "results.npy"
MAX_BYTES = 1 << 30
#: an archive may unpack to this many times its size, and ``FREE`` bytes more; so may a compressed pickle
RATIO, FREE, FREE_PICKLE = 8, 128 << 20, 48 << 20
#: endings of the files that the import dialog offers and that can be dropped into the viewport
SUFFIXES = (".npy", ".npz", ".bvh", ".pkl", ".pickle", ".joblib", ".pt", ".pth", ".json")


def read(path: Path | str, statistics: Path | None = None, options: ReadOptions | None = None) -> MotionFile:
    """Open a motion file, or EasyMocap's folder of JSON files.

    ``statistics`` is the folder of HumanML3D's ``Mean.npy`` and ``Std.npy``, for vectors that are still normalised; the
    file's own folder by default. ``options`` say what the file does not. Raises ``MotionError``, one sentence, for any file that
    cannot be read; it says what the file is where that can be seen.
    """
    path, options = Path(path), options or ReadOptions()
    try:
        file = _open(path, statistics, options)
    except FileNotFoundError:
        raise MotionError(f"There is no motion file at {path}; check the path.") from None
    except PickleError as error:
        raise MotionError(f"{path.name} was refused: {error}.") from error
    except OSError as error:
        raise MotionError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except MotionError as error:
        raise MotionError(_begin_with_name(path.name, str(error))) from error
    except (IndexError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise MotionError(f"{path.name} cannot be read: its parts do not fit each other; export it again.") from error
    except (ValueError, MemoryError) as error:
        reason = str(error).rstrip(".") or "there is not enough memory"
        raise MotionError(f"{path.name} cannot be read: {reason}.") from error
    if len(file.clips) > MAX_CLIPS:
        raise MotionError(f"{path.name} claims to have {len(file.clips)} motions; choose a file with fewer.")
    return file


def _begin_with_name(name: str, text: str) -> str:
    if text.startswith(name):
        return text
    return f"{name}: {text}" if text.split(" ")[0] in ("it", "its", "the", "their", "a", "'smpl_scaling'") else f"{name} {text}"


def _open(path: Path, statistics: Path | None, options: ReadOptions) -> MotionFile:
    if path.is_dir():
        return _open_json(path, options)
    start = read_start(path, file_kinds.HEAD)
    kind = file_kinds.name_by_start(start, path.suffix.lower())
    if kind:
        raise MotionError(f"{kind}.")
    if path.suffix.lower() == ".json" or start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return _open_json(path, options)
    value = _load(read_file(path, MAX_BYTES), path)
    with np.errstate(all="ignore"):
        if isinstance(value, (Mapping, list, tuple)):
            file = _open_value(path, value, options)
            if file is not None:
                return file
        try:
            array = to_array(value)
        except (ValueError, MemoryError):
            raise MotionError("does not contain numbers; choose a results.npy of MDM or an array of joints.") from None
        return open_array(path, array, statistics, options)


def _load(content: bytes, path: Path) -> Any:
    """The value of a file: arrays, texts, and lists and mappings of them."""
    if content.startswith(b"PK"):
        if is_torch_zip(content):
            return load_torch(content)
        return _load_npz(content)
    if content.startswith(LEGACY_MAGIC):
        return load_torch(content)
    if content.startswith(MAGIC):
        return load_npy_object(content)
    if is_compressed(content):
        content = decompress(content, RATIO * len(content) + FREE_PICKLE)
        if content[257:262] == b"ustar":
            raise MotionError(f"{file_kinds.ARCHIVE}.")
    if path.suffix.lower() in (".npy", ".npz") and content[:1] != b"\x80":
        raise ValueError("it is not a NumPy file")
    return load_pickle(content)


def _load_npz(content: bytes) -> dict[str, Any]:
    """The values of an ``.npz`` archive by name; those of Python's objects that are none of data are left out."""
    unpacked = unpack_npz(content, RATIO, FREE)
    if unpacked and not any(value.startswith(MAGIC) for value in unpacked.values()):
        raise MotionError(f"{file_kinds.ARCHIVE}.")
    found: dict[str, Any] = {}
    for name, value in unpacked.items():
        if read_header(value)[0] not in ("|O", "O"):
            found[name] = read_npy(value)
            continue
        try:
            found[name] = load_npy_object(bytes(value))
        except ValueError:
            continue
    return found


def _open_json(path: Path, options: ReadOptions) -> MotionFile:
    tracks, joints = easymocap.read_people(path)
    if tracks:
        return make_track_file(path, name_people(tracks), options)
    clips = [make_joint_clip(name, points, options) for name, points in joints.items()]
    choices = {"up_axis"} | ({"person"} if len(clips) > 1 else set())
    return MotionFile(path, "EasyMocap's joints", tuple(clips), frozenset(choices))


def _open_value(path: Path, value: Any, options: ReadOptions) -> MotionFile | None:
    """The motion in a mapping or a list; None for lists that may be an array."""
    if isinstance(value, Mapping):
        data = {clean_text(key) if isinstance(key, bytes) else key: part for key, part in value.items()}
        kind = file_kinds.name_by_keys(data)
        if kind and not {"poses", "body_pose"} & set(data):
            raise MotionError(f"{kind}.")
        file = open_model_results(path, data, options)
        if file is not None:
            return file
        value = data
    tracks = find_tracks(value)
    if tracks:
        texts = list_texts(value) if isinstance(value, Mapping) else []
        return make_track_file(path, tracks, options, (texts or [""])[0])
    if not isinstance(value, Mapping):
        return None
    inner = ", ".join(clean_text(key) for key in sorted(map(str, value)))[:80]
    known = "MDM's results.npy has 'motion' and 'lengths', AMASS has 'poses' and 'trans'"
    raise MotionError(f"{path.name} is not a known motion file ({known}); it contains {inner}.")
