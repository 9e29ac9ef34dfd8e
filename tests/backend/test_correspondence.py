"""Matchings against brute force, against the true surface points, and on surfaces that invite leaks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy.io import savemat

from latentman.backend.video.correspondence import (
    match,
    match_hungarian,
    match_pair,
    match_surfaces,
    prepare_background_frames,
    shrink,
)
from latentman.backend.video.correspondence.densepose import adapt_detectron, load_map, make_predictor, replace_parts_by_iuv
from latentman.backend.video.correspondence.surface import prepare_surface_frame
from latentman.blender_addon.reference_shots.views import render_passes
from latentman.shared.shot import ShotError
from tests import samples
from tools.studies.correspondence import score_matching
from tools.studies.correspondence_truth import Pose, find_ambiguous_pixels, find_true_places


def test_hungarian_is_the_cheapest_assignment(rng):
    width = 4
    parts = np.zeros(16, np.uint8)
    here, there = parts.copy(), parts.copy()
    here[[0, 1, 4, 5, 10]], there[[2, 3, 6, 7, 11, 15]] = (1, 1, 1, 1, 2), (1, 1, 1, 1, 2, 3)
    uv_a, uv_b = rng.random((16, 2)), rng.random((16, 2))
    a, b = match_pair(here, uv_a, there, uv_b, width)
    found = dict(zip(a.tolist(), b.tolist(), strict=True))
    assert found[10] == 11 and 15 not in found.values()

    def cost(pixels, others):
        def features(p, uv):
            p = np.array(p)
            r, c = p // width, p % width
            d = np.abs(r - (r.min() + r.max()) / 2) + np.abs(c - (c.min() + c.max()) / 2)
            return np.column_stack([uv[p] * 255, d * 63.75 / max(d.max(), 1e-9)])

        fa, fb = features([0, 1, 4, 5], uv_a), features([2, 3, 6, 7], uv_b)
        order = [[2, 3, 6, 7].index(o) for o in others]
        return np.linalg.norm(fa[[[0, 1, 4, 5].index(p) for p in pixels]] - fb[order], axis=1).sum()

    best = min(cost((0, 1, 4, 5), order) for order in permutations((2, 3, 6, 7)))
    assert cost((0, 1, 4, 5), [found[p] for p in (0, 1, 4, 5)]) == pytest.approx(best)


def test_matching_follows_a_moving_surface():
    passes = samples.passes(3, 64, 4)
    for reference in ("prev", "first", "prev_new"):
        found = match_hungarian(passes, 64, 64, reference)
        assert found.reference == ((-1, 0, 0) if reference == "first" else (-1, 0, 1))
        for frame in (1, 2):
            shift = 4 * (frame - found.reference[frame])
            exact = found.target_pixels[frame] - found.reference_pixels[frame] == shift
            assert len(exact) == (passes.mask[frame] > 0).sum() and exact.mean() > 0.99


def test_too_large_a_part_is_refused(monkeypatch):
    parts = np.ones(70 * 70, np.uint8)
    monkeypatch.setattr("latentman.backend.video.correspondence.hungarian.measure_free_memory", lambda: 1 << 28)
    with pytest.raises(ShotError, match=r"needs 0.6 GB for it. Lower the guidance resolution"):
        match_pair(parts, np.zeros((4900, 2)), parts, np.zeros((4900, 2)), 70)


def test_shrinking_takes_real_values(rng):
    array = rng.random((2, 7, 9, 3))
    small = shrink(array, 3, 4)
    assert small.shape == (2, 3, 4, 3) and np.isin(small, array).all()


def test_surface_matches_are_exact_and_know_what_is_not_there():
    passes = samples.passes(2, 64, 3)
    found = match_surfaces(passes, 64, 64, "prev")
    here, there = found.target_pixels[1], found.reference_pixels[1]
    assert len(here) == (passes.mask[1] > 0).sum() and (here - there == 3).all()
    np.testing.assert_allclose(found.places[1][:, 0], here % 64 + 0.5 - 3, atol=1e-4)
    apart = replace(passes, rest_position=passes.rest_position + np.float32([0, 1])[:, None, None, None])
    assert len(match_surfaces(apart, 64, 64, "prev").target_pixels[1]) == 0
    nothing = replace(passes, mask=passes.mask * 0)
    assert len(match_surfaces(nothing, 64, 64, "first").target_pixels[1]) == 0


@pytest.mark.parametrize(
    "pose",
    [
        Pose(joints=(("left_shoulder", (0, 0, 40)), ("right_knee", (50, 0, 0)))),
        Pose(yaw=40),
        Pose(distance=6.3),
        Pose(joints=(("right_shoulder", (0, 70, 20)), ("right_elbow", (0, 60, 0))), yaw=10),
        Pose(orbit=20, side=0.2, focal=2.1),
    ],
)
def test_surface_matches_against_the_true_surface(pose):
    first, second = Pose().make_view(), pose.make_view()
    passes = render_passes([first, second], 256)
    for size, limit in ((256, 1.0), (64, 0.75)):
        pixels, places, seen = find_true_places(second, first, size)
        seen &= ~find_ambiguous_pixels(passes, 1, size)[pixels]
        found = match_surfaces(passes, size, size, "prev")
        figures = score_matching(found.places[1], found.target_pixels[1], (pixels, places, seen))
        assert figures["within_1px" if limit == 1 else "within_0p75"] >= 0.985, (size, figures)
        assert figures["leaks"] < 0.02 and figures["median_px"] < 0.05


def _sheet(front: bool, size: int = 32, thickness: float = 0.002):
    """The key and ids of a thin board seen from the front or, turned round, from the back."""
    rows, cols = np.mgrid[0:size, 0:size]
    x = (cols if front else size - 1 - cols) * 0.01
    key = np.stack([x, -rows * 0.01, np.full(x.shape, 0.0 if front else -thickness)], -1)
    ids = np.zeros((size, size), int)
    ids[4:-4, 4:-4] = 1
    return key, ids


def test_the_sides_of_a_thin_part_are_told_apart():
    front, back = prepare_surface_frame(*_sheet(True)), prepare_surface_frame(*_sheet(False))
    assert len(match(front, front, 32, 32)[0]) == 24 * 24
    assert len(match(back, front, 32, 32)[0]) == 0


def test_touching_objects_are_told_apart():
    key, ids = _sheet(True)
    other = ids * 2
    assert len(match(prepare_surface_frame(key, ids), prepare_surface_frame(key, other), 32, 32)[0]) == 0
    mixed = np.where(np.arange(32) < 16, ids, other)
    pixels, places = match(prepare_surface_frame(key, mixed), prepare_surface_frame(key, mixed), 32, 32)
    np.testing.assert_allclose(places, np.stack([pixels % 32, pixels // 32], 1) + 0.5, atol=1e-4)


def test_sub_pixel_places_are_kept():
    """A surface that moves by 0.4 pixels: the places say so, though the pixels stay."""
    key, ids = _sheet(True)
    moved = key + [0.004, 0, 0]  # the camera moved: each pixel sees a point 0.4 pixels farther to the right
    pixels, places = match(prepare_surface_frame(moved, ids), prepare_surface_frame(key, ids), 32, 32)
    inner = (pixels % 32 < 27) & (pixels % 32 > 4)
    np.testing.assert_allclose(places[inner, 0] - (pixels[inner] % 32 + 0.5), 0.4, atol=1e-3)


def test_static_background_is_matched_by_world_position():
    key, ids = _sheet(True)
    passes = samples.passes(2, 32, 0)
    position = np.stack([key, key + [0.03, 0, 0]]).astype(np.float32)  # three pixels of camera movement
    wall = replace(passes, mask=passes.mask * 0, position=position, object_index=np.stack([ids, ids]).astype(np.uint16))
    assert prepare_background_frames(passes) is None
    frames = prepare_background_frames(wall)
    pixels, places = match(frames[1], frames[0], 32, 32)
    inner = pixels % 32 < 24
    np.testing.assert_allclose(places[inner, 0] - (pixels[inner] % 32 + 0.5), 3.0, atol=1e-3)


class _Tensor:
    """The part of torch.Tensor that DensePose's results are read through."""

    def __init__(self, array):
        self.array = array

    def cpu(self):
        return self

    def numpy(self):
        return self.array


