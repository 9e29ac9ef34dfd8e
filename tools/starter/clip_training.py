"""The training of the starter's motion module: layers between those of its UNet, in which the frames of a clip see each other. The
starter's own networks stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, MotionAdapter
from tqdm import tqdm
from transformers import CLIPTokenizer

from latentman.backend.models.motion_adapters import make_motion_unet

from . import networks
from .clips import FRAMES, Clips
from .flow_training import LowerPrecision, choose_kind, make_encoder
from .optimiser import MuonAdamW
from .training import (
    DROPPED_CAPTIONS,
    LAST_FRACTION,
    NOISIEST_FRACTION,
    Learner,
    LossLog,
    TrainingConfig,
    crop_around_body,
    decay_cosine,
    iter_steps,
    sample_timesteps,
    tokenize_captions,
    weigh_pixels,
)

HEADS = 4
#: what is measured of a module, by name
MEASURED = ("body", "beside", "restlessness")
#: what a motion module's parameters are called in a UNet
MOTION = "motion_modules"


def encode_clips(vae: AutoencoderTiny, clips: Clips, folder: Path, device: str) -> torch.Tensor:
    """(N, F, 4, 32, 32) float16 scaled latents of every frame; computed once and kept in ``folder``."""
    path = folder / "latents.npy"
    if not path.exists():
        count, frames, side = clips.images.shape[:3]
        out = np.empty((count, frames, 4, side // 8, side // 8), np.float16)
        encode = make_encoder(vae, device)
        for n in tqdm(range(count), desc="latents", mininterval=10):
            for frame in range(frames):
                out[n, frame] = encode(clips.images[n, frame].to(device)[None].permute(0, 3, 1, 2).float() / 127.5 - 1)[0]
        np.save(path, out)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def make_motion_module() -> MotionAdapter:
    """A motion module for the starter's UNet that changes nothing yet: its last layers are 0."""
    module = MotionAdapter(
        block_out_channels=networks.WIDTHS,
        motion_layers_per_block=1,
        motion_num_attention_heads=HEADS,
        motion_norm_num_groups=16,
        motion_max_seq_length=FRAMES,
    )
    for name, layer in module.named_modules():
        if name.endswith("proj_out"):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    return module


