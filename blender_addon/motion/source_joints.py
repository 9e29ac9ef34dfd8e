"""Where SMPL's joints lie on a source's skeleton; those that it has no bone for are put where a person has them. No bpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import numpy as np

from ...shared.skeleton import HUMANML_JOINT_COUNT, SMPL_JOINTS
from ...shared.vectors import normalise
from ..character.joints import SIDES, SPINE
from .skeleton_motion import SkeletonMotion
from .source_bones import SourceMap

#: a bone for the neck, which a source may not have
NECK = -1


class SpinePlace(NamedTuple):
    """Where a joint of the spine lies: between two bones, ``fraction`` of the way from ``lower`` to ``upper`` (``NECK`` for the
    neck); ``bone`` is the one that rotates it."""

    lower: int
    upper: int
    fraction: float
    bone: int


@dataclass(frozen=True)
class SourceJoints:
    """SMPL's joints on a source's bones: ``bone_map`` has most of them, ``spine`` the places of ``SPINE``'s.

    ``is_root_apart``: the pelvis's bone, which carries legs and trunk, lies on the floor, so that the joint is put above the hips.
    """

    bone_map: SourceMap
    spine: tuple[SpinePlace, ...]
    is_root_apart: bool = False

    def get_bone(self, joint: str) -> int | None:
        """The bone that rotates a joint; None where there is none."""
        for (name, _), place in zip(SPINE, self.spine, strict=True):
            if name == joint:
                return place.bone
        return self.bone_map.bones.get(joint)

    def place(self, skeleton: SkeletonMotion) -> np.ndarray:
        """(F, 22, 3) joints in the source's axes and unit."""
        at = {joint: skeleton.positions[:, bone] for joint, bone in self.bone_map.bones.items()}
        hips, shoulders = ((at[f"left_{name}"] + at[f"right_{name}"]) / 2 for name in ("hip", "shoulder"))
        trunk = shoulders - hips
        if self.is_root_apart:
            at["pelvis"] = hips + 0.15 * trunk
        at["neck"] = _place_neck(skeleton, self.bone_map)
        for (name, _), (lower, upper, t, _) in zip(SPINE, self.spine, strict=True):
            low = at["pelvis"] if lower == self.bone_map.bones["pelvis"] else skeleton.positions[:, lower]
            high = at["neck"] if upper == NECK else skeleton.positions[:, upper]
            at[name] = low + t * (high - low)
        if "head" not in at:
            tip = _place_tip(skeleton, self.bone_map.bones.get("neck", -1))
            at["head"] = at["neck"] + 0.2 * trunk if tip is None else tip
        for side in SIDES:
            if f"{side}_collar" not in at:
                at[f"{side}_collar"] = (at["neck"] + at["spine3"]) / 4 + at[f"{side}_shoulder"] / 2
            at[f"{side}_foot"] = self._place_foot(skeleton, at, side)
        return np.stack([at[joint] for joint in SMPL_JOINTS[:HUMANML_JOINT_COUNT]], 1)

    def _place_foot(self, skeleton: SkeletonMotion, at: dict[str, np.ndarray], side: str) -> np.ndarray:
        """(F, 3) the toes' bone, else where it or the ankle's bone ends, else a place in front of the ankle."""
        ankle = at[f"{side}_ankle"]
        shin = ankle - at[f"{side}_knee"]
        size = np.linalg.norm(shin, axis=-1, keepdims=True)

        def is_usable(foot: np.ndarray | None) -> TypeGuard[np.ndarray]:
            return foot is not None and not (np.linalg.norm(foot - ankle, axis=-1, keepdims=True) < 0.05 * size).any()

        own = at.get(f"{side}_foot")
        if is_usable(own):
            return own
        tip = _place_tip(skeleton, self.bone_map.bones[f"{side}_ankle" if own is None else f"{side}_foot"])
        if is_usable(tip):
            return tip
        left = at["left_shoulder"] - at["right_shoulder"] + at["left_hip"] - at["right_hip"]
        forward = normalise(np.cross(left, -normalise(shin)))
        return np.asarray(ankle + size * (0.32 * forward + 0.13 * normalise(shin)))


def find_source_joints(sample: SkeletonMotion, bone_map: SourceMap) -> SourceJoints:
    """Where the joints lie on bones that are known, from some frames of the source."""
    return SourceJoints(bone_map, _divide_spine(sample, bone_map), _is_root_apart(sample, bone_map))


