"""Costumes in jobs: one that is made while a character is looked at from all sides, and one that the characters of a shot wear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...shared.charts import Charts
from ...shared.costume_files import CHARTS, COSTUME, PAINT, read_images
from ...shared.shot import ShotError, ShotRequest
from ..pictures import decode_rgba, encode_png
from ..video.costume import Costume, collect_surface, measure_known, measure_overlap, paint_texture
from ..video.look import Look
from ..video.mirroring import find_mirror
from ..video.run_context import RunContext
from ..video.source import PassesSource
from .job import Job

#: less of the surface than this is said
ENOUGH = 0.98
#: cells along a triangle's edge that count, and within the triangles of all of a costume, at most
MOST_STEPS, MOST_CELLS = 256, 200_000_000
#: texels that belong to several places are said from this fraction on
MOST_SHARED = 0.01


def _has_map(charts: Charts, surface: int) -> bool:
    """Whether a surface has texture coordinates that differ."""
    places = charts.uv[charts.surface == surface].reshape(-1, 2)
    return bool(len(places)) and float(np.ptp(places, axis=0).max()) > 0


def check_costume(request: ShotRequest, files: Mapping[str, bytes], *, is_part: bool = False) -> None:
    """Raise ``ShotError`` for files of a costume that cannot be used, before anything is rendered for them. ``is_part`` says that
    the shot is made from a look's file, or makes one."""
    if is_part:
        raise ShotError(
            "costume", "A look's file has its own texture, and takes no costume; generate the shot as a whole to have it wear one."
        )
    if request.look and not request.look_optional:
        raise ShotError("costume", "The shot cannot keep a look and wear a costume at once; leave one of them out.")
    if CHARTS in files:
        Charts.decode(files[CHARTS])
    _read_worn(files)


def _read_worn(files: Mapping[str, bytes]) -> tuple[list[Costume], float]:
    """The given costumes with what was painted on their images, and how much of a surface that is at most."""
    costumes, most = [], 0.0
    for file in sorted(name for name in files if name.startswith(COSTUME)):
        costume = Costume.decode(files[file])
        _check_density(costume)
        painted = read_images(files[file], only_painted=True)
        if file == COSTUME:
            painted |= {int(name.removeprefix(PAINT)): data for name, data in files.items() if name.startswith(PAINT)}
        for surface, data in painted.items():
            if surface not in costume.charts.names:
                raise ShotError(
                    "paint", "A painted image belongs to a surface that the costume does not have; paint on its own images."
                )
            try:
                image = decode_rgba(data)
            except (OSError, ValueError) as error:
                raise ShotError(
                    "paint", f"The painted image cannot be read ({error}); paint on it in Blender, and try again."
                ) from error
            texture, share = paint_texture(costume.texture, costume.charts, surface, image)
            costume, most = replace(costume, texture=texture), max(most, share)
        costumes.append(costume)
    return costumes, most


def _check_density(costume: Costume) -> None:
    """Raise ``ShotError`` for a file whose triangles are so large beside its cells that nobody would wait for what is done with
    each of these."""
    rest = costume.charts.rest.astype(np.float64)
    edges = np.linalg.norm(rest - np.roll(rest, 1, 1), axis=2).max(1)
    if (np.ceil(np.minimum(edges / costume.texture.side, MOST_STEPS)) ** 2).sum() > MOST_CELLS:
        raise ShotError("costume", "The costume is far too fine for the size of its surface; dress the character again.")


def _fit(costumes: list[Costume], source: PassesSource) -> Costume | None:
    """All of them together, as the shot numbers their surfaces."""
    fitted: Costume | None = None
    for n, costume in enumerate(costumes):
        others = {name for m, other in enumerate(costumes) if m != n for name in other.charts.names.values()}
        try:
            own = costume.fit(source, others)
        except ShotError:
            # of several characters not every one need be seen
            if len(costumes) == 1 or (fitted is None and n == len(costumes) - 1):
                raise
            continue
        fitted = own if fitted is None else fitted.join(own)
    return fitted


