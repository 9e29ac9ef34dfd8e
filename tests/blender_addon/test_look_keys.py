"""Presets of looks and methods, prompts in texts of the file, prompts by frame, and keyframed settings."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import bpy
import pytest

from latentman.blender_addon import diagnostics, look_drawing, panels, setting_presets
from latentman.blender_addon.compat import get_used_fcurves
from latentman.blender_addon.panel_memory import apply_memory, capture_panel, read_memory, use_memory
from latentman.blender_addon.prompt_keys import explain_curves, explain_frame, list_prompt_keys, write_prompt_keys
from latentman.blender_addon.prompt_texts import find_removed_text, has_changed_on_disk
from latentman.blender_addon.properties import FROM_SCENE, compute_settings_digest
from latentman.blender_addon.setting_presets import KINDS, LOOK, METHOD, PresetValues, read_preset, write_preset
from latentman.blender_addon.technique_properties import CUSTOM, OFF
from latentman.shared.schedule import PromptKey, Schedule
from latentman.shared.settings import MAX_TEXT, list_settings
from latentman.shared.shot import PRESETS, ShotError, ShotRequest, check_request

pytestmark = pytest.mark.usefixtures("registered_operators")
ODD = 'it\'s "odd"\\ \n\ttabs, é 漢字 \u2028 {x} %s \U0001f600 \'\'\' """'


@pytest.fixture
def settings(empty_scene):
    """The settings of a new scene."""
    return empty_scene.latentman


@pytest.fixture
def preset_folder(tmp_path, monkeypatch):
    """Where Blender keeps the user's presets meanwhile."""
    user = tmp_path / "user"
    monkeypatch.setattr(bpy.utils, "user_resource", lambda kind, path="", create=False: str(_make(user / path)))
    monkeypatch.setattr(
        bpy.utils, "preset_paths", lambda subdir: [str(_make(user / "presets" / subdir)), str(setting_presets.SHIPPED / subdir)]
    )
    monkeypatch.setattr(
        bpy.utils, "preset_find", lambda name, path, *, display_name=False, ext=".py": _find(user, name, path, display_name)
    )
    return user / "presets"


def _make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _find(user, name, path, display_name):
    for folder in (user / "presets" / path, setting_presets.SHIPPED / path):
        for file in folder.glob("*.py"):
            if (bpy.path.display_name(file.name, title_case=False) if display_name else file.stem) == name:
                return str(file)
    return ""


class Drawn:
    """Stands in for a layout and remembers what is drawn."""

    def __init__(self) -> None:
        self.texts, self.names, self.operators = [], [], []

    def label(self, text="", **_):
        self.texts.append(text)

    def prop(self, _, name, **__):
        self.names.append(name)

    def operator(self, name, **_):
        self.operators.append(name)
        return SimpleNamespace()

    def __getattr__(self, _):
        return lambda *_, **__: self


def draw(panel):
    drawn = Drawn()
    context = SimpleNamespace(
        scene=bpy.context.scene,
        region=SimpleNamespace(width=9000),
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
    )
    panel.draw(SimpleNamespace(layout=drawn), context)
    return drawn


# -- presets ----------------------------------------------------------------------------------------------------------


def test_every_setting_of_a_shot_is_in_one_kind_of_preset():
    declared = {one.name for one in list_settings(ShotRequest)} - {*FROM_SCENE, "width", "height"}
    both = [*LOOK.names, *METHOD.names]
    assert declared <= set(both) and len(both) == len(set(both))


def change_everything(settings):
    """Give every setting that a preset holds another value than its default; returns the values."""
    settings.prompt, settings.negative_prompt, settings.background_prompt = ODD, "fog\nmist", ODD[::-1]
    for name in (*LOOK.names, *METHOD.names):
        found = settings.bl_rna.properties[name]
        if found.type == "ENUM":
            setattr(settings, name, found.enum_items[-1].identifier)
        elif found.type == "BOOLEAN":
            setattr(settings, name, not found.default)
        elif found.type in ("INT", "FLOAT"):
            setattr(settings, name, type(found.default)(min(found.default + 0.7 if found.type == "FLOAT" else 3, found.hard_max)))
        elif name not in ("prompt", "negative_prompt", "background_prompt"):
            setattr(settings, name, f"/x/{name} 'ü'.bin")
    settings.control_start = 0.123
    settings.techniques.fusion.use, settings.techniques.fusion.shading = CUSTOM, 0.3
    settings.techniques.background.use = OFF
    settings.techniques.plugins = 'glow:text="ä",share=0.5'
    write_prompt_keys(settings, [(1, ODD), (-(2**31), "dawn"), (2**31 - 1, "night")])


