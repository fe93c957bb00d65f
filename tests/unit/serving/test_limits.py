"""How much one key may ask: counted against a plain log of its requests."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.serving.access import KeyRing
from headwater.serving.answers import Refused
from headwater.serving.limits import BURST, KeyLimits
from tests.unit.serving.conftest import NOON, ROW, Caller


@given(
    rate=st.sampled_from([1.0, 2.5, 10.0, 100.0]),
    steps=st.lists(st.tuples(st.floats(0, 0.5), st.sampled_from("ab")), max_size=120),
)
def test_no_key_gets_more_than_its_rate_and_all_of_it(rate: float, steps: list[tuple[float, str]]) -> None:
    now = 100.0
    limits = KeyLimits(rate, 0, lambda: now)
    granted: dict[str, deque[float]] = {"a": deque(), "b": deque()}
    for wait, key in steps:
        now += wait
        mine = granted[key]
        try:
            limits.enter(key)
            limits.leave(key)
            mine.append(now)
        except Refused as refused:
            assert refused.problem.status == 429
            assert int(refused.problem.headers["Retry-After"]) >= 1
            # it had its share: in the time since some earlier instant
            assert any(len([at for at in mine if at >= start]) + 1 > rate * (now - start + BURST) for start in mine)
        # over every stretch of time no more than the rate, and one burst
        for start in mine:
            assert len([at for at in mine if at >= start]) <= rate * (now - start + BURST) + 1


def test_a_key_that_waits_as_it_was_told_is_let_in() -> None:
    now = 0.0
    limits = KeyLimits(3.0, 0, lambda: now)
    done = 0
    for _ in range(30):
        try:
            limits.enter("k")
            done += 1
        except Refused as refused:
            now += int(refused.problem.headers["Retry-After"])
            limits.enter("k")
            done += 1
    assert done == 30


def test_requests_under_way_are_bounded_by_key() -> None:
    limits = KeyLimits(0, 2, lambda: 0.0)
    limits.enter("a")
    limits.enter("a")
    limits.enter("b")
    with pytest.raises(Refused, match="2 requests of this API key are under way"):
        limits.enter("a")
    limits.leave("a")
    limits.enter("a")


def test_a_request_that_is_refused_has_no_effect_and_is_counted(call: Caller) -> None:
    store = call.app.store.sync
    call.app.requests.keys = KeyRing(store.registry.api_keys.all, lambda: NOON)
    keys = [store.registry.api_keys.create(name, ["read", "write"])[0] for name in "ab"]
    call.runner.run(call.app.requests.keys.read())
    call.app.requests.limits = KeyLimits(2.0, 0, lambda: 0.0)
    answers = []
    for _ in range(4):
        body = {"view": "events", "rows": [ROW]}
        answers.append(call("POST", "/v1/features:write", body, {"Authorization": f"Bearer {keys[0]}"}))
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert answers[-1].json["detail"] == "this API key is limited to 2 requests a second here: try again"
    assert int(answers[-1].headers["retry-after"]) >= 1
    other = call.read(features=["events:n"], entities={"user": [7]})
    assert other.status == 401
    call.headers["Authorization"] = f"Bearer {keys[1]}"
    assert call.read(features=["events:n"], entities={"user": [7]}).status == 200
    assert store.status().log["position"] == 2
    call.headers.clear()
    call.app.requests.keys = None
    assert b'reason="TooManyRequests"} 2.0' in call("GET", "/metrics").body
