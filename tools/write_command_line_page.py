"""Writes the tables of ``docs/command_line.md`` from the code: ``python -m tools.write_command_line_page``; ``--check`` only
compares."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import get_args

import msgspec

from latentman.shared.environment_variables import VARIABLES
from latentman.shared.events import AnyEvent, make_schema

from .write_settings_page import format_table
from .written_page import write_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "command_line.md"


def make_events_table() -> str:
    """Every event with its fields; those in brackets may be absent."""
    rows = []
    for kind in get_args(AnyEvent):
        fields = [
            f"`{field.encode_name}`" if field.required else f"[`{field.encode_name}`]" for field in msgspec.structs.fields(kind)
        ]
        words = " ".join((kind.__doc__ or "").replace("``", "`").split())
        rows.append((f"`{kind.__struct_config__.tag}`", " ".join(fields) or "–", words))
    return format_table(("event", "fields", "what it says"), rows)


def make_schema_block() -> str:
    """The JSON schema as a block of code."""
    return f"```json\n{json.dumps(make_schema(), indent=1)}\n```"


def make_variables_table() -> str:
    """Every environment variable that is read."""
    rows = [(f"`{one.name}`", one.what, one.default) for one in VARIABLES]
    return format_table(("variable", "what it names", "without it"), rows)


def format_page(text: str) -> str:
    """The page with its parts made anew."""
    for name, make in (("events", make_events_table), ("schema", make_schema_block), ("variables", make_variables_table)):
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
        assert len(marks.findall(text)) == 1, name
        made = make()
        text = marks.sub(lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text)  # type: ignore[misc]
    return text


def main(argv: list[str] | None = None) -> int:
    """Write the page, or compare it; returns 1 when it is stale."""
    return write_page("write_command_line_page", __doc__, PAGE, lambda: format_page(PAGE.read_text(encoding="utf-8")), argv)


if __name__ == "__main__":
    sys.exit(main())
