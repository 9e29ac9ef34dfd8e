"""A shot: what is asked of the backend, as typed values.

``ShotRequest`` holds everything that changes the pictures, so that equal requests with equal passes give equal frames.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from .manifest import PassesManifest
from .schedule import MAX_CONTROL, Mix, Schedule, check_schedule, list_prompts, mix_prompts
from .settings import MAX_TEXT, Choice, Setting, SettingError, check_settings, with_settings

#: strength of a reference picture that is left to the model's name
MODELS_STRENGTH = -1.0
MAX_FRAMES, MAX_SIDE, MAX_STEPS, MAX_PLUGINS, MAX_PLUGIN_SETTINGS = 10_000, 4096, 1000, 64, 256
#: of the largest text encoder
MAX_LAYERS = 32
#: what holds for a setting that is left to the model
MODELS_OWN = "the model's own"
#: what the name of a job in the backend's store looks like, and of a look's file
JOB_NAME = "[0-9a-f]{24}"
#: the reference of an alignment whose points are followed back exactly
CHAIN = "chain"
#: the negative prompt that names nothing; an empty one is the model's own
NOTHING = "-"
_FROM, _UNTIL = (
    Setting(label, f"Fraction of the steps {verb} which it works, 0 to 1", ge=0, le=1)
    for label, verb in (("From", "from"), ("Until", "up to"))
)


class ShotError(ValueError):
    """A request or its passes do not fit; ``code`` is for programs, the message one sentence for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Alignment(msgspec.Struct, frozen=True):
    """Spatial Latent Alignment: on the first ``until`` fraction of the steps, against ``reference`` frames."""

    until: Annotated[float, _UNTIL] = 0.4
    reference: Annotated[
        str,
        Setting(
            "Reference",
            "Which frame each frame's latents are copied from",
            choices=(
                Choice("prev", "Previous", "The frame before"),
                Choice("first", "First", "The first frame"),
                Choice("prev_new", "Previous, Matched", "The frame before, with the matches that it had itself, as in the paper"),
                Choice(
                    CHAIN,
                    "Chain",
                    "The frame in which each surface point came into sight, resampled below the cell, on eight of the steps at "
                    "most; needs exact matching",
                ),
            ),
        ),
    ] = "prev_new"


class Guidance(msgspec.Struct, frozen=True):
    """Pixel-Wise Guidance on the steps between two fractions of the schedule.

    ``rho`` is the step length, ``resolution`` the side in pixels on which pictures are compared, 0 for half the frame.
    """

    start: Annotated[float, _FROM] = 0.4
    until: Annotated[float, _UNTIL] = 0.6
    rho: Annotated[float, Setting("Rho", "Step length of the pixel guidance", ge=0, le=1e6)] = 0.01
    resolution: Annotated[
        int, Setting("Resolution", "Side on which pictures are compared; 0 is half the frame", ge=0, le=MAX_SIDE, unit="px")
    ] = 0
    gradient: Annotated[
        str,
        Setting(
            "Gradient",
            "What the pixel guidance is differentiated through",
            choices=(
                Choice("full", "Full", "Decoder and UNet, as in the paper"),
                Choice("decoder", "Decoder", "The decoder only"),
                Choice("linear", "Linear", "A linear map fitted to the decoder, at the latents' resolution"),
            ),
        ),
    ] = "full"


class Background(msgspec.Struct, frozen=True):
    """The background shared over frames: on the first ``until`` fraction of the steps its latents are those of the first frame,
    at the same pixel or, where surroundings were rendered, at the same place of the world."""

    until: Annotated[float, _UNTIL] = 0.8
    follow_camera: Annotated[
        bool,
        Setting(
            "Follow Camera",
            "Before a camera that moves the background turns with it, as ground under the feet and what is far away, where no "
            "surroundings are rendered and frames are fused",
        ),
    ] = True


class Shadows(msgspec.Struct, frozen=True):
    """Shadows that walk along: the one that the model painted is taken out of the background, and each frame's own laid on, as dark
    and of the same tint: from the shadow pass, or a soft one under the feet where there is none."""

    strength: Annotated[
        float,
        Setting("Strength", "How dark shadows are, against the one that the model painted", ge=0, le=5, soft_max=2),
    ] = 1.0


