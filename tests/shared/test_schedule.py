"""What changes from frame to frame: prompts by frame, control strengths, their checks, and their arguments."""

from __future__ import annotations

import argparse

import msgspec
import pytest

from latentman.shared import console, schedule_arguments
from latentman.shared.command_parser import CommandParser
from latentman.shared.manifest import PassesHeader
from latentman.shared.messages import SubmitShot, decode, encode
from latentman.shared.prompt_text import join_lines, read_prompt_file
from latentman.shared.redaction import PROMPT, Private, redact
from latentman.shared.schedule import (
    MAX_PROMPTS,
    Mix,
    PromptKey,
    Schedule,
    check_schedule,
    interpolate_control,
    make_schedule,
    mix_prompts,
)
from latentman.shared.settings import MAX_TEXT, SettingError, list_parts
from latentman.shared.shot import METHODS, PRESETS, Sampling, ShotError, ShotRequest, check_request, with_schedule
from tests import samples


def test_a_prompt_holds_from_its_frame_on():
    schedule = make_schedule([(24, "a skeleton"), (10, "a knight")])
    said = [mix_prompts("a man", schedule, frame) for frame in (-5, 9, 10, 23, 24, 900)]
    assert said == [Mix(text) for text in ("a man", "a man", "a knight", "a knight", "a skeleton", "a skeleton")]
    assert mix_prompts("a man", None, 7) == Mix("a man")


def test_a_blend_takes_the_frames_before_and_none_of_an_earlier_prompt():
    schedule = make_schedule([(10, "b"), (12, "c")], prompt_blend=4)
    assert [mix_prompts("a", schedule, frame).get_share("b") for frame in range(5, 13)] == [0, 0, 0.25, 0.5, 0.75, 1, 0.5, 0]
    mix = mix_prompts("a", schedule, 9)
    assert mix.list_prompts() == ("a", "b") and mix.leading == "b" and mix.get_share("a") == 0.25
    # the same words again are no change
    assert mix_prompts("a", make_schedule([(10, "a")], prompt_blend=4), 8) == Mix("a")


def test_control_strengths_lie_evenly_between_their_frames():
    assert interpolate_control([(5, 1.0), (1, 0.2)], (0, 1, 2, 3, 5, 9)) == (0.2, 0.2, 0.4, 0.6, 1.0, 1.0)
    assert interpolate_control([], (1, 2)) == ()
    with pytest.raises(SettingError, match="two control strengths at frame 3"):
        interpolate_control([(3, 1.0), (3, 0.5)], (1,))


def test_a_request_without_a_schedule_is_written_as_before_there_was_one():
    request = samples.request()
    assert "schedule" not in msgspec.json.decode(msgspec.json.encode(request))
    assert with_schedule(request, None) == request and "schedule" not in list_parts(ShotRequest)
    assert with_schedule(request, make_schedule([(2, "b")])).settings() == request.settings(), "frames are compared one by one"


def test_a_schedule_goes_over_the_wire():
    request = with_schedule(samples.request(), Schedule((PromptKey(2, "ein Ritter – 騎士"),), 3, False, (0.5, 1.0, 0.25)))
    message = SubmitShot(ticket="t", request=request, header=PassesHeader())
    assert decode(encode(message))[0].request == request


def test_one_strength_for_all_frames_is_the_setting():
    request = with_schedule(samples.request(), make_schedule(control_scales=(0.4, 0.4, 0.4)))
    assert request.sampling.control_scale == 0.4 and request.get_schedule() is None
    varied = with_schedule(samples.request(control_scale=0.3), make_schedule(control_scales=(0.4, 0.5, 0.4)))
    assert varied.sampling.control_scale == Sampling().control_scale, "which counts nowhere"
    assert [varied.get_control_scale(row) for row in range(3)] == [0.4, 0.5, 0.4]


@pytest.mark.parametrize(
    ("schedule", "code", "words"),
    [
        (Schedule((PromptKey(1, " "),)), "prompt_at", "is empty"),
        (Schedule((PromptKey(1, "x" * (MAX_TEXT + 1)),)), "prompt_at", "use at most"),
        (Schedule((PromptKey(1, "x\0"),)), "prompt_at", "no text has"),
        (Schedule((PromptKey(2, "a"), PromptKey(2, "b"))), "prompt_at", "order of their frames"),
        (Schedule((PromptKey(2**40, "a"),)), "prompt_at", "order of their frames"),
        (Schedule(tuple(PromptKey(n, f"{n}") for n in range(MAX_PROMPTS))), "prompt_at", f"at most {MAX_PROMPTS}"),
        (Schedule((PromptKey(1, "a"),), -1), "prompt_blend", "out of range"),
        (Schedule(control_scales=(1.0,)), "control_at", "1 control strengths for 3 frames"),
        (Schedule(control_scales=(1.0, float("nan"), 1.0)), "control_at", "out of range"),
        (Schedule(control_scales=(1.0, -0.5, 1.0)), "control_at", "out of range"),
    ],
)
def test_what_no_shot_can_have_is_refused(schedule, code, words):
    with pytest.raises(ShotError, match=words) as caught:
        check_request(msgspec.structs.replace(samples.request(preset="surface"), schedule=schedule))
    assert caught.value.code == code


