"""`valid_from=` and `valid_to=`: what a source may say, and what of it makes a version."""

import pytest

import headwater as hw
from headwater.definitions.fingerprint import ColumnFingerprints, fingerprint
from headwater.definitions.serialize import source_from_dict, source_to_dict, view_from_dict, view_to_dict
from headwater.definitions.validation import check
from headwater.planning.layout import RowLayout
from headwater.values import Value

CUSTOMER = hw.Entity("customer", join_keys={"customer": hw.Int64})
X = hw.Feature("x", hw.Int64)


def view(source, *features, **options):
    return hw.FeatureView("v", entity=CUSTOMER, source=source, features=features or [X], **options)


def problems(*args, **options):
    return " ".join(map(str, check([CUSTOMER, view(*args, **options)]).problems))


def parquet(**options):
    return hw.ParquetSource("data.parquet", **options)


def test_valid_from_is_the_event_time():
    assert parquet(valid_from="f").event_time == "f"
    assert parquet(valid_from="f", valid_to="t", created_time="c").times == ("f", "c", "t")
    assert not problems(parquet(valid_from="f", valid_to="t"))
    moved = hw.ParquetSource("data.parquet", event_time="f", valid_from="f")
    assert not problems(moved)  # as `replace` gives them


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"event_time": "a", "valid_from": "f"}, "event_time='a' and valid_from='f' are both given"),
        ({"valid_to": "t"}, "valid_to requires valid_from="),
        ({"event_time": "a", "valid_to": "t"}, "valid_to requires valid_from="),
        ({"valid_from": "f", "valid_to": "f"}, "must be two columns"),
        ({"valid_from": "f", "valid_to": 5}, "must be the name of a column, not 5"),
    ],
)
def test_what_a_source_cannot_say(options, said):
    assert said in problems(parquet(**options))


def test_windows_and_tables_of_queries_do_not_end():
    ending = parquet(valid_from="f", valid_to="t")
    assert "valid_to= cannot be combined with aggregations" in problems(ending, hw.Aggregation("x", "sum", "1h"))
    query = hw.SQLSource("SELECT * FROM rows", tables={"rows": ending}, event_time="f")
    assert "compare with the column in the query" in problems(query)


@pytest.mark.parametrize(
    "source",
    [
        parquet(valid_from="f", valid_to="t"),
        hw.CSVSource("a.csv", valid_from="f", valid_to="t", timezone="Europe/Berlin"),
        hw.JSONSource("a.json", valid_from="f", valid_to="t"),
        hw.SQLSource("SELECT 1", valid_from="f", valid_to="t"),
        hw.PushSource(valid_from="f", valid_to="t"),
        hw.SparkSource(table="db.t", valid_from="f", valid_to="t"),
        hw.TableSource([], valid_from="f", valid_to="t"),
    ],
)
def test_it_is_read_back_from_a_format_that_earlier_releases_refuse(source):
    assert source_from_dict(source_to_dict(source)) == source
    data = view_to_dict(view(source))
    assert data["format"] == 6 and fingerprint(view_from_dict(data)) == fingerprint(view(source))


def test_without_it_nothing_is_written_of_it():
    plain = parquet(event_time="f")
    assert not {"valid_from", "valid_to"} & source_to_dict(plain).keys()
    assert view_to_dict(view(plain))["format"] == 1
    assert fingerprint(view(plain)) == fingerprint(view(parquet(valid_from="f")))
    assert fingerprint(view(plain)) != fingerprint(view(parquet(valid_from="f", valid_to="t")))
    assert ColumnFingerprints(view(plain))["x"] != ColumnFingerprints(view(parquet(valid_from="f", valid_to="t")))["x"]


def test_a_row_holds_its_end_behind_every_feature():
    """Whatever letters features begin with; of rows that do not end the layout is as it was."""
    features = [hw.Feature(name, hw.Int64) for name in ("zz", "é", "一", "A")]
    plain, ending = (RowLayout.of(view(parquet(**o), *features)) for o in ({}, {"valid_from": "f", "valid_to": "t"}))
    assert [slot.name for slot in ending.slots][:-1] == [slot.name for slot in plain.slots]
    assert [slot.offset for slot in ending.slots][:-1] == [slot.offset for slot in plain.slots]
    assert isinstance(ending, Value) and ending.fingerprint != plain.fingerprint
