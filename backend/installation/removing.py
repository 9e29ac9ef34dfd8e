"""Taking away everything that *Set Up* has made, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ...shared.backend_environment import (
    CURRENT,
    DOWNLOADS,
    ENVIRONMENTS,
    LOCK,
    has_traces,
    list_environments,
    list_made,
)
from .changing import drop_lock, explain_nothing, hold_for, refuse_used
from .folders import delete_tree, measure_folder, remove_folder
from .running import Tools


def remove(root: Path, tools: Tools) -> int:
    """Delete everything that *Set Up* has made; returns the bytes. Models are elsewhere and stay, and so does what others have put
    there. Raises ``InstallationError``."""
    if not has_traces(root):
        raise explain_nothing("remove")
    with hold_for(root, "removing"):
        for found in list_environments(root):
            refuse_used(found, "remove")
        made = list_made(root)
        size = sum(map(measure_folder, made)) + measure_folder(root / DOWNLOADS)
        tools.progress.begin("removing", size)
        (root / CURRENT).unlink(missing_ok=True)
        for folder in made:
            remove_folder(folder)
        delete_tree(root / DOWNLOADS)
        with suppress(OSError):
            (root / ENVIRONMENTS).rmdir()
        drop_lock(root)
    with suppress(OSError):
        (root / LOCK).unlink(missing_ok=True)
    with suppress(OSError):
        root.rmdir()
    return size
