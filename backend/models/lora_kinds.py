"""What a LoRA is: who wrote it, by which method it changes weights, for which kind of model, from the names of its tensors."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from .unet_shape import Shapes

#: (method, part of a tensor's name that only it has), the most special first
_METHODS: tuple[tuple[str, str], ...] = (
    ("LoHa", ".hada_w1_"),
    ("LoKr", ".lokr_w"),
    ("GLoRA", ".a1.weight"),
    ("OFT", ".oft_"),
    ("IA3", ".on_input"),
)
#: methods that can be used
USABLE = ("LoRA", "LoCon", "LoHa", "LoKr", "GLoRA", "IA3", "full difference")
_DORA = (".dora_scale", "lora_magnitude_vector")
_DOWN = (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight", "_lora.down.weight")
_DOWN_ENDS = (*_DOWN, ".lora_linear_layer.down.weight")
#: how the names of modules begin in files of kohya's scripts, LyCORIS, diffusers and ComfyUI
_STARTS = ("lora_", "lycoris_", "unet.", "text_encoder", "diffusion_model.", "base_model.model.", "transformer_blocks.", "blocks.")
#: what there is in the names of a text encoder's modules, and of those of Stable Diffusion's UNets
_TEXT = re.compile(r"^lora_te|^lycoris_te|text_encoder|text_model|^clip_[lgh]\.|^te\d?\.|^bundle_emb\.")
_BLOCKS = re.compile(
    r"(down|up|input|output)_blocks[._]\d|mid_block|middle_block|conv_(in|out|norm_out)|time_embed|(label|add)_emb|(?<!to)[._]out[._]\d"
)
#: what the attention of LTX-2's transformer is called, whose blocks lie in no other, and how wide it is; others are narrower
_LTX = re.compile(
    r"^(model\.|diffusion_model\.|transformer\.|base_model\.|lora_unet_|lora_transformer_|lycoris_)*"
    r"transformer_blocks[._]\d+[._](audio_)?attn[12][._]"
)
_LTX_WIDTH = 4096
#: what programs put before the names of a transformer's layers
_TRANSFORMER_STARTS = re.compile(
    r"^((base_model\.)?model\.|diffusion_model\.|transformer\.|unet\.|lora_unet_|lora_transformer_|lycoris_(unet_)?|lora_)+"
)
#: (family, what the name of one of its transformer's layers begins with, where dots are underscores), the most special first
_TRANSFORMERS = tuple(
    (family, re.compile(pattern))
    for family, pattern in (
        (
            "flux",
            r"(double_blocks_\d+_(img|txt|processor)|single_blocks_\d+_(linear|modulation|processor|qkv)|single_transformer_blocks_\d)",
        ),
        ("sd3", r"joint_blocks_\d+_(x|context)_block_"),
        ("qwen_image", r"transformer_blocks_\d+_(img|txt)_(mlp|mod)_"),
        ("z_image", r"(layers|noise_refiner|context_refiner)_\d+_(attention|feed_forward|adaLN_modulation)_"),
        ("wan_vace", r"(vace_)?blocks_\d+_(self_attn|cross_attn|attn[12]|ffn)_"),
    )
)
#: layers of the text encoder that only transformers have
_T5 = re.compile(r"encoder[._]block[._]\d+[._]layer[._]\d")
#: attention as several families call it, and how wide it is in those of which the names alone do not tell
_JOINT = re.compile(r"transformer_blocks_(\d+)_(attn|attn2|ff|ff_context|norm1|norm1_context)_")
_JOINT_WIDTHS = {1536: "sd3", 2432: "sd3"}
#: blocks that FLUX.1 has not
_BEYOND_FLUX = re.compile(r"single_blocks_(3[89]|[4-9]\d|\d{3,})_|double_blocks_(19|[2-9]\d|\d{3,})_")
#: the blocks of FLUX.1 with this attention; Qwen-Image, which is as wide, has more
_FLUX_BLOCKS, _FLUX_WIDTH = 19, 3072
#: width of what the text gives the UNet -> family
_CONTEXTS = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl_refiner"}


@dataclass(frozen=True)
class LoraKind:
    """``layout`` is kohya, diffusers or PEFT; ``method`` LoRA, LoCon, LoHa and others, ``dora`` whether it scales weights anew;
    ``family`` may be empty; ``rank`` the most frequent one, 0 where the method has none; ``parts`` what it changes."""

    layout: str
    method: str
    dora: bool
    family: str
    rank: int
    parts: tuple[str, ...]


def find_lora_kind(shapes: Shapes) -> LoraKind | None:
    """The kind of a LoRA, None for what is none. ``shapes``: name -> shape."""
    downs = {name: shape for name, shape in shapes.items() if _is_down(name)}
    method = next((title for title, mark in _METHODS if any(mark in name for name in shapes)), "")
    if not method and not downs:
        # weights that are added whole, beside nothing else
        if not any(name.startswith(_STARTS) and name.endswith((".diff", ".diff_b", ".w_norm", ".b_norm")) for name in shapes):
            return None
        method = "full difference"
    if not method:
        convolved = any(len(shape) == 4 and shape[2:] != (1, 1) for shape in downs.values())
        method = "LoCon" if convolved or any(".lora_mid." in name for name in shapes) else "LoRA"
    ranks = Counter(shape[0] for shape in downs.values() if shape)
    ranks.update(shape[0] for name, shape in shapes.items() if name.endswith(".hada_w1_b") and shape)
    return LoraKind(
        _find_layout(shapes),
        method,
        any(mark in name for name in shapes for mark in _DORA),
        _find_family(shapes),
        ranks.most_common(1)[0][0] if ranks else 0,
        _find_parts(shapes),
    )


def _is_down(name: str) -> bool:
    """Whether a tensor is the first of the two factors; PEFT may have the name of an adapter in its name."""
    return name.endswith(_DOWN_ENDS) or bool(re.search(r"\.lora_A\.[\w-]+\.weight$", name))


def _find_layout(shapes: Shapes) -> str:
    if any(name.startswith(("lora_unet", "lora_te", "lycoris_")) for name in shapes):
        return "kohya"
    return "PEFT" if any(".lora_A." in name for name in shapes) else "diffusers"


def _find_parts(shapes: Shapes) -> tuple[str, ...]:
    marks = {
        "unet": (
            *("lora_unet", "unet.", "lycoris_unet", "base_model.model.", "diffusion_model.", "model.diffusion_model."),
            *("down_blocks.", "mid_block.", "up_blocks."),
        ),
        "text_encoder": (
            "lora_te_",
            "lora_te1_",
            "text_encoder.",
            "lycoris_te_",
            "lycoris_te1_",
            "clip_l.",
            "text_encoders.clip_l.",
        ),
        "text_encoder_2": ("lora_te2_", "text_encoder_2.", "lycoris_te2", "clip_g.", "text_encoders.clip_g."),
    }
    return tuple(part for part, starts in marks.items() if any(name.startswith(starts) for name in shapes))


def _find_transformer(shapes: Shapes) -> str | None:
    """The family of the transformer that a file changes, ``joint`` where several have such layers; None where it is none that is
    known."""
    plain = {_TRANSFORMER_STARTS.sub("", name).replace(".", "_"): shape for name, shape in shapes.items() if not _TEXT.search(name)}
    for family, pattern in _TRANSFORMERS:
        if any(map(pattern.match, plain)):
            # HunyuanVideo calls its layers alike, and has more of them
            return "other" if family == "flux" and any(map(_BEYOND_FLUX.match, plain)) else family
    found = [(int(match[1]), shape) for name, shape in plain.items() if (match := _JOINT.match(name))]
    if not found:
        return None
    widths = {side for _, shape in found for side in shape}
    for width, family in _JOINT_WIDTHS.items():
        if width in widths:
            return family
    if _FLUX_WIDTH in widths and max(number for number, _ in found) >= _FLUX_BLOCKS:
        return "qwen_image"
    return "joint"


def _find_family(shapes: Shapes) -> str:
    names = list(shapes)
    of_ltx = [name for name in names if _LTX.match(name)]
    if of_ltx:
        return "ltx2" if any(_LTX_WIDTH in shapes[name] or "audio_attn" in name for name in of_ltx) else "other"
    if any("motion_modules" in name or name.startswith("lora_prior_") for name in names):
        return "other"
    of_transformer = _find_transformer(shapes)
    if of_transformer is not None:
        return of_transformer
    if any(name.startswith(("transformer.", "lora_transformer")) for name in names):
        return "other"
    of_unet = [name for name in names if not _TEXT.search(name)]
    # OFT's and others may have any name before those of the modules
    if of_unet and not any(_BLOCKS.search(name) for name in of_unet) and any(name.startswith(_STARTS) for name in of_unet):
        return "other"
    if any(re.search(r"(double|joint|single)_(transformer_)?blocks", name) for name in names):
        return "other"
    if any(map(_T5.search, names)):
        return "joint"
    if any(name.startswith(("lora_te2_", "text_encoder_2.", "clip_g.")) for name in names):
        return "sdxl"
    for name, shape in shapes.items():
        if re.search(r"attn2[_.](to_k|processor\.to_k|to_v|processor\.to_v)", name) and len(shape) in (2, 4):
            takes_input = _is_down(name) or name.endswith(".hada_w1_b")
            if takes_input and shape[1] in _CONTEXTS:
                return _CONTEXTS[shape[1]]
    # only SDXL has several transformers in a block, and none in its first
    if any(re.search(r"transformer_blocks[_.]([1-9])", name) for name in names):
        return "sdxl"
    if any(re.search(r"down_blocks[_.]0[_.]attentions|input_blocks[_.]1[_.]1[_.]", name) for name in names):
        return "sd1_or_sd2"
    return ""
