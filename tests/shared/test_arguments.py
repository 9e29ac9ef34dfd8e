"""The command lines' arguments: every setting has one, it says its range and default, and nothing wrong gets through."""

from __future__ import annotations

import argparse
import re
from typing import Annotated

import msgspec
import pytest

from latentman.shared import console
from latentman.shared.arguments import add_setting, add_settings, get_option, part_option, read_given_settings, read_method
from latentman.shared.load_options import LoadOptions
from latentman.shared.motion_request import MotionRequest
from latentman.shared.settings import Choice, Setting, list_parts, list_settings
from latentman.shared.shot import METHODS, NOTHING, Alignment, Guidance, Method, Sampling, ShotError, ShotRequest, make_request

SHOT = ("--prompt", "x", "--out", "out")


def shot_parser() -> argparse.ArgumentParser:
    """The arguments of a shot."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    console.add_shot_arguments(parser)
    return parser


def request(*arguments: str) -> ShotRequest:
    """The request that arguments describe."""
    return console.read_request_arguments(shot_parser().parse_args([*SHOT, *arguments]), 256, 256, (1, 2), 24.0)


def method(*arguments: str, preset: str = "latentman") -> Method:
    """The techniques that arguments describe."""
    return request("--preset", preset, *arguments).get_method()


def refusal(capsys, parser: argparse.ArgumentParser, *arguments: str) -> str:
    """The last line about arguments that are refused with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(list(arguments))
    assert caught.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_nothing_given_is_the_request_as_it_is_declared():
    assert request() == make_request("x", (1, 2), 24.0, width=256, height=256)
    parser = argparse.ArgumentParser()
    console.add_motion_arguments(parser)
    assert console.read_motion_arguments(parser.parse_args(["a person bows"])) == MotionRequest("a person bows")
    parser = argparse.ArgumentParser()
    add_settings(parser, LoadOptions)
    assert LoadOptions(**read_given_settings(parser.parse_args([]), LoadOptions)) == LoadOptions()


def test_what_is_given_arrives():
    assert request("--steps", "7", "--scheduler", "dpm++", "--seed", "3", "--background-prompt", " a wood ") == make_request(
        "x", (1, 2), 24.0, width=256, height=256, steps=7, scheduler="dpm++", seed=3, background_prompt="a wood"
    )
    # what is left to the model, and what names nothing
    assert request("--steps", "0", "--guidance-scale", "0", "--negative-prompt", "") == request()
    assert request("--negative-prompt", " - ").text.negative_prompt == NOTHING
    assert request("--scheduler", "") == request() == request("--model", " ")
    parser = argparse.ArgumentParser()
    console.add_motion_arguments(parser)
    for option in ("--model", "--motion-model"):
        assert console.read_motion_arguments(parser.parse_args(["a", option, "m", "--steps", "5"])) == MotionRequest(
            "a", steps=5, model="m"
        )


def test_techniques_are_switched_and_set():
    own = METHODS["latentman"]
    assert request("--preset", "latentman").method is None
    assert method("--no-guidance") == msgspec.structs.replace(own, guidance=None)
    assert method("--no-guidance", "--guidance-rho", "0.1").guidance is None
    assert method("--guidance-rho", "0.1") == msgspec.structs.replace(own, guidance=Guidance(rho=0.1))
    assert method("--guidance-rho", "0.1", preset="cross_frame").guidance == Guidance(rho=0.1)
    assert method("--alignment", preset="cross_frame").alignment == Alignment()
    assert method("--alignment", "--alignment-reference", "first").alignment == Alignment(reference="first")
    assert method("--no-shared-noise", "--matching", "surface").matching == "surface"
    assert method("--background", preset="surface") == METHODS["surface"], "a preset's technique stays as it is"
    # said as the preset has it: the preset itself
    assert request("--preset", "latentman", "--guidance", "--guidance-rho", "0.01").method is None


