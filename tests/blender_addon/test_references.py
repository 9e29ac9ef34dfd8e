"""A reference picture in the panel, and on its way to the backend."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from latentman.blender_addon import properties
from latentman.blender_addon.error_places import ErrorBoard
from latentman.blender_addon.operators import generate, polls
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.shared import messages
from latentman.shared.reference import name_picture, take_reference
from latentman.shared.settings import with_settings
from latentman.shared.shot import ShotError
from tests import samples
from tests.checkout import ROOT

pytestmark = pytest.mark.usefixtures("registered_operators")

PICTURE = ROOT / "docs" / "images" / "starter.png"


class _Recorder:
    """Takes messages and never answers."""

    waiting_bytes = 0

    def __init__(self):
        self.sent = []

    def send(self, message, arrays=None):
        self.sent.append((message, arrays))


def _submit(task):
    while task.busy:
        task.step()


@pytest.mark.parametrize("picture", [PICTURE, None])
def test_the_pictures_file_goes_with_the_shot(shot_scene, character, tmp_path, picture):
    request, data = take_reference(with_settings(samples.request(2), {"reference": str(picture or "")}))
    client = _Recorder()
    task = ShotTask(bpy.context, character, request, client, tmp_path, folder_per_job=False, reference=data)
    _submit(task)
    ((message, arrays),) = [(one, arrays) for one, arrays in client.sent if isinstance(one, messages.SubmitShot)]
    if picture is None:
        assert message.request.text.reference == "" and not arrays
    else:
        assert arrays["reference"].tobytes() == PICTURE.read_bytes() and arrays["reference"].dtype == np.uint8
        assert message.request.text.reference == name_picture(PICTURE.read_bytes())
        assert str(PICTURE) not in str(message)
    task.cancel()


def test_a_request_without_its_picture_is_refused(shot_scene, character, tmp_path):
    request, data = take_reference(with_settings(samples.request(2), {"reference": str(PICTURE)}))
    for wrong in (b"", data[:-1]):
        with pytest.raises(ShotError, match="reference picture did not come"):
            ShotTask(bpy.context, character, request, _Recorder(), tmp_path, folder_per_job=False, reference=wrong)


def test_the_panels_picture(shot_scene, character, tmp_path, monkeypatch):
    client, added = _Recorder(), []
    fake = SimpleNamespace(connected=True, busy=False, get_client=lambda: client, add=added.append, errors=ErrorBoard())
    for module in (generate, polls):
        monkeypatch.setattr(module, "connection", fake)
    # how the starter is run is known without asking
    monkeypatch.setattr(generate, "learn_profile", lambda settings: None)
    settings = properties.get_scene_settings(shot_scene)
    declared = settings.bl_rna.properties["reference"]
    assert declared.subtype == "FILE_PATH" and settings.reference == "" and settings.reference_strength == -1
    settings.character, settings.reference = character, str(tmp_path / "gone.png")
    with pytest.raises(RuntimeError, match="There is no reference picture"):
        bpy.ops.latentman.preview_frame()
    settings.reference = "//hero.png"
    with pytest.raises(RuntimeError, match="save that file"):
        bpy.ops.latentman.preview_frame()
    assert not client.sent and not added
    # beside the saved file
    (tmp_path / "hero.png").write_bytes(PICTURE.read_bytes())
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    try:
        settings = properties.get_settings(bpy.context)
        settings.reference_strength = 0.5
        assert bpy.ops.latentman.preview_frame() == {"FINISHED"}
        (task,) = added
        assert task.request.text.reference == name_picture(PICTURE.read_bytes()) and task.request.text.reference_strength == 0.5
        # another picture at the same place is another look
        before = properties.compute_settings_digest(task.request)
        task.cancel()
        (tmp_path / "hero.png").write_bytes((ROOT / "docs" / "images" / "starter_loss.png").read_bytes())
        assert bpy.ops.latentman.preview_frame() == {"FINISHED"}
        assert properties.compute_settings_digest(added[1].request) != before
        added[1].cancel()
    finally:
        bpy.ops.wm.read_factory_settings(use_empty=True)
