"""Frames that disagree about a place, brought together before they are blended."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.video.lattice import SurfaceLattice  # noqa: E402
from latentman.backend.video.reconciling import Reconciler  # noqa: E402
from latentman.backend.video.techniques.fusion import TextureFusion  # noqa: E402
from latentman.shared.shot import Fusion  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402

CPU = torch.device("cpu")


def _paint(passes, *, fine=0.3):
    """(F, 3, H, W) pictures of a disc whose fine pattern sticks to the surface."""
    x, y = (np.round(passes.rest_position[..., axis] / 0.01) for axis in (0, 1))
    pattern = np.where((x + y) % 2 > 0, fine, -fine)
    picture = np.where(passes.mask > 0, pattern, -1.0)
    return torch.from_numpy(picture.astype(np.float32))[:, None].repeat(1, 3, 1, 1)


def _inner(passes):
    return torch.from_numpy(passes.mask > 0)


def _make_reconciler(passes):
    return Reconciler(passes, CPU, SurfaceLattice(passes, CPU).side)


def test_the_frame_that_is_off_is_brought_to_the_others_and_keeps_its_detail():
    passes = samples.passes(3, 64, 3)
    pictures, inner = _paint(passes), _inner(passes)
    off = pictures.clone()
    off[1] += torch.tensor([0.9, -0.9, 0.4]).view(3, 1, 1) * inner[1]
    found = _make_reconciler(passes).reconcile(list(off))
    for n in range(3):
        assert torch.equal(found[n][:, ~inner[n]], pictures[n][:, ~inner[n]]), "the background is not touched"
        left = (found[n] - pictures[n])[:, inner[n]]
        assert left.mean(1).abs().max() < 0.12 and (left - left.mean(1, keepdim=True)).abs().max() < 0.05
    assert (found[0] - pictures[0]).abs().max() < 1e-3 and (found[2] - pictures[2]).abs().max() < 1e-3


def test_frames_that_agree_but_for_their_light_stay_as_they_are():
    passes = samples.passes(3, 64, 3)
    pictures = _paint(passes) + torch.tensor([0.03, 0.0, -0.03]).view(3, 1, 1, 1) * _inner(passes)[:, None]
    found = _make_reconciler(passes).reconcile(list(pictures))
    assert max(float((a - b).abs().max()) for a, b in zip(found, pictures, strict=True)) < 2e-3
    one = samples.passes(1)
    assert torch.equal(_make_reconciler(one).reconcile(list(_paint(one)))[0], _paint(one)[0])


def test_a_costume_of_two_colours_becomes_one_only_where_that_is_asked_for():
    """Two of three key frames paint a blue disc, one paints an orange one and sees it as well."""
    passes = samples.passes(3, 64, 8)
    pictures, inner = _paint(passes, fine=0.1), _inner(passes)
    pictures += torch.tensor([-0.7, -0.2, 0.7]).view(1, 3, 1, 1) * inner[:, None]
    pictures[2] += torch.tensor([1.4, 0.4, -1.4]).view(3, 1, 1) * inner[2]
    blue = {}
    for reconcile in (False, True):
        fusion = TextureFusion(Fusion(reconcile=reconcile, coarse=0.0))
        fusion.begin(tiny.context(passes, steps=2))
        finished = fusion.finish_pictures([picture.clone() for picture in pictures])
        blue[reconcile] = [float((image[2] - image[0])[inner[n]].mean()) for n, image in enumerate(finished)]
        texture = fusion.texture(list(pictures), fusion.find_light(pictures))
        colours = texture.values[:, :3] / texture.values[:, 3:]
        blue[reconcile].append(float((colours[:, 2] - colours[:, 0]).min()))
    assert max(blue[False]) < 0.6, "without it the texture is a mixture"
    assert min(blue[True]) > 0.9
