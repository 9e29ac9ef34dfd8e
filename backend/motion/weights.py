"""Tensors from the files that others publish: ``.safetensors``, and torch's zip files, whose pickle is walked and not run.

torch's own reader, even the restricted one, makes what the pickle asks for before it looks how much of that there is.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import torch

from ...shared.files import read_file
from ...shared.npy import DAMAGED_ARCHIVE
from ...shared.pickled import Budget, Name, PickleError, StandIn, read_pickle, set_entry, shorten

#: bytes of a header of safetensors; a network of thousands of layers has 1 MB
MAX_HEADER = 8 << 20
#: storages of a torch file
MAX_ENTRIES = 100_000
_LISTED = b"PK\x01\x02"
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


class _Nothing(StandIn):
    """Stand-in for what is not read."""


class _TorchFile:
    """The names and storages of one file."""

    def __init__(self, archive: zipfile.ZipFile, folder: str, budget: Budget) -> None:
        self._archive, self._folder, self._budget = archive, folder, budget
        self._storages: dict[str, tuple[bytes, torch.dtype]] = {}

    def find_name(self, module: str, name: str) -> Name:
        """``PickleError`` for what a state dictionary does not need."""
        title = f"{module}.{name}"
        if title == "torch._utils._rebuild_tensor_v2":
            return Name(title, self._make_tensor)
        if title == "torch._utils._rebuild_parameter":
            return Name(title, lambda arguments: arguments[0])
        if title == "collections.OrderedDict":
            return Name(title, _make_ordered)
        if module == "torch" and name in _STORAGES:
            return Name(title, lambda _: _Nothing())
        raise PickleError(f"it contains '{shorten(title)}', which a state dictionary does not need")

    def find_storage(self, key: Any) -> Any:
        """The bytes of a storage and their type."""
        kind, of, name, _, count = key
        if kind != "storage" or not isinstance(of, Name) or not isinstance(name, str):
            raise ValueError("no storage")
        dtype = _STORAGES[of.title.removeprefix("torch.")]
        if name not in self._storages:
            content = self._archive.read(f"{self._folder}/data/{name}")
            if len(content) < int(count) * dtype.itemsize:
                raise ValueError("a storage is cut off")
            self._storages[name] = content, dtype
        return self._storages[name]

    def _make_tensor(self, arguments: tuple[Any, ...]) -> torch.Tensor:
        (content, dtype), offset, shape, stride = arguments[:4]
        shape, stride = tuple(int(side) for side in shape), tuple(int(step) for step in stride)
        count = math.prod(shape)
        if len(shape) != len(stride) or any(number < 0 for number in (*shape, *stride, int(offset))):
            raise ValueError("no tensor")
        self._budget.spend(count * dtype.itemsize)
        # how much of the storage it spans; less than it has elements means that they overlap
        span = 1 + sum((side - 1) * step for side, step in zip(shape, stride, strict=True)) if count else 0
        if span < count:
            raise ValueError("the elements of a tensor overlap")
        flat = _make_tensor(content, dtype, int(offset) * dtype.itemsize, (span,))
        return flat.as_strided(shape, stride).contiguous() if count else flat.reshape(shape)


def _make_ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in arguments[0] if arguments else ():
        set_entry(found, key, value)
    return found


def read_torch_file(data: bytes) -> Any:
    """The value of a file that ``torch.save`` wrote, in the zip format that it has had since version 1.6. Raises
    ``ValueError``."""
    if not data.startswith(b"PK"):
        raise ValueError("it is not a zip file of torch 1.6 or later")
    if data.count(_LISTED) > 2 * MAX_ENTRIES:
        raise ValueError("it has too many entries")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            # torch compresses nothing, so that no entry is larger than the file
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("it is compressed, which torch does not do")
            if sum(entry.file_size for entry in entries) > len(data):
                raise ValueError("its entries claim more bytes than it has")
            names = [entry.filename for entry in entries]
            (pickled,) = (name for name in names if name.count("/") == 1 and name.endswith("/data.pkl"))
            folder = pickled.partition("/")[0]
            if f"{folder}/byteorder" in names and archive.read(f"{folder}/byteorder") != b"little":
                raise ValueError("its numbers are in an unusual order")
            budget = Budget(len(data))
            file = _TorchFile(archive, folder, budget)
            return read_pickle(archive.read(pickled), file.find_name, budget, find_storage=file.find_storage)
    except (*DAMAGED_ARCHIVE, TypeError) as error:
        raise ValueError("it is damaged") from error
