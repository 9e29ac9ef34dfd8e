"""Motion files as other programs write them, made from one performance, with where every joint must be: the truth comes from a
forward kinematics of its own, from the very numbers that are written.

Truths are in Blender's axes, (frames, joints, 3), in the order of SMPL's joints.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
import types
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

#: SMPL's skeleton, written down here once more
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
NAMES = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle", "spine3"),
    *("left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand"),
)
#: where the pelvis is in SMPL's rest pose, from which its translation counts
ORIGIN = np.array([-0.002, -0.223, 0.028])
#: file's axes of a world with Y up, and Blender's of each kind of file; a file with Z up looks along -Y, as AMASS's do
FROM_Y = {"Y": np.eye(3), "Z": np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]), "Y_DOWN": np.diag([1.0, -1.0, -1.0])}
TO_BLENDER = {
    "Y": np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]),
    "Z": np.diag([-1.0, -1.0, 1.0]),
    "Y_DOWN": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
}
_SIDES = ("left", "right")
ARMS = tuple((f"{side}_{a}", f"{side}_{b}") for side in _SIDES for a, b in (("shoulder", "elbow"), ("elbow", "wrist")))
LEGS = tuple((f"{side}_{a}", f"{side}_{b}") for side in _SIDES for a, b in (("hip", "knee"), ("knee", "ankle")))
FEET = tuple((f"{side}_ankle", f"{side}_foot") for side in _SIDES)
TRUNK = (("neck", "head"), ("pelvis", "neck"), ("left_collar", "left_shoulder"), ("right_collar", "right_shoulder"))
ALL = (*ARMS, *LEGS, *FEET, *TRUNK)


@dataclass(frozen=True)
class Performance:
    """``rotations`` (F, 24, 3, 3) local, ``pelvis`` (F, 3), Y up; ``rest`` (24, 3) the body's joints."""

    rotations: np.ndarray
    pelvis: np.ndarray
    rest: np.ndarray

    def turn(self, axis: str) -> Performance:
        """The same in a file's axes."""
        turn, rotations = FROM_Y[axis], self.rotations.copy()
        rotations[:, 0] = turn @ rotations[:, 0]
        return Performance(rotations, self.pelvis @ turn.T, self.rest)

    @property
    def vectors(self) -> np.ndarray:
        """(F, 24, 3) axis-angle."""
        return Rotation.from_matrix(self.rotations.reshape(-1, 3, 3)).as_rotvec().reshape(*self.rotations.shape[:2], 3)

    @property
    def quaternions(self) -> np.ndarray:
        """(F, 24, 4) x, y, z, w."""
        return Rotation.from_matrix(self.rotations.reshape(-1, 3, 3)).as_quat().reshape(*self.rotations.shape[:2], 4)

    @property
    def path(self) -> np.ndarray:
        """(F, 3) SMPL's translation."""
        return self.pelvis - ORIGIN


