"""Whether an environment is whole: its packages, and a fetched Python, compared file by file with what was installed."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...shared.backend_environment import STAMP, read_json
from .folders import extend
from .lock_file import normalise
from .transfer import hash_file

#: the folder of a fetched Python, as it stands in its archive, and the list of its files
PYTHON_FOLDER, PYTHON_LIST = "python", "python.json"
#: what a fetched Python is called where packages are
PYTHON_ITSELF = "Python"


def find_damage(folder: Path, report: Callable[[int], None] | None = None) -> dict[str, list[str]]:
    """Packages with files that are gone or changed: name -> the files. Compares every file with the record of its package, the
    records with the environment's stamp, and a fetched Python with the list that was made when it was unpacked."""
    check = _Check(report)
    records = read_json(folder / STAMP).get("records")
    records = records if isinstance(records, dict) else {}
    for site in find_site_folders(folder):
        for info in sorted(site.glob("*.dist-info")):
            name = normalise(info.name.partition("-")[0])
            try:
                data = (info / "RECORD").read_bytes()
                if name in records and hashlib.sha256(data).hexdigest() != records[name]:
                    raise ValueError("the record was changed")
                rows = read_record(data)
            except (OSError, ValueError):
                check.add(name, f"{info.name}/RECORD")
                continue
            for path, digest in rows.items():
                check.compare(name, site, path, digest)
    if (folder / PYTHON_FOLDER).is_dir():
        listed = read_python_list(folder)
        if listed is None:
            check.add(PYTHON_ITSELF, PYTHON_LIST)
        for path, digest in (listed or {}).items():
            check.compare(PYTHON_ITSELF, folder / PYTHON_FOLDER, path, digest)
    return check.damaged


def read_record(data: bytes) -> dict[str, str]:
    """A package's record: path -> SHA-256, for the files in the folder of packages. Programs lie outside, and are written for the
    place where they are. Raises ``ValueError``."""
    found = {}
    try:
        for row in csv.reader(io.StringIO(data.decode("utf-8")), strict=True):
            if len(row) != 3:
                raise ValueError("a record has three columns")
            path, digest = row[0], row[1]
            is_inside = not (
                PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or ".." in PurePosixPath(path).parts
            )
            if digest.startswith("sha256=") and is_inside and not path.endswith(".pyc"):
                found[path] = base64.urlsafe_b64decode(digest.partition("=")[2] + "==").hex()
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return found


def read_python_list(folder: Path) -> dict[str, str] | None:
    """The files of an environment's fetched Python: path -> SHA-256; None where the list cannot be read."""
    try:
        found = json.loads((folder / PYTHON_LIST).read_bytes())
    except (OSError, ValueError):
        return None
    return {str(path): str(digest) for path, digest in found.items()} if isinstance(found, dict) and found else None


class _Check:
    """Compares files with their hashes, and counts the bytes."""

    def __init__(self, report: Callable[[int], None] | None) -> None:
        self.damaged: dict[str, list[str]] = {}
        self._report, self._done = report, 0

    def add(self, name: str, path: str) -> None:
        self.damaged.setdefault(name, []).append(path)

    def compare(self, name: str, folder: Path, path: str, digest: str) -> None:
        whole = Path(extend(folder / path))
        before = self._done

        def report(done: int) -> None:
            self._done = before + done
            if self._report:
                self._report(self._done)

        try:
            if hash_file(whole, report) != digest:
                self.add(name, path)
        except OSError:
            self.add(name, path)


def find_site_folders(folder: Path) -> list[Path]:
    """The folders of an environment that packages lie in."""
    return sorted(
        path for path in (*folder.glob("*/lib/python3*/site-packages"), *folder.glob("*/Lib/site-packages")) if path.is_dir()
    )


def list_installed(folder: Path) -> dict[str, str]:
    """The packages that are there: name -> version."""
    found = {}
    for site in find_site_folders(folder):
        for info in site.glob("*.dist-info"):
            name, _, version = info.name.removesuffix(".dist-info").partition("-")
            if (info / "RECORD").exists():
                found[normalise(name)] = version
    return found


def hash_records(folder: Path) -> dict[str, str]:
    """Package -> the SHA-256 of its record, for an environment's packages."""
    return {
        normalise(record.parent.name.partition("-")[0]): hash_file(record)
        for site in find_site_folders(folder)
        for record in site.glob("*.dist-info/RECORD")
    }
