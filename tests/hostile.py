"""Files that were made to harm whoever reads them, in a few bytes each, and damaged copies of good ones."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

GLOBALS = {
    "new": b"cnumpy.core.multiarray\n_reconstruct\n",
    "array": b"cnumpy\nndarray\n",
    "dtype": b"cnumpy\ndtype\n",
    "sparse": b"cscipy.sparse.csc\ncsc_matrix\n",
    "chumpy": b"cchumpy.ch\nCh\n",
    "encode": b"c_codecs\nencode\n",
}


def text(value: str | bytes) -> bytes:
    """A pickled text."""
    data = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(data)) + data


def whole(value: int) -> bytes:
    """A pickled number."""
    return b"J" + struct.pack("<i", value)


def dtype(code: str = "f4", state: bytes | None = None) -> bytes:
    """A pickled type; ``state`` is the tuple that it is filled with, numpy's own when None."""
    usual = b"(K\x03" + text("<" if code != "O8" else "|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
    return GLOBALS["dtype"] + b"(" + text(code) + b"\x89\x88tR" + (usual if state is None else state) + b"b"


def array(of: bytes, content: bytes = b"C\x08AAAAAAAA", shape: bytes = b"(K\x01t") -> bytes:
    """A pickled array."""
    return GLOBALS["new"] + b"(" + GLOBALS["array"] + b"(K\x00tC\x01btR(K\x01" + shape + of + b"\x89" + content + b"tb"


def as_npy(pickled: bytes) -> bytes:
    """A ``.npy`` file of an array of objects."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    return stream.getvalue() + b"\x80\x03" + pickled + b"."


def dictionary(**values: bytes) -> bytes:
    """A pickled dictionary of pickled values."""
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def shared_lists(depth: int, breadth: int = 2, leaf: bytes = b"K\x01") -> bytes:
    """``breadth`` to the power of ``depth`` leaves, each list of which is written once."""
    out = b"](" + leaf * breadth + b"eq\x00"
    for level in range(depth):
        out += b"](" + (b"h" + bytes([level])) * breadth + b"eq" + bytes([level + 1])
    return out


#: object pointers under every disguise that a type can have
_OBJECT = dtype("O8")
RECORD_TYPES = {
    "field": dtype(
        "V8", b"(K\x03" + text("|") + b"N(" + text("a") + b"t}" + text("a") + b"(" + _OBJECT + b"K\x00tsK\x08K\x01K\x00t"
    ),
    "field_in_the_middle": dtype(
        "V8", b"(K\x03" + text("|") + b"N(" + text("a") + b"t}" + text("a") + b"(" + _OBJECT + b"K\x04tsK\x08K\x01K\x00t"
    ),
    "subarray": dtype("V8", b"(K\x03" + text("|") + b"(" + _OBJECT + b"(K\x01ttNNK\x08K\x01K\x00t"),
    "plain_code_with_field": dtype(
        "f8", b"(K\x03" + text("<") + b"N(" + text("a") + b"t}" + text("a") + b"(" + _OBJECT + b"K\x00tsK\x08K\x01K\x00t"
    ),
    "plain_code_with_subarray": dtype("f8", b"(K\x03" + text("<") + b"(" + _OBJECT + b"(K\x01ttNNK\x08K\x01K\x00t"),
    "object_as_bytes": _OBJECT,
    "text_of_another_size": dtype("U1", b"(K\x03" + text("<") + b"NNNJ\x00\x00\x00\x7fK\x04K\x08t"),
    "number_of_another_size": dtype("f8", b"(K\x03" + text("<") + b"NNNJ\x00\x00\x00\x7fK\x01K\x00t"),
    "flags": dtype("f8", b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft"),
    "date": dtype("M8"),
    "texts_beyond_unicode": dtype("U2"),
    "nested_code": dtype("(2)O"),
    "huge_text": dtype("U999999999"),
    "code_of_many": dtype("f8,O8"),
}


def pickles() -> Iterator[tuple[str, bytes]]:
    """(name, pickle without its protocol and its end): each a value that a reader looks into."""
    for name, of in RECORD_TYPES.items():
        yield name, array(of)
        yield f"{name}_scalar", b"cnumpy.core.multiarray\nscalar\n(" + of + b"C\x08AAAAAAAAtR"
    yield "array_of_claimed_size", array(dtype(), shape=b"(" + whole(80_000_000) + b"t")
    yield "array_of_overflowing_size", array(dtype(), shape=b"(" + b"\x8a\x08" + struct.pack("<q", 1 << 62) + b"K\x04t")
    yield "array_of_negative_size", array(dtype(), shape=b"(" + whole(-1) + b"t")
    yield "array_of_huge_empty_size", array(dtype(), b"C\x00", b"(K\x00" + b"\x8a\x08" + struct.pack("<q", 1 << 39) + b"t")
    yield "array_without_state", GLOBALS["new"] + b"(" + GLOBALS["array"] + b"(K\x00tC\x01btR"
    yield "array_called", GLOBALS["array"] + b"((" + whole(80_000_000) + b"K\x03t" + text("f4") + b"tR"
    yield (
        "array_of_itself",
        GLOBALS["new"] + b"(" + GLOBALS["array"] + b"(K\x00tC\x01btRq\x00(K\x01(K\x01t" + _OBJECT + b"\x89](h\x00etb",
    )
    yield "objects_that_are_missing", array(_OBJECT, b"](K\x01e", b"(" + whole(1 << 30) + b"t")
    yield "letters_of_nothing", array(dtype("S0"), b"C\x00", b"(" + whole(1 << 30) + b"t")
    sides = b"(" + whole(50_000) + whole(50_000) + b"t"
    for side in (sides, b"(" + whole(-5) + b"K\x02t", b"(" + b"\x8a\x08" + struct.pack("<q", 1 << 62) + b"K\x04t"):
        parts = dictionary(_shape=side, data=b"]", indices=b"]", indptr=b"]K\x00a")
        yield f"sparse_{zlib.crc32(side)}", GLOBALS["sparse"] + b")R" + parts + b"b"
    parts = dictionary(
        _shape=b"(K\x02K\x02t", data=b"](K\x01K\x01e", indices=b"](" + whole(1 << 30) + b"K\x00e", indptr=b"](K\x00K\x01K\x02e"
    )
    yield "sparse_beyond_its_sides", GLOBALS["sparse"] + b")R" + parts + b"b"
    parts = dictionary(
        _shape=b"(K\x02K\x02t", data=b"](K\x01e", indices=b"](K\x00e", indptr=b"](K\x00" + whole(1 << 30) + b"K\x01e"
    )
    yield "sparse_of_repeated_columns", GLOBALS["sparse"] + b")R" + parts + b"b"
    yield "picked_beyond", GLOBALS["chumpy"] + b")R" + dictionary(a=b"](K\x01e", idxs=b"](" + whole(1 << 30) + b"e") + b"b"
    yield "chumpy_of_itself", GLOBALS["chumpy"] + b")Rq\x00}(" + text("x") + b"h\x00ub"
    yield "laughs", shared_lists(30)
    yield "broad_laughs", shared_lists(6, 255)
    yield "laughs_of_texts", shared_lists(3, 200, text("x" * 1000))
    yield "list_of_itself", b"]q\x00h\x00a"
    yield "deep", b"]" * 100_000 + b"a" * 99_999
    yield "deep_tuples", b")" + b"\x85" * 100_000
    yield "sets", b"(" + b"\x8f" * 900_000 + b"l"
    yield "dictionaries", b"(" + b"}" * 900_000 + b"l"
    yield "nothings", b"(" + b"N" * 6_000_000 + b"l"
    yield "popped", b"N0" * 3_000_000 + b"N"
    yield (
        "copied_texts",
        b"(" + text("\u00e9" * 400_000) + b"q\x00" + (GLOBALS["encode"] + b"(h\x00" + text("latin1") + b"tR") * 2000 + b"l",
    )
    yield "far_memo", b"Nr\xff\xff\xff\x7f"
    yield "many_memos", b"N" + b"".join(b"r" + struct.pack("<I", n * 4099) for n in range(900_000))
    yield "long_number", b"\x8b\xff\xff\xff\x7f"
    yield "long_written_number", b"L" + b"9" * 200_000 + b"L\n"
    yield "long_number_that_is_there", b"\x8b" + struct.pack("<I", 1 << 20) + b"\x7f" * (1 << 20)
    yield "negative_text", b"T" + struct.pack("<i", -5)
    for name, code in (("text8", b"\x8d"), ("bytes8", b"\x8e"), ("bytearray8", b"\x96"), ("frame", b"\x95")):
        yield f"{name}_claim", code + struct.pack("<Q", 1 << 50) + b"abc"
        yield f"{name}_largest_claim", code + struct.pack("<Q", (1 << 64) - 1) + b"abc"
    yield (
        "colliding_keys",
        b"}(" + b"".join(b"\x8a\x0a" + (n * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for n in range(1, 60_000)) + b"u",
    )
    yield "code", b"cos\nsystem\n(" + text("false") + b"tR"
    yield "code_by_name", text("builtins") + text("eval") + b"\x93(" + text("1") + b"tR"
    yield "code_of_an_instance", b"(ios\nsystem\n"
    yield "name_with_lines", text("a\nb") + text("c" * 5000) + b"\x93"
    yield "extension", b"\x82\x01"
    yield "outside", b"Psomething\n"
    yield "buffer", b"\x97"
    yield "no_text", text(b"\xff\xfe\xfd")
    yield "nothing_on_the_stack", b"0"
    yield "unknown_operation", b"\x00"


def files(key: str) -> Iterator[tuple[str, bytes]]:
    """(name, pickle) of hostile values under a key that a reader looks at, and as the whole value."""
    for name, value in pickles():
        yield f"{name}_inside", b"}" + text(key) + value + b"s"
        if len(value) < 10_000:
            yield name, value


def empty_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """The header of a ``.npy`` file."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archives(key: str) -> Iterator[tuple[str, bytes]]:
    """(name, zip file) that claim, hold or hide more than they should."""

    def make(entries: dict[str, bytes | tuple[bytes, int]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
        """Entries of bytes, or of a beginning and how many megabytes of zeros follow it."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in entries.items():
                start, zeros = content if isinstance(content, tuple) else (content, 0)
                with archive.open(name, "w") as entry:
                    entry.write(start)
                    for _ in range(zeros):
                        entry.write(bytes(1 << 20))
        return stream.getvalue()

    zeros = (empty_header((400, 1 << 20), "|u1"), 400)
    bomb = make({f"{key}.npy": zeros})
    yield "bomb", bomb
    claimed = bytearray(bomb)
    for at in (bomb.index(b"PK\x03\x04") + 22, bomb.rindex(b"PK\x01\x02") + 24):
        claimed[at : at + 4] = struct.pack("<I", 5000)
    yield "bomb_that_claims_little", bytes(claimed)
    yield "bomb_of_another_kind", make({f"{key}.npy": (zeros[0], 60)}, zipfile.ZIP_BZIP2)
    yield "bomb_of_lzma", make({f"{key}.npy": (zeros[0], 60)}, zipfile.ZIP_LZMA)
    small = make({f"{key}.npy": empty_header((4,)) + bytes(16)}, zipfile.ZIP_STORED)
    for name, at, value in (
        ("stored", small.index(b"PK\x03\x04") + 18, 1 << 30),
        ("listed", small.rindex(b"PK\x01\x02") + 20, 1 << 30),
    ):
        lie = bytearray(small)
        lie[at : at + 8] = struct.pack("<II", value, value)
        yield f"sizes_that_are_{name}", bytes(lie)
    yield "many_entries", make({f"{n}.npy": b"" for n in range(70_000)}, zipfile.ZIP_STORED)
    yield "many_bombs", make({f"{n}.npy": (empty_header((4, 1 << 20), "|u1"), 4) for n in range(100)})
    yield "pickle_inside", make({f"{key}.npy": as_npy(b"cos\nsystem\n(" + text("false") + b"tR")})
    yield "header_that_is_code", make({f"{key}.npy": b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').system('false')"})
    yield "promise", make({f"{key}.npy": empty_header((1 << 40, 22, 3))})
    yield "huge_texts", make({f"{key}.npy": empty_header((0,), "<U999999999")})
    yield (
        "strange_texts",
        make({f"{key}.npy": empty_header((2,), "<U1") + b"\xff" * 8, "text.npy": empty_header((), "<U1") + b"\xff" * 4}),
    )
    yield (
        "strange_truths",
        make(
            {
                f"{key}.npy": empty_header((8, 66), "|b1") + bytes(range(1, 67)) * 8,
                "trans.npy": empty_header((8, 3), "|b1") + b"A" * 24,
            }
        ),
    )


def mutate(rng: np.random.Generator, data: bytes) -> bytes:
    """A copy with a few changes, most of them near its ends, where files say what they are."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            break
        near = min(len(out), 700)
        at = int([rng.integers(near), len(out) - 1 - rng.integers(near), rng.integers(len(out))][rng.integers(3)])
        kind = rng.integers(7)
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            out[at] = int(rng.integers(256))
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            del out[at : at + int(rng.integers(1, 40))]
        elif kind == 4:
            out[at:at] = out[at : at + int(rng.integers(1, 40))] * int(rng.integers(1, 4))
        elif kind == 5:
            extreme = [
                b"\xff" * 4,
                b"\x7f\xff\xff\xff",
                b"\xff\xff\xff\x7f",
                b"\0" * 8,
                b"\xff" * 8,
                b"9" * 9,
                b"1e999",
                b"[" * 900,
            ]
            value = extreme[rng.integers(len(extreme))]
            out[at : at + len(value)] = value
        else:
            other = int(rng.integers(len(out)))
            out[at : at + 16] = out[other : other + 16]
    return bytes(out)


def pickled(value: object, protocol: int) -> bytes:
    """A pickle of the standard library's."""
    return pickle.dumps(value, protocol=protocol)
