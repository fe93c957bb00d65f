"""How a CSV file is written: each option has a stated default, and none is found by looking at the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headwater.definitions.csv_nulls import CSV_NULLS
from headwater.definitions.time_format import TimeFormat, time_format
from headwater.errors import UsageError, nearest
from headwater.values import Value

_DOUBLED = '"'
"""The escape that is meant unless another is stated: the quote, whatever it is, written twice."""
_TAB_ENDINGS = (".tsv", ".tab")


class CSVFormat(Value, frozen=True, kw_only=True):
    """The options of a CSV file.

    Attributes:
        delimiter: what separates the fields; None: a comma, of a .tsv or .tab file a tab.
        quote: what encloses a field that holds delimiters, line breaks or quotes; None: nothing does.
        escape: what stands before a quote (or before itself) within quotes, and means nothing elsewhere; unless
            another character is stated the quote itself, which is then written twice; None: nothing.
        comment: lines that begin with it are left out; None: none are.
        header: whether the first line names the columns; else they are column0, column1, ….
        skip: how many lines come before.
        encoding: as Python names it; a byte order mark of UTF-8 is left out.
        decimal: the decimal mark of numbers.
        thousands: what separates the thousands of numbers; None: nothing does.
        date_format: how dates are written, in strftime's directives; None: ISO 8601.
        timestamp_format: how times are written, likewise.
        nulls: the texts that mean NULL, in quotes or not. Unless others are stated, a text in quotes is itself in a
            column of text or bytes: `""` is the empty text, as most programs write it.
    """

    delimiter: str | None = None
    quote: str | None = '"'
    escape: str | None = _DOUBLED
    comment: str | None = None
    header: bool = True
    skip: int = 0
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str | None = None
    date_format: str | None = None
    timestamp_format: str | None = None
    nulls: tuple[str, ...] = CSV_NULLS

    def delimiter_of(self, path: str) -> str:
        """The delimiter of a file."""
        if self.delimiter is not None:
            return self.delimiter
        name = path.casefold()
        for packed in (".gz", ".zst"):
            name = name.removesuffix(packed)
        return "\t" if name.endswith(_TAB_ENDINGS) else ","

    @property
    def quote_escape(self) -> str | None:
        """What stands before a quote within quotes; the quote itself where it is written twice; None: nothing."""
        return self.quote if self.escape == _DOUBLED else self.escape

    @property
    def keeps_quoted(self) -> bool:
        """Whether a field in quotes is never NULL in a column of text or bytes."""
        return self.nulls == CSV_NULLS

    @property
    def times(self) -> TimeFormat:
        """How times are written."""
        return time_format(self.timestamp_format)

    @property
    def dates(self) -> TimeFormat:
        """How dates are written."""
        return time_format(self.date_format, what="date_format")

    @property
    def meaning(self) -> dict[str, Any]:
        """The options that are not at their default, as plain data."""
        plain = {name: getattr(self, name) for name in CSV_OPTIONS}
        return {name: value for name, value in plain.items() if value != getattr(_DEFAULT, name)}


_DEFAULT = CSVFormat()
CSV_OPTIONS: tuple[str, ...] = CSVFormat.__struct_fields__

QUOTABLE = ("string", "bytes")
"""The dtypes of columns in which quotes tell a text from NULL."""


def csv_problems(given: CSVFormat) -> Iterator[tuple[str, str]]:
    """What is wrong with options: (option, problem)."""
    for name in ("delimiter", "quote", "escape", "comment", "decimal", "thousands"):
        value = getattr(given, name)
        if value is None and name != "decimal":
            continue
        if not isinstance(value, str) or len(value) != 1 or value in "\r\n\0":
            yield name, f"must be one character, not {value!r}"
    if isinstance(given.delimiter, str) and given.delimiter in (given.quote, given.comment, given.escape):
        yield "delimiter", f"{given.delimiter!r} is also the quote, escape or comment"
    if given.quote is not None and given.quote == given.comment:
        yield "comment", f"{given.comment!r} is also the quote"
    if given.decimal == given.thousands:
        yield "thousands", f"{given.thousands!r} is also the decimal mark"
    if not isinstance(given.header, bool):
        yield "header", f"must be True or False, not {given.header!r}"
    if not isinstance(given.skip, int) or isinstance(given.skip, bool) or given.skip < 0:
        yield "skip", f"must be a number of lines, not {given.skip!r}"
    try:
        "".encode(given.encoding)
    except (LookupError, TypeError, ValueError):
        yield (
            "encoding",
            f"{given.encoding!r} is not a known encoding, such as 'utf-8', 'utf-16', 'latin-1' or 'cp1252'",
        )
    for name in ("date_format", "timestamp_format"):
        value = getattr(given, name)
        try:
            if value is not None and not isinstance(value, str):
                raise UsageError(f"a format such as '%d.%m.%Y' must be given, not {value!r}")
            time_format(value, what=name)
        except UsageError as bad:
            yield name, str(bad).removeprefix(f"{name}: ")
    if not all(isinstance(null, str) for null in given.nulls):
        yield "nulls", f"must be the texts that mean NULL, not {given.nulls!r}"


def csv_format(options: Mapping[str, str]) -> CSVFormat:
    """The format that texts of the command line say: `delimiter=';'`, `decimal=,`, `nulls=NA,-`, `header=false`.

    `none` means None; `tab`, `\\t`, `comma`, `semicolon`, `space` and `pipe` mean the character.

    Raises:
        UsageError: an option that does not exist, or a value that it does not take.
    """
    given: dict[str, Any] = {}
    for name, text in options.items():
        if name not in CSV_OPTIONS:
            raise UsageError(f"--csv {name}=…: unknown option{nearest(name, CSV_OPTIONS)}")
        if name == "nulls":
            given[name] = tuple(text.split(","))
        elif name == "header":
            if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
                raise UsageError(f"--csv header={text}: write true or false")
            given[name] = text.lower() in ("true", "yes", "1")
        elif name == "skip":
            if not text.isdecimal():
                raise UsageError(f"--csv skip={text}: must be a number of lines")
            given[name] = int(text)
        elif text.lower() == "none" and name != "encoding":
            given[name] = None
        else:
            given[name] = text if name.endswith("format") or name == "encoding" else _CHARACTERS.get(text, text)
    made = CSVFormat(**given)
    for name, problem in csv_problems(made):
        raise UsageError(f"--csv {name}: {problem}")
    return made


_CHARACTERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
