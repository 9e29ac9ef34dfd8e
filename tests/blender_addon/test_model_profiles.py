"""The panel and the command line follow the model's own settings, as a real backend tells them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from types import SimpleNamespace

import bpy
import pytest

from latentman.blender_addon import command_line, model_profiles, panels, properties
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.connection import connection as panels_connection
from latentman.blender_addon.model_profiles import ProfileBook
from latentman.shared import messages
from latentman.shared.model_profile import PRESET_PROFILES, ModelProfile
from latentman.shared.shot import ShotError, ShotRequest
from tests.blender_addon.conftest import BACKEND_PYTHON
from tests.checkout import ROOT

FRAMES = (1, 2)
OWN = ModelProfile(512, 384, steps=12, guidance_scale=4.0, scheduler="euler", negative_prompt="fog")


@pytest.fixture
def settings(empty_scene):
    """The settings of a new scene, of a square picture."""
    empty_scene.render.resolution_x = empty_scene.render.resolution_y = 500
    return empty_scene.latentman


@pytest.fixture
def book(monkeypatch):
    """What the panels know, without a backend at first."""
    monkeypatch.setattr(properties, "book", ProfileBook())
    return properties.book


def _tell(book, model, profile):
    book.connected = True
    answer = messages.ModelDescribed(ticket=book.ask(model).ticket, profile=profile)
    return book.receive(answer)


def _request(settings) -> ShotRequest:
    return settings.make_request(bpy.context.scene, FRAMES)


# -- the panel, without a backend


def test_a_new_scene_follows_the_model(settings, book):
    assert all(getattr(settings, f"follow_{name}") for name in panels.FOLLOWING)
    request = _request(settings)
    assert (request.width, request.height, request.sampling.steps) == (256, 256, 20)
    assert (request.sampling.guidance_scale, request.sampling.scheduler) == (1.5, "ddim")
    settings.model = "sd15"
    request = _request(settings)
    assert (request.width, request.height, request.sampling.steps, request.sampling.guidance_scale) == (512, 512, 30, 7.5)
    assert (settings.own_size, settings.own_steps, settings.own_guidance_scale, settings.own_scheduler) == (
        *("512x512", "30", "7.5"),
        "ddim",
    )


def test_what_is_set_stays_whatever_the_model_also_where_it_is_the_models_own(settings, book):
    settings.steps, settings.scheduler, settings.width, settings.height = 20, "ddim", 256, 256
    settings.guidance_scale, settings.negative_prompt = 1.5, "rain"
    assert not any(getattr(settings, f"follow_{name}") for name in panels.FOLLOWING)
    settings.model = "sdxl"
    request = _request(settings)
    assert (request.width, request.sampling.steps, request.sampling.guidance_scale) == (256, 20, 1.5)
    assert (request.sampling.scheduler, request.text.negative_prompt) == ("ddim", "rain")


def test_the_switch_begins_with_the_models_value_and_gives_it_back(settings, book):
    settings.model = "sd15"
    bpy.context.scene.render.resolution_x, bpy.context.scene.render.resolution_y = 1920, 1080
    shown = settings.get_picture_size(bpy.context.scene)
    before = _request(settings)
    assert shown == (683, 384) and settings.own_size == "683x384"
    for name in panels.FOLLOWING:
        setattr(settings, f"follow_{name}", False)
    assert (settings.steps, settings.guidance_scale, settings.scheduler) == (30, 7.5, "ddim")
    assert (settings.width, settings.height) == shown and _request(settings) == before
    settings.model = "sdxl"
    assert _request(settings).sampling.steps == 30 and _request(settings).width == before.width
    for name in panels.FOLLOWING:
        setattr(settings, f"follow_{name}", True)
        setattr(settings, f"follow_{name}", True)
    assert (settings.steps, settings.guidance_scale, settings.scheduler, settings.width) == (0, 0, "MODEL", 0)
    assert _request(settings).sampling.guidance_scale == 5.0


def test_what_is_not_known_yet_is_left_to_the_model_and_said(settings, book, tmp_path):
    settings.model = f"{tmp_path / 'dream.safetensors'}|{tmp_path / 'depth.pth'}"
    assert settings.find_profile() is None and settings.get_picture_size(bpy.context.scene) is None
    assert settings.own_steps == "not known until the backend runs" and settings.shows_frame(bpy.context.scene)
    request = _request(settings)
    assert (request.width, request.sampling.steps, request.sampling.scheduler) == (0, 0, "")
    assert settings.make_crop(bpy.context.scene, request) is None
    book.connected = True
    assert settings.own_steps == "not known yet"
    # the number to begin with is that of most models
    settings.follow_steps = False
    assert settings.steps == 30
    settings.follow_steps = True
    assert _tell(book, settings.get_model(), OWN)
    request = _request(settings)
    assert (request.sampling.steps, request.sampling.scheduler, request.text.negative_prompt) == (12, "euler", "fog")
    assert settings.own_steps == "12" and settings.own_scheduler == "euler"
    # the area of 512x384 as a square
    assert settings.get_picture_size(bpy.context.scene) == (443, 443) and (request.width, request.height) == (448, 448)
    settings.use_scene_aspect = False
    assert settings.get_picture_size(bpy.context.scene) == (512, 384)


def test_no_negative_prompt_though_the_model_has_one(settings, book):
    _tell(book, "starter", OWN)
    settings.negative_prompt = "-"
    assert _request(settings).text.negative_prompt == "-"
    settings.model = "sd15"
    assert _request(settings).text.negative_prompt == ""


def test_one_side_that_an_earlier_version_stored(settings, book):
    """The other side was 256, which no file holds that was never changed."""
    settings.width = 512
    assert settings.get_picture_size(bpy.context.scene) == (512, 256) and not settings.use_scene_aspect
    settings.size_from = "SCENE"
    assert settings.get_picture_size(bpy.context.scene) == (256, 256)


def test_the_panel_says_what_to_do_with_an_instance_of_a_character(settings):
    drawn = []

    class Layout:
        def __getattr__(self, name):
            return lambda *values, **named: drawn.append((name, values, named)) or self

    def draw(active):
        drawn.clear()
        ui = SimpleNamespace(ui_scale=1.0)
        region = SimpleNamespace(width=300)
        context = SimpleNamespace(
            scene=bpy.context.scene, active_object=active, region=region, preferences=SimpleNamespace(system=ui)
        )
        panels.CharacterPanel.draw(SimpleNamespace(layout=Layout()), context)
        return " ".join(named["text"] for name, _, named in drawn if name == "label")

    assert not draw(None)
    group = bpy.data.collections.new("Cast")
    group.objects.link(bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig")))
    place = bpy.data.objects.new("Place", None)
    place.instance_type, place.instance_collection = "COLLECTION", group
    bpy.context.scene.collection.objects.link(place)
    assert "Place is an instance of the collection 'Cast'; make it real" in draw(None)
    settings.character = group.objects[0]
    assert not draw(None) and "Make Instances Real" in draw(place)


def test_drawing_asks_nothing_itself_and_shows_errors(settings, book, monkeypatch):
    monkeypatch.setattr(panels.connection, "profiles", book)
    drawn = []

    class Layout:
        def __getattr__(self, name):
            return lambda *values, **named: drawn.append((name, values, named)) or self

    context = SimpleNamespace(
        scene=bpy.context.scene,
        active_object=None,
        region=SimpleNamespace(width=300),
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
    )
    book.connected = True
    for _ in range(3):
        for panel in (panels.LookPanel, panels.AdvancedPanel, panels.GeneratePanel):
            panel.draw(SimpleNamespace(layout=Layout()), context)
    (question,) = book.take_questions()
    assert question.model == "starter" and not book.take_questions()
    book.receive(messages.ModelDescribed(ticket=question.ticket, profile=OWN))
    drawn.clear()
    panels.LookPanel.draw(SimpleNamespace(layout=Layout()), context)
    assert any("the model's own: fog" in str(named) for _, _, named in drawn) and not book.take_questions()
    failed = messages.Failed(ticket=book.ask("starter").ticket, code="model", message="The settings file x cannot be used.")
    assert book.receive(failed)
    panels.LookPanel.draw(SimpleNamespace(layout=Layout()), context)
    assert any("settings file x" in str(named) for _, _, named in drawn)


def test_the_book_asks_once_takes_late_answers_and_forgets(monkeypatch):
    book, now = ProfileBook(), [100.0]
    monkeypatch.setattr(model_profiles.time, "monotonic", lambda: now[0])
    assert book.find("sd15") == PRESET_PROFILES["sd15"] and not book.take_questions()
    book.connected = True
    for _ in range(5):
        book.find("x")
    (first,) = book.take_questions()
    now[0] += 20
    book.find("x")
    assert not book.take_questions(), "an answer that takes its time is waited for"
    assert book.receive(messages.ModelDescribed(ticket=first.ticket, profile=OWN)) and book.is_fresh("x")
    assert book.receive(messages.ModelDescribed(ticket=first.ticket, profile=OWN)) is None
    now[0] += 20
    assert book.find("x") == OWN and not book.is_fresh("x")
    (again,) = book.take_questions()
    assert book.receive(messages.ModelDescribed(ticket=again.ticket, profile=OWN)) is False, "nothing new is no redraw"
    book.forget()
    assert book.find("x") is None and book.find("starter") == PRESET_PROFILES["starter"]
    assert book.receive(messages.Welcome(version="1", device="cpu", models=())) is None


# -- with a backend


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model's folder."""
    root = tmp_path_factory.mktemp("tiny")
    # the Python of the backend has torch, Blender's may not
    code = "import sys, pathlib; from tools.tiny_models import write_sd; write_sd(pathlib.Path(sys.argv[1]))"
    subprocess.run([BACKEND_PYTHON, "-c", code, str(root)], cwd=ROOT, check=True, capture_output=True, timeout=200)
    return root / "whole"


