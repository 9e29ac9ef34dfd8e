"""The tables of ``docs/models.md``, whose cells stand for tests."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def has_table(columns: Collection[str], titles: Collection[str]) -> bool:
    """Whether the page has a table with these columns that begins with a row of *yes* for each of the titles."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    head = lines.index("| | " + " | ".join(columns) + " |")
    return lines[head + 2 : head + 2 + len(titles)] == [
        f"| {title} | " + " | ".join(["yes"] * len(columns)) + " |" for title in titles
    ]
