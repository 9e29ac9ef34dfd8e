"""LoRAs of every method and naming, written as other programs write them, against networks that were changed by hand."""

from __future__ import annotations

import json

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
from tests.lora_files import (  # noqa: E402
    ATTENTION,
    CONVOLUTION,
    FAMILIES,
    METHODS,
    Network,
    add_differences,
    get_module,
    make_random,
    name_by_kohya,
    write_file,
)


@pytest.fixture(scope="module")
def networks():
    return {family: Network(family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def network(request, networks):
    return networks[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_methods_of_kohya_and_lycoris(network, method, tmp_path):
    path = tmp_path / "a.safetensors"
    dense = write_file(network, method, path)
    found, wanted = network.copy(), network.copy()
    assert add_loras(found, [(str(path), 0.7)]) == ()
    add_differences(wanted, dense, 0.7)
    torch.testing.assert_close(found.run(), wanted.run(), rtol=2e-4, atol=2e-4)
    assert (wanted.run() - network.run()).abs().max() > 1e-2
    for part, name, difference in dense:
        modules = [get_module(each.components[part], name) for each in (found, network)]
        torch.testing.assert_close(modules[0].weight - modules[1].weight, 0.7 * difference.reshape(modules[0].weight.shape))


def test_several_add_up_in_any_order(networks, tmp_path):
    network, dense = networks["sd1"], []
    files = []
    for seed, method in enumerate(("LoKr", "DoRA", "LoRA")):
        path = tmp_path / f"{seed}.safetensors"
        dense.append((write_file(network, method, path, seed), 0.5 + seed))
        files.append((str(path), 0.5 + seed))
    wanted = network.copy()
    for differences, strength in dense:
        add_differences(wanted, differences, strength)
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
        f"lora_unet_{norm.replace('.', '_')}.w_norm": make_random(32),
        f"lora_unet_{norm.replace('.', '_')}.b_norm": make_random(32),
        f"lora_unet_{convolution.replace('.', '_')}.diff": make_random(32, 32, 3, 3),
        f"lora_unet_{convolution.replace('.', '_')}.diff_b": make_random(32),
        f"lora_unet_{ATTENTION.replace('.', '_')}.diff_b": make_random(64),
    }
    save_file(state, tmp_path / "a.safetensors")
    found, wanted = network.copy(), network.copy()
    assert add_loras(found, [(str(tmp_path / "a.safetensors"), 2.0)]) == ()
    values = list(state.values())
    for name, weight, bias in ((norm, values[0], values[1]), (convolution, values[2], values[3])):
        get_module(wanted.unet, name).weight.data += 2 * weight
        get_module(wanted.unet, name).bias.data += 2 * bias
    get_module(wanted.unet, ATTENTION).bias = torch.nn.Parameter(2 * values[4])
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
                parameter.data = 0.4 * make_random(*parameter.shape)
    return adapted


@pytest.mark.slow
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


@pytest.mark.slow
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
    write_file(network, "LoRA", path)
    state = load_file(path)
    lost = "lora_unet_down_blocks_7_attentions_0_transformer_blocks_0_attn1_to_q"
    more = {
        f"{lost}.lora_down.weight": make_random(2, 64),
        f"{lost}.lora_up.weight": make_random(64, 2),
        f"{lost}.alpha": torch.tensor(1.0),
    }
    more |= {"bundle_emb.hero.string_to_param.*": make_random(2, 64), "lora_unet_conv_out.alpha": torch.tensor(1.0)}
    save_file(state | more, path)
    count = len({name.partition(".")[0] for name in state}) + 1
    said = add_loras(network.copy(), [(str(path), 1.0)])
    assert said[0].startswith(f"1 of the {count} layers that style.safetensors changes are not in this model") and lost in said[0]
    assert said[1].startswith("2 of the tensors in style.safetensors belong to no known method") and len(said) == 2


def test_what_does_not_fit_is_a_sentence(networks, tmp_path):
    path = tmp_path / "a.safetensors"
    name = name_by_kohya("sd1", ATTENTION)
    pair = {f"{name}.lora_down.weight": make_random(2, 64), f"{name}.lora_up.weight": make_random(64, 2)}
    for state, words in (
        (pair | {f"{name}.lora_down.weight": make_random(2, 32)}, "it changes weights of 64x32"),
        (pair | {f"{name}.lora_up.weight": make_random(64, 3)}, "do not fit each other"),
        ({f"{name}.lora_down.weight": make_random(2, 64)}, "lacks tensors of"),
        ({f"{name}.hada_w1_a": make_random(2, 64)}, "lacks tensors of"),
        ({f"{name}.lokr_w1": make_random(5, 5), f"{name}.lokr_w2": make_random(2, 2)}, "does not divide"),
        ({f"{name}.weight": make_random(5), f"{name}.on_input": torch.tensor(0)}, "it scales 5 rows"),
        ({f"{name}.oft_blocks": make_random(4, 16, 16)}, "Its method, OFT, cannot be used"),
        ({key.replace(name, "lora_unet_mid_block_nowhere"): value for key, value in pair.items()}, "none of the layers"),
        (pair | {f"{name}.dora_scale": make_random(3, 1)}, "3 lengths"),
    ):
        save_file(state, path)
        with pytest.raises(ShotError, match=words) as caught:
            add_loras(networks["sd1"].copy(), [(str(path), 1.0)])
        assert str(caught.value).count(". ") == ("OFT" in words)
    (tmp_path / "pair").mkdir()
    for file in ("b", "c"):
        save_file({f"{name}.diff": make_random(64, 64)}, tmp_path / "pair" / f"{file}.safetensors")
    with pytest.raises(ShotError, match=r"holds 2 LoRAs \(b.safetensors, c.safetensors\)"):
        add_loras(networks["sd1"].copy(), [(str(tmp_path / "pair"), 1.0)])
    (tmp_path / "none").mkdir()
    with pytest.raises(ShotError, match="holds no LoRA"):
        add_loras(networks["sd1"].copy(), [(str(tmp_path / "none"), 1.0)])
    save_file({f"base_model.model.{ATTENTION}.lora_A.weight": make_random(2, 64)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": "many"}))
    with pytest.raises(ShotError):
        add_loras(networks["sd1"].copy(), [(str(tmp_path / "adapter_model.safetensors"), 1.0)])


def test_halves_are_rounded_once(networks, tmp_path):
    network = networks["sd1"]
    dense = write_file(network, "LoRA", tmp_path / "a.safetensors")
    found = network.copy()
    found.unet.to(torch.float16)
    add_loras(found, [(str(tmp_path / "a.safetensors"), 0.5)])
    for part, name, difference in dense:
        if part == "unet":
            own = get_module(network.unet, name).weight.half().float()
            wanted = (own + 0.5 * difference.reshape(own.shape)).half()
            weight = get_module(found.unet, name).weight
            assert weight.dtype == torch.float16
            torch.testing.assert_close(weight, wanted, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_recognised(networks, method, tmp_path):
    torch.manual_seed(1)
    tensors, _ = METHODS[method](get_module(networks["sd1"].unet, CONVOLUTION).weight.data)
    kind = find_lora_kind({f"lora_unet_a.{name}": tuple(value.shape) for name, value in tensors.items()})
    name = {"DoRA": "LoCon", "LoRA": "LoCon", "full": "full difference"}.get(method.split()[0], method.split()[0])
    assert kind is not None and kind.method == name and kind.dora == method.startswith("DoRA")
