"""The unit scale of a scene: the same body and camera in centimetres give the same passes and the same keys as in metres."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from latentman.blender_addon.camera_framing import frame_character
from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import apply_motion
from latentman.blender_addon.rigging.rigs import read_rig

FRAMES = (1, 4)


def _make(metres_per_unit, system="METRIC", camera="PERSP"):
    """A walking mannequin of 1.7 m with a crate, in a scene of a unit scale, as an artist has it there: everything larger."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.frame_end = 20, 6
    character = add_character(bpy.context, load(MANNEQUIN), "Mannequin")
    apply_motion(character, read(BUNDLED).get_motion(0), 1, 20.0)
    seen_by = frame_character(bpy.context, scene, get_bodies(character))
    seen_by.data.type, seen_by.data.ortho_scale = camera, 3.0
    bpy.ops.mesh.primitive_cube_add(size=0.4, location=(0.6, 0.0, 0.2))
    # what "Apply Scale" to everything would do
    size = 1 / metres_per_unit
    parent = bpy.data.objects.new("World", None)
    scene.collection.objects.link(parent)
    parent.scale = (size, size, size)
    for one in [one for one in scene.objects if one.parent is None and one != parent]:
        one.parent, one.matrix_parent_inverse = parent, Matrix()
    seen_by.data.ortho_scale *= size
    seen_by.data.clip_start *= size
    seen_by.data.clip_end *= size
    scene.unit_settings.system, scene.unit_settings.scale_length = system, metres_per_unit
    bpy.context.view_layer.update()
    return character


def _render(character):
    render = PassRender(bpy.context, character, FRAMES, 96, 96, scope="SCENE", motion_vectors=True)
    for _ in render.render_all():
        pass
    return render.result(), render.manifest(20.0)


def test_the_ground_that_shadows_fall_on_is_as_wide_in_centimetres():
    found = []
    for metres in (1.0, 0.01):
        character, camera = _make(metres), bpy.context.scene.camera
        # from above, so that all of the shadow is seen
        camera.location, camera.rotation_euler, camera.data.lens = (0.0, -1.0, 5.0), (0.35, 0.0, 0.0), 35.0
        render = PassRender(bpy.context, character, FRAMES[:1], 96, 96, shadow=True, plain_ground=True)
        list(render.render_all())
        found.append(render.result().shadow[0].astype(float))
    assert (found[0] > 0.5).sum() > 80
    assert np.abs(found[0] - found[1]).mean() < 2e-4


@pytest.mark.parametrize("camera", ["PERSP", "ORTHO"])
def test_passes_of_a_scene_in_centimetres_are_in_metres(camera):
    passes, manifest = _render(_make(1.0, camera=camera))
    other, described = _render(_make(0.01, camera=camera))
    assert np.isclose(described.near, manifest.near, rtol=1e-4) and np.isclose(described.far, manifest.far, rtol=1e-4)
    same = (passes.mask == other.mask) & (passes.object_index == other.object_index)
    assert same.mean() > 0.999 and passes.mask.any()
    for name, most in (("rest_position", 1e-4), ("position", 1e-3), ("depth", 1e-4)):
        here, there = getattr(passes, name), getattr(other, name)
        assert np.median(np.abs(here - there)[same & (passes.object_index > 0)]) < most, name
    # what the manifest says of the camera and of the positions goes together: the pixel of a position is where it lies
    entry = described.cameras[0]
    matrix = np.reshape(entry.projection, (4, 4)) @ np.reshape(entry.world_to_camera, (4, 4))
    rows, cols = np.nonzero(other.object_index[0])
    clip = np.c_[other.position[0][rows, cols], np.ones(len(rows))] @ matrix.T
    pixels = (clip[:, :2] / clip[:, 3:] * [0.5, -0.5] + 0.5) * 96
    assert np.abs(pixels - np.c_[cols + 0.5, rows + 0.5]).max() < 0.1
    depth = -(np.c_[other.position[0][rows, cols], np.ones(len(rows))] @ np.reshape(entry.world_to_camera, (4, 4))[2])
    assert depth.min() > 0.95 * described.near and depth.max() < 1.05 * described.far
    assert np.allclose(entry.projection, manifest.cameras[0].projection, rtol=1e-3, atol=1e-4)
    assert np.allclose(described.people[0].keypoints, manifest.people[0].keypoints, rtol=1e-3, atol=1e-2)
    origins = [np.array([part.origin for part in one.parts]) for one in (manifest, described)]
    assert np.allclose(*origins, atol=1e-4) and np.abs(origins[0]).max() > 0.5


def test_the_scale_of_a_scene_without_units_is_ignored():
    plain = _render(_make(1.0))[1]
    character = _make(1.0, system="NONE")
    bpy.context.scene.unit_settings.scale_length = 0.01
    assert np.isclose(_render(character)[1].near, plain.near, rtol=1e-4)


@pytest.mark.parametrize("metres_per_unit", [0.01, 0.0254, 10.0])
def test_a_body_is_as_large_and_moves_as_far_in_any_unit(empty_scene, body_model, metres_per_unit):
    def measure(scale):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.context.scene.unit_settings.scale_length = scale
        armature = add_character(bpy.context, body_model, "Body")
        bpy.context.view_layer.update()
        rig = read_rig(armature)
        height = max(get_bodies(armature)[0].dimensions) * scale
        action = apply_motion(armature, read(BUNDLED).get_motion(0), 1, 20.0)
        places = []
        for frame in (1, 20):
            bpy.context.scene.frame_set(frame)
            places.append(np.array(armature.matrix_world @ armature.pose.bones["pelvis"].matrix.translation) * scale)
        return rig.joints, height, np.array(places), sum(len(c.keyframe_points) for c in _curves(action))

    joints, height, places, keys = measure(1.0)
    others = measure(metres_per_unit)
    assert 1.4 < height < 2.0 and np.isclose(others[1], height, rtol=1e-4)
    assert np.allclose(others[0], joints, atol=1e-4) and np.allclose(others[2], places, atol=1e-3)
    assert others[3] == keys


def _curves(action):
    from latentman.blender_addon.compat import find_object_slot, get_slot_fcurves

    return get_slot_fcurves(action, find_object_slot(action))
