"""``latentman shots``: the benchmark's shots as one file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from ...shared.arguments import read_path
from ...shared.console import Console, check_spared, check_writable, check_writable_file, make_printable
from ...shared.files import read_file, write_atomically
from ...shared.settings import MAX_TEXT
from ...shared.shot import MAX_FRAMES, ShotError

# numpy and torch are imported by what needs them
if TYPE_CHECKING:
    from .packed_shots import BenchmarkManifest, NamedPasses

#: seeds of a benchmark
SEEDS = (1, 2, 3, 4, 5)
#: bytes of a licence's text
MAX_LICENCE = 1 << 20


def return_exit_code(work: Callable[[argparse.Namespace], int | None]) -> Callable[[argparse.Namespace], int]:
    """Decorate a command: it returns what the work returns, 0 for nothing; one sentence and 2 when the input is wrong, which
    a folder that cannot be written is, too. Whatever else is wrong is told where commands are run."""

    @wraps(work)
    def run(args: argparse.Namespace) -> int:
        try:
            return work(args) or 0
        except ShotError as error:
            if getattr(args, "json", False) is True:
                Console(True).emit("failed", code=error.code, message=str(error))
            else:
                print(make_printable(str(error)), file=sys.stderr)
            return 2

    return run


def _describe(manifest: BenchmarkManifest) -> list[str]:
    lines = [f"{shot.name}: {shot.frames} frames of {shot.width}x{shot.height}, {shot.fingerprint}" for shot in manifest.shots]
    lines.append(f"{len(manifest.prompts)} prompts, seeds {', '.join(map(str, manifest.seeds))}; licence: {manifest.licence}")
    return [*lines, f"benchmark {manifest.fingerprint}, {manifest.made_by}"]


def _show(manifest: BenchmarkManifest, args: argparse.Namespace) -> None:
    import msgspec

    print(json.dumps(msgspec.to_builtins(manifest)) if args.json else make_printable("\n".join(_describe(manifest))))


def _read_terms(args: argparse.Namespace) -> tuple[str, str]:
    """The licence's name and text."""
    from ...shared.npy import shorten
    from .packed_shots import OWN_LICENCE, OWN_TERMS

    if not args.shots:
        if args.licence or args.licence_file:
            raise ShotError("licence", f"The suites' own shots are {OWN_LICENCE}; --licence is for shots of your own.")
        return OWN_LICENCE, OWN_TERMS
    if not args.licence or not args.licence.strip() or len(args.licence) > 100 or not args.licence.isprintable():
        raise ShotError("licence", "Say with --licence what others may do with these shots, as in --licence CC-BY-4.0.")
    if args.licence_file is None:
        return args.licence.strip(), ""
    try:
        return args.licence.strip(), read_file(args.licence_file, MAX_LICENCE).decode()
    except (OSError, UnicodeError) as error:
        raise ShotError("licence", f"{args.licence_file} cannot be read ({shorten(error)}); give a text file.") from error


def _load_shots(args: argparse.Namespace) -> list[NamedPasses]:
    from .command import FRAMES
    from .reference_shots import name_shots, read_passes, render_passes

    if args.shots:
        if args.frames is not None:
            raise ShotError("frames", "--frames is for the suites' own shots; saved passes have the frames that they have.")
        return [read_passes(folder, name) for folder, name in zip(args.shots, name_shots(args.shots), strict=True)]
    frames = FRAMES if args.frames is None else args.frames
    if not 1 <= frames <= MAX_FRAMES:
        raise ShotError("frames", f"A shot cannot have {frames} frames; give --frames from 1 to {MAX_FRAMES}.")
    return render_passes(frames)


