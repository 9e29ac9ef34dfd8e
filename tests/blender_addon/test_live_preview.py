"""What is seen of a shot while it is made."""

from __future__ import annotations

import shutil

import bpy
import numpy as np
import pytest

from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.live_preview import IMAGE, LivePreview
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.shared import messages
from tests import samples


@pytest.fixture
def live():
    """A preview of the test's own."""
    found = LivePreview()
    yield found
    found.forget()


def _read(image):
    flat = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(flat)
    return (flat.reshape(image.size[1], image.size[0], 4)[::-1, :, :3] * 255).round().astype(np.uint8)


def test_pictures_are_shown_the_right_way_up(empty_scene, live):
    left = np.zeros((6, 10, 3), np.uint8)
    left[0] = (250, 20, 30)
    right = np.full_like(left, 90)
    live.show_small([left, right])
    assert live.is_shown and IMAGE not in bpy.data.images, "what nobody watches needs no image in the file"
    # who begins to watch sees what was shown last
    live.make_image()
    shown = _read(bpy.data.images[IMAGE])
    times = shown.shape[1] // 10
    assert times > 20 and (shown == 90).sum() == right.size * times**2
    rows = np.flatnonzero((shown == (250, 20, 30)).all(2).any(1))
    assert rows.tolist() == list(range(times))
    live.begin()
    assert not live.is_shown and not live.icon


def test_drafts_grow_into_the_frames(connection, shared_backend, shot_scene, character, tmp_path, live):
    shown = []
    live.make_image()

    def generate(name, **options):
        task = ShotTask(
            bpy.context,
            character,
            samples.request(4, preset="surface", steps=4),
            connection.client,
            tmp_path / name,
            folder_per_job=False,
            **options,
        )
        connection.add(task)
        assert wait_until(connection, lambda: task.done, 240)
        assert task.succeeded, task.error
        return task

    def show_file(message):
        if isinstance(message, messages.FrameResult):
            live.show_file(connection.shot_task.frames[message.index])

    def show(indices, pictures, finished):
        shown.append((tuple(indices), np.array(pictures), finished))
        live.show_small(list(pictures), only_icon=finished)

    watched = generate("watched", on_draft=show, on_message=show_file)
    drafts, finished = ([one for one in shown if one[2] is kind] for kind in (False, True))
    assert len(drafts) == 4 and sorted(n for indices, _, _ in finished for n in indices) == [0, 1, 2, 3]
    small = {indices[0]: pictures[0].astype(float) for indices, pictures, _ in finished}

    def correlate(draft):
        indices, pictures, _ = draft
        pairs = []
        for n, picture in zip(indices, pictures.astype(float), strict=True):
            tall, wide = picture.shape[:2]
            blocks = small[n].reshape(tall, small[n].shape[0] // tall, wide, small[n].shape[1] // wide, 3)
            pairs.append(np.corrcoef(blocks.mean((1, 3)).ravel(), picture.ravel())[0, 1])
        return min(pairs)

    assert correlate(drafts[-1]) > 0.7 and correlate(drafts[-1]) > correlate(drafts[0])
    image = bpy.data.images[IMAGE]
    assert image.source == "FILE" and bpy.path.abspath(image.filepath) in {str(path) for path in watched.frames.values()}
    # what is looked at does not change the frames
    for path in shared_backend.jobs.glob("*"):
        shutil.rmtree(path)
    alone = generate("alone")
    assert [path.read_bytes() for path in alone.frames.values()] == [path.read_bytes() for path in watched.frames.values()]
