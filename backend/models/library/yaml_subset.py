"""As much of YAML as lists of folders need: sections with keys, each with one value or, behind a ``|``, one on every line.

Anything else is refused, so that nothing is understood wrongly.
"""

from __future__ import annotations

import re

_KEY = re.compile(r"""( *)("[^"\\]*"|'[^']*'|\w[\w. -]*?)\s*:(?:\s+(.*))?""")
#: a text in quotes; of the escapes of double ones only those that paths need
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\["\\/])*"(?!")""")
#: what stands for no value at all
_NULLS = ("~", "null", "Null", "NULL")
#: the beginning of a document, and of what is said about it
_MARKS = re.compile(r"(---|\.\.\.)(\s+#.*)?|%.*")


class YamlError(ValueError):
    """A line is not of the kinds that are read; the text names it."""


def read_sections(text: str) -> dict[str, dict[str, list[str]]]:
    """section -> key -> values. Raises ``YamlError``."""
    sections: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] | None = None
    inner: int | None = None
    #: the key whose lines follow, and how far it stands in
    block: tuple[list[str], int] | None = None
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        line = raw.rstrip()
        depth = len(line) - len(line.lstrip(" "))
        if block is not None and line.strip() and depth > block[1]:
            block[0].append(line.strip())
            continue
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        block = None
        if _MARKS.fullmatch(line):
            section = None
            continue
        found = _KEY.fullmatch(line)
        if "\t" in line[: depth + 1] or found is None:
            raise YamlError(f"line {number} is not understood")
        key, value = _unquote_key(found[2]), _strip_comment(found[3] or "", number)
        if depth == 0:
            if value:
                raise YamlError(f"line {number} is not understood")
            section, inner = sections.setdefault(key, {}), None
        elif section is None or (inner is not None and depth != inner):
            raise YamlError(f"line {number} is not understood")
        elif value in ("|", "|-", "|+"):
            inner, block = depth, (section.setdefault(key, []), depth)
        elif value in _NULLS:
            inner = depth
        elif value:
            inner = depth
            section.setdefault(key, []).append(_unquote(value, number))
        else:
            inner = depth
    return {name: {key: values for key, values in found.items() if values} for name, found in sections.items()}


def _unquote_key(key: str) -> str:
    return key[1:-1] if key[0] in "\"'" else key


def _strip_comment(value: str, number: int) -> str:
    value = value.strip()
    if value[:1] in ("'", '"'):
        found = _QUOTED.match(value)
        rest = value[found.end() :].strip() if found else "?"
        if found is None or (rest and not rest.startswith("#")):
            raise YamlError(f"line {number} is not understood")
        return found[0]
    return re.split(r"\s#", value, maxsplit=1)[0].strip() if not value.startswith("#") else ""


def _unquote(value: str, number: int) -> str:
    if value[:1] == "'":
        return value[1:-1].replace("''", "'")
    if value[:1] == '"':
        # of all escapes only those that paths need
        return re.sub(r'\\(["\\/])', r"\1", value[1:-1])
    if value[:1] in ("[", "{", "&", "*", "!", ">", "%", "@", "`", "-") and not re.fullmatch(r"-?[\w./\\:-]+", value):
        raise YamlError(f"line {number} is not understood")
    return value
