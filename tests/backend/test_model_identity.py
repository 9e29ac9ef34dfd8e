"""What tells models apart: a change of any file that a model's name stands for is seen by all who keep what it made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from latentman.backend.metrics.run_identity import fingerprint_model
from latentman.backend.models.identity import identify
from latentman.backend.models.registry import STARTER, ModelSource, find_model, fingerprint
from tests import ip_adapter_files
from tools import tiny_transformers

LAYER = "transformer.transformer_blocks.0.attn.to_q"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A transformer's file with all else in a folder, a ControlNet, and files of every other kind that may be added; what they
    hold does not count here."""
    root = tmp_path_factory.mktemp("parts")
    tiny_transformers.write_flux(root)
    shutil.copy(next((root / "base" / "transformer").glob("*.safetensors")), root / "transformer.safetensors")
    (root / "lora").mkdir()
    save_file({f"{LAYER}.lora_A.weight": torch.ones(2, 4)}, root / "lora" / "adapter_model.safetensors")
    (root / "lora" / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2}), encoding="utf-8")
    unet = UNet2DConditionModel.from_pretrained(STARTER, subfolder="unet")
    ip_adapter_files.write_adapter(root / "ip-adapter.safetensors", ip_adapter_files.make_adapter(unet))
    ip_adapter_files.make_encoder().save_pretrained(root / "encoder")
    for name in ("word", "vae"):
        save_file({name: torch.ones(3)}, root / f"{name}.safetensors")
    (root / "module").mkdir()
    save_file({"a": torch.ones(3)}, root / "module" / "diffusion_pytorch_model.safetensors")
    return root


def _touch(path: Path) -> None:
    """Other weights of the same shapes in a file, or another number in a configuration."""
    if path.suffix == ".json":
        path.write_text(json.dumps({"lora_alpha": 3}), encoding="utf-8")
    else:
        save_file({name: value + 1 for name, value in load_file(path).items()}, path)


#: field of a source -> the file of ``place`` that it stands for
FILES = {
    "base": "transformer.safetensors",
    "controls": "control/diffusion_pytorch_model.safetensors",
    "loras": "lora/adapter_model.safetensors",
    "loras' alphas": "lora/adapter_config.json",
    "embeddings": "word.safetensors",
    "vae": "vae.safetensors",
    "parts": "base/vae/diffusion_pytorch_model.safetensors",
    "motion": "module/diffusion_pytorch_model.safetensors",
    "reference": "ip-adapter.safetensors",
    "reference's encoder": "encoder/model.safetensors",
}
#: fields that hold no files
NUMBERS = {"control_uses", "is_control_usual", "are_parts_found", "sees"}


def test_every_field_of_a_source_is_tried():
    assert {name.partition("'")[0] for name in FILES} | NUMBERS == {field.name for field in fields(ModelSource)}


@pytest.mark.parametrize("field", FILES)
@pytest.mark.parametrize("tell", ["identify", "fingerprint", "fingerprint_model"])
def test_other_contents_are_another_model(place, tmp_path, field, tell):
    root = shutil.copytree(place, tmp_path / "place")
    name = "|".join(
        [
            str(root / "transformer.safetensors"),
            f"depth={root / 'control'}",
            f"parts={root / 'base'}",
            f"lora={root / 'lora' / 'adapter_model.safetensors'}",
            f"embedding={root / 'word.safetensors'}",
            f"vae={root / 'vae.safetensors'}",
            f"ip={root / 'ip-adapter.safetensors'}",
            f"encoder={root / 'encoder'}",
            f"motion={root / 'module'}",
        ]
    )

    def fingerprint_loaded(name: str) -> str:
        loaded = SimpleNamespace(
            source=find_model(name), distilled="", pipeline=SimpleNamespace(scheduler=SimpleNamespace(config={}))
        )
        return fingerprint_model(loaded)  # type: ignore[arg-type]

    tells: dict[str, Callable[[str], str]] = {
        "identify": identify,
        "fingerprint": fingerprint,
        "fingerprint_model": fingerprint_loaded,
    }
    before = tells[tell](name)
    assert tells[tell](name) == before
    _touch(root / FILES[field])
    assert tells[tell](name) != before


@pytest.mark.parametrize("tell", [identify, fingerprint])
def test_what_a_model_sees_tells_it_from_others(tmp_path, tell):
    tiny_transformers.write_wan_vace(tmp_path)
    base = str(tmp_path / "base")
    told = [tell(name) for name in (base, f"{base}|sees=depth_openpose", f"{base}|sees=openpose")]
    assert len(set(told)) == 3
