"""What the tensors of a LoRA's file are for: which module of which network each changes, and what it is in the formula of its
method. For the names that kohya's scripts, LyCORIS, diffusers, PEFT and ComfyUI write. Free of torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .networks import name_original_modules

UNET, FIRST, SECOND = "unet", "text_encoder", "text_encoder_2"

#: end of a tensor's name -> what it is
_ENDS: tuple[tuple[str, str], ...] = (
    (r"[._]lora(?:_linear_layer)?\.up\.weight|\.lora_up\.weight|\.lora_B(?:\.[\w-]+){0,2}\.weight", "up"),
    (r"[._]lora(?:_linear_layer)?\.down\.weight|\.lora_down\.weight|\.lora_A(?:\.[\w-]+){0,2}\.weight", "down"),
    (r"\.lora_mid\.weight", "mid"),
    (r"\.lora_B(?:\.[\w-]+){0,2}\.bias|\.lora_up\.bias", "up_bias"),
    (r"\.alpha", "alpha"),
    (r"\.scalar", "scalar"),
    (r"\.dora_scale", "dora"),
    (r"\.lora_magnitude_vector(?:\.[\w-]+)?(?:\.weight)?|\.magnitude", "magnitude"),
    (r"\.(?P<own>hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2)(?:\.default)?", ""),
    (r"\.(?P<own2>a1|a2|b1|b2|bm)\.weight", ""),
    (r"\.on_input", "on_input"),
    (r"\.diff", "diff"),
    (r"\.diff_b", "diff_b"),
    (r"\.set_weight|(?<=_norm)\.scale", "set"),
    (r"\.reshape_weight", "size"),
    (r"\.w_norm", "diff"),
    (r"\.b_norm", "diff_b"),
    (r"\.weight", "weight"),
)
_END = [(re.compile(rf"(?P<module>.+?)(?:{pattern})$"), role) for pattern, role in _ENDS]
#: beginning of a module's name -> the networks that it may be in
_STARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("lora_unet_", (UNET,)),
    ("lora_te1_", (FIRST,)),
    ("lora_te2_", (SECOND,)),
    ("lora_te_", (FIRST,)),
    ("lycoris_unet_", (UNET,)),
    ("lycoris_te1_", (FIRST,)),
    ("lycoris_te2_", (SECOND,)),
    ("lycoris_te_", (FIRST,)),
    ("lycoris_", (UNET, FIRST, SECOND)),
    ("text_encoder_2.", (SECOND,)),
    ("text_encoder.", (FIRST,)),
    ("unet.", (UNET,)),
    ("model.diffusion_model.", (UNET,)),
    ("diffusion_model.", (UNET,)),
    ("text_encoders.clip_l.transformer.", (FIRST,)),
    ("text_encoders.clip_g.transformer.", (SECOND,)),
    ("text_encoders.clip_l.", (FIRST,)),
    ("text_encoders.clip_g.", (SECOND,)),
    ("clip_l.", (FIRST,)),
    ("clip_g.", (SECOND,)),
    ("clip_h.", (FIRST,)),
    ("te1.", (FIRST,)),
    ("te2.", (SECOND,)),
    ("text_encoder_1.", (FIRST,)),
    ("text_encoder1.", (FIRST,)),
    ("text_encoder2.", (SECOND,)),
    ("", (UNET, FIRST, SECOND)),
)
#: what PEFT puts before the names of a network's modules
_PEFT = "base_model.model."
#: what early versions of diffusers called the layers of a text encoder
_EARLY = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass(frozen=True)
class Target:
    """A module of a network, by its name in there; or several ``layers`` that a file knows as one, which holds their rows, with
    its two halves ``swapped`` or not."""

    network: str
    module: str
    layers: tuple[str, ...] = ()
    swapped: bool = False

    def list_layers(self) -> tuple[str, ...]:
        """The modules of the network."""
        return self.layers or (self.module,)


@dataclass
class Change:
    """What a file changes of a module: the names of its tensors by what they are, under the file's own name of the module."""

    title: str
    target: Target
    tensors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """The changes of a file, the modules in it that no network has, by the names of their tensors, tensors that are no part of any
    method, and the names under which a layer is in the file once more."""

    changes: tuple[Change, ...]
    placeless: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]
    doubled: tuple[str, ...] = ()


