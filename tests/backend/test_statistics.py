"""Ratios of pairs and their intervals, against values worked out by hand and against simulated evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from latentman.backend.metrics.statistics import (
    average_ratios,
    choose_baseline,
    compare,
    compare_groups,
    format_ratios,
    pair_ratios,
)


def _run(variant: str, value: float | None, shot: str = "walk", prompt: str = "a man", seed: int = 1) -> dict:
    return {"shot": shot, "prompt": prompt, "seed": seed, "variant": variant, "hmse": value}


def _evaluation(ratios: dict[tuple[str, str], list[float]]) -> list[dict]:
    runs = []
    for (shot, prompt), values in ratios.items():
        for seed, ratio in enumerate(values):
            base = 100.0 * (1 + seed)
            runs += [_run("base", base, shot, prompt, seed), _run("other", base * ratio, shot, prompt, seed)]
    return runs


def test_the_mean_is_geometric_and_the_interval_students():
    runs = _evaluation({("walk", "a man"): [0.5, 2.0, 1.0]})
    found = compare(runs, "other", "base", "hmse")
    assert found.mean == pytest.approx(1) and found.count == 3
    # t of two degrees of freedom is 4.3027, the deviation of (-ln 2, ln 2, 0) is ln 2
    half = 4.3027 * np.log(2) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((np.exp(-half), np.exp(half)), rel=1e-4)
    assert not found.differs and str(found) == "1.00 [0.18, 5.59], n = 3"


def test_only_runs_of_the_same_seed_are_compared():
    runs = [_run("base", 10, seed=1), _run("base", 1000, seed=2), _run("other", 5, seed=1), _run("other", 7, seed=3)]
    found = compare(runs, "other", "base", "hmse")
    assert found.mean == 0.5 and found.count == 1 and np.isnan(found.low) and str(found) == "0.50 (n = 1)"


def test_runs_of_two_evaluations_are_not_mixed():
    with pytest.raises(ValueError, match="two runs of other for walk, seed 1"):
        compare([_run("base", 1), _run("other", 1), _run("other", 2)], "other", "base", "hmse")


def test_missing_figures_are_counted_not_invented():
    runs = [_run("base", 10), _run("other", None), _run("base", 0, seed=2), _run("other", 5, seed=2)]
    runs += [_run("base", 4, seed=3), _run("other", 2, seed=3), _run("base", "", seed=4), _run("other", "5", seed=4)]
    groups, left_out = pair_ratios(runs, "other", "base", "hmse")
    assert groups == {("walk", "a man"): [0.5]} and left_out == 3
    assert str(compare(runs, "other", "base", "hmse")) == "0.50 (n = 1, 3 left out)"
    assert str(compare(runs, "other", "base", "detail")) == "–"


def test_groups_that_differ_widen_the_interval():
    steady = [0.80, 0.81, 0.79, 0.80, 0.80]
    alike = _evaluation({(shot, "a man"): steady for shot in ("walk", "orbit", "dance")})
    apart = _evaluation({("walk", "a man"): [0.5] * 5, ("orbit", "a man"): [0.8] * 5, ("dance", "a man"): [1.28] * 5})
    assert compare(alike, "other", "base", "hmse").differs
    found = compare(apart, "other", "base", "hmse")
    assert found.mean == pytest.approx(0.8) and not found.differs, "fifteen pairs of three shots are three, not fifteen"
    assert all(
        ratio.mean == pytest.approx(value)
        for ratio, value in zip(compare_groups(apart, "other", "base", "hmse").values(), (0.5, 0.8, 1.28), strict=True)
    )


def test_intervals_hold_the_truth_as_often_as_they_say(rng):
    """Nine groups of five seeds, whose groups and seeds differ: 95 in 100, and not because they are boundless."""
    held, widths = 0, []
    for _ in range(400):
        groups = {(str(g), ""): np.exp(np.log(0.9) + rng.normal(0, 0.1) + rng.normal(0, 0.15, 5)).tolist() for g in range(9)}
        found = average_ratios(groups)
        held += found.low < 0.9 < found.high
        widths.append(found.high / found.low)
    assert 0.92 < held / 400 < 0.99 and np.median(widths) < 1.3


def test_tables_say_what_is_supported():
    runs = _evaluation({("walk", "a man"): [0.5, 0.52], ("orbit", "a man"): [1.0, 1.1]})
    text = format_ratios(runs, ("hmse", "detail"))
    assert choose_baseline(runs) == "base"
    assert "| other | 0.73 [" in text and "**" not in text.split("for each")[0] and "a trial, not a finding" in text
    assert "| walk, a man | **0.51 [0.40, 0.65], n = 2** |" in text and "detail" not in text
    assert format_ratios([_run("base", 1)], ("hmse",)) == "" == format_ratios([], ("hmse",))
