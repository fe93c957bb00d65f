"""Every error becomes a problem document with the same words, and its own class again."""

from datetime import UTC, datetime

import pytest

import headwater as hw
from headwater import errors
from headwater.wire.problems import TYPES, error_of, problem_of


def every(kind: type[hw.HeadwaterError]) -> list[type[hw.HeadwaterError]]:
    return [kind, *(one for below in kind.__subclasses__() for one in every(below))]


KINDS = [kind for kind in every(hw.HeadwaterError) if kind.__module__ == "headwater.errors" and kind.__name__[0] != "_"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_on_the_other_side(kind: type[hw.HeadwaterError]) -> None:
    several = {"problems": ["row 3: column 'x': not a number", "row 7: no key"]}
    bad = kind("what was wrong", **several) if issubclass(kind, errors._WithProblems) else kind("what was wrong")
    problem = problem_of(bad)
    assert 400 <= problem.status < 600
    document = problem.document
    assert document["detail"] == str(bad) and document["type"].startswith(TYPES) and document["title"]
    again = error_of(document, problem.status)
    assert (type(again), str(again), getattr(again, "problems", None)) == (
        kind,
        str(bad),
        getattr(bad, "problems", None),
    )


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (hw.FeatureNotFound("x"), 404),
        (hw.UsageError("x"), 400),
        (hw.RowsRejected("x"), 422),
        (hw.ConsistencyLost("x"), 409),
        (hw.SessionRequired("x"), 400),
        (hw.RegistryConflict("x"), 409),
        (hw.Unavailable("x"), 503),
        (hw.EntityKeyError("x"), 400),
        (hw.ConfigError("x"), 500),
        (hw.AccessDenied("x"), 401),
        (hw.AccessDenied("x", authenticated=True), 403),
    ],
)
def test_statuses(bad: hw.HeadwaterError, status: int) -> None:
    problem = problem_of(bad)
    assert problem.status == status
    assert ("Retry-After" in problem.headers) == (status == 503)


@pytest.mark.parametrize("authenticated", [False, True])
def test_a_denied_access_says_whether_the_key_was_valid(authenticated: bool) -> None:
    problem = problem_of(hw.AccessDenied("x", authenticated))
    assert problem.document["type"] == TYPES + ("forbidden" if authenticated else "unauthorized")
    assert ("WWW-Authenticate" in problem.headers) != authenticated
    again = error_of(problem.document, problem.status)
    assert isinstance(again, hw.AccessDenied) and again.authenticated == authenticated


def test_a_lost_session_comes_with_a_fresh_one() -> None:
    session = hw.Session("store", {"a": 1})
    problem = problem_of(errors.ConsistencyLost("gone", session))
    assert hw.Session.from_token(problem.headers["headwater-session"]) == session


@pytest.mark.parametrize(
    ("status", "kind"), [(503, hw.Unavailable), (429, hw.Unavailable), (413, hw.UsageError), (500, hw.StoreError)]
)
def test_what_is_of_no_known_class_is_told_by_its_status(status: int, kind: type[Exception]) -> None:
    assert type(error_of({"type": "about:blank", "title": "Gone"}, status)) is kind
    assert "Gone" in str(error_of({"title": "Gone"}, status))


def test_the_times_of_a_clock_error_go_with_it() -> None:
    times = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 9, 0, 0, 1, tzinfo=UTC)
    for given in (times, (None, None)):
        again = error_of(problem_of(hw.ClockError("ahead", *given)).document, 503)
        assert isinstance(again, hw.ClockError) and (again.log_clock, again.now) == given
    wrong = error_of({"type": f"{TYPES}clock-error", "detail": "d", "now": 5, "log_clock": "noon"}, 503)
    assert isinstance(wrong, hw.ClockError) and (wrong.log_clock, wrong.now) == (None, None)


@pytest.mark.parametrize(
    "bad",
    [
        hw.FeatureNotFound("x" * 10**6),
        hw.RowsRejected("y" * 10**6, ["z" * 10**6] * 3),
        hw.RowsRejected("events: 100000 of 100000 rows are invalid", [f"row {row}: no key" for row in range(100_000)]),
    ],
    ids=["a detail", "errors", "many errors"],
)
def test_a_problem_is_short_however_much_was_wrong(bad: hw.HeadwaterError) -> None:
    document = problem_of(bad).document
    assert len(document["detail"]) + sum(map(len, document.get("errors", []))) < 100_000
    assert document["detail"][:40] == str(bad)[:40]
    again = error_of(document, 400)
    assert str(again) == document["detail"] and list(getattr(again, "problems", [])) == document.get("errors", [])


def test_of_many_errors_the_first_and_how_many_more_are_sent() -> None:
    errors = problem_of(hw.RowsRejected("x", [f"row {row}" for row in range(1_234)])).document["errors"]
    assert errors[:2] == ["row 0", "row 1"] and errors[-1] == "and 234 others"
