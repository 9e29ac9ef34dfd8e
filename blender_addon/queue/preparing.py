"""Makes the plan of a queued shot when its turn comes: the settings are as they were queued, the scene is as it is now."""

from __future__ import annotations

import bpy
import msgspec

from ...shared import console, shot
from ...shared.costume_files import check_files, with_files
from ...shared.model_profile import complete_request
from ...shared.reference import take_reference
from ..model_profiles import ProfileBook
from ..passes.camera import list_cameras
from ..paths import find_output_folder, get_file_folder
from ..properties import get_frame_aspect, get_scene_settings
from ..shot_start import ShotPlan
from ..shot_times import estimate_request
from ..timing import frame_rate
from ..typed_access import ScenePlace
from ..wardrobe import read_all_files
from .binding import Bound
from .freezing import write_names
from .rows import QueuedShot


def prepare(queued: QueuedShot, bound: Bound | None, profiles: ProfileBook) -> tuple[ScenePlace, ShotPlan]:
    """Where a queued shot is made, and the plan of it; ``bound`` is what its names mean, None where that was never known. Raises
    ``ShotError`` for one that cannot be made as it was queued."""
    scene: bpy.types.Scene | None = bound.scene.find() if bound is not None else None
    if bound is None or scene is None:
        raise shot.ShotError(
            "scene",
            f"There is no scene '{queued.scene}' in the file any more; bring it back and press Queue Again, or remove the row.",
        )
    layer = scene.view_layers.get(queued.layer)
    if layer is None:
        raise shot.ShotError(
            "scene", f"There is no view layer '{queued.layer}' in the scene '{scene.name}' any more; queue the shot again."
        )
    character = _find_character(queued, bound, scene)
    camera = _find_own_camera(queued, bound)
    _check_cameras(queued, scene, camera)
    model = queued.request.sampling.model
    profile = profiles.find(model)
    if profile is None:
        raise shot.ShotError("model", profiles.find_error(model) or f"The backend does not know the model '{model}'.")
    frames = queued.frames
    request = msgspec.structs.replace(queued.request, frames=frames, fps=frame_rate(scene))
    aspect = get_frame_aspect(scene) if queued.scene_aspect else None
    request, crop = complete_request(request, profile, queued.size, aspect)
    request, reference = take_reference(request, get_file_folder())
    costume = read_all_files(character, queued.look, queued.subjects, scene.objects)
    request = with_files(request, costume)
    request = get_scene_settings(scene).choose_look(request, queued.look, queued.character, only_changed=queued.only_changed)
    shot.check_request(request)
    check_files(request, costume)
    folder = find_output_folder(queued.output)
    console.check_writable(folder)
    size = (crop.width, crop.height) if crop is not None else (request.width, request.height)
    expected = estimate_request(request, size)
    plan = ShotPlan(
        character,
        request,
        reference,
        queued.subjects,
        queued.character_only,
        crop,
        frames,
        folder,
        expected.seconds if expected is not None else None,
        queued.panel,
        camera,
        costume,
    )
    return ScenePlace(scene, layer), plan


def _find_character(queued: QueuedShot, bound: Bound, scene: bpy.types.Scene) -> bpy.types.Object | None:
    if not queued.character:
        return None
    found: bpy.types.Object | None = bound.character.find() if bound.character is not None else None
    if found is None or scene.objects.get(found.name) != found:
        raise shot.ShotError(
            "character",
            f"There is no '{queued.character}' in the scene '{scene.name}' any more; bring it back and press Queue Again, or "
            "remove the row.",
        )
    return found


def _find_own_camera(queued: QueuedShot, bound: Bound) -> bpy.types.Object | None:
    if not queued.own_camera:
        return None
    reference = bound.cameras[0]
    found: bpy.types.Object | None = reference.find() if reference is not None else None
    if found is None:
        raise shot.ShotError(
            "camera",
            f"There is no camera '{queued.cameras[0]}' in the file any more; bring it back and press Queue Again, or remove "
            "the row.",
        )
    return found


def _check_cameras(queued: QueuedShot, scene: bpy.types.Scene, chosen: bpy.types.Object | None) -> None:
    now = tuple(one.name for one in list_cameras(scene, queued.frames, chosen))
    if now != queued.cameras:
        raise shot.ShotError(
            "camera",
            f"The frames were queued to be seen through {write_names(queued.cameras)}, and '{scene.name}' shows them through "
            f"{write_names(now)} now; bring that camera back and press Queue Again, or queue the shot anew.",
        )
