"""What is said of a character that is turned or tilted in the scene, and of a last frame between two of the scene's."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest

from latentman.blender_addon import properties
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.rigging.action_notes import read_notes
from latentman.blender_addon.rigging.keyframes import apply_motion
from tools import rigs

pytestmark = pytest.mark.usefixtures("registered_operators")


@pytest.fixture(scope="module")
def walk():
    return read(BUNDLED).get_motion(0).crop(0, 8)


def _add_parent(armature, rotation, name="Ramp"):
    parent = bpy.data.objects.new(name, None)
    bpy.context.scene.collection.objects.link(parent)
    parent.rotation_euler, armature.parent = rotation, parent
    return parent


def _read(armature, motion):
    notes, warnings = read_notes(apply_motion(armature, motion, 1, 20.0))
    return " ".join(notes), " ".join(warnings)


@pytest.mark.parametrize(("centimetres", "y_up"), [(False, False), (True, True), (False, True)])
def test_what_stands_as_the_motion_does_needs_no_word(empty_scene, walk, centimetres, y_up):
    armature = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("Mixamo"), centimetres, y_up)
    assert _read(armature, walk) == ("", "")
    _add_parent(armature, (0, 0, 0))
    armature.location = (3, 2, 1)
    assert _read(armature, walk) == ("", "")


@pytest.mark.parametrize("y_up", [False, True])
@pytest.mark.parametrize("angle", [-120, 40, 180])
def test_a_turned_object_is_a_note(empty_scene, walk, y_up, angle):
    armature = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("Mixamo"), True, y_up)
    _add_parent(armature, (0, 0, math.radians(angle)))
    notes, warnings = _read(armature, walk)
    assert f"{armature.name} is turned by {angle} degrees" in notes.replace("-180", "180")
    assert not warnings
    # it does go that way
    heads = rigs.read_mapped_heads(armature, (1, 8))["pelvis"]
    gone, own = heads[1] - heads[0], walk.joints[-1, 0] - walk.joints[0, 0]
    apart = math.atan2(gone[1], gone[0]) - math.atan2(-own[2], own[0])
    assert math.degrees(math.remainder(apart - math.radians(angle), math.tau)) == pytest.approx(0, abs=1)


@pytest.mark.parametrize("by", ["itself", "parent", "grandparent"])
def test_a_tilted_object_is_a_warning(empty_scene, walk, by):
    armature = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("Mixamo"))
    tilt = (math.radians(-57), 0, 0)
    if by == "itself":
        armature.rotation_euler = tilt
    elif by == "parent":
        _add_parent(armature, tilt)
    else:
        _add_parent(_add_parent(armature, (0, 0, 0), "Holder"), tilt)
    notes, warnings = _read(armature, walk)
    assert f"{armature.name} is tilted by 57 degrees" in warnings and "(Alt R)" in warnings
    assert ("Ramp" in warnings) == (by != "itself") and "Holder" not in warnings
    assert not notes
    heads = rigs.read_mapped_heads(armature, (1,))
    trunk = (heads["neck"] - (heads["left_hip"] + heads["right_hip"]) / 2)[0]
    assert math.degrees(math.acos(trunk[2] / np.linalg.norm(trunk))) == pytest.approx(57, abs=12)


def test_the_operator_says_it(character, walk):
    settings = properties.get_settings(bpy.context)
    settings.character = character
    character.rotation_euler.x += 0.5
    bpy.ops.latentman.use_clip()
    assert "tilted by 29 degrees" in read_notes(settings.find_action())[1][0]


@pytest.mark.parametrize(
    ("rate", "base", "count", "said"),
    [
        (24, 1.0, 12, "left out"),
        (24, 1.001, 20, "held"),
        (24, 1.0, 21, ""),
        (30, 1.0, 21, ""),
        (25, 1.0, 15, "held"),
        (60, 1.0, 21, ""),
    ],
)
def test_a_last_frame_between_two_is_said(empty_scene, character, rate, base, count, said):
    long = read(BUNDLED).get_motion(0).resample(60.0).crop(0, count)
    notes, _ = read_notes(apply_motion(character, long, 1, rate / base))
    assert bool(notes) == bool(said) and (not said or said in notes[0])
