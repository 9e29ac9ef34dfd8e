"""AnimateDiff with ControlNets, see ``settings.AnimateDiff``: diffusers' own pipeline, with this model's parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AnimateDiffControlNetPipeline, StableDiffusionControlNetPipeline

from ....shared.passes import FramePasses
from ....shared.shot import ShotError, ShotRequest
from ...models.image_model import ImageModel
from ...models.motion_adapters import load_motion_module, make_motion_unet
from ...video.controls import make_control_pictures
from ...video.prediction import uses_guidance
from ...video.run_context import RunContext
from .settings import AnimateDiff


def make_pipeline(rival: AnimateDiff, model: ImageModel) -> AnimateDiffControlNetPipeline:
    """Diffusers' pipeline of a model's parts and the motion module. Raises ``ShotError`` where they do not fit."""
    if not isinstance(model.pipeline, StableDiffusionControlNetPipeline):
        raise ShotError("motion_module", f"AnimateDiff is for Stable Diffusion 1.x, and the model '{model.name}' is another kind.")
    if model.plan.offload != "none":
        raise ShotError("memory", "AnimateDiff needs the whole model on the device; use a smaller model, or half precision.")
    path = Path(rival.motion_module)
    adapter, _ = load_motion_module(path, model.dtype, model.unet.config, model.name)
    unet = make_motion_unet(path, adapter, model.unet)
    parts = model.pipeline
    return AnimateDiffControlNetPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=unet.to(model.device, model.dtype),
        motion_adapter=adapter,
        controlnet=model.controlnet,
        scheduler=parts.scheduler,
    )


def _make_scheduler(rival: AnimateDiff, model: ImageModel, request: ShotRequest) -> Any:
    made = model.make_scheduler(request.sampling.steps, request.sampling.scheduler, request.sampling.spacing)
    return type(made).from_config(made.config, beta_schedule=rival.beta_schedule)


@torch.no_grad()
def denoise(
    rival: AnimateDiff, model: ImageModel, request: ShotRequest, passes: FramePasses, run_context: RunContext
) -> torch.Tensor:
    """(F, C, h, w) clean latents. Raises ``ShotError``."""
    pipeline, sampling, text = make_pipeline(rival, model), request.sampling, request.text
    count, most = passes.frame_count, int(pipeline.motion_adapter.config.motion_max_seq_length)
    if count > most:
        raise ShotError(
            "frames",
            f"The motion module takes {most} frames at once, and the shot has {count}; leave out animatediff, or shorten it.",
        )
    pipeline.scheduler = _make_scheduler(rival, model, request)
    pipeline.set_progress_bar_config(disable=True)
    guided = uses_guidance(model, request)
    words = model.encode_text(
        text.prompt, text.negative_prompt, guided, request.width, request.height, clip_skip=text.clip_skip
    ).embeddings
    pictures = [list(torch.from_numpy(control)[:, None]) for control in make_control_pictures(passes, request, model.controls)]
    several = len(pictures) > 1
    strengths, starts, ends = [], [], []
    for use in model.control_uses:
        start, end = max(use.start, sampling.control_start), min(use.end, sampling.control_end)
        works = start < end
        strengths.append(use.strength * sampling.control_scale if works else 0.0)
        starts.append(start if works else 0.0)
        ends.append(end if works else 1.0)
    run_context.check()
    latents = pipeline(
        prompt_embeds=words[-1:],
        negative_prompt_embeds=words[:1] if guided else None,
        num_frames=count,
        height=request.height,
        width=request.width,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
        generator=torch.Generator().manual_seed(sampling.seed),
        conditioning_frames=pictures if several else pictures[0],
        controlnet_conditioning_scale=strengths if several else strengths[0],
        control_guidance_start=starts if several else starts[0],
        control_guidance_end=ends if several else ends[0],
        output_type="latent",
    ).frames
    return latents[0].transpose(0, 1).to(model.dtype)
