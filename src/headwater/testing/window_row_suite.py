"""What the suite of online stores asks of rows of window versions, and of replacing rows within one epoch."""

from __future__ import annotations

from typing import Any

import pytest

from headwater.definitions.aggregation import Aggregation
from headwater.errors import FormatError
from headwater.online.base import OnlineStore
from headwater.online.rows.codec import WINDOW_CODEC_VERSION, WINDOW_MAGIC, sequence_of
from headwater.online.rows.keys import META_PREFIX
from headwater.online.rows.windows.codec import decode_row, encode_row, next_sequence
from headwater.online.rows.windows.row import add_statements, blank_row
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.layout import window_layout
from headwater.testing.online_rows import Order, key_of, plain_row
from headwater.types import String

LAYOUT = window_layout([Aggregation(None, "count", "1h"), Aggregation("text", "last_n", None, n=400)], {"text": String})
TOKEN = META_PREFIX + b"token"


def window_row(number: int, *, sequence: int = 0, events: int = 1, text: str = "x", key: bytes | None = None) -> bytes:
    """A row of a window version as it is stored.

    Args:
        number: tells its content from that of others.
        sequence: the write sequence before it; its own is another.
        events: how many it has.
        text: what each of them has.
        key: the whole key, where it is stored under a digest.
    """
    row = blank_row(LAYOUT, fill=1, applied_through=number)
    statements = [WindowEvent(number + i, number + i, True, i + 1, {"text": f"{text}{i}"}) for i in range(events)]
    add_statements(LAYOUT, row, statements, 0)
    row.sequence = next_sequence(sequence)
    return encode_row(LAYOUT, row, key=key)


class OnlineWindowRowSuite:
    """Part of `OnlineStoreSuite`."""

    raw_get: Any
    raw_set: Any

    def test_rows_of_window_versions_are_replaced_at_their_sequence_alone(self, store: OnlineStore) -> None:
        key, first = key_of(1), window_row(1)
        assert store.compare_and_put(key, 0, first)
        assert not store.compare_and_put(key, 0, window_row(2))
        assert self.raw_get(store, key) == first == store.multi_get([key])[0]
        second = window_row(2, sequence=sequence_of(first), events=300, text="a text of some length " * 20)
        assert sequence_of(second) not in (0, sequence_of(first))
        assert store.compare_and_put(key, sequence_of(first), second)
        assert not store.compare_and_put(key, sequence_of(first), window_row(3))
        assert store.multi_get([key, key_of(2)]) == [second, None]
        assert dict(store.scan(key[:8])) == {key: second}
        assert decode_row(LAYOUT, second).applied_through == 2
        assert store.compare_and_put(key, sequence_of(second), None)
        assert store.multi_get([key]) == [None]

    def test_rows_of_window_versions_cut_short_count_as_none(self, store: OnlineStore) -> None:
        key, row = key_of(1), window_row(1)
        self.raw_set(store, key, row[:40])
        assert sequence_of(row[:40]) == 0
        assert store.compare_and_put(key, 0, row)
        assert store.multi_get([key]) == [row]

    def test_rows_of_a_newer_window_codec_are_left_alone(self, store: OnlineStore) -> None:
        key, row = key_of(1), window_row(1)
        newer = bytes([WINDOW_MAGIC | (WINDOW_CODEC_VERSION + 1)]) + row[1:]
        self.raw_set(store, key, newer)
        for sequence in (0, sequence_of(row)):
            for other in (row, None):
                with pytest.raises(FormatError, match="newer headwater"):
                    store.compare_and_put(key, sequence, other)
        with pytest.raises(FormatError, match="newer headwater"):
            store.put([plain_row(1, Order(1))])
        assert self.raw_get(store, key) == newer

    def test_rows_are_replaced_within_one_epoch(self, store: OnlineStore) -> None:
        mark = META_PREFIX + b"greatest"
        epoch = TOKEN, store.epoch(TOKEN)
        assert store.compare_and_put(key_of(1), 0, window_row(1), epoch=epoch)
        changes = [(key_of(n), 0, window_row(n)) for n in range(300)]
        assert store.compare_and_put_all(changes, epoch=epoch) == [n != 1 for n in range(300)]
        (token,) = store.multi_get([TOKEN])
        assert store.put_meta({TOKEN: b"another token  !"}, expected={TOKEN: token})
        rows = store.multi_get([key for key, _, _ in changes])
        again = [(key, sequence_of(row), None) for (key, _, _), row in zip(changes, rows, strict=True)]
        if store.epoch(TOKEN) == epoch[1]:
            return  # its parts have tokens of their own
        self._refuses(store, epoch, again, mark)
        assert store.multi_get([key for key, _, _ in changes]) == rows
        assert store.compare_and_put_all(again[:9], epoch=(TOKEN, store.epoch(TOKEN))) == [True] * 9

    @staticmethod
    def _refuses(store: OnlineStore, epoch: tuple[bytes, bytes], changes: list[Any], mark: bytes) -> None:
        """Rows stay as they are where the epoch is another; what was tried raises the high-water mark all the same."""
        assert store.compare_and_put_all(changes, epoch=epoch, high_water=(mark, 9)) == [False] * len(changes)
        assert not store.compare_and_put(*changes[0], epoch=epoch)
        assert not store.compare_and_put(key_of(1_000), 0, window_row(1), epoch=epoch)
        assert store.multi_get([mark, key_of(1_000)]) == [(9).to_bytes(8, "big"), None]
