"""The benchmark's file: without loss, the same bytes each time, read as it is, and safe whoever made it."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import struct
import zipfile
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.metrics import zip_reading  # noqa: E402
from latentman.backend.metrics.packed_passes import pack_pass, unpack_pass  # noqa: E402
from latentman.backend.metrics.packed_shots import MANIFEST, Benchmark, NamedPasses, compute_fingerprint, pack_shots  # noqa: E402
from latentman.backend.metrics.reference_shots import read_shots  # noqa: E402
from latentman.backend.metrics.zip_reading import ZipReader, is_safe_name  # noqa: E402
from latentman.shared import passes_folder  # noqa: E402
from latentman.shared.manifest import PassesManifest  # noqa: E402
from latentman.shared.passes import EXTRA_LAYOUT, PASS_LAYOUT  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from tests import samples  # noqa: E402

FRAMES, SIDE = 3, 48


def _make(name, shift=3):
    passes = samples.passes(FRAMES, SIDE, shift)
    vectors = np.zeros((FRAMES, SIDE, SIDE, 2), np.float32)
    vectors[passes.mask > 0] = (0.1, -3.7)
    return NamedPasses(
        name, replace(passes, motion_vectors=vectors), PassesManifest(SIDE, SIDE, 20.0, tuple(range(1, FRAMES + 1)), 2.0, 4.0)
    )


@pytest.fixture(scope="module")
def packed():
    """Two shots' archive and manifest."""
    return pack_shots([_make("walk"), _make("dance", 5)], ("a man",), (1, 2), "CC0-1.0", "Do what you like.\n")


@pytest.fixture
def archive(packed, tmp_path):
    path = tmp_path / "benchmark.zip"
    path.write_bytes(packed[0])
    return path


def _read(path):
    with zipfile.ZipFile(path) as found:
        return {name: found.read(name) for name in found.namelist()}


def _write(path, files, **changes):
    with zipfile.ZipFile(path, "w") as made:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            for key, value in changes.get(name.replace("/", "_").replace(".", "_"), {}).items():
                setattr(entry, key, value)
            made.writestr(entry, data)
    return path


@pytest.mark.parametrize("name", [*PASS_LAYOUT, *EXTRA_LAYOUT])
def test_every_pass_comes_back_to_the_last_bit(name):
    dtype, trailing = (PASS_LAYOUT | EXTRA_LAYOUT)[name]
    random = np.random.default_rng(3)
    shape = (2, 7, 5)
    mask = (random.random(shape) < 0.4).astype(np.uint8)
    array = np.frombuffer(random.bytes(70 * int(np.prod(trailing)) * np.dtype(dtype).itemsize), dtype).reshape(*shape, *trailing)
    for values, where in (
        (array, mask),
        (array, np.ones_like(mask)),
        (np.zeros_like(array), mask),
        (np.where(mask.reshape(*shape, *[1] * len(trailing)) > 0, array, 0), mask),
    ):
        again = unpack_pass(name, pack_pass(name, values.astype(dtype), where), shape)
        assert again.dtype == np.dtype(dtype) and again.tobytes() == values.astype(dtype).tobytes(), "bits, not numbers: NaN too"


def test_the_same_shots_are_the_same_bytes(packed, archive, tmp_path, capsys):
    again, manifest = pack_shots([_make("walk"), _make("dance", 5)], ("a man",), (1, 2), "CC0-1.0", "Do what you like.\n")
    assert again == packed[0] and manifest == packed[1]
    folders = []
    for shot in (_make("walk"), _make("dance", 5)):
        passes_folder.save(tmp_path / "saved" / shot.name, shot.passes, shot.manifest)
        folders.append(str(tmp_path / "saved" / shot.name))
    raw = sum(path.stat().st_size for path in (tmp_path / "saved").rglob("*.exr"))
    assert len(packed[0]) < raw
    (tmp_path / "terms.txt").write_text("Do what you like.\n")
    options = [
        "--licence",
        "CC0-1.0",
        "--licence-file",
        str(tmp_path / "terms.txt"),
        "--prompt",
        "a man",
        "--seed",
        "1",
        "--seed",
        "2",
    ]
    assert main(["shots", "pack", *folders, *options, "--out", str(tmp_path / "mine.zip")]) == 0
    said = capsys.readouterr().out
    assert manifest.fingerprint in said and "licence: CC0-1.0" in said
    assert (tmp_path / "mine.zip").read_bytes() == packed[0]
    assert main(["shots", "verify", str(archive)]) == 0 and "All of it is what it says" in capsys.readouterr().out
    # prompts and seeds belong to it as the shots do
    other = pack_shots([_make("walk"), _make("dance", 5)], ("a man",), (1, 3), "CC0-1.0", "")[1]
    assert other.fingerprint != manifest.fingerprint and other.shots == manifest.shots


