"""LoRAs for transformers, under diffusers' names of the layers or under their authors', added to a pipeline's weights.

Trainers write either, with dots or underscores, behind one prefix or several. Where the authors have one layer for what diffusers
has several for, such as queries, keys and values, a file's change is computed for all of their rows at once and then divided.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...shared.shot import ShotError
from .family_layouts import TRANSFORMER, FamilyLayout
from .hub import Report
from .hub_cache import SECOND
from .lora_layout import Target, join_name, sort_tensors
from .loras import (
    Addition,
    Scaling,
    add_to_layers,
    find_lora_file,
    find_lora_here,
    list_changes,
    list_modules,
    read_scaling,
)
from .model_file import FAMILIES
from .plans import open_model_file
from .transformer_names import Swapped, name_original_layers
from .weight_files import WeightFile

#: what programs put before the names of a transformer's layers, one or several of them
_STARTS = (
    *("lora_unet_", "lora_transformer_", "lycoris_unet_", "lycoris_", "lora_"),
    *("model.diffusion_model.", "diffusion_model.", "base_model.model.", "transformer.", "unet.", "model."),
)
#: beginning of the name of a text encoder's layer -> what is known of it: the component, or the class that it is found by
_TEXT_STARTS: tuple[tuple[str, str], ...] = (
    *((start, "text_encoder") for start in ("lora_te1_", "lora_te_", "lycoris_te1_", "text_encoders.clip_l.transformer.")),
    *((start, "text_encoder") for start in ("text_encoders.clip_l.", "clip_l.", "text_encoder.", "text_encoder_1.")),
    *((start, "text_encoder_2") for start in ("lora_te2_", "lycoris_te2_", "text_encoders.clip_g.transformer.", "clip_g.")),
    *((start, "text_encoder_2") for start in ("text_encoders.clip_g.", "text_encoder_2.")),
    *((start, "T5") for start in ("lora_te3_", "lycoris_te3_", "text_encoders.t5xxl.transformer.", "t5xxl.", "text_encoder_3.")),
)
#: what XLabs' trainer calls the changes of FLUX.1 -> the layers of its authors
_XLABS = re.compile(r"((double|single)_blocks)\.(\d+)\.processor\.(qkv|proj)_lora([12]?)\.(down|up)\.weight$")
#: the families whose LoRAs may be recognised as those of others with the same layers
_ALIKE = {**dict.fromkeys(("flux", "qwen_image", "sd3"), "joint"), "wan_animate": "wan_vace"}
#: which of a pair of transformers a file is for, by its name
_HALF = re.compile(r"(?:^|[^a-z])(high|low)(?:[^a-z]?noise)?(?:[^a-z]|$)", re.IGNORECASE)


class TransformerNames:
    """The layers of a pipeline's networks under every name that a file may have for them. ``networks``: the component's name -> its
    layers'; ``wordy`` the component that is a T5, if one is."""

    def __init__(self, family: str, networks: Mapping[str, Collection[str]], wordy: str = "") -> None:
        self._wordy = wordy
        self._known: dict[str, dict[str, Target]] = {}
        for network, layers in networks.items():
            known = {join_name(name): Target(network, name) for name in layers}
            if network == TRANSFORMER:
                for title, target in name_original_layers(family, layers).items():
                    many = isinstance(target, tuple)
                    layers_of = target if isinstance(target, tuple) else (target,)
                    swapped = isinstance(target, Swapped)
                    place = Target(network, "+".join(layers_of), layers_of if many or swapped else (), swapped)
                    known.setdefault(join_name(title), place)
            else:
                # transformers 4 has a root that 5 has not
                plain = {name.removeprefix("text_model."): name for name in layers}
                known |= {
                    join_name(start + rest): Target(network, name) for rest, name in plain.items() for start in ("", "text_model.")
                }
            self._known[network] = known

    def find(self, title: str) -> Target | None:
        """The place that a file's name means."""
        start, network = _find_text_start(title)
        if network:
            return self._find(self._wordy if network == "T5" else network, title[len(start) :])
        found = None
        while found is None:
            found = self._find(TRANSFORMER, title)
            start = next((start for start in _STARTS if title.startswith(start)), "")
            if not start:
                break
            title = title[len(start) :]
        return found

    def _find(self, network: str, rest: str) -> Target | None:
        known, rest = self._known.get(network, {}), rest.replace(".processor.", ".")
        return known.get(join_name(rest)) or known.get(join_name(f"{rest}.0") if rest.endswith("to_out") else "")


def _find_text_start(title: str) -> tuple[str, str]:
    return next(((start, network) for start, network in _TEXT_STARTS if title.startswith(start)), ("", ""))