def pose(vectors: np.ndarray, pelvis: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """(F, J, 3) joints of axis-angle vectors (F, 22..24, 3), one frame and one joint after the other."""
    out = np.zeros((len(vectors), 24, 3))
    for f, frame in enumerate(vectors):
        turns: list[Rotation] = []
        for joint, parent in enumerate(PARENTS):
            own = Rotation.from_rotvec(frame[joint]) if joint < len(frame) else Rotation.identity()
            turns.append(own if parent < 0 else turns[parent] * own)
            out[f, joint] = pelvis[f] if parent < 0 else out[f, parent] + turns[parent].apply(rest[joint] - rest[parent])
    return out


@dataclass(frozen=True)
class Source:
    """A file, one person's joints in it in Blender's axes, which limbs they show, the rate, and words of the description."""

    path: Path
    truth: np.ndarray
    limbs: tuple[tuple[str, str], ...] = ALL
    fps: float = 30.0
    said: tuple[str, ...] = ()
    clip: int = 0


def _smpl_truth(vectors: np.ndarray, pelvis: np.ndarray, rest: np.ndarray, axis: str) -> np.ndarray:
    return pose(vectors, pelvis, rest) @ TO_BLENDER[axis].T


# files


class _ArrayWrapper:
    """The object that joblib puts before an array's bytes."""

    def __init__(self, array: np.ndarray, alignment: int | None) -> None:
        self.subclass, self.shape, self.dtype = np.ndarray, array.shape, array.dtype
        self.order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        self.allow_mmap = not array.dtype.hasobject
        if alignment is not None:
            self.numpy_array_alignment_bytes = alignment


class _JoblibPickler(pickle._Pickler):
    """Writes arrays as joblib does: their bytes lie in the stream behind a small object."""

    def __init__(self, stream: io.BytesIO, protocol: int, alignment: int | None) -> None:
        super().__init__(stream, protocol)
        self._stream, self._alignment = stream, alignment

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if type(obj) is not np.ndarray:
            super().save(obj, save_persistent_id)
            return
        super().save(_ArrayWrapper(obj, self._alignment))
        if self.proto >= 4:
            self.framer.commit_frame(force=True)
        if obj.dtype.hasobject:
            pickle.dump(obj, self._stream, protocol=2)
            return
        if self._alignment is not None:
            at = self._stream.tell()
            padding = self._alignment - (at + 1) % self._alignment
            self._stream.write(bytes([padding]) + b"\xff" * padding)
        self._stream.write(obj.tobytes("F" if obj.flags.f_contiguous and not obj.flags.c_contiguous else "C"))


def pack_joblib(value: Any, protocol: int = 4, alignment: int | None = 16) -> bytes:
    """A file of joblib's; ``alignment`` is None for those before version 1.2."""
    names = ("joblib", "joblib.numpy_pickle")
    before = {name: sys.modules.get(name) for name in names}
    module = types.ModuleType("joblib.numpy_pickle")
    module.NumpyArrayWrapper = _ArrayWrapper  # type: ignore[attr-defined]
    sys.modules.update({"joblib": types.ModuleType("joblib"), "joblib.numpy_pickle": module})
    _ArrayWrapper.__module__, _ArrayWrapper.__qualname__, _ArrayWrapper.__name__ = (
        names[1],
        "NumpyArrayWrapper",
        "NumpyArrayWrapper",
    )
    try:
        stream = io.BytesIO()
        _JoblibPickler(stream, protocol, alignment).dump(value)
        return stream.getvalue()
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def _npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _torch(path: Path, value: Any, **options: Any) -> Path:
    import torch

    def convert(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: convert(inner) for key, inner in part.items()}
        return torch.from_numpy(np.ascontiguousarray(part)) if isinstance(part, np.ndarray) else part

    torch.save(convert(value), path, **options)
    return path


# SMPL parameters


def _split(play: Performance) -> dict[str, np.ndarray]:
    vectors = play.vectors.astype(np.float32)
    flat = vectors.reshape(len(vectors), -1)
    return {
        "global_orient": flat[:, :3],
        "body_pose": flat[:, 3:66],
        "transl": play.path.astype(np.float32),
        "betas": np.zeros((len(flat), 10), np.float32),
    }


def write_gvhmr(folder: Path, play: Performance, legacy: bool = False) -> Source:
    world, seen = _split(play.turn("Y")), _split(play.turn("Y_DOWN"))
    frames = len(play.pelvis)
    value = {
        "smpl_params_global": world,
        "smpl_params_incam": seen,
        "K_fullimg": np.broadcast_to(np.eye(3, dtype=np.float32), (frames, 3, 3)),
        "net_outputs": {"static_conf_logits": np.zeros((1, frames, 6), np.float32)},
    }
    options = {"_use_new_zipfile_serialization": False} if legacy else {}
    path = _torch(folder / ("old_results.pt" if legacy else "hmr4d_results.pt"), value, **options)
    return Source(path, _smpl_truth(play.vectors[:, :22], play.pelvis, play.rest, "Y"), said=("GVHMR", "30 fps is assumed"))


def write_gvhmr_incam(folder: Path, play: Performance) -> Source:
    turned = play.turn("Y_DOWN")
    path = _torch(folder / "incam.pt", {"smpl_params_incam": _split(turned)})
    return Source(
        path, _smpl_truth(turned.vectors[:, :22], turned.pelvis, play.rest, "Y_DOWN"), said=("GVHMR", "in the camera's space")
    )


def write_wham(folder: Path, play: Performance, compress: Callable[[bytes], bytes] | None = None) -> Source:
    seen = play.turn("Y_DOWN")
    frames = len(play.pelvis)
    results: dict[Any, dict[str, Any]] = defaultdict(dict)
    for who, shift in ((0, 0.0), (3, 2.0)):
        results[who] = {
            "pose": seen.vectors.reshape(frames, 72).astype(np.float32),
            "trans": seen.path.astype(np.float32),
            "pose_world": play.vectors.reshape(frames, 72).astype(np.float32),
            "trans_world": (play.path + [shift, 0, 0]).astype(np.float32),
            "betas": np.zeros((frames, 10), np.float32),
            "verts": np.zeros((frames, 20, 3), np.float32),
            "frame_ids": np.arange(frames) + 7,
        }
    data = pack_joblib(results)
    path = _bytes(folder / "wham_output.pkl", compress(data) if compress else data)
    return Source(path, _smpl_truth(play.vectors, play.pelvis, play.rest, "Y"), said=("WHAM", "0: person 0", "1: person 3"))


def write_phalp(folder: Path, play: Performance, missing: tuple[int, ...] = ()) -> Source:
    import zlib

    turned = play.turn("Y_DOWN")
    shots: dict[str, Any] = {}
    for frame in range(len(play.pelvis)):
        body = {
            "global_orient": turned.rotations[frame, :1].astype(np.float32),
            "body_pose": turned.rotations[frame, 1:].astype(np.float32),
            "betas": np.zeros(10, np.float32),
        }
        other = {"global_orient": np.eye(3)[None], "body_pose": np.tile(np.eye(3), (23, 1, 1)), "betas": np.zeros(10)}
        seen = frame not in missing
        shots[f"outputs/_DEMO/video/img/{frame:06d}.jpg"] = {
            "time": frame,
            "shot": 0,
            "frame_path": f"outputs/_DEMO/video/img/{frame:06d}.jpg",
            "tid": [4, 1],
            "tracked_ids": [4, 1] if seen else [4],
            "bbox": [np.zeros(4), np.zeros(4)],
            "tracked_time": [0, 0 if seen else 2],
            "smpl": [other, body],
            "camera": [np.array([0.0, 0, 9]), turned.path[frame] + [0.3, -1.1, 12.0]],
            "3d_joints": [np.zeros((45, 3)), np.zeros((45, 3))],
            "mask": [{"size": [4, 4], "counts": b"01"}, None],
        }
    path = _bytes(folder / "demo_video.pkl", zlib.compress(pack_joblib(shots, alignment=None), 3))
    truth = _smpl_truth(turned.vectors, turned.pelvis, play.rest, "Y_DOWN")
    return Source(path, truth, said=("4D-Humans", "0: person 1", "1: person 4", "in the camera's space"))


def write_tram(folder: Path, play: Performance) -> Source:
    import torch

    turned = play.turn("Y_DOWN")
    frames = len(play.pelvis)
    value = {
        "pred_cam": torch.zeros(frames, 3),
        "pred_pose": torch.zeros(frames, 144),
        "pred_shape": torch.zeros(frames, 10),
        "pred_rotmat": torch.from_numpy(turned.rotations.astype(np.float32)),
        "pred_trans": torch.from_numpy(turned.path[:, None].astype(np.float32)),
        "frame": torch.arange(frames),
    }
    path = _npy(folder / "hps_track_0.npy", np.array(value, dtype=object))
    return Source(path, _smpl_truth(turned.vectors, turned.pelvis, play.rest, "Y_DOWN"), said=("TRAM", "in the camera's space"))


def write_prompthmr(folder: Path, play: Performance) -> Source:
    poses = np.zeros((len(play.pelvis), 165), np.float32)
    poses[:, :66] = play.vectors[:, :22].reshape(len(poses), 66)
    value = {
        "camera": {"img_focal": np.float32(900), "pred_cam_R": np.tile(np.eye(3), (len(poses), 1, 1))},
        "people": {
            1: {
                "track_id": 1,
                "frames": np.arange(len(poses)),
                "smplx_cam": {"rotmat": np.zeros((len(poses), 55, 3, 3)), "trans": np.zeros((len(poses), 3))},
                "smplx_world": {"pose": poses, "shape": np.zeros((len(poses), 10)), "trans": play.path.astype(np.float32)},
            }
        },
        "has_slam": True,
        "timings": {},
    }
    path = _bytes(folder / "results.pkl", pack_joblib(value))
    return Source(path, _smpl_truth(play.vectors[:, :22], play.pelvis, play.rest, "Y"), said=("PromptHMR",))


def write_aist(folder: Path, play: Performance) -> Source:
    scale = 93.77
    value = {
        "smpl_loss": 0.01,
        "smpl_poses": play.vectors.reshape(-1, 72),
        "smpl_scaling": np.array([scale]),
        "smpl_trans": play.path * scale,
    }
    path = _bytes(folder / "gBR_sBM_cAll_d04_mBR0_ch01.pkl", pickle.dumps(value, 4))
    return Source(path, _smpl_truth(play.vectors, play.pelvis, play.rest, "Y"), fps=60.0, said=("AIST++", "60 fps"))


def write_3dpw(folder: Path, play: Performance) -> Source:
    frames = len(play.pelvis)
    other = np.zeros((frames, 72)) + 0.01
    value = {
        "sequence": "downtown_walking_00",
        "poses": [play.vectors.reshape(frames, 72), other],
        "trans": [play.path, play.path + 1.0],
        "betas": [np.zeros(300), np.zeros(300)],
        "genders": ["m", "f"],
        "cam_poses": np.tile(np.eye(4), (frames, 1, 1)),
        "cam_intrinsics": np.eye(3),
        "poses_60Hz": [np.zeros((2 * frames, 72))] * 2,
        "trans_60Hz": [np.zeros((2 * frames, 3))] * 2,
    }
    path = _bytes(folder / "downtown_walking_00.pkl", pickle.dumps(value, 2))
    return Source(path, _smpl_truth(play.vectors, play.pelvis, play.rest, "Y"), said=("3DPW", "Y up", "1: person 2"))


def write_slahmr(folder: Path, play: Performance) -> Source:
    turned = play.turn("Y_DOWN")
    frames = len(play.pelvis)
    flat = turned.vectors.reshape(frames, 72).astype(np.float32)
    path = _npz(
        folder / "video_000060_world_results.npz",
        trans=np.stack([turned.path + [0, 1.2, 4], turned.path]).astype(np.float32),
        root_orient=np.stack([flat[:, :3]] * 2),
        pose_body=np.stack([flat[:, 3:66]] * 2),
        betas=np.zeros((2, 16)),
        floor_plane=np.zeros((1, 3)),
        cam_R=np.tile(np.eye(3), (2, frames, 1, 1)),
        cam_t=np.zeros((2, frames, 3)),
        world_scale=np.ones((1, 1)),
    )
    truth = _smpl_truth(turned.vectors[:, :22], turned.pelvis, play.rest, "Y_DOWN")
    return Source(path, truth, said=("SLAHMR", "Y down", "1: person 2"))


def write_grab(folder: Path, play: Performance) -> Source:
    turned = play.turn("Z")
    flat = turned.vectors.reshape(len(play.pelvis), 72)
    params = {"transl": turned.path, "global_orient": flat[:, :3], "body_pose": flat[:, 3:66], "jaw_pose": flat[:, :3] * 0}
    path = _npz(
        folder / "apple_eat_1.npz",
        gender=np.array("male"),
        framerate=np.float64(120.0),
        n_frames=len(flat),
        body=np.array({"params": params, "vtemp": "tools/male.ply"}, dtype=object),
        object=np.array({"params": {"transl": turned.path, "global_orient": flat[:, :3]}}, dtype=object),
    )
    return Source(path, _smpl_truth(turned.vectors[:, :22], turned.pelvis, play.rest, "Z"), fps=120.0, said=("GRAB", "Z up"))


def write_beat2(folder: Path, play: Performance, dtype: str = "f4") -> Source:
    poses = np.zeros((len(play.pelvis), 165), dtype)
    poses[:, :66] = play.vectors[:, :22].reshape(len(poses), 66)
    path = _npz(
        folder / f"2_scott_0_1_1_{dtype}.npz",
        betas=np.zeros(300),
        poses=poses,
        expressions=np.zeros((len(poses), 100)),
        trans=play.path.astype(dtype),
        model=np.array("smplx2020"),
        gender=np.array("neutral"),
        mocap_frame_rate=30,
    )
    vectors = poses.astype(float)[:, :66].reshape(-1, 22, 3)
    return Source(path, _smpl_truth(vectors, play.pelvis, play.rest, "Y"), said=("Y up",))


def write_amass(folder: Path, play: Performance, axis: str = "Z", batch: bool = False, rate: bool = True) -> Source:
    turned = play.turn(axis)
    poses = np.zeros((len(play.pelvis), 156))
    poses[:, :66] = turned.vectors[:, :22].reshape(len(poses), 66)
    more = {"mocap_framerate": np.array(120.0), "gender": np.array("male"), "betas": np.zeros(16)} if rate else {}
    name = f"stageii_{axis}_{'batch' if batch else ''}_{'rate' if rate else ''}.npz"
    path = _npz(folder / name, poses=poses[None] if batch else poses, trans=turned.path[None] if batch else turned.path, **more)
    title = {"Z": "Z up", "Y": "Y up", "Y_DOWN": "Y down"}[axis]
    truth = _smpl_truth(turned.vectors[:, :22], turned.pelvis, play.rest, axis)
    return Source(path, truth, fps=120.0 if rate else 30.0, said=(title,) if rate else (title, "30 fps is assumed"))


def write_smplx(folder: Path, play: Performance, axis: str = "Y") -> Source:
    turned = play.turn(axis)
    flat = turned.vectors.reshape(len(play.pelvis), 72)
    path = _npz(
        folder / f"smplx_{axis}.npz",
        root_orient=flat[:, :3],
        pose_body=flat[:, 3:66],
        trans=turned.path,
        mocap_frame_rate=60.0,
        surface_model_type=np.array("smplx"),
    )
    truth = _smpl_truth(turned.vectors[:, :22], turned.pelvis, play.rest, axis)
    return Source(path, truth, fps=60.0, said=({"Y": "Y up", "Z": "Z up"}[axis],))


def write_easymocap(folder: Path, play: Performance, width: int = 72, together: bool = False) -> Source:
    """``Rh`` turns the whole body about the origin, so that the pelvis is not where SMPL's translation puts it."""
    turned = play.turn("Z")
    vectors = turned.vectors
    roots = Rotation.from_rotvec(vectors[:, 0])
    offsets = turned.pelvis - roots.apply(ORIGIN)
    target = folder / f"smpl{width}{'_one' if together else ''}"
    target.mkdir()
    shots = []
    for frame in range(len(vectors)):
        values = np.zeros((1, max(width, 72)))
        values[0, 3:66] = vectors[frame, 1:22].ravel()
        values = values[:, 3:] if width == 69 else values
        if width != 87:
            values[0, 66 - (3 if width == 69 else 0) : 72] = 0
        person = {
            "id": 2,
            "Rh": vectors[frame, :1].round(7).tolist(),
            "Th": offsets[frame][None].round(7).tolist(),
            "poses": values[:, : width if width != 69 else 69].round(7).tolist(),
            "shapes": [[0.0] * 10],
        }
        other = person | {"id": 0, "Th": [[0.0, 0.0, 1.0]]}
        shots.append([other, person])
    if together:
        path = target / "motion.json"
        path.write_text(json.dumps(shots))
    else:
        for frame, shot in enumerate(shots):
            (target / f"{frame:06d}.json").write_text(json.dumps(shot, indent=4))
        path = target / "000003.json"
    truth = _smpl_truth(vectors[:, :22], turned.pelvis, play.rest, "Z")
    return Source(path, truth, said=("EasyMocap", "Z up", "0: person 0", "1: person 2"), clip=1)


def write_135(folder: Path, play: Performance, form: str, named: bool = False, wide: bool = False) -> Source:
    rows = play.rotations[:, :22, :2].reshape(-1, 22, 6)
    columns = np.swapaxes(play.rotations[:, :22, :, :2], -1, -2).reshape(-1, 22, 6)
    interleaved = play.rotations[:, :22, :, :2].reshape(-1, 22, 6)
    six = {"ROWS": rows, "COLUMNS": columns, "INTERLEAVED": interleaved}[form]
    values = np.concatenate([play.path, six.reshape(len(six), 132)], 1).astype(np.float32)
    if wide:
        values = np.concatenate([values, np.zeros((len(values), 66), np.float32)], 1)
    name = f"motion_{form}{'_named' if named else ''}{'_wide' if wide else ''}"
    path = (
        _npz(folder / f"{name}.npz", motion_135=values, caption=np.array("a walk"))
        if named
        else _npy(folder / f"{name}.npy", values)
    )
    titles = {"ROWS": "by rows", "COLUMNS": "by columns", "INTERLEAVED": "interleaved"}
    return Source(path, _smpl_truth(play.vectors[:, :22], play.pelvis, play.rest, "Y"), said=(titles[form],))


def write_motion_x(folder: Path, play: Performance) -> Source:
    values = np.zeros((len(play.pelvis), 322), np.float32)
    values[:, :66] = play.vectors[:, :22].reshape(-1, 66)
    values[:, 309:312] = play.path
    path = _npy(folder / "idea400.npy", values)
    return Source(path, _smpl_truth(play.vectors[:, :22], play.pelvis, play.rest, "Y"), said=("Motion-X",))


def write_rotations(folder: Path, play: Performance, kind: str) -> Source:
    """Arrays without names and without a path: (F, 72), (F, 66), (F, 165), (F, 24, 3), (F, 55, 3), (F, 24, 3, 3), (F, 24, 4) ..."""
    vectors, frames = play.vectors, len(play.pelvis)
    hands = np.zeros((frames, 33, 3))
    values = {
        "72": vectors.reshape(frames, 72),
        "66": vectors[:, :22].reshape(frames, 66),
        "165": np.concatenate([vectors[:, :22], hands], 1).reshape(frames, 165),
        "24x3": vectors,
        "52x3": np.concatenate([vectors[:, :22], hands[:, :30]], 1),
        "55x3": np.concatenate([vectors[:, :22], hands], 1).astype(np.float16),
        "24x3x3": play.rotations.astype(np.float32),
        "wxyz": play.quaternions[..., [3, 0, 1, 2]],
        "xyzw": play.quaternions.astype(np.float32),
        "6d": np.swapaxes(play.rotations[..., :2], -1, -2).reshape(frames, 24, 6),
    }[kind]
    read = values.reshape(frames, -1, 3).astype(float) if kind in ("72", "66", "165", "24x3", "52x3", "55x3") else vectors
    joints = 24 if read.shape[1] == 24 else 22
    path = _npy(folder / f"poses_{kind}.npy", values)
    return Source(path, _smpl_truth(read[:, :joints], play.pelvis * 0, play.rest, "Y"), said=("in place",))


def write_named_rotations(folder: Path, play: Performance, kind: str) -> Source:
    """Archives with a path: matrices, quaternions and body-only poses under their names."""
    frames = len(play.pelvis)
    values = {
        "matrices": {"poses": play.rotations},
        "root_apart": {"global_orient": play.rotations[:, :1], "body_pose": play.rotations[:, 1:22]},
        "quaternions": {"poses": play.quaternions[..., [3, 0, 1, 2]].reshape(frames, 96)},
        "three_d": {"poses": np.concatenate([play.vectors[:, :22], np.zeros((frames, 30, 3))], 1)},
        "half": {"poses": play.vectors.reshape(frames, 72).astype(np.float16)},
    }[kind]
    path = _npz(folder / f"named_{kind}.npz", transl=play.path[:, None] if kind == "root_apart" else play.path, fps=25, **values)
    vectors = play.vectors.astype(np.float16).astype(float) if kind == "half" else play.vectors
    joints = 22 if kind in ("root_apart", "three_d") else 24
    return Source(path, _smpl_truth(vectors[:, :joints], play.pelvis, play.rest, "Y"), fps=25.0)


# positions of joints


def _points(play: Performance, axis: str) -> dict[str, np.ndarray]:
    """Joints by name in a file's axes, with ears, nose and the top of the head."""
    turned = play.turn(axis)
    joints = pose(turned.vectors, turned.pelvis, play.rest)
    found = {name: joints[:, n] for n, name in enumerate(NAMES)}
    world = turned.rotations[:, 0]
    for joint in (3, 6, 9, 12, 15):
        world = world @ turned.rotations[:, joint]
    for name, offset in {
        "left_ear": (0.07, 0.06, 0.0), "right_ear": (-0.07, 0.06, 0.0), "nose": (0, 0.04, 0.11), "top": (0, 0.2, 0.0),
        "left_eye": (0.03, 0.08, 0.09), "right_eye": (-0.03, 0.08, 0.09),
    }.items():  # fmt: skip
        found[name] = found["head"] + world @ np.array(offset)
    found["mid_hips"] = (found["left_hip"] + found["right_hip"]) / 2
    found["mid_shoulders"] = (found["left_shoulder"] + found["right_shoulder"]) / 2
    return found


def _limb_names(*limbs: str) -> tuple[str, ...]:
    return tuple(f"{side}_{limb}" for side in _SIDES for limb in limbs)


COCO = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    *(f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in _SIDES),
)
H36M = (
    *("mid_hips", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine2", "neck", "nose", "top"),
    *("left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist"),
)
KIT = (
    *("pelvis", "spine1", "spine3", "neck", "head"),
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("shoulder", "elbow", "wrist")),
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle", "ankle", "foot")),
)
NTU = (
    *("pelvis", "spine2", "neck", "head"),
    *(f"{side}_{joint}" for side in _SIDES for joint in ("shoulder", "elbow", "wrist", "hand")),
    *(f"{side}_{joint}" for side in _SIDES for joint in ("hip", "knee", "ankle", "foot")),
    *("mid_shoulders", "left_hand", "left_hand", "right_hand", "right_hand"),
)
BODY_25 = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "mid_hips"),
    *(
        "right_hip",
        "right_knee",
        "right_ankle",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_eye",
        "left_eye",
        "right_ear",
        "left_ear",
    ),
    *("left_foot", "left_foot", "left_ankle", "right_foot", "right_foot", "right_ankle"),
)
_LEG_NAMES, _ARM_NAMES = ("hip", "knee", "ankle", "foot"), ("collar", "shoulder", "elbow", "wrist")


