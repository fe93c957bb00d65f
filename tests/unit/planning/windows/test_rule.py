"""The rule of windows against its text, in fractions."""

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from headwater.planning.windows.rule import BEFORE_ALL, Window, boundary_of, floor_to
from headwater.testing.window_oracle import WindowRequest, in_window

TIMES = st.integers(-50, 50) | st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
HOPS = st.integers(1, 12) | st.sampled_from([300_000_000, 3_600_000_000])
WINDOWS = st.builds(
    lambda hop, more, offset: Window(hop + more, hop, offset), HOPS, st.integers(0, 40), st.integers(0, 30)
)


@given(TIMES, HOPS)
def test_floor_goes_down_before_1970_too(time, hop):
    assert floor_to(time, hop) == math.floor(Fraction(time, hop)) * hop


@given(WINDOWS, TIMES, st.integers(-100, 100))
def test_a_window_holds_what_the_text_says(window, at, distance):
    event = at - window.offset - window.width + distance
    request = WindowRequest("count", None, None, window.width, window.hop, window.offset)
    if event <= at:
        assert window.holds(event, at) == in_window(request, event, at)


@given(WINDOWS, st.lists(HOPS, max_size=3), TIMES, st.integers(-100, 100))
def test_a_window_holds_an_event_where_it_holds_its_boundary(window, hops, at, distance):
    event = at - window.offset - window.width + distance
    assert window.holds(boundary_of(event, [*hops, window.hop]), at) == window.holds(event, at)


def test_the_newest_end_is_exact_and_the_oldest_moves_in_hops():
    window = Window(60, 7)
    assert (window.start(100), window.start(101), window.start(102), window.end(100)) == (35, 35, 42, None)
    assert window.holds(100, 100) and not Window(60, 7, 3).holds(98, 100)


def test_a_lifetime_holds_everything():
    lifetime = Window(None)
    assert lifetime.start(5) == BEFORE_ALL and lifetime.holds(-(2**63), 5) and lifetime.end(5) is None
    assert boundary_of(5, []) == BEFORE_ALL
