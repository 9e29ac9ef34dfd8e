"""Skeletons as other programs build them: their bones' names, what hangs on what, and the bones between and beside the joints.

A bone is written ``name parent place``; a line with ``{S}`` stands for both sides, spelled as the family spells them. A place is a
joint of SMPL (``{s}_knee``), a point between two (``{s}_hip~{s}_knee:0.5``), or either with metres added in body space
(``head+0,0.1,-0.05``; x points away from the middle).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentman.blender_addon.character.skeleton import Skeleton
from latentman.shared.skeleton import JOINT_INDEX


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
    """The bones as the recogniser reads them, each pointing at its first child; under numbers instead of "
    "names if asked."""
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


#: what characters wear and carry, on any family: pelvis, chest, head and hand stand for the family's bones
EXTRAS = """
skirt_{S}_a1 pelvis {s}_hip+0.04,0.02,0.1
skirt_{S}_a2 skirt_{S}_a1 {s}_hip+0.1,-0.22,0.16
skirt_{S}_a3 skirt_{S}_a2 {s}_hip+0.14,-0.45,0.2
skirt_{S}_a4 skirt_{S}_a3 {s}_hip+0.17,-0.68,0.22
skirt_{S}_b1 pelvis {s}_hip+0.06,0.02,-0.1
skirt_{S}_b2 skirt_{S}_b1 {s}_hip+0.12,-0.22,-0.16
skirt_{S}_b3 skirt_{S}_b2 {s}_hip+0.16,-0.45,-0.2
tail_01 pelvis pelvis+0,0,-0.1
tail_02 tail_01 pelvis+0,-0.1,-0.35
tail_03 tail_02 pelvis+0,-0.3,-0.6
worn_bust_{S} chest spine3+0.09,0.02,0.1
cape_01 chest neck+0,-0.03,-0.1
cape_02 cape_01 spine2+0,0,-0.16
cape_03 cape_02 pelvis+0,-0.3,-0.25
wing_{S}_01 chest spine3+0.06,0.05,-0.1
wing_{S}_02 wing_{S}_01 spine3+0.45,0.35,-0.3
wing_{S}_03 wing_{S}_02 spine3+0.95,0.1,-0.4
wing_{S}_04 wing_{S}_03 spine3+1.3,-0.4,-0.45
worn_ear_{S} head head+0.08,0.06,0
hair_01 head head+0,0.15,-0.08
hair_02 hair_01 head+0,0,-0.16
hair_03 hair_02 head+0,-0.25,-0.18
twintail_{S}_01 head head+0.1,0.12,-0.05
twintail_{S}_02 twintail_{S}_01 head+0.25,-0.1,-0.08
twintail_{S}_03 twintail_{S}_02 head+0.28,-0.5,-0.1
twintail_{S}_04 twintail_{S}_03 head+0.28,-0.9,-0.1
weapon_r hand right_wrist+0.06,-0.02,0.05
weapon_r_tip weapon_r right_wrist+0.06,-0.02,0.95
"""


def make_fingers(names: str, hand: str) -> str:
    """Lines for five fingers of three bones; ``names`` has ``{F}`` for the finger, and ``{N}`` for the bone's "
    "number."""
    out = ""
    for n, finger in enumerate(names.split("|")[1].split(",")):
        parent = hand
        for k in (1, 2, 3):
            bone = names.split("|")[0].replace("{F}", finger).replace("{N}", str(k))
            out += f"{bone} {parent} {{s}}_wrist~{{s}}_hand:{0.9 + 0.3 * k:.1f}+0,0,{0.04 - 0.02 * n:.2f}\n"
            parent = bone
    return out


_MIXAMO = """
{P}Hips - pelvis
{P}Spine {P}Hips spine1
{P}Spine1 {P}Spine spine2
{P}Spine2 {P}Spine1 spine3
{P}Neck {P}Spine2 neck
{P}Head {P}Neck head
{P}HeadTop_End {P}Head head+0,0.18,0
{P}{S}Shoulder {P}Spine2 {s}_collar
{P}{S}Arm {P}{S}Shoulder {s}_shoulder
{P}{S}ForeArm {P}{S}Arm {s}_elbow
{P}{S}Hand {P}{S}ForeArm {s}_wrist
{P}{S}UpLeg {P}Hips {s}_hip
{P}{S}Leg {P}{S}UpLeg {s}_knee
{P}{S}Foot {P}{S}Leg {s}_ankle
{P}{S}ToeBase {P}{S}Foot {s}_foot
{P}{S}Toe_End {P}{S}ToeBase {s}_foot+0,0,0.08
"""
_MIXAMO_JOINTS = """
pelvis={P}Hips spine1={P}Spine spine2={P}Spine1 spine3={P}Spine2 neck={P}Neck head={P}Head
{s}_collar={P}{S}Shoulder {s}_shoulder={P}{S}Arm {s}_elbow={P}{S}ForeArm {s}_wrist={P}{S}Hand
{s}_hip={P}{S}UpLeg {s}_knee={P}{S}Leg {s}_ankle={P}{S}Foot {s}_foot={P}{S}ToeBase
"""