def _walk_through(sides: tuple[str, str], arm: tuple[str, ...]) -> tuple[str, ...]:
    """Joints in the order of a BVH file's text: legs, trunk, arms."""
    legs = (f"{side}_{joint}" for side in sides for joint in _LEG_NAMES)
    return ("pelvis", *legs, *NAMES_OF_TRUNK, *(f"{side}_{joint}" for side in sides for joint in arm))


NAMES_OF_TRUNK = ("spine1", "spine2", "spine3", "neck", "head")
_LIMBS = (*ARMS, *LEGS)
_ALL_BUT_TRUNK = (*_LIMBS, *FEET, *TRUNK[:1], *TRUNK[2:])
SKELETONS: dict[str, tuple[tuple[str, ...], str, float, float, tuple[tuple[str, str], ...], str]] = {
    # names, axis, metres of a unit, rate, limbs that they show, what is said
    "coco": (COCO, "Y", 0.01, 30.0, _LIMBS, "COCO's 17 joints"),
    "h36m": (H36M, "Y_DOWN", 1.9, 30.0, _LIMBS, "Human3.6M's 17 joints"),
    "h36m_z": (H36M, "Z", 0.001, 30.0, _LIMBS, "Human3.6M's 17 joints"),
    "kit": (KIT, "Y", 0.001, 12.5, (*_LIMBS, *FEET), "KIT's 21 joints"),
    "ntu": (NTU, "Y", 1.0, 30.0, (*_LIMBS, *FEET), "Kinect's 25 joints"),
    "body_25": (BODY_25, "Z", 1.0, 30.0, (*_LIMBS, *FEET), "OpenPose's 25 joints"),
    "smpl_22_z": (NAMES[:22], "Z", 1.0, 20.0, (*_LIMBS, *FEET, *TRUNK[:1], *TRUNK[2:]), "Z up"),
    "smpl_24": (NAMES, "Y", 1.0, 20.0, (*_LIMBS, *FEET, *TRUNK[:1], *TRUNK[2:]), "24 joints of SMPL"),
    "lafan1": (_walk_through(("left", "right"), _ARM_NAMES), "Y", 0.01, 30.0, _ALL_BUT_TRUNK, "as LAFAN1's"),
    "lafan1_z": (_walk_through(("left", "right"), _ARM_NAMES), "Z", 1.0, 30.0, _ALL_BUT_TRUNK, "as LAFAN1's"),
    "right_first": (_walk_through(("right", "left"), _ARM_NAMES), "Z", 1.0, 30.0, _ALL_BUT_TRUNK, "the right one first"),
    "simulators_24": (
        _walk_through(("left", "right"), (*_ARM_NAMES, "hand")),
        "Z",
        1.0,
        30.0,
        _ALL_BUT_TRUNK,
        "24 joints of SMPL, limb after limb",
    ),
    "smplh_52": (
        (*NAMES[:22], *("left_hand",) * 15, *("right_hand",) * 15),
        "Y",
        1.0,
        30.0,
        (*_LIMBS, *FEET),
        "52 joints of SMPL-H",
    ),
    "smplx_55": (
        (*NAMES[:22], *("head",) * 3, *("left_hand",) * 15, *("right_hand",) * 15),
        "Y",
        1.0,
        30.0,
        (*_LIMBS, *FEET),
        "55 joints",
    ),
}


