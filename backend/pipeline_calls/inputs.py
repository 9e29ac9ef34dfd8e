"""What else a call gives: passes, the ControlNets' pictures, the reference picture, numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...shared import passes_folder
from ...shared.control_uses import ControlUse
from ...shared.manifest import PassesManifest
from ...shared.passes import PASS_LAYOUT, FramePasses
from ...shared.shot import ShotError
from ..models.registry import CONTROLS
from ..reference_pictures import read_reference


def read_passes(
    passes: FramePasses | str | os.PathLike[str] | None, manifest: PassesManifest | None
) -> tuple[FramePasses, PassesManifest | None]:
    """Passes, read if they are a folder's path, with what describes them. Raises ``ShotError`` for a folder without, and
    ``TypeError`` for anything else."""
    if manifest is not None and not isinstance(manifest, PassesManifest):
        raise TypeError(f"The manifest is a {type(manifest).__name__}; give the one that passes_folder.load reads.")
    if isinstance(passes, FramePasses):
        for name in PASS_LAYOUT:
            if not isinstance(getattr(passes, name), np.ndarray):
                raise TypeError(f"The pass '{name}' is a {type(getattr(passes, name)).__name__}; give an array.")
        return passes, manifest
    if isinstance(passes, (str, os.PathLike)):
        found, own = passes_folder.load(Path(passes))
        return found, manifest or own
    raise TypeError(
        f"The passes are a {type(passes).__name__}; give the folder of passes that Blender saved, or what passes_folder.load reads."
    )


def check_numbers(given: Mapping[str, Any]) -> None:
    """``TypeError`` for arguments that are neither None nor numbers, ``ShotError`` for those that no argument can be."""
    for name, value in given.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"The {name} is a {type(value).__name__}; give a number.")
        if not math.isfinite(value) or (name == "eta" and not 0 <= value <= 1) or (name == "clip_skip" and value < 0):
            span = {"eta": " from 0 to 1", "clip_skip": " of at least 0"}.get(name, "")
            raise ShotError(name, f"The {name} cannot be {value}; give a number{span}.")


def read_number(value: Any) -> Any:
    """A number of numpy's as Python's own, which settings are made of; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def check_whole(given: Mapping[str, Any]) -> None:
    """``TypeError`` for arguments that are neither None nor whole numbers."""
    for name, value in given.items():
        if value is not None and not isinstance(value, int):
            raise TypeError(f"The {name} is {value!r}; give a whole number.")


def read_numbers(name: str, given: Any) -> list[Any] | None:
    """A schedule that is given as a list, a tuple, an array or a tensor. Raises ``TypeError`` for anything else, and for one that
    holds no numbers."""
    if given is None:
        return None
    if isinstance(given, (np.ndarray, torch.Tensor)):
        given = given.tolist()
    found = [read_number(one) for one in given] if isinstance(given, (list, tuple)) else None
    if found is None or not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in found):
        raise TypeError(f"The {name} are a {type(given).__name__}; give a list of numbers.")
    if not all(map(math.isfinite, found)):
        raise ShotError(name, f"The {name} hold what is no number; give others.")
    return found


def read_lora_scale(given: dict[str, Any] | None) -> float | None:
    """The strength of LoRAs in ``cross_attention_kwargs``. Raises ``ShotError`` for anything else in them, and ``TypeError`` for
    what is no dictionary."""
    if given is not None and not isinstance(given, dict):
        raise TypeError(f"The cross_attention_kwargs are a {type(given).__name__}; give a dictionary with a scale.")
    others = [name for name in given or {} if name != "scale"]
    if others:
        raise ShotError(
            "cross_attention_kwargs", f"The attention takes no '{others[0]}'; give cross_attention_kwargs with nothing but scale."
        )
    check_numbers(given or {})
    scale = (given or {}).get("scale")
    return None if scale is None else float(scale)


def read_clip_count(given: int | None) -> int:
    """How many clips ``num_images_per_prompt`` asks for. Raises ``ShotError`` for none."""
    clips = 1 if given is None else read_number(given)
    if not isinstance(clips, int) or isinstance(clips, bool) or clips < 1:
        raise ShotError("num_images_per_prompt", f"{clips!r} clips cannot be made; give num_images_per_prompt of 1 or more.")
    return clips


def check_controls(controls: Sequence[str] | str, count: int) -> tuple[str, ...]:
    """The kinds of a model's ControlNets. Raises ``ShotError`` for others than there are, and for another number of them."""
    if not isinstance(controls, (str, list, tuple)):
        raise TypeError(f"The controls are a {type(controls).__name__}; give a tuple with the kind of each ControlNet.")
    found = (controls,) if isinstance(controls, str) else tuple(controls)
    unknown = [kind for kind in found if kind not in CONTROLS]
    if unknown:
        raise ShotError("control", f"There is no kind of ControlNet '{unknown[0]}'; choose {', '.join(CONTROLS)}, or give image.")
    if len(found) != count:
        raise ShotError("control", f"The model has {count} ControlNets; name the kind of each in controls.")
    return found


def check_size(passes: FramePasses, height: int | None, width: int | None) -> None:
    """``ShotError`` where a call asks for another size than that of its passes."""
    tall, wide = passes.mask.shape[1:]
    if (height or tall, width or wide) != (tall, wide):
        raise ShotError(
            "size",
            f"The passes are {wide}x{tall}, and so are the frames; render passes of another size, or leave height and width out.",
        )


