"""SMPL's pose correctives as shape keys whose values are driven by the bones."""

from __future__ import annotations

import bpy
import numpy as np

from .body_model import BodyModel
from .joints import joint_names

#: entries of a rotation matrix less the identity, row by row, of a unit quaternion
_ENTRIES = (
    "-2*(y*y+z*z)",
    "2*(x*y-w*z)",
    "2*(x*z+w*y)",
    "2*(x*y+w*z)",
    "-2*(x*x+z*z)",
    "2*(y*z-w*x)",
    "2*(x*z-w*y)",
    "2*(y*z+w*x)",
    "-2*(x*x+y*y)",
)
_USED = tuple(tuple(letter for letter in "wxyz" if letter in entry) for entry in _ENTRIES)


def add_correctives(armature: bpy.types.Object, body: bpy.types.Object, model: BodyModel) -> int:
    """Add ``Pose000..`` keys for every joint but the root, each driven by one entry of its bone's rotation matrix.

    Directions that move no vertex are left out. Returns the number of keys.
    """
    names = joint_names(len(model.parents))
    made = 0
    for joint in range(1, len(model.parents)):
        for entry, (expression, letters) in enumerate(zip(_ENTRIES, _USED, strict=True)):
            column = 9 * (joint - 1) + entry
            direction = model.posedirs[..., column]
            if np.abs(direction).max() < 1e-9:
                continue
            key = body.shape_key_add(name=f"Pose{column:03d}", from_mix=False)
            key.slider_min, key.slider_max = -2.0, 2.0
            key.data.foreach_set("co", (model.v_template + direction).astype(np.float32).ravel())
            driver = key.driver_add("value").driver
            driver.type, driver.expression = "SCRIPTED", expression
            for letter in letters:
                variable = driver.variables.new()
                variable.name, variable.type = letter, "TRANSFORMS"
                target = variable.targets[0]
                target.id, target.bone_target = armature, names[joint]
                target.transform_type = f"ROT_{letter.upper()}"
                target.transform_space, target.rotation_mode = "LOCAL_SPACE", "QUATERNION"
            made += 1
    return made
