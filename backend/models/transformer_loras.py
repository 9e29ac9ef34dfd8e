"""LoRAs for transformers, under diffusers' names of the layers or under their authors', added to a pipeline's weights.

Trainers write either, with dots or underscores, behind one prefix or several. Where the authors have one layer for what diffusers
has several for, such as queries, keys and values, a file's change is computed for all of their rows at once and then divided.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...shared.shot import ShotError
from .family_layouts import TRANSFORMER, FamilyLayout
from .folder_reading import name_folder
from .hub import Report
from .hub_cache import SECOND
from .lora_kinds import TRANSFORMER_STARTS
from .lora_layout import Change, Target, join_name, sort_tensors
from .loras import (
    Addition,
    Scaling,
    add_to_layers,
    doubt_scaling,
    find_lora_file,
    find_lora_here,
    list_changes,
    list_modules,
    read_scaling,
)
from .model_file import FAMILIES
from .plans import open_model_file
from .transformer_names import Swapped, name_original_layers
from .weight_files import WeightFile, read_weight_file

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
#: the change of numbers that are no layer's, of Wan's blocks and head
_MODULATION = re.compile(r"(.+)\.diff_m$")
#: what FLUX.1's authors call the weights of what they divide lengths by
_SCALE = re.compile(r"(.+_norm)\.scale(\.(?:diff|set_weight))$")
#: the families whose LoRAs may be recognised as those of others with the same layers
_ALIKE = {**dict.fromkeys(("flux", "qwen_image", "sd3"), "joint"), "wan_animate": "wan_vace"}
#: the layer of FLUX.1 that meets latents
_FIRST = "x_embedder"
#: which of a pair of transformers a file is for, by its name
_HALF = re.compile(r"(high|low)[^a-z]?noise|(?:^|[^a-z])(high|low)(?=[^a-z]*(?:v?\d[\d.]*[^a-z]*)?$)", re.IGNORECASE)


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
            start = next((start for start in TRANSFORMER_STARTS if title.startswith(start)), "")
            if not start:
                break
            # some write a dot too much, which is then two
            title = title[len(start) :].removeprefix("_")
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
    if found.family == "joint" and all(_find_text_start(name)[1] for name in file.tensors):
        # a T5 alone, which other families have as well
        return file
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
        # the text encoders change once, also by what is for the second transformer
        networks = {TRANSFORMER: pipeline.components[half]}
        networks |= {name: pipeline.components[name] for name in texts if half == TRANSFORMER}
        shares = [
            _Share(path, strength, has_layers=len(halves) == 1 or _is_for(path, half), has_texts=half == TRANSFORMER)
            for path, strength in files
        ]
        _add(networks, layout, shares, warnings)
    if len(halves) > 1:
        opened = [open_transformer_lora(path, layout) for path, _ in files]
        warnings += [_tell_half(file.path) for file in opened if not all(_find_text_start(name)[1] for name in file.tensors)]
    return tuple(dict.fromkeys(warnings))


@dataclass(frozen=True)
class _Share:
    """What of a file is added at a strength: what is for a transformer, for text encoders, or both."""

    path: Path
    strength: float
    has_layers: bool = True
    has_texts: bool = True

    def spell(self, file: WeightFile) -> dict[str, str]:
        """The names of the file's tensors as others have them -> the file's own."""
        found = dict[str, str]()
        for name in file.tensors:
            if self.has_texts if _find_text_start(name)[1] else self.has_layers:
                ours = _respell(name)
                # of two spellings in one file the second keeps its own
                found[name if ours in found else ours] = name
        return found


class _Table:
    """Numbers of a network that no layer has, as if they were a layer's weights."""

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        self._module, self._name = module, name

    @property
    def weight(self) -> Any:
        return getattr(self._module, self._name)


def _list_places(network: Any) -> dict[str, Any]:
    """What of a network has weights that can be changed, by name."""
    tables = {
        f"{place}.{name}" if place else name: _Table(module, name)
        for place, module in network.named_modules()
        for name, numbers in module.named_parameters(recurse=False)
        if name not in ("weight", "bias") and isinstance(numbers, torch.nn.Parameter)
    }
    return tables | list_modules(network)


