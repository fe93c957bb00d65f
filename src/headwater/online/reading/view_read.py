"""What a reader knows of a view beforehand, and what one read found of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from headwater.freshness import Freshness
from headwater.online.rows.keys import KeySpace
from headwater.online.rows.row_format import RowFormat
from headwater.types import DType
from headwater.values import Value

if TYPE_CHECKING:
    from headwater.online.reading.answered_rows import AnsweredRows
    from headwater.online.rows.decoded import DecodedRows
    from headwater.online.rows.windows.decoded import DecodedWindowRows
    from headwater.online.rows.windows.form import WindowForm


class ViewAnswered(Value, frozen=True):
    """What a result knows of one view.

    Attributes:
        name: the view's.
        label: its name in the request, or its alias.
        version: its version.
        key_columns: the request's columns that find its rows.
        timed: whether its rows have event times.
        slas: of each feature asked for, microseconds, None for none.
        sla: the strictest of them.
        defaults: of each feature asked for, None for none.
    """

    name: str
    label: str
    version: str
    key_columns: tuple[str, ...]
    timed: bool
    slas: tuple[int | None, ...]
    sla: int | None
    defaults: tuple[Any, ...]


class ViewReadPlan(ViewAnswered, frozen=True):
    """What a prepared reader knows of one view beside that.

    Attributes:
        space: its keys.
        twin: the first view of the request whose keys differ from its own by their prefix alone; None where it is that.
        form: of its rows; its slots are the features asked for. Of a window view None.
        ttl: microseconds, None for no limit.
        windows: the form of its rows where it is a window view.
        record_key: where its fill record is, where it is one.
    """

    space: KeySpace
    twin: int | None
    form: RowFormat | None
    ttl: int | None
    windows: WindowForm | None = None
    record_key: bytes = b""


class ReadColumn(Value, frozen=True):
    """One output column: which view it is from, and which of the features asked for there."""

    name: str
    view: int
    feature: int
    dtype: DType


class MatrixColumns(Value, frozen=True, eq=False):
    """Feature columns as a matrix takes them.

    Attributes:
        count: how many the matrix has; an embedding spans as many as it has numbers.
        odd: the first that is neither a number nor an embedding; None where all are.
        parts: for each view that has numbers: its place, its features, and their places in the matrix.
        embeddings: each embedding, and where its columns begin.
        dtype: the one that holds all of them without loss, integers beyond 2**53 aside: float32 where every one is
            Float32, Bool or an embedding, else float64.
        wide: the integers of 64 bits, and their places in the matrix.
    """

    count: int
    odd: ReadColumn | None
    parts: Sequence[tuple[int, tuple[int, ...], list[int]]]
    embeddings: Sequence[tuple[ReadColumn, int]]
    dtype: str
    wide: Sequence[tuple[ReadColumn, int]]

    @classmethod
    def of(cls, columns: Sequence[ReadColumn]) -> MatrixColumns:
        """The columns, in order."""
        by_view: dict[int, list[tuple[int, int]]] = {}
        embeddings, odd, place = [], None, 0
        for column in columns:
            if column.dtype.name == "embedding":
                embeddings.append((column, place))
                place += column.dtype.dim or 0
                continue
            if not column.dtype.numeric:
                odd = odd or column
            by_view.setdefault(column.view, []).append((column.feature, place))
            place += 1
        parts = [(view, tuple(f for f, _ in some), [p for _, p in some]) for view, some in by_view.items()]
        narrow = all(column.dtype.name in ("float32", "bool", "embedding") for column in columns)
        places = {(view, f): p for view, some in by_view.items() for f, p in some}
        wide = [(c, places[c.view, c.feature]) for c in columns if c.dtype.name == "int64"]
        return cls(place, odd, parts, embeddings, "float32" if narrow else "float64", wide)


class ReadRequest(Value, frozen=True, eq=False):
    """What a prepared reader knows of its answers.

    Attributes:
        keys: request column → dtype.
        columns: the feature columns, in the order asked for.
        matrix: the same, for a matrix of all.
        names: of each.
        places: of each its place among the features of all views, laid end to end.
        counts: how many features are read of each view.
        by_view: of each view the places of its columns among `columns`.
        freshness: the function freshness is measured by.
        service: name and version, where one was asked for.
        fields: request field → dtype, of features that are computed on demand.
    """

    keys: Mapping[str, DType]
    columns: Sequence[ReadColumn]
    matrix: MatrixColumns
    names: Sequence[str]
    places: Sequence[int]
    counts: Sequence[int]
    by_view: Sequence[Sequence[int]]
    freshness: Freshness
    service: tuple[str, str] | None
    fields: Mapping[str, DType] = msgspec.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        keys: Mapping[str, DType],
        columns: Sequence[ReadColumn],
        counts: Sequence[int],
        freshness: Freshness,
        service: tuple[str, str] | None,
        fields: Mapping[str, DType] | None = None,
    ) -> ReadRequest:
        """A request.

        Args:
            keys: as its attribute.
            columns: as its attribute.
            counts: how many features are read of each view.
            freshness: as its attribute.
            service: as its attribute.
            fields: as its attribute; None: none.
        """
        starts = list(accumulate(counts, initial=0))
        names, places = [c.name for c in columns], [starts[c.view] + c.feature for c in columns]
        by_view = [[i for i, column in enumerate(columns) if column.view == view] for view in range(len(counts))]
        return cls(
            keys, columns, MatrixColumns.of(columns), names, places, counts, by_view, freshness, service, fields or {}
        )


class AnsweredView:
    """One view's part of a result.

    Attributes:
        view: what is known of it beforehand.
        inverse: for each row of the answer its position in this part; None where row i is at position i.
        rows: what was read, once it has been.
    """

    __slots__ = ("inverse", "rows", "view")
    view: ViewAnswered
    rows: AnsweredRows

    def __init__(self, view: ViewAnswered, inverse: list[int] | None) -> None:
        self.view, self.inverse = view, inverse


class ViewReadResult(AnsweredView):
    """One view's part of one read, by distinct key; a NULL key is at position `stop - start`.

    Attributes:
        start, stop: where its distinct keys stand among those of the read.
        long_keys: position in this part → whole key, for those asked for by digest.
    """

    __slots__ = ("long_keys", "start", "stop")
    view: ViewReadPlan
    rows: DecodedRows | DecodedWindowRows

    def __init__(
        self, view: ViewReadPlan, inverse: list[int] | None, start: int, stop: int, long_keys: dict[int, bytes] | None
    ) -> None:
        # not by the class before it: that call is a tenth of a read of one key's plan
        self.view, self.inverse = view, inverse
        self.start, self.stop, self.long_keys = start, stop, long_keys