def write_joints(folder: Path, play: Performance, kind: str, flat: bool = False) -> Source:
    names, axis, unit, fps, limbs, said = SKELETONS[kind]
    points = _points(play, axis)
    values = np.stack([points[name] for name in names], 1) / unit
    path = _npy(folder / f"joints_{kind}{'_flat' if flat else ''}.npy", values.reshape(len(values), -1) if flat else values)
    truth = np.stack([points.get(name, points["pelvis"]) for name in NAMES], 1) @ TO_BLENDER[axis].T
    return Source(path, truth, limbs, fps, (said,))


def write_aist_keypoints(folder: Path, play: Performance) -> Source:
    points = _points(play, "Y")
    values = np.stack([points[name] for name in COCO], 1) * 100
    path = _bytes(folder / "gWA_keypoints.pkl", pickle.dumps({"keypoints3d": values + 0.1, "keypoints3d_optim": values}, 4))
    truth = np.stack([points[name] for name in NAMES], 1) @ TO_BLENDER["Y"].T
    return Source(path, truth, _LIMBS, 60.0, ("COCO's 17 joints", "centimetres"))


def write_named_joints(folder: Path, play: Performance) -> Source:
    """Places in an archive that names nothing else of the motion."""
    joints = _points(play, "Z")
    path = folder / "quick_retreat_stageii.npz"
    np.savez(path, global_joint_positions=np.stack([joints[name] for name in NAMES[:22]], 1), height=np.float32(1.7))
    truth = np.stack([joints[name] for name in NAMES], 1) @ TO_BLENDER["Z"].T
    return Source(path, truth, _ALL_BUT_TRUNK, 20.0, ("Z up", "20 fps is assumed"))


