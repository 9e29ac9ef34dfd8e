"""Which words the built-in model knows, and what is said of those that it does not.

It learnt from a few thousand sentences of its own, so that other words have no effect. Known words go to it as they are;
their other forms and some words that mean the same become known ones first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .motion_request import NEXT, split_text


def _list_words(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: what the model can show, as it is listed for people
ACTIONS = (
    "walking, running, jumping, hopping, turning, waving, punching, kicking, squatting, sitting down, dancing, bowing, clapping, "
    "throwing, limping, sneaking and marching"
)
MANNERS = "forward, backward, left, right, in a circle, around, in place, slowly, quickly, happily, sadly, once, twice, three times"
#: action, as menus show it -> sentences that show what can be said of it, the plainest first
SENTENCES: dict[str, tuple[str, ...]] = {
    "Walk": (
        "a person walks forward",
        "a person walks backward slowly",
        "a person walks in a circle to the left",
        "a person walks in place",
        "a person walks forward sadly",
    ),
    "Run": ("a person runs forward", "a person runs in a circle to the right", "a person runs in place", "a person jogs forward"),
    "Jump": ("a person jumps", "a person jumps forward", "a person jumps three times"),
    "Hop": ("a person hops forward on the left foot", "a person hops forward on the right foot"),
    "Sidestep": ("a person sidesteps to the left", "a person sidesteps to the right"),
    "Turn": ("a person turns around", "a person turns to the left", "a person turns to the right"),
    "Wave": ("a person waves with the right hand", "a person waves with the left hand"),
    "Punch": ("a person punches with the right hand twice", "a person punches with the left fist"),
    "Kick": ("a person kicks with the right leg", "a person kicks with the left leg twice"),
    "Squat": ("a person squats", "a person squats twice slowly"),
    "Sit Down": ("a person sits down", "a person sits down and stands up"),
    "Dance": ("a person dances", "a person dances happily"),
    "Bow": ("a person bows", "a person bows twice"),
    "Clap": ("a person claps", "a person claps three times"),
    "Throw": ("a person throws a ball with the right hand", "a person throws something with the left hand"),
    "Limp": ("a person limps forward on the left leg", "a person limps forward on the right leg"),
    "Sneak": ("a person sneaks forward", "a person tiptoes backward"),
    "March": ("a person marches forward", "a person marches in place"),
}
#: the words of the sentences it has learnt from that name an action
VERBS = _list_words(
    "walks strolls walking runs jogs running jumps leaps hops turns spins waves waving punches punch boxes kicks kick squats "
    "squat crouches sits sit seat dances dancing bows bow bends claps applauds clapping throws limps limp hobbles sneaks "
    "creeps tiptoes marches sidesteps"
)
#: all others of them
OTHERS = _list_words(
    "a an the person man woman someone figure is does and then after that forward forwards ahead straight backward backwards "
    "in circle to left right counterclockwise clockwise around half place on spot slowly at slow pace quickly fast twice two "
    "times three once happily cheerfully sadly wearily sideways with their his hand arm fist leg foot down up chair ball "
    "something high knees hands throw of takes stands stealthily"
)
#: what another word becomes; the forms of verbs follow below
_MEANINGS = {
    "walks": "stroll saunter wander amble step pace go move advance",
    "runs": "sprint dash race rush",
    "jogs": "jog",
    "jumps": "bounce spring",
    "leaps": "",
    "turns": "rotate pivot twirl whirl",
    "spins": "spin",
    "waves": "greet",
    "punches": "jab box",
    "kicks": "",
    "squats": "",
    "crouches": "crouch",
    "sits": "",
    "dances": "boogie groove",
    "bows": "curtsy",
    "bends": "bend",
    "claps": "clap",
    "applauds": "applaud",
    "throws": "toss hurl fling pitch lob",
    "limps": "",
    "hobbles": "hobble",
    "sneaks": "",
    "creeps": "creep prowl",
    "tiptoes": "tiptoe",
    "marches": "",
    "hops": "",
    "takes": "",
    "stands": "",
    "sidesteps": "sidestep",
}
_IRREGULAR = {
    "ran": "runs",
    "sprung": "jumps",
    "leapt": "leaps",
    "spun": "spins",
    "sat": "sits",
    "threw": "throws",
    "thrown": "throws",
    "flung": "throws",
    "crept": "creeps",
    "snuck": "sneaks",
    "went": "walks",
    "gone": "walks",
    "bent": "bends",
    "took": "takes",
    "taken": "takes",
    "stood": "stands",
}
_WORDS = {
    "person": "human character actor performer child kid you he she they it somebody one individual robot dancer boxer me i",
    "man": "boy guy male gentleman",
    "woman": "girl lady female",
    "their": "her its your my",
    "is": "are was were be being been am starts start begins begin started begun continues keeps",
    "does": "do did doing done performs perform makes make",
    "quickly": "rapidly swiftly hurriedly speedily briskly",
    "fast": "quick rapid faster brisk",
    "slowly": "gently leisurely lazily calmly carefully",
    "slow": "slower relaxed casual calm",
    "happily": "joyfully merrily gladly happy cheerful joyful excitedly",
    "sadly": "unhappily gloomily sad depressed",
    "wearily": "tiredly tired exhausted weary",
    "forward": "onward onwards",
    "backward": "back rearward",
    "clockwise": "",
    "counterclockwise": "anticlockwise",
    "leg": "legs",
    "arm": "arms",
    "foot": "feet",
    "fist": "fists",
    "knees": "knee",
    "hand": "",
    "ball": "",
    "then": "next afterwards later finally before followed",
    "stealthily": "quietly sneakily silently",
    "circle": "circles",
    "chair": "bench stool",
    "spot": "",
    "once": "one",
    "twice": "2",
    "three": "3 thrice",
}
#: words that say nothing of their own
_FILLERS = _list_words(
    "by from into onto there here this these those while as his himself herself themselves itself very quite just again "
    "little bit some few for over time side direction way steps step who which well please couple"
)
#: what is between two clauses says that they happen at once, which it has not learnt
_AT_ONCE = frozenset({"while", "meanwhile", "simultaneously", "whilst"})
_NEGATIONS = frozenset(
    {"not", "no", "without", "never", "nothing", "none", "nobody", "neither", "nor", "cannot", "avoids", "avoid"}
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?", re.UNICODE)


def _list_forms(verb: str) -> set[str]:
    """The forms of a verb by its base: walks, walked, walking."""
    forms = {verb, verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "z")) else "s")}
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        forms |= {verb[:-1] + "ies", verb[:-1] + "ied", verb + "ing"}
    elif verb.endswith("e"):
        forms |= {verb + "d", verb + "ing" if verb.endswith("oe") else verb[:-1] + "ing"}
    else:
        forms |= {verb + "ed", verb + "ing"}
        if re.search(r"(?:[^aeiou]|qu)[aeiou][bdgmnprt]$", verb):
            forms |= {verb + verb[-1] + "ed", verb + verb[-1] + "ing"}
    return forms


def _find_base(known: str) -> str:
    """The base of a verb's third person."""
    if known.endswith(("ches", "sses", "xes", "shes")):
        return known[:-2]
    return known[:-1]


