"""Translates texts that are already put together.

Most sentences are written where something is found out, far from any window, and name files, numbers or other sentences. A message
of the catalogue therefore has ``{}`` in the places of what is filled in, and a sentence is recognised by what stands between them.
What is filled in is translated in its turn if it is itself a text of the extension. A text of which a part is unknown stays as it
is, so that nothing is half in one language and half in another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

#: the place of what is filled in: ``{}``, or ``{2}`` in a translation that puts the second first
_PLACE = re.compile(r"\{(\d*)\}")
#: what may join texts that stand by themselves, longest first
_JOINTS = re.compile(r"(?<=[.!?])(\s+)(?=[A-Z'\"(0-9])|( · )|(; )|(: )")
#: a longer text, and one of more parts, is none of the extension's own
_LONGEST, _MOST_JOINTS = 4000, 24


def count_places(message: str) -> int:
    """How many places a message has for what is filled in."""
    return len(_PLACE.findall(message))


def fill(message: str, values: tuple[str, ...]) -> str:
    """A message with its places filled: ``{}`` in the order of the values, ``{2}`` with the second.

    Raises ``IndexError`` for a place that has no value.
    """
    order = iter(range(len(values)))

    def take(match: re.Match[str]) -> str:
        return values[int(match[1]) - 1 if match[1] else next(order, len(values))]

    return _PLACE.sub(take, message)


class Template:
    """A message with places, and how a text is recognised as it."""

    def __init__(self, message: str) -> None:
        self.message = message
        literals = _PLACE.split(message)[::2]
        #: characters that are not filled in: of two templates, the one with more says more
        self.weight = sum(map(len, literals))
        # a place holds as little as it can, or the rest of the text if it is the last
        self._pattern = re.compile("(.+?)".join(map(re.escape, literals)), re.DOTALL)
        #: its longest fixed part, which is looked for first
        self.anchor = max(literals, key=len)

    def match(self, text: str) -> tuple[str, ...] | None:
        """What is filled in, or None if the text is another."""
        if self.anchor not in text:
            return None
        found = self._pattern.fullmatch(text)
        return found.groups() if found else None


class Translator:
    """Texts in one language; ``messages`` are those of a catalogue."""

    def __init__(self, messages: Mapping[str, str]) -> None:
        self._exact = {message: translation for message, translation in messages.items() if not _PLACE.search(message)}
        templates = [Template(message) for message in messages if _PLACE.search(message)]
        # a message of places only would be any text
        self._templates = sorted((found for found in templates if found.anchor.strip(" .,:;·")), key=lambda found: -found.weight)
        self._filled = {found.message: messages[found.message] for found in self._templates}
        self._translate = lru_cache(maxsize=1024)(self._translate_anew)

    def translate(self, text: str) -> str:
        """The text in the language; as it is where the catalogue does not have all of it."""
        found = self._translate(text)
        return text if found is None else found

    def _translate_anew(self, text: str) -> str | None:
        if not any(character.isalpha() for character in text):
            return text
        exact = self._exact.get(text)
        if exact is not None:
            return exact
        if len(text) > _LONGEST:
            return None
        core = text.strip()
        if core != text:
            found = self._translate(core)
            return None if found is None else text.replace(core, found)
        for template in self._templates:
            values = template.match(text)
            if values is not None:
                return fill(self._filled[template.message], tuple(map(self._translate_value, values)))
        return self._translate_parts(text)

    def _translate_value(self, value: str) -> str:
        """What is filled in: a file's name stays, a sentence or a word of the extension is translated."""
        found = self._translate(value)
        return value if found is None else found

    def _translate_parts(self, text: str) -> str | None:
        """A text of several that stand by themselves, if every one of them is known."""
        joints = list(_JOINTS.finditer(text))
        for joint in joints if len(joints) <= _MOST_JOINTS else ():
            head, tail = self._translate(text[: joint.start()]), self._translate(text[joint.end() :])
            if head is not None and tail is not None:
                return head + joint[0] + tail
        # a sentence may end without its full stop, and a list's item with one
        if text.endswith("."):
            found = self._exact.get(text[:-1])
            return None if found is None else f"{found}."
        found = self._exact.get(f"{text}.")
        return None if found is None else found.rstrip(".。")
