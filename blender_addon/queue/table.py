"""The table of what has become of the shots, for a text data-block, for the end of a command, and for the box. Nothing here uses
bpy."""

from __future__ import annotations

from collections.abc import Sequence

from .rows import Row, RowState, describe_frames

HEAD = ("Shot", "Scene", "Camera", "Frames", "New", "Kept", "Minutes", "Result")


def write_minutes(seconds: float) -> str:
    """A time in minutes with one decimal; empty where nothing was done."""
    return f"{seconds / 60:.1f}" if seconds > 0 else ""


def write_result(row: Row) -> str:
    """How a row ended, with the sentence that says why, or where its frames are."""
    where = f"in {row.folder}" if row.folder and row.count else ""
    words = {
        RowState.DONE: f"done {where}",
        RowState.PARTIAL: f"{row.count} of {len(row.shot.frames)} frames {where}: {row.message}".removesuffix(": "),
        RowState.FAILED: f"failed: {row.message}",
        RowState.CANCELLED: f"cancelled, {row.count} of {len(row.shot.frames)} frames {where}",
    }
    text = words.get(row.state, f"{row.state.value}: {row.message}" if row.message else row.state.value)
    return " ".join(text.split())


def make_cells(row: Row) -> tuple[str, ...]:
    """A row's cells, in the order of ``HEAD``."""
    shot = row.shot
    made = (f"{row.made}", f"{row.kept}") if row.count else ("", "")
    return (
        shot.name,
        shot.scene,
        ", ".join(shot.cameras),
        describe_frames(shot),
        *made,
        write_minutes(row.seconds),
        write_result(row),
    )


def format_table(rows: Sequence[Row]) -> str:
    """The rows as a text with columns; the last is as long as it is."""
    lines = [HEAD, *(make_cells(row) for row in rows)]
    widths = [max(len(cells[n]) for cells in lines) for n in range(len(HEAD) - 1)]
    # numbers stand at the right
    numbers = range(4, 7)
    return "".join(
        "  ".join(
            [
                *(
                    (cell.rjust if n in numbers else cell.ljust)(width)
                    for n, (cell, width) in enumerate(zip(cells, widths, strict=False))
                ),
                cells[-1],
            ]
        ).rstrip()
        + "\n"
        for cells in lines
    )
