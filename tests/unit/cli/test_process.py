"""The command as a process: what it imports, how it ends, and the sample project's own files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.forked import run_forked

HEADWATER = str(Path(sys.executable).parent / "headwater")


def run(*arguments, cwd=None, code=0, **environ):
    done = run_forked([HEADWATER, *arguments], cwd=cwd, timeout=120, env=os.environ | environ)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_help_loads_nothing_that_takes_long():
    code = (
        "import sys; from headwater.cli import main; assert main(['--help']) == 0; "
        "slow = {'headwater.cli.draw', 'pyarrow', 'numpy', 'duckdb', 'sqlalchemy', 'sqlglot', 'lmdb', 'pandas'}; "
        "sys.exit(str(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "set()\n"


def test_the_sample_project_works_from_end_to_end(tmp_path):
    subprocess.run([HEADWATER, "init", "flights"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    project = tmp_path / "flights"
    assert "applied" in run("apply", cwd=project).stdout
    assert "6" in run("materialize", cwd=project).stdout
    out = run("get", "--features", "weather:temp", "--key", "airport=JFK", cwd=project).stdout
    assert "PRESENT" in out and "\x1b" not in out
    done = subprocess.run([sys.executable, "train.py"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0 and "2000 flights" in done.stdout and "explains" in done.stdout, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout
    status = subprocess.run(["git", "check-ignore", ".headwater"], cwd=project, capture_output=True, text=True)
    assert status.returncode in (0, 128)


def test_an_error_leaves_one_line_and_no_traceback(tmp_path):
    done = run("plan", cwd=tmp_path, code=1)
    assert done.stdout == "" and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error(filled):
    process = subprocess.Popen(
        [HEADWATER, "list", "--json"], cwd=filled, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1
    process.stderr.close()


def test_ctrl_c_ends_with_130_and_a_line(fresh):
    (fresh / "features.py").write_text("import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [HEADWATER, "plan"], cwd=fresh, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 30
    while not (fresh / "started").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_the_shell_completes_commands_and_names(filled):
    def completed(words, cwd=filled):
        count = len(words.split()) - (0 if words.endswith(" ") else 1)
        done = run(cwd=cwd, _HEADWATER_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(count))
        assert done.stderr == ""
        return done.stdout.split()

    assert completed("headwater mat") == ["materialize"]
    assert completed("headwater show we") == ["weather"]
    assert completed("headwater get --features weather:t") == ["weather:temp"]
    assert completed("headwater promote weather ") == ["1.0.0"]
    assert completed("headwater show we", cwd=filled.parent) == []


def test_an_interrupt_while_the_command_is_imported_ends_it_with_130_and_no_traceback() -> None:
    program = """
import sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "headwater.cli.application":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from headwater.cli import main
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
