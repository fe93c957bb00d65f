"""Promote, rollback, retire: what they do, what they refuse, and what they say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.service import FeatureService
from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource, TableSource
from headwater.definitions.view import FeatureView
from headwater.errors import ChangeRefused, FeatureViewNotFound, VersionNotFound
from headwater.planning.advance import advance
from headwater.planning.catching_up import Watermarks
from headwater.planning.diff import plan
from headwater.planning.pointers import go_live, pointer_change, promote, request_promotion, retire, roll_back, way_out
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.stages import Action, Kind, Stage
from headwater.planning.watermark import Watermark
from headwater.types import Float64, String

NOW = datetime(2024, 1, 1, tzinfo=UTC)
V1, V2 = ("weather", "1.0.0"), ("weather", "2.0.0")


def view(*names: str, source: Source | None = None, **other: Any) -> FeatureView:
    airport = Entity("airport", {"airport": String})
    features = [Feature(n, Float64) for n in names]
    source = source or PushSource(event_time="t")
    return FeatureView("weather", entity=airport, source=source, features=features, **other)


def applied(*lists: list[Any], log_head: int = 0) -> RegistrySnapshot:
    snapshot = RegistrySnapshot("p")
    for definitions in lists:
        stages = plan(snapshot, definitions, whole_project=False, now=NOW).stages
        snapshot = advance(snapshot, stages, now=NOW, log_head=log_head)
    return snapshot


def run(snapshot: RegistrySnapshot, stages: tuple[Stage, ...]) -> RegistrySnapshot:
    return advance(snapshot, stages, now=NOW)


@pytest.fixture
def two() -> RegistrySnapshot:
    """1.0.0 live, 2.0.0 beside."""
    return applied([view("a", version="1.0.0")], [view("b", version="2.0.0")], log_head=3)


@pytest.mark.parametrize(
    ("marks", "refused"),
    [
        ({V1: Watermark(5, 5), V2: Watermark(5, 5)}, False),
        ({V1: Watermark(5, 5), V2: Watermark(6, 7)}, False),
        ({V1: Watermark(5, 5), V2: Watermark(4, 9)}, True),
        ({V1: Watermark(5, 5), V2: Watermark(9, 4)}, True),
        ({V1: Watermark(5, 5)}, True),
        ({V2: Watermark(0, 3)}, False),
        ({V2: Watermark(9, 2)}, True),
        ({}, True),
    ],
)
def test_promote_needs_both_parts_of_the_watermark(two: RegistrySnapshot, marks: Watermarks, refused: bool) -> None:
    if refused:
        with pytest.raises(ChangeRefused, match=r"version 2\.0\.0 has not caught up with the live version: .*--force"):
            promote(two, "weather", "2.0.0", marks, force=False)
        marks = {}
    after = run(two, promote(two, "weather", "2.0.0", marks, force=refused))
    assert (after.views["weather"].live, after.views["weather"].previous) == ("2.0.0", "1.0.0")


def test_where_nothing_was_ever_written_or_materialized_there_is_nothing_to_reach() -> None:
    snapshot = applied([view("a", version="1.0.0")], [view("b", version="2.0.0")])
    assert promote(snapshot, "weather", "2.0.0", {}, force=False)


def test_promote_says_how_far_each_is(two: RegistrySnapshot) -> None:
    marks = {V1: Watermark(1_000_000, 4), V2: Watermark(position=2)}
    with pytest.raises(ChangeRefused) as refused:
        promote(two, "weather", "2.0.0", marks, force=False)
    assert "2.0.0 is materialized from the log alone (log position 2)" in str(refused.value)
    assert "the live 1.0.0 up to 1970-01-01 00:00:01.000000 UTC (log position 4)" in str(refused.value)
    with pytest.raises(ChangeRefused, match=r"2\.0\.0 is materialized not at all"):
        promote(two, "weather", "2.0.0", {V1: Watermark(1, 1)}, force=False)


def test_promote_refuses_what_is_not_there_or_retired(two: RegistrySnapshot) -> None:
    with pytest.raises(FeatureViewNotFound, match="did you mean 'weather'"):
        promote(two, "wether", "2.0.0", {}, force=True)
    with pytest.raises(VersionNotFound, match=r"no version '3\.0\.0'; it has 1\.0\.0, 2\.0\.0"):
        promote(two, "weather", "3.0.0", {}, force=True)
    with pytest.raises(ChangeRefused, match="is retired"):
        promote(run(two, retire(two, "weather", "2.0.0")), "weather", "2.0.0", {}, force=True)
    assert promote(two, "weather", "1.0.0", {}, force=False) == ()


def test_promote_of_another_version_means_that_nothing_waits_any_more() -> None:
    snapshot = applied([view("a", version="1.0.0")], [view("b", version="2.0.0")], [view("a", "c")])
    assert snapshot.views["weather"].waiting == "1.1.0"
    after = run(snapshot, promote(snapshot, "weather", "2.0.0", {}, force=True))
    assert after.views["weather"].waiting is None


def test_rollback_goes_back_once(two: RegistrySnapshot) -> None:
    with pytest.raises(
        ChangeRefused, match=r"nothing to roll back to.*other versions: 2\.0\.0 \('headwater promote weather 2\.0\.0'\)"
    ):
        roll_back(two, "weather")
    promoted = run(two, promote(two, "weather", "2.0.0", {}, force=True))
    back = run(promoted, roll_back(promoted, "weather"))
    record = back.views["weather"]
    assert (record.live, record.previous, record.versions["2.0.0"].held) == ("1.0.0", None, True)
    with pytest.raises(ChangeRefused, match="no version was live before"):
        roll_back(back, "weather")
    again = run(back, promote(back, "weather", "2.0.0", {}, force=True)).views["weather"]
    assert (again.live, again.previous, again.versions["2.0.0"].held) == ("2.0.0", "1.0.0", False)


def test_a_version_that_waits_is_live_after_a_rollback_to_it_and_waits_no_longer() -> None:
    snapshot = applied([view("a")], [view("a", "b")])
    promoted = run(snapshot, promote(snapshot, "weather", "1.1.0", {}, force=True))
    # applied again, the one before waits to go live by itself
    asked = advance(promoted, plan(promoted, [view("a")], whole_project=False, now=NOW).stages, now=NOW)
    assert (asked.views["weather"].live, asked.views["weather"].waiting) == ("1.1.0", "1.0.0")
    record = run(asked, roll_back(asked, "weather")).views["weather"]
    assert (record.live, record.previous, record.waiting) == ("1.0.0", None, None)


@pytest.mark.parametrize("number", ["1.0.0", "2.0.0"])
def test_a_promote_of_an_older_version_holds_the_newer_ones_as_a_rollback_does(number: str) -> None:
    lists = [[view("a")], [view("b")], [view("c")]]
    snapshot = applied(*lists)
    marks = {("weather", f"{n}.0.0"): Watermark(5, 5) for n in (1, 2, 3)}
    promoted = run(snapshot, promote(snapshot, "weather", number, marks, force=True))
    if number == "1.0.0":
        # where it was live all the time, nothing says that it is to stay so
        promoted = run(snapshot, promote(snapshot, "weather", "2.0.0", marks, force=True))
        promoted = run(promoted, promote(promoted, "weather", number, marks, force=True))
    for _ in range(2):
        unchanged = plan(promoted, lists[-1], whole_project=False, now=NOW)
        assert not unchanged.stages
        assert "'headwater promote weather 3.0.0'" in str(unchanged)
        promoted = run(promoted, go_live(promoted, marks).stages)
        assert promoted.views["weather"].live == number
    newer = run(promoted, plan(promoted, [view("d")], whole_project=False, now=NOW).stages)
    assert newer.views["weather"].waiting == "4.0.0"
    back = run(promoted, promote(promoted, "weather", "3.0.0", marks, force=True)).views["weather"]
    assert (back.live, back.versions["3.0.0"].held) == ("3.0.0", False)


def test_a_version_that_was_held_is_not_once_it_is_rolled_back_to() -> None:
    snapshot = applied([view("a")], [view("b")])
    newest = run(snapshot, promote(snapshot, "weather", "2.0.0", {}, force=True))
    older = run(newest, promote(newest, "weather", "1.0.0", {}, force=True))
    record = run(older, roll_back(older, "weather")).views["weather"]
    assert (record.live, record.versions["2.0.0"].held, record.versions["1.0.0"].held) == ("2.0.0", False, True)


def test_a_version_that_nobody_reads_any_more_retires_with_its_last_reader() -> None:
    model = [FeatureService("model", ["weather:a"])]
    snapshot = applied([view("a"), *model])
    for number, name in ((2, "b"), (3, "c")):
        snapshot = advance(snapshot, plan(snapshot, [view(name)], whole_project=False, now=NOW).stages, now=NOW)
        snapshot = run(snapshot, promote(snapshot, "weather", f"{number}.0.0", {}, force=True))
    assert snapshot.views["weather"].versions["1.0.0"].retired_at is None
    later = [view("c"), FeatureService("model", ["weather:c"])]
    snapshot = advance(snapshot, plan(snapshot, later, whole_project=False, now=NOW).stages, now=NOW)
    snapshot = run(snapshot, promote(snapshot, "model", "2.0.0", {}, force=True))
    after = run(snapshot, retire(snapshot, "model", "1.0.0"))
    assert after.views["weather"].versions["1.0.0"].retired_at == NOW


def test_the_only_version_and_a_removed_view_say_what_to_do() -> None:
    only = applied([view("a")])
    with pytest.raises(ChangeRefused, match=r"there is no other version to promote.*--allow-removals"):
        retire(only, "weather", "1.0.0")
    removed = run(only, (Stage(Action.RETIRE, Kind.VIEW, "weather", "1.0.0"),))
    with pytest.raises(VersionNotFound, match="'weather' was removed, no version is live: apply it again"):
        removed.view("weather").version()
    with pytest.raises(ChangeRefused, match="no version is live: apply it again"):
        roll_back(removed, "weather")


def test_retire_refuses_what_is_live_or_pinned(two: RegistrySnapshot) -> None:
    with pytest.raises(ChangeRefused, match=r"1\.0\.0 is live; promote another version first: 2\.0\.0"):
        retire(two, "weather", "1.0.0")
    pinned = advance(
        two,
        plan(two, [FeatureService("model", ["weather@2.0.0:b"])], whole_project=False, now=NOW).stages,
        now=NOW,
    )
    with pytest.raises(ChangeRefused, match=r"2\.0\.0 is read by model@1\.0\.0"):
        retire(pinned, "weather", "2.0.0")
    after = run(two, retire(two, "weather", "2.0.0"))
    assert after.views["weather"].versions["2.0.0"].retired_at == NOW
    assert retire(after, "weather", "2.0.0") == ()


def test_retiring_the_version_before_leaves_nothing_to_roll_back_to(two: RegistrySnapshot) -> None:
    promoted = run(two, promote(two, "weather", "2.0.0", {}, force=True))
    after = run(promoted, retire(promoted, "weather", "1.0.0"))
    assert after.views["weather"].previous is None
    with pytest.raises(ChangeRefused, match="no version was live before"):
        roll_back(after, "weather")


def test_a_service_is_promoted_once_each_version_it_pins_is_as_far() -> None:
    snapshot = applied(
        [view("a", version="1.0.0"), FeatureService("model", ["weather:a"])],
        [view("a", "b", version="2.0.0"), FeatureService("model", ["weather@2.0.0:b"])],
    )
    marks = {V1: Watermark(5, 5)}
    with pytest.raises(ChangeRefused, match=r"feature service 'model': .* weather 2\.0\.0 is materialized not at all"):
        promote(snapshot, "model", "2.0.0", marks, force=False)
    after = run(snapshot, promote(snapshot, "model", "2.0.0", {**marks, V2: Watermark(5, 5)}, force=False))
    assert after.services["model"].live == "2.0.0"
    back = run(after, roll_back(after, "model"))
    assert back.services["model"].live == "1.0.0"
    assert back.services["model"].versions["2.0.0"].held


def test_a_version_goes_live_by_itself_only_once_a_run_filled_it() -> None:
    snapshot = applied([view("a")], [view("a", "b")])
    found = go_live(snapshot, {})
    assert found.stages == ()
    assert found.reasons == {(Kind.VIEW, "weather"): "1.1.0 is not materialized"}
    (stage,) = go_live(snapshot, {("weather", "1.1.0"): Watermark()}).stages
    assert (stage.action, stage.base, stage.version) == (Action.GO_LIVE, "1.0.0", "1.1.0")
    behind = go_live(snapshot, {("weather", "1.1.0"): Watermark(4, 4), V1: Watermark(5, 4)})
    assert "1.1.0 is materialized up to" in behind.reasons[Kind.VIEW, "weather"]


def test_what_waits_longer_than_a_newer_one_is_retired_with_the_old_ones() -> None:
    snapshot = applied([view("a")], [view("a", "b")], [view("a", "b", "c")])
    found = go_live(snapshot, {("weather", "1.2.0"): Watermark()})
    assert [(s.action, s.version) for s in found.stages] == [(Action.GO_LIVE, "1.2.0"), (Action.RETIRE, "1.1.0")]
    assert [v.version for v in run(snapshot, found.stages).views["weather"].active] == ["1.0.0", "1.2.0"]


def service(*items: Any) -> FeatureService:
    return FeatureService("model", list(items))


def other(*names: str) -> FeatureView:
    return replace(view(*names), name="other")


def removed_while_read(source: Source | None = None) -> RegistrySnapshot:
    """The live version of a view was removed with its files; the one before it is read by a service, and stays."""
    snapshot = applied(
        [view("a", source=source), other("a"), service("weather:a")], [view("b", source=source), other("a")]
    )
    snapshot = run(snapshot, promote(snapshot, "weather", "2.0.0", {}, force=True))
    snapshot = run(snapshot, plan(snapshot, [other("a"), service("other:a")], whole_project=True, now=NOW).stages)
    record = snapshot.views["weather"]
    assert (record.live, record.previous, record.waiting) == (None, None, None)
    assert [v.version for v in record.active] == ["1.0.0"]
    return snapshot


def test_a_view_without_a_live_version_cannot_be_rolled_back() -> None:
    with pytest.raises(ChangeRefused, match=r"'weather': no version is live; promote one of 1\.0\.0"):
        roll_back(removed_while_read(), "weather")


def test_what_was_removed_and_is_still_active_is_live_at_once_where_it_is_put_back() -> None:
    snapshot = removed_while_read()
    found = plan(snapshot, [view("a"), other("a"), service("other:a")], whole_project=True, now=NOW)
    assert "weather: none → 1.0.0, live" in str(found)
    assert run(snapshot, found.stages).views["weather"].live == "1.0.0"


def test_services_read_a_view_that_is_put_back_otherwise_once_it_is_filled() -> None:
    source = TableSource(event_time="t")
    snapshot = removed_while_read(source)
    put_back = [view("a", "c", source=source), other("a"), service("other:a")]
    found = plan(snapshot, put_back, whole_project=True, now=NOW)
    after = run(snapshot, found.stages)
    live = after.views["weather"].live
    assert live not in (None, "1.0.0") and not after.views["weather"].version().caught_up
    assert dict(after.services["model"].versions["1.0.0"].reads) == {V1: "1.0.0"}
    filled = run(after, go_live(after, {("weather", str(live)): Watermark(), V1: Watermark()}).stages)
    assert dict(filled.services["model"].versions["1.0.0"].reads) == {V1: live}


def test_apply_promote_goes_back_to_the_version_before_but_not_to_one_that_was_rolled_back_from() -> None:
    lists = [service("weather:a")], [service("weather:a", "weather:b")]
    snapshot = applied([view("a", "b"), *lists[0]], lists[1])
    snapshot = run(snapshot, promote(snapshot, "model", "1.1.0", {V1: Watermark()}, force=False))
    back = plan(snapshot, lists[0], whole_project=False, now=NOW)
    (stage,) = request_promotion(snapshot, back)
    assert (stage.action, stage.version) == (Action.AWAIT, "1.0.0")
    rolled_back = run(snapshot, roll_back(snapshot, "model"))
    assert request_promotion(rolled_back, plan(rolled_back, lists[1], whole_project=False, now=NOW)) == ()


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("weather:a", "'headwater apply', then 'headwater promote model 2.0.0', makes it read 2.0.0"),
        ("weather@1.0.0:a", "change its list, then 'headwater apply'"),
    ],
)
def test_promote_names_what_makes_a_service_read_the_live_version(item: str, says: str) -> None:
    snapshot = applied([view("a", version="1.0.0"), service(item)], [view("a", ttl="1h", version="2.0.0")])
    stages = promote(snapshot, "weather", "2.0.0", {}, force=True)
    after = run(snapshot, stages)
    (line,) = pointer_change(after, "weather", stages).still_reading
    assert line.startswith("model 1.0.0 still reads weather 1.0.0, not the live 2.0.0") and says in line
    applied_again = plan(after, [service(item)], whole_project=False, now=NOW).stages
    assert bool(applied_again) == ("change its list" not in line), "the cure works"
    cures = ("headwater apply", "headwater promote model 2.0.0", "headwater retire model 1.0.0")
    expected = (*cures, "headwater retire weather 1.0.0") if applied_again else ()
    assert way_out(after, "weather", "1.0.0") == expected
    if applied_again:
        after = run(after, applied_again)
        after = run(after, promote(after, "model", "2.0.0", {}, force=False))
        after = run(after, retire(after, "model", "1.0.0"))
        assert retire(after, "weather", "1.0.0")


def test_promote_says_that_the_live_version_leaves_out_what_was_written() -> None:
    snapshot = applied([view("a", version="1.0.0"), service("weather:a")], [view("a", "gust", version="1.1.0")])
    stages = promote(snapshot, "weather", "1.1.0", {}, force=True)
    (line,) = pointer_change(run(snapshot, stages), "weather", stages).still_reading
    assert (
        line
        == "model 1.0.0 still reads weather 1.0.0, not the live 1.1.0, which leaves out written rows that lack gust"
    )
    assert way_out(run(snapshot, stages), "weather", "1.0.0") == ()
