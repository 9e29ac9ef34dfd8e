"""Translates texts that are already put together.

Most sentences are written where something is found out, far from any window, and name files, numbers or other sentences. A message
of the catalogue therefore has ``{}`` in the places of what is filled in, and a sentence is recognised by what stands between them.
What is filled in is translated in its turn if it is itself a text of the extension, and stays if it is a name that somebody has
given. A text of which a part is unknown stays as it is, so that nothing is half in one language and half in another.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache

from .wrapping import is_wide

#: the place of what is filled in: ``{}``, or ``{2}`` in a translation that puts the second first
_PLACE = re.compile(r"\{(\d*)\}")
#: what may join texts that stand by themselves
_JOINTS = re.compile(r"(?<=[.!?])\s+(?=[A-Z'\"(0-9])| · |; |: |, ")
_SENTENCE_END = re.compile(r"[.!?]\s")
#: a longer text, and one of more parts, is none of the extension's own
_LONGEST, _MOST_JOINTS = 4000, 24
#: with fewer letters of its own, a message could be anybody's sentence
_FEW_LETTERS = 6
#: behind how many words of a name what is said of it is looked for
_LONGEST_NAME = 8


def fill(message: str, values: tuple[str, ...]) -> str:
    """A message with its places filled: ``{}`` in the order of the values, ``{2}`` with the second.

    Raises ``IndexError`` for a place that has no value.
    """
    order = iter(range(len(values)))

    def take(match: re.Match[str]) -> str:
        return values[int(match[1]) - 1 if match[1] else next(order, len(values))]

    return _PLACE.sub(take, message)


def _is_name(value: str) -> bool:
    """Whether what is filled in looks like a name: a bone or a camera may be called what a label is called."""
    return value[:1].isupper() and " " not in value


def _translate_part(part: str, translate: Callable[[str], str | None], is_list: bool) -> str | None:
    """A part of a text; in a list a word of which nothing is known is a name, such as a device's."""
    found = translate(part)
    return part if found is None and is_list and " " not in part else found


