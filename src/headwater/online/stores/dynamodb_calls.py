"""One request to DynamoDB: what is sent, when it is tried again, and its errors in our words.

A plan yields what to do next, a `Request` to send or seconds to wait, and is sent what came of it; so that the
synchronous and the asynchronous client share all but the sending.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from headwater.errors import StoreError, StoreReadOnly, Unavailable
from headwater.online.stores.dynamodb_items import Item
from headwater.online.stores.dynamodb_url import DynamoDBPlace

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.025, 1.0
_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "LimitExceededException",
        "TransactionConflictException",
        "ReplicatedWriteConflictException",
    }
)
_CREDENTIALS = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "IncompleteSignatureException",
        "MissingAuthenticationTokenException",
        "MissingAuthenticationToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
    }
)
_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "CreateTable", "UpdateTimeToLive"})


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent.

    Attributes:
        operation: such as `GetItem`.
        body: its arguments, JSON.
        timeout: seconds for the answer.
    """

    operation: str
    body: bytes
    timeout: float


@dataclass(frozen=True, slots=True)
class Response:
    """What came back."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Nothing came back: why, and whether the request may have arrived."""

    why: str
    sent: bool = True


Step = Request | float
Plan = Generator[Step, Response | Lost | None, T]


class NoTable(Unavailable):
    """The table is not there, or not yet."""


class Unlike(StoreError):
    """A condition did not hold.

    Attributes:
        item: what is stored; None where nothing is.
    """

    def __init__(self, item: Item | None) -> None:
        super().__init__("the condition did not hold")
        self.item = item


class _Told(msgspec.Struct):
    """An error's answer."""

    type: str = msgspec.field(name="__type", default="")
    message: str = ""
    Message: str = ""
    Item: Item | None = None


class Done(msgspec.Struct):
    """An answer that says no more than that it was done."""


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(form: Any) -> msgspec.json.Decoder[Any]:
    found = _decoders.get(form)
    if found is None:
        found = _decoders[form] = msgspec.json.Decoder(form)
    return found


@dataclass
class Clock:
    """The time that a call may take.

    Attributes:
        seconds: in all.
    """

    seconds: float
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.seconds - (time.monotonic() - self.began)

    def pause(self, tries: int) -> float | None:
        """Seconds until a request is sent again, drawn anew each time; None: there is no time for it."""
        pause: float = random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tries))
        return pause if pause < self.left else None


@dataclass(frozen=True)
class Call:
    """How requests of one kind are made.

    Attributes:
        place: where.
        clock: the time for them, tries again included.
        repeatable: whether to do it twice is the same as once: only then it is sent again where it may have arrived.
    """

    place: DynamoDBPlace
    clock: Clock
    repeatable: bool = True

    def ask(self, operation: str, arguments: dict[str, Any], form: type[T]) -> Plan[T]:
        """The plan of one request, tried again where it is throttled or fails.

        Args:
            operation: such as `GetItem`.
            arguments: of the operation, the table's name among them.
            form: of the answer.

        Raises:
            NoTable: the table is not there.
            Unlike: a condition did not hold.
            Unavailable: no answer, or none but of a throttled table, within the time.
            StoreReadOnly: the credentials allow no writes.
            StoreError: it is refused.
        """
        body = msgspec.json.encode(arguments)
        tries, lost = 0, 0
        while True:
            left = self.clock.left
            if left <= 0:
                raise Unavailable(f"{self.place.shown}: no time left for {operation}")
            answer = yield Request(operation, body, min(self.place.timeout, left))
            if isinstance(answer, Response) and answer.status == 200:
                try:
                    found: T = _decoder(form).decode(answer.body)
                    return found
                except msgspec.MsgspecError as bad:
                    answer = Lost(f"the answer is not DynamoDB's ({bad})")
            if isinstance(answer, Lost):
                lost += 1
                why = answer.why
                # what may have arrived is not sent again where twice is not once
                final = lost > 1 or (answer.sent and not self.repeatable)
            else:
                assert answer is not None
                why, final = self._failed(operation, answer)
            pause = None if final else self.clock.pause(tries)
            if pause is None:
                raise Unavailable(f"{self.place.shown}: {operation}: {why}")
            yield pause
            tries += 1

    def _failed(self, operation: str, answer: Response) -> tuple[str, bool]:
        """What an error says, and whether that is the end; raises where it is told in another way."""
        try:
            told = _decoder(_Told).decode(answer.body)
        except msgspec.MsgspecError:
            told = _Told()
        name = told.type.rpartition("#")[2]
        text = told.message or told.Message or f"HTTP status {answer.status}"
        if name == "ConditionalCheckFailedException":
            raise Unlike(told.Item)
        if name == "ResourceNotFoundException":
            raise NoTable(f"{self.place.shown}: there is no such table: run apply, or check region and table=")
        if name in _THROTTLED:
            return f"throttled for {self.clock.seconds:g} s: {text}", False
        if answer.status >= 500:
            return f"{name} {text}".strip(), not self.repeatable
        if name in _CREDENTIALS:
            raise Unavailable(f"{self.place.shown}: the credentials are refused ({name}): {text}")
        if name == "AccessDeniedException":
            kind = StoreReadOnly if operation in _WRITES else Unavailable
            raise kind(
                f"{self.place.shown}: the credentials lack dynamodb:{operation} on table {self.place.table}: {text}"
            )
        if "size" in text and "exceeded" in text:
            raise StoreError(f"{self.place.shown}: a row is larger than the 400 KB that DynamoDB takes: {text}")
        raise StoreError(f"{self.place.shown}: {operation}: {name} {text}")
