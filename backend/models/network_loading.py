"""Networks made from plans, with the weights of a file: each weight has its place, is missed, or is named as left over."""

from __future__ import annotations

import re
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import CLIPTextConfig

from ...shared.pickled import shorten
from ...shared.shot import ShotError
from ...shared.torch_files import RawTensor
from .networks import NetworkPlan, TensorSource
from .weight_files import WeightFile

#: what training leaves in checkpoints and no network needs
RESIDUE = re.compile(
    r"model_ema\.|loss\.|optimizer|lr_scheduler|betas$|alphas_cumprod|sqrt_|log_one_minus|posterior_|lvlb_weights$|logvar$|"
    # the first text encoder's projection, which nothing here reads
    r".*text_projection(\.weight)?$|denoiser\.|v_pred$|ztsnr$|scale_factor$|first_stage_model\.loss\.|.*(\.position_ids|logit_scale|\.attn_mask)$"
)
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "Float8_e4m3fnStorage": torch.float8_e4m3fn,
    "Float8_e5m2Storage": torch.float8_e5m2,
}


def load_network(kind: Any, plan: NetworkPlan, file: WeightFile, title: str, dtype: torch.dtype) -> tuple[Any, set[str]]:
    """A network of a diffusers or transformers class with the weights of a file, on the CPU, and the names of the file's tensors
    that it took. ``title`` is what the network is called in a sentence.

    Raises ``ShotError`` where the file lacks some of its weights or has them in other shapes.
    """
    with init_empty_weights(include_buffers=False):
        network = kind(CLIPTextConfig(**plan.config)) if "text encoder" in title else kind(**plan.config)
    wanted = dict(network.named_parameters())
    wanted |= {name: buffer for name, buffer in network.named_buffers() if name in plan.sources}
    # a text encoder with a projection beside it has its own names behind a root
    roots = ("", "text_model.")
    sources = {root + name: source for root in roots for name, source in plan.sources.items() if root + name in wanted}
    missing = [name for name in wanted if name not in sources]
    if missing:
        raise ShotError(
            "model",
            f"The file {file.path.name} lacks {len(missing)} of the {len(wanted)} weights of its {title}, such as "
            f"'{missing[0]}'; download it again.",
        )
    state = {}
    for name, parameter in wanted.items():
        source = sources[name]
        # those with a scale in more bits than the weights have: the product is rounded once
        made = make_tensor(file.tensors[source.name], source, torch.float32 if source.scale else dtype)
        if source.scale:
            scale = make_tensor(file.tensors[source.scale], TensorSource(source.scale), torch.float32)
            made = (made * scale.reshape(())).to(dtype)
        # a convolution of one pixel and a matrix hold the same numbers
        if made.shape != parameter.shape and _drop_ones(made.shape) == _drop_ones(parameter.shape):
            made = made.reshape(parameter.shape)
        if made.shape != parameter.shape:
            raise ShotError(
                "model",
                f"The file {file.path.name} has weights of another shape in its {title}: '{shorten(source.name)}' is "
                f"{tuple(made.shape)}, expected {tuple(parameter.shape)}; choose another file.",
            )
        state[name] = made
    network.load_state_dict(state, strict=False, assign=True)
    used = {source.name for source in sources.values()} | {source.scale for source in sources.values() if source.scale}
    return network.eval(), used


def _drop_ones(shape: torch.Size) -> list[int]:
    return [side for side in shape if side != 1]


def check_numbers(raw: RawTensor, name: str) -> None:
    """Raise ``ShotError`` for a tensor whose elements are no numbers for weights."""
    if raw.kind not in _DTYPES or raw.span < raw.count:
        raise ShotError("model", f"The weights '{shorten(name)}' are whole numbers or overlap; choose another file.")


def make_tensor(raw: RawTensor, source: TensorSource, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of its own from the bytes in a file. Raises ``ShotError`` for one whose elements are no numbers for weights."""
    check_numbers(raw, source.name)
    found = _DTYPES[raw.kind]
    if not raw.count:
        return torch.zeros(raw.shape, dtype=dtype)
    start = raw.offset * found.itemsize
    # a copy: the file may change, and its bytes may lie at odd addresses
    flat = torch.frombuffer(bytearray(raw.content[start : start + raw.span * found.itemsize]), dtype=found)
    tensor = flat.as_strided(raw.shape, raw.stride).to(dtype)
    if source.part is not None:
        tensor = tensor.chunk(source.parts)[source.part].clone()
    elif source.rows is not None:
        tensor = tensor[slice(*source.rows)].clone()
    if source.swapped:
        tensor = torch.cat(tensor.chunk(2)[::-1])
    return (tensor.T if source.turned else tensor).contiguous()


def name_left_over(file: WeightFile, used: set[str]) -> tuple[str, ...]:
    """A sentence about the tensors of a file that nothing took, training's residue aside; empty without any."""
    left = [name for name in file.tensors if name not in used and not RESIDUE.match(name)]
    if not left:
        return ()
    which = ", ".join(f"'{shorten(name)}'" for name in left[:2])
    return (f"{len(left)} of the weights in {file.path.name} have no place in its networks and are not used, such as {which}.",)
