"""What others measured on a benchmark, read and checked: a folder or an archive with

    submission.json             ``Metadata``
    results/walk/1-4.json       what ``latentman measure --json`` wrote of the shot's clip for the first prompt and seed 4
    frames/walk/1-4/0001.png    its pictures, which may be left out; where they are there, they are measured again

for every shot, prompt and seed. What does not fit is refused with a sentence.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ...shared.files import read_file
from ...shared.npy import shorten
from ...shared.shot import ShotError
from ..pictures import MAX_BYTES
from .clip_measurer import NAMES
from .clips import PICTURES
from .figures import BY_NAME, SQUARED
from .making import describe_making
from .measuring import measure_given
from .packed_shots import Benchmark, LoadedPasses
from .zip_reading import MAX_ENTRIES, ZipReader, is_safe_name

METADATA, RESULTS, FRAMES = "submission.json", "results", "frames"
#: bytes of a metadata file and of a clip's results; characters of a text that is shown
MAX_METADATA, MAX_RESULT, MAX_WORDS, MAX_LINK = 64 << 10, 1 << 20, 80, 300
#: figures that are measured again may differ by this fraction and this much: other processors add up in another order
RELATIVE, ABSOLUTE = 2e-3, 2e-3
#: figures against a reference, which is the submitter's own: nobody else can compute them, and no table shows them
AGAINST_REFERENCE = ("detail", "grain", "detail_coarse", "contrast", "saturation", "exposure")
#: what no clip can have: the largest value of each unit, and whether it can be below 0
LARGEST = {SQUARED: 255.0**2, "levels": 255.0, "levels a frame": 255.0, "correlation": 2.0, "cosine": 1.0}
SIGNED = ("levels a frame", "correlation", "cosine")
WITHIN_ONE = ("matched_fraction", "silhouette_iou", "boundary_f_measure", "repeated_frames")
_LINK = re.compile(r"https?://[A-Za-z0-9.\-]+(?::\d{1,5})?(?:/[A-Za-z0-9\-._~:/?#@!$&*+,;=%]*)?")


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who made a submission, and how. ``licence`` is that of its frames and figures, ``date`` as in 2026-05-17."""

    name: str
    authors: tuple[str, ...]
    licence: str
    date: str
    model: str
    seconds_per_frame: float
    device: str
    link: str = ""


class Result(msgspec.Struct, frozen=True):
    """A clip's figures as ``latentman measure --json`` writes them."""

    code: str
    passes_fingerprint: str
    frames_fingerprint: str
    figures: dict[str, float | None]


@dataclass(frozen=True)
class Entry:
    """A submission that fits: its runs as ``statistics`` takes them, the hashes of its clips by (shot, prompt's number, seed), and
    whether its figures were measured again from its frames."""

    metadata: Metadata
    runs: tuple[dict[str, Any], ...]
    clips: dict[tuple[str, int, int], str]
    verified: bool


def _refuse(sentence: str) -> ShotError:
    return ShotError("submission", sentence)


class _Files(Protocol):
    """A submission's files by their names with /."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """The files' bytes by their names."""

    def read(self, name: str, most: int) -> bytes:
        """Raises ``KeyError``, ``ValueError`` and ``OSError``."""


class _Folder:
    """A folder's files, none of which leads elsewhere."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.sizes: dict[str, int] = {}
        for place, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = Path(place) / name
                if path.is_symlink():
                    raise ValueError(f"{path.relative_to(root)} is a link; put the files themselves there")
            for name in files:
                path = Path(place) / name
                self.sizes[path.relative_to(root).as_posix()] = path.stat().st_size
            if len(self.sizes) > MAX_ENTRIES:
                raise ValueError("it contains too many files")

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a file."""
        if name not in self.sizes:
            raise KeyError(name)
        return read_file(self._root / name, most)


