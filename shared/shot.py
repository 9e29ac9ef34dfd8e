"""A shot: what is asked of the backend, as typed values.

``ShotRequest`` holds everything that changes the pictures, so that equal requests with equal passes give equal frames.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec
import numpy as np

from .manifest import PassesManifest

#: per-frame arrays of a shot: name -> (dtype, trailing dimensions after (frames, height, width))
PASS_LAYOUT: dict[str, tuple[str, tuple[int, ...]]] = {
    "depth": ("float32", ()),
    "mask": ("uint8", ()),
    "uv": ("float32", (2,)),
    "rest": ("float32", (3,)),
    "part": ("uint8", ()),
}
#: passes that may come along: name -> (dtype, trailing dimensions)
EXTRA_LAYOUT: dict[str, tuple[str, tuple[int, ...]]] = {
    "object_index": ("uint16", ()),
    "normal": ("float16", (3,)),
    "position": ("float32", (3,)),
    "motion": ("float32", (2,)),
}
MAX_FRAMES, MAX_SIDE, MAX_STEPS = 10_000, 4096, 1000
PRESETS = ("latentman", "surface", "surface_fast", "surface_quality", "cross_frame", "per_frame")
REFERENCES = ("prev", "first", "prev_new")
MATCHINGS = ("hungarian", "surface")
GRADIENTS = ("full", "decoder", "linear")
#: "" is the model's own way: DDIM, or the scheduler that a few-step model was distilled with
SCHEDULERS = ("", "ddim", "dpm++", "euler", "lcm", "tcd")


class ShotError(ValueError):
    """A request or its passes do not fit; ``code`` is for programs, the message one sentence for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Alignment(msgspec.Struct, frozen=True):
    """Spatial Latent Alignment: on the first ``until`` share of the steps, against ``reference`` frames."""

    until: float = 0.4
    reference: str = "prev_new"


class Guidance(msgspec.Struct, frozen=True):
    """Pixel-Wise Guidance on the steps between two shares of the schedule.

    ``rho`` is the step length, ``resolution`` the side in pixels on which pictures are compared, 0 for half the frame.
    ``gradient`` flows through decoder and UNet (``full``, as in the paper), through the decoder only (``decoder``), or
    through a linear map fitted to it, at the latents' resolution (``linear``).
    """

    start: float = 0.4
    until: float = 0.6
    rho: float = 0.01
    resolution: int = 0
    gradient: str = "full"


class Background(msgspec.Struct, frozen=True):
    """The background shared over frames: on the first ``until`` share of the steps its latents are those of the first frame,
    at the same pixel or, where surroundings were rendered, at the same place of the world."""

    until: float = 0.8


class Fusion(msgspec.Struct, frozen=True):
    """Clean predictions fused on the surface between two shares of the steps, so that all frames show one texture.

    ``full_steps`` of the fusions go through the auto-encoder, which keeps detail and costs as much as two or three steps of
    denoising each (0 sends every step through it); up to the share ``coarse`` of the steps the others are fused in the
    colours of the latents themselves, which costs nothing and keeps no detail. ``sharpness`` is how much the better sight
    of a point counts at the end: 0 takes the mean, which is smooth and blurred.
    ``finish`` locks the finished frames' detail to the texture; ``shading`` is how much of a frame's own light stays.
    """

    start: float = 0.0
    until: float = 1.0
    full_steps: int = 4
    coarse: float = 0.25
    sharpness: float = 20.0
    finish: bool = True
    shading: float = 1.0


class Keys(msgspec.Struct, frozen=True):
    """Key frames: up to ``count`` frames that between them show the surface are made together; every other frame begins with
    their texture, under the noise of the last ``strength`` share of the steps, and keeps to it.

    A key frame shows at least the share ``least_gain`` of the surface that the key frames before it do not. Frames that begin
    with the texture know what the words ask for: only with ``guided`` do they also go through the second pass of classifier-free
    guidance, which doubles their cost.
    """

    count: int = 8
    strength: float = 0.2
    least_gain: float = 0.03
    guided: bool = False


