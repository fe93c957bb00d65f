import base64

import msgspec
import pytest

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
