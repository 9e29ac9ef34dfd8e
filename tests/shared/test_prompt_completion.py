"""Words that are suggested for what a prompt leaves open."""

from __future__ import annotations

import io
import json
from argparse import Namespace

import pytest

from latentman.shared.console import Console, tell_completion
from latentman.shared.prompt_completion import complete_prompt, explain_missing
from latentman.shared.shot import make_request

OPEN = "a man in a red shirt and blue jeans, on a beach"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (OPEN, "a man with brown hair in a red shirt and blue jeans and black shoes, on a beach"),
        ("a man", "a man with brown hair in a grey shirt, black trousers and black shoes, in a park"),
        ("a woman in a red dress in the rain", "a woman with brown hair in a red dress and black shoes in the rain"),
        ("a bald man in a suit and boots, in an office", None),
        ("an astronaut in a white suit, on the moon", None),
        ("a knight", "a knight, in a park"),
        ("a blond girl in jeans, a hoodie and trainers, walking along the quay of a port", None),
        # of these nothing is known
        ("ein Mann am Strand", None),
        ("a dragon", None),
        ("", None),
    ],
)
def test_what_is_left_open_is_completed_once(prompt, expected):
    found = complete_prompt(prompt)
    assert found.prompt == (expected or prompt) and bool(found.missing) == (expected is not None)
    assert complete_prompt(found.prompt).missing == ()


def test_a_background_prompt_names_the_place():
    assert complete_prompt("a knight", "a forest").missing == ()


def test_what_is_open_is_named():
    assert explain_missing(complete_prompt(OPEN)) == "The prompt leaves open: hair and shoes."
    assert explain_missing(complete_prompt("a dragon")) == ""


def test_nothing_is_added_in_silence():
    def tell(prompt: str, preset: str, completed: bool) -> list[dict[str, str]]:
        stream = io.StringIO()
        request = make_request(prompt, (1,), 24.0, preset=preset)
        tell_completion(Console(True, stream), Namespace(complete_prompt=completed), request)
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    (asked,) = tell(complete_prompt(OPEN).prompt, "surface", True)
    assert asked["prompt"] == complete_prompt(OPEN).prompt and asked["prompt"] in asked["message"]
    (suggested,) = tell(OPEN, "cross_frame", False)
    assert suggested["suggestion"] == asked["prompt"]
    assert tell(OPEN, "surface", False) == [], "frames that share a texture agree"
    assert tell(asked["prompt"], "cross_frame", False) == []