class Places(Protocol):
    """Where the modules that files name are."""

    def find(self, title: str) -> Target | None:
        """The place that a file's name means."""
        ...


class ModuleNames:
    """The modules of networks under every name that a file may have for them. ``networks``: the network's name -> its modules'."""

    def __init__(self, networks: Mapping[str, Collection[str]]) -> None:
        self._known: dict[str, dict[str, str]] = {}
        for network, modules in networks.items():
            known = self._known[network] = {join_name(name): name for name in modules}
            if network == UNET:
                known |= {join_name(old): new for new, old in name_original_modules(modules).items()}
            else:
                # transformers 4 has a root that 5 has not
                plain = {name.removeprefix("text_model."): name for name in modules}
                known |= {join_name(start + rest): name for rest, name in plain.items() for start in ("", "text_model.")}

    def find(self, title: str) -> Target | None:
        """The module that a file's name means."""
        title = title.removeprefix(_PEFT)
        start, networks = next((start, networks) for start, networks in _STARTS if title.startswith(start))
        rest = title[len(start) :].removeprefix(_PEFT).replace(".processor.", ".")
        for network in networks:
            for name in self._spell(network, rest):
                module = self._known.get(network, {}).get(join_name(name))
                if module is not None:
                    return Target(network, module)
        return None

    @staticmethod
    def _spell(network: str, name: str) -> Iterable[str]:
        yield name
        before, _, last = name.rpartition(".")
        if network == UNET and last == "to_out":
            yield f"{name}.0"
        elif network != UNET and last in _EARLY:
            yield f"{before}.{_EARLY[last]}"


def join_name(name: str) -> str:
    """A module's name as programs write it that have no dots in it."""
    return name.replace(".", "_")


def sort_tensors(names: Iterable[str], modules: Places) -> Layout:
    """Sort a file's tensors by the modules that they change."""
    groups: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    doubled: list[str] = []
    for name in names:
        title, role = _split(name)
        if not role:
            unknown.append(name)
        elif role in groups.get(title, {}):
            doubled.append(name)
        else:
            groups.setdefault(title, {})[role] = name
    changes: dict[Target, Change] = {}
    placeless: dict[str, tuple[str, ...]] = {}
    for title, tensors in groups.items():
        # a plain weight is IA3's, beside its mark
        if "weight" in tensors and "on_input" not in tensors:
            unknown.append(tensors.pop("weight"))
        if not tensors:
            continue
        target = modules.find(title)
        if target is None:
            placeless[title] = tuple(tensors.values())
        elif target in changes and not title.endswith(target.module):
            doubled.append(title)
        else:
            # the network's own name is the one that those of single layers go with
            doubled += [changes[target].title] if target in changes else []
            changes[target] = Change(title, target, tensors)
    # programs that turn one kind of names into another may leave both; a bias alone goes with the whole
    single = {
        (target.network, target.module)
        for target, change in changes.items()
        if not target.layers and change.tensors.keys() != {"diff_b"}
    }
    for target in [target for target in changes if any((target.network, layer) in single for layer in target.layers)]:
        doubled.append(changes.pop(target).title)
    return Layout(tuple(changes.values()), placeless, tuple(unknown), tuple(doubled))


def _split(name: str) -> tuple[str, str]:
    """(module, what the tensor is), both empty for a tensor of no method."""
    for pattern, role in _END:
        found = pattern.match(name)
        if found:
            own = next((value for key, value in found.groupdict().items() if key.startswith("own") and value), "")
            return found["module"], role or own
    return "", ""
