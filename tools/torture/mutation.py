"""Changes of bytes and of structures, drawn from a generator: the same seed makes the same changes."""

from __future__ import annotations

import random
import struct
from typing import Any

#: numbers at which sizes, counts and offsets go wrong
NUMBERS = (0, 1, 2, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    *NUMBERS[4:],
    -(2**63),
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    5e-324,
    "",
    "\0",
    "\0|\0",
    "|",
    "a" * 100_000,
    "../" * 30,
    "/dev/zero",
    "\ud800".encode("utf-8", "surrogatepass"),
    b"",
    b"\x80" * 33,
    [],
    {},
    [[]],
    {"": ""},
    [0] * 1000,
)


def mutate_bytes(chance: random.Random, data: bytes) -> bytes:
    """One to four changes: bits, numbers, pieces that are cut out, doubled, swapped or put in, and a cut end."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        size = len(out)
        at = chance.randrange(size + 1)
        length = min(chance.choice((1, 2, 4, 8, 16, 64, 1000)), size - at)
        change = chance.randrange(8)
        if change == 0 and at < size:
            out[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            number = chance.choice(NUMBERS)
            packed = struct.pack(chance.choice("<>") + "Q", number)
            width = chance.choice((1, 2, 4, 8))
            out[at : at + width] = packed[:width]
        elif change == 2:
            del out[at : at + length]
        elif change == 3:
            out[at:at] = out[at : at + length] * chance.choice((1, 2, 50))
        elif change == 4:
            out[at:at] = chance.randbytes(length or 1)
        elif change == 5:
            del out[at:]
        elif change == 6:
            out[at : at + length] = bytes(length)
        else:
            other = chance.randrange(size + 1)
            out[at : at + length] = out[other : other + length]
    return bytes(out)


def mutate_text(chance: random.Random, data: bytes) -> bytes:
    """Changes that a text keeps its form under: numbers, nesting, values of other types; now and then plain bytes."""
    if chance.random() < 0.3:
        return mutate_bytes(chance, data)
    text = data.decode("utf-8", "replace")
    for _ in range(chance.randint(1, 3)):
        digits = [n for n, letter in enumerate(text) if letter.isdigit()]
        if digits and chance.random() < 0.6:
            at = chance.choice(digits)
            new = chance.choice(
                ("9" * 400, "1e308", "-1", "NaN", "1e400", "[" * 2000, "null", '"x"', "0", "{}", "[[]]", str(2**63))
            )
            text = text[:at] + new + text[at + 1 :]
        else:
            at = chance.randrange(len(text) + 1)
            new = chance.choice(('"', "{", "[" * 5000, "\0", ",", "\n", "\ufeff", "\\ud800", "}" * 3, "é"))
            text = text[:at] + new + text[at:]
    return text.encode("utf-8", "replace")


def mutate_value(chance: random.Random, value: Any) -> Any:
    """A structure of lists, mappings and plain values with one to three places changed."""
    for _ in range(chance.randint(1, 3)):
        value = _change_one(chance, value)
    return value


def _change_one(chance: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.9:
        out, key = dict(value), chance.choice(list(value))
        change = chance.randrange(8)
        if change == 0:
            del out[key]
        elif change == 1:
            out[str(chance.choice(_ODD))[:50]] = out[key]
        else:
            out[key] = _change_one(chance, out[key])
        return out
    if isinstance(value, (list, tuple)) and value and chance.random() < 0.9:
        items, at = list(value), chance.randrange(len(value))
        change = chance.randrange(8)
        if change == 0:
            del items[at]
        elif change == 1:
            items += [items[at]] * chance.choice((1, 100))
        else:
            items[at] = _change_one(chance, items[at])
        return items
    if isinstance(value, str) and chance.random() < 0.3:
        return mutate_bytes(chance, value.encode("utf-8", "replace")).decode("utf-8", "replace")
    if isinstance(value, (int, float)) and chance.random() < 0.3:
        return chance.choice((value + 1, value - 1, -value, value * 1000))
    return chance.choice(_ODD)