def write_interhuman(folder: Path, play: Performance, together: bool = False) -> Source:
    joints = pose(play.vectors, play.pelvis, play.rest)[:, :22]
    values = np.zeros((2, len(joints), 262), np.float32)
    values[0, :, :66], values[1, :, :66] = joints.reshape(-1, 66), (joints + [1.0, 0, 0]).reshape(-1, 66)
    path = _npy(folder / f"intergen{'_together' if together else ''}.npy", values.swapaxes(0, 1) if together else values)
    truth = pose(play.vectors, play.pelvis, play.rest) @ TO_BLENDER["Y"].T
    return Source(path, truth, (*_LIMBS, *FEET), 30.0, ("InterHuman", "1: person 2"))


def write_action_results(folder: Path, play: Performance) -> Source:
    joints = pose(play.vectors, play.pelvis, play.rest)
    value = {
        "motion": joints.transpose(1, 2, 0)[None].astype(np.float32),
        "text": ["drink"],
        "lengths": np.array([len(joints)]),
        "num_samples": 1,
        "num_repetitions": 1,
    }
    path = _npy(folder / "results.npy", np.array(value, dtype=object))
    return Source(path, joints @ TO_BLENDER["Y"].T, (*_LIMBS, *FEET), 20.0, ("MDM's results", "24 joints"))


