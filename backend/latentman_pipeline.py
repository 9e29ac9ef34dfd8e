"""LatentMan as diffusers pipelines, for use outside Blender.

    import torch
    from pathlib import Path
    from latentman.backend import LatentManPipeline
    from latentman.shared.passes_folder import load

    passes, manifest = load(Path("passes"))
    pipe = LatentManPipeline.from_pretrained("backend/models/starter")
    frames = pipe("a man in a red shirt, on a beach", passes, generator=torch.Generator().manual_seed(3)).frames

Everything that diffusers' own ControlNet pipelines load works: ``from_pretrained``, ``from_single_file``, LoRAs, textual
inversions, several ControlNets, offloading, and attention processors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
from diffusers.utils import BaseOutput
from PIL import Image

from ..shared.control_uses import ControlUse
from ..shared.manifest import PassesManifest
from ..shared.passes import FramePasses, check_passes
from ..shared.reference import name_picture
from ..shared.shot import MODELS_STRENGTH, NOTHING, Method, ShotError, check_request, make_request
from .models.families import family_of_pipeline
from .models.image_model import ImageModel
from .models.ip_adapters import read_pipeline_adapter
from .pictures import encode_png
from .reference_pictures import read_reference
from .video.noise import draw_noise, list_noise_sources
from .video.pipeline import Interrupted, RunContext, ShotPipeline
from .video.techniques import Technique
from .video.techniques.registry import build_techniques

#: (pipeline, step index, timestep, {"latents": ...}) -> tensors to go on with
StepCallback = Callable[[Any, int, torch.Tensor, dict[str, torch.Tensor]], dict[str, torch.Tensor] | None]


def _make_control_uses(
    count: int, scale: float | Sequence[float], start: float | Sequence[float], end: float | Sequence[float]
) -> tuple[ControlUse, ...]:
    """What diffusers' own pipelines take, one number for all ControlNets or one for each. Raises ``ShotError``."""
    values = [[value] * count if isinstance(value, (int, float)) else list(value) for value in (scale, start, end)]
    if any(len(each) != count for each in values):
        raise ShotError("control", f"The model has {count} ControlNets; give one scale, start and end, or as many of each.")
    uses = tuple(ControlUse(*each) for each in zip(*values, strict=True))
    if any(use.strength < 0 or not 0 <= use.start < use.end <= 1 for use in uses):
        raise ShotError("control", "A ControlNet works from a fraction of the steps to a larger one, with a scale of at least 0.")
    return uses


@dataclass
class LatentManOutput(BaseOutput):
    """``frames``: a list of PIL images, a float32 array (F, H, W, 3) in [0, 1], or latents (F, C, h, w)."""

    frames: Any


