"""The second Blender's side of ``playback``: plays a copy of the user's file and writes its frames.

The copy is ours alone, so everything is done in place: the scene is evaluated itself, by Blender's own rules, with its physics, its
drivers and its scripts.
"""

from __future__ import annotations

import json
import os
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ...shared import shot
from ...shared.picture_size import Crop
from ..render_gate import override_context
from ..typed_access import get_mesh
from . import capture
from .camera import find_camera, read_view
from .cutouts import CutOuts
from .evaluated import Cast, GeometryReader
from .frame_files import strip, write_frame
from .geometry import FrameGeometry
from .padding import Padding
from .people import KeyPoints
from .quiet import silence_stdout
from .render_set import RenderObject
from .scene_bound import FRAME_HANDLERS, list_handlers
from .simulations import is_fluid
from .spool import Spool
from .surfaces import deforms, make_store_nodes, prepare_mesh
from .visibility import find_visible

#: what a playback is told, and what it says when it fails
REQUEST, FAILURE, FRAMES, DONE = "request.json", "failure.json", "frames", "done"


def get_name(found: bpy.types.Object | None) -> tuple[str, str]:
    """An object's name and the path of the library that it is of, "" for the file itself."""
    assert found is not None
    # a copy of the file reaches its libraries by other relative paths
    path = os.path.realpath(bpy.path.abspath(found.library.filepath)) if found.library else ""
    return found.name, path


def find_by_name(name: str, library: str) -> bpy.types.Object:
    """The object that ``get_name`` describes."""
    for found in bpy.data.objects:
        if found.name == name and get_name(found) == (name, library):
            return found
    raise shot.ShotError("scene", f"{name} is not in the copy of the file that was made to play it; save the file and try again.")


def _remove_fluids(*_: object) -> None:
    """Smoke has no surface, and a liquid is no part of what is rendered; evaluated, they would write into the user's caches."""
    for found in [one for one in bpy.data.objects if is_fluid(one)]:
        bpy.data.objects.remove(found)


def prepare() -> None:
    """Take out of the file that will be opened what must not be evaluated even once."""
    handlers, persistent = bpy.app.handlers.load_post, bpy.app.handlers.persistent
    listening: Any = handlers
    listening.insert(0, persistent(_remove_fluids))


