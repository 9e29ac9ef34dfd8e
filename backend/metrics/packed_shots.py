"""The benchmark's shots as one small file: passes, the prompts and seeds that go with them, licence, hashes.

It is an archive without compression of its own:

    benchmark.json      ``BenchmarkManifest``
    LICENCE.txt
    walk/passes.json    the shot's manifest, as saved passes have it
    walk/depth.xz       one for each pass, see ``packed_passes``

Packed again, the same shots are the same bytes. Unpacked they are folders of saved passes with ``benchmark.json`` beside them,
which counts as much as the archive. Nothing in it is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from ...shared import passes_folder
from ...shared.files import read_file, write_atomically
from ...shared.manifest import PassesManifest, check_manifest
from ...shared.npy import FREE, RATIO
from ...shared.passes import PASS_LAYOUT, FramePasses, check_arrays
from ...shared.passes_folder import MAX_MANIFEST, PassesFolder
from ...shared.shot import MAX_FRAMES, ShotError
from ...shared.version import VERSION
from .fingerprints import fingerprint_passes
from .packed_passes import LAYOUT, compute_size, pack_pass, unpack_pass
from .zip_reading import ZipReader, is_archive, is_safe_name

MANIFEST, LICENCE_FILE = "benchmark.json", "LICENCE.txt"
FORMAT = "latentman benchmark 1"
SUFFIX = ".xz"
#: bytes of a benchmark's manifest, and of a shot's passes in memory
MAX_BENCHMARK, MAX_SHOT = 4 << 20, 4 << 30
#: the licence of the suites' own shots
OWN_LICENCE = "CC0-1.0"
OWN_TERMS = (
    "The passes of the mannequin in the bundled motions are dedicated to the public domain, as the mannequin and the motions are:\n"
    "https://creativecommons.org/publicdomain/zero/1.0/\n"
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,63}")


class FileEntry(msgspec.Struct, frozen=True):
    """A file of the archive: its bytes and their hash."""

    size: int
    sha256: str


class ShotEntry(msgspec.Struct, frozen=True):
    """A shot: its name, the hash of its passes (``fingerprints``), its frames and size in pixels, and its files by their names."""

    name: str
    fingerprint: str
    frames: int
    width: int
    height: int
    files: dict[str, FileEntry]


class BenchmarkManifest(msgspec.Struct, frozen=True):
    """What a benchmark consists of. ``fingerprint`` stands for its shots, prompts and seeds, whatever they were packed with."""

    format: str
    made_by: str
    licence: str
    fingerprint: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    shots: tuple[ShotEntry, ...]


@dataclass(frozen=True)
class NamedPasses:
    """A shot to be packed."""

    name: str
    passes: FramePasses
    manifest: PassesManifest


class FrameSource(Protocol):
    """A shot's passes frame by frame, as ``PassesFolder`` gives them."""

    manifest: PassesManifest

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of the frame at an index of the manifest."""


class LoadedPasses:
    """Passes in memory, frame by frame."""

    def __init__(self, passes: FramePasses, manifest: PassesManifest) -> None:
        self._passes, self.manifest = passes, manifest

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of the frame at an index of the manifest."""
        return self._passes.select([index])


