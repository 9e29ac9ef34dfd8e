"""Sizes of pictures: what is wanted, what an image model can make, and where the one lies in the other."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from .manifest import MAX_SIDE

#: what the sides of the pictures of the models with a name are multiples of; 64 suits every UNet there is
SIZE_MULTIPLES = {"starter": 32, "starter_clip": 32, "starter_flow": 16, "sdxl": 32}
COMMON_MULTIPLE = 64

_Place = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIDE)]
_Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]


class Crop(msgspec.Struct, frozen=True):
    """The rectangle of pixels of a larger picture that is kept; ``left`` and ``top`` are the pixels that are cut off there."""

    left: _Place
    top: _Place
    width: _Side
    height: _Side


def find_size_multiple(model: str) -> int:
    """What width and height are multiples of with a model that is named like in ``Sampling.model``, or more than that."""
    return SIZE_MULTIPLES.get(model.partition("|")[0], COMMON_MULTIPLE)


def find_made_size(width: int, height: int, multiple: int) -> tuple[int, int]:
    """(width, height) of the smallest picture with sides that are multiples of ``multiple`` that holds a picture of this size."""
    return -(-width // multiple) * multiple, -(-height // multiple) * multiple


def make_crop(width: int, height: int, made_width: int, made_height: int) -> Crop | None:
    """The middle of the picture that is made, where a smaller one is wanted; None where they are the same."""
    if (width, height) == (made_width, made_height):
        return None
    return Crop((made_width - width) // 2, (made_height - height) // 2, width, height)


def fit_aspect(width: int, height: int, aspect: float, least: int = 8) -> tuple[int, int]:
    """(width, height) of the largest picture of an aspect (width over height) within a rectangle; no side is below ``least``."""
    if width > height * aspect:
        return max(least, round(height * aspect)), height
    return width, max(least, round(width / aspect))


def fit_area(width: int, height: int, aspect: float, most_side: int = 0, least: int = 8) -> tuple[int, int]:
    """(width, height) of the picture of an aspect (width over height) with the area of a rectangle; where one of its sides is
    above ``most_side``, if that is not 0, the largest that fits into a square of that side. No side is below ``least``."""
    area = width * height
    if aspect >= 1:
        tall = max(least, round(math.sqrt(area / aspect)))
        wide = round(tall * aspect)
    else:
        wide = max(least, round(math.sqrt(area * aspect)))
        tall = round(wide / aspect)
    most = most_side or MAX_SIDE
    return (wide, tall) if max(wide, tall) <= most else fit_aspect(most, most, aspect, least)
