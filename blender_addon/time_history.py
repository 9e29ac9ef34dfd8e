"""How long this user's shots have taken, in a small file of the data folder. Nothing here uses bpy."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..shared import logs
from ..shared.files import make_private_folder, read_file, write_atomically
from ..shared.folders import data_folder
from .time_estimate import Run

logger = logs.get_logger(__name__)

#: runs that are kept, of one kind and of all; the oldest go
MOST_OF_A_KIND, MOST = 4, 200
#: bytes of the file; a larger one is none of ours
MAX_BYTES = 1 << 20


class _Times(msgspec.Struct):
    runs: list[Run] = []


def get_history_path() -> Path:
    """Where the times are kept."""
    return data_folder() / "times.json"


def read_runs(path: Path) -> list[Run]:
    """The runs in a file, the newest last; none where there is no file or where it is damaged."""
    try:
        return msgspec.json.decode(read_file(path, MAX_BYTES), type=_Times).runs
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        logger.warning("%s cannot be read; times are collected anew", path)
        return []


def join_run(runs: list[Run], new: Run) -> list[Run]:
    """The runs with a new one, without the oldest of those that are too many."""

    def kind(run: Run) -> tuple[object, ...]:
        return (run.device, run.model, run.preset, run.width, run.height, run.steps)

    same = [run for run in runs if kind(run) == kind(new)]
    dropped = same[: max(0, len(same) + 1 - MOST_OF_A_KIND)]
    return [*(run for run in runs if run not in dropped), new][-MOST:]


class TimeHistory:
    """The runs of one file, read once."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._runs: list[Run] = []

    def list_runs(self) -> list[Run]:
        """All runs, the newest last."""
        path = get_history_path()
        if path != self._path:
            self._path, self._runs = path, read_runs(path)
        return self._runs

    def add(self, run: Run) -> None:
        """Keep a run; where it cannot be written it counts in this session only."""
        path = get_history_path()
        # another Blender may have written meanwhile
        self._path, self._runs = path, join_run(read_runs(path) or self.list_runs(), run)
        try:
            make_private_folder(path.parent)
            write_atomically(path, msgspec.json.encode(_Times(self._runs)), private=True)
        except OSError:
            logger.exception("the time of a shot cannot be kept")


history = TimeHistory()