def test_presets_that_carry_pictures_on_refuse_another_prompt():
    changing = make_schedule([(2, "a robot")])
    for preset in PRESETS:
        method = METHODS[preset]
        request = with_schedule(samples.request(preset=preset), changing)
        if method.alignment or method.guidance:
            with pytest.raises(ShotError, match="carries each frame's picture on"):
                check_request(request)
            # a part that is under one prompt alone is fine
            check_request(with_schedule(samples.request(1, preset=preset), changing))
        else:
            check_request(request)
    every_frame = samples.request(preset="surface", method=msgspec.structs.replace(METHODS["surface"], keyframes=None))
    with pytest.raises(ShotError, match="cannot blend two"):
        check_request(with_schedule(every_frame, make_schedule([(3, "a robot")], prompt_blend=2)))


def test_two_prompts_at_a_frame_are_refused():
    with pytest.raises(SettingError, match="two prompts from frame 4 on"):
        make_schedule([(4, "a"), (4, "b")])
    assert make_schedule([]) is None
    check_schedule(Schedule(), 3)


def read(*arguments: str, frames=(1, 2, 3)):
    parser = CommandParser(prog="test")
    console.add_shot_arguments(parser)
    return console.read_request_arguments(parser.parse_args(["--out", "x", *arguments]), 64, 64, frames, 20.0)


def test_the_command_line_says_the_same():
    found = read("--prompt", "a", "--prompt-at", "3", " b ", "--prompt-at", "-2", "c", "--prompt-blend", "2", "--no-keep-place",
                 "--control-at", "1", "0", "--control-at", "3", "1")  # fmt: skip
    assert found.get_schedule() == Schedule((PromptKey(-2, "c"), PromptKey(3, "b")), 2, False, (0.0, 0.5, 1.0))
    assert read("--prompt", "a").get_schedule() is None
    with pytest.raises(ShotError, match="two prompts from frame 3"):
        read("--prompt", "a", "--prompt-at", "3", "b", "--prompt-at", "3", "c")


@pytest.mark.parametrize("given", [("--prompt-at", "x", "b"), ("--control-at", "1", "much"), ("--prompt-at", "3")])
def test_arguments_that_are_none_end_with_a_sentence(given, capsys):
    with pytest.raises(SystemExit):
        read("--prompt", "a", *given)
    assert given[0] in capsys.readouterr().err


def test_arguments_are_known_to_be_given():
    parser = argparse.ArgumentParser()
    schedule_arguments.add_schedule_arguments(parser)
    assert not schedule_arguments.has_schedule_arguments(parser.parse_args([]))
    assert schedule_arguments.has_schedule_arguments(parser.parse_args(["--prompt-blend", "3"]))


def test_line_breaks_become_spaces_and_comments_are_left_out():
    assert join_lines("# who\r\n  a man \n\n in red,\n#in blue\n# \non a beach # 2") == "a man in red, on a beach # 2"
    assert join_lines("騎士\nрыцарь\u2028ritter") == "騎士 рыцарь ritter" and join_lines(" \n# x\n") == ""


def test_a_prompt_comes_from_a_file(tmp_path, capsys):
    file = tmp_path / "prompt.txt"
    file.write_bytes("\ufeffa knight\n# no\nin a forest – 森\n".encode())
    assert read("--prompt-file", str(file)).text.prompt == "a knight in a forest – 森"
    with pytest.raises(SystemExit):
        read("--prompt-file", str(file), "--prompt", "x")
    for content, words in ((b"# nothing", "says nothing"), (b"\xff\xfe\x00", "UTF-8"), (None, "cannot be read")):
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(ShotError, match=words):
            read_prompt_file(file)


def test_prompts_by_frame_are_nobodys_business():
    assert redact('generate --prompt-at 24 "a red yak" --steps 4', Private()) == f"generate --prompt-at 24 {PROMPT} --steps 4"
    written = msgspec.json.encode(Schedule((PromptKey(2, "a red yak"),))).decode()
    assert "yak" not in redact(written, Private())
