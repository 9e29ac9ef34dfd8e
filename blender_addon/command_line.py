"""``blender -b shot.blend --command latentman generate ...`` and ``python -m latentman.blender_addon ...``.

Exit codes: 0 everything that was requested exists, 1 making it failed, 2 the input is wrong, which is found before anything is
rendered, 130 after Ctrl-C and 143 after SIGTERM. With ``--json`` the last line says which of them it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy

from ..shared import console, logs, shot
from ..shared.command_parser import CommandParser, reads_json
from ..shared.interrupts import Interrupted, SignalWatch
from ..shared.motion import MotionError
from .commands import assemble, backend_program, dress, motion, passes, shots
from .commands.backend import wait_until as wait_until
from .commands.scene import ENABLE_SCRIPTS as ENABLE_SCRIPTS
from .commands.scene import PROGRAM
from .set_up.command import add_setup_command

COMMAND = "latentman"
logger = logs.get_logger(__name__)


def make_parser() -> CommandParser:
    """The parser of the command's arguments."""
    top = CommandParser(
        prog=COMMAND,
        description="LatentMan: consistent frames of an animated character, of the .blend file that is open.",
        examples=(
            (f'{PROGRAM} generate --prompt "{shots.PROMPT}" --frames 1-24 --out frames', "frames of a scene"),
            (f"{PROGRAM} generate --help", "all arguments of a command; docs/command_line.md has events, exit codes and variables"),
        ),
    )
    commands = top.add_subparsers(dest="command", required=True)
    shots.add_commands(commands.add_parser)
    dress.add_command(commands.add_parser)
    passes.add_command(commands.add_parser)
    motion.add_command(commands.add_parser)
    assemble.add_command(commands.add_parser)
    backend_program.add_command(commands.add_parser)
    add_setup_command(commands.add_parser)
    return top


def main(argv: Sequence[str]) -> int:
    """Run a command; returns the exit code."""
    try:
        CommandParser.as_json = reads_json(argv)
        parser = make_parser()
        args: Any = parser.parse_args(argv)
        if args.command == "motion" and not (args.out or args.save):
            parser.error("motion needs --out, --save, or both")
        console.check_shot_arguments(parser, args)
    except SystemExit as stop:
        return int(stop.code or 0)
    out = console.Console(CommandParser.as_json)
    with SignalWatch() as watch:
        code, message = "", ""
        try:
            watch.check()
            return int(args.run(args, out, watch))
        except Interrupted:
            return console.report_interrupt(out, watch)
        except (shot.ShotError, MotionError) as error:
            code, message = getattr(error, "code", "motion"), str(error)
            # a folder that cannot be written was chosen so: that is found before anything is done
            if code == "disk":
                out.emit("failed", code=code, message=message)
                return 2
        except OSError as error:
            code, message = "disk", f"What was made cannot be written: {error}"
        except MemoryError:
            code, message = "memory", "There is not enough memory; use fewer frames or a smaller resolution."
        except Exception as error:
            logger.exception("the command %s failed", args.command)
            code = "internal"
            message = f"It failed unexpectedly ({type(error).__name__}: {error}); more is in {logs.find_own()}"
        return out.fail(code, message)


#: Blender's handle of the command
_handle: Any = None


def register() -> None:
    """Make ``blender --command latentman`` work."""
    global _handle
    register_command: Any = bpy.utils.register_cli_command  # the stubs say that it returns None
    _handle = register_command(COMMAND, main)


def unregister() -> None:
    """Remove the command."""
    global _handle
    if _handle is not None:
        bpy.utils.unregister_cli_command(_handle)
        _handle = None
