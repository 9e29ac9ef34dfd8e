"""A generated look as a material: the texture extracted from a shot's frames, on the character.

The bodies' own materials stay where they are, on the meshes; the look lies over them on the objects, so that it can be swapped for
another one and taken off again, also after the file was saved and opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..shared import shot
from .paths import make_stored_path, resolve
from .typed_access import add_node, get_input, get_mesh, get_node_tree, get_output, set_socket_value

#: the colour of texels that no frame has shown
UNSEEN = (0.5, 0.5, 0.5, 1.0)
#: custom properties: of a material the shot that it is from, the costume that this wore and the number of the surface; of a body
#: what its slots were before, a letter for each (D for the mesh's material, O for the object's own, N for a slot that was not
#: there), and the object's own materials by slot
_JOB, _COSTUME, _SURFACE = "latentman_job", "latentman_costume", "latentman_surface"
_SLOTS, _OWN = "latentman_slots", "latentman_material_{}"


def find_look_image(material: bpy.types.Material | None) -> bpy.types.Image | None:
    """The texture of a look's material; None for other materials."""
    if material is None or material.get(_JOB) is None or material.node_tree is None:
        return None
    nodes: Any = material.node_tree.nodes
    return next((node.image for node in nodes if node.type == "TEX_IMAGE" and node.image is not None), None)


def _find_look_material(path: Path, job: str) -> bpy.types.Material | None:
    """The material of this shot that there is already, so that materials do not pile up."""
    for material in bpy.data.materials:
        image = find_look_image(material)
        if image is not None and material.library is None and material[_JOB] == job and resolve(image.filepath) == path:
            return material
    return None


def find_surface(material: bpy.types.Material, costume: str) -> int | None:
    """The number of the surface whose image a look's material shows, where it is of the ``costume``, the name of the folder of
    which, or of a shot that wore that; None for others. It is known whatever image the material has got since."""
    number = material.get(_SURFACE)
    return int(number) if number is not None and costume and costume in (material.get(_JOB), material.get(_COSTUME)) else None


def read_surface_number(path: Path) -> int | None:
    """The number of the surface that a look's image is of, by its file's name; None for other files."""
    number = re.fullmatch(r"texture_([0-9]{1,5})", path.stem)
    return int(number[1]) if number is not None else None


def _mark(material: bpy.types.Material, path: Path, costume: str) -> None:
    number = read_surface_number(path)
    if number is not None:
        material[_SURFACE], material[_COSTUME] = number, costume


def make_look_material(path: Path, name: str, job: str = "", costume: str = "") -> bpy.types.Material:
    """A material whose base colour is the texture file at ``path``, neutral grey where the texture is transparent: the one that was
    made of it before, with the file read anew, or a new one. ``costume`` is what the shot wore, as ``find_surface`` has it."""
    found = _find_look_material(path, job)
    if found is not None:
        _mark(found, path, costume)
        image = find_look_image(found)
        assert image is not None
        if not image.is_dirty:  # what is painted on it is nowhere else
            image.reload()
        _colour_solid(found, image)
        return found
    image = bpy.data.images.load(str(path), check_existing=True)
    image.filepath = make_stored_path(path, "")
    if not image.is_dirty:
        image.reload()
    image.alpha_mode = "STRAIGHT"
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    material[_JOB] = job
    _mark(material, path, costume)
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
    # the solid view shows the texture of the active node
    tree.nodes.active = texture
    _colour_solid(material, image)
    return material


def _colour_solid(material: bpy.types.Material, image: bpy.types.Image) -> None:
    """Give the solid view without textures the look's mean colour."""
    width, height = image.size
    if not (width and height) or image.channels < 4:
        return
    pixels: Any = image.pixels
    flat = np.empty(width * height * image.channels, np.float32)
    pixels.foreach_get(flat)
    texels = flat.reshape(-1, image.channels)
    seen = texels[texels[:, 3] > 0.5, :3]
    if len(seen):
        # colours of materials are linear, those of the file are not
        colour = np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4).mean(0)
        material.diffuse_color = (*(float(one) for one in colour), 1.0)


