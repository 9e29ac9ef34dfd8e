"""What the method asks of an image model, whatever kind it is: everything that differs between latent diffusion models lies behind
``Family``.

Outside, latents are always (N, C, h, w), normalised, one row for each frame, and pictures are (N, 3, H, W) around [-1, 1]; how an
auto-encoder scales and shifts them, how a network packs them, what it is told of time, guidance and controls, and which sign it
answers with is a family's own affair. Where an auto-encoder puts several frames into one row (``clip_rows``), N rows are those of
one clip, in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from diffusers import DiffusionPipeline

from ...shared.shot import ShotError
from .family_layouts import FamilyLayout
from .prompts.parsing import Prompt

if TYPE_CHECKING:
    from .image_model import ImageModel


@dataclass(frozen=True)
class TextConditions:
    """Text embeddings, unconditional first when guidance is on: ``embeddings`` (1 or 2, S, D); ``added`` are further tensors of
    each text, such as SDXL's pooled embeddings and time ids, or which of the S rows are a text's own. A background's embeddings
    come last. ``warnings`` are sentences for the user. Texts of each frame's own have the frames as a second dimension everywhere,
    as in (2, F, S, D)."""

    embeddings: torch.Tensor
    added: dict[str, torch.Tensor]
    warnings: tuple[str, ...] = ()

    @property
    def is_per_frame(self) -> bool:
        """Whether every frame has embeddings of its own."""
        return self.embeddings.ndim == 4


@dataclass(frozen=True)
class NetworkInput:
    """What a network is to predict from.

    ``latents`` (G*n, C, h, w) are G runs of n frames; ``embeddings`` (G*n, S, D) and ``added`` are their texts. ``controls`` are
    the ControlNets' pictures of n frames as ``Family.prepare_control`` gave them, ``strengths`` how strongly each works: numbers,
    or (G*n, 1, 1, 1). ``guidance_scale`` is for networks that are told it. No gradient flows through ControlNets with
    ``hold_controls``. ``views`` are reference views as ``Family.prepare_views`` gave them and their noise (R, C, h, w), of families
    that take them. ``is_guided`` says that the first run is the unconditional one, and ``groups`` is G.
    """

    latents: torch.Tensor
    timestep: torch.Tensor
    embeddings: torch.Tensor
    added: Mapping[str, torch.Tensor]
    controls: Sequence[torch.Tensor]
    strengths: Sequence[Any]
    guidance_scale: float
    is_guided: bool
    groups: int
    hold_controls: bool = False
    views: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(frozen=True)
class KnownSurface:
    """What N frames are to show of a surface: ``pictures`` (N, 3, H, W) in [-1, 1] that count where ``known`` (N, 1, H, W) is 1,
    not 0."""

    pictures: torch.Tensor
    known: torch.Tensor


class Family:
    """One kind of image model; a class for each, and an object of it in ``families.FAMILIES``."""

    #: what it is called in sentences
    title: ClassVar[str]
    #: whether frames are independent of each other, or those of a clip go through the networks together and see each other
    kind: ClassVar[Literal["frames", "clip"]] = "frames"
    #: what the base model and its ControlNets are loaded as
    pipeline_class: ClassVar[type[DiffusionPipeline]]
    controlnet_class: ClassVar[type[Any]]
    #: whether the two passes of guidance go through the networks at once, and take twice the memory
    runs_together: ClassVar[bool] = True
    #: the part of a pipeline that denoises
    denoiser: ClassVar[str] = "unet"
    #: keyword arguments of the pipeline, made of the parts of a single file
    single_file_options: ClassVar[Mapping[str, Any]] = {}
    #: whether it takes reference views, and known surfaces beside the ControlNets' pictures
    takes_looks: ClassVar[bool] = False
    #: whether it can do nothing without a reference view
    needs_view: ClassVar[bool] = False
    #: whether it is trained by flow matching
    is_flow: ClassVar[bool] = False
    #: whether its networks keep to what float16 can hold
    fits_float16: ClassVar[bool] = True
    #: whether weights in prompts, LoRAs, textual inversions, IP-Adapters and other auto-encoders can be put into it
    is_extensible: ClassVar[bool] = False
    #: whether the embeddings of two texts can be mixed into something between them
    mixes_texts: ClassVar[bool] = True
    #: what its diffusers folders hold; None for those with a UNet
    layout: ClassVar[FamilyLayout | None] = None

    # what it is made of

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """Whether a ControlNet with this configuration (diffusers' ``config.json``) is made for the family's base models."""
        raise NotImplementedError

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """Whether a loaded pipeline is one of the family's."""
        return isinstance(pipeline, self.pipeline_class)

    def has_networks(self, networks: Mapping[str, Any]) -> bool:
        """Whether the networks of a model, by part, are of the family."""
        return self.denoiser in networks

    def check_fit(self, base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """``ShotError`` for a ControlNet that does not fit the base model, by the configurations of the denoiser and of each kind
        of ControlNet."""
        raise NotImplementedError

    def sees_controls(self, config: Mapping[str, Any]) -> bool:
        """Whether the denoiser with a configuration sees the pictures itself, wholly or not at all, and takes no ControlNets."""
        return False

    def scales_controls(self, config: Mapping[str, Any]) -> bool:
        """Whether pictures count more or less by a strength, and not wholly or not at all."""
        return not self.sees_controls(config)

    def find_pipeline_class(self, config: Mapping[str, Any]) -> Any:
        """The class of diffusers' pipeline for a denoiser with a configuration."""
        return self.pipeline_class

    def get_denoiser(self, model: ImageModel) -> Any:
        """The network that predicts."""
        return getattr(model.pipeline, self.denoiser)

    def takes_guidance_scale(self, config: Mapping[str, Any]) -> bool:
        """Whether the denoiser with a configuration is told the guidance scale, and needs no second pass for it."""
        return False

    def get_window(self, config: Mapping[str, Any]) -> int:
        """The most frames of a clip that a denoiser with a configuration sees together, all of which are to go through it at once;
        1 where frames are independent."""
        return 1

    def read_row_frames(self, config: Mapping[str, Any]) -> int:
        """How many frames behind the first share a row of latents of an auto-encoder with a configuration; above 1, what is
        encoded, decoded and predicted is a whole clip."""
        return 1

    # sizes and latents

    def get_latent_channels(self, model: ImageModel) -> int:
        """The channels C of latents."""
        raise NotImplementedError

    def get_latent_factor(self, model: ImageModel) -> int:
        """Pixels a latent covers along each side."""
        return int(model.pipeline.vae_scale_factor)

    def read_vae_factor(self, config: Mapping[str, Any]) -> int:
        """Pixels a latent covers along each side, by the configuration of the auto-encoder; 1 where it does not say."""
        # small ones have two lists of the same length
        levels = config.get("block_out_channels") or config.get("decoder_block_out_channels")
        return 2 ** (len(levels) - 1) if levels else 1

    def read_patch(self, config: Mapping[str, Any]) -> int:
        """Latents along each side whose number width and height must be multiples of, by the configuration of the denoiser."""
        raise NotImplementedError

    def encode(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) pictures in [-1, 1] -> (N, C, h, w) latents: the middle of what the auto-encoder gives."""
        raise NotImplementedError

    def decode(self, model: ImageModel, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) latents -> (N, 3, H, W) pictures; differentiable."""
        raise NotImplementedError

    # text

    def encode_text(self, model: ImageModel, prompts: Sequence[Prompt], width: int, height: int, clip_skip: int) -> TextConditions:
        """Embeddings of prompts, all of them as long as the longest.

        ``clip_skip`` says from which layer of the text encoders, 0 for the model's own. Raises ``ShotError`` where they have not
        as many.
        """
        raise NotImplementedError

    # steps

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
        """A scheduler set to a number of steps, for frames whose latents have a ``size`` (h, w); see ``schedulers.make_scheduler``.

        Raises ``ShotError`` for what does not go together, and for a model of another kind of diffusion.
        """
        raise NotImplementedError

    def prepare_control(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """What the networks are given for a ControlNet's pictures (N, 3, H, W) in [0, 1]: N rows, each made by itself, or of a
        clip whose frames share rows."""
        return pictures

    def predict(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """(G*n, C, h, w): what the scheduler takes, so that a step goes on towards the picture; before guidance."""
        raise NotImplementedError

    def prepare_controls(
        self, model: ImageModel, pictures: Sequence[torch.Tensor], surface: KnownSurface | None = None
    ) -> list[torch.Tensor]:
        """``prepare_control`` for the pictures of each of ``model.controls``; a ``surface`` is for families that take looks."""
        return [self.prepare_control(model, each) for each in pictures]

    def prepare_views(self, model: ImageModel, views: torch.Tensor) -> torch.Tensor:
        """What the networks of a family that takes looks are given for reference views (R, 3, H, W) in [-1, 1]: R rows."""
        raise NotImplementedError

    def attend_to_first_frame(
        self, model: ImageModel, networks: Sequence[Any], groups: int, size: tuple[int, int], *, guided: bool, held: bool
    ) -> AbstractContextManager[None]:
        """Within the block the ``networks``, the denoiser and its ControlNets, see the first frame of each of ``groups`` equal runs
        in place of their own picture, where they look at the picture; ``size`` (h, w) is that of the latents. With ``guided`` the
        first run is the unconditional one. No gradient flows through what is seen with ``held``. Raises ``ShotError`` where the
        attention cannot be shared."""
        raise self.explain_unshared()

    def explain_unshared(self) -> ShotError:
        """The error for cross-frame attention with a family that cannot have it."""
        return ShotError(
            "method",
            f"{self.title} has no attention that frames could share; choose a preset without cross-frame attention.",
        )

    def explain_no_view(self) -> ShotError:
        """The error for a shot without a view of its character with a family that needs one."""
        return ShotError(
            "look",
            f"{self.title} moves a character that it is shown: make a look with another model or with Dress, keep it, and use a "
            "preset that begins with surface, with Show Look at View or Both and Control above 0 at all steps.",
        )

    def guide(self, unconditional: torch.Tensor, wanted: torch.Tensor, scale: float) -> torch.Tensor:
        """Classifier-free guidance of a ``scale`` above 1: what to step with, from two outputs (n, C, h, w) of ``predict``."""
        return unconditional + scale * (wanted - unconditional)

    # memory

    def make_passes(
        self, networks: Mapping[str, Any], width: int, height: int, dtype: torch.dtype
    ) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """What takes a frame through the denoiser with its ControlNets, and what takes it through the auto-encoder: for
        ``networks`` by part, which have no storage."""
        raise NotImplementedError
