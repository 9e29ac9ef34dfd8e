"""``latentman evaluate`` and ``latentman measure``."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ...shared import passes_folder
from ...shared.arguments import add_setting, given_settings
from ...shared.console import check_writable
from ...shared.motion import MotionError
from ...shared.settings import list_settings
from ...shared.shot import Sampling, ShotError, Text

if TYPE_CHECKING:
    from .laboratory import Further

PROMPTS = (
    "a man in a red shirt and blue jeans, on a beach",
    "a woman in a green jacket and black trousers, in a forest",
    "an astronaut in a white suit, on the moon",
)
QUICK_FRAMES, FRAMES = 12, 24
#: settings of a shot that an evaluation goes through, and those that hold for all of it
SEVERAL, ONE = ("prompt", "seed"), ("steps", "model")


def _studies(name: str) -> ModuleType:
    """A module of the project's own tools, which only a clone of the project has; ``ShotError`` where there are none."""
    clone = Path(__file__).resolve().parents[2]
    if (clone / "tools" / "studies").is_dir() and str(clone) not in sys.path:
        # at the end: nothing in the clone shadows what is installed
        sys.path.append(str(clone))
    try:
        return importlib.import_module(f"tools.studies.{name}")
    except ImportError as error:
        raise ShotError(
            "suite",
            "The suites' shots are made by the project's own tools; run this in a clone of the project, or "
            "name folders of saved passes.",
        ) from error


def _suite_shots(frames: int) -> list:
    return _studies("shots").demo_shots(frames)


def _text_figures() -> Further:
    return _studies("words").text_figures


def _motion_shots(frames: int, files: list[Path]) -> tuple[list, dict[str, dict[str, float]]]:
    try:
        return _studies("motions").motion_shots(frames, files)
    except MotionError as error:
        raise ShotError("motion", str(error)) from error


def _saved_shots(folders: list[Path]) -> list:
    from .laboratory import Shot

    out = []
    for folder in folders:
        passes, manifest = passes_folder.load(folder)
        out.append(Shot(folder.resolve().name, passes, manifest.fps))
    return out


