"""Prepared reads: names, versions, layouts and keys resolved once, then one round trip to the store for each read.

A read is `plan_keys` (entities into keys), the store's one call, and `decode` (bytes into a result); an asynchronous
reader shares the first and the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headwater.clock import duration_micros
from headwater.deferred import deferred
from headwater.definitions.sources import PushSource
from headwater.freshness import Freshness
from headwater.online.base import OnlineStore
from headwater.online.powers import Parted
from headwater.online.reading.entities import EntityBatch, entity_batch, half_pair, refuse_wide
from headwater.online.reading.result import OnlineResult
from headwater.online.reading.view_read import (
    ReadColumn,
    ReadRequest,
    ViewReadPlan,
    ViewReadResult,
)
from headwater.online.rows.decoded import DecodedRows, verified
from headwater.online.rows.keys import LONGEST, NAMESPACE_SIZE, KeySpace, digested, namespace
from headwater.online.rows.row_format import row_format
from headwater.online.rows.values import python_default
from headwater.planning.resolved import ResolvedRequest, ResolvedView
from headwater.types import DType, StalePolicy, is_utf8

if TYPE_CHECKING:
    from headwater.online import meta
    from headwater.online.rows.windows import decoded as window_rows
    from headwater.online.rows.windows import form as window_forms
    from headwater.online.rows.windows import parts as window_parts
else:
    meta = deferred("headwater.online.meta")
    window_rows = deferred("headwater.online.rows.windows.decoded")
    window_forms = deferred("headwater.online.rows.windows.form")
    window_parts = deferred("headwater.online.rows.windows.parts")

AHEAD = 3_600_000_000
"""Microseconds by which a row may be known later than this host's clock and still be served: clocks of hosts differ."""

ANY_TIME = 1 << 62
"""More microseconds than lie between any two instants: a session has seen the row, or one before it, elsewhere."""


_DROP = StalePolicy.DROP
_AS_DISTINCT = frozenset({"string", "bytes", "int32", "int64"})
"""Types of join keys of which two values are equal where their keys are."""


class ClockCounts(msgspec.Struct, eq=False):
    """What reads by this host's clock found that is later than it.

    Attributes:
        later: rows known, or keys deleted, later, that were answered as of that instant.
        not_known: those that are too much later: NOT_KNOWN.
        most: microseconds by which the latest of the first kind was ahead.
    """

    later: int = 0
    not_known: int = 0
    most: int = 0

    def add(self, rows: DecodedRows | window_rows.DecodedWindowRows, now: int) -> None:
        """Count what a read at `now` found of a view."""
        self.later += int(np.count_nonzero(rows.at > now))
        self.not_known += len(rows.not_known)
        self.most = max(self.most, rows.latest - now)


class KeyPlan(msgspec.Struct, eq=False):
    """What one read asks the store for.

    Attributes:
        batch: the entities.
        keys: those of the fill records of window views, which must not be read after the rows that they speak for; then
            the distinct keys of every view, one view after another.
        reads: each view's part, still without rows.
    """

    batch: EntityBatch
    keys: list[bytes]
    reads: list[ViewReadResult]


