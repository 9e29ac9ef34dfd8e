"""Reads hair from evaluated data: the strands that Cycles would draw, and where their points rest.

A strand's point is placed by the rest position of its root on the skin, and by how far along the strand it lies. What strands
know of their root are its texture coordinates, so the skin's rest positions and normals are drawn over those.
"""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ...shared.vectors import normalise
from ..typed_access import get_curves, get_mesh
from .geometry import Strands
from .render_set import ROOT_COORDINATE, find_skin
from .surfaces import get_rest_points, get_triangle_corners

#: side length of the pictures of the skin; a pixel is a few millimetres of it
SIDE = 512
#: how far from the skin the tip of every strand is placed, as a fraction of the body's height
REACH = 0.05
#: rounds in which pixels beside the skin's copy their neighbours' values
SPREAD = 4


def find_hair_systems(found: bpy.types.Object) -> list[tuple[bpy.types.ParticleSystemModifier, bpy.types.ParticleSystem]]:
    """The modifiers and particle systems of an object whose hair a render shows as strands."""
    out = []
    for modifier in found.modifiers:
        if isinstance(modifier, bpy.types.ParticleSystemModifier) and modifier.show_render:
            settings = modifier.particle_system.settings
            if settings.type == "HAIR" and settings.render_type == "PATH":
                out.append((modifier, modifier.particle_system))
    return out


def _find_root_coordinates(hair: bpy.types.Object, skin: bpy.types.Object, generated_uv: np.ndarray | None) -> np.ndarray | None:
    """(L, 2) float32 the skin's texture coordinates in which strands store where their roots are, or None when it has none."""
    mesh = get_mesh(skin)
    if hair.type == "CURVES":
        layer = mesh.uv_layers.get(get_curves(hair).surface_uv_map)
    else:
        layer = next((layer for layer in mesh.uv_layers if layer.active_render), None)
    if layer is None:
        return generated_uv.reshape(-1, 2) if generated_uv is not None and hair is skin else None
    coordinates = np.empty(len(mesh.loops) * 2, np.float32)
    layer.data.foreach_get("uv", coordinates)
    return coordinates.reshape(-1, 2)


