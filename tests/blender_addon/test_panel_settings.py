"""The panel's properties are the declared settings: same defaults, same ranges, same requests as the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import bpy
import msgspec
import pytest

from latentman.blender_addon import command_line, panel_memory, panels, properties, results_panel
from latentman.blender_addon.commands.scene import read_scene_options, read_size
from latentman.blender_addon.declared_properties import (
    UNNAMED,
    declare,
    make_property,
    read_value,
    read_values,
    shorten_float,
    write_values,
)
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.keying import Keying
from latentman.blender_addon.queue import freezing
from latentman.blender_addon.queue.marked import Span
from latentman.blender_addon.technique_properties import COMMON, CUSTOM, GROUPS, OFF, PRESET, SHOWN_ELSEWHERE
from latentman.shared import console
from latentman.shared.arguments import get_option, part_option, read_given_settings
from latentman.shared.model_profile import PRESET_PROFILES, resolve_request
from latentman.shared.motion_request import MotionRequest
from latentman.shared.scene_options import SceneOptions
from latentman.shared.schedule import Schedule
from latentman.shared.settings import Choice, Setting, list_parts, list_settings
from latentman.shared.shot import METHODS, PRESETS, Alignment, Background, Guidance, Method, ShotError, ShotRequest

ROOT = Path(__file__).resolve().parents[2]
OLD = Path(__file__).with_name("data") / "old_settings.blend"
FORMER = Path(__file__).with_name("data") / "former_presets.blend"
FRAMES = (1, 2)
#: (where in the scene's settings, struct, what is left out there)
PLACES = [
    ("", ShotRequest, properties.FROM_SCENE),
    ("", SceneOptions, ("frames",)),
    ("", Schedule, ()),
    ("motion", MotionRequest, ()),
    ("keying", Keying, ()),
    *((f"techniques.{name}", part, ()) for name, part in list_parts(Method).items()),
    (f"techniques.{COMMON}", Method, SHOWN_ELSEWHERE),
]


@pytest.fixture
def settings(empty_scene):
    """The settings of a new scene."""
    return empty_scene.latentman


def group_at(settings, place: str):
    """A group of properties by its path."""
    for name in filter(None, place.split(".")):
        settings = getattr(settings, name)
    return settings


def shot_request(*arguments: str) -> ShotRequest:
    """What the command line makes of arguments."""
    args = command_line.make_parser().parse_args(["generate", "--out", "x", *arguments])
    return console.read_request_arguments(args, *read_size(args, bpy.context.scene), FRAMES, 20.0)


@pytest.mark.parametrize(("place", "struct", "left_out"), PLACES)
def test_every_setting_has_a_property_with_its_words_range_and_default(settings, place, struct, left_out):
    group = group_at(settings, place)
    for one in list_settings(struct):
        if one.name in left_out:
            continue
        found = group.bl_rna.properties[one.name]
        assert (found.name, found.description) == (one.setting.label, one.setting.help)
        default = one.setting.example if one.required else one.default
        assert read_value(group, one) == default
        if one.setting.choices:
            items = [(item.identifier, item.name, item.description) for item in found.enum_items]
            assert items == [(choice.value or UNNAMED, choice.label, choice.help) for choice in one.setting.offered]
            assert found.default == (default or UNNAMED)
        elif one.kind in (int, float):
            ends = (found.default, found.hard_min, found.hard_max, found.soft_max)
            top = one.setting.le if one.setting.soft_max is None else one.setting.soft_max
            low = 0 if one.setting.unset else one.setting.ge
            assert tuple(map(shorten_float, ends)) == tuple(shorten_float(value) for value in (default, low, one.setting.le, top))
        else:
            assert found.default == default


def test_defaults_are_the_same_in_request_arguments_and_panel(settings, empty_scene):
    prompt = settings.prompt
    empty_scene.render.resolution_x = empty_scene.render.resolution_y = 720
    declared = ShotRequest(text=msgspec.structs.replace(properties.shot.Text(prompt)), frames=FRAMES, fps=20.0)
    assert shot_request("--prompt", prompt) == declared
    assert settings.make_request(empty_scene, FRAMES) == resolve_request(declared, PRESET_PROFILES["starter"])
    args = command_line.make_parser().parse_args(["motion", settings.motion.text, "--out", "x"])
    assert settings.motion.make_request(settings.motion.seconds) == MotionRequest(settings.motion.text)
    assert console.read_motion_arguments(args) == MotionRequest(settings.motion.text)
    assert settings.keying.to_keying() == Keying() and not read_given_settings(args, Keying)
    assert settings.keying.make_key_options() == KeyOptions() == KeyOptions.from_keying(Keying())
    args = command_line.make_parser().parse_args(["generate", "--prompt", "x", "--out", "x"])
    assert read_scene_options(args) == SceneOptions()
    assert read_values(settings, SceneOptions, ("frames",)) | {"frames": ""} == msgspec.structs.asdict(SceneOptions())
    assert settings.make_method() is None


def test_the_same_settings_make_the_same_request(settings, empty_scene):
    """Decimal fractions too, which Blender keeps in single precision."""
    settings.prompt, settings.negative_prompt, settings.background_prompt = " a knight ", "fog", " a wood "
    settings.seed, settings.steps, settings.guidance_scale, settings.control_scale = 2**31 - 1, 31, 7.1, 0.85
    settings.scheduler, settings.preset, settings.width, settings.height = "dpm++", "latentman", 512, 384
    settings.model, settings.matching, settings.keep_background = "", "surface", True
    settings.techniques.guidance.use = CUSTOM
    settings.techniques.guidance.rho, settings.techniques.guidance.gradient = 0.03, "linear"
    settings.techniques.alignment.use = OFF
    settings.techniques.keyframes.use = CUSTOM
    settings.techniques.keyframes.strength = 1e-6
    settings.techniques.common.use = CUSTOM
    settings.techniques.common.surface_noise, settings.techniques.common.shared_noise = 0.1, False
    settings.techniques.plugins = "glow:a=1,b=x; other"
    assert settings.make_request(empty_scene, FRAMES) == shot_request(
        *("--prompt", "a knight", "--negative-prompt", "fog", "--background-prompt", "a wood", "--seed", "2147483647"),
        *("--steps", "31", "--guidance-scale", "7.1", "--control-scale", "0.85", "--scheduler", "dpm++"),
        *("--preset", "latentman", "--size", "512x384", "--matching", "surface", "--background"),
        *("--guidance-rho", "0.03", "--guidance-gradient", "linear", "--no-alignment"),
        *("--keyframes-strength", "1e-6", "--surface-noise", "0.1", "--no-shared-noise"),
        *("--plugin", "glow:a=1,b=x", "--plugin", "other"),
    )
    motion = settings.motion
    motion.text, motion.seconds, motion.seed, motion.variants = "a person bows", 3.7, 5, 40
    motion.guidance_scale, motion.steps, motion.model = 2.3, 12, " mine "
    args = command_line.make_parser().parse_args(
        ["motion", "a person bows", "--out", "x", "--seconds", "3.7", "--seed", "5", "--variants", "40"]
        + ["--guidance-scale", "2.3", "--steps", "12", "--model", "mine"]
    )
    assert motion.make_request(motion.seconds) == console.read_motion_arguments(args)


@pytest.mark.parametrize("value", [0.1, 0.03, 1e-6, 7.12345, 1000.0, 0.0, 123456.0])
def test_decimals_survive_single_precision(value, settings):
    settings.techniques.guidance.rho = value
    assert read_values(settings.techniques.guidance, Guidance)["rho"] == value


def test_techniques_are_the_presets_own_set_here_or_off(settings):
    techniques = settings.techniques
    assert settings.has_technique("fusion") and settings.has_technique(COMMON) and not settings.has_technique("guidance")
    # setting it here begins with what the preset has
    techniques.background.use = CUSTOM
    assert techniques.background.until == 1.0 != Background().until and settings.make_method() is None
    techniques.guidance.use = CUSTOM
    assert settings.make_method().guidance == Guidance() and settings.has_technique("guidance")
    techniques.keyframes.use = OFF
    assert settings.make_method().keyframes is None
    settings.preset = "latentman"
    techniques.alignment.use = CUSTOM
    techniques.alignment.until = 0.7
    assert settings.make_method().alignment == Alignment(until=0.7)
    for technique in techniques.iter_techniques():
        technique.group.use = PRESET
    assert settings.make_method() is None
    # what all frames have in common cannot be left out
    with pytest.raises(TypeError):
        techniques.common.use = OFF
    for name, group in GROUPS.items():
        struct = {COMMON: Method, **list_parts(Method)}[name]
        assert "use" not in {one.name for one in list_settings(struct)}
        assert issubclass(group, bpy.types.PropertyGroup)


def test_matching_and_background_have_places_of_their_own(settings):
    settings.preset = "latentman"
    assert [item.identifier for item in settings.bl_rna.properties["matching"].enum_items] == ["PRESET", "surface", "hungarian"]
    settings.matching, settings.keep_background = "hungarian", True
    assert settings.make_method() == msgspec.structs.replace(METHODS["latentman"], background=Background())
    # ticking it takes nothing away from a preset that shares more
    settings.preset, settings.matching = "surface", "PRESET"
    assert settings.make_method() is None
    settings.techniques.background.use = OFF
    assert settings.make_method().background is None and not settings.has_technique("background")


def test_unreadable_techniques_of_others_are_a_sentence(settings, empty_scene):
    settings.techniques.plugins = "glow:a"
    with pytest.raises(ShotError, match="write it like glow:SETTING=VALUE"):
        settings.make_request(empty_scene, FRAMES)


def test_files_of_earlier_versions_mean_what_they_meant(empty_scene):
    """Every property as it was before settings were declared; the file was written by that version in Blender 4.2."""
    with bpy.data.libraries.load(str(OLD)) as (inside, loaded):
        loaded.scenes = list(inside.scenes)
    scene = loaded.scenes[0]
    scene.render.fps = 20
    settings = scene.latentman
    assert settings.make_request(scene, FRAMES) == shot_request(
        *("--prompt", "old prompt", "--negative-prompt", "neg", "--background-prompt", "bg", "--seed", "7", "--model", "sd15"),
        *("--preset", "latentman", "--steps", "33", "--guidance-scale", "4.1", "--control-scale", "0.7"),
        *("--scheduler", "euler", "--width", "512", "--height", "384", "--matching", "surface", "--background"),
    )
    assert settings.motion.make_request(settings.motion.seconds) == MotionRequest("old text", 5.5, 9, 3, 2.5, model="x")
    assert settings.keying.to_keying() == Keying("LAYER", "IN_PLACE", "EULER", "hard", 12.5, True, 0.3, 0.05)
    assert (settings.subjects, settings.character_only, settings.only_changed) == ("scene", True, False)
    assert settings.get_frames(scene) == (3, 5, 7, 9) and settings.output == "//x"
    bpy.data.scenes.remove(scene)


def test_a_file_remembers_its_presets_whatever_went(empty_scene, monkeypatch):
    """One scene for each preset that there was, written by the version before the first of them went, in Blender 4.2."""
    with bpy.data.libraries.load(str(FORMER)) as (inside, loaded):
        loaded.scenes = list(inside.scenes)
    assert len(loaded.scenes) == 7
    said: list[str] = []
    monkeypatch.setattr(panels, "draw_sentence", lambda _layout, _context, text, *_: said.append(text))

    def list_warnings(scene):
        said.clear()
        context = SimpleNamespace(scene=scene, active_object=None, region=None)
        panels.LookPanel.draw(SimpleNamespace(layout=Drawn()), context)
        return [text for text in said if "not offered" in text]

    for scene in loaded.scenes:
        settings, name = scene.latentman, scene.name
        request = settings.make_request(scene, FRAMES)
        assert settings.prompt == f"prompt of {name}" and request.preset == (name if name in PRESETS else "surface")
        warnings = list_warnings(scene)
        if name in PRESETS:
            assert not warnings
        else:
            assert warnings == [
                "Preset: the choice stored in this file is not offered by this version. 'Surface' is used until you choose one."
            ]
            # what is set here, kept and queued begins with the preset that is used
            settings.techniques.fusion.use = CUSTOM
            assert settings.techniques.fusion.full_steps == METHODS["surface"].fusion.full_steps
            assert panel_memory.make_memory(scene).values["preset"] == "surface"
            settings.subjects, scene.camera = "scene", bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
            scene.collection.objects.link(scene.camera)
            assert freezing.freeze_shot(scene, "Shot", Span(1, 2))[1].endswith(warnings[0])
            assert results_panel.write_preset(name) == "Surface, Every Frame"
            with panel_memory.use_memory(scene, panel_memory.PanelMemory({"preset": "latentman"})):
                assert settings.make_request(scene, FRAMES).preset == "latentman"
            assert list_warnings(scene) == warnings and settings.make_request(scene, FRAMES).preset == "surface"
            settings.preset = "cross_frame"
            assert not list_warnings(scene) and settings.make_request(scene, FRAMES).preset == "cross_frame"
        bpy.data.scenes.remove(scene)


@pytest.mark.parametrize("place, struct, left_out", PLACES)
def test_choices_have_numbers_that_no_change_of_the_list_moves(settings, place, struct, left_out):
    group = group_at(settings, place)
    for declared in list_settings(struct):
        if declared.name in left_out or not declared.setting.choices:
            continue
        items = {item.identifier: item.value for item in group.bl_rna.properties[declared.name].enum_items}
        leading = len(items) - len(declared.setting.offered)
        expected = {choice.value or UNNAMED: place for place, choice in enumerate(declared.setting.choices, leading)}
        assert {name: expected.get(name, 0) for name in items} == items
        assert expected.keys() - items.keys() == {choice.value for choice in declared.setting.choices if choice.successor}


def test_a_choice_that_this_version_does_not_know_is_the_default():
    class Kind(msgspec.Struct, frozen=True):
        """Kind."""

        kind: Annotated[str, Setting("Kind", "Which", choices=(Choice("a", "A"), Choice("b", "B")))] = "b"

    class Stored:
        kind = ""

    assert read_value(Stored(), next(list_settings(Kind))) == "b"


def test_a_group_is_declared_read_and_written():
    class Things(msgspec.Struct, frozen=True):
        """Things."""

        share: Annotated[float, Setting("Share", "S", ge=0, le=1)] = 0.1
        long: Annotated[float, Setting("Long", "L", ge=0, le=10, soft_max=5, unit="m")] = 2.0
        wide: Annotated[int, Setting("Wide", "W", ge=8, le=64, unit="px")] = 16
        late: Annotated[float, Setting("Late", "L", ge=0, le=9, unit="s")] = 1.0
        on: Annotated[bool, Setting("On", "O")] = True
        kind: Annotated[str, Setting("Kind", "K", choices=(Choice("", "Own"), Choice("x", "X")))] = ""
        left: Annotated[int, Setting("Left", "L", ge=0, le=1)] = 0

    @declare(Things, leave_out=("left",))
    class LatentManTestThings(bpy.types.PropertyGroup):
        """For this test."""

    kind = next(one for one in list_settings(Things) if one.name == "kind")
    LatentManTestThings.__annotations__["extra"] = make_property(kind, leading_items=(("NO", "No", ""),))
    bpy.utils.register_class(LatentManTestThings)
    bpy.types.Scene.latentman_test = bpy.props.PointerProperty(type=LatentManTestThings)
    try:
        group = bpy.context.scene.latentman_test
        found = group.bl_rna.properties
        assert "left" not in found and found["share"].subtype == "FACTOR"
        assert (found["long"].unit, found["late"].unit, found["wide"].subtype) == ("LENGTH", "TIME_ABSOLUTE", "PIXEL")
        assert (found["long"].soft_max, found["long"].hard_max) == (5, 10)
        assert group.extra == "NO"
        values = {"share": 0.3, "long": 0.7, "wide": 32, "late": 0.2, "on": False, "kind": "x"}
        write_values(group, Things, values)
        assert read_values(group, Things, ("left",)) == values
        write_values(group, Things, {"kind": ""})
        assert group.kind == UNNAMED and read_values(group, Things, ("left",)) == values | {"kind": ""}
    finally:
        del bpy.types.Scene.latentman_test
        bpy.utils.unregister_class(LatentManTestThings)


def test_the_commands_arguments(capsys):
    parser = command_line.make_parser()
    args = parser.parse_args(["generate", "--prompt", "x", "--out", "x", "--alpha", "--subjects", "scene", "--frames", "3,5"])
    assert read_scene_options(args) == SceneOptions("scene", True, "3,5")
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = 1920, 1080
    # the model's own, which has the scene's aspect
    assert read_size(args, scene) == (0, 0)
    assert read_size(parser.parse_args(["passes", "--out", "x", "--width", "512"]), scene) == (512, 288)
    assert read_size(parser.parse_args(["passes", "--out", "x", "--height", "1080"]), scene) == (1920, 1080)
    args = parser.parse_args(["passes", "--out", "x", "--width", "64", "--height", "48"])
    assert read_size(args, scene) == (64, 48)
    args = parser.parse_args(["motion", "a", "--foot-lock", "hard", "--tolerance", "2.5"])
    assert read_given_settings(args, Keying) == {"foot_lock": "hard", "tolerance": 2.5}
    for arguments, sentence in (
        (("passes", "--out", "x", "--size", "4x64"), "The width 4 is out of range; choose 8 to 4096 px, or 0 for the model's own."),
        (("passes", "--out", "x", "--size", "64"), "'64' is not a size; write it like 256x256"),
        (("passes", "--out", "x", "--subjects", "crowd"), "use one of character, characters, scene."),
        (("motion", "a", "--seconds", "60"), "The seconds 60.0 is out of range; choose 0.5 to 40 s."),
        (("motion", "a", "--foot", "hard"), "unrecognized arguments: --foot hard"),
        (("generate", "--out", "x"), "required: --prompt"),
    ):
        assert command_line.main(list(arguments)) == 2
        assert sentence in capsys.readouterr().err
    for command in ("generate", "passes", "motion"):
        assert command_line.main([command, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        for struct in {"generate": (ShotRequest, SceneOptions), "passes": (SceneOptions,), "motion": (MotionRequest, Keying)}[
            command
        ]:
            for one in list_settings(struct):
                assert one.setting.help in text or one.name == "fps" or (command, one.name) == ("passes", "character_only")


def test_the_page_tells_the_arguments_and_labels_that_there_are():
    from tools.write_settings_page import NONE, list_groups, make_row

    actions = command_line.make_parser()._subparsers._group_actions[0].choices
    options = {name for command in actions.values() for action in command._actions for name in action.option_strings}
    options |= {"TEXT", "--dtype", "--compile", "--offload"}
    labels = {}
    for place, struct, left_out in PLACES:
        group = group_at(bpy.context.scene.latentman, place)
        labels |= {
            (struct, one.name): group.bl_rna.properties[one.name].name for one in list_settings(struct) if one.name not in left_out
        }
    labels[Method, "matching"] = bpy.context.scene.latentman.bl_rna.properties["matching"].name
    seen = set()
    for table in list_groups():
        for one in table.settings():
            cells = make_row(table, one)
            assert cells[1].strip("`").replace("[no-]", "") in options
            owners = [struct for struct, name in labels if name == one.name and one in list_settings(struct)]
            owners = owners or [struct for struct, name in labels if name == one.name and one.path[-1:] == (name,)]
            if cells[2] != NONE:
                assert any(labels[struct, one.name] == cells[2] for struct in owners), one.name
                seen |= {(struct, one.name) for struct in owners}
    assert seen == set(labels), "a property is missing on the page"
    assert get_option("a_b") == "--a-b" and part_option("a", "b_c") == "--a-b-c"


class Drawn:
    """Stands in for a layout and remembers which properties are drawn."""

    def __init__(self) -> None:
        self.names: set[tuple[str, str]] = set()

    def prop(self, group, name, **_) -> None:
        assert name in group.bl_rna.properties, name
        self.names.add((type(group).__name__, name))

    def __getattr__(self, _):
        return lambda *_, **__: self


def test_every_setting_is_drawn(settings, character):
    # a strength is shown beside a picture only
    settings.character, settings.reference = character, "hero.png"
    # how prompts follow each other, where there are several
    settings.prompt_keys.add().prompt = "a knight"
    for technique in settings.techniques.iter_techniques():
        technique.group.use = CUSTOM
    following, drawn = Drawn(), Drawn()
    context = SimpleNamespace(
        scene=bpy.context.scene,
        active_object=None,
        region=SimpleNamespace(width=300),
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
    )
    panels.AdvancedPanel.draw(SimpleNamespace(layout=following), context)
    for name in panels.FOLLOWING:
        # the model's value is shown until the switch beside it is off
        assert {("LatentManSettings", f"{kind}_{name}") for kind in ("own", "follow")} <= following.names
        assert not {("LatentManSettings", one) for one in panels.FOLLOWING[name]} & following.names
        setattr(settings, f"follow_{name}", False)
    for panel in panels.CLASSES:
        if panel not in (panels.BackendPanel, panels.RigPanel, results_panel.ResultPanel):
            panel.draw(SimpleNamespace(layout=drawn), context)
    for place, struct, left_out in PLACES:
        group = type(group_at(settings, place)).__name__
        assert {one.name for one in list_settings(struct) if one.name not in left_out} <= {
            name for owner, name in drawn.names if owner == group
        }
    settings.techniques.fusion.use = PRESET
    hidden = Drawn()
    panels.TechniquesPanel.draw(SimpleNamespace(layout=hidden), context)
    owner = type(settings.techniques.fusion).__name__
    assert {name for group, name in hidden.names if group == owner} == {"use"}


TRY_OUT = """
import argparse, json
import bpy
from latentman.blender_addon import command_line, panels, properties, setting_presets
from latentman.shared import console, shot
from tools.write_settings_page import format_page

