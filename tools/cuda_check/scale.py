"""How large everything is that is tried: at its real size on a GPU, small where a processor has to do it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """``check_*`` are of the starter's shots in the part about correctness, ``frame_counts`` those of the shots that are timed.
    ``sides`` are the pixels of the models' frames by their family, ``channels`` divides the widths of their networks. ``paper`` are
    the frames and steps of the paper's setting, ``training`` the steps and the pictures of each."""

    name: str
    check_side: int
    check_frames: int
    check_steps: int
    frame_counts: tuple[int, ...]
    steps: int
    paper: tuple[int, int]
    sides: dict[str, int]
    divisor: int
    batches: tuple[int, ...]
    training: tuple[int, int]
    pictures: int


#: what the field runs, and what the documentation's page is made of
FULL = Scale("full", 256, 6, 6, (8, 24, 96), 20, (24, 100), {"sd1": 512, "sdxl": 1024}, 1, (1, 2, 4, 8, 16), (40, 64), 256)
#: the same code in moments
SMALL = Scale("small", 64, 3, 2, (2, 3), 2, (2, 10), {"sd1": 64, "sdxl": 64}, 10, (1, 2), (3, 1), 8)
SCALES = {scale.name: scale for scale in (FULL, SMALL)}
