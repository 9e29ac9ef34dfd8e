"""Files of others cannot reach memory, code or the clock: each gives a value or one sentence, whatever it claims."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest

from latentman.blender_addon.character.body_model import BodyModelError, load
from latentman.blender_addon.character.unpickling import load_npy_object, load_pickle, to_array
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.shared import curve_keys, exr, passes_folder
from latentman.shared.files import make_private_folder
from latentman.shared.manifest import PassesManifest
from latentman.shared.motion import MotionError
from latentman.shared.skeleton import SMPL_REST_JOINTS
from tests import bodies, hostile, reading, samples

#: damaged copies of each sample
MUTATIONS = 15
#: the five that were found first, as they are
FOUND = {
    "m11": bytes.fromhex(
        "8003636e756d70792e636f72652e6d756c746961727261790a5f7265636f6e7374727563740a28636e756d70790a6e6461727261790a284b00744301"
        "627452284b0129636e756d70790a64747970650a285802000000563889887452284b0358010000007c4e285801000000617d58010000006128636e75"
        "6d70790a64747970650a2858020000004f3889887452"
        "4b0074734b084b014b0074628943084141414141414141"
        "74622e"
    ),
    "b2": bytes.fromhex(
        "80027d580a000000765f74656d706c617465636e756d70790a6e6461727261790a28284a00b4c4044b0374580200000066347452732e"
    ),
}


def _write(folder, files, suffix):
    sizes = {}
    for number, (name, data) in enumerate(files):
        path = folder / f"{number:04d}_{name}{suffix}"
        path.write_bytes(data)
        sizes[path.name] = len(data)
    return sizes


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [b"\x80\x02", b""])
def test_hostile_bodies_are_one_sentence(tmp_path, protocol):
    files = [(name, protocol + data + b".") for name, data in hostile.files("v_template")] + [("b2", FOUND["b2"])]
    outcomes = reading.check_all("body", tmp_path, _write(tmp_path, files, ".pkl"))
    assert {outcome.kind for outcome in outcomes} == {"sentence"}


@pytest.mark.slow
def test_hostile_motions_are_one_sentence(tmp_path):
    files = [(name, hostile.as_npy(data)) for name, data in hostile.files("motion")]
    more = hostile.dictionary(lengths=b"]K\x01a")[2:]
    files += [
        (f"{name}_with_lengths", hostile.as_npy(b"}(" + hostile.text("motion") + data + more)) for name, data in hostile.pickles()
    ]
    outcomes = reading.check_all("motion", tmp_path, _write(tmp_path, files, ".npy"))
    assert {outcome.kind for outcome in outcomes} == {"sentence"}


def _list_hostile_torch():
    """Torch's files that claim, hold or hide more than they should."""
    torch = pytest.importorskip("torch")

    def pack(entries, method=zipfile.ZIP_STORED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in entries.items():
                archive.writestr(f"a/{name}", content)
        return stream.getvalue()

    for name, value in hostile.pickles():
        if len(value) < 200_000:
            yield name, pack({"data.pkl": b"\x80\x02" + value + b"."})
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, stream)
    whole = stream.getvalue()
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, stream, _use_new_zipfile_serialization=False)
    old = stream.getvalue()
    for cut in (len(old) // 3, len(old) - 9, len(old) - 20):
        yield f"cut_{cut}", old[:cut]
    at = old.rindex(struct.pack("<q", 4))
    for count in (1 << 40, (1 << 63) - 1, (1 << 64) - 1):
        yield f"storage_of_{count}", old[:at] + struct.pack("<Q", count) + old[at + 8 :]
    yield "two_pickles", pack({"data.pkl": b"N.", "b/data.pkl": b"N."})
    yield "compressed", pack({"data.pkl": b"N" * 900_000}, zipfile.ZIP_DEFLATED)
    yield "nothing_in_it", whole
    storage = b"((" + hostile.text("storage") + b"ctorch\nFloatStorage\n" + hostile.text("0") + hostile.text("cpu")
    for name, shape in (("large", 1 << 40), ("negative", -1)):
        tensor = (
            b"ctorch._utils\n_rebuild_tensor_v2\n"
            + storage
            + b"K\x04tQK\x00(\x8a\x08"
            + struct.pack("<q", shape)
            + b"t(K\x01t\x89NtR"
        )
        yield f"tensor_{name}", pack({"data.pkl": b"\x80\x02}" + hostile.text("poses") + tensor + b"s.", "data/0": bytes(16)})


def _list_hostile_json():
    yield "deep", b"[" * 900_000
    yield "deep_objects", b'{"a":' * 200_000
    yield "digits", b"[" + b"9" * 100_000 + b"]"
    yield "many", b"[" + b"{}," * 500_000 + b"{}]"
    yield "people_of_texts", json.dumps([{"id": "x" * 90_000, "Rh": "a", "Th": [], "poses": {}}]).encode()
    yield "sizes", json.dumps([{"id": 0, "Rh": [[0] * 7], "Th": [[0] * 3], "poses": [[0] * 72]}]).encode()
    yield "not_finite", b'[{"id": 0, "Rh": [[NaN, 1e999, 0]], "Th": [[0, 0, 0]], "poses": [[' + b"0," * 71 + b"0]]}]"
    yield "no_letters", b"[\xff\xfe]"


def test_hostile_results_are_one_sentence(tmp_path):
    sizes = {}
    files = [(f"{name}.pt", data) for name, data in _list_hostile_torch()]
    files += [(f"{name}.json", data) for name, data in _list_hostile_json()]
    bomb = zlib.compress(bytes(600 << 20), 9)
    files += [("bomb.pkl", bomb), ("bomb_of_lists.pkl", zlib.compress(b"\x80\x02(" + b"]" * 9_000_000 + b"l.", 9))]
    wrapper = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81"
    for name, count in (("much", 1 << 40), ("negative", -5)):
        state = hostile.dictionary(
            shape=b"(\x8a\x08" + struct.pack("<q", count) + b"t", dtype=hostile.dtype(), order=hostile.text("C")
        )
        files.append((f"joblib_{name}.pkl", b"\x80\x02}" + hostile.text("poses") + wrapper + state + b"b" + bytes(64) + b"s."))
    nested = wrapper + hostile.dictionary(shape=b")", dtype=hostile.dtype("O8")) + b"b"
    files.append(("joblib_nested.pkl", b"\x80\x02" + nested * 2000 + b"."))
    for number, (name, data) in enumerate(files):
        path = tmp_path / f"{number:04d}_{name}"
        path.write_bytes(data)
        sizes[path.name] = len(data)
    outcomes = reading.check_all("motion", tmp_path, sizes)
    assert {outcome.kind for outcome in outcomes} == {"sentence"}


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "key"), [("motion", "poses"), ("body", "v_template")])
def test_hostile_archives_are_one_sentence(tmp_path, reader, key):
    outcomes = reading.check_all(reader, tmp_path, _write(tmp_path, hostile.archives(key), ".npz"))
    # truth values are numbers, too, whatever they are written as
    assert {outcome.kind for outcome in outcomes if "truths" not in outcome.name} == {"sentence"}


