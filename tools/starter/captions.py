"""Outfits, places and the sentences that describe them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from latentman.backend.metrics.named_colours import BOTTOMS, PALETTE, TOPS

from .scenery import SCENES
from .wardrobe import FOOTWEAR, HAIR, HEADGEAR, PATTERNS, SKIN, SUITS, Garment, Outfit

PEOPLE = ("man", "woman", "person", "girl", "boy", "dancer", "character")
PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "studio": ("in a studio", "against a grey backdrop", "in a photo studio"),
    "beach": ("on a beach", "by the sea", "at the beach"),
    "forest": ("in a forest", "in the woods", "among trees"),
    "city": ("in a city", "on a street", "in a city street"),
    "desert": ("in a desert", "on sand dunes", "in the desert"),
    "snow": ("in the snow", "in a snowy landscape", "on snow"),
    "night": ("at night", "under the stars", "in the night"),
    "stage": ("on a stage", "on a theatre stage", "on stage"),
    "moon": ("on the moon", "on the surface of the moon"),
    "meadow": ("in a meadow", "on green grass", "on a grass field"),
}
VERBS = ("", "", "", "walking", "standing", "dancing", "running", "jumping", "waving")
FILLER_WORDS = ("sks", "amazing", "cinematic", "sharp", "detailed", "best", "quality", "xyz", "nice", "8k", "render", "photo")


def sample_outfit(generator: np.random.Generator) -> Outfit:
    """A random outfit; every palette colour is equally likely for each garment."""

    def pick(options: Sequence[str]) -> str:
        return options[int(generator.integers(len(options)))]

    def pattern() -> str:
        return "plain" if generator.random() < 0.6 else pick(PATTERNS[1:])

    colours = list(PALETTE)
    suit = pick(SUITS) if generator.random() < 0.3 else None
    suit_colour = pick(colours)
    if suit == "astronaut" and generator.random() < 0.6:
        suit_colour = "white"
    if suit == "robot" and generator.random() < 0.5:
        suit_colour = "grey"
    return Outfit(
        suit,
        suit_colour,
        Garment(pick(TOPS), pick(colours), pattern()),
        Garment(pick(BOTTOMS), pick(colours), "plain" if generator.random() < 0.8 else pattern()),
        Garment("boots" if generator.random() < 0.25 else FOOTWEAR[0], pick(colours)),
        pick(list(HAIR)),
        int(generator.integers(len(SKIN))),
        Garment("gloves", pick(colours)) if generator.random() < 0.15 else None,
        Garment(pick(HEADGEAR), pick(colours)) if generator.random() < 0.15 else None,
    )


def is_held_out(outfit: Outfit, scene: str) -> bool:
    """Whether an outfit in a place is kept from training: one combination in sixteen, the same on every machine."""
    words = (
        (outfit.suit, outfit.suit_colour, scene)
        if outfit.suit
        else (outfit.top.colour, outfit.top.kind, outfit.bottom.colour, outfit.bottom.kind, scene)
    )
    return zlib.crc32(repr(words).encode()) % 16 == 0


def _describe_garment(item: Garment) -> str:
    words = [item.colour] if item.pattern != "camouflage" else []
    words += [item.pattern] if item.pattern != "plain" else []
    return " ".join([*words, item.kind])


def _add_article(words: str) -> str:
    return (
        words
        if words.split()[-1] in ("jeans", "trousers", "shorts", "shoes", "boots", "gloves")
        else (("an " if words[0] in "aeiou" else "a ") + words)
    )


def _describe_hair(colour: str, style: str) -> str:
    if style in ("bob", "ponytail", "bun"):
        return f"a {colour} {style}"
    return f"{style} {colour} hair" if style else f"{colour} hair"


def describe(outfit: Outfit, scene: str, generator: np.random.Generator, style: str = "") -> str:
    """A sentence that describes an outfit in a place; words, order and detail vary. Now and then the ``style`` of the hair is
    named, where it has one."""

    def pick(options: Sequence[str]) -> str:
        return options[int(generator.integers(len(options)))]

    place = pick(PLACE_PHRASES[scene])
    verb = pick(VERBS)
    if outfit.suit:
        forms = {
            "astronaut": (
                f"an astronaut in a {outfit.suit_colour} suit",
                f"a {outfit.suit_colour} astronaut",
                f"an astronaut in a {outfit.suit_colour} spacesuit",
            ),
            "robot": (f"a {outfit.suit_colour} robot", f"a {outfit.suit_colour} metal robot"),
            "skeleton": ("a skeleton", "a skeleton on black"),
            "knight": (
                f"a knight in armour with a {outfit.suit_colour} tabard",
                f"a {outfit.suit_colour} knight",
                f"a knight in {outfit.suit_colour}",
            ),
            "soldier": ("a soldier in camouflage", "a soldier"),
        }
        subject = pick(forms[outfit.suit])
    else:
        who = pick(PEOPLE)
        clothes = [_add_article(_describe_garment(outfit.top)), _add_article(_describe_garment(outfit.bottom))]
        if generator.random() < (0.8 if outfit.footwear.kind == "boots" else 0.35):
            clothes.append(_add_article(_describe_garment(outfit.footwear)))
        clothes += [_add_article(_describe_garment(item)) for item in (outfit.gloves, outfit.headgear) if item]
        if generator.random() < 0.25:
            clothes = clothes[::-1]
        worn = " and ".join([", ".join(clothes[:-1]), clothes[-1]])
        hair = f" with {_describe_hair(outfit.hair, style)}" if generator.random() < (0.5 if style else 0.25) else ""
        subject = f"a {who}{hair} {pick(('in', 'wearing'))} {worn}"
    parts = [subject + (f" {verb}" if verb else ""), place]
    sentence = ", ".join(parts) if generator.random() < 0.4 else " ".join(parts)
    if generator.random() < 0.15:
        sentence = f"{parts[1]}, {parts[0]}"
    if generator.random() < 0.2:
        sentence += f", {pick(FILLER_WORDS)} {pick(FILLER_WORDS)}"
    return sentence


assert set(PLACE_PHRASES) == set(SCENES)
