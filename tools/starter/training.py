"""The training stages: the auto-encoder on crops, the text encoder alone, then text encoder, UNet and ControlNet together.

All but the second, which takes a minute, continue from their checkpoints. The first and the last may start from the networks of an
earlier training.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from diffusers.models.attention_processor import AttnProcessor
from tqdm import tqdm
from transformers import CLIPTokenizer

from . import networks, text_pretraining
from .dataset import Renders
from .optimiser import MuonAdamW
from .scenery import SCENES

CROP, FOREGROUND_WEIGHT, DROPPED_CAPTIONS = 64, 8.0, 0.12
#: the auto-encoder is trained with noise of up to this standard deviation, against the latents' own, in its latents: those of a
#: denoiser are never exact, and outlines must survive that
LATENT_NOISE = 0.3
#: weight of the auto-encoder's error within two pixels of the character's outline, against 1 elsewhere
OUTLINE_WEIGHT = 4.0
#: weight of a latent's distance from the initial auto-encoder's, if there is one: on the outline, where there is more to learn, and
#: elsewhere, so that the denoiser still knows the latents
LATENT_WEIGHT_AT_OUTLINE, LATENT_WEIGHT = 0.01, 0.1
#: the moving average looks back over the last twelfth of the steps
AVERAGING_DIVISOR = 12.0
#: the last fraction of the diffusion stage sees whole pictures and evenly drawn timesteps; before that, this fraction of the steps
#: sees windows around the body, and this fraction of the timesteps is drawn from the noisiest
LAST_FRACTION, CROPPED_FRACTION, NOISIEST_FRACTION = 0.25, 0.8, 0.35
#: busy places are drawn this many times more often: outlines in front of them are learnt last
SCENE_WEIGHTS = {"forest": 2.5, "meadow": 1.5, "city": 1.5, "night": 1.5, "moon": 1.5}


@dataclass(frozen=True)
class TrainingConfig:
    """How and how long to train. The diffusion stage ends after ``seconds``, and the auto-encoder's after ``vae_seconds``, unless
    these are 0; the diffusion stage is also shown every picture's mirror image if ``mirrored``."""

    device: str
    vae_steps: int
    steps: int
    batch: int
    seed: int
    text_steps: int = 2000
    rate: float = 1e-3
    seconds: float = 0.0
    compiled: bool = False
    mirrored: bool = True
    checkpoint_every: int = 200
    vae_seconds: float = 0.0

    def make_generator(self, stage: int, step: int) -> torch.Generator:
        """The generator of one step, so that a run that was stopped continues with the same random numbers."""
        return torch.Generator(self.device).manual_seed((self.seed * 10 + stage) * 1_000_003 + step)


def add_arguments(parser: argparse.ArgumentParser, work: Path, out: Path, seed: int, batch: int, batch_help: str = "") -> None:
    """What every training is told on its command line."""
    parser.add_argument("--work", type=Path, default=work, help="renders and checkpoints")
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=batch, help=batch_help or None)
    parser.add_argument("--rate", type=float, default=1e-3, help="the highest learning rate, of the last stage")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="end the last stage after this time, with the learning rate decayed by then"
    )
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--export-only", action="store_true", help="write the folder from the checkpoints that exist")


class AnyRenders(Protocol):
    """Training pictures, as many as there are by now."""

    @property
    def size(self) -> int:
        """The side of the pictures in pixels."""

    def __len__(self) -> int: ...

    def rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (M, S, S, 3) and depths (M, S, S), uint8, of some pictures (M,)."""


def save(path: Path, state: dict) -> None:
    """Write, then rename: a killed run leaves the previous checkpoint whole."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


