"""Answers: status, headers and body, and how they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from headwater.wire.problems import CONTENT_TYPE, RETRY_AFTER, Problem

JSON = b"application/json"
_ENCODER = msgspec.json.Encoder()
_PROBLEM = CONTENT_TYPE.encode()

Send: TypeAlias = Any


@dataclass(slots=True)
class Answer:
    """What a request is answered.

    Attributes:
        body: bytes.
        status: HTTP's.
        content_type: of the body.
        headers: beside content type and length.
    """

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Refused(Exception):
    """A request that the server refuses by itself.

    Args:
        problem: the answer.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def json_answer(value: Any, status: int = 200) -> Answer:
    """An answer of what msgspec can write as JSON."""
    return Answer(_ENCODER.encode(value), status)


def problem_answer(problem: Problem, request_id: str = "") -> Answer:
    """An error as a problem document."""
    document = problem.document
    if request_id:
        document["request_id"] = request_id
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return Answer(_ENCODER.encode(document), problem.status, _PROBLEM, headers)


def invalid(detail: str, errors: tuple[str, ...] = ()) -> Refused:
    """400: a request that cannot be read."""
    return Refused(Problem(400, "InvalidRequest", detail, errors))


def too_large(detail: str) -> Refused:
    """413: more than the server takes at once."""
    return Refused(Problem(413, "TooLarge", detail))


def busy(name: str, detail: str) -> Refused:
    """503: not now."""
    return Refused(Problem(503, name, detail, headers={"Retry-After": str(RETRY_AFTER)}))


def stopping() -> Refused:
    """503: this server is about to stop."""
    return busy("ShuttingDown", "this server is about to stop: ask another, or again")


def other(status: int, name: str, detail: str, headers: Mapping[str, str] | None = None) -> Refused:
    """Any other refusal."""
    return Refused(Problem(status, name, detail, headers=headers or {}))


def headers_of(answer: Answer, request_id: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that an answer goes out with."""
    return [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(answer.body)),
        (b"headwater-request-id", request_id),
        *answer.headers,
    ]


async def send_answer(send: Send, answer: Answer, request_id: bytes, close: bool = False, bare: bool = False) -> None:
    """Send an answer.

    Args:
        send: ASGI's.
        answer: what is sent.
        request_id: goes out with it.
        close: whether the connection ends with it.
        bare: whether the body stays away, as for HEAD; its length is said.
    """
    headers = headers_of(answer, request_id)
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if bare else answer.body})
