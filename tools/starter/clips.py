"""Clips of the mannequin as its pictures in ``dataset``: one outfit, body, place and light, a pose for every frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from latentman.blender_addon.character.body_model import MANNEQUIN, BodyModel, load
from latentman.blender_addon.motion.retarget import retarget
from latentman.blender_addon.reference_shots.rasteriser import rasterise
from latentman.shared.depth import normalise_depth
from latentman.shared.motion import Motion
from tools.motions.clips import CLIPS
from tools.motions.gait import perform

from . import captions, dataset
from .scenery import SCENES

FRAMES = 16
#: frames a second of the bundled performances
RATE = 20.0
#: the fractions of the clips that perform, that move between poses of any kind, and whose times are drawn in any order in steps:
#: key frames lie far apart
PERFORMED, SCATTERED, TURNED = 0.6, 0.3, 0.25
#: clips that a worker renders before it reports
CHUNK = 4
ARRAYS = ("images", "depths")


@dataclass(frozen=True)
class Clip:
    """``images`` (F, S, S, 3) uint8, ``depths`` (F, S, S) uint8 of [0, 1], and the captions, which say the same in other words."""

    images: np.ndarray
    depths: np.ndarray
    captions: list[str]


@dataclass(frozen=True)
class _Performance:
    """(F, 24, 4) local quaternions, scalar first, and (F, 3) pelvis positions in metres."""

    quaternions: np.ndarray
    pelvis: np.ndarray


@cache
def _load_performances() -> tuple[_Performance, ...]:
    rest = load(MANNEQUIN)
    joints = rest.regress_joints(rest.v_template)
    made = [retarget(Motion(perform(make()), RATE, "clips"), joints) for make in CLIPS.values()]
    return tuple(_Performance(each.quaternions, each.pelvis) for each in made)


def _sample_times(generator: np.random.Generator, most: float, count: int) -> np.ndarray:
    """(F,) times of the frames of a clip, in frames of what lasts ``most`` of them: evenly spaced, or scattered."""
    if generator.random() < SCATTERED:
        return np.sort(generator.uniform(0, most, count))
    step = min(generator.choice([0.5, 1.0, 1.5, 2.0, 3.0]), most / count)
    return generator.uniform(0, most - step * (count - 1)) + step * np.arange(count)


def _sample_motion(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(F, 24, 3, 3) local rotations and (F, 3) movements of the pelvis in metres."""
    if generator.random() < PERFORMED:
        known = _load_performances()
        performance = known[int(generator.integers(len(known)))]
        last = len(performance.pelvis) - 1
        at = _sample_times(generator, last, count).round().astype(int).clip(0, last)
        own = Rotation.from_rotvec(generator.normal(0, 0.06, (24, 3)))
        turns = Rotation.from_quat(performance.quaternions[at].reshape(-1, 4), scalar_first=True)
        repeated = Rotation.from_rotvec(np.tile(own.as_rotvec(), (count, 1)))
        moved = performance.pelvis[at] - performance.pelvis[at].mean(0)
        return (turns * repeated).as_matrix().reshape(count, 24, 3, 3), moved
    poses = np.stack([dataset.sample_pose(generator) for _ in range(3)])
    at = _sample_times(generator, 20.0, count)
    between = PchipInterpolator(np.array([0.0, 10.0, 20.0]), poses)(at)
    turns = Rotation.from_rotvec(between.reshape(-1, 3)).as_matrix().reshape(count, 24, 3, 3)
    along = np.outer(at - at.mean(), generator.normal(0, 0.02, 3) * [1, 0, 1])
    return turns, along


