"""A comparison as one self-contained page: charts as inline SVG, nothing loaded, no script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from pathlib import Path

from headwater.advisor import labels, report_charts
from headwater.advisor.report_profiles import components, profiles
from headwater.advisor.result import ArchitectureComparison, Fit, Verdict
from headwater.errors import ConfigError
from headwater.html_tables import Markup, html_table
from headwater.scratch import whole_file

_SIGNS = {Verdict.MET: "✓", Verdict.MISSED: "✗", Verdict.UNKNOWN: "?"}


def write(comparison: ArchitectureComparison, file: str | Path) -> Path:
    """Write the page: whole, or not at all.

    Raises:
        ConfigError: it cannot be written there; what stood there before is unharmed.
    """
    target = Path(file)
    text = page(comparison)
    try:
        target = target.resolve()
        if target.exists() and not target.is_file():
            if target.is_dir():
                raise IsADirectoryError(0, "it is a folder")
            target.write_text(text, encoding="utf-8")
            return target
        with whole_file(target) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as bad:
        reason = bad.strerror if isinstance(bad, OSError) and bad.strerror else bad
        raise ConfigError(f"the page cannot be written to {file}: {reason}") from None
    return target


def page(comparison: ArchitectureComparison) -> str:
    """The page's text."""
    style = (files("headwater.advisor") / "report.css").read_text(encoding="utf-8")
    answer = _answer(comparison)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            # the browser asks for an icon unless the page has one
            '<link rel="icon" href="data:,">',
            f"<title>{escape(answer)} · feature store comparison</title>",
            f"<style>\n{style}</style>\n</head>\n<body>",
            *_top(comparison, answer),
            "<main>",
            *_reasoning(comparison),
            *(_ranking(comparison) if not comparison.requirements.asks_nothing else ()),
            *components(comparison),
            *profiles(comparison),
            "</main>",
            "<footer>Written by <code>headwater compare</code>. Every figure is the profile's own; "
            "an unsourced claim is what a vendor comparison says and is not verified.</footer>",
            "</body>\n</html>\n",
        ]
    )


def _ranking(comparison: ArchitectureComparison) -> Iterator[str]:
    for part in (_charts, _fit, _firmness, _systems):
        yield from part(comparison)


def _first(comparison: ArchitectureComparison) -> list[str]:
    return [comparison.recommendation] if comparison.recommendation is not None else list(comparison.tied)


def _answer(comparison: ArchitectureComparison) -> str:
    name = comparison.recommendation
    qualified = comparison.architecture_scores[name].qualified if name is not None else None
    return labels.verdict(name, tuple(comparison.tied), qualified, stated=not comparison.requirements.asks_nothing)


def _top(comparison: ArchitectureComparison, answer: str) -> Iterator[str]:
    yield f'<header class="top"><p class="eyebrow">Feature store comparison</p><h1>{escape(answer)}</h1>'
    asked = comparison.requirements.to_dict()
    asked.pop("decision_weights", None)
    if comparison.recommendation_reasoning:
        said = comparison.recommendation_reasoning[0].removeprefix(f"{answer}: ")
        yield f'<p class="lead">{escape(said[:1].upper() + said[1:])}</p>'
    chips = [labels.requirement(f"{name}: {item}", asked) for name, value in asked.items() for item in _items(value)]
    if chips:
        shown = "".join(f"<li>{escape(chip)}</li>" for chip in chips)
        yield f'<ul class="chips" aria-label="Requirements">{shown}</ul>'
    else:
        yield '<p class="note">No requirements given, so nothing is ranked.</p>'
    if comparison.requirements.asks_nothing:
        yield "</header>"
        return
    yield f'<dl class="facts">{"".join(_facts(comparison))}</dl></header>'


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else [""]


def _facts(comparison: ArchitectureComparison) -> Iterator[str]:
    firm, first, scores = comparison.sensitivity, _first(comparison), comparison.architecture_scores
    if first:
        score = scores[first[0]]
        spread = f"{score.low:.3f} to {score.high:.3f}" if score.low < score.high else "no figure of it is open"
        yield _fact("Score, of 1", f"{score.total_score:.3f}", spread)
        share = sum(firm.first_places.get(name, 0.0) for name in first)
        yield _fact("First place", labels.percent(share), f"of {firm.draws:,} random weightings")
    second = firm.second_choice
    if second is not None:
        behind = (
            comparison.architecture_scores[first[0]].total_score - comparison.architecture_scores[second].total_score
        )
        yield _fact("Second choice", second, f"{behind:.3f} behind")
    else:
        yield _fact("Second choice", "none", "no other system qualifies" if len(first) == 1 else "")
    could = "could change it" if firm.ranges_could_change_it else "cannot change it"
    yield _fact("Open figures", could if first else "–", "ranges and unknowns of the profiles")


def _fact(name: str, value: str, more: str) -> str:
    small = f"<small>{escape(more)}</small>" if more else ""
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{small}</dd></div>"


def _reasoning(comparison: ArchitectureComparison) -> Iterator[str]:
    why = [said for said in comparison.recommendation_reasoning[1:] if not said.startswith("Warning: ")]
    if why:
        yield '<h2>Why</h2><ul class="why">' + "".join(f"<li>{escape(said)}</li>" for said in why) + "</ul>"
    warnings = [said for analysis in comparison.detailed_analysis.values() for said in analysis.warnings]
    if warnings:
        yield '<ul class="warn" aria-label="Warnings">'
        yield "".join(f"<li><b>Warning.</b> {escape(said)}</li>" for said in warnings)
        yield "</ul>"


