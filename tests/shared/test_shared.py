"""Messages, requests, motions, keys: what both sides rely on."""

from __future__ import annotations

import os
import stat
import tracemalloc
import zlib

import msgspec
import numpy as np
import pytest

from latentman.shared import console, curve_keys, exr, files, messages, passes_folder, version
from latentman.shared.depth import FAR_VALUE, normalise_depth
from latentman.shared.manifest import PassesManifest
from latentman.shared.motion import Motion, MotionError
from latentman.shared.passes import check_passes
from latentman.shared.shot import ShotError, check_request
from tests import samples


def test_messages_carry_arrays_unchanged(rng):
    sent = {"image": rng.integers(0, 255, (4, 5, 3)).astype(np.uint8), "depth": rng.random((2, 3), np.float32)}
    parts = [bytes(p) for p in messages.encode(messages.FrameResult(ticket="j", index=1, frame=7), sent)]
    message, arrays = messages.decode(parts)
    assert message == messages.FrameResult(ticket="j", index=1, frame=7)
    assert all((arrays[name] == sent[name]).all() for name in sent)


def test_another_protocol_version_is_named():
    header = msgspec.msgpack.encode({"protocol": 99, "body": {"type": "Hello"}})
    with pytest.raises(messages.WireError, match="protocol 99") as caught:
        messages.decode([header])
    assert caught.value.code == "protocol"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda parts: [],
        lambda parts: [b"\xc1garbage", *parts[1:]],
        lambda parts: parts[:1],
        lambda parts: [parts[0], parts[1][:-1]],
        lambda parts: [parts[0].replace(b"uint8", b"objec"), parts[1]],
    ],
)
def test_malformed_messages_are_refused(spoil):
    parts = [bytes(p) for p in messages.encode(messages.Hello(), {"x": np.zeros(4, np.uint8)})]
    with pytest.raises(messages.WireError) as caught:
        messages.decode(spoil(parts))
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prompt": "  "}, "prompt"),
        ({"preset": "magic"}, "preset"),
        ({"frames": ()}, "frames"),
        ({"width": 4}, "width"),
        ({"steps": -1}, "steps"),
        ({"height": 7}, "height"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
    ],
)
def test_bad_settings_are_refused_with_a_sentence(change, code):
    with pytest.raises(ShotError) as caught:
        check_request(samples.request(**change))
    assert caught.value.code == code and str(caught.value).endswith(".")


def test_passes_must_fit_the_request():
    request, arrays = samples.request(), samples.passes().arrays()
    check_passes(request, arrays)
    spoiled = dict(arrays, depth=np.where(arrays["depth"] > 0, np.nan, arrays["depth"]))
    for wrong, word in (
        (dict(arrays, uv=arrays["uv"][:1]), "uv"),
        (spoiled, "not numbers"),
        ({k: v for k, v in arrays.items() if k != "rest_position"}, "missing"),
    ):
        with pytest.raises(ShotError, match=word):
            check_passes(request, wrong)


def test_depth_is_near_one_far_above_zero_background_zero():
    found = normalise_depth(np.array([2.0, 3.0, 4.0, 1e10, np.inf]), 2.0, 4.0)
    assert found == pytest.approx([1.0, (1 + FAR_VALUE) / 2, FAR_VALUE, 0.0, 0.0])


def test_resampling_keeps_the_ends_and_the_duration(rng):
    motion = Motion.from_joints(rng.random((21, 22, 3)), 20.0, "x.npy")
    other = motion.resample(30.0)
    assert other.frame_count == 31 and other.fps == 30.0
    assert other.joints[0] == pytest.approx(motion.joints[0]) and other.joints[-1] == pytest.approx(motion.joints[-1])
    assert other.joints[3] == pytest.approx(motion.joints[2])
    assert Motion.from_joints(rng.random((1, 22, 3)), 20.0, "x").resample(24).frame_count == 1


@pytest.mark.parametrize(("source", "scene"), [(60, 24), (60, 24 / 1.001), (30, 24), (120, 25), (24, 60), (50, 29.97), (20, 20)])
@pytest.mark.parametrize("count", [2, 41, 42, 43, 44, 45])
def test_resampled_frames_lie_at_their_own_times(source, scene, count):
    """Joints that are where the time is; the last frame is held, or dropped, when it lies between two."""
    times = np.arange(count) / source
    motion = Motion.from_joints(np.broadcast_to(times[:, None, None], (count, 22, 3)), source, "x").resample(scene)
    wanted = np.arange(motion.frame_count) / scene
    assert motion.joints[:, 0, 0] == pytest.approx(np.minimum(wanted, times[-1]))
    assert abs(wanted[-1] - times[-1]) <= 0.5 / scene + 1e-9


