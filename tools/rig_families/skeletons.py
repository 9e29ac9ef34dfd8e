"""Puts the bones of a family's table on a body of joints, with what characters wear on request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentman.blender_addon.character.skeleton import Skeleton
from latentman.shared.skeleton import JOINT_INDEX

from .bones import EXTRAS


@dataclass(frozen=True)
class Family:
    """``bones``: the lines; ``sides``: how left and right are spelled; ``joints``: joint -> bone, with ``{S}`` and ``{s}``, as an
    artist would map them."""

    name: str
    sides: tuple[str, str]
    bones: str
    joints: str


@dataclass(frozen=True)
class Bone:
    """A bone of a family: ``head`` (3,) in body space."""

    name: str
    parent: str
    head: np.ndarray


def list_bones(family: Family, joints: np.ndarray) -> list[Bone]:
    """The bones of a family on a body of rest joints (24, 3), parents before children."""
    out: list[Bone] = []
    for line in family.bones.split("\n"):
        for side, word, sign in zip(("left", "right"), family.sides, (1.0, -1.0), strict=True):
            if not line:
                continue
            name, parent, place = (part.replace("_~", " ") for part in line.split())
            text = [part.replace("{S}", word).replace("{s}", side) for part in (name, parent, place)]
            if "{S}" in name or side == "left":
                out.append(Bone(text[0], "" if text[1] == "-" else text[1], _find_place(text[2], joints, sign)))
    return out


def _find_place(text: str, joints: np.ndarray, sign: float) -> np.ndarray:
    where, _, added = text.partition("+")
    names, _, part = where.partition(":")
    first, _, second = names.partition("~")
    point = np.zeros(3) if first == "ground" else joints[JOINT_INDEX[first]]
    if second:
        point = point + (joints[JOINT_INDEX[second]] - point) * float(part)
    if added:
        point = point + np.array([float(number) for number in added.split(",")]) * [sign, 1, 1]
    return np.asarray(point)


def get_joint_bones(family: Family) -> dict[str, str]:
    """Joint -> bone, as an artist would map them."""
    out = {}
    for entry in family.joints.split():
        joint, bone = (part.replace("_~", " ") for part in entry.split("=", 1))
        for side, word in zip(("left", "right"), family.sides, strict=True):
            out[joint.replace("{s}", side)] = bone.replace("{S}", word).replace("{s}", side)
    return out


def add_extras(bones: list[Bone], mapping: dict[str, str], joints: np.ndarray) -> list[Bone]:
    """The bones with what characters wear and carry hung on them: skirt, tail, cape, wings, hair, a sword."""
    chest = next(mapping[joint] for joint in ("spine3", "spine2", "spine1") if joint in mapping)
    carriers = {"pelvis": mapping["pelvis"], "chest": chest, "head": mapping["head"], "hand": mapping["right_wrist"]}
    worn = list_bones(Family("extras", ("L", "R"), EXTRAS, ""), joints)
    return bones + [Bone(bone.name, carriers.get(bone.parent, bone.parent), bone.head) for bone in worn]


def make_skeleton(bones: list[Bone], named: bool = True) -> Skeleton:
    """The bones as the recogniser reads them, each pointing at its first child; under numbers instead of names if
    asked."""
    index = {bone.name: n for n, bone in enumerate(bones)}
    heads = np.array([bone.head for bone in bones])[:, [0, 2, 1]] * [1, -1, 1]
    parents = tuple(index.get(bone.parent, -1) for bone in bones)
    tails = heads.copy()
    for bone, parent in reversed(list(enumerate(parents))):
        # of several children the first one counts, as Blender's importers do it
        if parent >= 0:
            tails[parent] = heads[bone]
    for bone, parent in enumerate(parents):
        if np.linalg.norm(tails[bone] - heads[bone]) < 1e-4:
            along = heads[bone] - heads[parent] if parent >= 0 else np.zeros(3)
            along = along if np.linalg.norm(along) > 1e-4 else np.array([0.0, 0.0, 1.0])
            tails[bone] = heads[bone] + along / np.linalg.norm(along) * 0.06
    assert len(index) == len(bones), "no two bones have one name"
    names = tuple(index) if named else tuple(f"bone_{n:03d}" for n in range(len(bones)))
    return Skeleton(names, parents, heads, tails)