def evaluate(args: argparse.Namespace) -> int:
    """Run presets over shots, prompts and seeds, and report; 2 when the input is wrong."""
    from ..models.loading import load
    from .laboratory import MODULES, PAPER, PARTS, SURFACE, VARIANTS, Laboratory, means, sweep
    from .report import write_report

    known = VARIANTS | sweep()
    moved: dict[str, dict[str, float]] = {}
    try:
        if args.shots:
            shots = _saved_shots(args.shots)
        elif args.suite == "motion":
            shots, moved = _motion_shots(args.frames or QUICK_FRAMES, args.motion or [])
        else:
            shots = _suite_shots(args.frames or (QUICK_FRAMES if args.quick else FRAMES))[: 1 if args.quick else None]
        own, prompt_count, own_seeds = {
            "paper": (PAPER if args.quick else MODULES, 3, (1, 2)),
            "sweep": (("cross_frame", *sweep()), 2, (1,)),
            "surface": (SURFACE, 3, (1, 2)),
            "parts": (PARTS, 2, (1,)),
            "motion": (("cross_frame", "latentman", "surface"), 1, (1,)),
        }[args.suite]
        names = args.variants.split(",") if args.variants else own
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ShotError("variant", f"There is no variant '{unknown[0]}'; choose from {', '.join(known)}.")
        sampling = Sampling(**given_settings(args, Sampling, leave_out=SEVERAL))
        given = vars(args)
        prompts = tuple(given.get("prompt") or PROMPTS[: min(prompt_count, 2) if args.quick else prompt_count])
        seeds = tuple(given.get("seed") or (own_seeds[:1] if args.quick else own_seeds))
        check_writable(args.out)
        laboratory = Laboratory(
            args.out,
            load(sampling.model),
            sampling.steps,
            lambda text: print(text, file=sys.stderr, flush=True),
            None if args.shots else _text_figures(),
        )
        rows = laboratory.run(shots, prompts, seeds, {name: known[name] for name in names})
    except ShotError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"Stopped; the same command goes on where it was, in {args.out}.", file=sys.stderr)
        return 130
    command = "latentman " + shlex.join(sys.argv[1:])
    write_report(rows, {shot.name: shot for shot in shots}, args.out, f"Evaluation: {args.suite}", command)
    table = {
        name: {key: None if np.isnan(value) else round(value, 5) for key, value in figures.items()}
        for name, figures in means(rows).items()
    }
    report: dict = dict(table)
    if moved:
        by_shot = {name: means([row for row in rows if row["shot"] == name]) for name in moved}
        report = {
            "motions": moved,
            "variants": table,
            "hmse": {name: {v: round(r["hmse"], 3) for v, r in found.items()} for name, found in by_shot.items()},
        }
        for name in moved:
            shown = "  ".join(f"{key} {value:.3g}" for key, value in moved[name].items())
            steadiness = "  ".join(f"{variant} {row['hmse']:.0f}" for variant, row in by_shot[name].items())
            print(f"{name:<16} {shown}  hmse {steadiness}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1))
    columns = ("hmse", "detail", "background_error", "silhouette_iou", "named_colours", "seconds_per_frame")
    print(f"{'variant':<26}" + "".join(f"{name:>19}" for name in columns))
    for name, figures in table.items():
        print(f"{name:<26}" + "".join(f"{'' if figures.get(key) is None else format(figures[key], '.4g'):>19}" for key in columns))
    return 0


def measure(args: argparse.Namespace) -> int:
    """Measure finished frames against their passes; 2 when the input is wrong."""
    from PIL import Image

    from .consistency import consistency

    try:
        passes, manifest = passes_folder.load(args.passes)
        paths = [args.frames / f"{frame:04d}.png" for frame in manifest.frames]
        images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        if images.shape[1:3] != passes.mask.shape[1:3]:
            raise ShotError(
                "size",
                f"The frames are {images.shape[2]}x{images.shape[1]}, the passes "
                f"{manifest.width}x{manifest.height}; they must be of one shot.",
            )
    except (ShotError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(
        json.dumps(
            {name: None if np.isnan(value) else round(value, 4) for name, value in consistency(images, passes).items()}, indent=1
        )
    )
    return 0


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register both."""
    command = commands.add_parser(
        "evaluate", help="compare presets over shots, prompts and seeds; goes on where it was stopped", allow_abbrev=False
    )
    command.add_argument("shots", type=Path, nargs="*", help="folders of saved passes; the suite's own shots when left out")
    command.add_argument(
        "--suite",
        choices=("paper", "sweep", "surface", "parts", "motion"),
        default="paper",
        help="the paper's parts and modules, ranges of their settings, the surface preset against them, its "
        "own parts, or motion sources",
    )
    command.add_argument("--motion", type=Path, action="append", help="a motion file as one more source of the motion suite")
    command.add_argument("--quick", action="store_true", help="one shot, two prompts, 12 frames, the five main presets")
    command.add_argument("--variants", help="names separated by commas instead of the suite's")
    declared = {one.name: one for struct in (Text, Sampling) for one in list_settings(struct)}
    for name in SEVERAL:
        add_setting(command, declared[name], default="the suite's own", repeat=True)
    for name in ONE:
        add_setting(command, declared[name])
    command.add_argument("--frames", type=int, help="frames of the suite's shots")
    command.add_argument("--out", type=Path, default=Path("build") / "evaluation", help="runs and report")
    command.add_argument("--json", type=Path, help="file for the mean figures of every variant")
    command.set_defaults(run=evaluate, uses_models=True)
    command = commands.add_parser("measure", help="measure the consistency of finished frames")
    command.add_argument("passes", type=Path)
    command.add_argument("frames", type=Path)
    command.set_defaults(run=measure)
