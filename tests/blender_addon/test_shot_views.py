"""Frames of the shot in a dressing: which are taken, from where they are seen, what is refused, and what becomes of them."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest

from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.commands.dress import describe_costume
from latentman.blender_addon.passes.camera import View
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.passes.ring import TURNS
from latentman.blender_addon.passes.shot_views import (
    MOST_TAKEN,
    MOST_TANGENT,
    choose_frames,
    explain_absent,
    explain_not_shown,
    find_viewpoint,
    spread_candidates,
)
from latentman.blender_addon.passes.staged_character import stage_character
from latentman.blender_addon.paths import get_result_folder
from latentman.blender_addon.tasks.frames_folder import SHOT_FOLDER, list_frames
from latentman.blender_addon.wardrobe import find_wearing
from latentman.shared.charts import MIN_SIZE
from latentman.shared.costume_files import read_charts
from latentman.shared.dress_options import find_shot_frame, number_shot_frame
from latentman.shared.shot import ShotError
from tests.blender_addon.any_scene import add_box, add_camera, add_character, make_tube, skin

RANGE = range(1, 21)


@pytest.fixture
def scene():
    """An empty scene with a camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found = bpy.context.scene
    found.camera = add_camera()
    found.render.resolution_x, found.render.resolution_y = 320, 180
    return found


def _list_names():
    kinds = ("objects", "scenes", "meshes", "armatures", "cameras", "materials", "actions", "node_groups")
    return {kind: sorted(one.name for one in getattr(bpy.data, kind)) for kind in kinds}


def _render(character, staged, frames, width=64, height=64):
    render = PassRender(bpy.context, character, frames, width, height, staging=staged.staging)
    for _ in render.render_all():
        pass
    return render.result(), render.manifest(24.0)


def _collect_cells(rest, seen, side=0.1):
    """The cells in the rest pose that pixels show."""
    return {tuple(cell) for cell in np.floor(rest[seen] / side).astype(int)}


def test_the_shot_is_shown_as_its_camera_sees_it_and_the_scene_stays_as_it_is(scene):
    rig, _ = add_character()
    side = add_camera("Side", (6.0, 0.5, 0.4))
    for frame, camera in ((1, scene.camera), (11, side)):
        scene.timeline_markers.new(f"F{frame}", frame=frame).camera = camera
    scene.frame_set(9)
    before = _list_names(), rig.data.pose_position, scene.frame_current, scene.camera, scene.frame_end
    bent = rig.pose.bones["Head"].matrix.copy()
    staged = stage_character(bpy.context, rig, shot=RANGE, with_shot=True)
    alone = stage_character(bpy.context, rig)
    views = len(alone.frames)
    assert staged.frames[:views] == alone.frames and not alone.shot_frames
    assert 2 <= len(staged.shot_frames) <= MOST_TAKEN and not staged.left_out
    assert min(staged.shot_frames) < 11 <= max(staged.shot_frames)
    assert staged.frames[views:] == tuple(map(number_shot_frame, staged.shot_frames))
    # all of them are made together, behind the views, the first of which has the place
    assert staged.charts.keyframes == (*alone.charts.keyframes, *range(views, len(staged.frames)))
    assert staged.charts.keyframes[0] == 0 and (staged.charts.rest == alone.charts.rest).all()
    passes, manifest = _render(rig, staged, (1, *staged.frames[views:]), 160, 160)
    for n, frame in enumerate(staged.shot_frames, 1):
        seen = passes.mask[n] > 0
        assert passes.surface_index[n][seen].min() == passes.surface_index[0].max()
        assert passes.depth[n][seen].max() == pytest.approx(1.0, abs=1e-5)
        # the eye is the camera's, and closes in
        eye = np.linalg.inv(np.reshape(manifest.cameras[n].world_to_camera, (4, 4)))[:3, 3]
        assert np.abs(eye - (side if frame >= 11 else scene.camera).matrix_world.translation).max() < 1e-4
        rows, cols = np.nonzero(seen)
        assert max(np.ptp(rows), np.ptp(cols)) > 120 and min(rows.min(), cols.min()) > 3 and max(rows.max(), cols.max()) < 156
        # what an ordinary render through the camera sees, with the same names for the surface's points
        plain = PassRender(bpy.context, rig, (frame,), 640, 360)
        for _ in plain.render_all():
            pass
        other = plain.result()
        mine, theirs = (_collect_cells(one.rest_position[row], one.mask[row] > 0) for one, row in ((passes, n), (other, 0)))
        assert len(mine & theirs) > 0.85 * len(mine | theirs)
    assert (_list_names(), rig.data.pose_position, scene.frame_current, scene.camera, scene.frame_end) == before
    assert rig.pose.bones["Head"].matrix == bent


