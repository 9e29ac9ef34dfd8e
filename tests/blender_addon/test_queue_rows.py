"""The queue without a backend: its order and states, its files, its table, and the shots that markers and strips mark."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import bpy
import msgspec
import pytest

from latentman.blender_addon.compat import get_strip_parts, get_strips
from latentman.blender_addon.model_profiles import ProfileBook
from latentman.blender_addon.queue import book as book_module
from latentman.blender_addon.queue import store
from latentman.blender_addon.queue.book import QueueBook, set_worker, works_elsewhere
from latentman.blender_addon.queue.finding import find_marked_shots, read_strips
from latentman.blender_addon.queue.marked import (
    CameraMarker,
    FoundShot,
    SceneStrip,
    Span,
    align,
    find_marker_shots,
    find_strip_shots,
    join_shots,
    name_folders,
)
from latentman.blender_addon.queue.rows import (
    INTERRUPTED,
    MOST_ROWS,
    Queue,
    QueuedShot,
    Row,
    RowState,
    add_shots,
    change_row,
    clear_ended,
    describe_frames,
    move_row,
    recover,
    remove_rows,
    repeat_row,
    summarise,
    switch_pause,
)
from latentman.blender_addon.queue.runner import QueueRunner
from latentman.blender_addon.queue.store import StoreError, find_path, read_queue, write_queue
from latentman.blender_addon.queue.table import HEAD, format_table
from latentman.blender_addon.references import Finder, refer_to
from latentman.shared.shot import MAX_FRAMES, make_request


def _make_shot(name="A", first=1, last=24, step=1, **values):
    request = make_request("a knight", tuple(range(first, last + 1, step)), 24.0)
    return QueuedShot(
        **dict(
            name=name,
            scene="Scene",
            layer="ViewLayer",
            cameras=("Camera",),
            first=first,
            last=last,
            step=step,
            character="Hero",
            subjects="character",
            character_only=False,
            request=request,
            size=(0, 0),
            scene_aspect=True,
            only_changed=True,
            look="",
            output="//latentman",
            panel="{}",
        )
        | values
    )


def _make_queue(states):
    """A queue with a row for each letter of ``states``: the first letters of states, ``x`` for failed."""
    by_letter = {"w": RowState.WAITING, "r": RowState.RUNNING, "p": RowState.PAUSED, "d": RowState.DONE, "x": RowState.FAILED}
    return Queue(tuple(Row(f"{n}", _make_shot(f"{n}"), by_letter[letter]) for n, letter in enumerate(states)))


def _order(queue):
    return "".join(row.id for row in queue.rows)


@pytest.fixture
def book(monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    return QueueBook()


@pytest.mark.parametrize(
    ("row", "by", "order"),
    [("1", -1, "102"), ("1", 1, "021"), ("0", -1, "012"), ("2", -9, "201"), ("0", 9, "120"), ("7", 1, "012")],
)
def test_rows_move_as_far_as_there_are_places(row, by, order):
    assert _order(move_row(_make_queue("www"), row, by)) == order


def test_states_change_only_as_they_may():
    queue = _make_queue("wrpdx")
    assert [row.id for row in queue.waiting] == ["0"]
    assert _order(remove_rows(queue, {"0", "1", "3"})) == "124", "what is being made stays"
    assert _order(clear_ended(queue)) == "012"
    assert "".join(switch_pause(queue, row.id).find(row.id).state.value[0] for row in queue.rows) == "prwdf"
    assert [repeat_row(queue, row.id).find(row.id).state.value for row in queue.rows] == [
        "waiting",
        "running",
        "paused",
        "waiting",
        "waiting",
    ]
    assert recover(queue).find("1") == Row("1", queue.rows[1].shot, RowState.WAITING, INTERRUPTED)
    assert recover(queue, "1") == queue
    assert summarise(queue) == "1 of 5 done, 1 failed, 1 paused" and summarise(Queue()) == ""
    with pytest.raises(ValueError, match="at most"):
        add_shots(queue, [_make_shot()] * MOST_ROWS)


@pytest.mark.parametrize(
    ("frames", "text"),
    [((1, 24, 1), "1 to 24"), ((7, 7, 1), "7"), ((1, 24, 2), "1 to 23, every 2nd"), ((0, 22, 11), "0 to 22, every 11th")],
)
def test_frames_in_words(frames, text):
    assert describe_frames(_make_shot("A", *frames)) == text


def test_the_table_has_a_line_for_each_shot():
    rows = [
        Row("a", _make_shot("Long name"), RowState.DONE, count=24, made=20, kept=4, seconds=90.0, folder="/out/a"),
        Row("b", _make_shot("B", cameras=("A", "B")), RowState.PARTIAL, "The backend stopped.", "backend", 3, 3, 0, 6.0, "/out/b"),
        Row("c", _make_shot("C", 7, 7), RowState.FAILED, "The prompt is empty."),
        Row("d", _make_shot("D"), RowState.CANCELLED),
        Row("e", _make_shot("E"), RowState.WAITING, INTERRUPTED),
    ]
    lines = format_table(rows).splitlines()
    assert lines[0].split() == list(HEAD)
    assert lines[1] == "Long name  Scene  Camera  1 to 24   20     4      1.5  done in /out/a"
    assert lines[2] == "B          Scene  A, B    1 to 24    3     0      0.1  3 of 24 frames in /out/b: The backend stopped."
    assert lines[3] == "C          Scene  Camera  7                            failed: The prompt is empty."
    assert lines[4].endswith("cancelled, 0 of 24 frames") and lines[5].endswith(f"waiting: {INTERRUPTED}")


def test_a_queue_is_read_as_it_was_left(book, tmp_path):
    blend = str(tmp_path / "film \udcff.blend")
    book.open(blend)
    book.change(lambda queue: add_shots(queue, [_make_shot("A"), _make_shot("B")]))
    first = book.queue.rows[0].id
    book.change(lambda queue: change_row(queue, first, state=RowState.RUNNING))
    after = QueueBook()
    after.open(blend)
    assert [(row.state, row.message) for row in after.queue.rows] == [(RowState.WAITING, INTERRUPTED), (RowState.WAITING, "")]
    assert after.queue.rows[0].shot == book.queue.rows[0].shot, "with all of its settings"
    # two Blenders with the same file see each other's changes
    after.change(lambda queue: remove_rows(queue, {first}))
    assert book.refresh() and len(book.queue.rows) == 1 and not book.refresh()
    after.change(lambda queue: remove_rows(queue, {queue.rows[0].id}))
    assert not find_path(blend).exists() and book.refresh() and not book.queue.rows


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"version":1,"blend":"","queue":{"rows":7}}', b"\xff" * 9, b'{"version":99}', b"[" * 5000]
)
def test_a_file_that_cannot_be_read_is_a_sentence_and_stays(book, tmp_path, content):
    blend = str(tmp_path / "film.blend")
    path = find_path(blend)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    book.open(blend)
    assert not book.queue.rows and "queue the shots again" in " ".join(book.error.split())
    with pytest.raises(StoreError):
        book.change(lambda queue: add_shots(queue, [_make_shot()]))
    assert path.read_bytes() == content
    path.unlink()
    book.change(lambda queue: add_shots(queue, [_make_shot()]))
    assert not book.error and len(read_queue(path).rows) == 1


def test_a_queue_that_cannot_be_kept_goes_on_and_says_so(book, tmp_path):
    (tmp_path / "data").write_text("no folder")
    book.open(str(tmp_path / "film.blend"))
    book.change(lambda queue: add_shots(queue, [_make_shot()]))
    assert len(book.queue.rows) == 1 and "is lost when Blender ends; make room there." in book.error


def test_only_one_blender_works_through_a_queue(book, tmp_path, monkeypatch):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    book.open(str(tmp_path / "film.blend"))
    queue = set_worker(add_shots(Queue(), [_make_shot()]), works=True)
    assert queue.worker == os.getpid() and not works_elsewhere(queue)
    elsewhere = msgspec.structs.replace(queue, worker=other.pid)
    try:
        assert works_elsewhere(elsewhere)
        book.change(lambda _: change_row(elsewhere, elsewhere.rows[0].id, state=RowState.RUNNING))
        again = QueueBook()
        again.open(book.blend)
        assert again.queue.rows[0].state is RowState.RUNNING, "the other one is at it"
        with pytest.raises(StoreError, match="Another Blender works through the queue"):
            QueueRunner(None, again, None).start()
    finally:
        other.communicate(b"\n")
    assert not works_elsewhere(elsewhere)
    far = msgspec.structs.replace(elsewhere, host="another machine")
    assert works_elsewhere(far) and not works_elsewhere(msgspec.structs.replace(far, beat=time.time() - book_module.SILENT_SECONDS))
    again.open(book.blend)
    assert again.queue.rows[0].state is RowState.WAITING and not again.queue.worker


@pytest.fixture
def other_blender():
    """The id of another process that is alive."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield other.pid
    other.communicate(b"\n")


