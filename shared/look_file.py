"""A shot's look as a file, from which any part of the shot can be made, anywhere and in any order: what a farm hands round.

It is an archive: ``look.json`` (``LookDescription``), ``look.npz`` (``backend.video.look``), ``views.npz`` (what each frame shows,
roughly), ``frame_00000.png`` and so on (the finished key frames, by their places in the shot), and ``reference.picture`` where the
shot has one. Nothing in it is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .files import read_file
from .manifest import PassesHeader
from .npy import read_npz, unpack_npz
from .passes import FramePasses
from .picture_size import Crop
from .png import is_intact_png, read_png_size
from .reference import MAX_BYTES as MAX_REFERENCE
from .reference import check_reference
from .settings import list_settings
from .shot import ShotError, ShotRequest, check_request
from .version import VERSION

#: bytes that a look's file may have
MAX_LOOK_FILE = 1 << 30
#: the ending of its name, which is usual and not needed
SUFFIX = ".look"
#: side of the grid on which what two frames show is compared, and how many of the cells that show something may differ: edges move
#: by a pixel between the small copy and the frame
VIEW_SIDE, MOST_DIFFERENT = 32, 0.12
#: cells whose depth, from 0 to 1, differs by more show something else; so do those whose place on the surface differs by more than
#: this fraction of what is seen of it
DEPTH_TOLERANCE, PLACE_TOLERANCE = 0.03, 0.06
_DESCRIPTION, _LOOK, _VIEWS, _REFERENCE = "look.json", "look.npz", "views.npz", "reference.picture"
_FRAME = re.compile(r"frame_(\d{5})\.png")
_VIEW_TYPES = {"mask": (np.uint8, ()), "part": (np.uint8, ()), "depth": (np.float16, ()), "rest_position": (np.float16, (3,))}


class LookScene(msgspec.Struct, frozen=True):
    """What Blender needs in order to render the passes of a part as those of the whole shot: what was shown, the part of the
    picture that the camera's frame shows, and the depth range and the height of the plane that shadows fall on, in the file's own
    units; None where there is no such plane."""

    subjects: str
    character: str
    crop: Crop | None
    near: float
    far: float
    ground: float | None = None


class LookDescription(msgspec.Struct, frozen=True, kw_only=True):
    """Of which shot a look is, and how it was made.

    ``job`` is the name that the shot has in the store of the backend that made the look, ``model`` says what is in the model's
    files. ``request`` is the whole shot's, with everything that was left to the model put in. ``keyframes`` are the places of the
    frames that were made together. ``noise_cell_side`` is in metres.
    """

    version: str
    job: str
    model: str
    request: ShotRequest
    header: PassesHeader
    keyframes: tuple[int, ...]
    noise_cell_side: float
    scene: LookScene | None = None


def make_view(passes: FramePasses) -> dict[str, np.ndarray]:
    """What a frame's passes (1, H, W, ...) show, roughly, at the nearest pixels: ``mask``, ``part``, ``depth`` (S, S) and
    ``rest_position`` (S, S, 3)."""
    height, width = passes.mask.shape[1:]
    rows, cols = (((np.arange(VIEW_SIDE) + 0.5) * side / VIEW_SIDE).astype(int) for side in (height, width))
    places = np.ix_(rows, cols)
    arrays = passes.arrays()
    return {name: arrays[name][0][places].astype(kind) for name, (kind, _) in _VIEW_TYPES.items()}


def is_same_view(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Whether two frames show the same, apart from edges that lie a pixel beside each other."""
    shown = (one["mask"] > 0) | (other["mask"] > 0)
    if not shown.any():
        return True
    depths = np.abs(one["depth"].astype(np.float32) - other["depth"].astype(np.float32))
    places = [view["rest_position"].astype(np.float32) for view in (one, other)]
    reach = float(np.ptp(np.concatenate([place[shown] for place in places]), axis=0).max())
    moved = np.abs(places[0] - places[1]).max(-1) > PLACE_TOLERANCE * reach
    differ = (one["mask"] != other["mask"]) | (one["part"] != other["part"]) | (depths > DEPTH_TOLERANCE) | moved
    return int((differ & shown).sum()) <= 2 + MOST_DIFFERENT * int(shown.sum())


