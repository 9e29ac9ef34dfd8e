"""An animated armature of the scene as a source of motion: sampled as Blender evaluates it, with whatever animates it.

The sampling happens in a scene of its own, which holds nothing but what the armature needs. So the user's scene keeps its
frame and its unkeyed changes, heavy meshes are not evaluated, and hidden armatures are read like visible ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ...shared.motion import MAX_FRAMES, MotionError
from ..compat import get_used_fcurves, get_used_strips
from ..motion.skeleton_motion import SkeletonMotion
from ..motion.source_bones import UnknownBonesError, find_source_map
from ..timing import frame_rate
from ..typed_access import get_armature, get_pose
from .rigs import list_bones
from .scratch_scene import evaluate_at, keep_unkeyed, make_scratch_scene

#: how far apart in frames two keys may lie and count as one
SAME_KEY = 2e-3
#: the fewest samples per second that are taken between keys that lie far apart
FEWEST_SAMPLES = 24.0
#: parts of a frame that a regular distance between keys must be close to
GRID_TOLERANCE, SHORTEST_GAP = 0.02, 0.05
#: samples per second of a file whose keys lie anywhere, and the most of keys at a regular distance
USUAL_RATE, FASTEST_RATE = 60.0, 150.0
#: movements below this, of positions as part of the skeleton's size and of entries of rotation matrices, are none
STILL = 1e-5


@dataclass(frozen=True)
class SampledFrames:
    """Which frames of the scene are sampled: ``count`` of them from ``start`` on, ``step`` frames apart."""

    start: float
    step: float
    count: int

    @property
    def end(self) -> float:
        """The last frame that is sampled."""
        return self.start + self.step * (self.count - 1)


def choose_frames(start: float, end: float, times: Sequence[float], fps: float, keep_rate: bool = False) -> SampledFrames:
    """The frames to sample of a motion from ``start`` to ``end`` with keys at ``times``, in a scene with ``fps``.

    Keys at a regular distance that is not a whole number of frames are sampled where they are, so that a motion of 30 frames
    per second in a scene of 24 keeps its 30; ``keep_rate`` does so for every regular distance. Those far apart are divided.
    Other motions are sampled once per frame of the scene.
    """
    first, step = start, 1.0
    grid = find_key_grid(times)
    if grid is not None and fps / grid[1] > FASTEST_RATE:
        grid = None
    if grid is not None and (keep_rate or any(abs(value - round(value)) > SAME_KEY for value in grid)):
        first, gap = grid
        step = gap / max(1, int(np.ceil(gap * FEWEST_SAMPLES / fps - 1e-3)))
        first -= step * np.floor((first - start) / step + SAME_KEY)
    elif keep_rate and fps > USUAL_RATE:
        step = fps / USUAL_RATE
    return SampledFrames(float(first), float(step), max(1, int(np.floor((end - first) / step + SAME_KEY)) + 1))


def find_key_grid(times: Sequence[float]) -> tuple[float, float] | None:
    """(first, distance) of keys that all lie at multiples of one distance in frames; None for others, and for less than three."""
    unique = np.unique(np.round(np.asarray(times, float) / SAME_KEY)) * SAME_KEY
    if len(unique) < 3:
        return None
    gaps, length = np.diff(unique), float(unique[-1] - unique[0])
    gap = float(gaps[gaps < 1.5 * gaps.min()].mean())
    gap = length / max(1, round(length / gap))
    multiples = (unique - unique[0]) / gap
    if gap < SHORTEST_GAP or np.abs(multiples - multiples.round()).max() * gap > GRID_TOLERANCE:
        return None
    return float(unique[0]), gap


def sample_armature(
    scene: bpy.types.Scene, armature: bpy.types.Object, keep_rate: bool = False, tips: bool = True
) -> SkeletonMotion:
    """An armature's motion in world space (Blender's axes, Z up, metres), as Blender evaluates it.

    Sampled are the frames of its Action and its NLA strips; without those, of the Actions of its parents and of the targets of
    its constraints; without any, the scene's range. ``keep_rate`` as for ``choose_frames``; ``tips`` says whether the ends of
    its bones mean anything, which those of imported files do not. The scene is left as it is. Raises ``MotionError``.
    """
    _check_evaluable(armature)
    bones = list_bones(armature)
    if not bones:
        raise MotionError(f"The armature '{armature.name}' has no bones; choose another one.")
    fps = frame_rate(scene)
    start, end, times = find_motion_range(armature) or (scene.frame_start, scene.frame_end, ())
    frames = choose_frames(start, end, times, fps, keep_rate)
    _check_count(armature.name, frames)
    index = {bone.name: n for n, bone in enumerate(bones)}
    order = [get_pose(armature).bones.find(bone.name) for bone in bones]
    pose = np.empty((len(get_pose(armature).bones), 16), np.float32)

    def read(graph: bpy.types.Depsgraph) -> np.ndarray:
        evaluated = armature.evaluated_get(graph)
        get_pose(evaluated).bones.foreach_get("matrix", pose.ravel())
        # Blender's matrices come column by column
        local = pose[order].reshape(-1, 4, 4).swapaxes(1, 2).astype(float)
        return np.concatenate([np.array(evaluated.matrix_world, float)[None], local])

    sampled = _sample(scene, [armature], frames, read)
    objects = sampled[:, 0]
    world = objects[:, None] @ sampled[:, 1:]
    rest = objects[0] @ np.array([np.array(bone.matrix_local) for bone in bones], float)
    rest_rotations = remove_scale(rest[:, :3, :3])
    ends = np.array([bone.tail_local for bone in bones], float) @ objects[0, :3, :3].T + objects[0, :3, 3]
    return _make_motion(
        armature.name,
        tuple(index),
        tuple(index[bone.parent.name] if bone.parent else -1 for bone in bones),
        world,
        rest,
        np.einsum("bji,bj->bi", rest_rotations, ends - rest[:, :3, 3]) if tips else np.full((len(bones), 3), np.nan),
        fps / frames.step,
        frames,
    )


def sample_objects(
    scene: bpy.types.Scene, objects: Sequence[bpy.types.Object], name: str, keep_rate: bool = False
) -> SkeletonMotion:
    """The motion of objects that are parented to each other like bones, parents first, as of files without a skin.

    As for ``sample_armature``; the rest pose is what the objects have without their Actions.
    """
    fps = frame_rate(scene)
    ranges = [found for one in objects if (found := _find_own_range(one)) is not None]
    if not ranges:
        raise MotionError(f"{name} has no animation; choose a file with a motion.")
    frames = choose_frames(*_unite(ranges), fps, keep_rate)
    _check_count(name, frames)
    index = {one: n for n, one in enumerate(objects)}

    def read(graph: bpy.types.Depsgraph) -> np.ndarray:
        return np.array([np.array(one.evaluated_get(graph).matrix_world) for one in objects], float)

    rest: list[np.ndarray] = []
    for one in objects:
        basis = np.array(one.matrix_parent_inverse @ one.matrix_basis if one.parent in index else one.matrix_basis, float)
        rest.append(rest[index[one.parent]] @ basis if one.parent in index else basis)
    parents = tuple(index.get(one.parent, -1) if one.parent is not None else -1 for one in objects)
    return _make_motion(
        name,
        tuple(one.name for one in objects),
        parents,
        _sample(scene, objects, frames, read),
        np.array(rest),
        np.full((len(objects), 3), np.nan),
        fps / frames.step,
        frames,
    )


def guess_source_mapping(scene: bpy.types.Scene, armature: bpy.types.Object) -> tuple[str, dict[str, str]]:
    """(how it was found, joint -> bone) of an animated armature, also by how it moves; ``MotionError`` where no person is found,
    or a doubtful one."""
    skeleton = sample_armature(scene, armature)
    try:
        found = find_source_map(skeleton)
    except UnknownBonesError as error:
        raise MotionError(error.describe_for_source()) from error
    return found.how, {joint: skeleton.names[bone] for joint, bone in found.bones.items()}


def _check_evaluable(armature: bpy.types.Object) -> None:
    if armature.mode == "EDIT":
        raise MotionError(f"'{armature.name}' is being edited; leave Edit Mode (Tab) first.")
    if get_armature(armature).pose_position == "REST":
        raise MotionError(
            f"'{armature.name}' is shown in its rest position; set its armature to Pose Position in the armature's properties."
        )


def _check_count(name: str, frames: SampledFrames) -> None:
    if frames.count > MAX_FRAMES:
        raise MotionError(
            f"'{name}' has {frames.count} frames of motion, more than the limit of {MAX_FRAMES}; shorten its Action or strips."
        )


def _make_motion(
    name: str,
    names: tuple[str, ...],
    parents: tuple[int, ...],
    world: np.ndarray,
    rest: np.ndarray,
    tips: np.ndarray,
    fps: float,
    frames: SampledFrames,
) -> SkeletonMotion:
    if not np.isfinite(world).all():
        raise MotionError(f"'{name}' has bones whose places are not numbers; check its scale, its constraints and its drivers.")
    positions, rotations = world[..., :3, 3], remove_scale(world[..., :3, :3])
    size = max(float(np.ptp(positions[0], axis=0).max()), 1e-9)
    if np.ptp(positions, axis=0).max() < STILL * size and np.ptp(rotations, axis=0).max() < STILL:
        raise MotionError(
            f"'{name}' does not move from frame {frames.start:g} to {frames.end:g}; give it an Action or NLA strips, or choose "
            "another armature."
        )
    # 29.999 and 30.001 come from keys in single precision
    fps = float(round(fps)) if abs(fps - round(fps)) < 0.01 else fps
    return SkeletonMotion(names, parents, positions, rotations, tips, rest[:, :3, 3], remove_scale(rest[:, :3, :3]), fps, name)


def remove_scale(matrices: np.ndarray) -> np.ndarray:
    """The nearest rotations (..., 3, 3) of matrices with scale and shear; of a mirrored one, the X axis is turned round.

    Turned round in each frame alike, it leaves what hangs on a bone where it is in the bone's axes.
    """
    lengths = np.linalg.norm(matrices, axis=-2, keepdims=True)
    u, _, v = np.linalg.svd(matrices / np.where(lengths > 0, lengths, 1.0))
    rotations = u @ v
    mirrored = np.linalg.det(rotations) < 0
    rotations[mirrored, :, 0] *= -1
    return np.asarray(rotations)


Range = tuple[float, float, tuple[float, ...]]


def find_motion_range(armature: bpy.types.Object) -> Range | None:
    """(first frame, last frame, times of the keys) of what animates an armature: its own Action and NLA strips, or else those
    of its parents and of the targets of its constraints; None where there are none."""
    own = _find_own_range(armature)
    if own is not None and own[1] > own[0]:
        return own
    found = [other for one in _iter_followed(armature) if (other := _find_own_range(one)) is not None and other[1] > other[0]]
    return _unite(found) if found else None


def _unite(ranges: Sequence[Range]) -> Range:
    starts, ends, times = zip(*ranges, strict=True)
    return min(starts), max(ends), tuple(time for some in times for time in some)


def _iter_followed(armature: bpy.types.Object) -> Iterator[bpy.types.Object]:
    """What an armature follows: its parents, the targets of its constraints, and what those follow."""
    seen, waiting = {armature}, [armature]
    while waiting:
        one = waiting.pop()
        owners: list[Any] = [one, *(one.pose.bones if one.pose else ())]
        targets = [one.parent, *(getattr(constraint, "target", None) for owner in owners for constraint in owner.constraints)]
        for target in targets:
            if isinstance(target, bpy.types.Object) and target not in seen:
                seen.add(target)
                waiting.append(target)
                yield target


def _find_own_range(owner: bpy.types.Object) -> Range | None:
    """(first frame, last frame, times of the keys) of an object's own Action and NLA strips; None where there are none."""
    times = [float(key.co.x) for curve in get_used_fcurves(owner) for key in curve.keyframe_points]
    strips = get_used_strips(owner)
    if strips:
        # keys in strips are shifted and scaled: only the ends of the strips count
        times = [*times[:1], *times[-1:]] if not times else [min(times), max(times)]
        edges = [*times, *(float(edge) for strip in strips for edge in (strip.frame_start, strip.frame_end))]
        return min(edges), max(edges), ()
    return (min(times), max(times), tuple(times)) if times else None


