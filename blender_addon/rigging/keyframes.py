"""Motion -> keyframes in Actions, NLA strips and layers. Existing Actions are not overwritten."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from ...shared.motion import Motion
from ...shared.skeleton import SMPL_PARENTS
from ..character.joints import SPINE_JOINTS
from ..character.rig import Rig
from ..compat import ensure_curve_holder, find_object_slot, find_same_slot, get_slot_fcurves, get_used_slot
from ..motion import foot_contacts
from ..motion.channels import Channels, channels_to_motion, compute_bone_rotations, motion_to_channels
from ..motion.foot_contacts import FootContact
from ..motion.key_options import KeyOptions
from ..motion.pose_errors import Target
from ..motion.reduction import ROOT_LOCATION, reduce_keys
from ..motion.retarget import RigMotion, retarget
from ..motion.rotations import forward_kinematics
from ..typed_access import get_pose
from .action_notes import RATE, SOURCE, TEXT, add_note, write_foot_contacts, write_notes
from .action_use import check_played, replace_edited, use_action
from .curves import CurveWriter, KeyedPose
from .editable import check_body_space, check_editable, check_not_edited
from .ik_controls import has_ik, pose_controls
from .nla import MotionPlace, list_motion_curves
from .pose_fitter import Fitted, PoseFitter
from .poses import find_carrier
from .retiming import Retime
from .rigs import read_rig
from .stance import describe_stance
from .stand_in import TRANSFORMS, StandIn

#: parts of a frame that times may differ by and be the same
SAME_TIME = 0.01


def pose_motion(rig: Rig, motion: Motion, options: KeyOptions) -> tuple[RigMotion, list[FootContact]]:
    """A motion on a rig's own body, with its feet locked as ``options`` say, and the foot contacts that were found."""
    spine = [joint for joint in SPINE_JOINTS if joint in rig.joint_bones]
    posed = retarget(motion, rig.joints, rig.is_smpl, options.flat_soles, spine)
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
    bones cannot be mapped, and where constraints overrule the keys.
    """
    options = options or KeyOptions()
    check_editable(armature)
    rig = read_rig(armature)
    resampled = motion if options.keep_rate else motion.resample(scene_fps)
    posed, contacts = pose_motion(rig, resampled, options)
    posed = change(posed)
    spacing = scene_fps / resampled.fps if options.keep_rate else 1.0
    channels = motion_to_channels(rig, posed, options.root)
    action = create_action(armature, channels, start, motion.text or motion.source, options, rig, spacing)
    action[TEXT], action[SOURCE], action[RATE] = motion.text, motion.source, motion.fps
    write_foot_contacts(action, contacts, start, spacing)
    left = motion.seconds * resampled.fps - (resampled.frame_count - 1)
    if abs(left) > SAME_TIME:
        done = "left out" if left > 0 else "held until the next one"
        add_note(action, f"The last frame lies between two of the scene's at {resampled.fps:g} fps and is {done}.")
    return action


@dataclass(frozen=True)
class Edit:
    """What an edited Action is made from: the place of the motion, the first frame that was read of it, what happens to the curves
    that are kept, and sentences about what was assumed when the motion was read."""

    place: MotionPlace
    start: int
    retime: Retime
    assumed: tuple[str, ...] = ()


def create_action(
    armature: bpy.types.Object,
    channels: Channels,
    start: int,
    name: str,
    options: KeyOptions,
    rig: Rig,
    spacing: float = 1.0,
    edit: Edit | None = None,
) -> bpy.types.Action:
    """A new Action with keys for these channels, used as ``options.target`` says; ``spacing`` scene frames between frames.

    With ``edit`` it is a copy of the edited Action with other keys for the body, and is used where that one was. The keys are
    tried on a copy of the armature first: where they cannot pose it, ``MotionError`` is raised and nothing has changed.
    """
    check_editable(armature)
    check_not_edited(armature)
    check_body_space(armature)
    if edit is not None:
        action = edit.place.action.copy()
        action.name, slot = name, find_same_slot(action, edit.place.slot)
    else:
        action, slot = bpy.data.actions.new(name), None
    try:
        with StandIn(armature) as stand:
            fitted, modes, transforms = _key_on(stand, action, slot, channels, start, options, rig, spacing, edit)
            held = _check_object_path(stand, channels, start, start + spacing * (channels.frame_count - 1))
            notes, tilts = ([], []) if edit is not None else describe_stance(stand, rig, start)
    except BaseException:
        bpy.data.actions.remove(action)
        raise
    action.use_fake_user = True
    slot = find_same_slot(action, edit.place.slot) if edit is not None else find_object_slot(action)
    if edit is not None:
        replace_edited(armature, action, slot, edit.place)
    else:
        for name, values in transforms.items():
            setattr(armature, name, values)
        use_action(armature, action, slot, start, options.target)
    for bone, mode in modes.items():
        posed: Any = get_pose(armature).bones[bone]
        posed.rotation_mode = mode
    switched = _switch_to_fk(armature)
    notes = [*([fitted.note] if fitted.note else []), *notes]
    if switched:
        notes.append(f"Switched to FK, whose controls are keyed: {', '.join(switched)}.")
    for bone, constraint in fitted.muted:
        get_pose(armature).bones[bone].constraints[constraint].mute = True
    if fitted.muted:
        listed = ", ".join(f"'{constraint}' on {bone}" for bone, constraint in fitted.muted)
        notes.append(f"Muted, since they overruled the motion: {listed}.")
    warnings = [*(edit.assumed if edit is not None else ()), *(one for one in (fitted.warning, held) if one), *tilts]
    warnings += check_played(armature, action)
    write_notes(action, notes, warnings)
    return action


def _switch_to_fk(armature: bpy.types.Object) -> list[str]:
    """Set Rigify's switches between IK (0) and FK (1), whose controls are keyed, to FK; the bones whose switch was another."""
    switched = []
    for bone in get_pose(armature).bones:
        if bone.get("IK_FK") not in (None, 1.0):
            # the switch of a linked rig may not be overridable; the measured pose tells
            with contextlib.suppress(TypeError, AttributeError):
                bone["IK_FK"] = 1.0
                switched.append(bone.name)
    return switched


