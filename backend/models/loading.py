"""Diffusers components of a named model, on a device, ready for the pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import msgspec
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DiffusionPipeline,
    MultiControlNetModel,
)

from ...shared.load_options import LoadOptions
from ...shared.model_profile import ModelProfile, resolve_request
from ...shared.shot import ShotError, ShotRequest
from .control_uses import ControlUse
from .devices import choose_device, choose_dtype, measure_free
from .embeddings import EmbeddingWord, add_embeddings, replace_words
from .families import Family, TextConditions, family_of_controlnet, family_of_pipeline
from .folder_loading import load_network_folder, load_pipeline_folder, prefers_half, read_index
from .hub import HubError, Report, fetch_repository
from .ip_adapters import IPAdapter, add_ip_adapter, fetch_encoder
from .loras import add_loras
from .memory_need import estimate_need
from .memory_plan import ROOMY, MemoryPlan, plan_memory
from .names import DISTILLED, find_distillation
from .network_shapes import list_networks
from .profiles import describe_pipeline, find_profile, list_scheduler_changes
from .prompts.named_loras import check_named_loras, refuse_negative_loras, refuse_unknown_loras
from .prompts.parsing import parse_prompt, split_loras
from .registry import ModelSource, add_usual_control, find_model, is_weight_file, split_revision
from .schedulers import make_scheduler, name_own_scheduler
from .single_files import load_checkpoint_file, load_controlnet_file, load_vae_file
from .vae_precision import choose_vae_dtype


def check_multiple(name: str, n: int, width: int, height: int) -> None:
    """``ShotError`` for a size whose sides are not multiples of ``n``, as the model of that name needs."""
    if width % n or height % n:
        near = [max(n, round(side / n) * n) for side in (width, height)]
        raise ShotError(
            "size",
            f"The model '{name}' cannot make {width}x{height}; the nearest size is {near[0]}x{near[1]} (multiples of {n}).",
        )


@dataclass(frozen=True)
class ImageModel:
    """A loaded pipeline's components and what can be asked of them."""

    name: str
    pipeline: DiffusionPipeline
    device: torch.device
    dtype: torch.dtype
    controls: tuple[str, ...] = ("depth",)
    source: ModelSource | None = None
    #: sentences for the user about what was guessed or left out when it was loaded
    warnings: tuple[str, ...] = ()
    #: those of its textual inversions
    words: tuple[EmbeddingWord, ...] = ()
    #: how it is put into memory
    plan: MemoryPlan = ROOMY
    #: how its file was distilled to few steps, a key of ``names.DISTILLED``; see ``distilled``
    file_distilled: str = ""
    #: see ``control_uses``; empty where all ControlNets are as they come
    uses: tuple[ControlUse, ...] = ()
    #: how it likes to be run; None for a pipeline that was loaded by other means
    profile: ModelProfile | None = None

    def complete_request(self, request: ShotRequest, size: tuple[int, int]) -> ShotRequest:
        """A request with what it leaves to the model put in; ``size`` (width, height) is that of the passes."""
        return resolve_request(request, self.profile or describe_pipeline(self.pipeline), size)

    def settle(self) -> ImageModel:
        """The model for requests that have been completed: what they leave empty is to be empty, whatever a settings file says."""
        if self.profile is None:
            return self
        return replace(self, profile=msgspec.structs.replace(self.profile, negative_prompt="", clip_skip=0))

    #: its IP-Adapter, which can look at reference pictures; None without one
    adapter: IPAdapter | None = None

    def get_default_guidance_scale(self, scheduler: str = "") -> float:
        """The scale of classifier-free guidance that suits the model: none with a few-step scheduler, else what its source says,
        else diffusers' default."""
        few_steps = (scheduler or name_own_scheduler(type(self.pipeline.scheduler).__name__)) in ("lcm", "tcd")
        if few_steps and not self.takes_guidance_scale:
            return 1.0
        if self.source is not None and self.source.guidance_scale:
            return self.source.guidance_scale
        return float(inspect.signature(self.pipeline.__call__).parameters["guidance_scale"].default)

    @property
    def takes_guidance_scale(self) -> bool:
        """Whether the UNet is told the guidance scale, as some few-step models are, and needs no second pass for it."""
        return self.unet.config.get("time_cond_proj_dim") is not None

    @property
    def distilled(self) -> str:
        """How the model was distilled to few steps, a key of ``names.DISTILLED``, by its profile, the names of its base and its
        LoRAs, or its scheduler; empty when nothing says that it was."""
        if self.profile is not None and self.profile.distilled:
            return self.profile.distilled
        names = [self.source.base, *(lora for lora, strength in self.source.loras if strength)] if self.source else []
        found = next(filter(None, (find_distillation(Path(name).name) for name in names)), "")
        own = name_own_scheduler(type(self.pipeline.scheduler).__name__)
        return self.file_distilled or found or (own if own in DISTILLED else "")

    @cached_property
    def family(self) -> Family:
        """What is special about this kind of model."""
        return family_of_pipeline(self.pipeline)

    @property
    def unet(self) -> Any:
        """The denoising UNet."""
        return self.pipeline.unet

    @property
    def controlnet(self) -> Any:
        """The ControlNet, or diffusers' wrapper of several."""
        return self.pipeline.controlnet

    @property
    def controlnets(self) -> list[Any]:
        """Every ControlNet, one for each of ``controls``."""
        return list(self.controlnet.nets) if isinstance(self.controlnet, MultiControlNetModel) else [self.controlnet]

    @property
    def control_uses(self) -> tuple[ControlUse, ...]:
        """How strongly and when each of ``controls`` works."""
        return self.uses or (ControlUse(),) * len(self.controls)

    @property
    def latent_factor(self) -> int:
        """Pixels a latent covers along each side."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def size_multiple(self) -> int:
        """What width and height must be divisible by."""
        return self.latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def check_size(self, width: int, height: int) -> None:
        """``ShotError`` naming the nearest size that works, when this one does not."""
        check_multiple(self.name, self.size_multiple, width, height)

    def make_scheduler(self, steps: int, name: str = "", spacing: str = "") -> Any:
        """A scheduler with the model's own betas and prediction type, set to a number of steps; see ``schedulers``."""
        own = self.pipeline.scheduler
        return make_scheduler(own.config, type(own).__name__, steps, name, spacing, self.device)

    @torch.no_grad()
    def encode_text(
        self, prompt: str, negative: str, guided: bool, width: int, height: int, background: str = "", clip_skip: int = 0
    ) -> TextConditions:
        """Embeddings of a prompt, with those of the negative prompt in front when ``guided``, and those of a background's own
        prompt behind when there is one. ``clip_skip`` is that of ``Text``.

        Raises ``ShotError`` for a prompt that cannot be read, and for one that names a LoRA that the model was loaded without.
        """
        refuse_negative_loras(negative)
        for text in (prompt, background):
            if self.source is None:
                refuse_unknown_loras(text)
            else:
                check_named_loras(text, self.source.base, self.source.loras)
        texts = ([negative] if guided else []) + [prompt] + ([background] if background else [])
        prompts = [parse_prompt(replace_words(split_loras(text)[0], self.words)) for text in texts]
        found = self.family.encode_text(self, prompts, width, height, clip_skip)
        said = (*(warning for each in prompts for warning in each.warnings), *found.warnings)
        return replace(found, warnings=tuple(dict.fromkeys(said)))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) latents -> (N, 3, H, W) pictures around [-1, 1]; differentiable."""
        vae = self.pipeline.vae
        return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample

    @property
    def decodes_in_half(self) -> bool:
        """Whether the auto-encoder computes in 16 bits."""
        return self.pipeline.vae.dtype in (torch.float16, torch.bfloat16)

    def decode_in_full(self, latents: torch.Tensor) -> torch.Tensor:
        """``decode`` in float32, whatever the auto-encoder computes in otherwise."""
        vae = self.pipeline.vae
        usual = vae.dtype
        try:
            vae.to(torch.float32)
            return self.decode(latents.float())
        finally:
            vae.to(usual)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) pictures in [-1, 1] -> (N, C, h, w) latents: the middle of what the auto-encoder gives."""
        vae = self.pipeline.vae
        found = vae.encode(pictures.to(vae.dtype))
        latents = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
        return (latents * vae.config.scaling_factor).to(self.dtype)


