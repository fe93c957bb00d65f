"""The session in which statements run: headwater's own, beside one that is given, in a local Spark, or at a server."""

from __future__ import annotations

import atexit
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa

from headwater import forks
from headwater.errors import ConfigError, MissingExtra, Unavailable, needs_package
from headwater.offline.engines.spark.errors import short
from headwater.offline.engines.spark.surroundings import (
    remote_of_environment,
    runs_own_python,
    says_which_spark,
    started_local,
)
from headwater.urls import shown_location, without_password

STATED = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.parquet.binaryAsString": "false",
    "spark.sql.parquet.int96AsTimestamp": "true",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.quotedRegexColumnNames": "false",
}
"""What every statement depends on, whatever the given session, the server or the cluster says."""
_TAKEN = ("spark.sql.catalog", "spark.sql.shuffle.", "spark.sql.adaptive.", "spark.sql.files.max", "spark.databricks.")
_NOT_TAKEN = ("spark.app.", "spark.driver.", "spark.executor.", "spark.master", "spark.submit.", "spark.sql.")
"""Of a given session's settings of other names those are taken over too, without which a table might not be read."""

_ORDER = """
SELECT max(s).b = 1 AND size(max(t).b) = 2 AND isnan(max(u).b)
FROM (
  SELECT named_struct('a', 0, 'b', CAST(NULL AS DOUBLE)) AS s, named_struct('a', 0, 'b', array(0, 9)) AS t,
    named_struct('a', 0, 'b', CAST('Infinity' AS DOUBLE)) AS u
  UNION ALL
  SELECT named_struct('a', 0, 'b', 1D), named_struct('a', 0, 'b', array(1, NULL)),
    named_struct('a', 0, 'b', CAST('NaN' AS DOUBLE))
  UNION ALL
  SELECT NULL, named_struct('a', 0, 'b', array(1)), NULL
)
"""
"""Whether NULL is lowest, NaN highest, and arrays are compared element by element."""

_PROBE = 5.0
"""Seconds for a connection to a cluster's master."""
_RETRIES, _BACKOFF = 6, 4_000
"""How often a call to a server that does not answer is tried again, and the longest pause between two (milliseconds):
some twelve seconds in all. By PySpark's own policy a run waits ten minutes for a driver that is gone.
"""
_FIRST_RETRIES = 3
"""How often the first call is, which soon says that nobody is there: some three seconds in all."""

_started: dict[Any, int] = {}
"""The local Spark that headwater started in this process → how many engines use it."""
_lock = forks.lock()


class OwnSession:
    """A session of headwater's own; the one beside it is never changed.

    Attributes:
        spark: the session.
        connect: whether it is one of Spark Connect.
        local: whether driver and executors are on this machine.
        orders_structs: whether it orders structs as the contract orders rows; Spark does, not all that speak its
            protocol do.
    """

    def __init__(self, spark: Any, context: Any, *, local: bool) -> None:
        self.spark, self._context, self.local = spark, context, local
        self.connect = is_connect(spark)
        self.orders_structs = not self.connect or bool(spark.sql(_ORDER).collect()[0][0])

    @property
    def states_types(self) -> bool:
        """Whether the types that it says a query has are those that it writes."""
        return self.orders_structs

    @property
    def holds_any_text(self) -> bool:
        """Whether a text of it may be bytes that are not UTF-8; others refuse such text themselves."""
        return self.orders_structs

    def ended(self) -> bool:
        """Whether the Spark of this process that it belongs to was stopped; of a server its calls tell."""
        if self.connect:
            return False
        try:
            java = self.spark.sparkContext._jsc
            return java is None or bool(java.sc().isStopped())
        except Exception:
            return True

    def counting(self, frame: Any) -> tuple[Callable[[], int], Any]:
        """A frame that counts its rows while they are written, and how many rows the tasks that count have written."""
        from pyspark.sql import Observation

        if self.connect:
            from pyspark.sql.connect import functions
        else:
            from pyspark.sql import functions
        seen = Observation()
        counted = frame.observe(seen, functions.count(functions.lit(1)).alias("rows"))
        return lambda: int(seen.get["rows"]), counted

    def close(self) -> None:
        """End the session; a Spark that headwater started ends with the last of its sessions."""
        _end(self.spark, self._context)


def _end(spark: Any, context: Any) -> None:
    """See `OwnSession.close`."""
    if is_connect(spark):
        with suppress(Exception):
            spark.client.set_retry_policies([])
            spark.client.release_session()
        with suppress(Exception):
            spark.client.close()
        return
    if context is None:
        return
    with _lock:
        _started[context] -= 1
        last = not _started[context]
        if last:
            del _started[context]
    if last:
        with suppress(Exception):
            context.stop()


