"""Calls as diffusers' users make them: what the pipeline does with each argument is what diffusers' own pipeline does with it."""

from __future__ import annotations

import inspect
import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from diffusers import (  # noqa: E402
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    UniPCMultistepScheduler,
)
from diffusers.callbacks import SDCFGCutoffCallback  # noqa: E402
from peft import LoraConfig, inject_adapter_in_model  # noqa: E402

from latentman.backend.latentman_pipeline import LatentManPipeline, LatentManXLPipeline  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.shared import passes_folder  # noqa: E402
from latentman.shared.manifest import PassesManifest  # noqa: E402
from latentman.shared.shot import ShotError, make_request  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402

FRAMES = 2
PASSES = samples.passes(FRAMES, 32)
DEPTH = torch.from_numpy(np.repeat(PASSES.depth[:, None], 3, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return root / "whole"


@pytest.fixture(scope="module")
def theirs(folder):
    """Diffusers' own pipeline."""
    pipe = StableDiffusionControlNetPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe(theirs):
    """Ours, of the same parts, with a scheduler that was set and so is used exactly as it is."""
    pipe = LatentManPipeline.from_pipe(theirs)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    return pipe


@pytest.fixture(scope="module")
def several(theirs):
    """Both with two ControlNets."""
    nets = [theirs.controlnet, theirs.controlnet]
    pipes = [kind.from_pipe(theirs, controlnet=nets) for kind in (StableDiffusionControlNetPipeline, LatentManPipeline)]
    for each in pipes:
        each.set_progress_bar_config(disable=True)
    pipes[1].scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    return pipes


@contextmanager
def stepping(pipes, scheduler):
    """Within the block the pipelines step with another scheduler."""
    before = [pipe.scheduler for pipe in pipes]
    for pipe in pipes:
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    try:
        yield
    finally:
        for pipe, own in zip(pipes, before, strict=True):
            pipe.scheduler = own


def generators(count=FRAMES):
    return [torch.Generator().manual_seed(n) for n in range(count)]


def call_ours(pipe, **changes):
    given = dict(prompt="a man", passes=PASSES, num_inference_steps=3, guidance_scale=4.0, generator=generators())
    given |= dict(method="per_frame", output_type="latent") | changes
    return pipe(**given)


def call_theirs(pipe, **changes):
    """Every frame as an image of a batch."""
    given = dict(prompt=["a man"] * FRAMES, image=DEPTH, num_inference_steps=3, guidance_scale=4.0, generator=generators())
    given |= dict(output_type="latent") | changes
    if isinstance(given["prompt"], str):
        given["prompt"] = [given["prompt"]] * FRAMES
    if isinstance(given.get("negative_prompt"), str):
        given["negative_prompt"] = [given["negative_prompt"]] * FRAMES
    return pipe(**given)


def embed(pipe, *texts, guided=False):
    """(N, S, D) embeddings of texts by diffusers."""
    return torch.cat([pipe.encode_prompt(text, "cpu", 1, guided)[0] for text in texts])


def halve(pipe, step, timestep, tensors):
    return {"latents": tensors["latents"] * 0.5}


def change_text(pipe, step, timestep, tensors):
    return {"prompt_embeds": tensors["prompt_embeds"] * (0.5 if step == 0 else 1.0)}


def change_pictures(pipe, step, timestep, tensors):
    return {"image": tensors["image"] * (100.0 if step == 0 else 1.0)}


def stop(pipe, step, timestep, tensors):
    pipe._interrupt = step == 1
    return {}


def cut_guidance(pipe, step, timestep, tensors):
    # what diffusers' guide on callbacks does for a batch
    if step == 1:
        pipe._guidance_scale = 0.0
        return {name: tensors[name].chunk(2)[-1] for name in ("prompt_embeds", "image")}
    return {}


def noise(seed, count=FRAMES):
    return torch.randn((count, 4, 4, 4), generator=torch.Generator().manual_seed(seed))


#: argument -> values that are given to both
HONOURED = {
    "prompt": [dict(prompt=["a man", "a woman"]), dict(prompt="a woman on a beach")],
    "image": [dict(image=DEPTH * 0.5), dict(image=[Image.new("RGB", (32, 32), (90, 0, 200))] * FRAMES)],
    "num_inference_steps": [dict(num_inference_steps=5)],
    "guidance_scale": [dict(guidance_scale=8.0), dict(guidance_scale=1.0), dict(guidance_scale=0.0)],
    "negative_prompt": [
        dict(negative_prompt="a hat"),
        dict(prompt=["a man"] * FRAMES, negative_prompt=["a hat", "a beach"]),
    ],
    "latents": [dict(latents=noise(5))],
    "controlnet_conditioning_scale": [dict(controlnet_conditioning_scale=0.3)],
    "guess_mode": [dict(guess_mode=True), dict(guess_mode=True, guidance_scale=1.0)],
    "control_guidance_start": [dict(control_guidance_start=0.4), dict(control_guidance_start=[0.4])],
    "control_guidance_end": [dict(control_guidance_end=0.4), dict(control_guidance_end=[0.4])],
    "callback_on_step_end": [dict(callback_on_step_end=halve), dict(callback_on_step_end=stop)],
    "callback_on_step_end_tensor_inputs": [
        dict(callback_on_step_end=change_text, callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"]),
        dict(callback_on_step_end=change_pictures, callback_on_step_end_tensor_inputs=["image"]),
        dict(callback_on_step_end=cut_guidance, callback_on_step_end_tensor_inputs=["prompt_embeds", "image"]),
    ],
}


@pytest.mark.parametrize("name", HONOURED)
def test_an_argument_does_what_it_does_in_diffusers(pipe, theirs, name):
    plain = call_ours(pipe).frames
    assert torch.allclose(plain, call_theirs(theirs).images, atol=1e-4)
    for changes in HONOURED[name]:
        ours, wanted = call_ours(pipe, **changes).frames, call_theirs(theirs, **changes).images
        apart = float((ours - wanted).abs().max())
        assert apart < 2e-4, changes
        assert float((ours - plain).abs().max()) > max(5 * apart, 1e-4), changes


def test_embeddings_take_the_place_of_prompts(pipe, theirs):
    words, others = embed(theirs, "a man", "a woman"), embed(theirs, "a hat", "a beach")
    for changes in (
        dict(prompt_embeds=words, negative_prompt_embeds=others),
        dict(prompt_embeds=words),
        dict(prompt_embeds=words, negative_prompt=["a hat", "a beach"]),
    ):
        ours = call_ours(pipe, prompt=None, **changes).frames
        assert torch.allclose(ours, call_theirs(theirs, prompt=None, **changes).images, atol=2e-4)
    by_text = call_ours(pipe, prompt=["a man", "a woman"]).frames
    assert torch.allclose(call_ours(pipe, prompt=None, prompt_embeds=words).frames, by_text, atol=2e-4)
    ours = call_ours(pipe, negative_prompt_embeds=others).frames
    assert torch.allclose(ours, call_theirs(theirs, negative_prompt_embeds=others).images, atol=2e-4)
    one = call_ours(pipe, prompt=None, prompt_embeds=words[:1], negative_prompt_embeds=others[:1]).frames
    assert torch.allclose(one, call_ours(pipe, negative_prompt="a hat").frames, atol=2e-4)


def test_clip_skip_leaves_out_layers(pipe):
    encoder = pipe.text_encoder
    ids = pipe.tokenizer("a man", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = encoder(ids, output_hidden_states=True).hidden_states[-2]
        words = getattr(encoder, "text_model", encoder).final_layer_norm(hidden)
    made = call_ours(pipe, guidance_scale=1.0, clip_skip=1).frames
    wanted = call_ours(pipe, guidance_scale=1.0, prompt=None, prompt_embeds=words).frames
    assert torch.allclose(made, wanted, atol=1e-4) and not torch.allclose(
        made, call_ours(pipe, guidance_scale=1.0).frames, atol=1e-3
    )


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler])
def test_the_pipelines_own_scheduler_steps(pipe, theirs, scheduler):
    plain = call_ours(pipe).frames
    with stepping((pipe, theirs), scheduler):
        ours = call_ours(pipe).frames
        assert torch.allclose(ours, call_theirs(theirs).images, atol=1e-3)
        chosen = call_ours(pipe, scheduler="ddim").frames
    # with as many steps at the same levels, Euler's are DDIM's
    if scheduler is not EulerDiscreteScheduler:
        assert not torch.allclose(ours, plain, atol=1e-2) and not torch.allclose(chosen, ours, atol=1e-2)


def test_schedules_of_ones_own(pipe, theirs):
    with stepping((pipe, theirs), EulerDiscreteScheduler):
        for changes in (dict(timesteps=[900, 600, 200, 10]), dict(sigmas=[14.0, 5.0, 1.0, 0.2])):
            ours = call_ours(pipe, **changes).frames
            assert torch.allclose(ours, call_theirs(theirs, **changes).images, atol=1e-3), changes
            assert not torch.allclose(ours, call_ours(pipe, num_inference_steps=4).frames, atol=1e-2)
        for one in (pipe, theirs):
            with pytest.raises(ValueError, match="nly one of"):
                (call_ours if one is pipe else call_theirs)(one, timesteps=[900], sigmas=[14.0])
    for name, values in (("timesteps", [900, 10]), ("sigmas", [14.0, 1.0])):
        with pytest.raises(ValueError):
            call_theirs(theirs, **{name: values})
        with pytest.raises(ShotError, match=f"DDIMScheduler takes no {name} of one's own; set pipe.scheduler to one of"):
            call_ours(pipe, **{name: values})
    with pytest.raises(ShotError, match="0 steps"):
        call_ours(pipe, timesteps=[])


def test_eta_adds_noise_or_is_refused(pipe):
    plain = call_ours(pipe).frames
    noisy = call_ours(pipe, eta=1.0).frames
    assert not torch.allclose(noisy, plain, atol=1e-2) and torch.equal(noisy, call_ours(pipe, eta=1.0).frames)
    assert torch.equal(call_ours(pipe, eta=0.0).frames, plain)
    assert not torch.equal(noisy, call_ours(pipe, eta=1.0, latents=noise(1)).frames)
    with stepping((pipe,), EulerDiscreteScheduler), pytest.raises(ShotError, match="EulerDiscreteScheduler has no eta"):
        call_ours(pipe, eta=0.5)


def test_schedulers_that_cannot_step_are_refused_or_said(pipe, theirs, folder, caplog):
    with stepping((pipe,), PNDMScheduler), pytest.raises(ShotError, match="cannot step with a PNDMScheduler; set"):
        call_ours(pipe)
    came = LatentManPipeline.from_pipe(theirs, scheduler=PNDMScheduler.from_config(theirs.scheduler.config))
    came.set_progress_bar_config(disable=True)
    made = call_ours(came)
    assert made.warnings == [
        "The method cannot step with the model's PNDMScheduler and uses DDIM; set pipe.scheduler to choose another."
    ]
    assert made.warnings[0] in caplog.text
    assert torch.equal(made.frames, call_ours(LatentManPipeline.from_pretrained(folder)).frames)


def test_several_clips(pipe, theirs):
    """Diffusers gives the images of one prompt after the other, here each clip is by itself."""
    four = generators(2 * FRAMES)
    ours = call_ours(pipe, num_images_per_prompt=2, generator=four)
    wanted = call_theirs(theirs, num_images_per_prompt=2, generator=[generators(4)[n] for n in (0, 2, 1, 3)]).images
    assert ours.frames.shape == (2, FRAMES, 4, 4, 4) and ours.frame_indices == [[0, 1], [0, 1]]
    assert torch.allclose(ours.frames.transpose(0, 1).flatten(0, 1), wanted, atol=2e-4)
    shown = call_ours(pipe, num_images_per_prompt=2, generator=torch.Generator().manual_seed(1), output_type="pil")
    assert [len(clip) for clip in shown.frames] == [FRAMES, FRAMES]
    assert np.asarray(shown.frames[0][0]).tobytes() != np.asarray(shown.frames[1][0]).tobytes()
    alone = call_ours(pipe, generator=torch.Generator().manual_seed(1), output_type="pil").frames
    assert np.asarray(alone[0]).tobytes() == np.asarray(shown.frames[0][0]).tobytes()
    stopped = call_ours(pipe, num_images_per_prompt=2, generator=four, callback_on_step_end=stop)
    assert stopped.frame_indices == [[0, 1]] and stopped.frames.shape == (1, FRAMES, 4, 4, 4)


def test_forms_of_results(pipe, theirs):
    made = {kind: call_ours(pipe, output_type=kind).frames for kind in ("np", "pt", "pil")}
    wanted = {kind: call_theirs(theirs, output_type=kind).images for kind in ("np", "pt", "pil")}
    assert made["np"].dtype == np.float32 and np.allclose(made["np"], wanted["np"], atol=1e-4)
    assert made["pt"].shape == wanted["pt"].shape and torch.allclose(made["pt"], wanted["pt"], atol=1e-4)
    assert all(
        np.abs(np.asarray(a).astype(int) - np.asarray(b)).max() <= 1 for a, b in zip(made["pil"], wanted["pil"], strict=True)
    )
    plain = call_ours(pipe, return_dict=False)
    assert isinstance(plain, tuple) and torch.equal(plain[0], call_ours(pipe).frames) and plain[1] == [0, 1]
    for wrong in ("tensor", None, "PIL"):
        with pytest.raises(ShotError, match="choose pil, np, pt, latent"):
            call_ours(pipe, output_type=wrong)


def test_an_interrupted_call_says_which_frames_there_are(pipe):
    """The default method denoises key frames together, and makes the others from them."""
    passes = samples.passes(6, 32)
    options = dict(passes=passes, method="surface", generator=torch.Generator().manual_seed(0), num_inference_steps=4)
    seen = []

    def watch(pipe, step, timestep, tensors):
        seen.append((pipe.frame_indices, step, len(tensors["latents"])))
        return {}

    whole = call_ours(pipe, **options, callback_on_step_end=watch)
    assert whole.frame_indices == [0, 1, 2, 3, 4, 5]
    assert all(count == len(rows) for rows, _, count in seen) and {row for rows, _, _ in seen for row in rows} == set(range(6))
    keys = seen[0][0]
    assert len(keys) < 6, "some frames are made from others"
    early = call_ours(pipe, **options, callback_on_step_end=stop)
    assert early.frame_indices == sorted(keys) and len(early.frames) == len(keys)

    def stop_late(pipe, step, timestep, tensors):
        pipe._interrupt = pipe.frame_indices != keys
        return {}

    options["generator"] = torch.Generator().manual_seed(0)
    late = call_ours(pipe, **options, output_type="np", callback_on_step_end=stop_late)
    assert set(keys) < set(late.frame_indices)
    options["generator"] = torch.Generator().manual_seed(0)
    finished = call_ours(pipe, **options, output_type="np").frames
    at = late.frame_indices.index(keys[0])
    assert np.array_equal(late.frames[at], finished[keys[0]]), "what was finished is as it is in the whole clip"


def test_diffusers_callback_objects(pipe):
    passes = samples.passes(1, 32)
    options = dict(passes=passes, generator=generators(1))
    plain = call_ours(pipe, **options).frames
    options["generator"] = generators(1)
    cut = call_ours(pipe, **options, callback_on_step_end=SDCFGCutoffCallback(cutoff_step_index=0, cutoff_step_ratio=None)).frames
    assert not torch.allclose(cut, plain, atol=1e-3)
    with pytest.raises(ShotError, match="no tensor 'noise' for callback_on_step_end_tensor_inputs; choose latents"):
        call_ours(pipe, callback_on_step_end_tensor_inputs=["noise"])

    def broken(pipe, step, timestep, tensors):
        return {"prompt_embeds": tensors["prompt_embeds"][:, :5]}

    with pytest.raises(ShotError, match="callback gave prompt_embeds of shape"):
        call_ours(pipe, callback_on_step_end=broken, callback_on_step_end_tensor_inputs=["prompt_embeds"])

    def raise_guidance(pipe, step, timestep, tensors):
        pipe._guidance_scale = 5.0

    with pytest.raises(ShotError, match="cannot be switched on between steps"):
        call_ours(pipe, guidance_scale=1.0, callback_on_step_end=raise_guidance)


def test_loras_have_the_strength_of_cross_attention_kwargs(folder):
    pipes = [kind.from_pretrained(folder) for kind in (StableDiffusionControlNetPipeline, LatentManPipeline)]
    pipes[1].scheduler = DDIMScheduler.from_config(pipes[0].scheduler.config)
    for each in pipes:
        each.set_progress_bar_config(disable=True)
        for network, targets in ((each.unet, ["to_q", "to_k"]), (each.text_encoder, ["q_proj", "v_proj"])):
            torch.manual_seed(3)
            inject_adapter_in_model(LoraConfig(r=2, target_modules=targets, init_lora_weights=False), network, "style")
    found = []
    for scale in (0.0, 0.5, 1.0):
        changes = dict(cross_attention_kwargs={"scale": scale})
        found.append(call_ours(pipes[1], **changes).frames)
        assert torch.allclose(found[-1], call_theirs(pipes[0], **changes).images, atol=2e-4), scale
    assert not torch.allclose(found[0], found[1], atol=1e-3) and not torch.allclose(found[1], found[2], atol=1e-3)
    assert torch.allclose(call_ours(pipes[1]).frames, found[2], atol=2e-4), "the strength is as it was"
    with pytest.raises(ShotError, match="takes no 'ip_adapter_masks'"):
        call_ours(pipes[1], cross_attention_kwargs={"scale": 1.0, "ip_adapter_masks": []})


def test_several_controlnets(several, pipe):
    theirs, ours = several
    controls = dict(controls=("depth", "depth"))
    for changes in (
        dict(controlnet_conditioning_scale=[0.2, 0.7]),
        dict(control_guidance_start=[0.0, 0.3], control_guidance_end=[0.5, 1.0]),
        dict(controlnet_conditioning_scale=0.5),
        dict(guess_mode=True),
    ):
        made = call_ours(ours, **controls, **changes).frames
        assert torch.allclose(made, call_theirs(theirs, image=[DEPTH, DEPTH], **changes).images, atol=2e-4), changes
    pictures = dict(image=[DEPTH * 0.5, DEPTH.flip(3)])
    made = call_ours(ours, **pictures).frames
    assert torch.allclose(made, call_theirs(theirs, **pictures).images, atol=2e-4)
    nested = [[one, other] for one, other in zip(*pictures["image"], strict=True)]
    assert torch.allclose(call_ours(ours, image=nested).frames, made, atol=1e-5)
    for wrong, kind, sentence in (
        (dict(controls=("depth",)), ShotError, "2 ControlNets; name the kind of each"),
        (dict(image=DEPTH), TypeError, "a list with the pictures of each of 2"),
        (dict(image=[DEPTH] * 3), ShotError, "pictures for 3 ControlNets, and the model has 2"),
        (dict(image=[[DEPTH[0], DEPTH[0]], [DEPTH[1]]]), ShotError, "Not every frame has 2 pictures"),
        (dict(**controls, controlnet_conditioning_scale=[1.0]), ShotError, "one scale, start and end"),
        (dict(**controls, controlnet_conditioning_scale=[[1.0], [1.0]]), ShotError, "list of lists"),
    ):
        with pytest.raises(kind, match=sentence):
            call_ours(ours, **wrong)


#: what both refuse, with what diffusers says of it: (arguments of both, type of error)
WRONG = [
    (dict(prompt=None), ValueError),
    (dict(prompt=3), ValueError),
    (dict(prompt=["a man"] * 3), ValueError),
    (dict(prompt_embeds=torch.zeros(1, 77, 8)), ValueError),
    (dict(prompt=["a man"] * FRAMES, negative_prompt=["a hat"] * 3), ValueError),
    (dict(negative_prompt="a hat", negative_prompt_embeds=torch.zeros(1, 77, 8)), ValueError),
    (
        dict(prompt=None, prompt_embeds=torch.zeros(FRAMES, 77, 8), negative_prompt_embeds=torch.zeros(FRAMES, 77, 4)),
        ValueError,
    ),
    (dict(image="depth.png"), TypeError),
    (dict(image=3), TypeError),
    (dict(image=torch.cat([DEPTH, DEPTH])), ValueError),
    (dict(controlnet_conditioning_scale="much"), TypeError),
    (dict(control_guidance_start=0.5, control_guidance_end=0.5), ValueError),
    (dict(control_guidance_start=-0.5), ValueError),
    (dict(control_guidance_end=1.5), ValueError),
    (dict(control_guidance_start=[0.1, 0.2], control_guidance_end=[0.5, 0.6, 0.7]), ValueError),
    (dict(callback_on_step_end_tensor_inputs=["nothing"]), ValueError),
    (dict(generator=generators(3)), ValueError),
]


@pytest.mark.parametrize("changes, kind", WRONG, ids=lambda value: ",".join(value) if isinstance(value, dict) else "")
def test_what_diffusers_refuses_is_refused_in_a_sentence(pipe, theirs, changes, kind):
    with pytest.raises(kind):
        theirs(**dict(prompt=["a man"] * FRAMES, image=DEPTH, num_inference_steps=1, generator=generators()) | changes)
    with pytest.raises(kind) as caught:
        call_ours(pipe, num_inference_steps=1, **changes)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


NONSENSE = [
    (dict(guidance_scale="much"), TypeError, "guidance_scale is a str"),
    (dict(guidance_scale=float("nan")), ShotError, "guidance_scale cannot be nan"),
    (dict(num_inference_steps="many"), TypeError, "num_inference_steps is a str"),
    (dict(num_inference_steps=-1), ShotError, "steps -1 is out of range"),
    (dict(eta=2.0), ShotError, "from 0 to 1"),
    (dict(clip_skip=-1), ShotError, "clip_skip cannot be -1"),
    (dict(clip_skip=99), ShotError, "clip_skip of at most 1"),
    (dict(generator=3), TypeError, "generator is a int"),
    (dict(generator=[]), ShotError, "0 generators for 2 frames"),
    (dict(latents=torch.zeros(1, 4, 4, 4)), ShotError, r"must be a tensor \[2, 4, 4, 4\]"),
    (dict(latents=np.zeros((2, 4, 4, 4))), ShotError, "latents are ndarray"),
    (dict(num_images_per_prompt=0), ShotError, "num_images_per_prompt of 1 or more"),
    (dict(prompt=[]), ShotError, "0 of prompt for 2 frames"),
    (dict(prompt=["a man", 3]), ShotError, "holds what is no text"),
    (dict(negative_prompt=3), TypeError, "negative_prompt is a int"),
    (dict(image=torch.full((2, 3, 32, 32), float("nan"))), ShotError, "no colours"),
    (dict(image=torch.zeros(2, 4, 32, 32)), ShotError, "no colours"),
    (dict(image=[]), TypeError, "image is a list"),
    (dict(controls=("foo",)), ShotError, "no kind of ControlNet 'foo'; choose depth"),
    (dict(controlnet_conditioning_scale=float("nan")), ShotError, "scale of at least 0"),
    (dict(cross_attention_kwargs={"scale": "much"}), TypeError, "scale is a str"),
    (dict(cross_attention_kwargs=3), TypeError, "cross_attention_kwargs are a int"),
    (dict(method=None), ShotError, "give a name or a Method"),
    (dict(manifest=3), TypeError, "manifest is a int"),
    (dict(callback_on_step_end=3), TypeError, "give a function"),
    (dict(callback_on_step_end=lambda *given: 3), ShotError, "callback gave a int"),
    (dict(callback_on_step_end=lambda *given: {"latents": torch.zeros(1)}), ShotError, "callback gave latents of"),
    (dict(prompt=None, prompt_embeds=torch.zeros(1, 77, 3)), ShotError, "3 numbers a token"),
    (dict(prompt=None, prompt_embeds=np.zeros((1, 77, 3))), ShotError, "no tensor of 3 dimensions"),
    (dict(reference=Image.new("RGB", (32, 32)), ip_adapter_image=Image.new("RGB", (32, 32))), ShotError, "which are the same"),
    (dict(ip_adapter_image=[Image.new("RGB", (32, 32))] * 2), ShotError, "2 pictures of the character"),
]


@pytest.mark.parametrize("changes, kind, sentence", NONSENSE, ids=lambda value: "")
def test_nonsense_is_a_sentence(pipe, changes, kind, sentence):
    with pytest.raises(kind, match=sentence) as caught:
        call_ours(pipe, **dict(num_inference_steps=1) | changes)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert torch.isfinite(call_ours(pipe, num_inference_steps=1).frames).all(), "the pipeline is as it was"


#: arguments that are refused, each in a sentence that names it
REFUSED = {
    "height": (dict(height=64), "height and width"),
    "width": (dict(width=30), "height and width"),
    "ip_adapter_image_embeds": (dict(ip_adapter_image_embeds=[torch.zeros(2, 1, 4)]), "ip_adapter_image_embeds"),
    "ip_adapter_image": (dict(ip_adapter_image=Image.new("RGB", (32, 32))), "reference picture"),
    "prompt_2": (dict(prompt_2="a woman"), "prompt_2"),
    "negative_prompt_2": (dict(negative_prompt_2="a woman"), "negative_prompt_2"),
    "denoising_end": (dict(denoising_end=0.5), "denoising_end"),
    "original_size": (dict(original_size=(32, 32)), "original_size"),
    "target_size": (dict(target_size=(32, 32)), "target_size"),
    "crops_coords_top_left": (dict(crops_coords_top_left=(1, 1)), "crops"),
    "pooled_prompt_embeds": (dict(pooled_prompt_embeds=torch.zeros(1, 4)), "pooled_prompt_embeds"),
}
#: arguments whose effect other tests here compare with diffusers
ELSEWHERE = {
    *("timesteps", "sigmas", "num_images_per_prompt", "eta", "generator", "prompt_embeds", "negative_prompt_embeds"),
    *("output_type", "return_dict", "cross_attention_kwargs", "clip_skip"),
}


def test_every_argument_of_diffusers_is_honoured_or_refused(pipe):
    names = {
        name
        for kind in (StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline)
        for name, one in inspect.signature(kind.__call__).parameters.items()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    } - {"self"}
    ours = set(inspect.signature(LatentManPipeline.__call__).parameters)
    assert names <= ours, names - ours
    of_xl = {"negative_original_size", "negative_crops_coords_top_left", "negative_target_size", "negative_pooled_prompt_embeds"}
    assert names == {*HONOURED, *REFUSED, *ELSEWHERE, *of_xl}
    for changes, sentence in REFUSED.values():
        with pytest.raises(ShotError, match=sentence):
            call_ours(pipe, **changes)
    with pytest.raises(TypeError, match="callback_steps"):
        call_ours(pipe, callback_steps=2)
    assert torch.equal(call_ours(pipe, height=32, width=32).frames, call_ours(pipe).frames)


def test_passes_of_every_kind(pipe, tmp_path):
    passes_folder.save(tmp_path / "passes", PASSES, PassesManifest(32, 32, 20.0, (1, 2), 1.0, 2.0))
    plain = call_ours(pipe).frames
    for passes in (tmp_path / "passes", str(tmp_path / "passes"), passes_folder.load(str(tmp_path / "passes"))[0]):
        assert torch.allclose(call_ours(pipe, passes=passes).frames, plain, atol=1e-3)
    with pytest.raises(ShotError, match="There is no nowhere; give a folder"):
        call_ours(pipe, passes="nowhere")
    for wrong in (None, DEPTH):
        with pytest.raises(TypeError, match="give the folder of passes"):
            call_ours(pipe, passes=wrong)
    with pytest.raises(ShotError, match="nearest size is 32x32"):
        call_ours(pipe, passes=_crop(samples.passes(2, 48), 40))


def _crop(passes, width):
    return type(passes)(**{name: np.ascontiguousarray(array[:, :32, :width]) for name, array in passes.arrays().items()})


def test_defaults_are_those_of_the_command_line(folder):
    """The same seed gives the frames of a request that leaves everything to its defaults."""
    passes = samples.passes(3, 32)
    model = load(str(folder), torch.device("cpu"))
    request = make_request("a man", width=32, height=32, frames=(1, 2, 3), fps=20.0, seed=7)
    wanted = np.stack(list(ShotPipeline(model, request, passes, RunContext()).frames()))
    pipe = LatentManPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    made = pipe("a man", passes, generator=torch.Generator().manual_seed(7)).frames
    assert np.array_equal(np.stack([np.asarray(frame) for frame in made]), wanted)


def test_generators_count_on_as_they_draw(pipe):
    one = torch.Generator().manual_seed(3)
    first, second = (call_ours(pipe, generator=one, scheduler="euler_a").frames for _ in range(2))
    again = call_ours(pipe, generator=torch.Generator().manual_seed(3), scheduler="euler_a").frames
    assert torch.equal(first, again) and not torch.allclose(first, second, atol=1e-2)
    torch.manual_seed(5)
    drawn = call_ours(pipe, generator=None).frames
    torch.manual_seed(5)
    assert torch.equal(call_ours(pipe, generator=None).frames, drawn)


def test_saved_pipelines_are_read_by_everything(pipe, tmp_path):
    with stepping((pipe,), EulerDiscreteScheduler):
        wanted = call_ours(pipe).frames
        pipe.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "model_index.json").read_text())["_class_name"] == "StableDiffusionControlNetPipeline"
    ours = LatentManPipeline.from_pretrained(str(tmp_path / "saved"))
    custom = DiffusionPipeline.from_pretrained(
        str(tmp_path / "saved"), custom_pipeline=str(tmp_path / "saved"), trust_remote_code=True, cache_dir=str(tmp_path / "cache")
    )
    plain = DiffusionPipeline.from_pretrained(tmp_path / "saved")
    assert type(custom) is LatentManPipeline and type(plain) is StableDiffusionControlNetPipeline
    for found in (ours, custom, LatentManPipeline.from_pipe(plain)):
        found.set_progress_bar_config(disable=True)
        assert torch.allclose(call_ours(found).frames, wanted, atol=1e-5)
    assert load(str(tmp_path / "saved"), torch.device("cpu")).controls == ("depth",)


