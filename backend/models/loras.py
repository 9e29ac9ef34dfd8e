"""LoRAs of all methods added to the weights of a pipeline's networks.

They are merged when a model is loaded: nothing is computed twice afterwards, and every method works in every network. All of them
are differences from the model's own weights, so several add up in any order, also those with DoRA. A strength multiplies the
difference. Each tensor of a file is used, or named in a warning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from ...shared.files import read_file
from ...shared.pickled import shorten
from ...shared.shot import ShotError
from ...shared.torch_files import RawTensor
from .added_files import find_added_files, find_added_files_here
from .family_layouts import BY_NAME
from .hub import Report
from .lora_differences import Difference, MisfitError, compute_difference, is_complete, is_idle
from .lora_kinds import find_scaling_file
from .lora_layout import Change, Layout, ModuleNames, sort_tensors
from .model_file import FAMILIES
from .network_loading import check_numbers, make_tensor
from .networks import TensorSource
from .plans import open_model_file
from .weight_files import WeightFile

NETWORKS = ("unet", "text_encoder", "text_encoder_2")
#: width of what the text gives the UNet, by family
_CONTEXTS = {"sd1": 768, "sd2": 1024}
#: roles of tensors that are one number
_NUMBERS = frozenset({"alpha", "scalar", "on_input"})
#: whole numbers in which alphas and switches may be written
_WHOLE = {
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
#: what is understood of the regular expressions by which PEFT tells layers apart: others might take for ever
_PATTERN = re.compile(r"\^?(?:[\w-]|\\?\.|(?:\\d\+|\[0-9\]\+)(?!\\d|\[)|\.\*(?!.*\.\*.*\.\*))+\$?")
#: the end of a module's name
_PLAIN = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Scaling:
    """What a file says about its alphas beside its tensors: of all modules, of some by the end of their names, and of some by
    regular expressions, the first of all."""

    alpha: float | None = None
    pattern: Mapping[str | re.Pattern[str], float] | None = None
    root_rank: bool = False

    def find(self, *modules: str) -> float | None:
        """The alpha of a module, by any of its names."""
        for end, alpha in (self.pattern or {}).items():
            for module in modules:
                if (module == end or module.endswith(f".{end}")) if isinstance(end, str) else end.fullmatch(module):
                    return alpha
        return self.alpha


@dataclass(frozen=True)
class Addition:
    """A change of a module by a file at a strength."""

    file: WeightFile
    change: Change
    strength: float
    scaling: Scaling = Scaling()


@torch.no_grad()
def add_loras(pipeline: Any, loras: Sequence[tuple[str, float]], report: Report | None = None) -> tuple[str, ...]:
    """Add LoRAs, (file, folder or hub id, strength), to the weights of a pipeline; sentences about what has no place in it.

    Raises ``ShotError`` for one of another method or for another kind of model; ``OSError`` and ``ValueError`` come from the hub.
    """
    networks = {name: pipeline.components[name] for name in NETWORKS if pipeline.components.get(name) is not None}
    modules = {name: list_modules(network) for name, network in networks.items()}
    names = ModuleNames(modules)
    additions: dict[str, list[Addition]] = {name: [] for name in networks}
    warnings: list[str] = []
    for source, strength in loras:
        for found in _read_lora(pipeline, find_lora_file(source, report), strength, names, warnings):
            additions[found.change.target.network].append(found)
    for network, together in additions.items():
        add_to_layers(modules[network], together, _name_family(pipeline))
    return tuple(dict.fromkeys(warnings))


def list_modules(network: Any) -> dict[str, Any]:
    """The modules of a network that have weights."""
    return {
        name: module for name, module in network.named_modules() if isinstance(getattr(module, "weight", None), torch.nn.Parameter)
    }


def find_lora_file(source: str, report: Report | None = None) -> Path:
    """The file of a LoRA, by itself, its folder, or the hub's id for it, of whose download ``report`` is told. Raises
    ``ShotError``, and ``HubError`` where the hub gives none."""
    return _take_one(source, find_added_files(source, "lora", report))


def find_lora_here(source: str) -> Path | None:
    """The same where it lies on this machine; None where the hub would be asked. Raises ``ShotError``."""
    files = find_added_files_here(source, "lora")
    return _take_one(source, files) if files else None


def _take_one(source: str, files: Sequence[Path]) -> Path:
    if len(files) > 1:
        which = ", ".join(file.name for file in files[:5])
        raise ShotError("model", f"The folder {source} holds {len(files)} LoRAs ({which}); give the path of one.")
    return files[0]


def open_lora(path: Path, unet: Mapping[str, Any]) -> WeightFile:
    """A file of a LoRA for a model whose UNet has a configuration. Raises ``ShotError`` for another kind of file or method, and for
    one that says that it is for another kind of model."""
    file, found = open_model_file(path, "lora")
    if found.family in (*BY_NAME, "joint"):
        raise ShotError("model", f"The LoRA {path.name} is for {FAMILIES[found.family]}, and the model is none; choose one for it.")
    is_told = found.family in ("sd1", "sd2", "sdxl", "sdxl_refiner", "sd1_or_sd2")
    is_sdxl = unet.get("addition_embed_type") == "text_time"
    context = unet.get("cross_attention_dim")
    if (is_told and (found.family == "sdxl") != is_sdxl) or _CONTEXTS.get(found.family, context) != context:
        raise ShotError("model", f"The LoRA {path.name} is for {FAMILIES[found.family]}, and the model is none; choose one for it.")
    return file


def _read_lora(pipeline: Any, path: Path, strength: float, names: ModuleNames, warnings: list[str]) -> list[Addition]:
    file = open_lora(path, pipeline.unet.config)
    warnings += doubt_scaling(file)
    changes = list_changes(path, sort_tensors(file.tensors, names), file.tensors, _name_family(pipeline), warnings)
    scaling = read_scaling(file, NETWORKS)
    return [Addition(file, change, strength, scaling.get(change.target.network, Scaling())) for change in changes]


def list_changes(path: Path, layout: Layout, tensors: Collection[str], family: str, warnings: list[str]) -> list[Change]:
    """The changes of a LoRA's file with ``tensors``, which were sorted, for a model of a ``family``; what has no place in it
    becomes warnings. Raises ``ShotError`` for one that fits nowhere, or is not whole."""
    if not layout.changes:
        title = next(iter(layout.placeless), next(iter(tensors), ""))
        raise ShotError(
            "model",
            f"The LoRA {path.name} does not fit this model: none of the layers that it changes is in it, such as "
            f"'{shorten(title)}'; choose one for {family}.",
        )
    idle = [name for change in layout.changes if is_idle(change.tensors) for name in change.tensors.values()]
    changes = [change for change in layout.changes if not is_idle(change.tensors)]
    broken = next((change for change in changes if not is_complete(change.tensors)), None)
    if broken is not None:
        has = ", ".join(broken.tensors)
        raise ShotError(
            "model", f"The LoRA {path.name} lacks tensors of '{shorten(broken.title)}', of which it has {has}; download it again."
        )
    if layout.placeless:
        whole = len(layout.placeless) + len(changes)
        warnings.append(
            f"{len(layout.placeless)} of the {whole} layers that {path.name} changes are not in this model and stay as they are, "
            f"such as '{shorten(next(iter(layout.placeless)))}'."
        )
    if layout.doubled:
        warnings.append(
            f"{path.name} has {len(layout.doubled)} of its layers twice, under two names; what stands under the other one, such as "
            f"'{shorten(layout.doubled[0])}', is not used."
        )
    if left := [*layout.unknown, *idle]:
        warnings.append(
            f"{len(left)} of the tensors in {path.name} belong to no known method and are not used, such as '{shorten(left[0])}'."
        )
    return changes


def _name_family(pipeline: Any) -> str:
    if "text_encoder_2" in pipeline.components:
        return FAMILIES["sdxl"]
    return FAMILIES[
        next((family for family, width in _CONTEXTS.items() if width == pipeline.unet.config.cross_attention_dim), "sd1_or_sd2")
    ]


class _PeftConfig(msgspec.Struct):
    """What is used of PEFT's ``adapter_config.json``."""

    lora_alpha: float | None = None
    alpha: float | None = None
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool | None = None


