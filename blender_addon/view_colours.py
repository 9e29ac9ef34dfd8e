"""The colour space in which a finished frame must be read so that a render shows its own colours, whatever the view transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy

#: the colour space of finished frames
FRAME_SPACE = "sRGB"
#: by view transform the colour space that undoes it; of the two names for one, the first that a Blender version has is taken
INVERSES: dict[str, tuple[str, ...]] = {
    "Standard": (FRAME_SPACE,),
    "Raw": ("Linear Rec.709", "Linear BT.709"),
    "AgX": ("AgX Base sRGB",),
    "Filmic": ("Filmic sRGB",),
    "Filmic Log": ("Filmic Log",),
    "Khronos PBR Neutral": ("Khronos PBR Neutral sRGB",),
    "ACES 1.3": ("ACES 1.3 sRGB",),
    "ACES 2.0": ("ACES 2.0 sRGB",),
}


#: by view transform the colours that come out differently all the same, as none of its own is like them
LIMITS = {
    "AgX": "the most saturated",
    "Filmic": "the most saturated",
    "Filmic Log": "the most saturated",
    "Khronos PBR Neutral": "the darkest and the most saturated",
}


@dataclass(frozen=True)
class ColourChoice:
    """A colour space for finished frames; ``warning`` is a sentence where the render will not show their colours, ``note`` one
    where it will show all but a few."""

    space: str
    warning: str = ""
    note: str = ""


def list_colour_spaces() -> list[str]:
    """The names of the colour spaces that this Blender knows, with its own or the user's colour configuration."""
    settings: Any = bpy.types.ColorManagedInputColorspaceSettings.bl_rna.properties["name"]
    return [item.identifier for item in settings.enum_items]


def choose_colour_space(scene: bpy.types.Scene) -> ColourChoice:
    """The colour space that gives a finished frame its own colours in the scene's renders, as near as its view transform can."""
    view: Any = scene.view_settings
    transform: str = view.view_transform
    known = list_colour_spaces()
    space = next((name for name in INVERSES.get(transform, ()) if name in known), None)
    if space is None:
        return ColourChoice(
            FRAME_SPACE,
            f"The view transform '{transform}' changes the colours of the frames; choose Standard or AgX in the scene's Color "
            "Management to see them as they were generated.",
        )
    changes = [
        name
        for name, changed in (
            ("look", view.look not in ("None", "")),
            ("exposure", view.exposure != 0),
            ("gamma", view.gamma != 1),
            ("curves", view.use_curve_mapping),
            ("white balance", getattr(view, "use_white_balance", False)),
        )
        if changed
    ]
    if changes:
        return ColourChoice(
            space,
            f"The scene's Color Management ({', '.join(changes)}) is applied to the frames, too; reset it to see them unchanged.",
        )
    limit = LIMITS.get(transform)
    note = f"{transform} changes {limit} of the frames' colours; the view transform Standard shows all of them." if limit else ""
    return ColourChoice(space, note=note)
