"""Curves -> keyframes in Actions, NLA strips and layers, and back. Nothing that is there is overwritten."""

from __future__ import annotations

from dataclasses import dataclass, field

import bpy
import numpy as np

from ...shared.motion import Motion, MotionError
from ...shared.skeleton import SMPL_PARENTS
from ...shared.vectors import normalise
from ..character.rig import Rig, rig_of
from ..compat import action_fcurves, curve_holders, fcurves_of, put_in_group
from . import feet
from .channels import ROOTS, Channels, channels, unposed
from .keying import Keying
from .reduction import reduced, tangents
from .retarget import RigMotion, retarget
from .rotations import continuous, forward
from .settling import settled

FOOT_LOCKS = ("off", "soft", "hard")
TARGETS = ("ACTION", "NLA", "LAYER")
#: custom properties of an Action that came from a motion
TEXT, SOURCE, RATE, PLANTS = "latentman_text", "latentman_source", "latentman_fps", "latentman_plants"
SEED = "latentman_seed"


@dataclass(frozen=True)
class KeyOptions:
    """How a motion becomes keyframes.

    ``root`` from ``channels.ROOTS``; ``foot_lock`` off, soft or hard; ``euler`` writes Euler angles in place of
    quaternions; ``target``: a new Action in use (``ACTION``), a strip on a new NLA track (``NLA``), or an Action below an
    additive layer that takes the animator's tweaks (``LAYER``); ``tolerance`` in metres at hands, feet and head lets keys
    be left out, 0 keys every frame; ``keep_rate`` keys the motion's own frames instead of the scene's.
    """

    root: str = "BONE"
    foot_lock: str = "off"
    euler: bool = False
    target: str = "ACTION"
    tolerance: float = 0.0
    keep_rate: bool = False
    plants: feet.PlantSettings = field(default_factory=feet.PlantSettings)

    def __post_init__(self) -> None:
        for value, allowed in ((self.root, ROOTS), (self.foot_lock, FOOT_LOCKS), (self.target, TARGETS)):
            if value not in allowed:
                raise MotionError(f"'{value}' is unknown; choose one of {', '.join(allowed)}.")

    @classmethod
    def of(cls, keying: Keying) -> KeyOptions:
        """The options that the settings of the panel or the command line describe."""
        return cls(
            root=keying.root,
            foot_lock=keying.foot_lock,
            euler=keying.rotation == "EULER",
            target=keying.target,
            tolerance=keying.tolerance / 1000,
            keep_rate=keying.keep_rate,
            plants=keying.plants(),
        )


def pose_motion(rig: Rig, motion: Motion, options: KeyOptions) -> tuple[RigMotion, list[feet.Plant]]:
    """A motion on a rig's own body, feet locked as asked, and the plants that were found."""
    posed = retarget(motion, rig.joints, rig.exact)
    joints = forward(posed.local, rig.joints, posed.pelvis, SMPL_PARENTS)
    plants = feet.find_plants(joints, rig.joints, motion.fps, options.plants)
    return feet.lock(posed, rig.joints, plants, motion.fps, options.foot_lock), plants


def apply_motion(
    armature: bpy.types.Object, motion: Motion, start: int, scene_fps: float, options: KeyOptions | None = None
) -> bpy.types.Action:
    """Key a motion on an armature from frame ``start`` on; returns the new Action. Earlier Actions are kept.

    The Action remembers the motion's text, source and rate, and where the feet stand. Raises ``MotionError`` for a rig
    whose bones cannot be mapped.
    """
    options = options or KeyOptions()
    rig = rig_of(armature)
    timed = motion if options.keep_rate else motion.resampled(scene_fps)
    posed, plants = pose_motion(rig, timed, options)
    spacing = scene_fps / timed.fps if options.keep_rate else 1.0
    action = new_action(armature, channels(rig, posed, options.root), start, motion.text or motion.source, options, rig, spacing)
    action[TEXT], action[SOURCE], action[RATE] = motion.text, motion.source, motion.fps
    write_plants(action, plants, start, spacing)
    return action


