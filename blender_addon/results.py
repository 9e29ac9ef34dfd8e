"""What a scene remembers of a generated shot: it is added when the shot ends, whatever the user has done meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import bpy

from ..shared import logs
from ..shared.dress_options import find_shot_frame
from ..shared.picture_size import Crop
from ..shared.shot import MAX_FRAMES, ShotError
from . import undo_steps
from .closed_files import find_file, find_scene
from .connection import connection
from .error_places import Place
from .event_handlers import EventHandlers
from .moving import copy_folder, remember_move, remove_folder
from .paths import get_output_folder, get_result_folder, is_temporary, make_stored_path
from .properties import LatentManSettings, compute_settings_digest, get_scene_settings
from .references import Reference, refer_to
from .removed_files import remove_copies
from .result_places import refresh_places, show_instead
from .result_properties import LatentManResult, read_crop
from .result_shelf import shelf
from .result_words import write_now
from .shot_notice import notice, write_notice
from .tasks.fetch import FetchTask
from .tasks.frames_folder import count_own, list_frames
from .tasks.shot import ShotTask
from .tasks.task import Task
from .viewer import reread

logger = logs.get_logger(__name__)


@dataclass(frozen=True)
class ResultRecord:
    """A shot's result without any of Blender's data, by the names of ``LatentManResult``; ``ticket`` tells it from all others."""

    ticket: str
    folder: Path
    job: str
    settings: str
    character: str
    prompt: str
    seed: int
    start: int
    step: int
    count: int
    hmse: float
    transparent: bool
    camera: str
    crop: Crop | None
    created: str
    preset: str
    model: str
    size: tuple[int, int]
    total: int
    made: int
    kept: int
    panel: str
    costume: str = ""


@dataclass(frozen=True)
class _Homeless:
    """A result whose file was closed before the end of its shot."""

    file: str
    scene: str
    record: ResultRecord


_homeless: list[_Homeless] = []


def make_record(task: ShotTask, panel: str = "") -> ResultRecord:
    """The result of a shot that has ended, complete or not; ``panel`` are the settings that it was started with."""
    request, report = task.request, task.report or {}
    figures, counts = report.get("consistency") or {}, report.get("frames") or {}
    size = (task.crop.width, task.crop.height) if task.crop is not None else (request.width, request.height)
    # the shot's own frames in a dressing are no part of its turntable
    total = sum(find_shot_frame(number) is None for number in request.frames)
    return ResultRecord(
        ticket=task.ticket,
        folder=task.folder,
        job=task.job,
        # only a finished shot has a look that others can keep
        settings=compute_settings_digest(request) if task.succeeded else "",
        character=task.character,
        prompt=request.text.prompt,
        seed=request.sampling.seed,
        start=request.frames[0],
        step=request.frames[1] - request.frames[0] if len(request.frames) > 1 else 1,
        count=count_own(task.folder, task.frames.values()),
        hmse=figures.get("hmse") or 0.0,
        transparent=task.transparent,
        camera=task.camera,
        crop=task.crop,
        created=write_now(),
        preset=request.preset,
        model=request.sampling.model,
        size=size,
        total=total,
        made=min(_read_count(counts.get("made")), total),
        kept=_read_count(counts.get("kept")),
        panel=panel,
        costume=task.wears,
    )


def _read_count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= MAX_FRAMES else 0


def add_result(task: ShotTask, scene: Reference, file: str, panel: str = "") -> Reference:
    """Add a shot's result to the scene that it was started from, or bring the one up to date that has the same frames; ``file`` is
    that scene's file, ``panel`` the settings that it was started with. Returns the scene, another reference where its file was
    closed and opened again meanwhile.

    Where the scene is not open any more, the task's ``error`` says where the frames are.
    """
    if not task.frames:
        return scene
    record = make_record(task, panel)
    if scene.find() is None:
        closed = find_file(scene)
        again = find_scene(*closed) if closed is not None else None
        if again is None:
            _homeless.append(_Homeless(*(closed or (file, scene.name)), record))
            task.error = task.error or (
                f"The scene '{scene.name}' was closed before its shot ended; the frames are in {task.folder}. Open its file to see "
                "the result, or generate again."
            )
            return scene
        scene = refer_to(again)
    place = _find_repeated(record, task.request.look, scene)
    if place is not None:
        # nothing has changed since: the list and the disk keep one of them
        settings = get_scene_settings(scene.find())
        settings.active_result = place
        remove_copies(record.folder)
        notice.show(f"Nothing has changed: the result has these {record.count} frames already", settings.results[place].ticket)
        return scene
    record = _settle(record, get_scene_settings(scene.find()))
    _write(record, scene)
    undo_steps.record("Generate", lambda: _has(record, scene), lambda: _write(record, scene))
    seconds = task.seconds.get("backend", 0.0)
    notice.show(write_notice(record.count, record.total, record.made, record.kept, seconds), record.ticket)
    return scene


def _find_repeated(record: ResultRecord, look: str, reference: Reference) -> int | None:
    """The place of the result that has every frame of this one, all of which were taken over from it and are there; None where
    something is new."""
    if record.made or record.kept != record.total or record.count != record.total or not look:
        return None
    for place, old in enumerate(get_scene_settings(reference.find()).results):
        if old.job != look or old.settings != record.settings or get_result_folder(old) == record.folder:
            continue
        shot_of_old = (old.character, old.camera, old.start, old.step, old.count, old.transparent, read_crop(old))
        shot_of_new = (record.character, record.camera, record.start, record.step, record.count, record.transparent, record.crop)
        if shot_of_old == shot_of_new and len(list_frames(get_result_folder(old))) >= record.count:
            return place
    return None


def _settle(record: ResultRecord, settings: LatentManSettings) -> ResultRecord:
    """The record with its frames beside the file, where that was saved for the first time while the shot ran."""
    if not bpy.data.filepath or not is_temporary(record.folder):
        return record
    target = get_output_folder(settings) / record.folder.name
    try:
        copy_folder(record.folder, target)
    except OSError:
        logger.exception("the frames stay in %s", record.folder)
        return record
    remove_folder(record.folder)
    remember_move(record.folder, target)
    return replace(record, folder=target)


def _has(record: ResultRecord, reference: Reference) -> bool:
    scene = reference.find()
    return scene is None or any(result.ticket == record.ticket for result in get_scene_settings(scene).results)


def _write(record: ResultRecord, reference: Reference) -> None:
    scene = reference.find()
    if scene is None:
        return
    settings = get_scene_settings(scene)
    place = next((n for n, old in enumerate(settings.results) if get_result_folder(old) == record.folder), None)
    result: LatentManResult = settings.results.add() if place is None else settings.results[place]
    # the same shot generated again is the same entry: a name of the user's and the star stay
    if place is None or result.name == result.prompt:
        result.name = record.prompt
    if place is None or result.count < record.total or not result.created:
        result.created = record.created
    result.folder = make_stored_path(record.folder, settings.output)
    crop = record.crop
    result.crop = (crop.left, crop.top, crop.width, crop.height) if crop is not None else (0, 0, 0, 0)
    for one in fields(record):
        if one.name not in ("folder", "crop", "created"):
            setattr(result, one.name, getattr(record, one.name))
    settings.active_result = len(settings.results) - 1 if place is None else place
    # what shows an earlier result of this shot shows this one from now on; the earlier one stays in the list
    _update_places(result, [get_result_folder(old) for old in settings.results if _is_remade(old, result)])


def _is_remade(old: LatentManResult, new: LatentManResult) -> bool:
    """Whether a result is an earlier one of the same shot, seen by the same camera and made with the same settings."""
    names = ("settings", "character", "camera", "start", "step", "count", "transparent")
    same = all(getattr(old, name) == getattr(new, name) for name in names) and tuple(old.crop) == tuple(new.crop)
    return same and bool(new.settings) and old.folder != new.folder


def _update_places(result: LatentManResult, instead: Sequence[Path] = ()) -> None:
    """Have what shows a result's frames read them anew, and what shows the frames in the folders ``instead`` show them, too; films
    are often cut in another scene than the shot's."""
    try:
        for scene in bpy.data.scenes:
            for folder in instead:
                show_instead(scene, folder, result)
            refresh_places(scene, result)
        folders = [get_result_folder(result), *instead]
        shelf.forget(folders)
        reread(folders[0])
    except ShotError as error:
        logger.exception("what shows the result could not be updated")
        connection.errors.show(Place.RESULT, f"What shows the result could not be updated: {error}")


