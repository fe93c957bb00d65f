"""In which form a request comes and its answer goes: JSON or an Arrow IPC stream."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

import msgspec
import pyarrow as pa

from headwater.serving.answers import invalid, other, too_large
from headwater.serving.bodies import decoded
from headwater.wire.arrow_streams import CONTENT_TYPE, METADATA, StreamRefused, read_stream
from headwater.wire.names import IDEMPOTENCY_KEY

S = TypeVar("S", bound=msgspec.Struct)
ARROW = CONTENT_TYPE.encode()
_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?|\*/\*|", re.IGNORECASE)
_SINGLE = frozenset({b"authorization", b"content-encoding", b"content-type", IDEMPOTENCY_KEY.encode()})
_QUALITY = re.compile(rb";\s*q\s*=\s*([^\s;]*)", re.IGNORECASE)


def combined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers of which some come several times: as one, with commas between their values.

    Raises:
        Refused: 400: two of one that has a single value differ.
    """
    out: dict[bytes, bytes] = {}
    for name, value in headers:
        before = out.setdefault(name, value)
        if before != value:
            if name in _SINGLE:
                raise invalid(f"the request has two {name.decode().title()} headers with different values; send one")
            out[name] = before + b"," + value
    return out


def is_arrow(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request's body is an Arrow IPC stream; else it is JSON.

    Raises:
        Refused: it is neither, or compressed.
    """
    kind = headers.get(b"content-type", b"")
    if b"content-encoding" in headers and headers[b"content-encoding"].strip().lower() != b"identity":
        raise other(415, "UnsupportedMediaType", "the body is compressed (Content-Encoding); send it plain")
    if kind == b"application/json" or _JSON.fullmatch(kind):
        return False
    if kind.partition(b";")[0].strip().lower() == ARROW:
        return True
    raise other(415, "UnsupportedMediaType", f"the body must be application/json or {CONTENT_TYPE}")


def wants_arrow(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the answer to a read is an Arrow IPC stream: where it is accepted, and JSON is not preferred."""
    accepted = headers.get(b"accept")
    return accepted is not None and _prefers_arrow(accepted)


@lru_cache(maxsize=64)
def _prefers_arrow(accepted: bytes) -> bool:
    weights = {}
    for part in accepted[:1_000].split(b","):
        weight = _QUALITY.search(part)
        try:
            weights[part.partition(b";")[0].strip().lower()] = 1.0 if weight is None else float(weight[1])
        except ValueError:
            return False
    arrow = weights.get(ARROW, 0.0)
    return arrow > 0 and arrow >= weights.get(b"application/json", 0.0)


def decoded_stream(body: bytes, kind: type[S], most_rows: int, most_values: int) -> tuple[S, pa.Table]:
    """A body that is an Arrow IPC stream: what its metadata says, and its rows.

    Args:
        body: the stream.
        kind: of the JSON document in the metadata.
        most_rows: that it may have.
        most_values: that all columns may have together.

    Raises:
        Refused: it cannot be read, or is more than that.
    """
    try:
        stream = read_stream(body, most_rows, most_values)
    except StreamRefused as bad:
        text = f"the body: {bad}"
        raise too_large(text) if bad.too_large else invalid(text) from None
    document = stream.metadata.get(METADATA)
    if document is None:
        raise invalid(f"the body: its schema's metadata lacks {METADATA.decode()!r}, the JSON of the request's fields")
    return decoded(document, kind, f"the metadata {METADATA.decode()!r}"), stream.table
