"""*Dress* in the box *Look*: a character's costume from all sides, and costumes as files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty

from ...shared import console, shot
from ...shared.costume_files import SUFFIX, is_costume, read_charts, read_costume, with_paint
from ...shared.dress_options import DressOptions
from ...shared.files import write_atomically
from ...shared.reference import take_reference
from ...shared.settings import list_settings
from .. import properties
from ..connection import connection
from ..declared_properties import make_property
from ..dressing import begin_dress
from ..error_places import Place
from ..look import apply_look
from ..passes.render import check_modes
from ..passes.render_set import get_bodies
from ..passes.shot_views import explain_absent, explain_not_shown, explain_taken
from ..passes.staged_character import stage_character
from ..paths import get_file_folder, get_output_folder, resolve
from ..properties import get_kept_look
from ..shot_notice import notice
from ..tasks.frames_folder import LOOK_FOLDER
from ..typed_access import OperatorResult, get_scene
from ..wardrobe import (
    check_surface,
    explain_left_out,
    explain_other_map,
    find_numbers,
    find_wearing,
    find_worn_images,
    unpack,
    wear,
)
from .dialogs import ExportDialog, ImportDialog, show_settings_dialog
from .generate import learn_profile
from .polls import NeedsCharacter, NeedsIdleConnection, Poll
from .reports import report

_POSE, _WITH_SHOT, _ATLAS = list_settings(DressOptions)


class DressCharacter(NeedsIdleConnection, NeedsCharacter, bpy.types.Operator):
    bl_idname = "latentman.dress"
    bl_label = "Dress"
    bl_description = (
        "Make the character's look from all sides at once, so that every shot, camera and pose begins with all of it: a turntable "
        "among the results, and an image for its material"
    )

    pose: make_property(_POSE)
    with_shot: make_property(_WITH_SHOT)
    atlas: make_property(_ATLAS)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask for the pose and the size of the image."""
        return show_settings_dialog(self, context)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Look at the character, and start the task; the timer does the rest."""
        settings, scene = properties.get_settings(context), get_scene(context)
        connection.errors.dismiss(Place.SHOT)
        notice.dismiss()
        try:
            learn_profile(settings)
            check_modes([*get_bodies(settings.character), settings.character])
            request, reference = take_reference(settings.make_request(scene, (1,)), get_file_folder())
            shot.check_request(request)
            folder = get_output_folder(settings)
            console.check_writable(folder)
            staged = stage_character(
                context,
                settings.character,
                at_rest=self.pose == "rest",
                aspect=request.width / request.height if request.height else 1.0,
                atlas_size=self.atlas,
                shot=settings.get_frames(scene),
                with_shot=self.with_shot,
            )
            begin_dress(context, settings, request, reference, staged, folder, connection)
            if staged.shot_frames:
                report(self, {"INFO"}, explain_taken(staged.shot_frames))
            notes = explain_not_shown(staged.left_out), explain_absent(staged.absent), properties.explain_linked(settings.character)
            for warning in filter(None, notes):
                report(self, {"WARNING"}, warning)
        except shot.ShotError as error:
            connection.errors.show(Place.SHOT, str(error), None)
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class OpenCostume(NeedsCharacter, bpy.types.Operator, ImportDialog):
    bl_idname = "latentman.open_costume"
    bl_label = "Open Costume..."
    bl_description = "Have the character wear a costume from a file, which was made for a character with the same surface"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=f"*{SUFFIX}", description="Which files the dialog lists", options={"HIDDEN"})
    material: BoolProperty(name="As Material", description="Put its images on the character as a material, too", default=True)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Copy the costume into the project, and keep it."""
        settings = properties.get_settings(context)
        character = settings.character
        assert character is not None
        source = Path(self.filepath)
        try:
            data = read_costume(source)
            charts = read_charts(data)
            own = stage_character(context, character, plan=False).charts
            check_surface(character, own, charts)
            folder = get_output_folder(settings) / f"costume-{hashlib.blake2b(data, digest_size=6).hexdigest()}" / LOOK_FOLDER
            console.check_writable(folder)
            path, prompt = unpack(data, folder)
            if self.material:
                numbers = find_numbers(own, charts, find_wearing(character))
                textures = {body: folder / f"texture_{number}.png" for body, number in numbers.items()}
                apply_look(list(textures), textures, f"Look: {prompt[:50]}", path.parent.parent.name)
                for note in filter(None, [explain_left_out(character, textures), explain_other_map(own, charts)]):
                    report(self, {"WARNING"}, note)
        except shot.ShotError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        wear(character, path, prompt or source.stem, settings.output)
        report(self, {"INFO"}, f"{character.name} wears {source.name} in every shot from now on.")
        if linked := properties.explain_linked(character):
            report(self, {"WARNING"}, linked)
        return {"FINISHED"}


class SaveCostume(Poll, bpy.types.Operator, ExportDialog):
    bl_idname = "latentman.save_costume"
    bl_label = "Save Costume..."
    bl_description = "Save what the character wears as one file, with what was painted on it, for other files and other people"

    filename_ext = SUFFIX
    filter_glob: StringProperty(default=f"*{SUFFIX}", description="Which files the dialog lists", options={"HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where the character wears no costume."""
        character = properties.get_settings(context).character
        wears = character is not None and is_costume(get_kept_look(character)[0])
        return wears or cls.refuse("The character wears no costume; press Dress first")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Write the file."""
        character = properties.get_settings(context).character
        assert character is not None
        source, target = resolve(get_kept_look(character)[0]), Path(self.filepath)
        try:
            data = with_paint(read_costume(source), find_worn_images(character, source.parent))
            write_atomically(target, data)
        except shot.ShotError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        except OSError as error:
            report(self, {"ERROR"}, f"{target} cannot be written ({error.strerror or error}); choose another place.")
            return {"CANCELLED"}
        report(self, {"INFO"}, f"The costume is in {target}.")
        return {"FINISHED"}


CLASSES = (DressCharacter, OpenCostume, SaveCostume)