def _make_mixamo(name: str, prefix: str) -> Family:
    fingers = make_fingers("{P}{S}Hand{F}{N}|Thumb,Index,Middle,Ring,Pinky", "{P}{S}Hand")
    return Family(name, ("Left", "Right"), (_MIXAMO + fingers).replace("{P}", prefix), _MIXAMO_JOINTS.replace("{P}", prefix))


_PLAIN = "pelvis={0} spine1={1} spine2={2} spine3={3} neck={4} head={5} {{s}}_collar={6} {{s}}_shoulder={7} {{s}}_elbow={8} "
_PLAIN += "{{s}}_wrist={9} {{s}}_hip={10} {{s}}_knee={11} {{s}}_ankle={12} {{s}}_foot={13}"


def _joints(text: str) -> str:
    """The joints line for bones in the order pelvis, spine1-3, neck, head, collar, shoulder, elbow, wrist, hip, knee, ankle, foot;
    ``-`` for one that the family lacks."""
    pairs = _PLAIN.format(*text.split()).split()
    return " ".join(pair for pair in pairs if not pair.endswith("=-"))


_UNITY = """
Armature - ground
Hips Armature pelvis
Spine Hips spine1
Chest Spine spine2
UpperChest Chest spine3
Neck UpperChest neck
Head Neck head
{S}Eye Head head+0.03,0.05,0.08
Jaw Head head+0,0,0.05
{S}Shoulder UpperChest {s}_collar
{S}UpperArm {S}Shoulder {s}_shoulder
{S}LowerArm {S}UpperArm {s}_elbow
{S}Hand {S}LowerArm {s}_wrist
{S}UpperLeg Hips {s}_hip
{S}LowerLeg {S}UpperLeg {s}_knee
{S}Foot {S}LowerLeg {s}_ankle
{S}Toes {S}Foot {s}_foot
"""
_UNITY_FINGERS = make_fingers("{S}{F}{N}|Thumb,Index,Middle,Ring,Little", "{S}Hand")
_VRM = """
Root - ground
J_Bip_C_Hips Root pelvis
J_Bip_C_Spine J_Bip_C_Hips spine1
J_Bip_C_Chest J_Bip_C_Spine spine2
J_Bip_C_UpperChest J_Bip_C_Chest spine3
J_Sec_{S}_Bust1 J_Bip_C_UpperChest spine3+0.07,0,0.1
J_Sec_{S}_Bust2 J_Sec_{S}_Bust1 spine3+0.07,0,0.15
J_Bip_C_Neck J_Bip_C_UpperChest neck
J_Bip_C_Head J_Bip_C_Neck head
J_Adj_{S}_FaceEye J_Bip_C_Head head+0.03,0.05,0.08
J_Sec_Hair1_01 J_Bip_C_Head head+0,0.12,-0.09
J_Sec_Hair2_01 J_Sec_Hair1_01 head+0,0,-0.12
J_Sec_Hair3_01 J_Sec_Hair2_01 head+0,-0.2,-0.12
J_Bip_{S}_Shoulder J_Bip_C_UpperChest {s}_collar
J_Bip_{S}_UpperArm J_Bip_{S}_Shoulder {s}_shoulder
J_Sec_{S}_TopsUpperArmInside J_Bip_{S}_UpperArm {s}_shoulder~{s}_elbow:0.5
J_Bip_{S}_LowerArm J_Bip_{S}_UpperArm {s}_elbow
J_Bip_{S}_Hand J_Bip_{S}_LowerArm {s}_wrist
J_Bip_{S}_UpperLeg J_Bip_C_Hips {s}_hip
J_Sec_{S}_CoatSkirtFront1_01 J_Bip_{S}_UpperLeg {s}_hip+0.02,0,0.1
J_Sec_{S}_CoatSkirtFront2_01 J_Sec_{S}_CoatSkirtFront1_01 {s}_knee+0.05,0,0.15
J_Bip_{S}_LowerLeg J_Bip_{S}_UpperLeg {s}_knee
J_Bip_{S}_Foot J_Bip_{S}_LowerLeg {s}_ankle
J_Bip_{S}_ToeBase J_Bip_{S}_Foot {s}_foot
"""
_UNREAL = """
root - ground
pelvis root pelvis
spine_01 pelvis spine1
spine_02 spine_01 spine1~neck:0.3
spine_03 spine_02 spine1~neck:0.5
spine_04 spine_03 spine1~neck:0.65
spine_05 spine_04 spine1~neck:0.8
neck_01 spine_05 neck
neck_02 neck_01 neck~head:0.5
head neck_02 head
clavicle_{S} spine_05 {s}_collar
clavicle_out_{S} clavicle_{S} {s}_collar~{s}_shoulder:0.6
upperarm_{S} clavicle_{S} {s}_shoulder
upperarm_twist_01_{S} upperarm_{S} {s}_shoulder~{s}_elbow:0.33
upperarm_twist_02_{S} upperarm_{S} {s}_shoulder~{s}_elbow:0.66
upperarm_correctiveRoot_{S} upperarm_{S} {s}_shoulder
upperarm_bck_{S} upperarm_correctiveRoot_{S} {s}_shoulder+0,0,-0.05
lowerarm_{S} upperarm_{S} {s}_elbow
lowerarm_twist_02_{S} lowerarm_{S} {s}_elbow~{s}_wrist:0.33
lowerarm_twist_01_{S} lowerarm_{S} {s}_elbow~{s}_wrist:0.66
hand_{S} lowerarm_{S} {s}_wrist
thigh_{S} pelvis {s}_hip
thigh_twist_01_{S} thigh_{S} {s}_hip~{s}_knee:0.33
thigh_twist_02_{S} thigh_{S} {s}_hip~{s}_knee:0.66
calf_{S} thigh_{S} {s}_knee
calf_twist_02_{S} calf_{S} {s}_knee~{s}_ankle:0.33
calf_twist_01_{S} calf_{S} {s}_knee~{s}_ankle:0.66
foot_{S} calf_{S} {s}_ankle
ball_{S} foot_{S} {s}_foot
ik_foot_root root ground
ik_foot_{S} ik_foot_root {s}_ankle
ik_hand_root root ground
ik_hand_gun ik_hand_root right_wrist
ik_hand_{S} ik_hand_gun {s}_wrist
interaction root ground
center_of_mass root ground
"""
_CC = """
RL_BoneRoot - ground
CC_Base_Hip RL_BoneRoot pelvis+0,0.03,0
CC_Base_Pelvis CC_Base_Hip pelvis+0,0.03,0
CC_Base_{S}_Thigh CC_Base_Pelvis {s}_hip
CC_Base_{S}_ThighTwist01 CC_Base_{S}_Thigh {s}_hip
CC_Base_{S}_ThighTwist02 CC_Base_{S}_ThighTwist01 {s}_hip~{s}_knee:0.5
CC_Base_{S}_Calf CC_Base_{S}_Thigh {s}_knee
CC_Base_{S}_CalfTwist01 CC_Base_{S}_Calf {s}_knee
CC_Base_{S}_CalfTwist02 CC_Base_{S}_CalfTwist01 {s}_knee~{s}_ankle:0.5
CC_Base_{S}_KneeShareBone CC_Base_{S}_Calf {s}_knee
CC_Base_{S}_Foot CC_Base_{S}_Calf {s}_ankle
CC_Base_{S}_ToeBase CC_Base_{S}_Foot {s}_foot
CC_Base_{S}_ToeBaseShareBone CC_Base_{S}_Foot {s}_foot
CC_Base_{S}_BigToe1 CC_Base_{S}_ToeBase {s}_foot+-0.02,0,0.04
CC_Base_Waist CC_Base_Hip pelvis~spine1:0.8+0,0.03,0
CC_Base_Spine01 CC_Base_Waist spine2+0,-0.02,0
CC_Base_Spine02 CC_Base_Spine01 spine3+0,0.03,0
CC_Base_{S}_RibsTwist CC_Base_Spine02 spine3+0.08,0,0.02
CC_Base_{S}_Breast CC_Base_{S}_RibsTwist spine3+0.09,0,0.1
CC_Base_NeckTwist01 CC_Base_Spine02 neck
CC_Base_NeckTwist02 CC_Base_NeckTwist01 neck~head:0.5
CC_Base_Head CC_Base_NeckTwist02 head
CC_Base_FacialBone CC_Base_Head head+0,0.02,0.02
CC_Base_JawRoot CC_Base_FacialBone head+0,0.01,0.04
CC_Base_{S}_Eye CC_Base_FacialBone head+0.03,0.05,0.08
CC_Base_{S}_Clavicle CC_Base_Spine02 {s}_collar
CC_Base_{S}_Upperarm CC_Base_{S}_Clavicle {s}_shoulder
CC_Base_{S}_UpperarmTwist01 CC_Base_{S}_Upperarm {s}_shoulder
CC_Base_{S}_UpperarmTwist02 CC_Base_{S}_UpperarmTwist01 {s}_shoulder~{s}_elbow:0.5
CC_Base_{S}_Forearm CC_Base_{S}_Upperarm {s}_elbow
CC_Base_{S}_ForearmTwist01 CC_Base_{S}_Forearm {s}_elbow
CC_Base_{S}_ForearmTwist02 CC_Base_{S}_ForearmTwist01 {s}_elbow~{s}_wrist:0.5
CC_Base_{S}_ElbowShareBone CC_Base_{S}_Forearm {s}_elbow
CC_Base_{S}_Hand CC_Base_{S}_Forearm {s}_wrist
"""
_DAZ8 = """
hip - pelvis
pelvis hip pelvis+0,-0.01,0
{S}ThighBend pelvis {s}_hip
{S}ThighTwist {S}ThighBend {s}_hip~{s}_knee:0.45
{S}Shin {S}ThighTwist {s}_knee
{S}Foot {S}Shin {s}_ankle
{S}Metatarsals {S}Foot {s}_ankle~{s}_foot:0.4
{S}Toe {S}Metatarsals {s}_foot
{S}BigToe {S}Toe {s}_foot+-0.02,0,0.05
{S}Heel {S}Foot {s}_ankle+0,-0.05,-0.04
abdomenLower hip pelvis~neck:0.1
abdomenUpper abdomenLower pelvis~neck:0.3
chestLower abdomenUpper pelvis~neck:0.5
chestUpper chestLower pelvis~neck:0.75
{S}Pectoral chestLower spine3+0.08,0,0.1
neckLower chestUpper neck
neckUpper neckLower neck~head:0.5
head neckUpper head
lowerJaw head head+0,0,0.04
{S}Eye head head+0.03,0.05,0.08
{S}Collar chestUpper {s}_collar
{S}ShldrBend {S}Collar {s}_shoulder
{S}ShldrTwist {S}ShldrBend {s}_shoulder~{s}_elbow:0.5
{S}ForearmBend {S}ShldrTwist {s}_elbow
{S}ForearmTwist {S}ForearmBend {s}_elbow~{s}_wrist:0.5
{S}Hand {S}ForearmTwist {s}_wrist
"""
_DAZ9 = """
hip - pelvis
pelvis hip pelvis+0,-0.01,0
{S}_thigh pelvis {s}_hip
{S}_thightwist1 {S}_thigh {s}_hip~{s}_knee:0.33
{S}_thightwist2 {S}_thigh {s}_hip~{s}_knee:0.66
{S}_shin {S}_thigh {s}_knee
{S}_foot {S}_shin {s}_ankle
{S}_metatarsal {S}_foot {s}_ankle~{s}_foot:0.4
{S}_toes {S}_foot {s}_foot
{S}_bigtoe1 {S}_toes {s}_foot+-0.02,0,0.05
spine1 hip pelvis~neck:0.15
spine2 spine1 pelvis~neck:0.35
spine3 spine2 pelvis~neck:0.55
spine4 spine3 pelvis~neck:0.75
neck1 spine4 neck
neck2 neck1 neck~head:0.5
head neck2 head
{S}_eye head head+0.03,0.05,0.08
{S}_pectoral spine3 spine3+0.08,0,0.1
{S}_shoulder spine4 {s}_collar
{S}_upperarm {S}_shoulder {s}_shoulder
{S}_upperarmtwist1 {S}_upperarm {s}_shoulder~{s}_elbow:0.33
{S}_forearm {S}_upperarm {s}_elbow
{S}_forearmtwist1 {S}_forearm {s}_elbow~{s}_wrist:0.33
{S}_hand {S}_forearm {s}_wrist
"""
_MAKEHUMAN = """
root - pelvis+0,-0.02,0
pelvis.{S} root pelvis+0.02,-0.03,0
upperleg01.{S} pelvis.{S} {s}_hip
upperleg02.{S} upperleg01.{S} {s}_hip~{s}_knee:0.4
lowerleg01.{S} upperleg02.{S} {s}_knee
lowerleg02.{S} lowerleg01.{S} {s}_knee~{s}_ankle:0.5
foot.{S} lowerleg02.{S} {s}_ankle
toe1-1.{S} foot.{S} {s}_foot+-0.03,0,0
toe1-2.{S} toe1-1.{S} {s}_foot+-0.03,0,0.05
toe2-1.{S} foot.{S} {s}_foot
toe2-2.{S} toe2-1.{S} {s}_foot+0,0,0.05
toe5-1.{S} foot.{S} {s}_foot+0.03,0,-0.02
spine05 root pelvis~neck:0.1
spine04 spine05 pelvis~neck:0.3
spine03 spine04 pelvis~neck:0.5
spine02 spine03 pelvis~neck:0.65
spine01 spine02 pelvis~neck:0.8
breast.{S} spine02 spine3+0.09,0,0.1
neck01 spine01 neck
neck02 neck01 neck~head:0.33
neck03 neck02 neck~head:0.66
head neck03 head
jaw head head+0,0,0.04
eye.{S} head head+0.03,0.05,0.08
clavicle.{S} spine01 {s}_collar
shoulder01.{S} clavicle.{S} {s}_collar~{s}_shoulder:0.6
upperarm01.{S} shoulder01.{S} {s}_shoulder
upperarm02.{S} upperarm01.{S} {s}_shoulder~{s}_elbow:0.4
lowerarm01.{S} upperarm02.{S} {s}_elbow
lowerarm02.{S} lowerarm01.{S} {s}_elbow~{s}_wrist:0.5
wrist.{S} lowerarm02.{S} {s}_wrist
"""
_MBLAB = """
root - ground
pelvis root pelvis
thigh_{S} pelvis {s}_hip
thigh_twist_{S} thigh_{S} {s}_hip~{s}_knee:0.5
calf_{S} thigh_{S} {s}_knee
calf_twist_{S} calf_{S} {s}_knee~{s}_ankle:0.5
foot_{S} calf_{S} {s}_ankle
toes_{S} foot_{S} {s}_foot
spine01 pelvis spine1
spine02 spine01 spine2
spine03 spine02 spine3
breast_{S} spine03 spine3+0.09,0,0.1
neck spine03 neck
head neck head
clavicle_{S} spine03 {s}_collar
upperarm_{S} clavicle_{S} {s}_shoulder
upperarm_twist_{S} upperarm_{S} {s}_shoulder~{s}_elbow:0.5
lowerarm_{S} upperarm_{S} {s}_elbow
lowerarm_twist_{S} lowerarm_{S} {s}_elbow~{s}_wrist:0.5
hand_{S} lowerarm_{S} {s}_wrist
struct_pelvis root pelvis
"""
_BIPED = """
{B} - pelvis
{B}_~Pelvis {B} pelvis
{B}_~Spine {B}_~Pelvis spine1
{B}_~{S}_~Thigh {B}_~{H} {s}_hip
{B}_~{S}_~Calf {B}_~{S}_~Thigh {s}_knee
{B}_~{S}_~Foot {B}_~{S}_~Calf {s}_ankle
{B}_~{S}_~Toe0 {B}_~{S}_~Foot {s}_foot
{B}_~{S}_~Toe0Nub {B}_~{S}_~Toe0 {s}_foot+0,0,0.06
{B}_~{S}ThighTwist {B}_~{S}_~Thigh {s}_hip
{B}_~Spine1 {B}_~Spine spine2
{B}_~Spine2 {B}_~Spine1 spine3
{B}_~Neck {B}_~Spine2 neck
{B}_~Head {B}_~Neck head
{B}_~HeadNub {B}_~Head head+0,0.18,0
{B}_~Ponytail1 {B}_~Head head+0,0.1,-0.1
{B}_~Ponytail11 {B}_~Ponytail1 head+0,-0.1,-0.15
{B}_~{S}_~Clavicle {B}_~{C} {s}_collar
{B}_~{S}_~UpperArm {B}_~{S}_~Clavicle {s}_shoulder
{B}_~{S}_~Forearm {B}_~{S}_~UpperArm {s}_elbow
{B}_~{S}_~ForeTwist {B}_~{S}_~Forearm {s}_elbow~{s}_wrist:0.5
{B}_~{S}_~Hand {B}_~{S}_~Forearm {s}_wrist
{B}_~Footsteps {B} ground
{B}_~Tail {B}_~Pelvis pelvis+0,0,-0.1
{B}_~Tail1 {B}_~Tail pelvis+0,-0.1,-0.3
"""
_BIPED_JOINTS = _joints(
    "{B}_~Pelvis {B}_~Spine {B}_~Spine1 {B}_~Spine2 {B}_~Neck {B}_~Head {B}_~{S}_~Clavicle {B}_~{S}_~UpperArm "
    "{B}_~{S}_~Forearm "
    "{B}_~{S}_~Hand {B}_~{S}_~Thigh {B}_~{S}_~Calf {B}_~{S}_~Foot {B}_~{S}_~Toe0"
)


