"""The history of results: what it says, what its buttons do, and what undo, saving, other files and hands do to it."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from latentman.backend.pictures import encode_png, read_png
from latentman.blender_addon import (
    closed_files,
    panels,
    properties,
    removed_files,
    result_shelf,
    results,
    results_panel,
    sequencer_panel,
    viewer,
)
from latentman.blender_addon.chosen_result import find_strip_result, refer_to_result
from latentman.blender_addon.compat import find_active_strip, get_strip_range, get_strips, select_strip
from latentman.blender_addon.editors import show_textures
from latentman.blender_addon.operators import result_list, viewing
from latentman.blender_addon.operators.results import get_result
from latentman.blender_addon.panel_memory import apply_memory, capture_panel, read_memory, use_memory
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.paths import get_result_folder, resolve
from latentman.blender_addon.references import refer_to
from latentman.blender_addon.result_words import (
    describe_consistency,
    describe_date,
    describe_frames,
    describe_rank,
    describe_steadiness,
    write_removal,
)
from latentman.blender_addon.results import add_result
from latentman.blender_addon.shot_notice import notice, write_notice
from latentman.blender_addon.tasks.frames_folder import list_frames, store_report
from latentman.shared import shot

pytestmark = pytest.mark.usefixtures("registered_parts", "history")


@pytest.fixture(scope="module")
def history(registered_parts):
    """The parts that the history is made of, as in Blender."""
    for part in (closed_files, removed_files, viewer, result_shelf, results, panels):
        part.register()
    yield
    for part in (panels, results, result_shelf, viewer, removed_files, closed_files):
        part.unregister()


@pytest.fixture
def settings(shot_scene, character, tmp_path):
    """The panel with a character and a folder for its results."""
    settings = properties.get_settings(bpy.context)
    settings.character, settings.output = character, str(tmp_path / "out")
    settings.prompt, settings.seed = "a knight", 5
    settings.use_scene_range, settings.frame_start, settings.frame_end = False, 2, 4
    yield settings
    notice.dismiss()
    viewer.close_viewer()


def _settings():
    return properties.get_settings(bpy.context)


def _paint(folder, numbers, level=100, size=(8, 6)):
    (folder / "look").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pixels = np.full((size[1], size[0], 3), level, np.uint8)
        pixels[0, 0] = number % 256
        (folder / f"{number:04d}.png").write_bytes(encode_png(pixels))
    texture = np.zeros((4, 4, 4), np.uint8)
    texture[:2] = (level, 0, 0, 255)
    (folder / "look" / "texture_1.png").write_bytes(encode_png(texture))


def _end_shot(
    job,
    *,
    seed=5,
    prompt="a knight",
    numbers=(2, 3, 4),
    wanted=3,
    hmse=20.0,
    kept=0,
    level=100,
    ticket=None,
    folder=None,
    meanwhile=lambda: None,
):
    """A shot that has just ended, as its task tells of it; ``meanwhile`` is called before its end. None where it has no result."""
    settings = _settings()
    folder = folder or resolve(settings.output) / job
    _paint(folder, numbers, level)
    request = shot.make_request(
        prompt=prompt, frames=tuple(range(2, 2 + wanted)), fps=20.0, seed=seed, width=8, height=6, steps=3, preset="cross_frame"
    )
    report = {"consistency": {"hmse": hmse}, "frames": {"made": wanted - kept, "kept": kept}}
    done = len(numbers) == wanted
    scene = bpy.context.scene
    task = SimpleNamespace(
        request=request,
        report=report if done else None,
        ticket=ticket or f"ticket-{job}-{seed}",
        folder=folder,
        job=job,
        succeeded=done,
        character=settings.character.name,
        frames={n: folder / f"{number:04d}.png" for n, number in enumerate(numbers)},
        transparent=False,
        wears="",
        camera=scene.camera.name,
        crop=None,
        seconds={"backend": 65.0} if done else {},
        error="",
    )
    started = refer_to(scene), bpy.data.filepath, capture_panel(scene)
    meanwhile()
    add_result(task, *started)
    settings = _settings()
    return None if task.error else settings.results[settings.active_result]


# -- words


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((8, 8, 1, 7), "8 frames: 1 new, 7 kept"),
        ((8, 8, 8, 0), "8 frames"),
        ((8, 8, 0, 8), "8 frames: 0 new, 8 kept"),
        ((1, 1), "1 frame"),
        ((24, 0), "24 frames"),
        # figures that do not belong together are not shown
        ((8, 8, 3, 7), "8 frames"),
    ],
)
def test_frames_in_words(arguments, text):
    assert describe_frames(*arguments) == text


def test_partial_shots_dates_and_removal_in_words():
    assert describe_frames(5, 8, partial=True) == "5 of 8 frames: stopped early"
    assert describe_frames(5, 0, partial=True) == "5 frames: stopped early"
    now = datetime(2026, 11, 27, 12, 0, tzinfo=UTC).astimezone()
    assert describe_date((now - timedelta(minutes=5)).isoformat(), now).startswith("today ")
    assert describe_date((now - timedelta(days=1)).isoformat(), now).startswith("yesterday ")
    assert describe_date((now - timedelta(days=40)).isoformat(), now) == "18 Oct"
    assert describe_date((now - timedelta(days=400)).isoformat(), now) == "23 Oct 2025"
    assert describe_date("", now) == "" == describe_date("long ago", now)
    assert "stay where they are" in write_removal(["x"], 3, 8, files=False)[1]
    lines = write_removal(["x", "y"], 1, 8, files=True)
    worn = write_removal(["x"], 0, 8, ["Anna"], files=True)
    assert worn[2].startswith("'Anna' wears a costume") and "Save Costume" in worn[2]
    assert write_removal(["x"], 0, 0, ["Anna", "Ben"], files=True)[1].startswith("2 characters wear a costume")
    assert not any("costume" in line for line in write_removal(["x"], 0, 8, ["Anna"], files=False))
    assert lines[0] == "Remove 2 results from the list?" and "8 frames" in lines[1] and "1 place in this file shows" in lines[2]


def test_consistency_in_words_and_against_the_shots_own_range():
    assert [describe_steadiness(one) for one in (0, 12, 27, 100, 269)] == [
        "",
        "very steady",
        "steady",
        "flickers a little",
        "flickers",
    ]
    others = [10.0 * n for n in range(1, 11)]
    assert describe_rank(15, others) == "steadier than 9 of the 10 other versions"
    assert (
        describe_rank(5, others) == "the steadiest of 11 versions"
        and describe_rank(500, others) == "the least steady of 11 versions"
    )
    assert (
        describe_rank(5, [9]) == "steadier than the other version"
        and describe_rank(9, [5]) == "not steadier than the other version"
    )
    # what has no figure, as a single frame, is not compared
    assert describe_rank(5, [0.0]) == "" == describe_rank(0, [5]) and describe_consistency(0, [5, 6]) == ""
    assert describe_consistency(15, others) == "Very steady: steadier than 9 of the 10 other versions"


# -- what is kept


def test_a_result_tells_what_it_was_made_with(settings):
    result = _end_shot("aa", kept=2)
    assert result.name == result.prompt == "a knight" and (result.preset, result.model) == ("cross_frame", "starter")
    assert tuple(result.size) == (8, 6) and (result.count, result.total, result.made, result.kept) == (3, 3, 1, 2)
    assert describe_date(result.created).startswith("today ")
    assert results_panel.write_facts(result) == [
        "Cross-frame · starter · seed 5",
        f"3 frames: 1 new, 2 kept · 8x6 · {describe_date(result.created)}",
        "Steady",
    ]
    _end_shot("bb", hmse=30.0)
    assert results_panel.write_facts(settings.results[0])[-1] == "Steady: steadier than the other version"
    assert notice.text == "Done: 3 frames, in 1 min" and notice.ticket == "ticket-bb-5"


def test_the_same_shot_again_is_the_same_entry(settings):
    _end_shot("other")
    result = _end_shot("aa", numbers=(2, 3))
    assert notice.text == "Stopped: 2 of 3 frames are kept" and results_panel.is_partial(result)
    result.name, result.starred = "the good one", True
    again = _end_shot("aa", ticket="second")
    assert len(settings.results) == 2 and settings.active_result == 1 and not results_panel.is_partial(again)
    assert (again.name, again.starred, again.ticket, again.count) == ("the good one", True, "second", 3)
    made = again.created
    again.created = "2020-01-01T10:00:00+00:00"
    _end_shot("aa", ticket="third")
    # it was whole already: nothing new was made
    assert settings.results[1].created == "2020-01-01T10:00:00+00:00" != made and len(settings.results) == 2


def test_an_older_results_fields_are_not_invented(settings, tmp_path):
    result = settings.results.add()
    result.name = result.prompt = "old"
    result.count, result.seed, result.settings, result.folder = 4, 1, "digest", str(tmp_path / "gone")
    settings.active_result = 0
    assert results_panel.write_facts(result) == ["seed 1", "4 frames"] and not results_panel.is_partial(result)
    result.settings = ""
    assert results_panel.write_facts(result)[1] == "4 frames: stopped early"
    settings.prompt = "another"
    assert bpy.ops.latentman.restore_settings() == {"FINISHED"} and settings.prompt == "old" and settings.seed == 1


# -- settings that come back


def _read_panel():
    return read_memory(capture_panel(bpy.context.scene))


def test_restore_settings_gives_back_all_of_the_panel_and_leaves_the_rest(settings, character):
    settings.preset, settings.steps, settings.guidance_scale, settings.scheduler = "latentman", 7, 3.3, "euler"
    settings.techniques.alignment.use = "ON"
    settings.techniques.alignment.until, settings.techniques.guidance.use = 0.25, "OFF"
    settings.techniques.plugins, settings.subjects, settings.keep_background = "mine:x=1", "scene", True
    character.latentman_look = "f" * 24
    before = _read_panel()
    _end_shot("aa")
    for name, value in dict(preset="surface", steps=0, guidance_scale=0.0, scheduler="MODEL", prompt="a cat", seed=9).items():
        setattr(settings, name, value)
    settings.techniques.alignment.use = settings.techniques.guidance.use = "PRESET"
    settings.techniques.fusion.use = "ON"
    settings.techniques.plugins, settings.subjects, settings.keep_background = "", "character", False
    settings.use_scene_range, settings.character = True, None
    character.latentman_look, output = "", settings.output
    settings.motion.text = "a person bows"
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.latentman.restore_settings() == {"FINISHED"}
    assert _read_panel() == before and settings.character == character and settings.output == output
    assert settings.motion.text == "a person bows" and len(settings.results) == 1 and settings.techniques.alignment.until == 0.25
    assert settings.get_frames(bpy.context.scene) == (2, 3, 4) and character.latentman_look == "f" * 24
    bpy.ops.ed.undo_push(message="Restore Settings")
    assert bpy.ops.ed.undo() == {"FINISHED"}
    now = _settings()
    assert now.prompt == "a cat" and now.character is None and now.use_scene_range and now.techniques.fusion.use == "ON"


def test_what_another_version_stored_is_told(settings):
    memory = read_memory(capture_panel(bpy.context.scene))
    values = {**memory.values, "no_such_setting": 3, "preset": "from_the_future", "steps": 9}
    notes = apply_memory(bpy.context.scene, type(memory)(values, {"no_technique": {"use": "ON"}}, character="Nobody"))
    assert settings.steps == 9 and settings.preset != "from_the_future"
    assert any("no such setting, preset, no technique" in note or "preset" in note for note in notes)
    assert any("no 'Nobody'" in note for note in notes)
    assert read_memory("") is None and read_memory("{") is None and read_memory('{"values": 3}') is None


def test_settings_come_back_from_the_report_of_an_earlier_version(settings):
    method = shot.METHODS["surface"]
    request = shot.make_request(
        prompt="a robot", frames=(10, 12, 14), fps=20.0, seed=77, steps=4, width=64, height=64, scheduler="euler",
        method=shot.Method(matching="surface", background=method.background, fusion=shot.Fusion(sharpness=3.0)),
    )  # fmt: skip
    result = _end_shot("aa")
    result.panel = ""
    folder = get_result_folder(result)
    import msgspec

    store_report(folder, {"settings": msgspec.to_builtins(request)}, {})
    assert bpy.ops.latentman.restore_settings() == {"FINISHED"}
    assert (settings.prompt, settings.seed, settings.scheduler) == ("a robot", 77, "euler")
    made = settings.make_request(bpy.context.scene, settings.get_frames(bpy.context.scene))
    assert made.get_method() == request.get_method() and made.frames == request.frames
    (folder / "report.json").write_text('{"settings": {"text": 3}}')
    settings.prompt = "x"
    assert bpy.ops.latentman.restore_settings() == {"FINISHED"} and settings.prompt == "a knight"


def test_settings_are_borrowed_for_a_shot_and_given_back(settings, character):
    memory = read_memory(capture_panel(bpy.context.scene))
    settings.prompt, settings.use_scene_range, settings.techniques.fusion.use = "a cat", True, "OFF"
    character.latentman_look = "e" * 24
    before = _read_panel()
    with pytest.raises(KeyError), use_memory(bpy.context.scene, memory):
        assert settings.prompt == "a knight" and settings.get_frames(bpy.context.scene) == (2, 3, 4)
        assert not character.latentman_look
        raise KeyError
    assert _read_panel() == before and settings.use_scene_range and character.latentman_look == "e" * 24


# -- remove


def test_remove_keeps_files_unless_asked(settings):
    result = _end_shot("aa")
    folder = get_result_folder(result)
    _end_shot("bb")
    settings.active_result = 0
    assert bpy.ops.latentman.remove_result() == {"FINISHED"}
    assert [one.job for one in settings.results] == ["bb"] and len(list_frames(folder)) == 3


def test_removed_files_are_back_after_undo_and_gone_after_saving(settings, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "film.blend"))
    folder = get_result_folder(_end_shot("aa"))
    (folder / "notes.txt").write_text("mine")
    (folder / "painted over.psd").write_text("mine, too")
    bpy.ops.wm.save_mainfile()
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.latentman.remove_result(files=True) == {"FINISHED"}
    bpy.ops.ed.undo_push(message="Remove")
    assert not _settings().results and sorted(path.name for path in folder.iterdir()) == ["notes.txt", "painted over.psd"]
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert len(_settings().results) == 1 and len(list_frames(folder)) == 3 and (folder / "look" / "texture_1.png").is_file()
    assert bpy.ops.ed.redo() == {"FINISHED"} and not _settings().results and not list_frames(folder)
    # closed without saving: the file on disk still has it
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "film.blend"))
    assert len(_settings().results) == 1 and len(list_frames(folder)) == 3
    assert bpy.ops.latentman.remove_result(files=True) == {"FINISHED"}
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "film.blend"))
    assert not _settings().results and sorted(path.name for path in folder.parent.rglob("*")) == [
        "aa",
        "notes.txt",
        "painted over.psd",
    ]


def test_a_file_that_was_opened_again_meanwhile_has_the_result(settings, tmp_path):
    path = str(tmp_path / "film.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    result = _end_shot("aa", meanwhile=lambda: bpy.ops.wm.open_mainfile(filepath=path))
    assert result is not None and result.job == "aa" and [one.job for one in _settings().results] == ["aa"]
    # another scene that has taken the name of one that is deleted is another scene
    scene = bpy.context.scene
    name = scene.name

    def replace():
        bpy.data.scenes.new("Other")
        bpy.data.scenes.remove(scene)
        bpy.data.scenes["Other"].name = name

    assert _end_shot("bb", meanwhile=replace) is None and not bpy.data.scenes[name].latentman.results


def test_a_file_that_was_named_after_the_shot_began_gets_the_result_when_it_is_opened(settings, tmp_path):
    path = str(tmp_path / "film.blend")

    def save_and_leave():
        bpy.context.scene.name = "Beach"
        bpy.ops.wm.save_as_mainfile(filepath=path)
        bpy.ops.wm.read_homefile(use_empty=True)

    assert _end_shot("aa", meanwhile=save_and_leave) is None
    bpy.ops.wm.open_mainfile(filepath=path)
    assert [one.job for one in bpy.data.scenes["Beach"].latentman.results] == ["aa"]


def test_a_saved_copy_does_not_make_a_removal_final(settings, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "film.blend"))
    folder = get_result_folder(_end_shot("aa"))
    bpy.ops.wm.save_mainfile()
    bpy.ops.latentman.remove_result(files=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "copy.blend"), copy=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "film.blend"))
    assert len(list_frames(folder)) == 3


def test_what_a_crash_left_waiting_is_put_back(settings, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "film.blend"))
    folder = get_result_folder(_end_shot("aa"))
    bpy.ops.wm.save_mainfile()
    removed_files.remove_files(folder)
    removed_files._removed.clear()
    assert not folder.exists()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "film.blend"))
    assert len(list_frames(folder)) == 3 and not (folder.parent / removed_files.WAITING_FOLDER).exists()


def test_files_that_another_result_needs_and_those_that_cannot_go_stay(settings, monkeypatch):
    folder = get_result_folder(_end_shot("aa"))
    film = bpy.data.scenes.new("Film")
    other = properties.get_scene_settings(film).results.add()
    other.name, other.folder = "in the film", str(folder)
    with pytest.raises(RuntimeError, match="'in the film' in the scene 'Film' has the same files"):
        bpy.ops.latentman.remove_result(files=True)
    properties.get_scene_settings(film).results.clear()

    real = os.rename
    calls = []

    def refuse(old, new):
        calls.append(old)
        if len(calls) == 3:
            raise PermissionError(13, "Permission denied", str(old))
        real(old, new)

    monkeypatch.setattr(removed_files.os, "rename", refuse)
    with pytest.raises(RuntimeError, match="cannot be removed \\(Permission denied\\)"):
        bpy.ops.latentman.remove_result(files=True)
    assert len(settings.results) == 1 and len(list_frames(folder)) == 3
    monkeypatch.undo()
    shutil.rmtree(folder)
    assert bpy.ops.latentman.remove_result(files=True) == {"FINISHED"} and not settings.results


def test_all_without_a_star_go_at_once(settings):
    for job in ("aa", "bb", "cc", "dd"):
        _end_shot(job)
    settings.results[1].starred = True
    settings.active_result = 1
    folders = [get_result_folder(result) for result in settings.results]
    assert bpy.ops.latentman.remove_result(which="UNSTARRED", files=True) == {"FINISHED"}
    assert [one.job for one in settings.results] == ["bb"] and settings.active_result == 0
    assert [bool(list_frames(folder)) for folder in folders] == [False, True, False, False]
    with pytest.raises(RuntimeError, match="Every result has a star"):
        bpy.ops.latentman.remove_result(which="UNSTARRED")


def test_what_the_compositor_reads_goes_with_the_files(settings):
    result = _end_shot("aa")
    folder = get_result_folder(result)
    assert bpy.ops.latentman.to_compositor() == {"FINISHED"} and (folder / "sequence" / "0001.png").is_file()
    assert bpy.ops.latentman.remove_result(files=True) == {"FINISHED"} and not folder.exists()


def test_the_question_says_what_either_choice_takes(settings):
    _end_shot("aa")
    _end_shot("bb", seed=6, numbers=(2, 3))
    assert bpy.ops.latentman.to_sequencer() == {"FINISHED"}
    manager = SimpleNamespace(invoke_props_dialog=lambda *_, **__: {"RUNNING_MODAL"})
    context = SimpleNamespace(scene=bpy.context.scene, window_manager=manager)
    dialog = SimpleNamespace(which="ACTIVE", files=True)
    dialog._list_chosen = lambda context: result_list.RemoveResult._list_chosen(dialog, context)
    assert result_list.RemoveResult.invoke(dialog, context, None) == {"RUNNING_MODAL"}
    for which, frames in (("ACTIVE", 2), ("UNSTARRED", 5), ("ACTIVE", 2)):
        dialog.which, dialog.layout = which, Drawn()
        result_list.RemoveResult.draw(dialog, context)
        texts = " ".join(dialog.layout.texts)
        assert f"{frames} frames on disk go with it" in texts and "1 place in this file shows them" in texts


def test_names_stars_and_texts(settings):
    _end_shot("aa", prompt="a knight")
    _end_shot("bb", prompt="a knight", seed=6)
    assert bpy.ops.latentman.rename_result(title="  the one ") == {"FINISHED"} and settings.results[1].name == "the one"
    assert settings.results[0].name == "a knight" and bpy.ops.latentman.rename_result(title=" ") == {"FINISHED"}
    assert settings.results[1].name == "a knight"
    assert bpy.ops.latentman.star_result() == {"FINISHED"} and settings.results[1].starred and not settings.results[0].starred
    assert bpy.ops.latentman.copy_prompt() == {"FINISHED"} and bpy.ops.latentman.copy_seed() == {"FINISHED"}
    # two of one name and prompt are told apart
    reference = refer_to_result(settings.results[0])
    assert reference.find() == settings.results[0] and reference.find().job == "aa"
    settings.results.move(0, 1)
    assert reference.find().job == "aa"
    settings.results.remove(1)
    assert reference.find() is None


# -- what is drawn


class Drawn:
    """Stands in for a layout and remembers what is drawn."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.operators: list[tuple[str, dict]] = []

    def label(self, text="", **_) -> None:
        self.texts.append(text)

    def prop(self, owner, name, text=None, **_) -> None:
        self.texts.append(str(text) if text is not None else name)

    def operator(self, name, text="", **options):
        self.texts.append(text)
        self.operators.append((name, options))
        return SimpleNamespace()

    def __getattr__(self, _):
        return lambda *_, **__: self