@pytest.mark.skipif(os.name == "nt", reason="there are neither pipes nor devices among the files")
def test_what_is_no_file_is_one_sentence(tmp_path):
    for reader, suffixes in (("motion", (".npy", ".npz")), ("body", (".pkl", ".npz")), ("bvh", (".bvh",))):
        folder = tmp_path / reader
        folder.mkdir()
        for suffix in suffixes:
            os.mkfifo(folder / f"pipe{suffix}")
            (folder / f"device{suffix}").symlink_to("/dev/zero")
            (folder / f"nowhere{suffix}").symlink_to(folder / "absent")
            (folder / f"itself{suffix}").symlink_to(folder / f"itself{suffix}")
            (folder / f"folder{suffix}").mkdir()
            (folder / f"empty{suffix}").write_bytes(b"")
            with (folder / f"hole{suffix}").open("wb") as hole:
                hole.truncate(1 << 40)
        outcomes = reading.check_all(reader, folder, {path.name: 0 for path in folder.iterdir()})
        assert {outcome.kind for outcome in outcomes} == {"sentence"}


def _list_motions(tmp_path, rng):
    yield "results.npy", BUNDLED.read_bytes()
    stream = io.BytesIO()
    np.savez_compressed(
        stream, poses=rng.random((12, 156)), trans=rng.random((12, 3)), mocap_framerate=60.0, gender=np.array("male")
    )
    yield "amass.npz", stream.getvalue()
    stream = io.BytesIO()
    np.savez(stream, vectors=rng.random((2, 12, 263), np.float32), fps=np.float32(20), text=np.array("a person"))
    yield "made.npz", stream.getvalue()
    for name, value in (
        ("joints.npy", rng.random((9, 22, 3))),
        ("vectors.npy", rng.random((9, 263)).round().astype(np.float32)),
        ("mirror.npy", np.asfortranarray(rng.random((9, 272)))),
    ):
        stream = io.BytesIO()
        np.save(stream, value)
        yield name, stream.getvalue()
    motion = {"motion": rng.random((2, 22, 3, 9)), "lengths": np.array([9, 8]), "text": ["a", "b"], "num_samples": 2}
    for protocol in range(6):
        yield f"protocol{protocol}.npy", hostile.as_npy(b"")[:-3] + pickle.dumps(np.array(motion, dtype=object), protocol)


