"""The syntax of prompts, as AUTOMATIC1111's web interface reads it. Free of torch.

``(word)`` counts 1.1 times, ``(word:1.3)`` 1.3 times, ``[word]`` 1/1.1 times; brackets nest and multiply, a backslash before one
makes it a letter. ``BREAK`` ends a piece of the text. ``<lora:NAME:0.8>`` names a LoRA. What changes the prompt between steps
(``[a:b:0.5]``, ``[a|b]``) and ``AND`` is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ....shared.pickled import shorten
from ....shared.shot import ShotError, Text

ROUND, SQUARE = 1.1, 1 / 1.1
#: bounds of what is asked for: a greater weight drowns everything else, a stronger LoRA gives noise
MAX_WEIGHT, MAX_STRENGTH = 10.0, 20.0
#: a weight above this is said, as it may be no weight: (16:9)
USUAL_WEIGHT = 2.0
MAX_OPEN = 100

_MARKS = re.compile(
    r"\\(?P<escaped>[()\[\]\\]?)|(?P<open>[(\[])|:\s*(?P<weight>[+-]?[.0-9]+)\s*\)|(?P<close>[)\]])|(?P<text>[^\\()\[\]:]+|:)"
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_TAG = re.compile(r"<(\w+):([^<>]*)>")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
#: what stands behind a colon and is meant as a number
_MEANT_AS_NUMBER = re.compile(r"\s*(?:[+-]?[.,]?[0-9][0-9.,%eE+-]*|[+-]?(?:nan|inf)|[+-])\s*", re.IGNORECASE)
#: what other programs have in prompts, or write beside them -> what became of it, and what is meant here
_OTHER_SYNTAX = (
    (
        r"^\s*Negative prompt\s*:",
        "was read as words; put what follows it into the negative prompt, and the settings into their own",
    ),
    (r"^\s*Steps\s*:\s*\d+\s*,.*", "was read as words; put these settings into their own, and take them out"),
    (r"\bembedding:\w[^\s,()]*", "was read with 'embedding:' as a word; write the textual inversion's word alone"),
    (r"\)\s?(?:\d*\.\d+|[+-]{1,9})(?![\w.])", "gives no weight; write it like (word:1.3)"),
    (r"\w(?:\+{2,9}|-{2,9})(?!\w)", "gives no weight; write it like (word:1.3)"),
    (r"(?:^|\s)--[a-z]\w*(?:\s+[\w.:]+)?", "was read as words; it is no option here, so take it out"),
    (r"__[\w/-]+?__", "was read as words; wildcards are not replaced, so write what is meant"),
)
#: the names of LoRAs in the web interfaces, and of what LyCORIS made
_LORA_KINDS = ("lora", "lyco", "lycoris", "locon", "loha", "lokr")


@dataclass(frozen=True)
class WeightedText:
    """A part of a prompt and how much it counts."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class NamedLora:
    """A LoRA that a prompt names: a file's name without its end, perhaps behind its folder's."""

    name: str
    strength: float = 1.0


@dataclass(frozen=True)
class Prompt:
    """A prompt that was read: ``sections`` lie between its BREAKs, each parts with their weights in order; ``warnings`` are
    sentences about what may have been meant differently."""

    sections: tuple[tuple[WeightedText, ...], ...]
    warnings: tuple[str, ...] = ()


def split_loras(text: str) -> tuple[str, tuple[NamedLora, ...]]:
    """A prompt without the LoRAs that it names, and these. Raises ``ShotError`` for one that is written wrongly, and for a
    hypernetwork."""
    found: list[NamedLora] = []

    def take(match: re.Match[str]) -> str:
        kind, arguments = match[1].lower(), match[2]
        if kind == "hypernet":
            raise ShotError(
                "prompt", f"The prompt names the hypernetwork '{shorten(arguments)}', which cannot be used; take it out."
            )
        if kind not in _LORA_KINDS:
            return match[0]
        found.append(_read_lora(match[0], arguments))
        return ""

    return _TAG.sub(take, text), tuple(found)


