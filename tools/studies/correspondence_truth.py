"""Pairs of views of the mannequin, and where the surface points of one truly are in the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from latentman.blender_addon.reference_shots.views import View, load_mannequin
from latentman.shared.passes import FramePasses
from latentman.shared.skeleton import JOINT_INDEX, SMPL_JOINTS

#: visibility is read from a raster that is this many times finer
FINE = 4
#: how far behind the nearest surface a point may be and still count as visible, in metres
VISIBLE_WITHIN = 0.004
#: surface points of neighbouring pass pixels that lie farther apart than this belong to different pieces of surface, in metres
EDGE = 0.04


@dataclass(frozen=True)
class Pose:
    """What changes between two views: ``joints`` are rotation vectors in degrees that are added to the neutral pose; ``yaw`` and
    ``orbit`` turn the body and the camera, in degrees; ``distance`` and ``side`` place the body, in metres; ``focal`` is the
    focal length as a fraction of the picture's side."""

    joints: tuple[tuple[str, tuple[float, float, float]], ...] = ()
    yaw: float = 0.0
    distance: float = 4.2
    side: float = 0.0
    orbit: float = 0.0
    focal: float = 1.9

    def make_view(self) -> View:
        """Pose the mannequin and place it in front of the camera."""
        pose = np.zeros((len(SMPL_JOINTS), 3))
        for name in ("left_shoulder", "right_shoulder"):
            pose[JOINT_INDEX[name]] = (0, 0, -1.1 if name.startswith("left") else 1.1)
        for name, rotation in self.joints:
            pose[JOINT_INDEX[name]] += np.radians(rotation)
        points = load_mannequin().pose_vertices(Rotation.from_rotvec(pose).as_matrix(), np.zeros(1), np.zeros(3))
        turned = Rotation.from_euler("y", self.yaw + self.orbit, degrees=True).apply(points)
        return View(turned + [self.side, 0.1, -self.distance], self.focal)


def find_ambiguous_pixels(passes: FramePasses, frame: int, size: int) -> np.ndarray:
    """(size * size,) bool: the (size, size) pixels around whose centre the frame's pass pixels show different pieces of surface,
    so that the passes do not say which of them is at the centre."""
    rest, mask = passes.rest_position[frame], passes.mask[frame] > 0
    full = len(mask)
    at = (np.arange(size) + 0.5) * full / size
    sides = [np.clip(side, 0, full - 1).astype(int) for side in (np.ceil(at - 1), np.floor(at))]
    corners = [(rows[:, None], cols[None]) for rows in sides for cols in sides]
    seen = np.stack([mask[corner] for corner in corners])
    points = np.stack([rest[corner] for corner in corners])
    apart = np.linalg.norm(points - points[:1], axis=-1).max(0) > EDGE
    return (apart | (seen.any(0) & ~seen.all(0))).ravel()


def find_true_places(target: View, reference: View, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find where the surface points under the target's pixels at (size, size) truly are in the reference.

    Returns flat pixel indices (N,) of the target's pixels that show the body; places (N, 2) in the reference in pixels, x to the
    right and y down, the first pixel's centre at 0.5; and (N,) bool, whether the point is visible there.
    """
    raster = target.rasterise(size)
    pixels = np.flatnonzero(raster.mask)
    corners = reference.points[load_mannequin().faces[raster.triangle.ravel()[pixels]]]
    point = np.einsum("nc,ncd->nd", raster.barycentric.reshape(-1, 3)[pixels], corners)
    depth = -point[:, 2]
    place = np.stack([point[:, 0], -point[:, 1]], 1) / depth[:, None] * reference.focal * size + size / 2
    fine = reference.rasterise(size * FINE)
    spot = np.floor(place * FINE).astype(int)
    inside = ((spot >= 0) & (spot < size * FINE)).all(1)
    spot = np.clip(spot, 0, size * FINE - 1)
    # a surface seen at a slant is at other depths a little to the side
    around = np.stack(
        [
            fine.depth[np.clip(spot[:, 1] + dy, 0, size * FINE - 1), np.clip(spot[:, 0] + dx, 0, size * FINE - 1)]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
    )
    nearest = fine.depth[spot[:, 1], spot[:, 0]]
    known = np.isfinite(around) & np.isfinite(nearest)
    spread = np.abs(np.subtract(around, nearest, where=known, out=np.zeros(around.shape)))
    slant = np.minimum(np.median(spread, 0) * 2, 0.02)
    # a closed surface that faces away is hidden, however near the silhouette
    facing = np.einsum("nd,nd->n", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), point) < 0
    seen = inside & facing & (depth <= nearest + VISIBLE_WITHIN + slant)
    return pixels, place, seen
