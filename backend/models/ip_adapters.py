"""IP-Adapters: a picture of a character becomes keys and values for a UNet's attention to the text.

The UNet itself stays as it is; ``video.reference_attention`` has its layers look at the picture while frames are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import (
    ImageProjection,
    IPAdapterFullImageProjection,
    IPAdapterPlusImageProjection,
    MultiIPAdapterImageProjection,
)
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from ...shared.shot import ShotError
from .folder_loading import load_network_folder, prefers_half
from .hub import Report, fetch_file, fetch_folder
from .ip_adapter_kinds import IPAdapterKind, find_encoder_kind, find_ip_adapter_kind, plan_encoder, plan_projection
from .model_file import FAMILIES
from .network_loading import load_network, make_tensor, name_left_over
from .networks import TensorSource
from .picture_encoders import ReferenceSource, find_encoder_file, read_adapter_kind, split_hub_folder
from .plans import list_shapes, open_model_file

if TYPE_CHECKING:
    from .image_model import ImageModel

#: strength where neither the shot nor the model's name says one
USUAL_STRENGTH = 0.6
_PROJECTIONS: dict[str, Any] = {
    "plain": ImageProjection,
    "plus": IPAdapterPlusImageProjection,
    "full": IPAdapterFullImageProjection,
}


@dataclass(frozen=True)
class IPAdapter:
    """A loaded IP-Adapter, on the CPU. ``projection`` makes tokens (1, T, D) of what the encoder gives; ``layers`` are the weights
    (C, D) for keys and values by the name of the UNet's attention processor, and the share of the strength that they get."""

    projection: Any
    layers: Mapping[str, tuple[torch.Tensor, torch.Tensor, float]]
    strength: float = USUAL_STRENGTH

    @property
    def is_patched(self) -> bool:
        """Whether it looks at a picture's patches instead of the picture as a whole."""
        return not isinstance(self.projection, ImageProjection)


@dataclass(frozen=True)
class ReferenceConditions:
    """What layers of a UNet see of a picture: (R, T, C) keys and values by the processor's name, and the strength of each. R is 2
    with a first row for the unconditional pass, else 1."""

    layers: Mapping[str, tuple[torch.Tensor, torch.Tensor, float]]

    @property
    def rows(self) -> int:
        """R."""
        return len(next(iter(self.layers.values()))[0])


def list_attention_layers(unet: Any) -> dict[str, tuple[int, int]]:
    """(numbers of a token inside, numbers of a text token) of a UNet's attention layers to the text, by their processors' names,
    in the order in which IP-Adapters number them."""
    found = {}
    for name in unet.attn_processors:
        # in motion modules frames look at each other
        if not name.endswith("attn1.processor") and "motion_modules" not in name:
            layer = unet.get_submodule(name.removesuffix(".processor"))
            found[name] = (int(layer.inner_kv_dim), int(layer.cross_attention_dim))
    return found


def check_adapter_fit(file: str, kind: IPAdapterKind, shapes: Mapping[str, tuple[int, ...]], unet: Any) -> dict[str, int]:
    """The number in an IP-Adapter's file of each of a UNet's layers. Raises ``ShotError`` for one for other models; ``shapes`` are
    those of the file's tensors."""
    layers = list_attention_layers(unet)
    widths = {context for _, context in layers.values()}
    if widths != {kind.context}:
        for_whom = f"for {FAMILIES[kind.family]}, " if kind.family else ""
        raise ShotError(
            "model",
            f"The IP-Adapter {file} is {for_whom}for text of {kind.context} numbers, and the model has "
            f"{', '.join(map(str, sorted(widths)))}; use one made for this kind of model.",
        )
    if len(layers) != len(kind.layers):
        raise ShotError(
            "model",
            f"The IP-Adapter {file} has {len(kind.layers)} attention layers, and the model {len(layers)}; use one made for this "
            "kind of model.",
        )
    for number, (name, (inside, context)) in zip(kind.layers, layers.items(), strict=True):
        for letter in "kv":
            found = shapes.get(f"ip_adapter.{number}.to_{letter}_ip.weight")
            if found != (inside, context):
                raise ShotError(
                    "model",
                    f"The IP-Adapter {file} does not fit the model: its layer {number} is {found}, the model's "
                    f"{name.split('.attn')[0]} needs {(inside, context)}; use one made for this kind of model, or download it "
                    "again.",
                )
    return dict(zip(layers, kind.layers, strict=True))


