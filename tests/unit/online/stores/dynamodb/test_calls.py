"""Plans of requests, answered by hand: what an error says of a request that was sent again until the time was over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headwater.errors import Unavailable
from headwater.online.stores.dynamodb.calls import Call, Lost, Patience, Plan, Request, Response
from headwater.online.stores.dynamodb.items import address
from headwater.online.stores.dynamodb.reads import delete_request, get_chunk, write_batch
from headwater.online.stores.dynamodb.url import DynamoDBLocation
from headwater.testing.online_rows import key_of

KEY = key_of(1)
HERE = DynamoDBLocation(region="eu-west-1", table="rows")
SLOW = Lost("no response within 0.002 s")


def call() -> Call:
    return Call(HERE, Patience(20.0))


def run(plan: Plan[Any], *answers: Response | Lost) -> Any:
    """What a plan ends with where its requests are answered in turn, and pauses take no time."""
    left, given = list(answers), None
    try:
        while True:
            step = plan.send(given)
            given = left.pop(0) if isinstance(step, Request) else None
    except StopIteration as done:
        assert not left
        return done.value


def answer(**body: Any) -> Response:
    return Response(200, msgspec.json.encode(body))


UNREAD = answer(Responses={}, UnprocessedKeys={"rows": {"Keys": [address(KEY)]}})
UNWRITTEN = answer(UnprocessedItems={"rows": [delete_request(KEY)]})


def test_a_part_that_stayed_undone_is_what_an_error_says_first() -> None:
    with pytest.raises(Unavailable, match=r"throttled: 1 of 1 keys .* within 20 s; then no response within 0.002 s"):
        run(get_chunk(call(), [KEY], True), UNREAD, SLOW, SLOW)
    with pytest.raises(Unavailable, match=r"throttled: 1 items were not written; then no response within 0.002 s"):
        run(write_batch(call(), [delete_request(KEY)]), UNWRITTEN, SLOW, SLOW)


def test_a_part_that_is_done_in_the_end_is_done() -> None:
    assert run(get_chunk(call(), [KEY], True), UNREAD, SLOW, answer(Responses={})) == {}
    assert run(write_batch(call(), [delete_request(KEY)]), UNWRITTEN, UNWRITTEN, answer()) is None


def test_an_answer_that_never_came_is_all_that_is_said_without_another() -> None:
    with pytest.raises(Unavailable, match=r"BatchGetItem: no response within 0.002 s$"):
        run(get_chunk(call(), [KEY], True), SLOW, SLOW)
