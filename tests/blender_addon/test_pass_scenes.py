"""Passes of every kind of scene: cameras, modifiers, props, instances, several characters, and input that cannot be used."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector

from latentman.blender_addon import command_line
from latentman.blender_addon.passes import render
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.rigging.characters import add_character, find_character_meshes
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.shared import passes_folder
from latentman.shared.shot import ShotError
from tests import samples


def _render(character, frames=(1,), width=96, height=96, **options):
    job = PassRender(bpy.context, character, frames, width, height, **options)
    list(job.render_all())
    return job, job.result()


def _add(scene, name, mesh_operator, **options):
    mesh_operator(**options)
    made = bpy.context.active_object
    made.name = name
    return made


def _rays(scene, width, height):
    """(H, W) planar distance and world-space normals by Blender's own ray casting through pixel centres; inf where nothing is
    met."""
    graph, camera = bpy.context.evaluated_depsgraph_get(), scene.camera
    matrix = camera.matrix_world.normalized()
    unproject = (camera.calc_matrix_camera(graph, x=width, y=height) @ matrix.inverted()).inverted()
    depth, normals = np.full((height, width), np.inf), np.zeros((height, width, 3))
    for row in range(height):
        for col in range(width):
            x, y = (col + 0.5) / width * 2 - 1, 1 - (row + 0.5) / height * 2
            start, stop = (unproject @ Vector((x, y, z, 1)) for z in (-1, 1))
            start, stop = start.xyz / start.w, stop.xyz / stop.w
            hit, place, normal, *_ = scene.ray_cast(graph, start, stop - start, distance=(stop - start).length)
            if hit:
                depth[row, col], normals[row, col] = -(matrix.inverted() @ place).z, normal
    return depth, normals


@pytest.mark.parametrize("kind, width, height", [("PERSP", 96, 64), ("PERSP", 64, 96), ("ORTHO", 96, 64), ("SHIFT", 80, 80)])
def test_every_camera_agrees_with_ray_casting(shot_scene, character, kind, width, height):
    camera = shot_scene.camera.data
    if kind == "ORTHO":
        camera.type, camera.ortho_scale = "ORTHO", 3.0
    if kind == "SHIFT":
        camera.shift_x, camera.shift_y, camera.lens, camera.sensor_fit = 0.1, -0.05, 60.0, "VERTICAL"
    camera.dof.use_dof, camera.dof.aperture_fstop = True, 0.1
    job, passes = _render(character, (9,), width, height, motion_vectors=True)
    assert camera.dof.use_dof
    shot_scene.frame_set(9)
    depth, normals = _rays(shot_scene, width, height)
    mask = np.isfinite(depth)
    seen = passes.mask[0] > 0
    assert seen.sum() > 100 and (mask != seen).sum() <= max(3, 0.0005 * seen.size)
    both = mask & seen
    view = job.manifest(20.0).cameras[0]
    to_camera = np.array(view.world_to_camera).reshape(4, 4)
    planar = -(passes.position[0][both] @ to_camera[2, :3] + to_camera[2, 3])
    # at a fold either surface may be met first
    assert np.percentile(np.abs(planar - depth[both]), 99) < 1e-3
    ranged = job.near + (1 - passes.depth[0][both]) / 0.85 * (job.far - job.near)
    assert np.percentile(np.abs(ranged - depth[both]), 99) < 1e-3
    faced = np.einsum("nc,nc->n", passes.normal[0][both].astype(float), normals[both])
    assert np.percentile(faced, 5) > 0.9  # smooth shading against flat faces
    # the manifest's camera puts each seen point on its own pixel centre
    clip = np.c_[passes.position[0][both], np.ones(both.sum())] @ (np.array(view.projection).reshape(4, 4) @ to_camera).T
    pixel = (clip[:, :2] / clip[:, 3:] * [0.5, -0.5] + 0.5) * [width, height]
    rows, cols = np.nonzero(both)
    assert np.abs(pixel - np.stack([cols, rows], 1) - 0.5).max() < 0.01


def _nearest(points, others):
    """Distance (N,) and index (N,) of the nearest of other points (M, 3), by comparing all."""
    squared = (points**2).sum(1)[:, None] + (others**2).sum(1) - 2 * points @ others.T
    return np.sqrt(np.maximum(squared.min(1), 0)), squared.argmin(1)


def _at_rest(character):
    character.data.pose_position = "REST"


def _local(passes, body):
    """Seen world positions in the object's space, in metres."""
    seen = passes.mask[0] > 0
    inverse = np.array(body.matrix_world.inverted())
    return seen, passes.position[0][seen] @ inverse[:3, :3].T + inverse[:3, 3]


@pytest.mark.parametrize("modifier", ["none", "subdivision", "mirror", "solidify", "array"])
def test_rest_positions_are_where_the_rest_pose_is(shot_scene, character, modifier):
    (body,) = find_character_meshes(character)
    _at_rest(character)
    if modifier == "subdivision":
        body.modifiers.new("S", "SUBSURF").subdivision_type = "SIMPLE"
    if modifier in ("mirror", "array", "solidify"):
        if modifier == "mirror":
            body.shape_key_clear()
            cut = [v for v in body.data.vertices if v.co.x < -0.2]
            for vertex in cut:  # one arm goes away, and comes back as the other's mirror image
                vertex.co = (-0.2, vertex.co.y, vertex.co.z)
            body.modifiers.new("M", "MIRROR").use_bisect_axis[0] = True
        elif modifier == "array":
            made = body.modifiers.new("A", "ARRAY")
            made.count, made.use_relative_offset, made.use_constant_offset = 2, False, True
            made.constant_offset_displace = (1.2, 0, 0)
        else:
            body.modifiers.new("T", "SOLIDIFY").thickness = 0.05
        body.modifiers.move(len(body.modifiers) - 1, 0)
    kinds = [m.type for m in body.modifiers]
    _, passes = _render(character, (1,), 96, 96, motion_vectors=True)
    assert [m.type for m in body.modifiers] == kinds and not [t for t in bpy.data.node_groups if "LatentMan" in t.name]
    seen, local = _local(passes, body)
    error = np.linalg.norm(passes.rest_position[0][seen] - local, axis=-1)
    assert error.max() < 2e-3
    assert len(np.unique(passes.part[0][seen])) > 8


