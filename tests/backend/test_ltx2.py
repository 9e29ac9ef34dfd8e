"""LTX-2, a family of clips that learns what depth is from a LoRA: a tiny random model of the real classes, compared with
diffusers' own pipeline and taken through the whole method. ``docs/models.md`` has a table of what is asserted here."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from diffusers import AutoencoderKLLTX2Audio, FlowMatchEulerDiscreteScheduler, LTX2InContextPipeline, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2Vocoder, pipeline_ltx2_ic_lora
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file

from latentman.backend.__main__ import main
from latentman.backend.models.clip_rows import count_rows, spread_rows
from latentman.backend.models.context_loras import teach
from latentman.backend.models.families import Ltx2
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.loading import load
from latentman.backend.models.memory_need import estimate_need
from latentman.backend.models.network_shapes import list_networks
from latentman.backend.models.preflight import check_model
from latentman.backend.models.profiles import find_profile
from latentman.backend.models.quantization import is_quantized_part
from latentman.backend.models.recognition import inspect_model_file
from latentman.backend.models.registry import find_model
from latentman.backend.video.look import Look
from latentman.backend.video.pipeline import RunContext, ShotPipeline
from latentman.backend.video.run_context import Checkpoint
from latentman.shared.control_uses import ControlUse
from latentman.shared.load_options import LoadOptions
from latentman.shared.schedule import make_schedule
from latentman.shared.shot import Sampling, ShotError, ShotRequest, with_schedule
from tests import samples
from tools.tiny_transformers import write_ltx2

CPU = torch.device("cpu")
SIDE = 64
_MOVING = samples.passes(20, SIDE, 1)
#: as pictures of 8 bits hold it, which are what diffusers' pipeline takes
PASSES = replace(_MOVING, depth=np.round(_MOVING.depth * 255).astype(np.float32) / 255)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ltx")
    write_ltx2(folder)
    return folder


@pytest.fixture(scope="module")
def name(root: Path) -> str:
    return f"{root / 'base'}|depth={root / 'depth.safetensors'}"


@pytest.fixture(scope="module")
def model(name: str) -> ImageModel:
    return load(name, CPU)


@pytest.fixture(scope="module")
def halved(tmp_path_factory, root: Path) -> tuple[str, ImageModel]:
    """A model whose LoRA wants a clip of half the size, and its name."""
    file = tmp_path_factory.mktemp("halved") / "ltx-2-ic-lora.safetensors"
    save_file(load_file(root / "depth.safetensors"), file, {"reference_downscale_factor": "2"})
    name = f"{root / 'base'}|depth={file}"
    return name, load(name, CPU)


@pytest.fixture(scope="module")
def newer(tmp_path_factory) -> tuple[str, ImageModel]:
    """An LTX-2.3, and its name."""
    folder = tmp_path_factory.mktemp("newer")
    write_ltx2(folder, newer=True)
    name = f"{folder / 'base'}|depth={folder / 'depth.safetensors'}"
    return name, load(name, CPU)


def _request(count: int = 10, **changes: Any) -> ShotRequest:
    return samples.request(count, SIDE, **(dict(steps=3, guidance_scale=1.0, preset="surface") | changes))


def _make(model: ImageModel, request: ShotRequest, context: RunContext | None = None, **options: Any) -> np.ndarray:
    passes = options.pop("passes", PASSES).select(range(len(request.frames)))
    return np.stack(list(ShotPipeline(model, request, passes, context or RunContext(), **options).frames()))


def _make_latents(model: ImageModel, request: ShotRequest) -> np.ndarray:
    return _make_latents_in(RunContext(), model, request)


def _make_latents_in(context: RunContext, model: ImageModel, request: ShotRequest) -> np.ndarray:
    return ShotPipeline(model, request, PASSES.select(range(len(request.frames))), context).latents().numpy()


def _difference(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).max())


def _copy(folder: Path, to: Path, part: str, **changes: Any) -> Path:
    """A copy of a model with other values in a part's configuration."""
    out = shutil.copytree(folder, to)
    file = next((out / part).glob("*config.json"))
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return out


