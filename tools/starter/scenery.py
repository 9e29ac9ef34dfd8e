"""Backgrounds: a sky and a ground in the camera's perspective, computed from viewing rays and out of focus behind the character."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

SCENES = ("studio", "beach", "forest", "city", "desert", "snow", "night", "stage", "moon", "meadow")

#: sky at the horizon, sky above, ground near, ground far
COLOURS = {
    "studio": ((0.72, 0.72, 0.74), (0.55, 0.55, 0.58), (0.66, 0.66, 0.68), (0.72, 0.72, 0.74)),
    "beach": ((0.75, 0.87, 0.95), (0.30, 0.58, 0.90), (0.90, 0.80, 0.58), (0.88, 0.78, 0.56)),
    "forest": ((0.55, 0.66, 0.48), (0.22, 0.36, 0.18), (0.25, 0.27, 0.12), (0.20, 0.28, 0.12)),
    "city": ((0.80, 0.84, 0.88), (0.55, 0.68, 0.85), (0.34, 0.34, 0.36), (0.40, 0.40, 0.42)),
    "desert": ((0.95, 0.83, 0.62), (0.45, 0.65, 0.88), (0.85, 0.62, 0.34), (0.88, 0.68, 0.42)),
    "snow": ((0.88, 0.92, 0.97), (0.62, 0.76, 0.92), (0.92, 0.95, 0.99), (0.86, 0.91, 0.97)),
    "night": ((0.10, 0.12, 0.26), (0.02, 0.02, 0.09), (0.07, 0.09, 0.14), (0.06, 0.08, 0.13)),
    "stage": ((0.36, 0.05, 0.07), (0.18, 0.02, 0.04), (0.48, 0.31, 0.17), (0.40, 0.25, 0.13)),
    "moon": ((0.01, 0.01, 0.02), (0.0, 0.0, 0.01), (0.55, 0.55, 0.56), (0.46, 0.46, 0.48)),
    "meadow": ((0.78, 0.89, 0.97), (0.35, 0.62, 0.93), (0.30, 0.55, 0.16), (0.36, 0.60, 0.22)),
}
#: how far a point of the sky is blurred, its standard deviation as a fraction of the picture's side
APERTURE = (0.009, 0.02)
BRIGHTNESS = {"night": 0.55, "stage": 0.95, "forest": 0.85}


def _make_noise(a: np.ndarray, b: np.ndarray, generator: np.random.Generator, scale: float, octaves: int = 3) -> np.ndarray:
    """Smooth noise of two coordinates, about -1..1."""
    out = np.zeros_like(a)
    for octave in range(octaves):
        for _ in range(3):
            angle, phase = generator.uniform(0, 2 * np.pi, 2)
            frequency = 2.0**octave / scale
            out += np.sin((a * np.cos(angle) + b * np.sin(angle)) * frequency * 6.28 + phase) / (3 * 1.6**octave)
    return out


def _render_sky(scene: str, azimuth: np.ndarray, height: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Colours (N, 3) for rays above the horizon; ``azimuth`` in radians, ``height`` is the tangent of the elevation."""
    horizon, zenith = (np.array(c) for c in COLOURS[scene][:2])
    out = horizon + (zenith - horizon) * np.clip(height / 0.8, 0, 1)[:, None]
    seed = generator.uniform(0, 10)
    if scene == "beach":
        sea = height < 0.09
        out[sea] = np.array([0.10, 0.42, 0.62]) + 0.06 * np.sin(height[sea] * 400)[:, None]
    elif scene in ("forest", "meadow"):
        density = 26.0 if scene == "forest" else 9.0
        tops = 0.10 + 0.06 * np.sin(azimuth * density + seed) * np.sin(azimuth * 3.1 * density / 7 + seed)
        crown = height < (tops + (0.42 if scene == "forest" else 0.0))
        leaf = 0.5 + 0.5 * np.sin(azimuth * 90 + 7 * np.sin(height * 40 + seed)) * np.sin(height * 75)
        out[crown] = np.array([0.10, 0.26, 0.08]) + leaf[crown, None] * np.array([0.10, 0.16, 0.06])
        if scene == "forest":
            trunk = (np.sin(azimuth * 19 + seed) > 0.62) & (height < 0.75)
            out[trunk] = np.array([0.28, 0.19, 0.11]) + 0.05 * np.sin(azimuth[trunk] * 200)[:, None]
    elif scene == "city":
        block = np.floor((azimuth + seed) / 0.16)
        tall = 0.12 + 0.5 * ((np.sin(block * 91.7) + 1) / 2)
        wall = height < tall
        shade = 0.30 + 0.30 * ((np.sin(block * 37.3) + 1) / 2)
        window = (((azimuth + seed) / 0.04) % 1 < 0.5) & ((height / 0.05) % 1 < 0.5)
        facade = np.where(window, shade * 0.6, shade)[:, None] * np.array([1.0, 0.94, 0.88])
        out[wall] = facade[wall]
    elif scene in ("desert", "snow", "moon"):
        ridge = 0.07 + 0.05 * np.sin(azimuth * 5 + seed) + 0.03 * np.sin(azimuth * 13 + 2 * seed)
        hill = height < ridge
        out[hill] = np.array(COLOURS[scene][3]) * (0.82 if scene != "snow" else 0.90)
    if scene in ("night", "moon"):
        cell = np.stack([np.floor(azimuth * 55), np.floor(height * 55)], 1)
        star = np.modf(np.sin(cell @ [12.9898, 78.233] + seed) * 43758.5453)[0]
        out[np.abs(star) > 0.985] = (0.9, 0.9, 0.85)
    if scene == "night":
        moon = (azimuth - seed % 0.6 + 0.3) ** 2 + (height - 0.45) ** 2 < 0.006
        out[moon] = (0.93, 0.93, 0.84)
    if scene == "stage":
        out *= (0.75 + 0.4 * np.sin(azimuth * 42 + seed))[:, None]
    return out


