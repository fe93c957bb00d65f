"""Which lists a version keeps."""

from headwater.definitions.aggregation import Aggregation
from headwater.planning.windows.layout import SUFFIXES, TILES, WHOLE, window_layout
from headwater.planning.windows.rule import Window
from headwater.types import Float64, Int64, String

COLUMNS = {"x": Float64, "n": Int64, "s": String}
HOUR = 3_600_000_000


def layout(*aggregations):
    return window_layout(aggregations, COLUMNS)


def test_functions_of_one_column_share_lists():
    made = layout(*(Aggregation("x", f, w) for f in ("count", "sum", "mean", "rate") for w in ("1h", "1d")))
    (total,) = made.lists
    assert (total.kind, total.shape, total.column, len(total.windows)) == ("total", SUFFIXES, "x", 2)
    assert made.hops == (300_000_000, HOUR) and made.step == 300_000_000
    assert {feature.list for feature in made.features} == {0}


def test_conditions_rows_and_other_columns_have_lists_of_their_own():
    made = layout(
        Aggregation("x", "count", "1h"),
        Aggregation(None, "count", "1h"),
        Aggregation("n", "sum", "1h"),
        Aggregation("x", "count", "1h", where="n > 0", name="few"),
    )
    assert [each.name for each in made.lists] == [
        "/count/suffixes//",
        "n/total/suffixes//",
        "x/count/suffixes//",
        "x/count/suffixes//n > 0",
    ]
    assert made.conditions == ("n > 0",)


def test_the_longest_list_serves_the_shorter_ones():
    made = layout(
        Aggregation("s", "last_n", "1h", n=3),
        Aggregation("s", "last", "1d"),
        Aggregation("s", "last_n_distinct", "1h", n=2),
    )
    assert [(each.kind, each.shape, each.n) for each in made.lists] == [
        ("latest", WHOLE, 3),
        ("latest_distinct", WHOLE, 2),
    ]
    assert [feature.n for feature in made.features] == [3, 0, 2]


def test_distinct_counts_of_another_bound_are_another_list():
    made = layout(
        Aggregation("s", "count_distinct", "1h"), Aggregation("s", "count_distinct", "1h", max_distinct=50, name="few")
    )
    assert sorted(each.n for each in made.lists) == [50, 1_000]


def test_offsets_and_quantiles_are_tiles():
    made = layout(
        Aggregation("x", "sum", "1h"),
        Aggregation("x", "sum", "1h", offset="1d"),
        Aggregation("x", "quantile", "1h", q=0.5),
        Aggregation("x", "quantile", None, q=0.9),
        Aggregation("s", "last", "1h", offset="1h"),
    )
    assert {each.kind: each.shape for each in made.lists if each.kind != "total"} == {"bins": TILES, "latest": TILES}
    assert sorted(each.shape for each in made.lists if each.kind == "total") == [SUFFIXES, TILES]
    bins = next(each for each in made.lists if each.kind == "bins")
    assert bins.lifetime and bins.bounded == (Window(HOUR, 300_000_000),)


def test_lifetimes_alone_have_no_hops():
    made = layout(Aggregation("x", "sum", None))
    assert made.hops == () and made.step == 1 and made.lists[0].bounded == ()


def test_another_layout_has_another_fingerprint():
    given = [Aggregation("x", "sum", "1h"), Aggregation("x", "max", "1d")]
    same = layout(*reversed(given))
    assert layout(*given).fingerprint == same.fingerprint
    others = [
        layout(given[0]),
        layout(given[0], Aggregation("x", "max", "7d")),
        layout(given[0], Aggregation("x", "max", "1d", hop="2h")),
        layout(given[0], Aggregation("n", "max", "1d")),
        layout(*given, Aggregation("s", "last", "1h")),
        layout(*given, Aggregation("s", "last_n", "1h", n=2)),
    ]
    assert len({each.fingerprint for each in [same, *others]}) == len(others) + 1
