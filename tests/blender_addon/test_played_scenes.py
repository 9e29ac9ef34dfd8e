"""Passes of scenes whose frames depend on the scene itself, which a second Blender plays: compared with the scene as it is when it
is played here, and the whole file before and after."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Vector

from latentman.blender_addon.passes import played_scene, render
from latentman.blender_addon.passes.render import PassRender
from latentman.shared.shot import ShotError
from tests.blender_addon.any_scene import (
    Case,
    add_box,
    add_camera,
    add_character,
    add_collection,
    add_instance,
    add_mesh,
    check_case,
    link,
    make_material,
    make_tube,
    skin,
)
from tests.oracles import blend_snapshot

MOVER = """
import bpy

@bpy.app.handlers.persistent
def move(scene, graph=None):
    bpy.data.objects["Scripted"].location.z = 0.2 + 0.03 * scene.frame_current + scene["lift"]

def register():
    bpy.app.handlers.frame_change_pre.append(move)

if __name__ == "__main__" or "%s" == "always":
    register()
register()
"""


@pytest.fixture
def scene():
    """An empty scene with a camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found = bpy.context.scene
    found.frame_end = 20
    found.camera = add_camera()
    yield found
    for handlers in (bpy.app.handlers.frame_change_pre, bpy.app.handlers.frame_change_post, bpy.app.handlers.render_pre):
        handlers.clear()


def _add_rigid(one, kind):
    with bpy.context.temp_override(active_object=one, object=one, selected_objects=[one]):
        bpy.ops.rigidbody.object_add(type=kind)


def _drop(scene, *, baked: bool):
    """A crate that falls on a ground."""
    crate, ground = add_box("Crate", (0.6, -0.3, 1.2), (0.3, 0.3, 0.3)), add_box("Ground", (0, 0, -0.1), (3, 3, 0.2))
    _add_rigid(crate, "ACTIVE")
    _add_rigid(ground, "PASSIVE")
    if baked:
        scene.rigidbody_world.point_cache.frame_end = 20
        with bpy.context.temp_override(scene=scene):
            bpy.ops.ptcache.bake_all(bake=True)
    return crate


def _soften(found):
    """A mesh whose lower end sags."""
    group = found.vertex_groups.new(name="Pins")
    top = max(v.co.z for v in found.data.vertices)
    group.add([v.index for v in found.data.vertices if v.co.z > top - 0.05], 1.0, "REPLACE")
    modifier = found.modifiers.new("Soft", "SOFT_BODY")
    modifier.settings.vertex_group_goal, modifier.settings.goal_spring, modifier.settings.use_goal = "Pins", 0.5, True
    modifier.point_cache.frame_end = 20


def _drift(found, way=(0.0, 0.0, 0.05)):
    """Geometry nodes that move a mesh on from frame to frame."""
    tree = bpy.data.node_groups.new("Drift", "GeometryNodeTree")
    for side in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=side, socket_type="NodeSocketGeometry")
    names = ("NodeGroupInput", "GeometryNodeSimulationInput", "GeometryNodeSimulationOutput", "NodeGroupOutput")
    entry, begin, end, leave = (tree.nodes.new(name) for name in names)
    begin.pair_with_output(end)
    move = tree.nodes.new("GeometryNodeTransform")
    move.inputs["Translation"].default_value = way
    tree.links.new(entry.outputs[0], begin.inputs["Geometry"])
    tree.links.new(begin.outputs["Geometry"], move.inputs["Geometry"])
    tree.links.new(move.outputs[0], end.inputs["Geometry"])
    tree.links.new(end.outputs["Geometry"], leave.inputs[0])
    found.modifiers.new("Drift", "NODES").node_group = tree


def _read_scene(owner, scene, path, index=2):
    """A driver that follows a property of the scene."""
    driver = owner.driver_add("location", index).driver
    driver.expression = "v"
    variable = driver.variables.new()
    variable.name = "v"
    variable.targets[0].id_type, variable.targets[0].id, variable.targets[0].data_path = "SCENE", scene, path


def _key_height(scene):
    for frame, height in ((1, 0.1), (20, 1.2)):
        scene["height"] = height
        scene.keyframe_insert('["height"]', frame=frame)


