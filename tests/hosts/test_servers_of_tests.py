"""What tests start ends with them, also where they are killed."""

import subprocess
import sys
from pathlib import Path

import psutil

from tests.servers.waiting import wait_until

PROGRAM = """
import sys
from pathlib import Path
from tests.servers.redis import RedisServer
server = RedisServer(Path(sys.argv[1]))
print(server.pid, flush=True)
sys.stdin.read()
"""


def test_a_server_ends_although_the_process_that_began_it_is_killed(tmp_path: Path) -> None:
    began = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "redis")],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with began:
        assert began.stdout is not None
        server = psutil.Process(int(began.stdout.readline()))
        began.kill()
    wait_until(lambda: not server.is_running(), "the server to end")
