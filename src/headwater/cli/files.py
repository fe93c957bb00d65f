"""Tables in files, told by extension: .parquet, .csv, .json and .jsonl."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from headwater.cli.plain import dumps
from headwater.clock import from_micros, to_micros
from headwater.definitions.csv_format import CSV_NULLS
from headwater.definitions.view import FeatureView
from headwater.errors import DataError, StorageFull, StoreReadOnly, UsageError
from headwater.planning.resolve import resolve
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.value_checks import python_values
from headwater.scratch import whole_file
from headwater.types import DType, String, Timestamp

if TYPE_CHECKING:
    from headwater.offline.result import HistoryResult

READABLE = (".parquet", ".csv", ".json", ".jsonl")
WRITABLE = (".parquet", ".csv")


def source_columns(view: FeatureView) -> dict[str, DType]:
    """The dtype of each column of a view's source that the definition says: keys, times and features."""
    columns = {view.key_column(key): dtype for key, dtype in view.join_keys.items()}
    columns |= {feature.source_column: feature.dtype for feature in view.feature_list}
    times = (view.source.event_time, view.source.created_time, "created_time")
    return columns | {name: Timestamp for name in times if name is not None and name not in columns}


def read_table(path: Path, dtypes: Mapping[str, DType], *, strict: bool = True) -> pa.Table | list[dict[str, Any]]:
    """The rows of a file.

    Args:
        path: a .parquet, .csv, .json (a list of objects) or .jsonl file (an object a line).
        dtypes: the columns known beforehand: text is read as these; any other is as it looks.
        strict: refuse text that is not of its dtype; else it stays text, for `write` to name its row.

    Raises:
        UsageError: another extension.
        DataError: a file that is missing or unreadable, or text that is not of its dtype, with its place.
    """
    check_extension(path, READABLE)
    try:
        match path.suffix.lower():
            case ".parquet":
                return pyarrow.parquet.read_table(path, partitioning=None)
            case ".csv":
                return _read_csv(path, dtypes, strict)
            case ".jsonl":
                return _typed_rows(path, _json_lines(path), dtypes, strict)
            case _:
                return _typed_rows(path, _json_rows(path), dtypes, strict)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as bad:
        raise DataError(f"{path}: {bad}") from bad


def check_extension(path: Path, allowed: tuple[str, ...]) -> None:
    """Refuse a file of another kind.

    Raises:
        UsageError: naming the kinds.
    """
    if path.suffix.lower() not in allowed:
        raise UsageError(f"{path}: the kind of a file is told by its name: use one of {', '.join(allowed)}")


