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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from ..shared.control_uses import ControlUse
from ..shared.files import write_atomically
from ..shared.logs import get_logger
from ..shared.manifest import PassesManifest
from ..shared.passes import FramePasses
from ..shared.reference import name_picture
from ..shared.settings import with_settings
from ..shared.shot import MAX_STEPS, MODELS_STRENGTH, Method, ShotError, ShotRequest, check_request, make_request
from .method_plugins import find_method
from .models.caller_options import CallerOptions, check_stepped, read_schedule
from .models.families import StableDiffusionXL, UNetFamily, family_of_pipeline
from .models.image_model import ImageModel
from .models.ip_adapters import IPAdapter, read_pipeline_adapter
from .models.registry import STARTER
from .models.schedulers import STEPPED
from .pictures import encode_png
from .pipeline_calls.inputs import (
    check_controls,
    check_numbers,
    check_size,
    check_whole,
    make_control_uses,
    read_character,
    read_clip_count,
    read_control_pictures,
    read_lora_scale,
    read_number,
    read_numbers,
    read_passes,
)
from .pipeline_calls.noise import SEEDS, CallNoise, Generators, check_generators, check_latents
from .pipeline_calls.results import Bars, Clip, LatentManOutput, check_output_type, convert_arrays, make_output, to_arrays
from .pipeline_calls.shot import CallShot
from .pipeline_calls.steps import AnyCallback, StepCallback, StepWatch, check_callback, read_tensor_names
from .pipeline_calls.texts import CallTexts, PictureSizes, Text, make_encoder
from .video.given_inputs import GivenInputs
from .video.noise import list_noise_sources
from .video.pipeline import RunContext
from .video.techniques import Technique
from .video.techniques.context import latent_size
from .video.techniques.registry import build_techniques

__all__ = ["LatentManOutput", "LatentManPipeline", "LatentManXLPipeline"]
logger = get_logger(__name__)
#: beside a saved pipeline: what ``custom_pipeline`` of diffusers reads
CUSTOM_FILE, CUSTOM_CODE = "pipeline.py", "from latentman.backend.latentman_pipeline import {0}\n\n__all__ = ['{0}']\n"