def doubt_scaling(file: WeightFile) -> tuple[str, ...]:
    """A sentence about a file of PEFT's whose alphas are not told."""
    beside, told = find_scaling_file(file.path), file.metadata.get("lora_adapter_metadata")
    if beside is None or beside.is_file() or told or any(name.endswith(".alpha") for name in file.tensors):
        return ()
    return (f"{beside.name} is not beside {file.path.name}, so that its alphas are not known; they are taken to be the ranks.",)


def read_scaling(file: WeightFile, networks: Sequence[str]) -> dict[str, Scaling]:
    """For each of the networks what diffusers writes into a file's metadata, or PEFT into a file beside it; empty without either.
    Raises ``ShotError`` for what is damaged."""
    text = file.metadata.get("lora_adapter_metadata", "")
    beside = find_scaling_file(file.path)
    try:
        if text:
            flat = msgspec.json.decode(text, type=dict[str, Any])
            return {
                network: _make_scaling({name.removeprefix(f"{network}."): value for name, value in flat.items()}, file.path.name)
                for network in networks
                if any(name.startswith(f"{network}.") for name in flat) or "lora_alpha" in flat
            }
        if beside is not None and beside.is_file():
            values = msgspec.json.decode(read_file(beside), type=dict[str, Any])
            return dict.fromkeys(networks, _make_scaling(values, file.path.name))
    except ShotError:
        raise
    except (OSError, ValueError) as error:
        raise ShotError("model", f"What is written about the LoRA {file.path.name} is damaged; download it again.") from error
    return {}


