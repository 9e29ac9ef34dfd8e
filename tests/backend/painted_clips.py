"""Clips painted from exact passes: an honest one, whose shading moves with the body and the lamp, and many with one fault each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, gaussian_filter, shift

from latentman.blender_addon.reference_shots.shots import SHOTS
from latentman.blender_addon.reference_shots.views import render_passes
from latentman.shared.passes import FramePasses

SIZE, FRAMES = 128, 20
#: metres that a pixel of the shots takes at SIZE
PIXEL = 4.0 / (1.9 * SIZE)
Clip = np.ndarray


@cache
def shot(name: str = "walk", frames: int = FRAMES, size: int = SIZE) -> FramePasses:
    """The passes of a reference shot at a small size."""
    return render_passes(SHOTS[name](frames), size)


@dataclass(frozen=True)
class Look:
    """How a clip is painted: metres by which the texture slides each frame, levels of the texture, degrees that the lamp moves each
    frame, levels of grain on the surface, and whether the figure throws a shadow."""

    slide: tuple[float, float, float] = (0.0, 0.0, 0.0)
    texture: float = 1.0
    lamp: float = 2.0
    shadow: bool = False
    ambient: float = 0.4
    #: metres from the texture's usual place: another costume of the same kind
    place: float = 0.0


def _texture(points: np.ndarray, pixel: float) -> np.ndarray:
    """(N,) smooth waves of 5 to 14 pixels' length on the surface, about 14 levels."""
    random = np.random.default_rng(5)
    directions = random.normal(size=(3, 20))
    lengths = random.uniform(5, 14, 20) * pixel
    directions *= 2 * np.pi / lengths / np.linalg.norm(directions, axis=0)
    return np.cos(points @ directions + random.uniform(0, 6.28, 20)).sum(1) * 4.5


def _albedo(points: np.ndarray, slide: np.ndarray, pixel: float, texture: float) -> np.ndarray:
    height = points[:, 1]
    colours = np.array([(60, 50, 45), (55, 75, 150), (185, 65, 55), (205, 160, 130)], float)
    base = colours[0]
    for colour, border in zip(colours[1:], (-0.85, 0.02, 0.42), strict=True):
        # garments meet within two pixels, as in a picture that was not sampled too coarsely
        part = np.clip((height - border) / (2.5 * pixel) + 0.5, 0, 1)
        part = part * part * (3 - 2 * part)
        base = base + part[:, None] * (colour - base)
    return base * (1 + texture * _texture(points + slide, pixel)[:, None] / 100)


def _scenery(size: int) -> np.ndarray:
    random = np.random.default_rng(9)
    coarse = gaussian_filter(random.normal(size=(size, size, 3)), (size / 12, size / 12, 0))
    fine = gaussian_filter(random.normal(size=(size, size, 1)), (1.2, 1.2, 0))
    return 125 + coarse / coarse.std() * 14 + fine / fine.std() * 6