def _run_script(scene):
    """A script of the file that moves an object on every frame."""
    scene["lift"] = 0.25
    text = bpy.data.texts.new("mover.py")
    text.write(MOVER.replace('\nif __name__ == "__main__" or "%s" == "always":\n    register()', ""))
    text.use_module = True
    text.as_module()
    assert [one.__module__ for one in bpy.app.handlers.frame_change_pre] == ["mover"]


def test_everything_at_once(scene, monkeypatch):
    """Rigid and soft bodies, simulation nodes of a prop and of a character's clothes, drivers, scripts; in slices."""
    monkeypatch.setattr(render, "SLICE_SECONDS", 0.0)
    rig, _body = add_character()
    _drop(scene, baked=False)
    skirt = link(bpy.data.objects.new("Skirt", make_tube("Skirt", radius=0.42, height=0.7)))
    skin(skirt, rig)
    _soften(skirt)
    flame = link(bpy.data.objects.new("Flame", make_tube("Flame", radius=0.1, height=0.3)))
    flame.location = (-0.9, 0, 0.2)
    _drift(flame)
    sash = link(bpy.data.objects.new("Sash", make_tube("Sash", radius=0.36, height=0.2)))
    skin(sash, rig)
    _drift(sash, (0.0, -0.03, 0.01))
    _key_height(scene)
    _read_scene(add_box("Read", (-0.6, -0.3, 0), (0.2, 0.2, 0.2)), scene, '["height"]')
    counted = add_box("Counted", (-1.2, -0.3, 0), (0.2, 0.2, 0.2))
    _read_scene(counted, scene, "frame_current")
    counted.animation_data.drivers[0].driver.expression = "v * 0.05"
    add_box("Scripted", (0.0, 0.8, 1.9), (0.3, 0.3, 0.3))
    _run_script(scene)
    scene.frame_set(1)
    props = dict.fromkeys(("Crate", "Ground", "Flame", "Read", "Counted", "Scripted"), 0)
    who = {"Ann Body": 1, "Skirt": 1, "Sash": 1}
    case = Case(rig, who | props, frames=(12, 4, 7), scope="SCENE", play_from=1)
    check_case(case)
    scene.frame_set(1)
    check_case(Case(rig, who, frames=(5,), play_from=1))


def test_baked_rigid_bodies(scene):
    rig, _body = add_character()
    crate = _drop(scene, baked=True)
    rider = add_box("Rider", (0.0, 0, 0.3), (0.15, 0.15, 0.15))
    rider.parent = crate
    scene.frame_set(9)
    check_case(Case(rig, {"Ann Body": 1, "Crate": 0, "Ground": 0, "Rider": 0}, frames=(12, 4), scope="SCENE", play_from=1))


def test_simulation_nodes_baked_on_disk(scene, tmp_path):
    """The bake is read where it lies; another frame than the bake's neighbours is no reason to begin anew."""
    add_character()
    crate = add_box("Crate", (0.6, -0.3, 0.2), (0.3, 0.3, 0.3))
    _drift(crate)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "baked.blend"))
    scene, crate = bpy.context.scene, bpy.data.objects["Crate"]
    if hasattr(crate.modifiers["Drift"], "bake_target"):
        crate.modifiers["Drift"].bake_target = "DISK"
    scene.frame_end = 14
    modifier = crate.modifiers["Drift"]
    bpy.ops.object.geometry_node_bake_single(
        session_uid=crate.session_uid, modifier_name=modifier.name, bake_id=modifier.bakes[0].bake_id
    )
    move = next(node for node in crate.modifiers["Drift"].node_group.nodes if node.bl_idname == "GeometryNodeTransform")
    files = _list_files(tmp_path)
    assert len(files) > 3
    case = Case(bpy.data.objects["Ann Rig"], {"Ann Body": 1, "Crate": 0}, frames=(12, 4), scope="SCENE", play_from=1)
    # what is baked is shown, whatever the nodes would do now
    move.inputs["Translation"].default_value = (0.0, 0.0, 0.3)
    check_case(case)
    assert _list_files(tmp_path) == files
    low = bpy.data.objects["Crate"].evaluated_get(bpy.context.evaluated_depsgraph_get())
    assert abs(min(v.co.z for v in low.data.vertices) + 0.15 - 12 * 0.05) < 0.11, "the oracle shows the bake, too"


