"""Motion models by name: the starter, Kimodo, MDM checkpoints by their folder, and whatever other packages register.

A package adds a model with an entry point of the group ``latentman.motion_sources`` that names a class, a ``MotionSource``. What it
makes may be HumanML3D's vectors, or joints and rotations at a rate of its own; it may say what it is called, what it can keep
and whether it makes loops (``info``), and which settings it takes (``settings``). See ``docs/development/add_a_motion_source.md``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import torch

from ...shared import logs, vocabulary
from ...shared.cycles import NOTABLE_TURN, close_loop, put_in_place
from ...shared.made_motion import MadeMotion, read_made
from ...shared.motion import MotionError
from ...shared.motion_request import NEXT, Kept, MotionRequest, split_sentences
from ...shared.settings import SettingError, check_settings, read_plugin, with_settings
from .checkpoints import load_checkpoint
from .generate import make, makes_loops
from .kimodo.source import KimodoSource
from .source_info import SourceInfo
from .text import TextEncoder

logger = logs.get_logger(__name__)
STARTER = Path(__file__).resolve().parent / "starter"
GROUP = "latentman.motion_sources"
StepDone = Callable[[int, int], None]
__all__ = ["GROUP", "KEPT", "STARTER", "MadeMotion", "MotionSource", "SourceInfo", "describe_sources", "load", "names"]
#: what of a motion can be kept, in words for people
KEPT = {"poses": "whole poses", "legs": "legs and path", "path": "the path"}


class MotionSource(Protocol):
    """Anything that makes a person's motions from words.

    A class may have two more attributes: ``info``, a ``SourceInfo``, and ``settings``, a msgspec struct whose fields are declared
    as ``shared.settings`` has them; it is then called with such a struct, and without arguments otherwise.
    """

    def make(self, request: MotionRequest, kept: Kept | None, step_done: StepDone) -> MadeMotion:
        """The motions of a request. ``step_done(step, of)`` is called as they come about and may raise to stop.

        Raises ``MotionError`` for what it cannot do, in one sentence that says what to do.
        """
        ...


class MdmSource:
    """An MDM checkpoint with its text encoder."""

    def __init__(
        self,
        checkpoint: Path,
        device: torch.device,
        statistics: Path | None = None,
        text_encoder: str | None = None,
    ) -> None:
        """Loads both; raises ``MotionError``."""
        self._device = device
        self._model = load_checkpoint(checkpoint, statistics)
        own = self._model.folder / "text_encoder"
        self._texts = TextEncoder(self._model.text_encoder, text_encoder or (str(own) if own.is_dir() else None), device)
        predicted = bool(self._model.network.shape.predicted)
        self.info = SourceInfo("MDM", keeps=frozenset() if predicted else frozenset(KEPT), loops=makes_loops(self._model))

    def make(self, request: MotionRequest, kept: Kept | None, step_done: StepDone) -> MadeMotion:
        """See ``MotionSource``."""
        made = make(self._model, request, self._texts, self._device, kept, step_done)
        foreign = [text for text in split_sentences(request) if not vocabulary.seems_english(text)]
        if foreign:
            encoder = {"clip": "CLIP", "bert": "DistilBERT"}[self._model.text_encoder]
            sentence = (
                f"'{foreign[0][:60]}' does not look like English, which is all that the text encoder {encoder} knows; write it in "
                "English."
            )
            made = replace(made, warnings=(*made.warnings, sentence))
        return made


class StarterSource(MdmSource):
    """The built-in model, which knows few words and says which."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(STARTER, device)

    def make(self, request: MotionRequest, kept: Kept | None, step_done: StepDone) -> MadeMotion:
        """See ``MotionSource``."""
        readings = [vocabulary.read_sentence(sentence) for sentence in split_sentences(request)]
        read = msgspec.structs.replace(request, text=f" {NEXT} ".join(reading.text for reading in readings))
        made = make(self._model, read, self._texts, self._device, kept, step_done)
        return replace(made, warnings=(*vocabulary.explain_readings(readings), *made.warnings))


