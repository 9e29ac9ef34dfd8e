"""Which picture of a shot is seen at which scene frame. Nothing here uses bpy."""

from __future__ import annotations

from collections.abc import Sequence


def spread_frames(numbers: Sequence[int], step: int = 1, first: int | None = None) -> tuple[int, ...]:
    """Places in ``numbers`` (ascending scene frames, at least one), one for each scene frame from ``first`` to the end of the last
    picture, which is shown for ``step`` scene frames.

    A picture is seen until the next one; the first one also before its time, where the shot begins at an earlier frame ``first``.
    """
    begin = min(numbers[0] if first is None else first, numbers[0])
    out, place = [], 0
    for frame in range(begin, numbers[-1] + step):
        while place + 1 < len(numbers) and numbers[place + 1] <= frame:
            place += 1
        out.append(place)
    return tuple(out)


def find_missing(numbers: Sequence[int], step: int = 1, first: int | None = None, count: int = 0) -> tuple[int, ...]:
    """The scene frames between the first and the last picture of a shot, every ``step`` of them, that have none; ``count`` is how
    many the shot has at least."""
    begin = min(numbers[0] if first is None else first, numbers[0])
    end = max(numbers[-1], begin + (count - 1) * step)
    present = set(numbers)
    return tuple(frame for frame in range(begin, end + 1, step) if frame not in present)
