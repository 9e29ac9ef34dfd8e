"""Finished frames put together: a movie beside them, a file whose sequencer shows them, and a report of how they were made."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import bpy

from ..shared import shot
from ..shared.console import check_writable
from ..shared.files import read_file, write_atomically
from ..shared.look_file import write_frames
from ..shared.png import has_alpha, is_intact_png, read_png_size
from .compat import remove_scene
from .movie import encode_movie
from .passes.quiet import silence_stdout
from .sequencer import add_image_strip, make_strip_name
from .tasks.frames_folder import MAX_REPORT, get_frame_number, list_frames

Kind = TypeVar("Kind", dict, list)
SEQUENCE, REPORT, PAGE = "sequence.blend", "report.json", "report.html"
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}td{padding:2px 12px;border-bottom:1px "
    "solid #ddd;vertical-align:top}video{width:100%;max-width:768px;display:block;margin:8px 0}"
)


@dataclass(frozen=True)
class AssembledShot:
    """A shot's finished frames: their files in the order of their scene frames, their size in pixels, and the reports of the parts
    that they were made in."""

    name: str
    folder: Path
    images: tuple[Path, ...]
    size: tuple[int, int]
    transparent: bool
    reports: tuple[dict[str, Any], ...] = field(default=())

    @property
    def frames(self) -> tuple[int, ...]:
        """The scene frames."""
        return tuple(number for image in self.images if (number := get_frame_number(image)) is not None)

    @property
    def step(self) -> int:
        """How many scene frames each of them is shown for."""
        frames = self.frames
        return max(1, min((after - before for before, after in pairwise(frames)), default=1))

    def get_settings(self) -> dict[str, Any]:
        """The settings that the frames were made with; {} where no report says."""
        return next((found for one in self.reports if isinstance(found := one.get("settings"), dict)), {})

    def find_rate(self) -> float:
        """Frames a second; 0 where no report says."""
        rate = self.get_settings().get("fps")
        return float(rate) if isinstance(rate, int | float) and 0 < rate <= 1000 else 0.0


def read_shot(folder: Path, frames: Sequence[int] = ()) -> AssembledShot:
    """The frames in a folder; all of ``frames`` where some are named. Raises ``ShotError`` where frames are missing, damaged or of
    different sizes."""
    found = {number: path for path in list_frames(folder) if (number := get_frame_number(path)) is not None}
    wanted = tuple(sorted(set(frames) or found))
    if not wanted:
        raise shot.ShotError("frames", f"There are no frames in {folder}; give the folder that frames were generated into.")
    missing: list[int] = []
    sizes: dict[tuple[int, int], int] = {}
    kinds: set[bool] = set()
    for frame in wanted:
        try:
            data = found[frame].read_bytes() if frame in found else b""
        except OSError:
            data = b""
        if not is_intact_png(data):
            missing.append(frame)
            continue
        sizes.setdefault(read_png_size(data), frame)
        kinds.add(has_alpha(data))
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise shot.ShotError(
            "frames",
            f"{len(missing)} of {len(wanted)} frames {are} missing or damaged in {folder} ({write_frames(missing)}); generate "
            f"{'it' if len(missing) == 1 else 'them'} again.",
        )
    if len(sizes) > 1:
        (one, first), (other, second) = list(sizes.items())[:2]
        raise shot.ShotError(
            "frames",
            f"Frame {first} in {folder} has {one[0]}x{one[1]} pixels and frame {second} {other[0]}x{other[1]}; generate one of "
            "them again.",
        )
    reports = tuple(report for path in sorted(folder.glob("report*.json")) if (report := _read_report(path)))
    name = folder.absolute().name
    # a folder of frames inside of a shot's own
    name = folder.absolute().parent.name if name == "frames" else name
    return AssembledShot(name, folder, tuple(found[frame] for frame in wanted), next(iter(sizes)), any(kinds), reports)


def _read_report(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_file(path, MAX_REPORT))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and "settings" in found else {}


def make_movies(scene: bpy.types.Scene, shots: Sequence[AssembledShot]) -> list[Path]:
    """A movie of each shot beside its frames, at their rate, or the scene's where it is not known. Raises ``ShotError``."""
    movies = []
    before = scene.render.fps, scene.render.fps_base
    try:
        for one in shots:
            _set_rate(scene, one.find_rate(), before)
            movies.append(encode_movie(scene, one.images, one.step, transparent=one.transparent))
    finally:
        scene.render.fps, scene.render.fps_base = before
    return movies


def _set_rate(scene: bpy.types.Scene, rate: float, otherwise: tuple[int, float]) -> None:
    if not rate:
        scene.render.fps, scene.render.fps_base = otherwise
        return
    whole = max(1, round(rate))
    scene.render.fps, scene.render.fps_base = whole, whole / rate


