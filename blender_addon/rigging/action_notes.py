"""What an Action says of its motion: where it came from, its foot contacts, what else was keyed for it, and what is wrong."""

from __future__ import annotations

import bpy

from ..character.joints import SIDES
from ..motion.foot_contacts import FootContact

#: custom properties of an Action that came from a motion
TEXT, SOURCE, RATE, SEED = "latentman_text", "latentman_source", "latentman_fps", "latentman_seed"
#: (side, first frame, last frame) of each foot contact, one after the other; .blend files have it under this name
CONTACTS = "latentman_plants"
#: custom properties of an Action: what was keyed besides the body, and what is wrong with it, one sentence a line
NOTES, WARNINGS = "latentman_notes", "latentman_warnings"


def write_notes(action: bpy.types.Action, notes: list[str], warnings: list[str]) -> None:
    """Store on an Action what ``read_notes`` returns, in place of what a copied Action had."""
    for key, lines in ((NOTES, notes), (WARNINGS, warnings)):
        if lines:
            action[key] = "\n".join(lines)
        elif action.get(key) is not None:
            del action[key]


def add_note(action: bpy.types.Action, note: str) -> None:
    """Store one more sentence about what else was keyed on an Action."""
    notes, warnings = read_notes(action)
    write_notes(action, [*notes, note], warnings)


def read_notes(action: bpy.types.Action) -> tuple[list[str], list[str]]:
    """(what else was keyed or muted for a motion, what is wrong with it), sentences for the user."""
    notes, warnings = (str(action.get(key, "")).splitlines() for key in (NOTES, WARNINGS))
    return notes, warnings


def write_foot_contacts(action: bpy.types.Action, contacts: list[FootContact], start: int, spacing: float = 1.0) -> None:
    """Store foot contacts on an Action, in its own frames, for the list in the panel."""
    action[CONTACTS] = [
        value
        for contact in contacts
        for value in (float(SIDES.index(contact.side)), start + spacing * contact.start, start + spacing * contact.end)
    ]


def read_foot_contacts(action: bpy.types.Action) -> list[FootContact]:
    """The foot contacts stored on an Action, in its own frames."""
    flat = list(action.get(CONTACTS, ()))
    return [
        FootContact(SIDES[int(side)], round(start), round(end))
        for side, start, end in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]
