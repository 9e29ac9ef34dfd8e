"""Maps joints to bones by where the bones lie and how they hang together, for rigs whose names say nothing. No bpy.

A limb is a mirrored pair of chains with three joints on them, whose lengths and places are a person's. That tells it from skirts,
wings, twin tails and weapons, from twist bones in its middle, and from collars, fingers and toes at its ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .joints import SIDES
from .name_mapping import choose_pelvis, pick_spine
from .skeleton import Skeleton, find_common_ancestor, get_ancestors

#: heights of hip, shoulder, neck and head joint in SMPL's rest pose, as fractions of the body's height
HIP, SHOULDER, NECK, HEAD = 0.505, 0.81, 0.85, 0.903
#: from ankle to toes along the ground, in the same unit
FOOT = 0.077
#: lengths of thigh, shin, upper arm and forearm as fractions of the body's height
THIGH, SHIN, UPPER_ARM, FOREARM = 0.23, 0.235, 0.15, 0.15
#: bones that a search follows down from a limb's first joint
REACH = 9


class ShapeError(ValueError):
    """A rig does not look like a person; the message says what was not found."""


@dataclass(frozen=True)
class _Limb:
    """Three joints on a chain of the left side and their mirror images: index of each bone; ``score``: how well they fit."""

    left: tuple[int, int, int]
    right: tuple[int, int, int]
    score: float


class _Shape:
    """A skeleton with what the search asks again and again."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton, self.heads, self.tails = skeleton, skeleton.heads, skeleton.tails
        self.middle = float(np.median(self.heads[:, 0]))
        self.size = float(np.ptp(self.heads[:, 2])) or 1.0
        self.children: list[list[int]] = [[] for _ in skeleton.names]
        for bone, parent in enumerate(skeleton.parents):
            if parent >= 0:
                self.children[parent].append(bone)
        self.depths = [len(get_ancestors(skeleton, bone)) for bone in range(len(skeleton.names))]
        self.mirrored = self._find_mirrored()

    def _find_mirrored(self) -> list[int]:
        """For each bone the one of the same depth whose head is its mirror image, or -1."""
        flipped = self.heads * [-1, 1, 1] + [2 * self.middle, 0, 0]
        depths = np.array(self.depths)
        out = []
        for bone, place in enumerate(flipped):
            apart = np.linalg.norm(self.heads - place, axis=1) + 1e3 * self.size * (depths != depths[bone])
            # bones at one place are told apart by the number of their children
            apart = apart + 1e-4 * self.size * np.array(
                [abs(len(self.children[n]) - len(self.children[bone])) for n in range(len(depths))]
            )
            best = int(apart.argmin())
            out.append(best if apart[best] < 0.02 * self.size and best != bone else -1)
        return out

    def list_paths(self, bone: int) -> Iterator[list[int]]:
        """The chains that begin with a bone, each ``REACH`` bones long or as long as it goes."""
        stack = [[bone]]
        while stack:
            path = stack.pop()
            below = self.children[path[-1]]
            if not below or len(path) >= REACH:
                yield path
            stack += [[*path, child] for child in below if len(path) < REACH]

    def list_triples(self, roots: list[int]) -> set[tuple[int, int, int]]:
        """Every three bones, each below the one before, whose first is one of ``roots``."""
        out = set()
        for root in roots:
            for path in self.list_paths(root):
                for b in range(1, len(path)):
                    out |= {(root, path[b], path[c]) for c in range(b + 1, len(path))}
        return out

    def is_led(self, bone: int) -> bool:
        """Whether a constraint places a bone."""
        return bool(self.skeleton.leaders) and self.skeleton.leaders[bone] >= 0

    def count_below(self, bone: int) -> int:
        """The number of bones below one."""
        return sum(1 + self.count_below(child) for child in self.children[bone])


def _measure(value: float, usual: float) -> float:
    """How far a length is from the usual one, as the logarithm of their ratio."""
    return abs(float(np.log(max(value, 1e-9) / usual)))


def _pair(shape: _Shape, bones: tuple[int, int, int]) -> tuple[int, int, int] | None:
    a, b, c = (shape.mirrored[bone] for bone in bones)
    if min(a, b, c) < 0 or b not in get_ancestors(shape.skeleton, c) or a not in get_ancestors(shape.skeleton, b):
        return None
    return a, b, c