def test_a_folder_is_a_model_of_clips(name, model, halved):
    """Eight frames behind the first share a row, and the sides follow the size of the clip of depth."""
    assert isinstance(model.family, Ltx2) and model.family.kind == "clip" and model.controls == ("depth",)
    assert (model.row_frames, model.latent_factor, model.size_multiple, model.latent_channels) == (8, 32, 32, 128)
    assert halved[1].size_multiple == 64
    family, row_frames = check_model(name, SIDE, SIDE, Sampling(steps=3))
    assert (isinstance(family, Ltx2), row_frames) == (True, 8)
    profile = find_profile(name)
    assert (profile.steps, profile.guidance_scale, profile.scheduler, profile.family) == (30, 3.0, "euler", "ltx2")
    # what makes sound is not loaded
    assert model.pipeline.vocoder is None and model.pipeline.audio_vae is None


def test_inspect_says_what_it_is(root, tmp_path, capsys):
    lora = tmp_path / "ic-lora.safetensors"
    start = "diffusion_model.transformer_blocks.0.attn1.to_out.0"
    save_file({f"{start}.lora_A.weight": torch.zeros(2, 4096), f"{start}.lora_B.weight": torch.zeros(4096, 2)}, lora)
    assert main(["models", "inspect", str(root / "base"), str(lora)]) == 0
    said = capsys.readouterr().out
    assert (
        "a diffusers folder of LTX-2 (LTX2InContextPipeline" in said and "It learns what depth is from its in-context LoRA" in said
    )
    assert "is a LoRA for LTX-2" in said and "the LTX-Video before it" in said


def test_what_does_not_go_together_is_refused(root, name, tmp_path):
    """In a sentence, before anything is loaded."""
    base, lora = root / "base", root / "depth.safetensors"
    text = tmp_path / "notes.safetensors"
    save_file({"a": torch.zeros(2)}, text)
    odd = tmp_path / "odd.safetensors"
    save_file(load_file(lora), odd, {"reference_downscale_factor": "1.5"})
    both = tmp_path / "both"
    both.mkdir()
    for copy in ("one", "two"):
        shutil.copy(lora, both / f"{copy}.safetensors")
    patched = _copy(base, tmp_path / "patched", "transformer", patch_size=2)
    for wrong, said in (
        (str(base), r"learns what depth is from its in-context LoRA; .*\|depth=FILE"),
        (f"{base}|lora={lora}", "takes its in-context LoRA behind depth="),
        (f"{base}|openpose={lora}", "know no openpose; use depth"),
        (f"{base}|depth={text}", "is no LoRA"),
        (f"{base}|depth={tmp_path / 'gone.safetensors'}", "gone.safetensors"),
        (f"{base}|depth={odd}", "smaller by '1.5', which is no whole number"),
        (f"{base}|depth={both}", r"holds 2 LoRAs \(one.safetensors, two.safetensors\); give the path of one"),
        (f"{patched}|depth={lora}", "patches of 2, .* choose a model of LTX-2"),
    ):
        with pytest.raises(ShotError, match=said):
            check_model(wrong, SIDE, SIDE)
    for sampling, said in (
        (Sampling(steps=3, scheduler="unipc"), "choose 'euler'"),
        (Sampling(steps=3, spacing="trailing"), "spaces"),
    ):
        with pytest.raises(ShotError, match=said):
            check_model(name, SIDE, SIDE, sampling)
    with pytest.raises(ShotError, match="the nearest size is 32x32"):
        check_model(name, 40, 32)


@pytest.mark.parametrize("preset", ["latentman", "cross_frame"])
def test_what_needs_a_latent_for_each_frame_is_refused(model, preset):
    with pytest.raises(ShotError, match=r"one latent for 8 frames|no attention that frames could share"):
        _make(model, _request(preset=preset))


