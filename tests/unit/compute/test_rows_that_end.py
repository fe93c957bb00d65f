"""A slowly changing table (`valid_from`, `valid_to`): its rows in history and online, whatever becomes of the table."""

import os
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.types import Status

CUSTOMER = hw.Entity("customer", join_keys={"customer": hw.Int64})
TIER = hw.Feature("tier", hw.String, default="none")
PRESENT, EXPIRED, NOT_FOUND = Status.PRESENT, Status.EXPIRED, Status.NOT_FOUND
US = pa.timestamp("us", tz="UTC")


def day(month, number=1, hour=0):
    return datetime(2026, month, number, hour, tzinfo=UTC)


def tiers(source, **options):
    return hw.FeatureView("tiers", entity=CUSTOMER, source=source, features=[TIER], **options)


def row(tier, valid_from, valid_to=None, customer=1, **more):
    return {"customer": customer, "tier": tier, "valid_from": valid_from, "valid_to": valid_to, **more}


def save(path, rows):
    times = {name: US for name in ("valid_from", "valid_to", "seen") if name in rows[0]}
    schema = pa.schema([("customer", pa.int64()), ("tier", pa.string()), *times.items()])
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def history(store, instants, customer=1, **options):
    spine = pa.table({"customer": [customer] * len(instants), "timestamp": pa.array(instants, US)})
    return store.get_historical_features(spine, ["tiers:tier"], include=("status", "event_time"), **options)


def told(result):
    return [(row["tier"], row["tier__status"]) for row in result.to_pylist()]


def online(store, customers=(1,), **options):
    result = store.get_online_features(["tiers:tier"], {"customer": list(customers)}, **options)
    return list(zip(result.to_dict()["tier"], result.statuses["tier"], strict=True))


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock(day(6))


@pytest.fixture
def source(tmp_path):
    return hw.ParquetSource(str(tmp_path / "tiers" / "*.parquet"), valid_from="valid_from", valid_to="valid_to")


@pytest.fixture
def known(tmp_path):
    """The same with created times."""
    path = str(tmp_path / "tiers" / "*.parquet")
    return hw.ParquetSource(path, valid_from="valid_from", valid_to="valid_to", created_time="seen")


@pytest.fixture
def file(tmp_path):
    (tmp_path / "tiers").mkdir()
    return tmp_path / "tiers" / "a.parquet"


@pytest.fixture
def opened(tmp_path, clock):
    """A store of these definitions."""
    stores = []

    def open_store(*definitions):
        store = hw.FeatureStore(tmp_path / "project", clock=clock)
        stores.append(store)
        store.apply([CUSTOMER, *definitions])
        return store

    (tmp_path / "project").mkdir()
    yield open_store
    for store in stores:
        store.close()


def test_a_row_is_used_before_its_end_and_not_from_then_on(opened, source, file):
    """A gap between rows is one; a row that has not ended is used, and a default stands in where one has."""
    save(file, [row("gold", day(1), day(3)), row("silver", day(4)), row("bronze", day(1), day(2), customer=2)])
    store = opened(tiers(source))
    before = day(3) - timedelta(microseconds=1)
    found = history(store, [day(2), before, day(3), day(3, 15), day(4), day(6)])
    assert told(found) == [
        ("gold", PRESENT),
        ("gold", PRESENT),
        ("none", EXPIRED),
        ("none", EXPIRED),
        ("silver", PRESENT),
        ("silver", PRESENT),
    ]
    assert found.to_arrow()["tiers__event_time"].to_pylist()[1:4] == [day(1), None, None]
    counts = found.metadata.views["tiers"]
    assert (counts.matched, counts.expired, counts.no_row, counts.same_instant) == (4, 2, 0, 1)
    store.materialize()
    assert online(store, [1, 2, 9]) == [("silver", PRESENT), ("none", EXPIRED), ("none", NOT_FOUND)]
    result = store.get_online_features(["tiers:tier"], {"customer": [1, 2]})
    assert result.event_times["tiers"] == [day(4), None]
    assert result.vectors()[1].features == {"tier": "none"}
    explained = store.prepare(["tiers:tier"]).explain([2]).result
    assert explained.statuses["tier"] == [EXPIRED]
    assert store.verify().whole


