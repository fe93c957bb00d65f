"""Errors as problem documents (RFC 9457): the same words as in Python, and the class again on the other side."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headwater import errors
from headwater.errors import HeadwaterError
from headwater.wire.names import SESSION
from headwater.wire.words import for_client, over_http

CONTENT_TYPE = "application/problem+json"
TYPES = "urn:headwater:errors#"
"""What a problem's `type` begins with; the class follows, `feature-not-found`."""

_STATUS: dict[type[Exception], int] = {
    errors.RowsRejected: 422,
    errors.OnDemandError: 422,
    errors.IdempotencyKeyReused: 422,
    errors.RequestInProgress: 409,
    errors.NotFound: 404,
    errors.ConsistencyLost: 409,
    errors.ConsistencyError: 400,
    errors.RegistryError: 409,
    errors.Unavailable: 503,
    errors.StorageFull: 507,
    errors.StoreReadOnly: 503,
    errors.LogMismatch: 503,
    errors.ClockError: 503,
    errors.LogDamaged: 503,
    errors.FormatError: 400,
    errors.EntityKeyError: 400,
    errors.UsageError: 400,
    errors.DataError: 400,
}
"""The status of a class of errors and of those below it, the most special first."""
RETRY_AFTER = 1
"""Seconds after which a request that met a store that could not be reached may be tried again."""
_CLOCKS = ("log_clock", "now")
"""Times that a `ClockError` carries."""
_MOST_DETAIL, _MOST_LINE, _MOST_LINES = 4_000, 1_000, 1_000
"""Characters of a problem's detail and of one of its errors that are sent, and how many of these."""
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Problem:
    """An answer that says what went wrong.

    Attributes:
        status: of the answer.
        name: the error's class, or what the server refuses by itself: `TooLarge`, say.
        detail: what was wrong, where, and what to do.
        errors: every single problem where there are several.
        headers: beside the document, such as `Retry-After`.
        extra: members beside those of RFC 9457.
    """

    status: int
    name: str
    detail: str
    errors: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """What is sent."""
        words = _WORD.sub(" ", self.name).lower()
        several = _several(self.errors)
        whole = "\n  ".join(["", *self.errors])
        detail = self.detail.removesuffix(whole) if self.errors else self.detail
        shown = "\n  ".join(["", *several]) if self.errors and self.detail.endswith(whole) else ""
        made: dict[str, Any] = {
            "type": TYPES + words.replace(" ", "-"),
            "title": words[:1].upper() + words[1:],
            "status": self.status,
            "detail": _cut(detail, _MOST_DETAIL) + shown,
        }
        if several:
            made["errors"] = several
        return made | dict(self.extra)


def problem_of(bad: HeadwaterError) -> Problem:
    """The answer to a request that one of headwater's errors ended.

    A status of 500 stands for errors that no request can cause: of the server's own settings or definitions.
    """
    if isinstance(bad, errors.AccessDenied):
        return _denied(bad)
    status = next((status for kind, status in _STATUS.items() if isinstance(bad, kind)), 500)
    several = tuple(map(over_http, getattr(bad, "problems", ())))
    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else {}
    if isinstance(bad, errors.RequestInProgress):
        headers["Retry-After"] = str(max(1, math.ceil(bad.seconds)))
    session = getattr(bad, "session", None)
    if session is not None:
        headers[SESSION] = session.token
    extra = {}
    if isinstance(bad, errors.ClockError):
        extra = {name: time.isoformat() for name in _CLOCKS if (time := getattr(bad, name)) is not None}
    return Problem(status, type(bad).__name__, over_http(str(bad)), several, headers, extra)


def error_of(document: Mapping[str, Any], status: int) -> HeadwaterError:
    """The error that a problem document stands for: of the class that it names, where this headwater has it.

    Args:
        document: the problem.
        status: of the answer, for documents that name no class of headwater's.
    """
    detail = for_client(str(document.get("detail") or document.get("title") or f"the server answered {status}"))
    kind = _CLASSES.get(str(document.get("type", "")).removeprefix(TYPES))
    if kind is None and status in (401, 403):
        return errors.AccessDenied(detail, authenticated=status == 403)
    if kind is None:
        kind = errors.Unavailable if status in (429, 503, 504) else errors.UsageError if status < 500 else None
    if kind is None:
        return errors.StoreError(detail)
    if issubclass(kind, errors.RowsRejected | errors.DefinitionError):
        several = [for_client(str(line)) for line in document.get("errors", ())]
        return kind(detail.removesuffix("\n  ".join(["", *several])), several)
    if kind is errors.ClockError:
        return kind(detail, *(_time(document.get(name)) for name in _CLOCKS))
    return kind(detail)


def _several(problems: tuple[str, ...]) -> list[str]:
    """Problems as they are sent: each of bounded length, of many the first and how many more."""
    some = [_cut(text, _MOST_LINE) for text in problems[:_MOST_LINES]]
    return some if len(problems) <= _MOST_LINES else [*some, f"and {len(problems) - _MOST_LINES:,} others"]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _denied(bad: errors.AccessDenied) -> Problem:
    """The answer to a request whose API key does not allow it; one class in Python, two statuses of HTTP."""
    if bad.authenticated:
        return Problem(403, "Forbidden", str(bad))
    return Problem(401, "Unauthorized", str(bad), headers={"WWW-Authenticate": 'Bearer realm="headwater"'})


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _classes(root: type[HeadwaterError]) -> dict[str, type[HeadwaterError]]:
    named = {_WORD.sub("-", root.__name__).lower(): root}
    for below in root.__subclasses__():
        if not below.__name__.startswith("_") or below.__subclasses__():
            named |= _classes(below)
    return named


_CLASSES = _classes(HeadwaterError)
