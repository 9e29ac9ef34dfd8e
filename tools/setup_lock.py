"""``python tools/setup_lock.py``: writes ``locks/setup.json``, every file that *Set Up* may fetch, with its hash and its sizes.

From ``locks/backend.txt``, ``locks/setup_sources.toml`` and what the package index says of the files. Run by ``make lock`` in the
environment of the locking programs, which has ``packaging``.
"""

from __future__ import annotations

import json
import struct
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from packaging.markers import Environment, Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.locks import LOCKS, LockedPackage, LockError, read_lock  # noqa: E402

INDEX = "https://pypi.org/simple"
JSON = "application/vnd.pypi.simple.v1+json"
#: the Pythons that an environment may have; the first one is fetched, the others are those that people have
PYTHONS = ("3.12", "3.11", "3.13", "3.14")
#: platform -> what markers see there, and the tags of its wheels
SYSTEMS: dict[str, dict[str, str]] = {
    "linux-x64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"},
    "windows-x64": {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64", "os_name": "nt"},
    "macos-arm64": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"},
}
#: platform -> device -> the folder of torch's index that has its build, empty for PyPI's
BUILDS: dict[str, dict[str, str]] = {
    "linux-x64": {"cuda": "", "cpu": "cpu"},
    "windows-x64": {"cuda": "cu130", "cuda-older": "cu126", "cpu": ""},
    "macos-arm64": {"metal": ""},
}
#: what torch's builds for CUDA alone need on Linux, by the beginning of the name
CUDA_ONLY = ("nvidia-", "cuda-", "triton")
#: the oldest glibc and macOS that the wheels are for
MANYLINUX, MACOS = 28, (14, 0)
#: bytes at the end of a wheel that hold its table of contents, or at least say where it begins
_TAIL = 1 << 16


@dataclass(frozen=True)
class IndexFile:
    """A file that the package index has."""

    name: str
    url: str
    sha256: str
    size: int