class LossLog:
    """Appends ``step loss`` lines of a running mean, which stays on the device between them."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._mean: torch.Tensor | None = None

    def add(self, step: int, loss: torch.Tensor) -> None:
        """Add the loss of a step."""
        loss = loss.detach()
        self._mean = loss if self._mean is None else torch.lerp(self._mean, loss, 0.02)
        if step % 10 == 0:
            self._file.write(f"{step} {float(self._mean):.6f}\n")
            self._file.flush()


def iter_steps(start: int, end: int, name: str, seconds: float = 0.0) -> Iterator[tuple[int, float]]:
    """Iterate over steps with a progress bar, and the fraction (0..1) of the training that is over: by count, or by the clock where
    ``seconds`` run out first."""
    began = time.monotonic()
    for step in tqdm(range(start, end), initial=start, total=end, desc=name, mininterval=10):
        fraction = step / end
        if seconds:
            fraction = max(fraction, (time.monotonic() - began) / seconds)
        if fraction >= 1:
            return
        yield step, fraction


def decay_cosine(fraction: float, least: float) -> float:
    """From 1 to ``least`` along a cosine."""
    return least + (1 - least) * (0.5 + 0.5 * float(np.cos(np.pi * fraction)))


def _sample_crops(
    renders: AnyRenders, config: TrainingConfig, stage: int, step: int, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (count, 3, CROP, CROP) in [-1, 1] and where the character is in them, (count, 1, CROP, CROP) of 0 and 1; every
    second crop is centred on the character."""
    generator, size = config.make_generator(stage, step), renders.size

    def integers(end: int, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randint(0, end, shape, generator=generator, device=config.device)

    rows = integers(len(renders), (count,))
    corner = integers(size - CROP, (2, count))
    images, depths = renders.rows(rows)
    shown = (depths[:, ::8, ::8] > 0).flatten(1).float() + 1e-6
    at = torch.multinomial(shown, 1, generator=generator)[:, 0]
    centred = (torch.stack([at // (size // 8), at % (size // 8)]) * 8 - CROP // 2).clamp(0, size - CROP)
    corner[:, 1::2] = centred[:, 1::2]
    span = torch.arange(CROP, device=config.device)
    y, x = ((c[:, None] + span) for c in corner)
    window = (torch.arange(count, device=config.device)[:, None, None], y[:, :, None], x[:, None, :])
    return images[window].permute(0, 3, 1, 2).float() / 127.5 - 1, (depths[window] > 0).float()[:, None]


def _compute_gradients(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


class Learner:
    """Networks in training, the moving average of their parameters that is shipped, and their optimiser; continues from its
    checkpoint.

    The average looks back over the last ``1 / AVERAGING_DIVISOR`` of ``steps``. ``done`` is the number of steps that were taken.
    """

    def __init__(
        self,
        models: torch.nn.ModuleDict,
        checkpoint: Path,
        steps: int,
        make_optimiser: Callable[[torch.nn.Module], torch.optim.Optimizer | MuonAdamW],
    ) -> None:
        self.models, self.average = models, copy.deepcopy(models).requires_grad_(False)
        self.optimiser = make_optimiser(models)
        self.done, self._checkpoint = 0, checkpoint
        self._slowest = 1 - AVERAGING_DIVISOR / max(steps, 2 * AVERAGING_DIVISOR)
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True, map_location="cpu")
            models.load_state_dict(state["models"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.done = int(state["step"])

    def take_step(self, loss: torch.Tensor, rate: float) -> None:
        """Take one optimiser step on ``loss`` with a learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.models.parameters(), 1.0)
        self.optimiser.step()
        self.done += 1
        decay = min(self._slowest, self.done / (self.done + 19))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.models.parameters()), 1 - decay)

    def save_checkpoint(self) -> None:
        """Write the checkpoint."""
        save(
            self._checkpoint,
            {
                "models": self.models.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.done,
            },
        )


def read_step_count(checkpoint: Path) -> int:
    """The number of steps that a learner's checkpoint has taken."""
    return int(torch.load(checkpoint, weights_only=True, mmap=True)["step"])


def _compute_picture_loss(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The difference of pictures: of their values and of their edges."""
    edges = sum(F.l1_loss(a, b) for a, b in zip(_compute_gradients(made), _compute_gradients(real), strict=True))
    return F.l1_loss(made, real) + 2 * F.mse_loss(made, real) + edges


def add_latent_noise(
    vae: AutoencoderTiny, latents: torch.Tensor, most: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Add noise to unscaled latents (N, C, H, W), to each with a random standard deviation of at most ``most`` times theirs."""
    amount = torch.rand(len(latents), 1, 1, 1, generator=generator, device=latents.device)
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    return latents + most / vae.config.scaling_factor * amount * noise


def find_outline(body: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) of 0 and 1: within two pixels of the edge of ``body``, of the same shape."""
    return F.max_pool2d(body, 5, 1, 2) + F.max_pool2d(-body, 5, 1, 2)


def train_vae(
    renders: AnyRenders,
    folder: Path,
    config: TrainingConfig,
    initial: AutoencoderTiny | None = None,
    made: AutoencoderTiny | None = None,
) -> AutoencoderTiny:
    """Train the auto-encoder; its ``scaling_factor`` is set at the end, so that latents have unit variance.

    With an ``initial`` one the training starts there, keeps its ``scaling_factor`` and stays near its latents; one that is ``made``
    is trained in place of the usual.
    """
    torch.manual_seed(config.seed)
    model = (copy.deepcopy(initial) if initial else made or networks.make_vae()).requires_grad_(True).train()
    model = model.to(config.device, memory_format=torch.channels_last)
    initial = initial and initial.to(config.device, memory_format=torch.channels_last).requires_grad_(False)
    learner = Learner(
        torch.nn.ModuleDict({"vae": model}),
        folder / "vae.pt",
        config.vae_steps,
        lambda module: MuonAdamW(module, 1e-3, (0.9, 0.99)),
    )
    log = LossLog(folder / "vae_loss.txt")
    for step, fraction in iter_steps(learner.done, config.vae_steps, "vae", config.vae_seconds):
        real, body = _sample_crops(renders, config, 0, step, config.batch)
        edge = find_outline(body)
        with networks.autocast(config.device):
            latents = model.encode(real).latents
            made = model.decode(add_latent_noise(model, latents, LATENT_NOISE, config.make_generator(4, step))).sample
            before = initial.encode(real).latents.float() if initial else None
        made, latents = made.float(), latents.float()
        off = (made - real).abs() + (made - real).square()
        loss = (
            _compute_picture_loss(made, real)
            + OUTLINE_WEIGHT * (edge * off).mean()
            + 0.01 * F.relu(latents.abs() - 2).square().mean()
        )
        if before is not None:
            weight = LATENT_WEIGHT + (LATENT_WEIGHT_AT_OUTLINE - LATENT_WEIGHT) * F.max_pool2d(edge, 8)
            loss = loss + (weight * ((latents - before) * model.config.scaling_factor).square()).mean()
        learner.take_step(loss, 1e-3 * min(1.0, (step + 1) / 100) * decay_cosine(fraction, 0.02))
        log.add(step, loss)
        if learner.done % config.checkpoint_every == 0:
            learner.save_checkpoint()
    learner.save_checkpoint()
    averaged: AutoencoderTiny = learner.average["vae"].eval()
    if not initial:
        with torch.no_grad():
            sample = averaged.encode(_sample_crops(renders, config, 2, 0, 64)[0]).latents
        averaged.register_to_config(scaling_factor=round(1.0 / float(sample.std()), 4))
    return averaged


def encode_all(vae: AutoencoderTiny, renders: Renders, folder: Path, config: TrainingConfig) -> torch.Tensor:
    """(N, 1 or 2, 4, 32, 32) float16 scaled latents of every picture and, if configured, of its mirror image; computed once and
    kept in ``folder``."""
    path = folder / "latents.npy"
    if not path.exists():
        side = renders.images.shape[1] // 8
        out = np.empty((len(renders), 1 + config.mirrored, 4, side, side), np.float16)
        with torch.no_grad(), networks.autocast(config.device):
            for n in tqdm(range(0, len(renders), 64), desc="latents", mininterval=10):
                batch = renders.images[n : n + 64].to(config.device).permute(0, 3, 1, 2).float() / 127.5 - 1
                for mirrored in range(out.shape[1]):
                    pictures = batch.flip(-1) if mirrored else batch
                    out[n : n + 64, mirrored] = (vae.encode(pictures).latents * vae.config.scaling_factor).float().cpu()
        np.save(path, out)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def learn_tokenizer(folder: Path) -> CLIPTokenizer:
    """Learn the tokenizer from the captions' grammar; it is the same for every set of renders."""
    return networks.learn_tokenizer(text_pretraining.sample_sentences(text_pretraining.SENTENCES, 0)[0], folder / "tokenizer")


def tokenize_captions(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """(N, TOKENS) int64 ids of the tokens of texts."""
    return tokenizer(texts, padding="max_length", max_length=networks.TOKENS, truncation=True, return_tensors="pt").input_ids


def find_body_cells(depth: torch.Tensor) -> torch.Tensor:
    """(N, 1, S, S) of 0 and 1: the latent pixels that hold any of the body, for depth (N, 1, 8 S, 8 S)."""
    return (F.max_pool2d(depth, 8) > 0).float()


def crop_around_body(depth: torch.Tensor, chance: torch.Tensor, *pictures: torch.Tensor) -> list[torch.Tensor]:
    """Cut ``pictures``, (N, C, H, W) each, to half the width about the body's middle, where ``depth`` (N, 1, S, S) is not 0;
    ``chance`` (N,) in 0..1 moves the window. It lies between latent pixels, so that pictures of any scale are cut alike.

    This halves the work, and only background is left out.
    """
    side = depth.shape[-1] // 8
    across = find_body_cells(depth)[:, 0].sum(1)
    middle = (across * torch.arange(side, device=depth.device)).sum(1) / across.sum(1).clamp(min=1)
    left = (middle + (chance - 0.5) * side / 5 - side / 4).round().long().clamp(0, side // 2)

    def cut(picture: torch.Tensor) -> torch.Tensor:
        scale = picture.shape[3] // side
        columns = left[:, None] * scale + torch.arange(side // 2 * scale, device=depth.device)
        return picture.gather(3, columns[:, None, None].expand(-1, *picture.shape[1:3], -1))

    return [cut(picture) for picture in pictures]


def weigh_pixels(depth: torch.Tensor) -> torch.Tensor:
    """The weight of each latent pixel's error, (N, 1, S, S), for depth (N, 1, 8 S, 8 S): ``FOREGROUND_WEIGHT`` on the body and one
    pixel around it, since an outline has two sides; 1 elsewhere."""
    return 1 + (FOREGROUND_WEIGHT - 1) * F.max_pool2d(find_body_cells(depth), 3, 1, 1)


def make_predictor(models: torch.nn.ModuleDict) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """A function that predicts v (N, 4, S, S) from noisy latents of that shape, timesteps (N,), ids of tokens (N, TOKENS) and depth
    (N, 1, 8 S, 8 S)."""

    def predict(noisy: torch.Tensor, timestep: torch.Tensor, ids: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        text = models["text"](ids).last_hidden_state
        down, middle = models["control"](noisy, timestep, text, depth.expand(-1, 3, -1, -1), return_dict=False)
        made: torch.Tensor = models["unet"](
            noisy, timestep, text, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
        return made

    return predict


def sample_timesteps(which: torch.Tensor, noisy: torch.Tensor, any_one: torch.Tensor, noisiest: float) -> torch.Tensor:
    """(N,) int64 timesteps of three draws (N,) of 0 to 1; the fraction ``noisiest`` of them lies above 700: only there do the words
    decide, later the picture itself shows its colours."""
    return torch.where(which < noisiest, 1000 - 300 * noisy, 1000 * any_one**0.65).long().clamp(max=999)


def train_diffusion(
    renders: Renders,
    latents: torch.Tensor,
    tokenizer: CLIPTokenizer,
    folder: Path,
    config: TrainingConfig,
    initial: torch.nn.ModuleDict | None = None,
) -> torch.nn.ModuleDict:
    """Train text encoder, UNet and ControlNet; returns their moving averages under ``text``, ``unet`` and ``control``.

    The training starts from the ``initial`` networks if there are any.
    """
    torch.manual_seed(config.seed)
    models = initial or torch.nn.ModuleDict(
        {
            "text": networks.make_text_encoder(len(tokenizer), tokenizer.eos_token_id),
            "unet": networks.make_unet(),
            "control": networks.make_controlnet(),
        }
    )
    models = networks.move_to(models.requires_grad_(True).train(), config.device)
    checkpoint = folder / "diffusion.pt"
    if not initial and not checkpoint.exists():
        text_pretraining.pretrain_text_encoder(
            models["text"], lambda texts: tokenize_captions(tokenizer, texts), config.device, config.text_steps, config.seed
        )
    learner = Learner(models, checkpoint, config.steps, lambda module: MuonAdamW(module, config.rate, (0.9, 0.99)))
    if config.device == "cpu":
        # with few words, the gradient of the CPU's fused attention would take a fifth of a step's time
        for name in ("unet", "control"):
            network: Any = models[name]
            network.set_attn_processor(AttnProcessor())
    latents = latents.to(config.device)
    ids = torch.stack([tokenize_captions(tokenizer, list(texts)) for texts in zip(*renders.captions, strict=True)], 1).to(
        config.device
    )
    empty = tokenize_captions(tokenizer, [""])[0].to(config.device)
    noise_schedule = networks.make_scheduler()
    noise_schedule.alphas_cumprod = noise_schedule.alphas_cumprod.to(config.device)

    predict = make_predictor(models)
    model = torch.compile(predict, dynamic=False) if config.compiled else predict
    log = LossLog(folder / "diffusion_loss.txt")
    scene_weights = torch.tensor([SCENE_WEIGHTS.get(scene, 1.0) for scene in SCENES], device=config.device)[renders.scenes.long()]
    for step, fraction in iter_steps(learner.done, config.steps, "diffusion", config.seconds):
        generator = config.make_generator(1, step)

        def chance(*shape: int, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.rand(*shape, generator=generator, device=config.device)

        early = fraction < 1 - LAST_FRACTION
        cropped = bool(chance(1) < CROPPED_FRACTION) and early
        count = config.batch * 2 if cropped else config.batch
        rows = torch.multinomial(scene_weights, count, replacement=True, generator=generator)
        mirrored = chance(count) < (0.5 if latents.shape[1] == 2 else 0.0)
        clean = latents[rows, mirrored.long()].float()
        depth = renders.rows(rows)[1][:, None].float() / 255
        depth = torch.where(mirrored[:, None, None, None], depth.flip(-1), depth)
        if cropped:
            clean, depth = crop_around_body(depth, chance(count), clean, depth)
        prompt = ids[rows, (chance(count) * ids.shape[1]).long().clamp(max=ids.shape[1] - 1)]
        prompt = torch.where(chance(count, 1) < DROPPED_CAPTIONS, empty, prompt)
        noise = torch.randn(clean.shape, generator=generator, device=config.device)
        timestep = sample_timesteps(chance(count), chance(count), chance(count), NOISIEST_FRACTION if early else 0.0)
        noisy = noise_schedule.add_noise(clean, noise, timestep)
        target = noise_schedule.get_velocity(clean, noise, timestep)
        with networks.autocast(config.device):
            predicted = model(noisy, timestep, prompt, depth)
        # the plain error of v gives the noisiest steps, where colours and places are decided, their full weight
        loss = (weigh_pixels(depth) * (predicted.float() - target).square()).mean()
        learner.take_step(loss, config.rate * min(1.0, (step + 1) / 200) * decay_cosine(fraction, 0.03))
        log.add(step, loss)
        if learner.done % config.checkpoint_every == 0:
            learner.save_checkpoint()
    learner.save_checkpoint()
    return learner.average.eval()