def test_a_lora_in_another_spelling_is_the_same(root, model, tmp_path):
    """diffusers' names for PEFT, the authors' own, and ranks with alphas; half of it at half the strength is a quarter."""
    own = load_file(root / "depth.safetensors")
    renamed = {
        name.replace("diffusion_model.patchify_proj", "transformer.proj_in").replace("diffusion_model.", "transformer."): tensor
        for name, tensor in own.items()
    }
    scaled = {name.replace("lora_A", "lora_down").replace("lora_B", "lora_up"): tensor for name, tensor in own.items()}
    scaled |= {name.replace(".lora_A.weight", ".alpha"): torch.tensor(2.0) for name in own if "lora_A" in name}
    plain = load(f"{_copy(root / 'base', tmp_path / 'plain', 'scheduler')}|depth={root / 'depth.safetensors'}@0", CPU)
    before = {name: value.clone() for name, value in plain.denoiser.state_dict().items()}
    for tensors, strength, share in ((renamed, 1.0, 1.0), (scaled, 0.5, 0.25)):
        file = tmp_path / f"depth-{share}.safetensors"
        save_file(tensors, file)
        plain.denoiser.load_state_dict(before)
        assert teach(plain.denoiser, file, strength, "LTX-2") == ()
        for name, value in model.denoiser.state_dict().items():
            expected = before[name] + share * (value - before[name])
            assert torch.allclose(plain.denoiser.state_dict()[name], expected, atol=1e-6), name
    changed = [name for name, value in model.denoiser.state_dict().items() if not torch.equal(value, before[name])]
    assert "proj_in.weight" in changed and len(changed) == len(own) // 2
    save_file({"transformer.transformer_blocks.9.attn1.to_q.lora_A.weight": torch.zeros(2, 32)}, tmp_path / "deep.safetensors")
    with pytest.raises(ShotError, match="does not fit this model"):
        teach(plain.denoiser, tmp_path / "deep.safetensors", 1.0, "LTX-2")


@pytest.fixture(scope="module")
def theirs(root: Path) -> dict[str, Any]:
    """The parts for sound, which diffusers' pipeline wants."""
    return {
        "audio_vae": AutoencoderKLLTX2Audio.from_pretrained(root / "base", subfolder="audio_vae"),
        "vocoder": LTX2Vocoder.from_pretrained(root / "base", subfolder="vocoder"),
    }


@pytest.mark.parametrize(
    ("which", "guidance", "count"),
    [("plain", 1.0, 10), ("plain", 3.0, 9), ("plain", 3.0, 1), ("half", 1.0, 9), ("newer", 3.0, 10)],
)
def test_clips_are_those_of_diffusers(model, halved, newer, theirs, monkeypatch, which, guidance, count):
    """All frames together, from the same noise, to one level of 255, with the clip's and the sound's halves apart and the steps of
    4,096 tokens."""
    model, half = {"plain": model, "half": halved[1], "newer": newer[1]}[which], which == "half"
    noise = torch.randn(count_rows(count, 8), 128, 2, 2, generator=torch.Generator().manual_seed(3))
    request = _request(count, preset="per_frame", guidance_scale=guidance)
    ours = _make(model, request, noise=spread_rows(noise, count, 8))
    whole = (len(noise) - 1) * 8 + 1
    depth = torch.from_numpy(PASSES.depth[[min(n, count - 1) for n in range(whole)]])[:, None].expand(-1, 3, -1, -1)
    if half:
        depth = torch.nn.functional.interpolate(depth, scale_factor=0.5, mode="bilinear", antialias=True)
    pictures = [Image.fromarray(np.uint8(np.round(each.permute(1, 2, 0).numpy() * 255))) for each in depth]
    pipeline = LTX2InContextPipeline(**{**model.pipeline.components, **theirs})
    forward, draw = pipeline.transformer.forward, pipeline_ltx2_ic_lora.randn_tensor

    def draw_noise(shape: tuple[int, ...], **options: Any) -> torch.Tensor:
        found = draw(shape, **options)
        if shape[-1] == 128:
            tokens = noise.permute(0, 2, 3, 1).reshape(1, -1, 128)
            found[:, : tokens.shape[1]] = tokens
        return found

    monkeypatch.setattr(pipeline_ltx2_ic_lora, "randn_tensor", draw_noise)
    monkeypatch.setattr(pipeline_ltx2_ic_lora, "calculate_shift", lambda *_: 2.05)
    monkeypatch.setattr(pipeline.transformer, "forward", lambda **given: forward(**{**given, "isolate_modalities": True}))
    pipeline.set_progress_bar_config(disable=True)
    off = dict(stg_scale=0.0, modality_scale=1.0, guidance_rescale=0.0)
    made = pipeline(
        prompt=request.text.prompt,
        negative_prompt="",
        reference_conditions=[pipeline_ltx2_ic_lora.LTX2ReferenceCondition(frames=pictures, strength=1.0)],
        reference_downscale_factor=2 if half else 1,
        height=SIDE,
        width=SIDE,
        num_frames=whole,
        num_inference_steps=3,
        guidance_scale=guidance,
        audio_guidance_scale=1.0,
        output_type="np",
        **off,
        **{f"audio_{key}": value for key, value in off.items()},
    ).frames[0]
    # a smaller clip is not quite its picture of 8 bits
    assert ours[0].std() > 5 and _difference(ours, np.round(made[:count] * 255)) <= (2 if half else 1)


