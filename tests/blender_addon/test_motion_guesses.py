"""What is guessed of a file is guessed right, said, and can be overruled; what is no motion is named for what it is."""

from __future__ import annotations

import io
import json
import lzma
import pickle
import zipfile
import zlib

import numpy as np
import pytest

from latentman.blender_addon.motion import up_axis
from latentman.blender_addon.motion.readers import BUNDLED, ReadOptions, read
from latentman.blender_addon.motion.smpl_sources import find_tracks
from latentman.blender_addon.motion.track_decoding import decode_track, find_reading
from latentman.shared.motion import MotionError
from latentman.shared.skeleton import SMPL_REST_JOINTS
from tests import bodies, samples

pytest.importorskip("scipy")
torch = pytest.importorskip("torch")
from tests import motion_sources as sources  # noqa: E402

DOWN = {"Y": (0, -1, 0), "Z": (0, 0, -1), "Y_DOWN": (0, 1, 0)}


def _height(motion):
    """How far the head is above the feet, on average."""
    return float((motion.joints[:, 15, 1] - motion.joints[:, 10, 1]).mean())


@pytest.mark.parametrize("axis", ["Y", "Z", "Y_DOWN"])
@pytest.mark.parametrize("clip", range(0, 12, 2))
def test_the_axis_of_every_bundled_clip_is_found(tmp_path, clip, axis):
    motion = read(BUNDLED).get_motion(clip % len(read(BUNDLED).clips))
    np.save(tmp_path / "joints.npy", motion.joints @ sources.FROM_Y[axis].T)
    file = read(tmp_path / "joints.npy")
    assert up_axis.TITLES[axis] in "\n".join(file.describe()) and not file.clips[0].is_doubtful
    assert _height(file.get_motion(0)) == pytest.approx(_height(motion), abs=0.05)


def test_somebody_who_lies_is_a_doubtful_guess_that_can_be_overruled(tmp_path, play):
    from scipy.spatial.transform import Rotation

    flat = Rotation.from_euler("x", -90, degrees=True).as_matrix()
    rotations = play.rotations.copy()
    rotations[:, 0] = flat @ rotations[:, 0]
    lying = sources.Performance(rotations, play.pelvis * [1, 0, 1] + [0, 0.12, 0], play.rest)
    found = sources.write_beat2(tmp_path, lying)
    file = read(found.path)
    assert file.clips[0].is_doubtful and "a doubtful guess, see Up Axis" in "\n".join(file.describe())
    assert "up_axis" in file.choices
    chosen = read(found.path, options=ReadOptions("Y"))
    assert not chosen.clips[0].is_doubtful and abs(_height(chosen.get_motion(0))) < 0.4
    assert _height(read(found.path, options=ReadOptions("Z")).get_motion(0)) != pytest.approx(
        _height(chosen.get_motion(0)), abs=0.5
    )


@pytest.mark.parametrize("form", ["ROWS", "COLUMNS", "INTERLEAVED"])
def test_a_layout_that_is_chosen_is_taken(tmp_path, play, form):
    found = sources.write_135(tmp_path, play, "ROWS")
    rows = read(found.path, options=ReadOptions(layout="ROWS")).get_motion(0)
    assert "layout" in read(found.path).choices
    other = read(found.path, options=ReadOptions(layout=form)).get_motion(0)
    assert np.allclose(rows.rotations, other.rotations, atol=1e-5) == (form == "ROWS")


def test_rotations_that_tell_nothing_are_doubtful(tmp_path):
    still = np.zeros((20, 135), np.float32)
    still[:, 3:] = np.tile([1, 0, 0, 0, 1, 0], 22)
    still[:, 1] = 1.2
    np.save(tmp_path / "still.npy", still)
    file = read(tmp_path / "still.npy")
    assert file.clips[0].is_doubtful and "see Layout" in "\n".join(file.describe())


