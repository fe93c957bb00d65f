"""Naive times of a source with a time zone, in DuckDB's words: the rule of `planning.local_time` in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import gcd

import pyarrow as pa

from headwater.clock import FIRST_MICROS, LAST_MICROS, YEARS
from headwater.definitions.source import Source
from headwater.errors import printable
from headwater.offline.engines.duckdb.opened import ROW, Branch, Opened, Session, Wanted, schema_of
from headwater.offline.engines.duckdb.words import FAILED, name_sql, row_sql, text_sql
from headwater.offline.pieces import Pieces
from headwater.offline.words import Place
from headwater.planning.local_time import REPEATED, SKIPPED, LocalTimes, source_times
from headwater.types import is_list, leaf_dtype, leaf_type

_A_DAY = 86_400_000_000
_UTC = pa.timestamp("us", tz="UTC")


def source_zone(source: Source) -> LocalTimes | None:
    """The local times of a source's naive times; None: they are UTC."""
    return source_times(source.timezone)


class _DuckDBPieces(Pieces):
    """See `Pieces`."""

    def item(self, numbers: Sequence[int], position: str) -> str:
        # they are one constant, in the largest unit that all are multiples of: it costs less to plan than one each
        unit = gcd(*numbers) or 1
        times = f" * {unit}" if unit > 1 else ""
        return f"(CAST('[{','.join(str(number // unit) for number in numbers)}]' AS BIGINT[])[{position}]{times})"

    def shifted(self, number: str, bits: int) -> str:
        return f"{number} >> {bits}"


_PIECES = _DuckDBPieces()
instant_sql, kind_sql = _PIECES.instant, _PIECES.kind


def bound_sql(expression: str, value: Callable[[str], str]) -> str:
    """What is made of an expression that is evaluated once.

    Args:
        expression: one that costs much.
        value: what is made of the name that it gets.
    """
    return f"list_transform([{expression}], lambda w: {value('w')})[1]"


def day_sql(instant: str, zone: LocalTimes | None) -> str:
    """The date in a zone (None: UTC) of an instant in microseconds since 1970, an expression that costs little."""
    if zone is None:
        return f"CAST(make_timestamp({instant}) AS DATE)"
    starts, offsets = zone.changes
    return f"CAST(make_timestamp({instant} + {_PIECES.item(offsets, _PIECES.piece(instant, starts))}) AS DATE)"


def within_day_sql(instant: str, zone: LocalTimes | None) -> str:
    """Whether an instant is not the one that its date is as a time."""
    midnight = f"epoch_us({day_sql(instant, zone)})"
    if zone is None:
        return f"{midnight} <> {instant}"
    return f"{bound_sql(midnight, lambda local: instant_sql(local, zone))} <> {instant}"


def in_zone(session: Session, source: Source, opened: Opened, wanted: Wanted, where: str) -> Opened:
    """A source whose naive times are instants, by its time zone."""
    zone = source_zone(source)
    types = dict(zip(opened.schema.names, opened.schema.types, strict=True))
    naive = [name for name in wanted.columns if name in types and _is_naive(name, types[name], wanted)]
    if zone is None or not naive:
        return opened
    place = session.place(name_sql(opened.row) if opened.row == ROW else opened.row, opened.rows)
    instants = {name: _instants(name, types[name], wanted.times, zone, where, place) for name in naive}
    replaced = [f"{instant} AS {name_sql(name)}" for name, instant in instants.items()]
    kinds = [kind_sql(_local(name_sql(name), types[name]), zone) for name in naive if name in wanted.times]
    repeated, skipped = count_changes(session, opened.name, kinds)
    row = f", rowid AS {ROW}" if opened.row == "rowid" else ""
    views: dict[str, str] = {}
    for name in dict.fromkeys([opened.name, *(branch.name for branch in opened.branches)]):
        views[name] = session.name("local")
        session.run(f"CREATE VIEW {views[name]} AS SELECT * REPLACE ({', '.join(replaced)}){row} FROM {name}")
    return replace(
        opened,
        name=views[opened.name],
        schema=pa.schema([pa.field(f.name, _in_utc(f.type)) if f.name in naive else f for f in opened.schema]),
        row=ROW,
        dates=frozenset(name for name in naive if pa.types.is_date(types[name])),
        # what footers say of these columns is in local time
        footers=(),
        branches=tuple(Branch(views[b.name], b.whole, b.condition) for b in opened.branches),
        repeated_times=opened.repeated_times + repeated,
        skipped_times=opened.skipped_times + skipped,
    )


def offset_problem(text: str, outer: str, kind: str) -> str:
    """What an error says of a time with an offset among times that the query's zone is to settle."""
    return (
        f"{printable(text[:200])!r} is written with its offset, and the query takes times of this table as naive ones "
        f"of its timezone={outer!r}; state timezone= on the {kind} of the table instead: each time is an instant then"
    )


