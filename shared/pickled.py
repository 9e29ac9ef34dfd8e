"""What a pickle holds, found by walking its opcodes: plain values, and stand-ins for the few objects that the caller knows.

A pickle is a program that others wrote. ``pickle`` runs it with whatever its names stand for, and makes what it asks for before
it looks how much of that there is. Here a name stands for what the caller says and nothing else, and whatever takes memory beyond
the file's own bytes is paid from a budget before it is made. Protocols 0 to 5, of Python 2 and 3; texts of Python 2 are Latin-1.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: a file may be read into this many times its size, and ``FREE`` bytes more
RATIO, FREE = 4, 64 << 20
#: opcodes that are worked off at most, and one more for so many bytes; most data files have hundreds
MAX_OPERATIONS, OPERATION_BYTES = 4_000_000, 16
#: bytes that an opcode, an entry of a dictionary, a container and an object cost at most
OPERATION, ENTRY, CONTAINER, OBJECT = 64, 120, 100, 600
#: bytes of a whole number; characters of a number that is written out, and of a name
MAX_NUMBER, MAX_LINE = 16, 300
NEWEST_PROTOCOL = 5


class PickleError(ValueError):
    """The file asks for what data do not need; the message is part of a sentence for the user."""


class Budget:
    """The bytes that may still be made."""

    def __init__(self, size: int) -> None:
        """For a file of ``size`` bytes."""
        self._left = FREE + RATIO * size

    def spend(self, size: int) -> None:
        """Take ``size`` bytes away; ``PickleError`` when there are not so many."""
        self._left -= size
        if self._left < 0:
            raise PickleError("the file unpacks to far more than its size")


class StandIn:
    """An object that the file fills with a state after it was made."""

    def set_state(self, state: Any) -> None:
        """Take the state; ``ValueError`` or ``PickleError`` when it is none."""


class Stream:
    """What follows in the file where an object's state ends, for objects whose values lie there and not in the pickle."""

    def __init__(self, machine: _Machine) -> None:
        self._machine = machine

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes; ``ValueError`` when there are not so many."""
        return self._machine.take_view(count)

    def read_value(self) -> Any:
        """The value of another pickle that begins here."""
        return self._machine.read_nested()


class StreamedStandIn(StandIn):
    """A stand-in whose values follow it in the file; what ``read_values`` gives takes its place."""

    def read_values(self, stream: Stream) -> Any:
        """Read what follows; ``ValueError`` or ``PickleError`` when it is not there."""
        raise NotImplementedError


@dataclass(frozen=True)
class Name:
    """A class or function in the file; ``make`` gives what its call with a tuple of arguments stands for."""

    title: str
    make: Callable[[tuple[Any, ...]], Any]


#: (module, name) -> ``Name``; raises ``PickleError`` for what is not needed
FindName = Callable[[str, str], Name]


def refuse_storage(_: Any) -> Any:
    """For files that hold all that belongs to them."""
    raise PickleError("the file refers to something outside of it")


def shorten(text: str) -> str:
    """A text of the file's, fit for a message."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:80])


def read_pickle(
    data: bytes, find_name: FindName, budget: Budget, start: int = 0, find_storage: Callable[[Any], Any] = refuse_storage
) -> Any:
    """The value that the pickle in ``data`` from byte ``start`` stands for, as ``read_first_pickle`` gives it."""
    return read_first_pickle(data, find_name, budget, start, find_storage)[0]


def read_first_pickle(
    data: bytes, find_name: FindName, budget: Budget, start: int = 0, find_storage: Callable[[Any], Any] = refuse_storage
) -> tuple[Any, int]:
    """The value that the pickle in ``data`` from byte ``start`` stands for, and where the pickle ends.

    It consists of dictionaries (keys are texts, bytes and whole numbers of 64 bits; entries with others are left out), lists (also
    for sets), tuples, texts, bytes, numbers, None, and what ``find_name`` and ``find_storage`` give. Parts that the file names
    several times are one object, so a small file may stand for a value that is huge when written out, or that contains itself.

    Raises ``PickleError`` for what is not needed or too large, ``ValueError`` for a damaged file.
    """
    machine = _Machine(data, start, find_name, find_storage, budget)
    try:
        return machine.run(), machine.at
    except PickleError:
        raise
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error) as error:
        raise ValueError("the file is damaged or cut off") from error


def set_entry(target: dict[Any, Any], key: Any, value: Any) -> None:
    """Put an entry into a dictionary if its key cannot be chosen so that many collide."""
    if isinstance(key, (str, bytes)) or (isinstance(key, int) and -(1 << 63) <= key < 1 << 63):
        target[key] = value


