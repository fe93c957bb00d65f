"""Prepared reads: names, versions, layouts and keys resolved once, then one round trip to the store for each read.

A read is `plan_keys` (entities into keys), the store's one call, and `decode` (bytes into a result); an asynchronous
reader shares the first and the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.clock import duration_micros
from headwater.errors import EntityKeyError
from headwater.freshness import Freshness
from headwater.online.base import OnlineStore
from headwater.online.decode import row_decoder
from headwater.online.entities import EntityBatch, entity_batch
from headwater.online.keys import LONGEST, NAMESPACE_SIZE, KeySpace, digested, namespace
from headwater.online.result import OnlineResult
from headwater.online.values import python_default
from headwater.online.view_read import ReadColumn, ReadView, ViewRead
from headwater.planning.resolve import ResolvedRequest, ResolvedView
from headwater.types import DType, StalePolicy

FUTURE_TOLERANCE = 5_000_000
"""Microseconds by which a row may be known later than a read's `now` and still count: clocks of hosts differ."""


@dataclass(eq=False, slots=True)
class KeySpan:
    """One view's share of a plan's keys.

    Attributes:
        start, stop: where its distinct keys stand among those of the plan.
        inverse: for each row of the request the place of its key within the share, `stop - start` for a NULL key; None
            where row i has key i.
        long_keys: place within the share → whole key, for those asked for by digest.
    """

    start: int
    stop: int
    inverse: list[int] | None
    long_keys: dict[int, bytes]


@dataclass(eq=False, slots=True)
class KeyPlan:
    """What one read asks the store for.

    Attributes:
        batch: the entities.
        keys: the distinct keys of every view, one view after another.
        spans: each view's share.
    """

    batch: EntityBatch
    keys: list[bytes]
    spans: list[KeySpan]