@dataclass(frozen=True)
class LookFile:
    """A look's file in memory. ``name`` is one for its bytes, ``data`` these; ``look`` is the look itself, ``frames`` are the
    key frames' PNG files by their places, ``views`` (F, S, S, ...) what each frame of the shot shows."""

    name: str
    description: LookDescription
    look: bytes
    frames: dict[int, bytes]
    views: dict[str, np.ndarray]
    reference: bytes = b""
    data: bytes = field(default=b"", repr=False)

    def list_rows(self, frames: Sequence[int]) -> tuple[int, ...]:
        """The places of scene frames in the look's shot. Raises ``ShotError`` for one that is not in it."""
        places = {frame: row for row, frame in enumerate(self.description.request.frames)}
        for frame in frames:
            if frame not in places:
                raise ShotError(
                    "look",
                    f"The look was made for the frames {write_frames(self.description.request.frames)}, and frame {frame} is none "
                    "of them; choose others, or make a look of the whole shot.",
                )
        return tuple(places[frame] for frame in frames)

    def check_part(self, request: ShotRequest) -> None:
        """Raise ``ShotError`` when a request is not for a part of the look's shot: another version, size or setting, or frames that
        the shot does not have. The model's name may be another, since its files may lie elsewhere."""
        own = self.description.request
        if self.description.version != VERSION:
            raise ShotError(
                "look",
                f"The look was made by LatentMan {self.description.version}, and this is {VERSION}; make the look again with it.",
            )
        if (request.width, request.height) != (own.width, own.height):
            raise ShotError(
                "look",
                f"The look was made for frames of {own.width}x{own.height}, and these have {request.width}x{request.height}; leave "
                "the size to the look, or make one of this size.",
            )
        self.list_rows(request.frames)
        for declared in list_settings(ShotRequest):
            if declared.name in ("model", "preset", "fps"):
                continue
            made, wanted = (_get(one, declared.path) for one in (own, request))
            if made != wanted:
                raise ShotError(
                    "look",
                    f"The look was made with another {declared.words} ({_shorten(declared.value_text(made))}, and now "
                    f"{_shorten(declared.value_text(wanted))}); leave that to the look, or make a new one.",
                )
        own_schedule = own.get_schedule()
        if request.get_schedule() != (own_schedule and own_schedule.select(self.list_rows(request.frames))):
            raise ShotError(
                "look",
                "The look was made with other prompts or control strengths of its frames; leave those to the look, or make a new "
                "one.",
            )
        if request.get_method() != own.get_method():
            raise ShotError(
                "look", "The look was made with other techniques; leave preset and techniques to the look, or make a new one."
            )

    def check_view(self, row: int, passes: FramePasses) -> None:
        """Raise ``ShotError`` when the passes (1, H, W, ...) of a frame do not show what it showed when the look was made."""
        if not is_same_view({name: views[row] for name, views in self.views.items()}, make_view(passes)):
            raise ShotError(
                "look",
                f"Frame {self.description.request.frames[row]} does not show what it showed when the look was made: character, "
                "motion or camera are others; make the look again.",
            )


def _get(value: object, path: tuple[str, ...]) -> object:
    for name in path:
        value = getattr(value, name)
    return value


def _shorten(text: str) -> str:
    return f"'{text if len(text) <= 40 else text[:37] + '...'}'"


def describe_look(path: Path, report: Mapping[str, Any]) -> str:
    """What was made, in words: the look's file and what its report says."""
    return f"the look of {report['shot']} frames in {path}, from the key frames {write_frames(report['frames'])}"


