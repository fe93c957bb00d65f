"""Rows for the suite of online stores: packed by the real codec, with the order that the guard compares."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from headwater.clock import MIN_MICROS
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.online.base import OnlineStore
from headwater.online.guard import deleted_row
from headwater.online.rows.codec import HEADER_SIZE, MAGIC, SIGN, header, sequence_of
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import ViewRecord, ViewVersion
from headwater.types import DType, Int64, String

PROJECT = "conformance"
_WHEN = datetime(2024, 1, 1, tzinfo=UTC)


def registered(view: FeatureView) -> ViewVersion:
    """A view as the registry would hold it."""
    return ViewVersion(view, True, _WHEN, _WHEN)


def push_view(
    name: str, keys: dict[str, DType], features: dict[str, DType], *, version: str = "1.0.0", **options: Any
) -> FeatureView:
    """A view that is filled by writes."""
    entity = Entity("_".join(keys), keys) if keys else ()
    listed = [Feature(feature, dtype) for feature, dtype in features.items()]
    source = PushSource(event_time="at")
    return FeatureView(name, entity=entity, source=source, features=listed, version=version, **options)


def rows_of(view: FeatureView) -> RowEncoder:
    """How a view's rows are packed."""
    version = registered(view)
    return RowEncoder(PROJECT, whole_view(ViewRecord(view.name, {version.version: version}, version.version), version))


@dataclass(frozen=True, order=True)
class Order:
    """The guard's order of a row."""

    event: int = 0
    created: int = 0
    origin: int = 0
    position: int = 0

    @property
    def known_at(self) -> int:
        """The instant from which the row counts."""
        return max(self.event, self.created)


def batch_of(
    view: FeatureView, rows: Sequence[dict[str, Any]], orders: Iterable[Order] | None = None
) -> pa.RecordBatch:
    """Rows of a view (join keys and features by name) with their orders, as `OfflineEngine.changes` gives them."""
    ordered = list(orders) if orders is not None else [Order()] * len(rows)
    columns: dict[str, pa.Array] = {}
    for name, dtype in view.join_keys.items():
        columns[name] = pa.array([row[name] for row in rows], dtype.arrow)
    columns["__event"] = pa.array([order.event for order in ordered], pa.int64())
    columns["__created"] = pa.array([order.created for order in ordered], pa.int64())
    columns["__origin"] = pa.array([order.origin for order in ordered], pa.int8())
    columns["__position"] = pa.array([order.position for order in ordered], pa.int64())
    for feature in view.feature_list:
        columns[feature.name] = pa.array([row.get(feature.name) for row in rows], feature.dtype.arrow)
    return pa.RecordBatch.from_pydict(columns)


PLAIN = push_view("plain", {"id": Int64}, {"x": Int64, "text": String})
"""The view that tests use where its shape does not matter."""

PLAIN_ROWS = rows_of(PLAIN)


def key_of(number: int) -> bytes:
    """The stored key of an entity of `PLAIN`."""
    return plain_row(number)[0]


def plain_row(number: int, order: Order | None = None, text: str = "") -> tuple[bytes, bytes]:
    """(stored key, packed row) of an entity of `PLAIN`; its `x` is its event time."""
    order = order or Order()
    (pair,) = PLAIN_ROWS.encode(batch_of(PLAIN, [{"id": number, "x": order.event, "text": text}], [order]))
    return pair


def plain_rows(orders: Sequence[Order], start: int = 0, text: str = "") -> list[tuple[bytes, bytes]]:
    """One row for each order, under the keys from `start` on."""
    rows = [{"id": start + i, "x": order.event, "text": text} for i, order in enumerate(orders)]
    return PLAIN_ROWS.encode(batch_of(PLAIN, rows, orders))


def order_of(row: bytes | None) -> Order | None:
    """The order of a stored row; None where there is none, or only its header is left."""
    told = header(row)
    if told is None or told.emptied:
        return None
    return Order(told.event, told.created, told.origin, told.position)


def deleted(store: OnlineStore, number: int, through: int, position: int = 0) -> None:
    """Delete an entity of `PLAIN` as a delete does: D and P into its row, whose values go where they hide it."""
    key = key_of(number)
    (row,) = store.multi_get([key])
    new = deleted_row(row, through, position)
    assert new is None or store.compare_and_put(key, sequence_of(row), new)


def tombstone_position(row: bytes | None) -> int:
    """P of a stored row."""
    told = header(row)
    return 0 if told is None else told.deleted_position


def through_of(row: bytes | None) -> int:
    """D of a stored row."""
    told = header(row)
    return MIN_MICROS if told is None else told.through


def first_codec(row: bytes, through: int | None = None) -> bytes:
    """A row as the first codec wrote it, with D (microseconds) where it was deleted; its sequence is 3."""
    told = header(row)
    assert told is not None
    d = 0 if through is None else through + SIGN
    numbers = (3, d, told.event + SIGN, told.created + SIGN, told.origin, told.position)
    body = row[HEADER_SIZE:]
    return struct.pack(">BB4sQQQQBQ", MAGIC | 1, row[1], told.fingerprint, *numbers) + body