def _list_results(tmp_path, rng):
    """Files of pose estimators and models, as their programs write them."""
    pytest.importorskip("torch")
    pytest.importorskip("scipy")
    from tests import motion_sources

    rotations = np.broadcast_to(np.eye(3), (9, 24, 3, 3)).copy()
    play = motion_sources.Performance(rotations, np.array([[0, 0.95, 0.05 * n] for n in range(9)]), np.array(SMPL_REST_JOINTS))
    names = ("gvhmr", "gvhmr_old_torch", "wham", "phalp", "tram", "aist", "grab", "kimodo_30", "motion_135_rows", "joints_ntu")
    for name in names:
        folder = tmp_path.parent / f"{tmp_path.name}_{name}"
        folder.mkdir()
        path = motion_sources.SOURCES[name](folder, play).path
        yield f"{name}{path.suffix}", path.read_bytes()
    person = {"id": 0, "Rh": [[0.0, 0, 0]], "Th": [[0.0, 0, 1]], "poses": [[0.0] * 72], "shapes": [[0.0] * 10]}
    yield "people.json", json.dumps([[person]] * 9).encode()


def _list_bodies(tmp_path, rng):
    data = bodies.arrays(vertices=60)
    stream = io.BytesIO()
    np.savez_compressed(stream, **data)
    yield "body.npz", stream.getvalue()
    for protocol in range(6):
        yield f"protocol{protocol}.pkl", pickle.dumps(data, protocol)
    if pytest.importorskip("scipy.sparse"):
        bodies.write_python2_pickle(tmp_path / "old.pkl", data)
        yield "old.pkl", (tmp_path / "old.pkl").read_bytes()
        (tmp_path / "old.pkl").unlink()


@pytest.mark.parametrize(("reader", "list_samples"), [("motion", _list_motions), ("motion", _list_results), ("body", _list_bodies)])
def test_damaged_copies_are_a_value_or_one_sentence(tmp_path, rng, reader, list_samples):
    sizes = {}
    for name, data in list_samples(tmp_path, rng):
        for number in range(MUTATIONS + 1):
            path = tmp_path / f"{number:03d}_{name}"
            # the first is whole
            path.write_bytes(data if number == 0 else hostile.mutate(rng, data))
            sizes[path.name] = path.stat().st_size
    outcomes = reading.check_all(reader, tmp_path, sizes)
    assert not [outcome for outcome in outcomes if outcome.name.startswith("000_") and outcome.kind != "value"]
    assert sum(outcome.kind == "sentence" for outcome in outcomes) > len(outcomes) / 4


