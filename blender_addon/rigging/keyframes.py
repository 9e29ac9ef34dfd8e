"""Motion -> keyframes in Actions, NLA strips and layers, and back. Existing Actions are not overwritten."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import bpy
import numpy as np

from ...shared.motion import Motion, MotionError
from ...shared.skeleton import SMPL_PARENTS
from ..character.joints import SIDES
from ..character.rig import Rig
from ..compat import (
    assign_action,
    ensure_curve_holder,
    ensure_fcurves,
    find_object_slot,
    find_same_slot,
    get_slot_fcurves,
    get_used_slot,
)
from ..motion import foot_contacts
from ..motion.channels import ROOT_MODES, Channels, channels_to_motion, compute_bone_rotations, motion_to_channels
from ..motion.foot_contacts import ContactSettings, FootContact
from ..motion.keying import Keying
from ..motion.reduction import ROOT_LOCATION, reduce_keys
from ..motion.retarget import RigMotion, retarget
from ..motion.rotations import forward_kinematics
from ..typed_access import get_animation_data, get_pose
from .constraints import Fitted, PoseFitter, Target
from .curves import ROTATIONS, CurveWriter, KeyedPose, get_rotation_attribute
from .editable import check_body_space, check_editable, check_not_edited
from .ik_controls import has_ik, pose_controls
from .nla import (
    LAYER,
    MotionPlace,
    add_base,
    add_strip,
    find_motion_place,
    get_motion_range,
    list_motion_curves,
    replace_strip,
    split_bone_path,
)
from .poses import find_carrier, read_poses, read_reference, to_body_motion
from .rigs import read_rig
from .stand_in import TRANSFORMS, StandIn

FOOT_LOCKS = ("off", "soft", "hard")
TARGETS = ("ACTION", "NLA", "LAYER")
#: custom properties of an Action that came from a motion
TEXT, SOURCE, RATE, SEED = "latentman_text", "latentman_source", "latentman_fps", "latentman_seed"
#: (side, first frame, last frame) of each foot contact, one after the other; .blend files have it under this name
CONTACTS = "latentman_plants"
#: custom properties of an Action: what was keyed besides the body, and what is wrong with it, one sentence a line
NOTES, WARNINGS = "latentman_notes", "latentman_warnings"


@dataclass(frozen=True)
class KeyOptions:
    """How a motion becomes keyframes.

    ``root`` from ``channels.ROOT_MODES``; ``foot_lock`` off, soft or hard; ``flat_soles`` as for ``retarget``; ``euler`` writes
    Euler angles in place of quaternions, in a bone's own order or XYZ; ``keep_modes`` writes what each bone has;
    ``mute_overruling`` allows to mute constraints that keep the bones from following their keys; ``target``: a new Action in
    use (``ACTION``), a strip on a new NLA track (``NLA``), or an Action below an additive layer for the animator's tweaks
    (``LAYER``); ``tolerance``: how far in metres hands, feet and head may move when keys are left out, 0 keys every frame;
    ``keep_rate`` keys the motion's own frames instead of the scene's; ``contact_settings``: when a foot counts as in contact
    with the ground. Raises ``MotionError`` for unknown values.
    """

    root: str = "BONE"
    foot_lock: str = "off"
    flat_soles: bool = False
    euler: bool = False
    keep_modes: bool = False
    mute_overruling: bool = False
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
            flat_soles=keying.flat_soles,
            euler=keying.rotation == "EULER",
            keep_modes=keying.rotation == "KEEP",
            mute_overruling=keying.mute_overruling,
            target=keying.target,
            tolerance=keying.tolerance / 1000,
            keep_rate=keying.keep_rate,
            contact_settings=keying.get_contact_settings(),
        )


def pose_motion(rig: Rig, motion: Motion, options: KeyOptions) -> tuple[RigMotion, list[FootContact]]:
    """A motion on a rig's own body, with its feet locked as ``options`` say, and the foot contacts that were found."""
    posed = retarget(motion, rig.joints, rig.is_smpl, options.flat_soles)
    joints = forward_kinematics(posed.local_rotations, rig.joints, posed.pelvis, SMPL_PARENTS)
    contacts = foot_contacts.find_foot_contacts(joints, rig.joints, motion.fps, options.contact_settings)
    return foot_contacts.lock_feet(posed, rig.joints, contacts, motion.fps, options.foot_lock), contacts


def choose_rotation_mode(bone: bpy.types.PoseBone, options: KeyOptions) -> str:
    """The rotation mode in which a bone is keyed."""
    own = bone.rotation_mode
    if options.keep_modes:
        return own
    if options.euler:
        return own if own not in ("QUATERNION", "AXIS_ANGLE") else "XYZ"
    return "QUATERNION"


