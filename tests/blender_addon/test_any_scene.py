"""Passes of scenes as people have them, against an oracle that knows only Blender's own evaluation of the scene, and the whole file
before and after."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from tests.blender_addon.any_scene import (
    Case,
    add_box,
    add_camera,
    add_character,
    check_case,
)


@pytest.fixture
def scene():
    """An empty scene with a camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found = bpy.context.scene
    found.frame_end = 20
    found.camera = add_camera()
    return found


def test_plain(scene):
    rig, body = add_character()
    check_case(Case(rig, {"Ann Body": 1}))


def test_keyed_prop(scene):
    rig, body = add_character()
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
