"""Kinds of IP-Adapters and of the picture encoders before them, from the shapes of their tensors. Free of torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...shared.shot import ShotError
from .networks import NetworkPlan, TensorSource
from .unet_shape import Shapes, strip_prefix

#: width of what the text gives a UNet -> family
CONTEXTS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
#: numbers that describe a face for a recognition network
FACE_WIDTH = 512
HEAD_WIDTH = 64
#: variants that look at an encoder's picture in patches instead of as a whole
PATCHED = ("plus", "full")
#: hidden width of a picture encoder -> what it is called
ENCODER_TITLES = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H", 1664: "ViT-bigG"}
_FACE_PROBLEM = (
    "It is an IP-Adapter of the FaceID kind, which wants another network that recognises faces; choose one without FaceID, such as "
    "ip-adapter-plus-face."
)
_PLUS_BLOCK = {
    "0.norm1.weight": "ln0.weight",
    "0.norm1.bias": "ln0.bias",
    "0.norm2.weight": "ln1.weight",
    "0.norm2.bias": "ln1.bias",
    "0.to_q.weight": "attn.to_q.weight",
    "0.to_out.weight": "attn.to_out.0.weight",
    "1.0.weight": "ff.0.weight",
    "1.0.bias": "ff.0.bias",
    "1.1.weight": "ff.1.net.0.proj.weight",
    "1.3.weight": "ff.1.net.2.weight",
}


@dataclass(frozen=True)
class IPAdapterKind:
    """An IP-Adapter: ``variant`` is plain, plus (a resampler), full or faceid; ``tokens`` a picture becomes (0 for as many as its
    patches) of ``context`` numbers each; ``width`` of what an encoder gives it; ``layers`` the numbers of its attention layers in
    the file, in the order of the UNet's. ``problem`` says why it cannot be used, empty when it can."""

    variant: str
    tokens: int
    context: int
    width: int
    layers: tuple[int, ...]
    problem: str = ""

    @property
    def family(self) -> str:
        """A key of ``model_file.FAMILIES``, empty for widths that no usual model has."""
        return CONTEXTS.get(self.context, "")

    @property
    def is_patched(self) -> bool:
        """Whether it looks at a picture's patches."""
        return self.variant in PATCHED

    def fits(self, encoder: EncoderKind) -> bool:
        """Whether an encoder gives what it was trained with."""
        return self.width == (encoder.hidden if self.is_patched else encoder.projection)


