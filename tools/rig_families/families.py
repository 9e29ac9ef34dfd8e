"""Every family that is tried: its bones with fingers, how it spells the sides, and its bone map as an artist would make it."""

from __future__ import annotations

from .bones import (
    ADVANCED,
    ARP_EXPORT,
    BIPED,
    CC,
    DAZ8,
    DAZ9,
    KINECT,
    MAKEHUMAN,
    MBLAB,
    METARIG,
    MIXAMO,
    MMD,
    ROBLOX,
    SMPLX,
    UNITY,
    UNREAL,
    VRM,
)
from .skeletons import Family


def make_fingers(names: str, hand: str) -> str:
    """Lines for five fingers of three bones; ``names`` has ``{F}`` for the finger, and ``{N}`` for the bone's number."""
    out = ""
    for n, finger in enumerate(names.split("|")[1].split(",")):
        parent = hand
        for k in (1, 2, 3):
            bone = names.split("|")[0].replace("{F}", finger).replace("{N}", str(k))
            out += f"{bone} {parent} {{s}}_wrist~{{s}}_hand:{0.9 + 0.3 * k:.1f}+0,0,{0.04 - 0.02 * n:.2f}\n"
            parent = bone
    return out


_MIXAMO_JOINTS = """
pelvis={P}Hips spine1={P}Spine spine2={P}Spine1 spine3={P}Spine2 neck={P}Neck head={P}Head
{s}_collar={P}{S}Shoulder {s}_shoulder={P}{S}Arm {s}_elbow={P}{S}ForeArm {s}_wrist={P}{S}Hand
{s}_hip={P}{S}UpLeg {s}_knee={P}{S}Leg {s}_ankle={P}{S}Foot {s}_foot={P}{S}ToeBase
"""


def _make_mixamo(name: str, prefix: str) -> Family:
    fingers = make_fingers("{P}{S}Hand{F}{N}|Thumb,Index,Middle,Ring,Pinky", "{P}{S}Hand")
    return Family(name, ("Left", "Right"), (MIXAMO + fingers).replace("{P}", prefix), _MIXAMO_JOINTS.replace("{P}", prefix))


_PLAIN = "pelvis={0} spine1={1} spine2={2} spine3={3} neck={4} head={5} {{s}}_collar={6} {{s}}_shoulder={7} {{s}}_elbow={8} "
_PLAIN += "{{s}}_wrist={9} {{s}}_hip={10} {{s}}_knee={11} {{s}}_ankle={12} {{s}}_foot={13}"


def _pair_joints(text: str) -> str:
    """The joints line for bones in the order pelvis, spine1-3, neck, head, collar, shoulder, elbow, wrist, hip, knee, ankle, foot;
    ``-`` for one that the family lacks."""
    pairs = _PLAIN.format(*text.split()).split()
    return " ".join(pair for pair in pairs if not pair.endswith("=-"))


