"""One request to DynamoDB: what is sent, when it is tried again, and its errors in our words.

A plan yields what to do next, a `Request` to send or seconds to wait, and is sent what came of it; so that the
synchronous and the asynchronous client share all but the sending.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from headwater.clock import system_clock
from headwater.errors import StoreError, StoreReadOnly, Unavailable
from headwater.online.base import too_late
from headwater.online.stores.dynamodb.items import Item
from headwater.online.stores.dynamodb.url import DynamoDBLocation

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.025, 1.0
_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "LimitExceededException",
        "TransactionConflictException",
        "TransactionInProgressException",
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
_WRITES = frozenset(
    {
        "PutItem",
        "UpdateItem",
        "DeleteItem",
        "BatchWriteItem",
        "TransactWriteItems",
        "CreateTable",
        "UpdateTimeToLive",
    }
)
_TRANSACTIONS = "PutItem, UpdateItem, DeleteItem or ConditionCheckItem"
"""What a transaction needs: it has no permission of its own."""
_TRY_AGAIN = frozenset(
    {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded"}
)
"""Reasons for which a transaction is cancelled and may be sent again."""

SLACK = timedelta(minutes=5)
"""How long after its bound a write may still be taken by the service, which looks at the signature's age alone."""
_EXPIRED = re.compile(r"Signature expired.*?(?:- (\d+) min)?\.?\)?$", re.DOTALL)


def gave_up(what: str) -> Unavailable:
    """The error where a request was tried again, and not answered in the time for it."""
    bad = Unavailable(what)
    bad.patient = True
    return bad


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent.

    Attributes:
        operation: such as `GetItem`.
        body: its arguments, JSON.
        timeout: seconds for the answer.
        signed: the time it is signed with; None: when it is sent.
    """

    operation: str
    body: bytes
    timeout: float
    signed: datetime | None = None


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

    patient = True


class Unlike(StoreError):
    """A condition did not hold.

    Attributes:
        item: what is stored; None where nothing is.
    """

    def __init__(self, item: Item | None) -> None:
        super().__init__("the condition did not hold")
        self.item = item


class _Reason(msgspec.Struct):
    """Why an action of a transaction was not taken."""

    Code: str = ""
    Message: str | None = None


class _ErrorBody(msgspec.Struct):
    """An error's answer."""

    type: str = msgspec.field(name="__type", default="")
    message: str = ""
    Message: str = ""
    Item: Item | None = None
    CancellationReasons: list[_Reason] = []


class Done(msgspec.Struct):
    """An answer that says no more than that it was done."""


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(form: Any) -> msgspec.json.Decoder[Any]:
    found = _decoders.get(form)
    if found is None:
        found = _decoders[form] = msgspec.json.Decoder(form)
    return found


@dataclass
class Patience:
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
        """Seconds until a request is sent again, drawn again each time; None: there is no time for it."""
        pause: float = random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tries))
        return pause if pause < self.left else None


@dataclass
class Window:
    """For how long the service takes a signed request: 15 minutes, or what it says when it refuses one.

    Attributes:
        length: that time.
    """

    length: timedelta = timedelta(minutes=15)

    def learn(self, length: timedelta) -> None:
        """Take what the service says, where it is less."""
        if timedelta() < length < self.length:
            self.length = length


@dataclass(frozen=True)
class Bound:
    """The instant after which a write must not apply.

    DynamoDB has no clock that a condition could ask. What it looks at is the age of a request's signature: so requests
    are signed with an earlier time, that the service takes none more than `SLACK` after the bound, however long one was
    under way. Nothing is sent after the bound.

    Attributes:
        ends: of `time.monotonic()`.
        instant: of the host's clock, which signatures are made by.
        window: the service's.
    """

    ends: float
    instant: datetime
    window: Window

    @classmethod
    def within(cls, seconds: float, window: Window) -> Bound:
        """The bound so many seconds from now."""
        return cls(time.monotonic() + seconds, system_clock() + timedelta(seconds=seconds), window)

    @property
    def over(self) -> bool:
        """Whether it is past."""
        return time.monotonic() > self.ends

    def signing_time(self) -> datetime:
        """The time that a request sent now is signed with: never later than now."""
        return min(system_clock(), self.instant + SLACK - self.window.length)


