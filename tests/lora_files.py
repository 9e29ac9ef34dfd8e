"""LoRAs as kohya's scripts and LyCORIS write them, and the same as dense differences, by formulas of their own."""

from __future__ import annotations

import copy

import numpy as np
import torch
from safetensors.torch import save_file

from tests import original_layout as original

FAMILIES = ("sd1", "sd2", "sdxl")
#: a matrix, a convolution of 3x3, one of 1x1 and one for the text, by diffusers' names; they are in every family's network
ATTENTION = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
FEED = "up_blocks.1.attentions.1.transformer_blocks.0.ff.net.0.proj"
CONVOLUTION = "down_blocks.1.resnets.0.conv1"
DOWNSAMPLER = "down_blocks.0.downsamplers.0.conv"
PROJECTION = "up_blocks.1.attentions.0.proj_in"
SHORTCUT = "up_blocks.0.resnets.0.conv_shortcut"
UPSAMPLER = "up_blocks.0.upsamplers.0.conv"


class Network:
    """A pipeline of shrunk networks, as far as LoRAs ask for it."""

    def __init__(self, family: str) -> None:
        torch.manual_seed(FAMILIES.index(family))
        encoders = original.make_text_encoders(family)
        self.family, self.unet = family, original.make_unet(family)
        self.components = {"unet": self.unet, "text_encoder": encoders[0]}
        if family == "sdxl":
            self.components["text_encoder_2"] = encoders[1]

    def copy(self) -> Network:
        found = copy.copy(self)
        found.components = {name: copy.deepcopy(part) for name, part in self.components.items()}
        found.unet = found.components["unet"]
        return found

    @torch.no_grad()
    def run(self):
        """Everything that the networks say to fixed inputs."""
        torch.manual_seed(5)
        width = self.unet.config.cross_attention_dim
        added = {"text_embeds": torch.randn(1, 128), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
        more = {"added_cond_kwargs": added} if self.family == "sdxl" else {}
        said = [
            self.unet(torch.randn(1, 4, 16, 16), torch.tensor(321), encoder_hidden_states=torch.randn(1, 77, width), **more).sample
        ]
        ids = torch.tensor([[49406, 320, 1125, 539, 320, 2368] + [49407] * 71])
        said += [self.components[name](ids)[0] for name in ("text_encoder", "text_encoder_2") if name in self.components]
        return torch.cat([each.flatten() for each in said])


def name_by_kohya(family: str, name: str) -> str:
    """A module of the UNet as kohya's scripts name it: for SDXL by the original layout."""
    if family == "sdxl":
        found = original.unet_to_original({f"{name}.weight": 0}, original.LAYERS, original.ATTENTION[family])
        name = next(iter(found)).removesuffix(".weight")
    return "lora_unet_" + name.replace(".", "_")


def make_random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape) * 0.3


def choose_rank(own: torch.Tensor) -> int:
    return 3 if own.ndim == 2 else 2


def write_lora(own, dora=None):
    rank = choose_rank(own)
    kernel = own.shape[2:]
    down, up = make_random(rank, own.shape[1], *kernel), make_random(own.shape[0], rank, *(1 for _ in kernel))
    tensors = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(1.5)}
    dense = np.tensordot(up.numpy().reshape(len(own), rank), down.numpy(), 1) * 1.5 / rank
    return tensors, dense


def write_locon_with_core(own):
    if own.ndim == 2 or own.shape[2] == 1:
        return write_lora(own)
    down, up, core = make_random(2, own.shape[1], 1, 1), make_random(own.shape[0], 2, 1, 1), make_random(2, 2, 3, 3)
    dense = np.zeros(own.shape, np.float32)
    for m in range(2):
        for n in range(2):
            outer = np.outer(up.numpy()[:, m, 0, 0], down.numpy()[n, :, 0, 0])
            dense += outer[:, :, None, None] * core.numpy()[m, n]
    # a whole number, as a script writes that was given one
    return {"lora_down.weight": down, "lora_up.weight": up, "lora_mid.weight": core, "alpha": torch.tensor(1)}, dense / 2


