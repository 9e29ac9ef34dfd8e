"""The box *Models*: the library as a backend tells it, and the model's name with its parts."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from latentman.blender_addon import library_panel, model_library, panels, properties
from latentman.blender_addon.connection import Connection, ConnectionState
from latentman.blender_addon.connection import connection as shown_connection
from latentman.blender_addon.library_book import LibraryBook, Rate, book
from latentman.blender_addon.operators import library as operators
from latentman.shared import messages
from latentman.shared.endpoint import free_port
from latentman.shared.library import KINDS, LibraryItem
from latentman.shared.model_name import CONTROL_KINDS, OTHER_KINDS
from tools.stand_in_hub import StandInHub

pytestmark = pytest.mark.usefixtures("registered_operators")

BASE = LibraryItem(
    name="sdxl", title="SDXL", kind="checkpoint", use="sdxl", is_here=True, place="library", size=7 * 10**9, fits="no"
)
DEPTH = LibraryItem(name="d", title="Depth", kind="controlnet", control="depth", use="me/depth", is_here=True)
POSE = LibraryItem(name="p", title="Pose", kind="controlnet", control="openpose", use="me/pose", is_here=True)
CANNY = LibraryItem(name="c", title="Canny", kind="controlnet", control="canny", use="me/canny", is_here=True)
INK = LibraryItem(name="/l/ink.safetensors", title="Ink", kind="lora", use="/l/ink.safetensors", is_here=True, has_preview=True)
SMALL = LibraryItem(name="taesd", title="TAESD", kind="vae", use="madebyollin/taesd", is_here=True)
FAR = LibraryItem(name="far", title="Far", kind="lora", can_get=True, page="https://example.org/far", licence="MIT")
MOTION = LibraryItem(name="/m/walks", title="walks", kind="motion", use="/m/walks", is_here=True)
ITEMS = (BASE, DEPTH, POSE, CANNY, INK, SMALL, FAR, MOTION)


class Client:
    """Takes messages for a backend."""

    def __init__(self):
        self.sent = []

    def send(self, message, arrays=None):
        self.sent.append(message)

    def close(self):
        pass


@pytest.fixture
def settings(empty_scene):
    """A new scene's settings."""
    return properties.get_settings(bpy.context)


@pytest.fixture
def library(settings, monkeypatch):
    """The window's list with entries, as if a backend were connected."""
    book.forget()
    client = Client()
    monkeypatch.setattr(shown_connection, "state", ConnectionState.CONNECTED)
    monkeypatch.setattr(shown_connection, "client", client)
    monkeypatch.setattr(shown_connection, "library_task", None)
    monkeypatch.setattr(model_library, "_chosen", "")
    book.receive(messages.ModelList(ticket="", items=ITEMS))
    model_library.update_rows()
    found = model_library.find_library()
    found.search, found.kind, found.only_here = "", model_library.ALL, False
    yield found
    shown_connection._tasks.clear()
    shown_connection.library_task = None
    book.forget()
    found.rows.clear()


def _choose(library, item):
    library.active = ITEMS.index(item)
    assert model_library.find_active_item() == item


def test_choosing_writes_the_models_name(library, settings):
    for item in (BASE, DEPTH, INK, SMALL):
        _choose(library, item)
        assert bpy.ops.latentman.use_model() == {"FINISHED"}
    assert settings.model == "sdxl|depth=me/depth@1|lora=/l/ink.safetensors@1|vae=madebyollin/taesd"
    _choose(library, POSE)
    bpy.ops.latentman.use_model()
    assert settings.model.endswith("|openpose=me/pose@1") and "depth=me/depth@1" in settings.model
    _choose(library, MOTION)
    bpy.ops.latentman.use_model()
    assert settings.motion.model == "/m/walks" and settings.model.count("|") == 4
    bpy.ops.latentman.remove_part(index=1)
    assert "lora" not in settings.model and settings.model.count("|") == 3


def test_sliders_and_the_typed_name_stay_in_step(library, settings):
    settings.model = "sd15|depth=me/depth@0.8@0-0.6|lora=/l/ink.safetensors|ip=/a.bin|vae=x"
    parts = settings.parts
    assert [round(getattr(parts, f"strength_{n}"), 3) for n in range(3)] == [0.8, 1.0, 0.6]
    parts.strength_0, parts.strength_1 = 0.35, 0.75
    assert settings.model == "sd15|depth=me/depth@0.35@0-0.6|lora=/l/ink.safetensors@0.75|ip=/a.bin|vae=x"
    settings.model = "starter|lora=/l/ink.safetensors@-0.5"
    assert parts.strength_0 == -0.5
    # what has no strength, and what is not there, changes nothing
    parts.strength_5 = 0.3
    settings.model = "sd15|lora=/l/ink.safetensors@loud"
    parts.strength_0 = 0.3
    assert settings.model == "sd15|lora=/l/ink.safetensors@loud"


