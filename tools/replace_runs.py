"""Puts runs that were made again into results in ``docs/results``: those of variants whose presets have changed, while the others'
are still what today's code makes.

    latentman evaluate shots/walk --seed 1 ... --variants surface --out again
    python -m tools.replace_runs rivals again --variants surface

Every stored run of these variants has to be among those that were made again, with the same figures. The tables are written anew,
and the results' record of presets is that of today for these variants. Passes that another processor rendered differ in their last
digits: each run says in its columns which it was made from.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from latentman.backend.metrics.making import describe_making, list_changes
from latentman.backend.metrics.provenance import PROVENANCE
from latentman.backend.metrics.report import write_tables
from latentman.backend.metrics.statistics import Run

from .verify_results import NAMES
from .write_results_pages import MADE_OF, RESULTS, MarkError, read_runs

#: columns that are no figures
_WORDS = {*NAMES, "folder", *PROVENANCE}


def replace_runs(stored: Sequence[Run], made: Sequence[Run], variants: Collection[str]) -> list[Run]:
    """The stored runs with those of ``variants`` replaced. Raises ``ValueError`` for one that was not made again or has other
    figures, and for a variant that is not among the stored ones."""
    again = {tuple(run[name] for name in NAMES): run for run in made}
    out = []
    for run in stored:
        name = tuple(run[key] for key in NAMES)
        if run["variant"] not in variants:
            out.append(run)
            continue
        found = again.get(name)
        if found is None:
            raise ValueError(f"{' '.join(name)} was not made again.")
        lost = [key for key, value in run.items() if value and not found.get(key)]
        if lost:
            raise ValueError(f"{' '.join(name)} has no {lost[0]} any more.")
        out.append({key: found.get(key, "") for key in run})
    unknown = set(variants) - {run["variant"] for run in stored}
    if unknown:
        raise ValueError(f"There are no stored runs of {sorted(unknown)[0]}.")
    return out


def parse_run(run: Run) -> dict[str, Any]:
    """A run with numbers for its figures, NaN where there is none."""
    return {key: value if key in _WORDS else float(value) if value else float("nan") for key, value in run.items()}


def main(argv: list[str] | None = None) -> int:
    """Replace the runs; returns 1 where they cannot be."""
    parser = argparse.ArgumentParser(prog="python -m tools.replace_runs", description=__doc__.split("\n\n")[0])
    parser.add_argument("suite", help="a folder of docs/results")
    parser.add_argument("made", type=Path, help="the folder of an evaluation, or of its results.csv")
    parser.add_argument("--variants", nargs="+", required=True)
    args = parser.parse_args(argv)
    folder = RESULTS / args.suite
    try:
        runs = replace_runs(read_runs(folder), read_runs(args.made), args.variants)
        made_of = json.loads((folder / MADE_OF).read_text(encoding="utf-8"))
    except (MarkError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    today = describe_making(made_of.get("model", "starter"), args.variants)
    other = list_changes(made_of | {"presets": {}}, today)
    if other:
        # what has not been made again is older than that
        print(f"All of {args.suite} has to be made again: {'; '.join(other)}.", file=sys.stderr)
        return 1
    write_tables([parse_run(run) for run in runs], folder)
    (folder / "results.json").unlink()
    record = made_of | {"presets": made_of["presets"] | today["presets"]}
    (folder / MADE_OF).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{args.suite}: {sum(run['variant'] in args.variants for run in runs)} runs replaced.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
