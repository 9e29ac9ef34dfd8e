"""``latentman``: serve, pair, generate, look, motion, evaluate, measure, shots, submission, leaderboard, export, composite,
densepose, jobs, models, techniques and doctor."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

from ..shared import logs, running
from ..shared.arguments import add_settings, read_path
from ..shared.command_parser import CommandParser, reads_json
from ..shared.console import CLOSED_PIPE, STOPPED, Console, check_shot_arguments, find_exit_code, finish_output, prepare_output
from ..shared.curve_keys import KeysError
from ..shared.disk_errors import explain_disk_error, find_path
from ..shared.endpoint import DEFAULT_ENDPOINT
from ..shared.files import read_file
from ..shared.folders import jobs_folder
from ..shared.interrupts import Terminated, catch_termination
from ..shared.load_options import LoadOptions
from ..shared.shot import ShotError
from ..shared.version import VERSION
from . import generate_command, pairing_command
from .generate_command import read_load_options
from .logs import keep_log, quieten_libraries
from .missing import explain_missing, require
from .models.hub_variables import drop_empty, find_problem
from .owner import OwnerWatch
from .workers.options import add_worker_options, read_worker_options

logger = logs.get_logger(__package__)
#: bytes of a list of client keys
MAX_CLIENTS = 1 << 20


def serve(args: argparse.Namespace) -> int:
    """Run the service until it is told to stop."""
    if args.list_clients:
        return pairing_command.list_clients()
    if args.forget_client is not None:
        return pairing_command.forget_client(args.forget_client)
    import zmq

    from . import pairing
    from .admission import RefusedToBind, allow_many_connections
    from .models.device_names import read_device_name
    from .server import Server
    from .tasks.resources import Resources, make_resources

    options, jobs, workers = read_load_options(args), args.jobs or jobs_folder(), read_worker_options(args)

    def make(jobs: Path) -> Resources:
        quieten_libraries()
        return make_resources(jobs, options, workers)

    # what can be said without importing the libraries, which takes seconds, is said at once
    require()
    if workers is not None:
        require(["ray"])
    try:
        clients = set(read_file(args.clients, MAX_CLIENTS).split()) if args.clients else set()
    except OSError as error:
        print(f"The list of client keys {args.clients} cannot be read: {error.strerror or error}.", file=sys.stderr)
        return 2
    try:
        read_device_name(options.device)
        server = Server(args.endpoint, jobs, clients, make, pairs=args.pair)
    except (RefusedToBind, KeysError, ShotError) as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, zmq.ZMQError) as error:
        if error.errno == zmq.EADDRINUSE:
            # whoever started this one looks for the other when this one has ended
            running.wait_for_other(args.endpoint)
        print(
            f"{args.endpoint} cannot be used ({error}); connect to the backend that is running there, or choose another address",
            file=sys.stderr,
        )
        return 2
    allow_many_connections()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    if args.owner is not None:
        args.owner.end_with(server.stop)
    announced = running.announce(server.endpoint, owned=args.owner is not None)
    logger.info("Listening at %s; jobs in %s; %s", server.endpoint, jobs, options)

    def report(event: str, **details: str) -> None:
        print(json.dumps({"event": event, **details}), flush=True)

    report("listening", endpoint=server.endpoint, version=VERSION)
    if server.pairing is not None:
        public, is_guess = pairing.find_public_endpoint(server.endpoint)
        print(pairing.explain(public, is_guess=is_guess), file=sys.stderr, flush=True)
        print(server.pairing.write_text(public), flush=True)
    server.serve(closing=lambda: running.withdraw(announced), ready=lambda: report("ready", device=server.loader.device))
    # the interpreter cannot take itself apart while a thread imports torch
    args.leave_at_once = server.loader.working
    if isinstance(server.loader.error, ShotError):
        print(server.loader.error, file=sys.stderr)
        return 2
    if server.loader.error is not None:
        raise server.loader.error
    logger.info("Stopped as it was asked to")
    return 0


def techniques(_: argparse.Namespace) -> int:
    """List the techniques that frames can be made with, and their settings."""
    from .video.techniques.listing import describe_techniques

    for line in describe_techniques():
        print(line)
    return 0


def plugins(_: argparse.Namespace) -> int:
    """List the metrics, shots and methods of other packages."""
    from .method_plugins import PLUGINS as METHODS
    from .metrics.metric_plugins import PLUGINS as METRICS
    from .metrics.metric_plugins import describe_metric
    from .metrics.shot_plugins import PLUGINS as SHOTS

    lines = [
        *(f"metric  {line}" for line in METRICS.describe(describe_metric)),
        *(f"shot  {line}" for line in SHOTS.describe(lambda make: " ".join((make.__doc__ or "").split()))),
        *(f"method  {line}" for line in METHODS.describe(lambda preset: f"{preset.label}. {preset.help}".rstrip(". "))),
    ]
    print("\n".join(lines) or "No package with metrics, shots or methods is installed in the backend's environment.")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = make_parser()
    arguments = sys.argv[1:] if argv is None else argv
    CommandParser.as_json = reads_json(arguments)
    args = parser.parse_args(arguments)
    check_shot_arguments(parser, args)
    return _run(args)


def make_parser() -> CommandParser:
    """The parser of the command's arguments."""
    from . import doctor
    from .exports import command as exports
    from .jobs import command as jobs
    from .metrics import command as evaluation
    from .models import command as models
    from .motion import command as motions

    parser = CommandParser(
        prog="latentman",
        description="LatentMan's backend: frames and motions from diffusion models, for the add-on and from saved passes.",
        examples=(
            ("latentman doctor", "what this environment can do"),
            ('latentman generate saved_passes --prompt "a knight in a forest" --out frames', "frames from saved passes"),
            (
                "latentman generate --help",
                "all arguments of a command; events, exit codes and variables: docs/command_line.md",
            ),
        ),
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "serve",
        help="run the service the add-on talks to, until Ctrl-C; it says as JSON where it listens",
        examples=(
            ("latentman serve", "for a Blender on this machine"),
            (
                "latentman serve --pair --endpoint tcp://0.0.0.0:48573",
                "for another machine, let in by the line that is printed",
            ),
        ),
    )
    command.add_argument(
        "--endpoint",
        default=DEFAULT_ENDPOINT,
        metavar="ADDRESS",
        help=f"where it listens; default {DEFAULT_ENDPOINT}, port 0 picks a free one",
    )
    command.add_argument("--clients", type=read_path, metavar="FILE", help="file of further clients' public keys, one a line")
    command.add_argument(
        "--jobs", type=read_path, metavar="FOLDER", help="folder of the job store; default: jobs in the data folder"
    )
    pairing_command.add_serve_options(command)
    add_worker_options(command)
    add_settings(command, LoadOptions)
    command.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="end when the standard input ends: for a program that starts the backend and holds the other end of a pipe",
    )
    command.set_defaults(run=serve, uses_models=True, imports_later=True, owner=None)
    generate_command.add_commands(commands)
    evaluation.add_commands(commands)
    exports.add_commands(commands)
    motions.add_commands(commands)
    jobs.add_commands(commands)
    models.add_commands(commands)
    command = commands.add_parser(
        "techniques",
        help="list techniques, those of other packages too, with their settings",
        examples=(("latentman techniques", "what --plugin and the panel know"),),
    )
    command.set_defaults(run=techniques)
    command = commands.add_parser(
        "plugins",
        help="list the metrics, shots and methods of other packages",
        examples=(("latentman plugins", "what --metric, --method and evaluate's shots and variants know beside their own"),),
    )
    command.set_defaults(run=plugins)
    pairing_command.add_commands(commands)
    doctor.add_commands(commands)
    return parser


