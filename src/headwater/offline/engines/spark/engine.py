"""The engine on Spark: a session of its own, a scratch folder, and the embedded engine for what is not Spark's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headwater.definitions.source import Source
from headwater.definitions.sources import ParquetSource
from headwater.observer import Observer, silent
from headwater.offline.base import refuse_unknown
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.engines.spark.backend import SparkBackend
from headwater.offline.engines.spark.connection import SparkConnection
from headwater.offline.engines.spark.sessions import OwnSession
from headwater.offline.join.relations import EngineTable
from headwater.offline.remote import RemoteEngine
from headwater.offline.sink import Executors
from headwater.planning.files import FileIdentity

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
        embedded = DuckDBEngine(folder, memory_limit, threads, observer=observer)
        super().__init__(embedded)
        self.connection = SparkConnection(
            embedded, session=session, master=master, remote=remote, scratch=scratch, conf=conf or {}
        )

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

    @property
    def executors(self) -> Executors:
        return Executors.LOCAL if self.session().local else Executors.REMOTE

    def connect(self) -> SparkBackend:
        """Begin a run.

        Returns:
            Its tables.
        """
        return SparkBackend(self.connection)

    def session(self) -> OwnSession:
        """The session of this engine, begun when first asked for.

        Returns:
            A session of its own.

        Raises:
            Unavailable: Spark cannot be reached, or the engine was closed.
        """
        return self.connection.session()

    def writes_to(self, location: str) -> bool:
        """Whether the executors write the files of a result to a location.

        Args:
            location: a path or a URL.

        Returns:
            True of a URL; of a path without wildcards and escapes where all of Spark is on this machine, or the path
            is in the folder `scratch`, which all of it reaches.
        """
        return self.connection.writes_to(location)

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
        files = self.connection.readable_files(source)
        return () if files is None else files.files

    def close(self) -> None:
        self.connection.close()
        super().close()


SparkOfflineEngine = SparkEngine
