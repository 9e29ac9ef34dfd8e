"""Reads the files in which gettext's tools keep translations.

The format: https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html. Of it the catalogues here have single messages
with comments and flags; plurals and contexts, which they do not need, are refused.
"""

from __future__ import annotations

import re

#: a keyword with a text, or a text that continues the one of the line before
_LINE = re.compile(r'(?:(msgid|msgstr)\s+)?"((?:[^"\\]|\\.)*)"')
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"'}


class CatalogueError(ValueError):
    """A catalogue that is not what its format says."""


def _unescape(text: str, number: int) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise CatalogueError(f"line {number} has the unknown escape '{match[0]}'")
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", replace, text)


def read_messages(text: str) -> dict[str, str]:
    """The translation of every message of a catalogue; the header, and messages that are marked as obsolete, as fuzzy or that have
    no translation are left out. Raises ``CatalogueError`` with the line for what cannot be read, and for a message that is there
    twice."""
    found: dict[str, str] = {}
    entry: dict[str, str] = {}
    field, fuzzy = "", False

    def close(number: int) -> None:
        nonlocal entry, fuzzy
        message = entry.get("msgid")
        if message is not None and "msgstr" not in entry:
            raise CatalogueError(f"the message before line {number} has no msgstr")
        if message:
            if message in found:
                raise CatalogueError(f"the message before line {number} is there twice")
            if entry["msgstr"] and not fuzzy:
                found[message] = entry["msgstr"]
        entry, fuzzy = {}, False

    lines = text.removeprefix("\ufeff").splitlines()
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            if "msgstr" in entry:
                close(number)
            fuzzy = fuzzy or (stripped.startswith("#,") and "fuzzy" in stripped)
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise CatalogueError(f"line {number} cannot be read: {stripped[:60]}")
        if match[1] == "msgid" and "msgstr" in entry:
            close(number)
        if match[1]:
            field = match[1]
            if field in entry or (field == "msgstr" and "msgid" not in entry):
                raise CatalogueError(f"line {number} has a {field} that belongs to no message")
            entry[field] = ""
        elif not entry:
            raise CatalogueError(f"line {number} continues no text")
        entry[field] += _unescape(match[2], number)
    close(len(lines) + 1)
    return found
