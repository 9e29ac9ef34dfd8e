"""What ``torch.save`` wrote: zip files since version 1.6, the older form before, walked and not run.

torch's own reader, even the restricted one, makes what the pickle asks for before it looks how much of that there is. What a tensor
becomes is the caller's business, so that the side without torch reads the same files.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .npy import DAMAGED_ARCHIVE
from .pickled import Budget, Name, PickleError, StandIn, read_first_pickle, read_pickle, set_entry

#: entries of a zip file
MAX_ENTRIES = 100_000
#: how files of the older form begin: the number that torch signs them with, pickled
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: storage class -> bytes of an element
ITEM_SIZES: dict[str, int] = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
#: bytes of a zip file's directory, when the file is not read as a whole
MAX_DIRECTORY = 8 << 20
_LISTED = b"PK\x01\x02"


@dataclass(frozen=True)
class RawTensor:
    """A tensor in its file: ``content`` the bytes of its storage, ``kind`` the storage's class, ``offset``, ``shape`` and
    ``stride`` in elements. It lies within its storage; its elements may overlap, and their bytes are paid for."""

    content: bytes | memoryview
    kind: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """How many elements of the storage it reaches over; 0 when it is empty."""
        return 1 + sum((side - 1) * step for side, step in zip(self.shape, self.stride, strict=True)) if self.count else 0


class _Nothing(StandIn):
    """Stand-in for what is not read."""


@dataclass
class _Storage(StandIn):
    """The bytes of a storage."""

    content: bytes | memoryview
    kind: str


class TorchNames:
    """What torch's names in a pickle stand for."""

    def __init__(self, make_tensor: Callable[[RawTensor], Any], budget: Budget) -> None:
        """``make_tensor`` gives what a tensor becomes."""
        self._make, self._budget, self._depth = make_tensor, budget, 0

    def find(self, module: str, name: str) -> Name | None:
        """None for names that are not those of tensors."""
        title = f"{module}.{name}"
        if title in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return Name(title, self._make_tensor)
        if title == "torch._utils._rebuild_parameter":
            return Name(title, lambda arguments: arguments[0])
        if title == "torch.storage._load_from_bytes":
            return Name(title, self._load_storage)
        if module == "torch" and name in ITEM_SIZES:
            return Name(title, lambda _: _Nothing())
        if title in ("torch.device", "torch.Size"):
            return Name(title, lambda arguments: arguments[0] if arguments and isinstance(arguments[0], tuple) else _Nothing())
        if title == "collections.OrderedDict":
            return Name(title, _make_ordered)
        return None

    def _make_tensor(self, arguments: tuple[Any, ...]) -> Any:
        storage, offset, shape, stride = arguments[:4]
        if not isinstance(storage, _Storage):
            raise ValueError("no storage")
        tensor = RawTensor(
            storage.content, storage.kind, int(offset), tuple(int(side) for side in shape), tuple(int(step) for step in stride)
        )
        if len(tensor.shape) != len(tensor.stride) or len(tensor.shape) > 16:
            raise ValueError("no tensor")
        if any(number < 0 for number in (*tensor.shape, *tensor.stride, tensor.offset)):
            raise ValueError("no tensor")
        size = ITEM_SIZES[tensor.kind]
        self._budget.spend(tensor.count * size)
        if (tensor.offset + tensor.span) * size > len(tensor.content):
            raise ValueError("a tensor is larger than its bytes")
        return self._make(tensor)

    def _load_storage(self, arguments: tuple[Any, ...]) -> Any:
        """A storage that was saved as a file of its own inside the pickle, as tensors pickled without ``torch.save`` are."""
        (data,) = arguments
        if isinstance(data, str):
            self._budget.spend(len(data))
            data = data.encode("latin1")
        if self._depth or not isinstance(data, bytes):
            raise ValueError("no storage")
        self._depth += 1
        try:
            return read_legacy_file(data, self._find_inside, self._budget)
        finally:
            self._depth -= 1

    def _find_inside(self, module: str, name: str) -> Name:
        found = self.find(module, name)
        if found is None:
            raise PickleError("a tensor in the file contains something that is none")
        return found


def _make_ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in arguments[0] if arguments else ():
        set_entry(found, key, value)
    return found


def _get_storage_kind(key: Any) -> tuple[str, str, int]:
    """(class, name, elements) of a storage that a pickle refers to."""
    kind, of, name, _, count, *view = key
    if kind != "storage" or not isinstance(of, Name) or not isinstance(name, str) or any(part is not None for part in view):
        raise ValueError("no storage")
    title = of.title.removeprefix("torch.")
    if title not in ITEM_SIZES:
        raise PickleError("the file contains tensors of a type that data do not need")
    return title, name, int(count)


def is_torch_zip(data: bytes) -> bool:
    """Whether a zip file is one of ``torch.save``: all its entries lie in one folder, with a pickle."""
    return data.startswith(b"PK") and (b"/data.pkl" in data[:4096] or b"/data.pkl" in data[-(1 << 20) :])


