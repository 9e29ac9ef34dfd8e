"""``python -m tools.contact_sheet``: every bundled clip on the mannequin and on a rig of other proportions, as one picture.

With ``--rigs``: one clip on the rig of every family that is tried, and the angles between its limbs and the motion's. With
``--sources FOLDER``: each of a folder's motion files on the mannequin.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from latentman.backend.pictures import read_png, write_png
from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.readers import BUNDLED, SUFFIXES, read
from latentman.blender_addon.passes.quiet import silence_stdout
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import apply_motion
from latentman.blender_addon.rigging.rigs import guess_mapping
from latentman.blender_addon.typed_access import get_armature, get_mesh, get_node_tree, get_pose, get_scene
from latentman.shared.motion import Motion

from . import rigs
from .rig_families.families import FAMILIES
from .rig_families.skeletons import get_joint_bones, list_bones, make_skeleton

ROOT = Path(__file__).resolve().parents[1]
TILE, FRAMES, SOURCE_FRAMES = (132, 176), 6, 4
#: frames of each rig's strip, and the bundled clip that moves all of them
RIG_FRAMES, RIG_CLIP = 4, 4
#: the corners of a block's end, and its faces: those of one end come first
_SQUARE = ((-1, -1), (1, -1), (1, 1), (-1, 1))
_BLOCK = ((0, 1, 2, 3), (7, 6, 5, 4), (0, 4, 5, 1), (1, 5, 6, 2), (2, 6, 7, 3), (3, 7, 4, 0))


def _set_colour(socket: bpy.types.NodeSocket, colour: tuple[float, float, float]) -> None:
    assert isinstance(socket, bpy.types.NodeSocketColor)
    socket.default_value = (*colour, 1.0)


def _make_material(name: str, colour: tuple[float, float, float]) -> bpy.types.Material:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    _set_colour(get_node_tree(material).nodes["Principled BSDF"].inputs["Base Color"], colour)
    return material


def _make_block_body(armature: bpy.types.Object) -> bpy.types.Object:
    """A body of one tapered block for each bone, skinned to the armature."""
    corners: list[np.ndarray] = []
    owners: list[str] = []
    for bone in get_armature(armature).bones:
        head, tail = np.array(bone.head_local), np.array(bone.tail_local)
        length = np.linalg.norm(tail - head)
        turn = np.array(bone.matrix_local)[:3, :3]
        width = 0.16 * length if bone.name != "Hips" else 0.6 * length
        for along, size in ((0.0, 1.0), (1.0, 0.7)):
            for x, z in _SQUARE:
                corners.append(head + turn @ (np.array([x * width * size, along * length, z * width * size])))
        owners += [bone.name] * 8
    return _make_blocks("Blocks", armature, corners, owners)


def _make_blocks(name: str, armature: bpy.types.Object, corners: list[np.ndarray], owners: list[str]) -> bpy.types.Object:
    """Blocks of metal of eight corners each, a square at either end, that the corners' bones move."""
    faces = [[first + n for n in face] for first in range(0, len(corners), 8) for face in _BLOCK]
    body = rigs.skin_with(name, armature, corners, [], faces, owners)
    get_mesh(body).materials.append(_make_material("Metal", (0.1, 0.35, 0.6)))
    return body


def _set_up_scene() -> bpy.types.Scene:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return _set_up_stage()


def _set_up_stage() -> bpy.types.Scene:
    """Floor, light, camera and renderer in the scene that is open."""
    scene = get_scene(bpy.context)
    scene.render.fps = 20
    scene.render.engine = "CYCLES"  # type: ignore[assignment]  # the stubs know only the built-in engine
    # Cycles adds its settings when it is loaded
    cycles: Any = scene.cycles
    cycles.samples, cycles.use_denoising, cycles.max_bounces = 32, False, 1
    scene.render.resolution_x, scene.render.resolution_y = TILE
    assert scene.view_settings is not None
    scene.view_settings.view_transform = "Standard"  # type: ignore[assignment]  # it depends on the colour configuration
    world = bpy.data.worlds.new("World")
    scene.world, world.use_nodes = world, True
    assert world.node_tree is not None, "a world that uses nodes has some"
    _set_colour(world.node_tree.nodes["Background"].inputs["Color"], (0.75, 0.8, 0.88))
    light = bpy.data.lights.new("Sun", "SUN")
    assert isinstance(light, bpy.types.SunLight)
    sun = bpy.data.objects.new("Sun", light)
    light.energy, sun.rotation_euler = 2.5, (math.radians(40), math.radians(20), 0)
    scene.collection.objects.link(sun)
    bpy.ops.mesh.primitive_plane_add(size=60)
    floor = bpy.context.object
    assert floor is not None, "the plane that was just added is active"
    get_mesh(floor).materials.append(_make_material("Floor", (0.45, 0.47, 0.5)))
    lens = bpy.data.cameras.new("Camera")
    lens.lens = 62
    camera = bpy.data.objects.new("Camera", lens)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return scene