@pytest.mark.parametrize("aspect", [1.0, 0.5, 1.7])
@pytest.mark.parametrize("is_perspective", [True, False])
def test_a_viewpoint_holds_what_the_camera_sees_and_not_much_more(aspect, is_perspective):
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (400, 3)) * [0.5, 0.3, 0.9] + [1.6, 5.0, 0.7]
    to_camera = np.array([[1.0, 0, 0, 0.2], [0, 0, 1, -0.3], [0, -1, 0, 0.4], [0, 0, 0, 1]])
    projection = np.diag([0.9, 1.2, -0.1, 1.0])
    if is_perspective:
        projection[3] = [0, 0, -1, 0]
    viewpoint = find_viewpoint(View(to_camera, projection, 100, 100), points, aspect)
    view = viewpoint.make_view(round(200 * aspect), 200)
    pixels = view.project(points) / [view.width, view.height]
    assert (pixels > 0.05).all() and (pixels < 0.95).all() and (view.compute_depth(points) > 0).all()
    assert np.ptp(pixels, axis=0).max() > 0.8
    eyes = [np.linalg.inv(one)[:3, 3] for one in (to_camera, viewpoint.world_to_camera)]
    assert np.allclose(*eyes) == is_perspective
    if not is_perspective:
        # what lies behind each other stays so
        flat, turned = (one[:3, :3] for one in (to_camera, viewpoint.world_to_camera))
        assert np.allclose(flat, turned) and np.linalg.norm(eyes[1] - points.mean(0)) > 30


@pytest.mark.parametrize("span", [(-66, 30), (-70, 20), (-80, 5), (-60, 45), (20, 75), (-80, 80)])
@pytest.mark.parametrize("axis", [0, 1])
def test_through_a_wide_lens_it_is_turned_to_the_middle_and_not_beyond(span, axis):
    rng = np.random.default_rng(2)
    angle, away = np.radians(rng.uniform(*span, 2000)), rng.uniform(0.3, 2.0, 2000)
    points = np.zeros((2000, 3))
    points[:, axis], points[:, 1 - axis], points[:, 2] = np.sin(angle), rng.uniform(-0.2, 0.2, 2000), -np.cos(angle)
    projection = np.diag([0.1, 0.1, -1.0, 0.0])
    projection[3, 2], projection[2, 3] = -1.0, -0.01
    viewpoint = find_viewpoint(View(np.eye(4), projection, 100, 100), points * away[:, None], 1.0)
    view = viewpoint.make_view(200, 200)
    assert np.allclose(np.linalg.inv(viewpoint.world_to_camera)[:3, 3], 0)
    turned = viewpoint.world_to_camera[:3, :3].T @ [0.0, 0.0, -1.0]
    assert abs(np.degrees(np.arctan2(turned[axis], -turned[2])) - sum(span) / 2) < 2 and viewpoint.tangent <= MOST_TANGENT
    assert (view.compute_depth(points * away[:, None]) > 0).all()
    if max(span) - min(span) < 110:
        pixels = view.project(points * away[:, None])
        assert (pixels > 8).all() and (pixels < 192).all() and np.ptp(pixels, axis=0).max() > 160


@pytest.mark.parametrize("is_perspective", [True, False])
def test_what_is_nearer_than_the_camera_sees_is_not_seen_and_hides_nothing(scene, is_perspective):
    rig, _ = add_character()
    camera = scene.camera
    camera.location, camera.rotation_euler = (0.0, -1.0, 0.9), (np.pi / 2, 0.0, 0.0)
    camera.data.type = "PERSP" if is_perspective else "ORTHO"
    camera.data.lens, camera.data.ortho_scale = 18.0, 1.2
    rest = {}
    # before the body, and within it: then its back is seen from inside
    for start in (0.1, 1.0):
        camera.data.clip_start = start
        staged = stage_character(bpy.context, rig, shot=(1,), with_shot=True)
        passes, _ = _render(rig, staged, (staged.frames[-1],), 160, 160)
        plain = PassRender(bpy.context, rig, (1,), 320, 180)
        for _ in plain.render_all():
            pass
        rest[start], other = passes.rest_position[0][passes.mask[0] > 0], plain.result()
        mine, theirs = _collect_cells(rest[start], slice(None)), _collect_cells(other.rest_position[0], other.mask[0] > 0)
        assert len(mine & theirs) > 0.8 * len(theirs)
    assert rest[0.1][:, 1].mean() < 0 < rest[1.0][:, 1].mean()


