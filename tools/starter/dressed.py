"""Captioned pictures of the mannequin in clothes that have a shape, with the depth of what is shown, at any size.

Beside those of ``dataset`` they have faces with features, hair, folds, shadows that fall on the figure, sharper places, and
framings down to the head and shoulders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from latentman.blender_addon.reference_shots.rasteriser import rasterise
from latentman.blender_addon.reference_shots.views import compute_vertex_normals
from latentman.shared.skeleton import JOINT_INDEX
from latentman.shared.vectors import normalise

from . import captions, painting
from .dataset import RIM, Example, normalise_shot_depth, sample_any_pose
from .lighting import LightMap
from .scenery import BRIGHTNESS, SCENES, render_background
from .sewing import Mannequin
from .tailoring import Cut, Layer, dress, sample_cut
from .wardrobe import Outfit, compute_albedo, get_shininess

#: chances of the framings, and the joints that must be in the picture
FRAMINGS = (("whole", 0.7), ("half", 0.2), ("bust", 0.1))
LOWEST = {"half": "pelvis", "bust": "spine3"}
#: the blur of the place's far end, its standard deviation as a fraction of the picture's side
APERTURE = (0.001, 0.009)
#: the light that a shadow leaves of the lamp's, and the softness of its edge on the ground, in pixels of the light's map
SHADOW, GROUND_SOFTNESS = 0.12, 4.0


@dataclass(frozen=True)
class Camera:
    """A camera of a square picture: ``eye`` (3,) in metres, ``turn`` (3, 3) from the world to the camera, ``focal`` in pixels."""

    eye: np.ndarray
    turn: np.ndarray
    focal: float


def render(mannequin: Mannequin, seed: int, size: int, held_out: bool = False) -> Example:
    """Render the example of a seed, with an outfit and a place for training or with ones that are held out. A bare mannequin is
    among them now and then."""
    generator = np.random.default_rng((seed, 3))
    while True:
        outfit = captions.sample_outfit(generator)
        scene = SCENES[int(generator.integers(len(SCENES)))]
        if captions.is_held_out(outfit, scene) == held_out:
            break
    cut = sample_cut(generator)
    framing = str(generator.choice([name for name, _ in FRAMINGS], p=[chance for _, chance in FRAMINGS]))
    style = cut.hair if cut and not outfit.suit else ""
    caption = captions.describe(outfit, scene, generator, style=style)
    figure = dress(mannequin, outfit, cut)
    betas = generator.normal(0, 0.9, figure.body.shapedirs.shape[2])
    rotations = Rotation.from_rotvec(sample_any_pose(generator)).as_matrix()
    yaw = generator.vonmises(0, 0.7) if generator.random() < 0.7 else generator.uniform(-np.pi, np.pi)
    rotations[0] = Rotation.from_euler("YX", [yaw, generator.normal(0, 0.08)]).as_matrix()
    points = figure.body.pose_vertices(rotations, betas, np.zeros(3))
    lift = abs(generator.normal(0, 0.25)) if generator.random() < 0.15 else 0.0
    points[:, 1] += lift - points[:, 1].min()
    joints = mannequin.body.joint_regressor @ points[: len(mannequin.body.v_template)]
    camera = _place_camera(points, joints, framing, size, generator)
    seen = (points - camera.eye) @ camera.turn.T
    raster = rasterise(seen, figure.body.faces, camera.focal, size, size)
    mask = raster.mask
    layer = figure.layer[raster.triangle[mask]]
    flat = np.concatenate([compute_vertex_normals(points, figure.body.faces), figure.rest, points], 1)
    shown = raster.interpolate(flat[figure.body.faces])
    image = _shade(points, figure.body.faces, mask, layer, shown, outfit, cut, scene, camera, generator, seed)
    rest = np.zeros((size, size, 3), np.float32)
    rest[mask] = shown[:, 3:6]
    return Example(image, normalise_shot_depth(raster.depth, generator), mask, rest, caption, outfit, scene, style)


def _place_camera(points: np.ndarray, joints: np.ndarray, framing: str, size: int, generator: np.random.Generator) -> Camera:
    """A camera above the ground that looks at the figure from its front along -Z."""
    focal = generator.uniform(1.1, 2.4) * size
    fill = generator.uniform(0.6, 0.95)
    high, low = points.max(0), points.min(0)
    if framing != "whole":
        low = low.copy()
        low[1] = joints[JOINT_INDEX[LOWEST[framing]], 1]
        fill = generator.uniform(0.8, 1.05)
    middle = (high + low) / 2
    if framing != "whole":
        middle[[0, 2]] = joints[JOINT_INDEX["neck"], [0, 2]]
    distance = focal * max(high[1] - low[1], 0.3) / (fill * size)
    camera_height = float(np.clip(generator.normal(1.2, 0.35), 0.3, 2.4))
    target = middle + generator.normal(0, 0.06, 3) * distance * size / focal / 2
    # near cameras look from nearer to the height of what they look at
    steep = np.clip(camera_height - target[1], -0.45 * distance, 0.45 * distance)
    eye = np.array([target[0], max(target[1] + steep, 0.2), middle[2] + distance])
    pitch = np.arctan2(target[1] - eye[1], eye[2] - middle[2])
    return Camera(eye, Rotation.from_euler("X", -pitch).as_matrix(), float(focal))


def _shade(
    points: np.ndarray,
    faces: np.ndarray,
    mask: np.ndarray,
    layer: np.ndarray,
    shown: np.ndarray,
    outfit: Outfit,
    cut: Cut | None,
    scene: str,
    camera: Camera,
    generator: np.random.Generator,
    seed: int,
) -> np.ndarray:
    """(S, S, 3) uint8 picture of a figure, points (V, 3) in metres, before a place; ``shown`` (N, 9) are normals, rest positions
    and positions of the pixels of ``mask`` (S, S), and ``layer`` (N,) what they belong to."""
    size, eye = len(mask), camera.eye
    rows, cols = np.mgrid[0:size, 0:size] + 0.5
    rays = np.stack([(cols - size / 2) / camera.focal, (size / 2 - rows) / camera.focal, -np.ones_like(rows)], -1) @ camera.turn
    light = normalise(np.array([generator.normal(0.3, 0.5), 1.0, generator.uniform(0.3, 1.0)]))
    lamp = LightMap(points, faces, light)

    def reach_ground(x: np.ndarray, z: np.ndarray) -> np.ndarray:
        at = np.stack([x + eye[0], np.zeros_like(x), z + eye[2]], 1)
        return 1 - 0.55 * (1 - lamp.reach(at, GROUND_SOFTNESS))

    focus = float(eye[2] - np.median(points[:, 2]))
    image = render_background(scene, rays, eye[1], reach_ground, focus, generator, APERTURE)
    rest, view = shown[:, 3:6], normalise(-rays[mask])
    normal = shown[:, :3]
    if cut is not None:
        normal = normal + painting.fold(rest, layer, seed)
    normal = normalise(normal)
    # cloth has no inside of its own
    normal = np.where(((normal * view).sum(1) < 0)[:, None] & (layer != Layer.BODY)[:, None], -normal, normal)
    facing = np.clip((normal * view).sum(1), 0, 1)
    lit = SHADOW + (1 - SHADOW) * lamp.reach(shown[:, 6:9])
    diffuse = np.clip(normal @ light, 0, 1) * lit
    half = normalise(light + view)
    shine = painting.get_shine(layer, get_shininess(outfit)) * np.clip((normal * half).sum(1), 0, 1) ** 24 * lit
    ambient = 0.48 + 0.12 * normal[:, 1]
    rim = RIM * (1 - facing) ** 2.5 * (0.65 + 0.35 * normal[:, 1])
    level = BRIGHTNESS.get(scene, 1.0)
    albedo = painting.paint(rest, layer, outfit, cut) if cut is not None else compute_albedo(rest, outfit)
    image[mask] = albedo * (ambient + 0.62 * diffuse)[:, None] * level + (shine * level + rim)[:, None]
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
