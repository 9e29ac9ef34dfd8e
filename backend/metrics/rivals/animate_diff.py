"""AnimateDiff with ControlNets, see ``settings.AnimateDiff``: diffusers' own pipeline, with this model's parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AnimateDiffControlNetPipeline, MotionAdapter, StableDiffusionControlNetPipeline
from diffusers.models import UNetMotionModel

from ....shared.files import read_file
from ....shared.npy import shorten
from ....shared.passes import FramePasses
from ....shared.shot import ShotError, ShotRequest
from ...models.image_model import ImageModel
from ...video.controls import make_control_pictures
from ...video.prediction import uses_guidance
from ...video.run_context import RunContext
from .settings import AnimateDiff

#: bytes of a motion module's configuration
MAX_CONFIG = 1 << 20


def _refuse(path: Path, why: str) -> ShotError:
    return ShotError(
        "motion_module",
        f"{path} is no motion module that can be used ({why}); give --motion-module a diffusers folder of one, with config.json "
        "and safetensors.",
    )


def check_motion_module(path: Path) -> None:
    """Raise ``ShotError`` for what cannot be a motion module, without loading it. Pickled weights are not read."""
    config = path / "config.json"
    if not config.is_file():
        raise _refuse(path, "there is no config.json")
    try:
        kind = json.loads(read_file(config, MAX_CONFIG))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refuse(path, "its config.json cannot be read") from error
    if kind != "MotionAdapter":
        raise _refuse(path, f"it is a {str(kind)[:60]}")
    if not any(path.glob("*.safetensors")):
        raise _refuse(path, "it holds no safetensors")


def _load_adapter(path: Path, dtype: torch.dtype) -> MotionAdapter:
    check_motion_module(path)
    try:
        found = MotionAdapter.from_pretrained(str(path), torch_dtype=dtype, local_files_only=True, use_safetensors=True)
    except Exception as error:
        # diffusers and safetensors raise whatever they meet
        raise _refuse(path, shorten(error)) from error
    if found.config.get("conv_in_channels"):
        raise _refuse(path, "it is one for animating pictures")
    return found


def make_pipeline(rival: AnimateDiff, model: ImageModel) -> AnimateDiffControlNetPipeline:
    """Diffusers' pipeline of a model's parts and the motion module. Raises ``ShotError`` where they do not fit."""
    if not isinstance(model.pipeline, StableDiffusionControlNetPipeline):
        raise ShotError("motion_module", f"AnimateDiff is for Stable Diffusion 1.x, and the model '{model.name}' is another kind.")
    if model.plan.offload != "none":
        raise ShotError("memory", "AnimateDiff needs the whole model on the device; use a smaller model, or half precision.")
    path = Path(rival.motion_module)
    adapter = _load_adapter(path, model.dtype)
    try:
        unet = UNetMotionModel.from_unet2d(model.unet, adapter)
    except (ValueError, RuntimeError, TypeError, KeyError, IndexError) as error:
        raise _refuse(path, f"it is for another model: {shorten(error)}") from error
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