class Fusion(msgspec.Struct, frozen=True):
    """Clean predictions fused on the surface between two shares of the steps, so that all frames show one texture."""

    start: Annotated[float, _FROM] = 0.0
    until: Annotated[float, _UNTIL] = 1.0
    full_steps: Annotated[
        int,
        Setting(
            "Full Steps",
            "Fusions that go through the auto-encoder, which keeps detail and costs as much as two or three steps of "
            "denoising each; 0 sends every step through it",
            ge=0,
            le=MAX_STEPS,
        ),
    ] = 2
    coarse: Annotated[
        float,
        Setting(
            "Coarse Until",
            "Fraction of the steps up to which the others are fused in the colours of the latents themselves, which costs "
            "nothing and keeps no detail",
            ge=0,
            le=1,
        ),
    ] = 0.0
    sharpness: Annotated[
        float,
        Setting(
            "Sharpness",
            "How much the better view of a point counts at the end; 0 takes the mean, which is smooth and blurred",
            ge=0,
            le=1000,
        ),
    ] = 400.0
    finish: Annotated[bool, Setting("Lock Detail", "Lock the finished frames' detail to the texture")] = True
    shading: Annotated[float, Setting("Shading", "How much of a frame's own light stays", ge=0, le=10)] = 0.5
    light: Annotated[
        float,
        Setting(
            "Light",
            "How much of the light that key frames show stays where it is while surfaces turn in it; 0 leaves it in the texture, "
            "which turns with them",
            ge=0,
            le=1,
        ),
    ] = 1.0
    reconcile: Annotated[
        bool,
        Setting(
            "Reconcile",
            "Where key frames give a place different colours, the one that most of them see is taken, not the mean of them; detail "
            "stays",
        ),
    ] = True
    symmetric: Annotated[
        bool,
        Setting(
            "Symmetric",
            "What no key frame shows takes its colour from the same place on the other side of the body, where that is seen; for "
            "costumes that are the same left and right",
        ),
    ] = False
    show_look: Annotated[
        str,
        Setting(
            "Show Look",
            "What a model of clips that takes pictures beside the depth, as Wan VACE does, is shown of a kept look",
            choices=(
                Choice("view", "View", "The character as the look's first key frame shows it, for reference"),
                Choice("surface", "Surface", "In each frame what the look knows of the surface, to be kept as it is"),
                Choice("both", "Both", "The view and the surface"),
                Choice("nothing", "Nothing", "Only the finished frames wear it"),
            ),
        ),
    ] = "view"


class Keyframes(msgspec.Struct, frozen=True):
    """Key frames are made together; every other frame begins with their texture, under the noise of the last ``strength`` fraction
    of the steps, and keeps to it."""

    count: Annotated[
        int, Setting("Count", "Most frames that are denoised jointly; between them they show the surface", ge=1, le=MAX_FRAMES)
    ] = 8
    strength: Annotated[
        float, Setting("Denoising Strength", "Fraction of the steps that the other frames go through", ge=1e-6, le=1)
    ] = 0.05
    least_gain: Annotated[
        float,
        Setting(
            "Least Gain", "A key frame shows at least this fraction of the surface that the key frames before it do not", ge=0, le=1
        ),
    ] = 0.03
    guided: Annotated[
        bool,
        Setting(
            "Guided", "The other frames, too, go through the second pass of classifier-free guidance, which doubles their cost"
        ),
    ] = False


class AsReleased(msgspec.Struct, frozen=True):
    """What LatentMan's released code does in another way than its paper and the preset ``latentman``.

    Each field switches one departure of ours back; ``docs/faithfulness.md`` gives reasons and sizes.
    """

    steps_from_zero: Annotated[
        bool,
        Setting("Steps from 0", "Timesteps are spaced from 0 on, whatever steps_offset the model has (1 in Stable Diffusion 1.5)"),
    ] = True
    centred: Annotated[
        bool, Setting("Centred Coordinates", "Hungarian matching counts texture coordinates from their mean over the part's pixels")
    ] = True
    omit_direct: Annotated[
        bool,
        Setting("Omit Direct Term", "The guidance's gradient leaves out that the clean prediction holds the latents themselves"),
    ] = True
    omit_conditional: Annotated[
        bool,
        Setting("Omit Conditional Half", "The guidance's gradient goes through the unconditional half of the batch alone"),
    ] = True
    omit_controlnet: Annotated[bool, Setting("Omit ControlNet", "The guidance's gradient does not go through ControlNets")] = True
    omit_attention: Annotated[
        bool,
        Setting(
            "Omit Attention",
            "The guidance's gradient does not go through the keys and values of cross-frame attention, so that the first frame has "
            "none",
        ),
    ] = True
    clamp: Annotated[
        bool, Setting("Clamp Pictures", "The guidance compares pictures clamped to their range; what is outside has no gradient")
    ] = True


