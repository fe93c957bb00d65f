"""The rules of window rows, each of which can be left out of the code: what the tests would not see is not tested."""

from __future__ import annotations

import inspect
import sys
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from headwater.compute.windows import keeping, merging, putting, rebuilding_elsewhere, running, shown
from headwater.online.rows.windows import record, row
from headwater.online.stores.redis import cluster_records
from headwater.testing import window_rows

Edit = tuple[Any, str, str, str]
"""Module or class, function, its text, and the text in place of that."""

_HERE = "__import__('tests.interleaved.left_out', fromlist=['x'])"
_PUT_LISTS = "        new.listed = row.listed | {batch.position}"
_PUT_RAISES = (
    "\n        new.applied_through = max(row.applied_through, batch.position)"
    "\n        new.listed = frozenset(p for p in new.listed if p > new.applied_through)"
)
_HIDDEN_IDS = (
    "\n        for e in batch.events:\n            if e.id is not None and new.hides(e):\n"
    "                new.ids.setdefault(e.id, __import__('headwater.online.rows.windows.row', fromlist=['x'])"
    ".MergedId(e.event, e.known_at, True, e.position))"
)

RULES: dict[str, list[Edit]] = {
    "positions themselves are listed, not the highest": [
        (row.WindowRow, "covers", "position in self.listed", "position <= max(self.listed, default=0)")
    ],
    "a put does not raise applied_through": [(merging, "after_puts", _PUT_LISTS, _PUT_LISTS + _PUT_RAISES)],
    "of the statements of one id the least counts": [
        (row, "_is_new", "row.rebuild = row.rebuild or event.order < held.order", "pass")
    ],
    "an id that was dropped cannot be decided": [(row, "_is_new", "if event.event <= row.ids_after:", "if False:")],
    "the table of ids is ordered by event time": [
        (row, "_is_new", "if event.event <= row.ids_after", "if event.known_at <= row.ids_after"),
        (row, "_is_new", "MergedId(event.event,", "MergedId(event.known_at,"),
        (window_rows, "build_row", "(event.event, event.id, event)", "(event.known_at, event.id, event)"),
        (window_rows, "build_row", "MergedId(e.event,", "MergedId(e.known_at,"),
    ],
    "a delete empties the table of ids": [(row, "empty", "row.ids, row.ids_after = {}, NEVER", "pass")],
    "what a delete hides is not merged": [(merging, "required", "and not row.hides(event)", "")],
    "what a delete hides is not in the table of ids": [(merging, "after_puts", _PUT_LISTS, _PUT_LISTS + _HIDDEN_IDS)],
    "a delete merges again what comes after it": [
        (merging, "after_puts", "_required(version, new, again)", "[]"),
    ],
    "a fold does not lower a row": [
        (merging, "after_fold", "max(row.applied_through, end.position)", "end.position"),
        (merging, "after_fold", "max(row.known_through, end.clock)", "end.clock"),
    ],
    "a fold takes withheld events of every position": [],
    "a put leaves alone what a later fill has": [
        (putting, "_merge", "if batch.arrival < base.fill:", "if False:"),
        (record.FillRecord, "fill_for", "if self.filling <= arrival else self.fill", ""),
    ],
    "a row begins at the record's low": [
        (
            putting,
            "_merge",
            "base.covers(batch.position):",
            f"base.covers(batch.position) or {_HERE}.begin_high(base, batch):",
        )
    ],
    "a run does not replace what a later run rebuilt": [
        (keeping, "_is_later", "or (row.fill == run.fill and row.run > run.number)", "")
    ],
    "a run does not replace a row of a later fill": [(keeping, "_is_later", "row.fill > run.fill or", "")],
    "a rebuild reads the log's end after the row": [
        (keeping, "_rebuilt", "end = yield from LogEnd()", "end = run.end")
    ],
    "a fold leaves no flag": [
        (keeping, "_keep", "redo |= {key for key, new in made.items() if new.rebuild} | (", "redo |= (")
    ],
    "each key that is named has a row": [(keeping, "_keep", "or k not in run.unnamed or not", "or not")],
    "a run's puts hold within its epoch": [
        (keeping, "_keep", "made, epoch)", "made, None)"),
        (keeping, "catch_up", "made, run.epoch)", "made, None)"),
        (keeping, "_keep", "if waiting:", "if False:"),
    ],
    "a record is written within its epoch": [
        (running, "change_record", "WriteRecord(epoch,", "WriteRecord(snapshot.epoch,")
    ],
    "a record is written behind the rows": [
        (
            running,
            "run",
            "kept: Kept | None = yield from _fold(version, mine, redo, record_slices=True)",
            "taken = listed.source if source else None\n"
            "        yield from change_record(snapshot.epoch, _closing(record, listed.end, taken))\n"
            "        kept: Kept | None = yield from _fold(version, mine, redo, record_slices=True)",
        )
    ],
    "a fill takes what came meanwhile": [
        (
            running,
            "_make_rows",
            "return (yield from _fold(version, begun.part(made.epoch, end)))",
            "return Kept(made.epoch, end)",
        )
    ],
    "a fill takes what was withheld and became known meanwhile": [
        (
            running,
            "_make_rows",
            "return (yield from _fold(version, begun.part(made.epoch, end)))",
            "before = End(end.position, begun.start.known_through)\n"
            "    kept = yield from _fold(version, begun.part(made.epoch, before))\n"
            "    return kept and kept._replace(end=kept.end._replace(clock=end.clock))",
        )
    ],
    "a slice takes no withheld events but the last": [
        (running, "_fold", "else End(position, record.known_through)", "else End(position, end.clock)")
    ],
    "what is rebuilt is rebuilt before a slice is recorded": [
        (running, "_fold", "keep(version, run, {}, whole)", "keep(version, run, {})"),
        (running, "_fold", "    return kept\n", "    return kept and (yield from keep(version, run, {}, whole))\n"),
    ],
    "a slice ends where a transaction does": [],
    "a fill completes only its own": [
        (running, "_completing", "if now is None or now.filling != own:", "if now is None:")
    ],
    "a fill names keys of deletes too": [],
    "the numbers of fills rise": [
        (running, "_beginning", "if now.filling <= own else None", ""),
    ],
    "a version from before a restore is filled again": [
        (running, "_from_before_a_restore", "return record.fill <= restored", "return False")
    ],
    "a fill is gone on with from where it began": [
        (
            running,
            "_begin_fill",
            "FillRecord(own, own, base.low, base.known_through, base.source)",
            "FillRecord(own, own, listed.end.position, listed.end.clock, base.source)",
        )
    ],
    "a fill that is gone on with makes what writers began from history": [(keeping, "_is_done", "and row.run > 0", "")],
    "a row of an older fill counts as missing": [(shown, "shown", "and row.fill >= record.fill", "")],
    "a row of an older fill is rebuilt": [(keeping, "_needs_history", "or row.fill < run.record.fill", "")],
}
"""The name of each rule, and what leaves it out."""

