"""LTX-2: a transformer that denoises clips and their sound, and is taught by a LoRA to follow a clip of depth that it sees beside
its own; its auto-encoder puts eight frames into one row of latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers import LTX2InContextPipeline
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES

from ...shared.shot import ShotError
from .adapter import NetworkInput
from .clip_family import ClipFamily
from .clip_rows import join_frames, spread_rows
from .family_layouts import BY_NAME
from .flow_family import META
from .flow_schedules import make_flow_scheduler

if TYPE_CHECKING:
    from .image_model import ImageModel

#: frames of the clips that it is published for, and how many a second they are taken to be
TRAINED_FRAMES, FRAME_RATE = 121, 24.0
#: tokens that the text encoder gives, shorter texts being filled up
_MOST_TOKENS = 1024
#: tokens of a clip for which the steps are shifted, whatever its length, as its authors' own code has it
_SHIFTED_FOR = 4096
#: the configuration's name for how much smaller than the frames the LoRA wants the clip of depth
DOWNSCALE = "reference_downscale_factor"
#: what diffusers takes where a configuration leaves it out
_USUAL: Mapping[str, Any] = {"in_channels": 128, "patch_size": 1, "patch_size_t": 1}
_USUAL_HALVINGS = ("spatial", "temporal", "spatiotemporal", "spatiotemporal")


class Ltx2(ClipFamily):
    """LTX-2. All of a clip's frames see each other, and the rows of a clip of depth behind them, which are free of noise and lie at
    the same places. Sound is neither heard nor made: the network's two halves do not see each other."""

    layout = BY_NAME["ltx2"]
    title = layout.title
    pipeline_class = LTX2InContextPipeline

    def check_fit(self, base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """See ``Family``."""
        patch, channels = (_read(base, "patch_size"), _read(base, "patch_size_t")), _read(base, "in_channels")
        if patch != (1, 1) or channels != self.layout.channels:
            raise ShotError(
                "model",
                f"The transformer takes latents of {channels} channels in patches of {patch[0]}, and that of {self.title} takes "
                f"{self.layout.channels} in patches of 1; choose a model of {self.title}.",
            )

    def get_window(self, config: Mapping[str, Any]) -> int:
        """As many as it is published for."""
        return TRAINED_FRAMES

    def read_row_frames(self, config: Mapping[str, Any]) -> int:
        """See ``Family``."""
        halvings = sum("temporal" in kind for kind in config.get("downsample_type", _USUAL_HALVINGS))
        return int(config.get("temporal_compression_ratio") or config.get("patch_size_t", 1) * 2**halvings)

    def read_vae_factor(self, config: Mapping[str, Any]) -> int:
        """See ``Family``."""
        halvings = sum("spati" in kind for kind in config.get("downsample_type", _USUAL_HALVINGS))
        return int(config.get("spatial_compression_ratio") or config.get("patch_size", 4) * 2**halvings)

    def read_patch(self, config: Mapping[str, Any]) -> int:
        """As many as the clip of depth is smaller."""
        return read_downscale(config)

    def read_statistics(self, vae: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``ClipFamily``. They are among the auto-encoder's weights."""
        mean, spread = (values.to(like)[:, None, None] for values in (vae.latents_mean, vae.latents_std))
        return mean, spread / vae.config.scaling_factor

    def decode_rows(self, vae: Any, clip: torch.Tensor) -> torch.Tensor:
        """See ``ClipFamily``. A decoder that is told how noisy latents are is told that they are not."""
        time = clip.new_zeros(1) if vae.config.timestep_conditioning else None
        pictures: torch.Tensor = vae.decode(clip, time, return_dict=False)[0]
        return pictures

    def get_most_tokens(self, model: ImageModel) -> int:
        """See ``FlowFamily``."""
        return _MOST_TOKENS

    def count_tokens(self, model: ImageModel, text: str) -> int:
        """See ``FlowFamily``."""
        return len(model.pipeline.tokenizer(text.strip()).input_ids)

    def encode_one(self, model: ImageModel, text: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See ``FlowFamily``: what the connectors make of all layers of the language model, and which of it counts."""
        pipeline = model.pipeline
        states, mask, *_ = pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, device=model.device, max_sequence_length=_MOST_TOKENS
        )
        # the side that it was filled up on just now, whatever the folder says
        found, _, counts = pipeline.connectors(states, mask, padding_side=pipeline.tokenizer.padding_side)
        return found[0], {"counts": counts[0]}

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
        """See ``Family``. Eight steps that the configuration does not shift are those that the distilled model was made for."""
        is_shifted = config.get("use_dynamic_shifting") or config.get("shift", 1.0) != 1.0
        own = steps == len(DISTILLED_SIGMA_VALUES) and not is_shifted
        sigmas = DISTILLED_SIGMA_VALUES if own else self.list_sigmas(steps)
        return make_flow_scheduler({**_USUAL_SHIFT, **config}, class_name, name, spacing, _SHIFTED_FOR, sigmas, device, self.title)

    def prepare_control(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """Latents of the clip, as small as the LoRA wants it."""
        smaller = read_downscale(model.denoiser.config)
        if smaller != 1:
            pictures = F.interpolate(pictures, scale_factor=1 / smaller, mode="bilinear", antialias=True)
        return self.encode(model, pictures * 2 - 1).to(model.dtype)

    def predict(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """See ``Family``. One run after the other, which takes half of the memory."""
        factor = model.row_frames
        runs = given.latents.unflatten(0, (given.groups, -1))
        texts = given.embeddings.unflatten(0, (given.groups, -1))[:, 0]
        counts = given.added["counts"].unflatten(0, (given.groups, -1))[:, 0]
        # it counts wholly or not at all
        depth = join_frames(given.controls[0], factor) if given.controls and any_above_zero(given.strengths[0]) else None
        out = []
        for run, text, mask in zip(runs, texts, counts, strict=True):
            rows = join_frames(run, factor)
            made = run_network(model.denoiser, rows, given.timestep, text, mask, depth)
            out.append(spread_rows(made, run.shape[0], factor))
        return torch.cat(out)

    def run_empty(self, transformer: Any, controls: Sequence[Any], latents: torch.Tensor) -> None:
        """See ``FlowFamily``; ``latents`` are those of a whole window."""
        width = _read_text_width(transformer.config)
        smaller = read_downscale(transformer.config)
        depth = latents[..., : latents.shape[2] // smaller, : latents.shape[3] // smaller]
        text = latents.new_empty(_MOST_TOKENS, width)
        run_network(transformer, latents, torch.zeros((), device=META), text, latents.new_ones(_MOST_TOKENS), depth)


#: what diffusers' pipeline takes where a scheduler's configuration leaves it out
_USUAL_SHIFT: Mapping[str, Any] = {"base_image_seq_len": 1024, "max_image_seq_len": 4096, "base_shift": 0.95, "max_shift": 2.05}


def run_network(
    network: Any, rows: torch.Tensor, time: torch.Tensor, text: torch.Tensor, mask: torch.Tensor, depth: torch.Tensor | None
) -> torch.Tensor:
    """(T, C, h, w) what the network answers for noisy rows of a clip at a ``time`` of 0..1000, a text (S, D) of which ``mask`` (S,)
    tells what counts, and rows of depth (T, C, h', w') that are smaller by a whole factor."""
    clip, device = _flatten(rows), rows.device
    places = network.rope.prepare_video_coords(1, len(rows), *rows.shape[2:], device, fps=FRAME_RATE)
    times = time.to(device).expand(1, clip.shape[1])
    if depth is not None:
        shown = _flatten(depth.to(rows))
        there = network.rope.prepare_video_coords(1, len(depth), *depth.shape[2:], device, fps=FRAME_RATE)
        # pixels of a smaller clip lie as far apart as those of the frames that it is of
        there[:, 1:] *= rows.shape[2] / depth.shape[2]
        clip, places = torch.cat([clip, shown], 1), torch.cat([places, there], 2)
        times = torch.cat([times, times.new_zeros(1, shown.shape[1])], 1)
    now, silence = time.to(device).expand(1), rows.new_zeros(1, 1, network.config.audio_in_channels)
    made = network(
        hidden_states=clip,
        audio_hidden_states=silence,
        encoder_hidden_states=text[None].to(rows),
        audio_encoder_hidden_states=rows.new_zeros(1, len(text), _read_audio_width(network.config)),
        timestep=times,
        audio_timestep=now,
        sigma=now,
        audio_sigma=now,
        encoder_attention_mask=mask[None],
        audio_encoder_attention_mask=mask[None],
        num_frames=len(rows),
        height=rows.shape[2],
        width=rows.shape[3],
        fps=FRAME_RATE,
        audio_num_frames=1,
        video_coords=places,
        audio_coords=network.audio_rope.prepare_audio_coords(1, 1, device),
        isolate_modalities=True,
        use_cross_timestep=True,
        return_dict=False,
    )[0]
    answered: torch.Tensor = made[0, : len(rows) * rows.shape[2] * rows.shape[3]]
    return answered.reshape(len(rows), *rows.shape[2:], -1).permute(0, 3, 1, 2)


def read_downscale(config: Mapping[str, Any]) -> int:
    """How many times smaller than the frames the clip of depth is, by the configuration of a transformer that was taught."""
    return int(config.get(DOWNSCALE) or 1)


def any_above_zero(strengths: Any) -> bool:
    """Whether a strength, or any frame's, is above 0."""
    return bool((strengths > 0).any()) if isinstance(strengths, torch.Tensor) else strengths > 0


def _flatten(rows: torch.Tensor) -> torch.Tensor:
    """(T, C, h, w) rows -> (1, T h w, C) tokens."""
    return rows.permute(0, 2, 3, 1).reshape(1, -1, rows.shape[1])


def _read_text_width(config: Mapping[str, Any]) -> int:
    """The width of a text for the clip; those of models without a projection of their own come as their network takes them."""
    return int(config["caption_channels"] if config.get("use_prompt_embeddings", True) else config["cross_attention_dim"])


def _read_audio_width(config: Mapping[str, Any]) -> int:
    """The same of a text for the sound."""
    return int(config["caption_channels"] if config.get("use_prompt_embeddings", True) else config["audio_cross_attention_dim"])


def _read(config: Mapping[str, Any], name: str) -> Any:
    return config.get(name, _USUAL[name])
