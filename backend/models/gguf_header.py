"""What a GGUF file holds, by its header: the names, shapes and types of its tensors. Free of torch."""

from __future__ import annotations

from struct import Struct

#: values and tensors that a file may have, bytes of a text, elements of a list, and axes of a tensor
_MOST_VALUES, _MOST_TENSORS, _MOST_TEXT, _MOST_ELEMENTS, _MOST_AXES = 10_000, 100_000, 1 << 24, 1 << 24, 8
#: kinds of values with a width of their own -> bytes
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _LIST = 8, 9
#: numbers of types of weights -> what people call them; others are told by their number
_TYPES = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1"},
    **{10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 20: "IQ4_NL", 23: "IQ4_XS", 30: "BF16"},
}
_U32, _U64 = Struct("<I"), Struct("<Q")


class _Reader:
    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 4

    def skip(self, count: int) -> None:
        self._at += count
        if count < 0 or self._at > len(self._view):
            raise ValueError("it is cut off")

    def read(self, number: Struct) -> int:
        start = self._at
        self.skip(number.size)
        return int(number.unpack_from(self._view, start)[0])

    def read_text(self) -> str:
        length = self.read(_U64)
        if length > _MOST_TEXT:
            raise ValueError("its header is damaged")
        start = self._at
        self.skip(length)
        return bytes(self._view[start : start + length]).decode("utf-8", "replace")

    def skip_value(self, kind: int, depth: int = 2) -> None:
        """Pass over a value; lists may lie in lists."""
        if kind == _TEXT:
            self.read_text()
            return
        if kind in _WIDTHS:
            self.skip(_WIDTHS[kind])
            return
        if kind != _LIST or not depth:
            raise ValueError("its header is damaged")
        inner, count = self.read(_U32), self.read(_U64)
        if count > _MOST_ELEMENTS:
            raise ValueError("its header is damaged")
        if inner in _WIDTHS:
            self.skip(count * _WIDTHS[inner])
            return
        for _ in range(count):
            self.skip_value(inner, depth - 1)


def read_gguf_header(view: memoryview) -> dict[str, tuple[tuple[int, ...], str]]:
    """(shape as PyTorch has it, type) of each tensor by its name, in a file that begins as GGUF does. Raises ``ValueError`` for
    a damaged one, and for the first version."""
    reader = _Reader(view)
    version, count, values = reader.read(_U32), reader.read(_U64), reader.read(_U64)
    if version not in (2, 3):
        raise ValueError("its version is not known")
    if not count:
        raise ValueError("it holds no tensors")
    if values > _MOST_VALUES or count > _MOST_TENSORS:
        raise ValueError("its header is too long")
    for _ in range(values):
        reader.read_text()
        reader.skip_value(reader.read(_U32))
    tensors: dict[str, tuple[tuple[int, ...], str]] = {}
    for _ in range(count):
        name, axes = reader.read_text(), reader.read(_U32)
        if axes > _MOST_AXES:
            raise ValueError("its header is damaged")
        sides = [reader.read(_U64) for _ in range(axes)]
        kind = reader.read(_U32)
        reader.skip(8)
        # the innermost axis comes first
        tensors[name] = (tuple(reversed(sides)), _TYPES.get(kind, f"type {kind}"))
    return tensors