def _open(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        return cast(bytes, answer.read())


@cache
def list_index(package: str) -> tuple[IndexFile, ...]:
    """The wheels that the index has of a package."""
    found = json.loads(_open(f"{INDEX}/{package}/", Accept=JSON))
    return tuple(
        IndexFile(file["filename"], file["url"], file["hashes"]["sha256"], int(file["size"]))
        for file in found["files"]
        if file["filename"].endswith(".whl") and file["hashes"].get("sha256")
    )


def list_tags(platform: str, python: str) -> list[Tag]:
    """The tags of the wheels that run there, the best first."""
    version = tuple(int(part) for part in python.split("."))
    if platform == "linux-x64":
        platforms = [f"manylinux_2_{n}_x86_64" for n in range(MANYLINUX, 4, -1)] + ["manylinux2014_x86_64", "linux_x86_64"]
    elif platform == "windows-x64":
        platforms = ["win_amd64"]
    else:
        platforms = list(mac_platforms(MACOS, "arm64"))
    interpreter = f"cp{version[0]}{version[1]}"
    return [*cpython_tags(version, [interpreter], platforms), *compatible_tags(version, interpreter, platforms)]


def needs(package: LockedPackage, platform: str, python: str) -> bool:
    """Whether a locked package is needed there."""
    _, semicolon, marker = package.text.splitlines()[0].rstrip(" \\").partition(" ; ")
    if not semicolon:
        return True
    environment = {
        **SYSTEMS[platform],
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_version": "",
        "implementation_version": f"{python}.0",
        "extra": "",
    }
    return Marker(marker).evaluate(cast("dict[str, str]", cast(Environment, environment)))


def choose_wheel(package: LockedPackage, platform: str, python: str) -> IndexFile | None:
    """The best wheel of a locked package for a platform; None where there is none."""
    ranks = {tag: n for n, tag in enumerate(list_tags(platform, python))}
    best: tuple[int, IndexFile] | None = None
    for file in list_index(package.name):
        # an index has files of long ago whose names nobody can read
        if file.sha256 not in package.hashes:
            continue
        _, _, _, tags = parse_wheel_filename(file.name)
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if rank is not None and (best is None or rank < best[0]):
            best = rank, file
    return best[1] if best else None


@cache
def measure_unpacked(url: str, size: int) -> int:
    """The bytes of what is in a wheel, from the table of contents at its end."""
    tail = _open(url, Range=f"bytes={max(0, size - _TAIL)}-")
    end = tail.rfind(b"PK\x05\x06")
    length, start = struct.unpack_from("<II", tail, end + 12)
    if start == 0xFFFFFFFF or length > len(tail):
        extended = tail.rfind(b"PK\x06\x06")
        if extended >= 0:
            length, start = struct.unpack_from("<QQ", tail, extended + 40)
    table = _open(url, Range=f"bytes={start}-{start + length - 1}")
    return sum(_iterate_sizes(table))


def _iterate_sizes(table: bytes) -> Iterator[int]:
    place = 0
    while table[place : place + 4] == b"PK\x01\x02":
        (size,) = struct.unpack_from("<I", table, place + 24)
        name, extra, comment = struct.unpack_from("<HHH", table, place + 28)
        if size == 0xFFFFFFFF:
            # the true size is the first number of the extra field with the id 1
            (size,) = struct.unpack_from("<Q", table, place + 46 + name + 4)
        yield size
        place += 46 + name + extra + comment


def find_torch(sources: list[dict[str, Any]], folder: str, platform: str, python: str) -> dict[str, Any] | None:
    """The entry of torch's own index for a platform."""
    tags = set(list_tags(platform, python))
    for source in sources:
        if source["folder"] == folder and tags & parse_wheel_filename(source["name"])[3]:
            return source
    return None


def build() -> dict[str, Any]:
    """What stands in the lock."""
    sources = tomllib.loads((LOCKS / "setup_sources.toml").read_text(encoding="utf-8"))
    packages = read_lock(LOCKS / "backend.txt")
    files: dict[str, dict[str, Any]] = {}

    def add(file: IndexFile) -> str:
        files[file.name] = {"sha256": file.sha256, "size": file.size, "unpacked": measure_unpacked(file.url, file.size)}
        return file.name

    environments: dict[str, dict[str, dict[str, list[str]]]] = {}
    for platform, builds in BUILDS.items():
        for device, folder in builds.items():
            for python in PYTHONS:
                chosen: list[str] = []
                for package in packages:
                    if not needs(package, platform, python) or (folder and package.name.startswith(CUDA_ONLY)):
                        continue
                    if package.name == "torch" and folder:
                        source = find_torch(sources["torch"], folder, platform, python)
                        if source is None:
                            break
                        files[source["name"]] = {**{key: source[key] for key in ("sha256", "size", "folder")}, "unpacked": 0}
                        chosen.append(source["name"])
                        continue
                    wheel = choose_wheel(package, platform, python)
                    if wheel is None:
                        print(f"{platform}, {device}, Python {python}: no wheel of {package.name} {package.version}", flush=True)
                        break
                    chosen.append(add(wheel))
                else:
                    environments.setdefault(platform, {}).setdefault(device, {})[python] = sorted(chosen)
                    print(f"{platform}, {device}, Python {python}: {len(chosen)} files", flush=True)
    return {
        "format": 1,
        "python": {
            "version": sources["python"]["version"],
            "release": sources["python"]["release"],
            "builds": {platform: {"size": 0, **build} for platform, build in sources["python"]["builds"].items()},
        },
        "uv": {platform: _lock_uv(platform) for platform in BUILDS},
        "known": {source["name"]: source["sha256"] for source in sources["torch"]},
        "files": dict(sorted(files.items())),
        "environments": environments,
    }


def _lock_uv(platform: str) -> dict[str, Any]:
    package = next(package for package in read_lock(LOCKS / "locking.txt") if package.name == "uv")
    wheel = choose_wheel(package, platform, PYTHONS[0])
    if wheel is None:
        raise LockError(f"there is no wheel of uv for {platform}")
    return {"name": wheel.name, "sha256": wheel.sha256, "size": wheel.size}


def main() -> int:
    """Write the lock."""
    found = build()
    text = json.dumps(found, indent=1, sort_keys=True)
    (LOCKS / "setup.json").write_text(text + "\n", encoding="utf-8")
    print(f"locks/setup.json: {len(found['files'])} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
