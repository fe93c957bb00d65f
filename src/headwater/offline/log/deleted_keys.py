"""Tombstones in clear of the offline log, read back: the keys of a view's deletes, with D and P of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from headwater import forks
from headwater.offline.base import POSITION, THROUGH, Tombstone
from headwater.offline.log.left_out import readable_key, unreadable_values
from headwater.offline.log.tables import deletes
from headwater.offline.log.tombstones import greatest, hides_before
from headwater.offline.log.write_buffer import Shapes
from headwater.planning.resolved import LogKeys

KeyNames = Sequence[str] | LogKeys
"""The join keys by which a view's deletes are wanted: their names, or also their types and other names."""

_AT = "__at"
"""The tombstone's own position in the log, which is another than its P where it was appended again."""


@dataclass
class _Read:
    """The tombstones of a view, as this process read them last.

    Attributes:
        epoch: of the view.
        upto: its deletes up to this position were read.
        by_shape: keys, `__through`, `__position` and `__at`, in order of `__at`.
        unreadable: (`__at`, digest, tombstone) of those whose keys cannot be decoded.
    """

    epoch: int
    upto: int = 0
    by_shape: dict[int, pa.Table] = field(default_factory=dict)
    unreadable: list[tuple[int, bytes, Tombstone]] = field(default_factory=list)


class TombstoneReader:
    """Reads a view's deletes, decoding only those that came since it looked last."""

    def __init__(self, known: Shapes) -> None:
        self._shapes = known
        self._views: dict[str, _Read] = {}
        self._lock = forks.lock()
        # a thread that is not there any more may have been in the midst of a view
        forks.after_fork(self, TombstoneReader._drop)

    def read(
        self, connection: sa.Connection, view: str, keys: KeyNames, epoch: int, until: int
    ) -> tuple[pa.Table | None, dict[bytes, tuple[Tombstone, ...]]]:
        """Every tombstone of a view up to a position of the log.

        Args:
            connection: a transaction that sees one state.
            view: the view.
            keys: those under other keys are left out.
            epoch: counts the times that its tombstones were changed.
            until: the position; at most the last one that the transaction sees.

        Returns:
            The keys, `__through` (D) and `__position` (P), one row a tombstone; None where there are none. And digest →
            tombstones of those whose keys cannot be decoded: they hide by their digests.
        """
        with self._lock:
            mine = self._views.get(view)
            if mine is None or mine.epoch != epoch:
                mine = self._views[view] = _Read(epoch)
            if until > mine.upto:
                self._refresh(connection, view, mine, until)
            by_shape, unreadable = dict(mine.by_shape), list(mine.unreadable)
        tables = []
        for shape, table in by_shape.items():
            names = _names_of(self._shapes.schema(connection, shape), keys)
            if names is not None:
                # another transaction may have seen more than this one
                tables.append(_named(table.filter(pc.less_equal(table.column(_AT), until)), names, keys))
        tables = [table for table in tables if table.num_rows]
        hidden: dict[bytes, list[Tombstone]] = {}
        for at, digest, tombstone in unreadable:
            if at <= until:
                hidden.setdefault(digest, []).append(tombstone)
        found = pa.concat_tables(tables).combine_chunks() if tables else None
        return found, {digest: tuple(some) for digest, some in hidden.items()}

    def _refresh(self, connection: sa.Connection, view: str, mine: _Read, until: int) -> None:
        rows = _rows(connection, view, deletes.c.position > mine.upto, deletes.c.position <= until)
        tables, unreadable = _decoded(connection, self._shapes, rows)
        for shape, table in tables.items():
            old = mine.by_shape.get(shape)
            mine.by_shape[shape] = table if old is None else pa.concat_tables([old, table]).combine_chunks()
        mine.unreadable += unreadable
        mine.upto = until

    def _drop(self) -> None:
        self._views = {}


def tombstones_after(
    connection: sa.Connection, shapes: Shapes, view: str, keys: KeyNames, after: int, until: int
) -> pa.Table | None:
    """The deletes of a view with `after` < position of the log ≤ `until`: one row a key, its greatest D and P."""
    rows = _rows(connection, view, deletes.c.position > after, deletes.c.position <= until)
    last: dict[tuple[int, bytes], Any] = {}
    for row in rows:
        known = last.get((row.shape, row.digest))
        if known is None:
            last[row.shape, row.digest] = row
        else:
            before, through = max(known.before, row.before), max(known.through, row.through)
            last[row.shape, row.digest] = _Row(row.digest, row.shape, row.key, row.position, before, through)
    forms = {shape: _fits(connection, shapes, shape, keys) for shape in {row.shape for row in last.values()}}
    decoded, _ = _decoded(connection, shapes, [row for row in last.values() if forms[row.shape] is not None])
    tables = [_named(table, forms[shape] or (), keys) for shape, table in decoded.items()]
    if not tables:
        return None
    found = pa.concat_tables(tables).combine_chunks()
    names = found.column_names[:-2]
    if len(tables) == 1 or not names:
        return found
    # the same key under other names, or in another order
    merged = found.group_by(names, use_threads=False).aggregate([(THROUGH, "max"), (POSITION, "max")])
    greatest_ones = merged.select([*names, f"{THROUGH}_max", f"{POSITION}_max"])
    return greatest_ones.rename_columns(found.column_names).combine_chunks()


