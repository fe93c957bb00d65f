"""What the runs of an engine on Spark share: the session, the scratch folder, temporary views, files looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from headwater import forks
from headwater.definitions.sources import ParquetSource
from headwater.errors import ConfigError, Unavailable
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.engines.spark.files import ReadableFiles, readable_files
from headwater.offline.engines.spark.kept_views import KeptViews
from headwater.offline.engines.spark.scratch import PATTERNS, SHARED, Scratch
from headwater.offline.engines.spark.sessions import OwnSession, at_server, beside, of_master, of_surroundings
from headwater.offline.result_folder import is_url, local_target
from headwater.planning.files import FileIdentity

_MOST_SCHEMAS = 20_000
"""Files whose columns are remembered: twice as many as are read in place of one source."""
_CLOSED = "the offline engine was closed; open the store again"


class SparkConnection:
    """A session of headwater's own, begun when first asked for, and what goes with it.

    Args:
        embedded: opens what is not Spark's.
        session: a session beside which the own one is; None: see the others.
        master: the master of a Spark in this process.
        remote: the address of a Spark Connect server.
        scratch: the folder or URL through which rows go to Spark and back; None: a temporary folder.
        conf: settings of Spark.

    Raises:
        ConfigError: several of session, master and remote; a setting that is not text.
    """

    def __init__(
        self,
        embedded: DuckDBEngine,
        *,
        session: Any,
        master: str | None,
        remote: str | None,
        scratch: str | None,
        conf: Mapping[str, Any],
    ) -> None:
        self.embedded = embedded
        if sum(given is not None for given in (session, master, remote)) > 1:
            raise ConfigError(
                "the Spark engine takes one of: a session (SparkOfflineEngine(session=…)), "
                '[offline.spark] remote = "sc://host:15002" or [offline.spark] master = "local[*]"; '
                "without any it uses the process's own Spark, else a local one"
            )
        self._given, self._master, self._remote = session, master, remote
        self._location, self._conf = scratch, _texts(conf)
        self._lock = forks.lock()
        self._session: OwnSession | None = None
        self._scratch: Scratch | None = None
        self._views = KeptViews(self._drop)
        self._schemas: dict[FileIdentity, pa.Schema] = {}
        self._closed = False
        forks.after_fork(self, SparkConnection._in_child)

    def _in_child(self) -> None:
        # the session's connection is the parent's
        forks.abandon(self._session, self._scratch)
        self._session, self._scratch, self._views = None, None, KeptViews(self._drop)

    def session(self) -> OwnSession:
        """The session of these runs, begun when first asked for.

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
        found = readable_files(source, self.embedded.list_files(source) or (), self.embedded.folder, self._schemas)
        with self._lock:
            for file in list(self._schemas)[: max(0, len(self._schemas) - _MOST_SCHEMAS)]:
                del self._schemas[file]
        return found

    @property
    def views(self) -> KeptViews:
        """The temporary views of queries and files."""
        return self._views

    def _drop(self, view: str) -> None:
        session = self._session
        if session is not None:
            session.spark.catalog.dropTempView(view)

    @property
    def reads_scratch(self) -> bool:
        """Whether the embedded engine reads the scratch folder: it then puts answers in order."""
        return self.scratch().is_local

    def close(self) -> None:
        """End the session, and remove what it made."""
        with self._lock:
            self._closed = True
        if self._session is not None:
            # a server that is gone may take a while to fail: nobody who asks for a session waits for it
            self._views.drop_all()
        with self._lock:
            session, scratch, self._session, self._scratch = self._session, self._scratch, None, None
        if session is not None:
            session.close()
        if scratch is not None:
            scratch.close()


def _texts(conf: Mapping[str, Any]) -> dict[str, str]:
    if not isinstance(conf, Mapping):
        raise ConfigError(
            '[offline.spark.conf] is a table of Spark\'s settings, such as "spark.executor.memory" = "4g"'
        )
    return {str(name): str(value).lower() if isinstance(value, bool) else str(value) for name, value in conf.items()}
