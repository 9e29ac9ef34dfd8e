"""BVH files through Blender's own importer: the imported rig is read as a body's motion and removed again."""

from __future__ import annotations

import re
from pathlib import Path

import bpy
import numpy as np

from ...shared.files import read_file
from ...shared.motion import MAX_FPS, MAX_FRAMES, Motion, MotionError
from ...shared.skeleton import HUMANML_JOINT_COUNT, REST_PELVIS_HEIGHT, SMPL_PARENTS, SMPL_REST_JOINTS
from ..motion.retarget import compute_leg_length
from ..motion.rotations import forward_kinematics
from ..typed_access import get_animation_data, get_scene, get_view_layer
from .keyframes import read_body_motion

#: units that BVH files are written in, in metres
UNITS = (1.0, 0.01, 0.0254, 0.1, 0.001)
TOES = (10, 11)
#: bytes and lines of a file, bytes of a line of its skeleton, bones, numbers in all frames, and the largest of them
MAX_BYTES, MAX_LINES, MAX_LINE, MAX_JOINTS, MAX_VALUES, LARGEST = 256 << 20, 2 * MAX_FRAMES + 20_000, 1000, 1024, 20_000_000, 1e9


def read_header(path: Path) -> tuple[int, float]:
    """(number of frames, frames per second) of a BVH file; ``MotionError`` for a file that is damaged or is not one.

    The whole file is looked through, since Blender's importer makes what it says without asking.
    """
    try:
        lines = _split_lines(read_file(path, MAX_BYTES))
    except FileNotFoundError:
        raise MotionError(f"There is no motion file at {path}; check the path.") from None
    except OSError as error:
        raise MotionError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise MotionError(f"{path.name} {error}; export it again.") from None
    start = next((n for n, line in enumerate(lines) if line.strip().upper() == b"MOTION"), 0)
    text = b" ".join(lines[start : start + 3]).decode("utf-8", "replace")
    frames, time = re.search(r"Frames:\s*(\d{1,9})\b", text), re.search(r"Frame Time:\s*([-+.\deE]{1,40})", text)
    if not lines[0].strip().upper() == b"HIERARCHY" or not start or not frames or not time:
        raise MotionError(f"{path.name} is not a BVH file, or it is cut off; export it again.")
    count = int(frames.group(1))
    try:
        seconds = float(time.group(1))
    except ValueError:
        raise MotionError(f"{path.name} has no readable frame time; export it again.") from None
    try:
        channels = _count_channels(lines[:start])
    except ValueError as error:
        raise MotionError(f"{path.name} {error}; export it again.") from None
    rows = lines[start + 3 :]
    if not 0 < count <= MAX_FRAMES or len(rows) < count or not _are_rows(rows, channels):
        raise MotionError(
            f"{path.name} does not contain the {count} frames of {channels} numbers that it announces; export it again."
        )
    if not 1 / MAX_FPS <= seconds < 10:
        raise MotionError(f"{path.name} has a frame time of {seconds:g} s; correct the line 'Frame Time:' in it.")
    rate = 1 / seconds
    return count, float(round(rate)) if abs(rate - round(rate)) < 0.02 else rate


def _split_lines(content: bytes) -> list[bytes]:
    """The lines that have something in them; ``ValueError`` when there are more than a motion has."""
    if content.count(b"\n") + content.count(b"\r") > MAX_LINES:
        raise ValueError("has more lines than a motion can have")
    lines = [line for line in content.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").split(b"\n") if line.strip()]
    return lines or [b""]


def _count_channels(lines: list[bytes]) -> int:
    """The numbers of a frame that a skeleton asks for; ``ValueError`` for what is no skeleton of a body."""
    joints = channels = 0
    for line in lines:
        if len(line) > MAX_LINE:
            raise ValueError("has a line that is too long")
        words = line.split()
        kind = words[0].upper()
        joints += kind in (b"ROOT", b"JOINT")
        if kind == b"OFFSET" and not _are_numbers(words[1:4], 3):
            raise ValueError("has bones whose places are not numbers")
        if kind == b"CHANNELS":
            if len(words) < 2 or words[1] != str(len(words) - 2).encode() or len(words) > 8:
                raise ValueError("has bones with other channels than they announce")
            channels += len(words) - 2
    if not 0 < joints <= MAX_JOINTS:
        raise ValueError(f"has {joints} bones, expected up to {MAX_JOINTS}")
    return channels


def _are_rows(rows: list[bytes], channels: int) -> bool:
    if len(rows) > MAX_FRAMES or len(rows) * channels > MAX_VALUES or any(len(row) > 64 * (channels + 1) for row in rows):
        return False
    return all(_are_numbers(row.split(), channels) for row in rows)


def _are_numbers(words: list[bytes], count: int) -> bool:
    try:
        # neither inf nor nan is smaller
        return len(words) == count and all(abs(float(word)) < LARGEST for word in words)
    except ValueError:
        return False


def read(context: bpy.types.Context, path: Path | str, fps: float = 0.0) -> Motion:
    """The motion of a BVH file on its own body, in metres; the scene is left as it was.

    ``fps`` overrides the file's rate when it is not 0. Raises ``MotionError`` for a file that cannot be read.
    """
    path = Path(path)
    count, rate = read_header(path)
    scene, layer = get_scene(context), get_view_layer(context)
    objects, actions, armatures = set(bpy.data.objects), set(bpy.data.actions), set(bpy.data.armatures)
    active, selected = layer.objects.active, list(context.selected_objects)
    frame = scene.frame_current
    try:
        bpy.ops.import_anim.bvh(
            filepath=str(path),
            target="ARMATURE",
            frame_start=1,
            use_fps_scale=False,
            update_scene_fps=False,
            update_scene_duration=False,
            rotate_mode="NATIVE",
        )
        armature = next(o for o in bpy.data.objects if o not in objects and o.type == "ARMATURE")
        action = get_animation_data(armature).action
        if action is None:
            raise ValueError("it has no motion")
        rig, motion, _ = read_body_motion(armature, action)
    except (RuntimeError, StopIteration, TypeError, ValueError, KeyError, IndexError, AttributeError, ZeroDivisionError) as error:
        last = str(error).strip().splitlines()[-1].rstrip(".") if str(error).strip() else type(error).__name__
        text = last if isinstance(error, MotionError) else f"{path.name} cannot be read by Blender's BVH importer ({last})"
        raise MotionError(f"{text}.") from error
    finally:
        for obj in [o for o in bpy.data.objects if o not in objects]:
            bpy.data.objects.remove(obj)
        for new_action in [a for a in bpy.data.actions if a not in actions]:
            bpy.data.actions.remove(new_action)
        for new_armature in [a for a in bpy.data.armatures if a not in armatures]:
            bpy.data.armatures.remove(new_armature)
        for obj in selected:
            obj.select_set(True)
        layer.objects.active = active
        scene.frame_set(frame)
    joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)[:count, :HUMANML_JOINT_COUNT]
    usual = compute_leg_length(np.array(SMPL_REST_JOINTS))
    joints = joints * min(UNITS, key=lambda unit: abs(np.log(compute_leg_length(rig.joints) * unit / usual)))
    # a BVH file does not say where the floor is, so the lowest toes are put on it
    joints[..., 1] += REST_PELVIS_HEIGHT + SMPL_REST_JOINTS[TOES[0]][1] - np.percentile(joints[:, TOES, 1].min(1), 2)
    joints[..., [0, 2]] -= joints[:1, :1, [0, 2]]
    return Motion.from_joints(joints, fps or rate, path.name, path.stem)
