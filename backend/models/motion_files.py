"""Motion modules of AnimateDiff in single files, under their authors' names or diffusers'. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import gcd

from ...shared.shot import ShotError
from .motion_kinds import CLASS
from .networks import NetworkPlan, TensorSource
from .unet_shape import Shapes

#: what is changed in the authors' names
_RENAMED = (
    (".temporal_transformer.", "."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
)
#: what shapes do not tell: the heads of the published modules, and the groups that their channels are normalised in, or as many
#: fewer as they can be
_HEADS, _GROUPS = 8, 32
#: places of the clip in time, which are waves and nothing learned, so that the network has them already
_PLACES = re.compile(r"\.(pos_encoder|pos_embed)\.pe$")
_FIRST = re.compile(r"((?:.*\.)?)down_blocks\.0\.motion_modules\.0\.(?:temporal_transformer\.)?norm\.weight$")
_BLOCK = re.compile(r"(down_blocks|up_blocks|mid_block)\.(?:(\d+)\.)?motion_modules\.(\d+)\.(?:transformer_blocks\.(\d+)\.)?")


def is_motion_module(shapes: Shapes) -> bool:
    """Whether the tensors of a file are a motion module, and no whole network with one."""
    return _find_prefix(shapes) is not None and not any(".resnets." in name or "lora" in name for name in shapes)


def plan_motion_module(shapes: Shapes) -> NetworkPlan:
    """The motion module in a file. Raises ``ShotError`` for one that is not complete."""
    sources, sizes, places = dict[str, TensorSource](), dict[str, tuple[int, ...]](), 0
    prefix = _find_prefix(shapes) or ""
    for own, shape in shapes.items():
        if _PLACES.search(own):
            places = max(places, shape[-2] if len(shape) > 1 and shape[-1] else 0)
            continue
        if not own.startswith(prefix):
            continue
        name = own[len(prefix) :]
        for theirs, ours in _RENAMED:
            name = name.replace(theirs, ours)
        sources[name], sizes[name] = TensorSource(own), shape
    blocks = [found for found in map(_BLOCK.match, sizes) if found is not None]
    levels, middle = _count(blocks, "down_blocks", 2), _count(blocks, "mid_block", 3)
    try:
        channels = [sizes[f"down_blocks.{n}.motion_modules.0.norm.weight"][0] for n in range(levels)]
    except (KeyError, IndexError) as error:
        raise ShotError("motion_module", "The motion module in the file is not complete; download it again.") from error
    picture = sizes.get("conv_in.weight")
    config = {
        "block_out_channels": channels,
        "motion_layers_per_block": _count(blocks, "down_blocks", 3),
        "motion_transformer_layers_per_block": _count(blocks, "down_blocks", 4),
        "motion_mid_block_layers_per_block": middle or 1,
        "motion_transformer_layers_per_mid_block": _count(blocks, "mid_block", 4) or 1,
        "use_motion_mid_block": bool(middle),
        "motion_num_attention_heads": _HEADS,
        "motion_norm_num_groups": gcd(_GROUPS, *channels),
        "motion_max_seq_length": places or 32,
        "conv_in_channels": picture[1] if picture is not None and len(picture) > 1 else None,
    }
    return NetworkPlan({"_class_name": CLASS} | config, sources)


def _find_prefix(shapes: Shapes) -> str | None:
    """What stands before the names of a module, such as that of the network it was in; None where there is none."""
    return next((found[1] for found in map(_FIRST.match, shapes) if found is not None), None)


def list_places(names: Iterable[str]) -> list[str]:
    """Those of a file's tensors that say where in a clip a frame is, and are not read."""
    return [name for name in names if _PLACES.search(name)]


def _count(blocks: list[re.Match[str]], kind: str, group: int) -> int:
    """How many of something there are in blocks of a kind, by the different numbers in a group of their names."""
    return len({found[group] for found in blocks if found[1] == kind and found[group]})
