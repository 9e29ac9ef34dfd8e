"""Clips as others make them: names, numbers, depths, sizes and formats, as files of other programs have them."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from latentman.backend.__main__ import main
from latentman.backend.metrics.clips import open_clip
from latentman.backend.metrics.measuring import measure_saved
from latentman.backend.pictures import decode_png
from latentman.shared import passes_folder
from latentman.shared.manifest import PassesManifest
from latentman.shared.shot import ShotError
from tests import samples

FRAMES, SIDE = (1, 2, 3, 4), 64


def _make_pictures() -> np.ndarray:
    """(4, 64, 64, 3) uint8 of noise that is another one in each frame, which no clip survives with a good figure."""
    coarse = np.random.default_rng(3).integers(0, 256, (len(FRAMES), SIDE // 4, SIDE // 4, 3))
    return coarse.repeat(4, 1).repeat(4, 2).astype(np.uint8)


def _write_png16(path, pixels):
    """Pixels (H, W) or (H, W, 3) uint16 as a PNG file, byte by byte as the specification has it."""
    height, width = pixels.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2 if pixels.ndim == 3 else 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    data = b"".join(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def _write(folder, names, images, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name, **options)
    return folder


@pytest.fixture(scope="module")
def pictures():
    return _make_pictures()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "disc"
    passes_folder.save(folder, samples.passes(len(FRAMES), SIDE, 3), PassesManifest(SIDE, SIDE, 20.0, FRAMES, 2.0, 4.0))
    return folder


def _read(paths, frames=FRAMES):
    clip = open_clip(paths if isinstance(paths, list) else [paths], frames, (SIDE, SIDE))
    return np.stack(list(clip)), clip


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0001.png", "0002.png", "0003.png", "0004.png"], ""),
        (["frame_0001.png", "frame_0002.png", "frame_0003.png", "frame_0004.png"], ""),
        (["1.png", "2.png", "3.png", "4.png"], ""),
        (["shot2_v3.0007.png", "shot2_v3.0008.png", "shot2_v3.0009.png", "shot2_v3.0010.png"], "numbered 7 to 10"),
        (["Ground Truth 8.PNG", "Ground Truth 9.PNG", "Ground Truth 10.PNG", "Ground Truth 11.PNG"], "numbered 8 to 11"),
        (["frame-00000_rgb.png", "frame-00001_rgb.png", "frame-00002_rgb.png", "frame-00003_rgb.png"], "numbered 0 to 3"),
        (["-2.png", "-1.png", "0.png", "1.png"], "numbered -2 to 1"),
        (["100.png", "110.png", "120.png", "130.png"], "numbered 100 to 130"),
        (["1.png", "2.PNG", "3.png", "4.PNG"], ""),
    ],
)
def test_pictures_have_any_names(tmp_path, pictures, names, said):
    found, clip = _read(_write(tmp_path, names, pictures))
    assert np.array_equal(found, pictures) and clip.format == "PNG"
    assert said in " ".join(clip.warnings) and bool(clip.warnings) == bool(said)


def test_the_frames_numbers_choose_among_more_pictures(tmp_path, pictures):
    folder = _write(tmp_path, [f"f{n:03d}.png" for n in range(4)], pictures)
    found, clip = _read(folder, (2, 3))
    assert np.array_equal(found, pictures[2:]) and "4 pictures" in clip.warnings[0]
    Image.new("RGB", (9, 9)).save(tmp_path / "contact_sheet.png")
    assert "contact_sheet.png is no part" in _read(folder, (2, 3))[1].warnings[0]


def test_a_list_and_a_pattern_are_a_clip(tmp_path, pictures):
    _write(tmp_path, [f"a_{n}.png" for n in FRAMES], pictures)
    _write(tmp_path, [f"b_{n}.png" for n in FRAMES], pictures[::-1])
    with pytest.raises(ShotError, match=r"several kinds: a_\*\.png \(4\), b_\*\.png \(4\); say which"):
        _read(tmp_path)
    assert np.array_equal(_read(tmp_path / "a_*.png")[0], pictures)
    assert np.array_equal(_read([tmp_path / f"b_{n}.png" for n in reversed(FRAMES)])[0], pictures[::-1]), "by numbers, not as given"


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["0001.png", "0002.png", "0003.png"], "has 3 pictures, numbered 1 to 3, but the shot has 4 frames"),
        (["0001.png", "0002.png", "0003.png", "0005.png"], "none with the number 4"),
        (["1.png", "0001.png", "2.png", "3.png"], "the same number"),
        (["a.png", "b.png", "c.png", "d.png"], "no numbers in their names"),
        (["a1.png", "a2.png", "b1.png", "b2.png"], "several kinds"),
        (["a1b1.png", "a2b2.png", "a3b3.png", "a4b4.png"], "more than one number"),
        ([], "holds no pictures"),
    ],
)
def test_what_is_no_clip_of_the_shot_is_refused(tmp_path, pictures, names, match):
    with pytest.raises(ShotError, match=match):
        _read(_write(tmp_path, names, pictures[: len(names)]))


def test_sixteen_bits_are_rounded_and_never_perfect(tmp_path, pictures, saved):
    """A library that clips 16 bits to 8 makes nearly all of it white, which flickers nowhere."""
    colour, grey = tmp_path / "colour", tmp_path / "grey"
    for folder in (colour, grey):
        folder.mkdir()
    for n, image in zip(FRAMES, pictures, strict=True):
        _write_png16(colour / f"{n}.png", image.astype(np.uint16) * 257)
        _write_png16(grey / f"{n}.png", image[..., 1].astype(np.uint16) * 257)
    found, clip = _read(colour)
    assert np.array_equal(found, pictures) and clip.format == "16-bit PNG" and "16 bits" in clip.warnings[0]
    found, clip = _read(grey)
    assert np.array_equal(found, pictures[..., 1:2].repeat(3, -1)) and clip.format == "16-bit grey PNG"
    assert any("figures of colour say nothing" in sentence for sentence in clip.warnings)
    assert np.array_equal(decode_png((grey / "1.png").read_bytes()), found[0]), "wherever a PNG is read"
    assert measure_saved(saved, [grey]).figures["hmse"] > 500
    # ten bits in the low end of sixteen are black, which flickers nowhere either
    for n, image in zip(FRAMES, pictures, strict=True):
        _write_png16(grey / f"{n}.png", image[..., 1].astype(np.uint16))
    assert any("of one colour and show nothing" in sentence for sentence in measure_saved(saved, [grey]).warnings)


@pytest.mark.parametrize(
    ("suffix", "options", "format", "said"),
    [
        ("jpg", {"quality": 95}, "JPEG", "what it loses is part of every figure"),
        ("webp", {"lossless": True}, "WEBP", "what it loses"),
        ("tif", {}, "TIFF", ""),
        ("bmp", {}, "BMP", ""),
    ],
)
def test_formats_are_said_for_what_they_are(tmp_path, pictures, suffix, options, format, said):
    found, clip = _read(_write(tmp_path, [f"{n}.{suffix}" for n in FRAMES], pictures, **options))
    assert clip.format == format and said in " ".join(clip.warnings) and bool(clip.warnings) == bool(said)
    assert np.abs(found.astype(int) - pictures).mean() < 25


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK"])
def test_modes_are_read_as_they_look(tmp_path, mode):
    ramp = np.repeat(np.linspace(0, 255, SIDE).round().astype(np.uint8)[None, :, None], SIDE, 0).repeat(3, -1)
    for n in FRAMES:
        Image.fromarray(ramp).convert(mode).save(tmp_path / f"{n}.{'tif' if mode == 'CMYK' else 'png'}")
    found, clip = _read(tmp_path)
    assert (
        np.abs(found.astype(int) - ramp).mean() < {"1": 130, "P": 20}.get(mode, 8)
        and found[0, :, -8:].mean() > found[0, :, :8].mean()
    )
    assert ("figures of colour" in " ".join(clip.warnings)) == (mode in ("L", "LA", "1"))


def test_alpha_is_said(tmp_path, pictures):
    clear = np.concatenate([pictures, np.full((*pictures.shape[:3], 1), 100, np.uint8)], -1)
    found, clip = _read(_write(tmp_path, [f"{n}.png" for n in FRAMES], clear))
    assert np.array_equal(found, pictures) and "alpha is left out" in clip.warnings[0]


def test_other_sizes_are_resampled_and_other_aspects_refused(tmp_path, pictures):
    double = pictures.repeat(2, 1).repeat(2, 2)
    found, clip = _read(_write(tmp_path / "double", [f"{n}.png" for n in FRAMES], double))
    assert np.abs(found.astype(int) - pictures).mean() < 15 and clip.size_text == "128x128 resampled to 64x64"
    assert "resampled" in clip.warnings[0]
    with pytest.raises(ShotError, match="crop them"):
        _read(_write(tmp_path / "wide", [f"{n}.png" for n in FRAMES], pictures.repeat(2, 2)))
    _write(tmp_path / "double", ["3.png"], pictures[:1])
    with pytest.raises(ShotError, match=r"3\.png is 64x64, the first picture of its clip 128x128"):
        _read(tmp_path / "double")


def test_animations_are_clips(tmp_path, pictures):
    frames = [Image.fromarray(image) for image in pictures]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert np.array_equal(_read(tmp_path / "a.png")[0], pictures)
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found, clip = _read(tmp_path / "a.gif")
    assert np.abs(found.astype(int) - pictures).mean() < 40 and clip.format == "GIF" and clip.warnings
    with pytest.raises(ShotError, match="has 4 pictures, but the shot has 3"):
        _read(tmp_path / "a.png", (1, 2, 3))


def test_damage_is_a_sentence(tmp_path, pictures):
    folder = _write(tmp_path, [f"{n}.png" for n in FRAMES], pictures)
    data = (folder / "3.png").read_bytes()
    for damaged in (b"", b"nonsense", data[:60], data[: len(data) // 2], data[:40] + bytes(200) + data[240:]):
        (folder / "3.png").write_bytes(damaged)
        with pytest.raises(ShotError, match=r"3\.png cannot be read .*save it again as PNG"):
            _read(folder)
    Image.fromarray(np.ones((SIDE, SIDE), np.float32)).save(tmp_path / "3.tif")
    (folder / "3.png").unlink()
    with pytest.raises(ShotError):
        _read(folder)


def test_a_film_is_decoded_or_says_what_to_do(tmp_path, pictures, monkeypatch):
    film = tmp_path / "clip.mp4"
    film.write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(ShotError, match="there is no ffmpeg here to decode it"):
            _read(film)
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("there is no ffmpeg here")
    with pytest.raises(ShotError, match="no film that ffmpeg can decode"):
        _read(film)
    _write(tmp_path / "frames", [f"{n}.png" for n in FRAMES], pictures)
    made = [program, "-v", "error", "-y", "-framerate", "20", "-i", str(tmp_path / "frames" / "%d.png"), "-pix_fmt", "yuv420p"]
    subprocess.run([*made, "-c:v", "libx264", "-crf", "5", str(film)], check=True)
    found, clip = _read(film)
    assert clip.format == "H.264" and "compression" in clip.warnings[0] and found.shape == pictures.shape
    assert all(np.abs(found[n].astype(int) - pictures[n]).mean() < 50 for n in range(4)), "each frame once, in order"
    with pytest.raises(ShotError, match="has more than 3 pictures, but the shot has 3 frames"):
        _read(film, (1, 2, 3))


def test_the_command_measures_all_figures(tmp_path, pictures, saved, capsys):
    steady = _write(tmp_path / "steady", [f"frame_{n:04d}.png" for n in FRAMES], pictures[:1].repeat(4, 0))
    noise = _write(tmp_path / "noise", [f"frame_{n:04d}.jpg" for n in FRAMES], pictures)
    assert main(["measure", str(saved), str(noise), "--reference", str(steady), "--json", str(tmp_path / "new" / "f.json")]) == 0
    answer = capsys.readouterr()
    figures = json.loads(answer.out)
    assert figures["hmse"] > 500 and figures["background_error"] > 500 and figures["detail"] > 0 and "JPEG" in answer.err
    stored = json.loads((tmp_path / "new" / "f.json").read_text())
    assert stored["figures"] == figures and stored["format"] == "JPEG" and stored["version"]
    assert main(["measure", str(saved), *(str(steady / f"frame_{n:04d}.png") for n in FRAMES)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["background_error"] == 0 and figures["detail"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "There is no nowhere"),
        (("{saved}/passes.json",), "is no clip"),
        (("{saved}",), "holds no pictures"),
        (("{saved}", "--json", "/proc/x.json"), "cannot be written"),
        (("{saved}", "--json", "{saved}"), "is a folder"),
        (("{saved}", "{saved}"), "is no picture"),
    ],
)
def test_nonsense_to_measure_is_a_sentence(saved, capsys, arguments, said):
    assert main(["measure", str(saved), *(argument.format(saved=saved) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_no_command_writes_over_what_it_reads(tmp_path, pictures, saved, capsys):
    folder = _write(tmp_path / "mine", [f"{n}.png" for n in FRAMES], pictures)
    before = {path: path.read_bytes() for root in (folder, saved) for path in root.iterdir()}
    out = saved / "passes.json"
    assert main(["measure", str(saved), str(folder), "--json", str(folder / "1.png")]) == 2
    assert main(["measure", str(saved), str(folder), "--json", str(out)]) == 2
    assert main(["evaluate", str(saved), "--frames-from", f"mine={folder}", "--json", str(folder / "1.png")]) == 2
    assert main(["shots", "pack", str(saved), "--licence", "CC0", "--out", str(out)]) == 2
    assert all("would be lost; name another file" in line for line in capsys.readouterr().err.splitlines())
    assert before == {path: path.read_bytes() for root in (folder, saved) for path in root.iterdir()}


@pytest.mark.parametrize(("place", "said"), [("nowhere", "There is no "), (".", "there is no passes.json")])
def test_a_folder_without_passes_is_said_for_what_it_is(tmp_path, capsys, place, said):
    assert main(["measure", str(tmp_path / place), str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and "Errno" not in line


@pytest.mark.parametrize(("dtype", "format"), [("uint16 grey", "16-bit grey TIFF"), ("uint16 colour", "16-bit TIFF")])
def test_tiff_of_16_bits_is_said_for_what_it_is(tmp_path, pictures, dtype, format):
    for n, image in zip(FRAMES, pictures, strict=True):
        grey, deep = image[..., 1], image.astype("<u2") * 257
        if dtype == "uint16 grey":
            Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / f"{n}.tif")
            continue
        # colours of 16 bits as one strip, tag by tag as the specification has it
        tags = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140)]
        tags += [(277, 3, 1, 3), (278, 4, 1, SIDE), (279, 4, 1, deep.nbytes), (284, 3, 1, 1)]
        head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        (tmp_path / f"{n}.tif").write_bytes(head + struct.pack("<I", 0) + struct.pack("<3H", 16, 16, 16) + deep.tobytes())
    found, clip = _read(tmp_path)
    expected = pictures if dtype == "uint16 colour" else pictures[..., 1:2].repeat(3, -1)
    assert np.array_equal(found, expected) and clip.format == format
    assert any("have 16 bits, of which figures see 8" in sentence for sentence in clip.warnings)


def test_grey_with_alpha_of_16_bits_is_grey(tmp_path, pictures):
    for n, image in zip(FRAMES, pictures, strict=True):
        pixels = np.stack([image[..., 1].astype(">u2") * 257, np.full((SIDE, SIDE), 65535, ">u2")], -1)
        lines = b"".join(b"\0" + row.tobytes() for row in pixels)
        parts = [(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 16, 4, 0, 0, 0)), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
        body = b"".join(struct.pack(">I", len(part)) + k + part + struct.pack(">I", zlib.crc32(k + part)) for k, part in parts)
        (tmp_path / f"{n}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert _read(tmp_path)[1].format == "16-bit grey PNG"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_are_turned_as_they_say(tmp_path, pictures, suffix):
    exif = Image.Exif()
    exif[274] = 6  # to be seen turned to the right by a quarter
    for n, image in zip(FRAMES, pictures, strict=True):
        Image.fromarray(np.rot90(image).copy()).save(tmp_path / f"{n}.{suffix}", exif=exif)
    found, clip = _read(tmp_path)
    assert np.array_equal(found, pictures) and "were turned by that" in " ".join(clip.warnings)


def test_a_picture_that_stands_in_for_an_animation_is_no_frame(tmp_path, pictures):
    frames = [Image.fromarray(image) for image in pictures]
    Image.new("RGB", (SIDE, SIDE), "red").save(tmp_path / "a.png", save_all=True, append_images=frames, default_image=True)
    assert np.array_equal(_read(tmp_path / "a.png")[0], pictures)


def test_what_is_no_picture_and_what_matches_nothing_are_said(tmp_path, pictures):
    folder = _write(tmp_path, [f"{n}.png" for n in FRAMES], pictures)
    (folder / "2.png").write_bytes(b"nonsense")
    with pytest.raises(ShotError, match=r"2\.png cannot be read \(it is damaged, or no picture\)"):
        _read(folder)
    with pytest.raises(ShotError, match=r"has a name like .*b_\*\.png"):
        _read(folder / "b_*.png")
    with pytest.raises(ShotError, match="has 1 picture, but"):
        _read(folder / "1.png")


#: a program in ffmpeg's place: it tells of a stream, or copies pictures and complains; asked for V it leaves out covers
STAND_IN = """#!/bin/sh
for last; do :; done
case "$last" in
*%08d.png) case "$*" in *" -map 0:V:0 "*) ;; *) exit 1;; esac
  for n in 1 2 3 4; do cp "{source}/$n.png" "${{last%/*}}/0000000$n.png"; done; printf '%s' "{complaint}" >&2;;
