"""A whole shot: key frames are denoised jointly, then every other frame is made from the look that results."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import torch

from ...shared.machine import release_free_memory
from ...shared.model_profile import list_unset
from ...shared.passes import FramePasses
from ...shared.schedule import Mix
from ...shared.settings import list_settings, with_settings
from ...shared.shot import NOTHING, AsReleased, ShotError, ShotRequest
from ..models.families import TextConditions
from ..models.image_model import ImageModel
from ..models.ip_adapters import ReferenceConditions, encode_reference, explain_no_adapter
from ..models.prompts.parsing import split_loras
from ..models.schedulers import list_schedule_warnings
from ..reference_pictures import is_cut
from .cameras import Camera, list_cameras, moves
from .denoising import Denoising
from .edges import composite_surfaces
from .frame_conditions import FrameConditions
from .given_inputs import GivenInputs, select_texts
from .keyframe_selection import select_keyframes
from .lattice import cell_side, sample_frames
from .look import Anchor, Look, Plate
from .memory import BatchBudget
from .mirroring import Mirror, find_mirror
from .noise import draw_noise, list_noise_sources
from .prediction import list_control_scales, uses_guidance
from .propagation import init_from_texture
from .run_context import Interrupted, RunContext
from .selection import select_request
from .shadows import find_ground_height
from .source import MemoryPasses, PassesSource, compute_overview_scale, load_clip
from .surface_filling import SurfaceCells, collect_surface_cells
from .surroundings import FrameBackground, Horizon, Surroundings, make_background, make_moving, make_still
from .techniques import ClipContext, Technique
from .techniques.context import latent_size
from .techniques.fusion import TextureFusion
from .techniques.registry import build_techniques
from .view_selection import bridge_views

#: frames, about, in which the ground is sought
GROUND_FRAMES = 48
#: the largest guidance scale that models distilled to few steps take
MOST_GUIDANCE = 2.0
NOT_SYMMETRIC = (
    "What the shot shows of the characters is not the same left and right in their rest pose, so nothing was taken from the other "
    "side; switch Symmetric off."
)
#: frames from which the surface of a shot is known, spread over it
SURFACE_FRAMES = 64

__all__ = ["Interrupted", "RunContext", "ShotPipeline"]


def _convert_to_image(picture: torch.Tensor) -> np.ndarray:
    return ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def _list_sampling_warnings(model: ImageModel, request: ShotRequest) -> list[str]:
    """Sentences about a request that can be run and will not look right. Raises ``ShotError`` for one that cannot be sampled."""
    sampling = request.sampling
    from_zero = request.get_method().get_released().steps_from_zero
    chosen = (sampling.steps, sampling.scheduler, sampling.spacing, latent_size(model, request))
    scheduler = model.make_scheduler(*chosen, from_zero=from_zero)
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
    usual = model.make_scheduler(sampling.steps, sampling.scheduler, sampling.spacing, latent_size(model, request))
    matched = bool(guidance or method.alignment) and method.matching == "hungarian"
    works = {
        "steps_from_zero": not torch.equal(scheduler.timesteps, usual.timesteps),
        "centred": matched,
        "omit_direct": full and usual.config.get("prediction_type") != "sample",
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
        given: GivenInputs = GivenInputs(),
        keyframes: Sequence[int] = (),
    ) -> None:
        """``noise`` (F, C, h, w) replaces the seed's noise. ``look`` is an existing look whose texture the frames keep;
        ``same_settings`` says that it was made with the same settings, so that its anchor and its background can be used, too, and
        ``finalized`` that it belongs to this very shot, so that no more key frames are needed. ``techniques`` run after those of
        the request's method. ``reference`` (H, W, 3) uint8 is the picture that the request names.

        ``part`` are the only frames whose passes are there and that are made, from a finalized look, each by itself: so they are
        the same to the last bit whichever others are in the part. ``noise_cell_side`` is then that of the whole shot.

        ``given`` is what the networks see instead of what the request and the passes say. ``keyframes`` are the frames to denoise
        jointly, the one that the others attend to first, where they are not to be chosen by what they show.

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
        run_context.add_warnings((*model.warnings, *filter(None, [model.plan.sentence])))
        self._model, self._request, self._run_context = model, request, run_context
        self._source = source
        self._batch_budget = BatchBudget.within(model.plan.frames)
        self._method, self._size = request.get_method(), latent_size(model, request)
        self._rows, self._is_part = range(self._source.frame_count) if part is None else tuple(part), part is not None
        self._noise_cell_side = noise_cell_side
        self._schedule, self._prompts, self._mixes = request.get_schedule(), request.list_prompts(), request.list_mixes()
        #: whether each prompt has a look of its own
        self._is_grouped = len(self._prompts) > 1 and self._method.fusion is not None
        self._given: dict[str, Look] = {}
        self._final_keyframes = look.keyframes if look is not None else ()
        if not (model.family.mixes_texts or self._is_grouped or all(mix.is_pure for mix in self._mixes)):
            raise ShotError(
                "prompt",
                f"{model.family.title} cannot mix the words of two prompts; let the prompt change at once, or choose a preset that "
                "begins with surface.",
            )
        if look is not None:
            names = self._source.surface_names(self._rows)
            # a part may show only what the look does not know; whoever makes it knows that the look is of its shot
            adapted = look.renumber(names) if self._is_part else look.adapt_to_shot(self._source, names)
            self._given = adapted.to(model.device, model.dtype).list_by_prompt(request.text.prompt)
            if not same_settings:
                # a look that is kept is kept, whatever was said to it
                self._given = {request.text.prompt: next(iter(self._given.values()))}
        self._same_settings, self._is_finalized, self._noise = same_settings, finalized, noise
        self._given = {prompt: self._complete_look(one) for prompt, one in self._given.items()}
        self._text: dict[bool, TextConditions] = {}
        self._reference, self._seen = self._check_reference(reference), dict[bool, ReferenceConditions]()
        self._surface_cells: SurfaceCells | None = None
        self._loaded: tuple[tuple[int, ...], FramePasses] | None = None
        self._more_techniques = tuple(techniques)
        self._inputs, self._anchor_row = given, 0
        self._chosen_keyframes = tuple(keyframes)
        # both raise for what is missing or does not go together, before anything is made
        self._make_techniques()
        run_context.add_warnings(_list_sampling_warnings(model, request))

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

    @property
    def batch_frames(self) -> int:
        """How many frames go through the networks at a time: fewer than at first once memory was short."""
        return self._batch_budget.frames

    def make_batch(self, rows: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Frames that are no key frames, with their indices, made together from the finished look that was given."""
        for row, picture in zip(rows, self._propagate(self._given, list(rows))[1], strict=True):
            yield row, _convert_to_image(picture)

    def latents(self) -> torch.Tensor:
        """(F, C, h, w) clean latents. Raises ``ShotError`` when they diverge or the memory is too small."""
        out = dict(self.iter_latents())
        return torch.stack([out[n] for n in range(self._source.frame_count)])

    def iter_latents(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Every frame's clean latents (C, h, w) with its index, as soon as they are there."""
        chosen, looks = self._select_keyframes(()), dict(self._given)
        finished = self._list_finished(chosen)
        for number, (prompt, keyframes) in enumerate(chosen.items()):
            latents, run, fusion = self._denoise_jointly(prompt, keyframes, looks, number, len(chosen))
            yield from ((row, one) for row, one in zip(keyframes, latents, strict=True) if row in finished)
            if len(finished) < self._source.frame_count:
                looks[prompt] = self._finalize(prompt, keyframes, latents, run, fusion, looks)[1]
        looks = self._fill_looks(looks)
        for rows in self._iter_batches([n for n in range(self._source.frame_count) if n not in finished]):
            yield from zip(rows, self._propagate(looks, rows)[0], strict=True)

    def iter_pictures(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Every finished frame (3, H, W) float32 around [-1, 1] with its index, as soon as it is there."""
        yield from self._iter_pictures((), ())

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

    def _select_keyframes(self, foreign: Collection[int]) -> dict[str, list[int]]:
        """The frames to denoise jointly under each prompt, the one that the others attend to first; none under a prompt whose look
        shows everything."""
        own = [n for n in range(self._source.frame_count) if n not in foreign]
        settings = self._method.keyframes
        chosen = {}
        for prompt, rows in self._group_by_prompt(own).items():
            look, found = self._given.get(prompt), rows
            if settings is not None and rows:
                found = []
                if self._chosen_keyframes and not self._is_finalized:
                    found = [n for n in self._chosen_keyframes if n in rows]
                elif not self._is_finalized:
                    found = select_keyframes(self._source, rows, settings, None if look is None else look.texture)
                if not found and (look is None or not self._has_place(look)):
                    # without an anchor from another job a shot needs a frame to attend to
                    found = rows[:1]
                if self._turns and not self._is_finalized:
                    found = self._bridge_views(found, rows, look)
            if found:
                chosen[prompt] = rows if len(found) == len(rows) else found
        return chosen

    def _bridge_views(self, found: list[int], rows: list[int], look: Look | None) -> list[int]:
        """Key frames ``found`` among ``rows`` in an order in which their backgrounds overlap, and some more where it takes them."""
        around = look.surroundings if look is not None and self._has_place(look) else None
        cameras = {row: self._cameras[row] for row in rows}
        return bridge_views(found, rows, cameras, Horizon(self._ground), () if around is None else around.cameras)

    def _group_by_prompt(self, rows: list[int]) -> dict[str, list[int]]:
        """Of the frames ``rows`` those that may be key frames under each prompt: where there are such, frames that are under it
        alone."""
        if not self._is_grouped:
            return {self._request.text.prompt: rows}
        said = dict.fromkeys(prompt for row in rows for prompt in self._mixes[row].list_prompts())
        groups = {}
        for prompt in said:
            shares = {row: self._mixes[row].get_share(prompt) for row in rows}
            most = max(shares.values())
            groups[prompt] = [row for row, share in shares.items() if share >= min(most, 1.0) and share > 0]
        return groups

    def _list_finished(self, chosen: Mapping[str, list[int]]) -> set[int]:
        """Of the key frames those that are finished once they are denoised: between two prompts a frame is made under both."""
        rows = {row for found in chosen.values() for row in found}
        return {row for row in rows if self._mixes[row].is_pure} if self._is_grouped else rows

    def _iter_pictures(self, done: Collection[int], foreign: Collection[int]) -> Iterator[tuple[int, torch.Tensor]]:
        chosen, looks = self._select_keyframes(foreign), dict(self._given)
        finished_rows = self._list_finished(chosen)
        keyframes = [row for rows in chosen.values() for row in rows if row in finished_rows]
        for number, (prompt, rows) in enumerate(chosen.items()):
            latents, run, fusion = self._denoise_jointly(prompt, rows, looks, number, len(chosen))
            if fusion is None:
                yield from zip(rows, run.finish(self._decode_in_order(latents)), strict=True)
            else:
                pictures, looks[prompt] = self._finalize(prompt, rows, latents, run, fusion, looks)
                yield from ((row, one) for row, one in zip(rows, pictures, strict=True) if row in finished_rows)
        looks = self._fill_looks(looks)
        if looks and not self._is_finalized:
            looks = {prompt: self._run_context.complete_look(look) for prompt, look in looks.items()}
            first, *others = looks
            self._run_context.keep_look(
                replace(looks[first], keyframes=tuple(keyframes), others={prompt: looks[prompt] for prompt in others})
            )
        # the batches are those of the whole shot, whatever is done: the last bits of a frame depend on the others in its batch
        if self._is_finalized and looks:
            keyframes = list(self._final_keyframes)
        rest = [n for n in self._rows if n not in {*keyframes, *foreign}]
        finished = 0
        for rows in self._iter_batches(rest):
            finished += len(rows)
            if set(rows) <= set(done):
                continue
            made = zip(rows, self._propagate(looks, rows)[1], strict=True)
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
            if self._inputs.encode_text is not None:
                found = self._inputs.encode_text(twice)
            else:
                found = self._model.encode_text(
                    request.text.prompt,
                    request.text.negative_prompt,
                    twice,
                    request.width,
                    request.height,
                    request.text.background_prompt,
                    request.text.clip_skip,
                    self._prompts[1:],
                )
            self._run_context.add_warnings(found.warnings)
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
        self,
        rows: list[int],
        look: Look | None,
        anchor: Anchor | None,
        *,
        joint: bool,
        once: bool = False,
        prompt: str = "",
        run_context: RunContext | None = None,
    ) -> Denoising:
        """``look`` holds the known texture; ``once`` leaves out the second pass of classifier-free guidance. Where each prompt has
        a look of its own, all of the frames are made under ``prompt``."""
        request = msgspec.structs.replace(select_request(self._request, rows), manifest=self._source.manifest(rows))
        if once and uses_guidance(self._model, request):
            request = with_settings(request, dict(guidance_scale=1.0))
        context = ClipContext(
            model=self._model,
            request=request,
            own_passes=self._load_clip(rows),
            rows=tuple(rows),
            given_passes=anchor.passes if anchor else None,
            texture=(look.texture if joint else look.worn_texture) if look else None,
            filled=look.filled if look and not joint else None,
            joint=joint,
            noise_given=self._noise is not None,
            run_context=run_context or self._run_context,
            batch_budget=self._batch_budget,
            turning=self._find_turning(rows, look, anchor, joint=joint),
            replaced=None if joint or look is None or look.surroundings is None else look.surroundings.replaced,
            shot_cell_side=lambda: self._cell_side,
        )
        own = self._inputs.controls
        return Denoising(
            context,
            self._make_techniques(),
            select_texts(self._get_conditions(request), [*([self._anchor_row] if anchor else []), *rows]),
            anchor,
            self._get_reference(request),
            self._make_frame_conditions(prompt, rows, anchor),
            None if own is None else [control[rows] for control in own],
        )

    def _make_frame_conditions(self, prompt: str, rows: list[int], anchor: Anchor | None) -> FrameConditions | None:
        """What is said to each of the frames ``rows``; None where that is what the request says."""
        if self._schedule is None and (anchor is None or (not anchor.prompt and anchor.control_scale is None)):
            return None
        mixes = [Mix(prompt) if self._is_grouped else self._mixes[row] for row in rows]
        return FrameConditions(self._prompts, tuple(mixes), tuple(self._request.get_control_scale(row) for row in rows))

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
        shape = (self._model.latent_channels, *self._size)
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

    def _denoise_jointly(
        self, prompt: str, rows: list[int], looks: Mapping[str, Look], number: int, count: int
    ) -> tuple[torch.Tensor, Denoising, TextureFusion | None]:
        """(N, C, h, w) clean latents of frames denoised jointly from noise, with the run and its fusion; ``looks`` are those that
        there are, under each prompt. It is the run ``number`` of ``count``."""
        known, context = looks.get(prompt), self._run_context
        # a checkpoint is one of the first frames that are denoised
        is_first = number == 0
        self._anchor_row = rows[0]

        def show_progress(stage: str, step: int, steps: int) -> None:
            is_own = stage == "denoising"
            context.progress(stage, step + number * steps if is_own else step, steps * count if is_own else steps)

        run = self._make_denoising(
            rows,
            known,
            self._find_anchor(prompt, looks),
            joint=True,
            prompt=prompt,
            run_context=context
            if count == 1
            else replace(context, progress=show_progress, save=context.save if is_first else lambda checkpoint: None),
        )
        fusion = run.find_technique(TextureFusion)
        resumed = self._run_context.resume() if run.resumable and is_first else None
        if resumed is not None and resumed.latents.shape[0] == len(rows):
            return run.resume(resumed), run, fusion
        return run.run(run.scale_first_noise(self._make_noise(rows, run)), keep=True), run, fusion

    def _find_anchor(self, prompt: str, looks: Mapping[str, Look]) -> Anchor | None:
        """The finished frame that others attend to while they are made jointly; None where the first of them is it."""
        place = self._find_place(prompt, looks)
        return None if place is None else place.anchor

    def _has_place(self, look: Look) -> bool:
        """Whether the surroundings of a look that was given are this shot's."""
        turns_too = not self._turns or (look.surroundings is not None and bool(look.surroundings.cameras))
        return self._same_settings and turns_too

    def _find_place(self, prompt: str, looks: Mapping[str, Look]) -> Look | None:
        """The look that has the surroundings already: the one under the same prompt, or the first, whose place is kept."""
        usable = {one: look for one, look in looks.items() if one not in self._given or self._has_place(look)}
        if prompt in usable:
            return usable[prompt]
        keeps_place = self._schedule is not None and self._schedule.keep_place
        return next(iter(usable.values()), None) if self._is_grouped and keeps_place else None

    def _finalize(
        self,
        prompt: str,
        keyframes: list[int],
        latents: torch.Tensor,
        run: Denoising,
        fusion: TextureFusion | None,
        looks: Mapping[str, Look],
    ) -> tuple[list[torch.Tensor], Look]:
        """Finished pictures of the jointly denoised frames, and the look that they agree on."""
        assert fusion is not None
        decoded = list(self._decode_in_order(latents))
        pictures = run.finish_surfaces(decoded)
        place, known = self._find_place(prompt, looks), looks.get(prompt)
        plate = place.plate if place is not None else Plate.empty(*self._source.size)
        for picture, surface in zip(pictures, self._load_clip(keyframes).surface_index > 0, strict=True):
            plate = plate.add_frame(_convert_to_image(picture), surface)
        names = self._source.surface_names(keyframes) | (known.surfaces if known is not None else {})
        look = Look(fusion.texture(decoded), run.make_anchor(), plate, names)
        look = replace(look, surroundings=self._find_surroundings(keyframes, pictures, look, place))
        laid = self._lay_backgrounds(pictures, keyframes, plate, self._make_backgrounds(look, keyframes))
        return list(run.finish(laid)), look

    # -- what is around the characters ----------------------------------------------------------------------------------

    @cached_property
    def _cameras(self) -> dict[int, Camera]:
        """The cameras of the frames that are made; none where they are not known."""
        rows = list(self._rows)
        return dict(zip(rows, list_cameras(self._source.overview_manifest(rows)), strict=False))

    @cached_property
    def _turns(self) -> bool:
        """Whether the background turns with a camera that moves: where surroundings are rendered, their places say where it is."""
        background = self._method.background
        if background is None or not background.follow_camera or self._method.fusion is None or self._is_part:
            return False
        return moves(list(self._cameras.values()), *self._source.size) and not self._has_scenery

    @cached_property
    def _has_scenery(self) -> bool:
        """Whether what is around the characters is rendered, too."""
        manifest = self._source.overview_manifest(list(self._rows))
        return manifest is not None and any(not entry.character for entry in manifest.surfaces)

    @cached_property
    def _ground(self) -> float | None:
        """The height of the ground under the feet in metres; None where it is not known."""
        rows = list(self._rows)
        manifest = self._source.overview_manifest(rows)
        if manifest is None or not self._cameras:
            return None
        heights = []
        # in some of many frames a foot is down
        rows = rows[:: max(1, len(rows) // GROUND_FRAMES)]
        for row in rows:
            small = self._source.overview(row)
            heights.append(find_ground_height(small.depth[0], small.mask[0], self._cameras[row], manifest.near, manifest.far))
        lowest = min(heights)
        return lowest if np.isfinite(lowest) else None

    def _find_turning(
        self, rows: list[int], look: Look | None, anchor: Anchor | None, *, joint: bool
    ) -> tuple[tuple[Camera, ...], Horizon] | None:
        """What a clip's techniques know of a background that turns; None where it does not."""
        turns = self._turns if joint else look is not None and look.surroundings is not None and bool(look.surroundings.cameras)
        if not turns or any(row not in self._cameras for row in rows) or (anchor is not None and anchor.camera is None):
            return None
        before = [anchor.camera] if anchor is not None and anchor.camera is not None else []
        return (*before, *(self._cameras[row] for row in rows)), Horizon(self._ground if joint else None)

    def _find_surroundings(
        self, keyframes: list[int], pictures: list[torch.Tensor], look: Look, place: Look | None
    ) -> Surroundings | None:
        """What is around the characters, of finished key frames and what there was before; None where frames keep their own."""
        shadows = self._method.shadows is not None and not self._has_scenery
        former = None if place is None else place.surroundings
        passes = self._load_clip(keyframes)
        if self._turns:
            images = [_convert_to_image(picture) for picture in pictures]
            cameras = [self._cameras[row] for row in keyframes]
            return make_moving(images, passes, cameras, list(self._cameras.values()), self._ground, former, shadows=shadows)
        if not shadows:
            return None
        # only shadows without a pass need the ground
        return self._make_still(look, passes.shadow, former, self._ground if passes.shadow is None else None)

    def _make_still(self, look: Look, shadow: np.ndarray | None, former: Surroundings | None, ground: float | None) -> Surroundings:
        figure = look.anchor.passes.surface_index[0] > 0
        return make_still(look.plate.colour, look.plate.distance, figure, shadow=shadow, former=former, ground=ground)

    def _complete_look(self, look: Look) -> Look:
        """A look that was made before looks had surroundings, with them."""
        done = self._method.shadows is None or not self._same_settings or look.surroundings is not None
        if done or self._has_scenery:
            return look
        # from the look alone, so that every part of a shot has the same
        return replace(look, surroundings=self._make_still(look, look.anchor.passes.shadow, None, None))

    def _make_backgrounds(self, look: Look, rows: list[int]) -> list[FrameBackground]:
        """The backgrounds of the frames ``rows``; empty where frames keep their own."""
        around, shadows = look.surroundings, self._method.shadows
        if around is None:
            return []
        passes, manifest = self._load_clip(rows), self._source.manifest(rows)
        depth_range = (0.0, 0.0) if manifest is None else (manifest.near, manifest.far)
        strength = 0.0 if shadows is None else shadows.strength
        return [make_background(around, passes, n, self._cameras.get(row), depth_range, strength) for n, row in enumerate(rows)]

    def _lay_backgrounds(
        self, pictures: list[torch.Tensor], rows: list[int], plate: Plate, backgrounds: list[FrameBackground]
    ) -> list[torch.Tensor]:
        """The finished pictures of the frames ``rows`` with their surfaces cut out of latents that mix them with the place. The
        place is their ``backgrounds``, or the plate where frames share it."""
        fusion, background = self._method.fusion, self._method.background
        if not backgrounds and (fusion is None or not fusion.finish):
            return pictures
        # before a camera that moves, a plate is not what lies at the same pixel
        shares = background is not None and background.until >= 1 and not self._turns
        surfaces = torch.from_numpy(self._load_clip(rows).surface_index > 0)
        out = []
        for n, (picture, surface) in enumerate(zip(pictures, surfaces, strict=True)):
            surface = surface.to(picture.device)
            if backgrounds:
                one = backgrounds[n]
                known = one.share > 0.5
                out.append(composite_surfaces(picture, surface, one.colour, known | plate.known if shares else known, one.shade))
            elif shares:
                out.append(composite_surfaces(picture, surface, plate.colour, plate.known))
            else:
                out.append(composite_surfaces(picture, surface))
        return out

    def _fill_looks(self, looks: Mapping[str, Look]) -> dict[str, Look]:
        """The looks with colours for all of the surface that the shot's frames show; a look that is of this very shot has them."""
        if self._is_finalized or self._method.keyframes is None:
            return dict(looks)
        filled = {}
        for prompt, look in looks.items():
            surface = self._collect_surface_cells(look.texture.side)
            filled[prompt] = look.fill(surface, self._find_mirror(surface))
        return filled

    def _find_mirror(self, surface: SurfaceCells) -> Mirror | None:
        """The body's plane of symmetry, where that is asked for; it is said when there is none."""
        fusion = self._method.fusion
        if fusion is None or not fusion.symmetric:
            return None
        mirror = find_mirror(surface)
        if mirror is None and len(surface.cells):
            self._run_context.add_warnings((NOT_SYMMETRIC,))
        return mirror

    def _collect_surface_cells(self, side: float) -> SurfaceCells:
        """What the small copies of the shot's frames show of the surface, in cells as large as their pixels; ``side`` is that of
        cells as large as a frame's."""
        side *= compute_overview_scale(self._source)
        if self._surface_cells is None or self._surface_cells.side != side:
            frames = sample_frames(self._source.overview, range(self._source.frame_count), SURFACE_FRAMES)
            self._surface_cells = collect_surface_cells(frames, side)
        return self._surface_cells

    def _propagate(self, looks: Mapping[str, Look], rows: list[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Latents and finished pictures of frames that are denoised from the look's texture; between two prompts they are made
        under each, and mixed."""
        if not self._is_grouped:
            return self._propagate_under(self._request.text.prompt, looks, rows)
        sums: dict[int, list[torch.Tensor]] = {}
        for prompt in dict.fromkeys(prompt for row in rows for prompt in self._mixes[row].list_prompts()):
            under = [row for row in rows if self._mixes[row].get_share(prompt) > 0]
            for row, *made in zip(under, *self._propagate_under(prompt, looks, under), strict=True):
                parts = [self._mixes[row].get_share(prompt) * one for one in made]
                sums[row] = [a + b for a, b in zip(sums[row], parts, strict=True)] if row in sums else parts
        return [sums[row][0] for row in rows], [sums[row][1] for row in rows]

    def _propagate_under(
        self, prompt: str, looks: Mapping[str, Look], rows: list[int]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        settings, look = self._method.keyframes, looks[prompt]
        assert settings is not None
        run = self._make_denoising(rows, look, look.anchor, joint=False, once=not settings.guided, prompt=prompt)
        fusion = run.find_technique(TextureFusion)
        assert fusion is not None
        backgrounds = self._make_backgrounds(look, rows)
        with torch.no_grad():
            first = init_from_texture(look, fusion.lattice, [one.colour for one in backgrounds])
            clean = torch.cat([self._model.encode(some.to(self._model.dtype)) for some in first.split(self._batch_budget.frames)])
        step = run.steps - max(1, round(settings.strength * run.steps))
        latents = run.run(run.add_noise(clean, self._make_noise(rows, run), step), step)
        pictures = run.finish_surfaces(list(self.decode(latents)))
        return list(latents), list(run.finish(self._lay_backgrounds(pictures, rows, look.plate, backgrounds)))
