"""Session: the small token that carries what one client has seen from one call, process or host to the next."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec

from headwater import forks
from headwater.errors import FormatError, UsageError

TOKEN_VERSION = 1
_ADVANCING = forks.lock()
"""One for all sessions: a session holds nothing that could not be pickled."""


class Session:
    """What a client has written and read, as the greatest mark of each part of a store.

    A store of one node needs no marks: every read there sees every write. Advanced in place by each write, delete and
    read that takes it.

    Attributes:
        store: the name of the store the marks are of; empty until one has advanced it.
        marks: part of the store (a node, a shard) → how far it was seen there.
    """

    def __init__(self, store: str = "", marks: Mapping[str, int] | None = None) -> None:
        self.store = store
        self.marks = dict(marks or {})

    def __repr__(self) -> str:
        return f"Session(store={self.store!r}, marks={self.marks!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Session) and (self.store, self.marks) == (other.store, other.marks)

    __hash__ = None  # type: ignore[assignment]

    @property
    def token(self) -> str:
        """The session as text that fits an HTTP header."""
        data = msgspec.msgpack.encode([TOKEN_VERSION, self.store, self.marks])
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def from_token(cls, token: str) -> Session:
        """The session of a token.

        Raises:
            UsageError: text that is no token.
            FormatError: the token of a newer headwater.
        """
        try:
            fields = msgspec.msgpack.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except (binascii.Error, msgspec.MsgspecError, ValueError, TypeError) as bad:
            raise UsageError(f"{token!r} is not a session token: pass on what `session.token` gave") from bad
        if isinstance(fields, list) and fields and isinstance(fields[0], int) and fields[0] > TOKEN_VERSION:
            raise FormatError("the session token was made by a newer headwater: upgrade this one")
        try:
            _, store, marks = msgspec.convert(fields, tuple[int, str, dict[str, int]])
        except msgspec.ValidationError as bad:
            raise UsageError(f"{token!r} is not a session token: pass on what `session.token` gave") from bad
        return cls(store, marks)

    def advance(
        self, store: str, marks: Mapping[str, int] | None = None, *, covered: Mapping[str, int] | None = None
    ) -> None:
        """Take note of what was seen; marks never go back.

        Args:
            store: the store it was seen in.
            marks: how far it was.
            covered: marks that those imply: they are let go, where nobody else has moved them on meanwhile.

        Raises:
            UsageError: the session is of another store.
        """
        self.check(store)
        self.store = store
        with _ADVANCING:
            # a new dict, so that who looks at the old one meanwhile sees it whole
            now = {part: mark for part, mark in self.marks.items() if (covered or {}).get(part) != mark}
            for part, mark in (marks or {}).items():
                now[part] = max(mark, now.get(part, mark))
            self.marks = now

    def merge(self, other: Session) -> None:
        """Take note of all that another session has seen.

        Raises:
            UsageError: the other is of another store.
        """
        if other.store:
            self.advance(other.store, other.marks)

    def check(self, store: str) -> None:
        """Refuse a session of another store.

        Raises:
            UsageError: naming both.
        """
        if self.store and self.store != store:
            raise UsageError(
                f"the session is of store {self.store!r}, not of {store!r}: begin one with store.session()"
            )


def check_session(session: Session | None, store: str) -> None:
    """Refuse what is no session, or one of another store; None is none.

    Raises:
        UsageError: saying what to pass.
    """
    if session is None:
        return
    if not isinstance(session, Session):
        raise UsageError(f"session={session!r}: pass store.session(), or hw.Session.from_token(token)")
    session.check(store)
