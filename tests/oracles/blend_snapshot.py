"""A deep snapshot of the open file: every ID and every property that can be compared, and what differs between two of them."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import bpy
import numpy as np

#: computed from other properties whenever somebody asks, or where things lie in memory
SKIPPED = {
    "rna_type",
    "depsgraph",
    "preview",
    "tag",
    # points to nothing in Blender 4.2
    "uv_sculpt",
    # reading an attribute turns one value into many
    "storage_type",
    "bindcode",
    "loop_triangles",
    "loop_triangle_polygons",
    "corner_normals",
    "polygon_normals",
    "vertex_normals",
    # an image's pixels are loaded when something shows them
    "has_data",
    "is_embedded_data",
    # reading these makes them
    "vertex_selection",
    "edge_selection",
    "pin",
}
#: what belongs to the window rather than to the file
SKIPPED_BLOCKS = {"window_managers", "screens", "workspaces"}
NUMBERS = {"BOOLEAN": np.int8, "INT": np.int64, "FLOAT": np.float32}
#: collections at least as long as this are read at once
LONG = 24


def take_snapshot() -> dict[str, object]:
    """The values of every property of the open file, of what is selected and active, and of the render result, by path."""
    out: dict[str, object] = {}
    for declared in bpy.data.bl_rna.properties:
        if declared.type != "COLLECTION" or declared.identifier in SKIPPED_BLOCKS:
            continue
        blocks = getattr(bpy.data, declared.identifier)
        out[declared.identifier] = [block.name_full for block in blocks]
        for block in blocks:
            _Walk(out).visit(block, f"{declared.identifier}[{block.name_full}]", is_block=True)
    for name in ("filepath", "use_autopack"):
        out[name] = getattr(bpy.data, name)
    _add_selection(out)
    _add_context(out)
    _add_render_result(out)
    return out


def diff(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """One line for each path whose value differs."""
    missing = object()
    lines = []
    for path in (*before, *(path for path in after if path not in before)):
        old, new = before.get(path, missing), after.get(path, missing)
        if old is not new and not _equal(old, new):
            shown = ["(nothing)" if value is missing else repr(value)[:80] for value in (old, new)]
            lines.append(f"{path}: {shown[0]} -> {shown[1]}")
    return lines


def _equal(old: object, new: object) -> bool:
    if isinstance(old, float) and isinstance(new, float) and old != old and new != new:
        return True
    return old == new


class _Walk:
    """Follows the structures of one data-block; other data-blocks are only named."""

    def __init__(self, out: dict[str, object]) -> None:
        self.out = out
        self.seen: dict[tuple[int, str], str] = {}

    def visit(self, owner, path: str, *, is_block: bool = False) -> None:
        key = (owner.as_pointer(), owner.bl_rna.identifier)
        if key in self.seen:
            self.out[path] = f"as {self.seen[key]}"
            return
        self.seen[key] = path
        self.visit_properties(owner, path)
        keys = getattr(owner, "keys", None)
        if is_block or isinstance(owner, (bpy.types.PoseBone, bpy.types.Bone)):
            try:
                for name in keys() if keys else ():
                    self.out[f'{path}["{name}"]'] = _describe(owner[name])
            except TypeError:  # this kind has no custom properties
                pass

    def visit_properties(self, owner, path: str) -> None:
        for declared in owner.bl_rna.properties:
            name = declared.identifier
            if name in ("users", "use_extra_user") and getattr(owner, "source", "") == "VIEWER":
                continue  # Blender counts the render result as used as long as it likes
            if name in SKIPPED or name.endswith("_grid"):  # grids of fluids crash where there are none
                continue
            try:
                value = getattr(owner, name)
            except Exception as error:  # some properties exist only in some states
                self.out[f"{path}.{name}"] = f"{type(error).__name__}"
                continue
            self.visit_value(declared, value, f"{path}.{name}")

    def visit_value(self, declared, value, path: str) -> None:
        if declared.type == "COLLECTION":
            self.visit_collection(value, path)
        elif declared.type == "POINTER":
            if value is None or isinstance(value, bpy.types.ID):
                # what a data-block owns alone, such as its node tree, is no member of bpy.data
                if isinstance(value, (bpy.types.NodeTree, bpy.types.Collection, bpy.types.Key)) and value.is_embedded_data:
                    self.visit(value, path, is_block=True)
                else:
                    self.out[path] = None if value is None else f"{value.bl_rna.identifier} {value.name_full}"
            else:
                self.visit(value, path)
        elif declared.type in NUMBERS and getattr(declared, "is_array", False):
            self.out[path] = _describe(value)
        else:
            self.out[path] = frozenset(value) if isinstance(value, set) else value

    def visit_collection(self, found, path: str) -> None:
        self.out[f"len({path})"] = count = len(found)
        if not (count >= LONG and self.hash_collection(found, path)):
            self.visit_members(found, path)
        rules = getattr(found, "bl_rna", None)
        for declared in rules.properties if rules is not None else ():
            if declared.type != "COLLECTION" and declared.identifier not in SKIPPED:
                try:
                    self.visit_value(declared, getattr(found, declared.identifier), f"{path}.{declared.identifier}")
                except Exception as error:
                    self.out[f"{path}.{declared.identifier}"] = type(error).__name__

    def visit_members(self, found, path: str) -> None:
        for n, one in enumerate(found):
            if one is None:
                self.out[f"{path}[{n}]"] = None
            elif isinstance(one, bpy.types.ID):
                self.out[f"{path}[{n}]"] = f"{one.bl_rna.identifier} {one.name_full}"
            else:
                self.visit(one, f"{path}[{n}]")

    def hash_collection(self, found, path: str) -> bool:
        """Read numbers at once; False where the members hold anything else."""
        first = found[0]
        if first is None or isinstance(first, bpy.types.ID):
            return False
        rules = first.bl_rna.properties
        weights = "groups" in rules and isinstance(first, bpy.types.MeshVertex)
        others = any(one.type not in NUMBERS and one.identifier not in SKIPPED and one.identifier != "groups" for one in rules)
        if others and not isinstance(first, (bpy.types.Keyframe, bpy.types.ShapeKeyPoint)):
            return False
        for one in rules:
            if one.type not in NUMBERS:
                continue
            width = one.array_length if one.is_array else 1
            values = np.empty(len(found) * max(width, 1), NUMBERS[one.type])
            try:
                found.foreach_get(one.identifier, values)
            except (TypeError, RuntimeError, AttributeError):
                return False
            self.out[f"{path}[:].{one.identifier}"] = _hash(values)
        if weights:
            self.out[f"{path}[:].groups"] = hash(tuple((g.group, g.weight) for vertex in found for g in vertex.groups))
        return True


def _hash(values: np.ndarray) -> str:
    return hashlib.blake2b(values.tobytes(), digest_size=8).hexdigest()


def _describe(value):
    if hasattr(value, "to_dict"):
        return repr(value.to_dict())
    if hasattr(value, "foreach_get") and len(value) >= LONG:
        values = np.empty(len(value), np.float32)
        try:
            value.foreach_get(values)
            return _hash(values)
        except (TypeError, RuntimeError):
            pass
    if isinstance(value, bpy.types.ID):
        return f"{value.bl_rna.identifier} {value.name_full}"
    if hasattr(value, "__len__") and not isinstance(value, str | bytes):
        return tuple(_describe(one) for one in value)
    return value


def _add_selection(out: dict[str, object]) -> None:
    for scene in bpy.data.scenes:
        for layer in scene.view_layers:
            path = f"scenes[{scene.name_full}].view_layers[{layer.name}]"
            active = layer.objects.active
            out[f"{path} active object"] = active.name_full if active else None
            for one in layer.objects:
                out[f"{path} {one.name_full} selected, hidden, local"] = (
                    one.select_get(view_layer=layer),
                    one.hide_get(view_layer=layer),
                    one.mode,
                )


def _add_context(out: dict[str, object]) -> None:
    context = bpy.context
    out["context"] = (context.scene.name_full, context.view_layer.name, context.mode)
    for n, window in enumerate(window for wm in bpy.data.window_managers for window in wm.windows):
        out[f"window {n}"] = (window.scene.name_full, window.view_layer.name)


def _add_render_result(out: dict[str, object]) -> None:
    for image in bpy.data.images:
        if image.type == "RENDER_RESULT":
            slots = image.render_slots
            out[f"{image.name} slots"] = [slot.name for slot in slots], slots.active_index
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "result.exr"
                settings = bpy.context.scene.render.image_settings
                try:
                    image.save_render(str(path))
                except RuntimeError:
                    out[f"{image.name} picture"] = None
                    continue
                saved = next(iter(Path(folder).iterdir()), None)
                out[f"{image.name} picture"] = (
                    (settings.file_format, hashlib.sha256(saved.read_bytes()).hexdigest()) if saved else None
                )