properties.register()
scene = bpy.context.scene
args = command_line.make_parser().parse_args(["generate", "--prompt", "x", "--out", "x", "--churn", "0.25"])
found = {"argument": console.read_request_arguments(args, 64, 64, (1,), 24.0).sampling.churn, "default": shot.Sampling().churn}
try:
    shot.check_request(shot.make_request("x", (1,), 24.0, churn=2.0))
except shot.ShotError as error:
    found["refused"] = str(error)
own = scene.latentman.bl_rna.properties["churn"]
found["property"] = [own.name, own.description, own.hard_min, own.hard_max, own.default]
scene.latentman.churn = 0.1
found["panel"] = scene.latentman.make_request(scene, (1,)).sampling.churn
found["drawn"] = panels.list_other_settings(shot.ShotRequest, *panels.LOOK, *panels.ADVANCED, *panels.SIDES, *properties.FROM_SCENE)
command = command_line.make_parser()._subparsers._group_actions[0].choices["generate"]
found["preset"] = [kind for kind, preset in setting_presets.KINDS.items() if "churn" in preset.names]
found["help"] = " ".join(command.format_help().split())
found["page"] = [line for line in format_page().splitlines() if line.startswith("| churn ")]
properties.unregister()
print("FOUND" + json.dumps(found), flush=True)
import os
os._exit(0)
"""


def test_one_line_adds_a_setting(tmp_path):
    """The very line of the guide, in a copy of the package."""
    line = re.search(r"```python\n( *churn: .*)\n```", (ROOT / "docs" / "development" / "add_a_setting.md").read_text()).group(1)
    package = tmp_path / "latentman"
    unneeded = shutil.ignore_patterns("starter*", "data", "__pycache__", "*.safetensors")
    for name in ("shared", "backend", "blender_addon", "tools"):
        shutil.copytree(ROOT / name, package / name, ignore=unneeded)
    for name in ("__init__.py", "blender_manifest.toml"):
        shutil.copy(ROOT / name, package / name)
    module = package / "shared" / "shot.py"
    above = '    """How the image model is sampled."""\n'
    text = module.read_text()
    assert text.count(above) == 1
    if line not in text:  # somebody may have tried it out
        module.write_text(text.replace(above, f"{above}\n{line}\n"))
    done = subprocess.run(
        [sys.executable, "-c", TRY_OUT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{package}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "FOUND" in done.stdout, done.stdout + done.stderr
    found = json.loads(done.stdout.partition("FOUND")[2].splitlines()[0])
    assert found["argument"] == 0.25 and found["default"] == 0.0
    assert found["refused"] == "The churn 2.0 is out of range; choose 0 to 1."
    assert found["property"] == ["Churn", "Share of new noise in each step", 0.0, 1.0, 0.0]
    assert found["panel"] == 0.1 and found["drawn"] == ["churn"]
    assert found["preset"] == ["METHOD"]
    assert "--churn X Share of new noise in each step; 0 to 1; default 0" in found["help"]
    assert found["page"] == ["| churn | `--churn` | Churn | 0 to 1 | 0 | – | Share of new noise in each step |"]


@pytest.mark.skipif(bpy.app.version < (4, 5, 0), reason="older Blenders know no such option")
def test_the_output_folder_may_lie_beside_the_file():
    """Blender 5 shows a path that begins with // in red where the property does not say so."""
    output = properties.LatentManSettings.bl_rna.properties["output"]
    assert output.default.startswith("//") and output.is_path_supports_blend_relative


def test_a_model_may_lie_beside_the_saved_file(empty_scene, tmp_path):
    """Paths that begin with // are whole in the request, since the backend does not know the file; hub ids stay as they are."""
    settings = empty_scene.latentman
    settings.prompt, settings.model = "a man", "//models/a.safetensors|depth=//c.pth|lora=some/hub"
    assert settings.make_request(empty_scene, FRAMES).sampling.model == settings.model
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"), copy=False)
    settings = properties.get_scene_settings(bpy.context.scene)
    wanted = f"{tmp_path / 'models' / 'a.safetensors'}|depth={tmp_path / 'c.pth'}|lora=some/hub"
    assert settings.make_request(bpy.context.scene, FRAMES).sampling.model == wanted
    assert settings.model.startswith("//")