def test_it_is_used_as_it_is_and_unpacked(archive, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["shots", "unpack", str(archive), "--out", str(out)]) == 0
    assert (out / "LICENCE.txt").read_text().startswith("CC0-1.0")
    assert main(["shots", "verify", str(out)]) == 0
    made, there = (read_shots([path]) for path in (archive, out))
    assert [shot.name for shot in made] == ["walk", "dance"]
    prints = [shot.fingerprint for shot in made]
    assert prints == [shot.fingerprint for shot in there] == [read_shots([out / shot.name])[0].fingerprint for shot in made]
    clip = tmp_path / "clip"
    clip.mkdir()
    for n in range(1, FRAMES + 1):
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(clip / f"{n:04d}.png")
    found = []
    for passes, more in ((archive, ["--shot", "dance"]), (out, ["--shot", "dance"]), (out / "dance", [])):
        assert main(["measure", str(passes), str(clip), *more, "--json", str(tmp_path / "figures.json")]) == 0
        found.append(json.loads((tmp_path / "figures.json").read_text()))
    assert found[0]["figures"] == found[1]["figures"] == found[2]["figures"] and found[0]["figures"]["hmse"] > 100
    assert {one["passes_fingerprint"] for one in found} == {prints[1]} and {one["shot"] for one in found} == {"dance"}
    assert len({one["frames_fingerprint"] for one in found}) == 1
    capsys.readouterr()
    for arguments, said in (
        (["measure", str(archive), str(clip)], "has several shots"),
        (["measure", str(archive), str(clip), "--shot", "run"], "choose from walk, dance"),
        (["measure", str(out / "walk"), str(clip), "--shot", "walk"], "no benchmark"),
        (["shots", "unpack", str(archive), "--out", str(out)], "is there already"),
        (["shots", "pack", str(out / "walk"), "--out", str(tmp_path / "x.zip")], "--licence"),
        (["shots", "pack", "--licence", "mine", "--out", str(tmp_path / "x.zip")], "CC0-1.0"),
        (["shots", "pack", "--seed", "-1", "--out", str(tmp_path / "x.zip")], "seed"),
        (["shots", "pack", "--frames", "0", "--out", str(tmp_path / "x.zip")], "0 frames"),
        (["shots", "pack", "--out", str(tmp_path)], "is a folder"),
    ):
        assert main(arguments) == 2 and said in capsys.readouterr().err, arguments
    assert main(["shots", "verify", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["event"] == "failed"


def test_damage_is_found(packed, archive, tmp_path):
    out = tmp_path / "out"
    assert main(["shots", "unpack", str(archive), "--out", str(out)]) == 0
    frame = passes_folder.PassesFolder(out / "walk").frame(0)
    passes_folder.save_frame(
        out / "walk", 1, replace(frame, uv=frame.uv + np.float32(1e-6)), msgspec.convert({}, passes_folder.PassesHeader)
    )
    with pytest.raises(ShotError, match="not those that were packed"):
        read_shots([out])
    data = bytearray(packed[0])
    # a bit in each part of the file
    for place in np.linspace(0, len(data) - 1, 60).astype(int).tolist():
        data[place] ^= 4
        archive.write_bytes(data)
        data[place] ^= 4
        try:
            with Benchmark(archive) as found:
                shots = [found.read(shot.name) for shot in found.manifest.shots]
        except ShotError as error:
            assert len(str(error)) < 600
        else:
            assert shots, "what decides nothing, such as a time"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ShotError, match="not a regular file"):
        Benchmark(tmp_path / "pipe")
    for cut in (0, 1, 30, len(data) // 2, len(data) - 1):
        archive.write_bytes(data[:cut])
        with pytest.raises(ShotError, match="no readable"):
            Benchmark(archive)


def _lie(files, change):
    """The files with a manifest that was changed, and whose own hash was made right again."""
    manifest = json.loads(files[MANIFEST])
    change(manifest)
    shots = [(shot["name"], shot["fingerprint"]) for shot in manifest["shots"]]
    manifest["fingerprint"] = compute_fingerprint(shots, manifest["prompts"], manifest["seeds"])
    return files | {MANIFEST: json.dumps(manifest).encode()}


def _replace_stream(files, name, data):
    def change(manifest):
        shot, file = name.split("/")
        entry = next(one for one in manifest["shots"] if one["name"] == shot)
        entry["files"][file] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    return _lie(files, change) | {name: data}


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "walk/../../evil",
        "C:/evil",
        "walk\\evil",
        "con",
        "walk/nul.txt",
        "a:b",
        "walk//x",
        "walk/.",
        "walk/x.",
        "",
    ],
)
def test_names_lead_nowhere_else(packed, archive, tmp_path, name):
    assert not is_safe_name(name)
    _write(archive, _read(archive) | {name: b"x"})
    with pytest.raises(ShotError, match="no readable"):
        Benchmark(archive)
    lied = _lie(_read(_restore(packed, archive)), lambda manifest: manifest["shots"][0].update(name=name))
    _write(archive, lied)
    with pytest.raises(ShotError, match="no readable"):
        Benchmark(archive)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmark.zip"]


