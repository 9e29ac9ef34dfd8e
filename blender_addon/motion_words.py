"""What box *Motion* says of the words, before anything is made. Nothing here uses bpy."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from ..shared import vocabulary
from ..shared.motion_request import NEXT


@lru_cache(maxsize=8)
def explain_words(text: str) -> tuple[str, ...]:
    """Sentences about what the built-in model does not know of a text; kept, as the panel asks at every redraw."""
    return vocabulary.explain_text(text) if text.strip() else ()


def list_new(warnings: Collection[str], shown: Collection[str]) -> list[str]:
    """The warnings of a motion that has been made without those that are shown already."""
    return [warning for warning in warnings if warning not in shown]


def add_sentence(text: str, sentence: str) -> str:
    """A text with one more sentence after what it says."""
    before = text.strip().rstrip(NEXT).rstrip()
    return f"{before} {NEXT} {sentence}" if before else sentence
