"""The judge: a small network that segments the character in a picture and classifies the place.

It is trained on renders alone, never on the image model's pictures. The renders are blurred, change in brightness and, half of
them, go through the auto-encoder, so that it judges what a picture shows and not how sharp it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from . import networks
from .dataset import Renders
from .optimiser import MuonAdamW
from .scenery import SCENES
from .training import add_latent_noise, crop_around_body

SIDE, RATE = 256, 2e-3
#: this many renders are also seen encoded and decoded, with noise of up to this many standard deviations in their latents
RECONSTRUCTED_COUNT, LATENT_NOISE = 4000, 0.3
#: this fraction of its batches is cropped to half the width, around the body: half the work, and only background is left out. Not
#: in the last fraction of its steps, so that its batch normalisation is that of whole pictures
CROPPED_FRACTION, LAST_FRACTION = 0.75, 0.15
WEIGHTS = Path(__file__).resolve().parent / "judge.safetensors"


def _make_block(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, 1, 1),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


class Judge(nn.Module):
    """(N, 3, SIDE, SIDE) pictures in [0, 1] -> mask logits (N, SIDE, SIDE) and place logits (N, places).

    Its layers work on squares of 2x2 pixels, which costs a quarter and loses nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64, 96, 96)
        self.down = nn.ModuleList(
            _make_block(a, b, 1 if n == 0 else 2) for n, (a, b) in enumerate(zip((12, *widths), widths, strict=False))
        )
        self.up = nn.ModuleList(_make_block(a + b, b, 1) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.mask, self.place = nn.Conv2d(widths[0], 4, 1), nn.Linear(widths[-1], len(SCENES))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what the class describes."""
        x, levels = F.pixel_unshuffle(pictures - 0.5, 2), []
        for block in self.down:
            x = block(x)
            levels.append(x)
        place = self.place(x.mean((2, 3)))
        for block, level in zip(self.up, levels[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), level], 1))
        return F.pixel_shuffle(self.mask(x), 2)[:, 0], place


def resize_pictures(pictures: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, SIDE, SIDE) in [0, 1]."""
    return F.interpolate(pictures.permute(0, 3, 1, 2).float() / 255, (SIDE, SIDE), mode="area")


def resize_masks(masks: torch.Tensor) -> torch.Tensor:
    """(N, H, W) bool -> (N, SIDE, SIDE) bool."""
    return F.interpolate(masks[:, None].float(), (SIDE, SIDE), mode="area")[:, 0] > 0.5


@torch.no_grad()
def reconstruct(vae: AutoencoderTiny, pictures: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
    """(N, H, W, 3) uint8 pictures, encoded and decoded, with noise of up to ``noise`` standard deviations in the latents."""
    out = []
    for some in pictures.split(16):
        x = (some.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with networks.autocast(x.device.type):
            made = vae.decode(add_latent_noise(vae, vae.encode(x).latents, noise)).sample.float()
        out.append(((made.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1))
    return torch.cat(out)


def train(renders: Renders, vae: AutoencoderTiny, steps: int, device: str, batch: int = 24, seed: int = 0) -> Judge:
    """Train a judge on renders; it is returned on the CPU, in evaluation mode. ``vae`` and the renders are on ``device``."""
    torch.manual_seed(seed)
    judge = networks.move_to(Judge(), device)
    scenes = renders.scenes.long().to(device)
    reconstructed = reconstruct(vae, renders.images[:RECONSTRUCTED_COUNT], LATENT_NOISE)
    optimiser = MuonAdamW(judge, RATE, (0.9, 0.99))
    for step in tqdm(range(steps), desc="judge", mininterval=10):
        left = 1 - step / steps
        for group in optimiser.param_groups:
            group["lr"] = RATE * left + 1e-5
        rows, soft = torch.randint(0, len(renders), (batch,), device=device), batch // 2
        rows[:soft] %= len(reconstructed)
        images, depths = renders.rows(rows)
        images = torch.cat([reconstructed[rows[:soft]], images[soft:]])
        if step % 2:
            images, depths = images.flip(2), depths.flip(2)
        seen, truth = resize_pictures(images), resize_masks(depths > 0).float()
        if float(torch.rand(())) < CROPPED_FRACTION and left > LAST_FRACTION:
            seen, truth = crop_around_body(truth[:, None], torch.rand(batch, device=device), seen, truth[:, None])
            truth = truth[:, 0]
        # every picture is blurred by a random amount: the image model's pictures are softer than renders
        small = F.interpolate(F.avg_pool2d(seen, 4), seen.shape[2:], mode="bilinear")
        seen = torch.lerp(seen, small, torch.rand(batch, 1, 1, 1, device=device))
        tint = 0.85 + 0.3 * torch.rand(batch, 3, 1, 1, device=device)
        seen = (seen * tint + 0.04 * torch.randn_like(seen)).clamp(0, 1)
        with networks.autocast(device):
            mask, place = (answer.float() for answer in judge(seen.contiguous(memory_format=torch.channels_last)))
        # every silhouette counts the same, however small
        shown = mask.sigmoid()
        overlap = 2 * (shown * truth).sum((1, 2)) / (shown.sum((1, 2)) + truth.sum((1, 2))).clamp(min=1)
        loss = F.binary_cross_entropy_with_logits(mask, truth) + 0.3 * (1 - overlap.mean())
        loss = loss + 0.3 * F.cross_entropy(place, scenes[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    judge = judge.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stubs lack it
    return judge.eval().requires_grad_(False)


def save(judge: Judge, path: Path = WEIGHTS) -> None:
    """Write the weights in half precision."""
    small = {name: value.half() if value.is_floating_point() else value for name, value in judge.state_dict().items()}
    save_file({name: value.contiguous() for name, value in small.items()}, path)


def load(path: Path = WEIGHTS) -> Judge:
    """Load a judge; the shipped one was trained with the shipped model's auto-encoder."""
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.eval().requires_grad_(False)


def predict_silhouettes(judge: Judge, pictures: torch.Tensor) -> torch.Tensor:
    """(N, SIDE, SIDE) bool: where the character is in pictures of ``resize_pictures``, by the sum of the logits of both
    the pictures and their mirror images."""
    return judge(pictures)[0] + judge(pictures.flip(-1))[0].flip(-1) > 0


def silhouette_iou(judge: Judge, pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of the predicted silhouettes and the masks."""
    found, asked = predict_silhouettes(judge, resize_pictures(torch.from_numpy(pictures))), resize_masks(torch.from_numpy(masks))
    return ((found & asked).sum((1, 2)) / (found | asked).sum((1, 2)).clamp(min=1)).numpy()


def predict_places(judge: Judge, pictures: np.ndarray) -> np.ndarray:
    """(N,) indices in ``SCENES`` of the predicted places."""
    return judge(resize_pictures(torch.from_numpy(pictures)))[1].argmax(1).numpy()
