"""``docs/reliability.md``, from the figures of a run."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from latentman.shared.version import VERSION

from .parts import PARTS
from .trial import Figures

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
HEAD = """# Reliability

What happens when something goes wrong in the middle of a job: `make torture` does it on purpose, again and again, and counts.
This page is written by it, from a real run; `make torture TORTURE="--minutes 90 --write"` writes it again. Without
arguments it takes a few minutes and writes nothing; `make test` contains a short form of the
kills, `make test-slow` one of every part.

The jobs are small, with a tiny random image model of Stable Diffusion's classes, over the real encrypted socket, between real
processes; four kinds of job go through joint denoising with its checkpoints, key frames, the paper's techniques and single frames.
*Changed* means that a single byte of a frame or texture is another than in an undisturbed run.
"""


def read_revision() -> str:
    """The commit that ran, with a mark when the checkout differs from it."""

    def ask(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = [line for line in ask("status", "--porcelain").splitlines() if not line.endswith(PAGE.name)]
    return (ask("rev-parse", "--short=12", "HEAD") or "unknown") + (" with changes" if changed else "")


def write_page(found: dict[str, tuple[Figures, float]], seed: int, revision: str) -> str:
    """The page's text: (figures, seconds) by the names of the parts."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    minutes = sum(seconds for _, seconds in found.values()) / 60
    lines = [
        HEAD,
        f"Version {VERSION}, revision `{revision}`, seed {seed}, {datetime.now(UTC):%Y-%m-%d}, {machine}; {minutes:.0f} minutes.",
        "",
        "| what is done | what came of it | faults |",
        "| --- | --- | --- |",
    ]
    for name, (figures, _) in found.items():
        counts = [f"{count:,} {what}" for what, count in figures.counts.items()]
        measures = [f"{what}: {value}" for what, value in figures.measures.items()]
        lines.append(f"| **{name}**: {PARTS[name].title} | {'; '.join(counts + measures)} | {len(figures.faults)} |")
    faults = [fault for figures, _ in found.values() for fault in figures.faults]
    lines += ["", "## Faults of this run", ""]
    lines += [f"- {fault.replace('|', '&#124;').replace('<', '&lt;')}" for fault in faults[:200]] or ["None."]
    if len(faults) > 200:
        lines.append(f"- and {len(faults) - 200} more")
    left_out = [name for name in PARTS if name not in found]
    if left_out:
        lines += ["", f"Not run: {', '.join(left_out)}."]
    return "\n".join(lines) + "\n"
