"""Databases of earlier releases are brought to the newest tables."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from headwater.clock import MIN_MICROS
from headwater.offline.log.migrations import MIGRATIONS
from headwater.offline.log.tables import counter, migrate, views


@pytest.mark.parametrize(
    ("times", "clock"),
    [
        ([], MIN_MICROS + 1),
        ([(70, MIN_MICROS)], 70),
        ([(70, 70), (60, MIN_MICROS)], 71),
        ([(70, 50), (60, 80)], 81),
        ([(90, 50), (60, 80)], 90),
    ],
)
def test_the_clock_starts_after_every_arrival_and_delete_of_before(
    tmp_path: Path, times: list[tuple[int, int]], clock: int
) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/registry.db")
    replace(MIGRATIONS, steps=MIGRATIONS.steps[:2]).run(engine)
    with engine.begin() as connection:
        for name, (arrival, through) in zip("ab", times, strict=False):
            row = {"view": name, "arrival": arrival, "through": through, "rolled": 0, "epoch": 0, "purges": 0}
            connection.execute(views.insert().values(**row))
    migrate(engine)
    with engine.connect() as connection:
        found = connection.execute(sa.select(counter.c.clock, counter.c.generation)).one()
    assert found.clock == clock and len(found.generation) == 36
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.select(counter.c.generation)).scalar_one() == found.generation
