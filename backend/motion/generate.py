"""From sentences to HumanML3D vectors: length rules, guidance, sampling, segments put together, and the normalisation undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ...shared.made_motion import MadeMotion
from ...shared.motion import MotionError
from ...shared.motion_request import Kept, MotionRequest, frame_count, split_sentences
from ...shared.skeleton import HUMANML_FPS
from ...shared.vectors import smootherstep
from .checkpoints import MotionModel
from .diffusion import InpaintingMask, Schedule, make_guided_denoiser, sample_ddim, sample_ddpm
from .grounding import ground_motion
from .inpainting import make_inpainting_mask
from .network import MAX_FRAMES
from .text import EncodedText

#: frames of a segment that repeat the end of the one before it
OVERLAP = 20
#: frames that are made anew on either side of where a loop's end meets its beginning, and those beside them that the network sees
SEAM, SEEN = 14, 60
#: the part of them in which what was there goes over into what is new
EASED = 0.8


@dataclass(frozen=True)
class Segment:
    """``frames`` new ones for a sentence, after ``overlap`` that are there already."""

    text: str
    frames: int
    overlap: int


def split_segments(texts: list[str], frames: int) -> list[Segment]:
    """The passes that make ``frames``: one sentence each, none longer than a model was trained for."""
    out: list[Segment] = []
    ends = np.linspace(0, frames, len(texts) + 1).round().astype(int)
    for text, start, end in zip(texts, ends, ends[1:], strict=False):
        while start < end:
            overlap = OVERLAP if out else 0
            most = MAX_FRAMES - overlap
            left = int(end - start)
            # two halves of like length instead of a full one and a rest
            count = left if left <= most else min(most, -(-left // -(-left // most)))
            out.append(Segment(text, count, overlap))
            start += count
    return out


def make(
    model: MotionModel,
    request: MotionRequest,
    encode_text: Callable[[str], EncodedText],
    device: torch.device,
    kept: Kept | None = None,
    step_done: Callable[[int, int], None] = lambda step, of: None,
) -> MadeMotion:
    """Sample a request's motions; what is ``kept`` comes out as it was, but for the normalisation's rounding.

    Motions longer than 9.8 s and several sentences are made one segment after the other, each of which begins with the last
    second of the one before it. Autoregressive models (DiP) begin with somebody who stands and go on from their own last frames.
    Models that were trained without masking are run on 196 frames and cut, as in training. Models that
    say where toes stand have their motions put on the ground (``grounding``), unless parts are kept. A loop's end and beginning
    are joined by the network. Raises ``MotionError``.
    """
    texts, predicted = split_sentences(request), model.network.shape.predicted
    if kept is not None and predicted:
        raise MotionError("This model makes motions piece by piece and cannot keep parts of one; choose another model.")
    loops = makes_loops(model) and request.loop and kept is None
    frames = frame_count(request) - loops
    passes = split_pieces(texts, frames, predicted) if predicted else split_segments(texts, frames)
    if kept is not None and len(passes) > 1:
        raise MotionError("Parts of a motion can be kept with one sentence and at most 9.8 seconds.")
    generator = torch.Generator().manual_seed(request.seed)
    steps_per_segment = request.steps or model.diffusion_steps
    made = np.empty((request.variants, 0, model.network.shape.features), np.float32)
    cut: list[str] = []
    if predicted:
        made = np.tile(make_standing_pose(model), (request.variants, 1, 1))
    total = (len(passes) + loops) * steps_per_segment
    for n, segment in enumerate(passes):
        text = encode_text(segment.text)
        if text.cut:
            cut.append(text.left_out)
        done = _offset_progress(step_done, n * steps_per_segment, total)
        if predicted:
            before = made[:, -model.network.shape.context :]
            new = _sample(model, request, text, device, predicted, predicted, None, generator, done, before)
            made = np.concatenate([made, new[:, : segment.frames]], 1)
            continue
        count = segment.frames + segment.overlap
        length = count if model.network.shape.mask_frames else MAX_FRAMES
        mask = make_inpainting_mask(kept, model, request.variants, length) if kept is not None else None
        if segment.overlap:
            mask = _continue_from(made[:, -segment.overlap :], length)
        new = _sample(model, request, text, device, count, length, mask, generator, done)
        made = np.concatenate([made, new[:, segment.overlap :]], 1)
    if loops:
        done = _offset_progress(step_done, len(passes) * steps_per_segment, total)
        made = _join_ends(model, request, encode_text(passes[-1].text), device, made, generator, done)
    found = made[:, model.network.shape.context :] * model.std + model.mean
    if not np.isfinite(found).all():
        raise MotionError("The model gave values that are not a motion; check that checkpoint and statistics belong together.")
    if model.toe_height and kept is None:
        found = ground_motion(found, model.toe_height)
    return MadeMotion(found.astype(np.float32), (*_explain_cut(cut), *_explain_limits(model, request, passes)))


def makes_loops(model: MotionModel) -> bool:
    """Whether a model fills in where a loop's end meets its beginning; an autoregressive one only goes on."""
    return not model.network.shape.predicted


def _explain_cut(left_out: list[str]) -> tuple[str, ...]:
    """A sentence where the end of a text was not read."""
    if not left_out:
        return ()
    known = ", ".join(f"'{part[:80]}'" for part in dict.fromkeys(left_out) if part)
    return (f"The text is longer than the model reads; its end was left out{f' ({known})' if known else ''}. Say it shorter.",)