@pytest.mark.parametrize(
    ("name", "item", "reason"),
    [
        ("use_model", FAR, "not on this machine yet; press Get first"),
        ("use_model", CANNY, "This ControlNet is for canny; use one for depth, normal, openpose"),
        ("get_model", BASE, "It is here already"),
        ("remove_model", FAR, "It is not here"),
        ("open_model_page", BASE, "No page is known"),
        ("cancel_library", BASE, "Nothing is under way"),
    ],
)
def test_a_grey_button_says_why(library, name, item, reason):
    _choose(library, item)
    with pytest.raises(RuntimeError, match=reason):
        getattr(bpy.ops.latentman, name)()


def test_nothing_is_got_without_permission_to_go_online(library, monkeypatch):
    _choose(library, FAR)
    if bpy.app.online_access:
        pytest.skip("this Blender may go online")
    with pytest.raises(RuntimeError, match="not allowed to go online"):
        bpy.ops.latentman.get_model()
    assert not shown_connection.client.sent


def test_without_a_backend_the_buttons_are_grey_and_the_box_says_so(settings):
    drawn = Texts()
    library_panel.ModelsPanel.draw(SimpleNamespace(layout=drawn), _context())
    assert any("The backend is not running" in text for text in drawn.texts)
    with pytest.raises(RuntimeError, match="The backend is not running; press Start above"):
        bpy.ops.latentman.list_models()


class Texts:
    """Stands in for a layout and remembers its words and buttons."""

    def __init__(self):
        self.texts, self.buttons = [], []

    def label(self, text="", **_):
        self.texts.append(text)

    def progress(self, text="", **_):
        self.texts.append(text)

    def operator(self, name, **_):
        self.buttons.append(name)
        return SimpleNamespace()

    def prop(self, group, name, **_):
        assert name in group.bl_rna.properties, name

    def __getattr__(self, _):
        return lambda *_, **__: self


def _context():
    return SimpleNamespace(
        scene=bpy.context.scene,
        region=SimpleNamespace(width=3000),
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
    )


def test_the_box_tells_what_there_is_to_know(library, settings):
    settings.model = "sd15|depth=me/depth@0.8|lora=/l/ink.safetensors@x"
    _choose(library, FAR)
    drawn = Texts()
    panels.ModelsPanel.draw(SimpleNamespace(layout=drawn), _context())
    assert {"sd15", "Depth: depth", "Far", "LoRA · size not known yet · MIT"} <= set(drawn.texts)
    assert "a part that cannot be understood" in drawn.texts
    if not bpy.app.online_access:
        assert "latentman.allow_online" in drawn.buttons
    book.fail("'far' is gated: accept its terms.", "gated")
    drawn = Texts()
    panels.ModelsPanel.draw(SimpleNamespace(layout=drawn), _context())
    assert "'far' is gated: accept its terms." in drawn.texts and drawn.buttons.count("latentman.give_token") == 2


def test_parts_have_titles_in_the_windows_language_and_their_names_stay(library, settings, monkeypatch):
    assert set(library_panel.PART_TITLES) == {"", *CONTROL_KINDS, *OTHER_KINDS}
    settings.model = "wan|sees=depth_openpose|motion=/m/Walking Motion.safetensors|lora=/l/Depth.safetensors@0.5"
    german = {"Sees": "Sieht", "Motion module": "Bewegungsmodul"}
    monkeypatch.setattr(library_panel, "tr", lambda text: german.get(text, text))
    drawn = Texts()
    library_panel.draw_parts(drawn, _context())
    assert drawn.texts[1:] == ["Sieht: depth_openpose", "Bewegungsmodul: Walking Motion", "LoRA: Depth"]


def test_the_list_is_searched_and_asks_for_thumbnails_that_are_drawn(library):
    library.search = "ink"
    shown = [item for item in ITEMS if library_panel.is_shown(item, library)]
    assert shown == [INK]
    library.search, library.kind = "", "LORA"
    assert [item for item in ITEMS if library_panel.is_shown(item, library)] == [INK, FAR]
    library.only_here = True
    assert [item for item in ITEMS if library_panel.is_shown(item, library)] == [INK]
    assert model_library.find_icon(BASE) == 0 and not book.take_preview_wishes()
    assert model_library.find_icon(INK) == 0 and book.take_preview_wishes() == (INK.name,)
    # once only
    model_library.find_icon(INK)
    assert not book.take_preview_wishes()


def test_rows_hold_nothing_that_a_file_would_tell(library):
    """They may be saved with the window's layout."""
    assert {prop.identifier for prop in library.rows[0].bl_rna.properties} <= {"rna_type", "name", "index"}
    assert all(not row.name for row in library.rows)
    _choose(library, INK)
    book.receive(messages.ModelList(ticket="", items=(FAR, INK)))
    assert model_library.update_rows() and not model_library.update_rows(), "what is new is drawn"
    # what was chosen stays chosen
    assert len(library.rows) == 2 and model_library.find_active_item() == INK
    # and so it is after the backend was started again
    book.forget()
    model_library.update_rows()
    assert not library.rows
    book.receive(messages.ModelList(ticket="", items=(FAR, INK)))
    model_library.update_rows()
    assert model_library.find_active_item() == INK