def new_action(
    armature: bpy.types.Object, curves: Channels, start: int, name: str, options: KeyOptions, rig: Rig, spacing: float = 1.0
) -> bpy.types.Action:
    """A new Action with these curves, put where ``options.target`` says."""
    data = armature.animation_data or armature.animation_data_create()
    before, before_slot = data.action, getattr(data, "action_slot", None)
    if before is not None and options.target != "NLA":
        _back_to_start(armature, before)
    action = bpy.data.actions.new(name)
    action.use_fake_user = True
    write(armature, action, curves, start, options, rig, spacing)

    def rewrite(changed: Channels) -> None:
        clear(action)
        write(armature, action, changed, start, options, rig, spacing)

    for bone in armature.pose.bones:
        # Rigify's switch between IK (0) and FK (1), whose controls were just keyed
        if "IK_FK" in bone:
            bone["IK_FK"] = 1.0
    settled(bpy.context, armature, rig, curves, start, spacing, rewrite)
    if options.target == "NLA":
        data.action = None
        _strip(armature, action, start)
        data.action = before
        if before is not None and before_slot is not None:
            data.action_slot = before_slot
    elif options.target == "LAYER":
        data.action = None
        _replace_base(armature, action, start)
        tweaks = before if before is not None and before.get("latentman_layer") else None
        if tweaks is None:
            tweaks = bpy.data.actions.new(f"{armature.name} tweaks")
            tweaks["latentman_layer"] = True
            tweaks.use_fake_user = True
        action_fcurves(armature, tweaks)
        data.action_blend_type = "COMBINE"
    elif data.action_blend_type == "COMBINE":
        data.action_blend_type = "REPLACE"
    return action


def _back_to_start(armature: bpy.types.Object, action: bpy.types.Action) -> None:
    """An Action that moved the object leaves it where it happens to be; a new one begins where that one began."""
    for curve in fcurves_of(action):
        if curve.data_path == "location":
            armature.location[curve.array_index] = curve.evaluate(action.frame_range[0])


def clear(action: bpy.types.Action) -> None:
    """Take every curve out of an Action."""
    for holder in curve_holders(action):
        for curve in list(holder):
            holder.remove(curve)


def _strip(armature: bpy.types.Object, action: bpy.types.Action, start: int) -> bpy.types.NlaStrip:
    track = armature.animation_data.nla_tracks.new()
    track.name = action.name
    strip = track.strips.new(action.name, start, action)
    strip.extrapolation = "HOLD_FORWARD"
    return strip


def _replace_base(armature: bpy.types.Object, action: bpy.types.Action, start: int) -> None:
    """Put an Action on a track of its own and mute the earlier base, so that tweaks above it stay."""
    for track in armature.animation_data.nla_tracks:
        if track.name.startswith("Base: "):
            track.mute = True
    strip = _strip(armature, action, start)
    armature.animation_data.nla_tracks[-1].name = f"Base: {action.name}"
    strip.extrapolation = "HOLD"


def write(
    armature: bpy.types.Object,
    action: bpy.types.Action,
    curves: Channels,
    start: int,
    options: KeyOptions,
    rig: Rig,
    spacing: float = 1.0,
) -> None:
    """Write curves into an Action, grouped by bone; keys that the tolerance makes needless are left out."""
    target = action_fcurves(armature, action)
    frames = start + spacing * np.arange(curves.frame_count)
    kept = reduced(rig, curves, options.tolerance) if options.tolerance > 0 else {}
    every = np.arange(curves.frame_count)

    def key(path: str, index: int, values: np.ndarray, rows: np.ndarray, group: str) -> None:
        curve = target.new(path, index=index)
        put_in_group(action, curve, group)
        curve.keyframe_points.add(len(rows))
        flat = np.column_stack([frames[rows], values[rows]]).astype(np.float32)
        curve.keyframe_points.foreach_set("co", flat.ravel())
        # every frame keyed: straight lines between; few keys: Blender's own smooth curve
        kind = "BEZIER" if len(rows) < len(frames) else "LINEAR"
        items = bpy.types.Keyframe.bl_rna.properties["interpolation"].enum_items
        curve.keyframe_points.foreach_set("interpolation", np.full(len(rows), items[kind].value, np.int32))
        if len(rows) < len(frames):
            _handles(curve, frames, values, rows)
        curve.update()

    for axis in range(3):
        key(
            f'pose.bones["{curves.root_bone}"].location',
            axis,
            curves.location[:, axis],
            kept.get("location", every),
            curves.root_bone,
        )
    for bone, values in curves.carried.items():
        for axis in range(3):
            key(f'pose.bones["{bone}"].location', axis, values[:, axis], every, bone)
    for bone, values in curves.rotations.items():
        pose_bone = armature.pose.bones[bone]
        rows = kept.get(bone, every)
        if options.euler:
            pose_bone.rotation_mode = "XYZ"
            values, attribute = eulers(values), "rotation_euler"
        else:
            pose_bone.rotation_mode, attribute = "QUATERNION", "rotation_quaternion"
        for axis in range(values.shape[1]):
            key(f'pose.bones["{bone}"].{attribute}', axis, values[:, axis], rows, bone)
    if curves.path is not None:
        turn = np.array(armature.matrix_world)[:3, :3]
        path = np.array(armature.location) + curves.path @ turn.T
        for axis in range(3):
            key("location", axis, path[:, axis], every, "Object Transforms")


