"""Sail as a process: tells its port, and ends with the process that started it."""

import os
import sys
from pathlib import Path

# beside this file there are modules of the names of packages, which functions of users import in this process
sys.path.remove(str(Path(__file__).resolve().parent))

from pysail.spark import SparkConnectServer

if __name__ == "__main__":
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    print(server.listening_address[1], flush=True)
    sys.stdin.read()
    os._exit(0)
