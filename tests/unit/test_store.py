"""A store object as a whole: what opening leaves behind, what is left after `close`, how it shows itself."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import headwater as hw
from headwater.errors import RegistryConflict, StoreReadOnly, Unavailable, UsageError
from headwater.registry.registry import FeatureRegistry
from tests.forked import run_forked

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
ROWS = [{"user": 7, "at": NOON, "x": 1.0}]
SPINE = [{"user": 7, "timestamp": NOON}]
USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEW = hw.FeatureView(
    "v", entity=USER, source=hw.TableSource(ROWS, event_time="at"), features=[hw.Feature("x", hw.Float64)]
)


@pytest.fixture
def store() -> Iterator[hw.FeatureStore]:
    with hw.FeatureStore.in_memory([VIEW], clock=lambda: NOON) as store:
        store.materialize()
        yield store


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.get_historical_features(None, ["v:x"], at=5),
        lambda store: store.get_online_features(["v:x"], [7], now=5),
        lambda store: store.prepare(["v:x"]).explain([7], now=5),
        lambda store: store.materialize(start=5),
        lambda store: store.materialize(end=5),
        lambda store: store.status(5),
        lambda store: store.get_online_features(["v:x"], [7]).vectors()[0].calculate_freshness(5),
    ],
)
def test_a_bare_number_is_no_time_anywhere(store: hw.FeatureStore, use: Callable[[Any], object]) -> None:
    with pytest.raises(UsageError, match=r"5 is not a time \(a bare number"):
        use(store)


USES: list[Callable[[hw.FeatureStore], object]] = [
    lambda store: store.registry.snapshot(),
    lambda store: store.plan([VIEW]),
    lambda store: store.apply([VIEW]),
    lambda store: store.promote("v", "1.0.0"),
    lambda store: store.rollback("v"),
    lambda store: store.get_feature_view("v"),
    lambda store: store.list_entities(),
    lambda store: store.get_historical_features(SPINE, ["v:x"]),
    lambda store: store.get_online_features(["v:x"], [7]),
    lambda store: store.prepare(["v:x"]),
    lambda store: store.materialize(),
    lambda store: store.write("v", ROWS),
    lambda store: store.delete("v", [7]),
    lambda store: store.session(),
    lambda store: store.status(),
    lambda store: store.refresh_registry(),
]


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_closed_store_says_so_whatever_is_asked(in_memory: bool, tmp_path: Path) -> None:
    store = hw.FeatureStore.in_memory([VIEW], clock=lambda: NOON) if in_memory else hw.FeatureStore(tmp_path)
    if not in_memory:
        store.apply([VIEW])
    result, reader = store.get_historical_features(SPINE, ["v:x"]), store.prepare(["v:x"])
    store.close()
    store.close()
    for use in USES:
        with pytest.raises(Unavailable, match=r"this FeatureStore of .* was closed"):
            use(store)
    with pytest.raises(Unavailable, match="was closed"):
        result.to_arrow()
    with pytest.raises(Unavailable, match="was closed"):
        reader.read([7])


def test_looking_at_a_folder_leaves_nothing_there(tmp_path: Path) -> None:
    with hw.FeatureStore(tmp_path) as store:
        assert len(store.plan([VIEW]).stages) == 2
        assert store.list_feature_views() == [] and store.list_entities() == []
        assert store.registry.changes() == [] and store.registry.watermarks() == {}
        assert not list(tmp_path.iterdir())
        with hw.FeatureStore(tmp_path) as other:
            other.apply([VIEW])
        store.refresh_registry()
        assert [view.name for view in store.list_feature_views()] == ["v"]
    assert (tmp_path / ".headwater" / "registry.db").is_file()


READ_ONLY = """
import os, sys
import headwater as hw
import headwater.online.stores.lmdb.store
from headwater.errors import StoreReadOnly

with hw.FeatureStore.in_memory([]) as warm:  # imports everything, which the other user may not
    warm.status()
if os.getuid() == 0:  # whom no permission stops
    os.setuid(12345)
with hw.FeatureStore(sys.argv[1]) as store:
    print(store.plan())
    try:
        store.apply()
    except StoreReadOnly as refused:
        print("refused:", refused)
    if sys.argv[2] == "True":  # its tokens cannot be signed: no secret was made before, and none can be made now
        print("session:", "." in store.session().token)