def load(
    name: str,
    device: torch.device | None = None,
    options: LoadOptions | None = None,
    report: Report | None = None,
    size: tuple[int, int] | None = None,
) -> ImageModel:
    """Load a model; what it lacks on this machine is downloaded, of which ``report`` is told. For frames of a ``size`` (width,
    height) its place in memory is planned before.

    Raises ``ShotError`` when it is missing, incomplete, made of parts that do not fit each other, or too large, and what ``report``
    raises.
    """
    options = options or LoadOptions()
    device = device or choose_device(options.device)
    dtype = choose_dtype(options, device)
    source = find_model(name)
    try:
        source = _fetch(source, dtype, report)
        plan = make_plan(source, device, dtype, options, size, name) if size else ROOMY
        loaded = _load_pipeline(source, dtype)
        pipeline, warnings = loaded.pipeline, loaded.warnings
        if source.is_control_usual:
            warnings += (f"The model brings no ControlNet; {source.controls[0][1]} is used for depth.",)
        if source.vae:
            warnings += _exchange_vae(pipeline, source.vae, dtype)
        adapter = None
        if source.reference is not None:
            adapter, said = add_ip_adapter(pipeline, source.reference, dtype)
            warnings += said
        words, more = _add_weights(pipeline, source)
        warnings += more
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise explain_unloadable(name, source, error) from error
    if getattr(pipeline, "controlnet", None) is None:
        raise ShotError("model", f"The model '{name}' has no ControlNet; name one as BASE|CONTROLNET.")
    profile = find_profile(name)
    changes = list_scheduler_changes(profile)
    if changes:
        pipeline.scheduler.register_to_config(**changes)
    family_of_pipeline(pipeline)  # a kind that is not known is refused before anything is asked of it
    if not source.guidance_scale and loaded.guidance_scale:
        source = replace(source, guidance_scale=loaded.guidance_scale)
    model = ImageModel(
        name,
        pipeline,
        device,
        dtype,
        tuple(kind for kind, _ in source.controls) or ("depth",),
        source,
        warnings,
        words,
        plan,
        file_distilled=loaded.distilled,
        uses=source.control_uses,
        profile=profile,
        adapter=adapter,
    )
    check_fit(model.unet.config, [(kind, net.config) for kind, net in zip(model.controls, model.controlnets, strict=True)])
    torch.nn.Module.to(pipeline.vae, choose_vae_dtype(dtype, pipeline.vae.config, sdxl="text_encoder_2" in pipeline.components))
    _place(pipeline, device, plan, options)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            # convolutions are nearly twice as quick in this layout
            part.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub lacks it
    if options.compile:
        pipeline.unet.compile()
        for network in model.controlnets:
            network.compile()
    return model