def _make_biped(name: str, prefix: str, thighs: str, collars: str, space: str = "_~") -> Family:
    """3ds Max hangs thighs on the pelvis or on the spine, and collars on the spine or on the neck."""

    def fill(text: str) -> str:
        return text.replace("{B}", prefix).replace("{H}", thighs).replace("{C}", collars).replace("_~", space)

    fingers = make_fingers("{B}_~{S}_~Finger{F}{N}|0,1,2,3,4", "{B}_~{S}_~Hand")
    joints = fill(_BIPED_JOINTS)
    if thighs == "Spine":
        joints = joints.replace("spine1=" + fill("{B}_~Spine") + " ", "").replace("spine2=", "spine1=")
    return Family(name, ("L", "R"), fill(_BIPED + fingers), joints)


_ADVANCED = """
Root_M - pelvis
RootPart1_M Root_M pelvis~spine1:0.5
Hip_{S} Root_M {s}_hip
HipPart1_{S} Hip_{S} {s}_hip~{s}_knee:0.33
HipPart2_{S} HipPart1_{S} {s}_hip~{s}_knee:0.66
Knee_{S} Hip_{S} {s}_knee
KneePart1_{S} Knee_{S} {s}_knee~{s}_ankle:0.5
Ankle_{S} Knee_{S} {s}_ankle
Toes_{S} Ankle_{S} {s}_foot
ToesEnd_{S} Toes_{S} {s}_foot+0,0,0.06
Spine1_M RootPart1_M spine1
Spine1Part1_M Spine1_M spine1~spine2:0.5
Spine2_M Spine1Part1_M spine2
Chest_M Spine2_M spine3
Neck_M Chest_M neck
NeckPart1_M Neck_M neck~head:0.5
Head_M NeckPart1_M head
HeadEnd_M Head_M head+0,0.18,0
Jaw_M Head_M head+0,0,0.04
Eye_{S} Head_M head+0.03,0.05,0.08
Scapula_{S} Chest_M {s}_collar
Shoulder_{S} Scapula_{S} {s}_shoulder
ShoulderPart1_{S} Shoulder_{S} {s}_shoulder~{s}_elbow:0.5
Elbow_{S} Shoulder_{S} {s}_elbow
ElbowPart1_{S} Elbow_{S} {s}_elbow~{s}_wrist:0.5
Wrist_{S} Elbow_{S} {s}_wrist
Cup_{S} Wrist_{S} {s}_hand+0,0,-0.03
"""
_MMD = """
{全ての親} - ground
{センター} {全ての親} pelvis+0,-0.3,0
{グルーブ} {センター} pelvis+0,-0.28,0
{腰} {グルーブ} pelvis~spine1:0.7
{下半身} {腰} pelvis~spine1:1
{腰キャンセル} {下半身} {s}_hip
{足} {腰キャンセル} {s}_hip
{ひざ} {足} {s}_knee
{足首} {ひざ} {s}_ankle
{つま先} {足首} {s}_foot
{足D} {腰キャンセル} {s}_hip
{ひざD} {足D} {s}_knee
{足首D} {ひざD} {s}_ankle
{足先EX} {足首D} {s}_foot+0,0.01,-0.02
{足IK親} {全ての親} {s}_ankle+0,-0.05,0
{足IK} {足IK親} {s}_ankle
{つま先IK} {足IK} {s}_foot
{上半身} {腰} pelvis~spine1:1
{上半身2} {上半身} spine3
{首} {上半身2} neck
{頭} {首} head
{両目} {頭} head+0,0.3,0
{目} {頭} head+0.03,0.05,0.08
{肩P} {上半身2} {s}_collar
{肩} {肩P} {s}_collar
{肩C} {肩} {s}_shoulder
{腕} {肩C} {s}_shoulder
{腕捩} {腕} {s}_shoulder~{s}_elbow:0.6
{腕捩1} {腕} {s}_shoulder~{s}_elbow:0.3
{ひじ} {腕捩} {s}_elbow
{手捩} {ひじ} {s}_elbow~{s}_wrist:0.6
{手首} {手捩} {s}_wrist
{ダミー} {手首} {s}_hand
"""
_MMD_CENTRE = "全ての親 センター グルーブ 腰 下半身 上半身 上半身2 首 頭 両目"
_MMD_SIDED = (
    "腰キャンセル 足 ひざ 足首 つま先 足D ひざD 足首D 足先EX 足IK親 足IK つま先IK 目 肩P 肩 肩C 腕 腕捩 腕捩1 ひじ 手捩 手首 ダミー"
)
_ENGLISH_CENTRE = "mother center groove waist lower_~body upper_~body upper_~body2 neck head eyes"
_ENGLISH_SIDED = (
    "waist_~cancel leg knee ankle toe legD kneeD ankleD toe_~EX leg_~IK_~parent leg_~IK toe_~IK eye shoulderP "
    "shoulder shoulderC arm "
    "arm_~twist arm_~twist1 elbow wrist_~twist wrist dummy"
)
_MMD_ENGLISH = dict(zip(f"{_MMD_CENTRE} {_MMD_SIDED}".split(), f"{_ENGLISH_CENTRE} {_ENGLISH_SIDED}".split(), strict=True))


