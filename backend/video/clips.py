"""Models of clips, whose frames see each other: what they can do of a request, and how a long clip goes through them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ...shared.shot import ShotError, ShotRequest
from ..models.image_model import ImageModel
from .request_checks import check_request
from .run_context import RunContext

#: the fraction of a window that it has in common with the one behind it, at least
OVERLAP = 0.25
#: frames that are made from a look at once, so that memory stays flat however long a shot is, and how many before and behind them
#: are made as well, to be seen by them
BLOCK, MARGIN = 64, 8


@dataclass(frozen=True)
class Window:
    """``frames`` that go through a model together, and how much what it says of each counts beside what it says in other windows:
    ``weights`` that sum up to 1 for every frame."""

    frames: tuple[int, ...]
    weights: tuple[float, ...]


def plan_windows(frames: Sequence[int], length: int, row_frames: int = 1) -> list[Window]:
    """Windows of at most ``length`` frames that cover all of them in their order: evenly spread, with weights that rise and fall
    where they overlap. They begin at multiples of ``row_frames``, so that frames that share a row do so in all windows but for the
    first frame of each; only the last may be shorter by less than that."""
    count = len(frames)
    if count <= length:
        return [Window(tuple(frames), (1.0,) * count)]
    overlap = min(max(1, round(length * OVERLAP)), length - 1)
    last = math.ceil((count - length) / row_frames) * row_frames
    number = max(2, math.ceil((count - overlap) / (length - overlap)))
    starts = sorted({round(n * last / (number - 1) / row_frames) * row_frames for n in range(number)})
    ends = [min(start + length, count) for start in starts]
    shared = [0, *(end - following for end, following in zip(ends, starts[1:], strict=False)), 0]
    found = [
        [min(1.0, (k + 1) / (before + 1), (end - start - k) / (behind + 1)) for k in range(end - start)]
        for start, end, (before, behind) in zip(starts, ends, itertools.pairwise(shared), strict=True)
    ]
    sums = [0.0] * count
    for start, weights in zip(starts, found, strict=True):
        for k, weight in enumerate(weights):
            sums[start + k] += weight
    return [
        Window(tuple(frames[start:end]), tuple(weight / sums[start + k] for k, weight in enumerate(weights)))
        for start, end, weights in zip(starts, ends, found, strict=True)
    ]


def plan_blocks(frames: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """(frames that are made together, those of them that are kept): blocks of about the same length that cover all frames in their
    order."""
    count = len(frames)
    if count <= BLOCK + MARGIN:
        return [(list(frames), list(frames))] if frames else []
    number = math.ceil(count / BLOCK)
    ends = [round(n * count / number) for n in range(number + 1)]
    return [
        (list(frames[max(0, start - MARGIN) : end + MARGIN]), list(frames[start:end])) for start, end in itertools.pairwise(ends)
    ]


def get_window(model: ImageModel) -> int:
    """The most frames that go through a model of clips together; 1 for one of independent frames."""
    return model.family.get_window(model.denoiser.config)


def fit_to_model(model: ImageModel, request: ShotRequest, run_context: RunContext) -> ShotRequest:
    """A request without what a model of clips does in another way, which is told. Raises ``ShotError`` for what it cannot do."""
    family, method = model.family, request.get_method()
    check_request(family, model.row_frames, request)
    if family.kind == "frames":
        return request
    changed = msgspec.structs.replace(method, cross_frame_attention=False)
    said = f"In {family.title} the frames see each other in the motion module; cross-frame attention is left out."
    if model.row_frames > 1:
        changed = msgspec.structs.replace(changed, shared_noise=False, surface_noise=0.0, background=None, keyframes=None)
        said = (
            f"In {family.title} all frames are made together and see each other, and the place behind the character moves by "
            "itself: cross-frame attention, noise that frames share, key frames and the shared background are not used."
        )
    if changed == method:
        return request
    run_context.add_warnings([said])
    return msgspec.structs.replace(request, method=changed)


def check_parts(model: ImageModel) -> None:
    """Raise ``ShotError`` for a model whose frames cannot be made in parts, each by itself."""
    if model.family.kind == "clip":
        raise ShotError(
            "model",
            f"The frames of {model.family.title} see each other and are not made in parts; generate the whole shot at once, "
            "without several workers.",
        )
