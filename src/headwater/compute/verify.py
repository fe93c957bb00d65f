"""Verify: what of a store is damaged, what is lost, and how to go on; nothing but notes of it is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from headwater.clock import from_micros
from headwater.compute.context import StoreContext
from headwater.errors import FormatError, HeadwaterError, StoreError, UsageError, brief
from headwater.html_tables import html_table
from headwater.offline.base import LeftOut
from headwater.offline.log.folder import GIVEN_UP
from headwater.offline.log.verify import LogCheck, LogDamage
from headwater.online.meta import log_id_key, read_watermarks, unpack_log_id
from headwater.online.rows.codec import long_key, without_key
from headwater.online.rows.decoded import DecodedRows
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.row_format import RowFormat
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import decode_row
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView

_CHUNK = 1_000
_NAMED = 20
"""How many damaged rows of a version are named; all are counted."""


@dataclass(frozen=True)
class Damage:
    """Something that cannot be read.

    Attributes:
        part: `offline log`, `online store` or `registry`.
        kind: `file`, `rows`, `batch`, `tombstone`, `folder`, `row`, `watermark`, `log id`, `store` or `database`.
        view: whose; empty where it is no view's alone.
        name: of the file; `view@version`; the key (bytes as hex).
        reason: what is wrong with it.
        rows: how many rows are lost with it; 0: none, or not known.
        first, last: the log positions of the first and last of them; 0: not rows of the log.
        arrived_from, arrived_to: they arrived between these instants (UTC); None: not known.
        go_on: what to do.
    """

    part: str
    kind: str
    view: str
    name: str
    reason: str
    rows: int = 0
    first: int = 0
    last: int = 0
    arrived_from: datetime | None = None
    arrived_to: datetime | None = None
    go_on: str = ""

    @property
    def what(self) -> str:
        """What is damaged, and why."""
        about = ", ".join(part for part in (self.view and f"view {self.view}", self.name) if part)
        return f"{self.part}, {self.kind}{f' ({about})' if about else ''}: {self.reason}"

    @property
    def lost(self) -> str:
        """Which rows of the log are lost with it; empty: none."""
        if not self.rows:
            return ""
        span = f"position {self.first}" if self.first == self.last else f"positions {self.first} to {self.last}"
        when = [_shown(at) for at in (self.arrived_from, self.arrived_to)]
        arrived = f", arrived between {when[0]} and {when[1]}" if self.arrived_from or self.arrived_to else ""
        return f"lost: {self.rows:,} row{'' if self.rows == 1 else 's'} ({span}{arrived})"

    def __str__(self) -> str:
        return "; ".join(part for part in (self.what, self.lost, self.go_on) if part)


@dataclass(frozen=True, repr=False)
class VerifyReport:
    """What a check of a store came to.

    Attributes:
        damaged: what cannot be read, and how to go on without it.
        left_out: rows of the offline log that histories and runs go on without already, in words.
        notes: what else somebody should know: files that are kept beside the log, or are still to be removed.
        log_files, log_bytes, log_rows: compacted files of the log that were checked, their bytes and rows.
        buffered_rows, tombstones: rows in the log's write buffer, and deletes, that were checked.
        online_rows: rows of the online store that were checked.
        sampled: whether some of the online rows were left out.
        forgotten: names of files that the log goes on without from now on.
    """

    damaged: tuple[Damage, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    log_files: int = 0
    log_bytes: int = 0
    log_rows: int = 0
    buffered_rows: int = 0
    tombstones: int = 0
    online_rows: int = 0
    sampled: bool = False
    forgotten: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged

    def __repr__(self) -> str:
        return f"<VerifyReport {self}>"

    def __str__(self) -> str:
        found = "; ".join(map(str, self.damaged)) or "whole"
        return f"{found} ({self.log_files:,} files, {self.online_rows:,} online rows)"

    def _repr_html_(self) -> str:
        head = ("part", "kind", "view", "name", "reason", "rows", "go_on")
        rows = ([str(getattr(damage, name)) for name in head] for damage in self.damaged)
        return html_table(head, rows, notes=(*self.left_out, *self.notes))


def verify(
    context: StoreContext, *, sample: int | None = None, forget: Sequence[str] = (), accept_folder: bool = False
) -> VerifyReport:
    """Check everything that the store keeps, in bounded memory.

    Args:
        context: the store's parts and settings.
        sample: so many rows of each version of the online store; None: all.
        forget: names of damaged or missing files that the offline log is to go on without.
        accept_folder: write the log folder's `log.json` again, which was lost or damaged.

    Raises:
        UsageError: a file to forget that is not the log's, or is whole; a `log.json` that is.
        LogMismatch: the folder to accept is not the log's.
        StoreError: the registry's database cannot be read.
    """
    if sample is not None and (not isinstance(sample, int) or sample < 1):
        raise UsageError(f"sample={brief(sample)}: a number of rows, at least 1")
    if accept_folder:
        context.log.accept_folder()
    if forget:
        context.claims.claim_log()
    forgotten = context.log.forget_files([forget] if isinstance(forget, str) else forget) if forget else ()
    damaged = list(_database(context))
    check = context.log.check()
    damaged += map(_of_log, check.damaged)
    online = _Online(context, sample)
    damaged += online.damaged()
    return VerifyReport(
        damaged=tuple(damaged),
        left_out=tuple(map(_left_out, check.left_out)),
        notes=tuple(_notes(check)),
        log_files=check.files,
        log_bytes=check.file_bytes,
        log_rows=check.file_rows,
        buffered_rows=check.buffered,
        tombstones=check.tombstones,
        online_rows=online.rows,
        sampled=online.sampled,
        forgotten=tuple(forgotten),
    )


def _of_log(damage: LogDamage) -> Damage:
    return Damage(
        "offline log",
        damage.kind,
        damage.view,
        damage.name,
        damage.reason,
        damage.rows,
        damage.first,
        damage.last,
        _instant(damage.arrived_from),
        _instant(damage.arrived_to),
        _LOG_WAYS[damage.kind].format(name=damage.name, view=damage.view),
    )


_LOG_WAYS = {
    "file": "restore it from a backup of the folder, or continue without it: headwater verify --forget {name}",
    "rows": "the next headwater materialize {view} continues without these rows",
    "batch": "the next headwater materialize {view} continues without it",
    "tombstone": "nothing to do: the key stays deleted",
    "folder": "point [offline] log at the folder that all hosts use; restore log.json from a backup of it, or "
    "recreate it: headwater verify --accept-folder",
}


def _left_out(found: LeftOut) -> str:
    since = f" (since {_shown(_instant(found.noted_at))})" if found.noted_at else ""
    return f"{found}{since}"


def _notes(check: LogCheck) -> Iterator[str]:
    for file in check.set_aside:
        why = (
            "given up" if file.prefix == GIVEN_UP else "written by a registry that was then restored from an older copy"
        )
        yield (
            f"{file.name}: kept beside the offline log, not part of it ({why}): rows of view {file.view}, "
            f"positions {file.first} to {file.last}; remove it if nobody needs it"
        )
    if check.to_remove:
        yield f"{len(check.to_remove):,} files of the offline log are still to be removed: the next materialize does it"
    if check.foreign:
        names = ", ".join(map(brief, check.foreign[:5])) + (", …" if len(check.foreign) > 5 else "")
        yield f"{len(check.foreign):,} files in the offline log's folder are not headwater's, and left alone: {names}"


def _database(context: StoreContext) -> Iterator[Damage]:
    problem = context.log.database_problem()
    if problem is not None:
        yield Damage("registry", "database", "", "", problem, go_on="restore it from its backup")


class _Online:
    """A check of the online store."""

    def __init__(self, context: StoreContext, sample: int | None) -> None:
        self._context = context
        self._sample = sample
        self.rows = 0
        self.sampled = False

    def damaged(self) -> list[Damage]:
        """What cannot be read in it; a store that cannot be reached is one item."""
        try:
            return [*self._meta(), *self._all_rows()]
        except StoreError as bad:
            return [Damage("online store", "store", "", "", str(bad), go_on="verify again once it can be reached")]

    def _meta(self) -> Iterator[Damage]:
        context = self._context
        data = context.online.multi_get([log_id_key(context.project)])[0]
        if data is not None:
            try:
                _, owner = unpack_log_id(data)
                if owner != context.log.log_id:
                    reason = f"it belongs to offline log {owner}, not to this registry's, {context.log.log_id}"
                    yield Damage("online store", "log id", "", "", reason, go_on=_ANOTHERS)
            except FormatError as bad:
                yield Damage("online store", "log id", "", "", str(bad), go_on=_EMPTY)
        for record in context.registry.snapshot().views.values():
            for version in record.versions:
                try:
                    read_watermarks(context.online, context.project, [(record.name, version)])
                except FormatError as bad:
                    name = f"{record.name}@{version}"
                    yield Damage("online store", "watermark", record.name, name, str(bad), go_on=_REFILL.format(name))

    def _all_rows(self) -> Iterator[Damage]:
        for record in self._context.registry.snapshot().views.values():
            for version in record.active:
                view = whole_view(record, version)
                rows = RowEncoder(self._context.project, view)
                if view.windows is not None:
                    yield from self._window_rows(rows, view)
                    continue
                form = RowFormat(view.layout, list(view.layout.by_name))
                name = f"{view.name}@{view.version}"
                yield from self._rows(rows, form, view.name, name)

    def _window_rows(self, rows: RowEncoder, view: ResolvedView) -> Iterator[Damage]:
        layout, name = view.windows, f"{view.name}@{view.version}"
        assert layout is not None

        def damaged(chunk: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, str]]:
            for key, row in chunk:
                try:
                    rows.decode_key(key, row)
                    decode_row(layout, row)
                except (HeadwaterError, Damaged, ValueError) as bad:
                    yield key, str(bad)

        yield from self._found(rows, damaged, view.name, name)

    def _rows(self, rows: RowEncoder, form: RowFormat, view: str, name: str) -> Iterator[Damage]:
        yield from self._found(rows, lambda chunk: _damaged_rows(rows, form, chunk), view, name)

    def _found(
        self,
        rows: RowEncoder,
        damaged_of: Callable[[Iterable[tuple[bytes, bytes]]], Iterable[tuple[bytes, str]]],
        view: str,
        name: str,
    ) -> Iterator[Damage]:
        scanned = self._context.online.scan(rows.prefix)
        left, damaged = self._sample, 0
        while chunk := list(islice(scanned, _CHUNK if left is None else min(left, _CHUNK))):
            self.rows += len(chunk)
            left = None if left is None else left - len(chunk)
            for key, reason in damaged_of(chunk):
                damaged += 1
                if damaged <= _NAMED:
                    shown = f"{name} key {key.hex()[:200]}"
                    yield Damage("online store", "row", view, shown, reason, go_on=_REFILL.format(name))
        if damaged > _NAMED:
            more = f"{damaged - _NAMED:,} more rows cannot be decoded"
            yield Damage("online store", "row", view, name, more, go_on=_REFILL.format(name))
        if left == 0 and next(scanned, None) is not None:
            self.sampled = True


_REFILL = "correct it from history: headwater materialize {} --force"
_ANOTHERS = (
    "two projects: headwater rename-project; this one takes it over: headwater claim-store; headwater status says more"
)
_EMPTY = "empty the online store and run headwater materialize"


def _damaged_rows(
    rows: RowEncoder, form: RowFormat, chunk: Iterable[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, str]]:
    keys: list[bytes] = []
    values: list[bytes | None] = []
    for key, row in chunk:
        try:
            rows.decode_key(key, row)
            values.append(row if long_key(row) is None else without_key(row))
        except (HeadwaterError, IndexError, ValueError) as bad:
            yield key, str(bad)
            continue
        keys.append(key)
    decoded = DecodedRows(form, values)
    # values of times and texts are looked at as they are read
    decoded.columns()
    for place, reason in sorted(decoded.damaged.items()):
        yield keys[place], reason


def _instant(micros: int | None) -> datetime | None:
    try:
        return None if micros is None else from_micros(micros)
    except HeadwaterError:
        return None


def _shown(when: datetime | Any) -> str:
    return "?" if when is None else when.isoformat(sep=" ", timespec="seconds")
