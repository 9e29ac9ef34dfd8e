"""What commands need to know of the file: its scene, its character, its frames and their size."""

from __future__ import annotations

import argparse
from typing import Any

import bpy

from ...shared import console, shot
from ...shared.arguments import add_setting, add_settings, read_given_settings
from ...shared.costume_files import read_worn
from ...shared.model_profile import SIDES as SIDE_NAMES
from ...shared.picture_size import fit_aspect
from ...shared.scene_options import SceneOptions
from ...shared.settings import SettingError, list_settings
from ..passes.process_count import AUTO, MOST
from ..properties import get_frame_aspect, get_scene_settings
from ..rigging.instances import explain_instance, explain_instances
from ..scripts import explain_silent_drivers
from ..typed_access import get_view_layer

#: how a command line of ours begins in the examples of its help
PROGRAM = "blender -b shot.blend --command latentman"
#: permission for the scripts of the file, which ``__main__`` reads before it opens that
ENABLE_SCRIPTS = "--enable-scripts"
SIDES = tuple(declared for declared in list_settings(shot.ShotRequest) if declared.name in SIDE_NAMES)
ALPHA = next(declared for declared in list_settings(SceneOptions) if declared.name == "character_only")


def find_character(scene: bpy.types.Scene, name: str | None) -> bpy.types.Object | None:
    """The object with a name, or the panel's character, or the first armature. Raises ``ShotError`` when the name is unknown, and
    for a character that is there only as an instance of its collection."""
    if name:
        if name not in scene.objects:
            raise shot.ShotError("character", f"There is no object '{name}' in the scene.")
        found: bpy.types.Object | None = scene.objects[name]
    else:
        picked: bpy.types.Object | None = get_scene_settings(scene).character if hasattr(scene, "latentman") else None
        found = picked or next((one for one in scene.objects if one.type == "ARMATURE"), None)
    why = explain_instance(found) if found else explain_instances(scene.objects)
    if why:
        raise shot.ShotError("character", why)
    return found


def warn_of_scripts(out: console.Console) -> None:
    """Say which of the file's scripted drivers do not run."""
    get_view_layer(bpy.context).update()
    sentence = explain_silent_drivers(
        f"where you trust it, give {ENABLE_SCRIPTS}, or Blender's own --enable-autoexec (-y) before the file"
    )
    if sentence:
        out.warn(sentence, code="scripts")


def read_scene_options(args: argparse.Namespace) -> SceneOptions:
    """What of the scene is shown, as the arguments say."""
    return SceneOptions(**read_given_settings(args, SceneOptions))


def read_costume_arguments(args: argparse.Namespace) -> dict[str, bytes]:
    """The files of the costume that the arguments name, none where they name none. Raises ``ShotError``."""
    if args.costume is not None:
        return read_worn(args.costume, args.paint)
    if args.paint:
        raise shot.ShotError("paint", "The painted image needs the costume that it belongs to; name that with --costume.")
    return {}


def read_size(args: argparse.Namespace, scene: bpy.types.Scene) -> tuple[int, int]:
    """(width, height) of the frames; a side that is not given follows from the other and the scene's aspect. Without either, both
    are 0: the model's own."""
    width, height = (getattr(args, name, 0) for name in SIDE_NAMES)
    if bool(width) == bool(height):
        return width, height
    return fit_aspect(width or shot.MAX_SIDE, height or shot.MAX_SIDE, get_frame_aspect(scene))


def read_frames(options: SceneOptions, scene: bpy.types.Scene) -> tuple[int, ...]:
    """The frames that are named, else the scene's range. Raises ``ShotError``."""
    if options.frames:
        return console.parse_frames(options.frames)
    frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step)
    console.check_frame_count(len(frames))
    return tuple(frames)


class _SizeAction(argparse.Action):
    """``--size 512x256`` is ``--width 512 --height 256``."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        sides = values.lower().split("x")
        if len(sides) != len(SIDES):
            raise argparse.ArgumentError(self, f"'{values}' is not a size; write it like 256x256")
        try:
            for side, text in zip(SIDES, sides, strict=True):
                setattr(namespace, side.name, side.from_text(text))
        except SettingError as error:
            raise argparse.ArgumentError(self, str(error)) from error


def add_scene_arguments(parser: argparse.ArgumentParser, own_size: str) -> None:
    """What a shot needs to know of the scene; ``own_size`` says in words what its size is by default."""
    add_settings(parser, SceneOptions, leave_out=(ALPHA.name,))
    add_size_arguments(parser, own_size, ", or as the other side and the scene's aspect say")
    add_file_arguments(parser)


def read_process_count(text: str) -> int | None:
    """A number of Blenders that was typed, as argparse's type; None for as many as are useful."""
    if text.strip().lower() == AUTO:
        return None
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= MOST:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of Blenders; give 1 to {MOST}, or {AUTO}")
    return count


def add_processes_argument(parser: argparse.ArgumentParser) -> None:
    """How many Blenders render passes."""
    parser.add_argument(
        "--processes",
        type=read_process_count,
        default=1,
        metavar=f"N|{AUTO}",
        help=f"so many Blenders share the passes of the frames; {AUTO}: as many as cores, frames and half of the free memory "
        "allow. The passes are the same, bit for bit; default 1",
    )


def add_size_arguments(parser: argparse.ArgumentParser, own_size: str, otherwise: str = "") -> None:
    """The size of the frames; ``own_size`` says in words what it is by default, ``otherwise`` what one side follows from."""
    for side in SIDES:
        add_setting(parser, side, default=f"{own_size}{otherwise}")
    parser.add_argument("--size", action=_SizeAction, default=argparse.SUPPRESS, metavar="WxH", help="width and height at once")


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command needs to know of the file."""
    parser.add_argument("--character", help="object name; by default the panel's character or the first armature")
    parser.add_argument("--scene", metavar="NAME", help="a scene of the file; by default the one that it was saved in")
    parser.add_argument("--view-layer", metavar="NAME", help="a view layer of the scene; by default the one that it was saved with")
    parser.add_argument(
        ENABLE_SCRIPTS,
        action="store_true",
        help="let the file's Python drivers and scripts run: only for files that you trust; with blender --command, give Blender "
        "--enable-autoexec (-y) before the file instead",
    )