def render_clip(body: BodyModel, seed: int, count: int = FRAMES, size: int = dataset.SIZE) -> Clip:
    """Render the clip of a seed: ``count`` frames with an outfit and a place for training, before a camera that stands still."""
    generator = np.random.default_rng((seed, 2))
    while True:
        outfit = captions.sample_outfit(generator)
        scene = SCENES[int(generator.integers(len(SCENES)))]
        if not captions.is_held_out(outfit, scene):
            break
    texts = [captions.describe(outfit, scene, generator) for _ in range(dataset.CAPTIONS)]
    betas = generator.normal(0, 0.9, body.shapedirs.shape[2])
    rotations, moved = _sample_motion(generator, count)
    yaw = generator.vonmises(0, 0.7) if generator.random() < 0.7 else generator.uniform(-np.pi, np.pi)
    # as under a camera that circles, which the depth cannot be told from
    span = generator.uniform(-np.pi, np.pi) if generator.random() < TURNED else 0.0
    turns = Rotation.from_euler("Y", (yaw + np.linspace(-span / 2, span / 2, count))[:, None]).as_matrix()
    rotations[:, 0] = turns @ rotations[:, 0]
    moved = np.einsum("fab,fb->fa", turns, moved)
    points = np.stack([body.pose_vertices(turn, betas, move) for turn, move in zip(rotations, moved, strict=True)])
    points[..., 1] -= points[..., 1].min()
    focal = generator.uniform(1.1, 2.4) * size
    fill = generator.uniform(0.6, 0.95)
    distance = focal * max(np.ptp(points[..., 1]), np.ptp(points[..., 0])) / (fill * size)
    flat = points.reshape(-1, 3)
    middle = (flat.max(0) + flat.min(0)) / 2
    target = middle + generator.normal(0, 0.04, 3) * distance * size / focal / 2
    eye = np.array([target[0], np.clip(generator.normal(1.2, 0.35), 0.3, 2.4), flat[:, 2].max() + distance])
    pitch = np.arctan2(target[1] - eye[1], eye[2] - middle[2])
    world_to_camera = Rotation.from_euler("X", -pitch).as_matrix()
    images, depths = [], []
    for each in points:
        raster = rasterise((each - eye) @ world_to_camera.T, body.faces, focal, size, size)
        # the same light and the same place in every frame
        own = np.random.default_rng((seed, 3))
        images.append(dataset.shade(body, each, raster, outfit, scene, focal, world_to_camera, eye, own))
        depths.append(raster.depth)
    seen = np.stack(depths)
    near, far = seen[np.isfinite(seen)].min(), seen[np.isfinite(seen)].max()
    near, far = near - abs(generator.normal(0, 0.25)), far + abs(generator.normal(0, 0.25))
    return Clip(np.stack(images), np.round(normalise_depth(seen, near, far) * 255).astype(np.uint8), texts)


_body: BodyModel | None = None


def _render_into(folder: Path, first_seed: int, rows: range) -> list[list[str]]:
    global _body
    _body = _body or load(MANNEQUIN)
    images, depths = (np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ARRAYS)
    out = []
    for row in rows:
        clip = render_clip(_body, first_seed + row)
        images[row], depths[row] = clip.images, clip.depths
        out.append(clip.captions)
    return out


def write_clips(folder: Path, count: int, first_seed: int, workers: int) -> None:
    """Write ``images.npy`` (N, F, S, S, 3) and ``depths.npy`` (N, F, S, S), both uint8, and ``captions.json``, several for each
    clip. A complete folder is not written again."""
    size = dataset.SIZE
    shapes = dict(zip(ARRAYS, ((FRAMES, size, size, 3), (FRAMES, size, size)), strict=True))
    dataset.fill_arrays(folder, shapes, count, partial(_render_into, folder, first_seed), CHUNK, workers, "clips")


@dataclass(frozen=True)
class Clips:
    """The training clips: ``images`` (N, F, S, S, 3) and ``depths`` (N, F, S, S), uint8 tensors mapped from disk, and the captions
    of each."""

    images: torch.Tensor
    depths: torch.Tensor
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.images)


def load_clips(folder: Path) -> Clips:
    """Read what ``write_clips`` wrote."""
    images, depths = (torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ARRAYS)
    return Clips(images, depths, json.loads((folder / "captions.json").read_text()))
