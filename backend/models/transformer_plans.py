"""Transformers and their ControlNets in single files: whose names a file has, and where each weight of diffusers' network is in it.

People have the transformer alone, under the names of its authors or under diffusers', behind a prefix or none. What shapes do not
tell, such as the angles of positions, is that of a diffusers folder of the family. Free of torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isqrt, prod
from typing import Any

from ...shared.pickled import shorten
from ...shared.shot import ShotError
from .family_layouts import BY_NAME, FamilyLayout
from .networks import NetworkPlan, TensorSource
from .transformer_names import GUIDANCE, NAMES, TEXT, Swapped, rename_layer
from .unet_shape import Shapes

#: what programs put before the names of a transformer's tensors
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
#: (family, how its tensors are named, names that only its transformer has)
_TRANSFORMERS = (
    ("z_image", "original", ("x_pad_token", "cap_embedder.0.weight", "layers.0.attention.qkv.weight")),
    ("z_image", "diffusers", ("x_pad_token", "cap_embedder.0.weight", "layers.0.attention.to_q.weight")),
    ("qwen_image", "diffusers", ("img_in.weight", "txt_norm.weight", "transformer_blocks.0.img_mod.1.weight")),
    ("flux", "original", ("img_in.weight", "vector_in.in_layer.weight", "double_blocks.0.img_attn.qkv.weight")),
    ("flux", "diffusers", ("x_embedder.weight", "single_transformer_blocks.0.proj_mlp.weight")),
    ("sd3", "original", ("pos_embed", "x_embedder.proj.weight", "joint_blocks.0.x_block.attn.qkv.weight")),
    ("sd3", "diffusers", ("pos_embed.proj.weight", "transformer_blocks.0.ff_context.net.0.proj.weight")),
    ("wan_vace", "original", ("vace_blocks.0.before_proj.weight", "patch_embedding.weight", "blocks.0.self_attn.q.weight")),
    ("wan_vace", "diffusers", ("vace_blocks.0.proj_in.weight", "patch_embedding.weight", "blocks.0.attn1.to_q.weight")),
)
#: the same of ControlNets
_CONTROLS = (
    ("z_image", "diffusers", ("control_all_x_embedder.2-1.weight", "control_layers.0.before_proj.weight")),
    ("qwen_image", "diffusers", ("controlnet_blocks.0.weight", "controlnet_x_embedder.weight", "txt_norm.weight")),
    ("flux", "diffusers", ("controlnet_x_embedder.weight", "x_embedder.weight", "time_text_embed.text_embedder.linear_1.weight")),
    ("sd3", "original", ("controlnet_blocks.0.weight", "pos_embed_input.proj.weight", "transformer_blocks.0.attn.qkv.weight")),
    ("sd3", "diffusers", ("controlnet_blocks.0.weight", "pos_embed_input.proj.weight", "transformer_blocks.0.attn.to_q.weight")),
)
#: ends of the names of the numbers that weights of 8 bits are multiplied by
SCALES = (".scale_weight", ".weight_scale")
#: what else lies beside such weights, and is for computing in 8 bits
BESIDE_SCALES = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")


#: all of these
SCALED = (*SCALES, *BESIDE_SCALES)


#: the families whose transformer may be a file alone
READ_ALONE = tuple(NAMES)


@dataclass(frozen=True)
class FoundTransformer:
    """A transformer, or its ControlNet, in a file. ``names`` are original or diffusers, ``shapes`` those behind the ``prefix``."""

    layout: FamilyLayout
    names: str
    prefix: str
    shapes: Shapes


def find_transformer(shapes: Shapes) -> FoundTransformer | None:
    """The transformer of a known family in a file; None where there is none."""
    return None if find_transformer_control(shapes) is not None else _find(shapes, _TRANSFORMERS, PREFIXES)


def find_transformer_control(shapes: Shapes) -> FoundTransformer | None:
    """The ControlNet for a transformer of a known family that a file is; None where it is none."""
    return _find(shapes, _CONTROLS, ())


def _find(
    shapes: Shapes, marks: tuple[tuple[str, str, tuple[str, ...]], ...], prefixes: tuple[str, ...]
) -> FoundTransformer | None:
    for prefix in ("", *prefixes):
        for family, names, needed in marks:
            if all(prefix + name in shapes for name in needed):
                inner = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
                return FoundTransformer(BY_NAME[family], names, prefix, inner)
    return None


def plan_transformer(found: FoundTransformer, config: Mapping[str, Any]) -> NetworkPlan:
    """The transformer in a file. ``config`` is diffusers' of the same family, for what shapes do not tell. Raises ``ShotError``."""
    sources = _list_sources(found)
    plan = _plan(found, config, sources, _TRANSFORMER_CONFIGS[found.layout.name])
    return replace(plan, config=_fit_vace(plan.config, config)) if found.layout.name == "wan_vace" else plan