def _list_files(folder: Path) -> dict[str, tuple[int, int]]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def test_caches_on_disk_stay(scene, tmp_path):
    """A cloth that is baked to disk, beside a rigid body that is not: the files are read and not written."""
    rig, _body = add_character()
    _drop(scene, baked=False)
    flag = link(bpy.data.objects.new("Flag", make_tube("Flag", radius=0.2, height=0.6)))
    flag.location = (-0.8, 0, 0.6)
    group = flag.vertex_groups.new(name="Pins")
    group.add([v.index for v in flag.data.vertices if v.co.z > 0.55], 1.0, "REPLACE")
    cloth = flag.modifiers.new("Cloth", "CLOTH")
    cloth.settings.vertex_group_mass, cloth.settings.quality = "Pins", 2
    cloth.point_cache.frame_end = 14
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "flag.blend"))
    scene, flag = bpy.context.scene, bpy.data.objects["Flag"]
    cache = flag.modifiers["Cloth"].point_cache
    cache.use_disk_cache = True
    scene.rigidbody_world.enabled = False
    with bpy.context.temp_override(scene=scene, active_object=flag, object=flag, point_cache=cache):
        bpy.ops.ptcache.bake(bake=True)
    scene.rigidbody_world.enabled = True
    assert cache.is_baked
    scene.gravity = (0, -3, -5)  # what is baked stays
    scene.frame_set(1)
    files = _list_files(tmp_path)
    assert any("blendcache" in path for path in files)
    rig = bpy.data.objects["Ann Rig"]
    who = {"Ann Body": 1, "Flag": 0, "Crate": 0, "Ground": 0}
    check_case(Case(rig, who, frames=(12, 4), scope="SCENE", play_from=1))
    assert _list_files(tmp_path) == files


def test_dynamic_paint(scene):
    """A foot presses into the snow."""
    rig, _body = add_character()
    rows = 16
    points = [(x * 0.15 - 1.1, y * 0.15 - 1.1, 0.0) for y in range(rows) for x in range(rows)]
    faces = [(n, n + 1, n + rows + 1, n + rows) for n in range(rows * (rows - 1)) if n % rows < rows - 1]
    snow = add_mesh("Snow", points, faces)
    stamp = add_box("Stamp", (0.6, -0.7, 0.0), (0.5, 0.5, 0.3))
    for frame, x in ((1, 0.6), (20, -0.8)):
        stamp.location.x = x
        stamp.keyframe_insert("location", frame=frame)
    for one, kind in ((snow, "CANVAS"), (stamp, "BRUSH")):
        modifier = one.modifiers.new("Paint", "DYNAMIC_PAINT")
        modifier.ui_type = kind
        with bpy.context.temp_override(active_object=one, object=one, selected_objects=[one]):
            bpy.ops.dpaint.type_toggle(type=kind)
    surface = snow.modifiers["Paint"].canvas_settings.canvas_surfaces[0]
    surface.surface_type, surface.depth_clamp, surface.displace_factor = "DISPLACE", 0.0, 2.0
    surface.frame_end = 20
    snow.modifiers["Paint"].canvas_settings.canvas_surfaces[0].point_cache.frame_end = 20
    scene.frame_set(1)
    rest = {"Snow": np.array(points)}
    who = {"Ann Body": 1, "Snow": 0, "Stamp": 0}
    check_case(Case(rig, who, frames=(12, 4), scope="SCENE", play_from=1, rest=rest, unknown_rest=frozenset(["Snow"])))
    graph = bpy.context.evaluated_depsgraph_get()
    assert min(v.co.z for v in snow.evaluated_get(graph).data.vertices) < -0.02, "it has pressed something in"


def test_a_collection_that_shows_rigid_bodies(scene):
    """What falls is shown by an instance of its collection, elsewhere."""
    rig, _body = add_character()
    crate = _drop(scene, baked=False)
    group = add_collection("Falling")
    for one in (crate,):
        scene.collection.objects.unlink(one)
        group.objects.link(one)
    add_instance("Twin", group, (-1.2, 0.2, 0.0))
    scene.frame_set(1)
    who = {"Ann Body": 1, "Crate": 0, "Twin/Crate": 0, "Ground": 0}
    check_case(Case(rig, who, frames=(10, 5), scope="SCENE", play_from=1))


