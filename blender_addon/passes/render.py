"""Renders a shot's passes frame by frame."""

from __future__ import annotations

import copy
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np

from ...shared import shot
from ...shared.depth import normalise_depth
from ...shared.manifest import FrameEntry, PartEntry, PassesHeader, PassesManifest, SurfaceEntry, join_manifest
from ...shared.overview import compute_overview_size
from ...shared.passes import FramePasses
from ...shared.picture_size import Crop
from ..references import refer_to
from ..typed_access import SceneContext, get_mesh, get_scene, get_view_layer
from ..units import get_metres_per_unit
from . import capture, gpu_raster, kept_extents, pass_engine, reading
from .camera import Extent, find_camera, find_extent
from .captured_scene import CapturedScene
from .cutouts import CutOuts
from .drawn_scene import DrawnScene
from .engine import check_cycles
from .geometry import FrameGeometry, Key
from .own_data import OwnData, make_scene, own_data
from .padding import Padding
from .people import find_key_points
from .playback import Playback
from .render_set import RenderSet, RenderSetReferences, make_render_set
from .scene_bound import SceneBound, find_scene_bound, find_used
from .shadow_scene import ShadowScene
from .spool import Spool, share_shapes
from .staging import Staging, find_own_range
from .surface_numbers import SurfaceNumbers, compute_motion, find_former_places, find_ways_back, name_pixels
from .surfaces import unwrap
from .visibility import find_visible, iter_instanced

#: how long frames are made at a time while the user works in the window
SLICE_SECONDS = 0.04
#: how long to wait for a frame that a second Blender plays before the window gets its turn
WAIT_SECONDS = 0.05
#: evaluated frames are kept for their render up to this size on disk; later ones are evaluated again
SPOOL_BYTES = 2 << 30
#: pixels that are rendered around those that the surfaces cover
MARGIN = 4
#: the depth range of a whole scene ends at this many times the farthest distance of the characters
SCENE_REACH = 3.0


@dataclass(frozen=True)
class RenderedFrame:
    """The passes (1, H, W, ...) of the frame at ``index`` of a shot, and what describes them."""

    index: int
    passes: FramePasses
    entry: FrameEntry


@dataclass(frozen=True)
class MeasuredFrame:
    """What is known of a scene frame that was evaluated and not rendered: its extents as ``_extents`` has them, the surfaces that
    were ``met`` on it first of all frames that were measured here, and those that only Cycles can draw (``live``)."""

    frame: int
    extents: kept_extents.Extents
    met: tuple[Key, ...]
    live: tuple[Key, ...]


def _find_lowest(geometry: FrameGeometry) -> float:
    points = geometry.find_character_points()
    return float(points[:, 2].min()) if len(points) else np.inf


def check_modes(objects: list[bpy.types.Object]) -> None:
    """Raise ``ShotError`` where an object is in Edit Mode: Blender renders its rest pose then, or nothing of it."""
    for one in objects:
        if one.mode == "EDIT":
            raise shot.ShotError("character", f"{one.name} is in Edit Mode; leave it first (Tab).")


class _OwnScenes:
    """The scenes of our own, each from when it is needed first until the block of ``data`` ends."""

    def __init__(
        self,
        data: OwnData,
        capture_scene: Callable[[OwnData, bpy.types.Scene], CapturedScene],
        draw_scene: Callable[[OwnData, bpy.types.Scene], DrawnScene],
        shade_scene: Callable[[OwnData, bpy.types.Scene], ShadowScene],
    ) -> None:
        self.data = data
        self._stage = make_scene(data, "Stage")
        self._capture_scene, self._draw_scene, self._shade_scene = capture_scene, draw_scene, shade_scene
        self._captured: CapturedScene | None = None
        self._drawn: DrawnScene | None = None
        self._shaded: ShadowScene | None = None

    @property
    def captured(self) -> CapturedScene:
        """Where frames are evaluated."""
        if self._captured is None:
            self._captured = self._capture_scene(self.data, self._stage)
        return self._captured

    @property
    def drawn(self) -> DrawnScene:
        """Where Cycles draws them."""
        if self._drawn is None:
            self._drawn = self._draw_scene(self.data, self._stage)
        return self._drawn

    @property
    def shaded(self) -> ShadowScene:
        """Where Cycles draws shadows."""
        if self._shaded is None:
            self._shaded = self._shade_scene(self.data, self._stage)
        return self._shaded


