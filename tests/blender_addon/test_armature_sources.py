"""Animated armatures and files of whole scenes as sources of motion, against a forward kinematics of the file's own numbers."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from latentman.blender_addon import operators, properties
from latentman.blender_addon.compat import assign_action, get_action_slots, get_fcurves
from latentman.blender_addon.motion.scene_file_headers import read_scene_file_header
from latentman.blender_addon.motion.usd_rate import read_usd_rate
from latentman.blender_addon.rigging import scene_files
from latentman.blender_addon.rigging.armature_source import choose_frames, remove_scale, sample_armature
from latentman.blender_addon.rigging.rigs import BONE_MAP
from latentman.shared.motion import MotionError
from tests import hostile, performances, reading
from tools import rigs

pytestmark = pytest.mark.usefixtures("registered_operators")
MIXAMO = {joint: f"mixamorig:{bone}" for joint, bone in rigs.get_bone_names("Mixamo").items()}
#: names that say nothing, in no order
UNKNOWN = {joint: f"node_{n * 7 % 24:02d}" for n, joint in enumerate(rigs.get_bone_names("Mixamo"))}


@pytest.fixture(scope="module")
def walk():
    """Twelve frames of a walk on a skeleton with Mixamo's names."""
    return performances.make_performance(MIXAMO)


@pytest.fixture(scope="module")
def kick():
    """Another motion of the same skeleton, shorter."""
    return performances.make_performance(MIXAMO, clip=3, frames=9)


@pytest.fixture
def settings(character):
    """The scene's settings with the mannequin as the character, at 30 frames per second."""
    settings = properties.get_settings(bpy.context)
    settings.character = character
    bpy.context.scene.render.fps = 30
    return settings


def list_state():
    """Everything that an import may not change: names, users, and what the scene is set to."""
    scene, layer = bpy.context.scene, bpy.context.view_layer
    data = {
        declared.identifier: sorted((one.name, one.users, one.use_fake_user) for one in getattr(bpy.data, declared.identifier))
        for declared in bpy.data.bl_rna.properties
        if isinstance(declared, bpy.types.CollectionProperty) and declared.identifier not in ("window_managers", "screens")
    }
    chosen = (sorted(one.name for one in bpy.context.selected_objects), layer.objects.active, bpy.context.mode, layer.name)
    units = tuple(getattr(scene.unit_settings, name) for name in ("system", "scale_length", "length_unit"))
    times = (
        scene.render.fps,
        scene.render.fps_base,
        scene.frame_start,
        scene.frame_end,
        scene.frame_current,
        scene.use_preview_range,
    )
    return data, chosen, units, times, scene.name, bpy.context.window.scene.name


def check_follows(armature, wanted, first=1):
    """Every limb of an armature points where it does in ``wanted``, joint -> (F, 3), from frame ``first`` on; so does the path."""
    seen = rigs.read_mapped_heads(armature, range(first, first + len(next(iter(wanted.values())))))
    angles = performances.measure_angles(seen, wanted)
    assert len(angles) == len(performances.LIMBS)
    assert max(values.max() for values in angles.values()) < 1.0, {limb: values.max().round(2) for limb, values in angles.items()}
    path, wanted_path = (places["pelvis"] - places["pelvis"][0] for places in (seen, wanted))
    length = np.linalg.norm(wanted_path[-1, :2])
    if length > 0.1:
        # turned alike; the length goes with the legs
        assert path[-1, :2] @ wanted_path[-1, :2] / np.linalg.norm(path[-1, :2]) / length > 0.999
        assert 0.7 < np.linalg.norm(path[-1, :2]) / length < 1.4


def arrange(motion, performance):
    """The places of a sampled motion's bones, in the order of a performance's, (F, B, 3)."""
    names = [name.replace(":", "_") for name in motion.names]
    return motion.positions[:, [names.index(name.replace(":", "_")) for name in performance.names]]


