"""The rows of a training set, or of a part of it, in the forms that models take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.errors import FormatError, StoreError, UsageError, listing, nearest, needs_package
from headwater.html_tables import html_table
from headwater.offline.training_sets.manifest import Manifest
from headwater.offline.training_sets.matrix import MatrixPlan
from headwater.planning.frames import to_pandas, to_polars
from headwater.planning.shown import short_form
from headwater.planning.value_checks import python_values

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import polars
    from numpy.typing import NDArray
    from torch.utils.data import TensorDataset

BATCH = 65_536
_SHOWN = 20


class TrainingRows:
    """Rows of a saved training set, in the spine's order: all of them, or a part of a split.

    Every form takes `columns`, names in the order wanted; None is all. Nothing is read before a form is asked for. It
    can be pickled, and used on both sides of a fork.

    Attributes:
        manifest: what the set is and what it was made of.
        path: the set's folder.
    """

    def __init__(self, path: Path, manifest: Manifest, chosen: NDArray[np.bool_] | None = None) -> None:
        self.path, self.manifest = path, manifest
        self._chosen = chosen

    @property
    def file(self) -> Path:
        """The Parquet file with the rows of the whole set."""
        return self.path / self.manifest.rows.file

    @property
    def keys(self) -> list[str]:
        """The columns that have join keys."""
        return self.manifest.named("key")

    @property
    def timestamp(self) -> str | None:
        """The column of each row's instant; None: all have the manifest's `at`."""
        return self.manifest.spine.timestamp

    @property
    def labels(self) -> list[str]:
        """The columns that a model predicts."""
        return list(self.manifest.labels)

    @property
    def features(self) -> list[str]:
        """The columns that a model takes, in the order in which a read of the same features gives them."""
        return self.manifest.named("feature")

    def __len__(self) -> int:
        return self.manifest.rows.rows if self._chosen is None else int(self._chosen.sum())

    def __bool__(self) -> bool:
        return True

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of all columns."""
        with self._opened() as file:
            return file.schema_arrow.remove_metadata()

    def _opened(self) -> pq.ParquetFile:
        try:
            file = pq.ParquetFile(self.file)
        except FileNotFoundError:
            raise StoreError(
                f"{self.file} does not exist: restore the training set from a copy, or save it again"
            ) from None
        except OSError as bad:
            raise StoreError(f"cannot read {self.file}: {bad}") from bad
        except pa.ArrowException as bad:
            raise self._damaged(bad) from bad
        there, saved = file.metadata.num_rows, self.manifest.rows.rows
        if there != saved:
            file.close()
            raise self._damaged(f"it has {there:,} rows, {saved:,} were saved")
        return file

    def _damaged(self, why: object) -> FormatError:
        return FormatError(f"{self.file} is damaged: {why}; restore it from a copy, or save the set again")

    def _fields(self, schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
        lacking = [name for name in names if schema.get_field_index(name) < 0]
        if lacking:
            raise self._damaged(f"it has no column {listing(map(repr, lacking))}")
        return pa.schema([schema.field(name) for name in names])

    def _wanted(self, columns: Sequence[str] | None) -> list[str]:
        known = [column.name for column in self.manifest.columns]
        if columns is None:
            return known
        if isinstance(columns, str):
            raise UsageError(f"columns={columns!r}: give a list of names")
        for name in columns:
            if name not in known:
                raise UsageError(
                    f"the training set has no column {name!r}{nearest(name, known)}; it has {listing(known)}"
                )
        return list(columns)

    def to_batches(self, rows: int = BATCH, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in bounded memory.

        Args:
            rows: of a batch, at most.
            columns: names, in order; None: all.

        Returns:
            Arrow batches; features in their declared types, timestamps in microseconds, UTC.

        Raises:
            UsageError: fewer than one row, or a name that is not a column.
            StoreError: the file cannot be read, or is damaged.
        """
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise UsageError(f"rows={rows}: a batch has at least one row")
        return self._batches(rows, self._wanted(columns))

    def _batches(self, rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
        first = 0
        with self._opened() as file:
            # as the file has them: fields carry metadata of their own, and may be declared without NULLs
            schema = self._fields(file.schema_arrow, names)
            try:
                # a file without columns asked for has rows all the same
                for batch in file.iter_batches(rows, columns=list(dict.fromkeys(names))):
                    end = first + batch.num_rows
                    batch = pa.RecordBatch.from_arrays([batch.column(name) for name in names], schema=schema)
                    if self._chosen is not None:
                        batch = batch.filter(pa.array(self._chosen[first:end]))
                    first = end
                    if batch.num_rows:
                        yield batch
            except (pa.ArrowException, OSError) as bad:
                raise self._damaged(bad) from bad

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as an Arrow table.

        Args:
            columns: names, in order; None: all.

        Returns:
            All rows, held in memory; features in their declared types, timestamps in microseconds, UTC.

        Raises:
            UsageError: a name that is not a column.
            StoreError: the file cannot be read, or is damaged.
        """
        names = self._wanted(columns)
        if self._chosen is not None:
            return pa.Table.from_batches(self._batches(4 * BATCH, names), self._fields(self.schema, names))
        with self._opened() as file:
            schema = self._fields(file.schema_arrow, names)
            try:
                # all at once, so that columns are read side by side
                found = file.read(list(dict.fromkeys(names)))
            except (pa.ArrowException, OSError) as bad:
                raise self._damaged(bad) from bad
        return pa.Table.from_arrays([found.column(name) for name in names], schema=schema.remove_metadata())

    def to_pandas(self, types: str = "nullable", columns: Sequence[str] | None = None) -> pandas.DataFrame:
        """The rows as a pandas frame.

        Args:
            types: "nullable": Int64, boolean, string, floats as NumPy floats; "numpy": NumPy's own, NULL as NaN or
                None; "arrow": Arrow's.
            columns: names, in order; None: all.

        Returns:
            A frame with an index of its own.

        Raises:
            MissingExtra: pandas is not installed.
            UsageError: another `types`, or a name that is not a column.
            StoreError: the file cannot be read, or is damaged.
        """
        return to_pandas(self.to_arrow(columns), types)

    def to_polars(self, columns: Sequence[str] | None = None) -> polars.DataFrame:
        """The rows as a polars frame.

        Args:
            columns: names, in order; None: all.

        Returns:
            A frame; timestamps in microseconds, UTC.

        Raises:
            MissingExtra: polars is not installed.
            UsageError: a name that is not a column.
            StoreError: the file cannot be read, or is damaged.
        """
        return to_polars(self.to_arrow(columns))

    def to_numpy(
        self, dtype: Any = None, columns: Sequence[str] | None = None, missing: float = float("nan")
    ) -> NDArray[Any]:
        """A matrix of numbers, by the rules of `to_numpy` of a read: what a model is trained on is what it is served.

        An embedding spans as many columns as it has numbers.

        Args:
            dtype: of the matrix; None: one that loses nothing, float32 where every column is Float32, Bool or an
                Embedding, else float64.
            columns: names, in order; None: the features.
            missing: replaces a NULL.

        Returns:
            An array of shape (rows, columns) and the dtype above.

        Raises:
            UsageError: a column that is not a number; a dtype that cannot hold a value or `missing`; unless a dtype is
                given, an integer beyond 2**53, which float64 cannot hold.
            StoreError: the file cannot be read, or is damaged.
        """
        names = self._wanted(self.features if columns is None else columns)
        plan = MatrixPlan(list(self._fields(self.schema, names)))
        return plan.fill(len(self), self._batches(BATCH, names), dtype, missing)

    def to_torch(
        self, columns: Sequence[str] | None = None, labels: Sequence[str] | None = None, dtype: Any = "float32"
    ) -> TensorDataset:
        """The rows as a PyTorch dataset: of each row the features, then the labels where there are any.

        It holds its numbers in memory and no file, lock or thread, so that a `DataLoader` may fork or spawn workers.

        Args:
            columns: the features to take, in order; None: all.
            labels: the labels; None: those of the set.
            dtype: of both, as NumPy names it.

        Returns:
            A `TensorDataset`: the features of shape (rows, columns); the labels of shape (rows,), of several (rows,
            labels). A NULL is NaN.

        Raises:
            MissingExtra: PyTorch is not installed.
            UsageError: a column that is not a number, or a dtype that cannot hold a value.
            StoreError: the file cannot be read, or is damaged.
        """
        with needs_package("torch"):
            import torch
            from torch.utils.data import TensorDataset
        predicted = self.labels if labels is None else self._wanted(labels)
        parts = [torch.from_numpy(self.to_numpy(dtype, columns))]
        if predicted:
            found = torch.from_numpy(self.to_numpy(dtype, predicted))
            parts.append(found[:, 0] if len(predicted) == 1 else found)
        return TensorDataset(*parts)

    def head(self, rows: int = 5) -> pa.Table:
        """The first rows.

        Args:
            rows: how many, 0 or more.

        Returns:
            An Arrow table, which has `to_pylist` and `to_pandas`.

        Raises:
            UsageError: not a number of rows.
            StoreError: the file cannot be read, or is damaged.
        """
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
            raise UsageError(f"head({rows!r}): give a number of rows, 0 or more")
        schema, found, left = self.schema, [], rows
        for batch in self._batches(BATCH, schema.names) if rows else ():
            found.append(batch.slice(0, left))
            left -= found[-1].num_rows
            if not left:
                break
        return pa.Table.from_batches(found, schema)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._said}>"

    @property
    def _said(self) -> str:
        made = self.manifest
        rows, features = len(self), len(self.features)
        return (
            f"{made.name} {made.version}: {rows:,} row{'' if rows == 1 else 's'}, "
            f"{features:,} feature{'' if features == 1 else 's'}"
        )

    def _repr_html_(self) -> str:
        table = self.head(_SHOWN)
        rows = zip(*(map(_shown, python_values(c), [c.type] * len(c)) for c in table.columns), strict=True)
        return html_table(table.column_names, rows, caption=self._said)


def _shown(value: Any, kind: pa.DataType) -> str:
    found = short_form(value, kind)
    return "" if found is None else str(found)