def _render_ground(scene: str, x: np.ndarray, z: np.ndarray, distance: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    near, far = (np.array(c) for c in COLOURS[scene][2:])
    out = near + (far - near) * np.clip(distance / 12, 0, 1)[:, None]
    fade = np.clip(1 - distance / 14, 0, 1)[:, None]
    amount = {"studio": 0.01, "snow": 0.025, "stage": 0.02, "city": 0.03}.get(scene, 0.07)
    out = out + amount * fade * _make_noise(x, z, generator, 0.9)[:, None]
    if scene == "stage":
        out *= np.where((x / 0.28) % 1 < 0.06, 0.7, 1.0)[:, None]
    elif scene == "city":
        out[((z / 1.2) % 1 < 0.5) & (np.abs(x + 1.4) < 0.07)] = (0.85, 0.82, 0.6)
    elif scene == "moon":
        out *= np.where(_make_noise(x, z, generator, 1.8, 2) > 0.85, 0.72, 1.0)[:, None]
    elif scene == "beach":
        out[distance > 11] = (0.12, 0.45, 0.64)
    return out


def render_background(
    scene: str,
    rays: np.ndarray,
    camera_height: float,
    shadow: Callable[[np.ndarray, np.ndarray], np.ndarray],
    focus: float,
    generator: np.random.Generator,
    aperture: tuple[float, float] | None = None,
) -> np.ndarray:
    """Colours (H, W, 3) in [0, 1] for world-space rays (H, W, 3), Y up, from a camera above the ground at y = 0.

    ``shadow(x, z)`` gives the light, 0..1, that reaches ground points relative to the point below the camera. What is ``focus``
    metres away is sharp; ``aperture`` is the range of the sky's blur, ``APERTURE`` where it is not given.
    """
    shape, rays = rays.shape, rays.reshape(-1, 3)
    flat = np.hypot(rays[:, 0], rays[:, 2])
    height = rays[:, 1] / np.maximum(flat, 1e-6)
    out, blur = np.empty((len(rays), 3)), np.ones(len(rays))
    up = height > -0.01
    azimuth = np.arctan2(rays[:, 0], -rays[:, 2])
    out[up] = _render_sky(scene, azimuth[up], np.maximum(height[up], 0), generator)
    down = ~up
    distance = camera_height / -height[down]
    x, z = (rays[down, axis] / flat[down] * distance for axis in (0, 2))
    out[down] = _render_ground(scene, x, z, distance, generator) * shadow(x, z)[:, None]
    # the circle of confusion of a thin lens, as a fraction of the sky's
    blur[down] = np.minimum(np.abs(1 - focus / distance), 1)
    sharp, blur = np.clip(out, 0, 1).reshape(shape), blur.reshape(*shape[:2], 1)
    widest = generator.uniform(*(aperture or APERTURE)) * shape[0]
    half, full = (gaussian_filter(sharp, (s, s, 0), mode="nearest") for s in (widest / 2, widest))
    return np.where(blur < 0.5, sharp + (half - sharp) * 2 * blur, half + (full - half) * (2 * blur - 1))