def test_texts_are_read_as_the_model_knows_them(model, monkeypatch):
    """By its connectors, filled up on the left, whatever the folder says; one that is too long is cut, which is said."""
    pipeline = model.pipeline
    monkeypatch.setattr(pipeline, "tokenizer_padding_side", "right")
    for text in ("a man in red", ""):
        states, mask, *_ = pipeline.encode_prompt(text, do_classifier_free_guidance=False)
        expected, _, counts = pipeline.connectors(states, mask, padding_side="left")
        ours = model.encode_text(text, "", False, SIDE, SIDE)
        assert torch.allclose(ours.embeddings, expected, atol=1e-6) and torch.equal(ours.added["counts"], counts.float())
        assert not ours.warnings
    assert "its end was left out" in model.encode_text("a " * 1100, "", False, SIDE, SIDE).warnings[0]


def test_looks_are_kept_and_shots_resumed(model):
    """A stopped shot goes on to the same bits; frames share a texture; a look is worn by a shot with another seed."""
    looks: list[Look] = []
    kept: list[Checkpoint] = []
    request = _request()
    frames = _make(model, request, RunContext(save=kept.append, keep_look=looks.append))
    for checkpoint in kept:
        assert np.array_equal(frames, _make(model, request, RunContext(resume=lambda found=checkpoint: found)))
    apart = _make(model, _request(preset="per_frame"))
    assert samples.measure_drift(PASSES, frames) < 0.5 * samples.measure_drift(PASSES, apart)
    other = _request(seed=9)
    worn, fresh = _make(model, other, look=looks[-1], same_settings=False), _make(model, other)
    shown = PASSES.mask[:10] > 0
    assert np.abs(worn.astype(float) - frames)[shown].mean() < 0.5 * np.abs(fresh.astype(float) - frames)[shown].mean()


def test_the_strength_of_the_lora_is_not_that_of_the_depth(name):
    """Half of it is no reason for a warning; the part of the steps counts for the depth."""
    model, context = load(f"{name}@0.5@0-0.6", CPU), RunContext()
    _make_latents_in(context, model, _request(9, preset="per_frame", steps=2))
    assert model.control_uses == (ControlUse(1.0, 0.0, 0.6),) and not any("counts as 1" in said for said in context.warnings)
    _make_latents_in(context, model, _request(9, preset="per_frame", steps=2, control_scale=0.5))
    assert any("counts as 1" in said for said in context.warnings)
    assert load(f"{name}@0", CPU).control_uses == (ControlUse(0.0),)


