"""The checkout as somebody else gets it, and the interpreters beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: what is not part of the product, whatever its name
LEFT_OUT = ("build", ".git", ".*_cache", "__pycache__", "*.pyc", "*.egg-info")


def copy_checkout(target: Path, *names: str) -> Path:
    """Copy the checkout, or only these of its files and folders, without anything that was built in it."""
    ignore = shutil.ignore_patterns(*LEFT_OUT)
    if not names:
        return Path(shutil.copytree(ROOT, target, ignore=ignore))
    target.mkdir(parents=True)
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
        else:
            shutil.copy2(ROOT / name, target / name)
    return target


def clean_environment(home: Path) -> dict[str, str]:
    """The environment's variables, without those that change where Python looks, and with the user's folders in ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {f"LATENTMAN_{name}": str(home / name.lower()) for name in ("CONFIG", "DATA", "LOGS")}


def old_pythons() -> list[str]:
    """Interpreters on this machine that are too old for the project."""
    found = [shutil.which(f"python3.{minor}") for minor in range(6, 11)]
    found += map(str, (Path.home() / ".pyenv" / "versions").glob("3.[6-9].*/bin/python"))
    found += map(str, (Path.home() / ".pyenv" / "versions").glob("3.10.*/bin/python"))
    return sorted({path for path in found if path and "shims" not in path})
