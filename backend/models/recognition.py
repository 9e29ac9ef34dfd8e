"""What an image-model file is: from the names and shapes of its tensors and its metadata, and, told as a guess, from its name.

``inspect_model_file`` takes a moment for a file of gigabytes, since it loads nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ...shared.shot import ShotError
from .family_layouts import BY_NAME, explain_editing, explain_seen, list_supported
from .ip_adapter_kinds import find_encoder_kind, find_ip_adapter_kind
from .lora_kinds import USABLE, LoraKind, find_lora_kind, names_other_model
from .model_file import ModelFile, describe
from .motion_files import is_motion_module, plan_motion_module
from .motion_kinds import explain_module, find_module_family
from .names import find_control_kind, find_distillation, find_family_in_metadata, find_prediction, find_steps, is_undistilled
from .recommendation import Recommendation, recommend, recommend_transformer
from .transformer_plans import SCALED, SCALES, find_transformer, find_transformer_control
from .unet_shape import Shapes, UNetShape, find_unet_shape, strip_prefix
from .weight_files import GGUF, WeightFile, read_weight_file

_PRECISIONS = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "Float8_e4m3fnStorage": "float8",
    "Float8_e5m2Storage": "float8",
}
#: channels that a UNet takes -> what it is beside a plain one
_VARIANTS = {9: "inpainting", 8: "instruct", 7: "upscaler", 5: "depth"}
#: what a variant wants beside the noise
_VARIANT_SENTENCES = {
    "inpainting": "an inpainting model, whose UNet takes 9 channels: it wants a picture and a mask, so choose the plain model that "
    "it was made from",
    "instruct": "a model for editing pictures by instruction, whose UNet takes 8 channels; choose a plain one",
    "upscaler": "an upscaler, whose UNet takes 7 channels; choose a plain model",
    "depth": "a model with a depth channel of its own, whose UNet takes 5 channels; choose a plain one and a depth ControlNet",
    "unclip": "a model for variations of pictures, which takes a picture's embedding; choose a plain one",
}
#: half of a transformer
VACE_PART = "the part of Wan VACE that sees the depth, without the rest of its transformer"
HOTSHOT = "a motion module of Hotshot-XL, for SDXL"
LTX2_FILE = "LTX-2 in a single file"
#: marks of what is no model of these families, whatever else is in the file: part of a tensor's name -> what it is
_STRANGE = (
    (r"^controlnet_blocks\.0\.|^controlnet_x_embedder\.", "a ControlNet for a transformer such as Flux or Stable Diffusion 3"),
    (r"(^|\.)(double_blocks|single_transformer_blocks)\.0\.", "a Flux-like transformer"),
    (r"(^|\.)(joint_blocks|transformer_blocks)\.\d+\.(context_block|x_block|norm1_context)", "a Stable Diffusion 3"),
    (r"(^|\.)vace_blocks\.0\.", VACE_PART),
    (r"(^|\.)blocks\.0\.(self_attn\.norm_q|attn1\.norm_q)\.", "a transformer of Wan, which takes no depth"),
    (r"(^|\.)temporal_attentions\.0\.", HOTSHOT),
    (r"^((model\.)?diffusion_model\.)?audio_(patchify_proj|proj_in)\.", LTX2_FILE),
    (r"^((model\.)?diffusion_model\.)?patchify_proj\.", "a transformer of LTX-Video"),
    (r"(^|\.)motion_modules\.0\.", "a whole network with a motion module in it, or a LoRA for one"),
    (r"^text_encoder:0:|^unet:0:", "a LoRA in the first layout of all, whose layers have numbers and no names"),
    (r"^spatial_feat_mapping\.|^transformer_layes\.", "a T2I-Adapter"),
)
#: the same of files that are nothing else
_OTHERS = (
    (r"^(model\.diffusion_model\.)?(x_embedder|y_embedder|t_block|pos_embed|adaln_single)\.", "a PixArt-like transformer"),
    (r"^(model\.diffusion_model\.)?(layers|blocks|transformer_blocks)\.0\.", "a transformer, and no Stable Diffusion or SDXL"),
    (r"^(encoder\.block|shared|token_embd)\.", "a T5 text encoder"),
    (r"^lllite_", "a ControlNet-LLLite"),
    (r"^adapter\.body\.|^body\.0\.in_conv|^body\.0\.block1", "a T2I-Adapter"),
    (r"^lora_controlnet$", "a Control-LoRA"),
    (r"^taesd|^decoder\.layers\.0\.weight|^1\.weight$", "a tiny auto-encoder"),
    (r"^body\.0\.rdb1|^model\.0\.weight|^conv_first\.weight", "an upscaler of pictures"),
)
#: mark in what such a file is -> what is chosen instead
_INSTEAD = (
    ("ControlNet", "ControlNet"),
    ("Adapter", "ControlNet"),
    ("Control-LoRA", "ControlNet"),
    ("LoRA", "LoRA"),
    ("auto-encoder", "VAE"),
)
#: how the names of tensors end without which quantized weights are others
_QUANTIZED = (
    *SCALED,
    ".absmax",
    ".quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
    ".SCB",
    ".qweight",
    ".qzeros",
)
#: what lies beside a transformer in files that hold a whole model -> how the names of its tensors begin
_BESIDE_TRANSFORMERS = (
    ("auto-encoder", ("first_stage_model.", "vae.")),
    ("text encoders", ("text_encoders.", "cond_stage_model.", "conditioner.")),
)
#: width of a textual inversion's vectors -> family
_EMBEDDING_WIDTHS = {768: "sd1", 1024: "sd2", 1280: "sdxl"}
#: names of SDXL's vectors for its first and second text encoder: of kohya's scripts and the web interfaces, and of diffusers'
SDXL_TENSORS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
#: names of the vectors for one text encoder, which are no words
_VECTOR_NAMES = ("emb_params", "clip_l", "clip_h", "clip_g", "text_encoders_0", "text_encoders_1", "*")
#: numbers of a vector that several words in one file have at least
_LEAST_WIDTH = 64
#: vectors that fit into a prompt
MAX_VECTORS = 75
#: latent channels of the auto-encoders of these families
LATENT_CHANNELS = 4


@dataclass
class _Notes:
    """What is found on the way."""

    guesses: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def inspect_model_file(path: Path) -> ModelFile:
    """What a file is. Raises ``ShotError`` for one that cannot be read as weights."""
    return recognise(read_weight_file(path))


def recognise(file: WeightFile) -> ModelFile:
    """What a file of weights is."""
    shapes: Shapes = {name: raw.shape for name, raw in file.tensors.items()}
    notes = _Notes()
    title = file.metadata.get("modelspec.title", "")
    found = _recognise_kind(file, shapes, f"{file.path.stem} {title}".strip(), notes)
    if file.strangers:
        notes.warnings.append(
            f"The file names {', '.join(file.strangers)}, which weights do not need; nothing of it was run, but take care with it."
        )
    precisions = Counter[str]()
    for raw in file.tensors.values():
        if file.format == GGUF:
            precisions[raw.kind] += raw.count
        if raw.kind in _PRECISIONS:
            precisions[_PRECISIONS[raw.kind]] += raw.count
    if not found.problem and file.format == GGUF and found.kind != "transformer":
        found = msgspec.structs.replace(
            found, problem="Of GGUF files only transformers alone are read; choose the .safetensors file."
        )
    if not found.problem and any(_is_quantized(name, raw.count, found.kind) for name, raw in file.tensors.items()):
        problem = "Its weights are quantized, which is not supported; choose the file in float16, bfloat16 or float32."
        found = msgspec.structs.replace(found, problem=problem)
    complete = msgspec.structs.replace(
        found,
        title=title[:200],
        precision=precisions.most_common(1)[0][0] if precisions else "",
        parameters=sum(raw.count for raw in file.tensors.values()),
        tensors=len(file.tensors),
        guesses=tuple(notes.guesses),
        warnings=tuple(notes.warnings),
    )
    return msgspec.structs.replace(complete, sentence=describe(complete))


def _is_quantized(name: str, count: int, kind: str) -> bool:
    """Whether a tensor says that weights are others than they look."""
    if kind == "transformer" and name.endswith(SCALED) and (count == 1 or not name.endswith(SCALES)):
        return False
    return name.endswith(_QUANTIZED)


def _recognise_kind(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile:
    lora = find_lora_kind(shapes)
    if lora is not None:
        return _describe_lora(file, lora, name, notes)
    transformer = _find_transformer(file, shapes, name, notes)
    if transformer is not None:
        return transformer
    if is_motion_module(shapes):
        return _describe_motion_module(file, shapes, name, notes)
    strange = _find_other(file, shapes, _STRANGE)
    if strange is not None:
        return strange
    for find in (
        _find_controlnet,
        _find_base,
        _find_averaged,
        _find_ip_adapter,
        _find_picture_encoder,
        _find_vae,
        _find_text_encoder,
        _find_embedding,
    ):
        found = find(file, shapes, name, notes)
        if found is not None:
            return found
    other = _find_other(file, shapes, _OTHERS)
    if other is not None:
        return other
    problem = "Its tensors are those of no known kind of model; choose a Stable Diffusion or SDXL file, a ControlNet, LoRA or VAE."
    return _make(file, "unknown", problem=problem)


def _find_other(file: WeightFile, shapes: Shapes, marks: tuple[tuple[str, str], ...]) -> ModelFile | None:
    for mark, title in marks:
        if any(re.search(mark, tensor) for tensor in shapes):
            if title == HOTSHOT:
                problem = f"It is {title}; choose a motion module for Stable Diffusion 1.x."
                return _make(file, "other", method=title, problem=problem)
            if "motion module" in title:
                problem = f"It is {title}; choose the module alone, and name it as in sd15|motion=FILE."
                return _make(file, "other", method=title, problem=problem)
            if title == LTX2_FILE:
                problem = f"It is {title}, which is not read; choose its diffusers folder, or name {BY_NAME['ltx2'].repository}."
                return _make(file, "other", method=title, problem=problem)
            if title == VACE_PART:
                return _make(file, "other", method=title, problem=f"It is {title}; choose a file with all of it.")
            what = next((kind for mark, kind in _INSTEAD if mark in title), "file")
            problem = f"It is {title}, which is not supported; choose a {what} for Stable Diffusion or SDXL."
            return _make(file, "other", method=title, problem=problem)
    return None


def _make(file: WeightFile, kind: str, **found: Any) -> ModelFile:
    return ModelFile(file.path.name, file.size, file.format, kind, **found)


# transformers


def _find_transformer(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile | None:
    """A transformer of a known family, or a ControlNet for one."""
    control = find_transformer_control(shapes)
    if control is not None:
        kind = find_control_kind(name)
        # the union ones are published for all kinds of pictures
        if not kind:
            notes.guesses.append("Neither the file nor its name says what it is for; say it, as in depth=FILE.")
        elif kind != "union":
            notes.guesses.append(f"That it is for {kind} is taken from its name.")
        return _make(file, "controlnet", family=control.layout.name, layout=control.names, control=kind)
    found = find_transformer(shapes)
    if found is None:
        return None
    layout, is_told = found.layout, False
    distilled = find_distillation(name)
    if distilled:
        notes.guesses.append(f"That it is a {distilled.capitalize()} model is taken from its name.")
    notes.warnings += explain_editing(layout, name)
    if layout.name == "flux":
        is_told = any("guidance" in tensor for tensor in found.shapes)
        if not is_told and not distilled and not is_undistilled(name):
            distilled = "schnell"
            notes.guesses.append("That it was distilled to few steps is taken from its network, which is not told the guidance.")
    parts = [part for part, start in _BESIDE_TRANSFORMERS if any(tensor.startswith(start) for tensor in shapes)]
    variant, problem = "", ""
    if layout.name == "flux":
        wide = found.shapes.get("img_in.weight", found.shapes.get("x_embedder.weight", (0, 0)))[1]
        variant = {4 * layout.channels: "", 8 * layout.channels: "depth"}.get(wide, "inpainting")
        if variant == "inpainting":
            problem = "It wants a picture and a mask beside the noise; choose the plain model that it was made from."
        elif variant:
            problem, guess = explain_seen(name)
            notes.guesses += [guess] if guess else []
    if layout.name == "wan_vace":
        variant = "depth"
        if re.search(r"(high|low)[ _.-]?noise|wan[ _.-]?2[ _.-]2", name, re.IGNORECASE):
            problem = "By its name it is one of Wan 2.2's two transformers, which take turns; choose Wan 2.1 VACE."
    if parts:
        notes.warnings.append(f"Its {' and '.join(parts)} are not read; those of a folder are taken.")
    return _make(
        file,
        "transformer",
        family=layout.name,
        layout=found.names,
        variant=variant,
        problem=problem,
        prediction="flow",
        prediction_origin="file",
        distilled=distilled,
        recommended=recommend_transformer(
            layout,
            distilled,
            find_steps(name) if distilled else 0,
            _find_resolution(file, name),
            sees_picture=variant == "depth",
            is_told=is_told,
        ),
    )


# base models


def _find_base(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile | None:
    inner = strip_prefix(shapes, "model.diffusion_model.", "diffusion_model.", "unet.")
    shape = find_unet_shape(inner or shapes)
    if shape is None:
        return None
    parts = ["unet"]
    if any(tensor.startswith(("first_stage_model.", "vae.")) for tensor in shapes):
        parts.append("vae")
    parts += find_text_encoders(shapes)
    kind = "checkpoint" if len(parts) > 1 else "unet"
    family = _find_family(shape, parts, file)
    variant = "unclip" if shape.is_unclip else "refiner" if family == "sdxl_refiner" else _VARIANTS.get(shape.in_channels, "")
    problem = ""
    if variant == "refiner":
        problem = "It is SDXL's refiner, which finishes what SDXL's base began; choose the base model."
    elif variant == "unclip":
        problem = f"It is {_VARIANT_SENTENCES[variant]}."
    elif shape.in_channels != LATENT_CHANNELS:
        problem = explain_channels(shape.in_channels)
    elif any(tensor.startswith("edm_") for tensor in shapes):
        problem = "It was trained with EDM's noise levels, which are not supported; choose a model of epsilon or v-prediction."
    elif kind == "unet":
        problem = "It holds a UNet only; choose the whole checkpoint, with its text encoder and auto-encoder."
    prediction, zero, origin = _find_prediction(file, shapes, family, name, notes)
    distilled = find_distillation(name)
    steps = find_steps(name) if distilled else 0
    if distilled:
        notes.guesses.append(f"That it is a {distilled.capitalize()} model is taken from its name.")
    return _make(
        file,
        kind,
        family=family,
        layout=shape.layout,
        variant=variant,
        parts=tuple(parts),
        prediction=prediction,
        prediction_origin=origin,
        zero_terminal_snr=zero,
        distilled=distilled,
        ema=any(tensor.startswith("model_ema.") for tensor in shapes),
        recommended=recommend(family, prediction, zero, distilled, steps, _find_resolution(file, name)),
        problem=problem,
    )


def explain_channels(channels: Any) -> str:
    """The sentence for a UNet that takes so many channels, other than those of the latents."""
    variant = _VARIANTS.get(channels, "")
    return f"It is {_VARIANT_SENTENCES[variant]}." if variant else f"Its UNet takes {channels} channels; choose a plain model."


def _find_averaged(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile | None:
    """A checkpoint without a UNet but for the running means of its weights."""
    if not any(tensor.startswith("model_ema.diffusion_model") for tensor in shapes):
        return None
    problem = "It holds only the EMA weights of a UNet under their names in training; choose the whole checkpoint."
    return _make(file, "checkpoint", layout="original", parts=tuple(find_text_encoders(shapes)), ema=True, problem=problem)


def find_text_encoders(shapes: Shapes) -> list[str]:
    """The text encoders of a checkpoint, as diffusers names them."""
    single = any(tensor.startswith(("cond_stage_model.", "text_encoder.")) for tensor in shapes)
    first = any(tensor.startswith("conditioner.embedders.0.transformer.") for tensor in shapes)
    seconds = ("conditioner.embedders.1.model.", "conditioner.embedders.0.model.", "text_encoder_2.")
    second = any(tensor.startswith(seconds) for tensor in shapes)
    return ["text_encoder"] * (single or first) + ["text_encoder_2"] * second


def _find_family(shape: UNetShape, parts: list[str], file: WeightFile) -> str:
    """The UNet's own family, except where the text encoder says it better."""
    if shape.family == "sd1" and any(name.startswith("cond_stage_model.model.") for name in file.tensors):
        return "sd2"
    return shape.family


