"""Whose clients may use this backend: this user's own, those of a list, and those that were paired."""

from __future__ import annotations

import threading
import time

from ..shared import key_entries, logs

logger = logs.get_logger(__name__)
#: how long after a change of the folder it is read again in any case
SETTLED_NANOSECONDS = 2_000_000_000


class ClientList:
    """Public keys that are let in. Whom another process forgets is forgotten here, too. May be used by any thread."""

    def __init__(self, always: set[bytes]) -> None:
        """``always`` are let in whatever is stored."""
        self._always = frozenset(always)
        self._lock = threading.Lock()
        self._paired: frozenset[bytes] = frozenset()
        self._read_at: int | None = None

    def knows(self, key: bytes) -> bool:
        """Whether a client may connect."""
        return key in self._always or key in self.list_paired()

    def list_paired(self) -> frozenset[bytes]:
        """The keys of the clients that were paired."""
        with self._lock:
            try:
                changed: int | None = key_entries.find_folder(key_entries.CLIENTS).stat().st_mtime_ns
            except OSError:
                changed = None
            # a folder's time is coarse: what has just changed may change again without showing it
            is_settled = changed is not None and changed < time.time_ns() - SETTLED_NANOSECONDS
            if changed != self._read_at or not is_settled:
                entries, problems = key_entries.list_entries(key_entries.CLIENTS) if changed is not None else ([], [])
                for problem in problems:
                    logger.warning("a client is not let in: %s", problem)
                self._paired, self._read_at = frozenset(entry.key.encode() for entry in entries), changed
            return self._paired

    def add(self, key: bytes, name: str) -> key_entries.KeyEntry:
        """Let a client in from now on. Raises ``KeysError`` when that cannot be stored."""
        return key_entries.add_entry(key_entries.CLIENTS, name, key)