def _restore(packed, archive):
    archive.write_bytes(packed[0])
    return archive


def test_hostile_archives_are_sentences(packed, archive, tmp_path):
    files = _read(archive)
    bomb = lzma.compress(bytes(48 << 20), preset=0)
    large = dict(frames=10_000, width=16_384, height=16_384)
    lies = {
        "a link": lambda: _write(archive, files, walk_uv_xz={"external_attr": 0o120777 << 16}),
        "compressed in an unusual way": lambda: _write(archive, files, walk_uv_xz={"compress_type": zipfile.ZIP_BZIP2}),
        "is missing in it": lambda: _write(archive, {name: data for name, data in files.items() if name != "walk/uv.xz"}),
        "is not listed": lambda: _write(archive, files | {"walk/more.xz": b"x"}),
        "Walk/uv.xz twice": lambda: _write(archive, files | {"Walk/uv.xz": b"x"}),
        "two of one name": lambda: _write(archive, _lie(files, lambda m: m["shots"][1].update(name="WALK"))),
        "far more than its size": lambda: _write(archive, _lie(files, lambda m: m["shots"][0].update(large))),
        "fingerprint is not that": lambda: _write(archive, files | {MANIFEST: files[MANIFEST].replace(b'"a man"', b'"a mad"')}),
        "of the form": lambda: _write(archive, _lie(files, lambda m: m.update(format="latentman benchmark 9"))),
        "no prompts": lambda: _write(archive, _lie(files, lambda m: m.update(prompts=[]))),
        "other files than passes": lambda: _write(
            archive, _lie(files, lambda m: m["shots"][0]["files"].update({"x.pkl": {"size": 1, "sha256": ""}}))
        ),
        "without benchmark.json": lambda: _write(archive, {"a.txt": b"x"}),
        "Expected": lambda: _write(archive, files | {MANIFEST: b"[3]"}),
        "comment behind": lambda: archive.write_bytes(packed[0] + b"more"),
        "too many files": lambda: archive.write_bytes(_claim_entries(packed[0])),
        "very large files": lambda: archive.write_bytes(packed[0][:-22] + b"PK\x06\x07" + bytes(16) + packed[0][-22:]),
    }
    for said, make in lies.items():
        make()
        with pytest.raises(ShotError) as error:
            Benchmark(archive)
        assert said in str(error.value) and len(str(error.value)) < 600, said
    for name, data, said in (
        ("walk/uv.xz", bomb, "another size"),
        ("walk/uv.xz", b"cos\nsystem\n(S'true'\ntR.", "is damaged"),
        ("walk/uv.xz", files["walk/uv.xz"] + b"more", "another size"),
        ("walk/uv.xz", files["walk/uv.xz"][:-20], "another size"),
        ("walk/uv.xz", files["walk/mask.xz"], "another size"),
        ("walk/passes.json", b"{}", "required field"),
        ("walk/passes.json", files["walk/passes.json"].replace(b'"width":48', b'"width":64'), "another size"),
        (
            "walk/uv.xz",
            pack_pass("uv", np.full((FRAMES, SIDE, SIDE, 2), np.nan, np.float32), np.zeros((FRAMES, SIDE, SIDE))),
            "not numbers",
        ),
        ("walk/uv.xz", files["dance/uv.xz"], "not those that were packed"),
    ):
        _write(archive, _replace_stream(files, name, data))
        with Benchmark(archive) as found, pytest.raises(ShotError) as error:
            found.read("walk")
        assert said in str(error.value), (name, said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmark.zip"], "nothing was written anywhere"


def _claim_entries(data):
    return data[:-22] + data[-22:-14] + struct.pack("<HHI", 60_000, 60_000, 1 << 30) + data[-6:]


def test_an_archive_unpacks_to_no_more_than_it_says(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a", bytes(1 << 20))
    with ZipReader(path) as found, pytest.raises(ValueError, match="more than the 1000"):
        found.read("a", 1000)
    monkeypatch.setattr(zip_reading, "FREE", 0)
    with pytest.raises(ValueError, match="far more than its size"):
        ZipReader(path)
    # what is claimed is not what is there
    data = path.read_bytes().replace(struct.pack("<I", 1 << 20), struct.pack("<I", 1000))
    monkeypatch.setattr(zip_reading, "FREE", 1 << 30)
    path.write_bytes(data)
    with ZipReader(path) as found, pytest.raises(ValueError, match=r"damaged|another size"):
        found.read("a", 1000)
