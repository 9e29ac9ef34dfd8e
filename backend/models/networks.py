"""Plans of networks, from the names and shapes of the tensors in a file: their diffusers configuration, and where each of their
tensors is in the file. For UNets and ControlNets, in the original layout and in diffusers'. Free of torch.

What shapes do not tell is the family's: Stable Diffusion 1.x has 8 attention heads everywhere, the others heads of 64 numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...shared.shot import ShotError
from .unet_shape import TIME_ID_WIDTH, Shapes, UNetShape, find_unet_shape

HEAD_WIDTH, SD1_HEADS = 64, 8
GROUPS = 32
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ROOT = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "input_hint_block.0": "controlnet_cond_embedding.conv_in",
    "middle_block_out.0": "controlnet_mid_block",
}


@dataclass(frozen=True)
class TensorSource:
    """Where a network's tensor is: the file's tensor ``name``, of that the ``part`` of ``parts`` equal ones when it is not None,
    or the ``rows`` from one to before another (None for the end); ``turned`` when its two axes are the other way round,
    ``swapped`` when the halves of its rows are. ``scale`` is the file's tensor with a number to multiply it by, empty for none."""

    name: str
    part: int | None = None
    turned: bool = False
    parts: int = 3
    rows: tuple[int, int | None] | None = None
    swapped: bool = False
    scale: str = ""


@dataclass(frozen=True)
class NetworkPlan:
    """A network to be made: its diffusers (or transformers) configuration, and the sources of its tensors by their names."""

    config: Mapping[str, Any]
    sources: Mapping[str, TensorSource]


@dataclass(frozen=True)
class _Level:
    """A level on the way down: channels, residual blocks, and transformers in each of its attention layers (0 without)."""

    channels: int
    blocks: int
    depth: int


def refuse_shape(what: str) -> ShotError:
    """The error for a network whose shapes fit no known architecture."""
    return ShotError("model", f"The {what} in the file is built differently from every known one; choose another file.")


def plan_unet(shapes: Shapes, prefix: str) -> NetworkPlan:
    """The UNet whose tensors' names begin with ``prefix`` in the file and with nothing in ``shapes``. Raises ``ShotError``."""
    shape, levels, middle = _measure(shapes, "UNet")
    config = _make_config(shape, levels, middle, shapes) | {
        "out_channels": shapes[{"original": "out.2.weight", "diffusers": "conv_out.weight"}[shape.layout]][0],
        "up_block_types": ["CrossAttnUpBlock2D" if level.depth else "UpBlock2D" for level in reversed(levels)],
    }
    return NetworkPlan(config, _find_sources(shapes, prefix, shape, levels))


def plan_controlnet(shapes: Shapes, prefix: str) -> NetworkPlan:
    """As ``plan_unet``, a ControlNet."""
    shape, levels, middle = _measure(shapes, "ControlNet")
    hint = "input_hint_block" if shape.layout == "original" else "controlnet_cond_embedding"
    places = _count(shapes, rf"{hint}\.(\d+)\." if shape.layout == "original" else rf"{hint}\.blocks\.(\d+)\.")
    if shape.layout == "original":
        # every second is an activation; the last is the layer to the UNet's channels
        first, inner = "input_hint_block.0.weight", [f"input_hint_block.{n}.weight" for n in range(2, max(places, default=0), 2)]
    else:
        first, inner = f"{hint}.conv_in.weight", [f"{hint}.blocks.{n}.weight" for n in range(len(places))]
    if any(name not in shapes for name in (first, *inner)):
        raise refuse_shape("ControlNet")
    config = _make_config(shape, levels, middle, shapes) | {
        "conditioning_channels": shapes[first][1],
        "conditioning_embedding_out_channels": [shapes[first][0], *(shapes[name][0] for name in inner[1::2])],
    }
    return NetworkPlan(config, _find_sources(shapes, prefix, shape, levels))


