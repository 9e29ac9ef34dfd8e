"""Everything that differs between Blender 4.2 LTS and 5.2 LTS; no other module asks for Blender's version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import addon_utils
import bpy
import numpy as np

SLOTTED_ACTIONS = bpy.app.version >= (4, 4, 0)
#: whether Blender says when something was appended or linked
HAS_IMPORT_EVENTS = hasattr(bpy.app.handlers, "blend_import_post")
MEDIA_TYPES = bpy.app.version >= (5, 0, 0)
COMPOSITOR_GROUPS = bpy.app.version >= (5, 0, 0)
#: options of a path property whose value may begin with ``//``; without them, Blender 5 marks such a path as wrong
RELATIVE_PATH = {"ANIMATABLE", *(("PATH_SUPPORTS_BLEND_RELATIVE",) if bpy.app.version >= (4, 5, 0) else ())}


def get_fcurves(action: bpy.types.Action) -> list[bpy.types.FCurve]:
    """Every F-curve of an action, of all its slots."""
    if not SLOTTED_ACTIONS:
        return list(action.fcurves)
    strips: list[Any] = [strip for layer in action.layers for strip in layer.strips]
    return [curve for strip in strips for bag in strip.channelbags for curve in bag.fcurves]


def get_used_fcurves(owner: bpy.types.ID) -> list[Any]:
    """The F-curves of the Action that an ID uses, of its own slot; none where it has none."""
    animated: Any = owner
    data = animated.animation_data
    if data is None or data.action is None:
        return []
    return get_slot_fcurves(data.action, data.action_slot if SLOTTED_ACTIONS else None)


def get_slot_fcurves(action: bpy.types.Action, slot: Any) -> list[Any]:
    """The F-curves of one slot of an Action; before 4.4, all of them."""
    if not SLOTTED_ACTIONS:
        return list(action.fcurves)
    strips: list[Any] = [strip for layer in action.layers for strip in layer.strips]
    bags = [strip.channelbag(slot) for strip in strips] if slot is not None else []
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def get_used_strips(owner: bpy.types.ID) -> list[Any]:
    """The NLA strips that play Actions on an ID: of the solo track if there is one, without what is muted."""
    animated: Any = owner
    data = animated.animation_data
    if data is None or not data.use_nla:
        return []
    tracks = [track for track in data.nla_tracks if track.is_solo] or [track for track in data.nla_tracks if not track.mute]
    return [strip for track in tracks for strip in list_action_strips(track.strips)]


def list_action_strips(strips: Any) -> list[Any]:
    """Those of NLA strips that play Actions and are not muted, also within meta strips."""
    out = []
    for strip in strips:
        if strip.mute:
            continue
        if strip.type == "META":
            out += list_action_strips(strip.strips)
        elif strip.type == "CLIP" and strip.action is not None:
            out.append(strip)
    return out


def assign_action(owner: bpy.types.ID, action: bpy.types.Action | None, slot: Any = None) -> None:
    """Make an ID use an Action and, from 4.4 on, a slot of it."""
    animated: Any = owner
    data = animated.animation_data or animated.animation_data_create()
    data.action = action
    if SLOTTED_ACTIONS and action is not None and slot is not None:
        data.action_slot = slot


def get_action_slots(action: bpy.types.Action) -> list[Any]:
    """The slots of an Action; none before 4.4."""
    return list(action.slots) if SLOTTED_ACTIONS else []


def get_strip_slot(strip: bpy.types.NlaStrip) -> Any:
    """The slot of its Action that an NLA strip plays; None before 4.4."""
    return strip.action_slot if SLOTTED_ACTIONS else None


def get_used_slot(owner: bpy.types.ID) -> Any:
    """The slot of its Action that an ID uses; None before 4.4 and where it uses none."""
    animated: Any = owner
    return animated.animation_data.action_slot if SLOTTED_ACTIONS and animated.animation_data else None


def set_strip_action(strip: bpy.types.NlaStrip, action: bpy.types.Action, slot: Any) -> None:
    """Make an NLA strip play an Action and, from 4.4 on, a slot of it."""
    strip.action = action
    if SLOTTED_ACTIONS and slot is not None:
        strip.action_slot = slot


def find_object_slot(action: bpy.types.Action) -> Any:
    """The first slot of an Action that can move an object; None where there is none, and before 4.4."""
    return next((slot for slot in get_action_slots(action) if slot.target_id_type in ("OBJECT", "UNSPECIFIED")), None)


def find_same_slot(action: bpy.types.Action, slot: Any) -> Any:
    """The slot of a copied Action that was copied from a slot of the original; None before 4.4."""
    return None if slot is None else next((one for one in action.slots if one.identifier == slot.identifier), None)


def ensure_curve_holder(action: bpy.types.Action, name: str, slot: Any = None) -> tuple[Any, Any]:
    """(what holds the ``fcurves`` and ``groups`` of a slot of an Action, the slot), made for an object ``name`` where needed.

    Before 4.4 that is the Action itself, and the slot None. From then on an owner without a slot would not be animated, and no
    error would say so.
    """
    if not SLOTTED_ACTIONS:
        return action, None
    slot = slot or find_object_slot(action) or action.slots.new("OBJECT", name)
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip: Any = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    return strip.channelbag(slot, ensure=True), slot


def find_operator(name: str) -> Any:
    """An operator by its name, such as ``wm.usd_import``; None where this Blender has none."""
    module, function = name.split(".")
    operator: Any = getattr(getattr(bpy.ops, module), function)
    try:
        operator.get_rna_type()
    except (KeyError, AttributeError):
        return None
    return operator


@contextmanager
def enable_addon(module: str) -> Iterator[None]:
    """Have one of Blender's own add-ons enabled for a while, without a change to the preferences; nothing where it is missing."""
    _, enabled = addon_utils.check(module)
    if enabled:
        yield
        return
    enable: Any = addon_utils.enable  # the stubs say that it returns nothing
    loaded = enable(module, default_set=False, handle_error=lambda error: None)
    try:
        yield
    finally:
        if loaded is not None:
            addon_utils.disable(module, default_set=False)


