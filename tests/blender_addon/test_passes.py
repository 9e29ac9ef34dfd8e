"""Passes from real Cycles renders against an independent rasteriser, and the scene as it was afterwards."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from PIL import Image

from latentman.blender_addon.passes import capture, gpu_raster, pass_engine
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.reference_shots.rasteriser import rasterise as reference_rasterise
from latentman.blender_addon.rigging.characters import find_character_meshes
from latentman.blender_addon.sequencer import add_image_strip
from latentman.shared import exr
from latentman.shared.depth import normalise_depth
from latentman.shared.shot import ShotError
from tests.oracles.rasteriser import rasterise

SIZE = 128


def _render(character, frames, size=SIZE, height=None, **options):
    job = PassRender(bpy.context, character, frames, size, height or size, **options)
    assert list(job.render_all())[-1] == job.total
    return job, job.result()


def _mesh_in_camera(character, scene, frame):
    """Camera-space points, triangles, (T, 3, 5) UV and rest positions at their corners, focal length in pixels."""
    scene.frame_set(frame)
    (body,) = find_character_meshes(character)
    graph = bpy.context.evaluated_depsgraph_get()
    seen = body.evaluated_get(graph)
    mesh = seen.data
    mesh.calc_loop_triangles()
    count, faces = len(mesh.vertices), len(mesh.loop_triangles)
    points, triangles, loops = np.empty(count * 3), np.empty(faces * 3, np.int32), np.empty(faces * 3, np.int32)
    mesh.vertices.foreach_get("co", points)
    mesh.loop_triangles.foreach_get("vertices", triangles)
    mesh.loop_triangles.foreach_get("loops", loops)
    uv = np.empty(len(mesh.loops) * 2, np.float32)
    mesh.uv_layers[0].data.foreach_get("uv", uv)
    rest = np.empty(count * 3, np.float32)
    body.data.shape_keys.key_blocks[0].data.foreach_get("co", rest)
    to_camera = np.array(scene.camera.matrix_world.inverted() @ seen.matrix_world)
    camera_points = points.reshape(-1, 3) @ to_camera[:3, :3].T + to_camera[:3, 3]
    triangles = triangles.reshape(-1, 3)
    values = np.concatenate([uv.reshape(-1, 2)[loops.reshape(-1, 3)], rest.reshape(-1, 3)[triangles]], -1)
    camera = scene.camera.data
    return camera_points, triangles, values, camera.lens / camera.sensor_width * SIZE


def _oracle(character, scene, frame):
    return rasterise(*_mesh_in_camera(character, scene, frame), SIZE)


def test_training_depth_is_what_the_add_on_sends(shot_scene, character):
    """The image model learns from another rasteriser's depth, which must be the passes' own."""
    job, passes = _render(character, (7,))
    points, triangles, _, focal = _mesh_in_camera(character, shot_scene, 7)
    drawn = reference_rasterise(points, triangles, focal, SIZE, SIZE)
    assert (drawn.mask != (passes.mask[0] > 0)).sum() <= max(2, 0.0005 * SIZE * SIZE)
    both = drawn.mask & (passes.mask[0] > 0)
    apart = np.abs(normalise_depth(drawn.depth, job.near, job.far) - passes.depth[0])[both]
    assert np.percentile(apart, 99.5) < 1e-3 / (job.far - job.near)


def test_passes_agree_with_an_independent_rasteriser(shot_scene, character):
    frames = (1, 13)
    job, passes = _render(character, frames)
    assert (passes.rest_position[0] != passes.rest_position[1]).any()
    for n, frame in enumerate(frames):
        depth, values = _oracle(character, shot_scene, frame)
        mask = np.isfinite(depth)
        assert ((passes.mask[n] > 0) != mask).sum() <= max(2, 0.0005 * SIZE * SIZE)
        both = mask & (passes.mask[n] > 0)
        # where a surface folds behind another by less than a millimetre either may be seen
        near = np.abs(normalise_depth(depth, job.near, job.far) - passes.depth[n])[both] < 1e-3 / (job.far - job.near)
        assert near.mean() > 0.998
        assert np.percentile(np.abs(values[..., :2] - passes.uv[n])[both], 99.5) < 1e-3
        assert np.percentile(np.abs(values[..., 2:] - passes.rest_position[n])[both], 99.5) < 1e-3


def test_the_engine_hands_over_what_blender_writes_into_a_file(shot_scene, character, monkeypatch, tmp_path):
    """And our reader of such files agrees with OpenEXR's."""
    library = pytest.importorskip("OpenEXR")
    compared = []
    render = pass_engine.render

    def both(stage, scene, frame):
        found, path = render(stage, scene, frame), tmp_path / f"{frame}.exr"
        settings = scene.render.image_settings
        if hasattr(settings, "media_type"):
            settings.media_type = "MULTI_LAYER_IMAGE"
        settings.file_format, settings.color_depth, settings.exr_codec = "OPEN_EXR_MULTILAYER", "32", "ZIP"
        if hasattr(settings, "use_exr_interleave"):
            settings.use_exr_interleave = True
        scene.render.filepath = str(path)
        capture.run_render(stage, scene, frame, write_still=True)
        with library.File(str(path), separate_channels=True) as file:
            theirs = {name: channel.pixels for name, channel in file.channels().items()}
        ours = exr.read_channels(path)
        assert set(ours) == set(theirs) == set(found)
        compared.extend(np.array_equal(ours[name], theirs[name]) for name in theirs)
        compared.extend(np.array_equal(found[name], theirs[name]) for name in theirs)
        (path.parent / "half.exr").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match="cannot be read"):
            exr.read_channels(path.parent / "half.exr")
        return found

    monkeypatch.setattr(pass_engine, "render", both)
    _render(character, (5,), 96)
    assert len(compared) > 20 and all(compared)


