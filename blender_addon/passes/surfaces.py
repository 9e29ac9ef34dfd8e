"""Lends meshes what the passes read from them: rest positions, parts, and texture coordinates where they have none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import bpy
import numpy as np

from .cutouts import CUT_ATTRIBUTE
from .subjects import Subject

REST_ATTRIBUTE, PART_ATTRIBUTE, OWN_ATTRIBUTE = "latentman_rest", "latentman_part", "latentman_own"
UV_LAYER, STORE = "LatentManUV", "LatentMan Rest Position"
#: modifiers that make new surface, where a vertex's attribute would stand for several points, or be lost
GENERATORS = frozenset(
    ("ARRAY", "BOOLEAN", "BUILD", "MIRROR", "NODES", "OCEAN", "REMESH", "SCREW", "SKIN", "SOLIDIFY", "WIREFRAME")
)
DEFORMERS = frozenset(
    (
        "ARMATURE",
        "CAST",
        "CLOTH",
        "CORRECTIVE_SMOOTH",
        "CURVE",
        "DISPLACE",
        "HOOK",
        "LAPLACIANDEFORM",
        "LATTICE",
        "MESH_CACHE",
        "MESH_DEFORM",
        "MESH_SEQUENCE_CACHE",
        "SHRINKWRAP",
        "SIMPLE_DEFORM",
        "SMOOTH",
        "LAPLACIANSMOOTH",
        "SOFT_BODY",
        "SURFACE_DEFORM",
        "WARP",
        "WAVE",
    )
)


def rest_points(mesh: bpy.types.Mesh) -> np.ndarray:
    """(V * 3,) float32 undeformed vertex positions: the basis where there are shape keys."""
    source = mesh.shape_keys.key_blocks[0].data if mesh.shape_keys else mesh.vertices
    points = np.empty(len(mesh.vertices) * 3, np.float32)
    source.foreach_get("co", points)
    return points


def triangle_corners(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray]:
    """(T * 3,) int32 the vertices, and the loops, at the corners of a mesh's triangles."""
    mesh.calc_loop_triangles()
    vertices, loops = (np.empty(len(mesh.loop_triangles) * 3, np.int32) for _ in range(2))
    mesh.loop_triangles.foreach_get("vertices", vertices)
    mesh.loop_triangles.foreach_get("loops", loops)
    return vertices, loops


def store_index(body: bpy.types.Object) -> int | None:
    """Where in the modifier stack rest positions must be stored anew: after what makes surface, before what moves it.

    None where the mesh's own vertices are enough.
    """
    kinds = [m.type for m in body.modifiers]
    first = next((n for n, kind in enumerate(kinds) if kind in DEFORMERS), len(kinds))
    return first if any(kind in GENERATORS for kind in kinds[:first]) else None


@contextmanager
def _store_nodes() -> Iterator[bpy.types.NodeTree]:
    """Geometry nodes that keep each point's position in the rest attribute."""
    tree = bpy.data.node_groups.new(STORE, "GeometryNodeTree")
    try:
        tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
        tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
        entry, leave = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
        position = tree.nodes.new("GeometryNodeInputPosition")
        rest, own = (tree.nodes.new("GeometryNodeStoreNamedAttribute") for _ in range(2))
        rest.data_type, own.data_type = "FLOAT_VECTOR", "FLOAT"
        for node, name in ((rest, REST_ATTRIBUTE), (own, OWN_ATTRIBUTE)):
            node.domain = "POINT"
            node.inputs["Name"].default_value = name
        own.inputs["Value"].default_value = 1.0
        tree.links.new(position.outputs[0], rest.inputs["Value"])
        tree.links.new(entry.outputs[0], rest.inputs["Geometry"])
        tree.links.new(rest.outputs["Geometry"], own.inputs["Geometry"])
        tree.links.new(own.outputs["Geometry"], leave.inputs[0])
        yield tree
    finally:
        bpy.data.node_groups.remove(tree)


