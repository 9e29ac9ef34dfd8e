"""Surfaces whose materials cut them out with an image's alpha, such as hair cards, lashes and leaves.

Passes are rendered with one material for all surfaces, which therefore samples these images itself; a face attribute says which
cut-out applies to a face.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import bpy
import numpy as np

from ..typed_access import add_node, get_input, get_mesh, get_node, get_output, get_socket_value, set_socket_value
from .nodes import add_math_node

#: the face attribute that holds the number of a face's cut-out, from 1
CUT_ATTRIBUTE = "latentman_cut"
#: what is less opaque than this is a hole
OPACITY_THRESHOLD = 0.5
#: nodes that only modify a single value on its way
_PASS_THROUGH = ("REROUTE", "CLAMP", "MATH")
_IMAGE_SOURCES = ("FILE", "GENERATED", "TILED")

#: location, rotation and scale of a Mapping node
Mapping = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class CutOut:
    """An image that masks a surface, which exists where ``output`` (``Alpha`` or ``Color``) is white, or black if ``inverted``.

    ``uv`` names the UV map, "" for the active one; ``mapping`` transforms its coordinates.
    """

    image: bpy.types.Image
    output: str
    inverted: bool
    uv: str
    mapping: Mapping | None
    interpolation: Literal["Linear", "Closest", "Cubic", "Smart"]
    extension: Literal["REPEAT", "EXTEND", "CLIP", "MIRROR"]


def _trace_source(socket: bpy.types.NodeSocket) -> bpy.types.NodeSocket | None:
    """The output that a value comes from, past nodes that only modify it; None where nothing is linked."""
    while socket.is_linked and socket.links:
        found = socket.links[0].from_socket
        if found is None or get_node(found).type not in _PASS_THROUGH:
            return found
        linked = [entry for entry in get_node(found).inputs if entry.is_linked]
        if len(linked) != 1:
            return None
        socket = linked[0]
    return None


def _read_coordinates(texture: bpy.types.ShaderNodeTexImage) -> tuple[str, Mapping | None] | None:
    """The UV map and the mapping of an image texture; None when its coordinates do not come from a UV map."""
    found, mapping = _trace_source(get_input(texture, "Vector")), None
    if found is not None and isinstance(node := get_node(found), bpy.types.ShaderNodeMapping):
        entries = [get_input(node, name) for name in ("Location", "Rotation", "Scale")]
        if node.vector_type != "POINT" or any(entry.is_linked for entry in entries):
            return None
        mapping = tuple(tuple(get_socket_value(entry)) for entry in entries)
        found = _trace_source(get_input(node, "Vector"))
    if found is None:
        return ("", mapping) if mapping is None else None
    node = get_node(found)
    if isinstance(node, bpy.types.ShaderNodeUVMap):
        return node.uv_map, mapping
    return ("", mapping) if node.type == "TEX_COORD" and found.name == "UV" else None


def _read_cut_out(socket: bpy.types.NodeSocket, inverted: bool) -> CutOut | None:
    """The cut-out that controls a value, or None when it is not an image that the passes' material can sample."""
    found = _trace_source(socket)
    texture = get_node(found) if found is not None else None
    if found is None or not isinstance(texture, bpy.types.ShaderNodeTexImage):
        return None
    image = texture.image
    if image is None or image.source not in _IMAGE_SOURCES:
        return None
    coordinates = _read_coordinates(texture)
    if coordinates is None or texture.projection != "FLAT" or (found.name == "Alpha" and image.alpha_mode == "NONE"):
        return None
    return CutOut(image, found.name, inverted, *coordinates, texture.interpolation, texture.extension)


def find_cut_out(material: bpy.types.Material | None) -> CutOut | None:
    """How a material cuts its surface out: an image as the alpha of a Principled BSDF, or between it and a Transparent BSDF.

    None where it does not, or in a way that is not supported; such a surface counts as whole.
    """
    tree = material.node_tree if material else None
    output = tree.get_output_node("CYCLES") if tree else None
    source = _trace_source(output.inputs["Surface"]) if output else None
    if source is None:
        return None
    shader = get_node(source)
    if shader.type == "BSDF_PRINCIPLED":
        return _read_cut_out(get_input(shader, "Alpha"), False)
    if shader.type == "MIX_SHADER":
        sides = [_trace_source(entry) for entry in list(shader.inputs)[1:3]]
        transparent = [side is not None and get_node(side).type == "BSDF_TRANSPARENT" for side in sides]
        if transparent.count(True) == 1:
            # the factor is the fraction of the second shader
            return _read_cut_out(get_input(shader, 0), transparent[1])
    return None


def find_cut_outs(bodies: Iterable[bpy.types.Object]) -> tuple[list[CutOut], dict[str, np.ndarray]]:
    """The cut-outs of meshes, and by the object's full name the number of each face's cut-out (F,) float32, 0 for none.

    Meshes without any are left out.
    """
    numbers: dict[CutOut, int] = {}
    faces = {}
    for body in bodies:
        if body.type != "MESH":
            continue
        mesh = get_mesh(body)
        cut_outs = [find_cut_out(slot.material) for slot in body.material_slots]
        by_slot = np.array([0 if one is None else numbers.setdefault(one, len(numbers) + 1) for one in cut_outs] or [0], np.float32)
        if by_slot.any():
            slots = np.empty(len(mesh.polygons), np.int32)
            mesh.polygons.foreach_get("material_index", slots)
            faces[body.name_full] = by_slot[np.minimum(slots, len(by_slot) - 1)]
    return list(numbers), faces


def add_opacity_nodes(tree: bpy.types.NodeTree, cuts: list[CutOut]) -> bpy.types.NodeSocket:
    """Add nodes that compute 1 where a surface exists and 0 in its holes, and return their output; ``cuts`` is not empty."""
    number = add_node(tree, bpy.types.ShaderNodeAttribute)
    number.attribute_name = CUT_ATTRIBUTE

    opacity: bpy.types.NodeSocket | None = None
    for n, cut in enumerate(cuts, 1):
        uv_map, texture = add_node(tree, bpy.types.ShaderNodeUVMap), add_node(tree, bpy.types.ShaderNodeTexImage)
        uv_map.uv_map, texture.image = cut.uv, cut.image
        texture.interpolation, texture.extension = cut.interpolation, cut.extension
        coordinates = get_output(uv_map, 0)
        if cut.mapping:
            mapping = add_node(tree, bpy.types.ShaderNodeMapping)
            for name, value in zip(("Location", "Rotation", "Scale"), cut.mapping, strict=True):
                set_socket_value(get_input(mapping, name), value)
            tree.links.new(coordinates, get_input(mapping, "Vector"))
            coordinates = get_output(mapping, 0)
        tree.links.new(coordinates, get_input(texture, "Vector"))
        is_hole = add_math_node(
            tree, "GREATER_THAN" if cut.inverted else "LESS_THAN", get_output(texture, cut.output), OPACITY_THRESHOLD
        )
        applies = add_math_node(tree, "COMPARE", get_output(number, "Fac"), float(n), 0.5)
        remaining = add_math_node(tree, "SUBTRACT", 1.0, add_math_node(tree, "MULTIPLY", is_hole, applies))
        opacity = remaining if opacity is None else add_math_node(tree, "MULTIPLY", opacity, remaining)
    assert opacity is not None
    return opacity
