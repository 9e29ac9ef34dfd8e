"""``latentman evaluate`` and ``latentman measure``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...shared import passes_folder
from ...shared.arguments import add_setting, read_given_settings, read_path
from ...shared.console import check_writable
from ...shared.settings import list_settings
from ...shared.shot import Method, Sampling, ShotError, Text

# torch takes seconds to import: only the commands below need it
if TYPE_CHECKING:
    from .evaluator import Row, Shot

PROMPTS = (
    "a man in a red shirt and blue jeans, on a beach",
    "a woman in a green jacket and black trousers, in a forest",
    "an astronaut in a white suit, on the moon",
)
QUICK_FRAMES, FRAMES = 12, 24
#: settings of a shot of which an evaluation takes several values, and those that have one value for all of it
LIST_SETTINGS, SINGLE_SETTINGS = ("prompt", "seed"), ("steps", "model")
#: the figures that are printed when an evaluation has ended
PRINTED_COLUMNS = ("hmse", "detail", "background_error", "silhouette_iou", "named_colours", "seconds_per_frame")
SUITES = ("paper", "sweep", "surface", "parts", "motion")
#: the shot of an evaluation with ``--quick``
QUICK_SHOT = "walk"


@dataclass(frozen=True)
class Suite:
    """What a suite runs unless arguments say otherwise: names of variants, how many of ``PROMPTS``, and seeds."""

    variants: tuple[str, ...]
    prompt_count: int
    seeds: tuple[int, ...]


def _get_suite(name: str, *, quick: bool) -> Suite:
    from .variants import MODULES, PAPER, PARTS, SURFACE, make_sweep

    suite = {
        "paper": Suite(PAPER if quick else MODULES, 3, (1, 2)),
        "sweep": Suite(("cross_frame", *make_sweep()), 2, (1,)),
        "surface": Suite(SURFACE, 3, (1, 2)),
        "parts": Suite(PARTS, 2, (1,)),
        "motion": Suite(("cross_frame", "latentman", "surface"), 1, (1,)),
    }[name]
    return Suite(suite.variants, min(suite.prompt_count, 2), suite.seeds[:1]) if quick else suite


def _choose_variants(names: list[str]) -> dict[str, Method]:
    """The variants of some names; ``ShotError`` for a name that is unknown."""
    from .variants import VARIANTS, make_sweep

    known = VARIANTS | make_sweep()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ShotError("variant", f"There is no variant '{unknown[0]}'; choose from {', '.join(known)}.")
    return {name: known[name] for name in names}


def _make_shots(args: argparse.Namespace) -> tuple[list[Shot], dict[str, dict[str, float]]]:
    """The shots of an evaluation, and the figures of their motions by shot where motions are compared."""
    from .reference_shots import read_shot, render_motion_shots, render_shots

    if args.shots:
        return [read_shot(folder) for folder in args.shots], {}
    quick = args.quick or args.suite == "motion"
    frames = (QUICK_FRAMES if quick else FRAMES) if args.frames is None else args.frames
    if frames < 1:
        raise ShotError("frames", f"A shot cannot have {frames} frames; give --frames 1 or more.")
    if args.suite == "motion":
        found = render_motion_shots(frames, args.motion or [])
        return [one.shot for one in found], {one.shot.name: one.motion_metrics for one in found}
    return render_shots(frames, [QUICK_SHOT] if args.quick else []), {}


def evaluate(args: argparse.Namespace) -> int:
    """Run variants over shots, prompts and seeds, and report; 2 when the input is wrong."""
    from ..models.loading import load
    from .evaluator import Evaluator
    from .named_colours import compute_text_metrics
    from .report import write_report

    try:
        suite = _get_suite(args.suite, quick=args.quick)
        variants = _choose_variants(args.variants.split(",") if args.variants else list(suite.variants))
        sampling = Sampling(**read_given_settings(args, Sampling, leave_out=LIST_SETTINGS))
        given = vars(args)
        prompts = tuple(given.get("prompt") or PROMPTS[: suite.prompt_count])
        seeds = tuple(given.get("seed") or suite.seeds)
        check_writable(args.out)
        shots, motion_metrics = _make_shots(args)
        evaluator = Evaluator(
            args.out,
            load(sampling.model),
            # 0 are the model's own
            sampling.steps,
            lambda text: print(text, file=sys.stderr, flush=True),
            None if args.shots else compute_text_metrics,
        )
        rows = evaluator.run(shots, prompts, seeds, variants)
    except ShotError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"Stopped; the same command continues where it was, in {args.out}.", file=sys.stderr)
        return 130
    command = "latentman " + shlex.join(sys.argv[1:])
    write_report(rows, {shot.name: shot for shot in shots}, args.out, f"Evaluation: {args.suite}", command)
    table = _round_means(rows)
    if args.json:
        report = _compare_motions(rows, motion_metrics, table) if motion_metrics else table
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1))
    _print_motions(rows, motion_metrics)
    _print_table(table)
    return 0


Table = dict[str, dict[str, float | None]]


def _round_means(rows: list[Row]) -> Table:
    """variant -> the mean of every figure, None where no run has it."""
    from .evaluator import compute_means

    return {
        name: {key: None if np.isnan(value) else round(value, 5) for key, value in figures.items()}
        for name, figures in compute_means(rows).items()
    }


def _hmse_by_shot(rows: list[Row], shot: str) -> dict[str, float]:
    from .evaluator import compute_means

    return {variant: row["hmse"] for variant, row in compute_means([row for row in rows if row["shot"] == shot]).items()}


def _compare_motions(rows: list[Row], motion_metrics: dict[str, dict[str, float]], table: Table) -> dict[str, object]:
    """The report of the motion suite: the figures of the motions, the variants' means, and the variants' HMSE for each motion."""
    return {
        "motions": motion_metrics,
        "variants": table,
        "hmse": {
            name: {variant: round(value, 3) for variant, value in _hmse_by_shot(rows, name).items()} for name in motion_metrics
        },
    }


def _print_motions(rows: list[Row], motion_metrics: dict[str, dict[str, float]]) -> None:
    for name, metrics in motion_metrics.items():
        shown = "  ".join(f"{key} {value:.3g}" for key, value in metrics.items())
        steadiness = "  ".join(f"{variant} {value:.0f}" for variant, value in _hmse_by_shot(rows, name).items())
        print(f"{name:<16} {shown}  hmse {steadiness}")


def _print_table(table: Table) -> None:
    print(f"{'variant':<26}" + "".join(f"{name:>19}" for name in PRINTED_COLUMNS))
    for name, figures in table.items():
        cells = [figures.get(key) for key in PRINTED_COLUMNS]
        print(f"{name:<26}" + "".join(f"{'' if cell is None else format(cell, '.4g'):>19}" for cell in cells))


def measure(args: argparse.Namespace) -> int:
    """Measure finished frames against their passes; 2 when the input is wrong."""
    from ..pictures import read_frames
    from .consistency import measure_consistency

    try:
        passes, manifest = passes_folder.load(args.passes)
        images = read_frames(args.frames, manifest.frames)
        if images.shape[1:3] != passes.mask.shape[1:3]:
            raise ShotError(
                "size",
                f"The frames are {images.shape[2]}x{images.shape[1]}, the passes "
                f"{manifest.width}x{manifest.height}; they must be of one shot.",
            )
    except (ShotError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    found = measure_consistency(images, passes)
    print(json.dumps({name: None if np.isnan(value) else round(value, 4) for name, value in found.items()}, indent=1))
    return 0


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add both commands to the parser of ``latentman``."""
    command = commands.add_parser(
        "evaluate",
        help="compare presets over shots, prompts and seeds; continues where it was stopped",
        examples=(
            ("latentman evaluate --suite paper --quick --json figures.json", "one shot, two prompts, 12 frames"),
            ('latentman evaluate shot_a shot_b --variants surface,latentman --prompt "a knight" --seed 4', "shots of your own"),
        ),
    )
    command.add_argument("shots", type=read_path, nargs="*", help="folders of saved passes; the suite's own shots when left out")
    command.add_argument(
        "--suite",
        choices=SUITES,
        default="paper",
        help="the paper's parts and modules, ranges of their settings, the surface preset against them, its "
        "own parts, or motion sources",
    )
    command.add_argument("--motion", type=read_path, action="append", help="a motion file as one more source of the motion suite")
    command.add_argument("--quick", action="store_true", help="one shot, two prompts, 12 frames, the five main presets")
    command.add_argument("--variants", help="names separated by commas instead of the suite's")
    declared = {one.name: one for struct in (Text, Sampling) for one in list_settings(struct)}
    for name in LIST_SETTINGS:
        add_setting(command, declared[name], default="the suite's own", repeat=True)
    for name in SINGLE_SETTINGS:
        add_setting(command, declared[name])
    command.add_argument("--frames", type=int, help="frames of the suite's shots")
    command.add_argument("--out", type=read_path, default=Path("build") / "evaluation", help="runs and report")
    command.add_argument("--json", type=read_path, help="file for the mean figures of every variant")
    command.set_defaults(run=evaluate, uses_models=True)
    command = commands.add_parser(
        "measure",
        help="measure the consistency of finished frames",
        examples=(("latentman measure saved_passes frames", "figures as JSON"),),
    )
    command.add_argument("passes", type=read_path, metavar="PASSES", help="folder of saved passes")
    command.add_argument("frames", type=read_path, metavar="FRAMES", help="folder of the frames made from them, of the same size")
    command.set_defaults(run=measure)
