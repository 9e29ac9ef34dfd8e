"""What families of clips have in common whose auto-encoder puts several frames into one row of latents: all of a clip's frames go
through a transformer that sees what it is controlled by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from diffusers import DiffusionPipeline

from .clip_rows import count_rows, join_frames, spread_rows
from .flow_family import FlowFamily, read_statistics

if TYPE_CHECKING:
    from .image_model import ImageModel


class ClipFamily(FlowFamily):
    """Others give the window, how many frames and pixels a latent stands for, and the network's call."""

    kind: ClassVar[Literal["frames", "clip"]] = "clip"
    mixes_texts = False
    runs_together = False

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """None: the transformer sees the pictures itself."""
        return False

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """See ``Family``."""
        return self.has_networks(pipeline.components)

    def sees_controls(self, config: Mapping[str, Any]) -> bool:
        """See ``Family``."""
        return True

    def get_latent_factor(self, model: ImageModel) -> int:
        """See ``Family``."""
        return self.read_vae_factor(model.pipeline.vae.config)

    def read_statistics(self, vae: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(C, 1, 1) the mean and the spread of each channel of the auto-encoder's latents."""
        return read_statistics(vae, like)

    def decode_rows(self, vae: Any, clip: torch.Tensor) -> torch.Tensor:
        """(1, C, T, h, w) latents as the auto-encoder has them -> (1, 3, N, H, W) pictures."""
        pictures: torch.Tensor = vae.decode(clip, return_dict=False)[0]
        return pictures

    def encode(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """See ``Family``. The last picture fills up what a whole row lacks."""
        vae, count, factor = model.pipeline.vae, len(pictures), model.row_frames
        missing = (count_rows(count, factor) - 1) * factor + 1 - count
        clip = torch.cat([pictures, pictures[-1:].expand(missing, -1, -1, -1)]).to(vae.dtype).transpose(0, 1)[None]
        latents = vae.encode(clip).latent_dist.mode()[0].transpose(0, 1)
        mean, spread = self.read_statistics(vae, latents)
        return spread_rows((latents - mean) / spread, count, factor)

    def decode(self, model: ImageModel, latents: torch.Tensor) -> torch.Tensor:
        """See ``Family``."""
        vae = model.pipeline.vae
        rows = join_frames(latents, model.row_frames).to(vae.dtype)
        mean, spread = self.read_statistics(vae, rows)
        clip = self.decode_rows(vae, (rows * spread + mean).transpose(0, 1)[None])
        return clip[0].transpose(0, 1)[: len(latents)]

    def decode_empty(self, vae: Any, latents: torch.Tensor) -> None:
        """See ``FlowFamily``."""
        self.decode_rows(vae, latents.transpose(0, 1)[None].to(vae.dtype))

    def count_latents(self, networks: Mapping[str, Any]) -> int:
        """See ``FlowFamily``: those of a whole window."""
        return count_rows(self.get_window({}), self.read_row_frames(networks["vae"].config))