def write_loha(own):
    rank, inputs = 2, own[0].numel()
    parts = [make_random(len(own), rank), make_random(rank, inputs), make_random(len(own), rank), make_random(rank, inputs)]
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    a, b, c, d = (part.numpy() for part in parts)
    dense = ((a @ b) * (c @ d)).reshape(own.shape) * 0.5 / rank
    return dict(zip(names, parts, strict=True)) | {"alpha": torch.tensor(0.5)}, dense


def write_loha_with_core(own):
    if own.ndim == 2:
        return write_loha(own)
    tensors = {"alpha": torch.tensor(4.0)}
    halves = []
    for n in (1, 2):
        core, outer, inner = make_random(2, 2, *own.shape[2:]), make_random(2, own.shape[0]), make_random(2, own.shape[1])
        tensors |= {f"hada_t{n}": core, f"hada_w{n}_a": outer, f"hada_w{n}_b": inner}
        half = np.tensordot(outer.numpy().T, np.tensordot(core.numpy(), inner.numpy(), (1, 0)), 1)
        halves.append(np.moveaxis(half, -1, 1))
    return tensors, halves[0] * halves[1] * 4.0 / 2


def multiply_kronecker(first, second):
    """Each number of the first matrix with the whole second one in its place."""
    rows = [np.concatenate([value * second for value in row], 1) for row in first]
    return np.concatenate(rows, 0)


