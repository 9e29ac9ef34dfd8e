"""Writes ``docs/results/cuda/README.md`` from the results of ``tools.cuda_check`` on a CUDA device:
``python -m tools.write_cuda_page RESULTS.json`` keeps them beside the page; without a file it writes the page of those that are
there, and ``--check`` only compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentman.shared.files import write_atomically

from .cuda_check.recording import encode
from .cuda_check.running import RESULTS, read_results
from .cuda_check.tables import describe_check, describe_stages, format_number, list_figures, pick_columns
from .written_page import write_page

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "results" / "cuda"
INTRODUCTION = """# On a CUDA device

Everything here was measured in one run on one card: {device}, {memory:.0f} GiB, torch {torch}, CUDA {cuda}, {date}.

    {command}

`python -m tools.write_cuda_page` makes this page of [the results]({results}). Times are this card's; ratios carry further. The
networks that are timed have the published shapes with a depth ControlNet and random weights: the same work, no picture. *Computed*
stands beside a figure of which only some of the steps were made. What was not reached says why.

"""
STAGES = 6


def check_kind(found: Mapping[str, Any]) -> str:
    """Why results are none for the page; empty where they are."""
    if found["facts"].get("device_kind") != "cuda":
        return "These results are not of a CUDA device; the page is of such alone."
    if found["scale"] != "full":
        return "These results are of small sizes; run tools.cuda_check with --scale full on the CUDA device."
    return ""


def _write_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _write_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_write_row(heads), "|---" * len(heads) + "|", *map(_write_row, rows), ""]


def format_page(found: Mapping[str, Any]) -> str:
    """The page's text."""
    facts = found["facts"]
    introduction = INTRODUCTION.format(
        device=facts.get("device_name", "?"),
        memory=facts.get("memory_gb") or 0.0,
        torch=facts.get("torch", "?"),
        cuda=facts.get("cuda", "?"),
        date=found["date"],
        command=found["command"],
        results=RESULTS,
    )
    lines: list[str] = []
    for part in found["parts"].values():
        lines += [f"## {part['title']}", ""]
        if part["state"] != "done":
            lines += [f"This part was {part['state']}: {part['reason']}.", ""]
        checks = [row for row in part["rows"] if "passed" in row]
        others = [row for row in part["rows"] if "passed" not in row]
        if checks:
            outcomes = [
                [row["name"], row.get("wanted", ""), describe_check(row), list_figures(row) or row.get("reason", "")]
                for row in checks
            ]
            lines += _write_table(["check", "wanted", "outcome", "found"], outcomes)
        if others:
            columns = pick_columns(others)
            figures = [
                [
                    row["name"],
                    *(format_number(row.get(key)) for key in columns),
                    ("computed; " if row.get("is_computed") else "") + (row.get("reason") or describe_stages(row, STAGES)),
                ]
                for row in others
            ]
            lines += _write_table(["", *columns.values(), "where the time goes"], figures)
    return introduction + "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, or compare it; 1 when it is stale, 2 for results that are none for it."""
    given, rest = argparse.ArgumentParser(add_help=False), list(sys.argv[1:] if argv is None else argv)
    given.add_argument("results", nargs="?", type=Path)
    known, rest = given.parse_known_args(rest)
    path = known.results or FOLDER / RESULTS
    try:
        found = read_results(path)
    except (OSError, ValueError) as error:
        print(f"{path} holds no results ({error}); run python -m tools.cuda_check on a CUDA device.", file=sys.stderr)
        return 2
    reason = check_kind(found)
    if reason:
        print(reason, file=sys.stderr)
        return 2
    if known.results is not None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        write_atomically(FOLDER / RESULTS, encode(found))
    return write_page("write_cuda_page", __doc__, FOLDER / "README.md", lambda: format_page(found), rest)


if __name__ == "__main__":
    sys.exit(main())
