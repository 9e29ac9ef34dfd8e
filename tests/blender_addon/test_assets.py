"""The asset library, and assets that are made of takes and poses."""

from __future__ import annotations

import uuid

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from latentman.blender_addon import operators, properties
from latentman.blender_addon.assets import arrivals, building, catalogs, contents, figure_drawing, library, marking
from latentman.blender_addon.assets.pose_action import FRAME
from latentman.blender_addon.assets.previews import draw_action
from latentman.blender_addon.compat import get_slot_fcurves, get_used_slot
from latentman.blender_addon.operators import assets as asset_operators
from latentman.blender_addon.passes import second_blender
from latentman.blender_addon.rigging.characters import find_character_meshes
from latentman.blender_addon.rigging.rigs import read_rig
from latentman.shared.folders import assets_folder
from latentman.shared.version import VERSION

pytestmark = pytest.mark.usefixtures("registered_operators", "_events")


@pytest.fixture(scope="module")
def _events():
    """What arrives and what is saved is looked at, as while the extension is switched on."""
    arrivals.register()
    marking.register()
    yield
    marking.unregister()
    arrivals.unregister()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a library that a second Blender has made."""
    patch = pytest.MonkeyPatch()
    patch.setenv("LATENTMAN_DATA", str(tmp_path_factory.mktemp("data")))
    build = building.LibraryBuild()
    build.start()
    assert build.busy
    build.wait()
    assert not build.has_failed and not build.busy, build.sentence
    folder = assets_folder()
    patch.undo()
    return folder


@pytest.fixture
def installed(made, monkeypatch):
    """The library, where the extension looks for it."""
    monkeypatch.setenv("LATENTMAN_DATA", str(made.parent))
    return made


def _drag_mannequin(folder, *, reuse=False):
    """What a drop of the asset does: append it with what it needs, and turn it as the ground lies. Returns the armature."""
    before = set(bpy.data.objects)
    bpy.ops.wm.append(
        directory=f"{folder / arrivals.FILE}/Object/", filename="Mannequin", do_reuse_local_id=reuse, clear_asset_data=True
    )
    # before 4.3, Blender tells of it when it evaluates the scene
    bpy.context.view_layer.update()
    new = set(bpy.data.objects) - before
    (root,) = (found for found in new if found.type == "EMPTY")
    root.matrix_world = Matrix.Translation((2.0, 1.0, 0.0))
    bpy.context.view_layer.update()
    (armature,) = (found for found in new if found.type == "ARMATURE")
    assert len(new) == 3 and armature.parent == root and root.asset_data is None
    return armature


def _read_pelvis(armature, frame):
    bpy.context.scene.frame_set(frame)
    posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return np.array(posed.matrix_world @ posed.pose.bones["pelvis"].head)


def _use(library, file, name):
    """Use an Action of a library as its asset shelf does."""
    return bpy.ops.latentman.use_action_asset(
        asset_library_type="CUSTOM", asset_library_identifier=library, relative_asset_identifier=f"{file}/Action/{name}"
    )


def test_the_library_has_the_mannequin_and_every_clip(made, empty_scene):
    with bpy.data.libraries.load(str(made / arrivals.FILE), link=True, assets_only=True) as (there, here):
        here.objects, here.actions = there.objects, there.actions
    known = catalogs.read_catalogs((made / catalogs.FILE).read_text())
    pictures = []
    for found in (*here.objects, *here.actions):
        data = found.asset_data
        assert known[data.catalog_id] == (catalogs.CLIPS if found.id_type == "ACTION" else catalogs.MANNEQUIN)
        assert data.description and data.author == "LatentMan" and data.license == "CC0-1.0" and len(data.tags) >= 2
        pixels = np.empty(figure_drawing.SIDE**2 * 4, np.float32)
        found.preview.image_pixels_float.foreach_get(pixels)
        pictures.append(pixels)
        assert 0.05 < pixels[3::4].mean() < 0.4, "a figure in the middle of nothing"
    assert [found.name for found in here.objects] == ["Mannequin"]
    clips = properties._list_clips(None, None)
    assert {found.name for found in here.actions} == {text for _, text, _ in clips}
    assert min(np.abs(a - b).mean() for n, a in enumerate(pictures) for b in pictures[:n]) > 0.005, "each has a pose of its own"
    assert {path.name for path in made.iterdir()} == {arrivals.FILE, contents.STAMP, catalogs.FILE}


@pytest.mark.parametrize("reuse", [False, True])
def test_two_dragged_mannequins_are_characters_of_their_own(made, empty_scene, reuse):
    first, second = (_drag_mannequin(made, reuse=reuse) for _ in range(2))
    assert properties.get_settings(bpy.context).character == first, "picked where nothing was"
    bodies = [find_character_meshes(armature) for armature in (first, second)]
    assert all(len(found) == 1 and found[0].name in empty_scene.objects for found in bodies)
    assert first.data != second.data and bodies[0][0].data != bodies[1][0].data
    assert all(read_rig(armature).is_smpl and armature.asset_data is None for armature in (first, second))
    points = np.array([bodies[1][0].matrix_world @ vertex.co for vertex in bodies[1][0].data.vertices])
    assert abs(points[:, 2].min()) < 0.02 and 1.5 < points[:, 2].max() < 2.0, "it stands upright on the ground"
    keys = [found[0].data.shape_keys.key_blocks for found in bodies]
    heads = [[np.array(bone.head_local) for bone in armature.data.bones] for armature in (first, second)]
    keys[0]["Shape000"].value = 2.5
    assert bpy.ops.latentman.fit_skeleton() == {"FINISHED"} and keys[1]["Shape000"].value == 0.0
    moved = [
        max(np.abs(np.array(bone.head_local) - head).max() for bone, head in zip(armature.data.bones, before, strict=True))
        for armature, before in zip((first, second), heads, strict=True)
    ]
    assert moved[0] > 0.01 and moved[1] == 0.0
    # nothing holds on to a body that is deleted
    name = bodies[0][0].name
    bpy.ops.object.select_all(action="DESELECT")
    bodies[0][0].select_set(True)
    bpy.ops.object.delete()
    assert name not in bpy.data.objects


def test_an_asset_of_a_clip_moves_each_mannequin(installed, empty_scene):
    first, second = (_drag_mannequin(installed) for _ in range(2))
    library.register_library()
    for armature in (first, second):
        properties.get_settings(bpy.context).character = armature
        assert _use(library.NAME, arrivals.FILE, "a person walks forward") == {"FINISHED"}
        assert np.linalg.norm(_read_pelvis(armature, 40) - _read_pelvis(armature, 1)) > 0.5
    actions = [armature.animation_data.action for armature in (first, second)]
    assert actions[0] != actions[1] and set(bpy.data.actions) == set(actions), "nothing but the two takes"
    with pytest.raises(RuntimeError, match="has no Action 'gone' any more"):
        _use(library.NAME, arrivals.FILE, "gone")
    with pytest.raises(RuntimeError, match=r"gone\.blend cannot be read"):
        _use(library.NAME, "gone.blend", "gone")
    for call in (lambda: _use("Other", arrivals.FILE, "gone"), bpy.ops.latentman.use_action_asset):
        with pytest.raises(RuntimeError, match="Choose an Action in an Asset Browser or an asset shelf first"):
            call()
    with pytest.raises(RuntimeError, match="This file has no Action 'gone' any more"):
        bpy.ops.latentman.use_action_asset(asset_library_type="LOCAL", relative_asset_identifier="Action/gone")


def test_the_preferences_name_the_library_once(installed, empty_scene):
    names = [entry.name for entry in bpy.context.preferences.filepaths.asset_libraries]
    assert library.register_library() and not library.register_library() and library.is_registered()
    entry = bpy.context.preferences.filepaths.asset_libraries[len(names)]
    assert entry.name == "LatentMan" and entry.import_method == "APPEND"
    entry.name = "Mine"
    assert not library.register_library() and entry.name == "Mine"
    assert library.forget_library() and not library.forget_library()
    assert [entry.name for entry in bpy.context.preferences.filepaths.asset_libraries] == names


def test_renewing_and_removing_keep_what_others_have_put_there(made, empty_scene, monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path))
    folder, mine = assets_folder(), f"{uuid.uuid4()}:Mine/Props:Mine-Props\n"
    assert not library.read_version() and not bpy.ops.latentman.remove_assets.poll()
    folder.mkdir()
    (folder / catalogs.FILE).write_text("VERSION 1\n\n" + mine)
    (folder / "mine.blend").write_bytes(b"mine")
    library.take_over(made)
    library.take_over(made)
    library.register_library()
    assert library.read_version() == VERSION
    text = (folder / catalogs.FILE).read_text()
    assert mine in text and text.count(catalogs.CLIPS) == 1
    (folder / contents.STAMP).write_text("{}")
    assert library.read_version() == "unknown", "whose it is cannot be told, so that it can be renewed"
    assert bpy.ops.latentman.remove_assets() == {"FINISHED"}
    assert {path.name for path in folder.iterdir()} == {"mine.blend", catalogs.FILE} and library.is_registered()
    assert (folder / catalogs.FILE).read_text() == "VERSION 1\n\n" + mine
    (folder / "mine.blend").unlink()
    (folder / catalogs.FILE).write_text("VERSION 1\n")
    library.take_over(made)
    assert bpy.ops.latentman.remove_assets() == {"FINISHED"} and not folder.exists() and not library.is_registered()


def test_a_library_that_cannot_be_made_is_a_sentence(made, empty_scene, monkeypatch, tmp_path):
    program = tmp_path / "broken.py"
    program.write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(second_blender, "PROGRAM", program)
    monkeypatch.setenv("LATENTMAN_DATA", str(made.parent))
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    with pytest.raises(RuntimeError, match="could not be made"):
        bpy.ops.latentman.install_assets()
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before and not building.build.busy
    # what is under way can be ended at any moment
    build = building.LibraryBuild()
    build.start()
    temporary = build._second.folder
    build.close()
    assert not temporary.exists() and build.poll()


def test_a_take_becomes_an_asset_and_an_undo_takes_that_back(shot_scene, character, tmp_path):
    properties.get_settings(bpy.context).character = character
    path = tmp_path / "shots" / "shot.blend"
    path.parent.mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.latentman.mark_take("EXEC_DEFAULT", True, tags="slow, tired") == {"FINISHED"}
    action = bpy.data.objects["Mannequin"].animation_data.action
    data, pixels = action.asset_data, np.empty(figure_drawing.SIDE**2 * 4, np.float32)
    assert {tag.name for tag in data.tags} == {"motion", "take", "slow", "tired"} and "a person walks forward" in data.description
    action.preview.image_pixels_float.foreach_get(pixels)
    wanted = draw_action(bpy.data.objects["Mannequin"], action, get_used_slot(bpy.data.objects["Mannequin"]), 1)
    assert np.abs(pixels - wanted.ravel()).max() < 0.01 and len(bpy.data.scenes) == 1
    assert not (path.parent / catalogs.FILE).exists(), "a file is written when the file is saved"
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert bpy.data.objects["Mannequin"].animation_data.action.asset_data is None
    assert bpy.ops.ed.redo() == {"FINISHED"}
    action = bpy.data.objects["Mannequin"].animation_data.action
    assert action.asset_data is not None
    bpy.ops.wm.save_mainfile()
    text = (path.parent / catalogs.FILE).read_text()
    assert catalogs.read_catalogs(text) == {action.asset_data.catalog_id: catalogs.TAKES}
    bpy.ops.wm.save_mainfile()
    assert (path.parent / catalogs.FILE).read_text() == text
    assert bpy.ops.latentman.mark_take() == {"FINISHED"} and len(action.asset_data.tags) == 4, "again renews it"


def test_a_catalog_that_the_user_has_made_is_used(shot_scene, character, tmp_path):
    properties.get_settings(bpy.context).character = character
    own = str(uuid.uuid4())
    (tmp_path / catalogs.FILE).write_bytes(b"VERSION 1\n# \xff\r\n" + f"{own}:Walks/Slow:Walks-Slow\n".encode())
    before = (tmp_path / catalogs.FILE).read_bytes()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    assert bpy.ops.latentman.mark_take(catalog=" Walks / Slow ") == {"FINISHED"}
    assert character.animation_data.action.asset_data.catalog_id == own
    bpy.ops.wm.save_mainfile()
    assert (tmp_path / catalogs.FILE).read_bytes() == before
    assert bpy.ops.latentman.mark_take(catalog="Walks/Fast") == {"FINISHED"}
    bpy.ops.wm.save_mainfile()
    assert (tmp_path / catalogs.FILE).read_bytes().startswith(before)
    # within an asset library the catalogs are those of its root
    inner = tmp_path / "inner" / "b.blend"
    inner.parent.mkdir()
    bpy.context.preferences.filepaths.asset_libraries.new(name="Root", directory=str(tmp_path))
    assert marking.find_library_root(inner) == (tmp_path, True)
    bpy.context.preferences.filepaths.asset_libraries.remove(bpy.context.preferences.filepaths.asset_libraries["Root"])
    assert marking.find_library_root(inner) == (inner.parent, False)


def test_a_take_of_one_file_moves_the_mannequin_of_another(shot_scene, character, tmp_path):
    properties.get_settings(bpy.context).character = character
    name = character.animation_data.action.name
    bpy.ops.latentman.mark_take()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "takes.blend"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.latentman.add_mannequin()
    bpy.ops.latentman.add_mannequin()
    armature = properties.get_settings(bpy.context).character
    bpy.context.preferences.filepaths.asset_libraries.new(name="Takes", directory=str(tmp_path))
    assert armature.name != "Mannequin" and _use("Takes", "takes.blend", name) == {"FINISHED"}
    action = armature.animation_data.action
    assert action.name == name and action.asset_data is None and action.use_fake_user
    assert get_slot_fcurves(action, get_used_slot(armature))
    assert np.linalg.norm(_read_pelvis(armature, 40) - _read_pelvis(armature, 1)) > 0.5
    armature.animation_data_clear()
    assert bpy.ops.latentman.use_action_asset(asset_library_type="LOCAL", relative_asset_identifier=f"Action/{name}") == {
        "FINISHED"
    }
    assert armature.animation_data.action == action and get_slot_fcurves(action, get_used_slot(armature))
    other = bpy.data.objects.new("Other", bpy.data.armatures.new("Other"))
    bpy.context.scene.collection.objects.link(other)
    properties.get_settings(bpy.context).character = other
    with pytest.raises(RuntimeError, match="keys bones that Other does not have"):
        _use("Takes", "takes.blend", name)
    assert len(bpy.data.actions) == 1 and other.animation_data is None


def test_what_is_no_take_of_this_file_is_refused(shot_scene, character, tmp_path):
    settings = properties.get_settings(bpy.context)
    settings.character = character
    action, data = character.animation_data.action, character.animation_data
    strip = data.nla_tracks.new().strips.new("Walk", 1, action)
    data.action = None
    with pytest.raises(RuntimeError, match=f"played by the strip '{strip.name}' of the NLA"):
        bpy.ops.latentman.mark_take()
    data.nla_tracks.remove(data.nla_tracks[0])
    assert not bpy.ops.latentman.mark_take.poll()
    data.action = bpy.data.actions.new("Empty")
    if bpy.ops.latentman.mark_take.poll():
        with pytest.raises(RuntimeError, match="has no keys"):
            bpy.ops.latentman.mark_take()
    bpy.data.libraries.write(str(tmp_path / "linked.blend"), {action}, fake_user=True)
    with bpy.data.libraries.load(str(tmp_path / "linked.blend"), link=True) as (_, here):
        here.actions = [action.name]
    data.action = here.actions[0]
    with pytest.raises(RuntimeError, match="is linked from another file"):
        bpy.ops.latentman.mark_take()
    assert all(found.asset_data is None for found in bpy.data.actions)


def _read_heads(armature):
    posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return {bone.name: np.array(bone.head) for bone in posed.pose.bones}


def test_a_pose_is_applied_and_flipped_on_another_mannequin(shot_scene, character, body_model):
    properties.get_settings(bpy.context).character = character
    shot_scene.frame_set(30)
    assert bpy.ops.latentman.mark_pose() == {"FINISHED"} and bpy.ops.latentman.mark_pose() == {"FINISHED"}
    poses = [action for action in bpy.data.actions if action.asset_data is not None]
    assert [action.name for action in poses] == ["a person walks forward, frame 30", "a person walks forward, frame 30.001"]
    wanted, pose = _read_heads(character), poses[0]
    assert tuple(pose.frame_range) == (FRAME, FRAME) and pose.asset_data.description == "All bones of Mannequin"
    bpy.ops.latentman.add_mannequin()
    other = properties.get_settings(bpy.context).character
    assert other != character
    other.pose.apply_pose_from_action(pose, evaluation_time=FRAME)
    bpy.context.view_layer.update()
    found = _read_heads(other)
    assert max(np.abs(found[name] - head).max() for name, head in wanted.items()) < 1e-4
    flipped = pose.copy()
    flipped.flip_with_pose(other)
    other.pose.apply_pose_from_action(flipped, evaluation_time=FRAME)
    bpy.context.view_layer.update()
    found = _read_heads(other)
    sides = {"left": "right", "right": "left"}
    for name, head in wanted.items():
        side, _, rest = name.partition("_")
        mirrored = found[f"{sides[side]}_{rest}" if side in sides else name] * [-1, 1, 1]
        # the mannequin's own joints are not quite mirror images
        assert np.abs(mirrored - head).max() < 0.03, name
    assert np.abs(found["left_ankle"] - wanted["left_ankle"]).max() > 0.05


def test_a_pose_of_selected_bones_has_only_those(character):
    properties.get_settings(bpy.context).character = character
    with pytest.raises(RuntimeError, match="No bone is selected"):
        bpy.ops.latentman.mark_pose(bones="SELECTED")
    bpy.context.view_layer.objects.active = character
    bpy.ops.object.mode_set(mode="POSE")
    bpy.ops.pose.select_all(action="DESELECT")
    bone = character.pose.bones["left_elbow"]
    (bone if hasattr(bone, "select") else bone.bone).select = True
    assert bpy.ops.latentman.mark_pose(name="Elbow") == {"FINISHED"} and bpy.ops.latentman.mark_pose(bones="ALL") == {"FINISHED"}
    bpy.ops.object.mode_set(mode="OBJECT")
    elbow, whole = bpy.data.actions["Elbow"], next(action for action in bpy.data.actions if action.name != "Elbow")
    curves = {
        action.name: get_slot_fcurves(action, action.slots[0] if hasattr(action, "slots") else None) for action in (elbow, whole)
    }
    assert {curve.data_path for curve in curves["Elbow"]} == {
        f'pose.bones["left_elbow"].{name}' for name in ("location", "rotation_quaternion", "scale")
    }
    assert len(curves["Elbow"]) == 10 and len(curves[whole.name]) == 10 * len(character.pose.bones)


def test_catalogs_of_any_text():
    path = catalogs.clean_path("/ LatentMan //Takes: slow\n/")
    assert path == "LatentMan/Takes slow" and catalogs.clean_path(" / ") == ""
    text = catalogs.add_catalogs("", [path, path, ""])
    assert catalogs.read_catalogs(text) == {catalogs.make_catalog_id(path): path} and text.count("VERSION 1") == 1
    assert catalogs.add_catalogs(text, [path]) == text
    strange = "VERSION 1\nnot a catalog\n:::\n12:a:b\n" + "x" * 1000
    both = catalogs.add_catalogs(strange, [path])
    assert both.startswith(strange) and catalogs.find_catalog_id(both, path) == catalogs.make_catalog_id(path)
    assert catalogs.remove_catalogs(both, [path]) == strange + "\n"


def test_a_figure_of_anything_is_a_picture():
    empty = figure_drawing.draw_figure(np.zeros((0, 3)), np.zeros((0, 3), int))
    assert empty.shape == (figure_drawing.SIDE, figure_drawing.SIDE, 4) and not empty.any()
    assert not figure_drawing.draw_figure(np.full((3, 3), np.nan), np.array([[0, 1, 2]])).any()
    points, triangles = figure_drawing.make_bone_triangles(np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]]))
    drawn = figure_drawing.draw_figure(points * 1e4 + 1e5, triangles)
    assert 0 < drawn[..., 3].mean() < 0.5 and drawn.max() <= 1.0 and drawn.min() >= 0.0


def test_the_operators_are_listed():
    assert set(asset_operators.CLASSES) <= set(operators.CLASSES)


def test_a_click_that_calls_twice_uses_the_asset_once():
    click = asset_operators._Click()
    one, other = "latentman.blend/Action/a", "latentman.blend/Action/b"
    # as Blender 5.2 calls for two clicks, and for one after the mouse button went up over another asset
    assert [click.is_over(one, value) for value in ("PRESS", "RELEASE", "PRESS", "RELEASE")] == [False, True, False, True]
    assert [click.is_over(one, "PRESS"), click.is_over(other, "RELEASE")] == [False, False]
    # as other versions call
    assert [click.is_over(one, value) for value in ("RELEASE", "RELEASE", "CLICK")] == [False, False, False]
