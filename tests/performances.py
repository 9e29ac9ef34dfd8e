"""A performance on a skeleton with names, axes and units of other programs, the files that they write of it, and where it is.

Files are written byte by byte, as other programs lay them out; ``follow`` says where the bones are, from the file's own numbers:
local rotations as quaternions, offsets, and the place of the root.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.retarget import retarget
from latentman.shared.skeleton import SMPL_JOINTS, SMPL_PARENTS
from tools import rigs
from tools.limbs import LIMBS


@dataclass(frozen=True)
class Performance:
    """B bones over F frames, Y up, in metres: ``rest`` (B, 4) local quaternions (w, x, y, z) and ``offsets`` (B, 3) from the parent
    in its axes; ``local`` (F, B, 4) and ``root`` (F, 3) of the motion; ``joints`` joint -> bone."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    rest: np.ndarray
    offsets: np.ndarray
    local: np.ndarray
    root: np.ndarray
    fps: float
    joints: dict[str, str]


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of quaternions (..., 4), (w, x, y, z)."""
    w, v, x, u = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    return np.concatenate([w * x - (v * u).sum(-1, keepdims=True), w * u + x * v + np.cross(v, u)], -1)


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) rotated by quaternions (..., 4)."""
    v = quaternion[..., 1:]
    return vector + 2 * np.cross(v, np.cross(v, vector) + quaternion[..., :1] * vector)


def to_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3)."""
    return np.stack([rotate(quaternion, np.broadcast_to(axis, (*quaternion.shape[:-1], 3))) for axis in np.eye(3)], -1)


def to_quaternion(matrix: np.ndarray) -> np.ndarray:
    """The unit quaternions of rotation matrices (..., 3, 3): the eigenvectors of the greatest eigenvalue."""
    m = matrix
    k = np.empty((*m.shape[:-2], 4, 4))
    skew = np.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1)
    trace = np.trace(m, axis1=-2, axis2=-1)
    k[..., 0, 0] = trace
    k[..., 0, 1:], k[..., 1:, 0] = skew, skew
    k[..., 1:, 1:] = m + np.swapaxes(m, -1, -2) - trace[..., None, None] * np.eye(3)
    return np.linalg.eigh(k)[1][..., -1]


def follow(performance: Performance) -> np.ndarray:
    """(F, B, 3) places of the bones' heads, Y up, in metres."""
    turned, places = [], []
    for n, parent in enumerate(performance.parents):
        local = performance.local[:, n]
        if parent < 0:
            turned.append(local)
            places.append(performance.root if not places else np.broadcast_to(performance.offsets[n], performance.root.shape))
        else:
            turned.append(multiply(turned[parent], local))
            places.append(places[parent] + rotate(turned[parent], performance.offsets[n]))
    return np.stack(places, 1)


def make_performance(
    names: dict[str, str],
    clip: int = 1,
    frames: int = 12,
    fps: float = 30.0,
    seed: int = 3,
    leg: float = 1.1,
    arm: float = 0.9,
    arms_down: float = 0.0,
    every: int = 3,
) -> Performance:
    """A bundled clip on a skeleton of other proportions, whose bones have axes of their own; every ``every``-th frame of it."""
    rest_joints = rigs.make_joints(leg, arm, arms_down)
    motion = read(BUNDLED).get_motion(clip)
    posed = retarget(motion.crop(0, frames * every), rest_joints)
    turned, pelvis = posed.global_rotations[::every], posed.pelvis[::every]
    used = [n for n, joint in enumerate(SMPL_JOINTS) if joint in names]
    parents = []
    for joint in used:
        parent = SMPL_PARENTS[joint]
        while parent >= 0 and parent not in used:
            parent = SMPL_PARENTS[parent]
        parents.append(used.index(parent) if parent >= 0 else -1)
    rng = np.random.default_rng(seed)
    quaternions = rng.normal(size=(len(used), 4))
    axes = to_matrix(quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True))
    whole = turned[:, used] @ axes
    local, rest, offsets = whole.copy(), axes.copy(), np.zeros((len(used), 3))
    for n, parent in enumerate(parents):
        if parent >= 0:
            local[:, n] = np.swapaxes(whole[:, parent], -1, -2) @ whole[:, n]
            rest[n] = axes[parent].T @ axes[n]
            offsets[n] = axes[parent].T @ (rest_joints[used[n]] - rest_joints[used[parent]])
    offsets[0] = rest_joints[used[0]]
    bones = tuple(names[SMPL_JOINTS[joint]] for joint in used)
    quaternions = to_quaternion(local)
    for frame in range(1, len(quaternions)):
        flip = (quaternions[frame] * quaternions[frame - 1]).sum(-1) < 0
        quaternions[frame][flip] *= -1
    return Performance(
        bones,
        tuple(parents),
        to_quaternion(rest),
        offsets,
        quaternions,
        pelvis,
        fps,
        {SMPL_JOINTS[joint]: bone for joint, bone in zip(used, bones, strict=True)},
    )