class _Below:
    """The files of the only folder in an archive, as people pack them."""

    def __init__(self, files: _Files, start: str) -> None:
        self._files, self._start = files, start
        self.sizes = {name.removeprefix(start): size for name, size in files.sizes.items() if name.startswith(start)}

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a file."""
        return self._files.read(self._start + name, most)


@contextmanager
def _open(path: Path) -> Iterator[_Files]:
    """Raises ``ValueError`` and ``OSError``."""
    if path.is_dir():
        yield _Folder(path)
        return
    with ZipReader(path) as archive:
        tops = {name.split("/")[0] for name in archive.sizes}
        wrapped = METADATA not in archive.sizes and len(tops) == 1
        yield _Below(archive, f"{tops.pop()}/") if wrapped else archive


def _check_words(what: str, text: str) -> None:
    if not text.strip() or text != text.strip() or len(text) > MAX_WORDS or not text.isprintable():
        raise _refuse(f"its {what} must be 1 to {MAX_WORDS} letters that can be printed, without spaces around it")


def check_metadata(metadata: Metadata) -> None:
    """Raise ``ShotError`` for metadata that nobody could show."""
    for what in ("name", "licence", "model", "device"):
        _check_words(what, getattr(metadata, what))
    if not 1 <= len(metadata.authors) <= 20:
        raise _refuse("it must have 1 to 20 authors")
    for author in metadata.authors:
        _check_words("author's name", author)
    if metadata.link and (len(metadata.link) > MAX_LINK or not _LINK.fullmatch(metadata.link)):
        raise _refuse("its link must be an address that begins with https:// or http://, or be left out")
    try:
        datetime.date.fromisoformat(metadata.date if re.fullmatch(r"\d{4}-\d\d-\d\d", metadata.date) else "")
    except ValueError as error:
        raise _refuse("its date must be like 2026-05-17") from error
    if not (math.isfinite(metadata.seconds_per_frame) and 0 < metadata.seconds_per_frame < 1e6):
        raise _refuse("its seconds_per_frame must be a number above 0")


def fold_name(name: str) -> str:
    """A name as it is compared with others: letters that look alike to people are alike."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_figures(figures: Mapping[str, float | None], where: str) -> None:
    """Raise ``ShotError`` for figures that are not complete, or that no clip can have."""
    absent = [name for name in NAMES if name not in figures]
    if absent:
        raise _refuse(f"{where} has no '{absent[0]}'; measure it with latentman measure --json")
    for name, value in figures.items():
        if value is None or name not in BY_NAME:
            continue
        figure = BY_NAME[name]
        largest = 1.0 if name in WITHIN_ONE else LARGEST.get(figure.unit, math.inf)
        lowest = -largest if figure.unit in SIGNED else 0.0
        if not (math.isfinite(value) and lowest - ABSOLUTE <= value <= largest + ABSOLUTE):
            raise _refuse(f"{where} has {value:g} for '{name}', which no clip can have")
    known = {name: value for name, value in figures.items() if value is not None}
    for smaller, larger in (("hmse", "hmse_worst"), ("hmse_p95", "hmse_worst")):
        if smaller in known and larger in known and not _agrees(known[smaller], known[larger]) and known[smaller] > known[larger]:
            raise _refuse(f"{where} has a larger '{smaller}' than '{larger}', which no clip can have")


def _agrees(one: float, other: float) -> bool:
    return abs(one - other) <= ABSOLUTE + RELATIVE * max(abs(one), abs(other))


def _read_result(files: _Files, name: str) -> Result:
    try:
        return msgspec.json.decode(files.read(name, MAX_RESULT), type=Result)
    except KeyError as error:
        raise _refuse(f"there is no {name}; every shot, prompt and seed of the benchmark is needed") from error
    except (ValueError, OSError, RecursionError, msgspec.MsgspecError) as error:
        raise _refuse(f"{name} cannot be read ({shorten(error)}); measure the clip with latentman measure --json") from error


def _measure_again(files: _Files, shot: str, clip: str, passes: LoadedPasses) -> tuple[dict[str, float | None], str] | None:
    """The figures and the hash of a clip's pictures; None when there are none."""
    start = f"{FRAMES}/{shot}/{clip}/"
    names = [name for name in files.sizes if name.startswith(start) and "/" not in name[len(start) :]]
    names = [name for name in names if Path(name).suffix.lower() in PICTURES and is_safe_name(name[len(start) :])]
    if not names:
        return None
    with tempfile.TemporaryDirectory(prefix="latentman-submission-") as folder:
        for name in names:
            (Path(folder) / name[len(start) :]).write_bytes(files.read(name, MAX_BYTES))
        try:
            found = measure_given(passes, shot, [Path(folder)], None, shot)
        except ShotError as error:
            raise _refuse(f"{start} cannot be measured: {str(error).replace(folder, start.rstrip('/')).rstrip('.')}") from error
    return found.figures, str(found.provenance["frames_fingerprint"])


