"""Runs one job: resumes what is on disk, generates the rest, and says what happens."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np

from ...shared.drafts import shrink
from ...shared.load_options import LoadOptions
from ...shared.version import VERSION
from ..metrics.consistency import Consistency
from ..models.devices import choose_device, name_numbers
from ..models.hub import Report
from ..models.image_model import ImageModel
from ..models.loading import load
from ..models.placement import plan_again
from ..models.prompts.named_loras import name_model
from ..models.registry import fingerprint
from ..video.costume import Costume
from ..video.drafts import DraftMaker
from ..video.look import Look
from ..video.pipeline import Interrupted, RunContext, ShotPipeline
from ..video.source import PassesSource
from ..video.texture import TextureGatherer
from .beginning import begin_pipeline
from .dressing import Dressing
from .in_use import Claim
from .job import Job
from .parts import iter_part
from .passes import StoredPasses
from .reuse import iter_unchanged

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "scipy", "pyzmq")


@dataclass(frozen=True)
class RunCallbacks:
    """What a running job tells: its progress, and every frame that is on disk, by its index, once. ``should_stop`` is asked
    between steps."""

    progress: Callable[[str, int, int], None] = lambda stage, step, steps: None
    frame_stored: Callable[[int], None] = lambda index: None
    should_stop: Callable[[], bool] = lambda: False
    #: gets the indices of frames and their small pictures (N, h, w, 3) uint8, and whether they are finished; None for nobody
    draft: Callable[[Sequence[int], np.ndarray, bool], None] | None = None


class ModelCache:
    """Keeps the model used last."""

    def __init__(self, options: LoadOptions | None = None) -> None:
        """Raises ``ShotError`` for a device or a precision that is not there."""
        self._model: ImageModel | None = None
        self._fingerprint = ""
        self._size: tuple[int, int] | None = None
        #: how models are run
        self.options = self._options = options or LoadOptions()
        #: what models run on
        self.device = choose_device(self._options.device)
        #: the numbers that models compute with and hold their weights in, where others than the device's usual ones were asked for
        self.numbers = name_numbers(self._options, self.device)

    def get(self, name: str, callbacks: RunCallbacks | None = None, size: tuple[int, int] | None = None) -> ImageModel:
        """The loaded model for frames of a size (width, height); ``ShotError`` when it cannot be loaded. ``callbacks`` are told
        while it is downloaded, and end that."""
        found = fingerprint(name)
        if self._model is None or (self._model.name, self._fingerprint) != (name, found):
            self._model = None
            report = None if callbacks is None else _make_report(callbacks)
            self._model, self._fingerprint = load(name, self.device, self._options, report, size), found
            self._size = size
        elif size is not None and size != self._size:
            self._model, self._size = plan_again(self._model, self._options, size), size
        return self._model


def _make_report(callbacks: RunCallbacks) -> Report:
    """What tells of a download, and raises ``Interrupted`` when it should stop."""

    def report(done: int, total: int, _: str) -> None:
        callbacks.progress(f"downloading {total / 1e9:.1f} GB", done >> 20, max(total >> 20, 1))
        if callbacks.should_stop():
            raise Interrupted

    return report


def run(job: Job, models: ModelCache, callbacks: RunCallbacks) -> dict[str, Any]:
    """Generate a job's frames, each told of as soon as it is stored, and give its report.

    Raises ``Interrupted`` when it was asked to stop, and ``ShotError``, ``OSError``, ``MemoryError`` or ``RuntimeError``
    (``explain_failure`` puts them into words); whatever happens, nothing on disk is lost.
    """
    return finish(job, callbacks, lambda done: _generate(job, models, callbacks, done))


def finish(job: Job, callbacks: RunCallbacks, generate: Callable[[set[int]], dict[str, Any]]) -> dict[str, Any]:
    """The report of a job, whose frames on disk are told of; ``generate`` is called with their indices where some are missing,
    makes the others and gives the report. Raises what it raises."""
    claim = Claim(job.folder.parent, job.name)
    try:
        done = set(job.list_finished_frames())
        for index in sorted(done):
            callbacks.frame_stored(index)
        report = job.report()
        if report is None or len(done) < len(job.request.frames):
            report = generate(done)
            job.store_report(report)
        return report
    finally:
        claim.release()


def prepare(job: Job, models: ModelCache, callbacks: RunCallbacks) -> tuple[ImageModel, StoredPasses, RunContext]:
    """What a job's work begins with: its model, loaded, its passes, and what it runs in. Raises as ``run`` does."""
    started = time.perf_counter()
    callbacks.progress("loading the model", 0, 1)
    name = name_model(job.request.sampling.model, job.request.text)
    model = models.get(name, callbacks, (job.request.width, job.request.height))
    model = model.settle()
    run_context = RunContext(
        callbacks.progress, callbacks.should_stop, job.save_checkpoint, job.load_checkpoint, keep_look=job.save_look
    )
    run_context.record_time("loading", started)
    draft = callbacks.draft
    if draft is not None:
        run_context.show_clean = DraftMaker(model, lambda rows, pictures: draft(rows, pictures, False)).show
    source = job.passes()
    source.interrupt_with(run_context.check)
    return model, source, run_context