SCRIPTED: dict[str, list[Edit]] = {
    "a run that lost its lease ends": [
        (running, "run", "if not (yield from HoldsLease", "if None is (yield from HoldsLease"),
        (
            running,
            "_begin_fill",
            "if not (yield from HoldsLease(number)):",
            "if (yield from HoldsLease(number)) is None:",
        ),
    ],
    "a row begins within the epoch of its record": [
        (putting, "_swaps", "epoch if merge.missing or merge.key in many", "epoch if merge.key in many")
    ],
    "a row that is begun goes by the record that was read within the epoch": [
        (putting, "_put", "    waiting = list(batches)", "    waiting, first = list(batches), {}"),
        (putting, "_put", "snapshot.record_of(key)", "first.setdefault(key, snapshot.record_of(key))"),
    ],
    "a fold leaves no row to be rebuilt": [(keeping, "_without_fold", "or _needs_history(run, row)", "")],
    "a single fold holds within the epoch of its record": [
        (putting, "_swaps", "epoch if merge.missing or merge.key in many", "epoch if merge.missing")
    ],
}
"""Rules whose absence shows in rare orders alone (`test_window_orders`)."""

OF_PARTS: dict[str, list[Edit]] = {
    "a record does not speak where slots were taken over since": [
        (cluster_records.Claim, "spoken", "here.epoch == self.state.epoch if same", "True if same")
    ],
    "a fill is complete where every slot is spoken for": [
        (cluster_records, "whole_record", "spoken == ALL_SLOTS and", "")
    ],
}
"""Rules of stores of several parts (`test_window_parts`)."""

