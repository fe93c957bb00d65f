import base64
import pickle

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from headwater.errors import FormatError, UsageError
from headwater.online.session import Session


def test_a_token_carries_the_session_and_fits_a_header() -> None:
    session = Session()
    session.advance("redis://a", {"shard-0": 5, "shard-1": 7})
    token = session.token
    assert token.isascii()
    assert not set(token) & set(" \r\n,;=")
    assert Session.from_token(token) == session
    assert Session.from_token(Session().token) == Session()
    session.advance("redis://a", epoch=b"first")
    session.advance("redis://a", epoch=b"second")
    assert Session.from_token(session.token).epochs == {b"first"}
    assert session.is_of(b"first") and not session.is_of(b"second") and not session.is_of(None)
    session.merge(Session("redis://a", epochs=[b"second"]))
    assert not session.is_of(b"first")


def test_sessions_merge_by_maximum_and_never_go_back() -> None:
    one, two = Session("s", {"a": 5, "b": 1}), Session("s", {"a": 3, "c": 2})
    one.merge(two)
    assert one.marks == {"a": 5, "b": 1, "c": 2}
    one.advance("s", {"a": 4})
    assert one.marks["a"] == 5
    one.merge(Session())
    assert one.store == "s"
    fresh = Session()
    fresh.merge(one)
    assert fresh == one


def test_a_session_of_another_store_is_refused() -> None:
    with pytest.raises(UsageError, match="'a', not of 'b'"):
        Session("a").merge(Session("b"))


@pytest.mark.parametrize("token", ["", "x", "%%%", "AAAA", "é", base64.urlsafe_b64encode(b"\x93\x01\x02\x03").decode()])
def test_text_that_is_no_token_is_wrong_use(token: str) -> None:
    with pytest.raises(UsageError, match="not a session token"):
        Session.from_token(token)


def test_a_newer_token_says_so() -> None:
    newer = base64.urlsafe_b64encode(msgspec.msgpack.encode([3, "s", {}, "more"])).decode()
    with pytest.raises(FormatError, match="newer headwater"):
        Session.from_token(newer)


def test_tokens_of_servers_are_sent_on_as_they_were_given() -> None:
    """Who does not know the store's secret cannot sign a token: what servers signed stands for what was seen."""

    def given(**marks: int) -> str:
        return Session("a:b", marks, [b"e"]).token + ".signature" + "".join(marks)

    session = Session()
    assert session.received == ()
    session.answered("", given(one=1))
    assert session.token == given(one=1) and session.marks == {"one": 1}
    # two requests at the same time
    sent = session.token
    session.answered(sent, given(one=2))
    session.answered(sent, given(two=3))
    assert session.token == f"{given(one=2)},{given(two=3)}" and session.marks == {"one": 2, "two": 3}
    again = Session.from_token(session.token)
    assert again == session and again.received == session.received == pickle.loads(pickle.dumps(session)).received
    session.answered(session.token, given(one=2, two=3))
    assert session.token == given(one=2, two=3)
    session.merge(again)
    assert set(session.received) == {given(one=2, two=3), given(one=2), given(two=3)}
    for wrong in (f"{again.token},", f",{again.token}", "x,y"):
        with pytest.raises(UsageError, match="not a session token"):
            Session.from_token(wrong)


@for_all(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), min_size=1), min_size=1, max_size=12))
def test_answers_at_the_same_time_leave_no_token_that_another_one_covers(seen: list[dict[str, int]]) -> None:
    session, greatest = Session(), dict[str, int]()
    for marks in seen:
        for part, mark in marks.items():
            greatest[part] = max(mark, greatest.get(part, 0))
        # requests that were all sent before the first answer
        session.answered("", signed_token(**marks))
        # what is sent next says all that was seen
        assert Session.from_token(session.token).marks == session.marks == greatest
    assert len(session.received) <= len(seen)
    last = signed_token(**greatest)
    session.answered("", last)
    assert session.token == last


def signed_token(**marks: int) -> str:
    """A token as a server gives it whose secret this process does not know."""
    return Session("elsewhere:x", marks).token + ".signature"
