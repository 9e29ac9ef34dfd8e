"""Clients on other machines whose connection may break: what they have sent so far, and what they have not heard yet, is kept for a
while. No sockets here."""

from __future__ import annotations

from ..shared.messages import OpenSession
from ..shared.streams import KEEP_SECONDS, NumberedOutbox, StreamReceiver

#: sessions of one client's key; more are refused
MOST_SESSIONS = 32
#: bytes that are kept for a client that does not say what it has heard; one with more is given up
MOST_KEPT_BYTES = 256 << 20
#: what the handles of sessions begin with. The names that sockets give to connections begin with a zero
PREFIX = b"session "


class Session:
    """One client's. ``handle`` stands for it wherever a client is named; ``route`` is the connection that it has now, None while it
    is gone, since ``gone_at``."""

    def __init__(self, handle: bytes, key: bytes) -> None:
        self.handle, self.key = handle, key
        self.route: bytes | None = None
        self.gone_at = 0.0
        self.streams = (StreamReceiver(), StreamReceiver())
        self.outbox = NumberedOutbox()

    @property
    def taken(self) -> tuple[int, int]:
        """Bytes of each stream that have come."""
        return self.streams[0].taken, self.streams[1].taken


def _name_handle(key: bytes, message: OpenSession) -> bytes:
    return PREFIX + key + b" " + message.session.encode()


class SessionBook:
    """All sessions."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, Session] = {}
        self._routes: dict[bytes, Session] = {}

    def get(self, handle: bytes) -> Session | None:
        """The session with a handle."""
        return self._sessions.get(handle)

    def find(self, route: bytes, key: bytes) -> Session | None:
        """The session of a connection over which a client shows a key. It may call itself as that of another key did which is
        gone."""
        session = self._routes.get(route)
        return session if session is not None and session.key == key else None

    def make_room(self, key: bytes, message: OpenSession) -> Session | None:
        """Forget the session of a key whose client has been gone for the longest time, where there is no room for the one that is
        asked for; returns it. A client that comes and goes, such as a command, leaves one each time."""
        if message.resumes or _name_handle(key, message) in self._sessions:
            return None
        own = [one for one in self._sessions.values() if one.key == key]
        gone = [one for one in own if one.route is None]
        if len(own) < MOST_SESSIONS or not gone:
            return None
        oldest = min(gone, key=lambda one: one.gone_at)
        self.end(oldest)
        return oldest

    def open(self, route: bytes, key: bytes, message: OpenSession) -> Session | None:
        """The session that a client of a key asks for over a connection; None for one that is not known any more, or is one too
        many. One that is to be new may be there: then its client's connection broke before it heard of that. A name means nothing
        with another key: a session is one key's."""
        handle = _name_handle(key, message)
        session = self._sessions.get(handle)
        if session is None:
            if message.resumes or sum(one.key == key for one in self._sessions.values()) >= MOST_SESSIONS:
                return None
            session = self._sessions[handle] = Session(handle, key)
        self.leave(session, 0.0)
        session.route = route
        self._routes[route] = session
        session.outbox.forget(message.heard)
        return session

    def leave(self, session: Session, now: float) -> None:
        """The session's connection is gone."""
        if session.route is not None:
            self._routes.pop(session.route, None)
            session.route, session.gone_at = None, now

    def end(self, session: Session) -> None:
        """Forget a session."""
        self.leave(session, 0.0)
        self._sessions.pop(session.handle, None)

    def list_connected(self) -> list[Session]:
        """Those with a connection."""
        return [session for session in self._sessions.values() if session.route is not None]

    def list_gone(self) -> list[Session]:
        """Those without a connection."""
        return [session for session in self._sessions.values() if session.route is None]

    def take_expired(self, now: float) -> list[Session]:
        """Forget the sessions whose clients have been gone for too long, or do not listen; returns them."""
        expired = [
            one
            for one in self._sessions.values()
            if (one.route is None and now > one.gone_at + KEEP_SECONDS) or one.outbox.waiting_bytes > MOST_KEPT_BYTES
        ]
        for session in expired:
            self.end(session)
        return expired