def test_a_linked_character_that_is_only_an_instance(tmp_path):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    add_character(collection=add_collection("Cast"))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "cast.blend"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.camera = add_camera()
    with bpy.data.libraries.load(str(tmp_path / "cast.blend"), link=True) as (source, target):
        target.collections = list(source.collections)
    add_instance("Place", target.collections[0], (-0.3, 0, 0))
    (tmp_path / "shots").mkdir()
    # the library is reached by a relative path, which the copy cannot use
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shots" / "shot.blend"))
    scene = bpy.context.scene
    _drop(scene, baked=False)
    group = next(one for one in bpy.data.collections if one.library is not None)
    (rig,) = (one for one in group.all_objects if one.type == "ARMATURE")
    (body,) = (one for one in group.all_objects if one.type == "MESH")
    who = {f"Place/{body.name_full}": 1, "Crate": 0, "Ground": 0}
    case = Case(rig, who, frames=(9, 4), scope="SCENE", play_from=1, metres={body.name_full: 1.0})
    case.may_differ = r"\.users|bookmarks|is_library_indirect"
    check_case(case)


def test_cut_outs_and_motion(scene):
    """Leaves that an image cuts out, and former positions, come across, too."""
    rig, body = add_character()
    _drop(scene, baked=False)
    image = bpy.data.images.new("Leaf", 2, 1, alpha=True)
    image.pixels = (1, 1, 1, 1, 1, 1, 1, 0)
    image.pack()

    def cut(tree, principled, output):
        texture = tree.nodes.new("ShaderNodeTexImage")
        texture.image, texture.interpolation = image, "Closest"
        tree.links.new(texture.outputs["Alpha"], principled.inputs["Alpha"])

    body.data.materials.append(make_material("Leaves", cut))
    scene.frame_set(1)
    results = []
    for played in (True, False):
        if not played:
            bpy.data.objects["Crate"].rigid_body.enabled = False
        job = PassRender(bpy.context, rig, (9, 4), 96, 96, motion_vectors=True)
        if played:
            bpy.data.objects["Crate"].parent = None
            job._bound = job._bound or render.find_scene_bound([bpy.data.objects["Crate"]], scene)
            assert job._bound is not None
        list(job.render_all())
        results.append(job.result().arrays())
    assert (results[0]["mask"] > 0).sum() > 200
    for name, values in results[0].items():
        np.testing.assert_allclose(values, results[1][name], atol=1e-4, err_msg=name)


def _make_liquid(scene):
    domain = add_box("Domain", (0.7, -0.3, 0.5), (0.6, 0.6, 0.9))
    drop = add_box("Drop", (0.7, -0.3, 0.75), (0.3, 0.3, 0.2))
    drop.hide_render = True
    settings = domain.modifiers.new("Fluid", "FLUID")
    settings.fluid_type = "DOMAIN"
    settings.domain_settings.domain_type = "LIQUID"
    flow = drop.modifiers.new("Fluid", "FLUID")
    flow.fluid_type = "FLOW"
    flow.flow_settings.flow_type, flow.flow_settings.flow_behavior = "LIQUID", "GEOMETRY"
    return domain


def test_liquids(scene, tmp_path):
    """They are refused, and their caches stay, also where the scene is played for another reason."""
    rig, _body = add_character()
    domain = _make_liquid(scene)
    domain.modifiers["Fluid"].domain_settings.cache_directory = str(tmp_path / "cache")
    bpy.context.view_layer.update()
    _refuse(rig, "Domain is a liquid.*Alembic", scope="SCENE")

    def remove():
        assert _list_files(tmp_path) == files
        # rendered without a cache it crashes Blender itself
        bpy.data.objects.remove(domain)

    _add_rigid(add_box("Crate", (0, 0, 3)), "ACTIVE")
    rig.parent = bpy.data.objects["Crate"]
    scene.frame_set(1)
    files = _list_files(tmp_path)
    check_case(Case(rig, {"Ann Body": 1}, before_look=remove, play_from=1))


