"""Diffusers folders loaded network by network: in the form that suits, and with every weight accounted for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from ...shared.files import read_file
from ...shared.pickled import shorten
from ...shared.shot import ShotError
from .hub_cache import NETWORKS
from .network_loading import RESIDUE
from .weight_forms import choose_form

_TITLES = {"unet": "UNet", "vae": "auto-encoder", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}
#: parts that nothing here uses, and that many leave out
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
#: bytes that a model_index.json may have
_MOST_INDEX = 2**20


def prefers_half(dtype: torch.dtype) -> bool:
    """Whether weights in half precision are taken where a folder has them beside others."""
    return dtype in (torch.float16, torch.bfloat16)


def read_index(folder: Path) -> dict[str, Any]:
    """A pipeline's ``model_index.json``. Raises ``ShotError`` for a folder without a usable one."""
    path = folder / "model_index.json"
    try:
        if path.stat().st_size > _MOST_INDEX:
            raise ValueError("it is too large")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ShotError("model", f"The model's {path} cannot be read ({error}); download the model again.") from error
    if not isinstance(found, dict):
        raise ShotError("model", f"The model's {path} is no list of parts; download the model again.")
    return found


def find_class(entry: Any, folder: Path) -> Any:
    """The class of a network that an index names, None for one without any."""
    library, name = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
    if not isinstance(name, str):
        return None
    found = getattr({"diffusers": diffusers, "transformers": transformers}.get(str(library)), name, None)
    kinds = (diffusers.ModelMixin, transformers.PreTrainedModel)
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise ShotError("model", f"The model's part {folder.name} is a {shorten(name)}, which is not known; choose another model.")
    return found


def find_vae_class(folder: Path) -> Any:
    """The class of the auto-encoder in a folder: a usual one, or a small one such as TAESD."""
    try:
        config = json.loads(read_file(folder / "config.json", _MOST_INDEX))
        small = isinstance(config, dict) and config.get("_class_name") == "AutoencoderTiny"
    except (OSError, ValueError, RecursionError):
        # whoever loads it says what is wrong
        small = False
    return diffusers.AutoencoderTiny if small else diffusers.AutoencoderKL


def load_network_folder(folder: Path, kind: Any, title: str, dtype: torch.dtype) -> tuple[Any, tuple[str, ...]]:
    """A network of a diffusers or transformers class from its folder, on the CPU, and sentences about what was left out. ``title``
    is what the network is called in a sentence.

    Raises ``ShotError`` where weights are missing or have other shapes, ``OSError`` and ``ValueError`` as the libraries do.
    """
    if not (folder / "config.json").is_file():
        raise ShotError("model", f"The {title}'s folder {folder} has no config.json; download the model again.")
    form = choose_form((path.name for path in folder.iterdir()), half=prefers_half(dtype))
    if form is None:
        raise ShotError("model", f"The {title}'s folder {folder} has no weights; download the model again.")
    network, info = kind.from_pretrained(
        str(folder),
        variant=form.variant or None,
        use_safetensors=form.safe,
        dtype=dtype,
        output_loading_info=True,
        local_files_only=True,
    )
    missing = sorted(name for name in info.get("missing_keys", ()) if not RESIDUE.match(name))
    if missing or info.get("mismatched_keys"):
        odd = missing or [str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"]]
        fault = "lacks" if missing else "has other shapes for"
        raise ShotError(
            "model",
            f"The {title} in {folder} {fault} {len(odd)} weights, such as '{shorten(odd[0])}'; download the model again.",
        )
    left = sorted(name for name in info.get("unexpected_keys", ()) if not RESIDUE.match(name))
    warnings: tuple[str, ...] = ()
    if left:
        warnings = (
            f"{len(left)} of the weights of the {title} have no place in it and are not used, such as '{shorten(left[0])}'.",
        )
    return network, warnings


def load_pipeline_folder(
    folder: Path, pipeline_class: Any, dtype: torch.dtype, added: Mapping[str, Any]
) -> tuple[diffusers.DiffusionPipeline, tuple[str, ...]]:
    """A pipeline from a folder, with ``added`` parts in place of its own, and sentences about what was left out. Raises what
    ``load_network_folder`` does."""
    index, parts = read_index(folder), dict(added)
    warnings: tuple[str, ...] = ()
    for name in NETWORKS:
        kind = find_class(index.get(name), folder / name) if name not in parts else None
        # several ControlNets lie in folders of their own, which the pipeline knows
        if kind is not None and kind is not diffusers.MultiControlNetModel:
            parts[name], said = load_network_folder(folder / name, kind, _TITLES.get(name, "ControlNet"), dtype)
            warnings += said
    for name in _UNUSED:
        if name in index and (name == "safety_checker" or not (folder / name).is_dir()):
            parts[name] = None
    if "requires_safety_checker" in index:
        parts["requires_safety_checker"] = False
    return pipeline_class.from_pretrained(str(folder), dtype=dtype, local_files_only=True, **parts), warnings
