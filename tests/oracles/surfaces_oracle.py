"""What a render of the open scene shows, found out without the add-on: Blender's own evaluation for the render of the scene as it
is, a camera made from lens, sensor and shift, and rays through pixel centres in plain arithmetic.

``look`` evaluates frames; ``OracleFrame.find_wrong`` compares one with passes. The scene is left at the frame that was evaluated
last: take snapshots before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from latentman.shared import exr

#: how far beside a pixel's centre an edge still counts as a tie, in pixels
TIE = 2e-3
NAME = "ORACLE_SURFACES"

#: who shows it ("" for an object of its own), the object, and which instance it is
Identity = tuple[str, str, tuple[int, ...]]


class _Engine(bpy.types.RenderEngine):
    bl_idname, bl_label = NAME, "Oracle"
    receive: Callable[[bpy.types.Depsgraph], None] | None = None

    def render(self, depsgraph):
        _Engine.receive(depsgraph)


@dataclass(frozen=True)
class Eye:
    """A camera: ``to_camera`` (4, 4), focal length or pixels per unit ``scale``, and where the axis meets the picture."""

    to_camera: np.ndarray
    is_orthographic: bool
    scale: float
    centre: tuple[float, float]
    near: float
    far: float

    @staticmethod
    def make(camera: bpy.types.Object, width: int, height: int) -> Eye:
        """From the evaluated camera's own settings."""
        data = camera.data
        wide = width >= height if data.sensor_fit == "AUTO" else data.sensor_fit == "HORIZONTAL"
        side = width if wide else height
        sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
        scale = side / data.ortho_scale if data.type == "ORTHO" else data.lens / sensor * side
        world = np.array(camera.matrix_world, float)
        axes = world[:3, :3] / np.linalg.norm(world[:3, :3], axis=0)
        to_camera = np.eye(4)
        to_camera[:3, :3] = np.linalg.inv(axes)
        to_camera[:3, 3] = -to_camera[:3, :3] @ world[:3, 3]
        centre = (width / 2 - data.shift_x * side, height / 2 + data.shift_y * side)
        return Eye(to_camera, data.type == "ORTHO", scale, centre, data.clip_start, data.clip_end)

    def make_rays(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Origins and directions (N, 3), one unit of planar depth long, through places in the picture (x right, y down)."""
        across = np.stack([(x - self.centre[0]) / self.scale, (self.centre[1] - y) / self.scale, np.zeros_like(x)], 1)
        ahead = np.array([0.0, 0.0, -1.0])
        if self.is_orthographic:
            return across, np.broadcast_to(ahead, across.shape)
        return np.zeros_like(across), across + ahead

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) in camera space, in front of it -> (..., 2) places in the picture."""
        flat = points[..., :2] if self.is_orthographic else points[..., :2] / -points[..., 2:]
        return np.stack([self.centre[0] + flat[..., 0] * self.scale, self.centre[1] - flat[..., 1] * self.scale], -1)


@dataclass(frozen=True)
class Solid:
    """A surface of a frame: world points (V, 3), triangles (T, 3), and rest positions (V, 3) in metres."""

    identity: Identity
    points: np.ndarray
    triangles: np.ndarray
    rest: np.ndarray


@dataclass(frozen=True)
class OracleFrame:
    """What is met by the rays through the pixels' centres of a frame, nearest or not.

    Of each hit (N,): its pixel, its surface's number in ``identities``, whether an edge is so near that the ray may pass beside it
    (``sure`` where not), the range of planar depths and of rest positions (N, 2), (N, 2, 3) around the pixel's centre.
    """

    size: tuple[int, int]
    identities: list[Identity]
    solids: list[Solid]
    eye: Eye
    pixel: np.ndarray
    surface: np.ndarray
    sure: np.ndarray
    depth: np.ndarray
    rest: np.ndarray

    def measure(self, chosen: Callable[[Identity], bool]) -> tuple[float, float]:
        """The nearest and the farthest planar distance of the chosen surfaces' vertices in front of the camera."""
        points = [one.points for one in self.solids if chosen(one.identity)]
        if not points:
            return np.inf, -np.inf
        away = -(np.concatenate(points) @ self.eye.to_camera[2, :3] + self.eye.to_camera[2, 3])
        away = away[away > 1e-3]
        return (away.min(), away.max()) if len(away) else (np.inf, -np.inf)

    def find_wrong(
        self, number: np.ndarray, depth: np.ndarray, rest: np.ndarray | None, who: dict[int, Identity], holes: frozenset[str]
    ) -> np.ndarray:
        """The pixels (H * W,) bool whose object number, planar depth in metres (``inf`` for none) or rest position is not what the
        ray meets; ``who`` says which surface has a number, ``holes`` names objects behind which nothing is seen."""
        number, depth = number.ravel(), depth.ravel()
        code = {identity: n for n, identity in enumerate(self.identities)}
        table = np.full(max([0, *who]) + 1, -1)
        for key, identity in who.items():
            table[key] = code.get(identity, -2)
        shown = np.where(number > 0, table[np.clip(number, 0, len(table) - 1)], -1)
        tolerance = 1e-4 + 2e-5 * np.where(np.isfinite(depth), depth, 0.0)
        mine, away, slack = shown[self.pixel], depth[self.pixel], tolerance[self.pixel]
        matches = (self.surface == mine) & (self.depth[:, 0] - slack <= away) & (away <= self.depth[:, 1] + slack)
        if rest is not None:
            here = rest.reshape(-1, 3)[self.pixel]
            matches &= ((self.rest[:, 0] - 4e-4 <= here) & (here <= self.rest[:, 1] + 4e-4)).all(1)
        is_hole = np.array([identity[1] in holes or identity[0] in holes for identity in self.identities] + [False])[self.surface]
        size = len(number)
        confirmed = np.zeros(size, bool)
        confirmed[self.pixel[matches & ~is_hole]] = True
        hidden = np.zeros(size, bool)
        hidden[self.pixel[self.sure & (self.depth[:, 1] < away - slack)]] = True
        # background is right where nothing is met for sure, or a hole is met before all that is sure
        nearest, hole = np.full(size, np.inf), np.full(size, np.inf)
        np.minimum.at(nearest, self.pixel[self.sure & ~is_hole], self.depth[self.sure & ~is_hole, 1])
        np.minimum.at(hole, self.pixel[is_hole], self.depth[is_hole, 0])
        is_empty = np.isinf(nearest) | (hole <= nearest + 1e-4)
        return np.where(number > 0, ~confirmed | hidden, ~is_empty)

    def vote(self, number: np.ndarray, depth: np.ndarray) -> dict[int, dict[Identity, int]]:
        """For each object number how many of its pixels lie at the planar depth at which surfaces are met."""
        away = depth.ravel()[self.pixel]
        slack = 1e-4 + 2e-5 * np.where(np.isfinite(away), away, 0.0)
        fits = (self.depth[:, 0] - slack <= away) & (away <= self.depth[:, 1] + slack)
        shown = number.ravel()[self.pixel]
        out: dict[int, dict[Identity, int]] = {}
        for one in np.unique(number[number > 0]):
            counts = np.bincount(self.surface[fits & (shown == one)], minlength=len(self.identities))
            out[int(one)] = {self.identities[n]: int(count) for n, count in enumerate(counts) if count}
        return out


def look(
    frames: Iterable[int],
    width: int,
    height: int,
    seen: Callable[[Identity], bool],
    *,
    rest: dict[str, np.ndarray] | None = None,
    metres: dict[str, float] | None = None,
    play_from: int | None = None,
) -> dict[int, OracleFrame]:
    """Evaluate frames of the scene as for a render of its view layer, and look at the surfaces for which ``seen`` is true.

    ``rest`` gives rest positions (V, 3) in object space where they are not those of the undeformed mesh, or, of what is not
    deformed, its own; ``metres`` the metres per unit of an object where they are not those of its place. ``play_from`` plays the
    scene from a frame on instead, for simulations that are not baked.
    """
    out: dict[int, OracleFrame] = {}

    def read(frame: int, graph: bpy.types.Depsgraph) -> None:
        eye = Eye.make(graph.scene.camera.evaluated_get(graph), width, height)
        out[frame] = _trace(_read_solids(graph, seen, rest or {}, metres or {}), eye, width, height)

    scene, layer = bpy.context.scene, bpy.context.view_layer.name
    if play_from is not None:
        for frame in range(play_from, max(frames) + 1):
            scene.frame_set(frame)
            if frame in frames:
                read(frame, bpy.context.evaluated_depsgraph_get())
        return out
    plain = dict.fromkeys(
        ("use_compositing", "use_sequencer", "use_freestyle", "use_multiview", "use_motion_blur", "use_border"), False
    ) | {"engine": NAME}
    kept = {name: getattr(scene.render, name) for name in plain}
    bpy.utils.register_class(_Engine)
    try:
        for name, value in plain.items():
            setattr(scene.render, name, value)
        for frame in frames:
            scene.frame_set(frame)
            errors: list[Exception] = []

            def receive(graph: bpy.types.Depsgraph, frame: int = frame, errors: list[Exception] = errors) -> None:
                if graph.view_layer.name != layer:
                    return
                try:
                    read(frame, graph)
                except Exception as error:
                    errors.append(error)

            _Engine.receive = receive
            bpy.ops.render.render(scene=scene.name, layer=layer)
            if errors:
                raise errors[0]
            assert frame in out
    finally:
        _Engine.receive = None
        for name, value in kept.items():
            setattr(scene.render, name, value)
        bpy.utils.unregister_class(_Engine)
    return out


def _read_solids(
    graph: bpy.types.Depsgraph, seen: Callable[[Identity], bool], rests: dict[str, np.ndarray], metres: dict[str, float]
) -> list[Solid]:
    out = []
    for instance in graph.object_instances:
        found = instance.object
        if not instance.show_self or found.type not in ("MESH", "CURVE", "SURFACE", "META", "FONT"):
            continue
        shower = instance.parent.original.name_full if instance.is_instance else ""
        which = tuple(n for n in instance.persistent_id if n != 0x7FFFFFFF) if instance.is_instance else ()
        identity = (shower, found.original.name_full, which)
        if not seen(identity):
            continue
        is_mesh = isinstance(found.data, bpy.types.Mesh)
        mesh = found.data if is_mesh else found.to_mesh()
        if mesh is None or not len(mesh.polygons):
            continue
        mesh.calc_loop_triangles()
        points = np.array([v.co for v in mesh.vertices], float).reshape(-1, 3)
        triangles = np.array([t.vertices for t in mesh.loop_triangles]).reshape(-1, 3)
        matrix = np.array(instance.matrix_world, float)
        unit = metres.get(identity[1]) or np.cbrt(abs(np.linalg.det(matrix[:3, :3])))
        rest = rests.get(identity[1])
        if rest is None:
            rest = _find_rest(found.original, points)
        out.append(Solid(identity, points @ matrix[:3, :3].T + matrix[:3, 3], triangles, rest * unit))
        if not is_mesh:
            found.to_mesh_clear()
    return out


def _find_rest(original: bpy.types.Object, points: np.ndarray) -> np.ndarray:
    """The undeformed mesh's points, where the deformed one has as many; else its own."""
    data = original.data
    is_deformed = isinstance(data, bpy.types.Mesh) and (len(original.modifiers) or data.shape_keys)
    if not is_deformed or len(data.vertices) != len(points):
        return points
    source = data.shape_keys.reference_key.data if data.shape_keys else data.vertices
    return np.array([one.co for one in source], float)


def _trace(solids: list[Solid], eye: Eye, width: int, height: int) -> OracleFrame:
    identities = [one.identity for one in solids]
    corners, rests, owners = [], [], []
    for n, one in enumerate(solids):
        points = one.points @ eye.to_camera[:3, :3].T + eye.to_camera[:3, 3]
        corners.append(points[one.triangles])
        rests.append(one.rest[one.triangles])
        owners.append(np.full(len(one.triangles), n))
    if not solids:
        return OracleFrame((width, height), [], [], eye, *_no_hits())
    corner, rest, owner = np.concatenate(corners), np.concatenate(rests), np.concatenate(owners)
    away = -corner[..., 2]
    kept = (away.max(1) > eye.near) & (away.min(1) < eye.far)
    corner, rest, owner, away = corner[kept], rest[kept], owner[kept], away[kept]
    low, high = np.zeros((len(corner), 2)), np.tile([float(width), float(height)], (len(corner), 1))
    whole = away.min(1) <= 1e-6 if not eye.is_orthographic else np.zeros(len(corner), bool)
    places = eye.project(corner[~whole])
    low[~whole], high[~whole] = places.min(1), places.max(1)
    # centres lie at a half: those within the box and a tie's width
    first = np.clip(np.ceil(low - 0.5 - 2 * TIE), 0, [width, height]).astype(int)
    last = np.clip(np.floor(high - 0.5 + 2 * TIE), -1, [width - 1, height - 1]).astype(int)
    spans = np.maximum(last - first + 1, 0)
    counts = spans.prod(1)
    groups = np.array_split(np.flatnonzero(counts), max(1, int(counts.sum() // 400_000)))
    found = [_no_hits(), *(_meet(eye, some, counts, spans, first, corner, rest, owner, width) for some in groups)]
    return OracleFrame((width, height), identities, solids, eye, *(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _no_hits() -> tuple[np.ndarray, ...]:
    return np.empty(0, int), np.empty(0, int), np.empty(0, bool), np.empty((0, 2)), np.empty((0, 2, 3))


def _meet(eye, some, counts, spans, first, corner, rest, owner, width) -> tuple[np.ndarray, ...]:
    triangle = np.repeat(some, counts[some])
    nth = np.arange(len(triangle)) - np.repeat(np.cumsum(counts[some]) - counts[some], counts[some])
    column = first[triangle, 0] + nth % np.maximum(spans[triangle, 0], 1)
    row = first[triangle, 1] + nth // np.maximum(spans[triangle, 0], 1)
    inside, depths, rests = [], [], []
    edge_1, edge_2 = corner[triangle, 1] - corner[triangle, 0], corner[triangle, 2] - corner[triangle, 0]
    for x, y in ((0, 0), (TIE, 0), (-TIE, 0), (0, TIE), (0, -TIE)):
        origin, ray = eye.make_rays(column + 0.5 + x, row + 0.5 + y)
        across = np.cross(ray, edge_2)
        size = (edge_1 * across).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            start = origin - corner[triangle, 0]
            u = (start * across).sum(1) / size
            up = np.cross(start, edge_1)
            v, t = (ray * up).sum(1) / size, (edge_2 * up).sum(1) / size
        inside.append((u >= 0) & (v >= 0) & (u + v <= 1) & (t > eye.near) & (t < eye.far))
        depths.append(t)
        weights = np.stack([1 - u - v, u, v], 1)
        rests.append((weights[..., None] * rest[triangle]).sum(1))
    touched, sure = np.any(inside, 0), np.all(inside, 0)
    touched &= np.isfinite(depths).all(0)
    depth, places = np.array(depths)[:, touched], np.array(rests)[:, touched]
    return (
        (row * width + column)[touched],
        owner[triangle[touched]],
        sure[touched],
        np.stack([depth.min(0), depth.max(0)], 1),
        np.stack([places.min(0), places.max(0)], 1),
    )


def render_in_place(frame: int, numbers: dict[str, int], path: Path) -> np.ndarray:
    """(H, W) the object index pass of Cycles' own render of the scene as it is, at one sample, of objects with these numbers.

    It changes the scene's settings and stays so.
    """
    scene, layer = bpy.context.scene, bpy.context.view_layer
    scene.render.engine = "CYCLES"
    for name, value in dict(samples=1, use_adaptive_sampling=False, use_denoising=False, device="CPU", filter_width=0.01).items():
        setattr(scene.cycles, name, value)
    layer.use_pass_object_index = True
    for found in scene.objects:
        found.pass_index = numbers.get(found.name, 0)
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format, settings.color_depth, settings.exr_codec = "OPEN_EXR_MULTILAYER", "32", "ZIP"
    if hasattr(settings, "use_exr_interleave"):
        settings.use_exr_interleave = True
    scene.render.filepath = str(path)
    scene.frame_set(frame)
    bpy.ops.render.render(write_still=True)
    channels = exr.read_channels(path)
    return next(pixels for name, pixels in channels.items() if "IndexOB" in name or "Object Index" in name).round().astype(int)
