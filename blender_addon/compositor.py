"""Finished frames -> an image node in the scene's compositing nodes, which follows the scene's frame and can be rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from ..shared import shot
from .compat import add_fitting_node, find_compositing_tree, get_alpha_over_inputs, make_compositing_tree
from .numbered_links import SEQUENCE_FOLDER, write_numbered
from .paths import make_stored_path, resolve
from .sequencer import GONE, spread_images
from .view_colours import choose_colour_space


@dataclass(frozen=True)
class AddedNode:
    """An image node, and whether renders show it: where the scene had nodes, the user connects it."""

    node: Any
    connected: bool


def add_image_node(
    scene: bpy.types.Scene,
    images: Sequence[Path],
    start: int,
    name: str,
    step: int = 1,
    output: str = "",
    *,
    first: int | None = None,
    transparent: bool = False,
    properties: Mapping[str, str | int] | None = None,
) -> AddedNode:
    """Add an image node that shows the images from the scene frame ``start`` on, followed by a node that fits them into the render.

    In a scene without compositing nodes they become what is rendered, over the render itself where they are ``transparent``. Where
    there are nodes, nothing of these is changed. The other arguments are those of ``add_image_strip``. Raises ``ShotError``.
    """
    if not images:
        raise shot.ShotError("frames", GONE)
    shown = spread_images(images, step, first)
    image = _load_sequence(scene, write_numbered(shown, images[0].parent / SEQUENCE_FOLDER), name, output)
    for key, value in (properties or {}).items():
        image[key] = value
    tree = find_compositing_tree(scene)
    render: Any = None
    result: Any = None
    if tree is None:
        tree, render, result = make_compositing_tree(scene)
    node, fitted = tree.nodes.new("CompositorNodeImage"), add_fitting_node(tree)
    node.image, node.label = image, name
    set_node_frames(node, start, len(shown))
    place = _find_free_place(tree, (node, fitted))
    node.location, fitted.location = place, (place[0] + 250, place[1])
    tree.links.new(node.outputs["Image"], fitted.inputs["Image"])
    if result is not None:
        _connect(tree, fitted.outputs["Image"], render if transparent else None, result)
    for other in tree.nodes:
        other.select = other in (node, fitted)
    tree.nodes.active = node
    return AddedNode(node, result is not None)


def set_node_frames(node: Any, start: int, length: int) -> None:
    """Have an image node show the first of ``length`` numbered images at the scene frame ``start``, and the last one at the end."""
    node.frame_start, node.frame_duration, node.frame_offset = start, length, 0
    node.use_cyclic, node.use_auto_refresh = False, True


def _connect(tree: Any, pictures: Any, below: Any, result: Any) -> None:
    if below is None:
        tree.links.new(pictures, result)
        return
    over = tree.nodes.new("CompositorNodeAlphaOver")
    over.location = (450, 0)
    background, foreground = get_alpha_over_inputs(over)
    # Blender has multiplied the pictures by their alpha when it read them, which is what the node expects
    tree.links.new(below, background)
    tree.links.new(pictures, foreground)
    tree.links.new(over.outputs["Image"], result)


def _find_free_place(tree: Any, own: Sequence[Any]) -> tuple[float, float]:
    others = [node for node in tree.nodes if node not in own]
    low = min((node.location.y for node in others), default=0.0)
    return min((node.location.x for node in others), default=0.0), low - 350


def _load_sequence(scene: bpy.types.Scene, files: Sequence[Path], name: str, output: str) -> bpy.types.Image:
    image = bpy.data.images.load(str(files[0]))
    image.name, image.source = name, "SEQUENCE"
    image.filepath = make_stored_path(files[0], output)
    image.alpha_mode = "STRAIGHT"
    colours: Any = image.colorspace_settings
    colours.name = choose_colour_space(scene).space
    return image


def find_image_nodes(scene: bpy.types.Scene, folder: Path) -> list[Any]:
    """The image nodes of a scene's compositing nodes that show the frames in a folder."""
    tree = find_compositing_tree(scene)
    images = [node for node in tree.nodes if node.bl_idname == "CompositorNodeImage" and node.image] if tree is not None else []
    return [node for node in images if resolve(node.image.filepath).parent == folder / SEQUENCE_FOLDER]


def refresh_image_node(
    scene: bpy.types.Scene,
    node: Any,
    images: Sequence[Path],
    start: int,
    step: int = 1,
    output: str = "",
    *,
    first: int | None = None,
) -> None:
    """Have an image node show these images from now on, in the colours for the scene's view transform; its links stay. Raises
    ``ShotError``."""
    if not images:
        raise shot.ShotError("frames", GONE)
    shown = spread_images(images, step, first)
    files = write_numbered(shown, images[0].parent / SEQUENCE_FOLDER)
    node.image.filepath = make_stored_path(files[0], output)
    node.image.colorspace_settings.name = choose_colour_space(scene).space
    node.image.reload()
    set_node_frames(node, start, len(shown))
