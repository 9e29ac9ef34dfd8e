"""The box *Models*: choose, get, remove and verify models, and read folders of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import BoolProperty, IntProperty, StringProperty

from ...shared import messages
from ...shared.library import MAX_TOKEN, PARTS, TAUGHT, LibraryItem, write_bytes
from ...shared.model_name import CONTROL_KINDS, add_part, remove_part, set_base
from .. import properties
from ..connection import connection
from ..library_book import book
from ..model_library import find_active_item, list_parts
from ..online import is_online
from ..panel_base import draw_text
from ..tasks.library import LibraryTask
from ..typed_access import OperatorResult, get_layout
from .dialogs import FolderDialog, show_settings_dialog
from .polls import Poll
from .reports import report


def start_task(make: Callable[[str], messages.Message], stage: str) -> LibraryTask:
    """Have the backend change its library."""
    task = LibraryTask(connection.get_client(), book, make, stage, is_change=True)
    return connection.add(task)


class NeedsLibrary(Poll):
    """A backend is connected, and its library is not being changed."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a backend, and while something is got or verified."""
        if not connection.connected:
            return cls.refuse("The backend is not running; press Start above")
        if connection.library_task is not None and not connection.library_task.done:
            return cls.refuse("The library is at work; wait or cancel it")
        return super().poll(context)


class NeedsItem(Poll):
    """An entry is chosen in the list."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where none is chosen."""
        if find_active_item() is None:
            return cls.refuse("Choose a model in the list first")
        return super().poll(context)


class ListModels(NeedsLibrary, bpy.types.Operator):
    bl_idname = "latentman.list_models"
    bl_label = "Refresh"
    bl_description = "Look again at what is in the library's folders"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Ask for the list."""
        book.want_list()
        return {"FINISHED"}


class UseModel(NeedsItem, bpy.types.Operator):
    bl_idname = "latentman.use_model"
    bl_label = "Use"
    bl_description = "Make it the model, or add it to the model; LoRAs and ControlNets get a strength above the list"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for what is not here, or cannot be used in a model."""
        item = find_active_item()
        if item is not None and not item.use:
            if item.can_get:
                return cls.refuse("It is not on this machine yet; press Get first")
            return cls.refuse("It is nothing that a model can use")
        if item is not None and item.kind == "controlnet" and (item.control or "depth") not in CONTROL_KINDS:
            return cls.refuse(f"This ControlNet is for {item.control}; use one for {', '.join(CONTROL_KINDS)}")
        return super().poll(context)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Write it into the model's name."""
        item = find_active_item()
        settings: Any = properties.get_settings(context)
        assert item is not None
        if item.kind == "motion":
            settings.motion.model = item.use
            report(self, {"INFO"}, f"Motions are made with {item.title} from now on")
            return {"FINISHED"}
        settings.model = put_into_model(settings.model, item)
        kinds = {part.kind for part in list_parts(settings.model) if part is not None}
        if item.kind == "controlnet" and not kinds & {"depth", ""}:
            report(self, {"WARNING"}, "The model has this ControlNet alone now; add one for depth as well to hold the shapes.")
        return {"FINISHED"}


def put_into_model(model: str, item: LibraryItem) -> str:
    """A model's name with an entry as its base, or as one of its parts."""
    if item.kind == "checkpoint":
        return set_base(model, item.use)
    if item.kind == "controlnet":
        return add_part(model, item.control or "depth", item.use, 1.0)
    if item.kind == "lora" and item.family in TAUGHT:
        return add_part(model, "depth", item.use, 1.0)
    return add_part(model, PARTS[item.kind], item.use, 1.0 if item.kind == "lora" else None)