def _find_prediction(file: WeightFile, shapes: Shapes, family: str, name: str, notes: _Notes) -> tuple[str, bool, str]:
    """The prediction type, whether the last noise level has no signal left, and where the first is from: tensors and metadata,
    else the name and the family, which is told."""
    zero = "ztsnr" in shapes or file.metadata.get("ss_zero_terminal_snr") == "True" or "ztsnr" in file.metadata
    told = file.metadata.get("modelspec.prediction_type", file.metadata.get("prediction_type", "")).lower()
    architecture = file.metadata.get("modelspec.architecture", "").lower()
    if "v_pred" in shapes or told in ("v", "v_prediction", "v-prediction") or architecture.endswith("-768-v"):
        return "v_prediction", zero, "file"
    if told in ("epsilon", "eps") or architecture.endswith("v2-512"):
        return "epsilon", zero, "file"
    named = find_prediction(name)
    if named:
        spelled = "v-prediction" if named == "v_prediction" else "epsilon"
        notes.guesses.append(f"That it predicts {spelled} is taken from its name.")
        return named, zero, "name"
    if family == "sd2":
        # by the steps that Stability's own checkpoints were trained for
        if file.values.get("global_step") == 875000:
            return "epsilon", zero, "file"
        notes.guesses.append("The file does not say whether it predicts v or epsilon; v is taken, as most of 2.x do.")
        return "v_prediction", zero, "family's usual"
    return "epsilon", zero, "family's usual"


