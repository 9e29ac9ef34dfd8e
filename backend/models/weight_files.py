"""What a file of weights holds, without loading it: names, shapes and types of its tensors, metadata and plain values.

``.safetensors`` files by their headers; what ``torch.save`` wrote by its pickle, which is walked and not run. The tensors stay in
the file, which is mapped, until somebody asks for their numbers. Free of torch, so that it takes a moment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ...shared.disk_errors import explain_disk_error
from ...shared.files import map_file, read_file
from ...shared.pickled import Budget, Name, PickleError, StandIn, shorten
from ...shared.shot import ShotError
from ...shared.torch_files import LEGACY_MAGIC, RawTensor, TorchNames, is_torch_zip, read_legacy_file, read_mapped_torch_zip
from .gguf_header import read_gguf_header

#: bytes of a header of safetensors; LoRAs bring the captions that they were trained on
MAX_HEADER = 16 << 20
MAX_TENSORS = 100_000
#: the format of files whose numbers only a library of its own can read, and how they begin
GGUF, GGUF_MAGIC = "gguf", b"GGUF"
#: how deep dictionaries lie in one another: a checkpoint of Lightning has its weights in the second, an embedding in the third
MAX_DEPTH = 3
#: type in safetensors -> (storage class of torch, bytes)
SAFE_TYPES: dict[str, tuple[str, int]] = {
    "F64": ("DoubleStorage", 8),
    "F32": ("FloatStorage", 4),
    "F16": ("HalfStorage", 2),
    "BF16": ("BFloat16Storage", 2),
    "F8_E4M3": ("Float8_e4m3fnStorage", 1),
    "F8_E5M2": ("Float8_e5m2Storage", 1),
    "I64": ("LongStorage", 8),
    "I32": ("IntStorage", 4),
    "I16": ("ShortStorage", 2),
    "I8": ("CharStorage", 1),
    "U8": ("ByteStorage", 1),
    "BOOL": ("BoolStorage", 1),
}
#: names in pickles that stand for plain dictionaries
_DICTIONARIES = ("collections.defaultdict", "builtins.dict", "__builtin__.dict")
#: names in pickles of checkpoints that are no weights and do no harm
_KNOWN_MODULES = (
    "pytorch_lightning",
    "lightning",
    "numpy",
    "omegaconf",
    "typing",
    "collections",
    "builtins",
    "__builtin__",
    "_codecs",
)
_HARMFUL = ("eval", "exec", "compile", "open", "getattr", "__import__", "input", "breakpoint")


_PICTURE = "is a picture and no weights; choose the .pt or .safetensors file of what it shows"
_ARCHIVE = "is an archive; unpack it, and choose the file with the weights in it"
#: how files begin that are none of weights -> what they are
_OTHER_FILES = {
    b"\x89PNG": _PICTURE,
    b"\xff\xd8\xff": _PICTURE,
    b"GIF8": _PICTURE,
    b"7z\xbc\xaf": _ARCHIVE,
    b"Rar!": _ARCHIVE,
    b"\x1f\x8b": _ARCHIVE,
    b"BZh": _ARCHIVE,
    b"\xfd7zXZ": _ARCHIVE,
    b"(\xb5/\xfd": _ARCHIVE,
    b"\x89HDF": "is a file of Keras, which is not supported; choose the model's .safetensors file",
    b"# xet version": "is a pointer and not the model itself; download the file",
    b"%PDF": "is a document and no weights; download the model's file itself",
}
#: what servers answer instead of a file, in lower case
_REFUSALS = (b"entry not found", b"invalid username", b"access to model", b"not found", b"unauthorized", b"repository not found")
#: what programs put around the names of a network's tensors
_WRAPPERS = ("state_dict.", "model_state_dict.", "module.", "controlnet.")
#: how names begin around which there may be one more ``model.``
_ROOTS = ("model.diffusion_model.", "control_model.", "input_blocks.", "down_blocks.", "lora_unet_", "encoder.down", "decoder.up")


@dataclass(frozen=True)
class WeightFile:
    """A file of weights. ``tensors`` by their names in the file's order, those of nested dictionaries joined by points, without the
    ``state_dict.`` and the like around a network's; ``metadata`` that of safetensors; ``values`` the plain numbers and texts of a
    pickle; ``strangers`` names in a pickle that weights do not need, none of which was called."""

    path: Path
    size: int
    format: str
    tensors: Mapping[str, RawTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, int | float | str] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()


def read_weight_file(path: Path) -> WeightFile:
    """What a file holds. The name's end does not count, only the contents do.

    Raises ``ShotError`` with a sentence for what is missing, damaged or of another kind.
    """
    try:
        view = map_file(path)
    except OSError as error:
        raise ShotError("model", explain_disk_error(error, path, "read", "choose another file")) from error
    start = bytes(view[:512])
    explained = "" if start.startswith(GGUF_MAGIC) else _explain_other(start)
    if explained:
        raise ShotError("model", f"The file {path.name} {explained}.")
    try:
        if start.startswith(b"PK"):
            if not is_torch_zip(bytes(view[:4096]) + bytes(view[-(1 << 20) :])):
                raise ShotError("model", f"The file {path.name} {_ARCHIVE}.")
            return _read_pickled(path, view, "torch")
        if start.startswith(GGUF_MAGIC):
            return _read_gguf(path, view)
        if start.startswith(LEGACY_MAGIC):
            return _read_pickled(path, view, "torch before 1.6")
        return _read_safetensors(path, view)
    except OSError as error:
        raise ShotError("model", explain_disk_error(error, path, "read", "choose another file")) from error
    except ShotError:
        raise
    except (ValueError, PickleError) as error:
        raise ShotError(
            "model",
            f"The file {path.name} cannot be read as weights ({shorten(str(error)).rstrip('.')}); download it again, or choose a "
            ".safetensors, .ckpt, .pt, .pth or .bin file.",
        ) from error


def explain_other_file(path: Path) -> str:
    """What a file is that has no weights, by how it begins; empty when it may have some. Raises ``OSError``."""
    with path.open("rb") as file:
        return _explain_other(file.read(512))


def _explain_other(start: bytes) -> str:
    """What a file is that has no weights; empty when it may have some."""
    text = start.lstrip().lower()
    if not start.strip(b"\0"):
        return "is empty; download it again"
    if start[4:9] == b"\0\0\0\0{":
        # the length of a header, and the header
        return ""
    for mark, what in _OTHER_FILES.items():
        if start.startswith(mark):
            return what
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _PICTURE
    if text.startswith((b"{", b"[")) or text.startswith(_REFUSALS):
        return "is a text and no weights; download the model's file itself"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page and no model; download the file itself"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS and not the model itself; fetch it with git lfs pull, or download the file"
    if start.startswith(GGUF_MAGIC):
        return "is a GGUF file, which is read only as a transformer alone; choose the .safetensors file"
    return ""


def _read_gguf(path: Path, view: memoryview) -> WeightFile:
    """The tensors of a GGUF file without their numbers, which only a library of its own can read."""
    try:
        found = read_gguf_header(view)
    except ValueError as error:
        raise ShotError(
            "model", f"The file {path.name} is a GGUF file that cannot be read ({error}); download it again."
        ) from error
    tensors = {name: RawTensor(view[:0], kind, 0, shape, _strides(shape)) for name, (shape, kind) in found.items()}
    return WeightFile(path, len(view), GGUF, tensors, {})


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def _read_safetensors(path: Path, view: memoryview) -> WeightFile:
    length = int.from_bytes(view[:8], "little")
    if len(view) < 10 or length > len(view) - 8:
        raise ValueError("it is no safetensors file, or cut off")
    if length > MAX_HEADER:
        raise ValueError("its header is too long")
    try:
        header = msgspec.json.decode(view[8 : 8 + length], type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(header.pop("__metadata__", msgspec.Raw(b"{}")), type=dict[str, str] | None) or {}
        if len(header) > MAX_TENSORS:
            raise ValueError("it has too many tensors")
        entries = {name: msgspec.json.decode(raw, type=_Entry) for name, raw in header.items()}
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError("its header is damaged") from error
    content, tensors, end = view[8 + length :], {}, 0
    # one after the other, so that a file of one tensor cannot stand for thousands
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in SAFE_TYPES:
            raise ValueError(f"it has tensors of the unknown type {shorten(entry.dtype)}")
        kind, width = SAFE_TYPES[entry.dtype]
        start, stop = entry.data_offsets
        shape = tuple(entry.shape)
        if len(shape) > 16 or any(side < 0 for side in shape):
            raise ValueError("its header is damaged")
        if start != end or stop - start != math.prod(shape) * width:
            raise ValueError("its tensors do not lie one after the other")
        if stop > len(content):
            raise ValueError("it is cut off")
        tensors[name], end = RawTensor(content[start:stop], kind, 0, shape, _strides(shape)), stop
    return WeightFile(path, len(view), "safetensors", _unwrap({name: tensors[name] for name in entries}), metadata)


def _unwrap(tensors: dict[str, RawTensor]) -> dict[str, RawTensor]:
    """Tensors without what trainers and compilers put around their names; a name that would then be another's stays."""
    is_doubled = any(name.startswith("model." + root) for name in tensors for root in _ROOTS)
    found: dict[str, RawTensor] = {}
    for name, raw in tensors.items():
        new = name.replace("_orig_mod.", "")
        while wrapper := next((start for start in _WRAPPERS if new.startswith(start)), ""):
            new = new[len(wrapper) :]
        if is_doubled:
            new = new.removeprefix("model.")
        found[new if new and new not in found and (new == name or new not in tensors) else name] = raw
    return found


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


