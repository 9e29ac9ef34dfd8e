"""What the name of a bone says: which side it is on, which part of a body it is, and whether it is only a helper. No bpy.

Names of all programs are cut into the same few words, so that ``mixamorig:LeftUpLeg``, ``Bip01 L Thigh``, ``upperleg01.L``,
``c_thigh_fk.l`` and ``左足`` say the same. What the words leave open (whether a "leg" is a thigh or a shin) depends on the other
bones of the rig, and is decided where all of them are known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: words of Japanese rigs; longer ones first, since they contain the shorter ones
_JAPANESE = (
    ("下半身", "lowerbody"),
    ("上半身", "spine"),
    ("足首", "ankle"),
    ("足先", "toe"),
    ("足指", "toe"),
    ("つま先", "toe"),
    ("手首", "wrist"),
    ("手捩", "twist"),
    ("腕捩", "twist"),
    ("ひざ", "knee"),
    ("膝", "knee"),
    ("ひじ", "elbow"),
    ("肘", "elbow"),
    ("左", "left"),
    ("右", "right"),
    ("足", "leg"),
    ("腕", "arm"),
    ("肩", "clavicle"),
    ("首", "neck"),
    ("頭", "head"),
    ("腰", "waist"),
    ("センター", "center"),
    ("グルーブ", "groove"),
    ("捩", "twist"),
    ("ＩＫ", "ik"),
    ("親", "parent"),
    ("ダミー", "dummy"),
    ("キャンセル", "cancel"),
    ("髪", "hair"),
    ("スカート", "skirt"),
    ("袖", "sleeve"),
    ("胸", "breast"),
    ("目", "eye"),
    ("指", "finger"),
)
_SIDES = {"l": "left", "left": "left", "lf": "left", "lft": "left", "r": "right", "right": "right", "rt": "right", "rgt": "right"}
#: sides that are no side: the middle
_MIDDLE = {"x", "m", "c", "mid", "center", "centre", "cn"}
#: words in front of a bone's own name that only say whose it is
_PREFIXES = re.compile(
    r"^(?:mixamorig\d*[_ ]?|CC_Base_|CC3?_|RL_|ValveBiped[._]|Bip\d+[_ ]?|J_Bip_|J_Sec_|J_Adj_|Character\d+_|HumanoidRoot|Avatar_|"
    r"b_|bn_|jnt_|bone_|sk_|rig_|f_avg_|m_avg_)",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+")

#: part -> the words for it, joined
_PARTS: dict[str, tuple[str, ...]] = {
    "thigh": ("thigh", "thighbend", "upleg", "upperleg", "legupper", "femur", "upperthigh", "legup"),
    "leg": ("leg",),
    "shin": ("shin", "shinbend", "calf", "lowleg", "lowerleg", "leglower", "tibia", "crus", "foreleg", "legdown", "legdn"),
    "knee": ("knee",),
    "ankle": ("ankle",),
    "foot": ("foot", "feet"),
    "toe": ("toe", "toes", "toebase", "ball", "toesbase", "football", "balltoe", "toebend"),
    "clavicle": ("clavicle", "clav", "collar", "scapula", "collarbone", "shoulderblade"),
    "shoulder": ("shoulder",),
    "upperarm": ("upperarm", "uparm", "armupper", "shldr", "shldrbend", "humerus", "upperarmbend", "armup"),
    "arm": ("arm",),
    "forearm": ("forearm", "forearmbend", "lowerarm", "lowarm", "armlower", "ulna", "radius", "armdown", "armdn"),
    "elbow": ("elbow",),
    "wrist": ("wrist",),
    "hand": ("hand", "palm"),
    "pelvis": ("hips", "pelvis", "hip", "lowertorso", "spinebase", "root", "rootmaster", "lowerbody", "torso", "cog", "waistroot"),
    "spine": (
        "spine", "spinelower", "spinemiddle", "spineupper", "spinemid", "spineshoulder", "chest", "upperchest", "chestlower",
        "chestupper", "abdomen", "abdomenlower", "abdomenupper", "waist", "torso", "uppertorso", "ribs", "ribcage", "upperbody",
        "lowerback", "back", "thorax", "spinenaval", "spinechest", "midspine", "spinefk", "breastbone",
    ),
    "neck": ("neck", "necklower", "necktwist", "neckbase"),
    "head": ("head", "skull"),
}  # fmt: skip
_PART_OF = {word: part for part, words in reversed(_PARTS.items()) for word in words}
_SIDED = {"thigh", "leg", "shin", "knee", "ankle", "foot", "toe"} | {
    "clavicle", "shoulder", "upperarm", "arm", "forearm", "elbow", "wrist", "hand",
}  # fmt: skip

_HELPER_WORDS = (
    "twist twst roll ik pole target targ end nub tip site effector helper dummy socket attach mount prop weapon sword gun "
    "shield staff holster bag belt hair bang bangs fringe pony ponytail braid pigtail twintail bun skirt dress cape cloak "
    "coat cloth robe sleeve scarf ribbon tie tail wing wings feather fin breast breasts boob bust pec pectoral butt glute "
    "eye eyelid brow jaw tongue teeth lip mouth cheek nose ear ears face hat helmet horn antenna thumb index middle ring "
    "pinky little finger metacarpal carpal metatarsal metatarsals bigtoe smalltoe heel rock share muscle bulge corrective "
    "correct offset adjust adj cancel snap pin tweak mch vis wgt widget pivot parent parented mid part in out bck fwd lat "
    "medial tricep bicep kneecap genital genitals pocket strap armor armour pad cuff collarcloth hood veil chain accessory "
    "physics phys dyn spring jiggle collider stretch2 cursor spin shadow rein flap twistbone kneeback elbowback sub aux drv "
    "driver mirror ref reference trail "
)
#: a bone with one of these words never carries a joint
HELPERS = frozenset(_HELPER_WORDS.split())
#: layers of control rigs, the one to key first
CONTROL, FK, PLAIN, DEFORM, ORIGINAL = 0, 1, 2, 3, 4


@dataclass(frozen=True)
class BoneName:
    """``side``: left, right or empty; ``part``: a key of the parts known here, or empty; ``number``: the first number of the name,
    or 0; ``helper``: the word that says that it carries no joint, or empty; ``layer``: Auto-Rig Pro's ``CONTROL`` and ``FK`` bones
    are keyed before ``PLAIN`` ones, and those before ``DEFORM`` and ``ORIGINAL`` copies of them."""

    side: str
    part: str
    number: int
    helper: str
    layer: int


def _split(name: str) -> list[str]:
    """A name's words in lower case, without namespaces and what stands in front of every bone's name."""
    name = re.sub(r"^.*[:|]", "", name)
    for japanese, english in _JAPANESE:
        name = name.replace(japanese, f" {english} ")
    before = None
    while before != name:
        before, name = name, _PREFIXES.sub("", name) or name
    return [word.lower() for word in _WORDS.findall(name.replace("'", ""))]


def _cut_side(word: str) -> list[str]:
    """A word such as ``leftupleg`` or ``lthigh`` as side and rest; names in lower case alone have no other mark."""
    if word in _PART_OF or word in _SIDES or word in HELPERS:
        return [word]
    for side in ("left", "right", "l", "r"):
        for rest, parts in ((word.removeprefix(side), word.startswith(side)), (word.removesuffix(side), word.endswith(side))):
            known = _PART_OF.get(rest, "")
            if parts and rest and (known in _SIDED or rest == "hip" or (len(side) > 1 and known)):
                return [side, rest]
    return [word]


def read_bone_name(name: str) -> BoneName:
    """What a bone's name says."""
    words = [part for word in _split(name) for part in _cut_side(word)]
    layer = PLAIN
    if words[:1] == ["def"]:
        layer, words = DEFORM, words[1:]
    elif words[:1] == ["org"]:
        layer, words = ORIGINAL, words[1:]
    if "fk" in words:
        layer, words = min(layer, FK), [word for word in words if word != "fk"]
    if re.match(r"c_.*\.[lrx]$", name):
        layer, words = CONTROL, words[1:]
    if "stretch" in words:
        layer, words = DEFORM, [word for word in words if word != "stretch"]
    side, rest, number = "", [], 0
    for word in words:
        if word in _SIDES and not side:
            side = _SIDES[word]
        elif word.isdigit():
            number = number or int(word[:6])
        elif word not in _MIDDLE and word not in ("j", "bip", "bone", "jnt", "joint", "ctrl", "con", "anim"):
            rest.append(word)
    helper = next((word for word in rest if word in HELPERS), "")
    joined = "".join(rest)
    part = _PART_OF.get(joined, "")
    if part == "neck":
        helper = ""
    if joined.endswith("d") and joined[:-1] in ("leg", "knee", "ankle") and side:
        # MMD's copies of the legs, which deform in their place
        helper = "copy"
    if not part and not helper:
        helper = next((word for word in sorted(HELPERS) if len(word) > 3 and word in joined and joined not in _PART_OF), "")
    return BoneName(side, part, number, helper, layer)


