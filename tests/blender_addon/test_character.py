"""Body models: the mannequin, foreign and damaged files, and skinning against independent implementations."""

from __future__ import annotations

import pickle
import sys
import types

import bpy
import numpy as np
import pytest

from latentman.blender_addon.character.body_model import MANNEQUIN, BodyModelError, from_arrays, load
from latentman.blender_addon.rigging.characters import find_character_meshes
from latentman.shared.skeleton import SMPL_JOINTS


def _rotations(rng, count=24, angle=1.0):
    from latentman.blender_addon.motion.rotations import rotation_about_axis
    from latentman.shared.vectors import normalise

    return rotation_about_axis(normalise(rng.normal(size=(count, 3))), rng.uniform(0, angle, count))


def test_mannequin_is_closed_and_of_human_size(body_model):
    v, f = body_model.v_template, body_model.faces
    assert 6788 <= len(v) <= 7500
    edges, uses = np.unique(np.sort(np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]), 1), axis=0, return_counts=True)
    assert (uses == 2).all() and len(v) - len(edges) + len(f) == 2
    volume = np.einsum("ij,ij->", v[f[:, 0]], np.cross(v[f[:, 1]], v[f[:, 2]])) / 6
    assert 0.055 < volume < 0.085 and 1.6 < np.ptp(v[:, 1]) < 1.9
    assert np.allclose(body_model.weights.sum(1), 1, atol=1e-5) and (body_model.weights >= 0).all()


def test_mannequin_atlas_does_not_overlap(body_model):
    corners = body_model.uv[body_model.uv_faces]
    assert corners.min() >= 0 and corners.max() <= 1
    e1, e2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    assert (area > 0).all()
    # brute force: random points are in at most one triangle
    points = np.random.default_rng(0).random((400, 2))
    hits = np.zeros(len(points), int)
    for p_index, p in enumerate(points):
        d = p - corners[:, 0]
        b = (d[:, 0] * e2[:, 1] - d[:, 1] * e2[:, 0]) / area
        c = (e1[:, 0] * d[:, 1] - e1[:, 1] * d[:, 0]) / area
        hits[p_index] = ((b > 0) & (c > 0) & (b + c < 1)).sum()
    assert hits.max() == 1 and (hits == 1).mean() == pytest.approx(area.sum() / 2, abs=0.1)


def test_shape_directions_mean_something(body_model):
    def height(beta):
        return np.ptp(body_model.shape_vertices(np.eye(10)[beta] * 2)[:, 1])

    base = np.ptp(body_model.v_template[:, 1])
    assert height(0) > base * 1.04 and height(2) > base * 1.02
    heavy = body_model.shape_vertices(np.eye(10)[1] * 2)
    assert np.ptp(heavy[:, 0]) < base * 1.1 and heavy[:, 2].max() - heavy[:, 2].min() > np.ptp(body_model.v_template[:, 2])


def test_skinning_agrees_with_smplx(body_model, tmp_path, rng):
    smplx, torch = pytest.importorskip("smplx"), pytest.importorskip("torch")
    folder = tmp_path / "smpl"
    folder.mkdir()
    with np.load(MANNEQUIN) as data:
        arrays = {name: data[name] for name in data.files}
    arrays["shapedirs"] = arrays["shapedirs"].astype(np.float64)
    (folder / "SMPL_NEUTRAL.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    reference = smplx.create(str(tmp_path), "smpl", gender="neutral", dtype=torch.float64)
    for _ in range(3):
        axis_angle, betas, place = rng.normal(0, 0.4, (24, 3)), rng.normal(0, 1, 10), rng.normal(0, 1, 3)
        from latentman.blender_addon.motion.rotations import rotation_about_axis
        from latentman.shared.vectors import normalise

        matrices = rotation_about_axis(normalise(axis_angle), np.linalg.norm(axis_angle, axis=1))
        ours = body_model.pose_vertices(matrices, betas, place)
        theirs = reference(
            betas=torch.tensor(betas)[None],
            global_orient=torch.tensor(axis_angle[:1]),
            body_pose=torch.tensor(axis_angle[1:].reshape(1, -1)),
            transl=torch.tensor(place)[None],
        )
        assert np.abs(ours - theirs.vertices[0].numpy()).max() < 1e-5


def test_blender_poses_like_the_model(character, body_model, rng):
    rotations = _rotations(rng)
    from latentman.blender_addon.motion.rotations import matrix_to_quaternion

    for name, quaternion in zip(SMPL_JOINTS, matrix_to_quaternion(rotations), strict=True):
        character.pose.bones[name].rotation_quaternion = quaternion
    (body,) = find_character_meshes(character)
    body.data.shape_keys.key_blocks["Shape001"].value = 0.0
    graph = bpy.context.evaluated_depsgraph_get()
    bpy.context.view_layer.update()
    mesh = body.evaluated_get(graph).data
    found = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", found)
    plain = from_arrays(
        "plain",
        {
            "v_template": body_model.v_template,
            "f": body_model.faces,
            "weights": body_model.weights,
            "J_regressor": body_model.joint_regressor,
            "kintree_table": np.array([body_model.parents, range(24)]),
            "shapedirs": body_model.shapedirs,
            "posedirs": np.zeros_like(body_model.posedirs),
        },
    )
    assert np.abs(found.reshape(-1, 3) - plain.pose_vertices(rotations, np.zeros(10), np.zeros(3))).max() < 1e-4


def test_published_pickle_layout_is_read(body_model, tmp_path, monkeypatch):
    """Python-2 protocol, chumpy arrays, a csc regressor and an unsigned parent table, from stand-in modules."""
    sparse = pytest.importorskip("scipy.sparse")
    module = types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x):
            self.__dict__ = {"x": x}

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    table = np.array([body_model.parents, range(24)]).astype(np.int64)
    table[0, 0] = 4294967295
    path = tmp_path / "model.pkl"
    path.write_bytes(
        pickle.dumps(
            {
                "v_template": body_model.v_template,
                "f": body_model.faces.astype(np.uint32),
                "weights": body_model.weights,
                "J_regressor": sparse.csc_matrix(body_model.joint_regressor),
                "kintree_table": table,
                "shapedirs": Ch(body_model.shapedirs),
                "posedirs": body_model.posedirs,
            },
            protocol=2,
        )
    )
    found = load(path)
    assert found.parents[0] == -1 and np.array_equal(found.shapedirs, body_model.shapedirs)
    assert np.allclose(found.joint_regressor, body_model.joint_regressor)


def test_foreign_code_in_a_body_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"v_template": Evil()}, protocol=2))
    with pytest.raises(BodyModelError, match="do not need"):
        load(path)
    assert not (tmp_path / "pwned").exists()


def test_a_file_cut_in_half_is_one_sentence(tmp_path):
    path = tmp_path / "half.npz"
    path.write_bytes(MANNEQUIN.read_bytes()[: MANNEQUIN.stat().st_size // 2])
    with pytest.raises(BodyModelError, match=r"half.npz cannot be read"):
        load(path)
    with pytest.raises(BodyModelError, match="no body model"):
        load(tmp_path / "absent.npz")