def test_overlapping_rows_are_counted_and_the_later_begun_is_used(opened, source, file):
    """A row that ends before it begins is never used."""
    save(
        file,
        [
            row("gold", day(1), day(5)),
            row("silver", day(3), day(4)),
            row("odd", day(5), day(2)),
            row("x", day(1), None, 2),
        ],
    )
    found = history(opened(tiers(source)), [day(2), day(3), day(4), day(5), day(6)])
    assert told(found) == [
        ("gold", PRESENT),
        ("silver", PRESENT),
        ("none", EXPIRED),
        ("none", EXPIRED),
        ("none", EXPIRED),
    ]
    counts = found.metadata.views["tiers"]
    assert (counts.overlapping, counts.never_valid) == (1, 2)


def test_as_known_a_row_ends_when_the_next_one_was_known(opened, known, file):
    """The table got the end of the one row when it got the other, not before."""
    save(file, [row("gold", day(1), day(3), seen=day(1)), row("silver", day(3), None, seen=day(3, 10))])
    store = opened(tiers(known))
    instants = [day(2), day(3, 5), day(3, 10)]
    assert [tier for tier, _ in told(history(store, instants))] == ["gold", "gold", "silver"]
    assert [tier for tier, _ in told(history(store, instants, as_known=False))] == ["gold", "silver", "silver"]


def test_without_created_times_an_end_is_known_after_the_delay(opened, tmp_path, file):
    source = hw.ParquetSource(str(file), valid_from="valid_from", valid_to="valid_to", delay="1d")
    save(file, [row("gold", day(1), day(3)), row("silver", day(4))])
    store = opened(tiers(source))
    instants = [day(3, 1, 23), day(3, 2), day(4), day(4, 2)]
    assert [tier for tier, _ in told(history(store, instants))] == ["gold", "none", "none", "silver"]
    assert [tier for tier, _ in told(history(store, instants, as_known=False))] == ["none", "none", "silver", "silver"]


def test_the_ttl_ends_rows_too(opened, source, file, clock):
    save(file, [row("gold", day(1), day(5))])
    store = opened(tiers(source, ttl="31d"))
    assert told(history(store, [day(1, 31), day(3)])) == [("gold", PRESENT), ("none", EXPIRED)]
    clock.now = day(1, 20)
    store.materialize()
    assert online(store) == [("gold", PRESENT)]
    clock.now = day(3)
    assert online(store) == [("none", EXPIRED)]


def test_an_end_that_is_set_in_place_comes_online(opened, source, file, clock):
    """The usual change of such a table: the open row gets an end, its other columns and its times stay."""
    save(file, [row("gold", day(1)), row("x", day(1), customer=2)])
    store = opened(tiers(source))
    clock.now = day(2)
    store.materialize()
    assert online(store, [1, 2]) == [("gold", PRESENT), ("x", PRESENT)]
    save(file, [row("gold", day(1), day(3)), row("x", day(1), customer=2)])
    store.materialize()
    assert online(store) == [("gold", PRESENT)]
    clock.now = day(3)
    assert online(store, [1, 2]) == [("none", EXPIRED), ("x", PRESENT)]
    # and back
    save(file, [row("gold", day(1)), row("x", day(1), customer=2)])
    store.materialize()
    assert online(store) == [("gold", PRESENT)]


@pytest.mark.parametrize("times", [{"event_time": "valid_from"}, {"valid_from": "valid_from", "valid_to": "valid_to"}])
@pytest.mark.parametrize("text", [True, False])
def test_a_file_that_was_rewritten_with_fewer_rows_is_reported(opened, tmp_path, clock, text, times):
    """By its rows: it may have more bytes than before."""
    file = tmp_path / ("tiers.csv" if text else "tiers.parquet")
    kept, gone = row("gold", day(1)), row("x", day(1), customer=2)

    def write(*rows):
        if text:
            lines = [f"{r['customer']},{r['tier']},{r['valid_from'].isoformat()}," for r in rows]
            file.write_text("\n".join(["customer,tier,valid_from,valid_to", *lines]))
        else:
            save(file, rows)
        os.utime(file, ns=(len(rows) * 10**18, len(rows) * 10**18))

    source = hw.CSVSource(str(file), **times)
    if not text:
        source = hw.SQLSource("SELECT * FROM t", tables={"t": hw.ParquetSource(str(file))}, **times)
    write(kept, gone)
    store = opened(tiers(source))
    store.materialize()
    write({**kept, "tier": "gold" * 100})
    (run,) = store.materialize().runs
    assert run.rewritten_files == (str(file),)