def test_densepose_results_become_iuv_images(rng):
    """Detections in the shapes that DensePose's result extractor gives: boxes (N, 4) XYWH, labels (h, w), uv (2, h, w)."""
    labels, uv = np.zeros((6, 4), np.int64), rng.random((2, 6, 4)).astype(np.float32)
    labels[1:5, 1:3] = 7
    behind = np.full((6, 4), 2, np.int64)
    result = [SimpleNamespace(labels=_Tensor(part), uv=_Tensor(uv)) for part in (labels, behind)]
    boxes = _Tensor(np.array([[3.0, 2.0, 4.0, 6.0], [5.0, 4.0, 4.0, 6.0]], np.float32))
    given = []

    def detector(image):
        given.append(image)
        return {"instances": "found"}

    predict = adapt_detectron(detector, lambda instances: (result, boxes) if instances == "found" else None)
    image = rng.integers(0, 255, (9, 8, 3)).astype(np.uint8)
    iuv = predict(image)
    assert (given[0] == image[..., ::-1]).all()  # detectron2's models take BGR
    assert iuv.shape == (9, 8, 3) and (iuv[3:7, 4:6, 0] == 7).all()
    np.testing.assert_array_equal(iuv[3, 4, 1:], (uv[:, 1, 1] * 255).astype(np.uint8))
    assert iuv[8, 7, 0] == 2 and iuv[0, 0, 0] == 0  # the second box is cut at the border and lies behind the first
    nobody = adapt_detectron(detector, lambda instances: (None, None))
    assert not nobody(image).any()