@pytest.fixture
def model(tiny, tmp_path):
    """A copy of it with settings of its own."""
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "latentman.json").write_text(json.dumps({"steps": 2, "guidance_scale": 2, "width": 48, "negative_prompt": "fog"}))
    return folder


@pytest.fixture
def running(registered_operators, shared_backend):
    """The panels' own connection, to a real backend."""
    panels_connection.connect(shared_backend.endpoint)
    wait_until(panels_connection, lambda: bool(panels_connection.device or panels_connection.error), 120)
    assert panels_connection.connected, panels_connection.error
    yield panels_connection
    panels_connection.stop(15)


@pytest.mark.slow
def test_the_panel_generates_with_the_models_own_settings(running, shot_scene, model, tmp_path):
    settings = shot_scene.latentman
    shot_scene.render.resolution_x = shot_scene.render.resolution_y = 500
    settings.character, settings.model, settings.preset = bpy.context.object, str(model), "per_frame"
    settings.output, shot_scene.frame_end, settings.only_changed = str(tmp_path / "out"), 2, False
    assert settings.find_profile() is None
    assert wait_until(running, lambda: settings.find_profile() is not None, 60)
    assert settings.own_steps == "2" and settings.own_size == "48x48"
    # what was edited a moment ago counts
    (model / "latentman.json").write_text(json.dumps({"steps": 3, "width": 32, "height": 64}))
    running.profiles.find(settings.get_model())
    time.sleep(model_profiles.FRESH_SECONDS)
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    task = running.shot_task
    assert wait_until(running, lambda: task.done, 120) and task.succeeded, task.error
    told = task.report["settings"]
    assert told["sampling"]["steps"] == 3 and settings.get_picture_size(shot_scene) == (45, 45)
    assert (told["width"], told["height"]) == (64, 64) and len(task.frames) == 2
    # the same, set by the user: nothing is made again
    settings.follow_steps = settings.follow_guidance_scale = settings.follow_scheduler = False
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    again = running.shot_task
    assert wait_until(running, lambda: again.done, 120) and again.job == task.job
    # a settings file that cannot be used
    (model / "latentman.json").write_text("{")
    time.sleep(model_profiles.FRESH_SECONDS)
    with pytest.raises(RuntimeError, match="settings file"):
        bpy.ops.latentman.generate()
    assert "settings file" in running.profiles.find_error(settings.get_model())


