"""Where hair is at rest: a strand's point is placed by its root on the skin at rest, and by how far along the strand it lies.

Renderers give strands none of the mesh's attributes, only the texture coordinates of their roots. So the skin's rest positions
and normals go into pictures over those coordinates, which the passes' material reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import bpy
import numpy as np

from ...shared.vectors import normalise
from .nodes import computed
from .subjects import ROOT_COORDINATE, Subject, skin_of
from .surfaces import rest_points, triangle_corners

#: side of the pictures; a pixel is a few millimetres of skin
SIDE = 512
#: how far from the skin the tip of every strand is put, in heights of the body
REACH = 0.05
#: rounds in which pixels beside the skin's take their neighbours' values
SPREAD = 4


@dataclass(frozen=True)
class Strands:
    """The hair that is rendered with the pass index ``index``.

    ``roots`` is a picture of the skin's rest positions, ``along`` of what to add to them at a strand's tip. Coordinates are the
    curves' ``own``, or else the mesh's.
    """

    index: int
    roots: bpy.types.Image
    along: bpy.types.Image
    own: bool


def _layer(item: bpy.types.Object, skin: bpy.types.Object, lent: np.ndarray | None) -> np.ndarray | None:
    """(L, 2) the texture coordinates that say where strands have their roots."""
    layers = skin.data.uv_layers
    if item.type == "CURVES":
        layer = layers.get(item.data.surface_uv_map)
    else:
        layer = next((layer for layer in layers if layer.active_render), None)
    if layer is None:
        return lent.reshape(-1, 2) if lent is not None and item is skin else None
    found = np.empty(len(skin.data.loops) * 2, np.float32)
    layer.data.foreach_get("uv", found)
    return found.reshape(-1, 2)


def spread_over(uv: np.ndarray, values: np.ndarray, side: int = SIDE) -> np.ndarray:
    """(side, side, C) the values (T, 3, C) at the corners of triangles, linear between them, in a picture over their texture
    coordinates (T, 3, 2), row 0 at v = 0; pixels near a triangle take a neighbour's, all others are 0."""
    out, seen = np.zeros((side, side, values.shape[2]), np.float32), np.zeros((side, side), bool)
    span = np.ptp(uv, axis=1).max(1) * side if len(uv) else np.empty(0)
    steps = np.clip(np.ceil(span * 1.5).astype(int) + 1, 2, 2 * side)
    # triangles of like size are sampled together
    sizes = 2 ** np.ceil(np.log2(steps)).astype(int) if len(steps) else steps
    for size in np.unique(sizes):
        a, b = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
        inside = a + b <= 1 + 1e-9
        shares = np.stack([1 - a[inside] - b[inside], a[inside], b[inside]], 1)
        chosen = np.flatnonzero(sizes == size)
        for some in np.array_split(chosen, -(-len(chosen) * len(shares) // 1_000_000)):
            place = np.einsum("sk,tkc->tsc", shares, uv[some]).reshape(-1, 2) * side
            col, row = np.clip(place.astype(int), 0, side - 1).T
            out[row, col] = np.einsum("sk,tkc->tsc", shares, values[some]).reshape(-1, values.shape[2])
            seen[row, col] = True
    first, last, whole = slice(None, -1), slice(1, None), slice(None)
    for _ in range(SPREAD):
        for to, beside in (
            ((last, whole), (first, whole)),
            ((first, whole), (last, whole)),
            ((whole, last), (whole, first)),
            ((whole, first), (whole, last)),
        ):
            new = seen[beside] & ~seen[to]
            out[to][new] = out[beside][new]
            seen[to] |= new
    return out


def _pictures(skin: bpy.types.Object, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rest positions (S, S, 3), and what takes a strand's tip off the skin (S, S, 3), in the skin's units."""
    mesh = skin.data
    vertices, loops = triangle_corners(mesh)
    points = rest_points(mesh).reshape(-1, 3)
    corners = points[vertices].reshape(-1, 3, 3)
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    np.add.at(normals, vertices, np.repeat(faces, 3, 0))
    values = np.concatenate([corners, (normalise(normals) * REACH * np.ptp(points, axis=0).max())[vertices].reshape(-1, 3, 3)], 2)
    found = spread_over(uv[loops].reshape(-1, 3, 2), values)
    return found[..., :3], found[..., 3:]


@contextmanager
def _image(name: str, pixels: np.ndarray) -> Iterator[bpy.types.Image]:
    image = bpy.data.images.new(name, pixels.shape[1], pixels.shape[0], alpha=True, float_buffer=True, is_data=True)
    try:
        image.pixels.foreach_set(np.concatenate([pixels, np.ones_like(pixels[..., :1])], 2).ravel())
        image.update()
        yield image
    finally:
        bpy.data.images.remove(image)


@contextmanager
def grown(subject: Subject, lent: np.ndarray | None) -> Iterator[Strands | None]:
    """Within the block there are pictures of a subject's skin; None for one without strands, or whose roots are not known.
    ``lent`` is ``unwrap``'s answer for a mesh without texture coordinates."""
    item = subject.object
    skin = skin_of(item)
    uv = _layer(item, skin, lent) if skin else None
    if skin is None or uv is None:
        yield None
        return
    roots, along = _pictures(skin, uv)
    with _image("LatentMan Roots", roots) as first, _image("LatentMan Along", along) as second:
        yield Strands(subject.index, first, second, item.type == "CURVES")


def placed(tree: bpy.types.NodeTree, surface: bpy.types.NodeSocket, strands: list[Strands]) -> bpy.types.NodeSocket:
    """Adds nodes that give the rest position: ``surface`` (a vector) but for strands, which have their own."""
    hair, thing, active = (tree.nodes.new(f"ShaderNode{kind}") for kind in ("HairInfo", "ObjectInfo", "UVMap"))
    root = tree.nodes.new("ShaderNodeAttribute")
    root.attribute_name = ROOT_COORDINATE

    out = surface
    for one in strands:
        at = root.outputs["Vector"] if one.own else active.outputs[0]
        colours = []
        for image in (one.roots, one.along):
            texture = tree.nodes.new("ShaderNodeTexImage")
            texture.image, texture.interpolation, texture.extension = image, "Closest", "EXTEND"
            tree.links.new(at, texture.inputs["Vector"])
            colours.append(texture.outputs["Color"])
        offset = computed(tree, "SCALE", colours[1], hair.outputs["Intercept"], kind="VectorMath")
        point = computed(tree, "ADD", colours[0], offset, kind="VectorMath")
        same = computed(tree, "COMPARE", thing.outputs["Object Index"], float(one.index), 0.5)
        mine = computed(tree, "MULTIPLY", same, hair.outputs["Is Strand"])
        kept = computed(tree, "SCALE", out, computed(tree, "SUBTRACT", 1.0, mine), kind="VectorMath")
        out = computed(tree, "ADD", kept, computed(tree, "SCALE", point, mine, kind="VectorMath"), kind="VectorMath")
    return out
