"""Bodies of requests: read within bounds, and decoded into what a route takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec

from headwater.errors import nearest
from headwater.serving.answers import busy, invalid, other, too_large
from headwater.serving.deadlines import Block, Deadlines

S = TypeVar("S", bound=msgspec.Struct)
Receive: TypeAlias = Any


class Disconnected(Exception):
    """The client went away before it had sent its request."""


class _ReadFields(msgspec.Struct, forbid_unknown_fields=True):
    features: list[str] | None = None
    service: str | None = None
    model: str | None = None
    request: dict[str, Any] = {}
    consistency: str | None = None
    stale: str = "flag"
    max_age: str | None = None
    deadline_ms: float | None = None
    refresh_budget_ms: float | None = None
    full_names: bool | None = None
    now: str | None = None
    include: tuple[str, ...] = ("statuses",)


class ReadBody(_ReadFields, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/features:read`."""

    entities: dict[str, Any] | list[Any]


class ReadStream(_ReadFields, forbid_unknown_fields=True, kw_only=True):
    """The same as an Arrow IPC stream of join keys; `entities` are keys of one value for all rows."""

    entities: dict[str, Any] = {}


class _WriteFields(msgspec.Struct, forbid_unknown_fields=True):
    view: str
    to: str = "both"
    durability: int = 0
    errors: str = "raise"
    created: str = "arrival"


class WriteBody(_WriteFields, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/features:write`."""

    rows: list[dict[str, Any]] | dict[str, list[Any]]


class WriteStream(_WriteFields, forbid_unknown_fields=True, kw_only=True):
    """The same as an Arrow IPC stream of rows; `absent`: column → the rows that lack it, which is not a NULL there."""

    absent: dict[str, list[int]] = {}


class DeleteBody(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/features:delete`."""

    view: str
    entities: dict[str, Any] | list[Any]
    purge: bool = False


class DeleteStream(msgspec.Struct, forbid_unknown_fields=True):
    """The same as an Arrow IPC stream of join keys."""

    view: str
    entities: dict[str, Any] = {}
    purge: bool = False


_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (ReadBody, ReadStream, WriteBody, WriteStream, DeleteBody, DeleteStream)
}


BODY = "headwater.body"
"""In a request's scope: its whole body, from a connection that had it at once."""
READING = "headwater.reading"
"""In a scope: that the request is a read, so that it ends where its client goes away."""
GONE = "headwater.gone"
"""In a scope: that the connection did so."""


class Bodies:
    """The bodies of requests, those on their way among them.

    A body that comes with its request needs nothing of this. Of the others only so many are waited for: one more, and
    the one that began first is given up, so that who sends halves of bodies keeps nobody else out.

    Args:
        most: bytes of a body.
        seconds: how long all of it may take to arrive.
        most_arriving: how many are waited for at the same time.
        deadlines: of the event loop.
    """

    def __init__(self, most: int, seconds: float, most_arriving: int, deadlines: Deadlines) -> None:
        self._most, self._seconds, self._most_arriving = most, seconds, most_arriving
        self._deadlines = deadlines
        self._arriving: dict[Block, None] = {}

    @property
    def arriving(self) -> int:
        """How many are on their way."""
        return len(self._arriving)

    async def read(self, scope: Mapping[str, Any], receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
        """The whole body.

        Args:
            scope: ASGI's.
            receive: ASGI's.
            headers: of the request, names in lower case.

        Raises:
            Refused: too long, too slow, or given up for others.
            Disconnected: the client went away.
        """
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._most:
            raise self._too_long()
        whole: bytes | None = scope.get(BODY)
        if whole is not None:
            if len(whole) > self._most:
                raise self._too_long()
            return whole
        if len(self._arriving) >= self._most_arriving:
            first = next(iter(self._arriving))
            del self._arriving[first]
            first.end()
        block = self._deadlines.within(self._seconds)
        self._arriving[block] = None
        try:
            with block:
                return await self._parts(receive)
        except TimeoutError:
            if block in self._arriving:
                raise other(408, "RequestTimeout", "the body did not arrive in time") from None
            text = f"more than {self._most_arriving} bodies are on their way here, and this one began first: try again"
            raise busy("TooMuchUnderWay", text) from None
        finally:
            self._arriving.pop(block, None)

    async def _parts(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message: dict[str, Any] = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            body: bytes = message.get("body", b"")
            size += len(body)
            if size > self._most:
                raise self._too_long()
            if not message.get("more_body"):
                return b"".join([*parts, body]) if parts else body
            parts.append(body)

    def _too_long(self) -> Exception:
        return too_large(f"the body is longer than {self._most:,} bytes: send it in parts")


def decoded(body: bytes, kind: type[S], what: str = "the body") -> S:
    """A body as what its route takes.

    Args:
        body: JSON.
        kind: what the route takes.
        what: what errors call it.

    Raises:
        Refused: it is not JSON, or not of that form; says where.
    """
    try:
        found: S = _DECODERS[kind].decode(body)
        return found
    except msgspec.ValidationError as bad:
        text = str(bad)
        unknown = text.partition("contains unknown field `")[2].partition("`")[0]
        fields = [field.name for field in msgspec.structs.fields(kind)]
        hint = f"{nearest(unknown, fields)}; the fields are {', '.join(fields)}" if unknown else ""
        if "missing required field `entities`" in text:
            hint = '; without join keys, as of a global view, write "entities": {}'
        raise invalid(f"{what} does not have the form that this route takes: {text}{hint}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as bad:
        raise invalid(f"{what} is not JSON: {bad}") from None