class CheckedSource:
    """A source that is asked for nothing that it cannot do, and whose motions are what was asked for: others are refused, those
    that a source does not close itself are made to repeat, and all of them to stay in place where that is wanted."""

    def __init__(self, name: str, source: MotionSource) -> None:
        self._name, self._source = name, source
        self.info: SourceInfo = getattr(source, "info", None) or SourceInfo(name)

    def make(self, request: MotionRequest, kept: Kept | None, step_done: StepDone) -> MadeMotion:
        """See ``MotionSource``."""
        self._check(request, kept)
        found = self._source.make(request, kept, step_done)
        if not isinstance(found, MadeMotion):
            raise MotionError(f"The motion model '{self._name}' gave no motions; update the package that it comes from.")
        # a package's arrays may be of any type of numbers
        arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in found.list_arrays().items()}
        made = read_made(arrays, found.fps, tuple(found.warnings), request, f"The motion model '{self._name}' gave")
        if request.loop and kept is None:
            made, turned = close_loop(made, 0.0) if self.info.loops else close_loop(made)
            if turned > NOTABLE_TURN:
                sentence = f"A loop comes back to where it faced: a turn of {np.degrees(turned):.0f}° was taken out."
                made = replace(made, warnings=(*made.warnings, sentence))
        return put_in_place(made) if request.in_place and kept is None else made

    def _check(self, request: MotionRequest, kept: Kept | None) -> None:
        if kept is not None and kept.kind not in self.info.keeps:
            able = " and ".join(KEPT[kind] for kind in KEPT if kind in self.info.keeps)
            can = f"it keeps {able}, so choose that" if able else "choose another model, such as starter"
            raise MotionError(f"The motion model '{self._name}' cannot keep {KEPT[kept.kind]} of a motion; {can}.")
        if request.seconds > self.info.most_seconds:
            raise MotionError(
                f"The motion model '{self._name}' makes at most {self.info.most_seconds:g} seconds; choose a shorter duration."
            )


#: sources that come with the package, beside the starter; entry points of the same name come first
BUILT_IN: dict[str, Callable[..., MotionSource]] = {"kimodo": KimodoSource}


def _find_plugins() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def names() -> tuple[str, ...]:
    """The names that can be asked for beside folders."""
    return ("starter", *sorted({*BUILT_IN, *_find_plugins()} - {"starter"}))


def _find_class(name: str) -> Any:
    """The class of a source by its name, None for an unknown one; ``MotionError`` where its package is broken."""
    entry = _find_plugins().get(name)
    if entry is None:
        return BUILT_IN.get(name)
    try:
        return entry.load()
    except Exception as error:  # whatever another package's module does
        logger.warning("The motion model '%s' cannot be loaded", name, exc_info=True)
        raise MotionError(f"The motion model '{name}' cannot be loaded ({error}); update the package {entry.value}.") from error


def _make_source(name: str, values: dict[str, Any]) -> MotionSource:
    """A source of a name with these settings. Raises ``MotionError``."""
    made = _find_class(name)
    struct: type[msgspec.Struct] | None = getattr(made, "settings", None)
    if struct is None:
        if values:
            raise MotionError(f"The motion model '{name}' has no settings; write only its name.")
        source: MotionSource = made()
        return source
    try:
        settings = with_settings(struct(), values)
        check_settings(settings)
    except SettingError as error:
        raise MotionError(str(error)) from error
    except TypeError:
        known = ", ".join(field.name for field in msgspec.structs.fields(struct))
        unknown = ", ".join(f"'{value}'" for value in values)
        raise MotionError(f"The motion model '{name}' does not know the setting {unknown}; it has {known}.") from None
    source = made(settings)
    return source


def load(name: str, device: torch.device, statistics: Path | None = None, text_encoder: str | None = None) -> CheckedSource:
    """A source by its name, ``name:setting=value,...`` where it has settings, or by the checkpoint's path; ``MotionError`` says
    what there is."""
    if name == "starter":
        return CheckedSource(name, StarterSource(device))
    known = name.partition(":")[0].strip()
    if known in names():
        try:
            _, values = read_plugin(name)
        except SettingError as error:
            raise MotionError(str(error)) from error
        return CheckedSource(known, _make_source(known, values))
    path = Path(os.path.expanduser(name))
    if not path.exists():
        raise MotionError(f"There is no motion model '{name}'; choose {', '.join(names())}, or the folder of an MDM checkpoint.")
    return CheckedSource(path.name, MdmSource(path, device, statistics, text_encoder))


def describe_sources() -> Iterator[str]:
    """A line for each source that can be asked for by name: what it is, what it keeps, its settings."""
    for name in names():
        try:
            made = StarterSource if name == "starter" else _find_class(name)
        except MotionError as error:
            yield f"{name}: {error}"
            continue
        # an MDM checkpoint says it when it is loaded
        info = getattr(made, "info", None) or SourceInfo("Built in" if name == "starter" else name)
        settings = [field.name for field in msgspec.structs.fields(made.settings)] if hasattr(made, "settings") else []
        parts = [info.help, "keeps " + (", ".join(KEPT[kind] for kind in KEPT if kind in info.keeps) or "nothing")]
        parts += [f"settings: {', '.join(settings)}"] if settings else []
        yield f"{name}: {info.label}. " + "; ".join(part for part in parts if part)
