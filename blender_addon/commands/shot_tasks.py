"""The task of a shot that a command makes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import bpy

from ...shared import console, shot
from ...shared.costume_files import with_files
from ...shared.picture_size import Crop
from ..connection import Connection
from ..tasks.shot import ShotTask
from .asking import Asked
from .scene import read_scene_options


def make_shot_task(
    args: argparse.Namespace,
    out: console.Console,
    connection: Connection,
    asked: Asked,
    completed: tuple[shot.ShotRequest, Crop | None],
    costume: Mapping[str, bytes],
    folder: Path,
    *,
    keep_passes: Path | None,
    camera: bpy.types.Object | None = None,
) -> ShotTask:
    """The task of what is asked for, ``completed`` with the model's profile and in a ``costume``, whose frames go into ``folder``;
    ``camera`` takes the place of the scene's. Raises ``ShotError``."""
    request, crop = completed
    return ShotTask(
        bpy.context,
        asked.character,
        with_files(request, costume),
        connection.get_client(),
        folder,
        folder_per_job=False,
        keep_passes=keep_passes,
        scope=asked.subjects.upper(),
        keep_scenes=True,
        alpha=read_scene_options(args).character_only,
        crop=crop,
        reference=asked.reference,
        look=asked.look,
        camera=camera,
        processes=args.processes,
        on_warning=partial(out.warn, code="processes"),
        costume=costume,
        # why it failed is told by the command itself
        on_message=out.show,
    )