def read_torch_zip(data: bytes, find_name: Callable[[str, str], Name], budget: Budget) -> Any:
    """The value of a zip file that ``torch.save`` wrote. ``find_name`` finds the names in it, torch's by ``TorchNames``.

    Raises ``PickleError`` for what is not needed, ``ValueError`` for damaged files.
    """
    if data.count(_LISTED) > 2 * MAX_ENTRIES:
        raise ValueError("it has too many entries")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read_archive(archive, len(data), find_name, budget, lambda entry: archive.read(entry))
    except (*DAMAGED_ARCHIVE, TypeError) as error:
        raise ValueError("it is damaged") from error


def read_mapped_torch_zip(view: memoryview, find_name: Callable[[str, str], Name], budget: Budget) -> Any:
    """As ``read_torch_zip``, of a file of any size whose tensors are left where they are: their contents are parts of ``view``,
    and no sums are checked."""

    def get_content(entry: zipfile.ZipInfo) -> memoryview:
        at = entry.header_offset
        start = at + 30 + int.from_bytes(view[at + 26 : at + 28], "little") + int.from_bytes(view[at + 28 : at + 30], "little")
        if bytes(view[at : at + 4]) != b"PK\x03\x04" or start + entry.file_size > len(view):
            raise ValueError("a storage is cut off")
        return view[start : start + entry.file_size]

    try:
        with zipfile.ZipFile(_Viewed(view)) as archive:
            return _read_archive(archive, len(view), find_name, budget, get_content)
    except (*DAMAGED_ARCHIVE, TypeError) as error:
        raise ValueError("it is damaged") from error


class _Viewed(io.RawIOBase):
    """A view as a file to read from, in pieces of ``MAX_DIRECTORY`` bytes at most."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        if at < 0:
            raise OSError("before the file's beginning")
        self._at = at
        return at

    def read(self, size: int = -1) -> bytes:
        end = len(self._view) if size < 0 else min(self._at + size, len(self._view))
        if end - self._at > MAX_DIRECTORY:
            raise ValueError("its directory or its pickle is too large")
        found = bytes(self._view[self._at : end])
        self._at += len(found)
        return found


def _read_archive(
    archive: zipfile.ZipFile,
    size: int,
    find_name: Callable[[str, str], Name],
    budget: Budget,
    get_content: Callable[[zipfile.ZipInfo], bytes | memoryview],
) -> Any:
    entries = archive.infolist()
    # torch compresses nothing, so that no entry is larger than the file
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("it is compressed, which torch does not do")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its entries claim more bytes than it has")
    named = {entry.filename: entry for entry in entries}
    (pickled,) = (name for name in named if name.count("/") == 1 and name.endswith("/data.pkl"))
    folder = pickled.partition("/")[0]
    if f"{folder}/byteorder" in named and archive.read(f"{folder}/byteorder") != b"little":
        raise ValueError("its numbers are in an unusual order")
    storages: dict[str, _Storage] = {}

    def find_storage(key: Any) -> Any:
        kind, name, count = _get_storage_kind(key)
        if name not in storages:
            content = get_content(named[f"{folder}/data/{name}"])
            if len(content) < count * ITEM_SIZES[kind]:
                raise ValueError("a storage is cut off")
            storages[name] = _Storage(content, kind)
        return storages[name]

    return read_pickle(archive.read(pickled), find_name, budget, find_storage=find_storage)


def read_legacy_file(data: bytes, find_name: Callable[[str, str], Name], budget: Budget) -> Any:
    """The value of a file that ``torch.save`` wrote before version 1.6: pickles one after the other, then the storages.

    Raises as ``read_torch_zip`` does.
    """
    if not data.startswith(LEGACY_MAGIC):
        raise ValueError("it is not a file of torch")
    storages: dict[str, _Storage] = {}

    def find_storage(key: Any) -> Any:
        # the class of a module comes with its source, which is of no use
        if isinstance(key, tuple) and len(key) == 4 and key[0] == "module" and isinstance(key[1], Name):
            return key[1]
        kind, name, _ = _get_storage_kind(key)
        return storages.setdefault(name, _Storage(b"", kind))

    def find_nothing(module: str, name: str) -> Name:
        return Name(f"{module}.{name}", lambda _: _Nothing())

    at = len(LEGACY_MAGIC)
    protocol, at = read_first_pickle(data, find_nothing, budget, at)
    system, at = read_first_pickle(data, find_nothing, budget, at)
    if protocol != 1001 or not isinstance(system, dict) or system.get("little_endian") is False:
        raise ValueError("it is of an unknown version of torch, or its numbers are in an unusual order")
    start = at
    # the first walk finds where the storages begin, the second makes the tensors
    _, at = read_first_pickle(data, find_nothing, budget, start, find_storage)
    names, at = read_first_pickle(data, find_nothing, budget, at)
    if not isinstance(names, list) or set(map(str, names)) != set(storages) or len(names) != len(storages):
        raise ValueError("its storages are not those that it needs")
    view = memoryview(data)
    for name in names:
        count = int.from_bytes(data[at : at + 8], "little")
        at += 8
        size = count * ITEM_SIZES[storages[str(name)].kind]
        if size > len(data) - at:
            raise ValueError("a storage is cut off")
        storages[str(name)].content = view[at : at + size]
        at += size
    return read_pickle(data, find_name, budget, start, find_storage)
