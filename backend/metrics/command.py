"""``latentman evaluate`` and ``latentman measure``; ``shots_command`` and ``leaderboard_command`` have more."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...shared.arguments import add_setting, read_given_settings, read_path
from ...shared.console import check_spared, check_writable, check_writable_file, find_exit_code
from ...shared.files import write_atomically
from ...shared.load_options import LoadOptions
from ...shared.settings import list_settings
from ...shared.shot import MAX_FRAMES, Sampling, ShotError, Text
from . import leaderboard_command, shots_command

# torch takes seconds to import: only the commands below need it
if TYPE_CHECKING:
    from .evaluator import Means, Row, Shot
    from .variants import Variant

PROMPTS = (
    "a man in a red shirt and blue jeans, on a beach",
    "a woman in a green jacket and black trousers, in a forest",
    "an astronaut in a white suit, on the moon",
)
QUICK_FRAMES, FRAMES = 12, 24
#: settings of a shot of which an evaluation takes several values, and those that have one value for all of it
LIST_SETTINGS = ("prompt", "seed")
SINGLE_SETTINGS = ("model", "steps", "guidance_scale", "scheduler", "spacing", "control_scale")
#: how models are run, as far as an evaluation lets it be chosen
LOAD_SETTINGS = ("device", "dtype")
#: the figures that are printed when an evaluation has ended
PRINTED_COLUMNS = ("hmse", "detail", "background_error", "silhouette_iou", "named_colours", "seconds_per_frame")
SUITES = ("paper", "sweep", "surface", "parts", "motion", "rivals")
#: the shot of an evaluation with ``--quick``
QUICK_SHOT = "walk"


@dataclass(frozen=True)
class Suite:
    """What a suite runs unless arguments say otherwise: names of variants, how many of ``PROMPTS``, and seeds."""

    variants: tuple[str, ...]
    prompt_count: int
    seeds: tuple[int, ...]


def _get_suite(name: str, *, quick: bool, motion_module: Path | None = None) -> Suite:
    from .variants import AGAINST_RIVALS, ANIMATEDIFF, MODULES, PAPER, PARTS, SURFACE, make_sweep

    suite = {
        "paper": Suite(PAPER if quick else MODULES, 3, (1, 2)),
        "sweep": Suite(("cross_frame", *make_sweep()), 2, (1,)),
        "surface": Suite(SURFACE, 3, (1, 2)),
        "parts": Suite(PARTS, 2, (1,)),
        "motion": Suite(("cross_frame", "latentman", "surface"), 1, (1,)),
        "rivals": Suite((*AGAINST_RIVALS, *([ANIMATEDIFF] if motion_module else [])), 3, (1, 2)),
    }[name]
    return Suite(suite.variants, min(suite.prompt_count, 2), suite.seeds[:1]) if quick else suite


def _choose_variants(names: list[str], motion_module: Path | None) -> dict[str, Variant]:
    """The variants of some names, also methods of other packages; ``ShotError`` for a name that is unknown, and where a motion
    module is missing or cannot be one."""
    from ..method_plugins import PLUGINS, find_method
    from .variants import ANIMATEDIFF, list_variants

    known, more = list_variants("" if motion_module is None else str(motion_module.absolute())), PLUGINS.find()
    names = [name.strip() for name in names]
    if ANIMATEDIFF in names and motion_module is None:
        raise ShotError(
            "motion_module",
            "The variant 'animatediff' needs a motion module; give its file or diffusers folder with --motion-module, or leave it "
            "out.",
        )
    if motion_module is not None:
        if ANIMATEDIFF not in names:
            raise ShotError(
                "motion_module", "--motion-module is for the variant animatediff; add --suite rivals or name it in --variants."
            )
        from ..models.motion_adapters import check_motion_module

        check_motion_module(motion_module)
    unknown = [name for name in names if name not in known and name not in more]
    if unknown:
        raise ShotError("variant", f"There is no variant '{unknown[0][:80]}'; choose from {', '.join([*known, *more])}.")
    return {name: known[name] if name in known else find_method(name) for name in names}


def _check_arguments(args: argparse.Namespace) -> None:
    """Raise ``ShotError`` for arguments that cannot be run or would be ignored, before anything is read, rendered or loaded."""
    if args.frames is not None and not 1 <= args.frames <= MAX_FRAMES:
        raise ShotError("frames", f"A shot cannot have {args.frames} frames; give --frames from 1 to {MAX_FRAMES}.")
    if args.shots and args.frames is not None:
        raise ShotError("frames", "--frames is for the suites' own shots; saved passes have the frames that they have.")
    if args.motion and (args.suite != "motion" or args.shots):
        raise ShotError("motion", "--motion is for the motion suite's own shots; add --suite motion, or leave it out.")
    missing = next((path for path in args.motion or () if not path.is_file()), None)
    if missing is not None:
        raise ShotError("motion", f"There is no motion file {missing}; check the path.")
    for name in LIST_SETTINGS:
        given = vars(args).get(name) or []
        twice = next((value for n, value in enumerate(given) if value in given[:n]), None)
        if twice is not None:
            raise ShotError(name, f"The {name} '{twice}' is given twice, and would count twice; leave one of them out.")
    if not all(prompt.strip() for prompt in vars(args).get("prompt") or ()):
        raise ShotError("prompt", "The prompt is empty; describe the character and the place.")
    if args.json is not None:
        _check_file(args.json, [*args.shots, *(Path(text.partition("=")[2]) for text in args.frames_from or () if "=" in text)])


def _check_file(path: Path, read: Sequence[Path]) -> None:
    """``ShotError`` when a file cannot be written, or would take the place of what is ``read``."""
    if path.is_dir():
        raise ShotError("disk", f"{path} is a folder; give --json a file in it.")
    check_spared(path, read)
    check_writable_file(path.absolute())


def _make_shots(args: argparse.Namespace) -> tuple[list[Shot], dict[str, dict[str, float]]]:
    """The shots of an evaluation, and the figures of their motions by shot where motions are compared."""
    from .reference_shots import read_shots, render_motion_shots, render_shots
    from .shot_plugins import choose_shot

    if args.shots:
        return read_shots(args.shots, {place: choose_shot(place) for place in args.shots}), {}
    quick = args.quick or args.suite == "motion"
    frames = (QUICK_FRAMES if quick else FRAMES) if args.frames is None else args.frames
    if args.suite == "motion":
        found = render_motion_shots(frames, args.motion or [])
        return [one.shot for one in found], {one.shot.name: one.motion_metrics for one in found}
    return render_shots(frames, [QUICK_SHOT] if args.quick else []), {}


def _choose_prompts_and_seeds(args: argparse.Namespace, suite: Suite) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Those that are given, else those of the only benchmark among the shots, else the suite's."""
    from .packed_shots import Benchmark, is_benchmark

    given = vars(args)
    prompts, seeds = PROMPTS[: suite.prompt_count], suite.seeds
    if len(args.shots) == 1 and is_benchmark(args.shots[0]):
        with Benchmark(args.shots[0]) as found:
            prompts, seeds = found.manifest.prompts, found.manifest.seeds
    return tuple(given.get("prompt") or prompts), tuple(given.get("seed") or seeds)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def evaluate(args: argparse.Namespace) -> int:
    """Run variants over shots, prompts and seeds, and report; 2 when the input is wrong, 1 when something else went wrong."""
    from ..failures import explain_failure

    try:
        return _evaluate(args)
    except KeyboardInterrupt:
        _say(f"Stopped; the same command continues where it was, in {args.out}.")
        return 130
    except Exception as error:
        if isinstance(error, ModuleNotFoundError):
            raise
        code, sentence = explain_failure(error)
        _say(sentence)
        return find_exit_code(code) if not isinstance(error, ShotError) else 2


