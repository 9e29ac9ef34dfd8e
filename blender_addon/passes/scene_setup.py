"""Temporary overrides of a scene: the settings that exact passes need, all of them restored afterwards, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import bpy
import numpy as np

from ..compat import MEDIA_TYPES, set_multilayer_exr
from ..typed_access import add_node, get_camera, get_input, get_node_tree, get_output
from .cutouts import CutOut, add_opacity_nodes, find_cut_outs
from .nodes import add_math_node
from .render_set import RENDERABLE, RenderSet
from .strands import Strands, add_strand_nodes, bake_strands_temporarily
from .surfaces import HAS_REST_POSITION_ATTRIBUTE, PART_ATTRIBUTE, REST_POSITION_ATTRIBUTE, override_mesh_temporarily

REST_POSITION_AOV, PART_AOV, INSTANCE_AOV = "LatentManRest", "LatentManPart", "LatentManInstance"
#: object types that can instance other objects
INSTANCERS = ("EMPTY",)


@contextmanager
def override_temporarily(owner: Any, **values: Any) -> Iterator[None]:
    """Within the block the attributes of ``owner`` have these values; those that this Blender version lacks are left out."""
    before = {name: getattr(owner, name) for name in values if hasattr(owner, name)}
    # arrays that Blender returns follow the property, so they are copied
    before = {name: tuple(v) if hasattr(v, "__len__") and not isinstance(v, str) else v for name, v in before.items()}
    try:
        for name in before:
            setattr(owner, name, values[name])
        yield
    finally:
        with ExitStack() as stack:
            # each for itself: one that cannot be given back must not keep the others
            for name, value in before.items():
                stack.callback(setattr, owner, name, value)


@contextmanager
def _override_image_format(scene: bpy.types.Scene) -> Iterator[None]:
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
def _add_aov_temporarily(view_layer: bpy.types.ViewLayer, name: str, aov_type: Any) -> Iterator[None]:
    aov = view_layer.aovs.add()
    aov.name, aov.type = name, aov_type
    try:
        yield
    finally:
        view_layer.aovs.remove(view_layer.aovs[name])


@contextmanager
def _make_pass_material(cuts: list[CutOut], strands: list[Strands]) -> Iterator[bpy.types.Material]:
    """A material that writes rest position, part and instance into their AOVs and has the holes of ``cuts``; it exists within the
    block.

    Surfaces without rest positions of their own are rigid, and use the position in their object's space. The surface is matte:
    emission would cost most of the render's time, and a surface that reflects nothing is left out of the render.
    """
    material = bpy.data.materials.new("LatentMan Passes")
    try:
        material.use_nodes = True
        tree = get_node_tree(material)
        tree.nodes.clear()
        opacity = add_opacity_nodes(tree, cuts) if cuts else None
        _add_surface_nodes(tree, opacity)
        position = _add_rest_position_nodes(tree)
        if strands:
            position = add_strand_nodes(tree, position, strands)
        part = _add_attribute_node(tree, PART_ATTRIBUTE)
        instance = add_node(tree, bpy.types.ShaderNodeObjectInfo)
        _add_aov_output(tree, REST_POSITION_AOV, position, "Color", opacity)
        _add_aov_output(tree, PART_AOV, get_output(part, "Fac"), "Value", opacity)
        _add_aov_output(tree, INSTANCE_AOV, get_output(instance, "Random"), "Value", opacity)
        yield material
    finally:
        bpy.data.materials.remove(material)


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


def _iter_layer_collections(view_layer: bpy.types.ViewLayer) -> Iterator[bpy.types.LayerCollection]:
    stack = [view_layer.layer_collection]
    while stack:
        layer = stack.pop()
        yield layer
        stack += layer.children


@contextmanager
def _show_only(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, render_set: RenderSet) -> Iterator[None]:
    """Within the block only the render set is rendered, each object with its own pass index."""
    indices = {one.object: one.index for one in render_set.objects}
    with ExitStack() as stack:
        for layer in _iter_layer_collections(view_layer):
            if layer.holdout or layer.indirect_only:
                stack.enter_context(override_temporarily(layer, holdout=False, indirect_only=False))
        for other in {*scene.objects, *indices}:
            if other in indices:
                values = dict(pass_index=indices[other], is_holdout=False, is_shadow_catcher=False, visible_camera=True)
                stack.enter_context(override_temporarily(other, **values))
            elif other.type in RENDERABLE or (other.type in INSTANCERS and not render_set.whole_scene):
                stack.enter_context(override_temporarily(other, hide_render=True))
        yield


@contextmanager
def _override_timeline_and_world(scene: bpy.types.Scene) -> Iterator[None]:
    """Restore the frame range and the camera, which markers may switch while frames are rendered; passes need no world."""
    with override_temporarily(
        scene,
        frame_start=scene.frame_start,
        frame_end=scene.frame_end,
        frame_step=scene.frame_step,
        camera=scene.camera,
        world=None,
    ):
        yield


@contextmanager
def _override_render_settings(scene: bpy.types.Scene, width: int, height: int, path: str) -> Iterator[None]:
    """Cycles at a size, to a file, without anything that changes pixels after they were rendered."""
    with override_temporarily(
        scene.render,
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
    ):
        yield


@contextmanager
def _override_cycles_settings(scene: bpy.types.Scene) -> Iterator[None]:
    """One sample at the centre of every pixel, without bounces, seen through up to 64 transparent surfaces."""
    owner: Any = scene  # Cycles registers its settings itself, so that the stubs do not know them
    with override_temporarily(
        owner.cycles,
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
    ):
        yield


@contextmanager
def _override_passes(
    view_layer: bpy.types.ViewLayer, material: bpy.types.Material, *, position: bool, motion_vectors: bool
) -> Iterator[None]:
    """The passes of the view layer and their AOVs, with ``material`` on every surface."""
    with ExitStack() as stack:
        stack.enter_context(
            override_temporarily(
                view_layer,
                use=True,
                use_pass_z=True,
                use_pass_uv=True,
                use_pass_object_index=True,
                use_pass_combined=True,
                use_pass_normal=True,
                use_pass_position=position,
                use_pass_vector=motion_vectors,
                use_pass_mist=False,
                use_pass_material_index=False,
                samples=0,
                pass_alpha_threshold=0.5,
                material_override=material,
            )
        )
        for name, aov_type in ((REST_POSITION_AOV, "COLOR"), (PART_AOV, "VALUE"), (INSTANCE_AOV, "VALUE")):
            stack.enter_context(_add_aov_temporarily(view_layer, name, aov_type))
        yield


@contextmanager
def _switch_off_depth_of_field(scene: bpy.types.Scene) -> Iterator[None]:
    with ExitStack() as stack:
        for camera in {get_camera(o) for o in scene.objects if o.type == "CAMERA"}:
            stack.enter_context(override_temporarily(camera.dof, use_dof=False))
        yield


@contextmanager
def override_scene_temporarily(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    render_set: RenderSet,
    generated_uvs: dict[int, np.ndarray],
    width: int,
    height: int,
    path: str,
    *,
    position: bool = False,
    motion_vectors: bool = False,
) -> Iterator[None]:
    """Within the block, rendering the scene writes the render set's passes to ``path``; afterwards everything is as before.

    ``generated_uvs`` holds ``unwrap``'s texture coordinates by the pass index of the objects that have none of their own.
    ``position`` and ``motion_vectors`` add those passes; motion vectors make Blender evaluate three moments for every frame.
    """
    cuts, cut_faces = find_cut_outs(one.object for one in render_set.objects)
    with ExitStack() as stack:
        enter = stack.enter_context
        baked = [enter(bake_strands_temporarily(one, generated_uvs.get(one.index))) for one in render_set.objects]
        material = enter(_make_pass_material(cuts, [strands for strands in baked if strands is not None]))
        enter(_override_timeline_and_world(scene))
        enter(_override_render_settings(scene, width, height, path))
        enter(_override_cycles_settings(scene))
        enter(_override_image_format(scene))
        enter(_override_passes(view_layer, material, position=position, motion_vectors=motion_vectors))
        enter(_switch_off_depth_of_field(scene))
        enter(_show_only(scene, view_layer, render_set))
        for one in render_set.objects:
            enter(override_mesh_temporarily(one, generated_uvs.get(one.index), cut_faces.get(one.object.name_full)))
        yield


def set_render_region(scene: bpy.types.Scene, box: tuple[int, int, int, int], width: int, height: int) -> None:
    """Render only a rectangle (left, top, right, bottom) of pixels; ``override_scene_temporarily`` restores the setting."""
    render = scene.render
    whole = box == (0, 0, width, height)
    render.use_border = render.use_crop_to_border = not whole
    if not whole:
        left, top, right, bottom = box
        # Blender truncates; a quarter of a pixel keeps a rounding error from costing a whole one
        render.border_min_x, render.border_max_x = (left + 0.25) / width, (right + 0.25) / width
        render.border_min_y, render.border_max_y = (height - bottom + 0.25) / height, (height - top + 0.25) / height
