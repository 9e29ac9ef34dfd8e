"""The command line's arguments for what changes from frame to frame: ``--prompt-at``, ``--prompt-blend`` and ``--control-at``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .arguments import add_settings, read_given_settings
from .schedule import Schedule, interpolate_control, make_schedule
from .settings import SettingError, list_settings
from .shot import ShotError, ShotRequest, with_schedule


class _CollectAtFrames(argparse.Action):
    """Collects (frame, value) of an argument that may be given several times."""

    def __init__(self, option_strings: Sequence[str], dest: str, **values: object) -> None:
        self._kind = values.pop("kind")
        super().__init__(option_strings, dest, nargs=2, default=argparse.SUPPRESS, **values)  # type: ignore[arg-type]

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option_string: str | None = None
    ) -> None:
        assert isinstance(values, list)
        frame, text = values
        try:
            found = (int(frame), float(text) if self._kind is float else text.strip())
        except ValueError:
            what = "a frame's number and a strength" if self._kind is float else "a frame's number and a prompt"
            parser.error(f"argument {option_string}: '{frame} {text}' is not {what}")
        setattr(namespace, self.dest, [*getattr(namespace, self.dest, []), found])


def add_schedule_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that become a ``Schedule``."""
    group = parser.add_argument_group("from frame to frame", "what changes within the shot")
    group.add_argument(
        "--prompt-at",
        action=_CollectAtFrames,
        kind=str,
        metavar=("FRAME", "TEXT"),
        help="a prompt that holds from a frame on; before the first of them --prompt holds; may be given several times",
    )
    add_settings(group, Schedule)
    group.add_argument(
        "--control-at",
        action=_CollectAtFrames,
        kind=float,
        metavar=("FRAME", "STRENGTH"),
        help="how strongly the depth decides where the body is at a frame, instead of --control-scale; evenly between two of "
        "them; may be given several times",
    )


def has_schedule_arguments(args: argparse.Namespace) -> bool:
    """Whether any of the arguments of ``add_schedule_arguments`` was given."""
    return any(name in vars(args) for name in ("prompt_at", "control_at", *(one.name for one in list_settings(Schedule))))


def add_given_schedule(request: ShotRequest, args: argparse.Namespace) -> ShotRequest:
    """The request with what the arguments say of its frames. Raises ``ShotError``."""
    given = vars(args)
    control = given.get("control_at", [])
    try:
        schedule = make_schedule(
            given.get("prompt_at", []),
            interpolate_control(control, request.frames),
            **read_given_settings(args, Schedule),
        )
    except SettingError as error:
        raise ShotError(error.name, str(error)) from error
    return with_schedule(request, schedule)