def _draw(panel, **more) -> Drawn:
    drawn = Drawn()
    context = SimpleNamespace(
        scene=bpy.context.scene,
        workspace=bpy.context.workspace,
        region=SimpleNamespace(width=3000),
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
        **more,
    )
    if not hasattr(panel, "poll") or panel.poll(context):
        panel.draw(SimpleNamespace(layout=drawn), context)
    return drawn


def _look_around(seconds=5.0):
    import time

    end = time.monotonic() + seconds
    while result_shelf.shelf._wished or result_shelf.shelf._looking:
        result_shelf.shelf.update()
        time.sleep(0.002)
        assert time.monotonic() < end


def test_the_panel_draws_five_hundred_results_without_reading_the_disk(settings, monkeypatch, tmp_path):
    for n in range(500):
        result = settings.results.add()
        result.name = result.prompt = f"result {n}"
        result.folder, result.count, result.ticket = str(tmp_path / "many" / str(n)), 1, str(n)
        result.created = f"2026-01-01T00:{n // 60:02d}:{n % 60:02d}+00:00"
    settings.active_result = 250
    monkeypatch.setattr(result_shelf.Shelf, "update", lambda self: False)

    def refuse(*_, **__):
        raise AssertionError("the disk is read")

    with monkeypatch.context() as patch:
        for name in ("stat", "listdir", "scandir", "open"):
            patch.setattr(os, name, refuse)
        patch.setattr("builtins.open", refuse)
        drawn = _draw(results_panel.ResultPanel)
        _draw(sequencer_panel.StripPanel, area=None)
        rows = [Drawn() for _ in settings.results]
        for row, result in zip(rows, settings.results, strict=True):
            results_panel.LATENTMAN_UL_results.draw_item(None, bpy.context, row, settings, result, 0, settings, "active_result")
    assert "result 250" in drawn.texts and "latentman.compare_results" not in dict(drawn.operators)
    assert {"latentman.restore_settings", "latentman.make_again", "latentman.remove_result", "latentman.fetch_result"} <= {
        name for name, _ in drawn.operators
    }
    order = results_panel.order_newest_first(settings.results)
    assert order[499] == 0 and order[0] == 499


