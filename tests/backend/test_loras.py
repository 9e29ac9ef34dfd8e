"""LoRAs of every method and naming, written as other programs write them, against networks that were changed by hand."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import peft  # noqa: E402
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline  # noqa: E402
from diffusers.utils import convert_state_dict_to_diffusers  # noqa: E402
from peft.utils import get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from latentman.backend.models.lora_kinds import find_lora_kind  # noqa: E402
from latentman.backend.models.loras import add_loras  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from tests import original_layout as original  # noqa: E402

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


@pytest.fixture(scope="module")
def networks():
    return {family: Network(family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def network(request, networks):
    return networks[request.param]


def _kohya(family: str, name: str) -> str:
    """A module of the UNet as kohya's scripts name it: for SDXL by the original layout."""
    if family == "sdxl":
        found = original.unet_to_original({f"{name}.weight": 0}, original.LAYERS, original.ATTENTION[family])
        name = next(iter(found)).removesuffix(".weight")
    return "lora_unet_" + name.replace(".", "_")


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape) * 0.3


def _rank(own: torch.Tensor) -> int:
    return 3 if own.ndim == 2 else 2


def write_lora(own, dora=None):
    rank = _rank(own)
    kernel = own.shape[2:]
    down, up = _random(rank, own.shape[1], *kernel), _random(own.shape[0], rank, *(1 for _ in kernel))
    tensors = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(1.5)}
    dense = np.tensordot(up.numpy().reshape(len(own), rank), down.numpy(), 1) * 1.5 / rank
    return tensors, dense


def write_locon_with_core(own):
    if own.ndim == 2 or own.shape[2] == 1:
        return write_lora(own)
    down, up, core = _random(2, own.shape[1], 1, 1), _random(own.shape[0], 2, 1, 1), _random(2, 2, 3, 3)
    dense = np.zeros(own.shape, np.float32)
    for m in range(2):
        for n in range(2):
            outer = np.outer(up.numpy()[:, m, 0, 0], down.numpy()[n, :, 0, 0])
            dense += outer[:, :, None, None] * core.numpy()[m, n]
    # a whole number, as a script writes that was given one
    return {"lora_down.weight": down, "lora_up.weight": up, "lora_mid.weight": core, "alpha": torch.tensor(1)}, dense / 2


def write_loha(own):
    rank, inputs = 2, own[0].numel()
    parts = [_random(len(own), rank), _random(rank, inputs), _random(len(own), rank), _random(rank, inputs)]
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
        core, outer, inner = _random(2, 2, *own.shape[2:]), _random(2, own.shape[0]), _random(2, own.shape[1])
        tensors |= {f"hada_t{n}": core, f"hada_w{n}_a": outer, f"hada_w{n}_b": inner}
        half = np.tensordot(outer.numpy().T, np.tensordot(core.numpy(), inner.numpy(), (1, 0)), 1)
        halves.append(np.moveaxis(half, -1, 1))
    return tensors, halves[0] * halves[1] * 4.0 / 2


def _kronecker(first, second):
    """Each number of the first matrix with the whole second one in its place."""
    rows = [np.concatenate([value * second for value in row], 1) for row in first]
    return np.concatenate(rows, 0)


