"""Sizes of pictures: what is wanted, what an image model can make, and where the one lies in the other."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .manifest import MAX_SIDE

#: what the sides of the pictures of the models with a name are multiples of; 64 suits every UNet there is
SIZE_MULTIPLES = {"starter": 32, "sdxl": 32}
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
