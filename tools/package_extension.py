"""``python -m tools.package_extension``: builds the extension zips and lets Blender's own tool validate them.

The zip carries the add-on, the backend's source, the starter models and the wheels that Blender lacks; no torch. A wheel goes in
only if its hash stands in ``locks/extension.txt``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import bpy

from .locks import LOCKS, LockError, check_files, read_lock
from .release.archives import find_date, rewrite_archive
from .release.checks import read_manifest_version
from .release.wheel_tags import check_wheels

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


def stage(folder: Path, platform: str, wheels: list[Path], website: str = "") -> None:
    """Lay out the extension's source tree for one platform, with its wheels and their names in the manifest, and the address of a
    ``website`` where there is one. Raises ``LockError`` for what is no address."""
    if website and not re.fullmatch(r"https://[^\s\"\\]+", website):
        raise LockError(f"{website} is no address of a website; write it out, beginning with https://.")
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
    for wheel in wheels:
        shutil.copy2(wheel, folder / "wheels" / wheel.name)
    path = folder / "blender_manifest.toml"
    listed = "wheels = [\n" + "".join(f'  "./wheels/{wheel.name}",\n' for wheel in wheels) + "]"
    manifest, found = re.subn(r"(?m)^platforms = \[.*\]$", f'platforms = ["{platform}"]', path.read_text(encoding="utf-8"))
    assert found == 1 and manifest.count("\nwheels = []\n") == 1, "the manifest has another form"
    manifest = manifest.replace("wheels = []", listed)
    path.write_text(
        re.sub(r"(?m)^(maintainer = )", f'website = "{website}"\n\\1', manifest) if website else manifest, encoding="utf-8"
    )


def run_blender_tool(*arguments: str) -> None:
    """Run Blender's own extension command, from the installed package."""
    scripts: str = bpy.utils.system_resource("SCRIPTS")  # type: ignore[attr-defined]  # the stubs lack it
    script = Path(scripts) / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
    subprocess.run([sys.executable, str(script), *arguments], check=True)


def build(platforms: Sequence[str], out: Path, website: str = "") -> list[Path]:
    """The zips of some platforms, in the folder ``out``; the same commit gives the same bytes.

    Raises ``LockError`` for a wheel that has changed or that no Blender would take, and ``CalledProcessError`` where a wheel cannot
    be had or Blender's tool refuses a zip.
    """
    date = find_date(ROOT)
    version = read_manifest_version(ROOT)
    made = []
    for platform in platforms:
        wheels = download_wheels(ROOT / "build" / "wheels" / platform, platform)
        pythons = PLATFORM_PYTHONS.get(platform, PYTHONS)
        problems = check_wheels([wheel.name for wheel in wheels], platform, pythons, [one.name for one in read_lock(LOCK)])
        if problems:
            raise LockError(" ".join(problems))
        source = out / "source"
        stage(source, platform, wheels, website)
        path = out / f"latentman-{version}-{platform.replace('-', '_')}.zip"
        run_blender_tool("validate", str(source))
        run_blender_tool("build", "--source-dir", str(source), "--output-filepath", str(path))
        rewrite_archive(path, date)
        run_blender_tool("validate", str(path))
        made.append(path)
        shutil.rmtree(source)
    return made


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platforms", nargs="+", default=list(PLATFORMS), choices=list(PLATFORMS))
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the zips; older ones in it are removed")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.zip"):
        old.unlink()
    made = []
    for platform in args.platforms:
        try:
            made += build([platform], out)
        except subprocess.CalledProcessError as error:
            if "pip" not in error.cmd:
                return 1
            print(f"{platform}: the package index lacks a wheel as it is locked; no zip is built for it", file=sys.stderr)
        except LockError as error:
            print(f"{platform}: {error}", file=sys.stderr)
            return 1
    for path in made:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0 if made else 1


if __name__ == "__main__":
    sys.exit(main())
