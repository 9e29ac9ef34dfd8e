"""README's and the results' tables and figures are those of the runs, and say when they are out of date."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from latentman.backend.metrics import making
from latentman.backend.metrics.making import PARTS, describe_making, fingerprint_files, fingerprint_modules, list_changes
from tools import write_results_pages
from tools.write_results_pages import MADE_OF, PAGES, MarkError, fill_mark, fill_page, main, read_runs

RUNS = """shot,prompt,seed,variant,hmse,detail
walk,a man,1,base,100,1.0
walk,a man,2,base,200,1.0
orbit,a man,1,base,50,
walk,a man,1,other,50,0.9
walk,a man,2,other,100,0.8
orbit,a man,1,other,25,
"""


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results with one suite of three pairs, and one page."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "results.csv").write_text(RUNS, encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("It is <!-- ratio small other/base hmse -->?<!-- / -->.\n", encoding="utf-8")
    monkeypatch.setattr(write_results_pages, "RESULTS", tmp_path)
    monkeypatch.setattr(write_results_pages, "PAGES", (page,))
    read_runs.cache_clear()
    yield tmp_path
    read_runs.cache_clear()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_the_pages_are_what_the_runs_say(page):
    text = page.read_text(encoding="utf-8")
    # the gallery has pictures and no figures, and the tables about the authors' code are of other studies
    wanted = {"gallery.md": ("age",), "faithfulness.md": ("mean", "ratio", "age")}.get(page.name, ("ratio", "table", "age"))
    assert all(f"<!-- {kind} " in text for kind in wanted)
    assert fill_page(text) == text, "run python -m tools.write_results_pages"


def test_means_ratios_and_tables(results):
    assert fill_mark("mean", "small base hmse ") == "117"
    assert fill_mark("mean", "small other hmse shot=orbit ") == "25"
    assert fill_mark("mean", "small other detail ") == "0.85"
    assert fill_mark("ratio", "small other/base hmse ") == "0.50 [0.50, 0.50], n = 3"
    table = fill_mark("table", "small hmse detail=fine hmse/base=part\nbase: `base`\nother: the other\n")
    assert table.splitlines()[1:] == [
        "| | `hmse` | fine | part |",
        "|---|---|---|---|",
        "| `base` | 117 | 1.00 | 1.00 |",
        "| the other | 58 | 0.85 | 0.50 |",
    ]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("mean", "absent base hmse"),
        ("mean", "small nobody hmse"),
        ("mean", "small base liveliness"),
        ("mean", "small base"),
        ("mean", "small base hmse colour=red"),
        ("ratio", "small other hmse"),
        ("ratio", "small other/nobody hmse"),
        ("table", "small hmse\nnobody: x"),
        ("age", ""),
    ],
)
def test_marks_that_cannot_be_filled_are_named(results, kind, text):
    with pytest.raises(MarkError, match=f"'{kind} "):
        fill_mark(kind, text)


def test_stale_pages_are_found_and_written(results, capsys):
    assert main(["--check"]) == 1 and "write_results_pages" in capsys.readouterr().err
    assert main([]) == 0 and main(["--check"]) == 0
    page = results / "page.md"
    assert page.read_text(encoding="utf-8") == "It is <!-- ratio small other/base hmse -->0.50 [0.50, 0.50], n = 3<!-- / -->.\n"
    (results / "small" / "results.csv").write_text(RUNS.replace("other,25", "other,30"), encoding="utf-8")
    read_runs.cache_clear()
    assert main(["--check"]) == 1, "the runs have changed"
    page.write_text("<!-- mean small base hmse -->1", encoding="utf-8")
    assert main(["--check"]) == 2 and "no end" in capsys.readouterr().err


def test_a_suite_says_what_has_changed_since(results):
    assert "not kept" in fill_mark("age", "small ")
    stored = results / "small" / MADE_OF
    stored.write_text(json.dumps(describe_making()), encoding="utf-8")
    assert fill_mark("age", "small ") == "Made with today's weights, presets and code."
    for part, words in PARTS.items():
        stored.write_text(json.dumps(describe_making() | {part: "former"}), encoding="utf-8")
        assert fill_mark("age", "small ") == f"**Out of date**: {words}."
    assert list_changes({}, describe_making()) == list(PARTS.values())


def test_of_the_presets_those_count_that_are_among_the_results():
    today = describe_making()
    assert {"surface", "per_frame", "sla_until_0.4"} <= set(today["presets"])
    own = describe_making(variants=("per_frame", "surface", "bake"))
    assert set(own["presets"]) == {"per_frame", "surface"} and not list_changes(own, today)

    def change(*names):
        return today | {"presets": today["presets"] | {name: "another" for name in names}}

    assert not list_changes(own, change("latentman", "surface_fast"))
    assert list_changes(own, change("latentman", "surface")) == ["presets have changed (surface)"]
    gone = {name: one for name, one in today["presets"].items() if name != "per_frame"}
    assert list_changes(own, today | {"presets": gone}) == ["presets have changed (per_frame)"]


def test_code_is_known_by_what_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "BACKEND", tmp_path)
    module, other = tmp_path / "a.py", tmp_path / "b.py"
    module.write_text('"""What."""\nfrom .b import f\n\n\ndef g():\n    """Why."""\n    return f()\n', encoding="utf-8")
    other.write_text("def f():\n    return 1\n", encoding="utf-8")
    before = fingerprint_modules([module])
    module.write_text('"""Other words."""\nfrom .b import f\n\n\ndef g():\n    return f()  # a comment\n', encoding="utf-8")
    assert fingerprint_modules([module]) == before == fingerprint_modules([other, module])
    other.write_text("def f():\n    return 2\n", encoding="utf-8")
    assert fingerprint_modules([module]) != before, "an imported module has changed"


def test_weights_are_known_by_their_bytes(tmp_path):
    (tmp_path / "unet").mkdir()
    weights = tmp_path / "unet" / "model.safetensors"
    weights.write_bytes(b"one")
    before = fingerprint_files(tmp_path)
    (tmp_path / "README.md").write_text("words", encoding="utf-8")
    assert fingerprint_files(tmp_path) == before
    weights.write_bytes(b"two")
    assert fingerprint_files(tmp_path) != before