def test_the_list_is_searched_and_filtered(settings):
    _end_shot("aa", prompt="a knight")
    _end_shot("bb", prompt="a cat in Boots", seed=6)
    settings.results[1].starred = True
    settings.results[1].start = 100
    ui_list = SimpleNamespace(filter_name="", only_starred=False, only_shot=False, bitflag_filter_item=1)

    def shown():
        return results_panel.LATENTMAN_UL_results.filter_items(ui_list, bpy.context, settings, "results")[0]

    assert shown() == [1, 1]
    ui_list.filter_name = "boots CAT"
    assert shown() == [0, 1]
    ui_list.filter_name, ui_list.only_starred = "", True
    assert shown() == [0, 1]
    ui_list.only_starred, ui_list.only_shot, settings.active_result = False, True, 0
    assert shown() == [1, 0]


def test_the_shelf_knows_what_is_on_disk(settings):
    result = _end_shot("aa")
    folder, shelf = get_result_folder(result), result_shelf.shelf
    shelf.find(folder)
    _look_around()
    state = shelf.find(folder)
    assert state.frames == 3 and state.thumbnail.name == "0003.png" and state.has_texture
    (folder / "0003.png").unlink()
    shelf.forget([folder])
    _look_around()
    assert shelf.find(folder).frames == 2 and "Only 2 of the 3 frames are on disk." in _draw(results_panel.ResultPanel).texts
    # a folder that was moved away by hand
    folder.rename(folder.parent / "elsewhere")
    shelf.forget([folder])
    _look_around()
    assert any("not on disk any more; press Fetch Again" in text for text in _draw(results_panel.ResultPanel).texts)
    (folder.parent / "elsewhere").rename(folder)
    folder.chmod(0o000)
    shelf.forget([folder])
    _look_around()
    folder.chmod(0o755)
    shelf.forget([folder])
    _look_around()
    assert shelf.find(folder).frames == 2


