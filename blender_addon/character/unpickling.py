"""Reads the pickles that body models and motions are published in, without letting them run any code.

Only the names that such files need resolve; chumpy and scipy arrays become small stand-ins, since Blender has neither.
"""

from __future__ import annotations

import io
import pickle
import tokenize
from collections import OrderedDict
from importlib import import_module
from typing import Any

import numpy as np


class UnsafePickleError(ValueError):
    """The file asks for a name outside the allow-list; the message is part of a sentence for the user."""


class ArrayStub:
    """Stand-in for ``chumpy`` arrays: keeps the state and makes the array on request."""

    def __init__(self, *_: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def get_array(self) -> np.ndarray:
        """The values; ``ValueError`` if the file contains none."""
        if "x" in self.state:
            return to_array(self.state["x"])
        if "a" in self.state and "idxs" in self.state:
            picked = to_array(self.state["a"]).ravel()[np.asarray(self.state["idxs"])]
            return picked.reshape(self.state.get("preferred_shape", picked.shape))
        raise ValueError("a chumpy array in the file has no values")


class SparseStub(ArrayStub):
    """Stand-in for scipy's compressed sparse matrices (both orientations)."""

    by_column = True

    def get_array(self) -> np.ndarray:
        """The dense matrix; ``ValueError`` if parts of it are missing."""
        shape = self.state.get("_shape", self.state.get("shape"))
        if shape is None or not {"data", "indices", "indptr"} <= set(self.state):
            raise ValueError("a sparse matrix in the file is incomplete")
        data, minor, pointers = (np.asarray(self.state[k]) for k in ("data", "indices", "indptr"))
        out = np.zeros(shape, data.dtype)
        major = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
        out[(minor, major) if self.by_column else (major, minor)] = data
        return out


class _RowSparseStub(SparseStub):
    by_column = False


def to_array(value: Any) -> np.ndarray:
    """An array from an array, a stub or a nested list."""
    return value.get_array() if isinstance(value, ArrayStub) else np.asarray(value)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise UnsafePickleError(f"the file uses the text encoding '{encoding}', which data files do not need")
    return text.encode(encoding)


def _reconstruct_object(cls: type, base: type, state: Any) -> Any:
    if cls not in _OBJECT_STUBS or base is not object:
        raise UnsafePickleError("the file rebuilds an object that data files do not need")
    return cls()


class Discarded:
    """Stand-in for values that are not read, such as the torch tensors beside MDM's body parameters."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


_DISCARDED = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch", "device"),
    ("torch.storage", "_load_from_bytes"),
    ("torch", "FloatStorage"),
    ("torch", "Size"),
}
_OBJECT_STUBS = (ArrayStub, SparseStub, _RowSparseStub)
_NUMPY_CORE = {"_reconstruct", "scalar"}
_PLAIN = {
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("copy_reg", "_reconstructor"): _reconstruct_object,
    ("copyreg", "_reconstructor"): _reconstruct_object,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _AllowListUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in _NUMPY_CORE:
            core = import_module("numpy.core.multiarray" if np.__version__ < "2" else "numpy._core.multiarray")
            return getattr(core, name)
        if module.startswith("scipy.sparse") and name in ("csc_matrix", "csr_matrix", "csc_array", "csr_array"):
            return SparseStub if name.startswith("csc") else _RowSparseStub
        if (module, name) in _DISCARDED:
            return Discarded
        if module.startswith("chumpy"):
            return ArrayStub
        raise UnsafePickleError(f"the file contains '{module}.{name}', which motion and body files do not need; it was not opened")


def load_pickle(data: bytes) -> Any:
    """Unpickle data published with Python 2 or 3.

    Raises ``UnsafePickleError`` for any name outside the allow-list, ``ValueError`` for a damaged file.
    """
    try:
        return _AllowListUnpickler(io.BytesIO(data), encoding="latin1").load()
    except UnsafePickleError:
        raise
    except Exception as error:
        raise ValueError(f"the file is damaged or cut off ({type(error).__name__})") from error


def load_npy_object(data: bytes) -> Any:
    """The contents of a ``.npy`` file; Python objects (MDM's ``results.npy``) are read with the same allow-list.

    Raises what ``load_pickle`` raises.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[version](stream)
    except (ValueError, KeyError, tokenize.TokenError) as error:
        raise ValueError("the file is not a NumPy .npy file, or is damaged") from error
    if not dtype.hasobject:
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > len(data):
            raise ValueError(f"the file is cut off: its header promises {shape}, more than there is")
        return np.load(io.BytesIO(data), allow_pickle=False)
    value = load_pickle(stream.read())
    return value.item() if isinstance(value, np.ndarray) and value.shape == () else value


def read_plain_arrays(archive: Any) -> dict[str, np.ndarray]:
    """The arrays of an open ``.npz`` that need no unpickling; published archives contain a few objects that nobody needs."""
    out = {}
    for key in archive.files:
        try:
            out[key] = archive[key]
        except ValueError as error:
            if "pickle" not in str(error):
                raise
    return out
