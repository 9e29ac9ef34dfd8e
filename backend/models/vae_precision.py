"""The numbers that an auto-encoder computes with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def choose_vae_dtype(dtype: torch.dtype, config: Mapping[str, Any], *, sdxl: bool) -> torch.dtype:
    """What the auto-encoder of a model in ``dtype`` runs in.

    SDXL's overflows in float16, so that it runs in float32 unless its configuration itself says that it need not, as that of the
    repaired one does. Those of Stable Diffusion 1.x and 2.x never need it: there ``force_upcast`` is only the class's default.
    """
    if dtype != torch.float16 or not sdxl or "force_upcast" not in config:
        return dtype
    is_told = "force_upcast" not in config.get("_use_default_values", ())
    return dtype if is_told and not config["force_upcast"] else torch.float32
