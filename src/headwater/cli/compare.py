"""`headwater compare`: which feature store architecture fits, by how much, and what would change that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import headwater as hw
from headwater.cli import later
from headwater.cli.run import Run, command
from headwater.cli.sheet import Line
from headwater.errors import UsageError

if TYPE_CHECKING:
    from headwater.advisor.result import ArchitectureComparison
    from headwater.cli.compare_measure import Measured

_NUMBERS = ("max_latency_ms", "min_throughput_qps", "freshness_minutes", "team_size")
_LISTS = ("required_online_stores", "required_offline_stores", "needs")


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    command(app)(compare)


def compare(
    run: Run,
    max_latency_ms: Annotated[float | None, typer.Option(metavar="MS", help="Maximum p99 latency of a read.")] = None,
    min_throughput_qps: Annotated[float | None, typer.Option(metavar="N", help="Minimum reads per second.")] = None,
    freshness_minutes: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Maximum age of a served feature.")
    ] = None,
    cost_preference: Annotated[
        str | None, typer.Option(metavar="KIND", help="Price preference: low, balanced, premium.")
    ] = None,
    flexibility_importance: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="Importance of choosing your own components: 0 to 1, or low, medium, high."),
    ] = None,
    vendor_risk_tolerance: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Acceptable vendor lock-in: low, medium, high.")
    ] = None,
    online_store: Annotated[list[str] | None, typer.Option(metavar="STORE,…", help="Required online stores.")] = None,
    offline_store: Annotated[list[str] | None, typer.Option(metavar="STORE,…", help="Required offline stores.")] = None,
    need: Annotated[
        list[str] | None,
        typer.Option(metavar="NEED,…", help="Required capabilities: streaming, self_hosted, …"),
    ] = None,
    team_size: Annotated[float | None, typer.Option(metavar="N", help="Team size: people who run it.")] = None,
    ops_skill: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="The team's operations experience: low, medium, high.")
    ] = None,
    budget_class: Annotated[str | None, typer.Option(metavar="LEVEL", help="Budget class: low, medium, high.")] = None,
    allow_closed: Annotated[
        bool, typer.Option("--allow-closed", help="Include systems in maintenance mode or closed to new users.")
    ] = False,
    weight: Annotated[
        list[str] | None,
        typer.Option(metavar="CRITERION=W,…", help="Weight of a criterion; if any is given, only those count."),
    ] = None,
    profiles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Profiles to add, or to override the built-in ones, in TOML.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Requirements in TOML; options take precedence.")
    ] = None,
    interactive: Annotated[bool, typer.Option("--interactive", help="Prompt for each requirement.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML report with charts to this file.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random weightings.")] = 0,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the project's own store (read-only) and include it.")
    ] = False,
    measure_seconds: Annotated[float, typer.Option(metavar="SECONDS", help="Time limit of the measurement.")] = 10.0,
    save_measurement: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the measurement to this file, in JSON.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show what changed since a saved measurement.")
    ] = None,
) -> None:
    """Compare feature store architectures by your requirements.

    Works without a project, and every requirement is optional: one that is not given counts the same for every system.
    The recommendation comes with its reasons, and with what would change it.
    """
    for option, named in (("--save-measurement", save_measurement), ("--against", against)):
        if named is not None and not measure:
            raise UsageError(f"{option} requires --measure")
    comparator = hw.FeatureStoreArchitectureComparator(profiles)
    asked: dict[str, Any] = dict(later.requirements.Requirements.from_file(file).stated) if file is not None else {}
    given = {
        "max_latency_ms": max_latency_ms,
        "min_throughput_qps": min_throughput_qps,
        "freshness_minutes": freshness_minutes,
        "cost_preference": cost_preference,
        "flexibility_importance": flexibility_importance and _value("flexibility_importance", flexibility_importance),
        "vendor_risk_tolerance": vendor_risk_tolerance,
        "required_online_stores": _names(online_store),
        "required_offline_stores": _names(offline_store),
        "needs": _names(need),
        "team_size": team_size,
        "ops_skill": ops_skill,
        "budget_class": budget_class,
        "allow_closed": allow_closed or None,
        "decision_weights": {**asked.get("decision_weights", {}), **_weights(weight)} if weight else None,
    }
    asked |= {name: value for name, value in given.items() if value is not None}
    if interactive:
        _check(asked, comparator)
        asked = later.compare_ask.ask(asked, _value, lambda answer: _check(answer, comparator))
    own = None
    if measure:
        # what cannot be asked for is told before the measurement takes its time
        _check(asked, comparator)
        own = later.compare_measure.measured(run, measure_seconds, save_measurement, against)
        comparator = hw.FeatureStoreArchitectureComparator(own.profiles(profiles))
    _answer(run, comparator.compare_architectures(asked, seed=seed), own, html)


def _answer(run: Run, comparison: ArchitectureComparison, own: Measured | None, html: Path | None) -> None:
    """Write the report, and say what came out.

    Args:
        run: the command.
        comparison: what came out.
        own: one's own store, measured; None: it was not.
        html: the file of the report; None: none is written.
    """
    if html is not None:
        later.report_html.write(comparison, html)
    wrote = ({"html": str(html)} if html is not None else {}) | (own.to_dict() if own is not None else {})
    if run.json:
        run.answer({**comparison.to_dict(), **wrote})
        return
    run.say(*(own.drawn() if own is not None else ()), *later.compare_draw.drawn(comparison))
    if html is not None:
        run.say("", Line(f"wrote {html}", "green"))


def _check(asked: Mapping[str, Any], comparator: hw.FeatureStoreArchitectureComparator) -> None:
    """Refuse what cannot be asked for."""
    requirements = later.requirements
    requirements.check_needs(requirements.Requirements.of(asked), comparator.profiles.values())


def _value(name: str, text: str) -> Any:
    """The value of a requirement's text."""
    if name in _LISTS:
        return _names([text])
    if name == "decision_weights":
        return _weights([text])
    if name in _NUMBERS:
        return _number(name, text)
    if name == "flexibility_importance":
        try:
            return float(text)
        except ValueError:
            return text.strip().lower()
    return text.strip().lower()


def _names(given: Sequence[str] | None) -> list[str] | None:
    if not given:
        return None
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def _weights(given: Sequence[str] | None) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text in (part.strip() for texts in given or () for part in texts.split(",")):
        if not text:
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"weight {text!r}: write performance=0.4")
        weights[name.strip()] = _number(f"weight {name.strip()}", value)
    return weights


def _number(name: str, text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        raise UsageError(f"{name} = {text.strip()!r}: must be a number") from None
