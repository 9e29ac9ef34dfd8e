"""Runs the parts one after the other, each bounded, and writes what there is after each row: a part that raises, crashes or hangs
is kept with its reason and the rows that it had, and the next one is tried."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentman.shared.files import write_atomically
from latentman.shared.version import VERSION

from .parts import Part, share_time
from .recording import encode, read_rows

RESULTS, LOG, PICTURES = "results.json", "log.txt", "pictures"
#: seconds after its time in which a part may still end by itself, and between two looks at it
GRACE, LOOK = 8.0, 0.1
#: characters of a reason
MOST_REASON = 400


@dataclass
class Run:
    """The results as they grow: ``parts`` by their names."""

    device: str
    scale: str
    minutes: float
    command: str
    facts: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    started: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        return {
            "made_by": f"LatentMan {VERSION}",
            "command": self.command,
            "device": self.device,
            "scale": self.scale,
            "minutes": self.minutes,
            "date": time.strftime("%Y-%m-%d", time.gmtime(self.started)),
            "python": platform.python_version(),
            "facts": self.facts,
            "parts": self.parts,
        }


def run_parts(
    parts: Sequence[Part],
    run: Run,
    out: Path,
    shots: Path | None = None,
    drawn: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    grace: float = GRACE,
) -> bool:
    """Run all parts within the run's minutes and write ``out/results.json``; whether all of them were done."""
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * run.minutes
    with tempfile.TemporaryDirectory(prefix="latentman-cuda-check-") as temporary, (out / LOG).open("wb", buffering=0) as log:
        for position, part in enumerate(parts):
            seconds = share_time(parts, position, max(0.0, end - time.monotonic() - grace))
            say(f"{part.title} ({seconds:.0f} s)")
            log.write(f"== {part.name}\n".encode())
            command = [
                *(sys.executable, "-m", "tools.cuda_check.child", part.target, "--device", run.device, "--scale", run.scale),
                *(
                    "--seconds",
                    str(seconds),
                    "--rows",
                    str(Path(temporary) / f"{part.name}.json"),
                    "--pictures",
                    str(out / PICTURES),
                ),
                *(["--shots", str(shots)] if shots is not None else []),
                *(["--drawn", str(drawn)] if drawn is not None else []),
            ]
            _run_part(part, run, command, Path(temporary) / f"{part.name}.json", out, log, seconds, grace)
            say(f"  {run.parts[part.name]['state']}{_colon(run.parts[part.name]['reason'])}")
    return all(found["state"] == "done" for found in run.parts.values())


def _run_part(part: Part, run: Run, command: list[str], rows: Path, out: Path, log: Any, seconds: float, grace: float) -> None:
    began = time.monotonic()
    start = log.tell()
    found: dict[str, Any] = {"title": part.title, "state": "running", "reason": "", "limit_seconds": round(seconds, 1), "rows": []}
    run.parts[part.name] = found
    seen = 0.0

    def write() -> None:
        facts, found["rows"] = read_rows(rows)
        run.facts |= facts
        found["seconds"] = round(time.monotonic() - began, 1)
        write_atomically(out / RESULTS, encode(run.to_json()))

    write()
    # a group of its own, so that what it started ends with it
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=_environment(run)
    )
    try:
        while child.poll() is None:
            if time.monotonic() - began > seconds + grace:
                found["state"], found["reason"] = "stopped", f"it had not ended after {seconds:.0f} seconds"
                break
            changed = rows.stat().st_mtime if rows.exists() else 0.0
            if changed != seen:
                seen = changed
                write()
            time.sleep(LOOK)
    finally:
        _end(child)
    if found["state"] == "running":
        found["state"] = "failed" if child.returncode else "done"
        found["reason"] = _explain_end(child.returncode, out / LOG, start) if child.returncode else ""
    write()


def _environment(run: Run) -> dict[str, str]:
    """A part's. On a processor that others use as well several threads wait for each other most of the time."""
    return dict(os.environ) | ({"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")} if run.device == "cpu" else {})


def _end(child: subprocess.Popen) -> None:
    """End a part and all that it has started."""
    if os.name == "posix":
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    else:
        child.kill()
    child.wait()


def _explain_end(code: int, log: Path, start: int) -> str:
    """Why a part ended with a code that is not 0: its last line, or the signal."""
    if code < 0:
        try:
            return f"it was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"it was ended by signal {-code}"
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:MOST_REASON] if lines else f"it ended with code {code}"


def _colon(reason: str) -> str:
    return f": {reason}" if reason else ""


def read_results(path: Path) -> dict[str, Any]:
    """The results of a run. Raises ``ValueError`` for a file that is none."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not {"parts", "device", "scale", "facts"} <= found.keys():
        raise ValueError(f"{path} does not hold the results of tools.cuda_check.")
    return found
