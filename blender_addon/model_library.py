"""The library's list as the window has it, and the strengths of a model's parts as sliders.

The list lives with the window, not with the file: a .blend file must not tell where somebody's models are. Its rows hold numbers of
entries only; what they are is in ``library_book``. The sliders store nothing: they read and write the model's name.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import bpy
import bpy.utils.previews
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from ..shared import logs
from ..shared.library import KINDS, LibraryItem
from ..shared.model_name import ADAPTER_STRENGTH, ModelPart, read_part, set_strength, split_name
from ..shared.shot import ShotError
from .library_book import book

logger = logs.get_logger(__name__)
#: parts of a model that have a row with a slider
MOST_PARTS = 12
ALL = "ALL"


def list_parts(model: str) -> list[ModelPart | None]:
    """The parts of a model's name; None for one that cannot be understood."""
    found: list[ModelPart | None] = []
    for text in split_name(model)[1]:
        try:
            found.append(read_part(text))
        except ShotError:
            found.append(None)
    return found


def get_strength(model: str, index: int) -> float:
    """The strength of a part of a model, as a slider shows it."""
    parts = list_parts(model)
    part = parts[index] if index < len(parts) else None
    if part is None:
        return 0.0
    if part.strength is not None:
        return part.strength
    return ADAPTER_STRENGTH if part.kind == "ip" else 1.0


def _make_strength(index: int) -> Any:
    """The slider of the part at ``index``."""

    def get(self: Any) -> float:
        return get_strength(self.id_data.latentman.model, index)

    def store(self: Any, value: float) -> None:
        settings = self.id_data.latentman
        changed = set_strength(settings.model, index, round(value, 4))
        if changed != settings.model:
            settings.model = changed

    return FloatProperty(
        name="Strength",
        description="How strongly this part of the model works; 1 is as it was made",
        soft_min=0.0,
        soft_max=2.0,
        min=-20.0,
        max=1000.0,
        precision=2,
        get=get,
        set=store,
    )


class LatentManModelParts(bpy.types.PropertyGroup):
    """A slider for each part of the model, which reads and writes its name."""


for _index in range(MOST_PARTS):
    LatentManModelParts.__annotations__[f"strength_{_index}"] = _make_strength(_index)


class LatentManLibraryRow(bpy.types.PropertyGroup):
    """A row of the list: the number of an entry."""

    index: IntProperty(name="Entry", description="The number of the entry that the row shows")


class LatentManLibrary(bpy.types.PropertyGroup):
    """The list, and what of it is shown."""

    rows: CollectionProperty(type=LatentManLibraryRow, name="Rows", description="A row for each entry of the library")
    active: IntProperty(name="Chosen Model", description="The model that the buttons below are for")
    search: StringProperty(
        name="Search",
        description="Show only models that have all of these words in their name, kind, licence or purpose",
        options={"TEXTEDIT_UPDATE"},
    )
    kind: EnumProperty(
        name="Kind",
        description="Show only models of this kind",
        items=(
            (ALL, "All Kinds", "Everything in the library"),
            *((kind.upper(), label, f"Only of the kind: {label}") for kind, label in KINDS.items()),
        ),
    )
    only_here: BoolProperty(name="Only Here", description="Show only what is on this machine already")


def find_library() -> Any:
    """The window's list; None where there is no window, or the extension is switched off."""
    manager = bpy.context.window_manager
    return getattr(manager, "latentman_library", None)


def find_active_item() -> LibraryItem | None:
    """The entry that is chosen in the list."""
    library = find_library()
    if library is None or not 0 <= library.active < len(library.rows):
        return None
    return find_row_item(library.rows[library.active])


def find_row_item(row: LatentManLibraryRow) -> LibraryItem | None:
    """The entry of a row."""
    return _shown[row.index] if 0 <= row.index < len(_shown) else None


#: the entries that the rows stand for
_shown: tuple[LibraryItem, ...] = ()
#: the name of the entry that was chosen last: while the backend starts anew there is none
_chosen = ""


def update_rows() -> bool:
    """Have a row for each entry; what was chosen stays chosen, also when the backend comes again. Returns whether there is
    something new to be drawn. Must not be called while something is drawn."""
    global _shown, _chosen
    library = find_library()
    if library is None or (_shown is book.items and len(library.rows) == len(book.items)):
        return False
    chosen = find_active_item()
    if chosen is not None:
        _chosen = chosen.name
    _shown = book.items
    if len(library.rows) != len(_shown):
        library.rows.clear()
        for index in range(len(_shown)):
            library.rows.add().index = index
    library.active = next((index for index, item in enumerate(_shown) if item.name == _chosen), 0)
    return True


# thumbnails

_icons: Any = None
_folder: str = ""


def find_icon(item: LibraryItem) -> int:
    """The number of an entry's icon; 0 where it has none yet, which is asked for then."""
    book.want_preview(item)
    data = book.previews.get(item.name)
    return _load_icon(item.name, data) if data is not None else 0


def _load_icon(name: str, data: bytes) -> int:
    global _icons, _folder
    try:
        if _icons is None:
            _icons = bpy.utils.previews.new()
        if name not in _icons:
            # Blender reads icons from files only
            _folder = _folder or tempfile.mkdtemp(prefix="latentman-icons-")
            path = Path(_folder) / f"{len(_icons)}.png"
            path.write_bytes(data)
            _icons.load(name, os.fspath(path), "IMAGE")
        return int(_icons[name].icon_id)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        logger.info("A thumbnail cannot be shown (%s)", error)
        book.previews.pop(name, None)
        return 0


def forget_icons() -> None:
    """Let go of the icons and their files."""
    global _icons, _folder
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
    for path in Path(_folder).glob("*.png") if _folder else ():
        path.unlink(missing_ok=True)
    if _folder:
        try:
            os.rmdir(_folder)
        except OSError:
            logger.info("%s stays", _folder)
    _icons, _folder = None, ""


CLASSES = (LatentManModelParts, LatentManLibraryRow, LatentManLibrary)


def add_properties() -> None:
    """Give the window its list."""
    manager_type: Any = bpy.types.WindowManager
    make_pointer: Any = PointerProperty
    manager_type.latentman_library = make_pointer(
        type=LatentManLibrary, name="LatentMan's Models", description="The library of models as the window lists it"
    )


def remove_properties() -> None:
    """Take it away again."""
    global _shown
    manager_type: Any = bpy.types.WindowManager
    del manager_type.latentman_library
    forget_icons()
    _shown = ()
