"""What transformers that are trained by flow matching have in common: a diffusers folder of a layout, pictures as 2x2 patches of
latents, texts as they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline

from ...shared.shot import ShotError
from .adapter import Family, TextConditions
from .family_layouts import TRANSFORMER, FamilyLayout
from .fitting import check_same
from .flow_schedules import make_flow_scheduler
from .plain_texts import read_plain, refuse_clip_skip
from .prompts.parsing import Prompt

if TYPE_CHECKING:
    from .image_model import ImageModel

META = torch.device("meta")


class FlowFamily(Family):
    """Others give its layout, its text and its networks' calls."""

    layout: ClassVar[FamilyLayout]
    denoiser = TRANSFORMER
    is_flow = True
    fits_float16 = False
    #: names in configurations that a transformer and its ControlNets have in common
    fitting: ClassVar[tuple[str, ...]]
    #: the name in configurations of ControlNets that counts the channels of a mask, where some have one
    mask_channels: ClassVar[str] = ""

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """See ``Family``."""
        return config.get("_class_name") == self.layout.control

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """Also diffusers' other pipelines of the same parts."""
        return self.has_networks(pipeline.components) and "controlnet" in pipeline.components

    def has_networks(self, networks: Mapping[str, Any]) -> bool:
        """See ``Family``."""
        return type(networks.get(self.denoiser)).__name__ == self.layout.denoiser

    def check_fit(self, base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """See ``Family``."""
        check_same(base, controls, self.fitting)
        for kind, config in controls:
            if config.get(self.mask_channels):
                raise ShotError("model", f"The ControlNet for {kind} is for inpainting and wants a mask; choose a plain one.")

    def get_latent_channels(self, model: ImageModel) -> int:
        """See ``Family``."""
        return self.layout.read_channels(model.denoiser.config)

    def read_patch(self, config: Mapping[str, Any]) -> int:
        """See ``Family``."""
        return 2

    def encode(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """See ``Family``."""
        vae = model.pipeline.vae
        found = vae.encode(pictures.to(vae.dtype))
        latents = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
        return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor

    def decode(self, model: ImageModel, latents: torch.Tensor) -> torch.Tensor:
        """See ``Family``."""
        vae = model.pipeline.vae
        return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)).sample

    def encode_text(self, model: ImageModel, prompts: Sequence[Prompt], width: int, height: int, clip_skip: int) -> TextConditions:
        """See ``Family``."""
        refuse_clip_skip(clip_skip, self.title)
        texts = [read_plain(prompt) for prompt in prompts]
        most = self.get_most_tokens(model)
        warnings: tuple[str, ...] = ()
        if any(self.count_tokens(model, text) > most for text in texts):
            warnings = (f"The prompt is longer than the {most} tokens that the text encoder takes; its end was left out.",)
        found = [self.encode_one(model, text) for text in texts]
        longest = max(len(embeddings) for embeddings, _ in found)
        embeddings = found[0][0].new_zeros(len(found), longest, found[0][0].shape[-1], dtype=model.dtype)
        own = torch.zeros(len(found), longest, dtype=torch.bool, device=embeddings.device)
        for row, (words, _) in enumerate(found):
            embeddings[row, : len(words)], own[row, : len(words)] = words, True
        added = {name: torch.stack([more[name] for _, more in found]).to(model.dtype) for name in found[0][1]}
        if not self.mixes_texts:
            added["own"] = own
        return TextConditions(embeddings, added, warnings)

    def get_most_tokens(self, model: ImageModel) -> int:
        """How many tokens of a text count."""
        raise NotImplementedError

    def count_tokens(self, model: ImageModel, text: str) -> int:
        """The tokens of a text."""
        raise NotImplementedError

    def encode_one(self, model: ImageModel, text: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(S, D) embeddings of a text by itself, and further tensors of it. Where texts have lengths of their own,
        ``TextConditions.added["own"]`` (N, S) tells the rows of each from those that fill up."""
        raise NotImplementedError

    def list_sigmas(self, steps: int) -> Sequence[float] | int:
        """The parts of noise at the steps before they are shifted, or how many the scheduler is to take of its own."""
        return list(np.linspace(1.0, 1 / steps, steps))

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
        tokens = count_patches(size)
        return make_flow_scheduler(config, class_name, name, spacing, tokens, self.list_sigmas(steps), device, self.title)

    def prepare_control(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """Latents of the pictures."""
        return torch.cat([self.encode(model, picture[None] * 2 - 1) for picture in pictures]).to(model.dtype)

    def make_passes(
        self, networks: Mapping[str, Any], width: int, height: int, dtype: torch.dtype
    ) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """See ``Family``."""
        transformer, vae = networks[self.denoiser], networks["vae"]
        factor = self.read_vae_factor(vae.config)
        channels = self.layout.read_channels(transformer.config)
        shape = (self.count_latents(networks), channels, height // factor, width // factor)
        latents = torch.empty(shape, dtype=dtype, device=META)
        controls = [network for name, network in networks.items() if name.startswith("controlnet")]
        return lambda: self.run_empty(transformer, controls, latents), lambda: self.decode_empty(vae, latents)

    def count_latents(self, networks: Mapping[str, Any]) -> int:
        """The rows of latents that go through networks together, whatever else is done."""
        return 1

    def run_empty(self, transformer: Any, controls: Sequence[Any], latents: torch.Tensor) -> None:
        """Latents of ``count_latents`` through networks without storage, with the longest text."""
        raise NotImplementedError

    def decode_empty(self, vae: Any, latents: torch.Tensor) -> None:
        """The same through an auto-encoder without storage."""
        vae.decode(latents.to(vae.dtype), return_dict=False)


def read_statistics(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(C, 1, 1) the mean and the spread of each channel that an auto-encoder for clips has in its configuration."""
    mean, spread = (like.new_tensor(values)[:, None, None] for values in (vae.config.latents_mean, vae.config.latents_std))
    return mean, spread


def count_patches(size: tuple[int, int]) -> int:
    """The patches of latents of a size (h, w)."""
    return (size[0] // 2) * (size[1] // 2)


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) latents -> (N, h/2 * w/2, 4 C) patches of 2x2, row by row."""
    count, channels, height, width = latents.shape
    patches = latents.reshape(count, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * 4)


def unpack(patches: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The inverse of ``pack`` for latents of a size (h, w)."""
    height, width = size
    latents = patches.reshape(len(patches), height // 2, width // 2, -1, 2, 2)
    return latents.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, height, width)


def repeat_runs(values: torch.Tensor, count: int) -> torch.Tensor:
    """n rows again and again, until there are ``count``."""
    return values.repeat(count // len(values), *(1,) * (values.ndim - 1))


def lend_to_unconditional(made: Sequence[torch.Tensor] | None, first: int) -> list[torch.Tensor] | None:
    """What a ControlNet adds to all runs, where it did not see the ``first`` rows, which are the unconditional run: to these what
    it adds to the prompt's, which come next."""
    return None if made is None else [torch.cat([each[:first], each]) for each in made]


def shape_strength(strength: Any, first: int = 0) -> Any:
    """A strength of ``NetworkInput`` for tokens (B, S, D), without the ``first`` rows."""
    return strength[first:].reshape(-1, 1, 1) if isinstance(strength, torch.Tensor) else strength
