"""Character: the mannequin, an SMPL file, a camera that sees it."""

from __future__ import annotations

import bpy
from bpy.props import BoolProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper
from mathutils import Vector

from ...shared import shot
from .. import preferences, properties
from ..character.body_model import MANNEQUIN, BodyModelError, load
from ..passes.subjects import bodies_of
from ..rigging.characters import add_character


def _object_mode(cls, context) -> bool:
    cls.poll_message_set("Leave the current mode first (Tab)")
    return context.mode in ("OBJECT", "POSE")


class AddMannequin(bpy.types.Operator):
    """Add the built-in body: an armature and a skinned mesh with UV and shape keys"""

    bl_idname = "latentman.add_mannequin"
    bl_label = "Add Mannequin"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Not while editing something."""
        return _object_mode(cls, context)

    def execute(self, context):
        """Build it and make it the character."""
        properties.of(context).character = add_character(context, load(MANNEQUIN), "Mannequin")
        return {"FINISHED"}


class LoadSmpl(bpy.types.Operator, ImportHelper):
    """Load an SMPL body model file (.pkl or .npz) as the character"""

    bl_idname = "latentman.load_smpl"
    bl_label = "Load SMPL..."
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.pkl;*.npz", options={"HIDDEN"})
    shapes: IntProperty(name="Shapes", default=10, min=0, max=400, description="How many shape directions become sliders")
    correctives: BoolProperty(
        name="Pose Correctives", description="Add the model's corrective shapes, driven by the bones; exact, but slower to play"
    )

    @classmethod
    def poll(cls, context):
        """Not while editing something."""
        return _object_mode(cls, context)

    def invoke(self, context, event):
        """Open the file dialog at the model of the preferences."""
        chosen = preferences.of(context)
        if chosen and chosen.smpl:
            self.filepath = bpy.path.abspath(chosen.smpl)
        return super().invoke(context, event)

    def execute(self, context):
        """Build the body and make it the character."""
        try:
            model = load(self.filepath)
        except BodyModelError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        properties.of(context).character = add_character(context, model, model.name, self.shapes, self.correctives)
        return {"FINISHED"}


class AddCamera(bpy.types.Operator):
    """Add a camera that sees the character over the whole frame range"""

    bl_idname = "latentman.add_camera"
    bl_label = "Add Camera"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Needs a character to look at."""
        cls.poll_message_set("Pick a character first")
        return properties.of(context).character is not None

    def execute(self, context):
        """Frame everything the character does, from its front."""
        scene = context.scene
        try:
            bodies = bodies_of(properties.of(context).character)
        except shot.ShotError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        frame_character(context, scene, bodies)
        return {"FINISHED"}


def frame_character(context: bpy.types.Context, scene: bpy.types.Scene, bodies: list[bpy.types.Object]) -> bpy.types.Object:
    """A new active camera from which ``bodies`` are seen during the whole range, a little from the side."""
    points, current = [], scene.frame_current
    for frame in range(scene.frame_start, scene.frame_end + 1, max(1, (scene.frame_end - scene.frame_start) // 12)):
        scene.frame_set(frame)
        graph = context.evaluated_depsgraph_get()
        for body in bodies:
            seen = body.evaluated_get(graph)
            points += [seen.matrix_world @ Vector(corner) for corner in seen.bound_box]
    scene.frame_set(current)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.rotation_euler = (1.50, 0.0, 0.45)
    context.view_layer.update()
    flat = [component for point in points for component in point]
    location, _ = camera.camera_fit_coords(context.evaluated_depsgraph_get(), flat)
    camera.location = location + 0.06 * (location - sum(points, Vector()) / len(points))
    return camera


CLASSES = (AddMannequin, LoadSmpl, AddCamera)
