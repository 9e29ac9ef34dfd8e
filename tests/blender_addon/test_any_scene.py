"""Passes of scenes as people have them, against an oracle that knows only Blender's own evaluation of the scene, and the whole file
before and after."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.blender_addon import compat
from latentman.blender_addon.passes import pass_engine, reading, render
from latentman.blender_addon.passes.render import PassRender
from latentman.shared.passes import FramePasses
from latentman.shared.shot import ShotError
from tests.blender_addon.any_scene import (
    Case,
    add_box,
    add_camera,
    add_character,
    add_collection,
    add_instance,
    add_mesh,
    add_mesh_ball,
    check_case,
    compare,
    find_layer,
    link,
    make_material,
    make_tube,
    skin,
)
from tests.oracles import blend_snapshot, surfaces_oracle


@pytest.fixture
def scene(monkeypatch):
    """An empty scene with a camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found = bpy.context.scene
    found.frame_end = 20
    found.camera = add_camera()
    # every frame in a slice of its own
    monkeypatch.setattr(render, "SLICE_SECONDS", 0.0)
    return found


def test_plain(scene):
    rig, _body = add_character()
    check_case(Case(rig, {"Ann Body": 1}))


def test_keyed_prop(scene):
    rig, _body = add_character()
    for way in ("keyed", "driven"):
        prop = add_box(f"Prop {way}", (0.2, -1.0, 1.0 if way == "keyed" else 0.5), (0.3, 0.3, 0.3))
        prop.pass_index = 1
        if way == "keyed":
            for frame, hidden in ((1, False), (6, True)):
                prop.hide_render = hidden
                prop.keyframe_insert("hide_render", frame=frame)
        else:
            prop.driver_add("hide_render").driver.expression = "frame > 5"
    check_case(Case(rig, {"Ann Body": 1}))
    check_case(Case(rig, {"Ann Body": 1, "Prop keyed": 0, "Prop driven": 0}, scope="SCENE"))


def test_character_keyed_in_later(scene):
    """Hidden at the saved frame, shown later; and a body that is swapped for another."""
    rig, body = add_character()
    other = link(bpy.data.objects.new("Ann Armour", make_tube("Ann Armour", radius=0.4)))
    skin(other, rig)
    for one, first, later in ((body, True, False), (other, False, True)):
        for frame, hidden in ((1, first), (6, later)):
            one.hide_render = hidden
            one.keyframe_insert("hide_render", frame=frame)
    scene.frame_set(2)
    check_case(Case(rig, {"Ann Body": 1, "Ann Armour": 1}))
    check_case(Case(body, {"Ann Body": 1}))


def test_viewport_differs_from_the_render(scene):
    group = add_collection("Stage")
    rig, body = add_character(collection=group)
    displace = body.modifiers.new("Puff", "DISPLACE")
    displace.strength, displace.mid_level, displace.show_viewport = 0.12, 0.0, False
    shrink = body.modifiers.new("Not rendered", "DISPLACE")
    shrink.strength, shrink.show_render = -2.0, False
    body.modifiers["Armature"].show_viewport = False
    body.hide_viewport = True
    group.hide_viewport = True
    crate = add_box("Crate", (0.5, -0.6, 0.4), (0.4, 0.4, 0.4))
    crate.hide_set(True)
    wall = add_box("Wall", (0, 2, 1), (6, 0.2, 2))
    wall.hide_viewport = True
    off = add_box("Off", (0, -1, 1), (1, 0.2, 1))
    off.hide_render = True
    hidden = add_collection("Hidden")
    hidden.hide_render = True
    add_box("Off too", (0, -1, 1), (1, 0.2, 1), add_collection("Inner", hidden))
    check_case(Case(rig, {"Ann Body": 1}))
    check_case(Case(rig, {"Ann Body": 1, "Crate": 0, "Wall": 0}, scope="SCENE"))


@pytest.mark.parametrize("simplify", [False, True])
def test_levels_of_subdivision_differ(scene, simplify):
    rig, body = add_character()
    rough = body.modifiers.new("Subdivision", "SUBSURF")
    rough.levels, rough.render_levels = 0, 2
    many = body.modifiers.new("Multires", "MULTIRES")
    assert many is not None
    scene.render.use_simplify = simplify
    scene.render.simplify_subdivision, scene.render.simplify_subdivision_render = 0, 1
    attribute = body.data.attributes.new("mine", "FLOAT_VECTOR", "POINT")
    attribute.data.foreach_set("vector", np.array([v.co for v in body.data.vertices]).ravel())
    check_case(Case(rig, {"Ann Body": 1}, unknown_rest=frozenset(["Ann Body"])))


