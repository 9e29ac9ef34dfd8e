"""Diffusers folders loaded network by network: in the form that suits, and with every weight accounted for."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from ...shared.pickled import shorten
from ...shared.shot import ShotError
from .family_layouts import find_layout
from .folder_reading import TITLES, TOKENIZER_FILES, check_pipeline_folder, check_vae_config, check_weights, read_config, read_index
from .hub_cache import DENOISERS, list_parts
from .network_loading import RESIDUE
from .quantization import Quantization
from .tokenizers import END, make_clip_tokenizer

#: parts that nothing here uses, and that many leave out
_SOUND = ("audio_vae", "vocoder")
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder", *_SOUND, "processor", "prompt_enhancer")
#: those that are not loaded even where they are there
_NEVER = ("safety_checker", *_SOUND, "processor", "prompt_enhancer")


def prefers_half(dtype: torch.dtype) -> bool:
    """Whether weights in half precision are taken where a folder has them beside others."""
    return dtype in (torch.float16, torch.bfloat16)


def find_class(entry: Any, folder: Path) -> Any:
    """The class of a network that an index names, None for one without any."""
    library, name = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
    if not isinstance(name, str):
        return None
    # some parts' classes are known in the modules of their pipelines alone
    modules = {"diffusers": diffusers, "transformers": transformers, "ltx2": diffusers.pipelines.ltx2}
    found = getattr(modules.get(str(library)), name, None)
    kinds = (diffusers.ModelMixin, transformers.PreTrainedModel)
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise ShotError("model", f"The model's part {folder.name} is a {shorten(name)}, which is not known; choose another model.")
    return found


def find_vae_class(folder: Path) -> Any:
    """The class of the auto-encoder in a folder. Raises ``ShotError``."""
    return getattr(diffusers, check_vae_config(read_config(folder, "auto-encoder"), folder))


def load_network_folder(
    folder: Path, kind: Any, title: str, dtype: torch.dtype, quantization: Quantization | None = None
) -> tuple[Any, tuple[str, ...]]:
    """A network of a diffusers or transformers class from its folder, on the CPU, and sentences about what was left out. ``title``
    is what the network is called in a sentence.

    Raises ``ShotError`` where weights are missing or have other shapes, ``OSError`` and ``ValueError`` as the libraries do.
    """
    read_config(folder, title)
    form = check_weights(folder, title, half=prefers_half(dtype))
    try:
        network, info = kind.from_pretrained(
            str(folder),
            variant=form.variant or None,
            use_safetensors=form.safe,
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            **({} if quantization is None else {"quantization_config": quantization.make_config(kind)}),
        )
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError) as error:
        reason = shorten(str(error).strip().partition("\n")[0]).rstrip(".")
        raise ShotError(
            "model", f"The {title} in {folder} does not fit its config.json ({reason}); download the model again."
        ) from error
    if quantization is not None:
        quantization.check(network)
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
    folder: Path, pipeline_class: Any, dtype: torch.dtype, added: Mapping[str, Any], quantization: Quantization | None = None
) -> tuple[diffusers.DiffusionPipeline, tuple[str, ...]]:
    """A pipeline from a folder, with ``added`` parts in place of its own, and sentences about what was left out. Raises what
    ``load_network_folder`` does."""
    index, parts = read_index(folder), dict(added)
    warnings = check_pipeline_folder(
        folder,
        half=prefers_half(dtype),
        has_other_control="controlnet" in added,
        has_other_vae="vae" in added,
        has_other_denoiser=any(part in added for part in DENOISERS),
    )
    for name in list_parts(index):
        kind = find_class(index.get(name), folder / name) if name not in parts else None
        # several ControlNets lie in folders of their own, which the pipeline knows
        if kind is not None and kind is not diffusers.MultiControlNetModel:
            held = quantization if quantization is not None and quantization.holds(name) else None
            parts[name], said = load_network_folder(folder / name, kind, TITLES.get(name, "ControlNet"), dtype, held)
            warnings += said
    for name in _UNUSED:
        if name in index and (name in _NEVER or not (folder / name).is_dir()):
            parts[name] = None
    wanted = inspect.signature(pipeline_class.__init__).parameters
    # the class wants them also where the index leaves them out
    parts |= dict.fromkeys(name for name in _SOUND if name in wanted)
    # language models have tokenizers of their own
    for name in ("tokenizer", "tokenizer_2") if find_layout(index) is None else ():
        is_wanted = name in index and name not in parts and name.replace("tokenizer", "text_encoder") in parts
        if is_wanted and not any((folder / name / file).is_file() for file in TOKENIZER_FILES):
            # both of SDXL's have the same words; the second, as that of 2.x, fills up with another one
            second = name == "tokenizer_2" or parts["text_encoder"].config.hidden_act == "gelu"
            parts[name] = make_clip_tokenizer("!" if second else END)
            warnings += (f"The model brings no {name}; CLIP's own is used.",)
    scheduler = (index.get("scheduler") or [None, None])[1]
    if "scheduler" not in parts and not hasattr(diffusers, str(scheduler)):
        raise ShotError("model", f"The model's scheduler is a {shorten(str(scheduler))}, which is not known; choose another model.")
    if "requires_safety_checker" in index:
        parts["requires_safety_checker"] = False
    with _without_doubts():
        return pipeline_class.from_pretrained(str(folder), dtype=dtype, local_files_only=True, **parts), warnings


@contextmanager
def _without_doubts() -> Iterator[None]:
    """diffusers prints all layers of a part whose class it knows in a pipeline's module alone, which was checked here."""

    def keep(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("You have passed a non-standard module")

    logger = logging.getLogger("diffusers.pipelines.pipeline_loading_utils")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
