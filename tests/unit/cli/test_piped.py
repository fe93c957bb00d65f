"""Drawing without Rich: the text that Rich draws where standard output is not a terminal, blanks at line ends aside."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.cli import draw
from headwater.cli.piped import text_of
from headwater.cli.sheet import Drawable, Fields, Line, Lines, Sheet
from headwater.testing import rounds

WORD = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
ODD = WORD | st.sampled_from(["a\tb", "two\nlines", "\x1b[31m", "\0", "[red]x[/red]", ":smile:", "", " x "])
VALUE: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(),
    ODD,
    st.just(datetime(2026, 7, 1, 12, tzinfo=UTC)),
    st.just(timedelta(minutes=12)),
    st.just(b"\0\1"),
    st.lists(st.integers(0, 9), max_size=8),
)
TITLE = st.sampled_from(["", "t"])


@st.composite
def sheets(data: st.DrawFn) -> Sheet:
    columns = data(st.lists(ODD.filter(bool), min_size=1, max_size=4))
    rows = data(st.lists(st.tuples(*[VALUE] * len(columns)), max_size=4))
    return Sheet(columns, rows, data(TITLE))


FIELDS = st.builds(Fields, st.lists(st.tuples(ODD.filter(bool), VALUE), min_size=1, max_size=4), TITLE)
DRAWABLE: st.SearchStrategy[Drawable] = st.one_of(
    sheets(), FIELDS, st.builds(Line, ODD, st.sampled_from(["", "red"])), st.builds(Lines, ODD), ODD
)


def ends_cut(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


@settings(max_examples=rounds(200), deadline=None)
@given(st.lists(DRAWABLE, max_size=4))
def test_the_text_is_that_of_rich(drawables: list[Drawable]) -> None:
    by_rich = io.StringIO()
    with contextlib.redirect_stdout(by_rich):
        draw.show(*drawables)
    found = text_of(tuple(drawables))
    assert found is not None
    assert ends_cut(found) == ends_cut(by_rich.getvalue())


@pytest.mark.parametrize("drawable", ["東京", Line("é"), Fields([("name", "東京")]), Sheet(["a"], [["é"]])])
def test_text_of_other_widths_is_left_to_rich(drawable: Drawable) -> None:
    assert text_of((drawable,)) is None


def test_output_that_takes_no_rules_is_left_to_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert text_of(("plain",)) == "plain\n"
    assert text_of((Sheet(["a"], [["b"]]),)) is None


def test_a_piped_table_imports_no_rich() -> None:
    script = (
        "import sys; from headwater.cli.run import Run; from headwater.cli.sheet import Sheet; "
        "Run().answer({}, Sheet(['a'], [['b']])); assert not [m for m in sys.modules if m.partition('.')[0] == 'rich']"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, encoding="utf-8")
    assert done.stdout == "a\n─\nb\n"
