"""``python3.11 tools/setup_env.py DIR LOCK``: makes a virtual environment with what ``locks/LOCK.txt`` names, nothing else and
nothing newer, and with the checkout installed for editing.

Every file that pip fetches is compared with the hashes of the lock. Where there is no CUDA device, the CPU build of torch is
installed if the package index offers the one of ``locks/torch_cpu.txt``, because the other is larger by gigabytes. Needs only the
standard library.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.locks import LOCKS, LockedPackage, read_lock  # noqa: E402

#: what torch needs on a machine with CUDA only, by the beginning of its name
CUDA_ONLY = ("nvidia-", "cuda-", "triton")


def link_package() -> None:
    """``build/package/latentman`` is the checkout under its package's name, for programs that read imports from folders."""
    link = ROOT / "build" / "package" / "latentman"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(ROOT, target_is_directory=True)


def leave_out_cuda(packages: list[LockedPackage]) -> list[LockedPackage]:
    """The packages without torch, which is installed already, and without what only its CUDA build needs."""
    return [package for package in packages if package.name != "torch" and not package.name.startswith(CUDA_ONLY)]


def main() -> int:
    """Make or refresh the environment; the stamp file marks it as complete."""
    folder, name = Path(sys.argv[1]).resolve(), sys.argv[2]
    stamp = folder / ".ready"
    stamp.unlink(missing_ok=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    packages = read_lock(LOCKS / f"{name}.txt")
    if any(package.name == "torch" for package in packages) and not shutil.which("nvidia-smi"):
        print("installing torch for the CPU", flush=True)
        command = [*pip, "--require-hashes", "-r", str(LOCKS / "torch_cpu.txt")]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            packages = leave_out_cuda(packages)
    print(f"installing what locks/{name}.txt names", flush=True)
    wanted = folder / "wanted.txt"
    wanted.write_text("\n".join(package.text for package in packages) + "\n", encoding="utf-8")
    done = subprocess.run([*pip, "--require-hashes", "-r", str(wanted)], cwd=ROOT, check=False)
    if done.returncode == 0:
        # the checkout has no hash; what builds it is among the locked packages
        done = subprocess.run([*pip, "--no-build-isolation", "-e", "."], cwd=ROOT, check=False)
    if done.returncode == 0:
        link_package()
        stamp.touch()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