class ClipNetworks(torch.nn.Module):
    """The starter's ControlNet, and its UNet with a motion module, whose parameters alone want gradients."""

    def __init__(self, models: torch.nn.ModuleDict, module: MotionAdapter) -> None:
        super().__init__()
        self.control = models["control"]
        self.unet: Any = make_motion_unet(Path("motion module"), module, models["unet"])
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(MOTION in name)

    def list_motion_layers(self) -> torch.nn.ModuleDict:
        """The layers of the motion module under their names in the UNet, with underscores for dots."""
        layers = {name: layer for name, layer in self.unet.named_modules() if name.endswith(MOTION)}
        return torch.nn.ModuleDict({name.replace(".", "_"): layer for name, layer in layers.items()})

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor, states: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """(N, F, 4, h, w) predictions for latents of that shape, timesteps (N,), states of texts (N, T, D), depth (N, F, H, W)."""
        frames = noisy.shape[1]
        texts, times = (each.repeat_interleave(frames, 0) for each in (states, timestep))
        pictures = depth.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        with torch.no_grad():
            down, middle = self.control(noisy.flatten(0, 1), times, texts, pictures, return_dict=False)
        predicted = self.unet(
            noisy.transpose(1, 2),
            timestep,
            texts,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        return predicted.transpose(1, 2)


def train_motion_module(
    clips: Clips,
    latents: torch.Tensor,
    models: torch.nn.ModuleDict,
    tokenizer: CLIPTokenizer,
    folder: Path,
    config: TrainingConfig,
    initial: MotionAdapter | None = None,
) -> MotionAdapter:
    """Train a motion module for the starter's networks ``text``, ``unet`` and ``control``; returns its moving average. The training
    goes on from its checkpoint, or starts from the ``initial`` module if there is one."""
    torch.manual_seed(config.seed)
    module = initial or make_motion_module()
    pictures = ClipNetworks(models, module).train()
    learner = Learner(
        pictures.list_motion_layers(),
        folder / "motion.pt",
        config.steps,
        lambda layers: MuonAdamW(layers, config.rate, (0.9, 0.99)),
    )
    lower, log = LowerPrecision(pictures, choose_kind(config.device)), LossLog(folder / "motion_loss.txt")
    with torch.no_grad():
        ids = torch.stack([tokenize_captions(tokenizer, list(texts)) for texts in zip(*clips.captions, strict=True)], 1)
        encode = models["text"].eval().requires_grad_(False)
        empty = tokenize_captions(tokenizer, [""])[0]
    schedule = networks.make_scheduler()
    for step, fraction in iter_steps(learner.done, config.steps, "motion", config.seconds):
        generator = config.make_generator(1, step)

        def chance(*shape: int, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.rand(*shape, generator=generator)

        early = fraction < 1 - LAST_FRACTION
        # half the width in most steps, twice as many clips
        count = config.batch * 2 if early else config.batch
        rows = (chance(count) * len(clips)).long()
        clean, depth = latents[rows].float(), clips.depths[rows].float() / 255
        if early:
            frames = clean.shape[1]
            seen = depth.amax(1, keepdim=True)
            clean, depth = crop_around_body(seen, chance(count), clean.flatten(1, 2), depth)
            clean = clean.unflatten(1, (frames, -1))
        prompt = ids[rows, (chance(count) * ids.shape[1]).long().clamp(max=ids.shape[1] - 1)]
        prompt = torch.where(chance(count, 1) < DROPPED_CAPTIONS, empty, prompt)
        with torch.no_grad():
            states = encode(prompt).last_hidden_state
        noise = torch.randn(clean.shape, generator=generator)
        timestep = sample_timesteps(chance(count), chance(count), chance(count), NOISIEST_FRACTION)
        lower.update()
        error = compute_error(lower.copy, states, clean, depth, noise, timestep, schedule)
        weights = weigh_pixels(depth.flatten(0, 1)[:, None]).unflatten(0, depth.shape[:2])
        loss = (weights * error.square()).mean()
        learner.take_step(loss, config.rate * min(1.0, (step + 1) / 100) * decay_cosine(fraction, 0.03))
        log.add(step, loss)
        if learner.done % config.checkpoint_every == 0:
            learner.save_checkpoint()
    learner.save_checkpoint()
    pictures.list_motion_layers().load_state_dict(learner.average.state_dict())
    return read_motion_module(pictures)


def read_motion_module(pictures: ClipNetworks) -> MotionAdapter:
    """The motion module that is in a UNet, by itself."""
    module = make_motion_module()
    module.load_state_dict({name: value for name, value in pictures.unet.state_dict().items() if MOTION in name})
    return module.eval()


def compute_error(
    pictures: Any,
    states: torch.Tensor,
    clean: torch.Tensor,
    depth: torch.Tensor,
    noise: torch.Tensor,
    timestep: torch.Tensor,
    schedule: Any,
) -> torch.Tensor:
    """(N, F, 4, h, w) float32 error of the prediction of v for the latents of clips and noise of that shape, depth (N, F, H, W),
    states of texts (N, T, D) and timesteps (N,). The networks compute in the type that they are in."""
    kind = next(pictures.parameters()).dtype
    noisy, target = schedule.add_noise(clean, noise, timestep), schedule.get_velocity(clean, noise, timestep)
    predicted = pictures(noisy.to(kind), timestep, states.to(kind), depth.to(kind))
    return predicted.float() - target


def measure_error(
    models: torch.nn.ModuleDict, module: MotionAdapter, clips: Clips, latents: torch.Tensor, tokenizer: CLIPTokenizer
) -> dict[str, float]:
    """The mean square error of v with a motion module on the body and beside it, over all clips and even timesteps, in float32, and
    that of how the clean prediction on the body changes from frame to frame (``restlessness``)."""
    sums, cells = measure_clips(models, module, clips, latents, tokenizer).sum(0)
    return dict(zip(MEASURED, (sums / cells).tolist(), strict=True))


@torch.no_grad()
def measure_clips(
    models: torch.nn.ModuleDict, module: MotionAdapter, clips: Clips, latents: torch.Tensor, tokenizer: CLIPTokenizer
) -> torch.Tensor:
    """(N, 2, 3) for each clip the sums of the squares that ``measure_error`` is about, in the order of ``MEASURED``, and of how
    many latent pixels they are."""
    pictures, schedule = ClipNetworks(models, module).eval(), networks.make_scheduler()
    ids = tokenize_captions(tokenizer, [texts[0] for texts in clips.captions])
    generator, found = torch.Generator().manual_seed(0), []
    for row in range(len(clips)):
        clean, depth = latents[row : row + 1].float(), clips.depths[row : row + 1].float() / 255
        timestep = torch.tensor([int(1000 * (row + 0.5) / len(clips))])
        noise = torch.randn(clean.shape, generator=generator)
        error = compute_error(
            pictures, models["text"](ids[row : row + 1]).last_hidden_state, clean, depth, noise, timestep, schedule
        )
        body = F.max_pool2d((depth[0] > 0).float()[:, None], 8)
        squared = error[0].square().mean(1, keepdim=True)
        # a wrong v is a wrong clean prediction, by this factor
        wrong = error[0] * float((1 - schedule.alphas_cumprod[timestep]).sqrt())
        restless = (wrong[1:] - wrong[:-1]).square().mean(1, keepdim=True) * body[1:] * body[:-1]
        both = (body[1:] * body[:-1]).sum()
        found.append([[(squared * body).sum(), (squared * (1 - body)).sum(), restless.sum()], [body.sum(), (1 - body).sum(), both]])
    return torch.tensor(found)
