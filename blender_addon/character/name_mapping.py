"""Maps joints to bones by what the bones' names say, and by how they hang together where the names leave it open. No bpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...shared.skeleton import SMPL_JOINTS
from .bone_names import CONTROL, FK, ORIGINAL, BoneName, read_bone_name
from .joints import SIDES, SPINE, SPINE_JOINTS
from .skeleton import Skeleton, find_common_ancestor, find_place_bone, get_ancestors


def map_by_words(skeleton: Skeleton) -> dict[str, str]:
    """Joint -> bone, for as many joints as the names tell."""
    said = [read_bone_name(name) for name in skeleton.names]
    out: dict[str, int] = {}
    for side in SIDES:
        out |= _map_leg(skeleton, said, side) | _map_arm(skeleton, said, side)
    out |= _map_trunk(skeleton, said, out)
    return {joint: skeleton.names[out[joint]] for joint in SMPL_JOINTS if joint in out}


def _pick(skeleton: Skeleton, said: list[BoneName], fits: Callable[[BoneName], bool], below: int | None = None) -> int | None:
    """The bone to key among those whose name fits: of the best layer, nearest to the root; None when there is none.

    Among equals a bone that descends from ``below`` is taken.
    """
    found = [n for n, one in enumerate(said) if fits(one) and not one.helper]
    if not found:
        return None
    ancestors = {n: get_ancestors(skeleton, n) for n in found}
    return min(
        found,
        key=lambda n: (said[n].layer, below is not None and below not in ancestors[n][1:], len(ancestors[n]), said[n].number, n),
    )


def _map_leg(skeleton: Skeleton, said: list[BoneName], side: str) -> dict[str, int]:
    def pick(*parts: str, below: int | None = None) -> int | None:
        return _pick(skeleton, said, lambda one: one.side == side and one.part in parts, below)

    thigh, leg = pick("thigh"), pick("leg")
    shin = pick("shin", "knee", below=thigh)
    if thigh is None:
        # "leg" is a thigh where there is a knee below it; a hip with a side is one where there is no leg to be it
        thigh = leg if shin is not None and leg is not None else pick("pelvis")
    if shin is None:
        shin = pick("leg", below=thigh) if thigh != leg else None
    ankle, foot, toe = pick("ankle", below=shin), pick("foot", below=shin), pick("toe", below=shin)
    if ankle is None:
        ankle, foot = foot, None
    if toe is not None:
        beside = [
            n
            for n, one in enumerate(said)
            if one.side == side and one.part == "toe" and skeleton.parents[n] == skeleton.parents[toe]
        ]
        # where every toe has a bone, none of them is the foot's
        toe = toe if len(beside) < 3 else None
    out = {"hip": thigh, "knee": shin, "ankle": ankle, "foot": toe if toe is not None else foot}
    return {f"{side}_{joint}": bone for joint, bone in out.items() if bone is not None}


def _map_arm(skeleton: Skeleton, said: list[BoneName], side: str) -> dict[str, int]:
    def pick(*parts: str, below: int | None = None) -> int | None:
        return _pick(skeleton, said, lambda one: one.side == side and one.part in parts, below)

    collar, shoulder = pick("clavicle"), pick("shoulder")
    upper = pick("upperarm", below=collar)
    arm = pick("arm", below=collar)
    lower = pick("forearm", "elbow", below=upper)
    if upper is None:
        upper = arm if arm is not None else shoulder
    if collar is None and shoulder != upper:
        collar = shoulder
    wrist, hand = pick("wrist", below=lower), pick("hand", below=lower)
    if wrist is None:
        wrist, hand = hand, None
    out = {"collar": collar, "shoulder": upper, "elbow": lower, "wrist": wrist, "hand": hand}
    return {f"{side}_{joint}": bone for joint, bone in out.items() if bone is not None}


def _map_trunk(skeleton: Skeleton, said: list[BoneName], limbs: dict[str, int]) -> dict[str, int]:
    """Pelvis, spine, neck and head above and between limbs that are known."""
    out: dict[str, int] = {}
    for joint in ("neck", "head"):
        bone = _pick(skeleton, said, lambda one, part=joint: one.part == part and not one.side)  # type: ignore[misc]
        if bone is not None:
            out[joint] = bone
    hips = [limbs[f"{side}_hip"] for side in SIDES if f"{side}_hip" in limbs]
    tops = [limbs[f"{side}_{name}"] for side in SIDES for name in ("collar", "shoulder") if f"{side}_{name}" in limbs]
    legs = find_common_ancestor(skeleton, hips) if len(hips) == 2 else None
    both = find_common_ancestor(skeleton, [*hips, *tops]) if len(hips) == 2 and tops else None
    if "head" not in out and tops:
        out |= _find_head_of_spine(skeleton, said, find_common_ancestor(skeleton, tops))
    named = _pick(skeleton, said, lambda one: one.part == "pelvis" and not one.side)
    pelvis = choose_pelvis(skeleton, both, legs, named)
    if pelvis is None:
        return out
    out["pelvis"] = pelvis
    taken = set(limbs.values()) | set(out.values())
    spine = [n for n in _list_spine(skeleton, said, pelvis, hips, tops) if n not in taken]
    if "neck" in out and not tops:
        spine = [n for n in spine if n not in get_ancestors(skeleton, pelvis)]
    return out | pick_spine(skeleton, spine, pelvis, out.get("neck"))


def _find_head_of_spine(skeleton: Skeleton, said: list[BoneName], chest: int | None) -> dict[str, int]:
    """Neck and head of rigs that number them on with the spine, above the bone that carries the arms."""
    above = [
        n
        for n, one in enumerate(said)
        if one.part == "spine" and not one.side and not one.helper and chest in get_ancestors(skeleton, n)[1:]
    ]
    above.sort(key=lambda n: len(get_ancestors(skeleton, n)))
    return {"neck": above[0], "head": above[-1]} if len(above) > 1 else {"head": above[0]} if above else {}


def choose_pelvis(skeleton: Skeleton, both: int | None, legs: int | None, named: int | None) -> int | None:
    """The bone that carries legs and trunk: ``both``, their common ancestor, or a bone above it that is called the pelvis.

    A pelvis on another branch, as in rigs whose hips are split, carries the legs alone. Without a bone that carries both, it is the
    one that carries the legs.
    """
    if both is None:
        return legs if named is None or legs is not None else named
    if named is not None and named in get_ancestors(skeleton, both):
        height = max(float(np.ptp(skeleton.heads[:, 2])), 1e-9)
        if np.linalg.norm(skeleton.heads[named] - skeleton.heads[both]) < 0.1 * height:
            return named
    return both


def _list_spine(skeleton: Skeleton, said: list[BoneName], pelvis: int, hips: list[int], tops: list[int]) -> list[int]:
    """The bones between the pelvis and what carries both arms, from below; those of control rigs by their names alone."""
    above_hips = {n for hip in hips for n in get_ancestors(skeleton, hip)}
    controls = [
        n for n, one in enumerate(said) if one.part == "spine" and one.layer in (CONTROL, FK) and not one.side and not one.helper
    ]
    if controls:
        best = min(said[n].layer for n in controls)
        below = [n for n in controls if said[n].layer == best and n != pelvis]
        # a control whose bone carries the legs turns the pelvis
        below = [n for n in below if find_place_bone(skeleton, n) not in above_hips]
        return sorted(below, key=lambda n: (said[n].number, skeleton.heads[n, 2]))
    if not tops:
        found = [n for n, one in enumerate(said) if one.part == "spine" and not one.side and not one.helper and n != pelvis]
        return sorted(found, key=lambda n: (len(get_ancestors(skeleton, n)), said[n].number))
    chest = find_common_ancestor(skeleton, tops)
    if chest is None:
        return []
    chain = get_ancestors(skeleton, chest)
    chain = chain[: chain.index(pelvis)] if pelvis in chain else chain
    return [n for n in chain[::-1] if n not in above_hips and not said[n].helper and said[n].layer < ORIGINAL]


def pick_spine(skeleton: Skeleton, spine: list[int], pelvis: int, neck: int | None) -> dict[str, int]:
    """The bones of spine1, spine2 and spine3 among a chain from below; where it is long, those at the heights that a body has."""
    heads = skeleton.heads[[find_place_bone(skeleton, bone) for bone in range(len(skeleton.names))]]
    kept: list[int] = []
    for bone in spine:
        if not kept or np.linalg.norm(heads[bone] - heads[kept[-1]]) > 1e-4 * max(float(np.ptp(heads[:, 2])), 1e-9):
            kept.append(bone)
    if len(kept) <= 3:
        names = {0: (), 1: ("spine3",), 2: ("spine1", "spine3"), 3: SPINE_JOINTS}[len(kept)]
        return dict(zip(names, kept, strict=True))
    top = heads[neck] if neck is not None else skeleton.tails[kept[-1]]
    along = top - heads[pelvis]
    heights = ((heads[kept] - heads[pelvis]) @ along) / max(float(along @ along), 1e-12)
    best = min(
        ((a, b, c) for a in range(len(kept)) for b in range(a + 1, len(kept)) for c in range(b + 1, len(kept))),
        key=lambda picked: sum(abs(heights[n] - wanted) for n, (_, wanted) in zip(picked, SPINE, strict=True)),
    )
    return dict(zip(SPINE_JOINTS, (kept[n] for n in best), strict=True))
