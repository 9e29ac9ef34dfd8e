"""``python -m tools.window_test [PART ...]``: the extension in a real Blender window, with screenshots in ``build/window``.

``BLENDER=/path/to/blender`` uses that program on the current display; otherwise a Debian chroot with Blender and a
virtual display is set up under ``build`` (needs root and debootstrap). Then the program's command line is tried
with the file that the window saved. The parts ``first-clip`` and ``set-up``, which begin with nothing but the zip, and ``quit`` are
run alone, and ``studio`` only when it is asked for.
``LATENTMAN_WINDOW_PATIENCE`` is how many seconds the window waits for something. Exit code 0 when everything worked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tools import window_commands
from tools.window_hub import serve_hub
from tools.window_names import BACKEND_FILE, FROM_ZIP, STUDIO, STUDIO_VARIABLE
from tools.window_wheels import fetch_wheels, serve_wheels

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "window"
#: the packages that *Set Up* installs
WHEELS = ROOT / "build" / "wheels" / "set-up"
#: Debian's releases, and what Blender needs there beside itself
SUITES = {"trixie": (), "sid": ("python3-cattr",)}
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
#: a number of its own, as several may be open on one machine
DISPLAY, LIMIT_SECONDS = f":{100 + os.getpid() % 400}", 3000
#: within which a backend ends when its Blender has
BACKEND_SECONDS = 30


def get_chroot_folder(suite: str) -> Path:
    """The folder of a Debian release's chroot."""
    return ROOT / "build" / ("blender-chroot" if suite == "trixie" else f"blender-chroot-{suite}")


def list_mounts() -> list[Path]:
    """What is mounted into the chroot at the same paths: the project, and the Python that runs the backend."""
    found = [ROOT, Path("/proc"), Path("/dev")]
    for prefix in (sys.prefix, sys.base_prefix):
        # a virtual environment may be reached through links
        folder = Path(prefix).resolve()
        if not any(folder.is_relative_to(other) for other in (ROOT, Path("/usr"))):
            found.append(folder)
    return list(dict.fromkeys(found))


def prepare_chroot(suite: str) -> list[str]:
    """Make the chroot once; returns the command that runs something in it with the project mounted at its own path."""
    chroot = get_chroot_folder(suite)
    if not (chroot / "usr/bin/blender").exists():
        if os.geteuid() != 0 or not shutil.which("debootstrap"):
            raise SystemExit("Set BLENDER to a Blender program, or run as root with debootstrap installed.")
        subprocess.run(["debootstrap", "--variant=minbase", suite, str(chroot)], check=True)
        packages = " ".join(PACKAGES + SUITES[suite])
        install = (
            # a mirror's snapshot may have expired lists
            "apt-get -o Acquire::Check-Valid-Until=false update -q && "
            f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends {packages}"
        )
        subprocess.run(["chroot", str(chroot), "sh", "-c", install], check=True)
    for source in list_mounts():
        target = chroot / source.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(target):
            subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    return ["chroot", str(chroot)]


def release_chroot(suite: str) -> None:
    """Undo the mounts, innermost last."""
    for source in reversed(list_mounts()):
        target = get_chroot_folder(suite) / source.relative_to("/")
        subprocess.run(["umount", "-l", str(target)], check=False, stderr=subprocess.DEVNULL)


def make_opener(folder: Path, shown: Path) -> None:
    """An ``xdg-open`` that writes down what it is asked to show."""
    folder.mkdir()
    opener = folder / "xdg-open"
    opener.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" > "{shown}"\n')
    opener.chmod(0o755)