def test_hair_that_swings(scene):
    """Hair dynamics: the strands are those of the played scene."""
    rig, body = add_character()
    body.modifiers.new("Hair", "PARTICLE_SYSTEM")
    system = body.particle_systems[0]
    settings = system.settings
    settings.type, settings.count, settings.hair_length, settings.emit_from = "HAIR", 12, 0.5, "VERT"
    settings.root_radius = settings.tip_radius = 4.0
    settings.radius_scale, settings.use_close_tip = 0.01, False
    system.use_hair_dynamics = True
    system.point_cache.frame_end = 20
    scene.frame_set(1)
    before = blend_snapshot.take_snapshot()
    job = PassRender(bpy.context, rig, (12, 5), 96, 96, motion_vectors=True)
    kept = {}
    play = job._play

    def watch():
        yield from play()
        kept.update({frame: job._spool.get(frame) for frame in (12, 5)})

    job._play = watch
    list(job.render_all())
    assert not blend_snapshot.diff(before, blend_snapshot.take_snapshot())
    for frame in range(1, 13):
        scene.frame_set(frame)
        if frame in kept:
            evaluated = body.evaluated_get(bpy.context.evaluated_depsgraph_get())
            tips = [evaluated.particle_systems[0].co_hair(evaluated, particle_no=n, step=4) for n in range(12)]
            (hair,) = kept[frame].hair
            strands = hair.strands.points.reshape(12, -1, 3)
            found = np.array([evaluated.matrix_world @ Vector(point) for point in strands[:, -1].tolist()])
            assert np.abs(found - np.array(tips)).max() < 1e-4
            stiff = np.array([Vector(p) for p in strands[:, 0].tolist()])
            assert np.abs(strands[:, -1, 2] - stiff[:, 2]).max() > 0.05


def _refuse(picked, sentence, **options):
    """The passes are refused with a sentence, and the file is as before."""
    bpy.context.view_layer.update()
    before = blend_snapshot.take_snapshot()
    with pytest.raises(ShotError, match=sentence):
        list(PassRender(bpy.context, picked, (4,), 32, 32, **options).render_all())
    assert not blend_snapshot.diff(before, blend_snapshot.take_snapshot())


def test_a_script_that_does_not_run_by_itself(scene):
    """It was run by hand: nobody would run it in the second Blender."""
    rig, _body = add_character()

    def move(scene, graph=None):
        rig.location.x = scene.frame_current

    bpy.app.handlers.frame_change_post.append(move)
    _refuse(rig, "move' changes the scene on every frame and does not run when the file is opened.*Text > Register")


def test_a_preview_measures_the_whole_shot(scene):
    """Only the frame that is shown comes across as a whole."""
    rig, _body = add_character()
    _drop(scene, baked=False)
    scene.frame_set(1)
    frames = tuple(range(1, 13))
    whole = PassRender(bpy.context, rig, frames, 64, 64, scope="SCENE")
    list(whole.render_all())
    job = PassRender(bpy.context, rig, (7,), 64, 64, scope="SCENE", range_frames=frames)
    list(job.measure())
    assert (job.near, job.far) == (whole.near, whole.far) and [frame in job._spool for frame in (6, 7, 8)] == [False, True, False]
    (found,) = job.render_slice(iter([0, None]).__next__)
    job.close()
    np.testing.assert_array_equal(found.passes.depth[0], whole.result().depth[6])


def test_a_second_blender_that_fails(scene, monkeypatch, tmp_path):
    rig, _body = add_character()
    _drop(scene, baked=False)
    program = tmp_path / "fail.py"
    program.write_text("import sys; sys.exit('on purpose')")
    monkeypatch.setattr("latentman.blender_addon.passes.second_blender.PROGRAM", program)
    _refuse(rig, "Crate is moved by rigid body physics.*Bake To Keyframes.*ended early", scope="SCENE")


def test_stopping_ends_the_second_blender(scene):
    rig, _body = add_character()
    _drop(scene, baked=False)
    job = PassRender(bpy.context, rig, tuple(range(1, 200)), 32, 32, scope="SCENE")
    steps = job.measure()
    next(steps)
    folder = job._path
    steps.close()
    assert not folder.exists()
    assert played_scene.REQUEST == "request.json"
