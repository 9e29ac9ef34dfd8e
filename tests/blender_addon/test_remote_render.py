"""Passes that a second Blender renders from a copy of the file: the same as those of this one, whatever happens meanwhile."""

from __future__ import annotations

import time
from collections import deque

import bpy
import numpy as np
import pytest

from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.passes import remote_render, render, second_blender
from latentman.blender_addon.passes.remote_render import RemotePassRender, make_render
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.blender_addon.translation.language import CATALOGUES, LOCALES
from latentman.blender_addon.translation.po_file import read_messages
from latentman.blender_addon.translation.translator import Translator
from latentman.blender_addon.typed_access import ScenePlace
from latentman.shared.overview import compute_overview_size
from latentman.shared.picture_size import Crop
from latentman.shared.shot import ShotError
from tests import samples
from tests.blender_addon.any_scene import add_box, add_camera, add_character, make_material
from tests.oracles import blend_snapshot

SIZE = (96, 80)
FRAMES = (3, 9, 14)
#: a window's tick
TICK_SECONDS = 0.02


@pytest.fixture(autouse=True)
def _again(monkeypatch):
    monkeypatch.setattr(remote_render, "_gave_up", "")


@pytest.fixture
def scene():
    """A character that bends, a crate, and a camera, in a file that was never saved."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found = bpy.context.scene
    found.frame_end = 20
    found.camera = add_camera()
    add_character()
    add_box("Crate", (0.6, 0.4, 0.3), (0.4, 0.4, 0.4))
    return found


def get_rig():
    """The character."""
    return bpy.data.objects["Ann Rig"]


def make(scope="CHARACTER", **options) -> RemotePassRender:
    """A render in a second Blender."""
    return make_render(bpy.context, get_rig(), FRAMES, *SIZE, scope=scope, **options)


def measure(job) -> None:
    """Measure as a window does, which does something else between the steps."""
    steps = job.measure()
    for _ in steps:
        while not job.has_news:
            time.sleep(TICK_SECONDS)


def collect(job, indices, one=None) -> dict[int, render.RenderedFrame]:
    """Render frames in this order; ``one`` renders them, the shot's own render by default."""
    waiting, out, wanted = deque(indices), {}, len(indices)
    while len(out) < wanted:
        for frame in (one or job).render_slice(lambda: waiting.popleft() if waiting else None):
            out[frame.index] = frame
        while len(out) < wanted and not job.has_news:
            time.sleep(TICK_SECONDS)
    return out


def compare(found, expected) -> None:
    """Every array and entry of two renders of a frame is the same."""
    assert found.entry == expected.entry
    mine, theirs = dict(found.passes.arrays()), dict(expected.passes.arrays())
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["CHARACTER", "SCENE"])
@pytest.mark.parametrize("crop", [None, Crop(10, 4, 70, 60)])
def test_it_renders_the_same(scene, scope, crop):
    options = dict(scope=scope, range_frames=(1, *FRAMES, 20))
    here = PassRender(bpy.context, get_rig(), FRAMES, *SIZE, keep_scenes=True, frame=crop, **options)
    list(here.measure())
    here_small = here.make_overview(*compute_overview_size(*SIZE))
    order = (2, 0, 1)
    expected, small = collect(here, order), collect(here, order, here_small)
    here_small.close()
    here.close()
    bpy.context.view_layer.update()
    before = blend_snapshot.take_snapshot()
    there = make(frame=crop, **options)
    measure(there)
    assert not there._here
    assert there.header == here.header and (there.near, there.far) == (here.near, here.far)
    overview = there.make_overview(*compute_overview_size(*SIZE))
    found_small, found = collect(there, order, overview), collect(there, order)
    overview.close()
    there.check_seen()
    folder = there._folder
    there.close()
    for index in order:
        compare(found[index], expected[index])
        compare(found_small[index], small[index])
    changes = [line for line in blend_snapshot.diff(before, blend_snapshot.take_snapshot()) if "system_bookmarks" not in line]
    assert not changes, changes[:20]
    assert _vanishes(folder)


def test_another_scene_and_another_camera_are_rendered_the_same(scene):
    other, own = bpy.data.scenes.new("Other"), add_camera("Own", location=(1.0, -5.0, 1.6))
    for found in scene.objects:
        other.collection.objects.link(found)
    place, options = ScenePlace(other, other.view_layers[0]), {"scope": "CHARACTER", "camera": own}
    here = PassRender(place, get_rig(), FRAMES[:1], *SIZE, keep_scenes=True, shadow=True, plain_ground=True, **options)
    list(here.measure())
    expected = collect(here, (0,))
    here.close()
    there = make_render(place, get_rig(), FRAMES[:1], *SIZE, shadow=True, plain_ground=True, **options)
    measure(there)
    assert not there._here and bpy.context.scene == scene
    compare(collect(there, (0,))[0], expected[0])
    there.close()
    seen = PassRender(bpy.context, get_rig(), FRAMES[:1], *SIZE, keep_scenes=True)
    list(seen.measure())
    assert collect(seen, (0,))[0].entry.camera != expected[0].entry.camera
    seen.close()


