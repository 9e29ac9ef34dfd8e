"""What is around the characters of one shot: whether it turns with the camera, its shadows, and how frames are laid before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from ...shared.passes import FramePasses
from ...shared.shot import Method
from .cameras import Camera, list_cameras, moves
from .edges import composite_surfaces
from .horizon import Horizon
from .images import convert_to_image
from .look import Anchor, Look, Plate
from .shadows import find_ground_height, measure_figures, scale_lengths
from .source import PassesSource
from .surroundings import FrameBackground, Surroundings, make_background, make_moving, make_still
from .view_selection import bridge_views

#: frames, about, in which the ground is sought
GROUND_FRAMES = 48


class ShotSurroundings:
    """The surroundings of a shot, known from its passes' description as far as they are not in a look."""

    def __init__(
        self,
        source: PassesSource,
        method: Method,
        rows: Sequence[int],
        load_clip: Callable[[Sequence[int]], FramePasses],
        *,
        is_part: bool,
        same_settings: bool,
    ) -> None:
        """``rows`` are the frames that are made, ``load_clip`` loads the passes of some. ``is_part`` and ``same_settings`` are as
        for ``ShotPipeline``: in a part only the look says whether the background turns."""
        self._source, self._method, self._rows, self._load_clip = source, method, rows, load_clip
        self._is_part, self._same_settings = is_part, same_settings

    @cached_property
    def cameras(self) -> dict[int, Camera]:
        """The cameras of the frames that are made; none where they are not known."""
        rows = list(self._rows)
        return dict(zip(rows, list_cameras(self._source.overview_manifest(rows)), strict=False))

    @cached_property
    def turns(self) -> bool:
        """Whether the background turns with a camera that moves: where surroundings are rendered, their places say where it is."""
        background = self._method.background
        if background is None or not background.follow_camera or self._method.fusion is None or self._is_part:
            return False
        manifest = self._source.overview_manifest(list(self._rows))
        nearest = manifest.near if manifest is not None and manifest.near > 0 else 1.0
        return moves(list(self.cameras.values()), *self._source.size, nearest) and not self._has_scenery

    @cached_property
    def _has_scenery(self) -> bool:
        """Whether what is around the characters is rendered, too."""
        manifest = self._source.overview_manifest(list(self._rows))
        return manifest is not None and any(not entry.character for entry in manifest.surfaces)

    @cached_property
    def ground(self) -> float | None:
        """The height of the ground under the feet in metres; None where it is not known."""
        views = self._list_views()
        lowest = min((find_ground_height(*view) for view in views), default=float("inf"))
        return lowest if np.isfinite(lowest) else None

    @cached_property
    def shadow_scale(self) -> float:
        """That of the lengths of contact shadows, by how large the characters are."""
        figures = [figure for view in self._list_views() for figure in measure_figures(*view)]
        return scale_lengths(float(np.median(figures))) if figures else 1.0

    def _list_views(self) -> list[tuple[np.ndarray, np.ndarray, Camera, float, float]]:
        """Depth and mask (h, w) of some frames, small, with the camera and the nearest and farthest depth; none where cameras are
        not known."""
        rows = list(self._rows)
        manifest = self._source.overview_manifest(rows)
        if manifest is None or not self.cameras:
            return []
        # in some of many frames a foot is down
        rows = rows[:: max(1, len(rows) // GROUND_FRAMES)]
        small = [self._source.overview(row) for row in rows]
        return [
            (one.depth[0], one.mask[0], self.cameras[row], manifest.near, manifest.far)
            for row, one in zip(rows, small, strict=True)
        ]

    def bridge_views(self, found: list[int], rows: list[int], look: Look | None) -> list[int]:
        """Key frames ``found`` among ``rows`` in an order in which their backgrounds overlap, and some more where it takes them;
        ``look`` is one whose surroundings are the shot's."""
        around = look.surroundings if look is not None else None
        cameras = {row: self.cameras[row] for row in rows}
        return bridge_views(found, rows, cameras, Horizon(self.ground), () if around is None else around.cameras)

    def find_turning(
        self, rows: list[int], look: Look | None, anchor: Anchor | None, *, joint: bool
    ) -> tuple[tuple[Camera, ...], Horizon] | None:
        """What a clip's techniques know of a background that turns; None where it does not."""
        turns = self.turns if joint else look is not None and look.surroundings is not None and bool(look.surroundings.cameras)
        if not turns or any(row not in self.cameras for row in rows) or (anchor is not None and anchor.camera is None):
            return None
        before = [anchor.camera] if anchor is not None and anchor.camera is not None else []
        return (*before, *(self.cameras[row] for row in rows)), Horizon(self.ground if joint else None)

    def find_surroundings(
        self, keyframes: list[int], pictures: list[torch.Tensor], look: Look, former: Surroundings | None
    ) -> Surroundings | None:
        """What is around the characters, of finished key frames and of what there was before, ``former``; None where frames keep
        their own."""
        shadows = self._method.shadows is not None and not self._has_scenery
        passes = self._load_clip(keyframes)
        if self.turns:
            images = [convert_to_image(picture) for picture in pictures]
            cameras = [self.cameras[row] for row in keyframes]
            seen_by, scale = list(self.cameras.values()), self.shadow_scale if shadows else 1.0
            return make_moving(images, passes, cameras, seen_by, self.ground, former, shadows=shadows, scale=scale)
        if not shadows:
            return None
        # only shadows without a pass need the ground
        known = (self.ground, self.shadow_scale) if passes.shadow is None else (None, 1.0)
        return self._make_still(look, passes.shadow, former, *known)

    def _make_still(
        self, look: Look, shadow: np.ndarray | None, former: Surroundings | None, ground: float | None, scale: float = 1.0
    ) -> Surroundings:
        figure = look.anchor.passes.surface_index[0] > 0
        return make_still(look.plate.colour, look.plate.distance, figure, shadow=shadow, former=former, ground=ground, scale=scale)

    def complete_look(self, look: Look) -> Look:
        """A look that was made before looks had surroundings, with them."""
        done = self._method.shadows is None or not self._same_settings or look.surroundings is not None
        if done or self._has_scenery:
            return look
        # from the look alone, so that every part of a shot has the same
        return replace(look, surroundings=self._make_still(look, look.anchor.passes.shadow, None, None))

    def make_backgrounds(self, look: Look, rows: list[int]) -> list[FrameBackground]:
        """The backgrounds of the frames ``rows``; empty where frames keep their own."""
        around, shadows = look.surroundings, self._method.shadows
        if around is None:
            return []
        passes, manifest = self._load_clip(rows), self._source.manifest(rows)
        depth_range = (0.0, 0.0) if manifest is None else (manifest.near, manifest.far)
        strength = 0.0 if shadows is None else shadows.strength
        return [make_background(around, passes, n, self.cameras.get(row), depth_range, strength) for n, row in enumerate(rows)]

    def lay_backgrounds(
        self, pictures: list[torch.Tensor], rows: list[int], plate: Plate, backgrounds: list[FrameBackground]
    ) -> list[torch.Tensor]:
        """The finished pictures of the frames ``rows`` with their surfaces cut out of latents that mix them with the place. The
        place is their ``backgrounds``, or the plate where frames share it."""
        fusion, background = self._method.fusion, self._method.background
        if not backgrounds and (fusion is None or not fusion.finish):
            return pictures
        # before a camera that moves, a plate is not what lies at the same pixel
        shares = background is not None and background.until >= 1 and not self.turns
        surfaces = torch.from_numpy(self._load_clip(rows).surface_index > 0)
        out = []
        for n, (picture, surface) in enumerate(zip(pictures, surfaces, strict=True)):
            surface = surface.to(picture.device)
            if backgrounds:
                one = backgrounds[n]
                known = one.known | plate.known if shares else one.known
                out.append(composite_surfaces(picture, surface, one.colour, known, one.shade))
            elif shares:
                out.append(composite_surfaces(picture, surface, plate.colour, plate.known))
            else:
                out.append(composite_surfaces(picture, surface))
        return out
