"""What lies damaged in the job store is made again: every file of a job, emptied, cut in half, changed or gone, in every state."""

from __future__ import annotations

import shutil

import msgspec
import pytest

pytest.importorskip("torch")

from latentman.backend.jobs.in_use import Claim, is_in_use
from latentman.backend.jobs.job import Job
from latentman.backend.jobs.requests import read_request
from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run
from latentman.backend.jobs.store import JobStore
from latentman.backend.pictures import encode_png
from latentman.backend.video.run_context import Interrupted
from latentman.shared.png import is_intact_png
from latentman.shared.shot import (
    Fusion,
    Keyframes,
    Method,
    make_request,
)
from tests import samples
from tests.backend.tiny import write_sd

METHOD = Method(matching="surface", fusion=Fusion(full_steps=1), keyframes=Keyframes(2, 0.5))


def _empty(data: bytes) -> bytes:
    return b""


def _halve(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def _garble(data: bytes) -> bytes:
    return b"\xff\xfe[[[[" + data[6:]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A cache, and the name of a tiny random Stable Diffusion in it."""
    root = tmp_path_factory.mktemp("tiny")
    write_sd(root)
    return ModelCache(), str(root / "whole")


def _make(store, models, stop_after=None):
    """Ask for the shot, and let it run to its end or until so many frames are stored; the job and its frames."""
    cache, name = models
    request = make_request("a man", (1, 2, 3, 4), 20.0, model=name, width=64, height=64, steps=4, method=METHOD)
    job = store.open(request, samples.passes(4))
    stored = []

    def should_stop():
        return stop_after is not None and len(stored) >= stop_after

    try:
        run(job, cache, RunCallbacks(frame_stored=stored.append, should_stop=should_stop))
    except Interrupted:
        assert stop_after is not None
    return job


def _frames(job):
    return [job.read_png(n) for n in range(4)]


@pytest.fixture(scope="module", params=[None, 2], ids=["finished", "stopped"])
def made(request, tmp_path_factory, models):
    """A store with a job that is finished, or was stopped half-way, and the frames that it should have in the end."""
    root = tmp_path_factory.mktemp("stores")
    job = _make(JobStore(root / "store"), models, request.param)
    expected = _frames(_make(JobStore(root / "whole"), models))
    files = sorted(path.relative_to(job.folder) for path in job.folder.rglob("*") if path.is_file())
    assert len(files) > 12 and (request.param is None) == (job.report() is not None)
    return root / "store", files, expected


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_empty, _halve, _flip, _garble, None])
def test_every_damaged_file_is_made_again(made, models, tmp_path, damage):
    store, files, expected = made
    for number, file in enumerate(files):
        root = tmp_path / str(number)
        shutil.copytree(store, root)
        (folder,) = (path.parent for path in root.glob("*/request.json"))
        if damage is None:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes(damage((folder / file).read_bytes()))
        job = _make(JobStore(root), models)
        assert job.folder == folder and job.report() is not None, file
        assert _frames(job) == expected, file
        assert len(job.textures()) == 1 and all(map(is_intact_png, job.textures().values())), file
        assert not list(root.rglob("*.part")), file
        shutil.rmtree(root)


def test_a_png_is_intact_only_as_a_whole(rng):
    data = encode_png(rng.integers(0, 255, (9, 7, 3), "uint8"))
    assert is_intact_png(data) and is_intact_png(data + b"more")
    assert not any(is_intact_png(data[:n]) for n in range(len(data)))
    assert not any(is_intact_png(data[:n] + bytes([data[n] ^ 1]) + data[n + 1 :]) for n in range(8, len(data)))


def test_a_folder_is_in_use_until_it_is_let_go(tmp_path):
    assert not is_in_use(tmp_path, "a")
    first, second = Claim(tmp_path, "a"), Claim(tmp_path, "a")
    assert is_in_use(tmp_path, "a") and not is_in_use(tmp_path, "b")
    first.release()
    assert is_in_use(tmp_path, "a"), "somebody else works in it, too"
    second.release()
    second.release()
    assert not is_in_use(tmp_path, "a") and not list((tmp_path / "in_use").iterdir())


@pytest.mark.slow
def test_what_stands_in_the_way_is_replaced(made, models, tmp_path):
    """A folder in the place of a file, a file in that of a folder, a link without an end."""
    store, files, expected = made
    names = [str(file) for file in files]
    some = sorted({*files[::3], *(file for file, name in zip(files, names, strict=True) if "request" in name or "model" in name)})
    for number, (file, kind) in enumerate([*((file, kind) for file in some for kind in "dl"), ("frames", "f"), ("passes", "f")]):
        root = tmp_path / str(number)
        shutil.copytree(store, root)
        (folder,) = (path.parent for path in root.glob("*/request.json"))
        path = folder / file
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if kind == "d":
            (path / "within").mkdir(parents=True)
        elif kind == "f":
            path.write_text("a file")
        else:
            path.symlink_to("/dev/zero")
        job = _make(JobStore(root), models)
        assert job.folder == folder and job.report() is not None and _frames(job) == expected, (file, kind)
        shutil.rmtree(root)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' * 100_000,
        b'{"text": "\xff"}',
        b"\xff\xfe",
        b"",
        b"[]",
        b'{"method": 5}',
        b"{",
    ],
)
def test_what_is_no_request_is_said_in_one_way(tmp_path, data):
    (tmp_path / "request.json").write_bytes(data)
    with pytest.raises(msgspec.MsgspecError):
        read_request(tmp_path / "request.json")


@pytest.mark.parametrize(
    "names", ["null", "5", '"texture_1"', "[1]", "[null]", '["../../x"]', '["\\ud800"]', '["texture_"]', '[["texture_1"]]', "{}"]
)
def test_a_report_that_lists_no_textures_is_made_again(tmp_path, names):
    (tmp_path / "report.json").write_text(f'{{{{"textures": {names}}}}}')
    job = Job(tmp_path, samples.request())
    assert job.report() is None
    (tmp_path / "report.json").write_text('{"textures": []}')
    assert job.report() == {"textures": []}
