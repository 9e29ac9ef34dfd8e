"""The people of a file -> its clips: one for each person, with what was guessed about them. No bpy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .clips import Clip, MotionFile
from .smpl_tracks import SmplTrack
from .track_decoding import ReadOptions, count_frames, decode_track, share_axis


def make_track_file(path: Path, tracks: list[SmplTrack], options: ReadOptions, text: str = "") -> MotionFile:
    """A file of people; ``text`` is the name of a single one. Raises ``MotionError`` for numbers that are no rotations."""
    clips: list[Clip] = []
    choices: set[str] = set()
    for track, reading in share_axis(tracks, options):
        name = track.name or text or path.stem
        decode = partial(decode_track, track, reading)
        clips.append(Clip(name, count_frames(track), track.fps or track.usual_fps, decode, reading.notes, reading.is_doubtful))
        choices |= reading.may_be_chosen
    if len(clips) > 1:
        choices.add("person")
    return MotionFile(path, tracks[0].source, tuple(clips), frozenset(choices))