class PlayedScene:
    """A scene that is played from frame to frame."""

    def __init__(self, request: dict[str, Any], folder: Path) -> None:
        self._request, self._folder = request, folder
        self._scene = bpy.data.scenes[request["scene"]]
        self._layer = self._scene.view_layers[request["layer"]]
        self._spool, self._cut_outs = Spool(folder / FRAMES), CutOuts()
        padding = request["padding"]
        self._padding = Padding(Crop(**padding.pop("frame")), **padding) if padding else None
        self._check_handlers()
        self._show()
        self._set_up()
        self._reader = self._make_reader()

    def _check_handlers(self) -> None:
        here = {name for _, name in list_handlers()}
        for name in self._request["handlers"]:
            if name not in here:
                raise shot.ShotError(
                    "scene",
                    f"The script '{name}' changes the scene on every frame and does not run when the file is opened, so passes "
                    "cannot follow it; tick Text > Register for it in the text editor, allow scripts and save, or bake it to "
                    "keyframes.",
                )

    def _show(self) -> None:
        """Let Blender show the scene, as physics is only computed for what is shown."""
        if bpy.context.window is not None:
            bpy.context.window.scene, bpy.context.window.view_layer = self._scene, self._layer
        for name, modifier, number, path in self._request["bakes"]:
            nodes: Any = find_by_name(*name).modifiers[modifier]
            if number is None:
                nodes.bake_directory = path
            for bake in nodes.bakes:
                if bake.bake_id == number:
                    bake.directory = path
        self._layer.update()

    def _set_up(self) -> None:
        render: Any = self._scene.render
        settings = dict(
            engine=capture.NAME,
            resolution_x=8,
            resolution_y=8,
            resolution_percentage=100,
            use_compositing=False,
            use_sequencer=False,
            use_freestyle=False,
            use_multiview=False,
            use_motion_blur=False,
            use_border=False,
            use_lock_interface=False,
            # what is kept from frame to frame may be hair that has moved since
            use_persistent_data=False,
        )
        for name, value in settings.items():
            setattr(render, name, value)

    def _make_reader(self) -> GeometryReader:
        objects: dict[bpy.types.Object, RenderObject] = {}
        uvs: dict[int, np.ndarray] = {}
        store = make_store_nodes()
        visible = find_visible(self._layer)
        for packed in self._request["objects"]:
            found, index = find_by_name(*packed["object"]), packed["index"]
            parts, uv = (self._load(f"{name} {index}.npy") for name in ("parts", "uv"))
            objects[found] = RenderObject(found, index, packed["character"], packed["metres_per_unit"], parts)
            if uv is not None:
                uvs[index] = uv
        for found in {*objects, *(visible.ordered if self._request["whole_scene"] else ()), *visible.instanced}:
            one = objects.get(found)
            if found.type == "MESH" and (one is not None or _deforms(found)):
                # what is linked cannot be written to
                if get_mesh(found).users > 1 or get_mesh(found).library is not None:
                    found.data = get_mesh(found).copy()
                prepare_mesh(found, one.face_parts if one else None, uvs.get(one.index) if one else None, store)
        people = {int(n): KeyPoints(find_by_name(*name)) for n, name in self._request["people"].items()}
        cast = Cast(objects, {}, visible.unseen, visible.holes, self._request["whole_scene"], {})
        return GeometryReader(cast, self._cut_outs, people, uvs, triangulate=self._request["triangulate"])

    def _load(self, name: str) -> np.ndarray | None:
        path = self._folder / name
        return np.load(path, allow_pickle=False) if path.exists() else None

    def play(self) -> None:
        """Go through the frames in their order, and write those that are wanted."""
        wanted, first = sorted(self._request["frames"]), self._request["first"]
        frames = wanted if first is None else range(min(first, wanted[0]), wanted[-1] + 1)
        for frame in frames:
            with capture.silence_handlers(*FRAME_HANDLERS, "depsgraph_update_pre", "depsgraph_update_post"):
                self._scene.frame_set(frame)
                if frame in self._request["frames"]:
                    geometry = capture.receive_from(self._render, partial(self._read, frame))
                    if geometry.live:
                        raise shot.ShotError(
                            "scene",
                            f"{geometry.live[0][1]} is or shows a cloud of points, which passes cannot follow in a scene that must "
                            "be played; hide it from the render.",
                        )
                    if frame not in self._request["kept"]:
                        geometry = strip(geometry)
                    write_frame(self._spool, self._folder, frame, geometry, self._cut_outs.pack())

    def _render(self) -> None:
        with silence_stdout(), override_context(bpy.context, scene=self._scene, view_layer=self._layer):
            bpy.ops.render.render(scene=self._scene.name, layer=self._layer.name)

    def _read(self, frame: int, graph: bpy.types.Depsgraph) -> FrameGeometry:
        request = self._request
        chosen = find_by_name(*request["camera"]) if request["camera"] else None
        camera = find_camera(self._scene, frame, chosen)
        sizes = [(width, height) for width, height in request["sizes"]]
        views = {size: read_view(camera, graph, *size, self._padding, request["metres"]) for size in sizes}
        surroundings, ground = request["measure_surroundings"], request["find_ground"]
        return self._reader.read(graph, views, frame, measure_surroundings=surroundings, find_ground=ground)


def _deforms(found: bpy.types.Object) -> bool:
    return any(map(deforms, found.modifiers)) or bool(getattr(found.data, "shape_keys", None))


def run(folder: Path) -> None:
    """Play what the request in ``folder`` says; what goes wrong is written into it."""
    failure: dict[str, str] = {}
    try:
        request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
        capture.register()
        PlayedScene(request, folder).play()
    except shot.ShotError as error:
        failure = {"code": error.code, "message": str(error)}
    except Exception as error:
        traceback.print_exc()
        failure = {"code": "", "message": f"{type(error).__name__}: {error}"}
    if failure:
        (folder / FAILURE).write_text(json.dumps(failure), encoding="utf-8")
    (folder / DONE).touch()
