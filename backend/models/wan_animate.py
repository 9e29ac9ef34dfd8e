"""Wan Animate: a transformer that moves a character that it is shown, after a clip of its skeleton; its auto-encoder is Wan's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import WanAnimatePipeline
from PIL import Image

from ...shared.shot import ShotError
from .adapter import KnownSurface, NetworkInput
from .clip_rows import count_rows, join_frames, spread_rows
from .family_layouts import BY_NAME
from .flow_family import META
from .wan_vace import MOST_TOKENS, WanVace

if TYPE_CHECKING:
    from .image_model import ImageModel

#: frames of the clips that it was trained with
TRAINED_FRAMES = 77
#: channels of the mask beside latents: one for each frame of a row
_MASK = 4
#: vectors that the published picture encoder gives of a picture
_PICTURE_WORDS = 257
#: what a face is where nothing is said of it: black, as where diffusers leaves it out
_NO_FACE = -1.0


class WanAnimate(WanVace):
    """Wan Animate. All of a clip's frames see each other, and in front of them a row of latents that shows the character.

    It follows the skeleton alone: depth counts for nothing but the look. Of faces it is told nothing. Where a surface is known and
    is to be kept, its mask is 1, and 0 everywhere else. The row in front is what it shows at every step, under what the steps have
    left of its noise.
    """

    layout = BY_NAME["wan_animate"]
    title = layout.title
    pipeline_class = WanAnimatePipeline
    needs_view = True

    def scales_controls(self, config: Mapping[str, Any]) -> bool:
        """The skeleton counts wholly."""
        return False

    def check_fit(self, base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """See ``Family``."""
        channels, wanted = int(base.get("in_channels") or 36), 2 * self.layout.channels + _MASK
        if channels != wanted:
            raise ShotError(
                "model",
                f"The transformer takes {channels} channels, and that of {self.title} takes {wanted}; choose Wan 2.2 Animate.",
            )

    def get_window(self, config: Mapping[str, Any]) -> int:
        """As many as it was trained with."""
        return TRAINED_FRAMES

    def prepare_views(self, model: ImageModel, views: torch.Tensor) -> torch.Tensor:
        """See ``Family``. Behind a row's latents and its mask lies what the picture encoder says of the view."""
        rows = []
        for view in views:
            latents = self.encode(model, view[None])
            mask = torch.ones_like(latents[:, :1]).expand(-1, _MASK, -1, -1)
            rows.append(torch.cat([latents, mask, pack_words(self._describe(model, view), latents)], 1))
        return torch.cat(rows).to(model.dtype)

    def _describe(self, model: ImageModel, view: torch.Tensor) -> torch.Tensor:
        """(S, D) what the picture encoder says of a view (3, H, W) in [-1, 1]."""
        pixels = ((view.float().clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).cpu().numpy().astype(np.uint8)
        found: torch.Tensor = model.pipeline.encode_image(Image.fromarray(pixels), model.device)
        return found[0]

    def _prepare_clip(self, model: ImageModel, depth: torch.Tensor, surface: KnownSurface) -> torch.Tensor:
        """Latents of the skeleton, a mask of what is kept of each frame of a row, and latents of that."""
        pose = self.encode(model, depth * 2 - 1)
        kept = self.encode(model, surface.pictures * surface.known)
        known = F.interpolate(surface.known, kept.shape[2:], mode="nearest")
        frames, factor = len(known), model.row_frames
        missing = (count_rows(frames, factor) - 1) * factor + 1 - frames
        # the first frame has its row alone, and stands for all of it
        whole = torch.cat([known[:1].expand(factor - 1, -1, -1, -1), known, known[-1:].expand(missing, -1, -1, -1)])
        mask = whole.reshape(-1, factor, *whole.shape[2:])
        return torch.cat([pose, spread_rows(mask, frames, factor).to(pose), kept], 1).to(model.dtype)

    def predict(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """See ``Family``. One run after the other, which takes half of the memory."""
        if given.views is None or not given.controls:
            raise self.explain_no_view()
        network, factor, channels = model.denoiser, model.row_frames, self.layout.channels
        runs = given.latents.unflatten(0, (given.groups, -1))
        texts = given.embeddings.unflatten(0, (given.groups, -1))[:, 0]
        control = join_frames(given.controls[0], factor)
        shown, looks = given.views[0], model.pipeline.image_encoder.config
        count = (looks.image_size // looks.patch_size) ** 2 + 1
        words = unpack_words(shown[0, channels + _MASK :], count, int(network.config.image_dim))
        noisy_view = self._add_view_noise(model, given)
        beside = torch.cat([shown[:, channels : channels + _MASK], shown[:, :channels]], 1)
        beside = torch.cat([beside.to(control), control[:, channels:]])
        out = []
        for run, text in zip(runs, texts, strict=True):
            rows = torch.cat([noisy_view.to(run), join_frames(run, factor)])
            made = run_animate(network, rows, beside, control[:, :channels], given.timestep, text, words)
            out.append(spread_rows(made[1:], run.shape[0], factor))
        return torch.cat(out)

    def run_empty(self, transformer: Any, controls: Sequence[Any], latents: torch.Tensor) -> None:
        """See ``FlowFamily``; ``latents`` are those of a whole window."""
        rows = torch.cat([latents[:1], latents])
        beside = rows.new_empty(len(rows), self.layout.channels + _MASK, *rows.shape[2:])
        text = rows.new_empty(MOST_TOKENS, transformer.config.text_dim)
        words = rows.new_empty(_PICTURE_WORDS, int(transformer.config.image_dim))
        run_animate(transformer, rows, beside, latents, torch.zeros((), dtype=torch.long, device=META), text, words)


def run_animate(
    network: Any,
    rows: torch.Tensor,
    beside: torch.Tensor,
    pose: torch.Tensor,
    time: torch.Tensor,
    text: torch.Tensor,
    words: torch.Tensor,
) -> torch.Tensor:
    """(T + 1, C, h, w) what the network answers for noisy rows (T + 1, C, h, w), the view's first, the mask and latents ``beside``
    them, latents of the skeleton (T, C, h, w), a time, a text (S, D) and what is said of the view."""
    seen = torch.cat([rows, beside.to(rows)], 1)
    side, frames = int(network.config.motion_encoder_size), (len(pose) - 1) * 4 + 1
    made = network(
        hidden_states=seen.transpose(0, 1)[None],
        timestep=time.to(rows.device).expand(1),
        encoder_hidden_states=text[None].to(rows),
        encoder_hidden_states_image=words[None].to(rows),
        pose_hidden_states=pose.to(rows).transpose(0, 1)[None],
        face_pixel_values=rows.new_full((1, 3, 1, 1, 1), _NO_FACE).expand(-1, -1, frames, side, side),
        return_dict=False,
    )[0]
    answered: torch.Tensor = made[0].transpose(0, 1)
    return answered


def pack_words(words: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """(1, K, h, w): vectors (S, D), one number behind the other, in as many channels beside latents (1, C, h, w) as hold them."""
    room, flat = latents.shape[2] * latents.shape[3], words.flatten()
    count = -(-len(flat) // room)
    return F.pad(flat, (0, count * room - len(flat))).reshape(1, count, *latents.shape[2:]).to(latents)


def unpack_words(channels: torch.Tensor, count: int, width: int) -> torch.Tensor:
    """The inverse of ``pack_words`` for one row (K, h, w), of so many vectors of a width."""
    return channels.flatten()[: count * width].reshape(count, width)