@pytest.mark.parametrize(
    ("joints", "word"),
    [
        (np.zeros((0, 22, 3)), "no frames"),
        (np.zeros((4, 17, 3)), "17 joints"),
        (np.full((4, 22, 3), np.nan), "not numbers"),
        (np.zeros((4, 22)), "shape"),
    ],
)
def test_unusable_motions_are_refused(joints, word):
    with pytest.raises(MotionError, match=word):
        Motion.from_joints(joints, 20.0, "x.npy")


@pytest.mark.parametrize(
    ("text", "frames"), [("1-4", (1, 2, 3, 4)), ("1-9:4", (1, 5, 9)), ("3,7", (3, 7)), ("-2-1", (-2, -1, 0, 1)), ("5", (5,))]
)
def test_frame_ranges(text, frames):
    assert console.parse_frames(text) == frames


@pytest.mark.parametrize("text", ["", "a-b", "9-1", "1-5:0"])
def test_wrong_frame_ranges(text):
    with pytest.raises(ShotError):
        console.parse_frames(text)


def test_keys_are_private_and_stay(tmp_path):
    import zmq

    made = curve_keys.load_or_create(zmq.curve_keypair, tmp_path)
    path = tmp_path / "keys" / "curve.txt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert curve_keys.load_or_create(zmq.curve_keypair, tmp_path) == made
    path.write_text("broken")
    with pytest.raises(ValueError, match="damaged"):
        curve_keys.load_or_create(zmq.curve_keypair, tmp_path)


def test_saved_passes_come_back(tmp_path):
    manifest = PassesManifest(64, 64, 20.0, (1, 2, 3), 2.0, 4.0)
    passes_folder.save(tmp_path, samples.passes(), manifest)
    found, read = passes_folder.load(tmp_path)
    assert read == manifest
    assert all((found.arrays()[name] == array).all() for name, array in samples.passes().arrays().items())
    (tmp_path / "0002.exr").unlink()
    with pytest.raises(ShotError, match="render them again"):
        passes_folder.load(tmp_path)


@pytest.mark.parametrize("count", [1, exr.ROW - 1, exr.ROW, exr.ROW + 1, 5 * exr.ROW + 77])
def test_running_sums_of_bytes_are_numpys(rng, count):
    differences = rng.integers(0, 256, count, dtype=np.uint8)
    assert (exr.sum_up(differences) == np.cumsum(differences, dtype=np.uint8)).all()


def test_passes_saved_under_former_channel_names_can_be_read(tmp_path):
    passes = samples.passes(1)
    passes_folder.save(tmp_path, passes, PassesManifest(64, 64, 20.0, (1,), 2.0, 4.0))
    path = tmp_path / "0001.exr"
    channels = exr.read_channels(path)
    assert "rest_position.X" in channels
    path.write_bytes(exr.encode_channels({name.replace("rest_position", "rest"): values for name, values in channels.items()}))
    found, _ = passes_folder.load(tmp_path)
    assert (found.rest_position == passes.rest_position).all()


def test_looks_are_named_by_folder_or_job(tmp_path):
    (tmp_path / "report.json").write_text('{"job": "0123456789abcdef01234567"}')
    assert console.find_job(str(tmp_path)) == console.find_job("0123456789abcdef01234567") == "0123456789abcdef01234567"
    assert console.find_job("") == ""
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ShotError, match="no report of a finished shot"):
        console.find_job(str(tmp_path))


def test_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ShotError, match="cannot be written"):
        console.check_writable(tmp_path / "file")


