"""``python -m tools.cuda_check.child``: one part, in a process of its own, that the whole run starts and ends."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from .recording import Clock, Recorder
from .scale import SCALES, Scale


@dataclass(frozen=True)
class Task:
    """What a part is given: the name of its device, how large all is, its time, where its rows go, the folder for its pictures, and
    a folder of saved passes, and one in which another process draws passes, None for none."""

    device: str
    scale: Scale
    clock: Clock
    recorder: Recorder
    pictures: Path | None = None
    shots: Path | None = None
    drawn: Path | None = None


def main(argv: list[str] | None = None) -> int:
    """Run a part; 1 with the reason as the last line when it raises."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--device", required=True)
    parser.add_argument("--scale", required=True, choices=SCALES)
    parser.add_argument("--seconds", required=True, type=float)
    parser.add_argument("--rows", required=True, type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--drawn", type=Path)
    args = parser.parse_args(argv)
    recorder = Recorder(args.rows)
    task = Task(args.device, SCALES[args.scale], Clock(args.seconds), recorder, args.pictures, args.shots, args.drawn)
    module, _, function = args.target.partition(":")
    try:
        getattr(importlib.import_module(module), function)(task)
    except Exception as error:  # whatever it was, the parts after it are still tried
        traceback.print_exc()
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