*) printf '%s' "{streams}" >&2; exit 1;;
esac
"""
STREAM = "  Stream #0:0: Video: "


@pytest.mark.skipif(os.name == "nt", reason="the program is a shell's")
@pytest.mark.parametrize(
    ("streams", "complaint", "format", "said"),
    [
        (STREAM + "prores (4444), yuv444p10le(tv), 64x64", "", "10-bit ProRes", ["is a film (ProRes)", "have 10 bits"]),
        (STREAM + "ffv1, gbrp, 64x64", "", "FFV1", []),
        (STREAM + "ffv1, rgb48le, 64x64", "", "16-bit FFV1", ["have 16 bits"]),
        (STREAM + "ffv1, gbrp, 64x64", "[ffv1 @ 0x5] CRC mismatch 1", "FFV1", ["may be damaged: ffmpeg says 'CRC mismatch 1'"]),
        (STREAM + "ffv1, gbrp\n  Stream #0:1: Video: h264, yuv420p", "", "FFV1", ["holds 2 films; the first"]),
        (STREAM + "ffv1, gbrp\n  Stream #0:1: Video: png, rgb24 (attached pic)", "", "FFV1", []),
        (STREAM + "png, rgb24 (attached pic)\n  Stream #0:1: Video: ffv1, gbrp", "", "FFV1", []),
        (STREAM + "ffv1 (FFV1 / 0x31564646), yuv420p10le(tv)", "", "10-bit FFV1", ["colours at a lower resolution", "10 bits"]),
        (STREAM + "ffv1, yuv444p, 64x64", "", "FFV1", []),
        (STREAM + "rawvideo (UYVY / 0x59565955), uyvy422, 64x64", "", "rawvideo", ["colours at a lower resolution"]),
        (STREAM + "ffv1, gbrp16le(pc, bt2020nc/bt2020/smpte2084)", "", "16-bit FFV1", ["high dynamic range", "16 bits"]),
    ],
)
def test_films_are_said_for_what_they_are(tmp_path, pictures, monkeypatch, streams, complaint, format, said):
    source = _write(tmp_path / "source", [f"{n}.png" for n in FRAMES], pictures)
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(source=source, complaint=complaint, streams=streams))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "clip.mkv").write_bytes(b"film")
    found, clip = _read(tmp_path / "clip.mkv")
    assert np.array_equal(found, pictures) and clip.format == format and len(clip.warnings) == len(said)
    assert all(words in " ".join(clip.warnings) for words in said)
