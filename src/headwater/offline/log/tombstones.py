"""Tombstones of the offline log: of deletes with the key in clear, of purges with its salted digest."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.clock import MIN_MICROS, to_micros
from headwater.digests import blake2b
from headwater.offline.base import ARRIVAL, POSITION, Tombstone
from headwater.offline.log.tables import deletes, purges
from headwater.offline.log.write_buffer import Shapes, encode_batch
from headwater.planning.row_reading import RowReading

_LENGTH = struct.Struct("<I")


class Digests:
    """Salted digests of keys: equal values have equal ones, whatever the width of integers and the keys' order.

    A key is digested by its columns' names, in their order: versions of a view may order them in different ways, or
    have other keys with equal values. Earlier releases took the values alone, in the order of the entity that they
    deleted by: such digests are shorter, so that they are never taken for the others, and are still recognised by
    versions with that order.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def __call__(self, keys: pa.Table) -> list[bytes]:
        """The digest of each row of join keys (columns named like them)."""
        names = tuple(keys.column_names)
        return [self.one(names, row) for row in _key_rows(keys)]

    def all(self, keys: pa.Table, names: Sequence[tuple[str, ...]] = ()) -> list[tuple[bytes, ...]]:
        """Every digest under which a tombstone of each row's key may be (`KeyDigests`); `names`: its other names."""
        own = tuple(keys.column_names)
        return [self.all_of(own, row, names) for row in _key_rows(keys)]

    def one(self, names: tuple[str, ...], values: Sequence[Any]) -> bytes:
        """The digest of one key: its join keys and their values."""
        if not names:
            return self._in_order(values)
        body = b"".join(name + _encoded(values[i]) for i, name in _named(names))
        return _BY_NAME + blake2b(body, digest_size=16, key=self._salt).digest()

    def all_of(
        self, names: tuple[str, ...], values: Sequence[Any], others: Sequence[tuple[str, ...]] = ()
    ) -> tuple[bytes, ...]:
        """As `all`, for one key; the values in the entity's order."""
        if not names:
            return (self._in_order(values),)
        return *(self.one(each, values) for each in (names, *others)), self._in_order(values)

    def in_any_order(self, keys: pa.Table, others: Sequence[tuple[str, ...]] = ()) -> set[bytes]:
        """Every digest that any version of any release may have given the keys; `others`: their other names."""
        found = {digest for each in self.all(keys, others) for digest in each}
        if 2 <= keys.num_columns <= _ORDERED:
            orders = list(permutations(range(keys.num_columns)))
            found |= {self._in_order([row[i] for i in order]) for row in _key_rows(keys) for order in orders}
        return found

    def _in_order(self, values: Sequence[Any]) -> bytes:
        return blake2b(b"".join(map(_encoded, values)), digest_size=16, key=self._salt).digest()


_BY_NAME = b"n"
"""What a digest of 17 bytes begins with."""
_ORDERED = 4
"""The most join keys of which all orders are tried."""


@lru_cache(maxsize=256)
def _named(names: tuple[str, ...]) -> list[tuple[int, bytes]]:
    """The place of each join key and its encoded name, by name."""
    return [(i, _encoded(names[i])) for i in sorted(range(len(names)), key=names.__getitem__)]


def _key_rows(keys: pa.Table) -> Iterable[tuple[Any, ...]]:
    columns = [_plain(column).to_pylist() for column in keys.columns]
    return zip(*columns, strict=True) if columns else [()] * keys.num_rows


def tombstone_under(digests: Iterable[bytes], tombstones: Mapping[bytes, Tombstone]) -> Tombstone | None:
    """The greatest P and D of what is under any of a key's digests; None: nothing is."""
    mine = [tombstones[digest] for digest in digests if digest in tombstones]
    return (max(p for p, _ in mine), max(d for _, d in mine)) if mine else None


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _encoded(value: Any) -> bytes:
    """A value with its kind and length, so that no two keys have the same bytes."""
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


_AT_ONCE = 500
"""How many digests one statement asks for."""


def hides_before(table: sa.Table) -> sa.ColumnElement[int]:
    """P: the tombstone's own position, but where it was appended again."""
    return sa.func.coalesce(table.c.hides_before, table.c.position)


