"""``latentman models list|get|add|remove|verify|token``: the library of models from a terminal, for people and for programs.

What needs the hub's library is imported by the commands that use it, so that the others work without.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from ....shared.addresses import hide_credentials
from ....shared.console import Console, find_exit_code, make_printable, report_interrupt
from ....shared.disk_errors import explain_disk_error, find_path
from ....shared.interrupts import Interrupted, SignalWatch
from ....shared.library import KINDS, LibraryItem, write_bytes
from ....shared.shot import ShotError
from .catalogue import find_entry
from .waiting import run_stoppable

#: seconds between two words about the progress
REPORT_SECONDS = 0.2
_MARKS = {"yes": "fits", "tight": "tight", "no": "too large", "": ""}


def add_commands(below: Any) -> None:
    """Add them beneath ``models``."""
    command = below.add_parser(
        "list",
        help="list the library: what is here and what can be got",
        examples=(
            ("latentman models list photo --kind checkpoint", "entries with a word"),
            ("latentman models list --here --json", "for programs"),
        ),
    )
    command.add_argument("words", nargs="*", metavar="WORD", help="only entries that have all of these words")
    command.add_argument(
        "--kind", action="append", default=[], choices=list(KINDS), help="only this kind; may be given several times"
    )
    command.add_argument("--here", action="store_true", help="only what is on this machine")
    command.add_argument("--quick", action="store_true", help="do not look whether the device's memory holds it")
    _finish(command, list_models, "one line of JSON for each entry")
    command = below.add_parser(
        "get",
        help="get models of the catalogue or the hub",
        examples=(("latentman models get sd15", "a model of the catalogue, with what it needs"),),
    )
    command.add_argument("names", nargs="+", metavar="NAME", help="a name of 'models list', or OWNER/NAME of the hub, with @COMMIT")
    _finish(command, get_models)
    command = below.add_parser(
        "add",
        help="have folders read: of ComfyUI, AUTOMATIC1111, Forge, or any",
        examples=(("latentman models add ~/ComfyUI", "its models are listed and used where they lie"),),
    )
    command.add_argument("folders", nargs="+", metavar="FOLDER", help="a folder with models, in any of these layouts")
    _finish(command, add_folders)
    command = below.add_parser(
        "remove",
        help="remove what was got, or have a folder read no more; files of your own stay",
        examples=(("latentman models remove sd15", "delete what was got of it"),),
    )
    command.add_argument("names", nargs="+", metavar="NAME", help="a name of 'models list', a path, or a folder that was added")
    command.add_argument("--files", action="store_true", help="delete files in your own folders as well; for good")
    _finish(command, remove_models)
    command = below.add_parser(
        "verify",
        help="look whether files are what came; 1 when one is not",
        examples=(("latentman models verify", "everything that was got"),),
    )
    command.add_argument("names", nargs="*", metavar="NAME", help="a name of 'models list' or a path; all that was got without one")
    _finish(command, verify_models, "one line of JSON for each file")
    command = below.add_parser(
        "token",
        help="keep a token of the hub, for gated and private models",
        examples=(
            ("latentman models token", "it is asked for, and not shown"),
            ("latentman models token --forget", "remove it again"),
        ),
    )
    command.add_argument("--forget", action="store_true", help="remove it again")
    _finish(command, keep_token)


def _finish(
    command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], words: str = "one JSON object a line"
) -> None:
    command.add_argument("--json", action="store_true", help=words)
    command.set_defaults(run=run)


def _run(args: argparse.Namespace, work: Callable[[Console, Callable[[], None]], int]) -> int:
    """Do a command's work; a signal ends it at once, and whatever is wrong is a sentence and an exit code."""
    from ..hub import HubError

    out = Console(args.json)
    with SignalWatch() as watch:
        try:
            return run_stoppable(lambda check: work(out, check), watch.check)
        except Interrupted:
            return report_interrupt(out, watch)
        except HubError as error:
            sentence = str(error)
            return _fail(out, args, error.reason, f"{sentence[:1].upper()}{sentence[1:]}.")
        except ShotError as error:
            return _fail(out, args, error.code, str(error))
        except BrokenPipeError:
            # nobody reads on
            raise
        except OSError as error:
            sentence = explain_disk_error(error, find_path(error, "A file, folder or output"), "used", "name others")
            return _fail(out, args, "disk", sentence)


def _fail(out: Console, args: argparse.Namespace, code: str, sentence: str) -> int:
    if args.json:
        out.emit("failed", code=code, message=sentence)
    else:
        print(make_printable(sentence), file=sys.stderr)
    return find_exit_code(code)


def list_models(args: argparse.Namespace) -> int:
    """List the library."""
    return _run(args, lambda out, check: _list(args, out, check))


def _list(args: argparse.Namespace, out: Console, check: Callable[[], None]) -> int:
    from .fit import measure_device
    from .listing import list_library

    device = None if args.quick else measure_device()
    found = list_library(" ".join(args.words), args.kind, device, check)
    for notice in found.notices:
        out.warn(notice)
    items = [item for item in found.items if item.is_here or not args.here]
    if args.json:
        for item in items:
            print(json.dumps(msgspec.to_builtins(item)))
    else:
        print("\n".join(_write_items(items)))
    if found.left_out:
        out.warn(f"{found.left_out} more match; give more words.")
    return 0


