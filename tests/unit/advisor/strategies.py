"""Random requirements and profiles."""

from typing import Any

from hypothesis import strategies as st

from headwater.advisor.profiles import CAPABILITIES, COST_MODELS, LEVELS
from headwater.advisor.requirements import CRITERIA

FIGURES = {
    "max_latency_ms": "serving_latency_p99_ms",
    "min_throughput_qps": "throughput_qps",
    "freshness_minutes": "feature_freshness_minutes",
}

LIMIT = st.floats(1e-3, 1e6)
LEVEL = st.sampled_from(LEVELS)


@st.composite
def figures(draw: st.DrawFn) -> Any:
    """A number, a range or a word."""
    low, high = sorted((draw(LIMIT), draw(LIMIT)))
    return draw(st.sampled_from([low, [low, high], "variable"]))


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    """The table of a profile."""
    capabilities = draw(st.lists(st.sampled_from(CAPABILITIES), unique=True))
    cut = draw(st.integers(0, len(capabilities)))
    names = ("setup_complexity", "operational_overhead", "flexibility", "lock_in", "time_to_market", "budget_class")
    return {
        **{name: draw(LEVEL) for name in (*names, "ops_skill")},
        **{figure: draw(figures()) for figure in FIGURES.values()},
        "cost_model": draw(st.sampled_from(COST_MODELS)),
        "capabilities": capabilities[:cut],
        "unknown_capabilities": capabilities[cut:],
        "provides_online": draw(st.lists(st.sampled_from(["redis", "lmdb", "any"]), unique=True)),
    }


def asked() -> st.SearchStrategy[dict[str, Any]]:
    """Requirements, some of them left out."""
    names = st.lists(st.sampled_from(CAPABILITIES), unique=True, max_size=3)
    weights = st.dictionaries(st.sampled_from(CRITERIA), st.floats(0.01, 10), max_size=6)
    return st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(FIGURES, LIMIT),
            "cost_preference": st.sampled_from(["low", "balanced", "premium"]),
            "flexibility_importance": st.floats(0, 1),
            "vendor_risk_tolerance": LEVEL,
            "required_online_stores": st.lists(st.sampled_from(["redis", "lmdb", "other"]), unique=True, max_size=2),
            "needs": names,
            "team_size": st.floats(0.5, 20),
            "ops_skill": LEVEL,
            "budget_class": LEVEL,
            "decision_weights": weights,
        },
    )