@pytest.mark.slow
def test_the_command_line_resolves_as_the_panel_does(shot_scene, model, tmp_path, capsys):
    shot_scene.render.resolution_x, shot_scene.render.resolution_y = 600, 300
    os.environ.setdefault("LATENTMAN_PYTHON", BACKEND_PYTHON)
    arguments = ["generate", "--prompt", "x", "--model", str(model), "--preset", "per_frame", "--frames", "1", "--json"]
    assert command_line.main([*arguments, "--out", str(tmp_path / "own")]) == 0
    report = json.loads((tmp_path / "own" / "report.json").read_text())["settings"]
    assert report["sampling"]["steps"] == 2 and report["text"]["negative_prompt"] == "fog"
    # 48x48 as a picture of two to one, made in a size that the model can make
    image = bpy.data.images.load(str(tmp_path / "own" / "0001.png"))
    assert tuple(image.size) == (68, 34) and (report["width"], report["height"]) == (128, 64)
    given = ["--steps", "1", "--negative-prompt", "-", "--width", "64", "--guidance-scale", "3"]
    assert command_line.main([*arguments, *given, "--out", str(tmp_path / "given")]) == 0
    report = json.loads((tmp_path / "given" / "report.json").read_text())["settings"]
    assert (report["sampling"]["steps"], report["sampling"]["guidance_scale"]) == (1, 3.0)
    assert (report["width"], report["height"], report["text"]["negative_prompt"]) == (64, 64, "-")
    (model / "latentman.json").write_text('{"scheduler": "best"}')
    capsys.readouterr()
    assert command_line.main([*arguments, "--out", str(tmp_path / "bad")]) == 2
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["code"] == "model" and "'scheduler' cannot be \"best\"" in last["message"]


def test_a_model_that_is_not_there_is_refused_before_anything_is_rendered(running, shot_scene, tmp_path):
    settings = shot_scene.latentman
    settings.character, settings.model = bpy.context.object, "nosuch"
    with pytest.raises(RuntimeError, match="There is no model 'nosuch'"):
        bpy.ops.latentman.generate()
    with pytest.raises(ShotError, match="There is no model"):
        running.ask_profile("nosuch", 30)
    running.stop(15)
    assert settings.find_profile() is None
