"""Captured frames as JSON beside the arrays of a ``Spool``, for another process that reads them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .camera import View
from .geometry import FrameGeometry, Hair, Key, Surface
from .spool import BALD, EMPTY, Names, Spool

#: what the files of frames are called; what is beside them is half written
PATTERN = "frame *.json"


def strip(geometry: FrameGeometry) -> FrameGeometry:
    """A frame that is only measured: who is in it, and the points of the characters."""
    surfaces = tuple(
        replace(one, shape=replace(EMPTY, points=one.shape.points if one.character and not one.is_hole else EMPTY.points))
        for one in geometry.surfaces
    )
    return replace(geometry, surfaces=surfaces, hair=tuple(replace(one, strands=BALD) for one in geometry.hair))


def get_path(folder: Path, frame: int) -> Path:
    """The file of a frame."""
    return folder / f"frame {frame}.json"


def write_frame(spool: Spool, folder: Path, frame: int, geometry: FrameGeometry, extra: Any) -> None:
    """Store a frame in ``spool`` and what describes it in ``folder``, with ``extra``, which is whatever JSON holds. Raises
    ``OSError`` when the disk is full."""
    spool.put(frame, geometry)
    bare, shapes, strands = spool.get_stored(frame)
    document = {
        "views": [_pack_view(view) for view in bare.views.values()],
        "surfaces": [_pack(one, names) for one, names in zip(bare.surfaces, shapes, strict=True)],
        "hair": [_pack(one, names) for one, names in zip(bare.hair, strands, strict=True)],
        "people": {str(number): points.tolist() for number, points in bare.people.items()},
        "surroundings": None if bare.surroundings is None else bare.surroundings.tolist(),
        "has_ground": bare.has_ground,
        "extra": extra,
    }
    path = get_path(folder, frame)
    half = path.with_suffix(".part")
    half.write_text(json.dumps(document), encoding="utf-8")
    half.replace(path)


def read_frame(spool: Spool, folder: Path, frame: int) -> Any:
    """Take a frame that was written into ``spool``; returns its ``extra``. Raises ``OSError`` and ``ValueError`` for what is no
    such file."""
    document = json.loads(get_path(folder, frame).read_text(encoding="utf-8"))
    surfaces, hair = document["surfaces"], document["hair"]
    views = [_unpack_view(view) for view in document["views"]]
    bare = FrameGeometry(
        {(view.width, view.height): view for view in views},
        tuple(Surface(**_unpack(one), shape=EMPTY) for one in surfaces),
        {int(number): np.array(points) for number, points in document["people"].items()},
        tuple(Hair(**{name: value for name, value in _unpack(one).items() if name != "is_live"}, strands=BALD) for one in hair),
        (),
        None if document["surroundings"] is None else np.array(document["surroundings"]),
        document["has_ground"],
    )
    spool.take(frame, bare, [_find_files(one, spool) for one in surfaces], [_find_files(one, spool) for one in hair])
    return document["extra"]


def _pack_view(view: View) -> dict[str, Any]:
    return asdict(view) | {"world_to_camera": view.world_to_camera.tolist(), "projection": view.projection.tolist()}


def _unpack_view(packed: dict[str, Any]) -> View:
    return View(**packed | {name: np.array(packed[name]) for name in ("world_to_camera", "projection")})


_FIELDS = ("name", "character", "metres_per_unit", "is_hole")


def _pack(one: Surface | Hair, names: Names) -> dict[str, Any]:
    packed: dict[str, Any] = {name: getattr(one, name) for name in _FIELDS}
    files = {name: path.name for name, path in names.items()}
    return packed | {"key": one.key, "matrix": one.matrix.tolist(), "files": files}


def _unpack(packed: dict[str, Any]) -> dict[str, Any]:
    shower, name, which = packed["key"]
    key: Key = (shower, name, tuple(which))
    return {field: packed[field] for field in _FIELDS} | {"key": key, "matrix": np.array(packed["matrix"])}


def _find_files(packed: dict[str, Any], spool: Spool) -> Names:
    # names alone: no path leads out of the folder
    return {name: spool.folder / Path(file).name for name, file in packed["files"].items()}
