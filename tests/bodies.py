"""Small synthetic bodies in every layout that SMPL files are published in."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np

from latentman.blender_addon.character.joints import get_joint_names
from latentman.shared.skeleton import SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS

COUNTS = {"smpl": 24, "smplh": 52, "smplx": 55}


def arrays(kind: str = "smpl", betas: int = 10, vertices: int = 420, seed: int = 0) -> dict[str, np.ndarray]:
    """A cloud of triangles round a skeleton, skinned to its two nearest joints, with random directions."""
    rng = np.random.default_rng(seed)
    count = COUNTS[kind]
    joints, parents = _skeleton(count)
    owner = rng.integers(count, size=vertices)
    points = joints[owner] + rng.normal(0, 0.05, (vertices, 3))
    distance = np.linalg.norm(points[:, None] - joints, axis=-1)
    nearest = np.argsort(distance, 1)[:, :2]
    weights = np.zeros((vertices, count))
    share = rng.uniform(0.3, 1.0, vertices)
    weights[np.arange(vertices), nearest[:, 0]] = share
    weights[np.arange(vertices), nearest[:, 1]] += 1 - share
    regressor = np.zeros((count, vertices))
    for joint in range(count):
        close = np.argsort(distance[:, joint])[:8]
        # weights that give the joint exactly: the smallest ones that sum to one
        system = np.vstack([points[close].T, np.ones(8)])
        regressor[joint, close] = np.linalg.lstsq(system, np.append(joints[joint], 1.0), rcond=None)[0]
    faces = np.arange(vertices // 3 * 3).reshape(-1, 3)
    table = np.array([parents, range(count)]).astype(np.uint32)
    return {
        "v_template": points,
        "f": faces.astype(np.uint32),
        "weights": weights,
        "J_regressor": regressor,
        "kintree_table": table,
        "shapedirs": rng.normal(0, 0.01, (vertices, 3, betas)),
        "posedirs": rng.normal(0, 0.004, (vertices, 3, 9 * (count - 1))),
    }


def _skeleton(count: int) -> tuple[np.ndarray, list[int]]:
    names = get_joint_names(count)
    joints, parents = [], []
    for n, name in enumerate(names):
        if n < 22 or count == 24:
            joints.append(SMPL_REST_JOINTS[n])
            parents.append(SMPL_PARENTS[n])
            continue
        side = 1.0 if "left" in name else -1.0
        if name == "jaw" or "eye" in name:
            parents.append(SMPL_JOINTS.index("head"))
            joints.append((0.03 * side * ("eye" in name), 0.68, 0.09))
        else:
            step = int(name[-1])
            parents.append(SMPL_JOINTS.index("left_wrist" if side > 0 else "right_wrist") if step == 1 else n - 1)
            joints.append((side * (0.78 + 0.03 * step), 0.46, 0.02 * ("thumb" in name)))
    return np.array(joints), parents


class _Chumpy:
    """Pickles like ``chumpy.ch.Ch``."""


def write_python2_pickle(path: Path, data: dict[str, np.ndarray]) -> None:
    """Protocol 2, shapedirs as chumpy, the regressor as a csc matrix."""
    from scipy import sparse

    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    _Chumpy.__module__, _Chumpy.__qualname__, _Chumpy.__name__ = "chumpy.ch", "Ch", "Ch"
    module.Ch = _Chumpy  # type: ignore[attr-defined]
    wrapped = _Chumpy()
    wrapped.x = data["shapedirs"]  # type: ignore[attr-defined]
    sys.modules |= {"chumpy": package, "chumpy.ch": module}
    try:
        path.write_bytes(
            pickle.dumps(data | {"shapedirs": wrapped, "J_regressor": sparse.csc_matrix(data["J_regressor"])}, protocol=2)
        )
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]
