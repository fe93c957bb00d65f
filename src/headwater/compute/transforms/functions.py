"""One on-demand function: which rows it is given, what becomes of those for which it raises, and the errors."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.compute.transforms import modes
from headwater.compute.transforms.compiled import compiled, file_name
from headwater.errors import OnDemandError, brief, raised
from headwater.online.reading.array_rows import null_mask, python_column
from headwater.planning.resolved import ResolvedFunction

_CALLS: Mapping[str, Callable[..., list[pa.Array]]] = {
    "numpy": modes.call_numpy,
    "arrow": modes.call_arrow,
    "pandas": modes.call_pandas,
}


class Computed(NamedTuple):
    """What a function computed of some rows.

    Attributes:
        columns: of each feature its values; NULL for rows that it was not given.
        errors: the rows for which it raised; None: none.
    """

    columns: list[pa.Array]
    errors: NDArray[np.bool_] | None


class OnDemandFunction:
    """A function of a request, compiled once.

    Args:
        resolved: its version and arguments.

    Raises:
        MissingExtra: a package that it imports is not installed.
        OnDemandError: it cannot be compiled.
    """

    def __init__(self, resolved: ResolvedFunction) -> None:
        view = resolved.definition.view
        self.resolved = resolved
        self.what = f"on-demand feature view {view.name!r} {resolved.version}"
        self.features = view.feature_list
        self.positions = {feature.name: place for place, feature in enumerate(self.features)}
        # pyarrow imports pandas, where it is installed, with the first values that it is given: a third of a second
        # that preparing takes here, and no read
        pa.array(())
        self._file = file_name(self.what, view.source)
        self._function = compiled(self.what, view.source, view.imports)
        self._mode, self._skips, self._nulls_errors = view.mode, view.nulls == "skip", view.errors == "null"
        self._dtypes = {argument.name: argument.dtype for argument in resolved.arguments}

    def run(
        self, columns: Mapping[str, pa.Array], blocked: NDArray[np.bool_] | None, size: int, first: int = 0
    ) -> Computed:
        """Compute the features of some rows.

        Args:
            columns: argument → its values.
            blocked: rows that are not computed whatever their inputs are; None: all are.
            size: how many rows there are.
            first: the number of the first, for errors.

        Raises:
            OnDemandError: it raised, or returned what its features are not, and its view says `errors="raise"`.
        """
        left_out = blocked
        if self._skips:
            for column in columns.values():
                if column.null_count:
                    nulls = null_mask(column)
                    left_out = nulls if left_out is None else left_out | nulls
        if left_out is None or not left_out.any():
            if not size:
                return self._nothing(0)
            found, errors = self._attempt(columns, size, np.arange(first, first + size))
            return Computed(found, errors)
        kept = np.flatnonzero(~left_out)
        if not len(kept):
            return self._nothing(size)
        chosen = pa.array(kept)
        found, errors = self._attempt({name: c.take(chosen) for name, c in columns.items()}, len(kept), kept + first)
        places = np.zeros(size, np.int64)
        places[kept] = np.arange(len(kept))
        indexes = pa.array(places, mask=left_out)
        whole = None
        if errors is not None:
            whole = np.zeros(size, np.bool_)
            whole[kept] = errors
        return Computed([column.take(indexes) for column in found], whole)

    def _nothing(self, size: int) -> Computed:
        return Computed([pa.nulls(size, feature.dtype.arrow) for feature in self.features], None)

    def _attempt(
        self, columns: Mapping[str, pa.Array], size: int, rows: NDArray[np.int64]
    ) -> tuple[list[pa.Array], NDArray[np.bool_] | None]:
        if self._mode == "rows":
            return self._row_by_row(columns, size, rows)
        try:
            return self._call(columns), None
        except modes.WrongResult as bad:
            if not self._nulls_errors:
                raise OnDemandError(f"{self.what}: {bad}") from bad
            return self._nothing(size).columns, np.ones(size, np.bool_)
        except KeyboardInterrupt:
            raise
        except BaseException as bad:
            if self._nulls_errors:
                return self._by_halves(columns, size)
            raise self._failure(columns, size, rows, bad) from bad

    def _call(self, columns: Mapping[str, pa.Array]) -> list[pa.Array]:
        return _CALLS[self._mode](self._function, columns, self._dtypes, self.features, not self._skips)

    def _by_halves(self, columns: Mapping[str, pa.Array], size: int) -> tuple[list[pa.Array], NDArray[np.bool_] | None]:
        """All rows but those for which it raises alone."""
        if size == 1:
            return self._nothing(1).columns, np.ones(1, np.bool_)
        parts, errors = [], []
        for start, stop in ((0, size // 2), (size // 2, size)):
            part = {name: column.slice(start, stop - start) for name, column in columns.items()}
            try:
                parts.append(self._call(part))
                errors.append(np.zeros(stop - start, np.bool_))
            except KeyboardInterrupt:
                raise
            except BaseException:
                found, bad = self._by_halves(part, stop - start)
                parts.append(found)
                errors.append(np.zeros(stop - start, np.bool_) if bad is None else bad)
        return [pa.concat_arrays(pair) for pair in zip(*parts, strict=True)], np.concatenate(errors)

    def _failure(
        self, columns: Mapping[str, pa.Array], size: int, rows: NDArray[np.int64], bad: BaseException
    ) -> OnDemandError:
        """The error, with the first row for which it raises alone."""
        start = 0
        while size > 1:
            half = size // 2
            for offset, count in ((0, half), (half, size - half)):
                part = {name: column.slice(start + offset, count) for name, column in columns.items()}
                try:
                    self._call(part)
                except modes.WrongResult:
                    continue  # of fewer rows it returns what it returned of all: that is not their fault
                except KeyboardInterrupt:
                    raise
                except BaseException as again:
                    start, size, bad = start + offset, count, again
                    break
            else:
                return OnDemandError(f"{self.what}: {self._said(bad)}, given {size} rows from row {rows[start]} on")
        return self._failed_row(columns, start, int(rows[start]), bad)

    def _failed_row(self, columns: Mapping[str, pa.Array], place: int, row: int, bad: BaseException) -> OnDemandError:
        one = {name: python_column(column.slice(place, 1), self._dtypes[name])[0] for name, column in columns.items()}
        given = ", ".join(f"{name}={brief(value)}" for name, value in one.items())
        return OnDemandError(f"{self.what}, row {row}: {self._said(bad)}, given {given or 'nothing'}")

    def _said(self, bad: BaseException) -> str:
        """What an error says that the function raised, or that was made of what it returned."""
        if isinstance(bad, (modes.WrongResult, modes.WrongValues)):
            return str(bad)
        own = [frame for frame in traceback.extract_tb(bad.__traceback__) if frame.filename == self._file]
        line = f" (line {own[-1].lineno} of its function)" if own else ""
        return f"it raised {raised(bad)}{line}"

    def _row_by_row(
        self, columns: Mapping[str, pa.Array], size: int, rows: NDArray[np.int64]
    ) -> tuple[list[pa.Array], NDArray[np.bool_] | None]:
        names = list(columns)
        values = [python_column(column, self._dtypes[name]) for name, column in columns.items()]
        found: list[Mapping[str, Any] | None] = []
        errors = np.zeros(size, np.bool_)
        for place, row in enumerate(zip(*values, strict=True)):
            try:
                made = self._function(dict(zip(names, row, strict=True)))
                if type(made) is not dict or made.keys() != self.positions.keys():
                    modes.check_row(made, self.features)
                found.append(made)
            except KeyboardInterrupt:
                raise
            except BaseException as bad:
                if not self._nulls_errors:
                    raise self._failed_row(columns, place, int(rows[place]), bad) from bad
                errors[place] = True
                found.append(None)
        return self._collected(columns, found, errors, rows)

    def _collected(
        self,
        columns: Mapping[str, pa.Array],
        found: Sequence[Mapping[str, Any] | None],
        errors: NDArray[np.bool_],
        rows: NDArray[np.int64],
    ) -> tuple[list[pa.Array], NDArray[np.bool_] | None]:
        """The features of rows as columns; a value that does not fit is an error of its row."""
        out = []
        for feature in self.features:
            values = [None if row is None else row[feature.name] for row in found]
            column, bad = modes.fitted_values(values, feature)
            out.append(column if column.type == feature.dtype.arrow else column.cast(feature.dtype.arrow))
            if bad is not None:
                place = int(np.flatnonzero(bad)[0])
                if not self._nulls_errors:
                    wrong = modes.WrongValues(f"{feature.name!r}: {brief(values[place])} does not fit {feature.dtype}")
                    raise self._failed_row(columns, place, int(rows[place]), wrong)
                errors |= bad
        if not errors.any():
            return out, None
        gone = pa.array(errors)
        nothing = [pa.nulls(len(found), feature.dtype.arrow) for feature in self.features]
        return [_without(column, gone, empty) for column, empty in zip(out, nothing, strict=True)], errors


def _without(column: pa.Array, gone: pa.Array, empty: pa.Array) -> pa.Array:
    """A column that is NULL in some rows; of nested types too."""
    size = len(column)
    mask = np.asarray(gone)
    return pa.concat_arrays([column, empty.slice(0, 1)]).take(pa.array(np.where(mask, size, np.arange(size))))
