"""The box *Generate*: preview one frame, generate the whole range, cancel."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import bpy

from ...shared import console, shot
from .. import properties
from ..connection import connection
from ..tasks.shot import ShotTask
from ..tasks.task import Task
from ..typed_access import OperatorResult, get_scene
from .polls import NeedsCharacter, NeedsIdleConnection, Poll

PREVIEW_IMAGE = "LatentMan Preview"


def get_output_folder(settings: properties.LatentManSettings) -> Path:
    """The folder for results; an unsaved .blend uses the temporary folder, as it has none of its own."""
    if settings.output.startswith("//") and not bpy.data.filepath:
        return Path(bpy.app.tempdir or tempfile.gettempdir()) / "latentman"
    return Path(bpy.path.abspath(settings.output))


def _start_task(operator: bpy.types.Operator, context: bpy.types.Context, frames: tuple[int, ...], preview: bool) -> OperatorResult:
    settings, scene = properties.get_settings(context), get_scene(context)
    try:
        request = settings.add_look(settings.make_request(scene, frames))
        shot.check_request(request)
        folder = get_output_folder(settings)
        console.check_writable(folder)
        options = settings.read_scene_options()
        task = ShotTask(
            context,
            settings.character,
            request,
            connection.get_client(),
            folder,
            folder_per_job=True,
            scope=options.subjects.upper(),
            range_frames=settings.get_frames(scene),
            alpha=options.character_only,
            quick=preview,
        )
    except shot.ShotError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    task.add_done_callback(_show_preview if preview else partial(_add_result, scene_name=scene.name))
    connection.add(task)
    return {"FINISHED"}


def _show_preview(task: Task) -> None:
    """Load the finished frame as the image that the panel shows."""
    if not isinstance(task, ShotTask) or not task.succeeded:
        return
    old = bpy.data.images.get(PREVIEW_IMAGE)
    if old:
        bpy.data.images.remove(old)
    image = bpy.data.images.load(str(task.frames[0]))
    image.name = PREVIEW_IMAGE
    image.preview_ensure()


def _add_result(task: Task, scene_name: str) -> None:
    """Add finished frames to the scene's results, also those of a shot that was cancelled or failed."""
    scene = bpy.data.scenes.get(scene_name)
    if scene is None or not isinstance(task, ShotTask) or not task.frames:
        return
    settings, request = properties.get_scene_settings(scene), task.request
    result = settings.results.add()
    result.name, result.character = request.text.prompt, task.character
    result.folder, result.prompt, result.seed = str(task.folder), request.text.prompt, request.sampling.seed
    if task.succeeded:
        result.job, result.settings = task.job, properties.compute_settings_digest(request)
    result.start, result.count = request.frames[0], len(task.frames)
    result.step = request.frames[1] - request.frames[0] if len(request.frames) > 1 else 1
    figures = (task.report or {}).get("consistency", {})
    result.hmse = figures.get("hmse") or 0.0
    settings.active_result = len(settings.results) - 1


class PreviewFrame(NeedsIdleConnection, NeedsCharacter, bpy.types.Operator):
    bl_idname = "latentman.preview_frame"
    bl_label = "Preview Frame"
    bl_description = "Generate only the current frame and show it in the panel"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Start the task; the timer does the rest."""
        return _start_task(self, context, (get_scene(context).frame_current,), True)


class GenerateShot(NeedsIdleConnection, NeedsCharacter, bpy.types.Operator):
    bl_idname = "latentman.generate"
    bl_label = "Generate"
    bl_description = "Generate every frame of the range; each is stored as soon as it is finished"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Start the task; the timer does the rest."""
        return _start_task(self, context, properties.get_settings(context).get_frames(get_scene(context)), False)


class CancelGeneration(Poll, bpy.types.Operator):
    bl_idname = "latentman.cancel"
    bl_label = "Cancel"
    bl_description = "Stop generating the shot or the motion within one step; finished frames are kept"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while nothing is being generated."""
        return connection.busy or cls.refuse("Nothing is being generated")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Ask the backend to stop."""
        connection.cancel_tasks()
        return {"FINISHED"}


CLASSES = (PreviewFrame, GenerateShot, CancelGeneration)
