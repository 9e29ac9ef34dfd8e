"""What a file is that holds no motion which can be read: its kind by its first bytes, and what to do with it. No bpy.

Each sentence is what comes after the file's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

#: bytes of a file that are looked at
HEAD = 4096
ARMATURE = "use Import Motion in Blender, or import it and choose its armature as Source"
VIDEO = "is a video; run a pose estimator such as GVHMR on it and import its result"
PICTURE = "is a picture; a motion needs a file of joints or rotations over time"
SOUND = "is a sound file; a motion needs a file of joints or rotations over time"
BLEND = "is a Blender file; append the armature in it and choose it as Source"
SKELETON = "is an Acclaim skeleton; convert ASF and AMC to BVH"
WEIGHTS = "holds the weights of a network; put the folder of an MDM checkpoint into Model, in Model and Clips"
ARCHIVE = "is an archive; unpack it and choose a motion file in it"
BODY_MODEL = "is a body model, not a motion; load it with Load SMPL in the box Character"
STATISTICS = "holds the mean or the deviation of a data set, not a motion; choose its folder as Mean and Std for normalised vectors"
FEATURES = "looks like features or a text's embedding, not like a motion"
MARKERS = "holds markers, which say nothing of bones; solve them to a skeleton in your capture program and export BVH or FBX"
OPENSIM = "holds OpenSim's joint angles, which need its model; export BVH or FBX"
MATLAB = "is a MATLAB or HDF5 file; save the arrays in it as .npz"
TABLE = "is a table of text; save its numbers as .npy or .npz, or export BVH"

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"BLENDER", BLEND),
    (0, b"Kaydara FBX Binary", f"is an FBX file; {ARMATURE}"),
    (0, b"; FBX ", f"is an FBX file; {ARMATURE}"),
    (0, b"glTF", f"is a glTF file; {ARMATURE}"),
    (0, b"PXR-USDC", f"is a USD file; {ARMATURE}"),
    (0, b"#usda", f"is a USD file; {ARMATURE}"),
    (0, b"<?xml", f"is an XML file; if it is Collada, {ARMATURE}"),
    (0, b"Vocaloid Motion Data", "is an MMD motion (VMD); import it with MMD Tools and choose the armature as Source"),
    (0, b"Pmx ", "is an MMD model; import it with MMD Tools"),
    (0, b"HIERARCHY", "is a BVH file; give it the ending .bvh"),
    (0, b"PathFileType", MARKERS),
    (4, b"ftyp", VIDEO),
    (4, b"moov", VIDEO),
    (4, b"mdat", VIDEO),
    (0, b"\x1aE\xdf\xa3", VIDEO),
    (0, b"FLV\x01", VIDEO),
    (0, b"\x00\x00\x01\xba", VIDEO),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", VIDEO),
    (8, b"AVI ", VIDEO),
    (8, b"WEBP", PICTURE),
    (8, b"WAVE", SOUND),
    (0, b"ID3", SOUND),
    (0, b"\x89PNG", PICTURE),
    (0, b"\xff\xd8\xff", PICTURE),
    (0, b"GIF8", PICTURE),
    (0, b"II*\x00", PICTURE),
    (0, b"MM\x00*", PICTURE),
    (0, b"v/1\x01", PICTURE),
    (0, b"#?RADIANCE", PICTURE),
    (0, b"8BPS", PICTURE),
    (0, b"\x89HDF", MATLAB),
    (0, b"MATLAB ", MATLAB),
    (0, b"7z\xbc\xaf", ARCHIVE),
    (0, b"Rar!", ARCHIVE),
    (257, b"ustar", ARCHIVE),
    (0, b"%PDF", "is a PDF document"),
    (0, b"GGUF", WEIGHTS),
    (0, b"version https://git-lfs", "is only a pointer of Git LFS; download the file itself, with 'git lfs pull'"),
    (0, b":bone-data", SKELETON),
)
_SUFFIXES = {
    ".fbx": f"is not a sound FBX file; export it again, {ARMATURE}",
    ".c3d": MARKERS,
    ".trc": MARKERS,
    ".mot": OPENSIM,
    ".sto": OPENSIM,
    ".vrma": f"is a VRM animation; {ARMATURE}",
    ".vrm": f"is a VRM model; {ARMATURE}",
    ".asf": SKELETON,
    ".amc": "is an Acclaim motion; convert ASF and AMC to BVH",
    ".dae": f"is a Collada file; {ARMATURE}",
    ".gltf": f"is a glTF file; {ARMATURE}",
    ".csv": TABLE,
    ".tsv": TABLE,
    ".txt": TABLE,
    ".bmp": PICTURE,
    ".mpg": VIDEO,
    ".ts": VIDEO,
    ".safetensors": WEIGHTS,
    ".ckpt": WEIGHTS,
    ".mcs": "is a scene of Meshcapade; export its motion as .npz",
}
_WEIGHT = re.compile(r"\.(weight|bias|running_mean|running_var|weight_ih_l0|in_proj_weight|num_batches_tracked)$")
_BODY_MODEL = ({"v_template", "J_regressor"}, {"v_template", "shapedirs"}, {"template_v", "weights"})
_CHECKPOINTS = ({"state_dict"}, {"model", "optimizer"}, {"model", "model_avg"}, {"model", "ema"}, {"optimizer_state_dict"})


def name_by_start(start: bytes, suffix: str) -> str:
    """What a file is by its first ``HEAD`` bytes and its ending in small letters; empty when it may hold a motion.

    The bytes count more than the ending: files of numpy, pickle, torch and JSON are looked into whatever they are called.
    """
    if not start:
        return "is empty; export it again"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if suffix in (".vrma", ".vrm") and start.startswith(b"glTF"):
        return _SUFFIXES[suffix]
    for at, magic, kind in _MAGIC:
        if (text if at == 0 and magic.isascii() else start)[at:].startswith(magic):
            return kind
    lower = text[:200].lower()
    if lower.startswith((b"<!doctype html", b"<html")):
        return "is a web page, so the download failed; download the file itself"
    if re.match(rb"[^\n]*\n(version=\d+|nrows=\d+|datacolumns|name )", text[:400], re.IGNORECASE):
        return OPENSIM
    if suffix == ".c3d" or (len(start) >= 512 and start[1] == 0x50 and start[0] in range(2, 10) and suffix not in (".npy", ".npz")):
        return MARKERS
    if _is_safetensors(start):
        return WEIGHTS
    if suffix == ".blend":
        return BLEND
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or start.startswith(b"\x93NUMPY"):
        return ""
    if suffix in (".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".json", ".joblib"):
        return ""
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    return TABLE if _is_table(text) else ""


def _is_safetensors(start: bytes) -> bool:
    return len(start) > 10 and start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 27


def _is_table(text: bytes) -> bool:
    try:
        first = text[:400].decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return False
    return len(first) > 1 and all(line.count(",") + line.count("\t") + line.count(" ") > 1 for line in first[:2])


def name_by_keys(keys: Iterable[Any]) -> str:
    """What an archive or a pickle is by the names in it; empty when they do not tell."""
    names = {key for key in keys if isinstance(key, str)}
    if any(wanted <= names for wanted in _BODY_MODEL):
        return BODY_MODEL
    if any(wanted <= names for wanted in _CHECKPOINTS) or sum(bool(_WEIGHT.search(name)) for name in names) > 1:
        return WEIGHTS
    if {"images", "annotations"} <= names or {"keypoints2d"} <= names:
        return "holds key points in pictures, not a motion in space; run a pose estimator such as GVHMR and import its result"
    if names and all(name.split("/")[-1] in ("img_feats", "features", "embeddings", "text_feat", "clip_feat") for name in names):
        return FEATURES
    return ""


def name_json(data: Any) -> str:
    """What a JSON file is that is not EasyMocap's."""
    if isinstance(data, Mapping):
        names = {str(key) for key in data}
        if {"diffusion_steps", "latent_dim"} & names and ({"arch", "dataset", "layers", "noise_schedule"} & names):
            return "holds the settings of an MDM checkpoint; put its folder into Model, in Model and Clips"
        if "asset" in names and {"nodes", "scenes", "meshes"} & names:
            return f"is a glTF file; {ARMATURE}"
        if {"joint", "bones", "map", "joints"} & names:
            return "holds a bone map or a skeleton, not a motion; load bone maps in the box Body and Bones"
        if "people" in names and "version" in names:
            return "holds OpenPose's key points in a picture; run a pose estimator such as GVHMR and import its result"
    return "is a JSON file, but none of EasyMocap (a list of people with 'id', 'Rh', 'Th' and 'poses')"


def parse_json(content: bytes) -> Any:
    """The value of a JSON file. Raises ``ValueError``."""
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=lambda _: float("nan"))
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not a JSON file, or is cut off") from error