_UNITY_FINGERS = make_fingers("{S}{F}{N}|Thumb,Index,Middle,Ring,Little", "{S}Hand")
_BIPED_JOINTS = _pair_joints(
    "{B}_~Pelvis {B}_~Spine {B}_~Spine1 {B}_~Spine2 {B}_~Neck {B}_~Head {B}_~{S}_~Clavicle {B}_~{S}_~UpperArm {B}_~{S}_~Forearm "
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
    return Family(name, ("L", "R"), fill(BIPED + fingers), joints)


_MMD_CENTRE = "全ての親 センター グルーブ 腰 下半身 上半身 上半身2 首 頭 両目"
_MMD_SIDED = (
    "腰キャンセル 足 ひざ 足首 つま先 足D ひざD 足首D 足先EX 足IK親 足IK つま先IK 目 肩P 肩 肩C 腕 腕捩 腕捩1 ひじ 手捩 手首 ダミー"
)
_ENGLISH_CENTRE = "mother center groove waist lower_~body upper_~body upper_~body2 neck head eyes"
_ENGLISH_SIDED = (
    "waist_~cancel leg knee ankle toe legD kneeD ankleD toe_~EX leg_~IK_~parent leg_~IK toe_~IK eye shoulderP shoulder shoulderC "
    "arm arm_~twist arm_~twist1 elbow wrist_~twist wrist dummy"
)
_MMD_ENGLISH = dict(zip(f"{_MMD_CENTRE} {_MMD_SIDED}".split(), f"{_ENGLISH_CENTRE} {_ENGLISH_SIDED}".split(), strict=True))


def _make_mmd(name: str, spelling: str, sides: tuple[str, str]) -> Family:
    """MMD's semi-standard skeleton; ``spelling`` is ``prefix``, ``suffix`` or ``english``."""

    def spell(word: str) -> str:
        text = _MMD_ENGLISH[word] if spelling == "english" else word.replace("IK", "ＩＫ")
        if word not in _MMD_SIDED.split():
            return text
        return "{S}" + text if spelling == "prefix" else text + {"suffix": ".{S}", "english": "_{S}"}[spelling]

    lines = MMD
    for word in sorted(_MMD_ENGLISH, key=len, reverse=True):
        lines = lines.replace("{" + word + "}", spell(word))
    joints = "pelvis=腰 spine1=上半身 spine3=上半身2 neck=首 head=頭 {s}_collar=肩 {s}_shoulder=腕 {s}_elbow=ひじ "
    joints += "{s}_wrist=手首 {s}_hip=足 {s}_knee=ひざ {s}_ankle=足首 {s}_foot=つま先"
    joints = " ".join(f"{pair.split('=')[0]}={spell(pair.split('=')[1])}" for pair in joints.split())
    return Family(name, sides, lines, joints)


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
        UNITY + _UNITY_FINGERS,
        _pair_joints(
            "Hips Spine Chest UpperChest Neck Head {S}Shoulder {S}UpperArm {S}LowerArm {S}Hand {S}UpperLeg {S}LowerLeg {S}Foot "
            "{S}Toes"
        ),
    ),
    Family(
        "VRM",
        ("L", "R"),
        VRM + make_fingers("J_Bip_{S}_{F}{N}|Thumb,Index,Middle,Ring,Little", "J_Bip_{S}_Hand"),
        _pair_joints(
            "J_Bip_C_Hips J_Bip_C_Spine J_Bip_C_Chest J_Bip_C_UpperChest J_Bip_C_Neck J_Bip_C_Head J_Bip_{S}_Shoulder "
            "J_Bip_{S}_UpperArm J_Bip_{S}_LowerArm J_Bip_{S}_Hand J_Bip_{S}_UpperLeg J_Bip_{S}_LowerLeg J_Bip_{S}_Foot "
            "J_Bip_{S}_ToeBase"
        ),
    ),
    Family(
        "VRM 1",
        ("left", "right"),
        "\n".join(" ".join(word[0].lower() + word[1:] for word in line.split()) for line in (UNITY + _UNITY_FINGERS).splitlines()),
        _pair_joints(
            "hips spine chest upperChest neck head {S}Shoulder {S}UpperArm {S}LowerArm {S}Hand {S}UpperLeg {S}LowerLeg {S}Foot "
            "{S}Toes"
        ),
    ),
    Family(
        "Unreal 5",
        ("l", "r"),
        UNREAL + make_fingers("{F}_0{N}_{S}|thumb,index,middle,ring,pinky", "hand_{S}"),
        _pair_joints(
            "pelvis spine_01 spine_02 spine_03 neck_01 head clavicle_{S} upperarm_{S} lowerarm_{S} hand_{S} thigh_{S} calf_{S} "
            "foot_{S} ball_{S}"
        ),
    ),
    Family(
        "Character Creator",
        ("L", "R"),
        CC + make_fingers("CC_Base_{S}_{F}{N}|Thumb,Index,Mid,Ring,Pinky", "CC_Base_{S}_Hand"),
        _pair_joints(
            "CC_Base_Hip CC_Base_Waist CC_Base_Spine01 CC_Base_Spine02 CC_Base_NeckTwist01 CC_Base_Head CC_Base_{S}_Clavicle "
            "CC_Base_{S}_Upperarm CC_Base_{S}_Forearm CC_Base_{S}_Hand CC_Base_{S}_Thigh CC_Base_{S}_Calf CC_Base_{S}_Foot "
            "CC_Base_{S}_ToeBase"
        ),
    ),
    Family(
        "Daz Genesis 8",
        ("l", "r"),
        DAZ8 + make_fingers("{S}{F}{N}|Thumb,Index,Mid,Ring,Pinky", "{S}Hand"),
        _pair_joints(
            "hip abdomenUpper chestLower chestUpper neckLower head {S}Collar {S}ShldrBend {S}ForearmBend {S}Hand {S}ThighBend "
            "{S}Shin {S}Foot {S}Toe"
        ),
    ),
    Family(
        "Daz Genesis 9",
        ("l", "r"),
        DAZ9 + make_fingers("{S}_{F}{N}|thumb,index,mid,ring,pinky", "{S}_hand"),
        _pair_joints(
            "hip spine1 spine2 spine3 neck1 head {S}_shoulder {S}_upperarm {S}_forearm {S}_hand {S}_thigh {S}_shin {S}_foot "
            "{S}_toes"
        ),
    ),
    Family(
        "MakeHuman",
        ("L", "R"),
        MAKEHUMAN + make_fingers("finger{F}-{N}.{S}|1,2,3,4,5", "wrist.{S}"),
        _pair_joints(
            "root spine04 spine03 spine02 neck01 head clavicle.{S} upperarm01.{S} lowerarm01.{S} wrist.{S} upperleg01.{S} "
            "lowerleg01.{S} foot.{S} -"
        ),
    ),
    Family(
        "MB-Lab",
        ("L", "R"),
        MBLAB + make_fingers("{F}0{N}_{S}|thumb,index,middle,ring,pinky", "hand_{S}"),
        _pair_joints(
            "pelvis spine01 spine02 spine03 neck head clavicle_{S} upperarm_{S} lowerarm_{S} hand_{S} thigh_{S} calf_{S} "
            "foot_{S} toes_{S}"
        ),
    ),
    _make_biped("Biped", "Bip01", "Spine", "Neck"),
    _make_biped("Biped, newer", "Bip001", "Pelvis", "Spine2"),
    _make_biped("Source engine", "ValveBiped.Bip01", "Pelvis", "Spine2", "_"),
    Family(
        "Advanced Skeleton",
        ("L", "R"),
        ADVANCED + make_fingers("{F}Finger{N}_{S}|Thumb,Index,Middle,Ring,Pinky", "Wrist_{S}"),
        _pair_joints(
            "Root_M Spine1_M Spine2_M Chest_M Neck_M Head_M Scapula_{S} Shoulder_{S} Elbow_{S} Wrist_{S} Hip_{S} Knee_{S} "
            "Ankle_{S} Toes_{S}"
        ),
    ),
    _make_mmd("MMD", "prefix", ("左", "右")),
    _make_mmd("MMD, Blender's names", "suffix", ("L", "R")),
    _make_mmd("MMD, English names", "english", ("L", "R")),
    Family(
        "Roblox",
        ("Left", "Right"),
        ROBLOX,
        "pelvis=LowerTorso spine3=UpperTorso head=Head {s}_shoulder={S}UpperArm {s}_elbow={S}LowerArm {s}_wrist={S}Hand "
        "{s}_hip={S}UpperLeg {s}_knee={S}LowerLeg {s}_ankle={S}Foot",
    ),
    Family(
        "Kinect",
        ("Left", "Right"),
        KINECT,
        "pelvis=SpineBase spine1=SpineMid spine3=SpineShoulder neck=Neck head=Head {s}_shoulder=Shoulder{S} {s}_elbow=Elbow{S} "
        "{s}_wrist=Wrist{S} {s}_hip=Hip{S} {s}_knee=Knee{S} {s}_ankle=Ankle{S} {s}_foot=Foot{S}",
    ),
    Family(
        "Auto-Rig Pro",
        ("l", "r"),
        ARP_EXPORT + make_fingers("{F}{N}.{S}|thumb,index,middle,ring,pinky", "hand.{S}"),
        _pair_joints(
            "root.x spine_01.x spine_02.x spine_03.x neck.x head.x shoulder.{S} arm_stretch.{S} forearm_stretch.{S} hand.{S} "
            "thigh_stretch.{S} leg_stretch.{S} foot.{S} toes_01.{S}"
        ),
    ),
    Family(
        "SMPL-X",
        ("left", "right"),
        SMPLX.replace("{s}_", "{S}_").replace(" {S}_", " {s}_"),
        _pair_joints(
            "pelvis spine1 spine2 spine3 neck head {S}_collar {S}_shoulder {S}_elbow {S}_wrist {S}_hip {S}_knee {S}_ankle {S}_foot"
        ),
    ),
    Family(
        "Rigify metarig",
        ("L", "R"),
        METARIG,
        _pair_joints(
            "spine spine.001 spine.002 spine.003 spine.004 spine.006 shoulder.{S} upper_arm.{S} forearm.{S} hand.{S} thigh.{S} "
            "shin.{S} foot.{S} toe.{S}"
        ),
    ),
)