def test_a_camera_within_the_character_shows_it_from_inside(scene):
    rig, _ = add_character()
    camera = scene.camera
    camera.location, camera.data.lens = (0.0, 0.0, 1.4), 8.0
    camera.rotation_euler = (np.radians(75), 0.0, 0.0)
    staged = stage_character(bpy.context, rig, shot=RANGE, with_shot=True)
    passes, _ = _render(rig, staged, staged.frames[-len(staged.shot_frames) :], 160, 160)
    for n, frame in enumerate(staged.shot_frames):
        plain = PassRender(bpy.context, rig, (frame,), 640, 360)
        for _ in plain.render_all():
            pass
        other = plain.result()
        mine, theirs = (_collect_cells(one.rest_position[row], one.mask[row] > 0) for one, row in ((passes, n), (other, 0)))
        assert len(mine & theirs) > 0.9 * len(theirs)


@pytest.mark.parametrize("by_bone", [True, False])
@pytest.mark.parametrize("size", [0.2, 5.0])
def test_a_character_that_is_of_another_size_in_the_shot_is_shown_as_well(scene, size, by_bone):
    rig, _ = add_character()
    if by_bone:
        rig.pose.bones["Hips"].scale = (size,) * 3
    else:
        for frame, now in ((1, 1.0), (2, size)):
            rig.scale = (now,) * 3
            rig.keyframe_insert("scale", frame=frame)
    scene.camera.location *= size
    own = stage_character(bpy.context, rig, shot=range(2, 21), with_shot=True)
    assert own.shot_frames
    passes, _ = _render(rig, own, own.frames[-len(own.shot_frames) :])
    assert (passes.mask.mean((1, 2)) > 0.1).all()


def test_other_triangles_of_the_same_points_are_the_same_mesh(scene):
    rig, body = add_character()
    # the shorter diagonal of a face is another one in each pose
    body.modifiers.new("Triangulate", "TRIANGULATE").quad_method = "SHORTEST_DIAGONAL"
    staged = stage_character(bpy.context, rig, shot=RANGE, with_shot=True)
    assert not staged.left_out and len(staged.shot_frames) > 1
    passes, _ = _render(rig, staged, staged.frames[-len(staged.shot_frames) :])
    assert (passes.mask.mean((1, 2)) > 0.1).all()


def test_what_the_pose_does_not_show_is_said(scene):
    rig, body = add_character()
    hat = bpy.data.objects.new("Hat", make_tube("Hat", radius=0.4, height=0.2))
    scene.collection.objects.link(hat)
    hat.location.z, hat.parent = 0.9, body
    for frame, hidden in ((1, True), (8, False)):
        hat.hide_render = hidden
        hat.keyframe_insert("hide_render", frame=frame)
    scene.frame_set(1)
    staged = stage_character(bpy.context, rig, shot=RANGE, with_shot=True)
    assert staged.absent == ("Hat",) and not staged.left_out
    assert "Hat is in the shot, but not in the pose" in explain_absent(staged.absent) and not explain_absent(())
    scene.frame_set(10)
    assert not stage_character(bpy.context, rig, shot=RANGE, with_shot=True).absent
    for frame, hidden in ((1, True), (12, False)):
        body.hide_render = hidden
        body.keyframe_insert("hide_render", frame=frame)
    hat.animation_data_clear()
    hat.hide_render = True
    scene.frame_set(3)
    with pytest.raises(ShotError, match="no surface at frame 3 that can be dressed; go to a frame where it is shown"):
        stage_character(bpy.context, rig)