def build_armature(performance, name="Source", scale=1.0, turned=False):
    """An animated armature as an importer makes it: Z up, or Y up with the object turned, in units of ``scale`` metres."""
    scene = bpy.context.scene
    data = bpy.data.armatures.new(name)
    armature = bpy.data.objects.new(name, data)
    scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    p, to_z = performance, np.eye(3) if turned else np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    axes, heads = [], []
    bpy.ops.object.mode_set(mode="EDIT")
    for n, parent in enumerate(p.parents):
        local = performances.to_matrix(p.rest[n])
        axes.append(to_z @ local if parent < 0 else axes[parent] @ local)
        heads.append(to_z @ p.offsets[n] if parent < 0 else heads[parent] + axes[parent] @ p.offsets[n])
        bone = data.edit_bones.new(p.names[n])
        bone.head, bone.tail = (0, 0, 0), (0, 0.08 / scale, 0)
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = axes[n], heads[n] / scale
        bone.matrix = Matrix(matrix.tolist())
        bone.parent = data.edit_bones[p.names[parent]] if parent >= 0 else None
    bpy.ops.object.mode_set(mode="OBJECT")
    for n, parent in enumerate(p.parents):
        bone = armature.pose.bones[p.names[n]]
        bone.rotation_mode = "QUATERNION"
        back = p.rest[n] * [1, -1, -1, -1]
        values = performances.multiply(np.broadcast_to(back, p.local[:, n].shape), p.local[:, n])
        for frame, value in enumerate(values):
            bone.rotation_quaternion = value
            bone.keyframe_insert("rotation_quaternion", frame=1 + frame)
            if parent < 0:
                bone.location = axes[n].T @ (to_z @ p.root[frame] - heads[n]) / scale
                bone.keyframe_insert("location", frame=1 + frame)
    armature.scale = (scale,) * 3
    if turned:
        armature.rotation_euler.x = math.pi / 2
    return armature


# ------------------------------------------------------------------ armatures in the scene


@pytest.mark.parametrize(("scale", "turned"), [(1.0, False), (0.01, True)])
@pytest.mark.parametrize("hidden", ["", "viewport", "eye", "excluded collection", "another scene"])
def test_an_armature_is_sampled_wherever_it_is(empty_scene, walk, scale, turned, hidden):
    source = build_armature(walk, scale=scale, turned=turned)
    if hidden == "viewport":
        source.hide_viewport = True
    elif hidden == "eye":
        source.hide_set(True)
    elif hidden:
        collection = bpy.data.collections.new("Sources")
        collection.objects.link(source)
        empty_scene.collection.objects.unlink(source)
        if hidden == "another scene":
            bpy.data.scenes.new("Other").collection.children.link(collection)
        else:
            empty_scene.collection.children.link(collection)
            bpy.context.view_layer.layer_collection.children["Sources"].exclude = True
    empty_scene.frame_set(7)
    before = list_state()
    motion = sample_armature(empty_scene, source)
    assert list_state() == before
    assert sorted(motion.names) == sorted(walk.names) and motion.fps == 20
    wanted = performances.to_blender(performances.follow(walk))
    assert np.abs(arrange(motion, walk) - wanted).max() < 1e-4
    assert np.abs(np.linalg.det(motion.rotations) - 1).max() < 1e-6
    # what hangs on a bone has a constant place in its axes
    for bone, parent in enumerate(motion.parents):
        if parent >= 0:
            offset = np.einsum("fji,fj->fi", motion.rotations[:, parent], motion.positions[:, bone] - motion.positions[:, parent])
            assert np.abs(offset - walk.offsets[walk.names.index(motion.names[bone])]).max() < 1e-4
    assert np.abs(np.linalg.norm(motion.tips, axis=1) - 0.08).max() < 1e-5


def test_unkeyed_changes_of_the_scene_stay(empty_scene, walk):
    source = build_armature(walk)
    empty_scene.frame_set(3)
    bone = source.pose.bones[walk.names[4]]
    bone.rotation_quaternion = (0.6, 0.8, 0, 0)
    sample_armature(empty_scene, source)
    assert tuple(round(value, 5) for value in bone.rotation_quaternion) == (0.6, 0.8, 0, 0)