def test_rest_positions_stay_on_the_surface_while_it_moves(shot_scene, character):
    """The same rest position at two frames is the same vertex, whatever keys and pose do."""
    (body,) = find_character_meshes(character)
    key = body.data.shape_keys.key_blocks["Shape000"]
    key.value = 1.0
    _, passes = _render(character, (3, 15), 96, 96)
    basis = np.empty(len(body.data.vertices) * 3, np.float32)
    body.data.shape_keys.key_blocks[0].data.foreach_get("co", basis)
    for n in range(2):
        distance, _ = _nearest(passes.rest_position[n][passes.mask[n] > 0], basis.reshape(-1, 3))
        assert distance.max() < 0.08  # within a face of the undeformed basis


def test_motion_vectors_point_to_the_frame_before(shot_scene, character):
    camera, start = shot_scene.camera, shot_scene.camera.location.x
    for frame, x in ((9, 0.0), (10, 0.1)):
        camera.location.x = start + x
        camera.keyframe_insert("location", index=0, frame=frame)
    _, passes = _render(character, (9, 10), 200, 200, motion_vectors=True)
    here, before = (np.argwhere(passes.mask[n] > 0) for n in (1, 0))
    rest = [passes.rest_position[n][passes.mask[n] > 0] for n in (1, 0)]
    distance, nearest = _nearest(*rest)
    close = distance < 0.012
    way = (before[nearest] - here)[:, ::-1]  # to x right, y down
    error = np.linalg.norm(passes.motion_vectors[1][passes.mask[1] > 0] - way, axis=-1)[close]
    assert close.sum() > 200 and np.linalg.norm(way[close], axis=-1).mean() > 0.8
    assert np.median(error) < 0.7 and np.percentile(error, 95) < 1.5


def test_the_rectangle_that_is_rendered_changes_nothing(shot_scene, character, monkeypatch):
    _, cropped = _render(character, (5, 20), 113, 77)
    find_extent = render.find_extent
    monkeypatch.setattr(render, "find_extent", lambda *given: replace(find_extent(*given), box=(0, 0, 113, 77)))
    _, whole = _render(character, (5, 20), 113, 77)
    for name, array in cropped.arrays().items():
        np.testing.assert_allclose(array, whole.arrays()[name], atol=2e-5, err_msg=name)


def test_several_characters_props_and_instances(shot_scene, character, body_model):
    other = add_character(bpy.context, body_model, "Second")
    other.location.x += 0.8
    cube = _add(shot_scene, "Crate", bpy.ops.mesh.primitive_cube_add, size=0.5, location=(-0.9, 0.4, 0.25))
    group = bpy.data.collections.new("Stones")
    stone = bpy.data.objects.new("Stone", cube.data)
    group.objects.link(stone)
    for n in range(2):
        empty = bpy.data.objects.new(f"Place {n}", None)
        empty.instance_type, empty.instance_collection = "COLLECTION", group
        empty.location, empty.scale = (-0.6 + 1.0 * n, 0.8, 1.6), (0.5,) * 3
        shot_scene.collection.objects.link(empty)
    text = bpy.data.objects.new("Sign", bpy.data.curves.new("Sign", "FONT"))
    text.data.body, text.location, text.rotation_euler = "III", (-1.0, 0.9, 1.2), (math.pi / 2, 0, 0)
    shot_scene.collection.objects.link(text)
    bpy.context.view_layer.update()

    _, alone = _render(character)
    assert set(np.unique(alone.mask)) == {0, 1} and set(np.unique(alone.object_index)) == {0, 1}
    _, both = _render(character, scope="CHARACTERS")
    assert set(np.unique(both.mask)) == {0, 1, 2} and (both.mask == 1).sum() > 50 < (both.mask == 2).sum()
    assert not set(np.unique(both.part[both.mask == 1])) & set(np.unique(both.part[both.mask == 2]))
    job, scene = _render(character, scope="SCENE", width=128, height=128)
    manifest = job.manifest(20.0)
    names = {entry.index: entry.name for entry in manifest.surfaces}
    assert sorted(names.values()) == ["Crate", "Mannequin Body", "Second Body", "Sign", "Stone", "Stone"]
    assert {entry.name: entry.character for entry in manifest.surfaces} == {
        "Crate": 0,
        "Mannequin Body": 1,
        "Second Body": 2,
        "Sign": 0,
        "Stone": 0,
    }
    # a rigid prop's rest position is its place in its own space, scaled to metres; instances of one mesh have numbers of their own
    for index, name in names.items():
        seen = scene.object_index[0] == index
        assert seen.sum() > 10, name
        if name == "Crate":
            world = np.array(cube.matrix_world.inverted())
            local = scene.position[0][seen] @ world[:3, :3].T + world[:3, 3]
            assert np.abs(local - scene.rest_position[0][seen]).max() < 1e-4
        if name == "Stone":
            assert np.abs(scene.rest_position[0][seen]).max() < 0.26
    assert (scene.mask[0][scene.object_index[0] == 0] == 0).all() and (scene.depth[scene.object_index == 0] == 0).all()
    assert (scene.depth[scene.object_index > 0] >= 0.15 - 1e-6).all()


