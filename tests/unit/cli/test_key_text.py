"""Keys as the command line shows them, and as `--key` takes them back."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwater as hw
from headwater.cli.key_text import key_text, key_value
from headwater.cli.parse import entities
from headwater.cli.plain import shown
from headwater.errors import EntityKeyError

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["", "-", '"x"', "0x61", " a ", "a\nb"])
KEYS = st.one_of(
    st.tuples(st.just(hw.Int32), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just(hw.Int64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(hw.Bool), st.booleans()),
    st.tuples(st.just(hw.String), TEXTS),
    st.tuples(st.just(hw.Bytes), st.binary() | TEXTS.map(str.encode)),
    st.tuples(st.just(hw.Timestamp), st.datetimes(timezones=st.just(UTC))),
    st.tuples(st.just(hw.Date), st.dates()),
)


@given(KEYS)
def test_what_is_shown_of_a_key_is_taken_back(key):
    dtype, value = key
    text = shown(key_text(value))
    assert text == text.strip() and text.isprintable() and text
    assert entities([f"k={text}"], {"k": dtype}) == {"k": [value]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4504379279975763, "4504379279975763"),
        (b"ab", "ab"),
        (b"\xff\x00", "0xff00"),
        (b"0x61", "0x30783631"),
        (b"", "0x"),
        ("JFK", "JFK"),
        ("a\tb", '"a\\tb"'),
        (date(2026, 7, 1), "2026-07-01"),
        (datetime(2026, 7, 1, 12, tzinfo=UTC), "2026-07-01 12:00:00Z"),
    ],
)
def test_the_written_form_of_a_key(value, text):
    assert shown(key_text(value)) == text


def test_bytes_are_taken_as_text_or_as_hex_digits():
    assert key_value("ab", hw.Bytes) == key_value("0x6162", hw.Bytes) == b"ab"
    with pytest.raises(EntityKeyError, match="hex digits, two for each byte"):
        entities(["raw=0x616"], {"raw": hw.Bytes})


def test_a_key_that_get_shows_is_taken_back(command, tmp_path):
    (tmp_path / "headwater.toml").write_text('project = "cards"\n')
    card = hw.Entity("card", join_keys={"card": hw.Int64, "raw": hw.Bytes})
    view = hw.FeatureView("v", entity=card, source=hw.PushSource(event_time="t"), features=[hw.Feature("n", hw.Int64)])
    with hw.FeatureStore(tmp_path) as store:
        store.apply([card, view])
        row = {"card": 4504379279975763, "raw": b"\xfe", "t": datetime.now(UTC), "n": 1234567}
        store.write("v", [row])
    keys = ("--key", "card=4504379279975763", "--key", "raw=0xfe")
    line = command(tmp_path, "get", "--features", "v:n", *keys).splitlines()[2].split()
    assert line[:5] == ["4504379279975763", "0xfe", "n", "1234567", "PRESENT"]
    spine = "SELECT 4504379279975763 AS card, '\\xFE'::BLOB AS raw"
    shown = command(tmp_path, "history", spine, "--features", "v:n", "--at", "2100-01-01").splitlines()[2].split()
    assert shown == ["4504379279975763", "0xfe", "1234567"]
