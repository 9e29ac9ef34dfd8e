"""Results of text-to-motion models that are neither plain arrays nor SMPL parameters -> clips. No bpy.

MDM's ``results.npy`` and ``*_smpl_params.npy``, the files of ``latentman motion``, Kimodo's and ARDY's archives.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT
from ..character.unpickling import to_array
from . import layouts, up_axis
from .clips import MAX_CLIPS, Clip, MotionFile, clean_text
from .joint_clips import make_joint_clip
from .joint_layouts import find_parents
from .layouts import DecodedMotion
from .representations import MATRICES
from .rotations import local_to_global
from .smpl_tracks import FROM_PELVIS, SmplTrack, find_rate, get_array
from .track_decoding import ReadOptions
from .tracks_to_clips import make_track_file

#: what may hold texts in a file of Python's values
TEXTS = ("text", "caption", "texts", "prompt", "prompts")


def list_texts(data: Mapping[Any, Any]) -> list[str]:
    """The texts of a file, in their order."""
    for key in TEXTS:
        value = data.get(key)
        if isinstance(value, np.ndarray):
            # each is as long as the longest, and most of them are not looked at
            value = [value.flat[n] for n in range(min(value.size, MAX_CLIPS))]
        if value is not None:
            parts = value if isinstance(value, (list, tuple)) else [value]
            return [clean_text(part) for part in parts[:MAX_CLIPS]]
    return []


def open_model_results(path: Path, data: Mapping[Any, Any], options: ReadOptions) -> MotionFile | None:
    """The clips of a model's results; None when the names in it are of nothing known here.

    Raises ``MotionError``, a whole sentence, for results that are damaged.
    """
    texts = list_texts(data)
    text = (texts or [""])[0] or path.stem
    if "thetas" in data and "root_translation" in data and np.ndim(data["thetas"]) == 3:
        shape = np.shape(data["thetas"])
        decode = partial(layouts.decode_smpl_params, dict(data))
        return MotionFile(path, "MDM's SMPL parameters", (Clip(text, int(shape[-1]), HUMANML_FPS, decode),))
    if "motion" in data and "lengths" in data:
        return _open_results(path, data, texts, options)
    if "vectors" in data or {"joints", "fps", "seed"} <= set(data):
        return _open_generated(path, data, text)
    if "posed_joints" in data:
        return _open_posed_joints(path, data, text, options)
    for key, size in (("motion_263", layouts.VECTOR_263), ("motion_272", layouts.VECTOR_272)):
        values = get_array(data, key)
        if values is not None and values.ndim == 2 and values.shape[1] == size:
            rows, is_humanml = np.asarray(values), size == layouts.VECTOR_263
            rate = HUMANML_FPS if is_humanml else layouts.VECTOR_272_FPS
            decode = partial(_decode_vectors, rows, rate) if is_humanml else partial(layouts.decode_vectors_272, rows)
            return MotionFile(path, f"{size}-number vectors", (Clip(text, len(rows), rate, decode),))
    for key in ("keypoints3d_optim", "keypoints3d", "joints3d", "joints", "jointPositions", "global_joint_positions"):
        values = get_array(data, key)
        if values is not None and values.ndim in (3, 4) and values.shape[-1] in (3, 4) and "poses" not in data:
            usual = 60.0 if "keypoints3d_optim" in data else 0.0
            rows = values.reshape(-1, *values.shape[-3:])[: MAX_CLIPS + 1]
            names = [text] if len(rows) == 1 else [f"person {n}" for n in range(1, len(rows) + 1)]
            clips = [
                make_joint_clip(name, row, options, find_rate(data), usual_fps=usual) for name, row in zip(names, rows, strict=True)
            ]
            return MotionFile(path, "joints", tuple(clips), frozenset({"up_axis"} | ({"person"} if len(clips) > 1 else set())))
    return None


def _open_results(path: Path, data: Mapping[Any, Any], texts: list[str], options: ReadOptions) -> MotionFile:
    try:
        motion, lengths = to_array(data["motion"]), to_array(data["lengths"]).ravel().astype(int)
        samples = int(np.ravel(data.get("num_samples", len(motion)))[0]) or len(motion)
    except (TypeError, ValueError, IndexError, OverflowError):
        raise MotionError(f"{path.name} does not contain numbers where MDM puts its motion; export it again.") from None
    if motion.ndim != 4 or motion.shape[2] != 3 or len(lengths) != len(motion) or motion.dtype.kind not in "fiu":
        raise MotionError(f"{path.name} contains motion of the shape {motion.shape}, expected (clips, 22, 3, frames).")
    clips = []
    for n, (row, length) in enumerate(zip(motion[: MAX_CLIPS + 1], lengths, strict=False)):
        name = texts[n] if n < len(texts) else f"clip {n}"
        if len(motion) > samples > 0:
            name += f" (take {n // samples + 1})"
        joints = row[..., : max(int(length), 0)].transpose(2, 0, 1)
        if joints.shape[1] == HUMANML_JOINT_COUNT:
            clips.append(Clip(name, len(joints), HUMANML_FPS, partial(DecodedMotion, joints, HUMANML_FPS)))
        else:
            # MDM's models of actions have SMPL's 24 joints, those of KIT 21
            clips.append(make_joint_clip(name, joints, options, 12.5 if joints.shape[1] == 21 else HUMANML_FPS))
    return MotionFile(path, "MDM's results", tuple(clips))


def _decode_vectors(row: np.ndarray, rate: float) -> DecodedMotion:
    return DecodedMotion(layouts.humanml_to_joints(row), rate)


def _open_generated(path: Path, data: Mapping[Any, Any], text: str) -> MotionFile:
    """A file of ``latentman motion``, one clip for each variant: HumanML3D vectors (N, F, 263) in their own units, or joints
    (N, F, 22, 3) and perhaps local rotations (N, F, 24, 4)."""
    try:
        name = "vectors" if "vectors" in data else "joints"
        rows, rate = to_array(data[name]), float(np.ravel(data.get("fps", HUMANML_FPS))[0])
        rotations = to_array(data["rotations"]) if "rotations" in data else None
    except (TypeError, ValueError, IndexError):
        raise MotionError(f"{path.name} does not contain numbers where the motion should be; make it again.") from None
    each = (layouts.VECTOR_263,) if name == "vectors" else (HUMANML_JOINT_COUNT, 3)
    if rows.ndim != 2 + len(each) or rows.shape[2:] != each or rows.dtype.kind not in "fiu":
        expected = ", ".join(map(str, each))
        raise MotionError(f"{path.name} contains {name} of the shape {rows.shape}, expected (variants, frames, {expected}).")
    if rotations is not None and (rotations.shape[:2] != rows.shape[:2] or rotations.dtype.kind not in "fiu"):
        raise MotionError(
            f"{path.name} contains rotations of the shape {rotations.shape}, which do not fit its {name}; make it again."
        )

    def decode(n: int) -> DecodedMotion:
        if name == "vectors":
            return _decode_vectors(rows[n], rate)
        return DecodedMotion(rows[n], rate, None if rotations is None else rotations[n].astype(np.float64))

    clips = []
    for n, row in enumerate(rows[: MAX_CLIPS + 1]):
        clips.append(Clip(f"{text} ({n + 1})" if len(rows) > 1 else text, len(row), rate, partial(decode, n)))
    return MotionFile(path, "motion from text", tuple(clips))


def _open_posed_joints(path: Path, data: Mapping[Any, Any], text: str, options: ReadOptions) -> MotionFile:
    """Kimodo's and ARDY's archives: joints (F, J, 3) or (B, F, J, 3) with global or local rotations, metres, Y up."""
    posed = get_array(data, "posed_joints")
    if posed is None or posed.ndim not in (3, 4) or posed.shape[-1] != 3:
        raise MotionError(
            f"{path.name} contains joints of the shape {np.shape(data['posed_joints'])}, expected (frames, joints, 3)."
        )
    posed = posed.reshape(-1, *posed.shape[-3:])
    batch, frames, count = posed.shape[:3]
    # one more than are read, so that the file is refused rather than cut short
    most = MAX_CLIPS + 1
    rate = find_rate(data)
    names = [text] if batch == 1 else [f"{text} ({n})" for n in range(1, batch + 1)]
    title = "ARDY" if count == 27 else "Kimodo"
    rate = rate or (HUMANML_FPS if count == 27 else 30.0)

    def get_rotations(key: str) -> np.ndarray | None:
        found = get_array(data, key)
        return None if found is None or found.size != batch * frames * count * 9 else found.reshape(batch, frames, count, 3, 3)

    turns, local = get_rotations("global_rot_mats"), get_rotations("local_rot_mats")
    if count == HUMANML_JOINT_COUNT and local is not None:
        tracks = [
            SmplTrack(
                title, rows.reshape(frames, count, 9), path_rows[:, 0], names[n] if batch > 1 else "", form=MATRICES,
                up=up_axis.Y, path_from=FROM_PELVIS, fps=rate,
            )
            for n, (rows, path_rows) in enumerate(zip(local[:most], posed[:most], strict=True))
        ]  # fmt: skip
        return make_track_file(path, tracks, options, text)
    parents = find_parents(count)
    if turns is None and local is not None and parents is not None:
        turns = local_to_global(local.reshape(batch * frames, count, 3, 3).astype(np.float64), parents).reshape(local.shape)
    known = options if options.up_axis != "GUESS" else ReadOptions(up_axis.Y, options.layout)
    clips = [
        make_joint_clip(name, row, known, rate, None if turns is None else turns[n])
        for n, (name, row) in enumerate(zip(names[:most], posed[:most], strict=True))
    ]
    return MotionFile(path, title, tuple(clips), frozenset({"up_axis"}))
