"""What is known of a file of weights, and how that is said."""

from __future__ import annotations

import msgspec

from .family_layouts import LAYOUTS
from .recommendation import Recommendation

FAMILIES = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "SDXL",
    "sdxl_refiner": "SDXL's refiner",
    "sd1_or_sd2": "Stable Diffusion 1.x or 2.x",
    "sd_or_sdxl": "Stable Diffusion or SDXL",
    **{layout.name: layout.title for layout in LAYOUTS},
    "joint": "FLUX.1, Qwen-Image or Stable Diffusion 3",
    "other": "another kind of model",
    "": "an unknown kind of model",
}


class ModelFile(msgspec.Struct, frozen=True):
    """What a file is. ``kind`` is checkpoint, unet, transformer, vae, text_encoder, controlnet, lora, embedding, ip_adapter,
    picture_encoder, motion_module, other or unknown; ``family`` a key of ``FAMILIES``; ``layout`` how its tensors are named.
    ``parts`` are the networks in a checkpoint or what a LoRA changes; ``control`` what a ControlNet is for; ``prediction``
    epsilon, v_prediction, flow or empty; it is from the ``prediction_origin`` file, name or family's usual. ``guesses`` are
    sentences about what the file itself does not say, ``problem`` why it cannot be used, empty when it can."""

    file: str
    size: int
    format: str
    kind: str
    family: str = ""
    layout: str = ""
    variant: str = ""
    parts: tuple[str, ...] = ()
    control: str = ""
    method: str = ""
    rank: int = 0
    words: tuple[str, ...] = ()
    prediction: str = ""
    prediction_origin: str = ""
    zero_terminal_snr: bool = False
    distilled: str = ""
    ema: bool = False
    precision: str = ""
    parameters: int = 0
    tensors: int = 0
    title: str = ""
    recommended: Recommendation = Recommendation()
    guesses: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str = ""
    sentence: str = ""


def describe(found: ModelFile) -> str:
    """One or two sentences that say what a file is."""
    family = FAMILIES[found.family]
    if found.kind in ("other", "unknown"):
        return f"{found.file}: {found.problem}"
    if found.kind == "checkpoint":
        missing = [
            title
            for part, title in (("vae", "an auto-encoder"), ("text_encoder", "a text encoder"))
            if part not in found.parts and not (part == "text_encoder" and found.variant == "refiner")
        ]
        what = f"a checkpoint of {family}" + (f" without {' and '.join(missing)}" if missing else "")
    elif found.kind == "transformer":
        what = f"the transformer alone of {family}" + (" that sees the picture for depth" if found.variant == "depth" else "")
    elif found.kind == "unet":
        what = f"the UNet alone of {family}"
    elif found.kind == "vae":
        what = f"an auto-encoder (VAE) for {family}"
    elif found.kind == "text_encoder":
        what = "a text encoder"
    elif found.kind == "ip_adapter":
        variant = {"plain": "", "faceid": " of the FaceID kind"}.get(found.variant, f" ({found.variant})")
        what = f"an IP-Adapter{variant} for {family}"
    elif found.kind == "motion_module":
        what = f"a motion module of AnimateDiff for {family}"
    elif found.kind == "picture_encoder":
        what = f"a picture encoder for IP-Adapters, {found.method}"
    elif found.kind == "controlnet":
        what = f"a ControlNet for {family}" + (f", for {found.control}" if found.control else "")
    elif found.kind == "lora":
        changed = " and ".join(
            {"unet": "the UNet", "text_encoder": "the text encoder", "text_encoder_2": "the second text encoder"}[p]
            for p in found.parts
        )
        what = (
            f"a {found.method} for {family}"
            + (f", rank {found.rank}" if found.rank else "")
            + (f", for {changed}" if changed else "")
        )
    else:
        vectors = "one vector" if found.rank == 1 else f"{found.rank} vectors"
        words = f"words are {', '.join(found.words[:5])}" if len(found.words) > 1 else f"word is {found.words[0]}"
        what = f"a textual inversion for {family} of {vectors}; its {words}"
    details = [f"{found.layout} layout"] if found.layout else []
    if found.kind in ("checkpoint", "unet"):
        details.append({"v_prediction": "v-prediction", "epsilon": "epsilon"}.get(found.prediction, "prediction unknown"))
        details += ["zero terminal SNR"] * found.zero_terminal_snr
    details += [found.distilled.capitalize()] * bool(found.distilled) + ["with EMA weights"] * found.ema
    details += [found.precision] * bool(found.precision)
    return f"{found.file} is {what} ({', '.join(details)})." + (f" {found.problem}" if found.problem else "")
