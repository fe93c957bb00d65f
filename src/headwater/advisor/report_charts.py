"""The charts of the report: inline SVG, each with a title and a description, its values written beside the marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from headwater.advisor import labels
from headwater.advisor.result import ArchitectureScore, Span, WeightChange

_HEIGHT = 26
_LONGEST = 18


def number(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _svg(key: str, width: int, height: float, title: str, description: str, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {number(height)}" role="img" aria-labelledby="{key}-t {key}-d">'
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(description)}</desc>'
        f"{''.join(body)}</svg>"
    )


def _short(name: str) -> str:
    return escape(name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…")


def ranking(scores: Mapping[str, ArchitectureScore], first: Sequence[str]) -> str:
    """Total scores as bars; a line shows how far open figures carry them."""
    left, width, right = 132, 430, 218
    body = []
    for tick in range(0, 11, 2):
        x = left + width * tick / 10
        body.append(f'<line class="axis" x1="{number(x)}" x2="{number(x)}" y1="4" y2="{len(scores) * 34 + 6}"/>')
        body.append(
            f'<text class="soft" x="{number(x)}" y="{len(scores) * 34 + 24}" text-anchor="middle">{tick / 10:g}</text>'
        )
    for place, (name, score) in enumerate(scores.items()):
        y = place * 34 + 8
        kind = "first" if name in first else "bar"
        faded = " out" if score.qualified is False else ""
        strong = ' class="strong"' if name in first else ""
        body.append(f'<text{strong} x="{left - 12}" y="{y + 17}" text-anchor="end">{_short(name)}</text>')
        body.append(
            f'<rect class="{kind}{faded}" x="{left}" y="{y}" width="{number(width * score.total_score)}" '
            'height="24" rx="3"/>'
        )
        spread = ""
        if score.low < score.high:
            body.append(_whisker(left + width * score.low, left + width * score.high, y + 12))
            spread = f" ({score.low:.2f} to {score.high:.2f})"
        status = "" if score.qualified else f", {labels.QUALIFIED[score.qualified]}"
        body.append(
            f'<text x="{left + width + 14}" y="{y + 17}"><tspan class="strong">{score.total_score:.3f}</tspan>'
            f'<tspan class="soft">{spread}{status}</tspan></text>'
        )
    said = "; ".join(f"{name} {score.total_score:.3f}" for name, score in scores.items())
    return _svg("ranking", left + width + right, len(scores) * 34 + 30, "Total score of each system", said, body)


def _whisker(low: float, high: float, y: float) -> str:
    a, b = number(low), number(high)
    return f'<path class="range" d="M{a} {y - 5}v10M{a} {y}H{b}M{b} {y - 5}v10"/>'


def criterion(key: str, spans: Mapping[str, Span], first: Sequence[str]) -> str:
    """One criterion's score of each system."""
    left, width, right = 112, 150, 78
    body = []
    for place, (name, span) in enumerate(spans.items()):
        y = place * _HEIGHT + 3
        kind = "first" if name in first else "bar"
        strong = ' class="strong"' if name in first else ""
        body.append(f'<text{strong} x="{left - 8}" y="{y + 14}" text-anchor="end">{_short(name)}</text>')
        body.append(f'<rect class="track" x="{left}" y="{y}" width="{width}" height="18" rx="2"/>')
        body.append(
            f'<rect class="{kind}" x="{left}" y="{y}" width="{number(width * span.value)}" height="18" rx="2"/>'
        )
        text = f"{span.value:.2f}"
        if span.low < span.high:
            body.append(_whisker(left + width * span.low, left + width * span.high, y + 9))
            text = f"{span.low:.2f}–{span.high:.2f}"
        body.append(f'<text x="{left + width + 8}" y="{y + 14}">{text}</text>')
    said = "; ".join(
        f"{name} {span.value:.2f}" + (f" ({span.low:.2f} to {span.high:.2f})" if span.low < span.high else "")
        for name, span in spans.items()
    )
    title = f"Score of each system by {labels.CRITERION[key]}"
    return _svg(f"by-{key}", left + width + right, len(spans) * _HEIGHT, title, said, body)


def shares(found: Mapping[str, float], first: Sequence[str]) -> str:
    """How often each system comes first."""
    left, width, right = 132, 590, 58
    body = []
    for place, (name, share) in enumerate(found.items()):
        y = place * 30 + 4
        kind = "first" if name in first else "bar"
        body.append(f'<text x="{left - 12}" y="{y + 15}" text-anchor="end">{_short(name)}</text>')
        body.append(f'<rect class="track" x="{left}" y="{y}" width="{width}" height="20" rx="3"/>')
        if share:
            body.append(
                f'<rect class="{kind}" x="{left}" y="{y}" width="{number(max(2, width * share))}" height="20" rx="3"/>'
            )
        body.append(f'<text class="strong" x="{left + width + 12}" y="{y + 15}">{labels.percent(share)}</text>')
    said = "; ".join(f"{name} {labels.percent(share)}" for name, share in found.items())
    return _svg("shares", left + width + right, len(found) * 30 + 4, "First places in random weightings", said, body)


def weights(changes: Sequence[WeightChange], leader: str) -> str:
    """For each weight: where it is, how far it may move, and who leads beyond."""
    left, width, right = 132, 610, 38
    body = []
    for tick in (0, 25, 50, 75, 100):
        x = number(left + width * tick / 100)
        body.append(f'<line class="axis" x1="{x}" x2="{x}" y1="0" y2="{len(changes) * 48 + 4}"/>')
        body.append(f'<text class="soft" x="{x}" y="{len(changes) * 48 + 22}" text-anchor="middle">{tick}%</text>')
    for place, change in enumerate(changes):
        y = place * 48 + 20
        low = change.lower if change.lower is not None else 0.0
        high = change.higher if change.higher is not None else 1.0
        start, end = left + width * low, left + width * high
        body.append(
            f'<text x="{left - 12}" y="{y + 11}" text-anchor="end">{escape(labels.CRITERION[change.criterion])}</text>'
        )
        body.append(f'<rect class="track" x="{left}" y="{y}" width="{width}" height="14" rx="3"/>')
        filled = number(max(2, end - start))
        body.append(f'<rect class="hold" x="{number(start)}" y="{y}" width="{filled}" height="14" rx="3"/>')
        body.append(f'<circle class="now" cx="{number(left + width * change.weight)}" cy="{y + 7}" r="6.5"/>')
        if change.lower is not None:
            anchor = "end" if start > left + 190 else "start"
            body.append(
                f'<text class="soft" x="{number(start)}" y="{y - 5}" text-anchor="{anchor}">'
                f"{_short(str(change.lower_leader))} to {change.lower:.0%}</text>"
            )
        if change.higher is not None:
            anchor = "start" if end < left + width - 190 else "end"
            body.append(
                f'<text class="soft" x="{number(end)}" y="{y - 5}" text-anchor="{anchor}">'
                f"{_short(str(change.higher_leader))} from {change.higher:.0%}</text>"
            )
    said = "; ".join(_said(change) for change in changes)
    title = f"How far each weight may move before another system than {leader} leads"
    return _svg("weights", left + width + right, len(changes) * 48 + 28, title, said, body)


def _said(change: WeightChange) -> str:
    parts = [f"{labels.CRITERION[change.criterion]} is {change.weight:.1%}"]
    if change.lower is not None:
        parts.append(f"{change.lower_leader} leads at {change.lower:.1%} and below")
    if change.higher is not None:
        parts.append(f"{change.higher_leader} leads at {change.higher:.1%} and above")
    return ", ".join(parts if parts[1:] else [*parts, "no change of it alone alters the answer"])
