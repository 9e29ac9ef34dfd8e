"""Tensors from the files that others publish: ``.safetensors``, and torch's zip files, whose pickle is walked and not run.

torch's own reader, even the restricted one, makes what the pickle asks for before it looks how much of that there is.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from ...shared.files import read_file
from ...shared.pickled import Budget, Name, PickleError, shorten
from ...shared.torch_files import RawTensor, TorchNames, read_torch_zip

#: bytes of a header of safetensors; a network of thousands of layers has 1 MB
MAX_HEADER = 8 << 20
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_SAFE_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_weights(path: Path) -> Any:
    """What a ``.safetensors`` or torch's zip file holds: dictionaries of tensors on the CPU, and plain values.

    Raises ``OSError``, and ``ValueError`` for damaged files and for those that ask for anything else.
    """
    data = read_file(path)
    return read_safetensors(data) if path.suffix == ".safetensors" else read_torch_file(data)


def _make_tensor(content: bytes | memoryview, dtype: torch.dtype, start: int, shape: tuple[int, ...]) -> torch.Tensor:
    """A contiguous tensor of the bytes from ``start``."""
    count = math.prod(shape)
    if any(side < 0 for side in shape) or len(shape) > 16 or start < 0 or start + count * dtype.itemsize > len(content):
        raise ValueError("a tensor is larger than its bytes")
    if not count:
        return torch.zeros(shape, dtype=dtype)
    # a copy: the bytes must not change, and may lie at odd addresses
    piece = bytearray(content[start : start + count * dtype.itemsize])
    if dtype == torch.bool:
        return (torch.frombuffer(piece, dtype=torch.uint8) != 0).reshape(shape)
    return torch.frombuffer(piece, dtype=dtype).reshape(shape)


def read_safetensors(data: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by their names. Raises ``ValueError``."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or length > min(MAX_HEADER, len(data) - 8):
        raise ValueError("its header is cut off or too long")
    try:
        header = json.loads(data[8 : 8 + length])
        content, found = memoryview(data)[8 + length :], {}
        end = 0
        # one after the other, so that a file of one tensor cannot stand for thousands
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"][0]):
            start, stop = (int(at) for at in entry["data_offsets"])
            shape, dtype = tuple(int(side) for side in entry["shape"]), _SAFE_TYPES[entry["dtype"]]
            if start != end or stop - start != math.prod(shape) * dtype.itemsize:
                raise ValueError("its tensors do not lie one after the other")
            found[name], end = _make_tensor(content, dtype, start, shape), stop
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError, RuntimeError) as error:
        raise ValueError("its header is damaged") from error
    return found


def _make_from_raw(raw: RawTensor) -> torch.Tensor:
    dtype = _STORAGES[raw.kind]
    # it spans less of the storage than it has elements where they overlap
    if raw.span < raw.count:
        raise ValueError("the elements of a tensor overlap")
    flat = _make_tensor(raw.content, dtype, raw.offset * dtype.itemsize, (raw.span,))
    return flat.as_strided(raw.shape, raw.stride).contiguous() if raw.count else flat.reshape(raw.shape)


def read_torch_file(data: bytes) -> Any:
    """The value of a file that ``torch.save`` wrote, in the zip format that it has had since version 1.6. Raises
    ``ValueError``."""
    if not data.startswith(b"PK"):
        raise ValueError("it is not a zip file of torch 1.6 or later")
    budget = Budget(len(data))
    names = TorchNames(_make_from_raw, budget)

    def find_name(module: str, name: str) -> Name:
        found = names.find(module, name)
        if found is None:
            raise PickleError(f"it contains '{shorten(f'{module}.{name}')}', which a state dictionary does not need")
        return found

    return read_torch_zip(data, find_name, budget)
