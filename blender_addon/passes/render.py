"""Renders a shot's passes, frame after frame, and gathers them."""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ...shared import shot
from ...shared.depth import normalise_depth
from ...shared.manifest import CameraEntry, FrameEntry, PassesHeader, PassesManifest, SurfaceEntry, join_manifest
from . import gpu_raster, reading
from .camera import Extent, View, check_camera, extent_of, view_of
from .people import key_points
from .scene_setup import pass_scene, set_window
from .subjects import Cast, choose
from .surfaces import lend, unwrap

#: how long the scene may be lent at a time while the user works in the window
SLICE_SECONDS = 0.25
#: pixels that are rendered around what the viewport's mesh covers
MARGIN = 4
#: a scene's depth range ends at this many times the farthest distance of the characters
SCENE_REACH = 3.0
RAYS = 24


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block nothing reaches standard output: Blender writes its render log there, between our own lines."""
    saved, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)


def _differs_in_render(body: bpy.types.Object) -> bool:
    """Whether the rendered mesh may reach farther than the viewport's."""
    if body.type != "MESH" or len(body.particle_systems):
        return True
    return any(
        m.show_render != m.show_viewport or getattr(m, "levels", 0) != getattr(m, "render_levels", getattr(m, "levels", 0))
        for m in body.modifiers
    )


@dataclass(frozen=True)
class RenderedFrame:
    """The passes (1, H, W, ...) of the frame at ``index`` of a shot, and what describes them."""

    index: int
    passes: shot.FramePasses
    entry: FrameEntry