def _compare(submitted: Result, again: tuple[dict[str, float | None], str], where: str) -> None:
    """Raise ``ShotError`` when what was submitted is not what its frames have."""
    figures, frames = again
    if frames != submitted.frames_fingerprint:
        raise _refuse(f"the frames of {where} are not those that were measured")
    for name, value in figures.items():
        if name in AGAINST_REFERENCE or name not in submitted.figures:
            continue
        claimed = submitted.figures[name]
        if (value is None) != (claimed is None) or (value is not None and claimed is not None and not _agrees(value, claimed)):
            raise _refuse(f"{where} has {claimed} for '{name}', and its frames have {value}")


def read_submission(path: Path, benchmark: Benchmark, loaded: Mapping[str, LoadedPasses]) -> Entry:
    """A submission that fits a benchmark, of whose shots the passes are ``loaded``. Raises ``ShotError`` with the rest of a
    sentence about what does not."""
    manifest = benchmark.manifest
    try:
        with _open(path) as files:
            try:
                metadata = msgspec.json.decode(files.read(METADATA, MAX_METADATA), type=Metadata)
            except KeyError as error:
                raise _refuse(f"there is no {METADATA} in it") from error
            except (msgspec.MsgspecError, RecursionError) as error:
                raise _refuse(f"its {METADATA} cannot be read ({shorten(error)})") from error
            check_metadata(metadata)
            runs: list[dict[str, Any]] = []
            clips: dict[tuple[str, int, int], str] = {}
            verified: list[bool] = []
            for shot in manifest.shots:
                for number, prompt in enumerate(manifest.prompts, 1):
                    for seed in manifest.seeds:
                        clip = f"{number}-{seed}"
                        where = f"{RESULTS}/{shot.name}/{clip}.json"
                        result = _read_result(files, where)
                        if result.passes_fingerprint != shot.fingerprint:
                            raise _refuse(f"{where} was measured against other passes than the benchmark's '{shot.name}'")
                        if result.code != describe_making()["figures"]:
                            raise _refuse(f"{where} was measured by another version of the figures; measure it with this one")
                        check_figures(result.figures, where)
                        same = next((other for other, frames in clips.items() if frames == result.frames_fingerprint), None)
                        if same is not None:
                            raise _refuse(f"{where} has the same frames as {same[0]}/{same[1]}-{same[2]}; each seed needs its own")
                        clips[shot.name, number, seed] = result.frames_fingerprint
                        again = _measure_again(files, shot.name, clip, loaded[shot.name])
                        verified.append(again is not None)
                        if again is not None:
                            _compare(result, again, where)
                        figures = {name: value for name, value in result.figures.items() if name not in AGAINST_REFERENCE}
                        runs.append({"shot": shot.name, "prompt": prompt, "seed": seed, "variant": metadata.name} | figures)
    except (OSError, ValueError) as error:
        if isinstance(error, ShotError):
            raise
        raise _refuse(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return Entry(metadata, tuple(runs), clips, all(verified))


def read_submissions(paths: list[Path], benchmark: Benchmark) -> tuple[list[Entry], list[str]]:
    """The submissions that fit a benchmark, and a sentence about each that does not."""
    loaded = {shot.name: LoadedPasses(*benchmark.read(shot.name)) for shot in benchmark.manifest.shots}
    entries: list[Entry] = []
    refused: list[str] = []
    for path in paths:
        try:
            entry = read_submission(path, benchmark, loaded)
            for other in entries:
                if fold_name(other.metadata.name) == fold_name(entry.metadata.name):
                    raise _refuse(f"there is another submission called '{other.metadata.name}'; give it a name of its own")
                if set(other.clips.values()) & set(entry.clips.values()):
                    raise _refuse(f"it has frames that '{other.metadata.name}' has, too")
        except ShotError as error:
            refused.append(f"{path} is left out: {str(error).rstrip('.')}.")
        else:
            entries.append(entry)
    return entries, refused


def encode_metadata(metadata: Metadata) -> bytes:
    """The bytes of ``submission.json``."""
    return json.dumps(msgspec.to_builtins(metadata), indent=1).encode() + b"\n"
