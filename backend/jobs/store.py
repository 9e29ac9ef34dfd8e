"""The job store: everything needed to answer an identical request again, or to go on after a crash.

``<root>/<job>/request.json``, ``passes/`` (see ``shared.passes_folder``), ``latents.npz`` while denoising,
``frames/<index>.png`` and, when all is done, ``report.json``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from shared.passes_folder import PassesManifest, load, save, write_atomically
from shared.shot import FramePasses, ShotRequest
from shared.version import VERSION

DATA_ENVIRONMENT = "LATENTMAN_DATA"


def data_folder() -> Path:
    """``$LATENTMAN_DATA``, else the user's data folder."""
    if DATA_ENVIRONMENT in os.environ:
        return Path(os.environ[DATA_ENVIRONMENT])
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "latentman"


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
        """The job's id: a digest of the request and its passes."""
        return self.folder.name

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

    def write_frame(self, index: int, image: np.ndarray) -> None:
        """Store a frame; after this it is never lost."""
        path = self.frame_path(index)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, _png(image))

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

    def save_latents(self, step: int, latents: np.ndarray) -> None:
        """Remember the latents (F, C, h, w) after ``step`` steps."""
        buffer = io.BytesIO()
        np.savez(buffer, step=step, latents=latents)
        write_atomically(self.folder / "latents.npz", buffer.getvalue())

    def load_latents(self) -> tuple[int, np.ndarray] | None:
        """What ``save_latents`` stored last, or None."""
        path = self.folder / "latents.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as data:
                return int(data["step"]), data["latents"]
        except (OSError, ValueError, KeyError):
            return None

    def report(self) -> dict[str, Any] | None:
        """The report of a finished job, or None."""
        path = self.folder / "report.json"
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, report: dict[str, Any]) -> None:
        """Mark the job as finished."""
        write_atomically(self.folder / "report.json", json.dumps(report, indent=1).encode())
        (self.folder / "latents.npz").unlink(missing_ok=True)


class JobStore:
    """All jobs under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, request: ShotRequest, passes: FramePasses) -> Job:
        """The job of a request: the one on disk if it was asked before, else a new one."""
        digest = hashlib.blake2b(msgspec.json.encode([VERSION, request]), digest_size=12)
        for name, array in passes.arrays().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).data)
        job = Job(self.root / digest.hexdigest(), request)
        if not (job.folder / "request.json").exists():
            manifest = request.manifest or PassesManifest(request.width, request.height, request.fps, request.frames, 0.0, 0.0)
            save(job.folder / "passes", passes, manifest)
            write_atomically(job.folder / "request.json", msgspec.json.encode(request))
        return job
