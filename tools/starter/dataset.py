"""Captioned pictures of the mannequin with the depth the add-on would send, stored as memory-mapped arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from latentman.blender_addon.character.body_model import MANNEQUIN, BodyModel, load
from latentman.blender_addon.motion.retarget import retarget
from latentman.blender_addon.reference_shots.rasteriser import Raster, rasterise
from latentman.blender_addon.reference_shots.views import compute_vertex_normals
from latentman.shared.depth import normalise_depth
from latentman.shared.motion import Motion
from latentman.shared.skeleton import JOINT_INDEX
from latentman.shared.vectors import normalise
from tools.motions.clips import CLIPS
from tools.motions.gait import perform

from . import captions
from .scenery import BRIGHTNESS, SCENES, render_background
from .wardrobe import Outfit, compute_albedo, get_shininess

SIZE, RIM = 256, 0.35
#: captions of each picture, and pictures that a worker renders before it reports
CAPTIONS, CHUNK = 4, 64
ARRAYS = ("images", "depths", "scenes")


@dataclass(frozen=True)
class Example:
    """One picture: ``image`` (S, S, 3) uint8, ``depth`` (S, S) uint8 of [0, 1], ``mask`` (S, S) bool, ``rest_position`` (S, S, 3)
    float32 rest positions in metres, its caption, the outfit and scene that it shows, and the style of hair where that has one."""

    image: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    rest_position: np.ndarray
    caption: str
    outfit: Outfit
    scene: str
    hair: str = ""


def sample_pose(generator: np.random.Generator) -> np.ndarray:
    """(24, 3) local axis-angle rotations: anything from standing to a leap, arms mostly lowered."""
    pose = np.zeros((len(JOINT_INDEX), 3))
    vigour = generator.choice([0.15, 0.6, 1.0], p=[0.2, 0.5, 0.3])
    swing = generator.normal(0, 0.55) * vigour
    for side, sign in (("left", 1.0), ("right", -1.0)):
        raised = generator.random() < 0.22
        down = generator.normal(1.25, 0.15) if not raised else generator.uniform(-1.2, 0.9)
        pose[JOINT_INDEX[f"{side}_shoulder"]] = (
            0.0,
            -sign * (-0.2 + generator.normal(0, 0.35) * vigour - sign * swing * 0.5),
            -sign * down,
        )
        pose[JOINT_INDEX[f"{side}_elbow"]] = (0.0, -sign * np.abs(generator.normal(0.35, 0.5)) * (0.4 + vigour), 0.0)
        hip = -sign * swing + generator.normal(0, 0.15) * vigour - abs(generator.normal(0, 0.3)) * vigour
        pose[JOINT_INDEX[f"{side}_hip"]] = (hip, generator.normal(0, 0.1), sign * abs(generator.normal(0.03, 0.12)) * vigour)
        pose[JOINT_INDEX[f"{side}_knee"]] = (np.abs(generator.normal(0.15 + max(0.0, sign * swing), 0.5)) * vigour, 0, 0)
        pose[JOINT_INDEX[f"{side}_ankle"]] = (generator.normal(0, 0.15), 0, 0)
        pose[JOINT_INDEX[f"{side}_wrist"]] = generator.normal(0, 0.15, 3)
    for name in ("spine1", "spine2", "spine3", "neck", "head"):
        pose[JOINT_INDEX[name]] = generator.normal(0, 0.09, 3) * (0.3 + vigour)
    return pose


@cache
def load_clip_poses() -> np.ndarray:
    """(N, 24, 3) local axis-angle rotations of every frame of the bundled performances."""
    rest = load(MANNEQUIN)
    joints = rest.regress_joints(rest.v_template)
    out = []
    for make in CLIPS.values():
        local = retarget(Motion(perform(make()), 20.0, "clips"), joints).quaternions
        out.append(Rotation.from_quat(local.reshape(-1, 4), scalar_first=True).as_rotvec().reshape(*local.shape[:2], 3))
    return np.concatenate(out)


def sample_any_pose(generator: np.random.Generator) -> np.ndarray:
    """(24, 3) local axis-angle rotations: a frame of a performance, or a random pose."""
    if generator.random() < 0.35:
        poses = load_clip_poses()
        return poses[int(generator.integers(len(poses)))] + generator.normal(0, 0.06, poses.shape[1:])
    return sample_pose(generator)


def render(
    body: BodyModel,
    seed: int,
    size: int = SIZE,
    held_out: bool = False,
    recolour: tuple[str, str] | None = None,
) -> Example:
    """Render the example of a seed, with an outfit and a place for training or with ones that are held out.

    ``recolour`` = (``top`` or ``bottom``, palette colour) changes one garment's colour and nothing else.
    """
    generator = np.random.default_rng(seed)
    while True:
        outfit = captions.sample_outfit(generator)
        scene = SCENES[int(generator.integers(len(SCENES)))]
        if captions.is_held_out(outfit, scene) == held_out:
            break
    caption = captions.describe(outfit, scene, generator)
    if recolour:
        part, colour = recolour
        outfit = replace(outfit, **{part: replace(getattr(outfit, part), colour=colour)})
    betas = generator.normal(0, 0.9, body.shapedirs.shape[2])
    rotations = Rotation.from_rotvec(sample_any_pose(generator)).as_matrix()
    yaw = generator.vonmises(0, 0.7) if generator.random() < 0.7 else generator.uniform(-np.pi, np.pi)
    rotations[0] = Rotation.from_euler("YX", [yaw, generator.normal(0, 0.08)]).as_matrix()
    points = body.pose_vertices(rotations, betas, np.zeros(3))
    lift = abs(generator.normal(0, 0.25)) if generator.random() < 0.15 else 0.0
    points[:, 1] += lift - points[:, 1].min()
    # camera: in world space above the ground, looking at the body from its front along -Z
    focal = generator.uniform(1.1, 2.4) * size
    fill = generator.uniform(0.6, 0.95)
    height_span = np.ptp(points[:, 1])
    distance = focal * height_span / (fill * size)
    camera_height = float(np.clip(generator.normal(1.2, 0.35), 0.3, 2.4))
    middle = (points.max(0) + points.min(0)) / 2
    target = middle + generator.normal(0, 0.06, 3) * distance * size / focal / 2
    eye = np.array([target[0], camera_height, middle[2] + distance])
    pitch = np.arctan2(target[1] - eye[1], eye[2] - middle[2])
    world_to_camera = Rotation.from_euler("X", -pitch).as_matrix()
    seen = (points - eye) @ world_to_camera.T
    raster = rasterise(seen, body.faces, focal, size, size)
    mask = raster.mask
    image = shade(body, points, raster, outfit, scene, focal, world_to_camera, eye, generator)
    rest = np.zeros((size, size, 3), np.float32)
    rest[mask] = raster.interpolate(body.v_template[body.faces])
    return Example(image, normalise_shot_depth(raster.depth, generator), mask, rest, caption, outfit, scene)


def normalise_shot_depth(depth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Depth as in a shot: the frame's own range lies somewhere inside the shot's."""
    seen = depth[np.isfinite(depth)]
    near = seen.min() - abs(generator.normal(0, 0.25))
    far = seen.max() + abs(generator.normal(0, 0.25))
    return np.round(normalise_depth(depth, near, far) * 255).astype(np.uint8)


