"""Declared gaps of an engine: strict, each with its error."""

import pyarrow as pa
import pytest

from headwater.errors import SourceError
from headwater.testing.gaps import Gap, Gaps, Mark
from headwater.testing.own_tables_suite import AbilitiesSuite


class Engine:
    """One whose every answer ends in an error, or is right."""

    windows = False

    def __init__(self, error=None):
        self.error = error

    def history(self, request):
        if self.error is not None:
            raise self.error
        rows = pa.table({"thing": [2, 0], "v__x": [3.0, None]})

        class Run:
            schema = rows.schema

            def batches(self, size):
                return rows.to_batches()

        return Run()


def tried(gaps, error=None):
    suite = AbilitiesSuite()
    suite.gaps = Gaps(*gaps)
    suite.test_it_is_able_or_says_that_it_is_not(Engine(error), lambda table, name: f"SELECT * FROM {name}", "spines")


def test_a_gap_is_what_was_declared():
    tried([])
    tried([Gap("spines", Mark.NEVER, SourceError, "no table")], SourceError("no table there"))


def test_what_is_not_declared_fails():
    with pytest.raises(SourceError):
        tried([], SourceError("no table there"))
    with pytest.raises(SourceError):
        tried([Gap("nan", Mark.NEVER, AssertionError)], SourceError("no table there"))


def test_a_gap_that_was_closed_fails():
    with pytest.raises(AssertionError, match=r"spines: declared as a gap \(not yet\), but it works"):
        tried([Gap("spines", Mark.NOT_YET, SourceError, "no table")])


@pytest.mark.parametrize("error", [SourceError("something else"), ValueError("no table")])
def test_a_gap_that_ends_in_another_error_fails(error):
    with pytest.raises((AssertionError, ValueError), match=r"something else|no table"):
        tried([Gap("spines", Mark.NOT_YET, SourceError, "no table")], error)


def test_a_gap_names_an_ability_once_and_its_error():
    with pytest.raises(ValueError, match=r"no ability .spine.; did you mean .spines."):
        Gap("spine", Mark.NEVER, SourceError, "x")
    with pytest.raises(ValueError, match="say what the error's text matches"):
        Gap("spines", Mark.NEVER, SourceError)
    with pytest.raises(ValueError, match="twice"):
        Gaps(Gap("nan", Mark.NEVER, AssertionError), Gap("nan", Mark.NOT_YET, AssertionError))
