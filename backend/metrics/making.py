"""What stored results were made of, so that it is known when they are out of date: weights, presets, the code of method and
figures.

Code counts without its comments and docstrings: what it does, not how it is explained.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from ..models.registry import PRESETS, ModelSource
from .variants import VARIANTS, make_sweep

BACKEND = Path(__file__).resolve().parents[1]
#: modules of this folder that compute figures, with what they import from it
FIGURES_CODE = ("clip_measurer", "perceptual", "named_colours")
#: what is compared -> what is said when it has changed
PARTS = {
    "weights": "the starter model's weights have changed",
    "presets": "presets have changed",
    "method": "the method's code has changed",
    "figures": "the figures' code has changed",
}


def _dump_module(path: Path) -> tuple[str, list[Path]]:
    """What a module does, and the modules of its own folder that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module and "." not in node.module:
            imported.append(path.with_name(f"{node.module}.py"))
    return ast.dump(tree), [module for module in imported if module.exists()]


def fingerprint_modules(paths: Iterable[Path]) -> str:
    """A hash of what Python modules do, and those of their own folders that they import, in whatever order they are given."""
    found, waiting = dict[Path, str](), list(paths)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path], imported = _dump_module(path)
            waiting += imported
    text = "".join(f"{path.relative_to(BACKEND).as_posix()}\n{found[path]}\n" for path in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_files(folder: Path) -> str:
    """A hash of a model's weights and configuration under a folder."""
    out = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors", ".txt"):
            out.update(f"{path.relative_to(folder).as_posix()}\n".encode())
            out.update(hashlib.sha256(path.read_bytes()).digest())
    return out.hexdigest()


def _fingerprint_model(source: ModelSource) -> str:
    """A hash of a base's files, and of those of a motion module in it."""
    folders = [Path(part) for part in (source.base, source.motion) if part]
    return ", ".join(map(fingerprint_files, folders))


@cache
def _describe_making(model: str) -> dict[str, Any]:
    presets = {name: msgspec.to_builtins(method) for name, method in (VARIANTS | make_sweep()).items()}
    return ({} if model == "starter" else {"model": model}) | {
        "weights": _fingerprint_model(PRESETS[model]),
        "presets": {name: hashlib.sha256(json.dumps(one, sort_keys=True).encode()).hexdigest() for name, one in presets.items()},
        "method": fingerprint_modules((BACKEND / "video").rglob("*.py")),
        "figures": fingerprint_modules(BACKEND / "metrics" / f"{name}.py" for name in FIGURES_CODE),
    }


def describe_making(model: str = "starter", variants: Collection[str] | None = None) -> dict[str, Any]:
    """What results that are made now with one of the bundled models are made of, by ``PARTS``, and which it is if it is not the
    usual one.

    Of the presets those count that are among the results' ``variants``; None for all. What is said stays as it was at the first
    call of a process, however long its runs take.
    """
    found = dict(_describe_making(model))
    if variants is not None:
        found["presets"] = {name: one for name, one in found["presets"].items() if name in variants}
    return found


@cache
def describe_rivals() -> str:
    """A hash of the rivals' code and settings, which counts for results that hold one."""
    return fingerprint_modules((BACKEND / "metrics" / "rivals").glob("*.py"))


def list_changes(stored: Mapping[str, Any] | None, today: Mapping[str, Any]) -> list[str]:
    """In words, what of ``PARTS`` has changed since results were made; ``stored`` None when that is unknown. ``today`` is of all
    presets."""
    if stored is None:
        return ["what it was made of was not kept"]
    changed = [words + named for part, words in PARTS.items() if (named := _name_change(stored.get(part), today[part])) is not None]
    if stored.get("rivals", describe_rivals()) != describe_rivals():
        changed.append("the rivals' code has changed")
    return changed


def _name_change(stored: Any, today: Any) -> str | None:
    """None where what was stored is as today, else which of several have changed."""
    if isinstance(stored, dict) and isinstance(today, dict):
        names = [name for name, one in stored.items() if today.get(name) != one]
        return f" ({', '.join(names)})" if names else None
    return None if stored == today else ""