def test_a_layout_that_cannot_be_is_refused(tmp_path, play):
    found = sources.write_135(tmp_path, play, "ROWS")
    with pytest.raises(MotionError, match=r"^motion_ROWS\.npy: .*6D rotations by rows or .*choose another layout"):
        read(found.path, options=ReadOptions(layout="WXYZ"))


def test_rotations_and_positions_of_one_shape_are_told_apart(tmp_path, play):
    joints = sources.pose(play.vectors, play.pelvis, play.rest)
    np.save(tmp_path / "places.npy", joints.reshape(len(joints), 72))
    np.save(tmp_path / "turns.npy", play.vectors.reshape(len(joints), 72))
    places, turns = read(tmp_path / "places.npy"), read(tmp_path / "turns.npy")
    assert places.layout == "joints" and turns.layout == "rotations of SMPL's joints"
    assert np.abs(places.get_motion(0).joints - joints[:, :22]).max() < 0.06
    forced = read(tmp_path / "turns.npy", options=ReadOptions(layout="POSITIONS"))
    assert forced.layout == "joints" and "layout" in forced.choices


def test_the_rate_that_is_given_is_not_assumed(tmp_path, play):
    found = sources.write_gvhmr(tmp_path, play)
    clip = read(found.path).clips[0]
    assert any("30 fps is assumed" in note for note in clip.list_notes())
    assert not any("assumed" in note for note in clip.list_notes(24.0))
    assert read(found.path).get_motion(0, 24.0).fps == 24


def test_missing_frames_are_filled_and_said(tmp_path, play):
    found = sources.write_phalp(tmp_path, play, missing=(5, 6, 9))
    file = read(found.path)
    assert "3 missing frames filled in" in "\n".join(file.describe()) and file.clips[0].frames == len(play.pelvis)
    motion, whole = file.get_motion(0), read(sources.write_phalp(tmp_path, play).path).get_motion(0)
    seen = [frame for frame in range(len(play.pelvis)) if frame not in (5, 6, 9)]
    assert np.abs((motion.rotations * whole.rotations).sum(-1)[seen]).min() > 1 - 1e-6
    # what is filled lies between its neighbours
    assert np.abs((motion.rotations * whole.rotations).sum(-1)).min() > 0.9


def test_a_long_gap_parts_a_person(tmp_path, play):
    frames = len(play.pelvis)
    person = {
        "pose_world": play.vectors.reshape(frames, 72),
        "trans_world": play.path,
        "frame_ids": np.concatenate([np.arange(6), np.arange(6, frames) + 200]),
    }
    (tmp_path / "wham_output.pkl").write_bytes(sources.pack_joblib({0: person}))
    file = read(tmp_path / "wham_output.pkl")
    assert file.texts == ("person 0, part 1", "person 0, part 2") and file.lengths == (6, frames - 6)


@pytest.mark.parametrize("known", ["all", "some", "none"])
def test_places_that_a_tracker_does_not_know_are_said(known):
    """4D-Humans' frames without the person's place: filled in between the others, or in place."""
    shots = {
        f"{frame:06d}.jpg": {
            "time": frame,
            "tid": [1],
            "smpl": [{"global_orient": np.eye(3)[None], "body_pose": np.tile(np.eye(3), (23, 1, 1))}],
            "camera": [np.array([0.1 * frame, 0, 9]) if known == "all" or (known == "some" and frame != 4) else None],
        }
        for frame in range(9)
    }
    (track,) = find_tracks(shots)
    reading = find_reading(track, ReadOptions())
    assert ("1 missing frame filled in" in reading.notes) == (known == "some")
    assert ("in place: the file has no path" in reading.notes) == (known == "none")
    pelvis = decode_track(track, reading).joints[:, 0]
    assert len(pelvis) == 9
    assert np.allclose(np.diff(pelvis[:, 0]), 0.0 if known == "none" else 0.1)