def find_ip_adapter_kind(shapes: Shapes) -> IPAdapterKind | None:
    """What IP-Adapter the tensors of a file are, None for other files."""
    picture, attention = strip_prefix(shapes, "image_proj."), strip_prefix(shapes, "ip_adapter.")
    if not picture and not attention:
        return None
    layers = tuple(sorted(int(found[1]) for name in attention if (found := re.fullmatch(r"(\d{1,4})\.to_k_ip\.weight", name))))
    context = _side(attention, f"{layers[0]}.to_k_ip.weight", 1) if layers else 0

    def make(variant: str, tokens: int, width: int, problem: str = "") -> IPAdapterKind:
        if not problem and (not layers or not context or not width or (variant != "full" and not tokens)):
            problem = "It lacks a part of an IP-Adapter; download it again."
        return IPAdapterKind(variant, tokens, context, width, layers, problem)

    has_face = any(name.startswith("perceiver_resampler.") for name in picture) or any("_lora." in name for name in attention)
    if has_face or ("proj.0.weight" in picture and "proj.3.weight" not in picture):
        return make("faceid", 0, FACE_WIDTH, _FACE_PROBLEM)
    if "proj.weight" in picture:
        rows = _side(picture, "proj.weight", 0)
        return make("plain", rows // context if context and rows % context == 0 else 0, _side(picture, "proj.weight", 1))
    if "proj.3.weight" in picture:
        return make("full", 0, _side(picture, "proj.0.weight", 1))
    width = _side(picture, "proj_in.weight", 1)
    return make("plus", _side(picture, "latents", 1), width, _FACE_PROBLEM if width == FACE_WIDTH else "")


def _side(shapes: Shapes, name: str, axis: int) -> int:
    shape = shapes.get(name, ())
    return shape[axis] if axis < len(shape) else 0


def plan_projection(shapes: Shapes, kind: IPAdapterKind) -> NetworkPlan:
    """The network between encoder and attention: one of diffusers' ``ImageProjection``, ``IPAdapterPlusImageProjection`` or
    ``IPAdapterFullImageProjection``, by the kind's variant."""
    picture = strip_prefix(shapes, "image_proj.")
    if kind.variant == "plain":
        config: dict[str, Any] = {
            "image_embed_dim": kind.width,
            "cross_attention_dim": kind.context,
            "num_image_text_embeds": kind.tokens,
        }
        names = {
            f"{ours}.{end}": f"{theirs}.{end}" for ours, theirs in (("image_embeds", "proj"), ("norm", "norm")) for end in _ENDS
        }
    elif kind.variant == "full":
        config = {"image_embed_dim": kind.width, "cross_attention_dim": kind.context}
        parts = (("ff.net.0.proj", "proj.0"), ("ff.net.2", "proj.2"), ("norm", "proj.3"))
        names = {f"{ours}.{end}": f"{theirs}.{end}" for ours, theirs in parts for end in _ENDS}
    else:
        depth = len({found[1] for name in picture if (found := re.match(r"layers\.(\d+)\.", name))})
        hidden = _side(picture, "latents", 2)
        inner = _side(picture, "layers.0.0.to_q.weight", 0)
        config = {
            "embed_dims": kind.width,
            "output_dims": kind.context,
            "hidden_dims": hidden,
            "depth": depth,
            "dim_head": HEAD_WIDTH,
            "heads": max(inner // HEAD_WIDTH, 1),
            "num_queries": kind.tokens,
            "ffn_ratio": _side(picture, "layers.0.1.1.weight", 0) / hidden if hidden else 4,
        }
        names = {"latents": "latents"} | {
            f"{part}.{end}": f"{part}.{end}" for part in ("proj_in", "proj_out", "norm_out") for end in _ENDS
        }
        for n in range(depth):
            names |= {f"layers.{n}.{ours}": f"layers.{n}.{theirs}" for theirs, ours in _PLUS_BLOCK.items()}
    sources = {ours: TensorSource(f"image_proj.{theirs}") for ours, theirs in names.items() if theirs in picture}
    if kind.variant == "plus":
        for n in range(config["depth"]):
            both = f"layers.{n}.0.to_kv.weight"
            if both in picture:
                for part, letter in enumerate("kv"):
                    sources[f"layers.{n}.attn.to_{letter}.weight"] = TensorSource(f"image_proj.{both}", part, parts=2)
    return NetworkPlan(config, sources)


_ENDS = ("weight", "bias")


@dataclass(frozen=True)
class EncoderKind:
    """A CLIP picture encoder: ``hidden`` numbers for each patch, ``projection`` for the whole picture (0 without a projection);
    ``layout`` is transformers or open_clip, and ``prefix`` what is before its tensors' names."""

    hidden: int
    projection: int
    layout: str = "transformers"
    prefix: str = ""

    @property
    def title(self) -> str:
        """What it is called."""
        return f"CLIP {ENCODER_TITLES.get(self.hidden, f'of {self.hidden} numbers')}"


def find_encoder_kind(shapes: Shapes) -> EncoderKind | None:
    """What picture encoder the tensors of a file are, None for other files."""
    if "vision_model.embeddings.patch_embedding.weight" in shapes:
        hidden = _side(shapes, "vision_model.embeddings.patch_embedding.weight", 0)
        return EncoderKind(hidden, _side(shapes, "visual_projection.weight", 0))
    for prefix in ("visual.", ""):
        if {f"{prefix}conv1.weight", f"{prefix}class_embedding"} <= set(shapes):
            return EncoderKind(_side(shapes, f"{prefix}conv1.weight", 0), _side(shapes, f"{prefix}proj", 1), "open_clip", prefix)
    return None


def plan_encoder(shapes: Shapes, kind: EncoderKind) -> NetworkPlan:
    """transformers' ``CLIPVisionModelWithProjection``. Raises ``ShotError`` for shapes that none has.

    Heads and activation are no shapes: they are those of the encoders that people use.
    """
    inner = strip_prefix(shapes, kind.prefix) if kind.prefix else shapes
    patched, positions = (
        ("vision_model.embeddings.patch_embedding.weight", "vision_model.embeddings.position_embedding.weight")
        if kind.layout == "transformers"
        else ("conv1.weight", "positional_embedding")
    )
    block = (
        r"vision_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.weight"
        if kind.layout == "transformers"
        else r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.weight"
    )
    layers = {int(found[1]): name for name in inner if (found := re.fullmatch(block, name))}
    patch, count = _side(inner, patched, 2), _side(inner, positions, 0) - 1
    side = math.isqrt(max(count, 0))
    heads = 12 if kind.hidden == 768 else 16
    if not layers or not patch or side * side != count or count < 1 or kind.hidden % heads or not kind.projection:
        raise ShotError("model", "The picture encoder in the file is built differently from every known one; choose another file.")
    config = {
        "hidden_size": kind.hidden,
        "intermediate_size": _side(inner, next(iter(layers.values())), 0),
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "image_size": patch * side,
        "patch_size": patch,
        "projection_dim": kind.projection,
        # OpenAI's own have it, the larger ones of OpenCLIP do not
        "hidden_act": "quick_gelu" if kind.hidden <= 1024 and kind.hidden in ENCODER_TITLES else "gelu",
    }
    if kind.layout == "transformers":
        return NetworkPlan(
            config, {name: TensorSource(name) for name in inner if name.startswith(("vision_model.", "visual_projection."))}
        )
    return NetworkPlan(config, _list_open_clip_sources(inner, kind.prefix, sorted(layers)))


_OPEN_CLIP_ROOT = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "ln_post.weight": "vision_model.post_layernorm.weight",
    "ln_post.bias": "vision_model.post_layernorm.bias",
}
_OPEN_CLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def _list_open_clip_sources(inner: Mapping[str, Any], prefix: str, layers: list[int]) -> dict[str, TensorSource]:
    found = {ours: TensorSource(prefix + theirs) for theirs, ours in _OPEN_CLIP_ROOT.items() if theirs in inner}
    found["visual_projection.weight"] = TensorSource(f"{prefix}proj", turned=True)
    for n in layers:
        theirs, ours = f"transformer.resblocks.{n}.", f"vision_model.encoder.layers.{n}."
        for end in _ENDS:
            for old, new in _OPEN_CLIP_BLOCK.items():
                if f"{theirs}{old}.{end}" in inner:
                    found[f"{ours}{new}.{end}"] = TensorSource(f"{prefix}{theirs}{old}.{end}")
            if f"{theirs}attn.in_proj_{end}" in inner:
                for part, letter in enumerate("qkv"):
                    found[f"{ours}self_attn.{letter}_proj.{end}"] = TensorSource(f"{prefix}{theirs}attn.in_proj_{end}", part)
    return found
