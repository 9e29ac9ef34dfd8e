"""Makes a shot of the queue from a scene and its panel as they are now."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import msgspec

from ...shared import console, shot
from ...shared.settings import SettingError
from ..declared_properties import list_unknown_choices
from ..panel_memory import make_memory, write_memory
from ..passes.camera import list_cameras
from ..properties import LatentManSettings, get_kept_look, get_scene_settings
from ..result_words import write_now
from ..rigging.instances import explain_instances
from .marked import FoundShot, Span
from .rows import QueuedShot
from .store import is_text


def choose_layer(scene: bpy.types.Scene) -> tuple[str, str]:
    """The view layer of a scene that a window shows, else its first, and a sentence where it was guessed among several."""
    manager = bpy.context.window_manager
    shown = [window.view_layer for window in manager.windows if window.scene == scene] if manager is not None else []
    layer = next((layer for layer in shown if layer is not None), None)
    if layer is not None:
        return layer.name, ""
    first = scene.view_layers[0].name
    is_guess = len(scene.view_layers) > 1
    return first, f"No window shows '{scene.name}'; its view layer '{first}' is used." if is_guess else ""


def choose_character(scene: bpy.types.Scene, settings: LatentManSettings) -> tuple[bpy.types.Object | None, str]:
    """The character of a shot and a sentence where it was guessed: the one that is picked in the scene, else the one of the
    settings that are used, else the scene's only armature. Raises ``ShotError`` where there is none and one is needed."""
    for picked in (get_scene_settings(scene).character, settings.character):
        if picked is not None and picked.name in scene.objects and scene.objects[picked.name] == picked:
            return picked, ""
    if settings.read_scene_options().subjects != "character":
        return None, ""
    armatures = [one for one in scene.objects if one.type == "ARMATURE"]
    if len(armatures) == 1:
        return armatures[0], f"No character is picked in '{scene.name}'; it is '{armatures[0].name}', its only armature."
    why = explain_instances(scene.objects)
    raise shot.ShotError("character", why or f"No character is picked in the scene '{scene.name}'; pick one in its panel.")


def freeze_shot(
    scene: bpy.types.Scene,
    name: str,
    span: Span,
    settings: LatentManSettings | None = None,
    layer: str = "",
    camera: str = "",
    *,
    own_camera: bool = False,
) -> tuple[QueuedShot, str]:
    """A shot of a scene's frames with the panel's settings as they are now, and a sentence about what was guessed, "" for nothing.

    ``settings`` are those of another scene, where that one's count; ``layer`` and ``camera`` the ones that the frames are to be of;
    with ``own_camera`` they are seen through that camera whatever the scene's are.
    Raises ``ShotError`` for whatever can be seen to be wrong now.
    """
    if scene.library is not None:
        raise shot.ShotError(
            "scene", f"The scene '{scene.name}' is linked, so that it cannot keep results; open its own file and queue it there."
        )
    settings = settings or get_scene_settings(scene)
    console.check_frame_count(span.count)
    frames = tuple(span.frames)
    character, guess = choose_character(scene, settings)
    layer, layer_guess = (layer, "") if layer else choose_layer(scene)
    try:
        request = settings.make_request(scene, frames)
    except SettingError as error:
        raise shot.ShotError(error.name, str(error)) from error
    shot.check_request(request)
    if not is_text(settings.output):
        raise shot.ShotError(
            "disk",
            "The path of the Output folder is not valid UTF-8, so that the queue cannot keep it; choose another Output folder.",
        )
    chosen = find_named_camera(scene, camera) if own_camera else None
    cameras = tuple(one.name for one in list_cameras(scene, frames, chosen))
    if camera and cameras != (camera,):
        raise shot.ShotError("camera", f"'{name}' is seen through {write_names(cameras)}, and not through '{camera}' alone.")
    options = settings.read_scene_options()
    look, look_prompt = get_kept_look(character) if character is not None else ("", "")
    owner = settings.id_data
    assert isinstance(owner, bpy.types.Scene)
    memory = msgspec.structs.replace(
        make_memory(owner),
        character=character.name if character is not None else "",
        frames=(span.first, span.last, span.step),
        look=look,
        look_prompt=look_prompt,
    )
    queued = QueuedShot(
        name=name,
        scene=scene.name,
        layer=layer,
        cameras=cameras,
        first=span.first,
        last=span.last,
        step=span.step,
        character=character.name if character is not None else "",
        subjects=options.subjects,
        character_only=options.character_only,
        request=request,
        size=settings.get_picture_size(scene) or (0, 0),
        scene_aspect=settings.use_scene_aspect,
        only_changed=settings.only_changed,
        look=look,
        output=settings.output,
        panel=write_memory(memory),
        queued=write_now(),
        own_camera=own_camera,
    )
    return queued, " ".join(filter(None, (guess, layer_guess, *list_unknown_choices(settings, shot.ShotRequest))))


def freeze_found(found: FoundShot, settings: LatentManSettings | None = None) -> tuple[QueuedShot, str]:
    """A shot that was found, as ``freeze_shot`` has it; ``settings`` are those of another scene, where these count."""
    scene = bpy.data.scenes.get(found.scene)
    if found.problem or scene is None:
        raise shot.ShotError("scene", found.problem or f"There is no scene '{found.scene}' any more.")
    return freeze_shot(scene, found.name, found.span, settings, found.layer, found.camera, own_camera=found.own_camera)


def find_named_camera(scene: bpy.types.Scene, name: str) -> bpy.types.Object:
    """The object with a name, of the scene or of another one. Raises ``ShotError``."""
    found: bpy.types.Object | None = scene.objects.get(name) or bpy.data.objects.get(name)
    if found is None:
        raise shot.ShotError("camera", f"There is no camera '{name}' in the file any more.")
    return found


def write_names(names: Sequence[str]) -> str:
    """Names in quotes, in one text."""
    return " and ".join(filter(None, [", ".join(f"'{name}'" for name in names[:-1]), *(f"'{name}'" for name in names[-1:])]))