def test_a_token_is_sent_and_kept_nowhere(library):
    assert bpy.ops.latentman.give_token(token="hf_abcdefgh") == {"FINISHED"}
    (sent,) = shown_connection.client.sent
    assert (sent.action, sent.token) == ("token", "hf_abcdefgh") and "hf_abcdefgh" not in repr(sent)
    assert bpy.ops.latentman.give_token.get_rna_type().properties["token"].subtype == "PASSWORD"


def test_how_quickly_bytes_come():
    rate = Rate()
    assert rate.add(0, 10.0) == 0 and rate.add(1_000_000, 10.5) == 2_000_000 and rate.add(1_000_000, 30.0) == 0


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with a LoRA, for a backend that is started with it."""
    found = StandInHub()
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "pytorch_lora_weights.safetensors").write_bytes(np.random.default_rng(1).bytes(600_000))
    found.repositories = {"me/lora": ("0123456789abcdef" * 2 + "01234567", folder)}
    monkeypatch.setenv("HF_ENDPOINT", found.address)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LATENTMAN_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LATENTMAN_CONFIG", os.environ["LATENTMAN_CONFIG"])
    yield found
    found.close()


@pytest.mark.slow
def test_a_real_backend_lists_shows_gets_and_is_cancelled(empty_scene, hub, tmp_path):
    """The whole way: Blender's side, the socket, a backend's process, the hub."""
    from PIL import Image

    own = LibraryBook()
    connection = Connection(library=own)
    python = os.environ.get("LATENTMAN_PYTHON", sys.executable)
    connection.start(python, f"127.0.0.1:{free_port()}", tmp_path / "jobs")
    try:
        assert connection.wait_until(lambda: connection.connected or bool(connection.error), 120) and not connection.error
        folder = tmp_path / "mine"
        folder.mkdir()
        (folder / "page.safetensors").write_text("<html>no model</html>")
        Image.new("RGB", (300, 150), (9, 200, 9)).save(folder / "page.png")

        def change(**values):
            make = values.pop("make", messages.ChangeLibrary)
            from latentman.blender_addon.tasks.library import LibraryTask

            task = LibraryTask(connection.get_client(), own, lambda t: make(ticket=t, **values), "x", is_change=True)
            return connection.add(task)

        task = change(action="add", name=str(folder))
        assert not connection.busy and connection.wait_until(lambda: task.done, 60) and own.sentence.endswith(".")
        assert connection.wait_until(lambda: own.is_listed, 60)
        page = next(item for item in own.items if item.title == "page")
        assert page.problem and page.has_preview and own.find("sd15").can_get and own.find("starter").is_here
        own.want_preview(page)
        assert connection.wait_until(lambda: page.name in own.previews, 60)
        hub.pause = 0.02
        task = change(make=messages.GetModel, name="me/lora")
        assert connection.wait_until(lambda: " MB/s" in task.stage, 60), task.stage
        task.cancel()
        assert connection.wait_until(lambda: task.done, 10) and not task.error
        hub.pause = 0.0
        task = change(make=messages.GetModel, name="me/lora")
        assert connection.wait_until(lambda: task.done, 60) and not task.error and "is here" in own.sentence
        task = change(make=messages.GetModel, name="me/none")
        assert connection.wait_until(lambda: task.done, 60)
        # the box of the library shows it, and not the box of the backend
        assert own.error_code == "missing" and "me/none" in own.error and not connection.error
    finally:
        connection.stop(20)
    assert not own.items and own.version


def test_every_kind_that_can_be_used_has_a_place_in_a_models_name():
    for kind in ("lora", "vae", "embedding", "ip_adapter", "picture_encoder", "motion_module"):
        item = LibraryItem(name="x", title="x", kind=kind, use="/x", is_here=True)
        assert operators.put_into_model("sd15", item).startswith("sd15|")
    # one that teaches a model what depth is stands where others have a ControlNet
    item = LibraryItem(name="x", title="x", kind="lora", family="ltx2", use="/x", is_here=True)
    assert operators.put_into_model("Lightricks/LTX-2", item).startswith("Lightricks/LTX-2|depth=/x")


def test_the_box_is_registered_and_its_icons_exist(settings):
    panels.register()
    assert bpy.types.LATENTMAN_PT_models.bl_parent_id == "LATENTMAN_PT_look"
    panels.unregister()
    icons = set(bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items.keys())
    assert {*library_panel._FIT_ICONS.values(), *library_panel._KIND_ICONS.values()} <= icons
    assert set(library_panel._KIND_ICONS) == set(KINDS)
