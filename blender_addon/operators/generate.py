"""The box *Generate*: preview one frame, generate the whole range, cancel."""

from __future__ import annotations

from functools import partial
from typing import Any

import bpy
from bpy.props import EnumProperty

from ...shared import console, shot
from ...shared.costume_files import check_files, with_files
from ...shared.reference import take_reference
from .. import properties, undo_steps
from ..connection import connection
from ..error_places import Place
from ..live_preview import live
from ..panel_memory import capture_panel
from ..passes.camera import find_camera
from ..passes.render import check_modes
from ..passes.render_set import check_bodies, get_bodies
from ..paths import get_file_folder, get_output_folder
from ..references import Reference, refer_to
from ..shot_notice import notice
from ..shot_start import ShotPlan, begin_shot, make_task, run
from ..shot_times import estimate_shot, write_question
from ..task_texts import is_cancelling
from ..tasks.shot import ShotTask
from ..tasks.task import Task
from ..typed_access import OperatorResult, get_scene
from ..wardrobe import read_all_files
from .dialogs import ask
from .polls import NeedsCharacter, NeedsIdleConnection, Poll
from .reports import report

PREVIEW_IMAGE = "LatentMan Preview"
#: how long a button waits for the backend to say how a model likes to be run; it has to read a few kilobytes for it
ANSWER_SECONDS = 3.0


def start_task(operator: bpy.types.Operator, context: bpy.types.Context, frames: tuple[int, ...], preview: bool) -> OperatorResult:
    """Start the task of a shot, or of one frame that the panel shows; what is wrong is reported, and stands in the panel's box."""
    settings, scene = properties.get_settings(context), get_scene(context)
    connection.errors.dismiss(Place.SHOT)
    notice.dismiss()
    try:
        learn_profile(settings)
        request, reference = take_reference(settings.make_request(scene, frames), get_file_folder())
        subjects = settings.read_scene_options().subjects
        costume = read_all_files(settings.character, settings.find_kept_look(), subjects, scene.objects)
        request = settings.add_look(with_files(request, costume))
        check_files(request, costume)
        shot.check_request(request)
        folder = get_output_folder(settings)
        console.check_writable(folder)
        options = settings.read_scene_options()
        expected = None if preview else estimate_shot(settings, scene, len(frames))
        plan = ShotPlan(
            settings.character,
            request,
            reference,
            options.subjects,
            options.character_only,
            settings.make_crop(scene, request),
            settings.get_frames(scene),
            folder,
            expected.seconds if expected is not None else None,
            capture_panel(scene),
            costume=costume,
        )
        if preview:
            task = make_task(context, plan, connection, preview=True)
            task.add_done_callback(partial(_show_preview, scene=refer_to(scene)))
            run(task, connection)
        else:
            begin_shot(context, plan, connection)
    except shot.ShotError as error:
        still_holds = partial(_has_error, str(error), refer_to(scene), frames)
        connection.errors.show(Place.SHOT, str(error), still_holds if still_holds() else None)
        report(operator, {"ERROR"}, str(error))
        return {"CANCELLED"}
    return {"FINISHED"}


def _has_error(sentence: str, reference: Reference, frames: tuple[int, ...]) -> bool:
    """Whether a shot of a scene would fail with this sentence before anything is sent, as far as that is quickly seen."""
    scene = reference.find()
    if scene is None:
        return False
    settings = properties.get_scene_settings(scene)
    try:
        request, _ = take_reference(settings.make_request(scene, frames), get_file_folder())
        shot.check_request(settings.add_look(request))
        find_camera(scene, frames[0])
        if settings.read_scene_options().subjects == "character":
            bodies = get_bodies(settings.character)
            check_bodies(bodies)
            check_modes([*bodies, settings.character])
    except shot.ShotError as error:
        return str(error) == sentence
    return False


def learn_profile(settings: properties.LatentManSettings) -> None:
    """Have the backend say how the model likes to be run, unless it has just done so. Raises ``ShotError``."""
    model = settings.get_model()
    known = connection.profiles.is_fresh(model) and not connection.profiles.find_error(model)
    if not known and connection.ask_profile(model, ANSWER_SECONDS) is None:
        raise shot.ShotError("model", f"The backend is still reading the model '{model}'; try again in a moment.")


