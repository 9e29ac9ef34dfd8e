"""The box *Character*: the mannequin, SMPL files, and a camera that sees the character."""

from __future__ import annotations

import bpy
from bpy.props import BoolProperty, IntProperty, StringProperty
from mathutils import Vector

from ...shared import shot
from .. import preferences, properties
from ..character.body_model import MANNEQUIN, BodyModelError, load
from ..passes.own_data import make_scene, own_data
from ..passes.render_set import get_bodies
from ..rigging.characters import add_character
from ..typed_access import OperatorResult, get_scene, get_view_layer
from .dialogs import ImportDialog
from .polls import NeedsCharacter, NeedsObjectMode


class AddMannequin(NeedsObjectMode, bpy.types.Operator):
    bl_idname = "latentman.add_mannequin"
    bl_label = "Add Mannequin"
    bl_description = "Add the built-in body: an armature and a skinned mesh with UVs and shape keys"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Add the body and pick it as the character."""
        properties.get_settings(context).character = add_character(context, load(MANNEQUIN), "Mannequin")
        return {"FINISHED"}


class LoadSmpl(NeedsObjectMode, bpy.types.Operator, ImportDialog):
    bl_idname = "latentman.load_smpl"
    bl_label = "Load SMPL..."
    bl_description = "Load an SMPL body model file (.pkl or .npz) as the character"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.pkl;*.npz", options={"HIDDEN"})
    shapes: IntProperty(
        name="Shapes", default=10, min=0, max=400, description="How many of the model's shape components become sliders"
    )
    correctives: BoolProperty(
        name="Pose Correctives", description="Add the model's corrective shapes, driven by the bones; exact, but playback is slower"
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Open the file dialog, with the preferences' model chosen."""
        chosen = preferences.get_preferences(context)
        if chosen and chosen.smpl:
            self.filepath = bpy.path.abspath(chosen.smpl)
        return super().invoke(context, event)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Add the body and pick it as the character."""
        try:
            model = load(self.filepath)
        except BodyModelError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        properties.get_settings(context).character = add_character(context, model, model.name, self.shapes, self.correctives)
        return {"FINISHED"}


class AddCamera(NeedsCharacter, bpy.types.Operator):
    bl_idname = "latentman.add_camera"
    bl_label = "Add Camera"
    bl_description = "Add a camera that sees the character over the whole frame range"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Frame the character over the whole range, from its front."""
        scene = get_scene(context)
        try:
            bodies = get_bodies(properties.get_settings(context).character)
        except shot.ShotError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        frame_character(context, scene, bodies)
        return {"FINISHED"}


def frame_character(context: bpy.types.Context, scene: bpy.types.Scene, bodies: list[bpy.types.Object]) -> bpy.types.Object:
    """Add a camera that sees ``bodies`` during the whole range, a little from the side, and make it the scene's."""
    points: list[Vector] = []
    # frames of another scene with the same objects are evaluated without moving the user's
    with own_data() as data:
        other = make_scene(data, "Framing")
        for body in bodies:
            other.collection.objects.link(body)
        for frame in range(scene.frame_start, scene.frame_end + 1, max(1, (scene.frame_end - scene.frame_start) // 12)):
            other.frame_set(frame)
            # not updated by hand: that would make it the one that moves the user's objects
            graph = other.view_layers[0].depsgraph
            for body in bodies:
                evaluated = body.evaluated_get(graph)
                points += [evaluated.matrix_world @ Vector(corner) for corner in evaluated.bound_box]
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.rotation_euler = (1.50, 0.0, 0.45)
    get_view_layer(context).update()
    flat = [component for point in points for component in point.to_tuple()]
    location, _ = camera.camera_fit_coords(context.evaluated_depsgraph_get(), flat)
    camera.location = location + 0.06 * (location - sum(points, Vector()) / len(points))
    return camera


CLASSES = (AddMannequin, LoadSmpl, AddCamera)