def _same_passes(found, expected):
    assert (found.mask == expected.mask).mean() > 0.9995
    both = (found.mask > 0) & (expected.mask > 0)
    for name in ("uv", "rest_position", "depth"):
        assert np.percentile(np.abs(getattr(found, name) - getattr(expected, name))[both], 99) < 1e-4, name
    assert (found.part == expected.part)[both].mean() > 0.999
    assert np.abs(found.normal.astype(float) - expected.normal)[both].mean() < 2e-3


def test_the_graphics_driver_shows_what_cycles_shows(shot_scene, character):
    if not gpu_raster.is_trusted():
        pytest.skip("no graphics context that can be trusted; before 5.0 Blender has none without a window")
    shot_scene.camera.rotation_euler.y += 0.2
    _, expected = _render(character, (3, 18), SIZE, 96)
    job, found = _render(character, (3, 18), SIZE, 96, quick=True)
    assert job.uses_gpu
    _same_passes(found, expected)


def test_without_a_graphics_driver_cycles_steps_in(shot_scene, character, monkeypatch):
    def refuse(*_):
        raise SystemError("GPU functions for drawing are not available")

    _, expected = _render(character, (3,))
    monkeypatch.setattr(gpu_raster, "is_trusted", lambda: True)
    monkeypatch.setattr(gpu_raster, "draw", refuse)
    job, found = _render(character, (3,), quick=True)
    assert not job.uses_gpu and (found.rest_position == expected.rest_position).all() and len(job.manifest(20.0).cameras) == 1


def test_depth_follows_the_shots_range(shot_scene, character):
    _, passes = _render(character, (1, 13, 24), 64)
    seen = passes.mask > 0
    # the range is that of the vertices, seen or not
    assert 0.98 < passes.depth[seen].max() <= 1.0 and 0.15 <= passes.depth[seen].min() < 0.3
    assert (passes.depth[~seen] == 0).all()
    assert set(np.unique(passes.part[seen])) <= set(range(1, 25)) and len(np.unique(passes.part[seen])) > 12


def _snapshot(scene, view_layer, objects):
    kinds = ("BOOLEAN", "INT", "FLOAT", "STRING", "ENUM")

    def values(owner):
        return {
            p.identifier: (tuple(v) if isinstance(v := getattr(owner, p.identifier), bpy.types.bpy_prop_array) else v)
            for p in owner.bl_rna.properties
            if not p.is_readonly and p.type in kinds
        }

    return {
        "scene": values(scene),
        "render": values(scene.render),
        "cycles": values(scene.cycles),
        "image": values(scene.render.image_settings),
        "layer": values(view_layer),
        "aovs": len(view_layer.aovs),
        "override": view_layer.material_override,
        "frame": scene.frame_current,
        "materials": len(bpy.data.materials),
        "objects": [(o.name, o.hide_render, o.pass_index) for o in objects],
        "attributes": [sorted(o.data.attributes.keys()) for o in objects if o.type == "MESH"],
    }


def test_the_scene_is_as_before(shot_scene, character, monkeypatch):
    prop = bpy.data.objects.new("Prop", bpy.data.meshes.new("Prop"))
    shot_scene.collection.objects.link(prop)
    shot_scene.frame_set(7)
    layer, objects = bpy.context.view_layer, list(shot_scene.objects)
    before = _snapshot(shot_scene, layer, objects)
    _render(character, (2, 3), 32)
    assert _snapshot(shot_scene, layer, objects) == before
    stopped = PassRender(bpy.context, character, (2, 3, 4), 32, 32)
    steps = stopped.render_all()
    next(steps)
    assert _snapshot(shot_scene, layer, objects) | {"frame": 0, "scene": 0} == before | {"frame": 0, "scene": 0}
    steps.close()
    assert _snapshot(shot_scene, layer, objects) == before
    monkeypatch.setattr("latentman.blender_addon.passes.reading.read_passes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(PassRender(bpy.context, character, (2,), 32, 32).render_all())
    assert _snapshot(shot_scene, layer, objects) == before


def test_what_cannot_be_rendered_is_one_sentence(empty_scene, character):
    with pytest.raises(ShotError, match="no camera"):
        PassRender(bpy.context, character, (1,), 32, 32)
    with pytest.raises(ShotError, match="no character"):
        PassRender(bpy.context, None, (1,), 32, 32)
    away = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    away.location, away.rotation_euler = (0, -5, 1), (-1.5, 0, 0)
    empty_scene.collection.objects.link(away)
    empty_scene.camera = away
    with pytest.raises(ShotError, match="does not see"):
        _render(character, (1,), 32)


def test_strips_take_free_channels(empty_scene, tmp_path):
    from latentman.blender_addon.compat import get_strips

    paths = []
    for n in range(1, 5):
        paths.append(tmp_path / f"{n:04d}.png")
        Image.fromarray(np.full((8, 8, 3), n * 40, np.uint8)).save(paths[-1])
    first = add_image_strip(empty_scene, paths, 11, "one")
    second = add_image_strip(empty_scene, paths, 12, "two")
    assert (first.frame_final_start, first.frame_final_end) == (11, 15)
    assert first.channel != second.channel and len(get_strips(empty_scene)) == 2
    assert [e.filename for e in first.elements] == [p.name for p in paths]
    image = bpy.data.images.load(str(paths[1]))
    assert image.pixels[0] == pytest.approx(80 / 255, abs=1e-3)
    with pytest.raises(ShotError, match="frames of this result are gone"):
        add_image_strip(empty_scene, [], 1, "none")
