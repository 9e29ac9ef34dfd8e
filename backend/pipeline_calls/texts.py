"""The texts of a call: prompts for all frames or for each, embeddings that were made before, and SDXL's picture sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import scale_lora_layers, unscale_lora_layers

from ...shared.shot import NOTHING, ShotError, ShotRequest
from ..models.families import TextConditions
from ..models.image_model import ImageModel

#: stands in a request for a prompt that is given as embeddings
EMBEDDED = "prompt_embeds"
Text = str | list[str] | None


@dataclass(frozen=True)
class PictureSizes:
    """SDXL's conditions on pictures: (height, width) and (top, left) in pixels; None for those of the frames."""

    original: tuple[int, int] | None = None
    crops: tuple[int, int] = (0, 0)
    target: tuple[int, int] | None = None
    negative_original: tuple[int, int] | None = None
    negative_crops: tuple[int, int] = (0, 0)
    negative_target: tuple[int, int] | None = None

    def list_ids(self, width: int, height: int) -> tuple[list[int], list[int]]:
        """The time ids of the conditional and of the unconditional pass."""
        own = (height, width)
        wanted = [*(self.original or own), *self.crops, *(self.target or own)]
        if self.negative_original is None or self.negative_target is None:
            return wanted, wanted
        return wanted, [*self.negative_original, *self.negative_crops, *self.negative_target]


@dataclass(frozen=True)
class CallTexts:
    """The texts of a call as diffusers takes them."""

    prompt: Text = None
    negative_prompt: Text = None
    prompt_embeds: torch.Tensor | None = None
    negative_prompt_embeds: torch.Tensor | None = None
    pooled_prompt_embeds: torch.Tensor | None = None
    negative_pooled_prompt_embeds: torch.Tensor | None = None
    sizes: PictureSizes = PictureSizes()

    def check(self, frames: int, width: int, *, pooled: bool) -> None:
        """Raise ``ShotError`` or ``TypeError`` for texts that do not go together, or do not fit the number of frames;
        ``width`` is the number of numbers of a token, and ``pooled`` says that the model takes pooled embeddings."""
        for name in ("prompt_embeds", "negative_prompt_embeds"):
            given = getattr(self, name)
            if isinstance(given, torch.Tensor) and given.ndim and given.shape[-1] != width:
                raise ShotError("prompt", f"The {name} have {given.shape[-1]} numbers a token, and the model {width}.")
        _refuse_both("prompt", self.prompt, "prompt_embeds", self.prompt_embeds)
        _refuse_both("negative_prompt", self.negative_prompt, "negative_prompt_embeds", self.negative_prompt_embeds)
        if self.prompt is None and self.prompt_embeds is None:
            raise ShotError("prompt", "There is no prompt; give prompt or prompt_embeds.")
        if self.prompt is not None and not isinstance(self.prompt, (str, list)):
            raise ShotError("prompt", f"The prompt is a {type(self.prompt).__name__}; give a text, or a list of texts.")
        if self.negative_prompt is not None and not isinstance(self.negative_prompt, (str, list)):
            raise TypeError(f"The negative_prompt is a {type(self.negative_prompt).__name__}; give a text, or a list of texts.")
        if None not in (self.prompt, self.negative_prompt) and type(self.prompt) is not type(self.negative_prompt):
            raise TypeError("One of prompt and negative_prompt is a list and the other a text; give two lists, or two texts.")
        for name in ("prompt", "negative_prompt"):
            given = getattr(self, name)
            if isinstance(given, list):
                _check_count(name, len(given), frames)
                if not all(isinstance(text, str) for text in given):
                    raise ShotError("prompt", f"The list {name} holds what is no text; give texts.")
        for name in ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"):
            embeds, dimensions = getattr(self, name), 2 if "pooled" in name else 3
            if embeds is None:
                continue
            if "pooled" in name and not pooled:
                raise ShotError("prompt", f"Only SDXL takes {name}; leave it out.")
            if not isinstance(embeds, torch.Tensor) or embeds.ndim != dimensions:
                raise ShotError("prompt", f"The {name} are no tensor of {dimensions} dimensions; give what encode_prompt gives.")
            _check_count(name, len(embeds), frames)
            if not embeds.numel() or not torch.isfinite(embeds).all():
                raise ShotError("prompt", f"The {name} are empty, or hold what is no number; give what encode_prompt gives.")
        if self.prompt_embeds is not None and self.negative_prompt_embeds is not None:
            shapes = [list(each.shape) for each in (self.prompt_embeds, self.negative_prompt_embeds)]
            if shapes[0] != shapes[1]:
                raise ShotError(
                    "prompt", f"prompt_embeds are {shapes[0]} and negative_prompt_embeds {shapes[1]}; give equal shapes."
                )
        for name in ("", "negative_"):
            if (
                pooled
                and getattr(self, f"{name}prompt_embeds") is not None
                and getattr(self, f"{name}pooled_prompt_embeds") is None
            ):
                raise ShotError("prompt", f"{name}prompt_embeds need {name}pooled_prompt_embeds; give both, as encode_prompt does.")

    def get_single_prompt(self) -> str:
        """The text that a request holds: that of all frames, else the first frame's."""
        if self.prompt is None:
            return EMBEDDED
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]

    def get_single_negative(self) -> str:
        """The same of the negative prompt; to a request an empty one is the model's own, which None is here."""
        given = self.negative_prompt[0] if isinstance(self.negative_prompt, list) else self.negative_prompt
        return "" if given is None else given or NOTHING

    @property
    def is_plain(self) -> bool:
        """Whether a request says it all."""
        many = any(isinstance(given, list) and len(set(given)) > 1 for given in (self.prompt, self.negative_prompt))
        has_embeds = self.prompt_embeds is not None or self.negative_prompt_embeds is not None
        return not many and not has_embeds and self.sizes == PictureSizes()


