"""What Spark reports, as headwater's errors: whose fault it is, where, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from headwater import errors
from headwater.errors import HeadwaterError, SourceError, StorageFull, StoreError, Unavailable, listing, nearest
from headwater.offline.engines.spark.words import FAILED, FAILED_END
from headwater.offline.join.workspace import StatementError

_OURS = re.compile(re.escape(FAILED) + "(.*?)" + re.escape(FAILED_END), re.DOTALL)
_OWN = re.compile(r"^(?:[\w.]+: )*headwater\.errors\.(\w+): (.+)$", re.MULTILINE)
_LOST = (
    "Connection refused",
    "Stream removed",
    "UNAVAILABLE",
    "SparkContext was shut down",
    "SparkContext has been shutdown",
    "stopped SparkContext",
    "Answer from Java side is empty",
    "INVALID_HANDLE",
    "SESSION_CLOSED",
    "SESSION_NOT_FOUND",
    "failed to connect to all addresses",
    "Socket closed",
    "channel is closed",
    "closed channel",
    "error occurred while trying to connect to the Java server",
)
_ANOTHERS = re.compile(
    r"(?<!Annotated)ConnectException|SdkClientException|AmazonClientException|TTransportException|MetaException"
    r"|HttpHostConnectException|Generic \w+ error|error sending request|OperationalError|PSQLException"
)
"""Who reports a refused connection that is not the driver's own: Spark is there, what it connected to is not."""
_REFUSED_BY = (
    re.compile(r"Connect to ([\w.\-]+:\d+)[^:]* failed"),
    re.compile(r"Call From \S+ to ([\w.\-]+:\d+) failed"),
    re.compile(r"error sending request for url \(\w+://(?:[^@/\s]*@)?([^/\s?)]+)"),
    re.compile(r"Connection to ([\w.\-]+:\d+) refused"),
    re.compile(r"[Ff]ailed to connect to (?:[\w.\-]*/)?([\w.\-]+:\d+)"),
)
"""The address that was refused, as clients of stores and databases say it."""
_METASTORE = re.compile(r"meta ?store", re.IGNORECASE)
_OF_THE_DATA = (
    "UNRESOLVED_COLUMN",
    "PARSE_SYNTAX_ERROR",
    "PATH_NOT_FOUND",
    "FILE_NOT_EXIST",
    "FAILED_READ_FILE",
    "UNABLE_TO_INFER_SCHEMA",
    "DATATYPE_MISMATCH",
    "CAST_INVALID_INPUT",
    "CAST_OVERFLOW",
    "ARITHMETIC_OVERFLOW",
    "DIVIDE_BY_ZERO",
    "AMBIGUOUS_REFERENCE",
    "INSUFFICIENT_PERMISSIONS",
    "USER_RAISED_EXCEPTION",
    "DATA_SOURCE_NOT_FOUND",
    "UNRESOLVED_ROUTINE",
    "INVALID_PARAMETER_VALUE",
    # as Sail says these
    "cannot resolve attribute",
    "unknown function",
    "Cast error",
    "Division by zero",
    "Divide by zero",
    "Invalid table location",
    "Parquet error",
    "Object at location",
)
"""What a query or its rows are at fault for."""
_OF_A_VALUE = ("CAST_INVALID_INPUT", "CAST_OVERFLOW", "Cast error", "Cannot cast string")
"""Those whose text has a value of the data in it, which may be any other of these words."""
_NOT_TEXT = ("non UTF-8 data", "Invalid UTF8 payload", "invalid utf-8 sequence")
_DETAILS = re.compile(r'details = "(.*?)"\n', re.DOTALL)
"""What gRPC writes an error's own words as."""
_RAISED = re.compile(r"^\s*((?:[\w.]+\.)?\w*(?:Error|Exception|Invalid): .*)$", re.MULTILINE)
_BEFORE = re.compile(r"^An error occurred while calling \S+ (?:: )?(?:[\w.$]+(?:Exception|Error): )?")
"""What Py4J writes before Spark's own words."""
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '(headwater|numpy|pyarrow|msgspec)[.']")
"""What every function of headwater's needs on executors."""
_DENIED = ("Permission denied", "AccessControlException", "AccessDenied", "Errno 13")
_SHOWN = 500
_MISSING = ("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND", "table not found", "table or view not found")
_NAME = re.compile(r"(?:table or view|schema) [`']?(\S+?)[`']? cannot be found|or view not found:? (\S+)", re.I)
_OF_FORMAT = re.compile(r"(\w+)\.(\w+:/.*|/.*)")
"""A path as the name of a table."""


