"""Wan VACE: a transformer that denoises clips, sees the depth of all frames itself, and has an auto-encoder that puts four frames
into one row of latents."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers import WanVACEPipeline

from ...shared.shot import ShotError
from .adapter import KnownSurface, NetworkInput
from .clip_family import ClipFamily
from .clip_rows import count_rows, join_frames, spread_rows
from .family_layouts import BOUNDARY, BY_NAME, explain_own_sight
from .flow_family import META
from .flow_schedules import make_shifted_scheduler
from .hub_cache import SECOND

if TYPE_CHECKING:
    from .image_model import ImageModel

#: frames of the clips that it was trained with
TRAINED_FRAMES = 81
#: tokens that the text encoder gives; shorter texts are filled up with zeros, which the transformer sees
MOST_TOKENS = 512
#: what diffusers takes where a configuration leaves it out
_USUAL: Mapping[str, Any] = {
    "temperal_downsample": (False, True, True),
    "patch_size": (1, 2, 2),
    "in_channels": 16,
    "vace_in_channels": 96,
}


class WanVace(ClipFamily):
    """Wan 2.1 VACE. All of a clip's frames see each other.

    What its clip of control shows is made anew where its mask is 1, and kept where that is 0. Here the clip is the depth, white
    near, black far, as ControlNets for depth have it, and everywhere made anew, or where a surface is known the colours of that,
    which are kept. Reference views are rows of latents in front of the clip, of which it is known what they show: at every step
    they are what the clip's steps have left of their noise.
    """

    layout = BY_NAME["wan_vace"]
    title = layout.title
    pipeline_class = WanVACEPipeline
    takes_looks = True

    def scales_controls(self, config: Mapping[str, Any]) -> bool:
        """What layers of their own make of the depth is added at any strength."""
        return True

    def check_fit(self, base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """See ``Family``."""
        if controls:
            raise explain_own_sight(self.layout)
        own, channels, wanted = _read(base, "in_channels"), _read(base, "vace_in_channels"), 2 * self.layout.channels + 64
        if own != self.layout.channels or channels != wanted:
            raise ShotError(
                "model",
                f"The transformer takes latents of {own} channels and a control of {channels}, and those of "
                f"{self.title} take {self.layout.channels} and {wanted}; choose Wan 2.1 VACE.",
            )

    def get_window(self, config: Mapping[str, Any]) -> int:
        """As many as it was trained with."""
        return TRAINED_FRAMES

    def read_row_frames(self, config: Mapping[str, Any]) -> int:
        """See ``Family``."""
        return int(2 ** sum(_read(config, "temperal_downsample")))

    def read_vae_factor(self, config: Mapping[str, Any]) -> int:
        """See ``Family``."""
        return 2 ** len(_read(config, "temperal_downsample"))

    def read_patch(self, config: Mapping[str, Any]) -> int:
        """See ``Family``."""
        return int(_read(config, "patch_size")[1])

    def get_most_tokens(self, model: ImageModel) -> int:
        """See ``FlowFamily``."""
        return MOST_TOKENS

    def count_tokens(self, model: ImageModel, text: str) -> int:
        """See ``FlowFamily``."""
        return len(model.pipeline.tokenizer(clean_text(text)).input_ids)

    def encode_one(self, model: ImageModel, text: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See ``FlowFamily``. Not by diffusers' pipeline, which needs a package of its own for it."""
        pipeline = model.pipeline
        found = pipeline.tokenizer(
            clean_text(text),
            padding="max_length",
            max_length=MOST_TOKENS,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = found.attention_mask.to(model.device)
        embeddings = pipeline.text_encoder(found.input_ids.to(model.device), mask).last_hidden_state
        return (embeddings * mask[..., None].to(embeddings.dtype))[0], {}

    def make_scheduler(
        self,
        config: Mapping[str, Any],
        class_name: str,
        steps: int,
        name: str,
        spacing: str,
        size: tuple[int, int],
        device: torch.device | None = None,
        *,
        from_zero: bool = False,
    ) -> Any:
        """See ``Family``."""
        return make_shifted_scheduler(config, class_name, name, spacing, steps, device, self.title)

    def prepare_control(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """Those of a clip of which nothing is known."""
        return self._prepare_clip(model, pictures, KnownSurface(torch.zeros_like(pictures), torch.zeros_like(pictures[:, :1])))

    def prepare_controls(
        self, model: ImageModel, pictures: Sequence[torch.Tensor], surface: KnownSurface | None = None
    ) -> list[torch.Tensor]:
        """See ``Family``."""
        if surface is None:
            return super().prepare_controls(model, pictures)
        return [self._prepare_clip(model, each, surface) for each in pictures]

    def prepare_views(self, model: ImageModel, views: torch.Tensor) -> torch.Tensor:
        """See ``Family``. Each is a clip of one frame."""
        latents = torch.cat([self.encode(model, view[None]) for view in views])
        mask = torch.zeros_like(latents[:, :1]).expand(-1, self.get_latent_factor(model) ** 2, -1, -1)
        return torch.cat([latents, torch.zeros_like(latents), mask], 1).to(model.dtype)

    def _prepare_clip(self, model: ImageModel, depth: torch.Tensor, surface: KnownSurface) -> torch.Tensor:
        """Latents of what is kept, of the depth elsewhere, and a mask of the latter over the pixels of each latent."""
        made, factor = 1 - surface.known, model.row_frames
        kept = self.encode(model, surface.pictures * surface.known)
        shown = self.encode(model, (depth * 2 - 1) * made)
        rows = count_rows(len(made), factor)
        missing = (rows - 1) * factor + 1 - len(made)
        mask = F.pixel_unshuffle(torch.cat([made, made[-1:].expand(missing, -1, -1, -1)]), self.get_latent_factor(model))
        # each row has the mask of one of its frames
        mask = F.interpolate(mask.transpose(0, 1)[None], (rows, *mask.shape[2:]), mode="nearest-exact")[0].transpose(0, 1)
        return torch.cat([kept, shown, spread_rows(mask, len(made), factor).to(shown)], 1).to(model.dtype)

    def predict(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """See ``Family``. One run after the other, which takes half of the memory."""
        network, factor = self.choose_network(model, given.timestep), model.row_frames
        runs = given.latents.unflatten(0, (given.groups, -1))
        texts = given.embeddings.unflatten(0, (given.groups, -1))[:, 0]
        count, layers = runs.shape[1], len(network.config.vace_layers)
        strengths: Any = given.strengths[0] if given.controls else 0.0
        if given.controls:
            control = join_frames(given.controls[0], factor)
        else:
            shape = (count_rows(count, factor), int(network.config.vace_in_channels), *runs.shape[3:])
            control = runs.new_zeros(shape)
        views = self._add_view_noise(model, given)
        if given.views is not None:
            control = torch.cat([given.views[0].to(control), control])
        out = []
        for n, (run, text) in enumerate(zip(runs, texts, strict=True)):
            rows = torch.cat([views.to(run), join_frames(run, factor)])
            if isinstance(strengths, torch.Tensor):
                # each frame's, at all of its patches
                own = join_frames(strengths.unflatten(0, (given.groups, -1))[n], factor).flatten()
                own = torch.cat([own.mean().expand(len(views)), own])
                patches = rows.shape[2] * rows.shape[3] // self.read_patch(network.config) ** 2
                scale = own.repeat_interleave(patches)[None, :, None].expand(layers, 1, -1, 1)
            else:
                scale = rows.new_full((layers,), float(strengths))
            made = network(
                hidden_states=rows.transpose(0, 1)[None],
                timestep=given.timestep.to(rows.device).expand(1),
                encoder_hidden_states=text[None],
                control_hidden_states=control.to(rows.dtype).transpose(0, 1)[None],
                control_hidden_states_scale=scale.to(rows.dtype),
                return_dict=False,
            )[0]
            out.append(spread_rows(made[0].transpose(0, 1)[len(views) :], count, factor))
        return torch.cat(out)

    def choose_network(self, model: ImageModel, time: torch.Tensor) -> Any:
        """The transformer at work at a time: of two the second below the boundary."""
        second = getattr(model.pipeline, SECOND, None)
        if second is None:
            return model.denoiser
        boundary = model.pipeline.config[BOUNDARY] * model.pipeline.scheduler.config.num_train_timesteps
        return model.denoiser if float(time) >= boundary else second

    def _add_view_noise(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """(R, C, h, w) the latents of reference views under the noise of the timestep; none without them."""
        if given.views is None:
            return given.latents[:0]
        clean, noise = given.views[0][:, : self.layout.channels].float(), given.views[1].float()
        share = float(given.timestep) / model.pipeline.scheduler.config.num_train_timesteps
        return (1 - share) * clean + share * noise

    def run_empty(self, transformer: Any, controls: Sequence[Any], latents: torch.Tensor) -> None:
        """See ``FlowFamily``; ``latents`` are those of a whole window."""
        clip = latents.transpose(0, 1)[None]
        transformer(
            hidden_states=clip,
            timestep=torch.zeros(1, dtype=torch.long, device=META),
            encoder_hidden_states=clip.new_empty(1, MOST_TOKENS, transformer.config.text_dim),
            control_hidden_states=clip.new_empty(1, transformer.config.vace_in_channels, *clip.shape[2:]),
            control_hidden_states_scale=clip.new_ones(len(transformer.config.vace_layers)),
            return_dict=False,
        )


def clean_text(text: str) -> str:
    """A text as the model was trained on them: with signs in place of their names in HTML, and single spaces."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()


def _read(config: Mapping[str, Any], name: str) -> Any:
    return config.get(name, _USUAL[name])
