"""The files that come with a shot that dresses a character or shows a dressed one, named by their contents in its request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from .charts import MAX_BYTES, Charts, decode_arrays, encode_arrays
from .files import read_file
from .png import is_intact_png
from .shot import ShotError, ShotRequest

#: what dresses: the charts of the character that is looked at from all sides
CHARTS = "charts"
#: what is worn: a costume's file, and images of its surfaces, by their numbers, that were painted on; costumes of other characters
#: are called costume_2 and so on, and have what was painted in their own files
COSTUME, PAINT = "costume", "paint_"
#: within a costume's file the images as they were made; those that were painted on have the names of what is worn
IMAGE = "image_"
#: a costume's file by itself is called so
SUFFIX = ".costume"
_NAMES = re.compile(f"{CHARTS}|{COSTUME}(_[0-9]{{1,3}})?|{PAINT}[0-9]{{1,5}}")


def is_costume(kept: str) -> bool:
    """Whether what a character keeps is a costume, the path of its file, and not the look of a job."""
    return kept.endswith(SUFFIX)


def name_files(files: Mapping[str, bytes]) -> str:
    """A name for files by their own names and contents."""
    digest = hashlib.blake2b(digest_size=20)
    for name in sorted(files):
        digest.update(f"{name}:{len(files[name])}:".encode())
        digest.update(files[name])
    return digest.hexdigest()


def with_files(request: ShotRequest, files: Mapping[str, bytes]) -> ShotRequest:
    """The request that names these files; without any it is as before there were such."""
    return msgspec.structs.replace(request, costume=name_files(files) if files else msgspec.UNSET)


def take_files(arrays: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """Those of a message's arrays that are such files."""
    return {name: array.reshape(-1).tobytes() for name, array in arrays.items() if _NAMES.fullmatch(name)}


def check_files(request: ShotRequest, files: Mapping[str, bytes]) -> None:
    """Raise ``ShotError`` where the files beside a request are not those that it names, or go with nothing that it asks for."""
    wanted = "" if request.costume is msgspec.UNSET else request.costume
    if sum(map(len, files.values())) > MAX_BYTES:
        raise ShotError("costume", f"The costume has more than {MAX_BYTES >> 20} MB; make a smaller one.")
    if wanted != (name_files(files) if files else ""):
        raise ShotError("costume", "The costume did not come with its shot, or is another one; generate the shot again.")
    if not files:
        return
    if CHARTS not in files and COSTUME not in files:
        raise ShotError("costume", "The shot has painted images and no costume that they belong to; choose the costume, too.")
    if any(name.startswith(PAINT) and not is_intact_png(data) for name, data in files.items()):
        raise ShotError("paint", "The painted image is not a whole PNG file; paint on it in Blender, and generate again.")
    method = request.get_method()
    if method.keyframes is None or method.fusion is None:
        raise ShotError(
            "preset", f"The preset '{request.preset}' makes no texture on the surface; costumes need surface or surface_fast."
        )


def read_costume(path: Path) -> bytes:
    """A costume's file. Raises ``ShotError`` for one that is not there, or is something else."""
    try:
        data = read_file(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ShotError(
            "costume", f"The costume {path} cannot be read ({getattr(error, 'strerror', None) or error}); choose another file."
        ) from error
    read_charts(data)
    return data


def read_charts(data: bytes) -> Charts:
    """The charts in a costume's file. Raises ``ShotError`` for what is none."""
    try:
        found = decode_arrays(data)
        if not {"cells", "values", "side"} <= set(found):
            raise ValueError("it has no colours")
        return Charts.from_arrays(found)
    except (ValueError, KeyError, TypeError) as error:
        raise ShotError("costume", f"The costume cannot be read ({error}); choose a file that Dress has made.") from error


def read_images(data: bytes, *, only_painted: bool = False) -> dict[int, bytes]:
    """The PNG files in a costume's file by their surfaces' numbers, painted ones in place of those that were made. Raises
    ``ShotError`` for a damaged file."""
    try:
        found = decode_arrays(data)
    except ValueError as error:
        raise ShotError("costume", f"The costume cannot be read ({error}); choose a file that Dress has made.") from error
    images = {}
    for prefix in (PAINT,) if only_painted else (IMAGE, PAINT):
        for name, array in found.items():
            number = name.removeprefix(prefix)
            if name.startswith(prefix) and number.isdecimal() and len(number) <= 5 and array.dtype == np.uint8:
                images[int(number)] = array.tobytes()
    if not all(map(is_intact_png, images.values())):
        raise ShotError("costume", "The costume has a damaged image; choose another file, or dress the character again.")
    return images


def read_prompt(data: bytes) -> str:
    """What was said when a costume was made. Raises ``ValueError`` or ``KeyError`` for what is no costume."""
    return str(decode_arrays(data)["prompt"]).strip()


def with_paint(data: bytes, painted: Mapping[int, bytes]) -> bytes:
    """A costume's file with images that were painted on, by their surfaces' numbers. Raises ``ShotError`` for a damaged file."""
    read_charts(data)
    arrays = decode_arrays(data)
    return encode_arrays({**arrays, **{f"{PAINT}{number}": np.frombuffer(image, np.uint8) for number, image in painted.items()}})


def add_costume(files: Mapping[str, bytes], costume: bytes) -> dict[str, bytes]:
    """The files with one more character's costume."""
    count = sum(name.startswith(COSTUME) for name in files)
    return {**files, COSTUME if not count else f"{COSTUME}_{count + 1}": costume}


def find_surface(charts: Charts, path: Path) -> int:
    """The number of the surface that an image belongs to: the only one, or that in the image's name, as in texture_2.png. Raises
    ``ShotError``."""
    if len(charts.names) == 1:
        return next(iter(charts.names))
    found = re.search(r"texture_([0-9]{1,5})", path.stem)
    if found is None or int(found[1]) not in charts.names:
        raise ShotError(
            "paint",
            f"The costume has {len(charts.names)} images, and {path.name} does not say which of them it is; call it "
            f"texture_{next(iter(charts.names), 1)}.png or as its own is called.",
        )
    return int(found[1])


def read_worn(costume: Path, paints: Sequence[Path] = ()) -> dict[str, bytes]:
    """The files of a costume that is worn, with images that were painted on. Raises ``ShotError``."""
    files = {COSTUME: read_costume(costume)}
    charts = read_charts(files[COSTUME])
    for path in paints:
        try:
            data = read_file(path, MAX_BYTES)
        except (OSError, ValueError) as error:
            raise ShotError(
                "paint", f"The image {path} cannot be read ({getattr(error, 'strerror', None) or error}); choose another one."
            ) from error
        if not is_intact_png(data):
            raise ShotError("paint", f"{path} is not a whole PNG file; save the painted image as one.")
        files[f"{PAINT}{find_surface(charts, path)}"] = data
    return files
