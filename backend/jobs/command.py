"""``latentman jobs``: what the job store holds, and how to make room in it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...shared.arguments import read_path
from ...shared.files import make_private_folder
from ...shared.folders import jobs_folder
from ...shared.shot import ShotRequest
from ...shared.task import new_ticket
from .in_use import is_in_use
from .requests import DAY, INCOMING, read_request, remove_stale_incoming


@dataclass(frozen=True)
class StoredJob:
    """A job's folder at a glance: ``used`` is seconds since the epoch when it was last asked for or written to."""

    folder: Path
    request: ShotRequest
    used: float
    size: int
    finished: bool


def list_jobs(root: Path) -> Iterator[StoredJob]:
    """Every job under a store's folder; what else lies there is passed over."""
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        try:
            request = read_request(folder / "request.json")
            files = [path.stat() for path in folder.rglob("*") if path.is_file()]
        except (OSError, msgspec.MsgspecError):
            continue
        yield StoredJob(
            folder,
            request,
            max(file.st_mtime for file in files),
            sum(file.st_size for file in files),
            (folder / "report.json").exists(),
        )


def select_removable(jobs: list[StoredJob], before: float) -> list[StoredJob]:
    """The jobs that were last used ``before`` that time and whose look no later job keeps."""
    looks = {job.request.look for job in jobs if job.used >= before}
    return [job for job in jobs if job.used < before and job.folder.name not in looks]


def command(args: argparse.Namespace) -> int:
    """List the jobs, or remove the old ones; 1 when that fails, 2 when the number of days makes no sense."""
    root = args.jobs or jobs_folder()
    if args.remove_unused is not None and not args.remove_unused >= 0:
        print("The number of days must be 0 or more.", file=sys.stderr)
        return 2
    jobs, now = sorted(list_jobs(root), key=lambda job: job.used), time.time()
    if args.remove_unused is None:
        for job in jobs:
            state = "finished" if job.finished else "unfinished"
            print(
                f"{job.folder.name}  {(now - job.used) / DAY:6.1f} days  {job.size / 1e6:8.1f} MB  "
                f"{len(job.request.frames):5} frames  {state:<10}  {job.request.text.prompt[:60]}"
            )
        print(f"{len(jobs)} jobs, {sum(job.size for job in jobs) / 1e6:.1f} MB in {root}")
        return 0
    remove_stale_incoming(root)
    old = [job for job in select_removable(jobs, now - args.remove_unused * DAY) if not is_in_use(root, job.folder.name)]
    if len(old) == len(jobs) > 0 and args.remove_unused > 0 and not args.yes:
        print(
            f"All {len(jobs)} jobs look unused for {args.remove_unused:g} days, the last one since "
            f"{(now - jobs[-1].used) / DAY:.0f}; if this machine's clock is right, say so with --yes.",
            file=sys.stderr,
        )
        return 2
    for job in old:
        try:
            remove_folder(root, job.folder)
        except OSError as error:
            print(f"{job.folder} could not be removed ({error.strerror}); check who owns it.", file=sys.stderr)
            return 1
    print(f"{len(old)} of {len(jobs)} jobs removed, {sum(job.size for job in old) / 1e6:.1f} MB")
    return 0


def remove_folder(root: Path, folder: Path) -> None:
    """Remove a job at once, so that nobody finds half of it: it is moved away first."""
    away = root / INCOMING / new_ticket()
    make_private_folder(away.parent)
    os.replace(folder, away)
    shutil.rmtree(away)


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register it."""
    parser = commands.add_parser(
        "jobs",
        help="list the stored jobs, or remove those that were not used for a while",
        examples=(
            ("latentman jobs", "what is stored, and how much of the disk it takes"),
            ("latentman jobs --remove-unused 30", "make room: what nobody asked for in thirty days"),
        ),
    )
    parser.add_argument(
        "--jobs", type=read_path, metavar="FOLDER", help="folder of the job store; default: jobs in the data folder"
    )
    parser.add_argument(
        "--remove-unused",
        type=float,
        metavar="DAYS",
        help="remove jobs not used for this many days; one whose look a younger job keeps stays",
    )
    parser.add_argument("--yes", action="store_true", help="remove them even if those are all the jobs that there are")
    parser.set_defaults(run=command)
