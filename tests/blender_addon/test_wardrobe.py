"""What a character wears, in files as people have them: linked ones and overrides, other names, images of every kind."""

from __future__ import annotations

import io
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector
from PIL import Image

from latentman.blender_addon import look, properties, wardrobe
from latentman.blender_addon.passes import staged_character
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.passes.staged_character import stage_character
from latentman.blender_addon.tasks import frames_folder
from latentman.shared import messages
from latentman.shared.charts import encode_arrays
from latentman.shared.dress_options import number_shot_frame
from latentman.shared.png import encode_rgba
from latentman.shared.shot import ShotError
from tests.blender_addon.any_scene import add_box, add_camera, add_character, add_collection, link, make_tube, skin

GREEN = (0.1, 0.8, 0.1)


@pytest.fixture
def scene():
    """An empty scene with a camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found = bpy.context.scene
    found.camera = add_camera()
    return found


def _write_image(path, colour=(200, 60, 40, 255), size=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_rgba(bytes(colour) * size * size, size, size))
    return path


def _fill(image, colour=GREEN):
    width, height = image.size
    pixels = np.ones((height, width, image.channels), np.float32)
    pixels[..., :3] = colour
    image.pixels.foreach_set(pixels.ravel())
    image.update()


def _read(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def _make_costume(charts, images=None):
    """A costume's file for charts, with one cell."""
    texture = {"cells": np.zeros(1, np.int64), "values": np.ones((1, 4), np.float32), "side": np.array(0.1)}
    pictures = {f"image_{number}": np.frombuffer(data, np.uint8) for number, data in (images or {}).items()}
    return encode_arrays({**pictures, **charts.arrays(), **texture, "prompt": np.array("a knight")})


def _save_library(path, *, wears=""):
    rig, body = add_character("Ann")
    body.data.materials.append(bpy.data.materials.new("Skin"))
    group = bpy.data.collections.new("Ann")
    bpy.context.scene.collection.children.link(group)
    for one in (rig, body):
        bpy.context.scene.collection.objects.unlink(one)
        group.objects.link(one)
    if wears:
        properties.set_kept_look(rig, wears, "a knight")
    path.parent.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path))


def _link_library(path, shot, *, override):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(path), link=True) as (_, into):
        into.collections = ["Ann"]
    scene = bpy.context.scene
    if override:
        into.collections[0].override_hierarchy_create(scene, bpy.context.view_layer)
    else:
        scene.collection.children.link(into.collections[0])
    shot.parent.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(shot))
    return _find_rig()


def _find_rig():
    rigs = [one for one in bpy.context.scene.objects if one.type == "ARMATURE"]
    return next((one for one in rigs if one.override_library), rigs[0])


def _reopen():
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)
    return _find_rig()


def test_an_override_keeps_what_it_is_told_to_keep(scene, tmp_path):
    _save_library(tmp_path / "chars" / "ann.blend")
    rig = _link_library(tmp_path / "chars" / "ann.blend", tmp_path / "shots" / "one.blend", override=True)
    assert not properties.explain_linked(rig)
    texture = _write_image(tmp_path / "shots" / "frames" / "job" / "look" / "texture_1.png")
    costume = texture.with_name("character.costume")
    wardrobe.wear(rig, costume, "a knight", "//frames")
    bodies = wardrobe.find_wearing(rig)
    look.apply_look(bodies, texture, "Look", "job")
    bodies[0].latentman_is_prop = True
    rig = _reopen()
    assert properties.get_kept_look(rig) == ("//frames/job/look/character.costume", "a knight")
    body = next(one for one in bpy.context.scene.objects if one.type == "MESH" and one.override_library)
    assert body.latentman_is_prop
    # the look is still there, lies over what the library has, and can be taken off
    assert look.has_look(body) and look.find_surface(look.find_look(body), "job") == 1
    look.apply_look([body], _write_image(texture.with_name("texture_2.png")), "Look", "other")
    assert look.remove_look([body]) == 1
    assert body.material_slots[0].material.name == "Skin" and not look.has_look(body)
    rig = _reopen()
    body = next(one for one in bpy.context.scene.objects if one.type == "MESH" and one.override_library)
    assert body.material_slots[0].material.name == "Skin"


