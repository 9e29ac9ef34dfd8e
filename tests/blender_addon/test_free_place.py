"""Where a new character stands: near the 3D cursor, free of what is there; compared with a search of every place."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from mathutils import Vector

from latentman.blender_addon import properties
from latentman.blender_addon.free_place import GAP, MOST, STEP, Obstacle, explain_place, find_free_place
from latentman.blender_addon.rigging.characters import fit_skeleton

#: a body of a mannequin's size in its T-pose, its feet at the origin
LOW, HIGH = (-0.85, -0.15, 0.0), (0.85, 0.15, 1.8)
CUBE = Obstacle("Cube", (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def _box(name, centre, size):
    return Obstacle(
        name,
        tuple(c - s / 2 for c, s in zip(centre, size, strict=True)),
        tuple(c + s / 2 for c, s in zip(centre, size, strict=True)),
    )


@pytest.mark.parametrize(
    ("obstacles", "shift", "avoided", "within"),
    [
        ([], (0, 0), (), ()),
        # the default cube: straight forward, towards the front view
        ([CUBE], (0, -(1 + 0.15 + GAP)), ("Cube",), ()),
        # the ground, a rug on it, a lamp above, something far away
        ([_box("Ground", (0, 0, -0.01), (20, 20, 0.02))], (0, 0), (), ()),
        ([_box("Rug", (0, 0, 0.02), (2, 2, 0.05))], (0, 0), (), ()),
        ([_box("Lamp", (0, 0, 2.5), (1, 1, 0.5))], (0, 0), (), ()),
        ([_box("Tree", (5, 5, 2), (1, 1, 4))], (0, 0), (), ()),
        # a step that is higher than one steps
        ([_box("Box", (0, 0, 0.1), (0.4, 0.4, STEP + 0.2))], (0, -(0.2 + 0.15 + GAP)), ("Box",), ()),
        # a table behind, which only touches
        ([_box("Table", (0, 0.5, 0.4), (2, 0.6, 0.8))], (0, -(0.1 + 0.15 - 0.2 - 0.15 + 0.0) - 0.05 + 0.0), ("Table",), ()),
        # a room and a landscape surround
        ([_box("Room", (0, 0, 1.4), (6, 5, 3))], (0, 0), (), ("Room",)),
        ([_box("Hills", (10, 10, 0), (100, 100, 10))], (0, 0), (), ("Hills",)),
        # in the room there is a cube: out of the cube, not out of the room
        ([_box("Room", (0, 0, 1.4), (8, 8, 3)), CUBE], (0, -(1.15 + GAP)), ("Cube",), ("Room",)),
        # a house beside, into which only an arm reaches
        ([_box("House", (6.6, 0, 3), (12, 12, 6))], (-(0.85 + GAP - 0.6), 0), ("House",), ()),
        # the way forward is taken as well
        ([CUBE, _box("Front", (0, -1.6, 1), (3, 1, 2))], (0, 1.15 + GAP), ("Cube",), ()),
    ],
)
def test_the_nearest_free_place(obstacles, shift, avoided, within):
    found = find_free_place(LOW, HIGH, obstacles)
    if obstacles and obstacles[0].name == "Table":
        # its near side is at 0.2: 0.15 + the gap fit before it with 0.05 to move
        shift = (0, -(0.15 + GAP - 0.2))
    assert found.shift == pytest.approx(shift, abs=1e-6)
    assert (set(found.avoided) >= set(avoided)) and found.within == within
    assert bool(explain_place(found)) == bool(avoided or within)


def test_a_crowded_place_is_left_as_it_is_and_said():
    crowd = [_box(f"Crate {x} {y}", (x, y, 1), (1, 1, 2)) for x in range(-12, 13) for y in range(-12, 13)]
    found = find_free_place(LOW, HIGH, crowd)
    assert found.shift == (0.0, 0.0) and "Crate 0 0" in found.within and "stands within the bounds of" in explain_place(found)


@pytest.mark.parametrize("seed", range(12))
def test_no_place_is_nearer(seed):
    """Against a search of a fine grid of all places."""
    rng = np.random.default_rng(seed)
    obstacles = [
        _box(f"{n}", (*rng.uniform(-2, 2, 2), 0.9), (*rng.uniform(0.2, 1.6, 2), rng.uniform(1, 3)))
        for n in range(rng.integers(1, 7))
    ]
    found = find_free_place(LOW, HIGH, obstacles)

    def is_free(x: float, y: float, gap: float) -> bool:
        return not any(
            one.low[0] - gap < HIGH[0] + x
            and one.high[0] + gap > LOW[0] + x
            and one.low[1] - gap < HIGH[1] + y
            and one.high[1] + gap > LOW[1] + y
            for one in obstacles
        )

    assert is_free(*found.shift, GAP - 1e-4) and found.distance < MOST and not found.within
    grid = np.linspace(-found.distance, found.distance, 61)
    nearer = [(x, y) for x in grid for y in grid if np.hypot(x, y) < found.distance - 1e-3]
    assert not any(is_free(x, y, GAP) for x, y in nearer)


# -- in Blender


@pytest.fixture
def cube_scene(empty_scene):
    """What a new file has: a cube at the origin."""
    bpy.ops.mesh.primitive_cube_add(size=2)
    return empty_scene


def _get_world_box(found):
    graph = bpy.context.evaluated_depsgraph_get()
    one = found.evaluated_get(graph)
    corners = np.array([one.matrix_world @ Vector(corner) for corner in one.bound_box])
    return corners.min(0), corners.max(0)


def _add(monkeypatch=None):
    assert bpy.ops.latentman.add_mannequin() == {"FINISHED"}
    armature = properties.get_settings(bpy.context).character
    return armature, _get_world_box(next(one for one in bpy.data.objects if one.parent == armature))


@pytest.mark.usefixtures("registered_operators")
@pytest.mark.parametrize("unit", [1.0, 0.01])
@pytest.mark.parametrize("cursor", [(0, 0, 0), (3.0, -2.0, 0.5)])
def test_the_mannequin_stands_at_the_cursor_beside_the_cube(cube_scene, unit, cursor, capfd):
    cube_scene.unit_settings.scale_length = unit
    cube = bpy.data.objects["Cube"]
    cube.scale = (1 / unit,) * 3
    cube_scene.cursor.location = Vector(cursor) / unit
    armature, (low, high) = _add()
    low, high = low * unit, high * unit
    assert low[2] == pytest.approx(cursor[2], abs=2e-3) and high[2] - low[2] == pytest.approx(1.79, abs=0.02)
    middle = (low + high)[:2] / 2
    if cursor == (0, 0, 0):
        assert high[1] < -1.0 and abs(middle[0]) < 0.01
        assert "free of 'Cube'" in capfd.readouterr().out
    else:
        assert np.abs(middle - cursor[:2]).max() < 0.1 and "stands" not in capfd.readouterr().out
    # its bones follow its shape, and its soles stay where they are
    body = next(one for one in bpy.data.objects if one.parent == armature)
    body.data.shape_keys.key_blocks["Shape002"].value = 3.0
    bpy.context.view_layer.update()
    fit_skeleton(bpy.context, armature)
    bpy.context.view_layer.update()
    assert _get_world_box(body)[0][2] * unit == pytest.approx(cursor[2], abs=2e-3)


@pytest.mark.usefixtures("registered_operators")
@pytest.mark.parametrize("how", ["hide", "hide_render", "wire", "other layer"])
def test_helpers_and_what_is_hidden_are_in_nobodys_way(cube_scene, how):
    cube = bpy.data.objects["Cube"]
    if how == "hide":
        cube.hide_set(True)
    elif how == "hide_render":
        cube.hide_render = True
    elif how == "wire":
        cube.display_type = "WIRE"
    else:
        other = bpy.data.collections.new("Other")
        cube_scene.collection.children.link(other)
        other.objects.link(cube)
        cube_scene.collection.objects.unlink(cube)
        bpy.context.view_layer.layer_collection.children["Other"].exclude = True
    armature, _ = _add()
    assert armature.location.xy.length < 1e-6


@pytest.mark.usefixtures("registered_operators")
def test_a_second_mannequin_stands_beside_the_first(empty_scene):
    first, a = _add()
    second, b = _add()
    assert first != second and ((a[1] <= b[0]) | (b[1] <= a[0])).any() and second.location.xy.length < 2.0