def _generate(job: Job, models: ModelCache, callbacks: RunCallbacks, done: set[int]) -> dict[str, Any]:
    model, source, run_context = prepare(job, models, callbacks)
    taken: set[int] = set()
    dressing = Dressing(job, source)
    dressing.complete_with(run_context)
    look_file = job.look_file()
    if look_file is not None:
        for index, png in iter_part(job, look_file, model, source, run_context, done):
            job.write_png(index, png)
            callbacks.frame_stored(index)
    else:
        parent = job.parent()
        taken = copy_unchanged(job, parent, source, done, callbacks) if parent else set()
        pipeline = make_pipeline(job, parent, model, source, run_context, done, dressing)
        for index, image in pipeline.iter_frames(done, taken):
            if index not in done:
                job.write_frame(index, image)
                if callbacks.draft is not None:
                    callbacks.draft([index], shrink(image)[None], True)
                callbacks.frame_stored(index)
    return conclude(job, source, run_context, str(model.device), taken, dressing, has_textures=look_file is None)


def conclude(
    job: Job,
    source: PassesSource,
    run_context: RunContext,
    device: str,
    taken: set[int],
    dressing: Dressing,
    *,
    has_textures: bool,
) -> dict[str, Any]:
    """The report of a job whose frames are all on disk; ``taken`` are those that come from another job. Stores the textures."""
    figures = _measure(job, source, run_context, has_textures=has_textures and not dressing.has_costume)
    costume = {"costume": dressing.store(run_context)} if dressing.has_costume else {}
    return {
        "job": job.name,
        "settings": msgspec.to_builtins(job.request),
        "method": msgspec.to_builtins(job.request.get_method()),
        "seconds": {name: round(value, 3) for name, value in run_context.seconds.items()},
        "consistency": {name: None if np.isnan(value) else round(value, 4) for name, value in figures.items()},
        "versions": {"latentman": VERSION, "python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "device": device,
        "frames": {"made": len(job.request.frames) - len(taken), "kept": len(taken)},
        "textures": list(job.textures()),
        **costume,
        "warnings": list(dict.fromkeys(run_context.warnings)),
    }


def _measure(job: Job, source: PassesSource, run_context: RunContext, *, has_textures: bool) -> dict[str, float]:
    """The finished job's figures; stores its textures as well, since both look at every frame once. Of a shot whose prompt changes
    the textures are those of the prompt that it begins with."""
    started = time.perf_counter()
    consistency, gatherer = Consistency(), TextureGatherer()
    mixes = job.request.list_mixes()
    for index in range(source.frame_count):
        run_context.check()
        image, passes = job.read_frame(index), source.frame(index)
        if index and mixes[index] != mixes[index - 1]:
            consistency.cut()
        consistency.add(image, passes)
        if has_textures and mixes[index] == mixes[0]:
            gatherer.add(image, passes)
        run_context.progress("measuring", index + 1, source.frame_count)
    for character, texture in gatherer.textures().items():
        job.write_texture(character, texture)
    run_context.record_time("measuring", started)
    return consistency.figures()


def copy_unchanged(job: Job, parent: Job, source: PassesSource, done: set[int], callbacks: RunCallbacks) -> set[int]:
    """Copy the frames that are as they were in ``parent``, adding them to ``done``; the indices of those frames."""
    if not job.has_same_settings(parent):
        return set()
    taken = set()
    for index, old in iter_unchanged(job.request, source, parent.request, parent.passes()):
        if not parent.has_frame(old):
            continue
        taken.add(index)
        if index not in done:
            job.copy_frame_from(index, parent.frame_path(old))
            callbacks.frame_stored(index)
            done.add(index)
    return taken


def make_pipeline(
    job: Job,
    parent: Job | None,
    model: ImageModel,
    source: PassesSource,
    run_context: RunContext,
    done: set[int],
    dressing: Dressing | None = None,
) -> ShotPipeline:
    """The pipeline of a job, with the look that it had finished before it was stopped, or else the look that it keeps or the
    costume that is worn in it."""
    look, finalized, same_settings = choose_look(job, parent, done, dressing.worn if dressing is not None else None)
    return begin_pipeline(
        model,
        job.request,
        source,
        run_context,
        look,
        finalized=finalized,
        same_settings=same_settings,
        reference=job.read_reference(),
        keyframes=dressing.keyframes if dressing is not None else (),
    )


def choose_look(job: Job, parent: Job | None, done: set[int], worn: Costume | None = None) -> tuple[Look | None, bool, bool]:
    """The look that a job begins with, whether it is finished for this very shot, and whether it was made with the same settings.

    Where a key frame is not among the frames ``done``, the look is made again with it: from the look alone it would not be what
    it was.
    """
    look = job.look()
    if look is not None and done.issuperset(look.keyframes):
        return look, True, True
    if parent is not None and (worn is None or job.has_same_settings(parent)):
        return parent.read_look(), False, job.has_same_settings(parent)
    if worn is not None:
        return worn.make_look(), False, False
    return None, False, True
