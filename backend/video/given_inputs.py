"""What a caller gives the networks itself, where a shot's request and passes would say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..models.families import TextConditions


@dataclass(frozen=True)
class GivenInputs:
    """``encode_text`` takes whether the text is for guidance and gives its embeddings, for all frames or for each of the shot's;
    ``controls`` are the ControlNets' pictures (F, 3, H, W) in [0, 1], one tensor for each. None where the caller gives none."""

    encode_text: Callable[[bool], TextConditions] | None = None
    controls: tuple[torch.Tensor, ...] | None = None


def select_texts(text: TextConditions, rows: Sequence[int]) -> TextConditions:
    """The conditions of some of the frames, in that order; conditions of all frames are theirs."""
    if not text.is_per_frame:
        return text
    chosen = list(rows)
    return TextConditions(text.embeddings[:, chosen], {name: value[:, chosen] for name, value in text.added.items()}, text.warnings)
