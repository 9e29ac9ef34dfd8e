"""``python -m tools.contact_sheet``: every bundled clip on the mannequin and on a rig of other proportions, as one picture."""

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
from latentman.blender_addon.motion.readers import BUNDLED, SUFFIXES, read
from latentman.blender_addon.passes.render import silence_stdout
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import KeyOptions, apply_motion
from latentman.blender_addon.typed_access import get_armature, get_mesh, get_node_tree, get_pose, get_scene
from latentman.shared.motion import Motion

from . import rigs

ROOT = Path(__file__).resolve().parents[1]
TILE, FRAMES, SOURCE_FRAMES = (132, 176), 6, 4


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
    faces: list[list[int]] = []
    owners: list[str] = []
    for bone in get_armature(armature).bones:
        head, tail = np.array(bone.head_local), np.array(bone.tail_local)
        length = np.linalg.norm(tail - head)
        turn = np.array(bone.matrix_local)[:3, :3]
        width = 0.16 * length if bone.name != "Hips" else 0.6 * length
        start = len(corners)
        for along, size in ((0.0, 1.0), (1.0, 0.7)):
            for x, z in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                corners.append(head + turn @ (np.array([x * width * size, along * length, z * width * size])))
        faces += [
            [start + n for n in face]
            for face in ((0, 1, 2, 3), (7, 6, 5, 4), (0, 4, 5, 1), (1, 5, 6, 2), (2, 6, 7, 3), (3, 7, 4, 0))
        ]
        owners += [bone.name] * 8
    mesh = bpy.data.meshes.new("Blocks")
    mesh.from_pydata([tuple(c) for c in corners], [], faces)
    body = bpy.data.objects.new("Blocks", mesh)
    get_scene(bpy.context).collection.objects.link(body)
    body.parent = armature
    modifier = body.modifiers.new("Armature", "ARMATURE")
    assert isinstance(modifier, bpy.types.ArmatureModifier)
    modifier.object = armature
    for n, name in enumerate(owners):
        group = body.vertex_groups.get(name) or body.vertex_groups.new(name=name)
        group.add([n], 1.0, "REPLACE")
    return body


def _set_up_scene() -> bpy.types.Scene:
    bpy.ops.wm.read_factory_settings(use_empty=True)
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


def render_sources(folder: Path) -> tuple[list[str], np.ndarray]:
    """The names of the motion files in a folder, and a sheet with a strip of each, two beside each other."""
    scene = _set_up_scene()
    person = add_character(bpy.context, load(MANNEQUIN), "Mannequin")
    get_mesh(next(o for o in bpy.data.objects if o.parent == person)).materials.append(_make_material("Skin", (0.8, 0.35, 0.2)))
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES or path.is_dir())
    strips = [render_strip(scene, person, "pelvis", read(path).get_motion(0), frames=SOURCE_FRAMES) for path in paths]
    strips += [np.full_like(strips[0], 255)] * (len(strips) % 2)
    gap = np.full((strips[0].shape[0], 8, 3), 255, np.uint8)
    half = len(strips) // 2
    rows = [np.concatenate([a, gap, b], 1) for a, b in zip(strips[:half], strips[half:], strict=True)]
    return [path.name for path in paths], np.concatenate(rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "motions.png")
    parser.add_argument("--sources", type=Path, help="a folder of motion files, each of which becomes a strip of the sheet instead")
    args = parser.parse_args()
    if args.sources:
        names, sheet = render_sources(args.sources)
        write_png(args.out, sheet, colours=96)
        print(args.out, *names, sep="\n")
        return
    scene = _set_up_scene()
    person = add_character(bpy.context, load(MANNEQUIN), "Mannequin")
    get_mesh(next(o for o in bpy.data.objects if o.parent == person)).materials.append(_make_material("Skin", (0.8, 0.35, 0.2)))
    left = render_rows(scene, person, "pelvis")
    scene = _set_up_scene()
    other = rigs.build_rig(rigs.make_joints(1.2, 1.1, 50), rigs.get_bone_names("Mixamo"), True, True)
    get_mesh(_make_block_body(other)).materials.append(_make_material("Metal", (0.1, 0.35, 0.6)))
    right = render_rows(scene, other, "Hips")
    gap = np.full((left[0].shape[0], 8, 3), 255, np.uint8)
    sheet = np.concatenate([np.concatenate([a, gap, b], 1) for a, b in zip(left, right, strict=True)])
    write_png(args.out, sheet, colours=96)
    print(args.out)


if __name__ == "__main__":
    main()
