"""The command line of the tools that write a page of ``docs`` from the code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def write_page(tool: str, description: str | None, page: Path, make: Callable[[], str], argv: Sequence[str] | None) -> int:
    """Write ``page``, or with ``--check`` only compare it; returns 1 when it is stale. ``tool`` is the module's name in
    ``tools``."""
    parser = argparse.ArgumentParser(prog=f"python -m tools.{tool}", description=description)
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 when the page is stale")
    args = parser.parse_args(argv)
    made = make()
    if not args.check:
        page.write_text(made, encoding="utf-8")
    elif not page.exists() or page.read_text(encoding="utf-8") != made:
        print(f"{page} is stale; run python -m tools.{tool}.", file=sys.stderr)
        return 1
    return 0
