"""Every motion layout, decoded and compared with what it was made from; and files that are not what they say."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from latentman.blender_addon.motion import layouts, up_axis
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.rotations import quaternion_to_matrix
from latentman.shared.motion import MotionError
from latentman.shared.skeleton import SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS

Rotation = pytest.importorskip("scipy.spatial.transform").Rotation
HUMANML = Path(__file__).resolve().parents[3] / "shared" / "data" / "humanml3d"
REST = np.array(SMPL_REST_JOINTS)


def _walk(rng, frames=30):
    """Smooth random local rotations (F, 24, 3, 3) and pelvis positions, Y up."""
    vectors = np.cumsum(rng.normal(0, 0.03, (frames, 24, 3)), 0)
    pelvis = np.stack([0.3 * np.sin(np.arange(frames) / 9), np.full(frames, 0.95), np.arange(frames) * 0.05], 1)
    return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(frames, 24, 3, 3), vectors, pelvis


def _joints(local, pelvis):
    """Independent forward kinematics through 4x4 matrices."""
    out = np.empty((len(local), 24, 3))
    for f in range(len(local)):
        world = []
        for joint, parent in enumerate(SMPL_PARENTS):
            m = np.eye(4)
            m[:3, :3] = local[f, joint]
            m[:3, 3] = pelvis[f] if parent < 0 else REST[joint] - REST[parent]
            world.append(m if parent < 0 else world[parent] @ m)
            out[f, joint] = world[-1][:3, 3]
    return out[:, :22]


def _same_rotations(motion, local):
    return np.abs(quaternion_to_matrix(motion.rotations) - local).max() < 1e-6


def _vectors_263(joints):
    """HumanML3D's vectors of joints whose body faces a slowly turning way."""
    frames = len(joints)
    yaw = 0.02 * np.arange(frames) ** 1.2
    c, s = np.cos(yaw), np.sin(yaw)
    into = np.stack([np.stack([c, 0 * c, -s], -1), np.stack([0 * c, 0 * c + 1, 0 * c], -1), np.stack([s, 0 * c, c], -1)], -2)
    out = np.zeros((frames - 1, 263))
    for f in range(frames - 1):
        out[f, 0] = (yaw[f + 1] - yaw[f]) / 2 * -1
        out[f, 1:3] = (into[f + 1] @ (joints[f + 1, 0] - joints[f, 0]))[[0, 2]]
        out[f, 3] = joints[f, 0, 1]
        flat = joints[f] - joints[f, 0] * [1, 0, 1]
        out[f, 4:67] = (flat @ into[f].T)[1:].ravel()
    out[:, 259:] = np.random.default_rng(0).integers(0, 2, (frames - 1, 4))
    return out, yaw


def test_humanml_vectors_give_their_joints(rng, tmp_path):
    local, _, pelvis = _walk(rng)
    joints = _joints(local, pelvis - pelvis[:1] * [1, 0, 1])
    vectors, _ = _vectors_263(joints)
    np.save(tmp_path / "clip.npy", vectors)
    found = read(tmp_path / "clip.npy").get_motion(0)
    assert found.fps == 20 and np.abs(found.joints - joints[:-1]).max() < 1e-9


@pytest.mark.skipif(not HUMANML.exists(), reason="the public HumanML3D sample is not beside the project")
def test_the_public_sample_is_recovered_and_the_wrong_statistics_refused(tmp_path):
    vectors, joints = np.load(HUMANML / "012314_vec.npy"), np.load(HUMANML / "012314_joints.npy")
    assert np.abs(read(HUMANML / "012314_vec.npy").get_motion(0).joints - joints).max() < 1e-6
    mean, std = np.load(HUMANML / "Mean.npy"), np.load(HUMANML / "Std.npy")
    np.save(tmp_path / "normalised.npy", (vectors - mean) / std)
    with pytest.raises(MotionError, match=r"put HumanML3D's Mean\.npy"):
        read(tmp_path / "normalised.npy").get_motion(0)
    np.save(tmp_path / "Mean.npy", mean)
    np.save(tmp_path / "Std.npy", std)
    assert np.abs(read(tmp_path / "normalised.npy").get_motion(0).joints - joints).max() < 1e-5
    np.save(tmp_path / "Std.npy", np.load(HUMANML / "evaluator_t2m_std.npy"))
    with pytest.raises(MotionError, match="evaluator"):
        read(tmp_path / "normalised.npy").get_motion(0)


