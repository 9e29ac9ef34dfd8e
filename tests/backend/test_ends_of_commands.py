"""Whatever ends a command of ``latentman``: with ``--json`` an event is the last line, and the exit code says what it was."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal

import msgspec
import pytest

from latentman.backend import __main__ as program
from latentman.shared.events import Event
from latentman.shared.shot import ShotError


def list_commands(parser, words=()):
    """(words, parser) of every command that writes JSON for programs."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for name, found in action.choices.items():
            yield from list_commands(found, (*words, name))
    if any("--json" in action.option_strings and action.nargs == 0 for action in parser._actions):
        yield words, parser


COMMANDS = [" ".join(words) for words, _ in list_commands(program.make_parser())]
KINDS = tuple(kind for kind in Event.__subclasses__())


def end_by_signal(number):
    os.kill(os.getpid(), number)
    # the handler runs before this is over
    signal.pause()


def end_by(error):
    raise error


ENDS = {
    "the disk": (lambda: end_by(OSError(errno.ENOSPC, "No space left", "/x/y")), 1, "failed", "disk"),
    "the memory": (lambda: end_by(MemoryError()), 1, "failed", "memory"),
    "a fault": (lambda: end_by(RuntimeError("on purpose")), 1, "failed", "internal"),
    "the input": (lambda: end_by(ShotError("frames", "There are none.")), 2, "failed", "frames"),
    "the work": (lambda: end_by(ShotError("passes", "They are gone.")), 1, "failed", "passes"),
    "Ctrl-C": (lambda: end_by_signal(signal.SIGINT), 130, "interrupted", "interrupted"),
    "SIGTERM": (lambda: end_by_signal(signal.SIGTERM), 143, "interrupted", "interrupted"),
}


def test_there_are_commands_for_programs():
    assert {"generate", "look", "motion", "models get", "shots pack", "doctor"} <= set(COMMANDS)


@pytest.mark.parametrize("end", ENDS)
def test_an_end_is_an_event(end, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_LOGS", str(tmp_path))
    work, code, event, reason = ENDS[end]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for command in COMMANDS:
        args = argparse.Namespace(command=command.split()[0], json=True, run=lambda args: work())
        assert program._run(args) == code, command
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (last["event"], last["code"]) == (event, reason) and last["message"].count("\n") == 0 < len(last["message"])
        msgspec.convert(last, next(kind for kind in KINDS if kind.__struct_config__.tag == event))
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        # people read the same sentence
        args.json = False
        assert program._run(args) == code
        said = capsys.readouterr()
        assert end == "a fault" or last["message"] in said.out + said.err


def test_a_file_that_cannot_be_read_is_an_event(capsys):
    # Linux lets nobody read it from its beginning
    assert program.main(["shots", "verify", "/proc/self/mem", "--json"]) in (1, 2)
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "failed" and "/proc/self/mem" in last["message"]
