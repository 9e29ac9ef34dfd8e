"""Paths as people paste them: from a file manager, a terminal, a browser or another system, with what each wraps around them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

#: what encloses a text, and what ends it then
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "‘": "’", "«": "»"}


def unquote_text(text: str) -> str:
    """A text without the white space and the quotes around it."""
    text = text.strip().strip("\u200b\ufeff\u202a\u202c").strip()
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def read_pasted_path(text: str, base: Path | None = None, exists: Callable[[str], bool] = os.path.exists) -> str:
    """The path that a text means: without quotes, with the home folder for ``~``, and from a ``file://`` address.

    ``base`` is the folder that Blender's ``//`` stands for. A text that exists as it is, is left so; where it does not, backslashes
    are taken for a terminal's before spaces and the like, or for Windows' between folders, if that exists. What is no path, such as
    a model's name, comes back without quotes. ``exists`` says whether a path is there.
    """
    if exists(text):
        return text
    text = unquote_text(text)
    if re.match(r"file:", text, re.IGNORECASE):
        text = _read_address(text)
    if text.startswith("~"):
        text = os.path.expanduser(text)
    if text.startswith("//") and base is not None and not exists(text):
        text = os.path.join(base, text[2:].replace("\\", "/"))
    if exists(text) or "\\" not in text:
        return text
    for meant in (re.sub(r"\\(.)", r"\1", text), text.replace("\\", "/")):
        if exists(meant):
            return meant
    return text


def expand_home(path: str | Path) -> Path:
    """A path with the home folder for ``~``. Raises ``ValueError`` for the home of nobody, with a sentence without
    its full stop."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path} names the home of nobody; write the folder out") from error


def complete_model_name(name: str, base: Path) -> str:
    """A model's name, parts between bars, in which paths that begin with Blender's ``//`` are whole ones below ``base``."""
    if "//" not in name:
        return name
    parts = []
    for part in unquote_text(name).split("|"):
        kind, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"\s*\w+\s*", kind):
            kind, equals, value = "", "", part
        plain = unquote_text(value)
        parts.append(f"{kind.strip()}{equals}{read_pasted_path(plain, base)}" if is_relative_to_blend_file(plain) else part)
    return "|".join(parts)


def is_relative_to_blend_file(path: str) -> bool:
    """Whether a path begins with Blender's ``//``, and is none from the root that is there."""
    return path.startswith("//") and not os.path.exists(path)


def _read_address(text: str) -> str:
    """The path of a ``file:`` address, whose odd letters are numbers."""
    rest = unquote(text[len("file:") :])
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        rest = slash + rest
        if re.fullmatch(r"[A-Za-z]:", host):  # file://C:/..., which has a slash too few
            return host + rest
        if host and host.lower() != "localhost":
            return f"//{host}{rest}"
    return rest[1:] if re.match(r"/[A-Za-z]:[/\\]", rest) else rest