def make_environment(display: str, parts: list[str]) -> dict[str, str]:
    """The environment of a separate user: nothing outside ``OUT`` is read or written."""
    make_opener(OUT / "bin", OUT / "shown.txt")
    environment = os.environ | {
        "DISPLAY": display,
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "BLENDER_USER_RESOURCES": str(OUT / "user"),
        "LATENTMAN_CONFIG": str(OUT / "config"),
        "LATENTMAN_DATA": str(OUT / "data"),
        "LATENTMAN_PYTHON": sys.executable,
        "LATENTMAN_WINDOW_PARTS": " ".join(parts),
        "HOME": str(OUT),
        "PATH": f"{OUT / 'bin'}:{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    return environment


def open_window(command: list[str], package: Path, environment: dict[str, str]) -> subprocess.Popen:
    """Start Blender with ``window_script`` in it."""
    begin = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tools import window_script; window_script.main()"
    return subprocess.Popen(
        [
            *command,
            "--factory-startup",
            "--enable-event-simulate",
            *("--window-geometry", "0", "0", "1280", "900"),
            *("--python-exit-code", "1", "--python-expr", begin),
            *("--", str(package), str(OUT)),
        ],
        env=environment,
        stdout=(OUT / "blender.log").open("w"),
        stderr=subprocess.STDOUT,
    )


def take_screenshots(blender: subprocess.Popen, prefix: list[str], display: str) -> None:
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


def wait_for_backend() -> None:
    """Where a part has quit Blender while its backend worked, wait for the backend's end. Raises ``SystemExit`` if it goes on."""
    if not (OUT / BACKEND_FILE).exists():
        return
    state = Path("/proc") / (OUT / BACKEND_FILE).read_text() / "stat"
    end = time.monotonic() + BACKEND_SECONDS
    # one that has ended may wait for somebody to take notice of it
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        if time.monotonic() > end:
            raise SystemExit(f"The backend goes on after Blender has ended: {state.parent}")
        time.sleep(0.5)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="parts of tools/window_script.py; all when left out")
    parser.add_argument("--suite", choices=SUITES, default="trixie", help="the Debian release of the chroot")
    parser.add_argument("--package", type=Path, help="the extension's zip; the one of `make extension` when left out")
    args = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    package = args.package.resolve() if args.package else next((ROOT / "build" / "extension").glob("*linux*.zip"))
    program, prefix = os.environ.get("BLENDER"), []
    display = os.environ.get("DISPLAY") if program else None
    processes = []
    stack = ExitStack()
    try:
        if not program:
            prefix, program = prepare_chroot(args.suite), "/usr/bin/blender"
        if not display:
            display = DISPLAY
            processes.append(subprocess.Popen([*prefix, "Xvfb", display, "-screen", "0", "1280x900x24"], stderr=subprocess.DEVNULL))
            time.sleep(3)
        environment = make_environment(display, args.parts)
        environment |= stack.enter_context(serve_hub(OUT / "hub"))
        if set(args.parts) & set(FROM_ZIP):
            fetch_wheels(WHEELS)
            environment["LATENTMAN_WINDOW_WHEELS"] = str(WHEELS)
            environment |= stack.enter_context(serve_wheels(WHEELS))
            # nothing but what the set-up finds by itself
            environment.pop("LATENTMAN_PYTHON")
            environment["PATH"] += f":{Path(sys.base_prefix) / 'bin'}"
        if STUDIO in args.parts:
            # what makes it takes some seconds to come
            from tools.window_studio import write_studio

            write_studio(OUT / "studio")
            environment[STUDIO_VARIABLE] = str(OUT / "studio")
        blender = open_window([*prefix, program], package, environment)
        processes.append(blender)
        take_screenshots(blender, prefix, display)
        wait_for_backend()
        outcome = (OUT / "outcome.txt").read_text() if (OUT / "outcome.txt").exists() else "the window ended early"
        if outcome == "passed" and (OUT / "shot.blend").exists():
            outcome = window_commands.run([*prefix, program], package, OUT, environment)
    finally:
        stack.close()
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        if prefix:
            release_chroot(args.suite)
    print(outcome)
    return 0 if outcome == "passed" else 1


if __name__ == "__main__":
    sys.exit(main())