#: the switches back of a method that has none
_NOTHING_RELEASED = AsReleased(**dict.fromkeys(AsReleased.__struct_fields__, False))


class Method(msgspec.Struct, frozen=True):
    """The techniques a preset is composed of; None switches one off.

    ``plugins`` are techniques of other packages by name, with their settings. ``as_released`` is no technique: it has others work
    as in the authors' code.
    """

    shared_noise: Annotated[bool, Setting("Shared Noise", "Every frame begins with the same noise")] = True
    surface_noise: Annotated[
        float,
        Setting(
            "Surface Noise",
            "Fraction of the first noise's variance that moves with surfaces and background; 0 is the shared noise alone",
            ge=0,
            le=1,
        ),
    ] = 0.0
    cross_frame_attention: Annotated[
        bool, Setting("Cross-Frame Attention", "Every frame's self-attention looks at the first frame")
    ] = True
    matching: Annotated[
        str,
        Setting(
            "Matching",
            "How corresponding pixels are found for alignment and pixel guidance",
            choices=(
                Choice("surface", "Surface", "Exact, from the surface's rest positions"),
                Choice("hungarian", "Hungarian", "The paper's, within each body part"),
            ),
        ),
    ] = "hungarian"
    alignment: Alignment | None = None
    guidance: Guidance | None = None
    background: Background | None = None
    shadows: Shadows | None = None
    fusion: Fusion | None = None
    keyframes: Keyframes | None = None
    plugins: dict[str, dict[str, bool | int | float | str]] = {}
    as_released: AsReleased | None = None

    def get_released(self) -> AsReleased:
        """What works as in the authors' released code: nothing where ``as_released`` is None."""
        return self.as_released or _NOTHING_RELEASED


@dataclass(frozen=True)
class Preset:
    """A choice of techniques under a name. ``label`` and ``help`` are what the panel and ``docs/settings.md`` say of it.

    One with a ``successor`` is offered no more; what was made with it can still be read.
    """

    label: str
    help: str
    method: Method
    successor: str = ""


#: in the panel's order; new ones go to the end, since .blend files remember a choice by its place
ALL_PRESETS: dict[str, Preset] = {
    "surface": Preset(
        "Surface",
        "All frames share one texture on the character's exact surface, made from a few key frames: the steadiest, and quick",
        Method(matching="surface", background=Background(1.0), shadows=Shadows(), fusion=Fusion(), keyframes=Keyframes()),
    ),
    "surface_fast": Preset(
        "Surface, Fast",
        "As Surface with at most four key frames: for trying out",
        Method(
            matching="surface",
            background=Background(1.0),
            shadows=Shadows(),
            fusion=Fusion(),
            keyframes=Keyframes(4),
        ),
    ),
    "surface_quality": Preset(
        "Surface, Every Frame",
        "As Surface, but the texture is made from every frame: slower",
        Method(matching="surface", background=Background(1.0), shadows=Shadows(), fusion=Fusion(full_steps=4)),
        successor="surface",
    ),
    "latentman": Preset(
        "LatentMan",
        "Cross-frame attention, latent alignment and pixel guidance, as in the paper",
        Method(alignment=Alignment(), guidance=Guidance()),
    ),
    "cross_frame": Preset("Cross-frame", "Shared noise and cross-frame attention only: quicker, less consistent", Method()),
    "per_frame": Preset(
        "Per frame",
        "Every frame on its own: flickers, useful for comparison",
        Method(shared_noise=False, cross_frame_attention=False),
    ),
    "latentman_exact": Preset(
        "LatentMan, Exact",
        "As LatentMan with exact matches that are followed below the latents' cells, so that slow motion counts as well",
        Method(matching="surface", alignment=Alignment(reference=CHAIN), guidance=Guidance(rho=0.3)),
    ),
}
#: those that are offered
PRESETS: dict[str, Preset] = {name: preset for name, preset in ALL_PRESETS.items() if not preset.successor}
#: the techniques of every preset, those that are offered no more included
METHODS: dict[str, Method] = {name: preset.method for name, preset in ALL_PRESETS.items()}
_PRESET_CHOICES = tuple(Choice(name, preset.label, preset.help, preset.successor) for name, preset in ALL_PRESETS.items())


