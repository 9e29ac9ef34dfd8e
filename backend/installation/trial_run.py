"""Trying an environment out: one tiny frame, made on its device."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .failures import InstallationError, Remedy
from .processes import Children, make_environment, read_last

LAUNCHER = Path(__file__).resolve().parents[1] / "launch.py"
#: what an environment is tried on, by its build of torch
_DEVICES = {"cuda": "cuda", "cuda-older": "cuda", "rocm": "cuda", "xpu": "xpu", "metal": "mps", "cpu": "cpu"}
TRY_SECONDS = 600.0


def try_out(python: Path, build: str, children: Children) -> None:
    """Let an environment make one tiny frame on its device. Raises ``InstallationError``."""
    command = [str(python), str(LAUNCHER), "doctor", "--json", "--try", _DEVICES[build]]
    try:
        code, text = children.ask(command, make_environment(PYTHONNOUSERSITE="1"), TRY_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise explain_check(f"The test frame was not ready within {TRY_SECONDS / 60:.0f} minutes", build) from error
    found = read_last(text, dict)
    if code == 0 and found and found.get("frame"):
        return
    problems = found.get("problems") if found else None
    if problems:
        # what the backend advises then is for those who have installed it by hand
        raise explain_check(f"No test frame could be made ({str(problems[0]).partition(';')[0].rstrip('.')})", build)
    if code == -9:
        raise InstallationError(
            "check",
            "The system ended the making of a test frame, perhaps for want of memory; close other programs, and try again.",
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = (lines[-1] if lines else "nothing was said").rstrip(".")
    raise explain_check(f"No test frame could be made ({last}; it ended with code {code})", build)


def explain_check(what: str, build: str) -> InstallationError:
    """The sentence for an environment that makes no frame."""
    if build in ("cpu", "metal"):
        advice = "try again, and if that does not help, copy the diagnostics and report it"
        return InstallationError("check", f"{what}; {advice}.", Remedy.REPORT)
    return InstallationError("check", f"{what}; install the newest driver of your card, or choose another device.", Remedy.DEVICE)
