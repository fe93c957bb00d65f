"""Work that asks: a generator that yields requests and is sent their answers, so that it does no I/O itself.

The work on window rows is `put`, `run`, `fill`, `rebuild` and `rebuild_elsewhere`; what it may ask is listed in
`requests`. So one piece of code is driven by writers, by runs and by processes of an engine (`drive`, each with its own
answers), and by tests, one step at a time. In work a request reads like a call that is awaited:
`snapshot = yield from ReadRows(keys)`.

A worked example, `put` of one batch for key k. Its row was replaced by another writer after it was read, so that it is
read and merged again:

    put(version, {b"k": batch})
        asks    ReadRows([b"k"], epoch=False)
        gets    Snapshot(None, record, {b"k": row})                 row.sequence == 4
        asks    SwapRows([Swap(b"k", sequence=4, row=merged)])
        gets    [False]                                             the stored row has another sequence by now
        asks    ReadRows([b"k"], epoch=False)
        gets    Snapshot(None, record, {b"k": later})               later.sequence == 5
        asks    SwapRows([Swap(b"k", sequence=5, row=merged)])
        gets    [True]
        returns PutReport(applied={b"k"}, left=set())
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
Answer = TypeVar("Answer")


class Request(Generic[Answer]):
    """A question that work asks; its type argument is the answer's type."""

    __slots__ = ()

    def __iter__(self) -> Generator[Request[Answer], Answer, Answer]:
        """The answer, in work: `yield from request`."""
        return (yield self)


Work = Generator[Request[Any], Any, Result]
"""Yields requests, is sent their answers, and returns what it comes to."""

Answers = Mapping[type[Request[Any]], Callable[..., Any]]
"""The type of a request → what answers it."""


def drive(work: Work[Result], answers: Answers, *before: object) -> Result:
    """Drive work to its end.

    Args:
        work: the work.
        answers: of every request that it may ask.
        before: what each answer takes before the request.

    Returns:
        What it comes to.
    """
    answer: Any = None
    while True:
        try:
            request = work.send(answer)
        except StopIteration as done:
            result: Result = done.value
            return result
        answer = answers[type(request)](*before, request)