def test_densepose_passes_are_matched_like_any_others():
    passes = samples.passes(2, 64, 4)
    iuv = np.concatenate([passes.part[..., None], np.round(passes.uv * 255).astype(np.uint8)], -1)
    swapped = replace_parts_by_iuv(passes, iuv)
    assert (swapped.part == passes.part).all() and np.abs(swapped.uv - passes.uv).max() < 0.003
    found = match_hungarian(swapped, 32, 32, "prev")
    assert (found.target_pixels[1] - found.reference_pixels[1] == 2).mean() > 0.9
    with pytest.raises(ShotError, match="expected uint8"):
        replace_parts_by_iuv(passes, iuv[:1])


def test_missing_densepose_is_one_sentence(tmp_path):
    with pytest.raises(ShotError, match="install detectron2"):
        make_predictor(tmp_path / "model.pkl")


def test_the_users_map_turns_coordinates_into_vertices(tmp_path, rng):
    u, v = rng.random(12), rng.random(12)
    path = tmp_path / "UV_Processed.mat"
    savemat(
        path,
        {
            "All_Faces": np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], float),
            "All_FaceIndices": np.array([[1], [1], [24]]),
            "All_U_norm": u[:, None],
            "All_V_norm": v[:, None],
            "All_vertices": np.arange(101, 113)[None],
        },
    )
    found = load_map(path).vertices(
        np.array([[[1, round(u[4] * 255), round(v[4] * 255)], [24, round(u[6] * 255), round(v[6] * 255)], [0, 0, 0]]], np.uint8)
    )
    assert found.tolist() == [[104, 106, -1]]
    path.write_bytes(b"no such file")
    with pytest.raises(ShotError, match="is not UV_Processed"):
        load_map(path)


def test_matching_needs_no_torch():
    """The add-on's own tests match passes where Blender is a Python package and nothing else is installed."""
    code = "import sys; sys.modules['torch'] = None; import latentman.backend.video.correspondence"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
