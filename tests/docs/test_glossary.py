"""Every name of the code in the glossary exists where the glossary says."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.checkout import ROOT

PAGE = ROOT / "docs" / "glossary.md"


def read_rows() -> list[tuple[str, str, str]]:
    """(term, what it is, where it lives) of every row."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


@cache
def find_names(path: str) -> frozenset[str]:
    """The names that a module defines: ``function``, ``Class``, ``Class.method``, ``Class.field`` and constants."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse((ROOT / path).read_text(encoding="utf-8")).body, "")
    return frozenset(found | {name.split(".")[-1] for name in found})


def check_place(place: str) -> str:
    """What is wrong with a cell that says where a term lives; empty when nothing is."""
    for part in place.split(";"):
        words = re.findall(r"`([^`]+)`", part)
        paths = [word for word in words if "/" in word]
        names = [word for word in words if "/" not in word]
        if part.strip().startswith("settings"):
            paths = ["shared/shot.py"]
        if not paths:
            return f"'{part}' names no file"
        for path in paths:
            if not (ROOT / path).is_file():
                return f"there is no {path}"
        for name in names:
            if not any(name in find_names(path) for path in paths):
                return f"there is no {name} in {', '.join(paths)}"
    return ""


@pytest.mark.parametrize("row", read_rows(), ids=lambda row: row[0])
def test_a_term_is_explained_and_its_names_exist(row):
    term, meaning, place = row
    assert meaning.endswith(".") and len(meaning.split()) > 4
    assert check_place(place) == "", term


def test_the_terms_are_in_order_and_unique():
    terms = [term for term, _, _ in read_rows()]
    assert len(terms) > 50 and terms == sorted(set(terms), key=str.lower)


@pytest.mark.parametrize(
    "place, wrong",
    [
        ("`Motion` in `shared/motion.py`", ""),
        ("`Motion.joints` in `shared/motion.py`", ""),
        ("`Walk` in `shared/motion.py`", "there is no Walk in shared/motion.py"),
        ("`Motion.walk` in `shared/motion.py`", "there is no Motion.walk in shared/motion.py"),
        ("`shared/dance.py`", "there is no shared/dance.py"),
        ("`Motion`", "'`Motion`' names no file"),
    ],
)
def test_what_does_not_exist_is_found(place, wrong):
    assert check_place(place) == wrong