def test_a_next_row_that_is_not_known_yet_keeps_the_one_before_it(opened, known, file, clock, tmp_path):
    """Also where the row itself is in a file that did not change, or in the log."""
    save(file, [row("gold", day(1), day(3), seen=day(1))])
    store = opened(tiers(known))
    clock.now = day(2)
    store.materialize()
    store.write("tiers", [row("blue", day(1), day(3), customer=2, seen=day(1))])
    clock.now = day(3, 5)
    assert online(store, [1, 2]) == [("none", EXPIRED), ("none", EXPIRED)]
    nexts = [row("silver", day(3), seen=day(3, 10)), row("red", day(3), customer=2, seen=day(3, 10))]
    save(tmp_path / "tiers" / "b.parquet", nexts)
    store.materialize()
    for customer, tier in ((1, "gold"), (2, "blue")):
        assert told(history(store, [clock.now], customer)) == [(tier, PRESENT)]
    assert online(store, [1, 2]) == [("gold", PRESENT), ("blue", PRESENT)]
    clock.now = day(3, 10)
    assert online(store) == [("none", EXPIRED)]
    store.materialize()
    assert online(store, [1, 2]) == [("silver", PRESENT), ("red", PRESENT)]


def test_force_and_deletes(opened, source, file, clock):
    save(file, [row("gold", day(1), day(9)), row("x", day(1), day(2), customer=2)])
    store = opened(tiers(source))
    store.materialize()
    save(file, [row("gold", day(1), day(5)), row("x", day(1), day(2), customer=2)])
    store.materialize(["tiers"], force=True, entities=[{"customer": 1}])
    assert online(store, [1, 2]) == [("none", EXPIRED), ("none", EXPIRED)]
    store.delete("tiers", [{"customer": 1}])
    assert online(store) == [("none", NOT_FOUND)]
    assert told(history(store, [clock.now])) == [("none", NOT_FOUND)]
    store.delete("tiers", [{"customer": 2}], purge=True)
    clock.now += timedelta(minutes=11)
    store.materialize()
    assert online(store, [2]) == [("none", NOT_FOUND)]
    clock.now += timedelta(days=1)
    store.write("tiers", [row("new", clock.now, clock.now + timedelta(days=2))])
    assert online(store) == [("new", PRESENT)]
    clock.now += timedelta(days=2)
    assert online(store) == [("none", EXPIRED)]
    assert store.verify().whole and store.status()


def test_a_refresh_takes_the_end_as_it_is_now(opened, source, file, clock):
    save(file, [row("gold", day(1))])
    store = opened(tiers(source, freshness_sla="1h"))
    store.materialize()
    save(file, [row("gold", day(1), day(5))])
    read = store.prepare(["tiers:tier"]).read([1], stale="refresh", refresh_budget="20s")
    assert read.statuses["tier"] == [EXPIRED]


def test_rows_that_are_written(opened, clock):
    """A row without the column, or with NULL there, has not ended."""
    store = opened(tiers(hw.PushSource(valid_from="valid_from", valid_to="valid_to")))
    rows = [row("gold", day(1), day(7)), row("x", day(1), customer=2)]
    store.write("tiers", [*rows, {"customer": 3, "tier": "y", "valid_from": day(1)}], created="event")
    customers = [1, 2, 3]
    assert online(store, customers) == [("gold", PRESENT), ("x", PRESENT), ("y", PRESENT)]
    with pytest.raises(hw.RowsRejected, match="valid_to"):
        store.write("tiers", [row("z", day(1), "soon")])
    store.write("tiers", [row("blue", day(1), day(9), customer=4)], to="online")
    clock.now = day(7)
    assert online(store, [*customers, 4]) == [("none", EXPIRED), ("x", PRESENT), ("y", PRESENT), ("blue", PRESENT)]
    for customer, expected in zip(customers, ("none", "x", "y"), strict=True):
        assert told(history(store, [clock.now], customer))[0][0] == expected
    store.write("tiers", [row("x", day(1), day(6), customer=2)], created="event")
    assert online(store, [2]) == [("none", EXPIRED)]