class _LatentManMixin:
    """What both pipelines add to diffusers' own."""

    unet: Any
    vae: Any
    _execution_device: torch.device
    maybe_free_model_hooks: Callable[[], None]

    def interrupt_now(self) -> None:
        """Stop the running call after its current step; it returns the frames that it is at as they are."""
        self._interrupt = True

    def __call__(
        self,
        prompt: str,
        passes: FramePasses,
        num_inference_steps: int | None = 50,
        guidance_scale: float | None = 7.5,
        negative_prompt: str | None = "",
        method: Method | str = "latentman",
        controlnet_conditioning_scale: float | Sequence[float] = 1.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        scheduler: str = "",
        background_prompt: str = "",
        controls: tuple[str, ...] = ("depth",),
        manifest: PassesManifest | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        techniques: Sequence[Technique] = (),
        clip_skip: int | None = None,
        spacing: str = "",
        control_guidance_start: float | Sequence[float] = 0.0,
        control_guidance_end: float | Sequence[float] = 1.0,
        reference: Any = None,
        reference_strength: float | None = None,
    ) -> LatentManOutput:
        """Generate a clip whose frames fit ``passes``.

        Of ``num_inference_steps``, ``guidance_scale`` and ``negative_prompt``, None is the model's own, as its folder or its
        configurations say. ``method`` is a preset's name or a ``Method``; ``techniques`` are objects that work after those that it
        names. ``generator`` draws the first frame's noise, which all frames share, or with a list each frame's own; ``latents`` (F,
        C, h, w) standard normal noise takes its place. ``scheduler`` and ``spacing`` are values of ``Sampling``. ``controls`` names
        the ControlNets' kinds in order; kinds other than depth need the passes' ``manifest``; their scales, starts and ends are one
        number for all or one for each. ``output_type`` is ``pil``, ``np`` or ``latent``. ``clip_skip`` counts as diffusers does:
        the layers that are left out. The callback may set ``pipe._interrupt``, or return ``latents``, as in diffusers.
        ``reference`` is a picture of the character for an IP-Adapter that ``load_ip_adapter`` loaded: a PIL image, or an array
        (H, W, 3) of uint8 or of fractions. Its strength is ``reference_strength`` from 0 to 1, else that of
        ``set_ip_adapter_scale``.

        Raises ``ShotError`` for requests that cannot be run.
        """
        count, height, width = passes.mask.shape
        picture = None if reference is None else read_reference(reference)
        adapter = read_pipeline_adapter(self)
        if adapter is not None and reference_strength is not None:
            # a strength of the call's own holds for all layers
            adapter = replace(adapter, layers={name: (*one[:2], 1.0) for name, one in adapter.layers.items()})
        chosen = {"method": method} if isinstance(method, Method) else {"preset": method}
        request = make_request(
            prompt,
            width=width,
            height=height,
            frames=tuple(range(1, count + 1)),
            fps=24.0,
            # to a request an empty text and 0 mean the model's own, here as in diffusers they mean none
            negative_prompt="" if negative_prompt is None else negative_prompt or NOTHING,
            steps=0 if num_inference_steps is None else num_inference_steps,
            guidance_scale=0.0 if guidance_scale is None else max(guidance_scale, 1.0),
            scheduler=scheduler,
            spacing=spacing,
            background_prompt=background_prompt,
            # a request counts layers from the end, diffusers what is left out behind the model's own
            clip_skip=0 if clip_skip is None else clip_skip + family_of_pipeline(self).own_layer,
            reference="" if picture is None else name_picture(encode_png(picture)),
            reference_strength=MODELS_STRENGTH if reference_strength is None else reference_strength,
            manifest=manifest,
            **chosen,
        )
        if num_inference_steps == 0:
            raise ShotError("steps", "No frames can be made in 0 steps; give 1 or more, or None for the model's own.")
        check_request(request)
        passes = check_passes(request, passes.arrays())
        device = self._execution_device
        uses = _make_control_uses(len(controls), controlnet_conditioning_scale, control_guidance_start, control_guidance_end)
        model = ImageModel(type(self).__name__, self, device, self.unet.dtype, controls, uses=uses, adapter=adapter)
        for part in (self.unet, self.vae, *model.controlnets):
            part.requires_grad_(False)
        request = model.complete_request(request, (width, height))
        self._interrupt, self._guidance_scale = False, request.sampling.guidance_scale if guidance_scale is None else guidance_scale
        last: dict[str, torch.Tensor] = {}

        def after_step(step: int, timestep: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
            if callback_on_step_end:
                given = callback_on_step_end(self, step, timestep, {"latents": current}) or {}
                current = given.get("latents", current)
            last["latents"] = current
            return current

        run_context = RunContext(after_step=after_step, should_stop=lambda: self._interrupt and bool(last))
        shape = (int(self.unet.config.in_channels), height // model.latent_factor, width // model.latent_factor)
        noise = latents
        if noise is None:
            chosen_techniques = [*build_techniques(request.get_method()), *techniques]
            noise = self._draw_noise(generator, list_noise_sources(chosen_techniques, range(count)), shape)
        run = ShotPipeline(model, request, passes, run_context, noise, techniques=techniques, reference=picture)
        try:
            found = run.latents() if output_type == "latent" else torch.stack(list(run.pictures()))
        except Interrupted:
            run_context.should_stop = lambda: False
            found = last["latents"] if output_type == "latent" else torch.stack(list(run.decode(last["latents"])))
        self.maybe_free_model_hooks()
        return LatentManOutput(frames=found if output_type == "latent" else _convert_pictures(found, output_type))

    @staticmethod
    def _draw_noise(generator: Any, sources: list[int], shape: tuple[int, int, int]) -> torch.Tensor:
        """(F, C, h, w); ``sources`` says whose random numbers each frame takes."""
        if isinstance(generator, (list, tuple)):
            return torch.cat([torch.randn((1, *shape), generator=g, device=g.device).cpu() for g in generator])
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(0, 2**31, (1,))))
        return draw_noise(sources, range(len(sources)), shape, generator)


def _convert_pictures(pictures: torch.Tensor, output_type: str) -> Any:
    """(F, 3, H, W) around [-1, 1] as ``np``, an array (F, H, W, 3) in [0, 1], or as PIL images."""
    arrays = [((p / 2 + 0.5).clamp(0, 1)).permute(1, 2, 0).cpu().numpy() for p in pictures]
    if output_type == "np":
        return np.stack(arrays)
    return [Image.fromarray((p * 255).round().astype(np.uint8)) for p in arrays]


class LatentManPipeline(_LatentManMixin, StableDiffusionControlNetPipeline):
    """LatentMan on Stable Diffusion 1.x and 2.x with ControlNets."""


class LatentManXLPipeline(_LatentManMixin, StableDiffusionXLControlNetPipeline):
    """LatentMan on SDXL with ControlNets."""
