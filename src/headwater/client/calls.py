"""Requests and replies, without a network: what is sent, whether it is sent again, and the error in a reply."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa

from headwater.errors import (
    ConsistencyLost,
    HeadwaterError,
    RequestInProgress,
    StoreError,
    Unavailable,
    UsageError,
    brief,
)
from headwater.online.session import Session
from headwater.planning.value_checks import NOT_TEXT
from headwater.wire.names import SESSION
from headwater.wire.problems import CONTENT_TYPE, error_of

SOME_TIME = 0.001
"""Seconds that an attempt, or what is left of an answer, has at least."""
LONGEST_PAUSE = 10.0
"""Seconds: a server that asks for more is not waited for."""
_FIRST_PAUSE = 0.05
_AGAIN = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Call:
    """A request.

    Attributes:
        method: HTTP's.
        path: of the route.
        body: bytes; empty for none.
        headers: beside those that every request has.
        repeatable: whether to send it twice does what to send it once does.
        timeout: seconds that an answer may take; None: the client's own.
        within: seconds that all attempts may take, each what is left of them; None: each takes its `timeout`.
    """

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    timeout: float | None = None
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait before the next attempt, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status: HTTP's.
        headers: names in lower case.
        body: bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def pause_before(attempt: int, reply: Reply | None) -> Pause | None:
    """How long to wait before a repeatable request is sent again; None: it is not.

    Args:
        attempt: how often it was sent.
        reply: the answer to the last; None where none came.
    """
    pause = Pause(_FIRST_PAUSE * 2 ** (attempt - 1) * (0.5 + random.random()))
    if reply is None:
        return pause
    asked = reply.headers.get("retry-after")
    # 409: the same request, sent before, is under way
    if reply.status not in _AGAIN and not (reply.status == 409 and asked is not None):
        return None
    bad = error_in(reply)
    if type(bad) not in (Unavailable, StoreError) and reply.status != 409:
        return None
    if isinstance(bad, ConsistencyLost):
        return None
    try:
        seconds = float(asked) if asked is not None else pause.seconds
    except ValueError:
        seconds = pause.seconds
    return Pause(seconds) if 0 <= seconds <= LONGEST_PAUSE else None


def being_answered(reply: Reply | None) -> float | None:
    """Seconds within which the same request, sent before, is answered or given up; None: that is not what it says."""
    if reply is None or reply.status != 409 or not isinstance(error_in(reply), RequestInProgress):
        return None
    try:
        seconds = float(reply.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds <= LONGEST_PAUSE else None


def error_in(reply: Reply) -> HeadwaterError:
    """The error that a reply stands for: the server's own, in its words."""
    if not reply.headers.get("content-type", "").startswith(CONTENT_TYPE):
        kind = Unavailable if reply.status in _AGAIN else StoreError
        said = f"it answered {reply.status} with {reply.headers.get('content-type') or 'nothing'}"
        return kind(f"this is not a headwater server, or something in front of it fails: {said}")
    try:
        document: Any = msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        document = {}
    bad = error_of(document if isinstance(document, dict) else {}, reply.status)
    token = reply.headers.get(SESSION)
    if isinstance(bad, ConsistencyLost) and token:
        bad.session = Session.from_token(token)
    return bad


def json_body(document: Any) -> bytes:
    """A JSON document.

    Raises:
        UsageError: a text in it is not one.
    """
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError as bad:
        raise UsageError(f"{brief(bad.object)} is {NOT_TEXT}: it has half of a surrogate pair") from None


@contextmanager
def reading(reply: Reply) -> Iterator[None]:
    """What reads the body of an answer.

    Raises:
        StoreError: it has not the form of the server's answers.
    """
    try:
        yield
    except HeadwaterError:
        raise
    except (
        msgspec.MsgspecError,
        pa.ArrowException,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as bad:
        kind = reply.headers.get("content-type", "nothing")
        said = f"{type(bad).__name__}: {bad}"
        raise StoreError(f"the server's answer ({len(reply.body):,} bytes, {kind}) cannot be read: {said}") from bad


def checked(reply: Reply) -> Reply:
    """A reply that is an answer.

    Raises:
        HeadwaterError: the server's own error.
    """
    if reply.status == 200:
        return reply
    raise error_in(reply)