def test_a_pipeline_from_another(theirs, folder):
    words = StableDiffusionPipeline.from_pipe(theirs)
    ours = LatentManPipeline.from_pipe(words, controlnet=theirs.controlnet)
    ours.set_progress_bar_config(disable=True)
    assert ours.unet is theirs.unet
    assert torch.allclose(call_ours(ours).frames, call_ours(LatentManPipeline.from_pretrained(folder)).frames, atol=1e-5)


def test_half_precision_and_offloading_are_as_in_diffusers(folder):
    ours, theirs = (kind.from_pretrained(folder) for kind in (LatentManPipeline, StableDiffusionControlNetPipeline))
    for pipe in (ours, theirs):
        pipe.to(torch.float16)
        pipe.set_progress_bar_config(disable=True)
    ours.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    half = dict(generator=None, latents=noise(1))
    made, wanted = call_ours(ours, **half).frames, call_theirs(theirs, **half | {"latents": noise(1).half()}).images
    assert made.dtype == torch.float16 and (made.float() - wanted.float()).abs().max() < 0.1
    shown = call_ours(ours, output_type="np").frames
    assert np.isfinite(shown).all() and shown.dtype == np.float32
    if not torch.cuda.is_available():
        for switch in ("enable_model_cpu_offload", "enable_sequential_cpu_offload"):
            for pipe in (ours, theirs):
                with pytest.raises(RuntimeError, match="accelerator"):
                    getattr(pipe, switch)()


