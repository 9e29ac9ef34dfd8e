"""Plans, as in ``networks``, of the auto-encoders and text encoders of Stable Diffusion and SDXL."""

from __future__ import annotations

import re
from typing import Any

from .networks import GROUPS, HEAD_WIDTH, NetworkPlan, TensorSource, refuse_shape
from .unet_shape import Shapes

#: entries of CLIP's vocabulary, the marks of begin and end being the last
WORDS = 49408
#: (width, layers) of Stable Diffusion 2.x's text encoder without its last layer
SD2_WITHOUT_LAST = (1024, 23)
#: what latents are divided by, so that they have about unit variance
SCALING = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
_SIZES = {"sd1": 512, "sd2": 768, "sdxl": 1024}
_VAE = (
    (r"encoder\.down\.(\d+)\.block\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2."),
    (r"encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
    (r"mid\.block_1\.", "mid_block.resnets.0."),
    (r"mid\.block_2\.", "mid_block.resnets.1."),
    (r"mid\.attn_1\.", "mid_block.attentions.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"coder\.norm_out\.", "coder.conv_norm_out."),
    # within the attention layer, in the original layout and in that of early versions of diffusers
    (r"(attentions\.0)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.0)\.(q|query)\.", r"\1.to_q."),
    (r"(attentions\.0)\.(k|key)\.", r"\1.to_k."),
    (r"(attentions\.0)\.(v|value)\.", r"\1.to_v."),
    (r"(attentions\.0)\.(proj_out|proj_attn)\.", r"\1.to_out.0."),
)
_OPEN_CLIP = (
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^transformer\.resblocks\.(\d+)\.", r"encoder.layers.\1."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^ln_final\.", "final_layer_norm."),
)


def _substitute(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name


def _highest(shapes: Shapes, pattern: str) -> int:
    """The highest number that a pattern finds in the names; -1 for none."""
    return max((int(found[1]) for name in shapes if (found := re.match(pattern, name))), default=-1)


def plan_vae(shapes: Shapes, prefix: str, family: str) -> NetworkPlan:
    """The auto-encoder of a family (``sd1``, ``sd2`` or ``sdxl``) in either layout. Raises ``ShotError``."""
    last = _highest(shapes, r"decoder\.up\.(\d+)\.")

    def rename(name: str) -> str:
        # the original counts the levels of both halves from the picture
        name = re.sub(r"decoder\.up\.(\d+)\.block\.", lambda m: f"decoder.up_blocks.{last - int(m[1])}.resnets.", name)
        name = re.sub(r"decoder\.up\.(\d+)\.upsample\.", lambda m: f"decoder.up_blocks.{last - int(m[1])}.upsamplers.0.", name)
        return _substitute(name, _VAE)

    sources = {rename(name): TensorSource(prefix + name) for name in shapes}
    renamed = {rename(name): shape for name, shape in shapes.items()}
    levels = _highest(renamed, r"encoder\.down_blocks\.(\d+)\.") + 1
    outs = [renamed.get(f"encoder.down_blocks.{n}.resnets.0.conv2.weight", ()) for n in range(levels)]
    inner, first = renamed.get("decoder.conv_in.weight", ()), renamed.get("encoder.conv_in.weight", ())
    if not levels or any(len(shape) != 4 or shape[0] % GROUPS for shape in outs) or len(inner) != 4 or len(first) != 4:
        raise refuse_shape("auto-encoder")
    config: dict[str, Any] = {
        "in_channels": first[1],
        "out_channels": first[1],
        "block_out_channels": [shape[0] for shape in outs],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": _highest(renamed, r"encoder\.down_blocks\.0\.resnets\.(\d+)\.") + 1,
        "latent_channels": inner[1],
        "norm_num_groups": GROUPS,
        "sample_size": _SIZES[family],
        "scaling_factor": SCALING[family],
        # only SDXL's overflows in half precision
        "force_upcast": family == "sdxl",
        "use_quant_conv": "quant_conv.weight" in renamed,
        "use_post_quant_conv": "post_quant_conv.weight" in renamed,
    }
    return NetworkPlan(config, sources)


def plan_clip(shapes: Shapes, prefix: str, activation: str = "quick_gelu") -> NetworkPlan:
    """A text encoder as transformers names it, with or without ``text_model.`` in front of the names. Raises ``ShotError``."""
    plain = {name.removeprefix("text_model."): name for name in shapes}
    named = {name: shapes[old] for name, old in plain.items()}
    sources = {name: TensorSource(prefix + old) for name, old in plain.items() if not name.endswith("position_ids")}
    return NetworkPlan(_make_text_config(named, activation, named.get("text_projection.weight", (0,))[0]), sources)


def plan_open_clip(shapes: Shapes, prefix: str, penultimate: bool) -> NetworkPlan:
    """A text encoder as OpenCLIP names it. ``penultimate`` leaves out the last layer, which Stable Diffusion 2.x does not use, and
    what comes behind it. Raises ``ShotError``."""
    last = _highest(shapes, r"transformer\.resblocks\.(\d+)\.")
    # some programs write 2.x's checkpoints without the layer that is not used
    width = shapes.get("ln_final.weight", (0,))[0]
    unused = last if penultimate and (width, last + 1) != SD2_WITHOUT_LAST else last + 1
    sources: dict[str, TensorSource] = {}
    for name in shapes:
        if name in ("logit_scale", "attn_mask"):
            continue
        if name == "text_projection" or name == "text_projection.weight":
            if not penultimate:
                sources["text_projection.weight"] = TensorSource(prefix + name, turned=name == "text_projection")
            continue
        if name.startswith(f"transformer.resblocks.{unused}."):
            continue
        new = _substitute(name, _OPEN_CLIP)
        fused = re.match(r"(.*)\.attn\.in_proj_(weight|bias)$", new)
        if fused:
            for n, letter in enumerate("qkv"):
                sources[f"{fused[1]}.self_attn.{letter}_proj.{fused[2]}"] = TensorSource(prefix + name, part=n)
        else:
            sources[new] = TensorSource(prefix + name)
    whole = {new: source.name for new, source in sources.items() if source.part is None and not source.turned}
    named = {new: shapes[name.removeprefix(prefix)] for new, name in whole.items()}
    projection = shapes.get("text_projection", shapes.get("text_projection.weight", (0,))[::-1])
    return NetworkPlan(_make_text_config(named, "gelu", 0 if penultimate or not projection else projection[-1]), sources)


def _make_text_config(named: Shapes, activation: str, projection: int) -> dict[str, Any]:
    words, places = named.get("embeddings.token_embedding.weight", ()), named.get("embeddings.position_embedding.weight", ())
    inner = named.get("encoder.layers.0.mlp.fc1.weight", ())
    if len(words) != 2 or len(places) != 2 or len(inner) != 2 or words[1] % HEAD_WIDTH or words[0] < WORDS:
        raise refuse_shape("text encoder")
    return {
        "vocab_size": words[0],
        "hidden_size": words[1],
        "intermediate_size": inner[0],
        "num_hidden_layers": _highest(named, r"encoder\.layers\.(\d+)\.") + 1,
        "num_attention_heads": words[1] // HEAD_WIDTH,
        "max_position_embeddings": places[0],
        "projection_dim": projection or words[1],
        "hidden_act": activation,
        "bos_token_id": WORDS - 2,
        "eos_token_id": WORDS - 1,
        "pad_token_id": WORDS - 1,
    }
