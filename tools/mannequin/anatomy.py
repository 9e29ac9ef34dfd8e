"""Joints and flesh: a skeleton in T-pose and the lofted solids around it, as an implicit function.

Lengths are metres with the floor at y = 0, Y up, facing +Z, left = +X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from scipy.interpolate import PchipInterpolator

from latentman.shared.skeleton import SMPL_JOINTS

LEFT_SIDE = {
    "hip": (0.078, 0.885, 0.0),
    "knee": (0.088, 0.485, 0.004),
    "ankle": (0.092, 0.075, -0.022),
    "foot": (0.100, 0.022, 0.112),
    "collar": (0.075, 1.405, -0.012),
    "shoulder": (0.185, 1.425, -0.012),
    "elbow": (0.450, 1.425, -0.018),
    "wrist": (0.712, 1.425, -0.006),
    "hand": (0.800, 1.425, 0.0),
}
MIDLINE = {
    "pelvis": (0.0, 0.965, 0.0),
    "spine1": (0.0, 1.085, -0.012),
    "spine2": (0.0, 1.222, -0.008),
    "spine3": (0.0, 1.280, -0.004),
    "neck": (0.0, 1.490, -0.018),
    "head": (0.0, 1.582, 0.010),
}


@dataclass(frozen=True)
class Proportions:
    """Factors on an average adult body; 1 everywhere is the template."""

    stature: float = 1.0
    girth: float = 1.0
    legs: float = 1.0
    torso: float = 1.0
    arms: float = 1.0
    shoulders: float = 1.0
    hips: float = 1.0
    muscle: float = 1.0
    belly: float = 1.0
    head: float = 1.0


#: what one unit of each shape coefficient changes, in the order of ``shapedirs``
SHAPE_STEPS = Proportions(
    stature=0.035,
    girth=0.06,
    legs=0.035,
    torso=0.035,
    arms=0.04,
    shoulders=0.05,
    hips=0.06,
    muscle=0.08,
    belly=0.12,
    head=0.035,
)


def make_shape_variant(index: int) -> Proportions:
    """The proportions at coefficient ``index`` = 1 and every other coefficient 0."""
    name = fields(Proportions)[index].name
    return replace(Proportions(), **{name: 1.0 + getattr(SHAPE_STEPS, name)})


class Warp:
    """Moves template points to other proportions: lengths stretch segment by segment, continuously."""

    def __init__(self, p: Proportions) -> None:
        leg_top, torso_top = LEFT_SIDE["hip"][1], MIDLINE["neck"][1]
        self._p = p
        self._heights = np.array([0.0, 0.075, leg_top, torso_top, 1.80])
        self._stretched = np.concatenate([[0.0], np.cumsum(np.diff(self._heights) * [1.0, p.legs, p.torso, p.head])])
        shoulder, wrist = LEFT_SIDE["shoulder"][0], LEFT_SIDE["wrist"][0]
        self._reach = np.array([0.0, shoulder, wrist, 1.0])
        self._reached = np.concatenate([[0.0], np.cumsum(np.diff(self._reach) * [p.shoulders, p.arms, 1.0])])

    def point(self, xyz: tuple[float, float, float]) -> np.ndarray:
        """Where a point of the template's joints or centre lines goes; (3,) float64."""
        x, y, z = xyz
        if y < 1.0:
            new_x = x * (1.0 + (self._p.hips - 1.0) * min(1.0, y / 0.885))
        elif y > MIDLINE["neck"][1]:
            new_x = x
        else:
            new_x = np.sign(x) * np.interp(abs(x), self._reach, self._reached)
        return np.array([new_x, np.interp(y, self._heights, self._stretched), z]) * self._p.stature


def place_joints(p: Proportions) -> np.ndarray:
    """(24, 3) float64 joint positions in SMPL's order."""
    warp = Warp(p)
    out = np.empty((len(SMPL_JOINTS), 3))
    for index, name in enumerate(SMPL_JOINTS):
        side, _, part = name.partition("_")
        if side in ("left", "right"):
            x, y, z = LEFT_SIDE[part]
            out[index] = warp.point((x if side == "left" else -x, y, z))
        else:
            out[index] = warp.point(MIDLINE[name])
    return out


@dataclass(frozen=True)
class Loft:
    """A solid swept along a straight axis with an elliptical section that changes along it.

    ``stations`` rows: position along the axis (m from ``start``), half size along ``side`` and along ``front``, and the
    section's offset along both. ``caps`` are the heights of the rounded ends.
    """

    group: str
    start: np.ndarray
    axis: np.ndarray
    side: np.ndarray
    front: np.ndarray
    stations: np.ndarray
    caps: tuple[float, float]
    blend: float
    _curves: PchipInterpolator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_curves", PchipInterpolator(self.stations[:, 0], self.stations[:, 1:], axis=0))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Approximate signed distance (N,) of points (N, 3); negative inside."""
        offset = points - self.start
        along = offset @ self.axis
        low, high = self.stations[0, 0], self.stations[-1, 0]
        section = self._curves(np.clip(along, low, high))
        u = offset @ self.side - section[:, 2]
        v = offset @ self.front - section[:, 3]
        radius = np.sqrt(section[:, 0] * section[:, 1])
        radial = radius * np.hypot(u / section[:, 0], v / section[:, 1])
        cap = np.where(along < low, self.caps[0], self.caps[1])
        excess = (np.clip(low - along, 0, None) + np.clip(along - high, 0, None)) * radius / cap
        return np.hypot(radial, excess) - radius


