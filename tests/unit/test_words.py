"""What errors say of data and names of users: what is wrong, where, and what to do; plain English, in pages too."""

import ast
import re
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import headwater as hw
from headwater.errors import NotFound

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEW = hw.FeatureView("v", entity=USER, source=hw.PushSource(event_time="t"), features=[hw.Feature("x", hw.Float64)])
SERVICE = hw.FeatureService("m", ["v:x"])


@pytest.fixture(scope="module")
def store():
    with hw.FeatureStore.in_memory([USER, VIEW, SERVICE], clock=lambda: NOON) as store:
        store.write("v", [{"user": 7, "t": NOON, "x": 1.5}], created="event")
        yield store


def refused(call):
    with pytest.raises(hw.HeadwaterError) as caught:
        call()
    return str(caught.value)


def test_an_index_that_is_left_out_is_named(store):
    frame = pd.DataFrame({"user": [7], "timestamp": [NOON], "t": [NOON], "x": [1.0]})
    timed, keyed = frame.set_index("timestamp"), frame[["user", "t", "x"]].set_index(["user", "x"])
    for call in (
        lambda: store.get_historical_features(timed, ["v:x"]),
        lambda: store.get_historical_features(timed, ["v:x"], timestamp_column="timestamp"),
        lambda: store.get_historical_features(keyed, ["v:x"], timestamp_column="t"),
        lambda: store.get_online_features(["v:x"], keyed),
        lambda: store.write("v", keyed),
        lambda: store.delete("v", keyed),
    ):
        assert "is the frame's index, which is left out: give frame.reset_index()" in refused(call)
    assert "reset_index" not in refused(lambda: store.get_online_features(["v:x"], frame[["x"]]))


def test_a_spine_column_that_cannot_be_taken_is_named(store):
    spine = {"user": [7, 7], "timestamp": [NOON, NOON]}
    mixed = refused(lambda: store.get_historical_features(pd.DataFrame({**spine, "note": [1, "late"]}), ["v:x"]))
    assert "column 'note' holds numbers and text (row 1)" in mixed and ".astype('string')" in mixed
    for large in (pd.DataFrame({**spine, "hash": [2**70, 5]}), {**spine, "hash": [5, -(2**64)]}):
        text = refused(lambda large=large: store.get_historical_features(large, ["v:x"]))
        assert "column 'hash' holds" in text and "beyond 64 bits" in text
    rows = [{"user": 7, "timestamp": NOON, "note": note} for note in (b"x", {"a": 1})]
    assert "column 'note' holds bytes and dicts" in refused(lambda: store.get_historical_features(rows, ["v:x"]))
    twice = pd.DataFrame([[7, NOON, 1]], columns=["user", "timestamp", "user"])
    assert "two columns are named 'user'" in refused(lambda: store.get_historical_features(twice, ["v:x"]))
    arrow = pa.table([pa.array([7]), pa.array([NOON]), pa.array([1])], ["user", "timestamp", "user"])
    assert "2 columns named 'user'" in refused(lambda: store.get_historical_features(arrow, ["v:x"]))


def test_other_columns_of_a_spine_pass_through_whatever_their_type(store):
    extra = pa.table(
        {
            "user": pa.array([7, 8]),
            "timestamp": pa.array([NOON, NOON]),
            "nested": pa.array([{"a": [1, None]}, None], pa.struct([("a", pa.list_(pa.int8()))])),
            "coded": pa.array(["x", None]).dictionary_encode(),
            "price": pa.array(["1.10", None]).cast(pa.decimal128(20, 2)),
            "wide": pa.array([2**64 - 1, 0], pa.uint64()),
            "lasted": pa.array([5, None], pa.duration("ns")),
            "nothing": pa.nulls(2),
            "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
            "large": pa.array(["x", None], pa.large_string()),
            "half": pa.array([1.5, None], pa.float16()),
            "day": pa.array([1, None], pa.time64("ns")),
            "group": pa.array(["a", "b"]),
            "select": pa.array([1, 2]),
        }
    )
    joined = store.get_historical_features(extra, ["v:x"]).to_arrow()
    assert joined.select(extra.column_names).equals(extra) and joined["x"].to_pylist() == [1.5, None]
    assert store.get_historical_features(pl.from_arrow(extra.drop(["map", "half"])), ["v:x"]).to_polars().height == 2


def test_text_that_is_given_as_a_time_says_how_to_parse_it(store):
    text = "2026-06-01T10:00:00Z"
    for call in (
        lambda: store.write("v", [{"user": 1, "t": text, "x": 1.0}]),
        lambda: store.write("v", pd.DataFrame({"user": [1], "t": [text], "x": [1.0]})),
        lambda: store.get_historical_features({"user": [1], "timestamp": [text]}, ["v:x"]),
    ):
        assert "parse it first, with datetime.fromisoformat" in refused(call)