def check_reference_source(source: ReferenceSource, unet: Mapping[str, Any]) -> None:
    """Raise ``ShotError`` for an IP-Adapter that does not fit the base model with a UNet of this configuration, or whose encoder
    cannot be had."""
    path = Path(source.adapter)
    shapes = list_shapes(open_model_file(path, "ip_adapter")[0])
    with init_empty_weights():
        empty = UNet2DConditionModel.from_config(dict(unet))
    check_adapter_fit(path.name, read_adapter_kind(path), shapes, empty)
    hub = _split_encoder(source.encoder)
    if hub is not None:
        name, revision, folder = hub
        fetch_file(name, revision, f"{folder}/config.json" if folder else "config.json")


def _split_encoder(encoder: str) -> tuple[str, str | None, str] | None:
    """(repository, revision, folder) of an encoder in the hub, None for one on this machine."""
    from .registry import split_revision

    found = None if Path(encoder).exists() else split_hub_folder(encoder)
    if found is None:
        return None
    return *split_revision(found[0]), found[1]


def add_ip_adapter(pipeline: Any, source: ReferenceSource, dtype: torch.dtype) -> tuple[IPAdapter, tuple[str, ...]]:
    """The IP-Adapter of a file, for a pipeline that is given its picture encoder, which lies on this machine; sentences about what
    was guessed or left out.

    Raises ``ShotError`` where it does not fit, or weights are missing.
    """
    file, _ = open_model_file(Path(source.adapter), "ip_adapter")
    shapes = list_shapes(file)
    kind = find_ip_adapter_kind(shapes)
    assert kind is not None, "recognised as one"
    numbers = check_adapter_fit(file.path.name, kind, shapes, pipeline.unet)
    projection, used = load_network(_PROJECTIONS[kind.variant], plan_projection(shapes, kind), file, "projection", dtype)
    layers = {}
    for name, number in numbers.items():
        names = [f"ip_adapter.{number}.to_{letter}_ip.weight" for letter in "kv"]
        keys, values = (make_tensor(file.tensors[one], TensorSource(one), dtype) for one in names)
        used.update(names)
        layers[name] = (keys, values, 1.0)
    encoder, warnings = _load_encoder(Path(source.encoder), dtype)
    given = encoder.config.hidden_size if kind.is_patched else encoder.config.projection_dim
    if given != kind.width:
        raise ShotError(
            "model", f"The picture encoder {source.encoder} gives {given} numbers, and {file.path.name} wants {kind.width}."
        )
    side = encoder.config.image_size
    pipeline.register_modules(image_encoder=encoder, feature_extractor=CLIPImageProcessor(size=side, crop_size=side))
    if source.found:
        warnings += (f"The IP-Adapter's name says nothing of its picture encoder; {source.encoder} is used.",)
    strength = USUAL_STRENGTH if source.strength is None else source.strength
    return IPAdapter(projection.requires_grad_(False), layers, strength), name_left_over(file, used) + warnings


def fetch_encoder(encoder: str, dtype: torch.dtype, report: Report | None) -> str:
    """Where a picture encoder lies on this machine, downloaded if it does not yet. Raises ``HubError``, and what ``report``
    raises."""
    hub = _split_encoder(encoder)
    return encoder if hub is None else str(fetch_folder(*hub, half=prefers_half(dtype), report=report))


def make_encoder(encoder: Path) -> Any:
    """The picture encoder at a path, without its weights."""
    path = find_encoder_file(encoder)
    if path is None:
        return CLIPVisionModelWithProjection(CLIPVisionConfig.from_pretrained(str(encoder), local_files_only=True))
    shapes = list_shapes(open_model_file(path, "picture_encoder")[0])
    kind = find_encoder_kind(shapes)
    assert kind is not None, "recognised as one"
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**plan_encoder(shapes, kind).config))


