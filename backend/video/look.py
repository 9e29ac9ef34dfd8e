"""The look of a shot: the texture on the surface, the anchor frame that others attend to, and the background plate.

With it frames can be made one by one, later, and by others, and still belong to the shot.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from ...shared.npy import read_npy, unpack_npz
from ...shared.passes import FORMER_PASS_NAMES, FramePasses, check_arrays
from ...shared.schedule import MAX_PROMPTS
from ...shared.shot import ShotError
from .cameras import Camera
from .distances import measure_distance
from .lattice import SurfaceTexture, find_corners, sample_frames
from .light import Light
from .mirroring import Mirror, mirror_texture
from .source import PassesSource
from .surface_filling import SurfaceCells, fill_texture
from .surroundings import Surroundings

#: pixels around a character within which the background mixes with it, and beyond which it is not affected at all
HALO, CLEAR = 3, 24
#: at least this fraction of the pixels near known cells must lie in one, or the surface is a different one
SAME_SURFACE = 0.5
#: what counts as near, in cells; with fewer near pixels than this nothing is concluded
NEAR, FEW = 4, 200


@dataclass(frozen=True)
class Anchor:
    """The frame whose keys and values cross-frame attention uses: its latents before each step (S, C, h, w) float32, its
    ControlNets' pictures (1, 3, H, W) each, and its passes. ``prompt`` and ``control_scale`` are the frame's own where they change
    within the shot, and so is ``camera`` where the background turns with it."""

    trajectory: torch.Tensor
    controls: tuple[torch.Tensor, ...]
    passes: FramePasses
    prompt: str = ""
    control_scale: float | None = None
    camera: Camera | None = None

    def renumber(self, numbers: Mapping[int, int]) -> Anchor:
        """The anchor with its objects (old -> new number) as in another shot, which does not show the others; as it is where
        their numbers are the same."""
        if all(old == new for old, new in numbers.items()):
            return self
        own = self.passes.surface_index
        found = np.zeros(own.shape, np.uint16)
        for old, new in numbers.items():
            found[own == old] = new
        return replace(self, passes=replace(self.passes, object_index=found))


@dataclass(frozen=True)
class Plate:
    """The background plate: ``colour`` (H, W, 3) uint8 and ``distance`` (H, W) float32, how many pixels from any
    surface each was seen, up to ``CLEAR``; 0 where it is unknown."""

    colour: np.ndarray
    distance: np.ndarray

    @classmethod
    def empty(cls, height: int, width: int) -> Plate:
        """Nothing known."""
        return cls(np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.float32))

    @property
    def known(self) -> np.ndarray:
        """(H, W) bool."""
        return self.distance > 0

    def add_frame(self, image: np.ndarray, surface: np.ndarray) -> Plate:
        """The plate with pixels of a frame (H, W, 3) uint8 where they are farther from its surfaces (H, W) bool than before: near
        a surface the background lies in its shadow."""
        away = measure_distance(surface)
        away = np.where(away > HALO, np.minimum(away, CLEAR), 0).astype(np.float32)
        better = away > self.distance
        return Plate(np.where(better[..., None], image, self.colour), np.where(better, away, self.distance))

    def fill_unknown(self) -> np.ndarray:
        """(H, W, 3) uint8; unknown pixels take the nearest known colour."""
        if self.known.all() or not self.known.any():
            return self.colour
        rows, cols = distance_transform_edt(~self.known, return_distances=False, return_indices=True)
        return self.colour[rows, cols]


@dataclass(frozen=True)
class Look:
    """Everything that other frames need in order to match a shot. ``surfaces``: object number -> name, where known.

    ``keyframes`` are the frames of its own shot that were denoised jointly: only together can they be made again. A shot whose
    prompt changes has a look under each: ``others`` are those under other prompts. ``filled`` has a colour for all of the surface
    that its shot shows, the ``texture``'s and what ``fill_texture`` puts where that has none, in cells of the shot's small copies;
    None in looks of earlier versions. ``surroundings`` are None where frames keep the backgrounds that they are denoised with.
    ``light`` is what the textures are seen in, None where they hold it themselves.
    """

    texture: SurfaceTexture
    anchor: Anchor
    plate: Plate
    surfaces: dict[int, str] = field(default_factory=dict)
    keyframes: tuple[int, ...] = ()
    others: dict[str, Look] = field(default_factory=dict)
    filled: SurfaceTexture | None = None
    surroundings: Surroundings | None = None
    light: Light | None = None

    @property
    def worn_texture(self) -> SurfaceTexture:
        """What the frames that are made from the look show, unless it is ``filled``: then without what is doubtful."""
        return self.texture if self.filled is None else self.texture.select(self.texture.trusted)

    def fill(self, surface: SurfaceCells, mirror: Mirror | None = None) -> Look:
        """The look with a colour for all of a surface, in the surface's cells; these are not smaller than the texture's. What the
        other side of the ``mirror`` knows comes first."""
        texture = self.texture if surface.side == self.texture.side else self.texture.coarsen(surface.side)
        if mirror is not None:
            texture = mirror_texture(texture, surface, mirror)
        return replace(self, filled=fill_texture(texture, surface).texture)

    def list_by_prompt(self, own: str) -> dict[str, Look]:
        """The looks under each prompt of a shot whose own prompt is ``own``."""
        return {self.anchor.prompt or own: replace(self, others={}), **self.others}

    def adapt_to_shot(self, source: PassesSource, surfaces: dict[int, str]) -> Look:
        """The look with its objects numbered as in another shot.

        Raises ``ShotError`` when that shot shows another surface.
        """
        adapted = self.renumber(surfaces)
        check_surface(adapted.texture, source)
        return adapted

    def renumber(self, surfaces: dict[int, str]) -> Look:
        """The look with its objects numbered as in another shot, whose objects are (number -> name) ``surfaces``."""
        numbers = {name: index for index, name in surfaces.items()}
        texture, filled, anchor = self.texture, self.filled, self.anchor
        if numbers and self.surfaces:
            fresh = {old: numbers[name] for old, name in self.surfaces.items() if name in numbers}
            texture, filled, anchor = texture.renumber(fresh), filled and filled.renumber(fresh), anchor.renumber(fresh)
        others = {prompt: other.renumber(surfaces) for prompt, other in self.others.items()}
        surfaces = surfaces or self.surfaces
        return replace(self, texture=texture, anchor=anchor, filled=filled, surfaces=surfaces, others=others)

    def encode(self) -> bytes:
        """As an ``npz`` file without pickles."""
        arrays = {
            **self.texture.to_arrays(),
            "trajectory": self.anchor.trajectory.float().cpu().numpy(),
            "plate": self.plate.colour,
            "plate_distance": self.plate.distance,
            "keyframes": np.array(self.keyframes, np.int64),
            "surface_numbers": np.array(list(self.surfaces), np.int64),
            "surface_names": np.array(list(self.surfaces.values()), str),
        }
        arrays |= {f"control_{n}": control.float().cpu().numpy() for n, control in enumerate(self.anchor.controls)}
        arrays |= {f"pass_{name}": array for name, array in self.anchor.passes.arrays().items()}
        if self.filled is not None:
            arrays |= self.filled.to_arrays("filled_")
        if self.anchor.prompt:
            arrays["anchor_prompt"] = np.array(self.anchor.prompt)
        if self.anchor.control_scale is not None:
            arrays["anchor_control_scale"] = np.array(self.anchor.control_scale)
        if self.anchor.camera is not None:
            arrays["anchor_camera"] = self.anchor.camera.pack()
        if self.surroundings is not None:
            arrays |= self.surroundings.to_arrays()
        if self.light is not None:
            arrays["light"] = self.light.coefficients
        if self.others:
            arrays["other_prompts"] = np.array(list(self.others), str)
            arrays |= {f"other_{n}": np.frombuffer(other.encode(), np.uint8) for n, other in enumerate(self.others.values())}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def decode(cls, data: bytes, *, is_other: bool = False) -> Look:
        """The inverse of ``encode``; ``is_other`` for a look within another one. Raises ``ShotError`` when the data are damaged."""
        try:
            unpacked = unpack_npz(data)
            # torch wants arrays of its own that may be written to
            found = {name: read_npy(unpacked.pop(name)).copy() for name in list(unpacked)}
            texture = SurfaceTexture.from_arrays(found)
            filled = SurfaceTexture.from_arrays(found, "filled_") if "filled_side" in found else None
            controls = tuple(torch.from_numpy(found[f"control_{n}"]) for n in range(sum(k.startswith("control_") for k in found)))
            # earlier versions called it the path
            trajectory = found["trajectory" if "trajectory" in found else "path"]
            stored = {name.removeprefix("pass_"): array for name, array in found.items() if name.startswith("pass_")}
            stored = {FORMER_PASS_NAMES.get(name, name): array for name, array in stored.items()}
            height, width = stored["mask"].shape[1:]
            passes = check_arrays(stored, 1, width, height)
            _check_arrays(found, trajectory, len(controls))
            names = dict(zip(found["surface_numbers"].tolist(), found["surface_names"].tolist(), strict=True))
            return cls(
                texture,
                Anchor(
                    torch.from_numpy(trajectory),
                    controls,
                    passes,
                    str(found.get("anchor_prompt", "")),
                    float(found["anchor_control_scale"]) if "anchor_control_scale" in found else None,
                    Camera.unpack(found["anchor_camera"]) if "anchor_camera" in found else None,
                ),
                Plate(found["plate"], found["plate_distance"]),
                names,
                tuple(found["keyframes"].tolist()) if "keyframes" in found else (),
                {} if is_other else _decode_others(found),
                filled,
                Surroundings.from_arrays(found),
                Light.from_array(found["light"]) if "light" in found else None,
            )
        except Exception as error:  # zip, numpy and key errors alike: the file is not one of ours
            raise ShotError("look", f"The stored look cannot be read ({error}); generate its shot again.") from error

    def to(self, device: torch.device, dtype: torch.dtype) -> Look:
        """On a device; what enters the networks in their type."""
        anchor = replace(
            self.anchor,
            trajectory=self.anchor.trajectory.to(device, dtype),
            controls=tuple(control.to(device, dtype) for control in self.anchor.controls),
        )
        texture, filled = self.texture.to(device), self.filled and self.filled.to(device)
        others = {prompt: other.to(device, dtype) for prompt, other in self.others.items()}
        return replace(self, texture=texture, filled=filled, anchor=anchor, others=others)


def _decode_others(found: dict[str, np.ndarray]) -> dict[str, Look]:
    prompts = [str(prompt) for prompt in found.get("other_prompts", ())]
    if len(prompts) > MAX_PROMPTS:
        raise ValueError("it has more prompts than any shot")
    return {prompt: Look.decode(found[f"other_{n}"].tobytes(), is_other=True) for n, prompt in enumerate(prompts)}


def _check_arrays(found: dict[str, np.ndarray], trajectory: np.ndarray, controls: int) -> None:
    """Raise ``ValueError`` for arrays that no look has."""
    plate = found["plate"]
    numbers = (trajectory.dtype, plate.dtype, found["plate_distance"].dtype)
    if numbers != (np.float32, np.uint8, np.float32) or found.get("keyframes", found["cells"]).dtype != np.int64:
        raise ValueError("its arrays are of other types")
    if trajectory.ndim != 4 or not trajectory.size or not np.isfinite(trajectory).all():
        raise ValueError("its anchor is damaged")
    if any(found[f"control_{n}"].ndim != 4 or found[f"control_{n}"].dtype != np.float32 for n in range(controls)):
        raise ValueError("its control pictures are damaged")
    if not np.isfinite(found.get("anchor_control_scale", 0.0)).all():
        raise ValueError("its anchor's control strength is no number")
    if plate.ndim != 3 or plate.shape != (*found["plate_distance"].shape, 3):
        raise ValueError("its background is damaged")


def check_surface(texture: SurfaceTexture, source: PassesSource) -> None:
    """Raise ``ShotError`` when the surface in a shot is not the one that a texture was made on.

    Pixels of the same character that are near a known surface lie in known cells; those of another character cross them only
    here and there.
    """
    near_pixels = inside_pixels = seen_pixels = 0
    vague = texture.coarsen(texture.side * NEAR)
    for frame in sample_frames(source.overview, range(source.frame_count)):
        if not len(frame.pixels):
            continue
        exact, rough = (find_corners(frame.key, frame.ids, side)[0] for side in (texture.side, vague.side))
        near = (vague.rows(torch.from_numpy(rough)) >= 0).any(1)
        inside = (texture.rows(torch.from_numpy(exact)) >= 0).any(1)
        seen_pixels += len(frame.pixels)
        near_pixels += int(near.sum())
        inside_pixels += int((inside & near).sum())
    if (near_pixels > FEW and inside_pixels < SAME_SURFACE * near_pixels) or (seen_pixels and not len(texture.cells)):
        raise ShotError(
            "look",
            "The kept look belongs to another character, or to another shape of this one; make a new look, "
            "or generate with the character that it was made for.",
        )
