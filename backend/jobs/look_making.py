"""A shot's look, made once and packed as a file from which others make its frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from ...shared.files import read_file
from ...shared.look_file import LookDescription, LookScene, encode_look_file, make_view
from ...shared.shot import ShotError, ShotRequest, explain_no_keyframes
from ...shared.version import VERSION
from ..models.identity import identify
from ..models.prompts.named_loras import name_model
from ..video.clips import check_parts
from ..video.pipeline import find_noise_cell_side
from ..video.run_context import RunContext
from .in_use import Claim
from .job import REFERENCE, Job
from .passes import StoredPasses
from .runner import ModelCache, RunCallbacks, make_pipeline, prepare


def check_look_request(request: ShotRequest) -> None:
    """Raise ``ShotError`` for a shot whose frames cannot be made from a look, or that keeps another's."""
    if request.get_method().keyframes is None:
        raise ShotError("preset", explain_no_keyframes(request))
    if request.look:
        raise ShotError("look", "A look is made anew; leave --look out, or generate with it.")


def make_look(
    job: Job, models: ModelCache, callbacks: RunCallbacks, scene: LookScene | None = None
) -> tuple[bytes, dict[str, Any]]:
    """The look's file of a job, whose key frames are made unless they are there, and what is to be said of it. Raises as
    ``runner.run`` does, and ``check_look_request``."""

    def make(done: set[int]) -> RunContext:
        model, source, run_context = prepare(job, models, callbacks)
        # nothing could be made from it
        check_parts(model)
        pipeline = make_pipeline(job, None, model, source, run_context, done)
        # as if the others were there already: only the key frames are made
        for index, image in pipeline.iter_frames(done=range(source.frame_count)):
            job.write_frame(index, image)
        return run_context

    return pack_look(job, make, callbacks, str(models.device), scene)


def pack_look(
    job: Job,
    make: Callable[[set[int]], RunContext],
    callbacks: RunCallbacks,
    device: str,
    scene: LookScene | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """The look's file of a job, and what is to be said of it. ``make`` is called where its look or a key frame is missing, with the
    frames that are there; it gives what it ran in."""
    check_look_request(job.request)
    claim = Claim(job.folder.parent, job.name)
    try:
        source = job.passes()
        run_context = RunContext(callbacks.progress, callbacks.should_stop)
        source.interrupt_with(run_context.check)
        done = set(job.list_finished_frames())
        look = job.look()
        if look is None or not done.issuperset(look.keyframes):
            run_context = make(done)
            look = job.read_look()
            assert look is not None
        views = _list_views(source, callbacks)
        request = job.request
        description = LookDescription(
            version=VERSION,
            job=job.name,
            model=identify(name_model(request.sampling.model, request.text)),
            request=msgspec.structs.replace(request, manifest=None),
            header=source.header,
            keyframes=look.keyframes,
            noise_cell_side=find_noise_cell_side(source),
            scene=scene,
        )
        reference = read_file(job.folder / REFERENCE) if request.text.reference else b""
        frames = {row: job.read_png(row) for row in sorted(look.keyframes)}
        data = encode_look_file(description, look.encode(), frames, views, reference)
        return data, {
            "job": job.name,
            "frames": [request.frames[row] for row in look.keyframes],
            "shot": len(request.frames),
            "seconds": {name: round(value, 3) for name, value in run_context.seconds.items()},
            "device": device,
            "warnings": list(dict.fromkeys(run_context.warnings)),
        }
    finally:
        claim.release()


def _list_views(source: StoredPasses, callbacks: RunCallbacks) -> dict[str, np.ndarray]:
    found = []
    for index in range(source.frame_count):
        found.append(make_view(source.overview(index)))
        callbacks.progress("describing frames", index + 1, source.frame_count)
    return {name: np.stack([view[name] for view in found]) for name in found[0]}