class _Machine:
    def __init__(self, data: bytes, start: int, find_name: FindName, find_storage: Callable[[Any], Any], budget: Budget) -> None:
        self._data, self._at, self._budget = data, start, budget
        self._find_name, self._find_storage = find_name, find_storage
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._operations, self._nested = 0, False

    @property
    def at(self) -> int:
        """Where the next byte is taken from."""
        return self._at

    def run(self) -> Any:
        most = MAX_OPERATIONS + len(self._data) // OPERATION_BYTES
        while self._operations < most:
            self._operations += 1
            code = self._data[self._at]
            self._at += 1
            if code == _STOP:
                return self._pop()
            self._budget.spend(OPERATION)
            handler = _HANDLERS.get(code)
            if handler is None:
                raise PickleError(f"the file contains the operation {code:#04x}, which data files do not need")
            handler(self)
        raise PickleError("the file contains more values than a data file")

    # bytes of the file

    def _take(self, count: int) -> bytes:
        if count < 0 or count > len(self._data) - self._at:
            raise ValueError("cut off")
        self._at += count
        return self._data[self._at - count : self._at]

    def take_view(self, count: int) -> memoryview:
        """The next ``count`` bytes, not copied."""
        if count < 0 or count > len(self._data) - self._at:
            raise ValueError("cut off")
        self._at += count
        return memoryview(self._data)[self._at - count : self._at]

    def read_nested(self) -> Any:
        """The value of a pickle of its own that begins here; it has its own memo and may not hold another."""
        if self._nested:
            raise PickleError("the file nests its pickles too deeply")
        inner = _Machine(self._data, self._at, self._find_name, self._find_storage, self._budget)
        inner._nested, inner._operations = True, self._operations
        value = inner.run()
        self._at, self._operations = inner._at, inner._operations
        return value

    def _number(self, layout: str) -> int:
        (value,) = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return int(value)

    def _line(self, longest: int = MAX_LINE) -> bytes:
        end = self._data.index(b"\n", self._at)
        if end - self._at > longest:
            raise PickleError("the file contains a line that is too long")
        line = self._data[self._at : end]
        self._at = end + 1
        return line

    # the stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("nothing is there")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self._stack.append(value)
        return value

    def _pop_marked(self) -> list[Any]:
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _discard(self) -> None:
        if self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()
        else:
            self._pop()

    # numbers and texts

    def _push_int_line(self) -> None:
        line = self._line()
        self._push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))

    def _push_long_line(self) -> None:
        self._push(int(self._line().rstrip(b"L")))

    def _push_long(self, layout: str) -> None:
        size = self._number(layout)
        if size > MAX_NUMBER:
            raise PickleError("the file contains a number that is too long")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _push_float(self) -> None:
        (value,) = struct.unpack_from(">d", self._data, self._at)
        self._at += 8
        self._push(value)

    def _push_quoted(self) -> None:
        line = self._line(len(self._data)).strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise ValueError("no text")
        self._push(codecs.escape_decode(line[1:-1])[0].decode("latin1"))

    def _push_unicode_line(self) -> None:
        self._push(self._line(len(self._data)).decode("raw-unicode-escape"))

    def _push_text(self, layout: str) -> None:
        self._push(self._take(self._number(layout)).decode("utf-8", "surrogatepass"))

    def _push_old_text(self, layout: str) -> None:
        self._push(self._take(self._number(layout)).decode("latin1"))

    def _push_bytes(self, layout: str) -> None:
        self._push(self._take(self._number(layout)))

    # containers

    def _make_dictionary(self, items: list[Any]) -> dict[Any, Any]:
        self._budget.spend(CONTAINER)
        found: dict[Any, Any] = {}
        self._update(found, items)
        return found

    def _update(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("no dictionary")
        self._budget.spend(ENTRY * len(items))
        for key, value in zip(items[::2], items[1::2], strict=True):
            set_entry(target, key, value)

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise ValueError("no list")
        target += items

    def _push_container(self, value: Any) -> None:
        self._budget.spend(CONTAINER)
        self._push(value)

    def _push_tuple(self, count: int) -> None:
        found = tuple(self._pop() for _ in range(count))[::-1]
        self._push_container(found)

    def _append(self) -> None:
        value = self._pop()
        self._extend([value])

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._update(self._top(), [key, value])

    def _set_items(self) -> None:
        items = self._pop_marked()
        self._update(self._top(), items)

    # the memo

    def _remember(self, index: int) -> None:
        self._budget.spend(ENTRY)
        self._memo[index] = self._top()

    # objects

    def _push_name(self, module: str, name: str) -> None:
        self._push(self._find_name(module, name))

    def _push_name_from_stack(self) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("no name")
        self._push_name(module, name)

    def _call(self, called: Any, arguments: Any) -> None:
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise PickleError("the file calls something that is no name")
        self._budget.spend(OBJECT)
        self._push(called.make(arguments))

    def _reduce(self) -> None:
        arguments, called = self._pop(), self._pop()
        self._call(called, arguments)

    def _make_object(self) -> None:
        called, *arguments = self._pop_marked()
        self._call(called, tuple(arguments))

    def _make_object_with_keywords(self) -> None:
        self._pop()
        self._reduce()

    def _make_instance(self) -> None:
        module, name = self._line().decode("ascii"), self._line().decode("ascii")
        self._call(self._find_name(module, name), tuple(self._pop_marked()))

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, StandIn):
            target.set_state(state)
            if isinstance(target, StreamedStandIn):
                self._pop()
                self._push(target.read_values(Stream(self)))
        elif not isinstance(target, dict):  # the attributes of a dictionary are of no use
            raise PickleError("the file gives a state to something that has none")

    def _check_protocol(self) -> None:
        if self._number("<B") > NEWEST_PROTOCOL:
            raise PickleError("the file has a protocol that is newer than 5")


