"""Engines in processes of hosts in other time zones: the zone is there before anything is imported."""

import os
import subprocess
import sys

import pytest

from headwater.testing.zones import ZONES

CHILD = """
import sys
from pathlib import Path
from headwater_sqlite.engine import SQLiteEngine
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.testing.zones import check_in_zone

for make in (DuckDBEngine, SQLiteEngine):
    engine = make(Path(sys.argv[1]))
    check_in_zone(engine, sys.argv[2], Path(sys.argv[1]))
    engine.close()
"""


@pytest.mark.parametrize("zone", ZONES)
def test_no_time_zone_of_the_host_changes_an_answer(zone, tmp_path):
    command = [sys.executable, "-c", CHILD, tmp_path, zone]
    done = subprocess.run(command, env={**os.environ, "TZ": zone}, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
