"""Prompts written on several lines, in a text of Blender's or a file."""

from __future__ import annotations

from pathlib import Path

from .files import read_file
from .settings import MAX_TEXT
from .shot import ShotError

#: what a line begins with that is not said to the model
COMMENT = "#"


def join_lines(text: str) -> str:
    """What is said of a text with several lines: line breaks become spaces, and lines that begin with # are left out."""
    lines = (line.strip() for line in text.splitlines())
    return " ".join(line for line in lines if line and not line.startswith(COMMENT))


def read_prompt_file(path: Path) -> str:
    """The prompt in a file, UTF-8. Raises ``ShotError`` for one that cannot be read, or that says nothing."""
    try:
        # what a letter takes at most, and comments beside them
        text = read_file(path, 16 * MAX_TEXT).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise ShotError("prompt", f"The prompt {path} cannot be read ({reason}); give a text file in UTF-8.") from error
    found = join_lines(text)
    if not found:
        raise ShotError("prompt", f"The prompt {path} says nothing; write it there, on lines that do not begin with {COMMENT}.")
    return found
