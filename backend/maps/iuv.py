"""Rendered passes in DensePose's convention, (part 1..24, U, V), so that the two can be compared pixel by pixel."""

from __future__ import annotations

import numpy as np

from ...shared.manifest import PartEntry, PassesManifest
from ...shared.passes import FramePasses
from ...shared.shot import ShotError

#: joint of the bone -> DensePose parts: one, (back, front), or (right, left)
TORSO, HEAD = (1, 2), (23, 24)
_BY_JOINT: dict[str, tuple[int, ...]] = {
    "right_wrist": (3,),
    "right_hand": (3,),
    "left_wrist": (4,),
    "left_hand": (4,),
    "left_ankle": (5,),
    "left_foot": (5,),
    "right_ankle": (6,),
    "right_foot": (6,),
    "right_hip": (7, 9),
    "left_hip": (8, 10),
    "right_knee": (11, 13),
    "left_knee": (12, 14),
    "left_shoulder": (17, 15),
    "right_shoulder": (18, 16),
    "left_elbow": (21, 19),
    "right_elbow": (22, 20),
    "neck": HEAD,
    "head": HEAD,
}
_TORSO_JOINTS = ("pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar")


def _find_densepose_parts(entries: tuple[PartEntry, ...], part: np.ndarray, rest_position: np.ndarray) -> np.ndarray:
    """(F, H, W) uint8 DensePose parts."""
    origin = {entry.joint: np.array(entry.origin) for entry in entries if entry.joint}
    missing = [joint for joint in ("left_hip", "right_hip", "head") if joint not in origin]
    if missing:
        raise ShotError(
            "parts",
            f"The passes do not say which bone is the {missing[0].replace('_', ' ')}; map the bones of the "
            "character and render the passes again.",
        )
    left = origin["left_hip"] - origin["right_hip"]
    middle = (origin["left_hip"] + origin["right_hip"]) / 2
    out = np.zeros(part.shape, np.uint8)
    for entry in entries:
        # fingers and other bones without a joint do not belong to any part of DensePose
        numbers = TORSO if entry.joint in _TORSO_JOINTS else _BY_JOINT.get(entry.joint)
        seen = part == entry.index
        if numbers is None or not seen.any():
            continue
        if len(numbers) == 1:
            out[seen] = numbers[0]
            continue
        side = (
            (rest_position[seen] - middle) @ left
            if numbers == HEAD
            else (rest_position[seen] - np.array(entry.origin)) @ np.array(entry.front)
        )
        out[seen] = np.where(side > 0, numbers[1], numbers[0])
    return out


def draw_iuv(passes: FramePasses, manifest: PassesManifest) -> np.ndarray:
    """(F, H, W, 3) uint8: part 0..24, U and V, with each part's coordinates stretched to the whole range over the shot.

    The parts are DensePose's. Their coordinates are the mesh's own, because DensePose's are under another licence. Raises
    ``ShotError`` when the character's bones are not mapped.
    """
    part = _find_densepose_parts(manifest.parts, passes.part, passes.rest_position)
    out = np.zeros((*part.shape, 3), np.uint8)
    out[..., 0] = part
    for number in np.unique(part[part > 0]):
        seen = part == number
        values = passes.uv[seen]
        low, high = values.min(0), values.max(0)
        out[seen, 1:] = np.round((values - low) / np.maximum(high - low, 1e-6) * 255).astype(np.uint8)
    return out