@contextmanager
def _store_modifier(body: bpy.types.Object, index: int) -> Iterator[None]:
    with _store_nodes() as tree:
        modifier = body.modifiers.new(STORE, "NODES")
        name = modifier.name
        try:
            modifier.node_group = tree
            body.modifiers.move(len(body.modifiers) - 1, index)
            yield
        finally:
            body.modifiers.remove(body.modifiers[name])


def unwrap(body: bpy.types.Object) -> np.ndarray:
    """(L * 2,) float32 texture coordinates for a mesh without any, made on a copy in a scene of its own, so that neither
    the mesh nor the mode that the user works in is touched."""
    scene = bpy.data.scenes.new("LatentMan Unwrap")
    copy = bpy.data.objects.new("LatentMan Unwrap", body.data.copy())
    try:
        copy.shape_key_clear()
        scene.collection.objects.link(copy)
        layer = scene.view_layers[0]
        layer.objects.active = copy
        copy.select_set(True, view_layer=layer)
        where = dict(
            scene=scene,
            view_layer=layer,
            active_object=copy,
            object=copy,
            selected_objects=[copy],
            selected_editable_objects=[copy],
        )
        with bpy.context.temp_override(**where):
            bpy.ops.object.mode_set(mode="EDIT")
        with bpy.context.temp_override(**where, edit_object=copy, mode="EDIT_MESH"):
            bpy.ops.mesh.reveal()
            bpy.ops.mesh.select_all(action="SELECT")
            bpy.ops.uv.smart_project(angle_limit=math.radians(66), island_margin=0.004)
        with bpy.context.temp_override(**where):
            bpy.ops.object.mode_set(mode="OBJECT")
        found = np.zeros(len(copy.data.loops) * 2, np.float32)
        if copy.data.uv_layers:
            copy.data.uv_layers[0].data.foreach_get("uv", found)
        return found
    finally:
        mesh = copy.data
        bpy.data.objects.remove(copy)
        bpy.data.meshes.remove(mesh)
        bpy.data.scenes.remove(scene)


def _set(mesh: bpy.types.Mesh, name: str, kind: str, domain: str, field: str, values: np.ndarray) -> None:
    if name in mesh.attributes:  # left by an interrupted Blender
        mesh.attributes.remove(mesh.attributes[name])
    mesh.attributes.new(name, kind, domain).data.foreach_set(field, values)


@contextmanager
def lend(subject: Subject, uv: np.ndarray | None, cuts: np.ndarray | None = None) -> Iterator[None]:
    """Within the block a subject's mesh carries the attributes; ``uv`` is ``unwrap``'s answer for a mesh without any, ``cuts`` (F,)
    float32 the number of each face's cut-out."""
    body = subject.object
    if body.type != "MESH":
        yield
        return
    mesh, index = body.data, store_index(body)
    active = mesh.attributes.active_index
    try:
        _set(mesh, REST_ATTRIBUTE, "FLOAT_VECTOR", "POINT", "vector", rest_points(mesh))
        _set(mesh, OWN_ATTRIBUTE, "FLOAT", "POINT", "value", np.ones(len(mesh.vertices), np.float32))
        if subject.face_parts is not None:
            _set(mesh, PART_ATTRIBUTE, "FLOAT", "FACE", "value", subject.face_parts)
        if cuts is not None:
            _set(mesh, CUT_ATTRIBUTE, "FLOAT", "FACE", "value", cuts)
        if uv is not None:
            mesh.uv_layers.new(name=UV_LAYER).data.foreach_set("uv", uv)
        if index is None:
            yield
        else:
            with _store_modifier(body, index):
                yield
    finally:
        if uv is not None and UV_LAYER in mesh.uv_layers:
            mesh.uv_layers.remove(mesh.uv_layers[UV_LAYER])
        for name in (REST_ATTRIBUTE, PART_ATTRIBUTE, OWN_ATTRIBUTE, CUT_ATTRIBUTE):
            if name in mesh.attributes:
                mesh.attributes.remove(mesh.attributes[name])
        mesh.attributes.active_index = active
