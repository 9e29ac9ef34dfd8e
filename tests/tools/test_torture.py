"""A short form of ``make torture``, and that it sees the faults that it is for."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from typing import get_args

import msgspec
import pytest

pytest.importorskip("torch")

from latentman.backend.jobs.runner import ModelCache
from latentman.shared import messages as wire
from latentman.shared.files import write_atomically
from tests.tools.strange_reader import read_strangely
from tools.tiny_models import write_sd
from tools.torture.client import Played, play_once
from tools.torture.mutation import mutate_bytes, mutate_text, mutate_value
from tools.torture.page import write_page
from tools.torture.parts import PARTS, disks, files, kills, messages, stores
from tools.torture.parts.orphans import is_running
from tools.torture.processes import Backend, Program
from tools.torture.shots import make_shot
from tools.torture.trial import Budget, Figures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals, /proc and small disks")
SEED = 5
#: trials of each part in the short form
SHORT = {"kills": 6, "messages": 4, "files": 30, "stores": 12, "disks": 4, "sharing": 1, "strangers": 4, "soak": 18}
SHORT |= {"cancelling": 9, "orphans": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of the tiny image model."""
    folder = tmp_path_factory.mktemp("models")
    write_sd(folder)
    return str(folder / "whole")


@pytest.fixture
def budget(model, tmp_path):
    """A budget for a few trials, without an end."""
    (tmp_path / "work").mkdir()
    return lambda goal: Budget(SEED, goal, time.monotonic() + 3600, tmp_path / "work", model)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_and_nobody_dies(name, budget):
    figures = PARTS[name].run(budget(SHORT[name]))
    assert not figures.faults
    done = {"kills": "kills", "messages": "messages", "files": "files", "stores": "cases", "disks": "disks", "sharing": "jobs"}
    least = {"messages": 4 * messages.BATCH, "files": SHORT["files"] * files.BATCH, "sharing": 2}
    if name in done:
        assert figures.counts[done[name]] >= least.get(name, SHORT[name])
    elif name == "cancelling":
        assert sum(count for what, count in figures.counts.items() if what.startswith("while ")) == SHORT[name]


def test_every_part_is_in_the_short_form():
    assert set(PARTS) == set(SHORT)


# -- that a fault would be seen -------------------------------------------------------------------------------------------


def test_a_frame_that_changed_is_seen(tmp_path):
    expected = Played("finished", "", {0: b"one", 1: b"two"}, {"texture_1": b"three"})
    for name, data in (("0000", b"one"), ("0001", b"two"), ("texture_1", b"three")):
        (tmp_path / f"{name}.png").write_bytes(data)
    assert kills.count_damage(tmp_path, expected) == 0
    for name in ("0000", "texture_1", "0002"):
        shutil.copytree(tmp_path, tmp_path / "changed", ignore=shutil.ignore_patterns("changed"))
        (tmp_path / "changed" / f"{name}.png").write_bytes(b"other")
        assert kills.count_damage(tmp_path / "changed", expected) == 1
        shutil.rmtree(tmp_path / "changed")
    assert expected.is_same(Played("finished", "", {0: b"one", 1: b"two"}, {"texture_1": b"three"}))
    assert not expected.is_same(Played("finished", "", {0: b"one"}, {"texture_1": b"three"}))
    assert not expected.is_same(Played("failed", "", dict(expected.frames), dict(expected.textures)))


def test_a_store_that_stays_broken_is_seen(budget, monkeypatch):
    """The job store as it would be if nothing were made again: a lost request ends every job."""
    original = stores._make_job
    asked = []

    def make_job(store, shot, models, stop_after=None):
        asked.append(store)
        if "trial" in str(store):
            raise OSError("it is damaged")
        return original(store, shot, models, stop_after)

    monkeypatch.setattr(stores, "_make_job", make_job)
    figures = stores.run(budget(3))
    assert figures.counts["cases stuck"] == len(figures.faults) == 3 and "it is damaged" in figures.faults[0]