def _work_elsewhere(queue, pid):
    return msgspec.structs.replace(set_worker(queue, works=True), worker=pid)


def _put(blend, queue):
    write_queue(find_path(blend), blend, queue)
    return find_path(blend)


def test_a_queue_that_cannot_be_read_stays_when_its_file_is_saved_as_another(book, tmp_path):
    old, new = (str(tmp_path / f"{name}.blend") for name in ("old", "new"))
    path = _put(old, _make_queue("w"))
    path.write_bytes(b'{"version":99}')
    there = _put(new, _make_queue("wd"))
    book.open(old)
    assert not book.move_to(new)
    assert path.read_bytes() == b'{"version":99}' and read_queue(there) == _make_queue("wd")
    assert book.blend == new and _order(book.queue) == "01" and book.is_readable
    assert str(path) in book.error, "what is left behind is said"


def test_a_queue_that_cannot_be_read_is_not_overwritten(book, tmp_path):
    old, new = (str(tmp_path / f"{name}.blend") for name in ("old", "new"))
    _put(old, _make_queue("w"))
    there = _put(new, _make_queue("wd"))
    there.write_bytes(b'{"version":99}')
    book.open(old)
    assert book.move_to(new) and read_queue(there) == _make_queue("w") == book.queue
    (aside,) = there.parent.glob("*.unread")
    assert aside.read_bytes() == b'{"version":99}' and str(aside) in book.error
    # and another time
    third = str(tmp_path / "third.blend")
    _put(third, _make_queue("w"))
    there.write_bytes(b'{"version":100}')
    book.open(third)
    assert book.move_to(new)
    found = {path: path.read_bytes() for path in there.parent.glob("*.unread")}
    assert sorted(found.values()) == [b'{"version":100}', b'{"version":99}'] and found[aside] == b'{"version":99}'
    assert str(next(path for path in found if path != aside)) in book.error