@pytest.mark.parametrize("override", [False, True])
def test_what_a_library_says_begins_at_the_librarys_file(scene, tmp_path, override):
    worn = "//frames/job/look/character.costume"
    _save_library(tmp_path / "chars" / "ann.blend", wears=worn)
    rig = _link_library(tmp_path / "chars" / "ann.blend", tmp_path / "shots" / "deep" / "one.blend", override=override)
    whole = tmp_path / "chars" / "frames" / "job" / "look" / "character.costume"
    for _ in range(2):
        assert Path(properties.get_kept_look(rig)[0]) == whole
        rig = _reopen()
    # another one, put on here, is this file's own, also where it is called the same from here
    own = tmp_path / "shots" / "deep" / "frames" / "job" / "look" / "character.costume"
    wardrobe.wear(rig, own, "a queen", "//frames")
    assert wardrobe.resolve(properties.get_kept_look(rig)[0]) == own
    assert bool(properties.explain_linked(rig)) is not override


@pytest.mark.parametrize("kind", ["byte", "float", "data", "jpeg", "elsewhere", "exr", "generated", "packed", "grey", "sixteen"])
def test_what_was_painted_is_found_whatever_the_image(scene, tmp_path, kind):
    rig, body = add_character()
    texture = _write_image(tmp_path / "job" / "look" / "texture_1.png")
    look.apply_look([body], texture, "Look", "job")
    material = look.find_look(body)
    node = next(one for one in material.node_tree.nodes if one.type == "TEX_IMAGE")
    image, wanted = node.image, np.array([26, 204, 26])
    assert np.abs(_read(wardrobe.find_worn_images(rig, texture.parent)[1])[..., :3] - (200, 60, 40)).max() == 0
    if kind in ("float", "data"):
        node.image = bpy.data.images.new("Mine", 32, 32, alpha=True, float_buffer=True)
        if kind == "data":
            node.image.colorspace_settings.name = "Non-Color"
        else:
            wanted = np.array([89, 231, 89])
        _fill(node.image)
    elif kind == "generated":
        node.image = bpy.data.images.new("My paint", 64, 64, alpha=True)
        _fill(node.image)
    elif kind == "grey":
        Image.new("L", (32, 32), 90).save(texture)
        image.reload()
        wanted = np.array([90, 90, 90])
    elif kind == "sixteen":
        Image.fromarray(np.full((32, 32), 90 * 257, np.uint16)).save(tmp_path / "mine 16.png")
        node.image = bpy.data.images.load(str(tmp_path / "mine 16.png"))
        wanted = np.array([90, 90, 90])
    else:
        _fill(image)
        file_format, name = {
            "jpeg": ("JPEG", "my paint.jpg"),
            "elsewhere": ("PNG", "mé paint.png"),
            "exr": ("OPEN_EXR", "p.exr"),
        }.get(kind, ("", ""))
        if file_format:
            image.file_format, image.filepath_raw = file_format, str(tmp_path / name)
            image.save()
        if kind == "exr":
            image.colorspace_settings.name = "Linear Rec.709"
            image.reload()
            assert image.is_float
        if kind == "packed":
            image.pack()
    material.name, node.image.name = "Mine", "Albedo"
    found = wardrobe.find_worn_images(rig, texture.parent)
    assert list(found) == [1]
    painted = _read(found[1])
    if kind == "sixteen":  # the backend rounds it
        painted = (np.asarray(Image.open(io.BytesIO(found[1]))).astype(float) / 257).round()[..., None].repeat(4, 2)
    assert np.abs(painted[..., :3].astype(int) - wanted).max() <= (6 if kind == "jpeg" else 1)
    # what is of another dressing is not this one's paint
    assert not wardrobe.find_worn_images(rig, tmp_path / "other" / "look")


