"""Motion -> keyframes in Actions, NLA strips and layers, and back. Existing Actions are not overwritten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import bpy
import numpy as np

from ...shared.motion import Motion, MotionError
from ...shared.skeleton import SMPL_PARENTS
from ...shared.vectors import normalise
from ..character.rig import Rig
from ..compat import ensure_fcurves, get_fcurve_collections, get_fcurves, set_fcurve_group
from ..motion import foot_contacts
from ..motion.channels import ROOT_MODES, Channels, channels_to_motion, motion_to_channels
from ..motion.foot_contacts import ContactSettings, FootContact
from ..motion.keying import Keying
from ..motion.reduction import ROOT_LOCATION, compute_slopes, reduce_keys
from ..motion.retarget import RigMotion, retarget
from ..motion.rotations import euler_to_quaternion, forward_kinematics, make_continuous, quaternion_to_euler
from ..typed_access import get_animation_data, get_pose
from .constraints import solve_constraints
from .rigs import read_rig

FOOT_LOCKS = ("off", "soft", "hard")
TARGETS = ("ACTION", "NLA", "LAYER")
#: custom properties of an Action that came from a motion
TEXT, SOURCE, RATE, SEED = "latentman_text", "latentman_source", "latentman_fps", "latentman_seed"
#: (side, first frame, last frame) of each foot contact, one after the other; .blend files have it under this name
CONTACTS = "latentman_plants"
#: custom property that marks an Action as the layer for the animator's tweaks
LAYER = "latentman_layer"


@dataclass(frozen=True)
class KeyOptions:
    """How a motion becomes keyframes.

    ``root`` from ``channels.ROOT_MODES``; ``foot_lock`` off, soft or hard; ``euler`` writes Euler angles in place of
    quaternions; ``target``: a new Action in use (``ACTION``), a strip on a new NLA track (``NLA``), or an Action below an
    additive layer for the animator's tweaks (``LAYER``); ``tolerance``: how far in metres hands, feet and head may move when
    keys are left out, 0 keys every frame; ``keep_rate`` keys the motion's own frames instead of the scene's;
    ``contact_settings``: when a foot counts as in contact with the ground. Raises ``MotionError`` for unknown values.
    """

    root: str = "BONE"
    foot_lock: str = "off"
    euler: bool = False
    target: str = "ACTION"
    tolerance: float = 0.0
    keep_rate: bool = False
    contact_settings: ContactSettings = field(default_factory=ContactSettings)

    def __post_init__(self) -> None:
        for value, allowed in ((self.root, ROOT_MODES), (self.foot_lock, FOOT_LOCKS), (self.target, TARGETS)):
            if value not in allowed:
                raise MotionError(f"'{value}' is unknown; choose one of {', '.join(allowed)}.")

    @classmethod
    def from_keying(cls, keying: Keying) -> KeyOptions:
        """The options for the settings of the panel or the command line."""
        return cls(
            root=keying.root,
            foot_lock=keying.foot_lock,
            euler=keying.rotation == "EULER",
            target=keying.target,
            tolerance=keying.tolerance / 1000,
            keep_rate=keying.keep_rate,
            contact_settings=keying.get_contact_settings(),
        )


def pose_motion(rig: Rig, motion: Motion, options: KeyOptions) -> tuple[RigMotion, list[FootContact]]:
    """A motion on a rig's own body, with its feet locked as ``options`` say, and the foot contacts that were found."""
    posed = retarget(motion, rig.joints, rig.is_smpl)
    joints = forward_kinematics(posed.local_rotations, rig.joints, posed.pelvis, SMPL_PARENTS)
    contacts = foot_contacts.find_foot_contacts(joints, rig.joints, motion.fps, options.contact_settings)
    return foot_contacts.lock_feet(posed, rig.joints, contacts, motion.fps, options.foot_lock), contacts


def apply_motion(
    armature: bpy.types.Object,
    motion: Motion,
    start: int,
    scene_fps: float,
    options: KeyOptions | None = None,
    change: Callable[[RigMotion], RigMotion] = lambda posed: posed,
) -> bpy.types.Action:
    """Key a motion on an armature from frame ``start`` on; returns the new Action. Earlier Actions are kept. ``change`` is what
    is done to the motion once it is posed, before it becomes keys.

    The Action stores the motion's text, source and rate, and the foot contacts. Raises ``MotionError`` for a rig whose
    bones cannot be mapped.
    """
    options = options or KeyOptions()
    rig = read_rig(armature)
    resampled = motion if options.keep_rate else motion.resample(scene_fps)
    posed, contacts = pose_motion(rig, resampled, options)
    posed = change(posed)
    spacing = scene_fps / resampled.fps if options.keep_rate else 1.0
    channels = motion_to_channels(rig, posed, options.root)
    action = create_action(armature, channels, start, motion.text or motion.source, options, rig, spacing)
    action[TEXT], action[SOURCE], action[RATE] = motion.text, motion.source, motion.fps
    write_foot_contacts(action, contacts, start, spacing)
    return action


