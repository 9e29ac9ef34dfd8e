"""Latents of clips whose auto-encoder puts several frames into one row, seen as one row for each frame.

The first frame has a row of its own, those behind it share one row each ``factor`` of them. Frames that share a row hold the same
latents; where something makes them differ, their mean counts.
"""

from __future__ import annotations

import torch


def count_rows(frames: int, factor: int) -> int:
    """The rows that a clip of at least one frame takes."""
    return (frames + factor - 2) // factor + 1


def list_first_frames(frames: int, factor: int) -> list[int]:
    """For each of a clip's frames the first one that shares its row."""
    return [0 if n == 0 else (n - 1) // factor * factor + 1 for n in range(frames)]


def spread_rows(rows: torch.Tensor, frames: int, factor: int) -> torch.Tensor:
    """(T, ...) rows -> (N, ...): each frame's row."""
    return torch.cat([rows[:1], rows[1:].repeat_interleave(factor, 0)])[:frames]


def join_frames(latents: torch.Tensor, factor: int) -> torch.Tensor:
    """(N, ...) one row for each frame -> (T, ...) means of the frames that share a row; to the last bit what they hold where that
    is the same."""
    own = latents[1:]
    missing = -len(own) % factor
    if len(own) == 0:
        return latents
    # where the last row has fewer frames, its first one fills up without counting
    groups = torch.cat([own, own[len(own) - (factor - missing) :][:1].expand(missing, *own.shape[1:])]) if missing else own
    groups = groups.unflatten(0, (-1, factor))
    first = groups[:, :1]
    sums = (groups - first).sum(1)
    counts = latents.new_full((len(groups),) + (1,) * (latents.ndim - 1), factor)
    counts[-1] -= missing
    return torch.cat([latents[:1], first[:, 0] + sums / counts])
