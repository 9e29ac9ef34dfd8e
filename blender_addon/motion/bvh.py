"""BVH files -> the movement of their skeleton, straight from the text. No bpy.

Every order of rotations, any channels on any joint, several roots, and what programs write in between are read; a file that
is damaged, or that claims more than it has, is a ``MotionError``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...shared.files import read_file
from ...shared.motion import MAX_FPS, MAX_FRAMES, MotionError
from .body_from_skeleton import BodyMotion, fit_body, sample_frames
from .skeleton_motion import SkeletonMotion

#: bytes and lines of a file, bytes of a line of its skeleton, bones, numbers in all frames, and the largest of them
MAX_BYTES, MAX_LINES, MAX_LINE, MAX_JOINTS, MAX_VALUES, LARGEST = 256 << 20, 2 * MAX_FRAMES + 20_000, 1000, 1024, 20_000_000, 1e9
#: bytes after the word MOTION in which the number of frames and their time stand
MOTION_HEAD = 4096
#: channels of a joint: three places, three rotations, and three scales, which are not used
MAX_CHANNELS = 9
#: how a number is spelled; what is no number ends the motion
_NUMBERS = re.compile(rb"[^-+.,\deE\s]")
_CHANNEL = re.compile(r"([xyz])_?(pos|tra|rot|sca)[a-z]*", re.IGNORECASE)
#: bytes of numbers that are read at a time
BLOCK = 1 << 22
#: stands for an End Site among the open braces
_END_SITE = -2


@dataclass(frozen=True)
class BvhFile:
    """A BVH file of B joints and F frames, in its own axes and unit.

    ``names`` (no two alike) and ``parents`` (B,), an index or -1, parents before their children; ``offsets`` (B, 3) from
    the parent; ``tips`` (B, 3): the End Site, nan where there is none; ``channels``: for each joint what its numbers are, in
    the order in which they stand: an axis and p, r or s for position, rotation in degrees or scale; ``values`` (F, all
    channels) float64; ``adds`` (B,): whether a joint's position channels are added to its offset instead of taking its
    place; ``fps``; ``source``: the file's name; ``notes``: sentences about what was odd.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    tips: np.ndarray
    channels: tuple[tuple[str, ...], ...]
    values: np.ndarray
    adds: np.ndarray
    fps: float
    source: str
    notes: tuple[str, ...] = ()

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self.values)

    def pose(self, frames: slice | np.ndarray | None = None) -> SkeletonMotion:
        """The movement of the skeleton in all frames, or in those chosen: of a long file it is large."""
        values = self.values if frames is None else self.values[frames]
        count, bones = len(values), len(self.names)
        positions, rotations = np.empty((count, bones, 3)), np.empty((count, bones, 3, 3))
        column = 0
        for bone, (parent, channels) in enumerate(zip(self.parents, self.channels, strict=True)):
            own = values[:, column : column + len(channels)]
            column += len(channels)
            place = np.tile(self.offsets[bone], (count, 1))
            # the three columns of the rotation, (F, 3) each
            axes = [np.tile(axis, (count, 1)) for axis in np.eye(3)]
            for channel, numbers in zip(channels, own.T, strict=True):
                axis, kind = "xyz".index(channel[0]), channel[1]
                if kind == "p":
                    place[:, axis] = numbers + (self.offsets[bone, axis] if self.adds[bone] else 0.0)
                elif kind == "r":
                    angle = np.radians(numbers)[:, None]
                    c, s, i, j = np.cos(angle), np.sin(angle), (axis + 1) % 3, (axis + 2) % 3
                    axes[i], axes[j] = c * axes[i] + s * axes[j], c * axes[j] - s * axes[i]
            local = np.stack(axes, -1)
            if parent < 0:
                positions[:, bone], rotations[:, bone] = place, local
            else:
                rotations[:, bone] = rotations[:, parent] @ local
                positions[:, bone] = positions[:, parent] + np.einsum("fij,fj->fi", rotations[:, parent], place)
        rest = np.zeros((bones, 3))
        for bone, parent in enumerate(self.parents):
            rest[bone] = self.offsets[bone] + (rest[parent] if parent >= 0 else 0.0)
        return SkeletonMotion(
            self.names,
            self.parents,
            positions,
            rotations,
            self.tips,
            rest,
            np.broadcast_to(np.eye(3), (bones, 3, 3)),
            self.fps,
            self.source,
        )


def _read_content(path: Path) -> bytes:
    """The bytes of a motion file; ``MotionError`` when there is none or it is too large."""
    try:
        return read_file(path, MAX_BYTES)
    except FileNotFoundError:
        raise MotionError(f"There is no motion file at {path}; check the path.") from None
    except OSError as error:
        raise MotionError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def open_bvh(path: Path | str) -> BvhFile:
    """A BVH file, wholly read and checked; ``MotionError`` for a file that is damaged or is not one."""
    path = Path(path)
    try:
        return _parse(_read_content(path), path.name)
    except (ValueError, MemoryError) as error:
        if isinstance(error, MotionError):
            raise
        raise MotionError(f"{path.name} {error or 'does not fit into the memory'}; export it again.") from None


