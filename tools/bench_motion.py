"""The motion figures of ``make bench``: retargeting, foot locking, key reduction and skinning against ground truth.

Writes ``build/bench/motion.json``. The ground truth is random SMPL motions and the bundled clips.
"""

from __future__ import annotations

import time
from dataclasses import replace

import bpy
import numpy as np

from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.character.rig import Rig
from latentman.blender_addon.compat import get_fcurves
from latentman.blender_addon.motion import foot_contacts
from latentman.blender_addon.motion.channels import motion_to_channels
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.reduction import reduce_keys
from latentman.blender_addon.motion.retarget import RigMotion, retarget
from latentman.blender_addon.motion.rotations import axis_angle_to_matrix, forward_kinematics, matrix_to_quaternion
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import apply_motion, pose_motion
from latentman.blender_addon.rigging.rigs import read_rig
from latentman.blender_addon.typed_access import get_mesh, get_pose, get_scene, get_view_layer
from latentman.shared.motion import Motion
from latentman.shared.skeleton import HUMANML_JOINT_COUNT, JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS
from latentman.shared.vectors import normalise

FRAMES, FPS = 196, 20.0
ENDS = ("left_wrist", "right_wrist", "left_foot", "right_foot", "head")
#: upper, middle, end joint and the rest pose's hinge axis
HINGES = (
    ("left_hip", "left_knee", "left_ankle", (1, 0, 0)),
    ("right_hip", "right_knee", "right_ankle", (1, 0, 0)),
    ("left_shoulder", "left_elbow", "left_wrist", (0, -1, 0)),
    ("right_shoulder", "right_elbow", "right_wrist", (0, 1, 0)),
)


def make_random_rotations(seed: int, frames: int = FRAMES) -> np.ndarray:
    """(F, 24, 3, 3) smooth random local rotations; knees and elbows only bend the way they can."""
    generator = np.random.default_rng(seed)
    t = np.arange(frames) / FPS
    vectors = np.zeros((frames, len(SMPL_JOINTS), 3))
    for joint, name in enumerate(SMPL_JOINTS):
        size = 0.7 if any(part in name for part in ("hip", "shoulder")) else 0.25
        for component in range(3):
            for _ in range(3):
                vectors[:, joint, component] += generator.normal(0, size / 2) * np.sin(
                    2 * np.pi * generator.uniform(0.1, 0.9) * t + generator.uniform(0, 6.28)
                )
        if "knee" in name or "elbow" in name:
            bend = 0.7 + 0.6 * np.sin(2 * np.pi * generator.uniform(0.2, 0.9) * t + generator.uniform(0, 6.28))
            axis = (1.0, 0, 0) if "knee" in name else ((0, -1.0, 0) if "left" in name else (0, 1.0, 0))
            vectors[:, joint] = bend[:, None] * axis
        if "hand" in name:
            vectors[:, joint] = 0
    return axis_angle_to_matrix(vectors)


def compute_plane_error(joints: np.ndarray, motion: RigMotion) -> np.ndarray:
    """(N,) degrees between a limb's observed bend axis and its posed hinge, where it bends by more than 20 degrees."""
    out = []
    for upper, middle, end, axis in HINGES:
        a, b, c = (joints[:, JOINT_INDEX[name]] for name in (upper, middle, end))
        bend = np.cross(normalise(b - a), normalise(c - b))
        hinge = motion.global_rotations[:, JOINT_INDEX[upper]] @ np.array(axis, float)
        bent = np.linalg.norm(bend, axis=1) > np.sin(np.radians(20))
        out.append(np.degrees(np.arccos(np.clip((normalise(bend) * hinge).sum(1)[bent], -1, 1))))
    return np.concatenate(out)


def measure_retargeting(rig: Rig) -> dict[str, float]:
    """Measure joint and bending-plane errors on the same skeleton, and end effectors on a body of other proportions."""
    rest, same, scaled, planes = rig.joints, [], [], []
    taller = rest.copy()
    for joint, name in enumerate(SMPL_JOINTS):
        factor = (
            1.15
            if any(part in name for part in ("knee", "ankle"))
            else 0.9
            if any(part in name for part in ("elbow", "wrist", "hand"))
            else 1.0
        )
        if joint:
            parent = SMPL_PARENTS[joint]
            taller[joint] = taller[parent] + factor * (rest[joint] - rest[parent])
    for seed in range(6):
        local = make_random_rotations(seed)
        pelvis = rest[0] + np.cumsum(np.random.default_rng(seed).normal(0, 0.01, (FRAMES, 3)), 0)
        truth = forward_kinematics(local, rest, pelvis, SMPL_PARENTS)
        motion = Motion.from_joints(truth[:, :HUMANML_JOINT_COUNT], FPS, "random")
        found = retarget(motion, rest)
        same.append(
            np.linalg.norm(forward_kinematics(found.local_rotations, rest, found.pelvis, SMPL_PARENTS) - truth, axis=-1)[
                :, :22
            ].mean()
        )
        planes.append(compute_plane_error(truth, found))
        other = retarget(motion, taller)
        wanted = forward_kinematics(local, taller, other.pelvis, SMPL_PARENTS)
        apart = np.linalg.norm(forward_kinematics(other.local_rotations, taller, other.pelvis, SMPL_PARENTS) - wanted, axis=-1)
        scaled.append(apart[:, [JOINT_INDEX[name] for name in ENDS]].mean())
    file = read(BUNDLED)
    for clip in range(len(file.clips)):
        motion = file.get_motion(clip)
        planes.append(compute_plane_error(motion.joints, retarget(motion, rest)))
    return {
        "joint_error_mm": float(np.mean(same)) * 1000,
        "joint_error_scaled_mm": float(np.mean(scaled)) * 1000,
        "plane_error_deg": float(np.percentile(np.concatenate(planes), 95)),
    }