def _refuse_both(name: str, one: object, other_name: str, other: object) -> None:
    if one is not None and other is not None:
        raise ShotError("prompt", f"There are {name} and {other_name}; give only one of the two.")


def _check_count(name: str, count: int, frames: int) -> None:
    if count not in (1, frames):
        raise ShotError("prompt", f"There are {count} of {name} for {frames} frames; give one for all, or one for each.")


@contextmanager
def _scale_loras(pipeline: Any, scale: float | None) -> Iterator[None]:
    """Within the block, the LoRAs of the text encoders work with a strength; None leaves them as they are."""
    encoders = [getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2")] if scale is not None else []
    there = [encoder for encoder in encoders if encoder is not None]
    for encoder in there:
        scale_lora_layers(encoder, scale)
    try:
        yield
    finally:
        for encoder in there:
            unscale_lora_layers(encoder, scale)


def make_encoder(
    texts: CallTexts, model: ImageModel, request: ShotRequest, clip_skip: int | None
) -> Callable[[bool], TextConditions] | None:
    """What encodes the texts, given whether it is for guidance; None where the request says it all. ``clip_skip`` counts as
    diffusers does. What it returns raises ``ShotError`` for embeddings that do not fit each other."""
    scale = model.options.lora_scale
    if texts.is_plain and scale is None:
        return None

    @torch.no_grad()
    def encode(guided: bool) -> TextConditions:
        with _scale_loras(model.pipeline, scale):
            if texts.prompt_embeds is not None:
                return _complete_embeds(texts, model, request, clip_skip, guided)
            return _encode_prompts(texts, model, request, guided)

    return encode


def _read_negative(request: ShotRequest) -> str:
    return "" if request.text.negative_prompt == NOTHING else request.text.negative_prompt


def _encode_prompts(texts: CallTexts, model: ImageModel, request: ShotRequest, guided: bool) -> TextConditions:
    wanted = texts.prompt if isinstance(texts.prompt, list) else [request.text.prompt]
    unwanted = texts.negative_prompt if isinstance(texts.negative_prompt, list) else [_read_negative(request)]
    if not guided or texts.negative_prompt_embeds is not None:
        unwanted = []
    kinds, others = list(dict.fromkeys(wanted)), list(dict.fromkeys(unwanted))
    background = request.text.background_prompt
    found = model.encode_texts(kinds, others, request.width, request.height, background, request.text.clip_skip)
    places = [len(others) + kinds.index(text) for text in wanted]
    groups = [[others.index(text) for text in unwanted]] if unwanted else []
    groups += [places] + ([[len(found.embeddings) - 1]] if background else [])
    runs = {name: [value[group] for group in groups] for name, value in found.added.items()}
    words = [found.embeddings[group] for group in groups]
    if guided and texts.negative_prompt_embeds is not None:
        words.insert(0, texts.negative_prompt_embeds)
        if "text_embeds" in runs:
            runs["text_embeds"].insert(0, texts.negative_pooled_prompt_embeds)  # type: ignore[arg-type]
    return _join(model, request, texts.sizes, words, runs, found.warnings, guided)


def _complete_embeds(
    texts: CallTexts, model: ImageModel, request: ShotRequest, clip_skip: int | None, guided: bool
) -> TextConditions:
    """Embeddings with what is missing beside them, as diffusers makes it."""
    assert texts.prompt_embeds is not None
    pipeline, count = model.pipeline, len(texts.prompt_embeds)
    negative = texts.negative_prompt
    if texts.negative_prompt_embeds is None and negative is None:
        negative = _read_negative(request) or None
    if isinstance(negative, str) or (isinstance(negative, list) and len(negative) == 1):
        negative = [negative if isinstance(negative, str) else negative[0]] * count
    if isinstance(negative, list) and len(negative) != count:
        raise ShotError("prompt", f"There are {len(negative)} of negative_prompt for {count} prompt_embeds; give as many.")
    given: dict[str, Any] = dict(
        prompt=None,
        device=model.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=guided,
        negative_prompt=negative,
        prompt_embeds=texts.prompt_embeds,
        negative_prompt_embeds=texts.negative_prompt_embeds,
        clip_skip=clip_skip,
    )
    pooled: list[torch.Tensor] = []
    if texts.pooled_prompt_embeds is not None:
        given |= dict(
            pooled_prompt_embeds=texts.pooled_prompt_embeds, negative_pooled_prompt_embeds=texts.negative_pooled_prompt_embeds
        )
        positive, other, *found = pipeline.encode_prompt(**given)
        pooled = [found[1], found[0]] if guided else [found[0]]
    else:
        positive, other = pipeline.encode_prompt(**given)
    words = [other, positive] if guided else [positive]
    warnings: tuple[str, ...] = ()
    background = request.text.background_prompt
    if background:
        more = model.encode_texts([background], [], request.width, request.height, "", request.text.clip_skip)
        words, warnings = [*words, more.embeddings], more.warnings
        pooled += [more.added["text_embeds"]] if pooled else []
    return _join(model, request, texts.sizes, words, {"text_embeds": pooled} if pooled else {}, warnings, guided)


def _join(
    model: ImageModel,
    request: ShotRequest,
    sizes: PictureSizes,
    words: Sequence[torch.Tensor],
    runs: dict[str, list[torch.Tensor]],
    warnings: tuple[str, ...],
    guided: bool,
) -> TextConditions:
    """Runs of one or F embeddings each as conditions: of all frames where no run has more than one."""
    lengths = {each.shape[1] for each in words}
    if len(lengths) > 1:
        raise ShotError(
            "prompt",
            f"The embeddings are {' and '.join(map(str, sorted(lengths)))} tokens long; give all of them with as many.",
        )
    frames = len(request.frames) if max(map(len, words)) > 1 else 1

    def stack(values: Sequence[torch.Tensor]) -> torch.Tensor:
        moved = [value.to(model.device, model.dtype) for value in values]
        joined = torch.stack([value.expand(frames, *value.shape[1:]) for value in moved])
        return joined if frames > 1 else joined[:, 0]

    added = {name: stack(values) for name, values in runs.items() if name != "time_ids"}
    if runs:
        wanted, unwanted = sizes.list_ids(request.width, request.height)
        ids = [unwanted if guided and n == 0 else wanted for n in range(len(words))]
        added["time_ids"] = stack([torch.tensor([row], dtype=model.dtype) for row in ids])
    return TextConditions(stack(words), added, warnings)
