"""Writes the tables and figures of README, gallery, faithfulness and ``docs/results/README.md`` from the runs in
``docs/results/*/results.csv``: ``python -m tools.write_results_pages``; ``--check`` only compares.

What is made stands between ``<!-- KIND ... -->`` and ``<!-- / -->``, so that the text around it is written by hand:

- ``mean SUITE VARIANT FIGURE`` is a variant's mean over its runs;
- ``ratio SUITE VARIANT/BASELINE FIGURE`` is the geometric mean of the ratios of pairs with its 95 % interval and their number;
- ``table SUITE FIGURE FIGURE=HEADING FIGURE/BASELINE ...`` with a line ``VARIANT: label`` for each row is a table of means, or of
  means over the baseline's;
- ``age SUITE`` says what has changed since the suite was run, or since what lies in another folder beside the suites' was made.

``shot=NAME`` after a mean or a ratio takes the runs of that shot only.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from latentman.backend.metrics.making import describe_making, list_changes
from latentman.backend.metrics.statistics import Run, compare

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "gallery.md", ROOT / "docs" / "faithfulness.md", RESULTS / "README.md")
MARK = re.compile(r"<!-- (mean|ratio|table|age) ([^>]*?)-->(.*?)<!-- / -->", re.DOTALL)
START = re.compile(r"<!-- (mean|ratio|table|age) ")
#: what a suite was made of, beside its runs
MADE_OF = "made_of.json"


class MarkError(ValueError):
    """A mark that cannot be filled; its text names the mark."""


@cache
def read_runs(folder: Path) -> tuple[Run, ...]:
    """The runs of a suite. Raises ``MarkError`` when there are none."""
    path = folder / "results.csv"
    if not path.exists():
        raise MarkError(f"{path} does not exist; run the suite, or take its mark away.")
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def _select(suite: str, options: Sequence[str]) -> list[Run]:
    wanted = dict(option.split("=", 1) for option in options)
    if set(wanted) - {"shot"}:
        raise MarkError(f"There is no option {sorted(set(wanted) - {'shot'})[0]!r}; there is shot=NAME.")
    return [run for run in read_runs(RESULTS / suite) if all(run[key] == value for key, value in wanted.items())]


def compute_mean(runs: Sequence[Run], variant: str, figure: str) -> float:
    """A variant's mean over the runs that have the figure. Raises ``MarkError`` when none has."""
    values = [float(run[figure]) for run in runs if run["variant"] == variant and run.get(figure) not in ("", None)]
    if not values:
        raise MarkError(f"No run of {variant} has the figure {figure}.")
    return float(np.mean(values))


def format_value(value: float) -> str:
    """Whole numbers from 10 on, two decimals below."""
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"


def _make_table(suite: str, words: Sequence[str], labels: Sequence[str]) -> str:
    runs = read_runs(RESULTS / suite)
    columns = []
    for word in words:
        figure, _, heading = word.partition("=")
        figure, _, baseline = figure.partition("/")
        columns.append((figure, baseline, heading or f"`{figure}`"))
    lines = ["| | " + " | ".join(heading for *_, heading in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for line in labels:
        variant, _, label = line.partition(": ")
        cells = []
        for figure, baseline, _ in columns:
            if not any(run["variant"] == variant and run.get(figure) not in ("", None) for run in runs):
                cells.append("")
                continue
            value = compute_mean(runs, variant, figure)
            cells.append(format_value(value / compute_mean(runs, baseline, figure) if baseline else value))
        if not any(cells):
            raise MarkError(f"The suite {suite} has no runs of {variant}.")
        lines.append(f"| {label or f'`{variant}`'} | " + " | ".join(cells) + " |")
    return "\n" + "\n".join(lines) + "\n"


def _describe_age(suite: str) -> str:
    path = RESULTS / suite / MADE_OF
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    changes = list_changes(stored, describe_making((stored or {}).get("model", "starter")))
    return "Made with today's weights, presets and code." if not changes else f"**Out of date**: {'; '.join(changes)}."


def fill_mark(kind: str, text: str) -> str:
    """What stands between a mark and its end. Raises ``MarkError``."""
    first, *labels = text.strip().splitlines() or [""]
    words = first.split()
    try:
        if kind == "age":
            (suite,) = words
            return _describe_age(suite)
        if kind == "table":
            return _make_table(words[0], words[1:], labels)
        suite, what, figure, *options = words
        runs = _select(suite, options)
        if kind == "mean":
            return format_value(compute_mean(runs, what, figure))
        variant, baseline = what.split("/")
        found = compare(runs, variant, baseline, figure)
        if not found.count:
            raise MarkError(f"No pair of {what} has the figure {figure}.")
        return str(found)
    except (ValueError, KeyError) as error:
        raise MarkError(f"The mark '{kind} {first}' cannot be filled: {error}") from error


def fill_page(text: str) -> str:
    """A page with everything between its marks made anew. Raises ``MarkError``."""
    found = len(MARK.findall(text))
    if not found == len(START.findall(text)) == text.count("<!-- / -->"):
        raise MarkError("A mark has no end, or an end no mark; each begins with <!-- KIND ... --> and ends with <!-- / -->.")
    return MARK.sub(lambda found: f"<!-- {found[1]} {found[2]}-->{fill_mark(found[1], found[2])}<!-- / -->", text)


def main(argv: list[str] | None = None) -> int:
    """Write the pages, or compare them; returns 1 when one is stale, 2 when a mark cannot be filled."""
    parser = argparse.ArgumentParser(prog="python -m tools.write_results_pages", description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 when a page is stale")
    args = parser.parse_args(argv)
    stale = False
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        try:
            made = fill_page(text)
        except MarkError as error:
            print(f"{page}: {error}", file=sys.stderr)
            return 2
        if made != text and args.check:
            print(f"{page} is stale; run python -m tools.write_results_pages.", file=sys.stderr)
            stale = True
        elif made != text:
            page.write_text(made, encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
