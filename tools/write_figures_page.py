"""Writes ``docs/figures.md`` from the list of figures: ``python -m tools.write_figures_page``; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from latentman.backend.metrics.figures import FIGURES, OPTIONAL, Figure

from .written_page import write_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "figures.md"
INTRODUCTION = """# Figures

What an evaluation measures. Levels are of the scale 0 to 255. *Inside* is what lies two pixels or more within the silhouettes of
the passes; surface points are matched exactly, by their rest positions, and read between the pixels of the other frame. No figure
is worth anything alone: a blur is steady, a frozen texture steadier. Each fault that the tests paint from exact passes (blur, lost
contrast, one colour, grain, drift, turning hues, sliding and stuck textures, flicker, jitter, rims, halos, ghosts, changed
costumes, frozen, late, dropped and repeated frames, wrong silhouettes) loses on at least one (`tests/backend/test_figures.py`).

*Faultless* is what clips painted without a fault come to, at 128 and 256 pixels. `python -m tools.write_figures_page` writes this
page from the list in `backend/metrics/figures.py`.

"""
COLUMNS = ("figure", "unit", "good is", "what it is", "faultless", "known weaknesses")


def _format_row(figure: Figure) -> str:
    good = {"reads": "–"}.get(figure.better, figure.better)
    cells = (f"`{figure.name}`", figure.unit, good, figure.meaning, figure.floor or "–", figure.weakness or "–")
    return "| " + " | ".join(cells) + " |"


def format_page() -> str:
    """The page's text."""
    rows = [_format_row(figure) for figure in (*FIGURES, *OPTIONAL)]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|", *rows]
    return INTRODUCTION + "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Write the page, or compare it; returns 1 when it is stale."""
    return write_page("write_figures_page", __doc__, PAGE, format_page, argv)


if __name__ == "__main__":
    sys.exit(main())