X, Y, Z = np.eye(3)


def _make_loft(
    group: str,
    start: np.ndarray,
    end: np.ndarray,
    side: np.ndarray,
    front: np.ndarray,
    rows: Sequence[Sequence[float]],
    caps: tuple[float, float],
    blend: float,
    p: Proportions,
    girth: float = 1.0,
) -> Loft:
    """A loft between warped points; the rows' first column is a fraction of the axis, the others metres."""
    stations = np.asarray(rows, dtype=float)
    direction = end - start
    length = np.linalg.norm(direction)
    direction = direction / length
    side = side - direction * (side @ direction)
    side /= np.linalg.norm(side)
    front_axis = np.cross(direction, side)
    if front_axis @ front < 0:
        front_axis = -front_axis
    scale = np.array([length, p.stature * girth, p.stature * girth, p.stature, p.stature])
    return Loft(group, start, direction, side, front_axis, stations * scale, caps, blend)


def make_solids(p: Proportions) -> list[Loft]:
    """Every solid of the body; ``group`` is the label of the polycube part it belongs to (``arm.L``, ``torso``, ..)."""
    warp = Warp(p)
    at = warp.point
    limb = p.girth * p.muscle
    hip_w = p.hips * p.girth
    chest_w = p.shoulders * p.girth
    out = [
        _make_loft(
            "torso",
            at((0, 0.87, 0)),
            at((0, 1.465, 0)),
            X,
            Z,
            [
                (0.00, 0.140 * hip_w, 0.100, 0, -0.004),
                (0.13, 0.166 * hip_w, 0.114, 0, -0.010),
                (0.28, 0.156 * hip_w, 0.106 * p.belly, 0, 0.000),
                (0.42, 0.138 * p.girth, 0.098 * p.belly, 0, 0.006),
                (0.58, 0.145 * p.girth, 0.104, 0, 0.004),
                (0.76, 0.160 * chest_w, 0.114 * p.muscle, 0, 0.000),
                (0.90, 0.150 * chest_w, 0.098, 0, -0.012),
                (1.00, 0.095 * chest_w, 0.072, 0, -0.020),
            ],
            (0.05, 0.03),
            0.02,
            p,
        ),
        _make_loft(
            "torso",
            at((0, 1.44, -0.022)),
            at((0, 1.60, 0.006)),
            X,
            Z,
            [(0.0, 0.064, 0.062, 0, 0), (0.5, 0.056, 0.058, 0, 0), (1.0, 0.056, 0.060, 0, 0)],
            (0.03, 0.03),
            0.05,
            p,
            p.girth,
        ),
        _make_loft(
            "head",
            at((0, 1.575, 0.0)),
            at((0, 1.745, 0.0)),
            X,
            Z,
            [
                (0.00, 0.040, 0.050, 0, 0.052),
                (0.16, 0.055, 0.070, 0, 0.038),
                (0.36, 0.066, 0.086, 0, 0.022),
                (0.60, 0.074, 0.096, 0, 0.010),
                (0.82, 0.075, 0.096, 0, 0.004),
                (1.00, 0.064, 0.084, 0, 0.000),
            ],
            (0.022, 0.048),
            0.03,
            p,
            p.head,
        ),
        _make_loft(
            "head",
            at((0, 1.634, 0.104)),
            at((0, 1.684, 0.090)),
            X,
            Z,
            [(0, 0.020, 0.022, 0, 0), (1, 0.012, 0.014, 0, 0)],
            (0.010, 0.02),
            0.024,
            p,
            p.head,
        ),
        _make_loft(
            "torso",
            at((-0.085, 1.335, 0.062)),
            at((0.085, 1.335, 0.062)),
            Y,
            Z,
            [(0, 0.052, 0.040, 0, 0), (0.5, 0.046, 0.030, 0, 0), (1, 0.052, 0.040, 0, 0)],
            (0.05, 0.05),
            0.05,
            p,
            p.girth * p.muscle,
        ),
    ]
    for sign, suffix in ((1.0, ".L"), (-1.0, ".R")):

        def side_at(x: float, y: float, z: float, sign: float = sign) -> np.ndarray:
            return at((sign * x, y, z))

        outward = X * sign
        out += [
            _make_loft(
                "torso",
                side_at(0.075, 0.925, -0.055),
                side_at(0.085, 0.865, -0.052),
                outward,
                Z,
                [(0, 0.070, 0.062, 0, 0), (1, 0.072, 0.066, 0, 0)],
                (0.06, 0.06),
                0.05,
                p,
                hip_w,
            ),
            _make_loft(
                "torso",
                side_at(0.03, 1.470, -0.024),
                side_at(0.165, 1.432, -0.014),
                Y,
                Z,
                [(0, 0.045, 0.052, 0, 0), (1, 0.050, 0.056, 0, 0)],
                (0.05, 0.05),
                0.05,
                p,
                p.muscle * p.girth,
            ),
            _make_loft(
                "leg" + suffix,
                side_at(0.086, 0.90, 0.0),
                side_at(0.092, 0.075, 0.0),
                outward,
                Z,
                [
                    (0.00, 0.082, 0.096, 0, 0.000),
                    (0.17, 0.079, 0.089, 0, 0.002),
                    (0.36, 0.067, 0.074, 0, 0.004),
                    (0.50, 0.056, 0.061, 0, 0.003),
                    (0.56, 0.052, 0.058, 0, -0.001),
                    (0.66, 0.055, 0.060, 0.003, -0.016),
                    (0.78, 0.045, 0.048, 0.001, -0.018),
                    (0.90, 0.034, 0.039, 0, -0.020),
                    (1.00, 0.035, 0.042, 0, -0.022),
                ],
                (0.06, 0.04),
                0.04,
                p,
                limb,
            ),
            _make_loft(
                "foot" + suffix,
                side_at(0.090, 0.036, -0.050),
                side_at(0.106, 0.022, 0.175),
                outward,
                Y,
                [
                    (0.00, 0.030, 0.038, 0, 0.002),
                    (0.25, 0.033, 0.044, 0, 0.004),
                    (0.50, 0.038, 0.035, 0, 0.004),
                    (0.78, 0.046, 0.024, 0, 0.000),
                    (1.00, 0.040, 0.017, 0, -0.002),
                ],
                (0.026, 0.026),
                0.035,
                p,
            ),
            _make_loft(
                "arm" + suffix,
                side_at(0.165, 1.425, -0.012),
                side_at(0.712, 1.425, -0.008),
                Y,
                Z,
                [
                    (0.00, 0.060, 0.060, 0, 0),
                    (0.12, 0.056, 0.056, 0.002, 0),
                    (0.30, 0.048, 0.049, 0, 0.002),
                    (0.46, 0.041, 0.041, 0, 0),
                    (0.53, 0.039, 0.040, 0, 0),
                    (0.64, 0.041, 0.042, 0, 0.002),
                    (0.82, 0.031, 0.034, 0, 0),
                    (1.00, 0.022, 0.029, 0, 0),
                ],
                (0.05, 0.02),
                0.045,
                p,
                limb,
            ),
            _make_loft(
                "palm" + suffix,
                side_at(0.715, 1.425, -0.002),
                side_at(0.805, 1.424, -0.002),
                Y,
                Z,
                [(0.0, 0.019, 0.030, 0, 0.000), (0.45, 0.017, 0.040, 0, 0.002), (1.0, 0.013, 0.042, 0, 0.000)],
                (0.012, 0.012),
                0.02,
                p,
            ),
        ]
        out += [
            _make_loft(
                f"{name}{suffix}",
                side_at(0.800, 1.424, z0),
                side_at(0.800 + length, 1.420, z1),
                Y,
                Z,
                [(0.0, 0.0105, 0.0105, 0, 0), (0.5, 0.0095, 0.0098, 0, 0), (0.92, 0.0078, 0.0082, 0, 0)],
                (0.01, 0.009),
                0.008,
                p,
            )
            for name, (z0, z1, length) in FINGERS.items()
        ]
        out.append(
            _make_loft(
                "thumb" + suffix,
                side_at(0.742, 1.418, 0.022),
                side_at(0.800, 1.404, 0.082),
                Y,
                Z,
                [(0.0, 0.0145, 0.017, 0, 0), (0.5, 0.012, 0.013, 0, 0), (0.92, 0.009, 0.010, 0, 0)],
                (0.012, 0.010),
                0.016,
                p,
            )
        )
    return out


#: knuckle z, tip z, length; finger k lies in the polycube's column k - 2
FINGERS = {
    "finger0": (-0.0315, -0.0450, 0.066),
    "finger1": (-0.0105, -0.0160, 0.086),
    "finger2": (0.0105, 0.0130, 0.094),
    "finger3": (0.0310, 0.0420, 0.084),
}
SMOOTH_FLOOR = 0.012


def compute_distance(points: np.ndarray, parts: list[Loft]) -> np.ndarray:
    """Smooth union of ``parts`` above the floor plane: approximate signed distance (N,) of points (N, 3)."""
    total = parts[0](points)
    for part in parts[1:]:
        value = part(points)
        overlap = np.clip(part.blend - np.abs(total - value), 0, None)
        total = np.minimum(total, value) - overlap**2 / (4 * part.blend)
    below = -points[:, 1]
    overlap = np.clip(SMOOTH_FLOOR - np.abs(total - below), 0, None)
    return np.maximum(total, below) + overlap**2 / (4 * SMOOTH_FLOOR)