def has_nodes(material: bpy.types.Material) -> bool:
    """Whether a material is made of nodes; from 5.0 on, every one is."""
    return MEDIA_TYPES or material.use_nodes


def get_strips(scene: bpy.types.Scene) -> Any:
    """The strips of a scene's sequencer, which is created if there is none."""
    editor: Any = scene.sequence_editor or scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def get_strip_range(strip: Any) -> tuple[int, int]:
    """The scene frame at which a strip begins to be seen, and the one before which it ends."""
    if hasattr(strip, "left_handle"):
        return strip.left_handle, strip.right_handle
    return strip.frame_final_start, strip.frame_final_end


def iter_strips(scene: bpy.types.Scene) -> list[Any]:
    """Every strip of a scene, those in meta strips, too; none where it has no sequencer."""
    editor: Any = scene.sequence_editor
    if editor is None:
        return []
    return list(editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all)


def get_strip_parts(strip: Any) -> Any:
    """The strips inside a meta strip."""
    return strip.strips if hasattr(strip, "strips") else strip.sequences


def get_strip_content(strip: Any) -> tuple[int, int]:
    """The scene frame at which a strip's content begins, seen or not, and how many frames of its source it leaves out before."""
    if hasattr(strip, "content_start"):
        return round(strip.content_start), int(strip.content_trim_start)
    return round(strip.frame_start), int(strip.animation_offset_start)


def get_strip_view_layer(strip: Any) -> str:
    """The view layer that a scene strip names; "" before 5.2, and where it names none."""
    layer = getattr(strip, "view_layer", None)
    return layer.name if layer is not None else ""


def list_muted_channels(owner: Any) -> frozenset[int]:
    """The numbers of the channels of a sequencer or of a meta strip that are switched off."""
    return frozenset(n for n, channel in enumerate(owner.channels) if channel.mute)


def get_sequencer_scene(context: bpy.types.Context) -> bpy.types.Scene | None:
    """The scene whose strips the sequencer shows: before 5.0 the window's, from then on the one that the workspace has chosen."""
    found: Any = context
    workspace = getattr(found, "workspace", None)
    chosen: bpy.types.Scene | None = getattr(workspace, "sequencer_scene", None)
    return chosen or found.scene


def show_in_sequencer(workspace: Any, scene: bpy.types.Scene) -> None:
    """Have a workspace's sequencers show a scene's strips, unless they show some already."""
    if hasattr(workspace, "sequencer_scene") and workspace.sequencer_scene is None:
        workspace.sequencer_scene = scene


def find_active_strip(scene: bpy.types.Scene | None) -> Any:
    """The active strip of a scene's sequencer; None where there is none."""
    editor: Any = scene.sequence_editor if scene is not None else None
    return editor.active_strip if editor is not None else None