def read_all(settings):
    values = {name: getattr(settings, name) for name in (*LOOK.names, *METHOD.names)}
    fusion = settings.techniques.fusion
    return values | {
        "prompts": list_prompt_keys(settings),
        "techniques": (fusion.use, fusion.shading, settings.techniques.background.use, settings.techniques.plugins),
    }


@pytest.mark.parametrize("executed", [False, True])
def test_presets_bring_every_value_back_as_it_was(settings, preset_folder, executed):
    change_everything(settings)
    wanted = read_all(settings)
    for kind in ("look", "method"):
        assert getattr(bpy.ops.latentman, f"{kind}_preset_add")(name="Mine ß") == {"FINISHED"}
    for name in (*LOOK.names, *METHOD.names, "techniques", "prompt_keys"):
        settings.property_unset(name)
    assert read_all(settings) != wanted
    for kind in KINDS.values():
        (file,) = (preset_folder / kind.folder).glob("*.py")
        assert file.read_bytes().isascii()
        if executed:
            # as Blender runs a preset's file
            exec(compile(file.read_text(), str(file), "exec"), {})
        else:
            assert bpy.ops.latentman.load_preset(filepath=str(file), kind=kind.name) == {"FINISHED"}
    assert read_all(settings) == wanted


def test_the_preset_menu_is_named_after_what_was_loaded_and_removes_it(settings, preset_folder):
    bpy.ops.latentman.look_preset_add(name="Hero")
    (file,) = (preset_folder / LOOK.folder).glob("*.py")
    bpy.ops.latentman.load_preset(filepath=str(file))
    menu = bpy.types.LATENTMAN_MT_look_presets
    assert menu.bl_label == "Hero"
    bpy.ops.latentman.look_preset_add(remove_active=True)
    assert not file.exists() and menu.bl_label != "Hero"
    shipped = next((setting_presets.SHIPPED / LOOK.folder).glob("*.py"))
    bpy.ops.latentman.load_preset(filepath=str(shipped))
    bpy.ops.latentman.look_preset_add(remove_active=True)
    assert shipped.exists(), "what came with the extension stays"


def test_presets_of_other_versions_load_with_a_sentence(settings, tmp_path):
    change_everything(settings)
    settings.clip_skip = 3
    values = setting_presets.read_values(settings, LOOK)
    older = {name: value for name, value in values.values.items() if name != "clip_skip"} | {"halo": 3, "seed": "much"}
    notes = setting_presets.load_values(settings, PresetValues("LOOK", older))
    assert settings.clip_skip == 0 and settings.prompt == ODD
    assert notes == [
        "This version does not know these settings of the preset, and leaves them out: halo, seed.",
        "The preset is older than these settings, which have their defaults now: clip skip, prompts by frame.",
    ]
    assert not settings.prompt_keys
    method = PresetValues("METHOD", {"preset": "no such"}, {"shimmer": {"use": "ON"}, "fusion": {"use": "ON", "gone": 1}})
    notes = setting_presets.load_values(settings, method)
    assert "preset, shimmer, gone" in notes[0] and settings.techniques.fusion.use == CUSTOM
    with pytest.raises(ShotError, match="which this version does not know"):
        setting_presets.load_values(settings, PresetValues("CAMERA", {}))
    former = PresetValues("METHOD", {"preset": "surface_quality"}, from_defaults=True)
    assert setting_presets.load_values(settings, former) == [
        "Preset: 'Surface, Every Frame' is no longer offered; 'Surface' takes its place."
    ]
    assert settings.preset == "surface"
    path = tmp_path / "x.py"
    write_preset(path, PresetValues("LOOK", older))
    assert bpy.ops.latentman.load_preset(filepath=str(path)) == {"FINISHED"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"import os\nos.abort()\n",
        b"bpy.ops.latentman.load_values(values=open('x').read())",
        b"bpy.ops.latentman.load_values(values='{}')",
        b"bpy.ops.latentman.load_values(values='[' * 99)",
        b"bpy.ops.latentman.load_values(values=3)",
        b"bpy.ops.latentman.load_values(",
        b"""bpy.ops.latentman.load_values(values='{"kind": "LOOK", "values": {}, "prompts": [[2147483648, "x"]]}')""",
        b"""bpy.ops.latentman.load_values(values='{"kind": "LOOK", "values": {}, "prompts": [[1, 2]]}')""",
        b"\0\xff",
        b"(" * 5000,
    ],
)
def test_a_file_that_is_no_preset_is_refused_and_never_run(settings, tmp_path, content):
    path = tmp_path / "x.py"
    path.write_bytes(content)
    before = read_all(settings)
    with pytest.raises(ShotError):
        read_preset(path)
    with pytest.raises(RuntimeError, match=r"remove it"):
        bpy.ops.latentman.load_preset(filepath=str(path))
    assert read_all(settings) == before


