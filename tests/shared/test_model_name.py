"""A model's name is taken apart and put together again, the same on both sides."""

from __future__ import annotations

import pytest

from latentman.shared import model_name
from latentman.shared.model_name import ModelPart, add_part, read_part, remove_part, set_base, set_strength, split_name, write_part
from latentman.shared.shot import ShotError

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("depth=me/control@0.8", ModelPart("depth", "me/control", 0.8)),
        ("me/control", ModelPart("", "me/control")),
        ("openpose=/a b/c.safetensors@0.5@0-0.6", ModelPart("openpose", "/a b/c.safetensors", 0.5, (0.0, 0.6))),
        ("normal=/a/c.pth@0.2-1", ModelPart("normal", "/a/c.pth", None, (0.2, 1.0))),
        (f"depth=me/control@{COMMIT}@0.7", ModelPart("depth", f"me/control@{COMMIT}", 0.7)),
        ("lora=/a/b@c.safetensors", ModelPart("lora", "/a/b@c.safetensors")),
        ("lora=/a/b.safetensors@-1.5", ModelPart("lora", "/a/b.safetensors", -1.5)),
        (f"lora=me/lora@{COMMIT}", ModelPart("lora", f"me/lora@{COMMIT}")),
        ("ip=/a/ip.bin@0.6", ModelPart("ip", "/a/ip.bin", 0.6)),
        ("vae=me/small", ModelPart("vae", "me/small")),
        ("embedding=/a/bad.pt", ModelPart("embedding", "/a/bad.pt")),
        ("poem=x", ModelPart("poem", "x")),
    ],
)
def test_a_part_is_read_and_written_as_it_was(text, part):
    assert read_part(text) == part and write_part(part) == text


@pytest.mark.parametrize("text", ["lora=/a/b.safetensors@loud", "ip=/a.bin@7", "depth=/a.pth@0.9-0.1", "depth=/a.pth@x"])
def test_a_strength_that_is_none_is_a_sentence(text):
    with pytest.raises(ShotError, match="write"):
        read_part(text)
    # it stays as it is until somebody corrects it
    assert set_strength(f"sd15|{text}", 0, 0.5) == f"sd15|{text}" and add_part(f"sd15|{text}", "vae", "x") == f"sd15|{text}|vae=x"


def test_parts_are_added_changed_and_removed():
    name = add_part("starter", "lora", "/l/one.safetensors", 1.0)
    assert name == "starter|lora=/l/one.safetensors@1"
    name = add_part(add_part(name, "depth", "me/depth", 1.0), "lora", "/l/two.safetensors", 0.5)
    assert name == "starter|lora=/l/one.safetensors@1|depth=me/depth@1|lora=/l/two.safetensors@0.5"
    # there is one of a kind of ControlNet, and one decoder
    assert add_part(name, "depth", "other/depth", 1.0).count("depth=") == 1
    assert add_part(add_part(name, "vae", "a"), "vae", "b").endswith("|vae=b")
    assert add_part(name, "lora", "/l/one.safetensors", 1.0) == name
    assert set_strength(name, 0, 0.123456789) == name.replace("one.safetensors@1", "one.safetensors@0.123457")
    assert set_strength(name, 7, 0.5) == name == set_strength(name, -1, 0.5).replace("@0.5", "@0.5")
    assert remove_part(name, 1) == "starter|lora=/l/one.safetensors@1|lora=/l/two.safetensors@0.5" and remove_part(name, 9) == name
    assert set_base(name, "sdxl").split("|")[0] == "sdxl" and set_base(name, "sdxl").count("|") == 3
    assert split_name(' "starter | depth=x | " ') == ("starter", ["depth=x"]) and split_name("") == ("", [])


def test_both_sides_know_the_same_kinds():
    registry = pytest.importorskip("latentman.backend.models.registry")
    assert registry.CONTROLS == model_name.CONTROL_KINDS