def compute_fingerprint(shots: Sequence[tuple[str, str]], prompts: Sequence[str], seeds: Sequence[int]) -> str:
    """A hash of a benchmark: (name, hash of the passes) of its shots, its prompts and its seeds, in their order."""
    text = json.dumps([FORMAT, [list(shot) for shot in shots], list(prompts), list(seeds)])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def pack_shots(
    shots: Sequence[NamedPasses], prompts: Sequence[str], seeds: Sequence[int], licence: str, terms: str
) -> tuple[bytes, BenchmarkManifest]:
    """The bytes of an archive, the same whenever the same shots are packed, and what it says of them. ``licence`` is its short
    name, ``terms`` the text. Raises ``ShotError`` for names that files cannot have."""
    for shot in shots:
        if not _NAME.fullmatch(shot.name) or not is_safe_name(shot.name):
            raise ShotError("shot", f"A shot cannot be packed as '{shot.name[:80]}'; rename its folder to letters and digits.")
    contents: dict[str, bytes] = {}
    entries = []
    for shot in shots:
        files = {"passes.json": msgspec.json.encode(shot.manifest)}
        for name, array in shot.passes.arrays().items():
            files[f"{name}{SUFFIX}"] = pack_pass(name, array, shot.passes.mask)
        frames, height, width = shot.passes.mask.shape
        hashes = {name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
        entries.append(ShotEntry(shot.name, fingerprint_passes(shot.passes), frames, width, height, hashes))
        contents |= {f"{shot.name}/{name}": data for name, data in files.items()}
    fingerprint = compute_fingerprint([(entry.name, entry.fingerprint) for entry in entries], prompts, seeds)
    made = BenchmarkManifest(FORMAT, f"LatentMan {VERSION}", licence, fingerprint, tuple(prompts), tuple(seeds), tuple(entries))
    _check(made)
    listed = {MANIFEST: msgspec.json.format(msgspec.json.encode(made)) + b"\n", LICENCE_FILE: f"{licence}\n\n{terms}".encode()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (listed | contents).items():
            # neither the time nor the system, so that the same shots are the same bytes
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue(), made


def is_benchmark(path: Path) -> bool:
    """Whether a path is an archive, or a folder that one was unpacked into."""
    return is_archive(path) or (path / MANIFEST).is_file()


class Benchmark:
    """Packed shots, from an archive or from the folder that it was unpacked into."""

    def __init__(self, path: Path) -> None:
        """Raises ``ShotError`` for what is no benchmark, is damaged, or is not to be trusted."""
        self.path = path
        self._archive: ZipReader | None = None
        try:
            if path.is_dir():
                data = read_file(path / MANIFEST, MAX_BENCHMARK)
            else:
                self._archive = ZipReader(path)
                data = self._archive.read(MANIFEST, MAX_BENCHMARK)
            self.manifest = msgspec.json.decode(data, type=BenchmarkManifest)
            _check(self.manifest)
            if self._archive is not None:
                _check_files(self.manifest, self._archive)
        except KeyError as error:
            self.close()
            raise ShotError(
                "passes", f"{path} is an archive without {MANIFEST}; give one that latentman shots pack made."
            ) from error
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            self.close()
            raise self._refuse(error) from error

    def __enter__(self) -> Benchmark:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive."""
        if self._archive is not None:
            self._archive.close()

    def _refuse(self, error: Exception) -> ShotError:
        reason = " ".join(str(getattr(error, "strerror", "") or error).split())[:200].rstrip(".")
        return ShotError("passes", f"{self.path} holds no readable benchmark ({reason}); get it again, or pack it anew.")

    def get(self, name: str) -> ShotEntry:
        """A shot's entry. Raises ``ShotError`` for a name that there is not."""
        found = next((shot for shot in self.manifest.shots if shot.name == name), None)
        if found is None:
            names = ", ".join(shot.name for shot in self.manifest.shots)
            raise ShotError("shot", f"{self.path} has no shot '{name[:80]}'; choose from {names}.")
        return found

    def read(self, name: str) -> tuple[FramePasses, PassesManifest]:
        """A shot's passes and manifest, compared with their hashes. Raises ``ShotError``."""
        entry = self.get(name)
        if self._archive is None:
            passes, manifest = passes_folder.load(self.path / name)
        else:
            try:
                passes, manifest = _unpack(entry, self._archive)
            except (ValueError, KeyError, RecursionError, msgspec.MsgspecError, OSError) as error:
                raise self._refuse(error) from error
        if fingerprint_passes(passes) != entry.fingerprint:
            raise ShotError("passes", f"The passes of '{name}' in {self.path} are not those that were packed; get them again.")
        return passes, manifest


def _unpack(entry: ShotEntry, archive: ZipReader) -> tuple[FramePasses, PassesManifest]:
    data = {}
    for name, file in entry.files.items():
        data[name] = archive.read(f"{entry.name}/{name}", file.size)
        if len(data[name]) != file.size or hashlib.sha256(data[name]).hexdigest() != file.sha256:
            raise ValueError(f"{entry.name}/{name} is not what its hash says")
    manifest = msgspec.json.decode(data.pop("passes.json"), type=PassesManifest)
    check_manifest(manifest)
    if (len(manifest.frames), manifest.width, manifest.height) != (entry.frames, entry.width, entry.height):
        raise ValueError(f"the passes of {entry.name} have another size than {MANIFEST} says")
    shape = entry.frames, entry.height, entry.width
    arrays = {file.removesuffix(SUFFIX): unpack_pass(file.removesuffix(SUFFIX), packed, shape) for file, packed in data.items()}
    return check_arrays(arrays, entry.frames, entry.width, entry.height), manifest


def _check(manifest: BenchmarkManifest) -> None:
    """Raise ``ValueError`` for a manifest that contradicts itself or names what cannot be."""
    if manifest.format != FORMAT:
        raise ValueError(f"it is of the form '{manifest.format[:40]}', and this version reads '{FORMAT}'")
    names = Counter(shot.name.casefold() for shot in manifest.shots)
    if not names or max(names.values()) > 1:
        raise ValueError("it has no shots, or two of one name")
    for what, values in (("prompts", manifest.prompts), ("seeds", manifest.seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"it has no {what}, or one of them twice")
    if not all(prompt.strip() for prompt in manifest.prompts) or not all(0 <= seed < 2**31 for seed in manifest.seeds):
        raise ValueError("a prompt is empty, or a seed none")
    for shot in manifest.shots:
        if not _NAME.fullmatch(shot.name) or not is_safe_name(shot.name):
            raise ValueError(f"a shot cannot be called {shot.name[:80]!r}")
        known = {f"{name}{SUFFIX}" for name in LAYOUT} | {"passes.json"}
        needed = {f"{name}{SUFFIX}" for name in PASS_LAYOUT} | {"passes.json"}
        if not needed <= set(shot.files) <= known:
            raise ValueError(f"{shot.name} has other files than passes are")
        shape = shot.frames, shot.height, shot.width
        if not 1 <= shot.frames <= MAX_FRAMES or min(shape) < 1 or max(shape[1:]) > 16_384:
            raise ValueError(f"{shot.name} claims {shot.frames} frames of {shot.width}x{shot.height} pixels")
        size = sum(compute_size(name.removesuffix(SUFFIX), shape) for name in shot.files if name.endswith(SUFFIX))
        if size > min(MAX_SHOT, FREE + RATIO * sum(max(0, file.size) for file in shot.files.values())):
            raise ValueError(f"{shot.name} claims to unpack to {size / 1e9:.1f} GB, far more than its size")
        if shot.files["passes.json"].size > MAX_MANIFEST:
            raise ValueError(f"the manifest of {shot.name} is too large")
    shots = [(shot.name, shot.fingerprint) for shot in manifest.shots]
    if manifest.fingerprint != compute_fingerprint(shots, manifest.prompts, manifest.seeds):
        raise ValueError("its fingerprint is not that of its shots, prompts and seeds")


def _check_files(manifest: BenchmarkManifest, archive: ZipReader) -> None:
    """Raise ``ValueError`` when an archive has other files than its manifest lists."""
    listed = {f"{shot.name}/{name}": file.size for shot in manifest.shots for name, file in shot.files.items()}
    found = {name: size for name, size in archive.sizes.items() if name not in (MANIFEST, LICENCE_FILE)}
    if found != listed:
        wrong = sorted(set(found.items()) ^ set(listed.items()))[0][0]
        raise ValueError(f"{wrong[:80]} is missing in it, is not listed, or has another size")


def verify(path: Path) -> BenchmarkManifest:
    """Read all that a benchmark holds and compare it with its hashes. Raises ``ShotError``."""
    with Benchmark(path) as found:
        for shot in found.manifest.shots:
            found.read(shot.name)
        return found.manifest


def unpack(path: Path, out: Path) -> BenchmarkManifest:
    """Write a benchmark's shots as folders of saved passes below ``out``, which must be empty or not there, with its manifest and
    licence beside them. Raises ``ShotError`` and ``OSError``."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ShotError("disk", f"{out} is there already; give --out a new folder.")
    with Benchmark(path) as found:
        if found._archive is None:
            raise ShotError("passes", f"{path} is a folder, and unpacked already; use it as it is.")
        for shot in found.manifest.shots:
            passes, manifest = found.read(shot.name)
            passes_folder.save(out / shot.name, passes, manifest)
        licence = found._archive.sizes.get(LICENCE_FILE)
        if licence is not None:
            write_atomically(out / LICENCE_FILE, found._archive.read(LICENCE_FILE, MAX_BENCHMARK))
        # it comes last, so that its presence means that all is there
        write_atomically(out / MANIFEST, found._archive.read(MANIFEST, MAX_BENCHMARK))
        return found.manifest


def open_frames(path: Path, shot: str = "") -> tuple[FrameSource, str]:
    """Saved passes, or a shot of a benchmark, to be read frame by frame, and the shot's name. Raises ``ShotError``."""
    if not is_benchmark(path):
        if shot:
            raise ShotError("shot", f"{path} is a folder of saved passes and no benchmark; leave out --shot.")
        return PassesFolder(path), path.resolve().name
    with Benchmark(path) as found:
        if not shot and len(found.manifest.shots) > 1:
            names = ", ".join(entry.name for entry in found.manifest.shots)
            raise ShotError("shot", f"{path} has several shots; name one with --shot: {names}.")
        name = shot or found.manifest.shots[0].name
        return LoadedPasses(*found.read(name)), name