def _evaluate(args: argparse.Namespace) -> int:
    _check_arguments(args)
    from ..models.devices import choose_device, choose_dtype
    from ..models.loading import load
    from ..models.profiles import find_profile
    from .evaluator import DERIVED, Evaluator, round_means
    from .given_clips import check_given_clips, find_given_clips
    from .making import describe_making
    from .metric_plugins import load_metrics
    from .named_colours import compute_text_metrics
    from .report import write_report
    from .shots import check_shots

    # what the code is like now, not when the runs have ended
    describe_making()
    metrics = load_metrics(args.metric)
    suite = _get_suite(args.suite, quick=args.quick, motion_module=args.motion_module)
    variants = _choose_variants(args.variants.split(",") if args.variants is not None else list(suite.variants), args.motion_module)
    sampling = Sampling(**read_given_settings(args, Sampling, leave_out=LIST_SETTINGS))
    options = LoadOptions(**read_given_settings(args, LoadOptions))
    prompts, seeds = _choose_prompts_and_seeds(args, suite)
    device = choose_device(options.device)
    choose_dtype(options, device)
    # a model that cannot be one is refused before shots are rendered
    find_profile(sampling.model)
    check_writable(args.out)
    shots, motion_metrics = _make_shots(args)
    check_shots(shots)
    taken = {"per_frame", *variants, *DERIVED}
    clips, absent = find_given_clips(args.frames_from or [], taken, [shot.name for shot in shots], len(prompts), seeds)
    check_given_clips(clips, shots)
    for sentence in absent:
        _say(sentence)
    model = load(sampling.model, device, options)
    for warning in model.warnings:
        _say(warning)
    evaluator = Evaluator(args.out, model, sampling, _say, None if args.shots else compute_text_metrics, metrics)
    rows = evaluator.run(shots, prompts, seeds, variants, given=clips)
    command = "latentman " + shlex.join(sys.argv[1:])
    write_report(rows, {shot.name: shot for shot in shots}, args.out, f"Evaluation: {args.suite}", command)
    table = round_means(rows)
    if args.json:
        report = _compare_motions(rows, motion_metrics, table) if motion_metrics else table
        write_atomically(args.json, json.dumps(report, indent=1).encode())
    _print_motions(rows, motion_metrics)
    _print_table(table)
    return 0


