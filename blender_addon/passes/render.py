"""Renders a shot's passes frame by frame."""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ...shared import shot
from ...shared.depth import normalise_depth
from ...shared.manifest import FrameEntry, PassesHeader, PassesManifest, SurfaceEntry, join_manifest
from ...shared.passes import FramePasses
from ..references import refer_to
from ..typed_access import evaluate, get_mesh, get_scene, get_view_layer
from ..units import get_metres_per_unit
from . import gpu_raster, reading
from .camera import Extent, View, find_extent, get_render_camera, get_view
from .engine import check_cycles
from .people import find_key_points
from .render_set import RenderSet, RenderSetReferences, make_render_set
from .scene_setup import override_scene_temporarily, set_render_region
from .storage import explain_storage
from .surfaces import override_mesh_temporarily, unwrap
from .timeline import keep_current_frame

#: how long the scene may be overridden at a time while the user works in the window
SLICE_SECONDS = 0.25
#: pixels that are rendered around those that the viewport's mesh covers
MARGIN = 4
#: the depth range of a whole scene ends at this many times the farthest distance of the characters
SCENE_REACH = 3.0
#: rays per side of the grid that measures the depth of the surroundings
RAYS = 24


@contextmanager
def silence_stdout() -> Iterator[None]:
    """Within the block nothing reaches standard output, where Blender would write its render log between our own lines."""
    saved, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)


def _may_differ_in_render(body: bpy.types.Object) -> bool:
    """Whether the rendered mesh may cover more pixels than the viewport's."""
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
    passes: FramePasses
    entry: FrameEntry


