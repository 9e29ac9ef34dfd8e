"""Lines that are as wide as their place, in scripts with and without spaces."""

from __future__ import annotations

import re
import unicodedata

#: what no line begins with, and what none ends with
_NO_BEGINNING = "、。，．・：；？！」』）】〉》ーゝ々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ,.:;?!)]}%·"
_NO_END = "「『（【〈《([{"
#: a word with the spaces behind it, or one wide character
_WIDE = r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]"
_PIECE = re.compile(rf"{_WIDE}|(?:(?!{_WIDE})\S)+|\s+")


def measure_width(text: str) -> int:
    """The width of a text in narrow characters: a Chinese or Japanese one takes two, a combining one none."""
    return sum(0 if unicodedata.combining(character) else 2 if is_wide(character) else 1 for character in text)


def is_wide(character: str) -> bool:
    """Whether a character is a Chinese or Japanese one."""
    return unicodedata.east_asian_width(character) in "WF"


def _split(text: str) -> list[str]:
    """What stays together on a line, spaces by themselves."""
    pieces: list[str] = []
    for piece in _PIECE.findall(text):
        glued = pieces and not piece.isspace() and not pieces[-1].isspace()
        if glued and (piece[0] in _NO_BEGINNING or pieces[-1][-1] in _NO_END):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces


def _cut(piece: str, width: int) -> tuple[str, str]:
    """A piece cut where the line is full, after at least one character; a path or an address rather behind a mark in it."""
    taken = 1
    while taken < len(piece) and measure_width(piece[: taken + 1]) <= width:
        taken += 1
    mark = max(piece.rfind(mark, 0, taken) for mark in "/\\-_.") + 1
    if mark > taken // 2:
        taken = mark
    return piece[:taken], piece[taken:]


def wrap(text: str, width: int) -> list[str]:
    """The lines of a text, each at most ``width`` narrow characters wide; a word that is longer is cut. An empty text has none."""
    lines: list[str] = []
    line = ""
    for piece in _split(" ".join(text.split())):
        if measure_width(line + piece.rstrip()) <= width:
            line += piece
            continue
        if line.strip():
            lines.append(line.rstrip())
        line = piece.lstrip()
        while measure_width(line) > width:
            head, line = _cut(line, width)
            lines.append(head)
    if line.strip():
        lines.append(line.rstrip())
    return lines