def _place(pipeline: DiffusionPipeline, device: torch.device, plan: MemoryPlan, options: LoadOptions) -> None:
    """Move a pipeline to its device, or only what is at work where the plan or the user says so."""
    if plan.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    elif device.type != "cpu" and (plan.offload == "model" or options.offload == "on"):
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if plan.tiling and hasattr(pipeline.vae, "enable_tiling"):
        pipeline.vae.enable_tiling()


def explain_unloadable(name: str, source: ModelSource, error: Exception) -> ShotError:
    """The error with the sentence for a model that cannot be loaded."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    # what comes from the hub says itself what to do
    parts = () if isinstance(error, HubError) else (source.base, *(c for _, c in source.controls))
    wanted = [part for part in parts if not Path(part).exists()]
    hint = f" Looked for on the model hub: {', '.join(wanted)}; without a connection, give folders instead." if wanted else ""
    return ShotError("model", f"The model '{name}' cannot be loaded: {first.rstrip('.')}.{hint}")


def check_fit(base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """``ShotError`` for a ControlNet that was made for another kind of base model, by the configurations of its UNet and of each
    kind of ControlNet."""
    names = ("cross_attention_dim", "in_channels", "block_out_channels", "addition_embed_type")
    needed = [_get_plain(base, name) for name in names]
    for kind, config in controls:
        given = [_get_plain(config, name) for name in names]
        if given != needed:
            name, has, needs = next((n, g, b) for n, g, b in zip(names, given, needed, strict=True) if g != b)
            raise ShotError(
                "model",
                f"The ControlNet for {kind} does not fit the base model: its {name} is {has}, the model's "
                f"{needs}. Use one made for this kind of model.",
            )


def _get_plain(config: Mapping[str, Any], name: str) -> Any:
    """A value as JSON has it: the same list may be a tuple once it is loaded."""
    value = config.get(name)
    return list(value) if isinstance(value, tuple) else value


def _add_weights(pipeline: DiffusionPipeline, source: ModelSource) -> tuple[tuple[EmbeddingWord, ...], tuple[str, ...]]:
    """Put LoRAs and textual inversions into a pipeline; the words of these, and sentences about what was left out."""
    warnings = add_loras(pipeline, source.loras) if source.loras else ()
    words, more = add_embeddings(pipeline, source.embeddings)
    return words, warnings + more


@dataclass(frozen=True)
class _Loaded:
    """A pipeline, sentences about what was guessed or left out, the guidance that its file recommends, 0 for none, and how that was
    distilled."""

    pipeline: DiffusionPipeline
    warnings: tuple[str, ...] = ()
    guidance_scale: float = 0.0
    distilled: str = ""


def is_path(part: str) -> bool:
    """Whether a part can only be meant to lie on this machine."""
    return Path(part).is_absolute() or part.startswith((".", "~")) or is_weight_file(part) or "\\" in part


def _fetch(source: ModelSource, dtype: torch.dtype, report: Report | None) -> ModelSource:
    """A source whose networks all lie on this machine, with a ControlNet where its base brings none. Raises ``ShotError``."""

    def locate(part: str) -> str:
        name, revision = split_revision(part)
        if is_weight_file(part) or Path(name).is_dir():
            return name
        if is_path(part):
            raise ShotError("model", f"There is no folder {name}; check the path, or name a hub id.")
        return str(fetch_repository(name, revision, half=prefers_half(dtype), report=report))

    base = locate(source.base)
    source = add_usual_control(replace(source, base=base), None if is_weight_file(base) else Path(base))
    controls = tuple((kind, locate(control)) for kind, control in source.controls)
    reference = source.reference
    if reference is not None:
        reference = replace(reference, encoder=fetch_encoder(reference.encoder, dtype, report))
    return replace(source, controls=controls, vae=locate(source.vae) if source.vae else "", reference=reference)


def make_plan(
    source: ModelSource,
    device: torch.device,
    dtype: torch.dtype,
    options: LoadOptions,
    size: tuple[int, int],
    name: str,
    held: int = 0,
) -> MemoryPlan:
    """How a model whose parts lie on this machine is put into the device's memory; ``held`` bytes of that are its own already.

    Raises ``ShotError`` when a frame of the size (width, height) does not fit.
    """
    free = measure_free(device)
    if free is None:
        return ROOMY
    networks = list_networks(source)
    need = estimate_need(networks, *size, dtype, lambda config: choose_vae_dtype(dtype, config, sdxl="text_encoder_2" in networks))
    return plan_memory(need, free + held, gpu=device.type != "cpu", offload=options.offload, name=name)


def plan_again(model: ImageModel, options: LoadOptions, size: tuple[int, int]) -> ImageModel:
    """A loaded model for frames of another size; it stays where it is. Raises ``ShotError`` when a frame does not fit."""
    if model.source is None:
        return model
    held = sum(
        p.numel() * p.element_size()
        for part in model.pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for p in part.parameters()
        if p.device.type == model.device.type
    )
    plan = make_plan(model.source, model.device, model.dtype, options, size, model.name, held)
    if plan.tiling and hasattr(model.pipeline.vae, "enable_tiling"):
        model.pipeline.vae.enable_tiling()
    return replace(model, plan=replace(plan, offload=model.plan.offload))


def _load_pipeline(source: ModelSource, dtype: torch.dtype) -> _Loaded:
    if not source.controls:
        kind = getattr(diffusers, str(read_index(Path(source.base)).get("_class_name")), DiffusionPipeline)
        return _Loaded(*load_pipeline_folder(Path(source.base), kind, dtype, {}))
    checkpoint = load_checkpoint_file(Path(source.base), dtype) if is_weight_file(source.base) else None
    loaded = [_load_controlnet(kind, control, dtype) for kind, control in source.controls]
    family, networks = loaded[0].family, [found.network for found in loaded]
    warnings = tuple(warning for found in loaded for warning in found.warnings)
    added: dict[str, Any] = {"controlnet": networks if len(networks) > 1 else networks[0]}
    if checkpoint is None:
        pipeline, said = load_pipeline_folder(Path(source.base), family.pipeline_class, dtype, added)
        return _Loaded(pipeline, said + warnings)
    fitted = [(kind, network.config) for (kind, _), network in zip(source.controls, networks, strict=True)]
    check_fit(checkpoint.parts["unet"].config, fitted)
    pipeline = family.pipeline_class(**checkpoint.parts, **added, **family.single_file_options)
    guidance = checkpoint.file.recommended.guidance_scale if checkpoint.file.distilled else 0.0
    return _Loaded(pipeline, checkpoint.warnings + warnings, guidance, checkpoint.file.distilled)


@dataclass(frozen=True)
class _Control:
    """A ControlNet, the family that it is made for, and sentences about what was guessed or left out."""

    family: Family
    network: Any
    warnings: tuple[str, ...] = ()


def _load_controlnet(kind: str, control: str, dtype: torch.dtype) -> _Control:
    if is_weight_file(control):
        network, found, warnings = load_controlnet_file(Path(control), dtype)
        if found.control and found.control != kind:
            warnings += (f"By its name, {found.file} is a ControlNet for {found.control}; it is used for {kind}.",)
        return _Control(family_of_controlnet({**network.config, "_class_name": type(network).__name__}), network, warnings)
    folder = Path(control)
    family = family_of_controlnet(ControlNetModel.load_config(str(folder), local_files_only=True))
    return _Control(family, *load_network_folder(folder, family.controlnet_class, "ControlNet", dtype))


def _exchange_vae(pipeline: DiffusionPipeline, vae: str, dtype: torch.dtype) -> tuple[str, ...]:
    """Put another auto-encoder into a pipeline; sentences about what was left out."""
    if is_weight_file(vae):
        family = "sdxl" if "text_encoder_2" in pipeline.components else "sd1"
        network, warnings = load_vae_file(Path(vae), family, dtype)
    else:
        network, warnings = load_network_folder(Path(vae), AutoencoderKL, "auto-encoder", dtype)
    pipeline.register_modules(vae=network)
    return warnings