def test_a_queue_stays_with_the_blender_that_works_through_it(book, tmp_path, other_blender):
    old, new = (str(tmp_path / f"{name}.blend") for name in ("old", "new"))
    busy = _work_elsewhere(_make_queue("rw"), other_blender)
    path = _put(old, busy)
    book.open(old)
    assert book.move_to(new) and read_queue(path) == busy, "the other one goes on"
    assert [row.state for row in book.queue.rows] == [RowState.WAITING] * 2 and not book.queue.worker
    assert read_queue(find_path(new)) == book.queue
    # over the file of the other one
    assert not book.move_to(old) and read_queue(path) == busy == book.queue and len(read_queue(find_path(new)).rows) == 2
    assert f"stay in {find_path(new)}" in book.error
    unsaved = QueueBook()
    unsaved.change(lambda queue: add_shots(queue, [_make_shot()]))
    assert not unsaved.move_to(old) and "at the end of that, paused" in unsaved.error
    found = read_queue(path)
    assert found.rows[:2] == busy.rows and found.rows[2].state is RowState.PAUSED and found.worker == other_blender


def test_a_queue_stays_when_its_file_is_saved_under_another_name_of_the_same(book, tmp_path):
    real, link = tmp_path / "real.blend", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    book.open(str(real / "film.blend"))
    book.change(lambda queue: add_shots(queue, [_make_shot()]))
    assert book.move_to(str(link / "film.blend")) and len(read_queue(find_path(book.blend)).rows) == 1