def test_the_image_of_a_shot_that_wore_the_costume_is_painted_on_as_well(scene, tmp_path):
    rig, body = add_character()
    shot_texture = _write_image(tmp_path / "shot" / "look" / "texture_1.png")
    look.apply_look([body], shot_texture, "Look", "shot", "dressing")
    _fill(look.find_look_image(look.find_look(body)))
    for folder, found in (("dressing", [1]), ("shot", [1]), ("another", [])):
        assert list(wardrobe.find_worn_images(rig, tmp_path / folder / "look")) == found
    # the same shot again in another costume
    look.apply_look([body], shot_texture, "Look", "shot", "another")
    assert list(wardrobe.find_worn_images(rig, tmp_path / "another" / "look")) == [1]


def _add_parts(rig):
    cap = link(bpy.data.objects.new("Cap", make_tube("Cap", radius=0.36, height=0.3)))
    cap.data.transform(Matrix.Translation((0, 0, 1.25)))
    skin(cap, rig)
    hat = add_box("Hat", (0, 0, 1.8), (0.7, 0.5, 0.2))
    hat.parent = rig
    eye = add_box("Eye", (0.2, -0.3, 1.4), (0.1, 0.1, 0.1), uv=False)
    eye.parent, eye.parent_type, eye.parent_bone = rig, "BONE", "Head"
    return cap, hat, eye


@pytest.mark.parametrize("change", ["nothing", "renamed", "swapped", "subdivided", "another mesh", "unwrapped anew"])
def test_every_mesh_shows_the_image_of_its_own_surface(scene, tmp_path, change):
    rig, body = add_character()
    cap, hat, eye = _add_parts(rig)
    charts = stage_character(bpy.context, rig, plan=False).charts
    folder = tmp_path / "job"
    _write_image(folder / "look" / "texture_1.png")
    (folder / "look" / "character.costume").write_bytes(_make_costume(charts))
    numbers = {name: number for number, name in charts.names.items()}
    wanted = {one: numbers[one.name] for one in (body, cap, hat)}
    if change == "renamed":
        body.name, cap.name, hat.name = "Skin", "Collar", "Crown"
    elif change == "swapped":
        body.name, cap.name = "tmp", "Ann Body"
        body.name = "Cap"
    elif change == "subdivided":
        body.modifiers.new("Subdivision", "SUBSURF").subdivision_type = "SIMPLE"
    elif change == "another mesh":
        other = add_box("Bag", (0.4, 0.2, 0.8), (0.3, 0.2, 0.4))
        other.parent = rig
    elif change == "unwrapped anew":
        layer = cap.data.uv_layers[0]
        for corner in layer.data:
            corner.uv = (1 - corner.uv.x, corner.uv.y)
    textures, notes = wardrobe.find_textures(bpy.context, rig, folder)
    assert textures == {one: folder / "look" / f"texture_{number}.png" for one, number in wanted.items()}
    assert eye.name in notes[0] and ("Bag" in notes[0]) is (change == "another mesh")
    assert [cap.name in note and "dress again" in note for note in notes[1:]] == [True] * (change == "unwrapped anew")


