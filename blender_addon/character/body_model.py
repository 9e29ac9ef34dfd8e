"""SMPL body model files: reading them, and skinning in numpy (Loper et al. 2015).

Metres, Y up, facing +Z, left = +X, T-pose. The root rotates about the pelvis: pelvis_world = J0(beta) + translation.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...shared.files import read_file
from ...shared.npy import read_plain_npz
from .unpickling import load_pickle, to_array

#: bytes of a file; SMPL-X with 400 shapes has 0.5 GB
MAX_BYTES = 2 << 30
#: an archive may unpack to this many times its size, and ``FREE`` bytes more
RATIO, FREE = 8, 64 << 20
#: joints of a body; metres from its origin to a vertex
MAX_JOINTS, MAX_METRES = 1024, 1e4
#: bytes of a mesh with texture coordinates; SMPL-X's has 1.5 MB
MAX_OBJ_BYTES = 32 << 20
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
        content = read_file(path, MAX_BYTES)
        data: Any = read_plain_npz(content, RATIO, FREE) if path.suffix.lower() == ".npz" else load_pickle(content)
    except FileNotFoundError:
        raise BodyModelError(f"There is no body model at {path}; check the path.") from None
    except OSError as error:
        raise BodyModelError(f"{path.name} cannot be read as a body model: {error.strerror or error}.") from error
    except (ValueError, MemoryError) as error:
        reason = str(error).rstrip(".") or "there is not enough memory"
        raise BodyModelError(f"{path.name} cannot be read as a body model: {reason}.") from error
    del content
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
    vt: list[list[float]] = []
    corners: list[list[list[int]]] = []
    try:
        # the lines of a mesh with other faces are not even collected
        for line in io.StringIO(read_file(path, MAX_OBJ_BYTES).decode("utf-8", "replace")):
            words = line.split(maxsplit=16)
            if words[:1] == ["vt"] and len(vt) <= 3 * len(faces):
                vt.append([float(words[1]), float(words[2])])
            elif words[:1] == ["f"] and len(corners) <= len(faces):
                corners.append([[int(n) for n in word.split("/", 2)[:2]] for word in words[1:4]])
        table, places = np.array(corners, np.int64), np.array(vt, np.float64).reshape(-1, 2)
    except (OSError, ValueError, IndexError, OverflowError):
        return None
    if table.shape != (len(faces), 3, 2) or not np.array_equal(table[..., 0] - 1, faces):
        return None
    if not table.size or table[..., 1].min() < 1 or table[..., 1].max() > len(places) or not np.isfinite(places).all():
        return None
    return places, table[..., 1] - 1


def from_arrays(name: str, data: dict[str, Any]) -> BodyModel:
    """A validated model from the arrays of an SMPL file, under their published names and aliases.

    Raises ``BodyModelError`` for missing or damaged arrays and for shapes that do not fit together.
    """

    def get_array(*names: str) -> np.ndarray:
        """The raw numbers under the first of these names that is there."""
        for key in names:
            if key in data:
                try:
                    found = to_array(data[key])
                except (ValueError, MemoryError) as error:
                    raise BodyModelError(f"{name}: '{key}' cannot be read: {error}.") from error
                if found.dtype.kind not in "fiu":
                    raise BodyModelError(f"{name}: '{key}' does not contain numbers; the file is damaged.")
                return found
        raise BodyModelError(f"{name} lacks '{names[0]}', so it is not a complete SMPL file; download it again.")

    def check_shape(key: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        if found != wanted:
            raise BodyModelError(f"{name}: '{key}' has the shape {found}, expected {wanted}; the file is damaged.")

    # shapes first: nothing is converted that does not fit a body
    template, table = get_array("v_template", "template_v"), get_array("kintree_table")
    shapes, poses = get_array("shapedirs", "shape_dirs"), get_array("posedirs", "blendshapes")
    weights, regressor = get_array("weights"), get_array("J_regressor")
    faces = get_array("f", "faces")
    if template.ndim != 2 or not len(template) or table.ndim != 2 or len(table) < 1 or not 0 < table.shape[1] <= MAX_JOINTS:
        raise BodyModelError(f"{name} has {template.shape} vertices and a tree of {table.shape} joints; the file is damaged.")
    count, joints = len(template), table.shape[1]
    check_shape("v_template", template.shape, (count, 3))
    check_shape("weights", weights.shape, (count, joints))
    check_shape("J_regressor", regressor.shape, (joints, count))
    check_shape("posedirs", poses.shape, (count, 3, 9 * (joints - 1)))
    check_shape("shapedirs", shapes.shape, (count, 3, *shapes.shape[2:3]))
    if shapes.ndim != 3:
        raise BodyModelError(f"{name}: 'shapedirs' has the shape {shapes.shape}; the file is damaged.")
    if not all(np.isfinite(a).all() for a in (template, weights, regressor, shapes, poses)):
        raise BodyModelError(f"{name} contains values that are not numbers; the file is damaged.")
    if max(float(np.abs(a).max(initial=0)) for a in (template, weights, regressor, shapes, poses)) > MAX_METRES:
        raise BodyModelError(f"{name} contains values that no body has; the file is damaged, or not in metres.")
    faces = _to_indices(faces)
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces) or faces.min() < 0 or faces.max() >= count:
        raise BodyModelError(f"{name}: its faces do not fit its {count} vertices; the file is damaged.")
    if (faces == np.roll(faces, 1, 1)).any():
        raise BodyModelError(f"{name}: a face has the same vertex twice; the file is damaged.")
    # unsigned files mark the root's parent with the largest number
    parents = tuple(int(p) if 0 <= p < joints else -1 for p in table[0].tolist())
    if parents[0] != -1 or any(not -1 < p < n for n, p in enumerate(parents) if n):
        raise BodyModelError(f"{name}: its joints do not form a tree that starts at the pelvis; the file is damaged.")
    uv, uv_faces = None, None
    if "vt" in data and "ft" in data:
        uv, uv_faces = get_array("vt"), _to_indices(get_array("ft"))
        if uv.ndim != 2 or uv.shape[1] != 2 or not len(uv) or not np.isfinite(uv).all():
            raise BodyModelError(f"{name}: its texture coordinates have the shape {uv.shape}; the file is damaged.")
        if uv_faces.shape != faces.shape or uv_faces.min() < 0 or uv_faces.max() >= len(uv):
            raise BodyModelError(f"{name}: its texture coordinates do not fit its faces; the file is damaged.")
        uv = _to_floats(uv)
    return BodyModel(
        name,
        _to_floats(template),
        faces,
        _to_floats(weights),
        _to_floats(regressor),
        parents,
        _to_floats(shapes),
        _to_floats(poses),
        uv,
        uv_faces,
    )


def _to_indices(array: np.ndarray) -> np.ndarray:
    """Whole numbers; -1 for what is none."""
    if array.dtype.kind == "f":
        array = np.where(np.abs(array) < 1 << 52, array, -1)
    return array.astype(np.int64)


def _to_floats(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64, copy=False)
