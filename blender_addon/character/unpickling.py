"""The data in the pickles that body models and motions are published in.

``shared.pickled`` walks the file; here is what its names may stand for: numpy's arrays, made from plain type codes and the
bytes there are, torch's tensors and joblib's arrays as the same, and small stand-ins for chumpy's and scipy's, since Blender has
none of them. numpy rebuilds nothing by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...shared.npy import check_values, read_header, read_npy
from ...shared.pickled import (
    FREE,
    RATIO,
    Budget,
    Name,
    PickleError,
    StandIn,
    Stream,
    StreamedStandIn,
    read_pickle,
    set_entry,
    shorten,
)
from ...shared.torch_files import LEGACY_MAGIC, RawTensor, TorchNames, read_legacy_file, read_torch_zip

#: no layout nests its values deeper
MAX_NESTING = 64
#: numbers of a sparse matrix when it is written out: joint regressors of bodies with 30,000 vertices
MAX_DENSE = 2_000_000
_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
_ENCODINGS = ("latin1", "latin-1", "utf-8", "ascii")
#: what is read of the state of a chumpy or scipy object
_STATE = ("x", "a", "idxs", "preferred_shape", "_shape", "shape", "data", "indices", "indptr")


class UnsafePickleError(PickleError):
    """The file asks for a name outside the allow-list; the message is part of a sentence for the user."""


class Discarded(StandIn):
    """Stand-in for values that are not read, such as paths and devices."""


class ArrayStub(StandIn):
    """Stand-in for ``chumpy`` arrays: keeps the state and makes the array on request."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def set_state(self, state: Any) -> None:
        """Keep what arrays are made from."""
        self.state = {name: state[name] for name in _STATE if name in state} if isinstance(state, dict) else {}

    def get_array(self) -> np.ndarray:
        """The values; ``ValueError`` if the file contains none."""
        if "x" in self.state:
            return to_array(self.state["x"])
        if "a" not in self.state or "idxs" not in self.state:
            raise ValueError("a chumpy array in the file has no values")
        values, picked = to_array(self.state["a"]).ravel(), to_array(self.state["idxs"])
        if picked.dtype.kind not in "iu" or (picked.size and not -len(values) <= picked.min() <= picked.max() < len(values)):
            raise ValueError("a chumpy array in the file picks values that are not there")
        found = values[picked]
        shape = self.state.get("preferred_shape")
        return found if shape is None else found.reshape(_check_shape(shape))


class SparseStub(ArrayStub):
    """Stand-in for scipy's compressed sparse matrices (both orientations)."""

    by_column = True

    def get_array(self) -> np.ndarray:
        """The dense matrix; ``ValueError`` if it is too large for a body, or parts of it are missing."""
        shape = self.state.get("_shape", self.state.get("shape"))
        if shape is None or not {"data", "indices", "indptr"} <= set(self.state):
            raise ValueError("a sparse matrix in the file is incomplete")
        shape = _check_shape(shape)
        data, minor, pointers = (to_array(self.state[k]) for k in ("data", "indices", "indptr"))
        if len(shape) != 2 or math.prod(shape) > MAX_DENSE:
            raise ValueError(f"a sparse matrix in the file has the size {' x '.join(map(str, shape))}, too large for a body")
        rows, columns = shape if self.by_column else shape[::-1]
        if (
            data.dtype.kind not in "fiub"
            or any(part.dtype.kind not in "iu" and part.size for part in (minor, pointers))
            or not data.ndim == minor.ndim == pointers.ndim == 1
            or len(pointers) != columns + 1
            or not len(data) == len(minor) == int(pointers[-1])
            or int(pointers[0]) != 0
            or (pointers[1:] < pointers[:-1]).any()
            or (len(minor) and not 0 <= int(minor.min()) <= int(minor.max()) < rows)
        ):
            raise ValueError("a sparse matrix in the file is damaged")
        out = np.zeros(shape, data.dtype)
        if len(data):
            major = np.repeat(np.arange(columns), np.diff(pointers.astype(np.int64)))
            out[(minor, major) if self.by_column else (major, minor)] = data
        return out


