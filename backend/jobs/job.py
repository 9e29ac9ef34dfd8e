"""One job's folder: its request, passes, look and frames, each written and then renamed."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...shared import logs
from ...shared.costume_files import COSTUME, check_files
from ...shared.files import is_unfinished, read_file, replace_file
from ...shared.look_file import LookFile, read_look_file
from ...shared.npy import read_npz
from ...shared.png import is_intact_png
from ...shared.reference import MAX_BYTES, check_reference
from ...shared.shot import ShotError, ShotRequest
from ..models.profiles import complete_request
from ..pictures import encode_png, read_png
from ..reference_pictures import decode_reference
from ..video.look import Look
from ..video.run_context import Checkpoint
from .passes import StoredPasses
from .requests import read_request

logger = logs.get_logger(__name__)
#: the file of the picture that the request names, as it came
REFERENCE = "reference.picture"
#: the file of a digest of the version and the techniques that a job was begun with
MADE_WITH = "made_with.txt"
#: the look's file that the request names, as it came
LOOK_FILE = "given.look"
#: the folder of the files of a costume that came with the request, and the file of one that was made
WORN, MADE = "worn", "made.costume"
#: figures of a costume that was made
FIGURES = "costume.json"


@dataclass(frozen=True)
class Job:
    """One job's folder."""

    folder: Path
    request: ShotRequest
    #: where the passes still stream in; None for a job that is only read
    streaming: StoredPasses | None = None

    @property
    def name(self) -> str:
        """The job's id: a digest of the request, the model's files and the passes."""
        return self.folder.name

    def has_same_settings(self, other: Job) -> bool:
        """Whether what decides the look, the model's files and the version included, is the same in both."""
        # what a preset is, and what techniques do, may change with the version
        if any(self._read_note(name) != other._read_note(name) for name in ("model.txt", MADE_WITH)):
            return False
        # earlier versions left some settings to the model until frames were made
        own, others = (complete_request(job.request).settings() for job in (self, other))
        return own == others

    def _read_note(self, name: str) -> str:
        try:
            return read_file(self.folder / name).decode("utf-8", "replace")
        except OSError:
            return ""

    def _write(self, path: Path, data: bytes) -> None:
        # prompts and pictures are their owner's business
        replace_file(path, data, private=True)

    def passes(self) -> StoredPasses:
        """The stored passes, which are read when they are asked for."""
        return self.streaming or StoredPasses(self.folder / "passes", self.request)

    def frame_path(self, index: int) -> Path:
        """Where the frame at an index of the request is stored."""
        return self.folder / "frames" / f"{index:05d}.png"

    def has_frame(self, index: int) -> bool:
        """Whether the frame at an index of the request is on disk as a whole picture."""
        return _is_intact(self.frame_path(index))

    def list_finished_frames(self) -> list[int]:
        """Indices of the frames on disk. A file that is not a whole picture is as good as none, and is made again."""
        return [n for n in range(len(self.request.frames)) if self.has_frame(n)]

    def read_frame(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        return read_png(self.frame_path(index))

    def images(self) -> StoredImages:
        """All frames, read when they are asked for."""
        return StoredImages(self)

    def write_frame(self, index: int, image: np.ndarray) -> None:
        """Store a frame; after this it is never lost."""
        self.write_png(index, encode_png(image))

    def write_png(self, index: int, data: bytes) -> None:
        """Store a frame that is a PNG file already."""
        path = self.frame_path(index)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        self._write(path, data)

    def copy_frame_from(self, index: int, path: Path) -> None:
        """Store another job's frame as this one's."""
        self.write_png(index, path.read_bytes())

    def read_png(self, index: int) -> bytes:
        """A frame's file."""
        return self.frame_path(index).read_bytes()

    def write_texture(self, character: int, texture: np.ndarray) -> None:
        """Store a character's texture (S, S, 4) uint8."""
        self.write_texture_file(character, encode_png(texture))

    def write_texture_file(self, number: int, data: bytes) -> None:
        """Store a texture that is a PNG file already."""
        self._write(self.folder / f"texture_{number}.png", data)

    def textures(self) -> dict[str, bytes]:
        """The stored textures' files by the names they travel under: ``texture_1`` and so on."""
        return {path.stem: path.read_bytes() for path in sorted(self.folder.glob("texture_*.png"))}

    def costume_files(self) -> dict[str, bytes]:
        """The files of a costume that came with the request, by their names. Raises ``ShotError`` when they are missing or
        damaged."""
        if self.request.costume is msgspec.UNSET:
            return {}
        try:
            found = {path.name: read_file(path) for path in sorted((self.folder / WORN).iterdir()) if not is_unfinished(path)}
        except OSError:
            found = {}
        check_files(self.request, found)
        return found

    def write_costume(self, data: bytes) -> None:
        """Store the file of the costume that was made, or that is worn."""
        self._write(self.folder / MADE, data)

    def write_figures(self, figures: dict[str, float]) -> None:
        """Remember what was found while a costume was made: afterwards it cannot be told any more."""
        self._write(self.folder / FIGURES, json.dumps(figures).encode())

    def read_figures(self) -> dict[str, float]:
        """What ``write_figures`` stored; nothing where there is nothing, or it is damaged."""
        try:
            found = json.loads(read_file(self.folder / FIGURES))
        except (OSError, ValueError, RecursionError):
            return {}
        return (
            {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}
            if isinstance(found, dict)
            else {}
        )

    def costume(self) -> dict[str, bytes]:
        """The stored costume's file by the name it travels under; nothing where there is none."""
        path = self.folder / MADE
        return {COSTUME: path.read_bytes()} if path.exists() else {}

    def read_reference(self) -> np.ndarray | None:
        """(H, W, 3) uint8 of the reference picture, None where the request names none. Raises ``ShotError`` when it is missing or
        damaged."""
        if not self.request.text.reference:
            return None
        try:
            data = read_file(self.folder / REFERENCE, MAX_BYTES)
        except OSError:
            data = b""
        check_reference(self.request, data)
        return decode_reference(data)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Remember where denoising stands."""
        buffer = io.BytesIO()
        np.savez(buffer, step=checkpoint.step, latents=checkpoint.latents, trajectory=checkpoint.trajectory)
        self._write(self.folder / "latents.npz", buffer.getvalue())

    def load_checkpoint(self) -> Checkpoint | None:
        """What ``save_checkpoint`` stored last, or None."""
        path = self.folder / "latents.npz"
        if not path.exists():
            return None
        try:
            data = read_npz(read_file(path))
            return Checkpoint(int(data["step"]), data["latents"].copy(), data["trajectory"].copy())
        except (OSError, ValueError, KeyError, TypeError):  # the file is damaged, and the shot begins anew
            return None

    def save_look(self, look: Look) -> None:
        """Store the look; frames can be made from it from now on."""
        self.save_look_file(look.encode())

    def save_look_file(self, data: bytes) -> None:
        """``save_look`` of one that is encoded already."""
        self._write(self.folder / "look.npz", data)

    def look(self) -> Look | None:
        """The finished look; None where there is none, or where its file is damaged, so that it is made again."""
        try:
            return self.read_look()
        except ShotError:
            logger.warning("the look of %s is damaged; it is made again", self.folder)
            return None

    def read_look(self) -> Look | None:
        """The finished look, or None; ``ShotError`` when its file is damaged."""
        path = self.folder / "look.npz"
        try:
            return Look.decode(read_file(path)) if path.exists() else None
        except OSError as error:
            raise ShotError("look", f"{path} cannot be read ({error}); generate its shot again.") from error

    def parent(self) -> Job | None:
        """The job whose look this one keeps; None when it makes its own.

        Raises ``ShotError`` when that look is not there, unless it is optional.
        """
        request = self.request
        if not request.look or not request.get_method().fusion or (self.folder / LOOK_FILE).exists():
            return None
        folder = self.folder.parent / request.look
        try:
            if not (folder / "look.npz").exists():
                raise FileNotFoundError(folder)
            return Job(folder, read_request(folder / "request.json"))
        except (OSError, msgspec.MsgspecError) as error:
            if request.look_optional:
                return None
            raise ShotError(
                "look",
                f"This backend does not have the kept look {request.look}; generate the shot that it comes "
                "from again, or make a new look.",
            ) from error

    def look_file(self) -> LookFile | None:
        """The look's file that came with the request, of whose shot this is a part; None where there is none. Raises
        ``ShotError`` when it is damaged."""
        path = self.folder / LOOK_FILE
        return read_look_file(path) if path.exists() else None

    def report(self) -> dict[str, Any] | None:
        """The report of a finished job; None where there is none, or where it or a texture is damaged, so that both are made
        again."""
        try:
            report = json.loads(read_file(self.folder / "report.json"))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(report, dict):
            return None
        # reports of earlier versions do not list the textures
        names = report.get("textures", [])
        if not isinstance(names, list) or not all(
            isinstance(name, str) and re.fullmatch(r"texture_[0-9]+", name) for name in names
        ):
            return None
        listed = [self.folder / f"{name}.png" for name in names]
        return report if all(map(_is_intact, [*listed, *self.folder.glob("texture_*.png")])) else None

    def store_report(self, report: dict[str, Any]) -> None:
        """Mark the job as finished."""
        self._write(self.folder / "report.json", json.dumps(report, indent=1).encode())
        (self.folder / "latents.npz").unlink(missing_ok=True)


def _is_intact(path: Path) -> bool:
    try:
        return is_intact_png(read_file(path))
    except OSError:
        return False


class StoredImages(Sequence[np.ndarray]):
    """The finished frames of a job, (H, W, 3) uint8 each, of which one is in memory at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __len__(self) -> int:
        return len(self._job.request.frames)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._job.read_frame(index)
