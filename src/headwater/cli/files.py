"""Tables in files, by their extension: .parquet, .csv, .json and .jsonl."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from headwater.cli.plain import plain
from headwater.definitions.csv_format import QUOTABLE, CSVFormat, csv_format
from headwater.definitions.csv_nulls import CSV_NULLS
from headwater.definitions.view import FeatureView
from headwater.errors import DataError, SourceError, StorageFull, StoreReadOnly, UsageError, brief
from headwater.offline.files.csv_files import Quoted, quoted_field, read_header, read_rows
from headwater.offline.files.json_files import read_json_rows
from headwater.offline.join.spine import TIMESTAMPS
from headwater.offline.result_folder import is_url
from headwater.planning.resolve import resolve
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.text_hints import text_hint
from headwater.planning.text_values import PLAIN, Misread, given_time_of_text, text_in_json, value_of_text
from headwater.planning.value_checks import python_values
from headwater.scratch import whole_file
from headwater.types import DType, String, Timestamp, leaf_dtype

if TYPE_CHECKING:
    from headwater.offline.join.result import HistoryResult

Columns: TypeAlias = dict[str, pa.Array | list[Any]]
"""Columns by their names; lists where naive and aware times, or other kinds of values, may be together."""

READABLE = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
WRITABLE = (".parquet", ".csv")


def csv_options(given: Sequence[str]) -> CSVFormat:
    """The format that `--csv delimiter=';' --csv decimal=,` says.

    Raises:
        UsageError: an option that does not exist, is given twice, or does not take its value.
    """
    options: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--csv {brief(text)}: write --csv NAME=VALUE, such as --csv delimiter=';'")
        if name.strip() in options:
            raise UsageError(f"--csv {name.strip()}: given twice")
        options[name.strip()] = value
    return csv_format(options)


def source_columns(view: FeatureView) -> dict[str, DType]:
    """The dtype of each column of a view's source that the definition says: keys, times, features, its schema."""
    columns = dict(getattr(view.source, "schema", None) or {})
    columns |= {view.key_column(key): dtype for key, dtype in view.join_keys.items()}
    columns |= view.source_columns
    return columns | {name: Timestamp for name in source_times(view) if name not in columns}


def source_times(view: FeatureView) -> frozenset[str]:
    """The columns of a view's source that say when a row became true, was known, and ends."""
    return frozenset({*view.source.times, "created_time"})


def read_table(
    path: Path,
    dtypes: Mapping[str, DType],
    *,
    times: Collection[str] = (),
    form: CSVFormat = PLAIN,
    strict: bool = True,
) -> pa.Table | Columns | list[dict[str, Any]]:
    """The rows of a file. Times without an offset are naive: which zone they are of is for the source to say.

    Args:
        path: a .parquet, .csv (.tsv), .json (a list of objects) or .jsonl file (an object a line).
        dtypes: the columns known beforehand: text is read as these; any other column of a CSV is text.
        times: of these the event and created times: finer than a microsecond, they are rounded up.
        form: how a CSV is written.
        strict: refuse text that is not of its dtype; else it stays text, for `write` to name its row.

    Raises:
        UsageError: another extension.
        DataError: a file that is missing or unreadable, or text that is not of its dtype, with its line.
    """
    check_extension(path, READABLE)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        match path.suffix.lower():
            case ".parquet":
                return pyarrow.parquet.read_table(path, partitioning=None)
            case ".csv" | ".tsv" | ".tab":
                _refuse_twice(path, form, {*dtypes, *TIMESTAMPS})
                columns = _typed_columns(path, read_text(path, form), dtypes, form, strict, dict.fromkeys(times, 1))
                return columns if any(isinstance(column, list) for column in columns.values()) else pa.table(columns)
            case kind:
                rows = read_json_rows(str(path), kind in (".jsonl", ".ndjson"), "")
                return _typed_rows(path, rows, dtypes, strict, times)
    except (pa.ArrowException, OSError) as bad:
        raise DataError(f"{path}: {bad}") from bad
    except SourceError as bad:
        raise DataError(str(bad).removeprefix(": ")) from None