class _RowSparseStub(SparseStub):
    by_column = False


@dataclass
class _Type(StandIn):
    """Stand-in for ``numpy.dtype``: the type code and the byte order, nothing else."""

    code: str
    order: str = "="

    def set_state(self, state: Any) -> None:
        """Take the byte order; ``PickleError`` for types with fields or other types in them, or with another size."""
        plain = isinstance(state, tuple) and len(state) in (8, 9) and state[1] in ("<", ">", "|", "=")
        if not plain or any(part is not None for part in state[2:5]) or state[5] not in (-1, self._size()):
            raise PickleError("the file contains an array of records, which motion and body files do not need")
        self.order = state[1]

    def _size(self) -> int:
        return np.dtype(self.code).itemsize

    @property
    def holds_objects(self) -> bool:
        """Whether the elements are Python's values."""
        return self.code.startswith("O")

    def make_dtype(self) -> np.dtype:
        """The plain type."""
        return np.dtype(self.order + self.code if self.order in "<>" else self.code)


@dataclass
class _Array(StandIn):
    """Stand-in for an array until its state is known. ``items`` are the values of an array of objects."""

    budget: Budget
    value: np.ndarray | None = None
    items: list[Any] | None = None
    shape: tuple[int, ...] = field(default=())

    def set_state(self, state: Any) -> None:
        """Make the array of a state as numpy writes it: version, shape, type, column order, bytes or list."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ValueError("no array")
        shape, of, fortran, raw = state[-4:]
        if not isinstance(of, _Type):
            raise ValueError("no type")
        self.fill(_check_shape(shape), of, bool(fortran), raw)

    def fill(self, shape: tuple[int, ...], of: _Type, fortran: bool, raw: Any) -> None:
        """Take ``raw`` as the values, if it has as many of them as the shape says."""
        if of.holds_objects:
            if not isinstance(raw, list) or len(raw) != math.prod(shape):
                raise ValueError("the objects are not as many as the shape says")
            if fortran and len(shape) > 1:
                raise PickleError("the file contains objects in columns, which motion and body files do not need")
            self.items, self.shape = raw, shape
            return
        self.value = _make_array(shape, of.make_dtype(), fortran, raw, self.budget)


def _make_array(shape: tuple[int, ...], dtype: np.dtype, fortran: bool, raw: Any, budget: Budget) -> np.ndarray:
    if isinstance(raw, str):  # Python 2 has one type for texts and bytes
        budget.spend(len(raw))
        raw = raw.encode("latin1")
    count = math.prod(shape)
    if not isinstance(raw, (bytes, memoryview)) or len(raw) != count * dtype.itemsize:
        raise ValueError("the bytes are not as many as the shape says")
    if not dtype.itemsize:
        raise ValueError("texts without letters")
    if not count:
        return np.zeros(shape, dtype)
    array = np.frombuffer(raw, dtype)
    if dtype.kind == "b" or not dtype.isnative:
        budget.spend(len(raw))
    return check_values(array).astype(dtype.newbyteorder("="), copy=False).reshape(shape, order="F" if fortran else "C")


class _JoblibArray(StreamedStandIn):
    """Stand-in for an array that joblib wrote: its bytes follow in the file, or a pickle of its own when it holds objects."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._state = budget, {}  # type: Budget, dict[str, Any]

    def set_state(self, state: Any) -> None:
        """Keep what the array is made from."""
        if not isinstance(state, dict) or not isinstance(state.get("dtype"), _Type):
            raise ValueError("no array")
        self._state = state

    def read_values(self, stream: Stream) -> Any:
        """The array."""
        of = self._state["dtype"]
        if of.holds_objects:
            return stream.read_value()
        shape = _check_shape(self._state.get("shape"))
        if self._state.get("numpy_array_alignment_bytes") is not None:
            stream.take(stream.take(1)[0])
        dtype = of.make_dtype()
        array = _Array(self._budget)
        raw = stream.take(math.prod(shape) * dtype.itemsize)
        array.value = _make_array(shape, dtype, self._state.get("order") == "F", raw, self._budget)
        return array


