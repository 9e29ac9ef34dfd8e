"""One of the Blenders of ``pooled_render``: measures and renders frames of a copy of the user's file as it is told on standard
input, and says on standard output what it has done. Both speak JSON, one object on a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from ...shared.manifest import PassesHeader
from ...shared.passes_folder import save_frame
from ..scene_choice import use_scene
from .played_scene import prepare
from .render import MeasuredFrame, PassRender
from .render_worker import REQUEST, BothSizes, RenderRequest, find_unknown_names, leave_passes, make_local_render, run_worker

__all__ = ["prepare", "run"]


class _PooledWorker:
    def __init__(self, folder: Path, say: Callable[[dict[str, Any]], None], lines: Iterator[bytes]) -> None:
        self._folder, self._say, self._lines = folder, say, lines
        self._request = msgspec.json.decode((folder / REQUEST).read_bytes(), type=RenderRequest)

    def work(self) -> None:
        """Do what is asked for until nothing more can be asked."""
        unknown = find_unknown_names(self._request)
        if unknown:
            self._say({"unable": f"drivers may use {', '.join(unknown)}, which only the first Blender knows"})
            return
        with use_scene(self._request.scene, self._request.layer):
            self._answer_all(make_local_render(self._request))

    def _answer_all(self, render: PassRender) -> None:
        with closing(BothSizes(render, self._request.size)) as sizes:
            for line in self._lines:
                wanted = json.loads(line)
                if "measure" in wanted:
                    self._measure(render, tuple(wanted["measure"]))
                elif "adopt" in wanted:
                    render.adopt(msgspec.convert(wanted["adopt"], tuple[MeasuredFrame, ...]))
                else:
                    self._render(sizes, render.header, **wanted)

    def _measure(self, render: PassRender, frames: tuple[int, ...]) -> None:
        for measured in render.measure_frames(frames):
            self._say({"measuring": measured})
        self._say({"measured": msgspec.to_builtins(render.get_measured())})

    def _render(self, sizes: BothSizes, header: PassesHeader, index: int, overview: bool, save: str) -> None:
        """Render a frame, into files of OpenEXR in the folder ``save`` where one is named."""
        for frame in sizes.render(index, overview):
            if save:
                save_frame(Path(save), self._request.frames[index], frame.passes, header, overview=overview)
            else:
                leave_passes(self._folder, index, overview, frame.passes)
            seen = bool(frame.passes.mask.any())
            self._say({"index": index, "overview": overview, "entry": msgspec.to_builtins(frame.entry), "seen": seen})


def run(folder: Path) -> None:
    """Answer what is asked about the shot that the request in ``folder`` describes."""
    run_worker(lambda say, lines: _PooledWorker(folder, say, lines).work())
