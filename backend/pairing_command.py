"""``latentman pair``, and what ``latentman serve`` tells and forgets of paired clients."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..shared import key_entries
from ..shared.curve_keys import KeysError


def pair_with(args: argparse.Namespace) -> int:
    """Pair with a backend on another machine."""
    # imported late: pyzmq comes with them, and other commands work without it
    from ..shared.invitation import PairingError
    from ..shared.pairing import pair

    try:
        endpoint = pair(args.text)
    except (PairingError, KeysError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Paired; the backend's address is {endpoint.removeprefix('tcp://')}")
    return 0


def list_clients() -> int:
    """Print the clients that may use this user's backends, beside this user's own."""
    entries, problems = key_entries.list_entries(key_entries.CLIENTS)
    for entry in entries:
        print(f"{entry.fingerprint}  {entry.added}  {entry.name}")
    if not entries:
        print("No other client is paired; latentman serve --pair makes a text for one.")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2 if problems else 0


def forget_client(which: str) -> int:
    """Forget the clients of a name or a fingerprint."""
    try:
        removed = key_entries.remove_entries(key_entries.CLIENTS, which)
    except KeysError as error:
        print(error, file=sys.stderr)
        return 2
    if not removed:
        print(f"No client '{which}' is paired; latentman serve --list-clients shows those that are.", file=sys.stderr)
        return 2
    for entry in removed:
        print(f"Forgotten: {entry.fingerprint}  {entry.name}")
    return 0


def add_commands(commands: Any) -> None:
    """Add ``pair``."""
    command = commands.add_parser(
        "pair",
        help="use a backend on another machine",
        examples=(("latentman pair 'latentman:...'", "the line that was printed there"),),
    )
    command.add_argument("text", help="the line that latentman serve --pair prints there, in quotes")
    command.set_defaults(run=pair_with)


def add_serve_options(command: argparse.ArgumentParser) -> None:
    """Add the options of ``serve`` that are about clients on other machines."""
    command.add_argument("--pair", action="store_true", help="print a text that lets a client on another machine in, once")
    command.add_argument("--list-clients", action="store_true", help="list the clients that are paired, and end")
    command.add_argument("--forget-client", metavar="WHICH", help="forget a paired client by name or fingerprint, and end")
