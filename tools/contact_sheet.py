"""``python -m tools.contact_sheet``: every bundled clip on the mannequin and on a rig of other proportions, as one picture."""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import bpy
import numpy as np
from PIL import Image

from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.passes.render import silence_stdout
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import KeyOptions, apply_motion

from . import rigs

ROOT = Path(__file__).resolve().parents[1]
TILE, FRAMES = (132, 176), 6


def _material(name: str, colour: tuple[float, float, float]) -> bpy.types.Material:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*colour, 1.0)
    return material


def _blocks(armature: bpy.types.Object) -> bpy.types.Object:
    """A body of one tapered block for each bone, skinned to the armature."""
    corners, faces, owners = [], [], []
    for bone in armature.data.bones:
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
    bpy.context.collection.objects.link(body)
    body.parent = armature
    body.modifiers.new("Armature", "ARMATURE").object = armature
    for n, name in enumerate(owners):
        group = body.vertex_groups.get(name) or body.vertex_groups.new(name=name)
        group.add([n], 1.0, "REPLACE")
    return body


def _stage() -> bpy.types.Scene:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.engine = 20, "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.max_bounces = 32, False, 1
    scene.render.resolution_x, scene.render.resolution_y = TILE
    scene.view_settings.view_transform = "Standard"
    scene.world = bpy.data.worlds.new("World")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.75, 0.8, 0.88, 1)
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 2.5, (math.radians(40), math.radians(20), 0)
    scene.collection.objects.link(sun)
    bpy.ops.mesh.primitive_plane_add(size=60)
    bpy.context.object.data.materials.append(_material("Floor", (0.45, 0.47, 0.5)))
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.lens = 62
    scene.collection.objects.link(camera)
    scene.camera = camera
    return scene


def _follow(scene: bpy.types.Scene, armature: bpy.types.Object, pelvis: str) -> None:
    posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    at = posed.matrix_world @ posed.pose.bones[pelvis].head
    scene.camera.location = (at.x + 2.6, at.y - 3.6, 1.2 + max(0.0, at.z - 1.0))
    scene.camera.rotation_euler = (math.radians(86), 0, math.radians(35.8))


def rows(scene: bpy.types.Scene, armature: bpy.types.Object, pelvis: str) -> list[np.ndarray]:
    """One strip of frames for each bundled clip."""
    file, out = read(BUNDLED), []
    with tempfile.TemporaryDirectory() as folder:
        for clip in range(len(file.clips)):
            action = apply_motion(armature, file.get_motion(clip), 1, 20.0, KeyOptions(foot_lock="soft"))
            last, tiles = int(action.frame_range[1]), []
            for frame in np.linspace(1, last, FRAMES + 2)[1:-1].round().astype(int):
                scene.frame_set(int(frame))
                _follow(scene, armature, pelvis)
                scene.render.filepath = f"{folder}/{clip}_{frame}.png"
                with silence_stdout():
                    bpy.ops.render.render(write_still=True)
                tiles.append(np.asarray(Image.open(scene.render.filepath).convert("RGB")))
            out.append(np.concatenate(tiles, 1))
    return out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "motions.png")
    args = parser.parse_args()
    scene = _stage()
    person = add_character(bpy.context, load(MANNEQUIN), "Mannequin")
    next(o for o in bpy.data.objects if o.parent == person).data.materials.append(_material("Skin", (0.8, 0.35, 0.2)))
    left = rows(scene, person, "pelvis")
    scene = _stage()
    other = rigs.build(rigs.proportions(1.2, 1.1, 50), rigs.family("Mixamo"), True, True)
    _blocks(other).data.materials.append(_material("Metal", (0.1, 0.35, 0.6)))
    right = rows(scene, other, "Hips")
    gap = np.full((left[0].shape[0], 8, 3), 255, np.uint8)
    sheet = np.concatenate([np.concatenate([a, gap, b], 1) for a, b in zip(left, right, strict=True)])
    Image.fromarray(sheet).quantize(96).save(args.out, optimize=True)
    print(args.out)


if __name__ == "__main__":
    main()