@pytest.mark.parametrize("name", ["switch", "a.b", 'a"]["b', "a\\b"])
@pytest.mark.parametrize("on_bone", [True, False])
def test_unkeyed_changes_of_custom_properties_stay(empty_scene, walk, on_bone, name):
    source = build_armature(walk)
    owner = source.pose.bones[walk.names[4]] if on_bone else source
    for frame, value in ((1, 1.0), (9, 9.0)):
        owner[name] = value
        owner.keyframe_insert(f'["{bpy.utils.escape_identifier(name)}"]', frame=frame)
    empty_scene.frame_set(3)
    owner[name] = 55.0
    sample_armature(empty_scene, source)
    assert owner[name] == 55.0


def test_a_parent_moves_scales_and_turns_a_source(settings, walk):
    source = build_armature(walk, scale=1.0)
    empty = bpy.data.objects.new("Empty", None)
    bpy.context.scene.collection.objects.link(empty)
    source.parent = empty
    empty.scale = (0.01,) * 3
    source.scale = (100,) * 3
    for frame, angle in ((1, 0.0), (12, 1.1)):
        empty.rotation_euler.z = angle
        empty.location.x = frame / 12
        empty.keyframe_insert("rotation_euler", frame=frame)
        empty.keyframe_insert("location", frame=frame)
    local = performances.to_blender(performances.follow(walk))
    wanted = []
    for frame in range(12):
        bpy.context.scene.frame_set(1 + frame)
        matrix = np.array(empty.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world) @ np.diag([100, 100, 100, 1])
        wanted.append(local[frame] @ matrix[:3, :3].T + matrix[:3, 3])
    motion = sample_armature(bpy.context.scene, source)
    assert np.abs(arrange(motion, walk) - np.array(wanted)).max() < 1e-4
    settings.source = source
    assert bpy.ops.latentman.use_armature() == {"FINISHED"}
    places = {joint: np.array(wanted)[:, walk.names.index(bone)] for joint, bone in walk.joints.items()}
    check_follows(settings.character, places)


def test_strips_and_constraints_are_what_blender_shows(settings, walk):
    source = build_armature(walk)
    action = source.animation_data.action
    source.animation_data.action = None
    strip = source.animation_data.nla_tracks.new().strips.new("walk", 41, action)
    follower = source.copy()
    follower.animation_data_clear()
    bpy.context.scene.collection.objects.link(follower)
    for bone in follower.pose.bones:
        constraint = bone.constraints.new("COPY_TRANSFORMS")
        constraint.target, constraint.subtarget = source, bone.name
    wanted = performances.to_blender(performances.follow(walk))
    for one in (source, follower):
        motion = sample_armature(bpy.context.scene, one)
        assert motion.positions.shape == wanted.shape and np.abs(arrange(motion, walk) - wanted).max() < 1e-4
    strip.scale = 2.0
    assert sample_armature(bpy.context.scene, source).frame_count == 23
    strip.mute = True
    with pytest.raises(MotionError, match="does not move from frame 1 to 24; give it an Action"):
        sample_armature(bpy.context.scene, source)


def test_a_linked_armature_is_a_source(settings, walk, tmp_path, body_model):
    source = build_armature(walk)
    bpy.data.libraries.write(str(tmp_path / "source.blend"), {source})
    bpy.data.objects.remove(source)
    with bpy.data.libraries.load(str(tmp_path / "source.blend"), link=True) as (_, wanted):
        wanted.objects = ["Source"]
    linked = wanted.objects[0]
    bpy.context.scene.collection.objects.link(linked)
    settings.source = linked
    assert bpy.ops.latentman.use_armature() == {"FINISHED"}
    check_follows(settings.character, performances.get_places(walk))
    with pytest.raises(RuntimeError, match="make a library override"):
        bpy.ops.latentman.guess_bones(owner="SOURCE")