def test_a_short_time_is_a_short_word():
    assert [write_notice(2, 2, 2, 0, seconds) for seconds in (0.2, 7.4)] == ["Done: 2 frames", "Done: 2 frames, in 7 s"]


def test_the_notice_is_drawn_until_it_is_looked_at(settings):
    _end_shot("aa", kept=2)
    assert "Done: 3 frames: 1 new, 2 kept, in 1 min" in _draw(results_panel.ResultPanel).texts
    assert bpy.ops.latentman.play_result(ticket=notice.ticket) == {"FINISHED"} and not notice.text
    _end_shot("bb")
    assert bpy.ops.latentman.dismiss_notice() == {"FINISHED"}
    assert not any(text.startswith("Done") for text in _draw(results_panel.ResultPanel).texts)


def test_a_folder_that_was_moved_is_located_and_strips_and_materials_follow(settings, shot_scene, tmp_path):
    result = _end_shot("aa")
    bpy.ops.latentman.to_sequencer()
    bpy.ops.latentman.as_material()
    new = tmp_path / "archive" / "aa"
    new.parent.mkdir()
    shutil.move(get_result_folder(result), new)
    with pytest.raises(RuntimeError, match="no frames in"):
        bpy.ops.latentman.locate_result(directory=str(tmp_path))
    assert bpy.ops.latentman.locate_result(directory=str(new)) == {"FINISHED"}
    (strip,) = get_strips(shot_scene)
    (image,) = [one for one in bpy.data.images if "texture_1" in one.filepath]
    assert get_result_folder(result) == resolve(strip.directory) == new and resolve(image.filepath).is_relative_to(new)
    assert find_strip_result(strip) == result and bpy.ops.latentman.play_result() == {"FINISHED"}


