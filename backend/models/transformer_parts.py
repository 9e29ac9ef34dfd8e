"""All that a file with a transformer alone lacks, in a diffusers folder of its family: near the file, or in the hub's cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...shared.model_name import is_weight_file
from ...shared.shot import ShotError
from .family_layouts import BY_NAME, FamilyLayout
from .folder_reading import INDEX, find_layout_of_folder
from .hub_cache import find_in_cache
from .recognition import inspect_model_file

if TYPE_CHECKING:
    from .registry import ModelSource

#: folders that are looked into
_MOST_FOLDERS = 200
#: (path, time of writing, size) of files that were looked into -> the names of their layouts, empty for other files
_known: dict[tuple[str, int, int], str] = {}
_MOST_KNOWN = 64


def find_layout_of_file(path: Path) -> FamilyLayout | None:
    """The layout of a file with a transformer alone; None for others, and for what cannot be read."""
    try:
        state = path.stat()
        key = (str(path), state.st_mtime_ns, state.st_size)
        if key not in _known:
            file = inspect_model_file(path)
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[key] = file.family if file.kind == "transformer" else ""
    except (OSError, ShotError):
        return None
    return BY_NAME.get(_known[key])


def find_layout_of_base(source: ModelSource) -> FamilyLayout | None:
    """The layout of a base that lies on this machine; None for those with a UNet. Raises ``ShotError``."""
    path = Path(source.base)
    return find_layout_of_file(path) if is_weight_file(source.base) else find_layout_of_folder(path)


def find_parts(path: Path, layout: FamilyLayout) -> Path:
    """The diffusers folder of a layout that goes with a file. Raises ``ShotError`` where there is none, or several."""
    near = list(dict.fromkeys(folder.resolve() for folder in _list_folders(path) if _has_layout(folder, layout)))
    if len(near) > 1:
        names = " and ".join(str(folder) for folder in near[:2])
        raise ShotError(
            "model", f"Several folders near {path.name} hold {layout.title}, such as {names}; name one with parts=FOLDER."
        )
    if near:
        return near[0]
    cached = find_in_cache(layout.repository, None)
    if cached is not None and _has_layout(cached, layout):
        return cached
    raise ShotError(
        "model",
        f"{path.name} holds the transformer of {layout.title} alone; put a diffusers folder with its text encoder and auto-encoder "
        f"beside it, or name one, such as {path.name}|parts={layout.repository}.",
    )


def _has_layout(folder: Path, layout: FamilyLayout) -> bool:
    try:
        return find_layout_of_folder(folder) is layout
    except ShotError:
        return False


def _list_folders(path: Path) -> Iterator[Path]:
    """The diffusers folders beside a file, beside its folder, and in the folder that web interfaces have for them."""
    count = 0
    for above in (path.parent, path.parent.parent, path.parent.parent / "diffusers"):
        try:
            below = sorted(above.iterdir())
        except OSError:
            continue
        for folder in below:
            count += 1
            if count > _MOST_FOLDERS:
                return
            if (folder / INDEX).is_file():
                yield folder