def create_action(
    armature: bpy.types.Object, channels: Channels, start: int, name: str, options: KeyOptions, rig: Rig, spacing: float = 1.0
) -> bpy.types.Action:
    """A new Action with keys for these channels, used as ``options.target`` says; ``spacing`` scene frames between frames."""
    data = armature.animation_data or armature.animation_data_create()
    before, before_slot = data.action, getattr(data, "action_slot", None)
    if before is not None and options.target != "NLA":
        _restore_start_location(armature, before)
    action = bpy.data.actions.new(name)
    action.use_fake_user = True
    write_channels(armature, action, channels, start, options, rig, spacing)

    def rewrite(changed: Channels) -> None:
        clear_action(action)
        write_channels(armature, action, changed, start, options, rig, spacing)

    for bone in get_pose(armature).bones:
        # Rigify's switch between IK (0) and FK (1), whose controls were just keyed
        if bone.get("IK_FK") is not None:
            bone["IK_FK"] = 1.0
    solve_constraints(bpy.context, armature, rig, channels, start, spacing, rewrite)
    if options.target == "NLA":
        data.action = None
        _add_strip(armature, action, start)
        data.action = before
        if before is not None and before_slot is not None:
            data.action_slot = before_slot
    elif options.target == "LAYER":
        data.action = None
        _replace_base(armature, action, start)
        tweaks = before if before is not None and before.get(LAYER) else None
        if tweaks is None:
            tweaks = bpy.data.actions.new(f"{armature.name} tweaks")
            tweaks[LAYER] = True
            tweaks.use_fake_user = True
        ensure_fcurves(armature, tweaks)
        data.action_blend_type = "COMBINE"
    elif data.action_blend_type == "COMBINE":
        data.action_blend_type = "REPLACE"
    return action


def _restore_start_location(armature: bpy.types.Object, action: bpy.types.Action) -> None:
    """Move the object to where an Action begins: a new Action should start there, not where the current frame leaves it."""
    for curve in get_fcurves(action):
        if curve.data_path == "location":
            armature.location[curve.array_index] = curve.evaluate(action.frame_range[0])


def clear_action(action: bpy.types.Action) -> None:
    """Remove every F-curve of an Action."""
    for holder in get_fcurve_collections(action):
        for curve in list(holder):
            holder.remove(curve)


def _add_strip(armature: bpy.types.Object, action: bpy.types.Action, start: int) -> bpy.types.NlaStrip:
    track = get_animation_data(armature).nla_tracks.new()
    track.name = action.name
    strip = track.strips.new(action.name, start, action)
    strip.extrapolation = "HOLD_FORWARD"
    return strip


def _replace_base(armature: bpy.types.Object, action: bpy.types.Action, start: int) -> None:
    """Put an Action on a track of its own and mute the earlier base, so that tweaks above it stay."""
    tracks = get_animation_data(armature).nla_tracks
    for track in tracks:
        if track.name.startswith("Base: "):
            track.mute = True
    strip = _add_strip(armature, action, start)
    tracks[-1].name = f"Base: {action.name}"
    strip.extrapolation = "HOLD"


def write_channels(
    armature: bpy.types.Object,
    action: bpy.types.Action,
    channels: Channels,
    start: int,
    options: KeyOptions,
    rig: Rig,
    spacing: float = 1.0,
) -> None:
    """Write channels into an Action as F-curves, grouped by bone; keys that the tolerance does not need are left out."""
    target = ensure_fcurves(armature, action)
    frames = start + spacing * np.arange(channels.frame_count)
    kept = reduce_keys(rig, channels, options.tolerance) if options.tolerance > 0 else {}
    every = np.arange(channels.frame_count)

    def key(path: str, index: int, values: np.ndarray, rows: np.ndarray, group: str) -> None:
        curve = target.new(path, index=index)
        set_fcurve_group(action, curve, group)
        curve.keyframe_points.add(len(rows))
        flat = np.column_stack([frames[rows], values[rows]]).astype(np.float32)
        curve.keyframe_points.foreach_set("co", flat.ravel())
        # every frame keyed: straight lines between; few keys: Blender's own smooth curve
        interpolation = _get_enum_value("interpolation", "BEZIER" if len(rows) < len(frames) else "LINEAR")
        curve.keyframe_points.foreach_set("interpolation", np.full(len(rows), interpolation, np.int32))
        if len(rows) < len(frames):
            _set_handles(curve, frames, values, rows)
        curve.update()

    for axis in range(3):
        key(
            f'pose.bones["{channels.root_bone}"].location',
            axis,
            channels.root_location[:, axis],
            kept.get(ROOT_LOCATION, every),
            channels.root_bone,
        )
    for bone, values in channels.other_locations.items():
        for axis in range(3):
            key(f'pose.bones["{bone}"].location', axis, values[:, axis], every, bone)
    for bone, values in channels.rotations.items():
        pose_bone = get_pose(armature).bones[bone]
        rows = kept.get(bone, every)
        if options.euler:
            pose_bone.rotation_mode = "XYZ"
            values, attribute = quaternion_to_euler(values), "rotation_euler"
        else:
            pose_bone.rotation_mode, attribute = "QUATERNION", "rotation_quaternion"
        for axis in range(values.shape[1]):
            key(f'pose.bones["{bone}"].{attribute}', axis, values[:, axis], rows, bone)
    if channels.object_location is not None:
        rotation = np.array(armature.matrix_world)[:3, :3]
        locations = np.array(armature.location) + channels.object_location @ rotation.T
        for axis in range(3):
            key("location", axis, locations[:, axis], every, "Object Transforms")


