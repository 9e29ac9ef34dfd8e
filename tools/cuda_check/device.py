"""What a run was made on."""

from __future__ import annotations

import platform
from typing import Any

import diffusers
import torch
import transformers

from latentman.backend.models.devices import choose_device


def describe_device(name: str) -> dict[str, Any]:
    """The device's name and memory, and the versions of what uses it."""
    device = choose_device(name)
    found: dict[str, Any] = {
        "device_kind": device.type,
        "device_name": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "system": platform.platform(),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
    }
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        found |= {
            "device_name": about.name,
            "memory_gb": about.total_memory / 2**30,
            "capability": f"{about.major}.{about.minor}",
            "multiprocessors": about.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found
