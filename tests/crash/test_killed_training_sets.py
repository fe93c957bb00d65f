"""Savers of training sets killed with SIGKILL at random moments: what is believed is whole, and nothing else stays."""

from __future__ import annotations

import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.processes import PROCESSES
from tests.training_sets import Project

KILLS = int(os.environ.get("HEADWATER_KILLS", "3"))


def save(folder: str, told: Connection) -> None:
    """Save sets until it is killed, and tell of each."""
    project = Project(Path(folder))
    told.send(0)
    while True:
        told.send(project.save().version)


def test_killed_savers_leave_whole_sets_alone(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    project = Project(folder).filled()
    project.store.context.log.roll()
    r, told = random.Random(), []
    with project.store as store:
        for _ in range(KILLS):
            # two at once: each gets versions of its own
            pipes = [PROCESSES.Pipe(duplex=False) for _ in range(2)]
            savers = [PROCESSES.Process(target=save, args=(str(folder), telling), daemon=True) for _, telling in pipes]
            for saver in savers:
                saver.start()
            for hearing, _ in pipes:
                assert hearing.poll(60) and hearing.recv() == 0
            time.sleep(r.uniform(0, 0.3))
            for saver in savers:
                saver.kill()
            for saver, (hearing, telling) in zip(savers, pipes, strict=True):
                saver.join(60)
                telling.close()
                while hearing.poll():
                    try:
                        told.append(hearing.recv())
                    except EOFError:
                        break
            assert len(told) == len(set(told))
        sets = store.list_training_sets()
        versions = [found.version for found in sets]
        assert versions == list(range(1, len(versions) + 1)) and set(told) <= set(versions)
        last = project.save()
        assert last.version == len(versions) + 1
        for found in [*sets[-3:], last]:
            assert found.verify().same and found.to_arrow().equals(last.to_arrow())
        # what the killed ones had begun went with the next save
        assert sorted(path.name for path in store.context.training_sets.path.iterdir()) == ["things"]
