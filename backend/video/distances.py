"""Distances between the pixels of a picture, and what is nearest to them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt


def measure_distance(mask: np.ndarray) -> np.ndarray:
    """(H, W) float64: how many pixels each lies from the nearest one of a mask (H, W) bool, 0 on it; inf where the mask is empty,
    for which scipy measures from a place outside."""
    found: np.ndarray = distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
    return found


def find_window(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The rows and columns of a picture that a mask (H, W) bool, of which some pixel is set, takes, and ``margin`` more around."""
    sides = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    first, second = (slice(max(0, int(at[0]) - margin), int(at[-1]) + 1 + margin) for at in sides)
    return first, second


def take_nearest(picture: torch.Tensor, known: np.ndarray) -> torch.Tensor:
    """The picture (C, H, W), its pixels that are not ``known`` (H, W) bool as the nearest that are, of which there is one."""
    rows, cols = (
        torch.from_numpy(at).to(picture.device)
        for at in distance_transform_edt(~known, return_distances=False, return_indices=True)
    )
    return picture[:, rows, cols]
