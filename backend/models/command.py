"""``latentman models``: the models that have names, what a model's file is, and the library."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from ...shared.arguments import add_settings, read_given_settings
from ...shared.console import make_printable
from ...shared.load_options import LoadOptions
from ...shared.model_name import split_name
from ...shared.model_profile import ModelProfile
from ...shared.shot import Sampling, ShotError
from .family_layouts import BY_NAME
from .folder_reading import describe_folder, find_model_folder
from .library import command as library
from .library.naming import read_path
from .model_file import ModelFile
from .plans import find_building_problem
from .profiles import find_base_profile, find_profile
from .recognition import recognise
from .settings_command import add_command, write_profile, write_settings
from .transformer_parts import find_parts
from .usual_controls import find_family_of_folder
from .weight_files import GGUF, WeightFile, read_weight_file


def add_commands(commands: Any) -> None:
    """Add ``models``, and what is beneath it."""
    command = commands.add_parser(
        "models",
        help="list named models; models inspect FILE says what a file is, models settings MODEL how it is run, and models "
        "list|get|add|remove|verify|token are the library",
        examples=(
            ("latentman models", "the models that have a name"),
            ("latentman models list", "the library: what is here and what can be got"),
        ),
    )
    command.set_defaults(run=list_models)
    below = command.add_subparsers(dest="models_command", metavar="list|get|add|remove|verify|token|inspect|settings")
    library.add_commands(below)
    inspect = below.add_parser(
        "inspect",
        help="say what a model's file or folder is, or whether the parts of a model's name go together, without loading it",
        examples=(
            ("latentman models inspect model.safetensors --memory", "what it is, and how it would lie in memory"),
            (
                'latentman models inspect "model.safetensors|depth=control.safetensors|lora=style.safetensors"',
                "whether they go together",
            ),
        ),
    )
    inspect.add_argument(
        "files", nargs="+", metavar="FILE", help=".safetensors, .ckpt, .pt, .pth or .bin, a diffusers folder, or a model's name"
    )
    inspect.add_argument("--memory", action="store_true", help="also how the model would lie in this machine's memory")
    add_settings(inspect, LoadOptions, leave_out=("compile",))
    inspect.add_argument("--json", action="store_true", help="one line of JSON for each file")
    inspect.set_defaults(run=inspect_files)
    add_command(below)


def list_models(_: argparse.Namespace) -> int:
    """List the models that have names."""
    from .registry import PRESETS

    for name, source in PRESETS.items():
        parts = [*source.controls, *([("motion", source.motion)] if source.motion else [])]
        print(" | ".join([f"{name:12} {source.base}", *(f"{kind}={part}" for kind, part in parts)]))
    return 0


def inspect_files(args: argparse.Namespace) -> int:
    """Say of each file what it is; 1 when one of them cannot be read or used."""
    # imported late: without it the command takes a moment
    from .registry import is_model_name

    worst = 0
    for text in args.files:
        if is_model_name(text):
            worst = max(worst, _inspect_name(text, args))
            continue
        try:
            path = read_path(text)
            found = _inspect(path)
            profile = (
                find_base_profile(str(path))
                if found.kind in ("checkpoint", "transformer", "folder") and not found.problem
                else None
            )
            plan = _plan_memory(path, profile, args) if profile is not None and args.memory else []
        except ShotError as error:
            worst = 1
            if args.json:
                print(json.dumps({"file": text, "kind": "unreadable", "problem": str(error)}))
            else:
                print(make_printable(str(error)), file=sys.stderr)
            continue
        worst = max(worst, int(bool(found.problem)))
        if args.json:
            memory = {"memory": " ".join(plan)} if plan else {}
            print(json.dumps(msgspec.to_builtins(found) | {"profile": msgspec.to_builtins(profile)} | memory))
        else:
            own = write_profile(profile) if profile else write_settings(str(path))
            lines = [*write_lines(found), *own, *(f"  memory: {sentence}" for sentence in plan)]
            print(make_printable("\n".join(lines)))
    return worst


def _inspect_name(name: str, args: argparse.Namespace) -> int:
    """Say of a model by its name whether its parts go together, and how it is run; 1 when they do not."""
    # imported late: without them the command takes a moment, and works where no backend is installed
    from .hub import HubError
    from .preflight import check_model

    try:
        profile = find_profile(name)
        own = Sampling(steps=profile.steps, scheduler=profile.scheduler, spacing=profile.spacing)
        check_model(name, *profile.get_size(None), own)
        plan = _plan_memory(name, profile, args) if args.memory else []
    except (ShotError, HubError) as error:
        if args.json:
            print(json.dumps({"model": name, "problem": str(error)}))
        else:
            print(make_printable(str(error)), file=sys.stderr)
        return 1
    if args.json:
        memory = {"memory": " ".join(plan)} if plan else {}
        print(json.dumps({"model": name, "problem": "", "profile": msgspec.to_builtins(profile)} | memory))
    else:
        has_parts = bool(split_name(name)[1])
        said = f"The parts of {name} go together." if has_parts else f"{name} is a model that has a name."
        print(make_printable("\n".join([said, *write_profile(profile), *(f"  memory: {sentence}" for sentence in plan)])))
    return 0


def _plan_memory(name: Path | str, profile: ModelProfile, args: argparse.Namespace) -> list[str]:
    """How the model would lie in memory for frames of its own size, in sentences. Raises ``ShotError`` where it does not fit."""
    # imported late: without it the command takes a moment
    from .placement import describe_plan

    options = msgspec.structs.replace(LoadOptions(), **read_given_settings(args, LoadOptions))
    try:
        return describe_plan(str(name), options, profile.get_size(None))
    except (OSError, ValueError) as error:
        return [str(error)]


def _inspect(path: Path) -> ModelFile:
    path = Path(find_model_folder(str(path)))
    if path.is_dir():
        return describe_folder(path, find_family_of_folder(path))
    file = read_weight_file(path)
    found = recognise(file)
    if found.kind == "transformer" and not found.problem:
        return _name_parts(file, found)
    problem = found.problem or find_building_problem(file, found)
    return (
        found
        if problem == found.problem
        else msgspec.structs.replace(found, problem=problem, sentence=f"{found.sentence} {problem}")
    )


def _name_parts(file: WeightFile, found: ModelFile) -> ModelFile:
    """A transformer alone, with a sentence about where all else is, or how it is named."""
    layout, path = BY_NAME[found.family], file.path
    if found.format == GGUF:
        # imported late: without it the command takes a moment
        from .transformer_files import check_library

        try:
            check_library(file)
        except ShotError as error:
            found = msgspec.structs.replace(found, warnings=(*found.warnings, str(error)))
    try:
        said = f"All else is taken from {find_parts(path, layout)}."
    except ShotError as error:
        said = str(error)
    sentence = found.sentence
    if found.variant != "depth":
        sentence += f" It takes a ControlNet for {layout.title} ({layout.control}): {path.name}|depth=CONTROLNET."
    return msgspec.structs.replace(found, sentence=sentence, warnings=(*found.warnings, said))


def write_lines(found: ModelFile) -> list[str]:
    """What people read: the sentence, then what is known, what is guessed and what is doubtful, a line each."""
    lines = [found.sentence]
    size = f"{found.size / 1e9:.2f} GB" if found.size >= 1e8 else f"{found.size / 1e6:.2f} MB"
    tensors = f", {found.tensors} tensors, {found.parameters:,} numbers" if found.tensors else ""
    lines.append(f"  file: {found.format}, {size}{tensors}")
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