def _count(shapes: Shapes, pattern: str) -> list[int]:
    """The numbers that a pattern finds in the names, each once, in their order."""
    return sorted({int(found[1]) for name in shapes if (found := re.match(pattern, name))})


def _measure(shapes: Shapes, what: str) -> tuple[UNetShape, list[_Level], int]:
    """The shape, the levels, and the transformers in the middle."""
    shape = find_unet_shape(shapes)
    if shape is None:
        raise refuse_shape(what)
    levels = list(_walk_original(shapes) if shape.layout == "original" else _walk_diffusers(shapes))
    start = "middle_block.1" if shape.layout == "original" else "mid_block.attentions.0"
    middle = len(_count(shapes, re.escape(start) + r"\.transformer_blocks\.(\d+)\."))
    if not levels or not middle or len({level.blocks for level in levels}) != 1 or any(level.channels % GROUPS for level in levels):
        raise refuse_shape(what)
    return shape, levels, middle


def _walk_original(shapes: Shapes) -> Iterator[_Level]:
    channels = blocks = depth = 0
    for n in _count(shapes, r"input_blocks\.(\d+)\.")[1:]:
        if f"input_blocks.{n}.0.op.weight" in shapes:
            yield _Level(channels, blocks, depth)
            channels = blocks = depth = 0
            continue
        out = shapes.get(f"input_blocks.{n}.0.out_layers.3.weight", ())
        transformers = len(_count(shapes, rf"input_blocks\.{n}\.1\.transformer_blocks\.(\d+)\."))
        if len(out) != 4 or (blocks and (out[0], transformers) != (channels, depth)):
            raise refuse_shape("network")
        channels, blocks, depth = out[0], blocks + 1, transformers
    if blocks:
        yield _Level(channels, blocks, depth)


def _walk_diffusers(shapes: Shapes) -> Iterator[_Level]:
    for level in _count(shapes, r"down_blocks\.(\d+)\."):
        blocks = _count(shapes, rf"down_blocks\.{level}\.resnets\.(\d+)\.")
        out = shapes.get(f"down_blocks.{level}.resnets.0.conv2.weight", ())
        depths = {
            len(_count(shapes, rf"down_blocks\.{level}\.attentions\.{n}\.transformer_blocks\.(\d+)\.")) for n in range(len(blocks))
        }
        if len(out) != 4 or len(depths) != 1:
            raise refuse_shape("network")
        yield _Level(out[0], len(blocks), depths.pop())


def _make_config(shape: UNetShape, levels: list[_Level], middle: int, shapes: Shapes) -> dict[str, Any]:
    # the middle has as many transformers as the last level, also where that has none
    depths = [level.depth or 1 for level in levels[:-1]] + [levels[-1].depth or middle]
    widths = [level.channels for level in levels]
    heads = [width // HEAD_WIDTH for width in widths]
    if depths[-1] != middle or (shape.family != "sd1" and any(width % HEAD_WIDTH for width in widths)):
        raise refuse_shape("network")
    config: dict[str, Any] = {
        "in_channels": shape.in_channels,
        "block_out_channels": widths,
        "layers_per_block": levels[0].blocks,
        "down_block_types": ["CrossAttnDownBlock2D" if level.depth else "DownBlock2D" for level in levels],
        "cross_attention_dim": shape.context,
        "transformer_layers_per_block": depths,
        "attention_head_dim": SD1_HEADS if shape.family == "sd1" else heads,
        "use_linear_projection": shape.linear,
        "norm_num_groups": GROUPS,
    }
    if shape.family == "sd2":
        # its attention overflows in half precision
        config["upcast_attention"] = True
    if shape.added:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": TIME_ID_WIDTH,
            "projection_class_embeddings_input_dim": shape.added,
        }
    return config


