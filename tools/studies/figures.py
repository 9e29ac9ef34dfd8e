"""One posed mannequin before one camera, rasterised, and the true way of its surface points into another picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from latentman.blender_addon.character.body_model import MANNEQUIN, BodyModel, load
from latentman.shared.depth import normalise_depth
from latentman.shared.shot import FramePasses
from latentman.shared.skeleton import JOINT_INDEX, SMPL_JOINTS
from tools.starter.rasteriser import Raster, rasterise

#: the picture from which visibility is read is this many times finer
FINE = 4
#: how far behind the nearest surface a point may be and still count as seen, in metres
SEEN_WITHIN = 0.004


@cache
def mannequin() -> BodyModel:
    """The bundled body."""
    return load(MANNEQUIN)


@dataclass(frozen=True)
class Setting:
    """What changes between two pictures: joint rotations (degrees about an axis), yaw, distance, camera."""

    joints: tuple[tuple[str, tuple[float, float, float]], ...] = ()
    yaw: float = 0.0
    distance: float = 4.2
    side: float = 0.0
    orbit: float = 0.0
    zoom: float = 1.9

    def points(self) -> np.ndarray:
        """(V, 3) camera-space vertices, looking along -Z."""
        pose = np.zeros((len(SMPL_JOINTS), 3))
        for name in ("left_shoulder", "right_shoulder"):
            pose[JOINT_INDEX[name]] = (0, 0, -1.1 if name.startswith("left") else 1.1)
        for name, turn in self.joints:
            pose[JOINT_INDEX[name]] += np.radians(turn)
        points = mannequin().pose_vertices(Rotation.from_rotvec(pose).as_matrix(), np.zeros(1), np.zeros(3))
        turned = Rotation.from_euler("y", self.yaw + self.orbit, degrees=True).apply(points)
        return turned + [self.side, 0.1, -self.distance]


@dataclass(frozen=True)
class Picture:
    """A setting's vertices (V, 3) in camera space, and its focal length as a share of the picture's side."""

    points: np.ndarray
    zoom: float

    def raster(self, size: int) -> Raster:
        """The picture at (size, size)."""
        return rasterise(self.points, mannequin().faces, self.zoom * size, size, size)


def picture(setting: Setting) -> Picture:
    """A setting, posed."""
    return Picture(setting.points(), setting.zoom)


def passes_of(pictures: list[Picture], size: int) -> FramePasses:
    """The passes of pictures at (size, size), as the add-on's are."""
    body = mannequin()
    assert body.uv is not None and body.uv_faces is not None
    corners = np.concatenate([body.uv[body.uv_faces], body.v_template[body.faces]], 2)
    part_of = (body.weights.argmax(1) + 1).astype(np.uint8)
    layers: dict[str, list[np.ndarray]] = {name: [] for name in ("depth", "mask", "uv", "rest_position", "part")}
    for one in pictures:
        raster = one.raster(size)
        values = np.zeros((size, size, 5), np.float32)
        values[raster.mask] = raster.interpolate(corners)
        part = np.zeros((size, size), np.uint8)
        part[raster.mask] = part_of[body.faces[raster.triangle[raster.mask], 0]]
        found = (raster.depth, raster.mask.astype(np.uint8), values[..., :2], values[..., 2:], part)
        for name, layer in zip(layers, found, strict=True):
            layers[name].append(layer)
    stacked = {name: np.stack(layer) for name, layer in layers.items()}
    seen = stacked["depth"][np.isfinite(stacked["depth"])]
    stacked["depth"] = normalise_depth(stacked["depth"], float(seen.min()), float(seen.max()))
    return FramePasses(**stacked)


#: surface points of neighbouring pass pixels that lie farther apart than this belong to different pieces, in metres
EDGE = 0.04


def between_surfaces(passes: FramePasses, frame: int, size: int) -> np.ndarray:
    """(size * size,) bool: centres of (size, size) pixels around which the frame's pass pixels show different pieces of
    surface, so that the passes do not say which of them is at the centre."""
    rest, mask = passes.rest_position[frame], passes.mask[frame] > 0
    full = len(mask)
    at = (np.arange(size) + 0.5) * full / size
    sides = [np.clip(side, 0, full - 1).astype(int) for side in (np.ceil(at - 1), np.floor(at))]
    corners = [(rows[:, None], cols[None]) for rows in sides for cols in sides]
    seen = np.stack([mask[corner] for corner in corners])
    points = np.stack([rest[corner] for corner in corners])
    apart = np.linalg.norm(points - points[:1], axis=-1).max(0) > EDGE
    return (apart | (seen.any(0) & ~seen.all(0))).ravel()


def true_places(target: Picture, reference: Picture, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels of the target at (size, size) that show the body, where their points are in the reference, and which of
    them it shows.

    Flat pixels (N,); places (N, 2) in pixels, x to the right and y down, the first pixel's centre at 0.5; (N,) bool.
    """
    raster = target.raster(size)
    pixels = np.flatnonzero(raster.mask)
    corners = reference.points[mannequin().faces[raster.triangle.ravel()[pixels]]]
    point = np.einsum("nc,ncd->nd", raster.barycentric.reshape(-1, 3)[pixels], corners)
    depth = -point[:, 2]
    place = np.stack([point[:, 0], -point[:, 1]], 1) / depth[:, None] * reference.zoom * size + size / 2
    fine = reference.raster(size * FINE)
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
    seen = inside & facing & (depth <= nearest + SEEN_WITHIN + slant)
    return pixels, place, seen
