"""The point-in-time query by an index of the source's rows that is kept: nothing of them is read again to choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlglot import exp

from headwater.errors import SourceError
from headwater.offline.index.file import COUNTS, EQUAL, NEVER, IndexDamaged, IndexReader
from headwater.offline.index.pieces import Ints
from headwater.offline.index.sorting import Unsorted
from headwater.offline.join import missing
from headwater.offline.join.pit import Join
from headwater.offline.join.workspace import Workspace, created
from headwater.offline.trees import column, number, table_named, union_all

_BUILT = 131_072
_LOOKED_UP = 1_000_000
_PICKED = pa.schema([(name, pa.int64()) for name in ("rn", "ordinal", "event", "tied")])
_MISSED = pa.schema([("rn", pa.int64()), ("why", pa.int8())])
_ROWS = ("key", "event", "created", "ordinal")


@dataclass
class Found:
    """How many spine rows matched, how many of them at their own instant, how many beside an equal source row, and how
    many did not for each reason.
    """

    matched: int = 0
    same_instant: int = 0
    tied: int = 0
    missed: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Indexed:
    """What an index gave.

    Attributes:
        table: `picked`: rn, ordinal, event, tied.
        why: a table of (rn, why) of the rows that picked nothing; None: all picked one.
        equal: a table of (head, ordinal) with the rows that tie with a picked one; None: none does.
        found: how many of each.
    """

    table: str
    why: str | None
    equal: str | None
    found: Found


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
            index = kept.make(_unsorted(space, label, join))
        except SourceError:
            return None  # of a row that this spine may not reach
    if index is None:
        return None
    with index:
        try:
            return _Lookup(space, label, join, index).picked()
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


def _unsorted(space: Workspace, label: str, join: Join) -> Unsorted:
    """All rows, keys by number: one of 64 bits is its own, others are numbered."""
    # it is kept for every bucket
    join = replace(join, rows=replace(join.rows, only=None))
    names = join.rows.key_names
    rows = join.rows.narrow()
    columns = [column(name, "r") for name in ("event", "created", "ordinal")]
    schema = pa.schema([(name, pa.int64()) for name in _ROWS])
    if len(names) == 1 and join.rows.types.get("k0") == pa.int64():
        query = exp.select(column("k0", "r").as_("key"), *columns).from_(rows.subquery("r"))
        return Unsorted(
            lambda: space.stream(query, schema, _BUILT),
            lambda keys: pa.table({"k0": keys}),
            join.rows.row_count,
            join.as_known,
        )
    numbered = f"numbered_{label}"

    def batches() -> Iterator[pa.RecordBatch]:
        space.create(numbered, _numbered(join))
        query = exp.select(column("key", "n"), *columns).from_(rows.subquery("r"))
        query = query.join(table_named(space.table(numbered)).as_("n"), on=join.same_key("r", "n"))
        return space.stream(query, schema, _BUILT)

    every: list[pa.Table] = []

    def keys(numbers: Ints) -> pa.Table:
        if not every:
            query = exp.select(*[column(name) for name in names]).from_(table_named(space.table(numbered)))
            of_keys = pa.schema([(name, join.rows.types[name]) for name in names])
            every.append(pa.Table.from_batches(list(space.stream(query.order_by(column("key")), of_keys, _BUILT))))
            space.drop(space.table(numbered))
        return every[0].take(pa.array(numbers))

    return Unsorted(batches, keys, join.rows.row_count, join.as_known)


def _numbered(join: Join) -> exp.Select:
    """Every key and its number, from 0."""
    names = [column(name) for name in join.rows.key_names]
    distinct = exp.select(*names).distinct().from_(join.rows.narrow().subquery("r"))
    row = exp.Sub(this=exp.Window(this=exp.RowNumber()), expression=number(1))
    return exp.select(*[name.copy() for name in names], row.as_("key")).from_(distinct.subquery("d"))


class _Lookup:
    """The spine's rows, looked up in an index."""

    def __init__(self, space: Workspace, label: str, join: Join, index: IndexReader) -> None:
        self._space, self._label, self._join, self._index = space, label, join, index
        self._found = Found()
        self._picked: list[str] = []
        self._missed: list[str] = []
        self._tied: list[Ints] = []

    def picked(self) -> Indexed:
        """What is found for all of them."""
        space, join = self._space, self._join
        keys = f"index_keys_{self._label}"
        space.load(keys, self._index.key_schema, self._index.keys())
        same = [
            column(mine, "s").eq(column(name, "r")) for mine, name in zip(join.keys, join.rows.key_names, strict=False)
        ]
        query = exp.select(column("rn", "s"), column("t", "s"), *[column(n, "r") for n in COUNTS])
        query = query.from_(table_named(join.spine).as_("s"), copy=False)
        of_key = exp.and_(exp.true(), *same, copy=False)
        query = query.join(table_named(space.table(keys)).as_("r"), on=of_key, join_type="left", copy=False)
        schema = pa.schema([(name, pa.int64()) for name in ("rn", "t", *COUNTS)])
        for batch in space.stream(query.order_by(column("first"), copy=False), schema, _LOOKED_UP):
            self._take(batch)
        space.drop(space.table(keys))
        if not self._picked:
            self._load(self._picked, "picked", pa.RecordBatch.from_pylist([], _PICKED))
        missed = self._one(self._missed, "why") if self._missed else None
        return Indexed(self._one(self._picked, "picked"), missed, self._equal(), self._found)

    def _take(self, batch: pa.RecordBatch) -> None:
        """Some spine rows, in order of `first`."""
        of_key = np.asarray(batch.column("first").is_valid())
        keyed = batch if of_key.all() else batch.filter(batch.column("first").is_valid())
        rn, t = (np.asarray(keyed.column(name)) for name in ("rn", "t"))
        counts = {name: np.asarray(keyed.column(name)) for name in COUNTS}
        known = self._index.last_known(counts["first"], counts["steps"], t)
        recent = np.ones(len(known.event), np.bool_)
        if self._join.ttl:
            recent = known.event >= t[known.there] - self._join.ttl
        there = known.there.copy()
        there[there] = recent
        tied, has_tie = known.tied[recent], known.has_tie[recent]
        event, ordinal = known.event[recent], known.ordinal[recent]
        picked = [rn[there], ordinal, event, pa.array(tied, mask=~has_tie)]
        self._load(self._picked, "picked", pa.RecordBatch.from_arrays([pa.array(a) for a in picked], schema=_PICKED))
        self._tied.append(np.unique(ordinal[has_tie]))
        self._found.matched += len(event)
        self._found.same_instant += int((event == t[there]).sum())
        self._found.tied += int(has_tie.sum())
        if len(event) < batch.num_rows:
            lost = ~there
            newest = np.zeros(len(t), np.bool_)
            newest[known.there] = known.newest
            why = self._reasons(
                {name: values[lost] for name, values in counts.items()}, t[lost], known.there[lost], newest[lost]
            )
            self._load_missed(np.concatenate([rn[lost], np.asarray(batch.column("rn"))[~of_key]]), why)

    def _reasons(
        self, counts: dict[str, Ints], t: Ints, known: NDArray[np.bool_], newest: NDArray[np.bool_]
    ) -> NDArray[np.int8]:
        """Why rows of some keys picked nothing.

        Of a row whose event time is within the ttl the time of being known is not reached, or it had matched.
        """
        # where all rows of the key are known none is
        open_ = np.flatnonzero(~newest | (counts["lates"] > 0))
        last = np.full(len(t), NEVER, np.int64)
        last[open_] = self._index.last_event({name: values[open_] for name, values in counts.items()}, t[open_])
        young = last > NEVER
        if self._join.ttl:
            young &= last >= t - self._join.ttl
        return np.where(young | ~known, missing.NOT_KNOWN, missing.EXPIRED).astype(np.int8)

    def _load_missed(self, rn: Ints, why: NDArray[np.int8]) -> None:
        """Note rows that picked nothing, first those of keys that are there."""
        why = np.concatenate([why, np.full(len(rn) - len(why), missing.NOT_FOUND, np.int8)])
        for code, count in zip(*np.unique(why, return_counts=True), strict=True):
            self._found.missed[int(code)] += int(count)
        self._load(self._missed, "why", pa.RecordBatch.from_arrays([pa.array(rn), pa.array(why)], schema=_MISSED))

    def _load(self, tables: list[str], what: str, batch: pa.RecordBatch) -> None:
        name = f"{what}_{self._label}_{len(tables)}"
        self._space.load(name, batch.schema, iter([batch]))
        tables.append(self._space.table(name))

    def _one(self, tables: list[str], what: str) -> str:
        if len(tables) == 1:
            return tables[0]
        parts = [exp.select(exp.Star()).from_(table_named(table)) for table in tables]
        table = created(self._space, f"{what}_{self._label}", union_all(parts))
        self._space.drop(*tables)
        return table

    def _equal(self) -> str | None:
        """The rows that tie with picked ones."""
        if not self._found.tied:
            return None
        heads = pa.array(np.unique(np.concatenate(self._tied)))
        name = f"equal_rows_{self._label}"
        batches = (b.filter(pc.is_in(b.column("head"), heads)) for b in self._index.equal_rows())
        self._space.load(name, EQUAL, batches)
        return self._space.table(name)
