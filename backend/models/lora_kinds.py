"""What a LoRA is: who wrote it, by which method it changes weights, for which kind of model, from the names of its tensors."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

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
#: such attention that only it has, and what other attention lies in the same blocks of Stable Diffusion 3
_LTX_ALONE = re.compile(r"transformer_blocks[._]\d+[._](audio_attn[12]|attn1)[._]")
_BESIDE_SECOND = re.compile(r"transformer_blocks_\d+_(attn|ff_context|norm1_context)_")
#: what programs put before the names of a transformer's layers, one or several of them
TRANSFORMER_STARTS = (
    *("lora_unet_", "lora_transformer_", "lycoris_unet_", "lycoris_", "lora_"),
    *("pipe.dit.", "model.diffusion_model.", "diffusion_model.", "base_model.model.", "transformer.", "unet.", "model."),
)
#: all of these at once; some write a dot too much, which is then two
_TRANSFORMER_STARTS = re.compile(rf"^(?:(?:{'|'.join(map(re.escape, TRANSFORMER_STARTS))})_?)+")
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
        ("wan_vace", r"(vace_)?blocks_\d+_((self|cross)_attn_(?!(q|k|v|output)_proj)|attn[12]_|ffn_|diff_m|norm\d_)"),
    )
)
#: layers of the text encoder that only transformers have
_T5 = re.compile(r"encoder[._]block[._]\d+[._]layer[._]\d")
#: attention as several families call it, and how wide it is in those of which the names alone do not tell
_JOINT = re.compile(r"transformer_blocks_(\d+)_(attn|attn2|ff|ff_context|norm1|norm1_context)_")
_JOINT_WIDTHS = {1536: "sd3", 2432: "sd3"}
#: blocks that FLUX.1 has not, and layers of those that are built like it: HunyuanVideo, Chroma, FLUX.2
_BEYOND_FLUX = re.compile(
    r"single_(transformer_)?blocks_(3[89]|[4-9]\d|\d{3,})_|(double|transformer)_blocks_(19|[2-9]\d|\d{3,})_"
    r"|double_blocks_\d+_(img|txt)_(mlp_fc\d|mod_linear|attn_[qk]_norm)_|single_blocks_\d+_modulation_linear_"
    r"|individual_token_refiner_|distilled_guidance_layer_|(double|single)_stream_modulation_|.+_attn_to_qkv_mlp_proj_|.+_ff_linear_in_"
)
#: the same in names with dots
_BEYOND_FLUX_DOTTED = re.compile(r"double_blocks\.\d+\.(img|txt)_attn_")
#: other models whose names are taken for those of these families: what begins so, where dots are underscores
_OTHERS = re.compile(r"joint_transformer_blocks_\d+_|blocks_\d+_(self|cross)_attn_(q|k|v|output)_proj_")
#: how wide the layers of Lumina are, which have Z-Image's names
_LUMINA_WIDTH = 2304
#: what trainers call other models that are built like these
_ARCHITECTURES = re.compile(
    r"(?<![a-z])(chroma|hunyuan|framepack|flux[-_. ]?2(?!\d)|lumina|hidream|aura[-_ ]?flow|sana|cosmos|anima)(?![a-su-z])",
    re.IGNORECASE,
)
#: the blocks of FLUX.1 with this attention; Qwen-Image, which is as wide, has more
_FLUX_BLOCKS, _FLUX_WIDTH = 19, 3072
#: width of what the text gives the UNet -> family
_CONTEXTS = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl_refiner"}


#: a LoRA's file as PEFT calls it, without its end, and the file beside it with what is written about it
_PEFT = ("adapter_model", "adapter_config.json")


def find_scaling_file(path: Path) -> Path | None:
    """Where PEFT writes the alphas of a LoRA's file; None for one that is none of its."""
    return path.with_name(_PEFT[1]) if path.stem == _PEFT[0] else None


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


def names_other_model(text: str) -> bool:
    """Whether what a trainer wrote of the base model is another one, whose layers have the names of these families'."""
    return bool(_ARCHITECTURES.search(text))


def _is_down(name: str) -> bool:
    """Whether a tensor is the first of the two factors; PEFT may have the name of an adapter in its name, XLabs has numbers."""
    return name.endswith(_DOWN_ENDS) or bool(re.search(r"\.lora_A(\.[\w-]+){1,2}\.weight$|_lora[12]\.down\.weight$", name))


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
    dotted = {_TRANSFORMER_STARTS.sub("", name): shape for name, shape in shapes.items() if not _TEXT.search(name)}
    plain = {name.replace(".", "_"): shape for name, shape in dotted.items()}
    if any(map(_OTHERS.match, plain)):
        return "other"
    for family, pattern in _TRANSFORMERS:
        if any(map(pattern.match, plain)):
            is_beyond = any(map(_BEYOND_FLUX.match, plain)) or any(map(_BEYOND_FLUX_DOTTED.match, dotted))
            is_lumina = family == "z_image" and any(_LUMINA_WIDTH in shape for shape in plain.values())
            return "other" if (family == "flux" and is_beyond) or is_lumina else family
    found = [(int(match[1]), shape) for name, shape in plain.items() if (match := _JOINT.match(name))]
    if not found:
        return None
    widths = {side for _, shape in found for side in shape}
    for width, family in _JOINT_WIDTHS.items():
        if width in widths:
            return family
    if any("_attn2_" in name for name in plain) and any(map(_BESIDE_SECOND.match, plain)):
        return "sd3"
    if _FLUX_WIDTH in widths and max(number for number, _ in found) >= _FLUX_BLOCKS:
        return "qwen_image"
    return "joint"


def _find_family(shapes: Shapes) -> str:
    names = list(shapes)
    of_ltx = [name for name in names if _LTX.match(name)]
    # the second attention of Stable Diffusion 3.5 lies beside one without a number
    is_sd3 = not any(map(_LTX_ALONE.search, of_ltx)) and _find_transformer(shapes) == "sd3"
    if of_ltx and not is_sd3:
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
