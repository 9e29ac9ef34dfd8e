"""A part of a shot on the command line: ``--look FILE`` brings the shot's settings, so that nothing has to be said again."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import msgspec

from .arguments import has_method_arguments, read_given_settings, read_method
from .look_file import LookFile, read_look_file
from .pasted_paths import expand_home
from .reference import take_reference
from .schedule_arguments import add_given_schedule, has_schedule_arguments
from .settings import with_settings
from .shot import JOB_NAME, ShotError, ShotRequest, check_request

#: what a look's file decides, and the request does not say
FROM_LOOK = ("width", "height", "fps")


def find_look_file(look: str) -> LookFile | None:
    """The look's file that ``--look`` names, None where it names a folder of frames, a job or nothing. Raises ``ShotError``."""
    if not look or re.fullmatch(JOB_NAME, look):
        return None
    try:
        path = expand_home(look)
        if path.is_dir():
            return None
    except (OSError, ValueError) as error:  # no file can have such a name
        raise ShotError("look", f"There is no look '{look[:40]}' ({error.args[-1]}); give a look's file.") from error
    return read_look_file(path)


def read_part_request(
    args: argparse.Namespace, look_file: LookFile, frames: tuple[int, ...], base: Path | None = None
) -> tuple[ShotRequest, bytes]:
    """The request for frames of a look's shot, and the file of its reference picture. What the arguments say besides must be what
    the look was made with; ``base`` is the folder that Blender's ``//`` stands for. Raises ``ShotError``."""
    own = look_file.description.request
    given = read_given_settings(args, ShotRequest, leave_out=FROM_LOOK)
    reference = look_file.reference
    request = with_settings(own, {name: value for name, value in given.items() if name != "reference"})
    if "reference" in given:
        request, reference = take_reference(with_settings(request, {"reference": given["reference"]}), base)
    if has_method_arguments(args) or "preset" in given:
        request = msgspec.structs.replace(request, method=read_method(args, request.preset))
    if has_schedule_arguments(args):
        # said of the whole shot, as it was then
        request = add_given_schedule(request, args)
    schedule = request.get_schedule()
    request = msgspec.structs.replace(
        request,
        frames=frames,
        look=look_file.name,
        manifest=None,
        schedule=msgspec.UNSET if schedule is None else schedule.select(look_file.list_rows(frames)),
    )
    check_request(request)
    if len(set(frames)) != len(frames):
        raise ShotError("frames", "A frame is asked for twice; name each once.")
    look_file.check_part(request)
    return request, reference
