"""``python3.11 tools/setup_env.py DIR [PACKAGE ...]``: makes a virtual environment with the checkout installed for editing.

Without packages it is the one that everything runs in; otherwise it has the tests' dependencies and the given packages, such as
another version of Blender. Without a CUDA device the CPU build of torch is installed if the package index offers one, because the
other is larger by gigabytes. Needs only the standard library.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = "2.13.0"


def link_package() -> None:
    """``build/package/latentman`` is the checkout under its package's name, for programs that read imports from folders."""
    link = ROOT / "build" / "package" / "latentman"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(ROOT, target_is_directory=True)


def main() -> int:
    """Make or refresh the environment; the stamp file marks it as complete."""
    folder, packages = Path(sys.argv[1]).resolve(), sys.argv[2:]
    stamp = folder / ".ready"
    stamp.unlink(missing_ok=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary"]
    if not packages and not shutil.which("nvidia-smi"):
        print("installing torch for the CPU", flush=True)
        if subprocess.run([*pip, f"torch=={TORCH}+cpu"], stderr=subprocess.DEVNULL, check=False).returncode:
            subprocess.run([*pip, f"torch=={TORCH}"], check=False)
    print("installing requirements", flush=True)
    wanted = ["-e", ".[dev]", *packages] if packages else ["-r", "requirements.txt"]
    done = subprocess.run([*pip, *wanted], cwd=ROOT, check=False)
    if done.returncode == 0:
        link_package()
        stamp.touch()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
