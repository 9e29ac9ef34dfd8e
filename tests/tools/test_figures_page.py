"""``docs/figures.md`` is what the list of figures says."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from latentman.backend.metrics.evaluator import COLUMNS
from latentman.backend.metrics.figures import FIGURES, OPTIONAL
from tools import write_figures_page
from tools.write_figures_page import PAGE, format_page, main


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == format_page(), "run python -m tools.write_figures_page"


def test_a_stale_page_is_found_and_written_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write_figures_page, "PAGE", tmp_path / "figures.md")
    assert main(["--check"]) == 1 and "write_figures_page" in capsys.readouterr().err
    assert main([]) == 0 and main(["--check"]) == 0
    (tmp_path / "figures.md").write_text(format_page().replace("`drift`", "`drifts`"), encoding="utf-8")
    assert main(["--check"]) == 1


def test_every_figure_is_defined_once_and_reported():
    everything = (*FIGURES, *OPTIONAL)
    names = [figure.name for figure in everything]
    assert len(set(names)) == len(names) and set(names) <= set(COLUMNS)
    assert all(figure.unit and figure.meaning.endswith(".") for figure in everything)
    # a figure that is compared has a value of a faultless clip to compare with
    assert all(figure.floor for figure in everything if figure.better != "reads")
    assert "|" not in "".join(figure.meaning + figure.weakness + figure.floor for figure in everything)
