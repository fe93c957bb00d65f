"""CSV files as text: their headers, their records with line numbers, what is wrong with one, and plain copies.

Engines read CSV files themselves where these are plain: UTF-8, one kind of line end, no comments. Others are rewritten
first, in Python, record by record. The same reader says in which line an error is.
"""

from __future__ import annotations

import codecs
import csv
import encodings.utf_8_sig  # noqa: F401 - a process that gives up rights may not find it later
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headwater.definitions.csv_format import CSVFormat
from headwater.errors import SourceError, printable
from headwater.offline.files.kinds import refuse_no_text

_CHUNK = 1 << 20
_HEAD = 1 << 16
LONGEST_LINE = 32 << 20
"""Bytes of the longest line that is read, and characters of the longest field."""
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SHOWN = 60


class Quoted(str):
    """A field in quotes whose text means NULL where it is not in quotes."""

    __slots__ = ()


class _Lines:
    """The lines of a file, comments left out where a record may begin.

    Attributes:
        number: of the last line that was read; the first is 1.
        first: of the first line of the record that is being read.
        starts: whether the next line begins a record.
        record: the lines of the record that is being read.
    """

    def __init__(self, lines: Iterator[str], comment: str | None) -> None:
        self._lines, self._comment = lines, comment
        self.number = self.first = 0
        self.starts = True
        self.record: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            line = next(self._lines)
            self.number += 1
            if self.starts and self._comment is not None and line.startswith(self._comment):
                continue
            if self.starts:
                self.first, self.starts = self.number, False
                self.record.clear()
            self.record.append(line)
            return line


