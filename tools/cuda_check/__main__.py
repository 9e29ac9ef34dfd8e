"""python -m tools.cuda_check --minutes 8 --out DIR: everything about a CUDA device in one bounded run.

Are frames right there, what do they cost, what else makes them quicker, how fast does the starter learn: each part in a process of
its own with its share of the time, the most important first. DIR/results.json grows row by row, so that whatever happens keeps what
was found; DIR/results.txt is the same as a table, DIR/pictures shows frames, DIR/log.txt is what the parts said.

On a machine that has torch and no network: here, python -m tools.cuda_check --pack FOLDER writes FOLDER/pack.tar.xz with all that
it needs and FOLDER/run.py; copy both there, and run python3 run.py --minutes 8 --out DIR with the Python that has torch. --python
and --machine say what that Python is, --installed what else it has, which stays out of the pack.

With --device cpu the same runs at small sizes, to try it; its figures say nothing of any GPU. A CUDA device's results.json becomes
docs/results/cuda by python -m tools.write_cuda_page results.json.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from latentman.shared.files import write_atomically

from .packing import DEFAULT_INSTALLED, MACHINES, PackError, pack
from .parts import PARTS
from .running import RESULTS, Run, read_results, run_parts
from .scale import FULL, SCALES, SMALL
from .shots_folder import SHOTS
from .tables import format_results

TABLE = "results.txt"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.cuda_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu (%(default)s)")
    parser.add_argument("--scale", choices=SCALES, help="full sizes, or small ones; by default what suits the device")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], help="only these parts")
    parser.add_argument("--shots", type=Path, default=SHOTS, help="folder with shots.zip, rendered in Blender beforehand")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="write what another machine needs, and run nothing")
    parser.add_argument("--python", default="3.12", help="for --pack: the other machine's Python (%(default)s)")
    parser.add_argument("--machine", choices=MACHINES, default="linux-x64", help="for --pack (%(default)s)")
    parser.add_argument(
        "--installed",
        nargs="*",
        default=list(DEFAULT_INSTALLED),
        help=f"for --pack: packages that it has, beside torch and what torch needs ({' '.join(DEFAULT_INSTALLED)})",
    )
    return parser


def check_all(args: argparse.Namespace) -> int:
    """Run the parts; 1 when one was not done or a check has not passed."""
    scale = SCALES[args.scale] if args.scale else SMALL if args.device == "cpu" else FULL
    parts = [part for part in PARTS if not args.only or part.name in args.only]
    run = Run(
        args.device, scale.name, args.minutes, f"python -m tools.cuda_check --minutes {args.minutes:g} --device {args.device}"
    )
    shots = args.shots if args.shots.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="latentman-drawn-") as drawn:
        sides = dict.fromkeys(str(side) for side in scale.sides.values())
        command = [sys.executable, "-m", "tools.cuda_check.shots", drawn, str(max(scale.paper[0], *scale.frame_counts[:2])), *sides]
        drawing = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            is_done = run_parts(parts, run, args.out, shots, Path(drawn), say=lambda line: print(line, flush=True))
        finally:
            drawing.kill()
            drawing.wait()
    found = read_results(args.out / RESULTS)
    table = format_results(found)
    write_atomically(args.out / TABLE, table.encode())
    print(table)
    rows = [row for part in found["parts"].values() for row in part["rows"]]
    return int(not is_done or any(row.get("passed") is False for row in rows))


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.pack is not None:
        try:
            print(pack(args.pack, args.python, args.machine, args.installed, args.shots))
        except PackError as error:
            print(error, file=sys.stderr)
            return 2
        return 0
    if args.out is None:
        parser.error("say with --out where the results go")
    # what is at work on the device is ended with this process
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    return check_all(args)


if __name__ == "__main__":
    sys.exit(main())
