"""A generated look as a material: the texture that the frames gave, on the character."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..shared import shot

#: what no frame has shown
UNSEEN = (0.5, 0.5, 0.5, 1.0)


def material_of(path: Path, name: str) -> bpy.types.Material:
    """A material whose base colour is a texture (``gather_texture`` in the backend), neutral grey where that is empty."""
    image = bpy.data.images.load(str(path), check_existing=True)
    image.reload()
    image.alpha_mode = "STRAIGHT"
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    surface = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    surface.inputs["Roughness"].default_value = 0.8
    texture, mix = tree.nodes.new("ShaderNodeTexImage"), tree.nodes.new("ShaderNodeMix")
    texture.image, mix.data_type = image, "RGBA"
    texture.location, mix.location = (-600, 300), (-250, 300)
    colours = [socket for socket in mix.inputs if socket.type == "RGBA"]
    colours[0].default_value = UNSEEN
    tree.links.new(texture.outputs["Color"], colours[1])
    tree.links.new(texture.outputs["Alpha"], mix.inputs[0])
    tree.links.new(next(socket for socket in mix.outputs if socket.type == "RGBA"), surface.inputs["Base Color"])
    return material


def put_on(bodies: list[bpy.types.Object], path: Path, name: str) -> bpy.types.Material:
    """The look becomes the first material of every body; those it had move behind it and stay in the file.

    ``ShotError`` for bodies without texture coordinates.
    """
    for body in bodies:
        if not body.data.uv_layers:
            raise shot.ShotError(
                "character", f"{body.name} has no texture coordinates; unwrap it (U in edit mode), then generate again."
            )
    material = material_of(path, name)
    for body in bodies:
        slots = [slot.material for slot in body.material_slots]
        body.data.materials.clear()
        for one in (material, *(old for old in slots if old is not None and old != material)):
            body.data.materials.append(one)
        body.data.polygons.foreach_set("material_index", [0] * len(body.data.polygons))
        body.data.update()
    return material
