"""Arguments that no server could take: errors of headwater's own, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import headwater as hw
from headwater.client.calls import Call
from headwater.client.flows import Flows, client_settings
from headwater.client.writing import write_call
from headwater.wire.arrow_streams import CONTENT_TYPE

NOWHERE = "http://127.0.0.1:1"
HALF = "\ud800"
FIRST = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
LAST = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14)))


@pytest.fixture(params=["arrow", "json"])
def client(request: pytest.FixtureRequest) -> hw.Client:
    return hw.Client(NOWHERE, form=request.param, retries=0, timeout="60s")


@pytest.mark.parametrize(
    ("value", "beside", "why"),
    [
        (HALF, None, "not valid UTF-8 text"),
        ([HALF], None, "not valid UTF-8 text"),
        (FIRST, "of another kind", "outside the years 1 to 9999 in UTC"),
        (LAST, "of another kind", "outside the years 1 to 9999 in UTC"),
    ],
)
def test_rows_that_no_store_takes_are_rejected_by_their_rows(
    client: hw.Client, value: Any, beside: Any, why: str
) -> None:
    rows = [{"user": 1, "x": value}, {"user": 2, "x": beside}, {"user": 3, "x": value}]
    with pytest.raises(hw.RowsRejected, match="events: 2 of 3 rows are invalid; nothing was written") as rejected:
        client.write("events", rows)
    assert [problem[:19] for problem in rejected.value.problems] == ["row 0: column 'x': ", "row 2: column 'x': "]
    assert all(problem.endswith(why) for problem in rejected.value.problems)


@pytest.mark.parametrize("form", [True, False])
@pytest.mark.parametrize("value", [FIRST, LAST])
def test_a_time_that_utc_has_not_is_sent_for_the_server_to_refuse(value: datetime, form: bool) -> None:
    call = write_call("v", [{"at": value}], "both", None, 0, "raise", "arrival", form)
    assert call.headers["content-type"] == CONTENT_TYPE


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get_online_features([HALF], [1]),
        lambda client: client.get_online_features(HALF, [1]),
        lambda client: client.get_online_features(["a:b"], [1], {HALF: 1}),
        lambda client: client.get_online_features(["a:b"], [1], {"a": HALF}),
        lambda client: client.prepare([HALF]),
        lambda client: client.write(HALF, [{"a": 1}]),
        lambda client: client.write("v", [{HALF: 1}]),
        lambda client: client.write("v", [{"a": 1}], errors=HALF),
        lambda client: client.delete(HALF, [1]),
        lambda client: client.delete("", [1]),
    ],
)
def test_text_that_is_none_is_refused(client: hw.Client, call: Callable[[hw.Client], Any]) -> None:
    with pytest.raises(hw.HeadwaterError):
        call(client)


@pytest.mark.parametrize("name", ["", ".", "..", HALF, None, 7])
def test_a_name_that_nothing_can_have_is_not_found(client: hw.Client, name: Any) -> None:
    for get, error, kind in (
        (client.get_feature_view, hw.FeatureViewNotFound, "view"),
        (client.get_feature_service, hw.FeatureServiceNotFound, "service"),
        (client.get_entity, hw.EntityNotFound, "entity"),
    ):
        with pytest.raises(error, match=f"^no {kind} .* is registered"):
            get(name)


def test_time_outs_longer_than_any_wait_are_bounded() -> None:
    settings = client_settings(NOWHERE, None, "9999999d", timedelta.max, 0, "json", None, 1)
    assert 86_400 < settings.timeout == settings.write_timeout < 2**31
    with pytest.raises(hw.Unavailable):
        hw.Client(NOWHERE, timeout="9999999d", write_timeout="9999999d", retries=0).status()


def test_certificates_are_for_https() -> None:
    for kind in (hw.Client, hw.AsyncClient):
        with pytest.raises(hw.UsageError, match="is not https"):
            kind(NOWHERE, ca="/some/ca.pem")


@pytest.mark.parametrize("more", ["\r\nX: y", " ", "\n", ".a.b", ".\u00e4", ";a", "\x00"])
def test_a_token_with_other_characters_is_not_one(more: str) -> None:
    token = hw.Session("a:b", {"n": 1}).token
    assert hw.Session.from_token(token).marks == {"n": 1}
    for wrong in (token + more, more + token, f"{token}.sig{more}"):
        with pytest.raises(hw.UsageError, match="is not a session token"):
            hw.Session.from_token(wrong)


def test_a_key_that_may_not_read_is_asked_once_what_the_join_keys_are() -> None:
    flows = Flows(client_settings(NOWHERE, "hw_k", "1s", "1s", 0, "json", None, 1))
    asked = []
    for _ in range(3):
        flow = flows.delete("events", [1], False, None)
        call = next(flow)
        while isinstance(call, Call) and call.method == "GET":
            asked.append(call.path)
            call = flow.throw(hw.AccessDenied("no", authenticated=True))
        assert isinstance(call, Call) and call.path == "/v1/features:delete"
    assert asked == ["/v1/views/events"]