@pytest.mark.slow
def test_a_long_motion_takes_no_more_than_its_share(tmp_path):
    """The most frames that there may be, in the smallest numbers that hold them."""
    for name, arrays in (
        ("amass", {"poses": np.zeros((100_000, 66), np.int8), "trans": np.zeros((100_000, 3), np.int8)}),
        ("amass_too_long", {"poses": np.zeros((4_000_000, 66), np.int8), "trans": np.zeros((4_000_000, 3), np.int8)}),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    np.save(tmp_path / "vectors.npy", np.zeros((100_000, 263), np.float16))
    np.save(tmp_path / "clips.npy", np.zeros((2_000_000, 1, 22, 3), np.int8))
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    outcomes = reading.check_all("motion", tmp_path, sizes)
    assert [outcome.kind for outcome in outcomes] == ["value", "sentence", "sentence", "value"]


# what is read must be what numpy's own reading gives


@pytest.mark.parametrize("protocol", range(6))
def test_values_are_those_of_pickle_itself(rng, protocol):
    value = {
        "float": rng.random((3, 4)),
        "columns": np.asfortranarray(rng.random((3, 4))),
        "swapped": rng.integers(0, 99, 5).astype(">i4"),
        "small": rng.random(3).astype(np.float16),
        "unsigned": np.array([2**32 - 1, 0], np.uint32),
        "truth": np.array([True, False]),
        "complex": np.array([1 + 2j]),
        "texts": np.array(["a", "äöü", "\U0001f600"]),
        "bytes": np.array([b"a", b"bc"]),
        "empty": np.zeros((0, 22, 3)),
        "none": np.array(5.5),
        "scalar": np.float32(2.5),
        "count": np.int64(7),
        "word": np.str_("walk"),
        "plain": [1, -70_000, 1 << 40, 2.5, True, None, "ä", b"\xff", (1, 2, 3, 4), {"a": [1]}, ()],
        "objects": np.array(["a", 1, None], dtype=object),
        "rows": np.array([["a", 1], [None, 2.5]], dtype=object),
    }
    found = load_pickle(pickle.dumps(value, protocol))
    assert list(found) == list(value)
    for name, wanted in value.items():
        if isinstance(wanted, np.ndarray) and wanted.dtype != object:
            assert found[name].dtype == wanted.dtype.newbyteorder("=") and found[name].shape == wanted.shape
            assert (found[name] == wanted).all(), name
        else:
            assert found[name] == (wanted.tolist() if isinstance(wanted, np.ndarray) else wanted), name
    assert isinstance(found["scalar"], np.float32) and isinstance(found["count"], np.int64)


def test_files_of_python_2_are_read():
    """A text of bytes, as Python 2 wrote arrays, in protocols 0 to 2."""
    values = np.arange(3.0)
    quoted = b"S" + repr(values.tobytes())[1:].encode() + b"\n"
    typed = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    start = (
        b"(dp0\nS'x'\np1\n"
        + hostile.GLOBALS["new"]
        + b"("
        + hostile.GLOBALS["array"]
        + b"(I0\ntS'b'\ntR(I1\n(I3\nt"
        + typed
        + b"I00\n"
    )
    assert (load_pickle(start + quoted + b"tbs.")["x"] == values).all()
    short = b"U" + bytes([len(values.tobytes())]) + values.tobytes()
    assert (load_pickle(start + short + b"tbs.")["x"] == values).all()
    assert load_pickle(b"(lp0\nF1.5\naL12L\naI01\naV\\u00e4\na.") == [1.5, 12, True, "ä"]
    assert load_pickle(b"(K\x01K\x02t.") == (1, 2)


def test_sparse_matrices_are_scipys(rng):
    sparse = pytest.importorskip("scipy.sparse")
    dense = rng.random((24, 300)) * (rng.random((24, 300)) > 0.9)
    for made in (sparse.csc_matrix, sparse.csr_matrix, sparse.csc_array):
        for protocol in (0, 2, 4, 5):
            found = to_array(load_pickle(pickle.dumps(made(dense), protocol)))
            assert found.dtype == dense.dtype and (found == dense).all()


def test_shared_parts_stay_shared():
    part = list(range(1000))
    found = load_pickle(pickle.dumps([part] * 3))
    assert found == [part] * 3 and found[0] is found[2]


def test_objects_in_an_array_are_counted():
    with pytest.raises(ValueError, match="damaged"):
        load_npy_object(hostile.as_npy(hostile.array(hostile.dtype("O8"), b"](K\x01K\x02e", b"(K\x03t")))


@pytest.mark.parametrize("values", [[[1, 2], [3]], [["a"]], [[None]], [[1, 2], [[1], [2]]], {"a": 1}, "12", [2**100]])
def test_lists_that_are_no_motion_are_one_sentence(tmp_path, values):
    path = tmp_path / "a.npy"
    path.write_bytes(hostile.as_npy(b"")[:-3] + pickle.dumps(np.array({"motion": values, "lengths": values}, dtype=object), 3))
    with pytest.raises(MotionError, match=r"^a\.npy does not contain numbers where"):
        read(path)


def test_nested_lists_are_a_motion(tmp_path, rng):
    joints = rng.random((1, 22, 3, 5))
    path = tmp_path / "a.npy"
    np.save(path, np.array({"motion": joints.tolist(), "lengths": [5], "text": "a\nb"}, dtype=object))
    found = read(path)
    assert found.texts == ("a b",) and (found.get_motion(0).joints == joints[0].transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"f": np.array([[0.5, np.nan, 1e300]])},
        {"f": np.array([[0, 0, 1]])},
        {"f": np.zeros((0, 3), int)},
        {"ft": np.array([[0, 1, 2]] * 140), "vt": np.zeros((1, 2))},
        {"ft": np.array([[0, 1, np.inf]] * 140), "vt": np.zeros((9, 2))},
        {"v_template": np.full((420, 3), 1e300)},
        {"v_template": np.array(["a"] * 3)},
        {"kintree_table": np.array(5)},
        {"kintree_table": np.zeros((2, 10**6), np.int8)},
        {"shapedirs": np.zeros((420, 3))},
        {"weights": np.zeros((420, 24), bool)},
        {name: np.zeros((0, 3)) for name in ("v_template", "f")},
    ],
)
def test_arrays_that_make_no_body_are_one_sentence(tmp_path, change):
    np.savez(tmp_path / "body.npz", **(bodies.arrays() | change))
    with pytest.raises(BodyModelError, match=r"^body.*\.$"):
        load(tmp_path / "body.npz")