# -- play and compare


def _show_viewer():
    image = bpy.data.images[viewer.IMAGE]
    width, height = image.size
    return np.round(np.array(image.pixels[:]).reshape(height, width, 4) * 255).astype(int)[::-1]


def test_play_follows_the_scene_beside_the_viewport(settings, shot_scene):
    result = _end_shot("aa", numbers=(2, 3, 4))
    folder = get_result_folder(result)
    (folder / "0003.png").unlink()
    shot_scene.frame_set(1)
    areas = [area.type for area in bpy.context.window.screen.areas]
    assert bpy.ops.latentman.play_result() == {"FINISHED"} and shot_scene.frame_current == 2
    kinds = [area.type for area in bpy.context.window.screen.areas]
    for kind in set(areas):
        assert kinds.count(kind) >= areas.count(kind), "an editor of the user's is gone"
    editors = [area for area in bpy.context.window.screen.areas if area.type == "IMAGE_EDITOR"]
    assert editors and editors[0].spaces.active.image.name == viewer.IMAGE
    for frame, number in ((2, 2), (3, 2), (4, 4), (9, 4)):
        shot_scene.frame_set(frame)
        shown = _show_viewer()
        assert shown.shape == (6, 8, 4) and tuple(shown[0, 0, :3]) == (number,) * 3 and tuple(shown[3, 3, :3]) == (100,) * 3
    # pressed again it uses the editor that is there
    bpy.ops.latentman.play_result()
    assert [area.type for area in bpy.context.window.screen.areas] == kinds
    assert bpy.ops.latentman.close_viewer() == {"FINISHED"} and viewer.IMAGE not in bpy.data.images
    with pytest.raises(RuntimeError, match="No result is shown"):
        bpy.ops.latentman.close_viewer()
    shutil.rmtree(folder)
    with pytest.raises(RuntimeError, match="frames of this result are gone"):
        bpy.ops.latentman.play_result()