def shade(
    body: BodyModel,
    points: np.ndarray,
    raster: Raster,
    outfit: Outfit,
    scene: str,
    focal: float,
    world_to_camera: np.ndarray,
    eye: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """(S, S, 3) uint8 picture of a body whose vertices ``points`` (V, 3) are in metres, in front of a place; light and place are
    drawn from the ``generator``."""
    size = raster.triangle.shape[0]
    rows, cols = np.mgrid[0:size, 0:size] + 0.5
    rays = np.stack([(cols - size / 2) / focal, (size / 2 - rows) / focal, -np.ones_like(rows)], -1) @ world_to_camera
    light = normalise(np.array([generator.normal(0.3, 0.5), 1.0, generator.uniform(0.3, 1.0)]))
    focus = float(eye[2] - np.median(points[:, 2]))
    image = render_background(scene, rays, eye[1], _make_shadow_map(points, light, eye), focus, generator)
    both = raster.interpolate(np.concatenate([compute_vertex_normals(points, body.faces), body.v_template], 1)[body.faces])
    normal = normalise(both[:, :3])
    view = normalise(-rays[raster.mask])
    facing = np.clip((normal * view).sum(1), 0, 1)
    diffuse = np.clip(normal @ light, 0, 1)
    half = normalise(light + view)
    shine = get_shininess(outfit) * np.clip((normal * half).sum(1), 0, 1) ** 24
    ambient = 0.48 + 0.12 * normal[:, 1]
    # a light from behind and above separates dark clothes from dark places
    rim = RIM * (1 - facing) ** 2.5 * (0.65 + 0.35 * normal[:, 1])
    level = BRIGHTNESS.get(scene, 1.0)
    shaded = compute_albedo(both[:, 3:], outfit) * (ambient + 0.58 * diffuse)[:, None] * level + (shine * level + rim)[:, None]
    image[raster.mask] = shaded
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _make_shadow_map(points: np.ndarray, light: np.ndarray, eye: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function from ground points, relative to the point below the camera, to the light that reaches them."""
    fallen = points[:, [0, 2]] - light[[0, 2]] * (points[:, 1:2] / light[1])
    low = fallen.min(0) - 0.4
    cells = np.ceil((fallen.max(0) + 0.4 - low) / 0.03).astype(int)
    grid = np.zeros(cells)
    index = ((fallen - low) / 0.03).astype(int)
    np.add.at(grid, (index[:, 0], index[:, 1]), 1)
    grid = 1 - 0.5 * np.clip(gaussian_filter(np.minimum(grid, 1.0), 1.6) * 2.2, 0, 1)

    def lit(x: np.ndarray, z: np.ndarray) -> np.ndarray:
        at = ((np.stack([x + eye[0], z + eye[2]], 1) - low) / 0.03).astype(int)
        inside = ((at >= 0) & (at < cells)).all(1)
        out = np.ones(len(x))
        out[inside] = grid[at[inside, 0], at[inside, 1]]
        return out

    return lit


@dataclass(frozen=True)
class Renders:
    """The training pictures: ``images`` (N, S, S, 3) and ``depths`` (N, S, S), uint8 tensors on the training's device (mapped
    from disk on the CPU), ``scenes`` (N,) uint8 indices of the places in ``SCENES``, and every picture's ``captions``, which
    describe it in different words."""

    images: torch.Tensor
    depths: torch.Tensor
    scenes: torch.Tensor
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """The side of the pictures in pixels."""
        return int(self.images.shape[1])

    def rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and depths of some pictures."""
        return self.images[index], self.depths[index]


def load_renders(folder: Path, device: str) -> Renders:
    """Read what ``write_renders`` wrote."""
    images, depths, scenes = (torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")).to(device) for name in ARRAYS)
    return Renders(images, depths, scenes, json.loads((folder / "captions.json").read_text()))


_body: BodyModel | None = None


def _render_into(folder: Path, first_seed: int, rows: range) -> list[list[str]]:
    """Render some rows of the memory maps; returns their captions."""
    global _body
    _body = _body or load(MANNEQUIN)
    images, depths, scenes = (np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ARRAYS)
    out = []
    for row in rows:
        example = render(_body, first_seed + row)
        images[row], depths[row], scenes[row] = example.image, example.depth, SCENES.index(example.scene)
        other = np.random.default_rng((first_seed + row, 1))
        out.append([example.caption, *(captions.describe(example.outfit, example.scene, other) for _ in range(CAPTIONS - 1))])
    return out


def write_renders(folder: Path, count: int, first_seed: int, workers: int) -> None:
    """Write ``images.npy`` (N, S, S, 3), ``depths.npy`` (N, S, S) and ``scenes.npy`` (N,), all uint8, and ``captions.json``,
    ``CAPTIONS`` for each.

    A complete folder is not written again.
    """
    shapes = dict(zip(ARRAYS, ((SIZE, SIZE, 3), (SIZE, SIZE), ()), strict=True))
    fill_arrays(folder, shapes, count, partial(_render_into, folder, first_seed), CHUNK, workers, "renders")


def fill_arrays(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    count: int,
    render_rows: Callable[[range], list[list[str]]],
    chunk: int,
    workers: int,
    title: str,
) -> None:
    """Write ``count`` rows of uint8 arrays of ``shapes``, each by its name, and ``captions.json``. ``render_rows`` writes some rows
    in a process of its own and gives their captions. A complete folder is not written again."""
    if (folder / "captions.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in shapes.items():
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (count, *shape)).flush()
    chunks = [range(start, min(start + chunk, count)) for start in range(0, count, chunk)]
    texts: list[list[str]] = []
    with Pool(workers) as pool, tqdm(total=count, desc=title, mininterval=5) as progress:
        for some in pool.imap(render_rows, chunks):
            texts += some
            progress.update(len(some))
    (folder / "captions.json").write_text(json.dumps(texts))