def _refuse_twice(path: Path, form: CSVFormat, used: Collection[str]) -> None:
    """Refuse a file in which a column that is read by its name is there twice.

    Raises:
        DataError: naming the column and its numbers.
    """
    for name, numbers in read_header(str(path), form, "").repeated.items():
        if name in used:
            columns = " and ".join(map(str, numbers))
            raise DataError(f"{path}: two columns are named {name!r} (columns {columns}): rename one")


@dataclass(frozen=True)
class TextRows:
    """A CSV file's rows as text.

    Attributes:
        names: the columns.
        columns: of each the texts, those that mean NULL among them.
        lines: the line in which each row begins.
    """

    names: list[str]
    columns: list[list[str]]
    lines: list[int]


def read_text(path: Path, form: CSVFormat) -> TextRows:
    """The rows of a CSV file as text.

    Raises:
        SourceError: a file that cannot be read, with the line.
    """
    file = str(path)
    names = list(read_header(file, form, "").names)
    rows = list(read_rows(file, form, ""))[1 if form.header else 0 :]
    columns = [list(column) for column in zip(*(row for _, row in rows), strict=True)]
    return TextRows(names, columns or [[] for _ in names], [line for line, _ in rows])


def _typed_columns(
    path: Path,
    text: TextRows,
    dtypes: Mapping[str, DType],
    form: CSVFormat,
    strict: bool,
    finer: Mapping[str, int],
) -> Columns:
    """Columns that are known in their dtypes; lists of times, and of values among which text that is none stays."""
    nulls = frozenset(form.nulls)
    columns: Columns = {}
    for name, texts in zip(text.names, text.columns, strict=True):
        dtype = dtypes.get(name, String)
        loose = leaf_dtype(dtype).name == "timestamp"
        values: list[Any] = []
        for row, given in enumerate(texts):
            try:
                if given in nulls and not (dtype.name in QUOTABLE and isinstance(given, Quoted)):
                    values.append(None)
                elif dtype.name == "timestamp":
                    values.append(given_time_of_text(given, form.times, finer=finer.get(name, 0)))
                elif dtype.name == "array" and leaf_dtype(dtype).name == "timestamp":
                    values.append(text_in_json(json.loads(given), dtype))
                else:
                    values.append(value_of_text(str(given), dtype, form))
            except ValueError:
                hint = text_hint(given, dtype, form, name, command=True)
                if strict:
                    place = f"{path}: line {text.lines[row]}, column {name!r}"
                    raise DataError(f"{place}: {brief(given)} is not {dtype}{hint}") from None
                loose = True
                values.append(Misread(given, hint))
        columns[name] = values if loose else pa.array(values, dtype.arrow)
    return columns


def check_output(out: str) -> None:
    """Refuse an output of another kind than those that `write_result` writes.

    Raises:
        UsageError: naming the kinds.
    """
    if not is_url(out):
        check_extension(Path(out), WRITABLE)


def check_extension(path: Path, allowed: tuple[str, ...]) -> None:
    """Refuse a file of another kind.

    Raises:
        UsageError: naming the kinds.
    """
    if path.suffix.lower() not in allowed:
        raise UsageError(f"{path}: unsupported file extension: use one of {', '.join(allowed)}")


def _typed_rows(
    path: Path,
    rows: Iterable[tuple[str, dict[str, Any]]],
    dtypes: Mapping[str, DType],
    strict: bool,
    times: Collection[str],
) -> list[dict[str, Any]]:
    """JSON has no times, dates or bytes: text in such a column is read as one."""
    typed = {name: d for name, d in dtypes.items() if (d.element or d).name in ("timestamp", "date", "bytes")}
    found = []
    for place, row in rows:
        for name in typed.keys() & row.keys():
            try:
                row[name] = text_in_json(row[name], typed[name], finer=int(name in times))
            except ValueError:
                if strict:
                    what = f"{brief(row[name])} is not {typed[name]}"
                    raise DataError(f"{path}: {place}, column {name!r}: {what}") from None
        found.append(row)
    return found


