"""The job store: everything needed to answer an identical request again, or to go on after a crash.

``<root>/<job>/request.json``, ``model.txt`` (the model's fingerprint), ``passes/`` (see ``shared.passes_folder``),
``latents.npz`` while denoising,
``frames/<index>.png``, ``look.npz`` once the look is settled, ``texture_<character>.png`` and, when all is done,
``report.json``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from ...shared.passes_folder import PassesManifest, load, save, write_atomically
from ...shared.shot import FramePasses, ShotError, ShotRequest
from ...shared.version import VERSION
from ..models.registry import fingerprint
from ..video.look import Look
from ..video.watch import Checkpoint


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Job:
    """One job's folder."""

    folder: Path
    request: ShotRequest

    @property
    def name(self) -> str:
        """The job's id: a digest of the request, the model's files and the passes."""
        return self.folder.name

    def same_settings(self, other: Job) -> bool:
        """Whether what decides the look, the model's files included, is the same in both."""
        return self.request.settings() == other.request.settings() and self._model() == other._model()

    def _model(self) -> str:
        path = self.folder / "model.txt"
        return path.read_text() if path.exists() else ""

    def passes(self) -> FramePasses:
        """The stored passes."""
        return load(self.folder / "passes")[0]

    def frame_path(self, index: int) -> Path:
        """Where the frame at an index of the request is stored."""
        return self.folder / "frames" / f"{index:05d}.png"

    def finished_frames(self) -> list[int]:
        """Indices of the frames on disk."""
        return [n for n in range(len(self.request.frames)) if self.frame_path(n).exists()]

    def read_frame(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        with Image.open(self.frame_path(index)) as picture:
            return np.asarray(picture.convert("RGB"))

    def images(self) -> StoredImages:
        """All frames, read when they are asked for."""
        return StoredImages(self)

    def write_frame(self, index: int, image: np.ndarray) -> None:
        """Store a frame; after this it is never lost."""
        path = self.frame_path(index)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, _png(image))

    def take_frame(self, index: int, path: Path) -> np.ndarray:
        """Store another job's frame as this one's; (H, W, 3) uint8."""
        own = self.frame_path(index)
        own.parent.mkdir(exist_ok=True)
        write_atomically(own, path.read_bytes())
        return self.read_frame(index)

    def write_texture(self, character: int, texture: np.ndarray) -> None:
        """Store a character's texture (S, S, 4) uint8."""
        write_atomically(self.folder / f"texture_{character}.png", _png(texture))

    def textures(self) -> dict[str, np.ndarray]:
        """The stored textures by the names they travel under: ``texture_1`` and so on."""
        out = {}
        for path in sorted(self.folder.glob("texture_*.png")):
            with Image.open(path) as picture:
                out[path.stem] = np.asarray(picture.convert("RGBA"))
        return out

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Remember where denoising stands."""
        buffer = io.BytesIO()
        np.savez(buffer, step=checkpoint.step, latents=checkpoint.latents, path=checkpoint.path)
        write_atomically(self.folder / "latents.npz", buffer.getvalue())

    def load_checkpoint(self) -> Checkpoint | None:
        """What ``save_checkpoint`` stored last, or None."""
        path = self.folder / "latents.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as data:
                return Checkpoint(int(data["step"]), data["latents"], data["path"])
        except (OSError, ValueError, KeyError):
            return None

    def save_look(self, look: Look) -> None:
        """Store the look; frames can be made from it from now on."""
        write_atomically(self.folder / "look.npz", look.encoded())

    def look(self) -> Look | None:
        """The settled look, or None; ``ShotError`` when its file is damaged."""
        path = self.folder / "look.npz"
        return Look.decoded(path.read_bytes()) if path.exists() else None

    def parent(self) -> Job | None:
        """The job whose look this one keeps; None when it makes its own.

        Raises ``ShotError`` when that look is not there, unless it is optional.
        """
        request = self.request
        if not request.look or not request.resolved_method().fusion:
            return None
        folder = self.folder.parent / request.look
        try:
            if not (folder / "look.npz").exists():
                raise FileNotFoundError(folder)
            return Job(folder, msgspec.json.decode((folder / "request.json").read_bytes(), type=ShotRequest))
        except (OSError, msgspec.MsgspecError) as error:
            if request.look_optional:
                return None
            raise ShotError(
                "look",
                f"This backend does not have the kept look {request.look}; generate the shot that it comes "
                "from again, or make a new look.",
            ) from error

    def report(self) -> dict[str, Any] | None:
        """The report of a finished job, or None."""
        path = self.folder / "report.json"
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, report: dict[str, Any]) -> None:
        """Mark the job as finished."""
        write_atomically(self.folder / "report.json", json.dumps(report, indent=1).encode())
        (self.folder / "latents.npz").unlink(missing_ok=True)


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


class JobStore:
    """All jobs under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, request: ShotRequest, passes: FramePasses) -> Job:
        """The job of a request: the one on disk if it was asked before, else a new one.

        Raises ``ShotError`` when the look that the request keeps is not there, or the model's name stands for nothing.
        """
        Job(self.root / "new", request).parent()
        model = fingerprint(request.sampling.model)
        digest = hashlib.blake2b(msgspec.json.encode([VERSION, request, request.resolved_method(), model]), digest_size=12)
        for name, array in passes.arrays().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).data)
        job = Job(self.root / digest.hexdigest(), request)
        if not (job.folder / "request.json").exists():
            manifest = request.manifest or PassesManifest(request.width, request.height, request.fps, request.frames, 0.0, 0.0)
            save(job.folder / "passes", passes, manifest)
            write_atomically(job.folder / "model.txt", model.encode())
            write_atomically(job.folder / "request.json", msgspec.json.encode(request))
        # when a job was last asked for says how long it has been of use
        os.utime(job.folder / "request.json")
        return job