def test_272_vectors_give_joints_and_rotations(rng, tmp_path):
    local, _, pelvis = _walk(rng)
    joints = _joints(local, pelvis - pelvis[:1] * [1, 0, 1])
    yaw = 0.03 * np.arange(len(local))
    into = Rotation.from_euler("y", -yaw[:, None]).as_matrix()
    out = np.zeros((len(local), 272))
    previous = np.eye(3)
    for f in range(len(local)):
        change = into[f] @ previous.T
        out[f, 2:8] = change[:2].ravel()
        step = joints[f, 0] - joints[f - 1, 0] if f else np.zeros(3)
        out[f, :2] = (previous @ step)[[0, 2]]
        out[f, 8:74] = ((joints[f] - joints[f, 0] * [1, 0, 1]) @ into[f].T).ravel()
        rotations = local[f, :22].copy()
        rotations[0] = into[f] @ rotations[0]
        out[f, 140:] = rotations[:, :2].reshape(-1)
        previous = into[f]
    np.save(tmp_path / "clip.npy", out)
    found = read(tmp_path / "clip.npy").get_motion(0)
    local[:, 22:] = np.eye(3)
    assert found.fps == 30 and np.abs(found.joints - joints).max() < 1e-9 and _same_rotations(found, local)


@pytest.mark.parametrize("layout", ["smplh", "smplx"])
def test_amass_stands_upright_and_faces_forward(rng, tmp_path, layout):
    local, vectors, pelvis = _walk(rng)
    to_z_up = up_axis.TO_BODY["Z"].T
    root = Rotation.from_matrix(to_z_up @ local[:, 0]).as_rotvec()
    trans = pelvis @ to_z_up.T - layouts.PELVIS_IN_SMPL
    if layout == "smplh":
        poses = np.zeros((len(local), 156))
        poses[:, :3], poses[:, 3:66] = root, vectors[:, 1:22].reshape(len(local), -1)
        data = {"poses": poses, "mocap_framerate": 120.00004577, "gender": np.array(b"male"), "betas": np.zeros(16)}
    else:
        data = {
            "root_orient": root,
            "pose_body": vectors[:, 1:22].reshape(len(local), -1),
            "mocap_frame_rate": 60.0,
            "gender": "neutral",
        }
    np.savez(tmp_path / "clip.npz", trans=trans, **data)
    found = read(tmp_path / "clip.npz").get_motion(0)
    local[:, 22:] = np.eye(3)
    assert found.fps == (120 if layout == "smplh" else 60) and _same_rotations(found, local)
    shift = found.joints - _joints(local, pelvis)
    assert np.abs(shift[..., [0, 2]]).max() < 1e-9 and np.ptp(shift[..., 1]) < 1e-9
    assert found.joints[:, [10, 11], 1].min() == pytest.approx(0.02, abs=0.02)


def test_hy_motion_and_mdm_parameters(rng, tmp_path):
    local, vectors, pelvis = _walk(rng)
    local[:, 22:] = np.eye(3)
    poses = np.zeros((len(local), 156))
    poses[:, :66] = vectors[:, :22].reshape(len(local), -1)
    np.savez(tmp_path / "hy.npz", poses=poses, trans=pelvis - layouts.PELVIS_IN_SMPL, Rh=vectors[:, 0], betas=np.zeros(16))
    found = read(tmp_path / "hy.npz").get_motion(0)
    assert found.fps == 30 and _same_rotations(found, local)
    torch = pytest.importorskip("torch")
    thetas = local[:, :, :2].reshape(len(local), 24, 6).transpose(1, 2, 0)
    root = pelvis.T
    data = {
        "motion": np.concatenate([thetas, np.zeros((1, 6, len(local)))]),
        "thetas": thetas,
        "root_translation": root,
        "faces": np.zeros((4, 3)),
        "vertices": torch.zeros(5, 3, len(local)),
        "text": "a person nods",
        "length": 25,
    }
    np.save(tmp_path / "sample00_rep00_smpl_params.npy", np.array(data, dtype=object))
    found = read(tmp_path / "sample00_rep00_smpl_params.npy").get_motion(0)
    assert found.frame_count == 25 and found.text == "a person nods" and _same_rotations(found, local[:25])
    assert np.abs(found.joints - _joints(local, pelvis)[:25]).max() < 1e-9


