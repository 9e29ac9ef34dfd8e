"""The passes of a shot with several prompts: under each, a character's surface counts as another one, so that textures do not mix."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...shared.manifest import PassesManifest
from ...shared.passes import FramePasses
from ...shared.shot import ShotError
from .lattice import MOST_OBJECTS
from .source import PassesSource


def name_under(name: str, prompt: str) -> str:
    """The name of a surface under a prompt other than the shot's own."""
    return f"{name} [{hashlib.blake2b(prompt.encode(), digest_size=6).hexdigest()}]"


class ScheduledPasses:
    """A source whose surfaces are numbered by the prompt of each frame too. Under the shot's own, names are as they were, so that
    looks fit."""

    def __init__(self, source: PassesSource, prompts: Sequence[str], told: Sequence[str]) -> None:
        """``prompts`` are the shot's, its own first; ``told`` says which of them each frame is under."""
        self._source, self._prompts = source, tuple(prompts)
        self._stride = MOST_OBJECTS // len(self._prompts)
        places = {prompt: n for n, prompt in enumerate(self._prompts)}
        self._offsets = [places[prompt] * self._stride for prompt in told]

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return self._source.frame_count

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        return self._source.size

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of a frame. Raises ``ShotError`` for too many objects."""
        return self._number(self._source.frame(index), index)

    def overview(self, index: int) -> FramePasses:
        """The small copy (1, h, w, ...) of a frame."""
        return self._number(self._source.overview(index), index)

    def manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the frames ``rows``."""
        return self._source.manifest(rows)

    def surface_names(self, rows: Sequence[int]) -> dict[int, str]:
        """Number -> name of the objects in the frames ``rows``, under each prompt."""
        names = self._source.surface_names(rows)
        self._check(max(names, default=0))
        return names | {
            place * self._stride + number: name_under(name, prompt)
            for place, prompt in enumerate(self._prompts)
            if place
            for number, name in names.items()
        }

    def _number(self, passes: FramePasses, index: int) -> FramePasses:
        number = passes.surface_index
        self._check(int(number.max(initial=0)))
        return replace(passes, object_index=np.where(number > 0, number + np.uint16(self._offsets[index]), 0).astype(np.uint16))

    def _check(self, number: int) -> None:
        if number >= self._stride:
            raise ShotError(
                "prompt_at",
                f"The shot shows {number} objects under {len(self._prompts)} prompts, more than can be told apart; hide what counts "
                "little, or make several shots of fewer prompts.",
            )