def test_instances_of_one_name_stay_apart(scene, tmp_path):
    """Geometry nodes give all of them their object's name."""
    rig, body = add_character()
    stud = add_box("Stud", (9, 9, 9), (0.05, 0.05, 0.08))
    tree = bpy.data.node_groups.new("Studs", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    new, put = tree.nodes.new, tree.links.new
    start, end, info = new("NodeGroupInput"), new("NodeGroupOutput"), new("GeometryNodeObjectInfo")
    place, join = new("GeometryNodeInstanceOnPoints"), new("GeometryNodeJoinGeometry")
    info.inputs[0].default_value = stud
    put(start.outputs[0], place.inputs["Points"])
    put(info.outputs["Geometry"], place.inputs["Instance"])
    put(place.outputs[0], join.inputs[0])
    put(start.outputs[0], join.inputs[0])
    put(join.outputs[0], end.inputs[0])
    body.modifiers.new("Studs", "NODES").node_group = tree
    charts = stage_character(bpy.context, rig, plan=False).charts
    assert len(charts.names) > messages.MAX_ARRAYS // 8 and len(set(charts.names.values())) < len(charts.names)
    # numbered as in another shot, every surface has its own triangles there
    shifted = {number + 3: name for number, name in charts.names.items()}
    again = charts.renumber(shifted)
    assert again.names == shifted and np.array_equal(again.surface, charts.surface + 3)
    assert np.array_equal(again.rest, charts.rest)
    assert wardrobe.find_numbers(charts, charts, [body]) == {body: next(iter(charts.names))}
    # all of their images fit into one message
    arrays = {f"texture_{number}": np.zeros(3, np.uint8) for number in range(staged_character.MOST_SURFACES)}
    _, arrived = messages.decode(
        messages.encode(messages.Finished(ticket="t", report={}), {**arrays, "costume": np.ones(4, np.uint8)})
    )
    assert len(arrived) == staged_character.MOST_SURFACES + 1


def test_more_surfaces_than_a_costume_can_tell_apart_are_refused(scene, monkeypatch):
    rig, _ = add_character()
    _add_parts(rig)
    monkeypatch.setattr(staged_character, "MOST_SURFACES", 3)
    with pytest.raises(ShotError, match=r"4 separate surfaces.*join them"):
        stage_character(bpy.context, rig)
    monkeypatch.setattr(staged_character, "MOST_SURFACES", 4)
    monkeypatch.setattr(staged_character, "MAX_TRIANGLES", 100)
    with pytest.raises(ShotError, match=r"at most 100 can be dressed; lower the levels"):
        stage_character(bpy.context, rig)


def test_what_was_painted_into_a_costumes_file_outlives_the_same_dressing(scene, tmp_path):
    rig, _ = add_character()
    charts = stage_character(bpy.context, rig, plan=False).charts
    made, other, paint = (encode_rgba(bytes((n, n, n, 255)) * 4, 2, 2) for n in (10, 20, 30))

    def store(image):
        costume = _make_costume(charts, {1: image})
        arrays = {"texture_1": np.frombuffer(image, np.uint8), "costume": np.frombuffer(costume, np.uint8)}
        frames_folder.store_report(tmp_path, {}, arrays)

    texture = tmp_path / "look" / "texture_1.png"
    store(made)
    texture.write_bytes(paint)
    # again, as Fetch Again and the same request have it
    store(made)
    assert texture.read_bytes() == paint
    # another costume in the same folder, as the command line has it
    store(other)
    assert texture.read_bytes() == other and (tmp_path / "look" / "texture_1_painted.png").read_bytes() == paint
    # damaged ones are made whole
    texture.write_bytes(b"half")
    store(other)
    assert texture.read_bytes() == other and len(list((tmp_path / "look").glob("*.png"))) == 2


def test_what_an_earlier_dressing_stored_in_the_folder_is_removed_and_nothing_else(tmp_path):
    picture = {"png": np.frombuffer(encode_rgba(bytes((9, 9, 9, 255)) * 4, 2, 2), np.uint8)}
    former = (1, 2, 3, 4, number_shot_frame(-7), number_shot_frame(12))
    dressing = {"settings": {"frames": former}, "costume": {"known": 0.9}}

    def store(report, frames=former):
        for frame in frames:
            frames_folder.store_frame(tmp_path, frame, picture)
        (tmp_path / "0044.png").write_bytes(b"somebody else's")
        frames_folder.store_report(tmp_path, report, {})

    def list_pictures():
        return sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))

    store(dressing)
    everything = list_pictures()
    assert everything == ["0001.png", "0002.png", "0003.png", "0004.png", "0044.png", "shot/-007.png", "shot/0012.png"]
    # the same once more
    frames_folder.remove_former(tmp_path, former)
    assert list_pictures() == everything
    # fewer views, and another frame of the shot
    frames_folder.remove_former(tmp_path, (1, 2, number_shot_frame(12)))
    assert list_pictures() == ["0001.png", "0002.png", "0044.png", "shot/0012.png"]
    # without the shot
    frames_folder.remove_former(tmp_path, (1, 2))
    assert list_pictures() == ["0001.png", "0002.png", "0044.png"] and not (tmp_path / "shot").exists()
    # a shot that wears a costume is none, and neither are reports that are not whole
    for report in (
        {"settings": {"frames": former}, "costume": {"painted": 0.0}},
        {"settings": {"frames": "all"}},
        {},
        {**dressing, "settings": {}},
    ):
        store(report)
        frames_folder.remove_former(tmp_path, ())
        assert list_pictures() == everything
    (tmp_path / "report.json").write_bytes(b"{")
    frames_folder.remove_former(tmp_path, ())
    (tmp_path / "report.json").unlink()
    frames_folder.remove_former(tmp_path, ())
    assert list_pictures() == everything
    # what somebody put beside the shot's frames stays
    (tmp_path / "shot" / "notes.txt").write_text("mine")
    store(dressing)
    frames_folder.remove_former(tmp_path, (1,))
    assert list_pictures() == ["0001.png", "0044.png"] and (tmp_path / "shot" / "notes.txt").exists()