def test_what_is_no_motion_is_said(settings, walk):
    source = build_armature(walk)
    settings.source = settings.character
    assert settings.find_source() is None and not bpy.ops.latentman.use_armature.poll()
    settings.source = source
    source.data.pose_position = "REST"
    with pytest.raises(RuntimeError, match="set its armature to Pose Position"):
        bpy.ops.latentman.use_armature()
    source.data.pose_position = "POSE"
    action = source.animation_data.action
    source.animation_data_clear()
    with pytest.raises(RuntimeError, match="does not move from frame 1 to 24"):
        bpy.ops.latentman.use_armature()
    source.animation_data_create().action = action
    bpy.context.view_layer.objects.active = source
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RuntimeError, match="leave Edit Mode"):
        bpy.ops.latentman.use_armature()
    bpy.ops.object.mode_set(mode="OBJECT")


def test_bones_of_a_source_are_mapped_in_the_same_list(settings, walk):
    names = UNKNOWN | {"left_hip": "a", "right_hip": "b"}
    puzzling = performances.make_performance(names)
    source = build_armature(puzzling)
    # three arms make a person that no guess finds
    settings.source = source
    source[BONE_MAP] = "{}"
    with pytest.raises(RuntimeError, match="choose one in the bone list"):
        bpy.ops.latentman.use_armature()
    assert settings.show_source_bones
    slots = properties.get_bone_slots(source)
    assert [slot.bone for slot in slots] == [""] * 24
    for slot in slots:
        slot.bone = names.get(slot.name, "")
    assert not settings.character.get(BONE_MAP)
    assert bpy.ops.latentman.use_armature() == {"FINISHED"}
    check_follows(settings.character, performances.get_places(puzzling))


def test_a_source_map_is_guessed_saved_and_loaded(settings, walk, tmp_path):
    source = build_armature(walk)
    with pytest.raises(RuntimeError, match="pick an animated armature as Source"):
        bpy.ops.latentman.guess_bones(owner="SOURCE")
    settings.source = source
    assert bpy.ops.latentman.guess_bones(owner="SOURCE") == {"FINISHED"}
    guessed = {slot.name: slot.bone for slot in properties.get_bone_slots(source) if slot.bone}
    assert guessed == walk.joints
    assert bpy.ops.latentman.save_bones(owner="SOURCE", filepath=str(tmp_path / "map.json")) == {"FINISHED"}
    properties.set_bone_map(source, {})
    assert bpy.ops.latentman.load_bones(owner="SOURCE", filepath=str(tmp_path / "map.json")) == {"FINISHED"}
    assert {slot.name: slot.bone for slot in properties.get_bone_slots(source) if slot.bone} == walk.joints


def test_keys_off_whole_frames_keep_their_rate():
    every = np.arange(1.0, 41.0)
    assert (choose_frames(1, 40, every, 24).step, choose_frames(1, 40, every, 24).count) == (1.0, 40)
    # 30 frames per second in a scene of 24
    frames = choose_frames(1, 32.2, 1 + np.arange(40) * 0.8, 24)
    assert frames.step == pytest.approx(0.8) and frames.count == 40 and frames.end == pytest.approx(32.2)
    half = choose_frames(0.5, 9.5, np.arange(0.5, 10), 24)
    assert (half.start, half.step, half.count) == (0.5, 1.0, 10)
    assert choose_frames(1, 40, [1, 3.7, 11.2, 40], 24).step == 1.0
    # keys on twos of the user's own are sampled on ones, those of a file where they are
    twos = np.arange(0, 48, 2)
    assert choose_frames(0, 46, twos, 24).step == 1.0
    assert choose_frames(0, 460, np.arange(0, 480, 4), 120, keep_rate=True).step == pytest.approx(4)
    # once a second is divided
    assert choose_frames(0, 600, np.arange(0, 601, 120), 120, keep_rate=True).step == pytest.approx(5)
    # long motions in single precision
    long = np.float32(np.arange(20000) * (120 / 29.97))
    assert choose_frames(0, float(long[-1]), long, 120, keep_rate=True).count == 20000