def _make_mmd(name: str, spelling: str, sides: tuple[str, str]) -> Family:
    """MMD's semi-standard skeleton; ``spelling`` is ``prefix``, ``suffix`` or ``english``."""

    def spell(word: str) -> str:
        text = _MMD_ENGLISH[word] if spelling == "english" else word.replace("IK", "ＩＫ")
        if word not in _MMD_SIDED.split():
            return text
        return "{S}" + text if spelling == "prefix" else text + {"suffix": ".{S}", "english": "_{S}"}[spelling]

    lines = _MMD
    for word in sorted(_MMD_ENGLISH, key=len, reverse=True):
        lines = lines.replace("{" + word + "}", spell(word))
    joints = "pelvis=腰 spine1=上半身 spine3=上半身2 neck=首 head=頭 {s}_collar=肩 {s}_shoulder=腕 {s}_elbow=ひじ "
    joints += "{s}_wrist=手首 {s}_hip=足 {s}_knee=ひざ {s}_ankle=足首 {s}_foot=つま先"
    joints = " ".join(f"{pair.split('=')[0]}={spell(pair.split('=')[1])}" for pair in joints.split())
    return Family(name, sides, lines, joints)


_ROBLOX = """
HumanoidRootNode - pelvis
LowerTorso HumanoidRootNode pelvis
UpperTorso LowerTorso spine2
Head UpperTorso neck
{S}UpperArm UpperTorso {s}_shoulder
{S}LowerArm {S}UpperArm {s}_elbow
{S}Hand {S}LowerArm {s}_wrist
{S}UpperLeg LowerTorso {s}_hip
{S}LowerLeg {S}UpperLeg {s}_knee
{S}Foot {S}LowerLeg {s}_ankle
"""
_KINECT = """
SpineBase - pelvis
SpineMid SpineBase spine2
SpineShoulder SpineMid neck+0,-0.03,0
Neck SpineShoulder neck
Head Neck head
Shoulder{S} SpineShoulder {s}_shoulder
Elbow{S} Shoulder{S} {s}_elbow
Wrist{S} Elbow{S} {s}_wrist
Hand{S} Wrist{S} {s}_hand
HandTip{S} Hand{S} {s}_hand+0.08,0,0
Thumb{S} Wrist{S} {s}_hand+0,0,0.05
Hip{S} SpineBase {s}_hip
Knee{S} Hip{S} {s}_knee
Ankle{S} Knee{S} {s}_ankle
Foot{S} Ankle{S} {s}_foot
"""
_ARP_EXPORT = """
root.x - pelvis
spine_01.x root.x spine1
spine_02.x spine_01.x spine2
spine_03.x spine_02.x spine3
neck.x spine_03.x neck
head.x neck.x head
shoulder.{S} spine_03.x {s}_collar
arm_stretch.{S} shoulder.{S} {s}_shoulder
arm_twist.{S} arm_stretch.{S} {s}_shoulder
forearm_stretch.{S} arm_stretch.{S} {s}_elbow
forearm_twist.{S} forearm_stretch.{S} {s}_elbow~{s}_wrist:0.5
hand.{S} forearm_stretch.{S} {s}_wrist
thigh_stretch.{S} root.x {s}_hip
thigh_twist.{S} thigh_stretch.{S} {s}_hip
leg_stretch.{S} thigh_stretch.{S} {s}_knee
leg_twist.{S} leg_stretch.{S} {s}_knee~{s}_ankle:0.5
foot.{S} leg_stretch.{S} {s}_ankle
toes_01.{S} foot.{S} {s}_foot
"""
_SMPLX = """
root - ground
pelvis root pelvis
{s}_hip pelvis {s}_hip
{s}_knee {s}_hip {s}_knee
{s}_ankle {s}_knee {s}_ankle
{s}_foot {s}_ankle {s}_foot
spine1 pelvis spine1
spine2 spine1 spine2
spine3 spine2 spine3
neck spine3 neck
head neck head
jaw head head+0,0,0.04
{s}_eye_smplhf head head+0.03,0.05,0.08
{s}_collar spine3 {s}_collar
{s}_shoulder {s}_collar {s}_shoulder
{s}_elbow {s}_shoulder {s}_elbow
{s}_wrist {s}_elbow {s}_wrist
"""

