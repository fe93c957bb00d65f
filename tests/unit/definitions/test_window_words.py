"""What aggregations compute, in words."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from headwater.definitions.aggregation import Aggregation
from headwater.definitions.window_words import explained, in_words, moves

AT = datetime(2026, 1, 31, 2, 37, 12, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "words", "events", "steps"),
    [
        (
            Aggregation("delay", "mean", "7d"),
            "mean of delay over 7d",
            "events from 02:00, 7 days before, to now; late ones count when known",
            "every 1h",
        ),
        (
            Aggregation(None, "count", "1h", name="x", where="delay > 10"),
            "count of rows over 1h, where delay > 10",
            "events from 01:35, today, to now; late ones count when known",
            "every 5m",
        ),
        (
            Aggregation("delay", "max", "3h"),
            "max of delay over 3h",
            "events from 23:35, 1 day before, to now; late ones count when known",
            "every 5m",
        ),
        (
            Aggregation("delay", "sum", "7d", offset="7d"),
            "sum of delay over 7d before 7d ago",
            "events from 02:00, 14 days before, to before 02:00, 7 days before; late ones count when known",
            "every 1h",
        ),
        (
            Aggregation("delay", "quantile", "30d", q=0.9),
            "quantile 0.9 of delay over 30d",
            "events from 00:00, 30 days before, to now; late ones count when known",
            "every 1d",
        ),
        (
            Aggregation("kind", "last_n", "90s", n=3),
            "last 3 of kind over 90s",
            "events from 02:34:30, today, to now; late ones count when known",
            "every 90s",
        ),
        (
            Aggregation("kind", "count_distinct", None, max_distinct=50),
            "distinct count (exact up to 50) of kind over a lifetime",
            "all events up to now; late ones count when known",
            "",
        ),
        (
            Aggregation(None, "seconds_since_last", "250ms"),
            "seconds since the last row over 250ms",
            "events from 02:37:12.250000, today, to now; late ones count when known",
            "every 250ms",
        ),
    ],
)
def test_words(given, words, events, steps):
    assert in_words(given) == words
    assert explained(given, AT) == events
    assert explained(given, AT.astimezone(timezone(timedelta(hours=9)))) == events
    assert moves(given) == steps


def test_a_window_that_begins_before_the_years():
    assert "events from the beginning" in explained(Aggregation("x", "sum", "1000000d", hop="1000d"), AT)
