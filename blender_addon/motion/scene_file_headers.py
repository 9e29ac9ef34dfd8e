"""What a file of a whole scene says of itself, without importing it: its kind, and the names of its animations. No bpy."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...shared.files import read_file
from ...shared.motion import MAX_FPS, MotionError
from .usd_rate import DEFAULT_RATE, read_usd_rate

#: bytes of a file, animations of it, characters of a name, and nodes of an FBX file that are looked at
MAX_BYTES, MAX_ANIMATIONS, MAX_NAME, MAX_NODES = 1 << 30, 1000, 200, 1_000_000
_FBX, _GLB, _USDC, _ZIP = b"Kaydara FBX Binary  \x00", b"glTF", b"PXR-USDC", b"PK\x03\x04"


@dataclass(frozen=True)
class SceneFileHeader:
    """``kind`` FBX, glTF or USD; ``animations`` their names in the file's order, empty where only importing would tell;
    ``is_text`` for the text form of FBX; ``rate`` frames per second where the importer does not see to it, else 0; ``note``: what
    was guessed."""

    kind: str
    animations: tuple[str, ...] = ()
    is_text: bool = False
    rate: float = 0.0
    note: str = ""

    def describe(self) -> list[str]:
        """The kind, then a line for each animation."""
        if not self.animations:
            rate = [f"{self.rate:g} fps"] if self.rate else []
            return [self.kind, *rate, *filter(None, [self.note]), "What it contains is seen when it is imported"]
        return [self.kind, *(f"{n}: {name}" for n, name in enumerate(self.animations))]


def read_scene_file_header(path: Path) -> SceneFileHeader:
    """The header of an FBX, glTF, VRM or USD file; ``MotionError`` for a file that is missing, damaged or of another kind."""
    try:
        content = read_file(path, MAX_BYTES)
    except FileNotFoundError:
        raise MotionError(f"There is no motion file at {path}; check the path.") from None
    except OSError as error:
        raise MotionError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    try:
        header = _read_header(content)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, RecursionError):
        raise MotionError(f"{path.name} is damaged or cut off; export it again.") from None
    if header is None or not _fits(path.suffix.lower(), header.kind):
        what = "no FBX, glTF or USD file" if header is None else f"{header.kind} inside"
        raise MotionError(f"{path.name} is {what}, whatever its name says; export it again or correct its ending.")
    if header.rate > MAX_FPS:
        raise MotionError(f"{path.name} has a frame rate of {header.rate:g}; export it with one between 1 and {MAX_FPS:g}.")
    return header


def _fits(suffix: str, kind: str) -> bool:
    return kind == {".fbx": "FBX", ".glb": "glTF", ".gltf": "glTF", ".vrm": "glTF", ".vrma": "glTF"}.get(suffix, "USD")


def _read_header(content: bytes) -> SceneFileHeader | None:
    start = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if content.startswith(_FBX):
        return SceneFileHeader("FBX", tuple(_iter_fbx_stacks(content)))
    if (start.startswith(b";") and b"FBX" in start) or start.startswith(b"FBXHeaderExtension"):
        return SceneFileHeader("FBX", is_text=True)
    if content.startswith(_GLB):
        total, length, kind = struct.unpack_from("<8xIII", content)
        if kind != 0x4E4F534A or total > len(content) or 20 + length > total:
            raise ValueError("no JSON chunk")
        return _read_gltf(content[20 : 20 + length])
    if start.startswith(b"{"):
        return _read_gltf(content)
    if content.startswith((_USDC, _ZIP)) or start.startswith(b"#usda"):
        rate = read_usd_rate(content)
        if rate is None:
            return SceneFileHeader(
                "USD", rate=DEFAULT_RATE, note=f"Its rate cannot be read, so {DEFAULT_RATE:g} is taken; see Rate."
            )
        return SceneFileHeader("USD", rate=rate)
    return None


def _read_gltf(content: bytes) -> SceneFileHeader:
    data = json.loads(content.decode("utf-8-sig"))
    if "asset" not in data:
        raise ValueError("not glTF")
    animations = data.get("animations", [])[:MAX_ANIMATIONS]
    return SceneFileHeader("glTF", tuple(str(one.get("name", f"Anim_{n}"))[:MAX_NAME] for n, one in enumerate(animations)))


def _iter_fbx_stacks(content: bytes) -> Iterator[str]:
    """The names of the animation stacks in a binary FBX file; ``struct.error`` or ``ValueError`` when it is cut off."""
    version = struct.unpack_from("<I", content, 23)[0]
    wide = version >= 7500
    layout, size = ("<QQQB", 25) if wide else ("<IIIB", 13)
    at, found, inside = 27, 0, 0
    for _ in range(MAX_NODES):
        if inside and at >= inside:
            at, inside = inside, 0
        end, _, properties, name_length = struct.unpack_from(layout, content, at)
        if end == 0:
            if not inside:
                return
            at, inside = inside, 0
            continue
        if not at < end <= len(content):
            raise ValueError("a node ends outside of the file")
        name = content[at + size : at + size + name_length]
        first = at + size + name_length
        if name == b"Objects" and not inside:
            at, inside = first + properties, end
            continue
        if inside and name == b"AnimationStack" and found < MAX_ANIMATIONS:
            found += 1
            yield _read_fbx_name(content, first)
        at = end


def _read_fbx_name(content: bytes, at: int) -> str:
    """The second property of an FBX node, a name with its class behind a zero byte; the first is its number."""
    if content[at : at + 1] != b"L" or content[at + 9 : at + 10] != b"S":
        raise ValueError("an animation stack has no name")
    length = struct.unpack_from("<I", content, at + 10)[0]
    return content[at + 14 : at + 14 + min(length, 4 * MAX_NAME)].split(b"\0")[0].decode("utf-8", "replace")[:MAX_NAME]