@contextmanager
def _ended_if_refused(spark: Any, context: Any) -> Iterator[None]:
    """End a session that cannot be used: a Spark that began with a wrong setting gives it to later sessions too."""
    try:
        yield
    except BaseException:
        _end(spark, context)
        raise


def is_connect(spark: Any) -> bool:
    """Whether a session is one of Spark Connect."""
    return any(".connect." in f"{base.__module__}." for base in type(spark).__mro__)


def struct_type(schema: pa.Schema) -> Any:
    """The Spark `StructType` of columns of kept types; not as text, which a session would parse in its own way."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema, prefer_timestamp_ntz=True)


def beside(given: Any, conf: Mapping[str, str]) -> OwnSession:
    """A session of headwater's own at the Spark of a given one, with its catalog and database.

    Raises:
        ConfigError: what is given is not a session, or has ended.
    """
    if not hasattr(given, "sql") or not hasattr(given, "conf"):
        raise ConfigError(f"session is {type(given).__name__}; give a pyspark.sql.SparkSession")
    with _starting("the session that was given"):
        if is_connect(given):
            own = _at_channel(given.client._builder)
            local = _is_loopback(given.client._builder.host)
        else:
            own = given.newSession()
            local = str(given.sparkContext.master).startswith("local")
        with _ended_if_refused(own, None):
            _set(own, {**_taken_over(given), **conf})
            catalog, database = given.catalog.currentCatalog(), given.catalog.currentDatabase()
            with suppress(Exception):  # a catalog that has no such thing as a current one
                own.catalog.setCurrentCatalog(catalog)
                own.catalog.setCurrentDatabase(database)
            return OwnSession(own, None, local=local)


def at_server(remote: str, conf: Mapping[str, str]) -> OwnSession:
    """A session at a Spark Connect server.

    Raises:
        Unavailable: nobody answers there.
        MissingExtra: pyspark is not installed, or the packages that its client needs.
    """
    if not remote.startswith("sc://"):
        raise ConfigError(
            f"[offline.spark] remote = {without_password(remote)!r}: the address of a Spark Connect server begins with sc://"
        )
    with needs_package("pyspark"):
        import pyspark  # noqa: F401
    try:
        with _as_a_program():
            from pyspark.sql.connect.client import DefaultChannelBuilder
    except ImportError as bad:
        raise MissingExtra(
            "[offline.spark] remote needs the packages of Spark Connect: pip install 'headwater[spark]', or, where the "
            "whole of Spark is installed, pip install 'pyspark[connect]'"
        ) from bad

    with _starting(f"the Spark Connect server {shown_location(remote)}"):
        builder = None
        with suppress(Exception):  # its words may have the token
            builder = DefaultChannelBuilder(remote)
        if builder is None:
            raise ConfigError(
                f"[offline.spark] remote = {shown_location(remote)!r} is not the address of a Spark Connect server, "
                "such as sc://host:15002 or sc://host:443/;use_ssl=true;token=…, with %3D for = in a value"
            )
        own = _at_channel(builder, retries=_FIRST_RETRIES)
        with _ended_if_refused(own, None):
            own.conf.get("spark.sql.session.timeZone")
            _retry(own, _RETRIES)
            _set(own, conf)
            return OwnSession(own, None, local=_is_loopback(builder.host))


def of_master(master: str | None, conf: Mapping[str, str]) -> OwnSession:
    """A session of the Spark of this process, which is started where there is none.

    Args:
        master: its master; None: what the environment says (spark-submit, spark-defaults.conf), else `local[*]`.
        conf: settings of Spark.

    Raises:
        ConfigError: this process has a Spark of another master.
        MissingExtra: pyspark is not installed, or only the client of Spark Connect.
    """
    with needs_package("pyspark"):
        from pyspark.sql import SparkSession
    try:
        from pyspark import SparkContext
    except ImportError:
        raise ConfigError(
            f"[offline.spark] {'master is missing, which' if master is None else f'master = {master!r}'} needs the "
            "whole of Spark (pip install pyspark, and Java 17); the client alone is installed: name a server with "
            'remote = "sc://host:15002"'
        ) from None
    if master is None and not says_which_spark():
        master = "local[*]"
    shown = "the Spark of this environment" if master is None else f"Spark with master {master!r}"
    with _lock:
        context = SparkContext._active_spark_context
        if context is not None and master is not None and context.master != master:
            raise ConfigError(
                f"[offline.spark] master = {master!r}: this process already has a Spark with master "
                f"{context.master!r}; use that, or give its session: SparkOfflineEngine(session=…)"
            )
        if context is None and master is not None:
            _probe(master)
        with _starting(shown):
            if context is None:
                builder = SparkSession.builder.appName("headwater")
                if master is not None:
                    builder = builder.master(master)
                for name, value in {**started_local(master), **conf}.items():
                    builder = builder.config(name, value)
                context = builder.getOrCreate().sparkContext
                if runs_own_python(str(context.master)):
                    context.pythonExec = sys.executable  # PySpark's own is the python3 of the PATH
                _started[context] = 0
            ours = context in _started
            own = SparkSession(context).newSession()
            if ours:
                _started[context] += 1
    started = context if ours else None
    with _ended_if_refused(own, started):
        _set(own, conf)
        return OwnSession(own, started, local=str(context.master).startswith("local"))


def of_surroundings(conf: Mapping[str, str]) -> OwnSession:
    """A session where nothing says which Spark: the one that this process already uses, else of the environment.

    In this order: the server of `SPARK_REMOTE`; the active session (a notebook's); what spark-submit or
    spark-defaults.conf say; a local Spark on all cores.

    Raises:
        ConfigError: only the client of Spark Connect is installed, and no server is named.
        MissingExtra: pyspark is not installed.
    """
    remote = remote_of_environment()
    if remote is not None:
        return at_server(remote, conf)
    with needs_package("pyspark"):
        import pyspark
    with suppress(Exception):  # an older client has no such thing
        from pyspark.sql.connect.session import SparkSession as AtServer

        active = AtServer.getActiveSession()
        if active is not None:
            return beside(active, conf)
    context = getattr(getattr(pyspark, "SparkContext", None), "_active_spark_context", None)
    if context is None or context in _started:
        return of_master(None if context is None else context.master, conf)
    from pyspark.sql import SparkSession

    return beside(SparkSession(context), conf)


def _at_channel(builder: Any, *, retries: int = _RETRIES) -> Any:
    from pyspark.sql.connect.session import SparkSession

    # not by the builder of sessions, which would make it the process's default
    own = SparkSession(connection=builder)
    _retry(own, retries)
    with suppress(Exception):  # older clients have no such thing
        # at the end of the process it would clean up at the server, which may be gone, or be called in a forked child
        atexit.unregister(own.client._on_exit)
    return own


def _retry(own: Any, retries: int) -> None:
    """How often its calls are tried again."""
    with suppress(Exception):  # older clients have no such thing
        from pyspark.sql.connect.client.retries import DefaultPolicy

        own.client.set_retry_policies([DefaultPolicy(max_retries=retries, max_backoff=_BACKOFF)])


def _probe(master: str) -> None:
    """Look whether the master of a cluster answers; Spark itself waits for it for a minute.

    Raises:
        Unavailable: none of its hosts does.
    """
    if not master.startswith("spark://"):
        return
    problems = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _PROBE).close()
        except (OSError, ValueError) as bad:
            problems.append(f"{address}: {bad}")
        else:
            return
    raise Unavailable(
        f"cannot use Spark with master {master!r}: {'; '.join(problems)}; make sure that it is running, and that host "
        "and port are right"
    )


@contextmanager
def _as_a_program() -> Iterator[None]:
    """Have a main module with a file: PySpark takes any other (`python -c`, a worker) for one of its own tests."""
    main = sys.modules["__main__"]
    if hasattr(main, "__file__"):
        yield
        return
    main.__file__ = __file__
    try:
        yield
    finally:
        del main.__file__


def _set(own: Any, conf: Mapping[str, str]) -> None:
    """Set what is wanted, then what is stated.

    Raises:
        ConfigError: Spark does not take a setting.
    """
    for name, value in conf.items():
        try:
            own.conf.set(name, value)
        except Exception as bad:
            if "CANNOT_MODIFY" in str(bad):
                continue  # one of the whole application: it was given when that began, or is another's to say
            raise ConfigError(f"[offline.spark.conf] {name}: Spark does not take {value!r}: {short(bad)}") from bad
    for name, value in STATED.items():
        own.conf.set(name, value)


def _taken_over(given: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        rows = given.sql("SET").collect()
    except Exception:  # a server that lists none
        return found
    for row in rows:
        name, value = row[0], row[1]
        if name.startswith(_TAKEN) or not name.startswith(_NOT_TAKEN):
            found[name] = value
    return {name: value for name, value in found.items() if _modifiable(given, name)}


def _modifiable(given: Any, name: str) -> bool:
    try:
        return bool(given.conf.isModifiable(name)) or not name.startswith("spark.")
    except Exception:
        return False


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


@contextmanager
def _starting(what: str) -> Iterator[None]:
    try:
        yield
    except (ConfigError, ImportError):
        raise
    except Exception as bad:
        cure = "make sure that it is running, and that host and port are right"
        raise Unavailable(f"cannot use {what}: {short(bad)}; {cure}") from bad
