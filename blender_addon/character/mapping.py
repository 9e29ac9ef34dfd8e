"""Maps the joints of SMPL to the bones of a rig: by published names, else from the rig's shape. No bpy.

A mapping is a dictionary joint -> bone; a joint's bone is the one whose head lies there, so that it rotates about the joint.
"""

from __future__ import annotations

import json
import re

from ...shared.skeleton import SMPL_JOINTS
from .bone_names import UNKNOWN_FAMILY, name_family
from .joints import SIDES
from .name_mapping import map_by_words
from .shape_mapping import ShapeError, map_limbs
from .skeleton import Skeleton

#: how a mapping was found that needed no names
BY_SHAPE = "shape of the rig"
#: letters of a name in a file that are shown
MAX_SHOWN = 40

REQUIRED = (
    "pelvis",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
)

#: rig family -> pattern for each joint; {S} stands for the side in that family's spelling
_FAMILIES: dict[str, tuple[dict[str, str], tuple[str, str]]] = {
    "SMPL": (
        {joint.replace("left_", "{S}_"): joint.replace("left_", "{S}_") for joint in SMPL_JOINTS if "right" not in joint},
        ("left", "right"),
    ),
    "SMPL (short names)": (
        {
            "pelvis": "pelvis",
            "spine1": "spine1",
            "spine2": "spine2",
            "spine3": "spine3",
            "neck": "neck",
            "head": "head",
            "{S}_hip": "{S}_hip",
            "{S}_knee": "{S}_knee",
            "{S}_ankle": "{S}_ankle",
            "{S}_foot": "{S}_foot",
            "{S}_collar": "{S}_collar",
            "{S}_shoulder": "{S}_shoulder",
            "{S}_elbow": "{S}_elbow",
            "{S}_wrist": "{S}_wrist",
            "{S}_hand": "{S}_hand",
        },
        ("l", "r"),
    ),
    "Mixamo": (
        {
            "pelvis": "Hips",
            "spine1": "Spine",
            "spine2": "Spine1",
            "spine3": "Spine2",
            "neck": "Neck",
            "head": "Head",
            "{S}_hip": "{S}UpLeg",
            "{S}_knee": "{S}Leg",
            "{S}_ankle": "{S}Foot",
            "{S}_foot": "{S}ToeBase",
            "{S}_collar": "{S}Shoulder",
            "{S}_shoulder": "{S}Arm",
            "{S}_elbow": "{S}ForeArm",
            "{S}_wrist": "{S}Hand",
        },
        ("Left", "Right"),
    ),
    "Rigify control rig": (
        {
            "pelvis": "torso",
            "spine1": "spine_fk.001",
            "spine2": "spine_fk.002",
            "spine3": "spine_fk.003",
            "neck": "neck",
            "head": "head",
            "{S}_hip": "thigh_fk.{S}",
            "{S}_knee": "shin_fk.{S}",
            "{S}_ankle": "foot_fk.{S}",
            "{S}_foot": "toe_fk.{S}",
            "{S}_collar": "shoulder.{S}",
            "{S}_shoulder": "upper_arm_fk.{S}",
            "{S}_elbow": "forearm_fk.{S}",
            "{S}_wrist": "hand_fk.{S}",
        },
        ("L", "R"),
    ),
    "Rigify metarig": (
        {
            "pelvis": "spine",
            "spine1": "spine.001",
            "spine2": "spine.002",
            "spine3": "spine.003",
            "neck": "spine.004",
            "head": "spine.006",
            "{S}_hip": "thigh.{S}",
            "{S}_knee": "shin.{S}",
            "{S}_ankle": "foot.{S}",
            "{S}_foot": "toe.{S}",
            "{S}_collar": "shoulder.{S}",
            "{S}_shoulder": "upper_arm.{S}",
            "{S}_elbow": "forearm.{S}",
            "{S}_wrist": "hand.{S}",
        },
        ("L", "R"),
    ),
    "Unreal": (
        {
            "pelvis": "pelvis",
            "spine1": "spine_01",
            "spine2": "spine_02",
            "spine3": "spine_03",
            "neck": "neck_01",
            "head": "head",
            "{S}_hip": "thigh_{S}",
            "{S}_knee": "calf_{S}",
            "{S}_ankle": "foot_{S}",
            "{S}_foot": "ball_{S}",
            "{S}_collar": "clavicle_{S}",
            "{S}_shoulder": "upperarm_{S}",
            "{S}_elbow": "lowerarm_{S}",
            "{S}_wrist": "hand_{S}",
        },
        ("l", "r"),
    ),
    "VRM": (
        {
            "pelvis": "J_Bip_C_Hips",
            "spine1": "J_Bip_C_Spine",
            "spine2": "J_Bip_C_Chest",
            "spine3": "J_Bip_C_UpperChest",
            "neck": "J_Bip_C_Neck",
            "head": "J_Bip_C_Head",
            "{S}_hip": "J_Bip_{S}_UpperLeg",
            "{S}_knee": "J_Bip_{S}_LowerLeg",
            "{S}_ankle": "J_Bip_{S}_Foot",
            "{S}_foot": "J_Bip_{S}_ToeBase",
            "{S}_collar": "J_Bip_{S}_Shoulder",
            "{S}_shoulder": "J_Bip_{S}_UpperArm",
            "{S}_elbow": "J_Bip_{S}_LowerArm",
            "{S}_wrist": "J_Bip_{S}_Hand",
        },
        ("L", "R"),
    ),
    "MMD": (
        {
            "pelvis": "下半身",
            "spine1": "上半身",
            "spine3": "上半身2",
            "neck": "首",
            "head": "頭",
            "{S}_hip": "{S}足",
            "{S}_knee": "{S}ひざ",
            "{S}_ankle": "{S}足首",
            "{S}_foot": "{S}つま先",
            "{S}_collar": "{S}肩",
            "{S}_shoulder": "{S}腕",
            "{S}_elbow": "{S}ひじ",
            "{S}_wrist": "{S}手首",
        },
        ("左", "右"),
    ),
    "MMD (Blender names)": (
        {
            "pelvis": "下半身",
            "spine1": "上半身",
            "spine3": "上半身2",
            "neck": "首",
            "head": "頭",
            "{S}_hip": "足.{S}",
            "{S}_knee": "ひざ.{S}",
            "{S}_ankle": "足首.{S}",
            "{S}_foot": "つま先.{S}",
            "{S}_collar": "肩.{S}",
            "{S}_shoulder": "腕.{S}",
            "{S}_elbow": "ひじ.{S}",
            "{S}_wrist": "手首.{S}",
        },
        ("L", "R"),
    ),
}