def test_samples_and_repetitions_are_listed(tmp_path, rng):
    motion = rng.random((4, 22, 3, 12)).astype(np.float32)
    np.save(
        tmp_path / "results.npy",
        np.array(
            {
                "motion": motion,
                "lengths": np.array([12, 10, 12, 8]),
                "num_samples": 2,
                "text": ["a", "b", "a", "b"],
                "num_repetitions": 2,
            },
            dtype=object,
        ),
    )
    file = read(tmp_path / "results.npy")
    assert file.texts == ("a (take 1)", "b (take 1)", "a (take 2)", "b (take 2)") and file.lengths == (12, 10, 12, 8)
    assert file.describe()[4] == "3: b (take 2) · 8 frames at 20 fps"
    assert file.get_motion(3, fps=60).fps == 60


@pytest.mark.parametrize("shape", [(30, 22, 3), (1, 30, 22, 3), (1, 1, 30, 22, 3), (30, 66)])
def test_joints_in_the_shapes_that_other_models_write(tmp_path, rng, shape):
    np.save(tmp_path / "joints.npy", rng.random(shape))
    assert read(tmp_path / "joints.npy").get_motion(0).joints.shape == (30, 22, 3)


def test_resampling_turns_evenly(tmp_path):
    poses = np.zeros((2, 156))
    poses[1, 3:6] = [0.0, 0.0, 1.2]
    np.savez(tmp_path / "a.npz", poses=poses, trans=np.zeros((2, 3)), mocap_framerate=10.0)
    motion = read(tmp_path / "a.npz").get_motion(0).resample(40)
    angles = 2 * np.arccos(np.clip(motion.rotations[:, 1, 0], -1, 1))
    assert np.allclose(angles, [0, 0.3, 0.6, 0.9, 1.2]) and len(SMPL_JOINTS) == motion.rotations.shape[1]


def _npy_header(shape, dtype="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _hostile_files():
    rng = np.random.default_rng(5)
    whole = BUNDLED.read_bytes()
    stream = io.BytesIO()
    np.savez(stream, poses=np.zeros((20, 156)), trans=np.zeros((20, 3)), mocap_framerate=60.0)
    archive = stream.getvalue()
    for cut in rng.integers(1, len(whole), 12):
        yield f"cut{cut}.npy", whole[:cut]
    for cut in rng.integers(1, len(archive), 8):
        yield f"cut{cut}.npz", archive[:cut]
    for n in range(12):
        data = bytearray(whole if n % 2 else archive)
        for at in rng.integers(0, min(len(data), 600), 6):
            data[at] = int(rng.integers(256))
        yield f"flipped{n}.np{'y' if n % 2 else 'z'}", bytes(data)
    yield "huge.npy", _npy_header((10_000_000, 22, 3)) + b"\0" * 64
    yield "huger.npy", _npy_header((2**62, 22, 3)) + b"\0" * 64
    yield "negative.npy", _npy_header((-5, 22, 3)) + b"\0" * 64
    yield "words.npy", _npy_header((4,), "<U8") + b"a\0\0\0" * 32
    for name, values in (("nan", np.nan), ("inf", np.inf), ("far", 1e30)):
        stream = io.BytesIO()
        np.save(stream, np.full((9, 22, 3), values))
        yield f"{name}.npy", stream.getvalue()
    for name, fps in (("fast", 1e9), ("backwards", -20.0), ("nothing", np.nan)):
        stream = io.BytesIO()
        np.savez(stream, poses=np.zeros((20, 156)), trans=np.zeros((20, 3)), mocap_framerate=fps)
        yield f"{name}.npz", stream.getvalue()
    for name, arrays in (
        ("short", {"poses": np.zeros((20, 10)), "trans": np.zeros((20, 3))}),
        ("odd", {"x": np.zeros(3)}),
        ("uneven", {"poses": np.zeros((20, 156)), "trans": np.zeros((3, 3))}),
        ("flat", {"poses": np.zeros(()), "trans": np.zeros(())}),
    ):
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        yield f"{name}.npz", stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("poses.npy", _npy_header((40_000_000, 8), "<f8") + bytes(1 << 20) * 1200)
    yield "bomb.npz", stream.getvalue()


@pytest.mark.parametrize(("name", "data"), list(_hostile_files()), ids=lambda v: v if isinstance(v, str) else "")
def test_bad_files_are_one_sentence(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    try:
        file = read(path)
        for clip in range(min(len(file.clips), 3)):
            # a flipped bit may leave a motion that is still one
            assert np.isfinite(file.get_motion(clip).joints).all() and "flipped" in name
    except MotionError as error:
        assert name in str(error) and str(error).endswith(".") and "\n" not in str(error)
