"""Text of the command line as values."""

from datetime import UTC, date, datetime, timedelta

import pytest
import typer

import headwater as hw
from headwater.cli.parse import duration, entities, features, instant, moment
from headwater.errors import EntityKeyError, UsageError

ROUTE = {"origin": hw.String, "dest": hw.String}


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-07-01", datetime(2026, 7, 1, tzinfo=UTC)),
        ("2026-07-01T12:00", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("2026-07-01 12:00:01Z", datetime(2026, 7, 1, 12, 0, 1, tzinfo=UTC)),
        ("2026-07-01T12:00+02:00", datetime(2026, 7, 1, 10, tzinfo=UTC)),
    ],
)
def test_an_instant_is_iso_text_and_utc_unless_it_says_a_zone(text, when):
    assert instant(text) == when


def test_an_instant_may_be_so_long_ago():
    assert abs(instant("-2h") - (datetime.now(UTC) - timedelta(hours=2))) < timedelta(seconds=30)


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "-2x", "12:00"])
def test_what_is_no_instant_is_wrong_use(text):
    with pytest.raises(typer.BadParameter):
        instant(text)


def test_a_duration():
    assert duration("5m") == timedelta(minutes=5)
    with pytest.raises(typer.BadParameter, match="'7d'"):
        duration("soon")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["weather:temp"], ["weather:temp"]),
        (["weather:temp,weather:wind", "facts:*"], ["weather:temp", "weather:wind", "facts:*"]),
        (["delay_model"], "delay_model"),
        (["delay_model@1.0.0"], "delay_model@1.0.0"),
        (["weather", "weather:temp"], ["weather", "weather:temp"]),
    ],
)
def test_features_are_references_or_a_service(given, expected):
    assert features(given) == expected


def test_no_features_are_wrong_use():
    with pytest.raises(UsageError, match="--features"):
        features([" , "])


@pytest.mark.parametrize(
    ("given", "keys", "expected"),
    [
        (["airport=JFK"], {"airport": hw.String}, {"airport": ["JFK"]}),
        (["airport=JFK", "airport=LGA"], {"airport": hw.String}, {"airport": ["JFK", "LGA"]}),
        (["origin=JFK", "dest=LAX"], ROUTE, {"origin": ["JFK"], "dest": ["LAX"]}),
        (
            ["origin=JFK", "dest=LAX", "origin=EWR", "dest=SFO"],
            ROUTE,
            {"origin": ["JFK", "EWR"], "dest": ["LAX", "SFO"]},
        ),
        (
            ["user=7", "item=1", "item=2"],
            {"user": hw.Int64, "item": hw.Int32},
            {"user": [7, 7], "item": [1, 2]},
        ),
        (["airport=a=b,c"], {"airport": hw.String}, {"airport": ["a=b,c"]}),
        (["airport="], {"airport": hw.String}, {"airport": [""]}),
        (["k=-5"], {"k": hw.Int64}, {"k": [-5]}),
        (["k=TRUE"], {"k": hw.Bool}, {"k": [True]}),
        (["k=2026-07-01"], {"k": hw.Date}, {"k": [date(2026, 7, 1)]}),
        (["k=2026-07-01T12:00"], {"k": hw.Timestamp}, {"k": [datetime(2026, 7, 1, 12, tzinfo=UTC)]}),
        (["k=é"], {"k": hw.Bytes}, {"k": ["é".encode()]}),
        ([], {}, {}),
    ],
)
def test_keys_are_cast_to_their_dtypes(given, keys, expected):
    assert entities(given, keys) == expected


@pytest.mark.parametrize(
    ("given", "keys", "error", "parts"),
    [
        (["airport"], {"airport": hw.String}, UsageError, ["--key airport=VALUE"]),
        (["=JFK"], {"airport": hw.String}, UsageError, ["--key airport=VALUE"]),
        (["airprt=JFK"], {"airport": hw.String}, EntityKeyError, ["airprt", "did you mean 'airport'"]),
        (["airport=JFK"], {}, EntityKeyError, ["no keys are needed"]),
        ([], {"airport": hw.String}, EntityKeyError, ["'airport'", "--key airport=VALUE"]),
        (["origin=JFK"], ROUTE, EntityKeyError, ["'dest'"]),
        (["k=abc"], {"k": hw.Int64}, EntityKeyError, ["'k'", "int64", "'abc'"]),
        (["k="], {"k": hw.Int64}, EntityKeyError, ["int64"]),
        (["k=1.5"], {"k": hw.Int64}, EntityKeyError, ["int64"]),
        (["k=3000000000"], {"k": hw.Int32}, EntityKeyError, ["int32"]),
        (["k=yes"], {"k": hw.Bool}, EntityKeyError, ["bool"]),
        (["k=July"], {"k": hw.Date}, EntityKeyError, ["date"]),
        (["origin=a", "origin=b", "dest=c", "dest=d", "dest=e"], ROUTE, EntityKeyError, ["origin 2", "dest 3"]),
    ],
)
def test_keys_that_do_not_fit_say_why(given, keys, error, parts):
    with pytest.raises(error) as caught:
        entities(given, keys)
    for part in parts:
        assert part in str(caught.value)


def test_now_and_how_long_ago_count_from_another_now():
    now = datetime(2026, 6, 1, tzinfo=UTC)
    assert moment("now").at(now) == moment(" NOW ").at(now) == now
    assert moment("-2h").at(now) == now - timedelta(hours=2)
    assert moment("2026-05-01").at(now) == datetime(2026, 5, 1, tzinfo=UTC)
    with pytest.raises(UsageError, match="outside the years 1 to 9999"):
        moment("-900000d").at(now)