def open_transformer_lora(path: Path, layout: FamilyLayout) -> WeightFile:
    """A file of a LoRA for a transformer of a layout. Raises ``ShotError`` for another kind of file or method, and for one that is
    for another kind of model by its names."""
    file, found = open_model_file(path, "lora")
    if found.family not in ("", layout.name, _ALIKE.get(layout.name)):
        raise ShotError(
            "model", f"The LoRA {path.name} is for {FAMILIES[found.family]}, and the model is {layout.title}; choose one for it."
        )
    return file


@torch.no_grad()
def add_transformer_loras(
    pipeline: Any, layout: FamilyLayout, loras: Sequence[tuple[str, float]], report: Report | None = None
) -> tuple[str, ...]:
    """Add LoRAs, (file, folder or hub id, strength), to the weights of a pipeline with a transformer of a layout; sentences about
    what has no place in it, and what is guessed. Raises ``ShotError`` for one that does not fit; ``OSError`` and ``ValueError``
    come from the hub."""
    warnings: list[str] = []
    files = [(find_lora_file(source, report), strength) for source, strength in loras]
    texts = [name for name in ("text_encoder", "text_encoder_2", "text_encoder_3") if pipeline.components.get(name) is not None]
    halves = [name for name in (TRANSFORMER, SECOND) if pipeline.components.get(name) is not None]
    for half in halves:
        # the text encoders change once
        networks = {TRANSFORMER: pipeline.components[half]}
        networks |= {name: pipeline.components[name] for name in texts if half == TRANSFORMER}
        chosen = [(path, strength) for path, strength in files if len(halves) == 1 or _is_for(path, half)]
        _add(networks, layout, chosen, warnings, has_texts=half == TRANSFORMER)
    if len(halves) > 1:
        warnings += [sentence for path, _ in files if (sentence := _tell_half(path))]
    return tuple(dict.fromkeys(warnings))


def _add(
    networks: Mapping[str, Any], layout: FamilyLayout, files: Sequence[tuple[Path, float]], warnings: list[str], has_texts: bool
) -> None:
    modules = {name: list_modules(network) for name, network in networks.items()}
    wordy = next((name for name, network in networks.items() if "T5" in type(network).__name__), "")
    places = TransformerNames(layout.name, modules, wordy)
    additions: dict[str, list[Addition]] = {name: [] for name in networks}
    for path, strength in files:
        file = open_transformer_lora(path, layout)
        spelled = {_respell(name): name for name in file.tensors if has_texts or not _find_text_start(name)[1]}
        scaling = read_scaling(file, tuple(networks))
        for change in list_changes(path, sort_tensors(spelled, places), spelled, layout.title, warnings):
            own = replace(change, tensors={role: spelled[name] for role, name in change.tensors.items()})
            additions[change.target.network].append(Addition(file, own, strength, scaling.get(change.target.network, Scaling())))
    for network, together in additions.items():
        add_to_layers(modules[network], together, layout.title)


def check_transformer_lora(make_transformer: Callable[[], Any], layout: FamilyLayout, source: str) -> None:
    """Raise ``ShotError`` for a LoRA on this machine that does not fit the transformer that is made, which gets no storage."""
    path = find_lora_here(source)
    if path is None:
        return
    file = open_transformer_lora(path, layout)
    if all(_find_text_start(name)[1] for name in file.tensors):
        return
    with torch.device("meta"):
        transformer = make_transformer()
    with torch.no_grad():
        _add({TRANSFORMER: transformer}, layout, [(path, 1.0)], [], has_texts=False)


def _respell(name: str) -> str:
    """A tensor's name as others would have it."""
    found = _XLABS.search(name)
    if found is None:
        return name
    blocks, kind, number, what, which, end = found.groups()
    stream = "txt" if which == "2" else "img"
    layer = f"{stream}_attn.{what}" if kind == "double" else {"qkv": "qkv", "proj": "linear2"}[what]
    return f"{name[: found.start()]}{blocks}.{number}.{layer}.lora_{end}.weight"


def _find_half(path: Path) -> str:
    found = _HALF.search(path.stem)
    return "" if found is None else {"high": TRANSFORMER, "low": SECOND}[found[1].lower()]


def _is_for(path: Path, half: str) -> bool:
    return _find_half(path) in ("", half)


def _tell_half(path: Path) -> str:
    half = _find_half(path)
    if not half:
        return f"Nothing says for which of the model's two transformers {path.name} is; it is added to both."
    if half == TRANSFORMER:
        return (
            f"By its name, {path.name} is for the transformer that is at work where there is much noise; it is added to that alone."
        )
    return (
        f"By its name, {path.name} is for the transformer that is at work where there is little noise; it is added to that alone."
    )
