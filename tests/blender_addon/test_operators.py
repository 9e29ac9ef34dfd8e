"""The buttons, from Python: motions in, bones, feet, editing, and the files that Blender imports itself."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
import pytest

from latentman.blender_addon import operators, properties
from latentman.blender_addon.compat import get_fcurves
from latentman.blender_addon.motion import bvh
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.readers import BUNDLED, ReadOptions, read
from latentman.blender_addon.motion.rotations import forward_kinematics
from latentman.blender_addon.operators.motion import describe_motion_file, inspect_motion_file
from latentman.blender_addon.rigging.keyframes import apply_motion, pose_motion
from latentman.blender_addon.rigging.rigs import BONE_MAP, read_rig
from latentman.shared.motion import MotionError
from latentman.shared.skeleton import SMPL_PARENTS
from tools import rigs

pytestmark = pytest.mark.usefixtures("registered_operators")


@pytest.fixture
def settings(character):
    """The scene's settings with the mannequin as the character."""
    settings = properties.get_settings(bpy.context)
    settings.character = character
    return settings


def test_every_operator_has_a_tooltip():
    for cls in operators.CLASSES:
        if issubclass(cls, bpy.types.Operator):
            name = cls.bl_idname.split(".")[1]
            description = getattr(bpy.ops.latentman, name).get_rna_type().description
            assert description == cls.bl_description and not description.endswith(".") and "\n" not in description


@pytest.mark.parametrize(
    ("name", "character_type", "reason"),
    [
        ("stop_backend", None, "No backend is running"),
        ("cancel", None, "Nothing is being generated"),
        ("generate", "ARMATURE", "The backend is not running; press Start above"),
        ("make_motion", "ARMATURE", "The backend is not running; press Start above"),
        ("frame_character", None, "Pick a character first"),
        ("use_clip", None, "Pick an armature as the character first"),
        ("guess_bones", "MESH", "Pick an armature as the character first"),
        ("smooth_motion", "MESH", "Pick an armature as the character first"),
        ("smooth_motion", "ARMATURE", "The character has no Action; make or import a motion first"),
        ("step_take", "ARMATURE", "There is no motion yet"),
        ("fit_skeleton", "ARMATURE", "Only bodies of the SMPL family"),
        ("to_sequencer", "ARMATURE", "Generate a shot first"),
        ("as_material", "ARMATURE", "Generate a shot of one character first"),
        ("new_look", "ARMATURE", "The character keeps no look"),
    ],
)
def test_a_grey_button_says_why(empty_scene, name, character_type, reason):
    data = {"ARMATURE": bpy.data.armatures, "MESH": bpy.data.meshes}
    if character_type:
        character = bpy.data.objects.new("Character", data[character_type].new("Character"))
        empty_scene.collection.objects.link(character)
        properties.get_settings(bpy.context).character = character
    with pytest.raises(RuntimeError, match=reason):
        getattr(bpy.ops.latentman, name)()


def _write_bvh(path, armature, action, unit):
    """A BVH file of an armature's Action, by Blender's exporter, in other units."""
    bpy.context.view_layer.objects.active = armature
    start, end = (int(x) for x in action.frame_range)
    bpy.ops.export_anim.bvh(
        filepath=str(path), frame_start=start, frame_end=end, global_scale=1 / unit, rotate_mode="NATIVE", root_transform_only=True
    )


