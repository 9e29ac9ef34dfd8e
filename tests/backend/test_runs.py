"""Runs are what they say: what an evaluation takes from its folder is what would be made anew, whatever lies there."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.metrics.reference_shots import name_shots  # noqa: E402
from latentman.backend.metrics.run_identity import PROVENANCE  # noqa: E402
from latentman.backend.metrics.shots import Shot, check_shots  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.shared import passes_folder  # noqa: E402
from latentman.shared.manifest import PassesManifest  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from latentman.shared.version import VERSION  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402
from tests.checkout import ROOT  # noqa: E402

FRAMES, SIDE = 3, 64


def _save(folder, shift=3):
    passes_folder.save(
        folder, samples.passes(FRAMES, SIDE, shift), PassesManifest(SIDE, SIDE, 20.0, tuple(range(1, FRAMES + 1)), 2.0, 4.0)
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return root / "whole"


@pytest.fixture
def evaluate(model, tmp_path, monkeypatch, capsys):
    """Evaluate shots in one folder; returns (rows, how many runs were made, what was said)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, weights=model, out="out", code=0):
        given = [str(argument) for argument in arguments]
        usual = ["--model", str(weights), "--steps", "2", "--prompt", "a man", "--seed", "4", "--variants", "cross_frame"]
        assert main(["evaluate", *usual, "--out", out, *given]) == code
        said = capsys.readouterr().err
        rows = json.loads((tmp_path / out / "results.json").read_text())["runs"] if code == 0 else []
        return rows, said.count("s per frame"), said

    return run


def _get(rows, variant="cross_frame", **wanted):
    (row,) = [row for row in rows if row["variant"] == variant and all(row[key] == value for key, value in wanted.items())]
    return row


@pytest.mark.slow
def test_two_shots_of_one_name_never_share_runs(evaluate, tmp_path):
    a, b = _save(tmp_path / "a" / "shot"), _save(tmp_path / "b" / "shot", shift=5)
    fresh = _get(evaluate(b, out="fresh")[0])
    first, made, _ = evaluate(a)
    assert made == 2
    second, made, said = evaluate(b)
    assert made == 2 and "what was there has other passes" in said
    assert _get(second)["hmse"] == pytest.approx(fresh["hmse"]) != _get(first)["hmse"]
    assert evaluate(a)[:2] == (first, 0), "the first shot's runs are still there, and are its own"
    rows, _, _ = evaluate(a, b)
    assert {row["shot"] for row in rows} == {"a_shot", "b_shot"}
    assert _get(rows, shot="b_shot")["hmse"] == pytest.approx(fresh["hmse"])
    # the same passes on another way, and a copy of them
    (tmp_path / "link").symlink_to(a)
    for other in (f"{a}/", tmp_path / "link", "a/../a/shot"):
        assert "given twice" in evaluate(a, other, code=2)[2]
    shutil.copytree(a, tmp_path / "copy")
    assert "have the same passes" in evaluate(a, tmp_path / "copy", code=2)[2]