def test_a_feature_named_as_a_view_and_the_reverse(store):
    assert "'x' is not a view; feature 'x' is in view v: as a feature write 'v:x'" in refused(
        lambda: store.prepare(["x"])
    )
    assert "write 'v:x'" in refused(lambda: store.prepare("x"))
    assert "give the view alone, 'v'" in refused(lambda: store.write("v:x", []))
    assert "give the view alone, 'v'" in refused(lambda: store.materialize(["v:x"]))
    assert "feature 'x' is in view v" in refused(lambda: store.get_feature_view("x"))
    assert "'m' is a feature service" in refused(lambda: store.delete("m", [7]))
    assert "'user' is an entity" in refused(lambda: store.write("user", []))
    assert "give its name, 'v'" in refused(lambda: store.write(VIEW, []))
    assert "write 'v:*'" in refused(lambda: store.prepare(["v"]))
    assert "write ['v:*']" in refused(lambda: store.prepare("v"))
    with pytest.raises(NotFound, match="'w' is not a view"):
        store.prepare(["w"])


def test_what_the_catalog_gives_can_be_read(store):
    info, view = store.get_feature_service("m"), store.get_feature_view("v")
    assert store.prepare(info).read([7]).to_dict() == {"user": [7], "x": [1.5]}
    assert store.get_online_features(info, [7]).to_dict() == {"user": [7], "x": [1.5]}
    assert store.get_online_features([view], [7]).to_dict() == store.get_online_features(view, [7]).to_dict()
    spine = {"user": [7], "timestamp": [NOON]}
    assert store.get_historical_features(spine, info).to_arrow()["x"].to_pylist() == [1.5]
    assert store.get_historical_features(spine, [view]).to_arrow()["x"].to_pylist() == [1.5]
    assert "is inside a list" in refused(lambda: store.prepare([info]))
    assert store.prepare("m@1.0.0").read([7]).to_dict() == store.prepare(["v@1.0.0:x"]).read([7]).to_dict()


ROOT = Path(__file__).resolve().parents[2]

UNUSUAL = {
    r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|faster\b)": "is not a, does not have",
    r"\banew\b": "again; recreate, reopen",
    r"\balike\b": "the same, both, equally",
    r"\bstands? (?:beside|inside|in the (?:answer|result)|for itself)\b": "is next to, is in, appears in",
    r"\blet be\b|\blets? be tried\b": "retry",
    r"\bbears?\b|\blies (?:in|on|at|beside|below)\b": "has, contains; is in",
    r"\b(?:is|are) as far as\b|\bmaterialized as far as\b": "has caught up with",
    r"\b(?:none|one) of headwater's\b|\bfault of headwater\b": "not created by headwater; a bug in headwater",
    r"\b(?:is|are) (?:not )?fed\b|\bfed (?:no|any)\b": "active, updated",
    r"\bgo(?:es)? on (?:\w+ing|with|without|from)\b": "continue, keep",
    r"\b(?:any|no) more\b(?=[.,;:)]|$)": "no longer",
    r"\b(?:is|are) (?:wanted|told)\b": "must be; reported",
    r"\bcannot be had\b|\bput right\b|\bat the very end\b": "cannot be loaded; fixed; during COMMIT",
    r"\bmake (?:room|it first)\b|\bno room left\b": "free space; create it first",
    r"\btakes no (?:writes|rows)\b": "is read-only, accepts no rows",
    r"\bwords? of SQL\b": "is a reserved SQL keyword",
    r"\bnothing (?:to install )?beside\b": "nothing else",
    r"\ba (?:sixth|fifth|third|quarter) less time\b": "17% faster",
    r"\bleave (?:\w+ ){0,3}away\b": "omit",
}
"""Phrases that an engineer would not write → what to write instead."""


def messages(path):
    """Line → each text of a module that can be shown: all literals of three words and more but docstrings and SQL."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            text = node.value
        else:
            continue
        if len(text.split()) > 2:
            yield node.lineno, text


def pages():
    """(where, text) of every line that users read: messages, `--help` (as docs/cli.md has it) and the pages."""
    for path in sorted((ROOT / "src" / "headwater").rglob("*.py")):
        if "testing" not in path.parts:
            for line, text in messages(path):
                yield f"{path.relative_to(ROOT)}:{line}", text
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(ROOT)}:{line}", text


def test_messages_help_and_pages_are_in_plain_english():
    texts = list(pages())
    assert len(texts) > 3000
    found = [
        f"{where}: {text.strip()[:120]!r}: write {better!r}"
        for where, text in texts
        for pattern, better in UNUSUAL.items()
        if re.search(pattern, text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "5 is no time (a bare number does not say its unit)",
        "force makes keys equal to history now: leave start and end away",
        "the table is none of headwater's (its key is another): name another",
        "the credentials cannot be had",
        "the connection was lost at the very end: whether it was done is not known",
        "'temp' would stand in the answer twice",
        "--dead lists and --replay lets be tried again: give one of them",
        "this is a fault of headwater",
        "reads take a sixth less time",
        "version 1.0.0 is retired and not fed any more",
        "a replica that is as far as the session",
        "the folder bears a mark; what it holds lies in .headwater",
        "views: names such as ['weather'] are wanted, not 5",
    ],
)
def test_what_is_not_written_is_found(text):
    assert any(re.search(pattern, text) for pattern in UNUSUAL)


@pytest.mark.parametrize(
    "text",
    [
        "there is no file at weather.csv; the log is no longer needed",
        "reads continue once the leader has caught up",
        "it needs no more than 500 MB, and 10 or more rows",
    ],
)
def test_what_is_written_is_not_found(text):
    assert not any(re.search(pattern, text) for pattern in UNUSUAL)