"""
DEFINITIONS = """
import headwater as hw

user = hw.Entity("user", join_keys={"user": hw.Int64})
view = hw.FeatureView("v", entity=user, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Float64)])
"""


@pytest.mark.parametrize("applied", [False, True])
def test_a_read_only_checkout_can_plan(applied: bool) -> None:
    # pytest's own folder is closed to other users
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "features.py").write_text(DEFINITIONS)
        if applied:
            with hw.FeatureStore(folder) as store:
                store.apply()
                store.status()
            (folder / "features.py").write_text(DEFINITIONS.replace('"x", hw.Float64)', '"y", hw.Float64)'))
        for path in [*folder.rglob("*"), folder]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        said = run_forked([sys.executable, "-c", READ_ONLY, name, applied])
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        assert applied or not (folder / ".headwater").exists()
    assert said.returncode == 0, said.stderr
    assert ("~ feature view v: 1.0.0 → 2.0.0 (major)" if applied else "+ feature view v: added 1.0.0") in said.stdout
    assert "refused: registry" in said.stdout
    assert not applied or "session: False" in said.stdout


def test_a_plan_is_applied_as_it_was_shown_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "features.py"
    file.write_text(DEFINITIONS)
    with hw.FeatureStore(tmp_path) as store:
        plan = store.plan()
        file.write_text(DEFINITIONS.replace('"x"', '"y"'))
        with pytest.raises(hw.HeadwaterError, match="definitions changed since this plan was made"):
            store.apply(plan)
        assert not store.list_feature_views()
        plan = store.plan()
        assert store.apply(plan) is plan and store.list_feature_views()[0].version == "1.0.0"
        with pytest.raises(hw.HeadwaterError, match="registry changed since this plan was made"):
            store.apply(plan)
        listed = store.plan([VIEW])
        store.apply(listed)
        assert [view.name for view in store.list_feature_views()] == ["v"]


def test_an_apply_that_somebody_else_did_first_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "features.py"
    file.write_text(DEFINITIONS)
    others = [DEFINITIONS.replace('"x"', '"y"'), DEFINITIONS.replace('"x"', '"z"')]
    with hw.FeatureStore(tmp_path) as store, hw.FeatureStore(tmp_path) as other:
        plan = FeatureRegistry.apply

        def meanwhile(self: FeatureRegistry, *given: Any, **options: Any) -> Any:
            if self is store.registry and first:
                (first.pop())()
            return plan(self, *given, **options)

        monkeypatch.setattr(FeatureRegistry, "apply", meanwhile)
        # the same
        first = [lambda: other.apply()]
        assert store.apply().stages == ()
        # something else, which leaves the same to do
        unrelated = hw.Entity("shop", join_keys={"shop": hw.Int64})
        file.write_text(others[0])
        first = [lambda: other.apply([unrelated])]
        with pytest.raises(RegistryConflict, match="changed since this plan was made"):
            store.apply()  # the files remove what the other has added
        first = []
        file.write_text(others[0] + '\nshop = hw.Entity("shop", join_keys={"shop": hw.Int64})\n')
        assert len(store.apply().stages) == 1
        file.write_text(others[1] + '\nshop = hw.Entity("shop", join_keys={"shop": hw.Int64})\n')
        first = [lambda: other.promote("v", "1.0.0", force=True)]
        assert len(store.apply().stages) == 1
        # a plan that was looked at is that very plan
        file.write_text(
            DEFINITIONS.replace('"x"', '"w"') + '\nshop = hw.Entity("shop", join_keys={"shop": hw.Int64})\n'
        )
        shown = store.plan()
        first = [lambda: other.apply()]
        with pytest.raises(RegistryConflict, match=f"changed since this plan was made .on revision {shown.revision}"):
            store.apply(shown)


def test_a_plan_of_tables_is_applied(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [1], "at": [datetime(2024, 1, 1, tzinfo=UTC)], "x": [1.0]})
    view = hw.FeatureView(
        "v",
        entity=hw.Entity("user", join_keys={"user": hw.Int64}),
        source=hw.TableSource(frame, event_time="at"),
        features=[hw.Feature("x", hw.Float64)],
    )
    with hw.FeatureStore(tmp_path) as store:
        store.apply(store.plan([view]))
        store.materialize()
        assert store.get_online_features(["v:x"], [1]).to_dict()["x"] == [1.0]


def test_what_is_live_is_not_retired_without_leave(tmp_path: Path) -> None:
    file = tmp_path / "features.py"
    file.write_text(DEFINITIONS)
    with hw.FeatureStore(tmp_path) as store:
        store.apply()
        file.write_text("import headwater as hw\n")
        assert store.plan().removals == ("v",)
        with pytest.raises(hw.errors.RemovalsRefused, match="'headwater apply --allow-removals'") as refused:
            store.apply()
        assert refused.value.names == ("v",)
        assert store.list_feature_views()[0].live
        store.apply(allow_removals=True)
        assert not store.list_feature_views() or not store.list_feature_views()[0].live


def test_a_folder_that_cannot_be_made_is_told_by_the_first_write(tmp_path: Path) -> None:
    (tmp_path / ".headwater").write_text("a file")
    with hw.FeatureStore(tmp_path) as store:
        assert len(store.plan([VIEW]).stages) == 2
        with pytest.raises(StoreReadOnly, match="its folder cannot be created"):
            store.apply([VIEW])


def test_what_a_person_sees_is_short_and_telling(store: hw.FeatureStore, tmp_path: Path) -> None:
    result = store.get_historical_features(SPINE, ["v:x"])
    assert repr(result) == "<HistoryResult user, timestamp, x: of v 1.0.0, not read yet>"
    result.to_arrow()
    assert repr(result).startswith("<HistoryResult user, timestamp, x: v 1.0.0: matched 1, no row 0, expired 0")
    assert repr(store.prepare(["v:x"])) == "<PreparedReader x by user: v 1.0.0>"
    assert repr(store.registry) == "<FeatureRegistry headwater (in memory): revision 1, 1 view, 0 services, 1 entity>"
    assert repr(store.write("v", ROWS)) == "<WriteReport 1 applied>"
    bad = store.write("v", [*ROWS, {"user": "7"}], errors="report")
    assert repr(bad).startswith("<WriteReport 1 applied, 1 rejected; row 1")
    assert repr(store.write("v", [])) == "<WriteReport nothing>"
    report = store.materialize(force=True, views=["v"], entities=[7])
    assert repr(report).startswith("<MaterializeReport v@1.0.0: ") and repr(report["v"]).startswith("<RunReport v@")
    assert repr(store.plan([VIEW])) == "<Plan for headwater on revision 2: no changes, 2 unchanged>"
    assert repr(store.status()) == "<StoreStatus headwater, revision 2: v@1.0.0 live>"
    assert "registry sqlite://, online memory:, offline duckdb" in repr(store)
    with hw.FeatureStore(tmp_path, online="lmdb:online") as other:
        shown = repr(other)
        assert f"<FeatureStore {tmp_path.name} in {tmp_path}: registry sqlite:///.headwater/registry.db" in shown
        assert repr(other.registry).endswith("not read yet>")
    assert repr(other) == f"<FeatureStore {tmp_path.name}: closed>"


def test_the_queue_is_worked_off_and_the_store_measured_through_it(tmp_path: Path) -> None:
    now = {"is": datetime(2026, 1, 1, tzinfo=UTC)}
    rows = [{"user": 1, "at": now["is"], "n": 7}]
    view = hw.FeatureView(
        "v",
        entity=hw.Entity("user", join_keys={"user": hw.Int64}),
        source=hw.TableSource(rows, event_time="at"),
        features=[hw.Feature("n", hw.Int64)],
        freshness_sla="1h",
    )
    (tmp_path / "headwater.toml").write_text("[freshness]\nrefresh = true\n")
    with hw.FeatureStore(tmp_path, clock=lambda: now["is"]) as store:
        store.apply([view])
        store.materialize()
        now["is"] += timedelta(hours=2)
        store.get_online_features(["v:n"], [1])
        store.flush_refresh_requests()
        assert store.worker("v").run(once=True).keys == 1
        assert store.measure(["v:n"], minutes=0.02).figures