def _make_from_tensor(tensor: RawTensor) -> np.ndarray:
    """The array of a tensor; a view of the file where its elements lie one after the other."""
    code = _TENSOR_TYPES[tensor.kind]
    if not tensor.count:
        return np.zeros(tensor.shape, "f4" if tensor.kind == "BFloat16Storage" else code)
    flat = np.frombuffer(tensor.content, code, tensor.span, tensor.offset * np.dtype(code).itemsize)
    if tensor.kind == "BoolStorage":
        flat = flat != 0
    if tensor.kind == "BFloat16Storage":
        # the upper half of a float of 32 bits
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    array = np.lib.stride_tricks.as_strided(
        flat, tensor.shape, tuple(step * flat.itemsize for step in tensor.stride), writeable=False
    )
    return np.ascontiguousarray(array).reshape(tensor.shape)


def _check_shape(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, np.ndarray):
        shape = shape.ravel().tolist()
    if isinstance(shape, int):
        shape = (shape,)
    if not isinstance(shape, (tuple, list)) or len(shape) > 32:
        raise ValueError("an array in the file has a shape that is none")
    sides = tuple(int(side) if isinstance(side, (int, np.integer)) else -1 for side in shape)
    if any(not 0 <= side < 1 << 40 for side in sides):
        raise ValueError("an array in the file has a shape that is none")
    return sides


def to_array(value: Any) -> np.ndarray:
    """An array of numbers, truth values or texts from an array, a stub, a number or a nested list of numbers.

    Raises ``ValueError`` for anything else.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, ArrayStub):
        return value.get_array()
    if not _holds_numbers(value, set()):
        raise ValueError("it does not consist of numbers")
    with np.errstate(all="ignore"):
        array = np.array(value)
    if array.dtype.kind not in "biufc":
        raise ValueError("it does not consist of numbers")
    return array


def _holds_numbers(value: Any, seen: set[int]) -> bool:
    if isinstance(value, (list, tuple)):
        if id(value) in seen:
            return True
        seen.add(id(value))
        return all(_holds_numbers(part, seen) for part in value)
    return isinstance(value, (bool, int, float, np.number, np.bool_)) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
    )


class _Finisher:
    """Puts arrays in the place of their stand-ins, and counts how large a value is when all that it shares is written out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[int, tuple[Any, int] | None] = {}

    def finish(self, value: Any, depth: int = 0) -> tuple[Any, int]:
        """The finished value and its bytes."""
        if isinstance(value, (str, bytes)):
            return value, 64 + len(value)
        if isinstance(value, (np.generic, np.ndarray)):
            return value, 64 + value.nbytes
        if not isinstance(value, (dict, list, tuple, _Array, ArrayStub)):
            # classes, types and torch's tensors are nothing that is read
            return (Discarded() if isinstance(value, (Name, StandIn)) else value), 32
        if id(value) in self._found:
            known = self._found[id(value)]
            if known is None:
                raise PickleError("the file contains values that contain themselves")
            return known
        if depth > MAX_NESTING:
            raise PickleError("the file nests its values too deeply")
        self._found[id(value)] = None
        found = self._finish_container(value, depth + 1)
        if found[1] > self._most:
            raise PickleError("the file unpacks to far more than its size")
        self._found[id(value)] = found
        return found

    def _finish_container(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, ArrayStub):
            value.state, size = self._finish_container(value.state, depth)
            return value, size
        if isinstance(value, _Array):
            if value.items is None:
                if value.value is None:
                    raise ValueError("an array in the file has no values")
                return value.value, 128 + value.value.nbytes
            items, size = self._finish_container(value.items, depth)
            return _nest(items, value.shape), size
        if isinstance(value, dict):
            size = 64
            for key in value:
                value[key], more = self.finish(value[key], depth)
                size += 64 + more
            return value, size
        parts = [self.finish(part, depth) for part in value]
        size = 64 + sum(more for _, more in parts)
        if isinstance(value, tuple):
            return tuple(part for part, _ in parts), size
        value[:] = [part for part, _ in parts]
        return value, size