def test_a_shot_of_another_scene_is_said_to_follow_that_one(settings, shot_scene):
    result = _end_shot("aa")
    film = bpy.data.scenes.new("Film")
    film.frame_set(40)
    reports = []
    operator = SimpleNamespace(report=lambda kinds, text: reports.append(text))
    assert viewing._show(operator, SimpleNamespace(window=None, scene=film), result, start=False) == {"FINISHED"}
    assert f"the scene '{shot_scene.name}'" in reports[0] and film.frame_current == 40
    assert viewing._show(operator, SimpleNamespace(window=None, scene=shot_scene), result, start=False) == {"FINISHED"}
    assert not any("follows" in text for text in reports[1:])


def test_two_results_by_a_wipe_side_by_side_and_as_flicker(settings, shot_scene):
    first = _end_shot("aa", level=40)
    _end_shot("bb", level=200, hmse=30.0, seed=6)
    folder = get_result_folder(first)
    # one frame of A jumps
    (folder / "0003.png").write_bytes(encode_png(np.full((6, 8, 3), 168, np.uint8)))
    settings.active_result = 0
    shot_scene.frame_set(4)
    assert bpy.ops.latentman.compare_results(other="1") == {"FINISHED"}
    options = viewer.get_options()
    options.mode, options.position, options.flicker = "WIPE", 0.5, False
    shown = _show_viewer()
    assert (shown[2, :3, 0] == 40).all() and (shown[2, 5:, 0] == 200).all() and (shown[2, 3, :] == 255).all()
    options.position = 1.0
    assert (_show_viewer()[2:, :, 0] == 40).all()
    options.mode = "BESIDE"
    shown = _show_viewer()
    assert shown.shape == (6, 16, 4) and (shown[2, :8, 0] == 40).all() and (shown[2, 8:, 0] == 200).all()
    options.flicker = True
    shot_scene.frame_set(3)
    shown = _show_viewer()
    assert (shown[2, :8] == 255).all() and not shown[2, 8:, :3].any(), "128 of 255 is far, and B stands still"
    options.mode, options.flicker = "SECOND", False
    assert _show_viewer().shape == (6, 8, 4) and _show_viewer()[2, 2, 0] == 200
    # frames that are made again are shown
    _paint(folder, (2, 3, 4), 90)
    options.mode = "FIRST"
    os.utime(folder / "0003.png", (1, 1))
    viewer.reread(folder)
    assert _show_viewer()[2, 2, 0] == 90
    bpy.ops.ed.undo_push(message="one")
    bpy.ops.ed.undo_push(message="two")
    bpy.ops.ed.undo()
    assert _show_viewer()[2, 2, 0] == 90
    spaces = [area.spaces.active for area in bpy.context.window.screen.areas if area.type == "IMAGE_EDITOR"]
    assert viewer.IMAGE in [space.image.name for space in spaces if space.image]
    options.mode = "WIPE"


# -- the sequencer's side


def test_a_strip_knows_its_shot_whatever_is_done_to_it(settings, shot_scene):
    _end_shot("aa")
    assert bpy.ops.latentman.to_sequencer() == {"FINISHED"}
    (strip,) = get_strips(shot_scene)
    assert find_active_strip(shot_scene) == strip and strip.select
    folder = get_result_folder(settings.results[0])
    result = settings.results[0]
    shot_scene.name, strip.name, strip.mute, strip.channel = "renamed", "my name", True, 9
    assert find_strip_result(strip) == result
    copy = strip.split(frame=3, split_method="SOFT")
    assert find_strip_result(copy) == result and get_strip_range(copy) == (3, 5)
    select_strip(shot_scene, copy)
    drawn = _draw(sequencer_panel.StripPanel, area=None)
    assert "a knight" in drawn.texts and "Cross-frame · starter · seed 5" in drawn.texts
    assert any("muted" in text for text in drawn.texts)
    del strip["latentman_job"]
    assert find_strip_result(strip) == result, "strips of earlier versions are found by their folder"
    settings.results.clear()
    drawn = _draw(sequencer_panel.StripPanel, area=None)
    assert find_strip_result(copy) is None and any("not in the list" in text for text in drawn.texts) and "seed 5" in drawn.texts
    assert folder.is_dir()


@pytest.mark.parametrize("kind", ["IMAGES", "MOVIE"])
def test_another_version_takes_the_strips_place(settings, shot_scene, kind):
    _end_shot("aa")
    _paint(get_result_folder(settings.results[0]), (2, 3, 4), size=(64, 48))
    assert bpy.ops.latentman.to_sequencer(kind=kind) == {"FINISHED"}
    (strip,) = get_strips(shot_scene)
    strip.channel = 5
    other = _end_shot("bb", seed=6, level=222)
    _paint(get_result_folder(other), (2, 3, 4), 222, size=(64, 48))
    drawn = _draw(sequencer_panel.StripPanel, area=None)
    pressed = [options["depress"] for name, options in drawn.operators if name == "latentman.strip_version"]
    assert sorted(pressed) == [False, True] and "2 versions of this shot" in drawn.texts
    assert bpy.ops.latentman.strip_version(ticket=other.ticket, folder=other.folder) == {"FINISHED"}
    (strip,) = get_strips(shot_scene)
    assert find_strip_result(strip) == other and strip.channel == 5 and get_strip_range(strip) == (2, 5)
    assert strip["latentman_seed"] == 6 and strip.name == "a knight · 6"
    with pytest.raises(RuntimeError, match="not in the list any more"):
        bpy.ops.latentman.strip_version(ticket="nobody")
    settings.active_result = 0
    assert bpy.ops.latentman.choose_strip_result() == {"FINISHED"} and settings.active_result == 1
    shutil.rmtree(get_result_folder(settings.results[0]))
    with pytest.raises(RuntimeError, match="frames of this result are gone"):
        bpy.ops.latentman.strip_version(ticket=settings.results[0].ticket)
    assert find_strip_result(strip) == other