class Text(msgspec.Struct, frozen=True):
    """What is said to the image model."""

    prompt: Annotated[
        str,
        Setting("Prompt", "What the character and the place look like", example="a man in a red shirt and blue jeans, on a beach"),
    ]
    negative_prompt: Annotated[
        str,
        Setting("Negative", "What should not be seen; empty is the model's own, - alone is nothing", unset=MODELS_OWN),
    ] = ""
    background_prompt: Annotated[
        str,
        Setting(
            "Background", "What is around the character, when the prompt is to be the character's alone; needs a third more time"
        ),
    ] = ""
    clip_skip: Annotated[
        int,
        Setting(
            "Clip Skip",
            "The text encoder's layer that is taken, counted from its end: 1 is the last, 2 the last but one; 0 is the model's "
            "own, which is 1 for Stable Diffusion and 2 for SDXL",
            ge=0,
            le=MAX_LAYERS,
            soft_max=12,
        ),
    ] = 0
    reference: Annotated[
        str,
        Setting(
            "Reference",
            "A picture of the character, whose identity the frames keep; the model's name needs an IP-Adapter, as in sd15|ip=FILE",
            is_path=True,
        ),
    ] = ""
    reference_strength: Annotated[
        float,
        Setting(
            "Reference Strength",
            "How closely the character follows the reference picture, from 0 to 1; below 0 it is what stands behind the "
            "IP-Adapter's @ in the model's name, else 0.6",
            ge=MODELS_STRENGTH,
            le=1,
        ),
    ] = MODELS_STRENGTH


class Sampling(msgspec.Struct, frozen=True):
    """How the image model is sampled."""

    model: Annotated[str, Setting("Model", "starter, sd15, sdxl, a diffusers folder, or BASE|CONTROLNET")] = "starter"
    seed: Annotated[int, Setting("Seed", "The same seed and settings give the same frames", ge=0, le=2**31 - 1)] = 0
    steps: Annotated[int, Setting("Steps", "Denoising steps", ge=1, le=MAX_STEPS, soft_max=100, unset=MODELS_OWN)] = 0
    guidance_scale: Annotated[
        float,
        Setting(
            "Guidance",
            "How closely the prompt is followed; 0 is the model's own, 1 switches guidance off and halves the time",
            ge=0,
            le=1000,
            soft_max=30,
            unset=MODELS_OWN,
        ),
    ] = 0.0
    control_scale: Annotated[
        float, Setting("Control", "How strongly the depth decides where the body is", ge=0, le=MAX_CONTROL, soft_max=2)
    ] = 1.0
    scheduler: Annotated[
        str,
        Setting(
            "Scheduler",
            "How the steps are taken",
            choices=(
                Choice("", "Model's Own", "DDIM, or what a few-step model was made with"),
                Choice("ddim", "DDIM", "The paper's"),
                Choice("dpm++", "DPM++ 2M", "Good pictures in fewer steps"),
                Choice("euler", "Euler", "Plain and robust"),
                Choice("lcm", "LCM", "For models distilled to few steps"),
                Choice("tcd", "TCD", "For models distilled to few steps"),
                Choice("euler_a", "Euler a", "Euler with new noise in each step"),
                Choice("euler_karras", "Euler Karras", "More of the steps at low noise"),
                Choice("dpm++_karras", "DPM++ 2M Karras", "More of the steps at low noise"),
                Choice("dpm++_sde", "DPM++ SDE", "DPM++ 2M with new noise in each step, also known as DPM++ 2M SDE"),
                Choice("dpm++_sde_karras", "DPM++ SDE Karras", "The same with more of the steps at low noise"),
                Choice("unipc", "UniPC", "Corrects each step by the next; good pictures in few steps"),
            ),
        ),
    ] = ""
    spacing: Annotated[
        str,
        Setting(
            "Spacing",
            "Where in the noise schedule the steps lie",
            choices=(
                Choice("", "Model's Own", "As the model's configuration has it"),
                Choice("leading", "Leading", "From shortly below pure noise down to the first noise level"),
                Choice("trailing", "Trailing", "From pure noise on, also known as SGM uniform"),
                Choice("linspace", "Linspace", "Evenly from pure noise to the first noise level"),
            ),
        ),
    ] = ""
    control_start: Annotated[float, Setting("Control From", "Fraction of the steps from which ControlNets work", ge=0, le=1)] = 0.0
    control_end: Annotated[float, Setting("Control Until", "Fraction of the steps up to which ControlNets work", ge=0, le=1)] = 1.0


_SIDE: dict[str, Any] = dict(ge=8, le=MAX_SIDE, unit="px", unset=MODELS_OWN)


class ShotRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides how a shot looks, apart from its passes.

    What is 0 or empty and has a value that is the model's own is left to the model: ``model_profile.resolve_request`` puts that in.

    ``frames`` are the scene's frame numbers in order. ``method`` None means the preset's own. ``manifest`` describes the passes;
    ControlNets for normals and poses need it. ``schedule`` is what changes from frame to frame; a request in which nothing does is
    written without it, and so is the same as before there was one. ``look`` names a finished job whose look the
    characters keep; where all else is the same, its unchanged frames are taken over and only the others are made. With
    ``look_optional`` a look that cannot be kept is made anew instead of being an error. ``costume`` names the files of a costume
    that is made or worn (``shared.costume_files``); a request without one is written without it.
    """

    text: Text
    sampling: Sampling = Sampling()
    preset: Annotated[
        str,
        Setting(
            "Preset",
            "How frames are kept consistent",
            choices=_PRESET_CHOICES,
        ),
    ] = "surface"
    method: Method | None = None
    width: Annotated[int, Setting("Width", "Frame width", **_SIDE)] = 0
    height: Annotated[int, Setting("Height", "Frame height", **_SIDE)] = 0
    frames: tuple[int, ...]
    fps: Annotated[float, Setting("Frame Rate", "Frames a second", ge=0, le=1000)]
    manifest: PassesManifest | None = None
    look: str = ""
    look_optional: bool = False
    schedule: Schedule | msgspec.UnsetType = msgspec.UNSET
    costume: str | msgspec.UnsetType = msgspec.UNSET

    def get_schedule(self) -> Schedule | None:
        """What changes from frame to frame; None where nothing does."""
        return None if self.schedule is msgspec.UNSET else self.schedule

    def list_prompts(self) -> tuple[str, ...]:
        """Every prompt of the shot once, that of the text first."""
        return list_prompts(self.text.prompt, self.get_schedule())

    def list_mixes(self) -> list[Mix]:
        """What is said to each frame."""
        return [mix_prompts(self.text.prompt, self.get_schedule(), frame) for frame in self.frames]

    def get_control_scale(self, row: int) -> float:
        """How strongly the ControlNets work in the frame at a place."""
        schedule = self.get_schedule()
        return schedule.control_scales[row] if schedule is not None and schedule.control_scales else self.sampling.control_scale

    def get_method(self) -> Method:
        """The techniques to run."""
        return self.method if self.method is not None else METHODS[self.preset]

    def settings(self) -> ShotRequest:
        """Everything that decides the look, whatever the frames: requests with equal settings can share one. What changes from
        frame to frame is compared frame by frame."""
        return msgspec.structs.replace(
            self,
            look="",
            look_optional=False,
            frames=(),
            fps=0.0,
            manifest=None,
            preset="",
            method=self.get_method(),
            schedule=msgspec.UNSET,
        )


def describe_method(method: Method) -> dict[str, Any]:
    """A method as names of jobs and runs are made of it: without the parts that are not there, which once were no part of any, so
    that what was made then keeps its name."""
    found: dict[str, Any] = msgspec.to_builtins(method)
    for name in ("as_released", "shadows"):
        if found[name] is None:
            del found[name]
    return found


def describe_request(request: ShotRequest) -> dict[str, Any]:
    """A request as names of jobs and runs are made of it, its method as in ``describe_method``."""
    found: dict[str, Any] = msgspec.to_builtins(request)
    return found if request.method is None else {**found, "method": describe_method(request.method)}


def make_request(prompt: str, frames: tuple[int, ...], fps: float, **changes: Any) -> ShotRequest:
    """A request from settings by their names, wherever in it they stand."""
    return with_settings(ShotRequest(text=Text(prompt), frames=frames, fps=fps), changes)


def with_schedule(request: ShotRequest, schedule: Schedule | None) -> ShotRequest:
    """The request with what changes from frame to frame; None for nothing. One control strength for all frames is the setting,
    which otherwise counts nowhere and is the default."""
    scales = schedule.control_scales if schedule is not None else ()
    if schedule is not None and scales:
        is_one = len(scales) == len(request.frames) and len(set(scales)) == 1
        request = with_settings(request, {"control_scale": scales[0] if is_one else Sampling().control_scale})
        if is_one:
            schedule = msgspec.structs.replace(schedule, control_scales=()) if schedule.prompts else None
    return msgspec.structs.replace(request, schedule=msgspec.UNSET if schedule is None else schedule)


def has_shadows(request: ShotRequest) -> bool:
    """Whether a shot's frames show the characters' shadows, which a shadow pass tells best."""
    shadows = request.get_method().shadows
    return shadows is not None and shadows.strength > 0 and request.get_method().fusion is not None


def explain_no_keyframes(request: ShotRequest) -> str:
    """The sentence for a shot whose frames cannot be made from a look."""
    return (
        f"The preset '{request.preset}' makes every frame together with all others, so that there is no look to make them from; "
        "use surface or surface_fast, or generate the shot as a whole."
    )


def check_request(request: ShotRequest) -> None:
    """Raise ``ShotError`` for settings that cannot be run."""
    if not request.text.prompt.strip():
        raise ShotError("prompt", "The prompt is empty; describe the character and the place.")
    try:
        check_settings(msgspec.structs.replace(request, method=None))
    except SettingError as error:
        raise ShotError(error.name, str(error)) from error
    if not 1 <= len(request.frames) <= MAX_FRAMES:
        raise ShotError("frames", f"The shot has {len(request.frames)} frames; it needs 1 to {MAX_FRAMES}.")
    if request.sampling.control_start >= request.sampling.control_end:
        raise ShotError(
            "control_end",
            f"The ControlNets would work from {request.sampling.control_start:g} to {request.sampling.control_end:g} of the steps; "
            "let control end be the larger.",
        )
    if request.manifest is not None:
        _check_manifest(request, request.manifest)
    method = request.get_method()
    _check_plugins(method)
    try:
        check_settings(method)
    except SettingError as error:
        raise ShotError("method", str(error)) from error
    if method.keyframes and (not method.fusion or method.alignment or method.guidance):
        raise ShotError("method", "Key frames need fusion, and go with neither alignment nor guidance; switch them off.")
    if method.alignment and method.alignment.reference == CHAIN and method.matching != "surface":
        raise ShotError("method", "Alignment along chains needs exact matching; set the matching to surface, or another reference.")
    schedule = request.get_schedule()
    if schedule is not None:
        _check_schedule(request, method, schedule)
    if request.look and not re.fullmatch(JOB_NAME, request.look):
        raise ShotError("look", f"'{request.look[:40]}' is not a look; it is the name of a finished job, 24 digits and letters.")
    if request.look and not method.fusion and not request.look_optional:
        raise ShotError("look", f"The preset '{request.preset}' cannot keep a look; use 'surface', or make a new look.")


def _check_schedule(request: ShotRequest, method: Method, schedule: Schedule) -> None:
    try:
        check_schedule(schedule, len(request.frames))
    except SettingError as error:
        raise ShotError(error.name, str(error)) from error
    used = {prompt for mix in request.list_mixes() for prompt in mix.list_prompts()}
    if len(used) < 2:
        return
    if method.alignment or method.guidance:
        raise ShotError(
            "prompt_at",
            f"The preset '{request.preset}' carries each frame's picture on into the next, so that a prompt cannot change within "
            "the shot; use surface, cross_frame or per_frame, or make one shot of each prompt.",
        )
    if method.fusion and not method.keyframes and any(not mix.is_pure for mix in request.list_mixes()):
        raise ShotError(
            "prompt_blend",
            f"The preset '{request.preset}' makes one texture of all frames of a prompt, and cannot blend two; set the blend to 0, "
            "or use surface.",
        )


def _check_plugins(method: Method) -> None:
    if len(method.plugins) > MAX_PLUGINS:
        raise ShotError("method", f"The method names {len(method.plugins)} plugins; use at most {MAX_PLUGINS}.")
    for name, values in method.plugins.items():
        texts = [name, *values, *(value for value in values.values() if isinstance(value, str))]
        if len(values) > MAX_PLUGIN_SETTINGS or any(len(text) > MAX_TEXT or "\0" in text for text in texts):
            raise ShotError("method", f"The plugin '{name[:40]}' has more or longer settings than any; give it fewer.")
        if any(isinstance(value, float) and not math.isfinite(value) for value in values.values()):
            raise ShotError("method", f"The plugin '{name[:40]}' has a setting that is not a number; correct it.")


def _check_manifest(request: ShotRequest, manifest: PassesManifest) -> None:
    count = len(request.frames)
    per_frame = [manifest.frames, *filter(None, [manifest.cameras]), *(person.keypoints for person in manifest.people)]
    sides = ((manifest.width, request.width), (manifest.height, request.height))
    if any(len(entries) != count for entries in per_frame) or any(wanted not in (0, side) for side, wanted in sides):
        raise ShotError("passes", "The description of the passes does not fit the frames; render the passes again.")
