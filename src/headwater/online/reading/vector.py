"""FeatureVector: the features of one entity as a model takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from headwater.clock import to_micros
from headwater.freshness import Freshness
from headwater.values import PartlyCompared


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
