"""The checker of histories: what it lets pass, what it finds, and a model store that never breaks the table."""

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.testing import rounds
from tests.consistency.history import NOTHING, Event, violations


def write(at: float, value: int, session: str = "", key: str = "k", **options: bool) -> Event:
    return Event("write", at, at + 0.5, session, key=key, value=value, **options)


def read(at: float, value: int, level: str, session: str = "", key: str = "k") -> Event:
    return Event("read", at, at + 0.5, session, level, key, value)


def test_each_level_s_own_promise_is_kept_by_what_the_others_may_break() -> None:
    written = [write(1, 1, "a"), write(2, 2, "a")]
    assert not violations([*written, read(3, 1, "eventual", "a"), read(4, NOTHING, "eventual")])
    # monotonic is about what was read, not about what was written
    assert not violations([*written, read(3, 1, "monotonic_read", "a"), read(4, 2, "monotonic_read", "a")])
    assert not violations([*written, read(3, 2, "session", "a"), read(4, 1, "session", "b"), read(5, 2, "strong")])


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([write(1, 1), read(2, NOTHING, "strong")], "1 was acknowledged"),
        ([write(1, 1), write(2, 2), read(3, 1, "strong")], "2 was acknowledged"),
        ([write(1, 1, "a"), read(2, NOTHING, "session", "a")], "the session has seen 1"),
        ([write(1, 2), write(2, 1), read(3, 2, "session", "a"), read(4, 1, "session", "a")], "the session has seen 2"),
        ([write(1, 2), read(2, 2, "monotonic_read", "a"), read(3, NOTHING, "monotonic_read", "a")], "has seen 2"),
        ([write(1, 2), read(2, 2, "eventual", "a"), read(3, NOTHING, "monotonic_read", "a")], "has seen 2"),
        ([write(1, 2), read(2, 2, "strong", "a"), read(3, NOTHING, "session", "a")], "has seen 2"),
        ([read(1, 3, "eventual")], "nobody had written"),
        ([read(1, 3, "eventual"), write(2, 3)], "nobody had written"),
    ],
)
def test_what_the_table_forbids_is_found(events: list[Event], told: str) -> None:
    (found,) = violations(reversed(events))
    assert told in found


def test_a_read_that_overlaps_a_write_may_miss_or_see_it() -> None:
    slow = Event("write", 1, 9, key="k", value=1)
    assert not violations([slow, read(2, NOTHING, "strong"), read(3, 1, "strong"), read(4, NOTHING, "strong")])


def test_a_write_that_failed_may_be_there_or_not() -> None:
    failed = write(1, 1, "a", acknowledged=False)
    assert not violations([failed, read(2, NOTHING, "strong"), read(3, NOTHING, "session", "a"), read(4, 1, "strong")])


def test_an_epoch_s_end_excuses_strong_reads_alone_and_not_of_durable_writes() -> None:
    events = [write(1, 1, "a"), read(3, NOTHING, "strong")]
    assert not violations(events, breaks=[2])
    assert not violations(events, breaks=[1.2])
    assert violations(events, breaks=[0.5]) and violations(events, breaks=[4])
    assert violations([write(1, 1, durable=True), read(3, NOTHING, "strong")], breaks=[2])
    assert violations([write(1, 1, "a"), read(3, NOTHING, "session", "a")], breaks=[2])


def test_a_lost_session_begins_anew() -> None:
    lost = Event("lost", 2, 2.1, "a")
    assert not violations([write(1, 1, "a"), lost, read(3, NOTHING, "session", "a")])
    assert violations([write(1, 1, "a"), lost, write(3, 2, "a"), read(4, NOTHING, "session", "a")])


def test_a_token_carries_what_was_seen_until_it_was_given() -> None:
    gave, took = Event("gave", 2, 2.1, "a", token="t"), Event("took", 4, 4.1, "b", token="t")
    events = [write(1, 1, "a"), gave, write(3, 2, "a"), took]
    assert not violations([*events, read(5, 1, "session", "b")])
    assert violations([*events, read(5, NOTHING, "session", "b")])
    assert not violations([*events, read(5, NOTHING, "monotonic_read", "b")])


@dataclass
class Model:
    """A primary and lagging replicas that keep the table by construction: the marks are counts of writes."""

    chance: random.Random
    log: list[tuple[str, int]] = field(default_factory=list)
    behind: list[int] = field(default_factory=lambda: [0, 0])
    marks: dict[str, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    at: float = 0.0

    def value(self, key: str, upto: int) -> int:
        return max((value for k, value in self.log[:upto] if k == key), default=NOTHING)

    def step(self) -> None:
        chance, session, key = self.chance, self.chance.choice("ab"), self.chance.choice("xyz")
        self.at += 1
        if chance.random() < 0.4:
            number = len(self.log) + 1
            value = number if chance.random() < 0.8 or number < 3 else number - 2
            self.log.append((key, value))
            self.marks[session] = len(self.log)
            self.events.append(write(self.at, value, session, key))
            return
        for i, applied in enumerate(self.behind):
            self.behind[i] = chance.randint(applied, len(self.log))
        level = chance.choice(["eventual", "monotonic_read", "session", "strong"])
        upto = len(self.log) if level == "strong" else chance.choice(self.behind)
        if level in ("monotonic_read", "session") and upto < self.marks.get(session, 0):
            upto = len(self.log)
        self.marks[session] = max(upto, self.marks.get(session, 0))
        self.events.append(read(self.at, self.value(key, upto), level, session, key))


@settings(max_examples=rounds(60), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 80))
def test_a_store_that_keeps_the_table_is_never_blamed(seed: int, steps: int) -> None:
    model = Model(random.Random(seed))
    for _ in range(steps):
        model.step()
    assert violations(model.events) == []


@settings(max_examples=rounds(60), deadline=None)
@given(st.integers(0, 2**32))
def test_a_strong_read_made_older_is_always_found(seed: int) -> None:
    model = Model(random.Random(seed))
    for _ in range(60):
        model.step()
    for place, event in enumerate(model.events):
        if event.level == "strong" and event.value != NOTHING:
            older = replace(event, value=NOTHING)
            assert violations([*model.events[:place], older, *model.events[place + 1 :]])
