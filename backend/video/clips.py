"""Models of clips, whose frames see each other: what they can do of a request, and how a long clip goes through them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ...shared.shot import ShotError, ShotRequest
from ..models.image_model import ImageModel
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


def plan_windows(frames: Sequence[int], length: int) -> list[Window]:
    """Windows of at most ``length`` frames that cover all of them in their order: evenly spread and all of the same length, with
    weights that rise and fall where they overlap."""
    count = len(frames)
    if count <= length:
        return [Window(tuple(frames), (1.0,) * count)]
    overlap = min(max(1, round(length * OVERLAP)), length - 1)
    number = math.ceil((count - overlap) / (length - overlap))
    starts = [round(n * (count - length) / (number - 1)) for n in range(number)]
    shared = [0, *(start + length - following for start, following in itertools.pairwise(starts)), 0]
    found = [
        [min(1.0, (k + 1) / (before + 1), (length - k) / (behind + 1)) for k in range(length)]
        for before, behind in itertools.pairwise(shared)
    ]
    sums = [0.0] * count
    for start, weights in zip(starts, found, strict=True):
        for k, weight in enumerate(weights):
            sums[start + k] += weight
    return [
        Window(tuple(frames[start : start + length]), tuple(weight / sums[start + k] for k, weight in enumerate(weights)))
        for start, weights in zip(starts, found, strict=True)
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
    if family.kind == "frames":
        return request
    if method.guidance is not None and method.guidance.gradient == "full":
        raise explain_gradient(model)
    if not method.cross_frame_attention:
        return request
    if method.fusion is None:
        raise family.explain_unshared()
    run_context.add_warnings(
        [f"In {family.title} the frames see each other in the motion module; cross-frame attention is left out."]
    )
    return msgspec.structs.replace(request, method=msgspec.structs.replace(method, cross_frame_attention=False))


def explain_gradient(model: ImageModel) -> ShotError:
    """The error for a loss whose gradient would have to go through the networks of a model of clips."""
    return ShotError(
        "method",
        f"{model.family.title} denoises whole clips, through which no gradient goes; switch the pixel guidance's gradient to "
        "'decoder' or off.",
    )


def check_parts(model: ImageModel) -> None:
    """Raise ``ShotError`` for a model whose frames cannot be made in parts, each by itself."""
    if model.family.kind == "clip":
        raise ShotError(
            "model",
            f"The frames of {model.family.title} see each other and are not made in parts; generate the whole shot at once, "
            "without several workers.",
        )
