"""Reads files in a process of its own and says of each what came of it: ``python -m tests.reading READER FOLDER``.

A reader that a file can drive dies with a signal, eats the memory or never comes back; the one who asked lives on and sees it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: bytes of address space, beyond which nothing can be had
LIMIT = 12 << 30
#: seconds after which a reader hangs, with all that other programs do beside it
HANG = 60


@dataclass(frozen=True)
class Outcome:
    """What came of a file: ``kind`` is "value", "sentence", or the name of an error that nobody expects; ``megabytes`` is the most
    memory that reading took."""

    name: str
    kind: str
    text: str
    megabytes: float
    seconds: float


def read_all(reader: str, folder: Path, timeout: float = 300) -> list[Outcome]:
    """The outcomes of every entry of a folder in the order of their names; the one on which the reader died is the last."""
    command = [sys.executable, "-m", "tests.reading", reader, str(folder)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
        code, output, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        code, output, errors = None, (error.stdout or b"").decode(), "it hangs"
    lines = [line for line in output.splitlines() if line.startswith('{"name"')]
    outcomes = [Outcome(**found) for found in map(json.loads, lines) if "kind" in found]
    if code != 0:
        begun = [found["name"] for found in map(json.loads, lines) if "kind" not in found]
        outcomes.append(Outcome(begun[-1] if begun else "", f"died ({code})", errors[-2000:], 0.0, 0.0))
    return outcomes


def check(outcome: Outcome, size: int, factor: float = 8) -> None:
    """A file gives a value or one sentence, in little more memory than it has bytes."""
    assert outcome.kind in ("value", "sentence"), outcome
    if outcome.kind == "sentence":
        assert outcome.text.endswith(".") and "\n" not in outcome.text and len(outcome.text) < 1000, outcome
    assert outcome.megabytes <= 200 + factor * size / 1e6, outcome
    assert outcome.seconds < HANG, outcome


def check_all(reader: str, folder: Path, sizes: dict[str, int], factor: float = 8) -> list[Outcome]:
    """The outcomes of every entry of a folder (name -> its bytes), each of which is as ``check`` wants it."""
    outcomes = read_all(reader, folder)
    for outcome in outcomes:
        check(outcome, sizes[outcome.name], factor)
    assert len(outcomes) == len(sizes)
    return outcomes


def _find_reader(name: str) -> tuple[Callable[[Path], Any], type[Exception] | tuple[type[Exception], ...]]:
    if name == "motion":
        from latentman.blender_addon.motion import readers
        from latentman.shared.motion import MotionError

        def read_motion(path: Path) -> None:
            file = readers.read(path)
            for clip in range(min(len(file.clips), 3)):
                file.get_motion(clip)

        return read_motion, MotionError
    if name == "body":
        from latentman.blender_addon.character.body_model import BodyModelError, load

        return load, BodyModelError
    if name == "bvh":
        from latentman.blender_addon.motion import bvh
        from latentman.shared.motion import MotionError

        return bvh.read_body, MotionError
    if name == "scene":
        from latentman.blender_addon.motion.scene_file_headers import read_scene_file_header
        from latentman.shared.motion import MotionError

        return read_scene_file_header, MotionError
    if name == "bones":
        from latentman.blender_addon.character import mapping

        return lambda path: mapping.parse(path.read_text(errors="replace")), mapping.MappingError
    if name == "keys":
        from latentman.shared import curve_keys

        return lambda path: curve_keys.load_or_create(lambda: (b"a" * 40, b"a" * 40), path), curve_keys.KeysError
    if name == "passes":
        from latentman.shared import passes_folder
        from latentman.shared.shot import ShotError

        return passes_folder.load, ShotError
    if name == "look":
        from latentman.backend.video.look import Look
        from latentman.shared.shot import ShotError

        return lambda path: Look.decode(path.read_bytes()), ShotError
    if name == "checkpoint":
        from latentman.backend.motion.checkpoints import load_checkpoint
        from latentman.shared.motion import MotionError

        return load_checkpoint, MotionError
    if name == "model":
        from latentman.backend.models.recognition import inspect_model_file
        from latentman.shared.shot import ShotError

        return inspect_model_file, ShotError
    if name == "reference":
        from latentman.backend.reference_pictures import decode_reference
        from latentman.shared.shot import ShotError

        return lambda path: decode_reference(path.read_bytes()), ShotError
    if name == "clip":
        from latentman.backend.metrics.clips import open_clip
        from latentman.shared.shot import ShotError

        return lambda path: list(open_clip([path], (1,), (40, 40))), ShotError
    if name == "settings":
        from latentman.backend.models.settings_files import read_settings_file
        from latentman.shared.shot import ShotError

        return read_settings_file, ShotError
    if name == "text":
        import torch

        from latentman.backend.motion.text import TextEncoder
        from latentman.shared.motion import MotionError

        return lambda path: TextEncoder("clip", str(path), torch.device("cpu")), MotionError
    raise ValueError(name)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _measure(read: Callable[[Path], Any], expected: Any, path: Path, measured: bool) -> dict[str, Any]:
    if measured:
        _reset_peak()
    before, start, text = _peak() if measured else 0.0, time.perf_counter(), ""
    try:
        read(path)
        kind = "value"
    except expected as error:
        kind, text = "sentence", str(error)
    except BaseException as error:
        kind, text = type(error).__name__, str(error)[:500]
    peak = _peak() if measured else 0.0
    return {"kind": kind, "text": text, "megabytes": peak - before, "seconds": time.perf_counter() - start}


def main() -> None:
    """Read them."""
    sys.path.insert(0, str(ROOT / "build" / "package"))
    reader, folder = sys.argv[1], Path(sys.argv[2])
    read, expected = _find_reader(reader)
    measured = sys.platform == "linux"
    if measured:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    for path in sorted(folder.iterdir()):
        # Blender prints things of its own in between
        print("\n" + json.dumps({"name": path.name}), flush=True)
        print("\n" + json.dumps({"name": path.name, **_measure(read, expected, path, measured)}), flush=True)


if __name__ == "__main__":
    main()