@pytest.mark.parametrize(
    "line", ["f 99999999999999999999/1 1/1 1/1", "vt nan nan", "vt 1", "f " + "1/" * 100_000, "vt " + "9" * 5000 + " 1"]
)
def test_texture_coordinates_that_are_none_are_left_out(tmp_path, line):
    data = bodies.arrays()
    np.savez(tmp_path / "body.npz", **data)
    faces = ["f " + " ".join(f"{n + 1}/1" for n in face) for face in data["f"].tolist()]
    (tmp_path / "smpl_uv.obj").write_text("\n".join(["vt 0 0", line, *faces]))
    found = load(tmp_path / "body.npz")
    assert found.uv is None or np.isfinite(found.uv).all()


# BVH, bone maps, keys, passes


def _bvh(frames="2", time="0.05", rows=("0 0 0 0 0 0",) * 2, skeleton=None):
    usual = ["HIERARCHY", "ROOT a", "{", "OFFSET 0 0 0", "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"]
    usual += ["End Site", "{", "OFFSET 0 1 0", "}", "}"]
    return "\n".join([*(skeleton or usual), "MOTION", f"Frames: {frames}", f"Frame Time: {time}", *rows, ""]).encode()


@pytest.mark.slow
def test_hostile_bvh_files_are_one_sentence(tmp_path, rng):
    root = ["HIERARCHY", "ROOT a", "{", "OFFSET 0 0 0"]
    files = [
        ("many_frames", _bvh("9" * 9)),
        ("more_frames", _bvh("9" * 6000)),
        ("nan", _bvh(rows=("nan 0 0 0 0 0",) * 2)),
        ("inf", _bvh(rows=("1e999 0 0 0 0 0",) * 2)),
        ("offset", _bvh(skeleton=[*root[:3], "OFFSET nan 0 0", "CHANNELS 3 Zrotation Xrotation Yrotation", "}"])),
        ("channels", _bvh(skeleton=[*root, "CHANNELS " + "9" * 5000 + " Zrotation", "}"])),
        ("many_channels", _bvh(skeleton=[*root, "CHANNELS 1000000 Zrotation", "}"])),
        ("repeated_channels", _bvh(skeleton=[*root, "CHANNELS 5" + " Zrotation" * 5, "}"], rows=("0 0 0 0 0",) * 2)),
        ("endless_line", _bvh(rows=("0 " * 4_000_000,))),
        ("endless_spaces", _bvh(skeleton=["HIERARCHY", " " * 8_000_000 + "ROOT a"])),
        ("empty_lines", b"HIERARCHY\n" + b"\n" * 8_000_000),
        ("returns", b"HIERARCHY\r" * 2_000_000),
        ("many_bones", _bvh(skeleton=["HIERARCHY"] + ["JOINT a", "{", "OFFSET 0 0 0"] * 40_000)),
        ("deep_bones", _bvh(skeleton=["HIERARCHY"] + ["JOINT a", "{", "OFFSET 0 0 0", "CHANNELS 0"] * 900, rows=("",) * 2)),
        ("time", _bvh(time="1e-300")),
        ("times", _bvh(time="-" * 39)),
        ("no_time", _bvh(time="nan")),
        ("no_bones", _bvh(skeleton=["HIERARCHY"], rows=("1",) * 2)),
        ("no_letters", _bvh().replace(b"ROOT a", b"ROOT \xff\xfe")),
        ("closed", _bvh(skeleton=["HIERARCHY", "}", "}", "ROOT a"])),
    ]
    outcomes = reading.check_all("bvh", tmp_path, _write(tmp_path, files, ".bvh"))
    assert {outcome.kind for outcome in outcomes} == {"sentence"}


