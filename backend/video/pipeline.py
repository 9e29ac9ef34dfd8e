"""A whole shot: key frames are denoised jointly, then every other frame is made from the look that results."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import torch

from ...shared.machine import release_free_memory
from ...shared.model_profile import list_unset
from ...shared.passes import FramePasses
from ...shared.settings import list_settings, with_settings
from ...shared.shot import NOTHING, AsReleased, ShotError, ShotRequest
from ..models.families import TextConditions
from ..models.image_model import ImageModel
from ..models.ip_adapters import ReferenceConditions, encode_reference, explain_no_adapter
from ..models.prompts.parsing import split_loras
from ..models.schedulers import list_schedule_warnings
from ..reference_pictures import is_cut
from .denoising import Denoising
from .keyframe_selection import select_keyframes
from .lattice import cell_side, sample_frames
from .look import Anchor, Look, Plate
from .memory import BatchBudget
from .noise import draw_noise, list_noise_sources
from .prediction import list_control_scales, uses_guidance
from .propagation import init_from_texture
from .run_context import Interrupted, RunContext
from .selection import select_request
from .source import MemoryPasses, PassesSource, compute_overview_scale, load_clip
from .techniques import ClipContext, Technique
from .techniques.context import latent_size
from .techniques.fusion import TextureFusion
from .techniques.registry import build_techniques

#: the largest guidance scale that models distilled to few steps take
MOST_GUIDANCE = 2.0

__all__ = ["Interrupted", "RunContext", "ShotPipeline"]


def _convert_to_image(picture: torch.Tensor) -> np.ndarray:
    return ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def _list_sampling_warnings(model: ImageModel, request: ShotRequest) -> list[str]:
    """Sentences about a request that can be run and will not look right. Raises ``ShotError`` for one that cannot be sampled."""
    sampling = request.sampling
    from_zero = request.get_method().get_released().steps_from_zero
    scheduler = model.make_scheduler(sampling.steps, sampling.scheduler, sampling.spacing, from_zero=from_zero)
    steps = len(scheduler.timesteps)
    found = list(list_schedule_warnings(scheduler))
    scales = zip(*(list_control_scales(model, request, step, steps) for step in range(steps)), strict=True)
    for kind, use, strengths in zip(model.controls, model.control_uses, scales, strict=True):
        if use.strength and sampling.control_scale and not any(strengths):
            found.append(f"The ControlNet for {kind} works at none of the {steps} steps; let it begin earlier or end later.")
    found += _list_few_step_warnings(model, request)
    found += _list_released_warnings(model, request, scheduler)
    if model.distilled and not model.takes_guidance_scale and sampling.guidance_scale > MOST_GUIDANCE:
        found.append(
            f"The model was distilled to few steps ({model.distilled}) and takes little guidance: at "
            f"{sampling.guidance_scale:g} its frames become noise; use 1 to {MOST_GUIDANCE:g}."
        )
    return found


def _list_released_warnings(model: ImageModel, request: ShotRequest, scheduler: Any) -> list[str]:
    """A sentence about what is asked to be as in the authors' code and is the same in both with these settings."""
    method, sampling = request.get_method(), request.sampling
    if method.as_released is None:
        return []
    released, guidance = method.as_released, method.guidance
    full = guidance is not None and guidance.gradient == "full"
    usual = model.make_scheduler(sampling.steps, sampling.scheduler, sampling.spacing)
    matched = bool(guidance or method.alignment) and method.matching == "hungarian"
    works = {
        "steps_from_zero": not torch.equal(scheduler.timesteps, usual.timesteps),
        "centred": matched,
        "omit_direct": full and usual.config.prediction_type != "sample",
        "omit_conditional": full and uses_guidance(model, request),
        "omit_controlnet": full,
        "omit_attention": full and method.cross_frame_attention,
        "clamp": guidance is not None,
    }
    idle = [
        declared.setting.label
        for declared in list_settings(AsReleased)
        if getattr(released, declared.name) and not works[declared.name]
    ]
    if not idle:
        return []
    return [f"Of what is to be as in the authors' code, this changes nothing with these settings: {', '.join(idle)}."]