def _add_scales(body, kind):
    """Geometry nodes that put boxes far outside on a body's vertices."""
    tree = bpy.data.node_groups.new("Scales", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    nodes, wires = tree.nodes, tree.links
    entry, leave, join = (nodes.new(n) for n in ("NodeGroupInput", "NodeGroupOutput", "GeometryNodeJoinGeometry"))
    place, move = nodes.new("GeometryNodeInstanceOnPoints"), nodes.new("GeometryNodeTranslateInstances")
    move.inputs["Translation"].default_value = (0.0, 0.5, 0.5)
    if kind == "mesh":
        shape = nodes.new("GeometryNodeMeshCube")
        shape.inputs["Size"].default_value = (0.1, 0.02, 0.1)
        wires.new(shape.outputs[0], place.inputs["Instance"])
    else:
        scale = add_box("Scale", (9, 9, 9), (0.1, 0.02, 0.1))
        if kind == "collection":
            group = bpy.data.collections.new("Scales")
            bpy.context.scene.collection.objects.unlink(scale)
            group.objects.link(scale)
            scale.location = (0, 0, 0)
            info = nodes.new("GeometryNodeCollectionInfo")
            info.inputs["Collection"].default_value = group
        else:
            info = nodes.new("GeometryNodeObjectInfo")
            info.inputs["Object"].default_value = scale
            info.inputs["As Instance"].default_value = True
        wires.new(info.outputs["Instances" if kind == "collection" else "Geometry"], place.inputs["Instance"])
    wires.new(entry.outputs[0], place.inputs["Points"])
    wires.new(place.outputs[0], move.inputs[0])
    wires.new(move.outputs[0], join.inputs[0])
    wires.new(entry.outputs[0], join.inputs[0])
    wires.new(join.outputs[0], leave.inputs[0])
    body.modifiers.new("Scales", "NODES").node_group = tree


@pytest.mark.parametrize("kind", ["mesh", "object", "collection"])
def test_instances_of_geometry_nodes(scene, kind):
    rig, body = add_character()
    _add_scales(body, kind)
    who = {"Ann Body": 1, "Ann Body/Scale": 1, "Ann Body/Ann Body": 1}
    check_case(Case(rig, who, unknown_rest=frozenset(["Ann Body", "Scale"])))
    check_case(Case(rig, who | {"Scale": 0}, scope="SCENE", unknown_rest=frozenset(["Ann Body", "Scale"])))


def test_a_character_that_is_only_an_instance(scene):
    group = bpy.data.collections.new("Cast")
    rig, body = add_character(collection=group)
    hat = add_box("Hat", (0, 0, 0.2), (0.5, 0.4, 0.1), group)
    hat.parent, hat.parent_type, hat.parent_bone = rig, "BONE", "Head"
    place = add_instance("Place", group, (0.3, 0.5, 0.1))
    place.rotation_euler.z, place.scale = 0.4, (1.1, 1.1, 1.1)
    unit = {"Ann Body": 1.0, "Hat": 1.0}
    check_case(Case(rig, {"Ann Body": 1, "Hat": 1}, metres=unit))
    box = add_box("Crate", (0.5, -0.4, 0.3), (0.3, 0.3, 0.3))
    assert box.name == "Crate"
    check_case(Case(rig, {"Ann Body": 1, "Hat": 1, "Crate": 0}, scope="SCENE", metres=unit))
    # two of them, one within another's collection
    outer = bpy.data.collections.new("Outer")
    add_instance("Inner place", group, (-0.8, 0, 0), outer)
    add_instance("Outer place", outer, (0.0, 0.6, 0.0))
    check_case(Case(body, {"Ann Body": 1}, metres=unit))


def test_what_hangs_on_bones(scene):
    rig, body = add_character()
    helmet = add_box("Helmet", (0, 0, 0.0), (0.7, 0.55, 0.25))
    helmet.parent, helmet.parent_type, helmet.parent_bone = rig, "BONE", "Head"
    eye = add_mesh_ball("Eye")
    eye.location = (0.1, -0.35, 1.45)
    child = eye.constraints.new("CHILD_OF")
    child.target, child.subtarget = rig, "Head"
    pouch = add_box("Pouch", (0.35, -0.1, 0.6), (0.2, 0.2, 0.2))
    pouch.parent = body
    sash = add_box("Sash", (0, 0, 0.8), (0.9, 0.2, 0.08))
    sash.parent = rig
    plume = add_box("Plume", (0.0, 0.0, 0.3), (0.06, 0.3, 0.3))
    plume.parent = helmet
    follow = add_box("Follower", (-0.6, 0, 0), (0.9, 0.15, 0.1))
    copy = follow.constraints.new("COPY_TRANSFORMS")
    copy.target, copy.subtarget = rig, "Chest"
    clothes = link(bpy.data.objects.new("Clothes", make_tube("Clothes", radius=0.36, height=1.0)))
    skin(clothes, rig)
    bystander = add_box("Bystander", (0.9, 0, 0.5), (0.3, 0.3, 1.0))
    names = ["Ann Body", "Helmet", "Eye", "Pouch", "Sash", "Plume", "Follower", "Clothes"]
    who = dict.fromkeys(names, 1)
    job, passes = check_case(Case(rig, who))
    bones = {entry.index: entry.bone for entry in job.manifest(24.0).parts}
    numbers = {entry.name: entry.index for entry in job.manifest(24.0).surfaces}
    for name, bone in (("Helmet", "Head"), ("Eye", "Head"), ("Plume", "Head"), ("Follower", "Chest")):
        found = np.unique(passes.part[passes.object_index == numbers[name]])
        assert [bones[int(part)] for part in found] == [bone], name
    check_case(Case(rig, who | {"Bystander": 0}, scope="SCENE"))
    assert bystander.name == "Bystander"


def test_two_characters_on_one_mesh(scene):
    mesh = make_tube("Soldier")
    first, _one = add_character("Ann", mesh=mesh)
    second, _other = add_character("Bob", mesh=mesh)
    second.location = (0.9, 0.5, 0)
    job, passes = check_case(Case(first, {"Ann Body": 1, "Bob Body": 2}, scope="CHARACTERS"))
    parts = [set(np.unique(passes.part[passes.mask == n])) for n in (1, 2)]
    assert not parts[0] & parts[1] and all(len(found) == 3 for found in parts)
    owners = {entry.index: entry.bone for entry in job.manifest(24.0).parts}
    assert all({owners[int(n)] for n in found} == {"Hips", "Chest", "Head"} for found in parts)
    check_case(Case(second, {"Bob Body": 1}))


def test_two_objects_on_one_mesh_without_texture_coordinates(scene):
    mesh = make_tube("Twin")
    mesh.uv_layers.remove(mesh.uv_layers[0])
    rig, _body = add_character("Ann", mesh=mesh)
    other = link(bpy.data.objects.new("Twin", mesh))
    other.location = (0.9, 0.3, 0)
    skin(other, rig)
    _job, passes = check_case(Case(rig, {"Ann Body": 1, "Twin": 1}))
    assert not mesh.uv_layers
    for number in (1, 2):
        uv = passes.uv[passes.object_index == number]
        assert len(np.unique(uv.round(3), axis=0)) > 0.2 * len(uv)


def _make_fog(tree, principled, output):
    volume = tree.nodes.new("ShaderNodeVolumePrincipled")
    tree.nodes.remove(principled)
    tree.links.new(volume.outputs[0], output.inputs["Volume"])


def test_fog_and_smoke(scene):
    rig, _body = add_character()
    fog = add_box("Fog", (0, 0, 1), (4, 3, 3))
    fog.data.materials.append(make_material("Fog", _make_fog))
    smoke = add_box("Smoke", (0.3, -0.5, 0.5), (1, 1, 1))
    smoke.modifiers.new("Fluid", "FLUID").fluid_type = "DOMAIN"
    smoke.modifiers["Fluid"].domain_settings.domain_type = "GAS"
    smoke.data.materials.append(make_material("Smoke", _make_fog))
    cloud = link(bpy.data.objects.new("Cloud", bpy.data.volumes.new("Cloud")))
    assert cloud.type == "VOLUME"
    crate = add_box("Crate", (0.5, -0.6, 0.4), (0.4, 0.4, 0.4))
    assert crate.name == "Crate"

    def remove_smoke():
        # rendered without a cache it crashes Blender itself
        bpy.data.objects.remove(smoke)

    check_case(Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE", before_look=remove_smoke))
    check_case(Case(rig, {"Ann Body": 1}))


def _move(found, collection):
    for one in list(found.users_collection):
        one.objects.unlink(found)
    collection.objects.link(found)
    return found


def test_rays_that_do_not_see(scene):
    """What decides for an instance is what shows it. A collection's switch does not count for those within it."""
    rig, _body = add_character()
    unseen = ("No camera", "Catcher", "Indirect", "Both", "Shown by what is indirect", "Shown by what has no camera")
    for n, name in enumerate(unseen):
        add_box(name, (0.1 * n, -1 - 0.2 * n, 0.9), (0.5, 0.1, 0.5))
    bpy.data.objects["No camera"].visible_camera = False
    bpy.data.objects["Catcher"].is_shadow_catcher = True
    group = add_collection("Indirect")
    inner = add_collection("Within", group)
    find_layer(group).indirect_only = True
    _move(bpy.data.objects["Indirect"], group)
    group.objects.link(bpy.data.objects["Both"])
    add_box("Within", (-0.6, -0.3, 0.4), (0.2, 0.1, 0.2), inner)
    for n, name in enumerate(("indirect", "has no camera")):
        shown = bpy.data.collections.new(f"Shown {n}")
        _move(bpy.data.objects[f"Shown by what {'is ' * (n == 0)}{name}"], shown)
        ghost = add_instance(f"Ghosts {n}", shown, (0, 0, 0.4), group if n == 0 else None)
        ghost.visible_camera = n == 0
    shown = bpy.data.collections.new("Shown")
    both = add_box("Shown and indirect", (0, 0, 0), (0.1, 0.1, 0.1), shown)
    group.objects.link(both)
    add_instance("Place", shown, (-0.6, -0.3, 0.9))
    crate = add_box("Crate", (0.5, -0.6, 0.4), (0.4, 0.4, 0.4))
    crate.visible_shadow = crate.visible_diffuse = False
    seen = {"Crate": 0, "Within": 0, "Place/Shown and indirect": 0}
    check_case(Case(rig, {"Ann Body": 1, **seen}, scope="SCENE"))
    check_case(Case(rig, {"Ann Body": 1}))
    # a part of the character, too
    hat = add_box("Hat", (0, 0, 0.2), (0.5, 0.4, 0.1))
    hat.parent, hat.parent_type, hat.parent_bone = rig, "BONE", "Head"
    hat.visible_camera = False
    check_case(Case(rig, {"Ann Body": 1}))


def test_holdouts(scene):
    rig, _body = add_character()
    cutter = add_box("Cutter", (0.1, -1, 0.9), (0.3, 0.1, 0.4))
    cutter.is_holdout = True
    group = add_collection("Holes")
    add_box("Cutter 2", (-0.3, -1, 0.4), (0.3, 0.1, 0.4), group)
    find_layer(group).holdout = True
    shown = bpy.data.collections.new("Shown")
    add_box("Block", (0, 0, 0), (0.1, 0.1, 0.3), shown).is_holdout = True
    add_instance("Place", shown, (-0.8, -0.3, 0.9))
    add_instance("Cutting place", shown, (-0.6, -0.3, 0.9)).is_holdout = True
    add_box("Wall", (0, 2, 1), (6, 0.2, 2))
    add_box("Front", (0.1, -1.5, 0.85), (0.1, 0.1, 0.1))
    holes = frozenset(["Cutter", "Cutter 2", "Cutting place"])
    check_case(Case(rig, {"Ann Body": 1, "Wall": 0, "Front": 0, "Place/Block": 0}, scope="SCENE", holes=holes))
    check_case(Case(rig, {"Ann Body": 1}))


def test_frame_between_frames_and_unkeyed_poses(scene):
    rig, body = add_character()
    scene.frame_set(7, subframe=0.5)
    rig.pose.bones["Chest"].rotation_euler.x = 1.2
    rig.pose.bones["Hips"].location = (0.2, 0, 0)
    rig.location.x = 0.3
    body["mine"] = 3
    bpy.context.view_layer.update()
    check_case(Case(rig, {"Ann Body": 1}, frames=(7, 3)))


@pytest.mark.parametrize(
    "name",
    [
        "A view layer whose name has far more letters than a channel of an EXR file",
        "Ansicht für Geländer und Übergänge am Fluß",
        "Слой с персонажами и всем остальным",
        "角色与场景的视图层" * 5,
    ],
)
def test_names_of_view_layers(scene, name):
    rig, body = add_character()
    bpy.context.view_layer.name = name
    scene.name = name[:40]
    rig.name = body.name = name[:50]
    check_case(Case(rig, {body.name: 1}, frames=(3,)))


def test_another_view_layer(scene):
    """What the window shows is what is rendered."""
    group, other = add_collection("Stage"), add_collection("Other")
    rig, _body = add_character(collection=group)
    add_box("Crate", (0.5, -0.6, 0.4), (0.4, 0.4, 0.4), other)
    second = scene.view_layers.new("Second")
    second.layer_collection.children["Other"].exclude = True
    check_case(Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE"))
    with bpy.context.temp_override(view_layer=second):
        check_case(Case(rig, {"Ann Body": 1}, scope="SCENE"))


def test_props_in_edit_mode(scene):
    rig, _body = add_character()
    crate = add_box("Crate", (0.5, -0.6, 0.4), (0.4, 0.4, 0.4))
    bpy.context.view_layer.objects.active = crate
    crate.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.transform.resize(value=(1.5, 1, 1))
    check_case(Case(rig, {"Ann Body": 1}))
    # its edited mesh is not what a render gets
    with pytest.raises(ShotError, match="Crate is in Edit Mode"):
        check_case(Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE"))
    assert bpy.context.mode == "EDIT_MESH"
    bpy.ops.object.mode_set(mode="OBJECT")
    check_case(Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE"))
    for mode in ("SCULPT", "WEIGHT_PAINT"):
        bpy.context.view_layer.objects.active = crate
        bpy.ops.object.mode_set(mode=mode)
        check_case(Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE", frames=(3,)))
        bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="POSE")
    check_case(Case(rig, {"Ann Body": 1}, frames=(3,)))


def test_excluded_collections(scene):
    outer = add_collection("Excluded")
    inner = add_collection("Included", outer)
    rig, _body = add_character(collection=inner)
    add_box("Out", (0, -1, 1), (1, 0.2, 1), outer)
    find_layer(outer).exclude = True
    find_layer(inner).exclude = False
    both = add_box("Both", (0.6, 0, 0.5), (0.3, 0.3, 0.3), outer)
    inner.objects.link(both)
    check_case(Case(rig, {"Ann Body": 1, "Both": 0}, scope="SCENE"))
    check_case(Case(rig, {"Ann Body": 1}))


def test_markers_bind_cameras(scene):
    rig, _body = add_character()
    cameras = [add_camera(f"Camera {n}", (4 * (n - 1), -4, 2)) for n in range(3)]
    scene.camera = None
    for n, frame in ((2, 15), (0, 5), (1, 10)):
        scene.timeline_markers.new(f"To {n}", frame=frame).camera = cameras[n]
    scene.timeline_markers.new("Without", frame=12)
    check_case(Case(rig, {"Ann Body": 1}, frames=(2, 5, 9, 11, 13, 15, 18)))
    scene.camera = cameras[2]
    check_case(Case(rig, {"Ann Body": 1}, frames=(18, 5)))
    cameras[1].hide_render = True
    check_case(Case(rig, {"Ann Body": 1}, frames=(2, 11)))


def test_the_object_is_in_two_scenes(scene):
    rig, body = add_character()
    other = bpy.data.scenes.new("Another")
    other.collection.objects.link(rig)
    other.collection.objects.link(body)
    other.frame_set(9)
    check_case(Case(rig, {"Ann Body": 1}))


@pytest.mark.parametrize("scale", [(-1, 1, 1), (1.3, 0.7, 1.1), (-0.8, -1.2, 0.9), (0.01, 0.01, 0.01)])
def test_mirrored_and_stretched_parents(scene, scale):
    rig, _body = add_character()
    crate = add_box("Crate", (0.5, -0.6, 0.4), (0.4, 0.4, 0.4))
    root = link(bpy.data.objects.new("Root", None))
    root.scale, root.rotation_euler = scale, (0, 0, 0.5)
    rig.parent = crate.parent = root
    if scale[0] == 0.01:
        rig.scale = (100, 100, 100)
        crate.scale = (90, 100, 110)
        crate.location = (50, -60, 40)
    rig.rotation_euler.y = 0.2
    check_case(Case(rig, {"Ann Body": 1}))
    check_case(Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE"))


def test_instances_of_instances(scene):
    rig, _body = add_character()
    stones = bpy.data.collections.new("Stones")
    for n in range(2):
        add_box(f"Stone {n}", (0.25 * n, 0, 0), (0.15, 0.15, 0.15), stones)
    stones.instance_offset = (0.1, 0, 0)
    piles = bpy.data.collections.new("Piles")
    for n in range(2):
        made = add_instance(f"Pile {n}", stones, (0, 0, 0.4 * n), piles)
        made.scale = (1 + n, 1, 1)
    for n in range(3):
        made = add_instance(f"Heap {n}", piles, (-0.8 + 0.6 * n, -0.8, 0.3))
        made.rotation_euler.y = 0.3 * n
        made.scale = (1, 1, -1) if n == 1 else (1, 1, 1)
    seed = add_box("Seed", (0, 0, 0), (0.05, 0.05, 0.05))
    field_ = add_mesh("Field", [(x * 0.2 - 0.8, -0.9, 1.2 + 0.1 * (x % 2)) for x in range(9)], [], uv=False)
    seed.parent = field_
    field_.instance_type = "VERTS"
    tiles = add_box("Tiles", (0.9, -0.5, 1.0), (0.3, 0.3, 0.3))
    tile = add_box("Tile", (0, 0, 0), (0.4, 0.4, 0.1))
    tile.parent = tiles
    tiles.instance_type = "FACES"
    tiles.show_instancer_for_render = False
    names = ["Stone 0", "Stone 1", "Seed", "Tile"]
    check_case(Case(rig, {"Ann Body": 1, **dict.fromkeys(names, 0)}, scope="SCENE"))
    check_case(Case(rig, {"Ann Body": 1}))


def test_shape_keys_drivers_and_strips(scene):
    """Shape keys that a bone drives, an Action in a strip, split normals, faces that are not convex."""
    rig, body = add_character()
    body.shape_key_add(name="Basis")
    key = body.shape_key_add(name="Belly")
    for n, point in enumerate(key.data):
        point.co.x *= 1.5 if 20 < n < 50 else 1.0
    curve = key.driver_add("value")
    curve.driver.type = "SCRIPTED"
    variable = curve.driver.variables.new()
    variable.name, variable.type = "turn", "TRANSFORMS"
    variable.targets[0].id, variable.targets[0].bone_target = rig, "Chest"
    variable.targets[0].transform_type, variable.targets[0].transform_space = "ROT_Y", "LOCAL_SPACE"
    curve.driver.expression = "abs(turn) * 2"
    action = rig.animation_data.action
    rig.animation_data.action = None
    track = rig.animation_data.nla_tracks.new()
    strip = track.strips.new("Bend", 4, action)
    strip.scale = 0.7
    rig.pose.bones["Hips"].location = (0.1, 0, 0.05)
    pale = rig.animation_data.nla_tracks.new()
    pale.mute = True
    body.data.normals_split_custom_set([(0, 0, 1)] * len(body.data.loops))
    outline = [(0, 0), (1, 0), (1, 1), (0.5, 0.3), (0, 1)]
    arrow = add_mesh("Arrow", [(x * 0.8 - 1.2, -0.5, z) for x, z in outline], [tuple(range(5))])
    arrow.rotation_euler.z = 0.1
    bpy.context.view_layer.update()
    check_case(Case(rig, {"Ann Body": 1, "Arrow": 0}, scope="SCENE", frames=(2, 8, 15)))
    _job, _passes = check_case(Case(rig, {"Ann Body": 1}))


def test_other_kinds_of_props(scene):
    rig, _body = add_character()
    text = link(bpy.data.objects.new("Sign", bpy.data.curves.new("Sign", "FONT")))
    text.data.body, text.data.extrude, text.location, text.rotation_euler = "Abg", 0.05, (-1.2, -0.4, 1.2), (1.5, 0, 0)
    curve = bpy.data.curves.new("Pipe", "CURVE")
    curve.dimensions, curve.bevel_depth, curve.resolution_u, curve.render_resolution_u = "3D", 0.08, 1, 6
    spline = curve.splines.new("BEZIER")
    spline.bezier_points.add(1)
    for point, place in zip(spline.bezier_points, ((-1, -0.5, 0.1), (1, -0.5, 0.5)), strict=True):
        point.co, point.handle_left_type, point.handle_right_type = place, "AUTO", "AUTO"
        point.handle_right = (place[0] + 0.3, place[1], place[2] + 0.5)
    link(bpy.data.objects.new("Pipe", curve))
    sheet = bpy.data.curves.new("Sheet", "SURFACE")
    made = sheet.splines.new("NURBS")
    made.points.add(3)
    for point, place in zip(made.points, ((0.6, -0.5, 1.0), (0.9, -0.5, 1.0), (0.6, -0.5, 1.4), (0.9, -0.5, 1.4)), strict=True):
        point.co = (*place, 1)
    for n in range(2):
        meta = bpy.data.metaballs.new(f"Blob.{n}")
        meta.resolution, meta.render_resolution = 0.4, 0.12
        meta.elements.new().radius = 0.4
        link(bpy.data.objects.new(f"Blob.{n:03d}", meta)).location = (0.9 + 0.35 * n, 0.2, 0.4)
    names = ["Sign", "Pipe", "Blob.000"]
    who = {"Ann Body": 1, **dict.fromkeys(names, 0)}
    job, _passes = check_case(Case(rig, who, scope="SCENE"))
    assert sorted(entry.name for entry in job.manifest(24.0).surfaces) == sorted(who), "each of them once"
    check_case(Case(rig, {"Ann Body": 1}))
    # and as parts of a character
    text.parent, text.parent_type, text.parent_bone = rig, "BONE", "Head"
    check_case(Case(rig, {"Ann Body": 1, "Sign": 1}))


def test_pass_indices_and_settings_of_the_user(scene):
    rig, body = add_character()
    body.pass_index = 7
    crate = add_box("Crate", (0.5, -0.6, 0.4), (0.4, 0.4, 0.4))
    crate.pass_index = 1
    layer = bpy.context.view_layer
    for n in range(3):
        layer.aovs.add().name = f"Mine {n}"
    layer.active_aov_index = 1
    layer.material_override = make_material("Clay")
    layer.use_pass_object_index = True
    layer.samples = 7
    body.modifiers.new("Second", "SMOOTH").show_render = False
    body.modifiers.active = body.modifiers[0]
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 300, 200, 50
    render.use_border = render.use_crop_to_border = True
    render.border_max_x = render.border_min_y = 0.4
    render.use_motion_blur = render.use_freestyle = render.use_multiview = render.film_transparent = True
    render.use_overwrite, render.filepath, render.engine = False, "//nowhere/", "CYCLES"
    scene.cycles.samples, scene.cycles.use_adaptive_sampling = 5, True
    scene.camera.data.dof.use_dof = True
    scene.world = bpy.data.worlds.new("World")
    check_case(Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE"))


@pytest.mark.parametrize("kind", ["shift", "vertical", "tall", "ortho", "stretched", "animated", "clipped", "mirrored"])
def test_cameras(scene, kind):
    rig, _body = add_character()
    camera, data = scene.camera, scene.camera.data
    width, height = 96, 64
    if kind == "shift":
        data.shift_x, data.shift_y, data.lens, data.sensor_width = 0.15, -0.1, 60.0, 40.0
    elif kind == "vertical":
        data.sensor_fit, data.sensor_height, data.shift_x, data.shift_y = "VERTICAL", 20.0, 0.1, 0.05
    elif kind == "tall":
        width, height, data.shift_x = 64, 96, 0.1
    elif kind == "ortho":
        data.type, data.ortho_scale, data.shift_x, data.shift_y = "ORTHO", 3.0, 0.1, 0.2
    elif kind in ("stretched", "mirrored"):
        root = link(bpy.data.objects.new("Root", None))
        root.scale = (2, 0.5, 1.5) if kind == "stretched" else (-1, 1, 1)
        if kind == "stretched":
            camera.rotation_euler = (np.pi / 2, 0, 0)
            camera.location = (0.2, -10.0, 0.6)
        else:
            camera.location.x, camera.rotation_euler.y = 0.1, 0.2
        camera.parent = root
    elif kind == "animated":
        for frame, lens, x in ((1, 30, -1.0), (20, 70, 1.0)):
            data.lens, camera.location.x = lens, x
            data.keyframe_insert("lens", frame=frame)
            camera.keyframe_insert("location", frame=frame)
        track = camera.constraints.new("TRACK_TO")
        track.target, track.subtarget = rig, "Head"
        track.track_axis, track.up_axis = "TRACK_NEGATIVE_Z", "UP_Y"
    elif kind == "clipped":
        data.clip_start, data.clip_end = 4.95, 6.0
    case = Case(rig, {"Ann Body": 1}, width=width, height=height)
    if kind == "clipped":
        add_box("Wall", (0, 0.9, 1), (6, 0.2, 2))
        case = Case(rig, {"Ann Body": 1, "Wall": 0}, width=width, height=height, scope="SCENE")
    check_case(case)


def _blow(found, kind):
    """Let a mesh be simulated: its upper end hangs, or all of it sags."""
    group = found.vertex_groups.new(name="Pins")
    top = max(v.co.z for v in found.data.vertices)
    group.add([v.index for v in found.data.vertices if v.co.z > top - 0.05], 1.0, "REPLACE")
    if kind == "cloth":
        modifier = found.modifiers.new("Cloth", "CLOTH")
        modifier.settings.vertex_group_mass, modifier.settings.quality = "Pins", 2
    else:
        modifier = found.modifiers.new("Soft", "SOFT_BODY")
        modifier.settings.vertex_group_goal, modifier.settings.goal_spring = "Pins", 0.5
        modifier.settings.use_goal = True
    modifier.point_cache.frame_start, modifier.point_cache.frame_end = 1, 20
    return modifier


def _bake(found, modifier):
    with bpy.context.temp_override(
        scene=bpy.context.scene, active_object=found, object=found, point_cache=modifier.point_cache, modifier=modifier
    ):
        bpy.ops.ptcache.bake(bake=True)
    assert modifier.point_cache.is_baked


@pytest.mark.parametrize("kind, baked", [("cloth", False), ("cloth", True), ("soft body", True)])
def test_simulations(scene, kind, baked):
    rig, body = add_character()
    skirt = link(bpy.data.objects.new("Skirt", make_tube("Skirt", radius=0.42, height=0.7, sides=12, rows=7)))
    skirt.location.z = 0.2
    skirt.parent, skirt.parent_type, skirt.parent_bone = rig, "BONE", "Hips"
    skirt.matrix_parent_inverse = (rig.matrix_world @ rig.pose.bones["Hips"].matrix).inverted()
    body.modifiers.new("Collision", "COLLISION")
    modifier = _blow(skirt, kind)
    scene.frame_set(1)
    if baked:
        _bake(skirt, modifier)
    scene.frame_set(1)
    bpy.context.view_layer.update()
    case = Case(rig, {"Ann Body": 1, "Skirt": 1}, frames=(12, 3, 7), play_from=1)
    job, passes = check_case(case)
    still = {entry.name: entry.index for entry in job.manifest(24.0).surfaces}["Skirt"]
    assert (passes.object_index == still).sum() > 100
    other = Case(rig, {"Ann Body": 1, "Skirt": 1}, frames=(7, 12), scope="SCENE", play_from=1)
    scene.frame_set(1)
    check_case(other)


def test_particles(scene):
    """Objects that particles show: of a prop, and of a character."""
    rig, body = add_character()
    flake = add_box("Flake", (5, 0, 0), (0.1, 0.1, 0.1))
    for emitter in (body, add_box("Cloud", (0, 0.3, 2.2), (1.5, 0.2, 0.1))):
        emitter.modifiers.new("Snow", "PARTICLE_SYSTEM")
        settings = emitter.particle_systems[0].settings
        settings.count, settings.frame_end, settings.lifetime = 30, 10, 40
        settings.render_type, settings.instance_object, settings.particle_size = "OBJECT", flake, 1.0
        settings.use_rotations = True
        if emitter == body:
            settings.emit_from = "VERT"  # on faces of many corners, Blender itself emits elsewhere every time
    scene.frame_set(1)
    who = {"Ann Body": 1, "Ann Body/Flake": 1}
    check_case(Case(rig, who, frames=(12, 3), play_from=1))
    scene.frame_set(1)
    check_case(Case(rig, who | {"Cloud": 0, "Flake": 0}, frames=(12, 5, 9), scope="SCENE", play_from=1))


def _mix(tree, output, factor, first, second):
    """A mixture of two shaders at the output; the factor is a number or a socket."""
    mix = tree.nodes.new("ShaderNodeMixShader")
    if isinstance(factor, float):
        mix.inputs[0].default_value = factor
    else:
        tree.links.new(factor, mix.inputs[0])
    for n, shader in ((1, first), (2, second)):
        tree.links.new(shader.outputs[0], mix.inputs[n])
    tree.links.new(mix.outputs[0], output.inputs["Surface"])
    return mix


def _put(tree, output, kind):
    node = tree.nodes.new(kind)
    tree.links.new(node.outputs[0], output.inputs["Surface"])
    return node


def _set(entry, value):
    def build(tree, principled, output):
        principled.inputs[entry].default_value = value

    return build


def _linked(entry, value):
    def build(tree, principled, output):
        node = tree.nodes.new("ShaderNodeValue")
        node.outputs[0].default_value = value
        reroute = tree.nodes.new("NodeReroute")
        tree.links.new(node.outputs[0], reroute.inputs[0])
        tree.links.new(reroute.outputs[0], principled.inputs[entry])

    return build


def _only(kind):
    return lambda tree, principled, output: _put(tree, output, kind)


def _by(kind, socket, swap=False, other="ShaderNodeBsdfGlossy"):
    """Transparent where the factor is 0, something else where it is 1."""

    def build(tree, principled, output):
        clear, solid = tree.nodes.new("ShaderNodeBsdfTransparent"), tree.nodes.new(other)
        pair = (solid, clear) if swap else (clear, solid)
        _mix(tree, output, tree.nodes.new(kind).outputs[socket] if kind else socket, *pair)

    return build


def _add(kind):
    def build(tree, principled, output):
        both = _put(tree, output, "ShaderNodeAddShader")
        for n, shader in enumerate((kind, "ShaderNodeBsdfTransparent")):
            tree.links.new(tree.nodes.new(shader).outputs[0], both.inputs[n])

    return build


def _grouped(tree, principled, output):
    group = bpy.data.node_groups.new("Pane", "ShaderNodeTree")
    group.interface.new_socket("Shader", in_out="OUTPUT", socket_type="NodeSocketShader")
    leave, glass = group.nodes.new("NodeGroupOutput"), group.nodes.new("ShaderNodeBsdfGlass")
    group.links.new(glass.outputs[0], leave.inputs[0])
    node = tree.nodes.new("ShaderNodeGroup")
    node.node_tree = group
    tree.links.new(node.outputs[0], output.inputs["Surface"])


def _for_shadows(tree, principled, output):
    """Glass that is transparent for shadows, as everybody's glass is."""
    clear, glass, path = (
        tree.nodes.new(kind) for kind in ("ShaderNodeBsdfTransparent", "ShaderNodeBsdfGlass", "ShaderNodeLightPath")
    )
    _mix(tree, output, path.outputs["Is Shadow Ray"], glass, clear)


def _other_output(tree, principled, output):
    """EEVEE sees a wall, Cycles glass."""
    output.target = "EEVEE"
    second = tree.nodes.new("ShaderNodeOutputMaterial")
    second.target = "CYCLES"
    tree.links.new(tree.nodes.new("ShaderNodeBsdfGlass").outputs[0], second.inputs["Surface"])


def _culled(tree, principled, output):
    """Solid from the front, clear from behind."""
    clear, geometry = tree.nodes.new("ShaderNodeBsdfTransparent"), tree.nodes.new("ShaderNodeNewGeometry")
    _mix(tree, output, geometry.outputs["Backfacing"], principled, clear)


CLEAR = {
    "glass": _only("ShaderNodeBsdfGlass"),
    "refraction": _only("ShaderNodeBsdfRefraction"),
    "transparent": _only("ShaderNodeBsdfTransparent"),
    "transmission": _set("Transmission Weight", 1.0),
    "alpha": _set("Alpha", 0.1),
    "no alpha": _linked("Alpha", 0.0),
    "linked transmission": _linked("Transmission Weight", 0.9),
    "fresnel": _by("ShaderNodeFresnel", 0),
    "layer weight": _by("ShaderNodeLayerWeight", "Facing"),
    "mostly": _by(None, 0.15),
    "mostly, turned": _by(None, 0.9, swap=True),
    "unseen by the camera": _by("ShaderNodeLightPath", "Is Camera Ray", swap=True),
    "added": _add("ShaderNodeBsdfGlossy"),
    "glow": _add("ShaderNodeEmission"),
    "group": _grouped,
    "shadows": _for_shadows,
    "volume": _make_fog,
    "other output": _other_output,
}
SOLID = {
    "plain": None,
    "some transmission": _set("Transmission Weight", 0.3),
    "some alpha": _set("Alpha", 0.7),
    "translucent": _only("ShaderNodeBsdfTranslucent"),
    "mirror": _only("ShaderNodeBsdfGlossy"),
    "lamp": _only("ShaderNodeEmission"),
    "mostly solid": _by(None, 0.85),
    "seen by the camera": _by("ShaderNodeLightPath", "Is Camera Ray"),
    "culled": _culled,
}


def test_what_one_sees_through(scene):
    rig, _body = add_character()
    scene.camera = add_camera("Front", (0, -6, 1.2), (0, 0, 1.2))
    panes = {**CLEAR, **SOLID}
    for n, (name, build) in enumerate(panes.items()):
        pane = add_mesh(name, [(0, 0, 0), (0.3, 0, 0), (0.3, 0, 0.3), (0, 0, 0.3)], [(0, 1, 2, 3)])
        pane.location = (-1.1 + 0.36 * (n % 6), -1.0, 0.35 + 0.36 * (n // 6))
        pane.data.materials.append(make_material(name, build))
    # the object's own material overrules the mesh's
    swapped = add_mesh("swapped", [(0, 0, 0), (0.3, 0, 0), (0.3, 0, 0.3), (0, 0, 0.3)], [(0, 1, 2, 3)])
    swapped.data.materials.append(bpy.data.materials["plain"])
    swapped.location = (1.1, -1.0, 0.35)
    swapped.material_slots[0].link, swapped.material_slots[0].material = "OBJECT", bpy.data.materials["glass"]
    add_mesh("no material", [(0, 0, 0), (0.3, 0, 0), (0.3, 0, 0.3), (0, 0, 0.3)], [(0, 1, 2, 3)]).location = (1.1, -1.0, 0.71)
    add_box("Wall", (0, 1, 1), (6, 0.2, 4))
    who = {"Ann Body": 1, "Wall": 0, "no material": 0, **dict.fromkeys(SOLID, 0)}
    check_case(Case(rig, who, scope="SCENE", frames=(3,)))
    # the visor of a character
    visor = link(bpy.data.objects.new("Visor", make_tube("Visor", radius=0.4)))
    skin(visor, rig)
    visor.data.materials.append(bpy.data.materials["glass"])
    check_case(Case(rig, {"Ann Body": 1}, frames=(3,)))


def test_materials_that_hold_out(scene):
    """Nothing is seen behind them, unlike behind glass; an object may hold out with some of its faces."""
    rig, body = add_character()
    cutter = add_box("Cutter", (0.1, -1, 0.9), (0.3, 0.1, 0.4))
    cutter.data.materials.append(make_material("Hole", _only("ShaderNodeHoldout")))
    add_box("Wall", (0, 2, 1), (6, 0.2, 2))
    check_case(Case(rig, {"Ann Body": 1, "Wall": 0}, scope="SCENE", holes=frozenset(["Cutter"])))
    bpy.data.objects.remove(cutter)
    body.data.materials.append(make_material("Skin"))
    body.data.materials.append(bpy.data.materials["Hole"])
    _, whole = check_case(Case(rig, {"Ann Body": 1}, frames=(3,)))
    upper = [f for f in body.data.polygons if f.center.z > 0.8]
    for face in upper:
        face.material_index = 1
    job = PassRender(bpy.context, rig, (3,), 96, 96, scope="SCENE")
    list(job.render_all())
    rest, seen = whole.rest_position[0], whole.mask[0] > 0
    assert ((job.result().mask[0] > 0) == (seen & (rest[..., 2] < 0.8))).all()
    assert not job.result().object_index[0][seen & (rest[..., 2] > 0.8)].any(), "the wall is held out, too"


def _save_library(path):
    """A file with a character in a collection."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    group = add_collection("Cast")
    rig, _body = add_character(collection=group)
    hat = add_box("Hat", (0, 0, 0.2), (0.5, 0.4, 0.1), group)
    hat.parent, hat.parent_type, hat.parent_bone = rig, "BONE", "Head"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))


@pytest.mark.parametrize("way", ["overridden", "instance"])
def test_characters_of_libraries(tmp_path, way):
    _save_library(tmp_path / "cast.blend")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.camera = add_camera()
    with bpy.data.libraries.load(str(tmp_path / "cast.blend"), link=True) as (source, target):
        target.collections = list(source.collections)
    (group,) = target.collections
    add_box("Ann Body", (0.6, -0.5, 0.4), (0.3, 0.3, 0.3))  # a prop of the same name
    if way == "overridden":
        made = group.override_hierarchy_create(scene, bpy.context.view_layer, do_fully_editable=True)
        rig = next(one for one in made.all_objects if one.type == "ARMATURE")
        rig.pose.bones["Hips"].location.x = 0.2
        (body,) = (one for one in made.all_objects if one.name.startswith("Ann Body"))
        hat = next(one for one in made.all_objects if one.name.startswith("Hat"))
        bpy.context.view_layer.update()
        who = {body.name_full: 1, hat.name_full: 1}
        # Blender loses count of an override's copies until the file is opened again
        may_differ = r"cast\.blend\]+\.users"
        check_case(Case(rig, who, may_differ=may_differ))
        check_case(Case(rig, who | {"Ann Body": 0}, scope="SCENE", may_differ=may_differ))
    else:
        add_instance("Place", group, (-0.3, 0, 0))
        rig = next(one for one in group.all_objects if one.type == "ARMATURE")
        who = {f"Place/{one.name_full}": 1 for one in group.all_objects if one.type == "MESH"}
        metres = {one.name_full: 1.0 for one in group.all_objects}
        check_case(Case(rig, who, metres=metres, may_differ="is_library_indirect"))


def _comb(body, **more):
    """Particle hair, with settings of its own."""
    body.modifiers.new("Hair", "PARTICLE_SYSTEM")
    settings = body.particle_systems[len(body.particle_systems) - 1].settings
    settings.type, settings.count, settings.hair_length = "HAIR", 60, 0.5
    settings.root_radius, settings.radius_scale = 4.0, 0.02
    settings.emit_from = "VERT"  # on faces of many corners, Blender itself emits elsewhere every time
    for name, value in more.items():
        setattr(settings, name, value)


def _plant(rig, body, *, polygons=False):
    """Hair curves of a character."""
    curves = bpy.data.hair_curves.new("Mane")
    curves.surface, curves.surface_uv_map = body, "UVMap"
    curves.add_curves([4] * 8)
    points = [(0.1 * n - 0.4, -0.2 - 0.1 * step, 1.5 + 0.1 * step * (step % 2)) for n in range(8) for step in range(4)]
    curves.attributes["position"].data.foreach_set("vector", np.array(points, np.float32).ravel())
    curves.attributes.new("radius", "FLOAT", "POINT").data.foreach_set("value", np.full(32, 0.03, np.float32))
    root = curves.attributes.new("surface_uv_coordinate", "FLOAT2", "CURVE")
    root.data.foreach_set("vector", np.full(16, 0.6, np.float32))
    if polygons and hasattr(curves, "set_types"):
        curves.set_types(type="POLY", indices=list(range(8)))
    link(bpy.data.objects.new("Mane", curves)).parent = rig


def _stroke(body):
    """Geometry nodes that add strands along a mesh's edges."""
    tree = bpy.data.node_groups.new("Strokes", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    names = (
        "NodeGroupInput",
        "GeometryNodeMeshToCurve",
        "GeometryNodeSetCurveRadius",
        "GeometryNodeJoinGeometry",
        "NodeGroupOutput",
    )
    entry, make, thicken, join, leave = (tree.nodes.new(name) for name in names)
    thicken.inputs["Radius"].default_value = 0.03
    for start, end in ((entry, make), (make, thicken), (thicken, join), (entry, join), (join, leave)):
        tree.links.new(start.outputs[0], end.inputs[0])
    body.modifiers.new("Strokes", "NODES").node_group = tree


CHILDREN = dict(child_type="SIMPLE", rendered_child_count=3, child_percent=1)
HAIR = {
    "children": CHILDREN,
    "curled": CHILDREN | dict(kink="CURL", kink_amplitude=0.05, clump_factor=0.4, render_step=4, shape=-0.5, use_close_tip=False),
    "spiral": CHILDREN | dict(kink="SPIRAL", kink_extra_steps=6, kink_amplitude=0.1, shape=0.6),
    "hidden": {},
    "instance": {},
    "two": {},
}


@pytest.mark.parametrize("kind", [*HAIR, "curves", "polygons", "nodes"])
def test_hair(scene, kind, tmp_path):
    """Cycles draws hair in its own way: the same hair in the user's scene."""
    group = bpy.data.collections.new("Cast") if kind == "instance" else None
    rig, body = add_character(collection=group)
    if group is not None:
        place = add_instance("Place", group, (0.2, 0.3, 0))
        place.rotation_euler.z, place.scale = 0.4, (1.2, 1.0, 0.9)
        body.pass_index = 1
    if kind in HAIR:
        _comb(body, **HAIR[kind])
        body.show_instancer_for_render = kind != "hidden"
        if kind == "two":
            _comb(body, count=20, hair_length=0.8)
            _comb(body)
            body.modifiers[-1].show_render = False
    elif kind == "nodes":
        _stroke(body)
    else:
        _plant(rig, body, polygons=kind == "polygons")
    bpy.context.view_layer.update()
    before = blend_snapshot.take_snapshot()
    job = PassRender(bpy.context, rig, (3, 14), 96, 96)
    list(job.render_all())
    changes = blend_snapshot.diff(before, blend_snapshot.take_snapshot())
    assert not changes, "\n".join(changes[:20])
    mask = job.result().mask
    scene.render.resolution_x = scene.render.resolution_y = 96
    numbers = {"Ann Body": 1, "Mane": 1, "Place": 1}
    for n, frame in enumerate((3, 14)):
        expected = surfaces_oracle.render_in_place(frame, numbers, tmp_path / f"{frame}.exr")
        assert (expected > 0).sum() > 200 and ((mask[n] > 0) != (expected > 0)).sum() == 0


def test_grass(scene, tmp_path):
    """Hair of a prop, whose pass index is the user's."""
    rig, _body = add_character()
    lawn = add_box("Lawn", (0, 0, -0.1), (3, 3, 0.1))
    _comb(lawn, hair_length=0.2, child_type="INTERPOLATED", rendered_child_count=4, child_percent=1)
    lawn.pass_index = 77
    bpy.context.view_layer.update()
    before = blend_snapshot.take_snapshot()
    job = PassRender(bpy.context, rig, (3, 14), 96, 96, scope="SCENE")
    list(job.render_all())
    assert not blend_snapshot.diff(before, blend_snapshot.take_snapshot())
    scene.render.resolution_x = scene.render.resolution_y = 96
    numbers = {entry.name: entry.index for entry in job.manifest(24.0).surfaces}
    for n, frame in enumerate((3, 14)):
        expected = surfaces_oracle.render_in_place(frame, numbers, tmp_path / f"{frame}.exr")
        assert (expected == numbers["Lawn"]).sum() > 1000
        assert (expected != job.result().object_index[n]).sum() <= 2


@pytest.mark.parametrize("kind", ["plain", "mirrored", "sheared", "stretched"])
def test_cameras_that_are_carried_see_what_cycles_sees(scene, kind, tmp_path):
    rig, _body = add_character()
    add_box("Crate", (0.6, -0.4, 0.3), (0.4, 0.4, 0.4))
    camera = scene.camera
    if kind != "plain":
        root = link(bpy.data.objects.new("Root", None))
        root.scale = {"mirrored": (-1, 1, 1), "sheared": (1.5, 1, 0.6), "stretched": (1.2, 1.2, 1.2)}[kind]
        root.rotation_euler = (0.1, 0.05, 0.2)
        camera.parent = root
        camera.rotation_euler.y = 0.2
    case = Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE", frames=(3,), least=50)
    job, passes = check_case(case)
    numbers = {entry.name: entry.index for entry in job.manifest(24.0).surfaces}
    scene.render.resolution_x = scene.render.resolution_y = 96
    expected = surfaces_oracle.render_in_place(3, numbers, tmp_path / "seen.exr")
    assert (expected != passes.object_index[0]).sum() <= 2


def _crowd(scene):
    """A scene with a bit of everything that makes copies: cloth, a mesh without texture coordinates, instances, hair cards."""
    rig, _body = add_character()
    cape = link(bpy.data.objects.new("Cape", make_tube("Cape", radius=0.42, height=0.7, sides=12, rows=7)))
    cape.data.uv_layers.remove(cape.data.uv_layers[0])
    cape.parent = rig
    _blow(cape, "cloth")
    group = bpy.data.collections.new("Group")
    add_box("Stone", (0, 0, 0), (0.3, 0.3, 0.3), group)
    add_instance("Place", group, (0.7, 0, 0.2))
    waving = link(bpy.data.objects.new("Flag", make_tube("Flag", radius=0.1)))
    waving.location.x = -0.8
    waving.modifiers.new("Mirror", "MIRROR")
    waving.modifiers.new("Wave", "WAVE")
    waving.modifiers.new("Subdivision", "SUBSURF")
    scene.frame_set(4)
    bpy.context.view_layer.update()
    return rig


@pytest.mark.slow
@pytest.mark.parametrize("when", ["between slices", "in the middle", "unreadable", "out of memory", "interrupted", "unwritten"])
def test_the_file_is_as_before_whatever_happens(scene, when, monkeypatch):
    rig = _crowd(scene)
    before = blend_snapshot.take_snapshot()

    def check(where):
        changes = blend_snapshot.diff(before, blend_snapshot.take_snapshot())
        assert not changes, f"{where}: " + "\n".join(changes[:20])

    monkeypatch.setattr(render, "SLICE_SECONDS", 0.0)
    job = PassRender(bpy.context, rig, (12, 3, 7), 48, 48, scope="SCENE", motion_vectors=True)
    if when == "between slices":
        for n in job.render_all():
            check(f"after {n} steps")
    elif when == "in the middle":
        steps = job.render_all()
        for _ in range(3):
            next(steps)
        steps.close()
    else:
        found = {"unreadable": ValueError, "out of memory": MemoryError, "interrupted": KeyboardInterrupt, "unwritten": ShotError}[
            when
        ]

        def fail(*_, **__):
            raise found("on purpose")

        if when == "unwritten":
            monkeypatch.setattr(pass_engine, "render", lambda *_: None)
        elif when == "interrupted":
            monkeypatch.setattr("latentman.blender_addon.passes.drawn_scene.DrawnScene.draw", fail)
        else:
            monkeypatch.setattr(reading, "read_passes", fail)
        with pytest.raises(found):
            list(job.render_all())
    check("afterwards")


def test_the_users_render_and_compositor_stay(scene, tmp_path):
    rig, _body = add_character()
    scene.render.resolution_x = scene.render.resolution_y = 24
    surfaces_oracle.render_in_place(3, {"Ann Body": 5}, tmp_path / "mine.exr")
    scene.use_nodes = True
    tree = scene.compositing_node_group if hasattr(scene, "compositing_node_group") else scene.node_tree
    if tree is None:
        tree = scene.compositing_node_group = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
    layers = tree.nodes.new("CompositorNodeRLayers")
    for n, socket in enumerate(layers.outputs):
        socket.hide = n % 2 == 1
    result = next(image for image in bpy.data.images if image.type == "RENDER_RESULT")
    assert blend_snapshot.take_snapshot()[f"{result.name} picture"] is not None
    check_case(Case(rig, {"Ann Body": 1}))
    result.render_slots.active_index = 2
    check_case(Case(rig, {"Ann Body": 1}))


def test_what_is_pressed_flat(scene):
    """A scale of 0 along an axis: Cycles draws it, and all that is odd beside it does no harm."""
    rig, _body = add_character()
    flat = add_box("Flat", (0.4, -0.5, 1), (0.3, 0.3, 0.3))
    flat.scale = (1, 0, 1)
    add_mesh("Points", [(0, -1, 0), (0, -1, 1)], [], uv=False)
    link(bpy.data.objects.new("Nothing", bpy.data.meshes.new("Nothing")))
    slots = add_box("Slots", (-0.6, -0.5, 1), (0.3, 0.3, 0.3))
    for _ in range(2):
        slots.data.materials.append(None)
    slots.data.polygons[0].material_index = 1
    who = {"Ann Body": 1, "Flat": 0, "Slots": 0}
    check_case(Case(rig, who, scope="SCENE", metres={"Flat": 1.0}))


def test_far_from_the_origin(scene):
    """Twelve kilometres away, single precision is coarser than a millimetre."""
    rig, _body = add_character()
    root = link(bpy.data.objects.new("Root", None))
    root.location = (12000, -8000, 300)
    rig.parent = scene.camera.parent = root
    check_case(Case(rig, {"Ann Body": 1}))


def test_negative_frames(scene):
    """The preferences allow them in the timeline or do not; they are rendered all the same."""
    rig, _body = add_character()
    scene.frame_start, scene.render.frame_map_old = -10, 90
    crate = add_box("Crate", (0.5, -0.6, 0.2), (0.3, 0.3, 0.3))
    crate.driver_add("location", 2).driver.expression = "frame * 0.02 + 0.6"
    check_case(Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE", frames=(-7, 0, 9)))


def test_scripts_of_others_do_not_see_our_renders(scene):
    """What runs when frames are rendered or evaluated is not told of scenes that are none of the user's."""
    rig, _body = add_character()
    called = []
    names = ("render_post", "render_complete", "render_write", "depsgraph_update_post", "render_stats")
    bpy.context.view_layer.update()

    def note(*arguments):
        called.append([getattr(one, "name", "") for one in arguments])

    for name in names:
        getattr(bpy.app.handlers, name).append(note)
    try:
        list(PassRender(bpy.context, rig, (3, 5), 32, 32, shadow=True).render_all())
        assert all(note in getattr(bpy.app.handlers, name) for name in names)
    finally:
        for name in names:
            getattr(bpy.app.handlers, name).remove(note)
    assert not [names for names in called if any(name.startswith("LatentMan") for name in names)]


def test_time_is_remapped_as_in_the_render(scene):
    rig, _body = add_character()
    scene.render.frame_map_old, scene.render.frame_map_new = 100, 150
    check_case(Case(rig, {"Ann Body": 1}, frames=(3, 9, 18)))


def test_the_oracle_finds_what_is_wrong(scene):
    """A pixel too many, one too few, a surface that is elsewhere, one that is another's."""
    rig, body = add_character()
    add_box("Crate", (0.5, -0.6, 0.4), (0.4, 0.4, 0.4))
    case = Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE", frames=(3,))
    job, passes = check_case(case)
    inside = np.argwhere(passes.mask[0])[200]
    outside = np.argwhere(passes.object_index[0] == 0)[5]

    def spoil(name, place, change):
        arrays = {key: array.copy() for key, array in passes.arrays().items()}
        at = (0, *place)
        arrays[name][at] = change(arrays[name][at])
        with pytest.raises(AssertionError):
            compare(case, job, FramePasses(**arrays))

    compare(case, job, passes)
    spoil("object_index", outside, lambda _: 1)
    spoil("object_index", inside, lambda _: 0)
    spoil("object_index", inside, lambda n: 3 - n)
    spoil("position", inside, lambda p: p + 0.01)
    spoil("rest_position", inside, lambda p: p + 0.01)
    spoil("mask", inside, lambda n: 2)
    body.location.x += 0.02
    with pytest.raises(AssertionError):
        compare(case, job, passes)


def test_the_snapshot_finds_what_differs(scene):
    rig, body = add_character()
    crate = add_box("Crate")
    scene.view_layers[0].aovs.add()
    scene.view_layers[0].aovs.add()
    body.modifiers.new("Second", "SMOOTH")
    _blow(crate, "cloth")
    before = blend_snapshot.take_snapshot()
    assert blend_snapshot.diff(before, blend_snapshot.take_snapshot()) == []
    changes = {
        "active_aov_index": lambda: setattr(scene.view_layers[0], "active_aov_index", 0),
        "modifiers.active": lambda: setattr(body.modifiers, "active", body.modifiers[0]),
        "frame_subframe": lambda: setattr(scene, "frame_subframe", 0.5),
        "rotation_euler": lambda: setattr(rig.pose.bones["Chest"], "rotation_euler", (0, 0, 1)),
        "vertices[:].co": lambda: setattr(body.data.vertices[3], "co", (0, 0, 0)),
        "groups": lambda: body.vertex_groups["Head"].add([0], 0.3, "REPLACE"),
        "selected": lambda: crate.select_set(True),
        "point_cache": lambda: setattr(crate.modifiers["Cloth"].point_cache, "frame_end", 99),
        '["mine"]': lambda: body.__setitem__("mine", 1),
        "materials": lambda: bpy.data.materials.new("Left behind"),
        "keyframe_points": lambda: setattr(_first_curve(rig).keyframe_points[0], "co", (1, 9)),
    }
    for path, change in changes.items():
        before = blend_snapshot.take_snapshot()
        change()
        found = blend_snapshot.diff(before, blend_snapshot.take_snapshot())
        assert any(path in line for line in found), (path, found[:10])


def _first_curve(rig):
    return compat.get_used_fcurves(rig)[0]


@pytest.mark.parametrize("kind", ["expression", "property", "context frame", "frame", "keyed", "context"])
def test_drivers_that_read_the_scene(scene, kind):
    """What the scene alone knows makes a second Blender play it."""
    rig, _body = add_character()
    crate = add_box("Crate", (0.5, -0.6, 0.2), (0.3, 0.3, 0.3))
    scene["height"] = 12.0
    if kind == "keyed":
        for frame, height in ((1, 2.0), (20, 18.0)):
            scene["height"] = height
            scene.keyframe_insert('["height"]', frame=frame)
    for owner, index in ((crate, 2), (rig, 0)):
        driver = owner.driver_add("location", index).driver
        driver.expression = "frame * 0.05" if kind == "expression" else "v * 0.05"
        variable = driver.variables.new()
        variable.name = "v"
        if "context" in kind:
            variable.type = "CONTEXT_PROP"
            variable.targets[0].context_property = "ACTIVE_SCENE"
        else:
            variable.targets[0].id_type, variable.targets[0].id = "SCENE", scene
        variable.targets[0].data_path = "frame_current" if "frame" in kind else '["height"]'
        if kind == "expression":
            driver.variables.remove(variable)
    scene.frame_set(4)
    bpy.context.view_layer.update()
    job, _passes = check_case(Case(rig, {"Ann Body": 1, "Crate": 0}, scope="SCENE", frames=(17, 6)))
    assert (job._bound is not None) == (kind in ("frame", "keyed", "context"))
    check_case(Case(rig, {"Ann Body": 1}, frames=(17, 6)))
