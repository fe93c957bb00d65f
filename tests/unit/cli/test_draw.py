"""Drawing: what is piped is plain, whole and unfolded; what a user's data holds is never markup."""

from datetime import UTC, datetime

from headwater.cli.draw import ProgressBars, show
from headwater.cli.sheet import Fields, Line, Lines, Sheet
from headwater.observer import Progress


def drawn(capsys, *drawables):
    show(*drawables)
    return capsys.readouterr().out


def test_a_sheet_is_a_table_with_numbers_to_the_right(capsys):
    rows = [["JFK", 1, None, datetime(2026, 7, 1, tzinfo=UTC)], ["a long name", 1000, True, None]]
    lines = [line.rstrip() for line in drawn(capsys, Sheet(["airport", "n", "ok", "time"], rows, "title")).splitlines()]
    assert lines[0] == "title"
    assert lines[1].split() == ["airport", "n", "ok", "time"]
    assert lines[3] == "JFK              1  -     2026-07-01 00:00:00Z"
    assert lines[4] == "a long name  1,000  true  -"


def test_empty_columns_are_left_out_but_the_first():
    sheet = Sheet.of("", ["name", "owner", "n"], [[None, "", 0], [None, None, 1]])
    assert sheet.columns == ["name", "n"] and sheet.rows == [[None, 0], [None, 1]]


def test_what_is_piped_is_never_folded_nor_coloured(capsys):
    text = "word " * 100
    out = drawn(capsys, Sheet(["a", "b"], [[text, "STALE"]]), Line(text, "red"), text, Lines("+ " + text))
    assert out.count(text.strip()) == 4
    assert "\x1b" not in out


def test_brackets_of_data_are_shown(capsys):
    out = drawn(
        capsys, Sheet(["[bold]"], [["[red]x[/red]"], [":smile:"]], "[dim]t"), Line("[i]y"), Fields([("[a]", "[b]")])
    )
    for text in ("[bold]", "[red]x[/red]", ":smile:", "[dim]t", "[i]y", "[a]", "[b]"):
        assert text in out


def test_fields_leave_out_what_is_empty(capsys):
    out = drawn(capsys, Fields([("name", "weather"), ("owner", ""), ("tags", {}), ("rows", 0)], "view"))
    assert [line.split() for line in out.splitlines()] == [["view"], ["name", "weather"], ["rows", "0"]]


def test_progress_goes_from_start_to_end():
    with ProgressBars() as bars:
        bars(Progress("materialize weather@1.0.0"))
        bars(Progress("materialize weather@1.0.0", 50, 100))
        bars(Progress("read", 5, unit="rows"))
        bars(Progress("materialize weather@1.0.0", 100, 100, finished=True))
        bars(Progress("read", 9, finished=True))
