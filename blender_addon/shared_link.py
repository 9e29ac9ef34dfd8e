"""The way to ``shared``: beside this package inside the extension, on the path when run from the project's folder."""

from __future__ import annotations

if __package__ == "blender_addon":
    from shared import compositing, console, exr, keys, messages, motion_request, passes_folder, shot, version
    from shared.depth import normalise_depth
    from shared.motion import MAX_FPS, MAX_FRAMES, Motion, MotionError, checked, slerp
    from shared.skeleton import (
        HUMANML_FPS,
        HUMANML_JOINT_COUNT,
        REST_PELVIS_HEIGHT,
        SMPL_JOINTS,
        SMPL_PARENTS,
        SMPL_REST_JOINTS,
    )
else:
    from ..shared import compositing, console, exr, keys, messages, motion_request, passes_folder, shot, version
    from ..shared.depth import normalise_depth
    from ..shared.motion import MAX_FPS, MAX_FRAMES, Motion, MotionError, checked, slerp
    from ..shared.skeleton import (
        HUMANML_FPS,
        HUMANML_JOINT_COUNT,
        REST_PELVIS_HEIGHT,
        SMPL_JOINTS,
        SMPL_PARENTS,
        SMPL_REST_JOINTS,
    )

__all__ = [
    "HUMANML_FPS", "HUMANML_JOINT_COUNT", "MAX_FPS", "MAX_FRAMES", "REST_PELVIS_HEIGHT", "SMPL_JOINTS", "SMPL_PARENTS",
    "SMPL_REST_JOINTS", "Motion", "MotionError", "checked", "compositing", "console", "exr", "keys", "messages", "motion_request",
    "normalise_depth", "passes_folder", "shot", "slerp", "version",
]