class PassRender:
    """Renders a shot's passes frame by frame, in any order.

    First ``measure`` evaluates every frame without rendering it, because the depth range is that of the whole shot. Then
    ``render_slice`` renders the frames that are requested, and ``close`` frees everything. Between these calls the scene is as the
    user left it. ``render_all`` does all of that in order and keeps the shot in memory for ``result``.
    """

    def __init__(
        self,
        context: bpy.types.Context,
        character: bpy.types.Object | None,
        frames: tuple[int, ...],
        width: int,
        height: int,
        *,
        scope: str = "CHARACTER",
        range_frames: tuple[int, ...] = (),
        motion_vectors: bool = False,
        keep_overrides: bool = False,
        quick: bool = False,
    ) -> None:
        """``scope`` is as for ``make_render_set``. The depth range includes that of ``range_frames``, so that a single frame looks
        as it does within its shot. ``keep_overrides`` leaves the scene overridden until ``close``: quicker, where nobody sees the
        scene in between. ``quick`` draws with the graphics driver where it is exact enough and shows the same as Cycles.

        Raises ``ShotError`` when there is nothing to render.
        """
        self._scene, self._view_layer = get_scene(context), get_view_layer(context)
        self._render_set: RenderSet = make_render_set(self._view_layer, character, scope)
        get_render_camera(self._scene)
        check_cycles()
        self._metres = get_metres_per_unit(self._scene)
        # what finds all of these again in a later event
        self._scene_reference, self._layer_name = refer_to(self._scene), self._view_layer.name
        self._references = RenderSetReferences.make(self._render_set)
        self._frames, self._size = frames, (width, height)
        self._measured_frames = tuple(dict.fromkeys((*range_frames, *frames)))
        self._motion_vectors, self._keep_overrides = motion_vectors, keep_overrides
        objects, armatures = self._render_set.objects, self._render_set.armatures
        self._people = {n: found for n, armature in enumerate(armatures, 1) if (found := find_key_points(armature))}
        self._full_frame = self._render_set.whole_scene or any(
            _may_differ_in_render(one.object) for one in objects if one.character
        )
        can_draw = quick and not motion_vectors and not self._full_frame and gpu_raster.can_draw(self._render_set)
        #: whether the graphics driver draws the passes instead of Cycles
        self.uses_gpu = can_draw and gpu_raster.is_trusted()
        #: object numbers by pass index and instance, packed into one integer
        self._object_numbers: dict[int, int] = {}
        #: by pass index the texture coordinates of meshes without any, made before the first frame is rendered
        self._generated_uvs: dict[int, np.ndarray] | None = None
        self._overrides, self._folder = ExitStack(), ExitStack()
        self._path: Path | None = None
        #: whether the scene is overridden
        self._is_prepared = False
        #: whether any frame that was rendered shows a character
        self.has_seen_character = False
        # what ``render_all`` keeps: whole frames, which take memory only where something is seen
        self._arrays: dict[str, np.ndarray] = {}
        self._entries: dict[int, FrameEntry] = {}
        #: planar camera distances in Blender's units that become 1 and the far end of the range, after ``measure``
        self.near, self.far = np.inf, -np.inf
        #: how many units of work ``render_all`` has
        self.total = len(self._measured_frames) + len(frames)

    def make_overview(self, width: int, height: int) -> PassRender:
        """A render of small copies of the same frames, after ``measure``; objects have the same numbers in both."""
        small = copy.copy(self)
        small._size, small.uses_gpu, small._people = (width, height), False, {}
        small._overrides, small._folder, small._path, small._is_prepared = ExitStack(), ExitStack(), None, False
        return small

    @property
    def header(self) -> PassesHeader:
        """The depth range and the body parts, after ``measure``."""
        return PassesHeader(self.near * self._metres, self.far * self._metres, self._render_set.parts)

    def check_seen(self) -> None:
        """Raise ``ShotError`` when none of the frames that were rendered shows a character."""
        if not self.has_seen_character:
            raise shot.ShotError("camera", "The camera does not see the character in any frame; point it at the character.")

    def measure(self) -> Generator[int, None, None]:
        """Find the depth range; yields how many frames are measured, with the scene restored then and at the end."""
        frames = deque(self._measured_frames)
        while frames:
            self._find_data()
            end = time.perf_counter() + SLICE_SECONDS
            with keep_current_frame(self._scene):
                while frames:
                    frame = frames.popleft()
                    self._scene.frame_set(frame)
                    self._widen_depth_range(frame)
                    if time.perf_counter() > end:
                        break
            yield len(self._measured_frames) - len(frames)

    def _find_data(self) -> None:
        """Find the scene and its objects again: an event may have come between. Raises ``ShotError`` when something is gone."""
        scene: bpy.types.Scene | None = self._scene_reference.find()
        if scene is None:
            raise shot.ShotError(
                "scene",
                f"The scene '{self._scene_reference.name}' was closed or deleted while its passes were rendered; what is finished "
                "is kept. Open it and generate again to continue.",
            )
        view_layer = scene.view_layers.get(self._layer_name)
        if view_layer is None:
            raise shot.ShotError(
                "scene", f"The view layer '{self._layer_name}' was renamed or removed meanwhile; generate the shot again."
            )
        self._scene, self._view_layer = scene, view_layer
        self._render_set = self._references.find(self._render_set)
        for number, person in self._people.items():
            armature = self._render_set.armatures[number - 1]
            assert armature is not None
            person.armature = armature
        get_render_camera(scene)

    def render_slice(self, next_index: Callable[[], int | None]) -> Iterator[RenderedFrame]:
        """Render the frames whose indices ``next_index`` returns, until it returns None or ``SLICE_SECONDS`` have passed."""
        index = next_index()
        if index is None:
            return
        try:
            self._begin_overrides()
            end = time.perf_counter() + SLICE_SECONDS
            while index is not None:
                yield self._render_one(index)
                index = next_index() if self._keep_overrides or time.perf_counter() < end else None
        except BaseException:
            self.close()
            raise
        if not self._keep_overrides:
            self._end_overrides()

    def close(self) -> None:
        """Restore the scene and remove temporary files; more may be rendered afterwards."""
        self._end_overrides()
        self._folder.close()
        self._path = None

    def render_all(self) -> Generator[int, None, None]:
        """Measure and render the whole shot for ``result``; yields how much of ``total`` is done."""
        try:
            yield from self.measure()
            waiting = deque(range(len(self._frames)))
            while waiting:
                for frame in self.render_slice(lambda: waiting.popleft() if waiting else None):
                    self._store(frame)
                    if self._keep_overrides:
                        yield self.total - len(waiting)
                if not self._keep_overrides:
                    yield self.total - len(waiting)
        finally:
            self.close()

    def _store(self, frame: RenderedFrame) -> None:
        for name, pixels in frame.passes.arrays().items():
            if name not in self._arrays:
                self._arrays[name] = np.zeros((len(self._frames), *pixels.shape[1:]), pixels.dtype)
            self._arrays[name][frame.index] = pixels[0]
        self._entries[frame.index] = frame.entry

    def _begin_overrides(self) -> None:
        """Prepare the scene for rendering, unless it is prepared already."""
        if self._is_prepared:
            return
        self._find_data()
        if self._generated_uvs is None:
            self._generated_uvs = {
                one.index: unwrap(one.object)
                for one in self._render_set.objects
                if one.character and one.object.type == "MESH" and not get_mesh(one.object).uv_layers
            }
        if self._path is None:
            folder = tempfile.TemporaryDirectory(prefix="latentman-", ignore_cleanup_errors=True)
            self._path = Path(self._folder.enter_context(folder)) / "pass.exr"
        self._is_prepared = True
        self._overrides.enter_context(keep_current_frame(self._scene))
        self._enter_overrides(self._generated_uvs, str(self._path))

    def _end_overrides(self) -> None:
        """Restore the scene as it was before ``_begin_overrides``."""
        self._is_prepared = False
        self._overrides.close()

    def _enter_overrides(self, generated_uvs: dict[int, np.ndarray], path: str) -> None:
        if self.uses_gpu:
            for one in self._render_set.objects:
                self._overrides.enter_context(override_mesh_temporarily(one, generated_uvs.get(one.index)))
            return
        self._overrides.enter_context(
            override_scene_temporarily(
                self._scene,
                self._view_layer,
                self._render_set,
                generated_uvs,
                *self._size,
                path,
                position=self._render_set.whole_scene or self._motion_vectors,
                motion_vectors=self._motion_vectors,
            )
        )

    def _render_box(
        self, graph: bpy.types.Depsgraph, view: View, box: tuple[int, int, int, int], path: Path
    ) -> dict[str, np.ndarray]:
        """Render the passes within a rectangle (left, top, right, bottom) of the current frame."""
        left, top, right, bottom = box
        if self.uses_gpu:
            return gpu_raster.draw(graph, self._render_set, view, box)
        set_render_region(self._scene, box, *self._size)
        # what a render that was stopped leaves is not to be taken for its result
        path.unlink(missing_ok=True)
        with explain_storage(path, right - left, bottom - top):
            with silence_stdout():
                bpy.ops.render.render(write_still=True, scene=self._scene.name, layer=self._view_layer.name)
            if not path.exists():
                raise shot.ShotError(
                    "passes", "The render of the passes was stopped (Esc does that, too); generate the shot again."
                )
            return reading.read_passes(path, right - left, bottom - top)

    def _render_one(self, index: int) -> RenderedFrame:
        scene = self._scene
        scene.frame_set(self._frames[index])
        graph = evaluate(self._view_layer)
        extent, view = self._find_extent(self._frames[index], graph)
        box = (0, 0, *self._size) if self._full_frame else extent.box
        assert self._path is not None and self._generated_uvs is not None
        try:
            found = self._render_box(graph, view, box, self._path)
        except gpu_raster.ERRORS:
            if not self.uses_gpu:
                raise
            self.uses_gpu = False  # there is no graphics context at the moment; Cycles needs none
            self._overrides.close()
            self._overrides.enter_context(keep_current_frame(scene))
            self._enter_overrides(self._generated_uvs, str(self._path))
            scene.frame_set(self._frames[index])
            graph = evaluate(self._view_layer)
            found = self._render_box(graph, view, box, self._path)
        found = self._number_objects(found)
        found["depth"] = normalise_depth(found["depth"], self.near, self.far)
        left, top, right, bottom = box
        width, height = self._size
        arrays: dict[str, np.ndarray] = {}
        for name, pixels in found.items():
            arrays[name] = np.zeros((1, height, width, *pixels.shape[2:]), pixels.dtype)
            arrays[name][0, top:bottom, left:right] = pixels
        passes = FramePasses(**arrays)
        self.has_seen_character = self.has_seen_character or bool(passes.mask.any())
        return RenderedFrame(index, passes, self._make_entry(passes, graph, view))

    def _make_entry(self, passes: FramePasses, graph: bpy.types.Depsgraph, view: View) -> FrameEntry:
        people = tuple(
            (n, tuple((float(x), float(y), float(depth)) for x, y, depth in person.compute(graph, view)))
            for n, person in self._people.items()
        )
        objects = {one.index: one for one in self._render_set.objects}
        keys = {number: key for key, number in self._object_numbers.items()}
        shown = np.unique(passes.surface_index)
        surfaces = tuple(
            SurfaceEntry(number, objects[keys[number] >> 32].object.name, objects[keys[number] >> 32].character)
            for number in shown[shown > 0].tolist()
        )
        return FrameEntry(view.make_entry(), surfaces, people)

    def _find_extent(self, frame: int, graph: bpy.types.Depsgraph) -> tuple[Extent, View]:
        """The characters' extent in the view of the current frame; ``frame`` is its number, for error messages."""
        view = get_view(self._scene, graph, *self._size)
        points = []
        for body in self._render_set.bodies:
            evaluated = body.evaluated_get(graph)
            mesh = get_mesh(evaluated)
            local = np.empty((len(mesh.vertices), 3), np.float32)
            mesh.vertices.foreach_get("co", local.ravel())
            if not np.isfinite(local).all():
                raise shot.ShotError(
                    "character",
                    f"{body.name} has vertices that are not numbers at frame {frame}; look for a broken modifier, driver "
                    "or shape key.",
                )
            world = np.array(evaluated.matrix_world)
            points.append(local @ world[:3, :3].T + world[:3, 3])
        return find_extent(view, np.concatenate(points), MARGIN), view

    def _widen_depth_range(self, frame: int) -> None:
        """Widen the depth range so that it includes the current frame."""
        graph = evaluate(self._view_layer)
        extent, view = self._find_extent(frame, graph)
        near, far = extent.near, extent.far
        if self._render_set.whole_scene:
            hits = self._cast_rays(graph, view)
            if len(hits):
                reach = SCENE_REACH * far if np.isfinite(far) else np.inf
                near, far = min(near, float(hits.min())), max(far, min(float(hits.max()), reach))
        self.near, self.far = min(self.near, near), max(self.far, far)

    def _cast_rays(self, graph: bpy.types.Depsgraph, view: View) -> np.ndarray:
        """(N,) planar distances of the points that a coarse grid of rays hits."""
        grid = (np.arange(RAYS) + 0.5) / RAYS * 2 - 1
        x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
        from_clip = np.linalg.inv(view.projection @ view.world_to_camera)
        ends = [np.stack([x, y, np.full_like(x, z), np.ones_like(x)], 1) @ from_clip.T for z in (-1.0, 1.0)]
        start, stop = (end[:, :3] / end[:, 3:] for end in ends)
        found = []
        for origin, target in zip(start, stop, strict=True):
            ray = target - origin
            hit, point, *_ = self._scene.ray_cast(graph, origin, ray, distance=float(np.linalg.norm(ray)))
            if hit:
                found.append(np.array(point))
        return view.compute_depth(np.array(found).reshape(-1, 3))

    def _number_objects(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replace a frame's pass indices and instances by characters and object numbers."""
        index, instance = found.pop("index"), found.pop("instance")
        characters = np.array([0, *(one.character for one in self._render_set.objects)], np.uint8)
        metres_per_unit = np.array([1.0, *(one.metres_per_unit for one in self._render_set.objects)], np.float32)
        # one integer for both; the random value of an instance is the same on every frame
        keys = index.astype(np.int64) << 32 | instance.view(np.int32).astype(np.int64) & 0xFFFFFFFF
        seen = index > 0
        unique_keys, inverse = np.unique(keys[seen], return_inverse=True)
        numbers = [self._get_object_number(int(key)) for key in unique_keys]
        if len(self._object_numbers) > np.iinfo(np.uint16).max:
            raise shot.ShotError("scene", "The scene shows more than 65535 objects; hide some of them from the render.")
        found["object_index"] = np.zeros(index.shape, np.uint16)
        found["object_index"][seen] = np.array(numbers, np.uint16)[inverse.ravel()]
        found["mask"] = characters[index]
        found["part"] *= found["mask"] > 0
        found["rest_position"] *= metres_per_unit[index][..., None]
        if "position" in found:
            found["position"] *= np.float32(self._metres)
        return found

    def _get_object_number(self, key: int) -> int:
        """An object's number: its place in the render set, whichever frame is rendered first. Further instances of it are numbered
        behind the render set, in the order in which they are seen."""
        numbers = self._object_numbers
        if key not in numbers:
            pass_index = key >> 32
            is_taken = pass_index in numbers.values()
            numbers[key] = max(len(self._render_set.objects), *numbers.values(), 0) + 1 if is_taken else pass_index
        return numbers[key]

    def result(self) -> FramePasses:
        """All passes, after ``render_all``. Raises ``ShotError`` when the camera never sees a character."""
        self.check_seen()
        return FramePasses(**self._arrays)

    def manifest(self, fps: float) -> PassesManifest:
        """The manifest of the passes of ``result``."""
        entries = [self._entries[n] for n in range(len(self._frames))]
        return join_manifest(*self._size, fps, self._frames, self.header, entries)
