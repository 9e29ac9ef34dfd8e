"""Attention of transformers in which every frame looks at the first one's picture: the keys and values of a picture's tokens are
taken from the first frame, those of the text stay each frame's own.

Queries, the text's keys and each token's place are left alone, so that this works for any network whose layers make keys and values
token by token, whether picture and text are two streams or one sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


def share_first_frame(values: torch.Tensor, groups: int, tokens: slice, *, held: bool) -> torch.Tensor:
    """(B, S, D) keys or values of ``groups`` equal runs of frames, with those of each run's first frame at the picture's
    ``tokens``; no gradient flows through these with ``held``."""
    runs = values.unflatten(0, (groups, -1))
    first = runs[:, :1, tokens]
    shared = runs.clone()
    shared[:, :, tokens] = first.detach() if held else first
    return shared.flatten(0, 1)


@contextmanager
def share_keys(attentions: Iterable[tuple[Any, slice]], groups: int, *, held: bool) -> Iterator[None]:
    """Within the block, attention layers of diffusers (with ``to_k`` and ``to_v``), each with the place of the picture's tokens in
    what it sees, take these from the first frame of each of ``groups`` runs."""

    def put(tokens: slice) -> Any:
        return lambda module, given, made: share_first_frame(made, groups, tokens, held=held)

    with ExitStack() as stack:
        # a ControlNet may borrow layers of the network that it controls
        for attention, tokens in {id(attention): (attention, tokens) for attention, tokens in attentions}.values():
            for layer in (attention.to_k, attention.to_v):
                stack.callback(layer.register_forward_hook(put(tokens)).remove)
        yield


@contextmanager
def share_all(layers: Sequence[tuple[Sequence[tuple[Any, slice]], int]], *, held: bool) -> Iterator[None]:
    """``share_keys`` for the layers of several networks, each with the number of its runs."""
    with ExitStack() as stack:
        for attentions, groups in layers:
            stack.enter_context(share_keys(attentions, groups, held=held))
        yield