def _key_on(
    stand: StandIn,
    action: bpy.types.Action,
    slot: Any,
    channels: Channels,
    start: int,
    options: KeyOptions,
    rig: Rig,
    spacing: float,
    edit: Edit | None,
) -> tuple[Fitted, dict[str, str], dict[str, Any]]:
    """Key channels on a stand-in: what came of it, bone -> rotation mode, and transforms that the object gets first."""
    armature, original = stand.armature, stand.original
    transforms: dict[str, Any] = {}
    before = original.animation_data.action if original.animation_data else None
    if edit is None and before is not None and options.target != "NLA":
        # where the earlier Action begins: a new one should start there, not where the current frame leaves the object
        transforms = _read_start_transforms(armature, get_slot_fcurves(before, get_used_slot(original)))
        for name, values in transforms.items():
            setattr(armature, name, values)
    holder, slot = ensure_curve_holder(action, original.name, slot)
    frames = start + spacing * np.arange(channels.frame_count)
    modes = {bone: options.choose_rotation_mode(stand.bones[bone].rotation_mode) for bone in channels.rotations}
    writer = CurveWriter(holder, frames, modes)
    stand.use(action, slot)
    found = stand.evaluate(start if edit is None else edit.start)
    reference, at = np.array(found.matrix_basis), np.array(found.location)
    pose = _to_keyed_pose(armature, rig, channels, reference, at)
    motion = channels_to_motion(rig, channels)
    if has_ik(original):
        rotations, locations = pose_controls(original, rig, motion)
        pose = replace(pose, rotations=pose.rotations | rotations, locations=pose.locations | locations)
    for bone in pose.rotations:
        modes.setdefault(bone, stand.bones[bone].rotation_mode)
    _switch_to_fk(armature)
    writer.remember_cycles(pose)
    writer.remove(pose)
    if edit is not None:
        edit.retime(holder, writer.list_paths(pose))
    for bone, mode in modes.items():
        stand.bones[bone].rotation_mode = mode

    def write(changed: KeyedPose) -> None:
        for bone in changed.rotations:
            modes.setdefault(bone, stand.bones[bone].rotation_mode)
        writer.write(changed)
        stand.use(action, slot)

    target = _make_target(rig, channels, motion, frames, reference)
    cycles, writer.cycles = writer.cycles, {}
    fitter = PoseFitter(stand, rig, target, write)
    fitted = fitter.fit(pose, options.mute_overruling)
    if options.tolerance > 0 or cycles:
        writer.cycles = cycles
        if options.tolerance > 0:
            own = {bone: values for bone, values in fitted.pose.rotations.items() if bone in channels.rotations}
            kept = reduce_keys(rig, replace(channels, rotations=own), options.tolerance, modes)
            carrier = find_carrier(armature, rig, rig.joint_bones["pelvis"])
            writer.location_rows = {carrier.bone: kept.pop(ROOT_LOCATION)}
            writer.rows = kept
        write(fitted.pose)
    return fitted, modes, transforms


