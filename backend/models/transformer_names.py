"""What the layers of transformers and their ControlNets are called: by their authors, and by diffusers. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


class Swapped(str):
    """A name whose tensor has its two halves the other way round."""


Target = str | tuple[str, ...]


@dataclass(frozen=True)
class Names:
    """The authors' names, without their last part, and diffusers': of tensors at the root, and of those in numbered blocks. What
    is not listed is called alike. Several names share the rows of one tensor."""

    root: Mapping[str, Target] = field(default_factory=dict)
    blocks: Mapping[str, tuple[str, Mapping[str, Target]]] = field(default_factory=dict)


def _split(attention: str) -> tuple[str, ...]:
    return tuple(f"{attention}.to_{letter}" for letter in "qkv")


_Z_BLOCK: dict[str, Target] = {
    "attention.qkv": _split("attention"),
    "attention.out": "attention.to_out.0",
    "attention.q_norm": "attention.norm_q",
    "attention.k_norm": "attention.norm_k",
}
_Z_IMAGE = Names(
    {
        "x_embedder": "all_x_embedder.2-1",
        "final_layer.linear": "all_final_layer.2-1.linear",
        "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
    },
    {name: (name, _Z_BLOCK) for name in ("layers", "noise_refiner", "context_refiner", "control_layers", "control_noise_refiner")},
)
_TIME, TEXT, GUIDANCE = (f"time_text_embed.{what}_embedder" for what in ("timestep", "text", "guidance"))
_ADDED = tuple(f"attn.add_{letter}_proj" for letter in "qkv")
_FLUX = Names(
    {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "time_in.in_layer": f"{_TIME}.linear_1",
        "time_in.out_layer": f"{_TIME}.linear_2",
        "vector_in.in_layer": f"{TEXT}.linear_1",
        "vector_in.out_layer": f"{TEXT}.linear_2",
        "guidance_in.in_layer": f"{GUIDANCE}.linear_1",
        "guidance_in.out_layer": f"{GUIDANCE}.linear_2",
        "final_layer.linear": "proj_out",
        "final_layer.adaLN_modulation.1": Swapped("norm_out.linear"),
    },
    {
        "double_blocks": (
            "transformer_blocks",
            {
                "img_mod.lin": "norm1.linear",
                "txt_mod.lin": "norm1_context.linear",
                "img_attn.qkv": _split("attn"),
                "txt_attn.qkv": _ADDED,
                "img_attn.norm.query_norm": "attn.norm_q",
                "img_attn.norm.key_norm": "attn.norm_k",
                "txt_attn.norm.query_norm": "attn.norm_added_q",
                "txt_attn.norm.key_norm": "attn.norm_added_k",
                "img_attn.proj": "attn.to_out.0",
                "txt_attn.proj": "attn.to_add_out",
                "img_mlp.0": "ff.net.0.proj",
                "img_mlp.2": "ff.net.2",
                "txt_mlp.0": "ff_context.net.0.proj",
                "txt_mlp.2": "ff_context.net.2",
            },
        ),
        "single_blocks": (
            "single_transformer_blocks",
            {
                "modulation.lin": "norm.linear",
                "linear1": (*_split("attn"), "proj_mlp"),
                # a part of it, which LoRAs may change alone
                "qkv": _split("attn"),
                "linear2": "proj_out",
                "norm.query_norm": "attn.norm_q",
                "norm.key_norm": "attn.norm_k",
            },
        ),
    },
)
_SD3_BLOCK: dict[str, Target] = {
    "x_block.adaLN_modulation.1": "norm1.linear",
    "context_block.adaLN_modulation.1": "norm1_context.linear",
    "x_block.attn.qkv": _split("attn"),
    "x_block.attn.proj": "attn.to_out.0",
    "x_block.attn.ln_q": "attn.norm_q",
    "x_block.attn.ln_k": "attn.norm_k",
    "x_block.attn2.qkv": _split("attn2"),
    "x_block.attn2.proj": "attn2.to_out.0",
    "x_block.attn2.ln_q": "attn2.norm_q",
    "x_block.attn2.ln_k": "attn2.norm_k",
    "context_block.attn.qkv": _ADDED,
    "context_block.attn.proj": "attn.to_add_out",
    "context_block.attn.ln_q": "attn.norm_added_q",
    "context_block.attn.ln_k": "attn.norm_added_k",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
}
#: those of ControlNets that see no text
_SD3_CONTROL_BLOCK: dict[str, Target] = {
    "attn.qkv": _split("attn"),
    "attn.proj": "attn.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
_SD3 = Names(
    {
        "pos_embed": "pos_embed.pos_embed",
        "x_embedder.proj": "pos_embed.proj",
        "t_embedder.mlp.0": f"{_TIME}.linear_1",
        "t_embedder.mlp.2": f"{_TIME}.linear_2",
        "y_embedder.mlp.0": f"{TEXT}.linear_1",
        "y_embedder.mlp.2": f"{TEXT}.linear_2",
        "final_layer.linear": "proj_out",
        "final_layer.adaLN_modulation.1": Swapped("norm_out.linear"),
    },
    {
        "joint_blocks": ("transformer_blocks", _SD3_BLOCK),
        "transformer_blocks": ("transformer_blocks", _SD3_CONTROL_BLOCK),
    },
)
_WAN_BLOCK: dict[str, Target] = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    # as a trainer turns diffusers' name into theirs where it has no dots
    "self_attn.to_out.0": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.to_out.0": "attn2.to_out.0",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
    "before_proj": "proj_in",
    "after_proj": "proj_out",
}
_WAN_FACE: dict[str, Target] = {
    "linear1_q": "to_q",
    "linear1_kv": ("to_k", "to_v"),
    "linear2": "to_out",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}
_WAN = Names(
    {
        "time_embedding.0": "condition_embedder.time_embedder.linear_1",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2",
        "time_projection.1": "condition_embedder.time_proj",
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "text_embedding.2": "condition_embedder.text_embedder.linear_2",
        "head.modulation": "scale_shift_table",
        "head.head": "proj_out",
        **{
            f"img_emb.proj.{number}": f"condition_embedder.image_embedder.{layer}"
            for number, layer in ((0, "norm1"), (1, "ff.net.0.proj"), (3, "ff.net.2"), (4, "norm2"))
        },
    },
    {name: (name, _WAN_BLOCK) for name in ("blocks", "vace_blocks")} | {"face_adapter.fuser_blocks": ("face_adapter", _WAN_FACE)},
)
#: the layer that in the last block of Stable Diffusion 3 has its halves the other way round
SD3_LAST = "context_block.adaLN_modulation.1"
NAMES: dict[str, Names] = {"z_image": _Z_IMAGE, "qwen_image": Names(), "flux": _FLUX, "sd3": _SD3, "wan_vace": _WAN}


def rename_layer(stem: str, names: Names) -> Target:
    """Diffusers' name of a layer, or the names of those whose rows it holds, for its authors' name."""
    block = re.match(r"([a-z_.]+?)\.(\d+)\.(.+)$", stem)
    if block is None or block[1] not in names.blocks:
        return names.root.get(stem, stem)
    called, table = names.blocks[block[1]]
    target = table.get(block[3], block[3])
    if isinstance(target, str):
        return f"{called}.{block[2]}.{target}"
    return tuple(f"{called}.{block[2]}.{each}" for each in target)


def name_original_layers(family: str, layers: Collection[str]) -> dict[str, Target]:
    """The authors' names of a network's ``layers``, which diffusers calls otherwise or divides: authors' -> diffusers'."""
    # Wan's models have the same blocks
    names, found = NAMES.get("wan_vace" if family.startswith("wan") else family, Names()), dict[str, Target]()
    for original, target in names.root.items():
        if target in layers:
            found[original] = target
    numbers = {called: _list_numbers(called, layers) for called, _ in names.blocks.values()}
    for block, (called, table) in names.blocks.items():
        for number in numbers[called]:
            for original in table:
                title = f"{block}.{number}.{original}"
                target = rename_layer(title, names)
                if isinstance(target, str) and number == numbers[called][-1] and original == SD3_LAST:
                    target = Swapped(target)
                if target in layers if isinstance(target, str) else all(each in layers for each in target):
                    found[title] = target
    return found


def _list_numbers(block: str, layers: Collection[str]) -> list[str]:
    """The numbers of the blocks of a name."""
    return list(dict.fromkeys(layer.split(".", 2)[1] for layer in layers if layer.startswith(f"{block}.")))
