"""HTML tables: what notebooks show of results and reports, and the tables of the advisor's page."""

from collections.abc import Iterable, Sequence

from headwater.deferred import deferred

html = deferred("html")


class Markup(str):
    """A cell that is HTML already: it is not escaped."""

    __slots__ = ()


def html_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    notes: Iterable[str] = (),
    row_heads: bool = False,
    css: str = "",
) -> str:
    """An HTML table.

    Args:
        head: the names of the columns, as plain text.
        rows: the cells, as plain text that is escaped here, or as `Markup`.
        caption: plain text above it; empty for none.
        notes: plain text, a paragraph each, below the table.
        row_heads: whether the first cell of each row is its heading; headings then say what they head (`scope`).
        css: the class of the table; empty for none.
    """
    column = '<th scope="col">' if row_heads else "<th>"
    first = '<th scope="row">{}</th>' if row_heads else "<td>{}</td>"
    top = "".join(f"{column}{escaped(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join((first if i == 0 else '<td>{}</td>').format(escaped(cell)) for i, cell in enumerate(row))}</tr>"
        for row in rows
    )
    title = f"<caption>{escaped(caption)}</caption>" if caption else ""
    kind = f' class="{css}"' if css else ""
    return f"<table{kind}>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>{paragraphs(notes)}"


def paragraphs(lines: Iterable[str]) -> str:
    """A paragraph for each line of plain text."""
    return "".join(f"<p>{escaped(line)}</p>" for line in lines)


def escaped(text: str) -> str:
    """The text as HTML: `Markup` as it is, all else escaped."""
    return text if isinstance(text, Markup) else html.escape(text)


def below_each_other(texts: Iterable[str]) -> Markup:
    """Plain texts below each other, as one cell."""
    return Markup("<br>".join(map(escaped, texts)))
