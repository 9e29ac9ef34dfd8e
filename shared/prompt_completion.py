"""Words for what a prompt leaves open of a person and of the place: each frame decides that anew, so that it flips from frame to
frame. They are suggested and never said on their own: whoever asks for them sees them, and can change them."""

from __future__ import annotations

import re
from dataclasses import dataclass


def _match_words(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words.split())})\b", re.IGNORECASE)


_PERSON = _match_words(
    "man woman boy girl person lady gentleman guy child kid teenager dancer runner athlete nurse doctor farmer worker chef waiter "
    "waitress teacher student businessman businesswoman policeman policewoman king queen prince princess hiker"
)
#: who is covered from head to foot, whatever else is said
_COVERED = _match_words(
    "astronaut cosmonaut knight robot skeleton soldier android mannequin statue diver armour armor spacesuit ghost"
)
_HAIR = _match_words(
    "hair haired blond blonde brunette redhead bald ponytail braid braids dreadlocks hat cap helmet hood hooded headscarf turban "
    "beanie wig mask veil hijab crown"
)
_TOP = (
    "shirt shirts t-shirt tshirt tee jacket coat sweater hoodie blouse vest tunic jersey cardigan blazer pullover tank-top top "
    "anorak parka waistcoat raincoat sweatshirt"
)
_WHOLE = (
    "dress suit uniform robe gown kimono overalls jumpsuit costume armour armor spacesuit tracksuit wetsuit swimsuit bikini toga "
    "sari outfit clothes clothing pyjamas pajamas onesie cloak"
)
_BOTTOM = "jeans trousers pants shorts skirt leggings kilt breeches slacks chinos joggers"
_SHOES = "shoes shoe boots boot sneakers trainers sandals barefoot heels slippers loafers socks skates"
_WEAR = _match_words(f"{_TOP} {_WHOLE} {_BOTTOM} {_SHOES} gloves scarf tie belt cap hat helmet camouflage")
_PLACE_WORDS = _match_words(
    "beach forest street moon park city desert room studio field meadow mountain mountains garden road stage gym kitchen office "
    "background backdrop outdoors outside indoors snow sea lake river town village market station bridge castle jungle space sky "
    "sunset night club hall house school rain underwater wall court stadium"
)
_WHERE = re.compile(
    r"\b(?:in|on|at|inside|before|under|through|near|by|beside|along|across|among|behind)\b([^,;.]*)", re.IGNORECASE
)
#: what is suggested
HAIR, TOP, BOTTOM, SHOES, PLACE = "brown hair", "a grey shirt", "black trousers", "black shoes", "in a park"
#: what people call them
_NAMES = {HAIR: "hair", TOP: "top", BOTTOM: "trousers or skirt", SHOES: "shoes", PLACE: "place"}


@dataclass(frozen=True)
class Completion:
    """A prompt with words for what it leaves open: ``missing`` names that, and is empty where there is nothing to add."""

    prompt: str
    missing: tuple[str, ...]


def complete_prompt(prompt: str, background: str = "") -> Completion:
    """``prompt`` with words for a person's hair, clothes and shoes and for the place, where it names none; the prompt of the
    ``background`` may name the place. Words of other languages are not known: a prompt without any that is known stays as it is."""
    person, covered = _PERSON.search(prompt), _COVERED.search(prompt)
    if person is None and covered is None:
        return Completion(prompt, ())
    out, missing = prompt.rstrip().rstrip(",."), []
    if person is not None and covered is None:
        worn, whole = [], _match_words(_WHOLE).search(prompt)
        if not whole and not _match_words(_TOP).search(prompt):
            worn.append(TOP)
        if not whole and not _match_words(_BOTTOM).search(prompt):
            worn.append(BOTTOM)
        if not _match_words(_SHOES).search(prompt):
            worn.append(SHOES)
        out = _add_clothes(out, worn)
        if not _HAIR.search(prompt):
            at = _PERSON.search(out)
            assert at is not None
            out = f"{out[: at.end()]} with {HAIR}{out[at.end() :]}"
            missing.append(HAIR)
        missing += worn
    if not background.strip() and not _names_place(prompt):
        out = f"{out}, {PLACE}"
        missing.append(PLACE)
    return Completion(out, tuple(_NAMES[one] for one in missing)) if missing else Completion(prompt, ())


def _add_clothes(prompt: str, worn: list[str]) -> str:
    if not worn:
        return prompt
    there = list(_WEAR.finditer(prompt))
    if there:
        at = there[-1].end()
        return f"{prompt[:at]}{''.join(f' and {one}' for one in worn)}{prompt[at:]}"
    person = _PERSON.search(prompt)
    assert person is not None
    listed = " and ".join(filter(None, [", ".join(worn[:-1]), worn[-1]]))
    return f"{prompt[: person.end()]} in {listed}{prompt[person.end() :]}"


def _names_place(prompt: str) -> bool:
    return bool(_PLACE_WORDS.search(prompt)) or any(
        found[1].strip() and not _WEAR.search(found[1]) and not re.fullmatch(r"\s*\w+\s*", found[1])
        for found in _WHERE.finditer(prompt)
    )


def explain_missing(completion: Completion) -> str:
    """A sentence on what is left open; "" where nothing is."""
    if not completion.missing:
        return ""
    listed = " and ".join(filter(None, [", ".join(completion.missing[:-1]), completion.missing[-1]]))
    return f"The prompt leaves open: {listed}."