def _show_preview(task: Task, scene: Reference) -> None:
    """Load the finished frame as the image that the panel shows, if its file is still open."""
    if not isinstance(task, ShotTask) or not task.succeeded or scene.find() is None:
        return
    path = str(task.frames[0])
    _load_preview(path)
    undo_steps.record("Preview Frame", lambda: PREVIEW_IMAGE in bpy.data.images, lambda: _load_preview(path))


def _load_preview(path: str) -> None:
    old = bpy.data.images.get(PREVIEW_IMAGE)
    if old:
        bpy.data.images.remove(old)
    image = bpy.data.images.load(path)
    image.name = PREVIEW_IMAGE
    image.preview_ensure()


class PreviewFrame(NeedsIdleConnection, NeedsCharacter, bpy.types.Operator):
    bl_idname = "latentman.preview_frame"
    bl_label = "Preview Frame"
    bl_description = "Generate only the current frame and show it in the panel"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Start the task; the timer does the rest."""
        return start_task(self, context, (get_scene(context).frame_current,), True)


class GenerateShot(NeedsIdleConnection, NeedsCharacter, bpy.types.Operator):
    bl_idname = "latentman.generate"
    bl_label = "Generate"
    bl_description = "Generate every frame of the range; each is stored as soon as it is finished"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask before a shot that takes more than a few minutes."""
        settings, scene = properties.get_settings(context), get_scene(context)
        frames = len(settings.get_frames(scene))
        title, message = write_question(frames, estimate_shot(settings, scene, frames))
        if not title:
            return self.execute(context)
        return ask(self, context, event, title, message, "Generate")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Start the task; the timer does the rest."""
        return start_task(self, context, properties.get_settings(context).get_frames(get_scene(context)), False)


class MatchSceneSize(Poll, bpy.types.Operator):
    bl_idname = "latentman.match_scene_size"
    bl_label = "Set Scene's Resolution"
    bl_description = (
        "Give the scene the resolution of the frames, so that the camera's frame in the viewport shows what is generated"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where the camera's frame is right already."""
        settings, scene = properties.get_settings(context), get_scene(context)
        return not settings.shows_frame(scene) or cls.refuse("The camera's frame shows what is generated")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Set the resolution and square pixels."""
        render = get_scene(context).render
        size = properties.get_settings(context).get_picture_size(get_scene(context))
        if size is None:
            return {"CANCELLED"}
        render.resolution_x, render.resolution_y = size
        render.pixel_aspect_x = render.pixel_aspect_y = 1.0
        return {"FINISHED"}


class CancelGeneration(Poll, bpy.types.Operator):
    bl_idname = "latentman.cancel"
    bl_label = "Cancel"
    bl_description = "Stop what is being made within one step; finished frames are kept"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while nothing is being generated."""
        task = connection.find_working_task()
        if task is not None and is_cancelling(task):
            return cls.refuse("It is being cancelled; the step that is under way ends first")
        return connection.busy or cls.refuse("Nothing is being generated")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Ask the backend to stop."""
        connection.cancel_tasks()
        return {"FINISHED"}


class WatchShot(Poll, bpy.types.Operator):
    bl_idname = "latentman.watch"
    bl_label = "Watch"
    bl_description = "Open a window that shows the key frames as they take shape, and each frame as it arrives"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while no shot is being made."""
        task = connection.shot_task
        return (task is not None and not task.done) or cls.refuse("No shot is being made")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Open an image editor in a window of its own."""
        manager: Any = context.window_manager
        image, before = live.make_image(), {window.as_pointer() for window in manager.windows}
        if bpy.ops.wm.window_new() != {"FINISHED"}:
            return {"CANCELLED"}
        window = next(window for window in manager.windows if window.as_pointer() not in before)
        area: Any = window.screen.areas[0]
        area.ui_type = "IMAGE_EDITOR"
        area.spaces.active.image = image
        return {"FINISHED"}


class DismissError(bpy.types.Operator):
    bl_idname = "latentman.dismiss_error"
    bl_label = "Dismiss"
    bl_description = "Take this message away"

    place: EnumProperty(
        name="Box",
        description="Whose message is taken away",
        items=tuple((place.name, place.value.capitalize(), f"The message about the {place.value}") for place in Place),
        options={"HIDDEN"},
    )

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Take the message of one box away."""
        connection.errors.dismiss(Place[self.place])
        connection.redraw()
        return {"FINISHED"}


CLASSES = (PreviewFrame, GenerateShot, MatchSceneSize, CancelGeneration, WatchShot, DismissError)
