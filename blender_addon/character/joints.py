"""Names of joints: the sides, the spine, and the bones of the SMPL family by number of joints."""

from __future__ import annotations

from ...shared.skeleton import SMPL_JOINTS

SIDES = ("left", "right")
#: the joints of the spine from below, and how far up from the pelvis (0) to the neck (1) each lies
SPINE = (("spine1", 0.23), ("spine2", 0.49), ("spine3", 0.6))
SPINE_JOINTS = tuple(joint for joint, _ in SPINE)
_FINGERS = tuple(f"{finger}{n}" for finger in ("index", "middle", "pinky", "ring", "thumb") for n in (1, 2, 3))
_HANDS = tuple(f"{side}_{finger}" for side in SIDES for finger in _FINGERS)
_BODY = SMPL_JOINTS[:22]
_FAMILIES = {24: SMPL_JOINTS, 52: _BODY + _HANDS, 55: (*_BODY, "jaw", "left_eye_smplhf", "right_eye_smplhf", *_HANDS)}


def get_joint_names(count: int) -> tuple[str, ...]:
    """Names of the joints of SMPL (24), SMPL-H (52) or SMPL-X (55); other models get numbers after the body's joints."""
    if count in _FAMILIES:
        return _FAMILIES[count]
    return tuple(SMPL_JOINTS[n] if n < min(22, count) else f"joint_{n:02d}" for n in range(count))
