"""The shots that are tried: a walk of the mannequin, as Blender rendered it before, or as the package's own rasteriser draws it.

``python -m tools.cuda_check.shots FOLDER SIDE ...`` draws them ahead, while other parts are at work.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from latentman.backend.metrics.packed_shots import Benchmark
from latentman.backend.video.selection import select_manifest
from latentman.blender_addon.reference_shots.shots import SHOTS
from latentman.blender_addon.reference_shots.views import list_cameras, put_in_world, render_views
from latentman.shared.files import write_atomically
from latentman.shared.manifest import PassesManifest
from latentman.shared.passes import FramePasses
from latentman.shared.shot import ShotRequest, make_request

#: the file with what was rendered in Blender, and its shot
SAVED, SHOT = "shots.zip", "walk"
PROMPT = "a man in a red shirt and blue jeans, on a beach"
FPS = 20.0
#: frames that are drawn; longer shots walk on
DRAWN = 24
#: seconds between two looks for what is drawn elsewhere
LOOK = 0.2


@dataclass(frozen=True)
class DrawnShot:
    """A shot's passes and what describes them."""

    passes: FramePasses
    manifest: PassesManifest

    def select(self, frames: int) -> DrawnShot:
        """A shot of so many frames, which walks on where it has fewer."""
        rows = [n % self.passes.frame_count for n in range(frames)]
        manifest = msgspec.structs.replace(select_manifest(self.manifest, rows), frames=tuple(range(1, frames + 1)))
        return DrawnShot(self.passes.select(rows), manifest)

    def request(self, **changes: Any) -> ShotRequest:
        """A request for it."""
        manifest = self.manifest
        size = {"width": manifest.width, "height": manifest.height}
        return make_request(PROMPT, manifest.frames, manifest.fps, manifest=manifest, **(size | {"seed": 4} | changes))


def draw_shot(frames: int, side: int) -> DrawnShot:
    """The shot in (side, side) pixels, with all passes that the rasteriser makes."""
    views = SHOTS[SHOT](frames)
    found = put_in_world(render_views(views, side), views, side)
    manifest = PassesManifest(side, side, FPS, tuple(range(1, frames + 1)), found.near, found.far, list_cameras(views))
    return DrawnShot(found.passes, manifest)


def load_saved(folder: Path | None) -> DrawnShot | None:
    """The shot that was rendered in Blender; None where it was not brought."""
    if folder is None or not (folder / SAVED).exists():
        return None
    with Benchmark(folder / SAVED) as found:
        return DrawnShot(*found.read(SHOT))


def _name(folder: Path, side: int) -> Path:
    return folder / f"{side}.npz"


def draw_ahead(folder: Path, sides: list[int], frames: int) -> None:
    """Draw shots into a folder, for ``take_drawn``."""
    for side in sides:
        shot = draw_shot(frames, side)
        written = folder / f"{side}.part.npz"
        np.savez(written, **shot.passes.arrays())
        write_atomically(folder / f"{side}.json", msgspec.json.encode(shot.manifest))
        written.rename(_name(folder, side))


def take_drawn(folder: Path | None, side: int, frames: int, patience: float = 60.0) -> DrawnShot:
    """The shot of (side, side) pixels: from a folder in which another process draws it, or drawn here where that takes longer than
    ``patience`` seconds. It has up to ``DRAWN`` frames of its own."""
    if folder is not None:
        end = time.monotonic() + patience
        while not _name(folder, side).exists() and time.monotonic() < end:
            time.sleep(LOOK)
        if _name(folder, side).exists():
            with np.load(_name(folder, side)) as arrays:
                passes = FramePasses(**dict(arrays))
            manifest = msgspec.json.decode((folder / f"{side}.json").read_bytes(), type=PassesManifest)
            return DrawnShot(passes, manifest).select(frames)
    return draw_shot(min(frames, DRAWN), side).select(frames)


if __name__ == "__main__":
    draw_ahead(Path(sys.argv[1]), [int(side) for side in sys.argv[3:]], int(sys.argv[2]))
