"""A reference picture in the panel, and on its way to the backend."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.blender_addon import properties
from latentman.blender_addon.connection import connection as own_connection
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.shared import messages
from latentman.shared.reference import name_picture, take_reference
from latentman.shared.settings import with_settings
from latentman.shared.shot import ShotError
from tests import samples
from tests.checkout import ROOT

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
    settings = properties.get_scene_settings(shot_scene)
    declared = settings.bl_rna.properties["reference"]
    assert declared.subtype == "FILE_PATH" and settings.reference == "" and settings.reference_strength == -1
    settings.character, settings.reference = character, str(tmp_path / "gone.png")
    client = _Recorder()
    monkeypatch.setattr(own_connection, "client", client, raising=False)
    monkeypatch.setattr(type(own_connection), "get_client", lambda self: client)
    monkeypatch.setattr(type(own_connection), "busy", property(lambda self: False), raising=False)
    with pytest.raises(RuntimeError, match="There is no reference picture"):
        bpy.ops.latentman.preview_frame()
    assert not client.sent
    # beside the saved file
    (tmp_path / "hero.png").write_bytes(PICTURE.read_bytes())
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"), copy=False)
    settings = properties.get_settings(bpy.context)
    settings.reference, settings.reference_strength = "//hero.png", 0.5
    from latentman.blender_addon.paths import get_file_folder

    request, data = take_reference(settings.make_request(bpy.context.scene, (1,)), get_file_folder())
    assert data == PICTURE.read_bytes() and request.text.reference_strength == 0.5