def write_sequence(path: Path, shots: Sequence[AssembledShot], otherwise: tuple[int, float]) -> None:
    """Write a file with one scene, whose sequencer shows each shot at its scene frames. ``otherwise`` is the rate, (fps, base),
    where that of the frames is not known. Raises ``ShotError``."""
    scene = bpy.data.scenes.new("Shots")
    try:
        render: Any = scene.render
        (render.resolution_x, render.resolution_y), render.resolution_percentage = shots[0].size, 100
        _set_rate(scene, shots[0].find_rate(), otherwise)
        view: Any = scene.view_settings
        view.view_transform = "Standard"
        scene.frame_start = min(one.frames[0] for one in shots)
        scene.frame_end = max(one.frames[-1] + one.step - 1 for one in shots)
        for one in shots:
            text = one.get_settings().get("text") or one.get_settings()
            prompt = str(text.get("prompt", "")) if isinstance(text, dict) else ""
            name = make_strip_name(prompt, 0) if prompt and len(shots) == 1 else one.name
            add_image_strip(scene, [image.absolute() for image in one.images], one.frames[0], name, one.step)
        # Blender 5.2 crashes over a scene that has never been evaluated
        scene.view_layers[0].update()
        half = path.with_name(f"{path.stem}.half.blend")
        with silence_stdout():
            bpy.data.libraries.write(str(half), {scene}, path_remap="RELATIVE_ALL", compress=True)
        os.replace(half, path)
    except (OSError, RuntimeError) as error:
        raise shot.ShotError("disk", f"{path} cannot be written ({error}); make room there or choose another folder.") from error
    finally:
        remove_scene(scene)


def make_report(shots: Sequence[AssembledShot], movies: Sequence[Path]) -> dict[str, Any]:
    """What is known of the shots: frames, seconds, warnings and settings, put together from the reports of their parts."""
    return {"shots": [_describe(one, movie) for one, movie in zip(shots, movies, strict=True)]}


def _describe(one: AssembledShot, movie: Path) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    for report in one.reports:
        for name, value in _get(report, "seconds", dict).items():
            if isinstance(value, int | float):
                seconds[name] = round(seconds.get(name, 0.0) + value, 3)
    first = one.reports[0] if one.reports else {}
    settings = {name: value for name, value in one.get_settings().items() if name not in ("frames", "manifest", "look")}
    return {
        "name": one.name,
        "folder": str(one.folder),
        "movie": str(movie),
        "frames": list(one.frames),
        "size": list(one.size),
        "parts": len(one.reports),
        "seconds": seconds,
        "warnings": list(dict.fromkeys(str(words) for report in one.reports for words in _get(report, "warnings", list))),
        "settings": settings,
        "method": _get(first, "method", dict),
        "versions": _get(first, "versions", dict),
        "devices": sorted({str(report["device"]) for report in one.reports if report.get("device")}),
    }


def _get(report: dict[str, Any], name: str, kind: type[Kind]) -> Kind:
    """A value of a report of the kind that it should have, else an empty one."""
    found = report.get(name)
    return found if isinstance(found, kind) else kind()


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write the report for programs, and as a page for people."""
    write_atomically(folder / REPORT, json.dumps(report, indent=1).encode())
    parts = []
    for one in report["shots"]:
        rows = {"frames": write_frames(one["frames"])} | {
            name: value for name, value in one.items() if name not in ("name", "frames", "movie")
        }
        table = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(_write(value))}</td></tr>" for name, value in rows.items()
        )
        movie = html.escape(quote(os.path.relpath(one["movie"], folder).replace(os.sep, "/")))
        parts.append(f'<h2>{html.escape(one["name"])}</h2><video src="{movie}" controls loop></video><table>{table}</table>')
    page = f"<!doctype html><meta charset=utf-8><title>LatentMan</title><style>{STYLE}</style><h1>Frames</h1>{''.join(parts)}\n"
    write_atomically(folder / PAGE, page.encode("utf-8", "replace"))


def _write(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def assemble(scene: bpy.types.Scene, folders: Sequence[Path], out: Path, frames: Sequence[int] = ()) -> tuple[AssembledShot, ...]:
    """Put the frames in ``folders`` together: a movie beside each, and in ``out`` a file for the sequencer and a report. The open
    file is as before. ``frames`` must all be there. Raises ``ShotError``; what is there already is written anew."""
    check_writable(out)
    shots = tuple(read_shot(folder, frames) for folder in folders)
    movies = make_movies(scene, shots)
    write_sequence(out / SEQUENCE, shots, (scene.render.fps, scene.render.fps_base))
    write_report(out, make_report(shots, movies))
    return shots
