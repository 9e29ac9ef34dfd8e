"""Shader nodes that compute with what other nodes give."""

from __future__ import annotations

import bpy


def computed(
    tree: bpy.types.NodeTree,
    operation: str,
    *values: bpy.types.NodeSocket | float,
    kind: str = "Math",
) -> bpy.types.NodeSocket:
    """Adds a ``Math`` or ``VectorMath`` node whose inputs are sockets or constants, and gives its output."""
    made = tree.nodes.new(f"ShaderNode{kind}")
    made.operation = operation
    entries = [made.inputs[0], made.inputs["Scale"]] if operation == "SCALE" else made.inputs
    for entry, value in zip(entries, values, strict=False):
        if isinstance(value, float):
            entry.default_value = value
        else:
            tree.links.new(value, entry)
    return made.outputs[0]