def _make_table() -> dict[str, str]:
    table = {other: known for known, others in _WORDS.items() for other in others.split()}
    for known, others in _MEANINGS.items():
        for verb in (_find_base(known), *others.split()):
            table |= {form: known for form in _list_forms(verb)}
    table |= _IRREGULAR
    return {word: known for word, known in table.items() if word not in VERBS | OTHERS}


#: another form or another word -> the known one
TABLE = _make_table()
_OTHER_LANGUAGES = _list_words(
    "el la los las un una uno que con hombre mujer persona camina corre salta baila le les une des et avec homme femme "
    "personne marche saute danse der das ein eine und mit mann frau läuft rennt geht springt tanzt il lo gli uomo donna "
    "un'altra cammina uma um homem mulher pessoa anda een met vrouw loopt ett och går springer człowiek idzie osoba"
)
_ENGLISH = _list_words(
    "a an the and then is are his her their with to of in on person man woman someone he she they it up down left right"
)


@dataclass(frozen=True)
class Reading:
    """What the built-in model makes of a sentence: ``text`` in words that it has learnt, those it has not (``unknown``), whether
    an action is among the known ones, and what it cannot follow: a negation, two things at once."""

    text: str
    unknown: tuple[str, ...]
    has_action: bool
    negation: str
    at_once: str