class Template:
    """A message with places, and how a text is recognised as it."""

    def __init__(self, message: str) -> None:
        self.message = message
        literals = _PLACE.split(message)[::2]
        #: characters that are not filled in: of two templates, the one with more says more
        self.weight = sum(map(len, literals))
        #: its own letters
        self.letters = sum(character.isalpha() for character in "".join(literals))
        #: for each place, whether it is in quotation marks, as names are
        self.quoted = [before.endswith("'") and after.startswith("'") for before, after in itertools.pairwise(literals)]
        # a place holds as little as it can, or the rest of the text if it is the last
        self._text = "(.*?)".join(map(re.escape, literals))
        #: its longest fixed part, which is looked for first
        self.anchor = max(literals, key=len)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Compiled when it is first needed: of a thousand messages few are ever shown."""
        return re.compile(self._text, re.DOTALL)

    def match(self, text: str) -> tuple[str, ...] | None:
        """What is filled in, or None if the text is another."""
        if self.anchor not in text:
            return None
        found = self._pattern.fullmatch(text)
        return found.groups() if found else None

    def match_end(self, text: str) -> tuple[str, tuple[str, ...]] | None:
        """What stands before the message at the end of a text, and what is filled in; None if the text ends otherwise."""
        if self.anchor not in text:
            return None
        found = re.fullmatch(rf"(.*?\s?){self._text}", text, re.DOTALL)
        return (found[1], found.groups()[1:]) if found else None


class Translator:
    """Texts in one language; ``messages`` are those of a catalogue."""

    def __init__(self, messages: Mapping[str, str]) -> None:
        self._exact = {message: translation for message, translation in messages.items() if not _PLACE.search(message)}
        templates = [Template(message) for message in messages if _PLACE.search(message)]
        # a message of places only would be any text
        self._templates = sorted((found for found in templates if found.letters), key=lambda found: -found.weight)
        self._endings = [found for found in self._templates if found.message.startswith((",", "and ", "(", "with "))]
        self._filled = {found.message: messages[found.message] for found in self._templates}
        self._translate = lru_cache(maxsize=1024)(self._translate_anew)
        self._translate_whole = lru_cache(maxsize=4096)(self._translate_whole_anew)

    def translate(self, text: str) -> str:
        """The text in the language; as it is where the catalogue does not have all of it."""
        found = self._translate(text)
        return text if found is None else found

    def fill_in(self, message: str, values: tuple[str, ...]) -> str:
        """A message in the language, filled with what somebody has written, which stays as it is."""
        return fill(self._filled.get(message) or self._exact.get(message, message), values)

    def _translate_anew(self, text: str) -> str | None:
        if len(text) > _LONGEST:
            return self._exact.get(text)
        whole = self._translate_whole(text)
        if whole is not None:
            return whole
        core = text.strip()
        if core != text:
            found = self._translate(core)
            return None if found is None else text.replace(core, found)
        for template, values in self._match(text):
            if self._is_sure(template, values):
                return fill(self._filled[template.message], self._translate_values(template, values))
        return self._translate_parts(text, self._translate) or self._translate_said_of_name(text)

    def _translate_whole_anew(self, text: str) -> str | None:
        """A text of which everything is known, but for names in quotation marks."""
        if not any(character.isalpha() for character in text):
            return text
        exact = self._exact.get(text)
        if exact is not None:
            return exact
        if text.strip() != text:
            return None
        for template, values in self._match(text):
            known = [
                value if quoted else self._translate_known(value) for value, quoted in zip(values, template.quoted, strict=True)
            ]
            if None not in known:
                return fill(self._filled[template.message], tuple(str(value) for value in known))
        return self._translate_parts(text, self._translate_whole) or self._translate_capitalised(text)

    def _match(self, text: str) -> Iterator[tuple[Template, tuple[str, ...]]]:
        """The templates that a text may be, those first that say most, with what is filled in."""
        for template in self._templates:
            values = template.match(text)
            if values is not None:
                yield template, values

    def _translate_known(self, value: str) -> str | None:
        """What is filled in, if all of it is known."""
        return None if _is_name(value) else self._translate_whole(value)

    def _translate_capitalised(self, text: str) -> str | None:
        """A message that begins a line, such as "Very steady"."""
        found = self._exact.get(text[:1].lower() + text[1:]) if text[:1].isupper() else None
        return None if found is None else found[:1].upper() + found[1:]

    def _is_sure(self, template: Template, values: tuple[str, ...]) -> bool:
        """Whether a text is a template's, and not by chance like it."""
        if not template.message.endswith((".", "!", "?")) and any(_SENTENCE_END.search(value) for value in values):
            return False
        return template.letters >= _FEW_LETTERS or all(self._translate(value) is not None for value in values)

    def _translate_values(self, template: Template, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            value if quoted else self._translate_value(value) for value, quoted in zip(values, template.quoted, strict=True)
        )

    def _translate_value(self, value: str) -> str:
        """What is filled in: a name stays, a sentence or a word of the extension is translated."""
        if _is_name(value):
            return value
        found = self._translate(value)
        if found is not None:
            return found
        for template in self._endings:
            ending = template.match_end(value)
            if ending is not None:
                return ending[0] + fill(self._filled[template.message], self._translate_values(template, ending[1]))
        return value

    def _translate_parts(self, text: str, translate: Callable[[str], str | None]) -> str | None:
        """A text of several that stand by themselves, if every one of them is known."""
        joints = list(_JOINTS.finditer(text))
        for joint in joints if len(joints) <= _MOST_JOINTS else ():
            is_list = joint[0] == " · "
            head = _translate_part(text[: joint.start()], translate, is_list)
            tail = None if head is None else _translate_part(text[joint.end() :], translate, is_list)
            if head is not None and tail is not None:
                return head + joint[0] + tail
        # a sentence may end without its full stop, and a list's item with one
        if text.endswith("."):
            alone = self._exact.get(text[:-1])
            return None if alone is None else alone + ("。" if is_wide(alone[-1]) else ".")
        sentence = self._exact.get(f"{text}.")
        return None if sentence is None else sentence.rstrip(".。")

    def _translate_said_of_name(self, text: str) -> str | None:
        """What is said of something by its name, as in "'hand.L' is too far from the joint above it"."""
        words = text.split(" ")
        for count in range(1, min(len(words) - 1, _LONGEST_NAME + 1)):
            said = " ".join(words[count:])
            if not said[:1].islower():
                continue
            for core, end in ((said, ""), (said.removesuffix("."), "."), (said.removesuffix(","), ",")):
                found = self._exact.get(core)
                if found is None:
                    found = next((self._fill_if(template, core) for template in self._templates if template.match(core)), None)
                if found is not None and core + end == said:
                    gap = "" if is_wide(found[0]) else " "
                    return " ".join(words[:count]) + gap + found + ("。" if end == "." and is_wide(found[-1]) else end)
        return None

    def _fill_if(self, template: Template, text: str) -> str | None:
        """A text in a template's translation, unless the template is too short to be sure."""
        values = template.match(text)
        if values is None or template.letters < _FEW_LETTERS or not template.message[:1].islower():
            return None
        return fill(self._filled[template.message], self._translate_values(template, values))