def test_shadows_of_giants_are_as_long(scene):
    found = []
    for size in (1.0, 110.0):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        camera = bpy.context.scene.camera = add_camera(location=(2, -12, 6), target=(-1, 0, 0.5))
        rig, _ = add_character()
        rig.scale = (size,) * 3
        camera.location = Vector(camera.location) * size
        camera.data.clip_end *= size
        sun = link(bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN")))
        sun.rotation_euler = (0.0, 1.2, 0.3)
        render = PassRender(bpy.context, rig, (1,), 96, 96, shadow=True, plain_ground=True)
        list(render.render_all())
        found.append(render.result().shadow[0].astype(float))
    assert (found[0] > 0.5).sum() > 30
    assert np.abs(found[0] - found[1]).mean() < 2e-3


@pytest.mark.parametrize("why", ["away", "catcher", "ray", "excluded", "hidden", "object", "elsewhere"])
def test_who_is_not_seen_is_told_why(scene, why):
    rig, body = add_character()
    outer, other = add_collection("Outer"), bpy.data.scenes.new("Other")
    inner = add_collection("Inner", outer)
    if why in ("excluded", "hidden", "elsewhere"):
        scene.collection.objects.unlink(body)
        (other.collection if why == "elsewhere" else inner).objects.link(body)
    scene.view_layers[0].layer_collection.children["Outer"].exclude = why == "excluded"
    outer.hide_render, body.hide_render = why == "hidden", why == "object"
    body.is_shadow_catcher, body.visible_camera = why == "catcher", why != "ray"
    if why == "away":
        scene.camera.rotation_euler.z += np.pi
    says = {
        "away": "point it at the character",
        "catcher": "Visibility",
        "ray": "Visibility",
        "excluded": "'Inner', which the view layer leaves out; tick its box",
        "hidden": "'Inner', which is hidden for rendering",
        "object": "switch on its camera icon",
        "elsewhere": "not in this scene",
    }
    with pytest.raises(ShotError, match=says[why]):
        render = PassRender(bpy.context, rig, (1, 2), 64, 64)
        list(render.render_all())
        render.check_seen()


def test_who_pops_in_is_seen_from_then_on(scene):
    """With a scale of 0 at first, which no matrix can be turned round of."""
    rig, _ = add_character()
    for frame, size in ((1, 0.0), (3, 1.0)):
        rig.scale = (size,) * 3
        rig.keyframe_insert("scale", frame=frame)
    scene.frame_set(1)
    render = PassRender(bpy.context, rig, (1, 2, 3), 64, 64)
    list(render.render_all())
    first, _, last = render.result().mask.sum((1, 2))
    assert first == 0 and last > 100
    with pytest.raises(ShotError, match="no size at frame 1; go to"):
        stage_character(bpy.context, rig)
    scene.frame_set(3)
    assert stage_character(bpy.context, rig).seen > 0.9