@contextmanager
def failing(tables: Callable[[], Sequence[str]] = list, ended: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """The block's errors of Spark as headwater's.

    Args:
        tables: the names of tables that there are, for a hint.
        ended: whether the session is gone: what Spark then says depends on how far it had come.

    Raises:
        SourceError: a value that does not fit; a table or column that is missing; a query that does not run. Where
            Spark alone says it, a `StatementError`.
        StorageFull: a disk is full.
        Unavailable: the driver or the server is gone.
        HeadwaterError: what a function of headwater's raised in a worker, such as that the online store is full.
        StoreError: anything else.
    """
    try:
        yield
    except (HeadwaterError, KeyboardInterrupt, GeneratorExit):
        raise
    except Exception as bad:
        if ended():
            raise Unavailable(
                "spark: its session was stopped; open the store again, with a new session where one was given"
            ) from bad
        raise translated(bad, tables) from bad


def translated(bad: Exception, tables: Callable[[], Sequence[str]] = list) -> HeadwaterError:
    """One error of Spark's as one of headwater's."""
    text = _whole_text(bad)
    ours = _OURS.search(text)
    if ours is not None:
        return SourceError(ours.group(1))
    own = _own(text)
    if own is not None:
        return own
    if any(name in text for name in _OF_A_VALUE):
        return StatementError(f"spark: {short(bad)}")
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return StorageFull(
            "spark: a disk is full (No space left on device): free space on the disks of the executors "
            "(spark.local.dir) and in [offline.spark] scratch; nothing was kept of this run"
        )
    missing_module = _NO_MODULE.search(text)
    if missing_module is not None or "PYTHON_VERSION_MISMATCH" in text:
        lacks = "another Python than this process" if missing_module is None else f"no module {missing_module[1]!r}"
        return StoreError(
            f"spark: the Python of its workers has {lacks}: name one that has headwater and this Python's version by "
            "PYSPARK_PYTHON before Spark is started (on this machine sys.executable), or install it on the executors "
            "(docs/beyond-one-machine.md)"
        )
    refused = _refused_by(text)
    if refused is not None:
        return StoreError(
            f"spark: {refused} refused the connection ({short(bad)}): Spark is running, but does not reach it; start "
            "it, or correct its address in Spark's settings"
        )
    if any(lost in text for lost in _LOST):
        return Unavailable(
            f"spark: its driver or server is gone ({short(bad)}); open the store again, with a new session where "
            "one was given"
        )
    if any(missing in text for missing in _MISSING):
        return _not_found(text, tables)
    if "OutOfMemoryError" in text or "ExecutorLostFailure" in text:
        return StoreError(
            f"spark: executors were lost or out of memory ({short(bad)}): give them more memory "
            "(spark.executor.memory), or more, smaller tasks (spark.sql.shuffle.partitions)"
        )
    if any(invalid in text for invalid in _NOT_TEXT):
        return StatementError(
            f"spark: text that is not valid UTF-8 ({short(bad)}); leave out such rows, or take the column as Bytes"
        )
    if any(denied in text for denied in _DENIED):
        return StoreError(
            f"spark: permission denied ({short(bad)}): the executors and this process need to read and write "
            "[offline.spark] scratch, and to read the tables"
        )
    kind = StatementError if any(name in text for name in _OF_THE_DATA) else StoreError
    return kind(f"spark: {short(bad)}")


def _refused_by(text: str) -> str | None:
    """Who refused a connection of Spark's to something else; None: none was, or it was Spark itself."""
    if "refused" not in text:
        return None
    if not _ANOTHERS.search(text) or "StatusCode.UNAVAILABLE" in text:
        return None
    for pattern in _REFUSED_BY:
        found = pattern.search(text)
        if found is not None:
            return found[1]
    return "the metastore" if _METASTORE.search(text) else "a server that it reads from or writes to"


def _own(text: str) -> HeadwaterError | None:
    """The error of headwater's that ended a worker, by the last line of its traceback."""
    for name, message in reversed(_OWN.findall(text)):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, HeadwaterError):
            return kind(f"{message.strip()} (in a worker of Spark)")
    return None


def _not_found(text: str, tables: Callable[[], Sequence[str]]) -> SourceError:
    found = _NAME.search(text)
    name = next((group for group in found.groups() if group), "") if found is not None else ""
    name = name.replace("`", "").strip("'\"")
    path = _OF_FORMAT.fullmatch(name)
    if path is not None:
        return StatementError(
            f"spark: cannot read {path[2]} as {path[1]}: there is nothing, or Spark lacks that format; correct path= "
            "or format=, or add the format's package to Spark"
        )
    try:
        there = list(tables())
    except Exception:
        there = []
    near = nearest(name, there) or nearest(name.rpartition(".")[2], there)
    if near:
        return StatementError(f"spark: there is no table {name!r}{near}")
    has = f"; there are {listing(there)}" if there else ""
    return StatementError(
        f"spark: there is no table {name!r}{has}; temporary views of another session are not visible: "
        "use a table, a global temporary view or a query"
    )


def _whole_text(bad: BaseException) -> str:
    """What an error says, and what is behind it."""
    texts: list[str] = []
    seen: BaseException | None = bad
    while seen is not None and len(texts) < 5:
        texts.append(str(seen))
        java = getattr(seen, "java_exception", None)
        if java is not None:
            try:
                texts.append(str(java.toString()))
            except Exception:
                texts.append("Connection refused")
        seen = seen.__cause__ or seen.__context__
    return "\n".join(texts)


def short(bad: BaseException) -> str:
    """The first of what an error says, without stack traces and plans; of one in a Python worker its last line."""
    text = str(bad)
    details = _DETAILS.search(text)
    if details is not None:
        return details[1][:_SHOWN]
    raised = _RAISED.findall(text.partition("Traceback (most recent call last)")[2])
    if raised:
        return str(raised[-1])[:_SHOWN]
    for end in ("JVM stacktrace", "\n== SQL", "\nCaused by:", "This stopped SparkContext"):
        text = text.partition(end)[0]
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("at ", "== ", "'", "+-", ":-", "..."))]
    return _BEFORE.sub("", " ".join(kept)).strip()[:_SHOWN] or type(bad).__name__