def _add_mannequin() -> bpy.types.Object:
    person = add_character(bpy.context, load(MANNEQUIN), "Mannequin")
    get_mesh(next(o for o in bpy.data.objects if o.parent == person)).materials.append(_make_material("Skin", (0.8, 0.35, 0.2)))
    return person


def _set_in_columns(strips: list[np.ndarray]) -> np.ndarray:
    """A sheet (height, width, 3) of strips of one size, the first half of them on the left."""
    strips = strips + [np.full_like(strips[0], 255)] * (len(strips) % 2)
    gap = np.full((strips[0].shape[0], 8, 3), 255, np.uint8)
    half = len(strips) // 2
    return np.concatenate([np.concatenate([a, gap, b], 1) for a, b in zip(strips[:half], strips[half:], strict=True)])


def _aim_camera(scene: bpy.types.Scene, armature: bpy.types.Object, pelvis: str) -> None:
    posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    at = posed.matrix_world @ get_pose(posed).bones[pelvis].head
    camera = scene.camera
    assert camera is not None, "the stage has a camera"
    camera.location = (at.x + 2.6, at.y - 3.6, 1.2 + max(0.0, at.z - 1.0))
    camera.rotation_euler = (math.radians(86), 0, math.radians(35.8))


def render_rows(scene: bpy.types.Scene, armature: bpy.types.Object, pelvis: str) -> list[np.ndarray]:
    """One strip of frames for each bundled clip."""
    file, options = read(BUNDLED), KeyOptions(foot_lock="soft")
    return [render_strip(scene, armature, pelvis, file.get_motion(clip), options) for clip in range(len(file.clips))]


def render_strip(
    scene: bpy.types.Scene,
    armature: bpy.types.Object,
    pelvis: str,
    motion: Motion,
    options: KeyOptions | None = None,
    frames: int = FRAMES,
) -> np.ndarray:
    """Some frames of a motion on a rig side by side, (height, width, 3)."""
    action = apply_motion(armature, motion, 1, 20.0, options or KeyOptions())
    last = int(action.frame_range[1])
    tiles: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder:
        for frame in np.linspace(1, last, frames + 2)[1:-1].round().astype(int):
            scene.frame_set(int(frame))
            _aim_camera(scene, armature, pelvis)
            scene.render.filepath = f"{folder}/{frame}.png"
            with silence_stdout():
                bpy.ops.render.render(write_still=True)
            tiles.append(read_png(Path(scene.render.filepath)))
    return np.concatenate(tiles, 1)


def render_clips() -> np.ndarray:
    """A sheet of every bundled clip on the mannequin, and on a rig of other proportions beside it."""
    scene = _set_up_scene()
    strips = render_rows(scene, _add_mannequin(), "pelvis")
    scene = _set_up_scene()
    other = rigs.build_rig(rigs.make_joints(1.2, 1.1, 50), rigs.get_bone_names("Mixamo"), True, True)
    _make_block_body(other)
    return _set_in_columns(strips + render_rows(scene, other, "Hips"))


def render_sources(folder: Path) -> tuple[list[str], np.ndarray]:
    """The names of the motion files in a folder, and a sheet at half size with a strip of each, two beside each other."""
    scene = _set_up_scene()
    person = _add_mannequin()
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES or path.is_dir())
    strips = [render_strip(scene, person, "pelvis", read(path).get_motion(0), frames=SOURCE_FRAMES) for path in paths]
    return [path.name for path in paths], _halve(_set_in_columns(strips))


