"""`Idempotency-Key`: a write or delete that is sent again, as after a lost answer, is done once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import pyarrow as pa

from headwater.async_store import AsyncFeatureStore
from headwater.compute.reports import DeleteReport, WriteReport
from headwater.deferred import deferred
from headwater.offline.log.requests import Request as LogRequest
from headwater.online.session import Session
from headwater.serving.access import Access
from headwater.serving.answers import invalid, other

repeated: Any = deferred("headwater.compute.writing.repeated")

HEADER = b"idempotency-key"
REPEATED = (b"idempotency-replayed", b"true")
"""Goes out with an answer that was given before."""
_KEY = re.compile(rb"[\x20-\x7e]{1,255}")


def request_of(headers: Mapping[bytes, bytes], what: str, body: bytes, access: Access) -> LogRequest | None:
    """The request that a key stands for; None without one.

    Args:
        headers: names in lower case.
        what: `write` or `delete`.
        body: all that it asks for.
        access: whose it is: keys of one API key say nothing to another.

    Raises:
        Refused: 400: not 1 to 255 characters of ASCII.
    """
    key = headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise invalid("Idempotency-Key: give 1 to 255 characters of ASCII, such as a UUID")
    owner = "" if access.key is None else access.key.id
    form = headers.get(b"content-type", b"")
    return LogRequest(owner, sha256(key).digest(), sha256(b"\0".join((what.encode(), form, body))).digest())


async def write(
    store: AsyncFeatureStore, request: LogRequest | None, view: str, rows: Any, session: Session | None, **options: Any
) -> tuple[WriteReport, bool]:
    """`store.write`, once for a request; and whether it had been answered before.

    Raises:
        Refused: 422: cache-only rows without created times, which nobody remembers.
    """
    if request is None:
        return await store.write(view, rows, session=session, **options), False
    if options["to"] == "online":
        if not _all_created(store, view, rows):
            raise other(
                422,
                "NotRepeatable",
                "an Idempotency-Key with to='online' needs a created time in every row: the log does not have such "
                "rows, so that nothing else tells a repeated one from a new one",
            )
        return await store.write(view, rows, session=session, **options), False
    context = store.sync.context
    return await asyncio.to_thread(repeated.write_once, context, request, view, rows, session=session, **options)


async def delete(
    store: AsyncFeatureStore, request: LogRequest | None, view: str, keys: Any, purge: bool, session: Session | None
) -> tuple[DeleteReport, bool]:
    """`store.delete`, once for a request; and whether it had been answered before."""
    if request is None:
        return await store.delete(view, keys, purge, session), False
    context = store.sync.context
    return await asyncio.to_thread(repeated.delete_once, context, request, view, keys, purge=purge, session=session)


def _all_created(store: AsyncFeatureStore, view: str, rows: Any) -> bool:
    created = store.sync.get_feature_view(view).definition.source.created_time
    if created is None:
        return False
    if isinstance(rows, pa.Table):
        return created in rows.column_names and not rows.column(created).null_count
    if isinstance(rows, Mapping):
        given = rows.get(created)
        values = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        return all(value is not None for value in values)
    return all(row.get(created) is not None for row in rows)
