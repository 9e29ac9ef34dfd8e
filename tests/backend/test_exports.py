"""Saved passes as other tools' pictures."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

pytest.importorskip("PIL.ImageDraw")
pytest.importorskip("scipy")

from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from latentman.backend.__main__ import main
from latentman.backend.maps import MAPS, draw_iuv, draw_normals, draw_openpose
from latentman.backend.maps import skeleton as skeleton_maps
from latentman.backend.maps.skeleton import LIMBS
from latentman.shared import passes_folder
from latentman.shared.manifest import CameraEntry, PartEntry, PassesManifest, PersonEntry
from latentman.shared.shot import ShotError
from tests import samples

TURNED = np.array([[0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)


def _shot():
    passes = samples.passes(2, 64, 2)
    normal = np.zeros((2, 64, 64, 3), np.float16)
    normal[passes.mask > 0] = (1, 0, 0)
    points = np.stack([np.linspace(8, 56, 18), np.linspace(10, 50, 18), np.full(18, 3.0)], 1)
    points[17] = (8, 50, -1.0)  # behind the camera
    parts = (
        PartEntry(1, "thigh.L", "left_hip", (-0.045, 0, 0), (1, 0, 0)),
        PartEntry(2, "thigh.R", "right_hip", (0.045, 0, 0), (1, 0, 0)),
        PartEntry(3, "head", "head", (0, 1, 0), (1, 0, 0)),
    )
    manifest = PassesManifest(
        64,
        64,
        20.0,
        (1, 2),
        2.0,
        4.0,
        parts=parts,
        cameras=(CameraEntry(tuple(TURNED.ravel().tolist()), tuple(np.eye(4).ravel().tolist())),) * 2,
        people=(PersonEntry(1, tuple(tuple(map(tuple, points.tolist())) for _ in range(2))),),
    )
    return replace(passes, normal=normal), manifest, points


def test_normals_are_the_cameras():
    passes, manifest, _ = _shot()
    found = draw_normals(passes, manifest)
    seen = passes.mask > 0
    assert (found[seen] == (128, 128, 255)).all() and (found[~seen] == (128, 128, 255)).all()  # world X is towards the camera
    sideways = replace(passes, normal=passes.normal[..., [2, 1, 0]])  # world Z is to the camera's left
    assert (draw_normals(sideways, manifest)[seen] == (0, 128, 128)).all()
    with pytest.raises(ShotError, match="hold no normals"):
        draw_normals(replace(passes, normal=None), manifest)


def test_the_skeleton_is_drawn_where_the_points_are():
    passes, manifest, points = _shot()
    found = draw_openpose(passes, manifest)
    assert found.shape == (2, 64, 64, 3)
    for n, (x, y, depth) in enumerate(points):
        assert found[0, int(y), int(x)].any() == (depth > 0), n
    assert len(LIMBS) == 17
    alone = points.copy()
    alone[1:, 2] = -1.0
    nose = msgspec.structs.replace(manifest, people=(PersonEntry(1, (tuple(map(tuple, alone.tolist())),) * 2),))
    red, green, blue = draw_openpose(passes, nose)[0, int(points[0, 1]), int(points[0, 0])]
    assert red > 100 and green == blue == 0
    with pytest.raises(ShotError, match="map the bones"):
        draw_openpose(passes, msgspec.structs.replace(manifest, people=()))


def test_parts_take_denseposes_numbers():
    passes, manifest, _ = _shot()
    found = draw_iuv(passes, manifest)
    left, right = passes.part == 1, passes.part == 2
    forward = passes.rest_position[..., 0]
    assert set(np.unique(found[left][:, 0])) <= {8, 10} and set(np.unique(found[right][:, 0])) <= {7, 9}
    assert (found[left][:, 0] == np.where(forward[left] > -0.045, 10, 8)).all()
    assert (found[right][:, 0] == np.where(forward[right] > 0.045, 9, 7)).all()
    assert found[..., 1][left].min() == 0 and found[..., 1][left].max() == 255
    with pytest.raises(ShotError, match="left hip"):
        draw_iuv(passes, msgspec.structs.replace(manifest, parts=()))


def test_a_skeleton_is_drawn_into_the_depth(monkeypatch):
    """Over it, without a dark line around."""
    monkeypatch.setattr(skeleton_maps, "THICKNESS", 64.0)
    passes, manifest, _ = _shot()
    both, skeleton, depth = (MAPS[name](passes, manifest) for name in ("depth_openpose", "openpose", "depth"))
    free = binary_dilation(skeleton.any(-1), np.ones((1, 3, 3))) == 0
    assert np.array_equal(both[free], depth[free]) and free.any()
    inner = binary_erosion(skeleton.any(-1), np.ones((1, 3, 3)))
    assert inner.any() and np.array_equal(both[inner], skeleton[inner])
    edge = ~free & ~inner
    assert (both[edge] >= np.minimum(skeleton, depth)[edge].astype(int) - 1).all()


def test_the_command_writes_every_map(tmp_path, capsys):
    passes, manifest, _ = _shot()
    passes_folder.save(tmp_path / "passes", passes, manifest)
    assert main(["export", str(tmp_path / "passes"), "--out", str(tmp_path / "out")]) == 0
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").glob("*/*.png")) == [
        f"{name}/{n:04d}.png" for name in sorted(MAPS) for n in (1, 2)
    ]
    assert main(["export", str(tmp_path / "passes"), "--maps", "depth,x", "--out", str(tmp_path)]) == 2
    assert "no map 'x'" in capsys.readouterr().err
    iuv = str(tmp_path / "out" / "iuv")
    assert main(["densepose", str(tmp_path / "passes"), iuv, "--iuv", "--out", str(tmp_path / "dense")]) == 0
    assert set(np.unique(passes_folder.load(tmp_path / "dense")[0].part)) == {0, 7, 8, 9, 10}
    assert main(["densepose", str(tmp_path / "passes"), iuv, "--out", str(tmp_path / "dense")]) == 2
    assert "--weights" in capsys.readouterr().err


def test_characters_are_cut_out_and_laid_over(tmp_path, capsys):
    passes, manifest, _ = _shot()
    passes_folder.save(tmp_path / "passes", passes, manifest)
    for name, value in (("frames", 200), ("below", 50), ("small", 50)):
        (tmp_path / name).mkdir()
        for n in (1, 2):
            side = 32 if name == "small" else 64
            Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(tmp_path / name / f"{n:04d}.png")
    base = ["composite", str(tmp_path / "passes"), str(tmp_path / "frames")]
    assert main([*base, "--out", str(tmp_path / "alpha")]) == 0
    cut = np.asarray(Image.open(tmp_path / "alpha" / "0002.png"))
    inner = binary_erosion(passes.mask[1] > 0)
    outer = ~binary_dilation(passes.mask[1] > 0)
    assert cut.shape == (64, 64, 4) and (cut[..., 3][inner] > 200).all() and (cut[..., 3][outer] == 0).any()
    assert main([*base, "--over", str(tmp_path / "below"), "--out", str(tmp_path / "over")]) == 0
    laid = np.asarray(Image.open(tmp_path / "over" / "0002.png"))
    assert laid[32, 25, 0] == 200 and laid[0, 0, 0] == 50
    assert main([*base, "--over", str(tmp_path / "small"), "--out", str(tmp_path / "over")]) == 2
    assert "of one shot and size" in capsys.readouterr().err
