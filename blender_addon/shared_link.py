"""The way to ``shared``: beside this package inside the extension, on the path when run from the project's folder."""

from __future__ import annotations

if __package__ == "blender_addon":
    from shared import console, keys, messages, passes_folder, shot, version
    from shared.depth import normalise_depth
    from shared.motion import Motion, MotionError, checked
    from shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, SMPL_JOINTS, SMPL_PARENTS
else:
    from ..shared import console, keys, messages, passes_folder, shot, version
    from ..shared.depth import normalise_depth
    from ..shared.motion import Motion, MotionError, checked
    from ..shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, SMPL_JOINTS, SMPL_PARENTS

__all__ = [
    "HUMANML_FPS", "HUMANML_JOINT_COUNT", "SMPL_JOINTS", "SMPL_PARENTS", "Motion", "MotionError", "checked", "console",
    "keys", "messages", "normalise_depth", "passes_folder", "shot", "version",
]
