"""Text2Video-Zero with ControlNets, see ``settings.TextToVideoZero``."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ....shared.passes import FramePasses
from ....shared.shot import ShotError, ShotRequest
from ...models.first_frame_attention import first_frame_attention
from ...models.image_model import ImageModel
from ...video.noise import draw_noise
from ...video.run_context import RunContext
from ...video.techniques.context import latent_size
from .denoising import PlainDenoising
from .settings import TextToVideoZero

#: side of the picture in whose pixels motion is given
SIDE = 512


def move_latents(latents: torch.Tensor, motion: tuple[float, float], frames: range) -> torch.Tensor:
    """Latents (1, C, h, w) as they are in ``frames``, (N, C, h, w): read at the nearest place that lies ``motion`` (right, down)
    times the frame's number further, in pixels of a picture of ``SIDE``, mirrored at the edges."""
    height, width = latents.shape[-2:]
    moved = []
    for frame in frames:
        # a latent's place is that of its pixels' first corner, half a pixel of the large picture before its centre
        x, y = (
            2 * ((torch.arange(side) + 0.5) / side + (way * frame - 0.5) / SIDE) - 1
            for side, way in zip((width, height), motion, strict=True)
        )
        grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)[None]
        moved.append(F.grid_sample(latents, grid.to(latents), mode="nearest", padding_mode="reflection", align_corners=False))
    return torch.cat(moved)


def _noise_again(work: PlainDenoising, latents: torch.Tensor, noise: torch.Tensor, cleaner: int, noisier: int) -> torch.Tensor:
    """Latents (N, C, h, w) before the step ``cleaner`` with as much noise as before the step ``noisier``."""
    alphas = work.scheduler.alphas_cumprod.double().cpu()
    low, high = (int(work.sampler.timesteps[step]) for step in (cleaner, noisier))
    # the signal that is left from one to the other; the first timestep's own share belongs to neither
    kept = float(alphas[high - 1] / alphas[low - 1]) if low > 0 else float(alphas[max(high - 1, 0)])
    if float(work.scheduler.init_noise_sigma) != 1.0:
        # noise lies on top of the picture, and the picture stays as it is
        sigmas = work.scheduler.sigmas
        spread = (sigmas[noisier] ** 2 - sigmas[cleaner] ** 2).clamp(min=0).sqrt()
        return latents + noise * float(spread)
    return kept**0.5 * latents + (1 - kept) ** 0.5 * noise


def choose_steps(rival: TextToVideoZero, timesteps: torch.Tensor, of: int) -> tuple[int, int]:
    """The steps that the way back begins at, and that the moved latents are of, for (S,) descending timesteps of a schedule
    ``of`` so many; S is at least 2."""
    noisy, clean = (int((timesteps > limit * of / 1000).sum()) for limit in (rival.noisier, rival.cleaner))
    noisier = min(noisy, len(timesteps) - 2)
    return noisier, min(max(clean, noisier + 1), len(timesteps) - 1)


def denoise(
    rival: TextToVideoZero, model: ImageModel, request: ShotRequest, passes: FramePasses, run_context: RunContext
) -> torch.Tensor:
    """(F, C, h, w) clean latents. Raises ``ShotError``."""
    count = passes.frame_count
    alone = PlainDenoising(model, request, passes, [0], run_context)
    if alone.steps < 2:
        raise ShotError("steps", "Text2Video-Zero goes back and forth between steps and needs two of them; take more steps.")
    noisier, cleaner = choose_steps(rival, alone.sampler.timesteps, int(alone.scheduler.config.num_train_timesteps))
    generator = torch.Generator().manual_seed(request.sampling.seed)
    shape = (int(model.unet.config.in_channels), *latent_size(model, request))
    first = alone.sampler.scale_noise(draw_noise([0], [0], shape, generator).to(model.device, model.dtype))
    begun = alone.run(first, 0, noisier)
    together = begun
    if count > 1:
        source = alone.run(begun, noisier, cleaner)
        moved = move_latents(source, rival.motion, range(1, count))
        noise = torch.randn(moved.shape, generator=generator).to(moved)
        together = torch.cat([begun, _noise_again(alone, moved, noise, cleaner, noisier).to(begun)])
    work = PlainDenoising(model, request, passes, range(count), run_context)
    with first_frame_attention([model.unet, *model.controlnets], work.groups):
        return work.run(together, noisier, work.steps, seen=(0,))
