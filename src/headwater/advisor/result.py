"""What a comparison of architectures says: scores, fit, recommendation, sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from headwater.advisor import plain
from headwater.advisor.profiles import FeatureStoreComponent, FeatureStoreType, Profile
from headwater.advisor.requirements import CRITERIA, Requirements

__all__ = [
    "CRITERIA",
    "Analysis",
    "ArchitectureComparison",
    "ArchitectureScore",
    "FeatureStoreComponent",
    "FeatureStoreType",
    "Fit",
    "Sensitivity",
    "Span",
    "Verdict",
    "WeightChange",
]


_QUALIFIED = {True: "yes", None: "open", False: "no"}


class Verdict(StrEnum):
    """How a system does by one requirement."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Span:
    """A score from 0 to 1; `low` and `high` differ where the profile's figures leave it open."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class ArchitectureScore:
    """A system's score, 0 to 1.

    Attributes:
        total_score: the weighted mean of the criteria, at the middle of what is open.
        low: with every open figure at its worst.
        high: with every open figure at its best.
        qualified: whether it has each required store and need; None where its profile leaves one open.
    """

    total_score: float
    low: float
    high: float
    qualified: bool | None


@dataclass(frozen=True)
class Fit:
    """One requirement and one system.

    Attributes:
        requirement: its name, as it is typed ("max_latency_ms", "needs: streaming").
        verdict: met, missed or unknown.
        sentence: the verdict with the figures and their sources, and by how much it is missed.
        hard: whether missing it disqualifies.
    """

    requirement: str
    verdict: Verdict
    sentence: str
    hard: bool


@dataclass(frozen=True)
class Analysis:
    """All that is said of one system.

    Attributes:
        profile: its profile.
        criteria: criterion -> score.
        fit: one entry for each stated requirement, in the order of `Requirements`.
        components: what fills each part, "not stated" where the profile does not name it.
        warnings: what its status warns of (bought, deprecated, closed to new users), in a sentence each.
        parts: criterion -> part -> score; a criterion is the mean of its parts.
    """

    profile: Profile
    criteria: Mapping[str, Span]
    fit: Sequence[Fit]
    components: Mapping[FeatureStoreComponent, str]
    warnings: Sequence[str]
    parts: Mapping[str, Mapping[str, Span]] = field(default_factory=dict)

    @property
    def first_missed(self) -> Fit | None:
        """The first hard requirement that it misses, else the first hard one that is unknown."""
        hard = [fit for fit in self.fit if fit.hard]
        for verdict in (Verdict.MISSED, Verdict.UNKNOWN):
            for fit in hard:
                if fit.verdict is verdict:
                    return fit
        return None


@dataclass(frozen=True)
class WeightChange:
    """The nearest change of one weight (the others keep their proportions) that would alter the recommendation.

    Attributes:
        criterion: whose weight.
        weight: what it is now, after normalisation.
        lower: the greatest smaller weight at which another system leads; None: no smaller one does it.
        lower_leader: which leads there.
        higher: the least greater weight at which another system leads; None: no greater one does it.
        higher_leader: which leads there.
    """

    criterion: str
    weight: float
    lower: float | None
    lower_leader: str | None
    higher: float | None
    higher_leader: str | None


@dataclass(frozen=True)
class Sensitivity:
    """How firm the recommendation is.

    Attributes:
        weights: one entry a criterion.
        second_choice: the best of the rest that qualifies; None where there is none.
        first_places: system -> the share of draws in which it comes first, of those in which anything qualifies, a tie
            shared; they add up to 1 (0 where nothing ever qualifies).
        draws: how many random weightings and draws from the open figures.
        seed: of the draws.
        ranges_could_change_it: whether an open figure could make another system the first.
    """

    weights: Sequence[WeightChange]
    second_choice: str | None
    first_places: Mapping[str, float]
    draws: int
    seed: int
    ranges_could_change_it: bool


@dataclass(frozen=True)
class ArchitectureComparison:
    """The answer to one set of requirements.

    Attributes:
        requirements: what was asked for.
        weights: criterion -> weight; they add up to 1.
        architecture_scores: system -> score, the best first (qualified ones before open ones before disqualified ones).
        detailed_analysis: system -> all that is said of it, in the same order.
        recommendation: the system to take; None where nothing qualifies, several tie, or no requirement is stated.
        tied: the systems that share the first place, where it is shared; else empty.
        recommendation_reasoning: plain sentences.
        sensitivity: how firm that is.
    """

    requirements: Requirements
    weights: Mapping[str, float]
    architecture_scores: Mapping[str, ArchitectureScore]
    detailed_analysis: Mapping[str, Analysis]
    recommendation: str | None
    tied: Sequence[str]
    recommendation_reasoning: Sequence[str]
    sensitivity: Sensitivity

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data.

        Returns:
            A dict that `json.dumps` accepts.
        """
        return plain.table(self)

    def __str__(self) -> str:
        return plain.text(self._ranking(), self.recommendation_reasoning)

    def _repr_html_(self) -> str:
        return plain.html(self._ranking(), self.recommendation_reasoning)

    def _ranking(self) -> list[list[str]]:
        """The systems as a table, names of its columns first; empty where nothing is asked of them."""
        if self.requirements.asks_nothing:
            return []
        rows = [["system", "qualifies", "score", "range", "first in", "first missed"]]
        for name, score in self.architecture_scores.items():
            missed = self.detailed_analysis[name].first_missed
            rows.append(
                [
                    name,
                    _QUALIFIED[score.qualified],
                    f"{score.total_score:.3f}",
                    f"{score.low:.3f} to {score.high:.3f}" if score.low < score.high else "",
                    f"{self.sensitivity.first_places.get(name, 0.0):.0%}",
                    missed.requirement if missed is not None else "",
                ]
            )
        return rows