def test_bars_show_how_far_it_is(pipe, capsys):
    pipe.set_progress_bar_config(disable=False)
    try:
        call_ours(pipe, output_type="np")
    finally:
        pipe.set_progress_bar_config(disable=True)
    shown = capsys.readouterr().err
    assert "denoising: 100%" in shown and "3/3" in shown and "decoding: 100%" in shown
    call_ours(pipe)
    assert capsys.readouterr().err == ""


def test_the_safety_checker_has_its_say(pipe):
    class Checker(torch.nn.Module):
        device, dtype = torch.device("cpu"), torch.float32

        def forward(self, clip_input, images):
            assert clip_input.shape[0] == FRAMES
            images[1] = 0
            return images, [False, True]

    class Extractor:
        def __call__(self, pictures, return_tensors):
            found = {"pixel_values": torch.zeros(len(pictures), 3, 8, 8)}
            return type("Batch", (), {"pixel_values": found["pixel_values"], "to": lambda self, device: self})()

    pipe.safety_checker, pipe.feature_extractor = Checker(), Extractor()
    try:
        made = call_ours(pipe, output_type="np")
    finally:
        pipe.safety_checker = pipe.feature_extractor = None
    assert made.nsfw_content_detected == [False, True] and made.frames[1].max() == 0 and made.frames[0].max() > 0
    assert call_ours(pipe, output_type="np").nsfw_content_detected is None


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    """Diffusers' SDXL pipeline and ours."""
    root = tmp_path_factory.mktemp("xl")
    tiny.write_sdxl(root)
    theirs = StableDiffusionXLControlNetPipeline.from_pretrained(root)
    ours = LatentManXLPipeline.from_pipe(theirs)
    ours.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    for pipe in (theirs, ours):
        pipe.set_progress_bar_config(disable=True)
    return theirs, ours


