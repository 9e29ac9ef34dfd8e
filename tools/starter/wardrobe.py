"""Clothes as functions of the surface point: which colour the mannequin has at a rest position.

Rest positions are metres with the pelvis joint as origin, Y up, facing +Z, as in the mannequin's file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentman.backend.metrics.named_colours import PALETTE, WAIST

SKIN = ((0.93, 0.75, 0.63), (0.80, 0.58, 0.44), (0.58, 0.38, 0.26), (0.36, 0.23, 0.16))
HAIR = {
    "black": (0.06, 0.05, 0.05),
    "brown": (0.27, 0.16, 0.09),
    "blond": (0.85, 0.70, 0.38),
    "red": (0.60, 0.22, 0.08),
    "grey": (0.60, 0.60, 0.60),
}
PATTERNS = ("plain", "striped", "checked", "dotted", "camouflage")
FOOTWEAR = ("shoes", "boots")
HEADGEAR = ("helmet", "cap")
SUITS = ("astronaut", "robot", "skeleton", "knight", "soldier")

WRIST, SHOULDER_SEAM, NECK = 0.69, 0.185, 0.515


@dataclass(frozen=True)
class Garment:
    """A named piece of clothing: ``kind`` from ``TOPS``, ``BOTTOMS``, ``FOOTWEAR``, ``HEADGEAR`` or gloves, palette
    ``colour``, ``pattern``; camouflage has its own colours."""

    kind: str
    colour: str
    pattern: str = "plain"


@dataclass(frozen=True)
class Outfit:
    """What a character wears. ``suit`` replaces the garments and is None for an ordinary person."""

    suit: str | None
    suit_colour: str
    top: Garment
    bottom: Garment
    footwear: Garment
    hair: str
    skin: int
    gloves: Garment | None = None
    headgear: Garment | None = None


def apply_pattern(base: np.ndarray, rest: np.ndarray, pattern: str) -> np.ndarray:
    """Base colour (3,) -> colours (N, 3)."""
    x, y, z = rest.T
    other = base * 0.35 if base.mean() > 0.6 else base * 0.35 + 0.6
    if pattern == "camouflage":
        return _make_camouflage(rest)
    if pattern == "striped":
        # stripes run round trunk and limbs alike: across the arms they follow x
        along = np.where((np.abs(x) > 0.2) & (y > 0.3), np.abs(x), y)
        use = (along / 0.075) % 1.0 < 0.5
    elif pattern == "checked":
        use = (((x / 0.07) % 1.0 < 0.5) != ((y / 0.07) % 1.0 < 0.5)) != ((z / 0.07) % 1.0 < 0.5)
    elif pattern == "dotted":
        cell = np.stack([x, y, z], 1) / 0.075
        use = ((cell - np.round(cell))[:, :2] ** 2).sum(1) < 0.075
    else:
        return np.broadcast_to(base, rest.shape).copy()
    return np.where(use[:, None], other, base)


def _make_camouflage(rest: np.ndarray) -> np.ndarray:
    colours = np.array([[0.25, 0.30, 0.16], [0.42, 0.42, 0.26], [0.16, 0.16, 0.10], [0.33, 0.24, 0.14]])
    x, y, z = rest.T * 21.0
    a = np.sin(x + 1.7 * np.sin(y * 0.9)) + np.sin(1.3 * y + 1.9 * np.sin(z))
    b = np.sin(1.1 * x - 1.4 * np.sin(z * 1.2)) + np.sin(0.9 * y - 2.0 * np.sin(x * 0.7))
    return colours[(a > 0).astype(int) * 2 + (b > 0).astype(int)]


def _find_seams(rest: np.ndarray, pitch: float, width: float) -> np.ndarray:
    along = np.where((np.abs(rest[:, 0]) > 0.2) & (rest[:, 1] > 0.3), np.abs(rest[:, 0]), rest[:, 1])
    return (along / pitch) % 1.0 < width / pitch


def _colour_suit(rest: np.ndarray, outfit: Outfit) -> np.ndarray:
    x, y, z = rest.T
    arm = (np.abs(x) > 0.2) & (y > 0.3)
    head, face = y > NECK + 0.03, (y > 0.585) & (z > 0.035)
    base = np.array(PALETTE[outfit.suit_colour])
    out = np.broadcast_to(base, rest.shape).copy()
    if outfit.suit == "astronaut":
        out[_find_seams(rest, 0.16, 0.016)] *= 0.55
        chest = (np.abs(x) < 0.09) & (y > 0.24) & (y < 0.40) & (z > 0.04)
        out[chest] = (0.25, 0.27, 0.32)
        out[face] = (0.75, 0.52, 0.12)
        out[(y < -0.84) | (np.abs(x) > WRIST)] *= 0.6
    elif outfit.suit == "robot":
        out *= 0.95
        out[_find_seams(rest, 0.11, 0.022)] = (0.10, 0.11, 0.13)
        out[face] = (0.08, 0.09, 0.10)
        out[face & (np.abs(y - 0.68) < 0.02)] = (0.15, 0.9, 0.95)
        out[(np.abs(x) < 0.05) & (np.abs(y - 0.33) < 0.05) & (z > 0)] = (0.15, 0.9, 0.95)
    elif outfit.suit == "skeleton":
        out[:] = (0.05, 0.05, 0.06)
        bone = (np.abs(x) < 0.022) & (y > -0.02) & (y < NECK)
        bone |= (np.abs(x) < 0.12) & (y > 0.16) & (y < 0.44) & ((y / 0.055) % 1.0 < 0.45)
        bone |= arm & (np.abs(y - 0.46) < 0.022)
        bone |= (y < -0.06) & (np.abs(np.abs(x) - 0.088) < 0.022)
        bone |= (np.abs(x) < 0.13) & (np.abs(y - 0.0) < 0.04)
        bone |= head & ~((np.abs(np.abs(x) - 0.032) < 0.018) & (np.abs(y - 0.69) < 0.02) & (z > 0))
        out[bone | (np.abs(x) > WRIST) | (y < -0.86)] = (0.92, 0.91, 0.85)
    elif outfit.suit == "knight":
        out[:] = (0.62, 0.64, 0.68)
        out[_find_seams(rest, 0.085, 0.014)] = (0.22, 0.23, 0.26)
        tabard = (np.abs(x) < 0.13) & (y > -0.16) & (y < 0.43)
        out[tabard] = base
        out[face & (np.abs(y - 0.69) < 0.016)] = (0.04, 0.04, 0.05)
    else:
        out = _make_camouflage(rest)
        out[(np.abs(x) > WRIST) | (head & face)] = SKIN[outfit.skin]
        out[y < -0.76] = (0.09, 0.08, 0.07)
        out[(y > 0.69) | (head & ~face)] = (0.23, 0.27, 0.14)
    return out


def _find_top(rest: np.ndarray, kind: str) -> np.ndarray:
    x, y, _ = rest.T
    arm, reach = (np.abs(x) > SHOULDER_SEAM) & (y > 0.3), np.abs(x)
    sleeve = {"T-shirt": 0.345, "vest": 0.0}.get(kind, WRIST)
    low = -0.03 if kind in ("jacket", "sweater") else WAIST
    return ((y >= low) & (y < NECK) & ~arm) | (arm & (reach < sleeve))


def _find_bottom(rest: np.ndarray, kind: str) -> np.ndarray:
    x, y, _ = rest.T
    hem = {"shorts": -0.42, "skirt": -0.36}.get(kind, -0.84)
    return (y < WAIST) & (y > hem) & ~((np.abs(x) > SHOULDER_SEAM) & (y > 0.3))


def find_garments(rest: np.ndarray, outfit: Outfit) -> dict[str, np.ndarray]:
    """Where the ``top`` and the ``bottom`` of an ordinary person show: (N,) bool at rest positions (N, 3)."""
    upper = _find_top(rest, outfit.top.kind)
    boots = rest[:, 1] < (-0.62 if outfit.footwear.kind == "boots" else -0.855)
    return {"top": upper, "bottom": _find_bottom(rest, outfit.bottom.kind) & ~upper & ~boots}


def compute_albedo(rest: np.ndarray, outfit: Outfit) -> np.ndarray:
    """Surface colour (N, 3) in [0, 1] (display values) at rest positions (N, 3)."""
    if outfit.suit:
        return _colour_suit(rest, outfit)
    x, y, z = rest.T
    out = np.broadcast_to(np.array(SKIN[outfit.skin]), rest.shape).copy()
    top = np.array(PALETTE[outfit.top.colour])
    bottom = np.array(PALETTE[outfit.bottom.colour])
    lower, upper = _find_bottom(rest, outfit.bottom.kind), _find_top(rest, outfit.top.kind)
    out[lower] = apply_pattern(bottom, rest, outfit.bottom.pattern)[lower]
    out[upper] = apply_pattern(top, rest, outfit.top.pattern)[upper]
    if outfit.top.kind == "jacket":
        opening = (np.abs(x) < 0.035) & (z > 0) & upper
        out[opening] = (0.85, 0.85, 0.85) if top.mean() < 0.5 else (0.15, 0.15, 0.16)
    out[y < (-0.62 if outfit.footwear.kind == "boots" else -0.855)] = PALETTE[outfit.footwear.colour]
    if outfit.gloves:
        out[np.abs(x) > WRIST] = PALETTE[outfit.gloves.colour]
    hairy = (y > 0.735) | ((y > 0.60) & (z < 0.012) & (np.abs(x) < 0.2))
    out[hairy] = HAIR[outfit.hair]
    eyes = (np.abs(np.abs(x) - 0.03) < 0.011) & (np.abs(y - 0.695) < 0.008) & (z > 0.05)
    mouth = (np.abs(x) < 0.022) & (np.abs(y - 0.632) < 0.006) & (z > 0.05)
    out[eyes] = (0.08, 0.06, 0.05)
    out[mouth] *= (0.8, 0.45, 0.45)
    if outfit.headgear:
        whole = outfit.headgear.kind == "helmet"
        cover = (y > (0.715 if whole else 0.735)) | (whole & (y > 0.59) & (z < 0.03) & (np.abs(x) < 0.2))
        out[cover] = PALETTE[outfit.headgear.colour]
    return out


def get_shininess(outfit: Outfit) -> float:
    """Strength of the highlight, 0..1."""
    return {"robot": 0.5, "knight": 0.6, "astronaut": 0.2}.get(outfit.suit or "", 0.06)
