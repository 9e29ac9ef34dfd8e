"""The frames of a part of a shot, from the look's file that came with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...shared.look_file import LookFile
from ...shared.settings import with_settings
from ..models.image_model import ImageModel
from ..pictures import encode_png
from ..video.look import Look
from ..video.part import ShotPart
from ..video.pipeline import RunContext, ShotPipeline
from .job import Job
from .passes import StoredPasses


@dataclass(frozen=True)
class PartPlan:
    """What is to be done for a part: ``places``, row of the shot -> index in the job; ``finished``, (index, PNG file) of key frames
    that come as they are in the look's file; ``done`` and ``rows``, the rows that are there and those to be made."""

    places: dict[int, int]
    finished: tuple[tuple[int, bytes], ...]
    done: frozenset[int]
    rows: tuple[int, ...]


def plan_part(job: Job, look_file: LookFile, source: StoredPasses, run_context: RunContext, done: set[int]) -> PartPlan:
    """The plan of a job whose frames ``done`` are there. Raises ``ShotError`` when a frame does not show what it showed when the
    look was made."""
    rows = look_file.list_rows(job.request.frames)
    for index, row in enumerate(rows):
        run_context.check()
        look_file.check_view(row, source.overview(index))
    places = {row: index for index, row in enumerate(rows)}
    there = frozenset(row for row, index in places.items() if index in done)
    finished = tuple(
        (index, look_file.frames[row]) for row, index in places.items() if row in look_file.frames and row not in there
    )
    keyframes = set(look_file.description.keyframes)
    return PartPlan(places, finished, there, tuple(row for row in rows if row not in keyframes | there))


def iter_part(
    job: Job, look_file: LookFile, model: ImageModel, source: StoredPasses, run_context: RunContext, done: set[int]
) -> Iterator[tuple[int, bytes]]:
    """(index in the job, PNG file) of every frame that is not ``done``. Key frames come as they are in the look's file; the others
    are made one at a time, so that they are the same whatever else is in the part.

    Raises ``ShotError`` when a frame does not show what it showed when the look was made.
    """
    plan = plan_part(job, look_file, source, run_context, done)
    yield from plan.finished
    if not plan.rows:
        return
    description, rows = look_file.description, list(plan.places)
    pipeline = ShotPipeline(
        model,
        # the model's files may lie elsewhere here
        with_settings(description.request, {"model": job.request.sampling.model}),
        ShotPart(source, len(description.request.frames), rows),
        run_context,
        look=replace(Look.decode(look_file.look), keyframes=description.keyframes),
        finalized=True,
        reference=job.read_reference(),
        part=rows,
        noise_cell_side=description.noise_cell_side,
    )
    for row, image in pipeline.iter_frames(plan.done):
        yield plan.places[row], encode_png(image)
