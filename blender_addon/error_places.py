"""Errors stand where the work is: one sentence for each box of the panel, until it is dismissed, mended, or the next try begins.
Nothing here uses bpy."""

from __future__ import annotations

import enum
from collections.abc import Callable

#: whether an error is as it was; it must not hold on to Blender's data
Check = Callable[[], bool]


class Place(enum.Enum):
    """The box that shows an error."""

    BACKEND = "backend"
    MOTION = "motion"
    SHOT = "shot"
    RESULT = "result"


class ErrorBoard:
    """The last error of each place."""

    def __init__(self) -> None:
        self._sentences: dict[Place, str] = {}
        self._checks: dict[Place, Check] = {}

    def show(self, place: Place, sentence: str, still_holds: Check | None = None) -> None:
        """Put a sentence into a place, instead of the one before; an empty one takes that away. Where ``still_holds`` is known, the
        sentence goes by itself as soon as what it says is mended.

        The same sentence stands in one place only, the last: what ends the backend ends its shot as well.
        """
        for other in [other for other, shown in self._sentences.items() if other is place or shown == sentence]:
            del self._sentences[other]
            self._checks.pop(other, None)
        if sentence:
            self._sentences[place] = sentence
            if still_holds is not None:
                self._checks[place] = still_holds

    def drop_mended(self) -> bool:
        """Take the sentences away that do not hold any more; whether there were any."""
        mended = [place for place, still_holds in self._checks.items() if not still_holds()]
        if mended:
            self.dismiss(*mended)
        return bool(mended)

    def find(self, place: Place) -> str:
        """The sentence in a place; empty where there is none."""
        return self._sentences.get(place, "")

    @property
    def last(self) -> str:
        """The sentence that came last, wherever it stands; empty where there is none."""
        return next(reversed(self._sentences.values()), "")

    def dismiss(self, *places: Place) -> None:
        """Take the sentences of some places away; of all of them without any."""
        for place in places or tuple(Place):
            self._sentences.pop(place, None)
            self._checks.pop(place, None)
