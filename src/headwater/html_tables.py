"""HTML tables: what notebooks show of results and reports, and the tables of the advisor's page."""

from collections.abc import Iterable, Sequence

from headwater.deferred import deferred

html = deferred("html")


class Markup(str):
    """A cell that is HTML already: it is not escaped."""

    __slots__ = ()


_NEXT_PART = "</tbody><tbody>"


class Group(str):
    """The heading of the rows that follow, over all columns."""

    __slots__ = ()


def html_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str] | Group],
    *,
    caption: str = "",
    notes: Iterable[str] = (),
    row_heads: bool = False,
    css: str = "",
) -> str:
    """An HTML table.

    Args:
        head: the names of the columns, as plain text.
        rows: the cells, as plain text that is escaped here, or as `Markup`; a `Group` instead of cells begins a part of
            the table.
        caption: plain text above it; empty for none.
        notes: plain text, a paragraph each, below the table.
        row_heads: whether the first cell of each row is its heading; headings then say what they head (`scope`).
        css: the class of the table; empty for none.
    """
    column = '<th scope="col">' if row_heads else "<th>"
    first = '<th scope="row">{}</th>' if row_heads else "<td>{}</td>"
    top = "".join(f"{column}{escaped(name)}</th>" for name in head)
    body = "".join(_group(row, len(head)) if isinstance(row, Group) else _row(row, first) for row in rows)
    body = body.removeprefix(_NEXT_PART)
    title = f"<caption>{escaped(caption)}</caption>" if caption else ""
    kind = f' class="{css}"' if css else ""
    return f"<table{kind}>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>{paragraphs(notes)}"


def _row(cells: Sequence[str], first: str) -> str:
    shown = ((first if i == 0 else "<td>{}</td>").format(escaped(cell)) for i, cell in enumerate(cells))
    return f"<tr>{''.join(shown)}</tr>"


def _group(title: Group, columns: int) -> str:
    return f'{_NEXT_PART}<tr class="group"><th scope="rowgroup" colspan="{columns}">{escaped(title)}</th></tr>'


def paragraphs(lines: Iterable[str]) -> str:
    """A paragraph for each line of plain text."""
    return "".join(f"<p>{escaped(line)}</p>" for line in lines)


def escaped(text: str) -> str:
    """The text as HTML: `Markup` as it is, all else escaped."""
    return text if isinstance(text, Markup) else html.escape(text)


def below_each_other(texts: Iterable[str]) -> Markup:
    """Plain texts below each other, as one cell."""
    return Markup("<br>".join(map(escaped, texts)))
