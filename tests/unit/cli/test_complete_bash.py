"""Completion in bash, which parts words at `:` and `=`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.cli.complete_bash import cut, joined

COMMAND = Path(sys.executable).with_name("headwater")


@pytest.mark.parametrize(
    ("words", "current", "whole", "before"),
    [
        (["headwater", "get", "--features", "wea"], 3, ["headwater", "get", "--features", "wea"], ""),
        (["headwater", "get", "weather", ":", "te"], 4, ["headwater", "get", "weather:te"], "weather:"),
        (["headwater", "get", "weather", ":"], 3, ["headwater", "get", "weather:"], "weather:"),
        (["headwater", "get", "weather", ":", "temp", "x"], 5, ["headwater", "get", "weather:temp", "x"], ""),
        (["headwater", "get", "a", ":", "b,a", ":", "c"], 6, ["headwater", "get", "a:b,a:c"], "a:b,a:"),
        (["headwater", "get", "--f", "=", "a", ":", "b"], 6, ["headwater", "get", "--f=a:b"], "--f=a:"),
        (["headwater", "get", "a", ":", ""], 4, ["headwater", "get", "a:", ""], ""),
        (["headwater", "get", '"weather:te'], 2, ["headwater", "get", '"weather:te'], ""),
    ],
)
def test_words_are_put_together(words, current, whole, before):
    assert joined(words, current) == (whole, before)


def test_an_answer_is_cut_to_what_is_missing():
    assert cut("weather:temp", "weather:") == "temp"
    assert cut("weather:temp", "--features=weather:") == "temp"
    assert cut("weather:temp", "") == "weather:temp"


def test_the_script_completes_a_feature_after_its_colon(command, project, tmp_path):
    command(project, "apply")
    bash = shutil.which("bash")
    assert bash is not None
    environ = {**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = """
source <(headwater --show-completion)
try() { COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); COMPREPLY=(); _headwater_completion headwater
        echo "${COMPREPLY[*]}"; }
try headwater get --features weather : te
try headwater get --features wea
"""
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, env=environ, cwd=project, check=True)
    after, before = done.stdout.splitlines()
    assert after == "temp" and "weather:temp" in before.split()