def write_frames(frames: Sequence[int]) -> str:
    """Frame numbers as people write them: ``1-24``, or the first few of those that are no range."""
    ordered = sorted(frames)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ", ".join(map(str, ordered[:6])) + (f" and {len(ordered) - 6} more" if len(ordered) > 6 else "")


def name_part_report(frames: Sequence[int]) -> str:
    """The name of the report of a part of a shot, beside its frames; parts that are made into one folder have one each."""
    return f"report_{min(frames):04d}-{max(frames):04d}.json"


def name_look(data: bytes) -> str:
    """The name of a look's file by its bytes, of the form that jobs' names have."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def encode_look_file(
    description: LookDescription,
    look: bytes,
    frames: Mapping[int, bytes],
    views: Mapping[str, np.ndarray],
    reference: bytes = b"",
) -> bytes:
    """The bytes of a look's file; the arguments are those of ``LookFile``."""
    packed, buffer = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, **{name: np.ascontiguousarray(array) for name, array in views.items()})
    entries = {_DESCRIPTION: msgspec.json.encode(description), _LOOK: look, _VIEWS: packed.getvalue()}
    entries |= {f"frame_{row:05d}.png": data for row, data in frames.items()}
    if reference:
        entries[_REFERENCE] = reference
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            # without the time, so that the same look is the same file
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def decode_look_file(data: bytes, what: str = "The look's file") -> LookFile:
    """The inverse of ``encode_look_file``. Raises ``ShotError`` for what is not a look's file, or a damaged one; ``what`` begins
    its sentence."""
    try:
        entries = {name: bytes(content) for name, content in unpack_npz(data).items()}
        description = msgspec.json.decode(entries[_DESCRIPTION], type=LookDescription)
        views = read_npz(entries[_VIEWS])
        frames = {int(found[1]): content for name, content in entries.items() if (found := _FRAME.fullmatch(name))}
        made = LookFile(
            name_look(data), description, entries[_LOOK], frames, views, entries.get(_REFERENCE, b"")[: MAX_REFERENCE + 1], data
        )
        _check(made)
    except KeyError as error:
        raise ShotError("look", f"{what} is not one that latentman look has made; give such a file.") from error
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        reason = "it is no archive" if not data.startswith(b"PK") else " ".join(str(error).split())[:160].rstrip(".")
        raise ShotError("look", f"{what} cannot be read ({reason}); give one that latentman look has made.") from error
    return made


def _check(made: LookFile) -> None:
    """Raise ``ValueError``, of which ``ShotError`` is one, for parts that do not belong together."""
    request, count = made.description.request, len(made.description.request.frames)
    check_request(request)
    check_reference(request, made.reference)
    if request.look or not (request.width and request.height) or len(set(request.frames)) != count:
        raise ValueError("its shot is none that a look can be made of")
    if any(row >= count for row in made.description.keyframes) or sorted(made.frames) != sorted(set(made.description.keyframes)):
        raise ValueError("its key frames are not those of its shot")
    if min(made.description.keyframes, default=0) < 0 or not made.frames:
        raise ValueError("it has no key frames")
    for picture in made.frames.values():
        if not is_intact_png(picture) or read_png_size(picture) != (request.width, request.height):
            raise ValueError("a key frame is damaged")
    for name, (kind, trailing) in _VIEW_TYPES.items():
        view = made.views.get(name)
        if (
            view is None
            or view.shape != (count, VIEW_SIDE, VIEW_SIDE, *trailing)
            or view.dtype != kind
            or not np.isfinite(view).all()
        ):
            raise ValueError("it does not say what its frames show")


def read_look_file(path: Path) -> LookFile:
    """A look's file. Raises ``ShotError``."""
    try:
        data = read_file(path, MAX_LOOK_FILE)
    except (OSError, ValueError) as error:  # a ``ValueError`` for a name that no file can have
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise ShotError("look", f"The look {path} cannot be read ({reason}); give one that latentman look has made.") from error
    return decode_look_file(data, f"The look {path}")