@pytest.mark.parametrize(
    "pack", [lambda data: zlib.compress(data, 3), lzma.compress, __import__("gzip").compress, __import__("bz2").compress]
)
def test_compressed_joblib(tmp_path, play, pack):
    found = sources.write_wham(tmp_path, play, pack)
    assert read(found.path).get_motion(0).frame_count == len(play.pelvis)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("alignment", [None, 16])
def test_joblib_of_every_version_is_read(protocol, alignment, rng):
    from latentman.blender_addon.character.unpickling import load_pickle

    value = {
        "columns": np.asfortranarray(rng.random((3, 4))),
        "objects": np.array(["a", None, 2], dtype=object),
        "truth": np.array([True, False]),
        "swapped": rng.integers(0, 9, 4).astype(">i4"),
        "empty": np.zeros((0, 3)),
        "after": [1, "x"],
    }
    found = load_pickle(sources.pack_joblib(value, protocol, alignment))
    for name in ("columns", "truth", "swapped", "empty"):
        assert found[name].shape == value[name].shape and (found[name] == value[name]).all(), name
    assert found["objects"] == ["a", None, 2] and found["after"] == [1, "x"]


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_torchs_own(legacy):
    from latentman.blender_addon.character.unpickling import load_pickle, load_torch

    tensors = samples.make_tensors()
    value = tensors | {"same": tensors["plain"][:1].expand(4, 5), "numpy": np.arange(3.0)}
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    for found in (load_torch(stream.getvalue()), load_pickle(pickle.dumps(value, 2))):
        for name, wanted in value.items():
            array = wanted if isinstance(wanted, np.ndarray) else wanted.detach().float().numpy()
            assert found[name].shape == array.shape and (np.asarray(found[name], float) == array).all(), name


def _save(value):
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()