def query_in_zone(session: Session, query: str, zone: LocalTimes | None, where: str) -> str:
    """What a query of another query's table names: naive timestamps are instants of the table's own time zone.

    Args:
        session: the names of one run.
        query: the table's rows.
        zone: the table's; None: UTC.
        where: for errors.
    """
    schema = schema_of(session, query, where)
    naive = [f for f in schema if pa.types.is_timestamp(leaf_type(f.type)) and leaf_type(f.type).tz is None]
    if not naive:
        return query
    instants = {f.name: _instants(f.name, f.type, (f.name,), zone, where) for f in naive}
    replaced = [f"{instant} AS {name_sql(name)}" for name, instant in instants.items()]
    return f"SELECT * REPLACE ({', '.join(replaced)}) FROM ({query})"


def count_changes(session: Session, table: str, kinds: Iterable[str]) -> tuple[int, int]:
    """How many times of a table are in an hour that a clock change repeats, and how many in one that it skips.

    Args:
        session: the names of one run.
        table: its name.
        kinds: of each time column what `kind_sql` says.
    """
    repeated = skipped = 0
    for kind in kinds:
        ((one, two),) = session.fetch(
            f"SELECT count(*) FILTER (kind = {REPEATED}), count(*) FILTER (kind = {SKIPPED}) "
            f"FROM (SELECT {kind} AS kind FROM {table})"
        )
        repeated, skipped = repeated + one, skipped + two
    return repeated, skipped


def _is_naive(name: str, kind: pa.DataType, wanted: Wanted) -> bool:
    if pa.types.is_date(kind):
        return name in wanted.times
    leaf = leaf_type(kind)
    if not pa.types.is_timestamp(leaf) or leaf.tz is not None:
        return False
    dtypes = [wanted.keys.get(name), *wanted.values.get(name, ())]
    return name in wanted.times or any(d is not None and leaf_dtype(d).name == "timestamp" for d in dtypes)


def _in_utc(kind: pa.DataType) -> pa.DataType:
    return pa.list_(_in_utc(kind.value_type)) if is_list(kind) else _UTC


def _instants(
    name: str, kind: pa.DataType, times: Sequence[str], zone: LocalTimes | None, where: str, place: Place | None = None
) -> str:
    """A column's instants, those in its lists too; a zone of None is UTC."""

    def of(sql: str, kind: pa.DataType, depth: int) -> str:
        if is_list(kind):
            inside = of(f"e{depth}", kind.value_type, depth + 1)
            return f"list_transform({sql}, LAMBDA e{depth} : {inside})"
        if zone is None:
            return f"make_timestamptz({_local(sql, kind)})"
        return _instant(sql, name, kind, times, zone, where, place)

    return of(name_sql(name), kind, 0)


def _local(sql: str, kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        # rounded up, as all times of sources are
        nanos = f"epoch_ns({sql})"
        return f"CASE WHEN {nanos} > 0 THEN ({nanos} - 1) // 1000 + 1 ELSE {nanos} // 1000 END"
    return f"epoch_us({sql})"


def _instant(
    sql: str, name: str, kind: pa.DataType, times: Sequence[str], zone: LocalTimes, where: str, place: Place | None
) -> str:
    local = _local(sql, kind)
    # near the first and the last year clocks do not change: the lists of changes, which cost to plan, stand once
    far = f"({local} - CASE WHEN {local} < 0 THEN {zone.offsets[0]} ELSE {zone.offsets[-1]} END)"
    column = f"{FAILED}{where}: column {name!r} ({kind}): "
    shown = f"CAST({sql} AS VARCHAR){row_sql(place)}"
    beyond = text_sql(f" is {YEARS} as an instant: it is a time of {zone.name}; leave out such rows, or give NULL")
    instant = (
        f"CASE WHEN {local} BETWEEN {FIRST_MICROS + _A_DAY} AND {LAST_MICROS - _A_DAY} "
        f"THEN make_timestamptz({instant_sql(local, zone)}) "
        f"WHEN {far} BETWEEN {FIRST_MICROS} AND {LAST_MICROS} THEN make_timestamptz({far}) "
        f"WHEN {sql} IS NOT NULL THEN error({text_sql(column)} || {shown} || {beyond}) END"
    )
    if name in times or not pa.types.is_timestamp(kind) or kind.unit != "ns":
        return instant
    failed = f"error({text_sql(column)} || {shown} || {text_sql(' does not fit timestamp: finer than a microsecond')})"
    return f"CASE WHEN epoch_ns({sql}) % 1000 <> 0 THEN {failed} ELSE {instant} END"
