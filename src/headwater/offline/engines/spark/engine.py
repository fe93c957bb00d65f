"""The engine on Spark: a session of its own, a scratch folder, and the embedded engine for what is not Spark's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater import forks
from headwater.definitions.source import Source
from headwater.definitions.sources import ParquetSource
from headwater.errors import ConfigError, Unavailable
from headwater.observer import Observer, silent
from headwater.offline.base import refuse_unknown
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.engines.spark.backend import SparkBackend
from headwater.offline.engines.spark.files import ReadableFiles, readable_files
from headwater.offline.engines.spark.scratch import PATTERNS, SHARED, Scratch
from headwater.offline.engines.spark.sessions import OwnSession, at_server, beside, of_master, of_surroundings
from headwater.offline.join.relations import EngineTable
from headwater.offline.remote import RemoteEngine
from headwater.offline.result_folder import is_url, local_target
from headwater.offline.sink import Executors
from headwater.planning.files import FileIdentity

_CLOSED = "the offline engine was closed; open the store again"
SETTINGS = ("master", "remote", "scratch", "conf", "memory_limit", "threads")


class SparkEngine(RemoteEngine):
    """The query in Spark; tables in memory, the log and files that Spark would read otherwise are opened by DuckDB.

    Args:
        folder: the project's folder; None: the working directory.
        session: a `pyspark.sql.SparkSession`, of Spark Connect or not; it is never changed. None: see the others.
        master: the master of a Spark to be started in this process (`"local[4]"`, `"yarn"`).
        remote: the address of a Spark Connect server (`"sc://host:15002"`). Without a session, a master and this:
            the server of `SPARK_REMOTE`, the process's active session, what spark-submit says, else a local Spark.
        scratch: the folder or URL through which rows go to Spark and back; the driver, the executors and this process
            read and write it. None: a temporary folder, where all of Spark is on this machine.
        conf: settings of Spark.
        memory_limit: of DuckDB, as `[offline] memory_limit`; None: its own.
        threads: of DuckDB; None: every core.
        observer: told how far long statements are.

    Raises:
        ConfigError: several of session, master and remote; a setting that is not text.
    """

    windows = True

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        session: Any = None,
        master: str | None = None,
        remote: str | None = None,
        scratch: str | None = None,
        conf: Mapping[str, Any] | None = None,
        memory_limit: str | None = None,
        threads: int | None = None,
        observer: Observer = silent,
    ) -> None:
        super().__init__(DuckDBEngine(folder, memory_limit, threads, observer=observer))
        if sum(given is not None for given in (session, master, remote)) > 1:
            raise ConfigError(
                "the Spark engine takes one of: a session (SparkOfflineEngine(session=…)), "
                '[offline.spark] remote = "sc://host:15002" or [offline.spark] master = "local[*]"; '
                "without any it uses the process's own Spark, else a local one"
            )
        self._given, self._master, self._remote = session, master, remote
        self._location, self._conf = scratch, _texts(conf or {})
        self._lock = forks.lock()
        self._session: OwnSession | None = None
        self._scratch: Scratch | None = None
        self._made: set[str] = set()
        self._schemas: dict[FileIdentity, pa.Schema] = {}
        self._closed = False
        forks.after_fork(self, SparkEngine._in_child)

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any], observer: Observer) -> SparkEngine:
        """The engine of a project.

        Args:
            folder: the project's folder.
            settings: of `[offline.spark]`, and `memory_limit` and `threads`.
            observer: told how far long statements are.

        Returns:
            The engine; Spark is asked for with the first run.

        Raises:
            ConfigError: a setting that the engine does not have.
        """
        refuse_unknown(settings, SETTINGS, "spark")
        return cls(folder, **settings, observer=observer)

    def _in_child(self) -> None:
        # the session's connection is the parent's
        forks.abandon(self._session, self._scratch)
        self._session, self._scratch, self._made = None, None, set()

    @property
    def executors(self) -> Executors:
        return Executors.LOCAL if self.session().local else Executors.REMOTE

    def connect(self) -> SparkBackend:
        """Begin a run.

        Returns:
            Its tables.
        """
        return SparkBackend(self)

    def session(self) -> OwnSession:
        """The session of this engine, begun when first asked for.

        Returns:
            A session of its own.

        Raises:
            Unavailable: Spark cannot be reached, or the engine was closed.
        """
        with self._lock:
            if self._closed:
                raise Unavailable(_CLOSED)
            if self._session is None:
                if self._given is not None:
                    self._session = beside(self._given, self._conf)
                elif self._remote is not None:
                    self._session = at_server(self._remote, self._conf)
                elif self._master is not None:
                    self._session = of_master(self._master, self._conf)
                else:
                    self._session = of_surroundings(self._conf)
            return self._session

    def scratch(self) -> Scratch:
        """The scratch folder, made when first asked for.

        Returns:
            The folder.

        Raises:
            ConfigError: Spark is not on this machine, and none is named.
        """
        session = self.session()
        with self._lock:
            if self._scratch is None:
                if self._location is None and not session.local:
                    raise ConfigError(f"[offline.spark] scratch is missing: Spark is not on this machine; {SHARED}")
                self._scratch = Scratch(self._location, self.embedded.temp_folder)
            return self._scratch

    def writes_to(self, location: str) -> bool:
        """Whether the executors write the files of a result to a location.

        Args:
            location: a path or a URL.

        Returns:
            True of a URL; of a path without wildcards and escapes where all of Spark is on this machine, or the path
            is in the folder `scratch`, which all of it reaches.
        """
        if is_url(location):
            return True
        path = local_target(location)
        if set(str(path)) & PATTERNS:
            return False
        if self.session().local:
            return True
        if self._location is None or is_url(self._location):
            return False
        return path.is_relative_to(local_target(self._location))

    # of Parquet files it is the embedded engine that lists and checks them, wherever a run then reads them

    def _held(self, source: Source) -> EngineTable | None:
        return None if isinstance(source, ParquetSource) else super()._held(source)

    def files_in_place(self, source: Source) -> Sequence[FileIdentity]:
        """What identifies the files of a source that statements read where they are.

        Args:
            source: any source.

        Returns:
            The files; none of a source that is not read so.
        """
        if not isinstance(source, ParquetSource):
            return ()
        files = self.readable_files(source)
        return () if files is None else files.files

    def readable_files(self, source: ParquetSource) -> ReadableFiles | None:
        """The files of a source that a run reads where they are.

        Args:
            source: the source.

        Returns:
            The files; None where the embedded engine reads them.

        Raises:
            SourceError: there are none.
        """
        session = self.session()
        if not (session.local and session.orders_structs):
            return None
        return readable_files(source, self.embedded.list_files(source) or (), self.embedded.folder, self._schemas)

    def made(self, view: str) -> None:
        """Note a temporary view, to be dropped with the engine.

        Args:
            view: its name.
        """
        self._made.add(view)

    @property
    def reads_scratch(self) -> bool:
        """Whether the embedded engine reads the scratch folder: it then puts answers in order."""
        return self.scratch().is_local

    def close(self) -> None:
        with self._lock:
            self._closed = True
            session, scratch, self._session, self._scratch = self._session, self._scratch, None, None
        if session is not None:
            with suppress(Exception):  # of a server that is gone they are gone too
                for view in self._made:
                    session.spark.catalog.dropTempView(view)
            session.close()
        if scratch is not None:
            scratch.close()
        super().close()


SparkOfflineEngine = SparkEngine


def _texts(conf: Mapping[str, Any]) -> dict[str, str]:
    if not isinstance(conf, Mapping):
        raise ConfigError(
            '[offline.spark.conf] is a table of Spark\'s settings, such as "spark.executor.memory" = "4g"'
        )
    return {str(name): str(value).lower() if isinstance(value, bool) else str(value) for name, value in conf.items()}