class PassRender:
    """Renders a shot's passes frame by frame, in any order.

    First ``measure`` looks at every frame without rendering it: the depth range is that of the whole shot. Then ``render_slice``
    renders the frames that are asked for, and ``close`` gives the scene back; in between it is as before as well. ``steps`` does
    all of that in order and ``result`` gathers the shot in memory.
    """

    def __init__(
        self,
        context: bpy.types.Context,
        character: bpy.types.Object | None,
        frames: tuple[int, ...],
        width: int,
        height: int,
        *,
        subjects: str = "CHARACTER",
        range_frames: tuple[int, ...] = (),
        motion: bool = False,
        keep_lent: bool = False,
        quick: bool = False,
    ) -> None:
        """The depth range is that of ``range_frames`` as well, so that a single frame looks as it does within its shot.
        ``keep_lent`` renders all frames in one go: quicker, where nobody sees the scene in between. ``quick`` draws with the
        graphics driver where it is trusted and shows the same as Cycles.

        Raises ``ShotError`` when there is nothing to render.
        """
        self._scene, self._view_layer = context.scene, context.view_layer
        self._cast: Cast = choose(self._view_layer, character, subjects)
        check_camera(self._scene)
        self._frames, self._size = frames, (width, height)
        self._measured = tuple(dict.fromkeys((*range_frames, *frames)))
        self._motion, self._keep_lent = motion, keep_lent
        self._people = {n: found for n, armature in enumerate(self._cast.armatures, 1) if (found := key_points(armature))}
        self._whole_frame = self._cast.whole_scene or any(_differs_in_render(s.object) for s in self._cast.subjects if s.character)
        self.drawn = quick and not motion and not self._whole_frame and gpu_raster.can_show(self._cast) and gpu_raster.trusted()
        self._instances: dict[int, int] = {}
        self._unwrapped: dict[int, np.ndarray] | None = None
        self._lent, self._folder = ExitStack(), ExitStack()
        self._path: Path | None = None
        self._before: tuple[int, bpy.types.Object] | None = None
        #: whether any frame that was rendered shows a character
        self.seen = False
        # what ``steps`` gathers: whole frames, of which only what is seen is ever touched
        self._arrays: dict[str, np.ndarray] = {}
        self._entries: dict[int, FrameEntry] = {}
        #: planar camera distances in metres that become 1 and the far end of the range, after ``measure``
        self.near, self.far = np.inf, -np.inf
        #: how many units of work ``steps`` has
        self.total = len(self._measured) + len(frames)

    def overview(self, width: int, height: int) -> PassRender:
        """One that renders small copies of the same frames, after ``measure``; objects have the same numbers in both."""
        small = copy.copy(self)
        small._size, small.drawn, small._people = (width, height), False, {}
        small._lent, small._folder, small._path, small._before = ExitStack(), ExitStack(), None, None
        return small

    @property
    def header(self) -> PassesHeader:
        """What is known of the passes as a whole, after ``measure``."""
        return PassesHeader(float(self.near), float(self.far), self._cast.parts)

    def check_seen(self) -> None:
        """``ShotError`` when the camera has not seen a character in any of the frames that were rendered."""
        if not self.seen:
            raise shot.ShotError("camera", "The camera does not see the character in any frame; point it at the character.")

    def measure(self) -> Iterator[int]:
        """Find the depth range; yields how many frames have been looked at, and the scene is as before then and at the end."""
        scene, current, camera = self._scene, self._scene.frame_current, self._scene.camera
        end = time.perf_counter() + SLICE_SECONDS
        try:
            for n, frame in enumerate(self._measured, 1):
                scene.frame_set(frame)
                self._measure(frame)
                if time.perf_counter() > end or n == len(self._measured):
                    scene.frame_set(current)
                    yield n
                    end = time.perf_counter() + SLICE_SECONDS
        finally:
            scene.frame_set(current)
            scene.camera = camera

    def render_slice(self, wanted: Callable[[], int | None]) -> Iterator[RenderedFrame]:
        """Render the frames whose indices ``wanted`` gives, until it gives None or the window has waited long enough."""
        index = wanted()
        if index is None:
            return
        self._borrow()
        end = time.perf_counter() + SLICE_SECONDS
        try:
            while index is not None:
                yield self._render_one(index)
                index = wanted() if self._keep_lent or time.perf_counter() < end else None
        except BaseException:
            self.close()
            raise
        if not self._keep_lent:
            self._give_back()

    def close(self) -> None:
        """Give the scene back; more may be rendered afterwards."""
        self._give_back()
        self._folder.close()
        self._path = None

    def steps(self) -> Iterator[int]:
        """Measures and renders the whole shot for ``result``; yields how much is done of ``total``."""
        try:
            yield from self.measure()
            waiting = deque(range(len(self._frames)))
            while waiting:
                for frame in self.render_slice(lambda: waiting.popleft() if waiting else None):
                    self._gather(frame)
                    if self._keep_lent:
                        yield self.total - len(waiting)
                if not self._keep_lent:
                    yield self.total - len(waiting)
        finally:
            self.close()

    def _gather(self, frame: RenderedFrame) -> None:
        for name, pixels in frame.passes.arrays().items():
            if name not in self._arrays:
                self._arrays[name] = np.zeros((len(self._frames), *pixels.shape[1:]), pixels.dtype)
            self._arrays[name][frame.index] = pixels[0]
        self._entries[frame.index] = frame.entry

    def _borrow(self) -> None:
        """The scene is as rendering needs it from now on."""
        if self._before is not None:
            return
        if self._unwrapped is None:
            self._unwrapped = {
                s.index: unwrap(s.object)
                for s in self._cast.subjects
                if s.character and s.object.type == "MESH" and not s.object.data.uv_layers
            }
        if self._path is None:
            folder = tempfile.TemporaryDirectory(prefix="latentman-", ignore_cleanup_errors=True)
            self._path = Path(self._folder.enter_context(folder)) / "pass.exr"
        self._before = self._scene.frame_current, self._scene.camera
        self._lend(self._lent, self._unwrapped, str(self._path))

    def _give_back(self) -> None:
        self._lent.close()
        if self._before is not None:
            current, camera = self._before
            self._before = None
            self._scene.frame_set(current)
            self._scene.camera = camera

    def _lend(self, lent: ExitStack, unwrapped: dict[int, np.ndarray], path: str) -> None:
        if self.drawn:
            for subject in self._cast.subjects:
                lent.enter_context(lend(subject, unwrapped.get(subject.index)))
            return
        lent.enter_context(
            pass_scene(
                self._scene,
                self._view_layer,
                self._cast,
                unwrapped,
                *self._size,
                path,
                position=self._cast.whole_scene or self._motion,
                motion=self._motion,
            )
        )

    def _pixels(self, graph: bpy.types.Depsgraph, view: View, box: tuple[int, int, int, int], path: Path) -> dict[str, np.ndarray]:
        """The passes within a rectangle of the current frame."""
        left, top, right, bottom = box
        if self.drawn:
            return gpu_raster.draw(graph, self._cast, view, box)
        set_window(self._scene, box, *self._size)
        with quiet():
            bpy.ops.render.render(write_still=True, scene=self._scene.name, layer=self._view_layer.name)
        return reading.read(path, right - left, bottom - top)

    def _render_one(self, index: int) -> RenderedFrame:
        scene = self._scene
        scene.frame_set(self._frames[index])
        graph = bpy.context.evaluated_depsgraph_get()
        extent, view = self._extent(self._frames[index], graph)
        box = (0, 0, *self._size) if self._whole_frame else extent.box
        assert self._path is not None and self._unwrapped is not None
        try:
            found = self._pixels(graph, view, box, self._path)
        except gpu_raster.ERRORS:
            if not self.drawn:
                raise
            self.drawn = False  # no graphics context just now: Cycles needs none
            self._lent.close()
            self._lend(self._lent, self._unwrapped, str(self._path))
            scene.frame_set(self._frames[index])
            graph = bpy.context.evaluated_depsgraph_get()
            found = self._pixels(graph, view, box, self._path)
        found = self._numbered(found)
        found["depth"] = normalise_depth(found["depth"], self.near, self.far)
        left, top, right, bottom = box
        width, height = self._size
        arrays: dict[str, np.ndarray] = {}
        for name, pixels in found.items():
            arrays[name] = np.zeros((1, height, width, *pixels.shape[2:]), pixels.dtype)
            arrays[name][0, top:bottom, left:right] = pixels
        passes = shot.FramePasses(**arrays)
        self.seen = self.seen or bool(passes.mask.any())
        return RenderedFrame(index, passes, self._entry(passes, graph, view))

    def _entry(self, passes: shot.FramePasses, graph: bpy.types.Depsgraph, view: View) -> FrameEntry:
        camera = CameraEntry(tuple(map(float, view.world_to_camera.ravel())), tuple(map(float, view.projection.ravel())))
        people = tuple(
            (n, tuple(tuple(map(float, point)) for point in person.at(graph, view))) for n, person in self._people.items()
        )
        names = {s.index: s for s in self._cast.subjects}
        keys = {number: key for key, number in self._instances.items()}
        shown = np.unique(passes.surface_index)
        surfaces = tuple(
            SurfaceEntry(number, names[keys[number] >> 32].object.name, names[keys[number] >> 32].character)
            for number in shown[shown > 0].tolist()
        )
        return FrameEntry(camera, surfaces, people)

    def _extent(self, frame: int, graph: bpy.types.Depsgraph) -> tuple[Extent, View]:
        """Where the characters are at the current frame."""
        view = view_of(self._scene, graph, *self._size)
        points = []
        for body in self._cast.bodies:
            seen = body.evaluated_get(graph)
            mesh = seen.data
            local = np.empty((len(mesh.vertices), 3), np.float32)
            mesh.vertices.foreach_get("co", local.ravel())
            if not np.isfinite(local).all():
                raise shot.ShotError(
                    "character",
                    f"{body.name} has vertices that are not numbers at frame {frame}; look for a broken modifier, driver "
                    "or shape key.",
                )
            world = np.array(seen.matrix_world)
            points.append(local @ world[:3, :3].T + world[:3, 3])
        return extent_of(view, np.concatenate(points), MARGIN), view

    def _measure(self, frame: int) -> None:
        """Widen the depth range to the current frame."""
        graph = bpy.context.evaluated_depsgraph_get()
        extent, view = self._extent(frame, graph)
        near, far = extent.near, extent.far
        if self._cast.whole_scene:
            hits = self._ray_depths(graph, view)
            if len(hits):
                reach = SCENE_REACH * far if np.isfinite(far) else np.inf
                near, far = min(near, float(hits.min())), max(far, min(float(hits.max()), reach))
        self.near, self.far = min(self.near, near), max(self.far, far)

    def _ray_depths(self, graph: bpy.types.Depsgraph, view: View) -> np.ndarray:
        """(N,) planar distances of what a coarse grid of rays meets."""
        grid = (np.arange(RAYS) + 0.5) / RAYS * 2 - 1
        x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
        from_clip = np.linalg.inv(view.projection @ view.world_to_camera)
        ends = [np.stack([x, y, np.full_like(x, z), np.ones_like(x)], 1) @ from_clip.T for z in (-1.0, 1.0)]
        start, stop = (end[:, :3] / end[:, 3:] for end in ends)
        found = []
        for origin, target in zip(start, stop, strict=True):
            hit, place, *_ = self._scene.ray_cast(graph, origin, target - origin, distance=float(np.linalg.norm(target - origin)))
            if hit:
                found.append(tuple(place))
        return view.depth(np.array(found).reshape(-1, 3))

    def _numbered(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A read frame with pass indices and instances turned into characters and object numbers."""
        index, instance = found.pop("index"), found.pop("instance")
        characters = np.array([0, *(s.character for s in self._cast.subjects)], np.uint8)
        sizes = np.array([1.0, *(s.size for s in self._cast.subjects)], np.float32)
        # one number for both: the random value of an instance is the same on every frame
        keys = index.astype(np.int64) << 32 | instance.view(np.int32).astype(np.int64) & 0xFFFFFFFF
        seen = index > 0
        kinds, where = np.unique(keys[seen], return_inverse=True)
        numbers = [self._number(int(kind)) for kind in kinds]
        if len(self._instances) > np.iinfo(np.uint16).max:
            raise shot.ShotError("scene", "The scene shows more than 65535 objects; hide some of them from the render.")
        found["object_index"] = np.zeros(index.shape, np.uint16)
        found["object_index"][seen] = np.array(numbers, np.uint16)[where.ravel()]
        found["mask"] = characters[index]
        found["part"] *= found["mask"] > 0
        found["rest_position"] *= sizes[index][..., None]
        return found

    def _number(self, kind: int) -> int:
        """An object's number: its place in the render set, whichever frame is rendered first; further instances of it come behind
        in the order in which they are seen."""
        if kind not in self._instances:
            own = kind >> 32
            taken = own in self._instances.values()
            self._instances[kind] = max(len(self._cast.subjects), *self._instances.values(), 0) + 1 if taken else own
        return self._instances[kind]

    def result(self) -> shot.FramePasses:
        """All passes, after ``steps``; ``ShotError`` when the camera never sees the character."""
        self.check_seen()
        return shot.FramePasses(**self._arrays)

    def manifest(self, fps: float) -> PassesManifest:
        """What describes the passes of ``result``."""
        entries = [self._entries[n] for n in range(len(self._frames))]
        return join_manifest(*self._size, fps, self._frames, self.header, entries)