def _read_lora(tag: str, arguments: str) -> NamedLora:
    name, *given = (part.strip() for part in arguments.split(":"))
    tag = shorten(tag)
    if not name:
        raise ShotError("prompt", f"{tag} names no LoRA; write it like <lora:NAME:0.8>.")
    strengths = []
    for part in given:
        key, equals, value = part.partition("=")
        if equals and key.strip() not in ("te", "unet"):
            raise ShotError("prompt", f"{tag} asks for '{shorten(key)}', which cannot be done; write it like <lora:NAME:0.8>.")
        number = (value if equals else part).strip()
        if not _NUMBER.fullmatch(number) or abs(float(number)) > MAX_STRENGTH:
            limit = f"-{MAX_STRENGTH:g} to {MAX_STRENGTH:g}"
            raise ShotError("prompt", f"The strength in {tag} is no number of {limit}; write it like <lora:NAME:0.8>.")
        strengths.append(float(number))
    if len(set(strengths)) > 1:
        raise ShotError("prompt", f"{tag} has different strengths for text and picture, which cannot be done; give one.")
    return NamedLora(name, strengths[0] if strengths else 1.0)


def parse_prompt(text: str) -> Prompt:
    """Read a prompt without LoRAs (see ``split_loras``). A text without any syntax is one part of weight 1, letter by letter.

    Raises ``ShotError`` for what cannot be done, and for weights that are no numbers or out of bounds.
    """
    _refuse_schedules(text)
    if re.search(r"\bAND\b", text):
        raise ShotError("prompt", "AND between prompts cannot be used; write 'and' in small letters, or a comma.")
    warnings: list[str] = []
    parts: list[_Part] = []
    #: (how many parts there were, where in the text) when each bracket that is open was opened
    opened: dict[str, list[tuple[int, int]]] = {"(": [], "[": []}
    unmatched = ""
    for mark in _MARKS.finditer(text):
        if mark["open"]:
            opened[mark["open"]].append((len(parts), mark.start()))
            if sum(map(len, opened.values())) > MAX_OPEN:
                raise ShotError(
                    "prompt", f"More than {MAX_OPEN} brackets are open in the prompt; close them, or write \\( for one."
                )
        elif mark["weight"] is not None and opened["("]:
            start, place = opened["("].pop()
            _multiply(parts[start:], _read_weight(mark["weight"], text[place : mark.end()], warnings))
        elif mark["close"] == ")" and opened["("]:
            start, place = opened["("].pop()
            _check_no_weight(text[place : mark.end()])
            _multiply(parts[start:], ROUND)
        elif mark["close"] == "]" and opened["["]:
            _multiply(parts[opened["["].pop()[0] :], SQUARE)
        elif mark["escaped"] is not None:
            parts.append(_Part(mark["escaped"]))
        else:
            # a closing bracket that nothing opened is a letter, and so is what looked like a weight before it
            unmatched = unmatched or (mark[0][-1] if mark[0][-1] in ")]" else "")
            parts += _split_at_breaks(mark[0])
    for bracket, factor in (("(", ROUND), ("[", SQUARE)):
        for start, _ in opened[bracket]:
            _multiply(parts[start:], factor)
    warnings += _warn_of_brackets(text, bool(opened["("] or opened["["]), unmatched)
    if any(part.text.strip() and abs(part.weight) > MAX_WEIGHT for part in parts):
        raise ShotError(
            "prompt", f"A part of the prompt counts more than {MAX_WEIGHT:g} times; use smaller weights or fewer brackets."
        )
    return Prompt(_join(parts), tuple(dict.fromkeys(warnings)))


def check_text(text: Text, further: Sequence[str] = ()) -> None:
    """``ShotError`` for texts that cannot be read, before anything is made for them; ``further`` are prompts of later frames."""
    for part in further:
        plain, loras = split_loras(part)
        if loras:
            raise ShotError(
                "prompt_at",
                f"The LoRA '{loras[0].name[:40]}' would work in all frames; name it in the prompt that the shot begins with.",
            )
        parse_prompt(plain)
    for part in (text.prompt, text.negative_prompt, text.background_prompt):
        parse_prompt(split_loras(part)[0])
    plain, loras = split_loras(text.prompt)
    if not plain.strip():
        if not loras:
            raise ShotError("prompt", "The prompt is empty; describe the character and the place.")
        raise ShotError("prompt", "The prompt holds nothing but LoRAs; describe the character and the place as well.")


@dataclass
class _Part:
    """A piece of text with the product of the weights around it so far, or a BREAK."""

    text: str
    weight: float = 1.0
    is_break: bool = False


