"""How a model likes to be run, and requests with what they leave to the model put in.

A request leaves a setting to the model with 0 or an empty text. Who asks, in Blender or elsewhere, gets a ``ModelProfile`` from the
backend, which knows the model's files; ``resolve_request`` makes a request definite with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from .picture_size import Crop, find_made_size, find_size_multiple, fit_area, make_crop
from .settings import MAX_TEXT, list_settings, with_settings
from .shot import MAX_SIDE, MAX_STEPS, NOTHING, ShotRequest

#: settings of a request that follow the model unless they are set; the size does as well. The spacing of the steps is not among
#: them: left to the model, it is that of the schedule that the model is loaded with
OWN_SETTINGS = ("steps", "guidance_scale", "scheduler", "clip_skip", "negative_prompt")
SIDES = ("width", "height")
#: schedulers for models distilled to few steps, which are run without guidance
FEW_STEP_SCHEDULERS = ("lcm", "tcd")
#: side of a request of Blender's of which only the other side is set: what it was before there was a model's own size
FORMER_SIDE = 256


_Side = Annotated[int, msgspec.Meta(ge=8, le=MAX_SIDE)]
_Word = Annotated[str, msgspec.Meta(max_length=64)]


class ModelProfile(msgspec.Struct, frozen=True):
    """How a model likes to be run.

    ``width`` and ``height`` in pixels are an area, which pictures of another aspect keep, as far as no side gets above
    ``most_side`` (0 for any). ``scheduler`` is a value of ``Sampling.scheduler``, ``spacing`` of the schedule's steps leading,
    trailing, linspace or empty. ``family``, ``prediction`` (epsilon, v_prediction, sample, flow), ``zero_terminal_snr`` and
    ``distilled`` are what was recognised. ``origins`` say for each value where it comes from, ``files`` are the settings files that
    were read.
    """

    width: _Side = 512
    height: _Side = 512
    most_side: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIDE)] = 0
    steps: Annotated[int, msgspec.Meta(ge=1, le=MAX_STEPS)] = 30
    guidance_scale: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 7.5
    scheduler: _Word = "ddim"
    spacing: _Word = ""
    negative_prompt: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] = ""
    clip_skip: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    family: _Word = ""
    prediction: _Word = ""
    zero_terminal_snr: bool = False
    distilled: _Word = ""
    origins: Annotated[dict[str, str], msgspec.Meta(max_length=100)] = {}
    files: Annotated[tuple[str, ...], msgspec.Meta(max_length=1000)] = ()

    def get_size(self, aspect: float | None = None) -> tuple[int, int]:
        """(width, height) of the model's own pictures, in pixels; of an aspect (width over height), if one is given."""
        if aspect is None:
            return self.width, self.height
        return fit_area(self.width, self.height, aspect, self.most_side or MAX_SIDE)


_PRESET_NAMES = (
    *SIDES,
    "steps",
    "guidance_scale",
    "scheduler",
    "spacing",
    "family",
    "prediction",
    "zero_terminal_snr",
    "distilled",
)


def _make_preset(size: int, **values: Any) -> ModelProfile:
    return ModelProfile(size, size, **values, origins=dict.fromkeys(_PRESET_NAMES, "preset"))


#: it knows no pictures with longer sides than those that it was trained with
_STARTER = _make_preset(
    256,
    most_side=256,
    steps=20,
    guidance_scale=1.5,
    spacing="trailing",
    family="other",
    prediction="v_prediction",
    zero_terminal_snr=True,
)

#: profiles of the models with a name, without settings files
PRESET_PROFILES: dict[str, ModelProfile] = {
    "starter": _STARTER,
    # the same with a motion module
    "starter_clip": _STARTER,
    "starter_flow": _make_preset(
        256, most_side=256, steps=20, guidance_scale=1.5, scheduler="euler", family="z_image", prediction="flow"
    ),
    "sd15": _make_preset(512, steps=30, guidance_scale=7.5, spacing="leading", family="sd1", prediction="epsilon"),
    "sdxl": _make_preset(1024, steps=30, guidance_scale=5.0, spacing="leading", family="sdxl", prediction="epsilon"),
}


def _get_values(request: ShotRequest) -> dict[str, Any]:
    """The settings of a request that a model may decide, by name."""
    found = {}
    for declared in list_settings(ShotRequest):
        if declared.name in (*OWN_SETTINGS, *SIDES):
            owner: Any = request
            for part in declared.path:
                owner = getattr(owner, part)
            found[declared.name] = owner
    return found


def list_unset(request: ShotRequest) -> tuple[str, ...]:
    """The settings of a request that are left to the model."""
    return tuple(name for name, value in _get_values(request).items() if not value)


def resolve_values(values: Mapping[str, Any], profile: ModelProfile) -> dict[str, Any]:
    """The settings of ``OWN_SETTINGS`` in ``values`` with those that are 0 or empty in the model's own."""
    found = {name: value or getattr(profile, name) for name, value in values.items() if name in OWN_SETTINGS}
    is_chosen = values.get("scheduler") in FEW_STEP_SCHEDULERS
    if not values.get("guidance_scale") and is_chosen and not profile.distilled:
        # the model's own guidance was not made for such a scheduler
        found["guidance_scale"] = 1.0
    if values.get("negative_prompt") == NOTHING and not profile.negative_prompt:
        found["negative_prompt"] = ""
    return found


def resolve_request(
    request: ShotRequest, profile: ModelProfile, size: tuple[int, int] | None = None, aspect: float | None = None
) -> ShotRequest:
    """A request with what it leaves to the model put in; what it sets stays.

    ``size`` (width, height) takes the place of the model's own, where there are pictures already. The model's own is of ``aspect``,
    if that is given. Of a size with one side set, the other keeps the aspect. A negative prompt that names nothing stays as it is
    where the model has one, so that it can be resolved again.
    """
    values = _get_values(request)
    changes: dict[str, Any] = resolve_values(values, profile)
    if not (request.width and request.height):
        wide, tall = size or profile.get_size(aspect)
        if request.width or request.height:
            scale = request.width / wide or request.height / tall
            wide, tall = (min(max(8, round(side * scale)), MAX_SIDE) for side in (wide, tall))
        changes |= {"width": request.width or wide, "height": request.height or tall}
    return with_settings(request, {name: value for name, value in changes.items() if value != values[name]})


def complete_request(
    request: ShotRequest, profile: ModelProfile, size: tuple[int, int], aspect: float | None
) -> tuple[ShotRequest, Crop | None]:
    """A request for pictures of ``size`` (width, height) with what it leaves to the model put in, in the nearest size that holds
    them and that the model can make, and the part of those frames that is wanted, None for all of them. A size with a 0 is the
    model's own, of ``aspect``, if that is given."""
    shown = size if all(size) else profile.get_size(aspect)
    made = find_made_size(*shown, find_size_multiple(request.sampling.model))
    request = resolve_request(with_settings(request, dict(zip(SIDES, made, strict=True))), profile)
    return request, make_crop(*shown, *made)
