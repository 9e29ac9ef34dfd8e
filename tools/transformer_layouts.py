"""Weights of transformers under the names of their authors, as people have them in single files: the other way round than they are
read."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

State = dict[str, torch.Tensor]


def to_original(family: str, state: Mapping[str, torch.Tensor]) -> State:
    """A transformer's weights under its authors' names. Qwen-Image's are diffusers'."""
    writers = {"z_image": _write_z_image, "flux": _write_flux, "sd3": _write_sd3, "wan_vace": _write_wan}
    return writers[family](state) if family in writers else dict(state)


def _write_z_image(state: Mapping[str, torch.Tensor]) -> State:
    found: State = {}
    for name, value in state.items():
        if name.endswith("attention.to_q.weight"):
            stem = name.removesuffix("to_q.weight")
            found[f"{stem}qkv.weight"] = torch.cat([state[f"{stem}to_{letter}.weight"] for letter in "qkv"])
        elif not name.endswith(("attention.to_k.weight", "attention.to_v.weight")):
            name = name.replace("all_x_embedder.2-1.", "x_embedder.").replace("all_final_layer.2-1.", "final_layer.")
            name = name.replace("attention.to_out.0.", "attention.out.")
            found[name.replace("attention.norm_q", "attention.q_norm").replace("attention.norm_k", "attention.k_norm")] = value
    # published files have one that no network reads
    found["norm_final.weight"] = torch.ones(len(state["x_pad_token"].flatten()))
    return found


def _swap(value: torch.Tensor) -> torch.Tensor:
    first, second = value.chunk(2)
    return torch.cat([second, first])


def _join(state: Mapping[str, torch.Tensor], stem: str, names: tuple[str, ...], end: str) -> torch.Tensor:
    return torch.cat([state[f"{stem}.{name}.{end}"] for name in names])


_FLUX_ROOT = (
    ("x_embedder", "img_in"),
    ("context_embedder", "txt_in"),
    ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
    ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
    ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
    ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
    ("time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
    ("time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
    ("proj_out", "final_layer.linear"),
)
_FLUX_DOUBLE = (
    ("norm1.linear", "img_mod.lin"),
    ("norm1_context.linear", "txt_mod.lin"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
)
_QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
_ADDED = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")


def _count(state: Mapping[str, torch.Tensor], block: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(f"{block}.")})


def _write_flux(state: Mapping[str, torch.Tensor]) -> State:
    found: State = {}
    for end in ("weight", "bias"):
        for theirs, ours in _FLUX_ROOT:
            if f"{theirs}.{end}" in state:
                found[f"{ours}.{end}"] = state[f"{theirs}.{end}"]
        found[f"final_layer.adaLN_modulation.1.{end}"] = _swap(state[f"norm_out.linear.{end}"])
        for n in range(_count(state, "transformer_blocks")):
            stem, to = f"transformer_blocks.{n}", f"double_blocks.{n}"
            for theirs, ours in _FLUX_DOUBLE:
                found[f"{to}.{ours}.{end}"] = state[f"{stem}.{theirs}.{end}"]
            found[f"{to}.img_attn.qkv.{end}"] = _join(state, stem, _QKV, end)
            found[f"{to}.txt_attn.qkv.{end}"] = _join(state, stem, _ADDED, end)
        for n in range(_count(state, "single_transformer_blocks")):
            stem, to = f"single_transformer_blocks.{n}", f"single_blocks.{n}"
            found[f"{to}.linear1.{end}"] = _join(state, stem, (*_QKV, "proj_mlp"), end)
            found[f"{to}.linear2.{end}"] = state[f"{stem}.proj_out.{end}"]
            found[f"{to}.modulation.lin.{end}"] = state[f"{stem}.norm.linear.{end}"]
    for name, value in state.items():
        norm = re.match(r"(single_)?transformer_blocks\.(\d+)\.attn\.norm_(added_)?([qk])\.weight$", name)
        if norm is not None:
            what = f"{ {'q': 'query', 'k': 'key'}[norm[4]] }_norm.scale"
            where = (
                f"single_blocks.{norm[2]}.norm" if norm[1] else f"double_blocks.{norm[2]}.{'txt' if norm[3] else 'img'}_attn.norm"
            )
            found[f"{where}.{what}"] = value
    return found


_SD3_ROOT = (
    ("pos_embed.proj", "x_embedder.proj"),
    ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
    ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
    ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
    ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"),
    ("context_embedder", "context_embedder"),
    ("proj_out", "final_layer.linear"),
)
_SD3_BLOCK = (
    ("norm1.linear", "x_block.adaLN_modulation.1"),
    ("norm1_context.linear", "context_block.adaLN_modulation.1"),
    ("attn.to_out.0", "x_block.attn.proj"),
    ("attn.to_add_out", "context_block.attn.proj"),
    ("attn.norm_q", "x_block.attn.ln_q"),
    ("attn.norm_k", "x_block.attn.ln_k"),
    ("attn.norm_added_q", "context_block.attn.ln_q"),
    ("attn.norm_added_k", "context_block.attn.ln_k"),
    ("attn2.to_out.0", "x_block.attn2.proj"),
    ("attn2.norm_q", "x_block.attn2.ln_q"),
    ("attn2.norm_k", "x_block.attn2.ln_k"),
    ("ff.net.0.proj", "x_block.mlp.fc1"),
    ("ff.net.2", "x_block.mlp.fc2"),
    ("ff_context.net.0.proj", "context_block.mlp.fc1"),
    ("ff_context.net.2", "context_block.mlp.fc2"),
)
_QKV2 = ("attn2.to_q", "attn2.to_k", "attn2.to_v")


def _write_sd3(state: Mapping[str, torch.Tensor]) -> State:
    found: State = {"pos_embed": state["pos_embed.pos_embed"]}
    blocks = _count(state, "transformer_blocks")
    for end in ("weight", "bias"):
        for theirs, ours in _SD3_ROOT:
            found[f"{ours}.{end}"] = state[f"{theirs}.{end}"]
        found[f"final_layer.adaLN_modulation.1.{end}"] = _swap(state[f"norm_out.linear.{end}"])
        for n in range(blocks):
            stem, to = f"transformer_blocks.{n}", f"joint_blocks.{n}"
            for theirs, ours in _SD3_BLOCK:
                if f"{stem}.{theirs}.{end}" in state:
                    found[f"{to}.{ours}.{end}"] = state[f"{stem}.{theirs}.{end}"]
            found[f"{to}.x_block.attn.qkv.{end}"] = _join(state, stem, _QKV, end)
            found[f"{to}.context_block.attn.qkv.{end}"] = _join(state, stem, _ADDED, end)
            if f"{stem}.attn2.to_q.{end}" in state:
                found[f"{to}.x_block.attn2.qkv.{end}"] = _join(state, stem, _QKV2, end)
        last = f"joint_blocks.{blocks - 1}.context_block.adaLN_modulation.1.{end}"
        found[last] = _swap(found[last])
    return found


#: (diffusers' parts of names, the authors'), of which the first that is in a name counts
_WAN = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("blocks.*.attn1.to_out.0", "self_attn.o"),
    ("blocks.*.attn2.to_out.0", "cross_attn.o"),
    ("blocks.*.attn1.to_", "self_attn."),
    ("blocks.*.attn2.to_", "cross_attn."),
    ("blocks.*.attn1.", "self_attn."),
    ("blocks.*.attn2.", "cross_attn."),
    ("blocks.*.norm2", "norm3"),
    ("blocks.*.ffn.net.0.proj", "ffn.0"),
    ("blocks.*.ffn.net.2", "ffn.2"),
    ("blocks.*.scale_shift_table", "modulation"),
    ("blocks.*.proj_in", "before_proj"),
    ("blocks.*.proj_out", "after_proj"),
    ("scale_shift_table", "head.modulation"),
    ("proj_out", "head.head"),
)


def _write_wan(state: Mapping[str, torch.Tensor]) -> State:
    found: State = {}
    for name, value in state.items():
        for ours, theirs in _WAN:
            # what stands before a block's own name stays
            start, end = (r"((?:vace_)?blocks\.\d+\.)", ours[9:]) if ours.startswith("blocks.") else ("()", ours)
            changed = re.sub(rf"^{start}{re.escape(end)}", rf"\g<1>{theirs}", name)
            if changed != name:
                name = changed
                break
        found[name] = value
    return found


_SD3_CONTROL = {
    "attn.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
    "norm1.linear": "adaLN_modulation.1",
}


def write_sd3_control(state: Mapping[str, torch.Tensor]) -> State:
    """A ControlNet for Stable Diffusion 3.5 that sees no text, under its authors' names."""
    found: State = {}
    for name, value in state.items():
        block = re.match(r"(transformer_blocks\.\d+)\.(.+)\.(weight|bias)$", name)
        if block is None:
            found[name] = value
        elif block[2] == "attn.to_q":
            found[f"{block[1]}.attn.qkv.{block[3]}"] = _join(state, block[1], _QKV, block[3])
        elif block[2] not in _QKV:
            found[f"{block[1]}.{_SD3_CONTROL[block[2]]}.{block[3]}"] = value
    return found


def scale_to_8_bits(state: Mapping[str, torch.Tensor], *, new: bool = False) -> State:
    """The matrices in blocks as floats of 8 bits with a number each to multiply them by, told in the older or the ``new`` way."""
    found: State = {} if new else {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, value in state.items():
        if not name.endswith(".weight") or value.ndim != 2 or not re.search("blocks|layers", name):
            found[name] = value
            continue
        stem, scale = name.removesuffix(".weight"), value.abs().max() / 448
        found[name] = (value / scale).to(torch.float8_e4m3fn)
        found[f"{stem}.weight_scale" if new else f"{stem}.scale_weight"] = scale.reshape(() if new else (1,))
        if new:
            found[f"{stem}.comfy_quant"] = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
        else:
            found[f"{stem}.scale_input"] = torch.ones(1)
    return found
