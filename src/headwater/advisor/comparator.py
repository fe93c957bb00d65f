"""The comparator: requirements in, a comparison of architectures out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from headwater.advisor import fit, reasoning, scoring, sensitivity
from headwater.advisor.profiles import Profile, load
from headwater.advisor.requirements import Requirements, check_needs
from headwater.advisor.result import Analysis, ArchitectureComparison
from headwater.errors import UsageError, nearest

SEED = 0
DRAWS = 10_000


class FeatureStoreArchitectureComparator:
    """Compares feature store architectures by stated requirements.

    Args:
        profiles: profiles to add to the package's or to lay over them: a TOML file, or a mapping of its form (name ->
            table of fields).

    Raises:
        ConfigError, UsageError: a profile that is not valid, with its file, name and field.

    Examples:
        >>> comparison = FeatureStoreArchitectureComparator().compare_architectures({"max_latency_ms": 10})
        >>> comparison.recommendation in comparison.architecture_scores
        True
    """

    def __init__(self, profiles: str | Path | Mapping[str, Any] | None = None) -> None:
        self._profiles = load(profiles)

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """System -> its profile."""
        return MappingProxyType(self._profiles)

    def compare_architectures(
        self,
        requirements: Requirements | Mapping[str, Any] | None = None,
        *,
        systems: Iterable[str] | None = None,
        seed: int = SEED,
        draws: int = DRAWS,
    ) -> ArchitectureComparison:
        """Score every system, state how it fits, recommend one, and state what would change that.

        A system that is only maintained, or closed to new users, is recommended only with `allow_closed`.

        Args:
            requirements: `Requirements`, or a mapping of their names. Where none is stated nothing is recommended, and
                the reasoning says what to ask.
            systems: the systems to compare; None: all that there are profiles of.
            seed: of the random weightings and draws.
            draws: how many there are.

        Returns:
            The comparison: scores, fit, recommendation with its reasons, and sensitivity.

        Raises:
            UsageError: an unknown requirement, need or system (with the nearest name), or a value that is not possible.
        """
        asked = Requirements.of(requirements)
        check_needs(asked, self._profiles.values())
        chosen = self._chosen(systems)
        _check_whole("seed", seed, 0)
        _check_whole("draws", draws, 1)
        weights = asked.weights
        parts = {name: scoring.parts(asked, profile) for name, profile in chosen.items()}
        criteria = {name: scoring.criteria(scored) for name, scored in parts.items()}
        unsorted = {
            name: scoring.total(weights, criteria[name], scoring.qualifies(asked, profile))
            for name, profile in chosen.items()
        }
        scores = {name: unsorted[name] for name in scoring.ranked(unsorted)}
        analyses = {
            name: Analysis(
                profile=chosen[name],
                criteria=criteria[name],
                fit=tuple(fit.fits(asked, chosen[name])),
                components=fit.components(chosen[name]),
                warnings=tuple(fit.warnings(chosen[name])),
                parts=parts[name],
            )
            for name in scores
        }
        firm = sensitivity.analyse(asked, chosen, parts, criteria, scores, seed=seed, draws=draws)
        # with nothing to rank by, what is missing is asked for
        first = scoring.leaders(scores) if not asked.asks_nothing else []
        return ArchitectureComparison(
            requirements=asked,
            weights=weights,
            architecture_scores=scores,
            detailed_analysis=analyses,
            recommendation=first[0] if len(first) == 1 else None,
            tied=tuple(first) if first[1:] else (),
            recommendation_reasoning=tuple(reasoning.sentences(asked, scores, analyses, firm)),
            sensitivity=firm,
        )

    def _chosen(self, systems: Iterable[str] | None) -> dict[str, Profile]:
        if systems is None:
            return dict(self._profiles)
        names = [systems] if isinstance(systems, str) else list(systems)
        for name in names:
            if name not in self._profiles:
                raise UsageError(
                    f"systems: no profile {str(name)!r}{nearest(str(name), self._profiles)}; "
                    f"there are {', '.join(self._profiles)}"
                )
        if not names:
            raise UsageError("systems: name at least one, or omit it to compare all")
        return {str(name): self._profiles[name] for name in names}


def _check_whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name}={value!r}: a whole number of at least {least}")
