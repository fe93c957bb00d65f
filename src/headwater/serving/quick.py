"""Plain reads without a task: answered at once where the rows are on this machine, else as soon as they come.

What is not plain, or fails before its rows are asked for, is left as it was to the way that all requests take
(`App._http`), which says what the answer is: this one gives the same, or none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from headwater.compute.reading.quick import Begin, QuickReads
from headwater.compute.reading.read_arguments import ReadArguments
from headwater.online.fetching.fetcher import Rows
from headwater.online.reading.reader import KeyPlan
from headwater.registry.api_keys import READ
from headwater.serving.access import EVERYTHING
from headwater.serving.answers import Answer, stopping
from headwater.serving.bodies import ReadBody, decoded
from headwater.serving.deadlines import Deadlines
from headwater.serving.forms import is_arrow, wants_arrow
from headwater.serving.heads import Head, KnownHeads
from headwater.serving.known_reads import known_read, prefix_of
from headwater.serving.reads import check_allowed, check_width, count_read, features_of, included, too_late
from headwater.serving.requests import Requests
from headwater.serving.routes import LARGE
from headwater.serving.values import entities, entity_count, means_the_same
from headwater.wire import names
from headwater.wire.json_results import encoded_result

_SESSION = names.SESSION.encode()
_TAKEN = ("features", "service", "full_names", "include", "entities")
_others = attrgetter(*(name for name in ReadBody.__struct_fields__ if name not in _TAKEN))
"""The fields of a request that a plain read leaves as they are."""
_AS_THEY_ARE = _others(ReadBody(entities={}))


class Waiting:
    """A read whose rows are on their way; in the place of an `Exchange` on its connection.

    Attributes:
        keep_alive: whether the connection is kept after the answer.
        response_complete: whether it was answered, or never will be.
        until: when it is answered without its rows, by the event loop's clock.
    """

    __slots__ = (
        "_quick",
        "began",
        "given",
        "include",
        "keep_alive",
        "key",
        "plan",
        "request_id",
        "response_complete",
        "send",
        "until",
    )
    more_body = False

    def __init__(
        self,
        quick: Quick,
        began: float,
        request_id: bytes | None,
        key: str | None,
        given: ReadArguments,
        plan: KeyPlan,
        include: tuple[str, ...],
    ) -> None:
        self._quick, self.began, self.request_id, self.key = quick, began, request_id, key
        self.given, self.plan, self.include = given, plan, include
        self.keep_alive, self.response_complete = True, False
        self.send: Callable[[Waiting, Answer, bytes], None]
        self.until = 0.0

    def took(self, rows: Rows | BaseException) -> None:
        """Answer, now that the rows have come, or cannot."""
        if self.response_complete:
            return
        try:
            if isinstance(rows, BaseException):
                raise rows if isinstance(rows, Exception) else stopping()
            answer = self._quick.answer(self, rows)
        except Exception as bad:
            answer = self._quick.requests.failed(bad, names.READ, self._id())
        self._end(answer)

    def over(self) -> None:
        """Answer without the rows."""
        deadline = self._quick.requests.settings.deadline
        self._end(self._quick.requests.failed(too_late("online store", deadline), names.READ, self._id()))

    def leave(self) -> None:
        """The client went away: the answer would be nobody's."""
        if not self.response_complete:
            self._finish(0)

    def _id(self) -> bytes:
        if self.request_id is None:
            self.request_id = self._quick.requests.new_id()
        return self.request_id

    def _end(self, answer: Answer) -> None:
        request_id = self.request_id
        if request_id is None:
            request_id = self.request_id = self._quick.requests.new_id()
        self._finish(answer.status)
        self.send(self, answer, request_id)

    def _finish(self, status: int) -> None:
        self.response_complete = True
        requests = self._quick.requests
        self._quick.deadlines.discard(self)
        requests.ended("POST", names.READ, status, self.began, self.request_id)
        if self.key is not None:
            requests.limits.leave(self.key)