def to_blender(points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of a file with Y up, as Blender has them."""
    return points[..., [0, 2, 1]] * [1, -1, 1]


# ------------------------------------------------------------------ glTF


def write_gltf(
    path: Path, clips: dict[str, Performance], binary: bool = False, centimetres: bool = False, skeleton: Performance | None = None
) -> Path:
    """A glTF file with a skin, a triangle that it moves, and an animation for each clip, as exporters for the web write it.

    In ``centimetres``, a node above the skeleton is scaled by 0.01, as files converted from FBX have it.
    """
    first = skeleton or next(iter(clips.values()))
    scale = 100.0 if centimetres else 1.0
    blob, views, accessors = bytearray(), [], []

    def add(values: np.ndarray, kind: str, component: int = 5126, **more: Any) -> int:
        data = values.astype({5126: "<f4", 5121: "u1", 5123: "<u2"}[component]).tobytes()
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(data)})
        blob.extend(data + bytes(-len(data) % 4))
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(values), "type": kind, **more})
        return len(accessors) - 1

    nodes: list[dict[str, Any]] = []
    for n, name in enumerate(first.names):
        children = [child for child, parent in enumerate(first.parents) if parent == n]
        nodes.append(
            {"name": name, "translation": (first.offsets[n] * scale).tolist(), "rotation": first.rest[n, [1, 2, 3, 0]].tolist()}
        )
        if children:
            nodes[n]["children"] = children
    roots = [n for n, parent in enumerate(first.parents) if parent < 0]
    top = len(nodes)
    nodes.append({"name": "Armature", "children": [*roots, top + 1]} | ({"scale": [0.01] * 3} if centimetres else {}))
    nodes.append({"name": "Body", "mesh": 0, "skin": 0})
    binds = []
    at_rest = follow(
        Performance(first.names, first.parents, first.rest, first.offsets, first.rest[None], first.offsets[:1], 1.0, {})
    )[0]
    turned: list[np.ndarray] = []
    for n, parent in enumerate(first.parents):
        turned.append(first.rest[n] if parent < 0 else multiply(turned[parent], first.rest[n]))
        bind = np.eye(4)
        bind[:3, :3], bind[:3, 3] = to_matrix(turned[n]), at_rest[n] * scale
        if centimetres:
            bind = np.diag([0.01, 0.01, 0.01, 1.0]) @ bind
        binds.append(np.linalg.inv(bind).T.ravel())
    skin = {"joints": list(range(len(first.names))), "inverseBindMatrices": add(np.array(binds), "MAT4")}
    corners = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
    mesh = {
        "primitives": [
            {
                "attributes": {
                    "POSITION": add(corners, "VEC3", min=[0, 0, 0], max=[0.1, 0.1, 0]),
                    "JOINTS_0": add(np.zeros((3, 4)), "VEC4", 5121),
                    "WEIGHTS_0": add(np.array([[1, 0, 0, 0]] * 3), "VEC4"),
                },
                "material": 0,
            }
        ]
    }
    animations = []
    for name, clip in clips.items():
        times = np.arange(len(clip.root)) / clip.fps
        time = add(times, "SCALAR", min=[0.0], max=[float(times[-1])])
        samplers, channels = [], []
        for n in range(len(clip.names)):
            if n in roots:
                samplers.append({"input": time, "output": add(clip.root * scale, "VEC3"), "interpolation": "LINEAR"})
                channels.append({"sampler": len(samplers) - 1, "target": {"node": n, "path": "translation"}})
            # writers leave out what stays as in the node
            if np.abs(np.abs((clip.local[:, n] * clip.rest[n]).sum(-1)) - 1).max() > 1e-9:
                samplers.append(
                    {"input": time, "output": add(clip.local[:, n][:, [1, 2, 3, 0]], "VEC4"), "interpolation": "LINEAR"}
                )
                channels.append({"sampler": len(samplers) - 1, "target": {"node": n, "path": "rotation"}})
        animations.append({"name": name, "samplers": samplers, "channels": channels})
    data = {
        "asset": {"version": "2.0", "generator": "THREE.GLTFExporter"},
        "scene": 0,
        "scenes": [{"nodes": [top]}],
        "nodes": nodes,
        "meshes": [mesh],
        "materials": [{"name": "Skin"}],
        "skins": [skin],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    } | ({"animations": animations} if animations else {})
    if binary:
        text = json.dumps(data).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + bytes(blob)
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    else:
        data["buffers"][0]["uri"] = f"{path.stem}.bin"
        path.with_suffix(".bin").write_bytes(bytes(blob))
        path.write_text(json.dumps(data))
    return path


# ------------------------------------------------------------------- USD


def write_usda(path: Path, performance: Performance, metres_per_unit: float = 0.01) -> Path:
    """A USD file in text form with a UsdSkel skeleton and its animation, Y up, in centimetres, as Maya's and Unreal's are."""
    scale = 1 / metres_per_unit
    p = performance
    paths: list[str] = []
    for name, parent in zip(p.names, p.parents, strict=True):
        clean = name.replace(":", "_").replace(" ", "_").replace(".", "_")
        paths.append(clean if parent < 0 else f"{paths[parent]}/{clean}")

    def matrix(rotation: np.ndarray, place: np.ndarray) -> str:
        # USD's vectors are rows
        m = np.eye(4)
        m[:3, :3], m[3, :3] = to_matrix(rotation).T, place * scale
        return "( " + ", ".join("(" + ", ".join(f"{v:.9g}" for v in row) + ")" for row in m) + " )"

    def tuples(rows: np.ndarray) -> str:
        return "[" + ", ".join("(" + ", ".join(f"{v:.9g}" for v in row) + ")" for row in rows) + "]"

    turned: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for n, parent in enumerate(p.parents):
        turned.append(p.rest[n] if parent < 0 else multiply(turned[parent], p.rest[n]))
        places.append(p.offsets[n] if parent < 0 else places[parent] + rotate(turned[parent], p.offsets[n]))
    joints = "[" + ", ".join(f'"{one}"' for one in paths) + "]"
    frames = len(p.root)
    translations = np.repeat(p.offsets[None], frames, 0)
    translations[:, 0] = p.root
    ones = "[" + ", ".join("(1, 1, 1)" for _ in paths) + "]"
    lines = [
        "#usda 1.0",
        f'( defaultPrim = "Root"\n  endTimeCode = {frames - 1}\n  startTimeCode = 0\n  metersPerUnit = {metres_per_unit}',
        f'  timeCodesPerSecond = {p.fps:g}\n  framesPerSecond = {p.fps:g}\n  upAxis = "Y" )',
        'def SkelRoot "Root" {',
        '  def Skeleton "Skel" ( prepend apiSchemas = ["SkelBindingAPI"] ) {',
        f"    uniform token[] joints = {joints}",
        f"    uniform matrix4d[] bindTransforms = [{', '.join(matrix(r, t) for r, t in zip(turned, places, strict=True))}]",
        f"    uniform matrix4d[] restTransforms = [{', '.join(matrix(r, t) for r, t in zip(p.rest, p.offsets, strict=True))}]",
        "    rel skel:animationSource = </Root/Skel/Anim>",
        '    def SkelAnimation "Anim" {',
        f"      uniform token[] joints = {joints}",
        "      quatf[] rotations.timeSamples = {",
        *(f"        {f}: {tuples(p.local[f])}," for f in range(frames)),
        "      }",
        "      float3[] translations.timeSamples = {",
        *(f"        {f}: {tuples(translations[f] * scale)}," for f in range(frames)),
        "      }",
        f"      half3[] scales = {ones}",
        "    }",
        "  }",
        "}",
    ]
    path.write_text("\n".join(lines))
    return path


# ------------------------------------------------------------------- FBX

KTIME = 46186158000
#: FBX's numbers for frame rates
TIME_MODES = {120.0: 1, 100.0: 2, 60.0: 3, 50.0: 4, 48.0: 5, 30.0: 6, 25.0: 10, 24.0: 11}


def _fbx_property(value: Any) -> bytes:
    if isinstance(value, bytes):
        return b"S" + struct.pack("<I", len(value)) + value
    if isinstance(value, str):
        return _fbx_property(value.encode())
    if isinstance(value, np.ndarray):
        code = {"int64": b"l", "float32": b"f", "int32": b"i", "float64": b"d"}[value.dtype.name]
        return code + struct.pack("<III", len(value), 0, value.nbytes) + value.tobytes()
    if isinstance(value, float):
        return b"D" + struct.pack("<d", value)
    if isinstance(value, bool):
        return b"C" + struct.pack("<B", value)
    if isinstance(value, np.int64):
        return b"L" + value.tobytes()
    return b"I" + struct.pack("<i", value)


def _fbx_node(name: str, properties: Sequence[Any] = (), children: Sequence[Any] = ()) -> tuple[str, Sequence[Any], Sequence[Any]]:
    return name, properties, children


def _fbx_write(node: tuple[str, Sequence[Any], Sequence[Any]], at: int) -> bytes:
    name, properties, children = node
    data = b"".join(_fbx_property(value) for value in properties)
    head = 13 + len(name)
    body, inside = b"", at + head + len(data)
    for child in children:
        body += _fbx_write(child, inside + len(body))
    if children:
        body += bytes(13)
    return struct.pack("<IIIB", inside + len(body), len(properties), len(data), len(name)) + name.encode() + data + body


def _properties70(*rows: Sequence[Any]) -> Any:
    return _fbx_node("Properties70", (), [_fbx_node("P", row) for row in rows])


def to_euler_xyz(matrix: np.ndarray) -> np.ndarray:
    """(..., 3) degrees about X, then Y, then Z, of rotation matrices (..., 3, 3)."""
    y = np.arcsin(np.clip(-matrix[..., 2, 0], -1, 1))
    x = np.arctan2(matrix[..., 2, 1], matrix[..., 2, 2])
    z = np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return np.degrees(np.stack([x, y, z], -1))


def write_fbx(path: Path, clips: dict[str, Performance], skeleton: Performance | None = None, unit: float = 1.0) -> Path:
    """A binary FBX 7.4 file of a skeleton without a skin, Y up, in centimetres, with pre-rotations, as Mixamo's downloads are.

    ``unit`` is FBX's UnitScaleFactor, the centimetres of a unit; the numbers are in that unit.
    """
    first = skeleton or next(iter(clips.values()))
    scale = 100.0 / unit
    objects: list[Any] = []
    links: list[Any] = []
    pre = to_euler_xyz(to_matrix(first.rest))
    models = [np.int64(1_000_000 + n) for n in range(len(first.names))]
    for n, (name, parent) in enumerate(zip(first.names, first.parents, strict=True)):
        attribute = np.int64(2_000_000 + n)
        objects.append(
            _fbx_node("NodeAttribute", (attribute, f"{name}\0\1NodeAttribute", "LimbNode"), [_fbx_node("TypeFlags", ("Skeleton",))])
        )
        place = [float(v) for v in first.offsets[n] * scale]
        objects.append(
            _fbx_node(
                "Model",
                (models[n], f"{name}\0\1Model", "LimbNode"),
                [
                    _fbx_node("Version", (232,)),
                    _properties70(
                        ("RotationActive", "bool", "", "", 1),
                        ("PreRotation", "Vector3D", "Vector", "", *[float(v) for v in pre[n]]),
                        ("InheritType", "enum", "", "", 1),
                        ("Lcl Translation", "Lcl Translation", "", "A", *place),
                        ("Lcl Rotation", "Lcl Rotation", "", "A", 0.0, 0.0, 0.0),
                        ("Lcl Scaling", "Lcl Scaling", "", "A", 1.0, 1.0, 1.0),
                    ),
                ],
            )
        )
        links.append(("OO", models[n], models[parent] if parent >= 0 else np.int64(0)))
        links.append(("OO", attribute, models[n]))
    number = np.int64(3_000_000)
    for stack, clip in clips.items():
        frames = len(clip.root)
        times = np.round(np.arange(frames) / clip.fps * KTIME).astype(np.int64)
        stack_id, layer_id = number, number + 1
        number += 2
        objects.append(
            _fbx_node(
                "AnimationStack",
                (stack_id, f"{stack}\0\1AnimStack", ""),
                [_properties70(("LocalStop", "KTime", "Time", "", times[-1]), ("ReferenceStop", "KTime", "Time", "", times[-1]))],
            )
        )
        objects.append(_fbx_node("AnimationLayer", (layer_id, "Layer0\0\1AnimLayer", "")))
        links.append(("OO", layer_id, stack_id))
        for n, parent in enumerate(clip.parents):
            turned = np.swapaxes(to_matrix(clip.rest[n]), -1, -2) @ to_matrix(clip.local[:, n])
            angles = np.degrees(np.unwrap(np.radians(to_euler_xyz(turned)), axis=0))
            tracks = [("R", "Lcl Rotation", angles)]
            if parent < 0:
                tracks.append(("T", "Lcl Translation", clip.root * scale))
            for letter, channel, values in tracks:
                node_id = number
                number += 1
                objects.append(
                    _fbx_node(
                        "AnimationCurveNode",
                        (node_id, f"{letter}\0\1AnimCurveNode", ""),
                        [_properties70(*((f"d|{axis}", "Number", "", "A", float(values[0, k])) for k, axis in enumerate("XYZ")))],
                    )
                )
                links += [("OO", node_id, layer_id), ("OP", node_id, models[n], channel)]
                for k, axis in enumerate("XYZ"):
                    objects.append(
                        _fbx_node(
                            "AnimationCurve",
                            (number, "\0\1AnimCurve", ""),
                            [
                                _fbx_node("Default", (0.0,)),
                                _fbx_node("KeyVer", (4008,)),
                                _fbx_node("KeyTime", (times,)),
                                _fbx_node("KeyValueFloat", (values[:, k].astype(np.float32),)),
                                _fbx_node("KeyAttrFlags", (np.array([4], np.int32),)),
                                _fbx_node("KeyAttrDataFloat", (np.zeros(4, np.float32),)),
                                _fbx_node("KeyAttrRefCount", (np.array([frames], np.int32),)),
                            ],
                        )
                    )
                    links.append(("OP", number, node_id, f"d|{axis}"))
                    number += 1
    settings = _properties70(
        ("UpAxis", "int", "Integer", "", 1),
        ("UpAxisSign", "int", "Integer", "", 1),
        ("FrontAxis", "int", "Integer", "", 2),
        ("FrontAxisSign", "int", "Integer", "", 1),
        ("CoordAxis", "int", "Integer", "", 0),
        ("CoordAxisSign", "int", "Integer", "", 1),
        ("UnitScaleFactor", "double", "Number", "", unit),
        ("TimeMode", "enum", "", "", TIME_MODES.get(first.fps, 14)),
        ("CustomFrameRate", "double", "Number", "", first.fps),
    )
    nodes = [
        _fbx_node("FBXHeaderExtension", (), [_fbx_node("FBXHeaderVersion", (1003,)), _fbx_node("FBXVersion", (7400,))]),
        _fbx_node("GlobalSettings", (), [_fbx_node("Version", (1000,)), settings]),
        _fbx_node("Definitions", (), [_fbx_node("Version", (100,)), _fbx_node("Count", (len(objects),))]),
        _fbx_node("Objects", (), objects),
        _fbx_node("Connections", (), [_fbx_node("C", link) for link in links]),
    ]
    out = b"Kaydara FBX Binary  \x00\x1a\x00" + struct.pack("<I", 7400)
    for node in nodes:
        out += _fbx_write(node, len(out))
    path.write_bytes(out + bytes(13) + bytes(160))
    return path


def measure_angles(seen: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """Limb -> (F,) degrees between its directions in two bodies, each joint -> (F, 3) places in one space."""
    out = {}
    for a, b in LIMBS:
        if {a, b} <= set(seen) & set(wanted):
            u, v = seen[b] - seen[a], wanted[b] - wanted[a]
            cosine = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
            out[a, b] = np.degrees(
                np.arctan2(
                    np.linalg.norm(np.cross(u, v), axis=-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1), cosine
                )
            )
    return out


def get_places(performance: Performance) -> dict[str, np.ndarray]:
    """Joint -> (F, 3) places in Blender's axes, in metres."""
    places = to_blender(follow(performance))
    index = {name: n for n, name in enumerate(performance.names)}
    return {joint: places[:, index[bone]] for joint, bone in performance.joints.items()}
