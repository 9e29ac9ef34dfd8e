"""Chooses what renders a shot's passes: this Blender, a second one beside a window, or several."""

from __future__ import annotations

from collections.abc import Callable

import bpy

from ...shared import shot
from ...shared.look_file import LookFile
from ...shared.picture_size import Crop
from ..passes.pooled_render import PooledOverview, PooledPassRender, make_pooled_render
from ..passes.remote_render import RemoteOverview, RemotePassRender, make_render
from ..passes.render import PassRender
from ..passes.render_worker import RenderOptions
from ..passes.staging import Staging
from ..passes.visibility import casts_plain_shadow
from ..typed_access import SceneContext, get_scene, get_view_layer
from ..units import get_metres_per_unit

#: what renders a shot's passes, and what renders their small copies
AnyRender = PassRender | RemotePassRender | PooledPassRender
AnyOverview = PassRender | RemoteOverview | PooledOverview


def find_depth_range(look: LookFile, scene: bpy.types.Scene) -> tuple[float, float]:
    """The near and far end of the depth range of a look's shot, in Blender's units."""
    known, header = look.description.scene, look.description.header
    if known is not None:
        return known.near, known.far
    metres = get_metres_per_unit(scene)
    return header.near / metres, header.far / metres


def make_shot_render(
    context: SceneContext,
    character: bpy.types.Object | None,
    request: shot.ShotRequest,
    *,
    scope: str,
    range_frames: tuple[int, ...],
    keep_scenes: bool,
    alpha: bool,
    quick: bool,
    crop: Crop | None,
    look: LookFile | None,
    elsewhere: bool,
    camera: bpy.types.Object | None,
    processes: int | None,
    on_warning: Callable[[str], None] | None,
    staging: Staging | None,
) -> AnyRender:
    """The render of a shot's passes; arguments are those of ``ShotTask``. Raises ``ShotError`` for scenes that cannot be
    rendered."""
    own = context, character, request.frames, request.width, request.height
    # a transparent frame has no ground, and a costume stands nowhere
    casts = not alpha and staging is None and shot.has_shadows(request)
    options: RenderOptions = {
        "scope": scope,
        "range_frames": range_frames,
        "frame": crop,
        "camera": camera,
        "shadow": casts and casts_plain_shadow(get_view_layer(context), scope),
        "plain_ground": True,
    }
    if look is not None:
        options["depth_range"] = find_depth_range(look, get_scene(context))
        options["ground"] = None if look.description.scene is None else look.description.scene.ground
    if elsewhere and look is None and staging is None:
        return make_render(*own, **options)
    if processes != 1 and staging is None:
        return make_pooled_render(*own, processes=processes, warn=on_warning or (lambda sentence: None), **options)
    # a preview keeps what it has measured: the shot itself is measured anew
    return PassRender(*own, keep_scenes=keep_scenes, quick=quick, keep_extents=quick, staging=staging, **options)
