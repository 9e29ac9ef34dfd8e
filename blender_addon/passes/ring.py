"""Views of a character from all sides: a turntable, and what that does not show. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..reference_shots.rasteriser import rasterise
from .camera import View

#: views of the turntable, and how far above the horizon it is seen from
TURNS, ELEVATION = 16, np.radians(8.0)
#: the half angle of view along the shorter side of a picture: little perspective
HALF_ANGLE = np.radians(14.0)
#: what is left free around the character, as a fraction of the picture
MARGIN = 0.07
#: points of the surface by which views are compared, the pictures' side meanwhile, and most views besides the turntable
SAMPLES, SIDE, MOST_MORE = 12_000, 128, 14
#: a point is shown where a pixel sees at most so many times the surface that one of the turntable's typically does
COARSEST = 1.6
#: views of all of it are added that show at least this fraction of the surface anew, and closer ones from another on: image models
#: know whole people better than parts of them
LEAST_GAIN, CLOSE_GAIN = 0.002, 0.01
#: how far behind the foremost surface a point may lie that still counts as seen, in pixels
DEPTH_PIXELS = 2.5


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A camera that looks at a character: ``world_to_camera`` (4, 4), along -Z, and the tangent of its half angle along the shorter
    side of a picture. ``label`` says what it shows; ``distance`` is how far away that is, in Blender's units, and nothing is seen
    that is nearer than ``near``."""

    label: str
    world_to_camera: np.ndarray
    tangent: float
    distance: float
    near: float = 0.0

    def make_view(self, width: int, height: int, metres_per_unit: float = 1.0) -> View:
        """What it sees in a picture."""
        shorter = min(width, height)
        near, far = max(self.distance * 0.02, self.near), self.distance * 50.0
        projection = np.zeros((4, 4))
        projection[0, 0] = shorter / (self.tangent * width)
        projection[1, 1] = shorter / (self.tangent * height)
        projection[2, 2], projection[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
        projection[3, 2] = -1.0
        return View(self.world_to_camera, projection, width, height, metres_per_unit)


@dataclass(frozen=True, eq=False)
class Ring:
    """Planned views, the turntable first, and the fraction of the surface that they show between them."""

    viewpoints: tuple[Viewpoint, ...]
    seen: float

    @property
    def keyframes(self) -> tuple[int, ...]:
        """The places of the views that between them decide how the character looks: every other one of the turntable, the front
        first, and what that does not show."""
        return (*range(0, TURNS, 2), *range(TURNS, len(self.viewpoints)))


def find_places(points: np.ndarray) -> np.ndarray:
    """The different ones (M, 3) float64 of points (N, 3): corners of a mesh's triangles are in six of them on average."""
    whole = np.ascontiguousarray(points, np.float64) + 0.0  # 0 and -0 are one place
    rows = whole.view(np.dtype((np.void, whole.itemsize * 3))).ravel()
    return np.asarray(whole[np.sort(np.unique(rows, return_index=True)[1])])


def look_at(points: np.ndarray, azimuth: float, elevation: float, front: np.ndarray, label: str, aspect: float = 1.0) -> Viewpoint:
    """A view in which world points (N, 3) just fit, from ``azimuth`` around the vertical, counted from the horizontal direction
    ``front`` (3,), and ``elevation`` above the horizon, in radians. ``aspect`` is width over height."""
    ahead = front / np.linalg.norm(front)
    side = np.cross([0.0, 0.0, 1.0], ahead)
    direction = np.cos(elevation) * (np.cos(azimuth) * ahead + np.sin(azimuth) * side) + np.sin(elevation) * np.array([0, 0, 1.0])
    right = -np.sin(azimuth) * ahead + np.cos(azimuth) * side
    rotation = np.stack([right, np.cross(direction, right), direction])
    local = points @ rotation.T
    tangent = float(np.tan(HALF_ANGLE))
    reach = tangent * np.array([max(aspect, 1.0), max(1 / aspect, 1.0)]) * (1 - 2 * MARGIN)
    centre = (local.min(0) + local.max(0)) / 2
    for _ in range(8):  # nearer parts are larger: the middle of the picture is found step by step
        offset = local[:, :2] - centre[:2]
        distance = float((np.abs(offset) / reach + (local[:, 2:] - centre[2])).max())
        away = np.maximum(distance - (local[:, 2] - centre[2]), 1e-9)[:, None]
        seen = offset / away
        centre[:2] += (seen.min(0) + seen.max(0)) / 2 * distance
    eye = rotation.T @ (centre + [0.0, 0.0, distance])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ eye
    return Viewpoint(label, matrix, tangent, distance)


def list_turns(points: np.ndarray, front: np.ndarray, aspect: float = 1.0) -> list[Viewpoint]:
    """The turntable of world points (N, 3): equally far away on all sides."""
    views = [look_at(points, 2 * np.pi * n / TURNS, ELEVATION, front, "turntable", aspect) for n in range(TURNS)]
    middle = (points.min(0) + points.max(0)) / 2
    distance = max(view.distance for view in views)
    out = []
    for view in views:
        matrix = view.world_to_camera.copy()
        rotation = matrix[:3, :3]
        matrix[:3, 3] = -rotation @ (middle + rotation[2] * distance)
        out.append(Viewpoint(view.label, matrix, view.tangent, distance))
    return out


def list_tilted(points: np.ndarray, front: np.ndarray, aspect: float = 1.0) -> list[Viewpoint]:
    """World points (N, 3) from above and from below."""
    tilts = ((48.0, "above"), (-42.0, "below"))
    return [look_at(points, np.pi * (n / 2 + 0.25), np.radians(t), front, label, aspect) for t, label in tilts for n in range(4)]


def list_close(points: np.ndarray, front: np.ndarray, label: str, aspect: float = 1.0) -> list[Viewpoint]:
    """A part of the character, the world points (N, 3), from all sides."""
    turned = ((5.0, 0.0), (50.0, 0.25), (-50.0, 0.25))
    views = [look_at(points, np.pi * (n / 2 + by), np.radians(tilt), front, label, aspect) for tilt, by in turned for n in range(4)]
    return views + [look_at(points, 0.0, np.radians(tilt), front, label, aspect) for tilt in (88.0, -88.0)]


@dataclass(frozen=True, eq=False)
class Samples:
    """Points that are spread over triangles: the number of each one's triangle (N,), and its place in it (N, 3), the weights of
    the corners."""

    triangle: np.ndarray
    weights: np.ndarray

    def place(self, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The points (N, 3) on the same triangles wherever these are now, (T, 3, 3), and the unit normal (N, 3) at each, 0 where a
        triangle has no area."""
        own = triangles[self.triangle].astype(np.float64)
        normal = np.cross(own[:, 1] - own[:, 0], own[:, 2] - own[:, 0])
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        return np.einsum("nc,ncd->nd", self.weights, own), normal / np.maximum(length, 1e-30)

    def measure(self, triangles: np.ndarray) -> np.ndarray:
        """(N,) the area of each point's triangle."""
        a, b, c = (triangles[self.triangle, n].astype(np.float64) for n in range(3))
        return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)


def draw_samples(triangles: np.ndarray, count: int = SAMPLES) -> Samples:
    """Points spread evenly over world triangles (T, 3, 3), always the same ones; none where these have no area."""
    a, b, c = (triangles[:, n].astype(np.float64) for n in range(3))
    total = np.cumsum(np.linalg.norm(np.cross(b - a, c - a), axis=1))
    if not len(total) or total[-1] <= 0:
        return Samples(np.empty(0, np.int64), np.empty((0, 3)))
    chosen = np.searchsorted(total, (np.arange(count) + 0.5) / count * total[-1])
    # two irrational steps fill the unit square evenly
    u, v = (np.arange(count) * step % 1.0 for step in (0.7548776662466927, 0.5698402909980532))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return Samples(chosen, np.stack([1 - u - v, u, v], 1))


def compute_coarsest(view: Viewpoint) -> float:
    """How much surface a pixel may see at most at a point that counts as shown, in squares of Blender's units; ``view`` is one of
    the turntable's."""
    return float(COARSEST * (view.distance / (SIDE / 2 / view.tangent)) ** 2)


def compute_footprints(
    view: Viewpoint, triangles: np.ndarray, points: np.ndarray, normals: np.ndarray, aspect: float = 1.0
) -> np.ndarray:
    """(N,) how much surface a pixel sees at each point, in squares of Blender's units; inf where the point is not seen."""
    matrix = view.world_to_camera
    corners = triangles.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    corners = corners.reshape(-1, 3, 3)[(-corners[:, 2].reshape(-1, 3)).max(1) > view.near].reshape(-1, 3)
    focal = SIDE / 2 / view.tangent
    width, height = round(SIDE * max(aspect, 1.0)), round(SIDE * max(1 / aspect, 1.0))
    raster = rasterise(corners, np.arange(len(corners)).reshape(-1, 3), focal, height, width)
    local = points @ matrix[:3, :3].T + matrix[:3, 3]
    depth = np.maximum(-local[:, 2], 1e-9)
    column, row = width / 2 + local[:, 0] / depth * focal, height / 2 - local[:, 1] / depth * focal
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (local[:, 2] < 0)
    front = np.full(len(points), np.inf)
    front[inside] = raster.depth[row[inside].astype(int), column[inside].astype(int)]
    pixel = depth / focal
    direction = -local / np.linalg.norm(local, axis=1, keepdims=True)
    # meshes may be seen from inside, too
    facing = np.abs((normals @ matrix[:3, :3].T * direction).sum(1))
    slope = np.sqrt(np.maximum(1 - facing**2, 0)) / np.maximum(facing, 0.05)
    seen = inside & (depth <= front + DEPTH_PIXELS * pixel * (1 + slope)) & (facing > 0.02)
    return np.where(seen, pixel**2 / np.maximum(facing, 0.02), np.inf)


def plan_ring(triangles: np.ndarray, front: np.ndarray, regions: Mapping[str, np.ndarray], aspect: float = 1.0) -> Ring:
    """Views that show the surface of world triangles (T, 3, 3): a turntable, and as few others as are needed.

    ``front`` (3,) is the horizontal direction that the character looks in; ``regions`` are points (N, 3) of what may need a
    closer look.
    """
    corners = find_places(triangles.reshape(-1, 3))
    views = list_turns(corners, front, aspect)
    points, normals = draw_samples(triangles).place(triangles)
    if not len(points):
        return Ring(tuple(views), 0.0)
    coarsest = compute_coarsest(views[0])

    def find_shown(some: list[Viewpoint]) -> np.ndarray:
        return np.stack([compute_footprints(view, triangles, points, normals, aspect) <= coarsest for view in some])

    covered = find_shown(views).any(0)
    groups: list[tuple[float, Callable[[], list[Viewpoint]]]] = [(LEAST_GAIN, partial(list_tilted, corners, front, aspect))]
    groups += [
        (CLOSE_GAIN, partial(list_close, find_places(some), front, name, aspect)) for name, some in regions.items() if len(some)
    ]
    for least, list_candidates in groups:
        # of what is all seen already nothing is planned
        if (~covered).mean() < least or len(views) >= TURNS + MOST_MORE:
            break
        candidates = list_candidates()
        shown = find_shown(candidates)
        while len(views) < TURNS + MOST_MORE:
            gains = (shown & ~covered).sum(1)
            best = int(gains.argmax())
            if gains[best] < least * len(points):
                break
            views.append(candidates[best])
            covered |= shown[best]
    return Ring(tuple(views), float(covered.mean()))
