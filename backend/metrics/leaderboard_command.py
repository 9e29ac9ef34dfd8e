"""``latentman leaderboard`` and ``latentman submission``."""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...shared.arguments import read_path
from ...shared.console import check_spared, check_writable_file, make_printable
from ...shared.files import open_atomically, read_file, write_atomically
from ...shared.shot import ShotError
from .shots_command import return_exit_code

if TYPE_CHECKING:
    from .packed_shots import LoadedPasses

#: ends of the names of files that a leaderboard can be written to
KINDS = (".md", ".csv", ".html")
#: what some editors put before a text
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@return_exit_code
def leaderboard(args: argparse.Namespace) -> int:
    """Rank submissions; 2 when one of them was left out."""
    from .leaderboard import check_figure, leave_out_lacking, rank
    from .leaderboard_pages import format_csv, format_html, format_markdown
    from .packed_shots import Benchmark
    from .submissions import read_submissions

    check_figure(args.figure)
    for path in args.out:
        if path.suffix.lower() not in KINDS:
            raise ShotError("out", f"{path} is none of {', '.join(KINDS)}; give --out a name with one of these endings.")
        check_spared(path, [*args.submissions, args.shots])
        check_writable_file(path.absolute())
    with Benchmark(args.shots) as benchmark:
        entries, refused = read_submissions(args.submissions, benchmark)
        entries, lacking = leave_out_lacking(entries, args.figure)
        refused += lacking
        for sentence in refused:
            print(make_printable(sentence), file=sys.stderr)
        if not entries:
            raise ShotError("submission", "None of the submissions fits the benchmark; nothing was written.")
        board = rank(entries, args.figure, args.baseline)
        for path in args.out:
            kind = path.suffix.lower()
            if kind == ".csv":
                text = format_csv(board, benchmark.manifest)
            else:
                text = (format_markdown if kind == ".md" else format_html)(board, benchmark.manifest, refused)
            write_atomically(path.absolute(), text.encode())
    for one in board.standings:
        tied = f"  not distinguishable from {', '.join(one.tied)}" if one.tied else ""
        print(make_printable(f"{one.rank:>3}  {one.entry.metadata.name:<30} {board.figure} {one.ratios[board.figure]}{tied}"))
    return 2 if refused else 0


def _find_clip(root: Path, shot: str, clip: str, variant: str) -> Path:
    """A clip: the folder or film ``SHOT/PROMPT-SEED`` below ``root``, or the folder of a variant's run below it."""
    from .clips import find_clip

    folder = root / shot / clip
    if not variant:
        given = find_clip(folder)
        if given is None:
            raise ShotError("frames", f"There is no {folder}; the clips must lie in SHOT/PROMPT-SEED, such as walk/1-4.")
        return given
    found = [path for path in folder.glob("*-*") if path.is_dir() and path.name.rpartition("-")[0] == variant]
    if len(found) != 1:
        raise ShotError(
            "frames", f"{folder} has {len(found)} runs of '{variant}'; evaluate the benchmark's shots into a folder of their own."
        )
    return found[0]


def _name_frames(folder: Path, passes: LoadedPasses) -> dict[str, Path]:
    """The pictures of a clip under their frames' numbers, which every system and the leaderboard can read, whatever they are
    called."""
    from .clips import open_clip

    manifest = passes.manifest
    clip = open_clip([folder], manifest.frames, (manifest.width, manifest.height))
    # names cannot begin with a minus; then the order counts
    numbers = manifest.frames if min(manifest.frames) >= 0 else range(1, len(manifest.frames) + 1)
    numbered = zip(numbers, clip.pictures, strict=True)
    return {f"{frame:04d}{path.suffix.lower()}": path for frame, (path, _) in numbered}