def test_one_frame_has_the_depth_of_its_shot(shot_scene, character):
    frames = tuple(range(1, 25))
    _, shot = _render(character, frames, 48, 48)
    _, single = _render(character, (13,), 48, 48, range_frames=frames)
    np.testing.assert_array_equal(single.depth[0], shot.depth[12])
    _, own = _render(character, (13,), 48, 48)
    assert np.abs(own.depth[0] - shot.depth[12]).max() > 0.01


def test_a_mesh_without_texture_coordinates_is_unwrapped_on_a_copy(shot_scene, character):
    (body,) = find_character_meshes(character)
    body.data.uv_layers.remove(body.data.uv_layers[0])
    bpy.context.view_layer.objects.active = character
    bpy.ops.object.mode_set(mode="POSE")
    meshes, scenes = len(bpy.data.meshes), len(bpy.data.scenes)
    _, passes = _render(character)
    assert bpy.context.mode == "POSE"
    bpy.ops.object.mode_set(mode="OBJECT")
    assert not body.data.uv_layers and len(bpy.data.meshes) == meshes and len(bpy.data.scenes) == scenes
    uv = passes.uv[0][passes.mask[0] > 0]
    assert uv.min() >= 0 and uv.max() <= 1 and len(np.unique(uv.round(3), axis=0)) > len(uv) / 3


def test_a_character_may_leave_the_frame(shot_scene, character):
    shot_scene.camera.keyframe_insert("location", frame=3)
    shot_scene.camera.location.x += 50
    shot_scene.camera.keyframe_insert("location", frame=4)
    _, passes = _render(character, (3, 4), 48, 48)
    assert (passes.mask[0] > 0).any() and not (passes.mask[1] > 0).any() and (passes.depth[1] == 0).all()


def test_a_mesh_around_the_camera_is_no_problem(shot_scene, character):
    shot_scene.camera.data.clip_start = 0.001
    shot_scene.frame_set(1)
    (body,) = find_character_meshes(character)
    evaluated = body.evaluated_get(bpy.context.evaluated_depsgraph_get())
    shot_scene.camera.location = evaluated.matrix_world @ (sum((Vector(c) for c in evaluated.bound_box), Vector()) / 8)
    _, passes = _render(character, (1, 2), 32, 32)
    assert np.isfinite(passes.depth).all() and (passes.mask > 0).any()


def test_zero_area_faces_do_no_harm(shot_scene, character):
    (body,) = find_character_meshes(character)
    mesh = body.data
    mesh.shape_keys.key_blocks[0].data[0].co = mesh.shape_keys.key_blocks[0].data[1].co
    _, passes = _render(character, (1,), 32, 32)
    assert all(np.isfinite(array).all() for array in passes.arrays().values())


def _bad_edit(scene, character):
    bpy.context.view_layer.objects.active = find_character_meshes(character)[0]
    bpy.ops.object.mode_set(mode="EDIT")


def _bad_nan(scene, character):
    find_character_meshes(character)[0].data.shape_keys.key_blocks[0].data[5].co.x = float("nan")


def _bad_panorama(scene, character):
    scene.camera.data.type = "PANO"


def _bad_hidden(scene, character):
    find_character_meshes(character)[0].hide_render = True


def _bad_camera(scene, character):
    scene.camera = character


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (_bad_edit, "Edit Mode"),
        (_bad_nan, "not numbers at frame 1"),
        (_bad_panorama, "panoramic"),
        (_bad_hidden, "hidden"),
        (_bad_camera, "is not a camera"),
    ],
)
def test_bad_scenes_get_one_sentence(shot_scene, character, spoil, sentence):
    spoil(shot_scene, character)
    try:
        with pytest.raises(ShotError, match=sentence):
            _render(character, (1,), 32, 32)
    finally:
        if bpy.context.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")


def test_the_command_renders_a_folder_that_others_can_read(shot_scene, character, tmp_path, capsys):
    arguments = ["passes", "--frames", "2-8:3", "--size", "64x48", "--out", str(tmp_path), "--motion"]
    assert command_line.main(arguments) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0002.exr", "0005.exr", "0008.exr", "passes.json"]
    passes, manifest = passes_folder.load(tmp_path)
    assert manifest.frames == (2, 5, 8) and passes.depth.shape == (3, 48, 64) and passes.motion_vectors is not None
    assert [entry.joint for entry in manifest.parts if entry.joint][:2] == ["pelvis", "left_hip"]
    points = np.array(manifest.people[0].keypoints)
    assert points.shape == (3, 18, 3)
    # the key points lie on the body: their pixels belong to it, except where another limb's edge is one pixel away
    rows, cols = points[0, 2:14, 1].astype(int), points[0, 2:14, 0].astype(int)
    assert (passes.mask[0][rows, cols] > 0).mean() > 0.9
    capsys.readouterr()
    assert command_line.main([*arguments[:4], "4x4", *arguments[5:]]) == 2
    assert "out of range" in capsys.readouterr().err


