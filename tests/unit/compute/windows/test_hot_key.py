"""A key in every batch, with no run in between: its row stays as small as it is, and says all that was written."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import headwater as hw
from headwater.compute.windows.requests import Version
from headwater.online.rows.windows.codec import decode_row
from headwater.planning.resolve import whole_view

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.String})
MOST = 8


@pytest.mark.parametrize("minutes", [0, 7])
def test_a_hot_key_lists_few_positions_and_loses_no_event(monkeypatch: pytest.MonkeyPatch, minutes: int) -> None:
    made = Version.__init__

    def listing_few(self: Version, *args: Any, **options: Any) -> None:
        made(self, *args, **options, most_listed=MOST)

    monkeypatch.setattr(Version, "__init__", listing_few)
    now = [NOON]
    features = [hw.Aggregation("x", function, w) for function in ("count", "max") for w in ("1h", None)]
    source = hw.PushSource(event_time="at", schema={"x": hw.Float64})
    definitions = [USER, hw.FeatureView("hot", entity=USER, source=source, features=features)]
    with hw.FeatureStore.in_memory(definitions, clock=lambda: now[0]) as store:
        record = store.registry.snapshot().view("hot")
        view = whole_view(record, record.version(record.live))
        assert view.windows is not None
        assert view.windows is whole_view(record, record.version(record.live)).windows
        reader, sizes = store.prepare(["hot:*"]), []
        _, key = reader._reader.plan_keys(["a"]).keys
        for i in range(60):
            now[0] += timedelta(minutes=minutes, seconds=1)
            store.write("hot", [{"user": "a", "at": now[0], "x": float(i % 7)}])
            (row,) = store.context.online.multi_get([key])
            assert row is not None
            decoded = decode_row(view.windows, row)
            assert len(decoded.listed) <= MOST
            sizes.append(len(row))
        answer = reader.read(["a"]).to_dict()
        start = now[0] - timedelta(hours=1)
        start -= timedelta(minutes=start.minute % 5, seconds=start.second)
        within = [i for i in range(60) if NOON + (i + 1) * timedelta(minutes=minutes, seconds=1) >= start]
        assert answer["x_count_lifetime"] == [60]
        assert answer["x_count_1h"] == [len(within)]
        assert answer["x_max_1h"] == [max(i % 7 for i in within)]
    # once windows are full
    assert max(sizes[30:]) <= max(sizes[:30]) + 8