OF_HOT_KEYS: dict[str, list[Edit]] = {
    "a record does not speak of what a fold left": [
        (keeping, "_keep", "low = min(low, _complete_through(run, left, due))", "pass")
    ],
    "a record ends between transactions": [
        (keeping, "_complete_through", "(b.position, *(event.position for event in b.events))", "[b.position]")
    ],
    "a slice begins where the rows are complete": [
        (
            running,
            "_fold",
            "low = replace(run, epoch=kept.epoch), kept.end.position",
            "low = replace(run, epoch=kept.epoch), position",
        )
    ],
    "a row that a writer changed while it was rebuilt is folded": [(keeping, "catch_up", "if each}", "}")],
    "a fold takes what was withheld itself": [(keeping, "_without_fold", "due.withheld or", "")],
    "a fold takes deletes itself": [
        (keeping, "_without_fold", "or any(batch.delete is not None for batch in due.fresh)", ""),
        (keeping, "_complete_through", "b.delete is None and", ""),
    ],
}
"""Rules of keys that writers change without pause (`test_window_hot_keys`)."""

OF_PROCESSES: dict[str, list[Edit]] = {
    "what a writer put since is left to the run": [
        (
            rebuilding_elsewhere,
            "_has_more",
            "max(row.applied_through, row.delete_position, *row.listed) > end.position",
            "False",
        )
    ],
    "a row that has later withheld events is left to the run": [
        (rebuilding_elsewhere, "_has_more", "row.known_through > end.clock", "False")
    ],
    "a process puts within the epoch of its run": [
        (rebuilding_elsewhere, "rebuild_elsewhere", "rows, made, asked.epoch)", "rows, made, None)")
    ],
    "a process replaces what it has read": [(rebuilding_elsewhere, "rebuild_elsewhere", "if not each}", "if False}")],
    "the run makes what was left": [
        (running, "_make_rows", "keep(version, whole, {}, left)", "keep(version, whole, {})")
    ],
}
"""Rules of processes that make rows for a run (`test_window_processes`)."""

