"""Generate the shots of a folder of .blend files, one after the other.

Change the settings below and press Run Script: Blender stays usable meanwhile, and the text "LatentMan Batch" tells what happened.
Without a window it is the same: blender -b --python generate_many_files.py

Each file is opened by a Blender of its own, which runs "generate" of LatentMan's command line; the files stay as they are.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bpy

#: the .blend files, and the folder that gets a folder of frames for each; // is beside the open file
FILES = "//shots"
OUT = "//frames"
#: what is said to every shot: all that "latentman generate --help" lists
ARGUMENTS = ["--prompt", "a knight in a forest", "--preset", "surface"]
#: what some shots are told besides, by the name of their file without .blend
MORE = {
    "shot_010": ["--frames", "1-24"],
}
#: the text that tells what happened
REPORT = "LatentMan Batch"


def make_command(file: Path) -> list[str]:
    """The command line for a file."""
    words = ["generate", *ARGUMENTS, *MORE.get(file.stem, []), "--out", str(Path(bpy.path.abspath(OUT)) / file.stem), "--json"]
    if bpy.app.binary_path:
        return [bpy.app.binary_path, "-b", str(file), "--command", "latentman", *words]
    # where Blender is a Python package
    return [sys.executable, "-m", "latentman.blender_addon", str(file), *words]


def tell(line: str) -> None:
    """Write a line where people see it."""
    text = bpy.data.texts.get(REPORT) or bpy.data.texts.new(REPORT)
    text.write(line + "\n")
    print(line)


def read_end(path: Path) -> tuple[str, str]:
    """How a command ended, as its last JSON line says."""
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    last = events[-1] if events else {}
    return last.get("event", "failed"), last.get("message", "it said nothing; run it in a terminal")


class Batch:
    """Runs the command for one file after the other."""

    def __init__(self, files: list[Path]) -> None:
        self.waiting = list(files)
        self.ends: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.file = self.output = Path()
        self.began = 0.0

    def step(self) -> float | None:
        """Look after the process that runs; returns the seconds until the next look, None at the end."""
        if self.process is not None:
            if self.process.poll() is None:
                return 0.5
            event, message = read_end(self.output)
            os.unlink(self.output)
            self.ends[self.file.name] = event
            tell(f"{self.file.name}: {event} after {time.time() - self.began:.0f} s; {message}")
            self.process = None
        if not self.waiting:
            done = sum(event == "done" for event in self.ends.values())
            tell(f"{done} of {len(self.ends)} files are done")
            return None
        self.file, self.began = self.waiting.pop(0), time.time()
        handle, name = tempfile.mkstemp(suffix=".jsonl")
        self.output = Path(name)
        with os.fdopen(handle, "wb") as stream:
            self.process = subprocess.Popen(make_command(self.file), stdout=stream, stderr=subprocess.DEVNULL)
        return 0.5


def main() -> Batch | None:
    """Begin with the first file."""
    folder = Path(bpy.path.abspath(FILES))
    files = sorted(folder.glob("*.blend"))
    if not files:
        tell(f"There are no .blend files in {folder}; change FILES.")
        return None
    batch = Batch(files)
    if not bpy.app.background:
        bpy.app.timers.register(batch.step)
        return batch
    while (seconds := batch.step()) is not None:
        time.sleep(seconds)
    return batch


if __name__ == "__main__":
    main()
