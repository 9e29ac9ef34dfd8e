"""LoRAs from files put into a pipeline, after a look at what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...shared.shot import ShotError
from .network_loading import make_tensor
from .networks import TensorSource
from .plans import open_model_file
from .recognition import FAMILIES

#: methods that diffusers reads; what else there is would be left out without a word
METHODS = ("LoRA", "LoCon")


def add_lora(pipeline: Any, path: Path, adapter: str) -> None:
    """Put the LoRA of a file into a pipeline of diffusers under the name ``adapter``.

    Raises ``ShotError`` for one of another method or for another kind of model; ``ValueError`` and ``RuntimeError`` come from
    diffusers.
    """
    file, found = open_model_file(path, "lora")
    method = found.method.removesuffix(" with DoRA")
    if method not in METHODS:
        raise ShotError(
            "model", f"{path.name} is a {method}, which cannot be used; choose a LoRA of the kinds {', '.join(METHODS)}."
        )
    is_sdxl = "text_encoder_2" in pipeline.components
    if found.family in ("sd1", "sd2", "sdxl", "sdxl_refiner", "sd1_or_sd2") and (found.family == "sdxl") != is_sdxl:
        raise ShotError("model", f"The LoRA {path.name} is for {FAMILIES[found.family]}, and the model is none; choose one for it.")
    if file.format == "safetensors" and path.suffix == ".safetensors":
        # by its path, so that what its metadata say counts
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=adapter, local_files_only=True)
        return
    state = {name: make_tensor(raw, TensorSource(name), torch.float32) for name, raw in file.tensors.items()}
    pipeline.load_lora_weights(state, adapter_name=adapter)