def add_sliding(motion: Motion) -> Motion:
    """Make a motion drift and sway over the ground and sink two centimetres into it."""
    t = np.arange(motion.frame_count) / motion.fps
    drift = np.stack([0.25 * np.sin(2.2 * t), 0 * t - 0.02, 0.6 * t + 0.15 * np.cos(3 * t)], 1)
    return replace(motion, joints=motion.joints + drift[:, None])


def measure_foot_locking(rig: Rig) -> dict[str, float]:
    """Measure how much foot sliding is left after locking, and how deep soles sink, over the bundled clips with added sliding."""
    file, ratios, depth = read(BUNDLED), [], 0.0
    for clip in range(len(file.clips)):
        motion = add_sliding(file.get_motion(clip))
        before, after = (pose_motion(rig, motion, KeyOptions(foot_lock=mode))[0] for mode in ("off", "hard"))
        ratio = [
            foot_contacts.compute_skating_ratio(forward_kinematics(m.local_rotations, rig.joints, m.pelvis, SMPL_PARENTS), FPS)
            for m in (after, before)
        ]
        ratios.append(ratio[0] / ratio[1])
        depth = max(depth, float(foot_contacts.compute_penetration(after, rig.joints).max()))
    return {"skating_after_over_before": float(np.mean(ratios)), "penetration_mm": depth * 1000}


def measure_keys_per_bone(rig: Rig) -> float:
    """Mean number of keys that each curve of 196 frames needs to stay within 5 mm."""
    file = read(BUNDLED)
    counts = []
    for clip in range(len(file.clips)):
        motion = file.get_motion(clip)
        long = motion.resample(FPS * (FRAMES - 1) / (motion.frame_count - 1))
        posed, _ = pose_motion(rig, long, KeyOptions())
        counts.append(np.mean([len(rows) for rows in reduce_keys(rig, motion_to_channels(rig, posed), 0.005).values()]))
    return float(np.mean(counts))


def measure_seconds_196_frames(armature: bpy.types.Object) -> float:
    """Seconds from arrays of 196 frames to an Action that Blender has evaluated; the best of five."""
    joints = forward_kinematics(
        make_random_rotations(1), read_rig(armature).joints, np.zeros((FRAMES, 3)) + read_rig(armature).joints[0], SMPL_PARENTS
    )
    motion, best = Motion.from_joints(joints[:, :HUMANML_JOINT_COUNT], FPS, "random"), np.inf
    for _ in range(5):
        started = time.perf_counter()
        action = apply_motion(armature, motion, 1, FPS)
        get_view_layer(bpy.context).update()
        best = min(best, time.perf_counter() - started)
        assert len(get_fcurves(action)) == 3 + 4 * len(SMPL_JOINTS)
    return best


def measure_skinning_error() -> float:
    """Largest distance in metres between smplx's vertices and Blender's, over random poses without pose correctives."""
    import torch
    from smplx.lbs import lbs

    body = load(MANNEQUIN)
    bare = replace(body, posedirs=np.zeros_like(body.posedirs))
    armature = add_character(bpy.context, bare, "Skinned")
    mesh = next(o for o in bpy.data.objects if o.parent == armature)
    worst, generator = 0.0, np.random.default_rng(0)
    for _ in range(3):
        pose = generator.normal(0, 0.4, (24, 3))
        for name, turn in zip(SMPL_JOINTS, matrix_to_quaternion(axis_angle_to_matrix(pose)), strict=True):
            get_pose(armature).bones[name].rotation_quaternion = turn
        get_view_layer(bpy.context).update()
        data = get_mesh(mesh.evaluated_get(bpy.context.evaluated_depsgraph_get()))
        seen = np.empty((len(data.vertices), 3), np.float32)
        data.vertices.foreach_get("co", seen.ravel())

        def tensor(value: np.ndarray) -> torch.Tensor:
            return torch.tensor(value, dtype=torch.float64)

        wanted, _ = lbs(
            torch.zeros(1, 10, dtype=torch.float64),
            tensor(pose.reshape(1, -1)),
            tensor(bare.v_template)[None],
            tensor(bare.shapedirs[..., :10]),
            tensor(bare.posedirs.reshape(-1, bare.posedirs.shape[2]).T),
            tensor(bare.joint_regressor),
            torch.tensor(bare.parents),
            tensor(bare.weights),
        )
        worst = max(worst, float(np.abs(seen - wanted[0].numpy()).max()))
    bpy.data.objects.remove(mesh)
    bpy.data.objects.remove(armature)
    return worst


def measure() -> dict[str, float]:
    """Measure every figure of ``motion.json``."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    get_scene(bpy.context).render.fps = int(FPS)
    armature = add_character(bpy.context, load(MANNEQUIN), "Mannequin")
    rig = read_rig(armature)
    return (
        measure_retargeting(rig)
        | {"seconds_196_frames": measure_seconds_196_frames(armature)}
        | measure_foot_locking(rig)
        | {"keys_per_bone_5mm": measure_keys_per_bone(rig), "smplx_vertex_error_m": measure_skinning_error()}
    )
