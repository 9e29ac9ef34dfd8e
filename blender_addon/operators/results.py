"""The box *Results*: into the sequencer and the compositor, as a material, kept as the character's look, or opened as a folder."""

from __future__ import annotations

from functools import partial

import bpy

from ...shared import console, shot
from .. import properties
from ..chosen_result import find_chosen_result, is_in_sequencer
from ..compat import get_sequencer_scene
from ..connection import connection
from ..editors import show_strip, show_textures
from ..look import apply_look, has_look, remove_look
from ..paths import get_output_folder, get_result_folder
from ..references import refer_to
from ..result_places import put_in_compositor, put_in_sequencer
from ..result_properties import LatentManResult, get_scene_of, read_crop
from ..results import update_fetched
from ..sequencer import find_strips
from ..tasks.fetch import FetchTask
from ..tasks.frames_folder import COSTUME_FILE, LOOK_FOLDER
from ..typed_access import OperatorResult, get_scene
from ..view_colours import choose_colour_space
from ..wardrobe import find_textures, find_wearing, wear
from .polls import NeedsIdleConnection, NeedsResult, Poll
from .reports import report, report_with_warnings


def get_result(context: bpy.types.Context) -> LatentManResult:
    """The result that the button is about, which ``poll`` has checked."""
    result = find_chosen_result(context)
    assert result is not None
    return result


def _get_matching_character(operator: bpy.types.Operator, context: bpy.types.Context) -> bpy.types.Object | None:
    """The picked character if the active result shows it; otherwise None, and the operator reports that."""
    result = get_result(context)
    character: bpy.types.Object | None = properties.get_scene_settings(get_scene_of(result)).character
    # one that is not there any more was renamed
    if character is None or (character.name != result.character and result.character in bpy.data.objects):
        report(
            operator, {"ERROR"}, f"This look belongs to '{result.character}', whose surface it follows; pick that character first."
        )
        return None
    return character


def _report(operator: bpy.types.Operator, scene: bpy.types.Scene, text: str, warnings: list[str]) -> None:
    """Report what was done, and what of the frames the scene will not show as it is."""
    colours = choose_colour_space(scene)
    report_with_warnings(operator, text, [*warnings, *filter(None, [colours.warning])], [*filter(None, [colours.note])])