def _make_scaling(values: Mapping[str, Any], name: str) -> Scaling:
    config = msgspec.convert(values, _PeftConfig, strict=False)
    strange = next((key for key in config.alpha_pattern or {} if not _PATTERN.fullmatch(key)), None)
    if strange is not None:
        raise ShotError(
            "model",
            f"The LoRA {name} tells the alphas of its layers by '{shorten(strange)}', which is not understood; choose another.",
        )
    alpha = config.lora_alpha if config.lora_alpha is not None else config.alpha
    pattern = {
        # there may be as many as layers
        key if _PLAIN.fullmatch(key) else re.compile(rf"(?:.*\.)?(?:{key})"): value
        for key, value in (config.alpha_pattern or {}).items()
    }
    return Scaling(alpha, pattern, config.use_rslora or False)


def add_to_layers(modules: Mapping[str, Any], additions: Sequence[Addition], family: str) -> None:
    """Add all differences to the modules of a network at once, by their names: they are rounded only then. For modules without
    storage only the shapes are looked at. Raises ``ShotError``."""
    for group in _group(additions):
        names = list(dict.fromkeys(name for addition in group for name in addition.change.target.list_layers()))
        owns = {name: _read_own(modules[name], group[0].file.path) for name in names}
        weights, biases = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
        for addition in group:
            target = addition.change.target
            own = torch.cat([owns[name] for name in target.list_layers()]) if target.layers else owns[target.module]
            found = _compute(_swap(own) if target.swapped else own, addition, family)
            # each layer has its rows
            rows = [len(owns[name]) for name in target.list_layers()]
            for added, into in ((found.weight, weights), (found.bias, biases)):
                if added is None:
                    continue
                added = addition.strength * (_swap(added) if target.swapped else added)
                for name, part in zip(target.list_layers(), added.split(rows), strict=True):
                    into[name] = into[name] + part if name in into else part
        for name in names:
            try:
                _write(modules[name], owns[name], weights.get(name), biases.get(name))
            except MisfitError as error:
                raise ShotError(
                    "model", f"The LoRA {group[0].file.path.name} does not fit this model: at '{name}' {error}."
                ) from error


def _group(additions: Sequence[Addition]) -> list[list[Addition]]:
    """Additions in groups that have no layer in common."""
    groups: list[tuple[set[str], list[Addition]]] = []
    for addition in additions:
        layers, together = set(addition.change.target.list_layers()), [addition]
        for other in [group for group in groups if group[0] & layers]:
            groups.remove(other)
            layers, together = layers | other[0], other[1] + together
        groups.append((layers, together))
    return [together for _, together in groups]