def test_presets_come_with_the_extension_and_fit_this_version(settings):
    folders = {kind: sorted((setting_presets.SHIPPED / kind.folder).glob("*.py")) for kind in KINDS.values()}
    assert all(len(files) >= 4 for files in folders.values())
    used = set()
    for kind, files in folders.items():
        for file in files:
            change_everything(settings)
            assert setting_presets.load_values(settings, read_preset(file)) == [] and read_preset(file).kind == kind.name
            settings.techniques.plugins = ""
            request = settings.make_request(bpy.context.scene, (1, 2))
            if kind is METHOD:
                used.add(request.preset)
                assert request.method is None and request.sampling.control_start == 0
            else:
                assert (
                    "\n" not in request.text.prompt and request.text.negative_prompt == "" and request.sampling.model == "starter"
                )
    assert used == set(PRESETS), "each preset has its use"


def test_blender_lists_them_while_the_extension_is_on():
    setting_presets.register()
    try:
        assert str(setting_presets.SHIPPED / LOOK.folder) in bpy.utils.preset_paths(LOOK.folder)
    finally:
        setting_presets.unregister()
    assert str(setting_presets.SHIPPED / LOOK.folder) not in bpy.utils.preset_paths(LOOK.folder)


def test_a_look_preset_holds_what_is_said_and_ends_the_text(settings):
    settings.prompt_text = bpy.data.texts.new("p")
    settings.prompt_text.write("a knight\n# no\nin snow")
    values = setting_presets.read_values(settings, LOOK)
    assert values.values["prompt"] == "a knight in snow"
    setting_presets.load_values(settings, values)
    assert settings.prompt_text is None and settings.prompt == "a knight in snow" and not find_removed_text(settings, "prompt")


# -- texts ------------------------------------------------------------------------------------------------------------


def test_what_a_prompt_leaves_open_is_added_by_a_button_and_only_then(settings, empty_scene):
    settings.prompt = "a man in a red shirt and blue jeans, on a beach"
    assert "latentman.complete_prompt" in draw(panels.LookPanel).operators
    assert settings.make_request(empty_scene, (1,)).text.prompt == settings.prompt, "nothing is added in silence"
    assert bpy.ops.latentman.complete_prompt() == {"FINISHED"}
    assert settings.prompt == "a man with brown hair in a red shirt and blue jeans and black shoes, on a beach"
    assert "latentman.complete_prompt" not in draw(panels.LookPanel).operators and not bpy.ops.latentman.complete_prompt.poll()
    settings.prompt = "a man"
    settings.prompt_text = bpy.data.texts.new("p")
    assert not bpy.ops.latentman.complete_prompt.poll(), "a text is its author's"


def test_a_prompt_is_what_its_text_says(settings, empty_scene):
    settings.prompt = "a man in a coat"
    assert bpy.ops.latentman.edit_prompt(prompt="prompt") == {"FINISHED"}
    text = settings.prompt_text
    assert settings.read_prompt("prompt") == "a man in a coat", "the line is its beginning"
    text.clear()
    text.write("# who\na knight 騎士,\n\n  in silver armour\n# where\nin a forest")
    request = settings.make_request(empty_scene, (1,))
    assert request.text.prompt == "a knight 騎士, in silver armour in a forest"
    drawn = draw(panels.LookPanel)
    assert f"Said: {request.text.prompt}" in drawn.texts and "prompt_text" in drawn.names and "prompt" not in drawn.names
    assert bpy.ops.latentman.edit_prompt(prompt="prompt") == {"FINISHED"} and len(bpy.data.texts) == 1
    text.name = "renamed"
    assert settings.read_prompt("prompt") == request.text.prompt
    settings.prompt_text = None
    assert settings.read_prompt("prompt") == "a man in a coat" and not find_removed_text(settings, "prompt")


def test_an_empty_and_a_very_long_text_are_refused_in_words(settings, empty_scene):
    text = settings.prompt_text = bpy.data.texts.new("Words")
    text.write("# nothing\n\n")
    assert any("says nothing" in line for line in draw(panels.LookPanel).texts)
    with pytest.raises(ShotError, match="The text 'Words' says nothing"):
        settings.make_request(empty_scene, (1,))
    text.write("very " * MAX_TEXT)
    assert any(f"({MAX_TEXT * 5 - 1} characters)" in line and len(line) < 300 for line in draw(panels.LookPanel).texts)
    with pytest.raises(ShotError, match=f"use at most {MAX_TEXT}"):
        check_request(settings.make_request(empty_scene, (1,)))
    # what need not be said may be empty
    settings.prompt_text = None
    settings.negative_prompt_text = bpy.data.texts.new("no")
    assert settings.make_request(empty_scene, (1,)).text.negative_prompt == ""