def test_sdxl(xl):
    theirs, ours = xl
    words, others, pooled, other_pooled = theirs.encode_prompt(["a man", "a woman"], negative_prompt=["a hat", "a beach"])
    plain = call_ours(ours).frames
    for changes in (
        dict(),
        dict(prompt=["a man", "a woman"], negative_prompt=["a hat", "a beach"]),
        dict(
            prompt=None,
            prompt_embeds=words,
            negative_prompt_embeds=others,
            pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=other_pooled,
        ),
        dict(original_size=(64, 48), crops_coords_top_left=(3, 5), target_size=(20, 30)),
        dict(clip_skip=0),
        dict(guess_mode=True),
        dict(
            callback_on_step_end=lambda pipe, step, timestep, tensors: {"add_text_embeds": tensors["add_text_embeds"] * 0.5},
            callback_on_step_end_tensor_inputs=["add_text_embeds", "add_time_ids"],
        ),
    ):
        made, wanted = call_ours(ours, **changes).frames, call_theirs(theirs, **changes).images
        assert torch.allclose(made, wanted, atol=5e-4), (changes, (made - wanted).abs().max())
        assert changes in ({}, dict(clip_skip=0), dict(guess_mode=True)) or not torch.allclose(made, plain, atol=1e-4), changes
    # of batches of several diffusers mixes the passes up
    sizes = dict(negative_original_size=(64, 48), negative_crops_coords_top_left=(3, 5), negative_target_size=(20, 30))
    one = [call_ours(ours, passes=PASSES.select([0]), generator=generators(1), **given).frames for given in (sizes, {})]
    wanted = call_theirs(theirs, prompt=["a man"], image=DEPTH[:1], generator=generators(1), **sizes).images
    assert torch.allclose(one[0], wanted, atol=5e-4) and not torch.allclose(*one, atol=1e-4)
    for wrong, sentence in (
        (dict(prompt=None, prompt_embeds=words), "need pooled_prompt_embeds"),
        (dict(prompt_2="a dog"), "prompt_2 cannot be another"),
        (dict(denoising_end=0.5), "denoising_end"),
    ):
        with pytest.raises(ShotError, match=sentence):
            call_ours(ours, **wrong)
    assert torch.equal(call_ours(ours, prompt_2="a man").frames, plain)


