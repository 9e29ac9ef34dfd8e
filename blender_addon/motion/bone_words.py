"""The words in a bone's name, in the spellings and the languages that people use, as the words of one vocabulary. No bpy."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_SIDE_WORDS = {
    word: side
    for side, words in {
        "left": "left l lf lft links linke linker linkes izq izquierda izquierdo esq esquerda esquerdo gauche sx sinistra sinistro",
        "right": "right r rt rgt rg rechts rechte rechter rechtes der derecha derecho dir direita direito droite droit dx "
        "destra destro",
    }.items()
    for word in words.split()
}
#: letters for left and right in languages whose left does not begin with l
_SIDE_LETTERS = (("g", "d"), ("i", "d"), ("s", "d"), ("e", "d"))
#: words of bones that are no joint of ours although another word in their name says so
_OTHERS = re.compile(
    "twist|twst|roll|ik|pole|target|end|nub|tip|eff|effector|helper|aux|cloth|skirt|thumb|index|middle|ring|pinky|little|fingers?|"
    "carpal|metacarpal|eye|jaw|tongue|breast|pec|pectoral|boob|buttock|butt|glute|weapon|prop|hair|ear|wing|tail|cape|sleeve|pocket|"
    "offset|heel|corrective|muscle|site|socket|attach|holster|top|camera|floor|shadow|mouth|lip|brow|cheek|nose|teeth|handtip|bag|"
    "belt|share"
)
#: words glued to a side, and compounds that are written in one word
_COMPOUNDS = {
    "uparm": "up arm",
    "upperarm": "up arm",
    "bicep": "up arm",
    "biceps": "up arm",
    "lowarm": "low arm",
    "loarm": "low arm",
    "lowerarm": "low arm",
    "forearm": "fore arm",
    "upleg": "up leg",
    "upperleg": "up leg",
    "lowleg": "low leg",
    "loleg": "low leg",
    "lowerleg": "low leg",
    "midleg": "low leg",
    "shldr": "shldr",
    "toebase": "toe",
    "toes": "toe",
    "hipjoint": "hip joint",
    "headtop": "head top",
    "headend": "head end",
    "lowerback": "back",
    "upperback": "back",
    "lowerneck": "neck",
    "upperneck": "neck up",
    "lowerspine": "spine",
    "upperspine": "spine",
    "bigtoe": "toe",
    "toetip": "toe tip",
}
_WORDS = {"up": "up", "upper": "up", "low": "low", "lower": "low", "lo": "low", "fore": "fore"}
#: what a joint is called in German, Dutch, Spanish, Portuguese, French and Italian, without accents
_TRANSLATED = {
    word: english
    for english, words in {
        "pelvis": "becken bekken pelvico bassin bacino bacia",
        "hip": "hufte huefte heup cadera quadril hanche anca",
        "spine": "wirbel wirbelsaule wirbelsaeule rug columna coluna colonne colonna espina espinha dos",
        "chest": "brust brustkorb borst pecho peito torace poitrine",
        "neck": "hals nacken nek cuello pescoco cou collo",
        "head": "kopf schadel schaedel hoofd cabeza cabeca tete testa",
        "clavicle": "schlusselbein schluesselbein sleutelbeen clavicule clavicola",
        "shoulder": "schulter schouder hombro ombro epaule spalla",
        "up arm": "oberarm bovenarm",
        "arm": "brazo braco bras braccio",
        "fore arm": "unterarm onderarm antebrazo antebraco avantbras avambraccio",
        "elbow": "ellbogen ellenbogen elleboog codo cotovelo coude gomito",
        "wrist": "handgelenk pols muneca pulso punho poignet polso",
        "hand": "mano mao main",
        "thigh": "oberschenkel dijbeen muslo coxa cuisse coscia",
        "leg": "bein been pierna perna jambe gamba",
        "calf": "unterschenkel onderbeen wade pantorrilla panturrilha mollet polpaccio",
        "knee": "knie rodilla joelho genou ginocchio",
        "ankle": "knochel knoechel enkel tobillo tornozelo cheville caviglia",
        "foot": "fuss fus voet pie pe pied piede",
        "toe": "zeh zehe zehen ballen teen tenen dedos dedo punta ponta orteil orteils dita",
        "finger": "daumen zeigefinger mittelfinger ringfinger pulgar polegar pouce pollice doigt",
        "twist": "drehung torsion torsion giro torcao",
        "hair": "haar haare pelo cabelo cheveux capelli",
        "eye": "auge ojo olho oeil occhio",
        "jaw": "kiefer mandibula machoire mascella",
        "tail": "schwanz cola cauda queue coda",
        "skirt": "rock falda saia jupe gonna",
    }.items()
    for word in words.split()
}
#: Japanese and Chinese, longer ones first where one contains another
_SIGNS = (
    ("左", " left "),
    ("右", " right "),
    ("親指", " thumb "),
    ("人指", " index "),
    ("中指", " middle "),
    ("薬指", " ring "),
    ("小指", " pinky "),
    ("手指", " finger "),
    ("拇指", " thumb "),
    ("食指", " index "),
    ("足首", " ankle "),
    ("脚踝", " ankle "),
    ("手首", " wrist "),
    ("手腕", " wrist "),
    ("つま先", " toe "),
    ("爪先", " toe "),
    ("足先", " toe "),
    ("脚趾", " toe "),
    ("脚尖", " toe "),
    ("太もも", " thigh "),
    ("もも", " thigh "),
    ("大腿", " thigh "),
    ("小腿", " calf "),
    ("すね", " calf "),
    ("ひざ", " knee "),
    ("膝", " knee "),
    ("ひじ", " elbow "),
    ("肘", " elbow "),
    ("上腕", " up arm "),
    ("上臂", " up arm "),
    ("前腕", " fore arm "),
    ("前臂", " fore arm "),
    ("鎖骨", " clavicle "),
    ("锁骨", " clavicle "),
    ("肩", " shoulder "),
    ("腕", " arm "),
    ("臂", " arm "),
    ("手", " hand "),
    ("下半身", " pelvis "),
    ("上半身", " spine "),
    ("骨盤", " pelvis "),
    ("骨盆", " pelvis "),
    ("腰", " hips "),
    ("脊", " spine "),
    ("背", " spine "),
    ("胸", " chest "),
    ("足", " leg "),
    ("脚", " foot "),
    ("腿", " leg "),
    ("首", " neck "),
    ("颈", " neck "),
    ("頭", " head "),
    ("头", " head "),
    ("捩", " twist "),
    ("髪", " hair "),
    ("スカート", " skirt "),
    ("目", " eye "),
    ("先", " tip "),
)
_LIMB_WORDS = re.compile(
    "collar|clavicle|clavicula|clav|scapula|shoulder|shldr|humerus|arm|elbow|radius|ulna|wrist|hand|palm|thigh|femur|hip|leg|shin|calf|"
    "tibia|crus|knee|ankle|foot|toe|ball|buttock|eye|thumb|hipjoint|up|low|fore"
)


def is_other(word: str) -> bool:
    """Whether a bone with this word in its name is no joint of a body, whatever else its name says."""
    return _OTHERS.fullmatch(word) is not None


def find_side_letters(names: Sequence[str]) -> dict[str, str]:
    """Letters that stand for left and right in the names of a skeleton's bones, besides those that always do.

    They count where several limbs differ in nothing else, and fewer have a usual word for a side.
    """
    usual = sum(side is not None and not any(map(is_other, words)) for side, words in map(split_name, names))
    parts = [tuple(_split(name)) for name in names]
    known = set(parts)
    for left, right in _SIDE_LETTERS:
        pairs = sum(
            part == left and (*name[:at], right, *name[at + 1 :]) in known and any(map(_is_known, name))
            for name in parts
            for at, part in enumerate(name)
        )
        if pairs >= max(4, usual):
            return {left: "left", right: "right"}
    return {}


def _split(name: str) -> list[str]:
    """The parts of a name in lower case, without accents: at signs, at capitals and at numbers."""
    bare = re.sub(r"^.*[:|]", "", unicodedata.normalize("NFKC", name)).replace("ß", "ss")
    for sign, word in _SIGNS:
        bare = bare.replace(sign, word)
    bare = "".join(c for c in unicodedata.normalize("NFKD", bare) if not unicodedata.combining(c))
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", bare)]


def split_name(name: str, letters: dict[str, str] | None = None) -> tuple[str | None, tuple[str, ...]]:
    """(side or None, words in lower case) of a bone's name in any spelling: ``mixamorig:LeftUpLeg``, ``thigh_l``, ``Oberarm.R``.

    ``letters``: more words that stand for a side, as from ``find_side_letters``.
    """
    sides = _SIDE_WORDS | (letters or {})
    side: str | None = None
    words: list[str] = []
    for word in _split(name):
        if word in sides and side is None:
            side = sides[word]
            continue
        if side is None:
            for spelling in ("left", "right", "l", "r"):
                for rest in (word[len(spelling) :] if word.startswith(spelling) else "", word.removesuffix(spelling)):
                    if rest != word and _is_known(rest) and not _is_known(word):
                        side, word = _SIDE_WORDS[spelling], rest
                        break
                if side:
                    break
        words.append(word)
    glued: list[str] = []
    for word in words:
        # Fore Arm, Toe Base, Avant Bras
        both = glued[-1] + word if glued else ""
        if both in _COMPOUNDS or both in _TRANSLATED:
            glued[-1] = both
        else:
            glued.append(word)
    plain = [part for word in glued for part in _COMPOUNDS.get(word, _TRANSLATED.get(word, word)).split()]
    return side, tuple(_WORDS.get(word, word) for word in plain)


def _is_known(word: str) -> bool:
    return word in _COMPOUNDS or word in _TRANSLATED or _LIMB_WORDS.fullmatch(word) is not None
