"""Which code makes frames, without importing it."""

from __future__ import annotations

from functools import cache

from .making import BACKEND, fingerprint_modules

#: folders of code that decides what frames look like
CODE = ("video", "maps", "models")


@cache
def describe_code() -> str:
    """A hash of what the code does that makes frames."""
    return fingerprint_modules(path for folder in CODE for path in (BACKEND / folder).rglob("*.py"))[:24]