class ResultToSequencer(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.to_sequencer"
    bl_label = "To Sequencer"
    bl_description = (
        "Add the result's frames to the sequencer as a strip, where the shot begins, or refresh the strip that is there"
    )
    bl_options = {"REGISTER", "UNDO"}

    kind: bpy.props.EnumProperty(
        name="As",
        description="What kind of strip it becomes",
        items=(
            ("IMAGES", "Images", "An image strip, which shows frames that are made again at once"),
            ("MOVIE", "Movie", "One movie file, which plays more quickly"),
        ),
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Pressed by hand it shows the strip as well, in a workspace that has a sequencer."""
        return self._add(context, switch=True)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Add the strip on the first free channel, or refresh the one that is there; it is selected."""
        return self._add(context, switch=False)

    def _add(self, context: bpy.types.Context, *, switch: bool) -> OperatorResult:
        # in the sequencer the strip that is added is of the list's result, into the film that is seen there
        in_sequencer = is_in_sequencer(context)
        scene = (get_sequencer_scene(context) if in_sequencer else None) or get_scene(context)
        result = properties.get_settings(context).find_active_result() or get_result(context)
        try:
            text, notes = put_in_sequencer(scene, result, movie=self.kind == "MOVIE")
        except (shot.ShotError, OSError) as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        kind = "MOVIE" if self.kind == "MOVIE" else "IMAGE"
        strip = next(one for one in find_strips(scene, get_result_folder(result)) if one.type == kind)
        hint = show_strip(context.window, scene, strip, switch=switch)
        if len(bpy.data.scenes) > 1:
            text += f" in the scene '{scene.name}'"
        _report(self, scene, f"{text}. {hint}".rstrip(". ") if hint else text, notes)
        return {"FINISHED"}


class ResultToCompositor(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.to_compositor"
    bl_label = "To Compositor"
    bl_description = (
        "Add the result's frames to the scene's compositing nodes as an image that follows the frame; in a scene without any "
        "nodes they are then what is rendered"
    )
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Add the nodes, or refresh those that are there."""
        result, scene = get_result(context), get_scene(context)
        try:
            text, notes = put_in_compositor(scene, result)
        except (shot.ShotError, OSError) as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        _report(self, scene, text, notes)
        return {"FINISHED"}


class ResultAsMaterial(Poll, bpy.types.Operator):
    bl_idname = "latentman.as_material"
    bl_label = "As Material"
    bl_description = "Put the look of the result on its character as a material, for the viewport and for renders"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a result of one character."""
        result = find_chosen_result(context)
        has_look = result is not None and bool(result.character)
        return has_look or cls.refuse("Generate a shot of one character first")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Pressed by hand it has the solid viewports show textures, too."""
        done = self.execute(context)
        if done == {"FINISHED"} and show_textures(context.screen):
            report(self, {"INFO"}, "The solid viewport shows textures now; Viewport Shading > Color has the choice.")
        return done

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Load the texture and make the material, or swap the one that the character wears."""
        result, character = get_result(context), _get_matching_character(self, context)
        if character is None:
            return {"CANCELLED"}
        try:
            folder = get_result_folder(result)
            textures, notes = find_textures(context, character, folder)
            missing = next((path for path in textures.values() if not path.is_file()), None)
            if missing is not None:
                raise shot.ShotError("texture", f"{missing} is missing; press Fetch Again, or generate the shot again.")
            apply_look(list(textures), textures, f"Look: {result.prompt[:50]}", result.job, result.costume)
        except shot.ShotError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        for note in notes:
            report(self, {"WARNING"}, note)
        return {"FINISHED"}


class OwnMaterials(Poll, bpy.types.Operator):
    bl_idname = "latentman.own_materials"
    bl_label = "Own Materials"
    bl_description = "Take the look off the character again: its own materials come back as they were"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where the character wears no look."""
        return any(map(has_look, _find_bodies(context))) or cls.refuse("The character wears its own materials")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Put back what lies below."""
        remove_look(_find_bodies(context))
        return {"FINISHED"}


def _find_bodies(context: bpy.types.Context) -> list[bpy.types.Object]:
    try:
        return find_wearing(properties.get_settings(context).character)
    except shot.ShotError:
        return []


class KeepLook(Poll, bpy.types.Operator):
    bl_idname = "latentman.keep_look"
    bl_label = "Keep Look"
    bl_description = "Give the character the look of this result from now on: in other shots, with other motions and other cameras"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a finished result of one character."""
        result = find_chosen_result(context)
        has_look = result is not None and bool(result.job and result.settings and result.character)
        return has_look or cls.refuse("Generate a shot of one character with the preset Surface first")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Store it on the character, so that it follows the character into other scenes and files."""
        result, character = get_result(context), _get_matching_character(self, context)
        if character is None:
            return {"CANCELLED"}
        costume = get_result_folder(result) / LOOK_FOLDER / COSTUME_FILE
        if costume.is_file():
            # all of it, and not what one shot has shown
            wear(character, costume, result.prompt, properties.get_settings(context).output)
        else:
            properties.set_kept_look(character, result.job, result.prompt)
        if linked := properties.explain_linked(character):
            report(self, {"WARNING"}, linked)
        return {"FINISHED"}


class NewLook(Poll, bpy.types.Operator):
    bl_idname = "latentman.new_look"
    bl_label = "New Look"
    bl_description = "Let the prompt decide again how the character looks"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where no look is kept."""
        character = properties.get_settings(context).character
        has_look = character is not None and bool(properties.get_kept_look(character)[0])
        return has_look or cls.refuse("The character keeps no look")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Remove the look from the character."""
        properties.set_kept_look(properties.get_settings(context).character, "", "")
        return {"FINISHED"}


class OpenResultFolder(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.open_folder"
    bl_label = "Open Folder"
    bl_description = "Open the folder of the result's frames"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Open the folder in the system's file browser."""
        folder = get_result_folder(get_result(context))
        if not folder.is_dir():
            report(self, {"ERROR"}, f"The folder {folder} is gone; press Fetch Again, or generate the shot again.")
            return {"CANCELLED"}
        bpy.ops.wm.path_open(filepath=str(folder))
        return {"FINISHED"}


class FetchResult(NeedsIdleConnection, NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.fetch_result"
    bl_label = "Fetch Again"
    bl_description = "Bring the frames of this result back from the backend's job store, where they are gone or damaged"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for results that the backend cannot know."""
        if not super().poll(context):
            return False
        result = find_chosen_result(context)
        return bool(result is not None and result.job) or cls.refuse("This result does not say which shot it is; generate it again")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Start the task; the timer does the rest."""
        result = get_result(context)
        scene = get_scene_of(result)
        settings = properties.get_scene_settings(scene)
        folder = get_result_folder(result)
        if not folder.is_dir():
            # the old place may be on a disk that is not there any more
            folder = get_output_folder(settings) / result.job
        try:
            console.check_writable(folder)
            task = FetchTask(result.job, folder, connection.get_client(), transparent=result.transparent, crop=read_crop(result))
        except shot.ShotError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        task.add_done_callback(partial(update_fetched, scene=refer_to(scene), old=get_result_folder(result)))
        connection.add(task)
        return {"FINISHED"}


CLASSES = (ResultToSequencer, ResultToCompositor, ResultAsMaterial, OwnMaterials, KeepLook, NewLook, FetchResult, OpenResultFolder)