class MappingError(ValueError):
    """A mapping cannot be found or is incomplete; the message is one sentence for the user."""


def get_presets() -> dict[str, dict[str, str]]:
    """Rig family -> its full mapping, joint -> bone."""
    out = {}
    for family, (patterns, words) in _FAMILIES.items():
        mapping = {}
        for joint, bone in patterns.items():
            for side, word in zip(SIDES, words, strict=True):
                mapping[joint.replace("{S}", side)] = bone.replace("{S}", word)
        out[family] = mapping
    return out


def _normalise_name(name: str) -> str:
    """A bone's name without a namespace such as ``mixamorig:``, in lower case."""
    return re.sub(r"^.*[:|]", "", name).lower()


def map_by_names(names: tuple[str, ...]) -> tuple[str, dict[str, str]] | None:
    """The family whose names fit best, and its mapping to the bones that exist; None if none is complete."""
    original = {_normalise_name(name): name for name in reversed(names)}
    best: tuple[str, dict[str, str]] | None = None
    for family, wanted in get_presets().items():
        found = {joint: original[_normalise_name(bone)] for joint, bone in wanted.items() if _normalise_name(bone) in original}
        if set(REQUIRED) <= set(found) and (best is None or len(found) > len(best[1])):
            best = family, found
    return best


def map_by_shape(skeleton: Skeleton) -> dict[str, str]:
    """A mapping from hierarchy and geometry alone; raises ``MappingError`` when the rig does not look like a person."""
    try:
        found = map_limbs(skeleton)
    except ShapeError as error:
        raise MappingError(f"The rig was not recognised ({error}); map its bones by hand.") from error
    out = {joint: skeleton.names[found[joint]] for joint in SMPL_JOINTS if joint in found}
    check(out, skeleton.names)
    return out


def guess(skeleton: Skeleton) -> tuple[str, dict[str, str]]:
    """(how it was found, mapping), by names or else by shape; ``MappingError`` when neither works."""
    found = map_by_words(skeleton)
    try:
        check(found, skeleton.names)
    except MappingError:
        return map_by_names(skeleton.names) or (BY_SHAPE, map_by_shape(skeleton))
    known = map_by_names(skeleton.names)
    family = name_family(skeleton.names)
    return (known[0] if known and family == UNKNOWN_FAMILY else family), found


def check(mapping: dict[str, str], names: tuple[str, ...]) -> None:
    """Raise ``MappingError`` unless every required joint has an existing bone and no bone is used for two joints."""
    unknown = sorted(set(mapping) - set(SMPL_JOINTS))
    if unknown:
        raise _make_unknown_error(unknown[0])
    for joint in REQUIRED:
        if not mapping.get(joint):
            raise MappingError(f"No bone is mapped to {joint.replace('_', ' ')}; choose one in the bone list.")
    for joint, bone in mapping.items():
        if bone and bone not in names:
            raise MappingError(f"The rig has no bone '{bone}' (mapped to {joint.replace('_', ' ')}); choose another one.")
    used = [bone for bone in mapping.values() if bone]
    twice = next((bone for bone in used if used.count(bone) > 1), None)
    if twice:
        raise MappingError(f"The bone '{twice}' is mapped to two joints; choose another one for one of them.")


def dump(mapping: dict[str, str]) -> str:
    """A mapping as JSON text."""
    return json.dumps({"latentman_bone_map": 1, "bones": mapping}, indent=1, ensure_ascii=False) + "\n"


def parse(text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """(the mapping in JSON text, the names in it that are no joints and are left out); ``MappingError`` for any other text, and
    where none of the names is a joint."""
    try:
        data = json.loads(text)
        bones = data["bones"]
        # a joint without a bone
        valid = isinstance(bones, dict) and all(v is None or isinstance(v, str) for v in bones.values())
    except (ValueError, KeyError, TypeError, RecursionError):
        valid = False
    if not valid:
        raise MappingError('This is not a bone map; it should be JSON like {"bones": {"pelvis": "Hips", ...}}.')
    unknown = tuple(name for name in bones if name not in SMPL_JOINTS)
    if unknown and len(unknown) == len(bones):
        raise _make_unknown_error(unknown[0])
    return {joint: bone or "" for joint, bone in bones.items() if joint in SMPL_JOINTS}, unknown


def _make_unknown_error(name: str) -> MappingError:
    return MappingError(f"'{name[:MAX_SHOWN]}' is not a joint; joints are {', '.join(SMPL_JOINTS[:4])}, ...")


def parse_saved(saved: object) -> dict[str, str]:
    """The mapping that an armature of a Blender file keeps, without joints that have no bone; ``MappingError`` for anything
    else."""
    try:
        found = json.loads(saved) if isinstance(saved, str) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(bone, str) for bone in found.values()):
        raise MappingError("The saved bone map is damaged; press Guess Bones.")
    return {joint: bone for joint, bone in found.items() if bone}