def test_buttons_in_the_sequencer_are_about_its_strip(settings, shot_scene):
    _end_shot("aa")
    bpy.ops.latentman.to_sequencer()
    _end_shot("bb", prompt="a cat", seed=6)
    area = next(area for area in bpy.context.window.screen.areas if area.type == "VIEW_3D")
    assert get_result(bpy.context).job == "bb"
    was = area.type
    area.type = "SEQUENCE_EDITOR"
    try:
        with bpy.context.temp_override(window=bpy.context.window, area=area):
            assert get_result(bpy.context).job == "aa"
            assert bpy.ops.latentman.restore_settings() == {"FINISHED"} and settings.seed == 5
            # what is added is the list's
            assert bpy.ops.latentman.to_sequencer() == {"FINISHED"}
            assert bpy.ops.latentman.remove_result() == {"FINISHED"}
    finally:
        area.type = was
    assert [strip["latentman_job"] for strip in get_strips(shot_scene)] == ["aa", "bb"] and [
        one.job for one in settings.results
    ] == ["aa"]


def test_a_workspace_is_added_where_none_shows_strips(settings, shot_scene):
    _end_shot("aa")
    with pytest.raises(RuntimeError, match="press To Sequencer"):
        bpy.ops.latentman.show_in_sequencer()
    bpy.ops.latentman.to_sequencer()
    before = {workspace.name: [[a.type for a in s.areas] for s in workspace.screens] for workspace in bpy.data.workspaces}
    assert bpy.ops.latentman.show_in_sequencer() == {"FINISHED"}
    after = {workspace.name: [[a.type for a in s.areas] for s in workspace.screens] for workspace in bpy.data.workspaces}
    assert {name: after[name] for name in before} == before
    assert any("SEQUENCE_EDITOR" in areas for screens in after.values() for areas in screens)


def test_what_cannot_be_made_again_is_said(settings, shot_scene, character, monkeypatch):
    from latentman.blender_addon.operators import polls
    from latentman.blender_addon.operators.strips import find_obstacle

    result = _end_shot("aa")
    assert find_obstacle(result) == ""
    with pytest.raises(RuntimeError, match="backend is not running"):
        bpy.ops.latentman.make_again()
    monkeypatch.setattr(polls, "connection", SimpleNamespace(connected=True, busy=False))
    shot_scene.camera = shot_scene.camera.copy()
    shot_scene.collection.objects.link(shot_scene.camera)
    with pytest.raises(RuntimeError, match="The shot was seen by"):
        bpy.ops.latentman.make_again()
    result.camera = ""
    result.panel = ""
    with pytest.raises(RuntimeError, match="does not say what it was made with"):
        bpy.ops.latentman.make_again()
    result.character = "Nobody"
    assert "no 'Nobody'" in find_obstacle(result)


# -- the look as a material


def test_a_look_lies_over_own_materials_is_swapped_and_taken_off(settings, character):
    (body,) = get_bodies(character)
    own = [bpy.data.materials.new(name) for name in ("Skin", "Hair")]
    body.data.materials.clear()
    for material in own:
        body.data.materials.append(material)
    twin = bpy.data.objects.new("Twin", body.data)
    body.data.polygons.foreach_set("material_index", np.arange(len(body.data.polygons)) % 2)
    body.material_slots[1].link = "OBJECT"
    body.material_slots[1].material = other = bpy.data.materials.new("Of the object")
    _end_shot("aa", level=250)
    with pytest.raises(RuntimeError, match="wears its own materials"):
        bpy.ops.latentman.own_materials()
    assert bpy.ops.latentman.as_material() == {"FINISHED"}
    first = body.material_slots[0].material
    assert first.name.startswith("Look: ") and body.material_slots[1].material == first
    assert list(body.data.materials) == own and [slot.material for slot in twin.material_slots] == own
    indices = np.empty(len(body.data.polygons), np.int32)
    body.data.polygons.foreach_get("material_index", indices)
    assert (
        (indices == np.arange(len(indices)) % 2).all()
        and first.diffuse_color[0] > 0.9
        and first.node_tree.nodes.active.type == "TEX_IMAGE"
    )
    _end_shot("bb", level=10)
    assert bpy.ops.latentman.as_material() == {"FINISHED"}
    second = body.material_slots[0].material
    assert second != first and body.material_slots[1].material == second
    # the first one again is the same material, not another copy
    settings.active_result = 0
    count = len(bpy.data.materials)
    assert bpy.ops.latentman.as_material() == {"FINISHED"} and body.material_slots[0].material == first
    assert len(bpy.data.materials) == count
    drawn = dict(_draw(results_panel.ResultPanel).operators)
    assert drawn["latentman.as_material"]["depress"] and "latentman.own_materials" in drawn
    settings.active_result = 1
    assert not dict(_draw(results_panel.ResultPanel).operators)["latentman.as_material"]["depress"]
    assert bpy.ops.latentman.own_materials() == {"FINISHED"}
    assert [(slot.link, slot.material) for slot in body.material_slots] == [("DATA", own[0]), ("OBJECT", other)]
    assert not [key for key in list(body.keys()) if key.startswith("latentman_slots") or key.startswith("latentman_material")]
    assert body.data.materials[:] == own


