"""Rows of retired versions: they go, with all that speaks for them, and are not looked for again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.compute.writing.erase import remove_retired
from headwater.registry.tables import file_entries
from tests.unit.compute.conftest import AIRPORT, T0, Bench


def view(path: Path, ttl: str | None) -> hw.FeatureView:
    source = hw.ParquetSource(str(path), event_time="at")
    return hw.FeatureView("w", entity=AIRPORT, source=source, features=[hw.Feature("temp", hw.Float64)], ttl=ttl)


def versions_with_files(bench: Bench) -> set[str]:
    with bench.registry.engine.connect() as connection:
        return {row.version for row in connection.execute(file_entries.select())}


@pytest.mark.parametrize("empty", [(), ("1.0.0",), ("2.0.0",), ("1.0.0", "2.0.0")], ids=str)
def test_whatever_speaks_for_rows_of_a_retired_version_goes(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: tuple[str, ...]
) -> None:
    path = tmp_path / "w.parquet"
    full = pa.table({"airport": ["A", "B"], "at": pa.array([T0, T0], pa.timestamp("us", "UTC")), "temp": [1.0, 2.0]})
    for number, ttl in (("1.0.0", "30d"), ("2.0.0", "40d"), ("3.0.0", "50d"), ("4.0.0", "60d")):
        pq.write_table(full.slice(0, 0) if number in empty else full, path)
        bench.apply(AIRPORT, view(path, ttl))
        bench.materialize(f"w@{number}")
    assert [v.version for v in bench.registry.refresh().view("w").active] == ["3.0.0", "4.0.0"]
    bench.pass_time(minutes=20)
    scans: list[bytes] = []
    scan = bench.context.online.scan

    def counted(prefix: bytes) -> Any:
        scans.append(prefix)
        return scan(prefix)

    monkeypatch.setattr(bench.context.online, "scan", counted)
    record = bench.registry.refresh().view("w")
    assert remove_retired(bench.context, record) == 2 * (2 - len(empty))
    assert {version for _, version in bench.context.watermarks(bench.registry.snapshot())} == {"3.0.0", "4.0.0"}
    assert versions_with_files(bench) == {"3.0.0", "4.0.0"}
    assert len(scans) == 2
    assert remove_retired(bench.context, record) == 0
    assert len(scans) == 2, "what is known to be empty is not looked at again"
