"""Lends a scene the settings that exact passes need, and puts everything back afterwards, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import bpy
import numpy as np

from ..compat import MEDIA_TYPES, set_multilayer_exr
from .cutouts import CutOut, cut_outs_of, opacity
from .strands import Strands, grown, placed
from .subjects import RENDERABLE, Cast
from .surfaces import OWN_ATTRIBUTE, PART_ATTRIBUTE, REST_ATTRIBUTE, lend

REST_AOV, PART_AOV, INSTANCE_AOV = "LatentManRest", "LatentManPart", "LatentManInstance"
#: object types that can carry instances of others
INSTANCERS = ("EMPTY",)


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
def _pass_material(cuts: list[CutOut], hair: list[Strands]) -> Iterator[bpy.types.Material]:
    """A material that writes rest position, part and instance into their AOVs, and has the holes of ``cuts``.

    Surfaces without a rest attribute of their own are rigid, and take the position in their object's space. The
    surface is matte: a light of its own would cost most of the render's time, and one that gives nothing back is left out.
    """
    material = bpy.data.materials.new("LatentMan Passes")
    try:
        material.use_nodes = True
        tree = material.node_tree
        tree.nodes.clear()

        def node(kind: str) -> bpy.types.Node:
            return tree.nodes.new(kind)

        def attribute(name: str) -> bpy.types.Node:
            made = node("ShaderNodeAttribute")
            made.attribute_name = name
            return made

        surface, matte = node("ShaderNodeOutputMaterial"), node("ShaderNodeBsdfDiffuse")
        there = opacity(tree, cuts) if cuts else None
        if there is None:
            tree.links.new(matte.outputs[0], surface.inputs["Surface"])
        else:
            seen_through, between = node("ShaderNodeBsdfTransparent"), node("ShaderNodeMixShader")
            for source, entry in zip((there, seen_through.outputs[0], matte.outputs[0]), between.inputs, strict=True):
                tree.links.new(source, entry)
            tree.links.new(between.outputs[0], surface.inputs["Surface"])
        place, mix, scaled = node("ShaderNodeTexCoord"), node("ShaderNodeVectorMath"), node("ShaderNodeVectorMath")
        rest, own, part = attribute(REST_ATTRIBUTE), attribute(OWN_ATTRIBUTE), attribute(PART_ATTRIBUTE)
        # own is 1 or 0: rest attribute, or object space where there is none (the attribute reads 0 there)
        other = node("ShaderNodeMath")
        other.operation, other.inputs[0].default_value = "SUBTRACT", 1.0
        tree.links.new(own.outputs["Fac"], other.inputs[1])
        scaled.operation, mix.operation = "SCALE", "ADD"
        tree.links.new(place.outputs["Object"], scaled.inputs[0])
        tree.links.new(other.outputs[0], scaled.inputs["Scale"])
        tree.links.new(rest.outputs["Vector"], mix.inputs[0])
        tree.links.new(scaled.outputs[0], mix.inputs[1])
        position = placed(tree, mix.outputs[0], hair) if hair else mix.outputs[0]
        for aov, source, entry in (
            (REST_AOV, position, "Color"),
            (PART_AOV, part.outputs["Fac"], "Value"),
            (INSTANCE_AOV, node("ShaderNodeObjectInfo").outputs["Random"], "Value"),
        ):
            target = node("ShaderNodeOutputAOV")
            target.aov_name = aov
            if there is not None:
                # what lies behind a hole is added to what the hole wrote, which must be nothing
                kept = node("ShaderNodeVectorMath")
                kept.operation = "SCALE"
                tree.links.new(source, kept.inputs[0])
                tree.links.new(there, kept.inputs["Scale"])
                source = kept.outputs[0]
            tree.links.new(source, target.inputs[entry])
        yield material
    finally:
        bpy.data.materials.remove(material)


def _layer_collections(view_layer: bpy.types.ViewLayer) -> Iterator[bpy.types.LayerCollection]:
    stack = [view_layer.layer_collection]
    while stack:
        layer = stack.pop()
        yield layer
        stack += layer.children


@contextmanager
def _show_only(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, cast: Cast) -> Iterator[None]:
    """Only the cast is rendered, each object with its own pass index."""
    index = {subject.object: subject.index for subject in cast.subjects}
    with ExitStack() as stack:
        for layer in _layer_collections(view_layer):
            if layer.holdout or layer.indirect_only:
                stack.enter_context(settings(layer, holdout=False, indirect_only=False))
        for other in {*scene.objects, *index}:
            if other in index:
                stack.enter_context(
                    settings(other, pass_index=index[other], is_holdout=False, is_shadow_catcher=False, visible_camera=True)
                )
            elif other.type in RENDERABLE or (other.type in INSTANCERS and not cast.whole_scene):
                stack.enter_context(settings(other, hide_render=True))
        yield


@contextmanager
def pass_scene(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    cast: Cast,
    unwrapped: dict[int, np.ndarray],
    width: int,
    height: int,
    path: str,
    *,
    position: bool = False,
    motion: bool = False,
) -> Iterator[None]:
    """Within the block the scene renders the cast's passes to ``path``; everything is as before afterwards.

    ``unwrapped`` holds texture coordinates by the index of the subjects that have none. ``position`` and ``motion`` add
    those passes; motion makes Blender evaluate three moments for every frame.
    """
    render = scene.render
    cuts, cut_faces = cut_outs_of(subject.object for subject in cast.subjects)
    with ExitStack() as stack:
        enter = stack.enter_context
        hair = [found for subject in cast.subjects if (found := enter(grown(subject, unwrapped.get(subject.index))))]
        material = enter(_pass_material(cuts, hair))
        enter(
            settings(
                scene,
                frame_start=scene.frame_start,
                frame_end=scene.frame_end,
                frame_step=scene.frame_step,
                camera=scene.camera,
                world=None,
            )
        )
        enter(
            settings(
                render,
                engine="CYCLES",
                resolution_x=width,
                resolution_y=height,
                resolution_percentage=100,
                pixel_aspect_x=1.0,
                pixel_aspect_y=1.0,
                film_transparent=True,
                filepath=path,
                use_file_extension=True,
                use_persistent_data=True,
                use_motion_blur=False,
                use_border=False,
                use_crop_to_border=False,
                border_min_x=0.0,
                border_max_x=1.0,
                border_min_y=0.0,
                border_max_y=1.0,
                use_compositing=False,
                use_sequencer=False,
                use_overwrite=True,
                use_multiview=False,
                use_simplify=False,
                use_freestyle=False,
                use_single_layer=True,
            )
        )
        enter(
            settings(
                scene.cycles,
                samples=1,
                use_adaptive_sampling=False,
                use_denoising=False,
                max_bounces=0,
                transparent_max_bounces=64,
                time_limit=0.0,
                device="CPU",
                filter_width=0.01,
                seed=0,
                use_auto_tile=False,
                film_transparent_glass=False,
                shading_system=False,
            )
        )
        enter(_image_format(scene))
        enter(
            settings(
                view_layer,
                use=True,
                use_pass_z=True,
                use_pass_uv=True,
                use_pass_object_index=True,
                use_pass_combined=True,
                use_pass_normal=True,
                use_pass_position=position,
                use_pass_vector=motion,
                use_pass_mist=False,
                use_pass_material_index=False,
                samples=0,
                pass_alpha_threshold=0.5,
                material_override=material,
            )
        )
        for name, kind in ((REST_AOV, "COLOR"), (PART_AOV, "VALUE"), (INSTANCE_AOV, "VALUE")):
            enter(_aov(view_layer, name, kind))
        for camera in {o.data for o in scene.objects if o.type == "CAMERA"}:
            enter(settings(camera.dof, use_dof=False))
        enter(_show_only(scene, view_layer, cast))
        for subject in cast.subjects:
            enter(lend(subject, unwrapped.get(subject.index), cut_faces.get(subject.object.name_full)))
        yield


def set_window(scene: bpy.types.Scene, box: tuple[int, int, int, int], width: int, height: int) -> None:
    """Render only a rectangle (left, top, right, bottom) of pixels; ``pass_scene`` takes the setting back."""
    render = scene.render
    whole = box == (0, 0, width, height)
    render.use_border = render.use_crop_to_border = not whole
    if not whole:
        left, top, right, bottom = box
        # Blender cuts the fraction off; a quarter of a pixel keeps rounding from taking a whole one
        render.border_min_x, render.border_max_x = (left + 0.25) / width, (right + 0.25) / width
        render.border_min_y, render.border_max_y = (height - bottom + 0.25) / height, (height - top + 0.25) / height
