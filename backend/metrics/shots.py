"""Named shots to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ...shared.passes import FramePasses
from ...shared.shot import Method, Sampling, ShotError, ShotRequest, make_request
from .fingerprints import fingerprint_passes


@dataclass(frozen=True)
class Shot:
    """A named shot to evaluate on."""

    name: str
    passes: FramePasses
    fps: float = 20.0
    #: the scene's numbers of the frames; empty for 1 and so on
    frames: tuple[int, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the passes."""
        return fingerprint_passes(self.passes)

    def make_request(self, prompt: str, method: Method, sampling: Sampling) -> ShotRequest:
        """A request for all of the shot's frames, numbered from 1."""
        count, height, width = self.passes.mask.shape
        return make_request(
            prompt,
            width=width,
            height=height,
            frames=tuple(range(1, count + 1)),
            fps=self.fps,
            sampling=sampling,
            method=method,
        )


def check_shots(shots: Sequence[Shot]) -> None:
    """``ShotError`` for shots of one name, which nobody could tell apart in a table, and for copies, which would count twice."""
    names: dict[str, Shot] = {}
    prints: dict[str, Shot] = {}
    for shot in shots:
        # there are disks that do not tell capitals apart
        if shot.name.casefold() in names:
            raise ShotError("shot", f"There are two shots called '{shot.name}'; rename one of their folders.")
        other = prints.get(shot.fingerprint)
        if other is not None:
            raise ShotError("shot", f"The shots '{other.name}' and '{shot.name}' have the same passes; leave one of them out.")
        names[shot.name.casefold()] = prints[shot.fingerprint] = shot
