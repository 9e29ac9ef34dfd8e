"""Renders a shot's passes, frame after frame, and gathers them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import bpy
import numpy as np

from ...shared import passes_folder, shot
from ...shared.depth import normalise_depth
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


class PassRender:
    """Renders slice by slice, so that a caller can show progress or stop in between.

    ``steps`` counts up to ``total``; ``result`` is there afterwards. The depth range is that of all ``range_frames``, so
    that a single frame looks as it does within its shot.
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
        """``keep_lent`` renders all frames in one go: quicker, where nobody sees the scene in between. ``quick`` draws with the
        graphics driver where it is trusted and shows the same as Cycles.

        Raises ``ShotError`` when there is nothing to render.
        """
        self._scene, self._view_layer = context.scene, context.view_layer
        self._cast: Cast = choose(self._view_layer, character, subjects)
        check_camera(self._scene)
        self._frames, self._size = frames, (width, height)
        self._only_measured = tuple(f for f in dict.fromkeys(range_frames) if f not in frames)
        self._motion, self._keep_lent = motion, keep_lent
        self._people = {n: found for n, armature in enumerate(self._cast.armatures, 1) if (found := key_points(armature))}
        self._whole_frame = self._cast.whole_scene or any(_differs_in_render(s.object) for s in self._cast.subjects if s.character)
        self.drawn = quick and not motion and not self._whole_frame and gpu_raster.can_show(self._cast) and gpu_raster.trusted()
        # whole frames, of which only the rendered rectangles are ever touched
        self._arrays: dict[str, np.ndarray] = {}
        self._boxes: list[tuple[int, int, int, int]] = []
        self._views: list[View] = []
        self._key_points: dict[int, list[np.ndarray]] = {n: [] for n in self._people}
        self._instances: dict[int, int] = {}
        self._finished = False
        #: planar camera distances in metres that became 1 and the far end of the range
        self.near, self.far = np.inf, -np.inf
        #: how many units of work there are
        self.total = len(frames) + len(self._only_measured)

    def steps(self) -> Iterator[int]:
        """Yields how much is done; the scene is as before between steps (``keep_lent`` aside) and at the end."""
        scene, current, camera = self._scene, self._scene.frame_current, self._scene.camera
        unwrapped = {
            s.index: unwrap(s.object)
            for s in self._cast.subjects
            if s.character and s.object.type == "MESH" and not s.object.data.uv_layers
        }
        try:
            for n, frame in enumerate(self._only_measured, 1):
                scene.frame_set(frame)
                self._measure(frame)
                if n % 8 == 0:
                    yield n
            with tempfile.TemporaryDirectory(prefix="latentman-") as folder, ExitStack() as lent:
                path = Path(folder) / "pass.exr"
                end = 0.0
                for n, frame in enumerate(self._frames, 1):
                    if time.perf_counter() > end and not (self._keep_lent and n > 1):
                        lent.close()
                        self._lend(lent, unwrapped, str(path))
                        end = time.perf_counter() + SLICE_SECONDS
                    try:
                        self._render_one(frame, path)
                    except gpu_raster.ERRORS:
                        if not self.drawn:
                            raise
                        self.drawn = False  # no graphics context just now: Cycles needs none
                        lent.close()
                        self._lend(lent, unwrapped, str(path))
                        self._render_one(frame, path)
                    if self._keep_lent or n == len(self._frames) or time.perf_counter() > end:
                        if not self._keep_lent:
                            lent.close()
                            scene.frame_set(current)
                        yield len(self._only_measured) + n
        finally:
            scene.frame_set(current)
            scene.camera = camera

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

    def _render_one(self, frame: int, path: Path) -> None:
        scene = self._scene
        scene.frame_set(frame)
        extent, view = self._measure(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        people = {n: person.at(graph, view) for n, person in self._people.items()}
        box = (0, 0, *self._size) if self._whole_frame else extent.box
        left, top, right, bottom = box
        found = self._numbered(self._pixels(graph, view, box, path))
        self._views.append(view)
        for n, points in people.items():
            self._key_points[n].append(points)
        width, height = self._size
        for name, pixels in found.items():
            if name not in self._arrays:
                self._arrays[name] = np.zeros((len(self._frames), height, width, *pixels.shape[2:]), pixels.dtype)
            self._arrays[name][len(self._boxes), top:bottom, left:right] = pixels
        self._boxes.append(box)

    def _measure(self, frame: int) -> tuple[Extent, View]:
        """Where the characters are at the current frame; widens the depth range."""
        graph = bpy.context.evaluated_depsgraph_get()
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
                    f"{body.name} has vertices that are not numbers at frame {frame}; look for "
                    "a broken modifier, driver or shape key.",
                )
            world = np.array(seen.matrix_world)
            points.append(local @ world[:3, :3].T + world[:3, 3])
        extent = extent_of(view, np.concatenate(points), MARGIN)
        near, far = extent.near, extent.far
        if self._cast.whole_scene:
            hits = self._ray_depths(graph, view)
            if len(hits):
                reach = SCENE_REACH * far if np.isfinite(far) else np.inf
                near, far = min(near, float(hits.min())), max(far, min(float(hits.max()), reach))
        self.near, self.far = min(self.near, near), max(self.far, far)
        return extent, view

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
        numbers = [self._instances.setdefault(int(kind), len(self._instances) + 1) for kind in kinds]
        if len(self._instances) > np.iinfo(np.uint16).max:
            raise shot.ShotError("scene", "The scene shows more than 65535 objects; hide some of them from the render.")
        found["object_index"] = np.zeros(index.shape, np.uint16)
        found["object_index"][seen] = np.array(numbers, np.uint16)[where.ravel()]
        found["mask"] = characters[index]
        found["part"] *= found["mask"] > 0
        found["rest"] *= sizes[index][..., None]
        return found

    def result(self) -> shot.FramePasses:
        """All passes; ``ShotError`` when the camera never sees the character."""
        if "mask" not in self._arrays or not self._arrays["mask"].any():
            raise shot.ShotError("camera", "The camera does not see the character in any frame; point it at the character.")
        if not self._finished:
            for n, (left, top, right, bottom) in enumerate(self._boxes):
                window = (n, slice(top, bottom), slice(left, right))
                depth = self._arrays["depth"][window]
                depth[...] = normalise_depth(depth, self.near, self.far)
            self._finished = True
        return shot.FramePasses(**self._arrays)

    def manifest(self, fps: float) -> passes_folder.PassesManifest:
        """What describes the passes beside them on disk; valid after ``result``."""
        names = {s.index: s for s in self._cast.subjects}
        return passes_folder.PassesManifest(
            *self._size,
            fps,
            self._frames,
            float(self.near),
            float(self.far),
            cameras=tuple(
                passes_folder.CameraEntry(tuple(map(float, v.world_to_camera.ravel())), tuple(map(float, v.projection.ravel())))
                for v in self._views
            ),
            surfaces=tuple(
                passes_folder.SurfaceEntry(number, names[key >> 32].object.name, names[key >> 32].character)
                for key, number in self._instances.items()
            ),
            parts=self._cast.parts,
            people=tuple(
                passes_folder.PersonEntry(n, tuple(tuple(tuple(map(float, p)) for p in frame) for frame in frames))
                for n, frames in self._key_points.items()
            ),
        )
