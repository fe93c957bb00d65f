"""Which files of its source a run reads whole: those that are new or changed since the version's last run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headwater.clock import MIN_MICROS, system_clock, to_micros
from headwater.compute.context import StoreContext
from headwater.compute.upstream import bound_source, has_new_rows
from headwater.definitions.sources import PushSource, SQLSource
from headwater.definitions.transforms import TransformSource
from headwater.offline.base import ChangeCounts, ChangesRequest
from headwater.planning.files import (
    FileChanges,
    FileIdentity,
    compare_files,
    counted,
    lost_rows_warning,
    moved_files,
    moving_files_warning,
)
from headwater.planning.resolved import ResolvedView
from headwater.planning.watermark import Watermark

READ_AGAIN = 2
"""How often a file that changes while it is read is read again."""


@dataclass
class RunFiles:
    """The files of one run's source.

    Attributes:
        context: the store's parts and settings.
        view: the version.
        token: of the online store's epoch.
        listed: the source's files, as they were before they were read; None: it is not a source of files.
        listed_at: when they were (microseconds).
        recorded: what the last run recorded, by path; None: nothing that was recorded counts, so that all is read.
        known: the number under which that is.
        by_time: whether the user's own `start` decides about every row, whatever its file.
        moving: paths of files that changed whenever they were read.
        removed: whether the run removed what the source lacks.
        upstream_moved: whether rows were written to a view that the source's query reads: any of its rows may be new.
    """

    context: StoreContext
    view: ResolvedView
    token: bytes
    listed: tuple[FileIdentity, ...] | None
    listed_at: int
    recorded: Mapping[str, FileIdentity] | None
    known: int = 0
    by_time: bool = False
    moving: frozenset[str] = frozenset()
    removed: bool = False
    upstream_moved: bool = False
    _reads: int = 0
    _again: dict[str, FileIdentity] = field(default_factory=dict)
    _rows: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, context: StoreContext, view: ResolvedView, since: Watermark, token: bytes, *, by_time: bool = False
    ) -> RunFiles:
        """List the files.

        Args:
            context: the store's parts and settings.
            view: the version.
            since: the watermark that the run goes on from.
            token: of the online store's epoch.
            by_time: whether the user's own `start` decides about every row.
        """
        # modification times are by the clock of the operating system
        listed_at = to_micros(system_clock())
        listed = _listed(context, view)
        recorded = None
        if listed is not None and since.token == token and since.files:
            recorded = context.files.read(view.name, view.version, token, since.files)
        known = 0 if recorded is None else since.files
        moved = not by_time and has_new_rows(context, view.definition, since.position)
        return cls(context, view, token, listed, listed_at, recorded, known, by_time, upstream_moved=moved)

    @property
    def changes(self) -> FileChanges:
        """The files beside what the last run recorded."""
        return compare_files(self.recorded, counted(self.listed or (), self._rows), self.listed_at)

    def request(self, request: ChangesRequest) -> ChangesRequest:
        """A run's request with the files that are read whole."""
        if self.upstream_moved:
            # what was written may have been known long before
            return replace(request, source_after=MIN_MICROS, whole_files=None)
        if self.listed is None or self.by_time:
            return request
        changes = self.changes
        # a query's rows may be others without a file that is gone
        more = changes.missing if isinstance(self.view.view.source, (SQLSource, TransformSource)) else ()
        return replace(request, whole_files=changes.whole | frozenset(more))

    def add(self, counts: ChangeCounts) -> None:
        """Note how many rows the files had that were read."""
        self._rows |= counts.file_rows

    def again(self, request: ChangesRequest) -> ChangesRequest | None:
        """After a read: the request for the files that changed meanwhile; None where there are none.

        Those that change again and again are given up (`moving`).
        """
        if self.listed is None:
            return None
        now = _listed(self.context, self.view) or ()
        read = [self._again.get(file.path, file) for file in self.listed]
        moved, _ = moved_files(read, now)
        if not moved:
            return None
        self._reads += 1
        if self._reads > READ_AGAIN:
            self.moving = moved
            return None
        self._again |= {file.path: file for file in now if file.path in moved}
        if self.view.view.source.valid_to is not None:
            # a row may end otherwise by any other row of its key
            return request
        if self.by_time:
            return replace(request, only_files=moved)
        # the log's rows are put already
        return replace(request, whole_files=moved, only_files=moved, since=Watermark(request.end, request.log_until))

    def retry(self, request: ChangesRequest) -> ChangesRequest | None:
        """After a read that failed: the request over the files as they are by now; None where they are as they were."""
        if self.listed is None:
            return None
        listed_at = to_micros(system_clock())
        now = _listed(self.context, self.view) or ()
        moved, gone = moved_files([self._again.get(file.path, file) for file in self.listed], now)
        self._reads += 1
        if self._reads > READ_AGAIN or not (moved or gone):
            return None
        self.listed, self.listed_at, self._again = now, listed_at, {}
        return self.request(request)

    def record(self, number: int) -> int:
        """Note what was read, before the watermark is written; the number that the watermark carries.

        Args:
            number: the greatest that a watermark of the version has had.
        """
        if self.listed is None:
            return 0
        changes = self.changes
        changed = [*changes.new, *changes.changed]
        # what was read again was modified a moment ago: another run looks at it once more
        changed = [replace(self._again[f.path], settled=False) if f.path in self._again else f for f in changed]
        known = {file.path for file in changed}
        changed += [replace(file, settled=False) for path, file in self._again.items() if path not in known]
        changed = [file for file in changed if file.path not in self.moving]
        paths = [file.path for file in self.listed if file.path not in self.moving]
        return self.context.files.record(
            *(self.view.name, self.view.version, self.token, number),
            counted(changed, self._rows),
            paths,
            known=self.known,
        )

    def forced(self) -> None:
        """After `force`: rows of files that are gone were removed, and the next ones are warned of again."""
        if self.listed is not None:
            present = [file.path for file in self.listed]
            self.context.files.remove_missing(self.view.name, self.view.version, present)
            self.context.files.warn_again(self.view.name, self.view.version)
        self.removed = True

    @property
    def rewritten(self) -> tuple[str, ...]:
        """Files that have fewer rows than the last run read."""
        return self.changes.rewritten

    @property
    def missing(self) -> tuple[str, ...]:
        """Files that the last run read, and that are gone."""
        return self.changes.missing

    def warnings(self) -> tuple[str, ...]:
        """What the run says of its files; of lost rows once a version."""
        name, version = self.view.name, self.view.version
        lost = lost_rows_warning(name, version, self.missing, self.rewritten)
        quiet = self.removed or self.context.settings.keep_gone_files
        if lost is not None and (quiet or not self.context.files.warn_once(name, version)):
            lost = None
        texts = (lost, moving_files_warning(name, version, sorted(self.moving)))
        return tuple(text for text in texts if text is not None)


def _listed(context: StoreContext, view: ResolvedView) -> tuple[FileIdentity, ...] | None:
    source = bound_source(context, view.definition, data=False)
    return None if isinstance(source, PushSource) else context.engine.list_files(source)
