"""Where a result is shown in its scene: strips of the sequencer and nodes of the compositor, added once and kept up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from .compat import uses_compositing
from .compositor import add_image_node, find_image_nodes, refresh_image_node
from .movie import encode_movie
from .paths import get_result_folder, make_stored_path, resolve
from .properties import get_scene_settings
from .result_properties import LatentManResult
from .sequencer import (
    add_image_strip,
    add_movie_strip,
    colour_strip,
    find_strips,
    make_strip_name,
    refresh_strip,
    reload_movie_strip,
    spread_images,
)
from .strip_timing import find_missing
from .tasks.frames_folder import get_frame_number, list_frames
from .view_colours import choose_colour_space


def describe_result(result: LatentManResult) -> dict[str, str | int]:
    """A result's custom properties for a strip or an image: what it was made with."""
    return {
        "latentman_prompt": result.prompt,
        "latentman_seed": result.seed,
        "latentman_character": result.character,
        "latentman_job": result.job,
    }


def _note_missing(result: LatentManResult, images: list[Path]) -> list[str]:
    numbers = [number for image in images if (number := get_frame_number(image)) is not None]
    missing = find_missing(numbers, result.step, result.start, result.count) if numbers else ()
    if not missing:
        return []
    what = f"Frame {missing[0]} is" if len(missing) == 1 else f"{len(missing)} frames, {missing[0]} the first of them, are"
    return [f"{what} missing, and the frame before is shown instead; generate the shot again to complete it."]


def find_start(result: LatentManResult, images: list[Path]) -> int:
    """The scene frame at which a result begins: that of its shot, or of an image before it."""
    numbers = [get_frame_number(image) for image in images]
    return min([result.start, *(number for number in numbers if number is not None)])


def put_in_sequencer(scene: bpy.types.Scene, result: LatentManResult, *, movie: bool = False) -> tuple[str, list[str]]:
    """Add a result to the sequencer where its shot begins, as an image strip or as a movie; strips that show it already are
    refreshed instead. Returns what was done, without a full stop, and sentences about what is not as expected.

    Raises ``ShotError``.
    """
    images, output = list_frames(get_result_folder(result)), get_scene_settings(scene).output
    name, properties = make_strip_name(result.prompt, result.seed), describe_result(result)
    found = [strip for strip in find_strips(scene, get_result_folder(result)) if strip.type == ("MOVIE" if movie else "IMAGE")]
    path = None
    if movie:
        path = encode_movie(scene, images, result.step, first=result.start, transparent=result.transparent)
    notes = _note_missing(result, images)
    for strip in found:
        if path is None:
            refresh_strip(strip, images, result.step, output, first=result.start, properties=properties)
        else:
            reload_movie_strip(strip)
        colour_strip(strip, choose_colour_space(scene))
    if found:
        return f"The strip '{found[0].name}' shows this result, and has read its frames anew", notes
    start = find_start(result, images)
    if path is None:
        strip = add_image_strip(scene, images, start, name, result.step, output, first=result.start, properties=properties)
    else:
        length = len(spread_images(images, result.step, result.start))
        strip = add_movie_strip(scene, path, start, length, name, output, properties=properties)
    return f"Added '{strip.name}' on channel {strip.channel} at frame {start}", notes


def show_version(scene: bpy.types.Scene, strip: Any, result: LatentManResult) -> list[str]:
    """Have one strip, of images or of a movie, show another result, where it is and as it is cut. A name of the user's stays.
    Returns sentences about what is not as expected. Raises ``ShotError``."""
    images, output = list_frames(get_result_folder(result)), get_scene_settings(scene).output
    properties = describe_result(result)
    old_name = make_strip_name(str(strip.get("latentman_prompt", "")), int(strip.get("latentman_seed", 0)))
    if strip.type == "MOVIE":
        path = encode_movie(scene, images, result.step, first=result.start, transparent=result.transparent)
        strip.filepath = make_stored_path(path, output)
        reload_movie_strip(strip)
        for key, value in properties.items():
            strip[key] = value
    else:
        refresh_strip(strip, images, result.step, output, first=result.start, properties=properties)
    colour_strip(strip, choose_colour_space(scene))
    if strip.name.partition(".")[0] == old_name.partition(".")[0]:
        strip.name = make_strip_name(result.prompt, result.seed)
    return _note_missing(result, images)


def count_places(folder: Path) -> int:
    """How many strips, nodes and images of this file show what lies in a folder."""
    strips = sum(len(find_strips(scene, folder)) for scene in bpy.data.scenes)
    images = sum(
        bool(
            image.users
            and image.source in ("FILE", "SEQUENCE")
            and image.filepath
            and resolve(image.filepath).is_relative_to(folder)
        )
        for image in bpy.data.images
    )
    return strips + images


def put_in_compositor(scene: bpy.types.Scene, result: LatentManResult) -> tuple[str, list[str]]:
    """Add a result to the scene's compositing nodes; nodes that show it already are refreshed instead. Returns as
    ``put_in_sequencer`` does. Raises ``ShotError``."""
    images, output = list_frames(get_result_folder(result)), get_scene_settings(scene).output
    nodes = find_image_nodes(scene, get_result_folder(result))
    for node in nodes:
        refresh_image_node(scene, node, images, find_start(result, images), result.step, output, first=result.start)
    if nodes:
        return f"The node '{nodes[0].label or nodes[0].name}' shows this result, and has read its frames anew", _note_missing(
            result, images
        )
    name = make_strip_name(result.prompt, result.seed)
    added = add_image_node(
        scene,
        images,
        find_start(result, images),
        name,
        result.step,
        output,
        first=result.start,
        transparent=result.transparent,
        properties=describe_result(result),
    )
    notes = _note_missing(result, images)
    if not added.connected:
        notes.append(
            "The scene has compositing nodes of its own, which stay as they are: connect the new ones where you want them."
        )
    if not uses_compositing(scene):
        notes.append("Compositing is switched off in this scene; switch it on to see the frames in renders.")
    return f"Added the image node '{name}'", notes


def refresh_places(scene: bpy.types.Scene, result: LatentManResult) -> None:
    """Have the image strips, the nodes and the images that show a result's folder read its frames anew. Raises ``ShotError``."""
    folder = get_result_folder(result)
    show_instead(scene, folder, result)
    for image in bpy.data.images:
        if image.source == "FILE" and not image.is_dirty and image.filepath and resolve(image.filepath).is_relative_to(folder):
            image.reload()


def show_instead(scene: bpy.types.Scene, old: Path, result: LatentManResult) -> None:
    """Have the image strips and the nodes that show the folder ``old`` show a result's frames from now on, where they are and as
    they are cut and connected. Movies, which take a while to encode, stay. Raises ``ShotError``."""
    folder, output = get_result_folder(result), get_scene_settings(scene).output
    images = list_frames(folder)
    if not images:
        return
    for strip in find_strips(scene, old):
        if strip.type == "IMAGE":
            refresh_strip(strip, images, result.step, output, first=result.start, properties=describe_result(result))
    for node in find_image_nodes(scene, old):
        start = find_start(result, images)
        refresh_image_node(scene, node, images, start, result.step, output, first=result.start)
        for key, value in describe_result(result).items():
            node.image[key] = value
