"""What the passes read from a mesh: rest positions, body parts, and texture coordinates where it has none of its own."""

from __future__ import annotations

import math
from typing import Any, Literal

import bpy
import numpy as np

from ..compat import remove_scene
from ..render_gate import override_context
from ..typed_access import add_node, get_attribute_data, get_input, get_mesh, get_output, set_socket_value
from .simulations import has_simulation_zone

REST_POSITION_ATTRIBUTE, PART_ATTRIBUTE = "latentman_rest", "latentman_part"
#: 1 where a surface has the rest position attribute; an attribute that is missing reads 0
HAS_REST_POSITION_ATTRIBUTE = "latentman_own"
UV_LAYER, STORE = "LatentManUV", "LatentMan Rest Position"
#: modifiers that generate surface, on which a vertex's attribute would be lost or be repeated at several points
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


def deforms(modifier: bpy.types.Modifier) -> bool:
    """Whether a modifier moves points rather than making new ones; simulation zones count as moving them."""
    tree = modifier.node_group if isinstance(modifier, bpy.types.NodesModifier) else None
    return modifier.type in DEFORMERS or has_simulation_zone(tree)


def get_rest_points(mesh: bpy.types.Mesh) -> np.ndarray:
    """(V * 3,) float32 undeformed vertex positions: those of the basis where there are shape keys."""
    source: Any = mesh.shape_keys.key_blocks[0].data if mesh.shape_keys else mesh.vertices
    points = np.empty(len(mesh.vertices) * 3, np.float32)
    source.foreach_get("co", points)
    return points


def get_triangle_corners(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray]:
    """The vertices (T * 3,) int32 and the loops (T * 3,) int32 at the corners of a mesh's triangles."""
    mesh.calc_loop_triangles()
    vertices, loops = (np.empty(len(mesh.loop_triangles) * 3, np.int32) for _ in range(2))
    mesh.loop_triangles.foreach_get("vertices", vertices)
    mesh.loop_triangles.foreach_get("loops", loops)
    return vertices, loops


def find_store_index(body: bpy.types.Object) -> int | None:
    """Where in the modifier stack rest positions must be stored again: after what generates surface, before what deforms it.

    None where the attribute of the mesh itself is enough.
    """
    types = [m.type for m in body.modifiers]
    first = next((n for n, one in enumerate(body.modifiers) if deforms(one)), len(types))
    return first if any(one in GENERATORS for one in types[:first]) else None


def make_store_nodes() -> bpy.types.NodeTree:
    """Geometry nodes that store each point's position in the rest position attribute."""
    tree = bpy.data.node_groups.new(STORE, "GeometryNodeTree")
    interface: Any = tree.interface
    interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    group_input, group_output = add_node(tree, bpy.types.NodeGroupInput), add_node(tree, bpy.types.NodeGroupOutput)
    position = add_node(tree, bpy.types.GeometryNodeInputPosition)
    store_position, store_flag = (add_node(tree, bpy.types.GeometryNodeStoreNamedAttribute) for _ in range(2))
    store_position.data_type, store_flag.data_type = "FLOAT_VECTOR", "FLOAT"
    for node, name in ((store_position, REST_POSITION_ATTRIBUTE), (store_flag, HAS_REST_POSITION_ATTRIBUTE)):
        node.domain = "POINT"
        set_socket_value(get_input(node, "Name"), name)
    set_socket_value(get_input(store_flag, "Value"), 1.0)
    tree.links.new(get_output(position, 0), get_input(store_position, "Value"))
    tree.links.new(get_output(group_input, 0), get_input(store_position, "Geometry"))
    tree.links.new(get_output(store_position, "Geometry"), get_input(store_flag, "Geometry"))
    tree.links.new(get_output(store_flag, "Geometry"), get_input(group_output, 0))
    return tree


def unwrap(body: bpy.types.Object) -> np.ndarray:
    """(L * 2,) float32 texture coordinates for a mesh without any, made on a copy in a separate scene, so that neither
    the mesh nor the mode that the user works in changes."""
    scene = bpy.data.scenes.new("LatentMan Unwrap")
    mesh = get_mesh(body).copy()
    copy = bpy.data.objects.new("LatentMan Unwrap", mesh)
    try:
        copy.shape_key_clear()
        scene.collection.objects.link(copy)
        layer = scene.view_layers[0]
        layer.objects.active = copy
        copy.select_set(True, view_layer=layer)
        override: dict[str, Any] = dict(
            scene=scene,
            view_layer=layer,
            active_object=copy,
            object=copy,
            selected_objects=[copy],
            selected_editable_objects=[copy],
        )
        with override_context(bpy.context, **override):
            bpy.ops.object.mode_set(mode="EDIT")
        with override_context(bpy.context, **override, edit_object=copy, mode="EDIT_MESH"):
            bpy.ops.mesh.reveal()
            bpy.ops.mesh.select_all(action="SELECT")
            bpy.ops.uv.smart_project(angle_limit=math.radians(66), island_margin=0.004)
        with override_context(bpy.context, **override):
            bpy.ops.object.mode_set(mode="OBJECT")
        coordinates = np.zeros(len(mesh.loops) * 2, np.float32)
        if mesh.uv_layers:
            mesh.uv_layers[0].data.foreach_get("uv", coordinates)
        return coordinates
    finally:
        bpy.data.objects.remove(copy)
        bpy.data.meshes.remove(mesh)
        remove_scene(scene)


def _write_attribute(
    mesh: bpy.types.Mesh,
    name: str,
    data_type: Literal["FLOAT_VECTOR", "FLOAT"],
    domain: Literal["POINT", "FACE"],
    values: np.ndarray,
) -> None:
    if name in mesh.attributes:  # a file may bring it along
        mesh.attributes.remove(mesh.attributes[name])
    mesh.attributes.new(name, data_type, domain)
    get_attribute_data(mesh, name).foreach_set("vector" if data_type == "FLOAT_VECTOR" else "value", values)


def prepare_mesh(body: bpy.types.Object, face_parts: np.ndarray | None, uv: np.ndarray | None, store: bpy.types.NodeTree) -> None:
    """Give a copy of the user's mesh object, with a mesh of its own, what the passes read; it keeps its modifiers.

    ``face_parts`` (F,) float32 are the faces' body parts; ``uv`` are ``unwrap``'s texture coordinates for a mesh without any;
    ``store`` are ``make_store_nodes``.
    """
    mesh, index = get_mesh(body), find_store_index(body)
    _write_attribute(mesh, REST_POSITION_ATTRIBUTE, "FLOAT_VECTOR", "POINT", get_rest_points(mesh))
    _write_attribute(mesh, HAS_REST_POSITION_ATTRIBUTE, "FLOAT", "POINT", np.ones(len(mesh.vertices), np.float32))
    if face_parts is not None:
        _write_attribute(mesh, PART_ATTRIBUTE, "FLOAT", "FACE", face_parts)
    if uv is not None:
        mesh.uv_layers.new(name=UV_LAYER).data.foreach_set("uv", uv)
    if index is not None:
        modifier: Any = body.modifiers.new(STORE, "NODES")
        modifier.node_group = store
        body.modifiers.move(len(body.modifiers) - 1, index)
