"""The network's prediction for some frames of a clip: the model's networks under classifier-free guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ...shared.control_uses import ControlUse
from ...shared.settings import with_settings
from ...shared.shot import ShotRequest
from ..models.families import NetworkInput, TextConditions
from ..models.image_model import ImageModel
from .frame_conditions import FrameConditions
from .rows import take_rows
from .sampling import Sampler
from .shown_look import ShownLook
from .techniques import ClipContext


def soften_region(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(F, 1, h, w) in [0, 1]: the fraction of each latent pixel that characters take, its edge softened by a latent pixel."""
    fractions = F.interpolate(mask[:, None].float(), size, mode="area")
    return F.avg_pool2d(F.pad(fractions, (1, 1, 1, 1), mode="replicate"), 3, 1)


#: what the seed of a reference view's noise is more than the shot's
_VIEW_SEED = 7919
#: diffusers' names of SDXL's further conditions -> those of the UNet; those of them with a negative of their own
ADDED = {"add_text_embeds": "text_embeds", "add_time_ids": "time_ids"}
NEGATED = ("add_text_embeds", "add_time_ids")


class TensorShapeError(ValueError):
    """A tensor that is to take another's place has another shape."""

    def __init__(self, name: str, given: torch.Tensor) -> None:
        super().__init__(f"{name} {list(given.shape)}")
        self.name, self.shape = name, list(given.shape)


