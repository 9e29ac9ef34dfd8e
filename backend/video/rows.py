"""Rows of tensors by their numbers.

On a GPU a list of numbers would be uploaded each time, which waits until all work there is done; rows that follow each other are
slices, which cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch


def list_runs(rows: Sequence[int]) -> Iterator[slice]:
    """The slices that make up ``rows``, in their order."""
    start = 0
    for n in range(1, len(rows) + 1):
        if n == len(rows) or rows[n] != rows[n - 1] + 1:
            yield slice(rows[start], rows[n - 1] + 1)
            start = n


def take_rows(values: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """``values[rows]``, which shares its memory with ``values`` where the rows follow each other; differentiable."""
    found = [values[run] for run in list_runs(rows)]
    return found[0] if len(found) == 1 else torch.cat(found) if found else values[:0]


def put_rows(values: torch.Tensor, rows: Sequence[int], new: torch.Tensor) -> None:
    """``values[rows] = new``, in place."""
    start = 0
    for run in list_runs(rows):
        end = start + run.stop - run.start
        values[run] = new[start:end]
        start = end
