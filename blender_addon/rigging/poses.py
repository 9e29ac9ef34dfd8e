"""Poses of an armature over frames, as Blender evaluates them: what is read from Actions and what keys are measured against."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ..character.rig import Rig
from ..motion.retarget import RigMotion
from ..typed_access import get_armature
from .stand_in import StandIn


@dataclass(frozen=True)
class Poses:
    """B bones of a rig in F frames; float64.

    ``matrices`` (F, B, 4, 4): pose matrices in armature space; ``objects`` (F, 4, 4): how the object has moved since the
    reference frame, in the space that it had there. Parents and constraints of the object are not part of it.
    """

    matrices: np.ndarray
    objects: np.ndarray

    @property
    def rotations(self) -> np.ndarray:
        """(F, B, 3, 3) of the bones without scale and shear, in the object's space at the reference frame."""
        u, _, vt = np.linalg.svd((self.objects[:, None] @ self.matrices)[..., :3, :3])
        return np.asarray(u @ vt)

    @property
    def heads(self) -> np.ndarray:
        """(F, B, 3) where the bones begin, in the object's space at the reference frame."""
        return np.asarray((self.objects[:, None] @ self.matrices)[..., :3, 3])


def read_reference(stand: StandIn, frame: float) -> np.ndarray:
    """(4, 4) the matrix of the object itself at a frame: the space that poses are given in."""
    return np.array(stand.evaluate(frame).matrix_basis)


def read_poses(stand: StandIn, rig: Rig, frames: np.ndarray, reference: np.ndarray) -> Poses:
    """The poses at frames (F,) of the Action that the stand-in uses, relative to a reference (4, 4)."""
    order = [stand.bones.find(name) for name in rig.bones]
    count = len(stand.bones)
    matrices, objects = np.empty((len(frames), len(order), 4, 4)), np.empty((len(frames), 4, 4))
    flat = np.empty(count * 16, np.float32)
    back = np.linalg.inv(reference)
    for n, (basis, bones) in enumerate(stand.iter_poses(frames)):
        bones.foreach_get("matrix", flat)
        # Blender hands matrices over column by column
        matrices[n] = flat.reshape(count, 4, 4).swapaxes(-1, -2)[order]
        objects[n] = back @ basis
    return Poses(matrices, objects)


def to_body_motion(rig: Rig, poses: Poses) -> RigMotion:
    """Poses as motion of the rig's body. Joints without a bone follow their parents."""
    rotations = np.broadcast_to(np.eye(3), (len(JOINT_INDEX), len(poses.matrices), 3, 3)).copy()
    turned = poses.rotations
    for joint, name in enumerate(JOINT_INDEX):
        bone = rig.joint_bones.get(name)
        if bone is None:
            rotations[joint] = rotations[max(SMPL_PARENTS[joint], 0)]
        else:
            rotations[joint] = rig.to_body @ turned[:, bone] @ rig.rest[bone].T @ rig.to_body.T
    root = rig.joint_bones["pelvis"]
    moved = poses.heads[:, root] - rig.heads[root]
    return RigMotion(np.moveaxis(rotations, 0, 1), moved @ rig.to_body.T * rig.scale + rig.joints[0])


@dataclass(frozen=True)
class Carrier:
    """The bone whose location moves another bone: that bone itself, or the nearest ancestor that can move.

    ``axes`` (3, 3): where its location channels point in armature space while its parent is at rest; ``parent``: the index
    of that parent, -1 for none.
    """

    bone: str
    axes: np.ndarray
    parent: int


def find_carrier(armature: bpy.types.Object, rig: Rig, bone: int) -> Carrier:
    """What carries a bone of the rig: a bone that is connected to its parent's tail has a location without effect."""
    bones = get_armature(armature).bones
    while rig.parents[bone] >= 0 and bones[rig.bones[bone]].use_connect:
        bone = rig.parents[bone]
    parent = rig.parents[bone]
    of_parent = rig.rest[parent] if parent >= 0 else np.eye(3)
    axes = rig.rest[bone] if bones[rig.bones[bone]].use_local_location else of_parent
    return Carrier(rig.bones[bone], axes, parent)


def compute_location_change(rig: Rig, poses: Poses, carrier: Carrier, change: np.ndarray) -> np.ndarray:
    """(F, 3) what has to be added to a carrier's location for a change (F, 3) of place in the reference's space."""
    axes = np.broadcast_to(carrier.axes, (len(change), 3, 3))
    if carrier.parent >= 0:
        axes = poses.matrices[:, carrier.parent, :3, :3] @ rig.rest[carrier.parent].T @ axes
    axes = poses.objects[:, :3, :3] @ axes
    return np.asarray(np.linalg.solve(axes, change[..., None])[..., 0])
