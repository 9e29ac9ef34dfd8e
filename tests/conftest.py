"""Every test run has configuration, keys and jobs of its own; nothing of the user's is touched."""

from __future__ import annotations

import os
import tempfile

import pytest

from tests.file_scheduling import pytest_xdist_make_scheduler  # noqa: F401  # a hook
from tests.rare import pytest_collection_modifyitems  # noqa: F401  # a hook

_home = tempfile.mkdtemp(prefix="latentman-tests-")
os.environ["LATENTMAN_CONFIG"] = os.path.join(_home, "config")
os.environ["LATENTMAN_DATA"] = os.path.join(_home, "data")
os.environ["LATENTMAN_LOGS"] = os.path.join(_home, "logs")


@pytest.fixture
def rng():
    """A seeded generator."""
    import numpy as np

    return np.random.default_rng(5)