class Method(msgspec.Struct, frozen=True):
    """The parts a preset is composed of; None switches a part off.

    ``matching`` finds the pixels that alignment and guidance bring together: ``hungarian`` as in the paper, or ``surface``,
    the exact one. ``surface_noise`` is the share of the first noise's variance that sticks to surfaces and to the place; with 0
    ``shared_noise`` alone decides.
    """

    shared_noise: bool = True
    cross_frame_attention: bool = True
    alignment: Alignment | None = None
    guidance: Guidance | None = None
    matching: str = "hungarian"
    background: Background | None = None
    fusion: Fusion | None = None
    keys: Keys | None = None
    surface_noise: float = 0.0


METHODS: dict[str, Method] = {
    "latentman": Method(alignment=Alignment(), guidance=Guidance()),
    "surface": Method(matching="surface", background=Background(1.0), fusion=Fusion(), keys=Keys()),
    "surface_fast": Method(matching="surface", background=Background(1.0), fusion=Fusion(full_steps=2), keys=Keys(4, 0.1)),
    "surface_quality": Method(matching="surface", background=Background(1.0), fusion=Fusion()),
    "cross_frame": Method(),
    "per_frame": Method(shared_noise=False, cross_frame_attention=False),
}


class ShotRequest(msgspec.Struct, frozen=True):
    """Everything that decides how a shot looks, apart from its passes.

    ``frames`` are the scene's frame numbers in order. ``method`` None means the preset's own. ``background_prompt`` describes
    what is around the characters when the prompt shall be theirs alone. ``manifest`` describes the passes; ControlNets for
    normals and poses need it. ``guidance_scale`` 0 is the model's own, 1 is none. ``look`` names a finished job whose look the
    characters keep; where all else is the same, its unchanged frames are taken over and only the others are made. With
    ``look_optional`` a look that cannot be kept is made anew instead of being an error.
    """

    prompt: str
    width: int
    height: int
    frames: tuple[int, ...]
    fps: float
    negative_prompt: str = ""
    seed: int = 0
    model: str = "starter"
    preset: str = "latentman"
    steps: int = 20
    guidance_scale: float = 0.0
    control_scale: float = 1.0
    method: Method | None = None
    scheduler: str = ""
    background_prompt: str = ""
    manifest: PassesManifest | None = None
    look: str = ""
    look_optional: bool = False

    def resolved_method(self) -> Method:
        """The parts to run."""
        return self.method if self.method is not None else METHODS[self.preset]

    def settings(self) -> ShotRequest:
        """Everything that decides the look, whatever the frames: requests with equal settings can share one."""
        return msgspec.structs.replace(self, look="", look_optional=False, frames=(), fps=0.0, manifest=None, preset="",
                                       method=self.resolved_method())


@dataclass(frozen=True)
class FramePasses:
    """The rendered passes of a shot, (F, H, W, ...) as in ``PASS_LAYOUT``, row 0 at the top.

    ``depth`` in [0, 1] with the shot's near = 1 and background 0; ``mask`` the character's number, 0 where there is none;
    ``uv`` texture coordinates; ``rest`` rest positions in metres, which belong to the surface and not to the moment;
    ``part`` the body part, 0 for the background.

    Those of ``EXTRA_LAYOUT`` may be None: ``object_index`` tells objects and instances apart, props included, 0 for the
    background; ``normal`` world-space unit normals; ``position`` world-space metres; ``motion`` the way in pixels (right,
    down) from a pixel to where its surface point was one scene frame before.
    """

    depth: np.ndarray
    mask: np.ndarray
    uv: np.ndarray
    rest: np.ndarray
    part: np.ndarray
    object_index: np.ndarray | None = None
    normal: np.ndarray | None = None
    position: np.ndarray | None = None
    motion: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The passes that there are, by name."""
        found = {name: getattr(self, name) for name in (*PASS_LAYOUT, *EXTRA_LAYOUT)}
        return {name: array for name, array in found.items() if array is not None}

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self.depth)

    @property
    def surface_index(self) -> np.ndarray:
        """(F, H, W) which surface a pixel sees, 0 for the background: the object index, else the character's number."""
        return self.mask if self.object_index is None else self.object_index


