"""Weights in fewer bits than a model computes with, by the libraries' own ways: torchao for 8 bits, bitsandbytes for 4.

The transformer and the text encoders, which are nearly all of such a model, hold them; they compute in the usual numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import diffusers
import torch
import transformers

from ...shared.load_options import LoadOptions
from ...shared.shot import ShotError
from .family_layouts import TRANSFORMER, FamilyLayout

#: choice of ``LoadOptions.weights`` -> the library, and the bits of a weight with its share of what it is multiplied by
_WAYS = {"8bit": ("torchao", 8.0), "4bit": ("bitsandbytes", 4.5)}


@dataclass(frozen=True)
class Quantization:
    """How weights are held; ``bits`` of each. Networks compute in ``dtype``."""

    library: str
    bits: float
    dtype: torch.dtype
    #: whether the transformers, and the text encoders, are held so only once LoRAs have been added to them
    is_late: bool = False
    are_texts_late: bool = False

    def holds(self, part: str) -> bool:
        """Whether a part of a pipeline is to be loaded so."""
        return is_quantized_part(part) and not self.waits_for(part)

    def waits_for(self, part: str) -> bool:
        """Whether a part of a pipeline is held so only once LoRAs have been added to it."""
        return (self.is_late and part.startswith(TRANSFORMER)) or (self.are_texts_late and part.startswith("text_encoder"))

    def make_config(self, kind: Any) -> Any:
        """The configuration that ``from_pretrained`` of a network's class takes."""
        # both libraries of networks have classes of the same names
        library: Any = diffusers if issubclass(kind, diffusers.ModelMixin) else transformers
        if self.library == "torchao":
            # imported late: it is not installed everywhere
            from torchao.quantization import Int8WeightOnlyConfig  # type: ignore[import-not-found,unused-ignore]

            return library.TorchAoConfig(Int8WeightOnlyConfig())
        return library.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=self.dtype)

    def quantize(self, network: torch.nn.Module) -> None:
        """Let a network that is loaded hold its weights so, by torchao. Raises ``ShotError`` where that does nothing."""
        from torchao.quantization import Int8WeightOnlyConfig, quantize_  # type: ignore[import-not-found,unused-ignore]

        quantize_(network, Int8WeightOnlyConfig())
        self.check(network)

    def check(self, network: torch.nn.Module) -> None:
        """``ShotError`` for a network whose weights are all as they were."""
        layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
        if all(type(layer.weight) is torch.nn.Parameter for layer in layers):
            raise ShotError(
                "memory", f"The package {self.library} left the weights as they are; update it, or leave the weights at auto."
            )

    @property
    def sentence(self) -> str:
        """What the user is told."""
        return f"The transformer and the text encoders hold weights of {self.bits:.0f} bits ({self.library})."


def is_quantized_part(part: str) -> bool:
    """Whether a part of a pipeline holds weights in fewer bits."""
    return part.startswith((TRANSFORMER, "text_encoder"))


def count_bits(options: LoadOptions) -> float | None:
    """The bits of a weight that a user asks for; None for those of the numbers that are computed with."""
    return _WAYS[options.weights][1] if options.weights in _WAYS else None


def choose_quantization(
    options: LoadOptions,
    layout: FamilyLayout | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    from_file: bool = False,
    has_loras: bool = False,
    have_texts_loras: bool = False,
) -> Quantization | None:
    """How the weights of a model are held, whose transformer may be ``from_file``, and may have LoRAs added, as may its text
    encoders; None for as they are. Raises ``ShotError`` where that is not possible here."""
    if options.weights not in _WAYS:
        return None
    library, bits = _WAYS[options.weights]
    if layout is None:
        raise ShotError("memory", "Only families of transformers hold weights in fewer bits; leave the weights at auto.")
    if from_file and library != "torchao":
        raise ShotError("memory", "Weights of 4 bits are made from diffusers folders only; name one, or choose 8bit.")
    if (layout.is_taught or has_loras) and library != "torchao":
        raise ShotError("memory", "Weights of 4 bits learn nothing from a LoRA; choose 8bit or auto.")
    if bits < 8 and device.type != "cuda":
        raise ShotError("memory", f"Weights of 4 bits need a CUDA device, and this is {device.type}; choose 8bit or auto.")
    if find_spec(library) is None:
        raise ShotError(
            "memory",
            f"Weights of {bits:.0f} bits need the package {library}, which is not installed; install it into the backend's "
            "environment, or leave the weights at auto.",
        )
    return Quantization(library, bits, dtype, is_late=has_loras, are_texts_late=have_texts_loras)
