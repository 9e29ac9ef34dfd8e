"""What makes the surface a character: skin weights, joint regressor and pose correctives."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from latentman.shared.skeleton import SMPL_JOINTS, SMPL_PARENTS, get_children
from latentman.shared.vectors import normalise, smoothstep

from .surface import Skin, make_neighbour_average

#: half width in metres of the zone over which the skin passes from the parent to the joint
BLEND = {
    "hip": 0.075,
    "knee": 0.06,
    "ankle": 0.045,
    "foot": 0.03,
    "collar": 0.07,
    "shoulder": 0.07,
    "elbow": 0.05,
    "wrist": 0.035,
    "hand": 0.025,
    "spine1": 0.08,
    "spine2": 0.06,
    "spine3": 0.05,
    "neck": 0.05,
    "head": 0.045,
}
#: parts whose skin a joint may move
REACH = {
    "hip": ("torso", "leg", "foot"),
    "knee": ("leg", "foot"),
    "ankle": ("leg", "foot"),
    "foot": ("foot",),
    "collar": ("torso", "arm", "palm", "finger", "thumb"),
    "shoulder": ("torso", "arm", "palm", "finger", "thumb"),
    "elbow": ("arm", "palm", "finger", "thumb"),
    "wrist": ("arm", "palm", "finger", "thumb"),
    "hand": ("palm", "finger", "thumb"),
    "head": ("head", "torso"),
}
CORRECTIVE_SAMPLES, MAX_INFLUENCES = 24, 4


def _find_reachable(skin: Skin, name: str) -> np.ndarray:
    side, _, part = name.partition("_")
    part = part or side
    allowed = REACH.get(part)
    if allowed is None:
        return np.ones(len(skin.points), bool)
    suffix = {"left": ".L", "right": ".R"}.get(side, "")
    columns = [
        n
        for n, label in enumerate(skin.names)
        if label.startswith(allowed) and ("." not in label or label.endswith(suffix or label[-2:]))
    ]
    return skin.parts[:, columns].any(1)


def compute_skin_weights(skin: Skin, joints: np.ndarray) -> np.ndarray:
    """(V, 24) rows that sum to 1 with at most four influences.

    Each joint moves what lies beyond a plane through it, with a smooth transition around the plane, except for what its children
    move.
    """
    kids = get_children(SMPL_PARENTS)
    beyond = np.ones((len(skin.points), len(SMPL_JOINTS)))
    for joint, name in enumerate(SMPL_JOINTS[1:], start=1):
        parent = SMPL_PARENTS[joint]
        towards = joints[kids[joint]].mean(0) if kids[joint] else 2 * joints[joint] - joints[parent]
        outgoing = towards - joints[joint]
        part = name.partition("_")[2] or name
        if part == "hip":
            side = np.sign(joints[joint, 0])
            normal = np.array([0.55 * side, -1.0, 0.0])
        elif part == "collar":
            normal = np.array([np.sign(joints[joint, 0]), 0.35, 0.0])
        elif part in ("elbow", "shoulder", "wrist", "hand"):
            normal = np.array([np.sign(joints[joint, 0]), 0.0, 0.0])
        elif part == "foot":
            normal = np.array([0.0, 0.0, 1.0])
        elif part == "ankle":
            normal = np.array([0.0, -1.0, 0.35])
        else:
            normal = outgoing
        signed = (skin.points - joints[joint]) @ normalise(normal)
        own = smoothstep(0.5 + signed / (2 * BLEND[part]))
        beyond[:, joint] = beyond[:, parent] * own * _find_reachable(skin, name)
    weights = beyond.copy()
    for joint, kid in enumerate(kids):
        weights[:, joint] -= beyond[:, kid].sum(1) if kid else 0.0
    weights = np.clip(weights, 0, None)
    average = make_neighbour_average(skin.quads, len(skin.points))
    for _ in range(6):
        weights = 0.5 * weights + 0.5 * (average @ weights)
    floor = np.sort(weights, 1)[:, -MAX_INFLUENCES][:, None]
    weights = np.where((weights >= floor) & (weights > 1e-3), weights, 0.0)
    return weights / weights.sum(1, keepdims=True)


def compute_joint_regressor(points: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(24, V) non-negative rows that sum to 1 and give each joint from the vertices around it."""
    tree = cKDTree(points)
    out = np.zeros((len(joints), len(points)))
    for row, joint in enumerate(joints):
        for count in (60, 120, 240, 480, 960):
            _, near = tree.query(joint, count)
            # the last row asks for weights that sum to 1; the faint identity spreads them over the neighbourhood
            system = np.concatenate([points[near].T - joint[:, None], np.ones((1, count)), 1e-3 * np.eye(count)])
            weights, _ = nnls(system, np.concatenate([[0, 0, 0, 1], np.zeros(count)]))
            weights /= weights.sum()
            if np.linalg.norm(weights @ points[near] - joint) < 2e-3:
                break
        out[row, near] = weights
    return out


