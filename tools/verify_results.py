"""Whether results in ``docs/results`` would still be made by today's code: some of their runs are made again and compared figure by
figure.

    python -m tools.verify_results surface -- --suite surface --frames 12 --guidance-scale 4 --seed 1 --variants cross_frame,surface

What stands behind ``--`` is for ``latentman evaluate``: the command that made the results, with fewer seeds or prompts. All shots
and variants of the results have to be among the runs. Where every figure is what it was to its last digit, frames are bit for bit
the same, and the results are marked as made with today's weights, presets and code: changes since then did not touch them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from latentman.backend.metrics.making import describe_making, describe_rivals
from latentman.backend.metrics.statistics import Run

from .write_results_pages import MADE_OF, RESULTS, MarkError, read_runs

#: columns that differ from run to run or from revision to revision, whatever the frames
LEFT_OUT = {"folder", "key", "version", "code", "seconds_per_frame", "peak_mb"}
#: what tells one run from another
NAMES = ("shot", "prompt", "seed", "variant")


def compare_runs(stored: Sequence[Run], made: Sequence[Run]) -> list[str]:
    """Sentences about what differs between stored runs and those that were made again, and about what was not made again; empty
    where all is as it was."""
    before = {tuple(row[name] for name in NAMES): row for row in stored}
    found = []
    for row in made:
        name = tuple(row[name] for name in NAMES)
        if name not in before:
            found.append(f"{' '.join(name)} is not among the stored runs.")
            continue
        differing = [key for key, value in before[name].items() if key not in LEFT_OUT and row.get(key, "") != value]
        if differing:
            told = ", ".join(f"{key} {before[name][key]} -> {row.get(key, '')}" for key in differing[:4])
            found.append(f"{' '.join(name)} differs: {told}{', ...' if len(differing) > 4 else ''}.")
    again = {(row["shot"], row["variant"]) for row in made}
    missing = sorted({(row["shot"], row["variant"]) for row in stored} - again)
    return found + [f"{variant} was not made again for the shot {shot}." for shot, variant in missing]


def mark_as_verified(folder: Path) -> None:
    """Write down that the results in a folder are what today's weights, presets and code make."""
    path = folder / MADE_OF
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    variants = {row["variant"] for row in read_runs(folder)}
    today = describe_making(stored.get("model", "starter"), variants) | (
        {"rivals": describe_rivals()} if "rivals" in stored else {}
    )
    path.write_text(json.dumps(stored | today, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Make some runs again and compare; returns 1 where something differs, 2 where the runs cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m tools.verify_results", description=__doc__.split("\n\n")[0])
    parser.add_argument("suite", help="a folder of docs/results")
    parser.add_argument("arguments", nargs="+", help="behind --, what latentman evaluate is told")
    args = parser.parse_args(argv)
    folder = RESULTS / args.suite
    try:
        stored = read_runs(folder)
    except (MarkError, OSError) as error:
        parser.error(f"{folder} has no results that can be read ({error}).")
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "latentman.backend", "evaluate", *args.arguments, "--out", out]
        if subprocess.run(command, check=False).returncode:
            return 2
        differences = compare_runs(stored, read_runs(Path(out)))
    for sentence in differences:
        print(sentence, file=sys.stderr)
    if differences:
        return 1
    mark_as_verified(folder)
    print(f"{args.suite}: every figure is what it was.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
