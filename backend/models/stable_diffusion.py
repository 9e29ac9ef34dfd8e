"""Stable Diffusion 1.x, 2.x and XL: a UNet with ControlNets, which predict noise, v or the clean latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers import ControlNetModel, DiffusionPipeline, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
from diffusers.models import UNetMotionModel

from .adapter import Family, KnownSurface, NetworkInput, TextConditions
from .control_embedding import KEPT, can_embed, embed_pictures, without_embedding
from .first_frame_attention import first_frame_attention
from .fitting import check_fit
from .prompts.encoding import Encoder, check_clip_skip, encode_pieces, split_into_pieces
from .prompts.parsing import Prompt
from .schedulers import make_scheduler

if TYPE_CHECKING:
    from .image_model import ImageModel

#: length of a text in tokens, and SDXL's number of sizes
_TOKENS, _SIZES = 77, 6


class UNetFamily(Family):
    """What these have in common: the UNet in the pipeline's ``unet``, ControlNets for it in ``controlnet``, and self-attentions
    that are diffusers' ``attn1``."""

    controlnet_class = ControlNetModel
    is_extensible = True

    #: the text encoders' layer that is taken, counted from the last, which is 1
    own_layer: ClassVar[int] = 1

    def check_fit(self, base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """See ``Family``."""
        check_fit(base, controls)

    def has_networks(self, networks: Mapping[str, Any]) -> bool:
        """See ``Family``. A UNet with a motion module in it is one for clips."""
        unet = networks.get(self.denoiser)
        return unet is not None and isinstance(unet, UNetMotionModel) == (self.kind == "clip")

    def takes_guidance_scale(self, config: Mapping[str, Any]) -> bool:
        """As some few-step models are."""
        return config.get("time_cond_proj_dim") is not None

    def get_latent_channels(self, model: ImageModel) -> int:
        """See ``Family``."""
        return int(model.unet.config.in_channels)

    def read_patch(self, config: Mapping[str, Any]) -> int:
        """See ``Family``."""
        blocks = config.get("block_out_channels")
        return 2 ** (len(blocks) - 1) if blocks else 1

    def encode(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """See ``Family``."""
        vae = model.pipeline.vae
        found = vae.encode(pictures.to(vae.dtype))
        latents = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
        return latents * vae.config.scaling_factor

    def decode(self, model: ImageModel, latents: torch.Tensor) -> torch.Tensor:
        """See ``Family``."""
        vae = model.pipeline.vae
        return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample

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
        return make_scheduler(config, class_name, steps, name, spacing, device, from_zero=from_zero)

    def list_encoders(self, model: ImageModel) -> list[Encoder]:
        """The text encoders of a model, whose hidden states lie side by side in what the UNet is given."""
        raise NotImplementedError

    def encode_text(self, model: ImageModel, prompts: Sequence[Prompt], width: int, height: int, clip_skip: int) -> TextConditions:
        """Embeddings of prompts, all of them as long as the longest: a shorter one is filled up with empty pieces.

        ``clip_skip`` says from which layer of the text encoders, 0 for the model's own. Raises ``ShotError`` where they have not
        as many.
        """
        encoders = self.list_encoders(model)
        check_clip_skip(clip_skip, encoders)
        pieces = [[split_into_pieces(encoder, prompt) for prompt in prompts] for encoder in encoders]
        count = max(len(found) for row in pieces for found in row)
        warnings = []
        if count > max(len(prompt.sections) for prompt in prompts):
            warnings.append(f"The prompt is longer than the text encoder takes at once; it was read in {count} pieces.")
        columns: list[torch.Tensor] = []
        pooled: list[torch.Tensor] = []
        for encoder, row in zip(encoders, pieces, strict=True):
            empty = split_into_pieces(encoder, Prompt(((),)))
            found = [encode_pieces(encoder, text + empty * (count - len(text)), clip_skip, model.device) for text in row]
            columns.append(torch.cat([text.states for text in found]))
            pooled = [text.pooled for text in found if text.pooled is not None] or pooled
            if not all(text.restored for text in found):
                warnings.append(
                    "The weights in the prompt turn its meaning around; they count more than they say, so use smaller ones."
                )
        return self.add_conditions(model, torch.cat(columns, -1), pooled, width, height, tuple(dict.fromkeys(warnings)))

    def add_conditions(
        self,
        model: ImageModel,
        states: torch.Tensor,
        pooled: list[torch.Tensor],
        width: int,
        height: int,
        warnings: tuple[str, ...],
    ) -> TextConditions:
        """What the UNet is given for (N, S, D) hidden states and (1, P) ``pooled`` ones of each text, none without a projection."""
        return TextConditions(states.to(model.dtype), {}, warnings)

    def prepare_controls(
        self, model: ImageModel, pictures: Sequence[torch.Tensor], surface: KnownSurface | None = None
    ) -> list[torch.Tensor]:
        """See ``Family``. Of clips of a few frames what the ControlNets make of the pictures first; a family that calls them in
        another way has the pictures themselves."""
        if type(self).predict is not UNetFamily.predict:
            return super().prepare_controls(model, pictures)
        return [
            embed_pictures(network, each) if len(each) <= KEPT and self._can_embed(network, each) else each
            for network, each in zip(model.controlnets, pictures, strict=True)
        ]

    def _can_embed(self, network: Any, pictures: torch.Tensor) -> bool:
        return type(self).predict_controls is UNetFamily.predict_controls and can_embed(network, pictures)

    def predict(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """See ``Family``. In guess mode ControlNets add nothing to the unconditional pass, which they do not see."""
        batch, timestep = given.latents, given.timestep
        options: dict[str, Any] = {
            "encoder_hidden_states": given.embeddings,
            "added_cond_kwargs": dict(given.added) or None,
            "return_dict": False,
        }
        condition = None
        if model.takes_guidance_scale:
            scales = torch.full((len(batch),), given.guidance_scale - 1)
            width = model.unet.config.time_cond_proj_dim
            # not every pipeline of these parts has it
            embed = StableDiffusionControlNetPipeline.get_guidance_scale_embedding
            condition = embed(model.pipeline, scales, embedding_dim=width).to(batch.device, batch.dtype)
        down, middle = None, None
        if any(isinstance(strength, torch.Tensor) or strength for strength in given.strengths):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not given.hold_controls):
                down, middle = self._predict_seen_controls(model, given, options)
        lora_scale = model.options.lora_scale
        options |= dict(
            timestep_cond=condition,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            cross_attention_kwargs=None if lora_scale is None else {"scale": lora_scale},
        )
        return self.run_unet(model.unet, batch, timestep, given.groups, options)

    def run_unet(
        self, unet: Any, latents: torch.Tensor, timestep: torch.Tensor, groups: int, options: Mapping[str, Any]
    ) -> torch.Tensor:
        """The UNet's output (G*n, C, h, w) for latents of ``groups`` runs of n frames, with its other arguments as ``options``."""
        output: torch.Tensor = unet(latents, timestep, **options)[0]
        return output

    def _predict_seen_controls(self, model: ImageModel, given: NetworkInput, options: Mapping[str, Any]) -> tuple[Any, Any]:
        batch, count = given.latents, len(given.controls[0])
        guessing = model.options.guess_mode
        hidden = count if guessing and given.is_guided else 0
        if guessing:
            added = options["added_cond_kwargs"]
            options = {
                **options,
                "guess_mode": True,
                "encoder_hidden_states": options["encoder_hidden_states"][hidden:],
                "added_cond_kwargs": added and {name: value[hidden:] for name, value in added.items()},
            }
        # every run sees the same
        seen = [
            embed_pictures(net, control) if control.shape[2:] != batch.shape[2:] and self._can_embed(net, control) else control
            for net, control in zip(model.controlnets, given.controls, strict=True)
        ]
        pictures = [torch.cat([control] * ((len(batch) - hidden) // count)) for control in seen]
        down, middle = self.predict_controls(model, batch[hidden:], given.timestep, pictures, given.strengths, options)
        if not hidden:
            return down, middle
        return [_prepend_zeros(each, hidden) for each in down], _prepend_zeros(middle, hidden)

    def predict_controls(
        self,
        model: ImageModel,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        pictures: Sequence[torch.Tensor],
        scales: Sequence[float],
        options: Mapping[str, Any],
    ) -> tuple[Any, Any]:
        """What the ControlNets add to the UNet: to its down blocks, and to its middle block.

        ``latents`` (N, C, h, w) as the UNet sees them; ``pictures`` (N, 3, H, W) in [0, 1], or what ``prepare_controls`` made of
        them, and ``scales``, how strongly each works, one for each of ``model.controls``; ``options`` are the keyword arguments
        that the UNet gets as well.
        """
        several = len(pictures) > 1
        # what was made of pictures has the latents' size
        embedded = [net for net, each in zip(model.controlnets, pictures, strict=True) if each.shape[2:] == latents.shape[2:]]
        with without_embedding(embedded):
            down, middle = model.controlnet(
                latents,
                timestep,
                controlnet_cond=list(pictures) if several else pictures[0],
                conditioning_scale=list(scales) if several else scales[0],
                **options,
            )
        return down, middle

    def attend_to_first_frame(
        self, model: ImageModel, networks: Sequence[Any], groups: int, size: tuple[int, int], *, guided: bool, held: bool
    ) -> AbstractContextManager[None]:
        """See ``Family``."""
        # in guess mode ControlNets do not see the unconditional run
        seen = groups - int(model.options.guess_mode and guided)
        return _attend_to_first_frame(networks, groups, seen, held=held)

    def make_passes(
        self, networks: Mapping[str, Any], width: int, height: int, dtype: torch.dtype
    ) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """See ``Family``."""
        unet, vae, meta = networks["unet"], networks["vae"], torch.device("meta")
        controls = [network for name, network in networks.items() if name.startswith("controlnet")]
        factor = self.read_vae_factor(vae.config)
        # as many as go through together at least
        count = self.get_window(unet.config)
        latents = torch.empty(count, unet.config.in_channels, height // factor, width // factor, dtype=dtype, device=meta)
        words = torch.empty(count, _TOKENS, unet.config.cross_attention_dim, dtype=dtype, device=meta)
        options: dict[str, Any] = dict(encoder_hidden_states=words, return_dict=False)
        if unet.config.get("addition_embed_type") == "text_time":
            wide = unet.config.projection_class_embeddings_input_dim - _SIZES * unet.config.addition_time_embed_dim
            pooled = torch.empty(1, wide, dtype=dtype, device=meta)
            options["added_cond_kwargs"] = {
                "text_embeds": pooled,
                "time_ids": torch.empty(1, _SIZES, dtype=dtype, device=meta),
            }
        picture = torch.empty(count, 3, height, width, dtype=dtype, device=meta)
        time = torch.empty(1, device=meta)

        def denoise() -> None:
            down: list[torch.Tensor] = []
            middle = None
            for control in controls:
                found, middle = control(latents, time, controlnet_cond=picture, **options)
                down = list(found) if not down else [a + b for a, b in zip(down, found, strict=True)]
            added = dict(down_block_additional_residuals=down, mid_block_additional_residual=middle) if controls else {}
            self.run_unet(unet, latents, time, 1, {**options, **added})

        return denoise, lambda: vae.decode(latents.to(vae.dtype), return_dict=False)


@contextmanager
def _attend_to_first_frame(networks: Sequence[Any], groups: int, control_groups: int, *, held: bool) -> Iterator[None]:
    with (
        first_frame_attention(networks[:1], groups, held=held),
        first_frame_attention(networks[1:], control_groups, held=held),
    ):
        yield


def _prepend_zeros(values: torch.Tensor, count: int) -> torch.Tensor:
    return torch.cat([torch.zeros_like(values[:1]).expand(count, *values.shape[1:]), values])


class StableDiffusion(UNetFamily):
    """Stable Diffusion 1.x and 2.x. Long prompts are read in pieces of the text encoder's length."""

    title = "Stable Diffusion"
    pipeline_class = StableDiffusionControlNetPipeline
    single_file_options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """A plain ControlNet without further conditions."""
        return config.get("_class_name") == "ControlNetModel" and not config.get("addition_embed_type")

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """Also diffusers' other pipelines of the same parts, such as the one that begins with a picture."""
        parts = set(pipeline.components)
        needed = {"unet", "controlnet", "text_encoder", "tokenizer"}
        return needed <= parts and parts.isdisjoint({"text_encoder_2", "motion_adapter"})

    def list_encoders(self, model: ImageModel) -> list[Encoder]:
        """See ``UNetFamily``."""
        return [Encoder(model.pipeline, model.pipeline.text_encoder, model.pipeline.tokenizer)]


class StableDiffusionXL(UNetFamily):
    """SDXL: two text encoders, pooled embeddings, and the picture's size as a condition."""

    title = "SDXL"
    pipeline_class = StableDiffusionXLControlNetPipeline
    own_layer = 2

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """A ControlNet that takes the pooled text and the time ids."""
        return config.get("_class_name") == "ControlNetModel" and config.get("addition_embed_type") == "text_time"

    def list_encoders(self, model: ImageModel) -> list[Encoder]:
        """See ``UNetFamily``."""
        pipeline = model.pipeline
        pairs = ((pipeline.text_encoder, pipeline.tokenizer), (pipeline.text_encoder_2, pipeline.tokenizer_2))
        return [Encoder(pipeline, network, tokenizer, penultimate=True) for network, tokenizer in pairs if network is not None]

    def add_conditions(
        self,
        model: ImageModel,
        states: torch.Tensor,
        pooled: list[torch.Tensor],
        width: int,
        height: int,
        warnings: tuple[str, ...],
    ) -> TextConditions:
        """See ``UNetFamily``. The pooled embeddings are those of a text's first piece without weights: what diffusers gives for a
        text that it does not cut."""
        states = states.to(model.pipeline.text_encoder_2.dtype)
        size = torch.tensor([[height, width, 0, 0, height, width]], device=model.device, dtype=states.dtype)
        return TextConditions(states, {"text_embeds": torch.cat(pooled), "time_ids": size.repeat(len(states), 1)}, warnings)