def _make_dual_quaternions(rotation: Rotation, pivot: np.ndarray) -> np.ndarray:
    """(N, 8) dual quaternions of rotations about one pivot, scalar last."""
    real = rotation.as_quat()
    translation = pivot - rotation.apply(np.tile(pivot, (len(real), 1)))
    x, y, z, w = real.T
    tx, ty, tz = translation.T
    dual = 0.5 * np.stack(
        [tx * w + ty * z - tz * y, ty * w + tz * x - tx * z, tz * w + tx * y - ty * x, -tx * x - ty * y - tz * z], 1
    )
    return np.concatenate([real, dual], 1)


def _apply_dual(dq: np.ndarray, points: np.ndarray) -> np.ndarray:
    dq = dq / np.linalg.norm(dq[..., :4], axis=-1, keepdims=True)
    real, dual = dq[..., :4], dq[..., 4:]
    v, w = real[..., :3], real[..., 3:]
    turned = points + 2 * np.cross(v, np.cross(v, points) + w * points)
    moved = 2 * (w * dual[..., :3] - dual[..., 3:] * v + np.cross(v, dual[..., :3]))
    return turned + moved


def list_subtree(joint: int, kids: list[list[int]]) -> list[int]:
    """A joint and everything that moves with it."""
    return [joint] + [j for kid in kids[joint] for j in list_subtree(kid, kids)]


def fit_pose_correctives(points: np.ndarray, joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(V, 3, 207): the linear map from R - I of the 23 joints that best undoes the collapse of linear skinning.

    For every joint alone, random bends up to 100 degrees are skinned with dual quaternions, which keep the volume of a
    bend; half of the difference to linear blending (all of it would bulge), brought back to the rest pose, is fitted by
    least squares.
    """
    generator = np.random.default_rng(7)
    kids = get_children(SMPL_PARENTS)
    out = np.zeros((len(points), 3, 9 * (len(SMPL_JOINTS) - 1)))
    for joint in range(1, len(SMPL_JOINTS)):
        below = list_subtree(joint, kids)
        fraction = weights[:, below].sum(1)
        rows = np.flatnonzero((fraction > 0.01) & (fraction < 0.99))
        axis = generator.normal(size=(CORRECTIVE_SAMPLES, 3))
        angle = generator.uniform(0.2, np.radians(100), size=(CORRECTIVE_SAMPLES, 1))
        rotation = Rotation.from_rotvec(normalise(axis) * angle)
        matrices = rotation.as_matrix()
        p, s = points[rows], fraction[rows][None, :, None]
        moved = np.einsum("nij,vj->nvi", matrices, p - joints[joint]) + joints[joint]
        linear = s * moved + (1 - s) * p
        dq = _make_dual_quaternions(rotation, joints[joint])
        identity = np.array([0, 0, 0, 1.0, 0, 0, 0, 0])
        blended = s * dq[:, None] + (1 - s) * identity
        volume = _apply_dual(blended, np.broadcast_to(p, linear.shape))
        # undo the linear blend's matrix, which the corrective goes through before it is seen
        blend = s[..., None] * matrices[:, None] + (1 - s[..., None]) * np.eye(3)
        wanted = np.linalg.solve(blend + 1e-3 * np.eye(3), 0.5 * (volume - linear)[..., None])[..., 0]
        features = (matrices - np.eye(3)).reshape(CORRECTIVE_SAMPLES, 9)
        ridge = np.concatenate([features, 0.1 * np.eye(9)])
        target = np.concatenate([wanted.reshape(CORRECTIVE_SAMPLES, -1), np.zeros((9, 3 * len(rows)))])
        solution = np.linalg.lstsq(ridge, target, rcond=None)[0]
        out[rows, :, 9 * (joint - 1) : 9 * joint] = solution.T.reshape(len(rows), 3, 9)
    out[np.abs(out) < 2e-4] = 0.0
    return out