UNKNOWN_FAMILY = "names of its bones"
#: family -> what only its names contain; the first that fits names it
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("MMD", r"(?i)^(?:upper|lower)[ _]body\d?$"),
    ("Rigify control rig", r"^(?:thigh_fk|upper_arm_fk)\.[LR]$"),
    ("Auto-Rig Pro", r"^c_thigh_fk\.[lr]$|^thigh_stretch\.[lr]$"),
    ("Character Creator", r"^CC_Base_"),
    ("Source engine", r"^ValveBiped"),
    ("Biped", r"^Bip\d+\b"),
    ("VRM", r"^J_Bip_"),
    ("Daz", r"^[lr]ThighBend$|^[lr]ShldrBend$|^[lr]Shldr$|^l_thightwist1$"),
    ("MakeHuman", r"^upperleg0[12]\.[LR]$"),
    ("Advanced Skeleton", r"^(?:Scapula|Hip)_[LR]$"),
    ("MB-Lab", r"^(?:thigh_twist|upperarm_twist|rot_helper\w*|upperarm_roll)_?\d*_[LR]$"),
    ("Mixamo", r"^(?:.*:)?mixamorig"),
    ("HumanIK", r"^Character\d+_"),
    ("Roblox", r"^(?:Lower|Upper)Torso$"),
    ("Kinect", r"(?i)^spine_?(?:base|naval)$"),
    ("Rigify metarig", r"^(?:ORG-|DEF-)?upper_arm\.[LR]$"),
    ("Unity humanoid", r"^(?:.*[:|])?(?i:left)_?UpperLeg$"),
    ("Unreal", r"(?i)^(?:calf|lowerarm)_[lr]$"),
)


def name_family(names: tuple[str, ...]) -> str:
    """The family of rigs that bone names belong to, as its users call it; ``UNKNOWN_FAMILY`` for one that is not known."""
    if any(any(ord(letter) > 0x3000 for letter in name) for name in names):
        return "MMD"
    for family, pattern in _FAMILIES:
        if any(re.search(pattern, name) for name in names):
            return family
    return UNKNOWN_FAMILY
