"""HTML tables: text is escaped, markup is not, and headings say what they head."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from headwater.html_tables import Group, Markup, below_each_other, html_table


class Cells(HTMLParser):
    """The texts of a table's cells, a list for each row."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]))


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(WORDS, min_size=n, max_size=n), min_size=1)), st.booleans()
)
def test_a_browser_reads_the_cells_that_were_given(table, row_heads):
    page = Cells()
    page.feed(html_table(table[0], table[1:], row_heads=row_heads))
    assert page.rows == table


def test_rows_in_parts():
    made = html_table(["a", "b"], [Group("<one>"), ["x", "1"], Group("two"), ["y", "2"]])
    parts = made.split("<tbody>")[1:]
    assert [part.count("<tr>") for part in parts] == [1, 1] and made.count("</tbody>") == 2
    assert parts[0].startswith('<tr class="group"><th scope="rowgroup" colspan="2">&lt;one&gt;</th></tr><tr><td>x</td>')


def test_markup_headings_notes_and_caption():
    made = html_table(
        ["a", "b"], [["x<y", Markup("<b>1</b>")]], caption="c & d", notes=["<n>"], row_heads=True, css="wide"
    )
    assert made.startswith('<table class="wide"><caption>c &amp; d</caption><thead><tr><th scope="col">a</th>')
    assert '<th scope="row">x&lt;y</th><td><b>1</b></td>' in made and made.endswith("</table><p>&lt;n&gt;</p>")
    assert below_each_other(["a<b", "c"]) == "a&lt;b<br>c"
