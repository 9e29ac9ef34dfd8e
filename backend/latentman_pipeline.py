"""LatentMan as diffusers pipelines, for use outside Blender.

```python
import torch

from latentman.backend import LatentManPipeline

pipe = LatentManPipeline.from_pretrained("starter")
clip = pipe("a man in a red shirt, on a beach", "passes", generator=torch.Generator().manual_seed(3))
clip.frames[0].save("first.png")
```

``passes`` is the folder that Blender's *Save Passes* or ``blender -b shot.blend --command latentman passes --out passes`` wrote.
Everything that diffusers' own ControlNet pipelines load works: ``from_pretrained``, ``from_single_file``, ``from_pipe``, LoRAs,
textual inversions, several ControlNets, offloading, and attention processors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from ..shared.files import write_atomically
from ..shared.logs import get_logger
from ..shared.manifest import PassesManifest
from ..shared.passes import FramePasses, check_passes
from ..shared.reference import name_picture
from ..shared.settings import with_settings
from ..shared.shot import MAX_STEPS, MODELS_STRENGTH, Method, ShotError, ShotRequest, check_request, make_request
from .method_plugins import find_method
from .models.caller_options import STEPPED, CallerOptions, check_stepped, read_schedule
from .models.families import StableDiffusionXL, family_of_pipeline
from .models.image_model import ImageModel
from .models.ip_adapters import read_pipeline_adapter
from .models.registry import STARTER
from .pictures import encode_png
from .pipeline_calls.inputs import (
    Generators,
    check_controls,
    check_generators,
    check_latents,
    check_numbers,
    check_size,
    check_step_latents,
    choose_reference,
    find_seed,
    make_control_uses,
    read_control_pictures,
    read_passes,
)
from .pipeline_calls.results import Bars, LatentManOutput, check_output_type, convert_arrays, join_clips, to_arrays
from .pipeline_calls.texts import CallTexts, PictureSizes, Text, make_encoder
from .reference_pictures import read_reference
from .video.given_inputs import GivenInputs
from .video.noise import draw_noise, list_noise_sources
from .video.pipeline import Interrupted, RunContext, ShotPipeline
from .video.prediction import Predictor, TensorShapeError
from .video.techniques import Technique
from .video.techniques.registry import build_techniques

__all__ = ["LatentManOutput", "LatentManPipeline", "LatentManXLPipeline"]
logger = get_logger(__name__)
#: (pipeline, step index, timestep, tensors by name) -> tensors to go on with
StepCallback = Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any] | None]
#: beside a saved pipeline: what ``custom_pipeline`` of diffusers reads
CUSTOM_FILE, CUSTOM_CODE = "pipeline.py", "from latentman.backend.latentman_pipeline import {0}\n\n__all__ = ['{0}']\n"


class _LatentManMixin:
    """What both pipelines add to diffusers' own."""

    unet: Any
    vae: Any
    scheduler: Any
    controlnet: Any
    progress_bar: Callable[..., Any]
    maybe_free_model_hooks: Callable[[], None]
    _execution_device: torch.device
    _callback_tensor_inputs: list[str]
    _first_scheduler: Any = None
    _frame_indices: tuple[int, ...] = ()
    #: diffusers' class of the same parts
    _plain_class: type[Any]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """As diffusers' own; ``starter`` is the model that comes with this package."""
        name = pretrained_model_name_or_path
        if name == "starter" and not os.path.isdir(name):
            name = STARTER
        return super().from_pretrained(name, **kwargs)  # type: ignore[misc]

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """As diffusers' own.

        ``from_pretrained`` of this class reads the folder again; ``DiffusionPipeline.from_pretrained`` makes diffusers' own
        ControlNet pipeline of it, or with ``custom_pipeline=`` the folder and ``trust_remote_code=True`` this one.
        """
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        write_atomically(Path(save_directory) / CUSTOM_FILE, CUSTOM_CODE.format(type(self).__name__).encode())
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    def to_json_string(self) -> str:
        """The folder's index, which names the class of diffusers' own, so that every program can read it."""
        index = json.loads(super().to_json_string())  # type: ignore[misc]
        return json.dumps(index | {"_class_name": self._plain_class.__name__}, indent=2, sort_keys=True) + "\n"

    def register_modules(self, **kwargs: Any) -> None:
        """As diffusers' own; remembers the scheduler that the model came with."""
        super().register_modules(**kwargs)  # type: ignore[misc]
        if kwargs.get("scheduler") is not None:
            self._first_scheduler = kwargs["scheduler"]

    def interrupt_now(self) -> None:
        """Stop the running call after its current step; it returns the frames that there are as they are, and says which."""
        self._interrupt = True

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Which of the shot's frames, counted from 0, the callback of a step sees."""
        return self._frame_indices

    def __call__(
        self,
        prompt: Text = None,
        passes: FramePasses | str | os.PathLike[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: Text = None,
        *,
        method: Method | str = "surface",
        manifest: PassesManifest | None = None,
        controls: tuple[str, ...] = ("depth",),
        background_prompt: str = "",
        techniques: Sequence[Technique] = (),
        scheduler: str = "",
        spacing: str = "",
        reference: Any = None,
        reference_strength: float | None = None,
        image: Any = None,
        height: int | None = None,
        width: int | None = None,
        timesteps: list[int] | None = None,
        sigmas: list[float] | None = None,
        num_images_per_prompt: int | None = 1,
        eta: float | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        pooled_prompt_embeds: torch.Tensor | None = None,
        negative_pooled_prompt_embeds: torch.Tensor | None = None,
        ip_adapter_image: Any = None,
        ip_adapter_image_embeds: list[torch.Tensor] | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
        cross_attention_kwargs: dict[str, Any] | None = None,
        controlnet_conditioning_scale: float | Sequence[float] = 1.0,
        guess_mode: bool = False,
        control_guidance_start: float | Sequence[float] = 0.0,
        control_guidance_end: float | Sequence[float] = 1.0,
        clip_skip: int | None = None,
        callback_on_step_end: StepCallback | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        prompt_2: Text = None,
        negative_prompt_2: Text = None,
        denoising_end: float | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] = (0, 0),
        target_size: tuple[int, int] | None = None,
        negative_original_size: tuple[int, int] | None = None,
        negative_crops_coords_top_left: tuple[int, int] = (0, 0),
        negative_target_size: tuple[int, int] | None = None,
    ) -> LatentManOutput | tuple[Any, list[Any]]:
        """Generate a clip whose frames fit ``passes``. They are a folder of saved passes, or what ``passes_folder.load`` reads.

        What is left out is as on the command line, also what is the model's own: steps, guidance, negative prompt. ``method`` is a
        preset's name, that of another package's method, or a ``Method``; ``techniques`` are objects that work after those that it
        names. ``controls`` names the ControlNets' kinds in order; kinds other than depth need the passes' ``manifest``, which a
        folder has. ``scheduler`` and ``spacing`` are values of ``Sampling``; without them ``pipe.scheduler`` steps. ``reference``
        is a picture of the character for an IP-Adapter that ``load_ip_adapter`` loaded, with a strength of ``reference_strength``
        from 0 to 1, else that of ``set_ip_adapter_scale``; ``ip_adapter_image`` is the same.

        All else is as in diffusers, for frames in place of images: ``prompt``, ``negative_prompt`` and their embeddings are one for
        all frames or one for each; ``generator`` draws the first frame's noise, which all frames share, or with a list each frame's
        own; ``latents`` (F, C, h, w) standard normal noise takes its place; ``num_images_per_prompt`` counts clips. ``image`` are
        pictures for the ControlNets in place of those drawn from the passes. ``eta`` None is the scheduler's own. Of
        ``cross_attention_kwargs`` there is ``scale``.

        The callback is called after each step of the frames that are denoised together, and then of those that are made from them;
        ``pipe.frame_indices`` says which they are. It may change ``pipe._guidance_scale``, set ``pipe._interrupt``, and return
        tensors to go on with.

        Raises ``ShotError``, a ``ValueError``, for requests that cannot be run, and ``TypeError`` for arguments of another type.
        """
        check_output_type(output_type)
        numbers = {"guidance_scale": guidance_scale, "eta": eta, "reference_strength": reference_strength}
        check_numbers(numbers | {"num_inference_steps": num_inference_steps, "clip_skip": clip_skip})
        if callback_on_step_end is not None and not callable(callback_on_step_end):
            raise TypeError(f"The callback_on_step_end is a {type(callback_on_step_end).__name__}; give a function.")
        is_xl = isinstance(family_of_pipeline(self), StableDiffusionXL)
        sizes = PictureSizes(
            original_size,
            crops_coords_top_left,
            target_size,
            negative_original_size,
            negative_crops_coords_top_left,
            negative_target_size,
        )
        self._refuse(is_xl, sizes, prompt, negative_prompt, prompt_2, negative_prompt_2, denoising_end, ip_adapter_image_embeds)
        scale = _read_lora_scale(cross_attention_kwargs)
        given_passes, manifest = read_passes(passes, manifest)
        check_size(given_passes, height, width)
        frames = len(given_passes.mask)
        texts = CallTexts(
            *(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds),
            *(pooled_prompt_embeds, negative_pooled_prompt_embeds, sizes),
        )
        texts.check(frames, int(self.unet.config.cross_attention_dim), pooled=is_xl)
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        names = self._read_callback_inputs(callback_on_step_end_tensor_inputs, background_prompt)
        clips = 1 if num_images_per_prompt is None else num_images_per_prompt
        if not isinstance(clips, int) or isinstance(clips, bool) or clips < 1:
            raise ShotError("num_images_per_prompt", f"{clips!r} clips cannot be made; give num_images_per_prompt of 1 or more.")
        check_generators(generator, frames, clips)
        found = choose_reference(reference, ip_adapter_image)
        picture = None if found is None else read_reference(found)
        request = self._make_request(
            texts.get_single_prompt(),
            given_passes,
            method,
            negative_prompt=texts.get_single_negative(),
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            scheduler=scheduler,
            spacing=spacing,
            background_prompt=background_prompt,
            # a request counts layers from the end, diffusers what is left out behind the model's own
            clip_skip=0 if clip_skip is None else clip_skip + family_of_pipeline(self).own_layer,
            reference="" if picture is None else name_picture(encode_png(picture)),
            reference_strength=MODELS_STRENGTH if reference_strength is None else reference_strength,
            manifest=manifest,
        )
        adapter = read_pipeline_adapter(self)
        if picture is not None and adapter is None:
            raise ShotError(
                "reference",
                "The pipeline cannot look at a reference picture; call load_ip_adapter first, or leave the picture out.",
            )
        if adapter is not None and reference_strength is not None:
            # a strength of the call's own holds for all layers
            adapter = replace(adapter, layers={name: (*one[:2], 1.0) for name, one in adapter.layers.items()})
        networks = list(getattr(self.controlnet, "nets", [self.controlnet]))
        pictures = read_control_pictures(self, image, len(networks), given_passes)
        # their kinds do not matter where the pictures are given
        controls = ("depth",) * len(networks) if pictures is not None else check_controls(controls, len(networks))
        uses = make_control_uses(len(controls), controlnet_conditioning_scale, control_guidance_start, control_guidance_end)
        warnings: list[str] = []
        options = CallerOptions(
            None if scheduler or spacing else self._choose_scheduler(warnings),
            *read_schedule(timesteps, sigmas),
            eta,
            guess_mode or bool(networks[0].config.get("global_pool_conditions")),
            scale,
        )
        model = ImageModel(
            *(type(self).__name__, self, self._execution_device, self.unet.dtype, controls),
            uses=uses,
            adapter=adapter,
            options=options,
        )
        for part in (self.unet, self.vae, *model.controlnets):
            part.requires_grad_(False)
        request = model.complete_request(request, (request.width, request.height))
        if options.has_schedule:
            steps = len(model.make_scheduler(1, request.sampling.scheduler, request.sampling.spacing).timesteps)
            request = with_settings(request, {"steps": min(steps, MAX_STEPS)})
        self._interrupt = False
        self._guidance_scale = request.sampling.guidance_scale if guidance_scale is None else guidance_scale
        self._clip_skip, self._cross_attention_kwargs = clip_skip, cross_attention_kwargs
        self._num_timesteps = request.sampling.steps
        shape = (int(self.unet.config.in_channels), request.height // model.latent_factor, request.width // model.latent_factor)
        check_latents(latents, (frames * clips, *shape))
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(0, 2**31, (1,))))
        sources = list_noise_sources([*build_techniques(request.get_method()), *techniques], range(frames))
        given = GivenInputs(make_encoder(texts, model, request, clip_skip), pictures)
        made: list[Any] = []
        indices: list[list[int]] = []
        flagged: list[Any] = []
        bars = Bars(self.progress_bar)
        try:
            for n in range(clips):
                own = slice(n * frames, (n + 1) * frames)
                drawing = generator[own] if isinstance(generator, (list, tuple)) else generator
                seeded = with_settings(request, {"seed": find_seed(drawing)})
                noise = _draw_noise(drawing, sources, shape) if latents is None else latents[own]
                context = RunContext(progress=bars.show, warnings=warnings)
                self._follow(context, callback_on_step_end, names)
                run = ShotPipeline(
                    *(model, seeded, check_passes(seeded, given_passes.arrays()), context, noise),
                    techniques=techniques,
                    reference=picture,
                    given=given,
                )
                clip, rows = self._run(run, context, as_latents=output_type == "latent")
                if output_type == "latent":
                    made.append(torch.stack(clip))
                else:
                    arrays, flags = self._check_safety(to_arrays(clip))
                    made.append(convert_arrays(arrays, str(output_type)))
                    flagged.append(flags)
                indices.append(rows)
                if self._interrupt:
                    break
        finally:
            bars.close()
            self._frame_indices = ()
        self.maybe_free_model_hooks()
        for sentence in warnings:
            logger.warning("%s", sentence)
        is_checked = bool(flagged) and flagged[0] is not None
        if clips == 1:
            out = LatentManOutput(made[0], indices[0], warnings, flagged[0] if is_checked else None)
        else:
            out = LatentManOutput(join_clips(made), indices, warnings, flagged if is_checked else None)
        return out if return_dict else (out.frames, out.frame_indices)

    def _refuse(
        self,
        is_xl: bool,
        sizes: PictureSizes,
        prompt: Text,
        negative_prompt: Text,
        prompt_2: Text,
        negative_prompt_2: Text,
        denoising_end: float | None,
        ip_adapter_image_embeds: Any,
    ) -> None:
        """Raise ``ShotError`` for arguments of diffusers that the method cannot follow."""
        for name, second, first in (
            ("prompt_2", prompt_2, prompt),
            ("negative_prompt_2", negative_prompt_2, negative_prompt),
        ):
            if second is not None and second != first:
                raise ShotError(
                    name,
                    f"Both text encoders read the same text, so that {name} cannot be another; leave it out, or give prompt_embeds "
                    "and pooled_prompt_embeds that pipe.encode_prompt made.",
                )
        if denoising_end is not None:
            raise ShotError("denoising_end", "Frames are denoised to the end; leave denoising_end out.")
        if ip_adapter_image_embeds is not None:
            raise ShotError(
                "reference", "The picture is encoded for every call; give ip_adapter_image, not ip_adapter_image_embeds."
            )
        if not is_xl and sizes != PictureSizes():
            raise ShotError("size", "Only SDXL knows original_size, target_size and crops; leave them out.")

    def _read_callback_inputs(self, names: Sequence[str] | None, background_prompt: str) -> tuple[str, ...]:
        found = tuple(names or ())
        unknown = [name for name in found if name not in self._callback_tensor_inputs]
        if unknown:
            raise ShotError(
                "callback",
                f"There is no tensor '{unknown[0]}' for callback_on_step_end_tensor_inputs; choose "
                f"{', '.join(self._callback_tensor_inputs)}.",
            )
        if background_prompt and set(found) - {"latents", "image"}:
            raise ShotError("callback", "A callback cannot change the text beside a background_prompt; leave one of them out.")
        return found

    def _make_request(
        self,
        prompt: str,
        passes: FramePasses,
        method: Method | str,
        *,
        num_inference_steps: int | None,
        guidance_scale: float | None,
        **settings: Any,
    ) -> ShotRequest:
        if num_inference_steps == 0:
            raise ShotError("steps", "No frames can be made in 0 steps; give 1 or more, or None for the model's own.")
        count, height, width = passes.mask.shape
        request = make_request(
            prompt,
            width=width,
            height=height,
            frames=tuple(range(1, count + 1)),
            fps=24.0,
            steps=0 if num_inference_steps is None else num_inference_steps,
            guidance_scale=0.0 if guidance_scale is None else max(guidance_scale, 1.0),
            method=method if isinstance(method, Method) else find_method(method),
            **settings,
        )
        check_request(request)
        return request

    def _choose_scheduler(self, warnings: list[str]) -> Any:
        """The pipeline's scheduler, if it is to step as it is; None where one is made by its name, as on the command line."""
        own = self.scheduler
        if own is not self._first_scheduler:
            check_stepped(own)
            return own
        usual = ("DDIMScheduler", "LCMScheduler", "TCDScheduler")
        name = type(own).__name__
        if name in usual:
            return None
        if type(own) in STEPPED:
            return own
        warnings.append(f"The method cannot step with the model's {name} and uses DDIM; set pipe.scheduler to choose another.")
        return None

    def _follow(self, context: RunContext, callback: Any, names: tuple[str, ...]) -> None:
        """Have a run call back after every step, and stop when it is told to."""
        last: dict[str, Any] = {}

        def after_step(step: int, timestep: torch.Tensor, latents: torch.Tensor, predictor: Predictor) -> torch.Tensor:
            self._frame_indices = tuple(predictor.rows)
            if callback is not None:
                tensors = {"latents": latents} | (predictor.list_tensors() if set(names) - {"latents"} else {})
                guidance = self._guidance_scale
                returned = callback(self, step, timestep, {name: tensors.get(name) for name in names}) or {}
                latents = check_step_latents(returned, latents)
                _change_inputs(predictor, returned, self._guidance_scale if self._guidance_scale != guidance else None)
            last["latents"], last["rows"] = latents, predictor.rows
            return latents

        context.after_step, context.should_stop = after_step, lambda: self._interrupt and bool(last)
        self._last = last

    def _run(self, run: ShotPipeline, context: RunContext, *, as_latents: bool) -> tuple[list[torch.Tensor], list[int]]:
        """The frames of a clip that there are, and which they are."""
        found: dict[int, torch.Tensor] = {}
        try:
            found.update(run.iter_latents() if as_latents else run.iter_pictures())
        except Interrupted:
            context.should_stop = lambda: False
            latents, rows = self._last["latents"], self._last["rows"]
            missing = [n for n, row in enumerate(rows) if row not in found]
            values = latents[missing] if as_latents else run.decode(latents[missing])
            found.update(zip([rows[n] for n in missing], values, strict=True))
        order = sorted(found)
        return [found[row] for row in order], order

    def _check_safety(self, arrays: Any) -> tuple[Any, Any]:
        """Frames as the model's safety checker lets them pass, and what it found; None without one."""
        if getattr(self, "safety_checker", None) is None:
            return arrays, None
        return self.run_safety_checker(arrays, self._execution_device, self.unet.dtype)  # type: ignore[attr-defined]


