"""Every error headwater raises, in one tree.

HeadwaterError
├── DefinitionError               features.py is wrong; `.problems` lists everything found
├── ConfigError                   headwater.toml, an environment variable or an argument is wrong
├── UsageError                    a call that cannot mean anything (also a ValueError)
├── AccessDenied                  a server refused the API key of a call; `.authenticated`
├── NotFound                      a name nobody registered; the message gives the nearest
│   ├── FeatureNotFound
│   ├── FeatureViewNotFound
│   ├── FeatureServiceNotFound
│   ├── EntityNotFound
│   └── VersionNotFound
├── DataError                     data that does not fit its definition
│   ├── SourceError               a source is missing, unreadable, or lacks a column
│   ├── SpineError                the training rows: no timestamp, NaT, a key of another type
│   ├── EntityKeyError            the keys of a read or delete
│   ├── RowsRejected              rows given to `write`; `.problems` lists them
│   └── OnDemandError             an on-demand function raised, or returned what its features are not
├── RegistryError
│   ├── RegistryConflict          somebody else applied first; nothing was changed
│   ├── VersionConflict           a changed definition under a version that exists
│   └── ChangeRefused             promote, rollback or retire would break something
│       └── RemovalsRefused       an apply would retire what is live; `.names`
├── StoreError
│   ├── Unavailable               the store cannot be reached, or not in time
│   ├── StorageFull               no room left; what was acknowledged is kept
│   ├── StoreReadOnly             the folder or server takes no writes
│   ├── LogMismatch               this host's offline log is not the store's
│   ├── ClockError                the offline log's clock is far ahead of now; nothing was changed
│   ├── LogDamaged                a file of the offline log is missing or damaged
│   └── FormatError               bytes written by a newer or foreign program
├── ConsistencyError
│   ├── ConsistencyNotSupported   a level this store cannot give
│   ├── SessionRequired           a level that needs a session came without one
│   └── ConsistencyLost           the session's history is gone; `.session` goes on
├── IdempotencyKeyReused          an `Idempotency-Key` came again, with another request
├── RequestInProgress             the same request is being answered: send it again in a moment
├── Cancelled                     the program itself ended the work: `HistoryResult.cancel`
└── MissingExtra                  an optional package is not installed (also an ImportError)
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self

from headwater.deferred import deferred, deferred_pattern

difflib = deferred("difflib")

_SHOWN = 120
"""Characters of a value that a message shows at most."""


class HeadwaterError(Exception):
    """The root: `except hw.HeadwaterError` catches everything headwater raises.

    Attributes:
        report: of a call that went on in spite of the error, what it did (`materialize`: its report); else None.
    """

    report: Any = None


class _WithProblems(HeadwaterError):
    """An error that reports several problems at once, each in a line of its own."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("\n  ".join([message, *self.problems]))


class DefinitionError(_WithProblems):
    """Definitions are wrong; `.problems` names each place and the nearest valid name."""


class ConfigError(HeadwaterError):
    """A setting is unknown or has a bad value."""


class UsageError(HeadwaterError, ValueError):
    """Arguments that cannot mean anything together."""


class AccessDenied(HeadwaterError):
    """A server refused a call for its API key.

    Attributes:
        authenticated: True: the key is valid, but its scopes or patterns do not cover the call (HTTP 403); False: there
            is no valid key: it is missing, unknown, expired or revoked (HTTP 401).
    """

    def __init__(self, message: str, authenticated: bool = False) -> None:
        super().__init__(message)
        self.authenticated = authenticated


class NotFound(HeadwaterError, LookupError):
    """A name that nobody registered."""


class FeatureNotFound(NotFound):
    """No such feature in that view version."""


class FeatureViewNotFound(NotFound):
    """No such feature view."""


class FeatureServiceNotFound(NotFound):
    """No such feature service."""


class EntityNotFound(NotFound):
    """No such entity."""


class VersionNotFound(NotFound):
    """No such version of a view or service."""


class DataError(HeadwaterError):
    """Data that does not fit its definition."""


class SourceError(DataError):
    """A source is missing, unreadable, or lacks a column."""


class SpineError(DataError):
    """The spine lacks a column, has a NaT, or a key of another type."""


class EntityKeyError(DataError):
    """The entity keys of a read, write or delete are incomplete or of another type."""


