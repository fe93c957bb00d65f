"""JSON files as sources."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.errors import HeadwaterError

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
FEATURES = [
    hw.Feature("x", hw.Float64),
    hw.Feature("n", hw.Int64),
    hw.Feature("day", hw.Date),
    hw.Feature("tags", hw.Array(hw.String)),
    hw.Feature("name", hw.String),
]
ROW = {
    "user": 1,
    "t": "2026-06-01T10:00:00Z",
    "x": 0.1,
    "n": 3.0,
    "day": "2026-05-31",
    "tags": ["a", None],
    "name": None,
}
VALUES = [0.1, 3, datetime(2026, 5, 31).date(), ["a", None], None]


def read(folder: Path, files: dict[str, str | bytes], **options: Any) -> list[Any]:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    source = hw.JSONSource(options.pop("path", next(iter(files))), event_time="t", **options)
    view = hw.FeatureView("v", entity=USER, source=source, features=FEATURES)
    with hw.FeatureStore.in_memory([USER, view], path=folder, clock=lambda: NOON) as store:
        store.materialize()
        (history,) = store.get_historical_features([{"user": 1, "timestamp": NOON}], ["v:*"]).to_arrow().to_pylist()
        online = store.get_online_features(["v:*"], [1]).to_dict()
        assert [history[f.name] for f in FEATURES] == [online[f.name][0] for f in FEATURES]
        return [history[f.name] for f in FEATURES]


LINE = json.dumps(ROW)
ODD = json.dumps({"user": 2, "t": "2026-06-01", "name": "\u2028\x85"}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"a.jsonl": LINE + "\n"}, {}),
        ({"a.jsonl": f"\n{LINE}\r\n\n{ODD}\n"}, {}),
        ({"a.json": "\ufeff" + LINE}, {}),
        ({"a.json": json.dumps([ROW], indent=1)}, {"lines": False}),
        ({"a.json": "\ufeff" + json.dumps(ROW, indent=1)}, {"lines": False}),
        ({"d/a.JSONL": LINE, "d/b.ndjson": LINE.replace('"user": 1', '"user": 2')}, {"path": "d"}),
        ({"d/user=1/a.jsonl": json.dumps({k: v for k, v in ROW.items() if k != "user"})}, {"path": "d"}),
    ],
)  # fmt: skip
def test_rows_are_read(tmp_path: Path, files: dict[str, str], options: dict[str, Any]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    assert read(tmp_path, files, **options) == VALUES  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LINE + "\n" + LINE.replace("0.1", '"warm"'), "a.jsonl: line 2, column 'x': \"warm\" is not float64"),
        (LINE.replace("3.0", "3.5"), "line 1, column 'n': 3.5 is not int64"),
        (LINE.replace("3.0", "9223372036854775808"), "column 'n': 9223372036854775808 is not int64"),
        (LINE.replace("0.1", "1e400"), "line 1: 1e400 is greater than any float64"),
        (LINE.replace('"2026-06-01T10:00:00Z"', "1780308000"), "column 't': 1780308000 is not a time (text"),
        (LINE.replace('"2026-05-31"', '"31.5.2026"'), "column 'day': \"31.5.2026\" is not date"),
        (LINE + "\n{\n", "line 2: not JSON"),
        (f"[{LINE}]", "is not an object with the source's columns; an array of objects: lines=False"),
        (json.dumps(ROW, indent=1), "line 1: not JSON"),
        (LINE.encode("utf-16"), "is UTF-16, JSON is UTF-8"),
        (b'{"user": 1, "name": "\xff"}', "line 1: not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_row_is_named_with_its_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(HeadwaterError) as bad:
        read(tmp_path, {"a.jsonl": content})
    assert said in str(bad.value)


def test_an_event_id_settles_ties(tmp_path: Path) -> None:
    rows = [ROW | {"id": "b", "n": 5}, ROW | {"id": "a", "n": 9}]
    content = "\n".join(map(json.dumps, rows))
    assert read(tmp_path, {"a.jsonl": content}, event_id="id", schema={"id": hw.String})[1] == 5


def test_a_query_over_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINE)
    tables = {"a": hw.JSONSource("a.jsonl", schema={"user": hw.Int64, "t": hw.Timestamp, "x": hw.Float64})}
    source = hw.SQLSource("SELECT user, t, x * 2 AS x, n FROM a", tables=tables, event_time="t")
    features = [hw.Feature("x", hw.Float64), hw.Feature("n", hw.String)]
    view = hw.FeatureView("v", entity=USER, source=source, features=features)
    with hw.FeatureStore.in_memory([USER, view], path=tmp_path, clock=lambda: NOON) as store:
        (row,) = store.get_historical_features([{"user": 1, "timestamp": NOON}], ["v:*"]).to_arrow().to_pylist()
        assert (row["x"], row["n"]) == (0.2, "3.0")


def test_a_column_may_begin_late(tmp_path: Path) -> None:
    rows = [{"user": i, "t": "2026-06-01T10:00:00Z", **({"x": 0.5} if i > 11_000 else {})} for i in range(11_002)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    for name, lines in (("a.jsonl", True), ("b.json", False)):
        source = hw.JSONSource(name, event_time="t", lines=lines)
        view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Float64)])
        with hw.FeatureStore.in_memory([USER, view], path=tmp_path, clock=lambda: NOON) as store:
            spine = [{"user": user, "timestamp": NOON} for user in (1, 11_001)]
            assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == [None, 0.5]
            store.materialize()
            assert store.get_online_features(["v:x"], [1, 11_001]).to_dict()["x"] == [None, 0.5]
        typo = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("y", hw.Float64)])
        with pytest.raises(HeadwaterError, match="no column 'y'"):
            hw.FeatureStore.in_memory([USER, typo], path=tmp_path)