# skeletons with rotations of their own


def _fingers() -> list[str]:
    names = [f"Thumb{n}" for n in (1, 2, 3)] + ["ThumbEnd"]
    for finger in ("Index", "Middle", "Ring", "Pinky"):
        names += [f"{finger}{n}" for n in (1, 2, 3, 4)] + [f"{finger}End"]
    return names


def _soma(count: int) -> list[tuple[str, str | None]]:
    """(joint, parent) of Kimodo's skeletons, as its documentation lists them."""
    full = count == 77
    out: list[tuple[str, str | None]] = [("Hips", None), ("Spine1", "Hips"), ("Spine2", "Spine1"), ("Chest", "Spine2")]
    out += [("Neck1", "Chest"), ("Neck2", "Neck1"), ("Head", "Neck2"), *([("HeadEnd", "Head")] if full else [])]
    out += [("Jaw", "Head"), ("LeftEye", "Head"), ("RightEye", "Head")]
    for side in ("Left", "Right"):
        out += [(side + "Shoulder", "Chest"), (side + "Arm", side + "Shoulder"), (side + "ForeArm", side + "Arm")]
        out += [(side + "Hand", side + "ForeArm")]
        for name in _fingers() if full else ["ThumbEnd", "MiddleEnd"]:
            first = name.endswith("1") or not full
            above = f"{side}Hand" if first else out[-1][0]
            out.append((f"{side}Hand{name}", above))
    for side in ("Left", "Right"):
        out += [
            (side + "Leg", "Hips"),
            (side + "Shin", side + "Leg"),
            (side + "Foot", side + "Shin"),
            (side + "ToeBase", side + "Foot"),
        ]
        out += [(side + "ToeEnd", side + "ToeBase")] if full else []
    return out