def test_scale_mirror_and_shear_are_no_rotation():
    turned = performances.to_matrix(np.array([0.5, 0.5, 0.5, 0.5]))
    assert np.allclose(remove_scale(turned @ np.diag([0.01, 0.01, 0.01])), turned)
    assert np.allclose(remove_scale(turned @ np.diag([3.0, 1, 0.2])), turned)
    mirrored = remove_scale(turned @ np.diag([1.0, 1, -2]))
    assert np.linalg.det(mirrored) == pytest.approx(1) and np.allclose(mirrored @ mirrored.T, np.eye(3))


# ------------------------------------------------------------------ files


def write(kind, folder, clips):
    """A file of a kind; USD has one motion."""
    first = next(iter(clips.values()))
    return {
        "gltf": lambda: performances.write_gltf(folder / "walk.gltf", clips),
        "glb": lambda: performances.write_gltf(folder / "walk.glb", clips, binary=True, centimetres=True),
        "vrm": lambda: performances.write_gltf(folder / "walk.vrm", clips, binary=True),
        "usda": lambda: performances.write_usda(folder / "walk.usda", first),
        "usd": lambda: performances.write_usda(folder / "walk.usd", first, 1.0),
        "fbx": lambda: performances.write_fbx(folder / "walk.fbx", clips),
        "fbx in metres": lambda: performances.write_fbx(folder / "metres.fbx", clips, unit=100.0),
    }[kind]()


@pytest.mark.parametrize("kind", ["gltf", "glb", "vrm", "usda", "usd", "fbx", "fbx in metres"])
def test_a_file_is_imported_and_leaves_nothing(settings, walk, kick, tmp_path, kind):
    path = write(kind, tmp_path, {"walk": walk, "kick": kick})
    # data with names that importers use, too
    bpy.data.objects.new("Armature", bpy.data.armatures.new("Armature"))
    bpy.data.materials.new("Skin").use_fake_user = True
    bpy.data.actions.new("walk").use_fake_user = True
    scene = bpy.context.scene
    scene.render.fps, scene.frame_start, scene.frame_end = 30, 1, 77
    scene.frame_set(5)
    bpy.context.view_layer.objects.active = settings.character
    settings.character.select_set(True)
    bpy.ops.object.mode_set(mode="POSE")
    before = list_state()
    actions = set(bpy.data.actions)
    assert bpy.ops.latentman.import_motion(filepath=str(path)) == {"FINISHED"}
    action = settings.find_action()
    assert set(bpy.data.actions) - actions == {action}
    assert action["latentman_fps"] == 30 and action.frame_range[1] == 12
    check_follows(settings.character, performances.get_places(walk))
    scene.frame_set(5)
    bpy.data.actions.remove(action)
    data, *others = list_state()
    assert others == list(before[1:])
    assert data == before[0]
    if kind not in ("usda", "usd"):
        assert bpy.ops.latentman.import_motion(filepath=str(path), clip=1) == {"FINISHED"}
        check_follows(settings.character, performances.get_places(kick))
        with pytest.raises(RuntimeError, match="has 2 clips, numbered from 0; there is no clip 2"):
            bpy.ops.latentman.import_motion(filepath=str(path), clip=2)


@pytest.mark.parametrize("kind", ["glb", "usda", "fbx"])
def test_an_import_keeps_unkeyed_changes(settings, walk, tmp_path, kind):
    source = build_armature(walk)
    bpy.context.scene.frame_set(3)
    source.pose.bones[walk.names[4]].rotation_quaternion = (0.6, 0.8, 0, 0)
    with scene_files.import_scene_file(bpy.context, write(kind, tmp_path, {"walk": walk})) as imported:
        imported.sample(imported.clips[0])
    bpy.context.view_layer.update()
    assert tuple(round(value, 5) for value in source.pose.bones[walk.names[4]].rotation_quaternion) == (0.6, 0.8, 0, 0)


