"""JSON files as rows: an object a line, or one array of objects; each row with its line or number, for errors."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from headwater.errors import SourceError, printable
from headwater.offline.files.csv_files import BYTE_ORDER_MARKS, open_text_file
from headwater.offline.files.kinds import refuse_no_text
from headwater.planning.text_values import finite

_SHOWN = 60


def read_json_rows(file: str, lines: bool, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file: (where the row is, its columns); a number beyond a double is refused.

    Args:
        file: its path.
        lines: whether each line is an object; else the file is one array of objects, or one object.
        where: for errors.

    Raises:
        SourceError: naming the file and the line or row.
    """
    with open_text_file(file, where) as raw:
        _after_mark(raw, file, where)
        if lines:
            for number, line in enumerate(raw, 1):
                if line.strip():
                    place = f"line {number}"
                    at = f"{where}: {file}: {place}"
                    yield place, _object(_parsed(line, at, lines=True), at)
            return
        found = _parsed(raw.read(), f"{where}: {file}")
    for number, row in enumerate([found] if isinstance(found, dict) else _listed(found, f"{where}: {file}")):
        yield f"row {number}", _object(row, f"{where}: {file}: row {number}")


def read_json_names(file: str, lines: bool, where: str, checked: int) -> Iterator[Iterable[str]]:
    """The names of the columns that each row has.

    Args:
        file: its path.
        lines: whether each line is an object; else the file is one array of objects, or one object.
        where: for errors.
        checked: of how many lines the values are read too, so that what is not JSON is named; the first ones.

    Raises:
        SourceError: naming the file and the line or row.
    """
    if not lines:
        yield from (row for _, row in read_json_rows(file, lines, where))
        return
    with open_text_file(file, where) as raw:
        _after_mark(raw, file, where)
        for number, line in enumerate(raw, 1):
            if not line.strip():
                continue
            place = f"{where}: {file}: line {number}"
            if number <= checked:
                yield _object(_parsed(line, place, lines=True), place)
                continue
            try:
                yield _NAMES.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                # NaN, say, which Python reads
                yield _object(_parsed(line, place, lines=True), place)


_NAMES = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _after_mark(raw: io.BufferedReader, file: str, where: str) -> None:
    """Leave out a byte order mark of UTF-8.

    Raises:
        SourceError: one of another encoding.
    """
    start = raw.peek(16)[:16]
    refuse_no_text(start, file, where)
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            raise SourceError(f"{where}: {file} is {encoding.upper()}, JSON is UTF-8: write it as UTF-8")
    if start.startswith(codecs.BOM_UTF8):
        raw.read(len(codecs.BOM_UTF8))


def _parsed(text: bytes, where: str, *, lines: bool = False) -> Any:
    try:
        return json.loads(text.decode(), parse_float=finite)
    except UnicodeDecodeError as bad:
        raise SourceError(f"{where}: not UTF-8: {bad.reason} at byte {bad.start}") from None
    except json.JSONDecodeError as bad:
        more = " (several lines: lines=True)" if bad.msg == "Extra data" and bad.lineno > 1 else ""
        if lines and text.strip() in (b"[", b"{", b"[{"):
            more = " (an array of objects, or one, over several lines: lines=False)"
        raise SourceError(f"{where}: not JSON: {bad}{more}") from None
    except (ValueError, RecursionError) as bad:
        raise SourceError(f"{where}: {bad}") from None


def _listed(found: Any, where: str) -> list[Any]:
    if not isinstance(found, list):
        raise SourceError(f"{where}: holds a {type(found).__name__}; it must hold an array of objects")
    return found


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        shown = printable(json.dumps(row)[:_SHOWN])
        more = "; an array of objects: lines=False" if isinstance(row, list) else ""
        raise SourceError(f"{where}: {shown} is not an object with the source's columns{more}")
    return row