_STOP = b"."[0]


def _handlers() -> dict[int, Callable[[_Machine], Any]]:
    m = _Machine
    table: dict[bytes, Callable[[Any], Any]] = {
        b"(": m._mark,
        b"0": m._discard,
        b"1": m._pop_marked,
        b"2": lambda s: s._push(s._top()),
        b"F": lambda s: s._push(float(s._line())),
        b"G": m._push_float,
        b"I": m._push_int_line,
        b"J": lambda s: s._push(s._number("<i")),
        b"K": lambda s: s._push(s._number("<B")),
        b"M": lambda s: s._push(s._number("<H")),
        b"L": m._push_long_line,
        b"\x8a": lambda s: s._push_long("<B"),
        b"\x8b": lambda s: s._push_long("<I"),
        b"N": lambda s: s._push(None),
        b"\x88": lambda s: s._push(True),
        b"\x89": lambda s: s._push(False),
        b"S": m._push_quoted,
        b"T": lambda s: s._push_old_text("<i"),
        b"U": lambda s: s._push_old_text("<B"),
        b"V": m._push_unicode_line,
        b"X": lambda s: s._push_text("<I"),
        b"\x8c": lambda s: s._push_text("<B"),
        b"\x8d": lambda s: s._push_text("<Q"),
        b"B": lambda s: s._push_bytes("<I"),
        b"C": lambda s: s._push_bytes("<B"),
        b"\x8e": lambda s: s._push_bytes("<Q"),
        b"\x96": lambda s: s._push_bytes("<Q"),
        b")": lambda s: s._push(()),
        b"t": lambda s: s._push_container(tuple(s._pop_marked())),
        b"\x85": lambda s: s._push_tuple(1),
        b"\x86": lambda s: s._push_tuple(2),
        b"\x87": lambda s: s._push_tuple(3),
        b"]": lambda s: s._push_container([]),
        b"\x8f": lambda s: s._push_container([]),
        b"l": lambda s: s._push_container(s._pop_marked()),
        b"\x91": lambda s: s._push_container(tuple(s._pop_marked())),
        b"a": m._append,
        b"e": lambda s: s._extend(s._pop_marked()),
        b"\x90": lambda s: s._extend(s._pop_marked()),
        b"}": lambda s: s._push(s._make_dictionary([])),
        b"d": lambda s: s._push(s._make_dictionary(s._pop_marked())),
        b"s": m._set_item,
        b"u": m._set_items,
        b"p": lambda s: s._remember(int(s._line())),
        b"q": lambda s: s._remember(s._number("<B")),
        b"r": lambda s: s._remember(s._number("<I")),
        b"\x94": lambda s: s._remember(len(s._memo)),
        b"g": lambda s: s._push(s._memo[int(s._line())]),
        b"h": lambda s: s._push(s._memo[s._number("<B")]),
        b"j": lambda s: s._push(s._memo[s._number("<I")]),
        b"c": lambda s: s._push_name(s._line().decode("utf-8"), s._line().decode("utf-8")),
        b"\x93": m._push_name_from_stack,
        b"R": m._reduce,
        b"\x81": m._reduce,
        b"o": m._make_object,
        b"i": m._make_instance,
        b"\x92": m._make_object_with_keywords,
        b"b": m._build,
        b"P": lambda s: s._push(s._find_storage(s._line().decode("ascii"))),
        b"Q": lambda s: s._push(s._find_storage(s._pop())),
        b"\x80": m._check_protocol,
        b"\x95": lambda s: s._take(8),
    }
    return {code[0]: handler for code, handler in table.items()}


_HANDLERS = _handlers()