def _write_items(items: list[LibraryItem]) -> list[str]:
    """A line for each entry, under the title of its kind."""
    from .listing import write_family

    if not items:
        return ["Nothing matches; use fewer words, or add a folder with 'latentman models add FOLDER'."]
    lines: list[str] = []
    for kind, title in KINDS.items():
        own = [item for item in items if item.kind == kind]
        if not own:
            continue
        lines.append(f"{title}")
        for item in own:
            state = "damaged" if item.damaged else "here" if item.is_here else "to get" if item.can_get else "see its page"
            told = [state, write_bytes(item.size), write_family(item), _MARKS.get(item.fits, ""), item.licence]
            name = item.name if item.place in ("bundled", "catalogue", "hub") or find_entry(item.name) else item.title
            lines.append(f"  {name:24} {', '.join(filter(None, told))}")
            if item.path and item.place in ("folder", "library") and not find_entry(item.name):
                lines.append(f"  {'':24} {item.path}")
            if item.problem:
                lines.append(f"  {'':24} {item.problem}")
    return [make_printable(line.replace("\n", " ")) for line in lines]


def get_models(args: argparse.Namespace) -> int:
    """Get models, one after the other."""
    return _run(args, lambda out, check: _get(args, out, check))


def _get(args: argparse.Namespace, out: Console, check: Callable[[], None]) -> int:
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # its types leave it out

    from .getting import get

    # it would draw bars of its own for the small files
    disable_progress_bars()
    for name in args.names:
        progress = _Progress(out, args.json, check)
        got = get(name, progress.report)
        progress.finish()
        out.emit("got", name=name, path=str(got.path), bytes=got.size, message=got.sentence)
    return 0


class _Progress:
    """Bytes on their way, with how quickly they come."""

    def __init__(self, out: Console, as_json: bool, check: Callable[[], None]) -> None:
        self._out, self._json, self._check = out, as_json, check
        self._told = self._began = time.monotonic()
        self._first: int | None = None

    def report(self, done: int, total: int, name: str) -> None:
        """Tell of it, now and then."""
        self._check()
        now = time.monotonic()
        if self._first is None:
            self._first = done
        elif now < self._told + REPORT_SECONDS and done < total:
            return
        self._told = now
        rate = (done - self._first) / max(now - self._began, 0.1)
        if self._json:
            self._out.emit("progress", stage="downloading", file=name, bytes=done, total=total, rate=round(rate))
        elif total:
            short = name.rpartition("/")[2]
            self._out.show_progress(f"{short[:40]} {rate / 1e6:.1f} MB/s", round(done / 1e6), round(total / 1e6))

    def finish(self) -> None:
        """Nothing more comes."""
        self._check()


def add_folders(args: argparse.Namespace) -> int:
    """Have folders read from now on."""

    def work(out: Console, check: Callable[[], None]) -> int:
        from .folders import add_folder

        for folder in args.folders:
            check()
            found = add_folder(folder)
            out.emit("added", path=found.path, layout=found.layout, message=f"{found.path} is in the library ({found.layout}).")
        return 0

    return _run(args, work)


def remove_models(args: argparse.Namespace) -> int:
    """Remove models or folders."""

    def work(out: Console, check: Callable[[], None]) -> int:
        from .removing import remove

        for name in args.names:
            check()
            out.emit("removed", name=name, message=remove(name, files=args.files))
        return 0

    return _run(args, work)


def verify_models(args: argparse.Namespace) -> int:
    """Look whether files are what came."""

    def work(out: Console, check: Callable[[], None]) -> int:
        from .verifying import summarise, verify

        checked = verify(args.names, lambda done, total, name: check())
        for one in checked:
            if args.json:
                print(json.dumps({"path": str(one.path), "name": one.name, "state": one.state, "message": one.sentence}))
            elif one.state != "intact":
                print(make_printable(one.sentence))
        if not args.json:
            print(summarise(checked))
        return int(any(one.state in ("damaged", "missing") for one in checked))

    return _run(args, work)


def keep_token(args: argparse.Namespace) -> int:
    """Ask for a token, which is not shown, or read it from the standard input, and keep it."""
    from ..hub import read_endpoint
    from .tokens import forget_token, save_token

    out = Console(args.json)
    try:
        endpoint = read_endpoint()
        shown = hide_credentials(endpoint)
        if args.forget:
            message = f"The token for {shown} is forgotten." if forget_token(endpoint) else "There is no token to forget."
        else:
            asked = f"Token for {shown} (it is not shown): "
            token = getpass.getpass(asked) if sys.stdin.isatty() else sys.stdin.readline()
            message = f"The token for {shown} is kept in {save_token(token, endpoint)}."
    except ShotError as error:
        return _fail(out, args, error.code, str(error))
    except EOFError:
        return _fail(out, args, "token", "No token was given.")
    out.emit("token", message=message)
    return 0
