"""The backend of a command: one that runs, or one that is started and ended with it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import bpy
import msgspec

from ...shared import console, shot
from ...shared.arguments import add_settings, read_given_settings
from ...shared.endpoint import EndpointError, free_port
from ...shared.interrupts import SignalWatch
from ...shared.load_options import LoadOptions
from ...shared.model_profile import ModelProfile
from ...shared.task import TaskState
from .. import preferences
from ..connection import Connection
from ..tasks.task import Task

#: how long a backend may take to start, to stop, and to say that a piece of work has been cancelled
START_SECONDS, STOP_SECONDS, CANCEL_SECONDS = 120.0, 15.0, 10.0


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """Which backend is used, and how one that is started runs models."""
    parser.add_argument("--endpoint", metavar="ADDRESS", help="address of a running backend; by default one is started")
    add_settings(parser, LoadOptions)


def wait_until(connection: Connection, condition: Callable[[], bool], seconds: float = float("inf")) -> bool:
    """Process events until a condition holds; returns False when the time runs out before that."""
    return connection.wait_until(condition, seconds)


def connect(connection: Connection, args: argparse.Namespace, watch: SignalWatch) -> None:
    """Connect to a running backend, or start one on a free port. Raises ``ShotError`` when that fails, and ``Interrupted``."""
    endpoint, given = args.endpoint, read_given_settings(args, LoadOptions)
    if endpoint and given:
        raise shot.ShotError(
            "backend",
            f"--{next(iter(given))} is for a backend that is started here, and --endpoint names one that runs; give one of them.",
        )
    if endpoint:
        try:
            connection.connect(endpoint)
        except EndpointError as error:
            raise shot.ShotError("backend", str(error)) from error
    else:
        python = preferences.get_backend_python(bpy.context)
        if not python:
            raise shot.ShotError(
                "backend",
                "The backend is not set up; run latentman setup, name a Python that has its packages in LATENTMAN_PYTHON, or give "
                "--endpoint.",
            )
        try:
            address = "127.0.0.1:" + str(free_port())
            options = msgspec.structs.replace(preferences.get_load_options(bpy.context), **given)
            environment = preferences.get_backend_environment(bpy.context)
            connection.start(python, address, environment=environment, options=options)
        except OSError as error:
            raise shot.ShotError(
                "backend", f"The backend cannot be started with {python} ({error}); choose another Python."
            ) from error
    wait_until(connection, lambda: connection.connected or bool(connection.error) or watch.requested, START_SECONDS)
    # Ctrl-C in a terminal reaches the backend, too, whose end is no failure then
    watch.check()
    if not connection.connected:
        raise shot.ShotError("backend", connection.error or "The backend did not answer in time.")


def wait_for_task(connection: Connection, task: Task, watch: SignalWatch, out: console.Console) -> None:
    """Process events until the task has ended; an interrupted connection is told of. Raises ``Interrupted`` when it was asked to
    stop, and had been cancelled or had time for that."""
    end, was_interrupted = float("inf"), False
    while not task.done and time.monotonic() < end:
        connection.process_events()
        if connection.interrupted and not was_interrupted:
            out.warn("The connection to the backend is interrupted; it is tried again, and nothing is lost.", code="connection")
        was_interrupted = connection.interrupted
        if watch.requested and task.state is not TaskState.CANCELLING:
            task.cancel()
            end = time.monotonic() + CANCEL_SECONDS
        time.sleep(0.002)
    if not task.succeeded:
        watch.check()


def ask_profile(connection: Connection, model: str, watch: SignalWatch) -> ModelProfile:
    """How the backend says that a model likes to be run. Raises ``ShotError`` and ``Interrupted``."""
    profile = connection.ask_profile(model, should_stop=lambda: watch.requested)
    watch.check()
    assert profile is not None
    return profile
