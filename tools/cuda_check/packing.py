"""Packs what a machine needs that has torch and no network: the packages that the locks name, this project with the starter, and a
shot that Blender has rendered here. One file, compressed as far as it goes, and a script that unpacks and runs it."""

from __future__ import annotations

import io
import lzma
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from packaging.markers import Marker

from tools.locks import LOCKS, LockedPackage, check_files, normalise, read_lock

from .shots_folder import ROOT

ARCHIVE, SCRIPT = "pack.tar.xz", "run.py"
#: what a pack may take, in bytes
MOST = 60 << 20
#: the wheels that a machine can use, by the end of their names' tags
MACHINES = {
    "linux-x64": ("linux", "x86_64", [f"manylinux_2_{n}_x86_64" for n in (28, 27, 26, 24, 17, 12, 5)] + ["manylinux2014_x86_64"]),
    "linux-arm64": ("linux", "aarch64", [f"manylinux_2_{n}_aarch64" for n in (28, 27, 26, 24, 17)] + ["manylinux2014_aarch64"]),
}
#: what torch cannot do without, so that it is where torch is
BESIDE_TORCH = {"torch", "triton", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "setuptools"}
CUDA = ("nvidia-", "cuda-")
#: what torch's machines have nearly always, and would be most of the pack
DEFAULT_INSTALLED = ("numpy", "scipy", "pillow")
#: what only bodies of other people's models need
UNUSED = {"smplx"}
#: of the project, what is run, and of other files what that reads
FOLDERS = ("shared", "backend", "blender_addon", "tools", "locks")
FILES = ("__init__.py", "blender_manifest.toml", "pyproject.toml")
LEFT_OUT = (
    "backend/models/flow_starter",
    "backend/models/clip_starter",
    "backend/motion/starter",
    "blender_addon/translation",
    "blender_addon/presets",
    "tools/starter/judge.safetensors",
    "locks/setup.json",
)
LOCK_SUFFIX = ".txt"
RUN = '''"""Unpacks pack.tar.xz beside this file and runs tools.cuda_check: python3 run.py --minutes 8 --out DIR.

python3 run.py train --minutes 9 --work DIR trains the larger starter instead (tools.train_dressed_starter).
"""

import atexit
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
folder = tempfile.mkdtemp(prefix="latentman-cuda-check-")
atexit.register(shutil.rmtree, folder, ignore_errors=True)
with tarfile.open(os.path.join(here, "pack.tar.xz")) as archive:
    archive.extractall(folder, filter="data")
environment = dict(os.environ, HF_HUB_OFFLINE="1", LATENTMAN_DATA=folder + "/data", LATENTMAN_CONFIG=folder + "/config")
environment["LATENTMAN_LOGS"] = folder + "/logs"
# what lies in the current folder shadows nothing
environment["PYTHONSAFEPATH"] = "1"
environment["PYTHONPATH"] = os.pathsep.join([folder, folder + "/site", *filter(None, [os.environ.get("PYTHONPATH")])])
if sys.argv[1:2] == ["train"]:
    command = [sys.executable, "-m", "tools.train_dressed_starter", *sys.argv[2:]]
else:
    command = [sys.executable, "-m", "tools.cuda_check", "--shots", folder + "/shots", *sys.argv[1:]]
sys.exit(subprocess.call(command, env=environment))
'''


class PackError(ValueError):
    """Something that keeps a pack from being made, in a sentence."""


