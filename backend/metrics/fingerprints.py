"""Hashes of passes and of frames, by which clips and shots are told apart whatever they are called."""

from __future__ import annotations

import hashlib

import numpy as np

from ...shared.passes import FramePasses


class PassesFingerprint:
    """A hash of a shot's passes, of which frames are added one after the other."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=12)

    def add(self, passes: FramePasses) -> None:
        """The next frame's passes (1, H, W, ...)."""
        for name, array in sorted(passes.arrays().items()):
            self._digest.update(repr((name, array.dtype.str, array.shape[1:])).encode())
            self._digest.update(np.ascontiguousarray(array).data)

    @property
    def text(self) -> str:
        """The hash of what was added."""
        return self._digest.hexdigest()


def fingerprint_passes(passes: FramePasses) -> str:
    """A hash of a shot's passes."""
    found = PassesFingerprint()
    for n in range(passes.frame_count):
        found.add(passes.select([n]))
    return found.text


class FramesFingerprint:
    """A hash of frames (H, W, 3) uint8 that are added one after the other."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        """``count`` frames of ``size`` (width, height)."""
        self._digest = hashlib.blake2b(repr((count, size[1], size[0], 3)).encode(), digest_size=12)

    def add(self, image: np.ndarray) -> None:
        """The next frame."""
        self._digest.update(np.ascontiguousarray(image).data)

    @property
    def text(self) -> str:
        """The hash of what was added."""
        return self._digest.hexdigest()


def fingerprint_frames(images: np.ndarray) -> str:
    """A hash of frames (F, H, W, 3) uint8."""
    found = FramesFingerprint(len(images), (images.shape[2], images.shape[1]))
    for image in images:
        found.add(image)
    return found.text