class Predictor:
    """Predicts what the scheduler needs for chosen frames.

    ``text`` holds the unconditional embeddings first when guided, then the prompt's, then those of the background's own prompt,
    where there is one, which apply where no character is. ``controls`` (F, 3, H, W) are the ControlNets' pictures, one each.
    ``text``, ``controls`` and ``guidance_scale`` may be changed between steps; a guidance of 1 or less takes the conditional pass
    alone. With ``conditions``, those of all F frames, there are several prompts, or other control strengths than the request's.
    ``look`` is what networks that take such pictures are shown of a look.

    Differentiable in the latents, apart from what the method's ``as_released`` holds fixed.
    """

    def __init__(
        self,
        context: ClipContext,
        sampler: Sampler,
        text: TextConditions,
        controls: list[torch.Tensor],
        conditions: FrameConditions | None = None,
        look: ShownLook | None = None,
    ) -> None:
        self._model, self._request, self._conditions = context.model, context.request, conditions
        if conditions is not None:
            # each frame has its own
            self._request = with_settings(self._request, {"control_scale": 1.0})
        self._sampler, self.text, self.controls = sampler, text, controls
        # uploaded once: the networks take one at a time
        self._timesteps = sampler.timesteps.to(context.device)
        #: the controls' pictures, and what was made of those of some frames, or of all under an empty tuple
        self._prepared: tuple[list[torch.Tensor], dict[tuple[int, ...], list[torch.Tensor]]] | None = None
        self._look, self._views = look, self._prepare_views(look)
        self._released = context.method.get_released()
        self.guidance_scale, self.rows, self._given = self._request.sampling.guidance_scale, context.rows, context.given
        self._region = None
        if context.request.text.background_prompt:
            character = torch.from_numpy(context.passes.mask > 0)
            self._region = soften_region(character, context.latent_size).to(context.device, context.dtype)
        # some few-step models take the guidance scale as an input, and need no second pass
        self._embedded = self._model.takes_guidance_scale
        self.guided = uses_guidance(self._model, self._request)
        #: runs of frames in a batch, for attention
        self.groups = int(self.guided) + 1 + int(self._region is not None)

    def __call__(self, latents: torch.Tensor, current: torch.Tensor, rows: list[int], frames: list[int], step: int) -> torch.Tensor:
        """(n, C, h, w) for the latents ``current`` of the frames ``rows``; the networks see the ``frames``, which are those and
        others of the whole clip's ``latents``, ascending."""
        if frames != rows:
            others = [frame for frame in frames if frame not in rows]
            order = [*others, *rows]
            current = take_rows(torch.cat([take_rows(latents, others), current]), [order.index(frame) for frame in frames])
        seen = self._sampler.scale_model_input(current, step)
        # without guidance there is nothing to go through but the conditional half
        is_guiding = self.guided and self.guidance_scale > 1
        held = seen.detach() if is_guiding and self._released.omit_conditional else seen
        batch = torch.cat([seen, *[held] * (self.groups - 1)])
        words = self._spread_text(frames)
        strengths: list[Any] = list_control_scales(self._model, self._request, step, len(self._timesteps))
        seen_controls: list[torch.Tensor] = []
        if any(strengths):
            if self._conditions is not None:
                factors = self._conditions.get_control_factors(frames, self.groups, batch)
                strengths = [strength * factors for strength in strengths]
            seen_controls = self._prepare_controls(frames)
        output = self._model.family.predict(
            self._model,
            NetworkInput(
                batch,
                self._timesteps[step],
                words["encoder_hidden_states"],
                words["added_cond_kwargs"] or {},
                seen_controls,
                strengths,
                self.guidance_scale,
                self.guided,
                self.groups,
                self._released.omit_controlnet,
                self._views if seen_controls else None,
            ),
        )
        parts = list(output.chunk(self.groups))
        unconditional = parts.pop(0) if self.guided else None
        wanted = parts[0]
        if self._region is not None:
            region = take_rows(self._region, frames)
            wanted = region * parts[0] + (1 - region) * parts[1]
        if unconditional is not None and self.guidance_scale > 1:
            wanted = self._model.family.guide(unconditional, wanted, self.guidance_scale)
        return wanted if frames == rows else take_rows(wanted, [frames.index(frame) for frame in rows])

    def _spread_text(self, frames: list[int]) -> dict[str, Any]:
        """The text as arguments of a network that sees some frames, in runs of them."""
        added = {name: self._spread(value, frames) for name, value in self.text.added.items()}
        return {"encoder_hidden_states": self._spread(self.text.embeddings, frames), "added_cond_kwargs": added or None}

    def _spread(self, values: torch.Tensor, frames: Sequence[int]) -> torch.Tensor:
        """A row of each group's for each frame, of what the text has a row of for each frame or each prompt."""
        if self.text.is_per_frame:
            return values[:, frames].flatten(0, 1)
        if self._conditions is None:
            return values.repeat_interleave(len(frames), 0)
        first, last = int(self.guided), len(values) - int(self._region is not None)
        around = (values[:first], values[last:])
        before, behind = (part.repeat_interleave(len(frames), 0) for part in around)
        return torch.cat([before, self._conditions.mix(values[first:last], frames), behind])

    def _prepare_controls(self, frames: list[int]) -> list[torch.Tensor]:
        """What the networks are given for the ControlNets' pictures of some frames: made once for each of these, or once for each
        clip where frames share rows."""
        if self._prepared is None or any(old is not new for old, new in zip(self._prepared[0], self.controls, strict=True)):
            self._prepared = (list(self.controls), {})
        made = self._prepared[1]
        shares_rows = self._model.row_frames > 1
        key = tuple(frames) if shares_rows else ()
        if key not in made:
            shown = [take_rows(control, frames) for control in self.controls] if shares_rows else self.controls
            surface = None if self._look is None else self._look.draw_surface([frame - self._given for frame in frames])
            with torch.no_grad():
                made[key] = self._model.family.prepare_controls(self._model, shown, surface)
        return made[key] if shares_rows else [take_rows(control, frames) for control in made[key]]

    @torch.no_grad()
    def _prepare_views(self, look: ShownLook | None) -> tuple[torch.Tensor, torch.Tensor] | None:
        """A look's reference views for the networks, and their noise, which is the same whenever a shot is made."""
        if look is None or look.views is None:
            return None
        made = self._model.family.prepare_views(self._model, look.views.to(self._model.device, self._model.dtype))
        shape = (len(made), self._model.latent_channels, *made.shape[2:])
        generator = torch.Generator().manual_seed(self._request.sampling.seed + _VIEW_SEED)
        return made, torch.randn(shape, generator=generator).to(made.device)

    def change_guidance(self, scale: float) -> None:
        """Go on with another guidance scale. Raises ``ValueError`` where guidance was off from the first step."""
        if scale > 1 and not self.guided and not self._embedded:
            raise ValueError(scale)
        self.guidance_scale = scale

    def list_tensors(self) -> dict[str, torch.Tensor | list[torch.Tensor]]:
        """What the networks see of the clip's own N frames, by diffusers' names: ``prompt_embeds`` (G*N, S, D) of G runs of frames,
        ``negative_prompt_embeds`` (N, S, D), SDXL's further conditions, and ``image`` (G*N, 3, H, W), a list for several
        ControlNets."""
        own = list(range(self._given, self._given + len(self.rows)))
        words = self._spread_text(own)
        found: dict[str, Any] = {"prompt_embeds": words["encoder_hidden_states"]}
        found["negative_prompt_embeds"] = found["prompt_embeds"][: len(own)] if self.guided else None
        added = words["added_cond_kwargs"] or {}
        found |= {given: added.get(name) for given, name in ADDED.items()}
        found |= {f"negative_{name}": value[: len(own)] for name, value in found.items() if name in NEGATED and value is not None}
        found["negative_pooled_prompt_embeds"] = found.pop("negative_add_text_embeds", None)
        pictures = [torch.cat([control[own]] * self.groups) for control in self.controls]
        found["image"] = pictures if len(pictures) > 1 else pictures[0]
        return found

    def replace_tensors(self, given: Mapping[str, Any]) -> None:
        """Go on with other tensors of ``list_tensors``; embeddings may be those of the conditional pass alone, of all frames or of
        each. As in diffusers, negative embeddings are part of the others and change nothing by themselves. Raises
        ``TensorShapeError`` for other shapes."""
        text = self.text
        if given.get("prompt_embeds") is not None:
            text = self._replace_text(text, None, given["prompt_embeds"])
        for name, own in ADDED.items():
            if given.get(name) is not None and own in text.added:
                text = self._replace_text(text, own, given[name])
        self.text = text
        if given.get("image") is not None:
            pictures = given["image"] if isinstance(given["image"], (list, tuple)) else [given["image"]]
            if len(pictures) != len(self.controls):
                raise TensorShapeError("image", pictures[0])
            self.controls = [self._replace_picture(old, new) for old, new in zip(self.controls, pictures, strict=True)]

    def _replace_text(self, text: TextConditions, name: str | None, given: torch.Tensor) -> TextConditions:
        count, total = len(self.rows), self._given + len(self.rows)
        text = self._split_text(text, total)
        whole = text.embeddings if name is None else text.added[name]
        new = given.to(whole.device, whole.dtype)
        if new.shape[1:] != whole.shape[2:]:
            raise TensorShapeError(name or "prompt_embeds", new)
        conditional = int(self.guided)
        if len(new) == self.groups * count:
            parts = list(new.unflatten(0, (self.groups, count)))
        elif len(new) in (1, count):
            parts = [*whole[:conditional, self._given :], new.expand(count, *new.shape[1:])]
            parts += list(whole[conditional + 1 :, self._given :])
        else:
            raise TensorShapeError(name or "prompt_embeds", new)
        changed = torch.cat([whole[:, : self._given], torch.stack(parts)], 1)
        if name is None:
            return TextConditions(changed, text.added, text.warnings)
        return TextConditions(text.embeddings, text.added | {name: changed}, text.warnings)

    def _split_text(self, text: TextConditions, total: int) -> TextConditions:
        """The text with embeddings of each frame's own."""
        if text.is_per_frame:
            return text

        def split(values: torch.Tensor) -> torch.Tensor:
            return self._spread(values, range(total)).unflatten(0, (self.groups, total))

        return TextConditions(split(text.embeddings), {name: split(value) for name, value in text.added.items()}, text.warnings)

    def _replace_picture(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        count = len(self.rows)
        if new.shape[1:] != old.shape[1:] or len(new) not in (1, count, count * self.groups):
            raise TensorShapeError("image", new)
        own = new[-count:].to(old.device, old.dtype).expand(count, *old.shape[1:])
        return torch.cat([old[: self._given], own])


def list_control_scales(model: ImageModel, request: ShotRequest, step: int, steps: int) -> list[float]:
    """How strongly each ControlNet works at a step: as the model's name has it, times what the request has for all of them."""
    sampling = request.sampling
    overall = ControlUse(sampling.control_scale, sampling.control_start, sampling.control_end)
    return [overall.scale_at(step, steps) * use.scale_at(step, steps) for use in model.control_uses]


def uses_guidance(model: ImageModel, request: ShotRequest) -> bool:
    """Whether classifier-free guidance needs a second pass."""
    return model.uses_guidance(request.sampling.guidance_scale)
