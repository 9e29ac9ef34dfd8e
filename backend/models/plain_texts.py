"""Texts for models whose text encoders are language models: read as they stand, in whole sentences."""

from __future__ import annotations

from ...shared.shot import ShotError
from .prompts.parsing import Prompt, WeightedText, parse_prompt


def make_plain(text: str, title: str) -> Prompt:
    """A text as it stands, for a model of the family ``title``; a sentence where it has syntax that means nothing there. Raises
    ``ShotError`` for what no prompt can have."""
    found = parse_prompt(text)
    is_plain = len(found.sections) == 1 and all(part.weight == 1 for part in found.sections[0])
    said = () if is_plain else (f"{title} reads texts as they stand; weights such as (word:1.3) and BREAK are words to it.",)
    return Prompt(((WeightedText(text),),), said)


def read_plain(prompt: Prompt) -> str:
    """The text that ``make_plain`` was given."""
    return prompt.sections[0][0].text


def refuse_clip_skip(clip_skip: int, title: str) -> None:
    """``ShotError`` where another layer is asked for than the one that the network knows."""
    if clip_skip:
        raise ShotError("clip_skip", f"{title} knows one layer of its text encoder; leave Clip Skip at 0.")
