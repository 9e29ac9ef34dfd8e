"""Every family of models on a device against the processor: tiny random ones of the real classes, as the tests have them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from latentman.backend.models.loading import load
from latentman.shared.load_options import LoadOptions

from .. import tiny_models, tiny_transformers
from .child import Task
from .frames import Maker, find_largest_difference, without_tf32
from .shots import draw_shot

#: levels by which frames in float32 may differ from the processor's
MOST_LEVELS = 1
#: what is made with each
PRESETS = ("per_frame", "surface")
#: a clip of these is one whole row of latents and a part of another
FRAMES, SIDE, STEPS = 6, 64, 2


def _write_animate_diff(root: Path) -> str:
    tiny_models.write_sd(root)
    tiny_models.write_motion_module(root / "motion")
    return f"{root / 'whole'}|motion={root / 'motion'}"


def _write_sdxl(root: Path) -> str:
    tiny_models.write_sdxl(root)
    return str(root)


def _controlled(write: Callable[[Path], None]) -> Callable[[Path], str]:
    def write_both(root: Path) -> str:
        write(root)
        return f"{root / 'base'}|{root / 'control'}"

    return write_both


def _alone(write: Callable[[Path], None]) -> Callable[[Path], str]:
    def write_base(root: Path) -> str:
        write(root)
        return str(root / "base")

    return write_base


def _taught(write: Callable[[Path], None]) -> Callable[[Path], str]:
    def write_both(root: Path) -> str:
        write(root)
        return f"{root / 'base'}|depth={root / 'depth.safetensors'}"

    return write_both


#: what it is called -> what writes it into a folder and gives its name for ``load``
FAMILIES: dict[str, Callable[[Path], str]] = {
    "SDXL": _write_sdxl,
    "Z-Image": _controlled(tiny_transformers.write_z_image),
    "Qwen-Image": _controlled(tiny_transformers.write_qwen_image),
    "FLUX.1": _controlled(tiny_transformers.write_flux),
    "Stable Diffusion 3": _controlled(tiny_transformers.write_sd3),
    "AnimateDiff": _write_animate_diff,
    "Wan VACE": _alone(tiny_transformers.write_wan_vace),
    "LTX-2": _taught(tiny_transformers.write_ltx2),
}


def check_families(task: Task, maker: Maker) -> None:
    """Frames of each family in float32 that keeps all of its bits."""
    own = Maker(draw_shot(FRAMES, SIDE), STEPS, {})
    for title, write in FAMILIES.items():
        if task.clock.left <= 0:
            task.recorder.check(title, None, "frames", "no time was left")
            continue
        try:
            with tempfile.TemporaryDirectory() as folder, without_tf32():
                name = write(Path(folder))
                models = [load(name, None, LoadOptions(device=device, dtype="float32")) for device in ("cpu", task.device)]
                levels = max(
                    find_largest_difference(*(own.make(model, preset=preset, guidance_scale=3.0) for model in models))
                    for preset in PRESETS
                )
        except Exception as error:  # one that fails says so, and the others are still tried
            task.recorder.check(title, False, "frames", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            continue
        task.recorder.check(
            title, levels <= MOST_LEVELS, f"within {MOST_LEVELS} level of the processor's", largest_difference=levels
        )
