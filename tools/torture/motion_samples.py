"""Small sound files of motions as other programs write them, to be changed: torch's, joblib's, EasyMocap's, BVH, and the heads of
files of whole scenes.

What needs another program's package is written by hand here, byte by byte.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from typing import Any

import numpy as np

from latentman.shared.skeleton import SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS


def _make_parameters(frames: int) -> dict[str, np.ndarray]:
    """Somebody who walks straight on in SMPL's rest pose, as pose estimators split it."""
    path = np.zeros((frames, 3), np.float32)
    path[:, 2] = 0.05 * np.arange(frames)
    return {
        "global_orient": np.zeros((frames, 3), np.float32),
        "body_pose": np.zeros((frames, 63), np.float32),
        "transl": path,
        "betas": np.zeros((frames, 10), np.float32),
    }


def pack_torch(frames: int, legacy: bool = False) -> bytes:
    """A result of GVHMR's in torch's zip file, or in the form that torch wrote before version 1.6."""
    # the other samples are made where there is none
    import torch

    buffer = io.BytesIO()
    person = {name: torch.from_numpy(value) for name, value in _make_parameters(frames).items()}
    value = {"smpl_params_global": person, "smpl_params_incam": person, "K_fullimg": torch.eye(3).expand(frames, 3, 3)}
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def pack_joblib(frames: int) -> bytes:
    """A result of WHAM's in joblib's form: the bytes of an array lie in the pickle, behind an object that describes them."""
    person = _make_parameters(frames)
    pose = np.concatenate([person["global_orient"], person["body_pose"], np.zeros((frames, 6), np.float32)], 1)
    arrays = {
        "pose_world": pose,
        "trans_world": person["transl"],
        "pose": pose,
        "trans": person["transl"],
        "betas": person["betas"],
        "frame_ids": np.arange(frames),
    }
    entries = b"".join(_pickle_text(name) + _pickle_joblib_array(array) for name, array in arrays.items())
    return b"\x80\x02}K\x00}(" + entries + b"us."


def _pickle_text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _pickle_joblib_array(array: np.ndarray) -> bytes:
    code = array.dtype.str
    dtype = b"cnumpy\ndtype\n(" + _pickle_text(code[1:]) + b"\x89\x88tR(K\x03" + _pickle_text(code[0])
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = {
        "subclass": b"cnumpy\nndarray\n",
        "shape": b"(" + b"".join(b"K" + bytes([side]) for side in array.shape) + b"t",
        "order": _pickle_text("C"),
        "dtype": dtype,
        "allow_mmap": b"\x88",
    }
    described = b"}(" + b"".join(_pickle_text(name) + value for name, value in state.items()) + b"u"
    return b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + described + b"b" + array.tobytes()


def pack_easymocap(frames: int) -> bytes:
    """EasyMocap's people of every frame in one file."""
    path = _make_parameters(frames)["transl"].tolist()
    return json.dumps(
        [[{"id": 0, "Rh": [[0.0] * 3], "Th": [place], "poses": [[0.0] * 72], "shapes": [[0.0] * 10]}] for place in path]
    ).encode()


def write_bvh(frames: int) -> bytes:
    """A BVH file of SMPL's skeleton, which turns to and fro as it walks on."""
    lines, order = ["HIERARCHY"], []

    def write(joint: int, indent: str) -> None:
        order.append(joint)
        parent = SMPL_PARENTS[joint]
        offset = np.array(SMPL_REST_JOINTS[joint]) - (SMPL_REST_JOINTS[parent] if parent >= 0 else np.zeros(3))
        turns = "Zrotation Xrotation Yrotation"
        lines.extend(
            [
                f"{indent}{'JOINT' if parent >= 0 else 'ROOT'} {SMPL_JOINTS[joint]}",
                indent + "{",
                f"{indent}  OFFSET " + " ".join(f"{value:.4f}" for value in offset),
                f"{indent}  CHANNELS " + (f"3 {turns}" if parent >= 0 else f"6 Xposition Yposition Zposition {turns}"),
            ]
        )
        children = [child for child, above in enumerate(SMPL_PARENTS) if above == joint]
        for child in children:
            write(child, indent + "  ")
        if not children:
            lines.extend([f"{indent}  End Site", indent + "  {", f"{indent}    OFFSET 0 0.1 0", indent + "  }"])
        lines.append(indent + "}")

    write(0, "")
    lines += ["MOTION", f"Frames: {frames}", "Frame Time: 0.0333333"]
    for frame in range(frames):
        turns = f"0 {20 * np.sin(frame / 3):.3f} 0"
        lines.append(" ".join([f"0 0.95 {0.05 * frame:.2f}", *[turns] * len(order)]))
    return "\n".join([*lines, ""]).encode()


