"""Costumes in jobs: made, worn and painted, by one process and by several workers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run  # noqa: E402
from latentman.backend.jobs.store import JobStore  # noqa: E402
from latentman.backend.pictures import decode_rgba, encode_png  # noqa: E402
from latentman.backend.video.costume import Costume  # noqa: E402
from latentman.backend.workers.pool import WorkerPool  # noqa: E402
from latentman.backend.workers.shot import run_pooled  # noqa: E402
from latentman.shared.charts import Charts  # noqa: E402
from latentman.shared.costume_files import CHARTS, COSTUME, PAINT, with_files  # noqa: E402
from latentman.shared.shot import Fusion, Keyframes, Method, ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.local_workers import LocalWorker  # noqa: E402

FRAMES = 4
METHOD = Method(matching="surface", fusion=Fusion(full_steps=1), keyframes=Keyframes(count=4, strength=0.5))


@pytest.fixture(scope="module")
def passes():
    return samples.passes(FRAMES, shift=1)


@pytest.fixture(scope="module")
def charts(passes):
    """A square plate around the disc of the passes, a tenth of which no frame shows."""
    seen = passes.rest_position[0][passes.mask[0] > 0]
    low, high = seen.min(0)[:2], seen.max(0)[:2]
    corners = np.array([[low[0], low[1], 0], [high[0], low[1], 0], [high[0], high[1], 0], [low[0], high[1], 0]], np.float32)
    rest = corners[[[0, 1, 2], [0, 2, 3]]]
    uv = ((rest[..., :2] - low) / (high - low)).astype(np.float32)
    return Charts(uv, rest, np.ones(2, np.uint16), {1: "Plate"}, 256, (0, 2))


@pytest.fixture(scope="module")
def dressed(tiny, passes, charts, tmp_path_factory):
    """The job of a costume, made by one process, and its report."""
    files = {CHARTS: charts.encode()}
    request = with_files(samples.request(FRAMES, model=tiny, method=METHOD), files)
    job = JobStore(tmp_path_factory.mktemp("alone")).open(request, passes, costume=files)
    return job, run(job, ModelCache(), RunCallbacks()), files


def _run_pooled(tmp_path, job_of, callbacks=None):
    pool = WorkerPool((LocalWorker(), LocalWorker()), LocalWorker)
    with closing(pool):
        job = job_of(JobStore(tmp_path))
        return job, run_pooled(job, pool, callbacks or RunCallbacks())


def test_a_costume_is_made_of_the_views_that_are_chosen(dressed, charts):
    job, report, _ = dressed
    assert job.look().keyframes == (0, 2)
    # a disc in a square
    assert 0.5 < report["costume"]["known"] < 0.9 and any("of the surface" in warning for warning in report["warnings"])
    assert report["costume"]["surfaces"] == {"1": "Plate"} and report["textures"] == ["texture_1"]
    costume = Costume.decode(job.costume()[COSTUME])
    atlas = decode_rgba(job.textures()["texture_1"])
    assert (atlas[..., 3] == 255).all() and (costume.charts.rest == charts.rest).all()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda uv: uv * 0, "The texture map of 'Plate' is a single point"),
        (lambda uv: uv * 0 + 0.7, "The texture map of 'Plate' is a single point"),
        (lambda uv: uv[[0, 0]], "of the texture map of 'Plate' belongs to several places"),
        (lambda uv: uv, ""),
    ],
)
def test_a_texture_map_that_is_missing_or_folded_is_said(tmp_path, tiny, passes, charts, spoil, said):
    own = replace(charts, uv=spoil(charts.uv).astype(np.float32))
    files = {CHARTS: own.encode()}
    request = with_files(samples.request(FRAMES, model=tiny, method=METHOD), files)
    report = run(JobStore(tmp_path).open(request, passes, costume=files), ModelCache(), RunCallbacks())
    about = [warning for warning in report["warnings"] if "texture map" in warning]
    assert len(about) == bool(said) and all(said in warning for warning in about)


def test_workers_make_the_same_costume_and_the_same_shots_in_it(tmp_path, tiny, passes, dressed):
    job, report, files = dressed
    pooled, again = _run_pooled(tmp_path / "dress", lambda store: store.open(job.request, passes, costume=files))
    assert pooled.name == job.name and again["costume"] == report["costume"]
    assert pooled.costume() == job.costume() and pooled.textures() == job.textures()
    assert all((one == two).all() for one, two in zip(job.images(), pooled.images(), strict=True))
    worn = job.costume()
    request = with_files(samples.request(3, model=tiny, method=METHOD, prompt="a man in a forest"), worn)
    three = passes.select(range(3))
    alone = JobStore(tmp_path / "alone").open(request, three, costume=worn)
    report = run(alone, ModelCache(), RunCallbacks())
    assert report["costume"]["painted"] == 0.0 and alone.textures() == job.textures()
    # one frame for the others to attend to: all of the surface is known
    assert alone.look().keyframes == (0,)
    pooled, _ = _run_pooled(tmp_path / "shot", lambda store: store.open(request, three, costume=worn))
    assert all((one == two).all() for one, two in zip(alone.images(), pooled.images(), strict=True))


def test_paint_makes_another_job_and_comes_back(tmp_path, tiny, passes, dressed):
    job, _, _ = dressed
    image = decode_rgba(job.textures()["texture_1"])
    image[:128, :, :3] = (250, 240, 20)
    files = job.costume() | {f"{PAINT}1": encode_png(image)}
    store, plain = JobStore(tmp_path), samples.request(2, model=tiny, method=METHOD)
    painted = store.open(with_files(plain, files), passes.select(range(2)), costume=files)
    report = run(painted, ModelCache(), RunCallbacks())
    assert 0.4 < report["costume"]["painted"] < 0.6
    back = decode_rgba(painted.textures()["texture_1"])
    assert np.abs(back[:110, :, :3].astype(int) - (250, 240, 20)).max() < 6
    assert (back[150:, :, :3] == decode_rgba(job.textures()["texture_1"])[150:, :, :3]).all()


def test_what_does_not_belong_together_is_refused(tmp_path, tiny, passes, dressed):
    job, _, _ = dressed
    store, worn = JobStore(tmp_path), job.costume()
    request = samples.request(2, model=tiny, method=METHOD)
    with pytest.raises(ShotError, match="did not come with its shot"):
        store.open(with_files(request, worn), passes.select(range(2)))
    with pytest.raises(ShotError, match="no costume that they belong to"):
        files = {f"{PAINT}1": job.textures()["texture_1"]}
        store.open(with_files(request, files), passes.select(range(2)), costume=files)
    with pytest.raises(ShotError, match="makes no texture"):
        store.open(with_files(samples.request(2, model=tiny), worn), passes.select(range(2)), costume=worn)
    moved = samples.passes(2)
    moved.rest_position[..., 2] += np.linspace(0.0, 3.0, 64, dtype=np.float32)[:, None] * (moved.mask > 0)
    other = store.open(with_files(request, worn), moved, costume=worn)
    with pytest.raises(ShotError, match="another surface"):
        run(other, ModelCache(), RunCallbacks())
