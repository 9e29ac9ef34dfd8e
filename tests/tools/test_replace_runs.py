"""Runs that were made again take the place of stored ones, and nothing else of the results changes."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

pytest.importorskip("torch")

from latentman.backend.metrics.making import describe_making
from tools import replace_runs as tool
from tools.replace_runs import MADE_OF, main
from tools.write_results_pages import RESULTS, read_runs

SUITE = "rivals"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A copy of stored results, and of them a folder of runs that were made again, with other figures of ``surface``."""
    folder, again = tmp_path / SUITE, tmp_path / "again"
    shutil.copytree(RESULTS / SUITE, folder)
    again.mkdir()
    monkeypatch.setattr(tool, "RESULTS", tmp_path)
    record = json.loads((folder / MADE_OF).read_text(encoding="utf-8"))
    names = {row["variant"] for row in read_runs(folder)}
    today = describe_making(variants=names)
    # whatever has changed since the real ones were made
    record |= today | {"presets": today["presets"] | {"surface": "former"}, "rivals": record["rivals"]}
    (folder / MADE_OF).write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(tool, "list_changes", lambda stored, today: [])
    write(again, [row | {"hmse": "1.5"} for row in read_runs(folder) if row["variant"] == "surface"])
    return folder, again


def write(folder, rows):
    with open(folder / "results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    read_runs.cache_clear()


def test_only_runs_of_the_variants_are_replaced(results):
    folder, again = results
    before = (folder / "results.csv").read_text(encoding="utf-8").splitlines()
    others = sorted(path.name for path in folder.iterdir())
    assert main([SUITE, str(again), "--variants", "surface"]) == 0
    after = (folder / "results.csv").read_text(encoding="utf-8").splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) == 5 and all(",surface," in a and ",surface," in b and ",1.5," in b for a, b in changed)
    assert "| surface | 1.5 |" in (folder / "results.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.iterdir()) == others
    record = json.loads((folder / MADE_OF).read_text(encoding="utf-8"))
    assert record["presets"] == describe_making(variants=record["presets"])["presets"] and record["rivals"]


@pytest.mark.parametrize(
    ("change", "variants", "said"),
    [
        (lambda rows: rows[1:], ["surface"], "1 surface was not made again."),
        (lambda rows: [rows[0] | {"detail": ""}, *rows[1:]], ["surface"], "1 surface has no detail any more."),
        (lambda rows: rows, ["surface", "sla"], "There are no stored runs of sla."),
        (lambda rows: rows, ["per_frame"], "1 per_frame was not made again."),
    ],
)
def test_what_cannot_be_replaced_is_said_and_stays(results, capsys, change, variants, said):
    folder, again = results
    write(again, change(list(read_runs(again))))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main([SUITE, str(again), "--variants", *variants]) == 1
    assert capsys.readouterr().err.strip().endswith(said)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_results_of_another_method_are_made_again_as_a_whole(results, capsys, monkeypatch):
    folder, again = results
    monkeypatch.setattr(tool, "list_changes", lambda stored, today: ["the method's code has changed"])
    assert main([SUITE, str(again), "--variants", "surface"]) == 1
    assert capsys.readouterr().err.strip() == "All of rivals has to be made again: the method's code has changed."
    assert "former" in (folder / MADE_OF).read_text(encoding="utf-8")