def write_gltf() -> bytes:
    """The text of a glTF file with two animations."""
    animations: list[dict[str, Any]] = [{"name": name, "channels": [], "samplers": []} for name in ("walk", "kick")]
    return json.dumps({"asset": {"version": "2.0"}, "scenes": [{"nodes": []}], "animations": animations}).encode()


def pack_glb() -> bytes:
    """The same as a binary file."""
    text = write_gltf()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text


def pack_fbx(wide: bool = False) -> bytes:
    """A binary FBX file with two animation stacks; ``wide`` has sizes of eight bytes, as from version 7.5 on."""
    layout = "<QQQB" if wide else "<IIIB"
    empty = bytes(struct.calcsize(layout))

    def write(at: int, name: bytes, properties: list[bytes], children: tuple[tuple[bytes, list[bytes]], ...] = ()) -> bytes:
        content = b"".join(properties)
        out = b""
        first = at + struct.calcsize(layout) + len(name) + len(content)
        for child, own in children:
            out += write(first + len(out), child, own)
        out += empty if children else b""
        return struct.pack(layout, first + len(out), len(properties), len(content), len(name)) + name + content + out

    def name(text: bytes) -> bytes:
        return b"S" + struct.pack("<I", len(text)) + text

    stacks = tuple(
        (b"AnimationStack", [b"L" + struct.pack("<q", n), name(stack + b"\0\x01AnimStack"), name(b"")])
        for n, stack in enumerate((b"walk", b"kick"))
    )
    out = b"Kaydara FBX Binary  \x00\x1a\x00" + struct.pack("<I", 7500 if wide else 7400)
    out += write(len(out), b"Creator", [name(b"a program")])
    out += write(len(out), b"Objects", [], stacks)
    return out + empty


def write_usda() -> bytes:
    """The text of a USD file at 30 frames per second."""
    return b'#usda 1.0\n(\n    doc = """A (walk)"""\n    timeCodesPerSecond = 30\n    upAxis = "Y"\n)\n\ndef Xform "root"\n{\n}\n'


def pack_usdz() -> bytes:
    """The same in an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("walk.usda", write_usda())
    return buffer.getvalue()


def pack_usdc() -> bytes:
    """A binary USD file ("crate") of the two tables that hold its rates, 30 in the table itself and 24 beside it."""
    tokens = b"upAxis\0timeCodesPerSecond\0framesPerSecond\0"
    packed = _pack_lz4(tokens)
    inlined = 1 << 62 | 9 << 48 | struct.unpack("<I", struct.pack("<f", 30.0))[0]
    values = _pack_lz4(struct.pack("<QQ", inlined, 9 << 48 | 88))
    # of two differences, each of one byte: the most common one, how long each is, then they themselves
    names = _pack_lz4(struct.pack("<iBbb", 0, 0b0101, 1, 1))
    sections = [
        (b"TOKENS", struct.pack("<QQQ", 3, len(tokens), len(packed)) + packed),
        (b"FIELDS", struct.pack("<QQ", 2, len(names)) + names + struct.pack("<Q", len(values)) + values),
    ]
    body, table = struct.pack("<d", 24.0), struct.pack("<Q", len(sections))
    for name, content in sections:
        table += struct.pack("<16sqq", name, 88 + len(body), len(content))
        body += content
    return struct.pack("<8s8Bq", b"PXR-USDC", 0, 8, 0, 0, 0, 0, 0, 0, 88 + len(body)).ljust(88, b"\0") + body + table


def _pack_lz4(data: bytes) -> bytes:
    """One block of literals alone, as USD compresses: a zero, the length, the bytes."""
    length = bytes([min(len(data), 15) << 4])
    if len(data) >= 15:
        rest = len(data) - 15
        length += b"\xff" * (rest // 255) + bytes([rest % 255])
    return b"\0" + length + data


def make_samples(frames: int = 9) -> dict[str, bytes]:
    """Every file by its name, whose ending says who reads it."""
    joined = pack_joblib(frames)
    return {
        "hmr4d_results.pt": pack_torch(frames),
        "old_results.pt": pack_torch(frames, legacy=True),
        "wham_output.pkl": joined,
        "compressed.pkl": zlib.compress(joined),
        "people.json": pack_easymocap(frames),
        "walk.bvh": write_bvh(frames),
        "walk.gltf": write_gltf(),
        "walk.glb": pack_glb(),
        "walk.fbx": pack_fbx(),
        "wide.fbx": pack_fbx(wide=True),
        "walk.usda": write_usda(),
        "walk.usdc": pack_usdc(),
        "walk.usdz": pack_usdz(),
    }