def test_a_moving_object_and_a_moving_camera_are_followed(shot_scene, character):
    """A crate that slides and turns, before a wall that stands still, seen by a camera that moves."""
    pytest.importorskip("scipy")
    from latentman.backend.video.correspondence import match_background, match_surfaces

    crate = _add(shot_scene, "Crate", bpy.ops.mesh.primitive_cube_add, size=0.6, location=(-0.7, 0.3, 0.3))
    wall = _add(shot_scene, "Wall", bpy.ops.mesh.primitive_plane_add, size=30, location=(0, 4, 0), rotation=(math.pi / 2, 0, 0))
    camera = shot_scene.camera
    for frame, x, angle in ((1, -0.7, 0.0), (2, -0.6, 0.15)):
        crate.location.x, crate.rotation_euler.z = x, angle
        crate.keyframe_insert("location", frame=frame)
        crate.keyframe_insert("rotation_euler", frame=frame)
        camera.location.x += 0.12 * (frame - 1)
        camera.keyframe_insert("location", frame=frame)
    size = 160
    job, passes = _render(character, (1, 2), size, size, scope="SCENE")
    number = {entry.name: entry.index for entry in job.manifest(20.0).surfaces}

    def projected(frame, world):
        entry = job.manifest(20.0).cameras[frame]
        clip = (
            np.c_[world, np.ones(len(world))]
            @ (np.array(entry.projection).reshape(4, 4) @ np.array(entry.world_to_camera).reshape(4, 4)).T
        )
        return (clip[:, :2] / clip[:, 3:] * [0.5, -0.5] + 0.5) * size

    found = match_surfaces(passes, size, size, "prev")
    here = passes.object_index[1].ravel()[found.target_pixels[1]] == number["Crate"]
    assert here.sum() > 150
    shot_scene.frame_set(2)
    to_crate = np.array(crate.matrix_world.inverted())
    shot_scene.frame_set(1)
    world = passes.position[1].reshape(-1, 3)[found.target_pixels[1][here]]
    then = np.c_[world, np.ones(len(world))] @ (np.array(crate.matrix_world) @ to_crate).T
    error = np.linalg.norm(projected(0, then[:, :3]) - found.places[1][here], axis=1)
    assert np.percentile(error, 95) < 0.5
    still = match_background(passes, size, size)
    on_wall = passes.object_index[1].ravel()[still.target_pixels[1]] == number["Wall"]
    assert on_wall.sum() > 5000
    world = passes.position[1].reshape(-1, 3)[still.target_pixels[1][on_wall]]
    moved = np.linalg.norm(still.places[1][on_wall] - projected(1, world), axis=1)
    error = np.linalg.norm(projected(0, world) - still.places[1][on_wall], axis=1)
    assert np.percentile(error, 99) < 0.5 and moved.min() > 1
    assert wall.hide_render is False


def _sheets(material):
    """Two upright squares of 2 m, one a metre behind the other, the one in front in a material."""
    mesh = bpy.data.meshes.new("Sheets")
    corners = [(-1, 0), (1, 0), (1, 2), (-1, 2)]
    mesh.from_pydata([(x, y, z) for y in (0.0, 1.0) for x, z in corners], [], [(0, 1, 2, 3), (4, 5, 6, 7)])
    mesh.uv_layers.new(name="Other")
    layer = mesh.uv_layers.new(name="Sheet")
    layer.data.foreach_set("uv", np.array([(0, 0), (1, 0), (1, 1), (0, 1)] * 2, np.float32).ravel())
    mesh.uv_layers.active = layer
    layer.active_render = True
    mesh.materials.append(material)
    mesh.materials.append(None)
    mesh.polygons[1].material_index = 1
    body = bpy.data.objects.new("Sheets", mesh)
    bpy.context.scene.collection.objects.link(body)
    return body


def _cut_material(kind):
    """Holes in the left half, in one of the ways in which materials are made."""
    image = bpy.data.images.new("Cut", 16, 16, alpha=True)
    pixels = np.ones((16, 16, 4), np.float32)
    pixels[:, :8, 3] = 0.0
    if kind == "mix":
        pixels[:, :8, :3] = 0.0
        pixels[..., 3] = 1.0
    if kind == "inverted":
        pixels[..., :3] = pixels[:, ::-1, 3, None] if kind == "inverted" else 1.0
        pixels[..., 3] = 1.0
    image.pixels.foreach_set(pixels.ravel())
    material = bpy.data.materials.new("Cut")
    material.use_nodes = True
    tree = material.node_tree
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image, texture.interpolation = image, "Closest"
    if kind in ("principled", "named", "mapped", "elsewhere"):
        tree.links.new(texture.outputs["Alpha"], tree.nodes["Principled BSDF"].inputs["Alpha"])
    else:
        mix, clear = tree.nodes.new("ShaderNodeMixShader"), tree.nodes.new("ShaderNodeBsdfTransparent")
        tree.links.new(texture.outputs["Color"], mix.inputs[0])
        for shader, entry in (
            (clear, 2 if kind == "inverted" else 1),
            (tree.nodes["Principled BSDF"], 1 if kind == "inverted" else 2),
        ):
            tree.links.new(shader.outputs[0], mix.inputs[entry])
        tree.links.new(mix.outputs[0], tree.nodes["Material Output"].inputs["Surface"])
    if kind == "named":
        place = tree.nodes.new("ShaderNodeUVMap")
        place.uv_map = "Sheet"
        tree.links.new(place.outputs[0], texture.inputs["Vector"])
    if kind in ("mapped", "elsewhere"):
        place, mapping = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeMapping")
        # half the picture aside: the holes come to the right
        mapping.inputs["Location"].default_value = (0.5, 0.0, 0.0)
        tree.links.new(place.outputs["UV" if kind == "mapped" else "Generated"], mapping.inputs["Vector"])
        tree.links.new(mapping.outputs[0], texture.inputs["Vector"])
    return material


