"""A person among the bones of a moving skeleton, by lengths and symmetry: names and poses say nothing. No bpy.

Arms and legs are two pairs of chains of equal lengths on both sides. What hangs where, and how long it is, tells them from
fingers, skirts and wings; how toes, knees and elbows point over the whole motion tells left from right.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np

from ...shared.vectors import normalise
from .bone_words import is_other, split_name
from .skeleton_motion import SkeletonMotion

#: parts by which mirrored bones may differ in length, and by which a distance between joints of one limb may change
ALIKE, RIGID = 0.06, 0.02
#: bones that lie within this many degrees of a line in every pose are one limb with twist bones between
STRAIGHT = 2.0
#: legs to arms, trunk to legs, and from neck to head in trunks, of an average person
LEG_TO_ARM, TRUNK_TO_LEG, HEAD_TO_TRUNK = 1.5, 0.6, 0.22
#: by how much a person must be likelier than another among the same bones
SURE = 0.25
#: the most bones of a limb that are looked at
DEEPEST = 12


@dataclass(frozen=True)
class _Limbs:
    """A mirrored pair of limbs: (upper, middle, end) on both sides, ``top`` where they meet, and how likely they are limbs."""

    first: tuple[int, int, int]
    second: tuple[int, int, int]
    top: int
    length: float
    sure: float


class _Tree:
    """The bones of a skeleton with what is asked of them often."""

    def __init__(self, motion: SkeletonMotion) -> None:
        self.parents, self.tips = motion.parents, motion.tips
        self.at, self.rotations = motion.positions, motion.rotations
        rest = motion.rest_positions
        # the zero pose is one more pose, but for a skeleton that has its lengths in the motion only
        self.poses = np.concatenate([self.at, rest[None]]) if np.ptp(rest, axis=0).max() > 0 else self.at
        count = len(self.parents)
        # skirts, capes and tails, where names say so
        self.is_dressing = [any(is_other(word) for word in split_name(name)[1]) for name in motion.names]
        self.children: list[list[int]] = [[] for _ in range(count)]
        self.paths: list[tuple[int, ...]] = []
        for bone, parent in enumerate(self.parents):
            self.paths.append((bone, *(self.paths[parent] if parent >= 0 else ())))
            if parent >= 0:
                self.children[parent].append(bone)
        self.lengths = np.array([self.measure(bone, parent) if parent >= 0 else 0.0 for bone, parent in enumerate(self.parents)])

    def measure(self, a: int, b: int) -> float:
        return float(np.median(np.linalg.norm(self.at[:, a] - self.at[:, b], axis=-1)))

    def is_rigid(self, a: int, b: int) -> bool:
        """Whether two joints are equally far apart in every pose."""
        distances = np.linalg.norm(self.poses[:, a] - self.poses[:, b], axis=-1)
        return float(np.ptp(distances)) <= RIGID * float(distances.max())

    def list_below(self, bone: int) -> list[int]:
        out = [bone]
        for one in out:
            out += self.children[one]
        return out

    def get_bend(self, a: int, b: int, c: int) -> np.ndarray:
        """(poses,) degrees by which a limb is bent at its middle."""
        cosine = (normalise(self.poses[:, b] - self.poses[:, a]) * normalise(self.poses[:, c] - self.poses[:, b])).sum(-1)
        return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

    def get_end(self, bone: int) -> np.ndarray | None:
        """(F, 3) where a bone ends: at the farthest joint that hangs on it, or at its tip."""
        below = [child for child in self.children[bone] if self.lengths[child] > 0]
        if below:
            return self.at[:, max(below, key=lambda child: self.lengths[child])]
        tip = self.tips[bone]
        if np.isnan(tip).any() or not np.linalg.norm(tip):
            return None
        return np.asarray(self.at[:, bone] + self.rotations[:, bone] @ tip)


def find_person_by_shape(motion: SkeletonMotion) -> tuple[dict[str, int], str] | None:
    """(joint -> bone of the likeliest person in a skeleton, what else is nearly as likely in a short phrase, or nothing); None
    when there is no person. Some frames of its motion are enough."""
    tree = _Tree(motion)
    limbs = [limb for bone in range(len(tree.parents)) for limb in _find_pairs(tree, bone)]
    if len(limbs) < 2:
        return None
    longest = max(limb.length for limb in limbs)
    limbs = sorted((limb for limb in limbs if limb.length > 0.3 * longest), key=lambda limb: -limb.length)[:16]
    rated = [
        (score, legs, arms)
        for legs, arms in permutations(limbs, 2)
        if (score := _rate_person(tree, legs, arms, longest)) is not None
    ]
    rated.sort(key=lambda item: -item[0])
    bones = _name_bones(tree, *rated[0][1:]) if rated else None
    if bones is None:
        return None
    for score, legs, arms in rated[1:]:
        for name, one, other in (("legs", rated[0][1], legs), ("arms", rated[0][2], arms)):
            if rated[0][0] - score < SURE and {*one.first, *one.second}.isdisjoint((*other.first, *other.second)):
                return bones, f"its {name} may be '{motion.names[one.first[0]]}' or '{motion.names[other.first[0]]}'"
    return bones, ""


def _find_pairs(tree: _Tree, top: int) -> list[_Limbs]:
    """The likeliest limb of every two alike branches of a bone."""
    out = []
    branches = [_skip_coincident(tree, child) for child in tree.children[top] if not tree.is_dressing[child]]
    for n, first in enumerate(branches):
        for second in branches[n + 1 :]:
            if _is_alike(tree.measure(top, first), tree.measure(top, second), tree.lengths[first] + tree.lengths[second]):
                pairs = _match(tree, first, second)
                best = _find_limb(tree, pairs, top)
                out += [best] if best else []
    return out


def _skip_coincident(tree: _Tree, bone: int) -> int:
    """The first bone of a branch that is apart from what it hangs on, if the branch begins with one that is not."""
    while tree.lengths[bone] == 0 and len(tree.children[bone]) == 1:
        bone = tree.children[bone][0]
    return bone


def _is_alike(a: float, b: float, size: float) -> bool:
    return abs(a - b) <= ALIKE * max(a, b) + 1e-6 * size


def _match(tree: _Tree, first: int, second: int) -> dict[int, int]:
    """The bones of a branch -> those of another that are as long and hang alike."""
    out = {first: second}
    for a in list(out):
        waiting = [(a, out[a])]
        while waiting:
            one, other = waiting.pop()
            free = list(tree.children[other])
            for child in sorted(tree.children[one], key=lambda bone: -len(tree.list_below(bone))):
                fits = [b for b in free if _is_alike(tree.lengths[child], tree.lengths[b], tree.lengths[child])]
                if fits:
                    size = len(tree.list_below(child))
                    chosen = min(
                        fits, key=lambda b: (abs(len(tree.list_below(b)) - size), abs(tree.lengths[b] - tree.lengths[child]))
                    )
                    free.remove(chosen)
                    out[child] = chosen
                    waiting.append((child, chosen))
    return out


def _find_limb(tree: _Tree, pairs: dict[int, int], top: int) -> _Limbs | None:
    """The two longest bones in a row of a branch: thigh and shin, upper arm and forearm."""
    best: _Limbs | None = None
    for end in pairs:
        path = [bone for bone in tree.paths[end] if bone in pairs][::-1][:DEEPEST]
        if path[-1] != end or len(path) < 3:
            continue
        joints = _list_joints(tree, path)
        for upper, middle, lower in zip(joints, joints[1:], joints[2:], strict=False):
            above, below = tree.measure(upper, middle), tree.measure(middle, lower)
            if not 0.4 < above / max(below, 1e-12) < 2.5 or not (tree.is_rigid(upper, middle) and tree.is_rigid(middle, lower)):
                continue
            bend = min(1.0, float(np.ptp(tree.get_bend(upper, middle, lower))) / 30)
            ends = 0.5 * any(child in pairs for child in tree.children[lower])
            sure = min(above, below)
            if best is None or sure > best.sure:
                mirrored = (pairs[upper], pairs[middle], pairs[lower])
                best = _Limbs((upper, middle, lower), mirrored, top, above + below, sure)
                quality = 0.5 * bend + ends
    return None if best is None else _Limbs(best.first, best.second, best.top, best.length, quality)


def _list_joints(tree: _Tree, path: list[int]) -> list[int]:
    """The bones of a branch at which it bends, from above: neither those in one place nor twist bones within a limb.

    Of a branch that is straight in every pose nothing tells a knee from a twist bone.
    """
    apart = [bone for n, bone in enumerate(path) if n == 0 or tree.lengths[bone] > 1e-3 * tree.measure(path[0], path[-1])]
    joints = [apart[0]]
    for bone, after in pairwise(apart[1:]):
        if tree.get_bend(joints[-1], bone, after).max() > STRAIGHT:
            joints.append(bone)
    joints.append(path[-1])
    return joints if len(joints) > 2 else apart


def _middle(tree: _Tree, limbs: _Limbs, joint: int) -> np.ndarray:
    return np.asarray((tree.at[:, limbs.first[joint]] + tree.at[:, limbs.second[joint]]) / 2)


def _rate_person(tree: _Tree, legs: _Limbs, arms: _Limbs, longest: float) -> float | None:
    """How likely two pairs of limbs are the legs and the arms of a person, None where they are not."""
    bones = {*legs.first, *legs.second}
    if bones & {*arms.first, *arms.second} or any(bone in bones for bone in tree.paths[arms.top]):
        return None
    if any(bone in (*arms.first, *arms.second) for bone in tree.paths[legs.top]):
        return None
    hips, shoulders, ankles = _middle(tree, legs, 0), _middle(tree, arms, 0), _middle(tree, legs, 2)
    trunk = float(np.median(np.linalg.norm(shoulders - hips, axis=-1)))
    if not 0.25 < trunk / legs.length < 1.8 or not 0.35 < legs.length / arms.length < 3.5:
        return None
    if np.median(np.linalg.norm(shoulders - ankles, axis=-1)) < np.median(np.linalg.norm(hips - ankles, axis=-1)):
        return None
    widths = [tree.measure(limbs.first[0], limbs.second[0]) / legs.length for limbs in (legs, arms)]
    if max(widths) > 1.2 or widths[1] < 0.01:
        return None
    depth = (legs.top in tree.paths[arms.top]) - (arms.top in tree.paths[legs.top][1:])
    off = abs(np.log(legs.length / arms.length / LEG_TO_ARM)) + abs(np.log(trunk / legs.length / TRUNK_TO_LEG))
    head = any(
        np.median(((tree.at[:, bone] - shoulders) * normalise(shoulders - hips)).sum(-1)) > 0 for bone in _list_central(tree, arms)
    )
    return float(depth + (legs.length + arms.length) / longest + legs.sure + arms.sure + 0.5 * head - off)


def _list_central(tree: _Tree, arms: _Limbs) -> list[int]:
    """The bones on which the head may be: those that hang where the arms meet, or nearer to the root, but on no arm."""
    below = tree.list_below(arms.top)
    taken = {bone for limb in (arms.first, arms.second) for bone in tree.list_below(limb[0])}
    return [bone for bone in below if bone not in taken and bone != arms.top]


def _name_bones(tree: _Tree, legs: _Limbs, arms: _Limbs) -> dict[str, int] | None:
    hips, shoulders = _middle(tree, legs, 0), _middle(tree, arms, 0)
    up = normalise(shoulders - hips)
    across, wide = (tree.at[:, limbs.first[0]] - tree.at[:, limbs.second[0]] for limbs in (legs, arms))
    if np.linalg.norm(across, axis=-1).max() < 1e-3 * legs.length:
        # thighs that begin in one place
        across = tree.at[:, legs.first[1]] - tree.at[:, legs.second[1]]
    if (normalise(across) * normalise(wide)).sum() < 0:
        arms = _Limbs(arms.second, arms.first, arms.top, arms.length, arms.sure)
        wide = -wide
    left = normalise(normalise(across) + normalise(wide))
    forward = normalise(np.cross(left, up))
    evidence = _find_forward(tree, legs, arms, forward)
    if abs(evidence) < 0.02:
        return None
    sides = ("left", "right") if evidence > 0 else ("right", "left")
    out = {"pelvis": legs.top}
    for side, leg, arm in zip(sides, (legs.first, legs.second), (arms.first, arms.second), strict=True):
        out |= {f"{side}_{joint}": bone for joint, bone in zip(("hip", "knee", "ankle"), leg, strict=True)}
        out |= {f"{side}_{joint}": bone for joint, bone in zip(("shoulder", "elbow", "wrist"), arm, strict=True)}
        toes = [bone for bone in tree.children[leg[2]] if 0.1 < 2 * tree.lengths[bone] / legs.length < 0.9]
        if toes:
            out[f"{side}_foot"] = max(toes, key=lambda bone: (len(tree.list_below(bone)), tree.lengths[bone]))
        size = arms.length / 2
        collars = [
            bone for bone in tree.paths[arm[0]][1:] if arms.top in tree.paths[bone][1:] and tree.measure(bone, arm[0]) > 0.05 * size
        ]
        if collars:
            out[f"{side}_collar"] = collars[0]
    return out | _find_head(tree, legs, arms, up, left, hips, shoulders)


def _find_forward(tree: _Tree, legs: _Limbs, arms: _Limbs, forward: np.ndarray) -> float:
    """How far toes, knees and elbows point along directions (F, 3) which are forward if the first limbs are the left ones."""
    evidence = 0.0
    for upper, middle, lower in (legs.first, legs.second):
        end = tree.get_end(lower)
        along = normalise(tree.at[:, lower] - tree.at[:, upper])
        if end is not None:
            toes = (end - tree.at[:, lower]) / legs.length
            # the trunk may be turned away from the legs, so that their own plane counts, too
            evidence += 2 * float((toes * forward).sum(-1).mean())
        knee = (tree.at[:, middle] - (tree.at[:, upper] + tree.at[:, lower]) / 2) / legs.length
        ahead = normalise(forward - along * (forward * along).sum(-1, keepdims=True))
        evidence += float((knee * ahead).sum(-1).mean())
    for upper, middle, lower in (arms.first, arms.second):
        elbow = (tree.at[:, middle] - (tree.at[:, upper] + tree.at[:, lower]) / 2) / arms.length
        evidence -= 0.5 * float((elbow * forward).sum(-1).mean())
    return evidence


def _find_head(
    tree: _Tree, legs: _Limbs, arms: _Limbs, up: np.ndarray, left: np.ndarray, hips: np.ndarray, shoulders: np.ndarray
) -> dict[str, int]:
    """The neck and the head, as far as there are bones for them."""
    trunk = float(np.median(np.linalg.norm(shoulders - hips, axis=-1)))
    legs_below = {bone for limb in (legs.first, legs.second) for bone in tree.list_below(limb[0])}
    heights, asides = {}, {}
    for bone in _list_central(tree, arms):
        if bone not in legs_below and bone not in tree.paths[legs.top] and not tree.is_dressing[bone]:
            heights[bone] = float(np.median(((tree.at[:, bone] - shoulders) * up).sum(-1))) / trunk
            asides[bone] = float(np.median(np.abs(((tree.at[:, bone] - shoulders) * left).sum(-1)))) / trunk
    roots = [bone for bone in heights if tree.parents[bone] == arms.top and asides[bone] < 0.15 and -0.1 < heights[bone] < 0.7]
    if not roots:
        return {}
    root = max(
        roots,
        key=lambda bone: (
            max(heights.get(one, -1.0) for one in tree.list_below(bone)) > 0.15,
            -asides[bone],
            len(tree.list_below(bone)),
        ),
    )
    above = [
        bone
        for bone in tree.list_below(root)
        if bone != root and asides.get(bone, 1.0) < 0.3 and tree.measure(bone, root) > 0.02 * trunk
    ]
    if heights[root] > 0.2 or not above:
        return {"head" if heights[root] > 0.2 else "neck": root}
    # jaw and eyes lie as high, but carry nothing
    head = min(
        above,
        key=lambda bone: (
            abs(tree.measure(bone, root) / trunk - HEAD_TO_TRUNK) + 0.5 * asides[bone] - 0.1 * bool(tree.children[bone])
        ),
    )
    return {"neck": root, "head": head}
