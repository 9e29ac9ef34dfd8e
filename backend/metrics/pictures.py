"""Figures about pictures: whether there is detail, and whether the character is where the depth says."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, median_filter

from ...shared.shot import FramePasses
from .surface import inner_masks

#: pixels; finer than the first is aliasing, coarser than the second is shading
DETAIL_SIGMAS = (0.8, 2.5)
#: colour bins along each channel, and pixels around the silhouette that are judged
BINS, RING = 12, 24


def detail_energy(images: np.ndarray, passes: FramePasses) -> float:
    """Mean squared value of the band between two Gaussians (``DETAIL_SIGMAS``) inside the characters, 0..255 scale."""
    masks = inner_masks(passes)
    total, count = 0.0, 0
    for image, mask in zip(images.astype(np.float64), masks, strict=True):
        for channel in range(3):
            fine, coarse = (gaussian_filter(image[..., channel], sigma) for sigma in DETAIL_SIGMAS)
            total += float(((fine - coarse)[mask] ** 2).sum())
        count += 3 * int(mask.sum())
    return total / count if count else float("nan")


def detail(images: np.ndarray, reference: np.ndarray, passes: FramePasses) -> float:
    """``detail_energy`` over that of the independent per-frame run with the same seed: 1 is as much, a blur has less.

    The root of the ratio of energies, so that it reads as a contrast.
    """
    return float(np.sqrt(detail_energy(images, passes) / max(detail_energy(reference, passes), 1e-9)))


def silhouette_iou(images: np.ndarray, passes: FramePasses) -> float:
    """How well colours alone tell the character from its surroundings where the depth puts it: mean over frames of the
    intersection over union of the mask and of the pixels that a colour histogram of the whole clip takes for the character,
    within ``RING`` pixels of it. 1 is a sharp figure in place; noise scores about the fraction that the mask takes."""
    bins = (images.astype(np.int64) * BINS // 256 * np.array([BINS * BINS, BINS, 1])).sum(-1)
    masks = passes.mask > 0
    rings = np.stack([binary_dilation(mask, iterations=RING) for mask in masks])
    values = []
    for n, (mask, ring) in enumerate(zip(masks, rings, strict=True)):
        if not mask.any():
            continue
        # each frame is judged by the others, so that it cannot be learnt by heart
        others = np.arange(len(masks)) != n if len(masks) > 1 else np.ones(1, bool)
        inside = np.bincount(bins[others][masks[others]], minlength=BINS**3) + 0.5
        outside = np.bincount(bins[others][rings[others] & ~masks[others]], minlength=BINS**3) + 0.5
        likely = inside / inside.sum() > outside / outside.sum()
        found = median_filter(likely[bins[n]] & ring, 3)
        values.append((found & mask).sum() / max((found | mask).sum(), 1))
    return float(np.mean(values)) if values else float("nan")


def contour(images: np.ndarray, passes: FramePasses) -> float:
    """Mean gradient at the silhouette over the mean gradient within 4 to 12 pixels around it: above 1 where the figure's edge
    is where the depth says; 1 for pictures that know nothing of it."""
    at_edge, near, edges, nears = 0.0, 0.0, 0, 0
    for image, mask in zip(images.astype(np.float64), passes.mask > 0, strict=True):
        smooth = np.stack([gaussian_filter(image[..., c], 1.0) for c in range(3)], -1)
        slope = np.sqrt(sum(np.square(np.gradient(smooth, axis=axis)) for axis in (0, 1))).sum(-1)
        edge = binary_dilation(mask) & binary_dilation(~mask)
        band = binary_dilation(edge, iterations=12) & ~binary_dilation(edge, iterations=4)
        at_edge, near = at_edge + float(slope[edge].sum()), near + float(slope[band].sum())
        edges, nears = edges + int(edge.sum()), nears + int(band.sum())
    return (at_edge / edges) / max(near / nears, 1e-9) if edges and nears else float("nan")


def text_agreement(images: np.ndarray, prompt: str, model: str) -> float:
    """Mean cosine between CLIP's embeddings of the frames and of the prompt; ``model`` is a folder or hub id of a CLIP."""
    import torch
    from transformers import CLIPModel, CLIPProcessor

    network: Any = CLIPModel.from_pretrained(model).eval()
    processor = CLIPProcessor.from_pretrained(model)
    with torch.no_grad():
        inputs = processor(text=[prompt], images=list(images), return_tensors="pt", padding=True, truncation=True)
        found = network(**inputs)
        picture = torch.nn.functional.normalize(found.image_embeds, dim=-1)
        text = torch.nn.functional.normalize(found.text_embeds, dim=-1)
    return float((picture @ text.T).mean())
