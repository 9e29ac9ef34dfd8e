"""Rest positions of hair: a strand's point is placed by the rest position of its root on the skin, and by how far along the strand
it lies.

Renderers give strands none of the mesh's attributes, only the texture coordinates of their roots. So the skin's rest positions
and normals are baked into images over those coordinates, which the passes' material samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ...shared.vectors import normalise
from ..typed_access import add_node, get_curves, get_input, get_mesh, get_output
from .nodes import add_math_node
from .own_data import OwnData
from .render_set import ROOT_COORDINATE, find_skin
from .surfaces import get_rest_points, get_triangle_corners

#: side length of the baked images; a pixel is a few millimetres of skin
SIDE = 512
#: how far from the skin the tip of every strand is placed, as a fraction of the body's height
REACH = 0.05
#: rounds in which pixels beside the skin's copy their neighbours' values
SPREAD = 4


@dataclass(frozen=True)
class Strands:
    """The hair that is rendered with the pass index ``index``.

    The image ``roots`` holds the skin's rest positions, ``tip_offsets`` what to add to them at a strand's tip. They are sampled at
    the curves' own root coordinates (``is_curves``), or else at the mesh's UV coordinates.
    """

    index: int
    roots: bpy.types.Image
    tip_offsets: bpy.types.Image
    is_curves: bool


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


def _make_image(data: OwnData, name: str, pixels: np.ndarray) -> bpy.types.Image:
    """A float image of pixels (H, W, 3)."""
    image: Any = data.keep(
        bpy.data.images,
        bpy.data.images.new(name, pixels.shape[1], pixels.shape[0], alpha=True, float_buffer=True, is_data=True),
    )
    image.pixels.foreach_set(np.concatenate([pixels, np.ones_like(pixels[..., :1])], 2).ravel())
    image.update()
    return image


def bake_strands(data: OwnData, hair: bpy.types.Object, index: int, generated_uv: np.ndarray | None) -> Strands | None:
    """An object's strands, rendered with the pass index ``index``; None for one without strands, or whose roots are not known.

    ``generated_uv`` are ``unwrap``'s texture coordinates for a mesh without any.
    """
    skin = find_skin(hair)
    uv = _find_root_coordinates(hair, skin, generated_uv) if skin else None
    if skin is None or uv is None:
        return None
    roots, offsets = _bake_skin(skin, uv)
    return Strands(
        index,
        _make_image(data, "LatentMan Roots", roots),
        _make_image(data, "LatentMan Tip Offsets", offsets),
        hair.type == "CURVES",
    )


def add_strand_nodes(tree: bpy.types.NodeTree, surface: bpy.types.NodeSocket, strands: list[Strands]) -> bpy.types.NodeSocket:
    """Add nodes that compute the rest position, and return their output: ``surface`` (a vector) everywhere but on strands, which
    have their own."""
    hair_info, object_info = add_node(tree, bpy.types.ShaderNodeHairInfo), add_node(tree, bpy.types.ShaderNodeObjectInfo)
    active_uv, root = add_node(tree, bpy.types.ShaderNodeUVMap), add_node(tree, bpy.types.ShaderNodeAttribute)
    root.attribute_name = ROOT_COORDINATE

    def add_vector_math(operation: str, *values: bpy.types.NodeSocket | float) -> bpy.types.NodeSocket:
        return add_math_node(tree, operation, *values, node_type=bpy.types.ShaderNodeVectorMath)

    out = surface
    for one in strands:
        coordinates = get_output(root, "Vector") if one.is_curves else get_output(active_uv, 0)
        colours = []
        for image in (one.roots, one.tip_offsets):
            texture = add_node(tree, bpy.types.ShaderNodeTexImage)
            texture.image, texture.interpolation, texture.extension = image, "Closest", "EXTEND"
            tree.links.new(coordinates, get_input(texture, "Vector"))
            colours.append(get_output(texture, "Color"))
        offset = add_vector_math("SCALE", colours[1], get_output(hair_info, "Intercept"))
        point = add_vector_math("ADD", colours[0], offset)
        has_index = add_math_node(tree, "COMPARE", get_output(object_info, "Object Index"), float(one.index), 0.5)
        applies = add_math_node(tree, "MULTIPLY", has_index, get_output(hair_info, "Is Strand"))
        others = add_vector_math("SCALE", out, add_math_node(tree, "SUBTRACT", 1.0, applies))
        out = add_vector_math("ADD", others, add_vector_math("SCALE", point, applies))
    return out