@pytest.mark.parametrize("kind", ["glb", "usda", "fbx"])
@pytest.mark.parametrize("fps", [24.0, 25.0, 60.0])
def test_a_files_rate_is_its_own(empty_scene, tmp_path, kind, fps):
    performance = performances.make_performance(MIXAMO, frames=10, fps=fps)
    path = write(kind, tmp_path, {"walk": performance})
    with scene_files.import_scene_file(bpy.context, path) as imported:
        motion = imported.sample(imported.clips[0])
        assert imported.sample(imported.clips[0], 12.5).fps == 12.5
    assert motion.fps == fps and motion.frame_count == 10
    # Blender 4.2 takes USD's centimetres for metres; the unit is found by the length of the legs then
    unit = 0.01 if kind == "usda" and bpy.app.version < (4, 5, 0) else 1.0
    assert np.abs(arrange(motion, performance) * unit - performances.to_blender(performances.follow(performance))).max() < 1e-3


def test_a_motion_reaches_a_rig_of_other_units_and_axes(settings, walk, tmp_path):
    rig = rigs.build_rig(rigs.make_joints(0.95, 1.05, 40), rigs.get_bone_names("Unreal"), centimetres=True, extra_root="root")
    settings.character = rig
    bpy.ops.latentman.import_motion(filepath=str(write("fbx", tmp_path, {"walk": walk})))
    check_follows(rig, performances.get_places(walk))


def test_names_that_say_nothing_are_found_by_shape_or_kept_as_source(settings, tmp_path):
    performance = performances.make_performance(UNKNOWN, fps=24.0)
    path = write("glb", tmp_path, {"walk": performance})
    before = list_state()
    quadruped = {joint: bone for joint, bone in UNKNOWN.items() if "shoulder" not in joint and "elbow" not in joint}
    strange = write("fbx", tmp_path, {"walk": performances.make_performance(quadruped)})
    with pytest.raises(RuntimeError, match=r"Keep Armature|map its bones"):
        bpy.ops.latentman.import_motion(filepath=str(strange))
    assert list_state() == before
    try:
        bpy.ops.latentman.import_motion(filepath=str(path), keep_armature=True)
    except RuntimeError as error:
        assert "Source" in str(error)
    source = settings.source
    assert source is not None and source.type == "ARMATURE" and source.name in bpy.context.scene.objects
    # at the scene's rate: 12 frames of 24 per second are as long in a scene of 30
    motion = sample_armature(bpy.context.scene, source)
    assert motion.fps == pytest.approx(24) and motion.frame_count == 12
    assert np.abs(arrange(motion, performance) - performances.to_blender(performances.follow(performance))).max() < 1e-3
    assert [one.type for one in bpy.data.objects if one.name not in {name for name, *_ in before[0]["objects"]}] in (
        ["ARMATURE"],
        ["ARMATURE", "EMPTY"],
        ["EMPTY", "ARMATURE"],
    )
    assert len(bpy.data.scenes) == 1 and not [one for one in bpy.data.materials if one.name == "Skin"]
    properties.set_bone_map(source, performance.joints)
    bpy.context.scene.render.fps = 24
    for curve in get_fcurves(source.animation_data.action):
        for key in curve.keyframe_points:
            key.co.x *= 24 / 30
    assert bpy.ops.latentman.use_armature() == {"FINISHED"}
    check_follows(settings.character, performances.get_places(performance))


def test_with_the_armature_kept_what_helps_is_its_bone_list(settings, tmp_path):
    """Where no person is found nobody is told to switch on what is on, or to import what is there."""
    quadruped = {joint: bone for joint, bone in UNKNOWN.items() if "shoulder" not in joint and "elbow" not in joint}
    strange = performances.make_performance(quadruped)
    for kind in ("fbx", "glb"):
        path = write(kind, tmp_path, {"walk": strange})
        with pytest.raises(RuntimeError, match="Keep Armature on, choose its bones"):
            bpy.ops.latentman.import_motion(filepath=str(path))
        with pytest.raises(RuntimeError, match="list under Source's Bones and press Use beside Source") as told:
            bpy.ops.latentman.import_motion(filepath=str(path), keep_armature=True)
        assert "Keep Armature" not in str(told.value) and settings.source.name in bpy.context.scene.objects
        assert settings.show_source_bones
        for way in (bpy.ops.latentman.use_armature, lambda: bpy.ops.latentman.guess_bones(owner="SOURCE")):
            settings.source.pop(BONE_MAP, None)
            with pytest.raises(RuntimeError, match="list under Source's Bones and press Use beside Source") as told:
                way()
            assert "import it" not in str(told.value)