def _find_sources(shapes: Shapes, prefix: str, shape: UNetShape, levels: list[_Level]) -> dict[str, TensorSource]:
    """The sources of all tensors; one that has no place keeps its name, so that it is missed nowhere and named as left over."""
    if shape.layout == "diffusers":
        return {name: TensorSource(prefix + name) for name in shapes}
    starts = _ROOT | dict(_name_blocks(shapes, levels))
    if shapes.keys() & {"input_hint_block.0.weight"}:
        places = _count(shapes, r"input_hint_block\.(\d+)\.")
        starts |= {f"input_hint_block.{n}": f"controlnet_cond_embedding.blocks.{n // 2 - 1}" for n in places[1:-1]}
        starts[f"input_hint_block.{places[-1]}"] = "controlnet_cond_embedding.conv_out"
        starts |= {f"zero_convs.{n}.0": f"controlnet_down_blocks.{n}" for n in _count(shapes, r"zero_convs\.(\d+)\.")}
    return {_rename(name, starts): TensorSource(prefix + name) for name in shapes}


def _name_blocks(shapes: Shapes, levels: list[_Level]) -> Iterator[tuple[str, str]]:
    """(beginning of a name in the original layout, in diffusers') of the blocks on the way down and up."""
    blocks = levels[0].blocks
    for index in range(len(levels)):
        for n in range(blocks):
            place = 1 + index * (blocks + 1) + n
            yield f"input_blocks.{place}.0", f"down_blocks.{index}.resnets.{n}"
            yield f"input_blocks.{place}.1", f"down_blocks.{index}.attentions.{n}"
        yield f"input_blocks.{(index + 1) * (blocks + 1)}.0.op", f"down_blocks.{index}.downsamplers.0.conv"
        for n in range(blocks + 1):
            place = index * (blocks + 1) + n
            yield f"output_blocks.{place}.0", f"up_blocks.{index}.resnets.{n}"
            # behind the residual block comes an attention layer, if any, and then what makes the picture larger
            if f"output_blocks.{place}.1.conv.weight" in shapes:
                yield f"output_blocks.{place}.1.conv", f"up_blocks.{index}.upsamplers.0.conv"
            else:
                yield f"output_blocks.{place}.1", f"up_blocks.{index}.attentions.{n}"
            yield f"output_blocks.{place}.2.conv", f"up_blocks.{index}.upsamplers.0.conv"


def _rename(name: str, starts: Mapping[str, str]) -> str:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        new = starts.get(".".join(parts[:count]))
        if new is None:
            continue
        rest = ".".join(parts[count:])
        if ".resnets." in new:
            inner = next((old for old in _RESNET if rest.startswith(old + ".")), None)
            rest = _RESNET[inner] + rest[len(inner) :] if inner else rest
        return f"{new}.{rest}"
    return name


def name_original_modules(modules: Collection[str]) -> dict[str, str]:
    """The names in the original layout of a UNet's modules by their names in diffusers', for those that have one."""
    shapes: Shapes = dict.fromkeys(modules, ())
    levels, blocks = len(_count(shapes, r"down_blocks\.(\d+)\.")), len(_count(shapes, r"down_blocks\.0\.resnets\.(\d+)\."))
    if not levels or not blocks:
        return {}
    starts = {new: old for old, new in (*_ROOT.items(), *_name_blocks({}, [_Level(0, blocks, 0)] * levels))}
    for index in range(levels):
        # it stands behind the attention layer, where there is one
        place = 2 if any(name.startswith(f"up_blocks.{index}.attentions.") for name in modules) else 1
        starts[f"up_blocks.{index}.upsamplers.0.conv"] = f"output_blocks.{index * (blocks + 1) + blocks}.{place}.conv"
    inner = {new: old for old, new in _RESNET.items()}
    found = {}
    for name in modules:
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            old = starts.get(".".join(parts[:count]))
            if old is not None:
                rest = ".".join(parts[count:])
                found[name] = f"{old}.{inner.get(rest, rest)}" if rest else old
                break
    return found
