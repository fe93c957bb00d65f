"""The columns of an answer as JSON: of many rows from NumPy's matrices, of one row as one list of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec
import numpy as np

from headwater.online.reading.result import OnlineResult
from headwater.online.reading.view_read import ReadColumn, ReadRequest
from headwater.wire.json_values import WHOLE, column_writer

orjson: Any
try:
    import orjson
except ImportError:
    # the extra `server` brings it; without it all columns are written by msgspec, in the same texts
    orjson = None

Writer: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
MANY = 16
"""From this many rows on that is faster."""
_FLOATS = frozenset({"float64", "float32"})
_ENCODE = msgspec.json.Encoder().encode


class NumberTexts:
    """Writes the columns of the answers to one request.

    Args:
        request: the request.
    """

    __slots__ = ("_floats", "_keys", "_names", "_order", "_others", "_usable")

    def __init__(self, request: ReadRequest) -> None:
        floats: dict[int, list[ReadColumn]] = {}
        self._others: list[tuple[ReadColumn, Writer | None]] = []
        for column in request.columns:
            if column.dtype.name in _FLOATS:
                floats.setdefault(column.view, []).append(column)
            else:
                self._others.append((column, column_writer(column.dtype)))
        self._floats = [(view, tuple(c.feature for c in some), [c.name for c in some]) for view, some in floats.items()]
        self._keys = [(name, column_writer(dtype)) for name, dtype in request.keys.items()]
        self._names = list(request.names)
        places = list(request.places)
        self._order = None if places == list(range(sum(request.counts))) else itemgetter(*places, *places[:1])
        # of a name with characters that the two write differently msgspec's text counts
        names = [*request.keys, *request.names]
        self._usable = orjson is not None and bool(floats) and orjson.dumps(names) == _ENCODE(names)

    def row(self, statuses: bytes) -> bytes:
        """An answer of one row, with `%b` for each of the texts of `of_row`.

        Args:
            statuses: what follows the columns.
        """
        parts = [b"%b:%%b" % _escaped(name) for name, _ in self._keys]
        parts += [b"%b:[%%b]" % _escaped(name) for name in self._names]
        return b'{"columns":{%b}%b' % (b",".join(parts), statuses.replace(b"%", b"%%"))

    def of_row(self, result: OnlineResult) -> tuple[bytes, ...] | None:
        """The text of each column of an answer of one row, keys first.

        Args:
            result: of the request; it has one row, and all its values are PRESENT.

        Returns:
            Of keys a list, of features the number alone; None where they have to be written otherwise: a feature is
            not a floating-point number, or the number is not finite.
        """
        if self._others:
            return None
        text = _ENCODE(result.row_values())
        # null, which stands for a number that is not finite
        if b"n" in text:
            return None
        numbers: Sequence[bytes] = text[1:-1].split(b",")
        if self._order is not None:
            numbers = self._order(numbers)[:-1]
        columns, texts = result.entities.columns, []
        for name, write in self._keys:
            value = columns[name][0]
            plain = type(value) is int and -WHOLE <= value <= WHOLE
            texts.append(b"[%d]" % value if plain else _column_text(columns[name], write))
        return (*texts, *numbers)

    def of(self, result: OnlineResult) -> bytes | None:
        """The columns, keys first, as `_ENCODE` writes them.

        Args:
            result: of the request; all its values are PRESENT.

        Returns:
            None where they have to be written otherwise: there are few rows, or a number is not finite.
        """
        if not self._usable or len(result) < MANY:
            return None
        found: dict[str, Any] = {}
        for view, features, names in self._floats:
            matrix = result.view_matrix(view, features)
            if not np.isfinite(matrix).all():
                return None
            found.update(zip(names, np.ascontiguousarray(matrix.T), strict=True))
        values: dict[int, list[list[Any]]] = {}
        for column, write in self._others:
            of_view = values.get(column.view)
            if of_view is None:
                of_view = values[column.view] = result.view_values(column.view)
            found[column.name] = _text(of_view[column.feature], write)
        columns = {name: _text(result.entities.values(name), write) for name, write in self._keys}
        for name in self._names:
            columns[name] = found[name]
        text: bytes = orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)
        return text


def _column_text(values: Sequence[Any], write: Writer | None) -> bytes:
    return _ENCODE(values if write is None else write(values))


def _text(values: Sequence[Any], write: Writer | None) -> Any:
    return orjson.Fragment(_column_text(values, write))


def _escaped(name: str) -> bytes:
    return _ENCODE(name).replace(b"%", b"%%")