def _handles(curve: bpy.types.FCurve, frames: np.ndarray, values: np.ndarray, rows: np.ndarray) -> None:
    """Bezier handles that follow the slope of the whole curve, so that few keys keep its shape."""
    slope = tangents(values, rows) / max(frames[1] - frames[0], 1e-9) if len(frames) > 1 else np.zeros(len(rows))
    at = frames[rows]
    before = np.diff(at, prepend=at[0] - 1) / 3
    after = np.diff(at, append=at[-1] + 1) / 3
    points, free = curve.keyframe_points, bpy.types.Keyframe.bl_rna.properties["handle_left_type"].enum_items["FREE"].value
    for side, offset in (("left", -before), ("right", after)):
        points.foreach_set(f"handle_{side}_type", np.full(len(rows), free, np.int32))
        points.foreach_set(
            f"handle_{side}", np.column_stack([at + offset, values[rows] + slope * offset]).astype(np.float32).ravel()
        )


def eulers(quaternions: np.ndarray) -> np.ndarray:
    """(F, 3) XYZ Euler angles in radians, as Blender reads them, without jumps of a whole turn."""
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    out = np.stack(
        [
            np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
            np.arcsin(np.clip(2 * (w * y - x * z), -1, 1)),
            np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
        ],
        -1,
    )
    for frame in range(1, len(out)):
        # the same rotation the other way round, whichever is nearer to the frame before
        other = out[frame] + [np.pi, np.pi - 2 * out[frame, 1], np.pi]
        options = [o + 2 * np.pi * np.round((out[frame - 1] - o) / (2 * np.pi)) for o in (out[frame], other)]
        out[frame] = min(options, key=lambda o: np.abs(o - out[frame - 1]).sum())
    return out


def action_range(action: bpy.types.Action) -> tuple[int, int]:
    """First and last keyed frame."""
    first, last = action.frame_range
    return int(np.floor(first)), int(np.ceil(last))


def read_channels(armature: bpy.types.Object, action: bpy.types.Action, rig: Rig, start: int, end: int) -> Channels:
    """The curves of an Action sampled at whole frames ``start`` to ``end``; what is not keyed is at rest."""
    found = {(curve.data_path, curve.array_index): curve for curve in fcurves_of(action)}
    frames = range(start, end + 1)

    def sampled(path: str, width: int, rest: tuple[float, ...]) -> np.ndarray | None:
        if not any((path, axis) in found for axis in range(width)):
            return None
        columns = []
        for axis in range(width):
            curve = found.get((path, axis))
            columns.append([curve.evaluate(f) for f in frames] if curve else [rest[axis]] * len(frames))
        return np.array(columns).T

    rotations = {}
    for bone in rig.bones:
        values = sampled(f'pose.bones["{bone}"].rotation_quaternion', 4, (1, 0, 0, 0))
        if values is None:
            angles = sampled(f'pose.bones["{bone}"].rotation_euler', 3, (0, 0, 0))
            values = None if angles is None else from_eulers(angles)
        if values is not None:
            rotations[bone] = continuous(normalise(values))
    root = rig.bones[rig.joint_bones["pelvis"]]
    place = sampled(f'pose.bones["{root}"].location', 3, (0, 0, 0))
    path = sampled("location", 3, tuple(armature.location))
    if path is not None:
        path = (path - path[0]) @ np.linalg.inv(np.array(armature.matrix_world)[:3, :3]).T
    return Channels(rotations, root, np.zeros((len(frames), 3)) if place is None else place, path)


def from_eulers(angles: np.ndarray) -> np.ndarray:
    """(F, 4) quaternions of XYZ Euler angles (F, 3) in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles / 2).T, np.sin(angles / 2).T
    return np.stack(
        [cx * cy * cz + sx * sy * sz, sx * cy * cz - cx * sy * sz, cx * sy * cz + sx * cy * sz, cx * cy * sz - sx * sy * cz], -1
    )


def body_motion(armature: bpy.types.Object, action: bpy.types.Action) -> tuple[Rig, RigMotion, int]:
    """An Action as motion of the rig's body, with the frame it starts at."""
    rig = rig_of(armature)
    start, end = action_range(action)
    return rig, unposed(rig, read_channels(armature, action, rig, start, end)), start


def write_plants(action: bpy.types.Action, plants: list[feet.Plant], start: int, spacing: float = 1.0) -> None:
    """Remember where feet stand, in the Action's own frames, for the list in the panel."""
    action[PLANTS] = [
        value
        for plant in plants
        for value in (float(feet.SIDES.index(plant.side)), start + spacing * plant.start, start + spacing * plant.end)
    ]


def read_plants(action: bpy.types.Action) -> list[feet.Plant]:
    """The plants an Action remembers, in its own frames."""
    flat = list(action.get(PLANTS, ()))
    return [
        feet.Plant(feet.SIDES[int(side)], round(a), round(b)) for side, a, b in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]
