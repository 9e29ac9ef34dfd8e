"""The training of the flow-matching starter: its text encoder alone, then text encoder, transformer and ControlNet together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from tqdm import tqdm
from transformers import Qwen2Tokenizer

from . import flow_networks as networks
from . import text_pretraining
from .dataset import Renders
from .optimiser import MuonAdamW
from .scenery import SCENES
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
    iter_steps,
    weigh_pixels,
)

#: tokens of a caption in training: few are longer, and sequences of this length need no filling up
TOKENS = 32
#: the parts of noise that count as the noisiest, and how far the others are moved towards the noise
NOISIEST, TRAINING_SHIFT = 0.8, 1.5


def choose_kind(device: str) -> torch.dtype:
    """bfloat16 where products of matrices are quicker in it, which is where processors or GPUs know it at all."""
    able = torch.cpu.get_capabilities()
    knows = device != "cpu" or bool(able.get("amx_bf16")) or bool(able.get("avx512_bf16"))
    return torch.bfloat16 if knows else torch.float32


def make_encoder(vae: AutoencoderTiny, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pictures (N, 3, H, W) in [-1, 1] to scaled latents (N, 4, H / 8, W / 8) in float32 on the CPU, in the type
    that is quickest on a device."""
    kind = choose_kind(device)
    quick = copy.deepcopy(vae).to(kind).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(pictures: torch.Tensor) -> torch.Tensor:
        seen = pictures.to(kind).contiguous(memory_format=torch.channels_last)
        return (quick.encode(seen).latents.float() * vae.config.scaling_factor).cpu()

    return encode


