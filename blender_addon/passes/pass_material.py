"""The material of the passes: it writes what a surface is into the passes of a render."""

from __future__ import annotations

import bpy

from ..typed_access import add_node, get_input, get_node_tree, get_output
from .cutouts import CutOut, add_opacity_nodes
from .nodes import add_math_node
from .surfaces import HAS_REST_POSITION_ATTRIBUTE, PART_ATTRIBUTE, REST_POSITION_ATTRIBUTE

REST_POSITION_AOV, PART_AOV, NORMAL_AOV, PREVIOUS_AOV = "LatentManRest", "LatentManPart", "LatentManNormal", "LatentManPrevious"
#: the normal at each corner of a face, and each point's position on the frame before, both in the space of the object; of hair, the
#: way to that position
NORMAL_ATTRIBUTE, PREVIOUS_ATTRIBUTE = "latentman_normal", "latentman_previous"


def fill_pass_material(material: bpy.types.Material, cuts: list[CutOut], *, previous: bool) -> None:
    """Make a material write rest position, part and normal, and ``previous`` positions where wanted, into their AOVs, with the
    holes of ``cuts``.

    Surfaces without rest positions of their own are rigid, and use the position in their object's space. The surface is matte:
    emission would cost most of the render's time, and a surface that reflects nothing is left out of the render.
    """
    material.use_nodes = True
    tree = get_node_tree(material)
    tree.nodes.clear()
    opacity = add_opacity_nodes(tree, cuts) if cuts else None
    _add_surface_nodes(tree, opacity)
    position = _add_rest_position_nodes(tree)
    part = _add_attribute_node(tree, PART_ATTRIBUTE)
    _add_aov_output(tree, REST_POSITION_AOV, position, "Color", opacity)
    _add_aov_output(tree, PART_AOV, get_output(part, "Fac"), "Value", opacity)
    _add_aov_output(tree, NORMAL_AOV, _add_normal_nodes(tree), "Color", opacity)
    if previous:
        _add_aov_output(tree, PREVIOUS_AOV, _add_former_position_nodes(tree), "Color", opacity)


def _add_attribute_node(tree: bpy.types.NodeTree, name: str) -> bpy.types.ShaderNodeAttribute:
    node = add_node(tree, bpy.types.ShaderNodeAttribute)
    node.attribute_name = name
    return node


def _add_surface_nodes(tree: bpy.types.NodeTree, opacity: bpy.types.NodeSocket | None) -> None:
    """Add a matte surface that is transparent where ``opacity`` is 0."""
    output, matte = add_node(tree, bpy.types.ShaderNodeOutputMaterial), add_node(tree, bpy.types.ShaderNodeBsdfDiffuse)
    if opacity is None:
        tree.links.new(get_output(matte, 0), get_input(output, "Surface"))
        return
    transparent, mix = add_node(tree, bpy.types.ShaderNodeBsdfTransparent), add_node(tree, bpy.types.ShaderNodeMixShader)
    for n, source in enumerate((opacity, get_output(transparent, 0), get_output(matte, 0))):
        tree.links.new(source, get_input(mix, n))
    tree.links.new(get_output(mix, 0), get_input(output, "Surface"))


def _add_rest_position_nodes(tree: bpy.types.NodeTree) -> bpy.types.NodeSocket:
    """Add nodes that compute a mesh's rest position (a vector), and return their output."""
    coordinates = add_node(tree, bpy.types.ShaderNodeTexCoord)
    rest_position = _add_attribute_node(tree, REST_POSITION_ATTRIBUTE)
    has_rest_position = _add_attribute_node(tree, HAS_REST_POSITION_ATTRIBUTE)
    # the rest position attribute, or object space where there is none (both attributes read 0 there)
    is_rigid = add_math_node(tree, "SUBTRACT", 1.0, get_output(has_rest_position, "Fac"))
    vector_math = bpy.types.ShaderNodeVectorMath
    in_object = add_math_node(tree, "SCALE", get_output(coordinates, "Object"), is_rigid, node_type=vector_math)
    return add_math_node(tree, "ADD", get_output(rest_position, "Vector"), in_object, node_type=vector_math)


def _add_former_position_nodes(tree: bpy.types.NodeTree) -> bpy.types.NodeSocket:
    """Add nodes that compute where a point was on the frame before, in the space of its object, and return their output.

    The points of a strand lie on its axis, and what is seen of it beside that.
    """
    before = _add_attribute_node(tree, PREVIOUS_ATTRIBUTE)
    coordinates, hair_info = add_node(tree, bpy.types.ShaderNodeTexCoord), add_node(tree, bpy.types.ShaderNodeHairInfo)
    vector_math = bpy.types.ShaderNodeVectorMath
    is_strand = get_output(hair_info, "Is Strand")
    start = add_math_node(tree, "SCALE", get_output(coordinates, "Object"), is_strand, node_type=vector_math)
    return add_math_node(tree, "ADD", get_output(before, "Vector"), start, node_type=vector_math)


def _add_aov_output(
    tree: bpy.types.NodeTree, aov: str, source: bpy.types.NodeSocket, entry: str, opacity: bpy.types.NodeSocket | None
) -> None:
    """Write ``source`` into an AOV, and nothing where ``opacity`` is 0."""
    output = add_node(tree, bpy.types.ShaderNodeOutputAOV)
    output.aov_name = aov
    if opacity is not None:
        # what lies behind a hole is added to what the hole wrote, which must be 0
        source = add_math_node(tree, "SCALE", source, opacity, node_type=bpy.types.ShaderNodeVectorMath)
    tree.links.new(source, get_input(output, entry))


def _add_normal_nodes(tree: bpy.types.NodeTree) -> bpy.types.NodeSocket:
    """Add nodes that compute the normal in the world on the side that is seen, and return their output.

    It comes from the normals of the corners, as the mesh has them; what has none, such as hair, uses Cycles' own.
    """
    vector_math = bpy.types.ShaderNodeVectorMath
    corner, geometry = _add_attribute_node(tree, NORMAL_ATTRIBUTE), add_node(tree, bpy.types.ShaderNodeNewGeometry)
    to_world = add_node(tree, bpy.types.ShaderNodeVectorTransform)
    to_world.vector_type, to_world.convert_from, to_world.convert_to = "NORMAL", "OBJECT", "WORLD"
    tree.links.new(get_output(corner, "Vector"), get_input(to_world, 0))
    sign = add_math_node(tree, "SUBTRACT", 1.0, add_math_node(tree, "MULTIPLY", get_output(geometry, "Backfacing"), 2.0))
    own = add_math_node(tree, "SCALE", get_output(to_world, 0), sign, node_type=vector_math)
    length = add_node(tree, vector_math)
    length.operation = "LENGTH"
    tree.links.new(get_output(corner, "Vector"), get_input(length, 0))
    has_none = add_math_node(tree, "LESS_THAN", get_output(length, "Value"), 1e-6)
    other = add_math_node(tree, "SCALE", get_output(geometry, "Normal"), has_none, node_type=vector_math)
    return add_math_node(tree, "ADD", own, other, node_type=vector_math)
