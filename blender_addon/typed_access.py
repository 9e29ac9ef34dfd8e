"""Blender's data under the type that they have: its API says "or None" and "one of fourteen kinds" where the caller knows better.

Each function raises ``TypeError`` when the caller was wrong.
"""

from __future__ import annotations

import bpy


def get_scene(context: bpy.types.Context) -> bpy.types.Scene:
    """The context's scene; there always is one but while a file is being loaded."""
    if context.scene is None:
        raise TypeError("The context has no scene.")
    return context.scene


def get_view_layer(context: bpy.types.Context) -> bpy.types.ViewLayer:
    """The context's view layer."""
    if context.view_layer is None:
        raise TypeError("The context has no view layer.")
    return context.view_layer


def get_mesh(found: bpy.types.Object) -> bpy.types.Mesh:
    """The mesh of a mesh object."""
    if not isinstance(found.data, bpy.types.Mesh):
        raise TypeError(f"{found.name} is not a mesh.")
    return found.data


def get_armature(found: bpy.types.Object) -> bpy.types.Armature:
    """The rest bones of an armature object."""
    if not isinstance(found.data, bpy.types.Armature):
        raise TypeError(f"{found.name} is not an armature.")
    return found.data


def get_pose(found: bpy.types.Object) -> bpy.types.Pose:
    """The pose of an armature object."""
    if found.pose is None:
        raise TypeError(f"{found.name} has no pose.")
    return found.pose


def get_camera(found: bpy.types.Object) -> bpy.types.Camera:
    """The lens and the like of a camera object."""
    if not isinstance(found.data, bpy.types.Camera):
        raise TypeError(f"{found.name} is not a camera.")
    return found.data


def get_node_tree(material: bpy.types.Material) -> bpy.types.ShaderNodeTree:
    """The nodes of a material that uses some."""
    if material.node_tree is None:
        raise TypeError(f"{material.name} has no nodes.")
    return material.node_tree


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
