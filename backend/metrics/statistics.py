"""What an evaluation's runs support: variants compared by pairs of runs of the same shot, prompt and seed.

A pair's ratio is the variant's figure over the baseline's. Ratios are averaged as logarithms (the geometric mean), with the
interval that holds the true mean in 95 of 100 cases (Student's t). Within a shot and prompt the pairs are seeds. Over all of them,
seeds of one shot and prompt have much in common, so that the interval is the wider one of two: that of all pairs, and, from three
groups on, that of the groups' means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

#: how sure an interval is
CONFIDENCE = 0.95
#: groups of shot and prompt below which their means say nothing about how groups differ
LEAST_GROUPS = 3
#: pairs below which a result is a trial, not a finding
ENOUGH_PAIRS = 5
#: one run: its shot, prompt, seed and variant, and its figures
Run = Mapping[str, Any]
#: shot and prompt
Group = tuple[str, str]


@dataclass(frozen=True)
class Ratio:
    """A geometric mean of ``count`` ratios with its interval, from ``low`` to ``high``; these are NaN for a single ratio.
    ``left_out`` pairs had a figure that is missing or not above 0."""

    mean: float
    low: float
    high: float
    count: int
    left_out: int = 0

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 1: the variant is better or worse, and not by chance."""
        return self.low > 1 or self.high < 1

    def __str__(self) -> str:
        if not self.count:
            return "–"
        left_out = f", {self.left_out} left out" if self.left_out else ""
        if np.isnan(self.low):
            return f"{self.mean:.2f} (n = {self.count}{left_out})"
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}], n = {self.count}{left_out}"


def _measure_spread(logarithms: np.ndarray) -> float:
    """Half the interval's width around the mean of logarithms (N,); NaN for fewer than two."""
    if len(logarithms) < 2:
        return float("nan")
    quantile = student.ppf(0.5 + CONFIDENCE / 2, len(logarithms) - 1)
    return float(quantile * logarithms.std(ddof=1) / np.sqrt(len(logarithms)))


def average_ratios(groups: Mapping[Group, Sequence[float]], left_out: int = 0) -> Ratio:
    """The ``Ratio`` of ratios above 0 by group; every pair counts the same."""
    parts = [np.log(np.asarray(values, float)) for values in groups.values() if len(values)]
    if not parts:
        nan = float("nan")
        return Ratio(nan, nan, nan, 0, left_out)
    together = np.concatenate(parts)
    spreads = [_measure_spread(together)]
    if len(parts) >= LEAST_GROUPS:
        spreads.append(_measure_spread(np.array([part.mean() for part in parts])))
    mean, spread = float(together.mean()), max(spreads)
    return Ratio(float(np.exp(mean)), float(np.exp(mean - spread)), float(np.exp(mean + spread)), len(together), left_out)


def _read_figure(run: Run, figure: str) -> float:
    value = run.get(figure)
    try:
        return float(value) if value is not None and value != "" else float("nan")
    except (TypeError, ValueError):
        return float("nan")


def pair_ratios(runs: Iterable[Run], variant: str, baseline: str, figure: str) -> tuple[dict[Group, list[float]], int]:
    """The ratios of all pairs by shot and prompt, and how many pairs have none because a figure is missing or not above 0.

    Raises ``ValueError`` when a variant has two runs of one shot, prompt and seed: they would not be of one evaluation."""
    found: dict[str, dict[tuple[str, str, str], float]] = {variant: {}, baseline: {}}
    for run in runs:
        if run["variant"] in found:
            key = (str(run["shot"]), str(run["prompt"]), str(run["seed"]))
            if key in found[run["variant"]]:
                raise ValueError(f"There are two runs of {run['variant']} for {key[0]}, seed {key[2]}; compare one evaluation.")
            found[run["variant"]][key] = _read_figure(run, figure)
    groups: dict[Group, list[float]] = {}
    left_out = 0
    for key, value in found[variant].items():
        base = found[baseline].get(key)
        if base is None:
            continue
        if value > 0 and base > 0:
            groups.setdefault(key[:2], []).append(value / base)
        else:
            left_out += 1
    return groups, left_out


def compare(runs: Sequence[Run], variant: str, baseline: str, figure: str) -> Ratio:
    """A variant's figure over the baseline's, over all pairs."""
    return average_ratios(*pair_ratios(runs, variant, baseline, figure))


def compare_groups(runs: Sequence[Run], variant: str, baseline: str, figure: str) -> dict[Group, Ratio]:
    """The same for each shot and prompt apart."""
    groups, _ = pair_ratios(runs, variant, baseline, figure)
    return {group: average_ratios({group: values}) for group, values in groups.items()}


def choose_baseline(runs: Sequence[Run]) -> str:
    """The variant that others are compared with: ``cross_frame`` where there is one, else ``per_frame``, else the first."""
    names = list(dict.fromkeys(run["variant"] for run in runs))
    return next((name for name in ("cross_frame", "per_frame") if name in names), names[0])


def format_ratios(runs: Sequence[Run], figures: Sequence[str]) -> str:
    """Tables in Markdown: every variant against the baseline over all pairs, and ``figures[0]`` for each shot and prompt apart.

    Intervals that leave out 1 are bold; the caption says when there are too few pairs for a finding, and a cell how many pairs
    are left out."""
    if not runs:
        return ""
    baseline = choose_baseline(runs)
    names = [name for name in dict.fromkeys(run["variant"] for run in runs) if name != baseline]
    ratios = {(name, figure): compare(runs, name, baseline, figure) for name in names for figure in figures}
    shown = [figure for figure in figures if any(ratios[name, figure].count for name in names)]
    if not names or not shown:
        return ""

    def cell(ratio: Ratio) -> str:
        return f"**{ratio}**" if ratio.differs else str(ratio)

    lines = [f"Against `{baseline}`, pairs of the same shot, prompt and seed: geometric mean of the ratios [95 % interval].", ""]
    if min(ratios[name, shown[0]].count for name in names) < ENOUGH_PAIRS:
        lines[0] += f" Fewer than {ENOUGH_PAIRS} pairs: a trial, not a finding."
    lines += ["| variant | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cell(ratios[name, figure]) for figure in shown) + " |" for name in names]
    groups = list(dict.fromkeys((str(run["shot"]), str(run["prompt"])) for run in runs))
    if len(groups) > 1:
        lines += ["", f"`{shown[0]}` for each shot and prompt:", ""]
        lines += ["| shot, prompt | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        found = {name: compare_groups(runs, name, baseline, shown[0]) for name in names}
        for group in groups:
            cells = [cell(found[name][group]) if group in found[name] else "–" for name in names]
            lines.append(f"| {group[0]}, {group[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
