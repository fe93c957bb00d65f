"""Generated cases: views with their rows, log and deletes, as an engine is asked and as the oracle answers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from headwater.clock import from_micros, to_micros
from headwater.definitions.source import Source
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.offline.base import HistoryRequest, LogPart, LogSlice, ViewInput
from headwater.planning.resolve import resolve
from headwater.planning.resolved import ResolvedRequest
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord, ViewVersion
from headwater.testing.oracle import (
    Answer,
    Delete,
    Fact,
    Key,
    LogRow,
    OracleView,
    SourceRow,
    answer,
    facts,
    known_entities,
    null_times,
)

_WHEN = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ViewCase:
    """One view as it is asked for, with all that is known of it.

    Attributes:
        selection: the features asked for, of a view with a version.
        oracle: what of the view the answer depends on.
        rows: the source's rows; `log`: the offline log's; `deletes`: tombstones in clear; `purges`: under a digest.
        parts: `log` as an engine gets it.
    """

    selection: FeatureSelection
    oracle: OracleView
    rows: tuple[SourceRow, ...] = ()
    log: tuple[LogRow, ...] = ()
    parts: tuple[LogPart, ...] = ()
    deletes: tuple[Delete, ...] = ()
    purges: tuple[Delete, ...] = ()

    @property
    def view(self) -> FeatureView:
        """The view that is asked for."""
        assert isinstance(self.selection.view, FeatureView)
        return self.selection.view

    @property
    def label(self) -> str:
        """The alias, else the view's name."""
        return self.selection.alias_name or self.selection.view.name

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the spine that hold the view's join keys."""
        return tuple(self.selection.join_key_map.get(key, key) for key in self.selection.view.join_keys)

    @property
    def tombstones(self) -> tuple[Delete, ...]:
        """Every tombstone, in clear or under a digest."""
        return self.deletes + self.purges

    def facts(self) -> list[Fact]:
        """The rows that can count."""
        return facts(self.oracle, self.rows, self.log)

    @property
    def null_times(self) -> int:
        """How many rows are left out for a NULL time."""
        return null_times(self.oracle, self.rows, self.log)

    def slice(self) -> LogSlice | None:
        """The view's slice of the log, None where there is none."""
        if not self.parts and not self.tombstones:
            return None
        return LogSlice(
            parts=self.parts,
            deletes=self._delete_table(),
            purges={
                _digest(key): tuple((t.position, t.through) for t in self.purges if t.key == key)
                for key in {tombstone.key for tombstone in self.purges}
            },
            position=max((row.position for row in self.log), default=0),
            digests=KeyTableDigests(tuple(self.selection.view.join_keys)),
        )

    def _delete_table(self) -> pa.Table | None:
        if not self.deletes:
            return None
        keys = self.selection.view.join_keys
        columns = {
            name: pa.array([tombstone.key[i] for tombstone in self.deletes], dtype.arrow)
            for i, (name, dtype) in enumerate(keys.items())
        }
        for name, attribute in (("__through", "through"), ("__position", "position")):
            columns[name] = pa.array([getattr(tombstone, attribute) for tombstone in self.deletes], pa.int64())
        return pa.table(columns)


@dataclass(frozen=True)
class KeyTableDigests:
    """Digests of purged keys, as the log would make them."""

    names: tuple[str, ...]

    def __call__(self, keys: pa.Table, names: Sequence[tuple[str, ...]] = ()) -> list[tuple[bytes, ...]]:
        columns = [keys.column(name).to_pylist() for name in self.names]
        found = zip(*columns, strict=True) if columns else [()] * keys.num_rows
        return [(_digest(key),) for key in found]


def _digest(key: Key) -> bytes:
    parts = [to_micros(part) if isinstance(part, datetime) else part for part in key]
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


