"""Metrics of other packages, computed beside our own figures in the same pass over a clip.

A package adds one with an entry point of the group ``latentman.metrics`` that names a class derived from ``Metric``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, ClassVar, get_args

import numpy as np

from ...shared.passes import FramePasses
from ...shared.shot import ShotError
from ..plugins import Plugins, describe_error
from .clip_measurer import NAMES, Part
from .figures import FIGURES, OPTIONAL, Better, Figure
from .frames import MeasuredFrame
from .provenance import PROVENANCE

GROUP = "latentman.metrics"
#: what rows of an evaluation hold beside figures
_TAKEN = {*NAMES, *(figure.name for figure in (*FIGURES, *OPTIONAL)), "named_colours", "seconds_per_frame", "peak_mb"}
_TAKEN |= {"shot", "prompt", "seed", "variant", "folder", *PROVENANCE}
#: parts of figures, which are found beside them
_PARTS = re.compile(rf"(?:{'|'.join(NAMES)}|grain|saturation|exposure|contrast)_(?:level|lag\d+)")


class Metric:
    """Figures of a clip, from frames that are added one after the other. Made anew for every clip, without arguments."""

    #: what it gives
    describes: ClassVar[tuple[Figure, ...]] = ()

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame, with its picture and its passes."""
        raise NotImplementedError

    def figures(self) -> dict[str, float]:
        """The figures by the names in ``describes``, once all frames have been added; NaN where there is nothing to measure."""
        raise NotImplementedError


class CheckedMetric:
    """A package's metric whose mistakes are sentences, and whose figures are those that it describes."""

    def __init__(self, name: str, kind: type[Metric]) -> None:
        self._name, self._kind = name, kind
        self._metric = self._ask(kind)

    def _ask(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except ShotError:
            raise
        except (Exception, SystemExit) as error:  # what another package's code does
            raise ShotError(
                "metric", f"The metric '{self._name}' failed ({describe_error(error)}); update its package, or leave it out."
            ) from error

    def add(self, frame: MeasuredFrame) -> None:
        """See ``Metric``."""
        self._ask(self._metric.add, protect(frame))

    def figures(self) -> dict[str, float]:
        """See ``Metric``. Raises ``ShotError`` for other figures than those that it describes."""
        found = self._ask(self._metric.figures)
        wanted = [figure.name for figure in self._kind.describes]
        if not isinstance(found, dict) or set(found) != set(wanted):
            given = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
            raise ShotError(
                "metric", f"The metric '{self._name}' gave {given or 'nothing'} instead of {', '.join(wanted)}; update its package."
            )
        return {name: self._read_value(name, found[name]) for name in wanted}

    def _read_value(self, name: str, value: Any) -> float:
        number = float("inf") if isinstance(value, (str, bytes, bytearray)) else float(self._ask(float, value))
        if np.isinf(number):
            shown = " ".join(repr(value).split())[:40]
            raise ShotError(
                "metric", f"The metric '{self._name}' gave {shown} for {name}, which is no finite number; update its package."
            )
        return number


def _lock(value: Any) -> Any:
    """A view of an array that cannot be written; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _lock_fields(given: Any) -> Any:
    """A copy of a dataclass whose arrays cannot be written."""
    return replace(given, **{field.name: _lock(getattr(given, field.name)) for field in fields(given)})


def protect(frame: MeasuredFrame) -> MeasuredFrame:
    """A frame whose arrays cannot be written: others compute their figures from the same."""
    passes = FramePasses(**{name: _lock(array) for name, array in frame.passes.arrays().items()})
    return replace(_lock_fields(frame), passes=passes, surface=_lock_fields(frame.surface))


def _read(name: str, found: Any) -> type[Metric]:
    if not (isinstance(found, type) and issubclass(found, Metric)):
        raise TypeError("it is not a class derived from Metric")
    if not found.describes or not all(isinstance(figure, Figure) for figure in found.describes):
        raise TypeError("it describes no figures")
    names = [figure.name for figure in found.describes]
    for number, one in enumerate(names):
        if not isinstance(one, str) or not one.isidentifier() or one in _TAKEN or _PARTS.fullmatch(one):
            raise ValueError(f"'{one}' cannot be a figure's name")
        if one in names[:number]:
            raise ValueError(f"it describes {one} twice")
    for figure in found.describes:
        if figure.better not in get_args(Better):
            raise ValueError(f"'{figure.better}' is not what is good; choose {', '.join(get_args(Better))}")
    return found


PLUGINS: Plugins[type[Metric]] = Plugins(GROUP, "metric", _read)


def load_metrics(names: Iterable[str]) -> dict[str, type[Metric]]:
    """The metrics of some names. Raises ``ShotError`` for one that is unknown, broken or asked for twice, and for two that give a
    figure of one name."""
    found: dict[str, type[Metric]] = {}
    owners: dict[str, str] = {}
    for name in names:
        if name in found:
            raise ShotError("metric", f"The metric '{name}' is asked for twice; leave one of them out.")
        found[name] = PLUGINS.load(name)
        for figure in found[name].describes:
            if figure.name in owners:
                raise ShotError(
                    "metric", f"The metrics '{owners[figure.name]}' and '{name}' both give {figure.name}; leave one of them out."
                )
            owners[figure.name] = name
    return found


def describe_metric(kind: type[Metric]) -> str:
    """What a metric is, and the figures that it gives."""
    return "; ".join(f"{figure.name} ({figure.unit}, good is {figure.better}): {figure.meaning}" for figure in kind.describes)


def make_parts(metrics: dict[str, type[Metric]]) -> dict[str, Part]:
    """New metrics for a clip, by names that ``ClipMeasurer`` can have beside its own."""
    return {f"plugin {name}": CheckedMetric(name, kind) for name, kind in metrics.items()}
