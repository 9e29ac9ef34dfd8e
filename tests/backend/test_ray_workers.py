"""Workers as actors of a real Ray on this machine."""

from __future__ import annotations

import importlib.util
import signal
import socket
from contextlib import suppress

import numpy as np
import psutil
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("ray") is None:
    pytest.skip("ray is not installed", allow_module_level=True)

from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run  # noqa: E402
from latentman.backend.jobs.store import JobStore  # noqa: E402
from latentman.backend.video.run_context import Interrupted  # noqa: E402
from latentman.backend.workers.options import WorkerOptions  # noqa: E402
from latentman.backend.workers.ray_workers import RayCluster  # noqa: E402
from latentman.backend.workers.shot import run_pooled  # noqa: E402
from latentman.shared.load_options import LoadOptions  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.test_workers import METHOD  # noqa: E402

# a Ray of one's own takes most of a minute to start and end
pytestmark = pytest.mark.slow
FRAMES, WORKERS = 20, 2


@pytest.fixture(scope="module")
def cluster():
    found = RayCluster(WorkerOptions(WORKERS), LoadOptions(device="cpu"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def shot(tiny):
    return samples.request(FRAMES, model=tiny, method=METHOD), samples.passes(FRAMES, shift=1)


def list_actors() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if "UnitActor" in process.name()]


def test_ray_makes_the_same_frames_also_when_a_worker_is_killed(tmp_path, cluster, shot):
    request, passes = shot
    alone = JobStore(tmp_path / "alone").open(request, passes)
    torch.set_num_threads(1)
    run(alone, ModelCache(LoadOptions(device="cpu")), RunCallbacks())
    job, told, killed = JobStore(tmp_path / "pooled").open(request, passes), [], []

    def kill(index: int) -> None:
        told.append(index)
        # the key frames are there, and both work on the others
        if len(told) == len(job.look().keyframes if job.look() else range(99)) + 1 and not killed:
            killed.append(list_actors()[0])
            killed[0].send_signal(signal.SIGKILL)

    report = run_pooled(job, cluster.pool, RunCallbacks(frame_stored=kill))
    assert killed and sorted(told) == list(range(FRAMES))
    assert all(np.array_equal(job.read_frame(n), alone.read_frame(n)) for n in range(FRAMES))
    assert report["device"] == "cpu"


def test_nothing_listens_beyond_loopback(cluster):
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = []
    for process in processes:
        with suppress(psutil.Error):
            listening += [c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert listening and {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}


def test_a_cancelled_shot_ends_on_every_worker(tmp_path, cluster, shot):
    told: list[int] = []
    job = JobStore(tmp_path).open(*shot)
    with pytest.raises(Interrupted):
        run_pooled(job, cluster.pool, RunCallbacks(frame_stored=told.append, should_stop=lambda: len(told) >= 3))
    assert len(told) < FRAMES
    # whoever comes next finds the workers free
    again = JobStore(tmp_path / "again").open(*shot)
    assert run_pooled(again, cluster.pool, RunCallbacks())["frames"]["made"] == FRAMES


@pytest.mark.parametrize(
    ("options", "load_options", "sentence"),
    [
        (WorkerOptions(address="nowhere"), {}, "is no address of a Ray cluster"),
        (WorkerOptions(1), {"device": "cuda:1"}, "take their devices from Ray"),
    ],
)
def test_what_cannot_be_used_is_said(options, load_options, sentence):
    with pytest.raises(ShotError, match=sentence):
        RayCluster(options, LoadOptions(**load_options))


def test_an_address_that_nobody_answers_is_said():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ShotError, match="Nobody answers at"):
        RayCluster(WorkerOptions(address=address), LoadOptions())
