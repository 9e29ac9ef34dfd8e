"""Metrics, shots and methods of other packages: what the pages show works as it stands there, and what is broken is a sentence."""

from __future__ import annotations

import json
import re
import sys
import tomllib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.latentman_pipeline import LatentManPipeline  # noqa: E402
from latentman.backend.method_plugins import PLUGINS as METHODS  # noqa: E402
from latentman.backend.method_plugins import find_method  # noqa: E402
from latentman.backend.metrics.frames import prepare_frame  # noqa: E402
from latentman.backend.metrics.metric_plugins import PLUGINS as METRICS  # noqa: E402
from latentman.backend.metrics.metric_plugins import load_metrics, make_parts  # noqa: E402
from latentman.backend.metrics.shot_plugins import load_shot  # noqa: E402
from latentman.backend.pictures import write_frames  # noqa: E402
from latentman.shared import passes_folder  # noqa: E402
from latentman.shared.manifest import PassesManifest  # noqa: E402
from latentman.shared.shot import PRESETS, ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402
from tests.checkout import ROOT  # noqa: E402

PAGES = ROOT / "docs" / "development"


def read_example(page: str) -> tuple[str, str, dict[str, str]]:
    """The last example of a page: its code, the group of its entry points, and these."""
    text = (PAGES / page).read_text(encoding="utf-8")
    code, project = (re.findall(rf"```{kind}\n(.*?)```", text, re.S)[-1] for kind in ("python", "toml"))
    ((group, entries),) = tomllib.loads(project)["project"]["entry-points"].items()
    return code, group, entries


def install(folder, module: str, code: str, group: str, entries: dict[str, str]) -> None:
    """A distribution as an installer would leave it."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *(f"{n} = {v}" for n, v in entries.items())]) + "\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that packages are installed into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return root / "whole"


def install_page(site, page: str) -> str:
    """Installs a page's example; its name."""
    code, group, entries = read_example(page)
    ((name, value),) = entries.items()
    install(site, value.partition(":")[0], code, group, entries)
    return name


def save_passes(folder, frames=3, size=64):
    passes = samples.passes(frames, size)
    passes_folder.save(folder, passes, PassesManifest(size, size, 20.0, tuple(range(1, frames + 1)), 1.0, 2.0))
    return passes