def _check_body(body: bpy.types.Object) -> None:
    mesh = get_mesh(body)
    if not mesh.uv_layers:
        raise shot.ShotError(
            "character", f"{body.name} has no texture coordinates; unwrap it (U in edit mode), then generate again."
        )
    if body.override_library is not None and mesh.library is not None and not body.material_slots:
        raise shot.ShotError(
            "character",
            f"The mesh of {body.name} is linked and has no material that another can stand in for; give it one in its own "
            "file, save that, and reload the library here.",
        )
    if body.library is not None or (mesh.library is not None and not body.material_slots):
        raise shot.ShotError(
            "character",
            f"{body.name} is linked from another file and cannot take a material; make a library override of it, or open its file.",
        )


def apply_look(
    bodies: list[bpy.types.Object],
    path: Path | Mapping[bpy.types.Object, Path],
    name: str,
    job: str = "",
    costume: str = "",
) -> None:
    """Lay the look over the materials of every body, instead of a look that is there; their own stay below and come back with
    ``remove_look``. The meshes are not changed, but for a slot where they have none. ``path`` is the texture of all of them, or
    that of each; the other arguments are ``make_look_material``'s.

    Raises ``ShotError`` for bodies without texture coordinates and for linked ones, before anything is changed.
    """
    for body in bodies:
        _check_body(body)
    for body in bodies:
        material = make_look_material(path if isinstance(path, Path) else path[body], name, job, costume)
        if not has_look(body):
            _remember_slots(body)
        for slot in body.material_slots:
            slot.link = "OBJECT"
            slot.material = material


def _remember_slots(body: bpy.types.Object) -> None:
    if not body.material_slots:
        mesh: Any = get_mesh(body)
        mesh.materials.append(None)
        body[_SLOTS] = "N"
        return
    body[_SLOTS] = "".join("O" if slot.link == "OBJECT" else "D" for slot in body.material_slots)
    for number, slot in enumerate(body.material_slots):
        if slot.link == "OBJECT" and slot.material is not None:
            body[_OWN.format(number)] = slot.material


def has_look(body: bpy.types.Object) -> bool:
    """Whether a look lies over a body's own materials."""
    # an override forgets custom properties with its file, and not its materials
    return (body.get(_SLOTS) is not None or body.override_library is not None) and find_look(body) is not None


def find_dressed(objects: Iterable[bpy.types.Object]) -> list[bpy.types.Object]:
    """Those of the objects that wear a look."""
    return [one for one in objects if has_look(one)]


def find_look(body: bpy.types.Object) -> bpy.types.Material | None:
    """The look's material on a body; None where it wears its own."""
    return next((slot.material for slot in body.material_slots if find_look_image(slot.material) is not None), None)


def shows_texture(body: bpy.types.Object, folder: Path) -> bool:
    """Whether a body wears the look whose texture lies in a folder."""
    image = find_look_image(find_look(body))
    return image is not None and resolve(image.filepath).is_relative_to(folder)


def _take_from_library(body: bpy.types.Object) -> None:
    """Give the slots of an override that show a look what they have in its library."""
    reference = body.override_library.reference if body.override_library is not None else None
    own = reference.material_slots if isinstance(reference, bpy.types.Object) else ()
    for slot, before in zip(body.material_slots, own, strict=False):
        if find_look_image(slot.material) is not None:
            slot.material = before.material if before.link == "OBJECT" else None
            slot.link = before.link


def remove_look(bodies: Iterable[bpy.types.Object]) -> int:
    """Give bodies their own materials back; slots that the user has changed since stay. Returns how many wore a look."""
    count = 0
    for body in bodies:
        letters = body.get(_SLOTS)
        if letters is None and has_look(body):
            count += 1
            _take_from_library(body)
        if letters is None:
            continue
        count += 1
        for number, slot in enumerate(body.material_slots):
            letter = letters[number] if number < len(letters) else "D"
            own = body.get(_OWN.format(number))
            if find_look_image(slot.material) is None:
                continue
            slot.material = own if letter == "O" else None
            if letter != "O":
                slot.link = "DATA"
        if letters == "N" and len(body.material_slots) == 1 and body.material_slots[0].material is None:
            mesh: Any = get_mesh(body)
            mesh.materials.clear()  # to take one slot out does not reach the object
        for number in range(len(letters)):
            if body.get(_OWN.format(number)) is not None:
                del body[_OWN.format(number)]
        del body[_SLOTS]
    return count
