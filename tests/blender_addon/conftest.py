"""A clean Blender and a running backend for the add-on's tests."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
import pytest

from latentman.blender_addon import moving, operators, properties, results, undo_steps
from latentman.blender_addon.camera_framing import frame_character
from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.connection import Connection
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.retarget import retarget
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import apply_motion
from latentman.shared.endpoint import free_port
from latentman.shared.skeleton import SMPL_REST_JOINTS

BACKEND_PYTHON = os.environ.get("LATENTMAN_PYTHON", sys.executable)


_exit_status = 0


def pytest_sessionfinish(session, exitstatus):
    """Remember how the tests ended."""
    global _exit_status
    _exit_status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Leave with the tests' status before the interpreter takes itself apart: Blender 4.2 as a package crashes then, and later ones
    wait for ever for a thread of their own that closes files, once certain files have been opened."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_exit_status)


@pytest.fixture(scope="session", autouse=True)
def _registered():
    properties.register()
    yield
    # Blender must not meet our classes when it frees its memory at exit
    properties.unregister()


@pytest.fixture(scope="module")
def registered_operators():
    """The add-on's operators, as Blender has them while it is switched on."""
    operators.register()
    yield
    operators.unregister()


@pytest.fixture(scope="session")
def body_model():
    """The mannequin's arrays."""
    return load(MANNEQUIN)


@pytest.fixture
def empty_scene():
    """A scene with nothing in it."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 20
    bpy.context.scene.frame_end = 24
    return bpy.context.scene


@pytest.fixture
def character(empty_scene, body_model):
    """The mannequin's armature."""
    return add_character(bpy.context, body_model, "Mannequin")


@pytest.fixture
def shot_scene(empty_scene, character):
    """A walking mannequin and a camera."""
    apply_motion(character, read(BUNDLED).get_motion(0), 1, 20.0)
    frame_character(bpy.context, empty_scene, get_bodies(character))
    return empty_scene


def start_backend(connection, jobs):
    """Start a real backend process that keeps its jobs in a folder, and wait until it is loaded."""
    connection.start(BACKEND_PYTHON, f"127.0.0.1:{free_port()}", jobs)
    wait_until(connection, lambda: bool(connection.device or connection.error), 120)
    assert connection.connected, connection.error


@dataclass(frozen=True)
class SharedBackend:
    """A backend for all tests that need no more than one: where it listens, and its jobs."""

    endpoint: str
    jobs: Path


@pytest.fixture(scope="session")
def shared_backend(tmp_path_factory):
    """The backend of this run of the tests."""
    jobs, first = tmp_path_factory.mktemp("shared") / "jobs", Connection()
    start_backend(first, jobs)
    yield SharedBackend(first.get_client().endpoint, jobs)
    first.stop(15)


@pytest.fixture
def connection(shared_backend):
    """A connection to the shared backend, which knows no job yet."""
    connection = Connection()
    connection.connect(shared_backend.endpoint)
    wait_until(connection, lambda: bool(connection.device or connection.error), 120)
    assert connection.connected, connection.error
    yield connection
    connection.cancel_tasks()
    assert wait_until(connection, lambda: not connection.busy, 60)
    connection.stop()
    # the next test begins with an empty store, as if it had a backend of its own
    for path in shared_backend.jobs.glob("*"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def own_connection(tmp_path):
    """A connection to a backend process of the test's own, which keeps its jobs in ``tmp_path``."""
    connection = Connection()
    start_backend(connection, tmp_path / "jobs")
    yield connection
    connection.stop()


@pytest.fixture(scope="module")
def registered_parts():
    """The parts of the add-on that listen to undo, redo, saving and opening, registered as in Blender, and the operators."""
    parts = (undo_steps, moving, results, operators)
    for part in parts:
        part.register()
    yield
    for part in reversed(parts):
        part.unregister()


@pytest.fixture(scope="session")
def play():
    """A few frames of a walk as rotations, as a capture would give them: neck, head, wrists and collars move, too, which joints
    alone cannot show."""
    pytest.importorskip("torch")
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    from tests.motion_sources import Performance

    motion, rest = read(BUNDLED).get_motion(0), np.array(SMPL_REST_JOINTS)
    found = retarget(motion, rest)
    at = np.linspace(5, motion.frame_count - 5, 16).astype(int)
    rotations, pelvis = found.local_rotations[at].copy(), found.pelvis[at].copy()
    rng = np.random.default_rng(4)
    for joint in (12, 15, 20, 21, 13, 14):
        swing = np.cumsum(rng.normal(0, 0.05, (len(at), 3)), 0)
        rotations[:, joint] = rotations[:, joint] @ rotation.from_rotvec(swing).as_matrix()
    return Performance(rotations, pelvis, rest)


@pytest.fixture
def dressing_panel(connection, shot_scene, character, tmp_path, monkeypatch):
    """The panel's settings for quick shots of the mannequin, and the buttons of *Dress* and *Generate*."""
    for name in ("dressing", "generate", "polls", "results"):
        monkeypatch.setattr(f"latentman.blender_addon.operators.{name}.connection", connection)
    operators.register()
    settings = properties.get_settings(bpy.context)
    settings.character, settings.output = character, str(tmp_path)
    settings.width = settings.height = 64
    settings.steps = 1
    yield settings
    operators.unregister()