class RemovePart(bpy.types.Operator):
    bl_idname = "latentman.remove_part"
    bl_label = "Remove Part"
    bl_description = "Take this part out of the model; its file stays"
    bl_options = {"REGISTER", "UNDO"}

    index: IntProperty(name="Part", description="Which part of the model", options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Write the name without it."""
        settings: Any = properties.get_settings(context)
        settings.model = remove_part(settings.model, self.index)
        return {"FINISHED"}


class GetModel(NeedsItem, NeedsLibrary, bpy.types.Operator):
    bl_idname = "latentman.get_model"
    bl_label = "Get"
    bl_description = "Download it; it can be cancelled, and goes on where it stopped"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for what is here, and where Blender may not go online."""
        item = find_active_item()
        if item is not None and not item.can_get:
            return cls.refuse("It is here already" if item.is_here else "It can be had in a browser only; press Open Page")
        if not is_online():
            return cls.refuse("Blender is not allowed to go online; allow it in the preferences, System")
        return super().poll(context)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Ask the backend to get it."""
        item = find_active_item()
        assert item is not None
        name = item.name
        start_task(lambda ticket: messages.GetModel(ticket=ticket, name=name), f"getting {item.title}")
        report(self, {"INFO"}, f"Getting {item.title} ({write_bytes(item.size) or 'its size is asked for'}; {item.licence})")
        return {"FINISHED"}


class CancelLibrary(Poll, bpy.types.Operator):
    bl_idname = "latentman.cancel_library"
    bl_label = "Cancel"
    bl_description = "Stop it at once; what has come is kept, and the next Get goes on from there"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while nothing is under way."""
        task = connection.library_task
        return (task is not None and not task.done) or cls.refuse("Nothing is under way")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Tell the backend."""
        if connection.library_task is not None:
            connection.library_task.cancel()
        return {"FINISHED"}


class RemoveModel(NeedsItem, NeedsLibrary, bpy.types.Operator):
    bl_idname = "latentman.remove_model"
    bl_label = "Remove"
    bl_description = "Delete what was got; files in your own folders stay unless you say otherwise"

    files: BoolProperty(
        name="Delete Files",
        description="Delete it also where it lies in a folder of yours, or where another program has put it; for good",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for what is not here, or comes with the extension."""
        item = find_active_item()
        if item is not None and (not item.is_here or item.place == "bundled"):
            return cls.refuse("It is not here" if not item.is_here else "It comes with the extension")
        return super().poll(context)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask before anything is deleted."""
        return show_settings_dialog(self, context)

    def draw(self, context: bpy.types.Context) -> None:
        """Say what will be deleted."""
        item = find_active_item()
        layout = get_layout(self)
        if item is not None:
            draw_text(layout, f"Delete {item.title} ({write_bytes(item.size) or 'unknown size'})?", "TRASH")
        layout.prop(self, "files")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Ask the backend to remove it."""
        item, files = find_active_item(), self.files
        assert item is not None
        name = item.name
        start_task(lambda ticket: messages.ChangeLibrary(ticket=ticket, action="remove", name=name, files=files), "removing")
        return {"FINISHED"}


class VerifyModels(NeedsLibrary, bpy.types.Operator):
    bl_idname = "latentman.verify_models"
    bl_label = "Verify"
    bl_description = "Read the files again and compare them with what came; what is damaged can be got again"

    name: StringProperty(name="Model", description="Which one; empty for all", options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Ask the backend to look."""
        name = self.name
        start_task(lambda ticket: messages.ChangeLibrary(ticket=ticket, action="verify", name=name), "verifying")
        return {"FINISHED"}


class OpenModelPage(NeedsItem, bpy.types.Operator):
    bl_idname = "latentman.open_model_page"
    bl_label = "Open Page"
    bl_description = "Open the model's page in the browser: its terms, and how to get it"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for what has no page."""
        item = find_active_item()
        if item is not None and not item.page:
            return cls.refuse("No page is known of it")
        return super().poll(context)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Open it, if it is a page of the web."""
        item = find_active_item()
        assert item is not None
        if not item.page.startswith(("https://", "http://127.0.0.1")):
            report(self, {"ERROR"}, "Its page is no page of the web.")
            return {"CANCELLED"}
        report(self, {"INFO"}, item.page)
        if not bpy.app.background:
            bpy.ops.wm.url_open(url=item.page)
        return {"FINISHED"}


class AddModels(FolderDialog, NeedsLibrary, bpy.types.Operator):
    bl_idname = "latentman.add_models"
    bl_label = "Add Folder"
    bl_description = "Read a folder of models where it is: of ComfyUI, AUTOMATIC1111, Forge, or any other"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Ask the backend to read it."""
        path = bpy.path.abspath(self.directory)
        if not path:
            report(self, {"ERROR"}, "Choose a folder with models in it.")
            return {"CANCELLED"}
        start_task(lambda ticket: messages.ChangeLibrary(ticket=ticket, action="add", name=path), "reading the folder")
        return {"FINISHED"}


class ForgetFolder(NeedsLibrary, bpy.types.Operator):
    bl_idname = "latentman.forget_folder"
    bl_label = "Forget Folder"
    bl_description = "Read this folder no more; its files stay as they are"

    path: StringProperty(name="Folder", description="The folder of the library that is left out", options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Ask the backend to leave it out."""
        path = self.path
        start_task(lambda ticket: messages.ChangeLibrary(ticket=ticket, action="remove", name=path), "leaving the folder out")
        return {"FINISHED"}


class GiveToken(NeedsLibrary, bpy.types.Operator):
    bl_idname = "latentman.give_token"
    bl_label = "Paste Token"
    bl_description = (
        "Give a token of the model hub, for gated and private models; it is kept in the system's keyring or a private file"
    )

    token: StringProperty(
        name="Token",
        subtype="PASSWORD",
        maxlen=MAX_TOKEN,
        description="From the hub's page of access tokens; never stored in the .blend file. Empty removes the one that is kept",
        options={"SKIP_SAVE"},
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask for it."""
        self.token = ""
        return show_settings_dialog(self, context)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Hand it to the backend, and forget it here."""
        token, self.token = self.token, ""
        start_task(lambda ticket: messages.ChangeLibrary(ticket=ticket, action="token", token=token), "keeping the token")
        return {"FINISHED"}


CLASSES = (
    ListModels,
    UseModel,
    RemovePart,
    GetModel,
    CancelLibrary,
    RemoveModel,
    VerifyModels,
    OpenModelPage,
    AddModels,
    ForgetFolder,
    GiveToken,
)