def _read_csv(path: Path, dtypes: Mapping[str, DType], strict: bool) -> pa.Table | list[dict[str, Any]]:
    """Columns that are known are read as text and cast one by one, so that an error names column, row and value."""
    options = pyarrow.csv.ConvertOptions(
        column_types={name: pa.string() for name in dtypes}, null_values=list(CSV_NULLS), strings_can_be_null=True
    )
    table = pyarrow.csv.read_csv(path, convert_options=options)
    columns = {
        name: _cast(path, name, table[name], dtypes[name], strict) if name in dtypes else table[name]
        for name in table.column_names
    }
    if not any(isinstance(column, list) for column in columns.values()):
        return pa.table(columns)
    lists = [column if isinstance(column, list) else column.to_pylist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _cast(
    path: Path, name: str, column: pa.ChunkedArray, dtype: DType, strict: bool
) -> pa.ChunkedArray | pa.Array | list[Any]:
    """A column of text as its dtype; a list, the bad texts in it as they are, where not strict."""
    if dtype == String:
        return column
    if dtype.name not in ("timestamp", "date", "array", "embedding", "bytes"):
        with contextlib.suppress(pa.ArrowInvalid):
            return column.cast(dtype.arrow)
    values: list[Any] = []
    bad = False
    for row, text in enumerate(column.to_pylist()):
        try:
            values.append(None if text is None else from_text(text, dtype))
        except (ValueError, pa.ArrowInvalid):
            if strict:
                raise DataError(f"{path}: row {row}, column {name!r}: {text!r} is not {dtype}") from None
            bad = True
            values.append(text)
    return values if bad else pa.array(values, dtype.arrow)


def from_text(text: str, dtype: DType) -> Any:
    """The value that a text of a CSV or JSON file stands for; arrays and embeddings are JSON, bytes UTF-8.

    Raises:
        ValueError: text that is not of that dtype.
    """
    match dtype.name:
        case "timestamp":
            return from_micros(to_micros(text))
        case "date":
            return date.fromisoformat(text)
        case "array" | "embedding":
            return json.loads(text)
        case "bytes":
            return text.encode()
        case "string":
            return text
    return pa.array([text]).cast(dtype.arrow)[0].as_py()


def _json_rows(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as bad:
        raise DataError(f"{path}: not JSON: {bad}") from None
    if isinstance(rows, dict):
        rows = [rows]
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a {type(rows).__name__}; give a list of objects")
    return rows


def _json_lines(path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as bad:
                raise DataError(f"{path}: line {number}: not JSON: {bad}") from None
    return rows


def _typed_rows(path: Path, rows: Iterable[Any], dtypes: Mapping[str, DType], strict: bool) -> list[dict[str, Any]]:
    """JSON has no times, dates or bytes: text in such a column is read as one."""
    typed = {name: dtype for name, dtype in dtypes.items() if dtype.name in ("timestamp", "date", "bytes")}
    found = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number} is {json.dumps(row)[:40]}; give objects with the source's columns")
        for name in typed.keys() & row.keys():
            if isinstance(row[name], str):
                try:
                    row[name] = from_text(row[name], typed[name])
                except ValueError:
                    if strict:
                        place = f"{path}: row {number}, column {name!r}"
                        raise DataError(f"{place}: {row[name]!r} is not {typed[name]}") from None
        found.append(row)
    return found


def write_csv(path: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Write batches as they come; the file is there whole, or not at all.

    Lists are written as JSON, bytes in hexadecimal.

    Returns:
        How many rows were written.

    Raises:
        StoreReadOnly: the folder cannot be written.
        StorageFull: no room is left.
    """
    rows, writer = 0, None
    with _whole_or_not(path) as partial, contextlib.ExitStack() as stack:
        for batch in batches:
            flat = _flat(batch)
            writer = writer or stack.enter_context(pyarrow.csv.CSVWriter(partial, flat.schema))
            writer.write_batch(flat)
            rows += batch.num_rows
    return rows


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns that CSV can hold."""
    columns = []
    for column in batch.columns:
        if pa.types.is_nested(column.type):
            column = pa.array([None if v is None else dumps(v, indent=None) for v in column.to_pylist()], pa.string())
        elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            column = pa.array([None if v is None else v.hex() for v in column.to_pylist()], pa.string())
        elif pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_float32(column.type):
            column = column.cast(pa.float64())  # the same number for whoever reads its text
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


@contextlib.contextmanager
def _whole_or_not(path: Path) -> Iterator[Path]:
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


def read_spine(spine: str | None, snapshot: RegistrySnapshot, features: list[str] | str) -> Any:
    """What `get_historical_features` takes: the path of a Parquet file, a table of a CSV file, SQL, or None.

    Args:
        spine: as typed.
        snapshot: the registry; says which of a CSV file's columns are keys, and of which type.
        features: as asked for.

    Raises:
        DataError: a file that is missing or unreadable.
    """
    if spine is None or (len(spine.split()) > 1 and Path(spine).suffix.lower() not in WRITABLE):
        return spine
    path = Path(spine)
    check_extension(path, WRITABLE)
    if not path.is_file():
        raise DataError(f"{path}: no such file (SQL is told by its spaces: \"SELECT … FROM 'spine.parquet'\")")
    if path.suffix.lower() == ".parquet":
        return str(path.resolve())
    times = dict.fromkeys(("timestamp", "event_timestamp"), Timestamp)
    return read_table(path, times | resolve(snapshot, features).join_keys)


def write_result(result: HistoryResult, out: Path | None, first: int | None) -> Taken:
    """Run a history through: into a file that is there whole or not at all, or to be looked at.

    Args:
        result: the history.
        out: a .parquet or .csv file; None keeps rows instead.
        first: how many rows to keep; None keeps all.
    """
    if out is None:
        return _looked_at(result, first)
    if out.suffix.lower() == ".parquet":
        result.to_parquet(out)
        return Taken(pyarrow.parquet.read_metadata(out).num_rows)
    return Taken(write_csv(out, result.to_batches()))


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
