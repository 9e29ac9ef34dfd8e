"""``latentman models``: the models that have names, what a model's file is, and the library."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from ...shared.pasted_paths import read_pasted_path
from ...shared.shot import ShotError
from .library import command as library
from .plans import find_building_problem
from .profiles import find_base_profile
from .recognition import ModelFile, recognise
from .settings_command import add_command, write_profile, write_settings
from .weight_files import read_weight_file


def add_commands(commands: Any) -> None:
    """Add ``models``, and what is beneath it."""
    command = commands.add_parser(
        "models",
        help="list named models; models inspect FILE says what a file is, models settings MODEL how it is run, and models "
        "list|get|add|remove|verify|token are the library",
    )
    command.set_defaults(run=list_models)
    below = command.add_subparsers(dest="models_command", metavar="list|get|add|remove|verify|token|inspect|settings")
    library.add_commands(below)
    inspect = below.add_parser("inspect", help="say what a model's file is, without loading it", allow_abbrev=False)
    inspect.add_argument("files", nargs="+", metavar="FILE", help=".safetensors, .ckpt, .pt, .pth or .bin")
    inspect.add_argument("--json", action="store_true", help="one line of JSON for each file")
    inspect.set_defaults(run=inspect_files)
    add_command(below)


def list_models(_: argparse.Namespace) -> int:
    """List the models that have names."""
    from .registry import PRESETS

    for name, source in PRESETS.items():
        print(" | ".join([f"{name:10} {source.base}", *(f"{kind}={control}" for kind, control in source.controls)]))
    return 0


def inspect_files(args: argparse.Namespace) -> int:
    """Say of each file what it is; 1 when one of them cannot be read or used."""
    worst = 0
    for text in args.files:
        try:
            path = Path(read_pasted_path(text))
            found = _inspect(path)
            profile = find_base_profile(str(path)) if found.kind == "checkpoint" else None
        except ShotError as error:
            worst = 1
            if args.json:
                print(json.dumps({"file": text, "kind": "unreadable", "problem": str(error)}))
            else:
                print(error, file=sys.stderr)
            continue
        worst = max(worst, int(bool(found.problem)))
        if args.json:
            print(json.dumps(msgspec.to_builtins(found) | {"profile": msgspec.to_builtins(profile)}))
        else:
            own = write_profile(profile) if profile else write_settings(str(path))
            print("\n".join([*write_lines(found), *own]))
    return worst


def _inspect(path: Path) -> ModelFile:
    file = read_weight_file(path)
    found = recognise(file)
    problem = found.problem or find_building_problem(file, found)
    return (
        found
        if problem == found.problem
        else msgspec.structs.replace(found, problem=problem, sentence=f"{found.sentence} {problem}")
    )


def write_lines(found: ModelFile) -> list[str]:
    """What people read: the sentence, then what is known, what is guessed and what is doubtful, a line each."""
    lines = [found.sentence]
    size = f"{found.size / 1e9:.2f} GB" if found.size >= 1e8 else f"{found.size / 1e6:.2f} MB"
    lines.append(f"  file: {found.format}, {size}, {found.tensors} tensors, {found.parameters:,} numbers")
    if found.title:
        lines.append(f"  title: {found.title}")
    if found.kind == "checkpoint":
        lines.append(f"  holds: {', '.join(found.parts)}")
    if found.kind == "lora" and found.words:
        lines.append(f"  trigger words: {', '.join(found.words)}")
    advice = found.recommended
    if advice.steps:
        size_text = f"{advice.size}x{advice.size}, " if advice.size else ""
        spacing = f" with {advice.spacing} steps" if advice.spacing else ""
        lines.append(
            f"  runs best at: {size_text}{advice.steps} steps, guidance {advice.guidance_scale:g}, {advice.scheduler}{spacing}"
        )
    lines += [f"  guessed: {sentence}" for sentence in found.guesses]
    lines += [f"  warning: {sentence}" for sentence in found.warnings]
    return lines
