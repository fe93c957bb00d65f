"""Why a system is recommended, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headwater.advisor.labels import QUESTIONS, percent
from headwater.advisor.profiles import Profile
from headwater.advisor.requirements import CRITERIA, Requirements
from headwater.advisor.result import Analysis, ArchitectureScore, Fit, Sensitivity, Verdict
from headwater.advisor.scoring import LIMITS, TIE, leaders
from headwater.advisor.sensitivity import challengers

Scores = Mapping[str, ArchitectureScore]
Analyses = Mapping[str, Analysis]

NOTHING_STATED = "No requirements given, so nothing is ranked. Answer those of these that you are sure of:"

_CRITERION_OF = {
    "max_latency_ms": "performance",
    "min_throughput_qps": "performance",
    "freshness_minutes": "performance",
    "cost_preference": "cost",
    "budget_class": "cost",
    "flexibility_importance": "flexibility",
    "vendor_risk_tolerance": "vendor_lock_in_risk",
    "team_size": "operational_complexity",
    "ops_skill": "operational_complexity",
}


def sentences(requirements: Requirements, scores: Scores, analyses: Analyses, sensitivity: Sensitivity) -> list[str]:
    """The reasoning, from the recommendation to what could change it."""
    if requirements.asks_nothing:
        return [NOTHING_STATED, *(f"{question}? ({name})" for name, question in QUESTIONS.items())]
    first = leaders(scores)
    if not first:
        return [*_nothing(analyses), *_notes(requirements, analyses)]
    said = _recommendation(first, scores, analyses)
    open_first = scores[first[0]].qualified is None
    for name in first:
        said += _facts(name, analyses[name], named=bool(first[1:]))
    for name in first:
        said += [f"Warning: {warning}" for warning in analyses[name].warnings]
    if not first[1:]:
        said += _second(first[0], scores, analyses, sensitivity, requirements.weights)
    said += _ranges(first, scores, analyses)
    said += _firmness(first, sensitivity, open_first)
    said += _out(scores, analyses)
    return [*said, *_notes(requirements, analyses)]


def _recommendation(first: Sequence[str], scores: Scores, analyses: Analyses) -> list[str]:
    score = scores[first[0]]
    if score.qualified is None:
        said = ["No system is known to meet all hard requirements."]
        said += [f"{name} may: check first {_unknowns(analyses[name])}." for name in first]
        take = f"Use {first[0]} only once that is checked"
    else:
        said, take = [], f"Use {first[0]}"
    if first[1:]:
        return [*said, f"{listed(first)} tie at {score.total_score:.3f} of 1: the requirements do not separate them."]
    span = (
        f", {score.low:.3f} to {score.high:.3f} depending on its open figures" if score.high - score.low > TIE else ""
    )
    return [*said, f"{take}: it scores {score.total_score:.3f} of 1{span}."]


def _facts(name: str, analysis: Analysis, named: bool) -> list[str]:
    if not analysis.fit:
        return []
    of = f"{name}: " if named else ""
    met, missed, unknown = (
        _requirements(analysis.fit, verdict) for verdict in (Verdict.MET, Verdict.MISSED, Verdict.UNKNOWN)
    )
    counted = f"{name if named else 'It'} meets {len(met)} of {len(analysis.fit)} requirements"
    counted += f", misses {listed(missed)}" if missed else ""
    counted += f", leaves open {listed(unknown)}" if unknown else ""
    said = [f"{counted}."]
    has = [fit for fit in analysis.fit if fit.hard and fit.verdict is Verdict.MET]
    stores = [_asked(fit) for fit in has if not fit.requirement.startswith("needs: ")]
    needs = [_asked(fit) for fit in has if fit.requirement.startswith("needs: ")]
    if stores:
        said.append(f"{name} takes {listed(stores)}.")
    if needs:
        said.append(f"{name} has {listed(needs)} ({analysis.profile.source('capabilities')}).")
    return said + [
        f"{of}{fit.requirement}: {fit.sentence}."
        for fit in analysis.fit
        if not fit.hard or fit.verdict is not Verdict.MET
    ]


def _asked(fit: Fit) -> str:
    """The store or need of a requirement such as "needs: streaming"."""
    return fit.requirement.partition(": ")[2]


def _requirements(fits: Sequence[Fit], verdict: Verdict) -> list[str]:
    return [fit.requirement for fit in fits if fit.verdict is verdict]


def _second(
    first: str, scores: Scores, analyses: Analyses, sensitivity: Sensitivity, weights: Mapping[str, float]
) -> list[str]:
    second = sensitivity.second_choice
    if second is None:
        return ["No other system qualifies, so there is no second choice."]
    behind = scores[first].total_score - scores[second].total_score
    said = [f"Second choice: {second}, {behind:.3f} behind."]
    gains = {
        name: weights[name] * (analyses[first].criteria[name].value - analyses[second].criteria[name].value)
        for name in CRITERIA
    }
    for word, sign in (("leads", 1), ("trails", -1)):
        best = max(gains, key=lambda name: sign * gains[name])
        if sign * gains[best] > TIE:
            mine, other = (analyses[name].criteria[best].value for name in (first, second))
            said.append(
                f"{first} {word} {second} most by {best}: "
                f"{mine:.2f} against {other:.2f}, a weight of {weights[best]:.0%}."
            )
    said += [f"Warning: {warning}" for warning in analyses[second].warnings]
    return said


def _ranges(first: Sequence[str], scores: Scores, analyses: Analyses) -> list[str]:
    others = challengers(scores)
    if not others:
        wide = [n for n in scores if scores[n].qualified is not False and scores[n].high - scores[n].low > TIE]
        return ["What is open in the figures cannot change the first place."] if wide else []
    said = []
    for name in others:
        mine = _what_is_open(analyses[name])
        theirs = [what for winner in first if winner != name for what in _what_is_open(analyses[winner], winner)]
        said.append(
            f"What is open could put {name} first (up to {scores[name].high:.3f}): it depends on "
            f"{listed([*mine, *theirs]) or 'what is not known'}."
        )
    return said


def _what_is_open(analysis: Analysis, owner: str = "its") -> list[str]:
    of = "its" if owner == "its" else f"{owner}'s"
    found = []
    for fit in analysis.fit:
        if fit.requirement in LIMITS:
            figure = analysis.profile.figure(LIMITS[fit.requirement])
            if figure.ends is None or figure.ends[0] < figure.ends[1]:
                found.append(f"{of} {LIMITS[fit.requirement]} ({figure})")
        elif fit.hard and fit.verdict is Verdict.UNKNOWN:
            found.append(f"whether {'it' if owner == 'its' else owner} has {_asked(fit)}")
    return found


def _firmness(first: Sequence[str], sensitivity: Sensitivity, open_first: bool) -> list[str]:
    shares, draws = sensitivity.first_places, f"{sensitivity.draws:,}"
    which = ", of those in which anything qualifies" if open_first else ""
    said = [f"{name} is first in {percent(shares[name])} of {draws} random weightings{which}." for name in first]
    near = None
    for change in sensitivity.weights:
        for weight, leader in ((change.lower, change.lower_leader), (change.higher, change.higher_leader)):
            if weight is not None and leader is not None:
                distance = abs(weight - change.weight)
                if near is None or distance < near[0]:
                    near = (distance, change.criterion, change.weight, weight, leader)
    if near is None:
        return [*said, "No change of a single weight alters that."]
    distance, criterion, now, then, leader = near
    if distance == 0:
        return [*said, f"The least change of the weight of {criterion}, one way, puts {leader} first."]
    return [*said, f"The nearest change: with {criterion} at {then:.1%} instead of {now:.1%}, {leader} leads."]


def _out(scores: Scores, analyses: Analyses) -> list[str]:
    out = {n: analyses[n].first_missed for n in scores if scores[n].qualified is False}
    said = [f"{name} is out: {fit.requirement}: {fit.sentence}." for name, fit in out.items() if fit is not None]
    said += [_closed(analyses[name].profile) for name, fit in out.items() if fit is None]
    if any(score.qualified for score in scores.values()):
        said += [
            f"{name} ranks after those that qualify: check {_unknowns(analyses[name])}."
            for name in scores
            if scores[name].qualified is None
        ]
    return said


def _closed(profile: Profile) -> str:
    return (
        f"{profile.name} is not recommended for a new start: {profile.status} ({profile.source('status')}); "
        "allow_closed (--allow-closed) counts it too."
    )


def _unknowns(analysis: Analysis) -> str:
    found = [_asked(f) for f in analysis.fit if f.hard and f.verdict is Verdict.UNKNOWN]
    return f"whether it has {listed(found)}"


def _nothing(analyses: Analyses) -> list[str]:
    said = ["Nothing qualifies: every system lacks a hard requirement."]
    for name, analysis in analyses.items():
        if analysis.first_missed is None and analysis.profile.closed:
            said.append(_closed(analysis.profile))
        if analysis.first_missed is not None:
            said.append(f"{name} misses {analysis.first_missed.requirement} first: {analysis.first_missed.sentence}.")
    return said


def _notes(requirements: Requirements, analyses: Analyses) -> list[str]:
    said = []
    for name, side in (("required_online_stores", "online"), ("required_offline_stores", "offline")):
        for store in getattr(requirements, name):
            named = [a for a in analyses.values() if store in getattr(a.profile, f"provides_{side}")]
            if not named and store != "any":
                said.append(f"Note: no profile names {store} as an {side} store; only one that takes any can have it.")
    needs = set(requirements.needs)
    for one, other, why in (
        ("managed", "self_hosted", "few systems are both managed and self-hosted"),
        ("managed", "embedded", "what runs in your own process is not a managed service"),
    ):
        if {one, other} <= needs:
            said.append(f"Note: needs {one} and {other} conflict: {why}.")
    if requirements.budget_class == "low" and requirements.cost_preference == "premium":
        said.append("Note: a low budget and a preference for premium conflict: no system can score well by both.")
    if requirements.budget_class == "high" and requirements.cost_preference == "low":
        said.append("Note: a high budget is stated, yet low cost is preferred: the preference decides.")
    if requirements.vendor_risk_tolerance == "low" and "managed" in needs:
        said.append("Note: a low tolerance of vendor lock-in and the need for a managed service conflict.")
    able = [a for a in analyses.values() if a.first_missed is None or a.first_missed.verdict is not Verdict.MISSED]
    for name in requirements.stated:
        verdicts = {f.verdict for a in able for f in a.fit if f.requirement == name}
        if verdicts == {Verdict.MISSED}:
            said.append(f"Note: no system that may qualify meets {name}.")
    weights = requirements.weights
    for name in requirements.stated:
        criterion = _CRITERION_OF.get(name)
        if criterion is not None and weights[criterion] == 0:
            said.append(f"Note: {name} is given, but {criterion} has no weight: it is ignored.")
    return said


def listed(names: Iterable[str]) -> str:
    """Names as a list in a sentence: "a, b and c"."""
    *most, last = [*names] or [""]
    return f"{', '.join(most)} and {last}" if most else last