class PassRender:
    """Renders a shot's passes frame by frame, in any order.

    First ``measure`` evaluates every frame without rendering it, because the depth range is that of the whole shot. Then
    ``render_slice`` renders the frames that are requested, and ``close`` frees everything. All of it happens in scenes of our own:
    the user's scene is never changed, and between these calls nothing of ours is in the file. ``render_all`` does all of that in
    order and keeps the shot in memory for ``result``.
    """

    def __init__(
        self,
        context: SceneContext,
        character: bpy.types.Object | None,
        frames: tuple[int, ...],
        width: int,
        height: int,
        *,
        scope: str = "CHARACTER",
        range_frames: tuple[int, ...] = (),
        motion_vectors: bool = False,
        shadow: bool = False,
        plain_ground: bool = False,
        keep_scenes: bool = False,
        quick: bool = False,
        frame: Crop | None = None,
        keep_extents: bool = False,
        depth_range: tuple[float, float] | None = None,
        ground: float | None = None,
        is_copied: bool = False,
        camera: bpy.types.Object | None = None,
        staging: Staging | None = None,
    ) -> None:
        """``frames`` holds at least one. ``scope`` is as for ``make_render_set``. The depth range includes that of
        ``range_frames``, so that a single frame looks as it does within its shot. ``motion_vectors`` and ``shadow`` add those
        passes; with ``plain_ground`` shadows fall on a plane under the feet, whatever else is in the scene, which then need not be
        evaluated. ``keep_scenes`` leaves our scenes in the file until ``close``: quicker, where nobody sees the file in between.
        ``keep_extents`` takes what an earlier render has measured of frames that have not changed since, and keeps it for later.
        ``quick`` draws with the graphics driver where it is exact enough and shows the same as Cycles. ``frame`` is the part of
        the picture that the camera's frame shows, all of it by default. ``depth_range`` are the ``near`` and ``far`` of a shot that
        the frames are a part of, which they take in place of their own, and ``ground`` is the height of that plane. ``is_copied``
        says that the frames are rendered from a copy of the file, in which every object leaves its Edit Mode. ``camera`` sees all
        frames, in place of the scene's cameras. With ``staging`` the frames are views of one pose, each with a depth range of its
        own.

        Raises ``ShotError`` when there is nothing to render.
        """
        self._scene, self._view_layer = get_scene(context), get_view_layer(context)
        self._render_set: RenderSet = make_render_set(self._view_layer, character, scope)
        self._staging, self._posed = staging, None if staging is None else staging.geometry
        if staging is None:
            find_camera(self._scene, frames[0], camera)
        self._camera = camera
        self._camera_reference = refer_to(camera) if camera is not None else None
        check_cycles()
        #: why the scene must be played in a second Blender, None where it need not be
        self._catches = shadow and not plain_ground
        roots = self._list_roots(whole=self._catches)
        used = find_used(roots)
        if not is_copied:
            check_modes(roots)
        # a pose is not played: it is shown as it is without what happened before
        self._bound: SceneBound | None = find_scene_bound(used, self._scene) if staging is None else None
        #: names of images whose pixels are nowhere but in this Blender's memory
        self._unsaved = sorted(one.name for one in used if isinstance(one, bpy.types.Image) and one.is_dirty)
        self._metres = get_metres_per_unit(self._scene)
        # what finds all of these again in a later event
        self._scene_reference, self._layer_name = refer_to(self._scene), self._view_layer.name
        self._references = RenderSetReferences.make(self._render_set)
        self._frames, self._size = frames, (width, height)
        self._padding = Padding(frame, width, height) if frame is not None else None
        self._measured_frames = tuple(dict.fromkeys((*range_frames, *frames)))
        self._motion_vectors, self._shadow, self._keep_scenes = motion_vectors, shadow, keep_scenes
        #: whether something lies under the characters' feet, and the height of these, in Blender's units
        self._has_ground, self._lowest = False, np.inf if ground is None else ground
        self._is_ground_given = ground is not None
        self._people = {n: found for n, one in enumerate(self._render_set.armatures, 1) if (found := find_key_points(one))}
        can_draw = quick and not motion_vectors and not self._render_set.whole_scene
        #: whether the graphics driver draws the passes instead of Cycles
        self.uses_gpu = can_draw and staging is None and gpu_raster.is_trusted()
        self._numbers = SurfaceNumbers((("", one.object.name_full, ()), one.index) for one in self._render_set.objects)
        #: by number the texture coordinates of meshes without any, made before the first frame is evaluated
        self._generated_uvs: dict[int, np.ndarray] | None = None
        #: what decides the extents of frames besides the scene; () where none are kept
        self._extents_key: kept_extents.Key = ()
        if keep_extents:
            one = character.session_uid if character is not None else 0
            self._extents_key = (self._scene.session_uid, self._layer_name, one, scope, width, height, frame, shadow, plain_ground)
        #: how far away each frame is that has been measured
        self._extents: dict[int, kept_extents.Extents] = kept_extents.find(self._extents_key)
        #: by frame the surfaces that were met first on it, and those that are numbered after all others
        self._met: dict[int, tuple[Key, ...]] = {}
        self._live: dict[int, tuple[Key, ...]] = {}
        self._folder, self._scenes = ExitStack(), ExitStack()
        self._path: Path | None = None
        self._own: _OwnScenes | None = None
        self._spool: Spool | None = None
        self._cut_outs = CutOuts()
        before = (frame - 1 for frame in frames) if motion_vectors else ()
        #: frames that are evaluated once, for their depth and for their render
        self._kept_frames = frozenset((*frames, *before)) if staging is None else frozenset()
        self._sizes = tuple(dict.fromkeys((self._size, compute_overview_size(width, height))))
        #: whether any frame that was rendered shows a character
        self.has_seen_character = False
        bodies = [one.object for one in self._render_set.objects if one.character]
        self._is_unseeable = all(one.is_shadow_catcher or not one.visible_camera for one in bodies)
        # what ``render_all`` keeps: whole frames, which take memory only where something is seen
        self._arrays: dict[str, np.ndarray] = {}
        self._entries: dict[int, FrameEntry] = {}
        #: planar camera distances in Blender's units that become 1 and the far end of the range, after ``measure``
        self.near, self.far = depth_range or (np.inf, -np.inf)
        self._is_range_given = depth_range is not None
        #: how many units of work ``render_all`` has
        self.total = len(self._measured_frames) + len(frames)

    def make_overview(self, width: int, height: int) -> PassRender:
        """A render of small copies of the same frames, after ``measure``; objects have the same numbers in both."""
        small = copy.copy(self)
        small._size, small.uses_gpu, small._people, small._shadow = (width, height), False, {}, False
        small._sizes = tuple(dict.fromkeys((small._size, *self._sizes)))
        small._scenes, small._folder, small._path, small._own = ExitStack(), ExitStack(), None, None
        return small

    #: a step always has something to do
    has_news = True

    @property
    def ground(self) -> float | None:
        """The height of the plane that shadows fall on, in Blender's units, after ``measure``; None where there is none."""
        return float(self._lowest) if self._shadow and not self._has_ground and np.isfinite(self._lowest) else None

    def explain_why_here(self) -> str:
        """Why a copy of the file, in another Blender, would not show the same; "" where it would."""
        if self._bound is not None:
            return "its frames depend on the scene itself"
        return f"the image '{self._unsaved[0]}' is not saved; save or pack it" if self._unsaved else ""

    def is_simulated(self) -> bool:
        """Whether frames depend on those before them, by simulations that are not baked."""
        try:
            return self._open().captured.first_simulated is not None
        finally:
            self.close()

    def measure_frames(self, frames: tuple[int, ...]) -> Generator[int, None, None]:
        """As ``measure``, of these frames in place of the shot's, and as if they were the first: others measure the rest."""
        self._measured_frames = frames
        self._numbers.number_again(())
        return self.measure()

    def get_measured(self) -> tuple[MeasuredFrame, ...]:
        """What ``measure`` has found."""
        return tuple(
            MeasuredFrame(frame, self._extents[frame], self._met.get(frame, ()), self._live.get(frame, ()))
            for frame in self._measured_frames
        )

    def adopt(self, measured: Iterable[MeasuredFrame]) -> None:
        """Take what was measured of the whole shot, in its order, elsewhere: afterwards frames are as if it had been here."""
        found = tuple(measured)
        if not self._is_range_given:
            self.near, self.far = np.inf, -np.inf
        if not self._is_ground_given:
            self._lowest = np.inf
        self._has_ground = False
        for one in found:
            self._extents[one.frame] = one.extents
            self._widen(one.extents)
        self._numbers.number_again([*(key for one in found for key in one.met), *(key for one in found for key in one.live)])

    @property
    def header(self) -> PassesHeader:
        """The depth range and the body parts, after ``measure``."""
        return PassesHeader(self.near * self._metres, self.far * self._metres, self._render_set.parts)

    def check_seen(self) -> None:
        """Raise ``ShotError`` when none of the frames that were rendered shows a character; those of a part of a shot need not."""
        if self._is_range_given or self.has_seen_character:
            return
        if self._is_unseeable:
            raise shot.ShotError(
                "camera",
                "The character's meshes are shadow catchers or hidden from the camera; change that in Object Properties > "
                "Visibility.",
            )
        raise shot.ShotError("camera", "The camera does not see the character in any frame; point it at the character.")

    def measure(self) -> Generator[int, None, None]:
        """Find the depth range; yields how many frames are measured, with nothing of ours in the file then and at the end.

        A scene with simulations that are not baked is evaluated in one go from their first frame, and its frames are kept. One
        whose frames depend on the scene itself is played in a second Blender meanwhile.
        """
        for frame in self._measured_frames:
            if self._is_known(frame):
                self._widen(self._extents[frame])
        if self._bound is not None:
            yield from self._play()
            return
        frames = deque(frame for frame in self._measured_frames if not self._is_known(frame))
        simulated = False
        try:
            while frames:
                own = self._open()
                if self._staging is not None:
                    self._widen_depth_range(frames[0], self._stage_frame(own, frames.popleft()))
                    continue
                simulated = simulated or own.captured.first_simulated is not None
                if own.captured.first_simulated is not None:
                    self._simulate(own.captured, own.captured.first_simulated)
                    frames.clear()
                end = time.perf_counter() + SLICE_SECONDS
                while frames:
                    self._measure_one(own.captured, frames.popleft())
                    if time.perf_counter() > end:
                        break
                if not self._keep_scenes:
                    self._end()
                yield len(self._measured_frames) - len(frames)
            self._number_live()
            self._keep_extents(depends=simulated)
        except BaseException:
            self.close()
            raise

    def _number_live(self) -> None:
        """Number what only Cycles can draw, whichever frame is rendered first."""
        for frame in self._measured_frames:
            for key in self._live.get(frame, ()):
                self._numbers.reserve(key)

    def _list_roots(self, *, whole: bool) -> list[bpy.types.Object]:
        """What is rendered, and the cameras."""
        visible = find_visible(self._view_layer)
        ours = {one.object for one in self._render_set.objects}
        roots = [*ours, *(one for one in self._render_set.armatures if one is not None)]
        everything = self._render_set.whole_scene or whole
        roots += [one for one in visible.ordered if everything or any(inner in ours for inner in iter_instanced(one))]
        cameras = [self._camera, self._scene.camera, *(marker.camera for marker in self._scene.timeline_markers)]
        return [*roots, *(camera for camera in cameras if camera is not None)]

    def _play(self) -> Generator[int, None, None]:
        """Measure and keep the frames while a second Blender plays them; yields as ``measure`` does."""
        assert self._bound is not None
        playback: Playback | None = None
        wanted = {frame for frame in self._measured_frames if not self._is_known(frame)} | self._kept_frames
        measured = 0
        try:
            self._find_data()
            self._prepare()
            playback = self._start_playback(wanted)
            self._spool = playback.spool
            while len(playback.taken) < len(wanted):
                for frame in playback.wait(self._cut_outs, WAIT_SECONDS):
                    if frame in self._measured_frames:
                        self._widen_depth_range(frame, self._spool.get(frame))
                        measured += 1
                    if frame not in self._kept_frames:
                        self._spool.forget(frame)
                yield measured
            self._number_live()
            self._keep_extents(depends=True)
        except BaseException:
            self.close()
            raise
        finally:
            if playback is not None:
                playback.close()

    def _start_playback(self, frames: set[int]) -> Playback:
        assert self._path is not None and self._generated_uvs is not None and self._bound is not None
        playback = Playback(self._path, self._bound)
        playback.start(
            self._scene,
            self._view_layer,
            self._render_set,
            self._generated_uvs,
            self._people,
            frames,
            self._kept_frames,
            self._sizes,
            self._padding,
            self._metres,
            whole_scene=self._render_set.whole_scene or self._catches,
            measure_surroundings=self._render_set.whole_scene,
            find_ground=self._catches,
            triangulate=self.uses_gpu,
            camera=self._camera,
        )
        return playback

    def _capture(self, captured: CapturedScene, frame: int) -> FrameGeometry:
        return captured.evaluate(frame, self._sizes, measure_surroundings=self._render_set.whole_scene, find_ground=self._catches)

    def capture_pose(self) -> FrameGeometry:
        """The pose of the staging, seen by nobody, with its surfaces numbered as in every render of them."""
        try:
            geometry = self._get_pose(self._open()).keep_characters()
            self._numbers.add_all(geometry.everything)
            return geometry
        finally:
            self.close()

    def capture_frames(self, frames: Iterable[int]) -> Iterator[tuple[int, FrameGeometry]]:
        """Frames of the scene as its cameras see them, each with its number and without props; for a staging of a pose that is not
        the rest pose. Raises ``ShotError`` for what can only be evaluated in the order of its frames."""
        try:
            own = self._open()
            bound = find_scene_bound(find_used(self._list_roots(whole=False)), self._scene)
            if bound is not None or own.captured.first_simulated is not None:
                raise shot.ShotError(
                    "scene",
                    "The shot cannot be looked at frame by frame: something of it is simulated, or moved by a script or by a "
                    "driver that reads the scene; bake it, or dress without the shot.",
                )
            for frame in frames:
                yield frame, own.captured.evaluate(frame, self._sizes).keep_characters()
        finally:
            self.close()

    def get_number(self, key: Key) -> int:
        """The number of a surface that has been seen."""
        return self._numbers.by_key[key]

    @property
    def parts(self) -> tuple[PartEntry, ...]:
        """The body parts."""
        return self._render_set.parts

    def _get_pose(self, own: _OwnScenes) -> FrameGeometry:
        assert self._staging is not None
        if self._posed is None:
            self._posed = own.captured.evaluate_pose(self._staging.frame)
        return self._posed

    def _stage_frame(self, own: _OwnScenes, frame: int) -> FrameGeometry:
        """The pose as a view of the staging shows it, or a frame of the shot."""
        assert self._staging is not None
        one = self._staging.shot.get(frame)
        geometry, view = (self._get_pose(own), self._staging.viewpoints[frame]) if one is None else (one.geometry, one.viewpoint)
        return replace(geometry, views={size: view.make_view(*size, self._metres) for size in self._sizes})

    def _measure_one(self, captured: CapturedScene, frame: int) -> None:
        """Evaluate a frame, and keep it for its render while there is room."""
        geometry = self._capture(captured, frame)
        self._widen_depth_range(frame, geometry)
        if frame in self._kept_frames and self._spool is not None and self._spool.size < SPOOL_BYTES:
            try:
                self._spool.put(frame, geometry)
            except OSError:  # no room: it is evaluated again when it is rendered
                self._kept_frames = frozenset()

    def _simulate(self, captured: CapturedScene, first: int) -> None:
        """Evaluate every frame from the first of the simulations to the last that is needed, and keep those that are needed."""
        assert self._spool is not None
        wanted = {frame for frame in self._measured_frames if not self._is_known(frame)}
        for frame in range(min(first, *wanted, *self._kept_frames), max(*wanted, *self._kept_frames) + 1):
            geometry = self._capture(captured, frame)
            if frame in wanted:
                self._widen_depth_range(frame, geometry)
            if frame in self._kept_frames:
                try:
                    self._spool.put(frame, geometry)
                except OSError as error:
                    raise shot.ShotError(
                        "passes",
                        f"The simulated frames do not fit into the folder for temporary files ({error.strerror}); make room, "
                        "or bake the simulation.",
                    ) from error

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
        if self._camera_reference is not None:
            self._camera = self._camera_reference.find()
            if self._camera is None:
                raise shot.ShotError(
                    "camera", f"The camera '{self._camera_reference.name}' was deleted meanwhile; what is finished is kept."
                )
        for number, person in self._people.items():
            armature = self._render_set.armatures[number - 1]
            assert armature is not None
            person.armature = armature
        check_modes(self._list_roots(whole=self._catches))

    def render_slice(self, next_index: Callable[[], int | None]) -> Iterator[RenderedFrame]:
        """Render the frames whose indices ``next_index`` returns, until it returns None or ``SLICE_SECONDS`` have passed."""
        index = next_index()
        if index is None:
            return
        try:
            end = time.perf_counter() + SLICE_SECONDS
            while index is not None:
                yield self._render_one(self._open(), index)
                index = next_index() if self._keep_scenes or time.perf_counter() < end else None
        except BaseException:
            self.close()
            raise
        if not self._keep_scenes:
            self._end()

    def close(self) -> None:
        """Remove everything of ours from the file and from the disk; more may be rendered afterwards."""
        self._end()
        self._folder.close()
        self._path = self._spool = None

    def render_all(self) -> Generator[int, None, None]:
        """Measure and render the whole shot for ``result``; yields how much of ``total`` is done."""
        try:
            yield from self.measure()
            waiting = deque(range(len(self._frames)))
            while waiting:
                for frame in self.render_slice(lambda: waiting.popleft() if waiting else None):
                    self._store(frame)
                    if self._keep_scenes:
                        yield self.total - len(waiting)
                if not self._keep_scenes:
                    yield self.total - len(waiting)
        finally:
            self.close()

    def _store(self, frame: RenderedFrame) -> None:
        for name, pixels in frame.passes.arrays().items():
            if name not in self._arrays:
                self._arrays[name] = np.zeros((len(self._frames), *pixels.shape[1:]), pixels.dtype)
            self._arrays[name][frame.index] = pixels[0]
        self._entries[frame.index] = frame.entry

    def _open(self) -> _OwnScenes:
        """Our own scenes, made anew unless they exist."""
        if self._own is not None:
            return self._own
        self._find_data()
        self._prepare()
        self._scenes.callback(self._forget)
        self._cut_outs.forget_materials()
        self._own = _OwnScenes(self._scenes.enter_context(own_data()), self._make_captured, self._make_drawn, self._make_shaded)
        return self._own

    def _prepare(self) -> None:
        """What is made before the first frame is evaluated: texture coordinates, and a folder of our own."""
        if self._generated_uvs is None:
            self._generated_uvs = {
                one.index: unwrap(one.object)
                for one in self._render_set.objects
                if one.object.type == "MESH" and not get_mesh(one.object).uv_layers
            }
        if self._path is None:
            # for the whole shot: when an engine goes, Blender restarts what viewports render
            capture.register()
            self._folder.callback(capture.unregister)
            pass_engine.register()
            self._folder.callback(pass_engine.unregister)
            folder = tempfile.TemporaryDirectory(prefix="latentman-", ignore_cleanup_errors=True)
            self._path = Path(self._folder.enter_context(folder))
        if self._spool is None:
            self._spool = Spool(self._path / "frames")

    def _make_captured(self, data: OwnData, stage: bpy.types.Scene) -> CapturedScene:
        assert self._generated_uvs is not None
        return CapturedScene(
            data,
            stage,
            self._scene,
            find_visible(self._view_layer),
            self._render_set,
            self._generated_uvs,
            self._cut_outs,
            self._people,
            padding=self._padding,
            whole_scene=self._render_set.whole_scene or self._catches,
            triangulate=self.uses_gpu or self._staging is not None,
            camera=self._camera,
            at_rest=self._staging is not None and self._staging.at_rest,
        )

    def _make_shaded(self, data: OwnData, stage: bpy.types.Scene) -> ShadowScene:
        visible = find_visible(self._view_layer)
        lights = [one for one in visible.ordered if one.type == "LIGHT"]
        return ShadowScene(data, stage, *self._size, self._cut_outs, lights, self._scene.world, halved=not self._catches)

    def _make_drawn(self, data: OwnData, stage: bpy.types.Scene) -> DrawnScene:
        return DrawnScene(
            data,
            stage,
            *self._size,
            self._cut_outs,
            position=self._render_set.whole_scene or self._motion_vectors,
            motion_vectors=self._motion_vectors,
        )

    def _forget(self) -> None:
        self._own = None

    def _end(self) -> None:
        """Remove our scenes from the file."""
        self._scenes.close()

    def _evaluate(self, own: _OwnScenes, frame: int) -> FrameGeometry:
        if self._staging is not None:
            return self._stage_frame(own, frame)
        if self._bound is not None and (self._spool is None or frame not in self._spool):
            for _ in self._play():
                pass
        kept = self._spool.get(frame) if self._spool is not None and frame in self._spool else None
        if kept is not None and self._size in kept.views:
            return kept
        return share_shapes(own.captured.evaluate(frame, self._sizes))

    def _render_one(self, own: _OwnScenes, index: int) -> RenderedFrame:
        frame = self._frames[index]
        geometry = self._evaluate(own, frame)
        before = self._evaluate(own, frame - 1) if self._motion_vectors else None
        everything = geometry
        if not self._render_set.whole_scene:
            geometry = geometry.keep_characters()
        self._numbers.add_all(geometry.everything)
        whole = bool(geometry.live) or bool(geometry.hair) or self._render_set.whole_scene
        box = (0, 0, *self._size) if whole else self._find_extent(geometry).box
        left, top, right, bottom = box
        drawn = self._render_box(own, frame, geometry, before, box)
        previous = drawn.pop("previous", None)
        scales = {one.index: one.metres_per_unit for one in self._render_set.objects}
        found = name_pixels(drawn, geometry, self._numbers, scales, self._metres)
        near, far = (self.near, self.far) if self._staging is None else find_own_range(found["depth"], self.near, self.far)
        found["depth"] = normalise_depth(found["depth"], near, far)
        if before is not None and previous is not None:
            shown = found["object_index"]
            places = find_former_places(shown, previous, drawn["position"], geometry, before, self._numbers.by_key)
            found["motion_vectors"] = compute_motion(places, shown > 0, before.views[self._size], left, top)
        width, height = self._size
        arrays: dict[str, np.ndarray] = {}
        for name, pixels in found.items():
            arrays[name] = np.zeros((1, height, width, *pixels.shape[2:]), pixels.dtype)
            arrays[name][0, top:bottom, left:right] = pixels
        if self._shadow:
            ground = None if self._has_ground else float(self._lowest)
            shadow = own.shaded.draw(frame, everything, everything.views[self._size], ground)
            arrays["shadow"] = (shadow * (arrays["mask"][0] == 0)).astype(np.float16)[None]
        passes = FramePasses(**arrays)
        self.has_seen_character = self.has_seen_character or bool(passes.mask.any())
        return RenderedFrame(index, passes, self._make_entry(passes, geometry))

    def _render_box(
        self,
        own: _OwnScenes,
        frame: int,
        geometry: FrameGeometry,
        before: FrameGeometry | None,
        box: tuple[int, int, int, int],
    ) -> dict[str, np.ndarray]:
        """Render the passes within a rectangle (left, top, right, bottom) of a frame."""
        left, top, right, bottom = box
        numbers = self._numbers.by_key
        if self.uses_gpu and gpu_raster.can_draw(geometry):
            try:
                return gpu_raster.draw(geometry, geometry.views[self._size], numbers, box)
            except gpu_raster.ERRORS:
                self.uses_gpu = False  # there is no graphics context at the moment; Cycles needs none
        live = []
        for key in geometry.live:
            live_object = own.captured.find(key)
            if live_object is not None:
                live.append((live_object, self._numbers.add(key, *own.captured.reader.describe(live_object))))
        former = {one.key: one.shape.points for one in before.surfaces} if before else {}
        ways = find_ways_back(geometry, before) if before is not None else {}
        points = {
            one.key: former[one.key] if len(former.get(one.key, ())) == len(one.shape.points) else one.shape.points
            for one in geometry.surfaces
            if before is not None
        }
        channels = own.drawn.draw(frame, geometry, geometry.views[self._size], numbers, live, box, points, ways)
        return reading.read_passes(channels, right - left, bottom - top)

    def _make_entry(self, passes: FramePasses, geometry: FrameGeometry) -> FrameEntry:
        view = geometry.views[self._size]
        people = []
        for n, points in geometry.people.items() if self._people else ():
            rows = np.column_stack([view.project(points), view.compute_depth(points) * view.metres_per_unit])
            people.append((n, tuple((float(x), float(y), float(depth)) for x, y, depth in rows)))
        shown = np.flatnonzero(np.bincount(passes.surface_index.ravel())).tolist()
        surfaces = tuple(SurfaceEntry(number, *self._numbers.names[number]) for number in shown if number)
        return FrameEntry(view.make_entry(), surfaces, tuple(people))

    def _find_extent(self, geometry: FrameGeometry) -> Extent:
        return find_extent(geometry.views[self._size], geometry.find_character_points(), MARGIN)

    def _is_known(self, frame: int) -> bool:
        """Whether a frame need not be measured: its extent is known, and it is not rendered itself."""
        return frame in self._extents and frame not in self._kept_frames

    def _keep_extents(self, *, depends: bool) -> None:
        if self._extents_key:
            kept_extents.keep(self._extents_key, self._measured_frames, self._extents, depends=depends)

    def _widen_depth_range(self, frame: int, geometry: FrameGeometry) -> None:
        """Widen the depth range so that it includes a frame, and number what is in it, whichever frame is rendered first."""
        shown = geometry if self._render_set.whole_scene else geometry.keep_characters()
        known = len(self._numbers.by_key)
        self._numbers.add_all(shown.everything)
        self._met[frame], self._live[frame] = tuple(list(self._numbers.by_key)[known:]), shown.live
        extent = self._find_extent(geometry)
        near, far, hits = extent.near, extent.far, geometry.surroundings
        if hits is not None and len(hits):
            reach = SCENE_REACH * far if np.isfinite(far) else np.inf
            near, far = min(near, float(hits.min())), max(far, min(float(hits.max()), reach))
        self._extents[frame] = near, far, _find_lowest(geometry) if self._shadow else np.inf, geometry.has_ground
        self._widen(self._extents[frame])

    def _widen(self, extents: kept_extents.Extents) -> None:
        near, far, lowest, has_ground = extents
        if not self._is_range_given:
            self.near, self.far = min(self.near, near), max(self.far, far)
        if not self._is_ground_given:
            self._lowest = min(self._lowest, lowest)
        self._has_ground = self._has_ground or has_ground

    def result(self) -> FramePasses:
        """All passes, after ``render_all``. Raises ``ShotError`` when the camera never sees a character."""
        self.check_seen()
        return FramePasses(**self._arrays)

    def manifest(self, fps: float) -> PassesManifest:
        """The manifest of the passes of ``result``."""
        entries = [self._entries[n] for n in range(len(self._frames))]
        return join_manifest(*self._size, fps, self._frames, self.header, entries)