def rasterise_over_uv(uv: np.ndarray, values: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Triangles with the values (T, 3, C) at their corners, drawn at their texture coordinates (T, 3, 2) into an image
    (side, side, C) float32, row 0 at v = 0. Values are interpolated linearly; pixels near a triangle copy it, all others are 0."""
    out, seen = np.zeros((side, side, values.shape[2]), np.float32), np.zeros((side, side), bool)
    span = np.ptp(uv, axis=1).max(1) * side if len(uv) else np.empty(0)
    steps = np.clip(np.ceil(span * 1.5).astype(int) + 1, 2, 2 * side)
    # triangles of similar size are sampled together
    sizes = 2 ** np.ceil(np.log2(steps)).astype(int) if len(steps) else steps
    for size in np.unique(sizes):
        a, b = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
        inside = a + b <= 1 + 1e-9
        weights = np.stack([1 - a[inside] - b[inside], a[inside], b[inside]], 1)
        chosen = np.flatnonzero(sizes == size)
        for some in np.array_split(chosen, -(-len(chosen) * len(weights) // 1_000_000)):
            place = np.einsum("sk,tkc->tsc", weights, uv[some]).reshape(-1, 2) * side
            col, row = np.clip(place.astype(int), 0, side - 1).T
            out[row, col] = np.einsum("sk,tkc->tsc", weights, values[some]).reshape(-1, values.shape[2])
            seen[row, col] = True
    first, last, whole = slice(None, -1), slice(1, None), slice(None)
    for _ in range(SPREAD):
        for target, neighbour in (
            ((last, whole), (first, whole)),
            ((first, whole), (last, whole)),
            ((whole, last), (whole, first)),
            ((whole, first), (whole, last)),
        ):
            new = seen[neighbour] & ~seen[target]
            out[target][new] = out[neighbour][new]
            seen[target] |= new
    return out


def _bake_skin(skin: bpy.types.Object, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images of the rest positions (S, S, 3) and of the offsets from a strand's root to its tip (S, S, 3), in the skin's units."""
    mesh = get_mesh(skin)
    vertices, loops = get_triangle_corners(mesh)
    points = get_rest_points(mesh).reshape(-1, 3)
    corners = points[vertices].reshape(-1, 3, 3)
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    np.add.at(normals, vertices, np.repeat(faces, 3, 0))
    values = np.concatenate([corners, (normalise(normals) * REACH * np.ptp(points, axis=0).max())[vertices].reshape(-1, 3, 3)], 2)
    found = rasterise_over_uv(uv[loops].reshape(-1, 3, 2), values)
    return found[..., :3], found[..., 3:]


class Roots:
    """Where the roots of strands rest on the skin of ``hair``, the user's object: by their texture coordinates."""

    def __init__(self, hair: bpy.types.Object, generated_uv: np.ndarray | None) -> None:
        """``generated_uv`` are ``unwrap``'s texture coordinates for a mesh without any."""
        skin = find_skin(hair)
        uv = _find_root_coordinates(hair, skin, generated_uv) if skin else None
        self._skin = _bake_skin(skin, uv) if skin is not None and uv is not None else None

    def find_rest(self, uvs: np.ndarray | None, counts: np.ndarray, fractions: np.ndarray) -> np.ndarray | None:
        """(P, 3) float32 where the points of strands rest, of which each has ``counts`` (C,), in the skin's units; None where that
        is not known.

        ``uvs`` (C, 2) are the roots' texture coordinates, ``fractions`` (P,) how far along its strand each point lies, from 0 to 1.
        """
        if self._skin is None or uvs is None:
            return None
        roots, offsets = self._skin
        columns, rows = np.clip((uvs * SIDE).astype(int), 0, SIDE - 1).T
        start, way = (np.repeat(picture[rows, columns], counts, 0) for picture in (roots, offsets))
        return np.asarray(start + way * fractions[:, None], np.float32)


def _measure_along(points: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(P,) float32 how far along its strand each point lies, from 0 at the root to 1 at the tip; 0 on strands without length."""
    firsts = np.cumsum(counts) - counts
    steps = np.zeros(len(points), np.float32)
    steps[1:] = np.linalg.norm(np.diff(points, axis=0), axis=1)
    steps[firsts[counts > 0]] = 0.0
    # sums along each strand alone: one over all strands would lose digits
    order = np.arange(len(points)) - np.repeat(firsts, counts)
    along = np.zeros(len(points), np.float32)
    for step in range(1, int(counts.max(initial=0))):
        here = np.flatnonzero(order == step)
        along[here] = along[here - 1] + steps[here]
    lengths = np.zeros(len(counts), np.float32)
    lengths[counts > 0] = along[(firsts + counts - 1)[counts > 0]]
    whole = np.repeat(lengths, counts)
    return np.divide(along, whole, out=np.zeros_like(along), where=whole > 0)


def _shape_radii(settings: Any, along: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(P,) float32 radii of particle hair, as Cycles computes them from the particles' settings."""
    thin = 1.0 - along
    if settings.shape:
        thin = thin ** (1.0 + settings.shape if settings.shape < 0 else 1.0 / (1.0 - settings.shape))
    root, tip = (0.5 * settings.radius_scale * radius for radius in (settings.root_radius, settings.tip_radius))
    radii = np.asarray(thin * (root - tip) + tip, np.float32)
    if settings.use_close_tip:
        radii[np.cumsum(counts)[counts > 0] - 1] = 0.0
    return radii


def read_particle_hair(found: bpy.types.Object, roots: Roots) -> Strands | None:
    """The strands of an evaluated mesh's particle systems, in its space; None where there are none.

    They are those that Cycles draws: the children where there are any, else the particles themselves.
    """
    parts = [one for modifier, system in find_hair_systems(found) if (one := _read_system(found, modifier, system, roots))]
    return join_strands(parts) if parts else None


def _read_system(found: bpy.types.Object, modifier: Any, system: Any, roots: Roots) -> Strands | None:
    settings = system.settings
    parents, children = len(system.particles), len(system.child_particles)
    first = parents if settings.child_type != "NONE" and children else 0
    numbers = range(first, parents + (children if first else 0))
    # the last of a spiral's steps ends where the one before did, and has no key of its own
    steps = (1 << settings.render_step) + (settings.kink_extra_steps if settings.kink == "SPIRAL" else 1)
    if not len(numbers):
        return None
    place = system.co_hair
    flat = (value for n in numbers for step in range(steps) for value in place(found, particle_no=n, step=step))
    world = np.fromiter(flat, np.float64, len(numbers) * steps * 3).reshape(-1, 3)
    inverse = np.linalg.inv(np.array(found.matrix_world))
    points = np.asarray(world @ inverse[:3, :3].T + inverse[:3, 3], np.float32)
    counts = np.full(len(numbers), steps, np.int32)
    along = _measure_along(points, counts)
    uvs = _read_root_uvs(found, modifier, system, numbers)
    return Strands(points, counts, _shape_radii(settings, along, counts), None, uvs, roots.find_rest(uvs, counts, along))


def _read_root_uvs(found: bpy.types.Object, modifier: Any, system: Any, numbers: range) -> np.ndarray | None:
    """(C, 2) float32 texture coordinates of the roots of a particle system's strands."""
    layers = get_mesh(found).uv_layers
    chosen = next((n for n, layer in enumerate(layers) if layer.active_render), None)
    if chosen is None or not len(system.particles):
        return None
    look, particles = system.uv_on_emitter, system.particles
    # of children only the number counts, but Blender asks for some particle
    pairs = ((particles[n] if n < len(particles) else particles[0], n) for n in numbers)
    flat = (value for one, n in pairs for value in look(modifier, particle=one, particle_no=n, uv_no=chosen))
    return np.fromiter(flat, np.float32, len(numbers) * 2).reshape(-1, 2)


def read_curves(curves: Any, roots: Roots | None) -> Strands | None:
    """The strands of evaluated hair curves; None where there are none."""
    count, total = len(curves.curves), len(curves.points)
    if not total:
        return None
    firsts = np.empty(count, np.int32)
    curves.curves.foreach_get("first_point_index", firsts)
    counts = np.diff(firsts, append=total).astype(np.int32)
    points = np.empty((total, 3), np.float32)
    curves.attributes["position"].data.foreach_get("vector", points.ravel())
    uvs = _read_attribute(curves, ROOT_COORDINATE, "CURVE", "vector", (count, 2), np.float32)
    along = _measure_along(points, counts)
    return Strands(
        points,
        counts,
        _read_attribute(curves, "radius", "POINT", "value", (total,), np.float32),
        _read_attribute(curves, "curve_type", "CURVE", "value", (count,), np.int8),
        uvs,
        roots.find_rest(uvs, counts, along) if roots is not None else None,
    )


def _read_attribute(curves: Any, name: str, domain: str, field: str, shape: tuple[int, ...], kind: Any) -> np.ndarray | None:
    attribute = curves.attributes.get(name)
    if attribute is None or attribute.domain != domain or len(attribute.data) != shape[0]:
        return None
    if not shape[0] or not hasattr(attribute.data[0], field):
        return None
    values = np.empty(shape, kind if kind != np.int8 else np.int32)
    attribute.data.foreach_get(field, values.ravel())
    return values.astype(kind)


def join_strands(parts: list[Strands]) -> Strands:
    """Several lots of strands as one; what some of them do not know is not known of all."""

    def join(name: str) -> np.ndarray | None:
        found = [getattr(one, name) for one in parts]
        return np.concatenate(found) if all(values is not None for values in found) else None

    points, counts = (np.concatenate([getattr(one, name) for one in parts]) for name in ("points", "counts"))
    return Strands(points, counts, join("radii"), join("kinds"), join("uvs"), join("rest"))
