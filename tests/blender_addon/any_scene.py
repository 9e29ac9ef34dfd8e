"""Scenes as people have them, built with a small character of our own, and the comparison of their passes with the oracle."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import bpy
import numpy as np
from mathutils import Matrix, Vector

from latentman.blender_addon.passes.render import PassRender
from latentman.shared.depth import compute_metric_depth
from latentman.shared.passes import FramePasses
from tests.oracles import blend_snapshot, surfaces_oracle
from tests.oracles.surfaces_oracle import Identity

SIZE = 96


def link(made: bpy.types.Object, collection: bpy.types.Collection | None = None) -> bpy.types.Object:
    """Put an object into a collection, the scene's own unless said otherwise."""
    (collection or bpy.context.scene.collection).objects.link(made)
    return made


def add_mesh(name: str, points, faces, collection=None, *, uv: bool = True) -> bpy.types.Object:
    """A mesh object, with texture coordinates that spread its faces' corners."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([tuple(map(float, p)) for p in points], [], faces)
    if uv:
        layer = mesh.uv_layers.new(name="UVMap")
        corners = np.array([mesh.vertices[loop.vertex_index].co for loop in mesh.loops])
        layer.data.foreach_set("uv", (corners[:, [0, 2]] * 0.2 + 0.5).astype(np.float32).ravel())
    return link(bpy.data.objects.new(name, mesh), collection)


def add_box(name: str, centre=(0, 0, 0), size=(1, 1, 1), collection=None, *, uv: bool = True) -> bpy.types.Object:
    """A box whose origin is its centre."""
    corners = [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    box = add_mesh(name, np.array(corners) * size, faces, collection, uv=uv)
    box.location = centre
    return box


def add_mesh_ball(name: str, radius=0.12) -> bpy.types.Object:
    """A ball of triangles."""
    a = (1 + 5**0.5) / 2
    points = [(-1, a, 0), (1, a, 0), (-1, -a, 0), (1, -a, 0), (0, -1, a), (0, 1, a), (0, -1, -a), (0, 1, -a)]
    points += [(a, 0, -1), (a, 0, 1), (-a, 0, -1), (-a, 0, 1)]
    places = np.array(points) * radius / np.hypot(1, a)
    side = 2 * radius / np.hypot(1, a)
    near = np.abs(np.linalg.norm(places[:, None] - places[None], axis=2) - side) < 1e-6
    faces = [(i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k] and near[i, k]]
    return add_mesh(name, places, faces)


def make_tube(name: str, radius=0.3, height=1.6, sides=10, rows=9) -> bpy.types.Mesh:
    """An upright tube with closed ends: its ends are polygons of many corners."""
    points = [
        (radius * math.cos(a), 0.7 * radius * math.sin(a), height * r / (rows - 1))
        for r in range(rows)
        for a in np.arange(sides) * 2 * math.pi / sides + 0.1
    ]
    faces = [
        (r * sides + n, r * sides + (n + 1) % sides, (r + 1) * sides + (n + 1) % sides, (r + 1) * sides + n)
        for r in range(rows - 1)
        for n in range(sides)
    ]
    faces += [tuple(reversed(range(sides))), tuple(range((rows - 1) * sides, rows * sides))]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(points, [], faces)
    layer = mesh.uv_layers.new(name="UVMap")
    corners = np.array([mesh.vertices[loop.vertex_index].co for loop in mesh.loops])
    layer.data.foreach_set("uv", (corners[:, [0, 2]] * 0.4 + 0.5).astype(np.float32).ravel())
    return mesh


BONES = (("Hips", 0.0, 0.6, ""), ("Chest", 0.6, 1.2, "Hips"), ("Head", 1.2, 1.6, "Chest"))


def add_rig(name: str, collection=None, *, keyed: bool = True) -> bpy.types.Object:
    """Three bones, one on the other, that bend over frames 1 to 20."""
    rig = link(bpy.data.objects.new(name, bpy.data.armatures.new(name)))
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for bone_name, low, high, parent in BONES:
        bone = rig.data.edit_bones.new(bone_name)
        bone.head, bone.tail = (0, 0, low), (0, 0, high)
        bone.parent = rig.data.edit_bones.get(parent)
    bpy.ops.object.mode_set(mode="OBJECT")
    if collection is not None:
        bpy.context.scene.collection.objects.unlink(rig)
        collection.objects.link(rig)
    for bone_name, angle in (("Chest", 0.5), ("Head", 0.4)):
        bone = rig.pose.bones[bone_name]
        bone.rotation_mode = "XYZ"
        for frame, amount in ((1, -1), (10, 1), (20, -1)) if keyed else ():
            bone.rotation_euler = (0.3 * amount, 0.0, angle * amount if bone_name == "Head" else 0.0)
            bone.rotation_euler.y = angle * amount
            bone.keyframe_insert("rotation_euler", frame=frame)
    return rig


def skin(body: bpy.types.Object, rig: bpy.types.Object) -> None:
    """Bind a mesh to a rig's bones by height, with soft changes from bone to bone."""
    for bone_name, low, high, _ in BONES:
        group = body.vertex_groups.new(name=bone_name)
        for vertex in body.data.vertices:
            z = vertex.co.z
            weight = min(1.0, max(0.0, 1 - max(low - z, z - high, 0) / 0.3))
            if weight > 0:
                group.add([vertex.index], weight, "REPLACE")
    body.parent = rig
    body.modifiers.new("Armature", "ARMATURE").object = rig