def write_csv(path: Path, batches: Iterable[pa.RecordBatch], written: Mapping[str, Sequence[str]] | None = None) -> int:
    """Write batches as they come; the file is there whole, or not at all.

    What is written is read back as the same values: NULL is an empty field, a text that would mean NULL is in quotes,
    lists are JSON, bytes `0x` and hex digits; floats that would be taken for integers too great have a decimal mark.

    Args:
        path: the file.
        batches: the rows.
        written: columns that are written as these texts, row by row; in quotes where they are `Quoted`, or have to be.

    Returns:
        How many rows were written.

    Raises:
        StoreReadOnly: the folder cannot be written.
        StorageFull: no room is left.
    """
    rows, named = 0, False
    with _whole_or_not(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        for batch in batches:
            if not named:
                file.write(",".join(map(_given_field, batch.schema.names)) + "\n")
                named = True
            end = rows + batch.num_rows
            columns = [
                pa.array(map(_given_field, written[name][rows:end]), pa.string())
                if written and name in written
                else _fields(column)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            file.writelines(f"{line}\n" for line in pc.binary_join_element_wise(*columns, ",").to_pylist())
            rows = end
    return rows


_QUOTED = r'[",\r\n]'
_LOOKS_WHOLE = r"^-?[0-9]{8,}$"


def _given_field(text: str) -> str:
    """A text as a field, in quotes where it needs them."""
    return quoted_field(text) if isinstance(text, Quoted) or re.search(_QUOTED, text) else text


def _fields(column: pa.Array) -> pa.Array:
    """Values as fields of a CSV file."""
    texts = _texts(column)
    if pa.types.is_primitive(column.type):
        return pc.fill_null(texts, "")
    in_quotes = pc.or_(pc.match_substring_regex(texts, _QUOTED), pc.is_in(texts, pa.array(CSV_NULLS)))
    if pc.any(in_quotes).as_py():
        doubled = pc.replace_substring(texts, '"', '""')
        texts = pc.if_else(in_quotes, pc.binary_join_element_wise('"', doubled, '"', ""), texts)
    return pc.fill_null(texts, "")


def _texts(column: pa.Array) -> pa.Array:
    """Values as CSV holds them."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_nested(column.type):
        listed = column.to_pylist()
        return pa.array(
            [None if v is None else json.dumps(_in_list(v), ensure_ascii=False) for v in listed], pa.string()
        )
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return pa.array([None if v is None else f"0x{v.hex()}" for v in column.to_pylist()], pa.string())
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    texts = column.cast(pa.float64()).cast(pa.string())  # a float32 is the same number for whoever reads its text
    whole = pc.match_substring_regex(texts, _LOOKS_WHOLE)
    return pc.if_else(whole, pc.binary_join_element_wise(texts, "0", "."), texts) if pc.any(whole).as_py() else texts


def _in_list(value: Any) -> Any:
    """A value of a list: bytes as in a column of them, NaN and the infinities as numbers."""
    match value:
        case bytes():
            return f"0x{value.hex()}"
        case list():
            return [_in_list(item) for item in value]
        case float():
            return value
    return plain(value)


def _check_folder(path: Path) -> None:
    """Refuse a file in a folder that does not exist.

    Raises:
        StoreReadOnly: naming the folder.
    """
    if not path.parent.is_dir():
        raise StoreReadOnly(f"{path}: cannot write: folder {path.parent} does not exist; create it first")


@contextlib.contextmanager
def _whole_or_not(path: Path) -> Iterator[Path]:
    _check_folder(path)
    try:
        with whole_file(path) as partial:
            yield partial
    except OSError as bad:
        kind = StorageFull if bad.errno == 28 else StoreReadOnly
        raise kind(f"{path}: cannot write: {bad}") from bad


@dataclass(frozen=True)
class Taken:
    """How many rows a result had; the first of them where they were not written to a file, and their columns' types."""

    rows: int
    first: list[dict[str, Any]] = field(default_factory=list)
    kinds: list[pa.DataType] = field(default_factory=list)


@dataclass(frozen=True)
class SpineFile:
    """A spine as `get_historical_features` takes it.

    Attributes:
        rows: what is given.
        texts: column → its texts, as a CSV file has them.
    """

    rows: Any
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_spine(
    spine: str | None,
    snapshot: RegistrySnapshot,
    features: list[str] | str,
    timestamp: str | None = None,
    form: CSVFormat = PLAIN,
) -> SpineFile:
    """The path of a Parquet file, the rows of a CSV file, SQL, or None.

    Keys, times and request fields of a CSV file are read as such; everything else in it is text, and is written as it
    was given. Of columns of text only the empty text is NULL, unless the format names others.

    Args:
        spine: as typed.
        snapshot: the registry; says which of a CSV file's columns are keys or request fields, and of which type.
        features: as asked for.
        timestamp: the time column; None: `timestamp` or `event_timestamp`.
        form: how a CSV file is written.

    Raises:
        DataError: a file that is missing or unreadable.
    """
    if spine is None or (len(spine.split()) > 1 and Path(spine).suffix.lower() not in WRITABLE):
        return SpineFile(spine)
    path = Path(spine)
    check_extension(path, WRITABLE)
    if not path.is_file():
        raise DataError(f"{path}: no such file (SQL is recognized by its spaces: \"SELECT … FROM 'spine.parquet'\")")
    if path.suffix.lower() == ".parquet":
        return SpineFile(str(path.resolve()))
    times = dict.fromkeys((timestamp,) if timestamp is not None else ("timestamp", "event_timestamp"), Timestamp)
    asked = resolve(snapshot, features, history=True)
    dtypes = times | asked.request_fields | asked.join_keys
    try:
        text = read_text(path, form)
    except SourceError as bad:
        raise DataError(str(bad).removeprefix(": ")) from None
    texts = dict(zip(text.names, text.columns, strict=True))
    plain = {name for name in text.names if dtypes.get(name, String) == String}
    only_empty = replace(form, nulls=("",)) if form.nulls == CSV_NULLS else form
    columns: Columns = {}
    finer = dict.fromkeys(times, -1)
    for name in text.names:
        one = TextRows([name], [texts[name]], text.lines)
        columns |= _typed_columns(path, one, dtypes, only_empty if name in plain else form, True, finer)
    return SpineFile(columns, texts)


def write_result(
    result: HistoryResult, out: str | None, first: int | None, texts: Mapping[str, Sequence[str]] | None = None
) -> Taken:
    """Run a history through: into a file that is there whole or not at all, or to be looked at.

    Args:
        result: the history.
        out: a .parquet or .csv file, or the URL of a folder; None keeps rows instead.
        first: how many rows to keep; None keeps all.
        texts: the spine's columns as its CSV file has them: another CSV file gets them unchanged.
    """
    if out is None:
        return _looked_at(result, first)
    if is_url(out):
        result.to_parquet(out)
        return Taken(len(result))
    _check_folder(Path(out))
    if out.lower().endswith(".parquet"):
        result.to_parquet(out)
        return Taken(len(result))
    return Taken(write_csv(Path(out), result.to_batches(), texts))


def _looked_at(result: HistoryResult, first: int | None) -> Taken:
    rows = 0
    kept: list[dict[str, Any]] = []
    kinds: list[pa.DataType] = []
    for batch in result.to_batches():
        rows += batch.num_rows
        if first is None or len(kept) < first:
            some = batch.slice(0, None if first is None else first - len(kept))
            columns, kinds = [python_values(column) for column in some.columns], some.schema.types
            kept += [dict(zip(some.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]
    return Taken(rows, kept, kinds)
