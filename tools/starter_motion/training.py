"""Trains MDM's network, small, with a text encoder of its own, to predict clean motion from noisy motion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from latentman.backend.motion.diffusion import Schedule
from latentman.backend.motion.network import MDM, Architecture
from tools.starter import networks
from tools.starter.training import Learner, LossLog, decay_cosine, iter_steps

from .dataset import Motions

#: no dropout, because there is no end of different performances
ARCHITECTURE = Architecture(latent=192, feedforward=512, layers=5, heads=4, text_width=192, mask_frames=True, dropout=0.0)
STEPS, TOKENS, DROPPED_CAPTIONS, CHECKPOINT = 50, 48, 0.1, "motion.pt"
#: ankles and toes
FEET = (7, 8, 10, 11)
VELOCITY_WEIGHT, FOOT_CONTACT_WEIGHT = 2.0, 30.0
#: fraction of the motions, in the order of their lengths, that a batch is drawn from, so that short ones need little padding
LENGTH_WINDOW = 0.25


@dataclass(frozen=True)
class TrainingConfig:
    """How and how long to train; the training ends after ``seconds`` unless that is 0."""

    device: str
    steps: int
    batch: int
    seed: int
    rate: float = 8e-4
    seconds: float = 0.0
    checkpoint_every: int = 500


def make_text_encoder(vocabulary: int, end: int) -> CLIPTextModelWithProjection:
    """A small text model with CLIP's architecture."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=ARCHITECTURE.text_width,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def learn_tokenizer(motions: Motions, folder: Path) -> CLIPTokenizer:
    """Learn the tokenizer from the captions."""
    return networks.learn_tokenizer([text for texts in motions.captions for text in texts], folder / "tokenizer")


def compute_foot_positions(vectors: torch.Tensor) -> torch.Tensor:
    """(B, T, 4, 3) ankles and toes in the world from unnormalised features (B, T, 263), differentiable."""
    half = F.pad(vectors[:, :-1, 0].cumsum(1), (1, 0))
    c, s = torch.cos(-2 * half), torch.sin(-2 * half)

    def world(points: torch.Tensor) -> torch.Tensor:
        x, y, z = points.unbind(-1)
        turn_c, turn_s = (v.view(*v.shape, *[1] * (x.dim() - 2)) for v in (c, s))
        return torch.stack([turn_c * x + turn_s * z, y, -turn_s * x + turn_c * z], -1)

    step = F.pad(vectors[:, :-1, 1:3], (0, 0, 1, 0))
    place = world(torch.stack([step[..., 0], torch.zeros_like(half), step[..., 1]], -1)).cumsum(1)
    local = torch.stack([vectors[..., 4 + 3 * (joint - 1) : 7 + 3 * (joint - 1)] for joint in FEET], 2)
    return world(local) + place[:, :, None]


def compute_loss(
    predicted: torch.Tensor,
    clean: torch.Tensor,
    mask: torch.Tensor,
    mean: torch.Tensor,
    std: torch.Tensor,
) -> torch.Tensor:
    """The loss of predicted motions (B, T, 263): of values, of their change from frame to frame, and of the velocity of the feet in
    the world, above all where feet stand."""
    weight = mask[..., None].float()
    values = ((predicted - clean).square() * weight).sum() / (weight.sum() * clean.shape[-1])
    pairs = weight[:, 1:] * weight[:, :-1]
    change = ((predicted.diff(dim=1) - clean.diff(dim=1)).square() * pairs).sum() / (pairs.sum() * clean.shape[-1])
    made, true = (compute_foot_positions(v * std + mean).diff(dim=1) for v in (predicted, clean))
    standing = (true.square().sum(-1, keepdim=True) < 1e-4).float()
    feet = ((made - true).square() * (0.3 + standing) * pairs[..., None]).sum() / (pairs.sum() * 12) * 400
    return values + VELOCITY_WEIGHT * change + FOOT_CONTACT_WEIGHT * 0.01 * feet


def _sample_rows(count: int, batch: int, generator: torch.Generator) -> torch.Tensor:
    """(batch,) indices near each other, mirrored at the ends so that all are drawn equally often."""
    centre, aside = (torch.rand(n, generator=generator, device=generator.device) for n in (1, batch))
    place = (centre + LENGTH_WINDOW * (aside - 0.5)).abs()
    place = torch.where(place > 1, 2 - place, place)
    return (place * count).long().clamp(max=count - 1)


def train(motions: Motions, tokenizer: CLIPTokenizer, folder: Path, config: TrainingConfig) -> torch.nn.ModuleDict:
    """Train the networks ``motion`` and ``text``; returns their moving averages. Continues from its checkpoint."""
    torch.manual_seed(config.seed)
    models = torch.nn.ModuleDict({"motion": MDM(ARCHITECTURE), "text": make_text_encoder(len(tokenizer), tokenizer.eos_token_id)})
    models.to(config.device)
    learner = Learner(
        models,
        folder / CHECKPOINT,
        config.steps,
        lambda module: torch.optim.AdamW(module.parameters(), config.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    )
    mean, std, lengths = (torch.from_numpy(a).to(config.device) for a in (motions.mean, motions.std, motions.lengths))
    vectors = torch.from_numpy(np.array(motions.vectors)).to(config.device)
    ids = torch.stack(
        [
            torch.from_numpy(np.array(tokenizer(list(texts), padding="max_length", max_length=TOKENS, truncation=True).input_ids))
            for texts in zip(*motions.captions, strict=True)
        ],
        1,
    ).to(config.device)
    alphas = torch.from_numpy(Schedule(STEPS).alpha_bars).float().to(config.device)
    log, by_length = LossLog(folder / "motion_loss.txt"), lengths.argsort()
    models.train()
    for step, fraction in iter_steps(learner.done, config.steps, "motion", config.seconds):
        g = torch.Generator(config.device).manual_seed(config.seed * 1_000_003 + step)
        rows = by_length[_sample_rows(len(vectors), config.batch, g)]
        length = lengths[rows]
        clean = (vectors[rows, : int(length.max())].float() - mean) / std
        mask = torch.arange(clean.shape[1], device=config.device)[None] < length[:, None]
        clean = clean * mask[..., None]
        which = torch.randint(0, ids.shape[1], (config.batch,), generator=g, device=config.device)
        # noisier steps are drawn more often: there the sentence decides, later the motion itself shows what it is
        level = (STEPS * torch.rand(config.batch, generator=g, device=config.device).sqrt()).long().clamp(max=STEPS - 1)
        noise = torch.randn(clean.shape, generator=g, device=config.device)
        alpha = alphas[level][:, None, None]
        with torch.autocast(config.device.split(":")[0], torch.bfloat16):
            text = models["text"](ids[rows, which]).text_embeds[:, None]
            told = torch.rand(config.batch, 1, 1, generator=g, device=config.device) >= DROPPED_CAPTIONS
            predicted = models["motion"](alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, level, text * told, lengths=length)
        loss = compute_loss(predicted.float(), clean, mask, mean, std)
        learner.take_step(loss, config.rate * min(1.0, (step + 1) / 300) * decay_cosine(fraction, 0.02))
        log.add(step, loss)
        if learner.done % config.checkpoint_every == 0:
            learner.save_checkpoint()
    learner.save_checkpoint()
    return learner.average.eval()
