"""IP-Adapters and CLIP's picture encoders as their authors publish them, shrunk: random weights in the original layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

State = dict[str, torch.Tensor]
#: of the shrunk encoder: numbers of a patch, and of a picture
HIDDEN, PROJECTION = 32, 24


def make_encoder(hidden: int = HIDDEN, projection: int = PROJECTION) -> CLIPVisionModelWithProjection:
    """A shrunk picture encoder with the heads of the large ones."""
    config = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=16,
        image_size=32,
        patch_size=8,
        projection_dim=projection,
        hidden_act="gelu",
    )
    return CLIPVisionModelWithProjection(config).eval()


def make_adapter(unet: Any, variant: str = "plain", tokens: int = 4, seed: int = 0) -> dict[str, State]:
    """The two dictionaries of an adapter's file. Layers are numbered as the original program does: every attention counts, those
    to the text have weights."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * shape[-1] ** -0.5

    def norm(name: str, width: int) -> State:
        return {f"{name}.weight": 1 + 0.1 * draw(width), f"{name}.bias": 0.1 * draw(width)}

    context = unet.config.cross_attention_dim
    layers: State = {}
    for number, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            layers |= {f"{number}.to_{letter}_ip.weight": 2 * draw(width, context) for letter in "kv"}
    if variant == "plain":
        picture = {"proj.weight": draw(tokens * context, PROJECTION), "proj.bias": draw(tokens * context), **norm("norm", context)}
    elif variant == "full":
        picture = {"proj.0.weight": draw(HIDDEN, HIDDEN), "proj.0.bias": draw(HIDDEN), "proj.2.weight": draw(context, HIDDEN)}
        picture |= {"proj.2.bias": draw(context), **norm("proj.3", context)}
    elif variant == "faceid":
        picture = {"proj.0.weight": draw(1024, 512), "proj.0.bias": draw(1024), "proj.2.weight": draw(4 * context, 1024)}
        picture |= {"proj.2.bias": draw(4 * context), **norm("norm", context)}
    else:
        # heads of 64 numbers, the feed-forward part four times as wide
        width, inner = 48, 128
        picture = {"latents": draw(1, tokens, width), "proj_in.weight": draw(width, HIDDEN), "proj_in.bias": draw(width)}
        picture |= {"proj_out.weight": draw(context, width), "proj_out.bias": draw(context), **norm("norm_out", context)}
        for n in range(4):
            picture |= norm(f"layers.{n}.0.norm1", width) | norm(f"layers.{n}.0.norm2", width) | norm(f"layers.{n}.1.0", width)
            picture |= {f"layers.{n}.0.to_q.weight": draw(inner, width), f"layers.{n}.0.to_kv.weight": draw(2 * inner, width)}
            picture |= {f"layers.{n}.0.to_out.weight": draw(width, inner)}
            picture |= {f"layers.{n}.1.1.weight": draw(4 * width, width), f"layers.{n}.1.3.weight": draw(width, 4 * width)}
    return {"image_proj": picture, "ip_adapter": layers}


def write_adapter(path: Path, parts: dict[str, State]) -> Path:
    """Flat in a .safetensors, nested in what ``torch.save`` writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({f"{part}.{name}": value.contiguous() for part, state in parts.items() for name, value in state.items()}, path)
    else:
        torch.save(parts, path)
    return path


def encoder_to_open_clip(encoder: CLIPVisionModelWithProjection) -> State:
    """The encoder's tensors as OpenCLIP has them, with a rest of the text's half."""
    state = {name.removeprefix("vision_model."): value for name, value in encoder.state_dict().items()}
    found = {
        "visual.class_embedding": state["embeddings.class_embedding"],
        "visual.conv1.weight": state["embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state["embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
        "logit_scale": torch.tensor(4.6),
        "token_embedding.weight": torch.zeros(8, 4),
    }
    for theirs, ours in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
        found |= {f"visual.{theirs}.{end}": state[f"{ours}.{end}"] for end in ("weight", "bias")}
    for n in range(encoder.config.num_hidden_layers):
        for end in ("weight", "bias"):
            own, block = f"encoder.layers.{n}.", f"visual.transformer.resblocks.{n}."
            heads = [state[f"{own}self_attn.{letter}_proj.{end}"] for letter in "qkv"]
            found[f"{block}attn.in_proj_{end}"] = torch.cat(heads)
            for theirs, ours in (
                ("attn.out_proj", "self_attn.out_proj"),
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                found[f"{block}{theirs}.{end}"] = state[f"{own}{ours}.{end}"]
    return {name: value.detach().clone().contiguous() for name, value in found.items()}