def _list_few_step_warnings(model: ImageModel, request: ShotRequest) -> list[str]:
    """A sentence about a LoRA for few steps that only the prompt names, which whoever made the request need not have known."""
    profile, sampling = model.profile, request.sampling
    origin = profile.origins.get("distilled", "") if profile is not None else ""
    if profile is None or not profile.distilled or not origin.startswith("LoRA ") or not split_loras(request.text.prompt)[1]:
        return []
    pairs = (
        (f"{profile.steps} steps", sampling.steps == profile.steps),
        (f"guidance {profile.guidance_scale:g}", sampling.guidance_scale == profile.guidance_scale),
        (f"the scheduler '{profile.scheduler}'", sampling.scheduler == profile.scheduler),
    )
    wanted = [text for text, is_so in pairs if not is_so]
    if not wanted:
        return []
    return [f"The {origin} of the prompt is for few steps and wants {', '.join(wanted)}; set them for frames as it was made for."]


def find_noise_cell_side(source: PassesSource) -> float:
    """The side in metres of the cells of a shot's surface noise."""
    return cell_side(sample_frames(source.overview, range(source.frame_count))) / compute_overview_scale(source)


class ShotPipeline:
    """Generates a shot's frames with a loaded model (LatentMan, arXiv 2312.07133, and what goes beyond it).

    Methods without key frames send the whole clip through every step together. With key frames only those go together; what
    they agree on is the ``Look``, from which the others are made a few at a time, each independent of the rest.
    """

    def __init__(
        self,
        model: ImageModel,
        request: ShotRequest,
        passes: FramePasses | PassesSource,
        run_context: RunContext,
        noise: torch.Tensor | None = None,
        look: Look | None = None,
        *,
        same_settings: bool = True,
        finalized: bool = False,
        techniques: Sequence[Technique] = (),
        reference: np.ndarray | None = None,
        part: Sequence[int] | None = None,
        noise_cell_side: float = 0.0,
    ) -> None:
        """``noise`` (F, C, h, w) replaces the seed's noise. ``look`` is an existing look whose texture the frames keep;
        ``same_settings`` says that it was made with the same settings, so that its anchor and its background can be used, too, and
        ``finalized`` that it belongs to this very shot, so that no more key frames are needed. ``techniques`` run after those of
        the request's method. ``reference`` (H, W, 3) uint8 is the picture that the request names.

        ``part`` are the only frames whose passes are there and that are made, from a finalized look, each by itself: so they are
        the same to the last bit whichever others are in the part. ``noise_cell_side`` is then that of the whole shot.

        Raises ``ShotError`` when the model cannot do the request, a technique is missing, or the look is of another character.
        """
        source: PassesSource = MemoryPasses(passes, request.manifest) if isinstance(passes, FramePasses) else passes
        if list_unset(request):
            # what has been rendered has its size
            tall, wide = source.size
            request = model.complete_request(request, (wide, tall))
        if request.text.negative_prompt == NOTHING:
            request = with_settings(request, {"negative_prompt": ""})
        model.check_size(request.width, request.height)
        said = (*model.warnings, *filter(None, [model.plan.sentence]))
        run_context.warnings.extend(warning for warning in said if warning not in run_context.warnings)
        self._model, self._request, self._run_context = model, request, run_context
        self._source = source
        self._batch_budget = BatchBudget.within(model.plan.frames)
        self._method, self._size = request.get_method(), latent_size(model, request)
        self._rows, self._is_part = range(self._source.frame_count) if part is None else tuple(part), part is not None
        self._noise_cell_side = noise_cell_side
        self._given: Look | None = None
        if look is not None:
            names = self._source.surface_names(self._rows)
            # a part may show only what the look does not know; whoever makes it knows that the look is of its shot
            adapted = look.renumber(names) if self._is_part else look.adapt_to_shot(self._source, names)
            self._given = adapted.to(model.device, model.dtype)
        self._same_settings, self._is_finalized, self._noise = same_settings, finalized, noise
        self._text: dict[bool, TextConditions] = {}
        self._reference, self._seen = self._check_reference(reference), dict[bool, ReferenceConditions]()
        self._loaded: tuple[tuple[int, ...], FramePasses] | None = None
        self._more_techniques = tuple(techniques)
        # both raise for what is missing or does not go together, before anything is made
        self._make_techniques()
        found = _list_sampling_warnings(model, request)
        run_context.warnings.extend(warning for warning in found if warning not in run_context.warnings)

    def frames(self) -> Iterator[np.ndarray]:
        """The finished frames in order, (H, W, 3) uint8."""
        for picture in self.pictures():
            yield _convert_to_image(picture)

    def pictures(self) -> Iterator[torch.Tensor]:
        """The finished frames in order, (3, H, W) float32 around [-1, 1]."""
        early: dict[int, torch.Tensor] = {}
        wanted = 0
        for index, picture in self._iter_pictures((), ()):
            early[index] = picture
            while wanted in early:
                yield early.pop(wanted)
                wanted += 1

    def iter_frames(self, done: Collection[int] = (), foreign: Collection[int] = ()) -> Iterator[tuple[int, np.ndarray]]:
        """Every frame that is not ``done``, with its index, as soon as it is finished, the key frames first whether they are done
        or not; ``foreign`` frames are done by others and never key frames. Equal frames come out however much is done."""
        for index, picture in self._iter_pictures(done, foreign):
            yield index, _convert_to_image(picture)

    def latents(self) -> torch.Tensor:
        """(F, C, h, w) clean latents. Raises ``ShotError`` when they diverge or the memory is too small."""
        keyframes, look = self._select_keyframes(()), self._given
        out: dict[int, torch.Tensor] = {}
        if keyframes:
            latents, run, fusion = self._denoise_jointly(keyframes)
            out = dict(zip(keyframes, latents, strict=True))
            if len(keyframes) < self._source.frame_count:
                look = self._finalize(keyframes, latents, run, fusion)[1]
        for rows in self._iter_batches([n for n in range(self._source.frame_count) if n not in out]):
            out |= dict(zip(rows, self._propagate(look, rows)[0], strict=True))
        return torch.stack([out[n] for n in range(self._source.frame_count)])

    def decode(self, latents: torch.Tensor) -> Iterator[torch.Tensor]:
        """(3, H, W) float32 pictures around [-1, 1] of clean latents, one after the other."""
        for n in range(len(latents)):
            started = time.perf_counter()
            self._run_context.check()
            with torch.no_grad():
                picture = self._model.decode(latents[n : n + 1])[0].float()
                if self._model.decodes_in_half and not torch.isfinite(picture).all():
                    # some fine-tunes' auto-encoders overflow; each frame by itself, so that it is the same whatever was made before
                    picture = self._model.decode_in_full(latents[n : n + 1])[0].float()
            if not torch.isfinite(picture).all():
                raise ShotError(
                    "diverged",
                    f"Frame {n + 1} could not be decoded into a picture; use another seed, or another auto-encoder.",
                )
            self._run_context.record_time("decoding", started)
            yield picture

    def _select_keyframes(self, foreign: Collection[int]) -> list[int]:
        """The frames to denoise jointly, the one that the others attend to first; none when the look shows everything."""
        own = [n for n in range(self._source.frame_count) if n not in foreign]
        settings = self._method.keyframes
        if settings is None or not own:
            return own
        if self._given is None:
            found = select_keyframes(self._source, own, settings)
        else:
            found = [] if self._is_finalized else select_keyframes(self._source, own, settings, self._given.texture)
        if not found and (self._given is None or not self._same_settings):
            # without an anchor from another job a shot needs a frame to attend to
            found = own[:1]
        return own if len(found) == len(own) else found

    def _iter_pictures(self, done: Collection[int], foreign: Collection[int]) -> Iterator[tuple[int, torch.Tensor]]:
        keyframes, look = self._select_keyframes(foreign), self._given
        if keyframes:
            latents, run, fusion = self._denoise_jointly(keyframes)
            if fusion is None:
                yield from zip(keyframes, run.finish(self._decode_in_order(latents)), strict=True)
            else:
                pictures, look = self._finalize(keyframes, latents, run, fusion)
                yield from zip(keyframes, pictures, strict=True)
        if look is not None and not self._is_finalized:
            self._run_context.keep_look(replace(look, keyframes=tuple(keyframes)))
        # the batches are those of the whole shot, whatever is done: the last bits of a frame depend on the others in its batch
        if self._is_finalized and look is not None:
            keyframes = list(look.keyframes)
        rest = [n for n in self._rows if n not in {*keyframes, *foreign}]
        finished = 0
        for rows in self._iter_batches(rest):
            finished += len(rows)
            if set(rows) <= set(done):
                continue
            made = zip(rows, self._propagate(look, rows)[1], strict=True)
            yield from ((row, picture) for row, picture in made if row not in done)
            self._run_context.progress("frames", finished, len(rest))

    def _load_clip(self, rows: Sequence[int]) -> FramePasses:
        """The passes of some frames, cached until other frames are asked for, as several parts work on the same ones."""
        wanted = tuple(rows)
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = None
            self._loaded = wanted, load_clip(self._source, wanted)
        return self._loaded[1]

    def _iter_batches(self, rows: list[int]) -> Iterator[list[int]]:
        while rows:
            release_free_memory()
            count = 1 if self._is_part else self._batch_budget.frames
            yield rows[:count]
            rows = rows[count:]

    def _get_conditions(self, request: ShotRequest) -> TextConditions:
        twice = uses_guidance(self._model, request)
        if twice not in self._text:
            found = self._model.encode_text(
                request.text.prompt,
                request.text.negative_prompt,
                twice,
                request.width,
                request.height,
                request.text.background_prompt,
                request.text.clip_skip,
            )
            self._run_context.warnings.extend(warning for warning in found.warnings if warning not in self._run_context.warnings)
            self._text[twice] = found
        return self._text[twice]

    def _check_reference(self, picture: np.ndarray | None) -> np.ndarray | None:
        """The picture that frames are to look at, None for none."""
        adapter, warnings = self._model.adapter, self._run_context.warnings
        if bool(self._request.text.reference) != (picture is not None):
            raise ShotError("reference", "The reference picture is not there; generate the shot again.")
        if picture is None:
            if adapter is not None:
                warnings.append("The model has an IP-Adapter and the shot no reference picture; the adapter is not used.")
            return None
        if adapter is None:
            raise explain_no_adapter(self._model.name)
        if is_cut(picture):
            height, width = picture.shape[:2]
            warnings.append(
                f"The reference picture is {width}x{height}, and only the square in its middle is looked at; crop it to what "
                "counts."
            )
        return picture

    def _get_reference(self, request: ShotRequest) -> ReferenceConditions | None:
        """What the UNet sees of the reference picture."""
        adapter = self._model.adapter
        if self._reference is None or adapter is None:
            return None
        chosen = request.text.reference_strength
        strength = adapter.strength if chosen < 0 else chosen
        if not strength:
            return None
        twice = uses_guidance(self._model, request)
        if twice not in self._seen:
            self._seen[twice] = encode_reference(self._model, self._reference, strength, twice)
        return self._seen[twice]

    def _make_denoising(
        self, rows: list[int], look: Look | None, anchor: Anchor | None, *, joint: bool, once: bool = False
    ) -> Denoising:
        """``look`` holds the known texture; ``once`` leaves out the second pass of classifier-free guidance."""
        request = msgspec.structs.replace(select_request(self._request, rows), manifest=self._source.manifest(rows))
        if once and uses_guidance(self._model, request):
            request = with_settings(request, dict(guidance_scale=1.0))
        context = ClipContext(
            model=self._model,
            request=request,
            own_passes=self._load_clip(rows),
            rows=tuple(rows),
            given_passes=anchor.passes if anchor else None,
            texture=look.texture if look else None,
            joint=joint,
            noise_given=self._noise is not None,
            run_context=self._run_context,
            batch_budget=self._batch_budget,
            shot_cell_side=lambda: self._cell_side,
        )
        return Denoising(context, self._make_techniques(), self._get_conditions(request), anchor, self._get_reference(request))

    def _make_techniques(self) -> list[Technique]:
        """For a clip: new ones of the method, and the caller's own."""
        return [*build_techniques(self._method), *self._more_techniques]

    @cached_property
    def _noise_sources(self) -> list[int]:
        """For each frame of the shot the frame whose random numbers it takes."""
        return list_noise_sources(self._make_techniques(), range(self._source.frame_count))

    def _make_noise(self, rows: list[int], run: Denoising) -> torch.Tensor:
        if self._noise is not None:
            return run.first_noise(self._noise[rows])
        shape = (int(self._model.unet.config.in_channels), *self._size)
        generator = torch.Generator().manual_seed(self._request.sampling.seed)
        return run.first_noise(draw_noise(self._noise_sources, rows, shape, generator))

    @cached_property
    def _cell_side(self) -> float:
        """The side of the shot's noise cells in metres: whichever frames are made, they are the same."""
        return self._noise_cell_side or find_noise_cell_side(self._source)

    def _decode_in_order(self, latents: torch.Tensor) -> Iterator[torch.Tensor]:
        for n, picture in enumerate(self.decode(latents), 1):
            self._run_context.progress("decoding", n, len(latents))
            yield picture

    def _denoise_jointly(self, rows: list[int]) -> tuple[torch.Tensor, Denoising, TextureFusion | None]:
        """(N, C, h, w) clean latents of frames denoised jointly from noise, with the run and its fusion."""
        anchor = self._given.anchor if self._given is not None and self._same_settings else None
        run = self._make_denoising(rows, self._given, anchor, joint=True)
        fusion = run.find_technique(TextureFusion)
        resumed = self._run_context.resume() if run.resumable else None
        if resumed is not None and resumed.latents.shape[0] == len(rows):
            return run.resume(resumed), run, fusion
        return run.run(run.scale_first_noise(self._make_noise(rows, run)), keep=True), run, fusion

    def _finalize(
        self,
        keyframes: list[int],
        latents: torch.Tensor,
        run: Denoising,
        fusion: TextureFusion | None,
    ) -> tuple[list[torch.Tensor], Look]:
        """Finished pictures of the jointly denoised frames, and the look that they agree on."""
        assert fusion is not None
        decoded = list(self._decode_in_order(latents))
        pictures = list(run.finish(decoded))
        plate = self._given.plate if self._given is not None and self._same_settings else Plate.empty(*self._source.size)
        for picture, surface in zip(pictures, self._load_clip(keyframes).surface_index > 0, strict=True):
            plate = plate.add_frame(_convert_to_image(picture), surface)
        names = self._source.surface_names(keyframes) | (self._given.surfaces if self._given is not None else {})
        return pictures, Look(fusion.texture(decoded), run.make_anchor(), plate, names)

    def _propagate(self, look: Look | None, rows: list[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Latents and finished pictures of frames that are denoised from the look's texture."""
        settings = self._method.keyframes
        assert settings is not None and look is not None
        run = self._make_denoising(rows, look, look.anchor, joint=False, once=not settings.guided)
        fusion = run.find_technique(TextureFusion)
        assert fusion is not None
        with torch.no_grad():
            first = init_from_texture(look, fusion.lattice)
            clean = torch.cat([self._model.encode(some.to(self._model.dtype)) for some in first.split(self._batch_budget.frames)])
        step = run.steps - max(1, round(settings.strength * run.steps))
        latents = run.run(run.add_noise(clean, self._make_noise(rows, run), step), step)
        pictures = list(self.decode(latents))
        return latents, list(run.finish(pictures))
