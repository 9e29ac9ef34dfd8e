"""``python3.11 tools/setup_env.py DIR [REQUIREMENTS]``: makes a virtual environment, by default the one that everything runs in.

Without a CUDA device the CPU build of torch is installed where the package index offers one, since the other is larger by
gigabytes. Needs nothing but the standard library.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = "2.13.0"


def main() -> int:
    """Make or refresh the environment; the stamp file marks it as complete."""
    folder = Path(sys.argv[1]).resolve()
    requirements = sys.argv[2] if len(sys.argv) > 2 else "requirements-dev.txt"
    stamp = folder / ".ready"
    stamp.unlink(missing_ok=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary"]
    if requirements == "requirements-dev.txt" and sys.version_info < (3, 13) and not shutil.which("nvidia-smi"):
        print("installing torch for the CPU", flush=True)
        subprocess.run([*pip, f"torch=={TORCH}+cpu"], stderr=subprocess.DEVNULL, check=False)
    print("installing requirements", flush=True)
    done = subprocess.run([*pip, "-r", str(ROOT / requirements)], check=False)
    if done.returncode == 0:
        stamp.touch()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
