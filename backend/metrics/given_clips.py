"""Clips that were made elsewhere, as variants of an evaluation: ``--frames-from NAME=FOLDER``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...shared.arguments import read_path
from ...shared.shot import ShotError
from .clips import Clip, find_clip, open_clip
from .shots import Shot

LAYOUT = "SHOT/PROMPT-SEED below it, such as walk/1-4 or walk/1-4.mp4 for the first prompt and seed 4"


@dataclass(frozen=True)
class GivenClip:
    """A clip of one shot, prompt (its number from 1) and seed, shown under the name of a variant."""

    name: str
    path: Path
    shot: str
    prompt_number: int
    seed: int

    def belongs_to(self, shot: str, prompt_number: int, seed: int) -> bool:
        """Whether it is compared with the runs of a shot, prompt and seed."""
        return (self.shot, self.prompt_number, self.seed) == (shot, prompt_number, seed)


def read_name(text: str, taken: Collection[str]) -> tuple[str, Path]:
    """``NAME=FOLDER``. Raises ``ShotError`` for other texts, and for names that ``taken`` holds."""
    name, equals, path = text.partition("=")
    if not equals or not path or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.]*", name):
        raise ShotError("frames_from", f"'{text[:80]}' is not NAME=FOLDER; give a name of letters and digits, as in mine=frames.")
    if name in taken:
        raise ShotError("frames_from", f"The name '{name}' is taken by another variant; give the clip another one.")
    try:
        return name, read_path(path)
    except argparse.ArgumentTypeError as error:
        raise ShotError("frames_from", f"In '{text[:80]}', {error}.") from error


def find_given_clips(
    texts: Sequence[str], taken: Collection[str], shots: Sequence[str], prompt_count: int, seeds: Sequence[int]
) -> tuple[list[GivenClip], list[str]]:
    """The clips of ``NAME=FOLDER`` texts. A folder holds one clip where there is one shot, prompt and seed, and else a folder or
    a film for each, see ``LAYOUT``; those that are not there are left out as long as there is one, which the sentences say. Raises
    ``ShotError``."""
    groups = [(shot, number, seed) for shot in shots for number in range(1, prompt_count + 1) for seed in seeds]
    found: list[GivenClip] = []
    said: list[str] = []
    names = set(taken)
    for text in texts:
        name, path = read_name(text, names)
        names.add(name)
        places = {group: path / group[0] / f"{group[1]}-{group[2]}" for group in groups}
        clips = {group: find_clip(place) for group, place in places.items()}
        there = [GivenClip(name, clip, *group) for group, clip in clips.items() if clip is not None]
        if there:
            found += there
            absent = [places[group] for group, clip in clips.items() if clip is None]
            if absent:
                said.append(
                    f"{name} has {len(there)} of {len(groups)} clips (there is no {absent[0]}); its means are over fewer runs than "
                    "those of other variants."
                )
        elif len(groups) == 1:
            found.append(GivenClip(name, path, *groups[0]))
        else:
            raise ShotError(
                "frames_from",
                f"{path} is to be compared with {len(groups)} runs of each variant; put its clips into {LAYOUT}, or evaluate one "
                "shot with one --prompt and one --seed.",
            )
    return found, said


def open_given_clip(clip: GivenClip, shot: Shot) -> Clip:
    """The pictures of a clip for the frames of its shot. Raises ``ShotError``."""
    height, width = shot.passes.mask.shape[1:]
    return open_clip([clip.path], shot.frames or tuple(range(1, shot.passes.frame_count + 1)), (width, height))


def check_given_clips(clips: Sequence[GivenClip], shots: Sequence[Shot]) -> None:
    """Raise ``ShotError`` for clips that cannot be read to their end, before anything is made to compare them with."""
    for clip in clips:
        for shot in shots:
            if shot.name == clip.shot:
                for _ in open_given_clip(clip, shot):
                    pass
