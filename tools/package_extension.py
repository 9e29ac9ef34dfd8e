"""``python -m tools.package_extension``: builds the extension zips and lets Blender's own tool validate them.

The zip carries the add-on, the backend's source, the starter models and the wheels that Blender lacks; no torch. A wheel goes in
only if its hash stands in ``locks/extension.txt``.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import bpy

from .locks import LOCKS, LockError, check_files, read_lock

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "extension"
LOCK = LOCKS / "extension.txt"
#: those of Blender 4.2 to 5.0, and of 5.1 on; distributions build Blender with the newest
PYTHONS = ("3.11", "3.13", "3.14")
PLATFORMS = {
    "linux-x64": ("manylinux_2_28_x86_64", "manylinux_2_26_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_11_0_arm64", "macosx_12_0_arm64", "macosx_13_0_arm64", "macosx_14_0_arm64", "macosx_10_15_universal2"),
    "macos-x64": ("macosx_10_9_x86_64", "macosx_10_12_x86_64", "macosx_11_0_x86_64", "macosx_10_15_universal2"),
}
#: since 5.0 there is no Blender for Macs with Intel's processors
PLATFORM_PYTHONS = {"macos-x64": ("3.11",)}
#: what goes into the zip
CONTENTS = (
    "__init__.py",
    "blender_manifest.toml",
    "blender_addon",
    "shared",
    "backend",
    "pyproject.toml",
    "setup.py",
    # so that the backend's packages can be installed as they are locked
    "locks/backend.txt",
    "locks/setup.json",
    "LICENSE",
    "README.md",
)


def download_wheels(folder: Path, platform: str, lock: Path = LOCK) -> list[Path]:
    """The locked wheels of one platform, for every Python; downloaded once for a lock.

    Raises ``CalledProcessError`` when the package index does not have them as they are locked, and ``LockError`` when a file in the
    folder has changed since.
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    done = folder / ".complete"
    if not done.exists() or done.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for python in PLATFORM_PYTHONS.get(platform, PYTHONS):
            tags = [f"--platform={tag}" for tag in PLATFORMS[platform]]
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                    "--only-binary=:all:",
                    "--require-hashes",
                    f"--python-version={python}",
                    "--implementation=cp",
                    *tags,
                    f"--dest={folder}",
                    f"--requirement={lock}",
                ],
                check=True,
            )
        done.write_text(digest)
    wheels = sorted(folder.glob("*.whl"))
    check_files(wheels, read_lock(lock))
    return wheels


def stage(folder: Path, wheels: dict[str, list[Path]]) -> None:
    """Lay out the extension's source tree with its wheels and their names in the manifest."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in CONTENTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy2(source, folder / name)
    (folder / "wheels").mkdir()
    names = sorted({wheel.name for found in wheels.values() for wheel in found})
    for found in wheels.values():
        for wheel in found:
            shutil.copy2(wheel, folder / "wheels" / wheel.name)
    manifest = (folder / "blender_manifest.toml").read_text()
    listed = "wheels = [\n" + "".join(f'  "./wheels/{name}",\n' for name in names) + "]"
    platforms = ", ".join(f'"{name}"' for name in wheels)
    manifest = manifest.replace("wheels = []", listed).replace('platforms = ["linux-x64"]', f"platforms = [{platforms}]")
    (folder / "blender_manifest.toml").write_text(manifest)


def run_blender_tool(*arguments: str) -> None:
    """Run Blender's own extension command, from the installed package."""
    scripts: str = bpy.utils.system_resource("SCRIPTS")  # type: ignore[attr-defined]  # the stubs lack it
    script = Path(scripts) / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
    subprocess.run([sys.executable, str(script), *arguments], check=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platforms", nargs="+", default=list(PLATFORMS), choices=list(PLATFORMS))
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the zips; older ones in it are removed")
    args = parser.parse_args()
    out = args.out.resolve()
    wheels = {}
    for platform in args.platforms:
        try:
            wheels[platform] = download_wheels(ROOT / "build" / "wheels" / platform, platform)
        except subprocess.CalledProcessError:
            print(f"{platform}: the package index lacks a wheel as it is locked; no zip is built for it", file=sys.stderr)
        except LockError as error:
            print(f"{platform}: {error}", file=sys.stderr)
            return 1
    if not wheels:
        return 1
    source = out / "source"
    stage(source, wheels)
    for old in out.glob("*.zip"):
        old.unlink()
    run_blender_tool("validate", str(source))
    run_blender_tool("build", "--source-dir", str(source), "--output-dir", str(out), "--split-platforms")
    for made in sorted(out.glob("*.zip")):
        run_blender_tool("validate", str(made))
        print(f"{made}: {made.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