def _explain_limits(model: MotionModel, request: MotionRequest, passes: list[Segment]) -> tuple[str, ...]:
    """Sentences about what of a request is beyond the model."""
    out = []
    texts = split_sentences(request)
    if len(passes) > len(texts) and not model.network.shape.predicted:
        out.append(
            f"The model makes at most {MAX_FRAMES / HUMANML_FPS:g} seconds at a time; this was made in {len(passes)} passages that "
            "go over into each other, each with its own idea of the sentence."
        )
    if not model.guided and request.guidance_scale not in (0.0, 1.0):
        out.append("The checkpoint was not trained without texts, which guidance needs; the guidance was left out.")
    return tuple(out)


def _join_ends(
    model: MotionModel,
    request: MotionRequest,
    text: EncodedText,
    device: torch.device,
    made: np.ndarray,
    generator: torch.Generator,
    step_done: Callable[[int], None],
) -> np.ndarray:
    """Motions (N, F, 263), normalised, whose end goes over into their beginning, with the first frame once more behind the last.

    Features tell of a pose and of the way to the next one, but not of a place: the end and the beginning of a motion can be put
    next to each other, and the network fills in what lies between, as between any frames that are kept.
    """
    seen = min(SEEN, made.shape[1] // 2)
    free = min(SEAM, seen // 2)
    around = np.concatenate([made[:, -seen:], made[:, :seen]], 1)
    length = around.shape[1] if model.network.shape.mask_frames else MAX_FRAMES
    values = np.zeros((len(made), length, made.shape[2]), np.float32)
    values[:, : 2 * seen] = around
    mask = np.zeros(values.shape, bool)
    mask[:, : seen - free] = mask[:, seen + free : 2 * seen] = True
    pinned = InpaintingMask(torch.from_numpy(values), torch.from_numpy(mask))
    new = _sample(model, request, text, device, 2 * seen, length, pinned, generator, step_done)
    # what is kept ends where the network's own idea begins: one goes over into the other
    within = np.abs(np.arange(2 * seen) - (seen - 0.5))
    weight = smootherstep((free - within) / max(EASED * free, 1))[None, :, None]
    new = around + weight * (new - around)
    made = made.copy()
    made[:, -seen:], made[:, :seen] = new[:, :seen], new[:, seen:]
    return np.concatenate([made, made[:, :1]], 1)


def _offset_progress(step_done: Callable[[int, int], None], before: int, total: int) -> Callable[[int], None]:
    """Progress of one of several chains of steps: ``before`` steps were made by the others, ``total`` are to be made."""
    return lambda step: step_done(before + step, total)


def split_pieces(texts: list[str], frames: int, most: int) -> list[Segment]:
    """The passes of an autoregressive model: up to ``most`` new frames each, the sentences sharing the time equally."""
    ends = np.linspace(0, frames, len(texts) + 1).round().astype(int)
    return [
        Segment(text, min(most, int(end) - first), 0)
        for text, start, end in zip(texts, ends, ends[1:], strict=False)
        for first in range(start, end, most)
    ]


def make_standing_pose(model: MotionModel) -> np.ndarray:
    """(context, 263) normalised: a person who stands still in the mean pose, from which an autoregressive model begins."""
    still = model.mean.copy()
    # turn and velocity of the root, velocities of the joints; the feet are on the ground
    still[:3], still[193:259], still[259:] = 0.0, 0.0, 1.0
    return np.tile((still - model.mean) / model.std, (model.network.shape.context, 1)).astype(np.float32)


def _continue_from(before: np.ndarray, length: int) -> InpaintingMask:
    values = np.zeros((len(before), length, before.shape[2]), np.float32)
    values[:, : before.shape[1]] = before
    mask = np.zeros(values.shape, bool)
    mask[:, : before.shape[1]] = True
    return InpaintingMask(torch.from_numpy(values), torch.from_numpy(mask))


def _sample(
    model: MotionModel,
    request: MotionRequest,
    text: EncodedText,
    device: torch.device,
    frames: int,
    length: int,
    mask: InpaintingMask | None,
    generator: torch.Generator,
    step_done: Callable[[int], None],
    prefix: np.ndarray | None = None,
) -> np.ndarray:
    """(N, frames, 263) normalised."""
    noise = torch.randn((request.variants, length, model.network.shape.features), generator=generator).to(device)
    vectors = text.vectors.to(device).expand(request.variants, -1, -1)
    padding = text.padding.to(device).expand(request.variants, -1) if text.padding is not None else None
    lengths = torch.full((request.variants,), frames, device=device)
    mask = None if mask is None else InpaintingMask(mask.values.to(device), mask.mask.to(device))
    denoise = make_guided_denoiser(
        model.network.to(device),
        vectors,
        (request.guidance_scale or model.guidance) if model.guided else 1.0,
        text_mask=padding,
        lengths=lengths,
        prefix=None if prefix is None else torch.from_numpy(prefix).to(device),
    )
    schedule = Schedule(model.diffusion_steps, model.noise_schedule, model.large_variance)
    if request.steps:
        made = sample_ddim(denoise, schedule, noise, request.steps, mask, step_done)
    else:
        made = sample_ddpm(denoise, schedule, noise, generator, mask, step_done)
    return made[:, :frames].float().cpu().numpy()
