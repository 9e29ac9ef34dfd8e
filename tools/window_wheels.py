"""The real packages of *Set Up* in a folder, and an index on loopback that has them, for the window's test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from latentman.backend.installation.failures import InstallationError
from latentman.backend.installation.index import Indexes
from latentman.backend.installation.lock_file import LockedFile, find_system, read_lock
from latentman.backend.installation.network import Network
from latentman.backend.installation.transfer import fetch
from tools.stand_in_index import StandInIndex

#: what the window's test installs: the build without a GPU, for the Python that runs the test
BUILD, PYTHON = "cpu", f"{sys.version_info[0]}.{sys.version_info[1]}"
#: bytes that the index sends at once, and the seconds between two of them: slow enough to be looked at
PIECE, PAUSE = 1 << 20, 0.06


def list_files() -> tuple[LockedFile, ...]:
    """What an installation here fetches."""
    lock, system = read_lock(), find_system()
    files = lock.find_files(system, BUILD, PYTHON)
    if files is None:
        raise SystemExit(f"There is no locked list for {BUILD} with Python {PYTHON}.")
    return (lock.uv[system], *files)


def _find_url(indexes: Indexes, file: LockedFile) -> str:
    return indexes.find(file).url


def fetch_wheels(folder: Path) -> None:
    """Have all of it in a folder, from the indexes, or by pip where a build lies with the machine's own wheels."""
    network = Network.from_environment()
    indexes = Indexes(network)
    folder.mkdir(parents=True, exist_ok=True)
    for file in list_files():
        if (folder / file.name).exists():
            continue
        try:
            fetch(network, partial(_find_url, indexes, file), file, folder, lambda done: None)
        except InstallationError:
            if not file.folder:
                raise
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
            subprocess.run([*pip, f"{file.package}=={file.version}"], check=True)


@contextmanager
def serve_wheels(folder: Path) -> Iterator[dict[str, str]]:
    """An index of the folder, slow as a network is; gives the environment variables that name it."""
    index = StandInIndex()
    try:
        torch = folder / "torch"
        torch.mkdir(exist_ok=True)
        for wheel in folder.glob("torch-*+*.whl"):
            if not (torch / wheel.name).exists():
                shutil.copy2(wheel, torch / wheel.name)
        index.folders = {"simple": folder, f"whl/{BUILD}": torch}
        index.piece, index.pause = PIECE, PAUSE
        yield {
            "LATENTMAN_PACKAGE_INDEX": f"{index.address}/simple",
            "LATENTMAN_TORCH_INDEX": f"{index.address}/whl",
            "LATENTMAN_PYTHON_MIRROR": f"{index.address}/pythons",
        }
    finally:
        index.close()
