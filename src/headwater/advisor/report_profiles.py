"""The report's tables of profiles: what each says, with its source or as an unsourced claim, and its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from headwater.advisor.fit import NOT_STATED
from headwater.advisor.profiles import UNSOURCED, Profile
from headwater.advisor.result import ArchitectureComparison, FeatureStoreComponent
from headwater.html_tables import Group, Markup, html_table

_GROUPS = {
    "Figures": {
        "serving_latency_p99_ms": "p99 of a read, ms",
        "throughput_qps": "reads a second",
        "feature_freshness_minutes": "freshness, minutes",
    },
    "Stores and capabilities": {
        "provides_online": "online stores",
        "provides_offline": "offline stores",
        "capabilities": "capabilities",
        "unknown_capabilities": "not known",
    },
    "Price and levels: judgements of the profiles' authors where no source stands": {
        "cost_model": "cost model",
        "setup_complexity": "set-up",
        "operational_overhead": "operations",
        "flexibility": "flexibility",
        "lock_in": "lock-in",
        "time_to_market": "time to market",
        "budget_class": "budget",
        "ops_skill": "skill needed",
    },
    "Standing": {"status": "status", "measured": "measured by others"},
}


def profiles(comparison: ArchitectureComparison) -> Iterator[str]:
    """The table of profiles, with numbered sources below it."""
    found = {name: analysis.profile for name, analysis in comparison.detailed_analysis.items()}
    notes: dict[str, int] = {}
    yield '<h2>Profiles</h2><p class="note">What the scores rest on. A number leads to its source; what has none reads'
    yield f" “{UNSOURCED}”: override it with figures of your own (<code>--profiles</code>).</p>"
    table = html_table(["field", *found], _rows(list(found.values()), notes), row_heads=True, css="wide")
    yield f'<div class="scroll">{table}</div>'
    if notes:
        yield '<h3 style="margin-top:1.4rem">Sources</h3><ol class="sources">'
        yield "".join(f'<li id="source-{place}">{escape(source)}</li>' for source, place in notes.items())
        yield "</ol>"


def _rows(profiles: Sequence[Profile], notes: dict[str, int]) -> Iterator[Sequence[str] | Group]:
    for title, fields in _GROUPS.items():
        yield Group(title)
        for field, label in fields.items():
            if any(getattr(profile, field) for profile in profiles):
                yield [label, *(Markup(_cell(profile, field, notes)) for profile in profiles)]


def _cell(profile: Profile, field: str, notes: dict[str, int]) -> str:
    value = getattr(profile, field)
    if value == ():
        return '<span class="none">none stated</span>'
    if isinstance(value, tuple):
        text = "<br>".join(map(escape, value)) if field == "measured" else escape(", ".join(value).replace("_", " "))
    else:
        text = escape(str(value).replace("_", " ") if field == "cost_model" else str(value))
    if field in ("measured", "unknown_capabilities"):
        return text
    source = profile.sources.get(field)
    if source is None:
        return f'{text} <span class="claim">{UNSOURCED}</span>'
    place = notes.setdefault(source, len(notes) + 1)
    return f'{text} <sup><a href="#source-{place}" aria-label="source {place}">{place}</a></sup>'


def components(comparison: ArchitectureComparison) -> Iterator[str]:
    """What fills each part of each system."""
    analyses = comparison.detailed_analysis
    yield '<h2>Components</h2><p class="note">What fills each part of a feature store, according to the profile.</p>'
    rows = (
        [part.value.replace("_", " "), *(_part(analysis.components[part]) for analysis in analyses.values())]
        for part in FeatureStoreComponent
    )
    yield f'<div class="scroll">{html_table(["part", *analyses], rows, row_heads=True, css="wide")}</div>'


def _part(text: str) -> str:
    return Markup(f'<span class="none">{escape(text)}</span>') if text == NOT_STATED else text