@pytest.mark.parametrize("kind", ["principled", "named", "mapped", "mix", "inverted", "elsewhere"])
def test_what_a_material_cuts_out_is_seen_through(shot_scene, kind):
    """Holes show what is behind them, exactly; a material that is not understood counts as whole."""
    body = _sheets(_cut_material(kind))
    shot_scene.camera.matrix_world = Matrix(((1, 0, 0, 0), (0, 0, -1, -6), (0, 1, 0, 1), (0, 0, 0, 1)))
    attributes, materials = list(body.data.attributes.keys()), len(bpy.data.materials)
    _, passes = _render(body)
    assert list(body.data.attributes.keys()) == attributes and len(bpy.data.materials) == materials
    rest, seen = passes.rest_position[0], passes.mask[0] > 0
    front = seen & (np.abs(rest[..., 1]) < 0.1)
    behind = seen & (np.abs(rest[..., 1] - 1) < 1e-4)
    assert seen.sum() > 1000 and (front | behind)[seen].all() and (passes.object_index[0][seen] == 1).all()
    if kind == "elsewhere":
        assert not (front & behind).any() and behind.sum() < 10
        return
    side = -1 if kind == "mapped" else 1
    assert (side * rest[..., 0][front] > 0).all() and (side * rest[..., 0][behind] < 0).all(), "one half is a hole"
    assert abs(front.sum() / behind.sum() - (7 / 6) ** 2) < 0.1, "what is behind is as large as it is far"
    assert np.abs(rest[..., 1][front]).max() < 1e-5 and (passes.part[0][seen] == passes.part[0][seen][0]).all()
    assert passes.depth[0][front].min() > passes.depth[0][behind].max()
    cols = np.nonzero(front)[1]
    assert cols.max() == 47 if kind == "mapped" else cols.min() == 48
    assert np.abs(passes.uv[0][front][:, 0] - (rest[..., 0][front] + 1) / 2).max() < 1e-5


