"""On-demand features online and in history: the same function, the same values, whatever mode it is written in."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.testing import rounds

WHEN = datetime(2024, 1, 1, 12, tzinfo=UTC)
THING = hw.Entity("thing", join_keys={"id": hw.Int64})
OUTPUTS = [hw.Feature("total", hw.Float64), hw.Feature("label", hw.String), hw.Feature("over", hw.Bool)]


def view(**options):
    features = [hw.Feature("x", hw.Float64), hw.Feature("n", hw.Int64, default=7), hw.Feature("name", hw.String)]
    return hw.FeatureView("v", entity=THING, source=hw.PushSource(event_time="ts"), features=features, **options)


V = view()
INPUTS = [V["x", "n", "name"], hw.RequestField("k", hw.Int64), hw.RequestField("word", hw.String)]


@hw.on_demand(inputs=INPUTS, features=OUTPUTS)
def by_numpy(x, n, name, k, word):
    labels = np.array([a + b for a, b in zip(name, word, strict=True)], object)
    return {"total": x + n * k, "label": labels, "over": x > k}


@hw.on_demand(inputs=INPUTS, features=OUTPUTS, mode="pandas")
def by_pandas(frame):
    frame["total"] = frame["x"] + frame["n"] * frame["k"]
    frame["label"] = frame["name"] + frame["word"]
    frame["over"] = frame["x"] > frame["k"]
    return frame


@hw.on_demand(inputs=INPUTS, features=OUTPUTS, mode="arrow")
def by_arrow(x, n, name, k, word):
    total = pc.add(x, pc.cast(pc.multiply(n, k), pa.float64()))
    return {"total": total, "label": pc.binary_join_element_wise(name, word, ""), "over": pc.greater(x, k)}


@hw.on_demand(inputs=INPUTS, features=OUTPUTS, mode="rows")
def by_rows(row):
    total = row["x"] + row["n"] * row["k"]
    return {"total": total, "label": row["name"] + row["word"], "over": row["x"] > row["k"]}


def reference(x, n, name, k, word):
    """What each of them says, by hand: NULL where any input is."""
    if None in (x, n, name, k, word):
        return None, None, None
    return x + n * k, name + word, x > k


VALUES = st.tuples(
    st.none() | st.sampled_from([0.0, -1.5, math.nan, 1e300]) | st.floats(-1e6, 1e6),
    st.none() | st.integers(-1000, 1000),
    st.none() | st.text("ab é", max_size=3),
)
GIVEN = st.tuples(st.none() | st.integers(-50, 50), st.none() | st.text("xy", max_size=2))


def same(one, other):
    return one == other or (
        isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    )


@pytest.mark.parametrize("function", [by_numpy, by_pandas, by_arrow, by_rows], ids=lambda f: f.mode)
@settings(max_examples=rounds(8), deadline=None)
@given(rows=st.lists(VALUES, max_size=6), asked=st.lists(st.tuples(st.integers(0, 7), GIVEN), min_size=1, max_size=9))
def test_history_equals_online_equals_the_plain_function(function, rows, asked):
    with hw.FeatureStore.in_memory([function], clock=lambda: WHEN) as store:
        known = {key: {"id": key, "ts": WHEN - timedelta(hours=1), "x": x, "n": n, "name": name}
                 for key, (x, n, name) in enumerate(rows)}  # fmt: skip
        if known:
            store.write("v", list(known.values()))
        keys = [key for key, _ in asked]
        request = {"k": [k for _, (k, _) in asked], "word": [word for _, (_, word) in asked]}
        features = [f"{function.name}:{f.name}" for f in OUTPUTS]
        online = store.get_online_features(features, keys, request=request)
        spine = pa.table({"id": keys, "timestamp": [WHEN] * len(keys), "k": pa.array(request["k"], pa.int64()),
                          "word": pa.array(request["word"], pa.string())})  # fmt: skip
        history = store.get_historical_features(spine, features, include=("status", "event_time")).to_arrow()
        # n has a default where there is no row
        values = [known.get(key, {"x": None, "n": 7, "name": None}) for key in keys]
        expected = [
            reference(v["x"], v["n"], v["name"], k, word) for v, (_, (k, word)) in zip(values, asked, strict=True)
        ]
        for place, feature in enumerate(OUTPUTS):
            wanted = [row[place] for row in expected]
            got, trained = online.to_dict()[feature.name], history.column(feature.name).to_pylist()
            assert all(map(same, got, wanted)), (feature.name, got, wanted)
            assert all(map(same, trained, wanted)), (feature.name, trained, wanted)
            statuses = ["NULL" if value is None else "PRESENT" for value in wanted]
            assert online.statuses[feature.name] == statuses
            assert history.column(f"{feature.name}__status").to_pylist() == statuses
        times = [known[key]["ts"] if key in known else None for key in keys]
        assert online.event_times[function.name] == times
        trained = history.column(f"{function.name}__event_time").to_pylist()
        assert trained == times


DTYPES = {
    hw.Int32: 2**31 - 1, hw.Int64: 2**53 + 1, hw.Float32: 1.5, hw.Float64: 0.1, hw.Bool: True, hw.String: "é",
    hw.Bytes: b"\x00\xff", hw.Timestamp: WHEN, hw.Date: WHEN.date(), hw.Array(hw.Int64): [1, None, 3],
    hw.Embedding(2): [0.5, 1.0],
}  # fmt: skip


@hw.on_demand(inputs=[hw.RequestField("value", hw.Int64)], features=[hw.Feature("same", hw.Int64)], mode="rows")
def same_rows(row):
    return {"same": row["value"]}


@hw.on_demand(inputs=[hw.RequestField("value", hw.Int64)], features=[hw.Feature("same", hw.Int64)])
def same_numpy(value):
    return {"same": value}


@hw.on_demand(inputs=[hw.RequestField("value", hw.Int64)], features=[hw.Feature("same", hw.Int64)], mode="arrow")
def same_arrow(value):
    return {"same": value}


@hw.on_demand(inputs=[hw.RequestField("value", hw.Int64)], features=[hw.Feature("same", hw.Int64)], mode="pandas")
def same_pandas(frame):
    return frame.rename(columns={"value": "same"})


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", [same_rows, same_numpy, same_arrow, same_pandas], ids=lambda f: f.mode)
def test_every_dtype_goes_through_every_mode(function, dtype):
    field = hw.RequestField("value", dtype)
    changed = hw.OnDemandFeatureView(
        function.name, inputs=[field], features=[hw.Feature("same", dtype)], mode=function.mode, nulls="pass",
        function=function.function,
    )  # fmt: skip
    values = [DTYPES[dtype], None, DTYPES[dtype]]
    with hw.FeatureStore.in_memory([changed], clock=lambda: WHEN) as store:
        online = store.get_online_features([f"{function.name}:same"], [{}] * 3, request={"value": values})
        assert online.to_dict()["same"] == values
        assert online.statuses["same"] == ["PRESENT", "NULL", "PRESENT"]
        assert online.event_times == {function.name: [None] * 3}
        spine = pa.table({"timestamp": [WHEN] * 3, "value": pa.array(values, dtype.arrow)})
        assert store.get_historical_features(spine, [f"{function.name}:same"]).to_pylist() == [
            {"timestamp": WHEN, "value": value, "same": value} for value in values
        ]


# functions that fail

NUMBER = hw.RequestField("a", hw.Float64)


def failing(mode, errors):
    """One that raises for negative numbers, by row or by column."""
    if mode == "rows":

        @hw.on_demand(inputs=[NUMBER], features=[hw.Feature("root", hw.Float64)], mode="rows", errors=errors)
        def root(row):
            import math

            return {"root": math.sqrt(row["a"])}

    elif mode == "numpy":

        @hw.on_demand(inputs=[NUMBER], features=[hw.Feature("root", hw.Float64)], errors=errors)
        def root(a):
            if (a < 0).any():
                raise ValueError("negative")
            return {"root": np.sqrt(a)}

    elif mode == "arrow":

        @hw.on_demand(inputs=[NUMBER], features=[hw.Feature("root", hw.Float64)], mode="arrow", errors=errors)
        def root(a):
            return {"root": pc.sqrt_checked(a)}

    else:

        @hw.on_demand(inputs=[NUMBER], features=[hw.Feature("root", hw.Float64)], mode="pandas", errors=errors)
        def root(frame):
            assert (frame["a"] >= 0).all()
            return (frame**0.5).rename(columns={"a": "root"})

    return root


@pytest.mark.parametrize("mode", ["numpy", "pandas", "arrow", "rows"])
@settings(max_examples=rounds(10), deadline=None)
@given(numbers=st.lists(st.sampled_from([None, 4.0, -1.0, 9.0, math.nan]), min_size=1, max_size=12))
def test_rows_for_which_it_raises_are_errors_and_the_rest_is_served(mode, numbers):
    with hw.FeatureStore.in_memory([failing(mode, "null")], clock=lambda: WHEN) as store:
        online = store.get_online_features(["root:root"], [{}] * len(numbers), request={"a": numbers})
        spine = pa.table({"timestamp": [WHEN] * len(numbers), "a": pa.array(numbers, pa.float64())})
        history = store.get_historical_features(spine, ["root:root"], include="status").to_arrow()
    if mode == "pandas":
        # a NaN in a column of floats is a NULL of pandas, and no comparison with it holds
        numbers = [-1.0 if n is not None and math.isnan(n) else n for n in numbers]
    statuses = ["NULL" if n is None else "ERROR" if n < 0 else "PRESENT" for n in numbers]
    wanted = [n if n is None or math.isnan(n) else None if n < 0 else n**0.5 for n in numbers]
    assert online.statuses["root"] == statuses == history.column("root__status").to_pylist()
    assert all(map(same, online.to_dict()["root"], wanted))
    assert all(map(same, history.column("root").to_pylist(), wanted))


@pytest.mark.parametrize("mode", ["numpy", "pandas", "arrow", "rows"])
def test_an_error_names_function_row_and_inputs(mode):
    with hw.FeatureStore.in_memory([failing(mode, "raise")], clock=lambda: WHEN) as store:
        asked = {"a": [1.0, None, 4.0, -3.0, -9.0]}
        with pytest.raises(hw.OnDemandError, match=r"'root' 1\.0\.0, row 3: it raised .*, given a=-3\.0"):
            store.get_online_features(["root:root"], [{}] * 5, request=asked)
        spine = pa.table({"timestamp": [WHEN] * 5, "a": pa.array(asked["a"])})
        with pytest.raises(hw.OnDemandError, match=r"row 3: it raised .*, given a=-3\.0"):
            store.get_historical_features(spine, ["root:root"]).to_arrow()
        # nothing of it is left behind
        assert store.get_online_features(["root:root"], [{}], request={"a": 16.0}).to_dict() == {"root": [4.0]}


RAISED = {
    "SystemExit(3)": "SystemExit: 3",
    "type('Panic', (BaseException,), {})('lost')": "Panic: lost",
    "type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()": "Odd that cannot be shown",
    "ValueError('\\ud800')": r"ValueError: \\ud800",
}


@pytest.mark.parametrize("mode", ["numpy", "rows"])
@pytest.mark.parametrize("error", RAISED)
def test_whatever_a_function_raises_is_its_error(error, mode):
    def made(errors):
        text = f"def odd(a):\n    raise {error}\n"
        features = [hw.Feature("b", hw.Float64)]
        return hw.OnDemandFeatureView("odd", inputs=[NUMBER], features=features, mode=mode, source=text, errors=errors)

    fails = pytest.raises(hw.OnDemandError, match=f"row 0: it raised {RAISED[error]}")
    with hw.FeatureStore.in_memory([made("raise")], clock=lambda: WHEN) as store, fails:
        store.get_online_features(["odd:b"], [{}, {}], request={"a": 1.0})
    with hw.FeatureStore.in_memory([made("null")], clock=lambda: WHEN) as store:
        read = store.get_online_features(["odd:b"], [{}, {}], request={"a": [1.0, None]})
        assert read.statuses["b"] == ["ERROR", "NULL"]


@pytest.mark.parametrize("mode", ["numpy", "rows"])
def test_an_interruption_is_not_an_error_of_the_function(mode):
    odd = hw.OnDemandFeatureView(
        "odd", inputs=[NUMBER], features=[hw.Feature("b", hw.Float64)], mode=mode, errors="null",
        source="def odd(a):\n    raise KeyboardInterrupt\n",
    )  # fmt: skip
    with hw.FeatureStore.in_memory([odd], clock=lambda: WHEN) as store, pytest.raises(KeyboardInterrupt):
        store.get_online_features(["odd:b"], [{}], request={"a": 1.0})


def numpy_of(result):
    """A function that returns what it is told to, by the name of a case."""
    text = f"def odd(a):\n    return {result}\n"
    return hw.OnDemandFeatureView(
        "odd", inputs=[NUMBER], features=[hw.Feature("b", hw.Int64)], source=text, imports=("import numpy as np",)
    )


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("None", "it returned None, not a dict of columns"),
        ("a", "it returned a ndarray, not a dict of columns"),
        ("{}", "it returned no 'b'; it returned nothing"),
        ("{'c': a}", "it returned no 'b'; it returned c"),
        ("{'b': a, 'c': a}", "it returned 'c', which are not features of the view"),
        ("{'b': a[:-1]}", "'b' has 1 values for 2 rows"),
        ("{'b': 1}", "'b' is an int, not an array of 2 values"),
        ("{'b': a + 0.5}", r"row 0: 'b': 1\.5 does not fit int64: not a whole number, given"),
        ("{'b': a > 0}", "row 0: 'b': True does not fit int64"),
        ("{'b': a.astype(str)}", "'b': .* does not fit int64"),
        ("{'b': [None, 'x']}", "'b': 'x' does not fit int64, given 2 rows from row 0 on"),
        ("{'b': a.reshape(1, -1)}", "'b' has 1 values for 2 rows"),
        ("{'b': a.astype(complex)}", r"row 0: 'b': \(1\+0j\) does not fit int64"),
        ("{'b': np.zeros(len(a), [('c', int)])}", r"row 0: 'b': \(0,\) does not fit int64"),
    ],
)
def test_what_does_not_fit_its_features_is_an_error(result, words):
    with hw.FeatureStore.in_memory([numpy_of(result)], clock=lambda: WHEN) as store:
        with pytest.raises(hw.OnDemandError, match=words):
            store.get_online_features(["odd:b"], [{}, {}], request={"a": [1.0, 2.0]})
        spine = pa.table({"timestamp": [WHEN] * 2, "a": [1.0, 2.0]})
        with pytest.raises(hw.OnDemandError, match=words):
            store.get_historical_features(spine, ["odd:b"]).to_arrow()


@pytest.mark.parametrize(
    ("result", "values"),
    [
        ("{'b': np.ma.masked_less(a, 2).astype(int)}", [None, 2]),
        ("{'b': a}", [1, 2]),
        ("{'b': a.astype(np.uint8)}", [1, 2]),
        ("{'b': [1, None]}", [1, None]),
        ("{'b': np.array([np.int64(1), None], object)}", [1, None]),
        ("{'b': a.astype('float16')}", [1, 2]),
        ("{'b': a.astype('>f8')}", [1, 2]),
        ("{'b': np.ma.masked_less(a.astype('>i4'), 2)}", [None, 2]),
        ("{'b': np.ma.masked_less(a.astype(np.longdouble), 2)}", [None, 2]),
    ],
)
def test_what_fits_its_features_is_taken(result, values):
    with hw.FeatureStore.in_memory([numpy_of(result)], clock=lambda: WHEN) as store:
        assert store.get_online_features(["odd:b"], [{}, {}], request={"a": [1.0, 2.0]}).to_dict() == {"b": values}


@pytest.mark.parametrize("kind", ["table", "record_batch"])
def test_two_columns_of_one_name_are_refused(kind):
    text = f"def odd(a):\n    return pa.{kind}([a, a], names=['b', 'b'])\n"
    odd = hw.OnDemandFeatureView(
        "odd", inputs=[NUMBER], features=[hw.Feature("b", hw.Float64)], mode="arrow", source=text,
        imports=("import pyarrow as pa",),
    )  # fmt: skip
    with (
        hw.FeatureStore.in_memory([odd], clock=lambda: WHEN) as store,
        pytest.raises(hw.OnDemandError, match="it returned two columns of one name"),
    ):
        store.get_online_features(["odd:b"], [{}], request={"a": 1.0})


# inputs


def test_a_function_that_changes_its_inputs_changes_nothing_else():
    @hw.on_demand(inputs=[V["x"], NUMBER], features=[hw.Feature("first", hw.Float64)])
    def first(x, a):
        x += 1000
        a[:] = 0
        return {"first": x}

    @hw.on_demand(inputs=[V["x"], NUMBER], features=[hw.Feature("second", hw.Float64)])
    def second(x, a):
        return {"second": x + a}

    with hw.FeatureStore.in_memory([first, second], clock=lambda: WHEN) as store:
        store.write("v", [{"id": 1, "ts": WHEN, "x": 1.0, "n": 1, "name": ""}])
        features = ["v:x", "first:first", "second:second"]
        for _ in range(2):
            read = store.get_online_features(features, [1, 1], request={"a": np.array([1.0, 2.0])}).to_dict()
            assert read == {"id": [1, 1], "x": [1.0, 1.0], "first": [1001.0, 1001.0], "second": [2.0, 3.0]}
        spine = pa.table({"id": [1], "timestamp": [WHEN], "a": [1.0]})
        trained = store.get_historical_features(spine, features).to_pylist()[0]
        assert (trained["x"], trained["a"], trained["first"], trained["second"]) == (1.0, 1.0, 1001.0, 2.0)


def test_nulls_arrive_masked_where_they_are_passed():
    @hw.on_demand(inputs=[V["x"], V["name"].rename({"name": "who"})], nulls="pass",
                  features=[hw.Feature("filled", hw.Float64), hw.Feature("known", hw.Bool)])  # fmt: skip
    def filled(x, who):
        return {"filled": x.filled(-1.0), "known": ~np.ma.getmaskarray(who)}

    with hw.FeatureStore.in_memory([filled], clock=lambda: WHEN) as store:
        store.write(
            "v",
            [
                {"id": 1, "ts": WHEN, "x": None, "n": 1, "name": "a"},
                {"id": 2, "ts": WHEN, "x": 2.0, "n": 1, "name": None},
            ],
        )
        read = store.get_online_features(["filled:*"], [1, 2, 3])
        assert read.to_dict() == {"id": [1, 2, 3], "filled": [-1.0, 2.0, -1.0], "known": [True, False, False]}
        assert set(read.statuses["filled"]) == {"PRESENT"}


def test_statuses_of_inputs_that_are_not_values(tmp_path):
    clock = [WHEN]
    timed = view(ttl="2d", freshness_sla="1h")

    @hw.on_demand(inputs=[timed["x", "n"]], features=[hw.Feature("y", hw.Float64)])
    def y(x, n):
        return {"y": x + n}

    @hw.on_demand(inputs=[y], features=[hw.Feature("z", hw.Float64)])
    def z(y):
        return {"z": -y}

    with hw.FeatureStore.in_memory([y, z], clock=lambda: clock[0]) as store:
        store.write(
            "v",
            [{"id": 1, "ts": WHEN, "x": 1.0, "n": 1, "name": ""}, {"id": 2, "ts": WHEN, "x": None, "n": 1, "name": ""}],
        )
        features = ["y:y", "z:z"]

        def statuses(keys=(1,), **options):
            read = store.get_online_features(features, list(keys), **options)
            return read.statuses["y"], read.statuses["z"], read.to_dict()["z"]

        assert statuses((1, 2, 3)) == (["PRESENT", "NULL", "NULL"], ["PRESENT", "NULL", "NULL"], [-2.0, None, None])
        assert statuses(now=WHEN - timedelta(days=1)) == (["NOT_KNOWN"], ["NOT_KNOWN"], [None])
        clock[0] = WHEN + timedelta(hours=2)
        assert statuses() == (["STALE"], ["STALE"], [-2.0])
        assert statuses(stale="drop") == (["STALE"], ["STALE"], [None])
        assert statuses(max_age="3h") == (["PRESENT"], ["PRESENT"], [-2.0])
        clock[0] = WHEN + timedelta(days=3)
        assert statuses() == (["NULL"], ["NULL"], [None])


def test_the_oldest_event_of_its_inputs_is_its_event_time():
    other = hw.FeatureView(
        "w", entity=THING, source=hw.PushSource(event_time="ts"), features=[hw.Feature("x", hw.Float64)]
    )

    @hw.on_demand(
        inputs=[V["x"], other["x"].rename({"x": "w"})],
        nulls="pass",
        mode="rows",
        features=[hw.Feature("y", hw.Float64)],
    )
    def both(row):
        return {"y": (row["x"] or 0.0) + (row["w"] or 0.0)}

    early = WHEN - timedelta(hours=3)
    with hw.FeatureStore.in_memory([both], clock=lambda: WHEN) as store:
        store.write("v", [{"id": i, "ts": WHEN, "x": 1.0, "n": 1, "name": ""} for i in (1, 2)])
        store.write("w", [{"id": i, "ts": early, "x": 1.0} for i in (1, 3)])
        assert store.get_online_features(["both:y"], [1, 2, 3, 4]).event_times["both"] == [early, WHEN, early, None]


# requests


def test_a_request_is_checked_by_name_and_value():
    with hw.FeatureStore.in_memory([by_rows], clock=lambda: WHEN) as store:

        def read(**request):
            return store.get_online_features(["by_rows:total"], [1, 2], request=request)

        with pytest.raises(hw.UsageError, match=r"request: no 'word' \(string\), which 'by_rows' needs"):
            read(k=1)
        with pytest.raises(hw.UsageError, match="takes 'words'; did you mean 'word'"):
            read(k=1, words="a")
        with pytest.raises(hw.UsageError, match=r"request: 'k', row 1: 2\.5 does not fit int64"):
            read(k=[1, 2.5], word="a")
        with pytest.raises(hw.UsageError, match="'k' has 3 values for 2 entities"):
            read(k=[1, 2, 3], word="a")
        with pytest.raises(hw.UsageError, match="none of the requested features takes 'k'; omit request="):
            store.get_online_features(["v:x"], [1], request={"k": 1})
        with pytest.raises(hw.UsageError, match=r"spine: no 'k' \(int64\), which 'by_rows' needs, 'word' \(string\)"):
            store.get_historical_features(pa.table({"id": [1], "timestamp": [WHEN]}), ["by_rows:total"])
        with pytest.raises(hw.UsageError, match="request fields are columns of the spine; give a spine"):
            store.get_historical_features(None, ["by_rows:total"], at=WHEN)
        with pytest.raises(hw.SpineError, match="spine: column 'k', row 0: 'x' does not fit int64"):
            store.get_historical_features(
                pa.table({"id": [1], "timestamp": [WHEN], "k": ["x"], "word": ["a"]}), ["by_rows:total"]
            ).to_arrow()


def test_two_functions_that_mean_other_fields_by_one_name_are_refused_together():
    @hw.on_demand(inputs=[hw.RequestField("a", hw.String)], features=[hw.Feature("c", hw.String)])
    def upper(a):
        return {"c": a}

    words = "request field 'a' is string for 'upper' and float64 for 'root'"
    made = hw.FeatureStore.in_memory([failing("numpy", "raise"), upper], clock=lambda: WHEN)
    with made as store, pytest.raises(hw.UsageError, match=words):
        store.prepare(["root:root", "upper:c"])


def test_a_service_says_what_a_request_must_have():
    service = hw.FeatureService("model", [V["x"], by_numpy])
    with hw.FeatureStore.in_memory([service], clock=lambda: WHEN) as store:
        assert dict(store.get_feature_service("model").request_fields) == {"k": hw.Int64, "word": hw.String}
        assert dict(store.prepare("model").request_fields) == {"k": hw.Int64, "word": hw.String}
        assert store.get_feature_service("model").output_schema.names == ["id", "x", "total", "label", "over"]
        info = store.get_feature_view("by_numpy")
        assert info.inputs == ("v@1.0.0:x", "v@1.0.0:n", "v@1.0.0:name", "request:k", "request:word")
        assert info.join_keys == {"id": hw.Int64}


def test_the_function_stays_callable():
    found = by_numpy(np.array([1.0]), np.array([2]), np.array(["a"], object), np.array([3]), np.array(["b"], object))
    assert found["total"].tolist() == [7.0]


def test_what_is_unavailable_is_not_computed(tmp_path):
    rows = [{"id": 1, "ts": WHEN - timedelta(minutes=5), "x": 2.0}]
    source = hw.TableSource(rows, event_time="ts")
    windows = hw.FeatureView(
        "w", entity=THING, source=source, features=[hw.Aggregation("x", "sum", "1h", name="x_1h")]
    )  # fmt: skip

    @hw.on_demand(inputs=[windows["x_1h"]], features=[hw.Feature("y", hw.Float64)], nulls="pass")
    def y(x_1h):
        return {"y": x_1h + 1}

    @hw.on_demand(inputs=[y], features=[hw.Feature("z", hw.Float64)], errors="null")
    def z(y):
        return {"z": y}

    with hw.FeatureStore.in_memory([y, z], clock=lambda: WHEN) as store:
        before = store.get_online_features(["y:y", "z:z", "w:x_1h"], [1])
        assert before.statuses == {"y": ["UNAVAILABLE"], "z": ["UNAVAILABLE"], "x_1h": ["UNAVAILABLE"]}
        assert before.to_dict() == {"id": [1], "y": [None], "z": [None], "x_1h": [None]}
        assert "w 1.0.0" in before.problems[1]
        store.materialize()
        after = store.get_online_features(["z:z"], [1])
        assert (after.to_dict()["z"], after.statuses["z"]) == ([3.0], ["PRESENT"])
        spine = pa.table({"id": [1], "timestamp": [WHEN]})
        assert store.get_historical_features(spine, ["z:z"]).to_pylist()[0]["z"] == 3.0