def test_surroundings_have_a_prompt_and_depth_counts_or_not(model):
    """A strength of more than 0 is 1, for all frames."""
    plain = _make_latents(model, _request(preset="per_frame", steps=2))
    for changes in (dict(background_prompt="snow"), dict(control_scale=0.0), dict(prompt="a dog")):
        assert _difference(_make_latents(model, _request(preset="per_frame", steps=2, **changes)), plain) > 1e-4, changes
    assert np.array_equal(_make_latents(model, _request(preset="per_frame", steps=2, control_scale=0.5)), plain)
    some = with_schedule(_request(preset="per_frame", steps=2), make_schedule([], [1.0] * 9 + [0.0]))
    assert np.array_equal(_make_latents(model, some), plain)


def test_long_shots_wear_their_look(model, monkeypatch):
    monkeypatch.setattr("latentman.backend.models.ltx2.TRAINED_FRAMES", 9)
    apart = _make(model, _request(20, steps=2, preset="per_frame"))
    together = _make(model, _request(20, steps=2))
    assert len(together) == 20 and samples.measure_drift(PASSES, together) < 0.5 * samples.measure_drift(PASSES, apart)


def test_distilled_models_take_their_own_steps(model):
    """Eight steps that the schedule does not shift; any other number, and any that it shifts, are even before that."""
    plain = FlowMatchEulerDiscreteScheduler().config
    kind = "FlowMatchEulerDiscreteScheduler"
    family = model.family
    found = family.make_scheduler(plain, kind, 8, "", "", (2, 2)).sigmas[:-1]
    assert torch.allclose(found, torch.tensor(DISTILLED_SIGMA_VALUES))
    assert torch.allclose(family.make_scheduler(plain, kind, 4, "", "", (2, 2)).sigmas[:-1], torch.tensor([1.0, 0.75, 0.5, 0.25]))
    shifted = model.make_scheduler(8).sigmas[:-1]
    assert not torch.allclose(shifted, torch.tensor(DISTILLED_SIGMA_VALUES)) and abs(float(shifted[-1]) - 0.1) < 1e-3


def test_memory_is_planned_for_whole_clips(name, halved, newer):
    """With the clip of depth beside them, and both passes of guidance one after the other."""
    need = estimate_need(list_networks(find_model(name)), 64, 64, torch.float32)
    assert need.together == 121 and not need.is_guided and "connectors" in dict(need.weights)
    smaller = estimate_need(list_networks(find_model(halved[0])), 64, 64, torch.float32)
    assert smaller.denoising < need.denoising
    # a decoder that is told how noisy latents are
    told = estimate_need(list_networks(find_model(newer[0])), 64, 64, torch.float32)
    assert newer[1].pipeline.vae.config.timestep_conditioning and told.decoding >= need.decoding


