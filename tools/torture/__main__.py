"""``python -m tools.torture [PART ...]``: kills, damage, full disks and malformed messages, for a given time; 1 when anything did
not survive it.

Every trial is drawn from the seed, which is printed: the same seed and number give the same trouble again, though processes and
disks keep their own time.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from .page import PAGE, read_revision, write_page
from .parts import PARTS
from .trial import Budget, Figures


def run_parts(names: list[str], minutes: float, seed: int, work: Path, scale: float = 1.0) -> dict[str, tuple[Figures, float]]:
    """(figures, seconds) of each part; the time is shared between them, and what one leaves over goes to those behind it.

    ``scale`` multiplies every part's number of trials.
    """
    from latentman.backend.logs import quieten_libraries

    from ..tiny_models import write_sd

    quieten_libraries()
    # what cannot be read is said for each message
    logging.getLogger("latentman").addHandler(logging.NullHandler())
    write_sd(work / "models")
    found: dict[str, tuple[Figures, float]] = {}
    end = time.monotonic() + 60 * minutes
    for n, name in enumerate(names):
        part, started = PARTS[name], time.monotonic()
        left = sum(PARTS[other].share for other in names[n:])
        budget = Budget(
            seed,
            max(1, round(part.goal * scale)),
            started + max(0.0, end - started) * part.share / left,
            work / name,
            str(work / "models" / "whole"),
        )
        budget.work.mkdir()
        print(f"{name}: {part.title}", flush=True)
        figures = part.run(budget)
        found[name] = figures, time.monotonic() - started
        for what, value in [*figures.counts.items(), *figures.measures.items()]:
            print(f"    {value if isinstance(value, str) else format(value, ',')!s:>10}  {what}")
        print(f"    {len(figures.faults)} faults in {found[name][1]:.0f} s", flush=True)
        if not figures.faults:
            shutil.rmtree(budget.work, ignore_errors=True)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.torture", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all without one")
    parser.add_argument("--minutes", type=float, default=4.0, help="about how long; a part ends earlier with its last trial")
    parser.add_argument("--seed", type=int, help="decides every trial; another one each day without it")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of trials of a full run")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(PAGE.parents[1])}")
    parser.add_argument("--keep", type=Path, help="a new folder for everything; a temporary one without it")
    args = parser.parse_args(argv)
    unknown = [name for name in args.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part '{unknown[0]}'; choose {', '.join(PARTS)}")
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    revision = read_revision()
    print(f"seed {seed}, revision {revision}", flush=True)
    work = args.keep or Path(tempfile.mkdtemp(prefix="latentman-torture-"))
    work.mkdir(exist_ok=True, parents=True)
    # keys, jobs and logs of its own; one thread each, since several processes share the machine
    os.environ |= {f"LATENTMAN_{name}": str(work / name.lower()) for name in ("CONFIG", "DATA", "LOGS")}
    os.environ["OMP_NUM_THREADS"] = "1"
    found = run_parts([name for name in PARTS if not args.parts or name in args.parts], args.minutes, seed, work, args.scale)
    if args.write:
        PAGE.write_text(write_page(found, seed, revision), encoding="utf-8")
        print(f"wrote {PAGE}")
    faults = sum(len(figures.faults) for figures, _ in found.values())
    if not args.keep and not faults:
        shutil.rmtree(work, ignore_errors=True)
    elif faults:
        print(f"{faults} faults; what was left is in {work}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