class Dressing:
    """What a job has to do with a costume: nothing, or it wears one, or makes one, or completes one."""

    def __init__(self, job: Job, source: PassesSource) -> None:
        """Raises ``ShotError`` for files that are missing or damaged, and for a costume of another surface."""
        self._job, files = job, job.costume_files()
        costumes, self._painted = _read_worn(files)
        #: what the characters wear from the beginning
        self.worn = _fit(costumes, source)
        self._charts = Charts.decode(files[CHARTS]) if CHARTS in files else None

    @property
    def keyframes(self) -> tuple[int, ...]:
        """The frames that are made together, where they are not to be chosen."""
        count = len(self._job.request.frames)
        return tuple(n for n in self._charts.keyframes if 0 <= n < count) if self._charts is not None and self.worn is None else ()

    @property
    def has_costume(self) -> bool:
        """Whether the job's textures are those of a costume."""
        return self.worn is not None or self._charts is not None

    def complete_with(self, run_context: RunContext) -> None:
        """Have the look completed before other frames are made from it, where a costume is made."""
        if self._charts is not None:
            run_context.complete_look = self._make_completion(self._charts, run_context.progress)

    def complete_file(self, look: bytes, run_context: RunContext) -> bytes:
        """A look (``Look.encode``) as ``complete_with`` has it."""
        return look if self._charts is None else run_context.complete_look(Look.decode(look)).encode()

    def _make_completion(self, charts: Charts, progress: Callable[[str, int, int], None]) -> Callable[[Look], Look]:
        def complete(look: Look) -> Look:
            progress("completing the surface", 0, 2)
            device = look.texture.cells.device
            own = replace(look, texture=look.texture.to(torch.device("cpu")))
            self._job.write_figures({"known": round(measure_known(own.texture, charts), 4)})
            progress("completing the surface", 1, 2)
            surface = collect_surface(charts, own.texture.side)
            fusion = self._job.request.get_method().fusion
            mirror = find_mirror(surface) if fusion is not None and fusion.symmetric else None
            filled = own.fill(surface, mirror).filled
            assert filled is not None
            progress("completing the surface", 2, 2)
            return replace(look, texture=filled.to(device))

        return complete

    def store(self, run_context: RunContext) -> dict[str, Any]:
        """Store the costume's file and the images of its surfaces once all frames are there, and give what is to be said of it."""
        costume = self.worn
        if self._charts is not None:
            look = self._job.read_look()
            assert look is not None
            costume = Costume(look.texture, self._charts, self._job.request.text.prompt, look.light is not None)
        assert costume is not None
        charts = costume.charts
        images = {}
        for number, (surface, atlas) in enumerate(costume.iter_atlases(), 1):
            run_context.progress("painting the atlas", number, len(charts.names))
            images[surface] = encode_png(atlas)
            self._job.write_texture_file(surface, images[surface])
        self._job.write_costume(costume.encode(images))
        figures: dict[str, Any] = {
            "surfaces": {str(number): name for number, name in charts.names.items()},
            "side": costume.texture.side,
        }
        if self.worn is not None:
            figures["painted"] = round(self._painted, 4)
        figures |= self._job.read_figures()
        known = figures.get("known")
        if known is not None and known < ENOUGH:
            run_context.warnings.append(
                f"The views show {known:.0%} of the surface, and the rest was filled from its neighbours; open the pose, or hide "
                "what covers the body."
            )
        for surface, name in charts.names.items():
            if not _has_map(charts, surface):
                run_context.warnings.append(
                    f"The texture map of '{name}' is a single point, so its image shows nothing: it wears the costume in shots, "
                    "and to paint on it or use it as a material, unwrap it (U in Edit Mode) and dress again."
                )
            elif (shared := measure_overlap(charts, surface)) > MOST_SHARED:
                run_context.warnings.append(
                    f"{shared:.0%} of the texture map of '{name}' belongs to several places of its surface, which share their "
                    "colours in the image; unwrap it without overlaps to paint on each of them."
                )
        return figures
