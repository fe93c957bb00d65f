"""Messages name what helps, as it is typed; none says what is not so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw

SENSOR = hw.Entity("sensor", join_keys={"sensor": hw.String})


def store_of(source: hw.Source, dtype: hw.DType = hw.Int64) -> hw.FeatureStore:
    view = hw.FeatureView("load", entity=SENSOR, source=source, features=[hw.Feature("watts", dtype)])
    return hw.FeatureStore.in_memory([view], clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))


def refusal(source: hw.Source) -> str:
    with pytest.raises(hw.HeadwaterError) as refused:
        store_of(source).materialize()
    return str(refused.value)


def test_a_facts_file_with_fewer_rows_is_not_said_to_leave_some_online(tmp_path: Path) -> None:
    file = tmp_path / "facts.csv"
    file.write_text("sensor,watts\na,1\nb,2\n", encoding="utf-8")
    store = store_of(hw.CSVSource(str(file)))
    store.materialize()
    file.write_text("sensor,watts\na,1\n", encoding="utf-8")
    report = store.materialize()
    assert report.warnings == () and "1 removed" in str(report)
    assert store.get_online_features(["load:watts"], ["a", "b"]).to_dict()["watts"] == [1, None]


@pytest.mark.parametrize("note", ["sep=;", "#TYPE System.Management.Automation.PSCustomObject"])
def test_a_note_before_the_header_is_skipped(tmp_path: Path, note: str) -> None:
    mark = note[-1] if note[-1] == ";" else ","
    file = tmp_path / "rows.csv"
    file.write_text(f"{note}\nsensor{mark}watts\na{mark}1\n", encoding="utf-8")
    for delimiter in (mark, ","):
        said = refusal(hw.CSVSource(str(file), delimiter=delimiter))
        assert "skip=1" in said and "--csv skip=1" in said and note[:4] in said
    store_of(hw.CSVSource(str(file), delimiter=mark, skip=1)).materialize()


@pytest.mark.parametrize("begin", ["[\n  {", "[{"])
def test_an_array_over_several_lines_is_no_json_lines(tmp_path: Path, begin: str) -> None:
    file = tmp_path / "rows.json"
    text = json.dumps([{"sensor": "a", "watts": 1}], indent=2)
    file.write_text(text.replace("[\n  {", begin, 1), encoding="utf-8")
    assert "lines=False" in refusal(hw.JSONSource(str(file), lines=True))


def test_a_name_in_another_case_alone_is_a_missing_column(tmp_path: Path) -> None:
    rows = {"SENSOR": ["a"], "watts": [1]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("SENSOR,watts\na,1\n", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"SENSOR": "a", "watts": 1}\n', encoding="utf-8")
    for source in (
        hw.ParquetSource(str(tmp_path / "rows.parquet")),
        hw.CSVSource(str(tmp_path / "rows.csv")),
        hw.JSONSource(str(tmp_path / "rows.jsonl")),
        hw.TableSource(rows),
    ):
        said = refusal(source)
        assert "no column 'sensor'" in said and "SENSOR" in said and "differ only in case" not in said


def test_a_folder_s_name_that_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "watts=%E4"
    folder.mkdir()
    pq.write_table(pa.table({"sensor": ["a"]}), folder / "rows.parquet")
    assert "watts=%E4/rows.parquet: the folder '%E4' has % escapes that are not valid UTF-8: rename it" in refusal(
        hw.ParquetSource(str(tmp_path))
    )


def test_values_of_a_registered_view_are_named_by_its_version(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("sensor,watts\na,1\n", encoding="utf-8")
    (tmp_path / "features.py").write_text(
        "import headwater as hw\n"
        'load = hw.FeatureView("load", entity=hw.Entity("sensor", join_keys={"sensor": hw.String}),\n'
        '    source=hw.CSVSource("rows.csv"), features=[hw.Feature("watts", hw.Int64)])\n',
        encoding="utf-8",
    )
    with hw.FeatureStore(tmp_path) as store:
        store.apply()
        file.write_text("sensor,watts\na,much\n", encoding="utf-8")
        with pytest.raises(hw.DefinitionError) as refused:
            store.plan(check=True)
    assert "(1.0.0)" in str(refused.value) and "new" not in str(refused.value)


def test_the_index_of_a_frame_in_a_file(tmp_path: Path) -> None:
    pushed = store_of(hw.PushSource())
    file = tmp_path / "rows.csv"
    pd.DataFrame({"sensor": ["a"], "watts": [1]}).to_csv(file)
    for rows in (pd.read_csv(file), [{"column0": "0", "sensor": "a", "watts": 1}]):
        with pytest.raises(hw.HeadwaterError, match="index=False"):
            pushed.write("load", rows)


def test_what_the_command_takes_is_named(tmp_path: Path) -> None:
    store = store_of(hw.TableSource([{"sensor": "a", "watts": 1}]))
    with pytest.raises(hw.UsageError, match=r"--features 'load:\*'"):
        store.get_online_features("load", ["a"])
    with pytest.raises(hw.UsageError, match="--full-names"):
        store.get_historical_features([{"sensor": "a", "watts": 2, "timestamp": datetime.now(UTC)}], ["load:watts"])
