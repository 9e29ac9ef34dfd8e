"""Surfaces that their materials cut out with a picture, such as hair cards, lashes and leaves.

Passes render with one material, which therefore reads these pictures itself; a face's attribute says which one is its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import bpy
import numpy as np

from .nodes import computed

#: of the face attribute that holds the number of its cut-out, from 1
CUT_ATTRIBUTE = "latentman_cut"
#: less opaque than this is a hole
HALF = 0.5
#: nodes that only shape a single value on its way
_PASSED = ("REROUTE", "CLAMP", "MATH")
_SOURCES = ("FILE", "GENERATED", "TILED")


@dataclass(frozen=True)
class CutOut:
    """A picture that says where a surface is: where its ``output`` (``Alpha`` or ``Color``) is white, or black when ``inverted``.

    ``uv`` names the texture coordinates, "" for the active ones; ``mapping`` holds location, rotation and scale of those.
    """

    image: bpy.types.Image
    output: str
    inverted: bool
    uv: str
    mapping: tuple[tuple[float, ...], ...] | None
    interpolation: str
    extension: str


def _source(socket: bpy.types.NodeSocket) -> bpy.types.NodeSocket | None:
    """The output that a value comes from, past nodes that only shape it; None where it is set by hand."""
    while socket.is_linked:
        found = socket.links[0].from_socket
        if found.node.type not in _PASSED:
            return found
        onward = [entry for entry in found.node.inputs if entry.is_linked]
        if len(onward) != 1:
            return None
        socket = onward[0]
    return None


def _placed(node: bpy.types.ShaderNodeTexImage) -> tuple[str, tuple[tuple[float, ...], ...] | None] | None:
    """The name of an image texture's coordinates, and how they are moved; None for those that are no UV map's."""
    found, mapping = _source(node.inputs["Vector"]), None
    if found is not None and found.node.type == "MAPPING":
        entries = [found.node.inputs[name] for name in ("Location", "Rotation", "Scale")]
        if found.node.vector_type != "POINT" or any(entry.is_linked for entry in entries):
            return None
        mapping = tuple(tuple(entry.default_value) for entry in entries)
        found = _source(found.node.inputs["Vector"])
    if found is None:
        return ("", mapping) if mapping is None else None
    if found.node.type == "UVMAP":
        return found.node.uv_map, mapping
    return ("", mapping) if found.node.type == "TEX_COORD" and found.name == "UV" else None


def _of_value(socket: bpy.types.NodeSocket, inverted: bool) -> CutOut | None:
    found = _source(socket)
    if found is None or found.node.type != "TEX_IMAGE" or found.node.image is None or found.node.image.source not in _SOURCES:
        return None
    node, placed = found.node, _placed(found.node)
    if placed is None or node.projection != "FLAT" or (found.name == "Alpha" and node.image.alpha_mode == "NONE"):
        return None
    return CutOut(node.image, found.name, inverted, *placed, node.interpolation, node.extension)


def cut_out_of(material: bpy.types.Material | None) -> CutOut | None:
    """How a material cuts its surface out: a picture in the alpha of a Principled BSDF, or between it and a Transparent BSDF.

    None where it does not, or in a way that is not understood; such a surface counts as whole.
    """
    tree = material.node_tree if material else None
    output = tree.get_output_node("CYCLES") if tree else None
    shader = _source(output.inputs["Surface"]) if output else None
    if shader is None:
        return None
    if shader.node.type == "BSDF_PRINCIPLED":
        return _of_value(shader.node.inputs["Alpha"], False)
    if shader.node.type == "MIX_SHADER":
        sides = [_source(entry) for entry in shader.node.inputs[1:3]]
        clear = [side is not None and side.node.type == "BSDF_TRANSPARENT" for side in sides]
        if clear.count(True) == 1:
            # the factor is the share of the second shader
            return _of_value(shader.node.inputs[0], clear[1])
    return None


def cut_outs_of(bodies: Iterable[bpy.types.Object]) -> tuple[list[CutOut], dict[str, np.ndarray]]:
    """The cut-outs on meshes, and by the object's full name the number of each face's (F,) float32, 0 for none.

    Meshes without any are left out.
    """
    found: dict[CutOut, int] = {}
    faces = {}
    for body in bodies:
        if body.type != "MESH":
            continue
        own = [cut_out_of(slot.material) for slot in body.material_slots]
        numbers = np.array([0 if one is None else found.setdefault(one, len(found) + 1) for one in own] or [0], np.float32)
        if numbers.any():
            slots = np.empty(len(body.data.polygons), np.int32)
            body.data.polygons.foreach_get("material_index", slots)
            faces[body.name_full] = numbers[np.minimum(slots, len(numbers) - 1)]
    return list(found), faces


def opacity(tree: bpy.types.NodeTree, cuts: list[CutOut]) -> bpy.types.NodeSocket:
    """Adds nodes that give 1 where a surface is and 0 in its holes."""
    number = tree.nodes.new("ShaderNodeAttribute")
    number.attribute_name = CUT_ATTRIBUTE

    there: bpy.types.NodeSocket | None = None
    for n, cut in enumerate(cuts, 1):
        place, texture = tree.nodes.new("ShaderNodeUVMap"), tree.nodes.new("ShaderNodeTexImage")
        place.uv_map, texture.image = cut.uv, cut.image
        texture.interpolation, texture.extension = cut.interpolation, cut.extension
        at = place.outputs[0]
        if cut.mapping:
            mapping = tree.nodes.new("ShaderNodeMapping")
            for name, value in zip(("Location", "Rotation", "Scale"), cut.mapping, strict=True):
                mapping.inputs[name].default_value = value
            tree.links.new(at, mapping.inputs["Vector"])
            at = mapping.outputs[0]
        tree.links.new(at, texture.inputs["Vector"])
        hole = computed(tree, "GREATER_THAN" if cut.inverted else "LESS_THAN", texture.outputs[cut.output], HALF)
        mine = computed(tree, "COMPARE", number.outputs["Fac"], float(n), 0.5)
        left = computed(tree, "SUBTRACT", 1.0, computed(tree, "MULTIPLY", hole, mine))
        there = left if there is None else computed(tree, "MULTIPLY", there, left)
    assert there is not None
    return there
