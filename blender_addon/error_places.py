"""Errors stand where the work is: one sentence for each box of the panel, until it is dismissed or the next try begins. Nothing
here uses bpy."""

from __future__ import annotations

import enum


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

    def show(self, place: Place, sentence: str) -> None:
        """Put a sentence into a place, instead of the one before; an empty one takes that away.

        The same sentence stands in one place only, the last: what ends the backend ends its shot as well.
        """
        for other in [other for other, shown in self._sentences.items() if other is place or shown == sentence]:
            del self._sentences[other]
        if sentence:
            self._sentences[place] = sentence

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
