"""Values as JSON and as text."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.cli.plain import age, dumps, plain, shown
from headwater.errors import unsafe_characters
from headwater.types import Status

WHEN = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)


@dataclass
class Report:
    view: str
    until: datetime
    _private: int = 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (2**62, 2**62),
        (1.5, 1.5),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ("é", "é"),
        (Status.STALE, "STALE"),
        (WHEN, "2026-07-01T12:30:00+00:00"),
        (date(2026, 7, 1), "2026-07-01"),
        (timedelta(minutes=2), 120.0),
        (b"\x00\xff", "AP8="),
        (Path("a/b"), "a/b"),
        ({"a": (1, {2: WHEN})}, {"a": [1, {"2": "2026-07-01T12:30:00+00:00"}]}),
        (np.array([1.0, np.nan]), [1.0, "nan"]),
        (np.float32(0.5), 0.5),
        (Report("weather", WHEN), {"view": "weather", "until": "2026-07-01T12:30:00+00:00"}),
    ],
)
def test_every_value_has_a_json_form(value, expected):
    found = plain(value)
    assert found == expected and type(found) is type(expected)
    assert json.loads(dumps(value)) == expected


def test_an_object_with_to_dict_is_asked():
    class Plan:
        def to_dict(self):
            return {"when": WHEN}

    assert plain(Plan()) == {"when": WHEN.isoformat()}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "true"),
        (1234567, "1,234,567"),
        (0.1 + 0.2, "0.3"),
        (39.0, "39"),
        (math.nan, "nan"),
        (WHEN, "2026-07-01 12:30:00Z"),
        (WHEN.replace(microsecond=5), "2026-07-01 12:30:00.000005Z"),
        (WHEN.astimezone(timezone(timedelta(hours=2))), "2026-07-01 12:30:00Z"),
        (date(2026, 7, 1), "2026-07-01"),
        (Status.NOT_FOUND, "NOT_FOUND"),
        (b"\x01\x02", "0x0102"),
        ([1.5, None], "[1.5, -]"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, …]"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[2Jgone\x9b\u202e", r"\x1b[2Jgone\x9b\u202e"),
        ("[bold]not markup[/]", "[bold]not markup[/]"),
    ],
)
def test_every_value_has_a_text(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    ("lasting", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(milliseconds=250), "0.25s"),
        (timedelta(seconds=9.87), "9.87s"),
        (timedelta(seconds=75.4), "1m15s"),
        (timedelta(minutes=61, seconds=5), "1h1m"),
        (timedelta(days=3, hours=4, minutes=59), "3d4h"),
        (-timedelta(minutes=11), "-11m"),
    ],
)
def test_an_age_is_read_at_a_glance(lasting, text):
    assert age(lasting) == text


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_exact_and_nothing_of_it_reaches_a_terminal(value):
    for indent in (2, None):
        text = dumps(value, indent)
        assert json.loads(text) == value
        assert unsafe_characters.search(text.replace("\n", "")) is None
        text.encode()


@given(st.text())
@example("\U000e0100")  # it chooses a variant of the character before it, and counts as printable
def test_no_control_character_of_a_cell_reaches_a_terminal(text):
    assert unsafe_characters.search(shown(text)) is None
    shown(text).encode()