def _add(networks: Mapping[str, Any], layout: FamilyLayout, shares: Sequence[_Share], warnings: list[str]) -> None:
    modules = {name: _list_places(network) for name, network in networks.items()}
    wordy = next((name for name, network in networks.items() if "T5" in type(network).__name__), "")
    places = TransformerNames(layout.name, modules, wordy)
    additions: dict[str, list[Addition]] = {name: [] for name in networks}
    for share in shares:
        file = open_transformer_lora(share.path, layout)
        spelled = share.spell(file)
        if not spelled:
            continue
        warnings += doubt_scaling(file)
        scaling = read_scaling(file, tuple(networks))
        for change in list_changes(share.path, sort_tensors(spelled, places), spelled, layout.title, warnings):
            own = replace(change, tensors={role: spelled[name] for role, name in change.tensors.items()})
            network = change.target.network
            _check_sight(file, own, modules[network])
            additions[network].append(Addition(file, own, share.strength, scaling.get(network, Scaling())))
    for network, together in additions.items():
        add_to_layers(modules[network], together, layout.title)


def changes_texts(path: Path) -> bool:
    """Whether a LoRA's file has layers of text encoders. Raises ``ShotError`` for one that cannot be read."""
    return any(_find_text_start(name)[1] for name in read_weight_file(path).tensors)


def _check_sight(file: WeightFile, change: Change, modules: Mapping[str, Any]) -> None:
    """``ShotError`` for a LoRA that lets a FLUX.1 see a picture, whose first layer is wider."""
    if change.target != Target(TRANSFORMER, _FIRST) or "down" not in change.tensors:
        return
    shape, own = file.tensors[change.tensors["down"]].shape, modules[_FIRST].weight.shape
    if len(shape) == 2 and shape[1] > own[1]:
        raise ShotError(
            "model",
            f"The LoRA {file.path.name} lets FLUX.1 see a picture beside the noise, for which this model has no place; choose a "
            "whole model that does, such as FLUX.1-Depth-dev, and leave the LoRA out.",
        )


def check_transformer_lora(
    make_transformer: Callable[[], Any], make_texts: Callable[[], Mapping[str, Any]], layout: FamilyLayout, source: str
) -> None:
    """Raise ``ShotError`` for a LoRA on this machine that does not fit the transformer and the text encoders that are made, which
    get no storage. Text encoders are not looked at where none are made."""
    path = find_lora_here(source)
    if path is None:
        return
    file = open_transformer_lora(path, layout)
    is_text = [bool(_find_text_start(name)[1]) for name in file.tensors]
    with torch.device("meta"):
        texts = make_texts() if any(is_text) else {}
        if all(is_text) and not texts:
            return
        networks = {TRANSFORMER: make_transformer(), **texts}
    with torch.no_grad():
        _add(networks, layout, [_Share(path, 1.0, has_texts=bool(texts))], [])


def _respell(name: str) -> str:
    """A tensor's name as others would have it."""
    name = _MODULATION.sub(r"\1.modulation.diff", _SCALE.sub(r"\1\2", name))
    found = _XLABS.search(name)
    if found is None:
        return name
    blocks, kind, number, what, which, end = found.groups()
    stream = "txt" if which == "2" else "img"
    layer = f"{stream}_attn.{what}" if kind == "double" else {"qkv": "qkv", "proj": "linear2"}[what]
    return f"{name[: found.start()]}{blocks}.{number}.{layer}.lora_{end}.weight"


def _find_half(path: Path) -> str:
    # a trainer may call all of its files alike, in folders of their own
    found = _HALF.search(path.stem) or _HALF.search(name_folder(path.parent))
    return "" if found is None else {"high": TRANSFORMER, "low": SECOND}[(found[1] or found[2]).lower()]


def _is_for(path: Path, half: str) -> bool:
    return _find_half(path) in ("", half)


def _tell_half(path: Path) -> str:
    half = _find_half(path)
    if not half:
        return (
            f"Nothing says for which of the model's two transformers {path.name} is; it is added to both. Put high_noise or "
            "low_noise into its name to add it to one."
        )
    if half == TRANSFORMER:
        return (
            f"By its name, {path.name} is for the transformer that is at work where there is much noise; it is added to that alone."
        )
    return (
        f"By its name, {path.name} is for the transformer that is at work where there is little noise; it is added to that alone."
    )