def plan_transformer_control(found: FoundTransformer, base: Mapping[str, Any], *, refines: bool | None = None) -> NetworkPlan:
    """The ControlNet in a file for a transformer with the configuration ``base``. ``refines`` says whether what lies in it for
    refining counts, which only its numbers tell (``find_deciding``). Raises ``ShotError``."""
    sources = _list_sources(found)
    if found.layout.name == "z_image":
        added = _describe_z_control(found, base, refines)
        if added.get("add_control_noise_refiner") == "control_layers":
            sources = {name: source for name, source in sources.items() if not name.startswith("control_noise_refiner.")}
        return NetworkPlan(added, sources)
    return _plan(found, base, sources, _CONTROL_CONFIGS[found.layout.name])


def _plan(
    found: FoundTransformer,
    config: Mapping[str, Any],
    sources: dict[str, TensorSource],
    describe: Callable[[Shapes], dict[str, Any]],
) -> NetworkPlan:
    shapes = {name: _measure(source, found) for name, source in sources.items()}
    known = {name: value for name, value in config.items() if not name.startswith("_")}
    try:
        return NetworkPlan(known | describe(shapes), sources)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        lacking = shorten(str(error.args[0] if error.args else ""))
        raise ShotError(
            "model", f"The weights of {found.layout.title} in the file are not complete ({lacking}); download it again."
        ) from error


