"""``python -m tools.window_test``: the extension in a real Blender window, with screenshots in ``build/window``.

``BLENDER=/path/to/blender`` uses that program on the current display; otherwise a Debian chroot with Blender and a
virtual display is set up under ``build`` (needs root and debootstrap). Exit code 0 when the whole way worked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT, CHROOT = ROOT / "build" / "window", ROOT / "build" / "blender-chroot"
PACKAGES = (
    "blender",
    "python3-numpy",
    "python3-requests",
    "python3-zstandard",
    "xvfb",
    "xauth",
    "libgl1-mesa-dri",
    "libegl1",
    "imagemagick",
)
DISPLAY, LIMIT_SECONDS = ":97", 900


def prepare_chroot() -> list[str]:
    """Make the chroot once; returns the command that runs something in it with the project mounted at its own path."""
    if not (CHROOT / "usr/bin/blender").exists():
        if os.geteuid() != 0 or not shutil.which("debootstrap"):
            raise SystemExit("Set BLENDER to a Blender program, or run as root with debootstrap installed.")
        subprocess.run(["debootstrap", "--variant=minbase", "trixie", str(CHROOT)], check=True)
        install = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends " + " ".join(
            PACKAGES
        )
        subprocess.run(["chroot", str(CHROOT), "sh", "-c", install], check=True)
    # the backend's Python stays outside; the window reaches it over loopback
    for source in (ROOT, Path("/proc"), Path("/dev")):
        target = CHROOT / source.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(target):
            subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    return ["chroot", str(CHROOT)]


def release_chroot() -> None:
    """Undo the mounts, innermost last."""
    for source in (ROOT, Path("/dev"), Path("/proc")):
        subprocess.run(["umount", "-l", str(CHROOT / source.relative_to("/"))], check=False, stderr=subprocess.DEVNULL)


def start_backend(configuration: Path) -> tuple[subprocess.Popen, str]:
    """A backend that the window connects to, since a chroot cannot start this environment's Python."""
    environment = os.environ | {"LATENTMAN_CONFIG": str(configuration), "LATENTMAN_DATA": str(OUT / "data")}
    process = subprocess.Popen(
        [sys.executable, "-m", "latentman.backend", "serve"], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


def main() -> int:
    """Command line."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    package = next((ROOT / "build" / "extension").glob("*linux*.zip"))
    program, prefix = os.environ.get("BLENDER"), []
    display = os.environ.get("DISPLAY") if program else None
    processes = []
    try:
        if not program:
            prefix, program = prepare_chroot(), "/usr/bin/blender"
        if not display:
            display = DISPLAY
            processes.append(subprocess.Popen([*prefix, "Xvfb", display, "-screen", "0", "1280x900x24"], stderr=subprocess.DEVNULL))
            time.sleep(3)
        configuration = OUT / "config"
        environment = os.environ | {
            "DISPLAY": display,
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "BLENDER_USER_RESOURCES": str(OUT / "user"),
            "LATENTMAN_CONFIG": str(configuration),
            "LATENTMAN_PYTHON": sys.executable,
            "HOME": str(OUT),
        }
        environment.pop("PYTHONPATH", None)
        if prefix:
            backend, line = start_backend(configuration)
            processes.append(backend)
            print(line.strip(), flush=True)
            environment["LATENTMAN_WINDOW_CONNECT"] = "1"
        blender = subprocess.Popen(
            [
                *prefix,
                program,
                "--factory-startup",
                "--enable-event-simulate",
                "--window-geometry",
                "0",
                "0",
                "1280",
                "900",
                "--python",
                str(ROOT / "tools" / "window_script.py"),
                "--",
                str(package),
                str(OUT),
            ],
            env=environment,
            stdout=(OUT / "blender.log").open("w"),
            stderr=subprocess.STDOUT,
        )
        processes.append(blender)
        watch(blender, prefix, display)
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        if prefix:
            release_chroot()
    outcome = (OUT / "outcome.txt").read_text() if (OUT / "outcome.txt").exists() else "the window ended early"
    print(outcome)
    return 0 if outcome == "passed" else 1


def watch(blender: subprocess.Popen, prefix: list[str], display: str) -> None:
    """Take a screenshot whenever the window asks for one."""
    end = time.monotonic() + LIMIT_SECONDS
    while blender.poll() is None and time.monotonic() < end:
        for request in OUT.glob("*.request"):
            picture = OUT / f"{request.stem}.png"
            subprocess.run(
                [*prefix, "import", "-display", display, "-window", "root", str(picture)],
                check=True,
                env=os.environ | {"HOME": str(OUT)},
            )
            request.rename(OUT / f"{request.stem}.done")
            print(picture, flush=True)
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
