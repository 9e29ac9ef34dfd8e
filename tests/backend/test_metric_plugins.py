"""Metrics of other packages: what one of them does wrong is a sentence, and never changes the figures that are not its own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from latentman.backend.metrics.measuring import measure_saved
from latentman.backend.metrics.metric_plugins import load_metrics
from latentman.backend.metrics.shot_plugins import load_shot
from latentman.shared import passes_folder
from latentman.shared.manifest import PassesManifest
from latentman.shared.shot import ShotError
from tests import samples

FRAMES, SIDE = (1, 2, 3), 32
#: the head of the package's module; each test adds its class ``M``
HEAD = """
import sys
from latentman.backend.metrics.figures import Figure
from latentman.backend.metrics.metric_plugins import Metric

def figure(name, better="lower"):
    return Figure(name, "levels", better, "what it is", "0", "none")

class M(Metric):
    describes = (figure("mine"),)
    def add(self, frame): pass
    def figures(self): return {"mine": 1.0}
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Passes, and a clip of noise beside them."""
    root = tmp_path_factory.mktemp("saved")
    passes_folder.save(root / "disc", samples.passes(len(FRAMES), SIDE, 3), PassesManifest(SIDE, SIDE, 20.0, FRAMES, 2.0, 4.0))
    random = np.random.default_rng(3)
    (root / "frames").mkdir()
    for n in FRAMES:
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(root / "frames" / f"{n}.png")
    return root


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package whose metric ``given`` and whose shot ``staged`` a module of its own has."""

    def make(body):
        module = f"given_{tmp_path.name}"
        info = tmp_path / "given-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: given\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[latentman.metrics]\ngiven = {module}:M\n[latentman.shots]\nstaged = {module}:stage\n"
        )
        (tmp_path / f"{module}.py").write_text(HEAD + body)
        monkeypatch.syspath_prepend(tmp_path)

    return make


@pytest.mark.parametrize(
    "write",
    [
        "frame.image[...] = 0",
        "frame.mask[...] = False",
        "frame.passes.rest_position[...] = 0",
        "frame.surface.row_of[...] = 0",
        "frame.image += 1",
    ],
)
def test_a_metric_cannot_change_what_others_measure(install, saved, write):
    install(f"M.add = lambda self, frame: exec({write!r}, {{'frame': frame}})")
    with pytest.raises(ShotError, match=r"The metric 'given' failed .*read-only"):
        measure_saved(saved / "disc", [saved / "frames"], metrics=load_metrics(["given"]))


def test_a_metric_that_reads_changes_no_figure(install, saved):
    install("M.add = lambda self, frame: frame.image.copy().fill(0)")
    plain = measure_saved(saved / "disc", [saved / "frames"]).figures
    found = measure_saved(saved / "disc", [saved / "frames"], metrics=load_metrics(["given"])).figures
    assert found == plain | {"mine": 1.0}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("float('inf')", "gave inf for mine, which is no finite number"),
        ("-float('inf')", "gave -inf for mine"),
        ("'12'", "gave '12' for mine"),
        ("b'1'", "gave b'1' for mine"),
        ("None", "failed .TypeError"),
        ("10 ** 400", "failed .OverflowError"),
        ("sys.exit('bye')", "failed .SystemExit: bye"),
        ("int('x\\ny')", "failed .ValueError: [^\n]*; update"),
    ],
)
def test_what_is_no_figure_is_a_sentence(install, saved, value, said):
    install(f"M.figures = lambda self: {{'mine': {value}}}")
    with pytest.raises(ShotError, match=said):
        measure_saved(saved / "disc", [saved / "frames"], metrics=load_metrics(["given"]))


def test_figures_that_are_no_numbers_are_none(install, saved):
    install("M.figures = lambda self: {'mine': float('nan')}")
    found = measure_saved(saved / "disc", [saved / "frames"], metrics=load_metrics(["given"])).figures
    assert found["mine"] is None and json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ('figure("hmse")', "'hmse' cannot be a figure's name"),
        ('figure("contrast_level")', "'contrast_level' cannot be"),
        ('figure("surface_variance_low_lag8")', "cannot be"),
        ('figure("model_fingerprint")', "cannot be"),
        ('figure("key")', "cannot be"),
        ("figure(5)", "'5' cannot be"),
        ('figure("one"), figure("one")', "describes one twice"),
        ('figure("one", "sideways")', "'sideways' is not what is good; choose lower, higher"),
        ('"one"', "describes no figures"),
    ],
)
def test_names_of_other_columns_cannot_be_taken(install, described, said):
    install(f"M.describes = ({described},)")
    with pytest.raises(ShotError, match=said):
        load_metrics(["given"])


def test_a_shot_that_ends_the_program_is_a_sentence(install):
    install("def stage(): sys.exit(3)")
    with pytest.raises(ShotError, match=r"The shot 'staged' cannot be made .SystemExit: 3"):
        load_shot("staged")