def add_character(name: str = "Ann", collection=None, mesh=None) -> tuple[bpy.types.Object, bpy.types.Object]:
    """A rig, and a body that it bends."""
    rig = add_rig(f"{name} Rig", collection)
    body = link(bpy.data.objects.new(f"{name} Body", mesh or make_tube(f"{name} Body")), collection)
    skin(body, rig)
    return rig, body


def add_camera(name: str = "Camera", location=(0.4, -5.0, 1.6), target=(0, 0, 0.8)) -> bpy.types.Object:
    """A camera that looks at a point."""
    camera = link(bpy.data.objects.new(name, bpy.data.cameras.new(name)))
    camera.location = location
    camera.rotation_euler = (Vector(target) - Vector(location)).to_track_quat("-Z", "Y").to_euler()
    return camera


def add_collection(name: str, parent: bpy.types.Collection | None = None) -> bpy.types.Collection:
    """A collection in the scene, or in another."""
    made = bpy.data.collections.new(name)
    (parent or bpy.context.scene.collection).children.link(made)
    return made


def add_instance(name: str, collection: bpy.types.Collection, location=(0, 0, 0), into=None) -> bpy.types.Object:
    """An object that shows a collection."""
    empty = link(bpy.data.objects.new(name, None), into)
    empty.instance_type, empty.instance_collection, empty.location = "COLLECTION", collection, location
    return empty


def make_material(name: str, build: Callable | None = None) -> bpy.types.Material:
    """A material with nodes; ``build`` gets the tree, its Principled BSDF and its output."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes = material.node_tree.nodes
    principled = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    output = next(node for node in nodes if node.type == "OUTPUT_MATERIAL")
    if build is not None:
        build(material.node_tree, principled, output)
    return material


def find_layer(collection: bpy.types.Collection, start=None) -> bpy.types.LayerCollection:
    """The settings of a collection in the context's view layer."""
    start = start or bpy.context.view_layer.layer_collection
    waiting = [start]
    while waiting:
        layer = waiting.pop()
        if layer.collection == collection:
            return layer
        waiting += layer.children
    raise KeyError(collection.name)


@dataclass
class Case:
    """What is picked and what its passes must show.

    ``who`` names the objects that are seen, with their character's number (0 for props); an instance counts by the object that it
    shows, or by who shows it. ``holes`` are those behind which nothing is seen. ``rest`` and ``metres`` are for ``look``;
    ``unknown_rest`` names objects whose rest positions are not compared.
    """

    picked: bpy.types.Object
    who: dict[str, int]
    frames: tuple[int, ...] = (3, 14)
    scope: str = "CHARACTER"
    width: int = SIZE
    height: int = SIZE
    holes: frozenset[str] = frozenset()
    rest: dict[str, np.ndarray] = field(default_factory=dict)
    metres: dict[str, float] = field(default_factory=dict)
    unknown_rest: frozenset[str] = frozenset()
    play_from: int | None = None
    #: pixels of the whole shot that must show a character, so that the case tries something
    least: int = 150
    #: paths of the snapshot that may differ
    may_differ: str = r"\.system_bookmarks"
    #: what is done to the file before the oracle looks at it
    before_look: Callable[[], None] | None = None


def find_number(who: dict[str, int], identity: Identity) -> int | None:
    """The character's number of a surface, None where it is not to be seen."""
    shower, name, _ = identity
    return who.get(f"{shower}/{name}", who.get(name, who.get(shower)))


def check_case(case: Case) -> tuple[PassRender, FramePasses]:
    """Render a case's passes in slices, as in a window, and compare them and the file with the oracles."""
    bpy.context.view_layer.update()
    before = blend_snapshot.take_snapshot()
    job = PassRender(bpy.context, case.picked, case.frames, case.width, case.height, scope=case.scope)
    list(job.render_all())
    passes = job.result()
    changes = blend_snapshot.diff(before, blend_snapshot.take_snapshot())
    changes = [line for line in changes if not re.search(case.may_differ, line)]
    assert not changes, "\n".join(changes[:40])
    if case.before_look is not None:
        case.before_look()
    compare(case, job, passes)
    return job, passes