class OnlineReader:
    """Reads one resolved request from one store.

    Args:
        request: views, versions, keys and columns.
        store: where the rows are.
        project: the project that the keys belong to.
        freshness: the function freshness is measured by.
        future_tolerance: microseconds; a row known later than `now` by more is not found, within it its age is 0.

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
        future_tolerance: int = FUTURE_TOLERANCE,
    ) -> None:
        request.check_columns(request.join_keys, "request")
        self.request = request
        self.store = store
        self.project = project
        self.freshness = freshness or Freshness()
        self.future_tolerance = future_tolerance
        self._keys = dict(request.join_keys)
        self._spaces = [(tuple(key.column for key in view.keys), _space(project, view)) for view in request.views]
        self._views = [_read_view(view) for view in request.views]
        places = [{feature.name: i for i, feature in enumerate(view.features)} for view in request.views]
        self._columns = tuple(
            ReadColumn(c.name, c.view, places[c.view][c.feature.name], c.feature.dtype) for c in request.columns
        )

    @property
    def join_keys(self) -> Mapping[str, DType]:
        """Name → dtype of each key that `entities` must have."""
        return self.request.join_keys

    @property
    def versions(self) -> Mapping[str, str]:
        """View label → version."""
        return self.request.versions

    def read(
        self, entities: Any, *, now: int, stale: StalePolicy = StalePolicy.FLAG, max_age: int | None = None
    ) -> OnlineResult:
        """Read the features of entities, in one call to the store.

        Args:
            entities: see `entity_batch`; order and repeats are kept.
            now: microseconds, UTC.
            stale: whether values past their SLA are flagged or dropped; a refresh is the caller's.
            max_age: microseconds; the SLA of every feature, for this read alone.

        Raises:
            EntityKeyError: join keys that are missing, unknown or of another type.
            StoreError: the store cannot be read.
        """
        plan = self.plan_keys(entities)
        return self.decode(plan, self.store.multi_get(plan.keys), now=now, stale=stale, max_age=max_age)

    def plan_keys(self, entities: Any) -> KeyPlan:
        """The distinct keys to get for entities.

        Raises:
            EntityKeyError: join keys that are missing, unknown or of another type.
        """
        batch = entity_batch(entities, self._keys)
        keys: list[bytes] = []
        spans: list[KeySpan] = []
        known: dict[Any, tuple[list[bytes], list[int] | None]] = {}
        for names, space in self._spaces:
            alike = (names, space.tags)
            found = known.get(alike)
            if found is None:
                whole, inverse = known[alike] = _distinct(batch, names, space)
            else:
                inverse, prefix = found[1], space.prefix
                whole = [prefix + key[NAMESPACE_SIZE:] for key in found[0]]
            long_keys: dict[int, bytes] = {}
            if space.may_be_long and whole and max(map(len, whole)) > LONGEST:
                long_keys = {i: key for i, key in enumerate(whole) if len(key) > LONGEST}
                whole = [digested(key) for key in whole]
            start = len(keys)
            keys = keys + whole if keys else whole
            spans.append(KeySpan(start, len(keys), inverse, long_keys))
        return KeyPlan(batch, keys, spans)

    def decode(
        self,
        plan: KeyPlan,
        rows: Sequence[bytes | None],
        *,
        now: int,
        stale: StalePolicy = StalePolicy.FLAG,
        max_age: int | None = None,
    ) -> OnlineResult:
        """The result of a plan and the rows that the store gave for its keys; arguments as in `read`."""
        reads = [self._view_read(view, span, rows, now) for view, span in zip(self._views, plan.spans, strict=True)]
        return OnlineResult(
            plan.batch,
            self._keys,
            self._columns,
            reads,
            now,
            stale is StalePolicy.DROP,
            max_age,
            self.freshness,
            self.request.service,
        )

    def _view_read(self, view: ReadView, span: KeySpan, rows: Sequence[bytes | None], now: int) -> ViewRead:
        part: Sequence[bytes | None] = (
            rows if span.start == 0 and span.stop == len(rows) else rows[span.start : span.stop]
        )
        if span.inverse is not None:
            part = [*part, None]
        decoded = view.decoder.decode(part, span.long_keys)
        future, expired = decoded.judge(now + self.future_tolerance, None if view.ttl is None else now - view.ttl)
        return ViewRead(view, decoded, span.inverse, future, expired)


def _distinct(batch: EntityBatch, names: Sequence[str], space: KeySpace) -> tuple[list[bytes], list[int] | None]:
    """The distinct whole keys of a view, and for each row the place of its own, after the last where it is NULL."""
    repeated = batch.size != 1 and batch.repeated.issuperset(names)
    found = _encoded(batch, names, space, repeated)
    # one text key is as distinct as its value, whose hash is often known; other values may be out of range, and no key
    distinct: set[Any] = set(batch.columns[names[0]] if len(names) == 1 and space.may_be_long else found)
    if not repeated and None not in distinct and len(distinct) == len(found):
        return found, None  # type: ignore[return-value]
    whole = [key for key in dict.fromkeys(found) if key is not None]
    places: dict[bytes | None, int] = {key: i for i, key in enumerate(whole)}
    places[None] = len(whole)
    return whole, [places[key] for key in found] * (batch.size if repeated else 1)


def _encoded(batch: EntityBatch, names: Sequence[str], space: KeySpace, repeated: bool) -> list[bytes | None]:
    """The whole key of each row; of one row where all join keys are repeated over the batch."""
    try:
        if repeated:
            return space.encode([batch.columns[name] for name in names], 1) if batch.size else []
        if batch.repeated:
            return space.encode([batch.values(name) for name in names], batch.size)
        return space.encode([batch.columns[name] for name in names], batch.size)
    except UnicodeEncodeError as bad:
        raise EntityKeyError(
            f"entities: join key {bad.object!r} holds half of a surrogate pair; it is no text"
        ) from bad


def _space(project: str, view: ResolvedView) -> KeySpace:
    return KeySpace(namespace(project, view.name, view.version), [key.dtype for key in view.keys])


def _read_view(view: ResolvedView) -> ReadView:
    definition = view.view
    timed = definition.source.event_time is not None
    sla = duration_micros(definition.sla_time) or None
    own = [duration_micros(f.freshness_sla) if f.freshness_sla is not None else sla for f in view.features]  # type: ignore[arg-type]
    return ReadView(
        label=view.label,
        version=view.version,
        key_columns=tuple(key.column for key in view.keys),
        decoder=row_decoder(view.layout, tuple(feature.name for feature in view.features)),
        timed=timed,
        ttl=(duration_micros(definition.ttl_time) or None) if timed else None,
        slas=tuple(own) if timed else (None,) * len(own),
        defaults=tuple(python_default(f.default, f.dtype) for f in view.features),
    )
