"""A table of submissions: who is better than whom beyond chance, by pairs of clips of the same shot, prompt and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...shared.shot import ShotError
from .figures import BY_NAME, MAIN
from .statistics import Ratio, choose_baseline, compare
from .submissions import Entry, fold_name

#: what entries are ranked by unless another figure is named
RANKED_BY = "hmse"
#: figures that a table shows, beside the one that it ranks by
SHOWN = ("hmse_relative", "rim_error", "flicker_fast", "drift", "liveliness", "detail_level", "background_error", "silhouette_iou")
#: figures without a good side, of which less than the baseline has is a loss
KEPT = ("detail_level", "contrast_level", "saturation_level")


@dataclass(frozen=True)
class Standing:
    """An entry's place: ``rank`` is 1 and one more for each entry that is better beyond chance, ``tied`` are the names of those
    that it cannot be told from. ``ratios`` are its figures over the baseline's, ``losses`` those of them that are worse beyond
    chance."""

    entry: Entry
    rank: int
    tied: tuple[str, ...]
    ratios: dict[str, Ratio]
    losses: tuple[str, ...]


@dataclass(frozen=True)
class Leaderboard:
    """Standings in their order; ratios are to those of the entry ``baseline``."""

    figure: str
    baseline: str
    standings: tuple[Standing, ...]


def list_ranking_figures() -> list[str]:
    """The figures that entries can be ranked by: those that have a good side and need no reference."""
    return [name for name, figure in BY_NAME.items() if figure.better in ("lower", "higher")]


def check_figure(name: str) -> None:
    """Raise ``ShotError`` for a figure that entries cannot be ranked by."""
    if name not in list_ranking_figures():
        raise ShotError("figure", f"Entries cannot be ranked by '{name[:60]}'; choose from {', '.join(list_ranking_figures())}.")


def _is_worse(figure: str, ratio: Ratio) -> bool:
    """Whether a ratio is worse than 1 beyond chance."""
    if figure in KEPT or BY_NAME[figure].better == "higher":
        return ratio.high < 1
    return ratio.low > 1


def leave_out_lacking(entries: Sequence[Entry], figure: str) -> tuple[list[Entry], list[str]]:
    """The entries that have a figure above 0 for every clip for which it is known, and a sentence about each of the others: their
    ratios would be over the clips that suit them. A clip of which the figure of an entry that was measured again is missing needs
    none; where no entry has all, all stay. Raises ``ShotError`` for a figure that there is not."""
    check_figure(figure)

    def list_lacking(entry: Entry) -> set[tuple[str, str, int]]:
        return {(run["shot"], run["prompt"], run["seed"]) for run in entry.runs if not (run.get(figure) or 0) > 0}

    lacking = [list_lacking(entry) for entry in entries]
    excused = set().union(*(missing for entry, missing in zip(entries, lacking, strict=True) if entry.verified))
    by_all = set.intersection(*lacking) if lacking else set()
    kept, said = [], []
    for entry, missing in zip(entries, lacking, strict=True):
        if missing - excused - by_all:
            count = len(missing)
            said.append(
                f"'{entry.metadata.name}' is left out: it has no '{figure}' above 0 for {count} of its {len(entry.runs)} clips, "
                "for which others have it."
            )
        else:
            kept.append(entry)
    return (kept, said) if kept else (list(entries), [])


def rank(entries: Sequence[Entry], figure: str = RANKED_BY, baseline: str = "") -> Leaderboard:
    """The standings of entries by a figure. Raises ``ShotError`` for a figure or a baseline that there is not, and for entries that
    lack the figure."""
    check_figure(figure)
    for entry in entries:
        if not any((run.get(figure) or 0) > 0 for run in entry.runs):
            raise ShotError("figure", f"'{entry.metadata.name}' has no '{figure}' above 0; rank by another figure.")
    runs: list[dict[str, Any]] = [run for entry in entries for run in entry.runs]
    names = [entry.metadata.name for entry in entries]
    if baseline:
        found = [name for name in names if fold_name(name) == fold_name(baseline)]
        if not found:
            raise ShotError("baseline", f"There is no entry '{baseline[:80]}' to compare with; choose from {', '.join(names)}.")
        baseline = found[0]
    else:
        baseline = choose_baseline(runs)
    against = {(one, other): compare(runs, one, other, figure) for one in names for other in names if one != other}
    others = [name for name in (*MAIN, *KEPT) if name != figure and (name in KEPT or BY_NAME[name].better in ("lower", "higher"))]
    standings = []
    for entry in entries:
        name = entry.metadata.name
        better = [other for other in names if other != name and _is_worse(figure, against[name, other])]
        tied = tuple(other for other in names if other != name and not against[name, other].differs)
        ratios = {one: compare(runs, name, baseline, one) for one in dict.fromkeys((figure, *SHOWN, *others))}
        losses = tuple(one for one in others if name != baseline and _is_worse(one, ratios[one]))
        standings.append(Standing(entry, 1 + len(better), tied, ratios, losses))
    sign = 1 if BY_NAME[figure].better == "lower" else -1
    standings.sort(key=lambda one: (one.rank, sign * one.ratios[figure].mean, fold_name(one.entry.metadata.name)))
    return Leaderboard(figure, baseline, tuple(standings))
