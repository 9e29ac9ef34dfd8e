"""What the shape keys of the built-in body change, in words."""

from __future__ import annotations

#: by the number of the shape key, as ``tools/mannequin/anatomy.py`` makes them
MANNEQUIN_SHAPES = (
    ("Height", "The whole body, 3.5 % a unit"),
    ("Weight", "The girth of trunk and limbs"),
    ("Legs", "The length of the legs"),
    ("Torso", "The length of the trunk"),
    ("Arms", "The length of the arms"),
    ("Shoulders", "The distance between the shoulders"),
    ("Hips", "The width of the hips"),
    ("Muscles", "The girth of arms and legs, and the depth of the chest"),
    ("Belly", "The depth of the belly"),
    ("Head", "The size of the head"),
)
MANNEQUIN_VERTICES = 6914
PREFIX = "Shape"


def name_shape(key: str, vertices: int) -> str:
    """The label of a shape key's slider. Those of the built-in body, which ``vertices`` tells from others, are named by what they
    change; what SMPL's components change is nobody's promise, so that they keep their numbers."""
    number = key.removeprefix(PREFIX)
    if vertices == MANNEQUIN_VERTICES and number.isdecimal() and int(number) < len(MANNEQUIN_SHAPES):
        return MANNEQUIN_SHAPES[int(number)][0]
    return key