def _load_encoder(folder: Path, dtype: torch.dtype) -> tuple[Any, tuple[str, ...]]:
    path = find_encoder_file(folder)
    if path is None:
        return load_network_folder(folder, CLIPVisionModelWithProjection, "picture encoder", dtype)
    file, _ = open_model_file(path, "picture_encoder")
    shapes = list_shapes(file)
    kind = find_encoder_kind(shapes)
    assert kind is not None, "recognised as one"

    def make(**config: Any) -> Any:
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**config))

    network, used = load_network(make, plan_encoder(shapes, kind), file, "picture encoder", dtype)
    # the text's half of CLIP may lie in the same file
    text = ("text_model.", "text_projection", "transformer.", "token_embedding.", "positional_embedding", "ln_final.")
    return network, name_left_over(file, used | {name for name in file.tensors if name.startswith(text)})


def read_pipeline_adapter(pipeline: Any) -> IPAdapter | None:
    """The IP-Adapter that diffusers' ``load_ip_adapter`` has put into a pipeline's UNet; None without one. Raises ``ShotError`` for
    several, and for one that needs another network."""
    unet = pipeline.unet
    if not isinstance(unet.encoder_hid_proj, MultiIPAdapterImageProjection):
        return None
    projections = list(unet.encoder_hid_proj.image_projection_layers)
    if len(projections) != 1 or not isinstance(projections[0], tuple(_PROJECTIONS.values())):
        raise ShotError("model", "The pipeline has several IP-Adapters, or one of the FaceID kind; load one without FaceID.")
    layers = {}
    for name, processor in unet.attn_processors.items():
        if hasattr(processor, "to_k_ip"):
            layers[name] = (processor.to_k_ip[0].weight, processor.to_v_ip[0].weight, float(processor.scale[0]))
    return IPAdapter(projections[0], layers, 1.0)


@torch.no_grad()
def encode_reference(model: ImageModel, picture: np.ndarray, strength: float, guided: bool) -> ReferenceConditions:
    """What a model's UNet sees of a picture (H, W, 3) uint8 with a strength; ``guided`` puts the unconditional pass in front.

    Raises ``ShotError`` for a model without an IP-Adapter or without its picture encoder.
    """
    adapter, pipeline = model.adapter, model.pipeline
    if adapter is None:
        raise explain_no_adapter(model.name)
    if getattr(pipeline, "image_encoder", None) is None or getattr(pipeline, "feature_extractor", None) is None:
        raise ShotError("reference", "The model's IP-Adapter has no picture encoder; load it with its image_encoder.")
    encoder = pipeline.image_encoder
    pixels = pipeline.feature_extractor(Image.fromarray(picture), return_tensors="pt").pixel_values
    pixels = pixels.to(model.device, next(encoder.parameters()).dtype)
    if adapter.is_patched:
        # nothing seen is a grey picture to these, as they were trained
        pictures = [torch.zeros_like(pixels), pixels] if guided else [pixels]
        found = torch.cat([encoder(one, output_hidden_states=True).hidden_states[-2] for one in pictures])
    else:
        embeds = encoder(pixels).image_embeds
        found = torch.cat([torch.zeros_like(embeds), embeds]) if guided else embeds
    own = next(adapter.projection.parameters()).device
    dtype = next(adapter.projection.parameters()).dtype
    tokens = adapter.projection.to(model.device)(found.to(model.device, dtype)).to(model.dtype)
    adapter.projection.to(own)
    layers = {}
    for name, (keys, values, share) in adapter.layers.items():
        weights = (weight.to(model.device, model.dtype) for weight in (keys, values))
        layers[name] = (*(tokens @ weight.T for weight in weights), strength * share)
    return ReferenceConditions(layers)


def explain_no_adapter(name: str) -> ShotError:
    """The error for a reference picture with a model that cannot look at one."""
    return ShotError(
        "reference",
        f"The model '{name}' cannot look at a reference picture; add an IP-Adapter to its name, as in {name}|ip=FILE, or leave the "
        "picture out.",
    )