def _find_legs(shape: _Shape) -> tuple[_Limb, float, float]:
    """(the legs, the body's height, the height of the ground)."""
    heads, tails = shape.heads, shape.tails
    best: _Limb | None = None
    found = (0.0, 0.0)
    roots = [n for n in range(len(heads)) if heads[n, 0] > shape.middle + 1e-3 * shape.size and shape.mirrored[n] >= 0]
    for bones in shape.list_triples(roots):
        hip, knee, ankle = heads[list(bones)]
        thigh, shin = float(np.linalg.norm(knee - hip)), float(np.linalg.norm(ankle - knee))
        drop = hip[2] - ankle[2]
        if drop < 0.9 * (thigh + shin) or min(thigh, shin) < 0.3 * max(thigh, shin) or drop <= 0.1 * shape.size:
            continue
        below = [n for n in _list_below(shape, bones[2]) if heads[n, 2] < ankle[2]]
        ground = min([float(ankle[2] - 0.08 * drop), *(float(heads[n, 2]) for n in below), float(tails[bones[2], 2])])
        ground = max(ground, float(ankle[2] - 0.3 * drop))
        height = (hip[2] - ground) / HIP
        right = _pair(shape, bones)
        if right is None:
            continue
        other = heads[list(right)]
        score = -_measure(thigh / height, THIGH) - _measure(shin / height, SHIN) - 2 * _measure(thigh, shin)
        # what hangs from the pelvis to the ground and is no leg is farther out, leans, or does not reach the ground
        score -= 4 * max(0.0, (hip[0] - other[0, 0]) / 2 / height - 0.09) + 4 * abs(hip[1] - knee[1]) / height
        score -= 6 * max(0.0, 0.02 - (hip[0] - other[0, 0]) / 2 / height) * 10
        score -= 6 * max(0.0, (ankle[2] - float(heads[:, 2].min())) / height - 0.12)
        # a foot goes forward where the shin ends
        toes = [heads[n] for n in _list_below(shape, bones[2])] + [tails[bones[2]]]
        forward = max(float(np.linalg.norm((toe - ankle)[:2]) - abs(toe[2] - ankle[2]) * 0.5) for toe in toes) / height
        score += 1.5 * min(max(forward, 0.0), 0.08) / 0.08
        # the whole leg, not its lower half with a twist bone for a knee
        score += 3 * drop / shape.size - 0.02 * shape.depths[bones[0]]
        # of copies that lie on each other the one that the others follow
        score -= 0.2 * sum(shape.is_led(bone) for bone in bones)
        # of joints that lie on one bone's head the one that carries the others
        if best is None or score > best.score + 1e-6:
            best, found = _Limb(bones, right, score), (float(height), ground)
    if best is None or best.score < -3.0:
        raise ShapeError("no pair of legs was found in the rig's rest pose")
    return best, *found


def _list_below(shape: _Shape, bone: int) -> list[int]:
    out = list(shape.children[bone])
    for child in shape.children[bone]:
        out += _list_below(shape, child)
    return out


