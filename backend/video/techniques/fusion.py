"""Frames that share one surface: what all frames show at each point of the character is fused, and every frame gets it back.

(SyncMVD, arXiv 2311.12891; SyncTweedies, arXiv 2403.14370; TexPainter.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ....shared.passes import FramePasses
from ....shared.shot import Fusion
from ..blurring import blur
from ..correspondence import shrink
from ..edges import weigh_inside
from ..lattice import SurfaceLattice, SurfaceTexture
from ..light import Light, apply_gain, fit_light
from ..linear_decoder import LinearDecoder
from ..look import Look
from ..reconciling import Reconciler
from ..texture_detail import blend_views, restore_detail
from .context import ClipContext
from .technique import Technique

#: what is coarser than this many pixels is shading, which stays each frame's own in the last step
BAND_SIGMA = 5.0
#: what is finer than this many pixels stays each joint frame's own in the last fusion
FINE_SIGMA = 2.0
#: of a frame's own shading, what counts as much against it as a surface's inside counts for it
LEAST_TRUST = 0.1
#: with fewer steps each changes so much that the last is fused in latents, too, or frames would be too far from what they share
FEW_STEPS = 8
#: the least brightness, of 1, against which a frame's own shading is measured, and the most that it brightens or darkens
DARK, MOST_SHADING = 0.05, 2.0


class TextureFusion(Technique):
    """Corrects clean predictions so that all frames agree on their surfaces, without back-propagation.

    What the context's texture knows of the surface stays as it is. The rest is fused, or in clips that are not joint left to each
    frame, which then depends on no other. Textures are without the light of the pictures that they are made of, and each frame
    shows them in that light.
    """

    settings_type = Fusion
    settings: Fusion
    #: the surface of the clip's own frames
    lattice: SurfaceLattice

    def begin(self, context: ClipContext) -> None:
        """Lay the surface out in cells, and choose the steps."""
        super().begin(context)
        settings, passes = self.settings, context.own_passes
        self._known_texture = context.texture
        side = self._known_texture.side if self._known_texture else 0.0
        self.lattice = SurfaceLattice(passes, context.device, side, blends=context.joint)
        self._lit: tuple[Light, list[torch.Tensor]] | None = None
        steps = context.steps_between(settings.start, settings.until)
        count = min(settings.full_steps or len(steps), len(steps))
        # the last fusion is a full one, the others are spread evenly before it
        self._last = steps[-1] if len(steps) else -1
        self._full = {steps[-1 - n * len(steps) // count] for n in range(count)} if count else set()
        self._coarse_steps = {n for n in steps if n < round(settings.coarse * context.steps)} - self._full
        finishes = settings.finish and not context.wants_latents and self._last == context.steps - 1
        if finishes and len(self._full) > 1 and context.steps >= FEW_STEPS:
            # finishing does the same once more, in pixels: the auto-encoder would only blur what is finished
            self._full.discard(self._last)
        self._coarse: SurfaceLattice | None = None
        if self._coarse_steps:
            small = FramePasses(**{name: shrink(array, *context.latent_size) for name, array in passes.arrays().items()})
            self._coarse = SurfaceLattice(small, context.device, blends=context.joint)
            # too few pixels to find a light of their own
            self._coarse_gains = self._compute_gains(context.light if context.keeps_light else None, small)
        self._linear: LinearDecoder | None = None
        self._reconcilers: dict[SurfaceLattice, Reconciler] = {}
        if settings.reconcile and context.joint:
            self._reconcilers[self.lattice] = Reconciler(passes, context.device, self.lattice.side)
            if self._coarse is not None:
                self._reconcilers[self._coarse] = Reconciler(small, context.device, self.lattice.side)

    def is_active(self, step: int) -> bool:
        """Whether a step is fused."""
        return step in self._full or step in self._coarse_steps

    def get_sharpness(self, step: int) -> float:
        """How much the better view of a point counts: all views alike at first, nearly the best alone at the end."""
        return self.settings.sharpness * (step + 1) / self.context.steps

    def find_light(self, pictures: Sequence[torch.Tensor]) -> Light | None:
        """The light of the clip, whose pictures (3, H, W) of all frames are given; None where textures keep the light in which
        they were painted."""
        context = self.context
        if self._known_texture is not None and (context.light is None or context.keeps_light):
            return context.light
        if not self.settings.light or context.own_passes.normal is None:
            return context.light
        return fit_light(pictures, context.own_passes)

    def compute_gains(self, light: Light | None) -> list[torch.Tensor]:
        """For each frame (1, H, W) how much brighter its surfaces are than the texture."""
        light = light or Light.even()
        # frames that are made from a look are asked about its light again and again
        if self._lit is None or not np.array_equal(self._lit[0].coefficients, light.coefficients):
            self._lit = light, self._compute_gains(light, self.context.own_passes)
        return self._lit[1]

    def _compute_gains(self, light: Light | None, passes: FramePasses) -> list[torch.Tensor]:
        light, strength = light or Light.even(), self.settings.light
        return [light.compute_gain(passes, n, self.context.device, strength) for n in range(passes.frame_count)]

    def _texture(self, lattice: SurfaceLattice, pictures: list[torch.Tensor], sharpness: float) -> torch.Tensor:
        """(cells, 4) the texture that the frames are to show; the pictures are without their light."""
        fused = None
        if self.context.joint:
            pictures = self._reconcile(lattice, pictures)
            fused = blend_views(lattice, pictures, sharpness)
            if lattice is self.lattice:
                fused = restore_detail(lattice, fused, pictures, sharpness)
        if self._known_texture is None:
            return fused if fused is not None else lattice.texture([], 0.0)
        known = lattice.read_textures(self._known_texture, self.context.filled)
        return known if fused is None else torch.where(known[:, 3:] > 0, known, fused)

    def _reconcile(self, lattice: SurfaceLattice, pictures: list[torch.Tensor]) -> list[torch.Tensor]:
        reconciler = self._reconcilers.get(lattice)
        return reconciler.reconcile(pictures) if reconciler else pictures

    def correct_clean(self, clean: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents (N, C, h, w) whose frames show one texture."""
        if not self.is_active(step):
            return clean
        if step in self._full or self._coarse is None:
            return self._fuse_pictures(clean, step)
        if self._linear is None:
            # of a clip whose frames share rows the beginning is one, too
            together = self.context.model.row_frames
            sample = clean[:: max(1, len(clean) // 4)][:4] if together == 1 else clean[: 2 * together + 1]
            self._linear = LinearDecoder.fit(sample, self.context.decode(sample))
        gains = self._coarse_gains
        pictures = _take_light(self._linear(clean), gains)
        texture = self._texture(self._coarse, pictures, self.get_sharpness(step))
        moved = ((self._coarse.render(texture, n, picture), picture) for n, picture in enumerate(pictures))
        change = torch.stack([apply_gain(a, gain) - apply_gain(b, gain) for (a, b), gain in zip(moved, gains, strict=True)])
        return clean + self._linear.inverse(change).to(clean.dtype)

    def _show(self, texture: torch.Tensor, frame: int, picture: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """(3, H, W): a frame's picture without its light with the texture. At the last step what is finer than ``FINE_SIGMA`` stays
        a joint frame's own: no step would come to sharpen what the mean of several views has blurred, and finished frames share the
        best view anyway."""
        shown = self.lattice.render(texture, frame, picture)
        if not (is_last and self.context.joint):
            return shown
        mask = self.lattice.mask(frame)
        coarse = blur((shown - picture) * mask, FINE_SIGMA) / blur(mask, FINE_SIGMA).clamp(min=1e-4)
        return picture + coarse * mask

    def _fuse_pictures(self, clean: torch.Tensor, step: int) -> torch.Tensor:
        """The latents move by the difference of two encodings, so that what the auto-encoder loses is not lost each time; and once
        more by what it did not show of the texture, since all other frames take their detail from the joint ones."""
        encode, decode, batch_size = self.context.encode, self.context.decode, self.context.batch_size
        pictures = [picture.float() for rows in clean.split(batch_size) for picture in decode(rows)]
        gains = self.compute_gains(self.find_light(pictures))
        pictures = _take_light(pictures, gains)
        texture = self._texture(self.lattice, pictures, self.get_sharpness(step))
        out = torch.empty_like(clean)
        for start in range(0, len(clean), batch_size):
            rows = range(start, min(start + batch_size, len(clean)))
            masks = torch.stack([self.lattice.mask(n) for n in rows])
            covered = (F.interpolate(masks, clean.shape[2:], mode="area") > 0).to(clean.dtype)
            shown = (self._show(texture, n, pictures[n], is_last=step == self._last) for n in rows)
            after = torch.stack([apply_gain(picture, gains[n]) for n, picture in zip(rows, shown, strict=True)])
            wanted = encode(after.to(clean.dtype))
            before = encode(torch.stack([apply_gain(pictures[n], gains[n]) for n in rows]).to(clean.dtype))
            moved = clean[start : start + len(rows)] + (wanted - before) * covered
            if self.context.joint:
                got = torch.where(masks > 0, decode(moved).float(), after)
                moved = moved + (wanted - encode(got.to(clean.dtype))) * covered
            out[start : start + len(rows)] = moved
        return out

    def texture(self, pictures: list[torch.Tensor], light: Light | None) -> SurfaceTexture:
        """What the finished pictures (3, H, W) show without their light, together with the texture that was given."""
        unlit = _take_light(pictures, self.compute_gains(light))
        fused = self.lattice.extract_texture(self._texture(self.lattice, unlit, self.settings.sharpness))
        return self._known_texture.merge(fused) if self._known_texture else fused

    def finish_pictures(self, pictures: list[torch.Tensor], look: Look | None = None) -> list[torch.Tensor]:
        """Finished pictures (3, H, W) with the texture of a look, or without one with their own. Of each its own shading stays: how
        much darker or brighter it is, coarsely; its hues are the texture's."""
        if not self.settings.finish:
            return pictures
        gains = self.compute_gains(look.light if look is not None else self.find_light(pictures))
        pictures = _take_light(pictures, gains)
        if look is not None:
            texture = self.lattice.read_textures(look.worn_texture, look.filled)
        else:
            texture = self._texture(self.lattice, pictures, self.settings.sharpness)
        # what each keeps of its own, its shading, is not a colour that the others do not have
        pictures = self._reconcile(self.lattice, pictures)
        out = []
        for n, picture in enumerate(pictures):
            mask = self.lattice.mask(n)
            shown = self.lattice.render(texture, n, picture)
            shading = self._find_shading(picture, shown, n)
            out.append(torch.where(mask > 0, apply_gain(shown, gains[n] * shading), picture))
        return out

    def _find_shading(self, picture: torch.Tensor, shown: torch.Tensor, frame: int) -> torch.Tensor:
        """(1, H, W) how much brighter a frame's own picture (3, H, W) is than the texture that is shown, coarsely."""
        mask = self.lattice.mask(frame)
        trusted = torch.from_numpy(weigh_inside(self.context.own_passes.surface_index[frame])).to(mask.device)[None]
        own, common = ((one.float().mean(0, keepdim=True) + 1) / 2 for one in (picture, shown))
        # thin parts, which the place behind them tints, keep the texture's brightness
        around = blur(mask, BAND_SIGMA)
        near = blur(trusted, BAND_SIGMA) + LEAST_TRUST * around
        more = blur((own - common) * trusted, BAND_SIGMA) / near.clamp(min=1e-4)
        level = blur(common * mask, BAND_SIGMA) / around.clamp(min=1e-4)
        return (1 + self.settings.shading * more / level.clamp(min=DARK)).clamp(1 / MOST_SHADING, MOST_SHADING)


def _take_light(pictures: Iterable[torch.Tensor], gains: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Pictures (3, H, W) as they are in even light."""
    return [apply_gain(picture, 1 / gain) for picture, gain in zip(pictures, gains, strict=True)]
