"""The text of a file of asset catalogs, which Blender keeps beside the files of a library. No bpy.

Each catalog is a line ``UUID:path/with/slashes:simple name`` after a line with the version; other lines are comments.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from pathlib import Path

from ...shared.files import write_atomically

FILE = "blender_assets.cats.txt"
#: the parents of our own catalogs
MANNEQUIN, CLIPS, TAKES, POSES = ("LatentMan/Characters", "LatentMan/Clips", "LatentMan/Takes", "LatentMan/Poses")
_NAMESPACE = uuid.UUID("7d0c1f0e-5b0a-4b57-9a3e-3f7b1c2d8e64")
_HEAD = "# Catalogs of the assets in this folder and below it, for Blender's Asset Browser.\n\nVERSION 1\n"


def clean_path(path: str) -> str:
    """A catalog's path as Blender writes it: parts between slashes, without colons and line breaks; empty for nothing."""
    parts = (" ".join(re.sub(r"[:\\\x00-\x1f]", " ", part).split()) for part in path.split("/"))
    return "/".join(part for part in parts if part)


def make_catalog_id(path: str) -> str:
    """The id that a catalog has when we make it: the same one wherever and whenever that is."""
    return str(uuid.uuid5(_NAMESPACE, path))


def read_catalogs(text: str) -> dict[str, str]:
    """id -> path of the catalogs in a file's text; what is no catalog is passed over."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) < 2 or line.lstrip().startswith("#"):
            continue
        try:
            found.setdefault(str(uuid.UUID(parts[0].strip())), clean_path(parts[1]))
        except ValueError:
            continue
    return found


def find_catalog_id(text: str, path: str) -> str:
    """The id of the catalog at a path: the one that the text has, else the one that we would give it."""
    return next((found for found, other in read_catalogs(text).items() if other == path), make_catalog_id(path))


def add_catalogs(text: str, paths: Iterable[str]) -> str:
    """A file's text with catalogs at these paths, too; what it has already stays as it is."""
    known = set(read_catalogs(text).values())
    new = [path for path in dict.fromkeys(paths) if path and path not in known]
    if not new:
        return text
    text = text if "VERSION" in text else _HEAD + text
    lines = [f"{make_catalog_id(path)}:{path}:{path.replace('/', '-')}\n" for path in new]
    return text + ("" if text.endswith("\n") else "\n") + "".join(lines)


def remove_catalogs(text: str, paths: Iterable[str]) -> str:
    """A file's text without the catalogs that we have made at these paths."""
    ours = {make_catalog_id(path) for path in paths}
    return "".join(line for line in text.splitlines(keepends=True) if line.split(":")[0].strip() not in ours)


def read_file(folder: Path) -> str:
    """The text of a folder's catalogs, "" where it has none. Raises ``OSError``."""
    try:
        # what somebody else has written in another encoding comes back as it was
        return (folder / FILE).read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def write_file(folder: Path, text: str) -> None:
    """Write the text of a folder's catalogs. Raises ``OSError``."""
    write_atomically(folder / FILE, text.encode("utf-8", "surrogateescape"))