def test_a_removed_text_is_missed_until_the_line_is_chosen(settings, empty_scene):
    settings.prompt = "the line"
    settings.prompt_text = bpy.data.texts.new("Gone")
    settings.prompt_text.write("the text")
    bpy.data.texts.remove(settings.prompt_text)
    assert settings.make_request(empty_scene, (1,)).text.prompt == "the line"
    drawn = draw(panels.LookPanel)
    assert any("'Gone' was removed" in line for line in drawn.texts) and "latentman.forget_prompt_text" in drawn.operators
    bpy.ops.latentman.forget_prompt_text(prompt="prompt")
    assert not any("removed" in line for line in draw(panels.LookPanel).texts)


def test_a_linked_text_is_read(settings, empty_scene, tmp_path):
    bpy.data.texts.new("shared").write("a robot\nin a city")
    bpy.data.libraries.write(str(tmp_path / "library.blend"), {bpy.data.texts["shared"]})
    bpy.data.texts.remove(bpy.data.texts["shared"])
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, into):
        into.texts = ["shared"]
    settings.prompt_text = bpy.data.texts[0]
    assert settings.prompt_text.library and settings.make_request(empty_scene, (1,)).text.prompt == "a robot in a city"
    assert bpy.ops.latentman.edit_prompt(prompt="prompt") == {"FINISHED"}
    draw(panels.LookPanel)


