"""The part of the window test that installs the asset library and drags out of it."""

from __future__ import annotations

import sys
from typing import Any

import bpy
from mathutils import Vector

from tools.window_actions import KEY, Steps, click, get_window_and_view, take_screenshot, wait_seconds, wait_until

#: pixels from the left and the top of an Asset Browser, or of a shelf, to the middle of its first tile
FIRST_TILE, FIRST_IN_SHELF, SHELF_STEP = (56, 55), (40, 38), 77


def get_module(name: str) -> Any:
    """A module of the installed extension's add-on."""
    return sys.modules[f"{KEY}.blender_addon.{name}"]


def find_region(area: Any, kind: str) -> Any:
    """The region of a kind in an area."""
    return next(region for region in area.regions if region.type == kind)


def get_armature(name: str) -> Any:
    """An armature by its name."""
    return bpy.data.objects[name]


def read_head(armature: Any, bone: str) -> Any:
    """Where a bone is in the armature's space as it is posed."""
    posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return posed.pose.bones[bone].head.copy()


def drag(begin: tuple[int, int], end: tuple[int, int], picture: str = "16-dragging") -> Steps:
    """A real drag with the left mouse button, at window coordinates, with a screenshot before it ends."""
    window = get_window_and_view()[0]
    window.event_simulate("MOUSEMOVE", "NOTHING", x=begin[0], y=begin[1])
    yield from wait_seconds(0.3)
    window.event_simulate("LEFTMOUSE", "PRESS", x=begin[0], y=begin[1])
    yield from wait_seconds(0.3)
    # a drag begins with small steps, and what is below takes notice of it while it goes on
    for part in (0.01, 0.03, 0.06, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0, 1.0):
        x, y = (round(a + (b - a) * part) for a, b in zip(begin, end, strict=True))
        window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)
        yield from wait_seconds(0.3)
    yield from take_screenshot(picture)
    window.event_simulate("MOUSEMOVE", "NOTHING", x=end[0], y=end[1])
    window.event_simulate("LEFTMOUSE", "RELEASE", x=end[0], y=end[1])
    yield from wait_seconds(2)


def press_at(x: int, y: int) -> Steps:
    """A real click, slow enough for what is under the mouse to notice it."""
    window = get_window_and_view()[0]
    window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)
    yield from wait_seconds(0.5)
    window.event_simulate("LEFTMOUSE", "PRESS", x=x, y=y)
    yield from wait_seconds(0.3)
    window.event_simulate("LEFTMOUSE", "RELEASE", x=x, y=y)
    yield from wait_seconds(1.5)


def use_assets() -> Steps:
    """Install the library, drag the mannequin into the viewport, have it move by a clip, and apply a pose of its own."""
    build = get_module("assets.building").build
    click("latentman.install_assets")
    yield from wait_until(lambda: not build.busy, "the asset library")
    assert not build.has_failed, build.sentence
    window, view, _ = get_window_and_view()
    area = max((a for a in window.screen.areas if a.type != "VIEW_3D"), key=lambda a: a.width * a.height)
    before = area.ui_type
    area.ui_type = "ASSETS"
    yield from wait_seconds(2)
    space: Any = area.spaces.active
    # Blender 5 opens the tree of catalogues, which leaves no room for tiles in a narrow area
    space.show_region_toolbar = False
    space.params.asset_library_reference = "LatentMan"
    yield from wait_seconds(3)
    yield from take_screenshot("16-assets")
    space.params.filter_search = "Mannequin"
    yield from wait_seconds(2)
    browser, viewport = find_region(area, "WINDOW"), find_region(view, "WINDOW")
    tile = (browser.x + FIRST_TILE[0], browser.y + browser.height - FIRST_TILE[1])
    # between the toolbar and the sidebar, however narrow the viewport is
    yield from drag(tile, ((viewport.x + find_region(view, "UI").x) // 2, viewport.y + 350))
    dragged = get_armature("Mannequin Rig")
    assert (dragged.matrix_world.to_3x3() @ Vector((0, 1, 0))).z > 0.99, "it stands upright"
    bodies = get_module("rigging.characters").find_character_meshes(dragged)
    assert len(bodies) == 1 and "latentman_body" not in dragged and dragged.data.users == 1 and bodies[0].data.users == 1
    assert dragged.asset_data is None and dragged.library is None
    yield from take_screenshot("16-dragged")
    scene: Any = bpy.context.scene
    scene.latentman.character = dragged
    view_space: Any = view.spaces.active
    view_space.show_region_asset_shelf = True
    yield from wait_seconds(3)
    shelf = find_region(view, "ASSET_SHELF")
    first = (shelf.x + FIRST_IN_SHELF[0], shelf.y + shelf.height - FIRST_IN_SHELF[1])
    yield from press_at(first[0] + 4 * SHELF_STEP, first[1])
    action = dragged.animation_data.action if dragged.animation_data else None
    assert action is not None and action.name == "a person walks forward", action
    scene.frame_set(1)
    start = read_head(dragged, "pelvis")
    scene.frame_set(40)
    assert (read_head(dragged, "pelvis") - start).length > 0.5
    yield from take_screenshot("16-clip")
    click("latentman.mark_take")
    click("latentman.mark_pose", name="0 pose")
    wanted = read_head(dragged, "left_wrist") - read_head(dragged, "pelvis")
    yield from apply_pose(area, wanted)
    area.ui_type = before


def apply_pose(area: Any, wanted: Any) -> Steps:
    """Apply the pose that was marked to the other mannequin by a click into Blender's own shelf, and by its operator, flipped."""
    window, view, _ = get_window_and_view()
    other = get_armature("Mannequin")
    layer: Any = bpy.context.view_layer
    for found in layer.objects:
        found.select_set(found == other)
    layer.objects.active = other
    with bpy.context.temp_override(window=window, area=view, region=find_region(view, "WINDOW")):
        bpy.ops.object.mode_set(mode="POSE")
    yield from wait_seconds(1)
    # Blender has another shelf in this mode
    view_space: Any = view.spaces.active
    view_space.show_region_asset_shelf = True
    yield from wait_seconds(3)
    shelf = find_region(view, "ASSET_SHELF")
    yield from take_screenshot("16-poses")
    yield from press_at(shelf.x + FIRST_IN_SHELF[0], shelf.y + shelf.height - FIRST_IN_SHELF[1])
    found = read_head(other, "left_wrist") - read_head(other, "pelvis")
    assert (found - wanted).length < 1e-3, (found, wanted)
    yield from take_screenshot("16-posed")
    space: Any = area.spaces.active
    space.params.asset_library_reference, space.params.filter_search = "LOCAL", "0 pose"
    yield from wait_seconds(3)
    browser = find_region(area, "WINDOW")
    yield from press_at(browser.x + FIRST_TILE[0], browser.y + browser.height - FIRST_TILE[1])
    operators: Any = bpy.ops
    with bpy.context.temp_override(window=window, area=area, region=browser, object=other, active_object=other):
        assert operators.poselib.apply_pose_asset.poll()
        operators.poselib.apply_pose_asset(flipped=True)
    found = read_head(other, "right_wrist") - read_head(other, "pelvis")
    assert abs(found.x + wanted.x) < 0.03 and abs(found.z - wanted.z) < 0.03, (found, wanted)
    yield from take_screenshot("16-flipped")
    with bpy.context.temp_override(window=window, area=view, region=find_region(view, "WINDOW")):
        bpy.ops.object.mode_set(mode="OBJECT")
