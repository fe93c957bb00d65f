"""The point-in-time query by an index of the source's rows that is kept: nothing of them is read again to choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sqlglot import exp

from headwater.errors import SourceError
from headwater.offline.index.file import EQUAL, IndexDamaged, IndexReader
from headwater.offline.join.pit import Join
from headwater.offline.join.relations import column, number, table_named, union_all
from headwater.offline.join.workspace import Workspace, created

_BUILT = 131_072
_SORTED, _MOST_PARTS = 6_000_000, 4
"""So many rows are sorted at once, and in so many parts at most: each part reads the keys and times of all."""
_LOOKED_UP = 1_000_000
_PICKED = pa.schema([(name, pa.int64()) for name in ("rn", "ordinal", "event", "tied")])
_FOUND = pa.schema([(name, pa.int64()) for name in ("rn", "t", "first", "steps", "rows")])


@dataclass(frozen=True)
class Indexed:
    """What an index gave.

    Attributes:
        table: `picked`: rn, ordinal, event, tied.
        density: how many rows a spine row's key has.
        equal: a table of (head, ordinal) with the rows that tie with a tied one.
    """

    table: str
    density: float
    equal: str


def pick_indexed(space: Workspace, label: str, join: Join, spine_rows: int) -> Indexed | None:
    """The row of each spine row by an index; None where there is none.

    Args:
        space: the run's tables.
        label: part of their names.
        join: the view and the spine.
        spine_rows: how many rows the spine has.
    """
    kept = join.rows.indexes
    if kept is None or join.rows.log or join.rows.hidden is not None or not join.rows.timed:
        return None
    index = kept.find(as_known=join.as_known)
    if index is None:
        if not kept.worth(join.rows.row_count, spine_rows, _reached(join)):
            return None
        try:
            index = kept.make(lambda: _rows(space, join), len(join.rows.key_names), as_known=join.as_known)
        except SourceError:
            return None  # of a row that this spine may not reach
    if index is None:
        return None
    with index:
        try:
            return _picked(space, label, join, index, spine_rows)
        except IndexDamaged:
            kept.drop(as_known=join.as_known)
            return None


def _reached(join: Join) -> float:
    """Which part of the rows' range of time the spine's reaches; all of it where the rows' is not known."""
    if join.rows.bounds is None:
        return 1.0
    first, last = join.rows.bounds[:2]
    low = first if join.lower is None else max(first, join.lower)
    high = last if join.upper is None else min(last, join.upper)
    return 1.0 if first == last else max(0, high - low) / (last - first)


def _rows(space: Workspace, join: Join) -> Iterator[pa.RecordBatch]:
    """All rows by key and known_at; those of some keys after those of others, so that less is sorted at once."""
    keys = join.rows.key_names
    event, made = column("event", "r"), column("created", "r")
    known = exp.Greatest(this=event, expressions=[made]) if join.as_known else event
    columns = [*[column(k, "r") for k in keys], known.as_("known"), event.copy(), made.copy(), column("ordinal", "r")]
    query = exp.select(*columns)
    query = query.from_(join.rows.narrow().subquery("r"))
    order = [exp.Ordered(this=column(name), nulls_first=True) for name in (*keys, "known")]
    names = ["known", "event", "created", "ordinal"]
    schema = pa.schema([*((k, join.rows.types.get(k, pa.int64())) for k in keys), *((n, pa.int64()) for n in names)])
    parts = min(_MOST_PARTS, join.rows.row_count // _SORTED + 1)
    of_part = exp.Mod(this=exp.Anonymous(this="hash", expressions=[column(k) for k in keys]), expression=number(parts))
    for part in range(parts):
        some = exp.select(exp.Star()).from_(query.copy().subquery("a")).order_by(*[one.copy() for one in order])
        if parts > 1:
            some = some.where(of_part.copy().eq(number(part)))
        yield from space.stream(some, schema, _BUILT)


def _picked(space: Workspace, label: str, join: Join, index: IndexReader, spine_rows: int) -> Indexed:
    keys = f"index_keys_{label}"
    space.load(keys, index.key_schema, index.keys())
    query = exp.select(column("rn", "s"), column("t", "s"), *[column(n, "r") for n in ("first", "steps", "rows")])
    query = query.from_(join.spine_rows().subquery("s"))
    query = query.join(table_named(space.table(keys)).as_("r"), on=join.same_key()).order_by(column("first"))
    tables: list[str] = []
    rows = 0
    for batch in space.stream(query, _FOUND, _LOOKED_UP):
        rn, t, first, steps, of_key = (np.asarray(batch.column(name)) for name in _FOUND.names)
        rows += int(of_key.sum())
        there, found = index.last_known(first, steps, t)
        if join.ttl:
            recent = np.asarray(found["event"]) >= t[there] - join.ttl
            there[there] = recent
            found = {name: values.filter(pa.array(recent)) for name, values in found.items()}
        picked = pa.RecordBatch.from_arrays(
            [pa.array(rn[there]), found["ordinal"], found["event"], found["tied"]], schema=_PICKED
        )
        name = f"picked_{label}_{len(tables)}"
        space.load(name, _PICKED, iter([picked]))
        tables.append(space.table(name))
    space.drop(space.table(keys))
    space.load(f"equal_rows_{label}", EQUAL, index.equal_rows())
    equal = space.table(f"equal_rows_{label}")
    if not tables:
        space.load(f"picked_{label}", _PICKED, iter([]))
        tables.append(space.table(f"picked_{label}"))
    density = rows / max(1, spine_rows)
    if len(tables) == 1:
        return Indexed(tables[0], density, equal)
    parts = [exp.select(exp.Star()).from_(table_named(table)) for table in tables]
    table = created(space, f"picked_{label}", union_all(parts))
    space.drop(*tables)
    return Indexed(table, density, equal)