def _get_enum_value(name: str, identifier: str) -> int:
    """The number that ``foreach_set`` takes for an item of one of the enums of keyframes."""
    declared = bpy.types.Keyframe.bl_rna.properties[name]
    assert isinstance(declared, bpy.types.EnumProperty)
    return declared.enum_items[identifier].value


def _set_handles(curve: bpy.types.FCurve, frames: np.ndarray, values: np.ndarray, rows: np.ndarray) -> None:
    """Set Bezier handles along the slope of the whole curve, so that few keys keep its shape."""
    slope = compute_slopes(values, rows) / max(frames[1] - frames[0], 1e-9) if len(frames) > 1 else np.zeros(len(rows))
    at = frames[rows]
    before = np.diff(at, prepend=at[0] - 1) / 3
    after = np.diff(at, append=at[-1] + 1) / 3
    points, free = curve.keyframe_points, _get_enum_value("handle_left_type", "FREE")
    for side, offset in (("left", -before), ("right", after)):
        points.foreach_set(f"handle_{side}_type", np.full(len(rows), free, np.int32))
        points.foreach_set(
            f"handle_{side}", np.column_stack([at + offset, values[rows] + slope * offset]).astype(np.float32).ravel()
        )


def get_action_range(action: bpy.types.Action) -> tuple[int, int]:
    """First and last keyed frame, rounded outwards to whole frames."""
    return int(np.floor(action.frame_range[0])), int(np.ceil(action.frame_range[1]))


def read_channels(armature: bpy.types.Object, action: bpy.types.Action, rig: Rig, start: int, end: int) -> Channels:
    """The channels of an Action, sampled at whole frames ``start`` to ``end``; what is not keyed is at rest."""
    found = {(curve.data_path, curve.array_index): curve for curve in get_fcurves(action)}
    frames = range(start, end + 1)

    def sample(path: str, width: int, rest: tuple[float, ...]) -> np.ndarray | None:
        if not any((path, axis) in found for axis in range(width)):
            return None
        columns = []
        for axis in range(width):
            curve = found.get((path, axis))
            columns.append([curve.evaluate(f) for f in frames] if curve else [rest[axis]] * len(frames))
        return np.array(columns).T

    rotations = {}
    for bone in rig.bones:
        values = sample(f'pose.bones["{bone}"].rotation_quaternion', 4, (1, 0, 0, 0))
        if values is None:
            angles = sample(f'pose.bones["{bone}"].rotation_euler', 3, (0, 0, 0))
            values = None if angles is None else euler_to_quaternion(angles)
        if values is not None:
            rotations[bone] = make_continuous(normalise(values))
    root = rig.bones[rig.joint_bones["pelvis"]]
    root_location = sample(f'pose.bones["{root}"].location', 3, (0, 0, 0))
    object_location = sample("location", 3, (armature.location.x, armature.location.y, armature.location.z))
    if object_location is not None:
        to_object = np.linalg.inv(np.array(armature.matrix_world)[:3, :3])
        object_location = (object_location - object_location[0]) @ to_object.T
    return Channels(rotations, root, np.zeros((len(frames), 3)) if root_location is None else root_location, object_location)


def read_body_motion(armature: bpy.types.Object, action: bpy.types.Action) -> tuple[Rig, RigMotion, int]:
    """(the rig, an Action as motion of its body, the frame it starts at); ``MotionError`` for a rig that cannot be mapped."""
    rig = read_rig(armature)
    start, end = get_action_range(action)
    return rig, channels_to_motion(rig, read_channels(armature, action, rig, start, end)), start


def write_foot_contacts(action: bpy.types.Action, contacts: list[FootContact], start: int, spacing: float = 1.0) -> None:
    """Store foot contacts on an Action, in its own frames, for the list in the panel."""
    sides = foot_contacts.SIDES
    action[CONTACTS] = [
        value
        for contact in contacts
        for value in (float(sides.index(contact.side)), start + spacing * contact.start, start + spacing * contact.end)
    ]


def read_foot_contacts(action: bpy.types.Action) -> list[FootContact]:
    """The foot contacts stored on an Action, in its own frames."""
    flat = list(action.get(CONTACTS, ()))
    return [
        FootContact(foot_contacts.SIDES[int(side)], round(start), round(end))
        for side, start, end in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]
