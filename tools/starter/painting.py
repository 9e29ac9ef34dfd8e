"""The colours and the folds of a dressed mannequin, layer by layer.

Rest positions are metres with the pelvis joint as origin, Y up, facing +Z, as in the mannequin's file.
"""

from __future__ import annotations

import numpy as np

from latentman.backend.metrics.named_colours import PALETTE, WAIST

from .tailoring import GLOBE, HAIR_STYLES, Cut, Layer
from .wardrobe import HAIR, SKIN, Outfit, apply_pattern, compute_albedo

#: how far folds of cloth turn the normals, and by how much strands of hair change its brightness
FOLDS, STRANDS = 0.22, 0.16
#: highlights, where a layer has its own
SHINE = {Layer.HAIR: 0.14, Layer.VISOR: 0.8, Layer.EYES: 0.5, Layer.LIPS: 0.15, Layer.FOOTWEAR: 0.14, Layer.TRIM: 0.3}
CLOTH = (Layer.TOP, Layer.BOTTOM, Layer.GLOVES)
DARK, LIGHT = np.array([0.13, 0.13, 0.14]), np.array([0.88, 0.88, 0.86])


def _contrast(colour: np.ndarray) -> np.ndarray:
    return DARK if colour.mean() > 0.45 else LIGHT


def paint(rest: np.ndarray, layer: np.ndarray, outfit: Outfit, cut: Cut) -> np.ndarray:
    """(N, 3) colours in [0, 1] (display values) at rest positions (N, 3) of layers (N,)."""
    out = np.empty(rest.shape)
    for one in np.unique(layer):
        where = layer == one
        out[where] = _paint_layer(rest[where], Layer(int(one)), outfit, cut)
    return out


def _paint_layer(rest: np.ndarray, layer: Layer, outfit: Outfit, cut: Cut) -> np.ndarray:
    count = len(rest)
    skin = np.array(SKIN[outfit.skin])
    if layer in (Layer.BODY, Layer.SUIT):
        colours = compute_albedo(rest, outfit)
        if layer == Layer.BODY and outfit.suit in (None, "soldier"):
            _paint_face(colours, rest, outfit)
        return colours
    if layer == Layer.TOP:
        return _paint_top(rest, outfit)
    if layer == Layer.BOTTOM:
        return _paint_bottom(rest, outfit)
    if layer == Layer.FOOTWEAR:
        colour = np.array(PALETTE[outfit.footwear.colour])
        return np.where((rest[:, 1] < -0.945)[:, None], _contrast(colour), colour)
    if layer == Layer.GLOVES:
        return np.tile(PALETTE[outfit.gloves.colour] if outfit.gloves else skin, (count, 1))
    if layer == Layer.HAIR:
        return _paint_hair(rest, outfit, cut)
    if layer == Layer.HEADGEAR:
        assert outfit.headgear is not None
        return np.tile(PALETTE[outfit.headgear.colour], (count, 1))
    if layer == Layer.LIPS:
        return np.tile(skin * (0.85, 0.5, 0.5), (count, 1))
    if layer == Layer.EYES:
        return _paint_eyes(rest)
    if layer == Layer.VISOR and outfit.suit == "astronaut":
        towards = (rest - GLOBE) / 0.155
        glass = (towards[:, 2] > 0.5) & (np.abs(towards[:, 1]) < 0.55)
        return np.where(glass[:, None], (0.75, 0.52, 0.12), LIGHT * 0.95)
    if layer == Layer.VISOR:
        return np.tile((0.15, 0.9, 0.95), (count, 1))
    if layer == Layer.TRIM:
        if outfit.suit == "astronaut":
            return np.tile(LIGHT * 0.95, (count, 1))
        return np.tile((0.5, 0.52, 0.56) if outfit.suit == "knight" else DARK * 1.6, (count, 1))
    return np.tile(skin, (count, 1))


def _paint_face(colours: np.ndarray, rest: np.ndarray, outfit: Outfit) -> None:
    """Skin where the bare mannequin's face has eyes and a mouth, which are shapes of their own here; brows, and the hollows of the
    eyes."""
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    face = (z > 0.035) & (y > 0.61) & (y < 0.72) & (x < 0.06)
    skin = np.array(SKIN[outfit.skin])
    colours[face] = skin
    hollow = face & ((x - 0.029) ** 2 / 0.021**2 + (y - 0.704) ** 2 / 0.013**2 < 1)
    colours[hollow] = skin * 0.8
    brow = (np.abs(x - 0.03) < 0.019) & (np.abs(y - 0.7235 + 0.15 * np.abs(x - 0.026)) < 0.0035) & (z > 0.035)
    colours[brow] = np.array(HAIR[outfit.hair]) * 0.8
    cheek = face & ((x - 0.042) ** 2 + (y - 0.665) ** 2 < 0.017**2)
    colours[cheek] = skin * (1.0, 0.93, 0.92)