def _environment(python: str, machine: str) -> dict[str, str]:
    """What markers see on the other machine."""
    system, processor, _ = MACHINES[machine]
    return {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python if python.count(".") == 2 else f"{python}.0",
        "sys_platform": system,
        "platform_system": "Linux",
        "platform_machine": processor,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def choose_packages(packages: Iterable[LockedPackage], python: str, machine: str, installed: Sequence[str]) -> list[LockedPackage]:
    """The packages of the backend's lock that the other machine lacks."""
    there = {normalise(name) for name in installed} | BESIDE_TORCH | UNUSED
    environment = _environment(python, machine)
    chosen = []
    for package in packages:
        _, _, marker = package.text.splitlines()[0].rstrip("\\ ").partition(";")
        fits = not marker.strip() or Marker(marker.strip()).evaluate(environment)
        if fits and package.name not in there and not package.name.startswith(CUDA):
            chosen.append(package)
    return chosen


def fetch_wheels(packages: Sequence[LockedPackage], folder: Path, python: str, machine: str) -> list[Path]:
    """Download wheels, whose hashes are those of the lock. Raises ``PackError``."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "wanted.txt"
    # markers are those of the Python that asks, and have been looked at
    lines = [
        " ".join([f"{package.name}=={package.version}", *(f"--hash=sha256:{one}" for one in sorted(package.hashes))])
        for package in packages
    ]
    wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
    tag = "cp" + "".join(python.split(".")[:2])
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"),
        *(
            "--only-binary=:all:",
            "--python-version",
            python,
            "--implementation",
            "cp",
            "--abi",
            tag,
            "--abi",
            "abi3",
            "--abi",
            "none",
        ),
        *(option for platform in MACHINES[machine][2] for option in ("--platform", platform)),
        *("--dest", str(folder), "--requirement", str(wanted)),
    ]
    if subprocess.run(command, check=False).returncode:
        raise PackError(f"The wheels for Python {python} on {machine} could not be fetched; is the package index reachable?")
    wheels = sorted(folder.glob("*.whl"))
    check_files(wheels, packages)
    return wheels


def list_wheel(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """(path below the folder of packages, content) of a wheel's files, without programs and headers."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if entry.is_dir() or path.is_absolute() or ".." in path.parts:
                continue
            if path.parts[0].endswith(".data"):
                if path.parts[1] not in ("purelib", "platlib"):
                    continue
                path = PurePosixPath(*path.parts[2:])
            yield str(path), archive.read(entry)


def list_project() -> Iterator[tuple[str, Path]]:
    """(path, file) of what the project is run from: its packages under the name latentman, and the tools."""
    for name in FILES:
        yield f"latentman/{name}", ROOT / name
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            inside = path.relative_to(ROOT).as_posix()
            if not path.is_file() or "__pycache__" in path.parts or inside.startswith(LEFT_OUT):
                continue
            if folder == "locks" and path.suffix != LOCK_SUFFIX:
                continue
            yield inside if folder in ("tools", "locks") else f"latentman/{inside}", path


def write_archive(path: Path, contents: Iterable[tuple[str, bytes]]) -> None:
    """A compressed archive of (path, content)."""
    with lzma.open(path, "wb", preset=6) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for name, data in contents:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))


def list_contents(wheels: Sequence[Path], shots: Path | None) -> Iterator[tuple[str, bytes]]:
    """(path, content) of all that is packed."""
    for wheel in wheels:
        for name, data in list_wheel(wheel):
            yield f"site/{name}", data
    for name, path in list_project():
        yield name, path.read_bytes()
    for path in sorted(shots.iterdir()) if shots is not None else ():
        yield f"shots/{path.name}", path.read_bytes()


def pack(folder: Path, python: str, machine: str, installed: Sequence[str], shots: Path) -> str:
    """Write the pack into a folder; a sentence about it. Raises ``PackError``."""
    folder.mkdir(parents=True, exist_ok=True)
    if not shots.is_dir():
        _render_shots(shots)
    packages = choose_packages(read_lock(LOCKS / "backend.txt"), python, machine, installed)
    with tempfile.TemporaryDirectory() as temporary:
        wheels = fetch_wheels(packages, Path(temporary), python, machine)
        write_archive(folder / ARCHIVE, list_contents(wheels, shots))
    (folder / SCRIPT).write_text(RUN, encoding="utf-8")
    size = (folder / ARCHIVE).stat().st_size
    if size > MOST:
        (folder / ARCHIVE).unlink()
        raise PackError(
            f"The pack would have {size / 2**20:.0f} MiB, more than {MOST / 2**20:.0f}; name with --installed more of what the "
            "other machine has."
        )
    return (
        f"{folder}: {size / 2**20:.1f} MiB with {len(wheels)} packages. Copy {ARCHIVE} and {SCRIPT} to the other machine and run "
        f"python3 {SCRIPT} --minutes 8 --out DIR there, with the Python that has torch; "
        f"python3 {SCRIPT} train --minutes 9 --work DIR trains the larger starter."
    )


def _render_shots(shots: Path) -> None:
    """Render the shot in Blender, in a process of its own. Raises ``PackError``."""
    command = [sys.executable, "-m", "tools.cuda_check.rendering", str(shots)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise PackError("The shot could not be rendered: this Python has no bpy that works; run make setup first.")
