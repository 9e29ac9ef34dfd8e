"""A look as a file: parts of its shot come out as in the whole one, and what does not belong to it is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image

from latentman.backend.__main__ import main
from latentman.backend.models.identity import identify
from latentman.shared import look_file, passes_folder
from latentman.shared.look_file import decode_look_file, encode_look_file, is_same_view, make_view, read_look_file
from latentman.shared.manifest import FrameEntry, PassesHeader, PassesManifest
from latentman.shared.messages import Accepted, Failed, Finished, PassesWanted, SendPasses, SubmitShot
from latentman.shared.overview import compute_overview_size, shrink_passes
from latentman.shared.shot import ShotError
from tests import samples
from tests.checkout import ROOT

COUNT = 8
PROMPT = "a man in a red shirt"
#: key frames are few, so that most frames are made from the look
METHOD = ("--steps", "3", "--keyframes-count", "2", "--keyframes-strength", "0.7", "--keyframes-least-gain", "0")


def make_passes(size=64, shift=3, roll=0.02):
    """A disc that rolls to the right, so that every frame shows some surface that the one before it does not."""
    passes = samples.passes(COUNT, size, shift)
    for n in range(COUNT):
        passes.rest_position[n, ..., 0] += roll * shift * n * (passes.mask[n] > 0)
    return passes


def save_passes(folder, size=64, shift=3, first=1, roll=0.02):
    passes_folder.save(
        folder, make_passes(size, shift, roll), PassesManifest(size, size, 20.0, tuple(range(first, first + COUNT)), 1.0, 3.0)
    )
    return folder


@pytest.fixture(scope="module")
def farm(tmp_path_factory, tiny):
    """A folder with the passes of a shot and its look, made by the command."""
    folder = tmp_path_factory.mktemp("farm")
    save_passes(folder / "passes")
    assert (
        call(
            "look",
            folder / "passes",
            "--prompt",
            PROMPT,
            "--model",
            tiny,
            *METHOD,
            "--out",
            folder / "shot.look",
            store=folder / "a",
        )
        == 0
    )
    return folder


def call(command, *arguments, store):
    return main([command, *map(str, arguments), "--jobs", str(store), "--json"])


def make(farm, out, *arguments, passes=None, look=None, store=None):
    look = farm / "shot.look" if look is None else look
    return call("generate", passes or farm / "passes", "--look", look, "--out", out, *arguments, store=store or out.parent / "jobs")


def read_all(folder):
    return {int(path.stem): path.read_bytes() for path in folder.glob("*.png")}


@pytest.fixture(scope="module")
def whole(farm):
    """The frames of the whole shot, from its look."""
    assert make(farm, farm / "whole") == 0
    return read_all(farm / "whole")


def last_event(capsys):
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return json.loads(lines[-1])


@pytest.mark.parametrize(
    "parts", [("8", "3", "1", "5", "2", "7", "6", "4"), ("4-8", "1-3"), ("1-8:2", "2-8:2"), ("2,7,1", "3-6", "8")]
)
def test_parts_in_any_size_and_order_are_the_whole_shot(farm, whole, tmp_path, parts):
    for n, part in enumerate(parts):
        # every part on a machine of its own
        assert make(farm, tmp_path / "out", "--frames", part, store=tmp_path / f"machine {n}") == 0
    assert read_all(tmp_path / "out") == whole
    assert len(list((tmp_path / "out").glob("report_*.json"))) == len(parts) and not (tmp_path / "out" / "report.json").exists()


def test_the_whole_shot_without_the_file_differs_by_a_level_at_most(farm, whole, tmp_path, tiny):
    """There frames go through the networks together, whose sums then end in other last bits."""
    assert (
        call("generate", farm / "passes", "--prompt", PROMPT, "--model", tiny, *METHOD, "--out", tmp_path, store=tmp_path / "jobs")
        == 0
    )
    keyframes = {row + 1 for row in read_look_file(farm / "shot.look").description.keyframes}
    assert 1 < len(keyframes) < COUNT
    for frame, data in whole.items():
        (tmp_path / "of the look.png").write_bytes(data)
        ours, plain = (
            np.asarray(Image.open(path)).astype(int) for path in (tmp_path / "of the look.png", tmp_path / f"{frame:04d}.png")
        )
        difference = np.abs(ours - plain)
        assert difference.max() <= (0 if frame in keyframes else 1) and (difference > 0).mean() < 0.002


@pytest.mark.slow
def test_a_part_may_be_made_again_and_by_two_at_once(farm, whole, tmp_path):
    command = [
        sys.executable,
        "-m",
        "latentman.backend",
        "generate",
        str(farm / "passes"),
        "--look",
        str(farm / "shot.look"),
        "--json",
    ]
    command += ["--out", str(tmp_path / "out"), "--jobs", str(tmp_path / "jobs")]
    running = [
        subprocess.Popen([*command, "--frames", part], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for part in ("1-4", "3-6", "3-6")
    ]
    ended = [(one.communicate(timeout=200), one.returncode) for one in running]
    assert [code for _, code in ended] == [0, 0, 0], ended
    first = read_all(tmp_path / "out")
    assert make(farm, tmp_path / "out", "--frames", "3-6") == 0
    assert read_all(tmp_path / "out") == first == {frame: whole[frame] for frame in range(1, 7)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("--scheduler", "euler_a"),
        ("--scheduler", "dpm++_sde", "--surface-noise", "0.5"),
        # every step, so that the coarse fusion is among them
        ("--keyframes-strength", "1", "--fusion-coarse", "0.9"),
        ("--keyframes-guided", "--background-prompt", "a beach"),
        ("--no-shared-noise", "--no-background"),
    ],
)
def test_parts_are_the_whole_shot_with_every_kind_of_setting(farm, tmp_path, tiny, more):
    arguments = ("--prompt", PROMPT, "--model", tiny, *METHOD, *more)
    assert call("look", farm / "passes", *arguments, "--out", tmp_path / "shot.look", store=tmp_path / "jobs") == 0
    for name, parts in (("whole", ("1-8",)), ("parts", ("5", "1-4", "6-8"))):
        for part in parts:
            assert make(farm, tmp_path / name, "--frames", part, look=tmp_path / "shot.look", store=tmp_path / part) == 0
    assert read_all(tmp_path / "whole") == read_all(tmp_path / "parts") and len(read_all(tmp_path / "whole")) == COUNT


def test_a_part_brings_its_settings_and_refuses_others(farm, tmp_path, tiny, capsys):
    assert make(farm, tmp_path / "same", "--frames", "2", "--prompt", PROMPT, "--steps", "3", "--preset", "surface") == 2, (
        "other techniques"
    )
    assert "techniques" in last_event(capsys)["message"]
    assert make(farm, tmp_path / "same", "--frames", "2", "--prompt", PROMPT, "--steps", "3", *METHOD[2:]) == 0
    for arguments, code, words in (
        (("--steps", "4"), "look", "another steps"),
        (("--prompt", "a wolf"), "look", "another prompt"),
        (("--negative-prompt", "fog"), "look", "another negative prompt"),
        (("--seed", "7"), "look", "another seed"),
        (("--keyframes-strength", "0.6"), "look", "other techniques"),
        (("--preset", "latentman"), "look", "cannot keep a look"),
        (("--model", "starter"), "look", "another model"),
        (("--model", "nope"), "model", "no model 'nope'"),
        (("--frames", "9"), "frames", "no passes of frame 9; it has 1-8"),
        (("--frames", "3,3"), "frames", "twice"),
        (("--frames", "3-1"), "frames", "is empty"),
        (("--look", str(tmp_path / "no.look")), "look", "cannot be read"),
        (("--look", "no.look"), "look", "cannot be read"),
        (("--look", str(ROOT / "README.md")), "look", "it is no archive"),
        (("--look", "nope"), "look", "The look nope cannot be read"),
    ):
        assert make(farm, tmp_path / "refused", *arguments) == 2
        event = last_event(capsys)
        assert (event["event"], event["code"]) == ("failed", code) and words in event["message"], event
        assert not list((tmp_path / "refused").glob("*.png")) if (tmp_path / "refused").exists() else True


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        (dict(size=32), "frames of 64x64, and the passes have 32x32"),
        (dict(roll=0.03), "Frame 4 does not show what it showed"),
        (dict(shift=-3), "Frame 4 does not show what it showed"),
        (dict(first=101), "frames 1-8, and frame 104 is none of them"),
    ],
)
def test_another_shot_s_passes_are_refused(farm, tmp_path, capsys, passes, words):
    other = save_passes(tmp_path / "other", **passes)
    frames = "104-106" if "first" in passes else "4-6"
    assert make(farm, tmp_path / "out", "--frames", frames, passes=other) == 2
    event = last_event(capsys)
    assert event["code"] == "look" and words in event["message"] and not list((tmp_path / "out").glob("*.png"))


def test_passes_with_another_depth_range_are_refused(farm, tmp_path, capsys):
    passes_folder.save(tmp_path / "part", make_passes(), PassesManifest(64, 64, 20.0, tuple(range(1, COUNT + 1)), 1.0, 3.5))
    assert make(farm, tmp_path / "out", passes=tmp_path / "part") == 2
    assert "depth range" in last_event(capsys)["message"]


def rewrite(farm, path, **changes):
    """The look with its description changed."""
    own = read_look_file(farm / "shot.look")
    description = msgspec.structs.replace(own.description, **changes)
    path.write_bytes(encode_look_file(description, own.look, own.frames, own.views, own.reference))
    return path


def test_a_look_of_another_version_is_refused(farm, tmp_path, capsys):
    look = rewrite(farm, tmp_path / "old.look", version="0.0.9")
    assert make(farm, tmp_path / "out", look=look) == 2
    assert "made by LatentMan 0.0.9" in last_event(capsys)["message"]


@pytest.mark.parametrize(
    "changes",
    [
        dict(keyframes=(0, 99)),
        dict(keyframes=()),
        dict(keyframes=(-1, 2)),
        dict(request=samples.request(COUNT, preset="surface", look="0" * 24)),
        dict(request=samples.request(COUNT, preset="surface", width=0, height=0)),
        dict(request=samples.request(3, preset="surface")),
        dict(request=samples.request(COUNT, 96, preset="surface")),
        dict(request=samples.request(COUNT, preset="surface", prompt=" ")),
    ],
)
def test_a_look_whose_parts_do_not_belong_together_is_refused(farm, tmp_path, changes):
    with pytest.raises(ShotError, match=r"The look .*give one that latentman look has made") as caught:
        read_look_file(rewrite(farm, tmp_path / "strange.look", **changes))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_damaged_look_is_refused_or_the_same(farm, tmp_path, rng):
    data = (farm / "shot.look").read_bytes()
    own = decode_look_file(data)
    for n in (0, 10, len(data) // 2, len(data) - 30, len(data) - 1):
        with pytest.raises(ShotError, match=r"cannot be read|not one that latentman look"):
            decode_look_file(data[:n])
    for _ in range(60):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            found = decode_look_file(bytes(damaged))
        except ShotError as error:
            assert str(error).endswith(".") and "\n" not in str(error)
            continue
        # archives have checksums: only what is beside the data can differ
        assert (found.description, found.look, found.frames) == (own.description, own.look, own.frames)


def test_the_same_look_is_the_same_file(farm, tmp_path, tiny):
    assert (
        call(
            "look",
            farm / "passes",
            "--prompt",
            PROMPT,
            "--model",
            tiny,
            *METHOD,
            "--out",
            tmp_path / "b.look",
            store=tmp_path / "b",
        )
        == 0
    )
    assert (tmp_path / "b.look").read_bytes() == (farm / "shot.look").read_bytes()


def test_a_model_is_told_by_its_files_wherever_they_lie(farm, whole, tmp_path, tiny, capsys):
    moved = shutil.copytree(tiny, tmp_path / "elsewhere" / "model")
    assert identify(str(moved)) == identify(tiny)
    assert make(farm, tmp_path / "out", "--frames", "2-3", "--model", moved) == 0
    assert read_all(tmp_path / "out") == {frame: whole[frame] for frame in (2, 3)}
    weights = max(moved.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1
    weights.write_bytes(data)
    assert identify(str(moved)) != identify(tiny)
    assert make(farm, tmp_path / "out", "--frames", "2-3", "--model", moved) == 2
    assert "another model" in last_event(capsys)["message"]


def test_a_look_needs_key_frames_and_a_place(farm, tmp_path, tiny, capsys):
    (tmp_path / "file").write_text("in the way")
    look = ("look", farm / "passes", "--prompt", PROMPT, "--model", tiny)
    for arguments, code, words in (
        (("--preset", "latentman", "--out", tmp_path / "a.look"), "preset", "use surface or surface_fast"),
        (("--preset", "per_frame", "--out", tmp_path / "a.look"), "preset", "use surface or surface_fast"),
        (("--no-keyframes", "--out", tmp_path / "a.look"), "preset", "use surface or surface_fast"),
        (("--out", tmp_path), "disk", "is a folder"),
        (("--out", tmp_path / "file" / "a.look"), "disk", "cannot be written"),
    ):
        assert call(*look, *arguments, store=tmp_path / "jobs") == 2
        event = last_event(capsys)
        assert event["code"] == code and words in event["message"], event
    assert not list(tmp_path.glob("*.look"))


def test_views_tell_frames_apart_and_overlook_a_pixel():
    passes = samples.passes(3, 256, 12)
    views = [make_view(passes.select([n])) for n in range(3)]
    small = make_view(shrink_passes(samples.passes(1, 512, 0)))
    assert is_same_view(views[0], views[0]) and not is_same_view(views[0], views[1]) and not is_same_view(views[0], views[2])
    assert is_same_view(small, make_view(samples.passes(1, 512, 0))), "the small copy of a frame shows what the frame does"
    assert all(view.shape[:2] == (look_file.VIEW_SIDE,) * 2 for view in views[0].values())


# -- over the wire ----------------------------------------------------------------------------------------------------------


def answer_all(client, passes, ticket):
    """Send the passes that are asked for until the end; (the end, its arrays, which frames were asked for in full)."""
    asked = []
    while True:
        found = client.receive(60)
        assert found is not None
        message, arrays = found
        if isinstance(message, PassesWanted):
            frame = passes.select([message.index])
            asked += [] if message.overview else [message.index]
            sent = shrink_passes(frame) if message.overview else frame
            client.send(
                SendPasses(ticket=ticket, index=message.index, entry=FrameEntry(), overview=message.overview), sent.arrays()
            )
        elif isinstance(message, (Finished, Failed)):
            return message, arrays, asked
        else:
            assert not isinstance(message, Accepted) or message.job


def test_only_key_frames_of_large_shots_are_asked_for(server, tiny):
    size, client = 272, server.connect()
    passes = make_passes(size, 10)
    assert compute_overview_size(size, size) != (size, size)
    method = msgspec.structs.replace(look_file_method(), keyframes=msgspec.structs.replace(look_file_method().keyframes, count=2))
    request = samples.request(COUNT, size, preset="surface", model=tiny, guidance_scale=1.5, method=method)
    client.send(SubmitShot(ticket="look", request=request, header=PassesHeader(), only_look=True))
    end, arrays, asked = answer_all(client, passes, "look")
    assert isinstance(end, Finished) and list(arrays) == ["look"], end
    made = decode_look_file(arrays["look"].tobytes())
    assert sorted(asked) == sorted(made.description.keyframes) and 0 < len(asked) <= 2
    # and a part of the shot with it
    part = msgspec.structs.replace(made.description.request, frames=(3, 4), look=made.name)
    client.send(SubmitShot(ticket="other", request=msgspec.structs.replace(part, look="0" * 24)), {"look": arrays["look"]})
    assert "is another one" in answer_all(client, passes, "other")[0].message
    client.send(SubmitShot(ticket="none", request=part))
    assert "does not have the kept look" in answer_all(client, passes, "none")[0].message


def look_file_method():
    """The techniques of the preset with key frames."""
    from latentman.shared.shot import METHODS

    return METHODS["surface"]


def test_parts_of_a_shot_whose_prompt_changes_are_the_whole_shot(farm, tmp_path, tiny, capsys):
    said = ("--prompt-at", "5", "a green robot", "--prompt-blend", "2", "--control-at", "1", "1", "--control-at", "8", "0.3")
    shot = tmp_path / "shot.look"
    model = ("--prompt", PROMPT, "--model", tiny)
    assert call("look", farm / "passes", *model, *METHOD, *said, "--out", shot, store=tmp_path / "a") == 0
    assert make(farm, tmp_path / "whole", look=shot) == 0
    # blended, under either prompt, and again with all that was said
    for n, part in enumerate((("--frames", "4,1"), ("--frames", "8"), ("--frames", "2-3,5-7", *said))):
        assert make(farm, tmp_path / "out", *part, look=shot, store=tmp_path / f"machine {n}") == 0
    assert read_all(tmp_path / "out") == read_all(tmp_path / "whole") and len(read_all(tmp_path / "out")) == COUNT
    assert make(farm, tmp_path / "other", "--frames", "2", "--prompt-at", "6", "a green robot", look=shot) == 2
    assert "other prompts or control strengths" in last_event(capsys)["message"]
