"""A copy of an armature in a scene of its own, on which motions are read, keyed and measured.

It is posed by Blender itself, whatever the rig's constraints, drivers, inheritance flags and rotation modes are, but neither
the scene, the pose nor the animation of the user's own armature change, and nothing but the armature is evaluated. It works for
armatures that are hidden, linked, or in another scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import bpy
import numpy as np

from ..compat import assign_action
from ..typed_access import evaluate, get_armature, get_pose
from .scratch_scene import evaluate_at, make_scratch_scene

#: the armature's transform channels and what they are where nothing is keyed
TRANSFORMS = ("location", "rotation_euler", "rotation_quaternion", "rotation_axis_angle", "scale")


class StandIn:
    """A temporary copy of an armature; a context manager that removes it."""

    def __init__(self, armature: bpy.types.Object) -> None:
        """Copy an armature, but none of the Actions and NLA tracks that it plays."""
        self.original = armature
        with ExitStack() as stack:
            self._scene = stack.enter_context(make_scratch_scene("LatentMan"))
            self._data = get_armature(armature).copy()
            stack.callback(bpy.data.armatures.remove, self._data)
            self.armature = armature.copy()
            stack.callback(bpy.data.objects.remove, self.armature)
            self.armature.data = self._data
            self._data.pose_position = "POSE"
            self.armature.hide_viewport = False
            self._scene.collection.objects.link(self.armature)
            self._follow_itself()
            self._play_nothing()
            self._removal = stack.pop_all()

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._removal.close()

    def _play_nothing(self) -> None:
        animation = self.armature.animation_data or self.armature.animation_data_create()
        if animation.use_tweak_mode:
            animation.use_tweak_mode = False
        animation.action = None
        for track in list(animation.nla_tracks):
            animation.nla_tracks.remove(track)
        animation.use_nla = True
        animation.action_blend_type, animation.action_influence = "REPLACE", 1.0

    @property
    def bones(self) -> Any:
        """The copy's pose bones."""
        return get_pose(self.armature).bones

    def _follow_itself(self) -> None:
        """Make whatever points at the original (constraints, drivers) point at the copy."""
        swap: dict[Any, Any] = {self.original: self.armature, self.original.data: self._data}
        holders: list[Any] = [self.armature, *get_pose(self.armature).bones]
        for constraint in [constraint for holder in holders for constraint in holder.constraints]:
            for name in ("target", "pole_target"):
                if getattr(constraint, name, None) == self.original:
                    setattr(constraint, name, self.armature)
            for target in getattr(constraint, "targets", ()):
                if target.target == self.original:
                    target.target = self.armature
        for owner in (self.armature, self._data):
            animated: Any = owner
            for curve in animated.animation_data.drivers if animated.animation_data else ():
                for target in [target for variable in curve.driver.variables for target in variable.targets]:
                    if target.id in swap:
                        target.id = swap[target.id]

    def use(self, action: bpy.types.Action | None, slot: Any = None) -> None:
        """Play an Action, and nothing else."""
        assign_action(self.armature, action, slot)

    def evaluate(self, frame: float) -> bpy.types.Object:
        """The evaluated armature at a frame of its Action."""
        return self.armature.evaluated_get(evaluate_at(self._scene, frame))

    def dress(self, mesh: bpy.types.Object) -> None:
        """Have a copy of a mesh that the original deforms follow the stand-in, in its scene; the caller removes it first."""
        if mesh.parent == self.original:
            inverse = mesh.matrix_parent_inverse.copy()
            mesh.parent = self.armature
            mesh.matrix_parent_inverse = inverse
        for modifier in mesh.modifiers:
            if isinstance(modifier, bpy.types.ArmatureModifier) and modifier.object == self.original:
                modifier.object = self.armature
        mesh.hide_viewport = False
        self._scene.collection.objects.link(mesh)

    def find_evaluated(self, objects: list[bpy.types.Object]) -> list[bpy.types.Object]:
        """Objects of the stand-in's scene as ``evaluate`` has left them."""
        graph = evaluate(self._scene.view_layers[0])
        return [found.evaluated_get(graph) for found in objects]

    def iter_poses(self, frames: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
        """For each frame the object's own 4 x 4 matrix, without parent and constraints, and its evaluated pose bones."""
        for frame in frames:
            found = self.evaluate(float(frame))
            yield np.array(found.matrix_basis), get_pose(found).bones
