"""What the mannequin's own surface grows: hair, a face, garments and armour with a shape, from the outfit that is painted on it.

Where it is dressed so, the depth is that of what is shown. Rest positions are metres with the pelvis joint as origin, Y up, facing
+Z, as in the mannequin's file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from latentman.backend.metrics.named_colours import WAIST
from latentman.blender_addon.character.body_model import BodyModel
from latentman.shared.skeleton import JOINT_INDEX
from latentman.shared.vectors import smoothstep

from .sewing import Mannequin, Piece, make_ball, make_sheet, sew
from .wardrobe import NECK, SHOULDER_SEAM, WRIST, Garment, Outfit

HAIR_STYLES = ("short", "curly", "bob", "long", "ponytail", "bun")
#: chances that the mannequin is bare with everything painted on it, and that a garment lies as tight as paint
BARE, TIGHT = 0.2, 0.12
CROWN, NAPE = 0.735, 0.60
#: the middle of an astronaut's helmet
GLOBE = (0.0, 0.7, 0.012)


class Layer(IntEnum):
    """What a triangle belongs to."""

    BODY = 0
    TOP = 1
    BOTTOM = 2
    FOOTWEAR = 3
    GLOVES = 4
    HAIR = 5
    HEADGEAR = 6
    #: coloured as the suit is at the same rest position
    SUIT = 7
    SKIN = 8
    LIPS = 9
    EYES = 10
    VISOR = 11
    TRIM = 12


@dataclass(frozen=True)
class Cut:
    """How an outfit is made: the ``hair`` style, how far garments stand off (1 is usual), the ``length`` of hair and skirts (1 is
    usual), and which garments are ``tight``: painted on the body."""

    hair: str
    volume: float
    length: float
    tight: frozenset[str]


@dataclass(frozen=True, eq=False)
class Figure:
    """A dressed mannequin: ``body``, whose first vertices are the mannequin's, the position ``rest`` (V, 3) where each vertex is
    painted, and the ``layer`` (T,) of each triangle."""

    body: BodyModel
    rest: np.ndarray
    layer: np.ndarray


def sample_cut(generator: np.random.Generator) -> Cut | None:
    """How an outfit is made; None for a bare mannequin."""
    bare = generator.random() < BARE
    tight = frozenset(name for name in ("top", "bottom", "footwear", "gloves", "suit") if generator.random() < TIGHT)
    hair = HAIR_STYLES[int(generator.integers(len(HAIR_STYLES)))]
    cut = Cut(hair, float(generator.uniform(0.7, 1.5)), float(generator.uniform(0.75, 1.25)), tight)
    return None if bare else cut


def _is_arm(rest: np.ndarray) -> np.ndarray:
    arm: np.ndarray = (np.abs(rest[:, 0]) > SHOULDER_SEAM) & (rest[:, 1] > 0.3)
    return arm


def _field_of_top(kind: str) -> Callable[[np.ndarray], np.ndarray]:
    sleeve = {"T-shirt": 0.345, "vest": 0.0}.get(kind, WRIST)
    low = -0.03 if kind in ("jacket", "sweater") else WAIST

    def field(rest: np.ndarray) -> np.ndarray:
        x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
        # the neck's opening is round, and lower before it
        scoop = 0.035 * np.clip(z / 0.08, 0, 1) if kind in ("T-shirt", "vest") else 0.0
        away = np.hypot(x, z + 0.018) - 0.08
        trunk = np.minimum(y - low, np.minimum(np.maximum(NECK - scoop - y, away), 0.56 - y))
        if not sleeve:
            return np.where(y > 0.3, np.minimum(trunk, SHOULDER_SEAM - 0.02 - x), trunk)
        return np.where(_is_arm(rest), sleeve - x, trunk)

    return field


def _make_top(mannequin: Mannequin, garment: Garment, volume: float) -> Piece:
    thick = {"jacket": 0.02, "sweater": 0.015}.get(garment.kind, 0.009) * volume
    low = -0.03 if garment.kind in ("jacket", "sweater") else WAIST
    sleeve = {"T-shirt": 0.345}.get(garment.kind, WRIST)

    def thickness(rest: np.ndarray) -> np.ndarray:
        flare = np.clip(1 - (rest[:, 1] - low) / 0.12, 0, 1) * 0.5
        wide = np.where(_is_arm(rest), np.clip(1 - (sleeve - np.abs(rest[:, 0])) / 0.1, 0, 1) * 0.7, flare)
        return thick * (1 + wide)

    return mannequin.grow(_field_of_top(garment.kind), thickness, 4 if garment.kind in ("jacket", "sweater") else 2)


def _make_bottom(mannequin: Mannequin, garment: Garment, cut: Cut) -> Piece:
    if garment.kind == "skirt":
        return _make_skirt(mannequin, WAIST + 0.006, WAIST - 0.42 * cut.length, 0.02 + 0.05 * cut.volume)
    hem = -0.42 if garment.kind == "shorts" else -0.85
    widening = {"shorts": 0.018, "trousers": 0.022, "jeans": 0.008}.get(garment.kind, 0.008)

    def field(rest: np.ndarray) -> np.ndarray:
        inside = np.minimum(WAIST - rest[:, 1], rest[:, 1] - hem)
        return np.where(_is_arm(rest), -1.0, inside)

    def thickness(rest: np.ndarray) -> np.ndarray:
        return (0.006 + widening * np.clip((WAIST - rest[:, 1]) / (WAIST - hem), 0, 1)) * cut.volume

    return mannequin.grow(field, thickness, 2)


def _make_skirt(mannequin: Mannequin, top: float, hem: float, flare: float, columns: int = 40, rows: int = 12) -> Piece:
    """A tube around both legs, which they draw along with its lower half."""
    height = np.linspace(top, hem, rows)
    down = (top - height) / (top - hem)
    angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    wide, deep = 0.170 + 0.012 * np.sin(np.pi * np.clip(down * 2, 0, 1)), 0.122 + 0.01 * np.sin(np.pi * np.clip(down * 2, 0, 1))
    pleat = 1 + 0.05 * down[:, None] * np.cos(10 * angle)
    x = (wide + flare * down)[:, None] * pleat * np.sin(angle)
    z = (deep + flare * down)[:, None] * pleat * np.cos(angle) - 0.008
    points = np.stack([x, np.broadcast_to(height[:, None], x.shape), z], -1).reshape(-1, 3)
    weights = np.zeros((len(points), len(JOINT_INDEX)))
    leg = np.repeat(0.8 * down**0.8, columns)
    left = smoothstep(points[:, 0] / 0.16 * 0.5 + 0.5)
    weights[:, JOINT_INDEX["pelvis"]] = 1 - leg
    weights[:, JOINT_INDEX["left_hip"]], weights[:, JOINT_INDEX["right_hip"]] = leg * left, leg * (1 - left)
    # patterns lie on the body below it, as they are painted
    return mannequin.shape_freely(points, make_sheet(rows, columns, closed=True), weights)


def _make_footwear(mannequin: Mannequin, garment: Garment, volume: float) -> Piece:
    boots = garment.kind == "boots"
    top = -0.62 if boots else -0.855

    def thickness(rest: np.ndarray) -> np.ndarray:
        sole = np.clip((-0.935 - rest[:, 1]) / 0.02, 0, 1)
        cuff = np.clip(1 - (top - rest[:, 1]) / 0.05, 0, 1) * (0.008 if boots else 0.003)
        return (0.01 + cuff) * volume + 0.008 * sole

    return mannequin.grow(lambda rest: top - rest[:, 1], thickness, 3)


def _make_gloves(mannequin: Mannequin, volume: float) -> Piece:
    def thickness(rest: np.ndarray) -> np.ndarray:
        return 0.004 + 0.01 * volume * np.clip(1 - (np.abs(rest[:, 0]) - WRIST + 0.03) / 0.05, 0, 1)

    return mannequin.grow(lambda rest: np.abs(rest[:, 0]) - WRIST + 0.03, thickness)


def _field_of_hair(rest: np.ndarray) -> np.ndarray:
    x, y, z = rest.T
    back = np.minimum(np.minimum(y - NAPE, 0.012 - z), 0.2 - np.abs(x))
    return np.maximum(y - CROWN, back)


def _push_out(mannequin: Mannequin, points: np.ndarray, margin: float) -> np.ndarray:
    """Points (V, 3) that lie deeper than ``margin`` metres above the body, at that height above it."""
    _, nearest = mannequin.tree.query(points)
    normal = mannequin.normals[nearest]
    depth = ((points - mannequin.body.v_template[nearest]) * normal).sum(1)
    return points + normal * np.clip(margin - depth, 0, 0.12)[:, None]


def _hang_from_head(points: np.ndarray, floor: float) -> np.ndarray:
    """(V, J) weights of what hangs from the head and lies on the shoulders from ``floor`` metres down."""
    weights = np.zeros((len(points), len(JOINT_INDEX)))
    own = np.clip((points[:, 1] - floor) / (0.62 - floor), 0, 1)
    weights[:, JOINT_INDEX["head"]] = own
    weights[:, JOINT_INDEX["spine3"]] = 1 - own
    return weights


def _make_hair(mannequin: Mannequin, cut: Cut, *, covered: bool) -> list[Piece]:
    """The pieces of a hair style; under headgear only what hangs out."""
    pieces = []
    volume = cut.volume

    def thickness(rest: np.ndarray) -> np.ndarray:
        if cut.hair == "curly":
            curls = np.sin(rest @ [95.0, 40.0, 0.0]) * np.sin(rest @ [0.0, 90.0, 50.0]) * np.sin(rest @ [35.0, 0.0, 100.0])
            return (0.036 + 0.014 * curls) * volume
        return np.full(len(rest), (0.013 if cut.hair in ("ponytail", "bun") else 0.02) * volume)

    if not covered:
        pieces.append(mannequin.grow(_field_of_hair, thickness, 0 if cut.hair == "curly" else 2))
    if cut.hair in ("bob", "long"):
        pieces.append(_make_curtain(mannequin, 0.57 if cut.hair == "bob" else 0.5 - 0.17 * cut.length, volume))
    elif cut.hair == "ponytail":
        t = np.linspace(0, 1, 10)
        middle = np.stack([np.zeros(10), 0.755 - 0.26 * cut.length * t**1.5, -0.085 - 0.07 * np.sin(2.4 * t)], 1)
        angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        radius = (0.012 + 0.026 * np.sin(np.pi * np.clip(t * 1.1 + 0.08, 0, 1))) * volume
        around = np.stack([np.cos(angle), np.zeros(10), np.sin(angle)], 1)
        points = (middle[:, None] + around * radius[:, None, None]).reshape(-1, 3)
        pieces.append(mannequin.shape_freely(points, make_sheet(10, 10, closed=True), _hang_from_head(points, 0.3)))
    elif cut.hair == "bun" and not covered:
        points, faces = make_ball((0.0, 0.79, -0.085), (0.042 * volume,) * 3)
        pieces.append(mannequin.shape_freely(points, faces))
    return pieces


def _make_curtain(mannequin: Mannequin, low: float, volume: float) -> Piece:
    """Hair that falls beside the face and over the back, down to ``low`` metres."""
    rows, columns = 16, 30
    angle = np.linspace(np.radians(62), np.radians(298), columns)
    height = np.linspace(0.775, low, rows)
    down = np.clip((0.775 - height) / 0.2, 0, 1)
    wide = 0.068 + 0.018 * down + 0.012 * volume
    # beside the face the strands end at the jaw, behind the back at the full length
    side = np.clip((np.abs(angle - np.pi) - np.radians(75)) / np.radians(43), 0, 1)
    ends = low + (max(0.6 - low, 0.0)) * side
    y = 0.775 + (height[:, None] - 0.775) * ((0.775 - ends) / (0.775 - low))[None]
    x = wide[:, None] * np.sin(angle) * (1 + 0.03 * np.sin(9 * angle) * down[:, None])
    z = 0.012 + (wide + 0.022)[:, None] * np.cos(angle)
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    points = _push_out(mannequin, points, 0.01)
    return mannequin.shape_freely(points, make_sheet(rows, columns), _hang_from_head(points, min(low, 0.45)))


def _make_face(mannequin: Mannequin) -> list[tuple[Layer, Piece]]:
    """Nose, ears, lips and eyes."""

    def ball(layer: Layer, middle: tuple[float, float, float], radii: tuple[float, float, float]) -> tuple[Layer, Piece]:
        points, faces = make_ball(middle, radii, 9, 14)
        return layer, mannequin.shape_freely(points, faces)

    made = [
        ball(Layer.SKIN, (0.0, 0.671, 0.117), (0.0125, 0.0095, 0.017)),
        ball(Layer.SKIN, (0.0, 0.688, 0.113), (0.007, 0.024, 0.014)),
        ball(Layer.LIPS, (0.0, 0.6455, 0.101), (0.021, 0.0048, 0.0125)),
        ball(Layer.LIPS, (0.0, 0.6385, 0.100), (0.018, 0.0055, 0.0125)),
    ]
    for side in (-1.0, 1.0):
        made.append(ball(Layer.SKIN, (side * 0.0745, 0.688, 0.006), (0.008, 0.026, 0.015)))
        made.append(ball(Layer.EYES, (side * 0.029, 0.704, 0.0935), (0.0135, 0.0085, 0.0105)))
    return made


def _make_headgear(mannequin: Mannequin, kind: str, volume: float) -> list[Piece]:
    if kind == "helmet":

        def field(rest: np.ndarray) -> np.ndarray:
            x, y, z = rest.T
            back = np.minimum(np.minimum(y - 0.59, 0.03 - z), 0.2 - np.abs(x))
            return np.maximum(y - 0.715, back)

        return [mannequin.grow(field, lambda rest: np.full(len(rest), 0.024 * volume + 0.006), 8)]
    shell = mannequin.grow(lambda rest: rest[:, 1] - CROWN, lambda rest: np.full(len(rest), 0.016 * volume), 4)
    angle = np.linspace(-1.15, 1.15, 16)
    out = np.array([0.0, 0.03, 0.075])
    x = (0.078 + out[:, None] * 0.4) * np.sin(angle)
    z = 0.012 + 0.098 * np.cos(angle) + out[:, None] * np.cos(angle)
    y = CROWN + 0.012 - 0.2 * out[:, None] + 0 * angle
    brim = np.stack([x, y, z], -1).reshape(-1, 3)
    return [shell, mannequin.shape_freely(brim, make_sheet(3, 16))]


def _dress_suit(mannequin: Mannequin, outfit: Outfit, cut: Cut) -> list[tuple[Layer, Piece]]:
    volume, made = cut.volume, []

    def shell(field: Callable[[np.ndarray], np.ndarray], thick: float, smoothing: int) -> Piece:
        # hands stay hands
        return mannequin.grow(
            field, lambda rest: np.where(np.abs(rest[:, 0]) > WRIST, 0.005, thick * np.ones(len(rest))), smoothing
        )

    def ball(layer: Layer, middle: tuple[float, float, float], radii: tuple[float, float, float]) -> tuple[Layer, Piece]:
        points, faces = make_ball(middle, radii, 12, 18)
        return layer, mannequin.shape_freely(points, faces)

    if outfit.suit == "astronaut":
        made.append((Layer.SUIT, shell(lambda rest: NECK + 0.03 - rest[:, 1], 0.02 * volume, 5)))
        points, faces = make_ball(GLOBE, (0.15, 0.155, 0.155), 20, 30)
        weights = np.zeros((len(points), len(JOINT_INDEX)))
        weights[:, JOINT_INDEX["head"]] = 1
        made.append((Layer.VISOR, mannequin.shape_freely(points, faces, weights)))
        made.append(ball(Layer.TRIM, (0.0, 0.3, -0.165), (0.15, 0.2, 0.08)))
    elif outfit.suit == "robot":
        made.append((Layer.SUIT, shell(lambda rest: NECK - rest[:, 1], 0.011 * volume, 2)))
        made.append((Layer.SUIT, shell(lambda rest: rest[:, 1] - 0.595, 0.02 * volume, 6)))
        made += [ball(Layer.TRIM, (side * 0.092, 0.7, 0.012), (0.016, 0.03, 0.03)) for side in (-1.0, 1.0)]
        made.append(ball(Layer.TRIM, (0.0, 0.87, 0.0), (0.006, 0.05, 0.006)))
        made.append(ball(Layer.VISOR, (0.0, 0.925, 0.0), (0.014, 0.014, 0.014)))
    elif outfit.suit == "knight":
        made.append((Layer.SUIT, shell(lambda rest: NECK + 0.02 - rest[:, 1], 0.01 * volume, 2)))
        made.append((Layer.SUIT, shell(lambda rest: rest[:, 1] - 0.59, 0.02 * volume, 6)))
        made.append(ball(Layer.TRIM, (0.0, 0.85, -0.01), (0.009, 0.05, 0.1)))
        made += [ball(Layer.TRIM, (side * 0.195, 0.475, -0.012), (0.07, 0.055, 0.072)) for side in (-1.0, 1.0)]
        made.append((Layer.SUIT, _make_skirt(mannequin, WAIST, WAIST - 0.3 * cut.length, 0.02 * volume)))
    elif outfit.suit == "soldier":
        made.append((Layer.SUIT, shell(_field_of_top("jacket"), 0.014 * volume, 3)))
        made.append((Layer.SUIT, _make_bottom(mannequin, Garment("trousers", outfit.suit_colour), cut)))
        made.append((Layer.SUIT, _make_footwear(mannequin, Garment("boots", outfit.suit_colour), volume)))
        made += [(Layer.SUIT, piece) for piece in _make_headgear(mannequin, "helmet", volume)]
        made += _make_face(mannequin)
    return made


def dress(mannequin: Mannequin, outfit: Outfit, cut: Cut | None) -> Figure:
    """Grow what an outfit needs; ``cut`` is None for a bare mannequin, on which everything is painted."""
    made: list[tuple[Layer, Piece]] = []
    if cut is not None and outfit.suit:
        made = _dress_suit(mannequin, outfit, cut) if "suit" not in cut.tight else []
    elif cut is not None:
        loose = {"top", "bottom", "footwear", "gloves"} - cut.tight
        made = _make_face(mannequin)
        if "bottom" in loose:
            made.append((Layer.BOTTOM, _make_bottom(mannequin, outfit.bottom, cut)))
        if "top" in loose:
            made.append((Layer.TOP, _make_top(mannequin, outfit.top, cut.volume)))
        if "footwear" in loose:
            made.append((Layer.FOOTWEAR, _make_footwear(mannequin, outfit.footwear, cut.volume)))
        if outfit.gloves and "gloves" in loose:
            made.append((Layer.GLOVES, _make_gloves(mannequin, cut.volume)))
        if outfit.headgear:
            made += [(Layer.HEADGEAR, piece) for piece in _make_headgear(mannequin, outfit.headgear.kind, cut.volume)]
        made += [(Layer.HAIR, piece) for piece in _make_hair(mannequin, cut, covered=outfit.headgear is not None)]
    body = mannequin.body
    layers = [np.full(len(body.faces), Layer.BODY)] + [np.full(len(piece.faces), layer) for layer, piece in made]
    rest = [body.v_template] + [piece.rest for _, piece in made]
    return Figure(sew(body, [piece for _, piece in made]), np.concatenate(rest), np.concatenate(layers))
