"""Settings as they are declared: what fits, what is said of the rest, and how values are changed."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import pytest

from latentman.blender_addon.motion.keying import Keying
from latentman.shared.motion_request import MotionRequest
from latentman.shared.scene_options import SceneOptions
from latentman.shared.settings import (
    Choice,
    Declared,
    Setting,
    SettingError,
    check_settings,
    list_parts,
    list_settings,
    read_plugin,
    summarise,
    with_parts,
    with_settings,
)
from latentman.shared.shot import METHODS, Background, Fusion, Method, ShotRequest, make_request

STRUCTS = (ShotRequest, Method, *list_parts(Method).values(), MotionRequest, SceneOptions, Keying)


class Colour(msgspec.Struct, frozen=True):
    """A colour: how much of it."""

    share: Annotated[float, Setting("Share", "How much of it", ge=0.25, le=1, unit="m")] = 0.5


class Paint(msgspec.Struct, frozen=True):
    """What a wall is painted with."""

    name: Annotated[str, Setting("Name", "What it is called", example="chalk")]
    colour: Colour = Colour()
    coats: Annotated[int, Setting("Coats", "How often", ge=1)] = 2
    glossy: Annotated[bool, Setting("Glossy", "Whether it shines")] = False
    brush: Annotated[
        str, Setting("Brush", "What with", choices=(Choice("", "By Hand"), Choice("wide", "Wide"), Choice("thin", "Thin")))
    ] = ""
    weight: Annotated[float, Setting("Weight", "As heavy as you like", le=9)] = 1e-6
    varnish: Colour | None = None
    note: str = ""


def declared(name: str, struct: type[msgspec.Struct] = Paint) -> Declared:
    """A setting by its name."""
    return next(one for one in list_settings(struct) if one.name == name)


def test_settings_are_found_in_order_with_the_fields_that_lead_to_them():
    found = {one.path: (one.kind, one.required) for one in list_settings(Paint)}
    assert list(found) == [("name",), ("colour", "share"), ("coats",), ("glossy",), ("brush",), ("weight",)]
    assert found["name",] == (str, True) and found["coats",] == (int, False)
    assert list_parts(Paint) == {"varnish": Colour}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("share", (0.25, 1, 0.5), (0.2499, 1.0001, math.nan, math.inf, -math.inf, True, "0.5", None, 10**400)),
        ("coats", (1, 10**400), (0, 1.0, True, math.nan, "2", None)),
        ("weight", (-(10**300), 9), (9.1, math.inf, math.nan)),
        ("glossy", (True, False), (0, 1, "on", None)),
        ("brush", ("", "wide"), ("WIDE", None, 0, ["wide"])),
        ("name", ("", "x"), (None, 3)),
    ],
)
def test_values_that_do_not_fit_are_named_in_a_sentence(name, good, bad):
    setting = declared(name)
    for value in good:
        setting.check(value)
    for value in bad:
        with pytest.raises(SettingError, match=rf"^The {name} .*\.$") as caught:
            setting.check(value)
        assert caught.value.name == name


def test_sentences_say_what_would_fit():
    for name, value, words in (
        ("share", 2, "The share 2 is out of range; choose 0.25 to 1 m."),
        ("coats", 0, "The coats 0 is out of range; choose at least 1."),
        ("weight", 10, "The weight 10 is out of range; choose at most 9."),
        ("brush", "x", "The brush 'x' is unknown; use one of wide, thin."),
    ):
        with pytest.raises(SettingError) as caught:
            declared(name).check(value)
        assert str(caught.value) == words
    # a bound is shown in full: 2.14748e+09 could not be typed
    assert declared("seed", ShotRequest).range_text() == "0 to 2147483647"


def test_texts_become_values():
    assert declared("share").from_text(" 0.5 ") == 0.5 and declared("coats").from_text("3") == 3
    assert declared("name").from_text("  chalk ") == "chalk" and declared("name").from_text(" ") == ""
    assert declared("model", ShotRequest).from_text("  ") == "starter"
    assert declared("brush").from_text("") == "" and declared("brush").from_text("thin") == "thin"
    for name, text in (("share", "much"), ("share", "nan"), ("coats", "1.5"), ("coats", "1e3"), ("coats", "9" * 5000)):
        with pytest.raises(SettingError):
            declared(name).from_text(text)


def test_defaults_as_people_write_them():
    assert [one.default_text() for one in list_settings(Paint)] == ["", "0.5", "2", "off", "By Hand", "1e-06"]
    assert declared("background_prompt", ShotRequest).default_text() == "none"
    assert declared("negative_prompt", ShotRequest).default_text() == "the model's own"
    assert (
        declared("steps", ShotRequest).value_text(0) == "the model's own" and declared("width", ShotRequest).value_text(64) == "64"
    )


def test_0_is_not_of_the_range_where_it_leaves_a_setting_to_the_model():
    width = declared("width", ShotRequest)
    width.check(0)
    width.check(8)
    for value in (7, -1, True, False, 0.0, 4097):
        with pytest.raises(SettingError, match="8 to 4096 px, or 0 for the model's own"):
            width.check(value)
    with pytest.raises(SettingError):
        declared("seconds", MotionRequest).check(0)


def test_parts_are_checked_where_there_are_any():
    check_settings(Paint("x", varnish=Colour()))
    with pytest.raises(SettingError, match="share 3"):
        check_settings(Paint("x", varnish=Colour(3)))
    with pytest.raises(SettingError, match="share 0"):
        check_settings(Paint("x", Colour(0)))


def test_settings_change_by_name_wherever_they_stand():
    changed = with_settings(Paint("x"), {"share": 0.75, "coats": 3, "note": "soon"})
    assert changed == Paint("x", Colour(0.75), 3, note="soon")
    with pytest.raises(TypeError):
        with_settings(Paint("x"), {"absent": 1})
    assert make_request("x", (1,), 24.0, steps=7).sampling.steps == 7


def test_parts_go_in_out_and_change():
    own = METHODS["surface"]
    changed = with_parts(own, {"background": {}, "fusion": {"shading": 2.0}, "keyframes": None, "guidance": {"rho": 0.5}})
    assert changed.background == Background(1.0) and changed.fusion == Fusion(shading=2.0)
    assert changed.keyframes is None and changed.guidance.rho == 0.5
    assert with_parts(Method(), {"background": {}}).background == Background()


def test_techniques_of_others_are_read_from_text():
    assert read_plugin("name") == ("name", {})
    assert read_plugin(" glow : a=1, b = 0.5,c=x,d=true,e=") == ("glow", {"a": 1, "b": 0.5, "c": "x", "d": True, "e": ""})
    for text in ("", ":a=1", "glow:a", "glow:=1"):
        with pytest.raises(SettingError, match="write it like"):
            read_plugin(text)


def test_summaries_are_one_line_without_marks():
    assert summarise(Colour) == "A colour"
    for part in list_parts(Method).values():
        text = summarise(part)
        assert text and "`" not in text and "\n" not in text


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_declaration_is_complete(struct):
    found = list(list_settings(struct))
    assert len({one.name for one in found}) == len(found), "a name leads to one setting"
    for one in found:
        setting = one.setting
        assert setting.label and setting.help and not setting.help.endswith(".")
        if not one.required:
            one.check(one.default)
        if one.kind in (int, float):
            assert setting.ge is not None and setting.le is not None, "the panel and the check need both ends"
            assert setting.soft_max is None or setting.ge <= setting.soft_max <= setting.le
        values = [choice.value for choice in setting.choices]
        assert len(set(values)) == len(values) and all(choice.label for choice in setting.choices)