def match_rotation_modes(armature: bpy.types.Object, curves: list[bpy.types.FCurve]) -> list[str]:
    """Give bones that are keyed only in another rotation mode than theirs a mode in which those keys count.

    A bone with keys of its own mode, among others, keeps it, as Blender plays them. Returns the names of those whose Euler
    order had to be assumed.
    """
    keyed: dict[str, set[str]] = {}
    for curve in curves:
        split = split_bone_path(curve.data_path)
        name = split[1] if split else curve.data_path
        if name in ROTATIONS and not curve.mute:
            keyed.setdefault(split[0] if split else "", set()).add(name)
    assumed = []
    for bone, names in keyed.items():
        owner: Any = armature if not bone else get_pose(armature).bones.get(bone)
        if owner is None or get_rotation_attribute(owner.rotation_mode) in names:
            continue
        name = next(name for name in ROTATIONS if name in names)
        owner.rotation_mode = {"rotation_quaternion": "QUATERNION", "rotation_axis_angle": "AXIS_ANGLE"}.get(name, "XYZ")
        if name == "rotation_euler":
            assumed.append(bone or armature.name)
    return assumed


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
    return action


@dataclass(frozen=True)
class Edit:
    """What an edited Action is made from: the place of the motion, the first frame that was read of it, and what happens to the
    curves that are kept, called with what holds them and with the paths of those that the motion replaces."""

    place: MotionPlace
    start: int
    retime: Callable[[Any, set[str]], None]


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
    except BaseException:
        bpy.data.actions.remove(action)
        raise
    action.use_fake_user = True
    slot = find_same_slot(action, edit.place.slot) if edit is not None else find_object_slot(action)
    _use_action(armature, action, slot, start, options, edit, transforms)
    for bone, mode in modes.items():
        posed: Any = get_pose(armature).bones[bone]
        posed.rotation_mode = mode
    _switch_to_fk(armature)
    notes = [fitted.note] if fitted.note else []
    for bone, constraint in fitted.muted:
        get_pose(armature).bones[bone].constraints[constraint].mute = True
    if fitted.muted:
        listed = ", ".join(f"'{constraint}' on {bone}" for bone, constraint in fitted.muted)
        notes.append(f"Muted, since they overruled the motion: {listed}.")
    warnings = [one for one in (fitted.warning, held) if one]
    if get_pose_position(armature) == "REST":
        warnings.append(
            f"{armature.name} shows its rest position; switch to Pose Position in its data properties to see the motion."
        )
    warnings += _check_played(armature, action)
    for key, lines in ((NOTES, notes), (WARNINGS, warnings)):
        if lines:
            action[key] = "\n".join(lines)
        elif action.get(key) is not None:
            del action[key]
    return action


def get_pose_position(armature: bpy.types.Object) -> str:
    """Whether an armature shows its pose (``POSE``) or its rest position (``REST``)."""
    data: Any = armature.data
    return str(data.pose_position)


def _switch_to_fk(armature: bpy.types.Object) -> None:
    """Rigify's switch between IK (0) and FK (1), whose controls are keyed."""
    for bone in get_pose(armature).bones:
        if bone.get("IK_FK") is not None:
            # the switch of a linked rig may not be overridable; the measured pose tells
            with contextlib.suppress(TypeError, AttributeError):
                bone["IK_FK"] = 1.0


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
    modes = {bone: choose_rotation_mode(stand.bones[bone], options) for bone in channels.rotations}
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


def _use_action(
    armature: bpy.types.Object,
    action: bpy.types.Action,
    slot: Any,
    start: int,
    options: KeyOptions,
    edit: Edit | None,
    transforms: dict[str, Any],
) -> None:
    """Make an armature play a new Action: where the edited one was, or as the options say."""
    data = armature.animation_data or armature.animation_data_create()
    if edit is not None:
        if edit.place.action.library is None:
            # it stays in the file although nothing uses it any more
            edit.place.action.use_fake_user = True
        if edit.place.strip is not None:
            replace_strip(armature, edit.place, action, slot)
        else:
            assign_action(armature, action, slot)
        return
    if data.use_tweak_mode:
        data.use_tweak_mode = False
    before, before_slot = data.action, get_used_slot(armature)
    if before is not None and before.library is None:
        before.use_fake_user = True
    for name, values in transforms.items():
        setattr(armature, name, values)
    if options.target == "NLA":
        add_strip(armature, action, slot, start)
    elif options.target == "LAYER":
        data.action = None
        add_base(armature, action, slot, start)
        tweaks = before if before is not None and before.get(LAYER) else None
        if tweaks is None:
            tweaks = bpy.data.actions.new(f"{armature.name} tweaks")
            tweaks[LAYER] = True
            tweaks.use_fake_user = True
            ensure_fcurves(armature, tweaks)
        else:
            assign_action(armature, tweaks, before_slot)
        data.action_blend_type = "COMBINE"
    else:
        assign_action(armature, action, slot)
        if data.action_blend_type == "COMBINE":
            data.action_blend_type = "REPLACE"


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