def _paint_eyes(rest: np.ndarray) -> np.ndarray:
    away = np.hypot(np.abs(rest[:, 0]) - 0.029, rest[:, 1] - 0.704)
    out = np.tile((0.93, 0.93, 0.92), (len(rest), 1))
    out[away < 0.0062] = (0.25, 0.2, 0.13)
    out[away < 0.0032] = (0.03, 0.03, 0.03)
    # the upper lid
    out[rest[:, 1] > 0.7092] = (0.1, 0.08, 0.07)
    return out


def _paint_top(rest: np.ndarray, outfit: Outfit) -> np.ndarray:
    x, y, z = rest.T
    colour = np.array(PALETTE[outfit.top.colour])
    out = apply_pattern(colour, rest, outfit.top.pattern)
    kind, middle = outfit.top.kind, (np.abs(x) < 0.3) & (z > 0)
    # a band around the neck's opening
    collar = (np.hypot(x, z + 0.018) < 0.098) & (y > 0.44)
    other = _contrast(colour)
    if kind == "jacket":
        out[middle & (np.abs(x) < 0.03)] = other
        out[middle & (np.abs(np.abs(x) - 0.036) < 0.006)] *= 0.6
        out[(np.abs(y - 0.12) < 0.005) & (np.abs(np.abs(x) - 0.1) < 0.04) & (z > 0)] *= 0.55
    elif kind == "shirt":
        out[middle & (np.abs(x) < 0.004)] *= 0.6
        out[middle & (x**2 + ((y % 0.07) - 0.035) ** 2 < 0.0065**2)] = other
        out[collar] = colour * 0.75 + 0.2
    elif kind == "sweater":
        ribbed = (y < 0.01) | (np.abs(x) > 0.65) | collar
        out[ribbed] *= (0.8 + 0.12 * np.sign(np.sin((x + z) * 420)))[ribbed, None]
    elif kind == "T-shirt":
        out[collar] *= 0.75
    return out


def _paint_bottom(rest: np.ndarray, outfit: Outfit) -> np.ndarray:
    x, y, z = rest.T
    colour = np.array(PALETTE[outfit.bottom.colour])
    out = apply_pattern(colour, rest, outfit.bottom.pattern)
    if outfit.bottom.kind != "skirt":
        belt = y > WAIST - 0.03
        out[belt] = DARK if colour.mean() > 0.3 else (0.35, 0.22, 0.12)
        out[belt & (np.abs(x) < 0.022) & (z > 0)] = (0.8, 0.72, 0.4)
    if outfit.bottom.kind == "jeans":
        out[(np.abs(z) < 0.004) & (y < WAIST - 0.03)] = colour * 0.5 + 0.25
        out[(np.abs(np.abs(x) - 0.09 - 0.04 * np.clip(-y / 0.1, 0, 1)) < 0.003) & (z > 0) & (y > -0.09) & (y < 0.02)] *= 0.55
    return out


def _paint_hair(rest: np.ndarray, outfit: Outfit, cut: Cut) -> np.ndarray:
    around = np.arctan2(rest[:, 0], -rest[:, 2])
    strands = np.sin(around * 37 + 3 * np.sin(rest[:, 1] * 19)) * 0.6 + np.sin(around * 83 + rest[:, 1] * 11) * 0.4
    if cut.hair == HAIR_STYLES[1]:
        strands = np.sin(rest @ [160.0, 90.0, 40.0]) * np.sin(rest @ [30.0, 150.0, 140.0])
    return np.clip(np.array(HAIR[outfit.hair]) * (1 + STRANDS * strands[:, None]), 0, 1)


def fold(rest: np.ndarray, layer: np.ndarray, seed: int) -> np.ndarray:
    """(N, 3) what folds of cloth add to the unit normals at rest positions (N, 3) of layers (N,); they are an outfit's own."""
    generator = np.random.default_rng((seed, 4))
    out = np.zeros(rest.shape)
    cloth = np.isin(layer, CLOTH)
    for scale in (14.0, 14.0, 27.0, 27.0, 48.0):
        direction = generator.normal(0, 1, 3) * (1.0, 0.55, 1.0)
        direction *= scale / np.linalg.norm(direction)
        wave = np.cos(rest[cloth] @ direction + generator.uniform(0, 6.28) + 0.8 * np.sin(rest[cloth] @ direction[[1, 2, 0]] * 0.4))
        out[cloth] += FOLDS * np.sqrt(14.0 / scale) * 0.5 * wave[:, None] * direction / scale
    return out


def get_shine(layer: np.ndarray, usual: float) -> np.ndarray:
    """(N,) the strength of the highlight, 0..1, of layers (N,); ``usual`` where a layer has none of its own."""
    out = np.full(len(layer), usual)
    for one, strength in SHINE.items():
        out[layer == one] = strength
    return out
