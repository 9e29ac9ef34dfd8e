"""A simulated night of shots on workers that die."""

from __future__ import annotations

import pytest

from tools.simulate_night import Night, simulate


@pytest.mark.parametrize("deaths", [0.0, 1.0, 4.0])
def test_every_frame_is_made_once_and_little_in_vain(deaths):
    report = simulate(Night(deaths_per_hour=deaths), seed=3)
    assert report.wrong == report.given_up == 0
    assert report.wasted < 0.02 and report.hours < 1.15 * report.ideal_hours
    assert (report.deaths > 0) == (deaths > 0)


def test_a_night_is_the_same_with_the_same_seed():
    assert simulate(Night(shots=40), 5) == simulate(Night(shots=40), 5) != simulate(Night(shots=40), 6)


def test_units_that_no_worker_lives_to_end_are_given_up():
    report = simulate(Night(shots=3, deaths_per_hour=3600.0, key_seconds=100.0), seed=1)
    assert report.given_up == 3 and report.wrong == 3 * Night().frames