def check_request(request: ShotRequest) -> None:
    """Raise ``ShotError`` for settings that cannot be run."""
    if not request.prompt.strip():
        raise ShotError("prompt", "The prompt is empty; describe the character and the place.")
    if request.preset not in PRESETS:
        raise ShotError("preset", f"There is no preset '{request.preset}'; choose one of {', '.join(PRESETS)}.")
    if not 1 <= len(request.frames) <= MAX_FRAMES:
        raise ShotError("frames", f"The shot has {len(request.frames)} frames; it needs 1 to {MAX_FRAMES}.")
    if not (8 <= request.width <= MAX_SIDE and 8 <= request.height <= MAX_SIDE):
        raise ShotError("size", f"{request.width}x{request.height} is out of range; sides go from 8 to {MAX_SIDE}.")
    if not 1 <= request.steps <= MAX_STEPS:
        raise ShotError("steps", f"{request.steps} steps are out of range; choose 1 to {MAX_STEPS}.")
    for name in ("guidance_scale", "control_scale", "fps"):
        value = getattr(request, name)
        if not (np.isfinite(value) and 0 <= value <= 1000):
            raise ShotError(name, f"The {name.replace('_', ' ')} {value} is out of range; choose 0 to 1000.")
    method = request.resolved_method()
    for name, value, known in (("matching", method.matching, MATCHINGS), ("scheduler", request.scheduler, SCHEDULERS),
                               ("gradient", method.guidance.gradient if method.guidance else "full", GRADIENTS)):
        if value not in known:
            raise ShotError("method", f"The {name} '{value}' is unknown; use one of {', '.join(filter(None, known))}.")
    for part in (method.alignment, method.guidance, method.background, method.fusion):
        if part and not (np.isfinite(part.until) and 0 <= part.until <= 1):
            raise ShotError("method", f"A share of the steps of {part.until} is out of range; choose 0 to 1.")
    if method.guidance and not (np.isfinite(method.guidance.rho) and 0 <= method.guidance.rho <= 1e6):
        raise ShotError("method", f"A rho of {method.guidance.rho} is out of range; choose 0 to 1000000.")
    if not (np.isfinite(method.surface_noise) and 0 <= method.surface_noise <= 1):
        raise ShotError("method", f"A share of noise on the surface of {method.surface_noise} is out of range; choose 0 to 1.")
    if method.keys:
        if not method.fusion or method.alignment or method.guidance:
            raise ShotError("method", "Key frames need fusion, and go with neither alignment nor guidance; switch them off.")
        if method.keys.count < 1 or not 0 < method.keys.strength <= 1 or not 0 <= method.keys.least_gain <= 1:
            raise ShotError("method", "Key frames need a count of at least 1, and a strength above 0 and up to 1.")
    if request.look and not re.fullmatch("[0-9a-f]{24}", request.look):
        raise ShotError("look", f"'{request.look[:40]}' is no look; it is the name of a finished job, 24 digits and letters.")
    if request.look and not method.fusion and not request.look_optional:
        raise ShotError("look", f"The preset '{request.preset}' cannot keep a look; use 'surface', or make a new look.")
    alignment = method.alignment
    if alignment and alignment.reference not in REFERENCES:
        raise ShotError("method", f"The alignment reference '{alignment.reference}' is unknown; use one of "
                                  f"{', '.join(REFERENCES)}.")


def check_passes(request: ShotRequest, arrays: dict[str, np.ndarray]) -> FramePasses:
    """The passes of a request, or ``ShotError`` when shapes, types or values do not fit it."""
    for name in PASS_LAYOUT:
        if name not in arrays:
            raise ShotError("passes", f"The pass '{name}' is missing; render the passes again.")
    found = {name: layout for name, layout in (PASS_LAYOUT | EXTRA_LAYOUT).items() if name in arrays}
    for name, (dtype, trailing) in found.items():
        array, wanted = arrays[name], (len(request.frames), request.height, request.width, *trailing)
        if array.shape != wanted or array.dtype != np.dtype(dtype):
            raise ShotError("passes", f"The pass '{name}' is {array.dtype}{list(array.shape)}, expected "
                                      f"{dtype}{list(wanted)}; render the passes again.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ShotError("passes", f"The pass '{name}' contains values that are not numbers; render it again.")
    return FramePasses(**{name: arrays[name] for name in found})
