"""Math nodes for shader node trees."""

from __future__ import annotations

from typing import Any

import bpy

from ..typed_access import add_node, set_socket_value


def add_math_node(
    tree: bpy.types.NodeTree,
    operation: str,
    *values: bpy.types.NodeSocket | float,
    node_type: type[bpy.types.ShaderNodeMath] | type[bpy.types.ShaderNodeVectorMath] = bpy.types.ShaderNodeMath,
) -> bpy.types.NodeSocket:
    """Add a ``Math`` or ``VectorMath`` node whose inputs are sockets or constants, and return its output."""
    node: Any = add_node(tree, node_type)
    node.operation = operation
    inputs = [node.inputs[0], node.inputs["Scale"]] if operation == "SCALE" else node.inputs
    for socket, value in zip(inputs, values, strict=False):
        if isinstance(value, float):
            set_socket_value(socket, value)
        else:
            tree.links.new(value, socket)
    output: bpy.types.NodeSocket = node.outputs[0]
    return output
