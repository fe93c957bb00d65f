"""A view version's rows as an online store holds them: Arrow batches into keys and packed rows, and keys back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa

from headwater.online.rows.codec import encode_batch, with_key
from headwater.online.rows.keys import LONGEST, KeySpace, digested, key_table, namespace
from headwater.planning.layout import RowLayout
from headwater.planning.resolved import ResolvedKey, ResolvedView


class VersionRows:
    """How one view version's rows are written to a store, by what these depend on alone.

    Args:
        project: the project.
        name, version: of the view.
        keys: its join keys, in order.
        layout: of its rows.

    Attributes:
        title: the version as messages name it, `view@version`.
        keys: the version's keys.
        names: the join keys, in order.
    """

    def __init__(self, project: str, name: str, version: str, keys: Sequence[ResolvedKey], layout: RowLayout) -> None:
        self.title = f"{name}@{version}"
        self.layout = layout
        self.names = tuple(key.name for key in keys)
        self.keys = KeySpace(namespace(project, name, version), [key.dtype for key in keys])

    @property
    def prefix(self) -> bytes:
        """What every key of the version begins with, for `scan`."""
        return self.keys.prefix

    def whole_keys(self, table: pa.RecordBatch | pa.Table) -> list[bytes | None]:
        """The whole key of each row (join keys by name, in their dtypes or a wider integer); None where one is NULL."""
        if not self.names:
            return [self.keys.global_key()] * table.num_rows
        return self.keys.encode_arrow(key_table([table.column(name) for name in self.names]))

    def stored_keys(self, table: pa.RecordBatch | pa.Table) -> list[bytes | None]:
        """What each row is stored under; None where a join key is NULL."""
        return [None if key is None else digested(key) for key in self.whole_keys(table)]

    def encode(self, batch: pa.RecordBatch) -> list[tuple[bytes, bytes]]:
        """(stored key, packed row) of each row whose join keys are not NULL, ready for `OnlineStore.put`.

        Args:
            batch: the join keys by name, `__event`, `__created`, `__origin`, `__position`, and every feature of the
                version, as `OfflineEngine.changes` gives them.
        """
        keys, rows = self.whole_keys(batch), encode_batch(self.layout, batch)
        if None in keys or (self.keys.may_be_long and any(len(key) > LONGEST for key in keys if key is not None)):
            return [
                (key, row) if len(key) <= LONGEST else (digested(key), with_key(row, key))
                for key, row in zip(keys, rows, strict=True)
                if key is not None
            ]
        whole = cast("list[bytes]", keys)
        return list(zip(whole, rows, strict=True))

    def decode_key(self, key: bytes, row: bytes | None = None) -> tuple[Any, ...]:
        """The join key values of a stored key, in order; see `KeySpace.decode`."""
        return self.keys.decode(key, row)


class RowEncoder(VersionRows):
    """The same of a resolved view.

    Attributes:
        view: the version.
    """

    def __init__(self, project: str, view: ResolvedView) -> None:
        super().__init__(project, view.name, view.version, view.keys, view.layout)
        self.view = view