@return_exit_code
def submission(args: argparse.Namespace) -> None:
    """Measure clips and pack them as a submission."""
    import msgspec

    from ...shared.npy import shorten
    from .measuring import measure_given
    from .packed_shots import Benchmark, LoadedPasses
    from .submissions import FRAMES, MAX_METADATA, METADATA, RESULTS, Metadata, check_metadata, encode_metadata

    try:
        metadata = msgspec.json.decode(read_file(args.metadata, MAX_METADATA).removeprefix(BYTE_ORDER_MARK), type=Metadata)
        check_metadata(metadata)
    except ShotError as error:
        raise ShotError("submission", f"{args.metadata} cannot be taken: {error}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ShotError(
            "submission", f"{args.metadata} cannot be read ({shorten(error)}); docs/benchmark.md says what it holds."
        ) from error
    check_spared(args.out, [args.clips, args.shots, args.metadata])
    check_writable_file(args.out.absolute())
    files: dict[str, bytes | Path] = {METADATA: encode_metadata(metadata)}
    with Benchmark(args.shots) as benchmark:
        manifest = benchmark.manifest
        clips = [f"{number}-{seed}" for number in range(1, len(manifest.prompts) + 1) for seed in manifest.seeds]
        # what is missing or cannot be packed is said before anything is measured
        places = {
            (shot.name, clip): _find_clip(args.clips, shot.name, clip, args.variant) for shot in manifest.shots for clip in clips
        }
        film = next((place for place in places.values() if args.with_frames and not place.is_dir()), None)
        if film is not None:
            raise ShotError("frames", f"{film} is no folder of pictures, which --with-frames packs; unpack it, or leave that out.")
        for shot in manifest.shots:
            passes = LoadedPasses(*benchmark.read(shot.name))
            for clip in clips:
                folder = places[shot.name, clip]
                found = measure_given(passes, shot.name, [folder], None, shot.name)
                for warning in found.warnings:
                    print(make_printable(warning), file=sys.stderr)
                # paths are nobody's business
                told = found.provenance | {"frames": [f"{FRAMES}/{shot.name}/{clip}"], "figures": found.figures}
                files[f"{RESULTS}/{shot.name}/{clip}.json"] = json.dumps(told, indent=1).replace(str(folder), clip).encode()
                if args.with_frames:
                    files |= {f"{FRAMES}/{shot.name}/{clip}/{name}": path for name, path in _name_frames(folder, passes).items()}
                print(f"{shot.name}/{clip}: hmse {found.figures['hmse']}", flush=True)
    _write_archive(args.out.absolute(), files)
    print(f"{len(places)} clips in {args.out}")


def _write_archive(path: Path, files: dict[str, bytes | Path]) -> None:
    """Write an archive of texts and of files, so that all of it is there or none."""
    with open_atomically(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
            archive.writestr(entry, content if isinstance(content, bytes) else read_file(content))


def add_commands(commands: Any) -> None:
    """Add both commands to the parser of ``latentman``."""
    shots = dict(type=read_path, required=True, metavar="FILE", help="the benchmark: a file of latentman shots pack, or its folder")
    command = commands.add_parser(
        "submission",
        help="measure the clips of a method on a benchmark and pack them for its leaderboard",
        examples=(
            (
                "latentman submission out --variant surface --shots benchmark.zip --metadata me.json --out surface.zip",
                "what an evaluation of the benchmark has made",
            ),
            (
                "latentman submission clips --shots benchmark.zip --metadata me.json --out mine.zip",
                "clips that were made elsewhere",
            ),
        ),
    )
    command.add_argument("clips", type=read_path, metavar="CLIPS", help="folder of clips in SHOT/PROMPT-SEED, as in walk/1-4")
    command.add_argument("--variant", default="", metavar="NAME", help="the folder is an evaluation's, and this is the variant")
    command.add_argument("--shots", **shots)
    command.add_argument("--metadata", type=read_path, required=True, metavar="FILE", help="name, authors and so on as JSON")
    command.add_argument("--with-frames", action="store_true", help="pack the pictures, too, so that they can be measured again")
    command.add_argument("--out", type=read_path, required=True, metavar="FILE", help="the archive to write")
    command.set_defaults(run=submission)
    command = commands.add_parser(
        "leaderboard",
        help="rank submissions by pairs of the same shot, prompt and seed; what does not fit is left out with a sentence",
        examples=(
            (
                "latentman leaderboard *.zip --shots benchmark.zip --out leaderboard.md --out leaderboard.csv",
                "exit code 2 when one was left out",
            ),
        ),
    )
    command.add_argument("submissions", type=read_path, nargs="+", metavar="SUBMISSION", help="folders or archives")
    command.add_argument("--shots", **shots)
    command.add_argument(
        "--out", type=read_path, action="append", required=True, help=f"file to write ({', '.join(KINDS)}); several times"
    )
    command.add_argument("--figure", default="hmse", help="what entries are ranked by; default hmse")
    command.add_argument(
        "--baseline",
        default="",
        metavar="NAME",
        help="the entry of the ratios; cross_frame, per_frame or the first if left out",
    )
    command.set_defaults(run=leaderboard)