def _ardy() -> list[tuple[str, str | None]]:
    out: list[tuple[str, str | None]] = [("Hips", None)]
    for name in ("Spine", "Spine1", "Spine2", "Spine3", "Neck", "Head"):
        out.append((name, out[-1][0]))
    for side in ("Right", "Left"):
        out += [(side + "Shoulder", "Spine3"), (side + "Arm", side + "Shoulder"), (side + "ForeArm", side + "Arm")]
        out += [(side + "Hand", side + "ForeArm"), (side + "HandEnd", side + "Hand"), (side + "HandThumb1", side + "Hand")]
    for side in ("Right", "Left"):
        out += [
            (side + "UpLeg", "Hips"),
            (side + "Leg", side + "UpLeg"),
            (side + "Foot", side + "Leg"),
            (side + "ToeBase", side + "Foot"),
        ]
    return out


#: offsets of joints from their parents in a T-pose, left side, metres; other proportions than SMPL's
_OFFSETS = {
    "Spine1": (0, 0.05, 0.004), "Spine2": (0, 0.07, 0.001), "Chest": (0, 0.075, -0.013), "Neck1": (0, 0.26, 0.0),
    "Neck2": (0, 0.07, 0.02),
    "Spine": (0, 0.09, 0.0), "Spine3": (0, 0.11, -0.01), "Neck": (0, 0.17, 0.0), "Head": (0, 0.07, 0.02),
    "Shoulder": (0.03, 0.2, 0.02), "Arm": (0.15, 0.02, -0.03), "ForeArm": (0.29, 0, -0.01), "Hand": (0.27, 0, 0.01),
    "Leg": (0.1, -0.08, 0.02), "Shin": (0.03, -0.43, 0.01), "Foot": (0.01, -0.41, -0.03), "ToeBase": (0.02, -0.06, 0.14),
    "ToeEnd": (0, 0, 0.06), "UpLeg": (0.1, -0.06, 0.0),
}  # fmt: skip
_SMPL_OF = {
    "Hips": "pelvis", "Spine1": "spine1", "Spine2": "spine2", "Chest": "spine3", "Spine3": "spine3", "Neck": "neck",
    "Neck1": "neck",
    "Head": "head", "Shoulder": "collar", "Arm": "shoulder", "ForeArm": "elbow", "Hand": "wrist", "Leg": "hip", "UpLeg": "hip",
    "Shin": "knee", "Foot": "ankle", "ToeBase": "foot",
}  # fmt: skip


def write_kimodo(folder: Path, play: Performance, count: int, only: str = "both") -> Source:
    """Kimodo's or, with 27 joints, ARDY's archive: the performance's rotations on their skeleton."""
    chain = _ardy() if count == 27 else _soma(count)
    assert len(chain) == count
    names = [name for name, _ in chain]
    parents = [-1 if above is None else names.index(above) for _, above in chain]
    frames = len(play.pelvis)
    local, offsets = np.tile(np.eye(3), (frames, count, 1, 1)), np.zeros((count, 3))
    of: dict[str, int] = {}
    for joint, name in enumerate(names):
        side = "left" if name.startswith("Left") else "right" if name.startswith("Right") else ""
        part = name.removeprefix("Left").removeprefix("Right")
        offset = np.array(_OFFSETS.get(part, (0.02, 0, 0.01)))
        if count == 27 and part == "Leg":
            offset = np.array(_OFFSETS["Shin"])
        offsets[joint] = offset * ([-1, 1, 1] if side == "right" else [1, 1, 1])
        smpl = _SMPL_OF.get(part, "")
        smpl = "knee" if count == 27 and part == "Leg" else smpl
        if smpl and not (count == 27 and part == "Spine"):
            smpl = f"{side}_{smpl}" if side else smpl
            of[smpl] = joint
            local[:, joint] = play.rotations[:, NAMES.index(smpl)]
    turns, joints = np.zeros_like(local), np.zeros((frames, count, 3))
    for joint, parent in enumerate(parents):
        turns[:, joint] = local[:, joint] if parent < 0 else turns[:, parent] @ local[:, joint]
        joints[:, joint] = play.pelvis if parent < 0 else joints[:, parent] + turns[:, parent] @ offsets[joint]
    arrays = {
        "posed_joints": joints,
        "foot_contacts": np.ones((frames, 4), bool),
        "smooth_root_pos": play.pelvis,
        "root_positions": play.pelvis,
        "global_root_heading": np.ones((frames, 2)),
    }
    if only in ("both", "global"):
        arrays["global_rot_mats"] = turns
    if only in ("both", "local"):
        arrays["local_rot_mats"] = local
    arrays = {name: np.asarray(value, value.dtype if value.dtype == bool else np.float32) for name, value in arrays.items()}
    if count == 27:
        arrays = {name: value[None] for name, value in arrays.items()} | {"fps": np.array(20), "text": np.array("a person walks")}
    path = _npz(folder / f"motion_{count}_{only}.npz", **arrays)
    truth = np.stack([joints[:, of[name]] if name in of else joints[:, of["pelvis"]] for name in NAMES], 1) @ TO_BLENDER["Y"].T
    said = (f"{count} joints", "a person walks") if count == 27 else (f"{count} joints",)
    return Source(path, truth, (*_LIMBS, *FEET, *TRUNK[:1], *TRUNK[2:]), 20.0 if count == 27 else 30.0, said)