class Quick:
    """The plain reads of one worker.

    Args:
        requests: what the worker answers, and what every way to answer does.
        reads: plain reads of its store.
        deadlines: of the event loop.
    """

    def __init__(self, requests: Requests, reads: QuickReads, deadlines: Deadlines) -> None:
        self.requests, self._reads, self.deadlines = requests, reads, deadlines
        self._heads = KnownHeads()
        self._most_bytes = requests.settings.most_bytes

    # heads

    def head_of(self, headers: Mapping[bytes, bytes]) -> Head | None:
        """The head of a request for a read; None where that is not plain.

        Args:
            headers: of `POST` to its route, on a connection that is kept; each came once.
        """
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or len(length) > 9 or _SESSION in headers or b"transfer-encoding" in headers:
            return None
        try:
            self.requests.check_host(headers)
            if is_arrow(headers) or wants_arrow(headers) or int(length) > self._most_bytes:
                return None
        except Exception:
            return None
        return Head(headers, self.requests.given_id(headers), int(length))

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """As `KnownHeads.find`."""
        keys = self.requests.keys
        return self._heads.find(data, None if keys is None else keys.checked)

    def keep(self, data: bytes, head: Head) -> None:
        """As `KnownHeads.keep`."""
        self._heads.keep(data, head)

    # reads

    def begin(
        self, head: Head, body: bytes, loop: asyncio.AbstractEventLoop, send: Callable[[Waiting, Answer, bytes], None]
    ) -> tuple[Answer, bytes] | Waiting | None:
        """Answer a read, or begin to.

        Args:
            head: of its request.
            body: of its request.
            loop: the running event loop.
            send: sends the answer of one that waits, with its request id.

        Returns:
            The answer and its request id; what waits for rows; None: nothing was done, and all is as it was.
        """
        requests, began = self.requests, time.perf_counter()
        if not requests.has_room or len(body) > LARGE:
            return None
        if head.known is not None:
            try:
                again = head.known.read(body, self._reads.latest)
                if again is not None:
                    key = head.known.key
                    given, batch = again
                    if batch.size <= requests.settings.most_entities:
                        plan = given.reader.plan_batch(batch)
                        if key is not None:
                            requests.limits.enter(key)
                        waiting = Waiting(self, began, head.request_id, key, given, plan, head.known.include)
                        return self._begin(waiting, head.known.begin, loop, send)
            except Exception:
                """It is looked at as any other."""
        try:
            access = EVERYTHING if requests.keys is None else requests.keys.access(head.headers)
            access.check(READ)
            asked = decoded(body, ReadBody)
            if _others(asked) != _AS_THEY_ARE:
                return None
            check_width(asked)
            features, include, snapshot = features_of(asked), included(asked.include), self._reads.snapshot
            if snapshot is not None and access.limited:
                check_allowed(access, snapshot, asked)
            found = self._reads.arguments(features, asked.full_names, snapshot)
            if found is None or snapshot is None or entity_count(asked.entities) > requests.settings.most_entities:
                return None
            reader, given = found
            keys, wanted = given.reader.join_keys, asked.entities
            # a text that stands for an integer is refused by the reader: then this read is not plain
            plan = given.reader.plan_keys(wanted if means_the_same(wanted, keys) else entities(wanted, keys))
            key = None if access.key is None else access.key.id
            begin = self._reads.begin
            if key is not None:
                requests.limits.enter(key)
        except Exception:
            return None
        prefix, head.known = prefix_of(body), None
        if prefix == head.prefix:
            head.known = known_read(prefix, asked, reader, given, snapshot, access, include, begin)
        head.prefix = prefix
        return self._begin(Waiting(self, began, head.request_id, key, given, plan, include), begin, loop, send)

    def _begin(
        self,
        waiting: Waiting,
        begin: Begin,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[Waiting, Answer, bytes], None],
    ) -> tuple[Answer, bytes] | Waiting | None:
        """As `begin`, of a read that was checked and is counted among those of its API key."""
        requests, key = self.requests, waiting.key
        requests.begins()
        try:
            rows = begin(waiting.plan.keys, waiting.took)
            if rows is True:
                waiting.send = send
                waiting.until = loop.time() + requests.settings.deadline
                self.deadlines.add(waiting, loop)
                return waiting
            answer = None if rows is False else self.answer(waiting, rows)
        except Exception:
            answer = None
        if answer is None:
            requests.never_began()
            if key is not None:
                requests.limits.take_back(key)
            return None
        request_id = waiting.request_id or requests.new_id()
        requests.ended("POST", names.READ, 200, waiting.began, request_id)
        if key is not None:
            requests.limits.leave(key)
        return answer, request_id

    def answer(self, read: Waiting, rows: Any) -> Answer:
        """The answer to a read whose rows are there."""
        result = read.given.result(read.plan, rows)
        body = encoded_result(result, read.include)
        count_read(self.requests.metrics, result, read.include)
        return Answer(body)