def _find_resolution(file: WeightFile, name: str) -> int:
    found = re.match(r"(\d{2,5})(?:x(\d{2,5}))?$", file.metadata.get("modelspec.resolution", "").strip())
    if found:
        return max(int(side) for side in found.groups() if side)
    return 512 if re.search(r"(?<!\d)512[_-]base", name.lower()) else 0


# parts


def _find_controlnet(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile | None:
    inner = strip_prefix(shapes, "control_model.") or shapes
    original, diffusers = "input_hint_block.0.weight" in inner, "controlnet_cond_embedding.conv_in.weight" in inner
    if not original and not diffusers:
        return None
    shape = find_unet_shape(inner)
    control, problem = "", ""
    if "task_embedding" in inner or any(tensor.startswith("control_add_embedding.") for tensor in inner):
        control = "union"
    else:
        control = find_control_kind(name)
        if control:
            notes.guesses.append(f"That it is for {control} is taken from its name.")
        else:
            notes.guesses.append("Neither the file nor its name says what it is for; say it, as in depth=FILE.")
    if "difference" in shapes:
        problem = "It holds only the difference from the base model's weights; choose the whole ControlNet."
    elif "lora_controlnet" in shapes:
        problem = "It is a Control-LoRA, which is not supported; choose the whole ControlNet."
    elif shape is None:
        problem = "It lacks the attention layers of a ControlNet; download it again."
    return _make(
        file,
        "controlnet",
        family=shape.family if shape is not None else "",
        layout="original" if original else "diffusers",
        control=control,
        problem=problem,
    )


def _find_vae(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile | None:
    inner = strip_prefix(shapes, "first_stage_model.", "vae.") or shapes
    layout = "original" if "decoder.mid.block_1.conv1.weight" in inner else ""
    layout = layout or ("diffusers" if "decoder.mid_block.resnets.0.conv1.weight" in inner else "")
    if not layout:
        return None
    channels = inner.get("decoder.conv_in.weight", (0, 0))[1]
    if len(inner.get("decoder.conv_in.weight", ())) != 4 or channels != LATENT_CHANNELS:
        problem = f"It makes latents of {channels} channels; those of Stable Diffusion and SDXL have {LATENT_CHANNELS}."
        return _make(file, "vae", family="other", layout=layout, problem=problem)
    family = find_family_in_metadata(file.metadata)
    if not family and re.search(r"xl", name.lower()):
        family = "sdxl"
        notes.guesses.append("That it is for SDXL is taken from its name.")
    if not family:
        family = "sd_or_sdxl"
        notes.guesses.append("The file does not say whether it is for Stable Diffusion or SDXL; their auto-encoders look alike.")
    return _make(file, "vae", family=family, layout=layout)


def _find_text_encoder(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile | None:
    if not any(re.match(r"(text_model\.)?encoder\.layers\.0\.self_attn\.q_proj\.weight$", tensor) for tensor in shapes):
        return None
    return _make(file, "text_encoder", layout="diffusers", problem="It holds a text encoder only; choose the whole checkpoint.")


def _find_ip_adapter(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile | None:
    kind = find_ip_adapter_kind(shapes)
    if kind is None:
        return None
    return _make(file, "ip_adapter", family=kind.family, layout="original", variant=kind.variant, problem=kind.problem)


def _describe_motion_module(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile:
    distilled = find_distillation(name)
    if distilled:
        notes.guesses.append(f"That it is a {distilled.capitalize()} module is taken from its name.")
    family = "sd1"
    try:
        config = plan_motion_module(shapes).config
        family, why = find_module_family(config), explain_module(config)
        problem = f"It is of another kind ({why}); choose a motion module for Stable Diffusion 1.x." if why else ""
    except ShotError as error:
        problem = str(error)
    layout = "original" if any(".temporal_transformer." in tensor for tensor in shapes) else "diffusers"
    advice = recommend("sd1", "", False, distilled, find_steps(name), 0) if distilled else Recommendation()
    return _make(file, "motion_module", family=family, layout=layout, distilled=distilled, recommended=advice, problem=problem)


def _find_picture_encoder(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile | None:
    kind = find_encoder_kind(shapes)
    if kind is None:
        return None
    problem = "" if kind.projection else "It lacks the projection of a picture encoder for IP-Adapters; choose another file."
    return _make(file, "picture_encoder", layout=kind.layout, method=kind.title, problem=problem)


def _describe_lora(file: WeightFile, lora: LoraKind, name: str, notes: _Notes) -> ModelFile:
    family = lora.family
    if family in ("", "sd1_or_sd2"):
        family = find_family_in_metadata(file.metadata) or family
    if not family:
        notes.guesses.append("The file does not say which kind of model it is for.")
    elif family == "wan_vace":
        notes.guesses.append("LoRAs for all models of Wan have the same names; whether it fits one shows when both are loaded.")
    told = " ".join(file.metadata.get(key, "") for key in ("modelspec.architecture", "ss_base_model_version"))
    if family in (*BY_NAME, "joint") and family != "ltx2" and names_other_model(told):
        family = "other"
    distilled = find_distillation(name)
    if distilled:
        notes.guesses.append(f"That it makes a {distilled.capitalize()} model is taken from its name.")
    problem = f"It is a LoRA for another kind of model than {list_supported()}." if family == "other" else ""
    if problem and any("motion_modules." in tensor for tensor in file.tensors):
        family, problem = "sd1", "It is for AnimateDiff's motion modules, whose LoRAs are not supported; leave it out."
    if not problem and lora.method not in USABLE:
        problem = f"Its method, {lora.method}, cannot be used; choose one of {', '.join(USABLE)}."
    if family == "ltx2":
        notes.guesses.append("LoRAs for LTX-2 and for the LTX-Video before it have the same names; it is taken to be for LTX-2.")
        if find_control_kind(name) not in ("", "depth", "union"):
            problem = f"By its name it is for {find_control_kind(name)}; LTX-2 takes its in-context LoRA for depth."
    steps = find_steps(name)
    words = file.metadata.get("modelspec.trigger_phrase", "").strip()
    return _make(
        file,
        "lora",
        family=family,
        layout=lora.layout,
        # what they call a UNet is a transformer
        parts=() if family in (*BY_NAME, "joint") else lora.parts,
        method=f"{lora.method} with DoRA" if lora.dora else lora.method,
        rank=lora.rank,
        words=(words[:200],) if words else (),
        distilled=distilled,
        recommended=recommend(family, "", False, distilled, steps, 0) if distilled else Recommendation(),
        problem=problem,
    )


def _find_embedding(file: WeightFile, shapes: Shapes, name: str, notes: _Notes) -> ModelFile | None:
    """A textual inversion. Its word is the file's name, or, as diffusers writes it, that of its only tensor."""
    stem: tuple[str, ...] = (file.path.stem,)
    pair = find_vectors(shapes)
    if len(pair) > 1:
        return _make(file, "embedding", family="sdxl", layout="two encoders", rank=_count_rows(shapes[pair[1]]), words=stem)
    if pair:
        shape, words = shapes[pair[0]], stem
        layout = "string_to_param" if pair[0].startswith("string_to_param.") else "emb_params"
    elif len(shapes) == 1 and not next(iter(shapes)).endswith((".weight", ".bias")):
        ((word, shape),) = shapes.items()
        layout, words = "diffusers", (word,)
    elif shapes and not any("." in tensor or _is_no_embedding(one) for tensor, one in shapes.items()):
        # several words may be trained at once
        shape, layout, words = next(iter(shapes.values())), "diffusers", tuple(shapes)
        if len({one[-1] for one in shapes.values()}) > 1 or shape[-1] < _LEAST_WIDTH:
            return None
    else:
        return None
    if len(shape) in (1, 2) and shape[-1] in _EMBEDDING_WIDTHS and _count_rows(shape) > MAX_VECTORS:
        problem = f"It has {_count_rows(shape)} vectors, and a prompt takes {MAX_VECTORS} at most; choose a shorter one."
        return _make(file, "embedding", layout=layout, rank=_count_rows(shape), words=words, problem=problem)
    if _is_no_embedding(shape):
        return None
    family, problem = _EMBEDDING_WIDTHS.get(shape[-1], ""), ""
    if not family:
        notes.warnings.append(f"Its vectors have {shape[-1]} numbers, which no usual text encoder takes.")
    if family == "sdxl":
        problem = "It is for one of SDXL's two text encoders only; choose a file with clip_l and clip_g."
    return _make(file, "embedding", family=family, layout=layout, rank=_count_rows(shape), words=words, problem=problem)


def find_vectors(shapes: Shapes) -> tuple[str, ...]:
    """The names of the tensors with the vectors of a textual inversion whose word is its file's name: of one text encoder, or of
    both of SDXL's; empty where each tensor's name is a word."""
    for names in SDXL_TENSORS:
        for start in ("", "string_to_param."):
            pair = tuple(start + name for name in names)
            if set(pair) <= set(shapes):
                return pair
    inner = next((name for name in shapes if name.startswith("string_to_param.")), "")
    found = inner or next((name for name in _VECTOR_NAMES if name in shapes), "")
    return (found,) if found else ()


def _is_no_embedding(shape: tuple[int, ...]) -> bool:
    return len(shape) not in (1, 2) or not shape[-1] or _count_rows(shape) > MAX_VECTORS


def _count_rows(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 2 else 1