def write_kimodo_smplx(folder: Path, play: Performance) -> Source:
    joints = pose(play.vectors[:, :22], play.pelvis, play.rest)[:, :22]
    path = _npz(
        folder / "motion_smplx.npz",
        posed_joints=joints.astype(np.float32),
        local_rot_mats=play.rotations[:, :22].astype(np.float32),
        root_positions=play.pelvis.astype(np.float32),
        foot_contacts=np.ones((len(joints), 4), bool),
    )
    return Source(path, pose(play.vectors[:, :22], play.pelvis, play.rest) @ TO_BLENDER["Y"].T, said=("Kimodo",))


def _nested(folder: Path, play: Performance) -> Source:
    """Parameters under another key, in ordered dictionaries, as fitting scripts write them."""
    value = OrderedDict(smplx_params=OrderedDict(_split(play)), fps=25.0, meta={"name": "x"})
    path = _bytes(folder / "fit.pkl", pickle.dumps(value, 4))
    return Source(path, _smpl_truth(play.vectors[:, :22], play.pelvis, play.rest, "Y"), fps=25.0)


def _frames_list(folder: Path, play: Performance) -> Source:
    """A list with an entry for each frame."""
    split = _split(play)
    value = [{name: part[frame : frame + 1] for name, part in split.items()} for frame in range(len(play.pelvis))]
    path = _bytes(folder / "frames.pkl", pickle.dumps(value, 3))
    return Source(path, _smpl_truth(play.vectors[:, :22], play.pelvis, play.rest, "Y"))


#: every source: a name -> what writes it
SOURCES: dict[str, Callable[[Path, Performance], Source]] = {
    "gvhmr": write_gvhmr,
    "gvhmr_old_torch": lambda folder, play: write_gvhmr(folder, play, True),
    "gvhmr_in_camera": write_gvhmr_incam,
    "wham": write_wham,
    "phalp": write_phalp,
    "tram": write_tram,
    "prompthmr": write_prompthmr,
    "aist": write_aist,
    "aist_keypoints": write_aist_keypoints,
    "3dpw": write_3dpw,
    "slahmr": write_slahmr,
    "grab": write_grab,
    "beat2": write_beat2,
    "beat2_half": lambda folder, play: write_beat2(folder, play, "f2"),
    "smplx_y_with_rate": write_smplx,
    "smplx_z_with_rate": lambda folder, play: write_smplx(folder, play, "Z"),
    "amass": write_amass,
    "amass_y_with_rate": lambda folder, play: write_amass(folder, play, "Y"),
    "amass_z_no_rate": lambda folder, play: write_amass(folder, play, "Z", rate=False),
    "amass_y_no_rate": lambda folder, play: write_amass(folder, play, "Y", rate=False),
    "amass_batch": lambda folder, play: write_amass(folder, play, "Z", batch=True),
    "easymocap": write_easymocap,
    "easymocap_69": lambda folder, play: write_easymocap(folder, play, 69),
    "easymocap_87": lambda folder, play: write_easymocap(folder, play, 87),
    "easymocap_one_file": lambda folder, play: write_easymocap(folder, play, together=True),
    "motion_135_rows": lambda folder, play: write_135(folder, play, "ROWS"),
    "motion_135_columns": lambda folder, play: write_135(folder, play, "COLUMNS"),
    "motion_135_interleaved": lambda folder, play: write_135(folder, play, "INTERLEAVED"),
    "motion_135_named": lambda folder, play: write_135(folder, play, "ROWS", named=True),
    "hy_motion_201": lambda folder, play: write_135(folder, play, "INTERLEAVED", wide=True),
    "motion_x_322": write_motion_x,
    "interhuman": write_interhuman,
    "named_joints": write_named_joints,
    "interhuman_together": lambda folder, play: write_interhuman(folder, play, True),
    "mdm_actions": write_action_results,
    "kimodo_77": lambda folder, play: write_kimodo(folder, play, 77),
    "kimodo_77_local": lambda folder, play: write_kimodo(folder, play, 77, "local"),
    "kimodo_77_joints": lambda folder, play: write_kimodo(folder, play, 77, "none"),
    "kimodo_30": lambda folder, play: write_kimodo(folder, play, 30, "global"),
    "kimodo_smplx": write_kimodo_smplx,
    "ardy_27": lambda folder, play: write_kimodo(folder, play, 27),
    "nested": _nested,
    "list_of_frames": _frames_list,
    **{
        f"named_{kind}": (lambda folder, play, kind=kind: write_named_rotations(folder, play, kind))
        for kind in ("matrices", "root_apart", "quaternions", "three_d", "half")
    },
    **{
        f"rotations_{kind}": (lambda folder, play, kind=kind: write_rotations(folder, play, kind))
        for kind in ("72", "66", "165", "24x3", "52x3", "55x3", "24x3x3", "wxyz", "xyzw", "6d")
    },
    **{f"joints_{kind}": (lambda folder, play, kind=kind: write_joints(folder, play, kind)) for kind in SKELETONS},
    "joints_smpl_24_flat": lambda folder, play: write_joints(folder, play, "smpl_24", flat=True),
}


def main() -> None:
    """``python -m tests.motion_sources FOLDER``: a file of every source, made from a bundled clip, to be looked at."""
    from latentman.blender_addon.motion.readers import BUNDLED, read
    from latentman.blender_addon.motion.retarget import retarget
    from latentman.shared.skeleton import SMPL_REST_JOINTS

    folder, rest = Path(sys.argv[1]), np.array(SMPL_REST_JOINTS)
    folder.mkdir(parents=True)
    found = retarget(read(BUNDLED).get_motion(4), rest)
    for name, write in SOURCES.items():
        own = folder / "made" / name
        own.mkdir(parents=True)
        path = write(own, Performance(found.local_rotations, found.pelvis, rest)).path
        if path.suffix == ".json" and path.stem.isdigit():
            path = path.parent
        path.rename(folder / f"{name}{path.suffix}")
    shutil.rmtree(folder / "made")


if __name__ == "__main__":
    main()