_PURGES = sa.select(purges.c.digest, hides_before(purges), purges.c.through).order_by(purges.c.through)


def greatest(tombstones: Iterable[tuple[bytes, Tombstone]]) -> dict[bytes, Tombstone]:
    """Digest → the greatest P and the greatest D of its tombstones: together they hide all that each of them hides."""
    found: dict[bytes, Tombstone] = {}
    for digest, (before, through) in tombstones:
        known = found.get(digest, (before, through))
        found[digest] = max(known[0], before), max(known[1], through)
    return found


def purge_tombstones(
    connection: sa.Connection,
    view: str,
    *conditions: sa.ColumnElement[bool],
    digests: Collection[bytes] | None = None,
) -> Iterator[tuple[bytes, Tombstone]]:
    """(digest, tombstone) of a view's purges, in the order of D.

    Args:
        connection: a transaction that sees one state.
        view: the view.
        conditions: on the columns of `purges`.
        digests: only of these keys; None: of all.
    """
    query = _PURGES.where(purges.c.view == view, *conditions)
    queries = [query]
    if digests is not None:
        queries = [query.where(purges.c.digest.in_(some)) for some in _in_parts(digests)]
    for one in queries:
        for digest, before, through in connection.execute(one):
            yield bytes(digest), (int(before), int(through))


def _in_parts(digests: Collection[bytes]) -> Iterator[list[bytes]]:
    some = list(digests)
    for start in range(0, len(some), _AT_ONCE):
        yield some[start : start + _AT_ONCE]


def all_purges(connection: sa.Connection, view: str, until: int | None = None) -> dict[bytes, tuple[Tombstone, ...]]:
    """Digest → every tombstone of it, by D ascending: each hides from its own D on."""
    found: dict[bytes, list[Tombstone]] = {}
    conditions = [] if until is None else [purges.c.position <= until]
    for digest, tombstone in purge_tombstones(connection, view, *conditions):
        found.setdefault(digest, []).append(tombstone)
    return {digest: tuple(tombstones) for digest, tombstones in found.items()}


def purged_rows(
    connection: sa.Connection,
    view: str,
    table: pa.Table,
    arrival: int,
    readings: Sequence[RowReading],
    digests: Digests,
    count: int,
) -> NDArray[np.bool_]:
    """Which rows of an append a purge hides: by D alone, their positions come after every purge's.

    Args:
        connection: the append's own transaction.
        view: the view.
        table: the rows.
        arrival: theirs, microseconds.
        readings: how the view's versions read them.
        digests: of keys.
        count: how many purges the view has.
    """
    fitting = [reading for reading in readings if reading.fits(table.schema)]
    every = [digests.all(reading.key_table(table), reading.key_names) for reading in fitting]
    mine = {digest for some in every for each in some for digest in each}
    tombstones = greatest(purge_tombstones(connection, view, digests=mine if len(mine) < count else None))
    if not tombstones:
        return np.zeros(table.num_rows, bool)
    return hidden(table, np.full(table.num_rows, arrival, np.int64), readings, digests, tombstones)


