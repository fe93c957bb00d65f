"""How a comparison of architectures looks in a terminal: sheets with bars, sentences, what would change it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from headwater.advisor import labels
from headwater.cli.sheet import Drawable, Fields, Line, Sheet

if TYPE_CHECKING:
    from headwater.advisor.result import ArchitectureComparison, ArchitectureScore, Span, WeightChange

_BAR = 20


def drawn(comparison: ArchitectureComparison) -> Iterator[Drawable]:
    """All that is shown, the answer first."""
    yield from _answer(comparison)
    if comparison.requirements.asks_nothing:
        yield Fields([("-", sentence) for sentence in comparison.recommendation_reasoning], "Questions to answer first")
        yield Line("headwater compare --interactive asks for each; --file FILE reads them from TOML", "dim")
        return
    yield _ranking(comparison)
    yield Line(f"{_marks()[0]} certain, {_marks()[1]} open in the figures; first in: of random weightings", "dim")
    yield _criteria(comparison)
    if comparison.requirements.stated.keys() - {"decision_weights"}:
        yield _fit(comparison)
        yield Line("* failing it disqualifies a system; --html explains every verdict in a sentence", "dim")
    why = [said for said in comparison.recommendation_reasoning if not said.startswith("Warning: ")]
    yield Fields([("-", sentence) for sentence in why], "Why")
    warnings = [
        (name, warning.removeprefix(f"{name}: "))
        for name, analysis in comparison.detailed_analysis.items()
        for warning in analysis.warnings
    ]
    if warnings:
        yield Fields(warnings, "Warnings")
    changes = comparison.sensitivity.weights
    if any(change.lower is not None or change.higher is not None for change in changes):
        yield Sheet(
            ["weight", "now", "down to", "leads", "up to", "leads there"],
            [_change(change) for change in changes],
            "What would change the answer",
        )


def _answer(comparison: ArchitectureComparison) -> Iterator[Drawable]:
    name = comparison.recommendation
    qualified = comparison.architecture_scores[name].qualified if name is not None else None
    style = "bold green" if qualified else "bold yellow"
    stated = not comparison.requirements.asks_nothing
    yield Line(labels.verdict(name, tuple(comparison.tied), qualified, stated=stated), style)


def _ranking(comparison: ArchitectureComparison) -> Sheet:
    shares = comparison.sensitivity.first_places
    rows = [
        (
            name,
            _bar(score),
            f"{score.total_score:.3f}",
            _between(score.low, score.high, 3) if score.low < score.high else "",
            labels.percent(shares.get(name, 0.0)),
            labels.QUALIFIED[score.qualified],
        )
        for name, score in comparison.architecture_scores.items()
    ]
    return Sheet.of("Score, of 1", ["system", "", "total", "low to high", "first in", "needs"], rows)


def _criteria(comparison: ArchitectureComparison) -> Sheet:
    heads = [f"{labels.CRITERION[name]}\n{labels.percent(weight)}" for name, weight in comparison.weights.items()]
    rows = [
        [name, *(_span(analysis.criteria[criterion]) for criterion in comparison.weights)]
        for name, analysis in comparison.detailed_analysis.items()
    ]
    return Sheet(["system\nweight", *heads], rows, "Score by criterion")


def _fit(comparison: ArchitectureComparison) -> Sheet:
    systems = list(comparison.detailed_analysis)
    asked = comparison.requirements.to_dict()
    rows = []
    for place, fit in enumerate(comparison.detailed_analysis[systems[0]].fit):
        label = labels.requirement(fit.requirement, asked) + ("*" if fit.hard else "")
        rows.append([label, *(comparison.detailed_analysis[system].fit[place].verdict for system in systems)])
    return Sheet(["requirement", *systems], rows, "Fit")


def _change(change: WeightChange) -> list[str | None]:
    lower = (labels.percent(change.lower), change.lower_leader) if change.lower is not None else (None, None)
    higher = (labels.percent(change.higher), change.higher_leader) if change.higher is not None else (None, None)
    return [labels.CRITERION[change.criterion], labels.percent(change.weight), *lower, *higher]


def _span(span: Span) -> str:
    return f"{span.value:.2f}" if span.low == span.high else _between(span.low, span.high, 2)


def _between(low: float, high: float, digits: int) -> str:
    return f"{low:.{digits}f}-{high:.{digits}f}"


def _bar(score: ArchitectureScore) -> str:
    certain, may, rest = _marks()
    low, high = round(score.low * _BAR), round(score.high * _BAR)
    return certain * low + may * (high - low) + rest * (_BAR - high)


def _marks() -> tuple[str, str, str]:
    """Certain, open, the rest: block characters where standard output has them."""
    blocks = ("█", "▒", "·")
    try:
        "".join(blocks).encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return "#", "=", "."
    return blocks