def test_what_changed_under_an_old_path_is_made_anew(evaluate, model, tmp_path):
    shot, weights = _save(tmp_path / "shot"), shutil.copytree(model, tmp_path / "weights")
    first, made, _ = evaluate(shot, weights=weights)
    assert made == 2 and evaluate(shot, weights=weights)[1] == 0
    # a copy of the model, and files that were only touched, are the same model
    assert evaluate(shot, weights=shutil.copytree(model, tmp_path / "elsewhere"))[1] == 0
    for path in weights.rglob("*.safetensors"):
        os.utime(path)
    assert evaluate(shot, weights=weights)[1] == 0
    unet = next((weights / "unet").glob("*.safetensors"))
    state = unet.stat()
    tensors = load_file(unet)
    name = next(name for name, value in sorted(tensors.items()) if name.endswith("conv_in.weight"))
    save_file(tensors | {name: -tensors[name]}, unet, metadata={"format": "pt"})
    os.utime(unet, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert unet.stat().st_size == state.st_size, "nothing but the contents says that these are other weights"
    rows, made, said = evaluate(shot, weights=weights)
    assert made == 2 and "other weights" in said and _get(rows)["model_fingerprint"] != _get(first)["model_fingerprint"]
    assert _get(rows)["hmse"] != _get(first)["hmse"]
    _save(shot, shift=5)
    assert evaluate(shot)[1] == 2, "other passes at the same place"


@pytest.mark.parametrize(
    ("arguments", "column", "value"),
    [
        (("--guidance-scale", "4"), "guidance_scale", 4.0),
        (("--scheduler", "euler"), "scheduler", "euler"),
        (("--dtype", "bfloat16"), "dtype", "bfloat16"),
        (("--steps", "3"), "steps", 3),
    ],
)
def test_settings_make_other_runs_and_stand_in_the_results(evaluate, tmp_path, arguments, column, value):
    shot = _save(tmp_path / "shot")
    first, _, _ = evaluate(shot)
    rows, made, said = evaluate(shot, *arguments)
    assert made == 2 and _get(rows)[column] == value != _get(first)[column]
    assert "other settings" in said or "another device, precision" in said
    assert evaluate(shot)[:2] == (first, 0), "the former runs have not been written over"


@pytest.mark.slow
def test_runs_of_other_versions_and_altered_frames_are_not_taken(evaluate, tmp_path, monkeypatch):
    shot = _save(tmp_path / "shot")
    rows, _, _ = evaluate(shot)
    folder = tmp_path / "out" / _get(rows)["folder"]
    # frames that somebody has put there
    Image.new("RGB", (SIDE, SIDE), "red").save(folder / "0002.png")
    again, made, said = evaluate(shot)
    assert made == 1 and "not as they were made" in said and _get(again)["hmse"] == _get(rows)["hmse"]
    # half a run, and a record that is damaged
    (folder / "0003.png").write_bytes((folder / "0003.png").read_bytes()[:50])
    assert evaluate(shot)[1] == 1
    for damage in (b"", b"[]", b"null", b"{", b'{"made_of": 3}'):
        (folder / "run.json").write_bytes(damage)
        assert evaluate(shot)[1] == 1
    # a folder as earlier versions left it
    former = folder.with_name("cross_frame")
    folder.rename(former)
    _, made, said = evaluate(shot)
    assert made == 1 and "of an earlier version" in said and (former / "0001.png").exists()
    monkeypatch.setattr("latentman.backend.metrics.run_identity.VERSION", "0.0.1")
    _, made, said = evaluate(shot)
    assert made == 2 and "another version of the code" in said


def test_results_say_what_made_them(evaluate, model, tmp_path):
    rows, _, _ = evaluate(_save(tmp_path / "shot"))
    out = tmp_path / "out"
    own = load(str(model), torch.device("cpu")).profile
    row = _get(rows)
    assert (row["version"], row["torch"], row["device"], row["dtype"]) == (VERSION, torch.__version__, "cpu", "float32")
    assert row["steps"] == 2 and row["guidance_scale"] == own.guidance_scale != 0 and row["scheduler"] == own.scheduler
    assert len(row["model_fingerprint"]) == 24 and row["model"] == str(model)
    assert _get(rows, "blurred")["source"] == "computed from cross_frame" and _get(rows, "blurred")["key"] == row["key"]
    table = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert set(PROVENANCE) <= set(table[0]) and table[0]["model_fingerprint"] == row["model_fingerprint"]
    for page in ("results.md", "report.html"):
        text = (out / page).read_text()
        assert row["model_fingerprint"] in text and f"guidance {own.guidance_scale}" in text and torch.__version__ in text
    assert set(json.loads((out / "made_of.json").read_text())) == {"weights", "presets", "method", "figures"}
    assert "guidance_scale" not in json.loads((out / "results.json").read_text())["means"]["cross_frame"], "it is no figure"


def test_clips_of_others_stand_in_the_same_table(evaluate, tmp_path):
    shot, other = _save(tmp_path / "shot"), _save(tmp_path / "other", shift=5)
    mine = tmp_path / "mine"
    mine.mkdir()
    for n, level in enumerate((0, 100, 200)):
        Image.new("RGB", (SIDE, SIDE), (level, 60, 60)).save(mine / f"frame_{n:04d}.jpg")
    rows, _, said = evaluate(shot, "--frames-from", f"mine={mine}")
    row = _get(rows, "mine")
    assert row["hmse"] > 1000 and row["hmse"] > _get(rows)["hmse"] and "JPEG" in row["source"] and row["model"] == ""
    assert "what it loses is part of every figure" in said and "numbered 0 to 2" in said
    assert "mine" in (tmp_path / "out" / "results.md").read_text()
    assert "to be compared with 2 runs" in evaluate(shot, other, "--frames-from", f"mine={mine}", code=2)[2]
    shutil.copytree(mine, tmp_path / "all" / "other" / "1-4")
    rows, _, said = evaluate(shot, other, "--frames-from", f"all={tmp_path / 'all'}")
    assert "all has 1 of 2 clips" in said
    assert [row["shot"] for row in rows if row["variant"] == "all"] == ["other"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seed", "1e23"), "is not a whole number"),
        (("--seed", "9" * 30), "out of range"),
        (("--seed", "-1"), "out of range"),
        (("--seed", "4"), "given twice"),
        (("--prompt", "a man"), "given twice"),
        (("--prompt", " "), "prompt is empty"),
        (("--json", "/proc/figures.json"), "cannot be written"),
        (("--json", "/proc/self/deeper/figures.json"), "cannot be written"),
        (("--json", "{shot}"), "is a folder"),
        (("--json", "{shot}/passes.json/figures.json"), "cannot be written"),
        (("--out", "/proc/out"), "cannot be written"),
        (("--out", "{shot}/passes.json"), "cannot be written"),
        (("--frames", "0"), "0 frames"),
        (("--frames", "-2"), "-2 frames"),
        (("--frames", "1000000000"), "1000000000 frames"),
        (("--frames", "5"), "saved passes have the frames"),
        (("--frames", "1.5"), "invalid int value"),
        (("--variants", "nonsense"), "no variant 'nonsense'"),
        (("--variants", "cross_frame,"), "no variant ''"),
        (("--variants", ""), "no variant ''"),
        (("--suite", "nonsense"), "invalid choice"),
        (("--model", "nonsense"), "no model 'nonsense'"),
        (("--model", "/nowhere/model"), "/nowhere/model"),
        (("--scheduler", "nonsense"), "is unknown"),
        (("--dtype", "float8"), "is unknown"),
        (("--device", "nonsense"), "nonsense"),
        (("--guidance-scale", "nan"), "out of range"),
        (("--steps", "1001"), "out of range"),
        (("--motion", "nowhere.npz"), "--motion is for the motion suite"),
        (("--frames-from", "nonsense"), "is not NAME=FOLDER"),
        (("--frames-from", "a/b=nonsense"), "is not NAME=FOLDER"),
        (("--frames-from", "../a={shot}"), "is not NAME=FOLDER"),
        (("--frames-from", "bake={shot}"), "is taken"),
        (("--frames-from", "mine=nowhere"), "There is no nowhere"),
        (("--frames-from", "mine=~nobody-at-all/clip"), "names the home of nobody"),
        (("--frames-from", "mine={shot}"), "holds no pictures"),
        (("--frames-from", "mine={shot}/passes.json"), "is no clip"),
        (("nowhere",), "nowhere"),
    ],
)
def test_nonsense_is_a_sentence_at_once(model, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    shot = _save(tmp_path / "shot")

    def refuse(*_, **__):
        raise AssertionError("nothing is loaded or rendered for nonsense")

    monkeypatch.setattr("latentman.backend.models.loading.load", refuse)
    monkeypatch.setattr("latentman.backend.metrics.reference_shots.subprocess.run", refuse)
    usual = ["--model", str(model), "--steps", "2", "--prompt", "a man", "--seed", "4"]
    try:
        code = main(["evaluate", str(shot), *usual, *(argument.format(shot=shot) for argument in arguments)])
    except SystemExit as ended:
        code = ended.code
    last = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and said in last and "AssertionError" not in last
    assert not list((tmp_path / "build").rglob("*.png")) if (tmp_path / "build").exists() else True


def test_names_tell_shots_apart(tmp_path):
    def name(*folders):
        return name_shots([tmp_path / folder for folder in folders])

    assert name("a/shot") == ["shot"] and name("a/shot", "b/walk") == ["shot", "walk"]
    assert name("a/shot", "b/shot", "c/walk") == ["a_shot", "b_shot", "walk"]
    assert name("x/a/shot", "y/a/shot") == ["x_a_shot", "y_a_shot"]
    assert name("a/Shot", "b/shot") == ["a_Shot", "b_shot"], "some disks do not tell capitals apart"
    shot = Shot("one", samples.passes(2, SIDE, 3))
    with pytest.raises(ShotError, match="two shots called"):
        check_shots([shot, Shot("One", samples.passes(2, SIDE, 4))])
    assert (
        shot.fingerprint == Shot("two", samples.passes(2, SIDE, 3)).fingerprint != Shot("x", samples.passes(2, SIDE, 4)).fingerprint
    )
    assert np.isfinite(shot.fps)


def test_documented_commands_are_understood(monkeypatch):
    """Every argument of the commands in the docs is one that there is."""
    understood = []
    monkeypatch.setattr("latentman.backend.metrics.command.evaluate", lambda args: understood.append(args) or 0)
    monkeypatch.setattr("latentman.backend.metrics.command.measure", lambda args: understood.append(args) or 0)
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    lines = [line for page in pages for line in page.read_text().replace("\\\n", " ").splitlines()]
    commands = [line.split("latentman ", 1)[1] for line in lines if re.match(r" *latentman (evaluate|measure) ", line)]
    for command in commands:
        assert main(shlex.split(command, comments=True)) == 0, command
    assert len(understood) == len(commands) >= 8
    suites = [args for args in understood if getattr(args, "suite", "")]
    assert any(vars(args).get("guidance_scale") == 4 for args in suites), "as the tables of the results say"