def test_several_armatures_are_several_clips(settings, walk, kick, tmp_path):
    other = performances.make_performance(MIXAMO, clip=3, frames=9, seed=8)
    first, second = build_armature(walk, "One"), build_armature(other, "Two")
    second.location.x = 3
    bpy.context.scene.render.fps = 30
    for one in bpy.data.objects:
        one.select_set(one in (first, second))
    path = tmp_path / "two.glb"
    bpy.ops.export_scene.gltf(filepath=str(path), use_selection=True, export_anim_single_armature=False)
    bpy.data.objects.remove(first)
    bpy.data.objects.remove(second)
    before = list_state()
    with scene_files.import_scene_file(bpy.context, path) as imported:
        found = {clip.armature.name: imported.sample(clip).frame_count for clip in imported.clips}
    assert list_state() == before
    assert sorted(found.values()) == [9, 12]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.fbx", None, "There is no motion file"),
        ("empty.glb", b"", "is no FBX, glTF or USD file"),
        ("text.fbx", b"hello", "is no FBX, glTF or USD file"),
        ("ascii.usda", b"#usda 1.0\n", "contains no armature|USD importer"),
        ("other.glb", b"#usda 1.0\n", "is USD inside, whatever its name says"),
        ("cut.glb", b"glTF\2\0\0\0\xff\0\0\0\xff\0\0\0JSON", "is damaged or cut off"),
        ("cut.fbx", b"Kaydara FBX Binary  \x00\x1a\x00\xe8\x1c\0\0abc", "is damaged or cut off"),
        ("bad.gltf", b'{"asset": {"version": "2.0"}, "nodes": [{"mesh": 4}], "scenes": [{"nodes": [0]}]}', "importer"),
        ("none.gltf", b'{"asset": {"version": "2.0"}, "scenes": [{"nodes": []}]}', "contains no armature"),
        ("dance.vmd", b"Vocaloid Motion Data 0002", "install it, import the model and its motion"),
    ],
)
def test_what_is_no_motion_file_is_said_and_leaves_nothing(settings, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = list_state()
    with pytest.raises(RuntimeError, match=words) as caught:
        bpy.ops.latentman.import_motion(filepath=str(tmp_path / name))
    assert list_state() == before
    assert len(str(caught.value).removeprefix("Error: ").strip().splitlines()) == 1


def test_a_skeleton_without_a_motion_is_said(settings, walk, tmp_path):
    for path in (
        performances.write_fbx(tmp_path / "still.fbx", {}, walk),
        performances.write_gltf(tmp_path / "still.glb", {}, binary=True, skeleton=walk),
    ):
        before = list_state()
        with pytest.raises(RuntimeError, match="contains a skeleton without a motion"):
            bpy.ops.latentman.import_motion(filepath=str(path))
        assert list_state() == before


def test_headers_name_the_animations(walk, kick, tmp_path):
    clips = {"walk": walk, "kick": kick}
    for kind in ("gltf", "glb", "fbx"):
        assert read_scene_file_header(write(kind, tmp_path, clips)).animations == ("walk", "kick")
    assert operators.motion.describe_motion_file(str(tmp_path / "walk.fbx")) == ["FBX", "0: walk", "1: kick"]
    assert "30 fps" in operators.motion.describe_motion_file(str(write("usda", tmp_path, clips)))


@pytest.mark.parametrize("ending", ["usdc", "usdz", "usda"])
@pytest.mark.parametrize(("fps", "base"), [(25, 1.0), (30, 1.001), (24, 1.0)])
def test_usd_files_in_every_form_name_their_rate(empty_scene, tmp_path, ending, fps, base):
    empty_scene.render.fps, empty_scene.render.fps_base = fps, base
    for _ in range(30):
        empty_scene.collection.objects.link(bpy.data.objects.new("Empty", None))
    path = tmp_path / f"scene.{ending}"
    bpy.ops.wm.usd_export(filepath=str(path), export_animation=True)
    assert read_usd_rate(path.read_bytes()) == pytest.approx(fps / base, rel=1e-6)
    bpy.ops.wm.usd_export(filepath=str(path))
    assert read_usd_rate(path.read_bytes()) == 24


def test_mmd_motions_go_through_mmd_tools_onto_the_source(settings, walk, tmp_path):
    class ImportVmd(bpy.types.Operator):
        """Keys what a .vmd would on the selected armature, as MMD Tools does."""

        bl_idname = "mmd_tools.import_vmd"
        bl_label = "Import VMD"
        filepath: bpy.props.StringProperty()
        update_scene_settings: bpy.props.BoolProperty()

        def execute(self, context):
            (chosen,) = context.selected_objects
            keyed = bpy.data.actions["Source"]
            assign_action(chosen, keyed, next(iter(get_action_slots(keyed)), None))
            return {"FINISHED"}

    ImportVmd.__annotations__ = {"filepath": bpy.props.StringProperty(), "update_scene_settings": bpy.props.BoolProperty()}
    path = tmp_path / "dance.vmd"
    path.write_bytes(b"Vocaloid Motion Data 0002")
    bpy.utils.register_class(ImportVmd)
    try:
        with pytest.raises(RuntimeError, match="import an MMD model"):
            bpy.ops.latentman.import_motion(filepath=str(path))
        source = build_armature(walk)
        action = source.animation_data.action
        action.name, action.use_fake_user = "Source", True
        source.animation_data_clear()
        settings.source = source
        before = list_state()
        assert bpy.ops.latentman.import_motion(filepath=str(path)) == {"FINISHED"}
        check_follows(settings.character, performances.get_places(walk))
        bpy.data.actions.remove(settings.find_action())
        bpy.context.scene.frame_set(before[3][4])
        assert list_state() == before
    finally:
        bpy.utils.unregister_class(ImportVmd)


def test_dropped_files_are_offered_beside_blenders_own_importers(empty_scene):
    handled = operators.dropping.SceneFileHandler.bl_file_extensions.split(";")
    assert {".fbx", ".glb", ".gltf", ".usd", ".usda", ".usdc", ".usdz", ".vrm", ".vmd"} <= set(handled)
    # without a character in the scene, Blender's own importers are alone
    assert not operators.dropping.SceneFileHandler.poll_drop(bpy.context)


def test_damaged_scene_files_are_a_value_or_one_sentence(empty_scene, walk, tmp_path):
    samples, folder, sizes = tmp_path / "samples", tmp_path / "damaged", {}
    samples.mkdir()
    folder.mkdir()
    for n in range(30):
        empty_scene.collection.objects.link(bpy.data.objects.new(f"Empty {n}", None))
    for ending in ("usdc", "usdz"):
        bpy.ops.wm.usd_export(filepath=str(samples / f"a.{ending}"), export_animation=True)
    performances.write_gltf(samples / "b.glb", {"walk": walk}, binary=True)
    performances.write_usda(samples / "c.usda", walk)
    performances.write_fbx(samples / "d.fbx", {"walk": walk})
    rng = np.random.default_rng(5)
    for sample in sorted(samples.iterdir()):
        content = sample.read_bytes()
        for n in range(16):
            name = f"{n:02d}_{sample.name}"
            (folder / name).write_bytes(content if n == 0 else hostile.mutate(rng, content))
            sizes[name] = (folder / name).stat().st_size
    outcomes = reading.read_all("scene", folder)
    for outcome in outcomes:
        reading.check(outcome, sizes[outcome.name])
    assert len(outcomes) == len(sizes)
    assert all(outcome.kind == "value" for outcome in outcomes if outcome.name.startswith("00_"))
    assert sum(outcome.kind == "sentence" for outcome in outcomes) > len(outcomes) / 5
