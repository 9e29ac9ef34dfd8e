"""The reference shots of evaluations, which are rendered without Blender."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from latentman.blender_addon.motion.readers import BUNDLED
from latentman.blender_addon.reference_shots.__main__ import main
from latentman.blender_addon.reference_shots.shots import SHOTS, SIZE, make_clip_views, make_motion_views, read_bundled_motions
from latentman.blender_addon.reference_shots.views import render_views
from latentman.shared import passes_folder
from latentman.shared.depth import compute_metric_depth


def test_the_shots_are_written_as_saved_passes(tmp_path):
    assert main([str(tmp_path), "--frames", "2"]) == 0
    assert json.loads((tmp_path / "shots.json").read_text()) == {name: {} for name in SHOTS}
    for name, make_views in SHOTS.items():
        passes, manifest = passes_folder.load(tmp_path / name)
        rendered = render_views(make_views(2), SIZE)
        assert manifest.frames == (1, 2) and (manifest.near, manifest.far) == (rendered.near, rendered.far)
        for key, array in rendered.passes.arrays().items():
            np.testing.assert_array_equal(passes.arrays()[key], array)
        # the character fills a good part of the picture, and is four metres away
        assert 0.05 < (passes.mask > 0).mean() < 0.4
        assert 3 < np.median(compute_metric_depth(passes.depth, manifest.near, manifest.far)[passes.mask > 0]) < 5


def test_shots_of_another_size_show_the_same(tmp_path):
    for size in ("64", "128"):
        assert main([str(tmp_path / size), "--frames", "2", "--shots", "walk", "--size", size, "--world"]) == 0
    (small, said), (large, _) = (passes_folder.load(tmp_path / size / "walk") for size in ("64", "128"))
    assert (said.width, said.height) == (64, 64) and large.mask.shape == (2, 128, 128) == large.shadow.shape
    inside = (large.mask > 0).reshape(2, 64, 2, 64, 2).mean((2, 4))
    # what is wholly inside or outside in the larger frames is so in the smaller ones
    assert (small.mask[inside == 1] > 0).mean() > 0.99 and (small.mask[inside == 0] > 0).mean() < 0.01


@pytest.mark.parametrize("size", ["0", "-64", "100", "8192", "256.0", "big", "²"])
def test_a_size_that_models_do_not_make_is_refused(tmp_path, capsys, size):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "out"), f"--size={size}"])
    assert ended.value.code == 2 and "multiple of 8" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_camera_orbits_and_the_walk_moves_in_place():
    still, orbiting = (make_clip_views("a person dances", 3, orbit=angle) for angle in (0.0, 90.0))
    # the last of the orbiting views is the still one turned by a quarter about the vertical axis
    turned = still[2].points - (0, 0.05, -4.0)
    np.testing.assert_allclose(orbiting[2].points, np.stack([turned[:, 2], turned[:, 1], -turned[:, 0]], 1) + (0, 0.05, -4.0))
    walk = make_clip_views("a person walks forward", 40)
    assert (
        np.abs(walk[39].points.mean(0) - walk[0].points.mean(0)).max() < 0.2 and np.abs(walk[9].points - walk[0].points).max() > 0.1
    )


def test_motions_are_seen_from_the_same_side_whichever_way_they_head():
    motion = read_bundled_motions()["a person walks forward"]
    half_turn = type(motion)(motion.joints * [-1, 1, -1], motion.fps, "turned")
    for one, other in zip(make_motion_views(motion, 2), make_motion_views(half_turn, 2), strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=1e-5)


def test_motion_files_are_shown_and_measured(tmp_path, capsys):
    assert main([str(tmp_path), "--frames", "1", "--text", "a person dances", "--motion", str(BUNDLED)]) == 0
    found = json.loads((tmp_path / "shots.json").read_text())
    assert list(found) == ["performance", BUNDLED.stem]
    assert all(0 <= row["skating_ratio"] < 0.5 and row["bone_deviation_mm"] < 1 for row in found.values())
    assert passes_folder.load(tmp_path / BUNDLED.stem)[0].mask.any()
    assert main([str(tmp_path), "--text", "a person dances", "--motion", str(tmp_path / "absent.npz")]) == 2
    assert "absent.npz" in capsys.readouterr().err
    assert main([str(tmp_path), "--text", "a person flies"]) == 2
    assert "no bundled motion 'a person flies'" in capsys.readouterr().err


PURE = """
import sys
from latentman.blender_addon.reference_shots.__main__ import main
assert main([sys.argv[1], "--frames", "1", "--shots", "walk"]) == 0
print([name for name in ("bpy", "torch", "scipy", "PIL") if name in sys.modules])
"""


def test_neither_blender_nor_torch_is_needed(tmp_path):
    done = subprocess.run([sys.executable, "-c", PURE, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("unknown", ["flight", ""])
def test_an_unknown_shot_is_refused(tmp_path, capsys, unknown):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--shots", unknown])
    assert "walk" in capsys.readouterr().err


def test_a_long_shot_plays_its_motion_to_and_fro():
    count = len(read_bundled_motions()["a person walks forward"].joints)
    views = make_clip_views("a person walks forward", 2 * count)
    assert len(views) == 2 * count
    steps = [np.abs(a.points - b.points).max() for a, b in itertools.pairwise(views)]
    assert max(steps) == max(steps[: count - 1]) and min(steps[count - 2 : count + 1]) > 0, "it turns back without a jump or a stop"


def test_motion_vectors_lead_to_the_same_surface_point_and_normals_face_the_camera():
    passes = render_views(SHOTS["walk"](3), 128).passes
    assert not passes.motion_vectors[0].any()
    rows, cols = np.nonzero(passes.mask[2] > 0)
    there = np.floor(np.stack([cols, rows], 1) + 0.5 + passes.motion_vectors[2][rows, cols]).astype(int).clip(0, 127)
    apart = np.linalg.norm(passes.rest_position[2][rows, cols] - passes.rest_position[1][there[:, 1], there[:, 0]], axis=1)
    # a pixel is 16 mm wide, and some points were hidden before
    assert np.median(apart) < 0.016 and (apart < 0.04).mean() > 0.9
    assert (passes.normal[2][rows, cols][:, 2] > -0.1).mean() > 0.98
    np.testing.assert_allclose(np.linalg.norm(passes.normal[2][rows, cols].astype(float), axis=1), 1, atol=0.01)
