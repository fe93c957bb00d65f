"""Drawing where standard output is not a terminal: the text that Rich would draw there, without importing it.

Rich takes 0.1 s to import, as long as a read and all that it needs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from headwater.cli.plain import shown
from headwater.cli.sheet import Drawable, Fields, Line, Lines, Sheet
from headwater.errors import printable

_GAP = "  "
_RULE = "─"
_MORE = "…"
"""Of a shortened list; as wide as a letter."""


def text_of(drawables: tuple[Drawable, ...]) -> str | None:
    """What is printed; None where only Rich knows how wide the text is, or standard output does not take it."""
    lines: list[str] = []
    for position, drawable in enumerate(drawables):
        if position and isinstance(drawable, (Sheet, Fields)):
            lines.append("")
        lines += _lines(drawable)
    if not all(line.replace(_MORE, "").isascii() for line in lines):
        return None
    text = "".join(f"{line}\n" for line in lines).replace("\0", _RULE)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return None
    return text


def _lines(drawable: Drawable) -> Iterator[str]:
    match drawable:
        case str():
            yield printable(drawable)
        case Line():
            yield printable(drawable.text)
        case Lines():
            yield from map(printable, drawable.text.split("\n"))
        case Fields():
            yield from _fields(drawable)
        case Sheet():
            yield from _table(drawable)


def _fields(fields: Fields) -> Iterator[str]:
    if fields.title:
        yield printable(fields.title)
    pairs = [(printable(name), shown(value)) for name, value in fields.filled]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        yield f"{name:<{width}}{_GAP}{value}".rstrip()


def _table(sheet: Sheet) -> Iterator[str]:
    if sheet.title:
        yield printable(sheet.title)
    columns = []
    for i, name in enumerate(sheet.columns):
        cells = [printable(name), *(shown(row[i]) for row in sheet.rows)]
        width = max(map(len, cells))
        columns.append([cell.rstrip().rjust(width) if sheet.is_numeric(i) else cell.ljust(width) for cell in cells])
    if not columns:
        return
    heading, *rows = (_GAP.join(cells) for cells in zip(*columns, strict=True))
    yield heading.rstrip()
    # no text has this character: printable() escapes it
    yield "\0" * len(heading)
    for row in rows:
        yield row.rstrip()
