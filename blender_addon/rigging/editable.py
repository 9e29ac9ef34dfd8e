"""What must be true of an armature before it is keyed or its bones are changed; what is not is one sentence for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy
import numpy as np

from ...shared.motion import MotionError
from ..render_gate import override_context
from ..typed_access import get_armature, get_view_layer

#: largest ratio of an armature's scales along its axes that still counts as even
EVEN = 1.02


def check_editable(armature: bpy.types.Object) -> None:
    """Raise ``MotionError`` for an armature whose animation and properties cannot be changed."""
    if armature.library is not None and armature.override_library is None:
        raise MotionError(
            f"{armature.name} is linked from another file; make a library override of it first (Object > Library Override > Make)."
        )
    if armature.override_library is not None and armature.override_library.is_system_override:
        raise MotionError(
            f"{armature.name} is a library override that is not editable; make it so first (Object > Library Override > Make)."
        )


def check_bones_editable(armature: bpy.types.Object) -> None:
    """Raise ``MotionError`` for an armature that cannot be given other bones."""
    check_editable(armature)
    data = get_armature(armature)
    if data.library is not None or data.override_library is not None:
        raise MotionError(
            f"The bones of {armature.name} are linked from another file; make its armature data local first "
            "(Object > Relations > Make Local > Selected Objects and Data)."
        )
    users = [other.name for other in bpy.data.objects if other.data == data]
    if len(users) > 1:
        raise MotionError(
            f"{' and '.join(users[:3])} share the armature data {data.name}, so all of them would get other bones; make it "
            "single-user first (Object > Relations > Make Single User > Object & Data)."
        )


def check_body_space(armature: bpy.types.Object) -> None:
    """Raise ``MotionError`` for an armature that is scaled unevenly or mirrored: a body in it would be distorted."""
    linear = np.array(armature.matrix_world)[:3, :3]
    sizes = np.linalg.svd(linear, compute_uv=False)
    if sizes[-1] < 1e-9 or sizes[0] / sizes[-1] > EVEN:
        raise MotionError(
            f"{armature.name} is scaled unevenly, by itself or by a parent; apply its scale first (Object > Apply > Scale)."
        )
    if np.linalg.det(linear) < 0:
        raise MotionError(
            f"{armature.name} is mirrored by a negative scale, its own or a parent's; apply its scale first "
            "(Object > Apply > Scale)."
        )


def check_not_edited(armature: bpy.types.Object) -> None:
    """Raise ``MotionError`` while an armature's bones are being edited: what is changed there is not known outside yet."""
    if get_armature(armature).is_editmode:
        raise MotionError(f"The bones of {armature.name} are being edited; leave Edit Mode first (Tab).")


@contextmanager
def edit_bones(context: bpy.types.Context, armature: bpy.types.Object) -> Iterator[bpy.types.ArmatureEditBones]:
    """The armature's edit bones; afterwards the mode and the active object are what they were.

    Raises ``MotionError`` for an armature whose bones cannot be edited.
    """
    check_bones_editable(armature)
    check_not_edited(armature)
    layer = get_view_layer(context)
    if layer.objects.get(armature.name) != armature or not armature.visible_get(view_layer=layer):
        raise MotionError(
            f"{armature.name} is hidden or not in this scene's view layer, so its bones cannot be edited; show it there first."
        )
    active, mode = layer.objects.active, armature.mode
    if active is not None and active != armature and active.mode != "OBJECT":
        raise MotionError(f"{active.name} is in another mode than Object Mode; leave it first (Tab).")
    layer.objects.active = armature
    with override_context(
        context, active_object=armature, object=armature, selected_objects=[armature], selected_editable_objects=[armature]
    ):
        bpy.ops.object.mode_set(mode="EDIT")
        try:
            yield get_armature(armature).edit_bones
        finally:
            bpy.ops.object.mode_set(mode="OBJECT")
            if mode == "POSE":
                bpy.ops.object.mode_set(mode="POSE")
    layer.objects.active = active
