"""Bodies of requests: read within bounds, and decoded into what a route takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec

from headwater.errors import nearest
from headwater.serving.answers import invalid, other, too_large
from headwater.serving.deadlines import Deadlines

S = TypeVar("S", bound=msgspec.Struct)
Receive: TypeAlias = Any


class Disconnected(Exception):
    """The client went away before it had sent its request."""


class _ReadFields(msgspec.Struct, forbid_unknown_fields=True):
    features: list[str] | None = None
    service: str | None = None
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
"""In the scope of a read: its task, which a connection cancels where its client goes away."""
GONE = "headwater.gone"
"""In a scope: that the connection did so."""


async def read_body(
    scope: Mapping[str, Any],
    receive: Receive,
    headers: Mapping[bytes, bytes],
    most: int,
    deadlines: Deadlines,
    seconds: float,
) -> bytes:
    """The whole body.

    Args:
        scope: ASGI's.
        receive: ASGI's.
        headers: of the request, names in lower case.
        most: bytes.
        deadlines: of the event loop.
        seconds: how long all of it may take to arrive.

    Raises:
        Refused: too long, or too slow.
        Disconnected: the client went away.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > most:
        raise _too_long(most)
    whole: bytes | None = scope.get(BODY)
    if whole is not None:
        if len(whole) > most:
            raise _too_long(most)
        return whole
    try:
        with deadlines.within(seconds):
            return await _parts(receive, most)
    except TimeoutError:
        raise other(408, "RequestTimeout", "the body did not arrive in time") from None


async def _parts(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message: dict[str, Any] = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        body: bytes = message.get("body", b"")
        size += len(body)
        if size > most:
            raise _too_long(most)
        if not message.get("more_body"):
            return b"".join([*parts, body]) if parts else body
        parts.append(body)


def _too_long(most: int) -> Exception:
    return too_large(f"the body is longer than {most:,} bytes: send it in parts")


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