def _multiply(parts: list[_Part], factor: float) -> None:
    for part in parts:
        part.weight *= factor


def _split_at_breaks(text: str) -> Iterator[_Part]:
    for number, part in enumerate(_BREAK.split(text)):
        if number:
            yield _Part("", is_break=True)
        yield _Part(part)


def _join(parts: list[_Part]) -> tuple[tuple[WeightedText, ...], ...]:
    """Sections, in which neighbours of the same weight are one text."""
    sections: list[list[WeightedText]] = [[]]
    for part in parts:
        section = sections[-1]
        if part.is_break:
            sections.append([])
        elif section and section[-1].weight == part.weight:
            section[-1] = WeightedText(section[-1].text + part.text, part.weight)
        elif part.text:
            section.append(WeightedText(part.text, part.weight))
    return tuple(map(tuple, sections))


def _read_weight(number: str, group: str, warnings: list[str]) -> float:
    if not _NUMBER.fullmatch(number):
        raise ShotError("prompt", f"The weight in '{shorten(group)}' is no number; write it like (word:1.3).")
    weight = float(number)
    if not math.isfinite(weight) or abs(weight) > MAX_WEIGHT:
        raise ShotError(
            "prompt",
            f"The weight in '{shorten(group)}' is not within -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}; choose another, or write "
            "\\( and \\) where no weight is meant.",
        )
    if weight > USUAL_WEIGHT or weight < 0:
        warnings.append(f"'{shorten(group)}' was read as words that count {weight:g} times; write \\( and \\) for plain brackets.")
    return weight


def _check_no_weight(group: str) -> None:
    """Raise ``ShotError`` for a group without a weight that ends like one with a weight."""
    _, colon, behind = group[:-1].rpartition(":")
    if colon and _MEANT_AS_NUMBER.fullmatch(behind):
        raise ShotError("prompt", f"The weight in '{shorten(group)}' is no number; write it with a point, like (word:1.3).")


def _warn_of_brackets(text: str, open_left: bool, unmatched: str) -> Iterator[str]:
    if open_left:
        yield "A bracket in the prompt is not closed; it was read up to the end of the prompt."
    if unmatched:
        yield f"A closing '{unmatched}' in the prompt belongs to no other bracket; it was read as a letter."
    plain = re.sub(r"\\.", "", text)
    if re.search(r"\w\s*:\s*[+-]?[0-9]?\.[0-9]+\s*(?:,|$)", re.sub(r"\([^()]*\)", "", plain)):
        yield "A number behind a colon is no weight without round brackets; write (word:1.3)."
    if re.search(r"\{[^{}]*\}", plain):
        yield "Curly brackets in the prompt are read as letters; write (word) for more weight."
    for pattern, what in _OTHER_SYNTAX:
        found = re.search(pattern, plain, re.MULTILINE)
        if found:
            yield f"'{shorten(found[0].strip())}' in the prompt {what}."
    for tag in _TAG.finditer(text):
        yield f"'{shorten(tag[0])}' in the prompt is nothing known and was read as words; a LoRA is written <lora:NAME:0.8>."


@dataclass
class _Bracket:
    """A bracket that is open: which, where, the place behind the last colon in it (0 for none), whether a bar is in it."""

    sign: str
    start: int
    behind_colon: int = 0
    has_bar: bool = False


def _refuse_schedules(text: str) -> None:
    """Raise ``ShotError`` for square brackets whose contents change from step to step."""
    opened: list[_Bracket] = []
    for mark in re.finditer(r"\\.|[()\[\]:|]", text):
        sign = mark[0]
        if sign in ("(", "["):
            opened.append(_Bracket(sign, mark.start()))
        elif not opened:
            continue
        elif sign == ":":
            opened[-1].behind_colon = mark.end()
        elif sign == "|":
            opened[-1].has_bar = True
        elif sign == "]" and opened[-1].sign == "[":
            bracket = opened.pop()
            is_timed = bracket.behind_colon and _NUMBER.fullmatch(text[bracket.behind_colon : mark.start()].strip())
            if is_timed or bracket.has_bar:
                raise ShotError(
                    "prompt",
                    f"'{shorten(text[bracket.start : mark.end()])}' changes the prompt between steps, which cannot be done; write "
                    "what should be seen, or (word:0.5) for a weight.",
                )
        elif sign == ")" and opened[-1].sign == "(":
            opened.pop()
