"""SMPL, SMPL-H and SMPL-X files in every published layout, posed in Blender and by smplx."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.blender_addon.character.body_model import BodyModelError, load
from latentman.blender_addon.character.joints import get_joint_names
from latentman.blender_addon.motion.rotations import axis_angle_to_matrix, matrix_to_quaternion
from latentman.blender_addon.rigging.characters import add_character, find_character_meshes, fit_skeleton
from tests import bodies


def _file(path, kind, betas, layout):
    data = bodies.arrays(kind, betas)
    if layout == "pickle":
        pytest.importorskip("scipy.sparse")
        path = path / f"{kind}.pkl"
        bodies.write_python2_pickle(path, data)
    else:
        path = path / f"{kind}.npz"
        extra = {"part2num": np.array({"a": 1}, dtype=object)} if kind == "smplx" else {}
        np.savez(path, **data, **extra)
    return path, data


@pytest.mark.parametrize(
    ("kind", "betas", "layout"), [("smpl", 10, "pickle"), ("smpl", 300, "npz"), ("smplh", 10, "pickle"), ("smplx", 300, "npz")]
)
def test_posed_vertices_agree_with_smplx(tmp_path, empty_scene, rng, kind, betas, layout):
    torch, lbs = pytest.importorskip("torch"), pytest.importorskip("smplx.lbs")
    path, data = _file(tmp_path, kind, betas, layout)
    armature = add_character(bpy.context, load(path), kind, shapes=6, correctives=True)
    (body,) = find_character_meshes(armature)
    names = get_joint_names(len(armature.data.bones))
    for _ in range(2):
        pose, shape = rng.normal(0, 0.3, (len(names), 3)), np.zeros(betas)
        shape[:6] = rng.uniform(-2.5, 2.5, 6)
        for n in range(6):
            body.data.shape_keys.key_blocks[f"Shape{n:03d}"].value = shape[n]
        fit_skeleton(bpy.context, armature)
        for name, quaternion in zip(names, matrix_to_quaternion(axis_angle_to_matrix(pose)), strict=True):
            armature.pose.bones[name].rotation_quaternion = quaternion
        bpy.context.view_layer.update()
        mesh = body.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
        found = np.empty((len(mesh.vertices), 3), np.float32)
        mesh.vertices.foreach_get("co", found.ravel())
        parents = data["kintree_table"][0].astype(np.int64)
        parents[0] = -1

        def tensor(value):
            return torch.tensor(value, dtype=torch.float64)

        wanted, _ = lbs.lbs(
            tensor(shape)[None],
            tensor(pose.reshape(1, -1)),
            tensor(data["v_template"])[None],
            tensor(data["shapedirs"]),
            tensor(data["posedirs"].reshape(-1, data["posedirs"].shape[2]).T),
            tensor(data["J_regressor"]),
            torch.tensor(parents),
            tensor(data["weights"]),
        )
        # Blender keeps vertices and bone matrices in single precision
        assert np.abs(found - wanted[0].numpy()).max() < 1e-4


def test_texture_coordinates_beside_the_file_and_unwrapped(tmp_path, empty_scene):
    path, data = _file(tmp_path, "smpl", 10, "npz")
    (body,) = find_character_meshes(add_character(bpy.context, load(path), "unwrapped"))
    uv = np.empty(len(body.data.loops) * 2, np.float32)
    body.data.uv_layers[0].data.foreach_get("uv", uv)
    assert np.ptp(uv) > 0.5
    rng = np.random.default_rng(0)
    coordinates = rng.random((len(data["v_template"]), 2)).round(4)
    lines = [f"vt {u} {v}" for u, v in coordinates] + [
        "f " + " ".join(f"{n + 1}/{n + 1}" for n in face) for face in data["f"].tolist()
    ]
    (tmp_path / "smpl_uv.obj").write_text("\n".join(lines))
    model = load(path)
    assert np.allclose(model.uv[model.uv_faces], coordinates[data["f"].astype(int)])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"f": np.array([[0, 1, 99999]], np.uint32)}, "faces"),
        ({"weights": np.zeros((3, 24))}, "weights"),
        ({"kintree_table": np.array([[5] + [0] * 23, range(24)])}, "tree"),
        ({"v_template": np.full((420, 3), np.nan)}, "not numbers"),
    ],
)
def test_damaged_bodies_are_one_sentence(tmp_path, change, word):
    path = tmp_path / "body.npz"
    np.savez(path, **(bodies.arrays() | change))
    with pytest.raises(BodyModelError, match=word):
        load(path)