def write_lokr(own):
    """As LyCORIS does by default: a small whole factor, and a large one of low rank."""
    first, left = make_random(4, 2), make_random(len(own) // 4, 2)
    right = make_random(2, own[0].numel() // 2)
    second = (left.numpy() @ right.numpy()).reshape(len(own) // 4, own.shape[1] // 2, *own.shape[2:])
    tensors = {"lokr_w1": first, "lokr_w2_a": left, "lokr_w2_b": right, "alpha": torch.tensor(3.0)}
    return tensors, multiply_kronecker(first.numpy(), second) * 3.0 / 2


def write_whole_lokr(own):
    """Both factors whole: then alpha, which is LyCORIS' rank, does not scale."""
    first, second = make_random(2, 4), make_random(len(own) // 2, own.shape[1] // 4, *own.shape[2:])
    tensors = {"lokr_w1": first, "lokr_w2": second, "alpha": torch.tensor(64.0)}
    return tensors, multiply_kronecker(first.numpy(), second.numpy())


def write_lokr_with_core(own):
    if own.ndim == 2:
        first = [make_random(4, 2), make_random(2, 2)]
        left, right = make_random(len(own) // 4, 2), make_random(2, own.shape[1] // 2)
        tensors = {"lokr_w1_a": first[0], "lokr_w1_b": first[1], "lokr_w2_a": left, "lokr_w2_b": right}
        dense = multiply_kronecker((first[0] @ first[1]).numpy(), (left @ right).numpy()) / 2
        return tensors | {"alpha": torch.tensor(1.0)}, dense
    first, core = make_random(2, 2), make_random(2, 2, *own.shape[2:])
    outer, inner = make_random(2, len(own) // 2), make_random(2, own.shape[1] // 2)
    second = np.tensordot(outer.numpy().T, np.tensordot(core.numpy(), inner.numpy(), (1, 0)), 1)
    tensors = {"lokr_w1": first, "lokr_t2": core, "lokr_w2_a": outer, "lokr_w2_b": inner, "alpha": torch.tensor(1.0)}
    return tensors, multiply_kronecker(first.numpy(), np.moveaxis(second, -1, 1)) / 2


def write_glora(own, early=False):
    """W A + B. Early versions of LyCORIS had the names of each pair the other way round."""
    ones = [1] * (own.ndim - 2)
    a, b = (
        (make_random(own.shape[1], 2), make_random(2, own.shape[1])),
        (make_random(own.shape[0], 2), make_random(2, *own.shape[1:])),
    )
    names = ("a2", "a1", "b2", "b1") if early else ("a1", "a2", "b1", "b2")
    tensors = dict(zip((f"{name}.weight" for name in names), (a[0], a[1], b[0], b[1]), strict=True))
    tensors = {name: value.reshape(*value.shape, *ones) if value.ndim == 2 else value for name, value in tensors.items()}
    mixed = np.moveaxis(np.tensordot(own.numpy(), (a[0] @ a[1]).numpy(), (1, 0)), -1, 1)
    dense = (mixed + np.tensordot(b[0].numpy(), b[1].numpy(), 1)) * 1.0 / 2
    return tensors | {"alpha": torch.tensor(1.0)}, dense


def write_early_glora(own):
    return write_glora(own, early=True)


def write_ia3(own, on_input=False):
    count = own.shape[1] if on_input else own.shape[0]
    factor = make_random(count) if own.ndim == 2 else make_random(1, count, 1, 1)
    values = factor.numpy().reshape(-1)
    dense = own.numpy() * (values.reshape(1, -1, *[1] * (own.ndim - 2)) if on_input else values.reshape(-1, *[1] * (own.ndim - 1)))
    return {"weight": factor, "on_input": torch.tensor(int(on_input))}, dense


def write_ia3_on_inputs(own):
    return write_ia3(own, on_input=True)


def write_difference(own):
    added = make_random(*own.shape)
    return {"diff": added}, added.numpy()


def write_dora(own, along_inputs=False):
    """The lengths of the changed weights are replaced."""
    tensors, dense = write_lora(own)
    count = own.shape[1] if along_inputs else own.shape[0]
    lengths = torch.rand(count) + 0.5
    changed = own.numpy() + dense
    for n in range(count):
        slice_ = (slice(None), n) if along_inputs else (n,)
        changed[slice_] *= lengths[n].item() / np.linalg.norm(changed[slice_])
    shape = (1, -1) if along_inputs else (-1, 1)
    return tensors | {"dora_scale": lengths.reshape(*shape, *[1] * (own.ndim - 2))}, changed - own.numpy()


def write_dora_along_inputs(own):
    return write_dora(own, along_inputs=True)


METHODS = {
    "LoRA": write_lora,
    "LoCon": write_locon_with_core,
    "LoHa": write_loha,
    "LoHa with a core": write_loha_with_core,
    "LoKr": write_lokr,
    "LoKr whole": write_whole_lokr,
    "LoKr with a core": write_lokr_with_core,
    "GLoRA": write_glora,
    "GLoRA early": write_early_glora,
    "IA3": write_ia3,
    "IA3 on inputs": write_ia3_on_inputs,
    "full difference": write_difference,
    "DoRA": write_dora,
    "DoRA along inputs": write_dora_along_inputs,
}


def write_file(network, method, path, seed=1):
    """A file of a method for some modules of every network, and (module, dense difference) of each."""
    torch.manual_seed(seed)
    state, dense = {}, []
    modules = [(name_by_kohya(network.family, name), "unet", name) for name in (ATTENTION, TEXT, FEED, CONVOLUTION, DOWNSAMPLER)]
    modules += [(name_by_kohya(network.family, name), "unet", name) for name in (PROJECTION, SHORTCUT, UPSAMPLER)]
    first = "lora_te1" if network.family == "sdxl" else "lora_te"
    for start, part in ((first, "text_encoder"), ("lora_te2", "text_encoder_2")):
        if part in network.components:
            for name in ("encoder.layers.1.self_attn.q_proj", "encoder.layers.2.mlp.fc1"):
                modules.append((f"{start}_text_model_{name.replace('.', '_')}", part, name))
    for title, part, name in modules:
        module = get_module(network.components[part], name)
        tensors, difference = METHODS[method](module.weight.data)
        state |= {f"{title}.{end}": value.contiguous() for end, value in tensors.items()}
        dense.append((part, name, torch.tensor(np.ascontiguousarray(difference), dtype=torch.float32)))
    save_file(state, path)
    return dense


def get_module(part, name):
    for root in ("", "text_model."):
        try:
            return part.get_submodule(root + name)
        except AttributeError:
            continue
    raise AssertionError(name)


def add_differences(network, dense, strength):
    for part, name, difference in dense:
        module = get_module(network.components[part], name)
        module.weight.data += strength * difference.reshape(module.weight.shape)