_METARIG = """
spine - pelvis
spine.001 spine spine1
spine.002 spine.001 spine2
spine.003 spine.002 spine3
spine.004 spine.003 neck
spine.005 spine.004 neck~head:0.5
spine.006 spine.005 head
pelvis.{S} spine pelvis
thigh.{S} spine {s}_hip
shin.{S} thigh.{S} {s}_knee
foot.{S} shin.{S} {s}_ankle
toe.{S} foot.{S} {s}_foot
heel.02.{S} foot.{S} {s}_ankle+0,-0.06,-0.04
breast.{S} spine.003 spine3+0.09,0,0.1
shoulder.{S} spine.003 {s}_collar
upper_arm.{S} shoulder.{S} {s}_shoulder
forearm.{S} upper_arm.{S} {s}_elbow
hand.{S} forearm.{S} {s}_wrist
"""

FAMILIES: tuple[Family, ...] = (
    _make_mixamo("Mixamo", "mixamorig:"),
    _make_mixamo("Mixamo, numbered", "mixamorig1:"),
    _make_mixamo("Mixamo, no colon", "mixamorig"),
    _make_mixamo("Mixamo, underscore", "mixamorig_"),
    _make_mixamo("ReadyPlayerMe", ""),
    _make_mixamo("HumanIK", "Character1_"),
    Family(
        "Unity humanoid",
        ("Left", "Right"),
        _UNITY + _UNITY_FINGERS,
        _joints(
            "Hips Spine Chest UpperChest Neck Head {S}Shoulder {S}UpperArm {S}LowerArm {S}Hand {S}UpperLeg {S}LowerLeg "
            "{S}Foot {S}Toes"
        ),
    ),
    Family(
        "VRM",
        ("L", "R"),
        _VRM + make_fingers("J_Bip_{S}_{F}{N}|Thumb,Index,Middle,Ring,Little", "J_Bip_{S}_Hand"),
        _joints(
            "J_Bip_C_Hips J_Bip_C_Spine J_Bip_C_Chest J_Bip_C_UpperChest J_Bip_C_Neck J_Bip_C_Head J_Bip_{S}_Shoulder "
            "J_Bip_{S}_UpperArm "
            "J_Bip_{S}_LowerArm J_Bip_{S}_Hand J_Bip_{S}_UpperLeg J_Bip_{S}_LowerLeg J_Bip_{S}_Foot J_Bip_{S}_ToeBase"
        ),
    ),
    Family(
        "VRM 1",
        ("left", "right"),
        "\n".join(" ".join(word[0].lower() + word[1:] for word in line.split()) for line in (_UNITY + _UNITY_FINGERS).splitlines()),
        _joints(
            "hips spine chest upperChest neck head {S}Shoulder {S}UpperArm {S}LowerArm {S}Hand {S}UpperLeg {S}LowerLeg "
            "{S}Foot {S}Toes"
        ),
    ),
    Family(
        "Unreal 5",
        ("l", "r"),
        _UNREAL + make_fingers("{F}_0{N}_{S}|thumb,index,middle,ring,pinky", "hand_{S}"),
        _joints(
            "pelvis spine_01 spine_02 spine_03 neck_01 head clavicle_{S} upperarm_{S} lowerarm_{S} hand_{S} thigh_{S} "
            "calf_{S} foot_{S} "
            "ball_{S}"
        ),
    ),
    Family(
        "Character Creator",
        ("L", "R"),
        _CC + make_fingers("CC_Base_{S}_{F}{N}|Thumb,Index,Mid,Ring,Pinky", "CC_Base_{S}_Hand"),
        _joints(
            "CC_Base_Hip CC_Base_Waist CC_Base_Spine01 CC_Base_Spine02 CC_Base_NeckTwist01 CC_Base_Head "
            "CC_Base_{S}_Clavicle "
            "CC_Base_{S}_Upperarm CC_Base_{S}_Forearm CC_Base_{S}_Hand CC_Base_{S}_Thigh CC_Base_{S}_Calf "
            "CC_Base_{S}_Foot "
            "CC_Base_{S}_ToeBase"
        ),
    ),
    Family(
        "Daz Genesis 8",
        ("l", "r"),
        _DAZ8 + make_fingers("{S}{F}{N}|Thumb,Index,Mid,Ring,Pinky", "{S}Hand"),
        _joints(
            "hip abdomenUpper chestLower chestUpper neckLower head {S}Collar {S}ShldrBend {S}ForearmBend {S}Hand "
            "{S}ThighBend {S}Shin "
            "{S}Foot {S}Toe"
        ),
    ),
    Family(
        "Daz Genesis 9",
        ("l", "r"),
        _DAZ9 + make_fingers("{S}_{F}{N}|thumb,index,mid,ring,pinky", "{S}_hand"),
        _joints(
            "hip spine1 spine2 spine3 neck1 head {S}_shoulder {S}_upperarm {S}_forearm {S}_hand {S}_thigh {S}_shin "
            "{S}_foot {S}_toes"
        ),
    ),
    Family(
        "MakeHuman",
        ("L", "R"),
        _MAKEHUMAN + make_fingers("finger{F}-{N}.{S}|1,2,3,4,5", "wrist.{S}"),
        _joints(
            "root spine04 spine03 spine02 neck01 head clavicle.{S} upperarm01.{S} lowerarm01.{S} wrist.{S} "
            "upperleg01.{S} lowerleg01.{S} "
            "foot.{S} -"
        ),
    ),
    Family(
        "MB-Lab",
        ("L", "R"),
        _MBLAB + make_fingers("{F}0{N}_{S}|thumb,index,middle,ring,pinky", "hand_{S}"),
        _joints(
            "pelvis spine01 spine02 spine03 neck head clavicle_{S} upperarm_{S} lowerarm_{S} hand_{S} thigh_{S} "
            "calf_{S} foot_{S} toes_{S}"
        ),
    ),
    _make_biped("Biped", "Bip01", "Spine", "Neck"),
    _make_biped("Biped, newer", "Bip001", "Pelvis", "Spine2"),
    _make_biped("Source engine", "ValveBiped.Bip01", "Pelvis", "Spine2", "_"),
    Family(
        "Advanced Skeleton",
        ("L", "R"),
        _ADVANCED + make_fingers("{F}Finger{N}_{S}|Thumb,Index,Middle,Ring,Pinky", "Wrist_{S}"),
        _joints(
            "Root_M Spine1_M Spine2_M Chest_M Neck_M Head_M Scapula_{S} Shoulder_{S} Elbow_{S} Wrist_{S} Hip_{S} "
            "Knee_{S} Ankle_{S} "
            "Toes_{S}"
        ),
    ),
    _make_mmd("MMD", "prefix", ("左", "右")),
    _make_mmd("MMD, Blender's names", "suffix", ("L", "R")),
    _make_mmd("MMD, English names", "english", ("L", "R")),
    Family(
        "Roblox",
        ("Left", "Right"),
        _ROBLOX,
        "pelvis=LowerTorso spine3=UpperTorso head=Head {s}_shoulder={S}UpperArm {s}_elbow={S}LowerArm "
        "{s}_wrist={S}Hand "
        "{s}_hip={S}UpperLeg {s}_knee={S}LowerLeg {s}_ankle={S}Foot",
    ),
    Family(
        "Kinect",
        ("Left", "Right"),
        _KINECT,
        "pelvis=SpineBase spine1=SpineMid spine3=SpineShoulder neck=Neck head=Head {s}_shoulder=Shoulder{S} "
        "{s}_elbow=Elbow{S} "
        "{s}_wrist=Wrist{S} {s}_hip=Hip{S} {s}_knee=Knee{S} {s}_ankle=Ankle{S} {s}_foot=Foot{S}",
    ),
    Family(
        "Auto-Rig Pro",
        ("l", "r"),
        _ARP_EXPORT + make_fingers("{F}{N}.{S}|thumb,index,middle,ring,pinky", "hand.{S}"),
        _joints(
            "root.x spine_01.x spine_02.x spine_03.x neck.x head.x shoulder.{S} arm_stretch.{S} forearm_stretch.{S} "
            "hand.{S} "
            "thigh_stretch.{S} leg_stretch.{S} foot.{S} toes_01.{S}"
        ),
    ),
    Family(
        "SMPL-X",
        ("left", "right"),
        _SMPLX.replace("{s}_", "{S}_").replace(" {S}_", " {s}_"),
        _joints(
            "pelvis spine1 spine2 spine3 neck head {S}_collar {S}_shoulder {S}_elbow {S}_wrist {S}_hip {S}_knee {S}_ankle {S}_foot"
        ),
    ),
    Family(
        "Rigify metarig",
        ("L", "R"),
        _METARIG,
        _joints(
            "spine spine.001 spine.002 spine.003 spine.004 spine.006 shoulder.{S} upper_arm.{S} forearm.{S} hand.{S} "
            "thigh.{S} shin.{S} "
            "foot.{S} toe.{S}"
        ),
    ),
)
