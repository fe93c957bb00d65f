"""Splits of rows that are the same on every machine: by their instants, or by a hash of their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from headwater.clock import from_micros
from headwater.digests import blake2b
from headwater.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def check_sizes(test_size: float, validation_size: float) -> None:
    """Refuse shares that leave nothing to train on.

    Raises:
        UsageError: naming the argument.
    """
    for name, size in (("test_size", test_size), ("validation_size", validation_size)):
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 <= size < 1:
            raise UsageError(f"{name}={size!r}: must be a share of the rows, 0 or more and less than 1")
    if test_size + validation_size >= 1:
        raise UsageError(f"test_size + validation_size is {test_size + validation_size:g}: nothing is left to train on")


def by_time(instants: NDArray[np.int64], test_size: float, validation_size: float) -> dict[str, NDArray[np.bool_]]:
    """The oldest rows to train on, the newest to test, rows of one instant together.

    Args:
        instants: of each row, microseconds.
        test_size, validation_size: shares of the rows; rows of one instant go into the later part together.
    """
    ordered = np.sort(instants)
    ends = [_first_of(ordered, test_size), _first_of(ordered, test_size + validation_size)]
    return by_instants(instants, ends[1] if validation_size else ends[0], ends[0])


def _first_of(ordered: NDArray[np.int64], share: float) -> int:
    """The earliest instant of the newest rows."""
    count = round(len(ordered) * share)
    return int(ordered[len(ordered) - count]) if count else _LATEST


_LATEST = 2**63 - 1


def by_instants(instants: NDArray[np.int64], validation_from: int, test_from: int) -> dict[str, NDArray[np.bool_]]:
    """Rows before an instant, between two, and from the second on (microseconds)."""
    test = instants >= test_from if test_from != _LATEST else np.zeros(len(instants), bool)
    validation = (instants >= validation_from) & ~test if validation_from != _LATEST else np.zeros(len(test), bool)
    return {TRAIN: ~test & ~validation, VALIDATION: validation, TEST: test}


def check_instants(
    instants: NDArray[np.int64], parts: Mapping[str, NDArray[np.bool_]], validation_from: object, test_from: object
) -> None:
    """Refuse instants that leave a part without rows.

    Args:
        instants: of each row, microseconds.
        parts: what `by_instants` made of them.
        validation_from, test_from: as they were given; `validation_from` None: there is no validation.

    Raises:
        UsageError: naming the instant, and from when to when the rows are.
    """
    if not len(instants):
        return
    first, last = (from_micros(int(micros)).isoformat() for micros in (instants.min(), instants.max()))
    there = f"the rows are from {first} to {last}"
    if not parts[TEST].any():
        raise UsageError(f"test_from={test_from}: no row is at that instant or later: nothing is tested; {there}")
    if validation_from is not None and not parts[VALIDATION].any():
        raise UsageError(f"validation_from={validation_from}: no row is between it and test_from={test_from}; {there}")
    if not parts[TRAIN].any():
        name, value = ("test_from", test_from) if validation_from is None else ("validation_from", validation_from)
        raise UsageError(f"{name}={value}: no row is earlier, so that nothing is left to train on; {there}")


def empty_parts(parts: Mapping[str, NDArray[np.bool_]], by: str, sizes: Mapping[str, float]) -> Iterator[str]:
    """A line for each part that was asked for and has no rows.

    Args:
        parts: name → its rows.
        by: `time` or `key`.
        sizes: part → its share of the rows or keys, as it was asked for; a share of 0 asks for none.

    Raises:
        UsageError: nothing is left to train on.
    """
    if not any(map(len, parts.values())):
        return
    why = {
        "time": "rows of one instant stay together",
        "key": "all rows of a key stay together, and a hash of the key decides which part it goes to",
    }[by]
    if not parts[TRAIN].any():
        raise UsageError(f"nothing is left to train on: {why}; give a smaller test_size, or split otherwise")
    for name, rows in parts.items():
        size = sizes.get(name, 0)
        if size and not rows.any():
            yield f"the {name} part has no rows ({name}_size={size:g}): {why}, and there are too few of them"


def by_hash(places: NDArray[np.float64], test_size: float, validation_size: float) -> dict[str, NDArray[np.bool_]]:
    """Parts by each row's place from 0 to 1: below `test_size` to test, the next ones to validate."""
    test = places < test_size
    validation = ~test & (places < test_size + validation_size)
    return {TRAIN: ~test & ~validation, VALIDATION: validation, TEST: test}


def key_places(keys: pa.Table, seed: int) -> NDArray[np.float64]:
    """A place from 0 to 1 for each row, by its key alone: BLAKE2b of the seed and the values.

    The same on every machine and release, whatever other rows there are, and whatever the width of integers. Each
    distinct key is hashed once.
    """
    names = keys.column_names
    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in keys.columns
    ]
    table = pa.table([*plain, pa.array(np.arange(keys.num_rows))], [*names, ""])
    grouped = table.group_by(names, use_threads=False).aggregate([("", "list")])
    places = np.empty(keys.num_rows)
    rows = [column.to_pylist() for column in (grouped.column(name) for name in names)]
    lists = grouped.column("_list").combine_chunks()
    ends = lists.offsets.to_numpy()
    members = lists.values.to_numpy()
    prefix = f"{seed}\0".encode()
    for i, key in enumerate(zip(*rows, strict=True)):
        digest = blake2b(prefix + b"\0".join(map(_text, key)), digest_size=8).digest()
        places[members[ends[i] : ends[i + 1]]] = (int.from_bytes(digest, "big") >> 11) / 2**53
    return places


def _text(value: object) -> bytes:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # how pandas holds an integer key with gaps
    if isinstance(value, (datetime, date)):
        value = value.isoformat()
    body = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return type(value).__name__[:1].encode() + str(len(body)).encode() + b":" + body


def check_names(wanted: Sequence[str], keys: Sequence[str]) -> None:
    """Refuse an empty list of keys.

    Raises:
        UsageError: saying why.
    """
    if not wanted:
        raise UsageError(
            f"by='key': the training set has {'no join keys' if not keys else 'keys, and keys=[] names none'}; "
            "give keys=[…], or split by time"
        )