def compare(case: Case, job: PassRender, passes: FramePasses) -> None:
    """Compare passes with the oracle: which surface, how far, where at rest, whose."""

    def is_seen(identity: Identity) -> bool:
        return find_number(case.who, identity) is not None or identity[1] in case.holes or identity[0] in case.holes

    looked = surfaces_oracle.look(
        case.frames, case.width, case.height, is_seen, rest=case.rest, metres=case.metres, play_from=case.play_from
    )
    index = passes.surface_index
    depths = [_find_depth(job, passes, n, looked[frame], index[n]) for n, frame in enumerate(case.frames)]
    votes: dict[int, dict[Identity, int]] = {}
    for n, frame in enumerate(case.frames):
        for number, counts in looked[frame].vote(index[n], depths[n]).items():
            for identity, count in counts.items():
                votes.setdefault(number, {})
                votes[number][identity] = votes[number].get(identity, 0) + count
    who = _assign(votes)
    names = {entry.index: entry.name for entry in job.manifest(24.0).surfaces}
    for number, identity in who.items():
        assert names[number] in (*identity, identity[1].split(" [")[0]), f"{number} is named {names[number]}, and shows {identity}"
    wrong = 0
    for n, frame in enumerate(case.frames):
        found = _find_wrong(case, passes.rest_position[n].astype(float), depths[n], looked[frame], index[n], who)
        if found.any():
            rows, cols = np.divmod(np.flatnonzero(found), case.width)
            wrong += len(rows)
            print(f"frame {frame}: {len(rows)} wrong pixels, rows {rows.min()}-{rows.max()}, columns {cols.min()}-{cols.max()}")
            met = {i: int((looked[frame].surface == k).sum()) for k, i in enumerate(looked[frame].identities)}
            print("  shown:", {who.get(int(k), k): int((index[n] == k).sum()) for k in np.unique(index[n])}, "met:", met)
    assert not wrong, f"{wrong} wrong pixels"
    for entry in job.manifest(24.0).surfaces:
        if entry.index in who:
            assert entry.character == find_number(case.who, who[entry.index]), f"{entry} is {who[entry.index]}"
    for number, identity in who.items():
        expected = find_number(case.who, identity)
        assert set(np.unique(passes.mask[index == number])) == {expected}, f"the mask of {identity}"
    assert (passes.mask > 0).sum() >= case.least
    _check_range(case, job, looked.values())


def _assign(votes: dict[int, dict[Identity, int]]) -> dict[int, Identity]:
    """A surface for each number, no surface twice, the clearest first."""
    out: dict[int, Identity] = {}
    pairs = [(count / sum(counts.values()), number, one) for number, counts in votes.items() for one, count in counts.items()]
    for _, number, identity in sorted(pairs, key=lambda entry: -entry[0]):
        if number not in out and identity not in out.values():
            out[number] = identity
    return out


def _find_depth(job, passes, n, looked, index) -> np.ndarray:
    """(H, W) planar depths in metres, inf where nothing is shown."""
    if passes.position is not None:
        to_camera = looked.eye.to_camera
        depth = -(passes.position[n].astype(float) @ to_camera[2, :3] + to_camera[2, 3])
    else:
        depth = compute_metric_depth(passes.depth[n], job.near, job.far).astype(float)
    return np.where(index > 0, depth, np.inf)


def _find_wrong(case, rest, depth, looked, index, who) -> np.ndarray:
    found = looked.find_wrong(index, depth, rest, who, case.holes)
    if case.unknown_rest:
        unknown = [number for number, identity in who.items() if identity[1] in case.unknown_rest]
        loose = looked.find_wrong(index, depth, None, who, case.holes)
        found = np.where(np.isin(index.ravel(), unknown), loose, found)
    return found


def _check_range(case: Case, job: PassRender, looked: Iterable[surfaces_oracle.OracleFrame]) -> None:
    """The depth range is that of the characters' vertices; around them it may be wider in a whole scene."""
    near, far = np.inf, -np.inf
    for frame in looked:
        here = frame.measure(lambda identity: bool(find_number(case.who, identity)))
        near, far = min(near, here[0]), max(far, here[1])
    if case.scope == "SCENE":
        assert job.near <= near + 1e-3 and job.far >= far - 1e-3, (job.near, near, job.far, far)
    else:
        assert abs(job.near - near) < 1e-3 and abs(job.far - far) < 1e-3, (job.near, near, job.far, far)


def to_matrix(*rows) -> Matrix:
    """A 4x4 matrix from its first rows."""
    return Matrix([*rows, (0, 0, 0, 1)])
