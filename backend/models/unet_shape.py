"""Which kind of Stable Diffusion a UNet, or a ControlNet made of one, is: from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: numbers that each of SDXL's sizes becomes; it is told 6 of them, the refiner 5
TIME_ID_WIDTH = 256

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class UNetShape:
    """``layout`` is ``original`` or ``diffusers``; ``added`` the width of what is added to the time embedding, 0 for nothing."""

    layout: str
    in_channels: int
    context: int
    linear: bool
    added: int

    @property
    def family(self) -> str:
        """``sd1``, ``sd2``, ``sdxl`` or ``sdxl_refiner``."""
        if self.added:
            if self.added - 5 * TIME_ID_WIDTH == self.context:
                return "sdxl_refiner"
            # image variations of SD 2 add a picture's embedding, and no sizes
            return "sd2" if self.context == 1024 and self.added in (1024, 1536, 2048) else "sdxl"
        return "sd2" if self.linear else "sd1"

    @property
    def is_unclip(self) -> bool:
        """Whether it is one for variations of a picture."""
        return self.family == "sd2" and self.added > 0


def find_unet_shape(shapes: Shapes) -> UNetShape | None:
    """The shape of a network whose tensors are named from its root, None for what is none. ``shapes``: name -> shape."""
    if len(shapes.get("input_blocks.0.0.weight", ())) == 4:
        layout, first, added = "original", "input_blocks.0.0.weight", "label_emb.0.0.weight"
    elif len(shapes.get("conv_in.weight", ())) == 4 and any(name.startswith("down_blocks.") for name in shapes):
        layout, first = "diffusers", "conv_in.weight"
        added = next((n for n in ("add_embedding.linear_1.weight", "class_embedding.linear_1.weight") if n in shapes), "")
    else:
        return None
    crossed = [shape for name, shape in shapes.items() if name.endswith("attn2.to_k.weight") and len(shape) == 2]
    if not crossed:
        return None
    linear = any(name.endswith(".proj_in.weight") and len(shape) == 2 for name, shape in shapes.items())
    wide = shapes.get(added, ())
    return UNetShape(layout, shapes[first][1], crossed[0][1], linear, wide[1] if len(wide) == 2 else 0)


def strip_prefix(shapes: Shapes, *prefixes: str) -> dict[str, tuple[int, ...]]:
    """What lies under the first of some prefixes that there is, without it."""
    for prefix in prefixes:
        found = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
        if found:
            return found
    return {}
