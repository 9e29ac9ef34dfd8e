"""Clips as others make them: folders of numbered pictures of any name, lists of them, animations and films, read for a shot's
frames.

What the pictures are is said, since figures depend on it: sizes that are resampled, 16 bits, grey, alpha, and formats that lose
something. Films are decoded by the program ``ffmpeg``, where there is one.
"""

from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ...shared.files import read_file
from ...shared.shot import ShotError
from ..pictures import MAX_BYTES, MAX_PIXELS, convert_to_rgb

#: ends of the names of pictures, and of films, which need ffmpeg
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".webp", ".tif", ".tiff", ".bmp"))
ANIMATIONS = frozenset((".gif", ".png", ".apng", ".webp"))
FILMS = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".wmv"))
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
#: how much the aspect may differ before pictures are taken for those of another shot
ASPECT_TOLERANCE = 0.01
#: difference in levels below which a picture shows nothing
FLAT = 2.0
#: seconds that ffmpeg may take
FFMPEG_SECONDS = 600
#: where a TIFF file says how many bits its channels have, and a picture which way up it is; kinds of PNG without colour
_TIFF_BITS, _ORIENTATION, _PNG_GREY = 258, 274, (0, 4)
#: what people call what ffmpeg calls otherwise
CODECS = {"h264": "H.264", "hevc": "H.265", "av1": "AV1", "vp9": "VP9", "prores": "ProRes", "ffv1": "FFV1"}
#: what films are compressed with that loses nothing, as ffmpeg calls it
_LOSSLESS = frozenset(("ffv1", "huffyuv", "ffvhuff", "png", "apng", "qtrle", "utvideo", "rawvideo", "magicyuv"))
#: a film's pixels of whose colours fewer are kept than of their brightness
_SUBSAMPLED = re.compile(r"\b(?:yuva?j?4(?:20|22|11|10|40)p|nv\d\d|uyvy|yuyv|uyyvyy|y210)")
_BITS = re.compile(r"(?:p|gray|gbrap|ya)(9|10|12|14|16)(?:le|be)|(?:rgb|bgr)a?(48|64)(?:le|be)")
#: transfer curves of films whose levels are not those of a screen
_HIGH_RANGE = ("smpte2084", "arib-std-b67")
_DAMAGE = (OSError, ValueError, SyntaxError, struct.error, zlib.error, EOFError, OverflowError, IndexError, TypeError)


def _refuse(sentence: str) -> ShotError:
    return ShotError("frames", sentence)


def _count(pictures: int) -> str:
    return "1 picture" if pictures == 1 else f"{pictures} pictures"