@pytest.mark.parametrize("unit", [1.0, 0.01])
def test_a_bvh_of_blenders_exporter_comes_back(empty_scene, tmp_path, unit):
    armature = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("Mixamo"))
    motion = read(BUNDLED).get_motion(4)
    action = apply_motion(armature, motion, 1, 20.0)
    _write_bvh(tmp_path / "dance.bvh", armature, action, unit)
    before = [set(data) for data in (bpy.data.objects, bpy.data.actions, bpy.data.armatures)]
    found = bvh.read_body(tmp_path / "dance.bvh").motion
    assert [set(data) for data in (bpy.data.objects, bpy.data.actions, bpy.data.armatures)] == before
    assert found.fps == 20 and abs(found.frame_count - motion.frame_count) <= 1 and found.text == "dance"
    posed, _ = pose_motion(read_rig(armature), motion, KeyOptions())
    joints = forward_kinematics(posed.local_rotations, read_rig(armature).joints, posed.pelvis, SMPL_PARENTS)[:, :22]
    joints -= joints[:1, :1] * [1, 0, 1]
    limbs = [n for n in range(22) if n not in (3, 6, 9, 12, 13, 14, 15)]
    apart = found.joints[:70] - joints[:70]
    assert np.abs(apart[:, limbs] - apart[:1, :1] * [0, 1, 0]).max() < 0.02


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HIERARCHY\nROOT a\n{\n",
        "HIERARCHY\nROOT a\n{ OFFSET 0 0 0\nCHANNELS 3 Xrotation Yrotation "
        "Zrotation\nEnd Site\n{ OFFSET 0 1 0 }\n}\nMOTION\nFrames: 2\nFrame Time: 0.05\n0 0 0\n0 0 0\n",
        "HIERARCHY\nMOTION\nFrames: 99999999\nFrame Time: 0.05\n",
        "HIERARCHY\nFrames: 1\nFrame Time: 0",
    ],
)
def test_a_bad_bvh_is_one_sentence_and_leaves_nothing(empty_scene, tmp_path, text):
    path = tmp_path / "bad.bvh"
    path.write_text(text)
    with pytest.raises(MotionError) as caught:
        bvh.read_body(path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value) and not bpy.data.objects


def test_importing_says_what_is_inside_and_keys_it(settings, character, tmp_path):
    assert describe_motion_file(str(BUNDLED))[1] == "0: a person walks forward · 80 frames at 20 fps"
    settings.keying.rotation, settings.keying.foot_lock = "EULER", "hard"
    assert bpy.ops.latentman.import_motion(filepath=str(BUNDLED), clip=1) == {"FINISHED"}
    action = character.animation_data.action
    assert action["latentman_text"] == "a person runs forward" and any("euler" in c.data_path for c in get_fcurves(action))
    (tmp_path / "bad.npy").write_bytes(b"no")
    with pytest.raises(RuntimeError, match=r"bad\.npy cannot be read"):
        bpy.ops.latentman.import_motion(filepath=str(tmp_path / "bad.npy"))
    assert character.animation_data.action == action
    assert "cannot be read" in describe_motion_file(str(tmp_path / "bad.npy"))[0]


def test_what_is_guessed_of_a_file_is_reported_and_can_be_chosen(settings, character, tmp_path, play, capfd):
    from tests import motion_sources

    path = str(motion_sources.write_beat2(tmp_path, play).path)
    lines, choices = inspect_motion_file(path)
    assert any(line.startswith("Y up, as its numbers show") for line in lines) and choices == {"up_axis"}
    assert bpy.ops.latentman.import_motion(filepath=path) == {"FINISHED"}
    assert "Y up, as its numbers show" in "".join(capfd.readouterr())
    heights = []
    for axis in ("Y", "Z"):
        assert bpy.ops.latentman.import_motion(filepath=path, up_axis=axis) == {"FINISHED"}
        bpy.context.scene.frame_set(1)
        posed = character.evaluated_get(bpy.context.evaluated_depsgraph_get())
        heads = [posed.matrix_world @ posed.pose.bones[name].head for name in ("head", "left_foot")]
        heights.append(heads[0].z - heads[1].z)
    assert heights[0] > 1.3 > 0.5 > heights[1]
    six = str(motion_sources.write_135(tmp_path, play, "ROWS").path)
    assert inspect_motion_file(six)[1] == {"up_axis", "layout"}
    with pytest.raises(RuntimeError, match="choose another layout"):
        bpy.ops.latentman.import_motion(filepath=six, layout="WXYZ")
    # the choice that does not fit stays in sight
    assert inspect_motion_file(six, ReadOptions(layout="WXYZ"))[1] == {"layout"}