def _sample(
    scene: bpy.types.Scene,
    objects: Iterable[bpy.types.Object],
    frames: SampledFrames,
    read: Callable[[bpy.types.Depsgraph], np.ndarray],
) -> np.ndarray:
    """What ``read`` returns for each of the frames, stacked."""
    with _make_sampling_scene(scene, objects) as sampling:
        return np.stack([read(evaluate_at(sampling, frames.start + frames.step * n)) for n in range(frames.count)])


@contextmanager
def _make_sampling_scene(scene: bpy.types.Scene, objects: Iterable[bpy.types.Object]) -> Iterator[bpy.types.Scene]:
    """A scene for a while whose evaluation holds these objects and what they depend on, hidden or not.

    They are no part of it: an Empty is constrained to every bone, which makes Blender evaluate them wherever they are.
    """
    owners = [owner for one in objects for owner in (one, *_iter_followed(one))]
    with keep_unkeyed(owners), make_scratch_scene("LatentMan Sampling") as sampling:
        for name in ("fps", "fps_base", "frame_map_old", "frame_map_new"):
            setattr(sampling.render, name, getattr(scene.render, name))
        helper = bpy.data.objects.new("LatentMan Sampling", None)
        try:
            sampling.collection.objects.link(helper)
            for one in objects:
                for bone in (bone.name for bone in one.pose.bones) if one.pose else ("",):
                    constraint: Any = helper.constraints.new("COPY_LOCATION")
                    constraint.target, constraint.subtarget = one, bone
            yield sampling
        finally:
            bpy.data.objects.remove(helper)