def test_damaged_bvh_files_are_a_value_or_one_sentence(tmp_path, rng):
    files = [(str(n), hostile.mutate(rng, _bvh())) for n in range(MUTATIONS)]
    reading.check_all("bvh", tmp_path, _write(tmp_path, files, ".bvh"))


def test_hostile_bone_maps_are_one_sentence(tmp_path, rng):
    good = json.dumps({"latentman_bone_map": 1, "bones": {"pelvis": "Hips"}}).encode()
    files = [("good", good), ("deep", b"[" * 500_000), ("deeper", b'{"bones":' * 200_000), ("list", b"[]"), ("number", b"1e999")]
    files += [("wrong", b'{"bones": {"pelvis": [1]}}'), ("digits", b'{"bones": ' + b"9" * 100_000 + b"}")]
    files += [(str(n), hostile.mutate(rng, good)) for n in range(MUTATIONS)]
    outcomes = reading.check_all("bones", tmp_path, _write(tmp_path, files, ".json"))
    assert outcomes[0].kind == "value" and {outcome.kind for outcome in outcomes[1:7]} == {"sentence"}


def _make_pair():
    import zmq

    return zmq.curve_keypair()


def test_damaged_keys_are_one_sentence(tmp_path, rng):
    make_private_folder(tmp_path / "good")
    curve_keys.load_or_create(_make_pair, tmp_path / "good")
    good = curve_keys.find_keys(tmp_path / "good").read_bytes()
    sizes = {"good": len(good)}
    contents = [b"", b"a", good * 2, good[:-2], b"\0" * 200, b"\xff" * 164, b"~" * 164, good.replace(b"\n", b" "), bytes(10 << 20)]
    contents += [hostile.mutate(rng, good) for _ in range(MUTATIONS)]
    for number, data in enumerate(contents):
        path = curve_keys.find_keys(tmp_path / f"{number:03d}")
        path.parent.mkdir(parents=True, mode=0o700)
        path.write_bytes(data)
        path.chmod(0o600)
        sizes[f"{number:03d}"] = len(data)
    if os.name != "nt":
        for name in ("pipe", "device", "folder"):
            path = curve_keys.find_keys(tmp_path / name)
            path.parent.mkdir(parents=True, mode=0o700)
            if name == "pipe":
                os.mkfifo(path, 0o600)
            elif name == "device":
                path.symlink_to("/dev/zero")
            else:
                path.mkdir(mode=0o700)
            sizes[name] = 0
    outcomes = {outcome.name: outcome for outcome in reading.check_all("keys", tmp_path, sizes)}
    assert outcomes["good"].kind == "value" and all(
        outcomes[name].kind == "sentence" for name in ("000", "003", "006", "008", "pipe")
    )


