"""Tries the command line of a real Blender program: installs the extension from its zip, then runs each command with a file.

Part of ``tools.window_test``; what each command printed is in ``build/window/commands.txt``.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

LIMIT_SECONDS = 900


def run(blender: list[str], package: Path, out: Path, environment: dict[str, str]) -> str:
    """``passed``, or what went wrong. ``blender``: the command that starts the program; ``out`` holds ``shot.blend``."""
    environment = environment | {"BLENDER_USER_RESOURCES": str(out / "user-commands")}
    record = out / "commands.txt"
    record.write_text("")

    def call(*arguments: str) -> tuple[int, list[dict]]:
        """Exit code and the lines that are JSON."""
        done = subprocess.run(
            [*blender, *arguments], env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
        with record.open("a") as file:
            file.write(f"$ blender {' '.join(arguments)}\n{done.stdout}{done.stderr}exit code {done.returncode}\n\n")
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def command(*arguments: str) -> tuple[int, list[dict]]:
        return call("-b", str(out / "shot.blend"), "--command", "latentman", *arguments)

    code, _ = call("--command", "extension", "install-file", "--repo", "user_default", "--enable", str(package))
    if code:
        return f"extension install-file: exit code {code}, see {record}"
    small = ("--size", "128x128", "--json")
    for arguments, files, wanted in (
        (("passes", "--frames", "1-2", "--out", str(out / "passes"), *small), out / "passes", 0),
        (
            ("generate", "--prompt", "a knight", "--steps", "4", "--frames", "1-3", "--out", str(out / "frames"), *small),
            out / "frames" / "0003.png",
            0,
        ),
        (("motion", "a person bows", "--out", str(out / "bow.npz"), "--json"), out / "bow.npz", 0),
        (
            ("motion", "a person bows", "--save", str(out / "bow.blend"), "--json"),
            out / "bow.blend",
            0,
        ),
        (("generate", "--prompt", "a knight", "--character", "nobody", "--out", str(out / "none"), *small), out, 2),
    ):
        code, lines = command(*arguments)
        if code != wanted or not files.exists():
            return f"{arguments[0]}: exit code {code}, not {wanted}, or no {files}; see {record}"
        if not lines or lines[-1].get("event") != ("failed" if wanted else "done"):
            return f"{arguments[0]}: the last of {len(lines)} JSON lines does not tell the end; see {record}"
    return "passed"