def _check_played(armature: bpy.types.Object, action: bpy.types.Action) -> list[str]:
    """Sentences about what of the NLA keeps an Action from being seen."""
    data = get_animation_data(armature)
    soloed = next((track for track in data.nla_tracks if track.is_solo), None)
    strips = [strip for track in data.nla_tracks for strip in track.strips if strip.action == action]
    if soloed is not None and not any(strip in soloed.strips.values() for strip in strips):
        return [f"The NLA track {soloed.name} is soloed, so the motion is not seen; switch its star off."]
    if strips and not data.use_nla:
        return [f"The NLA of {armature.name} is switched off, so the motion is not seen; switch it on."]
    if data.action == action and data.nla_tracks and data.action_influence < 1:
        return [f"The Action in use has an influence of {data.action_influence:.2g}, so the motion is seen only in part."]
    return []


def use_take(armature: bpy.types.Object, action: bpy.types.Action) -> None:
    """Make an armature use an earlier Action, in the rotation modes that it was keyed in."""
    data = armature.animation_data or armature.animation_data_create()
    if data.use_tweak_mode:
        data.use_tweak_mode = False
    slot = find_object_slot(action)
    assign_action(armature, action, slot)
    match_rotation_modes(armature, get_slot_fcurves(action, slot))


def read_notes(action: bpy.types.Action) -> tuple[list[str], list[str]]:
    """(what else was keyed or muted for a motion, what is wrong with it), sentences for the user."""
    notes, warnings = (str(action.get(key, "")).splitlines() for key in (NOTES, WARNINGS))
    return notes, warnings


def find_place(armature: bpy.types.Object, action: bpy.types.Action) -> MotionPlace:
    """Where an Action plays on an armature, or would play if it were in use."""
    place = find_motion_place(armature)
    if place is not None and place.action == action:
        return place
    used = armature.animation_data is not None and armature.animation_data.action == action
    return MotionPlace(action, get_used_slot(armature) if used else find_object_slot(action))


def read_place(armature: bpy.types.Object, place: MotionPlace, rig: Rig | None = None) -> tuple[Rig, RigMotion, int, list[str]]:
    """(the rig, a motion as Blender plays it, the frame of its Action where it begins, sentences about what was assumed).

    Raises ``MotionError`` for a rig that cannot be mapped.
    """
    check_not_edited(armature)
    rig = rig or read_rig(armature)
    start, end = get_motion_range(place)
    data = armature.animation_data
    with StandIn(armature) as stand:
        if data is None or (place.strip is None and place.action != data.action):
            # what another Action has left behind is not part of this one
            for bone in stand.bones:
                bone.matrix_basis.identity()
        assumed = match_rotation_modes(stand.armature, place.curves)
        stand.use(place.action, place.slot)
        frames = np.arange(start, end + 1, dtype=float)
        poses = read_poses(stand, rig, frames, read_reference(stand, start))
    notes = []
    if assumed:
        listed = ", ".join(assumed[:4]) + (f" and {len(assumed) - 4} more" if len(assumed) > 4 else "")
        notes.append(f"The Euler keys of {listed} were read in the order XYZ, since their rotation mode does not say one.")
    return rig, to_body_motion(rig, poses), start, notes


def read_body_motion(armature: bpy.types.Object, action: bpy.types.Action) -> tuple[Rig, RigMotion, int]:
    """(the rig, an Action as motion of its body, the frame it starts at); ``MotionError`` for a rig that cannot be mapped."""
    rig, motion, start, _ = read_place(armature, find_place(armature, action))
    return rig, motion, start


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


def get_action_range(action: bpy.types.Action) -> tuple[int, int]:
    """First and last frame at which bones or the object are keyed, rounded outwards to whole frames."""
    return get_motion_range(MotionPlace(action, find_object_slot(action)))


def write_foot_contacts(action: bpy.types.Action, contacts: list[FootContact], start: int, spacing: float = 1.0) -> None:
    """Store foot contacts on an Action, in its own frames, for the list in the panel."""
    action[CONTACTS] = [
        value
        for contact in contacts
        for value in (float(SIDES.index(contact.side)), start + spacing * contact.start, start + spacing * contact.end)
    ]


def read_foot_contacts(action: bpy.types.Action) -> list[FootContact]:
    """The foot contacts stored on an Action, in its own frames."""
    flat = list(action.get(CONTACTS, ()))
    return [
        FootContact(SIDES[int(side)], round(start), round(end))
        for side, start, end in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]
