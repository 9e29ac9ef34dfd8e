"""Surfaces whose materials cut them out with an image's alpha, such as hair cards, lashes and leaves.

Passes are rendered with one material for all surfaces, which therefore samples these images itself; a face attribute says which
cut-out applies to a face.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import bpy
import numpy as np

from ..compat import has_nodes
from ..references import Reference, refer_to
from ..typed_access import add_node, get_input, get_node, get_output, get_socket_value, set_socket_value
from .nodes import add_math_node

#: the face attribute that holds the number of a face's cut-out, from 1
CUT_ATTRIBUTE = "latentman_cut"
#: what is less opaque than this is a hole
OPACITY_THRESHOLD = 0.5
#: groups and mixtures within one another that are followed
_DEEPEST_GROUP = 8
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

    image: Reference
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
    return CutOut(refer_to(image), found.name, inverted, *coordinates, texture.interpolation, texture.extension)


#: shaders through which one sees what is behind, whatever their settings
_SEE_THROUGH = ("BSDF_TRANSPARENT", "BSDF_GLASS", "BSDF_REFRACTION")
#: what ``CutOuts`` numbers surfaces through which one sees, and those behind which nothing is seen
CLEAR, HOLE = -1.0, -2.0


def _enter_groups(socket: bpy.types.NodeSocket | None) -> bpy.types.NodeSocket | None:
    """The output that a node group's output gets its value from, within the group; others as they are."""
    for _ in range(_DEEPEST_GROUP):
        node = get_node(socket) if socket is not None else None
        if not isinstance(node, bpy.types.ShaderNodeGroup):
            return socket
        assert socket is not None
        inner = node.node_tree.nodes if node.node_tree else ()
        ends = [one for one in inner if isinstance(one, bpy.types.NodeGroupOutput) and one.is_active_output]
        entry = next((entry for end in ends for entry in end.inputs if entry.identifier == socket.identifier), None)
        socket = _trace_source(entry) if entry is not None else None
    return None


def _read_constant(socket: bpy.types.NodeSocket) -> float | None:
    """The number that a socket has as the camera sees it, None where it differs from place to place.

    By angle, as of glass and lacquer, it is what is seen from the front.
    """
    if not socket.is_linked:
        return float(get_socket_value(socket))
    found = _trace_source(socket)
    if found is None:
        return None
    kind = get_node(found).type
    if kind == "VALUE":
        return float(get_socket_value(found))
    if kind == "LIGHT_PATH":
        return float(found.name == "Is Camera Ray")
    return 0.0 if kind in ("FRESNEL", "LAYER_WEIGHT") else None


def read_opacity(material: bpy.types.Material | None) -> CutOut | float:
    """How opaque a material's surface is: a number, or the image that cuts it out.

    It is ``HOLE`` for a Holdout, behind which nothing is seen, and 0 where one sees through it: a Transparent, Glass or Refraction
    BSDF, a Principled BSDF whose Alpha is a number below ``OPACITY_THRESHOLD`` or that transmits more than half of the light, a
    mixture of which these are the larger part, a clear surface to which something is added, and a
    material without a surface, such as fog. Materials without nodes, and what is not understood, count as whole.
    """
    if material is None or material.node_tree is None or not has_nodes(material):
        return 1.0
    output = material.node_tree.get_output_node("CYCLES")
    if output is None:
        return 1.0
    return _read_shader(_enter_groups(_trace_source(output.inputs["Surface"])), _DEEPEST_GROUP)


