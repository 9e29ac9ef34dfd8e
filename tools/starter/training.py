"""The training stages: the auto-encoder on crops, the text encoder alone, then text encoder, UNet and ControlNet together,
and at last the auto-encoder's decoder, which may go on learning once the latents are fixed.

All but the second, which takes a minute, continue from their checkpoints.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from . import networks, words

CROP, FOREGROUND_WEIGHT, EMA_DECAY = 64, 3.0, 0.997


@dataclass(frozen=True)
class Plan:
    """How long and how to train."""

    device: str
    vae_steps: int
    steps: int
    batch: int
    seed: int
    words_steps: int = 2000
    decoder_steps: int = 2000
    compiled: bool = False
    checkpoint_every: int = 200

    def autocast(self) -> torch.autocast:
        """bfloat16 where the matrices are."""
        return torch.autocast(self.device.split(":")[0], torch.bfloat16)


def save(path: Path, state: dict) -> None:
    """Write, then rename: a killed run leaves the previous checkpoint whole."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


class LossLog:
    """Appends ``step loss`` lines and remembers a running mean."""

    def __init__(self, path: Path) -> None:
        self._file, self.mean = path.open("a"), float("nan")

    def add(self, step: int, loss: float) -> None:
        """Note the loss of a step."""
        self.mean = loss if np.isnan(self.mean) else 0.98 * self.mean + 0.02 * loss
        if step % 10 == 0:
            self._file.write(f"{step} {self.mean:.6f}\n")
            self._file.flush()


def _steps(start: int, end: int, name: str) -> Iterator[int]:
    yield from tqdm(range(start, end), initial=start, total=end, desc=name, mininterval=10)


