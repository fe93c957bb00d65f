"""The manifest of a training set: what its rows are and what they were made of, as JSON that is read for ever."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from headwater.deferred import deferred_pattern
from headwater.errors import FormatError, brief, listing
from headwater.planning.selections import PinnedSelection
from headwater.values import Value

FORMAT = 1
FILE = "manifest.json"
_ROWS_FILE: re.Pattern[str] = deferred_pattern(r"rows-[1-9][0-9]*\.parquet")


class SavedFile(Value, frozen=True):
    """A file of a source as it was when the training set was saved.

    Attributes:
        path: as the source names it: relative to the project's folder where the source's own path is, or a URL.
        size: bytes.
        modified_ns: modification time, nanoseconds since 1970 (UTC).
        etag: the object store's own mark of the content; None where it gives none.
        rows: how many rows it has; None where its footer does not tell.
        digest: BLAKE2b (128 bits, hexadecimal) of its content; of a Parquet file of its footer; None: it is remote.
    """

    path: str
    size: int
    modified_ns: int
    etag: str | None = None
    rows: int | None = None
    digest: str | None = None


class SavedSource(Value, frozen=True):
    """The source of a view as it was when the training set was saved.

    Attributes:
        kind: `parquet`, `csv`, `sql` and so on.
        location: where it was, without credentials; empty where it has no location.
        files: its files; None: it is not one of files.
        digest: of a table in memory: of its values; None of others.
        rows: of a table in memory: how many rows it had; None of others.
    """

    kind: str
    location: str = ""
    files: tuple[SavedFile, ...] | None = None
    digest: str | None = None
    rows: int | None = None


class SavedView(Value, frozen=True):
    """A view that was joined.

    Attributes:
        label: its alias, else its name.
        name, version: the view and its version.
        fingerprint: of the version's definition.
        keys: join key → the column of the rows that has it.
        source: its source; None: it has only rows of the offline log.
        log_rows: rows of the offline log that were there for it, up to the manifest's position.
        deletes: deletes and purges of its keys up to that position.
        counts: how the join went: `matched`, `no_row`, `expired`, `not_known` and so on.
        reads: the views whose rows its query reads, without keys or counts.
    """

    label: str
    name: str
    version: str
    fingerprint: str
    keys: Mapping[str, str]
    source: SavedSource | None = None
    log_rows: int = 0
    deletes: int = 0
    counts: Mapping[str, int] = msgspec.field(default_factory=dict)
    reads: tuple[SavedView, ...] = ()


class SavedFunction(Value, frozen=True):
    """An on-demand view that was computed.

    Attributes:
        label: its name (`name@version` where two versions were asked for at once).
        name, version: the view and its version.
        fingerprint: of the version: its function's source text and all that it reads.
    """

    label: str
    name: str
    version: str
    fingerprint: str


class SavedColumn(Value, frozen=True):
    """A column of the rows.

    Attributes:
        name: the column's.
        role: `key`, `timestamp`, `label`, `spine` (any other column of the spine), `feature`, `status`, `event_time`.
        type: its Arrow type.
        dtype: of a feature its declared dtype.
        reference: of a feature `view@version:feature`, of an event time the view.
        fingerprint: of a feature: of what makes its values.
        computed: whether it is a floating-point result that another machine may round in another way.
        nulls: how many values are NULL; `null_rate` is their share.
        statistics: `min`, `max` of ordered types, `mean` and `stddev` (of the population) of numbers without NaN, `nan`
            where there are any.
    """

    name: str
    role: str
    type: str
    dtype: str | None = None
    reference: str | None = None
    fingerprint: str | None = None
    computed: bool = False
    nulls: int = 0
    null_rate: float = 0.0
    statistics: Mapping[str, Any] = msgspec.field(default_factory=dict)


class SavedRows(Value, frozen=True):
    """The file of the rows.

    Attributes:
        file: its name in the folder.
        rows: how many it has.
        bytes: its size.
        sha256: of its bytes, as `sha256sum` says it.
        erased: how many rows were taken out since, for keys were purged.
    """

    file: str
    rows: int
    bytes: int
    sha256: str
    erased: int = 0


class SavedSpine(Value, frozen=True):
    """The training rows that features were joined to: the first columns of the file of the rows are theirs.

    Attributes:
        columns: their names.
        sha256: of their values (`values_digest.ValuesDigest`); None once rows were erased.
        timestamp: the column of their instants; None: `at` is the instant of all.
        given: whether somebody gave them; False: they are the entities that were known at `at`.
    """

    columns: tuple[str, ...]
    sha256: str | None
    timestamp: str | None
    given: bool = True


class SavedLog(Value, frozen=True):
    """The offline log.

    Attributes:
        id: which log it is.
        position: rows and deletes up to this position were there.
    """

    id: str
    position: int


class Manifest(Value, frozen=True, kw_only=True):
    """What a training set is.

    Attributes:
        format: of the manifest.
        name, version: the set's.
        id: random; no other set has it.
        project: the project's name.
        saved_at: when it was saved (UTC).
        at: the one instant of all rows (UTC), where one was given.
        as_known: whether only what was known at a row's instant counted.
        timezone: of naive times of the spine; None: UTC.
        include: what was asked for beside the features.
        service: `name@version` of the service that was asked for; None: a list of features.
        revision: of the registry.
        selections: the features, pinned to versions of views, in the order of the columns.
        rows: the file of the rows.
        spine: the training rows.
        labels: columns of the spine that a model predicts.
        columns: all columns, in order.
        views: the views that were joined, those that functions alone read included.
        functions: the on-demand views that were computed.
        log: the offline log.
        engine: name of the offline engine.
        libraries: package → version, `python` and `headwater` among them.
        warnings: what the join warned of.
    """

    format: int = FORMAT
    name: str
    version: int
    id: str
    project: str
    saved_at: datetime
    revision: int
    selections: tuple[PinnedSelection, ...]
    rows: SavedRows
    spine: SavedSpine
    columns: tuple[SavedColumn, ...]
    views: tuple[SavedView, ...]
    functions: tuple[SavedFunction, ...] = ()
    log: SavedLog
    engine: str
    libraries: Mapping[str, str]
    labels: tuple[str, ...] = ()
    at: datetime | None = None
    as_known: bool = True
    timezone: str | None = None
    include: tuple[str, ...] = ()
    service: str | None = None
    warnings: tuple[str, ...] = ()

    def named(self, *roles: str) -> list[str]:
        """The columns of some roles, in order."""
        return [column.name for column in self.columns if column.role in roles]


class _Head(Value, frozen=True):
    format: int


def encode(manifest: Manifest) -> bytes:
    """A manifest as it is stored."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(content: bytes, where: str) -> Manifest:
    """A stored manifest.

    Args:
        content: the bytes of its file.
        where: the file, for errors.

    Raises:
        FormatError: it is damaged, or a newer headwater wrote it.
    """
    try:
        written = msgspec.json.decode(content, type=_Head).format
        if written > FORMAT:
            raise FormatError(f"{where}: has format {written}, this headwater reads up to {FORMAT}: upgrade headwater")
        made = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as bad:
        raise _damaged(where, bad) from bad
    for problem in _problems(made):
        raise _damaged(where, problem)
    return made


def _damaged(where: str, why: object) -> FormatError:
    return FormatError(f"{where} is damaged: {why}; restore the training set from a copy, or save it again")


def _problems(made: Manifest) -> Iterator[str]:
    """What in a manifest contradicts the rest of it, or leads out of its folder: it was changed by hand."""
    if not _ROWS_FILE.fullmatch(made.rows.file):
        yield f"rows.file {brief(made.rows.file)} is not a name such as 'rows-1.parquet'"
    for name, number in (("rows.rows", made.rows.rows), ("rows.erased", made.rows.erased)):
        if number < 0:
            yield f"{name} is {number}"
    if not 0 <= made.log.position < 2**63:
        yield f"log.position is {made.log.position}"
    features = made.named("feature")
    if len(features) != len(made.selections):
        yield f"it has {len(features)} columns of features for {len(made.selections)} selections"
    columns = {column.name for column in made.columns}
    given = [*made.labels, *made.spine.columns, *(name for view in made.views for name in view.keys.values())]
    lacking = [name for name in dict.fromkeys(given) if name not in columns]
    if lacking:
        yield f"it has no column {listing(map(repr, lacking))}"
