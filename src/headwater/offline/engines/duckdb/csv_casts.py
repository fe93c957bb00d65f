"""The text of CSV files in the declared dtypes; what does not fit is named by file, line and column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from headwater.definitions.csv_format import QUOTABLE
from headwater.errors import SourceError, printable
from headwater.offline.engines.duckdb.csv_text import CSVFiles
from headwater.offline.engines.duckdb.opened import (
    FILE,
    ROW,
    Session,
    Wanted,
)
from headwater.offline.engines.duckdb.text import cast_text, cast_time, misfits, present, with_offset
from headwater.offline.engines.duckdb.zones import offset_problem, source_zone
from headwater.offline.files.csv_files import (
    line_of_row,
)
from headwater.planning.local_time import LocalTimes
from headwater.planning.text_hints import text_hint
from headwater.planning.text_values import PLAIN, value_of_text
from headwater.types import DType, Timestamp

_BATCH = 10_000


@dataclass(frozen=True)
class _Cast:
    """One column's text in its dtype.

    Attributes:
        column: its name.
        text: the column of its text.
        value: the expression of its value; NULL where the text has none.
        what: what the text has to be, for errors.
        dtype: what it becomes.
        nulls: texts that mean NULL in quotes too.
        checked: whether its texts were looked at already.
    """

    column: str
    text: str
    value: str
    what: str
    dtype: DType
    nulls: Sequence[str]
    checked: bool = False


def casts_of(session: Session, found: CSVFiles, wanted: Wanted, raw: str) -> tuple[dict[str, _Cast], list[str]]:
    """Column → its text in its dtype; and what is wrong with lists, which are parsed in Python."""
    form, zone = found.source.format, source_zone(found.source)
    casts: dict[str, _Cast] = {}
    problems: list[str] = []
    for i, column in enumerate(wanted.columns):
        dtype, time, text = wanted.declared(column, "CSV", found.where), column in wanted.times, f"c{i}"
        # in quotes they are texts to DuckDB; a folder's name is itself
        quoted = form.nulls if form.keeps_quoted and dtype.name not in QUOTABLE and column not in found.parts else ()
        listed = dtype.name in ("array", "embedding")
        if listed:
            bad, value = _lists(session, raw, text, dtype, zone, quoted)
        else:
            bad, value = [], cast_time(text, form, zone) if time else cast_text(text, dtype, form, zone)
            value = f"CASE WHEN {present(text, quoted)} THEN {value} END" if quoted else value
        casts[column] = _Cast(column, text, value, "a time" if time else str(dtype), dtype, quoted, listed)
        problems += [_problem(session, found, raw, casts[column], *row) for row in bad]
    return casts, problems


def check_casts(
    session: Session, found: CSVFiles, raw: str, typed: str, casts: Mapping[str, _Cast], problems: list[str]
) -> None:
    """Refuse text that has no value of its dtype; all such columns at once.

    Args:
        session: the names of one run.
        found: the files.
        raw: the table of texts.
        typed: the table of values.
        casts: a column of `typed` → what it was made of.
        problems: what is wrong so far.

    Raises:
        SourceError: with file, line and column of each column's first.
    """
    looked = {name: cast for name, cast in casts.items() if not cast.checked}
    if looked:
        # where as many values are there as texts, none has to be looked for, which costs another cast of each
        texts = [f"count(*) FILTER ({present(cast.text, cast.nulls)})" for cast in looked.values()]
        (there,) = session.fetch(f"SELECT {', '.join(texts)} FROM {raw}")
        (values,) = session.fetch(f"SELECT {', '.join(f'count({name})' for name in looked)} FROM {typed}")
        for cast, some, all_of_them in zip(looked.values(), values, there, strict=True):
            bad = session.fetch(misfits(cast.text, cast.value, raw, ROW, cast.nulls)) if some < all_of_them else ()
            problems += [_problem(session, found, raw, cast, *row) for row in bad]
    if problems:
        raise SourceError(f"{found.where}: {'; '.join(problems)}; correct the values, or list them in nulls=(…)")


def _problem(session: Session, found: CSVFiles, raw: str, cast: _Cast, row: int, value: str) -> str:
    dtype = Timestamp if cast.what == "a time" else cast.dtype
    hint = text_hint(value, dtype, found.source.format, cast.column)
    said = f"{printable(value[:200])!r} is not {cast.what}{hint}"
    return f"{_line(session, found, raw, row)}, column {cast.column!r}: {said}"


def check_naive(session: Session, found: CSVFiles, wanted: Wanted, raw: str, outer: str) -> None:
    """Refuse times with an offset in a column that stays naive: the query would take them for times of its zone.

    Raises:
        SourceError: naming file, line and column.
    """
    form = found.source.format
    for i, column in enumerate(wanted.columns):
        if wanted.declared(column, "CSV", found.where) != Timestamp or not form.times.has_offset:
            continue
        for row, value in session.fetch(with_offset(f"c{i}", form, raw, ROW)):
            raise SourceError(
                f"{found.where}: {_line(session, found, raw, row)}, column {column!r}: "
                f"{offset_problem(value, outer, 'CSVSource')}"
            )


def _lists(
    session: Session, raw: str, text: str, dtype: DType, zone: LocalTimes | None, nulls: Sequence[str]
) -> tuple[list[tuple[int, str]], str]:
    """The first text that is not a list, and the expression of the lists: they are parsed in Python, into a table."""
    bad: list[tuple[int, str]] = []

    def batches() -> Iterator[pa.RecordBatch]:
        first = 0
        while rows := session.fetch(
            f"SELECT {text} FROM {raw} WHERE {ROW} >= {first} AND {ROW} < {first + _BATCH} ORDER BY {ROW}"
        ):
            values: list[Any] = []
            for i, (value,) in enumerate(rows, first):
                try:
                    missing = value is None or value in nulls
                    values.append(None if missing else value_of_text(value, dtype, PLAIN, zone))
                except ValueError:
                    values.append(None)
                    bad[:] = bad or [(i, value)]
            yield pa.record_batch({ROW: range(first, first + len(rows)), "value": pa.array(values, dtype.arrow)})
            first += len(rows)

    label = session.name("lists")
    made = list(batches())
    schema = pa.schema([(ROW, pa.int64()), ("value", dtype.arrow)])
    session.load(label, schema, iter(made))
    return bad, f"(SELECT value FROM {session.table(label)} AS lists WHERE lists.{ROW} = {raw}.{ROW})"


def _line(session: Session, found: CSVFiles, raw: str, row: int) -> str:
    """The file and line in which a row begins."""
    ((index, first),) = session.fetch(
        f"SELECT {FILE}, min({ROW}) FROM {raw} GROUP BY 1 HAVING min({ROW}) <= {row} AND max({ROW}) >= {row}"
    )
    file = found.files[index].location
    return f"{file}: line {line_of_row(file, found.source.format, row - first, found.where)}"