def test_a_file_that_changed_on_disk_is_reloaded_when_asked(settings, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("a man")
    text = settings.prompt_text = bpy.data.texts.load(str(file))
    settings.negative_prompt_text = text
    with pytest.raises(RuntimeError, match="No text's file has changed"):
        bpy.ops.latentman.reload_prompt(prompt="prompt")
    file.write_text("a woman\nin red")
    os.utime(file, (time.time() + 90,) * 2)
    assert has_changed_on_disk(text) and settings.read_prompt("prompt") == "a man"
    drawn = draw(panels.LookPanel)
    assert any("has changed on disk" in line for line in drawn.texts) and "latentman.reload_prompt" in drawn.operators
    assert bpy.ops.latentman.reload_prompt(prompt="prompt") == {"FINISHED"}
    assert settings.read_prompt("prompt") == settings.read_prompt("negative_prompt") == "a woman in red"
    assert [one.name for one in bpy.data.texts] == ["prompt.txt"] and settings.prompt_text.filepath == str(file)
    file.unlink()
    assert settings.read_prompt("prompt") == "a woman in red"
    draw(panels.LookPanel)


def test_texts_and_prompts_by_frame_are_nobodys_business(settings):
    settings.prompt_text = bpy.data.texts.new("p")
    settings.prompt_text.write("a purple zebra")
    write_prompt_keys(settings, [(4, "an orange walrus")])
    found = diagnostics._find_prompts()
    assert {"a purple zebra", "an orange walrus"} <= set(found)


# -- prompts by frame and keyframes -----------------------------------------------------------------------------------


def test_prompts_by_frame_are_sent(settings, empty_scene):
    settings.prompt = "a knight"
    empty_scene.frame_set(12)
    assert bpy.ops.latentman.add_prompt_key() == {"FINISHED"}
    assert list_prompt_keys(settings) == [(12, "a knight")]
    with pytest.raises(RuntimeError, match="There is a prompt at this frame"):
        bpy.ops.latentman.add_prompt_key()
    settings.prompt_keys[0].prompt = "a skeleton"
    empty_scene.frame_set(20)
    bpy.ops.latentman.add_prompt_key()
    assert settings.prompt_keys[1].prompt == "a skeleton", "as it is there"
    settings.prompt_keys[1].frame, settings.prompt_keys[1].prompt = 5, " a robot "
    settings.prompt_blend, settings.keep_place = 4, False
    request = settings.make_request(empty_scene, (1, 2, 3))
    check_request(request)
    assert request.get_schedule() == Schedule((PromptKey(5, "a robot"), PromptKey(12, "a skeleton")), 4, False)
    drawn = draw(look_drawing.PromptKeysPanel)
    assert {"frame", "prompt", "prompt_blend", "keep_place"} <= set(drawn.names) and drawn.texts[-1] == "Frame 20: a skeleton"
    empty_scene.frame_set(9)
    assert explain_frame(empty_scene, settings, "a knight") == "Frame 9: 75% a robot, 25% a skeleton"
    bpy.ops.latentman.remove_prompt_key(index=0)
    assert list_prompt_keys(settings) == [(5, "a robot")]
    settings.prompt_keys.add().frame = 5
    assert list_prompt_keys(settings) == [(5, "a robot")], "without words it is left out"
    settings.prompt_keys[1].prompt = "x"
    with pytest.raises(ShotError, match="two prompts from frame 5"):
        settings.make_request(empty_scene, (1,))
    assert "two prompts" in draw(look_drawing.PromptKeysPanel).texts[-1]


def test_without_them_a_request_is_what_it_was(settings, empty_scene):
    request = settings.make_request(empty_scene, (1, 2))
    assert request.get_schedule() is None
    digest = compute_settings_digest(request)
    write_prompt_keys(settings, [(2, "a robot")])
    assert compute_settings_digest(settings.make_request(empty_scene, (1, 2))) == digest, "frames are compared one by one"


def keyframe(scene, path, values):
    owner, _, name = path.rpartition(".")
    group = scene.path_resolve(owner)
    for frame, value in values:
        setattr(group, name, value)
        scene.keyframe_insert(path, frame=frame)


def test_the_control_strength_is_read_in_each_frame(settings, empty_scene):
    keyframe(empty_scene, "latentman.control_scale", [(1, 0.2), (11, 1.0)])
    frames = (0, 1, 6, 11, 20)
    requests = []
    for now in (3, 17):
        empty_scene.frame_set(now)
        requests.append(settings.make_request(empty_scene, frames))
    scales = requests[0].get_schedule().control_scales
    assert scales[:2] == (0.2, 0.2) and scales[3:] == (1.0, 1.0) and 0.4 < scales[2] < 0.8
    assert requests[0] == requests[1], "the playhead changes nothing"
    assert explain_curves(empty_scene) == []
    one = settings.make_request(empty_scene, (6,))
    assert one.get_schedule() is None and one.sampling.control_scale == scales[2], "a preview has its frame's strength"
    # the curve may overshoot, and may be muted
    curve = get_used_fcurves(empty_scene)[0]
    curve.keyframe_points[0].co[1] = -3.0
    curve.update()
    assert settings.make_request(empty_scene, frames).get_control_scale(0) == 0.0
    curve.mute = True
    assert settings.make_request(empty_scene, frames).get_schedule() is None


def test_keyframes_that_do_not_count_are_told(settings, empty_scene):
    empty_scene.frame_set(7)
    keyframe(empty_scene, "latentman.steps", [(1, 5), (9, 30)])
    assert explain_curves(empty_scene) == ["Steps is keyframed; the value at frame 7 is used for all frames."]
    keyframe(empty_scene, "latentman.techniques.fusion.shading", [(1, 0.5)])
    empty_scene.driver_add("latentman.seed").driver.expression = "4"
    empty_scene.driver_add("latentman.control_scale").driver.expression = "0.5"
    empty_scene.frame_set(8)
    assert explain_curves(empty_scene) == [
        "Steps and Shading are keyframed; the values at frame 8 are used for all frames.",
        "Seed and Control are driven; the values at frame 8 are used for all frames.",
    ]
    texts = draw(panels.LookPanel).texts
    assert all(sentence in texts for sentence in explain_curves(empty_scene))
    assert settings.make_request(empty_scene, (1, 2)).sampling.control_scale == pytest.approx(0.5)


def test_results_remember_texts_by_their_words_and_prompts_by_frame(settings, empty_scene):
    settings.prompt = "the line"
    settings.prompt_text = bpy.data.texts.new("p")
    settings.prompt_text.write("a knight\nin snow")
    write_prompt_keys(settings, [(3, "a robot")])
    settings.prompt_blend = 2
    memory = read_memory(capture_panel(empty_scene))
    request = settings.make_request(empty_scene, (1, 2, 3))
    settings.prompt_text.clear()
    settings.prompt_text.write("something else")
    write_prompt_keys(settings, [(9, "x"), (10, "y")])
    with use_memory(empty_scene, memory):
        assert settings.make_request(empty_scene, (1, 2, 3)) == request
    assert settings.read_prompt("prompt") == "something else" and settings.prompt == "the line"
    assert list_prompt_keys(settings) == [(9, "x"), (10, "y")] and settings.prompt_text is not None
    assert apply_memory(empty_scene, memory) == []
    assert settings.make_request(empty_scene, (1, 2, 3)) == request and settings.prompt_text is None
