"""Joins of different shapes, each once, and the SQL that an engine runs for them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlglot import exp

from headwater.definitions.source import Source
from headwater.definitions.view import FeatureSelection
from headwater.offline.base import ChangeCounts, ChangesRequest, OfflineEngine
from headwater.planning.watermark import Watermark
from headwater.testing.cases import HistoryCase
from headwater.testing.dense import dense_case
from headwater.testing.offline_checks import changes_input, check_history
from headwater.testing.own_tables_suite import Place, in_exact_types, own_name
from headwater.testing.statements import watch

OwnSource = Callable[..., Source]
FILES = Path(__file__).parent / "snapshots"


def _source(case: HistoryCase, place: Place, own: OwnSource, **options: Any) -> dict[str, Source]:
    view = case.views[0].view
    table = in_exact_types(view, view.source.table)
    times = {"event_time": view.source.event_time, "created_time": view.source.created_time}
    return {"dense": own(place(table, own_name()), **{**times, **options})}


def few_rows(engine, place, own):
    case = dense_case(rows=20, spine=10, keys=20, span=600, nans=False, written=False)
    check_history(engine, case, sources=_source(case, place, own))


def many_rows_and_a_ttl(engine, place, own):
    case = dense_case(rows=1_000, spine=300, keys=2, span=600, ttl=40, nans=False, written=False)
    check_history(engine, case, sources=_source(case, place, own))


def as_if_known(engine, place, own):
    case = dense_case(rows=20, spine=10, keys=20, span=600, as_known=False, nans=False, written=False)
    check_history(engine, case, sources=_source(case, place, own))


def written_rows_and_deletes(engine, place, own):
    case = dense_case(rows=100, spine=10, keys=5, span=600, nans=False)
    check_history(engine, case, sources=_source(case, place, own))


def every_entity(engine, place, own):
    case = dense_case(rows=20, spine=10, keys=5, span=600, nans=False, written=False)
    case = replace(case, spine=None, at=600_000_000, timestamp_column=None)
    for _ in engine.history(case.request(sources=_source(case, place, own))).batches(100):
        pass


def a_spine_of_its_own(engine, place, own):
    case = dense_case(rows=20, spine=10, keys=5, span=600, nans=False, written=False)
    request = case.request(place(case.spine, own_name()), sources=_source(case, place, own))
    for _ in engine.history(request).batches(100):
        pass


def rows_that_end(engine, place, own):
    case = dense_case(rows=20, spine=10, keys=5, span=600, nans=False, written=False)
    view = case.views[0].view
    table = in_exact_types(view, view.source.table)
    table = table.append_column("ended", table.column("learnt"))
    source = own(place(table, own_name()), valid_from="happened", created_time="learnt", valid_to="ended")
    ending = replace(case.views[0], selection=FeatureSelection(replace(view, source=source)))
    for _ in engine.history(replace(case, views=(ending,)).request()).batches(100):
        pass
    request = ChangesRequest(changes_input(ending), 600_000_000, -(2**63), Watermark(), 2**62)
    for _ in engine.changes(request, ChangeCounts()):
        pass


def changes(engine, place, own):
    case = dense_case(rows=20, spine=10, keys=5, span=600, nans=False, written=False)
    view = replace(changes_input(case.views[0]), source=_source(case, place, own)["dense"])
    request = ChangesRequest(view, 600_000_000, 0, Watermark(), 2**62)
    for _ in engine.changes(request, ChangeCounts()):
        pass


SHAPES = (
    few_rows,
    many_rows_and_a_ttl,
    as_if_known,
    written_rows_and_deletes,
    every_entity,
    a_spine_of_its_own,
    changes,
    rows_that_end,
)


class SQLSuite:
    """The SQL of an engine is that of its file in tests/snapshots, which `make snapshots` writes anew.

    Attributes:
        snapshot: the name of the file.
        dialect: the engine's, in SQLGlot.
    """

    snapshot: str
    dialect: str

    def test_its_sql_is_that_of_the_snapshot(self, engine, place):
        check_sql(self.snapshot, engine, place, self.dialect, self.own_source)


def check_sql(name: str, engine: OfflineEngine, place: Place, dialect: str, own: OwnSource) -> None:
    """Assert that the SQL of every shape is what a file has; `make snapshots` writes it anew.

    Args:
        name: of the file.
        engine: an engine that is used for nothing else.
        place, own: see `OwnTablesSuite`.
        dialect: the engine's, in SQLGlot.
    """
    made: list[exp.Expression] = []
    watch(engine, made.append)
    parts = [f"-- The SQL of tests/sql_shapes.py in {name}: `make snapshots` writes it anew.\n"]
    for shape in SHAPES:
        made.clear()
        shape(engine, place, own)
        rendered = "".join(f"{tree.sql(dialect=dialect, identify=True)};\n" for tree in made)
        parts.append(f"-- {shape.__name__.replace('_', ' ')}\n{_plain(rendered)}")
    text = "\n".join(parts)
    file = FILES / f"{name}.sql"
    if os.environ.get("HEADWATER_UPDATE_SNAPSHOTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    changed = "\n".join(difflib.unified_diff(old.splitlines(), text.splitlines(), str(file), "now", n=0, lineterm=""))
    assert old == text, f"the SQL of {name} has changed; where it is meant to be so: make snapshots\n{changed}"


def _plain(sql: str) -> str:
    """The statements with the names that each run makes of its own taken out."""
    sql = re.sub(r"\bhw(\d+|_[0-9a-f]{12})_", "hw_", sql)
    sql = re.sub(r"\bown_\d+", "own", sql)
    sql = re.sub(r"\bhw_(query|files)_[0-9a-f]+", r"hw_\1", sql)  # by the names in them
    sql = re.sub(r"(?<=[\"'])[^\"']*/(?=own)", "", sql)
    return re.sub(r"\bview\d+\b", "view", sql)
