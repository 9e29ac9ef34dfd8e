"""What models of clips that take pictures beside the depth are shown of a kept look: a view of its character for reference, and in
each frame what it knows of the surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ...shared.passes import FramePasses
from ..models.adapter import KnownSurface
from .edges import weigh_inside
from .lattice import SurfaceLattice
from .light import Light, apply_gain
from .look import Look
from .propagation import init_from_texture
from .selection import select_frames
from .techniques import ClipContext
from .techniques.fusion import TextureFusion

#: what is left free around the character in a view, as a fraction of its longer side
_MARGIN = 0.05


@dataclass(frozen=True)
class ShownLook:
    """``views`` (R, 3, H, W) in [-1, 1] on white, None without any; ``surface`` is asked for the known surface of the clip's
    frames, a few at a time, so that memory stays flat."""

    views: torch.Tensor | None
    surface: KnownSurfaceOfClip | None

    def draw_surface(self, frames: Sequence[int]) -> KnownSurface | None:
        """What is known of the surface in some of the clip's own frames."""
        return None if self.surface is None else self.surface.draw(frames)


@dataclass(frozen=True)
class KnownSurfaceOfClip:
    """What a look knows of the surface that a clip's frames show, in the look's light."""

    look: Look
    context: ClipContext
    fusion: TextureFusion

    def draw(self, frames: Sequence[int]) -> KnownSurface:
        """Trusted colours, three pixels within outlines, of some frames: beside these a pixel mixes two things."""
        lattice, context = self.fusion.lattice, self.context
        texture = lattice.read_textures(self.look.worn_texture, None)
        gains = self.fusion.compute_gains(self.look.light)
        pictures, known = [], []
        for n in frames:
            empty = torch.zeros((3, *context.own_passes.mask.shape[1:]), device=context.device)
            picture, seen = lattice.paint(texture, n, empty)
            inside = torch.from_numpy(weigh_inside(context.own_passes.surface_index[n]) >= 1).to(seen.device)
            pictures.append(apply_gain(picture, gains[n]).clamp(-1, 1))
            known.append((seen & inside)[None])
        return KnownSurface(torch.stack(pictures).to(context.dtype), torch.stack(known).to(context.dtype))


def make_shown_look(look: Look | None, context: ClipContext, fusion: TextureFusion | None) -> ShownLook | None:
    """What the context's model is shown of a look that the clip's ``fusion`` keeps to; None where it takes no such pictures, or is
    to be shown none."""
    if look is None or fusion is None or not context.model.family.takes_looks:
        return None
    shown = fusion.settings.show_look
    size = (context.request.height, context.request.width)
    view = draw_view(look, size, context.device, context.own_passes) if shown in ("view", "both") else None
    surface = KnownSurfaceOfClip(look, context, fusion) if shown in ("surface", "both") else None
    return None if view is None and surface is None else ShownLook(None if view is None else view[None], surface)


def draw_view(look: Look, size: tuple[int, int], device: torch.device, shot: FramePasses | None = None) -> torch.Tensor | None:
    """(3, H, W) float32 in [-1, 1]: a look's character as its first key frame shows it, on white, as large as a ``size`` (H, W)
    allows. Where that frame shows none, as with a look that was made of a costume, it is the frame of the ``shot`` that shows most
    of it; None where there is none either."""
    view = _draw_frame(look, look.anchor.passes, size, device)
    if view is None and shot is not None:
        seen = ((shot.mask > 0) & (shot.surface_index > 0)).sum((1, 2))
        view = _draw_frame(look, select_frames(shot, [int(seen.argmax())]), size, device)
    return view


def _draw_frame(look: Look, passes: FramePasses, size: tuple[int, int], device: torch.device) -> torch.Tensor | None:
    """What a look knows of the surfaces in a frame; None where that is nothing."""
    shown = passes.surface_index[0]
    if not (shown > 0).any():
        return None
    lattice = SurfaceLattice(passes, device, look.texture.side, blends=False)
    white = [np.full((*shown.shape, 3), 255, np.uint8)]
    _, known = lattice.paint(lattice.read_textures(look.worn_texture, look.filled), 0, torch.ones((3, *shown.shape), device=device))
    # surfaces of which it knows nothing, such as other characters, are no part of it
    surface = (shown > 0) & np.isin(shown, shown[known.cpu().numpy()])
    if not surface.any():
        return None
    gain = (look.light or Light.even()).compute_gain(passes, 0, device)
    picture = init_from_texture(look, lattice, white, [gain])[0].clamp(-1, 1)
    picture = torch.where(torch.from_numpy(surface).to(device), picture, torch.ones_like(picture))
    return fit_on_white(picture[(slice(None), *_find_window(surface))], size)


def fit_on_white(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(3, H, W): a picture (3, h, w) in [-1, 1] in the middle of a white one of a ``size`` (H, W), as large as fits."""
    scale = min(wanted / own for wanted, own in zip(size, picture.shape[1:], strict=True))
    inner = [max(1, min(wanted, int(own * scale))) for wanted, own in zip(size, picture.shape[1:], strict=True)]
    small = F.interpolate(picture[None], inner, mode="bilinear", align_corners=False, antialias=True)[0]
    top, left = ((wanted - own) // 2 for wanted, own in zip(size, inner, strict=True))
    out = torch.ones((3, *size), dtype=picture.dtype, device=picture.device)
    out[:, top : top + inner[0], left : left + inner[1]] = small
    return out


def _find_window(there: np.ndarray) -> tuple[slice, slice]:
    """The smallest window around what is there (H, W) bool, with a margin as far as the picture goes."""
    rows, columns = (np.flatnonzero(there.any(axis)) for axis in (1, 0))
    margin = 1 + round(_MARGIN * max(np.ptp(rows), np.ptp(columns)))
    first, second = (slice(max(0, int(line[0]) - margin), int(line[-1]) + 1 + margin) for line in (rows, columns))
    return first, second