class RowsRejected(DataError, _WithProblems):
    """Rows given to `write` that no version can take; nothing was written."""


class IdempotencyKeyReused(HeadwaterError):
    """An `Idempotency-Key` came with another request than the one that it stands for."""


class RequestInProgress(HeadwaterError):
    """A request with the same `Idempotency-Key` is being answered: the same one may be sent again in a moment.

    Attributes:
        seconds: after which whoever is answering it is taken for dead, and the next one goes on with it.
    """

    seconds = 1.0


class OnDemandError(DataError):
    """An on-demand function raised, or returned what its features are not; it names function, row and inputs."""


class RegistryError(HeadwaterError):
    """The registry refused or cannot do something."""


class RegistryConflict(RegistryError):
    """Another process applied first; nothing was changed by this one."""

    @classmethod
    def since(cls, registry: str, revision: int) -> Self:
        """The error where somebody else changed the registry since something was planned on a revision of it."""
        return cls(
            f"{registry} changed since this plan was made (on revision {revision}); nothing was changed: look at the "
            "plan again, then apply"
        )


class VersionConflict(RegistryError):
    """A definition changed under a version that is already registered."""


class ChangeRefused(RegistryError):
    """Promote, rollback or retire would break something that is named."""


class RemovalsRefused(ChangeRefused):
    """An apply would retire what is live.

    Attributes:
        names: the views and services.
    """

    def __init__(self, message: str, names: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class StoreError(HeadwaterError):
    """An online store, offline engine or log failed."""


class Unavailable(StoreError):
    """The store cannot be reached, or not in time.

    Attributes:
        closed: whether it was closed in this process, so that to try again is in vain.
        patient: whether the store has tried again by itself for as long as it may: nobody above it does so once more.
    """

    closed = False
    patient = False


class StorageFull(StoreError):
    """No room left on the device; everything acknowledged before is kept."""


class StoreReadOnly(StoreError):
    """The store takes no writes."""


class LogMismatch(StoreError):
    """The offline log is not the one that the registry or online store knows."""


class ClockError(StoreError):
    """The offline log's clock and the time now are too far apart to tell which is wrong; nothing was changed.

    Attributes:
        log_clock: what the offline log's clock says (UTC).
        now: the time now (UTC), by the clock of the log's database, or of this host where that is SQLite.
    """

    def __init__(self, message: str, log_clock: datetime | None = None, now: datetime | None = None) -> None:
        super().__init__(message)
        self.log_clock, self.now = log_clock, now


class LogDamaged(StoreError):
    """A file of the offline log is missing or damaged; `headwater verify` says what is lost, and how to go on."""


class FormatError(StoreError):
    """Stored bytes were written by a newer headwater or by something else."""


class ConsistencyError(HeadwaterError):
    """A consistency level cannot be given."""


class ConsistencyNotSupported(ConsistencyError):
    """The configured store cannot give that level."""


class SessionRequired(ConsistencyError):
    """That level needs a session."""


class ConsistencyLost(ConsistencyError):
    """What the session has seen cannot be guaranteed any more; `.session` is a fresh one, from where the store is."""

    def __init__(self, message: str, session: Any = None, marks: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.session = session
        self.marks: Mapping[str, int] = dict(marks or {})


class Cancelled(HeadwaterError):
    """The work was ended by the program itself, with `HistoryResult.cancel`."""


class MissingExtra(HeadwaterError, ImportError):
    """An optional package is missing, or broken; the message has the line that installs it."""


_EXTRAS = {
    "redis": "redis",
    "hiredis": "redis",
    "aiohttp": "dynamodb",
    "botocore": "dynamodb",
    "psycopg": "postgres",
    "urllib3": "client",
    "uvicorn": "server",
    "httptools": "server",
    "uvloop": "server",
    "orjson": "server",
    "prometheus_client": "server",
    "pyspark": "spark",
    "pandas": "pandas",
    "polars": "polars",
    "torch": "torch",
    "mlflow": "mlflow",
}


@contextmanager
def needs_package(package: str, extra: str | None = None) -> Iterator[None]:
    """The import of an optional package, or of what imports it.

    Args:
        package: its name, where the failure does not say.
        extra: the extra that brings it, where several do.

    Raises:
        MissingExtra: it is not installed, or what is installed cannot be imported.
    """
    try:
        yield
    except HeadwaterError:
        raise
    except Exception as broken:
        module = getattr(broken, "name", None) if isinstance(broken, ModuleNotFoundError) else None
        name, line = _installed(module or package, extra if module in (None, package) else None)
        if isinstance(broken, ModuleNotFoundError) and name == (module or package):
            raise MissingExtra(f"{name} is not installed: {line}") from broken
        if _is_own(broken) and module is None:
            raise
        cause = printable(f"{type(broken).__name__}: {str(broken)[:_SHOWN]}")
        line = line.replace("install", "install --force-reinstall")
        raise MissingExtra(f"{name} is installed, but cannot be imported ({cause}): {line}") from broken


def _installed(module: str, extra: str | None = None) -> tuple[str, str]:
    """A module's package, and the line that installs it."""
    package = module.partition(".")[0]
    extra = extra or _EXTRAS.get(package)
    return package, f"pip install 'headwater[{extra}]'" if extra else f"pip install {package}"


def _is_own(error: Exception) -> bool:
    """Whether an error was raised by headwater's own code, not by a package's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == "headwater"


def was_closed(what: str) -> Unavailable:
    """The error where something is asked that this process has closed."""
    bad = Unavailable(what)
    bad.closed = True
    return bad


def nearest(name: str, names: Iterable[str]) -> str:
    """The hint for a misspelt name: `; did you mean 'temp'?`, or nothing where none is near."""
    if not isinstance(name, str) or len(name) > _SHOWN:
        return ""
    known = [str(n) for n in names]
    close = [n for n in known if n.casefold() == name.casefold() != n] or difflib.get_close_matches(
        name, known, n=1, cutoff=0.6
    )
    return f"; did you mean {close[0]!r}?" if close else ""


_NAMES = 30
"""Names that a message lists at most."""


def listing(names: Iterable[object]) -> str:
    """Names as messages list them: `temp, humid, wind_speed`; of many the first, and how many others.

    Args:
        names: what is listed, as its text.

    Returns:
        The names, with commas between them.
    """
    every = list(names)
    some = ", ".join(_short(str(name)) for name in every[:_NAMES])
    return some if len(every) <= _NAMES else f"{some} and {len(every) - _NAMES:,} others"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_HEAD]}… ({len(text):,} characters)"


_HEAD = 80
unsafe_characters: re.Pattern[str] = deferred_pattern(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)

"""Characters that a terminal obeys, or that change how others around them are read."""


class _Brief(reprlib.Repr):
    """`repr` of a few items of containers, a few levels deep."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxother, self.maxstring, self.maxlong = 3, _SHOWN, _SHOWN, 60
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 6

    def repr_str(self, x: str, level: int) -> str:
        return _shortened(x, "characters")

    def repr_datetime(self, x: Any, level: int) -> str:
        return str(x.isoformat(sep=" "))

    def repr_date(self, x: Any, level: int) -> str:
        return str(x.isoformat())

    def repr_bytes(self, x: bytes, level: int) -> str:
        return _shortened(x, "bytes")


def _shortened(value: str | bytes, unit: str) -> str:
    return repr(value) if len(value) <= _SHOWN else f"{value[:_HEAD]!r}… ({len(value):,} {unit})"


_BRIEF = _Brief()


def brief(value: Any) -> str:
    """A value as messages show it: its `repr`, shortened, without control characters.

    It never raises: of a value that cannot be shown it names the type.
    """
    try:
        text = _BRIEF.repr(value)
        return printable(text if len(text) <= 2 * _SHOWN else text[: 2 * _SHOWN] + "…")
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def raised(error: BaseException, limit: int = 200) -> str:
    """An exception of a user's code as messages show it: its type and what it says, in one line.

    It never raises: of one whose own text cannot be made it names the type.

    Args:
        error: the exception.
        limit: characters shown at most.

    Returns:
        Such as `ValueError: no such unit`.
    """
    kind = type(error).__name__
    try:
        text = f"{kind}: {error}"
    except Exception:
        text = f"{kind} that cannot be shown"
    return printable(text[:limit])


def printable(text: str) -> str:
    """A text in one line that a terminal can be given: control, bidi and invisible characters as escapes."""
    return text if text.isascii() and text.isprintable() else unsafe_characters.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape", "backslashreplace").decode("ascii")
