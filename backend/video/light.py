"""The light in pictures of surfaces: how much brighter a surface is that is turned one way than one that is turned another.

A texture that was blended from pictures holds their light where it lay, and it would turn with the body. So it is taken out of the
pictures before they are blended, and every frame gets it back for how its own surface is turned. It is the light that the model
has painted, a smooth function of the normal; no lamp of the scene takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...shared.passes import FramePasses
from .blurring import blur

#: side in pixels of a picture in which points four pixels apart are compared, after a blur of this many pixels; in larger ones as
#: many points are, farther apart
_SIZE, _STEP, _SIGMA = 256, 4, 1.5
#: points are on one piece of the surface when they are not farther apart in the rest pose than this many times the usual
_NEAR = 3.0
#: points whose chromaticities differ by more in sum are of different stuff
_SAME_STUFF = 0.03
#: differences of log brightness from what the light explains that count half, in all pictures and in times their median: what is
#: larger is a pattern, or a shadow's edge
_PATTERN, _USUAL = 0.05, 1.5
#: rounds in which such differences are found
_ROUNDS = 6
#: what holds back coefficients of which the surface says little: a variance of the harmonics' differences
_RIDGE = 1e-3
#: fewer pairs say nothing
_LEAST_PAIRS = 400
#: the darkest that counts, of 1, and the largest logarithm of a gain
_DARK, _MOST = 0.02, 0.7
#: no light has coefficients as large
_LARGEST = 100.0
#: standard deviation in pixels of the blur of a gain: what is finer belongs to the texture
_GAIN_SIGMA = 1.5


def _compute_harmonics(normal: np.ndarray) -> np.ndarray:
    """(..., 8) spherical harmonics of normals (..., 3) up to the second order without the constant one, not normalised."""
    x, y, z = np.moveaxis(normal.astype(np.float64), -1, 0)
    return np.stack([x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], -1)


@dataclass(frozen=True)
class Light:
    """``coefficients`` (8,) float64 of the harmonics of world normals whose sum is the logarithm of a surface's brightness; all 0
    is a light without direction."""

    coefficients: np.ndarray

    @classmethod
    def even(cls) -> Light:
        """From everywhere alike."""
        return cls(np.zeros(8))

    @classmethod
    def from_array(cls, array: np.ndarray) -> Light:
        """Of coefficients in a file. Raises ``ValueError`` for what are none."""
        if array.shape != (8,) or array.dtype != np.float64 or not (np.abs(array) < _LARGEST).all():
            raise ValueError("its light is damaged")
        return cls(array)

    def compute_gain(self, passes: FramePasses, frame: int, device: torch.device, strength: float = 1.0) -> torch.Tensor:
        """(1, H, W) float32: how much brighter than in even light the surfaces of a frame are; 1 elsewhere, and all of it without
        normals."""
        surface = torch.from_numpy(passes.surface_index[frame] > 0).to(device)[None]
        if passes.normal is None or not self.coefficients.any():
            return torch.ones(surface.shape, device=device)
        level = _compute_harmonics(passes.normal[frame]) @ (strength * self.coefficients)
        level = torch.from_numpy(level.astype(np.float32)).to(device)[None]
        smooth = blur(level * surface, _GAIN_SIGMA) / blur(surface.float(), _GAIN_SIGMA).clamp(min=1e-4)
        return torch.where(surface, smooth.clamp(-_MOST, _MOST).exp(), torch.ones_like(smooth))


def apply_gain(picture: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """(3, H, W) float32: a picture in [-1, 1] with its brightness times a gain (1, H, W); to the last bit the same where that is
    1."""
    picture = picture.float()
    return torch.where(gain == 1, picture, (picture + 1) * gain - 1)


def fit_light(pictures: Sequence[torch.Tensor], passes: FramePasses) -> Light:
    """The light that pictures (3, H, W) in [-1, 1] of all frames show on their surfaces; an even one where they say too little of
    it, or without normals.

    Neighbouring points of one stuff differ in brightness by how they are turned. What differs by more is a pattern and counts
    little, so that a costume is not taken for light.
    """
    if passes.normal is None:
        return Light.even()
    found = [_compare_neighbours(picture, passes, n) for n, picture in enumerate(pictures)]
    turned, brighter = (np.concatenate(part) for part in zip(*found, strict=True))
    if len(turned) < _LEAST_PAIRS:
        return Light.even()
    weights = np.ones(len(turned))
    coefficients = np.zeros(turned.shape[1])
    for _ in range(_ROUNDS):
        weighted = turned * weights[:, None]
        gram = weighted.T @ turned / weights.sum() + _RIDGE * np.eye(turned.shape[1])
        coefficients = np.linalg.solve(gram, weighted.T @ brighter / weights.sum())
        off = np.abs(brighter - turned @ coefficients)
        weights = 1 / (1 + (off / max(_PATTERN, _USUAL * float(np.median(off)))) ** 2)
    return Light(coefficients)


def _compare_neighbours(picture: torch.Tensor, passes: FramePasses, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """(P, 8) and (P,): the differences of the harmonics and of log brightness of pairs of points near each other on a surface."""
    assert passes.normal is not None
    index = passes.surface_index[frame]
    surface = torch.from_numpy(index > 0).to(picture.device)[None]
    scale = max(1, max(index.shape) // _SIZE)
    turned_as = torch.from_numpy(_compute_harmonics(passes.normal[frame]).astype(np.float32)).to(picture.device).movedim(-1, 0)
    stacked = torch.cat([(picture.float() + 1) / 2, turned_as]) * surface
    smooth = blur(stacked, _SIGMA * scale) / blur(surface.float(), _SIGMA * scale).clamp(min=1e-3)
    values = np.moveaxis(smooth[:, ::scale, ::scale].double().cpu().numpy(), 0, -1)
    colour, harmonics = values[..., :3].clip(_DARK, 1), values[..., 3:]
    index, rest = index[::scale, ::scale], passes.rest_position[frame, ::scale, ::scale].astype(np.float64)
    brightness, chromaticity = np.log(colour.mean(-1)), colour / colour.sum(-1, keepdims=True)
    turned, brighter = [], []
    for first, second in (
        (np.s_[:, :-_STEP], np.s_[:, _STEP:]),
        (np.s_[:-_STEP], np.s_[_STEP:]),
    ):
        both = (index[first] > 0) & (index[first] == index[second])
        if not both.any():
            continue
        apart = np.linalg.norm(rest[first] - rest[second], axis=-1)
        both &= apart < _NEAR * np.median(apart[both])
        both &= np.abs(chromaticity[first] - chromaticity[second]).sum(-1) < _SAME_STUFF
        turned.append((harmonics[second] - harmonics[first])[both])
        brighter.append((brightness[second] - brightness[first])[both])
    return np.concatenate([np.empty((0, 8)), *turned]), np.concatenate([np.empty(0), *brighter])