def test_embeddings_of_each_frame_go_with_every_method(pipe, theirs):
    """Each frame follows its own text, also where frames attend to others and are made from a look."""
    passes = samples.passes(4, 32)
    options = dict(passes=passes, generator=None, latents=noise(2, 4))
    for method in ("surface", "latentman", "cross_frame"):
        same = call_ours(pipe, **options, method=method, prompt=["a man"] * 4).frames
        assert torch.allclose(same, call_ours(pipe, **options, method=method).frames, atol=1e-4)
        words = embed(theirs, *["a man"] * 4)
        embedded = call_ours(pipe, **options, method=method, prompt=None, prompt_embeds=words).frames
        assert torch.allclose(embedded, same, atol=2e-4), method
        other = call_ours(pipe, **options, method=method, prompt=["a man", "a man", "a man", "a green tree"]).frames
        assert not torch.allclose(other[3], same[3], atol=1e-3), method
    behind = dict(background_prompt="a forest")
    whole = call_ours(pipe, **options, **behind).frames
    words = embed(theirs, *["a man"] * 4)
    assert torch.allclose(call_ours(pipe, **options, **behind, prompt=None, prompt_embeds=words).frames, whole, atol=2e-4)


def test_numbers_of_numpy_are_numbers(pipe):
    plain = call_ours(pipe, clip_skip=1, control_guidance_end=0.5).frames
    found = call_ours(
        pipe,
        num_inference_steps=np.int64(3),
        guidance_scale=np.float32(4),
        clip_skip=np.int32(1),
        eta=np.float64(0),
        num_images_per_prompt=np.int64(1),
        control_guidance_end=np.float32(0.5),
        cross_attention_kwargs={"scale": None},
    ).frames
    assert torch.equal(plain, found)