def unreadable_after(
    connection: sa.Connection, shapes: Shapes, view: str, after: int, until: int
) -> dict[bytes, Tombstone]:
    """Digest → the greatest P and D of the deletes as `tombstones_after` has them, but whose keys cannot be decoded."""
    rows = _rows(connection, view, deletes.c.position > after, deletes.c.position <= until)
    _, unreadable = _decoded(connection, shapes, rows)
    return greatest((digest, tombstone) for _, digest, tombstone in unreadable)


@dataclass(frozen=True)
class _Row:
    """A tombstone as the table has it; `before` is P."""

    digest: bytes
    shape: int
    key: bytes
    position: int
    before: int
    through: int


_IN_ORDER = sa.select(
    deletes.c.digest,
    deletes.c.shape,
    deletes.c.key,
    deletes.c.position,
    deletes.c.through,
    hides_before(deletes).label("before"),
).order_by(deletes.c.position)


def _rows(connection: sa.Connection, view: str, *conditions: sa.ColumnElement[bool]) -> Sequence[Any]:
    return connection.execute(_IN_ORDER.where(deletes.c.view == view, *conditions)).all()


def _fits(connection: sa.Connection, shapes: Shapes, shape: int, keys: KeyNames) -> tuple[str, ...] | None:
    try:
        return _names_of(shapes.schema(connection, shape), keys)
    except ValueError:
        return None


def _names_of(schema: pa.Schema, keys: KeyNames) -> tuple[str, ...] | None:
    """What tombstones with these columns call such keys, in their order; None: they are of others."""
    if not isinstance(keys, LogKeys):
        return tuple(keys) if set(schema.names) == set(keys) else None
    mine = dict(zip(schema.names, schema.types, strict=True))
    forms = (tuple(keys.types), *keys.names)
    return next((names for names in forms if dict(zip(names, keys.types.values(), strict=True)) == mine), None)


def _named(table: pa.Table, names: Sequence[str], keys: KeyNames) -> pa.Table:
    """Tombstones under the names that are wanted."""
    wanted = list(keys.types if isinstance(keys, LogKeys) else keys)
    return table.select([*names, THROUGH, POSITION]).rename_columns([*wanted, THROUGH, POSITION])


def _decoded(
    connection: sa.Connection, shapes: Shapes, rows: Iterable[Any]
) -> tuple[dict[int, pa.Table], list[tuple[int, bytes, Tombstone]]]:
    """Tombstones as tables by shape; and those whose keys cannot be decoded."""
    by_shape: dict[int, list[Any]] = {}
    for row in rows:
        by_shape.setdefault(row.shape, []).append(row)
    tables: dict[int, pa.Table] = {}
    unreadable: list[tuple[int, bytes, Tombstone]] = []
    for shape, some in by_shape.items():
        try:
            schema = shapes.schema(connection, shape)
            keys, taken = _keys(schema, some)
        except ValueError:
            keys, taken = None, []
        known = {id(row) for row in taken}
        unreadable += [
            (int(row.position), bytes(row.digest), (int(row.before), int(row.through)))
            for row in some
            if id(row) not in known
        ]
        if keys is not None and taken:
            keys = keys.combine_chunks()
            for name, attribute in ((THROUGH, "through"), (POSITION, "before"), (_AT, "position")):
                numbers = pa.array([getattr(row, attribute) for row in taken], pa.int64())
                keys = keys.append_column(name, numbers)
            tables[shape] = keys
    return tables, unreadable


def _keys(schema: pa.Schema, rows: list[Any]) -> tuple[pa.Table, list[Any]]:
    """The keys of the tombstones that can be decoded, and these."""
    try:
        batches = [pa.ipc.read_record_batch(pa.py_buffer(row.key), schema) for row in rows]
        table = pa.Table.from_batches(batches, schema)
        # once for all of them: one by one it takes longer than all the rest
        table.validate(full=True)
        if all(batch.num_rows == 1 for batch in batches) and unreadable_values(table) is None:
            return table, rows
    except Exception:  # whatever Arrow makes of damaged bytes
        pass
    found = [(row, readable_key(row.key, schema)) for row in rows]
    whole = [(row, batch) for row, batch in found if batch is not None]
    return pa.Table.from_batches([batch for _, batch in whole], schema), [row for row, _ in whole]
