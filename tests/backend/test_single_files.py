"""Checkpoints, ControlNets and auto-encoders in single files: loaded without a connection, they compute what the networks computed
that the files were made from."""

from __future__ import annotations

import copy
import re
import socket

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import (  # noqa: E402
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    LCMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders import single_file_utils as theirs  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from latentman.backend.models import registry, usual_controls  # noqa: E402
from latentman.backend.models.embeddings import EmbeddingWord, replace_words  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.network_parts import plan_clip, plan_open_clip, plan_vae  # noqa: E402
from latentman.backend.models.networks import plan_controlnet, plan_unet  # noqa: E402
from latentman.backend.models.preflight import check_model  # noqa: E402
from latentman.backend.models.registry import find_model, fingerprint  # noqa: E402
from latentman.backend.models.single_files import load_checkpoint_file, load_controlnet_file, load_vae_file  # noqa: E402
from latentman.backend.models.tokenizers import MERGES, make_clip_tokenizer  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from tests import original_layout as original  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.test_model_files import _real  # noqa: E402

FAMILIES = ("sd1", "sd2", "sdxl")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_connection(monkeypatch):
    """Whoever asks a hub fails."""

    def refuse(*_, **__):
        raise AssertionError("it asks for a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


class Truth:
    """The shrunk networks of a family, and the file made of them."""

    def __init__(self, family: str, folder) -> None:
        torch.manual_seed(FAMILIES.index(family))
        self.family, self.unet, self.vae = family, original.make_unet(family), original.make_vae()
        self.vae.register_to_config(scaling_factor=0.13025 if family == "sdxl" else 0.18215)
        self.encoders, self.control = original.make_text_encoders(family), original.make_controlnet(self.unet)
        self.state = original.checkpoint_to_original(family, self.unet, self.vae, self.encoders)
        self.path, self.control_path = folder / f"{family}.safetensors", folder / f"{family} depth.safetensors"
        save_file(self.state, self.path)
        save_file(
            original.under(
                "control_model.",
                original.unet_to_original(self.control.state_dict(), original.LAYERS, original.ATTENTION[family]),
            ),
            self.control_path,
        )

    def conditions(self):
        """Latents, a time, a text and what SDXL takes besides."""
        torch.manual_seed(5)
        width = self.unet.config.cross_attention_dim
        added = {"text_embeds": torch.randn(1, 128), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
        more = {"added_cond_kwargs": added} if self.family == "sdxl" else {}
        return torch.randn(1, 4, 16, 16), torch.tensor(321), dict(encoder_hidden_states=torch.randn(1, 77, width), **more)

    def write_folder(self, folder) -> str:
        """The same as a diffusers folder."""
        parts = dict(vae=self.vae, unet=self.unet, controlnet=self.control, text_encoder=self.encoders[0])
        prediction = "v_prediction" if self.family == "sd2" else "epsilon"
        parts |= dict(
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
                prediction_type=prediction,
            ),
            tokenizer=make_clip_tokenizer("!" if self.family == "sd2" else "<|endoftext|>"),
        )
        if self.family == "sdxl":
            made = StableDiffusionXLControlNetPipeline(
                text_encoder_2=self.encoders[1], tokenizer_2=make_clip_tokenizer("!"), **parts
            )
        else:
            made = StableDiffusionControlNetPipeline(
                safety_checker=None, feature_extractor=None, requires_safety_checker=False, **parts
            )
        made.save_pretrained(folder)
        return str(folder)


@pytest.fixture(scope="module")
def truths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single files")
    return {family: Truth(family, folder) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def truth(request, truths):
    return truths[request.param]


@torch.no_grad()
def _compare(parts, truth):
    latents, time, options = truth.conditions()
    assert torch.equal(parts["unet"](latents, time, **options).sample, truth.unet(latents, time, **options).sample)
    pictures = torch.randn(1, 3, 32, 32)
    for name in ("encode", "decode"):
        given = pictures if name == "encode" else latents
        found, wanted = (getattr(vae, name)(given) for vae in (parts["vae"], truth.vae))
        values = [value.latent_dist.mode() if name == "encode" else value.sample for value in (found, wanted)]
        torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
    ids = torch.tensor([[49406, 320, 1125, 539, 320, 2368] + [49407] * 71])
    for name, wanted in zip(("text_encoder", "text_encoder_2"), truth.encoders, strict=False):
        found = parts[name](ids, output_hidden_states=True)
        known = wanted(ids, output_hidden_states=True)
        assert torch.equal(found[0], known[0]) and torch.equal(found.hidden_states[-2], known.hidden_states[-2]), name


@pytest.mark.parametrize("form", ["safetensors", "CKPT", "ema", "half", "odd"])
def test_a_checkpoint_computes_what_it_was_made_from(truth, tmp_path, form):
    path = truth.path
    if form == "CKPT":
        path = tmp_path / "model.CKPT"
        torch.save({"state_dict": truth.state, "global_step": 1}, path)
    elif form == "ema":
        # the running means are others, and the weights themselves are taken
        path = tmp_path / "model.safetensors"
        save_file(original.add_ema(truth.state), path)
    elif form == "half":
        path = tmp_path / "half.SAFETENSORS"
        save_file({name: value.half() if value.is_floating_point() else value for name, value in truth.state.items()}, path)
    elif form == "odd":
        # a header whose length is odd, so that all numbers lie at odd addresses
        data = truth.path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        path = tmp_path / "odd.safetensors"
        path.write_bytes((length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :])
    found = load_checkpoint_file(path, torch.float32)
    assert not [warning for warning in found.warnings if "no place" in warning]
    assert (len(found.warnings) == 1) == (truth.family == "sd2")
    if form == "half":
        for name, network in (("unet", truth.unet), ("vae", truth.vae)):
            made = found.parts[name].state_dict()
            assert all(torch.equal(made[key], value.half().float()) for key, value in network.state_dict().items()), name
    else:
        _compare(found.parts, truth)


def test_configurations_are_those_of_the_networks(truth):
    found = load_checkpoint_file(truth.path, torch.float32).parts
    assert _plain(found["vae"].config, "layers_per_block", "block_out_channels", "latent_channels") == _plain(
        truth.vae.config, "layers_per_block", "block_out_channels", "latent_channels"
    )
    assert found["vae"].config.scaling_factor == (0.13025 if truth.family == "sdxl" else 0.18215)
    assert found["vae"].config.force_upcast == (truth.family == "sdxl")
    scheduler = found["scheduler"].config
    assert scheduler.prediction_type == ("v_prediction" if truth.family == "sd2" else "epsilon")
    assert (scheduler.beta_start, scheduler.beta_end, scheduler.beta_schedule) == (0.00085, 0.012, "scaled_linear")
    assert found["tokenizer"].pad_token == ("!" if truth.family == "sd2" else "<|endoftext|>")


def _plain(config, *names):
    return {name: list(value) if isinstance(value := config[name], (list, tuple)) else value for name in names}


def test_pictures_equal_those_of_the_folder(truth, tmp_path):
    """A shot of the method with the file and its ControlNet is, to the bit, that with a diffusers folder of the same networks."""
    folder = load(truth.write_folder(tmp_path / "folder"), CPU)
    file = load(f"{truth.path} | depth = {truth.control_path}", CPU)
    request, passes = samples.request(2, steps=3, prompt="a photo of a cat", negative_prompt="bad"), samples.passes(2)
    context = RunContext()
    made = [np.stack(list(ShotPipeline(model, request, passes, context).frames())) for model in (folder, file)]
    assert (made[0] == made[1]).all() and made[0].std() > 1
    assert list(file.warnings) == [warning for warning in context.warnings if warning in file.warnings]
    assert (truth.family == "sd2") == any("epsilon" in warning for warning in context.warnings)


def test_controlnets_compute_what_they_were_made_from(truth, tmp_path):
    latents, time, options = truth.conditions()
    picture = torch.rand(1, 3, 128, 128)
    save_file(truth.control.state_dict(), tmp_path / "own layout.safetensors")
    original_state = original.unet_to_original(truth.control.state_dict(), original.LAYERS, original.ATTENTION[truth.family])
    torch.save(original_state, tmp_path / "bare.PTH")
    torch.save({"state_dict": original.under("control_model.", original_state)}, tmp_path / "inside.pth")
    torch.save(truth.state | original.under("control_model.", original_state), tmp_path / "with its model.pth")
    for name in ("own layout.safetensors", "bare.PTH", "inside.pth", "with its model.pth"):
        network, found, warnings = load_controlnet_file(tmp_path / name, torch.float32)
        assert found.family == truth.family and not [warning for warning in warnings if name != "with its model.pth"]
        with torch.no_grad():
            results = [net(latents, time, controlnet_cond=picture, **options) for net in (network, truth.control)]
        for one, other in zip(results[0][0] + [results[0][1]], results[1][0] + [results[1][1]], strict=True):
            assert torch.equal(one, other) and one.std() > 0, name


def test_auto_encoders_in_files_of_their_own(truths, tmp_path):
    torch.manual_seed(9)
    vae, latents = original.make_vae(), torch.randn(1, 4, 8, 8)
    state = original.vae_to_original(vae.state_dict(), 4)
    save_file(original.under("", state), tmp_path / "a.safetensors")
    save_file(vae.state_dict(), tmp_path / "b.safetensors")
    torch.save({"state_dict": original.under("first_stage_model.", state)}, tmp_path / "c.ckpt")
    torch.save({"state_dict": state | {"loss.discriminator": torch.zeros(3)}}, tmp_path / "d.pt")
    words = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    early = {re.sub("to_[qkv]|to_out.0", lambda found: words[found[0]], name): value for name, value in vae.state_dict().items()}
    save_file(early, tmp_path / "e.safetensors")
    for path in sorted(tmp_path.iterdir()):
        for family in ("sd1", "sdxl"):
            found, warnings = load_vae_file(path, family, torch.float32)
            with torch.no_grad():
                torch.testing.assert_close(found.decode(latents).sample, vae.decode(latents).sample, rtol=1e-5, atol=1e-5)
            assert found.config.scaling_factor == (0.13025 if family == "sdxl" else 0.18215) and not warnings
    # as a part of a model's name, from a whole checkpoint as well
    base = truths["sd1"]
    name = f"{base.path}|{base.control_path}|vae={tmp_path / 'a.safetensors'}"
    with torch.no_grad():
        exchanged = load(name, CPU).pipeline.vae.decode(latents).sample
    torch.testing.assert_close(exchanged, vae.decode(latents).sample.detach(), rtol=1e-5, atol=1e-5)
    before = fingerprint(name)
    (tmp_path / "a.safetensors").touch()
    assert fingerprint(name) != before
    with pytest.raises(ShotError, match=r"sdxl\.safetensors is for SDXL"):
        load_vae_file(truths["sdxl"].path, "sd1", torch.float32)
    with pytest.raises(ShotError, match="no auto-encoder"):
        load_vae_file(base.control_path, "sd1", torch.float32)


def test_weights_that_are_missing_are_an_error(truth, tmp_path):
    names = [name for name in truth.state if not name.startswith("alphas")]
    for part in ("output_blocks.3.0.in_layers.0.weight", "decoder.conv_out.bias", "1.mlp.", "middle_block.1.norm.weight"):
        left_out = next(name for name in names if part in name)
        save_file({name: value for name, value in truth.state.items() if name != left_out}, tmp_path / "a.safetensors")
        with pytest.raises(ShotError, match=r"lacks 1 of the \d+ weights of its") as raised:
            load_checkpoint_file(tmp_path / "a.safetensors", torch.float32)
        assert str(raised.value).endswith("download it again.")
    for prefix, title in (("first_stage_model.", "auto-encoder"), ("con", "text encoder")):
        cut = {name: value for name, value in truth.state.items() if not name.startswith(prefix)}
        save_file(cut, tmp_path / "b.safetensors")
        with pytest.raises(ShotError, match=title):
            load_checkpoint_file(tmp_path / "b.safetensors", torch.float32)
    only = {name: value for name, value in truth.state.items() if name.startswith("model.")}
    save_file(only, tmp_path / "c.safetensors")
    with pytest.raises(ShotError, match="UNet alone"):
        load_checkpoint_file(tmp_path / "c.safetensors", torch.float32)


def test_weights_without_a_place_are_named(truth, tmp_path):
    extra = {
        "model.diffusion_model.adapter.weight": torch.ones(3),
        "something.else": torch.ones(2),
        "v_pred": torch.zeros(0),
        "first_stage_model.encoder.mystery.bias": torch.ones(1),
    }
    save_file(truth.state | extra, tmp_path / "a.safetensors")
    found = load_checkpoint_file(tmp_path / "a.safetensors", torch.float32)
    (sentence,) = [warning for warning in found.warnings if "no place" in warning]
    assert sentence.startswith("3 of the weights in a.safetensors") and "adapter.weight" in sentence
    assert found.parts["scheduler"].config.prediction_type == "v_prediction"
    _compare(found.parts, truth)


def test_weights_of_another_shape_are_an_error(truth, tmp_path):
    name = next(key for key in truth.state if key.endswith("output_blocks.0.0.in_layers.0.weight"))
    save_file(truth.state | {name: torch.zeros(7)}, tmp_path / "a.safetensors")
    with pytest.raises(ShotError, match=r"another shape in its UNet: .* is \(7,\)"):
        load_checkpoint_file(tmp_path / "a.safetensors", torch.float32)


def test_a_fine_tune_may_keep_its_matrices_as_convolutions(truths, tmp_path):
    truth = truths["sd1"]
    state = {
        name: value[:, :, 0, 0].contiguous() if re.search(r"proj_(in|out)\.weight", name) and value.ndim == 4 else value
        for name, value in truth.state.items()
        if name.startswith("first_stage_model.")
    }
    changed = truth.state | state
    assert any(changed[name].shape != value.shape for name, value in truth.state.items())
    save_file(changed, tmp_path / "a.safetensors")
    _compare(load_checkpoint_file(tmp_path / "a.safetensors", torch.float32).parts, truth)


def test_what_a_file_says_reaches_the_scheduler(truths, tmp_path):
    truth = truths["sdxl"]
    save_file(truth.state | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, tmp_path / "noob.safetensors")
    model = load(f"{tmp_path / 'noob.safetensors'}|{truth.control_path}", CPU)
    config = model.make_scheduler(5).config
    assert (config.prediction_type, config.rescale_betas_zero_snr, config.timestep_spacing) == ("v_prediction", True, "trailing")
    assert float(model.make_scheduler(5).alphas_cumprod[-1]) < 1e-7
    for name, kind in (("my_LCM.safetensors", LCMScheduler), ("mine-lightning-4step.safetensors", DDIMScheduler)):
        save_file(truth.state, tmp_path / name)
        model = load(f"{tmp_path / name}|{truth.control_path}", CPU)
        assert isinstance(model.make_scheduler(4), kind) and model.profile.guidance_scale == 1
        assert any("taken from its name" in warning for warning in model.warnings)


def test_parts_of_different_families_are_refused_before_loading(truths):
    for check in (lambda name: check_model(name, 512, 512), lambda name: load(name, CPU)):
        with pytest.raises(ShotError, match="does not fit the base model"):
            check(f"{truths['sd1'].path}|{truths['sdxl'].control_path}")
        with pytest.raises(ShotError, match="The file is no ControlNet"):
            check(f"{truths['sd1'].path}|{truths['sd1'].path}")
        with pytest.raises(ShotError, match="The file is no checkpoint"):
            check(f"{truths['sd1'].control_path}|{truths['sd1'].control_path}")
    check_model(f"{truths['sd1'].path}|{truths['sd1'].control_path}", 64, 64)
    with pytest.raises(ShotError, match="nearest size"):
        check_model(f"{truths['sd1'].path}|{truths['sd1'].control_path}", 72, 72)


def test_a_controlnet_for_something_else_is_said(truths, tmp_path):
    truth = truths["sd1"]
    path = tmp_path / "control_v11p_sd15_canny.safetensors"
    path.write_bytes(truth.control_path.read_bytes())
    model = load(f"{truth.path}|depth={path}", CPU)
    assert any("for canny; it is used for depth" in warning for warning in model.warnings)
    assert not [warning for warning in load(f"{truth.path}|{truth.control_path}", CPU).warnings if "canny" in warning]


def test_a_checkpoint_alone_takes_its_familys_usual_controlnet(truths, tmp_path, monkeypatch):
    for family, truth in truths.items():
        alone = tmp_path / family / truth.path.name
        alone.parent.mkdir()
        alone.symlink_to(truth.path)
        assert find_model(str(alone)).controls == (("depth", usual_controls.USUAL[family]),)
        # one that lies beside it needs no hub
        assert find_model(f"{truth.path}|").controls == (("depth", str(truth.control_path)),)
    assert registry.PRESETS["sd15"].controls == (("depth", usual_controls.USUAL["sd1"]),)
    with pytest.raises(ShotError, match="not a model to make pictures with"):
        find_model(str(truths["sd1"].control_path))
    monkeypatch.setitem(usual_controls.USUAL, "sd1", str(truths["sd1"].control_path))
    assert load(str(tmp_path / "sd1" / truths["sd1"].path.name), CPU).controls == ("depth",)


def test_plans_of_the_real_networks():
    """Names and configurations of the published networks, from names and shapes alone."""
    for family in FAMILIES:
        unet = _real(family)
        attention = tuple("Attn" in block for block in unet.config.down_block_types)
        with torch.device("meta"):
            control = ControlNetModel.from_unet(unet)
        for network, plan in ((unet, plan_unet), (control, plan_controlnet)):
            state = network.state_dict()
            for named in (original.unet_to_original(state, 2, attention), state):
                found = plan({name: tuple(value.shape) for name, value in named.items()}, "x.")
                assert set(found.sources) == set(state), family
                assert all(source.name.startswith("x.") for source in found.sources.values())
                with torch.device("meta"):
                    again = type(network)(**found.config)
                shapes = [{name: value.shape for name, value in each.state_dict().items()} for each in (network, again)]
                assert shapes[0] == shapes[1], family
                for name in ("attention_head_dim", "down_block_types", "block_out_channels", "cross_attention_dim"):
                    given, wanted = found.config[name], network.config[name]
                    assert (list(given) if isinstance(given, list) else given) == (
                        list(wanted) if isinstance(wanted, (list, tuple)) else wanted
                    ), (family, name)
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        state = original.vae_to_original(vae.state_dict(), 4)
        found = plan_vae({name: tuple(value.shape) for name, value in state.items()}, "", "sd1")
        again = AutoencoderKL(**found.config)
    assert set(found.sources) == set(vae.state_dict())
    assert [value.shape for value in again.state_dict().values()] == [value.shape for value in vae.state_dict().values()]


def test_names_are_those_of_diffusers_own_conversion(truth):
    """Diffusers' conversion gives the same tensors the same names, so that the test's own names are the published ones."""
    unet = original.unet_to_original(truth.unet.state_dict(), original.LAYERS, original.ATTENTION[truth.family])
    config = dict(truth.unet.config)
    converted = theirs.convert_ldm_unet_checkpoint(original.under("model.diffusion_model.", unet), config)
    _same(converted, unet, plan_unet(_shapes(unet), ""))
    control = original.unet_to_original(truth.control.state_dict(), original.LAYERS, original.ATTENTION[truth.family])
    converted = theirs.convert_controlnet_checkpoint(original.under("control_model.", control), dict(truth.control.config))
    # which forgets what SDXL's are told besides
    _same(converted, control, plan_controlnet(_shapes(control), ""), "add_embedding.")
    vae = original.vae_to_original(truth.vae.state_dict(), 4)
    converted = theirs.convert_ldm_vae_checkpoint(original.under("first_stage_model.", vae), dict(truth.vae.config))
    _same(converted, vae, plan_vae(_shapes(vae), "", "sd1"))


def _shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


def _same(converted, state, plan, forgotten=None):
    assert set(converted) == {name for name in plan.sources if not forgotten or not name.startswith(forgotten)}
    for name, value in converted.items():
        assert torch.equal(value.flatten(), state[plan.sources[name].name].flatten()), name


def test_text_encoders_without_their_root_and_with_a_projection():
    encoder = original.make_text_encoders("sdxl")[1]
    plain = {name.removeprefix("text_model."): tuple(value.shape) for name, value in encoder.state_dict().items()}
    for names in (plain, {f"text_model.{name}": shape for name, shape in plain.items()}):
        plan = plan_clip(names, "")
        assert plan.config["num_hidden_layers"] == 3 and plan.config["num_attention_heads"] == 2
    opened = original.clip_to_open_clip(encoder.state_dict(), spare=False)
    plan = plan_open_clip(_shapes(opened), "", penultimate=False)
    assert plan.config["projection_dim"] == 128 and plan.config["hidden_act"] == "gelu"
    assert plan.sources["text_projection.weight"].turned
    with pytest.raises(ShotError, match="built differently"):
        plan_clip(plain | {"embeddings.token_embedding.weight": (1000, 128)}, "")


def test_the_tokenizer_is_clips():
    tokenizer = make_clip_tokenizer()
    assert len(tokenizer) == 49408 and tokenizer.model_max_length == 77
    # as CLIP's own repository gives them
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("Hello World!").input_ids == [49406, 3306, 1002, 256, 49407]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (49406, 49407, 49407)
    assert make_clip_tokenizer("!").pad_token_id == 0
    lines = MERGES.read_text(encoding="utf-8").splitlines()
    ranks = {tuple(line.split()): number for number, line in enumerate(lines)}
    assert len(ranks) == 48894
    words = ["the", "quick", "foxes'", "photorealistic", "masterpiece,", "8k", "uhd", "zzyzx", "(best", "quality:1.2)", "it's"]
    pieces = [piece for word in words for piece in re.findall(r"'s|[a-z]+|\d|[^a-z\d]+", word)]
    wanted = [number for piece in pieces for number in _merge(piece, ranks)]
    assert tokenizer(" ".join(words), add_special_tokens=False).input_ids == wanted
    assert tokenizer("naïve 日本 🎉", add_special_tokens=False).input_ids and tokenizer.unk_token_id == 49407
    assert 49407 not in tokenizer("naïve 日本 🎉", add_special_tokens=False).input_ids


def _merge(word, ranks):
    """A plain implementation of byte-pair encoding, for printable ASCII."""
    parts = [*word[:-1], word[-1] + "</w>"]
    while len(parts) > 1:
        best = min(range(len(parts) - 1), key=lambda n: ranks.get((parts[n], parts[n + 1]), 1 << 30))
        if (parts[best], parts[best + 1]) not in ranks:
            break
        pair = (parts[best], parts[best + 1])
        merged, n = [], 0
        while n < len(parts):
            whole = n + 1 < len(parts) and (parts[n], parts[n + 1]) == pair
            merged.append(parts[n] + parts[n + 1] if whole else parts[n])
            n += 2 if whole else 1
        parts = merged
    letters = {chr(ord("!") + n): n for n in range(94)}
    for part in parts:
        if len(part) == 1:
            yield letters[part]
        elif part.endswith("</w>") and len(part) == 5:
            yield 256 + letters[part[0]]
        else:
            yield 512 + next(rank for pair, rank in ranks.items() if "".join(pair) == part)


def _write_lora(truth, path, rank=2):
    """A LoRA in kohya's names for some attention layers of the UNet, and the same network with it added by hand."""
    torch.manual_seed(12)
    merged = copy.deepcopy(truth.unet)
    state = {}
    for name, module in merged.named_modules():
        if re.search(r"attn[12]\.to_[qv]$", name):
            down, up = torch.randn(rank, module.in_features) * 0.2, torch.randn(module.out_features, rank) * 0.2
            start = f"lora_unet_{name.replace('.', '_')}"
            state |= {f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up, f"{start}.alpha": torch.tensor(1.0)}
            module.weight.data += 0.5 * (1.0 / rank) * up @ down
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return merged


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".SAFETENSORS", ".pt"])
def test_a_lora_in_kohyas_names_is_added_with_its_strength(truth, tmp_path, suffix):
    path = tmp_path / f"style@home{suffix}"
    merged = _write_lora(truth, path)
    model = load(f"{truth.path}|{truth.control_path}|lora={path}@0.5", CPU)
    latents, time, options = truth.conditions()
    with torch.no_grad():
        found, wanted, plain = (unet(latents, time, **options).sample for unet in (model.unet, merged, truth.unet))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert (wanted - plain).abs().max() > 1e-3


def test_loras_that_would_be_left_out_are_refused(truths, tmp_path):
    truth = truths["sd1"]
    base = f"{truth.path}|{truth.control_path}"
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file({f"{name}.oft_blocks": torch.ones(4, 8, 8)}, tmp_path / "a.safetensors")
    save_file(
        {f"{name}.lora_down.weight": torch.ones(2, 2048), f"{name}.lora_up.weight": torch.ones(9, 2)}, tmp_path / "b.safetensors"
    )
    for file, word in (("a", "Its method, OFT, cannot be used"), ("b", "is for SDXL, and the model is none")):
        with pytest.raises(ShotError, match=word):
            load(f"{base}|lora={tmp_path / file}.safetensors", CPU)
    with pytest.raises(ShotError, match="The file is no LoRA"):
        load(f"{base}|lora={truth.control_path}", CPU)


@pytest.mark.parametrize("form", ["emb_params", "string_to_param", "diffusers"])
def test_the_word_of_a_textual_inversion_is_its_files_name(truths, tmp_path, form):
    truth = truths["sd1"]
    torch.manual_seed(8)
    vectors = torch.randn(3, 64)
    if form == "emb_params":
        path, word = tmp_path / "EasyNegative.safetensors", "EasyNegative"
        save_file({"emb_params": vectors}, path)
    elif form == "string_to_param":
        path, word = tmp_path / "by hand.PT", "by hand"
        torch.save({"string_to_param": {"*": torch.nn.Parameter(vectors)}, "name": "another name", "step": 1}, path)
    else:
        path, word = tmp_path / "learned_embeds.bin", "<cat>"
        torch.save({word: vectors}, path)
    base = f"{truth.path}|{truth.control_path}"
    plain, model = load(base, CPU), load(f"{base}|embedding={path}", CPU)
    texts = [word, f"a photo, {word}, bad", "a photo of a cat"]
    found, usual = ([each.encode_text(text, "", False, 64, 64).embeddings for text in texts] for each in (model, plain))
    assert not torch.equal(found[0], usual[0]) and not torch.equal(found[1], usual[1]) and torch.equal(found[2], usual[2])
    assert torch.equal(model.encode_text(word.upper(), "", False, 64, 64).embeddings, found[0])
    # what the encoder reads are the file's vectors, in their order, between the marks of begin and end
    assert torch.equal(_read_vectors(model, word, "text_encoder", "tokenizer")[1:4], vectors)


def _read_vectors(model, text, encoder, tokenizer):
    """The vectors that a text encoder is given for a text."""
    words = getattr(model.pipeline, tokenizer)
    ids = words(model.pipeline.maybe_convert_prompt(replace_words(text, model.words), words)).input_ids
    return getattr(model.pipeline, encoder).get_input_embeddings().weight[ids]


def test_words_are_found_where_they_stand_alone():
    words = [
        EmbeddingWord("hero", "<0>"),
        EmbeddingWord("hero-v2", "<1>"),
        EmbeddingWord("<cat>", "<2>"),
        EmbeddingWord("a b", "<3>"),
    ]
    for text, wanted in (
        ("a hero, heroic, Hero-V2 (hero)", "a <0>, heroic, <1> (<0>)"),
        ("superhero hero", "superhero <0>"),
        ("<cat>on<CAT> a b", "<2>on<2> <3>"),
        ("", ""),
    ):
        assert replace_words(text, words) == wanted
    assert replace_words("hero", []) == "hero"
    brackets = [EmbeddingWord("hands (v2)", "<0>"), EmbeddingWord("Straße", "<1>")]
    for text, wanted in (("(Hands (V2):1.2)", "(<0>:1.2)"), (r"hands \(v2\), STRAßE", "<0>, <1>"), ("hands v2", "hands v2")):
        assert replace_words(text, brackets) == wanted


def test_folders_of_textual_inversions(truths, tmp_path):
    truth = truths["sd1"]
    base = f"{truth.path}|{truth.control_path}"
    torch.manual_seed(8)
    many, one = tmp_path / "embeddings", tmp_path / "cat"
    many.mkdir()
    one.mkdir()
    vectors = [torch.randn(2, 64) for _ in range(3)]
    save_file({"emb_params": vectors[0]}, many / "Ugly.safetensors")
    torch.save({"string_to_param": {"*": vectors[0]}, "name": "Ugly"}, many / "Ugly.pt")
    torch.save({"string_to_param": {"*": vectors[1]}}, many / "HERO.PT")
    save_file({"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)}, many / "xl.safetensors")
    (many / "notes.txt").write_text("these are mine")
    torch.save({"<cat>": vectors[2]}, one / "learned_embeds.bin")
    model = load(f"{base}|embedding={many}|embedding={one}|embedding={one / 'learned_embeds.bin'}", CPU)
    assert sorted(known.word for known in model.words) == ["<cat>", "HERO", "Ugly"]
    for text, wanted in (("ugly", vectors[0]), ("Hero", vectors[1]), ("<CAT>", vectors[2])):
        assert torch.equal(_read_vectors(model, text, "text_encoder", "tokenizer")[1:3], wanted)
    said = " ".join(model.warnings)
    assert "has the same word as Ugly" in said and "1 of the 4 textual inversions" in said and "such as xl.safetensors" in said
    save_file({"emb_params": vectors[2]}, tmp_path / "UGLY.safetensors")
    with pytest.raises(ShotError, match="have the same word, 'UGLY'; rename one"):
        load(f"{base}|embedding={many}|embedding={tmp_path / 'UGLY.safetensors'}", CPU)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ShotError, match="holds no textual inversion"):
        load(f"{base}|embedding={tmp_path / 'nothing'}", CPU)


@pytest.mark.parametrize("form", ["web interfaces", "diffusers"])
def test_textual_inversions_for_both_of_sdxls_encoders(truths, tmp_path, form):
    truth = truths["sdxl"]
    torch.manual_seed(8)
    first, second = torch.randn(2, 64), torch.randn(2, 128)
    names = ("clip_l", "clip_g") if form == "web interfaces" else ("text_encoders_0", "text_encoders_1")
    save_file({names[1]: second, names[0]: first}, tmp_path / "hero.safetensors")
    base = f"{truth.path}|{truth.control_path}"
    model = load(f"{base}|embedding={tmp_path / 'hero.safetensors'}", CPU)
    for encoder, tokenizer, vectors in (("text_encoder", "tokenizer", first), ("text_encoder_2", "tokenizer_2", second)):
        assert torch.equal(_read_vectors(model, "hero", encoder, tokenizer)[1:3], vectors)
    plain = load(base, CPU)
    texts = [each.encode_text("hero", "", True, 64, 64) for each in (model, plain)]
    assert not torch.equal(texts[0].embeddings[1], texts[1].embeddings[1])
    assert torch.equal(texts[0].embeddings[0], texts[1].embeddings[0])
    assert not torch.equal(texts[0].added["text_embeds"][1], texts[1].added["text_embeds"][1])
    save_file({"emb_params": first}, tmp_path / "one.safetensors")
    for name, path in ((base, "one"), (f"{truths['sd1'].path}|{truths['sd1'].control_path}", "hero")):
        with pytest.raises(ShotError, match="does not fit this model's text encoder"):
            load(f"{name}|embedding={tmp_path / f'{path}.safetensors'}", CPU)


def test_a_second_version_without_its_last_layer(truths, tmp_path):
    """Some programs leave out the layer of 2.x's text encoder that is not used; only the real size tells."""
    shapes = {"ln_final.weight": (1024,), "token_embedding.weight": (49408, 1024), "positional_embedding": (77, 1024)}
    for layers in (23, 24):
        whole = shapes | {f"transformer.resblocks.{n}.mlp.c_fc.weight": (4096, 1024) for n in range(layers)}
        plan = plan_open_clip(whole, "", penultimate=True)
        assert plan.config["num_hidden_layers"] == 23 and "encoder.layers.22.mlp.fc1.weight" in plan.sources


def test_a_damaged_checkpoint_is_a_sentence(truths, tmp_path):
    data = truths["sd1"].path.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ShotError, match="cut off"):
        load(f"{tmp_path / 'cut.safetensors'}|{truths['sd1'].control_path}", CPU)
    inpainting = truths["sd1"].state | {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)}
    save_file(inpainting, tmp_path / "inpaint.safetensors")
    with pytest.raises(ShotError, match="a picture and a mask"):
        check_model(f"{tmp_path / 'inpaint.safetensors'}|{truths['sd1'].control_path}", 64, 64)
    whole = truths["sd1"].state
    name = next(name for name in whole if name.endswith("input_blocks.1.0.in_layers.2.weight"))
    save_file(whole | {name: torch.zeros(whole[name].shape, dtype=torch.int32)}, tmp_path / "numbers.safetensors")
    with pytest.raises(ShotError, match="whole numbers"):
        load_checkpoint_file(tmp_path / "numbers.safetensors", torch.float32)


def test_precision_is_what_was_asked_for(truths):
    parts = load_checkpoint_file(truths["sdxl"].path, torch.bfloat16).parts
    kinds = {
        parameter.dtype for name in ("unet", "vae", "text_encoder", "text_encoder_2") for parameter in parts[name].parameters()
    }
    assert kinds == {torch.bfloat16}
    assert isinstance(parts["unet"], UNet2DConditionModel)
