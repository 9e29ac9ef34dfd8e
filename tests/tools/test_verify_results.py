"""Stored results are marked as today's only when their runs, made again, have every figure as it was."""

from __future__ import annotations

import json
import subprocess

import pytest

pytest.importorskip("torch")

from latentman.backend.metrics.making import describe_making, describe_rivals
from tools import verify_results
from tools.verify_results import MADE_OF, compare_runs, main

HEAD = "shot,prompt,seed,variant,code,hmse,detail,seconds_per_frame\n"
RUNS = HEAD + "walk,a man,1,base,aa,100.5,1.0,3\nwalk,a man,2,base,aa,200,1.0,4\nwalk,a man,1,bake,aa,3,,\n"


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Stored results; what is made again is written by the returned function's text."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "results.csv").write_text(RUNS, encoding="utf-8")
    (folder / MADE_OF).write_text(json.dumps({"method": "older", "rivals": "x"}), encoding="utf-8")
    monkeypatch.setattr(verify_results, "RESULTS", tmp_path)

    def run(text, code=0):
        def write(command, check):
            assert command[2:5] == ["latentman.backend", "evaluate", "--quick"] and not check
            with open(f"{command[-1]}/results.csv", "w", encoding="utf-8") as file:
                file.write(text)
            return subprocess.CompletedProcess(command, code)

        monkeypatch.setattr(verify_results.subprocess, "run", write)
        return main(["small", "--", "--quick"]), json.loads((folder / MADE_OF).read_text(encoding="utf-8"))

    return run


def test_the_same_figures_are_marked_as_of_today(suite):
    code, made_of = suite(HEAD + "walk,a man,1,base,bb,100.5,1.0,9\nwalk,a man,1,bake,bb,3,,\n")
    assert describe_making(variants=("base", "bake"))["presets"] == {}, "none of ours is among them"
    assert code == 0 and made_of == {"rivals": describe_rivals()} | describe_making(variants=("base", "bake"))


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        ("walk,a man,1,base,bb,100.6,1.0,9\nwalk,a man,1,bake,bb,3,,\n", "walk a man 1 base differs: hmse 100.5 -> 100.6."),
        ("walk,a man,1,base,bb,100.5,1.0,9\nwalk,a man,1,bake,bb,3,0.5,\n", "walk a man 1 bake differs: detail  -> 0.5."),
        ("walk,a man,1,base,bb,100.5,1.0,9\n", "bake was not made again for the shot walk."),
        ("walk,a man,3,base,bb,9,1.0,9\nwalk,a man,1,bake,bb,3,,\n", "walk a man 3 base is not among the stored runs."),
    ],
)
def test_what_differs_or_is_missing_is_told_and_nothing_is_marked(suite, capsys, runs, sentence):
    code, made_of = suite(HEAD + runs)
    assert code == 1 and made_of == {"method": "older", "rivals": "x"}
    assert sentence in capsys.readouterr().err.splitlines()


def test_runs_that_cannot_be_made_and_suites_that_are_not_there_mark_nothing(suite, capsys):
    assert suite(RUNS, code=2) == (2, {"method": "older", "rivals": "x"})
    with pytest.raises(SystemExit):
        main(["large", "--", "--quick"])
    assert "large has no results that can be read" in capsys.readouterr().err


def test_a_figure_that_is_new_does_not_count():
    stored = [{"shot": "walk", "prompt": "a", "seed": "1", "variant": "base", "hmse": "1"}]
    assert not compare_runs(stored, [stored[0] | {"sparkle": "3"}])
