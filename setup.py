"""The repository's root is the package ``latentman``; everything else about it stands in ``pyproject.toml``."""

import tomllib
from pathlib import Path

from setuptools import find_packages, setup

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
