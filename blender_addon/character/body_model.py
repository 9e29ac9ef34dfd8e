"""SMPL body model files: reading them, and skinning in numpy (Loper et al. 2015).

Metres, Y up, facing +Z, left = +X, T-pose. The root rotates about the pelvis: pelvis_world = J0(beta) + translation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .unpickling import load_pickle, read_plain_arrays, to_array

MANNEQUIN = Path(__file__).resolve().parent / "data" / "mannequin.npz"


class BodyModelError(ValueError):
    """The file is not a usable body model; the message is one sentence for the user."""


@dataclass(frozen=True)
class BodyModel:
    """An SMPL-type body; floats are float64, indices int64.

    ``v_template`` (V, 3) metres, ``faces`` (F, 3), ``weights`` (V, J), ``joint_regressor`` (J, V), ``parents`` (J,) with -1 at
    the root, ``shapedirs`` (V, 3, B), ``posedirs`` (V, 3, 9(J-1)); ``uv`` (T, 2) and ``uv_faces`` (F, 3) or None.
    """

    name: str
    v_template: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    joint_regressor: np.ndarray
    parents: tuple[int, ...]
    shapedirs: np.ndarray
    posedirs: np.ndarray
    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None

    def shape_vertices(self, betas: np.ndarray) -> np.ndarray:
        """(V, 3) rest-pose vertices for up to B shape coefficients (betas)."""
        return self.v_template + self.shapedirs[..., : len(betas)] @ betas

    def regress_joints(self, vertices: np.ndarray) -> np.ndarray:
        """(J, 3) joints of rest-pose vertices."""
        return self.joint_regressor @ vertices

    def pose_vertices(self, rotations: np.ndarray, betas: np.ndarray, translation: np.ndarray) -> np.ndarray:
        """(V, 3) vertices for local joint rotation matrices (J, 3, 3), shape coefficients and a translation (3,)."""
        vertices = self.shape_vertices(betas)
        joints = self.regress_joints(vertices)
        vertices = vertices + self.posedirs @ (rotations[1:] - np.eye(3)).ravel()
        world, positions = np.empty_like(rotations), np.empty((len(rotations), 3))
        for joint, parent in enumerate(self.parents):
            if parent < 0:
                world[joint], positions[joint] = rotations[joint], joints[joint]
            else:
                world[joint] = world[parent] @ rotations[joint]
                positions[joint] = world[parent] @ (joints[joint] - joints[parent]) + positions[parent]
        offset = positions - np.einsum("jab,jb->ja", world, joints)
        blend = np.tensordot(self.weights, world, 1)
        return np.einsum("vab,vb->va", blend, vertices) + self.weights @ offset + translation


def load(path: Path | str) -> BodyModel:
    """Read a ``.npz`` or ``.pkl`` body model.

    Raises ``BodyModelError`` when the file is missing or damaged, asks for foreign code, or lacks a part of the layout.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                data: Any = read_plain_arrays(archive)
        else:
            data = load_pickle(path.read_bytes())
    except FileNotFoundError:
        raise BodyModelError(f"There is no body model at {path}; check the path.") from None
    except Exception as error:
        raise BodyModelError(f"{path.name} cannot be read as a body model: {error}.") from error
    if not isinstance(data, dict):
        raise BodyModelError(f"{path.name} does not contain a body model; choose an SMPL .pkl or .npz file.")
    model = from_arrays(path.stem, data)
    beside = path.with_name("smpl_uv.obj")
    if model.uv is None and beside.exists():
        uv = read_uv(beside, model.faces)
        model = replace(model, uv=uv[0], uv_faces=uv[1]) if uv else model
    return model


def read_uv(path: Path, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """``(vt (T, 2), triangles (F, 3))`` of an OBJ with the same faces in the same order; None for any other mesh."""
    vt, corners = [], []
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if words[:1] == ["vt"]:
                vt.append([float(words[1]), float(words[2])])
            elif words[:1] == ["f"]:
                corners.append([[int(n) for n in word.split("/")[:2]] for word in words[1:4]])
        table = np.array(corners, np.int64)
    except (OSError, ValueError, IndexError):
        return None
    if table.shape != (len(faces), 3, 2) or not np.array_equal(table[..., 0] - 1, faces):
        return None
    if table[..., 1].min() < 1 or table[..., 1].max() > len(vt):
        return None
    return np.array(vt), table[..., 1] - 1


def from_arrays(name: str, data: dict[str, Any]) -> BodyModel:
    """A validated model from the arrays of an SMPL file, under their published names and aliases.

    Raises ``BodyModelError`` for missing or damaged arrays and for shapes that do not fit together.
    """

    def get_array(*names: str) -> np.ndarray:
        for key in names:
            if key in data:
                try:
                    return np.asarray(to_array(data[key]))
                except ValueError as error:
                    raise BodyModelError(f"{name}: '{key}' cannot be read: {error}.") from error
        raise BodyModelError(f"{name} lacks '{names[0]}', so it is not a complete SMPL file; download it again.")

    template = get_array("v_template", "template_v").astype(np.float64)
    count = len(template)
    # unsigned files mark the root's parent with the largest number
    table = get_array("kintree_table").astype(np.int64)[0]
    parents = tuple(int(p) if 0 <= p < len(table) else -1 for p in table)
    shapes = get_array("shapedirs", "shape_dirs").astype(np.float64)
    poses = get_array("posedirs", "blendshapes").astype(np.float64)
    weights = get_array("weights").astype(np.float64)
    regressor = get_array("J_regressor").astype(np.float64)
    joints = len(parents)
    expected = {
        "v_template": (template.shape, (count, 3)),
        "weights": (weights.shape, (count, joints)),
        "J_regressor": (regressor.shape, (joints, count)),
        "posedirs": (poses.shape, (count, 3, 9 * (joints - 1))),
        "shapedirs": (shapes.shape[:2], (count, 3)),
    }
    for key, (found, wanted) in expected.items():
        if found != wanted:
            raise BodyModelError(f"{name}: '{key}' has the shape {found}, expected {wanted}; the file is damaged.")
    if not all(np.isfinite(a).all() for a in (template, weights, regressor, shapes, poses)):
        raise BodyModelError(f"{name} contains values that are not numbers; the file is damaged.")
    faces = get_array("f", "faces").astype(np.int64)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.min(initial=0) < 0 or faces.max(initial=0) >= count:
        raise BodyModelError(f"{name}: its faces do not fit its {count} vertices; the file is damaged.")
    if parents[0] != -1 or any(not -1 < p < n for n, p in enumerate(parents) if n):
        raise BodyModelError(f"{name}: its joints do not form a tree that starts at the pelvis; the file is damaged.")
    uv, uv_faces = None, None
    if "vt" in data and "ft" in data:
        uv, uv_faces = get_array("vt").astype(np.float64), get_array("ft").astype(np.int64)
    return BodyModel(name, template, faces, weights, regressor, parents, shapes, poses, uv, uv_faces)
