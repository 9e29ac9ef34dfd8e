"""The contents of a motion file as the dialog lists them: its clips, how each is decoded, and what was guessed. No bpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...shared.motion import MAX_FRAMES, Motion, MotionError
from .layouts import DecodedMotion

#: motions of a file; characters of a clip's text, and its sentences
MAX_CLIPS, MAX_TEXT, MAX_PARTS = 10_000, 1000, 20
#: what the note of an assumed rate ends with
NO_RATE = "the file names no rate"


@dataclass(frozen=True)
class Clip:
    """One motion in a file: its text, its length in frames, its rate, and the function that decodes it.

    ``notes`` say what was guessed or made up; ``is_doubtful`` where another reading fits the numbers nearly as well.
    """

    text: str
    frames: int
    fps: float
    decode: Callable[[], DecodedMotion]
    notes: tuple[str, ...] = ()
    is_doubtful: bool = False

    def list_notes(self, fps: float = 0.0) -> tuple[str, ...]:
        """What is to be said of it when its rate is ``fps``, or for 0 the one above."""
        return tuple(note for note in self.notes if not (fps and note.endswith(NO_RATE)))


@dataclass(frozen=True)
class MotionFile:
    """The contents of a motion file: the name of its layout, its clips, and what the user may choose about it.

    ``choices``: "up_axis" and "layout" where the file does not say them, "person" where its clips are several people.
    """

    path: Path
    layout: str
    clips: tuple[Clip, ...]
    choices: frozenset[str] = frozenset()

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each clip."""
        return tuple(clip.text for clip in self.clips)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The number of frames of each clip."""
        return tuple(clip.frames for clip in self.clips)

    def describe(self) -> list[str]:
        """The layout, what was guessed, then a line for each clip."""
        notes = dict.fromkeys(note for clip in self.clips[:12] for note in clip.notes)
        clips = (f"{n}: {clip.text} · {clip.frames} frames at {clip.fps:g} fps" for n, clip in enumerate(self.clips))
        return [self.layout, *notes, *clips]

    def get_clip(self, clip: int) -> Clip:
        """Clip number ``clip``; raises ``MotionError`` where there is none."""
        if not 0 <= clip < len(self.clips):
            raise MotionError(f"{self.path.name} has {len(self.clips)} clips, numbered from 0; there is no clip {clip}.")
        return self.clips[clip]

    def get_motion(self, clip: int, fps: float = 0.0) -> Motion:
        """Clip number ``clip`` as a validated motion; ``fps`` overrides the file's rate when it is not 0.

        Raises ``MotionError`` for a clip that does not exist or cannot be used.
        """
        chosen = self.get_clip(clip)
        if chosen.frames > MAX_FRAMES:
            raise MotionError(f"{self.path.name} has {chosen.frames} frames, more than the limit of {MAX_FRAMES}; shorten it.")
        try:
            with np.errstate(all="ignore"):
                decoded = chosen.decode()
        except MotionError as error:
            raise MotionError(f"{self.path.name}: {error}") from error
        except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
            raise MotionError(f"{self.path.name} cannot be read as {self.layout}: {error}.") from error
        motion = Motion.from_joints(decoded.joints, fps or decoded.fps, self.path.name, chosen.text, decoded.rotations)
        return replace(motion, follows_joints=decoded.follows_joints)


def clean_text(text: object) -> str:
    """A text of a file's, fit for a list."""
    if isinstance(text, bytes):
        text = text[:MAX_TEXT].decode("utf-8", "replace")
    elif isinstance(text, (list, tuple)):
        # several sentences of one motion (DiP)
        text = " | ".join(clean_text(part) for part in text[:MAX_PARTS] if isinstance(part, (str, bytes)))
    elif not isinstance(text, (str, int, float, np.generic)):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:MAX_TEXT])
