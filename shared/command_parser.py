"""The parser of both command lines: help with examples, and what is wrong with arguments as JSON where that is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from .console import Console


class _Commands(argparse._SubParsersAction):
    """The commands of a parser; what the list says of one is the beginning of its own help, too."""

    def add_parser(self, name: str, **options: Any) -> Any:
        """As argparse's."""
        words = str(options.get("help", ""))
        options.setdefault("description", words[:1].upper() + words[1:])
        return super().add_parser(name, **options)


class CommandParser(argparse.ArgumentParser):
    """Arguments are written out in full, since a shorter name may mean another one in a later version.

    ``examples`` are whole command lines, each with what it does; the help ends with them.
    """

    #: whether programs read the output
    as_json = False

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **options: Any) -> None:
        """``options`` are those of ``argparse.ArgumentParser``."""
        #: (command line, what it does)
        self.examples = tuple(examples)
        if self.examples:
            lines = [f"  {line}\n      {words}" for line, words in self.examples]
            options["epilog"] = "examples:\n" + "\n".join(lines).replace("%", "%%")
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **options)
        self.register("action", "parsers", _Commands)

    def error(self, message: str) -> NoReturn:
        """Write the usage and the sentence, and exit with 2."""
        if CommandParser.as_json:
            Console(True).emit("failed", code="arguments", message=message)
        super().error(message)


def reads_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, told before it is parsed: what is wrong with it is an event, too."""
    return "--json" in arguments