def _read_own(module: Any, path: Path) -> torch.Tensor:
    """A module's weights in float32. Raises ``ShotError`` for those that are held in fewer bits."""
    if type(module.weight) is not torch.nn.Parameter:
        raise ShotError(
            "model",
            f"The model's weights are held in fewer bits, to which the LoRA {path.name} cannot be added; choose the file or folder "
            "with the whole weights, and leave the weights at auto.",
        )
    return module.weight.float()


def _swap(tensor: torch.Tensor) -> torch.Tensor:
    """The second half of a tensor's rows, then the first."""
    first, second = tensor.chunk(2)
    return torch.cat([second, first])


def _compute(own: torch.Tensor, addition: Addition, family: str) -> Difference:
    """What a change adds to weights, its bias as one row of numbers for each of theirs. Raises ``ShotError``."""
    change, path = addition.change, addition.file.path
    tensors = {
        # the size that weights have with the change, which is compared anyway
        role: _read_for(own, addition.file.tensors[name], name)
        for role, name in change.tensors.items()
        if role != "size"
    }
    for role in _NUMBERS & tensors.keys():
        if tensors[role].numel() != 1:
            raise ShotError(
                "model",
                f"The LoRA {path.name} has {tensors[role].numel()} numbers for one in '{shorten(change.tensors[role])}'; "
                "download it again.",
            )
    named = (*change.target.list_layers(), change.title)
    alpha = float(tensors.pop("alpha")) if "alpha" in tensors else addition.scaling.find(*named)
    try:
        found = compute_difference(own, tensors, alpha, addition.scaling.root_rank)
    except MisfitError as error:
        raise ShotError(
            "model",
            f"The LoRA {path.name} does not fit this model: at '{shorten(change.title)}' {error}; choose one for {family}.",
        ) from error
    bias = None if found.bias is None else found.bias.flatten()
    if bias is not None and len(bias) != len(own):
        raise ShotError("model", f"A LoRA has a bias of {len(bias)} numbers for a layer of {len(own)}; choose another.")
    for added in (found.weight, bias):
        if added is not None and not added.is_meta and not added.isfinite().all():
            raise ShotError(
                "model",
                f"The LoRA {path.name} has numbers at '{shorten(change.title)}' that are infinite or none at all; download it "
                "again, or choose another.",
            )
    return Difference(found.weight, bias)


def _write(module: Any, own: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> None:
    """Raises ``MisfitError``."""
    dtype = module.weight.dtype
    if weight is not None:
        module.weight.data = _round(own, weight, dtype)
    if bias is not None:
        if not hasattr(module, "bias"):
            raise MisfitError("it changes a bias, and the model has none; choose another")
        before = module.bias.float() if module.bias is not None else torch.zeros_like(bias)
        module.bias = torch.nn.Parameter(_round(before, bias, dtype), requires_grad=False)


def _round(own: torch.Tensor, added: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Raises ``MisfitError`` for a sum that is larger than what numbers of a type can be."""
    changed = (own + added).to(dtype)
    if not changed.is_meta and own.isfinite().all() and not changed.isfinite().all():
        raise MisfitError(f"weights become larger than {str(dtype).removeprefix('torch.')} can hold; give it less strength")
    return changed


def _read_for(own: torch.Tensor, raw: RawTensor, name: str) -> torch.Tensor:
    """In float32 for weights ``own``; for those without storage as they are, apart from single numbers."""
    if own.is_meta and raw.count > 1:
        check_numbers(raw, name)
        return torch.empty(raw.shape, device=own.device)
    return _read_tensor(raw, name)


def _read_tensor(raw: RawTensor, name: str) -> torch.Tensor:
    """In float32. Alphas and switches may be whole numbers."""
    if raw.count == 1 and raw.kind in _WHOLE and raw.span == 1:
        dtype = _WHOLE[raw.kind]
        start = raw.offset * dtype.itemsize
        return torch.frombuffer(bytearray(raw.content[start : start + dtype.itemsize]), dtype=dtype).float().reshape(raw.shape)
    return make_tensor(raw, TensorSource(name), torch.float32)