def _zip(**entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _torch_bytes(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


KINDS = {
    "walk.mp4": (b"\0\0\0\x20ftypisom" + bytes(64), "is a video; run a pose estimator such as GVHMR"),
    "walk.mov": (b"\0\0\0\x14ftypqt  " + bytes(64), "is a video"),
    "walk.avi": (b"RIFF\0\0\0\0AVI LIST" + bytes(64), "is a video"),
    "walk.mkv": (b"\x1aE\xdf\xa3" + bytes(64), "is a video"),
    "walk_named.npy": (b"\0\0\0\x20ftypmp42" + bytes(64), "is a video"),
    "a.png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "is a picture"),
    "a.jpg": (b"\xff\xd8\xff\xe0" + bytes(64), "is a picture"),
    "a.exr": (b"v/1\x01" + bytes(64), "is a picture"),
    "walk.fbx": (b"Kaydara FBX Binary  \0\x1a\0" + bytes(64), "is an FBX file"),
    "ascii.fbx": (b"; FBX 7.3.0 project file\n", "is an FBX file"),
    "walk.glb": (b"glTF\2\0\0\0" + bytes(64), "is a glTF file"),
    "walk.vrma": (b"glTF\2\0\0\0" + bytes(64), "is a VRM animation"),
    "walk.usdc": (b"PXR-USDC" + bytes(64), "is a USD file"),
    "walk.c3d": (b"\x02\x50" + bytes(600), "holds markers"),
    "walk.trc": (b"PathFileType\t4\t(X/Y/Z)\twalk.trc\n", "holds markers"),
    "walk.mot": (b"walk\nversion=1\nnRows=4\nnColumns=3\n", "OpenSim"),
    "walk.vmd": (b"Vocaloid Motion Data 0002" + bytes(64), "MMD motion"),
    "scene.blend": (b"BLENDER-v405" + bytes(64), "is a Blender file"),
    "new.blend": (b"\x28\xb5\x2f\xfd" + bytes(64), "is a Blender file"),
    "walk.csv": (b"frame,x,y,z\n0,1,2,3\n", "is a table"),
    "table.pkl.txt": (b"frame,x,y,z\n0,1,2,3\n", "is a table"),
    "model.safetensors": ((40).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1]' + bytes(64), "weights of a network"),
    "state.pt": (_torch_bytes({"layer.weight": torch.zeros(2, 2), "layer.bias": torch.zeros(2)}), "weights of a network"),
    "lightning.ckpt": (_torch_bytes({"state_dict": {"a.weight": torch.zeros(2)}, "epoch": 1}), "weights of a network"),
    "pages.zip": (_zip(**{"a.txt": b"x"}), "is an archive"),
    "motions.npz": (_zip(**{"a.bvh": b"HIERARCHY"}), "is an archive"),
    "args.json": (json.dumps({"arch": "trans_enc", "latent_dim": 512, "layers": 8}).encode(), "settings of an MDM checkpoint"),
    "other.json": (b'{"a": 1}', "none of EasyMocap"),
    "bones.json": (b'{"bones": {}}', "bone map"),
    "openpose.json": (b'{"version": 1.3, "people": []}', "OpenPose's key points"),
    "cut.json": (b'[{"id": 0, "Rh"', "is not a JSON file"),
    "Mean.npy": (_save(np.zeros(263)), "mean or the deviation"),
    "text.npy": (_save(np.zeros((77, 768))), "text's embedding"),
    "clip.npy": (_save(np.zeros(512)), "text's embedding"),
    "frames.npy": (_save(np.zeros((4, 64, 64, 3), np.uint8)), "holds pictures"),
    "points.npy": (_save(np.zeros((30, 17, 2))), "points in a picture"),
    "vitpose.pt": (_torch_bytes(torch.rand(30, 17, 3) * torch.tensor([1000.0, 800.0, 1.0])), "key points in a picture"),
    "odd.npy": (_save(np.zeros((30, 31))), "which is no known motion"),
    "many.npy": (_save(np.zeros((30, 19, 3))), "it has 19 joints, which is no known skeleton"),
    "kit.npy": (_save(np.zeros((30, 251))), "KIT's 251-number vectors"),
    "robot.npy": (_save(np.zeros((30, 34, 3))), "the robot G1"),
    "page.npz": (b"<!DOCTYPE html><html>", "is a web page"),
    "pointer.npz": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
    "walk.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
    "renamed.txt": (b"HIERARCHY\nROOT a\n", "is a BVH file"),
    "nothing.npz": (b"", "is empty"),
    "body_only.npz": (None, "not the pelvis's"),
}


@pytest.mark.parametrize("name", KINDS)
def test_files_without_a_motion_are_named(tmp_path, name):
    data, words = KINDS[name]
    if data is None:
        np.savez(tmp_path / name, body_pose=np.zeros((9, 63)), betas=np.zeros(10))
    else:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(MotionError) as refused:
        read(tmp_path / name)
    text = str(refused.value)
    assert text.startswith(name) and words in text and text.endswith(".") and "\n" not in text


def test_body_models_are_named(tmp_path):
    data = bodies.arrays(vertices=60)
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **data)
    (tmp_path / "SMPL_MALE.pkl").write_bytes(pickle.dumps(data, 2))
    for name in ("SMPL_NEUTRAL.npz", "SMPL_MALE.pkl"):
        with pytest.raises(MotionError, match=rf"^{name} is a body model, not a motion; load it with Load SMPL"):
            read(tmp_path / name)


def test_a_folder_of_frames_is_read(tmp_path, play):
    found = sources.write_easymocap(tmp_path, play)
    assert read(found.path.parent).lengths == read(found.path).lengths == (len(play.pelvis),) * 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(MotionError, match=r"^empty is a folder without numbered JSON files"):
        read(tmp_path / "empty")


def test_easymocaps_key_points_are_read_and_those_not_seen_filled(tmp_path, play):
    points = sources._points(play, "Z")
    values = np.stack([points[name] for name in sources.BODY_25], 1)
    (tmp_path / "keypoints3d").mkdir()
    for frame, joints in enumerate(values):
        seen = np.ones((25, 1))
        if frame == 4:
            seen[4] = 0
        rows = np.concatenate([joints * seen, seen], 1).tolist()
        (tmp_path / "keypoints3d" / f"{frame:06d}.json").write_text(json.dumps([{"id": 0, "keypoints3d": rows}]))
    file = read(tmp_path / "keypoints3d" / "000000.json")
    assert "1 joints that were not seen are filled in" in "\n".join(file.describe())
    wrist = file.get_motion(0).joints[:, 21]
    assert np.linalg.norm(wrist[4] - (wrist[3] + wrist[5]) / 2) < 1e-6


def test_the_rest_pose_here_is_that_of_the_product():
    assert len(SMPL_REST_JOINTS) == len(sources.NAMES)


@pytest.mark.parametrize(("people", "paths"), [(3, 1), (2, 3), (2, 0), (2, 2)])
def test_people_and_paths_that_do_not_match_are_said(tmp_path, play, people, paths):
    """Nobody is dropped for want of a path, and a path of nobody is said."""
    found = sources.write_3dpw(tmp_path, play)
    value = pickle.loads(found.path.read_bytes())
    frames = len(play.pelvis)
    value["poses"] = [play.vectors.reshape(frames, 72)] * people
    value["trans"] = [play.path] * paths
    found.path.write_bytes(pickle.dumps(value, 2))
    file = read(found.path)
    assert len(file.clips) == people
    described = "\n".join(file.describe())
    assert ("the file has poses of" in described) == (people != paths)
    if people != paths:
        assert f"poses of {people} people and {paths} paths" in described
    for n in range(people):
        travelled = np.ptp(file.get_motion(n).joints[:, 0, [0, 2]], axis=0).max()
        assert (travelled > 0.05) == (n < paths)
        assert ("in place: the file has no path" in file.get_clip(n).list_notes(0.0)) == (n >= paths)


def test_poses_without_a_track_are_said(tmp_path):
    shot = {
        "tid": [3],
        "time": 0,
        "smpl": [{"global_orient": np.eye(3)[None], "body_pose": np.tile(np.eye(3), (23, 1, 1))}] * 2,
        "camera": [np.array([0.0, 0, 5])] * 2,
    }
    (tmp_path / "demo_a.pkl").write_bytes(pickle.dumps({f"{n}.jpg": shot | {"time": n} for n in range(6)}, 4))
    file = read(tmp_path / "demo_a.pkl")
    assert len(file.clips) == 1 and "6 poses of nobody in particular are left out" in "\n".join(file.describe())


@pytest.mark.parametrize("count", [22, 24, 55])
def test_joints_in_an_unknown_order_are_doubtful(tmp_path, play, count):
    """The number of joints is that of SMPL's, but distances along its limbs change all the time."""
    joints = sources.pose(play.vectors, play.pelvis, play.rest)
    joints = np.concatenate([joints, np.repeat(joints[:, :1], 31, 1)], 1)[:, :count]
    order = np.random.default_rng(3).permutation(count)
    np.save(tmp_path / "a.npy", joints[:, order])
    clip = read(tmp_path / "a.npy").clips[0]
    assert clip.is_doubtful and any("joints of SMPL" in note and "doubtful guess" in note for note in clip.notes)


def test_mirrored_orders_are_told_apart(tmp_path, play):
    """Left and right first differ in nothing but where the toes point."""
    joints = sources.pose(play.vectors, play.pelvis, play.rest)
    said = {}
    for sides in (("left", "right"), ("right", "left")):
        names = sources._walk_through(sides, ("collar", "shoulder", "elbow", "wrist"))
        np.save(tmp_path / "a.npy", joints[:, [sources.NAMES.index(name) for name in names]])
        file = read(tmp_path / "a.npy")
        said[sides] = file.clips[0].notes[0]
        assert np.abs(file.get_motion(0).joints - file.get_motion(0).joints[0, 0] - joints[:, :22] + joints[0, 0]).max() < 0.06
    assert len(set(said.values())) == 2
