"""``latentman``: serve | generate | motion | evaluate | measure | export | densepose | jobs | models | techniques | doctor."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..shared import passes_folder
from ..shared.console import Console, add_shot_arguments, check_writable, request_from
from ..shared.endpoint import DEFAULT_ENDPOINT
from ..shared.folders import jobs_folder
from ..shared.messages import FrameResult, Message
from ..shared.shot import ShotError, check_passes, check_request
from ..shared.version import VERSION

if TYPE_CHECKING:
    from .models.loading import LoadOptions


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype", choices=("auto", "float32", "float16", "bfloat16"), default="auto", help="auto is half precision on CUDA"
    )
    parser.add_argument("--compile", action="store_true", help="fuse the networks' operations; slow to begin, then quicker")
    parser.add_argument(
        "--offload",
        choices=("auto", "on", "off"),
        default="auto",
        help="keep on the GPU only the part that works; auto does so when the model would fill it",
    )


def _options(args: argparse.Namespace) -> LoadOptions:
    from .models.loading import LoadOptions

    return LoadOptions(args.dtype, args.compile, args.offload)


def serve(args: argparse.Namespace) -> int:
    """Run the service until it is told to stop."""
    import zmq

    from .server import RefusedToBind, Server

    clients = set(args.clients.read_bytes().split()) if args.clients else set()
    try:
        server = Server(args.endpoint, args.jobs or jobs_folder(), clients, _options(args))
    except RefusedToBind as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, zmq.ZMQError) as error:
        print(
            f"{args.endpoint} cannot be used ({error}); connect to the backend that is running there, or choose another address",
            file=sys.stderr,
        )
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    print(json.dumps({"event": "listening", "endpoint": server.endpoint, "version": VERSION}), flush=True)
    server.serve()
    return 0


def generate(args: argparse.Namespace) -> int:
    """Make frames from a folder of saved passes; 0 only if all frames exist afterwards."""
    from PIL import Image

    from .jobs.runner import ModelCache, run
    from .jobs.store import JobStore

    console = Console(args.json)
    try:
        passes, manifest = passes_folder.load(args.passes)
        request = request_from(args, manifest.width, manifest.height, manifest.frames, manifest.fps, manifest)
        check_request(request)
        passes = check_passes(request, passes.arrays())
        check_writable(args.out)
        job = JobStore(args.jobs or jobs_folder()).open(request, passes)
    except ShotError as error:
        console.say("failed", code=error.code, message=str(error))
        return 2

    def emit(message: Message, arrays: dict[str, np.ndarray] | None) -> None:
        if isinstance(message, FrameResult) and arrays:
            Image.fromarray(arrays["image"]).save(args.out / f"{message.frame:04d}.png")
        console.show(message)  # type: ignore[arg-type]

    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
    finished = run(job, ModelCache(_options(args)), emit, lambda: bool(stopped))
    missing = [f for f in request.frames if not (args.out / f"{f:04d}.png").exists()]
    if finished and not missing:
        (args.out / "report.json").write_text(json.dumps(job.report(), indent=1))
        return 0
    return 130 if stopped else 1


def models(_: argparse.Namespace) -> int:
    """List the models that have names."""
    from .models.registry import PRESETS

    for name, source in PRESETS.items():
        print(" | ".join([f"{name:10} {source.base}", *(f"{kind}={control}" for kind, control in source.controls)]))
    return 0


def techniques(_: argparse.Namespace) -> int:
    """List the techniques that frames can be made with, and their settings."""
    from .video.techniques.listing import describe_techniques

    for line in describe_techniques():
        print(line)
    return 0


def doctor(_: argparse.Namespace) -> int:
    """Say what this environment can do; 1 when the starter model cannot be loaded."""
    import diffusers
    import torch
    import zmq

    from .models.loading import best_device, load

    print(f"latentman {VERSION}, torch {torch.__version__}, diffusers {diffusers.__version__}, zmq {zmq.__version__}")
    print(f"device: {best_device()}")
    try:
        model = load("starter", torch.device("cpu"))
    except ShotError as error:
        print(error)
        return 1
    print(f"starter model: loads; sizes in multiples of {model.size_multiple}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    from .exports import command as exports
    from .jobs import command as jobs
    from .metrics import command as evaluation
    from .motion import command as motions

    parser = argparse.ArgumentParser(prog="latentman", description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("serve", help="run the service the add-on talks to")
    command.add_argument("--endpoint", default=DEFAULT_ENDPOINT, help="port 0 picks a free one")
    command.add_argument("--clients", type=Path, help="file with the public keys of further clients")
    command.add_argument("--jobs", type=Path, help="folder of the job store")
    _add_options(command)
    command.set_defaults(run=serve)
    command = commands.add_parser("generate", help="frames from a folder of saved passes")
    command.add_argument("passes", type=Path)
    add_shot_arguments(command)
    command.add_argument("--jobs", type=Path, help="folder of the job store")
    _add_options(command)
    command.set_defaults(run=generate)
    evaluation.add_commands(commands)
    exports.add_commands(commands)
    motions.add_commands(commands)
    jobs.add_commands(commands)
    commands.add_parser("models", help="list named models").set_defaults(run=models)
    commands.add_parser("techniques", help="list techniques, those of other packages too").set_defaults(run=techniques)
    commands.add_parser("doctor", help="check this environment").set_defaults(run=doctor)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