def _head(scene):
    """A ball of half a metre on a bone that nods from frame 1 to frame 2 by 1.2 radians about X."""
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bone = rig.data.edit_bones.new("Head")
    bone.head, bone.tail = (0, 0, 0), (0, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    body = _add(scene, "Ball", bpy.ops.mesh.primitive_uv_sphere_add, radius=0.5, segments=64, ring_count=32)
    body.vertex_groups.new(name="Head").add(range(len(body.data.vertices)), 1.0, "REPLACE")
    body.modifiers.new("Armature", "ARMATURE").object = rig
    posed = rig.pose.bones["Head"]
    posed.rotation_mode = "XYZ"
    for frame, angle in ((1, 0.0), (2, 1.2)):
        posed.rotation_euler = (angle, 0, 0)
        posed.keyframe_insert("rotation_euler", frame=frame)
    scene.camera.matrix_world = Matrix(((1, 0, 0, 0), (0, 0, -1, -5), (0, 1, 0, 0), (0, 0, 0, 1)))
    return rig, body


def _comb_particles(body):
    body.modifiers.new("Hair", "PARTICLE_SYSTEM")
    settings = body.particle_systems[0].settings
    settings.type, settings.count, settings.hair_length = "HAIR", 1500, 0.4
    settings.root_radius, settings.radius_scale = 3.0, 0.02


def _comb_curves(scene, body):
    """Straight strands on the ball's faces, which follow the surface as Blender's own hair does."""
    mesh = body.data
    mesh.uv_layers.active.name = "UVMap"
    curves = bpy.data.hair_curves.new("Curls")
    curves.surface, curves.surface_uv_map = body, "UVMap"
    faces = [f for f in mesh.polygons if len(f.vertices) == 4]
    curves.add_curves([4] * len(faces))
    roots, points, uv = [], [], []
    for face in faces:
        centre = np.array(face.center)
        uv.append(np.mean([mesh.uv_layers.active.data[n].uv for n in face.loop_indices], 0))
        roots.append(centre)
        points += [centre * (1 + 0.25 * step) for step in range(4)]
    curves.attributes["position"].data.foreach_set("vector", np.array(points, np.float32).ravel())
    curves.attributes.new("radius", "FLOAT", "POINT").data.foreach_set("value", np.full(len(points), 0.02, np.float32))
    root = curves.attributes.new("surface_uv_coordinate", "FLOAT2", "CURVE")
    root.data.foreach_set("vector", np.array(uv, np.float32).ravel())
    hair = bpy.data.objects.new("Curls", curves)
    scene.collection.objects.link(hair)
    body.add_rest_position_attribute = True
    tree = bpy.data.node_groups.new("Follow", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    entry, follow, leave = (
        tree.nodes.new(kind) for kind in ("NodeGroupInput", "GeometryNodeDeformCurvesOnSurface", "NodeGroupOutput")
    )
    tree.links.new(entry.outputs[0], follow.inputs[0])
    tree.links.new(follow.outputs[0], leave.inputs[0])
    hair.modifiers.new("Follow", "NODES").node_group = tree
    return hair


@pytest.mark.parametrize("kind", ["particles", "curves"])
def test_hair_rests_where_its_roots_do(shot_scene, kind):
    """The ball nods; a strand's rest direction is its direction in the picture, turned back."""
    rig, body = _head(shot_scene)
    if kind == "particles":
        _comb_particles(body)
    else:
        _comb_curves(shot_scene, body)
    job, passes = _render(rig, (1, 2), 160, 160, motion_vectors=True)
    assert not any(image.name.startswith("LatentMan") for image in bpy.data.images)
    names = {surface.index: surface.name for surface in job.manifest(20.0).surfaces}
    for n, angle in enumerate((0.0, 1.2)):
        place, rest = passes.position[n], passes.rest_position[n]
        far = np.linalg.norm(place, axis=-1)
        hair = (passes.mask[n] == 1) & (far > 0.55)
        assert hair.sum() > 800
        back = np.array(Matrix.Rotation(-angle, 3, "X"))
        expected = (place[hair] @ back.T) / far[hair][:, None]
        found = rest[hair] / np.linalg.norm(rest[hair], axis=1, keepdims=True)
        assert np.percentile((expected * found).sum(1), 2) > 0.985, "within ten degrees: faces are flat, roots in pixels"
        height = np.linalg.norm(rest[hair], axis=1)
        assert height.min() > 0.49 and height.max() < 0.56 and np.corrcoef(height, far[hair])[0, 1] > 0.98
        if kind == "curves":
            assert {names[i] for i in np.unique(passes.object_index[n][hair])} == {"Curls"}


@pytest.mark.parametrize("kind", ["particles", "curves"])
def test_hair_moves_as_its_skin_does(shot_scene, kind):
    """The ball nods from frame 1 to 2; from 2 to 3 it is shifted, and the camera goes aside. A bone that stays where it is turns
    the ball about the bone's head, not its own middle."""
    rig, body = _head(shot_scene)
    if kind == "particles":
        _comb_particles(body)
    else:
        _comb_curves(shot_scene, body)
    camera, shift = shot_scene.camera, 0.2 if kind == "particles" else 0.0
    for frame, x in ((2, 0.0), (3, 0.1)):
        camera.location.x, body.location.z = x, shift * (frame - 2)
        camera.keyframe_insert("location", frame=frame)
        body.keyframe_insert("location", frame=frame)
    job, passes = _render(rig, (1, 2, 3), 96, 96, motion_vectors=True)
    turns = [np.array(Matrix.Rotation(angle, 3, "X")) for angle in (0.0, 1.2, 1.2)]
    shifts = [np.array([0, 0, z]) for z in (0, 0, shift)]
    for n in (1, 2):
        seen = passes.mask[n] > 0
        before = job.manifest(20.0).cameras[n - 1]
        rest = passes.position[n][seen] @ turns[n] - shifts[n]
        place = (rest + shifts[n - 1]) @ turns[n - 1].T
        to_clip = np.array(before.projection).reshape(4, 4) @ np.array(before.world_to_camera).reshape(4, 4)
        clip = np.c_[place, np.ones(len(place))] @ to_clip.T
        rows, cols = np.nonzero(seen)
        way = (clip[:, :2] / clip[:, 3:] * [0.5, -0.5] + 0.5) * 96 - np.stack([cols, rows], 1) - 0.5
        assert seen.sum() > 1000 and np.abs(way).mean() > (3.0 if n == 1 else 0.3)
        error = np.abs(passes.motion_vectors[n][seen] - way)
        # beside its axis a strand is as thick as it is: what is seen of it turns about that
        limits = (0.7, 0.45) if n == 1 else (1e-3, 1e-4)
        assert error.max() < limits[0] and np.percentile(error, 95) < limits[1]


def test_skin_values_are_spread_over_texture_coordinates(rng):
    from latentman.blender_addon.passes.strands import rasterise_over_uv

    uv = np.array([[[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]], [[0.95, 0.95], [0.96, 0.95], [0.95, 0.96]]])
    slope = rng.normal(size=(2, 3))
    found = rasterise_over_uv(uv, uv @ slope, 64)
    rows, cols = np.nonzero(np.abs(found).sum(-1))
    place = (np.stack([cols, rows], 1) + 0.5) / 64
    inside = (place > 0.1).all(1) & (place.sum(1) < 1.0)
    assert inside.sum() == pytest.approx(0.32 * 64 * 64, rel=0.1)
    assert np.abs(found[rows, cols] - place @ slope)[inside].max() < np.abs(slope).sum() / 64
    assert not found[:2].any() and found[61, 61].any()


def _sun_on_a_floor(scene, direction):
    """A floor of 20 m and a sharp sun that shines along a direction; returns the floor."""
    for light in [one for one in scene.objects if one.type == "LIGHT"]:
        bpy.data.objects.remove(light)
    floor = _add(scene, "Floor", bpy.ops.mesh.primitive_plane_add, size=20)
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.angle = 0.0
    sun.rotation_mode = "QUATERNION"
    sun.rotation_quaternion = Vector(direction).to_track_quat("-Z", "Y")
    scene.collection.objects.link(sun)
    return floor


def test_shadows_fall_where_rays_to_the_sun_meet_the_character(shot_scene, character, monkeypatch):
    monkeypatch.setattr("latentman.blender_addon.passes.shadow_scene.REACH", 0)
    direction = Vector((0.6, 0.5, -0.8)).normalized()
    floor = _sun_on_a_floor(shot_scene, direction)
    size = 160
    job, passes = _render(character, (3, 12), size, size, shadow=True)
    assert set(np.unique(passes.object_index)) == {0, 1}, "the floor is not shown, it only takes the shadow"
    _, scene = _render(character, (3, 12), size, size, scope="SCENE", shadow=True)
    number = {entry.name: entry.index for entry in job.manifest(20.0).surfaces}
    (body,) = find_character_meshes(character)
    for n, frame in enumerate((3, 12)):
        np.testing.assert_array_equal(passes.shadow[n], scene.shadow[n])
        on_floor = (scene.object_index[n] > 0) & (scene.object_index[n] != number["Mannequin Body"])
        shot_scene.frame_set(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        evaluated = body.evaluated_get(graph)
        to_body = evaluated.matrix_world.inverted()
        way = to_body.to_3x3() @ -direction
        expected = np.zeros((size, size), bool)
        for row, col in np.argwhere(on_floor):
            expected[row, col] = evaluated.ray_cast(to_body @ Vector(scene.position[n][row, col]), way)[0]
        found = passes.shadow[n].astype(float)
        assert not found[~on_floor].any() and expected.sum() > 80
        assert ((found > 0.5) != expected).sum() <= max(3, 0.01 * expected.sum()), "only where the ray grazes"
        assert (np.abs(found - found.round()) > 0.01).sum() <= 5, "a sharp sun: only a pixel that it grazes is in between"
    assert floor.is_shadow_catcher is False and not any(one.name.startswith("LatentMan") for one in bpy.data.objects)


@pytest.mark.parametrize("kind", ["particles", "curves"])
def test_hair_casts_shadows(shot_scene, kind, monkeypatch):
    """Straight strands that stand out from the ball: what a ray to the sun passes within their thickness is in their shadow."""
    monkeypatch.setattr("latentman.blender_addon.passes.shadow_scene.REACH", 0)
    direction = Vector((0.3, 0.1, -0.9)).normalized()
    floor = _sun_on_a_floor(shot_scene, direction)
    rig, body = _head(shot_scene)
    for one in shot_scene.objects:
        one.hide_render = one.type == "MESH" and one not in (floor, body)
    floor.location.z = -0.55
    shot_scene.camera.matrix_world = Matrix.Translation((0.0, -3.0, 3.0)) @ Matrix.Rotation(math.pi / 4, 4, "X")
    if kind == "particles":
        _comb_particles(body)
        settings = body.particle_systems[0].settings
        settings.count, settings.hair_length, settings.emit_from, settings.use_emit_random = 8, 3.2, "VERT", False
        settings.root_radius = settings.tip_radius = 5.0
        settings.use_close_tip = False
    else:
        hair = _comb_curves(shot_scene, body)
        places = hair.data.attributes["position"].data
        flat = np.empty(len(places) * 3, np.float32)
        places.foreach_get("vector", flat)
        roots = flat.reshape(-1, 4, 3)[:, :1]
        points = roots * (1 + 0.6 * np.arange(4)[None, :, None])
        places.foreach_set("vector", np.asarray(points, np.float32).ravel())
        # some of those that point up; the others are too thin to be seen
        thick = (np.arange(len(points)) % 61 == 0) & (roots[:, 0, 2] > 0.0)
        radii = np.repeat(np.where(thick, 0.05, 0.0), 4).astype(np.float32)
        hair.data.attributes["radius"].data.foreach_set("value", radii)
    _job, passes = _render(rig, (1,), 128, 128, shadow=True, scope="SCENE")
    shot_scene.frame_set(1)
    graph = bpy.context.evaluated_depsgraph_get()
    if kind == "particles":
        system = body.evaluated_get(graph).particle_systems[0]
        ends = [[system.co_hair(body.evaluated_get(graph), particle_no=n, step=step) for step in (0, 4)] for n in range(8)]
        ends, radius = np.array(ends), 0.05
    else:
        ends, radius = points[thick][:, [0, 3]], 0.05
    on_floor = (passes.mask[0] == 0) & (passes.object_index[0] > 0)
    places = passes.position[0][on_floor].astype(float)
    away = _measure_rays(places, -np.array(direction), ends)
    ball = np.linalg.norm(np.cross(places, -np.array(direction)), axis=1) - 0.5
    found = passes.shadow[0][on_floor] > 0.5
    # strands end flat
    tips = _measure_rays(places, -np.array(direction), np.repeat(ends[:, 1:], 2, 1))
    sure = (np.abs(away - radius) > 0.012) & (np.abs(ball) > 0.02) & (tips > 1.3 * radius)
    expected = (away < radius) | (ball < 0)
    of_hair = expected & (ball > 0.02)
    assert (of_hair & sure).sum() > 100
    assert (found != expected)[sure].sum() <= 0.01 * of_hair.sum()


def _measure_rays(starts, direction, ends):
    """(N,) how near rays from ``starts`` (N, 3) pass any of the segments ``ends`` (S, 2, 3), all of which lie before them."""
    across = np.linalg.svd(np.array(direction)[None])[2][1:].T
    places, first, last = starts @ across, ends[:, 0] @ across, ends[:, 1] @ across
    way = last - first
    length = np.maximum((way**2).sum(1), 1e-12)
    part = np.clip(((places[:, None] - first) * way).sum(2) / length, 0, 1)
    return np.linalg.norm(places[:, None] - first - part[..., None] * way, axis=2).min(1)


def test_without_ground_and_light_a_shadow_lies_under_the_feet(shot_scene, character):
    for light in [one for one in shot_scene.objects if one.type == "LIGHT"]:
        bpy.data.objects.remove(light)
    _, passes = _render(character, (1, 24), 128, 128, shadow=True)
    middles = []
    for n in range(2):
        rows, cols = np.nonzero(passes.shadow[n] > 0.5)
        feet = np.nonzero(passes.mask[n])[0].max()
        assert len(rows) > 40 and rows.max() > feet - 12 and not passes.shadow[n][passes.mask[n] > 0].any()
        middles.append(np.mean([rows, cols], 1))
    assert np.abs(middles[0] - middles[1]).max() > 3, "it walks along"
    _, without = _render(character, (1,), 128, 128)
    assert without.shadow is None and (without.depth[0] == passes.depth[0]).mean() > 0.9


def test_shadows_on_a_plain_ground_need_nothing_else_of_the_scene(shot_scene, character):
    """Where nothing lies under the feet, a plane does anyway; and where something does, it does not count."""
    floor = _sun_on_a_floor(shot_scene, (0.6, 0.5, -0.8))
    floor.hide_render = True
    job, whole = _render(character, (1, 12), 192, 192, shadow=True)
    lowest = job.ground
    _, expected = _render(character, (1, 12), 192, 192, shadow=True, plain_ground=True)
    floor.hide_render, floor.location.z = False, -3.0
    crate = _add(shot_scene, "Crate", bpy.ops.mesh.primitive_cube_add, location=(1.0, 0.5, 0.5))
    bpy.context.view_layer.objects.active = crate
    bpy.ops.object.mode_set(mode="EDIT")
    job, passes = _render(character, (1, 12), 192, 192, shadow=True, plain_ground=True)
    bpy.ops.object.mode_set(mode="OBJECT")
    np.testing.assert_array_equal(passes.shadow, expected.shadow)
    assert job.ground == lowest and expected.shadow.max() > 0.6
    # every other pixel is rendered, so that edges are softer
    shadows = whole.shadow.astype(float), expected.shadow.astype(float)
    assert np.abs(shadows[0] - shadows[1]).mean() < 0.02 and np.corrcoef(shadows[0].ravel(), shadows[1].ravel())[0, 1] > 0.9
    # a part of a shot gets the shot's ground, whichever its own frames are
    _, part = _render(character, (12,), 192, 192, shadow=True, plain_ground=True, depth_range=(job.near, job.far), ground=lowest)
    np.testing.assert_array_equal(part.shadow[0], expected.shadow[1])


def test_a_part_keeps_the_ground_of_its_shot_where_others_have_measured_it(shot_scene, character):
    ground = -0.25
    part = PassRender(bpy.context, character, (12,), 32, 32, shadow=True, plain_ground=True, depth_range=(1.0, 9.0), ground=ground)
    list(part.measure())
    part.adopt(part.get_measured())
    assert part.ground == ground
    part.close()


def test_a_shot_renders_shadows_where_frames_show_them(shot_scene, character, tmp_path):
    _sun_on_a_floor(shot_scene, (0.6, 0.5, -0.8))

    def has_shadow(preset="surface", **options):
        request = samples.request(2, preset=preset)
        return ShotTask(
            bpy.context, character, request, SimpleNamespace(), tmp_path, folder_per_job=False, **options
        )._render._shadow

    assert has_shadow() and has_shadow(quick=True)
    assert not has_shadow("latentman") and not has_shadow(alpha=True) and not has_shadow(scope="SCENE")
    assert not _without_lights(shot_scene, has_shadow)


def _without_lights(scene, ask):
    for light in [one for one in scene.objects if one.type == "LIGHT"]:
        light.hide_render = True
    return ask()


def test_a_shadow_falls_on_what_stands_behind(shot_scene, character):
    _sun_on_a_floor(shot_scene, (0.0, 1.0, -0.3))
    wall = _add(shot_scene, "Wall", bpy.ops.mesh.primitive_plane_add, size=8, location=(0, 1.2, 0), rotation=(math.pi / 2, 0, 0))
    _, before = _render(character, (1,), 96, 96, shadow=True, scope="SCENE")
    wall.hide_render = True
    _, after = _render(character, (1,), 96, 96, shadow=True, scope="SCENE")
    upper = np.s_[:48]
    assert (before.shadow[0][upper] > 0.5).sum() > 30 > (after.shadow[0][upper] > 0.5).sum()


def test_averages_stay_on_their_surface(rng):
    from latentman.blender_addon.passes.shadow_scene import average_over_surface

    values, distance = rng.random((20, 24)), np.where(np.arange(24) < 11, 2.0, 5.0)[None].repeat(20, 0)
    found = average_over_surface(values, distance, 2, 0.02)
    for row, col in ((0, 0), (7, 5), (7, 10), (7, 11), (19, 23)):
        near = [
            values[r, c]
            for r in range(max(0, row - 2), min(20, row + 3))
            for c in range(max(0, col - 2), min(24, col + 3))
            if distance[r, c] == distance[row, col]
        ]
        assert found[row, col] == pytest.approx(np.mean(near))


def test_what_is_called_a_prop_is_no_part_of_the_character(shot_scene, character):
    sword = _add(shot_scene, "Sword", bpy.ops.mesh.primitive_cube_add, size=0.3)
    sword.parent, sword.parent_type, sword.parent_bone = character, "BONE", "right_wrist"
    sword.matrix_parent_inverse.identity()
    sword.location = (0, 0, 0)
    job, with_sword = _render(character, (1,), 96, 96)
    assert {entry.name for entry in job.manifest(20.0).surfaces} == {"Mannequin Body", "Sword"}
    bones = {entry.bone for entry in job.manifest(20.0).parts}
    assert "right_wrist" in bones and set(np.unique(with_sword.mask)) == {0, 1}
    sword.latentman_is_prop = True
    job, _ = _render(character, (1,), 96, 96)
    assert {entry.name for entry in job.manifest(20.0).surfaces} == {"Mannequin Body"}
    job, _ = _render(character, (1,), 96, 96, scope="SCENE")
    assert {entry.name: entry.character for entry in job.manifest(20.0).surfaces} == {"Mannequin Body": 1, "Sword": 0}
