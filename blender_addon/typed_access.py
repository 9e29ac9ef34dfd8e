"""Blender's data with the types that they really have: its API declares "or None", "one of fourteen types" or a bare base class
where the caller knows better.

Each function raises ``TypeError`` when the caller was wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import bpy

#: what an operator's ``execute`` and ``invoke`` return
OperatorResult: TypeAlias = set[Literal["RUNNING_MODAL", "CANCELLED", "FINISHED", "PASS_THROUGH", "INTERFACE"]]

NodeType = TypeVar("NodeType", bound=bpy.types.Node)
DataType = TypeVar("DataType", bound=bpy.types.ID)


class SceneContext(Protocol):
    """As much of a context as says which scene and which view layer of it are meant; ``bpy.context`` is one."""

    @property
    def scene(self) -> bpy.types.Scene | None: ...

    @property
    def view_layer(self) -> bpy.types.ViewLayer | None: ...


@dataclass(frozen=True)
class ScenePlace:
    """A scene and a view layer of it, whether or not a window shows them."""

    scene: bpy.types.Scene
    view_layer: bpy.types.ViewLayer


def get_scene(context: SceneContext) -> bpy.types.Scene:
    """The context's scene; it is missing only while a file is being loaded."""
    if context.scene is None:
        raise TypeError("The context has no scene.")
    return context.scene


def get_view_layer(context: SceneContext) -> bpy.types.ViewLayer:
    """The context's view layer."""
    if context.view_layer is None:
        raise TypeError("The context has no view layer.")
    return context.view_layer


def evaluate(view_layer: bpy.types.ViewLayer) -> bpy.types.Depsgraph:
    """The evaluated objects of a view layer, up to date, whichever scene the window shows."""
    view_layer.update()
    if view_layer.depsgraph is None:
        raise TypeError(f"The view layer {view_layer.name} cannot be evaluated.")
    return view_layer.depsgraph


def get_layout(owner: bpy.types.Panel | bpy.types.Menu | bpy.types.Operator | bpy.types.AddonPreferences) -> bpy.types.UILayout:
    """The layout that a ``draw`` method fills."""
    if owner.layout is None:
        raise TypeError("There is no layout outside of draw.")
    return owner.layout


def _get_data(found: bpy.types.Object, kind: type[DataType], words: str) -> DataType:
    if not isinstance(found.data, kind):
        raise TypeError(f"{found.name} is not {words}.")
    return found.data


def get_mesh(found: bpy.types.Object) -> bpy.types.Mesh:
    """The mesh of a mesh object."""
    return _get_data(found, bpy.types.Mesh, "a mesh")


def get_armature(found: bpy.types.Object) -> bpy.types.Armature:
    """The rest bones of an armature object."""
    return _get_data(found, bpy.types.Armature, "an armature")


def get_camera(found: bpy.types.Object) -> bpy.types.Camera:
    """The camera settings (lens, sensor, depth of field) of a camera object."""
    return _get_data(found, bpy.types.Camera, "a camera")


def get_curves(found: bpy.types.Object) -> bpy.types.Curves:
    """The hair curves of a curves object."""
    return _get_data(found, bpy.types.Curves, "a curves object")


def get_pose(found: bpy.types.Object) -> bpy.types.Pose:
    """The pose of an armature object."""
    if found.pose is None:
        raise TypeError(f"{found.name} has no pose.")
    return found.pose


def get_node_tree(material: bpy.types.Material) -> bpy.types.ShaderNodeTree:
    """The nodes of a material with ``use_nodes``."""
    if material.node_tree is None:
        raise TypeError(f"{material.name} has no nodes.")
    return material.node_tree


def get_node(socket: bpy.types.NodeSocket) -> bpy.types.Node:
    """The node that a socket belongs to."""
    if socket.node is None:
        raise TypeError(f"The socket {socket.name} belongs to no node.")
    return socket.node


def add_node(tree: bpy.types.NodeTree, node_type: type[NodeType]) -> NodeType:
    """Add a node of a class like ``bpy.types.ShaderNodeMath`` to a tree."""
    node = tree.nodes.new(node_type.__name__)
    if not isinstance(node, node_type):
        raise TypeError(f"Blender made a {type(node).__name__} instead of a {node_type.__name__}.")
    return node


def get_input(node: bpy.types.Node, key: int | str) -> bpy.types.NodeSocket:
    """An input of a node by its number or name; ``KeyError`` or ``IndexError`` when there is none."""
    return node.inputs[key]


def get_output(node: bpy.types.Node, key: int | str) -> bpy.types.NodeSocket:
    """An output of a node by its number or name; ``KeyError`` or ``IndexError`` when there is none."""
    return node.outputs[key]


def get_socket_value(socket: bpy.types.NodeSocket) -> Any:
    """The value that a socket has when nothing is linked to it."""
    typed: Any = socket
    return typed.default_value


def set_socket_value(socket: bpy.types.NodeSocket, value: Any) -> None:
    """Set the value that a socket has when nothing is linked to it."""
    typed: Any = socket
    typed.default_value = value


def get_attribute_data(mesh: bpy.types.Mesh, name: str) -> Any:
    """The values of a mesh's attribute, with ``foreach_get`` and ``foreach_set``; ``KeyError`` when there is no such attribute."""
    attribute: Any = mesh.attributes[name]
    return attribute.data


def get_animation_data(found: bpy.types.Object) -> bpy.types.AnimData:
    """The Action, the NLA tracks and the drivers of an object that is animated."""
    if found.animation_data is None:
        raise TypeError(f"{found.name} is not animated.")
    return found.animation_data


def get_shape_keys(found: bpy.types.Object) -> bpy.types.Key | None:
    """The shape keys of a mesh object; None for a mesh without any."""
    keys = get_mesh(found).shape_keys
    if not isinstance(keys, bpy.types.Key):
        return None
    return keys


def get_collection(context: bpy.types.Context) -> bpy.types.Collection:
    """The collection that new objects go into."""
    if context.collection is None:
        raise TypeError("The context has no collection.")
    return context.collection
