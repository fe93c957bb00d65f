"""Rows of a write into the rows of a window version, and what a delete does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.clock import duration_micros
from headwater.compute.context import StoreContext
from headwater.compute.recent import SAMPLE, Sample
from headwater.compute.windows.driving import Driver
from headwater.compute.windows.putting import PutReport, put
from headwater.compute.windows.requests import Batch
from headwater.compute.windows.statements import ARRIVAL, CREATED, EVENT
from headwater.offline.log.deleting import Deleted
from headwater.planning.resolved import ResolvedView


@dataclass(frozen=True)
class PutWindows:
    """What became of rows in a window version.

    Attributes:
        put: those that are in it.
        later: those that a run puts into it: known in the future, or of a version that is not filled.
        sample: some of the rows that were put.
    """

    put: NDArray[np.bool_]
    later: NDArray[np.bool_]
    sample: Sample = ()


def put_window_rows(context: StoreContext, view: ResolvedView, batch: pa.RecordBatch, until: int) -> PutWindows:
    """Merge the rows of one write into the rows of their keys.

    Args:
        context: the store's parts and settings.
        view: the version, whole.
        batch: the rows, which have one arrival, as `OfflineEngine.events` gives them.
        until: see `OnlineStore.put`.
    """
    driver = Driver(context, view, until)
    keys = driver.statements.stored_keys(batch)
    batches = {key: mine[0] for key, mine in driver.statements.log([batch]).items()}
    report = driver.do(put(driver.version, batches))
    event, created, arrival = (batch.column(name).to_numpy(zero_copy_only=False) for name in (EVENT, CREATED, ARRIVAL))
    future = np.maximum(event, created) > arrival + duration_micros(context.settings.tolerance)
    merged = np.array([key in report.applied for key in keys], bool)
    return PutWindows(merged & ~future, ~merged | future, _sample(driver, batch, keys, report))


def _sample(driver: Driver, batch: pa.RecordBatch, keys: Sequence[bytes | None], report: PutReport) -> Sample:
    names = list(driver.statements.rows.names)
    first = {key: i for i, key in reversed(list(enumerate(keys[:1_000]))) if key is not None and key in report.applied}
    places = sorted(first.values())[:SAMPLE]
    entities = batch.select(names).take(pa.array(places, pa.int64())).to_pylist() if names else [{}] * len(places)
    return tuple((keys[i], entity) for i, entity in zip(places, entities, strict=True))  # type: ignore[misc]


def delete_window_rows(
    context: StoreContext, view: ResolvedView, keys: pa.Table, marked: Deleted, until: int
) -> PutReport:
    """Put the deletes of keys (columns named like the join keys) into their rows."""
    driver = Driver(context, view, until)
    stored = driver.statements.stored_keys(keys)
    batches = {
        key: Batch(position, marked.arrival, delete=through)
        for key, position, through in zip(stored, marked.positions, marked.through, strict=True)
        if key is not None
    }
    return driver.do(put(driver.version, batches))
