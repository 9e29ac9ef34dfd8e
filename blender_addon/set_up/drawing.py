"""Draws *Set Up*, in the panel and in the preferences: the plan, the progress, or what went wrong with the button that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ...shared.backend_environment import BackendEnvironment, explain_loss, find_chosen, find_current
from ...shared.sizes import write_size
from ..online import can_be_asked, is_online
from ..panel_base import draw_sentence, draw_text
from ..translation import CONTEXT, tr
from .state import SetUpState, set_up

NETWORK = ("package_index", "torch_index", "python_mirror", "hub", "proxy")


def describe_environment(found: BackendEnvironment) -> str:
    """What is set up, in a line."""
    return f"Set up for {found.device} with version {found.version} ({found.packages} packages)"


def draw_set_up(layout: bpy.types.UILayout, context: bpy.types.Context, preferences: Any) -> None:
    """Draw the state of *Set Up*; ``preferences`` is None where the add-on runs without being installed."""
    if set_up.state is SetUpState.PLANNING:
        draw_text(layout, "Looking at this computer ...", "SORTTIME")
    elif set_up.state is SetUpState.PLANNED:
        _draw_plan(layout, context, preferences)
    elif set_up.state is SetUpState.RUNNING:
        layout.progress(factor=set_up.step.fraction, text=tr(set_up.step.text), translate=False)
        if set_up.step.detail:
            draw_text(layout, set_up.step.detail, "BLANK1")
        for note in set_up.notes:
            draw_sentence(layout, context, note)
        layout.operator("latentman.cancel_set_up", icon="CANCEL")
    elif set_up.state is SetUpState.FAILED:
        _draw_failure(layout, context, preferences)
    elif set_up.result:
        draw_sentence(layout, context, set_up.result)


def _draw_online(layout: bpy.types.UILayout, context: bpy.types.Context) -> bool:
    """Draw the question for the internet where it is switched off; returns whether it can be used."""
    if is_online():
        return True
    if can_be_asked():
        draw_sentence(
            layout,
            context,
            "Blender keeps extensions offline. Setting up fetches packages; nothing else is sent.",
            "INTERNET_OFFLINE",
        )
        layout.operator("latentman.allow_online", icon="INTERNET")
    else:
        draw_sentence(
            layout,
            context,
            "Blender was started offline: set up from files, or start it without --offline-mode.",
            "INTERNET_OFFLINE",
        )
    return False


def _draw_plan(layout: bpy.types.UILayout, context: bpy.types.Context, preferences: Any) -> None:
    plan = set_up.plan
    column = layout.column(align=True)
    if preferences is not None:
        column.prop(preferences, "build", text="")
    names = [device["name"] for device in plan["devices"] if device["build"] == plan["build"]]
    draw_text(column, f"{plan['label']}{': ' + names[0] if names else ''}", "MEMORY")
    version = next((one["version"] for one in plan["packages"] if one["name"] == "torch"), "")
    count = f" and {len(plan['packages']) - 1} more" if plan["packages"] else " and what it needs"
    draw_text(column, f"PyTorch {version}{count}", "PACKAGE")
    # where it is says a note below
    python = f"Python {plan['python']}" if plan["is_python_fetched"] else Path(plan["python"]).name
    draw_text(column, python, "CONSOLE")
    about = "" if plan["is_exact"] else "about "
    left = plan["download"] - plan["present"]
    if plan["files"]:
        draw_sentence(column, context, f"From {plan['files']}", "FILE_FOLDER")
    else:
        draw_text(column, f"To fetch: {about}{write_size(left, 1)}", "IMPORT")
        if plan["present"]:
            draw_text(column, f"There already: {write_size(plan['present'], 1)}", "BLANK1")
    draw_text(column, f"On the disk: {about}{write_size(plan['unpacked'], 1)}", "DISK_DRIVE")
    draw_text(column, f"Free there: {write_size(plan['free'], 1)}", "BLANK1")
    if preferences is not None:
        column.prop(preferences, "backend_folder", text="", placeholder=plan["root"], text_ctxt=CONTEXT)
    for note in plan["notes"]:
        draw_sentence(layout, context, note)
    if plan["problem"]:
        draw_sentence(layout, context, plan["problem"], "ERROR")
        _draw_remedy(layout, context, preferences, plan["remedy"])
    elif plan["files"] or _draw_online(layout, context):
        row = layout.row()
        row.scale_y = 1.4
        size = "" if plan["files"] else f" ({about}{write_size(left, 1)})"
        text = "Check and Use" if plan["is_current"] else f"Install{size}"
        row.operator("latentman.run_set_up", text=text, text_ctxt=CONTEXT, icon="CHECKMARK")
    row = layout.row(align=True)
    row.operator("latentman.set_up_from_files", icon="FILE_FOLDER")
    row.operator("latentman.close_set_up", text="", icon="X")


def _draw_failure(layout: bpy.types.UILayout, context: bpy.types.Context, preferences: Any) -> None:
    draw_sentence(layout, context, set_up.message, "ERROR")
    _draw_remedy(layout, context, preferences, set_up.remedy)
    row = layout.row(align=True)
    row.operator("latentman.plan_set_up", text="Try Again", text_ctxt=CONTEXT, icon="FILE_REFRESH")
    row.operator("latentman.copy_diagnostics", text="", icon="COPYDOWN")
    row.operator("latentman.close_set_up", text="", icon="X")


def _draw_remedy(layout: bpy.types.UILayout, context: bpy.types.Context, preferences: Any, remedy: str) -> None:
    """Draw what helps against a failure."""
    if remedy == "files":
        layout.operator("latentman.set_up_from_files", icon="FILE_FOLDER")
    if preferences is None:
        return
    column = layout.column()
    column.use_property_split, column.use_property_decorate = True, False
    if remedy == "device":
        column.prop(preferences, "build")
    elif remedy == "network":
        for name in NETWORK:
            if name != "hub":
                column.prop(preferences, name)
    elif remedy == "space":
        column.prop(preferences, "backend_folder")


def draw_set_up_page(layout: bpy.types.UILayout, context: bpy.types.Context, preferences: Any) -> None:
    """Draw the part of the preferences: what is set up, its buttons, and where things are fetched from."""
    from ..preferences import get_backend_folder

    box = layout.box()
    current = find_current(get_backend_folder(context))
    # in a line of its own: beside a button it is cut off
    draw_text(box, describe_environment(current) if current else "The backend is not set up", "CHECKMARK" if current else "INFO")
    if set_up.state is SetUpState.IDLE:
        row = box.row(align=True)
        row.operator("latentman.plan_set_up", text="Update..." if current else "Set Up...", text_ctxt=CONTEXT, icon="IMPORT")
        if current:
            row.operator("latentman.repair_backend", icon="TOOL_SETTINGS")
            row.operator("latentman.move_backend", icon="FOLDER_REDIRECT")
            row.operator("latentman.remove_backend", icon="TRASH")
    lost = explain_loss(get_backend_folder(context))
    if lost and set_up.state is SetUpState.IDLE:
        draw_sentence(box, context, lost, "ERROR")
        if find_chosen(get_backend_folder(context)):
            box.operator("latentman.repair_backend", icon="TOOL_SETTINGS")
    draw_set_up(box, context, preferences)
    column = box.column()
    column.use_property_split, column.use_property_decorate = True, False
    for name in ("build", "backend_folder", *NETWORK):
        column.prop(preferences, name)