def read_body(path: Path | str, fps: float = 0.0, mapping: dict[str, str] | None = None, up_axis: str | None = None) -> BodyMotion:
    """The motion of the person in a BVH file, and what was guessed about it.

    ``fps`` overrides the file's rate when it is not 0; ``mapping``: joint -> name of the file's bone, found by names or
    shape when None; ``up_axis``: a key of ``TO_BODY``, guessed when None. Raises ``MotionError`` for a file that cannot be
    read, and for a skeleton in which no person is found.
    """
    file = open_bvh(path)
    fit = fit_body(file.pose(sample_frames(file.frame_count)), mapping, up_axis)
    body = fit.convert(file.pose, file.frame_count, fps or file.fps, Path(path).stem)
    return replace(body, notes=(*file.notes, *body.notes))


def describe(path: Path | str, up_axis: str | None = None) -> list[str]:
    """The contents of a BVH file in lines: frames and rate, and what is guessed about its axes, unit and bones."""
    file = open_bvh(path)
    lines = ["BVH", f"{file.frame_count} frames at {file.fps:g} fps", *file.notes]
    try:
        return [*lines, *fit_body(file.pose(sample_frames(file.frame_count)), None, up_axis).notes]
    except MotionError as error:
        return [*lines, str(error)]


def _parse(content: bytes, source: str) -> BvhFile:
    """``ValueError`` says what is wrong with the file, ``MotionError`` in a whole sentence."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.count(b"\n") + content.count(b"\r") > MAX_LINES:
        raise ValueError("has more lines than a motion can have")
    start = re.search(rb"(?im)(?:^|[\r}])[ \t]*(MOTION)[ \t]*(?=$|\r)", content)
    hierarchy = content[: start.start(1)] if start else b""
    if start is None or not hierarchy.lstrip()[:9].upper() == b"HIERARCHY":
        raise ValueError("is not a BVH file, or it is cut off")
    head = content[start.end() : start.end() + MOTION_HEAD]
    frames = re.search(rb"(?i)Frames[ \t]*:?\s*(\d{1,9})\b", head)
    time = re.search(rb"(?i)Frame[ \t]*Time[ \t]*:?\s*([-+.,\de]{1,40})", head)
    if not frames or not time:
        raise ValueError("is not a BVH file, or it is cut off")
    count = int(frames.group(1))
    try:
        seconds = float(time.group(1).replace(b",", b"."))
    except ValueError:
        raise ValueError("has no readable frame time") from None
    names, parents, offsets, tips, channels = _parse_hierarchy(_decode(hierarchy.lstrip()[len("HIERARCHY") :]))
    width = sum(map(len, channels))
    values, more = _parse_values(content, start.end() + max(frames.end(), time.end()), count, width)
    if not 1 / MAX_FPS <= seconds < 10:
        raise MotionError(f"{source} has a frame time of {seconds:g} s; correct the line 'Frame Time:' in it.")
    rate = 1 / seconds
    return BvhFile(
        names,
        parents,
        offsets,
        tips,
        channels,
        values,
        _find_added_positions(parents, offsets, channels, values),
        float(round(rate)) if abs(rate - round(rate)) < 0.02 else rate,
        source,
        (f"The file holds more than the {count} frames that it announces; those were read.",) if more else (),
    )


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _parse_hierarchy(
    text: str,
) -> tuple[tuple[str, ...], tuple[int, ...], np.ndarray, np.ndarray, tuple[tuple[str, ...], ...]]:
    """(names, parents, offsets, tips, channels) as in ``BvhFile``; ``ValueError`` for what is no skeleton of a body."""
    lines = re.split(r"[\r\n]", text)
    if any(len(line) > MAX_LINE for line in lines):
        raise ValueError("has a line that is too long")
    words = iter([part for line in lines for part in _split_line(line)])
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    tips: list[list[float]] = []
    channels: list[tuple[str, ...]] = []
    open_blocks: list[int] = []
    named: int | None = None
    for word in words:
        kind = word.split(None, 1)[0].upper()
        if kind in ("ROOT", "JOINT"):
            if len(names) == MAX_JOINTS:
                raise ValueError(f"has more than {MAX_JOINTS} bones")
            if named is not None or (open_blocks and open_blocks[-1] == _END_SITE):
                raise ValueError("has bones without braces")
            names.append(_make_unique("".join(word.split(None, 1)[1:]).strip() or "bone", names))
            parents.append(open_blocks[-1] if open_blocks else -1)
            offsets.append([0.0] * 3)
            tips.append([np.nan] * 3)
            channels.append(())
            named = len(names) - 1
        elif kind in ("END", "ENDSITE", "SITE"):
            if not open_blocks or named is not None:
                raise ValueError("has an end of a bone where there is no bone")
            named = _END_SITE
        elif kind == "{":
            if named is None:
                raise ValueError("has braces without a bone")
            open_blocks.append(named)
            named = None
        elif kind == "}":
            if not open_blocks or named is not None:
                raise ValueError("has braces that do not fit together")
            open_blocks.pop()
        elif kind in ("OFFSET", "CHANNELS") and open_blocks:
            bone = open_blocks[-1]
            if kind == "CHANNELS":
                found = _take_channels(words)
                if bone != _END_SITE:
                    channels[bone] = found
                elif found:
                    raise ValueError("has channels at the end of a bone")
            elif bone != _END_SITE:
                offsets[bone] = _take_offset(words)
            else:
                tip, ended = _take_offset(words), open_blocks[-2]
                if np.isnan(tips[ended]).any():
                    tips[ended] = tip
        else:
            raise ValueError("has a line in its skeleton that is not BVH's")
    if open_blocks or named is not None or not names:
        raise ValueError("has a skeleton that is cut off")
    return tuple(names), tuple(parents), np.array(offsets), np.array(tips), tuple(channels)


def _split_line(line: str) -> list[str]:
    """A line's words and braces; a joint's name, which may have spaces, stays with its keyword."""
    out = []
    for part in re.findall(r"[{}]|[^{}]+", line.strip()):
        words = part.split()
        at = next((n for n, word in enumerate(words) if word.upper() in ("ROOT", "JOINT", "END", "ENDSITE", "SITE")), len(words))
        out += words[:at]
        if at < len(words):
            out.append(" ".join(words[at:]) if at else part.strip())
    return out


def _make_unique(name: str, taken: list[str]) -> str:
    out, number = name, 0
    while out in taken:
        number += 1
        out = f"{name}.{number:03d}"
    return out


def _take_offset(words: Iterator[str]) -> list[float]:
    try:
        numbers = [float(next(words).replace(",", ".").rstrip(".") or "x") for _ in range(3)]
    except (ValueError, StopIteration):
        numbers = []
    # neither inf nor nan is smaller
    if not numbers or not all(abs(number) < LARGEST for number in numbers):
        raise ValueError("has bones whose places are not numbers")
    return numbers


def _take_channels(words: Iterator[str]) -> tuple[str, ...]:
    count = next(words, "")
    if not re.fullmatch(r"\d{1,2}", count) or int(count) > MAX_CHANNELS:
        raise ValueError("has bones with other channels than they announce")
    out = []
    for _ in range(int(count)):
        found = _CHANNEL.fullmatch(next(words, ""))
        if not found:
            raise ValueError("has bones with other channels than they announce")
        out.append(found.group(1).lower() + {"pos": "p", "tra": "p", "rot": "r", "sca": "s"}[found.group(2).lower()])
    if len(set(out)) < len(out):
        raise ValueError("has bones with the same channel twice")
    return tuple(out)


def _parse_values(content: bytes, start: int, count: int, width: int) -> tuple[np.ndarray, bool]:
    """((count, width) float64 of the motion's numbers, whether there are more), however they are spread over lines."""
    wrong = ValueError(f"does not contain the {count} frames of {width} numbers that it announces")
    if not width:
        raise ValueError("has no channels, and so no motion")
    # a number and what parts it from the next take two bytes
    if not 0 < count <= MAX_FRAMES or count * width > MAX_VALUES or 2 * count * width - 1 > len(content) - start:
        raise wrong
    end = _NUMBERS.search(content, start)
    last = len(content) if end is None else end.start()
    # a text behind the motion may begin with what could be a number
    while end is not None and last > start and not content[last - 1 : last].isspace():
        last -= 1
    if content.find(b",", start, last) >= 0:
        # decimals, or what parts the numbers where they have a point of their own
        mark = b" " if content.find(b".", start, last) >= 0 else b"."
        content, start, last = content[start:last].replace(b",", mark), 0, last - start
    out, filled = np.empty(count * width), 0
    while start < last and filled < len(out):
        stop = min(start + BLOCK, last)
        while stop < last and not content[stop : stop + 1].isspace():
            stop += 1
            if stop - start > BLOCK + 64:
                raise wrong
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                numbers = np.fromstring(content[start:stop].decode("ascii"), sep=" ")
        except (ValueError, DeprecationWarning):
            raise wrong from None
        numbers = numbers[: len(out) - filled]
        # neither inf nor nan is smaller
        if not (np.abs(numbers) < LARGEST).all():
            raise wrong
        out[filled : filled + len(numbers)] = numbers
        filled += len(numbers)
        start = stop
    if filled < len(out):
        raise wrong
    return out.reshape(count, width), bool(content[start:last].strip())


def _find_added_positions(
    parents: tuple[int, ...], offsets: np.ndarray, channels: tuple[tuple[str, ...], ...], values: np.ndarray
) -> np.ndarray:
    """(B,) whether a joint's position channels count from its offset: most programs write the whole place, some the change."""
    out, column = np.zeros(len(parents), bool), 0
    for bone, (parent, own) in enumerate(zip(parents, channels, strict=True)):
        places = [n for n, channel in enumerate(own) if channel[1] == "p"]
        if places and parent >= 0:
            axes = ["xyz".index(own[n][0]) for n in places]
            mean = np.median(values[:, [column + n for n in places]], 0)
            out[bone] = np.linalg.norm(mean - offsets[bone, axes]) > np.linalg.norm(mean) + 1e-9
        column += len(own)
    return out