class _LatentManMixin:
    """What both pipelines add to diffusers' own."""

    unet: Any
    vae: Any
    text_encoder: Any
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
        ControlNet pipeline of it, or with ``custom_pipeline=`` the folder and ``trust_remote_code=True`` this one. Raises
        ``ShotError`` while LoRAs are loaded.
        """
        loaded = [name for name, part in self.components.items() if getattr(part, "peft_config", None)]  # type: ignore[attr-defined]
        if loaded:
            raise ShotError(
                "model",
                f"LoRAs are loaded in the {loaded[0]}, and the folder would hold neither them nor its weights; call fuse_lora() "
                "to keep them, then unload_lora_weights(), and save again.",
            )
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
        ``pipe.frame_indices`` says which they are. It may change ``pipe._guidance_scale``, call ``pipe.interrupt_now()``, and
        return tensors to go on with.

        Raises ``ShotError``, a ``ValueError``, for requests that cannot be run, and ``TypeError`` for arguments of another type.
        """
        check_output_type(output_type)
        num_inference_steps, guidance_scale = read_number(num_inference_steps), read_number(guidance_scale)
        eta, clip_skip, reference_strength = read_number(eta), read_number(clip_skip), read_number(reference_strength)
        numbers = {"guidance_scale": guidance_scale, "eta": eta, "reference_strength": reference_strength}
        check_numbers(numbers | {"num_inference_steps": num_inference_steps, "clip_skip": clip_skip})
        check_whole({"num_inference_steps": num_inference_steps, "clip_skip": clip_skip})
        self._check_parts(techniques, scheduler, spacing, clip_skip)
        check_callback(callback_on_step_end)
        sizes = PictureSizes(
            original_size,
            crops_coords_top_left,
            target_size,
            negative_original_size,
            negative_crops_coords_top_left,
            negative_target_size,
        )
        self._refuse(sizes, prompt, negative_prompt, prompt_2, negative_prompt_2, denoising_end, ip_adapter_image_embeds)
        lora_scale = read_lora_scale(cross_attention_kwargs)
        given_passes, manifest = read_passes(passes, manifest)
        check_size(given_passes, height, width)
        frames = len(given_passes.mask)
        texts = CallTexts(
            *(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds),
            *(pooled_prompt_embeds, negative_pooled_prompt_embeds, sizes),
        )
        texts.check(frames, int(self.unet.config.cross_attention_dim), pooled=self._is_xl)
        names = read_tensor_names(
            callback_on_step_end, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs, background_prompt
        )
        clips = read_clip_count(num_images_per_prompt)
        check_generators(generator, frames, clips)
        picture = read_character(reference, ip_adapter_image)
        request = self._make_request(
            texts.get_single_prompt(),
            given_passes,
            method,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            clip_skip=clip_skip,
            picture=picture,
            reference_strength=reference_strength,
            negative_prompt=texts.get_single_negative(),
            scheduler=scheduler,
            spacing=spacing,
            background_prompt=background_prompt,
            manifest=manifest,
        )
        adapter = self._choose_adapter(picture, reference_strength)
        networks = list(getattr(self.controlnet, "nets", [self.controlnet]))
        pictures = read_control_pictures(self, image, len(networks), given_passes)
        # their kinds do not matter where the pictures are given
        controls = ("depth",) * len(networks) if pictures is not None else check_controls(controls, len(networks))
        uses = make_control_uses(len(controls), controlnet_conditioning_scale, control_guidance_start, control_guidance_end)
        warnings: list[str] = []
        options = CallerOptions(
            None if scheduler or spacing else self._choose_scheduler(warnings),
            *read_schedule(read_numbers("timesteps", timesteps), read_numbers("sigmas", sigmas)),
            eta,
            guess_mode or bool(networks[0].config.get("global_pool_conditions")),
            lora_scale,
        )
        model = self._make_model(controls, uses, adapter, options)
        request = _complete_request(model, request)
        self._begin_call(request, guidance_scale, clip_skip, cross_attention_kwargs)
        shot = CallShot(
            *(model, request, given_passes, techniques, picture),
            GivenInputs(make_encoder(texts, model, request, clip_skip), pictures),
            self._make_noise(generator, latents, clips, model, request, techniques),
        )
        with self._frozen():
            made = self._make_clips(shot, clips, warnings, callback_on_step_end, names, str(output_type))
        self.maybe_free_model_hooks()
        for sentence in warnings:
            logger.warning("%s", sentence)
        out = make_output(made, warnings, several=clips > 1)
        return out if return_dict else (out.frames, out.frame_indices)

    @property
    def _family(self) -> UNetFamily:
        found = family_of_pipeline(self)
        assert isinstance(found, UNetFamily)
        return found

    @property
    def _is_xl(self) -> bool:
        return isinstance(self._family, StableDiffusionXL)

    def _refuse(
        self,
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
        if not self._is_xl and sizes != PictureSizes():
            raise ShotError("size", "Only SDXL knows original_size, target_size and crops; leave them out.")

    def _make_request(
        self,
        prompt: str,
        passes: FramePasses,
        method: Method | str,
        *,
        num_inference_steps: int | None,
        guidance_scale: float | None,
        clip_skip: int | None,
        picture: np.ndarray | None,
        reference_strength: float | None,
        **settings: Any,
    ) -> ShotRequest:
        """The request that a call comes to; ``settings`` are as a request has them. Raises ``ShotError``."""
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
            # a request counts layers from the end, diffusers what is left out behind the model's own
            clip_skip=0 if clip_skip is None else clip_skip + self._family.own_layer,
            reference="" if picture is None else name_picture(encode_png(picture)),
            reference_strength=MODELS_STRENGTH if reference_strength is None else reference_strength,
            **settings,
        )
        check_request(request)
        return request

    def _choose_adapter(self, picture: np.ndarray | None, reference_strength: float | None) -> IPAdapter | None:
        """The pipeline's IP-Adapter, as strong as the call says. Raises ``ShotError`` for a picture without one."""
        adapter = read_pipeline_adapter(self)
        if picture is not None and adapter is None:
            raise ShotError(
                "reference",
                "The pipeline cannot look at a reference picture; call load_ip_adapter first, or leave the picture out.",
            )
        if adapter is not None and reference_strength is not None:
            # a strength of the call's own holds for all layers
            return replace(adapter, layers={name: (*one[:2], 1.0) for name, one in adapter.layers.items()})
        return adapter

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

    def _make_model(
        self, controls: tuple[str, ...], uses: tuple[ControlUse, ...], adapter: IPAdapter | None, options: CallerOptions
    ) -> ImageModel:
        """The pipeline as what ``ShotPipeline`` runs."""
        model = ImageModel(
            *(type(self).__name__, self, self._execution_device, self.unet.dtype, controls),
            uses=uses,
            adapter=adapter,
            options=options,
        )
        return model

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Within the block no weight asks for its gradient, and latents have theirs also where the caller is in
        ``torch.inference_mode``; afterwards all is as it was, for calls in the middle of a training."""
        parts = [self.unet, self.vae, *getattr(self.controlnet, "nets", [self.controlnet])]
        trained = [weight for part in parts for weight in part.parameters() if weight.requires_grad]
        for weight in trained:
            weight.requires_grad_(False)
        try:
            with torch.inference_mode(False):
                yield
        finally:
            for weight in trained:
                # what was loaded in inference mode can be asked for no gradient any more
                if not weight.is_inference():
                    weight.requires_grad_(True)

    def _check_parts(self, techniques: Any, scheduler: Any, spacing: Any, clip_skip: int | None) -> None:
        """Raise ``ShotError`` for a pipeline without a ControlNet or with another kind of model and for layers that there are not,
        and ``TypeError`` for arguments of another type."""
        if self.controlnet is None:
            raise ShotError("control", "The pipeline has no ControlNet; give from_pretrained one, as in controlnet=.")
        if (getattr(self.unet.config, "addition_embed_type", None) == "text_time") != self._is_xl:
            right = "LatentManPipeline" if self._is_xl else "LatentManXLPipeline"
            raise ShotError("model", f"The model is not of the kind that {type(self).__name__} runs; use {right}.")
        if not isinstance(techniques, (list, tuple)) or not all(isinstance(one, Technique) for one in techniques):
            raise TypeError("The techniques must be a list of Technique objects; name presets with method.")
        for name, value in (("scheduler", scheduler), ("spacing", spacing)):
            if not isinstance(value, str):
                raise TypeError(f"The {name} is a {type(value).__name__}; give a name, or set pipe.scheduler.")
        layers = getattr(getattr(self.text_encoder, "config", None), "num_hidden_layers", None)
        if clip_skip is not None and layers is not None and clip_skip + self._family.own_layer > layers:
            most = layers - self._family.own_layer
            raise ShotError("clip_skip", f"The model's text encoder has {layers} layers; give a clip_skip of at most {most}.")

    def _begin_call(
        self,
        request: ShotRequest,
        guidance_scale: float | None,
        clip_skip: int | None,
        cross_attention_kwargs: dict[str, Any] | None,
    ) -> None:
        """Set what diffusers' properties tell callbacks."""
        self._interrupt = False
        self._guidance_scale = request.sampling.guidance_scale if guidance_scale is None else guidance_scale
        self._clip_skip, self._cross_attention_kwargs = clip_skip, cross_attention_kwargs
        self._num_timesteps = request.sampling.steps

    def _make_noise(
        self,
        generator: Generators,
        latents: torch.Tensor | None,
        clips: int,
        model: ImageModel,
        request: ShotRequest,
        techniques: Sequence[Technique],
    ) -> CallNoise:
        """What draws every clip's noise. Raises ``ShotError`` for latents of another shape."""
        frames = len(request.frames)
        shape = (model.latent_channels, *latent_size(model, request))
        check_latents(latents, (frames * clips, *shape))
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(0, SEEDS, (1,))))
        sources = list_noise_sources([*build_techniques(request.get_method()), *techniques], range(frames))
        return CallNoise(generator, latents, sources, shape)

    def _make_clips(
        self,
        shot: CallShot,
        count: int,
        warnings: list[str],
        callback: AnyCallback | None,
        names: Sequence[str],
        output_type: str,
    ) -> list[Clip]:
        """The clips, of which the last is as far as it was made where the call is interrupted."""
        made: list[Clip] = []
        bars = Bars(self.progress_bar)
        try:
            for number in range(count):
                context = RunContext(progress=bars.show, warnings=warnings)
                watch = StepWatch(self, context, callback, names)
                run = shot.make_run(number, context)
                frames, rows = watch.collect(run, as_latents=output_type == "latent")
                if output_type == "latent":
                    made.append(Clip(torch.stack(frames), rows))
                else:
                    arrays, flags = self._check_safety(to_arrays(frames))
                    made.append(Clip(convert_arrays(arrays, output_type), rows, flags))
                if self._interrupt:
                    break
        finally:
            bars.close()
            self._frame_indices = ()
        return made

    def _check_safety(self, arrays: Any) -> tuple[Any, Any]:
        """Frames as the model's safety checker lets them pass, and what it found; None without one."""
        if getattr(self, "safety_checker", None) is None:
            return arrays, None
        return self.run_safety_checker(arrays, self._execution_device, self.unet.dtype)  # type: ignore[attr-defined]


def _complete_request(model: ImageModel, request: ShotRequest) -> ShotRequest:
    """The request with what is the model's own, and the steps of a schedule of the caller's own."""
    request = model.complete_request(request, (request.width, request.height))
    if not model.options.has_schedule:
        return request
    steps = len(model.make_scheduler(1, request.sampling.scheduler, request.sampling.spacing).timesteps)
    return with_settings(request, {"steps": min(steps, MAX_STEPS)})


class LatentManPipeline(_LatentManMixin, StableDiffusionControlNetPipeline):
    """LatentMan on Stable Diffusion 1.x and 2.x with ControlNets."""

    _plain_class = StableDiffusionControlNetPipeline


class LatentManXLPipeline(_LatentManMixin, StableDiffusionXLControlNetPipeline):
    """LatentMan on SDXL with ControlNets."""

    _plain_class = StableDiffusionXLControlNetPipeline
