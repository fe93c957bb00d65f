"""Session: the small token that carries what one client has seen from one call, process or host to the next."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from headwater import forks
from headwater.deferred import deferred
from headwater.errors import FormatError, UsageError, brief
from headwater.online.session_tokens import is_signed_here, signed, unsigned

if TYPE_CHECKING:
    import base64
else:
    base64 = deferred("base64")

TOKEN_VERSION = 2
_FORM = re.compile(r"[A-Za-z0-9_=-]*(\.[A-Za-z0-9_-]*)?")
MOST_CHARACTERS = 65_500
"""Of a token, or of several with commas between them, over HTTP too: one of a store of 950 shards has as many, and
clients take header lines of 65,536.
"""
_ADVANCING = forks.lock()
"""One for all sessions: a session holds nothing that could not be pickled."""


def too_long(characters: int) -> str:
    """The error of a session whose tokens together have more than a request can bring."""
    return (
        f"the session's tokens together have {characters:,} characters, {MOST_CHARACTERS:,} at most: too many answers "
        "of a store of many shards came at the same time; begin a new session"
    )


class Session:
    """What a client has written and read, as the greatest mark of each part of a store.

    A store of one node needs no marks: every read there sees every write. Advanced in place by each write, delete and
    read that takes it.

    Attributes:
        store: the name of the store the marks are of; empty until one has advanced it.
        marks: part of the store (a node, a shard) → how far it was seen there.
        epochs: the tokens of the store's epochs that it was seen in: another one begins where the registry was restored
            or another log took the store over. Two where sessions of two epochs were merged.
        received: the signed tokens that together say all of that, of a session whose tokens servers gave.
    """

    received: tuple[str, ...] = ()

    def __init__(self, store: str = "", marks: Mapping[str, int] | None = None, epochs: Iterable[bytes] = ()) -> None:
        self.store = store
        self.marks = dict(marks or {})
        self.epochs = frozenset(epochs)

    def __repr__(self) -> str:
        return f"Session(store={self.store!r}, marks={self.marks!r})"

    def __eq__(self, other: object) -> bool:
        mine = (self.store, self.marks, self.epochs)
        return isinstance(other, Session) and mine == (other.store, other.marks, other.epochs)

    __hash__ = None  # type: ignore[assignment]

    @property
    def token(self) -> str:
        """The session as text that fits an HTTP header, signed where this process knows the store's secret.

        Where it does not, it is what servers gave: one token, or several with commas between them.
        """
        if self.received and not is_signed_here(self.store):
            return ",".join(self.received)
        known = [1, self.store, self.marks] if not self.epochs else [2, self.store, self.marks, sorted(self.epochs)]
        data = msgspec.msgpack.encode(known)
        return signed(base64.urlsafe_b64encode(data).decode().rstrip("="), self.store)

    @classmethod
    def from_token(cls, token: str) -> Session:
        """Restore a session from its token.

        Args:
            token: the value of `session.token`.

        Returns:
            A session that has seen all that the token's session had seen.

        Raises:
            UsageError: the text is not a token, or is longer than any token.
            FormatError: the token was made by a newer headwater.
        """
        wrong = f"{brief(token)} is not a session token: pass the value of `session.token`"
        if not isinstance(token, str):
            raise UsageError(wrong)
        if len(token) > MOST_CHARACTERS:
            raise UsageError(f"{wrong} (it has {len(token):,} characters, {MOST_CHARACTERS:,} at most)")
        first, *others = token.split(",")
        session = cls._of_one(first, wrong)
        for other in others:
            session.merge(cls._of_one(other, wrong))
        return session

    @classmethod
    def _of_one(cls, token: str, wrong: str) -> Session:
        """The session of one token; `wrong` is the error where it is none."""
        if not _FORM.fullmatch(token):
            raise UsageError(wrong)
        text = unsigned(token)
        session = cls._of_text(text, wrong)
        session.received = () if text == token else (token,)
        return session

    @classmethod
    def _of_text(cls, text: str, wrong: str) -> Session:
        try:
            fields = msgspec.msgpack.decode(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
        except (binascii.Error, msgspec.MsgspecError, ValueError, TypeError, RecursionError) as bad:
            raise UsageError(wrong) from bad
        version = fields[0] if isinstance(fields, list) and fields else None
        if type(version) is int and version > TOKEN_VERSION:
            raise FormatError("the session token was made by a newer headwater: upgrade this one")
        try:
            if version == 1:
                _, store, marks = msgspec.convert(fields, tuple[int, str, dict[str, int]])
                return cls(store, marks)
            found, store, marks, epochs = msgspec.convert(fields, tuple[int, str, dict[str, int], list[bytes]])
        except (msgspec.ValidationError, RecursionError) as bad:
            raise UsageError(wrong) from bad
        if found != TOKEN_VERSION:
            raise UsageError(wrong)
        return cls(store, marks, epochs)

    def advance(
        self,
        store: str,
        marks: Mapping[str, int] | None = None,
        *,
        covered: Mapping[str, int] | None = None,
        epoch: bytes | None = None,
    ) -> None:
        """Take note of what was seen; marks never go back.

        Args:
            store: the store it was seen in.
            marks: how far it was.
            covered: marks that those imply: they are let go, where nobody else has moved them on meanwhile.
            epoch: the token of the epoch that it was seen in, noted where the session is of none yet.

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
            if epoch and not self.epochs:
                self.epochs = frozenset((epoch,))

    def is_of(self, epoch: bytes | None) -> bool:
        """Whether what it has seen was seen in the epoch of a token, or it does not know.

        Args:
            epoch: the token of the online store's epoch.

        Returns:
            True if all that the session has seen was seen in that epoch, or if it does not know.
        """
        return self.epochs <= {epoch}

    def merge(self, other: Session) -> None:
        """Take over everything that another session has seen.

        Args:
            other: a session of the same store.

        Raises:
            UsageError: the other session belongs to another store.
        """
        if other.store:
            self.advance(other.store, other.marks)
            with _ADVANCING:
                self.epochs |= other.epochs
                self.received = tuple(dict.fromkeys((*self.received, *other.received)))

    def answered(self, sent: str, token: str) -> None:
        """Take over what a server says a session has seen that it was sent.

        Args:
            sent: the token that the request had.
            token: the token of the answer, which covers it.

        Raises:
            UsageError: the token is not one, or of another store.
        """
        newer = Session.from_token(token)
        self.merge(newer)
        covered = set(sent.split(","))
        # of answers to requests at the same time a later one has mostly seen all that others have
        covered |= {text for text in self.received if Session.from_token(text)._is_in(newer)}
        covered -= set(newer.received)
        with _ADVANCING:
            self.received = tuple(text for text in self.received if text not in covered)

    def _is_in(self, other: Session) -> bool:
        """Whether another session has seen all that this one has."""
        marks = other.marks
        return (
            self.store == other.store
            and self.epochs <= other.epochs
            and all(part in marks and mark <= marks[part] for part, mark in self.marks.items())
        )

    def check(self, store: str) -> None:
        """Check that the session belongs to a store.

        Args:
            store: the name that the online store's sessions carry.

        Raises:
            UsageError: the session belongs to another store; the message names both.
        """
        if self.store and self.store != store:
            raise UsageError(
                f"the session is of store {self.store!r}, not of {store!r}: start one with store.session()"
            )