def read_sentence(sentence: str) -> Reading:
    """Read a sentence word by word; the punctuation between words stays."""
    unknown: list[str] = []
    has_action, negation, at_once, end = False, "", "", 0
    pieces: list[str] = []
    for found in _WORD.finditer(sentence):
        between, end = sentence[end : found.start()], found.end()
        word = found[0].lower().replace("’", "'")
        plain = word.removesuffix("'s")
        if plain in VERBS | OTHERS:
            known = plain
        elif plain in TABLE:
            known = TABLE[plain]
        else:
            known = ""
        if plain in _NEGATIONS or plain.endswith("n't"):
            negation = negation or word
        elif plain in _AT_ONCE:
            at_once = at_once or word
        elif not known and plain not in _FILLERS:
            unknown.append(word)
        has_action |= known in VERBS
        # "is jumping" has become "is jumps": the known form does without
        if known and known != plain and known in VERBS and pieces and pieces[-1].strip() == "is":
            pieces.pop()
        if known:
            shown = found[0] if known == plain else known
            pieces.append(between + shown if pieces else shown)
        elif between.strip():
            pieces.append(between.rstrip())
    return Reading(
        (" ".join("".join(pieces).split()) + sentence[end:].strip()).strip() or sentence,
        tuple(dict.fromkeys(unknown)),
        has_action,
        negation,
        at_once,
    )


def explain_readings(readings: list[Reading]) -> tuple[str, ...]:
    """Sentences for the user about what the built-in model does not know of the sentences, and what it does know."""
    out: list[str] = []
    unknown = list(dict.fromkeys(word for reading in readings for word in reading.unknown))
    words = ", ".join(f"'{word[:40]}'" for word in unknown[:12]) + (f" and {len(unknown) - 12} more" if len(unknown) > 12 else "")
    without = [reading for reading in readings if not reading.has_action]
    known = f"it knows {ACTIONS}, and {MANNERS}"
    more = "For anything else, put another motion model into Model."
    if without:
        what = f"does not know {words}, and " if unknown else ""
        where = "the text" if len(without) == len(readings) else f"'{without[0].text[:60]}'"
        english = "it reads English only, and " if _seems_foreign(unknown) else ""
        out.append(
            f"The built-in model {what}finds no action that it knows in {where}, so the motion has nothing to do with it; "
            f"{english}{known}. {more}"
        )
    elif unknown:
        out.append(f"The built-in model does not know {words} and leaves that out; {known}. {more}")
    negations = list(dict.fromkeys(reading.negation for reading in readings if reading.negation))
    if negations:
        out.append(
            f"The built-in model does not understand '{negations[0]}': what is named is done; say what the person does instead."
        )
    at_once = next((reading.at_once for reading in readings if reading.at_once), "")
    if at_once:
        out.append(f"The built-in model does one thing after the other; '{at_once}' has no effect.")
    return tuple(out)


def _seems_foreign(words: list[str]) -> bool:
    return any(not word.isascii() for word in words) or sum(word in _OTHER_LANGUAGES for word in words) > 1


def seems_english(text: str) -> bool:
    """Whether a text looks like English: no letters of other scripts, and not more small words of other languages."""
    words = [found[0].lower() for found in _WORD.finditer(text)]
    letters = [letter for letter in text if letter.isalpha()]
    if sum(not letter.isascii() for letter in letters) > 0.2 * len(letters):
        return False
    foreign = sum(word in _OTHER_LANGUAGES - _ENGLISH or not word.isascii() for word in words)
    return not foreign or foreign <= sum(word in _ENGLISH for word in words)


def explain_text(text: str) -> tuple[str, ...]:
    """What ``explain_readings`` says of a whole text, whose sentences may be parted by ``|``; nothing of one without words."""
    return explain_readings([read_sentence(sentence) for sentence in split_text(text)])


def complete_text(text: str) -> list[str]:
    """Texts that begin like one that is being typed and go on with words that the built-in model knows: whole sentences where
    the last one is empty or begins one of them, else the last word finished. Each begins with ``text`` as it is."""
    head, bar, last = text.rpartition(NEXT)
    before = f"{head}{bar}{last[: len(last) - len(last.lstrip())]}" if bar else ""
    typed = last.lstrip() if bar else text
    sentences = [one for group in SENTENCES.values() for one in group]
    gap = " " if bar and not before.endswith(" ") else ""
    if not typed.strip():
        return [f"{before}{gap}{one}" for one in sentences]
    found = [f"{text}{one[len(typed) :]}" for one in sentences if one.startswith(typed.lower())]
    word = re.search(r"[^\W\d_]+$", text)
    if word is not None:
        known = sorted(one for one in VERBS | OTHERS if one.startswith(word[0].lower()) and one != word[0].lower())
        found += [f"{text}{one[len(word[0]) :]}" for one in known]
    return list(dict.fromkeys(found))
