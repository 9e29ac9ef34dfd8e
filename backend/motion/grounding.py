"""Puts made motions on the ground: nothing is below it, and feet that stand do not slide; as little, as smoothly as that goes."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

#: frames that share a lift, and over which it comes and goes
REACH, EASE = 7, 1.5
#: where features hold heights: the root's, then those of the joints 1..21
HEIGHTS = np.array([3, *range(5, 67, 3)])
#: where features hold the x of the left and the right toe, and whether they are in contact
TOES, CONTACTS = np.array([31, 34]), np.array([260, 262])
#: toes less than this many metres above where they stand are down
LOW = 0.03
#: of two toes that are down the one that moves this many metres a frame more counts e times less
SLOWER = 0.05
#: two toes that are down and both move more than this many metres a frame tell nothing: held still, the whole walk would be
CARRIED = 0.015
SMOOTHING = 1.0


def ground_motion(vectors: np.ndarray, toe_height: float) -> np.ndarray:
    """HumanML3D vectors (N, F, 263), in metres, whose lowest joint is nowhere below ``toe_height`` and whose root follows the
    foot that stands."""
    return np.stack([remove_foot_sliding(row, toe_height) for row in lift_to_ground(vectors, toe_height)])


def lift_to_ground(vectors: np.ndarray, toe_height: float) -> np.ndarray:
    """HumanML3D vectors (..., F, 263) whose lowest joint is nowhere below ``toe_height`` metres; what stands higher is left."""
    lowest = vectors[..., HEIGHTS].min(-1)
    missing = np.maximum(toe_height - lowest, 0.0)
    lift = gaussian_filter1d(maximum_filter1d(missing, REACH, axis=-1), EASE, axis=-1, truncate=(REACH // 2) / EASE)
    out = vectors.copy()
    # the filter's reach is that of the maximum: what is missing at a frame is in all it averages
    out[..., HEIGHTS] += np.maximum(lift, missing)[..., None]
    return out


def remove_foot_sliding(vectors: np.ndarray, toe_height: float) -> np.ndarray:
    """HumanML3D vectors (F, 263) without what their root slides past the foot that stands.

    Between the frames in which a foot stands the slide is interpolated, so that leaps keep their length; a motion in which
    both feet glide along the ground stays as it is.
    """
    out = vectors.copy()
    if len(vectors) < 2:
        return out
    cosine, sine = np.cos(-2 * vectors[:-1, :1]), np.sin(-2 * vectors[:-1, :1])

    def onward(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the heading frame of one frame into that of the next."""
        return cosine * x - sine * z, sine * x + cosine * z

    here = np.stack(onward(vectors[:-1, TOES], vectors[:-1, TOES + 2]), -1)
    moved = vectors[:-1, None, 1:3] + np.stack([vectors[1:, TOES], vectors[1:, TOES + 2]], -1) - here
    down = (vectors[:, TOES + 1] < toe_height + LOW) & (vectors[:, CONTACTS] > 0.5)
    down = down[:-1] & down[1:]
    speed = np.linalg.norm(moved, axis=-1)
    down &= ~(down.all(1) & (speed.min(1) > CARRIED))[:, None]
    weight = down * np.exp((speed.min(1, keepdims=True) - speed) / SLOWER)
    total = weight.sum(1)
    known = np.flatnonzero(total)
    if not len(known):
        return out
    slide = (weight[known, :, None] * moved[known]).sum(1) / total[known, None]
    slide = np.stack([np.interp(np.arange(len(moved)), known, axis) for axis in slide.T], 1)
    slide = gaussian_filter1d(slide, SMOOTHING, axis=0, mode="nearest")
    out[:-1, 1:3] -= slide
    # the joints' own velocities are in the frame before: the slide is turned back
    x, z = slide[:, :1], slide[:, 1:]
    out[:-1, 193:259:3] -= cosine * x + sine * z
    out[:-1, 195:259:3] -= cosine * z - sine * x
    return out