CAUGHT: dict[str, int] = {
    "positions themselves are listed, not the highest": 20,
    "a put does not raise applied_through": 20,
    "of the statements of one id the least counts": 116,
    "an id that was dropped cannot be decided": 20,
    "the table of ids is ordered by event time": 61,
    "a delete empties the table of ids": 31,
    "what a delete hides is not merged": 0,
    "what a delete hides is not in the table of ids": 24,
    "a delete merges again what comes after it": 155,
    "a fold does not lower a row": 31,
    "a fold takes withheld events of every position": 3,
    "a put leaves alone what a later fill has": 81,
    "a row begins at the record's low": 25,
    "a run does not replace what a later run rebuilt": 588,
    "a run does not replace a row of a later fill": 10,
    "a rebuild reads the log's end after the row": 1,
    "a fold leaves no flag": 73,
    "each key that is named has a row": 71,
    "a run's puts hold within its epoch": 113,
    "a record is written within its epoch": 110,
    "a record is written behind the rows": 3,
    "a fill takes what came meanwhile": 1,
    "a fill takes what was withheld and became known meanwhile": 14,
    "a fill completes only its own": 109,
    "a fill names keys of deletes too": 3,
    "the numbers of fills rise": 3,
    "a version from before a restore is filled again": 136,
    "a fill is gone on with from where it began": 15,
    "a fill that is gone on with makes what writers began from history": 5029,
    "a row of an older fill counts as missing": 373,
    "a row of an older fill is rebuilt": 925,
    "what is rebuilt is rebuilt before a slice is recorded": 20,
    "a slice begins where the rows are complete": 8,
    "a slice takes no withheld events but the last": 9,
    "a slice ends where a transaction does": 36,
    "a row that a writer changed while it was rebuilt is folded": 13,
    "a record does not speak of what a fold left": 37,
    "a record ends between transactions": 8,
    "a fold takes what was withheld itself": 1,
    "a fold takes deletes itself": 971,
    "a record does not speak where slots were taken over since": 33,
    "a fill is complete where every slot is spoken for": 2,
    "what a writer put since is left to the run": 4,
    "a row that has later withheld events is left to the run": 924,
    "a process puts within the epoch of its run": 809,
    "a process replaces what it has read": 132,
    "the run makes what was left": 9,
}
"""The case that shows it first, where that was looked for; else all of them are tried."""


def check_caught(rule: str, wrong: Callable[[int], object], cases: int = 4_000) -> None:
    """A case has to be wrong without the rule: the one of `CAUGHT`, or any, which may take many seconds."""
    noted = CAUGHT.get(rule, 0)
    if wrong(noted):
        return
    found = next((number for number in range(cases) if wrong(number)), None)
    assert found is not None, "nothing was wrong without it"
    warnings.warn(f"{rule!r} is caught by case {found} now: write that into CAUGHT", stacklevel=2)


OF_THE_WORLD = {
    "a fold takes withheld events of every position": "due-low",
    "a fill names keys of deletes too": "fill-visible",
    "the numbers of fills rise": "fill-random",
    "a slice ends where a transaction does": "ends-anywhere",
}
"""Rules that the log keeps, by what the world calls them."""


def leave_out(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile the functions of a rule again, without it."""
    edit((RULES | SCRIPTED | OF_PARTS | OF_HOT_KEYS | OF_PROCESSES)[rule], monkeypatch)


def edit(edits: list[Edit], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile functions again with other texts, everywhere they were imported."""
    texts: dict[tuple[int, str], tuple[Any, str, str]] = {}
    for owner, name, old, new in edits:
        text = texts[id(owner), name][2] if (id(owner), name) in texts else _text_of(owner, name)
        old, new = (textwrap.dedent(part) if inspect.isclass(owner) else part for part in (old, new))
        assert old in text, (name, old)
        texts[id(owner), name] = owner, name, text.replace(old, new)
    for owner, name, text in texts.values():
        original = getattr(owner, name)
        scope = dict(vars(sys.modules[original.__module__]))
        exec(compile("from __future__ import annotations\n" + text, f"<{name}>", "exec"), scope)
        if inspect.isclass(owner):
            monkeypatch.setattr(owner, name, scope[name])
            continue
        # what it calls of its own module has to be what is patched, not a copy
        made = type(original)(scope[name].__code__, vars(sys.modules[original.__module__]), name, original.__defaults__)
        made.__kwdefaults__ = original.__kwdefaults__
        for module in [m for n, m in sys.modules.items() if n.startswith(("headwater.", "tests.interleaved"))]:
            for there, value in list(vars(module).items()):
                if value is original:
                    monkeypatch.setattr(module, there, made)


def _text_of(owner: Any, name: str) -> str:
    return textwrap.dedent(inspect.getsource(getattr(owner, name)))


def begin_high(base: Any, batch: Any) -> bool:
    """Takes a row that was begun for complete up to before the batch."""
    if base.sequence == 0:
        base.applied_through = batch.position - 1
    return False
