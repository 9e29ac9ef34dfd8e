"""Img2img of every frame by itself with one noise, see ``settings.FixedSeedImg2Img``."""

from __future__ import annotations

import numpy as np
import torch

from ....shared.passes import FramePasses
from ....shared.shot import ShotRequest
from ...models.image_model import ImageModel
from ...video.run_context import RunContext
from .denoising import PlainDenoising
from .settings import FixedSeedImg2Img

#: what is said of passes that a lamp cannot light
NO_NORMALS = "The shot has no normal pass; img2img begins from a render in which what is near is bright."
#: from where the light falls, in the world of the normals, and the grey of the background and of what looks away from the light
LIGHT, GREY, AMBIENT = (0.4, 0.6, 0.7), 0.5, 0.25


def render_grey(passes: FramePasses) -> np.ndarray:
    """(F, H, W, 3) float32 pictures in [0, 1]: grey surfaces in the light of one lamp before a grey background, as an animator's
    viewport shows them. Without the normal pass what is near is bright."""
    surface = passes.surface_index > 0
    if passes.normal is None:
        light = passes.depth
    else:
        direction = np.array(LIGHT) / np.linalg.norm(LIGHT)
        light = np.clip(passes.normal.astype(np.float32) @ direction, 0, 1)
    grey = np.where(surface, AMBIENT + (1 - AMBIENT) * light, GREY).astype(np.float32)
    return np.repeat(grey[..., None], 3, -1)


def _encode(model: ImageModel, picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Latents (1, C, h, w) of a picture (1, 3, H, W) in [-1, 1], drawn from what the auto-encoder gives."""
    vae = model.pipeline.vae
    found = vae.encode(picture.to(model.device, vae.dtype))
    latents = found.latents if hasattr(found, "latents") else found.latent_dist.sample(generator)
    return (latents * vae.config.scaling_factor).to(model.dtype)


@torch.no_grad()
def denoise(
    rival: FixedSeedImg2Img, model: ImageModel, request: ShotRequest, passes: FramePasses, run_context: RunContext
) -> torch.Tensor:
    """(F, C, h, w) clean latents. Raises ``ShotError``."""
    work = PlainDenoising(model, request, passes, range(passes.frame_count), run_context)
    if passes.normal is None and NO_NORMALS not in run_context.warnings:
        run_context.warnings.append(NO_NORMALS)
    first = work.steps - max(1, min(int(work.steps * rival.strength), work.steps))
    begun = []
    for picture in torch.from_numpy(render_grey(passes)).permute(0, 3, 1, 2):
        generator = torch.Generator().manual_seed(request.sampling.seed)
        clean = _encode(model, picture[None] * 2 - 1, generator)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        begun.append(work.sampler.add_noise(clean, noise, first))
    return work.run(torch.cat(begun), first, work.steps)