def _find_arms(shape: _Shape, legs: _Limb, height: float, ground: float) -> _Limb:
    heads = shape.heads
    hips = [legs.left[0], legs.right[0]]
    hip_bones = set(hips)
    centre = float(heads[hips][:, 1].mean())
    roots = []
    for bone in range(len(heads)):
        across, up = (heads[bone, 0] - shape.middle) / height, (heads[bone, 2] - ground) / height
        if (
            0.03 < across < 0.4
            and 0.6 < up < 1.6
            and shape.mirrored[bone] >= 0
            and not hip_bones & set(get_ancestors(shape.skeleton, bone))
        ):
            roots.append(bone)
    best: _Limb | None = None
    hip = float(heads[hips][:, 2].mean())
    for bones in shape.list_triples(roots):
        shoulder, elbow, wrist = heads[list(bones)]
        # arms go with the trunk: a child's or a giant's legs say little about them
        unit = (shoulder[2] - hip) / (SHOULDER - HIP)
        if unit < 0.4 * height:
            continue
        upper, lower = float(np.linalg.norm(elbow - shoulder)) / unit, float(np.linalg.norm(wrist - elbow)) / unit
        if not (0.06 < upper < 0.32 and 0.05 < lower < 0.32) or wrist[0] - shape.middle < 0.02 * unit:
            continue
        # an arm at rest hangs or is held out, and is nearly straight
        reach = np.linalg.norm(wrist - shoulder) / unit
        if reach < 0.6 * (upper + lower) or wrist[2] - shoulder[2] > 0.12 * unit:
            continue
        right = _pair(shape, bones)
        if right is None:
            continue
        score = -_measure(upper, UPPER_ARM) - _measure(lower, FOREARM) - 1.5 * _measure(upper, lower) - 0.7 * _measure(unit, height)
        score -= 8 * max(0.0, abs(shoulder[1] - centre) / unit - 0.04) + 3 * max(0.0, abs(wrist[1] - centre) / unit - 0.1)
        # a collar begins nearer to the middle, and the shoulder is not on the way from it to the elbow
        score -= 6 * max(0.0, 0.085 - (shoulder[0] - shape.middle) / unit)
        score -= 12 * (_measure_bend(shape, bones[0], bones[1]) + _measure_bend(shape, bones[1], bones[2])) / unit
        fingers = [child for child in shape.children[bones[2]] if np.linalg.norm(heads[child] - wrist) > 1e-3 * height]
        score += 1.0 if len(fingers) >= 3 else 0.3 if len(fingers) == 2 else 0.0
        score -= 0.01 * shape.depths[bones[0]] + 0.2 * sum(shape.is_led(bone) for bone in bones)
        if best is None or score > best.score + 1e-6:
            best = _Limb(bones, right, score)
    if best is None or best.score < -3.0:
        raise ShapeError("no pair of arms was found in the rig's rest pose")
    return best


def _measure_bend(shape: _Shape, top: int, end: int) -> float:
    """How far in metres the bones between two of a chain lie from the line between them; twist bones lie on it."""
    chain = get_ancestors(shape.skeleton, end)
    between = chain[1 : chain.index(top)]
    line = shape.heads[end] - shape.heads[top]
    line = line / max(float(np.linalg.norm(line)), 1e-9)
    offsets = [shape.heads[n] - shape.heads[top] for n in between]
    return max((float(np.linalg.norm(offset - line * (offset @ line))) for offset in offsets), default=0.0)


def _find_head(shape: _Shape, chest: int, unit: float, arms: _Limb) -> dict[str, int]:
    """Neck and head on the way up from the chest, in the middle of the body."""
    heads = shape.heads
    shoulders = float(heads[[arms.left[0], arms.right[0]]][:, 2].mean())

    def is_middle(bone: int) -> bool:
        return abs(heads[bone, 0] - shape.middle) < 0.02 * unit

    # collars may hang on the neck
    within = _list_below(shape, chest) + ([chest] if heads[chest, 2] > shoulders + 0.025 * unit else [])
    start = shape.skeleton.parents[chest] if chest in within else chest
    arm_bones = {n for shoulder in (arms.left[0], arms.right[0]) for n in get_ancestors(shape.skeleton, shoulder)}
    candidates = [
        n for n in within if is_middle(n) and heads[n, 2] > shoulders - 0.03 * unit and (start < 0 or heads[n, 2] > heads[start, 2])
    ]
    ways = []
    for bone in candidates:
        chain = get_ancestors(shape.skeleton, bone)
        chain = [n for n in (chain[: chain.index(start)] if start in chain else chain)[::-1] if is_middle(n)]
        chain = [n for k, n in enumerate(chain) if k == 0 or np.linalg.norm(heads[n] - heads[chain[k - 1]]) > 1e-3 * unit]
        rise = (heads[bone, 2] - heads[chain[0], 2]) / unit
        # eyes, ears and hair of both sides hang on the head
        below = set(_list_below(shape, bone)) - arm_bones
        paired = any(shape.mirrored[n] in below for n in below) and not arm_bones & set(_list_below(shape, bone))
        if chain[-1] == bone and (paired or rise > 0.015):
            badness = abs(rise - (HEAD - NECK)) + 0.5 * abs(heads[bone, 1] - heads[chain[0], 1]) / unit + 0.005 * len(chain)
            ways.append((badness - (0.1 if paired else 0.0), chain))
    if ways:
        chain = min(ways, key=lambda way: way[0])[1]
        return {"neck": chain[0], "head": chain[-1]} if len(chain) > 1 else {"head": chain[0]}
    top = max(candidates, key=shape.count_below, default=None)
    return {} if top is None else {"head": top}


