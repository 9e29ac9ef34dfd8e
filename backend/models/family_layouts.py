"""What a diffusers folder of each kind of model holds. Free of torch.

Which kind a folder is follows from its denoiser's class, not from its pipeline's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...shared.shot import ShotError
from .names import find_control_kind, is_for_editing

if TYPE_CHECKING:
    from .registry import ModelSource

#: the kinds of models with a UNet
_UNETS = "Stable Diffusion or SDXL"
#: the part that denoises in a folder of a layout
TRANSFORMER = "transformer"
#: in an index of a model with two transformers, the part of all noise below which the second is at work
BOUNDARY = "boundary_ratio"
#: the class of small auto-encoders, which stand in for those of any family with latents of pictures
TINY = "AutoencoderTiny"


@dataclass(frozen=True)
class FamilyLayout:
    """``name`` is a family of ``model_file.FAMILIES``, ``title`` what people call it.

    ``denoiser`` is the class of its network, in the part ``TRANSFORMER``; ``control`` that of its ControlNets, empty where it sees
    the depth itself; ``vaes`` those of its auto-encoders, with latents of ``channels``. ``encoders`` are the text encoders that it
    needs, ``tokenizers`` their tokenizers.
    """

    name: str
    title: str
    denoiser: str
    control: str
    vaes: tuple[str, ...]
    channels: int
    encoders: tuple[str, ...]
    tokenizers: tuple[str, ...]
    #: the kinds of pictures that its ControlNets know
    kinds: tuple[str, ...]
    #: how its base model likes to be run, and how one that was distilled to few steps does: steps, guidance
    usual: tuple[int, float]
    distilled: tuple[int, float]
    #: pixels along the sides of the pictures that it was trained with
    side: int = 1024
    #: the hub's folder that most of its single files go with
    repository: str = ""
    #: those that were distilled in a way of their own, a key of ``names.DISTILLED``: steps, guidance
    further: tuple[tuple[str, tuple[int, float]], ...] = ()
    #: how its steps are taken, a name of ``Sampling.scheduler``
    solver: str = "euler"
    #: whether its denoiser's ``in_channels`` are those of latents, of which there may be others than published
    tells_channels: bool = False
    #: whether its denoiser learns what depth is from a LoRA, which is named as a ControlNet is
    is_taught: bool = False
    #: the pictures that a denoiser which sees one by itself was trained with, its usual one first; those of ``kinds`` where empty
    sights: tuple[str, ...] = ()
    #: whether there are models with a second denoiser, which takes over where little noise is left
    has_pairs: bool = False

    def read_channels(self, denoiser: Mapping[str, Any]) -> int:
        """The channels of latents, by the configuration of the denoiser."""
        return int(denoiser.get("in_channels", self.channels)) if self.tells_channels else self.channels

    def get_usual(self, distilled: str = "") -> tuple[int, float]:
        """(steps, guidance) that suit a model that was ``distilled``, a key of ``names.DISTILLED``, or was not."""
        return dict(self.further).get(distilled, self.distilled) if distilled else self.usual


#: the families of transformers; Stable Diffusion and SDXL are told apart by their UNet's configuration
LAYOUTS = (
    FamilyLayout(
        "z_image",
        "Z-Image",
        "ZImageTransformer2DModel",
        "ZImageControlNetModel",
        ("AutoencoderKL", TINY),
        16,
        ("text_encoder",),
        ("tokenizer",),
        ("depth", "openpose"),
        (50, 5.0),
        (8, 1.0),
        repository="Tongyi-MAI/Z-Image-Turbo",
        tells_channels=True,
    ),
    FamilyLayout(
        "qwen_image",
        "Qwen-Image",
        "QwenImageTransformer2DModel",
        "QwenImageControlNetModel",
        ("AutoencoderKLQwenImage",),
        16,
        ("text_encoder",),
        ("tokenizer",),
        ("depth", "openpose"),
        (50, 4.0),
        (8, 1.0),
        1328,
        repository="Qwen/Qwen-Image",
    ),
    FamilyLayout(
        "flux",
        "FLUX.1",
        "FluxTransformer2DModel",
        "FluxControlNetModel",
        ("AutoencoderKL", TINY),
        16,
        ("text_encoder", "text_encoder_2"),
        ("tokenizer", "tokenizer_2"),
        ("depth", "openpose"),
        (28, 3.5),
        (8, 3.5),
        repository="black-forest-labs/FLUX.1-dev",
        # it never learned what guidance does, neither as a number nor as a second pass
        further=(("schnell", (4, 1.0)),),
    ),
    FamilyLayout(
        "sd3",
        "Stable Diffusion 3",
        "SD3Transformer2DModel",
        "SD3ControlNetModel",
        ("AutoencoderKL", TINY),
        16,
        ("text_encoder", "text_encoder_2"),
        ("tokenizer", "tokenizer_2"),
        ("depth", "openpose"),
        (28, 4.5),
        (4, 1.0),
        repository="stabilityai/stable-diffusion-3.5-large",
        tells_channels=True,
    ),
    FamilyLayout(
        "wan_vace",
        "Wan VACE",
        "WanVACETransformer3DModel",
        "",
        ("AutoencoderKLWan",),
        16,
        ("text_encoder",),
        ("tokenizer",),
        ("depth",),
        (50, 5.0),
        (4, 1.0),
        # 832x480 is about as much
        640,
        repository="Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        solver="unipc",
        sights=("depth", "depth_openpose", "openpose"),
        has_pairs=True,
    ),
    FamilyLayout(
        "wan_animate",
        "Wan Animate",
        "WanAnimateTransformer3DModel",
        "",
        ("AutoencoderKLWan",),
        16,
        ("text_encoder", "image_encoder"),
        ("tokenizer",),
        ("openpose",),
        (20, 1.0),
        (4, 1.0),
        # 832x480 is about as much
        640,
        repository="Wan-AI/Wan2.2-Animate-14B-Diffusers",
        solver="unipc",
    ),
    FamilyLayout(
        "ltx2",
        "LTX-2",
        "LTX2VideoTransformer3DModel",
        "",
        ("AutoencoderKLLTX2Video",),
        128,
        ("text_encoder", "connectors"),
        ("tokenizer",),
        ("depth",),
        (30, 3.0),
        (8, 1.0),
        # 768x512 is about as much
        640,
        repository="Lightricks/LTX-2",
        is_taught=True,
    ),
)

#: the same by their names, which are the families'
BY_NAME = {layout.name: layout for layout in LAYOUTS}
#: steps and guidance of a FLUX.1 that sees a picture itself
SEEING = (30, 10.0)


def find_layout(index: Mapping[str, Any]) -> FamilyLayout | None:
    """The layout of a folder by its ``model_index.json``; None for Stable Diffusion, SDXL and what is not known."""
    entry = index.get(TRANSFORMER)
    named = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    return find_layout_of_class(named)


def find_layout_of_class(denoiser: Any) -> FamilyLayout | None:
    """The layout whose network is of a class of that name."""
    return next((layout for layout in LAYOUTS if layout.denoiser == denoiser), None)


def find_layout_of_control(config: Mapping[str, Any]) -> FamilyLayout | None:
    """The layout whose ControlNets have a configuration; None for those of Stable Diffusion and SDXL."""
    return next((layout for layout in LAYOUTS if layout.control and layout.control == config.get("_class_name")), None)


def sees_picture(layout: FamilyLayout | None, config: Mapping[str, Any]) -> bool:
    """Whether a transformer with a configuration sees the picture for depth itself, and takes no ControlNet: all of a layout, or
    those of FLUX.1 with channels for it."""
    if layout is None or not layout.control:
        return layout is not None
    return layout.name == "flux" and config.get("in_channels") == 2 * 4 * layout.channels


def explain_own_sight(layout: FamilyLayout) -> ShotError:
    """The error for a ControlNet with a model that sees what it is controlled by itself."""
    if "depth" in layout.kinds:
        return ShotError("model", f"{layout.title} sees the depth itself; leave the ControlNet out of its name.")
    return ShotError("model", f"{layout.title} sees the skeleton itself; leave the ControlNet out of its name.")


def explain_seen(name: str) -> tuple[str, str]:
    """(why a transformer of a name that sees a picture itself cannot be used, what is guessed of it), as sentences; one is empty.
    Its weights and configuration are the same whichever picture it was trained with."""
    kind = find_control_kind(name)
    if kind == "depth":
        return "", "That the picture that it sees is one for depth is taken from its name."
    if kind:
        return f"By its name it sees a picture for {kind}; choose one that sees depth.", ""
    return "", "Neither it nor its name says which picture it sees; depth is taken, which is wrong for a Canny model."


def explain_editing(layout: FamilyLayout, *names: str) -> tuple[str, ...]:
    """A sentence about a model that was made for editing pictures, by its name or that of its pipeline; none for others. Its
    network is built as the plain one."""
    if not any(map(is_for_editing, names)):
        return ()
    return (f"By its name it was made for editing a given picture; here it gets none. The plain {layout.title} fits better.",)


def list_supported() -> str:
    """The kinds of models by their titles, for a sentence."""
    return join_titles(["Stable Diffusion", "SDXL", *(layout.title for layout in LAYOUTS)])


def join_titles(titles: Sequence[str]) -> str:
    """Titles as a choice between them, for a sentence; two at least."""
    return " or ".join([", ".join(titles[:-1]), titles[-1]])


def check_same_kind(base: FamilyLayout | None, controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """``ShotError`` for a ControlNet of another kind of model than the base, by each one's kind of picture and configuration."""
    title = _UNETS if base is None else base.title
    if controls and base is not None and not base.control and not base.is_taught:
        raise explain_own_sight(base)
    for kind, config in controls:
        other = find_layout_of_control(config)
        if other is not base:
            is_for = _UNETS if other is None else other.title
            raise ShotError(
                "model",
                f"The ControlNet for {kind} is for {is_for}, and the base model is {title}; use one made for {title}.",
            )


