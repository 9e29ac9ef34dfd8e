"""What a file of weights seems to be, by the names of its tensors. No bpy; the library in the backend looks far closer."""

from __future__ import annotations

import json
import re
from pathlib import Path

#: bytes of a header that are read; those of large models have less than one million
MAX_HEADER = 16 << 20
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("motion_module", re.compile(r"^([\w.]*\.)?down_blocks\.0\.motion_modules\.0\.((?!lora).)*$")),
    ("lora", re.compile(r"^lora_|\.lora_|\.lora\.|lora_[AB]\b|\.hada_w|\.lokr_|\.oft_|\.ia3_|\.dora_scale")),
    ("controlnet", re.compile(r"^control_model\.|input_hint_block|controlnet_cond_embedding|controlnet_(down|mid)_block")),
    # for transformers, and these alone
    ("controlnet", re.compile(r"^controlnet_(single_)?blocks\.|^control_layers\.")),
    ("checkpoint", re.compile(r"^model\.diffusion_model\.|^first_stage_model\.|^cond_stage_model\.|^conditioner\.embedders")),
    ("checkpoint", re.compile(r"^(double|joint|(single_)?transformer|vace)_blocks\.0\.|^x_pad_token$")),
    ("embedding", re.compile(r"^emb_params$|^string_to_param|^clip_[lg]$")),
    ("ip_adapter", re.compile(r"^ip_adapter\.|^image_proj\.")),
    ("vae", re.compile(r"^(encoder|decoder)\.(conv_in|layers|1)\b|^(encoder|decoder)\.(down|up)_?")),
)


def guess_kind(path: Path) -> str:
    """One of ``shared.library.KINDS``, or "" where that cannot be told: for other files than safetensors, and damaged ones."""
    return guess_kind_by_names(_read_names(path))


def guess_kind_by_names(names: list[str]) -> str:
    """The kind of a file with tensors of these names."""
    return next((kind for kind, pattern in _KINDS if any(pattern.search(name) for name in names)), "")


def _read_names(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if not 0 < size <= MAX_HEADER:
                return []
            header = json.loads(stream.read(size))
    except (OSError, ValueError, RecursionError):
        return []
    return [name for name in header if isinstance(name, str) and name != "__metadata__"] if isinstance(header, dict) else []
