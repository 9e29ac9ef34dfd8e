"""``latentman doctor``: what this environment can do, as a table, as JSON, or as a text for a bug report.

Needs none of the backend's packages itself.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from ..shared import diagnostics, machine
from ..shared.curve_keys import find_keys
from ..shared.folders import jobs_folder
from ..shared.redaction import find_private
from ..shared.shot import ShotError
from ..shared.version import VERSION
from .missing import BACKEND, CORE, INSTALL_BACKEND
from .trial import make_trial_frame

#: what some commands use where it is there: what is imported -> what it is for
OPTIONAL = {"bpy": "Blender as a package", "detectron2": "the command densepose", "densepose": "the command densepose"}


@dataclass(frozen=True)
class Findings:
    """What was found. ``problems`` are sentences; without any, everything that the backend needs is there. ``keys`` says whether
    the encryption keys exist; they are made when the backend first starts. ``frame`` tells of the frame that was made, empty where
    none was asked for."""

    versions: dict[str, str]
    device: str
    starter: str
    keys: bool
    optional: dict[str, str]
    problems: tuple[str, ...]
    frame: str = ""


def _missing() -> list[str]:
    return [package for module, package in BACKEND.items() if find_spec(module) is None]


def describe_device() -> str:
    """The device that models run on, with its memory. Needs torch."""
    import torch

    from .models.devices import choose_device

    device = choose_device()
    if device.type == "cuda":
        free, size = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return f"cuda, {name}, {machine.write_size(free)} free of {machine.write_size(size)}, CUDA {torch.version.cuda}"
    if device.type == "mps":
        return f"mps, {machine.write_size(torch.mps.recommended_max_memory())} for the GPU"
    return f"cpu, {torch.get_num_threads()} threads"


def _load_starter() -> str:
    import torch

    from .models.loading import load

    model = load("starter", torch.device("cpu"))
    return f"loads; sizes in multiples of {model.size_multiple}"


def _make_frame(device: str) -> str:
    started = time.perf_counter()
    frame = make_trial_frame(device)
    return f"{frame.shape[1]}x{frame.shape[0]} made in {time.perf_counter() - started:.1f} s"


def examine(trial_device: str = "") -> Findings:
    """Look at this environment; imports torch and loads the starter model where that is possible, and makes a tiny frame with it
    where ``trial_device`` names a device."""
    versions = {package: machine.find_version(package) for package in (*CORE.values(), *BACKEND.values())}
    optional = {name: use for name, use in OPTIONAL.items() if find_spec(name) is not None}
    problems, device, starter, frame = [], "", "", ""
    missing = _missing()
    if missing:
        problems.append(
            f"The backend's packages are not installed in this Python ({', '.join(missing)} missing); install them with "
            f"{INSTALL_BACKEND}"
        )
    else:
        try:
            from .logs import quieten_libraries

            quieten_libraries()
            device = describe_device()
            starter = _load_starter()
            if trial_device:
                frame = _make_frame(trial_device)
        except ShotError as error:
            problems.append(str(error))
        except (ImportError, OSError, RuntimeError) as error:
            first = str(error).strip().partition("\n")[0].rstrip(".")
            problems.append(f"The backend's packages cannot be used: {first}; install them again with {INSTALL_BACKEND}")
    return Findings(versions, device, starter, find_keys().exists(), optional, tuple(problems), frame)


def list_rows(found: Findings) -> list[tuple[str, str]]:
    """The findings as names and values for people."""
    versions = "  ".join(f"{name} {found.versions[name] or '(missing)'}" for name in CORE.values())
    backend = "  ".join(f"{name} {found.versions[name] or '(missing)'}" for name in BACKEND.values())
    optional = [f"{name} {'yes' if name in found.optional else 'no'}" for name in OPTIONAL]
    return [
        ("latentman", VERSION),
        ("Python", f"{platform.python_version()}  {sys.executable}"),
        *diagnostics.list_machine_rows(),
        ("packages", versions),
        ("backend packages", backend),
        ("optional packages", "  ".join(optional)),
        ("device", found.device or "not known"),
        ("starter model", found.starter or "does not load"),
        *([("tiny frame", found.frame)] if found.frame else []),
        *diagnostics.list_folder_rows(),
        ("keys", "there" if found.keys else "made when the backend first starts"),
    ]


def list_values(found: Findings) -> dict[str, Any]:
    """The findings for programs; sizes in bytes."""
    memory = machine.measure_memory()
    return {
        "latentman": VERSION,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": machine.describe_platform(),
        "memory_free": memory[0] if memory else None,
        "memory": memory[1] if memory else None,
        "disk_free": machine.measure_disk(jobs_folder()),
        "jobs": str(jobs_folder()),
        "folders": dict(diagnostics.list_folder_rows()),
        **asdict(found),
        "ok": not found.problems,
    }


def write_report(found: Findings, include_private: bool) -> str:
    """The text for a bug report."""
    sections = [
        diagnostics.Section("LatentMan backend", tuple(list_rows(found)), found.problems),
        diagnostics.make_environment_section(),
        *diagnostics.make_log_sections(),
    ]
    return diagnostics.compose(sections, None if include_private else find_private())


def doctor(args: argparse.Namespace) -> int:
    """Say what this environment can do; 1 when the backend cannot run in it."""
    found = examine(args.device)
    if args.json:
        print(json.dumps(list_values(found), indent=1))
    elif args.report:
        print(write_report(found, args.include_private), end="")
    else:
        print(diagnostics.show_rows(list_rows(found)))
        for problem in found.problems:
            print(problem)
    return 1 if found.problems else 0


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register it."""
    command = commands.add_parser(
        "doctor",
        help="say what this environment can do, and what it lacks",
        examples=(
            ("latentman doctor --try auto", "and make a tiny frame"),
            ("latentman doctor --report", "a text for a bug report"),
        ),
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object on standard output")
    form.add_argument("--report", action="store_true", help="a text for a bug report, with the last lines of the logs")
    command.add_argument(
        "--include-private", action="store_true", help="leave prompts, the home folder and the user's name in the report"
    )
    command.add_argument(
        "--try", dest="device", default="", metavar="DEVICE", help="make a tiny frame on auto, cuda, xpu, mps or cpu"
    )
    command.set_defaults(run=doctor)