@return_exit_code
def pack(args: argparse.Namespace) -> None:
    """Pack shots into a file."""
    from .command import PROMPTS

    prompts, seeds = tuple(args.prompt or PROMPTS), tuple(args.seed or SEEDS)
    for what, values in (("prompt", prompts), ("seed", seeds)):
        if len(set(values)) < len(values):
            raise ShotError(what, f"A {what} is given twice, and would count twice; leave one of them out.")
    if not all(prompt.strip() and len(prompt) <= MAX_TEXT for prompt in prompts):
        raise ShotError("prompt", "A prompt is empty or endless; describe the character and the place.")
    if not all(0 <= seed < 2**31 for seed in seeds):
        raise ShotError("seed", f"A seed is a whole number from 0 to {2**31 - 1}; give others.")
    licence, terms = _read_terms(args)
    check_spared(args.out, [*args.shots, *([args.licence_file] if args.licence_file else [])])
    check_writable_file(args.out.absolute())
    from .packed_shots import pack_shots

    data, manifest = pack_shots(_load_shots(args), prompts, seeds, licence, terms)
    write_atomically(args.out.absolute(), data)
    _show(manifest, args)
    if not args.json:
        print(f"{len(data) / 1e6:.1f} MB in {args.out}")


@return_exit_code
def unpack(args: argparse.Namespace) -> None:
    """Unpack a file into folders of saved passes."""
    from .packed_shots import unpack as unpack_shots

    check_writable(args.out.absolute().parent)
    _show(unpack_shots(args.file, args.out), args)


@return_exit_code
def verify(args: argparse.Namespace) -> None:
    """Compare all that a file or a folder holds with its hashes."""
    from .packed_shots import verify as verify_shots

    manifest = verify_shots(args.file)
    _show(manifest, args)
    if not args.json:
        print("All of it is what it says.")


def add_commands(commands: Any) -> None:
    """Add ``shots`` and what is beneath it."""
    command = commands.add_parser(
        "shots",
        help="pack the benchmark's shots into one small file, unpack it, verify it; evaluate and measure also read it as it is",
        examples=(("latentman shots verify benchmark.zip", "whether all of it is what it says"),),
    )
    below = command.add_subparsers(dest="shots_command", metavar="pack|unpack|verify", required=True)
    packing = below.add_parser(
        "pack",
        help="pack shots into one file, the same bytes whenever the same shots are packed",
        examples=(
            ("latentman shots pack --out benchmark.zip", "the suites' own shots"),
            ("latentman shots pack shot_a shot_b --licence CC-BY-4.0 --out mine.zip", "shots of your own"),
        ),
    )
    packing.add_argument(
        "shots", type=read_path, nargs="*", metavar="SHOT", help="folders of saved passes; the suites' own shots when left out"
    )
    packing.add_argument("--out", type=read_path, required=True, metavar="FILE", help="the file to write")
    packing.add_argument("--frames", type=int, help="frames of the suites' own shots; default 24")
    packing.add_argument("--prompt", action="append", metavar="TEXT", help="a prompt of the benchmark; default: the suites' three")
    packing.add_argument("--seed", type=int, action="append", metavar="N", help="a seed of the benchmark; default: 1 to 5")
    packing.add_argument("--licence", default="", metavar="NAME", help="what others may do with shots of your own, as in CC-BY-4.0")
    packing.add_argument("--licence-file", type=read_path, metavar="FILE", help="the licence's text")
    packing.set_defaults(run=pack)
    unpacking = below.add_parser(
        "unpack",
        help="unpack a file into folders of saved passes, all compared with their hashes",
        examples=(("latentman shots unpack benchmark.zip --out shots", "folders of OpenEXR files that any program reads"),),
    )
    unpacking.add_argument("file", type=read_path, metavar="FILE", help="what latentman shots pack made")
    unpacking.add_argument("--out", type=read_path, required=True, metavar="FOLDER", help="a new folder")
    unpacking.set_defaults(run=unpack)
    verifying = below.add_parser(
        "verify",
        help="compare all that a file holds with its hashes",
        examples=(("latentman shots verify benchmark.zip --json", "and what is in it, as JSON"),),
    )
    verifying.add_argument("file", type=read_path, metavar="FILE", help="such a file, or the folder it was unpacked into")
    verifying.set_defaults(run=verify)
    for parser in (packing, unpacking, verifying):
        parser.add_argument("--json", action="store_true", help="what is in it as one line of JSON")