def _change_inputs(predictor: Predictor, returned: dict[str, Any], guidance_scale: float | None) -> None:
    """Have the networks go on with what a callback gave. Raises ``ShotError`` for what they cannot."""
    try:
        predictor.replace_tensors(returned)
    except TensorShapeError as error:
        raise ShotError(
            "callback", f"The callback gave {error.name} of shape {error.shape}; give them back in the shape in which they came."
        ) from error
    if guidance_scale is None:
        return
    try:
        predictor.change_guidance(guidance_scale)
    except ValueError as error:
        raise ShotError(
            "guidance_scale", "Guidance cannot be switched on between steps; begin with a guidance_scale above 1."
        ) from error


def _read_lora_scale(given: dict[str, Any] | None) -> float | None:
    if given is not None and not isinstance(given, dict):
        raise TypeError(f"The cross_attention_kwargs are a {type(given).__name__}; give a dictionary with a scale.")
    others = [name for name in given or {} if name != "scale"]
    if others:
        raise ShotError(
            "cross_attention_kwargs", f"The attention takes no '{others[0]}'; give cross_attention_kwargs with nothing but scale."
        )
    check_numbers(given or {})
    return None if not given else float(given["scale"])


def _draw_noise(generator: Any, sources: list[int], shape: tuple[int, int, int]) -> torch.Tensor:
    """(F, C, h, w); ``sources`` says whose random numbers each frame takes."""
    if isinstance(generator, (list, tuple)):
        return torch.cat([torch.randn((1, *shape), generator=g, device=g.device).cpu() for g in generator])
    return draw_noise(sources, range(len(sources)), shape, generator)


class LatentManPipeline(_LatentManMixin, StableDiffusionControlNetPipeline):
    """LatentMan on Stable Diffusion 1.x and 2.x with ControlNets."""

    _plain_class = StableDiffusionControlNetPipeline


class LatentManXLPipeline(_LatentManMixin, StableDiffusionXLControlNetPipeline):
    """LatentMan on SDXL with ControlNets."""

    _plain_class = StableDiffusionXLControlNetPipeline