def test_techniques_of_others():
    found = method("--plugin", "glow:a=1,b=x", "--plugin", "other").plugins
    assert found == {"glow": {"a": 1, "b": "x"}, "other": {}}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--steps", "-1"), "argument --steps: The steps -1 is out of range; choose 1 to 1000, or 0 for the model's own."),
        (("--steps", "many"), "argument --steps: The steps 'many' is not a whole number; choose 1 to 1000, or 0 for"),
        (("--steps", "1.5"), "argument --steps: The steps '1.5' is not a whole number; choose 1 to 1000, or 0 for"),
        (("--seed", "1" + 400 * "0"), "is out of range; choose 0 to 2147483647."),
        (("--guidance-scale", "nan"), "The guidance scale nan is out of range; choose 0 to 1000."),
        (("--guidance-rho", "inf"), "argument --guidance-rho: The rho inf is out of range; choose 0 to 1000000."),
        (("--guidance-resolution", "5000"), "choose 0 to 4096 px."),
        (
            ("--scheduler", "heun"),
            "argument --scheduler: The scheduler 'heun' is unknown; use one of ddim, dpm++, euler, lcm, tcd, euler_a, "
            "euler_karras, dpm++_karras, dpm++_sde, dpm++_sde_karras, unipc.",
        ),
        (("--preset", ""), "The preset '' is unknown; use one of surface, "),
        (("--plugin", "glow:a"), "'a' is not a setting of the technique 'glow'; write it like glow:SETTING=VALUE."),
        # a typo must not become another setting
        (("--guidance-sc", "2"), "unrecognized arguments: --guidance-sc 2"),
        (("--step", "2"), "unrecognized arguments: --step 2"),
    ],
)
def test_wrong_arguments_end_with_a_sentence(capsys, arguments, sentence):
    assert sentence in refusal(capsys, shot_parser(), *SHOT, *arguments)


def test_what_must_be_given_is_missed(capsys):
    assert "required: --out" in refusal(capsys, shot_parser(), "--prompt", "x")
    parser = shot_parser()
    parser.set_defaults(command="generate")
    for given in (("--prompt", "x"), ("--look", "shot.look")):
        console.check_shot_arguments(parser, parser.parse_args(["--out", "x", *given]))
    with pytest.raises(SystemExit):
        console.check_shot_arguments(parser, parser.parse_args(["--out", "x"]))
    assert "required: --prompt or --prompt-file, or --look" in capsys.readouterr().err


def flat(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def test_help_says_range_and_default_of_every_setting():
    text = flat(shot_parser().format_help())
    assert "Denoising steps; 1 to 1000, or 0 for the model's own; default the model's own" in text and "default Model's Own" in text
    options = {get_option(one.name): one for one in list_settings(ShotRequest) if one.name not in console.FROM_SCENE}
    options |= {get_option(one.name): one for one in list_settings(Method)}
    for name, part in list_parts(Method).items():
        assert f"{get_option(name)}, {get_option(f'no_{name}')}" in text
        options |= {part_option(name, one.name): one for one in list_settings(part)}
    for option, one in options.items():
        assert re.search(re.escape(option) + r"(,| )", text), option
        assert one.setting.help in text
        if one.kind in (int, float):
            assert f"; {one.range_text()}; default" in text
        assert all(choice.value in text for choice in one.setting.offered)


def test_help_survives_percent_signs_and_choices_without_a_name():
    class Odd(msgspec.Struct, frozen=True):
        """Odd: 100 % of it."""

        share: Annotated[float, Setting("Share", "100 % of %(prog)s, 5%", ge=0, le=1, unit="%")] = 0.5
        kind: Annotated[str, Setting("Kind", "50%s", choices=(Choice("", "None %d"), Choice("a%b", "AB")))] = ""
        text: Annotated[str, Setting("Text", "Any", example="100 %")] = "5 %"

    parser = argparse.ArgumentParser(prog="p")
    add_settings(parser, Odd)
    text = flat(parser.format_help())
    assert "100 % of %(prog)s, 5%; 0 to 1 %; default 0.5" in text and "50%s; default None %d" in text
    assert "--kind {a%b}" in text and 'such as "100 %"; default 5 %' in text
    found = parser.parse_args(["--kind", "", "--share", "1"])
    assert read_given_settings(found, Odd) == {"kind": "", "share": 1.0}


def test_no_two_arguments_share_a_place():
    # the prompt's file is another way to say the prompt
    places = [action.dest for action in shot_parser()._actions if "--prompt-file" not in action.option_strings]
    assert len(set(places)) == len(places)


def test_settings_may_be_repeated_and_have_other_names():
    parser = argparse.ArgumentParser()
    seed = next(one for one in list_settings(Sampling) if one.name == "seed")
    add_setting(parser, seed, aliases=("--start",), default="ours", repeat=True)
    assert parser.parse_args(["--seed", "1", "--start", "2"]).seed == [1, 2]
    assert not hasattr(parser.parse_args([]), "seed")
    assert "default ours; may be given several times" in flat(parser.format_help())


def test_an_unreadable_look_is_refused(tmp_path):
    args = shot_parser().parse_args([*SHOT, "--look", str(tmp_path)])
    with pytest.raises(ShotError, match="no report"):
        console.read_request_arguments(args, 256, 256, (1,), 24.0)


def test_the_preset_alone_needs_no_method():
    args = shot_parser().parse_args(list(SHOT))
    assert all(read_method(args, name) is None for name in METHODS)
