"""Generate: preview one frame, make the whole range, cancel."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import bpy

from ...shared import console, shot
from .. import properties
from ..connection import Connection, connection
from ..tasks.shot import ShotTask

PREVIEW_IMAGE = "LatentMan Preview"


def is_free(cls, connection: Connection) -> bool:
    """Poll: a backend is there and has nothing else to do."""
    if not connection.connected:
        cls.poll_message_set("The backend is not running; press Start above")
        return False
    if connection.busy:
        cls.poll_message_set("A shot or a motion is being made; wait or cancel it")
        return False
    return True


def _ready(cls, context) -> bool:
    if not is_free(cls, connection):
        return False
    cls.poll_message_set("Pick a character first")
    return properties.of(context).character is not None


def output_folder(settings: properties.LatentManSettings) -> Path:
    """Where results go; an unsaved file has no folder of its own."""
    if settings.output.startswith("//") and not bpy.data.filepath:
        return Path(bpy.app.tempdir or tempfile.gettempdir()) / "latentman"
    return Path(bpy.path.abspath(settings.output))


def _begin(operator: bpy.types.Operator, context, frames: tuple[int, ...], preview: bool) -> set[str]:
    settings, scene = properties.of(context), context.scene
    try:
        request = settings.with_look(settings.request(scene, frames))
        shot.check_request(request)
        folder = output_folder(settings)
        console.check_writable(folder)
        task = ShotTask(
            context,
            settings.character,
            request,
            connection.client,
            folder,
            folder_per_job=True,
            subjects=settings.subjects.upper(),
            range_frames=settings.frames(scene),
            alpha=settings.character_only,
            quick=preview,
        )
    except shot.ShotError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    task.add_done_callback(_show_preview if preview else partial(_remember, scene_name=scene.name))
    connection.add(task)
    return {"FINISHED"}


def _show_preview(task: ShotTask) -> None:
    if not task.succeeded:
        return
    old = bpy.data.images.get(PREVIEW_IMAGE)
    if old:
        bpy.data.images.remove(old)
    image = bpy.data.images.load(str(task.frames[0]))
    image.name = PREVIEW_IMAGE
    image.preview_ensure()


def _remember(task: ShotTask, scene_name: str) -> None:
    """Add finished frames, also those of a generation that ended early, to the scene's results."""
    scene = bpy.data.scenes.get(scene_name)
    if scene is None or not task.frames:
        return
    settings, request = scene.latentman, task.request
    result = settings.results.add()
    result.name, result.character = request.text.prompt, task.character
    result.folder, result.prompt, result.seed = str(task.folder), request.text.prompt, request.sampling.seed
    if task.succeeded:
        result.job, result.settings = task.job, properties.settings_digest(request)
    result.start, result.count = request.frames[0], len(task.frames)
    result.step = request.frames[1] - request.frames[0] if len(request.frames) > 1 else 1
    figures = (task.report or {}).get("consistency", {})
    result.hmse = figures.get("hmse") or 0.0
    settings.active_result = len(settings.results) - 1


class PreviewFrame(bpy.types.Operator):
    """Generate the current frame only and show it in the panel"""

    bl_idname = "latentman.preview_frame"
    bl_label = "Preview Frame"

    @classmethod
    def poll(cls, context):
        """Needs a backend and a character."""
        return _ready(cls, context)

    def execute(self, context):
        """Begin; the timer does the rest."""
        return _begin(self, context, (context.scene.frame_current,), True)


class GenerateShot(bpy.types.Operator):
    """Generate every frame of the range; frames are stored as they are finished"""

    bl_idname = "latentman.generate"
    bl_label = "Generate"

    @classmethod
    def poll(cls, context):
        """Needs a backend and a character."""
        return _ready(cls, context)

    def execute(self, context):
        """Begin; the timer does the rest."""
        return _begin(self, context, properties.of(context).frames(context.scene), False)


class CancelGeneration(bpy.types.Operator):
    """Stop the shot or the motion that is being made within one step; finished frames are kept"""

    bl_idname = "latentman.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context):
        """Only while something runs."""
        cls.poll_message_set("Nothing is being made")
        return connection.busy

    def execute(self, context):
        """Ask the backend to stop."""
        connection.cancel_tasks()
        return {"FINISHED"}


CLASSES = (PreviewFrame, GenerateShot, CancelGeneration)