def hidden(
    table: pa.Table,
    arrivals: NDArray[np.int64],
    readings: Iterable[RowReading],
    digests: Digests,
    tombstones: Mapping[bytes, Tombstone],
    positions: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Which rows the tombstone of their key hides, in every reading that finds such a key in them.

    Args:
        table: rows as the user gave them.
        arrivals: of each, microseconds.
        readings: how the view's versions read them.
        digests: of keys.
        tombstones: digest → tombstone.
        positions: of each; None: they come after every tombstone.
    """
    gone = np.zeros(table.num_rows, bool)
    lives = np.zeros(table.num_rows, bool)
    for reading in readings:
        if not reading.fits(table.schema):
            continue
        mine = [tombstone_under(each, tombstones) for each in digests.all(reading.key_table(table), reading.key_names)]
        has = np.array([tombstone is not None for tombstone in mine], bool)
        if not has.any():
            continue
        before, through = np.array([tombstone or (0, MIN_MICROS) for tombstone in mine], np.int64).T
        hides = reading.known_at(table, arrivals) <= through
        if positions is not None:
            hides |= positions < before
        gone |= has & hides
        lives |= has & ~hides
    return gone & ~lives


def hidden_stamped(
    table: pa.Table, readings: Iterable[RowReading], digests: Digests, tombstones: Mapping[bytes, Tombstone]
) -> NDArray[np.bool_]:
    """`hidden` for rows that carry their positions and arrivals."""
    positions, arrivals = (table.column(name).to_numpy() for name in (POSITION, ARRIVAL))
    return hidden(table, arrivals, readings, digests, tombstones, positions)


def insert_deletes(
    connection: sa.Connection,
    shapes: Shapes,
    view: str,
    keys: pa.Table,
    digests: Sequence[bytes],
    tombstones: Sequence[Tombstone],
    after: int,
) -> None:
    """Add tombstones in clear, one a key, at the positions that follow `after`."""
    shape = shapes.number(connection, view, keys.schema)
    keys = keys.combine_chunks()
    rows = [
        {
            "view": view,
            "position": after + 1 + i,
            "digest": digest,
            "through": through,
            "shape": shape,
            "key": encode_batch(keys.slice(i, 1)),
            "hides_before": before,
        }
        for i, (digest, (before, through)) in enumerate(zip(digests, tombstones, strict=True))
    ]
    if rows:
        connection.execute(deletes.insert(), rows)


def insert_purges(
    connection: sa.Connection,
    view: str,
    digests: Sequence[bytes],
    tombstones: Sequence[Tombstone],
    after: int,
    now: int,
    earlier: Iterable[bytes] = (),
) -> int:
    """Add tombstones that hold digests, at the positions that follow `after`; how many there are more in the table.

    Tombstones of the same keys in clear become such ones too, at their own positions; `earlier` are other digests under
    which they may be.
    """
    rows = [
        {"view": view, "position": after + 1 + i, "digest": digest, "through": d, "asked_at": now, "hides_before": p}
        for i, (digest, (p, d)) in enumerate(zip(digests, tombstones, strict=True))
    ]
    columns = (deletes.c.digest, deletes.c.position, deletes.c.through, hides_before(deletes).label("hides_before"))
    for part in _in_parts({*digests, *earlier}):
        mine = (deletes.c.view == view) & deletes.c.digest.in_(part)
        in_clear = connection.execute(sa.select(*columns).where(mine)).all()
        if in_clear:
            rows += [{"view": view, "asked_at": now, **row._mapping} for row in in_clear]
            connection.execute(deletes.delete().where(mine))
    if rows:
        connection.execute(purges.insert(), rows)
    return len(rows)


def mark_erased(connection: sa.Connection, view: str, tombstones: Mapping[bytes, Tombstone], now: int) -> None:
    """Note that the rows that purges hide are erased; a purge that hides more stays open."""
    open_ones = (purges.c.view == view) & (purges.c.digest == sa.bindparam("key")) & purges.c.erased_at.is_(None)
    done = open_ones & (hides_before(purges) <= sa.bindparam("before")) & (purges.c.through <= sa.bindparam("d"))
    values = [{"key": digest, "before": before, "d": through} for digest, (before, through) in tombstones.items()]
    if values:
        connection.execute(purges.update().where(done).values(erased_at=now), values)


def lacking(
    connection: sa.Connection, view: str, wanted: Sequence[tuple[Sequence[bytes], Tombstone]], *, purged: bool
) -> list[int]:
    """Which of some tombstones (by index) the log has none for that hides as much; `purged`: none under a digest.

    `wanted`: of each all digests of its key, and what it hides.
    """
    keys = {digest for digests, _ in wanted for digest in digests}
    have: dict[bytes, list[Tombstone]] = {}
    for table in (purges,) if purged else (purges, deletes):
        query = sa.select(table.c.digest, hides_before(table), table.c.through).where(table.c.view == view)
        for some in _in_parts(keys):
            for digest, before, through in connection.execute(query.where(table.c.digest.in_(some))):
                have.setdefault(bytes(digest), []).append((int(before), int(through)))
    return [
        i
        for i, (digests, (before, through)) in enumerate(wanted)
        if not any(p >= before and d >= through for digest in digests for p, d in have.get(digest, ()))
    ]