def test_keys_that_do_not_belong_together_are_damaged(tmp_path):
    import zmq

    curve_keys.load_or_create(_make_pair, tmp_path, zmq.curve_public)
    path = curve_keys.find_keys(tmp_path)
    lines = path.read_bytes().split()
    path.write_bytes(b"\n".join([lines[2], lines[1], lines[0], lines[3]]))
    with pytest.raises(curve_keys.KeysError, match="damaged; delete the file"):
        curve_keys.load_or_create(_make_pair, tmp_path, zmq.curve_public)


def test_a_configuration_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(curve_keys.KeysError, match=r"cannot be made or read.*LATENTMAN_CONFIG"):
        curve_keys.load_or_create(_make_pair, tmp_path / "file")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(curve_keys.KeysError, match=r"Read-only file system\); make the folder writable"):
        curve_keys.load_or_create(_make_pair, tmp_path)


def _header(width, height, compression=3, channels=(("depth.V", 2),), top=0):
    listed = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", kind, 0, 1, 1) for name, kind in channels) + b"\0"
    attributes = (
        ("channels", listed),
        ("compression", bytes([compression])),
        ("dataWindow", struct.pack("<4i", 0, top, width - 1, top + height - 1)),
    )
    start = struct.pack("<ii", exr.MAGIC, exr.VERSION)
    return start + b"".join(n.encode() + b"\0x\0" + struct.pack("<i", len(v)) + v for n, v in attributes) + b"\0"


def _list_exr():
    bomb = zlib.compress(bytes(400 << 20), 9)
    for name, (width, height) in {"small": (64, 16), "large": (16_384, 16)}.items():
        header = _header(width, height)
        yield f"chunk_bomb_{name}", header + struct.pack("<Qii", len(header) + 8, 0, len(bomb)) + bomb
    yield "rows", _header(64, 1 << 30) + b"\0" * 64
    yield "rows_without_packing", _header(64, 1 << 30, 0) + b"\0" * 64
    yield "columns", _header((1 << 31) - 1, 4) + b"\0" * 64
    yield "window_of_nothing", _header(0, 0) + b"\0" * 64
    header, chunk = _header(2048, 16_000), zlib.compress(bytes(2048 * 4 * 16), 9)
    yield "one_chunk_for_all", header + struct.pack("<Q", len(header) + 8000) * 1000 + struct.pack("<ii", 0, len(chunk)) + chunk
    header = _header(64, 160_000)
    yield (
        "ten_thousand_offsets",
        header + struct.pack("<Q", len(header) + 80_000) * 10_000 + struct.pack("<ii", 0, len(chunk)) + chunk,
    )
    yield "offsets_beyond", _header(64, 16) + struct.pack("<Q", (1 << 64) - 1) + b"\0" * 64
    header = _header(64, 16)
    for size in (-1, -8, (1 << 31) - 1):
        yield f"chunk_of_{size}", header + struct.pack("<Qii", len(header) + 8, 0, size) + b"\0" * 64
    yield "far_window", _header(64, 16, top=(1 << 31) - 17) + b"\0" * 64
    yield "many_channels", _header(64, 16, channels=[(f"c{n}", 2) for n in range(50_000)])
    yield "equal_channels", _header(64, 16, channels=[("depth.V", 2)] * 3) + b"\0" * 999
    yield "strange_channel", _header(64, 16, channels=[("y", 77)]) + b"\0" * 99
    start = struct.pack("<ii", exr.MAGIC, exr.VERSION)
    yield "attribute_before_itself", start + b"a\0b\0" + struct.pack("<i", -8) + b"\0" * 64
    yield "attribute_long_before", start + b"a\0b\0" + struct.pack("<i", -(1 << 31)) + b"\0" * 64
    yield "attribute_beyond", start + b"a\0b\0" + struct.pack("<i", (1 << 31) - 1)
    yield "attributes_without_end", start + b"a\0b\0\0\0\0\0" * 200_000
    yield "nothing", b""