class _Module(StandIn):
    """A module of torch that was saved as an object, such as the dictionary of an embedding's parameters."""

    def __init__(self) -> None:
        self.parameters: dict[Any, Any] = {}

    def set_state(self, state: Any) -> None:
        parameters = state.get("_parameters") if isinstance(state, dict) else None
        if isinstance(parameters, dict):
            self.parameters = parameters


def _read_pickled(path: Path, view: memoryview, kind: str) -> WeightFile:
    budget = Budget(len(view))
    names = TorchNames(lambda raw: raw, budget)
    strangers: dict[str, None] = {}

    def find_name(module: str, name: str) -> Name:
        title = f"{module}.{name}"
        found = names.find(module, name)
        if found is not None:
            return found
        if title == "torch.nn.modules.container.ParameterDict":
            return Name(title, lambda _: _Module())
        if module == "torch._utils" and name == "_rebuild_parameter_with_state":
            return Name(title, lambda arguments: arguments[0])
        harmless = module.partition(".")[0] in _KNOWN_MODULES and name not in _HARMFUL
        if title not in _DICTIONARIES and not harmless and len(strangers) < 16:
            strangers.setdefault(shorten(title))
        # whatever it is, an empty dictionary takes its place: it may be filled, and nobody looks at it
        return Name(title, lambda _: {})

    if kind == "torch":
        value = read_mapped_torch_zip(view, find_name, budget)
    else:
        value = read_legacy_file(read_file(path), find_name, budget)
    if not isinstance(value, dict):
        raise ValueError("it holds no dictionary of weights")
    tensors: dict[str, RawTensor] = {}
    values: dict[str, int | float | str] = {}
    _flatten(value, "", MAX_DEPTH, tensors, values, set())
    return WeightFile(path, len(view), kind, _unwrap(tensors), {}, values, tuple(strangers))


def _flatten(
    value: Mapping[Any, Any],
    prefix: str,
    depth: int,
    tensors: dict[str, RawTensor],
    values: dict[str, int | float | str],
    seen: set[int],
) -> None:
    """Gather the tensors and plain values of dictionaries in dictionaries. The same one may be named many times, or hold itself,
    and is gathered once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    for key, found in value.items():
        if not isinstance(key, str):
            continue
        name = prefix + key
        if len(tensors) + len(values) >= MAX_TENSORS:
            raise ValueError("it has too many tensors")
        if isinstance(found, RawTensor):
            tensors[name] = found
        elif isinstance(found, (int, float)) or (isinstance(found, str) and len(found) < 1000):
            values[name] = found
        elif (
            depth and isinstance(found, (dict, _Module)) and key not in ("optimizer_states", "callbacks", "loops", "lr_schedulers")
        ):
            inner = found.parameters if isinstance(found, _Module) else found
            _flatten(inner, prefix if key == "state_dict" else f"{name}.", depth - 1, tensors, values, seen)
