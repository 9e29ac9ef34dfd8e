"""A whole shot: key frames are denoised jointly, then every other frame is made from the look that results."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import msgspec
import numpy as np
import torch

from ...shared.machine import release_free_memory
from ...shared.model_profile import list_unset
from ...shared.passes import FramePasses
from ...shared.schedule import Mix
from ...shared.settings import with_settings
from ...shared.shot import NOTHING, ShotError, ShotRequest
from ..models.clip_rows import list_first_frames
from ..models.families import TextConditions
from ..models.image_model import ImageModel
from ..models.ip_adapters import ReferenceConditions, encode_reference, explain_no_adapter
from ..reference_pictures import is_cut
from .clips import check_parts, fit_to_model, plan_blocks
from .denoising import Denoising
from .frame_conditions import FrameConditions
from .given_inputs import GivenInputs, select_texts
from .images import convert_to_image
from .keyframe_selection import select_keyframes
from .lattice import cell_side, sample_frames
from .look import Anchor, Look, Plate
from .look_filling import LookFiller
from .memory import BatchBudget
from .noise import draw_noise, list_noise_sources
from .prediction import uses_guidance
from .propagation import init_from_texture
from .run_context import Interrupted, RunContext
from .sampling_warnings import list_sampling_warnings
from .selection import select_request
from .shot_surroundings import ShotSurroundings
from .source import MemoryPasses, PassesSource, compute_overview_scale, load_clip
from .techniques import ClipContext, Technique
from .techniques.context import latent_size
from .techniques.fusion import TextureFusion
from .techniques.registry import build_techniques

__all__ = ["Interrupted", "RunContext", "ShotPipeline"]


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
        if part is not None:
            check_parts(model)
        request = fit_to_model(model, request, run_context)
        run_context.add_warnings((*model.warnings, *filter(None, [model.plan.sentence])))
        self._model, self._request, self._run_context = model, request, run_context
        self._is_clip = model.family.kind == "clip"
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
        if look is not None:
            names = self._source.surface_names(self._rows)
            # a part may show only what the look does not know; whoever makes it knows that the look is of its shot
            adapted = look.renumber(names) if self._is_part else look.adapt_to_shot(self._source, names)
            self._given = adapted.to(model.device, model.dtype).list_by_prompt(request.text.prompt)
            if not same_settings:
                # a look that is kept is kept, whatever was said to it
                self._given = {request.text.prompt: next(iter(self._given.values()))}
        self._same_settings, self._is_finalized, self._noise = same_settings, finalized, noise
        self._around = ShotSurroundings(
            source, self._method, self._rows, self._load_clip, is_part=self._is_part, same_settings=same_settings
        )
        self._given = {prompt: self._around.complete_look(one) for prompt, one in self._given.items()}
        self._text: dict[bool, TextConditions] = {}
        self._reference, self._seen = self._check_reference(reference), dict[bool, ReferenceConditions]()
        self._filler = LookFiller(source, self._method, run_context)
        self._loaded: tuple[tuple[int, ...], FramePasses] | None = None
        self._more_techniques = tuple(techniques)
        self._inputs, self._anchor_row = given, 0
        self._wants_latents = False
        self._chosen_keyframes = tuple(keyframes)
        # both raise for what is missing or does not go together, before anything is made
        self._make_techniques()
        run_context.add_warnings(list_sampling_warnings(model, request))

    def frames(self) -> Iterator[np.ndarray]:
        """The finished frames in order, (H, W, 3) uint8."""
        for picture in self.pictures():
            yield convert_to_image(picture)

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
            yield index, convert_to_image(picture)

    @property
    def batch_frames(self) -> int:
        """How many frames go through the networks at a time: fewer than at first once memory was short."""
        return self._batch_budget.frames

    def make_batch(self, rows: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Frames that are no key frames, with their indices, made together from the finished look that was given."""
        for row, picture in zip(rows, self._propagate(self._given, list(rows))[1], strict=True):
            yield row, convert_to_image(picture)

    def latents(self) -> torch.Tensor:
        """(F, C, h, w) clean latents. Raises ``ShotError`` when they diverge or the memory is too small."""
        out = dict(self.iter_latents())
        return torch.stack([out[n] for n in range(self._source.frame_count)])

    def iter_latents(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Every frame's clean latents (C, h, w) with its index, as soon as they are there."""
        self._wants_latents = True
        chosen, looks = self._select_keyframes(()), dict(self._given)
        finished, sums = self._list_finished(chosen), dict[int, list[torch.Tensor]]()
        for number, (prompt, keyframes) in enumerate(chosen.items()):
            latents, run, fusion = self._denoise_jointly(prompt, keyframes, looks, number, len(chosen))
            yield from self._mix_prompts(prompt, zip(keyframes, latents, strict=True), finished, sums)
            # a prompt behind it keeps the place of this one's look
            if len(finished) < self._source.frame_count or number + 1 < len(chosen):
                looks[prompt] = self._finalize(prompt, keyframes, latents, run, fusion, looks)[1]
        looks = self._fill_looks(looks)
        for rows, kept in self._iter_batches([n for n in range(self._source.frame_count) if n not in finished]):
            made = zip(rows, self._propagate(looks, rows)[0], strict=True)
            yield from ((row, one) for row, one in made if row in kept)

    def iter_pictures(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Every finished frame (3, H, W) float32 around [-1, 1] with its index, as soon as it is there."""
        yield from self._iter_pictures((), ())

    def decode(self, latents: torch.Tensor) -> Iterator[torch.Tensor]:
        """(3, H, W) float32 pictures around [-1, 1] of clean latents, one after the other; where frames share rows, of a whole
        clip."""
        count = max(1, len(latents)) if self._model.row_frames > 1 else 1
        for first in range(0, len(latents), count):
            started = time.perf_counter()
            self._run_context.check()
            some = latents[first : first + count]
            with torch.no_grad():
                pictures = self._model.decode(some).float()
                if self._model.decodes_in_half and not torch.isfinite(pictures).all():
                    # some fine-tunes' auto-encoders overflow; each frame by itself, so that it is the same whatever was made before
                    pictures = self._model.decode_in_full(some).float()
            for n, picture in enumerate(pictures, first):
                if not torch.isfinite(picture).all():
                    raise ShotError(
                        "diverged",
                        f"Frame {n + 1} could not be decoded into a picture; use another seed, or another auto-encoder.",
                    )
            self._run_context.record_time("decoding", started)
            yield from pictures

    def decode_some(self, latents: torch.Tensor, wanted: Sequence[int]) -> list[torch.Tensor]:
        """``decode`` of all frames of a clip, of which the pictures of the ``wanted`` ones are given."""
        if self._model.row_frames > 1:
            pictures = list(self.decode(latents))
            return [pictures[n] for n in wanted]
        return list(self.decode(latents[list(wanted)]))

    def _select_keyframes(self, foreign: Collection[int]) -> dict[str, list[int]]:
        """The frames to denoise jointly under each prompt, the one that the others attend to first; none under a prompt whose look
        shows everything."""
        own = [n for n in range(self._source.frame_count) if n not in foreign]
        settings = self._method.keyframes
        if self._is_clip and settings is None and own:
            # those that are made see the others
            own = list(range(self._source.frame_count))
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
                if self._around.turns and not self._is_finalized:
                    found = self._around.bridge_views(found, rows, look if look is not None and self._has_place(look) else None)
            if found:
                chosen[prompt] = rows if len(found) == len(rows) else sorted(found) if self._is_clip else found
        return chosen

    def _group_by_prompt(self, rows: list[int]) -> dict[str, list[int]]:
        """Of the frames ``rows`` those that may be key frames under each prompt: where there are such, frames that are under it
        alone; without key frames all that are under it in part."""
        if not self._is_grouped:
            return {self._request.text.prompt: rows}
        said = dict.fromkeys(prompt for row in rows for prompt in self._mixes[row].list_prompts())
        groups = {}
        for prompt in said:
            shares = {row: self._mixes[row].get_share(prompt) for row in rows}
            least = 0.0 if self._method.keyframes is None else min(max(shares.values()), 1.0)
            groups[prompt] = [row for row, share in shares.items() if share >= least and share > 0]
        return groups

    def _list_finished(self, chosen: Mapping[str, list[int]]) -> set[int]:
        """Of the key frames those that are finished once they are denoised: between two prompts a frame is made under both, from
        their looks where there are key frames."""
        rows = {row for found in chosen.values() for row in found}
        is_apart = self._is_grouped and self._method.keyframes is not None
        return {row for row in rows if self._mixes[row].is_pure} if is_apart else rows

    def _mix_prompts(
        self, prompt: str, made: Iterable[tuple[int, torch.Tensor]], finished: Collection[int], sums: dict[int, list[torch.Tensor]]
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Of frames that were made under a prompt those that are finished by it; ``sums`` gathers what was made of a frame under
        each of its prompts, in the parts that they have of it."""
        for row, one in made:
            if row not in finished:
                continue
            mix = self._mixes[row]
            if not self._is_grouped or mix.is_pure:
                yield row, one
                continue
            sums.setdefault(row, []).append(mix.get_share(prompt) * one)
            if len(sums[row]) == len(mix.list_prompts()):
                yield row, torch.stack(sums.pop(row)).sum(0)

    def _iter_pictures(self, done: Collection[int], foreign: Collection[int]) -> Iterator[tuple[int, torch.Tensor]]:
        chosen, looks = self._select_keyframes(foreign), dict(self._given)
        finished_rows, sums = self._list_finished(chosen), dict[int, list[torch.Tensor]]()
        keyframes = list(dict.fromkeys(row for rows in chosen.values() for row in rows if row in finished_rows))
        for number, (prompt, rows) in enumerate(chosen.items()):
            joint = self._make_jointly(prompt, rows, looks, number, len(chosen))
            yield from self._mix_prompts(prompt, joint, finished_rows, sums)
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
        for rows, kept in self._iter_batches(rest):
            before, finished = finished, finished + len(kept)
            if set(kept) <= set(done):
                continue

            def tell(fraction: float, before: int = before, count: int = len(kept)) -> None:
                self._run_context.progress("frames", before + int(fraction * count), len(rest))

            made = zip(rows, self._propagate(looks, rows, tell if self._is_clip else None)[1], strict=True)
            yield from ((row, picture) for row, picture in made if row in kept and row not in done)
            self._run_context.progress("frames", finished, len(rest))

    def _make_jointly(
        self, prompt: str, rows: list[int], looks: dict[str, Look], number: int, count: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """The pictures of frames that are denoised jointly, with their indices; their look is put among ``looks``. What they were
        made with goes before others are made."""
        latents, run, fusion = self._denoise_jointly(prompt, rows, looks, number, count)
        if fusion is None:
            yield from zip(rows, run.finish(self._decode_in_order(latents)), strict=True)
        else:
            pictures, looks[prompt] = self._finalize(prompt, rows, latents, run, fusion, looks)
            yield from zip(rows, pictures, strict=True)

    def _load_clip(self, rows: Sequence[int]) -> FramePasses:
        """The passes of some frames, cached until other frames are asked for, as several parts work on the same ones."""
        wanted = tuple(rows)
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = None
            self._loaded = wanted, load_clip(self._source, wanted)
        return self._loaded[1]

    def _iter_batches(self, rows: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Of the frames ``rows`` (those that are made together, those of them that are kept): a few at a time. A model of clips
        makes all frames of the shot again, so that each sees those before and behind it, whichever of them are there."""
        if self._is_clip:
            missing = set(rows)
            for made, kept in plan_blocks(self._rows):
                release_free_memory()
                wanted = [row for row in kept if row in missing]
                if wanted:
                    yield made, wanted
            return
        while rows:
            release_free_memory()
            count = 1 if self._is_part else self._batch_budget.frames
            yield rows[:count], rows[:count]
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
            light=look.light if look else None,
            keeps_light=anchor is not None,
            joint=joint,
            wants_latents=self._wants_latents,
            noise_given=self._noise is not None,
            run_context=run_context or self._run_context,
            batch_budget=self._batch_budget,
            turning=self._around.find_turning(rows, look, anchor, joint=joint),
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
            look,
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
        found = list_noise_sources(self._make_techniques(), range(self._source.frame_count))
        # frames that share a row share its noise
        return [found[n] for n in list_first_frames(len(found), self._model.row_frames)] if self._model.row_frames > 1 else found

    def _make_noise(self, rows: list[int], run: Denoising) -> torch.Tensor:
        if self._noise is not None:
            firsts = list_first_frames(len(self._noise), self._model.row_frames)
            return run.first_noise(self._noise[[firsts[row] for row in rows]])
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
        turns_too = not self._around.turns or (look.surroundings is not None and bool(look.surroundings.cameras))
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
        place, known = self._find_place(prompt, looks), looks.get(prompt)
        plate = place.plate if place is not None else Plate.empty(*self._source.size)
        names = self._source.surface_names(keyframes) | (known.surfaces if known is not None else {})
        light = fusion.find_light(decoded)
        look = Look(fusion.texture(decoded, light), run.make_anchor(), plate, names, light=light)
        look = self._filler.fill(look)
        pictures = run.finish_surfaces(decoded, look)
        for picture, surface in zip(pictures, self._load_clip(keyframes).surface_index > 0, strict=True):
            plate = plate.add_frame(convert_to_image(picture), surface)
        former = None if place is None else place.surroundings
        look = replace(look, plate=plate)
        look = replace(look, surroundings=self._around.find_surroundings(keyframes, pictures, look, former))
        laid = self._around.lay_backgrounds(pictures, keyframes, plate, self._around.make_backgrounds(look, keyframes))
        return list(run.finish(laid)), look

    def _fill_looks(self, looks: Mapping[str, Look]) -> dict[str, Look]:
        """The looks with colours for all of the surface that the shot's frames show; a look that is of this very shot has them."""
        if self._is_finalized or self._method.keyframes is None:
            return dict(looks)
        given = self._given
        return {prompt: self._filler.fill(look) if look is given.get(prompt) else look for prompt, look in looks.items()}

    def _propagate(
        self, looks: Mapping[str, Look], rows: list[int], tell: Callable[[float], None] | None = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Latents and finished pictures of frames that are denoised from the look's texture; between two prompts they are made
        under each, and mixed. ``tell`` is told which fraction of the steps is done, where there is one prompt."""
        if not self._is_grouped:
            return self._propagate_under(self._request.text.prompt, looks, rows, tell)
        sums: dict[int, list[torch.Tensor]] = {}
        for prompt in dict.fromkeys(prompt for row in rows for prompt in self._mixes[row].list_prompts()):
            under = [row for row in rows if self._mixes[row].get_share(prompt) > 0]
            for row, *made in zip(under, *self._propagate_under(prompt, looks, under), strict=True):
                parts = [self._mixes[row].get_share(prompt) * one for one in made]
                sums[row] = [a + b for a, b in zip(sums[row], parts, strict=True)] if row in sums else parts
        return [sums[row][0] for row in rows], [sums[row][1] for row in rows]

    def _propagate_under(
        self, prompt: str, looks: Mapping[str, Look], rows: list[int], tell: Callable[[float], None] | None = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        settings, look = self._method.keyframes, looks[prompt]
        assert settings is not None
        run = self._make_denoising(rows, look, look.anchor, joint=False, once=not settings.guided, prompt=prompt)
        fusion = run.find_technique(TextureFusion)
        assert fusion is not None
        backgrounds = self._around.make_backgrounds(look, rows)
        with torch.no_grad():
            gains = fusion.compute_gains(look.light)
            first = init_from_texture(look, fusion.lattice, [one.colour for one in backgrounds], gains)
            clean = torch.cat([self._model.encode(some.to(self._model.dtype)) for some in first.split(self._batch_budget.frames)])
        step = run.steps - max(1, round(settings.strength * run.steps))
        latents = run.run(run.add_noise(clean, self._make_noise(rows, run), step), step, tell=tell)
        pictures = run.finish_surfaces(list(self.decode(latents)), look)
        laid = self._around.lay_backgrounds(pictures, rows, look.plate, backgrounds)
        return list(latents), list(run.finish(laid))
