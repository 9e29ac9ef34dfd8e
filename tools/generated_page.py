"""The command line of the programs that write a page of ``docs/`` from the code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def write_or_compare(name: str, description: str | None, page: Path, make: Callable[[], str], argv: Sequence[str] | None) -> int:
    """Write the text of a page, or with ``--check`` compare it; returns 1 when the page is stale. ``name`` is the program's among
    the ``tools``."""
    program = f"python -m tools.{name}"
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 when the page is stale")
    args = parser.parse_args(argv)
    made = make()
    if not args.check:
        page.write_text(made, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == made:
        return 0
    print(f"{page} is stale; run {program}.", file=sys.stderr)
    return 1
