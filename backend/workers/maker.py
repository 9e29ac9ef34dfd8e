"""A worker's side: makes one unit after the other with the models that it has loaded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping

from ...shared.load_options import LoadOptions
from ...shared.shot import ShotError
from ...shared.version import VERSION
from ..failures import explain_failure
from ..jobs.beginning import begin_pipeline
from ..jobs.runner import ModelCache, RunCallbacks
from ..metrics.code_identity import describe_code
from ..models.identity import identify
from ..models.image_model import ImageModel
from ..pictures import encode_png
from ..reference_pictures import decode_reference
from ..video.clips import check_parts
from ..video.drafts import DraftMaker
from ..video.look import Look
from ..video.memory import BatchBudget
from ..video.pipeline import ShotPipeline
from ..video.run_context import Interrupted, RunContext
from .port import PassesMissing, UnitPort
from .source import FetchedPasses
from .units import (
    Drafted,
    Event,
    FrameMade,
    FrameUnit,
    KeyUnit,
    LookMade,
    Moved,
    PackedPasses,
    Saved,
    ShotWork,
    Unit,
    UnitEnded,
    UnitFailed,
    WorkerDescription,
)


class UnitMaker:
    """Makes units; one at a time has the device, the model loaded last stays."""

    def __init__(self, options: LoadOptions | None = None) -> None:
        """Raises ``ShotError`` for a device or a precision that is not there."""
        self._models = ModelCache(options)
        self._busy = threading.Lock()
        self._identified: dict[str, str] = {}
        #: the look used last, by its hash: many units share one
        self._look: tuple[str, Look] | None = None

    def describe(self) -> WorkerDescription:
        """What this worker is."""
        return WorkerDescription(VERSION, describe_code(), str(self._models.device), socket.gethostname())

    def run(self, unit: Unit, port: UnitPort) -> Iterator[Event]:
        """What happens while a unit is made, its end last; never raises."""
        return port.iter_events(lambda: self._run_safely(unit, port))

    def _run_safely(self, unit: Unit, port: UnitPort) -> None:
        try:
            with self._busy:
                end = self._make_keys(unit, port) if isinstance(unit, KeyUnit) else self._make_frames(unit, port)
        except Interrupted:
            port.tell(UnitFailed("cancelled", "It was stopped.", interrupted=True))
        except PassesMissing as error:
            port.tell(UnitFailed("passes", str(error)))
        except BaseException as error:  # whatever it is, whoever waits for the end must hear of it
            port.tell(UnitFailed(*explain_failure(error)))
        else:
            port.tell(end)

    def _load(self, work: ShotWork, port: UnitPort) -> ImageModel:
        """The model, whose files must be those of whoever asks."""
        if work.model not in self._identified:
            self._identified[work.model] = identify(work.model)
        if self._identified[work.model] != work.identity:
            raise ShotError(
                "worker",
                f"The worker on {socket.gethostname()} has other files of the model '{work.request.sampling.model}'; copy the same "
                "files there, or end that worker.",
            )
        port.tell(Moved("loading the model", 0, 1))
        callbacks = RunCallbacks(lambda *moved: port.tell(Moved(*moved)), should_stop=port.should_stop)
        return self._models.get(work.model, callbacks, (work.request.width, work.request.height)).settle()

    def _make_context(self, port: UnitPort) -> RunContext:
        return RunContext(lambda *moved: port.tell(Moved(*moved)), port.should_stop)

    def _make_keys(self, unit: KeyUnit, port: UnitPort) -> UnitEnded:
        work, model = unit.work, self._load(unit.work, port)
        if work.request.get_method().keyframes is not None:
            check_parts(model)
        if unit.finalized:
            return self._end(self._make_context(port), BatchBudget.within(model.plan.frames).frames)
        source = FetchedPasses(work.request, work.header, lambda index, overview: port.want(index, overview=overview))
        checkpoint, keyframes = unit.checkpoint, list[int]()
        context = self._make_context(port)
        context.save = lambda saved: port.tell(Saved(saved))
        context.resume = lambda: checkpoint

        def keep_look(look: Look) -> None:
            keyframes.extend(look.keyframes)
            port.tell(LookMade(look.encode()))

        context.keep_look = keep_look
        if unit.drafts:
            context.show_clean = DraftMaker(model, lambda rows, pictures: port.tell(Drafted(tuple(rows), pictures))).show
        pipeline = begin_pipeline(
            model,
            work.request,
            source,
            context,
            Look.decode(unit.look) if unit.look else None,
            finalized=False,
            same_settings=unit.same_settings,
            reference=decode_reference(work.reference) if work.reference else None,
            keyframes=unit.keyframes,
        )
        # as if the others were there already: only what is denoised jointly is made
        everything = range(source.frame_count) if work.request.get_method().keyframes is not None else unit.done
        for index, image in pipeline.iter_frames(everything, unit.foreign):
            if index not in unit.done:
                port.tell(FrameMade(index, encode_png(image)))
        return self._end(context, pipeline.batch_frames, tuple(keyframes))

    def _make_frames(self, unit: FrameUnit, port: UnitPort) -> UnitEnded:
        work, model = unit.work, self._load(unit.work, port)
        context = self._make_context(port)
        if self._look is None or self._look[0] != unit.look_hash:
            self._look = unit.look_hash, Look.decode(unit.look.tobytes())
        sources: Mapping[int, PackedPasses] = dict(zip(unit.rows, unit.passes, strict=True))
        source = FetchedPasses(work.request, work.header, lambda index, overview: sources[index])
        pipeline = ShotPipeline(
            model,
            work.request,
            source,
            context,
            look=self._look[1],
            finalized=True,
            reference=decode_reference(work.reference) if work.reference else None,
            part=unit.rows,
            noise_cell_side=unit.noise_cell_side,
        )
        for rows in [[row] for row in unit.rows] if unit.singly else [list(unit.rows)]:
            for row, image in pipeline.make_batch(rows):
                port.tell(FrameMade(row, encode_png(image)))
        return self._end(context, pipeline.batch_frames)

    def _end(self, context: RunContext, batch_frames: int, keyframes: tuple[int, ...] = ()) -> UnitEnded:
        return UnitEnded(dict(context.seconds), tuple(context.warnings), str(self._models.device), batch_frames, keyframes)
