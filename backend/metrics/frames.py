"""One frame of a clip made ready for every figure: its colours, silhouettes and surface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion

from ...shared.passes import FramePasses
from ..video.correspondence import SurfaceFrame, prepare_surface_frame

#: frames (H, W, 3) uint8, as one array or one after the other
Images = np.ndarray | Sequence[np.ndarray]
#: pixels taken off the edge of the silhouette, where one pixel mixes two surfaces
EROSION = 2
#: pixels; what is coarser is shading and belongs to the low band, what is finer is texture
BAND_SIGMA = 4.0
#: red, green and blue in brightness (Rec. 601)
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class MeasuredFrame:
    """A frame with its passes; colours are floats on the 0..255 scale.

    ``number`` counts the clip's frames from 0; ``image`` (H, W, 3); ``mask`` (H, W) bool the characters, ``inner`` without the
    ``EROSION`` pixels of their edges; ``surface`` what the pixels show; ``footprint`` the typical size in metres of a pixel on the
    characters, whatever else there is to see; ``passes`` (1, H, W, ...).
    """

    number: int
    image: np.ndarray
    mask: np.ndarray
    inner: np.ndarray
    surface: SurfaceFrame
    footprint: float
    passes: FramePasses


def erode(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: a silhouette without its edge."""
    return np.asarray(binary_erosion(mask, iterations=EROSION))


def measure_footprint(surface: SurfaceFrame, mask: np.ndarray) -> float:
    """The typical size in metres of a pixel of a mask (H, W) bool on the surface; that of the whole frame where it is unknown."""
    rows = surface.row_of[np.flatnonzero(mask)]
    rows = rows[rows >= 0]
    sizes = (np.linalg.norm(surface.across[rows], axis=1) + np.linalg.norm(surface.down[rows], axis=1)) / 2
    known = sizes[sizes > 0]
    return float(np.median(known)) if len(known) else surface.footprint


def prepare_frame(number: int, image: np.ndarray, passes: FramePasses) -> MeasuredFrame:
    """The ``number``-th frame of a clip, (H, W, 3) uint8 with its passes (1, H, W, ...)."""
    mask = passes.mask[0] > 0
    surface = prepare_surface_frame(passes.rest_position[0], passes.surface_index[0])
    return MeasuredFrame(number, image.astype(np.float64), mask, erode(mask), surface, measure_footprint(surface, mask), passes)


def pair_with_passes(images: Images, passes: FramePasses) -> Iterator[tuple[np.ndarray, FramePasses]]:
    """Each frame of a whole clip, (F, H, W, 3) uint8, with its own passes (1, H, W, ...)."""
    for n, image in enumerate(images):
        yield image, passes.select([n])


def prepare_frames(frames: Iterable[tuple[np.ndarray, FramePasses]]) -> Iterator[MeasuredFrame]:
    """``prepare_frame`` of frames (H, W, 3) uint8, each with its passes (1, H, W, ...), one at a time."""
    for n, (image, passes) in enumerate(frames):
        yield prepare_frame(n, image, passes)