@dataclass(frozen=True)
class HistoryCase:
    """A point-in-time join over several views.

    Attributes:
        views: the views asked for.
        spine: the spine, or None for every known entity at `at`.
        keys: the spine's key columns as plain values.
        instants: microseconds of each spine row, rounded down.
        timestamp_column: the spine's timestamp column, None where `at` is given.
        at: microseconds.
        as_known: whether only rows known at the spine's time count.
    """

    views: tuple[ViewCase, ...]
    spine: pa.Table | None
    keys: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    instants: Sequence[int] = ()
    timestamp_column: str | None = None
    at: int | None = None
    as_known: bool = True

    def resolved(self) -> ResolvedRequest:
        """The request, resolved against a registry that holds just these views."""
        versions = {case.selection.view.name: ViewVersion(case.view, True, _WHEN, _WHEN) for case in self.views}
        records = {
            name: ViewRecord(name, {version.version: version}, version.version) for name, version in versions.items()
        }
        return resolve(
            RegistrySnapshot("test", views=records), [case.selection for case in self.views], full_names=True
        )

    def request(self, spine: Any = None, sources: Mapping[str, Source] | None = None) -> HistoryRequest:
        """What an engine is asked for; `spine` and `sources` (by view) stand in for the tables of the case."""
        resolved = self.resolved()
        inputs = [
            ViewInput(view, (sources or {}).get(view.name, case.view.source), case.slice())
            for view, case in zip(resolved.views, self.views, strict=True)
        ]
        return HistoryRequest(
            spine=self.spine if spine is None else spine,
            views=tuple(inputs),
            columns=resolved.columns,
            timestamp_column=self.timestamp_column,
            at=self.at,
            as_known=self.as_known,
            include=("status", "event_time"),
        )

    def answers(self, case: ViewCase) -> list[Answer]:
        """What one view says to each spine row."""
        by_key: dict[Key, list[Fact]] = {}
        for fact in case.facts():
            by_key.setdefault(fact.key, []).append(fact)
        keys = list(zip(*(self.keys[column] for column in case.key_columns), strict=True)) or [()] * len(self.instants)
        return [
            answer(case.oracle, by_key.get(key, ()), case.tombstones, key, at, as_known=self.as_known)
            for key, at in zip(keys, self.instants, strict=True)
        ]

    def expected(self, answers: Mapping[str, Sequence[Answer]] | None = None) -> list[dict[str, Any]]:
        """The added columns of each spine row: values, statuses and event times; `answers` by label, where known."""
        rows: list[dict[str, Any]] = [{} for _ in self.instants]
        for case in self.views:
            told = self.answers(case) if answers is None else answers[case.label]
            for row, given in zip(rows, told, strict=True):
                row.update(_columns(case, given))
        return rows

    def entities(self) -> HistoryCase:
        """The same views asked without a spine, as the oracle lists the entities; the spine stands for their keys."""
        assert self.at is not None
        found: set[Key] = set()
        names: tuple[str, ...] = ()
        for case in self.views:
            if case.oracle.event_time and case.key_columns:
                names = case.key_columns
                found |= known_entities(case.facts(), case.tombstones, self.at, as_known=self.as_known)
        ordered = sorted(found, key=repr)
        keys = {name: [key[i] for key in ordered] for i, name in enumerate(names)}
        return replace(self, keys=keys, instants=[self.at] * len(ordered))


def _columns(case: ViewCase, given: Answer) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in case.selection.feature_names:
        column = f"{case.label}__{name}"
        row[column] = given.values[name]
        row[f"{column}__status"] = str(given.statuses[name])
    timed = given.fact is not None and case.oracle.event_time
    row[f"{case.label}__event_time"] = from_micros(given.fact.event) if timed and given.fact else None
    return row


def plain(value: Any) -> Any:
    """A value in a form that `==` compares: NaN equals NaN, -0.0 equals 0.0, arrays are tuples."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value + 0.0
    if isinstance(value, (list, tuple)):
        return tuple(plain(element) for element in value)
    return value


def plain_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows in a form that `==` compares."""
    return [{name: plain(value) for name, value in row.items()} for row in rows]
