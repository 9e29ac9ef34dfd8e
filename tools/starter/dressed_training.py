"""One bounded training of a larger starter on pictures that are rendered meanwhile: auto-encoder, words, denoiser, few steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from tqdm import tqdm
from transformers import CLIPTokenizer

from . import few_steps, networks
from .optimiser import MuonAdamW
from .scenery import SCENES
from .streaming import StreamedRenders
from .training import (
    CROPPED_FRACTION,
    DROPPED_CAPTIONS,
    LAST_FRACTION,
    NOISIEST_FRACTION,
    SCENE_WEIGHTS,
    Learner,
    LossLog,
    TrainingConfig,
    crop_around_body,
    decay_cosine,
    make_predictor,
    sample_timesteps,
    tokenize_captions,
    weigh_pixels,
)

#: channels of the UNet's levels and of the auto-encoder's decoder: with everything, half-precision files of 55 MB
WIDTHS, DECODER = (96, 160, 240), 64
#: shares of a run's time; what is left is for the beginning, the end and the pictures that show what was learnt
SHARES = {"vae": 0.2, "words": 0.04, "diffusion": 0.54, "few_steps": 0.13}
#: steps until the run is over, whatever their number
ENDLESS = 10**9


@dataclass
class Clock:
    """The time of a run: stages share ``seconds``, and what one leaves the next ones take."""

    seconds: float

    def __post_init__(self) -> None:
        self._began, self._planned = time.monotonic(), 0.0

    def give(self, stage: str) -> float:
        """Seconds for a stage: until its share, and those of the stages before it, are used up; at least a few."""
        self._planned += SHARES[stage] * self.seconds
        return max(self._planned - (time.monotonic() - self._began), 0.02 * self.seconds)

    def skip(self, stage: str) -> None:
        """The stages after it share its time."""
        self._planned += SHARES[stage] * self.seconds


@dataclass(frozen=True)
class Batch:
    """What a step learns from: latents ``clean`` (N, 4, S, S), ``depth`` (N, 1, 8 S, 8 S) in [0, 1], ids of tokens (N, TOKENS)."""

    clean: torch.Tensor
    depth: torch.Tensor
    ids: torch.Tensor


class Batches:
    """Draws batches from the pictures that are there, and encodes them."""

    def __init__(self, renders: StreamedRenders, vae: AutoencoderTiny, tokenizer: CLIPTokenizer, config: TrainingConfig) -> None:
        self._renders, self._tokenizer, self._config = renders, tokenizer, config
        self._vae = vae.to(config.device).eval().requires_grad_(False)
        self.empty = tokenize_captions(tokenizer, [""])[0].to(config.device)
        self._ids = torch.empty(0)
        self._weights = torch.empty(0)
        self._refresh()

    def _refresh(self) -> None:
        """Take the pictures that were rendered meanwhile."""
        self._renders.collect()
        known, count = len(self._ids), len(self._renders)
        if count == known:
            return
        texts = self._renders.captions[known:]
        new = torch.stack([tokenize_captions(self._tokenizer, list(row)) for row in zip(*texts, strict=True)], 1)
        self._ids = torch.cat([self._ids, new.to(self._config.device)]) if known else new.to(self._config.device)
        weights = torch.tensor([SCENE_WEIGHTS.get(scene, 1.0) for scene in SCENES])
        self._weights = weights[self._renders.scenes].to(self._config.device)

    def draw(self, count: int, generator: torch.Generator, *, cropped: bool = False, dropped: float = DROPPED_CAPTIONS) -> Batch:
        """Draw ``count`` pictures, half of them mirrored; a ``cropped`` batch is half as wide, about the bodies. Of the captions
        ``dropped`` are left out."""
        self._refresh()
        device = self._config.device

        def chance(*shape: int) -> torch.Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        index = torch.multinomial(self._weights, count, replacement=True, generator=generator)
        images, depth = self._renders.rows(index)
        pictures = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        depth = depth[:, None].float() / 255
        mirrored = (chance(count) < 0.5)[:, None, None, None]
        pictures, depth = (torch.where(mirrored, one.flip(-1), one) for one in (pictures, depth))
        if cropped:
            pictures, depth = crop_around_body(depth, chance(count), pictures, depth)
        ids = self._ids[index, (chance(count) * self._ids.shape[1]).long().clamp(max=self._ids.shape[1] - 1)]
        ids = torch.where(chance(count, 1) < dropped, self.empty, ids)
        with torch.no_grad(), networks.autocast(device):
            clean = self._vae.encode(pictures).latents * self._vae.config.scaling_factor
        return Batch(clean.float(), depth, ids)


def iter_seconds(start: int, seconds: float, name: str, most: int = ENDLESS) -> Iterator[tuple[int, float]]:
    """Steps until ``seconds`` are over, or ``most`` were taken, and the fraction (0..1) of that; there is at least one."""
    began, progress = time.monotonic(), tqdm(desc=name, initial=start, mininterval=10)
    fraction, step = 0.0, start
    while fraction < 1:
        yield step, fraction
        step += 1
        progress.update()
        fraction = max((time.monotonic() - began) / seconds, (step - start) / most)
    progress.close()


def make_models(tokenizer: CLIPTokenizer, size: int) -> torch.nn.ModuleDict:
    """New networks for pictures of ``size`` pixels."""
    return torch.nn.ModuleDict(
        {
            "text": networks.make_text_encoder(len(tokenizer), tokenizer.eos_token_id),
            "unet": networks.make_unet(WIDTHS, size // 8),
            "control": networks.make_controlnet(WIDTHS),
        }
    )


def _load_alphas(device: str) -> torch.Tensor:
    alphas: torch.Tensor = networks.make_scheduler().alphas_cumprod.to(device)
    return alphas


def train_denoiser(
    batches: Batches, models: torch.nn.ModuleDict, folder: Path, config: TrainingConfig, seconds: float, most: int = ENDLESS
) -> torch.nn.ModuleDict:
    """Train text encoder, UNet and ControlNet for some ``seconds``, or ``most`` steps, on from their checkpoint; returns their
    moving averages."""
    models = networks.move_to(models.requires_grad_(True).train(), config.device)
    learner = Learner(models, folder / "diffusion.pt", ENDLESS, lambda module: MuonAdamW(module, config.rate, (0.9, 0.99)))
    model = torch.compile(make_predictor(models), dynamic=False) if config.compiled else make_predictor(models)
    log = LossLog(folder / "diffusion_loss.txt")
    schedule = networks.make_scheduler()
    schedule.alphas_cumprod = schedule.alphas_cumprod.to(config.device)
    for step, fraction in iter_seconds(learner.done, seconds, "diffusion", most):
        generator = config.make_generator(1, step)
        early = fraction < 1 - LAST_FRACTION
        cropped = early and float(torch.rand(1, generator=generator, device=config.device)) < CROPPED_FRACTION
        batch = batches.draw(config.batch * 2 if cropped else config.batch, generator, cropped=cropped)
        count = len(batch.clean)
        noise = torch.randn(batch.clean.shape, generator=generator, device=config.device)
        which, late, any_one = torch.rand(3, count, generator=generator, device=config.device)
        timestep = sample_timesteps(which, late, any_one, NOISIEST_FRACTION if early else 0.0)
        noisy = schedule.add_noise(batch.clean, noise, timestep)
        target = schedule.get_velocity(batch.clean, noise, timestep)
        with networks.autocast(config.device):
            predicted = model(noisy, timestep, batch.ids, batch.depth)
        loss = (weigh_pixels(batch.depth) * (predicted.float() - target).square()).mean()
        learner.take_step(loss, config.rate * min(1.0, (step + 1) / 200) * decay_cosine(fraction, 0.03))
        log.add(step, loss)
    learner.save_checkpoint()
    return learner.average.eval()


def train_few_steps(
    batches: Batches,
    models: torch.nn.ModuleDict,
    folder: Path,
    config: TrainingConfig,
    seconds: float,
    guidance: float,
    most: int = ENDLESS,
) -> None:
    """Give the UNet a LoRA that takes few steps, trained for some ``seconds``; the other networks stay as they are."""
    models = networks.move_to(models.requires_grad_(False).eval(), config.device)
    unet: Any = models["unet"]
    parameters = few_steps.add_lora(unet)
    optimiser = torch.optim.AdamW(parameters, 5e-4, betas=(0.9, 0.99), weight_decay=0.0)
    predict, alphas = make_predictor(models), _load_alphas(config.device)
    log = LossLog(folder / "few_steps_loss.txt")
    for step, fraction in iter_seconds(0, seconds, "few steps", most):
        generator = config.make_generator(5, step)
        batch = batches.draw(config.batch, generator, dropped=0.0)
        path, _ = few_steps.sample_steps(len(batch.clean), generator, config.device)
        alpha = alphas[path[0]][:, None, None, None]
        noise = torch.randn(batch.clean.shape, generator=generator, device=config.device)
        noisy = alpha.sqrt() * batch.clean + (1 - alpha).sqrt() * noise
        with networks.autocast(config.device):
            unet.disable_adapters()
            with torch.no_grad():
                target = few_steps.compute_target(predict, noisy, path, batch.ids, batches.empty, batch.depth, guidance, alphas)
            unet.enable_adapters()
            predicted = predict(noisy, path[0], batch.ids, batch.depth)
        loss = (weigh_pixels(batch.depth) * (predicted.float() - target).square()).mean()
        optimiser.param_groups[0]["lr"] = 5e-4 * min(1.0, (step + 1) / 50) * decay_cosine(fraction, 0.03)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        log.add(step, loss)
