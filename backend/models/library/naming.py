"""Paths that people name on the command line or in the panel."""

from __future__ import annotations

import os
from pathlib import Path

from ....shared.pasted_paths import read_pasted_path
from ....shared.shot import ShotError


def read_path(text: str) -> Path:
    """The whole path that a text means. Raises ``ShotError`` for no text at all, which would be the folder that the program was
    started in, and for one that cannot be written down or sent."""
    if not text.strip():
        raise ShotError("library", "The name is empty; name a folder, a file or an entry of 'latentman models list'.")
    path = read_pasted_path(text)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ShotError("library", f"The name of {path!a} holds bytes that are no letters; rename it.") from error
    if "\0" in path:
        raise ShotError("library", "No file has a zero byte in its name; write another one.")
    return Path(os.path.abspath(path))