class OnlineReader:
    """Reads one resolved request from one store.

    Args:
        request: views, versions, keys and columns.
        store: where the rows are.
        project: the project that the keys belong to.
        freshness: the function freshness is measured by.
        counts: what counts rows that are known later than the instant of a read by the clock.

    Raises:
        UsageError: a feature named like a join key of the request.
    """

    def __init__(
        self,
        request: ResolvedRequest,
        store: OnlineStore,
        project: str,
        *,
        freshness: Freshness | None = None,
        counts: ClockCounts | None = None,
    ) -> None:
        request.check_columns(request.join_keys, "request")
        self.request = request
        self.store = store
        self.project = project
        self.counts = counts
        self._keys = dict(request.join_keys)
        self._views = _read_views(project, request.views)
        self._records = list({view.record_key: None for view in self._views if view.record_key})
        self._record_places = {key: place for place, key in enumerate(self._records)}
        # a read of plain views alone does not load it
        windowed = any(view.windows is not None for view in self._views)
        self._rows_of: Any = window_rows.DecodedWindowRows if windowed else None
        self._asked = _read_request(request, self._keys, freshness or Freshness())

    @property
    def views(self) -> Sequence[ViewReadPlan]:
        """What is known of each view beforehand."""
        return self._views

    @property
    def asked(self) -> ReadRequest:
        """What is known of the answers, functions aside."""
        return self._asked

    @property
    def join_keys(self) -> Mapping[str, DType]:
        """Name → dtype of each key that `entities` must have."""
        return self.request.join_keys

    @property
    def versions(self) -> Mapping[str, str]:
        """View label → version."""
        return self.request.versions

    def read(
        self,
        entities: Any,
        *,
        now: int,
        ahead: int = 0,
        stale: StalePolicy = StalePolicy.FLAG,
        max_age: int | None = None,
    ) -> OnlineResult:
        """Read the features of entities, in one call to the store.

        Args:
            entities: see `entity_batch`; order and repeats are kept.
            now: microseconds, UTC.
            ahead: microseconds by which a row may be known, or its key be deleted, later than `now` and be counted all
                the same, as of that later instant; 0: the read is exact.
            stale: whether values past their SLA are flagged or dropped; a refresh is the caller's.
            max_age: microseconds; the SLA of every feature, for this read alone.

        Raises:
            EntityKeyError: join keys that are missing, unknown or of another type.
            StoreError: the store cannot be read.
        """
        plan = self.plan_keys(entities)
        rows = self.store.multi_get(plan.keys)
        return self.decode(plan, rows, now=now, ahead=ahead, stale=stale, max_age=max_age)

    def plan_keys(self, entities: Any) -> KeyPlan:
        """The distinct keys to get for entities.

        Raises:
            EntityKeyError: join keys that are missing, unknown or of another type.
        """
        return self.plan_batch(entity_batch(entities, self._keys))

    def plan_batch(self, batch: EntityBatch) -> KeyPlan:
        """The distinct keys to get for entities that were checked.

        Raises:
            EntityKeyError: an integer or a text that no key can hold.
        """
        keys: list[bytes] = self._records.copy()
        reads: list[ViewReadResult] = []
        for view in self._views:
            whole, inverse = _distinct(batch, view) if view.twin is None else _alike(reads[view.twin], keys, view)
            long_keys: dict[int, bytes] | None = None
            if view.space.may_be_long and whole and max(map(len, whole)) > LONGEST:
                long_keys = {i: key for i, key in enumerate(whole) if len(key) > LONGEST}
                whole = [digested(key) for key in whole]
            start = len(keys)
            if start:
                keys += whole
            else:
                keys = whole
            reads.append(ViewReadResult(view, inverse, start, len(keys), long_keys))
        return KeyPlan(batch, keys, reads)

    def decode(
        self,
        plan: KeyPlan,
        rows: Sequence[bytes | None],
        *,
        now: int,
        ahead: int = 0,
        stale: StalePolicy = StalePolicy.FLAG,
        max_age: int | None = None,
    ) -> OnlineResult:
        """The result of a plan and the rows that the store gave for its keys; arguments as in `read`."""
        for read in plan.reads:
            view = read.view
            if view.form is None:
                self._decode_windows(read, plan.keys, rows, now, ahead)
                continue
            part = rows if not read.start and len(plan.reads) == 1 else rows[read.start : read.stop]
            if read.inverse is not None:
                part = [*part, None]
            if read.long_keys is not None:
                part = verified(part, read.long_keys)
            found = read.rows = DecodedRows(view.form, part, now, view.ttl, ahead)
            if (found.at is not now or found.not_known) and ahead and self.counts is not None:
                self.counts.add(found, now)
        return OnlineResult(self._asked, plan.batch, plan.reads, stale is _DROP, max_age)

    def _decode_windows(
        self, read: ViewReadResult, keys: Sequence[bytes], rows: Sequence[bytes | None], now: int, ahead: int
    ) -> None:
        """The rows of a window view, by the fill record that was fetched with them."""
        form = read.view.windows
        assert form is not None
        part, null = rows[read.start : read.stop], read.inverse is not None
        if null:
            part = [*part, None]
        record = rows[self._record_places[read.view.record_key]]
        unfilled: Sequence[int] = ()
        if isinstance(record, Parted):
            asked = keys[read.start : read.stop]
            record, settled, unfilled = window_parts.settled(record, asked, part[: len(asked)])
            part = [*settled, *part[len(asked) :]]
        found = read.rows = self._rows_of(form, part, record, now, ahead, null=null, long_keys=read.long_keys)
        if unfilled:
            found.damaged = {**dict.fromkeys(unfilled, window_parts.UNFILLED), **found.damaged}
        if (found.at is not now or found.not_known) and ahead and self.counts is not None:
            self.counts.add(found, now)


