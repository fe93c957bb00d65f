"""What a file is by its first bytes, where a source of another kind is given it, and what reads it."""

from __future__ import annotations

from pathlib import Path

from headwater.errors import SourceError

_HEAD = 512
_MARKS = (
    (b"PAR1", "a Parquet file", "hw.ParquetSource"),
    (b"\x1f\x8b", "compressed with gzip", "name it with .gz at its end"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "name it with .zst at its end"),
    (b"BZh", "compressed with bzip2", "decompress it, or compress it with gzip"),
    (b"\xfd7zXZ", "compressed with xz", "decompress it, or compress it with gzip"),
    (b"SQLite format 3", "a SQLite database", "export the table, or give its rows as hw.TableSource"),
    (b"PK\x03\x04", "a zip file or an Excel workbook", "unzip it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", "save the sheet as CSV"),
    (b"ARROW1", "an Arrow (Feather) file", "hw.TableSource(pyarrow.feather.read_table(path), …)"),
    (b"ORC", "an ORC file", "hw.TableSource(pyarrow.orc.read_table(path), …)"),
    (b"Obj\x01", "an Avro file", "write it as Parquet"),
)
_DUCKDB = (b"DUCK", "a DuckDB database", "COPY its table TO 'table.parquet', or give its rows as hw.TableSource")


def kind_of(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins with these bytes, and what to do with it; None for text and what is not known."""
    if head[8:12] == _DUCKDB[0]:
        return _DUCKDB[1:]
    return next(((kind, cure) for mark, kind, cure in _MARKS if head.startswith(mark)), None)


def refuse_no_text(head: bytes, file: str, where: str) -> None:
    """Refuse a file of bytes where one of text is wanted.

    Raises:
        SourceError: naming what it is and what reads it.
    """
    found = kind_of(head)
    if found is not None:
        raise SourceError(f"{where}: {file} is {found[0]}, not text: {found[1]}")


def refuse_no_parquet(file: str, where: str) -> None:
    """Refuse a file on disk that is not a Parquet file, where that can be said.

    Raises:
        SourceError: naming what it is and what reads it.
    """
    try:
        with Path(file).open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError:
        return
    if head.startswith((b"PAR1", b"PARE")):
        return
    kind, cure = kind_of(head) or _text_kind(head)
    if kind:
        raise SourceError(f"{where}: {file} is {kind}, not a Parquet file: {cure}")


def _text_kind(head: bytes) -> tuple[str, str]:
    try:
        text = head.decode("utf-8-sig", "ignore").lstrip()
    except UnicodeError:
        return "", ""
    if not head:
        return "empty", "remove it, or write it again"
    if b"\0" in head or not all(c.isprintable() or c in "\t\r\n" for c in text):
        return "", ""
    if text.startswith(("{", "[")):
        return "JSON", "hw.JSONSource"
    return "text, such as CSV", "hw.CSVSource"
