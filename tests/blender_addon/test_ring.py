"""Views from all sides: what they show, and that the scene is as before."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.blender_addon.passes import ring
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.passes.staged_character import stage_character
from latentman.shared.shot import ShotError


def _ball(radius=1.0, count=24):
    theta, phi = np.linspace(0, np.pi, count + 1), np.linspace(0, 2 * np.pi, 2 * count + 1)
    points = radius * np.stack(
        [np.sin(theta)[:, None] * np.cos(phi), np.sin(theta)[:, None] * np.sin(phi), np.cos(theta)[:, None] + 0 * phi], -1
    )
    a, b, c, d = points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]
    return np.concatenate([np.stack([a, b, c], 2).reshape(-1, 3, 3), np.stack([a, c, d], 2).reshape(-1, 3, 3)])


@pytest.mark.parametrize("aspect", [1.0, 0.5, 1.7])
def test_every_view_holds_all_of_it(aspect):
    triangles = _ball() * [1.0, 0.4, 2.0] + [3.0, -2.0, 1.0]
    planned = ring.plan_ring(triangles, np.array([0.0, -1.0, 0.0]), {}, aspect)
    assert planned.seen > 0.98
    assert len(planned.viewpoints) <= ring.TURNS + ring.MOST_MORE
    assert planned.keyframes[0] == 0 and len(planned.keyframes) == len(set(planned.keyframes))
    height = 128
    for viewpoint in planned.viewpoints:
        view = viewpoint.make_view(round(height * aspect), height)
        pixels = view.project(triangles.reshape(-1, 3))
        assert (pixels > 0).all() and (pixels < [view.width, view.height]).all()
        assert (view.compute_depth(triangles.reshape(-1, 3)) > 0).all()
    # the turntable begins at the front and is equally far away on all sides
    eyes = [np.linalg.inv(one.world_to_camera)[:3, 3] for one in planned.viewpoints[: ring.TURNS]]
    assert eyes[0][1] < -2.0 - 2.0 and abs(eyes[0][0] - 3.0) < 1e-6
    assert np.ptp([np.linalg.norm(eye - [3.0, -2.0, 1.0]) for eye in eyes]) < 1e-6


def test_corners_that_triangles_share_are_looked_at_once():
    corners = _ball().reshape(-1, 3)
    places = ring.find_places(corners)
    assert len(places) < len(corners) / 4 and len(np.unique(np.round(places, 9), axis=0)) <= len(places)
    assert {tuple(one) for one in places} == {tuple(one) for one in corners + 0.0}
    # -0.0 is where 0.0 is, and points stay in their order
    assert ring.find_places(np.array([[1.0, 0, 2], [0.0, 0, 0], [-0.0, 0, -0.0], [1.0, 0, 2]])).tolist() == [[1, 0, 2], [0, 0, 0]]
    assert ring.find_places(np.zeros((0, 3))).shape == (0, 3)
    front = np.array([0.0, -1.0, 0.0])
    few, all_of_them = (ring.look_at(one, 0.3, 0.2, front, "") for one in (places, corners))
    assert np.allclose(few.world_to_camera, all_of_them.world_to_camera) and few.distance == pytest.approx(all_of_them.distance)


def test_what_is_hidden_from_the_turntable_gets_views_of_its_own():
    ball = _ball()
    # a roof over it, which shows its underside to a low camera only
    roof = np.array([[[-3, -3, 2.0], [3, -3, 2], [3, 3, 2]], [[-3, -3, 2], [3, 3, 2], [-3, 3, 2]]])
    planned = ring.plan_ring(np.concatenate([ball, roof]), np.array([0.0, -1.0, 0.0]), {"ball": ball.reshape(-1, 3)})
    labels = {one.label for one in planned.viewpoints[ring.TURNS :]}
    assert "above" in labels and planned.seen > 0.95


def _list_names():
    kinds = ("objects", "scenes", "meshes", "armatures", "cameras", "materials", "actions", "node_groups")
    return {kind: sorted(one.name for one in getattr(bpy.data, kind)) for kind in kinds}


def test_the_rest_pose_is_looked_at_and_the_scene_stays_as_it_is(shot_scene, character):
    shot_scene.frame_set(9)
    before = _list_names(), character.data.pose_position, shot_scene.frame_current, shot_scene.camera
    bone = character.pose.bones["left_shoulder"].matrix.copy()
    rest = stage_character(bpy.context, character)
    posed = stage_character(bpy.context, character, at_rest=False, plan=False)
    assert (_list_names(), character.data.pose_position, shot_scene.frame_current, shot_scene.camera) == before
    assert character.pose.bones["left_shoulder"].matrix == bone
    assert rest.seen > 0.98 and rest.frames == tuple(range(1, len(rest.frames) + 1))
    # one surface in two poses
    assert (rest.charts.rest == posed.charts.rest).all() and (rest.charts.uv == posed.charts.uv).all()
    places = [
        np.concatenate([s.matrix[:3, :3] @ s.shape.points.T for s in one.staging.geometry.surfaces], 1) for one in (rest, posed)
    ]
    assert np.abs(places[0] - places[1]).max() > 0.1
    # open arms: wider than high is deep
    assert np.ptp(places[0][0]) > 1.5 and np.ptp(places[1][0]) < 1.3
    render = PassRender(bpy.context, character, rest.frames[:3] + rest.frames[-1:], 48, 48, staging=rest.staging)
    for _ in render.render_all():
        pass
    passes = render.result()
    for n in range(4):
        seen = passes.mask[n] > 0
        # each view has a depth range of its own
        assert passes.depth[n][seen].max() == pytest.approx(1.0, abs=1e-5)
        assert passes.depth[n][seen].min() == pytest.approx(0.15, abs=1e-5)
        assert not seen[0].any() and not seen[-1].any() and not seen[:, 0].any() and not seen[:, -1].any()
        # the passes name the surface's points as the charts do
        box = rest.charts.rest.reshape(-1, 3)
        found = passes.rest_position[n][seen]
        assert (found >= box.min(0) - 1e-4).all() and (found <= box.max(0) + 1e-4).all()
    assert (_list_names(), character.data.pose_position, shot_scene.frame_current, shot_scene.camera) == before


def test_no_camera_is_needed_and_what_cannot_be_dressed_is_refused(empty_scene, character):
    assert empty_scene.camera is None
    assert stage_character(bpy.context, character, plan=False).charts.names
    with pytest.raises(ShotError):
        stage_character(bpy.context, None)