def read_records(file: str, form: CSVFormat, where: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a file, the header among them, each with its first line's number.

    A field is quoted where a quote is its first character; quotes elsewhere are characters like others. Spaces belong
    to their fields. Empty lines are left out, but those behind the first record of a file of one column: these are
    empty fields. Where quotes tell a text from NULL (`CSVFormat.keeps_quoted`), texts in quotes are `Quoted`.

    Args:
        file: its path.
        form: how it is written.
        where: for errors.

    Raises:
        SourceError: naming file and line.
    """
    with open_text_file(file, where) as raw:
        encoding = _encoding(raw, form, file, where)
        text = io.TextIOWrapper(raw, encoding, newline="")
        lines = _Lines(iter(text), form.comment)
        nulls, marks = frozenset(form.nulls), form.keeps_quoted and form.quote is not None
        try:
            for _ in range(form.skip):
                next(lines._lines, "")
                lines.number += 1
            width = 0
            for record in _records(lines, form, file):
                if record:
                    width = width or len(record)
                    if marks and not nulls.isdisjoint(record):
                        _mark_quoted(record, lines.record, form, file)
                    yield lines.first, record
                elif width == 1:
                    yield lines.first, [""]
                lines.starts = True
        except UnicodeError as bad:
            raise SourceError(f"{where}: {_not_decoded(file, encoding, bad)}") from None
        except csv.Error as bad:
            raise SourceError(f"{where}: {file}: line {lines.first}: {_csv_error(str(bad), form)}") from None


def _records(lines: _Lines, form: CSVFormat, file: str) -> Iterator[list[str]]:
    """The records of lines; an empty line is one without fields."""
    delimiter = form.delimiter_of(file)
    if form.quote is not None and form.quote_escape != form.quote:
        return _escaped_records(lines, delimiter, form.quote, form.quote_escape)
    if csv.field_size_limit() < LONGEST_LINE:
        csv.field_size_limit(LONGEST_LINE)  # the process's own limit: it is only ever raised
    return csv.reader(
        lines,
        delimiter=delimiter,
        quotechar=form.quote,
        quoting=csv.QUOTE_NONE if form.quote is None else csv.QUOTE_MINIMAL,
        strict=True,
    )


def _mark_quoted(record: list[str], lines: Sequence[str], form: CSVFormat, file: str) -> None:
    """Mark the fields of a record that are in quotes and have a text that means NULL without them."""
    quote, delimiter, text = form.quote or "", form.delimiter_of(file), "".join(lines)
    if not any(f"{quote}{null}{quote}" in text for null in form.nulls):
        return
    at = 0
    for i, given in enumerate(record):
        if text.startswith(quote, at):
            if given in form.nulls:
                record[i] = Quoted(given)
            at = _closed(text, at, quote, form.quote_escape)
        at = text.find(delimiter, at) + 1


def _closed(text: str, at: int, quote: str, escape: str | None) -> int:
    """Where a field that is quoted from `at` on ends, behind its closing quote."""
    at += 1
    while True:
        if escape == quote:
            at = text.index(quote, at)
        if text[at] == escape and text[at + 1 : at + 2] in (quote, escape):
            at += 2
        elif text[at] == quote:
            return at + 1
        else:
            at += 1


def _escaped_records(lines: Iterator[str], delimiter: str, quote: str, escape: str | None) -> Iterator[list[str]]:
    """Records whose quotes are not doubled; Python's own reader knows an escape outside of quotes too."""
    escaped = () if escape is None else (quote, escape)
    for line in lines:
        if quote not in line:
            text = line.rstrip("\r\n")
            yield text.split(delimiter) if text else []
            continue
        record: list[str] = []
        at, more = 0, True
        while more:
            field: list[str] = []
            if line.startswith(quote, at):
                at += 1
                while not line.startswith(quote, at):
                    if at == len(line):
                        line, at = next(lines, ""), 0
                        if not line:
                            raise csv.Error("unexpected end of data")
                        continue
                    at += line[at] == escape and line[at + 1 : at + 2] in escaped
                    field.append(line[at])
                    at += 1
                at += 1
                if not line.startswith(delimiter, at) and line[at:].strip("\r\n"):
                    raise csv.Error(f"{delimiter!r} expected after {quote!r}")
            end = line.find(delimiter, at)
            more = end >= 0
            record.append("".join(field) + (line[at:end] if more else line[at:].rstrip("\r\n")))
            at = end + 1
        yield record


def _csv_error(text: str, form: CSVFormat) -> str:
    if "expected after" in text:
        return f"text follows a closing quote {form.quote!r}; a quote within quotes is written twice (or: escape=…)"
    if "unexpected end" in text:
        return f"a quote {form.quote!r} that is opened here is never closed; quote=None where quotes mean nothing"
    if "field limit" in text:
        return f"a field is longer than {csv.field_size_limit():,} characters"
    return text


_NOTE = re.compile(r"#TYPE .*|sep=.?$")
"""What PowerShell and Excel write in a line before the names of the columns."""


@dataclass(frozen=True)
class Header:
    """The columns of a file.

    Attributes:
        names: in order; unnamed ones are `column0`, …, of two equal ones the later is `name_1`; none where the file is
            empty and needs no header.
        repeated: the names that several columns have → the numbers of these, the first is 1.
    """

    names: tuple[str, ...]
    repeated: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def read_header(file: str, form: CSVFormat, where: str) -> Header:
    """The columns of a file.

    Raises:
        SourceError: an empty file that should have a header, one whose first line is a note to a program, or one that
            cannot be read as text.
    """
    for line, record in read_records(file, form, where):
        if form.header and (note := _NOTE.match(record[0])) is not None:
            skip = f"skip={form.skip + 1}"
            raise SourceError(
                f"{where}: {file}: line {line} is {note[0]!r}, a note to the program that opens the file, where the "
                f"names of the columns are expected: {skip} leaves it out (the headwater command: --csv {skip})"
            )
        given = [name.strip() for name in record] if form.header else [""] * len(record)
        numbers: dict[str, tuple[int, ...]] = {}
        for number, name in enumerate(given, 1):
            numbers[name] = (*numbers.get(name, ()), number)
        return Header(tuple(_named(given)), {name: n for name, n in numbers.items() if name and len(n) > 1})
    if form.header:
        raise SourceError(f"{where}: {file}: the file is empty; a header names the columns (header=False: none does)")
    return Header(())


def _named(given: list[str]) -> list[str]:
    names: list[str] = []
    there = set(given)
    for i, name in enumerate(given):
        made, count = name or f"column{i}", 0
        while made in names or (count and made in there):
            count += 1
            made = f"{name or f'column{i}'}_{count}"
        names.append(made)
    return names


def line_of_row(file: str, form: CSVFormat, row: int, where: str) -> int:
    """The line in which a row begins; the first row is 0."""
    for i, (line, _) in enumerate(read_records(file, form, where)):
        if i == row + form.header:
            return line
    return 0


def read_rows(file: str, form: CSVFormat, where: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a file, the header among them, each of as many fields as the first.

    Fields more are cut off where they are empty or mean NULL, as of lines that end with delimiters.

    Raises:
        SourceError: naming file and line; a record of other fields.
    """
    width, first, begins, cut = 0, 0, "", {"", *form.nulls}
    for line, record in read_records(file, form, where):
        if not width:
            width, first, begins = len(record), line, record[0]
        elif len(record) != width and not (len(record) > width and cut.issuperset(record[width:])):
            what = "the header names" if form.header else f"line {first} has"
            shown = form.delimiter_of(file).join(record)
            raise SourceError(
                f"{where}: {file}: line {line} has {len(record)} field{'' if len(record) == 1 else 's'}, {what} "
                f"{width}: {printable(shown[:_SHOWN])}{'…' if len(shown) > _SHOWN else ''}{_comment_hint(record, form)}"
                f"{_delimiter_hint(begins, width, form, file)}"
            )
        yield line, record[:width]


def check_records(file: str, form: CSVFormat, where: str) -> None:
    """Read a file for its first line that is not a record of its columns.

    Raises:
        SourceError: naming file and line.
    """
    for _ in read_rows(file, form, where):
        pass


def _delimiter_hint(first: str, width: int, form: CSVFormat, file: str) -> str:
    mark = next((mark for mark in ";\t|," if mark in first and mark != form.delimiter_of(file)), None)
    if width > 1 or mark is None:
        return ""
    name = "tab" if mark == "\t" else mark
    return (
        f"; its fields are separated by {mark!r}: delimiter={mark!r} (the headwater command: --csv 'delimiter={name}')"
    )


def _comment_hint(record: list[str], form: CSVFormat) -> str:
    mark = record[0][:1]
    if form.comment is None and len(record) == 1 and mark in ("#", ";", "%"):
        return f"; a comment? comment={mark!r} leaves out lines that begin with it"
    return ""


def is_plain(file: str, form: CSVFormat, columns: int, where: str) -> bool:
    """Whether engines read a file as `read_records` does.

    That is so of UTF-8 without comments, with one kind of line end, whose quotes all enclose fields.

    Args:
        file: its path.
        form: how it is written.
        columns: how many it has.
        where: for errors.
    """
    if form.comment is not None or (form.quote is not None and form.quote_escape != form.quote):
        return False
    encoding = codecs.lookup(form.encoding).name
    if encoding not in ("utf-8", "utf-8-sig", "ascii"):
        return False
    if not form.delimiter_of(file).isascii() or not (form.quote or "").isascii():
        return False
    both = alone = returns = 0
    ends_with_return = False
    quotes = None if form.quote is None else _Quotes(form.quote, form.delimiter_of(file))
    with open_text_file(file, where) as raw:
        _encoding(raw, form, file, where)
        if not _begins_plainly(raw, form):
            return False
        before = b""
        while chunk := raw.read(_CHUNK):
            if encoding == "ascii" and not chunk.isascii():
                return False
            if columns == 1 and _EMPTY_LINE.search(before + chunk) is not None:
                return False
            if quotes is not None and not quotes.all_enclose(chunk):
                return False
            before = chunk[-3:]
            if ends_with_return and chunk[:1] == b"\n":
                both += 1
            both += chunk.count(b"\r\n")
            alone += chunk.count(b"\n")
            returns += chunk.count(b"\r")
            ends_with_return = chunk[-1:] == b"\r"
    if quotes is not None and not quotes.all_enclose(b""):
        return False
    # `alone` counted the line feeds of both kinds
    return sum(count > 0 for count in (both, alone - both, returns - both)) <= 1


_EMPTY_LINE = re.compile(rb"\n\r?\n|\r\r")


def _begins_plainly(raw: io.BufferedReader, form: CSVFormat) -> bool:
    """Whether the lines that are skipped, and the first one after them, are lines to every reader."""
    start = raw.peek(_HEAD)[:_HEAD].removeprefix(codecs.BOM_UTF8)
    lines = start.splitlines()[: form.skip + 1]
    if form.skip and (len(lines) <= form.skip or (form.quote or '"').encode() in b"".join(lines[: form.skip])):
        return False
    return all(lines)


class _Quotes:
    """Looks through the bytes of a file for quotes that do not enclose a field."""

    def __init__(self, quote: str, delimiter: str) -> None:
        self._quote = ord(quote)
        self._ends = np.zeros(256, bool)
        self._ends[[ord(delimiter), 10, 13, ord(quote)]] = True
        self._inside = False
        self._before = b"\n"
        """What was looked at last, one byte, and what was not since nobody knew what follows it."""

    def all_enclose(self, chunk: bytes) -> bool:
        """Whether the quotes do, each of those but the last of the bytes so far; of none more: all.

        Every other quote opens: at the beginning of a field, or right behind one that closes, for the two are a quote
        that is written twice. The others close: at the end of a field, or right before one that opens.
        """
        text = self._before + (chunk or b"\n")
        self._before = text[-2:]
        if self._quote not in text:
            return bool(chunk) or not self._inside
        values = np.frombuffer(text, np.uint8)
        at = np.flatnonzero(values[1:-1] == self._quote) + 1
        first = int(self._inside)
        good = self._ends[values[at[first::2] - 1]].all() and self._ends[values[at[1 - first :: 2] + 1]].all()
        self._inside ^= len(at) % 2 == 1
        return bool(good) and (bool(chunk) or not self._inside)


def write_plain(file: str, form: CSVFormat, target: Path, where: str) -> None:
    """Write the rows of a file as a plain one, without a header: UTF-8, commas, quotes, line feeds.

    Raises:
        SourceError: naming file and line.
    """
    nulls = frozenset(form.nulls) if form.keeps_quoted else frozenset()
    with target.open("w", encoding="utf-8", newline="") as out:
        for _, record in itertools.islice(read_rows(file, form, where), int(form.header), None):
            # a line without anything in it would be left out
            plain = ["NULL" if f in nulls and not isinstance(f, Quoted) else quoted_field(f) for f in record]
            out.write(",".join(plain) + "\n")


def quoted_field(text: str) -> str:
    """A text as a field in quotes."""
    return '"' + text.replace('"', '""') + '"'


@contextmanager
def open_text_file(file: str, where: str) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked where it is packed (.gz, .zst).

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with _decompressed(file) as raw:
            yield raw
    except (OSError, EOFError) as bad:
        raise SourceError(f"{where}: {file}: {getattr(bad, 'strerror', None) or bad}") from bad


def _decompressed(file: str) -> io.BufferedReader:
    name = file.casefold()
    if name.endswith(".gz"):
        import gzip

        return io.BufferedReader(gzip.open(file))
    if name.endswith(".zst"):
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(file), "zstd"))
    return Path(file).open("rb")


def _encoding(raw: io.BufferedReader, form: CSVFormat, file: str, where: str) -> str:
    """The encoding, that a byte order mark is left out by; the file is at its beginning afterwards.

    Raises:
        SourceError: a byte order mark of another encoding.
    """
    start = raw.peek(16)[:16]
    refuse_no_text(start, file, where)
    name = codecs.lookup(form.encoding).name
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark) and not name.startswith(encoding):
            raise SourceError(
                f"{where}: {file} begins with the byte order mark of {encoding.upper()}, but is read as "
                f"{form.encoding}: encoding={encoding!r}"
            )
    return "utf-8-sig" if name == "utf-8" else form.encoding


def _not_decoded(file: str, encoding: str, bad: UnicodeError) -> str:
    """Where text is not of an encoding."""
    advice = "state its encoding: encoding='latin-1', 'cp1252', 'utf-16', …"
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return f"{file}: not {encoding}: {bad.reason if isinstance(bad, UnicodeDecodeError) else bad}; {advice}"
    with open_text_file(file, file) as raw:
        for number, line in enumerate(raw, 1):
            try:
                line.decode(encoding)
            except UnicodeError:
                shown = printable(line.decode("ascii", "backslashreplace").strip()[:_SHOWN])
                return f"{file}: line {number} is not {encoding.removesuffix('-sig')}: {shown}; {advice}"
    return f"{file}: not {encoding}: {bad}; {advice}"