def test_inspect_plans_memory_without_a_lora(root, capsys):
    """A folder alone is described, though it cannot be used so."""
    assert main(["models", "inspect", str(root / "base"), "--memory", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "the 121 frames of a clip of 640x640 take" in said and "connectors" in said
    assert "weights of 8 bits" in said and "weights of 4 bits" not in said
    with pytest.raises(ShotError, match="learn nothing from a LoRA; choose 8bit"):
        load(f"{root / 'base'}|depth={root / 'depth.safetensors'}", CPU, LoadOptions(weights="4bit"))


def test_fewer_bits_come_after_the_lora(name, model, monkeypatch):
    """Rounded weights take no difference; those that are rounded are the taught ones."""
    held = []

    def quantize(network: torch.nn.Module) -> None:
        held.append({key: value.clone() for key, value in network.state_dict().items()})

    stand_in = SimpleNamespace(
        make_config=lambda kind: None,
        check=lambda network: None,
        holds=is_quantized_part,
        waits_for=lambda part: False,
        quantize=quantize,
        sentence="Fewer bits.",
    )
    monkeypatch.setattr("latentman.backend.models.loading.choose_quantization", lambda *_, **__: stand_in)
    assert "Fewer bits." in load(name, CPU).warnings
    (weights,) = held
    assert all(torch.equal(value, weights[key]) for key, value in model.denoiser.state_dict().items())


def _write_lora(path: Path, own: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file(own, path, metadata)
    return path


def test_parts_for_sound_may_be_missing(root, tmp_path):
    """Also in the list of parts, and others beside them do not count."""
    base = shutil.copytree(root / "base", tmp_path / "base")
    index = json.loads((base / "model_index.json").read_text(encoding="utf-8"))
    for part in ("audio_vae", "vocoder"):
        del index[part]
        shutil.rmtree(base / part)
    index |= {"_class_name": "LTX2Pipeline", "latent_upsampler": ["ltx2", "LTX2LatentUpsamplerModel"]}
    (base / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    assert load(f"{base}|depth={root / 'depth.safetensors'}", CPU).pipeline.vocoder is None


def test_alphas_beside_the_tensors_count(root, tmp_path):
    """What diffusers writes into a file, PEFT into one beside it, and names with all that is put before them."""
    own, base = load_file(root / "depth.safetensors"), root / "base" / "transformer"
    before = LTX2VideoTransformer3DModel.from_pretrained(base)
    whole = LTX2VideoTransformer3DModel.from_pretrained(base)
    teach(whole, root / "depth.safetensors", 1.0, "LTX-2")

    def rename(start: str) -> dict[str, torch.Tensor]:
        return {name.replace("diffusion_model.", start).replace("patchify_proj", "proj_in"): value for name, value in own.items()}

    told = json.dumps({"transformer.lora_alpha": 2, "transformer.r": 4})
    named = _write_lora(tmp_path / "depth.safetensors", rename("transformer."), {"lora_adapter_metadata": told})
    (tmp_path / "depth").mkdir()
    beside = _write_lora(tmp_path / "depth" / "adapter_model.safetensors", rename("base_model.model.transformer."))
    (tmp_path / "depth" / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2, "r": 4}), encoding="utf-8")
    for file in (named, beside):
        found = LTX2VideoTransformer3DModel.from_pretrained(base)
        assert teach(found, file, 1.0, "LTX-2") == ()
        for name, value in found.state_dict().items():
            start = before.state_dict()[name]
            assert torch.allclose(value, start + 0.5 * (whole.state_dict()[name] - start), atol=1e-6), name
    twice = _write_lora(
        tmp_path / "twice-depth.safetensors", own | {key: value.clone() for key, value in rename("transformer.").items()}
    )
    assert "layers that twice-depth.safetensors changes are not in this model" in teach(before, twice, 1.0, "LTX-2")[0]


def test_loras_are_looked_at_before_the_model_is_read(root, tmp_path, monkeypatch):
    """By their shapes, and by what their names say they were made for."""
    own, base = load_file(root / "depth.safetensors"), root / "base"
    layer = "diffusion_model.transformer_blocks.0.attn1.to_q"
    wide = {f"{layer}.lora_A.weight": torch.zeros(2, 64), f"{layer}.lora_B.weight": torch.zeros(64, 2)}
    wrong = f"{base}|depth={_write_lora(tmp_path / 'depth.safetensors', wide)}"
    monkeypatch.setattr("latentman.backend.models.loading.load_pipeline_folder", None)
    for ask in (lambda: check_model(wrong, SIDE, SIDE), lambda: load(wrong, CPU)):
        with pytest.raises(ShotError, match="changes weights of 64x64, and the model's are 32x32; choose one for LTX-2"):
            ask()
    transformer = LTX2VideoTransformer3DModel.from_pretrained(base / "transformer")
    for title, said in (
        ("ic-lora-canny-control", "By its name, ic-lora-canny-control.safetensors is a LoRA for canny; it is used for depth."),
        ("distilled-lora-384", "Nothing says that distilled-lora-384.safetensors is an in-context LoRA for depth"),
        ("ic-lora-union-control", ""),
    ):
        warnings = teach(transformer, _write_lora(tmp_path / f"{title}.safetensors", own), 0.0, "LTX-2")
        assert said in "".join(warnings) and bool(warnings) == bool(said)


def test_a_repository_may_hold_the_lora(root, tmp_path, monkeypatch):
    """In the hub's cache it is found, and what it wants is known before; another one is left to the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40
    folder = tmp_path / "models--me--ic-lora-depth"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit, encoding="utf-8")
    (folder / "snapshots" / commit).mkdir(parents=True)
    file = folder / "snapshots" / commit / "weights.safetensors"
    _write_lora(file, load_file(root / "depth.safetensors"), {"reference_downscale_factor": "2"})
    name = f"{root / 'base'}|depth=me/ic-lora-depth"
    check_model(name, SIDE, SIDE)
    with pytest.raises(ShotError, match="multiples of 64"):
        check_model(name, 96, 64)
    # that it is for depth is in the repository's name
    assert load(name, CPU).size_multiple == 64
    check_model(f"{root / 'base'}|depth=me/elsewhere", SIDE, SIDE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ShotError, match="me/elsewhere"):
        load(f"{root / 'base'}|depth=me/elsewhere", CPU)
    with pytest.raises(ShotError, match=r"There is no LoRA nowhere; give its file, its folder or its hub id behind depth=\.$"):
        check_model(f"{root / 'base'}|depth=nowhere", SIDE, SIDE)


def test_single_files_are_named(tmp_path):
    """By what lies in them beside the transformer of a PixArt or another."""
    layers = ("audio_patchify_proj", "patchify_proj", "adaln_single.linear", "transformer_blocks.0.attn1.to_q")
    tensors = {f"model.diffusion_model.{layer}.weight": torch.zeros(4, 4) for layer in layers}
    for file, own, said in (
        ("whole", tensors | {"vocoder.conv_pre.weight": torch.zeros(4)}, "It is LTX-2 in a single file, .* name Lightricks/LTX-2"),
        ("alone", {name.removeprefix("model."): value for name, value in tensors.items()}, "It is LTX-2 in a single file"),
        ("old", {name: value for name, value in tensors.items() if "audio" not in name}, "a transformer of LTX-Video"),
        ("pixart", {"adaln_single.linear.weight": torch.zeros(4, 4)}, "PixArt"),
    ):
        found = inspect_model_file(_write_lora(tmp_path / f"{file}.safetensors", own))
        assert found.kind == "other" and re.search(said, found.problem), file


def test_loras_of_transformers_are_none_of_a_unets(tmp_path):
    """Names such as to_out.0 are no UNet's last layer."""
    for module, family in (
        ("transformer_blocks.0.attn.to_out.0", "joint"),
        ("transformer_blocks.0.img_mlp.net.2", "qwen_image"),
        ("diffusion_model.transformer_blocks.3.attn1.to_out.0", "other"),
        ("lora_unet_single_blocks_39_linear1", "other"),
        ("lora_unet_blocks_0_cross_attn_k", "wan_vace"),
        ("diffusion_model.layers.7.feed_forward.w2", "z_image"),
        ("transformer.joint_blocks.0.x_block.attn.qkv", "sd3"),
        ("transformer.transformer_blocks.0.audio_attn1.to_q", "ltx2"),
        ("base_model.model.transformer.transformer_blocks.0.audio_attn1.to_q", "ltx2"),
        ("lora_unet_transformer_blocks_0_audio_attn1_to_q", "ltx2"),
        ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0", ""),
    ):
        file = tmp_path / "style.safetensors"
        save_file({f"{module}.lora_A.weight": torch.zeros(2, 8), f"{module}.lora_B.weight": torch.zeros(8, 2)}, file)
        assert inspect_model_file(file).family == family, module


#: columns of the table in ``docs/models.md`` -> the tests that they stand for
COLUMNS = {
    "recognised": test_inspect_says_what_it_is,
    "loads": test_a_folder_is_a_model_of_clips,
    "equals diffusers' own": test_clips_are_those_of_diffusers,
    "surface presets": test_looks_are_kept_and_shots_resumed,
    "kept look": test_looks_are_kept_and_shots_resumed,
    "resume": test_looks_are_kept_and_shots_resumed,
    "background prompt": test_surroundings_have_a_prompt_and_depth_counts_or_not,
    "long shots": test_long_shots_wear_their_look,
}