def _nest(items: list[Any], shape: tuple[int, ...]) -> Any:
    """The one value of an array without dimensions, else nested lists."""
    if not shape:
        return items[0]
    if not items:
        return []
    for side in shape[:0:-1]:
        items = [items[start : start + side] for start in range(0, len(items), side)]
    return items


class _Names:
    """What the names in a file stand for."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._torch = TorchNames(_make_from_tensor, budget)

    def find(self, module: str, name: str) -> Name:
        """``UnsafePickleError`` for a name that data do not need."""
        title = f"{module}.{name}"
        make = _PLAIN.get((module, name))
        if make is None and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            make = {"_reconstruct": _Names._make_empty, "scalar": _Names._make_scalar}.get(name)
        if make is None and module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            make = _Names._make_from_buffer
        if make is not None:
            return Name(title, lambda arguments: make(self, arguments))
        tensor = self._torch.find(module, name)
        if tensor is not None:
            return tensor
        if module.startswith("scipy.sparse") and name in ("csc_matrix", "csr_matrix", "csc_array", "csr_array"):
            return _SPARSE_COLUMNS if name.startswith("csc") else _SPARSE_ROWS
        if (module, name) in _DISCARDED:
            return Name(title, lambda _: Discarded())
        if module == "chumpy" or module.startswith("chumpy."):
            return _CHUMPY
        raise UnsafePickleError(f"the file contains '{shorten(title)}', which motion and body files do not need; it was not opened")

    def _make_empty(self, arguments: tuple[Any, ...]) -> Any:
        return _Array(self._budget)

    def _make_from_buffer(self, arguments: tuple[Any, ...]) -> Any:
        raw, of, shape, order = arguments
        if not isinstance(of, _Type) or of.holds_objects:
            raise ValueError("no type")
        array = _Array(self._budget)
        array.fill(_check_shape(shape), of, order == "F", raw)
        return array

    def _make_scalar(self, arguments: tuple[Any, ...]) -> Any:
        of, raw = arguments
        if not isinstance(of, _Type) or of.holds_objects:
            raise ValueError("no number")
        return _make_array((1,), of.make_dtype(), False, raw, self._budget)[0]

    def _make_type(self, arguments: tuple[Any, ...]) -> Any:
        code = arguments[0]
        if not isinstance(code, str) or not _is_plain(code):
            raise PickleError("the file contains an array of a type that motion and body files do not need")
        return _Type(code)

    def _refuse(self, arguments: tuple[Any, ...]) -> Any:
        raise PickleError("the file makes an object that motion and body files do not need")

    def _make_joblib_array(self, arguments: tuple[Any, ...]) -> Any:
        return _JoblibArray(self._budget)

    def _make_default(self, arguments: tuple[Any, ...]) -> Any:
        return {}

    def _refuse_parts(self, arguments: tuple[Any, ...]) -> Any:
        raise PickleError("the file was written by an old joblib, which put its arrays into files beside it; save it again")

    def _make_ordered(self, arguments: tuple[Any, ...]) -> Any:
        found: dict[Any, Any] = {}
        for key, value in arguments[0] if arguments else ():
            self._budget.spend(128)
            set_entry(found, key, value)
        return found

    def _make_list(self, arguments: tuple[Any, ...]) -> Any:
        if arguments and not isinstance(arguments[0], (list, tuple)):
            raise ValueError("no list")
        self._budget.spend(8 * len(arguments[0]) if arguments else 0)
        return list(arguments[0]) if arguments else []

    def _encode(self, arguments: tuple[Any, ...]) -> Any:
        text, encoding = (*arguments, "latin1")[:2]
        if not isinstance(text, str) or encoding not in _ENCODINGS:
            raise PickleError("the file uses a text encoding that data files do not need")
        self._budget.spend(len(text) if encoding.startswith("latin") else 4 * len(text))
        return text.encode(encoding)

    def _make_bytes(self, arguments: tuple[Any, ...]) -> Any:
        if not arguments:
            return b""
        if not isinstance(arguments[0], bytes):
            return self._encode(arguments)
        return arguments[0]

    def _reconstruct_object(self, arguments: tuple[Any, ...]) -> Any:
        made, base, _ = arguments
        if made not in (_CHUMPY, _SPARSE_COLUMNS, _SPARSE_ROWS) or getattr(base, "title", "") not in _OBJECT:
            raise UnsafePickleError("the file rebuilds an object that motion and body files do not need")
        return made.make(())


def _is_plain(code: str) -> bool:
    # numbers of a text's length are checked by numpy itself, which makes nothing of that size for a type
    text = code[:1] in ("S", "U") and len(code) < 9 and code[1:].isascii() and code[1:].isdigit()
    return code in _NUMBERS or code in ("O", "O4", "O8") or text


_CHUMPY = Name("chumpy", lambda _: ArrayStub())
_SPARSE_COLUMNS = Name("csc_matrix", lambda _: SparseStub())
_SPARSE_ROWS = Name("csr_matrix", lambda _: _RowSparseStub())
_OBJECT = ("__builtin__.object", "builtins.object")
_DISCARDED = {
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib._local", "PosixPath"),
    ("pathlib._local", "WindowsPath"),
}
_TENSOR_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
}
_PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Names._make_ordered,
    ("collections", "defaultdict"): _Names._make_default,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _Names._make_joblib_array,
    ("joblib.numpy_pickle_compat", "NDArrayWrapper"): _Names._refuse_parts,
    ("joblib.numpy_pickle", "NDArrayWrapper"): _Names._refuse_parts,
    ("_codecs", "encode"): _Names._encode,
    ("numpy", "ndarray"): _Names._refuse,
    ("numpy", "dtype"): _Names._make_type,
}
for _module in ("__builtin__", "builtins"):
    _PLAIN |= {
        (_module, "object"): _Names._refuse,
        (_module, "dict"): _Names._make_default,
        (_module, "list"): _Names._make_list,
        (_module, "int"): _Names._refuse,
        (_module, "float"): _Names._refuse,
        (_module, "set"): _Names._make_list,
        (_module, "frozenset"): _Names._make_list,
        (_module, "bytes"): _Names._make_bytes,
        (_module, "bytearray"): _Names._make_bytes,
    }
for _module in ("copy_reg", "copyreg"):
    _PLAIN[_module, "_reconstructor"] = _Names._reconstruct_object


def load_pickle(data: bytes, start: int = 0) -> Any:
    """The value of a pickle published with Python 2 or 3, from byte ``start``.

    Arrays of numbers and texts are numpy's, read-only; arrays of objects are nested lists, or their one value. Other objects are
    an ``ArrayStub``, or ``Discarded``. Raises ``PickleError`` for what data do not need or what is far larger than the file,
    ``ValueError`` for a damaged file.
    """
    size = len(data) - start
    budget = Budget(size)
    value = read_pickle(data, _Names(budget).find, budget, start)
    return _Finisher(FREE + RATIO * size).finish(value)[0]


def load_torch(data: bytes) -> Any:
    """The value of a file that ``torch.save`` wrote, in its zip format or the one before; tensors are arrays of numpy.

    Raises what ``load_pickle`` raises.
    """
    budget = Budget(len(data))
    read = read_legacy_file if data.startswith(LEGACY_MAGIC) else read_torch_zip
    return _Finisher(FREE + RATIO * len(data)).finish(read(data, _Names(budget).find, budget))[0]


def load_npy_object(data: bytes) -> Any:
    """The contents of a ``.npy`` file; Python objects (MDM's ``results.npy``) are read as ``load_pickle`` reads them.

    Raises what ``load_pickle`` raises.
    """
    descr, _, _, start = read_header(data)
    return load_pickle(data, start) if descr in ("|O", "O") else read_npy(data)