@pytest.mark.parametrize("given", [torch.tensor([900, 500, 100]), np.array([900, 500, 100]), (900, 500, 100)], ids=type)
def test_schedules_may_be_arrays(pipe, given):
    with stepping([pipe], EulerDiscreteScheduler):
        listed = call_ours(pipe, timesteps=[900, 500, 100]).frames
        assert torch.equal(listed, call_ours(pipe, timesteps=given).frames)


NO_ARGUMENTS = [
    (dict(num_inference_steps=2.0), TypeError, "2.0; give a whole number"),
    (dict(clip_skip=1.5), TypeError, "1.5; give a whole number"),
    (dict(clip_skip=2), ShotError, "has 2 layers; give a clip_skip of at most 1"),
    (dict(techniques=[3]), TypeError, "must be a list of Technique objects"),
    (dict(techniques=None), TypeError, "must be a list of Technique objects"),
    (dict(controls=None), TypeError, "The controls are a NoneType"),
    (dict(scheduler=DDIMScheduler()), TypeError, "a DDIMScheduler; give a name, or set pipe.scheduler"),
    (dict(spacing=None), TypeError, "The spacing is a NoneType"),
    (dict(timesteps="x"), TypeError, "The timesteps are a str"),
    (dict(timesteps=["x"]), TypeError, "The timesteps are a list"),
    (dict(sigmas=[float("nan")]), ShotError, "The sigmas hold what is no number"),
    (dict(generator=[None, None]), TypeError, "The generator is a NoneType"),
    (dict(latents=torch.full((2, 4, 4, 4), float("nan"))), ShotError, "The latents hold what is no number"),
    (dict(image=[Image.new("RGB", (32, 32)), np.zeros((32, 32, 3))]), TypeError, "a list of several kinds"),
    (dict(prompt=None, prompt_embeds=torch.full((1, 40, 128), float("nan"))), ShotError, "empty, or hold what is no number"),
    (dict(prompt=None, prompt_embeds=torch.zeros(1, 0, 128)), ShotError, "empty, or hold"),
    (dict(negative_prompt_embeds=torch.zeros(1, 40, 5)), ShotError, "have 5 numbers a token"),
    (dict(callback_on_step_end=print, callback_on_step_end_tensor_inputs="latents"), TypeError, "a str; give a list of names"),
    (dict(callback_on_step_end=lambda p, i, t, d: d["latents"]), ShotError, "The callback gave a Tensor"),
    (dict(callback_on_step_end=lambda p, *_: setattr(p, "_guidance_scale", float("nan"))), ShotError, "cannot be nan"),
    (dict(callback_on_step_end=lambda p, *_: setattr(p, "_guidance_scale", "x")), TypeError, "is a str; give a number"),
    (dict(passes=replace(PASSES, depth=PASSES.depth.tolist())), TypeError, "The pass 'depth' is a list"),
    (dict(passes=replace(PASSES, mask=None)), TypeError, "The pass 'mask' is a NoneType"),
]