@dataclass(frozen=True)
class Call:
    """How requests of one kind are made.

    Attributes:
        location: where.
        patience: the time that they may take, retries included.
        repeatable: whether to do it twice is the same as once: only then it is sent again where it may have arrived.
        bound: of a write; None: it may apply whenever it arrives.
    """

    location: DynamoDBLocation
    patience: Patience
    repeatable: bool = True
    bound: Bound | None = None

    def ask(
        self,
        operation: str,
        arguments: dict[str, Any],
        form: type[T],
        renewed: Callable[[], dict[str, Any]] | None = None,
        refused: str = "",
    ) -> Plan[T]:
        """The plan of one request, tried again where it is throttled or fails.

        Args:
            operation: such as `GetItem`.
            arguments: of the operation, the table's name among them.
            form: of the answer.
            renewed: what is sent instead once a request may have arrived; None: the same.
            refused: why an earlier request left a part undone, of which this is the rest; empty: there was none.

        Raises:
            NoTable: the table is not there.
            Unlike: a condition did not hold.
            Unavailable: no answer, or none but of a throttled table, within the time; or the bound is past.
            StoreReadOnly: the credentials allow no writes.
            StoreError: it is refused.
        """
        body = msgspec.json.encode(arguments)
        tries, lost, why = 0, 0, refused
        while True:
            left = self.patience.left
            if left <= 0:
                said = f"{operation}: {why}" if why else f"no time left for {operation}"
                raise gave_up(f"{self.location.shown}: {said}")
            signed = None
            if self.bound is not None:
                if self.bound.over:
                    raise too_late(self.location.shown)
                signed = self.bound.signing_time()
            answer = yield Request(operation, body, min(self.location.timeout, left), signed)
            if isinstance(answer, Response) and answer.status == 200:
                try:
                    found: T = _decoder(form).decode(answer.body)
                    return found
                except msgspec.MsgspecError as bad:
                    answer = Lost(f"not a DynamoDB response ({bad})")
            if isinstance(answer, Lost):
                lost += 1
                # what the service answered before says more than that the rest of the time was too short
                why = f"{refused}; then {answer.why}" if refused else answer.why
                # what may have arrived is not sent again where twice is not once
                final = lost > 1 or (answer.sent and not self.repeatable)
            else:
                assert answer is not None
                refused, final = self._failed(operation, answer, signed)
                why = refused
            pause = None if final else self.patience.pause(tries)
            if pause is None:
                raise gave_up(f"{self.location.shown}: {operation}: {why}")
            if renewed is not None and (isinstance(answer, Lost) or answer.status >= 500):
                body = msgspec.json.encode(renewed())
            yield pause
            tries += 1

    def _failed(self, operation: str, answer: Response, signed: datetime | None) -> tuple[str, bool]:
        """What an error says, and whether that is the end; raises where it is said in another way."""
        try:
            error = _decoder(_ErrorBody).decode(answer.body)
        except msgspec.MsgspecError:
            error = _ErrorBody()
        name = error.type.rpartition("#")[2]
        text = error.message or error.Message or f"HTTP status {answer.status}"
        if name == "ConditionalCheckFailedException":
            raise Unlike(error.Item)
        if name == "TransactionCanceledException":
            reasons = {reason.Code: reason.Message or reason.Code for reason in error.CancellationReasons}
            if "ConditionalCheckFailed" in reasons:
                raise Unlike(None)
            again = _TRY_AGAIN & reasons.keys()
            if again:
                return f"transaction cancelled for {self.patience.seconds:g} s: {reasons[min(again)]}", False
        if name == "ResourceNotFoundException":
            raise NoTable(f"{self.location.shown}: the table does not exist: run apply, or check region and table=")
        if name in _THROTTLED:
            return f"throttled for {self.patience.seconds:g} s: {text}", False
        if answer.status >= 500:
            return f"{name} {text}".strip(), not self.repeatable
        expired = _EXPIRED.search(text)
        if expired is not None:
            return self._expired(expired[1], text, signed), False
        if name in _CREDENTIALS:
            raise Unavailable(f"{self.location.shown}: the credentials were rejected ({name}): {text}")
        if name == "AccessDeniedException":
            kind = StoreReadOnly if operation in _WRITES else Unavailable
            action = _TRANSACTIONS if operation == "TransactWriteItems" else operation
            raise kind(
                f"{self.location.shown}: the credentials lack dynamodb:{action} on table {self.location.table}: {text}"
            )
        if "size" in text and "exceeded" in text:
            raise StoreError(f"{self.location.shown}: a row is larger than DynamoDB's limit of 400 KB: {text}")
        raise StoreError(f"{self.location.shown}: {operation}: {name} {text}")

    def _expired(self, minutes: str | None, text: str, signed: datetime | None) -> str:
        """What to say where a request's signature was too old; raises where a later one would be so too."""
        if self.bound is not None and signed is not None:
            if minutes is not None:
                self.bound.window.learn(timedelta(minutes=int(minutes)))
            if self.bound.signing_time() > signed + timedelta(seconds=1):
                return text
            if signed < system_clock() - SLACK:
                raise too_late(self.location.shown)
        raise Unavailable(f"{self.location.shown}: the clock of this host is behind the service's: correct it: {text}")