def _alike(twin: ViewReadResult, keys: Sequence[bytes], view: ViewReadPlan) -> tuple[list[bytes], list[int] | None]:
    """What `_distinct` gives, from the keys of a view of the same join keys."""
    long_keys, prefix = twin.long_keys or {}, view.space.prefix
    whole = keys[twin.start : twin.stop]
    return [prefix + long_keys.get(i, key)[NAMESPACE_SIZE:] for i, key in enumerate(whole)], twin.inverse


def _distinct(batch: EntityBatch, view: ViewReadPlan) -> tuple[list[bytes], list[int] | None]:
    """The distinct whole keys of a view, and for each row the place of its own, after the last where it is NULL."""
    names, space = view.key_columns, view.space
    repeated = batch.size > 1 and batch.repeated.issuperset(names)
    columns = [batch.columns[name] if repeated or not batch.repeated else batch.values(name) for name in names]
    try:
        found = space.encode(columns, 1 if repeated else batch.size)
    except UnicodeEncodeError:
        name = next(n for n, c in zip(names, columns, strict=True) if not all(is_utf8(v) for v in c if type(v) is str))
        raise half_pair(name, batch.values(name)) from None
    except OverflowError:
        refuse_wide({name: batch.values(name) for name in names})
        raise
    if batch.size == 1 and found[0] is not None:
        return found, None  # type: ignore[return-value]
    # one text or integer is as distinct as its key, and its hash cheaper: often known, or the number itself
    distinct: set[Any] = set(columns[0] if len(names) == 1 and space.dtypes[0].name in _AS_DISTINCT else found)
    if not repeated and None not in distinct and len(distinct) == len(found):
        return found, None  # type: ignore[return-value]
    whole = [key for key in dict.fromkeys(found) if key is not None]
    places: dict[bytes | None, int] = {key: i for i, key in enumerate(whole)}
    places[None] = len(whole)
    return whole, [places[key] for key in found] * (batch.size if repeated else 1)


def _read_views(project: str, views: Sequence[ResolvedView]) -> list[ViewReadPlan]:
    first: dict[Any, int] = {}
    out = []
    for i, view in enumerate(views):
        space = KeySpace(namespace(project, view.name, view.version), [key.dtype for key in view.keys])
        twin = first.setdefault((tuple(key.column for key in view.keys), space.tags), i)
        out.append(_read_view(project, view, space, twin if twin < i else None))
    return out


def _read_view(project: str, view: ResolvedView, space: KeySpace, twin: int | None) -> ViewReadPlan:
    definition = view.view
    timed = definition.source.event_time is not None
    sla = duration_micros(definition.sla_time) or None
    own = [duration_micros(f.freshness_sla) if f.freshness_sla is not None else sla for f in view.features]  # type: ignore[arg-type]
    names = tuple(feature.name for feature in view.features)
    windows, record = None, b""
    if view.windows is not None:
        windows = window_forms.window_form(view.windows, names, not isinstance(definition.source, PushSource))
        record = meta.fill_record_key(project, view.name, view.version)
    return ViewReadPlan(
        name=view.name,
        label=view.label,
        version=view.version,
        key_columns=tuple(key.column for key in view.keys),
        space=space,
        twin=twin,
        form=row_format(view.layout, names) if windows is None else None,
        timed=timed,
        ttl=(duration_micros(definition.ttl_time) or None) if timed else None,
        slas=tuple(own) if timed else (None,) * len(own),
        sla=min((sla for sla in own if sla is not None), default=None) if timed else None,
        defaults=tuple(python_default(f.default, f.dtype) for f in view.features),
        windows=windows,
        record_key=record,
    )


def _read_request(request: ResolvedRequest, keys: Mapping[str, DType], freshness: Freshness) -> ReadRequest:
    features = [{feature.name: i for i, feature in enumerate(view.features)} for view in request.views]
    columns = [ReadColumn(c.name, c.view, features[c.view][c.feature.name], c.feature.dtype) for c in request.columns]
    return ReadRequest.of(keys, columns, list(map(len, features)), freshness, request.service)