def map_limbs(skeleton: Skeleton) -> dict[str, int]:
    """Joint -> bone; raises ``ShapeError`` when the rig does not look like a person that faces -Y."""
    if len(skeleton.names) < 13 or np.ptp(skeleton.heads[:, 2]) <= 0:
        raise ShapeError("it has too few bones for a person")
    shape = _Shape(skeleton)
    legs, height, ground = _find_legs(shape)
    arms = _find_arms(shape, legs, height, ground)
    trunk = skeleton.heads[[arms.left[0], arms.right[0]]] - skeleton.heads[[legs.left[0], legs.right[0]]]
    unit = float(trunk[:, 2].mean()) / (SHOULDER - HIP)
    out: dict[str, int] = {}
    for side, leg, arm in zip(SIDES, (legs.left, legs.right), (arms.left, arms.right), strict=True):
        out |= dict(zip((f"{side}_hip", f"{side}_knee", f"{side}_ankle"), leg, strict=True))
        out |= dict(zip((f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"), arm, strict=True))
        toe = _find_toe(shape, leg[2], unit)
        if toe is not None:
            out[f"{side}_foot"] = toe
    chest = find_common_ancestor(skeleton, [arms.left[0], arms.right[0]])
    hips = [legs.left[0], legs.right[0]]
    both = find_common_ancestor(skeleton, [*hips, arms.left[0], arms.right[0]])
    pelvis = choose_pelvis(skeleton, both, find_common_ancestor(skeleton, hips), None)
    if pelvis is None or chest is None:
        raise ShapeError("its limbs have no common root bone")
    out["pelvis"] = pelvis
    out |= {joint: bone for joint, bone in _find_head(shape, chest, unit, arms).items() if bone not in out.values()}
    chain = get_ancestors(skeleton, chest)
    chain = chain[: chain.index(pelvis)][::-1] if pelvis in chain else chain[::-1]
    above = {n for bone in hips for n in get_ancestors(skeleton, bone)}
    out |= pick_spine(skeleton, [n for n in chain if n not in above and n not in out.values()], pelvis, out.get("neck"))
    for side in SIDES:
        collar = _find_collar(shape, out[f"{side}_shoulder"], chest, unit)
        if collar is not None and collar not in out.values():
            out[f"{side}_collar"] = collar
    return out


def _find_toe(shape: _Shape, ankle: int, unit: float) -> int | None:
    """The bone of the toes: ahead of the ankle, lower, and in the middle of what hangs there."""
    heads = shape.heads
    found = [n for n in _list_below(shape, ankle) if np.linalg.norm((heads[n] - heads[ankle])[:2]) > 0.03 * unit]
    ahead = [n for n in found if heads[n, 1] < heads[ankle, 1] and heads[n, 2] < heads[ankle, 2]]
    if not ahead:
        return None
    toe = min(
        ahead, key=lambda n: (round(abs(float(np.linalg.norm((heads[n] - heads[ankle])[:2])) / unit - FOOT), 2), shape.depths[n])
    )
    # where every toe has a bone, none of them is the foot's
    return None if sum(shape.skeleton.parents[n] == shape.skeleton.parents[toe] for n in ahead) > 2 else toe


def _find_collar(shape: _Shape, shoulder: int, chest: int, unit: float) -> int | None:
    """The bone between chest and shoulder whose head is nearest to the middle."""
    chain = get_ancestors(shape.skeleton, shoulder)[1:]
    chain = chain[: chain.index(chest)] if chest in chain else []
    apart = [n for n in chain if np.linalg.norm(shape.heads[n] - shape.heads[shoulder]) > 0.01 * unit]
    return apart[-1] if apart else None
