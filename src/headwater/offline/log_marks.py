"""Marks of the offline log: what was deleted, in clear, and what was purged, as salted digests."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.clock import MIN_MICROS, to_micros
from headwater.offline.base import ARRIVAL, CREATED, THROUGH
from headwater.offline.log_head import Shapes, decode_batch, encode_batch
from headwater.offline.log_tables import deletes, purges

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class RowReading:
    """How a view version reads a row of the log: which of its columns hold the join keys and the times.

    Attributes:
        keys: the source's columns of the join keys, in the entity's order.
        event: the column of the event time; None: valid always.
        created: the column of the created time, before the reserved one; None: the reserved one, else the arrival.
    """

    keys: tuple[str, ...]
    event: str | None
    created: str | None

    def fits(self, columns: Iterable[str]) -> bool:
        """Whether rows with these columns have the keys and the event time."""
        return {*self.keys, *((self.event,) if self.event else ())} <= set(columns)

    def known_at(self, table: pa.Table, arrivals: NDArray[np.int64]) -> NDArray[np.int64]:
        """max(event time, created time) of each row, microseconds."""
        created = arrivals
        for name in (CREATED, self.created):
            if name is not None and name in table.column_names:
                created = _micros(table.column(name), created)
        return created if self.event is None else np.maximum(_micros(table.column(self.event), created), created)


def _micros(column: pa.ChunkedArray, otherwise: NDArray[np.int64]) -> NDArray[np.int64]:
    """A column of microsecond timestamps as integers; where it is NULL, or no such column, the other value."""
    if not pa.types.is_timestamp(column.type):
        return otherwise
    present = column.is_valid().to_numpy()
    values = column.cast(pa.int64()).fill_null(0).to_numpy()
    return np.where(present, values, otherwise).astype(np.int64)


class Digests:
    """Salted digests of keys (`KeyDigests`): equal values have equal ones, whatever the width of integers."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def __call__(self, keys: pa.Table) -> list[bytes]:
        columns = [_plain(column).to_pylist() for column in keys.columns]
        if not columns:
            return [self.one(())] * keys.num_rows
        return [self.one(row) for row in zip(*columns, strict=True)]

    def one(self, key: Sequence[Any]) -> bytes:
        """The digest of one key's values, in the entity's order."""
        return hashlib.blake2b(b"".join(map(_encoded, key)), digest_size=16, key=self._salt).digest()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _encoded(value: Any) -> bytes:
    """A value with its kind and length, so that no two keys read alike."""
    if isinstance(value, str):
        kind, body = b"s", value.encode()
    elif isinstance(value, bytes):
        kind, body = b"b", value
    elif isinstance(value, datetime):
        kind, body = b"t", str(to_micros(value)).encode()
    elif isinstance(value, date):
        kind, body = b"d", value.isoformat().encode()
    else:
        kind, body = (
            (b"o" if isinstance(value, bool) else b"i" if isinstance(value, int) else b"n"),
            repr(value).encode(),
        )
    return kind + _LENGTH.pack(len(body)) + body


def purged_through(connection: sa.Connection, view: str, until: int | None = None, after: int = 0) -> dict[bytes, int]:
    """Digest → D of a view's purges with `after` < position ≤ `until`."""
    query = sa.select(purges.c.digest, sa.func.max(purges.c.through)).where(
        purges.c.view == view, purges.c.position > after
    )
    if until is not None:
        query = query.where(purges.c.position <= until)
    return {bytes(digest): int(through) for digest, through in connection.execute(query.group_by(purges.c.digest))}


def purge_marks(connection: sa.Connection, view: str, until: int | None = None) -> dict[bytes, tuple[int, ...]]:
    """Digest → every D of it, ascending: each hides from its own instant on."""
    query = sa.select(purges.c.digest, purges.c.through).where(purges.c.view == view).order_by(purges.c.through)
    if until is not None:
        query = query.where(purges.c.position <= until)
    found: dict[bytes, tuple[int, ...]] = {}
    for digest, through in connection.execute(query):
        found[bytes(digest)] = (*found.get(bytes(digest), ()), int(through))
    return found


