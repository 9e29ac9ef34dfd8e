"""Fixtures of the backend's tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny random Stable Diffusion's folder."""
    # torch comes with it, and some of these tests are for where there is none
    from tests.backend.tiny import write_sd

    root = tmp_path_factory.mktemp("tiny")
    write_sd(root)
    return str(root / "whole")


@pytest.fixture
def server(tmp_path):
    """A running server."""
    from tests.backend.wire import RunningServer

    running = RunningServer(tmp_path / "jobs")
    yield running
    running.close()