def test_frames_are_taken_that_show_what_others_do_not():
    shown = {frame: np.zeros(1000, bool) for frame in range(1, 9)}
    spans = [(0, 400), (0, 390), (500, 700), (0, 0), (5, 405), (700, 710), (710, 715), (0, 300)]
    for found, (first, last) in zip(shown.values(), spans, strict=True):
        found[first:last] = True
    assert choose_frames(shown) == [1, 3, 6]
    assert choose_frames({4: shown[4], 7: shown[7]}) == [] and choose_frames({}) == []
    apart = {frame: np.arange(1000) // 100 == frame for frame in range(9)}
    assert len(choose_frames(apart)) == MOST_TAKEN


def test_fewer_frames_are_looked_at_of_a_character_of_many_triangles():
    for triangles, most in ((0, 24), (100_000, 24), (200_000, 12), (5_000_000, 8)):
        for frames in (1, 5, 9, 300):
            places = spread_candidates(frames, triangles)
            assert len(places) == len(set(places)) == min(frames, most)
            assert (places[0], places[-1]) == (0, frames - 1)
            assert (np.diff(places) <= np.ceil((frames - 1) / max(len(places) - 1, 1))).all()


def test_shots_that_cannot_decide_are_refused_in_a_sentence(scene):
    rig, body = add_character()
    before = _list_names()

    def refuse(match, frames=RANGE):
        with pytest.raises(ShotError, match=match):
            stage_character(bpy.context, rig, shot=frames, with_shot=True)

    refuse("no frames; set its range", range(5, 5))
    camera = scene.camera
    away = camera.location.copy()
    camera.location.x += 30
    refuse("does not see the character in any frame of the shot")
    camera.location = away
    camera.data.lens = 3000
    refuse("shows too little of the character in every frame of the shot; move it farther away")
    camera.data.lens = 50
    camera.data.clip_end = 2
    refuse("does not see the character in any frame of the shot")
    camera.data.clip_end = 1e7
    camera.data.type = "PANO"
    refuse("panoramic")
    camera.data.type = "PERSP"
    scene.camera = None
    refuse("The shot has no camera; add one")
    scene.camera = camera
    body.modifiers.new("Cloth", "CLOTH")
    refuse("simulated.* bake it, or dress without the shot")
    body.modifiers.remove(body.modifiers["Cloth"])
    build = body.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration = -9, 40
    refuse("Ann Body is not the same mesh in the shot as in the pose, and the shot shows nothing else", range(5, 21))
    assert _list_names() == before and scene.frame_current == 1
    # without the shot none of it matters
    scene.camera = None
    assert stage_character(bpy.context, rig).shot_frames == ()


def test_a_surface_whose_mesh_changes_is_left_out_of_the_shot(scene):
    rig, body = add_character()
    shirt = bpy.data.objects.new("Shirt", make_tube("Shirt", radius=0.34, height=0.7))
    scene.collection.objects.link(shirt)
    skin(shirt, rig)
    assert set(find_wearing(rig)) == {body, shirt}
    build = shirt.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration = -30, 30
    shirt.modifiers.move(1, 0)
    whole = stage_character(bpy.context, rig, shot=RANGE, with_shot=True)
    assert not whole.left_out
    build.frame_start, build.frame_duration = 2, 100
    scene.frame_set(200)
    staged = stage_character(bpy.context, rig, shot=RANGE, with_shot=True)
    assert staged.left_out == ("Shirt",) and "Shirt is not the same mesh" in explain_not_shown(staged.left_out)
    number = next(number for number, name in staged.charts.names.items() if name == "Shirt")
    passes, _ = _render(rig, staged, (1, staged.frames[-1]))
    assert (passes.surface_index[0] == number).any()
    assert not (passes.surface_index[1] == number).any() and passes.mask[1].any()


def test_what_stands_before_the_character_in_the_shot_is_not_shown_and_another_character_neither(scene):
    rig, _ = add_character()
    other, _ = add_character("Bob")
    other.location = (0.8, -0.5, 0.0)
    alone = stage_character(bpy.context, rig, shot=RANGE, with_shot=True)
    add_box("Wall", (0.2, -2.0, 0.5), (3.0, 0.1, 1.0))
    behind = stage_character(bpy.context, rig, shot=RANGE, with_shot=True)
    assert behind.shot_frames == alone.shot_frames and list(behind.charts.names.values()) == ["Ann Body"]
    first, second = (_render(rig, one, one.frames[-1:])[0] for one in (alone, behind))
    assert (first.mask == second.mask).all() and (first.depth == second.depth).all()


def test_a_close_shot_of_a_body_with_a_cloud_of_points_shows_what_the_camera_frames(scene):
    rig, body = add_character()
    tree = bpy.data.node_groups.new("Cloud", "GeometryNodeTree")
    for direction in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=direction, socket_type="NodeSocketGeometry")
    start, points, join, end = (
        tree.nodes.new(kind)
        for kind in ("NodeGroupInput", "GeometryNodeMeshToPoints", "GeometryNodeJoinGeometry", "NodeGroupOutput")
    )
    points.inputs["Radius"].default_value = 0.02
    tree.links.new(start.outputs[0], points.inputs[0])
    for found in (start, points):
        tree.links.new(found.outputs[0], join.inputs[0])
    tree.links.new(join.outputs[0], end.inputs[0])
    body.modifiers.new("Cloud", "NODES").node_group = tree
    scene.camera.data.lens = 300
    scene.camera.location.z += 0.5
    staged = stage_character(bpy.context, rig, shot=range(8, 12), with_shot=True)
    passes, _ = _render(rig, staged, (1, staged.frames[-1]))
    seen = passes.mask[1] > 0
    assert seen.mean() > 0.3
    # the camera frames a part of the upper body alone
    heights = passes.rest_position[1][seen][:, 2]
    assert np.percentile(heights, 5) > 0.9 and np.ptp(passes.rest_position[0][passes.mask[0] > 0][:, 2]) > 1.5


