"""``blender --command latentman setup``: the same set-up without a window, for studios."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ...shared import shot
from ...shared.arguments import read_path
from ...shared.backend_environment import explain_loss, find_current
from ...shared.command_parser import CommandParser
from ...shared.console import Console
from ...shared.interrupts import SignalWatch
from ...shared.sizes import write_size
from .. import preferences
from ..online import is_online
from .drawing import describe_environment
from .options import SetUpOptions
from .process import SetUpProcess
from .state import STEPS

ACTIONS = {
    "install": "fetch what the backend needs, try it out, and use it from now on",
    "plan": "say what would be done",
    "files": "list the files that belong into a folder for --files, with their hashes",
    "repair": "fetch again what is damaged or gone",
    "move": "move it to --to",
    "remove": "delete it; models, jobs and frames stay",
    "status": "say what is set up",
}
_LOOK_SECONDS = 0.05
#: seconds that the process may take to end after it was told to
_END_SECONDS = 5.0


def add_setup_command(add_parser: Callable[..., CommandParser]) -> None:
    """Register it."""
    command = add_parser(
        "setup",
        help="set up the backend: fetch its packages, with progress, resume and a check",
        examples=(
            ("blender -b --command latentman setup --online", "for the best device of this machine"),
            ("blender -b --command latentman setup files --build cuda", "what to fetch for machines without the internet"),
            ("blender -b --command latentman setup --files /share/wheels", "and there"),
        ),
    )
    command.add_argument(
        "action",
        nargs="?",
        default="install",
        choices=tuple(ACTIONS),
        help="; ".join(f"{n}: {text}" for n, text in ACTIONS.items()),
    )
    command.add_argument(
        "--build", default="", metavar="BUILD", help="cuda, cuda-older, rocm, xpu, metal or cpu; by default the best device's"
    )
    command.add_argument("--folder", type=read_path, help="where it is kept; by default as the preferences say")
    command.add_argument("--python", default="", help="fetched, found, or the path of one; by default one is fetched")
    command.add_argument("--files", type=read_path, help="a folder of files in place of the network")
    command.add_argument("--to", type=read_path, help="the new folder, for move")
    command.add_argument("--online", action="store_true", help="use the internet though Blender keeps extensions offline")
    command.add_argument("--json", action="store_true", help="one JSON object per line on standard output")
    command.set_defaults(run=run_setup)


def run_setup(args: argparse.Namespace, out: Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code. Raises ``ShotError`` and ``Interrupted``."""
    root = args.folder.absolute() if args.folder else preferences.get_backend_folder(bpy.context)
    variables = preferences.get_network_variables(bpy.context)
    options = SetUpOptions(root, args.build, args.python, args.files, variables)
    if args.action == "status":
        return _show_status(out, root)
    if args.action in ("install", "repair") and args.files is None and not (args.online or is_online()):
        raise shot.ShotError(
            "offline", "Blender keeps extensions offline; allow it with --online, or give --files with a folder of wheels."
        )
    if args.action == "move" and args.to is None:
        raise shot.ShotError("arguments", "setup move needs --to with the new folder.")
    command = "plan" if args.action == "files" else args.action
    more = ("--to", str(args.to.absolute())) if args.action == "move" else ()
    try:
        process = SetUpProcess(options, command, *more)
    except OSError as error:
        raise shot.ShotError("backend", f"Set Up cannot be started: {error}.") from error
    return _follow(process, args.action, out, watch)


def _show_status(out: Console, root: Path) -> int:
    current = find_current(root)
    text = f"{describe_environment(current)}, in {current.folder}." if current else f"The backend is not set up in {root}."
    out.emit(
        "status",
        message=explain_loss(root) or text,
        environment=str(current.folder) if current else "",
        python=str(current.python) if current else "",
        outdated=bool(current and current.is_outdated),
    )
    return 0 if current else 1


def _follow(process: SetUpProcess, action: str, out: Console, watch: SignalWatch) -> int:
    code = 1
    try:
        while process.running:
            watch.check()
            for event in process.take_events():
                kind = str(event.pop("event", ""))
                if kind == "progress":
                    stage = STEPS.get(event["step"], (event["step"],))[0]
                    out.show_progress(stage, int(event["done"]) >> 20, max(1, int(event["total"]) >> 20))
                elif kind == "plan":
                    _show_plan(out, event, action)
                elif kind == "step":
                    out.emit("step", **event)
                elif kind == "note":
                    out.warn(event["message"])
                elif kind == "failed":
                    out.emit("failed", **event)
                    code = 1
                elif kind == "done":
                    code = 0
                    out.emit(
                        "done", **{**event, "message": _write_end(action, event)} if action not in ("plan", "files") else event
                    )
            time.sleep(_LOOK_SECONDS)
    finally:
        process.cancel()
        process.wait(_END_SECONDS)
    return code


def _show_plan(out: Console, plan: dict[str, Any], action: str) -> None:
    if action == "files":
        lines = [f"{one['sha256']}  {one['file']}" for one in (*plan["tools"], *plan["packages"])]
        out.emit("plan", message="\n".join(lines), **plan)
        return
    about = "" if plan["is_exact"] else "about "
    sizes = f"{about}{write_size(plan['download'] - plan['present'], 1)} to fetch, {write_size(plan['unpacked'], 1)} on the disk"
    text = f"{plan['label']}; Python {plan['python']}; {sizes}, {write_size(plan['free'], 1)} free in {plan['root']}"
    out.emit("plan", message="\n".join([text, *plan["notes"], *filter(None, [plan["problem"]])]), **plan)


def _write_end(action: str, event: dict[str, Any]) -> str:
    if action == "install":
        return f"The backend is set up in {event['environment']}."
    if action == "repair":
        return f"Repaired: {', '.join(event['packages'])}." if event["packages"] else "Nothing was damaged."
    if action == "remove":
        return f"Removed; {write_size(event['bytes'], 1)} are free again."
    return f"Moved to {event.get('root', '')}; name this folder in the preferences."
