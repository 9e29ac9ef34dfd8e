"""How many workers make frames, and where: the options of ``latentman serve``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

#: as many as there are GPUs
AUTO = 0
MOST_WORKERS = 1024


@dataclass(frozen=True)
class WorkerOptions:
    """``count`` workers (or ``AUTO``), of the Ray cluster at ``address``, or of this machine where that is empty."""

    count: int = AUTO
    address: str = ""


def _read_count(text: str) -> int:
    if text == "auto":
        return AUTO
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of workers; give 1 to {MOST_WORKERS}, or auto")
    return int(text)


def add_worker_options(command: argparse.ArgumentParser) -> None:
    """Add ``--workers`` and ``--ray``."""
    command.add_argument(
        "--workers",
        type=_read_count,
        metavar="N",
        help="processes that make the frames of shots together: auto is one for each GPU, or for each four cores where there is "
        "none; needs pip install 'latentman[ray]'; by default this process makes all",
    )
    command.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="have the workers of a Ray cluster make them, such as 10.0.0.4:6379, or auto for the one that is found",
    )


def read_worker_options(args: argparse.Namespace) -> WorkerOptions | None:
    """What the arguments ask for; None for no workers."""
    if args.workers is None and args.ray is None:
        return None
    return WorkerOptions(AUTO if args.workers is None else args.workers, args.ray or "")
