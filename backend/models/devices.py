"""The device that models run on, and the numbers that they compute with there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ...shared.load_options import LoadOptions
from ...shared.shot import ShotError
from .device_names import KINDS, read_device_name

if TYPE_CHECKING:
    from .adapter import Family

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
#: CUDA's compute capability from which half precision is quicker than single
_HALF_CAPABILITY = (5, 3)


def _count(kind: str) -> int:
    """How many devices of a kind PyTorch sees."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "xpu":
        return torch.xpu.device_count() if hasattr(torch, "xpu") and torch.xpu.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return 1


def _why_absent(kind: str) -> str:
    """Why there is no device of a kind, and what to do."""
    if kind == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return f"this PyTorch ({torch.__version__}) was built without CUDA; install one with it, or choose cpu"
    if kind == "cuda":
        return "PyTorch finds no CUDA device; check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES, or choose cpu"
    if kind == "xpu":
        return "PyTorch finds no Intel GPU; install the build of PyTorch for it, or choose cpu"
    return "PyTorch finds no Apple GPU; choose cpu"


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name: ``auto``, or ``cuda``, ``xpu``, ``mps`` or ``cpu``, the first two with a number (``cuda:1``).

    ``auto`` is the first kind of these that there is. Raises ``ShotError`` for an unknown one and for one that is not there.
    """
    kind, number = read_device_name(name)
    if kind == "auto":
        return torch.device(next(kind for kind in KINDS if _count(kind)))
    name, count = name.strip().lower(), _count(kind)
    if not count:
        raise ShotError("device", f"The device '{name}' is not there: {_why_absent(kind)}.")
    if number is not None and number >= count:
        last = f"{kind}:{count - 1}" if count > 1 else kind
        raise ShotError("device", f"The device '{name}' is not there; the last one is {last}.")
    return torch.device(name if kind in ("cuda", "xpu") else kind)


def choose_dtype(options: LoadOptions, device: torch.device) -> torch.dtype:
    """What models compute with. Raises ``ShotError`` for a precision that the device does not have."""
    if options.dtype == "auto":
        quick = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _HALF_CAPABILITY
        return torch.float16 if quick or device.type == "xpu" else torch.float32
    if options.dtype == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ShotError("device", "This GPU does not compute with bfloat16; use float16 or float32.")
    return PRECISIONS[options.dtype]


def name_numbers(options: LoadOptions, device: torch.device) -> str:
    """What tells pictures apart that are made with other numbers than the device's usual ones: the precision, and how weights are
    held; empty for the usual. Raises ``ShotError`` as ``choose_dtype``."""
    dtype, usual = choose_dtype(options, device), choose_dtype(LoadOptions(), device)
    weights = options.weights if options.weights != LoadOptions().weights else ""
    return " ".join(filter(None, ("" if dtype == usual else str(dtype).removeprefix("torch."), weights)))


def choose_family_dtype(family: Family, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """What a model of a family computes with where others would in ``dtype``: some do not keep to what float16 can hold."""
    if family.fits_float16 or dtype != torch.float16:
        return dtype
    is_there = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if is_there else torch.float32


def measure_free(device: torch.device) -> int | None:
    """Free bytes of a device's memory; None where nobody says."""
    from ...shared.machine import measure_memory

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "xpu":
        return int(torch.xpu.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.current_allocated_memory())
    found = measure_memory()
    return found[0] if found else None