def test_exact_reads_and_answers_of_a_later_instant(opened, clock):
    """What stands for now in a row's answer decides whether it has ended."""
    store = opened(tiers(hw.PushSource(valid_from="valid_from", valid_to="valid_to")))
    end = clock.now + timedelta(seconds=3)
    store.write("tiers", [row("gold", day(1), end)], created="event")
    assert online(store, now=end - timedelta(microseconds=1)) == [("gold", PRESENT)]
    assert online(store, now=end) == [("none", EXPIRED)]
    ahead = clock.now + timedelta(seconds=2)
    store.write("tiers", [row("a", ahead, ahead, customer=2), row("b", ahead, end, customer=3)], created="event")
    assert online(store, [2, 3]) == [("none", EXPIRED), ("b", PRESENT)]


@pytest.mark.parametrize("kind", ["date", "naive", "csv"])
def test_ends_are_times_as_the_others_are(opened, tmp_path, kind):
    """Dates, naive times of a zone, times in text; finer ones are rounded up, so that neighbours stay neighbours."""
    folder = tmp_path / "data"
    folder.mkdir()
    options = {"valid_from": "valid_from", "valid_to": "valid_to", "timezone": "Europe/Berlin"}
    begin, end = datetime(2026, 1, 1), datetime(2026, 3, 1)
    columns = {"customer": [1], "tier": ["gold"]}
    if kind == "csv":
        (folder / "t.csv").write_text(
            "customer,tier,valid_from,valid_to\n1,gold,2026-01-01T00:00:00,2026-03-01T00:00:00\n"
        )
        source = hw.CSVSource(str(folder / "t.csv"), **options)
    else:
        type_ = pa.date32() if kind == "date" else pa.timestamp("ns")
        times = [[begin], [end]] if kind == "naive" else [[date(2026, 1, 1)], [date(2026, 3, 1)]]
        columns |= {name: pa.array(v, type_) for name, v in zip(("valid_from", "valid_to"), times, strict=True)}
        pq.write_table(pa.table(columns), folder / "t.parquet")
        source = hw.ParquetSource(str(folder / "t.parquet"), **options)
    last = datetime(2026, 2, 28, 23, tzinfo=UTC)
    found = told(history(opened(tiers(source)), [last - timedelta(microseconds=1), last]))
    assert found == [("gold", PRESENT), ("none", EXPIRED)]


def test_finer_ends_are_rounded_up_as_the_begin_of_the_next_row_is(opened, file, tmp_path):
    fine = pa.array([0, 1_000_000_500], pa.timestamp("ns", "UTC"))
    ends = pa.array([1_000_000_500, None], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"customer": [1, 1], "tier": ["a", "b"], "f": fine, "t": ends}), file)
    store = opened(tiers(hw.ParquetSource(str(file), valid_from="f", valid_to="t")))
    at = [datetime(1970, 1, 1, 0, 0, 1, n, tzinfo=UTC) for n in (0, 1)]
    assert told(history(store, at)) == [("a", PRESENT), ("b", PRESENT)]


def test_a_training_set_and_batch_scoring(opened, source, file):
    save(file, [row("gold", day(1), day(3)), row("x", day(1), customer=2)])
    store = opened(tiers(source))
    spine = pa.table({"customer": [1, 2], "timestamp": pa.array([day(4)] * 2, US)})
    saved = store.save_training_set("saved", spine, ["tiers:tier"])
    assert saved.to_arrow()["tier"].to_pylist() == ["none", "x"]
    assert str(saved.verify().verdict) == "same"
    entities = store.get_historical_features(None, ["tiers:tier"], at=day(4), include=("status",)).to_pylist()
    assert sorted((r["customer"], r["tier__status"]) for r in entities) == [(1, EXPIRED), (2, PRESENT)]


def test_a_store_of_rows_in_memory(clock):
    view = tiers(hw.PushSource(valid_from="valid_from", valid_to="valid_to"))
    rows = [row("gold", day(1)), row("x", day(1), day(5), customer=2)]
    with hw.FeatureStore.in_memory([CUSTOMER, view], sources={"tiers": rows}, clock=clock) as store:
        assert told(history(store, [day(5)])) == [("gold", PRESENT)]
        store.materialize()
        assert online(store, [1, 2]) == [("gold", PRESENT), ("none", EXPIRED)]
    with hw.FeatureStore.in_memory([CUSTOMER, view], sources={"tiers": []}, clock=clock) as store:
        assert told(history(store, [day(5)])) == [("none", NOT_FOUND)]
