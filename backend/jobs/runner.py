"""Runs one job: resumes what is on disk, generates the rest, and says what happens."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np

from ...shared.messages import Cancelled, Failed, Finished, FrameResult, Message, Progress
from ...shared.shot import FramePasses, ShotError
from ...shared.version import VERSION
from ..metrics.consistency import consistency
from ..models.loading import ImageModel, LoadOptions, load
from ..models.registry import fingerprint
from ..video.pipeline import Interrupted, ShotPipeline, Watch
from ..video.texture import gather
from .reuse import unchanged
from .store import Job

Emit = Callable[[Message, dict[str, np.ndarray] | None], None]


class ModelCache:
    """Keeps the model used last."""

    def __init__(self, options: LoadOptions | None = None) -> None:
        self._model: ImageModel | None = None
        self._fingerprint = ""
        self._options = options

    def get(self, name: str) -> ImageModel:
        """The loaded model; ``ShotError`` when it cannot be loaded."""
        found = fingerprint(name)
        if self._model is None or (self._model.name, self._fingerprint) != (name, found):
            self._model = None
            self._model, self._fingerprint = load(name, options=self._options), found
        return self._model


def run(job: Job, models: ModelCache, emit: Emit, should_stop: Callable[[], bool]) -> bool:
    """Generate a job's frames, emitting each as soon as it is stored; True when the job is finished.

    Everything that goes wrong is emitted as ``Failed``; nothing on disk is lost.
    """

    def send_frame(index: int, image: np.ndarray) -> None:
        emit(FrameResult(job=job.name, index=index, frame=job.request.frames[index]), {"image": image})

    try:
        done = job.finished_frames()
        for index in done:
            send_frame(index, job.read_frame(index))
        report = job.report()
        if report is None or len(done) < len(job.request.frames):
            report = _generate(job, models, emit, should_stop, set(done), send_frame)
            job.finish(report)
        emit(Finished(job=job.name, report=report), job.textures())
        return True
    except Interrupted:
        emit(Cancelled(job=job.name), None)
    except ShotError as error:
        emit(Failed(job=job.name, code=error.code, message=str(error)), None)
    except MemoryError:
        emit(
            Failed(job=job.name, code="memory", message="There is not enough memory; use fewer frames or a smaller resolution."),
            None,
        )
    except OSError as error:
        emit(Failed(job=job.name, code="disk", message=f"The job folder cannot be used: {error}."), None)
    except RuntimeError as error:
        memory = "out of memory" in str(error).lower()
        advice = (
            "The device ran out of memory; use fewer frames or a smaller resolution."
            if memory
            else (f"The generation failed: {str(error).splitlines()[0]}")
        )
        emit(Failed(job=job.name, code="memory" if memory else "internal", message=advice), None)
    return False


def _generate(
    job: Job,
    models: ModelCache,
    emit: Emit,
    should_stop: Callable[[], bool],
    done: set[int],
    send_frame: Callable[[int, np.ndarray], None],
) -> dict[str, Any]:
    started = time.perf_counter()
    emit(Progress(job=job.name, stage="loading the model", step=0, steps=1), None)
    model = models.get(job.request.sampling.model)
    passes = job.passes()

    def progress(stage: str, step: int, steps: int) -> None:
        emit(Progress(job=job.name, stage=stage, step=step, steps=steps), None)

    watch = Watch(progress, should_stop, job.save_checkpoint, job.load_checkpoint, keep_look=job.save_look)
    watch.timed("loading", started)
    parent = job.parent()
    taken = _take_over(job, parent, passes, done, send_frame) if parent else {}
    pipeline = _pipeline(job, parent, model, passes, watch)
    for index, image in pipeline.made(done, taken):
        if index not in done:
            job.write_frame(index, image)
            send_frame(index, image)
    measuring = time.perf_counter()
    images = job.images()
    figures = consistency(images, passes)
    watch.timed("measuring", measuring)
    gathering = time.perf_counter()
    for character in np.unique(passes.mask[passes.mask > 0]):
        texture = gather(images, passes, int(character))
        if texture is not None:
            job.write_texture(int(character), texture)
    watch.timed("gathering the texture", gathering)
    packages = ("torch", "diffusers", "transformers", "numpy", "scipy", "pyzmq")
    return {
        "job": job.name,
        "settings": msgspec.to_builtins(job.request),
        "method": msgspec.to_builtins(job.request.resolved_method()),
        "seconds": {name: round(value, 3) for name, value in watch.seconds.items()},
        "consistency": {name: None if np.isnan(value) else round(value, 4) for name, value in figures.items()},
        "versions": {"latentman": VERSION, "python": platform.python_version(), **{p: version(p) for p in packages}},
        "device": str(model.device),
        "frames": {"made": len(job.request.frames) - len(taken), "kept": len(taken)},
        "notices": list(dict.fromkeys(watch.notices)),
    }


def _take_over(
    job: Job,
    parent: Job,
    passes: FramePasses,
    done: set[int],
    send_frame: Callable[[int, np.ndarray], None],
) -> dict[int, int]:
    """Copy the frames that are as they were in ``parent``, adding them to ``done``; index -> index there."""
    if not job.same_settings(parent):
        return {}
    taken = {}
    for index, old in unchanged(job.request, passes, parent.request, parent.passes()).items():
        if not parent.frame_path(old).exists():
            continue
        taken[index] = old
        if index not in done:
            send_frame(index, job.take_frame(index, parent.frame_path(old)))
            done.add(index)
    return taken


def _pipeline(job: Job, parent: Job | None, model: ImageModel, passes: FramePasses, watch: Watch) -> ShotPipeline:
    """The pipeline of a job, with the look that it has settled before it was stopped, or else with the one that it keeps."""
    look = job.look()
    if look is not None:
        return ShotPipeline(model, job.request, passes, watch, look=look, settled=True)
    if parent is not None:
        try:
            return ShotPipeline(model, job.request, passes, watch, look=parent.look(), same_place=job.same_settings(parent))
        except ShotError as error:
            if error.code != "look" or not job.request.look_optional:
                raise
            watch.notices.append("The look was made anew: the character's surface is not what it was.")
    return ShotPipeline(model, job.request, passes, watch)