def _read_start_transforms(armature: bpy.types.Object, curves: list[bpy.types.FCurve]) -> dict[str, Any]:
    """Transform property -> its values where curves of the object begin; only those that are keyed."""
    out: dict[str, Any] = {}
    for curve in curves:
        if curve.data_path in TRANSFORMS and not curve.is_empty:
            values = out.setdefault(curve.data_path, list(getattr(armature, curve.data_path)))
            values[curve.array_index] = curve.evaluate(curve.range()[0])
    return out


def _make_target(rig: Rig, channels: Channels, motion: RigMotion, frames: np.ndarray, reference: np.ndarray) -> Target:
    """The pose that channels mean, in the object's space at the reference."""
    rotations = {
        bone: wanted for bone, wanted in compute_bone_rotations(rig, motion).items() if rig.bones[bone] in channels.rotations
    }
    root = rig.joint_bones["pelvis"]
    travel = np.zeros(3) if channels.object_location is None else channels.object_location
    heads = {root: rig.heads[root] + channels.root_location @ rig.rest[root].T + travel}
    for bone, values in channels.other_locations.items():
        index = rig.bones.index(bone)
        heads[index] = rig.heads[index] + values @ rig.rest[index].T + travel
    return Target(frames, reference, rotations, heads)


def _to_keyed_pose(armature: bpy.types.Object, rig: Rig, channels: Channels, reference: np.ndarray, at: np.ndarray) -> KeyedPose:
    """Channels as what is keyed: locations of the bones that can move, in the axes that Blender gives them.

    ``at`` (3,) is the object's location where its travel begins.
    """
    locations: dict[str, np.ndarray] = {}
    for name, values in ({channels.root_bone: channels.root_location} | channels.other_locations).items():
        bone = rig.bones.index(name)
        carrier = find_carrier(armature, rig, bone)
        if carrier.bone not in locations:
            locations[carrier.bone] = values @ rig.rest[bone].T @ carrier.axes
    travel = None if channels.object_location is None else at + channels.object_location @ reference[:3, :3].T
    return KeyedPose(dict(channels.rotations), locations, travel)


def _check_object_path(stand: StandIn, channels: Channels, first: float, last: float) -> str:
    """A sentence when constraints of the object keep it from going where it is keyed, else nothing."""
    names = [one.name for one in stand.armature.constraints if not one.mute and one.influence > 0]
    if channels.object_location is None or not names:
        return ""
    found = stand.evaluate(first)
    start, world = np.array(found.matrix_basis), np.array(found.matrix_world)
    found = stand.evaluate(last)
    end, at_end = np.array(found.matrix_basis), np.array(found.matrix_world)
    wanted = world @ np.linalg.inv(start) @ end
    travel = float(np.linalg.norm(wanted[:3, 3] - world[:3, 3]))
    if np.linalg.norm(wanted[:3, 3] - at_end[:3, 3]) <= 0.02 * max(travel, 1e-6):
        return ""
    listed = ", ".join(f"'{name}'" for name in names)
    return (
        f"The object {stand.original.name} does not go where it is keyed, because of its constraints {listed}; mute them, or set "
        "Root to Pelvis Bone."
    )


def edit_to_channels(rig: Rig, source: RigMotion, edited: RigMotion, place: MotionPlace, *, in_place: bool = False) -> Channels:
    """The channels of an edited motion, on the object if the original moves it, else on the bones.

    The object keeps the distance that it had from the pelvis where the original begins.
    """
    moves_object = any(curve.data_path == "location" for curve in list_motion_curves(place))
    if not moves_object:
        return motion_to_channels(rig, edited, "IN_PLACE" if in_place else "BONE")
    channels = motion_to_channels(rig, edited, "OBJECT")
    shift = ((edited.pelvis[0] - source.pelvis[0]) * [1.0, 0.0, 1.0]) @ rig.to_body / rig.scale
    travel = channels.object_location
    assert travel is not None
    bone = rig.joint_bones["pelvis"]
    return replace(
        channels,
        object_location=np.zeros_like(travel) if in_place else travel + shift,
        root_location=channels.root_location - (0.0 if in_place else shift @ rig.rest[bone]),
    )
