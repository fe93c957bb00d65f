"""The refresh queue as a table of the registry's database: SQLite, or PostgreSQL for several hosts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from headwater.clock import FIRST_MICROS, LAST_MICROS
from headwater.compute.queue.tables import hints, migrate, reading, stored_format, times, writing
from headwater.database.transactions import upsert
from headwater.database.watching import generation
from headwater.errors import FormatError, brief
from headwater.online.hints import Claim, DeadLetter, Hint, HintQueue, Outcome, OutcomeKind, QueueCounts, stored_hint

_WAITING, _CLAIMED, _RESTING, _DEAD = range(4)
_AT_WORK = (_WAITING, _CLAIMED)
_STATES = {OutcomeKind.REST: _RESTING, OutcomeKind.RETRY: _WAITING, OutcomeKind.DEAD: _DEAD}
_CHUNK = 500
"""Ids in one statement: databases bound their parameters."""


class SQLHintQueue(HintQueue):
    """Hints in a table that is made by the first offer.

    Args:
        engine: of the registry's database; the caller disposes of it.
        limit: how many hints may wait; as many may rest, and be dead.
    """

    kind = "table"

    def __init__(self, engine: sa.Engine, limit: int) -> None:
        self._engine = engine
        self._limit = limit
        self._made: int | None = None
        """The generation of the database's file in which the table is."""

    def offer(self, hints_: Sequence[Hint], now: int) -> int:
        if not hints_:
            return 0
        if self._made is None or self._made != generation(self._engine):
            migrate(self._engine)
            self._made = generation(self._engine)
        rows = [_as_row(hint, now) for hint in hints_]
        # in one order, so that two processes do not wait for each other's rows
        rows.sort(key=lambda row: row["id"])
        with writing(self._engine) as connection:
            connection.execute(hints.delete().where(hints.c.state == _RESTING, hints.c.due <= now))
            connection.execute(self._upsert(), rows)
            dropped = self._drop(connection, _AT_WORK, _urgency(now))
            self._drop(connection, (_RESTING,), hints.c.due)
            return dropped

    def _upsert(self) -> Any:
        insert = upsert(self._engine.dialect, hints)
        new = insert.excluded
        at_work = hints.c.state <= _CLAIMED
        renewed = (hints.c.state == _RESTING) & (new.event > hints.c.event)

        def chosen(name: str, counted: Any) -> Any:
            return sa.case((at_work, counted), (renewed, new[name]), else_=hints.c[name])

        return insert.on_conflict_do_update(
            index_elements=[hints.c.id],
            set_={
                "asked": chosen("asked", sa.case((hints.c.asked < _MOST_ASKED, hints.c.asked + new.asked), else_=1)),
                "sla": chosen("sla", sa.case((new.sla < hints.c.sla, new.sla), else_=hints.c.sla)),
                "event": chosen("event", sa.case((new.event > hints.c.event, new.event), else_=hints.c.event)),
                "asked_at": chosen("asked_at", hints.c.asked_at),
                "due": chosen("due", hints.c.due),
                "tries": chosen("tries", hints.c.tries),
                "state": chosen("state", hints.c.state),
            },
        )

    def _drop(self, connection: sa.Connection, states: Sequence[int], least_first: Any) -> int:
        """Drop what is too much of some states; how many."""
        count = sa.select(sa.func.count()).select_from(hints).where(hints.c.state.in_(states))
        over = int(connection.execute(count).scalar_one()) - self._limit
        if over <= 0:
            return 0
        # what a worker has is not taken from it
        droppable = hints.c.state.in_([state for state in states if state != _CLAIMED])
        least = sa.select(_ID.label("id")).where(droppable).order_by(least_first, hints.c.asked_at).limit(over)
        gone = [row.id for row in connection.execute(least)]
        _delete(connection, gone)
        return len(gone)

    def claim(
        self, views: Sequence[str], limit: int, now: int, lease: int, unreadable: list[str] | None = None
    ) -> list[Claim]:
        if not self._there():
            return []
        token = uuid.uuid4().hex
        due = hints.c.state.in_(_AT_WORK) & (hints.c.due <= now) & hints.c.view.in_(views)
        query = self._select(due).order_by(_urgency(now).desc(), hints.c.asked_at).limit(limit)
        with reading(self._engine) as connection:
            # an idle worker takes no lock
            if connection.execute(sa.select(_ID).where(due).limit(1)).one_or_none() is None:
                return []
        with writing(self._engine) as connection:
            rows = connection.execute(query.with_for_update(skip_locked=True)).all()
            found, bad = _read(rows)
            for ids in _chunks([row.id for row in rows]):
                taken = {"state": _CLAIMED, "due": now + lease, "token": token, "tries": _TRIED}
                connection.execute(hints.update().where(_ID.in_(ids)).values(taken))
            _delete(connection, [row.id for row, _ in bad])
        _name(bad, unreadable)
        return [Claim(hint, row.tries + 1, token) for row, hint in found]

    def _select(self, *conditions: Any) -> Any:
        """Rows as the database has them, whatever they hold: SQLite takes anything in any column."""
        texts = (hints.c.view, hints.c.version, hints.c.error)
        sqlite = self._engine.dialect.name == "sqlite"

        def raw(column: Any) -> Any:
            # text that is not UTF-8 would fail the whole query
            stored = sa.cast(column, sa.LargeBinary) if sqlite and column in texts else column
            return sa.type_coerce(stored, sa.types.NullType()).label(column.name)

        chosen = [raw(column) for column in hints.c if column.name != "token"]
        return sa.select(*chosen).where(*conditions)

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        changed = [o for o in outcomes if o.kind is not OutcomeKind.DONE]
        mine = (hints.c.id == sa.bindparam("own_id")) & (hints.c.token == sa.bindparam("own_token"))
        values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in ("state", "due", "error")}
        with writing(self._engine) as connection:
            _delete(connection, [o.claim.hint.id for o in outcomes if o.kind is OutcomeKind.DONE])
            if changed:
                connection.execute(
                    hints.update().where(mine, hints.c.state == _CLAIMED).values(values),
                    [
                        {
                            "own_id": o.claim.hint.id,
                            "own_token": o.claim.token,
                            "new_state": _STATES[o.kind],
                            "new_due": o.until,
                            "new_error": o.error,
                        }
                        for o in changed
                    ],
                )
                self._drop(connection, (_DEAD,), hints.c.due)

    def dead(self, limit: int, unreadable: list[str] | None = None) -> list[DeadLetter]:
        if not self._there():
            return []
        query = self._select(hints.c.state == _DEAD).order_by(hints.c.due.desc()).limit(limit)
        with reading(self._engine) as connection:
            found, bad = _read(connection.execute(query).all())
        _name(bad, unreadable)
        return [DeadLetter(hint, row.tries, row.due, _text(row.error, "replace")) for row, hint in found]

    def replay(self, views: Sequence[str], now: int) -> int:
        if not self._there():
            return 0
        dead = (hints.c.state == _DEAD) & hints.c.view.in_(views)
        with writing(self._engine) as connection:
            again = hints.update().where(dead).values(state=_WAITING, due=now, tries=0, error="")
            return connection.execute(again).rowcount

    def repair_clock(self, now: int, longest: int) -> int:
        if not self._there():
            return 0
        least_late = now + sa.case((hints.c.state == _DEAD, 0), (hints.c.sla > longest, hints.c.sla), else_=longest)
        late = (hints.c.due > least_late) | (hints.c.asked_at > now)
        with writing(self._engine) as connection:
            values = {name: sa.case((hints.c[name] > now, now), else_=hints.c[name]) for name in ("due", "asked_at")}
            count = connection.execute(hints.update().where(late).values(values)).rowcount
            connection.execute(times.update().where(times.c.at > now).values(at=now))
        return count

    def forget(self, view: str, gone: Callable[[str, bytes], bool]) -> int:
        if not self._there():
            return 0
        with writing(self._engine) as connection:
            found, bad = _read(connection.execute(self._select()).all())
            ids = [row.id for row, hint in found if hint.view == view and gone(hint.version, hint.key)]
            # nobody can tell whose the keys of the others are
            ids += [row.id for row, _ in bad]
            _delete(connection, ids)
        return len(ids)

    def counts(self, now: int) -> QueueCounts:
        if not self._there():
            return QueueCounts()
        query = sa.select(hints.c.state, sa.func.count(), sa.func.min(hints.c.asked_at))
        # a rest that is over is removed by the next offer
        over = (hints.c.state == _RESTING) & (hints.c.due <= now)
        with reading(self._engine) as connection:
            found = {
                state: (count, oldest)
                for state, count, oldest in connection.execute(query.where(sa.not_(over)).group_by(hints.c.state))
            }
        count = {state: found.get(state, (0, None))[0] for state in range(4)}
        first = (found[state][1] for state in _AT_WORK if state in found)
        oldest = min((at for at in first if type(at) is int and FIRST_MICROS <= at <= LAST_MICROS), default=None)
        return QueueCounts(count[_WAITING], count[_CLAIMED], count[_RESTING], count[_DEAD], oldest)

    def _there(self) -> bool:
        """Whether the table was made: what only looks at the queue makes none."""
        here = generation(self._engine)
        if self._made != here:
            self._made = here if stored_format(self._engine) > 0 else None
        return self._made is not None