def test_names_are_kept_when_the_file_is_saved(book, tmp_path, other_blender):
    blend = str(tmp_path / "film.blend")
    path = _put(blend, _make_queue("wd"))
    book.open(blend)
    shots = {row.id: msgspec.structs.replace(row.shot, scene="Beach") for row in book.queue.rows}
    book.set_names(shots | {"gone": _make_shot()})

    def get_scenes(queue):
        return [row.shot.scene for row in queue.rows]

    assert get_scenes(book.queue) == ["Beach"] * 2 and get_scenes(read_queue(path)) == ["Scene"] * 2
    # whatever else is changed, be it by another Blender
    book.change(lambda queue: change_row(queue, "0", state=RowState.DONE))
    _put(blend, _work_elsewhere(read_queue(path), other_blender))
    assert book.refresh() and get_scenes(book.queue) == ["Beach"] * 2
    book.keep_names()
    assert get_scenes(read_queue(path)) == ["Scene"] * 2, "the other one has its own names"
    _put(blend, set_worker(read_queue(path), works=False))
    book.keep_names()
    assert get_scenes(read_queue(path)) == ["Beach"] * 2
    book.open(blend)
    book.set_names({})
    assert get_scenes(book.queue) == ["Beach"] * 2


def test_many_data_blocks_are_found_by_looking_once(empty_scene):
    objects = [bpy.data.objects.new(f"{n}", None) for n in range(3)]
    references = [refer_to(one) for one in (*objects, empty_scene)]
    objects[0].name, objects[1].name = "renamed", "0"
    bpy.data.objects.remove(objects[2])
    finder = Finder()
    assert [finder.find(one) for one in references] == [*objects[:2], None, empty_scene]
    assert list(finder._by_uid) == ["objects"], "only where something is not under its name"


def test_a_queue_that_could_not_be_read_again_is_not_written(book, tmp_path, monkeypatch):
    book.open(str(tmp_path / "film.blend"))
    first = book.change(lambda queue: add_shots(queue, [_make_shot()]))
    data = find_path(book.blend).read_bytes()
    monkeypatch.setattr(store, "MAX_BYTES", len(data) + 100)
    monkeypatch.setattr(store, "_ROOM", 50)
    with pytest.raises(StoreError, match="clear the finished shots, or queue fewer"):
        book.change(lambda queue: add_shots(queue, [_make_shot()]))
    assert book.queue == first and find_path(book.blend).read_bytes() == data
    # what becomes of a shot counts here, whatever the file can hold
    book.change(lambda queue: change_row(queue, "".join(row.id for row in queue.rows), message="x" * 200))
    assert book.queue.rows[0].message and find_path(book.blend).read_bytes() == data
    assert "clear the finished shots" in book.error


def test_a_disk_that_does_not_answer_costs_no_row(book, tmp_path, monkeypatch):
    book.open(str(tmp_path / "film.blend"))
    book.change(lambda queue: add_shots(queue, [_make_shot()]))
    _put(book.blend, add_shots(book.queue, [_make_shot("B")]))

    def fail(*_):
        raise OSError(errno.EIO, "the disk does not answer")

    monkeypatch.setattr(store, "read_file", fail)
    assert not book.refresh() and len(book.queue.rows) == 1 and not book.is_readable
    with pytest.raises(StoreError, match="the disk does not answer"):
        book.change(clear_ended)
    monkeypatch.undo()
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    assert book.refresh() and len(book.queue.rows) == 2 and book.is_readable and not book.error


def _make_runner(book, **values):
    connection = SimpleNamespace(connected=False, busy=False, running=False, error="", profiles=ProfileBook(), **values)
    return QueueRunner(connection, book, lambda endpoint: None)


