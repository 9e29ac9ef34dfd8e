"""SMPL's pose correctives as shape keys whose values are driven by the bones."""

from __future__ import annotations

from typing import Literal

import bpy
import numpy as np

from ..character.body_model import BodyModel
from ..character.joints import get_joint_names

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
#: variable of an expression -> the channel of the bone that it reads
_CHANNELS: dict[str, Literal["ROT_W", "ROT_X", "ROT_Y", "ROT_Z"]] = {"w": "ROT_W", "x": "ROT_X", "y": "ROT_Y", "z": "ROT_Z"}


def add_correctives(armature: bpy.types.Object, body: bpy.types.Object, model: BodyModel) -> int:
    """Add ``Pose000..`` shape keys for every joint but the root, each driven by one entry of its bone's rotation matrix.

    Directions that move no vertex are left out. Returns the number of keys added.
    """
    names = get_joint_names(len(model.parents))
    count = 0
    for joint in range(1, len(model.parents)):
        for entry, expression in enumerate(_ENTRIES):
            column = 9 * (joint - 1) + entry
            direction = model.posedirs[..., column]
            if np.abs(direction).max() < 1e-9:
                continue
            key = body.shape_key_add(name=f"Pose{column:03d}", from_mix=False)
            key.slider_min, key.slider_max = -2.0, 2.0
            key.data.foreach_set("co", (model.v_template + direction).astype(np.float32).ravel())
            curve = key.driver_add("value")
            assert isinstance(curve, bpy.types.FCurve) and curve.driver
            driver = curve.driver
            driver.type, driver.expression = "SCRIPTED", expression
            for name, channel in _CHANNELS.items():
                if name not in expression:
                    continue
                variable = driver.variables.new()
                variable.name, variable.type = name, "TRANSFORMS"
                target = variable.targets[0]
                target.id, target.bone_target = armature, names[joint]
                target.transform_type = channel
                target.transform_space, target.rotation_mode = "LOCAL_SPACE", "QUATERNION"
            count += 1
    return count