def test_every_edit_makes_a_new_action_and_keeps_the_text(settings, character):
    settings.clip = "0"
    bpy.ops.latentman.use_clip()
    source = character.animation_data.action
    other = read(BUNDLED).get_motion(3)
    wave = apply_motion(character, other, 1, 20.0)
    character.animation_data.action = source
    if hasattr(character.animation_data, "action_slot"):
        character.animation_data.action_slot = source.slots[0]
    for call in (
        lambda: bpy.ops.latentman.smooth_motion(frames=2.0),
        lambda: bpy.ops.latentman.loop_motion(blend=10),
        lambda: bpy.ops.latentman.trim_motion(first=10, last=60),
        lambda: bpy.ops.latentman.lock_feet(mode="soft"),
        lambda: bpy.ops.latentman.join_motions(other=wave.name, overlap=8),
        lambda: bpy.ops.latentman.reduce_keys(tolerance=10.0),
        bpy.ops.latentman.add_ik,
        bpy.ops.latentman.remove_ik,
    ):
        before = character.animation_data.action
        assert call() == {"FINISHED"}
        after = character.animation_data.action
        assert after != before and before.name in bpy.data.actions and len(get_fcurves(after)) >= 99
    with pytest.raises(RuntimeError, match="no Action 'absent'"):
        bpy.ops.latentman.join_motions(other="absent")
    assert len(bpy.data.actions) >= 10


def test_foot_contacts_are_listed_and_edited(settings, character):
    bpy.ops.latentman.use_clip()
    assert bpy.ops.latentman.find_plants() == {"FINISHED"}
    count = len(settings.plants)
    assert count >= 4 and settings.plants[0].end > settings.plants[0].start
    bpy.ops.latentman.edit_plants(change="ADD")
    bpy.ops.latentman.edit_plants(change="0")
    assert len(settings.plants) == count
    with pytest.raises(RuntimeError, match="no foot contact 99"):
        bpy.ops.latentman.edit_plants(change="99")
    assert bpy.ops.latentman.lock_feet(mode="hard") == {"FINISHED"}


def test_bones_are_guessed_changed_saved_and_loaded(empty_scene, tmp_path, capfd):
    armature = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("Unreal"))
    properties.get_settings(bpy.context).character = armature
    assert bpy.ops.latentman.guess_bones() == {"FINISHED"}
    slots = {slot.name: slot for slot in armature.latentman_bones}
    assert slots["left_hip"].bone == "thigh_l" and slots["left_hand"].bone == ""
    path = str(tmp_path / "map.json")
    assert bpy.ops.latentman.save_bones(filepath=path) == {"FINISHED"}
    slots["left_hip"].bone = "thigh_r"
    assert '"left_hip": "thigh_r"' in armature[BONE_MAP]
    with pytest.raises(RuntimeError, match="two joints"):
        bpy.ops.latentman.use_clip()
    assert bpy.ops.latentman.load_bones(filepath=path) == {"FINISHED"}
    assert bpy.ops.latentman.use_clip() == {"FINISHED"}
    bones = json.loads(Path(path).read_text())["bones"]
    for strangers, said in (
        (["thumb"], "1 line names no joint and is left out: 'thumb'; check"),
        (
            ["Hips", "left knee", "a" * 90, "tail"],
            f"4 lines name no joint and are left out: 'Hips', 'left knee', '{'a' * 40}', ...; check",
        ),
    ):
        (tmp_path / "more.json").write_text(json.dumps({"bones": bones | dict.fromkeys(strangers, "thigh_l")}))
        capfd.readouterr()
        assert bpy.ops.latentman.load_bones(filepath=str(tmp_path / "more.json")) == {"FINISHED"}
        assert said in capfd.readouterr().out
    (tmp_path / "bad.json").write_text('{"bones": {"pelvis": "wing"}}')
    with pytest.raises(RuntimeError, match=r"bad\.json"):
        bpy.ops.latentman.load_bones(filepath=str(tmp_path / "bad.json"))


def test_height_and_shape_move_the_skeleton(settings, character):
    rig = read_rig(character)
    body = next(o for o in bpy.data.objects if o.parent == character)
    body.data.shape_keys.key_blocks["Shape000"].value = 2.0
    assert bpy.ops.latentman.fit_skeleton() == {"FINISHED"}
    taller = read_rig(character)
    assert taller.joints[15, 1] > rig.joints[15, 1] * 1.02 and abs(character.location.z + taller.ground) < 1e-5
    assert bpy.ops.latentman.set_height(height=1.2) == {"FINISHED"}
    small = read_rig(character)
    assert small.joints[15, 1] == pytest.approx(1.2 * 0.9, abs=0.02) and abs(character.location.z + small.ground) < 1e-5
    bpy.ops.latentman.use_clip()
    bpy.context.scene.frame_set(20)
    posed = character.evaluated_get(bpy.context.evaluated_depsgraph_get())
    toe = posed.matrix_world @ posed.pose.bones["left_foot"].head
    assert -0.02 < toe.z < 0.15