def _read_shader(source: bpy.types.NodeSocket | None, depth: int) -> CutOut | float:
    if source is None:
        return 0.0
    shader = get_node(source)
    if shader.type in _SEE_THROUGH:
        return 0.0
    if shader.type == "HOLDOUT":
        return HOLE
    if shader.type == "BSDF_PRINCIPLED":
        alpha = get_input(shader, "Alpha")
        opacity, transmission = _read_constant(alpha), _read_constant(get_input(shader, "Transmission Weight"))
        if (opacity is not None and opacity < OPACITY_THRESHOLD) or (transmission is not None and transmission > 0.5):
            return 0.0
        return _read_cut_out(alpha, False) or 1.0
    if shader.type not in ("MIX_SHADER", "ADD_SHADER") or not depth:
        return 1.0
    entries = [entry for entry in shader.inputs if entry.type == "SHADER"][:2]
    sides = [_read_shader(_enter_groups(_trace_source(entry)), depth - 1) for entry in entries]
    if shader.type == "ADD_SHADER":
        # what is added to a clear surface, such as a glow, hides nothing
        return 0.0 if 0.0 in sides else max(sides, key=lambda one: 2.0 if isinstance(one, CutOut) else one)
    factor = _read_constant(get_input(shader, 0))
    if factor is not None:
        return sides[int(factor > 0.5)]
    transparent = [one == 0.0 for one in sides]
    if transparent.count(True) == 1:
        # the factor is the fraction of the second shader
        return _read_cut_out(get_input(shader, 0), transparent[1]) or 1.0
    return 0.0 if all(transparent) else 1.0


class CutOuts:
    """Numbers the cut-outs of materials, from 1, in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[CutOut, int] = {}
        self._by_material: dict[str, float] = {}

    def forget_materials(self) -> None:
        """Look at materials anew; the numbers of cut-outs stay."""
        self._by_material.clear()

    @property
    def found(self) -> list[CutOut]:
        """The cut-outs, by number."""
        return list(self._numbers)

    def pack(self) -> list[dict[str, Any]]:
        """The cut-outs as JSON can hold them, for another process with the same file."""
        out = []
        for cut in self.found:
            image = cut.image.find()
            packed = {field.name: getattr(cut, field.name) for field in fields(cut) if field.name != "image"}
            out.append(packed | {"image": image.name_full if image is not None else ""})
        return out

    def unpack(self, packed: list[dict[str, Any]]) -> None:
        """Know the cut-outs of another process, by the numbers that they have there. Raises ``ValueError`` for an image that is
        gone."""
        for n, one in enumerate(packed, 1):
            image = next((image for image in bpy.data.images if image.name_full == one["image"]), None)
            if image is None:
                raise ValueError(f"the image {one['image']!r} is gone")
            mapping = tuple(tuple(values) for values in one["mapping"]) if one["mapping"] else None
            cut = CutOut(**one | {"image": refer_to(image), "mapping": mapping})
            if self._numbers.setdefault(cut, n) != n:
                raise ValueError(f"the cut-out of {one['image']!r} has another number")

    def get_number(self, material: bpy.types.Material | None) -> float:
        """The number of a material's cut-out, 0 where its surface is whole, ``CLEAR`` where one sees through it everywhere,
        ``HOLE`` where it holds out what is behind it."""
        if material is None:
            return 0.0
        name = material.name_full
        if name not in self._by_material:
            opacity = read_opacity(material)
            if isinstance(opacity, CutOut):
                self._by_material[name] = self._numbers.setdefault(opacity, len(self._numbers) + 1)
            else:
                whole = 0.0 if opacity >= OPACITY_THRESHOLD else CLEAR
                self._by_material[name] = HOLE if opacity == HOLE else whole
        return self._by_material[name]

    def number_faces(self, materials: list[bpy.types.Material | None], slots: np.ndarray) -> np.ndarray | None:
        """The numbers (F,) float32 of faces whose materials are ``materials[slots]``, None where all are whole."""
        numbers = np.array([self.get_number(one) for one in materials] or [0.0], np.float32)
        return numbers[np.clip(slots, 0, len(numbers) - 1)] if numbers.any() else None


def add_opacity_nodes(tree: bpy.types.NodeTree, cuts: list[CutOut]) -> bpy.types.NodeSocket:
    """Add nodes that compute 1 where a surface exists and 0 in its holes, and return their output; ``cuts`` is not empty."""
    number = add_node(tree, bpy.types.ShaderNodeAttribute)
    number.attribute_name = CUT_ATTRIBUTE

    opacity: bpy.types.NodeSocket | None = None
    for n, cut in enumerate(cuts, 1):
        uv_map, texture = add_node(tree, bpy.types.ShaderNodeUVMap), add_node(tree, bpy.types.ShaderNodeTexImage)
        uv_map.uv_map, texture.image = cut.uv, cut.image.find()
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
