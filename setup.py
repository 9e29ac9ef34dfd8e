"""The repository's root is the package ``latentman``; everything else about it stands in ``pyproject.toml``."""

import sys
from pathlib import Path

from setuptools import find_packages, setup

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit(f"LatentMan needs Python 3.11 to 3.14; this is {sys.version.split()[0]}. Install it with another Python.")

ROOT = Path(__file__).resolve().parent

setup(
    # named, so that this file, which lies in the package's folder, stays out of what is installed
    script_name="setup.py",
    # the manifest, which Blender reads as it is, is the one place for the version
    version=tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))["version"],
    package_dir={"latentman": "."},
    packages=[
        "latentman",
        *(
            f"latentman.{name}"
            for name in find_packages(
                str(ROOT), include=("backend", "backend.*", "blender_addon", "blender_addon.*", "shared", "shared.*")
            )
        ),
    ],
)
