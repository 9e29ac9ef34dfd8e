"""A rig's bones as they lie at rest, and what hangs on what. No bpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """A rig's rest pose: ``names``, ``parents`` (index or -1, before their children), ``heads`` and ``tails`` (N, 3) in
    metres, Z up, the body facing -Y. ``leaders`` (N,): the bone whose place and rotation a constraint gives to a bone, or -1; empty
    when no bone has one."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    heads: np.ndarray
    tails: np.ndarray
    leaders: tuple[int, ...] = ()


def get_path(parents: tuple[int, ...], bone: int) -> list[int]:
    """A bone and its ancestors, the root last, from each bone's parent."""
    out = [bone]
    while parents[out[-1]] >= 0:
        out.append(parents[out[-1]])
    return out


def find_shared_ancestor(parents: tuple[int, ...], bones: Sequence[int]) -> int | None:
    """The nearest bone that carries all of ``bones``, which may be one of them; None when they hang on different roots."""
    first, *others = (get_path(parents, bone) for bone in bones)
    return next((bone for bone in first if all(bone in path for path in others)), None)


def get_ancestors(skeleton: Skeleton, bone: int) -> list[int]:
    """``get_path`` in a rig."""
    return get_path(skeleton.parents, bone)


def find_common_ancestor(skeleton: Skeleton, bones: list[int]) -> int | None:
    """``find_shared_ancestor`` in a rig."""
    return find_shared_ancestor(skeleton.parents, bones)


def find_place_bone(skeleton: Skeleton, bone: int) -> int:
    """The bone whose head is where a bone's joint is: itself, or for Rigify's controls, which may turn about the far end of what
    they move, the bone of the metarig that they move."""
    name = skeleton.names[bone]
    if "_fk" in name:
        original = "ORG-" + name.replace("_fk", "")
        if original in skeleton.names:
            place = skeleton.names.index(original)
            # where both lie on each other the control itself is nearer to the truth: the copy may follow IK
            return place if np.linalg.norm(skeleton.heads[place] - skeleton.heads[bone]) > 1e-5 else bone
    return bone
