"""What this Blender knows of models: the profiles that a backend has told, and those of the presets without one.

Drawing only looks up and notes what to ask; ``connection`` sends the questions and hands in the answers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..shared import messages
from ..shared.model_profile import PRESET_PROFILES, ModelProfile
from ..shared.task import new_ticket

#: how old what a backend has told may be: files may have been edited since
FRESH_SECONDS = 3.0
#: how long an answer may take before the question is asked again
WAIT_SECONDS = 60.0
#: models that are remembered
_MOST_KEPT = 200


@dataclass
class _Entry:
    """What is known of a model; ``error`` is a sentence about what cannot be used."""

    profile: ModelProfile | None = None
    error: str = ""
    #: when it was told, and when it was last asked for; 0 for never
    told: float = 0.0
    asked: float = 0.0
    ticket: str = ""


class ProfileBook:
    """Profiles by the names of models, and the questions that are still to be asked."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._tickets: dict[str, str] = {}
        self._wanted: dict[str, None] = {}
        #: whether a backend can be asked
        self.connected = False

    def find(self, model: str) -> ModelProfile | None:
        """The profile of a model, as far as it is known; notes the question where it is not, or was told a while ago."""
        entry = self._entries.get(model)
        if self.connected and (entry is None or self._is_old(entry)):
            self._wanted[model] = None
        if entry is not None and (entry.profile is not None or entry.error):
            return entry.profile
        return PRESET_PROFILES.get(model)

    def _is_old(self, entry: _Entry) -> bool:
        now = time.monotonic()
        # an answer that takes its time is waited for
        is_waiting = entry.ticket in self._tickets and now < entry.asked + WAIT_SECONDS
        return not is_waiting and now > entry.told + FRESH_SECONDS

    def find_error(self, model: str) -> str:
        """Why a model cannot be used, a sentence; empty where nothing is known of that."""
        entry = self._entries.get(model)
        return entry.error if entry is not None else ""

    def is_fresh(self, model: str) -> bool:
        """Whether a backend has told of a model just now."""
        entry = self._entries.get(model)
        return entry is not None and entry.told > 0 and time.monotonic() < entry.told + FRESH_SECONDS

    def is_answered(self, model: str) -> bool:
        """Whether the last question about a model has been answered, be it a while ago."""
        entry = self._entries.get(model)
        return entry is not None and entry.told > 0

    def ask(self, model: str, *, download: bool = False) -> messages.DescribeModel:
        """The question about a model, to be sent."""
        if len(self._entries) >= _MOST_KEPT:
            self._entries.clear()
            self._tickets.clear()
        self._wanted.pop(model, None)
        entry = self._entries.setdefault(model, _Entry())
        self._tickets.pop(entry.ticket, None)
        entry.asked, entry.told, entry.ticket = time.monotonic(), 0.0, new_ticket()
        self._tickets[entry.ticket] = model
        return messages.DescribeModel(ticket=entry.ticket, model=model, download=download)

    def take_questions(self) -> list[messages.DescribeModel]:
        """The questions that are to be sent now."""
        return [self.ask(model) for model in list(self._wanted)] if self.connected else []

    def receive(self, message: messages.AnyMessage) -> bool | None:
        """Take an answer; whether it says something new, None for a message that answers none of the questions."""
        if not isinstance(message, (messages.ModelDescribed, messages.Failed)):
            return None  # such as that the backend is still loading
        model = self._tickets.pop(message.ticket, None)
        entry = self._entries.get(model) if model is not None else None
        if entry is None:
            return None
        profile, error = entry.profile, entry.error
        if isinstance(message, messages.ModelDescribed):
            entry.profile, entry.error = message.profile, ""
        else:
            entry.profile, entry.error = None, message.message
        entry.told = time.monotonic()
        return (profile, error) != (entry.profile, entry.error)

    def forget(self) -> None:
        """The backend is gone; another one may know other models."""
        self._entries.clear()
        self._tickets.clear()
        self._wanted.clear()
        self.connected = False


#: what the panels show
book = ProfileBook()
