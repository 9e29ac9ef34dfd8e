"""Z-Image and Z-Image-Turbo with their union ControlNet: a transformer that sees the picture and then the text as one sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from accelerate.hooks import CpuOffload
from diffusers import ZImageControlNetModel, ZImageControlNetPipeline

from ...shared.shot import ShotError
from .adapter import NetworkInput
from .family_layouts import BY_NAME
from .flow_family import META, FlowFamily, count_patches, repeat_runs, shape_strength
from .shared_keys import share_keys

if TYPE_CHECKING:
    from .image_model import ImageModel

#: tokens that its text encoder takes at most; sequences are filled up to multiples of the second
_MOST_TOKENS, _FILLED = 512, 32


class ZImage(FlowFamily):
    """See the module. Its network counts time from the noise to the picture, from 0 to 1, and predicts the way to the picture, the
    negative of what the scheduler takes. Texts have lengths of their own, which also move the places of the picture's tokens."""

    layout = BY_NAME["z_image"]
    title = layout.title
    pipeline_class = ZImageControlNetPipeline
    controlnet_class = ZImageControlNetModel
    mixes_texts = False
    fitting = ("dim", "n_heads", "n_kv_heads", "n_refiner_layers", "all_patch_size")

    def check_fit(self, base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """See ``Family``. ControlNets see latents of pictures, and some a mask and the latents of what lies around it."""
        super().check_fit(base, controls)
        channels = self.layout.read_channels(base)
        for kind, config in controls:
            seen = config.get("control_in_dim", channels)
            if seen not in (channels, 2 * channels + 1):
                raise ShotError(
                    "model",
                    f"The ControlNet for {kind} does not fit the base model: it sees {seen} channels, and with the model's latents "
                    f"of {channels} that is {channels} or {2 * channels + 1}. Use one made for this kind of model.",
                )

    def get_most_tokens(self, model: ImageModel) -> int:
        """See ``FlowFamily``."""
        return _MOST_TOKENS

    def count_tokens(self, model: ImageModel, text: str) -> int:
        """Those of the conversation that the text becomes."""
        tokenizer = model.pipeline.tokenizer
        asked = [{"role": "user", "content": text}]
        whole = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, enable_thinking=True)
        return len(tokenizer(whole).input_ids)

    def encode_one(self, model: ImageModel, text: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See ``FlowFamily``."""
        found, _ = model.pipeline.encode_prompt(
            text, model.device, do_classifier_free_guidance=False, max_sequence_length=_MOST_TOKENS
        )
        return found[0], {}

    def list_sigmas(self, steps: int) -> Sequence[float] | int:
        """The same in float32, as diffusers has them for it."""
        return torch.linspace(1.0, 1 / steps, steps).tolist()

    def prepare_control(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """Latents of the pictures, with zeros for the channels that are for other uses of the ControlNet."""
        latents = super().prepare_control(model, pictures)
        more = int(model.controlnet.config.control_in_dim) - latents.shape[1]
        return torch.cat([latents, latents.new_zeros(len(latents), max(0, more), *latents.shape[2:])], 1)

    def predict(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """See ``Family``."""
        batch = given.latents
        pictures = list(batch.unsqueeze(2))
        time = ((1000 - given.timestep.float()) / 1000).to(batch.device).expand(len(batch))
        texts = [row[own] for row, own in zip(given.embeddings, given.added["own"], strict=True)]
        added = None
        if given.controls:
            control = repeat_runs(given.controls[0].unsqueeze(2), len(batch))
            bring_to_device(model.denoiser)
            # the class asks for it where gradients flow, and does not set it itself
            model.controlnet.gradient_checkpointing = False
            with torch.set_grad_enabled(torch.is_grad_enabled() and not given.hold_controls):
                added = model.controlnet(pictures, time, texts, control, conditioning_scale=shape_strength(given.strengths[0]))
        output = model.denoiser(pictures, time, texts, controlnet_block_samples=added, return_dict=False)[0]
        return -torch.stack(list(output)).squeeze(2)

    def attend_to_first_frame(
        self, model: ImageModel, networks: Sequence[Any], groups: int, size: tuple[int, int], *, guided: bool, held: bool
    ) -> AbstractContextManager[None]:
        """See ``Family``: in every layer that sees the picture, whose tokens come before the text's, filled up to a multiple."""
        filled = -(-count_patches(size) // _FILLED) * _FILLED
        # the layers that refine the text alone have no picture to share
        names = ("noise_refiner", "layers", "control_noise_refiner", "control_layers")
        blocks = [block for network in networks for name in names for block in getattr(network, name, None) or ()]
        return share_keys([(block.attention, slice(filled)) for block in blocks], groups, held=held)

    def run_empty(self, transformer: Any, controls: Sequence[Any], latents: torch.Tensor) -> None:
        """See ``FlowFamily``."""
        pictures, added = [latents[0].unsqueeze(1)], None
        texts = [torch.empty(_MOST_TOKENS, transformer.config.cap_feat_dim, dtype=latents.dtype, device=META)]
        time = torch.empty(1, device=META)
        for control in controls:
            control = ZImageControlNetModel.from_transformer(control, transformer)
            seen = latents.new_empty(1, control.config.control_in_dim, 1, *latents.shape[2:])
            added = control(pictures, time, texts, seen)
        transformer(pictures, time, texts, controlnet_block_samples=added, return_dict=False)


def bring_to_device(network: Any) -> None:
    """Have a network that waits in the main memory for its turn on the device: its ControlNet is first and borrows its layers."""
    hook = getattr(network, "_hf_hook", None)
    if isinstance(hook, CpuOffload):
        hook.pre_forward(network)
