"""The frames of a part of a shot, from the look's file that came with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...shared.look_file import LookFile
from ...shared.settings import with_settings
from ..models.image_model import ImageModel
from ..pictures import encode_png
from ..video.look import Look
from ..video.part import ShotPart
from ..video.pipeline import RunContext, ShotPipeline
from .job import Job
from .passes import StoredPasses


def iter_part(
    job: Job, look_file: LookFile, model: ImageModel, source: StoredPasses, run_context: RunContext, done: set[int]
) -> Iterator[tuple[int, bytes]]:
    """(index in the job, PNG file) of every frame that is not ``done``. Key frames come as they are in the look's file; the others
    are made one at a time, so that they are the same whatever else is in the part.

    Raises ``ShotError`` when a frame does not show what it showed when the look was made.
    """
    rows = look_file.list_rows(job.request.frames)
    for index, row in enumerate(rows):
        run_context.check()
        look_file.check_view(row, source.overview(index))
    places = {row: index for index, row in enumerate(rows)}
    finished = {row for row, index in places.items() if index in done}
    for row, index in places.items():
        if row in look_file.frames and row not in finished:
            yield index, look_file.frames[row]
    description = look_file.description
    keyframes = set(description.keyframes)
    if keyframes | finished >= set(rows):
        return
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
    for row, image in pipeline.iter_frames(finished):
        yield places[row], encode_png(image)