def test_a_metric(site, tmp_path, capsys):
    name = install_page(site, "add_a_metric.md")
    passes = save_passes(tmp_path / "passes")
    images = np.full((3, 64, 64, 3), 100, np.uint8)
    images[2][passes.mask[2] > 0] = 140
    write_frames(tmp_path / "frames", (1, 2, 3), images)
    command = ["measure", str(tmp_path / "passes"), str(tmp_path / "frames")]
    assert main(command) == 0
    assert "pulse" not in json.loads(capsys.readouterr().out), "nobody asked for it"
    assert main([*command, "--metric", name, "--json", str(tmp_path / "figures.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pulse"] == 40 and found["hmse"] > 0
    assert json.loads((tmp_path / "figures.json").read_text())["metrics"] == {"pulse": "my_metrics 1.0"}
    for wrong, sentence in (
        (["--metric", "nonsense"], "There is no metric 'nonsense'; choose pulse."),
        (["--metric", name, "--metric", name], "asked for twice"),
    ):
        assert main([*command, *wrong]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["plugins"]) == 0
    assert "metric  pulse  [my_metrics 1.0]  pulse (levels, good is lower): Largest jump" in capsys.readouterr().out


def test_shots_metrics_and_methods_in_an_evaluation(site, model, tmp_path, capsys, monkeypatch):
    metric = install_page(site, "add_a_metric.md")
    shot = install_page(site, "add_a_shot.md")
    method = install_page(site, "add_a_preset.md")
    save_passes(site / shot, 2, 32)
    assert load_shot(shot).name == shot and load_shot(shot).passes.frame_count == 2
    assert main(["plugins"]) == 0
    shown = capsys.readouterr().out
    assert "shot  cartwheel  [my_shots 1.0]  A cartwheel before a still camera" in shown
    assert "method  crisp  [my_methods 1.0]  Crisp. As Surface, but" in shown

    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    command = ["evaluate", shot, "--variants", f"cross_frame,{method}", "--prompt", "a man", "--seed", "1", "--steps", "2"]
    assert main([*command, "--model", str(model), "--metric", metric, "--out", str(out), "--device", "cpu"]) == 0
    rows = json.loads((out / "results.json").read_text())["runs"]
    assert {row["shot"] for row in rows} == {shot} and {"cross_frame", method} <= {row["variant"] for row in rows}
    assert all(row["pulse"] is not None for row in rows)
    for table in ("results.md", "results.csv"):
        assert "pulse" in (out / table).read_text()
    assert main(["evaluate", "nowhere", "--out", str(out), "--model", str(model)]) == 2

    # the method is the one that the page composes
    assert find_method(method).fusion.sharpness == 100
    passes = save_passes(tmp_path / "passes")
    pipe = LatentManPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)

    def make(chosen):
        generator = torch.Generator().manual_seed(1)
        return pipe("a man", passes, 2, method=chosen, generator=generator, output_type="np").frames

    assert np.array_equal(make(method), make(find_method(method)))
    command = ["generate", str(tmp_path / "passes"), "--prompt", "a man", "--model", str(model), "--steps", "1"]
    command += ["--jobs", str(tmp_path / "jobs"), "--out", str(tmp_path / "frames"), "--device", "cpu", "--method"]
    capsys.readouterr()
    assert main([*command, method]) == 0 and (tmp_path / "frames" / "0003.png").is_file()
    for wrong, sentence in (
        (["crispy"], "There is no method 'crispy'; choose surface, "),
        ([method, "--preset", "surface"], "leave --preset, --plugin and the techniques' settings out"),
        ([method, "--no-fusion"], "leave --preset, --plugin and the techniques' settings out"),
    ):
        assert main([*command, *wrong]) == 2
        said = capsys.readouterr()
        assert sentence in said.out + said.err


BROKEN = """
from latentman.backend.metrics.figures import Figure
from latentman.backend.metrics.metric_plugins import Metric
from latentman.shared.shot import Keyframes, Method

def describe(name):
    return (Figure(name, "levels", "lower", "", "", ""),)

class Nothing(Metric):
    pass

class Taken(Metric):
    describes = describe("hmse")

class Fails(Metric):
    describes = describe("fails")
    def add(self, frame):
        raise OSError("no weights")

class Others(Metric):
    describes = describe("wanted")
    def add(self, frame):
        pass
    def figures(self):
        return {"other": 1.0}

class Same(Others):
    describes = describe("wanted")

cannot = Method(keyframes=Keyframes())
number = 3

def raises():
    raise OSError("no disk")

def nothing():
    pass
"""


def test_what_is_broken_is_named_when_it_is_asked_for(site, tmp_path, capsys):
    names = {"nothing": "Nothing", "taken": "Taken", "fails": "Fails", "others": "Others", "same": "Same", "number": "number"}
    install(site, "broken", BROKEN, "latentman.metrics", {name: f"broken:{value}" for name, value in names.items()})
    install(site, "more", "", "latentman.methods", {"cannot": "broken:cannot", "number": "broken:number", "surface": "broken:x"})
    install(site, "shots", "", "latentman.shots", {"raises": "broken:raises", "empty": "broken:nothing", "number": "broken:number"})
    for load, name, sentence in (
        (
            METRICS.load,
            "nothing",
            "'nothing' of broken 1.0 cannot be used (TypeError: it describes no figures); update that package",
        ),
        (METRICS.load, "taken", "ValueError: 'hmse' cannot be a figure's name"),
        (METRICS.load, "number", "it is not a class derived from Metric"),
        (METHODS.load, "cannot", "Key frames need fusion"),
        (METHODS.load, "number", "neither a Method nor a Preset"),
        (load_shot, "raises", "The shot 'raises' cannot be made (OSError: no disk)"),
        (load_shot, "empty", "is a NoneType, and neither a folder nor a Shot"),
        (load_shot, "number", "it is not a function"),
    ):
        with pytest.raises(ShotError, match=re.escape(sentence)) as caught:
            load(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ShotError, match=re.escape("The metrics 'others' and 'same' both give wanted")):
        load_metrics(["others", "same"])
    parts = make_parts(load_metrics(["fails", "others"]))
    with pytest.raises(ShotError, match=re.escape("The metric 'fails' failed (OSError: no weights)")):
        parts["plugin fails"].add(prepare_frame(0, np.zeros((16, 16, 3), np.uint8), samples.passes(1, 16)))
    with pytest.raises(ShotError, match="gave other instead of wanted"):
        parts["plugin others"].figures()
    # a name of ours stays ours
    assert find_method("surface") is PRESETS["surface"].method and "surface" not in METHODS.find()
    with pytest.raises(ShotError, match="'surface_quality' is no longer there; use 'surface' instead"):
        find_method("surface_quality")
    assert main(["plugins"]) == 0
    assert "metric  nothing  [broken 1.0]  The metric 'nothing' of broken" in capsys.readouterr().out