def write_lokr(own):
    """As LyCORIS does by default: a small whole factor, and a large one of low rank."""
    first, left = _random(4, 2), _random(len(own) // 4, 2)
    right = _random(2, own[0].numel() // 2)
    second = (left.numpy() @ right.numpy()).reshape(len(own) // 4, own.shape[1] // 2, *own.shape[2:])
    tensors = {"lokr_w1": first, "lokr_w2_a": left, "lokr_w2_b": right, "alpha": torch.tensor(3.0)}
    return tensors, _kronecker(first.numpy(), second) * 3.0 / 2


def write_whole_lokr(own):
    """Both factors whole: then alpha, which is LyCORIS' rank, does not scale."""
    first, second = _random(2, 4), _random(len(own) // 2, own.shape[1] // 4, *own.shape[2:])
    tensors = {"lokr_w1": first, "lokr_w2": second, "alpha": torch.tensor(64.0)}
    return tensors, _kronecker(first.numpy(), second.numpy())


def write_lokr_with_core(own):
    if own.ndim == 2:
        first = [_random(4, 2), _random(2, 2)]
        left, right = _random(len(own) // 4, 2), _random(2, own.shape[1] // 2)
        tensors = {"lokr_w1_a": first[0], "lokr_w1_b": first[1], "lokr_w2_a": left, "lokr_w2_b": right}
        dense = _kronecker((first[0] @ first[1]).numpy(), (left @ right).numpy()) / 2
        return tensors | {"alpha": torch.tensor(1.0)}, dense
    first, core = _random(2, 2), _random(2, 2, *own.shape[2:])
    outer, inner = _random(2, len(own) // 2), _random(2, own.shape[1] // 2)
    second = np.tensordot(outer.numpy().T, np.tensordot(core.numpy(), inner.numpy(), (1, 0)), 1)
    tensors = {"lokr_w1": first, "lokr_t2": core, "lokr_w2_a": outer, "lokr_w2_b": inner, "alpha": torch.tensor(1.0)}
    return tensors, _kronecker(first.numpy(), np.moveaxis(second, -1, 1)) / 2


def write_glora(own, early=False):
    """W A + B. Early versions of LyCORIS had the names of each pair the other way round."""
    ones = [1] * (own.ndim - 2)
    a, b = (_random(own.shape[1], 2), _random(2, own.shape[1])), (_random(own.shape[0], 2), _random(2, *own.shape[1:]))
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
    factor = _random(count) if own.ndim == 2 else _random(1, count, 1, 1)
    values = factor.numpy().reshape(-1)
    dense = own.numpy() * (values.reshape(1, -1, *[1] * (own.ndim - 2)) if on_input else values.reshape(-1, *[1] * (own.ndim - 1)))
    return {"weight": factor, "on_input": torch.tensor(int(on_input))}, dense


def write_ia3_on_inputs(own):
    return write_ia3(own, on_input=True)


def write_difference(own):
    added = _random(*own.shape)
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


def _write(network, method, path, seed=1):
    """A file of a method for some modules of every network, and (module, dense difference) of each."""
    torch.manual_seed(seed)
    state, dense = {}, []
    modules = [(_kohya(network.family, name), "unet", name) for name in (ATTENTION, TEXT, FEED, CONVOLUTION, DOWNSAMPLER)]
    modules += [(_kohya(network.family, name), "unet", name) for name in (PROJECTION, SHORTCUT, UPSAMPLER)]
    first = "lora_te1" if network.family == "sdxl" else "lora_te"
    for start, part in ((first, "text_encoder"), ("lora_te2", "text_encoder_2")):
        if part in network.components:
            for name in ("encoder.layers.1.self_attn.q_proj", "encoder.layers.2.mlp.fc1"):
                modules.append((f"{start}_text_model_{name.replace('.', '_')}", part, name))
    for title, part, name in modules:
        module = _get(network.components[part], name)
        tensors, difference = METHODS[method](module.weight.data)
        state |= {f"{title}.{end}": value.contiguous() for end, value in tensors.items()}
        dense.append((part, name, torch.tensor(np.ascontiguousarray(difference), dtype=torch.float32)))
    save_file(state, path)
    return dense


def _get(part, name):
    for root in ("", "text_model."):
        try:
            return part.get_submodule(root + name)
        except AttributeError:
            continue
    raise AssertionError(name)


def _add(network, dense, strength):
    for part, name, difference in dense:
        module = _get(network.components[part], name)
        module.weight.data += strength * difference.reshape(module.weight.shape)


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_kohya_and_lycoris(network, method, tmp_path):
    path = tmp_path / "a.safetensors"
    dense = _write(network, method, path)
    found, wanted = network.copy(), network.copy()
    assert add_loras(found, [(str(path), 0.7)]) == ()
    _add(wanted, dense, 0.7)
    torch.testing.assert_close(found.run(), wanted.run(), rtol=2e-4, atol=2e-4)
    assert (wanted.run() - network.run()).abs().max() > 1e-2
    for part, name, difference in dense:
        modules = [_get(each.components[part], name) for each in (found, network)]
        torch.testing.assert_close(modules[0].weight - modules[1].weight, 0.7 * difference.reshape(modules[0].weight.shape))


def test_several_add_up_in_any_order(networks, tmp_path):
    network, dense = networks["sd1"], []
    files = []
    for seed, method in enumerate(("LoKr", "DoRA", "LoRA")):
        path = tmp_path / f"{seed}.safetensors"
        dense.append((_write(network, method, path, seed), 0.5 + seed))
        files.append((str(path), 0.5 + seed))
    wanted = network.copy()
    for differences, strength in dense:
        _add(wanted, differences, strength)
    for order in (files, files[::-1]):
        found = network.copy()
        add_loras(found, order)
        torch.testing.assert_close(found.run(), wanted.run(), rtol=1e-3, atol=1e-3)
    # and the same file twice is its sum
    twice, once = network.copy(), network.copy()
    add_loras(twice, [files[2], (files[2][0], -0.5)])
    add_loras(once, [(files[2][0], files[2][1] - 0.5)])
    torch.testing.assert_close(twice.run(), once.run(), rtol=1e-4, atol=1e-4)


def test_biases_and_norms_of_a_full_difference(networks, tmp_path):
    """As LyCORIS writes them when it trains norms as well."""
    network = networks["sd1"]
    torch.manual_seed(2)
    norm, convolution = "down_blocks.0.resnets.0.norm1", "down_blocks.0.resnets.0.conv1"
    state = {
        f"lora_unet_{norm.replace('.', '_')}.w_norm": _random(32),
        f"lora_unet_{norm.replace('.', '_')}.b_norm": _random(32),
        f"lora_unet_{convolution.replace('.', '_')}.diff": _random(32, 32, 3, 3),
        f"lora_unet_{convolution.replace('.', '_')}.diff_b": _random(32),
        f"lora_unet_{ATTENTION.replace('.', '_')}.diff_b": _random(64),
    }
    save_file(state, tmp_path / "a.safetensors")
    found, wanted = network.copy(), network.copy()
    assert add_loras(found, [(str(tmp_path / "a.safetensors"), 2.0)]) == ()
    values = list(state.values())
    for name, weight, bias in ((norm, values[0], values[1]), (convolution, values[2], values[3])):
        _get(wanted.unet, name).weight.data += 2 * weight
        _get(wanted.unet, name).bias.data += 2 * bias
    _get(wanted.unet, ATTENTION).bias = torch.nn.Parameter(2 * values[4])
    torch.testing.assert_close(found.run(), wanted.run(), rtol=1e-4, atol=1e-4)


CONFIGURATIONS = {
    "LoRA": peft.LoraConfig(r=3, lora_alpha=6, target_modules=r".*(to_q|to_v|to_out\.0|proj_in|conv1|conv_shortcut)"),
    "DoRA": peft.LoraConfig(r=2, lora_alpha=2, use_dora=True, target_modules=r".*(to_q|to_k|conv1)"),
    "rank's root": peft.LoraConfig(r=4, lora_alpha=2, use_rslora=True, target_modules=["to_q", "to_k"]),
    "LoHa": peft.LoHaConfig(r=2, alpha=3, use_effective_conv2d=True, target_modules=r".*(to_q|conv1|proj_in)"),
    "LoKr": peft.LoKrConfig(r=2, alpha=3, use_effective_conv2d=True, target_modules=r".*(to_q|conv1|proj_in)"),
    "LoKr of both": peft.LoKrConfig(r=1, alpha=3, decompose_both=True, target_modules=r".*(to_q|conv2)"),
}


def _adapt(network, configuration):
    """A copy whose UNet has a random adapter, run by PEFT itself."""
    adapted = network.copy()
    adapted.unet = adapted.components["unet"] = peft.inject_adapter_in_model(configuration, adapted.unet)
    torch.manual_seed(7)
    for name, parameter in adapted.unet.named_parameters():
        if any(mark in name for mark in ("lora_", "hada_", "lokr_")):
            if "magnitude" in name:
                parameter.data *= 1.3
            else:
                parameter.data = 0.4 * _random(*parameter.shape)
    return adapted


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_files_of_peft(network, name, tmp_path):
    """PEFT runs its adapter, writes it, and the file does the same."""
    adapted = _adapt(network, CONFIGURATIONS[name])
    state = get_peft_model_state_dict(adapted.unet)
    save_file(
        {f"base_model.model.{key}": value.contiguous() for key, value in state.items()}, tmp_path / "adapter_model.safetensors"
    )
    CONFIGURATIONS[name].save_pretrained(tmp_path)
    found = network.copy()
    assert add_loras(found, [(str(tmp_path), 1.0)]) == ()
    torch.testing.assert_close(found.run(), adapted.run(), rtol=1e-3, atol=1e-3)
    assert (adapted.run() - network.run()).abs().max() > 1e-2


@pytest.mark.parametrize("form", ["metadata", "names of today", "alphas", "processors"])
def test_files_of_diffusers(network, form, tmp_path):
    configuration = peft.LoraConfig(r=2, lora_alpha=2 if form != "metadata" else 5, target_modules=["to_q", "to_out.0", "to_k"])
    adapted = _adapt(network, configuration)
    state = get_peft_model_state_dict(adapted.unet)
    if form in ("metadata", "names of today"):
        kind = StableDiffusionXLPipeline if network.family == "sdxl" else StableDiffusionPipeline
        metadata = {"unet_lora_adapter_metadata": configuration.to_dict()} if form == "metadata" else {}
        kind.save_lora_weights(tmp_path, unet_lora_layers=convert_state_dict_to_diffusers(state), **metadata)
    else:
        renamed = {}
        for key, value in state.items():
            ends = {".lora_A.weight": "down.weight", ".lora_B.weight": "up.weight"}
            end = next(end for end in ends if key.endswith(end))
            module = key.removesuffix(end)
            if form == "processors":
                # diffusers before 0.22
                before, _, last = module.removesuffix(".0").rpartition(".")
                renamed[f"unet.{before}.processor.{last}_lora.{ends[end]}"] = value.contiguous()
            else:
                renamed[f"unet.{module}.lora.{ends[end]}"] = value.contiguous()
                renamed[f"unet.{module}.alpha"] = torch.tensor(2.0)
        save_file(renamed, tmp_path / "pytorch_lora_weights.safetensors")
    found = network.copy()
    assert add_loras(found, [(str(tmp_path), 1.0)]) == ()
    torch.testing.assert_close(found.run(), adapted.run(), rtol=1e-3, atol=1e-3)
    assert (adapted.run() - network.run()).abs().max() > 1e-2


def test_what_has_no_place_is_named(networks, tmp_path):
    network = networks["sd1"]
    path = tmp_path / "style.safetensors"
    _write(network, "LoRA", path)
    state = load_file(path)
    lost = "lora_unet_down_blocks_7_attentions_0_transformer_blocks_0_attn1_to_q"
    more = {
        f"{lost}.lora_down.weight": _random(2, 64),
        f"{lost}.lora_up.weight": _random(64, 2),
        f"{lost}.alpha": torch.tensor(1.0),
    }
    more |= {"bundle_emb.hero.string_to_param.*": _random(2, 64), "lora_unet_conv_out.alpha": torch.tensor(1.0)}
    save_file(state | more, path)
    count = len({name.partition(".")[0] for name in state}) + 1
    said = add_loras(network.copy(), [(str(path), 1.0)])
    assert said[0].startswith(f"1 of the {count} layers that style.safetensors changes are not in this model") and lost in said[0]
    assert said[1].startswith("2 of the tensors in style.safetensors belong to no known method") and len(said) == 2


def test_what_does_not_fit_is_a_sentence(networks, tmp_path):
    path = tmp_path / "a.safetensors"
    name = _kohya("sd1", ATTENTION)
    pair = {f"{name}.lora_down.weight": _random(2, 64), f"{name}.lora_up.weight": _random(64, 2)}
    for state, words in (
        (pair | {f"{name}.lora_down.weight": _random(2, 32)}, "it changes weights of 64x32"),
        (pair | {f"{name}.lora_up.weight": _random(64, 3)}, "do not fit each other"),
        ({f"{name}.lora_down.weight": _random(2, 64)}, "lacks tensors of"),
        ({f"{name}.hada_w1_a": _random(2, 64)}, "lacks tensors of"),
        ({f"{name}.lokr_w1": _random(5, 5), f"{name}.lokr_w2": _random(2, 2)}, "does not divide"),
        ({f"{name}.weight": _random(5), f"{name}.on_input": torch.tensor(0)}, "it scales 5 rows"),
        ({f"{name}.oft_blocks": _random(4, 16, 16)}, "Its method, OFT, cannot be used"),
        ({key.replace(name, "lora_unet_nowhere"): value for key, value in pair.items()}, "none of the layers"),
        (pair | {f"{name}.dora_scale": _random(3, 1)}, "3 lengths"),
    ):
        save_file(state, path)
        with pytest.raises(ShotError, match=words) as caught:
            add_loras(networks["sd1"].copy(), [(str(path), 1.0)])
        assert str(caught.value).count(". ") == ("OFT" in words)
    (tmp_path / "pair").mkdir()
    for file in ("b", "c"):
        save_file({f"{name}.diff": _random(64, 64)}, tmp_path / "pair" / f"{file}.safetensors")
    with pytest.raises(ShotError, match=r"holds 2 LoRAs \(b.safetensors, c.safetensors\)"):
        add_loras(networks["sd1"].copy(), [(str(tmp_path / "pair"), 1.0)])
    (tmp_path / "none").mkdir()
    with pytest.raises(ShotError, match="holds no LoRA"):
        add_loras(networks["sd1"].copy(), [(str(tmp_path / "none"), 1.0)])
    save_file({f"base_model.model.{ATTENTION}.lora_A.weight": _random(2, 64)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": "many"}))
    with pytest.raises(ShotError):
        add_loras(networks["sd1"].copy(), [(str(tmp_path / "adapter_model.safetensors"), 1.0)])


def test_halves_are_rounded_once(networks, tmp_path):
    network = networks["sd1"]
    dense = _write(network, "LoRA", tmp_path / "a.safetensors")
    found = network.copy()
    found.unet.to(torch.float16)
    add_loras(found, [(str(tmp_path / "a.safetensors"), 0.5)])
    for part, name, difference in dense:
        if part == "unet":
            own = _get(network.unet, name).weight.half().float()
            wanted = (own + 0.5 * difference.reshape(own.shape)).half()
            weight = _get(found.unet, name).weight
            assert weight.dtype == torch.float16
            torch.testing.assert_close(weight, wanted, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_recognised(networks, method, tmp_path):
    torch.manual_seed(1)
    tensors, _ = METHODS[method](_get(networks["sd1"].unet, CONVOLUTION).weight.data)
    kind = find_lora_kind({f"lora_unet_a.{name}": tuple(value.shape) for name, value in tensors.items()})
    name = {"DoRA": "LoCon", "LoRA": "LoCon", "full": "full difference"}.get(method.split()[0], method.split()[0])
    assert kind is not None and kind.method == name and kind.dora == method.startswith("DoRA")
