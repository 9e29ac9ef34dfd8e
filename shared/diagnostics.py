"""One text that says what somebody else needs to know when something fails, for ``doctor --report`` and *Copy Diagnostics*."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import logs, machine
from .folders import config_folder, data_folder, jobs_folder, log_folder
from .redaction import Private, redact

LOG_LINES = 60
#: variables that change what the programs do
ENVIRONMENT = ("LATENTMAN_", "CUDA_VISIBLE_DEVICES", "PYTORCH_", "HF_HOME", "HF_HUB_OFFLINE", "DIFFUSERS_VERBOSITY")


@dataclass(frozen=True)
class Section:
    """A heading with rows of name and value, and lines as they are."""

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()


def show_rows(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows)


def compose(sections: Iterable[Section], private: Private | None) -> str:
    """The sections as one text; what is ``private`` is left out, unless that is None."""
    parts = []
    for section in sections:
        body = "\n".join(filter(None, [show_rows(section.rows), *section.lines]))
        parts.append(f"== {section.title} ==\n{body or '(nothing)'}")
    text = "\n\n".join(parts) + "\n"
    return redact(text, private) if private else text


def make_environment_section(environment: Mapping[str, str] = os.environ) -> Section:
    """The variables that change what the programs do."""
    return Section("Environment", tuple((name, environment[name]) for name in sorted(environment) if name.startswith(ENVIRONMENT)))


def list_folder_rows() -> tuple[tuple[str, str], ...]:
    """Where the user's files are, and whether they can be written."""
    folders = {"configuration": config_folder(), "data": data_folder(), "logs": log_folder()}
    return tuple(
        (name, f"{path}{'' if machine.can_be_written(path) else ' (cannot be written)'}") for name, path in folders.items()
    )


def list_machine_rows(jobs: Path | None = None) -> tuple[tuple[str, str], ...]:
    """Platform, memory and the disk that jobs go to."""
    jobs = jobs or jobs_folder()
    return (
        ("platform", machine.describe_platform()),
        ("memory", machine.describe_memory()),
        ("disk for jobs", f"{machine.describe_disk(jobs)} ({jobs})"),
    )


def make_log_sections(folder: Path | None = None, lines: int = LOG_LINES) -> list[Section]:
    """The last lines of the last runs of both programs."""
    sections: list[Section] = []
    for kind in logs.KINDS:
        found = logs.find_recent(kind, folder)
        tails = [Section(f"Log: {kind}, {path.name}", lines=(logs.read_tail(path, lines),)) for path in found]
        sections += tails or [Section(f"Log: {kind}")]
    return sections
