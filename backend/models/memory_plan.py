"""How a model is put into the memory that there is: decided before anything is loaded, and told in a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from ...shared.machine import write_size
from ...shared.shot import ShotError
from .hub_cache import DENOISERS
from .memory_figures import MemoryNeed

#: frames that go through the networks together where memory does not matter
MOST_FRAMES = 8
#: of what is free this fraction is planned with: allocators lose some, and the system needs some
USABLE = 0.9
#: what the driver and the libraries take on a GPU, in bytes
GPU_BASE = 600 * 2**20
#: of a frame's pass, what it takes with tiles or slices
_TILED = 0.3
#: tensors that are alive beside those counted, such as convolutions' workspaces
_SLACK = 1.25


@dataclass(frozen=True)
class MemoryPlan:
    """``offload`` is none, model (the part at work is on the device) or sequential (the layer at work is, which is slow);
    ``tiling`` decodes in tiles; ``frames`` go through the networks together. ``sentence`` says it, empty where all fits easily."""

    offload: str = "none"
    tiling: bool = False
    frames: int = MOST_FRAMES
    sentence: str = ""


#: where nothing has to be done
ROOMY = MemoryPlan()


def plan_memory(need: MemoryNeed, free: int, *, gpu: bool, offload: str = "auto", name: str = "") -> MemoryPlan:
    """The plan for a device with ``free`` bytes. ``offload`` is the user's choice: auto, on or off. Raises ``ShotError`` where a
    single frame does not fit in any way that is allowed."""
    room = int(free * USABLE) - (GPU_BASE if gpu else 0)
    frame = int(need.denoising * (2 if need.is_guided else 1) * _SLACK)
    decode, tiled = int(need.decoding * _SLACK), int(need.decoding * _SLACK * _TILED)
    nets = sum(size for part, size in need.weights.items() if part in DENOISERS or part.startswith("controlnet"))
    encoders = max((size for part, size in need.weights.items() if part.startswith("text_encoder")), default=0)
    ways = {
        # what must be on the device at a time: while texts are read, while denoising, and while decoding
        "none": (need.resident, need.resident, need.resident),
        "model": (encoders, nets, need.weights.get("vae", 0)),
        "sequential": (0, max(need.weights.values(), default=0) // 8, need.weights.get("vae", 0) // 8),
    }
    allowed = ["none"] if not gpu or offload == "off" else ["model", "sequential"] if offload == "on" else list(ways)
    for way in allowed:
        reading, denoising, decoding = ways[way]
        if reading > room or denoising + frame > room or decoding + tiled > room:
            continue
        # how many are denoised together is not to be chosen for a model of clips, but how many are decoded and encoded
        held, each = (decoding, decode) if need.together > 1 else (denoising, frame)
        fitting = max(1, min(MOST_FRAMES, (room - held) // max(each, 1)))
        # powers of two, so that the same machine with a little more or less free makes the same batches
        frames = 1 << (fitting.bit_length() - 1)
        tiling = decoding + decode > room
        return MemoryPlan(way, tiling, frames, _describe(need, free, way, tiling, frames, gpu=gpu))
    if need.together > 1:
        raise ShotError(
            "memory",
            f"The model {name or 'itself'} takes {write_size(need.resident)}, and the {need.together} frames that it denoises "
            f"together {write_size(frame)} more, and there are {write_size(free)} free; use a smaller size, half precision, or a "
            "model that makes frames one by one.",
        )
    raise ShotError(
        "memory",
        f"The model {name or 'itself'} takes {write_size(need.resident)}, and a frame {write_size(frame)} more, and there are "
        f"{write_size(free)} free; use a smaller size or model, half precision, "
        + ("or switch offloading on." if gpu and offload == "off" else "or close what else needs memory."),
    )


def _describe(need: MemoryNeed, free: int, way: str, tiling: bool, frames: int, *, gpu: bool) -> str:
    if way == "none" and not tiling and frames == MOST_FRAMES:
        return ""
    done = []
    if way == "model":
        done.append("only the part at work is on the GPU")
    if way == "sequential":
        done.append("only the layer at work is on the GPU, which is slow")
    if tiling:
        done.append("frames are decoded in tiles")
    if frames < MOST_FRAMES and need.together > 1:
        single = "1 frame at a time goes through the auto-encoder"
        done.append(single if frames == 1 else f"{frames} frames at a time go through the auto-encoder")
    elif frames < MOST_FRAMES:
        single = "1 frame at a time goes through the networks"
        done.append(single if frames == 1 else f"{frames} frames at a time go through the networks")
    where = "on the GPU" if gpu else "in memory"
    return f"The model takes {write_size(need.resident)} and there are {write_size(free)} free {where}: {', '.join(done)}."