def _charts(comparison: ArchitectureComparison) -> Iterator[str]:
    first = _first(comparison)
    scores, analyses = comparison.architecture_scores, comparison.detailed_analysis
    yield '<h2>Total score</h2><p class="note">The weighted mean of the criteria, from 0 to 1. A thin line shows how'
    yield " far figures that are open could carry it. Systems that qualify come first, then open ones, then those"
    yield f' that are out.</p><figure class="card">{report_charts.ranking(scores, first)}</figure>'
    yield '<h2>Score by criterion</h2><p class="note">What was not asked for counts 1 for every system. The share'
    yield ' beside a criterion is its weight.</p><div class="panels">'
    for key, weight in comparison.weights.items():
        spans = {name: analysis.criteria[key] for name, analysis in analyses.items()}
        yield f'<figure class="card"><h3>{labels.CRITERION[key]} <span>{weight:.1%}</span></h3>'
        yield f"{report_charts.criterion(key, spans, first)}</figure>"
    yield "</div>"
    rows = [
        [
            name,
            f"{score.total_score:.3f}",
            f"{score.low:.3f} to {score.high:.3f}",
            labels.QUALIFIED[score.qualified],
            *(f"{analyses[name].criteria[key].value:.2f}" for key in comparison.weights),
        ]
        for name, score in scores.items()
    ]
    head = ["system", "total", "low to high", "needs", *(labels.CRITERION[key] for key in comparison.weights)]
    yield _table("The scores as a table", head, rows)


def _table(summary: str, head: list[str], rows: list[list[str]]) -> str:
    table = html_table(head, rows, row_heads=True)
    return f'<details><summary>{escape(summary)}</summary><div class="scroll">{table}</div></details>'


def _pill(verdict: Verdict) -> Markup:
    sign = f'<span aria-hidden="true">{_SIGNS[verdict]}</span>'
    return Markup(f'<span class="pill {verdict.value}">{sign} {verdict.value}</span>')


def _fit(comparison: ArchitectureComparison) -> Iterator[str]:
    analyses, asked = comparison.detailed_analysis, comparison.requirements.to_dict()
    entries = next(iter(analyses.values())).fit
    if not entries:
        return
    yield '<h2>Fit</h2><p class="note">Each requirement against each system. A system that misses a “must” is out.</p>'
    rows = []
    for index, entry in enumerate(entries):
        must = ' <span class="must">must</span>' if entry.hard else ""
        label = Markup(escape(labels.requirement(entry.requirement, asked)) + must)
        rows.append([label, *(_pill(analysis.fit[index].verdict) for analysis in analyses.values())])
    yield f'<div class="scroll">{html_table(["requirement", *analyses], rows, row_heads=True)}</div>'


def _firmness(comparison: ArchitectureComparison) -> Iterator[str]:
    firm, first = comparison.sensitivity, _first(comparison)
    if not first:
        return
    leader = first[0] if len(first) == 1 else "the leaders"
    if firm.weights:
        yield '<h2>What would change the answer</h2><p class="note">One weight moves, the others keep their'
        yield f" proportions. The ring is the weight now; in the filled span {escape(leader)} stays first, and a"
        yield ' label says who leads beyond it.</p><figure class="card">'
        yield f"{report_charts.weights(firm.weights, leader)}</figure>"
        rows = [
            [
                labels.CRITERION[change.criterion],
                f"{change.weight:.1%}",
                f"{change.lower_leader} at {change.lower:.1%} and below" if change.lower is not None else "nothing",
                f"{change.higher_leader} at {change.higher:.1%} and above" if change.higher is not None else "nothing",
            ]
            for change in firm.weights
        ]
        yield _table("The weights as a table", ["weight", "now", "less of it", "more of it"], rows)
    yield f'<h2>First places</h2><p class="note">Of {firm.draws:,} random weightings, with open figures drawn from'
    yield f' their ranges (seed {firm.seed}).</p><figure class="card">'
    yield f"{report_charts.shares(firm.first_places, first)}</figure>"
    shares = [[name, f"{share:.2%}"] for name, share in firm.first_places.items()]
    yield _table("The shares as a table", ["system", "first in"], shares)


def _systems(comparison: ArchitectureComparison) -> Iterator[str]:
    asked = comparison.requirements.to_dict()
    yield "<h2>System by system</h2>"
    for name, score in comparison.architecture_scores.items():
        analysis = comparison.detailed_analysis[name]
        said = {True: "met", None: "unknown", False: "missed"}[score.qualified]
        yield f'<section class="card system"><div><h3>{escape(name)}</h3>'
        yield f'<div class="total">{score.total_score:.3f}</div>'
        yield f'<span class="pill {said}">{labels.QUALIFIED[score.qualified]}</span></div><div>'
        yield f'<p class="note">{escape(analysis.profile.status)}</p>'
        yield f"<ul>{''.join(_sentence(entry, asked) for entry in analysis.fit)}</ul></div></section>"


def _sentence(entry: Fit, asked: dict[str, object]) -> str:
    label = escape(labels.requirement(entry.requirement, asked))
    return f"<li>{_pill(entry.verdict)} <b>{label}</b>: {escape(entry.sentence)}</li>"
