"""``docs/performance.md`` is what the planner and the kept results say."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from latentman.backend.models.library.catalogue import CATALOGUE as KEPT
from tools import write_performance_page
from tools.write_catalogue_memory import FAMILIES, measure
from tools.write_performance_page import CARDS, PAGE, describe_card, format_page, main


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == format_page(), "run python -m tools.write_performance_page"


def test_a_stale_page_is_found_and_written_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write_performance_page, "PAGE", tmp_path / "performance.md")
    assert main(["--check"]) == 1 and "write_performance_page" in capsys.readouterr().err
    assert main([]) == 0 and main(["--check"]) == 0


def test_larger_cards_never_take_a_worse_place():
    worse = ["whole", "part by part", "layer by layer", "no"]
    for family in FAMILIES:
        places = [describe_card(family, "float16", gigabytes).partition(",")[0] for gigabytes in CARDS]
        assert [worse.index(place) for place in places] == sorted((worse.index(place) for place in places), reverse=True)
        assert places[-1] == "whole"


def test_figures_of_a_cuda_card_are_shown_as_measured(tmp_path, monkeypatch):
    assert ("## On CUDA" in format_page()) != (write_performance_page.CUDA / "results.json").exists()
    monkeypatch.setattr(write_performance_page, "CUDA", tmp_path)
    rows = [
        {"name": "surface, 96 frames", "seconds_per_frame": 0.04, "times_as_fast_as_paper": 21.0, "peak_mb": 6000.0},
        {"name": "the paper's setting", "seconds_per_frame": 0.9, "is_computed": True},
        {"name": "per_frame, 96 frames", "seconds_per_frame": None, "reason": "no time was left"},
    ]
    found = {"parts": {"sd15": {"rows": rows}}, "device": "cuda", "scale": "full", "facts": {"device_name": "A Card"}}
    (tmp_path / "results.json").write_text(json.dumps(found), encoding="utf-8")
    page = format_page()
    assert "On one A Card" in page and "| sd15: surface, 96 frames | **0.04** | **21** | **6000** |" in page
    assert ": the paper's setting |" not in page and "per_frame, 96 frames" not in page


def test_the_catalogue_has_what_sdxl_takes_when_it_is_loaded():
    # its auto-encoder runs in single precision in either case
    half = measure("sdxl", "float16")
    kept = json.loads(KEPT.read_text(encoding="utf-8"))["memory"]["sdxl"]
    assert kept["float16"] == {"weights": dict(half.weights), "denoising": half.denoising, "decoding": half.decoding}
    assert kept["float16"]["weights"]["vae"] == kept["float32"]["weights"]["vae"]
