"""A generated look as a material: the texture extracted from a shot's frames, on the character."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..shared import shot
from .paths import make_stored_path
from .typed_access import add_node, get_input, get_mesh, get_node_tree, get_output, set_socket_value

#: the colour of texels that no frame has shown
UNSEEN = (0.5, 0.5, 0.5, 1.0)


def make_look_material(path: Path, name: str) -> bpy.types.Material:
    """A new material whose base colour is the texture file at ``path``, neutral grey where the texture is transparent."""
    image = bpy.data.images.load(str(path), check_existing=True)
    image.filepath = make_stored_path(path, "")
    image.reload()
    image.alpha_mode = "STRAIGHT"
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = get_node_tree(material)
    surface = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    set_socket_value(get_input(surface, "Roughness"), 0.8)
    texture, mix = add_node(tree, bpy.types.ShaderNodeTexImage), add_node(tree, bpy.types.ShaderNodeMix)
    texture.image, mix.data_type = image, "RGBA"
    texture.location, mix.location = (-600, 300), (-250, 300)
    mix_node: bpy.types.Node = mix  # whose sockets the stubs declare by number
    colours = [socket for socket in mix_node.inputs if socket.type == "RGBA"]
    set_socket_value(colours[0], UNSEEN)
    tree.links.new(get_output(texture, "Color"), colours[1])
    tree.links.new(get_output(texture, "Alpha"), get_input(mix, 0))
    tree.links.new(next(socket for socket in mix_node.outputs if socket.type == "RGBA"), get_input(surface, "Base Color"))
    return material


def apply_look(bodies: list[bpy.types.Object], path: Path, name: str) -> bpy.types.Material:
    """Make the look the first material of every body; the materials they had move behind it and stay in the file.

    Raises ``ShotError`` for bodies without texture coordinates.
    """
    for body in bodies:
        if not get_mesh(body).uv_layers:
            raise shot.ShotError(
                "character", f"{body.name} has no texture coordinates; unwrap it (U in edit mode), then generate again."
            )
    material = make_look_material(path, name)
    for body in bodies:
        mesh = get_mesh(body)
        old_materials = [slot.material for slot in body.material_slots]
        mesh.materials.clear()
        for one in (material, *(old for old in old_materials if old is not None and old != material)):
            mesh.materials.append(one)
        mesh.polygons.foreach_set("material_index", [0] * len(mesh.polygons))
        mesh.update()
    return material