def encode_pictures(vae: AutoencoderTiny, renders: Renders, folder: Path, device: str) -> torch.Tensor:
    """(N, 2, 4, 32, 32) float16 scaled latents of every picture and of its depth; computed once and kept in ``folder``."""
    path = folder / "latents_and_depth.npy"
    if not path.exists():
        side, encode = renders.images.shape[1] // 8, make_encoder(vae, device)
        out = np.empty((len(renders), 2, networks.CHANNELS, side, side), np.float16)
        # on processors single pictures stay within the cache
        run = 1 if device == "cpu" else 64
        for n in tqdm(range(0, len(renders), run), desc="latents", mininterval=10):
            images = renders.images[n : n + run].to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
            depths = renders.depths[n : n + run].to(device)[:, None].expand(-1, 3, -1, -1).float() / 127.5 - 1
            for which, pictures in enumerate((images, depths)):
                out[n : n + run, which] = encode(pictures)
        np.save(path, out)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def tokenize(tokenizer: Qwen2Tokenizer, texts: list[str]) -> torch.Tensor:
    """(N, TOKENS) int64 ids of texts as Z-Image asks for them, filled up or cut."""
    asked = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        for text in texts
    ]
    return tokenizer(asked, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids


def sample_noise_parts(chance: torch.Tensor, which: torch.Tensor, noisiest: float) -> torch.Tensor:
    """The part of noise, 0 to 1, of each picture, from two draws (N,) of 0 to 1; the fraction ``noisiest`` of them lies above
    ``NOISIEST``: only there do the words decide, later the picture itself shows its colours."""
    shifted = TRAINING_SHIFT * chance / (1 + (TRAINING_SHIFT - 1) * chance)
    return torch.where(which < noisiest, NOISIEST + (1 - NOISIEST) * chance, shifted)


def compute_error(
    picture: Any,
    states: torch.Tensor,
    lengths: list[int],
    clean: torch.Tensor,
    depth: torch.Tensor,
    noise: torch.Tensor,
    part: torch.Tensor,
) -> torch.Tensor:
    """(N, 4, h, w) float32 difference of what the networks predict and the way from the noise to the picture, for ``states``
    (N, T, D) of texts of which the first ``lengths`` count, latents of pictures, depth and noise (N, 4, h, w), and the part of
    noise (N,). They compute in the type that they are in."""
    kind = next(picture.parameters()).dtype
    texts = [row[:length] for row, length in zip(states.to(kind), lengths, strict=True)]
    along = part[:, None, None, None]
    noisy = (1 - along) * clean + along * noise
    return picture(noisy.to(kind), 1 - part, texts, depth.to(kind)).float() - (clean - noise)


class LowerPrecision:
    """A copy of networks in another type, which computes in their place: gradients that reach it are given to those of their
    parameters that want them."""

    def __init__(self, networks: Any, kind: torch.dtype) -> None:
        self.copy: Any = torch.nn.Module.to(copy.deepcopy(networks), kind)
        self._own, self._copied = ([p for p in each.parameters() if p.requires_grad] for each in (networks, self.copy))
        for own, copied in zip(self._own, self._copied, strict=True):
            copied.register_post_accumulate_grad_hook(partial(_hand_over, own))

    def update(self) -> None:
        """Take over the networks' parameters."""
        with torch.no_grad():
            for own, copied in zip(self._own, self._copied, strict=True):
                copied.copy_(own)


def _hand_over(own: torch.nn.Parameter, copied: torch.Tensor) -> None:
    assert copied.grad is not None
    own.grad, copied.grad = copied.grad.to(own.dtype), None


def train_flow(
    renders: Renders,
    encoded: torch.Tensor,
    tokenizer: Qwen2Tokenizer,
    folder: Path,
    config: TrainingConfig,
    initial: torch.nn.ModuleDict | None = None,
) -> torch.nn.ModuleDict:
    """Train text encoder, transformer and ControlNet on what ``encode_pictures`` made; returns their moving averages under ``text``
    and ``picture``. The training goes on from its checkpoint, or starts from the ``initial`` networks if there are any."""
    torch.manual_seed(config.seed)
    models = initial or torch.nn.ModuleDict(
        {"text": networks.make_text_encoder(len(tokenizer)), "picture": networks.PictureNetworks()}
    )
    models = models.requires_grad_(True).train().to(config.device)
    checkpoint = folder / "flow.pt"
    if not initial and not checkpoint.exists():
        text_pretraining.pretrain_text_encoder(
            models["text"],
            lambda texts: tokenize(tokenizer, texts),
            config.device,
            config.text_steps,
            config.seed,
            networks.read_states,
        )
    learner = Learner(models, checkpoint, config.steps, lambda module: MuonAdamW(module, config.rate, (0.9, 0.99)))
    ids = torch.stack([tokenize(tokenizer, list(texts)) for texts in zip(*renders.captions, strict=True)], 1).to(config.device)
    empty = tokenize(tokenizer, [""])[0].to(config.device)
    lower, log = LowerPrecision(models["picture"], choose_kind(config.device)), LossLog(folder / "flow_loss.txt")
    scene_weights = torch.tensor([SCENE_WEIGHTS.get(scene, 1.0) for scene in SCENES], device=config.device)[renders.scenes.long()]
    for step, fraction in iter_steps(learner.done, config.steps, "flow", config.seconds):
        generator = config.make_generator(1, step)

        def chance(*shape: int, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.rand(*shape, generator=generator, device=config.device)

        early = fraction < 1 - LAST_FRACTION
        cropped = bool(chance(1) < CROPPED_FRACTION) and early
        count = config.batch * 2 if cropped else config.batch
        rows = torch.multinomial(scene_weights, count, replacement=True, generator=generator)
        pictures = encoded[rows].to(config.device).float()
        clean, control = pictures[:, 0], pictures[:, 1]
        depth = renders.rows(rows)[1][:, None].float() / 255
        if cropped:
            clean, control, depth = crop_around_body(depth, chance(count), clean, control, depth)
        prompt = ids[rows, (chance(count) * ids.shape[1]).long().clamp(max=ids.shape[1] - 1)]
        prompt = torch.where(chance(count, 1) < DROPPED_CAPTIONS, empty, prompt)
        lengths = (prompt != tokenizer.pad_token_id).sum(1).tolist()
        part = sample_noise_parts(chance(count), chance(count), NOISIEST_FRACTION if early else 0.0)
        noise = torch.randn(clean.shape, generator=generator, device=config.device)
        lower.update()
        states = networks.read_states(models["text"], prompt)
        error = compute_error(lower.copy, states, lengths, clean, control, noise, part)
        loss = (weigh_pixels(depth) * error.square()).mean()
        learner.take_step(loss, config.rate * min(1.0, (step + 1) / 200) * decay_cosine(fraction, 0.03))
        log.add(step, loss)
        if learner.done % config.checkpoint_every == 0:
            learner.save_checkpoint()
    learner.save_checkpoint()
    return learner.average.eval()


@torch.no_grad()
def measure_error(
    models: torch.nn.ModuleDict, renders: Renders, encoded: torch.Tensor, tokenizer: Qwen2Tokenizer, device: str = "cpu"
) -> dict[str, float]:
    """The mean square error of the prediction on the body and beside it, over all pictures and even parts of noise, in float32."""
    ids = tokenize(tokenizer, [texts[0] for texts in renders.captions]).to(device)
    generator, found = torch.Generator(device).manual_seed(0), []
    for first in range(0, len(renders), 16):
        rows = torch.arange(first, min(first + 16, len(renders)))
        pictures = encoded[rows].to(device).float()
        part = (torch.arange(len(rows), device=device) + 0.5) / len(rows)
        noise = torch.randn(pictures[:, 0].shape, generator=generator, device=device)
        lengths = (ids[rows] != tokenizer.pad_token_id).sum(1).tolist()
        states = networks.read_states(models["text"], ids[rows])
        error = compute_error(models["picture"], states, lengths, pictures[:, 0], pictures[:, 1], noise, part)
        body = F.max_pool2d((renders.rows(rows)[1] > 0).float()[:, None], 8).to(device)
        squared = error.square().mean(1, keepdim=True)
        found.append([(squared * body).sum(), body.sum(), (squared * (1 - body)).sum(), (1 - body).sum()])
    on, ons, off, offs = torch.tensor(found).sum(0).tolist()
    return {"body": on / ons, "beside": off / offs}
