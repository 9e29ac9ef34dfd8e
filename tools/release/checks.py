"""What must be true before a release: nothing uncommitted, one version everywhere, notes, zips that are not too large."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

#: the largest zip, in bytes
MOST_BYTES = 45_000_000
#: the heading under which changes are collected
UNRELEASED = "Not yet released"
_HEADING = re.compile(r"(?m)^## +(.+?) *$")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class ReleaseError(ValueError):
    """Nothing is released; the message says what to do."""


def _git(root: Path, *arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ReleaseError(f"A release is made from a git checkout, and git cannot read {root}; clone it.") from error
    return found.stdout.rstrip()


def check_tree(root: Path) -> str:
    """The commit that is checked out. Raises ``ReleaseError`` where a file differs from it or is unknown to it."""
    changed = _git(root, "status", "--porcelain").splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ReleaseError(f"{changed[0][3:]}{more} is not committed; commit it or put it away.")
    return _git(root, "rev-parse", "HEAD")


def read_manifest_version(root: Path) -> str:
    """The version in the extension's manifest. Raises ``ReleaseError`` for one that Blender cannot compare."""
    version = str(tomllib.loads((root / "blender_manifest.toml").read_text(encoding="utf-8")).get("version"))
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"The version {version} of blender_manifest.toml is not of the form 1.2.3.")
    return version


def read_notes(changelog: str, version: str) -> str:
    """What the text of ``CHANGELOG.md`` says of a version, without its heading. Raises ``ReleaseError`` where the newest section is
    another's, or empty."""
    headings = list(_HEADING.finditer(changelog))
    if not headings:
        raise ReleaseError("CHANGELOG.md has no section; write what is new under '## " + version + "'.")
    first = headings[0][1]
    if first != version:
        advice = (
            "call that section so" if first == UNRELEASED else "raise the version in blender_manifest.toml, or write the section"
        )
        raise ReleaseError(f"CHANGELOG.md begins with '{first}' and blender_manifest.toml says {version}; {advice}.")
    end = headings[1].start() if len(headings) > 1 else len(changelog)
    notes = changelog[headings[0].end() : end].strip()
    if not notes:
        raise ReleaseError(f"CHANGELOG.md says nothing of {version}; write what is new.")
    return notes


def check_version(root: Path, code_version: str) -> tuple[str, str]:
    """(version, notes) of the release. Raises ``ReleaseError`` where manifest, code and change log disagree, or a tag of that
    version names another commit."""
    version = read_manifest_version(root)
    if version != code_version:
        raise ReleaseError(f"blender_manifest.toml says {version} and shared/version.py {code_version}; take it from the manifest.")
    notes = read_notes((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    if _git(root, "tag", "--list", f"v{version}") and _git(root, "rev-list", "-n1", f"v{version}") != _git(
        root, "rev-parse", "HEAD"
    ):
        raise ReleaseError(f"The tag v{version} names another commit; raise the version in blender_manifest.toml.")
    return version, notes


def check_size(path: Path) -> None:
    """Raises ``ReleaseError`` for a zip that is too large."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ReleaseError(f"{path.name} has {size / 1e6:.1f} MB, and may have {MOST_BYTES / 1e6:.0f}; make it smaller.")
