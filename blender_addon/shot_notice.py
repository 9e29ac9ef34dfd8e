"""The line that says that a shot is done, in the status bar and in the box *Results*, until it is looked at.

Nothing here uses bpy."""

from __future__ import annotations

from .result_words import describe_frames
from .time_estimate import write_duration


class Notice:
    """The last shot that is done and has not been looked at: the sentence, and the task that made it."""

    def __init__(self) -> None:
        self.text, self.ticket = "", ""

    def show(self, text: str, ticket: str) -> None:
        """Say something of a result."""
        self.text, self.ticket = text, ticket

    def dismiss(self) -> None:
        """Say nothing any more."""
        self.text = self.ticket = ""


def write_notice(count: int, total: int, made: int, kept: int, seconds: float) -> str:
    """``Done: 8 frames: 1 new, 7 kept, in 2 min``, or what there is of a shot that was stopped."""
    if count < total:
        return f"Stopped: {count} of {total} frames are kept"
    # short, as the line has buttons beside it: "a few seconds" is cut off
    time = write_duration(seconds) if seconds >= 10 else f"{round(seconds)} s"
    frames = describe_frames(count, total, made, kept)
    return f"Done: {frames}, in {time}" if seconds >= 1 else f"Done: {frames}"


notice = Notice()
