"""Rows of window versions from history, many keys at once: what `testing.window_rows.rebuilt` says of one.

The two are compared by `tests/unit/compute/windows/test_rebuilding.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from headwater.compute.windows.dealing import HAS_ID, ID, EventRows
from headwater.compute.windows.large_keys import LargeKey
from headwater.compute.windows.requests import RebuiltRows, Version
from headwater.compute.windows.statements import ARRIVAL, CREATED, EVENT, ORIGIN, POSITION, Statements
from headwater.offline.windows.key_numbers import numbered
from headwater.online.rows.windows.building.rows import put_events
from headwater.online.rows.windows.merged_rows import merge_rows
from headwater.online.rows.windows.row import NEVER, WindowRow
from headwater.planning.windows import statements as arrays
from headwater.planning.windows.columns import Column
from headwater.planning.windows.events import event_columns, is_hidden

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


def rebuilt_rows(
    version: Version,
    request: RebuiltRows,
    given: arrays.Statements,
    arrival: Ints,
    deletes: Mapping[bytes, tuple[int, int]],
) -> dict[bytes, WindowRow]:
    """The rows of keys.

    Args:
        version: the version.
        request: which keys, and up to where.
        given: their statements: of the log up to the request's end, of the source as the run listed it; `key` is the
            index among the request's keys.
        arrival: of each statement of the log the clock of its transaction, microseconds.
        deletes: of keys that have any the greatest P and D (microseconds).
    """
    end = request.end
    rows = [WindowRow([], 0, request.fill, request.run, end.position, known_through=end.clock) for _ in request.keys]
    through, position = np.full(len(rows), NEVER, np.int64), np.zeros(len(rows), np.int64)
    for i, key in enumerate(request.keys):
        if key in deletes:
            position[i], through[i] = rows[i].delete_position, rows[i].deleted_through = deletes[key]
    counts = ~given.from_log | (given.known_at <= np.maximum(arrival + version.tolerance, end.clock))
    if deletes:
        of = given.key
        counts &= ~is_hidden(given.known_at, given.from_log, given.position, through[of], position[of])
    index, _ = arrays.without_repeats(given, *_where(counts, given.key))
    put_events(version.layout, rows, given if len(index) == len(given.key) else given.take(index), version.tolerance)
    return dict(zip(request.keys, rows, strict=True))


def _where(counts: NDArray[np.bool_], key: Ints) -> tuple[Ints, Ints]:
    index = np.flatnonzero(counts)
    return index, key[index]


MOST_KEYS = 10_000
"""Keys that are rebuilt together at most."""


class Keyed(NamedTuple):
    """Rows of events, and whose they are.

    Attributes:
        rows: as `EventRows` has them.
        numbers: of each the number of its key.
        stored: what the rows of keys are stored under, by number.
    """

    rows: pa.Table
    numbers: Ints
    stored: list[bytes]


class Rebuilder:
    """Rebuilds rows from tables of the rows of log and source.

    Args:
        statements: what rows of the version say.
    """

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.rows = EventRows(statements.view, statements.rows.names)

    def numbered(self, rows: pa.Table) -> tuple[Ints, list[bytes]]:
        """A number for the key of each row, and what the rows of keys are stored under, by number."""
        numbers, keys = numbered(rows, self.rows.keys)
        stored = self.statements.stored_keys(keys)
        return numbers, [key for key in stored if key is not None]

    def divided(self, rows: pa.Table | LargeKey) -> Iterator[tuple[list[bytes], Keyed | LargeKey]]:
        """The rows of no more keys than are rebuilt together, with these keys, ascending."""
        if isinstance(rows, LargeKey):
            yield self.numbered(rows.first)[1], rows
            return
        numbers, stored = self.numbered(rows)
        if len(stored) <= MOST_KEYS:
            yield sorted(stored), Keyed(rows, numbers, stored)
            return
        order = sorted(range(len(stored)), key=stored.__getitem__)
        place = np.empty(len(stored), np.int64)
        place[order] = np.arange(len(stored))
        piece = (place // MOST_KEYS)[numbers]
        rows, ends = rows.take(pa.array(np.argsort(piece, kind="stable"))), np.cumsum(np.bincount(piece)).tolist()
        for i, (start, end) in enumerate(pairwise([0, *ends])):
            own = rows.slice(start, end - start)
            yield [stored[key] for key in order[i * MOST_KEYS : (i + 1) * MOST_KEYS]], self.keyed(own)

    def keyed(self, rows: pa.Table) -> Keyed:
        """Rows with their keys."""
        return Keyed(rows, *self.numbered(rows))

    def rebuilt_in_pieces(
        self,
        version: Version,
        request: RebuiltRows,
        given: LargeKey,
        more: pa.Table | None,
        deletes: Mapping[bytes, tuple[int, int]],
    ) -> dict[bytes, WindowRow]:
        """As `rebuilt` of a key that is not held in memory.

        Args:
            version: the version.
            request: of this key alone.
            given: its rows.
            more: those that came later.
            deletes: as `rebuilt_rows` takes them.
        """
        (key,) = request.keys
        row: WindowRow | None = None
        for piece in given.pieces(more):
            own = self.rebuilt(version, request, self.keyed(piece), deletes)[key]
            row = own if row is None else merge_rows(version.layout, (row, own), version.tolerance)
        assert row is not None
        return {key: row}

    def rebuilt(
        self, version: Version, request: RebuiltRows, given: Keyed, deletes: Mapping[bytes, tuple[int, int]]
    ) -> dict[bytes, WindowRow]:
        """The rows of keys.

        Args:
            version: the version.
            request: which keys, and up to where.
            given: rows of log and source, of these keys and perhaps of others.
            deletes: as `rebuilt_rows` takes them.
        """
        rows, numbers, stored = given
        place = {key: i for i, key in enumerate(request.keys)}
        key = np.array([place.get(each, -1) for each in stored], np.int64)[numbers]
        if len(key) and int(key.min()) < 0:
            rows, key = rows.filter(pa.array(key >= 0)), key[key >= 0]
        return rebuilt_rows(version, request, *self._arrays(rows, key), deletes)

    def _arrays(self, rows: pa.Table, key: Ints) -> tuple[arrays.Statements, Ints]:
        view, layout = self.statements.view, self.statements.layout
        dtypes = view.view.columns
        called = event_columns(dtypes, self.rows.keys)
        columns = {name: Column.of(rows.column(called[name]), dtype) for name, dtype in dtypes.items()}
        holds = {}
        if layout.conditions:
            named = rows.select([called[name] for name in dtypes]).rename_columns(list(dtypes))
            holds = dict(zip(layout.conditions, self.statements.conditions.holds(named), strict=True))
        ids = None
        if HAS_ID in rows.schema.names:
            has_id = np.asarray(rows.column(HAS_ID))
            ids = (_numbers(rows, ID), has_id) if has_id.any() else None
        position, arrival = (_numbers(rows, name) for name in (POSITION, ARRIVAL))
        origin = _numbers(rows, ORIGIN) == 1
        given = arrays.Statements(
            key, _numbers(rows, EVENT), _numbers(rows, CREATED), origin, position, columns, holds, ids
        )
        return given, arrival


def _numbers(rows: pa.Table, name: str) -> Any:
    """A column of numbers; 0 where rows of a source do not have it."""
    if name not in rows.schema.names:
        return np.zeros(rows.num_rows, np.int64)
    column = rows.column(name)
    return (column.fill_null(0) if column.null_count else column).to_numpy()