def _measure(source: TensorSource, found: FoundTransformer) -> tuple[int, ...]:
    """The shape of a network's tensor."""
    shape = found.shapes[source.name.removeprefix(found.prefix)]
    if source.part is not None:
        return (shape[0] // source.parts, *shape[1:])
    if source.rows is not None:
        first, last = source.rows
        return ((shape[0] if last is None else last) - first, *shape[1:])
    return shape


def _list_sources(found: FoundTransformer) -> dict[str, TensorSource]:
    names, sources = NAMES[found.layout.name], dict[str, TensorSource]()
    layers = _count(found.shapes, "joint_blocks") if found.layout.name == "sd3" else 0
    for name, shape in found.shapes.items():
        stem, end = name, ""
        for suffix in (".weight", ".bias", ".scale"):
            if name.endswith(suffix):
                stem, end = name[: -len(suffix)], ".weight" if suffix == ".scale" else suffix
        if name.endswith(SCALED):
            continue
        target = rename_layer(stem, names)
        if layers and name.startswith(f"joint_blocks.{layers - 1}.context_block.adaLN_modulation."):
            # the last block of the text ends there, and has only two of six
            assert isinstance(target, str)
            target = Swapped(target)
        source = TensorSource(found.prefix + name, scale=_find_scale(name, found))
        if isinstance(target, str):
            sources[target + end] = replace(source, swapped=isinstance(target, Swapped))
            continue
        if len(target) == 3:
            parts = [replace(source, part=n) for n in range(3)]
        else:
            # queries, keys and values of the network's width, and the rest
            width = found.shapes.get(f"{stem}.weight", shape)[-1]
            edges = [0, width, 2 * width, 3 * width, None]
            parts = [replace(source, rows=(edges[n] or 0, edges[n + 1])) for n in range(4)]
        sources |= {each + end: part for each, part in zip(target, parts, strict=True)}
    return sources


def _find_scale(name: str, found: FoundTransformer) -> str:
    """The tensor that the weights of a name are to be multiplied by; empty without one."""
    if not name.endswith(".weight"):
        return ""
    scales = (name.removesuffix(".weight") + end for end in SCALES)
    return next((found.prefix + scale for scale in scales if prod(found.shapes.get(scale, (0,))) == 1), "")


def find_deciding(found: FoundTransformer) -> str:
    """The tensor whose numbers decide how the ControlNet is built: whether they are all 0; empty where shapes do."""
    name = "control_noise_refiner.0.before_proj.weight"
    return name if found.layout.name == "z_image" and name in found.shapes else ""


def _count(shapes: Shapes, block: str) -> int:
    """The blocks of a name, never more than there are, whatever numbers they have."""
    return len({name.split(".", 2)[1] for name in shapes if re.match(rf"{block}\.\d+\.", name)})


def _count_heads(shapes: Shapes, block: str, width: int) -> dict[str, Any]:
    """How attention is divided, where its heads are normalised each by itself."""
    norm = shapes.get(f"{block}.0.attn.norm_q.weight")
    return {} if norm is None else {"attention_head_dim": norm[0], "num_attention_heads": width // norm[0]}


def _describe_z_image(shapes: Shapes) -> dict[str, Any]:
    width, head = shapes["all_x_embedder.2-1.weight"][0], shapes["layers.0.attention.norm_q.weight"][0]
    return {
        "dim": width,
        "n_layers": _count(shapes, "layers"),
        "n_refiner_layers": _count(shapes, "noise_refiner"),
        "n_heads": width // head,
        "n_kv_heads": shapes["layers.0.attention.to_k.weight"][0] // head,
        "cap_feat_dim": shapes["cap_embedder.0.weight"][0],
    }


def _describe_qwen_image(shapes: Shapes) -> dict[str, Any]:
    width = shapes["img_in.weight"][0]
    return {
        "in_channels": shapes["img_in.weight"][1],
        "num_layers": _count(shapes, "transformer_blocks"),
        "joint_attention_dim": shapes["txt_in.weight"][1],
        **_count_heads(shapes, "transformer_blocks", width),
    }


def _describe_flux(shapes: Shapes) -> dict[str, Any]:
    width = shapes["x_embedder.weight"][0]
    return {
        "in_channels": shapes["x_embedder.weight"][1],
        "num_layers": _count(shapes, "transformer_blocks"),
        "num_single_layers": _count(shapes, "single_transformer_blocks"),
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "pooled_projection_dim": shapes[f"{TEXT}.linear_1.weight"][1],
        "guidance_embeds": f"{GUIDANCE}.linear_1.weight" in shapes,
        **_count_heads(shapes, "transformer_blocks", width),
    }


def _describe_flux_transformer(shapes: Shapes) -> dict[str, Any]:
    channels, given = shapes["proj_out.weight"][0], shapes["x_embedder.weight"][1]
    return _describe_flux(shapes) | {"out_channels": None if channels == given else channels}


def _describe_sd3(shapes: Shapes) -> dict[str, Any]:
    width = shapes["pos_embed.proj.weight"][0]
    twice = {int(name.split(".")[1]) for name in shapes if ".attn2." in name}
    return {
        "in_channels": shapes["pos_embed.proj.weight"][1],
        "num_layers": _count(shapes, "transformer_blocks"),
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "caption_projection_dim": shapes["context_embedder.weight"][0],
        "pooled_projection_dim": shapes[f"{TEXT}.linear_1.weight"][1],
        "pos_embed_max_size": isqrt(shapes["pos_embed.pos_embed"][1]),
        "dual_attention_layers": tuple(sorted(twice)),
        "qk_norm": "rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in shapes else None,
        # Stable Diffusion 3's heads, which are not normalised, have 64 numbers
        **(_count_heads(shapes, "transformer_blocks", width) or {"attention_head_dim": 64, "num_attention_heads": width // 64}),
    }


def _describe_flux_control(shapes: Shapes) -> dict[str, Any]:
    modes = shapes.get("controlnet_mode_embedder.weight")
    hint = shapes.get("input_hint_block.conv_in.weight")
    return _describe_flux(shapes) | {
        "num_mode": None if modes is None else modes[0],
        "conditioning_embedding_channels": None if hint is None else hint[0],
    }


def _describe_qwen_control(shapes: Shapes) -> dict[str, Any]:
    channels = shapes["controlnet_x_embedder.weight"][1]
    return _describe_qwen_image(shapes) | {"extra_condition_channels": channels - shapes["img_in.weight"][1]}


def _describe_sd3_control(shapes: Shapes) -> dict[str, Any]:
    sees_text, places = "context_embedder.weight" in shapes, shapes.get("pos_embed.pos_embed")
    wide = shapes["pos_embed_input.proj.weight"][1]
    found: dict[str, Any] = {
        "num_layers": _count(shapes, "transformer_blocks"),
        "pooled_projection_dim": shapes[f"{TEXT}.linear_1.weight"][1],
        "joint_attention_dim": shapes["context_embedder.weight"][1] if sees_text else None,
        "dual_attention_layers": (),
        "qk_norm": "rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in shapes else None,
        "use_pos_embed": places is not None,
        # of the published ones those that see the text were trained without the pooled one, and the others with it
        "force_zeros_for_pooled_projection": sees_text,
    }
    if sees_text:
        found["caption_projection_dim"] = shapes["context_embedder.weight"][0]
    if places is not None:
        found["pos_embed_max_size"] = isqrt(places[1])
        wide -= shapes["pos_embed.proj.weight"][1]
        found["extra_conditioning_channels"] = wide
    return found


def _describe_z_control(found: FoundTransformer, base: Mapping[str, Any], refines: bool | None) -> dict[str, Any]:
    """The configuration of Z-Image's ControlNet. Its layers are spread evenly over those of the base."""
    shapes, layers, count = found.shapes, int(base.get("n_layers", 30)), _count(found.shapes, "control_layers")
    if not count or layers % count:
        raise ShotError(
            "model",
            f"The ControlNet in the file has {count} layers, which cannot be spread over the {layers} of the model; name its "
            "diffusers folder instead.",
        )
    patches = shapes["control_all_x_embedder.2-1.weight"]
    refiners = _count(shapes, "control_noise_refiner")
    first = patches[1] // 4 == base.get("in_channels", 16)
    # the first version refines what it sees by itself; of the later ones only some have layers for it that do something
    way = "control_noise_refiner" if refines else None if first and not find_deciding(found) else "control_layers"
    return {
        "control_layers_places": [n * (layers // count) for n in range(count)],
        "control_refiner_layers_places": None if way is None else list(range(int(base.get("n_refiner_layers", 2)))),
        "control_in_dim": patches[1] // 4,
        "add_control_noise_refiner": way,
        **{
            name: base[name]
            for name in ("all_patch_size", "all_f_patch_size", "dim", "n_heads", "n_kv_heads", "norm_eps", "qk_norm")
            if name in base
        },
        "n_refiner_layers": refiners or int(base.get("n_refiner_layers", 2)),
    }


def _describe_wan_vace(shapes: Shapes) -> dict[str, Any]:
    patches, seen = shapes["patch_embedding.weight"], shapes["vace_patch_embedding.weight"]
    return {
        "inner_dim": patches[0],
        "in_channels": patches[1],
        "patch_size": tuple(patches[2:]),
        "out_channels": shapes["proj_out.weight"][0] // prod(patches[2:]),
        "vace_in_channels": seen[1],
        "text_dim": shapes["condition_embedder.text_embedder.linear_1.weight"][1],
        "freq_dim": shapes["condition_embedder.time_embedder.linear_1.weight"][1],
        "ffn_dim": shapes["blocks.0.ffn.net.0.proj.weight"][0],
        "num_layers": _count(shapes, "blocks"),
        "vace_count": _count(shapes, "vace_blocks"),
    }


def _fit_vace(config: Mapping[str, Any], folder: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of Wan VACE: heads of as many numbers as the ``folder``'s, and layers that see the depth where its are, or,
    where the folder's model has others, spread evenly, as in the published ones. Raises ``ShotError`` where some were lost."""
    found = dict(config)
    width, count, layers = found.pop("inner_dim"), found.pop("vace_count"), found["num_layers"]
    head, own = int(found.get("attention_head_dim", 128)), list(found.get("vace_layers") or ())
    if not count or not width or width % head:
        raise ShotError("model", "The weights of Wan VACE in the file are not those of any known size; choose another file.")
    # a model as long as the folder's has as many of them
    if own and len(own) != count and folder.get("num_layers") == layers:
        raise ShotError("model", "The weights of Wan VACE in the file are not complete (vace_blocks); download it again.")
    if len(own) != count or max(own) >= layers:
        own = [n * layers // count for n in range(count)]
    return found | {"num_attention_heads": width // head, "attention_head_dim": head, "vace_layers": own}


_TRANSFORMER_CONFIGS: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "z_image": _describe_z_image,
    "qwen_image": _describe_qwen_image,
    "flux": _describe_flux_transformer,
    "sd3": _describe_sd3,
    "wan_vace": _describe_wan_vace,
}
_CONTROL_CONFIGS: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "qwen_image": _describe_qwen_control,
    "flux": _describe_flux_control,
    "sd3": _describe_sd3_control,
}
