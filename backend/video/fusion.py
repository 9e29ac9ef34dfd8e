"""Frames that share one surface: what all frames show at each point of the character is fused, and every frame gets it back.

(SyncMVD, arXiv 2311.12891; SyncTweedies, arXiv 2403.14370; TexPainter.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...shared.shot import FramePasses, Fusion
from .correspondence import shrink
from .guidance import LinearDecoder
from .lattice import SurfaceLattice, SurfaceTexture

#: what is coarser than this many pixels is shading, which stays each frame's own in the last step
BAND_SIGMA = 5.0


class TextureFusion:
    """Corrects clean predictions so that all frames agree on their surfaces, without back-propagation.

    ``lattice`` is the surface of the frames it is for.
    """

    def __init__(
        self,
        passes: FramePasses,
        latent_size: tuple[int, int],
        settings: Fusion,
        steps: int,
        device: torch.device,
        held: SurfaceTexture | None = None,
        *,
        learning: bool = True,
    ) -> None:
        """``latent_size`` is (h, w) of the latents. What ``held`` knows of the surface stays as it is; the rest is fused, or
        without ``learning`` left to each frame, which then depends on no other."""
        self._held, self._learning = held, learning
        self.lattice = SurfaceLattice(passes, device, held.side if held else 0.0)
        self._settings, self._steps = settings, steps
        self._range = range(round(settings.start * steps), round(settings.until * steps))
        count = min(settings.full_steps or len(self._range), len(self._range))
        # the last fusion is a full one, the others are spread evenly before it
        self._full = {self._range[-1 - n * len(self._range) // count] for n in range(count)} if count else set()
        self._coarse_steps = {n for n in self._range if n < round(settings.coarse * steps)} - self._full
        self._coarse: SurfaceLattice | None = None
        if self._coarse_steps:
            small = FramePasses(**{name: shrink(array, *latent_size) for name, array in passes.arrays().items()})
            self._coarse = SurfaceLattice(small, device)
        self._linear: LinearDecoder | None = None

    def active(self, step: int) -> bool:
        """Whether a step is fused."""
        return step in self._full or step in self._coarse_steps

    def sharpness(self, step: int) -> float:
        """How much the better sight counts: all the same at first, nearly the best alone at the end."""
        return self._settings.sharpness * (step + 1) / self._steps

    def _texture(self, lattice: SurfaceLattice, pictures: list[torch.Tensor], sharpness: float) -> torch.Tensor:
        """(cells, 4) what the frames are to show."""
        fused = lattice.texture(pictures, sharpness) if self._learning else None
        if self._held is None:
            return fused if fused is not None else lattice.texture([], 0.0)
        held = lattice.held(self._held if lattice is self.lattice else self._held.coarser(lattice.side))
        return held if fused is None else torch.where(held[:, 3:] > 0, held, fused)

    def correct(
        self,
        clean: torch.Tensor,
        step: int,
        decode: Callable[[torch.Tensor], torch.Tensor],
        encode: Callable[[torch.Tensor], torch.Tensor],
        chunk: int,
    ) -> torch.Tensor:
        """Clean latents (F, C, h, w) whose frames show one texture."""
        if step in self._full or self._coarse is None:
            return self._through_pictures(clean, step, decode, encode, chunk)
        if self._linear is None:
            sample = clean[:: max(1, len(clean) // 4)][:4]
            self._linear = LinearDecoder.fitted(sample, decode(sample))
        pictures = list(self._linear(clean))
        texture = self._texture(self._coarse, pictures, self.sharpness(step))
        change = torch.stack([self._coarse.rendered(texture, n, picture) - picture for n, picture in enumerate(pictures)])
        return clean + self._linear.inverse(change).to(clean.dtype)

    def _through_pictures(
        self,
        clean: torch.Tensor,
        step: int,
        decode: Callable[[torch.Tensor], torch.Tensor],
        encode: Callable[[torch.Tensor], torch.Tensor],
        chunk: int,
    ) -> torch.Tensor:
        """The latents move by the difference of two encodings, so that what the auto-encoder loses is not lost each time."""
        pictures = [picture.float() for rows in clean.split(chunk) for picture in decode(rows)]
        texture = self._texture(self.lattice, pictures, self.sharpness(step))
        out = torch.empty_like(clean)
        for start in range(0, len(clean), chunk):
            rows = range(start, min(start + chunk, len(clean)))
            before = torch.stack([pictures[n] for n in rows])
            after = torch.stack([self.lattice.rendered(texture, n, pictures[n]) for n in rows])
            share = F.interpolate(torch.stack([self.lattice.mask(n) for n in rows]), clean.shape[2:], mode="area")
            change = encode(after.to(clean.dtype)) - encode(before.to(clean.dtype))
            out[start : start + len(rows)] = clean[start : start + len(rows)] + change * (share > 0).to(clean.dtype)
        return out

    def texture(self, pictures: list[torch.Tensor]) -> SurfaceTexture:
        """What the finished pictures (3, H, W) show, beside what was held."""
        fused = self.lattice.freed(self._texture(self.lattice, pictures, self._settings.sharpness))
        return self._held.joined(fused) if self._held else fused

    def finish(self, pictures: list[torch.Tensor]) -> list[torch.Tensor]:
        """Finished pictures (3, H, W) with the detail of the shared texture; their own shading stays in the low band."""
        if not self._settings.finish:
            return pictures
        texture = self._texture(self.lattice, pictures, self._settings.sharpness)
        out = []
        for n, picture in enumerate(pictures):
            mask = self.lattice.mask(n)
            shown = self.lattice.rendered(texture, n, picture)
            own, shared = (_low_band(image.float(), mask) for image in (picture, shown))
            mixed = shown + self._settings.shading * (own - shared)
            edge = _feather(mask)
            out.append(picture * (1 - edge) + mixed * edge)
        return out


def _kernel(sigma: float, device: torch.device) -> torch.Tensor:
    reach = int(3 * sigma)
    x = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    weight = torch.exp(-(x**2) / (2 * sigma**2))
    return weight / weight.sum()


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of (C, H, W), zero outside."""
    kernel = _kernel(sigma, image.device)
    rows = F.conv2d(image[:, None], kernel[None, None, None], padding=(0, len(kernel) // 2))
    return F.conv2d(rows, kernel[None, None, :, None], padding=(len(kernel) // 2, 0))[:, 0]


def _low_band(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The coarse part of an image (3, H, W), averaged inside the mask only."""
    return _blur(image * mask, BAND_SIGMA) / _blur(mask, BAND_SIGMA).clamp(min=1e-4)


def _feather(mask: torch.Tensor) -> torch.Tensor:
    """(1, H, W): 1 inside, falling to 0 at the last pixel of a silhouette, where a frame keeps what it has."""
    inner = -F.max_pool2d(-mask[None], 3, 1, 1)[0]
    return _blur(inner, 0.8) * mask
