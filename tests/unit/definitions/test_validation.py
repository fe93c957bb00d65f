"""Everything that is wrong with definitions is found together, with its place and the nearest name."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.service import FeatureService
from headwater.definitions.source import Source
from headwater.definitions.source_checks import Read
from headwater.definitions.sources import CSVSource, ParquetSource, PushSource, SQLSource, TableSource
from headwater.definitions.validation import check
from headwater.definitions.view import FeatureView
from headwater.errors import SourceError
from headwater.types import (
    Array,
    Bool,
    Bytes,
    Date,
    DType,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    Timestamp,
)

AIRPORT = Entity("airport", {"airport": String})
SOURCE = ParquetSource("w.parquet", event_time="t", created_time="c")
COLUMNS = pa.schema(
    {
        "airport": pa.string(),
        "t": pa.timestamp("ns"),
        "c": pa.timestamp("us", "UTC"),
        "temp": pa.float64(),
        "n": pa.int32(),
        "big": pa.int64(),
        "created_time": pa.timestamp("us", "UTC"),
        "word": pa.dictionary(pa.int32(), pa.string()),
        "none": pa.null(),
        "vector": pa.list_(pa.float32(), 3),
    }
)
TEMP = Feature("temp", Float64)


def view(
    *features: Any, name: Any = "weather", entity: Any = AIRPORT, source: Any = SOURCE, **other: Any
) -> FeatureView:
    return FeatureView(name, entity=entity, source=source, features=features or (TEMP,), **other)


def problems(*definitions: Any, columns: pa.Schema | None = COLUMNS) -> list[str]:
    return check(definitions, lambda source: columns).problems


def only(*definitions: Any, columns: pa.Schema | None = COLUMNS) -> str:
    found = problems(*definitions, columns=columns)
    assert len(found) == 1, found
    return found[0]


def test_what_is_right_has_no_problems() -> None:
    weather = view(TEMP, Feature("n", Int64), Feature("word", String), Feature("any", Bool, column="none"))
    service = FeatureService("model", [weather["temp"], "weather:n", "weather:*", weather.alias("dest")["temp"]])
    assert problems(AIRPORT, weather, weather, service) == []
    assert problems(weather) == []


def test_all_problems_come_together_each_with_its_place() -> None:
    bad = view(Feature("temp", Float64, default="warm"), name="a b", freshness_sla="0s")
    service = FeatureService("model", ["wether:temp"])
    found = problems(AIRPORT, bad, service)
    assert len(found) == 4
    assert all(problem.startswith("test_validation.py:") for problem in found)
    assert any("a b.temp: the default 'warm' is not float64" in problem for problem in found)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must not be empty"),
        ("a b", "is not a valid name for"),
        ("1a", "begin with a letter"),
        ("a-b", "letters, digits"),
        ("a:b", "letters, digits"),
        ("a@1", "letters, digits"),
        ("__a", "are reserved"),
        ("a__status", "status and event-time columns"),
        ("weather__event_time", "status and event-time columns"),
        ("x" * 129, "longer"),
        (5, "must be text, not 5"),
        (None, "must be text, not None"),
    ],
)
def test_names(name: Any, said: str) -> None:
    assert said in problems(Entity(name, {"k": String}))[0]
    assert said in problems(view(name=name))[0]
    assert said in problems(FeatureService(name, ["weather:temp"]), view())[0]
    assert said in problems(view(Feature(name, Float64, column="temp")))[0]
    assert said in problems(view(entity=Entity("e", {name: String}), source=PushSource()))[0]


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (view(version="1.0"), "version '1.0' is not major.minor.patch"),
        (view(version="v1.0.0"), "'v1.0.0'"),
        (view(version="1.0.01"), "'1.0.01'"),
        (view(version=1), "version 1 is not"),
        (FeatureService("m", [view()], version="2"), "version '2'"),
        (view(ttl=timedelta(-1)), "ttl: -1d is negative"),
        (view(ttl="soon"), "ttl: 'soon' is not a duration"),
        (view(freshness_sla="0s"), "freshness_sla: 0s must be greater than zero"),
        (view(freshness_sla=timedelta(-1)), "-1d must be greater than zero"),
        (view(freshness_sla=3600), "3600 is not a duration"),
        (view(Feature("temp", Float64, freshness_sla="0s")), "weather.temp: freshness_sla: 0s"),
        (view(availability_sla=1.5), "1.5 is not a share"),
        (view(availability_sla=-0.1), "-0.1 is not a share"),
        (view(availability_sla="high"), "'high' is not a share"),
        (view(availability_sla=True), "True is not a share"),
        (view(availability_sla=float("nan")), "nan is not a share"),
        (view(owner=5), "owner: must be text, not 5"),
        (view(description=None), "description: must be text"),
        (view(tags="gold"), "tags: must be a mapping, not 'gold'"),
        (view(tags={"tier": 1}), "tags: must map text to text"),
        (view("temp"), "'temp' is not a feature; write hw.Feature"),
        (FeatureView("v", entity=AIRPORT, source=SOURCE, features=[]), "at least one feature"),
        (FeatureView("v", entity=AIRPORT, source=SOURCE, features="temp"), "features: must be a list, not 'temp'"),
        (FeatureView("v", entity=AIRPORT, source=SOURCE, features=TEMP), "features: must be a list"),
        (FeatureView("v", entity=5, source=SOURCE, features=[TEMP]), "entity: must be a list, not 5"),
        (view(source="w.parquet"), "must be a source, such as hw.ParquetSource"),
        (view(source=None), "must be a source"),
        (view(TEMP, TEMP), "feature 'temp' is there twice"),
        (view(TEMP, Feature("Temp", Float64, column="temp")), "differ only in letter case"),
        (view(Feature("airport", String)), "join key 'airport' has this name"),
        (view(Feature("temp", float)), "is not a dtype; give one such as hw.Float64"),
        (view(Feature("temp", "float64")), "'float64' is not a dtype"),
        (view(Feature("temp", Float64, kind="number")), "kind 'number' is not one of numerical"),
        (view(Feature("word", String, kind="numerical")), "kind: string is not numerical"),
        (view(Feature("temp", Float64, column=3)), "column: must be the name of a column, not 3"),
        (
            view(Feature("x", Timestamp, column="created_time")),
            ("'created_time' is reserved for the created time of written rows"),
        ),
        (view(Feature("v", Embedding(0), column="vector")), "a length greater than zero"),
        (
            view(join_key_map={"airprt": "origin"}),
            "'airprt' is not a join key of this view; it has airport; did you mean",
        ),
        (view(join_key_map={"airport": 5}), "'airport' must map to the name of a column, not 5"),
        (view(join_key_map=["airport"]), "join_key_map: must be a mapping"),
        (FeatureService("m", []), "at least one feature"),
        (FeatureService("m", 5), "features: must be a list, not 5"),
        (FeatureService("m", [5]), "5 is not a feature"),
        (Entity("e", {}), "at least one join key"),
        (Entity("e", "k"), "join_keys: must be a mapping, not 'k'"),
        (Entity("e", {"k": str}), "join key 'k' is <class 'str'>; give a dtype"),
        (Entity("e", {"k": Float64}), "join key 'k' is float64; a key is one of"),
        (Entity("e", {"k": Array(String)}), "a key is one of"),
        (Entity("e", {"k": String, "K": String}), "differ only in letter case"),
        (5, "5 is not a definition"),
        (view()["temp"], "is not a definition"),
    ],
)
def test_one_wrong_setting(definition: Any, said: str) -> None:
    more = [view()] if isinstance(definition, FeatureService) else []
    assert said in only(definition, *more)


@pytest.mark.parametrize(
    ("dtype", "default"),
    [
        (Int32, 2**31),
        (Int64, 1.0),
        (Int64, True),
        (Float64, "1"),
        (Float64, True),
        (Bool, 1),
        (String, b"x"),
        (Bytes, "x"),
        (Timestamp, "2024-01-01"),
        (Date, datetime(2024, 1, 1)),
        (Array(Int64), [1, "a"]),
        (Array(Int64), 1),
        (Embedding(2), [1.0]),
        (Embedding(2), [1.0, None]),
    ],
)
def test_a_default_of_the_wrong_type(dtype: DType, default: Any) -> None:
    feature = Feature("f", dtype, default=default)
    assert "f: the default" in only(view(feature, source=PushSource(event_time="t")))


def test_unknown_entities_name_the_nearest() -> None:
    assert "unknown entity 'airprt': must be an hw.Entity; did you mean 'airport'?" in only(
        AIRPORT, view(entity="airprt")
    )
    assert "give the object" in only(AIRPORT, view(entity="airport"))
    assert "unknown entity 5" in only(view(entity=[AIRPORT, 5]))


def test_two_of_one_name() -> None:
    assert "airport: the name is taken" in only(AIRPORT, Entity("airport", {"airport": Int64}))
    assert "the name is taken" in only(AIRPORT, view(entity=Entity("airport", {"airport": Bytes})), columns=None)
    assert "weather: the name is taken: test_validation.py:" in only(view(), view(ttl="1h"))
    weather = view()
    services = [FeatureService("m", [weather]), FeatureService("m", ["weather:*"])]
    assert "m: the name is taken" in only(weather, *services)
    assert "a feature view has this name" in only(view(), FeatureService("weather", ["weather:temp"]))
    assert "join key 'k' is there twice" in only(
        view(entity=[Entity("a", {"k": String}), Entity("b", {"k": String})], join_key_map={"k": "airport"})
    )


def test_an_entity_given_twice_alike_is_one() -> None:
    assert problems(Entity("airport", {"airport": String}), AIRPORT, view()) != []
    assert problems(AIRPORT, view(entity=Entity("airport", {"airport": String}))) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (ParquetSource("x", event_time=5), "source.event_time: must be the name of a column, not 5"),
        (ParquetSource("x", event_time="", created_time="c"), "source.event_time: must be the name of a column"),
        (ParquetSource("x", created_time="c"), "created_time requires an event_time"),
        (ParquetSource("x", event_time="t", delay="soon"), "source.delay: 'soon' is not a duration"),
        (ParquetSource("x", event_time="t", delay=timedelta(-1)), "is negative"),
        (ParquetSource("", event_time="t"), "source.path: must be a path"),
        (CSVSource(5, event_time="t"), "source.path: must be a path, not 5"),
        (CSVSource("x", nulls=(1,), event_time="t"), "the texts that mean NULL"),
        (PushSource(event_time="t", schema=["x"]), "must map columns to dtypes"),
        (PushSource(event_time="t", schema={"x": float}), "give a dtype such as hw.Float64"),
        (SQLSource("", event_time="t"), "must be a SELECT"),
        (SQLSource("SELEC 1", event_time="t"), "source.query: "),
        (SQLSource("SELECT (1", event_time="t"), "source.query: "),
        (
            SQLSource("SELECT k, x * FROM t", event_time="t"),
            "source.query: not valid SQL at line 1, column 18, near 'FROM': something is missing",
        ),
        (SQLSource("SELECT 1; SELECT 2", event_time="t"), "several statements"),
        (SQLSource("DROP TABLE x", event_time="t"), "must be one SELECT"),
        (SQLSource("SELECT * FROM flihts", tables={"flights": SOURCE}, event_time="t"), "did you mean 'flights'?"),
        (SQLSource("SELECT 1", tables=[SOURCE], event_time="t"), "must map names to sources"),
        (SQLSource("SELECT * FROM f", tables={"f": "f.csv"}, event_time="t"), "source.tables['f']: must be a source"),
        (SQLSource("SELECT * FROM f", tables={"f": PushSource()}, event_time="t"), "push source has no table"),
    ],
)
def test_a_wrong_source(source: Source, said: str) -> None:
    assert said in only(view(source=source), columns=None)


def test_a_query_may_name_its_own_tables() -> None:
    query = "WITH a AS (SELECT * FROM F), b AS (SELECT * FROM a) SELECT * FROM b JOIN f USING (k), range(3) r"
    assert problems(view(source=SQLSource(query, tables={"f": SOURCE}, event_time="t")), columns=None) == []


def test_a_word_of_sql_as_a_name_is_told() -> None:
    query = "SELECT airport, t, select AS temp FROM f"
    found = only(view(source=SQLSource(query, tables={"f": SOURCE}, event_time="t")), columns=None)
    assert "source.query: select is a reserved SQL keyword" in found


def test_a_word_of_sql_that_only_the_engine_refuses_is_told() -> None:
    def schemas(source: Source) -> pa.Schema | None:
        raise SourceError(f"duckdb: {said}")

    source = SQLSource("SELECT airport, t, temp, order FROM f ORDER BY t", tables={"f": SOURCE}, event_time="t")
    said = "Parser Error: syntax error at or near"
    assert "order is a reserved SQL keyword" in check([view(source=source)], schemas).problems[0]
    said = "Catalog Error: no such table"
    assert "reserved SQL keyword" not in check([view(source=source)], schemas).problems[0]


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (
            view(Feature("temp", Float64, column="tmp")),
            "weather.temp: column: the source has no column 'tmp'; it has airport",
        ),
        (view(Feature("tmp", Float64)), "did you mean 'temp'?"),
        (view(Feature("word", Float64)), "weather.word: column 'word' is dictionary"),
        (view(Feature("temp", Bool)), "the feature is bool"),
        (view(Feature("vector", Embedding(2))), "the feature is embedding<2>; declare it hw.Embedding(3)"),
        (view(join_key_map={"airport": "origin"}), "join key airport: the source has no column 'origin'"),
        (view(entity=Entity("e", {"code": String})), "(join_key_map={'code': …} names another)"),
        (view(entity=Entity("e", {"n": String})), "column 'n' is int32, the key is string"),
        (view(entity=Entity("e", {"word": Int64})), "the key is int64"),
        (view(entity=Entity("e", {"temp2": String}), join_key_map={"temp2": "temp"}), "is double, the key is string"),
        (view(source=ParquetSource("w", event_time="time")), "event_time: the source has no column 'time'"),
        (view(source=ParquetSource("w", event_time="word")), "event_time: column 'word' is dictionary"),
        (
            view(source=ParquetSource("w", event_time="t", created_time="big")),
            "created_time: column 'big' is int64, not a time",
        ),
        (view(source=ParquetSource("w", event_time="t", event_id="id")), "event_id: the source has no column 'id'"),
    ],
)
def test_columns_of_the_source(definition: FeatureView, said: str) -> None:
    assert said in only(definition)


def test_what_fits() -> None:
    weather = view(
        TEMP,
        Feature("n", Int32),
        Feature("n64", Int64, column="n"),
        Feature("nf", Float64, column="n"),
        Feature("word", String),
        Feature("vector", Embedding(3)),
        Feature("list", Array(Float32), column="vector"),
        entity=Entity("e", {"key": Int32}),
        join_key_map={"key": "big"},
    )
    assert problems(weather) == []


def test_a_csv_is_cast_so_that_only_names_count() -> None:
    text = pa.schema([(name, pa.string()) for name in COLUMNS.names])
    csv = CSVSource("w.csv", event_time="t")
    assert problems(view(TEMP, Feature("n", Int64), source=csv), columns=text) == []
    assert "no column 'x'" in only(view(Feature("x", Int64), source=csv), columns=text)


@pytest.mark.parametrize("mark", [";", "|", "\t"])
def test_a_csv_of_other_separators_is_one_problem(mark: str) -> None:
    text = pa.schema([(mark.join(COLUMNS.names), pa.string())])
    found = only(view(source=CSVSource("w.csv", event_time="t")), columns=text)
    assert f"w.csv has one column, {mark.join(COLUMNS.names)!r}: its fields are separated by {mark!r}" in found


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([Feature("temp", Float64), Feature("text", String, column="temp")], "weather.text: column 'temp' of a CSV"),
        ([Feature("code", Bytes, column="airport")], "it is string for join key airport and bytes here"),
        ([Feature("when", Date, column="t")], "it is a time for event_time and date here"),
    ],
)
def test_a_column_of_a_csv_has_one_dtype(features: list[Feature], said: str) -> None:
    text = pa.schema([(name, pa.string()) for name in COLUMNS.names])
    assert said in only(view(*features, source=CSVSource("w.csv", event_time="t")), columns=text)


def test_a_column_of_a_csv_may_be_read_twice_alike() -> None:
    text = pa.schema([(name, pa.string()) for name in COLUMNS.names])
    twice = [TEMP, Feature("again", Float64, column="temp"), Feature("at", Timestamp, column="t")]
    assert problems(view(*twice, source=CSVSource("w.csv", event_time="t")), columns=text) == []


def test_numbers_of_every_kind_may_become_numbers_of_any_dtype() -> None:
    wide = pa.schema(
        {
            "airport": pa.float64(),
            "t": pa.timestamp("us"),
            "c": pa.timestamp("us"),
            "f": pa.float64(),
            "i": pa.int64(),
            "d": pa.decimal128(38, 18),
            "v": pa.large_list(pa.float16()),
        }
    )
    small = (Feature("f", Float32), Feature("i", Int32), Feature("d", Int64), Feature("v", Embedding(2)))
    assert problems(view(*small, entity=Entity("e", {"airport": Int64})), columns=wide) == []


def test_rows_that_stand_in_for_a_source_are_looked_at_instead() -> None:
    rows = TableSource([{}], event_time="t")
    wide = pa.schema({"airport": pa.string(), "t": pa.timestamp("us"), "f": pa.float64()})
    small = view(Feature("f", Float32), source=PushSource(event_time="t"))
    assert check([small], lambda source: Read(wide, rows)).problems == []
    missing = view(Feature("g", Float32), source=PushSource(event_time="t"))
    assert "no column 'g'" in check([missing], lambda source: Read(wide, rows)).problems[0]


def test_a_push_source_has_no_delay_and_one_of_an_earlier_release_means_the_same_without() -> None:
    delayed = view(source=PushSource(event_time="t", delay="10m"))
    assert "source.delay: a push source has no delay" in only(delayed)
    assert "created='event'" in only(delayed)
    assert fingerprint(delayed) == fingerprint(view(source=PushSource(event_time="t")))


def test_a_push_source_is_checked_against_its_own_schema() -> None:
    push = PushSource(event_time="t", schema={"airport": String, "t": Timestamp, "temp": String})
    assert "column 'temp' is string, the feature is float64" in only(view(source=push))
    assert problems(view(source=PushSource(event_time="t"))) == []
    # it names columns beyond those that the view uses, and may name these
    beyond = view(source=PushSource(event_time="t", created_time="c", schema={"unit": String}))
    assert problems(beyond) == []
    for name, dtype, said in (("airport", Float64, "airport"), ("t", String, "not a time"), ("temp", String, "temp")):
        assert said in only(view(source=PushSource(event_time="t", schema={"unit": String, name: dtype})))


def test_a_source_that_cannot_be_read_is_a_problem_like_others() -> None:
    def schemas(source: Source) -> pa.Schema | None:
        raise SourceError("w.parquet is not there")

    found = check([view(), view(name="a b")], schemas).problems
    assert any("weather: source: w.parquet is not there" in problem for problem in found)
    assert any("'a b' is not a valid name for" in problem for problem in found)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("wether:temp", "no feature view 'wether'; did you mean 'weather'?"),
        ("weather:tmp", "view 'weather' has no feature 'tmp'; it has temp; did you mean 'temp'?"),
        ("weather", "write 'weather:*'"),
        ("weather:", "is not a reference"),
        ("a b:c", "is not a reference"),
        ("weather@9.9.9:temp", "has no version '9.9.9'; it has 1.0.0"),
        (view(name="other", version="1.0.0"), "'other' is neither registered nor among the definitions"),
        (FeatureService("x", ["weather:temp"]), "is inside a list"),
        (view().alias("a b")["temp"], "'a b' is not a valid name for an alias"),
        (view()["temp"].alias("a b"), "'a b' is not a valid name for an alias"),
        (
            view().alias("dest", join_key_map={"airprt": "dest"}),
            "'airprt' is not a join key of 'weather'; it has airport",
        ),
        (view().rename({"temp": "a b"}), "rename of 'temp': 'a b' is not a valid name for a column"),
    ],
)
def test_items_of_a_service(item: Any, said: str) -> None:
    assert said in only(view(version="1.0.0"), FeatureService("model", [item]))


def test_an_alias_may_be_given_before_or_after_the_features() -> None:
    assert view()["temp"].alias("dest", {"airport": "dest"}) == view().alias("dest", {"airport": "dest"})["temp"]


def test_references_to_registered_views() -> None:
    registered = {"weather": [view(version="1.0.0"), view(Feature("n", Int64), version="1.1.0")]}

    def found(*items: Any) -> list[str]:
        return check([FeatureService("m", items)], None, registered).problems

    assert found("weather:temp", "weather:n", "weather@1.0.0:temp") == []
    assert "has no feature 'n'; it has temp" in found("weather@1.0.0:n")[0]


def test_nothing_escapes_whatever_is_given() -> None:
    odd: list[Any] = [None, 5, "x", object(), [], {}, float("nan"), b"", Feature("a", Int64), ...]
    for one in odd:
        for other in odd:
            made = [
                Entity(one, {one: other} if one.__hash__ else other),
                view(one, name=other),
                view(entity=[Entity("e", {"k": other}), Entity(one, {5: other}), one]),
                view(Feature(one, other, column=one, default=other, kind=None), entity=other, source=one),
                view(join_key_map=one, ttl=other, freshness_sla=one, availability_sla=other, owner=one, tags=other),
                view(source=ParquetSource(one, event_time=other, created_time=one, delay=other)),
                view(source=SQLSource(one, tables=other)),
                FeatureService(one, other),
                FeatureService("m", [one, other], version=one, tags=other),
            ]
            check([*made, one], lambda source: COLUMNS)