@pytest.mark.parametrize(("changes", "kind", "sentence"), NO_ARGUMENTS, ids=lambda value: "")
def test_arguments_of_other_types_are_sentences(pipe, changes, kind, sentence):
    with pytest.raises(kind, match=sentence):
        call_ours(pipe, **changes)


@pytest.mark.parametrize("method", ["per_frame", "latentman"])
def test_inference_mode_changes_nothing(pipe, method):
    plain = call_ours(pipe, method=method).frames
    with torch.inference_mode():
        embeds = embed(pipe, "a man")
        assert torch.equal(plain, call_ours(pipe, method=method).frames)
    found = call_ours(pipe, method=method, prompt=None, prompt_embeds=embeds).frames
    assert torch.allclose(plain, found, atol=1e-4)


def test_a_call_in_the_middle_of_a_training_leaves_it_as_it_was(folder):
    pipe = LatentManPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.requires_grad_(True)
    pipe.vae.requires_grad_(False)
    pipe.unet.conv_in.requires_grad_(False)

    def list_trained():
        return [weight.requires_grad for part in (pipe.unet, pipe.vae, pipe.controlnet) for weight in part.parameters()]

    before = list_trained()
    call_ours(pipe, method="latentman")
    assert list_trained() == before
    with pytest.raises(ZeroDivisionError):
        call_ours(pipe, callback_on_step_end=lambda *_: 1 / 0)
    assert list_trained() == before


def test_a_pipeline_with_loaded_loras_is_not_saved_without_them(folder, tmp_path):
    pipe = LatentManPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q"]), "mine")
    wanted = call_ours(pipe).frames
    with pytest.raises(ShotError, match="LoRAs are loaded in the unet, and the folder"):
        pipe.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.save_pretrained(tmp_path / "saved")
    again = LatentManPipeline.from_pretrained(tmp_path / "saved")
    again.set_progress_bar_config(disable=True)
    again.scheduler = DDIMScheduler.from_config(again.scheduler.config)
    assert torch.allclose(call_ours(again).frames, wanted, atol=1e-3)


def test_a_pipeline_of_other_parts_says_so(theirs, folder, tmp_path):
    without = LatentManPipeline(**(theirs.components | {"controlnet": None}), requires_safety_checker=False)
    with pytest.raises(ShotError, match="has no ControlNet"):
        call_ours(without)
    with pytest.raises(ShotError, match="use LatentManPipeline"):
        call_ours(LatentManXLPipeline.from_pretrained(folder))
