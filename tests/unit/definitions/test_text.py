"""Text that cannot be written as UTF-8 is refused wherever in a definition it stands, with its place."""

from pathlib import Path
from typing import Any

import pytest

import headwater as hw

HALF = "odd \ud800"
X = hw.Feature("x", hw.Int64)


def user(**more: Any) -> hw.Entity:
    return hw.Entity("user", join_keys={"user": hw.Int64}, **more)


def view(**more: Any) -> hw.FeatureView:
    made = {"entity": user(), "source": hw.PushSource(event_time="at"), "features": [X], **more}
    return hw.FeatureView("clicks", **made)


@pytest.mark.parametrize(
    ("definition", "where"),
    [
        (user(description=HALF), "user: description"),
        (user(tags={"team": HALF}), "user: tags['team']"),
        (user(tags={HALF: "x"}), "user: tags"),
        (hw.Entity("user", join_keys={HALF: hw.Int64}), "user"),
        (view(owner=HALF), "clicks: owner"),
        (view(description=HALF), "clicks: description"),
        (view(tags={"a": "fine", "b": HALF}), "clicks: tags['b']"),
        (view(features=[hw.Feature("x", hw.Int64, description=HALF)]), "clicks.x: description"),
        (view(features=[hw.Feature("x", hw.Int64, tags={HALF: "1"})]), "clicks.x: tags"),
        (view(features=[hw.Feature("x", hw.String, default=HALF)]), "clicks.x"),
        (view(features=[hw.Feature("x", hw.Int64, column=HALF)]), "clicks.x: column"),
        (view(features=[hw.Feature(HALF, hw.Int64)]), "clicks"),
        (view(source=hw.PushSource(event_time=HALF)), "clicks: source.event_time"),
        (view(source=hw.ParquetSource(HALF, event_time="at")), "clicks: source.path"),
        (view(source=hw.SQLSource(f"SELECT 1 AS x -- {HALF}", event_time="at")), "clicks: source."),
        (view(source=hw.CSVSource("x.csv", event_time="at", nulls=("", HALF))), "clicks: source.nulls"),
        (hw.FeatureService("model", [view()], owner=HALF), "model: owner"),
        (hw.FeatureService("model", [view()], description=HALF, tags={"k": HALF}), "model: tags['k']"),
        (hw.FeatureService("model", [f"clicks:{HALF}"]), "model"),
        (hw.FeatureService(HALF, [view()]), "name"),
    ],
)
def test_half_a_pair_is_refused_at_plan(tmp_path: Path, definition: Any, where: str) -> None:
    with hw.FeatureStore(tmp_path) as store:
        with pytest.raises(hw.DefinitionError) as caught:
            store.plan([user(), view(), definition] if definition.name == "model" else [definition])
        said = str(caught.value)
        assert where in said and "\ud800" not in said and said.encode()
