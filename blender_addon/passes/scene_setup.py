"""Lends a scene the settings that exact passes need, and puts everything back afterwards, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import bpy
import numpy as np

from ..compat import MEDIA_TYPES, set_multilayer_exr

REST_ATTRIBUTE, PART_ATTRIBUTE = "latentman_rest", "latentman_part"
REST_AOV, PART_AOV = "LatentManRest", "LatentManPart"
CHARACTER_INDEX = 1


@contextmanager
def settings(owner: Any, **values: Any) -> Iterator[None]:
    """Within the block ``owner`` has these attributes; those it lacks in this Blender version are left out."""
    before = {name: getattr(owner, name) for name in values if hasattr(owner, name)}
    # arrays that Blender returns follow the property, so they are copied
    before = {name: tuple(v) if hasattr(v, "__len__") and not isinstance(v, str) else v for name, v in before.items()}
    try:
        for name in before:
            setattr(owner, name, values[name])
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextmanager
def _image_format(scene: bpy.types.Scene) -> Iterator[None]:
    image = scene.render.image_settings
    names = ["file_format", "color_mode", "color_depth", "exr_codec", "quality", "compression"]
    if MEDIA_TYPES:
        names.insert(0, "media_type")
    if hasattr(image, "use_exr_interleave"):
        names.append("use_exr_interleave")
    before = {name: getattr(image, name) for name in names}
    try:
        set_multilayer_exr(image)
        yield
    finally:
        for name, value in before.items():
            try:
                setattr(image, name, value)
            except TypeError:  # a value that the restored format does not have
                pass


@contextmanager
def _aov(view_layer: bpy.types.ViewLayer, name: str, kind: str) -> Iterator[None]:
    aov = view_layer.aovs.add()
    aov.name, aov.type = name, kind
    try:
        yield
    finally:
        view_layer.aovs.remove(view_layer.aovs[name])


@contextmanager
def _pass_material() -> Iterator[bpy.types.Material]:
    """A material that writes the two attributes into their AOVs."""
    material = bpy.data.materials.new("LatentMan Passes")
    try:
        material.use_nodes = True
        tree = material.node_tree
        tree.nodes.clear()
        surface = tree.nodes.new("ShaderNodeOutputMaterial")
        emission = tree.nodes.new("ShaderNodeEmission")
        tree.links.new(emission.outputs[0], surface.inputs["Surface"])
        for attribute, aov, output, entry in ((REST_ATTRIBUTE, REST_AOV, "Vector", "Color"),
                                              (PART_ATTRIBUTE, PART_AOV, "Fac", "Value")):
            source = tree.nodes.new("ShaderNodeAttribute")
            source.attribute_name = attribute
            target = tree.nodes.new("ShaderNodeOutputAOV")
            target.aov_name = aov
            tree.links.new(source.outputs[output], target.inputs[entry])
        yield material
    finally:
        bpy.data.materials.remove(material)


@contextmanager
def _attributes(body: bpy.types.Object) -> Iterator[None]:
    """Rest position of each vertex and dominant bone of each face, as attributes that the render can read."""
    mesh = body.data
    try:
        count = len(mesh.vertices)
        rest = np.empty(count * 3, np.float32)
        source = mesh.shape_keys.key_blocks[0].data if mesh.shape_keys else mesh.vertices
        source.foreach_get("co", rest)
        mesh.attributes.new(REST_ATTRIBUTE, "FLOAT_VECTOR", "POINT").data.foreach_set("vector", rest)
        mesh.attributes.new(PART_ATTRIBUTE, "FLOAT", "FACE").data.foreach_set("value", face_parts(body))
        yield
    finally:
        for name in (REST_ATTRIBUTE, PART_ATTRIBUTE):
            if name in mesh.attributes:
                mesh.attributes.remove(mesh.attributes[name])


def face_parts(body: bpy.types.Object) -> np.ndarray:
    """(F,) float32: 1 + the number of the vertex group that weighs most on each face; 1 where there is none."""
    mesh = body.data
    best = np.zeros(len(mesh.vertices), int)
    for vertex in mesh.vertices:
        if vertex.groups:
            best[vertex.index] = max(vertex.groups, key=lambda g: g.weight).group
    first = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("loop_start", first)
    corner = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corner)
    return np.minimum(best[corner[first]] + 1, 255).astype(np.float32)


@contextmanager
def pass_scene(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, bodies: list[bpy.types.Object], width: int,
               height: int, path: str) -> Iterator[None]:
    """Within the block the scene renders the passes of ``bodies`` to ``path``; everything is as before afterwards."""
    render = scene.render
    with ExitStack() as stack:
        enter = stack.enter_context
        material = enter(_pass_material())
        enter(settings(scene, frame_start=scene.frame_start, frame_end=scene.frame_end, frame_step=scene.frame_step))
        enter(settings(render, engine="CYCLES", resolution_x=width, resolution_y=height, resolution_percentage=100,
                       pixel_aspect_x=1.0, pixel_aspect_y=1.0, film_transparent=True, filepath=path,
                       use_file_extension=True, use_persistent_data=True, use_motion_blur=False, use_border=False,
                       use_compositing=False, use_sequencer=False, use_overwrite=True, use_multiview=False,
                       use_simplify=False, use_freestyle=False, use_single_layer=True))
        enter(settings(scene.cycles, samples=1, use_adaptive_sampling=False, use_denoising=False, max_bounces=0,
                       time_limit=0.0, device="CPU", filter_width=0.01, seed=0))
        enter(_image_format(scene))
        enter(settings(view_layer, use=True, use_pass_z=True, use_pass_uv=True, use_pass_object_index=True,
                       use_pass_combined=True, material_override=material))
        enter(_aov(view_layer, REST_AOV, "COLOR"))
        enter(_aov(view_layer, PART_AOV, "VALUE"))
        for other in scene.objects:
            visible = other in bodies
            if other.type in ("MESH", "CURVE", "SURFACE", "META", "FONT", "VOLUME", "CURVES", "POINTCLOUD"):
                enter(settings(other, hide_render=not visible, pass_index=CHARACTER_INDEX if visible else 0))
        for body in bodies:
            enter(_attributes(body))
        yield