@pytest.mark.slow
def test_files_that_kill_hang_and_eat_memory_are_seen(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "Program", lambda target, *arguments: Program(read_strangely, *arguments))
    monkeypatch.setattr(files, "HANG_SECONDS", 2.0)
    figures = Figures()
    most = files._try_files(figures, tmp_path, 0, "x", [str(n) for n in range(7)], tmp_path)
    counts = figures.counts
    assert counts["files"] == 7 and counts["hangs over 2 s"] == counts["deaths"] == counts["unforeseen errors"] == 1
    assert (counts["read"], counts["refused"], counts["beyond the memory"]) == (3, 1, 1) and 250 < most < 400
    assert len(figures.faults) == 4 and "'1'" in figures.faults[0] and "'3'" in figures.faults[2] and "-11" in figures.faults[2]


def test_a_backend_that_is_gone_is_lost_and_not_finished(model, tmp_path):
    backend = Backend(tmp_path / "jobs")
    shot = make_shot(model, "joint")
    assert play_once(backend.endpoint, shot).end == "finished"
    assert is_running(backend.pid) and backend.count_descriptors() > 5 and backend.read_status("VmRSS") > 1000
    assert backend.kill() and not backend.alive and not is_running(backend.pid) and not backend.kill()


def test_a_full_disk_is_full(tmp_path):
    with disks.small_disk(tmp_path / "disk", 64 << 10) as mounted:
        if not mounted:
            pytest.skip("mounting is not allowed here; the limit on the size of files is used")
        with pytest.raises(OSError, match="No space left"):
            write_atomically(tmp_path / "disk" / "x", bytes(100_000))
        assert not list((tmp_path / "disk").iterdir())
    assert not os.path.ismount(tmp_path / "disk")


def test_the_same_seed_makes_the_same_trouble():
    data, text, value = bytes(range(256)) * 4, b'{"a": [1, 2.5, "x"], "b": null}', {"a": [1, {"b": "c"}], "d": 2.5}
    for mutate, sample in ((mutate_bytes, data), (mutate_text, text), (mutate_value, value)):
        first = [mutate(random.Random(n), sample) for n in range(200)]
        assert repr(first) == repr([mutate(random.Random(n), sample) for n in range(200)])
        assert sum(repr(one) != repr(sample) for one in first) > 180 and len(set(map(repr, first))) > 150
    samples = messages.make_samples("starter")
    names = {msgspec.msgpack.decode(sample[0])["body"]["type"] for sample in samples}
    assert names == {kind.__name__ for kind in get_args(wire.AnyMessage)}
    for to_backend in (True, False):
        made = [next(messages.make_messages(random.Random(n), samples, to_backend)) for n in range(50)]
        assert made == [next(messages.make_messages(random.Random(n), samples, to_backend)) for n in range(50)]


def test_the_page_has_every_count_and_every_fault():
    figures = Figures()
    figures.counts.update({"kills": 12345, "frames lost": 0})
    figures.measures["most memory"] = "3 MB"
    figures.faults.append("kills --seed 3, job 7: a <b> | c")
    page = write_page({"kills": (figures, 90.0)}, 3, "0123abcd")
    for text in (
        "12,345 kills",
        "0 frames lost",
        "most memory: 3 MB",
        "| 1 |",
        "- kills --seed 3, job 7",
        "`0123abcd`",
        "seed 3",
        "Not run:",
    ):
        assert text in page, text
    assert "<b>" not in page and "None." in write_page({"kills": (Figures(), 1.0)}, 3, "x")


@pytest.mark.slow
def test_an_unknown_part_is_refused():
    command = [sys.executable, "-m", "tools.torture", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "there is no part 'nothing'" in done.stderr


def test_damage_of_every_kind_changes_the_file(tmp_path):
    for name, damage in stores.DAMAGES.items():
        path = tmp_path / name.replace(" ", "_")
        path.write_bytes(bytes(range(256)))
        damage(random.Random(1), path)
        assert not path.is_file() or path.is_symlink() or path.read_bytes() != bytes(range(256)), name


def test_models_are_not_loaded_for_a_store_that_is_whole(model, tmp_path):
    """What the comparison rests on: the same job twice gives the same bytes, and the second time from the disk."""
    shot = make_shot(model, "joint")
    first = stores._make_job(tmp_path, shot, ModelCache())
    assert first == stores._make_job(tmp_path, shot, ModelCache()) and len(first[1]) == 4
