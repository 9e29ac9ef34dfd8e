"""``python backend/install.py plan|install|repair|move|remove|status``: *Set Up* as a program of its own.

A JSON object a line says how it goes: ``plan``, ``step``, ``progress``, ``note``, and last ``done`` or ``failed`` with ``code``,
``message`` and ``remedy``. It ends when its standard input does. Exit codes: 0 done, 1 failed, 130 cancelled.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...shared.addresses import hide_credentials
from ...shared.backend_environment import find_current, list_environments
from ...shared.pasted_paths import expand_home
from ...shared.version import VERSION
from .devices import LABELS, PROBES, probe, probe_in_children, write_devices
from .failures import InstallationError, Remedy
from .lock_file import LockedFile, find_system, read_lock
from .moving import move
from .network import Network
from .planning import Plan, Request, make_plan
from .processes import Children, end_with_owner
from .progress import Progress
from .removing import remove
from .repairing import repair
from .running import Tools, install

ENTRY = Path(__file__).resolve().parents[1] / "install.py"


def _describe_file(file: LockedFile) -> dict[str, Any]:
    return {"file": file.name, "size": file.size, "sha256": file.sha256}


def describe_plan(plan: Plan) -> dict[str, Any]:
    """What the panel shows of a plan, and what programs read."""
    return {
        "system": plan.system,
        "build": plan.build,
        "label": LABELS.get(plan.build, ""),
        "builds": [{"name": name, "label": label} for name, label in plan.builds],
        "devices": [asdict(device) for device in plan.devices.found],
        "python": plan.fetched_python.version if plan.fetched_python else str(plan.found_python.path) if plan.found_python else "",
        "is_python_fetched": plan.fetched_python is not None,
        "packages": [{"name": file.package, "version": file.version, **_describe_file(file)} for file in plan.packages or ()],
        "tools": [_describe_file(file) for file in (plan.uv, plan.fetched_python.file if plan.fetched_python else None) if file],
        "is_locked": plan.packages is not None,
        "download": plan.download,
        "present": plan.present,
        "unpacked": plan.unpacked,
        "needed": plan.needed,
        "free": plan.free,
        "is_exact": plan.is_exact,
        "root": str(plan.request.root),
        "files": str(plan.request.files or ""),
        "package_index": hide_credentials(plan.network.package_index),
        "torch_index": hide_credentials(plan.network.torch_index),
        "current": plan.current,
        "is_current": plan.exists
        and any(found.key == plan.key and found.name == plan.current for found in list_environments(plan.request.root)),
        "notes": list(plan.notes),
        "problem": plan.problem,
        "code": plan.code,
        "remedy": plan.remedy.value if plan.problem else "",
        "version": VERSION,
    }


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("probe", help="print a maker's devices").add_argument("maker", choices=tuple(PROBES))
    for name in ("plan", "install", "repair", "move", "remove", "status"):
        command = commands.add_parser(name, allow_abbrev=False)
        command.add_argument("--root", type=Path, required=True, help="where environments are kept")
        if name in ("plan", "install", "repair"):
            command.add_argument("--build", default="", help="the build of torch; empty for the one of the best device")
            command.add_argument("--python", default="", help="fetched, found, or the path of one")
            command.add_argument("--files", type=Path, help="a folder of files to use instead of the network")
            command.add_argument("--host", type=Path, help="the folder of a program whose own Python is not to be used")
        if name == "move":
            command.add_argument("--to", type=Path, required=True)
    return parser.parse_args(argv)


def find_path(path: Path) -> Path:
    """A path that the user has named, with ``~`` and without ``..``; links in it stay. Raises ``InstallationError``."""
    try:
        return Path(os.path.abspath(expand_home(path)))
    except ValueError as error:
        raise InstallationError("path", f"{error}.", Remedy.SPACE) from error


def run(args: argparse.Namespace, tools: Tools) -> dict[str, Any]:
    """Run a command; returns what ``done`` tells. Raises ``InstallationError``."""
    root = find_path(args.root)
    if args.command == "status":
        current = find_current(root)
        return {
            "current": str(current.folder) if current else "",
            "environments": [found.name for found in list_environments(root)],
        }
    if args.command == "move":
        target = find_path(args.to)
        move(root, target, tools.progress)
        return {"root": str(target)}
    if args.command == "remove":
        return {"bytes": remove(root, tools)}
    files = find_path(args.files) if args.files else None
    request = Request(root, args.build, args.python, files, args.host)
    if args.command == "repair":
        return {"packages": repair(request, tools)}
    devices = probe_in_children([sys.executable, "-I", "-B", str(ENTRY), "probe"], tools.children)
    plan = make_plan(request, tools.lock, devices, tools.network, tools.children)
    tools.progress.emit("plan", **describe_plan(plan))
    if args.command == "plan":
        return {}
    return {"environment": str(install(plan, tools))}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parse(argv)
    progress, children = Progress(), Children()
    end_with_owner(children)
    if args.command == "probe":
        print(f"\n{write_devices(probe(args.maker))}", flush=True)
        return 0
    try:
        done = run(args, Tools(read_lock(), Network.from_environment(), children, progress))
    except InstallationError as error:
        progress.emit("failed", code=error.code, message=error.sentence, remedy=error.remedy.value)
        return 1
    except Exception as error:
        traceback.print_exc()
        progress.emit(
            "failed",
            code="unexpected",
            message=f"Something failed unexpectedly ({type(error).__name__}: {error}); copy the diagnostics and report it.",
            remedy=Remedy.REPORT.value,
        )
        return 1
    finally:
        children.kill()
    progress.emit("done", system=find_system(), **done)
    return 0
