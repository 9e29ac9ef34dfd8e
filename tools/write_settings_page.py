"""Writes ``docs/settings.md`` from the settings as they are declared: ``python -m tools.write_settings_page``; ``--check`` only
compares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from latentman.blender_addon.motion.keying import Keying
from latentman.shared.arguments import get_option, part_option
from latentman.shared.load_options import LoadOptions
from latentman.shared.motion_request import MotionRequest
from latentman.shared.scene_options import SceneOptions
from latentman.shared.schedule import Schedule
from latentman.shared.settings import Declared, list_parts, list_settings, summarise
from latentman.shared.shot import METHODS, Method, Sampling, ShotRequest, Text

from .written_page import write_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
COLUMNS = ("setting", "argument", "in the panel", "range", "default", "unit", "what it does")
NONE = "–"
INTRODUCTION = """# Settings

Every setting with its argument on the command line, its label in the panel, its range and its default. A setting is declared once,
as a field of a struct; checks, arguments, panel and this page come from there, and `python -m tools.write_settings_page` writes the
page again ([how to add a setting](development/add_a_setting.md)). A switch `--[no-]x` is on with `--x` and off with
`--no-x`.
"""


@dataclass(frozen=True)
class Group:
    """One table with a sentence or two above it.

    ``option`` gives a setting's argument; ``only`` are the settings to show, all when empty; ``not_in_panel`` those that the panel
    does not have, or has in another form.
    """

    title: str
    introduction: str
    struct: type[msgspec.Struct]
    option: Callable[[str], str] = get_option
    only: Collection[str] = ()
    not_in_panel: Collection[str] = ()

    def settings(self) -> list[Declared]:
        """The settings in the table."""
        return [declared for declared in list_settings(self.struct) if not self.only or declared.name in self.only]


SHOT = "For `latentman generate` and Blender's `generate`; in the box *Look*."


def _make_technique_group(name: str, part: type[msgspec.Struct]) -> Group:
    switch = (
        f"`{get_option(name)}` switches it on, as each argument below does, and `{get_option(name).replace('--', '--no-', 1)}` off."
    )
    return Group(f"Technique: {name.replace('_', ' ')}", f"{summarise(part)}. {switch}", part, partial(part_option, name))


def list_groups() -> list[Group]:
    """Every table of the page, in its order."""
    return [
        Group("What is said", SHOT, Text),
        Group(
            "What changes from frame to frame",
            "For `latentman generate`, `latentman look` and Blender's commands of these names, beside `--prompt-at FRAME TEXT` and "
            "`--control-at FRAME STRENGTH`; in the box *Look* under *Prompts by Frame*.",
            Schedule,
        ),
        Group("How it is sampled", SHOT, Sampling),
        Group("Preset and size", SHOT + " Saved passes bring their own size.", ShotRequest, only=("preset", "width", "height")),
        Group(
            "What of the scene is shown",
            "For Blender's `generate` and, but for `character_only`, `passes`; in the boxes *Look* and *Generate*, which has the "
            "frames as a range.",
            SceneOptions,
            not_in_panel=("frames",),
        ),
        Group(
            "Technique: what all frames have in common",
            "As the preset has it, unless it is set: by an argument, or in the panel under *Advanced*, *Techniques*. The "
            "defaults here and in the tables of the techniques are those of a technique that the preset does without.",
            Method,
        ),
        *(_make_technique_group(name, part) for name, part in list_parts(Method).items()),
        Group(
            "Motion from words",
            "For `latentman motion` and Blender's `motion`; in the box *Motion*.",
            MotionRequest,
            _get_motion_option,
        ),
        Group(
            "How motions become keyframes",
            "For Blender's `motion`, where the file's own settings hold unless others are given; in the box *Motion*, *Keyframes* "
            "and *Edit and Feet*.",
            Keying,
        ),
        Group(
            "How models are run",
            "For `latentman serve` and `latentman generate`.",
            LoadOptions,
            not_in_panel=[declared.name for declared in list_settings(LoadOptions)],
        ),
    ]


def _get_motion_option(name: str) -> str:
    return "TEXT" if name == "text" else get_option(name)


def make_row(group: Group, declared: Declared) -> list[str]:
    """One setting's cells, as in ``COLUMNS``."""
    setting, option = declared.setting, group.option(declared.name)
    if declared.kind is bool:
        option = option.replace("--", "--[no-]", 1)
    what = [setting.help, *(f"{choice.label}: {choice.help}" for choice in setting.offered if choice.help)]
    return [
        declared.name,
        f"`{option}`",
        NONE if declared.name in group.not_in_panel else setting.label,
        "on, off" if declared.kind is bool else declared.range_text(unit=False) or "text",
        declared.default_text() or "must be given",
        setting.unit or NONE,
        "<br>".join(what),
    ]


def format_table(head: Collection[str], rows: Collection[Collection[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _describe_composition(method: Method) -> str:
    """What a preset composes, with what differs from a technique's defaults."""
    out = [
        declared.words if value is True else f"{declared.words} {declared.value_text(value)}"
        for declared in list_settings(Method)
        if (value := getattr(method, declared.name))
    ]
    for name, struct in list_parts(Method).items():
        part = getattr(method, name)
        if part is not None:
            own = [(declared, getattr(part, declared.name)) for declared in list_settings(struct)]
            changed = [f"{one.words} {one.value_text(value)}" for one, value in own if value != one.default]
            out.append(name.replace("_", " ") + (f" ({', '.join(changed)})" if changed else ""))
    return ", ".join(out)


def format_page() -> str:
    """The whole page."""
    preset = next(declared for declared in list_settings(ShotRequest) if declared.name == "preset")
    parts = [INTRODUCTION]
    for group in list_groups():
        rows = [make_row(group, declared) for declared in group.settings()]
        parts.append(f"## {group.title}\n\n{group.introduction}\n\n{format_table(COLUMNS, rows)}\n")
    rows = [
        [choice.value, choice.label, _describe_composition(METHODS[choice.value]), choice.help] for choice in preset.setting.offered
    ]
    parts.append(
        "## Presets\n\nA preset is a choice of techniques; in brackets is what differs from a technique's own defaults.\n\n"
        + format_table(("preset", "in the panel", "composed of", "what it is for"), rows)
        + "\n"
    )
    return "\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Write the page, or compare it; returns 1 when it is stale."""
    return write_page("write_settings_page", __doc__, PAGE, format_page, argv)


if __name__ == "__main__":
    sys.exit(main())
