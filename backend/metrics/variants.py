"""The variants of the method that evaluations compare, by name."""

from __future__ import annotations

import msgspec

from ...shared.shot import METHODS, Alignment, AsReleased, Fusion, Guidance, Keyframes, Method
from .rivals.settings import AnimateDiff, FixedSeedImg2Img, Rival, TextToVideoZero

#: what an evaluation can run: the pipeline with a method, or a rival
Variant = Method | Rival

_LATENTMAN, _EXACT, _SURFACE = METHODS["latentman"], METHODS["latentman_exact"], METHODS["surface"]


def _release(*names: str) -> AsReleased:
    """These as in the authors' released code, and no others."""
    return AsReleased(**{name: name in names for name in AsReleased.__struct_fields__})


#: name -> method; the paper's presets come first
VARIANTS: dict[str, Method] = {
    "per_frame": METHODS["per_frame"],
    "cross_frame": METHODS["cross_frame"],
    "sla": msgspec.structs.replace(_LATENTMAN, guidance=None),
    "pwg": msgspec.structs.replace(_LATENTMAN, alignment=None),
    "latentman": _LATENTMAN,
    "latentman_exact": _EXACT,
    "surface": _SURFACE,
    "surface_every_frame": msgspec.structs.replace(_SURFACE, keyframes=None),
    "surface_fast": METHODS["surface_fast"],
    "surface_late": msgspec.structs.replace(_SURFACE, fusion=Fusion(full_steps=1), keyframes=Keyframes(4)),
    "surface_noise": msgspec.structs.replace(_SURFACE, surface_noise=0.9),
    "surface_guided": msgspec.structs.replace(_SURFACE, keyframes=Keyframes(guided=True)),
    "surface_no_finish": msgspec.structs.replace(_SURFACE, fusion=Fusion(finish=False)),
    "surface_no_background": msgspec.structs.replace(_SURFACE, background=None),
    "background": msgspec.structs.replace(METHODS["cross_frame"], background=_SURFACE.background),
    "noise": msgspec.structs.replace(METHODS["cross_frame"], surface_noise=0.9),
    "sla_surface": msgspec.structs.replace(_LATENTMAN, guidance=None, matching="surface"),
    "sla_exact": msgspec.structs.replace(_EXACT, guidance=None),
    "pwg_exact": msgspec.structs.replace(_EXACT, alignment=None),
    "latentman_surface": msgspec.structs.replace(_LATENTMAN, matching="surface"),
    "latentman_no_attention": msgspec.structs.replace(_LATENTMAN, cross_frame_attention=False),
    "latentman_no_shared_noise": msgspec.structs.replace(_LATENTMAN, shared_noise=False),
    "pwg_decoder": msgspec.structs.replace(_LATENTMAN, guidance=Guidance(gradient="decoder")),
    "pwg_linear": msgspec.structs.replace(_LATENTMAN, guidance=Guidance(gradient="linear")),
    "latentman_released": msgspec.structs.replace(_LATENTMAN, as_released=AsReleased()),
    # the departures from the released code, switched back one by one
    **{
        f"released_{name}": msgspec.structs.replace(_LATENTMAN, as_released=_release(name)) for name in AsReleased.__struct_fields__
    },
}
#: name -> rival; ``animatediff`` is there with the path of a motion module
RIVALS: dict[str, Rival] = {"text2video_zero": TextToVideoZero(), "img2img": FixedSeedImg2Img()}
ANIMATEDIFF = "animatediff"
PAPER = ("per_frame", "cross_frame", "sla", "pwg", "latentman")
#: the paper's presets, and its modules one by one
MODULES = (
    *PAPER,
    "sla_surface",
    "latentman_surface",
    "sla_exact",
    "pwg_exact",
    "latentman_exact",
    "latentman_no_attention",
    "latentman_no_shared_noise",
    "pwg_decoder",
    "pwg_linear",
)
SURFACE = ("per_frame", "cross_frame", "latentman", "surface", "surface_fast")
#: the techniques of the surface preset, alone and left out
PARTS = (
    "cross_frame",
    "noise",
    "background",
    "surface",
    "surface_late",
    "surface_noise",
    "surface_guided",
    "surface_no_finish",
    "surface_no_background",
    "surface_every_frame",
)

#: the presets against other people's ways to a clip; ``cross_frame`` is diffusers' recipe for Text2Video-Zero with a ControlNet
AGAINST_RIVALS = ("per_frame", "cross_frame", *RIVALS, "latentman", "surface")


def list_variants(motion_module: str = "") -> dict[str, Variant]:
    """All variants by name; ``motion_module`` is the path of AnimateDiff's."""
    known: dict[str, Variant] = {**VARIANTS, **RIVALS, **make_sweep()}
    return known | ({ANIMATEDIFF: AnimateDiff(motion_module)} if motion_module else {})


def make_sweep() -> dict[str, Method]:
    """Variants over ranges of the settings of alignment (its last step) and guidance (its step length, and its steps)."""
    out = {f"sla_until_{until:g}": Method(alignment=Alignment(until=until)) for until in (0.2, 0.4, 0.6, 0.8, 1.0)}
    out |= {f"pwg_rho_{rho:g}": Method(guidance=Guidance(rho=rho)) for rho in (0.003, 0.01, 0.03, 0.1, 0.3)}
    spans = ((0, 0.4), (0.4, 0.8), (0.6, 1))
    return out | {f"pwg_steps_{a:g}_{b:g}": Method(guidance=Guidance(start=a, until=b)) for a, b in spans}