def hidden(
    table: pa.Table,
    arrivals: NDArray[np.int64],
    readings: Iterable[RowReading],
    digests: Digests,
    through: Mapping[bytes, int],
) -> NDArray[np.bool_]:
    """Which rows are at or below the D of their key, in every reading that finds such a key in them."""
    gone = np.zeros(table.num_rows, bool)
    lives = np.zeros(table.num_rows, bool)
    for reading in readings:
        if not reading.fits(table.column_names):
            continue
        limit = np.array([through.get(d, MIN_MICROS) for d in digests(table.select(reading.keys))], np.int64)
        below = reading.known_at(table, arrivals) <= limit
        gone |= below
        lives |= ~below & (limit > MIN_MICROS)
    return gone & ~lives


def hidden_stamped(
    table: pa.Table, readings: Iterable[RowReading], digests: Digests, through: Mapping[bytes, int]
) -> NDArray[np.bool_]:
    """`hidden` for rows that carry their arrivals."""
    return hidden(table, table.column(ARRIVAL).to_numpy(), readings, digests, through)


def insert_deletes(
    connection: sa.Connection,
    shapes: Shapes,
    view: str,
    keys: pa.Table,
    digests: Sequence[bytes],
    through: Sequence[int],
    position: int,
) -> None:
    """Add delete marks, one a key."""
    shape = shapes.number(connection, view, keys.schema)
    connection.execute(
        deletes.insert(),
        [
            {
                "view": view,
                "position": position + i,
                "digest": digests[i],
                "through": through[i],
                "shape": shape,
                "key": encode_batch(keys.slice(i, 1)),
            }
            for i in range(len(digests))
        ],
    )


def insert_purges(
    connection: sa.Connection, view: str, digests: Sequence[bytes], through: Sequence[int], position: int, now: int
) -> None:
    """Add purge marks; delete marks of the same keys, which hold them in clear, become such marks too."""
    for digest in digests:
        mine = (deletes.c.view == view) & (deletes.c.digest == digest)
        earlier = connection.execute(sa.select(deletes.c.position, deletes.c.through).where(mine)).all()
        if earlier:
            marks = [
                {"view": view, "position": at, "digest": digest, "through": d, "asked_at": now} for at, d in earlier
            ]
            connection.execute(purges.insert(), marks)
            connection.execute(deletes.delete().where(mine))
    connection.execute(
        purges.insert(),
        [
            {"view": view, "position": position + i, "digest": digest, "through": through[i], "asked_at": now}
            for i, digest in enumerate(digests)
        ],
    )


def delete_marks(
    connection: sa.Connection,
    shapes: Shapes,
    view: str,
    keys: Sequence[str],
    until: int | None = None,
    after: int = 0,
    *,
    every: bool = False,
) -> pa.Table | None:
    """The delete marks of a view whose join keys are those named: the keys, and `__through`.

    Args:
        connection: a transaction that sees one state.
        shapes: the log's shapes.
        view: the view.
        keys: the names of the join keys.
        until: only marks up to this position.
        after: only marks after this position.
        every: every D of a key, as history needs them (each hides from its own instant on); else the greatest.
    """
    query = sa.select(deletes.c.digest, deletes.c.shape, deletes.c.key, deletes.c.through).where(
        deletes.c.view == view, deletes.c.position > after
    )
    if until is not None:
        query = query.where(deletes.c.position <= until)
    latest: dict[tuple[bytes, int, int], tuple[int, bytes]] = {}
    for digest, shape, key, through in connection.execute(query):
        mark = (digest, shape, through if every else 0)
        if mark not in latest or latest[mark][0] < through:
            latest[mark] = (through, key)
    batches: dict[int, list[pa.RecordBatch]] = {}
    limits: dict[int, list[int]] = {}
    for (_, shape, _), (through, key) in latest.items():
        schema = shapes.schema(connection, shape)
        if set(schema.names) == set(keys):
            batches.setdefault(shape, []).append(decode_batch(key, schema))
            limits.setdefault(shape, []).append(through)
    tables = [
        pa.Table.from_batches(some).select(list(keys)).append_column(THROUGH, pa.array(limits[shape], pa.int64()))
        for shape, some in batches.items()
    ]
    if not tables:
        return None
    return pa.concat_tables(tables).combine_chunks()