def make_control_uses(count: int, scale: Any, start: Any, end: Any) -> tuple[ControlUse, ...]:
    """What diffusers' own pipelines take, one number for all ControlNets or one for each. Raises ``ShotError``, and ``TypeError``
    for what are no numbers."""
    values = []
    for name, given in (("controlnet_conditioning_scale", scale), ("control_guidance_start", start), ("control_guidance_end", end)):
        each = [read_number(one) for one in (given if isinstance(given, (list, tuple)) else [given] * count)]
        if any(isinstance(one, (list, tuple)) for one in each):
            raise ShotError("control", f"The {name} is a list of lists; give one number for each ControlNet.")
        if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in each):
            raise TypeError(f"The {name} is no number; give one for all ControlNets, or a list with one for each.")
        values.append(each)
    if any(len(each) != count for each in values):
        raise ShotError("control", f"The model has {count} ControlNets; give one scale, start and end, or as many of each.")
    uses = tuple(ControlUse(*each) for each in zip(*values, strict=True))
    if any(not 0 <= use.strength < math.inf or not 0 <= use.start < use.end <= 1 for use in uses):
        raise ShotError("control", "A ControlNet works from a fraction of the steps to a larger one, with a scale of at least 0.")
    return uses


def read_control_pictures(pipeline: Any, image: Any, count: int, passes: FramePasses) -> tuple[torch.Tensor, ...] | None:
    """The pictures of each of ``count`` ControlNets, (F, 3, H, W) in [0, 1]: PIL images, arrays or tensors as diffusers takes them,
    one for all frames or one for each, in a list with those of each ControlNet where there are several. None where they are
    drawn from the passes.

    Raises ``ShotError`` for other numbers of them, and ``TypeError`` for what are no pictures.
    """
    if image is None:
        return None
    frames, height, width = passes.mask.shape
    groups = [image]
    if count > 1:
        if not isinstance(image, list):
            raise TypeError(f"The image is a {type(image).__name__}; give a list with the pictures of each of {count} ControlNets.")
        if any(isinstance(each, list) for each in image):
            if any(not isinstance(each, list) or len(each) != count for each in image):
                raise ShotError(
                    "control", f"Not every frame has {count} pictures, one for each ControlNet; give a list of as many."
                )
            groups = [list(each) for each in zip(*image, strict=True)]
        else:
            groups = image
        if len(groups) != count:
            raise ShotError("control", f"There are pictures for {len(groups)} ControlNets, and the model has {count}.")
    return tuple(_read_pictures(pipeline, group, frames, height, width) for group in groups)


def _read_pictures(pipeline: Any, given: Any, frames: int, height: int, width: int) -> torch.Tensor:
    from PIL import Image

    kinds = (Image.Image, np.ndarray, torch.Tensor)
    if not isinstance(given, kinds) and not (isinstance(given, list) and given and isinstance(given[0], kinds)):
        raise TypeError(
            f"The image is a {type(given).__name__}; give a PIL image, an array, a tensor, or a list of one kind of them."
        )
    kind = next(each for each in kinds if isinstance(given[0] if isinstance(given, list) else given, each))
    if isinstance(given, list) and not all(isinstance(one, kind) for one in given):
        raise TypeError("The image is a list of several kinds; give PIL images, arrays, or tensors.")
    found = pipeline.control_image_processor.preprocess(given, height=height, width=width).to(torch.float32)
    if len(found) not in (1, frames):
        raise ShotError("control", f"There are {len(found)} pictures for {frames} frames; give one for all, or one for each.")
    if tuple(found.shape[2:]) != (height, width):
        raise ShotError(
            "control", f"The pictures are {found.shape[3]}x{found.shape[2]} and the passes {width}x{height}; make them alike."
        )
    found = found.repeat(1, 3, 1, 1) if found.shape[1] == 1 else found
    if found.shape[1] != 3 or not torch.isfinite(found).all():
        raise ShotError("control", "The pictures for the ControlNets are no colours; give 3 of them a pixel, from 0 to 1.")
    return found.expand(frames, -1, -1, -1)


def read_character(reference: Any, ip_adapter_image: Any) -> np.ndarray | None:
    """(H, W, 3) uint8 of the character's picture, under either name; None without one. Raises ``ShotError`` for several, and for
    what is no picture."""
    found = _choose_reference(reference, ip_adapter_image)
    return None if found is None else read_reference(found)


def _choose_reference(reference: Any, ip_adapter_image: Any) -> Any:
    """The picture of the character, under either name. Raises ``ShotError`` for several."""
    if reference is not None and ip_adapter_image is not None:
        raise ShotError("reference", "There are reference and ip_adapter_image, which are the same; give only one of the two.")
    found = ip_adapter_image if reference is None else reference
    while isinstance(found, list) and found and not np.isscalar(found[0]):
        if len(found) > 1:
            raise ShotError("reference", f"There are {len(found)} pictures of the character; give one for its one IP-Adapter.")
        found = found[0]
    if isinstance(found, torch.Tensor):
        found = found.detach().float().cpu()
        found = found[0] if found.ndim == 4 and len(found) == 1 else found
        return found.movedim(0, -1).numpy() if found.ndim == 3 and found.shape[0] in (1, 3) else found.numpy()
    return found
