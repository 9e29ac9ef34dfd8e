"""Checkpoints, text encoders, looks and pictures of others: each gives a value or one sentence, whatever it claims."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from PIL import Image  # noqa: E402

from latentman.backend.motion.checkpoints import load_checkpoint  # noqa: E402
from latentman.backend.motion.registry import STARTER  # noqa: E402
from latentman.backend.motion.text import TextEncoder  # noqa: E402
from latentman.backend.motion.weights import read_safetensors, read_torch_file  # noqa: E402
from latentman.backend.pictures import decode_png, encode_png  # noqa: E402
from latentman.backend.reference_pictures import FORMATS  # noqa: E402
from latentman.shared.motion import MotionError  # noqa: E402
from tests import hostile, reading, samples  # noqa: E402
from tests.backend.test_motion_model import _write  # noqa: E402

MUTATIONS = 15


def _check(reader, folder, factor=8.0):
    sizes = {path.name: sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) for path in folder.iterdir()}
    return {outcome.name: outcome.kind for outcome in reading.check_all(reader, folder, sizes, factor)}


@pytest.mark.parametrize(
    "change",
    [
        {"latent_dim": 10**6},
        {"latent_dim": 1024},
        {"latent_dim": 17},
        {"latent_dim": 18, "num_heads": 4},
        {"latent_dim": 1e400},
        {"latent_dim": -16},
        {"latent_dim": 0},
        {"latent_dim": True},
        {"latent_dim": "16"},
        {"latent_dim": [16]},
        {"latent_dim": None},
        {"layers": 10**9},
        {"layers": 3},
        {"layers": 2.5},
        {"ff_size": 10**12},
        {"ff_size": {"a": 1}},
        {"num_heads": 10**6},
        {"text_width": 10**7},
        {"diffusion_steps": 10**10},
        {"diffusion_steps": 0},
        {"pred_len": 10**8, "context_len": 20},
        {"pred_len": 40},
        {"toe_height": float("nan")},
        {"toe_height": "high"},
        {"root_emphasis": float("inf")},
        {"root_emphasis": 0},
        {"guidance": [[]]},
        {"guidance": -1},
        {"arch": ["trans_enc"]},
        {"arch": "a\nb" * 1000},
        {"text_encoder_type": {"clip": 1}},
        {"dataset": None},
        {"mask_frames": "yes"},
        {"emb_policy": 5},
        {"multi_target_cond": [0]},
    ],
)
def test_absurd_arguments_are_one_sentence(tmp_path, change):
    _write(tmp_path)
    arguments = json.loads((tmp_path / "args.json").read_text())
    (tmp_path / "args.json").write_text(json.dumps(arguments | change))
    with pytest.raises(MotionError) as caught:
        load_checkpoint(tmp_path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def _zip(entries, method=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def _tensor(count, shape, stride, storage="0", offset=0, kind="FloatStorage"):
    numbers = b"".join(b"\x8a\x08" + struct.pack("<q", side) for side in shape)
    steps = b"".join(b"\x8a\x08" + struct.pack("<q", step) for step in stride)
    key = b"(" + hostile.text("storage") + b"ctorch\n" + kind.encode() + b"\n" + hostile.text(storage) + hostile.text("cpu")
    key += b"\x8a\x08" + struct.pack("<q", count) + b"tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + key
        + b"\x8a\x08"
        + struct.pack("<q", offset)
        + b"("
        + numbers
        + b"t("
        + steps
        + b"t\x89N"
        b"tR"
    )


def _list_weights():
    content = bytes(64)
    for name, value in {
        "stride_0": _tensor(16, (10**9,), (0,)),
        "beyond": _tensor(16, (4, 4), (4, 1), offset=8),
        "negative": _tensor(16, (4,), (-1,), offset=8),
        "negative_offset": _tensor(16, (4,), (1,), offset=-8),
        "overflow": _tensor(16, (1 << 62, 4), (1, 1)),
        "claim": _tensor(1 << 40, (4,), (1,)),
        "absent": _tensor(16, (4,), (1,), storage="../../etc/passwd"),
        "kind": _tensor(16, (4,), (1,), kind="QInt8Storage"),
        "bytearray": b"cbuiltins\nbytearray\n(\x8a\x08" + struct.pack("<q", 10**10) + b"tR",
        "tensor": b"ctorch\nTensor\n(\x8a\x08" + struct.pack("<q", 10**10) + b"tR",
        "repeated": b"](" + _tensor(16, (16,), (1,)) * 20_000 + b"e",
    }.items():
        yield name, _zip({"data.pkl": b"\x80\x02" + hostile.dictionary(a=value) + b".", "data/0": content})
    for name, value in hostile.pickles():
        yield f"p_{name}", _zip({"data.pkl": b"\x80\x02" + hostile.dictionary(a=value) + b".", "data/0": content})
    yield (
        "bomb",
        _zip(
            {"data.pkl": b"\x80\x02" + hostile.dictionary(a=_tensor(1 << 20, (4,), (1,))) + b".", "data/0": bytes(400 << 20)},
            zipfile.ZIP_DEFLATED,
        ),
    )
    yield "legacy", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    yield "pickle", b"\x80\x02cos\nsystem\n(" + hostile.text("false") + b"tR."
    yield "empty", b""


def _safetensors(header, content=bytes(64)):
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + content


def _list_safetensors():
    yield "length", struct.pack("<Q", 1 << 62) + b"{}"
    yield "cut", struct.pack("<Q", 500) + b"{}"
    yield "deep", _safetensors(b"[" * 900_000)
    yield "list", _safetensors([1])
    yield "beyond", _safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    yield "shape", _safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 64]}})
    yield "negative", _safetensors({"a": {"dtype": "F32", "shape": [-4, -4], "data_offsets": [0, 64]}})
    yield "shared", _safetensors({f"a{n}": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for n in range(50_000)})
    yield "type", _safetensors({"a": {"dtype": "F99", "shape": [16], "data_offsets": [0, 64]}})
    yield "text", _safetensors({"a": {"dtype": "F32", "shape": "16", "data_offsets": "0"}})


@pytest.mark.slow
def test_hostile_checkpoints_are_one_sentence(tmp_path, rng):
    _write(tmp_path / "good")
    weights = (tmp_path / "good" / "model000050000.pt").read_bytes()
    arguments = (tmp_path / "good" / "args.json").read_bytes()
    mean = (tmp_path / "good" / "Mean.npy").read_bytes()
    cases = [("good", {})]
    cases += [(f"pt_{name}", {"model000050000.pt": data}) for name, data in _list_weights()]
    cases += [(f"st_{name}", {"model000050000.pt": None, "model.safetensors": data}) for name, data in _list_safetensors()]
    cases += [
        ("args_deep", {"args.json": b"[" * 500_000}),
        ("args_list", {"args.json": b"[]"}),
        ("args_digits", {"args.json": b"9" * 9000}),
    ]
    cases += [("mean_object", {"Mean.npy": hostile.as_npy(b"N")}), ("mean_promise", {"Mean.npy": hostile.empty_header((1 << 40,))})]
    for n in range(MUTATIONS):
        cases.append((f"mutated_pt{n}", {"model000050000.pt": hostile.mutate(rng, weights)}))
        cases.append((f"mutated_args{n}", {"args.json": hostile.mutate(rng, arguments)}))
        cases.append((f"mutated_mean{n}", {"Mean.npy": hostile.mutate(rng, mean)}))
    for name in ("pipe_args", "pipe_mean", "pipe_pt", "zero_pt", "zero_args") if os.name != "nt" else ():
        cases.append((name, {}))
    for name, change in cases:
        folder = tmp_path / "cases" / name
        shutil.copytree(tmp_path / "good", folder)
        for file, data in change.items():
            (folder / file).unlink(missing_ok=True)
            if data is not None:
                (folder / file).write_bytes(data)
        kind, _, file = name.partition("_")
        if kind in ("pipe", "zero"):
            path = folder / {"args": "args.json", "mean": "Mean.npy", "pt": "model000050000.pt"}[file]
            path.unlink()
            if kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to("/dev/zero")
    kinds = _check("checkpoint", tmp_path / "cases")
    assert kinds["good"] == "value" and {kinds[name] for name, _ in cases[1:] if "mutated" not in name} == {"sentence"}


@pytest.mark.slow
def test_hostile_model_files_are_told_apart(tmp_path, rng):
    """Each is said to be something, or refused in a sentence; nothing is run, and nothing is made of what they claim."""
    cases = [(f"pt_{name}", data) for name, data in _list_weights()] + [(f"st_{name}", data) for name, data in _list_safetensors()]
    stream = io.BytesIO()
    torch.save({"state_dict": {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3)}}, stream)
    sound = _safetensors({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}})
    for n in range(MUTATIONS * 2):
        cases += [(f"mutated_pt{n}", hostile.mutate(rng, stream.getvalue())), (f"mutated_st{n}", hostile.mutate(rng, sound))]
    many = hostile.dictionary(**{f"a{n}": b"}" for n in range(3000)})
    cases += [("good", stream.getvalue()), ("dictionaries", _zip({"data.pkl": b"\x80\x02" + many + b"."}))]
    nested = b"}q\x00"
    for level in range(1, 4):
        nested = hostile.dictionary(
            **{f"a{n}": (nested + b"q" + bytes([level]) if n == 0 else b"h" + bytes([level])) for n in range(500)}
        )
    cases += [("nested", _zip({"data.pkl": b"\x80\x02" + nested + b"."}))]
    for name, data in cases:
        (tmp_path / name).write_bytes(data)
    if os.name != "nt":
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "zero").symlink_to("/dev/zero")
    sizes = {path.name: 0 if path.name in ("pipe", "zero") else path.stat().st_size for path in tmp_path.iterdir()}
    kinds = {outcome.name: outcome.kind for outcome in reading.check_all("model", tmp_path, sizes, 20)}
    assert kinds["good"] == "value"
    assert {kinds[name] for name, _ in cases if name.startswith("st_")} | {kinds.get("zero"), kinds.get("pipe")} <= {
        "sentence",
        None,
    }
    assert {kinds[f"pt_{name}"] for name in ("stride_0", "beyond", "claim", "absent", "bomb", "empty", "pickle")} == {"sentence"}


def test_weights_are_torchs_own(tmp_path, rng):
    tensors = samples.make_tensors()
    value = tensors | {"nested": {"a": tensors["plain"]}}
    torch.save(value, tmp_path / "a.pt")
    found = read_torch_file((tmp_path / "a.pt").read_bytes())
    for name in set(value) - {"nested"}:
        assert found[name].dtype == value[name].dtype and torch.equal(found[name], value[name]), name
    assert torch.equal(found["nested"]["a"], tensors["plain"])
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "b.pt")
    assert set(read_torch_file((tmp_path / "b.pt").read_bytes())) == {"weight", "bias"}
    from safetensors.torch import save

    flat = {name: tensor.contiguous() for name, tensor in value.items() if isinstance(tensor, torch.Tensor) and name != "parameter"}
    loaded = read_safetensors(save({name: tensor.clone() for name, tensor in flat.items()}, {"format": "pt"}))
    assert set(loaded) == set(flat) and all(torch.equal(loaded[name], flat[name]) for name in flat)


def _copy_encoder(folder):
    shutil.copytree(STARTER / "text_encoder", folder)
    return folder


@pytest.mark.slow
def test_hostile_text_encoders_are_one_sentence(tmp_path):
    root = tmp_path / "cases"
    good = _copy_encoder(root / "good")
    config = json.loads((good / "config.json").read_text())
    cases = {
        "numbers": {"hidden_size": 10**6},
        "vocabulary": {"vocab_size": 10**6},
        "layers": {"num_hidden_layers": 10**6},
        "more_layers": {"num_hidden_layers": 90},
        "words": {"hidden_size": "a"},
        "nested": {"hidden_size": [[1]]},
        "kind": {"model_type": "no such model"},
        "code": {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"},
    }
    for name, change in cases.items():
        folder = _copy_encoder(root / name)
        (folder / "config.json").write_text(json.dumps(config | change))
    (_copy_encoder(root / "deep") / "config.json").write_bytes(b"[" * 500_000)
    for name, data in (
        ("pickled", b"\x80\x02cos\nsystem\n(" + hostile.text("false") + b"tR."),
        ("pickled_in_a_zip", _zip({"data.pkl": b"\x80\x02cos\nsystem\n(" + hostile.text("false") + b"tR."})),
        ("bytes", _zip({"data.pkl": b"\x80\x02cbuiltins\nbytearray\n(\x8a\x08" + struct.pack("<q", 10**10) + b"tR."})),
        ("no_network", b"PK"),
    ):
        folder = _copy_encoder(root / name)
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(data)
    (_copy_encoder(root / "empty") / "model.safetensors").write_bytes(b"")
    (_copy_encoder(root / "tokens") / "tokenizer.json").write_bytes(b"{")
    (root / "folder").mkdir()
    if os.name != "nt":
        os.mkfifo(_copy_encoder(root / "pipe") / "vocab.json")
        (_copy_encoder(root / "device") / "merges.txt").symlink_to("/dev/zero")
    kinds = _check("text", root)
    assert kinds.pop("good") == "value" and set(kinds.values()) == {"sentence"}


def test_a_pickled_text_encoder_gives_the_same_vectors(tmp_path):
    from safetensors.torch import load_file

    folder = _copy_encoder(tmp_path / "own")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found, usual = (
        TextEncoder("clip", str(path), torch.device("cpu"))("a person waves") for path in (folder, STARTER / "text_encoder")
    )
    assert torch.equal(found.vectors, usual.vectors)


def _png(width, height, data=b"", chunks=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_damaged_pictures_are_one_error(rng):
    good = encode_png(rng.integers(0, 255, (9, 7, 3), "uint8"))
    assert decode_png(good).shape == (9, 7, 3)
    cases = [
        _png(1 << 30, 1 << 30),
        _png(20_000, 20_000),
        _png(8000, 8000),
        _png(0, 0),
        _png(64, 64),
        b"",
    ]
    cases += [b"GIF89a" + bytes(50), b"\x89PNG\r\n\x1a\n"] + [good[:n] for n in range(0, len(good) - 16, 7)]
    for data in cases:
        with pytest.raises((OSError, ValueError)):
            decode_png(data)
    for _ in range(300):
        try:
            assert decode_png(hostile.mutate(rng, good)).ndim == 3
        except (OSError, ValueError):
            pass


def _look():
    from latentman.backend.video.lattice import SurfaceTexture
    from latentman.backend.video.look import Anchor, Look, Plate
    from tests import samples

    texture = SurfaceTexture(0.01, torch.arange(5), torch.rand(5, 4))
    anchor = Anchor(torch.rand(3, 4, 8, 8), (torch.rand(1, 3, 64, 64),), samples.passes(1))
    return Look(texture, anchor, Plate.empty(64, 64), {1: "body"}, (1, 2)).encode()


@pytest.mark.slow
def test_damaged_looks_are_one_sentence(tmp_path, rng):
    good = _look()
    with np.load(io.BytesIO(good)) as archive:
        arrays = dict(archive)
    cases = [("good", good)] + [(f"mutated{n}", hostile.mutate(rng, good)) for n in range(MUTATIONS * 2)]
    for name, change in (
        ("side", {"side": np.array(np.nan)}),
        ("cells", {"cells": np.zeros(5, np.int64)}),
        ("floats", {"cells": np.zeros(5)}),
        ("values", {"values": np.zeros((4, 4), np.float32)}),
        ("trajectory", {"trajectory": np.zeros((3,), np.float32)}),
        ("plate", {"plate": np.zeros((64, 64), np.uint8)}),
        ("control", {"control_0": np.array(["a"])}),
        ("mask", {"pass_mask": np.zeros((1, 9, 9), np.uint8)}),
        ("names", {"surface_names": np.array(["a", "b"])}),
    ):
        stream = io.BytesIO()
        np.savez(stream, **(arrays | change))
        cases.append((name, stream.getvalue()))
    cases += [(f"archive_{name}", data) for name, data in hostile.archives("cells")]
    for name, data in cases:
        (tmp_path / name).write_bytes(data)
    # a plate and its passes pack well, so a look may unpack to more
    kinds = _check("look", tmp_path, 64)
    assert kinds["good"] == "value"
    assert {kinds[name] for name, _ in cases[1:] if "mutated" not in name} == {"sentence"}


def test_damaged_settings_of_models_are_one_sentence(tmp_path, rng):
    good = b'{"width": 512, "steps": 25, "scheduler": "euler", "negative_prompt": "fog", "zero_terminal_snr": false}'
    cases = {"good": good, "empty": b"", "nothing": b"{}", "deep": b'{"note": ' + b"[" * 60_000 + b"]" * 60_000 + b"}"}
    cases |= {
        "large": b" " * (65 << 10) + good,
        "lines": b'{"a\\nb": 1}',
        "words": b'{"scheduler": "a\\nb"}',
        "half": b'{"negative_prompt": "\\ud800"}',
        "number": b'{"steps": ' + b"9" * 5000 + b"}",
        "infinite": b'{"guidance_scale": 1e999}',
        "nan": b'{"guidance_scale": NaN}',
        "twice": b'{"steps": 0, "steps": 5}',
        "latin": b'{"negative_prompt": "gr\xfcn"}',
        "zeros": b"\0" * 100,
    }
    cases |= {f"mutated{n}": hostile.mutate(rng, good) for n in range(MUTATIONS * 4)}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    kinds = _check("settings", tmp_path)
    assert {kinds[name] for name in ("good", "nothing", "twice")} == {"value"}
    assert {
        kinds[name] for name in ("empty", "deep", "large", "lines", "words", "half", "number", "infinite", "nan", "latin", "zeros")
    } == {"sentence"}


@pytest.mark.slow
def test_damaged_reference_pictures_are_one_sentence(tmp_path, rng):
    own = Image.fromarray(rng.integers(0, 255, (40, 40, 3)).astype(np.uint8))
    for kind in FORMATS:
        stream = io.BytesIO()
        own.save(stream, kind)
        (tmp_path / f"good_{kind}").write_bytes(stream.getvalue())
        for n in range(MUTATIONS):
            (tmp_path / f"{kind}_{n}").write_bytes(hostile.mutate(rng, stream.getvalue()))
    # small files of pictures that take more than there is
    for kind in ("PNG", "GIF"):
        stream = io.BytesIO()
        Image.new("1", (30_000, 30_000)).save(stream, kind)
        (tmp_path / f"bomb_{kind}").write_bytes(stream.getvalue())
    # one that is not plain enough to be read: it would be a program
    (tmp_path / "page.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n")
    kinds = _check("reference", tmp_path, 64)
    assert {kinds[f"good_{kind}"] for kind in FORMATS} == {"value"}
    assert {kinds["bomb_PNG"], kinds["bomb_GIF"], kinds["page.eps"]} == {"sentence"}


@pytest.mark.slow
def test_damaged_pictures_of_clips_are_one_sentence(tmp_path, rng):
    own = Image.fromarray(rng.integers(0, 255, (40, 40, 3)).astype(np.uint8))
    ends = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "GIF": "gif"}
    for kind, end in ends.items():
        stream = io.BytesIO()
        own.save(stream, kind)
        (tmp_path / f"good_{kind}.{end}").write_bytes(stream.getvalue())
        for n in range(MUTATIONS):
            (tmp_path / f"{kind}_{n}.{end}").write_bytes(hostile.mutate(rng, stream.getvalue()))
    for kind in ("PNG", "GIF"):
        stream = io.BytesIO()
        Image.new("1", (30_000, 30_000)).save(stream, kind)
        (tmp_path / f"bomb_{kind}.{ends[kind]}").write_bytes(stream.getvalue())
    (tmp_path / "page.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n")
    kinds = _check("clip", tmp_path, 64)
    assert {kinds[f"good_{kind}.{end}"] for kind, end in ends.items()} == {"value"}
    assert {kinds["bomb_PNG.png"], kinds["bomb_GIF.gif"], kinds["page.png"]} == {"sentence"}