def _show_numbers(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _find_template(path: Path) -> tuple[str, tuple[int, ...]]:
    """A file's name with # for its numbers, and the numbers. A minus counts where there is nothing but a number."""
    stem, suffix = path.stem, path.suffix.lower()
    if re.fullmatch(r"-?\d+", stem):
        return f"#{suffix}", (int(stem),)
    return re.sub(r"\d+", "#", stem) + suffix, tuple(int(digits) for digits in re.findall(r"\d+", stem))


def number_pictures(files: Sequence[Path], where: str) -> tuple[dict[int, Path], list[str]]:
    """The pictures of a clip by their numbers in order, and sentences about what was left out. Raises ``ShotError`` where nobody
    can tell what the clip is."""
    groups: dict[str, list[tuple[tuple[int, ...], Path]]] = {}
    for path in files:
        template, numbers = _find_template(path)
        groups.setdefault(template, []).append((numbers, path))
    series = {name: found for name, found in groups.items() if len(found) > 1} or groups
    if not series:
        raise _refuse(f"{where} holds no pictures (PNG, JPEG, WebP, TIFF, BMP); give the folder of the clip's frames, or a film.")
    if len(series) > 1 and not any(numbers for found in series.values() for numbers, _ in found):
        raise _refuse(f"The pictures in {where} have no numbers in their names; number them in their order, as in 0001.png.")
    if len(series) > 1:
        names = ", ".join(f"{name.replace('#', '*')} ({len(found)})" for name, found in sorted(series.items())[:4])
        example = min(series).replace("#", "*")
        raise _refuse(f"{where} holds pictures of several kinds: {names}; say which, as in '{where}/{example}'.")
    ((template, found),) = series.items()
    columns = list(zip(*(numbers for numbers, _ in found), strict=True))
    varying = [n for n, column in enumerate(columns) if len(set(column)) > 1] or [n for n in range(len(columns))][-1:]
    if not varying and len(found) > 1:
        raise _refuse(f"The pictures in {where} have no numbers in their names; number them in their order, as in 0001.png.")
    if len(varying) > 1:
        raise _refuse(
            f"The pictures in {where}, such as {found[0][1].name}, count by more than one number; keep one clip in a folder."
        )
    numbered: dict[int, Path] = {}
    for numbers, path in sorted(found, key=lambda one: (one[0], one[1].name)):
        number = numbers[varying[0]] if varying else 1
        if number in numbered:
            raise _refuse(f"{numbered[number].name} and {path.name} in {where} have the same number; take one of them away.")
        numbered[number] = path
    left = [path.name for name, group in groups.items() if name != template for _, path in group]
    said = [f"In {where}, {', '.join(sorted(left)[:4])} {'is' if len(left) == 1 else 'are'} no part of the clip."] if left else []
    return dict(sorted(numbered.items())), said


def choose_pictures(numbered: dict[int, Path], frames: Sequence[int], where: str) -> tuple[list[Path], list[str]]:
    """The pictures of a shot's frames: by their numbers where these are the frames', else in their order where there are as many.
    Raises ``ShotError``."""
    numbers = list(numbered)
    if set(frames) <= set(numbers):
        said = []
        if len(numbers) > len(frames):
            said = [
                f"{where} has {len(numbers)} pictures; those with the numbers of the shot's frames, {_show_numbers(frames)}, count."
            ]
        return [numbered[frame] for frame in frames], said
    has = f"{where} has {_count(len(numbers))}, numbered {_show_numbers(numbers)}"
    if len(numbers) != len(frames):
        raise _refuse(f"{has}, but the shot has {len(frames)} frames, {_show_numbers(frames)}; give a clip of the whole shot.")
    steps = {b - a for a, b in pairwise(numbers)}
    if len(steps) > 1:
        gap = next(a for a, b in pairwise(numbers) if b - a != min(steps))
        raise _refuse(
            f"{has}, but none with the number {gap + min(steps)}; number them like the shot's frames, {_show_numbers(frames)}."
        )
    return list(numbered.values()), [f"{has}; they are taken in order for the shot's frames, {_show_numbers(frames)}."]


def _measure_bits(data: bytes, picture: Image.Image) -> int:
    """Bits of a channel."""
    if picture.format == "PNG":
        return data[24]
    if picture.format == "TIFF":
        bits = getattr(picture, "tag_v2", {}).get(_TIFF_BITS, (8,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 16 if picture.mode.startswith("I;16") else 8


def _is_grey(data: bytes, picture: Image.Image) -> bool:
    if picture.format == "PNG" and data[25] in _PNG_GREY:
        return True
    return picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")


def _turn_upright(picture: Image.Image) -> Image.Image | None:
    """The picture as its orientation says that it is to be seen; None where it is so already."""
    orientation = picture.getexif().get(_ORIENTATION, 1)
    return ImageOps.exif_transpose(picture) if orientation in range(2, 9) else None


@dataclass(frozen=True)
class _Found:
    """One picture: (H, W, 3) uint8, and what it was."""

    image: np.ndarray
    format: str
    bits: int
    grey: bool
    palette: bool
    transparent: bool
    turned: bool


def _read_picture(path: Path, page: int = 0) -> _Found:
    """Raises ``ShotError``."""
    try:
        data = read_file(path, MAX_BYTES)
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"it has {picture.width}x{picture.height} pixels, more than a frame can have")
            if page:
                picture.seek(page)
            bits, kind, mode = _measure_bits(data, picture), picture.format or "", picture.mode
            if mode in ("F", "LAB", "HSV") or (mode == "I" and bits != 16):
                raise ValueError(f"its pixels are {mode}, not levels of red, green and blue")
            transparent = picture.has_transparency_data and bool((np.asarray(picture.convert("RGBA"))[..., 3] < 255).any())
            grey, upright = _is_grey(data, picture), _turn_upright(picture)
            image = convert_to_rgb(picture if upright is None else upright)
            return _Found(image, kind, bits, grey, mode == "P" and kind != "GIF", transparent, upright is not None)
    except UnidentifiedImageError as error:
        raise _refuse(f"{path} cannot be read (it is damaged, or no picture); save it again as PNG.") from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _refuse(f"{path} cannot be read ({reason}); save it again as PNG.") from error


def _list_pages(path: Path) -> range:
    """The pictures of an animation, without one that only stands in for it; the first for what is none."""
    try:
        with Image.open(io.BytesIO(read_file(path, MAX_BYTES)), formats=FORMATS) as picture:
            count = int(getattr(picture, "n_frames", 1))
            return range(1 if count > 1 and getattr(picture, "default_image", False) else 0, count)
    except (*_DAMAGE, Image.DecompressionBombError):
        return range(1)


@dataclass
class Clip:
    """A clip's pictures in the order of the shot's frames. Iterating reads them one at a time, (H, W, 3) uint8 of the shot's size,
    and raises ``ShotError`` for one that cannot be read; what is to be said of them is in ``warnings`` after that."""

    where: str
    pictures: list[tuple[Path, int]]
    size: tuple[int, int]
    warnings: list[str] = field(default_factory=list)
    #: what a film was compressed with; empty for pictures
    codec: str = ""
    #: bits of a film's channels, and whether its compression loses something
    film_bits: int = 8
    is_lossy: bool = True
    _folder: tempfile.TemporaryDirectory[str] | None = None
    _formats: dict[str, None] = field(default_factory=dict)
    _first_size: tuple[int, int] = (0, 0)

    @property
    def format(self) -> str:
        """What the pictures were, such as ``16-bit grey PNG``; known once they were read."""
        return ", ".join(self._formats)

    @property
    def size_text(self) -> str:
        """``512x512 resampled to 256x256``; known once they were read."""
        own, wanted = (f"{wide}x{tall}" for wide, tall in (self._first_size, self.size))
        return own if own == wanted else f"{own} resampled to {wanted}"

    def _say(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def __iter__(self) -> Iterator[np.ndarray]:
        contrast, self._first_size = 0.0, (0, 0)
        for path, page in self.pictures:
            found = _read_picture(path, page)
            yield self._fit(found, path)
            contrast = max(contrast, float(found.image.max()) - float(found.image.min()))
            self._describe(found)
        if contrast < FLAT:
            self._say(f"The pictures of {self.where} are of one colour and show nothing; its figures mean nothing.")

    def _fit(self, found: _Found, path: Path) -> np.ndarray:
        tall, wide = found.image.shape[:2]
        if self._first_size == (0, 0):
            self._first_size = (wide, tall)
        if self._first_size != (wide, tall):
            first = f"{self._first_size[0]}x{self._first_size[1]}"
            raise _refuse(f"{path} is {wide}x{tall}, the first picture of its clip {first}; make all of one size.")
        if (wide, tall) == self.size:
            return found.image
        if abs(wide * self.size[1] / (tall * self.size[0]) - 1) > ASPECT_TOLERANCE:
            raise _refuse(
                f"The pictures of {self.where} are {wide}x{tall}, the passes {self.size[0]}x{self.size[1]}; crop them to the "
                "shot's picture first."
            )
        self._say(
            f"The pictures of {self.where} are {wide}x{tall} and are resampled to the passes' {self.size[0]}x{self.size[1]}; their "
            "figures are those of the resampled pictures."
        )
        return np.asarray(Image.fromarray(found.image).resize(self.size, Image.Resampling.LANCZOS))

    def _describe(self, found: _Found) -> None:
        bits = self.film_bits if self.codec else found.bits
        deep = f"{bits}-bit " if bits > 8 else ""
        kind = f"{deep}{self.codec or ('grey ' if found.grey else '') + found.format}"
        self._formats[kind] = None
        if self.codec:
            if self.is_lossy:
                self._say(f"{self.where} is a film ({self.codec}); what its compression loses is part of every figure.")
        elif found.format in ("JPEG", "WEBP", "GIF"):
            name = {"WEBP": "WebP"}.get(found.format, found.format)
            self._say(f"The pictures of {self.where} are {name}; what it loses is part of every figure.")
        if found.palette:
            self._say(f"The pictures of {self.where} have a palette; the colours that it lacks are part of every figure.")
        if bits > 8:
            self._say(f"The pictures of {self.where} have {bits} bits, of which figures see 8.")
        if found.turned:
            self._say(f"The pictures of {self.where} say which way up they are, and were turned by that.")
        if found.grey:
            self._say(f"The pictures of {self.where} are grey; figures of colour say nothing about them.")
        if found.transparent:
            self._say(f"The pictures of {self.where} are transparent in places; their alpha is left out.")


@dataclass(frozen=True)
class _Film:
    """A film's pictures as files in a temporary folder, what it was compressed with as ffmpeg calls it, the bits of its channels,
    and sentences about it."""

    folder: tempfile.TemporaryDirectory[str]
    files: list[Path]
    codec: str
    bits: int
    said: list[str]


def _describe_streams(told: str, where: str) -> tuple[str, int, list[str]] | None:
    """The codec and the bits of the first film that ffmpeg tells of, and sentences about it; None where there is none."""
    streams = [line for line in told.splitlines() if re.search(r"Stream #.*: Video: \w", line) and "(attached pic)" not in line]
    codec = re.search(r"Video: (\w+)", streams[0]) if streams else None
    if codec is None:
        return None
    found = _BITS.search(streams[0])
    bits = 8 if found is None else int(found[1] or 16)
    said = []
    if len(streams) > 1:
        said.append(f"{where} holds {len(streams)} films; the first of them counts.")
    if any(curve in streams[0] for curve in _HIGH_RANGE):
        said.append(f"{where} is of high dynamic range; its levels are taken as they are, and are not those of a screen.")
    if codec[1] in _LOSSLESS and _SUBSAMPLED.search(streams[0]):
        said.append(f"{where} keeps colours at a lower resolution than brightness; what that loses is part of every figure.")
    return codec[1], bits, said


def _decode_film(path: Path, count: int, where: str) -> _Film:
    """The first ``count`` + 1 pictures of a film. Raises ``ShotError``."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise _refuse(
            f"{where} is a film, and there is no ffmpeg here to decode it; install ffmpeg, or unpack the film elsewhere with "
            f"ffmpeg -i {path.name} -fps_mode passthrough %04d.png and give the folder."
        )
    # the file alone: a playlist may name addresses
    given = ["-protocol_whitelist", "file", "-i", f"file:{path.resolve()}"]
    folder = tempfile.TemporaryDirectory(prefix="latentman-clip-")
    try:
        told = subprocess.run(
            [program, "-nostdin", "-hide_banner", *given], capture_output=True, text=True, errors="replace", timeout=60, check=False
        ).stderr
        described = _describe_streams(told, where)
        if described is None:
            raise _refuse(f"{where} holds no film that ffmpeg can decode; give a folder of pictures.")
        # frames as they are, none twice and none left out, and no picture of a cover; older versions call it otherwise
        for passthrough in (["-fps_mode", "passthrough"], ["-vsync", "0"]):
            done = subprocess.run(
                [program, "-nostdin", "-v", "error", *given, "-map", "0:V:0", *passthrough]
                + ["-frames:v", str(count + 1), str(Path(folder.name) / "%08d.png")],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=FFMPEG_SECONDS,
                check=False,
            )
            files = sorted(Path(folder.name).iterdir())
            if done.returncode == 0 and files:
                break
        else:
            reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise _refuse(f"{where} cannot be decoded by ffmpeg ({reason}); give a folder of pictures.")
    except subprocess.TimeoutExpired as error:
        folder.cleanup()
        raise _refuse(f"ffmpeg did not end with {where}; unpack it into a folder of pictures first.") from error
    except BaseException:
        folder.cleanup()
        raise
    codec, bits, said = described
    complaints = done.stderr.strip().splitlines()
    if complaints:
        # ffmpeg paints over what it cannot decode
        complaint = re.sub(r"^\[[^]]*\]\s*", "", complaints[0]).strip()[:120]
        said.append(f"{where} may be damaged: ffmpeg says '{complaint}'; look at its frames.")
    return _Film(folder, files, codec, bits, said)


def _check_count(found: int, frames: Sequence[int], where: str, *, cut: bool = False) -> None:
    if found != len(frames):
        many = f"more than {_count(found - 1)}" if cut and found > len(frames) else _count(found)
        raise _refuse(f"{where} has {many}, but the shot has {len(frames)} frames; give a clip of the whole shot.")


def open_clip(paths: Sequence[Path], frames: Sequence[int], size: tuple[int, int]) -> Clip:
    """The clip in a folder, an animation or film, a pattern with * or ?, or a list of pictures, for a shot's ``frames`` at ``size``
    (width, height). Raises ``ShotError`` for what is no clip of this shot."""
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if len(paths) > 1:
        wrong = next((path for path in paths if path.suffix.lower() not in PICTURES or not path.is_file()), None)
        if wrong is not None:
            raise _refuse(f"{wrong} is no picture; give one clip, or the pictures of one.")
        numbered, said = number_pictures(paths, str(paths[0].parent))
        chosen, more = choose_pictures(numbered, frames, str(paths[0].parent))
        return Clip(where, [(path, 0) for path in chosen], size, said + more)
    path = paths[0]
    try:
        if path.is_dir():
            files = [file for file in path.iterdir() if _is_picture(file)]
        elif path.is_file() and path.suffix.lower() in FILMS:
            film = _decode_film(path, len(frames), where)
            _check_count(len(film.files), frames, where, cut=True)
            codec, is_lossy = CODECS.get(film.codec, film.codec), film.codec not in _LOSSLESS
            pictures = [(file, 0) for file in film.files]
            return Clip(where, pictures, size, film.said, codec, film.bits, is_lossy, _folder=film.folder)
        elif path.is_file() and path.suffix.lower() in ANIMATIONS | PICTURES:
            pages = _list_pages(path)
            _check_count(len(pages), frames, where)
            return Clip(where, [(path, page) for page in pages], size)
        elif path.exists():
            kinds = ", ".join(sorted(end[1:] for end in FILMS))
            raise _refuse(f"{path} is no clip; give a folder of pictures, an animated PNG, WebP or GIF, or a film ({kinds}).")
        elif re.search(r"[*?]", path.name) and path.parent.is_dir():
            files = [file for file in path.parent.glob(path.name) if _is_picture(file)]
            if not files:
                raise _refuse(f"No picture (PNG, JPEG, WebP, TIFF, BMP) has a name like {path}; check the pattern.")
        else:
            raise _refuse(f"There is no {path}; give a folder of pictures, a pattern such as 'frames/a_*.png', or a film.")
    except OSError as error:
        raise _refuse(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from error
    numbered, said = number_pictures(files, str(path if path.is_dir() else path.parent))
    chosen, more = choose_pictures(numbered, frames, where)
    return Clip(where, [(file, 0) for file in chosen], size, said + more)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.name.startswith(".") and path.is_file()


def find_clip(place: Path) -> Path | None:
    """The clip at ``place``: a folder, or an animation or film of that name with its ending; None where there is neither. Raises
    ``ShotError`` where there are several."""
    endings = FILMS | ANIMATIONS
    found = [place] if place.is_dir() else []
    if place.parent.is_dir():
        beside = sorted(place.parent.iterdir())
        found += [path for path in beside if path.stem == place.name and path.suffix.lower() in endings and path.is_file()]
    if len(found) > 1:
        raise _refuse(f"There are {' and '.join(path.name for path in found)} in {place.parent}; keep one clip of that name.")
    return found[0] if found else None