def _halve(sheet: np.ndarray) -> np.ndarray:
    """A sheet (height, width, 3) at half its size, since that of many files would be larger than the rest of the manual."""
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 2
    return sheet[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean((1, 3)).round().astype(np.uint8)


def _make_limbs(armature: bpy.types.Object, bones: dict[str, str]) -> None:
    """A body of a block for each limb, from joint to joint, that the bones (joint -> bone) move."""
    places = {joint: np.array(get_armature(armature).bones[bone].head_local) for joint, bone in bones.items()}
    limbs = [(a, b) for a, b in rigs.LIMBS if a in bones and b in bones]
    limbs += [("pelvis", joint) for joint in ("left_hip", "right_hip")] + [("pelvis", "neck" if "neck" in bones else "head")]
    width = 0.035 * float(np.linalg.norm(places["head"] - places["left_ankle"]))
    corners: list[np.ndarray] = []
    owners: list[str] = []
    ends = [(places[a], places[b], bones[a], width * (1.6 if a == "pelvis" and b in ("neck", "head") else 1)) for a, b in limbs]
    up = (places["head"] - places["left_ankle"]) / np.linalg.norm(places["head"] - places["left_ankle"])
    ends.append((places["head"], places["head"] + up * width * 4, bones["head"], width * 1.5))
    for start, end, owner, size in ends:
        along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
        side = np.cross(along, [0.3, 0.5, 0.81])
        side /= np.linalg.norm(side)
        other = np.cross(along, side)
        for point in (start, end):
            corners += [point + size * (x * side + y * other) for x, y in _SQUARE]
        owners += [owner] * 8
    _make_blocks("Limbs", armature, corners, owners)


def _render_rig(
    scene: bpy.types.Scene, armature: bpy.types.Object, bones: dict[str, str], motion: Motion
) -> tuple[np.ndarray, str]:
    """(a strip of frames of a rig that a motion moves, mean and worst angle of its limbs)."""
    _make_limbs(armature, bones)
    strip = render_strip(scene, armature, bones["pelvis"], motion, frames=RIG_FRAMES)
    seen = rigs.read_heads(armature, bones, range(1, 1 + motion.frame_count))
    angles = np.concatenate(list(rigs.measure_limbs(seen, motion.joints).values()))
    return strip, f"{angles.mean():.2f} | {angles.max():.1f}"


def render_families(clip: int) -> np.ndarray:
    """A picture of every family's rig moved by one bundled clip, in two columns; prints the angles as a table's rows."""
    motion = read(BUNDLED).get_motion(clip)
    strips: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, family in enumerate(FAMILIES):
            scene = _set_up_scene()
            skeleton = make_skeleton(list_bones(family, rigs.make_joints(1.05, 0.95, 35)))
            armature = rigs.build_armature(skeleton, number % 2 == 0, number % 3 == 0, number)
            strip, angles = _render_rig(scene, armature, get_joint_bones(family), motion)
            strips.append(strip)
            print(f"| {family.name} | {len(skeleton.names)} | {angles} |", flush=True)
        for kind in ("metarig", "basic", "human"):
            armature = rigs.open_rigify(kind, Path(folder))
            found = guess_mapping(armature)[1]
            _set_up_stage()
            bones = found if kind == "metarig" else rigs.get_rigify_deform_bones()
            strip, angles = _render_rig(get_scene(bpy.context), armature, bones, motion)
            strips.append(strip)
            print(f"| Rigify, {kind} | {len(get_armature(armature).bones)} | {angles} |", flush=True)
    return _set_in_columns(strips)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sources", type=Path, help="a folder of motion files, each of which becomes a strip of the sheet instead")
    parser.add_argument("--rigs", action="store_true", help="the rigs of all families, moved by one clip, instead")
    args = parser.parse_args()
    picture = "rigs" if args.rigs else "sources" if args.sources else "motions"
    out = args.out or ROOT / "docs" / "images" / f"{picture}.png"
    names: list[str] = []
    if args.rigs:
        sheet = render_families(RIG_CLIP)
    elif args.sources:
        names, sheet = render_sources(args.sources)
    else:
        sheet = render_clips()
    write_png(out, sheet, colours=96)
    print(out, *names, sep="\n")


if __name__ == "__main__":
    main()