def _vanishes(folder, seconds=20) -> bool:
    end = time.monotonic() + seconds
    while folder.exists() and time.monotonic() < end:
        time.sleep(TICK_SECONDS)
    return not folder.exists()


def test_what_changes_meanwhile_does_not_reach_the_shot(scene, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "mine.blend"))
    here = PassRender(bpy.context, get_rig(), FRAMES, *SIZE, keep_scenes=True)
    list(here.measure())
    expected = collect(here, (0, 1, 2))
    here.close()
    there = make()
    measure(there)
    get_rig().location.x += 0.5
    found = collect(there, (0,))
    bpy.data.objects.remove(get_rig())
    found |= collect(there, (1,))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found |= collect(there, (2,))
    there.close()
    for index, frame in found.items():
        compare(frame, expected[index])


@pytest.mark.parametrize("kind", ["AUTO", "NONE", "CAMERA"])
def test_the_copy_leaves_the_preferences_as_they_are(scene, tmp_path, kind):
    preferences = bpy.context.preferences
    preferences.filepaths.file_preview_type, preferences.is_dirty = kind, False
    second_blender.copy_file(tmp_path / "copy.blend")
    assert preferences.filepaths.file_preview_type == kind and not preferences.is_dirty
    assert (tmp_path / "copy.blend").read_bytes().startswith(b"BLENDER"), "the copy is not compressed"
    assert not bpy.data.filepath
    preferences.filepaths.file_preview_type = "AUTO"


def test_what_is_not_saved_is_in_the_copy(scene, tmp_path):
    """A file that was saved and changed since, in Edit Mode, with a library of another folder."""
    (tmp_path / "elsewhere").mkdir()
    library = tmp_path / "elsewhere" / "props.blend"
    box = add_box("Hat", (0, 0, 1.7), (0.5, 0.5, 0.2))
    bpy.data.libraries.write(str(library), {box})
    bpy.data.objects.remove(box)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "mine.blend"))
    with bpy.data.libraries.load("//elsewhere/props.blend", link=True) as (_theirs, mine):
        mine.objects = ["Hat"]
    scene = bpy.context.scene
    scene.collection.objects.link(mine.objects[0])
    crate = bpy.data.objects["Crate"]
    bpy.context.view_layer.objects.active = crate
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.transform.translate(value=(0.3, 0, 0))
    there = make("SCENE")
    measure(there)
    found = collect(there, (1,))
    there.close()
    assert crate.mode == "EDIT"
    bpy.ops.object.mode_set(mode="OBJECT")
    here = PassRender(bpy.context, get_rig(), FRAMES, *SIZE, scope="SCENE", keep_scenes=True)
    list(here.measure())
    compare(found[1], collect(here, (1,))[1])
    here.close()
    assert "Hat" in {entry.name for entry in found[1].entry.surfaces}


@pytest.mark.parametrize(("edited", "scope"), [("Ann Rig", "CHARACTER"), ("Ann Body", "CHARACTER"), ("Crate", "SCENE")])
def test_what_is_edited_is_left_in_the_copy_and_refused_here(scene, edited, scope):
    here = PassRender(bpy.context, get_rig(), FRAMES, *SIZE, scope=scope, keep_scenes=True)
    list(here.measure())
    expected = collect(here, (2,))
    here.close()
    found = bpy.data.objects[edited]
    bpy.context.view_layer.objects.active = found
    bpy.ops.object.mode_set(mode="EDIT")
    there = make(scope)
    measure(there)
    compare(collect(there, (2,))[2], expected[2])
    there.close()
    assert found.mode == "EDIT"
    with pytest.raises(ShotError, match=f"{edited} is in Edit Mode"):
        PassRender(bpy.context, get_rig(), FRAMES, *SIZE, scope=scope)
    # nor where no second Blender can do it
    remote_render._give_up("there is none")
    with pytest.raises(ShotError, match=f"{edited} is in Edit Mode"):
        measure(make(scope))
    bpy.ops.object.mode_set(mode="OBJECT")


