"""Begins the dressing of a character in the window, and has it wear what comes of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import bpy

from ..shared import shot
from . import undo_steps
from .connection import Connection
from .panel_memory import capture_panel
from .passes.staged_character import StagedCharacter
from .paths import get_result_folder, resolve
from .properties import LatentManSettings, get_kept_look, get_scene_settings
from .references import Reference, refer_to
from .results import add_result
from .shot_start import run, show_drafts, show_frame
from .tasks.dress import DressTask, make_dress_request
from .tasks.frames_folder import COSTUME_FILE, LOOK_FOLDER
from .tasks.task import Task
from .typed_access import SceneContext, get_scene
from .wardrobe import wear


def begin_dress(
    place: SceneContext,
    settings: LatentManSettings,
    request: shot.ShotRequest,
    reference: bytes,
    staged: StagedCharacter,
    folder: Path,
    connection: Connection,
) -> DressTask:
    """Begin to dress the panel's character; when it is done, the views are among the results, and the character wears the costume.
    Raises ``ShotError``."""
    scene, character = get_scene(place), settings.character
    assert character is not None
    own, files = make_dress_request(request, staged)
    task = DressTask(
        place,
        character,
        own,
        connection.get_client(),
        folder,
        folder_per_job=True,
        reference=reference,
        costume=files,
        staging=staged.staging,
        on_draft=show_drafts,
        on_message=partial(show_frame, connection),
    )
    file, panel = bpy.data.filepath, capture_panel(scene)
    task.add_done_callback(partial(_finish, scene=refer_to(scene), character=refer_to(character), file=file, panel=panel))
    run(task, connection)
    return task


def _finish(task: Task, scene: Reference, character: Reference, file: str, panel: str) -> None:
    """Add the views to the scene's results, and have the character wear the costume."""
    if not isinstance(task, DressTask):
        return
    started, scene = scene, add_result(task, scene, file, panel)
    path = task.folder / LOOK_FOLDER / COSTUME_FILE
    found = scene.find()
    if not task.succeeded or not path.exists() or found is None:
        return
    if scene != started and (again := found.objects.get(character.name)) is not None:
        # its file was closed and opened again meanwhile
        character = refer_to(again)
    # beside the file, where that was saved for the first time meanwhile
    result = next((one for one in get_scene_settings(found).results if one.ticket == task.ticket), None)
    place = get_result_folder(result) if result is not None else task.folder
    if result is not None and result.name == result.prompt:
        result.name = f"Dress: {result.prompt}"
    path = place / LOOK_FOLDER / COSTUME_FILE
    prompt = task.request.text.prompt

    def put_on() -> None:
        owner, where = character.find(), scene.find()
        if owner is not None and where is not None:
            wear(owner, path, prompt, get_scene_settings(where).output)

    def is_worn() -> bool:
        owner = character.find()
        return owner is None or resolve(get_kept_look(owner)[0]) == path

    put_on()
    undo_steps.record("Dress", is_worn, put_on)
