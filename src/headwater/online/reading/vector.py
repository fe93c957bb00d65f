"""FeatureVector: the features of one entity as a model takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from headwater.clock import to_micros
from headwater.freshness import Freshness
from headwater.online.reading.view_times import aged_from, as_datetime, instants, known_times
from headwater.values import PartlyCompared

if TYPE_CHECKING:
    from headwater.online.reading.read_sla import ReadSLA
    from headwater.online.reading.view_read import AnsweredView, ReadRequest
    from headwater.types import Status


class FeatureVector(PartlyCompared, frozen=True):
    """The features of one entity as a model takes them.

    Attributes:
        entity_id: the key itself for one join key, else a dict of them.
        features: output column → value.
        feature_timestamp: the oldest event time among the views (UTC); None where no view has one.
        feature_timestamps: view label → event time (UTC) or None.
        computation_timestamp: the newest created time among the views' rows (UTC); None where no row was found.
        version_info: view label → version.
        metadata: `statuses` by column, and `service` where one was asked for.
    """

    entity_id: Any
    features: dict[str, Any]
    feature_timestamp: datetime | None
    feature_timestamps: dict[str, datetime | None]
    computation_timestamp: datetime | None
    version_info: dict[str, str]
    metadata: dict[str, Any]
    _scores: tuple[tuple[int | None, int | None, int], ...] = ()
    _freshness: Freshness = Freshness()
    not_compared: ClassVar[tuple[str, ...]] = ("_scores", "_freshness")

    def calculate_freshness(self, now: datetime | None = None) -> float:
        """The lowest freshness over the views.

        Args:
            now: an instant, naive is UTC; None: for each view the instant that its values hold for (`read_at`).

        Returns:
            A number from 0 to 1; 0 if a view has no row.
        """
        given = None if now is None else to_micros(now)
        scores = [
            0.0 if event is None else self._freshness.score((at if given is None else given) - event, sla)
            for event, sla, at in self._scores
        ]
        return min(scores, default=1.0)


def vectors_of(
    asked: ReadRequest,
    reads: Sequence[AnsweredView],
    sla: ReadSLA,
    rows: Sequence[dict[str, Any]],
    times: Mapping[str, Sequence[datetime | None]],
    statuses: Mapping[str, Sequence[Status]],
) -> list[FeatureVector]:
    """The vectors of a read, one for each row.

    Args:
        asked: the read.
        reads: what was read of each view.
        sla: the read's.
        rows: column → value of each row, keys among them, which are taken out of it.
        times: view label → the event time of each row.
        statuses: column → the status of each row.
    """
    slas = [sla.strictest(read.view) for read in reads]
    events = [known_times(read, aged_from(read.rows)) for read in reads]
    created = [known_times(read, read.rows.created()) for read in reads]
    at = [instants(read, len(rows)) for read in reads]
    out = []
    for row, record in enumerate(rows):
        stamps = {label: column[row] for label, column in times.items()}
        known = [stamp for stamp in stamps.values() if stamp is not None]
        made = [micros for column in created if (micros := column[row]) is not None]
        keys = {name: record.pop(name) for name in asked.keys}
        scores = tuple(
            (
                at[v][row] if not read.view.timed and events[v][row] is not None else events[v][row],
                slas[v] if read.view.timed else None,
                at[v][row],
            )
            for v, read in enumerate(reads)
        )
        metadata: dict[str, Any] = {"statuses": {name: column[row] for name, column in statuses.items()}}
        if asked.service is not None:
            metadata["service"] = "@".join(asked.service)
        out.append(
            FeatureVector(
                entity_id=next(iter(keys.values())) if len(keys) == 1 else keys,
                features=record,
                feature_timestamp=min(known, default=None),
                feature_timestamps=stamps,
                computation_timestamp=as_datetime(max(made)) if made else None,
                version_info={read.view.label: read.view.version for read in reads},
                metadata=metadata,
                _scores=scores,
                _freshness=asked.freshness,
            )
        )
    return out