def _hold_unsaved_cut_out(scene):
    image = bpy.data.images.new("Holes", 8, 8, alpha=True)
    pixels = np.ones((8, 8, 4), np.float32)
    pixels[2:5, :, 3] = 0
    image.pixels.foreach_set(pixels.ravel())

    def build(tree, principled, output):
        texture = tree.nodes.new("ShaderNodeTexImage")
        texture.image = image
        tree.links.new(texture.outputs["Alpha"], principled.inputs["Alpha"])

    bpy.data.objects["Ann Body"].data.materials.append(make_material("Leaves", build))
    assert image.is_dirty


def _know_more_names(scene):
    bpy.app.driver_namespace["lift"] = lambda: 0.3


def _let_physics_move(scene):
    crate = bpy.data.objects["Crate"]
    with bpy.context.temp_override(active_object=crate, object=crate, selected_objects=[crate]):
        bpy.ops.rigidbody.object_add(type="ACTIVE")


def _have_no_memory(scene, monkeypatch):
    monkeypatch.setattr(remote_render, "measure_memory", lambda: (100 << 20, 8 << 30))


def _have_no_disk(scene, monkeypatch):
    def refuse(path):
        raise remote_render.CopyError("no space left")

    monkeypatch.setattr("latentman.blender_addon.passes.second_blender.copy_file", refuse)


def _have_no_program(scene, monkeypatch, tmp_path):
    program = tmp_path / "fail.py"
    program.write_text("import sys; print('latentman {'); sys.exit('on purpose')")
    monkeypatch.setattr("latentman.blender_addon.passes.second_blender.PROGRAM", program)


def _check_translations(note, why):
    """In every language all of it but the names is said in that language."""
    for locale in LOCALES:
        messages = read_messages((CATALOGUES / f"{locale}.po").read_text(encoding="utf-8"))
        said = Translator(messages).translate(note)
        assert "renders" not in said and (why not in said or why in ("no space left", "lift")), said


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (_hold_unsaved_cut_out, "'Holes' is not saved"),
        (_know_more_names, "lift"),
        (_let_physics_move, "depend on the scene"),
        (_have_no_memory, "no memory"),
        (_have_no_disk, "no space left"),
        (_have_no_program, "ended"),
    ],
)
def test_where_no_second_blender_can_do_it_this_one_does(scene, prepare, why, monkeypatch, tmp_path):
    known = {"scene": scene, "monkeypatch": monkeypatch, "tmp_path": tmp_path}
    try:
        prepare(*(known[name] for name in prepare.__code__.co_varnames[: prepare.__code__.co_argcount]))
        there = make("SCENE")
        measure(there)
        assert why in there.note and there.note.startswith("This Blender renders the passes itself")
        _check_translations(there.note, why)
        found = collect(there, (1,))
        there.close()
    finally:
        bpy.app.driver_namespace.pop("lift", None)
    here = PassRender(bpy.context, get_rig(), FRAMES, *SIZE, scope="SCENE", keep_scenes=True)
    list(here.measure())
    compare(found[1], collect(here, (1,))[1])
    here.close()
    # one that ends by itself is not tried again
    assert bool(remote_render._gave_up) == (why == "ended")


def test_a_second_blender_that_dies(scene):
    there = make()
    measure(there)
    collect(there, (0,))
    there._second.process.kill()
    there._second.process.wait()
    with pytest.raises(ShotError, match="generate the shot again"):
        collect(there, (1,))
    folder = there._folder
    there.close()
    assert _vanishes(folder) and make()._here


def test_a_shot_that_cannot_be_is_refused_before(scene):
    scene.camera = None
    with pytest.raises(ShotError, match="camera"):
        make()


def test_a_scene_without_the_character_in_view(scene):
    scene.camera.rotation_euler = (0, 0, 0)
    scene.camera.location = (50, 50, 50)
    there = make()
    measure(there)
    collect(there, (0,))
    with pytest.raises(ShotError, match="does not see"):
        there.check_seen()
    there.close()


def test_cancelling_ends_it(scene):
    there = make()
    steps = there.measure()
    next(steps)
    process, folder = there._second.process, there._folder
    there.close()
    steps.close()
    assert process.wait(20) is not None and _vanishes(folder)


def test_a_shot_through_the_backend(connection, shot_scene, character, tmp_path):
    def generate(name, **options):
        task = ShotTask(
            bpy.context, character, samples.request(3), connection.client, tmp_path / name, folder_per_job=False, **options
        )
        connection.add(task)
        assert wait_until(connection, lambda: task.done, 180)
        assert task.succeeded, task.error
        return [path.read_bytes() for path in sorted((tmp_path / name).glob("*.png"))]

    kept = {"keep_passes": tmp_path / "passes"}
    assert generate("there", elsewhere=True, **kept) == generate("here")
    assert (tmp_path / "passes" / "manifest.json").exists() or list((tmp_path / "passes").glob("*.json"))