def select_strip(scene: bpy.types.Scene, strip: Any) -> None:
    """Make a strip the active and the only selected one of its sequencer."""
    editor: Any = scene.sequence_editor
    for one in iter_strips(scene):
        one.select = False
    strip.select = True
    editor.active_strip = strip


def find_compositing_tree(scene: bpy.types.Scene) -> Any:
    """The scene's compositing nodes; None where it has none."""
    owner: Any = scene
    return owner.compositing_node_group if hasattr(owner, "compositing_node_group") else owner.node_tree


def uses_compositing(scene: bpy.types.Scene) -> bool:
    """Whether renders of the scene go through its compositing nodes."""
    owner: Any = scene
    # Blender 5 always uses the tree that there is
    used = hasattr(owner, "compositing_node_group") or owner.use_nodes
    return bool(used) and scene.render.use_compositing


def make_compositing_tree(scene: bpy.types.Scene) -> tuple[Any, Any, Any]:
    """Give a scene without compositing nodes a tree with the render as its result; (tree, output socket of the render, input socket
    of the result)."""
    owner: Any = scene
    if hasattr(owner, "compositing_node_group"):
        tree: Any = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
        owner.compositing_node_group = tree
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        result = tree.nodes.new("NodeGroupOutput")
    else:
        owner.use_nodes = True
        tree = owner.node_tree
        tree.nodes.clear()
        result = tree.nodes.new("CompositorNodeComposite")
    render = tree.nodes.new("CompositorNodeRLayers")
    render.location, result.location = (-300, 0), (700, 0)
    tree.links.new(render.outputs["Image"], result.inputs["Image"])
    return tree, render.outputs["Image"], result.inputs["Image"]


def add_fitting_node(tree: Any) -> Any:
    """A compositing node that scales its image to fit into the render's size, without distorting or cutting it."""
    node = tree.nodes.new("CompositorNodeScale")
    if hasattr(node, "space"):
        node.space, node.frame_method = "RENDER_SIZE", "FIT"
    else:
        node.inputs["Type"].default_value, node.inputs["Frame Type"].default_value = "Render Size", "Fit"
    return node


def get_alpha_over_inputs(node: Any) -> tuple[Any, Any]:
    """The sockets of an Alpha Over node for what lies below and for what lies above."""
    names = node.inputs.keys()
    return (node.inputs["Background"], node.inputs["Foreground"]) if "Background" in names else (node.inputs[1], node.inputs[2])


def set_video_format(image_settings: bpy.types.ImageFormatSettings) -> None:
    """Choose video through FFmpeg."""
    settings: Any = image_settings
    if MEDIA_TYPES:
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"


def remove_scene(scene: bpy.types.Scene) -> None:
    """Remove a scene that no window shows. ``bpy.data.scenes.remove`` crashes Blender 4.3 where the context has no window, as with
    ``blender --command``."""
    bpy.data.batch_remove((scene,))


def list_compositors() -> list[Any]:
    """The node trees of all compositors: before 5.0 a scene owns its own."""
    trees: list[Any] = [tree for tree in bpy.data.node_groups if tree.bl_idname == "CompositorNodeTree"]
    if not COMPOSITOR_GROUPS:
        owners: list[Any] = list(bpy.data.scenes)
        trees += [scene.node_tree for scene in owners if scene.node_tree is not None]
    return trees


#: Blender's number for curves that are polygons
POLYGON = 1


def is_module() -> bool:
    """Whether Blender is a module of Python rather than a program."""
    # 4.2 does not say, but has no program then
    return bool(getattr(bpy.app, "module", not bpy.app.binary_path))


def set_curve_kinds(curves: Any, kinds: np.ndarray) -> None:
    """Make those of hair curves polygons whose entry of ``kinds`` (C,) is 1, as Blender numbers its kinds. All others stay
    Catmull-Rom splines, as all are before 4.3, whose Cycles draws no others."""
    if hasattr(curves, "set_types") and (kinds == POLYGON).any():
        curves.set_types(type="POLY", indices=np.flatnonzero(kinds == POLYGON).tolist())


def get_stored_values(group: bpy.types.bpy_struct) -> Any:
    """What a file stores of a group's properties, by name, to be read and written: of a choice its number, also where no choice has
    that."""
    # from Blender 5.0 on they lie apart from what scripts add
    find = getattr(group, "bl_system_properties_get", None)
    return group if find is None else find(do_create=True)
