"""The evaluation suites' own shots, which the add-on's half of the package renders in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...shared import passes_folder
from ...shared.made_motion import save_made
from ...shared.motion_request import MotionRequest
from ...shared.shot import ShotError
from ..motion.registry import load as load_motion_model
from .packed_shots import Benchmark, NamedPasses, is_benchmark
from .shots import Shot

MODULE = "latentman.blender_addon.reference_shots"
#: makes this very copy of the package importable, as ``backend/launch.py`` does, and runs a module of it
START = (
    "import runpy, sys; launcher, module = sys.argv[1:3]; del sys.argv[1:3]; "
    "runpy.run_path(launcher)['load_package'](); runpy.run_module(module, run_name='__main__')"
)
LAUNCHER = Path(__file__).resolve().parents[1] / "launch.py"
#: what the built-in sources of the motion suite show
MOTION_TEXT, MOTION_SECONDS = "a person walks forward", 4.0


@dataclass(frozen=True)
class MeasuredShot:
    """A shot, and the figures of the motion that it shows; empty for the suites that do not compare motions."""

    shot: Shot
    motion_metrics: dict[str, float]


def read_shot(folder: Path, name: str = "") -> Shot:
    """A folder of saved passes as a shot under a name, by default the folder's. Raises ``ShotError``."""
    passes, manifest = passes_folder.load(folder)
    return Shot(name or folder.resolve().name or "shot", passes, manifest.fps, manifest.frames)


def read_shots(paths: Sequence[Path], given: Mapping[Path, Shot | None] | None = None) -> list[Shot]:
    """Folders of saved passes, and all shots of benchmarks (``packed_shots``), by names that tell them apart; ``given`` are those
    that are here already. Raises ``ShotError``."""
    there = {path: shot for path, shot in (given or {}).items() if shot is not None}
    folders = [path for path in paths if path not in there and not is_benchmark(path)]
    names = dict(zip(folders, name_shots(folders), strict=True))
    out = []
    for path in paths:
        if path in there:
            out.append(there[path])
            continue
        if path in names:
            out.append(read_shot(path, names[path]))
            continue
        with Benchmark(path) as found:
            for entry in found.manifest.shots:
                passes, manifest = found.read(entry.name)
                out.append(Shot(entry.name, passes, manifest.fps, manifest.frames))
    return out


def name_shots(folders: Sequence[Path]) -> list[str]:
    """Names by which shots can be told apart: their folders', with as many of those above as it takes. Raises ``ShotError`` for a
    folder that is given twice, whatever way it is written."""
    places = [folder.resolve() for folder in folders]
    twice = next((place for n, place in enumerate(places) if place in places[:n]), None)
    if twice is not None:
        raise ShotError("shot", f"The shot {twice} is given twice; leave one of them out.")
    depths = [1] * len(places)
    while True:
        names = ["_".join(place.parts[1:][-depth:]) or "shot" for place, depth in zip(places, depths, strict=True)]
        same = [n for n, name in enumerate(names) if [other.casefold() for other in names].count(name.casefold()) > 1]
        longer = [n for n in same if depths[n] < len(places[n].parts) - 1]
        if not longer:
            # what is still the same is refused when the shots are compared
            return names
        for n in longer:
            depths[n] += 1


def _render(folder: Path, *arguments: str) -> dict[str, dict[str, float]]:
    """Run the renderer, which writes shots into a folder; their names, with the figures of their motions. ``ShotError`` with its
    sentence when the input is wrong."""
    # -P: nothing that lies in the current folder may shadow a module
    command = [sys.executable, "-P", "-c", START, str(LAUNCHER), MODULE, str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 2 and done.stderr.strip():
        raise ShotError("motion", done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"The reference shots could not be rendered:\n{done.stderr}")
    metrics: dict[str, dict[str, float]] = json.loads((folder / "shots.json").read_text())
    return metrics


def _render_measured(*arguments: str) -> list[MeasuredShot]:
    with tempfile.TemporaryDirectory(prefix="latentman-shots-") as folder:
        metrics = _render(Path(folder), *arguments)
        return [MeasuredShot(read_shot(Path(folder) / name), figures) for name, figures in metrics.items()]


def render_shots(frames: int, names: Sequence[str] = ()) -> list[Shot]:
    """The suites' shots of the mannequin, 256 pixels square: a walk, a camera that orbits a wave, and a dance; or some of them."""
    return [found.shot for found in _render_measured("--frames", str(frames), *(["--shots", *names] if names else []))]


def render_passes(frames: int) -> list[NamedPasses]:
    """The same shots with all that is known of them, to be packed."""
    with tempfile.TemporaryDirectory(prefix="latentman-shots-") as folder:
        return [read_passes(Path(folder) / name, name) for name in _render(Path(folder), "--frames", str(frames))]


def read_passes(folder: Path, name: str) -> NamedPasses:
    """A folder of saved passes with all that is known of them, to be packed. Raises ``ShotError``."""
    return NamedPasses(name, *passes_folder.load(folder))


def render_motion_shots(frames: int, files: Sequence[Path]) -> list[MeasuredShot]:
    """A shot of the mannequin for each source of a motion: the bundled performance of ``MOTION_TEXT``, the starter motion model's
    answer to the same words, and every motion file. Raises ``ShotError`` for a file that cannot be read as a motion."""
    request = MotionRequest(MOTION_TEXT, MOTION_SECONDS, 1)
    made = load_motion_model("starter", torch.device("cpu")).make(request, None, lambda step, of: None)
    with tempfile.TemporaryDirectory(prefix="latentman-motion-") as folder:
        starter = Path(folder) / "starter.npz"
        save_made(starter, made, request)
        motions = [argument for path in (starter, *files) for argument in ("--motion", str(path.absolute()))]
        return _render_measured("--frames", str(frames), "--text", MOTION_TEXT, *motions)