def paint(passes: FramePasses, look: Look = Look()) -> Clip:
    """(F, H, W, 3) uint8: the figure in three garments before still scenery."""
    count, size = passes.mask.shape[:2]
    pixel = 4.0 / (1.9 * size)
    frames = []
    for n in range(count):
        image, mask = _scenery(size), passes.mask[n] > 0
        if look.shadow and mask.any():
            rows, cols = np.nonzero(mask)
            y, x = np.mgrid[0:size, 0:size]
            far = ((x - cols.mean()) / (0.28 * size)) ** 2 + ((y - rows.max()) / (0.04 * size)) ** 2
            image *= 1 - 0.35 * np.exp(-far)[..., None]
        angle = np.radians(25 + look.lamp * (n - count / 2))
        lamp = np.array([np.sin(angle), 0.5, np.cos(angle)]) / np.hypot(1, 0.5)
        light = look.ambient + (1.05 - look.ambient) * np.clip(passes.normal[n][mask].astype(float) @ lamp, 0, None)
        slide = np.array(look.slide) * n + look.place
        image[mask] = _albedo(passes.rest_position[n][mask].astype(float), slide, pixel, look.texture) * light[:, None]
        frames.append(np.round(image).clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def _limit(clip: np.ndarray) -> Clip:
    return np.round(clip).clip(0, 255).astype(np.uint8)


def _on_figure(clip: Clip, passes: FramePasses, change: Callable[[np.ndarray, int], np.ndarray]) -> Clip:
    out = clip.astype(float)
    for n in range(len(clip)):
        mask = passes.mask[n] > 0
        out[n][mask] = change(out[n], n)[mask]
    return _limit(out)


def blurred(clip: Clip, sigma: float = 2.0) -> Clip:
    """The whole picture out of focus."""
    return np.stack([gaussian_filter(image, (sigma, sigma, 0)) for image in clip])


def contrast(clip: Clip, factor: float) -> Clip:
    """The distance from grey multiplied."""
    return _limit(128 + (clip.astype(float) - 128) * factor)


def desaturated(clip: Clip, factor: float = 0.3) -> Clip:
    """The distance from each pixel's own grey multiplied."""
    grey = clip.astype(float) @ [0.299, 0.587, 0.114]
    return _limit(grey[..., None] + (clip - grey[..., None]) * factor)


def gamma(clip: Clip, power: float) -> Clip:
    """Another tone curve."""
    return _limit(255 * (clip / 255.0) ** power)


def sharpened(clip: Clip) -> Clip:
    """Too much of an unsharp mask."""
    return np.stack(
        [_limit(image + 1.5 * (image.astype(float) - gaussian_filter(image.astype(float), (1.5, 1.5, 0)))) for image in clip]
    )


def one_colour(clip: Clip, passes: FramePasses) -> Clip:
    """A figure of one flat colour."""
    return _on_figure(clip, passes, lambda image, n: np.full_like(image, (150, 90, 80)))


def blurred_with_grain(clip: Clip, passes: FramePasses, *, on_surface: bool = False, level: float = 11.0) -> Clip:
    """A blur whose missing detail is made up for by noise that stays on the screen, or in the texture."""
    noise = np.random.default_rng(3).normal(size=clip.shape[1:3]) * level
    soft = blurred(clip).astype(float)

    def grain(image: np.ndarray, n: int) -> np.ndarray:
        if not on_surface:
            return image + noise[..., None]
        cells = np.floor(passes.rest_position[n] / (4.0 / 1.9 / clip.shape[1] * 1.2)).astype(np.int64)
        hashed = np.sin(cells @ np.array([12.9898, 78.233, 37.719])) * 43758.5453
        return image + ((hashed - np.floor(hashed)) - 0.5)[..., None] * level * 3.4

    return _on_figure(_limit(soft), passes, grain)


def drifting(clip: Clip, passes: FramePasses, step: float | tuple[float, float, float]) -> Clip:
    """A figure that gets brighter, or more of a colour, by a step each frame."""
    return _on_figure(clip, passes, lambda image, n: image + np.array(step) * (n - len(clip) / 2))


def garment_drifting(clip: Clip, passes: FramePasses, step: float) -> Clip:
    """A shirt that gets brighter by a step each frame, and nothing else."""
    out = clip.astype(float)
    for n in range(len(clip)):
        height = passes.rest_position[n][..., 1]
        out[n][(passes.mask[n] > 0) & (height > 0.02) & (height < 0.42)] += step * n
    return _limit(out)


def hue_turning(clip: Clip, passes: FramePasses, degrees: float = 90.0) -> Clip:
    """Colours that turn about the grey axis over the clip."""

    def turn(image: np.ndarray, n: int) -> np.ndarray:
        angle = np.radians(degrees * n / (len(clip) - 1))
        c, s, third = np.cos(angle), np.sin(angle), 1 / 3
        a, b, d = c + (1 - c) * third, (1 - c) * third - s * np.sqrt(third), (1 - c) * third + s * np.sqrt(third)
        return image @ np.array([[a, b, d], [d, a, b], [b, d, a]]).T

    return _on_figure(clip, passes, turn)


def sliding(passes: FramePasses, pixels: tuple[float, float, float]) -> Clip:
    """A texture that swims over the surface by pixels a frame along its rest axes."""
    pixel = 4.0 / (1.9 * passes.mask.shape[1])
    return paint(passes, Look(slide=tuple(value * pixel for value in pixels)))


def morphing(clip: Clip, passes: FramePasses) -> Clip:
    """A texture that slowly turns into another of the same kind."""
    other = paint(passes, Look(place=3.3)).astype(float)
    share = np.linspace(0, 1, len(clip))[:, None, None, None]
    return _limit(clip * (1 - share) + other * share)


def stuck_to_screen(clip: Clip, passes: FramePasses) -> Clip:
    """The figure's shading and colours, but a texture that stays where it is on the screen."""
    plain = paint(passes, Look(texture=0.0)).astype(float)
    y, x = np.mgrid[0 : clip.shape[1], 0 : clip.shape[2]] * (4.0 / 1.9 / clip.shape[1])
    screen = _texture(np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1), 4.0 / 1.9 / clip.shape[1]).reshape(x.shape)
    return _on_figure(_limit(plain), passes, lambda image, n: image * (1 + screen[..., None] / 100))