def _make_passes(rng, dtype, shape):
    smooth = np.cumsum(rng.normal(0, 0.01, shape), axis=2)
    return (smooth * 100 if np.dtype(dtype).kind == "u" else smooth).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("float32", (1, 64, 96)),
        ("float32", (1, 64, 96, 3)),
        ("float16", (1, 64, 96, 3)),
        ("uint8", (9000,)),
        ("uint16", (1, 64, 96)),
    ],
)
def test_packed_arrays_are_the_same_to_the_last_bit(dtype, shape):
    rng = np.random.default_rng(3)
    array = _make_passes(rng, dtype, shape) if len(shape) > 1 else np.zeros(shape, dtype)
    array.reshape(-1)[:2] = (0, 1) if np.dtype(dtype).kind == "u" else (-0.0, np.float16(6e-8))
    noise = rng.integers(0, 256, 9000, np.uint8)
    parts = messages.encode_packed(messages.Hello(), {"a": array, "noise": noise, "tiny": array.reshape(-1)[:3]})
    found = messages.decode([bytes(part) for part in parts])[1]
    assert found["a"].tobytes() == array.tobytes() and found["a"].dtype == array.dtype and found["a"].shape == shape
    assert not found["a"].flags.writeable
    assert np.array_equal(found["noise"], noise) and len(found["tiny"]) == 3
    assert len(bytes(parts[1])) < 0.9 * array.nbytes and len(bytes(parts[2])) == 9000, "noise stays as it is"


def _claim(data, shape, dtype="uint8"):
    """A message that claims that ``data`` unpacks to an array of a shape."""
    whole = np.zeros(shape, dtype)
    return [bytes(part) for part in messages.encode(messages.Hello(), {"a": whole}, {"a": data})]


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (zlib.compress(bytes(50 << 20)), (5000,)),
        (zlib.compress(bytes(4999)), (5000,)),
        (zlib.compress(bytes(5001)), (5000,)),
        (zlib.compress(bytes(5000)) + b"x", (5000,)),
        (zlib.compress(bytes(5000))[:-1], (5000,)),
        (b"no archive", (5000,)),
    ],
)
def test_what_unpacks_to_something_else_is_refused(data, shape):
    message, arrived = messages.decode_header(_claim(data, shape))
    assert isinstance(message, messages.Hello), "only whoever unpacks it meets it"
    tracemalloc.start()
    try:
        with pytest.raises(messages.WireError, match="'a'") as raised:
            arrived.read()
        assert raised.value.code == "malformed" and tracemalloc.get_traced_memory()[1] < 1 << 20, "no more is made than was claimed"
    finally:
        tracemalloc.stop()


def test_arrays_that_claim_to_unpack_to_more_than_a_message_has_are_refused():
    """Fifty megabytes of zeros would unpack to fifty gigabytes."""
    header = {"protocol": version.PROTOCOL, "body": {"type": "Hello"}}
    for one in ({"shape": [64 << 30], "packed": 20}, {"shape": [20], "packed": 2 << 30}, {"shape": [20], "packed": 7}):
        packed = msgspec.msgpack.encode({**header, "arrays": [{"name": "a", "dtype": "uint8", **one}]})
        with pytest.raises(messages.WireError):
            messages.decode_header([packed, bytes(20)])
    half = {"dtype": "float32", "shape": [messages.MAX_BYTES // 8 + 1], "packed": 20}
    packed = msgspec.msgpack.encode({**header, "arrays": [{"name": name, **half} for name in "ab"]})
    with pytest.raises(messages.WireError, match="size that is not allowed"):
        messages.decode_header([packed, bytes(20), bytes(20)])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_devices_and_pipes_are_never_replaced_by_files(tmp_path):
    pipe = tmp_path / "figures.json"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a regular file"):
        files.write_atomically(pipe, b"{}")
    with pytest.raises(ShotError, match="a device or a pipe; name a file"):
        console.check_writable_file(pipe)
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("shot/passes.json", True),
        ("shot/0001.exr", True),
        ("clip/deep/0001.png", True),
        ("bench.zip", True),
        ("link.json", True),
        ("clip/figures.json", False),
        ("clip/mine.zip", False),
        ("other/passes.json", False),
        ("clip/new.png", False),
    ],
)
def test_what_is_read_is_not_written_over(tmp_path, name, spared):
    for made in ("shot/passes.json", "shot/0001.exr", "clip/deep/0001.png", "bench.zip", "clip/figures.json", "clip/mine.zip"):
        (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / made).write_bytes(b"x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "passes.json").write_bytes(b"x")
    (tmp_path / "link.json").symlink_to(tmp_path / "shot" / "passes.json")
    read = [tmp_path / "shot", tmp_path / "clip", tmp_path / "bench.zip", tmp_path / "nowhere"]
    if spared:
        with pytest.raises(ShotError, match="would be lost; name another file"):
            console.check_spared(tmp_path / name, read)
    else:
        console.check_spared(tmp_path / name, read)