def _check_sight(base: FamilyLayout | None, source: ModelSource) -> None:
    """``ShotError`` for a picture that a base of that kind does not see by itself."""
    if not source.sees:
        return
    if base is None or not base.sights:
        title = _UNETS if base is None else base.title
        raise ShotError("model", f"{title} cannot choose what it sees; leave sees= out of the model's name.")
    if source.sees not in base.sights:
        raise ShotError("model", f"{base.title} does not see '{source.sees[:40]}'; use sees= with {join_titles(base.sights)}.")


def check_extras(base: FamilyLayout | None, source: ModelSource) -> None:
    """``ShotError`` for parts of a model's name that cannot be put into a base of that kind."""
    _check_sight(base, source)
    if base is None:
        return
    extras = {
        "a LoRA": source.loras if base.is_taught else (),
        "a textual inversion": source.embeddings,
        "another auto-encoder": source.vae,
        "an IP-Adapter": source.reference,
        "a motion module": source.motion,
    }
    named = next((what for what, given in extras.items() if given), "")
    if named and base.is_taught and source.loras:
        raise ShotError(
            "model", f"{base.title} takes its in-context LoRA behind depth= and no other here; name it so, or leave it out."
        )
    if named:
        raise ShotError("model", f"{base.title} takes no {named.split(' ', 1)[1]} here yet; leave {named} out of the model's name.")
    if base.is_taught and not source.controls:
        raise ShotError(
            "model",
            f"{base.title} learns what depth is from its in-context LoRA; download that, and name it as well: "
            f"{source.base}|depth=FILE.",
        )
    if source.controls and not base.control and not base.is_taught:
        raise explain_own_sight(base)
    kinds = [kind for kind, _ in source.controls]
    unknown = next((kind for kind in kinds if kind not in base.kinds), "")
    if unknown:
        raise ShotError("model", f"The ControlNets of {base.title} know no {unknown}; use {' or '.join(base.kinds)}.")
    if len(kinds) > 1:
        raise ShotError("model", f"{base.title} takes one ControlNet at a time; leave one of {', '.join(kinds)}.")
