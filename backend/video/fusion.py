"""Frames that share one surface: what all frames show at each point of the character is fused, and every frame gets it back.

The surface is kept as a sparse lattice of cells in rest space, so that any mesh works, with or without texture coordinates,
without seams, and with several objects at once. Splatting and reading are trilinear and linear in the number of pixels.
(SyncMVD, arXiv 2311.12891; SyncTweedies, arXiv 2403.14370; TexPainter.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from shared.shot import FramePasses, Fusion

from .correspondence import shrink, surface_frames
from .guidance import LinearDecoder

#: side of a cell in typical pixel footprints
CELL = 1.0
#: pixels from the silhouette over which a pixel's say grows from nothing: there it mixes two surfaces
FEATHER = 3.0
#: what is coarser than this many pixels is shading, which stays each frame's own in the last step
BAND_SIGMA = 5.0
#: cells that all frames together saw less than this are left as they are
LEAST_WEIGHT = 1e-3


class SurfaceLattice:
    """The cells that each frame's pixels lie between, and how well each pixel sees its point."""

    def __init__(self, passes: FramePasses, device: torch.device) -> None:
        frames, height, width = passes.mask.shape
        self._shape, self._device = (height, width), device
        prepared = surface_frames(passes)
        sizes = [frame.footprint for frame in prepared if len(frame.pixels)]
        side = CELL * float(np.median(sizes)) if sizes else 1.0
        keys, weights, quality, pixels, owner = [], [], [], [], []
        for n, frame in enumerate(prepared):
            place = frame.key / side
            low = np.floor(place).astype(np.int64)
            part = place - low
            corners = np.stack([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
            share = np.where(corners[None] == 1, part[:, None], 1 - part[:, None]).prod(-1)
            keys.append(_packed(low[:, None] + corners[None], frame.ids[:, None]))
            weights.append(share.astype(np.float32))
            area = np.linalg.norm(np.cross(frame.across, frame.down), axis=1)
            inside = distance_transform_edt(passes.surface_index[n] > 0).ravel()[frame.pixels]
            feather = np.clip((inside - 0.5) / FEATHER, 0.02, 1)
            # a pixel that covers little surface sees it from near and from the front
            quality.append(np.where(area > 0, side**2 / np.maximum(area, side**2 * 1e-2), 0.02) * feather**2)
            pixels.append(frame.pixels)
            owner.append(np.full(len(frame.pixels), n))
        found, index = np.unique(np.concatenate(keys).ravel(), return_inverse=True)
        #: the number of cells
        self.cells = len(found)
        counts = np.cumsum([0, *(len(p) for p in pixels)])
        index = index.reshape(-1, 8)
        self._index = [torch.from_numpy(index[a:b]).to(device) for a, b in pairwise(counts)]
        self._weight = [torch.from_numpy(w).to(device) for w in weights]
        self._quality = [torch.from_numpy(q.astype(np.float32)).to(device) for q in quality]
        self._pixels = [torch.from_numpy(p).to(device) for p in pixels]
        # the best sight of each cell, to which others are compared
        best = torch.zeros(self.cells, device=device)
        for n in range(frames):
            spread = (self._quality[n][:, None] * (self._weight[n] > 0.05)).flatten()
            best.scatter_reduce_(0, self._index[n].flatten(), spread, "amax")
        self._best = best.clamp(min=1e-9)

    def _say(self, frame: int, sharpness: float) -> torch.Tensor:
        """(N, 8) how much each pixel's colour counts in its cells; the better sight counts more the greater ``sharpness``."""
        relative = (self._quality[frame][:, None] / self._best[self._index[frame]]).clamp(1e-4, 1)
        return self._weight[frame] * relative**sharpness

    def texture(self, pictures: Iterable[torch.Tensor], sharpness: float) -> torch.Tensor:
        """(cells, 4) weighted colours and weights of what the frames' pictures (3, H, W) show."""
        total = torch.zeros((self.cells, 4), device=self._device)
        for n, picture in enumerate(pictures):
            colour = picture.flatten(1)[:, self._pixels[n]].T.float()
            say = self._say(n, sharpness).flatten()
            values = torch.cat([colour, torch.ones_like(colour[:, :1])], 1).repeat_interleave(8, 0) * say[:, None]
            total.index_add_(0, self._index[n].flatten(), values)
        return total

    def rendered(self, texture: torch.Tensor, frame: int, picture: torch.Tensor) -> torch.Tensor:
        """(3, H, W): a frame's picture with its surfaces showing the texture."""
        seen = (texture[self._index[frame]] * self._weight[frame][..., None]).sum(1)
        known = seen[:, 3] > LEAST_WEIGHT * self._weight[frame].sum(1)
        out = picture.float().flatten(1).clone()
        colour = seen[:, :3] / seen[:, 3:].clamp(min=1e-9)
        out[:, self._pixels[frame][known]] = colour[known].T
        return out.view_as(picture)

    def mask(self, frame: int) -> torch.Tensor:
        """(1, H, W) float32: 1 where a frame shows a surface."""
        out = torch.zeros(self._shape[0] * self._shape[1], device=self._device)
        out[self._pixels[frame]] = 1.0
        return out.view(1, *self._shape)


def _packed(cell: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """One integer for each lattice place (..., 3) of an object; places up to half a million cells from the origin."""
    x, y, z = (np.clip(cell[..., axis] + (1 << 17), 0, (1 << 18) - 1) for axis in range(3))
    return (((ids & 0x1FF) << 18 | x) << 18 | y) << 18 | z


class TextureFusion:
    """Corrects clean predictions so that all frames agree on their surfaces, without back-propagation."""

    def __init__(self, passes: FramePasses, latent_size: tuple[int, int], settings: Fusion, steps: int,
                 device: torch.device) -> None:
        """``latent_size`` is (h, w) of the latents."""
        self._lattice = SurfaceLattice(passes, device)
        self._settings, self._steps = settings, steps
        self._range = range(round(settings.start * steps), round(settings.until * steps))
        count = min(settings.full_steps or len(self._range), len(self._range))
        # the last fusion is a full one, the others are spread evenly before it
        self._full = {self._range[-1 - n * len(self._range) // count] for n in range(count)} if count else set()
        self._coarse_steps = {n for n in self._range if n < round(settings.coarse * steps)} - self._full
        coarse = {name: shrink(array, *latent_size) for name, array in passes.arrays().items()}
        self._coarse = SurfaceLattice(FramePasses(**coarse), device) if self._coarse_steps else None
        self._linear: LinearDecoder | None = None

    def active(self, step: int) -> bool:
        """Whether a step is fused."""
        return step in self._full or step in self._coarse_steps

    def sharpness(self, step: int) -> float:
        """How much the better sight counts: all the same at first, nearly the best alone at the end."""
        return self._settings.sharpness * (step + 1) / self._steps

    def correct(self, clean: torch.Tensor, step: int, decode: Callable[[torch.Tensor], torch.Tensor],
                encode: Callable[[torch.Tensor], torch.Tensor], chunk: int) -> torch.Tensor:
        """Clean latents (F, C, h, w) whose frames show one texture."""
        if step in self._full or self._coarse is None:
            return self._through_pictures(clean, step, decode, encode, chunk)
        if self._linear is None:
            sample = clean[:: max(1, len(clean) // 4)][:4]
            self._linear = LinearDecoder.fitted(sample, decode(sample))
        pictures = list(self._linear(clean))
        texture = self._coarse.texture(pictures, self.sharpness(step))
        change = torch.stack([self._coarse.rendered(texture, n, picture) - picture for n, picture in enumerate(pictures)])
        return clean + self._linear.inverse(change).to(clean.dtype)

    def _through_pictures(self, clean: torch.Tensor, step: int, decode: Callable[[torch.Tensor], torch.Tensor],
                          encode: Callable[[torch.Tensor], torch.Tensor], chunk: int) -> torch.Tensor:
        """The latents move by the difference of two encodings, so that what the auto-encoder loses is not lost each time."""
        pictures = [picture.float() for rows in clean.split(chunk) for picture in decode(rows)]
        texture = self._lattice.texture(pictures, self.sharpness(step))
        out = torch.empty_like(clean)
        for start in range(0, len(clean), chunk):
            rows = range(start, min(start + chunk, len(clean)))
            before = torch.stack([pictures[n] for n in rows])
            after = torch.stack([self._lattice.rendered(texture, n, pictures[n]) for n in rows])
            share = F.interpolate(torch.stack([self._lattice.mask(n) for n in rows]), clean.shape[2:], mode="area")
            change = encode(after.to(clean.dtype)) - encode(before.to(clean.dtype))
            out[start:start + len(rows)] = clean[start:start + len(rows)] + change * (share > 0).to(clean.dtype)
        return out

    def finish(self, pictures: list[torch.Tensor]) -> list[torch.Tensor]:
        """Finished pictures (3, H, W) with the detail of the shared texture; their own shading stays in the low band."""
        texture = self._lattice.texture(pictures, self._settings.sharpness)
        out = []
        for n, picture in enumerate(pictures):
            mask = self._lattice.mask(n)
            shown = self._lattice.rendered(texture, n, picture)
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
