"""Results as JSON documents, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.clock import FIRST_MICROS, LAST_MICROS, from_micros, to_micros
from headwater.online.reading.array_rows import RowTimes
from headwater.online.reading.entities import EntityBatch
from headwater.online.reading.result import OnlineResult
from headwater.online.reading.view_read import ReadRequest
from headwater.types import STATUSES, Status, Timestamp
from headwater.wire.json_values import column_writer, from_json, plain_numbers, to_json
from headwater.wire.number_texts import NumberTexts
from headwater.wire.results import (
    ReceivedRequest,
    check_entities,
    damage_documents,
    received,
    schema_of,
)

STATUSES_ALONE = ("statuses",)
"""What an answer has beside the columns unless a request says otherwise."""
NEEDED = ("statuses", "event_times", "created_times", "read_at", "problems", "schema")
"""What a result is made again from."""
Writer: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
_PRESENT = STATUSES.index(Status.PRESENT)
_QUOTED = [msgspec.json.encode(status) for status in STATUSES]
_NOTHING = msgspec.Raw(b"[]")
_ENCODE = msgspec.json.Encoder().encode


def encoded_result(result: OnlineResult, include: Sequence[str]) -> bytes:
    """A result as JSON: `to_json_document` encoded, without its steps where all values are PRESENT.

    Args:
        result: the result.
        include: what is wanted beside values, of `EXTRAS`.
    """
    if include != STATUSES_ALONE or not result.all_present:
        return _ENCODE(to_json_document(result, include))
    form = _form_of(result.request)
    if len(result) == 1:
        row = form.texts.of_row(result)
        if row is not None:
            return form.row() % row
    columns = form.texts.of(result)
    if columns is None:
        columns = _ENCODE(_columns(result, form))
    return b'{"columns":%b%b' % (columns, form.all_present(len(result)))


def to_json_document(result: OnlineResult, include: Sequence[str]) -> dict[str, Any]:
    """A result as what a JSON encoder writes.

    Args:
        result: the result.
        include: what is wanted beside values, of `EXTRAS`.
    """
    document: dict[str, Any] = {"columns": _columns(result, _form_of(result.request))}
    for name in include:
        document[name] = EXTRAS[name](result)
    if "schema" in include and (through := result.complete_through()):
        document["complete_through"] = through
    return document


def _columns(result: OnlineResult, form: _Form) -> dict[str, Any]:
    """Keys and features as what a JSON encoder writes."""
    columns: dict[str, Any] = result.to_dict()
    writers = form.others if plain_numbers([columns[name] for name in form.numbers]) else form.writers
    for name, write in writers:
        columns[name] = write(columns[name])
    return columns


class _Form(msgspec.Struct, frozen=True):
    """How the answers of a reader are written.

    Attributes:
        names: the feature columns.
        numbers: the columns of floating-point numbers, which are nearly always written as they are.
        writers: the columns whose values may have to be changed, and what does it.
        others: those of them that are not `numbers`.
        texts: writes the columns of answers of many rows, or of one.
    """

    names: list[str]
    numbers: list[str]
    writers: list[tuple[str, Writer]]
    others: list[tuple[str, Writer]]
    texts: NumberTexts
    _present: dict[int, bytes] = {}
    _row: list[bytes] = []

    def row(self) -> bytes:
        """An answer of one row whose values are all PRESENT, with `%b` for each column."""
        if not self._row:
            self._row.append(self.texts.row(self.all_present(1)))
        return self._row[0]

    def all_present(self, rows: int) -> bytes:
        """What follows the columns in an answer of so many rows whose values are all PRESENT."""
        text = self._present.get(rows)
        if text is None:
            statuses = dict.fromkeys(self.names, _status_list(bytes((_PRESENT,)) * rows))
            text = b',"statuses":%b}' % _ENCODE(statuses)
            if len(self._present) < _KEPT_SIZES and len(text) <= _MOST_KEPT:
                self._present[rows] = text
        return text


_known: dict[ReadRequest, _Form] = {}
_KEPT = 256
_KEPT_SIZES, _MOST_KEPT = 64, 32_768
"""Of a form the statuses of so many sizes of answers are kept, each of so many bytes."""


def _form_of(asked: ReadRequest) -> _Form:
    """Worked out once for a reader."""
    form = _known.get(asked)
    if form is None:
        dtypes = dict(asked.keys) | {column.name: column.dtype for column in asked.columns}
        found = ((name, column_writer(dtype)) for name, dtype in dtypes.items())
        writers = [(name, write) for name, write in found if write is not None]
        numbers = [name for name, dtype in dtypes.items() if dtype.name in ("float32", "float64")]
        others = [(name, write) for name, write in writers if name not in numbers]
        form = _Form([column.name for column in asked.columns], numbers, writers, others, NumberTexts(asked))
        if len(_known) >= _KEPT:
            _known.clear()
        _known[asked] = form
    return form


def _statuses(result: OnlineResult) -> dict[str, msgspec.Raw]:
    """Column → the status of each row, encoded once for all columns that have the same."""
    names, groups = _form_of(result.request).names, result.status_groups()
    if len(groups) == 1:
        return dict.fromkeys(names, _status_list(groups[0].codes.tobytes()))
    texts = [_NOTHING] * len(names)
    for group in groups:
        text = _status_list(group.codes.tobytes())
        for place in group.columns:
            texts[place] = text
    return dict(zip(names, texts, strict=True))


def _status_list(codes: bytes) -> msgspec.Raw:
    if codes.count(codes[:1]) == len(codes):
        # of nearly all reads
        items = (_QUOTED[codes[0]] + b",") * len(codes) if codes else b""
        return msgspec.Raw(b"[" + items[:-1] + b"]")
    return msgspec.Raw(b"[" + b",".join([_QUOTED[code] for code in codes]) + b"]")


def _times(times: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    return {label: to_json(values, Timestamp) for label, values in times.items()}


def _created_times(result: OnlineResult) -> dict[str, Any]:
    out = {}
    for view, times in zip(result.views, result.view_times(), strict=True):
        # of a damaged row's header there may be any
        micros = np.clip(times.created, FIRST_MICROS, LAST_MICROS).tolist()
        values = [None if gone else from_micros(at) for at, gone in zip(micros, times.gone.tolist(), strict=True)]
        out[view.label] = to_json(values, Timestamp)
    return out


EXTRAS: dict[str, Callable[[OnlineResult], Any]] = {
    "statuses": _statuses,
    "event_times": lambda result: _times(result.event_times),
    "created_times": _created_times,
    "freshness": lambda result: result.freshness(),
    "versions": lambda result: result.versions,
    "read_at": lambda result: _times(result.read_at),
    "problems": damage_documents,
    "schema": schema_of,
}
"""What a read may include beside the columns."""


class _Described(msgspec.Struct):
    schema: msgspec.Raw


class _Document(msgspec.Struct):
    """An answer that was asked for with `NEEDED`."""

    columns: dict[str, list[Any]]
    statuses: dict[str, list[str]]
    event_times: dict[str, list[str | None]]
    created_times: dict[str, list[str | None]]
    read_at: dict[str, list[str | None]]
    problems: list[dict[str, Any]]
    schema: msgspec.Raw
    complete_through: dict[str, int] = {}


_DESCRIBED, _DOCUMENT = msgspec.json.Decoder(_Described), msgspec.json.Decoder(_Document)


def received_json_schema(data: bytes) -> ReceivedRequest:
    """What describes the result in a document."""
    return received(bytes(_DESCRIBED.decode(data).schema))


def from_json_document(data: bytes, batch: EntityBatch, max_age: int | None) -> tuple[OnlineResult, ReceivedRequest]:
    """The result, and its description, in a document that was asked for with `NEEDED`.

    Args:
        data: the answer.
        batch: the entities that were asked for.
        max_age: the read's own freshness SLA, microseconds.
    """
    document = _DOCUMENT.decode(data)
    request = received(bytes(document.schema))
    columns = document.columns
    for name, dtype in request.asked.keys.items():
        check_entities(from_json(columns[name], dtype) == batch.values(name))
    check_entities(all(len(values) == batch.size for values in columns.values()))
    features = [pa.array(from_json(columns[c.name], c.dtype), c.dtype.arrow) for c in request.asked.columns]
    codes = {name: code for code, name in enumerate(request.schema.statuses)}
    texts = [document.statuses[column.name] for column in request.asked.columns]
    matrix = np.array([[codes[text] for text in column] for column in texts], np.uint8).reshape(len(texts), -1).T
    times = []
    for view in request.views:
        events, created, at = (
            from_json(column[view.label], Timestamp)
            for column in (document.event_times, document.created_times, document.read_at)
        )
        gone = np.array([birth is None for birth in created], np.bool_)
        times.append(RowTimes(_micros(events), _micros(created), _micros(at), gone))
    return request.result(
        batch, features, matrix, times, document.problems, max_age, document.complete_through
    ), request


def _micros(times: Sequence[datetime | None]) -> NDArray[np.int64]:
    return np.array([0 if time is None else to_micros(time) for time in times], np.int64)
