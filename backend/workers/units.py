"""The pieces that a shot is cut into for workers, and what a worker tells while it makes one.

A unit is plain data: it travels to another process, perhaps on another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from ...shared.manifest import FrameEntry, PassesHeader
from ...shared.shot import ShotRequest
from ..video.run_context import Checkpoint


@dataclass(frozen=True)
class PackedPasses:
    """A frame's passes on their way: arrays (1, H, W, ...) by name, and the frame's entry in the manifest."""

    arrays: dict[str, np.ndarray]
    entry: FrameEntry


@dataclass(frozen=True)
class ShotWork:
    """What all units of a shot have in common: the ``job``'s name, its completed ``request`` and its passes' ``header``; ``model``
    with the LoRAs of the prompt, and the ``identity`` of its files; the file of the picture that the request names."""

    job: str
    request: ShotRequest
    header: PassesHeader
    model: str
    identity: str
    reference: bytes = b""


@dataclass(frozen=True)
class KeyUnit:
    """The key frames of a shot, from which its look comes; all frames where the method has no key frames.

    ``look`` is one that exists (``Look.encode``): finished for this very shot where ``finalized``, else kept from another, with
    the same settings or not. ``foreign`` frames are taken from elsewhere and never key frames. Of ``done`` frames nothing is sent.
    ``checkpoint`` is where denoising stood. ``keyframes`` are the key frames where they are not to be chosen.
    """

    work: ShotWork
    look: bytes = b""
    finalized: bool = False
    same_settings: bool = True
    foreign: tuple[int, ...] = ()
    done: tuple[int, ...] = ()
    checkpoint: Checkpoint | None = None
    drafts: bool = False
    keyframes: tuple[int, ...] = ()


@dataclass(frozen=True)
class FrameUnit:
    """Frames that are made from the finished ``look`` (bytes,) uint8, whose hash is ``look_hash``, in the batch of ``rows``;
    ``singly`` makes each by itself.

    ``passes`` are theirs, in the order of ``rows``.
    """

    work: ShotWork
    look: np.ndarray = field(repr=False)
    look_hash: str
    rows: tuple[int, ...]
    noise_cell_side: float
    passes: Sequence[PackedPasses] = field(repr=False)
    singly: bool = False


Unit = KeyUnit | FrameUnit


class Wanted(msgspec.Struct, frozen=True):
    """A worker needs the passes of a frame, or their small copy."""

    index: int
    overview: bool


class Moved(msgspec.Struct, frozen=True):
    """The work is at a step."""

    stage: str
    step: int
    steps: int


class Drafted(msgspec.Struct, frozen=True):
    """Small pictures (N, h, w, 3) uint8 of frames that are being made."""

    rows: tuple[int, ...]
    pictures: np.ndarray


class Saved(msgspec.Struct, frozen=True):
    """Where denoising stands."""

    checkpoint: Checkpoint


class LookMade(msgspec.Struct, frozen=True):
    """The finished look, as ``Look.encode`` has it."""

    look: bytes


class FrameMade(msgspec.Struct, frozen=True):
    """A frame's PNG file."""

    index: int
    png: bytes


class UnitEnded(msgspec.Struct, frozen=True):
    """A unit's end: seconds by stage, sentences for the user, the device; how many frames a batch may have on it, and which were
    the key frames."""

    seconds: dict[str, float]
    warnings: tuple[str, ...]
    device: str
    batch_frames: int = 1
    keyframes: tuple[int, ...] = ()


class UnitFailed(msgspec.Struct, frozen=True):
    """A unit ends with an error: a code and a sentence; ``interrupted`` when it was stopped."""

    code: str
    sentence: str
    interrupted: bool = False


Event = Wanted | Moved | Drafted | Saved | LookMade | FrameMade | UnitEnded | UnitFailed


class WorkerDescription(msgspec.Struct, frozen=True):
    """What a worker is: its version, a hash of the code that makes frames, its device and its machine."""

    version: str
    code: str
    device: str
    host: str