def test_a_body_without_materials_and_one_that_was_saved_get_theirs_back(settings, character, tmp_path):
    (body,) = get_bodies(character)
    body.data.materials.clear()
    _end_shot("aa")
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.latentman.as_material() == {"FINISHED"} and len(body.material_slots) == 1
    bpy.ops.ed.undo_push(message="As Material")
    bpy.ops.ed.undo()
    (body,) = get_bodies(_settings().character)
    assert not body.material_slots
    assert bpy.ops.latentman.as_material() == {"FINISHED"}
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "film.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "film.blend"))
    (body,) = get_bodies(_settings().character)
    assert body.material_slots[0].material.name.startswith("Look: ")
    assert bpy.ops.latentman.own_materials() == {"FINISHED"} and not body.material_slots


def test_a_material_that_the_user_has_chosen_since_stays(settings, character):
    (body,) = get_bodies(character)
    body.data.materials.clear()
    body.data.materials.append(bpy.data.materials.new("Skin"))
    _end_shot("aa")
    bpy.ops.latentman.as_material()
    body.material_slots[0].material = new = bpy.data.materials.new("New")
    assert not bpy.ops.latentman.own_materials.poll() and body.material_slots[0].material == new


# -- other machines and folders


def test_a_project_on_another_machine_keeps_its_history(settings, tmp_path):
    (tmp_path / "project").mkdir()
    settings.output = "//latentman"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "project" / "film.blend"))
    _end_shot("aa", folder=tmp_path / "project" / "latentman" / "aa")
    bpy.ops.latentman.to_sequencer()
    bpy.ops.latentman.as_material()
    bpy.ops.latentman.rename_result(title="keeper")
    bpy.ops.wm.save_mainfile()
    shutil.move(tmp_path / "project", tmp_path / "elsewhere")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "elsewhere" / "film.blend"))
    (result,) = _settings().results
    assert result.name == "keeper" and result.total == 3 and read_memory(result.panel) is not None
    assert (
        get_result_folder(result) == tmp_path / "elsewhere" / "latentman" / "aa"
        and len(list_frames(get_result_folder(result))) == 3
    )
    (strip,) = get_strips(bpy.context.scene)
    assert find_strip_result(strip) == result
    assert "latentman.own_materials" in dict(_draw(results_panel.ResultPanel).operators)
    assert result_list.find_memory(result).values["prompt"] == "a knight"
    # the frames were left behind
    shutil.rmtree(get_result_folder(result))
    with pytest.raises(RuntimeError, match="press Fetch Again"):
        bpy.ops.latentman.open_folder()
    assert bpy.ops.latentman.remove_result(files=True) == {"FINISHED"} and not _settings().results


def test_pictures_of_the_viewer_are_those_on_disk(settings, shot_scene):
    result = _end_shot("aa", level=77)
    shot_scene.frame_set(3)
    bpy.ops.latentman.play_result()
    assert (_show_viewer()[..., :3] == read_png(Path(get_result_folder(result)) / "0003.png").astype(int)).all()


# -- pressed by hand


def test_solid_viewports_show_textures_and_others_stay(settings):
    screen = bpy.context.window.screen
    space = next(area.spaces.active for area in screen.areas if area.type == "VIEW_3D")
    space.shading.type, space.shading.color_type = "SOLID", "MATERIAL"
    assert show_textures(screen) and space.shading.color_type == "TEXTURE" and not show_textures(screen)
    # what somebody has chosen is left alone
    space.shading.color_type = "RANDOM"
    assert not show_textures(screen) and space.shading.color_type == "RANDOM" and not show_textures(None)


def test_the_question_before_removing_says_what_it_means(settings, shot_scene):
    _end_shot("aa")
    bpy.ops.latentman.to_sequencer()
    asked = {}

    class Manager:
        def invoke_props_dialog(self, operator, **_):
            asked["operator"] = operator
            return {"RUNNING_MODAL"}

    remove = result_list.RemoveResult
    question = SimpleNamespace(which="ACTIVE", files=True, layout=Drawn())
    question._list_chosen = lambda context: remove._list_chosen(question, context)
    context = SimpleNamespace(scene=shot_scene, window_manager=Manager(), area=None)
    assert remove.invoke(question, context, None) == {"RUNNING_MODAL"} and asked
    remove.draw(question, context)
    texts = question.layout.texts
    assert "Remove 'a knight' from the list?" in texts and any(text.startswith("3 frames on disk go with it.") for text in texts)
    assert any(text.startswith("1 place in this file shows them") for text in texts)
    question.which, settings.results[0].starred = "UNSTARRED", True
    remove.draw(question, context)
    assert "Every result has a star." in question.layout.texts


def test_the_status_bar_and_the_image_editor_have_the_same_buttons(settings, shot_scene):
    from latentman.blender_addon import status_bar

    _end_shot("aa")
    _end_shot("bb", seed=6)
    drawn = Drawn()
    status_bar._draw(SimpleNamespace(layout=drawn), bpy.context)
    assert {"latentman.play_result", "latentman.dismiss_notice"} == {name for name, _ in drawn.operators}
    assert any("Done: 3 frames" in text for text in drawn.texts)
    panel = sequencer_panel.ViewerPanel
    image = bpy.data.images.new("another", 4, 4)
    assert not _draw(panel, space_data=SimpleNamespace(image=image)).texts
    bpy.ops.latentman.compare_results(other="0")
    drawn = _draw(panel, space_data=SimpleNamespace(image=bpy.data.images[viewer.IMAGE]))
    assert {"position", "flicker"} <= set(drawn.texts) and "A: a knight" in drawn.texts
