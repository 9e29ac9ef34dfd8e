"""Whether a device's memory holds a model, by the figures of the catalogue: nothing is loaded or made."""

from __future__ import annotations

from dataclasses import dataclass

from ....shared.load_options import LoadOptions
from ....shared.machine import measure_memory, write_size
from ....shared.shot import ShotError
from ..family_layouts import BY_NAME
from ..memory_plan import MOST_FRAMES, plan_memory
from .catalogue import find_need


@dataclass(frozen=True)
class DeviceMemory:
    """All the memory of a device in bytes, and the numbers that it computes with, float16 or float32."""

    size: int
    gpu: bool
    precision: str


def measure_device(options: LoadOptions | None = None) -> DeviceMemory | None:
    """The device that models would run on; None where nobody can tell, such as without torch. Imports torch."""
    try:
        import torch

        from ..devices import choose_device, choose_dtype
    except ModuleNotFoundError:
        return None
    options = options or LoadOptions()
    try:
        device = choose_device(options.device)
    except ShotError:
        return None
    precision = "float32" if choose_dtype(options, device) == torch.float32 else "float16"
    if device.type == "cuda":
        return DeviceMemory(torch.cuda.get_device_properties(device).total_memory, True, precision)
    if device.type == "xpu":
        return DeviceMemory(torch.xpu.get_device_properties(device).total_memory, True, precision)
    memory = measure_memory()
    return None if memory is None else DeviceMemory(memory[1], device.type != "cpu", precision)


def judge_fit(family: str, device: DeviceMemory | None) -> tuple[str, str]:
    """(one of ``FITS``, the sentence for it) for a base of a family and frames of its own size, with one ControlNet unless it sees
    the pictures by itself."""
    need = find_need(family, device.precision) if device is not None else None
    if device is None or need is None:
        return "", ""
    where = "GPU" if device.gpu else "machine"
    size, layout = write_size(need.resident), BY_NAME.get(family)
    takes = f"It takes {size}, and this {where} has {write_size(device.size)}"
    if layout is None or layout.control:
        takes = f"It takes {size} with a ControlNet, and this {where} has {write_size(device.size)}"
    try:
        plan = plan_memory(need, device.size, gpu=device.gpu)
    except ShotError:
        return "no", f"{takes}: too little for even one frame of its own size."
    if plan.offload == "none" and not plan.tiling and plan.frames == MOST_FRAMES:
        return "yes", f"{takes}."
    how = {"model": ", so the part at work is moved there", "sequential": ", so the layer at work is moved there, which is slow"}
    less = how.get(plan.offload) or ", so few frames go through at a time"
    return "tight", f"{takes}{less}."
