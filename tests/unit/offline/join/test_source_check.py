"""`plan --check`, and what `apply` reads of new sources of text."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import DefinitionError

TOWN = hw.Entity("town", join_keys={"town": hw.String})


@pytest.fixture
def store(tmp_path):
    (tmp_path / "headwater.toml").write_text('project = "towns"\n')
    (tmp_path / "good.csv").write_text("town,at,n\na,2026-01-01,1\n")
    (tmp_path / "bad.csv").write_text("town,at,n\na,2026-01-01,1\nb,2026-01-01,many\n")
    (tmp_path / "bad.jsonl").write_text('{"town": "a", "at": "2026-01-01", "n": 1}\n{"town": "b", "at": "x", "n": 1}\n')
    for name, last in (("one", 1), ("two", 2**40)):
        at = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 3)
        pq.write_table(pa.table({"town": ["a", "b", "c"], "at": at, "n": [1, 2, last]}), tmp_path / f"{name}.parquet")
    with hw.FeatureStore(tmp_path) as store:
        yield store


def view(source, dtype=hw.Int32):
    return hw.FeatureView("v", entity=TOWN, source=source, features=[hw.Feature("n", dtype)])


def refused(call):
    with pytest.raises(DefinitionError) as caught:
        call()
    return caught.value.problems


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (hw.CSVSource("*d.csv", event_time="at"), ["bad.csv", "many", "line 3", "'n'"]),
        (hw.JSONSource("bad.jsonl", event_time="at"), ["bad.jsonl", '"x"', "line 2", "'at'"]),
        (hw.ParquetSource("*.parquet", event_time="at"), ["two.parquet", "1099511627776", "row 2", "'n'"]),
        (
            hw.SQLSource("SELECT * FROM t", tables={"t": hw.ParquetSource("two.parquet")}, event_time="at"),
            ["1099511627776", "'n'"],
        ),
    ],
)
def test_values_that_do_not_fit_are_named(store, source, said):
    (problem,) = refused(lambda: store.plan([TOWN, view(source)], check=True))
    for part in said:
        assert part in problem
    assert store.plan([TOWN, view(source)])


def test_apply_reads_values_of_new_sources_of_text_alone(store):
    assert "many" in refused(lambda: store.apply([TOWN, view(hw.CSVSource("bad.csv", event_time="at"))]))[0]
    assert not store.list_feature_views()
    store.apply([TOWN, view(hw.ParquetSource("two.parquet", event_time="at"))])
    good = view(hw.CSVSource("good.csv", event_time="at"))
    store.apply([TOWN, good])
    (store.settings.folder / "good.csv").write_text("town,at,n\na,2026-01-01,none\n")
    assert not store.apply([TOWN, good])  # it is registered: what becomes of its files is a run's affair
    assert "none" in refused(lambda: store.plan([TOWN, good], check=True))[0]


def test_only_the_first_rows_of_each_file_are_read(store):
    late = "".join(f"t{i},2026-01-01,{i}\n" for i in range(10_000)) + "z,2026-01-01,many\n"
    (store.settings.folder / "good.csv").write_text("town,at,n\n" + late)
    assert store.plan([TOWN, view(hw.CSVSource("good.csv", event_time="at"))], check=True)


def test_what_has_no_files_is_read_too(store):
    rows = [{"town": "a", "at": datetime(2026, 1, 1, tzinfo=UTC), "n": 2**40}]
    found = refused(lambda: store.plan([TOWN, view(hw.TableSource(rows, event_time="at"))], check=True))
    assert "1099511627776" in found[0]
    assert store.plan([TOWN, view(hw.PushSource(event_time="at"))], check=True)
