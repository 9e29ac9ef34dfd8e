"""The folder that is put on a web server: zips, ``index.json`` for Blender, checksums and notes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

INDEX, SUMS, NOTES = "index.json", "SHA256SUMS", "NOTES.md"


def write_index(folder: Path, run_blender_tool: Callable[..., None]) -> list[dict[str, object]]:
    """Let Blender's own tool list the zips of a folder, with addresses relative to the list; returns its entries.

    They are put in the order of their names, so that the same zips give the same bytes. Raises ``ValueError`` when not every zip
    came to be listed.
    """
    run_blender_tool("server-generate", "--repo-dir", str(folder))
    path = folder / INDEX
    found = json.loads(path.read_text(encoding="utf-8"))
    found["data"].sort(key=lambda entry: entry["archive_url"])
    path.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    listed, there = (
        [entry["archive_url"] for entry in found["data"]],
        [f"./{zipped.name}" for zipped in sorted(folder.glob("*.zip"))],
    )
    if listed != there:
        raise ValueError(f"Blender's tool listed {listed} of {there}.")
    entries: list[dict[str, object]] = found["data"]
    return entries


def write_checksums(folder: Path) -> None:
    """``SHA256SUMS`` of every other file of a folder, as ``sha256sum --check`` reads it."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def write_notes(folder: Path, version: str, commit: str, notes: str) -> None:
    """The release's notes."""
    (folder / NOTES).write_text(f"# LatentMan {version}\n\n{notes}\n\nCommit {commit}.\n", encoding="utf-8")