_ID = sa.type_coerce(hints.c.id, sa.types.NullType())
"""The id as it is stored, whatever it is."""
_MOST_TRIES = 1_000_000
_MOST_ASKED = 2**53
_TRIED = sa.case((hints.c.tries < _MOST_TRIES, hints.c.tries + 1), else_=hints.c.tries)


def _urgency(now: int) -> Any:
    # a row of any numbers must not fail the query of all: no division by 0, no integer beyond the database's
    event, sla, asked = (sa.cast(column, sa.Double) for column in (hints.c.event, hints.c.sla, hints.c.asked))
    return sa.func.coalesce((float(now) - event) / sa.func.nullif(sla, 0.0) * asked, 0.0)


def _as_row(hint: Hint, now: int) -> dict[str, Any]:
    return {
        "id": hint.id,
        "view": hint.view,
        "version": hint.version,
        "key": hint.key,
        "event": hint.event,
        "sla": hint.sla,
        "asked_at": hint.asked_at,
        "asked": hint.asked,
        "state": _WAITING,
        "due": now,
        "tries": 0,
        "token": "",
        "error": "",
    }


def _text(stored: Any, errors: str = "strict") -> Any:
    return stored.decode(errors=errors) if isinstance(stored, bytes) else stored


def _read(rows: Sequence[Any]) -> tuple[list[tuple[Any, Hint]], list[tuple[Any, str]]]:
    """Rows with their hints; and those that cannot be read, with what is wrong."""
    found: list[tuple[Any, Hint]] = []
    bad: list[tuple[Any, str]] = []
    for row in rows:
        try:
            numbers = (row.state, row.due, row.tries)
            if any(type(number) is not int for number in numbers) or not FIRST_MICROS <= row.due <= LAST_MICROS:
                raise FormatError(f"its state, time or tries are {brief(numbers)}, not numbers")
            view, version = _text(row.view), _text(row.version)
            hint = stored_hint(row.id, view, version, row.key, row.event, row.sla, row.asked_at, row.asked)
            found.append((row, hint))
        except UnicodeDecodeError:
            bad.append((row, "its view or version is not UTF-8"))
        except FormatError as wrong:
            bad.append((row, str(wrong)))
    return found, bad


def _name(bad: Sequence[tuple[Any, str]], unreadable: list[str] | None) -> None:
    if unreadable is not None:
        unreadable += (f"{row.id.hex() if isinstance(row.id, bytes) else brief(row.id)}: {why}" for row, why in bad)


def _delete(connection: sa.Connection, ids: Iterable[Any]) -> None:
    for some in _chunks(ids):
        connection.execute(hints.delete().where(_ID.in_(some)))


def _chunks(ids: Iterable[Any]) -> Iterable[list[Any]]:
    every = list(ids)
    return (every[start : start + _CHUNK] for start in range(0, len(every), _CHUNK))