def test_the_numbers_of_the_shots_frames_are_nobody_elses():
    for frame in (-1_048_574, -5, 0, 17, 1_048_574):
        assert find_shot_frame(number_shot_frame(frame)) == frame and find_shot_frame(frame) is None
    assert all(find_shot_frame(view) is None for view in range(1, 100))


@pytest.fixture
def panel(dressing_panel):
    """The panel's settings."""
    dressing_panel.use_scene_range, dressing_panel.frame_start, dressing_panel.frame_end = False, 3, 20
    return dressing_panel


def _wait(connection):
    task = connection.shot_task
    assert wait_until(connection, lambda: task.done, 200) and task.succeeded, task.error
    return task


def test_a_costume_is_made_with_the_shot_and_its_turntable_is_of_views_alone(connection, shot_scene, character, panel, tmp_path):
    shot_scene.frame_set(7)
    names, pose = _list_names(), character.pose.bones["left_shoulder"].matrix.copy()
    assert bpy.ops.latentman.dress(atlas=MIN_SIZE, with_shot=True) == {"FINISHED"}
    # cancelled on its way, and begun again
    task = connection.shot_task
    assert wait_until(connection, lambda: task.done or task.stage == "denoising", 200) and not task.done, task.error
    task.cancel()
    assert wait_until(connection, lambda: task.done, 60) and not character.latentman_look
    assert bpy.ops.latentman.dress(atlas=MIN_SIZE, with_shot=True) == {"FINISHED"}
    again = _wait(connection)
    assert again.job == task.job and again.known > 0.7
    assert 1 <= len(again.shot_frames) <= MOST_TAKEN and set(again.shot_frames) <= set(range(3, 21))
    (result,) = panel.results
    folder, views = get_result_folder(result), len(again.request.frames) - len(again.shot_frames)
    assert (result.start, result.step, result.count, result.total) == (1, 1, views, views) and views >= TURNS
    assert len(list_frames(folder)) == views
    assert [path.name for path in list_frames(folder / SHOT_FOLDER)] == [f"{frame:04d}.png" for frame in again.shot_frames]
    charts = read_charts((folder / "look" / "character.costume").read_bytes())
    assert charts.keyframes[-len(again.shot_frames) :] == tuple(range(views, len(again.request.frames)))
    assert f"{views} views and of the shot frame" in describe_costume(folder, again)
    assert shot_scene.frame_current == 7 and character.pose.bones["left_shoulder"].matrix == pose
    assert {kind: found for kind, found in _list_names().items() if kind != "actions"} == {
        kind: found for kind, found in names.items() if kind != "actions"
    }
    # what is lost comes back to where it was
    for path in [*folder.glob("*.png"), *(folder / SHOT_FOLDER).glob("*.png")]:
        path.unlink()
    assert bpy.ops.latentman.fetch_result() == {"FINISHED"}
    assert wait_until(connection, lambda: len(list_frames(folder / SHOT_FOLDER)) == len(again.shot_frames), 60)
    assert wait_until(connection, lambda: not connection.busy, 60)
    assert result.count == views == len(list_frames(folder))
    # a shot without a camera says so, and nothing begins
    shot_scene.camera = None
    with pytest.raises(RuntimeError, match="The shot has no camera"):
        bpy.ops.latentman.dress(atlas=MIN_SIZE, with_shot=True)
    assert len(panel.results) == 1


def test_the_command_refuses_a_shot_without_a_camera(shot_scene, character, tmp_path, capsys):
    from latentman.blender_addon import command_line

    shot_scene.camera = None
    code = command_line.main(["dress", "--prompt", "a knight", "--with-shot", "--out", str(tmp_path / "out"), "--json"])
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert code == 2 and "dress without the shot" in said[-1]["message"]