def update_fetched(task: Task, scene: Reference, old: Path) -> None:
    """Have the results of a fetched job, whose frames were in the folder ``old``, point at the frames that are there again."""
    found = scene.find()
    if not isinstance(task, FetchTask) or not task.frames or found is None:
        return
    settings = get_scene_settings(found)
    for result in settings.results:
        if result.job == task.job and get_result_folder(result) in (old, task.folder):
            count = count_own(task.folder, task.frames.values())
            result.count = max(result.count, count)
            result.folder = make_stored_path(task.folder, settings.output)
            if task.succeeded and count < result.count:
                task.error = f"{count} of {result.count} frames are left; generate the shot again to complete it."
    if old != task.folder:
        remember_move(old, task.folder)
    for result in settings.results:
        if get_result_folder(result) == task.folder:
            _update_places(result)
    undo_steps.push("Fetch Again")


def _on_load(*_: object) -> None:
    notice.dismiss()
    _add_homeless()


def _add_homeless() -> None:
    """Give a file that was opened again the results of the shots that ended while it was closed."""
    for homeless in list(_homeless):
        scene = find_scene(homeless.file, homeless.scene)
        if scene is not None:
            _homeless.remove(homeless)
            reference = refer_to(scene)
            if not _has(homeless.record, reference):
                _write(homeless.record, reference)


_handlers = EventHandlers(load_post=_on_load)


def register() -> None:
    """Listen to the opening of files."""
    _handlers.register()


def unregister() -> None:
    """Stop listening."""
    _handlers.unregister()
    _homeless.clear()
