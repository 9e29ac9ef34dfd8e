"""Public keys of others, a small private file for each, beside the user's own keys: of backends that this user has paired with,
and of clients that may use this user's backend."""

from __future__ import annotations

import datetime
import hashlib
from contextlib import suppress
from pathlib import Path

import msgspec

from .curve_keys import KEY, KeysError, check_private, find_keys
from .files import is_unfinished, make_private_folder, read_file, write_atomically

BACKENDS, CLIENTS = "backends", "clients"
_MOST_BYTES = 4096


class KeyEntry(msgspec.Struct, frozen=True):
    """A public key in Z85: of the backend at an address, or of the client of a name."""

    name: str
    key: str
    #: the day when it was paired
    added: str = ""

    @property
    def fingerprint(self) -> str:
        """Short words for the key."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]


def find_folder(kind: str) -> Path:
    """Where the entries of a kind are, whether there are any or not."""
    return find_keys().parent / kind


def _find_path(kind: str, entry: KeyEntry) -> Path:
    # a backend is looked for by its address, a client by its key
    name = hashlib.sha256((entry.name if kind == BACKENDS else entry.key).encode()).hexdigest()[:32]
    return find_folder(kind) / f"{name}.json"


def _read(path: Path) -> KeyEntry:
    try:
        check_private(path)
        entry = msgspec.json.decode(read_file(path, _MOST_BYTES), type=KeyEntry)
    except OSError as error:
        raise KeysError(f"The key in {path} cannot be read ({error.strerror or error}); pair again.") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, KeysError):
            raise
        raise KeysError(f"The key in {path} is damaged; delete the file and pair again.") from error
    if not KEY.fullmatch(entry.key.encode("utf-8", "backslashreplace")):
        raise KeysError(f"The key in {path} is damaged; delete the file and pair again.")
    return entry


def add_entry(kind: str, name: str, key: bytes) -> KeyEntry:
    """Keep a key; one of the same backend's address, or of the same client, is replaced. Raises ``KeysError``."""
    entry = KeyEntry(name, key.decode("ascii"), datetime.date.today().isoformat())
    path = _find_path(kind, entry)
    try:
        make_private_folder(path.parent)
        write_atomically(path, msgspec.json.encode(entry), private=True)
    except OSError as error:
        raise KeysError(f"The key cannot be stored in {path} ({error.strerror or error}); make the folder writable.") from error
    _read(path)
    return entry


def list_entries(kind: str) -> tuple[list[KeyEntry], list[str]]:
    """The entries of a kind by name, and sentences about those that cannot be used."""
    entries, problems = [], []
    with suppress(OSError):
        for path in sorted(find_folder(kind).glob("*.json")):
            if is_unfinished(path):
                continue
            try:
                entries.append(_read(path))
            except KeysError as error:
                problems.append(str(error))
    return sorted(entries, key=lambda entry: (entry.name, entry.key)), problems


def find_backend_key(endpoint: str) -> bytes | None:
    """The public key of the backend that this user has paired with at ``tcp://host:port``. Raises ``KeysError``."""
    path = _find_path(BACKENDS, KeyEntry(endpoint, ""))
    if not path.exists():
        return None
    entry = _read(path)
    return entry.key.encode() if entry.name == endpoint else None


def remove_entries(kind: str, which: str) -> list[KeyEntry]:
    """Forget the entries of a name, or of a fingerprint; returns them. Raises ``KeysError`` when a file cannot be removed."""
    removed = []
    for entry in list_entries(kind)[0]:
        if which in (entry.name, entry.fingerprint):
            path = _find_path(kind, entry)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise KeysError(f"{path} cannot be removed ({error.strerror or error}); remove it yourself.") from error
            removed.append(entry)
    return removed