def _hmse_by_shot(rows: list[Row], shot: str) -> dict[str, float]:
    from .evaluator import compute_means

    return {variant: row["hmse"] for variant, row in compute_means([row for row in rows if row["shot"] == shot]).items()}


def _compare_motions(rows: list[Row], motion_metrics: dict[str, dict[str, float]], table: Means) -> dict[str, object]:
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


def _print_table(table: Means) -> None:
    print(f"{'variant':<26}" + "".join(f"{name:>19}" for name in PRINTED_COLUMNS))
    for name, figures in table.items():
        cells = [figures.get(key) for key in PRINTED_COLUMNS]
        print(f"{name:<26}" + "".join(f"{'' if cell is None else format(cell, '.4g'):>19}" for cell in cells))


def measure(args: argparse.Namespace) -> int:
    """Measure finished frames, whoever made them, against their passes; 2 when the input is wrong."""
    from .measuring import measure_saved
    from .metric_plugins import load_metrics

    try:
        if args.json is not None:
            _check_file(args.json, [args.passes, *args.frames, *([args.reference] if args.reference else [])])
        found = measure_saved(args.passes, args.frames, args.reference, load_metrics(args.metric), args.shot)
        for warning in found.warnings:
            _say(warning)
        text = json.dumps(found.figures, indent=1)
        if args.json is not None:
            write_atomically(args.json, json.dumps(found.provenance | {"figures": found.figures}, indent=1).encode())
    except ShotError as error:
        _say(str(error))
        return 2
    except OSError as error:
        _say(f"{args.json} cannot be written ({error.strerror or error}); choose another file.")
        return 1
    print(text)
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
    command.add_argument(
        "shots",
        type=read_path,
        nargs="*",
        help="folders of saved passes, or a file of latentman shots pack, whose prompts and seeds count unless others are given, "
        "or other packages' shots; the suite's own when left out",
    )
    command.add_argument(
        "--suite",
        choices=SUITES,
        default="paper",
        help="the paper's parts and modules, ranges of their settings, the surface preset against them, its "
        "own parts, motion sources, or other people's ways (Text2Video-Zero, img2img, AnimateDiff)",
    )
    command.add_argument("--motion", type=read_path, action="append", help="a motion file as one more source of the motion suite")
    command.add_argument(
        "--motion-module",
        type=read_path,
        metavar="PATH",
        help="AnimateDiff's motion module, a file or a diffusers folder, for the variant animatediff",
    )
    command.add_argument("--quick", action="store_true", help="one shot, two prompts, 12 frames, the five main presets")
    command.add_argument("--variants", help="names separated by commas instead of the suite's; other packages' methods too")
    declared = {one.name: one for struct in (Text, Sampling) for one in list_settings(struct)}
    for name in LIST_SETTINGS:
        add_setting(command, declared[name], default="the suite's own", repeat=True)
    for name in SINGLE_SETTINGS:
        add_setting(command, declared[name])
    for one in list_settings(LoadOptions):
        if one.name in LOAD_SETTINGS:
            add_setting(command, one)
    command.add_argument(
        "--frames-from",
        action="append",
        metavar="NAME=FOLDER",
        help="a clip that was made elsewhere (a folder of pictures, an animation or a film) in the same table; several shots, "
        "prompts or seeds need FOLDER/SHOT/PROMPT-SEED, as in walk/1-4; may be given several times",
    )
    command.add_argument("--frames", type=int, help="frames of the suite's shots")
    _add_metric_argument(command)
    command.add_argument("--out", type=read_path, default=Path("build") / "evaluation", help="runs and report")
    command.add_argument("--json", type=read_path, help="file for the mean figures of every variant")
    command.set_defaults(run=evaluate, uses_models=True)
    command = commands.add_parser(
        "measure",
        help="all figures of a clip, whoever made it, against its shot's saved passes",
        examples=(
            ("latentman measure saved_passes frames", "figures as JSON"),
            ("latentman measure saved_passes clip.mp4 --json figures.json", "a film, where ffmpeg is installed"),
        ),
    )
    command.add_argument(
        "passes", type=read_path, metavar="PASSES", help="folder of the shot's saved passes, or a file of latentman shots pack"
    )
    command.add_argument(
        "frames",
        type=read_path,
        nargs="+",
        metavar="FRAMES",
        help="folder of pictures, a pattern such as 'frames/a_*.png', an animation or a film",
    )
    command.add_argument("--shot", default="", metavar="NAME", help="which shot of a file that has several")
    command.add_argument(
        "--reference", type=read_path, help="the clip of the same model without any method, for the figures against it"
    )
    _add_metric_argument(command)
    command.add_argument("--json", type=read_path, help="file for the figures and for what was measured")
    command.set_defaults(run=measure)
    shots_command.add_commands(commands)
    leaderboard_command.add_commands(commands)


def _add_metric_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="also the figures of a metric of another package; may be given several times",
    )