def _run(args: argparse.Namespace) -> int:
    """Run a command. What ends it unexpectedly goes to the log and the standard error; a package that is missing is a sentence."""
    uses_models = getattr(args, "uses_models", False)
    if getattr(args, "end_with_stdin", False):
        # before anything that takes its time
        args.owner = OwnerWatch()
        args.owner.start()
    prepare_output()
    drop_empty(os.environ)
    try:
        code = _run_logged(args, uses_models)
    except ShotError as error:
        _tell_failure(args, error.code, str(error))
        code = find_exit_code(error.code)
    try:
        code = finish_output() or code
    except OSError as error:
        print(f"What was to be said could not be written ({error.strerror or error}); make space there.", file=sys.stderr)
        code = code or 1
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if getattr(args, "leave_at_once", False):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run_logged(args: argparse.Namespace, uses_models: bool) -> int:
    with keep_log(args.command) if uses_models else nullcontext():
        try:
            problem = find_problem(os.environ)
            if problem:
                _tell_failure(args, "environment", problem)
                return 2
            if uses_models and not getattr(args, "imports_later", False):
                quieten_libraries()
            with catch_termination():
                return int(args.run(args))
        except Terminated as stop:
            Console(_is_json(args)).emit(
                "interrupted", code="interrupted", signal=signal.Signals(stop.number).name, message=STOPPED
            )
            return 128 + stop.number
        except BrokenPipeError:
            return CLOSED_PIPE
        except ShotError:
            # a sentence already
            raise
        except MemoryError:
            logger.exception("latentman %s ran out of memory", args.command)
            _tell_failure(args, "memory", "There is not enough memory; use fewer frames or a smaller resolution.")
            return 1
        except OSError as error:
            logger.exception("latentman %s could not go on", args.command)
            sentence = explain_disk_error(error, find_path(error, "A file, folder or output"), "used", "name others")
            _tell_failure(args, "disk", sentence)
            return 1
        except Exception as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing and not missing.startswith("latentman"):
                _tell_failure(args, "environment", explain_missing(missing))
                return 2
            logger.critical("latentman %s ended unexpectedly", args.command, exc_info=True)
            if _is_json(args):
                _tell_failure(args, "internal", f"It failed unexpectedly ({type(error).__name__}); more is in {logs.find_own()}")
            return 1


def _is_json(args: argparse.Namespace) -> bool:
    """Whether programs read what the command says; of ``evaluate`` and ``measure`` ``--json`` is a file."""
    return getattr(args, "json", False) is True


def _tell_failure(args: argparse.Namespace, code: str, sentence: str) -> None:
    """Say why a command ended: programs read it where they read all else."""
    if _is_json(args):
        Console(True).emit("failed", code=code, message=sentence)
    else:
        print(sentence, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
