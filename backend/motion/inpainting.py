"""What is kept of a motion, as values of the feature vectors that sampling must not change."""

from __future__ import annotations

import numpy as np
import torch

from ...shared.motion_request import LOWER, ROOT, UPPER, Kept
from ...shared.skeleton import HUMANML_JOINT_COUNT, SMPL_JOINTS
from .checkpoints import MotionModel
from .diffusion import InpaintingMask
from .features import encode

LEGS = tuple(
    n for n, name in enumerate(SMPL_JOINTS[:HUMANML_JOINT_COUNT]) if any(part in name for part in ("hip", "knee", "ankle", "foot"))
)


def list_feature_parts() -> np.ndarray:
    """(263,) which part of the body a feature belongs to: ``ROOT``, ``LOWER`` or ``UPPER``."""
    of_joint = np.array([ROOT if n == 0 else LOWER if n in LEGS else UPPER for n in range(HUMANML_JOINT_COUNT)])
    return np.concatenate(
        [[ROOT] * 3, [LOWER], np.repeat(of_joint[1:], 3), np.repeat(of_joint[1:], 6), np.repeat(of_joint, 3), [LOWER] * 4]
    )


def is_change_feature() -> np.ndarray:
    """(263,) True for features that tell how a frame goes over into the next one."""
    out = np.zeros(263, bool)
    out[[0, 1, 2]] = out[193:] = True
    return out


def make_inpainting_mask(kept: Kept, model: MotionModel, variants: int, length: int) -> InpaintingMask:
    """Normalised values (N, T, 263) and where they hold; T is the length the network is run on, at least the frames kept."""
    whole = np.concatenate([kept.joints, kept.joints[-1:]])
    rows = encode(whole, floor=float(whole[..., 1].min()) - model.toe_height)
    frames, parts = len(rows), list_feature_parts()
    mask = kept.parts[:, parts]
    # a change is known only where the next frame is kept, too
    moves_on = np.concatenate([kept.parts[1:], np.zeros((1, 3), bool)])[:, parts]
    mask &= moves_on | ~is_change_feature()
    values = np.zeros((length, rows.shape[1]), np.float32)
    values[:frames] = (rows - model.mean) / model.std
    is_kept = np.zeros(values.shape, bool)
    is_kept[:frames] = mask
    return InpaintingMask(torch.from_numpy(values).expand(variants, -1, -1), torch.from_numpy(is_kept).expand(variants, -1, -1))