def _is_root_apart(sample: SkeletonMotion, bone_map: SourceMap) -> bool:
    """Whether the pelvis's bone is far from the hips in most frames."""
    hips, shoulders = _find_middle(sample, bone_map, "hip"), _find_middle(sample, bone_map, "shoulder")
    away = np.linalg.norm(sample.positions[:, bone_map.bones["pelvis"]] - hips, axis=-1)
    return bool((away > 0.5 * np.linalg.norm(shoulders - hips, axis=-1)).mean() > 0.5)


def _find_middle(skeleton: SkeletonMotion, bone_map: SourceMap, joint: str) -> np.ndarray:
    """(F, 3) the middle between the left and the right one of a joint."""
    left, right = (skeleton.positions[:, bone_map.bones[f"{side}_{joint}"]] for side in SIDES)
    return np.asarray((left + right) / 2)


def _divide_spine(sample: SkeletonMotion, bone_map: SourceMap) -> tuple[SpinePlace, ...]:
    """Where the joints of the spine lie between its bones; from below."""
    at, pelvis = sample.positions, bone_map.bones["pelvis"]
    chosen = [bone_map.bones[name] for name, _ in SPINE if name in bone_map.bones]
    chest = chosen[-1] if "spine3" in bone_map.bones else (bone_map.spine[-1] if bone_map.spine else pelvis)
    neck = _place_neck(sample, bone_map)
    whole = float(np.median(np.linalg.norm(neck - at[:, pelvis], axis=-1)))
    # (the place, the last bone there), without bones that lie on the one before or on the neck
    nodes = [(pelvis, pelvis)]
    for bone in bone_map.spine:
        before = np.median(np.linalg.norm(at[:, bone] - at[:, nodes[-1][0]], axis=-1))
        after = np.median(np.linalg.norm(at[:, bone] - neck, axis=-1))
        if after < 0.02 * whole:
            continue
        if before < 0.02 * whole:
            nodes[-1] = (nodes[-1][0], bone)
        else:
            nodes.append((bone, bone))
    apart = nodes[1:]
    if len(chosen) == len(SPINE) and bone_map.how == "as chosen":
        return tuple(SpinePlace(bone, bone, 0.0, bone) for bone in chosen)
    if len(apart) >= len(SPINE):
        picked = [apart[0], apart[(len(apart) - 1) // 2], (apart[-1][0], chest)]
        return tuple(SpinePlace(place, place, 0.0, bone) for place, bone in picked)
    ends = [at[:, place] for place, _ in nodes[1:]] + [neck]
    starts = [at[:, place] for place, _ in nodes]
    lengths = [float(np.median(np.linalg.norm(end - start, axis=-1))) for start, end in zip(starts, ends, strict=True)]
    total, out = sum(lengths), []
    for name, fraction in SPINE:
        left, k = fraction * total, 0
        while k < len(lengths) - 1 and left > lengths[k]:
            left -= lengths[k]
            k += 1
        upper = nodes[k + 1][0] if k + 1 < len(nodes) else NECK
        bone = chest if name == "spine3" else nodes[k][1]
        out.append(SpinePlace(nodes[k][0], upper, min(left / max(lengths[k], 1e-9), 1.0), bone))
    return tuple(out)


def _place_neck(skeleton: SkeletonMotion, bone_map: SourceMap) -> np.ndarray:
    """(F, 3) the bone of the neck, or where it would lie: a little above the shoulders."""
    if "neck" in bone_map.bones:
        return skeleton.positions[:, bone_map.bones["neck"]]
    shoulders, hips = _find_middle(skeleton, bone_map, "shoulder"), _find_middle(skeleton, bone_map, "hip")
    return np.asarray(shoulders + 0.12 * (shoulders - hips))


def _place_tip(skeleton: SkeletonMotion, bone: int) -> np.ndarray | None:
    """(F, 3) where a bone ends, None when the source does not say."""
    if bone < 0 or np.isnan(skeleton.tips[bone]).any() or not np.linalg.norm(skeleton.tips[bone]):
        return None
    return np.asarray(skeleton.positions[:, bone] + skeleton.rotations[:, bone] @ skeleton.tips[bone])