def flickering(clip: Clip, passes: FramePasses, levels: float = 8.0, period: int = 2) -> Clip:
    """A figure that is darker and brighter in turn, by +-``levels``."""
    return _on_figure(clip, passes, lambda image, n: image + levels * (1 if n % period < (period + 1) // 2 else -1))


def jittering(clip: Clip, pixels: float, passes: FramePasses | None = None) -> Clip:
    """The picture, or only the figure's inside, moved sideways to and fro."""
    out = np.stack(
        [shift(image.astype(float), (0, pixels * (-1) ** n, 0), order=1, mode="nearest") for n, image in enumerate(clip)]
    )
    return _limit(out) if passes is None else _on_figure(clip, passes, lambda image, n: out[n])


def rim_flickering(clip: Clip, passes: FramePasses, width: int = 2, levels: float = 25.0) -> Clip:
    """The inner edge of the silhouette gets brighter and darker in turn."""
    out = clip.astype(float)
    for n, mask in enumerate(passes.mask > 0):
        rim = mask & ~binary_erosion(mask, iterations=width)
        out[n][rim] += levels * (-1) ** n
    return _limit(out)


def haloed(clip: Clip, passes: FramePasses, width: int = 6, levels: float = 35.0) -> Clip:
    """A bright seam around the figure."""
    out = clip.astype(float)
    for n, mask in enumerate(passes.mask > 0):
        out[n][binary_dilation(mask, iterations=width) & ~mask] += levels
    return _limit(out)


def ghosting(clip: Clip, passes: FramePasses, strength: float = 0.6) -> Clip:
    """What the last frame showed outside the present silhouette shines through."""
    out = clip.astype(float)
    for n in range(1, len(clip)):
        left = (passes.mask[n - 1] > 0) & (passes.mask[n] == 0)
        out[n][left] += strength * (clip[n - 1][left].astype(float) - out[n][left])
    return _limit(out)


def background_flickering(clip: Clip, passes: FramePasses, levels: float = 8.0, period: int = 2) -> Clip:
    """Scenery that is darker and brighter in turn."""
    outside = (passes.mask == 0)[..., None]
    wave = np.array([levels * (1 if n % period < (period + 1) // 2 else -1) for n in range(len(clip))])
    return _limit(clip + outside * wave[:, None, None, None])


def background_drifting(clip: Clip, passes: FramePasses, step: float = 1.0) -> Clip:
    """Scenery that gets brighter."""
    return _limit(clip + (passes.mask == 0)[..., None] * (step * np.arange(len(clip)))[:, None, None, None])


def swapping_costume(clip: Clip, passes: FramePasses, change: Callable[[int], float]) -> Clip:
    """Red and blue change places where ``change`` of the frame is 1; in between it is a mixture."""
    return _on_figure(clip, passes, lambda image, n: image + change(n) * (image[..., ::-1] - image))


def reshaped(clip: Clip, passes: FramePasses, pixels: int) -> Clip:
    """A silhouette that is fatter (above 0) or thinner by pixels than the passes say."""
    out = clip.copy()
    for n, mask in enumerate(passes.mask > 0):
        nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
        grown = binary_dilation(mask, iterations=pixels) & ~mask if pixels > 0 else np.zeros_like(mask)
        out[n][grown] = clip[n][tuple(nearest)][grown]
        if pixels < 0:
            lost = mask & ~binary_erosion(mask, iterations=-pixels)
            out[n][lost] = _limit(_scenery(len(mask)))[lost]
    return out


def dropping(clip: Clip, every: int = 5) -> Clip:
    """Every so many frames one is left out, and the last one is repeated to fill the clip."""
    kept = [n for n in range(len(clip)) if n % every != every - 1]
    return clip[kept + [kept[-1]] * (len(clip) - len(kept))]