def _crops(images: np.ndarray, depths: np.ndarray, generator: np.random.Generator, count: int) -> torch.Tensor:
    """(count, 3, CROP, CROP) in [-1, 1]; every second crop is centred on the character."""
    size, out = images.shape[1], np.empty((count, CROP, CROP, 3), np.uint8)
    for n, index in enumerate(generator.integers(len(images), size=count)):
        row, col = generator.integers(0, size - CROP, 2)
        if n % 2:
            rows, cols = np.nonzero(depths[index, ::8, ::8])
            at = generator.integers(max(len(rows), 1)) if len(rows) else None
            if at is not None:
                row, col = (int(np.clip(c * 8 - CROP // 2, 0, size - CROP)) for c in (rows[at], cols[at]))
        out[n] = images[index, row:row + CROP, col:col + CROP]
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 127.5 - 1


def _slopes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def _resume(checkpoint: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Load a checkpoint, if there is one; gives the steps that are done."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _picture_loss(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Values and edges."""
    edges = sum(F.l1_loss(a, b) for a, b in zip(_slopes(made), _slopes(real), strict=True))
    return F.l1_loss(made, real) + F.mse_loss(made, real) + edges


def refine_decoder(vae, images: np.ndarray, depths: np.ndarray, folder: Path, plan: Plan):
    """Train the decoder further while the encoder, and so every latent, stays as it is."""
    checkpoint = folder / "decoder.pt"
    decoder = vae.decoder.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(decoder.parameters(), 1e-3, betas=(0.9, 0.98))
    start = _resume(checkpoint, decoder, optimiser)
    log = LossLog(folder / "decoder_loss.txt")
    for step in _steps(start, plan.decoder_steps, "decoder"):
        rate = 8e-4 * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * (0.5 + 0.5 * np.cos(np.pi * step / plan.decoder_steps)))
        optimiser.param_groups[0]["lr"] = float(rate)
        real = _crops(images, depths, np.random.default_rng((plan.seed, 3, step)), plan.batch).to(plan.device)
        with plan.autocast():
            with torch.no_grad():
                latents = vae.encode(real).latents
            made = vae.decode(latents).sample
        loss = _picture_loss(made.float(), real) + F.mse_loss(made.float(), real)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        log.add(step, loss.item())
        if (step + 1) % plan.checkpoint_every == 0 or step + 1 == plan.decoder_steps:
            save(checkpoint, {"model": decoder.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1})
    vae.eval().requires_grad_(False)
    return vae


def train_vae(images: np.ndarray, depths: np.ndarray, folder: Path, plan: Plan):
    """The trained auto-encoder, its ``scaling_factor`` set so that latents have unit variance."""
    torch.manual_seed(plan.seed)
    model = networks.vae().to(plan.device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.98))
    checkpoint = folder / "vae.pt"
    start = _resume(checkpoint, model, optimiser)
    log = LossLog(folder / "vae_loss.txt")
    for step in _steps(start, plan.vae_steps, "vae"):
        rate = 1e-3 * min(1.0, (step + 1) / 100) * (0.05 + 0.95 * (0.5 + 0.5 * np.cos(np.pi * step / plan.vae_steps)))
        optimiser.param_groups[0]["lr"] = float(rate)
        real = _crops(images, depths, np.random.default_rng((plan.seed, step)), plan.batch).to(plan.device)
        with plan.autocast():
            latents = model.encode(real).latents
            made = model.decode(latents + 0.02 * torch.randn_like(latents)).sample
        made, latents = made.float(), latents.float()
        loss = _picture_loss(made, real) + 0.01 * F.relu(latents.abs() - 2).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        log.add(step, loss.item())
        if (step + 1) % plan.checkpoint_every == 0 or step + 1 == plan.vae_steps:
            save(checkpoint, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1})
    model.eval().requires_grad_(False)
    with torch.no_grad():
        sample = model.encode(_crops(images, depths, np.random.default_rng(0), 64).to(plan.device)).latents
    model.register_to_config(scaling_factor=round(1.0 / float(sample.std()), 4))
    return model


def encode_all(vae, images: np.ndarray, folder: Path, plan: Plan) -> np.ndarray:
    """(N, 4, 32, 32) float16 scaled latents of every picture, made once."""
    path = folder / "latents.npy"
    if not path.exists():
        out = np.empty((len(images), 4, images.shape[1] // 8, images.shape[2] // 8), np.float16)
        with torch.no_grad(), plan.autocast():
            for n in tqdm(range(0, len(images), 16), desc="latents", mininterval=10):
                batch = torch.from_numpy(np.ascontiguousarray(images[n:n + 16])).permute(0, 3, 1, 2).to(plan.device)
                out[n:n + 16] = (vae.encode(batch.float() / 127.5 - 1).latents * vae.config.scaling_factor).float().cpu()
        np.save(path, out)
    return np.load(path, mmap_mode="r")


def learn_tokenizer(texts: list[str], folder: Path):
    """The tokenizer of the training captions."""
    return networks.tokenizer(texts, folder / "tokenizer")


def token_ids(tokenizer, texts: list[str]) -> torch.Tensor:
    """(N, TOKENS) int64."""
    return tokenizer(texts, padding="max_length", max_length=networks.TOKENS, truncation=True, return_tensors="pt").input_ids


def trained_steps(folder: Path) -> int:
    """How far the diffusion stage's checkpoint has come."""
    return int(torch.load(folder / "diffusion.pt", weights_only=True, mmap=True)["step"])


def train_diffusion(data: Path, latents: np.ndarray, tokenizer, folder: Path, plan: Plan) -> torch.nn.ModuleDict:
    """Text encoder, UNet and ControlNet (keys ``text``, ``unet``, ``control``) as exponential moving averages."""
    torch.manual_seed(plan.seed)
    models = torch.nn.ModuleDict({"text": networks.text_encoder(len(tokenizer), tokenizer.eos_token_id),
                                  "unet": networks.unet(), "control": networks.controlnet()})
    models = models.to(plan.device, memory_format=torch.channels_last)
    checkpoint, start = folder / "diffusion.pt", 0
    if not checkpoint.exists():
        words.teach(models["text"], lambda texts: token_ids(tokenizer, texts), plan.device, plan.words_steps, plan.seed)
    average = copy.deepcopy(models).requires_grad_(False)
    optimiser = torch.optim.AdamW(models.parameters(), 5e-4, betas=(0.9, 0.99), weight_decay=0.01)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        models.load_state_dict(state["models"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    depths = np.load(data / "depths.npy", mmap_mode="r")
    ids = token_ids(tokenizer, json.loads((data / "captions.json").read_text()))
    empty = token_ids(tokenizer, [""])[0]
    noise_schedule = networks.scheduler()

    def predict(noisy: torch.Tensor, timestep: torch.Tensor, ids: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        text = models["text"](ids).last_hidden_state
        down, middle = models["control"](noisy, timestep, text, depth.expand(-1, 3, -1, -1), return_dict=False)
        return models["unet"](noisy, timestep, text, down_block_additional_residuals=down,
                              mid_block_additional_residual=middle).sample

    model = torch.compile(predict) if plan.compiled else predict
    log = LossLog(folder / "diffusion_loss.txt")
    for step in _steps(start, plan.steps, "diffusion"):
        fading = 0.5 + 0.5 * np.cos(np.pi * step / plan.steps)
        optimiser.param_groups[0]["lr"] = float(6e-4 * min(1.0, (step + 1) / 200) * fading + 2e-5)
        generator = np.random.default_rng((plan.seed, 1, step))
        rows = np.sort(generator.choice(len(latents), plan.batch, replace=False))
        clean = torch.from_numpy(latents[rows].astype(np.float32)).to(plan.device)
        depth = torch.from_numpy(depths[rows]).to(plan.device)[:, None].float() / 255
        prompt = ids[rows].clone()
        prompt[torch.from_numpy(generator.random(plan.batch) < 0.12)] = empty
        noise = torch.randn_like(clean)
        # noisy steps more often: only there must the words decide, later the picture shows its colours itself
        timestep = (1000 * torch.rand(plan.batch, device=plan.device).sqrt()).long().clamp(max=999)
        noisy = noise_schedule.add_noise(clean, noise, timestep)
        target = noise_schedule.get_velocity(clean, noise, timestep)
        with plan.autocast():
            predicted = model(noisy, timestep, prompt.to(plan.device), depth)
        body = 1 + (FOREGROUND_WEIGHT - 1) * (F.avg_pool2d(depth, 8) > 0)
        # the plain error of v gives the noisiest steps, where colours and places are decided, their full weight
        loss = (body * (predicted.float() - target).square()).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimiser.step()
        decay = min(EMA_DECAY, (step + 1) / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(models.parameters()), 1 - decay)
        log.add(step, loss.item())
        if (step + 1) % plan.checkpoint_every == 0 or step + 1 == plan.steps:
            save(checkpoint, {"models": models.state_dict(), "average": average.state_dict(),
                              "optimiser": optimiser.state_dict(), "step": step + 1})
    return average.eval()
