"""What is written, deleted and materialized reads online as history says at the same instant."""

import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.compute.reading.historical import historical
from headwater.testing import rounds
from headwater.types import Status
from tests.unit.compute.conftest import Bench

KEYS = (1, 2, 3)
THING = hw.Entity("thing", join_keys={"thing": hw.Int64})
X, Y = hw.Feature("x", hw.Int64, default=-7), hw.Feature("y", hw.String)
SECOND = timedelta(seconds=1)

keys = st.sampled_from(KEYS)
values = st.one_of(st.none(), st.integers(0, 3))
steps_back = st.integers(-4, 6)
row_of = st.fixed_dictionaries(
    {"thing": keys, "x": values, "at": steps_back},
    optional={
        "y": st.sampled_from(["", "é", None]),
        "seen": st.one_of(st.none(), steps_back),
        "created_time": steps_back,
    },
)
step = st.one_of(
    st.tuples(st.just("write"), st.lists(row_of, min_size=1, max_size=3)),
    st.tuples(st.just("log"), st.lists(row_of, min_size=1, max_size=2)),
    st.tuples(st.just("source"), st.lists(row_of, min_size=1, max_size=3)),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("purge"), keys),
    st.tuples(st.just("materialize"), st.none()),
    st.tuples(st.just("force"), st.one_of(st.none(), keys)),
    st.tuples(st.just("roll"), st.none()),
    st.tuples(st.just("erase"), st.none()),
    st.tuples(st.just("pass"), st.integers(1, 5)),
)
shape = st.sampled_from(["timed", "ttl", "created", "dimension"])


def view_of(kind: str) -> hw.FeatureView:
    event = None if kind == "dimension" else "at"
    return hw.FeatureView(
        "v",
        entity=THING,
        source=hw.TableSource(
            event_time=event,
            created_time="seen" if kind == "created" else None,
            delay="1s" if kind == "timed" else "0s",
        ),
        features=[X, Y],
        ttl="3s" if kind == "ttl" else None,
    )


def whole(row: dict[str, Any], now: Any, kind: str) -> dict[str, Any]:
    """A drawn row with its times, some steps before the present one."""
    made = {**row, "at": now - row["at"] * SECOND, "y": row.get("y")}
    for name in ("seen", "created_time"):
        if made.get(name) is not None:
            made[name] = now - made[name] * SECOND
    if kind != "created":
        made.pop("seen", None)
    return made


class Play:
    """One sequence of steps on a store."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.bench, self.kind = Bench(folder, url="sqlite://"), kind
        self.bench.change(settings=replace(self.bench.context.settings, tolerance=timedelta(0)))
        self.bench.apply(THING, view_of(kind))
        self.behind = False

    def source_table(self) -> None:
        names = {
            "thing": pa.int64(),
            "x": pa.int64(),
            "y": pa.string(),
            "at": pa.timestamp("us", "UTC"),
            "seen": pa.timestamp("us", "UTC"),
        }
        self.bench.source_tables["v"] = pa.Table.from_pylist(
            self.bench.rows.get("v", []), pa.schema(list(names.items()))
        )

    def run(self, name: str, what: Any) -> None:
        bench = self.bench
        # an arrival after a delete, and a delete after it, are each a microsecond ahead of a clock that stands still
        bench.pass_time(microseconds=50)
        match name:
            case "write" | "log":
                rows = [whole(row, bench.at, self.kind) for row in what]
                bench.write("v", rows, to="both" if name == "write" else "offline")
                self.behind |= name == "log"
            case "source":
                made = [whole(row, bench.at, self.kind) for row in what]
                for row in made:
                    row.pop("created_time", None)
                bench.rows.setdefault("v", []).extend(made)
                self.behind = True
            case "delete" | "purge":
                bench.delete("v", [what], purge=name == "purge")
            case "materialize":
                bench.materialize()
                self.behind = False
            case "force":
                bench.materialize(entities=None if what is None else [what], force=True)
                self.behind &= what is not None
            case "roll":
                bench.context.log.roll()
            case "erase":
                bench.pass_time(minutes=11)
                bench.materialize()
                self.behind = False
            case "pass":
                bench.pass_time(seconds=what)
                # a row whose time has come is put by the next run
                self.behind = True

    def compare(self) -> None:
        bench = self.bench
        bench.pass_time(microseconds=50)
        found = bench.reader(["v:*"]).read(list(KEYS))
        spine = pa.table(
            {"thing": list(KEYS), "timestamp": pa.array([bench.at] * len(KEYS), pa.timestamp("us", "UTC"))}
        )
        history = historical(bench.context, spine, ["v:*"], include=("status",)).to_arrow().to_pydict()
        online = found.to_dict()
        for i, key in enumerate(KEYS):
            for name in ("x", "y"):
                told = history[f"{name}__status"][i]
                status = told if told != Status.NOT_KNOWN else found.statuses[name][i]
                assert (online[name][i], found.statuses[name][i]) == (history[name][i], status), (key, name)
                if told == Status.NOT_KNOWN:
                    assert status in (Status.NOT_FOUND, Status.EXPIRED)


@settings(
    max_examples=rounds(3), deadline=None, report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow]
)
@given(kind=shape, steps=st.lists(step, min_size=1, max_size=10))
def test_online_equals_history(kind: str, steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        play = Play(Path(folder), kind)
        try:
            for name, what in steps:
                play.source_table()
                play.run(name, what)
                if not play.behind and name in ("write", "force", "materialize", "erase"):
                    play.compare()
            play.source_table()
            play.run("materialize", None)
            play.compare()
        finally:
            play.bench.close()
