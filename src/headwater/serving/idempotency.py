"""`Idempotency-Key`: a write or delete that is sent again, as after a lost answer, is done once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.compute.reports import DeleteReport, WriteReport
from headwater.deferred import deferred
from headwater.offline.log.requests import Request as LogRequest
from headwater.online.session import Session
from headwater.planning.row_reading import created_names
from headwater.serving.access import Access
from headwater.serving.answers import invalid, other
from headwater.store import FeatureStore
from headwater.wire.names import IDEMPOTENCY_KEY

repeated: Any = deferred("headwater.compute.writing.repeated")

HEADER = IDEMPOTENCY_KEY.encode()
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


def write(
    store: FeatureStore, request: LogRequest | None, view: str, rows: Any, session: Session | None, **options: Any
) -> tuple[WriteReport, bool]:
    """`store.write`, once for a request; and whether it had been answered before.

    Raises:
        Refused: 422: cache-only rows without created times, which nobody remembers.
    """
    if request is None:
        return store.write(view, rows, session=session, **options), False
    if options["to"] == "online":
        if not _all_created(store, view, rows):
            raise other(
                422,
                "NotRepeatable",
                "an Idempotency-Key with to='online' needs a created time in every row: the log does not have such "
                "rows, so that nothing else tells a repeated one from a new one",
            )
        return store.write(view, rows, session=session, **options), False
    done: tuple[WriteReport, bool] = repeated.write_once(store.context, request, view, rows, session=session, **options)
    return done


def delete(
    store: FeatureStore, request: LogRequest | None, view: str, keys: Any, purge: bool, session: Session | None
) -> tuple[DeleteReport, bool]:
    """`store.delete`, once for a request; and whether it had been answered before."""
    if request is None:
        return store.delete(view, keys, purge, session), False
    done: tuple[DeleteReport, bool] = repeated.delete_once(
        store.context, request, view, keys, purge=purge, session=session
    )
    return done


def _all_created(store: FeatureStore, view: str, rows: Any) -> bool:
    """Whether each row has a created time, for every version that may take it: its source's, else the reserved one."""
    versions = store.registry.snapshot().view(view).active
    return all(
        _each_has_one(rows, names)
        for names in {created_names(version.view.source.created_time) for version in versions}
    )


def _each_has_one(rows: Any, names: Sequence[str]) -> bool:
    """Whether each row has a value in one of some columns."""
    if isinstance(rows, pa.Table):
        there = [rows.column(name).is_valid().to_numpy() for name in names if name in rows.column_names]
        return bool(there) and bool(np.logical_or.reduce(there).all())
    if isinstance(rows, Mapping):
        columns = [rows[name] for name in names if name in rows]
        return bool(columns) and all(
            any(value is not None for value in values) for values in zip(*columns, strict=False)
        )
    return all(any(row.get(name) is not None for name in names) for row in rows)