@pytest.mark.parametrize("is_started", [False, True])
def test_what_a_crashed_blender_was_making_waits_again(book, tmp_path, monkeypatch, is_started):
    far = msgspec.structs.replace(set_worker(_make_queue("r"), works=True), host="another machine")
    blend = str(tmp_path / "film.blend")
    _put(blend, far)
    book.open(blend)
    runner = _make_runner(book)
    runner.advance()
    assert book.queue.rows[0].state is RowState.RUNNING, "it may be alive"
    _put(blend, msgspec.structs.replace(far, beat=far.beat - book_module.SILENT_SECONDS))
    runner.start() if is_started else runner.advance()
    assert (book.queue.rows[0].state, book.queue.rows[0].message) == (RowState.WAITING, INTERRUPTED)
    assert read_queue(find_path(blend)) == book.queue and runner.is_going == is_started


def test_the_next_backend_is_asked_for_the_model_at_once(book):
    sent = []
    book.change(lambda queue: add_shots(queue, [_make_shot()]))
    runner = _make_runner(book, get_client=lambda: SimpleNamespace(endpoint="127.0.0.1:1", send=sent.append))
    runner.start()
    for is_connected, count in ((True, 1), (True, 1), (False, 1), (True, 2)):
        runner.connection.connected = is_connected
        runner.advance()
        # another try than the start of a backend
        runner._is_starting, runner._endpoint = False, ""
        assert len(sent) == count and runner.is_going


@pytest.mark.parametrize(
    ("span", "first", "last", "found"),
    [
        (Span(1, 24), 5, 9, Span(5, 9)),
        (Span(1, 24), -5, 99, Span(1, 24)),
        (Span(1, 24, 4), 2, 11, Span(5, 9, 4)),
        (Span(1, 24, 4), 6, 8, None),
        (Span(1, 24), 25, 30, None),
        (Span(10, 10), 1, 99, Span(10, 10)),
    ],
)
def test_shots_have_the_frames_that_the_scene_has(span, first, last, found):
    assert align(span, first, last) == found


def _find(span, *markers):
    shots, notes = find_marker_shots("Scene", span, [CameraMarker(*marker) for marker in markers])
    return [(one.name, one.span.first, one.span.last, one.camera) for one in shots], notes


def test_each_camera_marker_is_a_shot_until_the_next():
    assert _find(Span(1, 24), ("B", 13, "Near"), ("A", 1, "Wide")) == ([("A", 1, 12, "Wide"), ("B", 13, 24, "Near")], [])
    # one from before the range begins with it; one from behind it has none, nor has one that another stands on
    found, notes = _find(Span(10, 20), ("A", 2, "Wide"), ("B", 15, "Near"), ("C", 15, "Far"), ("D", 21, "Wide"))
    assert found == [("A", 10, 14, "Wide"), ("C", 15, 20, "Far")]
    assert notes == [
        "'B' has no shot: 'C' is on the same frame, 15, and counts.",
        "'D' has no shot: it is outside of the scene's range, 10 to 20.",
    ]
    assert _find(Span(10, 20), ("A", 2, "Wide"), ("B", 5, "Near"))[0] == [("B", 10, 20, "Near")]
    found, notes = _find(Span(1, 20), ("A", 8, "Wide"), ("B", 12, "Near", True))
    assert found == [("A", 8, 20, "Wide")]
    assert notes == [
        "'B' has no shot: its camera 'Near' is hidden for rendering.",
        "Frames 1 to 7 are in no shot: they are before the first marker.",
    ]
    assert _find(Span(1, 1), ("A", 1, "Wide")) == ([("A", 1, 1, "Wide")], [])
    assert _find(Span(1, 24)) == ([], [])


def test_a_shot_that_is_too_long_is_listed_with_its_problem():
    shots, _ = find_marker_shots("Scene", Span(1, MAX_FRAMES + 1), [CameraMarker("A", 1, "Wide")])
    assert (
        shots[0].problem == f"'A' has {MAX_FRAMES + 1} frames, and a shot at most {MAX_FRAMES}; part it by more markers or strips."
    )


