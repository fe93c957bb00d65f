"""The source of a window version as a run lists it: which files count, and from when on their rows are new."""

from __future__ import annotations

from headwater.clock import MIN_MICROS, duration_micros, system_clock, to_micros
from headwater.compute.context import StoreContext
from headwater.definitions.sources import PushSource, SQLSource
from headwater.definitions.transforms import TransformSource
from headwater.offline.base import SourceScope
from headwater.online.rows.windows.record import FillRecord, SourceThrough
from headwater.planning.files import FileChanges, FileIdentity, compare_files, moved_files
from headwater.planning.resolved import ResolvedView


class SourceListing:
    """One run's listing of the source.

    Args:
        context: the store's parts and settings.
        view: the version.
        token: of the online store's epoch.

    Attributes:
        has_source: whether there is a source beside the log.
        through: what the run lists, once it has looked.
    """

    def __init__(self, context: StoreContext, view: ResolvedView, token: bytes, end: int | None = None) -> None:
        self._context = context
        self._view = view
        self._token = token
        self._end = end
        self.source = context.sources.source_of(view.definition)
        self.has_source = not isinstance(self.source, PushSource)
        self.through = SourceThrough()
        self._listed: tuple[FileIdentity, ...] | None = None
        self._changes: FileChanges | None = None

    def look(self, clock: int, since: SourceThrough) -> SourceThrough:
        """List the source: rows of it count that are known up to an instant (microseconds), or the user's own end."""
        known = clock if self._end is None else min(self._end, clock)
        number = 0
        if self.has_source:
            listed_at = to_micros(system_clock())
            self._listed = self._context.engine.list_files(self.source)
            if self._listed is not None:
                number = self._record(self._listed, since, listed_at)
        self.through = SourceThrough(number, known)
        return self.through

    def _record(self, listed: tuple[FileIdentity, ...], since: SourceThrough, listed_at: int) -> int:
        """Note the files under a number of the run's own, which counts once a fill record has it."""
        name, version = self._view.name, self._view.version
        recorded = None
        if since.listed:
            recorded = self._context.files.read(name, version, self._token, since.listed)
        self._changes = compare_files(recorded, listed, listed_at)
        changed = [*self._changes.new, *self._changes.changed]
        paths = [file.path for file in listed]
        return self._context.files.record(name, version, self._token, since.listed, changed, paths)

    def scope(self, since: SourceThrough) -> SourceScope | None:
        """Which rows are new beside an earlier listing; None: there is no source."""
        if not self.has_source:
            return None
        if since.known_at == MIN_MICROS:
            return SourceScope()
        if self._changes is None:
            return SourceScope(since.known_at - duration_micros(self._context.settings.lookback))
        # a query's rows may be others without a file that is gone
        more = self._changes.missing if isinstance(self._view.view.source, (SQLSource, TransformSource)) else ()
        return SourceScope(since.known_at, self._changes.whole | frozenset(more))

    def closed(self, record: FillRecord) -> FillRecord:
        """A record with the listing; where files changed while they were read, with one that has them not."""
        if self._listed is None or record.source_through.listed != self.through.listed:
            return record
        moved, gone = moved_files(self._listed, self._context.engine.list_files(self.source) or ())
        changed = frozenset(moved) | frozenset(gone)
        if not changed:
            return record
        name, version = self._view.name, self._view.version
        paths = [file.path for file in self._listed if file.path not in changed]
        number = self._context.files.record(name, version, self._token, self.through.listed, (), paths)
        return record._replace(source_through=SourceThrough(number, record.source_through.known_at))

    @property
    def missing(self) -> tuple[str, ...]:
        """Files that an earlier run listed, and that are gone."""
        return () if self._changes is None else self._changes.missing

    @property
    def rewritten(self) -> tuple[str, ...]:
        """Files that have fewer rows than an earlier run listed."""
        return () if self._changes is None else self._changes.rewritten