def _save_passes(folder):
    passes_folder.save(folder, samples.passes(1, 32), PassesManifest(32, 32, 20.0, (1,), 2.0, 4.0))
    return (folder / "0001.exr").read_bytes(), (folder / passes_folder.MANIFEST).read_bytes()


def _list_manifests():
    yield "deep", b"[" * 500_000
    yield "deeper", b'{"people":' + b"[" * 500_000
    for key, value in {
        "width": 1 << 40,
        "height": -4,
        "fps": "a",
        "near": None,
        "frames": [],
        "frames ": [1] * 100_000,
        "cameras": [{"world_to_camera": [1], "projection": []}],
        "people": [{"character": 1, "keypoints": []}],
        "surfaces": [{}],
    }.items():
        yield key.strip() + str(len(key)), {key.strip(): value}


def test_hostile_passes_are_one_sentence(tmp_path, rng):
    picture, manifest = _save_passes(tmp_path / "good")
    cases = [("good", picture, manifest)]
    cases += [(name, data, manifest) for name, data in _list_exr()]
    for name, change in _list_manifests():
        cases.append(
            (f"m_{name}", picture, change if isinstance(change, bytes) else json.dumps(json.loads(manifest) | change).encode())
        )
    for number in range(MUTATIONS * 2):
        cases.append((f"picture{number}", hostile.mutate(rng, picture), manifest))
        cases.append((f"manifest{number}", picture, hostile.mutate(rng, manifest)))
    sizes = {}
    for name, data, described in cases:
        folder = tmp_path / "cases" / name
        folder.mkdir(parents=True)
        (folder / "0001.exr").write_bytes(data)
        (folder / passes_folder.MANIFEST).write_bytes(described)
        sizes[name] = len(data) + len(described)
    # surfaces that fill little of a frame pack well, so files of passes may unpack to more
    outcomes = {outcome.name: outcome for outcome in reading.check_all("passes", tmp_path / "cases", sizes, 64)}
    assert outcomes["good"].kind == "value"
    assert {outcomes[name].kind for name, *_ in cases[1:] if not name[-1].isdigit() or name.startswith("chunk")} == {"sentence"}


@pytest.mark.parametrize("at, value", [(4, 196), (6, 1), (8, 99), (14, 255), (26, 255)])
@pytest.mark.parametrize("header", [b"PK\x03\x04", b"PK\x01\x02"])
def test_a_usdz_that_no_program_could_have_packed_is_damaged(tmp_path, header, at, value):
    """The version that it needs, encryption, the kind of compression, checksums and lengths, in either of its two lists."""
    from latentman.blender_addon.motion.scene_file_headers import read_scene_file_header
    from tools.torture.motion_samples import pack_usdz

    content = bytearray(pack_usdz())
    start = content.index(header)
    content[start + at + (2 if header == b"PK\x01\x02" else 0)] = value
    path = tmp_path / "walk.usdz"
    path.write_bytes(content)
    try:
        assert read_scene_file_header(path).rate > 0
    except MotionError as error:
        assert "damaged" in str(error)