def test_strips_are_shots_of_the_frames_that_they_show():
    span = Span(10, 40)

    def strip(name, start, end, **values):
        return SceneStrip(name, start, end, **dict(scene="S", span=span, content=start) | values)

    shots, notes = find_strip_shots(
        [
            strip("whole", 100, 131),
            strip("same", 400, 431),
            strip("trimmed", 105, 120, content=100),
            strip("skips", 200, 210, skipped=4),
            strip("held", 300, 350),
            strip("muted", 500, 510, is_muted=True),
            SceneStrip("gone", 1, 2),
            strip("behind", 600, 610, content=0),
            strip("sequencer", 700, 710, shows_sequencer=True),
            strip("linked", 720, 722, library="set.blend"),
            strip("retimed", 800, 815, is_retimed=True, scene="T"),
        ]
    )
    assert [(one.name, one.span.first, one.span.last) for one in shots] == [
        ("whole", 10, 40),
        ("trimmed", 15, 29),
        ("skips", 14, 23),
        ("sequencer", 10, 19),
        ("linked", 10, 11),
        ("retimed", 10, 40),
    ]
    assert [bool(one.problem) for one in shots] == [False, False, False, True, True, False]
    assert "retimed; every frame of its scene is made" in shots[-1].note
    assert notes == [
        "'gone' has no shot: its scene is gone.",
        "'held' shows the same frames as 'whole', which are made once.",
        "'same' shows the same frames as 'whole', which are made once.",
        "'muted' has no shot: it is muted.",
        "'behind' has no shot: it shows none of its scene's frames.",
    ]


def test_names_of_shots_differ():
    shots = [FoundShot(name, scene, Span(1, 1)) for name, scene in (("A", "S"), ("A", "T"), ("A", "T"), ("A", "T"))]
    assert [one.name for one in join_shots(shots[:2], shots[2:])] == ["A", "T A", "A 2", "A 3"]


def test_folders_differ_on_every_disk():
    names = ["A/B", "a:b", "A/B", "...", "con", "x" * 300, "Кадр 1"]
    assert name_folders(names) == ["A_B", "a_b 2", "A_B 3", "shot", "con_", "x" * 80, "Кадр 1"]


def test_strips_are_read_as_blender_has_them(empty_scene, tmp_path):
    empty_scene.name = "Set of others"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "set.blend"), copy=True)
    empty_scene.name = "Scene"
    scene = bpy.data.scenes.new("Set")
    scene.frame_start, scene.frame_end = 10, 40
    with bpy.data.libraries.load(str(tmp_path / "set.blend"), link=True) as (_, wanted):
        wanted.scenes = ["Set of others"]
    plain = bpy.data.scenes.new("Plain")
    assert find_marked_shots(plain) == ([], []) and plain.sequence_editor is None, "nothing is made in the file"
    strips = get_strips(empty_scene)
    trimmed = strips.new_scene("Trimmed", scene, 1, 100)
    trimmed.frame_final_start, trimmed.frame_final_end = 105, 120
    strips.new_scene("Muted", scene, 2, 1).mute = True
    off = strips.new_scene("Off", scene, 3, 200)
    empty_scene.sequence_editor.channels[3].mute = True
    strips.new_scene("Linked", wanted.scenes[0], 4, 300)
    strips.new_scene("Itself", empty_scene, 5, 400)
    strips.new_effect("Colour", "COLOR", 6, 1, **{"frame_end" if bpy.app.version < (5, 0, 0) else "length": 20})
    meta = strips.new_meta("Meta", 7, 500)
    get_strip_parts(meta).new_scene("Inside", scene, 1, 490)
    meta.frame_final_start, meta.frame_final_end = 500, 503
    gone = bpy.data.scenes.new("Gone")
    strips.new_scene("Gone", gone, 8, 600)
    bpy.data.scenes.remove(gone)
    by_name = {one.name: one for one in read_strips(empty_scene)}
    assert "Colour" not in by_name and by_name["Off"].is_muted and off.mute is False
    assert by_name["Linked"].library == "set.blend"
    shots, notes = find_marked_shots(empty_scene)
    assert [(one.name, one.scene, one.span.first, one.span.last, bool(one.problem)) for one in shots] == [
        ("Trimmed", "Set", 15, 29, False),
        ("Linked", "Set of others", 1, 24, True),
        ("Itself", "Scene", 1, 24, False),
        ("Inside", "Set", 20, 22, False),
    ]
    assert sorted(notes) == [
        "'Gone' has no shot: its scene is gone.",
        "'Muted' has no shot: it is muted.",
        "'Off' has no shot: it is muted.",
    ]
